//! A worker's connection with its master: made with patience, made again when it breaks, while what runs goes on.

use std::sync::Arc;
use std::time::Duration;

use ingle_proto::v1;
use ingle_proto::v1::master_client::MasterClient;
use ingle_proto::v1::worker_command::Command;
use ingle_proto::v1::worker_report::Report;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::WorkerOptions;
use super::compiler::Compiler;
use super::processes::{Ended, Name, Processes};
use crate::broken::Outcome;
use crate::loading::hash;
use crate::rpc::{self, Backoff, Secret};

const HEARTBEAT: Duration = Duration::from_secs(1);
const REPORTS: usize = 1024;

pub struct Connection {
    options: WorkerOptions,
    address: String,
    /// Where its page is; empty if it has none.
    page: String,
    /// Chosen at this process's start.
    instance: u64,
    log_secret: Secret,
    processes: Arc<Processes>,
    ended: mpsc::UnboundedReceiver<Ended>,
}

impl Connection {
    pub fn new(
        options: &WorkerOptions,
        address: String,
        page: &str,
        log_secret: Secret,
        processes: Arc<Processes>,
        ended: mpsc::UnboundedReceiver<Ended>,
    ) -> Self {
        let mut bytes = [0; 8];
        // Without chance, the time must do.
        if getrandom::fill(&mut bytes).is_err() {
            let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
            bytes = (now.as_nanos() as u64).to_le_bytes();
        }
        Self {
            options: options.clone(),
            address,
            page: page.to_owned(),
            instance: u64::from_le_bytes(bytes),
            log_secret,
            processes,
            ended,
        }
    }

    /// Goes on for ever.
    pub async fn run(mut self) {
        let patience = || Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut backoff = patience();
        let mut said = String::new();
        loop {
            let mut welcome = false;
            let broken = match rpc::connect(&self.options.master).await {
                Ok(channel) => {
                    let broken = self.attached(channel, &mut said, &mut welcome).await;
                    self.processes.lost_master();
                    broken
                }
                Err(why) => why,
            };
            // One that is refused would be again, soon.
            if welcome {
                backoff = patience();
            }
            // Once is enough, as long as it is the same.
            if broken != said {
                tracing::warn!("no master at {}: {broken}; trying again", self.options.master);
                said = broken;
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }

    fn hello(&self) -> v1::WorkerHello {
        let mut hello = v1::WorkerHello {
            protocol: rpc::PROTOCOL,
            address: self.address.clone(),
            page: self.page.clone(),
            cores: self.options.cores,
            memory: self.options.memory.0,
            instance: self.instance,
            log_secret: self.log_secret.as_bytes().to_vec(),
            executors: Vec::new(),
            drivers: Vec::new(),
            applications: self.processes.applications(),
        };
        for (name, room) in self.processes.all() {
            match name {
                Name::Executor { application, executor } => {
                    let executor = Some(v1::ExecutorName { application, executor });
                    hello.executors.push(v1::RunningExecutor { executor, room: Some(room) });
                }
                Name::Driver { driver, attempt } => {
                    let driver = Some(v1::DriverTry { driver, attempt });
                    hello.drivers.push(v1::RunningDriver { driver, room: Some(room) });
                }
            }
        }
        hello
    }

    /// One connection, from hello to its end; says how it ended.
    async fn attached(
        &mut self,
        channel: Channel,
        said: &mut String,
        welcomed: &mut bool,
    ) -> String {
        let mut master = MasterClient::new(channel).max_decoding_message_size(rpc::MAX_MESSAGE);
        let (send, reports) = mpsc::channel(REPORTS);
        // What ended before is told by what the hello doesn't list.
        while self.ended.try_recv().is_ok() {}
        if let Err(why) = tell(&send, Report::Hello(self.hello())).await {
            return why;
        }
        let commands = match master.attach_worker(ReceiverStream::new(reports)).await {
            Ok(commands) => commands,
            Err(status) => return rpc::words(&status),
        };
        let mut commands = commands.into_inner();
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        let mut told_draining = false;
        loop {
            let told = tokio::select! {
                command = commands.message() => match command {
                    Ok(Some(v1::WorkerCommand { command: Some(command) })) => {
                        if let Command::Welcome(welcome) = &command {
                            said.clear();
                            *welcomed = true;
                            self.processes.set_worker(welcome.worker, welcome.page.clone());
                            tracing::info!("registered as worker-{} with {}", welcome.worker, self.options.master);
                        }
                        self.obey(command, &master, &send).await
                    }
                    Ok(Some(_)) => Ok(()),
                    Ok(None) => Err("it closed the connection".to_owned()),
                    Err(status) => Err(rpc::words(&status)),
                },
                ended = self.ended.recv() => match ended {
                    Some(ended) => tell(&send, report(ended)).await,
                    None => Ok(()),
                },
                _ = heartbeat.tick() => tell(&send, Report::Heartbeat(v1::Heartbeat {})).await,
            };
            if let Err(why) = told {
                return why;
            }
            if self.processes.is_draining() && !told_draining {
                told_draining = true;
                if let Err(why) = tell(&send, Report::Draining(v1::Draining {})).await {
                    return why;
                }
            }
        }
    }

    async fn obey(
        &self,
        command: Command,
        master: &MasterClient<Channel>,
        send: &mpsc::Sender<v1::WorkerReport>,
    ) -> Result<(), String> {
        match command {
            Command::Welcome(_) => {}
            Command::LaunchExecutor(launch) => self.processes.start_executor(launch),
            Command::KillExecutor(v1::ExecutorName { application, executor }) => {
                self.kill(Name::Executor { application, executor }, send).await?;
            }
            Command::LaunchDriver(launch) => {
                let (processes, master) = (self.processes.clone(), master.clone());
                let component = launch.component.clone();
                // Meanwhile the connection goes on.
                let fetched = async move {
                    // Without it the driver says so itself.
                    if let Err(why) = keep(processes.compiler(), &component, master).await {
                        tracing::warn!("a driver's job: {why}");
                    }
                };
                self.processes.start_driver(launch, fetched);
            }
            Command::KillDriver(v1::DriverTry { driver, attempt }) => {
                self.kill(Name::Driver { driver, attempt }, send).await?;
            }
            Command::ForgetApplication(id) => {
                tokio::spawn(self.processes.clone().forget(id));
            }
        }
        Ok(())
    }
}

impl Connection {
    /// Ends a process, which is told when it has; at once if it isn't there.
    async fn kill(&self, name: Name, send: &mpsc::Sender<v1::WorkerReport>) -> Result<(), String> {
        if self.processes.kill(&name) {
            return Ok(());
        }
        let reason = "it wasn't there".to_owned();
        tell(send, report(Ended { name, outcome: Outcome::Failed, reason })).await
    }
}

async fn tell(send: &mpsc::Sender<v1::WorkerReport>, report: Report) -> Result<(), String> {
    let report = v1::WorkerReport { report: Some(report) };
    send.send(report).await.map_err(|_| "it closed the connection".to_owned())
}

fn report(ended: Ended) -> Report {
    let Ended { name, outcome, reason } = ended;
    let (refused, expelled) = (outcome == Outcome::Refused, outcome == Outcome::Expelled);
    match name {
        Name::Executor { application, executor } => Report::ExecutorEnded(v1::ExecutorEnded {
            executor: Some(v1::ExecutorName { application, executor }),
            reason,
            refused,
            expelled,
        }),
        Name::Driver { driver, attempt } => Report::DriverEnded(v1::DriverEnded {
            driver: Some(v1::DriverTry { driver, attempt }),
            finished: outcome == Outcome::Finished,
            reason,
            refused,
            expelled,
        }),
    }
}

/// Makes sure that this worker has a component.
async fn keep(
    compiler: &Compiler,
    name: &[u8],
    mut master: MasterClient<Channel>,
) -> Result<(), String> {
    let fetch = async move {
        let chunks = master.fetch_component(v1::ComponentName { hash: name.to_vec() }).await;
        let chunks = chunks.map_err(|status| rpc::words(&status))?.into_inner();
        Ok(rpc::pieces(chunks, |why| why))
    };
    compiler.keep(hash(name)?, fetch).await
}
