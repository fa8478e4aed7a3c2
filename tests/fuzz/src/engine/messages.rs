//! Every message of `proto/`, as whatever bytes a peer sends; and what it is turned into.

use std::sync::Arc;

use ingle_cluster::fuzzing as host;
use ingle_cluster::fuzzing::Message;
use ingle_cluster::{AccessSpec, component_hash};
use ingle_core::ids::WorkerId;
use ingle_core::master::AppId;
use ingle_core::scheduler::Outcome;
use ingle_proto::v1;
use ingle_proto::v1::application_report::Report as AppReport;
use ingle_proto::v1::executor_command::Command;
use ingle_proto::v1::executor_report::Report;
use ingle_proto::v1::worker_report::Report as WorkerReport;

/// What is left of a message that is read.
type Read = fn(&[u8]);

/// Decodes; what means something must mean the same when it is sent on.
fn read<M: Message + Default + PartialEq + Clone>(bytes: &[u8]) -> Option<M> {
    let message = M::decode(bytes).ok()?;
    let sent = message.encode_to_vec();
    assert!(M::decode(&*sent).is_ok_and(|again| again == message), "it changed on its way");
    Some(message)
}

fn plain<M: Message + Default + PartialEq + Clone>(bytes: &[u8]) {
    let _ = read::<M>(bytes);
}

/// By message. New ones come last, so that inputs go on meaning what they do.
const MESSAGES: &[Read] = &[
    |bytes| {
        let reports: Option<v1::ExecutorReports> = read(bytes);
        let reports = reports.into_iter().flat_map(|r| host::Reported::new(r.reports));
        reports.flatten().for_each(report);
    },
    |bytes| {
        let commands: Option<v1::ExecutorCommands> = read(bytes);
        let Some(commands) = commands else { return };
        if let Some(welcome) = commands.welcome {
            let _ = host::shuffle_compression(welcome.compression());
            let _ = component_hash(&welcome.component);
        }
        commands.commands.into_iter().for_each(command);
    },
    |bytes| {
        if let Some(access) = read::<v1::Access>(bytes) {
            let spec = AccessSpec::from_message(access);
            // What was granted can be passed on.
            let sent = spec.to_message().expect("all of it was text");
            let again = AccessSpec::from_message(sent);
            assert!(again.net.iter().zip(&spec.net).all(|(a, b)| a.addresses == b.addresses));
            assert_eq!(again.net.len(), spec.net.len());
        }
    },
    |bytes| {
        if let Some(hello) = read::<v1::WorkerHello>(bytes) {
            let _ = host::worker_hello(hello);
        }
    },
    |bytes| {
        let report: Option<v1::WorkerReport> = read(bytes);
        let Some(report) = report.and_then(|r| r.report) else { return };
        if let WorkerReport::Hello(hello) = &report {
            let _ = host::worker_hello(hello.clone());
        }
        let _ = host::worker_event(WorkerId(1), report);
    },
    |bytes| {
        let report: Option<v1::ApplicationReport> = read(bytes);
        let Some(report) = report.and_then(|r| r.report) else { return };
        if let AppReport::Hello(hello) = &report {
            let _ = (host::app_spec(hello), host::app_id(&hello.id));
        }
        let _ = host::app_event(AppId::new(0, 1), report);
    },
    |bytes| {
        if let Some(request) = read::<v1::SubmitDriverRequest>(bytes) {
            let _ = component_hash(&request.component);
            if let Some(proof) = host::Secret::from_bytes(vec![7; 32]) {
                let _ = host::driver_spec(request, &proof, true);
            }
        }
    },
    |bytes| {
        if let Some(request) = read::<v1::IdRequest>(bytes) {
            let _ = (host::named(&request.id), host::app_id(&request.id));
            let _ = host::driver_id(&request.id);
        }
    },
    |bytes| {
        let told = bytes.chunks(1 + bytes.len() / 2).filter_map(read::<v1::MapOutputs>);
        let told: Vec<_> = told.collect();
        let said: usize = told.iter().map(|outputs| outputs.maker.len()).sum();
        assert!(host::outputs(&told).unwrap_or(0) <= said, "outputs that nobody told of");
    },
    |bytes| {
        if let Some(described) = read::<v1::OutputDescription>(bytes) {
            let _ = host::parts(&described);
        }
    },
    |bytes| {
        if let Some(message) = read::<v1::SourceDescription>(bytes) {
            source(message);
        }
    },
    |bytes| {
        if let Some(end) = read::<v1::TaskEnd>(bytes) {
            self::end(end);
        }
    },
    |bytes| {
        if let Some(used) = read::<v1::ExecutorUse>(bytes) {
            for usage in [used.now, used.most, used.at_peak] {
                let _ = host::usage(usage).total();
            }
        }
    },
    plain::<v1::Chunk>,
    plain::<v1::GetAccessRequest>,
    plain::<v1::FetchComponentRequest>,
    plain::<v1::FetchPiecesRequest>,
    plain::<v1::RegisterExecutor>,
    plain::<v1::StageDescription>,
    plain::<v1::ImageManifest>,
    plain::<v1::Ask>,
    plain::<v1::Handed>,
    plain::<v1::ReportUseRequest>,
    plain::<v1::ReportUseReply>,
    plain::<v1::FetchBlocksRequest>,
    plain::<v1::BlockPart>,
    plain::<v1::ReadLogRequest>,
    plain::<v1::LogPart>,
    plain::<v1::ExecutorConfig>,
    plain::<v1::DriverConfig>,
    plain::<v1::CompileConfig>,
    plain::<v1::Submission>,
    plain::<v1::Client>,
    plain::<v1::TextReply>,
    plain::<v1::ComponentName>,
    plain::<v1::HasComponentReply>,
    plain::<v1::ComponentChunk>,
    plain::<v1::UploadComponentReply>,
    plain::<v1::WorkerCommand>,
    plain::<v1::ApplicationCommand>,
    plain::<v1::SubmitDriverReply>,
    plain::<v1::StatusReply>,
    plain::<v1::ListApplicationsReply>,
    plain::<v1::ListWorkersReply>,
    |bytes| {
        let (one, two) = bytes.split_at(bytes.len() / 2);
        assert_eq!(asked(&[bytes]), asked(&[one, two]), "it depends on how the bytes came");
    },
];

/// What a process asked of its worker, up to what makes no sense.
fn asked(pieces: &[&[u8]]) -> (Vec<v1::Ask>, Option<String>) {
    let (mut messages, mut all) = (host::Messages::default(), Vec::new());
    for piece in pieces {
        messages.add(piece);
        loop {
            match messages.take() {
                Ok(Some(ask)) => all.push(ask),
                Ok(None) => break,
                Err(why) => return (all, Some(why)),
            }
        }
    }
    (all, None)
}

pub fn run(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else { return };
    MESSAGES[usize::from(*which) % MESSAGES.len()](bytes);
}

fn report(report: v1::ExecutorReport) {
    match report.report {
        Some(Report::Ended(end)) => self::end(end),
        Some(Report::Part(part)) => drop(host::task_id(part.task)),
        _ => {}
    }
}

fn end(message: v1::TaskEnd) {
    let Ok(end) = host::task_end(message) else { return };
    assert!(end.stored.len() <= 1024, "more than is listened to");
    if let Outcome::Failed(failure) = end.outcome {
        drop(failure.message);
    }
}

fn source(message: v1::SourceDescription) {
    if let Ok(source) = host::source(message) {
        let parts = source.to_parts();
        let files: Arc<[_]> = parts.files.into();
        for (file, start, end) in parts.splits {
            let (_, length, _) = &files[file as usize];
            assert!(start <= end && end <= *length);
        }
    }
}

fn command(command: v1::ExecutorCommand) {
    match command.command {
        Some(Command::Source(message)) => source(message),
        Some(Command::Output(message)) => drop(host::parts(&message)),
        Some(Command::Cache(message)) => drop(host::level(message.level())),
        Some(Command::MapOutputs(bytes)) => MESSAGES[8](&bytes),
        Some(Command::Kill(task)) => drop(host::task_id(Some(task))),
        _ => {}
    }
}
