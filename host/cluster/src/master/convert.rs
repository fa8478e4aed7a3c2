//! Messages as the core's words, and back. What a peer says is checked here.

use crate::rpc::shown;
use ingle_core::ids::{ExecutorId, WorkerId};
use ingle_core::master::{
    AppId, AppNews, AppSpec, AppState, AppStatus, DriverId, DriverSpec, DriverStatus, DriverTry,
    Event, ExecutorName, Room, WorkerHello, WorkerOrder, WorkerStatus,
};
use ingle_proto::v1;
use ingle_proto::v1::application_command::{self, Command as AppCommand};
use ingle_proto::v1::application_report::Report as AppReport;
use ingle_proto::v1::worker_command::Command as WorkerCommand;
use ingle_proto::v1::worker_report::Report as WorkerReport;
use tonic::Status;

use crate::rpc::Secret;

/// Names of one hello; more are those of no worker.
const MAX_NAMES: usize = 20_000;

fn bad(what: &str) -> Status {
    Status::invalid_argument(format!("a message lacks its {what}"))
}

pub fn app_id(text: &str) -> Result<AppId, Status> {
    text.parse().map_err(|()| {
        Status::invalid_argument(format!("`{}` is no id of an application", shown(text)))
    })
}

pub fn driver_id(text: &str) -> Result<DriverId, Status> {
    text.parse()
        .map_err(|()| Status::invalid_argument(format!("`{}` is no id of a driver", shown(text))))
}

fn executor_name(name: Option<v1::ExecutorName>) -> Result<ExecutorName, Status> {
    let name = name.ok_or_else(|| bad("executor"))?;
    Ok((app_id(&name.application)?, ExecutorId(name.executor)))
}

fn driver_try(driver: Option<v1::DriverTry>) -> Result<DriverTry, Status> {
    let driver = driver.ok_or_else(|| bad("driver"))?;
    Ok((driver_id(&driver.driver)?, driver.attempt))
}

fn driver_message((driver, attempt): DriverTry) -> v1::DriverTry {
    v1::DriverTry { driver: driver.to_string(), attempt }
}

fn room(room: Option<v1::Room>) -> Room {
    let v1::Room { cores, memory } = room.unwrap_or_default();
    Room { cores, memory }
}

fn executor_message((app, executor): ExecutorName) -> v1::ExecutorName {
    v1::ExecutorName { application: app.to_string(), executor: executor.0 }
}

pub fn worker_hello(hello: v1::WorkerHello) -> Result<WorkerHello, Status> {
    let names = hello.executors.len().max(hello.drivers.len()).max(hello.applications.len());
    if names > MAX_NAMES {
        return Err(Status::invalid_argument("that is more than a worker can run"));
    }
    let executor =
        |running: v1::RunningExecutor| Ok((executor_name(running.executor)?, room(running.room)));
    let driver = |running: v1::RunningDriver| Ok((driver_try(running.driver)?, room(running.room)));
    Ok(WorkerHello {
        address: hello.address,
        page: hello.page,
        cores: hello.cores,
        memory: hello.memory,
        instance: hello.instance,
        // No more is kept of it than a secret has.
        log_secret: Secret::from_bytes(hello.log_secret)
            .map(|secret| secret.as_bytes().to_vec())
            .unwrap_or_default(),
        executors: hello.executors.into_iter().map(executor).collect::<Result<_, Status>>()?,
        drivers: hello.drivers.into_iter().map(driver).collect::<Result<_, Status>>()?,
        applications: hello.applications.iter().map(|a| app_id(a)).collect::<Result<_, _>>()?,
    })
}

/// What a worker reports; none if it is nothing to decide about.
pub fn worker_event(worker: WorkerId, report: WorkerReport) -> Result<Option<Event>, Status> {
    Ok(Some(match report {
        WorkerReport::Heartbeat(_) => Event::Heartbeat { worker },
        WorkerReport::ExecutorEnded(ended) => {
            let v1::ExecutorEnded { executor, reason, refused, expelled } = ended;
            let executor = executor_name(executor)?;
            match (expelled, refused) {
                (true, _) => Event::ExecutorExpelled { worker, executor, reason },
                (false, true) => Event::ExecutorRefused { worker, executor, reason },
                (false, false) => Event::ExecutorEnded { worker, executor, reason },
            }
        }
        WorkerReport::DriverEnded(ended) => {
            let v1::DriverEnded { driver, finished, reason, refused, expelled } = ended;
            let driver = driver_try(driver)?;
            match (expelled && !finished, refused && !finished) {
                (true, _) => Event::DriverExpelled { worker, driver, reason },
                (false, true) => Event::DriverRefused { worker, driver, reason },
                (false, false) => Event::DriverEnded { worker, driver, finished, reason },
            }
        }
        WorkerReport::Draining(_) => Event::WorkerDraining { worker },
        WorkerReport::Hello(_) => return Ok(None),
    }))
}

/// `page` is where the master's is; `secrets` are those of a driver that is launched.
pub fn worker_command(
    order: WorkerOrder,
    page: &str,
    secrets: Option<v1::Secrets>,
) -> v1::WorkerCommand {
    let command = match order {
        WorkerOrder::Welcome(id) => {
            let page = page.to_owned();
            WorkerCommand::Welcome(v1::WorkerWelcome { worker: id.0, page })
        }
        WorkerOrder::LaunchExecutor { executor, cores, memory, driver_address, secret, driver } => {
            WorkerCommand::LaunchExecutor(v1::LaunchExecutor {
                executor: Some(executor_message(executor)),
                cores,
                memory,
                driver_address,
                secret,
                driver: driver.map(|driver| driver.to_string()).unwrap_or_default(),
            })
        }
        WorkerOrder::KillExecutor(name) => WorkerCommand::KillExecutor(executor_message(name)),
        WorkerOrder::LaunchDriver { driver, spec } => {
            WorkerCommand::LaunchDriver(v1::LaunchDriver {
                driver: Some(driver_message(driver)),
                cores: spec.cores,
                memory: spec.memory,
                component: spec.component,
                submission: spec.submission,
                proof: spec.proof,
                secrets,
            })
        }
        WorkerOrder::KillDriver(driver) => WorkerCommand::KillDriver(driver_message(driver)),
        WorkerOrder::ForgetApp(app) => WorkerCommand::ForgetApplication(app.to_string()),
    };
    v1::WorkerCommand { command: Some(command) }
}

pub fn app_spec(hello: &v1::ApplicationHello) -> Result<AppSpec, Status> {
    let driver = match hello.driver.as_str() {
        "" => None,
        driver => Some(driver_id(driver)?),
    };
    // The master knows an application by its secret, so nobody goes without.
    if Secret::from_bytes(hello.secret.clone()).is_none() {
        return Err(bad("secret"));
    }
    Ok(AppSpec {
        name: hello.name.clone(),
        driver_address: hello.driver_address.clone(),
        secret: hello.secret.clone(),
        executor_cores: hello.executor_cores,
        executor_memory: hello.executor_memory,
        total_executor_cores: hello.total_executor_cores,
        num_executors: hello.num_executors,
        spread_out: hello.spread_out,
        dynamic: hello.dynamic,
        driver,
        driver_proof: hello.driver_proof.clone(),
    })
}

/// What an application reports; none if it is nothing to decide about.
pub fn app_event(app: AppId, report: AppReport) -> Option<Event> {
    Some(match report {
        AppReport::Registered(executor) => {
            Event::ExecutorRegistered { executor: (app, ExecutorId(executor)) }
        }
        AppReport::Wants(executors) => Event::AppWants { app, executors },
        AppReport::Releases(executor) => {
            Event::AppReleases { executor: (app, ExecutorId(executor)) }
        }
        AppReport::Exclude(exclude) => {
            let workers = exclude.workers.into_iter().map(WorkerId).collect();
            Event::AppExcludes { app, workers }
        }
        AppReport::Ended(ended) => {
            Event::AppEnded { app, failure: Some(ended.failure).filter(|text| !text.is_empty()) }
        }
        AppReport::Hello(_) => return None,
    })
}

pub fn app_command(news: AppNews) -> v1::ApplicationCommand {
    let command = match news {
        AppNews::Welcome(id) => AppCommand::Welcome(id.to_string()),
        AppNews::Granted { executor, worker, worker_address, cores } => {
            AppCommand::Granted(application_command::Granted {
                executor: executor.0,
                worker: worker.0,
                worker_address,
                cores,
            })
        }
        AppNews::Has(executors) => AppCommand::Has(application_command::Has {
            executors: executors.into_iter().map(|executor| executor.0).collect(),
        }),
        AppNews::Lost { executor, reason } => {
            AppCommand::Lost(application_command::Lost { executor: executor.0, reason })
        }
        AppNews::WorkerLost { worker, reason } => {
            AppCommand::WorkerLost(application_command::WorkerGone { worker: worker.0, reason })
        }
        AppNews::WorkerDraining(worker) => AppCommand::WorkerDraining(worker.0),
        AppNews::Waits(text) => AppCommand::Waits(text),
        AppNews::Over(text) => AppCommand::Over(text),
    };
    v1::ApplicationCommand { command: Some(command) }
}

/// `proof` is the driver's own, by which its process shows that it is that.
pub fn driver_spec(
    request: v1::SubmitDriverRequest,
    proof: &Secret,
    has_secrets: bool,
) -> DriverSpec {
    DriverSpec {
        name: request.name,
        cores: request.cores,
        memory: request.memory,
        supervise: request.supervise,
        component: request.component,
        submission: request.submission,
        proof: proof.as_bytes().to_vec(),
        has_secrets,
    }
}

pub fn app_status(status: &AppStatus) -> v1::StatusReply {
    v1::StatusReply {
        id: status.id.to_string(),
        name: status.name.clone(),
        state: status.state.to_string(),
        text: status.text.clone(),
        other: status.driver.map(|id| id.to_string()).unwrap_or_default(),
        worker: String::new(),
        executors: status.executors.iter().map(|(id, _)| id.0).collect(),
        over: status.state.is_over(),
    }
}

pub fn driver_status(status: &DriverStatus) -> v1::StatusReply {
    v1::StatusReply {
        id: status.id.to_string(),
        name: status.name.clone(),
        state: status.state.to_string(),
        text: status.text.clone(),
        other: status.app.map(|id| id.to_string()).unwrap_or_default(),
        worker: status.worker.map(|id| id.to_string()).unwrap_or_default(),
        executors: Vec::new(),
        over: status.state.is_over(),
    }
}

/// What there is to say about an application or a driver, in a line.
pub fn explained(id: &str, name: &str, state: &str, text: &str) -> String {
    let text = if text.is_empty() { String::new() } else { format!(": {text}") };
    format!("{id} ({name}) is {state}{text}")
}

pub fn app_row(status: &AppStatus) -> v1::list_applications_reply::Application {
    let live = !AppState::is_over(status.state);
    v1::list_applications_reply::Application {
        id: status.id.to_string(),
        name: status.name.clone(),
        state: status.state.to_string(),
        executors: if live { status.executors.len() as u32 } else { 0 },
        cores: if live { status.cores } else { 0 },
        memory_per_executor: status.executor_memory,
        text: status.text.clone(),
    }
}

pub fn worker_row(status: WorkerStatus) -> v1::list_workers_reply::Worker {
    v1::list_workers_reply::Worker {
        id: status.id.0,
        address: status.address,
        state: status.state.to_owned(),
        cores: status.cores,
        cores_used: status.cores_used,
        memory: status.memory,
        memory_used: status.memory_used,
        executors: status.executors as u32,
        drivers: status.drivers as u32,
    }
}
