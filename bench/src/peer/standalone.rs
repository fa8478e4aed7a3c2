//! Spark's own cluster: a master and a worker of 2 cores.

use std::process::{Child, Stdio};

use anyhow::{Context, Result};

use super::spark::Spark;
use crate::cluster::said;

/// Two processes. Ended on drop.
pub struct Standalone {
    daemons: Vec<Child>,
    url: String,
    _dir: tempfile::TempDir,
}

impl Standalone {
    /// Starts both and waits until the worker is known.
    pub fn start(spark: &Spark) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("cluster-").tempdir_in(spark.scratch())?;
        let mut cluster = Self { daemons: Vec::new(), url: String::new(), _dir: dir };
        let mut master = spark.daemon("master.Master");
        master.args(["--host", "127.0.0.1", "--port", "0", "--webui-port", "0"]);
        cluster.url = cluster.add(master, "Starting Spark master at ")?;
        let mut worker = spark.daemon("worker.Worker");
        worker.args(["--host", "127.0.0.1", "--port", "0", "--webui-port", "0"]);
        worker.args(["--cores", "2", "--memory", "8g", "--work-dir"]).arg(cluster._dir.path());
        worker.arg(&cluster.url);
        cluster.add(worker, "Successfully registered with master ")?;
        Ok(cluster)
    }

    /// Starts a daemon; gives the word behind a text that it says.
    fn add(&mut self, mut command: std::process::Command, before: &str) -> Result<String> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let daemon = command.spawn().context("can't start Spark's daemon")?;
        self.daemons.push(daemon);
        said(self.daemons.last_mut().context("a daemon")?, before)
    }

    /// Where jobs are submitted.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The daemons' processes.
    pub fn processes(&self) -> Vec<u32> {
        self.daemons.iter().map(Child::id).collect()
    }
}

impl Drop for Standalone {
    fn drop(&mut self) {
        for daemon in self.daemons.iter_mut().rev() {
            // It may have ended by itself, which a run has told of.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}
