//! A cluster of whole processes on this machine, which end with the test.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::process::Running;
use crate::{Host, Net, Place, Rsubmit, Run};

/// A master and its workers. What they keep lies in a test's folder.
pub struct Cluster<'a> {
    place: &'a Place,
    /// Its first host is the master's, then come the workers', and the last one is the client's.
    net: Option<&'a Net>,
    pub url: String,
    port: u16,
    master: Option<Running>,
    pub workers: Vec<Running>,
    /// Of the workers that it began with.
    cores: u32,
    /// What daemons said that were killed.
    past: Vec<String>,
    /// All workers that ever were: each leads a group of its own.
    groups: Vec<Pid>,
    /// More flags of workers that are started from now on.
    pub worker_flags: Vec<String>,
    /// Where daemons that are started from now on are, the first folder is also mounted at the second one.
    pub bound: Option<[PathBuf; 2]>,
}

/// Nothing here takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something holds.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl<'a> Cluster<'a> {
    /// Starts a master, and so many workers of so many cores. Leases are short.
    pub fn new(place: &'a Place, workers: usize, cores: u32) -> Self {
        Self::start(place, None, workers, cores)
    }

    /// As [`Cluster::new`], with a worker on each host of a network but for the first and the last.
    pub fn on(place: &'a Place, net: &'a Net, cores: u32) -> Self {
        Self::start(place, Some(net), net.hosts() - 2, cores)
    }

    fn start(place: &'a Place, net: Option<&'a Net>, workers: usize, cores: u32) -> Self {
        let (url, past) = (String::new(), Vec::new());
        let mut cluster = Self {
            place,
            net,
            url,
            port: 0,
            master: None,
            workers: Vec::new(),
            cores: workers as u32 * cores,
            past,
            groups: Vec::new(),
            worker_flags: Vec::new(),
            bound: None,
        };
        cluster.start_master();
        for _ in 0..workers {
            cluster.start_worker(cores);
        }
        cluster
    }

    fn host(&self, number: usize) -> Option<Host> {
        self.net.map(|net| net.host(number))
    }

    fn client(&self) -> Option<Host> {
        self.net.map(|net| net.host(net.hosts() - 1))
    }

    /// `ingle` as a daemon of a host.
    fn daemon(&self, number: usize, args: &[&str], dir: PathBuf) -> Running {
        let host = self.host(number);
        let address = host.as_ref().map_or("127.0.0.1", |host| &host.address);
        let args = [args[0], "--host", address].into_iter().chain(args[1..].iter().copied());
        let args = args.map(Into::into).chain([dir.into()]);
        Running::ingle_where(self.place, host.as_ref(), self.bound.as_ref(), args)
    }

    /// Starts the master, again on the port that it had.
    pub fn start_master(&mut self) {
        let (dir, port) = (self.place.kept("master"), self.port.to_string());
        let args = [
            "master",
            "--port",
            &port,
            "--webui-port",
            "0",
            "--worker-lease",
            "3",
            "--app-lease",
            "3",
            "--dir",
        ];
        let master = self.daemon(0, &args, dir);
        let said = "master on ingle://";
        master.wait_for(said);
        let text = master.said();
        let address = text.split(said).nth(1).and_then(|rest| rest.split(',').next());
        let address = address.expect("an address").to_owned();
        self.port = address.rsplit(':').next().and_then(|p| p.parse().ok()).expect("a port");
        self.url = format!("ingle://{address}");
        self.master = Some(master);
    }

    /// `kill -9` of the master.
    pub fn kill_master(&mut self) {
        let master = self.master.take().expect("a master");
        master.signal(Signal::KILL);
        self.past.push(master.wait().stderr);
    }

    pub fn start_worker(&mut self, cores: u32) {
        self.start_worker_with(cores, &[]);
    }

    /// As [`Cluster::start_worker`], with more flags.
    pub fn start_worker_with(&mut self, cores: u32, flags: &[&str]) {
        let worker = self.worker(self.workers.len(), cores, flags);
        worker.wait_for("registered as worker-");
        self.groups.push(worker.pid());
        self.workers.push(worker);
    }

    /// `kill -9` of a worker; another one takes its folder at once. It may have to wait for the master.
    pub fn replace_worker(&mut self, worker: usize, cores: u32) {
        self.workers[worker].signal(Signal::KILL);
        self.past.push(self.workers.remove(worker).wait().stderr);
        let new = self.worker(worker, cores, &[]);
        self.groups.push(new.pid());
        self.workers.insert(worker, new);
    }

    fn worker(&self, number: usize, cores: u32, flags: &[&str]) -> Running {
        let dir = self.place.kept(format!("worker-{number}"));
        let cores = cores.to_string();
        let args = [
            "worker",
            &self.url,
            "--port",
            "0",
            "--webui-port",
            "0",
            "--memory",
            "4g",
            "--cores",
            &cores,
        ];
        let mut more: Vec<&str> = self.worker_flags.iter().map(String::as_str).collect();
        // What a test grants is its own user's, unless it says otherwise.
        if !more.iter().any(|flag| flag.starts_with("--executor-uids")) {
            more.push("--executor-uids=none");
        }
        self.daemon(number + 1, &[&args[..], &more, flags, &["--work-dir"]].concat(), dir)
    }

    /// Where the master listens, host:port.
    pub fn master_address(&self) -> &str {
        self.url.trim_start_matches("ingle://")
    }

    /// Where the page of a daemon is, host:port.
    fn page(daemon: &Running) -> String {
        let said = daemon.said();
        let page = said.split("page on http://").nth(1).and_then(|rest| rest.split('/').next());
        page.expect("it says so first").to_owned()
    }

    /// Where the master's page is, host:port.
    pub fn master_page(&self) -> String {
        Self::page(self.master.as_ref().expect("a master"))
    }

    /// Where a worker's page is, host:port.
    pub fn worker_page(&self, worker: usize) -> String {
        Self::page(&self.workers[worker])
    }

    /// Where a worker listens, host:port.
    pub fn worker_address(&self, worker: usize) -> String {
        let said = self.workers[worker].said();
        let address = said.split("worker on ").nth(1).and_then(|rest| rest.split(": ").next());
        address.expect("it says so first").to_owned()
    }

    /// What the master said.
    pub fn master_said(&self) -> String {
        self.master.as_ref().map(Running::said).unwrap_or_default()
    }

    /// The master's process, then each worker's.
    pub fn daemons(&self) -> Vec<Pid> {
        self.master.iter().chain(&self.workers).map(Running::pid).collect()
    }

    /// The most that the master, then each worker, had in memory at any time, in bytes.
    pub fn peaks(&self) -> Vec<u64> {
        self.daemons().into_iter().map(peak).collect()
    }

    /// `rsubmit` of a job on this cluster, with leave to read and write the test's folder.
    pub fn rsubmit(&self, job: &str) -> Rsubmit {
        let rsubmit = self.place.rsubmit_granted(job).flag("--master").flag(&self.url);
        match self.client() {
            Some(host) => rsubmit.conf("ingle.driver.host", &host.address).on(&host),
            None => rsubmit,
        }
    }

    /// The same, and no task runs before all workers have an executor of the job.
    pub fn rsubmit_to_all(&self, job: &str) -> Rsubmit {
        let cores = self.cores.to_string();
        let job = self.rsubmit(job).flags(["--total-executor-cores", &cores]);
        job.conf("ingle.scheduler.minRegisteredResourcesRatio", "1")
    }

    /// A verb of `ingle` for this cluster.
    pub fn ask(&self, args: &[&str]) -> Run {
        let args = args.iter().copied().chain(["--master", &self.url]).map(Into::into);
        Running::ingle(self.place, self.client().as_ref(), args).wait()
    }

    /// Waits until a driver on a worker ended, and what is told of it.
    #[track_caller]
    pub fn ended(&self, driver: &str) -> String {
        let status = || self.ask(&["explain", driver]).stdout;
        let over = |told: &str| ["FINISHED", "FAILED", "KILLED"].iter().any(|w| told.contains(w));
        wait_until("a driver to end", || over(&status()));
        status()
    }

    /// The processes that a worker started.
    pub fn children(&self, worker: usize) -> Vec<Pid> {
        self.workers[worker].children()
    }

    /// `kill -9` of an executor that a worker started, as soon as there is one.
    #[track_caller]
    pub fn kill_child(&self, worker: usize) {
        // And not what compiles for it.
        let executor = || {
            let executors = self.processes_that_are("executor");
            self.children(worker).into_iter().find(|child| executors.contains(child))
        };
        let mut found = None;
        wait_until("an executor", || {
            found = executor();
            found.is_some()
        });
        kill_process(found.expect("it was found"), Signal::KILL).expect("it runs");
    }

    /// All processes that any worker of this cluster started, also one that is gone: they are of its group.
    pub fn processes(&self) -> Vec<Pid> {
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = all.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
        let is_ours = |pid: &Pid| {
            !self.groups.contains(pid) && group(*pid).is_some_and(|of| self.groups.contains(&of))
        };
        pids.filter(is_ours).collect()
    }

    /// Those of them that run a verb of `ingle`: `executor` or `driver`.
    pub fn processes_that_are(&self, verb: &str) -> Vec<Pid> {
        let is = |pid: &Pid| {
            let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
            line.is_ok_and(|line| line.split(|b| *b == 0).nth(1) == Some(verb.as_bytes()))
        };
        self.processes().into_iter().filter(is).collect()
    }

    /// Waits until no worker has a process, or a file, of any application.
    #[track_caller]
    pub fn wait_until_clean(&self) {
        wait_until("nothing to be left", || {
            self.processes().is_empty()
                && (0..self.workers.len()).all(|w| self.leftovers(w).is_empty())
        });
    }

    /// What daemons, executors and drivers said of a panic; none may.
    pub fn panics(&self) -> Vec<String> {
        let daemons = self.workers.iter().chain(&self.master).map(Running::said);
        let mut said: Vec<String> = daemons.chain(self.past.iter().cloned()).collect();
        let inside = |dir: PathBuf| {
            fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
        };
        let logs = (0..self.workers.len()).map(|w| self.place.kept(format!("worker-{w}/logs")));
        let files = logs.flat_map(inside).flat_map(inside);
        said.extend(files.map(|log| fs::read_to_string(log).unwrap_or_default()));
        said.retain(|text| of_a_host_panic(text));
        said
    }

    /// Has a job run in cluster mode, and gives the hash of its file, which the master keeps.
    pub fn component(&self) -> Vec<u8> {
        let job = self.rsubmit("pi").flags(["--deploy-mode", "cluster", "--wait"]);
        job.args(["1000", "2"]).run().succeeds();
        let components = self.place.kept("master/components");
        let name = &self.place.names(components.to_str().expect("UTF-8"))[0];
        let byte = |at: usize| u8::from_str_radix(&name[2 * at..2 * at + 2], 16).expect("hex");
        (0..32).map(byte).collect()
    }

    /// What is kept of applications on a worker, and what isn't quite removed yet.
    pub fn leftovers(&self, worker: usize) -> Vec<PathBuf> {
        let dirs = ["apps", "removed"].map(|dir| self.place.kept(format!("worker-{worker}/{dir}")));
        let entries = dirs.into_iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }

    /// What map tasks wrote on a worker: of each application a folder for each stage.
    pub fn shuffle_files(&self, worker: usize) -> Vec<PathBuf> {
        let read = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten();
        let apps = self.leftovers(worker).into_iter();
        let stages = apps.flat_map(|app| read(app.join("shuffle")));
        stages.flat_map(|stage| read(stage.path())).map(|file| file.path()).collect()
    }

    /// Waits until a worker keeps output of map tasks.
    #[track_caller]
    pub fn wait_for_shuffle(&self, worker: usize) {
        wait_until("shuffle output", || !self.shuffle_files(worker).is_empty());
    }
}

/// The most that a process had in memory at any time, in bytes.
pub fn peak(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()));
    let status = status.expect("it runs");
    let kib = status.split("VmHWM:").nth(1).and_then(|rest| rest.split_whitespace().next());
    kib.and_then(|kib| kib.parse::<u64>().ok()).expect("a number") << 10
}

/// Whether somebody says that a thread of a process of ours panicked. A guest's own panic isn't any thread's.
pub fn of_a_host_panic(text: &str) -> bool {
    text.lines().any(|line| line.contains("thread '") && line.contains("panicked at"))
}

/// The process group of a process that hasn't ended.
fn group(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // Behind the name, which may be anything: its state, its parent, its group.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let runs = fields.next()? != "Z";
    fields.nth(1)?.parse().ok().and_then(Pid::from_raw).filter(|_| runs)
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        for process in self.workers.drain(..).chain(self.master.take()) {
            process.end();
        }
    }
}
