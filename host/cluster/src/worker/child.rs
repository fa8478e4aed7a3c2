//! One child of a worker: from its start to its end, and why that came.

use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::process::Child;
use tokio::sync::oneshot;

use super::handing::{self, Hands, Socket};
use super::rotated::Piped;
use super::walls::Enclosed;
use crate::broken::Outcome;

/// How long a driver that is killed may take to end by itself.
const GRACE: Duration = Duration::from_secs(3);

/// Somebody wishes that a child ends.
pub struct Kill {
    /// What it is said to have ended for.
    pub why: String,
    /// For something that it did, and may be doing: then at once.
    pub expelled: bool,
}

/// A child that was started.
pub struct Spawned {
    pub child: Child,
    /// Its standard input.
    pub socket: Socket,
    pub config: Vec<u8>,
    pub hands: Hands,
    /// What it prints: at last, where it says what goes wrong.
    pub streams: [Piped; 2],
}

/// Gives a child its configuration, encloses it while it gets ready, and says so; then hands it what it asks for, until it ends or somebody wishes
/// it to.
pub async fn watch(
    spawned: Spawned,
    enclose: impl FnOnce(Option<u32>) -> Result<Enclosed, String> + Send + 'static,
    killed: &mut oneshot::Receiver<Kill>,
    gently: bool,
) -> (Outcome, String) {
    let Spawned { mut child, socket, config, hands, streams } = spawned;
    handing::configure(&socket, &config).await;
    let process = child.id();
    let (admit, admitted) = oneshot::channel();
    // It asks for what it gets ready with.
    let served = handing::serve(socket, hands, admitted);
    tokio::pin!(served);
    let mut enclosing = tokio::task::spawn_blocking(move || enclose(process));
    let enclosed = tokio::select! {
        enclosed = &mut enclosing => enclosed,
        // A process that is just being started asks nothing that makes no sense; if it does, it isn't admitted. Once it has ended its number may be
        // another's, whom nobody is to enclose.
        why = &mut served => {
            drop(enclosing.await);
            Ok(Err(why))
        }
    };
    let enclosed = match enclosed {
        Ok(Ok(enclosed)) => enclosed,
        failed => {
            let _ = child.start_kill();
            let _ = child.wait().await;
            return (
                Outcome::Failed,
                failed.map_or_else(|e| e.to_string(), |f| f.err().unwrap_or_default()),
            );
        }
    };
    // It waits for that, unless it has ended.
    let _ = admit.send(());
    enclosed.judge(end(child, served, streams, killed, gently).await)
}

/// Waits for a child's end, or for a wish to end it, while it is `served`.
async fn end(
    mut child: Child,
    mut served: impl Future<Output = String> + Unpin,
    [out, err]: [Piped; 2],
    killed: &mut oneshot::Receiver<Kill>,
    gently: bool,
) -> (Outcome, String) {
    let ended = tokio::select! {
        ended = child.wait() => ended,
        said = &mut served => {
            let _ = child.start_kill();
            let _ = child.wait().await;
            tokio::join!(out.finish(), err.finish());
            return (Outcome::Expelled, format!("it was killed, for what it asked of its worker made no sense: {said}"));
        }
        kill = killed => {
            let Kill { why, expelled } =
                kill.unwrap_or_else(|_| Kill { why: "it was killed".into(), expelled: false });
            if gently && !expelled {
                // A driver removes what it hasn't published.
                if let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
                    // It may have ended this very moment.
                    let _ = rustix::process::kill_process(pid, Signal::TERM);
                }
                // It tells the master, perhaps by a connection that it hasn't yet.
                tokio::select! {
                    _ = tokio::time::timeout(GRACE, child.wait()) => {}
                    _ = &mut served => {}
                }
            }
            let _ = child.start_kill();
            let _ = child.wait().await;
            tokio::join!(out.finish(), err.finish());
            return (if expelled { Outcome::Expelled } else { Outcome::Failed }, why);
        }
    };
    // Whoever follows them reads on as long as it runs.
    let (_, last) = tokio::join!(out.finish(), err.finish());
    match ended {
        Ok(status) if status.success() => (Outcome::Finished, "it ended".into()),
        Ok(status) => match (status.into(), last_words(&last)) {
            // It said why.
            (Outcome::Refused, words) => {
                (Outcome::Refused, words.trim_start_matches(": ").to_owned())
            }
            (outcome, words) => (outcome, format!("{}{words}", how(status))),
        },
        Err(error) => (Outcome::Failed, format!("waiting for it: {error}")),
    }
}

fn how(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it ended with exit code {code}"),
        (None, Some(9)) => {
            "it was killed by signal 9 (by somebody, or by the system for want of memory)".into()
        }
        (None, signal) => format!("it was killed by signal {}", signal.unwrap_or(0)),
    }
}

/// Why it ended, in its own words: its last error, or else its last line.
fn last_words(tail: &[u8]) -> String {
    let tail = String::from_utf8_lossy(tail);
    let error = tail.lines().rev().find_map(|line| line.strip_prefix("error: "));
    match error.or_else(|| tail.lines().rev().find(|line| !line.trim().is_empty())) {
        Some(line) => format!(": {}", line.trim()),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use tokio::process::Command;

    use super::*;

    /// How a driver ends that takes note of a wish that it ends, and what it noted.
    async fn ends(expelled: bool) -> (Outcome, String, bool) {
        let dir = tempfile::tempdir().unwrap();
        let piped = |name: &str| Piped::new(&dir.path().join(name), 1 << 20).unwrap().1;
        let (ready, noted) = (dir.path().join("ready"), dir.path().join("noted"));
        let script = "trap ': > noted; exit 0' TERM; : > ready; while :; do sleep 0.01; done";
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(dir.path()).stdin(Stdio::null());
        let child = command.kill_on_drop(true).spawn().unwrap();
        while !ready.exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (kill, mut killed) = oneshot::channel();
        let _ = kill.send(Kill { why: "because".into(), expelled });
        let streams = [piped("out"), piped("err")];
        let (outcome, why) = end(child, std::future::pending(), streams, &mut killed, true).await;
        (outcome, why, noted.exists())
    }

    #[tokio::test]
    async fn a_driver_that_is_killed_may_tidy_up_and_one_that_is_expelled_may_not() {
        assert_eq!(ends(false).await, (Outcome::Failed, "because".into(), true));
        assert_eq!(ends(true).await, (Outcome::Expelled, "because".into(), false));
    }
}
