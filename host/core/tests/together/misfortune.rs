//! What goes wrong, and what people want.

use std::collections::{BTreeMap, BTreeSet};

use ingle_core::ids::WorkerId;
use ingle_core::master::{AppId, DriverId, DriverSpec, Event, Target};
use rand::Rng;

use crate::net::{CLIENT, Kind, SERVER};
use crate::worker::Name;
use crate::world::{Next, SECOND, World};

/// When all that the storm broke is mended, after it.
pub const CALM: u64 = 70 * SECOND;

impl World {
    /// Something happens, perhaps.
    pub fn misfortune(&mut self) {
        for kind in 0..self.weather.of.len() {
            if !self.rng.random_bool(self.weather.of[kind]) {
                continue;
            }
            let worker = self.rng.random_range(0..self.workers.len());
            match kind {
                0 => {
                    self.counts.breaks += 1;
                    self.break_any();
                }
                1 => self.cut_some(),
                2 => {
                    self.master_dies();
                    let away = self.rng.random_range(50_000..12 * SECOND);
                    self.at(self.now + away, Next::MasterStarts);
                }
                3 | 4 => {
                    self.worker_dies(worker, kind == 4);
                    // Some stay away until their lease has ended.
                    let long = if self.rng.random_bool(0.2) { 90 } else { 25 };
                    let again = self.now + self.rng.random_range(SECOND / 10..long * SECOND);
                    self.at(again.min(self.storm + 45 * SECOND), Next::WorkerStarts(worker));
                }
                5 => self.executor_dies(),
                6 => self.driver_dies(),
                7 => self.worker_drains(worker),
                8 => {
                    let worker = WorkerId(self.rng.random_range(0..8));
                    self.ask_master(|request| Event::Decommission { request, worker });
                }
                9 => {
                    let target = self.any_target();
                    self.ask_master(|request| Event::Kill { request, target });
                }
                _ => self.file_rots(worker),
            }
        }
    }

    /// A host can't be reached any more, or two can't talk, in one direction or in both; for a while.
    fn cut_some(&mut self) {
        self.counts.cuts += 1;
        let hosts = self.hosts.len();
        let one = self.rng.random_range(0..hosts);
        let others: Vec<_> = match self.rng.random_bool(0.5) {
            true => (0..hosts).filter(|other| *other != one).collect(),
            false => vec![self.rng.random_range(0..hosts)],
        };
        let ways = self.rng.random_range(1..4);
        let until = self.now + self.rng.random_range(SECOND / 10..40 * SECOND);
        let until = until.min(self.storm + 10 * SECOND);
        for other in others.into_iter().filter(|other| *other != one) {
            for (bit, way) in [(1, (one, other)), (2, (other, one))] {
                if ways & bit != 0 && !self.is_cut(way.0, way.1) {
                    self.note(|| format!("cut from {} to {}", way.0, way.1));
                    self.cut(way.0, way.1);
                    self.at(until, Next::Heal(way.0, way.1));
                }
            }
        }
    }

    fn executor_dies(&mut self) {
        for _ in 0..20 {
            let at = self.rng.random_range(0..self.executors.len().max(1));
            if let Some(pid) = self.executors.get(at).map(|executor| executor.pid)
                && self.is_alive(pid)
            {
                self.counts.executors_died += 1;
                self.process_ends(pid, false, "it crashed");
                return;
            }
        }
    }

    fn driver_dies(&mut self) {
        let living = self.drivers.iter().map(|driver| driver.pid);
        let living: Vec<_> = living.filter(|pid| self.is_alive(*pid)).collect();
        if !living.is_empty() {
            self.counts.drivers_died += 1;
            let at = self.rng.random_range(0..living.len());
            self.process_ends(living[at], false, "it crashed");
        }
    }

    /// An output disappears from a disk.
    fn file_rots(&mut self, worker: usize) {
        let folder = &mut self.workers[worker].folder;
        let Some(files) = folder.values_mut().find(|files| !files.is_empty()) else { return };
        let nth = self.rng.random_range(0..files.len());
        if let Some(file) = files.iter().nth(nth).copied() {
            files.remove(&file);
            self.losses += 1;
        }
    }

    fn any_target(&mut self) -> Target {
        let at = self.rng.random_range(0..self.drivers.len().max(1));
        match self.drivers.get(at) {
            Some(driver) => match (driver.driver, driver.id) {
                (Some((id, _)), _) => Target::Driver(id),
                (None, Some(app)) => Target::App(app),
                (None, None) => Target::App(AppId::new(0, 99)),
            },
            None => Target::Driver(DriverId::new(0, 99)),
        }
    }

    /// Somebody submits an application that runs its driver on a worker. Without a master, they try again.
    pub fn submit(&mut self, plan: usize, supervise: bool) {
        if self.master.pid.is_none() {
            self.at(self.now + SECOND, Next::DriverStarts(plan));
            return;
        }
        let spec = DriverSpec {
            name: plan.to_string(),
            cores: 1,
            memory: 1 << 29,
            supervise,
            component: Vec::new(),
            submission: Vec::new(),
            proof: Vec::new(),
            has_secrets: false,
        };
        let wall = self.wall(0);
        self.submitted.insert(plan);
        self.ask_master(|request| Event::SubmitDriver { request, spec, wall });
    }

    /// Whatever the rest of the world does, a worker that is gone is noticed, within the keepalive's and the lease's time.
    pub fn watch(&mut self) {
        const NOTICED: u64 = 45 * SECOND;
        self.at(self.now + SECOND, Next::Watch);
        if let Some(pid) = self.master.pid {
            let known = self.master.core.workers().map(|worker| worker.address);
            let known: BTreeSet<_> = known.collect();
            let since = self.processes[pid].started;
            for (at, worker) in self.workers.iter().enumerate() {
                let Some(dead) = worker.dead_since.filter(|_| worker.pid.is_none()) else {
                    continue;
                };
                let late = self.now.saturating_sub(dead.max(since)) > NOTICED;
                let listed = known.contains(&crate::worker::address(at));
                assert!(!late || !listed, "worker {at} is dead for long, and nobody noticed");
            }
        }
        if self.plan.audited && self.now > self.storm + 15 * SECOND {
            self.nothing_runs_unknown();
        }
        self.nobody_waits_for_what_is_lost();
        if self.weather.every == 0 {
            self.nothing_is_left_of_what_is_dropped();
        }
        if self.plan.audited {
            self.drivers_await_whom_they_should();
        }
        if self.now == self.storm + CALM {
            self.drivers_know_what_is_lost();
        }
        if self.all_over.is_none() && self.now > self.storm && self.is_all_over() {
            self.all_over = Some(self.now);
        }
    }

    /// Whoever was away when a worker was lost hears of it when it is back: else its tasks look for outputs that are gone, one by one.
    fn drivers_know_what_is_lost(&self) {
        let known: BTreeSet<_> = self.master.core.workers().map(|worker| worker.id).collect();
        for (at, driver) in self.drivers.iter().enumerate() {
            if driver.gone || driver.welcome_since > self.now - SECOND {
                continue;
            }
            let believed = driver.hub.output_workers();
            let lost: Vec<_> = believed.difference(&known).collect();
            assert!(lost.is_empty(), "driver {at} doesn't know that {lost:?} are lost");
        }
    }

    /// A driver that is connected waits for no executors but those that the master still means to come, and the master for none that are
    /// there, whatever either missed while the driver was away.
    fn drivers_await_whom_they_should(&mut self) {
        const TOLD: u64 = 3 * SECOND;
        let mut awaited = BTreeMap::new();
        for (at, driver) in self.drivers.iter().enumerate() {
            let status = driver.id.and_then(|id| self.master.core.app(id));
            let Some(status) = status.filter(|status| !status.state.is_over()) else { continue };
            let hears = driver.conn.is_some_and(|conn| {
                [CLIENT, SERVER].iter().all(|side| self.hears_in_time(conn, *side))
            });
            if driver.gone || !hears || driver.welcome_since > self.now.saturating_sub(SECOND) {
                continue;
            }
            let granted: BTreeSet<_> = status.executors.iter().map(|(id, _)| *id).collect();
            let mut in_vain: Vec<_> =
                driver.hub.awaited().filter(|id| !granted.contains(id)).collect();
            if status.text.ends_with("executors to start") && driver.hub.has_all(&granted) {
                in_vain.extend(granted);
            }
            for id in in_vain {
                let since = self.awaited.get(&(at, id)).copied().unwrap_or(self.now);
                let late = self.now - since >= TOLD;
                assert!(!late, "driver {at}: {id} is waited for in vain; {}", status.text);
                awaited.insert((at, id), since);
            }
        }
        self.awaited = awaited;
    }

    /// No task waits for a worker for long once its driver knows that it is lost: it would hold up its slot, and its job.
    fn nobody_waits_for_what_is_lost(&self) {
        const TOLD: u64 = 2 * SECOND;
        for driver in self.drivers.iter().filter(|driver| !driver.hub.lost.is_empty()) {
            for (id, conn) in driver.hub.executors() {
                let Kind::Executor(at) = self.processes[self.at_end(conn, CLIENT)].kind else {
                    continue;
                };
                if !self.hears_in_time(conn, CLIENT) {
                    continue;
                }
                for worker in self.executors[at].waited_for() {
                    let known = driver.hub.lost.get(&worker).map(|since| self.now - since);
                    assert!(known < Some(TOLD), "a task of {id} waits for {worker}, which is lost");
                }
            }
        }
    }

    /// Output that nobody needs any more goes, wherever its application still has an executor.
    fn nothing_is_left_of_what_is_dropped(&self) {
        let long_ago = |since: u64| self.now - since > 5 * SECOND;
        for driver in self.drivers.iter().filter(|driver| !driver.gone) {
            for (id, conn) in driver.hub.executors() {
                let Kind::Executor(at) = self.processes[self.at_end(conn, CLIENT)].kind else {
                    continue;
                };
                let executor = &self.executors[at];
                let files = self.workers[executor.worker].folder.get(&executor.name.0);
                for (stage, ..) in files.into_iter().flatten() {
                    let since = driver.hub.dropped.get(stage).copied();
                    assert!(
                        !since.is_some_and(long_ago),
                        "{stage} is dropped, and lies beside {id}"
                    );
                }
            }
        }
    }

    /// What a worker runs that the master doesn't want is ended soon, whoever still has use for it.
    fn nothing_runs_unknown(&mut self) {
        const ENDED: u64 = 20 * SECOND;
        let live = self.master.core.apps().filter(|app| !app.state.is_over());
        let wanted: BTreeSet<_> =
            live.flat_map(|app| app.executors.into_iter().map(move |at| (app.id, at.0))).collect();
        let known = |name: &Name| matches!(name, Name::Executor(name) if wanted.contains(name));
        let mut unknown = BTreeMap::new();
        for (pid, (name, _)) in self.workers.iter().flat_map(|worker| &worker.there) {
            if matches!(name, Name::Executor(_)) && !known(name) {
                let since = self.unknown.get(pid).copied().unwrap_or(self.now);
                assert!(self.now - since < ENDED, "{name:?} runs on, and nobody knows it");
                unknown.insert(*pid, since);
            }
        }
        self.unknown = unknown;
    }

    pub fn asked(&mut self) {
        let Some(every) = self.weather.asked else { return };
        let target = Target::Driver(DriverId::new(0, 99));
        self.ask_master(|request| Event::Kill { request, target });
        self.at(self.now + every, Next::Asked);
    }

    fn is_all_over(&self) -> bool {
        let started = (0..self.plan.apps.len()).all(|plan| self.submitted.contains(&plan));
        let drivers = &self.processes;
        let runs = |kind: Kind| matches!(kind, Kind::Driver(_));
        started
            && !drivers.iter().any(|process| process.alive && runs(process.kind))
            && self.master.pid.is_some()
            && self.master.core.drivers().all(|driver| driver.state.is_over())
    }
}
