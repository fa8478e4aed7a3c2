//! Each target over its kept corpus and over mutations of it, the same ones each time: no panic, and no input that takes more memory than
//! its target may. The long run is libFuzzer's: `cargo xtask fuzz NAME`.

mod counted;
mod mutation;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use counted::Counted;
use ingle_fuzz::Target;
use mutation::Mutations;
use parking_lot::Mutex;

#[global_allocator]
static MEMORY: Counted = Counted;

/// Mutations of all of a target's corpus together.
const MUTATIONS: usize = 3000;

/// What is allocated is the process's: one target at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The kept inputs, in the order of their names.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let dir = here().join("corpus").join(name);
    let entries = fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Runs one input; says what is wrong.
fn problem(target: &Target, input: &[u8]) -> Option<String> {
    let before = counted::begin();
    let ran = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let most = counted::most().saturating_sub(before);
    match ran {
        Err(_) => Some("it panicked".to_owned()),
        Ok(()) if most > target.bound => {
            Some(format!("it took {most} bytes at once, and may take {}", target.bound))
        }
        Ok(()) => None,
    }
}

/// Runs one input, and keeps it if something is wrong.
fn check(target: &Target, input: &[u8]) {
    if let Some(problem) = problem(target, input) {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-failed", target.name));
        fs::write(&kept, input).unwrap();
        let (name, kept) = (target.name, kept.display());
        panic!(
            "{name}: {problem}. The input is {kept}: put it into tests/fuzz/corpus/{name}, and mend it"
        );
    }
}

fn run(name: &str) {
    let _alone = ALONE.lock();
    let target = ingle_fuzz::find(name).expect("there is such a target");
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "{name} has a corpus");
    // What is made once isn't the first input's.
    let _ = catch_unwind(|| (target.run)(&corpus[0]));
    for input in &corpus {
        check(target, input);
    }
    let mut mutations = Mutations::new(name, &corpus);
    for _ in 0..MUTATIONS {
        check(target, mutations.next());
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            run(stringify!($name));
        })*

        #[test]
        fn each_target_is_run_here_and_by_libfuzzer() {
            let here: Vec<_> = [$(stringify!($name)),*].into();
            let mut all: Vec<_> = ingle_fuzz::all().map(|target| target.name).collect();
            all.sort_unstable();
            assert_eq!(here, all);
            let manifest = fs::read_to_string(self::here().join("cargo-fuzz/Cargo.toml")).unwrap();
            for name in all {
                assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name}");
            }
        }
    };
}

targets! {
    code_cache component config driver_calls files images listing master messages module objects pages scheduler shuffle_file sizes store
    task_calls
}

#[test]
fn what_a_target_finds_is_seen() {
    let _alone = ALONE.lock();
    let target = |run| Target { name: "bad", run, bound: 1 << 20 };
    let problem = |run| problem(&target(run), b"x");
    assert_eq!(problem(|_| {}), None);
    assert_eq!(problem(|input| assert!(input.is_empty())).as_deref(), Some("it panicked"));
    let large = problem(|_| drop(std::hint::black_box(vec![1u8; 2 << 20])));
    assert!(large.is_some_and(|text| text.contains("bytes at once")));
    // In another thread, and grown.
    let grown = |_: &[u8]| {
        let grow = || (0..1 << 19).map(std::hint::black_box).collect::<Vec<u32>>().len();
        std::thread::spawn(grow).join().unwrap();
    };
    assert!(problem(grown).is_some());
}
