//! Components and their compiled code, of all applications on a worker: the worker alone writes them.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ingle_proto::prost::Message;
use ingle_proto::v1;
use ingle_sandbox::{CodeCache, ComponentHash};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

use super::walls::Walls;
use crate::loading::read_component;

/// How long compiling may take.
const TIME: Duration = Duration::from_secs(120);
/// How long a component may take to come: others may wait for it.
const FETCH: Duration = Duration::from_secs(60);
/// The longest code.
const MAX_CODE: u64 = 1 << 30;
/// And what memory.
const MEMORY: u64 = 3 << 30;
/// How many jobs are compiled at the same time.
const AT_ONCE: usize = 2;
/// The longest word about a component that can't be compiled.
const WORDS: usize = 64 << 10;

/// Compiles components, each once.
pub struct Compiler {
    program: PathBuf,
    components: PathBuf,
    code: CodeCache,
    walls: Arc<Walls>,
    busy: Mutex<HashMap<ComponentHash, Arc<Turn>>>,
    at_once: Semaphore,
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
        components: PathBuf,
        code: &Path,
        walls: Arc<Walls>,
    ) -> Result<Self, String> {
        Ok(Self {
            program: program.to_owned(),
            components,
            code: CodeCache::open(code).map_err(|e| e.to_string())?,
            walls,
            busy: Mutex::default(),
            at_once: Semaphore::new(AT_ONCE),
        })
    }

    /// Where a component is, or is going to be.
    pub fn path(&self, hash: ComponentHash) -> PathBuf {
        self.components.join(hash.to_string())
    }

    fn turn(&self, hash: ComponentHash) -> Arc<Turn> {
        let mut busy = self.busy.lock();
        busy.retain(|_, turn| Arc::strong_count(turn) > 1);
        busy.entry(hash).or_default().clone()
    }

    /// Makes sure that a component is here; `fetch` brings it.
    pub async fn keep(
        &self,
        hash: ComponentHash,
        fetch: impl Future<Output = Result<Vec<u8>, String>>,
    ) -> Result<(), String> {
        let turn = self.turn(hash);
        let _now = turn.now.lock().await;
        self.keep_now(hash, fetch).await
    }

    async fn keep_now(
        &self,
        hash: ComponentHash,
        fetch: impl Future<Output = Result<Vec<u8>, String>>,
    ) -> Result<(), String> {
        let path = self.path(hash);
        let look = {
            let path = path.clone();
            tokio::task::spawn_blocking(move || read_component(&path, hash).is_ok())
        };
        if look.await.unwrap_or(false) {
            return Ok(());
        }
        let bytes = tokio::time::timeout(FETCH, fetch).await;
        let bytes = bytes.map_err(|_| "the job's file didn't come in time")??;
        if ComponentHash::of(&bytes) != hash {
            return Err("another file came than was asked for".into());
        }
        let temporary = path.with_extension("tmp");
        let kept = fs::create_dir_all(&self.components)
            .and_then(|()| fs::write(&temporary, bytes))
            .and_then(|()| fs::rename(&temporary, &path));
        kept.map_err(|e| format!("keeping the job in {}: {e}", path.display()))
    }

    /// Compiles a component, once `fetch` has brought it if need be. Whoever asks at the same time waits for that.
    pub async fn prepare(
        &self,
        hash: ComponentHash,
        epoch_interruption: bool,
        fetch: impl Future<Output = Result<Vec<u8>, String>>,
    ) -> Result<(), String> {
        let turn = self.turn(hash);
        let made = |turn: &Turn| turn.made.lock()[usize::from(epoch_interruption)];
        let before = made(&turn);
        let _now = turn.now.lock().await;
        if made(&turn) != before {
            return Ok(());
        }
        self.keep_now(hash, fetch).await?;
        let _one = self.at_once.acquire().await.map_err(|e| e.to_string())?;
        let code = self.compile(hash, epoch_interruption).await?;
        self.code
            .store_made(hash, &code)
            .map_err(|why| format!("what compiled the job gave no code: {why}"))?;
        turn.made.lock()[usize::from(epoch_interruption)] += 1;
        Ok(())
    }

    async fn compile(&self, hash: ComponentHash, epoch: bool) -> Result<Vec<u8>, String> {
        let config = v1::CompileConfig {
            component: hash.as_bytes().to_vec(),
            path: self.path(hash).to_string_lossy().into_owned(),
            epoch_interruption: epoch,
            required_walls: self.walls.required.clone(),
        };
        let mut child = Command::new(&self.program)
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
        let enclosed = self.walls.enclose(child.id(), v1::Room { cores: 1, memory: MEMORY })?;
        if let Some(mut input) = child.stdin.take() {
            // One that doesn't read it has ended, and says why.
            let _ = input.write_all(&config.encode_length_delimited_to_vec()).await;
        }
        let ended = tokio::time::timeout(TIME, output(&mut child)).await;
        if let Some(memory) = enclosed.killed_for_memory() {
            return Err(format!("compiling the job takes more than {memory}"));
        }
        let Ok(ended) = ended else {
            let _ = child.start_kill();
            let seconds = TIME.as_secs();
            return Err(format!("compiling the job takes more than {seconds} s"));
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

/// How a child ended, and what it said, up to so much of it: it is believed nothing.
async fn output(child: &mut Child) -> std::io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (mut code, mut words) = (Vec::new(), Vec::new());
    let read_code = async {
        match out {
            Some(out) => out.take(MAX_CODE).read_to_end(&mut code).await,
            None => Ok(0),
        }
    };
    let read_words = async {
        match err {
            Some(err) => err.take(WORDS as u64).read_to_end(&mut words).await,
            None => Ok(0),
        }
    };
    // One that says more finds nobody who listens, and ends.
    let (code_read, words_read) = tokio::join!(read_code, read_words);
    code_read.and(words_read)?;
    Ok((child.wait().await?, code, words))
}
