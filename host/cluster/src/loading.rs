//! How a process on a worker comes to its job: its worker opens it in its cache of compiled code, which nobody else reads or writes. What isn't
//! there is compiled by a process of its own, with limits of its own, since a component may be made to break a compiler.

use std::io::{Read, Write};
use std::process::ExitStatus;

use ingle_blocks::Grants;
use ingle_proto::v1;
use ingle_sandbox::{ComponentHash, Interrupt, Job, MAX_COMPONENT_BYTES, Sandbox};
use ingle_walls::Down;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;

use crate::lifeline::Worker;
use crate::walls::{self, Own};

/// Loads the job of this process, which its worker hands over, compiled.
pub async fn load(
    worker: &Worker,
    hash: ComponentHash,
    interrupt: Interrupt,
) -> Result<Job, String> {
    let sandbox = Sandbox::new(None, interrupt).map_err(|e| e.to_string())?;
    let handed = worker.code(hash, sandbox.fits(), interrupt).await?;
    let load = move || sandbox.take(hash, handed).map_err(|e| e.to_string());
    tokio::task::spawn_blocking(load).await.map_err(|e| format!("loading the job: {e}"))?
}

/// The process that compiles one job, which it reads, and writes its code to standard output. The error is for the user.
pub fn compile(
    config: &v1::CompileConfig,
    down: Vec<Down>,
    component: impl Read,
) -> Result<(), String> {
    let hash = hash(&config.component)?;
    let nothing = Grants::new(&[], &[]).map_err(|e| e.to_string())?;
    walls::raise(down, Own::default(), &nothing, &config.required_walls)?;
    let bytes = read_named(component, hash)?;
    let component = ingle_guests::componentize(&bytes).map_err(|e| e.to_string())?;
    let interrupt = if config.epoch_interruption { Interrupt::Epoch } else { Interrupt::Calls };
    let sandbox = Sandbox::new(None, interrupt).map_err(|e| e.to_string())?;
    let made = sandbox.make(hash, &component).map_err(|e| e.to_string())?;
    let mut out = std::io::stdout().lock();
    out.write_all(&made).and_then(|()| out.flush()).map_err(|e| format!("handing it over: {e}"))
}

/// The longest code.
const MAX_CODE: u64 = 1 << 30;
/// The longest word about a component that can't be compiled.
const WORDS: u64 = 64 << 10;

/// Tells a process that compiles what to, on its standard input. How it ended, and what it said on its two outputs, as much of it as may be: it is
/// believed nothing.
pub async fn converse(
    child: &mut Child,
    mut told: impl AsyncRead + Unpin,
) -> std::io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
    let (input, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (mut code, mut words) = (Vec::new(), Vec::new());
    let tell = async {
        if let Some(mut input) = input {
            // One that doesn't read it has ended, and says why.
            let _ = tokio::io::copy(&mut told, &mut input).await;
        }
    };
    let read_code = async {
        match out {
            Some(out) => out.take(MAX_CODE).read_to_end(&mut code).await,
            None => Ok(0),
        }
    };
    let read_words = async {
        match err {
            Some(err) => err.take(WORDS).read_to_end(&mut words).await,
            None => Ok(0),
        }
    };
    // One that says more finds nobody who listens, and ends.
    let ((), code_read, words_read) = tokio::join!(tell, read_code, read_words);
    code_read.and(words_read)?;
    Ok((child.wait().await?, code, words))
}

/// A component's name.
pub fn hash(bytes: &[u8]) -> Result<ComponentHash, String> {
    let hash = <[u8; 32]>::try_from(bytes).map_err(|_| "that is no component's hash")?;
    Ok(ComponentHash::from_bytes(hash))
}

/// The job of this process, which its worker hands over as it is.
pub async fn component(worker: &Worker, hash: ComponentHash) -> Result<Vec<u8>, String> {
    let handed = worker.component(hash).await?;
    let read = tokio::task::spawn_blocking(move || read_named(handed, hash));
    read.await.map_err(|e| format!("reading the job: {e}"))?
}

fn read_named(from: impl Read, hash: ComponentHash) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = from.take(MAX_COMPONENT_BYTES as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|e| format!("reading the job: {e}"))?;
    if ComponentHash::of(&bytes) == hash {
        Ok(bytes)
    } else {
        Err("the job's file isn't what its hash says".into())
    }
}
