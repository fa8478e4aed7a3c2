use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::fs::RenameFlags;

use super::*;

fn grants(root: &Path, read: &[&str], write: &[&str]) -> Result<Grants> {
    let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect::<Vec<_>>();
    Grants::new_in(root, &paths(read), &paths(write))
}

fn sandbox() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("data/deep")).unwrap();
    fs::write(root.path().join("data/a.txt"), "a").unwrap();
    fs::write(root.path().join("secret"), "s").unwrap();
    root
}

fn read(grants: &Grants, path: &str) -> Result<String> {
    let found = grants.resolve_read(path)?;
    found.dir.read_to_string(&found.path).map_err(found.failed("reading"))
}

#[test]
fn a_granted_folder_is_read_by_relative_absolute_and_dotted_paths() {
    let root = sandbox();
    let grants = grants(root.path(), &["data"], &[]).unwrap();
    let absolute = root.path().join("data/a.txt");
    for path in ["data/a.txt", "./data//deep/../a.txt", absolute.to_str().unwrap()] {
        assert_eq!(read(&grants, path).unwrap(), "a", "{path}");
    }
    assert_eq!(grants.resolve_read("data").unwrap().path, Path::new("."));
}

#[test]
fn what_is_not_granted_is_refused_with_the_flag_that_would_allow_it() {
    let root = sandbox();
    let grants = grants(root.path(), &["data"], &["out"]).unwrap();
    let secret = root.path().join("secret");
    for path in ["secret", "data/../secret", "data/deep/../../secret"] {
        let text = grants.resolve_read(path).err().unwrap().to_string();
        let secret = secret.display();
        assert_eq!(text, format!("reading {secret} isn't allowed: add --allow-read={secret}"));
    }
    // A prefix of names isn't a prefix of folders, and one kind of grant isn't the other.
    assert!(grants.resolve_read("database").is_err());
    assert!(grants.resolve_read("out").is_err());
    let text = grants.resolve_write("data/x").err().unwrap().to_string();
    assert!(text.starts_with("writing ") && text.contains("add --allow-write=/"), "{text}");
}

#[test]
fn no_symbolic_link_leads_out_of_a_grant() {
    let root = sandbox();
    symlink("../secret", root.path().join("data/up")).unwrap();
    symlink(root.path().join("secret"), root.path().join("data/absolute")).unwrap();
    symlink("..", root.path().join("data/deep/parent")).unwrap();
    symlink("../..", root.path().join("data/deep/out")).unwrap();
    let grants = grants(root.path(), &["data"], &[]).unwrap();
    for path in ["data/up", "data/absolute", "data/deep/out/secret"] {
        let error = read(&grants, path).unwrap_err();
        assert!(matches!(error, Error::Escapes { flag: "--allow-read", .. }), "{path}: {error}");
    }
    assert_eq!(read(&grants, "data/deep/parent/a.txt").unwrap(), "a", "a link inside is fine");
}

#[test]
fn shipped_files_are_found_by_their_names_and_go_when_told() {
    let root = sandbox();
    let mut grants = grants(root.path(), &[], &[]).unwrap();
    let files = [("a.txt".to_owned(), b"shipped".to_vec())];
    grants.ship(&files, root.path()).unwrap();
    assert_eq!(read(&grants, "files/a.txt").unwrap(), "shipped");
    assert!(grants.resolve_read("data/a.txt").is_err());
    let names: Vec<_> = grants.preopens().unwrap().into_iter().map(|p| p.guest).collect();
    assert!(names.contains(&"files".to_owned()), "{names:?}");
    grants.unship();
    assert!(read(&grants, "files/a.txt").is_err());
    for name in ["", "..", "a/b", "/a"] {
        let bad = [(name.to_owned(), Vec::new())];
        assert!(grants.ship(&bad, root.path()).is_err(), "{name}");
    }
}

/// Says so when it ends, in whatever way.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whoever may write where they are shipped exchanges all that comes there with a link that leads out, and back.
#[test]
fn shipped_files_go_nowhere_else_and_grant_nothing_else_whoever_moves_their_folder() {
    let root = sandbox();
    let (scratch, links) = (root.path().join("scratch"), root.path().join("links"));
    fs::create_dir(&scratch).unwrap();
    fs::create_dir(&links).unwrap();
    let (over, exchanged) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let link = links.join("link");
            while !over.load(Ordering::Relaxed) {
                for entry in fs::read_dir(&scratch).unwrap().flatten() {
                    let _ = fs::remove_dir_all(&link);
                    let _ = symlink("../data", &link);
                    let exchange = || {
                        let flag = RenameFlags::EXCHANGE;
                        rustix::fs::renameat_with(CWD, entry.path(), CWD, &link, flag)
                    };
                    if exchange().is_ok() {
                        exchanged.fetch_add(1, Ordering::Relaxed);
                    }
                    let _ = exchange();
                }
            }
        });
        let _ends = Ends(&over);
        let files = [("new".to_owned(), b"shipped".to_vec())];
        let mut shipped = 0;
        while shipped < 1000 || exchanged.load(Ordering::Relaxed) < 1000 {
            let mut grants = grants(root.path(), &[], &[]).unwrap();
            // It may fail, if a link is there when it is opened.
            if grants.ship(&files, &scratch).is_ok() {
                shipped += 1;
                assert_eq!(read(&grants, "files/new").unwrap(), "shipped");
                assert!(read(&grants, "files/a.txt").is_err(), "what a link leads to");
            }
        }
    });
    assert!(!root.path().join("data/new").exists(), "it was written where a link led to");
}

#[test]
fn a_link_that_the_user_grants_is_what_it_points_to() {
    let root = sandbox();
    symlink("secret", root.path().join("linked")).unwrap();
    let grants = grants(root.path(), &["linked"], &[]).unwrap();
    assert_eq!(read(&grants, "linked").unwrap(), "s");
    assert!(grants.resolve_read("secret").is_err());
}

#[test]
fn a_granted_file_is_that_file_alone() {
    let root = sandbox();
    let grants = grants(root.path(), &["data/a.txt"], &[]).unwrap();
    assert_eq!(read(&grants, "data/a.txt").unwrap(), "a");
    assert!(grants.resolve_read("data/deep").is_err());
    assert!(grants.resolve_read("data/a.txt/more").is_err());
    assert!(grants.preopens().unwrap().is_empty());
}

#[test]
fn only_a_write_grant_may_name_what_does_not_exist() {
    let root = sandbox();
    assert!(matches!(grants(root.path(), &["nowhere"], &[]), Err(Error::NotFound(_))));
    let grants = grants(root.path(), &[], &["new/out"]).unwrap();
    let found = grants.resolve_write("new/out/part").unwrap();
    assert_eq!((&*found.path, found.was_missing), (Path::new("new/out/part"), true));
    assert!(grants.resolve_write("new/other").is_err());
    assert!(grants.preopens().unwrap().is_empty());
}

#[test]
fn what_the_job_published_it_may_read() {
    let root = sandbox();
    let grants = grants(root.path(), &[], &["data"]).unwrap();
    assert!(grants.resolve_read("data/deep/x").is_err());
    grants.publish(&root.path().join("data/deep"));
    assert!(grants.resolve_read("data/deep/x").is_ok());
    assert!(grants.resolve_read("data/a.txt").is_err());
}

fn preopened(grants: &Grants) -> Vec<(String, bool, bool)> {
    let preopens = grants.preopens().unwrap();
    preopens.into_iter().map(|p| (p.guest, p.read, p.write)).collect()
}

#[test]
fn folders_are_preopened_by_their_relative_and_absolute_paths() {
    let root = sandbox();
    let at = |path: &str| root.path().join(path).to_str().unwrap().to_owned();
    let grants = grants(root.path(), &["./data", "secret"], &["data/deep"]).unwrap();
    let (data, deep) = (at("data"), at("data/deep"));
    let expected = [
        (data, true, false),
        (deep, true, true),
        ("data".into(), true, false),
        ("data/deep".into(), true, true),
    ];
    assert_eq!(preopened(&grants), expected);
}

#[test]
fn a_grant_around_the_working_directory_gives_just_that_by_its_dot() {
    let root = sandbox();
    let inside = root.path().join("data/deep");
    let grants = Grants::new_in(&inside, &[root.path().to_owned()], &[]).unwrap();
    let preopens = grants.preopens().unwrap();
    let dot = preopens.iter().find(|p| p.guest == ".").unwrap();
    assert_eq!(dot.dir.entries().unwrap().count(), 0, "it is the folder `deep`");
    assert!(dot.read && !dot.write);
}

#[test]
fn a_grant_around_a_link_is_none_of_what_it_points_to() {
    let (root, elsewhere) = (sandbox(), sandbox());
    symlink(elsewhere.path(), root.path().join("link")).unwrap();
    let grants = grants(root.path(), &["link"], &["."]).unwrap();
    let link = preopened(&grants).into_iter().find(|(guest, ..)| guest == "link").unwrap();
    assert_eq!(link, ("link".into(), true, false), "only what is below `.` may be written");
}

#[test]
fn a_preopened_folder_stays_the_one_that_was_granted() {
    let root = sandbox();
    let grants = grants(root.path(), &["data"], &[]).unwrap();
    fs::rename(root.path().join("data"), root.path().join("moved")).unwrap();
    symlink("/", root.path().join("data")).unwrap();
    assert!(grants.preopens().unwrap().iter().all(|p| p.dir.exists("a.txt")));
}

/// A host with a volume `data`, that of [`sandbox`], which can also be read only as `fixed`.
fn offering(root: &Path) -> Offer {
    let mut offer = Offer::default();
    let path = root.join("data");
    offer.add_volume(&format!("data={}", path.display())).unwrap();
    offer.add_volume(&format!("fixed={}:ro", path.display())).unwrap();
    offer
}

fn of_volumes(root: &Path, read: &[&str], write: &[&str]) -> Result<Grants> {
    let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect::<Vec<_>>();
    Grants::of(&offering(root), root, &paths(read), &paths(write))
}

/// Where what the second wall lets through is now.
fn reach(grants: &Grants) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (reads, writes) = grants.reach();
    let paths = |opened: Vec<OwnedFd>| opened.iter().filter_map(whereabouts).collect();
    (paths(reads), paths(writes))
}

#[test]
fn what_is_reached_is_what_was_opened_and_not_what_takes_its_place() {
    let root = sandbox();
    let top = root.path().canonicalize().unwrap();
    fs::create_dir_all(top.join("w/folder")).unwrap();
    fs::write(top.join("w/file"), "mine").unwrap();
    fs::write(top.join("w/kept"), "mine").unwrap();
    let at = |name: &str| PathBuf::from(name);
    let reads = [at("w/folder"), at("w/file"), at("w/kept")];
    let grants = Grants::new_in(&top, &reads, &[at("w/folder/new/one")]).unwrap();
    let kept = vec![top.join("w/folder"), top.join("w/file"), top.join("w/kept")];
    assert_eq!(reach(&grants), (kept, vec![top.join("w/folder")]));
    // Links to what wasn't granted.
    fs::rename(top.join("w/folder"), top.join("w/moved")).unwrap();
    fs::remove_file(top.join("w/file")).unwrap();
    symlink(top.join("data"), top.join("w/folder")).unwrap();
    symlink(top.join("secret"), top.join("w/file")).unwrap();
    let left = vec![top.join("w/moved"), top.join("w/kept")];
    assert_eq!(reach(&grants), (left.clone(), vec![top.join("w/moved")]));
    // And a folder where a file was.
    fs::remove_file(top.join("w/file")).unwrap();
    fs::rename(top.join("data"), top.join("w/file")).unwrap();
    assert_eq!(reach(&grants).0, left);
}

#[test]
fn a_volume_is_found_by_its_name() {
    let root = sandbox();
    let grants = of_volumes(root.path(), &["volume:data"], &["volume:data/deep"]).unwrap();
    for path in ["volume:data/a.txt", "/volumes/data/a.txt", "volume:data/deep/../a.txt"] {
        assert_eq!(read(&grants, path).unwrap(), "a", "{path}");
    }
    let expected =
        [("/volumes/data".into(), true, false), ("/volumes/data/deep".into(), true, true)];
    assert_eq!(preopened(&grants), expected);
    assert!(grants.resolve_write("volume:data/deep/out").is_ok());
    let text = grants.resolve_write("volume:data/x").err().unwrap().to_string();
    assert_eq!(text, "writing volume:data/x isn't allowed: add --allow-write=volume:data/x");
    assert!(grants.resolve_read("volume:fixed/a.txt").is_err(), "another name");
    let data = root.path().canonicalize().unwrap().join("data");
    assert_eq!(reach(&grants), (vec![data.clone()], vec![data.join("deep")]));
}

#[test]
fn a_file_of_a_volume_and_what_is_not_there_yet_are_granted_alone() {
    let root = sandbox();
    let grants = of_volumes(root.path(), &["volume:fixed/a.txt"], &["volume:data/deep/new/out"]);
    let grants = grants.unwrap();
    assert_eq!(read(&grants, "volume:fixed/a.txt").unwrap(), "a");
    assert!(grants.resolve_read("volume:fixed/deep").is_err());
    let found = grants.resolve_write("volume:data/deep/new/out/part").unwrap();
    assert_eq!((&*found.path, found.was_missing), (Path::new("new/out/part"), true));
    assert!(grants.resolve_write("volume:data/deep/new").is_err());
    let data = root.path().canonicalize().unwrap().join("data");
    assert_eq!(reach(&grants).1, [data.join("deep")], "the nearest that exists");
}

#[test]
fn nobody_gets_out_of_a_volume_or_writes_one_that_is_read_only() {
    let root = sandbox();
    symlink("..", root.path().join("data/up")).unwrap();
    symlink(root.path(), root.path().join("data/away")).unwrap();
    for (read, write) in
        [("volume:data/up/secret", ""), ("volume:data/away", ""), ("", "volume:data/up/new")]
    {
        let list = |text: &'static str| if text.is_empty() { vec![] } else { vec![text] };
        let error = of_volumes(root.path(), &list(read), &list(write)).err().unwrap();
        assert!(matches!(error, Error::Escapes { .. }), "{read}{write}: {error}");
    }
    let grants = of_volumes(root.path(), &["volume:data/../../secret"], &[]);
    assert!(matches!(grants, Err(Error::NotFound(_))), "of the volume");
    let text = of_volumes(root.path(), &[], &["volume:fixed"]).err().unwrap().to_string();
    assert!(text.contains("volume fixed") && text.contains("without :ro"), "{text}");
    let text = of_volumes(root.path(), &["volume:else"], &[]).err().unwrap().to_string();
    assert!(text.contains("no volume else") && text.contains("data, fixed"), "{text}");
    let text = of_volumes(root.path(), &["/volumes/data"], &[]).err().unwrap().to_string();
    assert!(text.contains("--allow-read=volume:NAME"), "{text}");
}

#[test]
fn what_a_host_does_not_offer_is_not_granted_by_whatever_path() {
    let root = sandbox();
    fs::create_dir(root.path().join("own")).unwrap();
    symlink("own", root.path().join("link")).unwrap();
    let home = root.path().canonicalize().unwrap();
    let offer = Offer { closed: vec![home.join("own")], ..Offer::default() };
    let of = |read: &[&str], write: &[&str]| {
        let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect::<Vec<_>>();
        Grants::of(&offer, root.path(), &paths(read), &paths(write)).map(drop)
    };
    assert!(of(&["data", "secret"], &["data/new"]).is_ok());
    for path in ["own", "link", ".", "own/../own", "/"] {
        assert!(of(&[path], &[]).is_err(), "{path}");
    }
    for path in ["own/new", "link/new/er", "link"] {
        assert!(of(&[], &[path]).is_err(), "{path}");
    }
    // What is to be made beside it would open all of the folder around both to the job's process.
    let refused = of(&[], &["beside/it"]).unwrap_err().to_string();
    assert!(
        refused.contains("is one that no job may touch all of; make the folder first"),
        "{refused}"
    );
    fs::create_dir(root.path().join("beside")).unwrap();
    assert!(of(&[], &["beside/it"]).is_ok());
}

#[test]
fn absurd_paths_are_refused() {
    let root = sandbox();
    let grants = grants(root.path(), &["/"], &[]).unwrap();
    for path in ["", "a\0b", &"x".repeat(256), &"x/".repeat(3000)] {
        assert!(matches!(grants.resolve_read(path), Err(Error::Invalid(_))), "{path:?}");
    }
    assert_eq!(grants.resolve_read("/../../etc").unwrap().full, Path::new("/etc"));
}
