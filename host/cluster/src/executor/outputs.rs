//! Where a shuffle's outputs are, as the driver says.

use std::sync::Arc;

use ingle_blocks::{MapOutput, Place};
use ingle_core::ids::{ExecutorId, WorkerId};
use ingle_proto::v1;

use super::fetch::{Fetcher, Workers};

/// Where a shuffle's outputs are.
#[derive(Clone)]
pub struct Outputs {
    /// By task.
    pub outputs: Arc<[MapOutput]>,
    /// Who made each.
    pub makers: Vec<ExecutorId>,
    /// Brings those that are on other workers, which are named by their places in its list.
    pub fetcher: Option<Fetcher>,
}

impl Outputs {
    /// What a message says of all outputs, or what it changes of what was said before. None if it makes no sense.
    pub fn told(
        message: &v1::MapOutputs,
        before: Option<&Self>,
        here: &str,
        ways: Option<&Arc<Workers>>,
    ) -> Option<Self> {
        let firsts = message.attempt.is_empty();
        let lengths = [message.attempt.len(), message.task.len()];
        if lengths.iter().any(|length| *length != 0 && *length != message.maker.len()) {
            return None;
        }
        let is_all = message.task.is_empty();
        let (mut outputs, mut makers, mut workers) = match before {
            _ if is_all => (Vec::new(), Vec::new(), Vec::new()),
            Some(before) => {
                let workers = before.fetcher.as_ref().map(|fetcher| fetcher.workers.to_vec());
                let makers = before.makers.clone();
                (before.outputs.to_vec(), makers, workers.unwrap_or_default())
            }
            None => return None,
        };
        let places: Vec<Place> =
            message.makers.iter().map(|maker| place(maker, here, &mut workers)).collect();
        for (at, maker) in message.maker.iter().enumerate() {
            let place = *places.get(*maker as usize)?;
            let maker = ExecutorId(message.makers.get(*maker as usize)?.executor);
            let attempt = if firsts { 0 } else { *message.attempt.get(at)? };
            if is_all {
                let map = u32::try_from(at).ok()?;
                outputs.push(MapOutput { map, attempt, place });
                makers.push(maker);
            } else {
                let map = *message.task.get(at)?;
                *outputs.get_mut(map as usize)? = MapOutput { map, attempt, place };
                *makers.get_mut(map as usize)? = maker;
            }
        }
        let fetcher = ways.map(|ways| Fetcher { ways: ways.clone(), workers: workers.into() });
        Some(Self { outputs: outputs.into(), makers, fetcher })
    }
}

/// Where a maker's outputs are, by the worker's place in a list that it is added to if need be.
fn place(
    maker: &v1::map_outputs::Maker,
    here: &str,
    workers: &mut Vec<(WorkerId, String)>,
) -> Place {
    if maker.worker == here {
        return Place::Here;
    }
    let id = WorkerId(maker.worker_id);
    let known = workers.iter().position(|(known, _)| *known == id);
    Place::At(known.unwrap_or_else(|| {
        workers.push((id, maker.worker.clone()));
        workers.len() - 1
    }))
}

#[cfg(test)]
mod tests {
    use ingle_core::memory::MemoryPool;
    use ingle_core::size::ByteSize;
    use ingle_proto::v1::map_outputs::Maker;
    use tokio::runtime::Runtime;

    use super::*;
    use crate::rpc::Secret;

    fn maker(executor: u32, worker: u32) -> Maker {
        Maker { executor, worker: format!("w{worker}:1"), worker_id: worker }
    }

    fn all() -> v1::MapOutputs {
        v1::MapOutputs {
            stage: 1,
            makers: vec![maker(5, 1), maker(6, 2), maker(7, 2)],
            maker: vec![0, 1, 2, 1],
            ..v1::MapOutputs::default()
        }
    }

    #[test]
    fn what_changes_is_told_of_what_was_before() {
        let runtime = Runtime::new().unwrap();
        let secret = Secret::random().unwrap().sender().unwrap();
        let ways = Arc::new(Workers::new(
            "app".into(),
            secret,
            crate::rpc::Way::default(),
            runtime.handle().clone(),
            MemoryPool::new(ByteSize(1 << 20)),
        ));
        let told = |message: &v1::MapOutputs, before: Option<&Outputs>| {
            Outputs::told(message, before, "w1:1", Some(&ways))
        };
        let shown = |outputs: &Outputs| -> Vec<(u32, u32, String)> {
            let workers = &outputs.fetcher.as_ref().unwrap().workers;
            let place = |place| match place {
                Place::Here => "here".to_owned(),
                Place::At(at) => workers[at].0.to_string(),
            };
            let rows = outputs.outputs.iter().zip(&outputs.makers);
            let rows = rows.enumerate().map(|(at, (output, maker))| {
                assert_eq!(output.map as usize, at);
                (output.attempt, maker.0, place(output.place))
            });
            rows.collect()
        };
        let row = |attempt, maker, place: &str| (attempt, maker, place.to_owned());
        let before = told(&all(), None).unwrap();
        let (a, b) = (row(0, 5, "here"), row(0, 6, "worker-2"));
        assert_eq!(shown(&before), [a.clone(), b.clone(), row(0, 7, "worker-2"), b.clone()]);
        // Another process at the same address.
        let other = Maker { worker_id: 3, ..maker(8, 2) };
        let change = v1::MapOutputs {
            stage: 1,
            makers: vec![other, maker(5, 1)],
            maker: vec![0, 1],
            attempt: vec![2, 1],
            task: vec![2, 3],
        };
        let after = told(&change, Some(&before)).unwrap();
        assert_eq!(shown(&after), [a, b, row(2, 8, "worker-3"), row(1, 5, "here")]);

        let nonsense = [
            v1::MapOutputs { maker: vec![3], task: vec![0], ..all() },
            v1::MapOutputs { maker: vec![0], task: vec![4], ..all() },
            v1::MapOutputs { attempt: vec![1], ..all() },
            v1::MapOutputs { task: vec![1], ..all() },
        ];
        for message in nonsense {
            assert!(told(&message, Some(&before)).is_none(), "{message:?}");
        }
        assert!(told(&change, None).is_none(), "a change of nothing");
    }
}
