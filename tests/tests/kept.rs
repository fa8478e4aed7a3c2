//! Datasets that are kept, in the sandbox and on a cluster.

use ingle_tests::{Cluster, Place, Run};

/// How many records were computed by the end of each round, and when all was freed.
fn computed(run: &Run) -> Vec<u64> {
    let count = |line: &str| line.split_once(": ")?.1.strip_suffix(" computed")?.parse().ok();
    run.stdout.lines().filter_map(count).collect()
}

#[test]
fn a_kept_dataset_is_computed_once_at_every_level() {
    let place = Place::new();
    for level in ["memory", "memory-and-disk", "disk"] {
        let run = place.rsubmit("kept").flag("--master=local[2]");
        let run = run.args(["rounds", level, "20000", "7", "3", "100"]).run().succeeds();
        assert_eq!(computed(&run), [20_000, 20_000, 20_000, 40_000], "{level}\n{run}");
    }
}

#[test]
fn a_dataset_larger_than_memory_is_kept_as_far_as_its_level_says() {
    const RECORDS: u64 = 500_000;
    let place = Place::new();
    let run = |level: &str| {
        let run = place.rsubmit("kept").flags(["--master=local[2]", "--executor-memory=64m"]);
        let run = run.conf("ingle.local.oversubscribe", "true");
        run.args(["rounds", level, &RECORDS.to_string(), "16", "3", "200"]).run().succeeds()
    };
    let disk = run("memory-and-disk");
    assert_eq!(computed(&disk), [RECORDS, RECORDS, RECORDS, 2 * RECORDS], "{disk}");
    assert_ne!(disk.summary(" spilled"), "0 B", "{disk}");
    let memory = run("memory");
    let [first, .., third, _] = computed(&memory)[..] else { panic!("{memory}") };
    let again = (third - first) / 2;
    assert!(first == RECORDS && (1..RECORDS).contains(&again), "some of it is kept\n{memory}");
}

#[test]
fn a_task_that_computes_very_many_partitions_keeps_some_of_them() {
    let place = Place::new();
    let run = place.rsubmit("kept").flag("--master=local[2]");
    let run = run.args(["together", "1500"]).run().succeeds();
    // A task stores 1024.
    assert_eq!(computed(&run), [1500, 2 * 1500 - 1024], "{run}");
}

#[test]
fn tasks_find_what_is_kept_on_a_cluster_and_what_is_lost_is_computed_again() {
    const RECORDS: u64 = 20_000;
    let place = Place::new();
    let cluster = Cluster::new(&place, 2, 1);
    for loses in [false, true] {
        let go = format!("go-{loses}");
        let run = cluster.rsubmit("kept").conf("ingle.locality.wait", "600");
        let args = ["rounds", "memory", &RECORDS.to_string(), "12", "3", "10", &go];
        let run = run.args(args).spawn();
        run.wait_for("on 2 executors");
        if loses {
            cluster.kill_child(0);
        }
        place.write(&go, "");
        let run = run.wait().succeeds();
        let computed = computed(&run);
        if loses {
            // What the one held is computed once more, by the other or by who takes its place. That may be all but a partition.
            let [first, second, third, _] = computed[..] else { panic!("{run}") };
            assert_eq!((first, third), (RECORDS, second), "{run}");
            assert!((RECORDS + 1..2 * RECORDS).contains(&second), "{run}");
        } else {
            assert_eq!(computed, [RECORDS, RECORDS, RECORDS, 2 * RECORDS], "{run}");
        }
    }
}

#[test]
fn a_checkpoint_outlives_all_executors_and_a_damaged_one_is_told() {
    const RECORDS: u64 = 50_000;
    let place = Place::new();
    let mut cluster = Cluster::new(&place, 2, 1);
    for damages in [false, true] {
        let (dir, go) = (format!("checkpoints-{damages}"), format!("go-{damages}"));
        let args = ["checkpoint", &dir, &RECORDS.to_string(), "8", &go];
        // Not as many as there are executors at first: the other run's may still be ending.
        let run = cluster.rsubmit("kept").conf("ingle.default.parallelism", "2");
        let run = run.args(args).spawn();
        run.wait_for("waits");
        if damages {
            let folder = &place.names(&dir)[0];
            let part = format!("{dir}/{folder}/part-00001");
            let whole = std::fs::read(place.path(&part)).unwrap();
            place.write(&part, &whole[..whole.len() - 1]);
            place.write(&go, "");
            run.wait().ends_with(1).says(&["part-00001"]);
        } else {
            // Nothing of what was shuffled is left.
            (0..2).for_each(|worker| cluster.replace_worker(worker, 1));
            place.write(&go, "");
            let run = run.wait().succeeds();
            assert_eq!(computed(&run), [RECORDS; 3], "{run}");
        }
    }
    let run = place.rsubmit_granted("kept").flag("--master=local[2]");
    place.write("go", "");
    let run = run.args(["checkpoint", "here", "1000", "3", "go"]).run().succeeds();
    assert_eq!(computed(&run), [1000; 3], "{run}");
    let run = place.rsubmit("kept").flag("--master=local[2]");
    let run = run.args(["checkpoint", "there", "1000", "3", "go"]).run().ends_with(1);
    run.says(&["a checkpoint under there", "another name each time"]);
}
