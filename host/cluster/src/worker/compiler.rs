//! Components and their compiled code, of all applications on a worker: the worker alone reads and writes them.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Seek};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use ingle_core::size::ByteSize;
use ingle_proto::prost::Message;
use ingle_proto::v1;
use ingle_sandbox::{CodeCache, ComponentHash, MAX_COMPONENT_BYTES};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio_stream::{Stream, StreamExt};

use super::users::COMPILERS;
use super::walls::Walls;
use crate::loading::{self, hash};
use crate::prune;

/// How long a component may take to come.
const FETCH: Duration = Duration::from_secs(60);
/// How many jobs are compiled at the same time, each of another application or driver.
const AT_ONCE: usize = COMPILERS as usize;
/// Components that are kept, beside those of what runs: so many, and so many bytes.
const KEPT: usize = 128;
const KEPT_BYTES: u64 = 2 << 30;

/// A component on its way, piece by piece.
pub type Coming = Pin<Box<dyn Stream<Item = Result<Bytes, String>> + Send>>;
/// How the names of those end.
const COMING: &str = ".tmp";

/// Writes what comes as it comes: in the worker's memory there is none of it.
async fn write_all(
    mut file: tokio::fs::File,
    fetch: impl Future<Output = Result<Coming, String>>,
) -> Result<(), String> {
    let mut coming = fetch.await?;
    let mut length = 0;
    while let Some(piece) = coming.next().await {
        let piece = piece?;
        length += piece.len();
        if length > MAX_COMPONENT_BYTES {
            return Err("the job's file is larger than one may be".into());
        }
        file.write_all(&piece).await.map_err(|e| format!("keeping the job: {e}"))?;
    }
    file.flush().await.map_err(|e| format!("keeping the job: {e}"))
}

fn is_component(path: &Path, hash: ComponentHash) -> bool {
    File::open(path).and_then(|file| ComponentHash::of_file(&file)).is_ok_and(|is| is == hash)
}

/// What compiling one job may take.
#[derive(Clone, Copy, Debug)]
pub struct CompileLimits {
    /// How long.
    pub time: Duration,
    /// What memory, beside the process's own.
    pub memory: ByteSize,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self { time: Duration::from_secs(120), memory: ByteSize(3 << 30) }
    }
}

/// Compiles components, each once.
pub struct Compiler {
    program: PathBuf,
    limits: CompileLimits,
    components: PathBuf,
    code: Arc<CodeCache>,
    walls: Arc<Walls>,
    busy: Mutex<HashMap<ComponentHash, Arc<Turn>>>,
    /// Of applications and drivers, and what each compiles.
    jobs: Mutex<HashMap<String, Claim>>,
    at_once: Semaphore,
    /// Whom none of those that compile is now; none: all are the worker's user.
    users: Option<Mutex<Vec<u32>>>,
}

/// One of what compiles is that user.
struct User<'a> {
    number: u32,
    of: &'a Mutex<Vec<u32>>,
}

impl Drop for User<'_> {
    fn drop(&mut self) {
        self.of.lock().push(self.number);
    }
}

/// What an application or a driver runs.
struct Claim {
    job: ComponentHash,
    /// It compiles one at a time.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// Of those who want the same component, one at a time.
#[derive(Default)]
struct Turn {
    now: tokio::sync::Mutex<()>,
    /// How often it was compiled, without and with epochs.
    made: Mutex<[u64; 2]>,
}

impl Compiler {
    pub fn new(
        program: &Path,
        limits: CompileLimits,
        components: PathBuf,
        code: &Path,
        walls: Arc<Walls>,
        users: Option<Vec<u32>>,
    ) -> Result<Self, String> {
        // What an earlier worker didn't get to the end of.
        let left = fs::read_dir(&components).into_iter().flatten().flatten();
        left.map(|entry| entry.path()).filter(|path| path.extension().is_some()).for_each(|path| {
            let _ = fs::remove_file(path);
        });
        Ok(Self {
            program: program.to_owned(),
            limits,
            components,
            code: Arc::new(CodeCache::open(code).map_err(|e| e.to_string())?),
            walls,
            busy: Mutex::default(),
            jobs: Mutex::default(),
            at_once: Semaphore::new(AT_ONCE),
            users: users.map(Mutex::new),
        })
    }

    /// Where a component is, or is going to be.
    fn path(&self, hash: ComponentHash) -> PathBuf {
        self.components.join(hash.to_string())
    }

    /// Notes which job an application or a driver runs; it has one only. From then on that is in use.
    pub fn claim(&self, id: &str, job: ComponentHash) -> Result<(), String> {
        let mut jobs = self.jobs.lock();
        let claim = || Claim { job, turn: Arc::default() };
        let claim = jobs.entry(id.to_owned()).or_insert_with(claim);
        if claim.job == job { Ok(()) } else { Err(format!("{id} runs another job")) }
    }

    /// It is over.
    pub fn release(&self, id: &str) {
        self.jobs.lock().remove(id);
    }

    /// Removes components that nothing here has run for long.
    fn prune(&self) {
        let jobs = self.jobs.lock();
        let busy = self.busy.lock();
        let used: HashSet<PathBuf> = jobs
            .values()
            .map(|claim| claim.job)
            .chain(busy.keys().copied())
            .map(|h| self.path(h))
            .collect();
        prune::files(&self.components, KEPT, KEPT_BYTES, |path| {
            // One that is being written has another extension.
            path.extension().is_some() || used.contains(path)
        });
    }

    fn turn(&self, hash: ComponentHash) -> Arc<Turn> {
        let mut busy = self.busy.lock();
        busy.retain(|_, turn| Arc::strong_count(turn) > 1);
        busy.entry(hash).or_default().clone()
    }

    /// Makes sure that a component is here; `fetch` brings it. Nobody waits for that who gets the same from somebody else: whoever sends it may take
    /// his time.
    pub async fn keep(
        &self,
        hash: ComponentHash,
        fetch: impl Future<Output = Result<Coming, String>>,
    ) -> Result<(), String> {
        let path = self.path(hash);
        let look = {
            let path = path.clone();
            tokio::task::spawn_blocking(move || {
                let is_there = is_component(&path, hash);
                if is_there {
                    // Not to be among the oldest. If that can't be said, it comes again some day.
                    let now = SystemTime::now();
                    let _ = File::options().append(true).open(&path).map(|f| f.set_modified(now));
                }
                is_there
            })
        };
        if look.await.unwrap_or(false) {
            return Ok(());
        }
        let keeping = |e: io::Error| format!("keeping the job in {}: {e}", path.display());
        fs::create_dir_all(&self.components).map_err(keeping)?;
        let kept = tempfile::Builder::new().suffix(COMING).tempfile_in(&self.components);
        let kept = kept.map_err(keeping)?;
        let file = tokio::fs::File::from_std(kept.as_file().try_clone().map_err(keeping)?);
        let came = tokio::time::timeout(FETCH, write_all(file, fetch)).await;
        came.map_err(|_| "the job's file didn't come in time")??;
        let write = move || {
            (&mut kept.as_file()).rewind().map_err(|e| e.to_string())?;
            let is = ComponentHash::of_file(kept.as_file()).map_err(|e| e.to_string())?;
            if is != hash {
                return Err("another file came than was asked for".into());
            }
            let kept = kept.persist(&path).map(drop);
            kept.map_err(|e| format!("keeping the job in {}: {e}", path.display()))
        };
        tokio::task::spawn_blocking(write).await.map_err(|e| e.to_string())??;
        self.prune();
        Ok(())
    }

    /// The job of a driver, for its process, as it was kept.
    pub fn component(&self, id: &str, hash: ComponentHash) -> Result<File, String> {
        self.claim(id, hash)?;
        File::open(self.path(hash)).map_err(|e| format!("reading the job: {e}"))
    }

    /// The compiled job of an application or a driver, for its process: one that `fits` it. It is compiled if need be, once `fetch` has brought
    /// it if that isn't here.
    pub async fn code(
        &self,
        id: &str,
        asked: &v1::Code,
        fetch: impl Future<Output = Result<Coming, String>>,
    ) -> Result<File, String> {
        let hash = hash(&asked.component)?;
        self.claim(id, hash)?;
        if let Some(found) = self.find(hash, &asked.fits).await {
            return Ok(found);
        }
        self.prepare(id, hash, asked.epoch_interruption, fetch).await?;
        self.find(hash, &asked.fits).await.ok_or_else(|| {
            "the job was compiled, and its code is gone again, or isn't for this process".into()
        })
    }

    async fn find(&self, hash: ComponentHash, fits: &str) -> Option<File> {
        let (code, fits) = (self.code.clone(), fits.to_owned());
        tokio::task::spawn_blocking(move || code.hand(hash, &fits)).await.ok()?
    }

    /// Compiles a component, once `fetch` has brought it if need be. Whoever asks at the same time waits for that.
    async fn prepare(
        &self,
        id: &str,
        hash: ComponentHash,
        epoch_interruption: bool,
        fetch: impl Future<Output = Result<Coming, String>>,
    ) -> Result<(), String> {
        let turn = self.turn(hash);
        let made = |turn: &Turn| turn.made.lock()[usize::from(epoch_interruption)];
        let before = made(&turn);
        // Not all places are one application's, also if it has one component compiled in two ways. And it fetches once.
        let mine = self.jobs.lock().get(id).map(|claim| claim.turn.clone());
        let _mine = match &mine {
            Some(mine) => Some(mine.lock().await),
            None => None,
        };
        if made(&turn) != before {
            return Ok(());
        }
        self.keep(hash, fetch).await?;
        let _now = turn.now.lock().await;
        if made(&turn) != before {
            return Ok(());
        }
        let _one = self.at_once.acquire().await.map_err(|e| e.to_string())?;
        let code = self.compile(hash, epoch_interruption).await?;
        self.code
            .store_made(hash, &code)
            .map_err(|why| format!("what compiled the job gave no code: {why}"))?;
        turn.made.lock()[usize::from(epoch_interruption)] += 1;
        Ok(())
    }

    /// A user that nothing else is; none: the worker's.
    fn user(&self) -> Result<Option<User<'_>>, String> {
        let Some(of) = &self.users else { return Ok(None) };
        let number = of.lock().pop().ok_or("all that compile are other users")?;
        Ok(Some(User { number, of }))
    }

    async fn compile(&self, hash: ComponentHash, epoch: bool) -> Result<Vec<u8>, String> {
        let config = v1::CompileConfig {
            component: hash.as_bytes().to_vec(),
            epoch_interruption: epoch,
            required_walls: self.walls.required.clone(),
        };
        let component = tokio::fs::File::open(self.path(hash)).await;
        let component = component.map_err(|e| format!("reading the job: {e}"))?;
        // Until the process has ended, or is killed where nobody waits for it any more.
        let user = self.user()?;
        let mut command = Command::new(&self.program);
        if let Some(user) = &user {
            // And no other groups.
            command.uid(user.number).gid(user.number);
        }
        let mut child = command
            .arg("compile")
            .current_dir("/")
            .env_clear()
            .envs(ingle_walls::environment())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| format!("starting a process to compile the job: {e}"))?;
        let (walls, process) = (self.walls.clone(), child.id());
        let room = v1::Room { cores: 1, memory: self.limits.memory.0 };
        let enclosed = tokio::task::spawn_blocking(move || walls.enclose(process, room));
        let enclosed = match enclosed.await.map_err(|e| e.to_string()).flatten() {
            Ok(enclosed) => enclosed,
            Err(why) => {
                let _ = child.kill().await;
                return Err(why);
            }
        };
        let told = config.encode_length_delimited_to_vec();
        let told = told.chain(component);
        let ended =
            tokio::time::timeout(self.limits.time, loading::converse(&mut child, told)).await;
        if !matches!(ended, Ok(Ok(_))) {
            // Then its user is nobody's.
            let _ = child.kill().await;
        }
        if let Some(memory) = enclosed.killed_for_memory() {
            return Err(format!(
                "compiling the job takes more than {memory}, the worker's --compile-memory and the process's own: make it smaller, or have the worker's owner give more"
            ));
        }
        let Ok(ended) = ended else {
            let seconds = self.limits.time.as_secs_f64();
            return Err(format!(
                "compiling the job takes more than {seconds} s, the worker's --compile-time: make it smaller, or have the worker's owner give more"
            ));
        };
        let (status, stdout, stderr) =
            ended.map_err(|e| format!("waiting for what compiles the job: {e}"))?;
        if status.success() {
            return Ok(stdout);
        }
        let words = String::from_utf8_lossy(&stderr);
        let last = words.lines().rev().find(|line| !line.trim().is_empty());
        Err(match last {
            Some(line) => line.trim().trim_start_matches("error: ").to_owned(),
            None => format!("what compiles the job ended with {status}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Ready, ready};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A compiler whose program is a script.
    fn compiler(place: &Path, script: &str) -> Compiler {
        let program = place.join("program");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let walls = Arc::new(Walls::none());
        let (components, code) = (place.join("components"), place.join("code"));
        let limits = CompileLimits::default();
        Compiler::new(&program, limits, components, &code, walls, None).unwrap()
    }

    fn comes(job: &'static [u8]) -> Ready<Result<Coming, String>> {
        let pieces = job.chunks(2).map(|piece| Ok(Bytes::from_static(piece)));
        ready(Ok(Box::pin(tokio_stream::iter(pieces))))
    }

    fn entries(place: &Path) -> usize {
        let all = fs::read_dir(place.join("code")).unwrap().flatten();
        all.filter(|entry| entry.path().extension().is_some_and(|e| e == "cwasm")).count()
    }

    #[tokio::test]
    async fn a_component_is_kept_if_it_is_what_its_name_says() {
        let place = tempfile::tempdir().unwrap();
        let compiler = compiler(place.path(), "exit 1");
        let hash = ComponentHash::of(b"job");
        let wrong = compiler.keep(hash, comes(b"other")).await.unwrap_err();
        assert!(wrong.contains("another file"), "{wrong}");
        let none = compiler.keep(hash, ready(Err("it is gone".into()))).await.unwrap_err();
        assert_eq!((none.as_str(), compiler.path(hash).exists()), ("it is gone", false));
        compiler.keep(hash, comes(b"job")).await.unwrap();
        // It is there: nobody is asked.
        compiler.keep(hash, ready(Err("it is gone".into()))).await.unwrap();
        // Damaged: it comes again.
        fs::write(compiler.path(hash), "jo").unwrap();
        compiler.keep(hash, comes(b"job")).await.unwrap();
        assert_eq!(fs::read(compiler.path(hash)).unwrap(), b"job");
    }

    #[tokio::test]
    async fn what_compiles_is_believed_nothing() {
        let place = tempfile::tempdir().unwrap();
        let hash = ComponentHash::of(b"job");
        for (script, says) in [
            ("echo error: no component >&2; exit 1", "no component"),
            ("exit 3", "exit status: 3"),
            ("kill -9 $$", "signal: 9"),
            ("exit 0", "gave no code"),
            ("printf '../../../../../code'", "gave no code"),
        ] {
            let compiler = compiler(place.path(), script);
            let job = || comes(b"job");
            let failed = compiler.prepare("app", hash, false, job()).await.unwrap_err();
            assert!(failed.contains(says), "{script}: {failed}");
        }
        assert_eq!(entries(place.path()), 0);
    }

    #[tokio::test]
    async fn one_that_takes_too_long_ends_and_the_next_is_compiled() {
        let place = tempfile::tempdir().unwrap();
        let seen = place.path().join("seen");
        let script = format!("[ -e {0} ] || {{ echo $$ > {0}; exec sleep 600; }}", seen.display());
        let mut compiler =
            compiler(place.path(), &format!("{script}; printf 0123456789abcdefcode"));
        compiler.limits.time = Duration::from_secs(3);
        let hash = ComponentHash::of(b"job");
        let job = || comes(b"job");
        let failed = compiler.prepare("app", hash, false, job()).await.unwrap_err();
        assert!(failed.contains("more than 3 s") && failed.contains("--compile-time"), "{failed}");
        let process = fs::read_to_string(&seen).unwrap();
        assert!(!Path::new("/proc").join(process.trim()).exists(), "it was waited for");
        compiler.limits = CompileLimits::default();
        compiler.prepare("app", hash, false, job()).await.unwrap();
    }

    #[tokio::test]
    async fn it_runs_as_a_user_that_nothing_else_is_and_is_given_the_component() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: only root can run a compiler as another user");
            return;
        }
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let script = "echo error: $(id -u) $(id -g) $(id -G) $(tail -c 3) >&2; exit 1";
        let mut compiler = compiler(place.path(), script);
        compiler.users = Some(Mutex::new(vec![3_000_000, 3_000_001]));
        let hash = ComponentHash::of(b"job");
        for _ in 0..4 {
            let said = compiler.prepare("app", hash, false, comes(b"job")).await;
            assert_eq!(said.unwrap_err(), "3000001 3000001 3000001 job");
        }
        assert_eq!(compiler.users.unwrap().into_inner().len(), 2, "all are free again");
    }

    #[tokio::test]
    async fn those_who_ask_at_the_same_time_wait_for_one_process() {
        let place = tempfile::tempdir().unwrap();
        let script = format!(
            "echo x >> {}; printf 0123456789abcdefcode",
            place.path().join("runs").display()
        );
        let compiler = compiler(place.path(), &script);
        let hash = ComponentHash::of(b"job");
        let ask = |epoch| compiler.prepare("app", hash, epoch, comes(b"job"));
        let (one, two, three) = tokio::join!(ask(false), ask(false), ask(true));
        assert!(one.is_ok() && two.is_ok() && three.is_ok());
        let runs = || fs::read_to_string(place.path().join("runs")).unwrap().lines().count();
        assert_eq!((runs(), entries(place.path())), (2, 1), "one for each way to compile it");
        // Whoever asks later didn't find what was made: it is made again.
        ask(false).await.unwrap();
        assert_eq!(runs(), 3);
    }

    #[tokio::test]
    async fn an_application_has_one_job_and_gets_its_code_as_a_file() {
        use std::io::Read;
        let place = tempfile::tempdir().unwrap();
        let compiler = compiler(place.path(), "printf 0123456789abcdefcode");
        let asked = |job: &[u8], fits: &str| v1::Code {
            component: ComponentHash::of(job).as_bytes().to_vec(),
            fits: fits.into(),
            epoch_interruption: false,
        };
        let fetch = || comes(b"job");
        let handed = compiler.code("app", &asked(b"job", "0123456789abcdef"), fetch()).await;
        let mut text = String::new();
        let _ = handed.unwrap().take(100).read_to_string(&mut text);
        let unfit = compiler.code("app", &asked(b"job", "aaaaaaaaaaaaaaaa"), fetch()).await;
        assert!(unfit.unwrap_err().contains("isn't for this process"));
        let other = compiler.code("app", &asked(b"other", "0123456789abcdef"), fetch()).await;
        assert!(other.unwrap_err().contains("runs another job"));
        compiler.release("app");
        let other = compiler.code("app", &asked(b"other", "0123456789abcdef"), fetch()).await;
        assert!(other.unwrap_err().contains("another file came"));
    }

    #[tokio::test]
    async fn who_never_sends_a_job_keeps_nobody_waiting_who_has_the_same() {
        let place = tempfile::tempdir().unwrap();
        let compiler = compiler(place.path(), "printf 0123456789abcdefcode");
        let hash = ComponentHash::of(b"job");
        tokio::select! {
            biased;
            never = compiler.prepare("slow", hash, false, std::future::pending()) => {
                panic!("the other had to wait for it: {never:?}")
            }
            made = compiler.prepare("app", hash, false, comes(b"job")) => made.unwrap(),
        }
    }

    #[tokio::test]
    async fn one_application_leaves_a_place_for_others() {
        let place = tempfile::tempdir().unwrap();
        // Those of the one wait until that of the other has run, and must not meet.
        let script = format!(
            "cd {}; if grep -q oth; then touch other; else mkdir app || exit 1; while [ ! -e other ]; do sleep 0.01; done; rmdir app; fi; \
             printf 0123456789abcdefcode",
            place.path().display(),
        );
        let compiler = compiler(place.path(), &script);
        for (id, job) in [("app", b"job"), ("other", b"oth")] {
            compiler.claim(id, ComponentHash::of(job)).unwrap();
        }
        let ask = |id, job: &'static [u8], epoch| {
            compiler.prepare(id, ComponentHash::of(job), epoch, comes(job))
        };
        let (one, two, three) = tokio::join!(
            ask("app", b"job", false),
            ask("app", b"jab", false),
            ask("other", b"oth", false)
        );
        assert!(one.is_ok() && two.is_ok() && three.is_ok());
    }
}
