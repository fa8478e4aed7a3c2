//! What settings mean for the scheduler of a job on a cluster.

use std::time::Duration;

use ingle_cluster::{DynamicPolicy, Exclusion, MinRegistered, Policy, Speculation};

use crate::exit::Failure;
use crate::settings::{self, Settings};

/// What the scheduler decides by.
pub fn policy(settings: &Settings) -> Result<Policy, Failure> {
    let speculation = settings.switch(settings::SPECULATION, false)?;
    let (quantile, multiplier) =
        (settings.number(settings::QUANTILE, 0.0)?, settings.number(settings::MULTIPLIER, 1.0)?);
    if quantile.is_some_and(|quantile| quantile > 1.0) {
        return Err(Failure::usage(format!("{} is more than 1", settings::QUANTILE)));
    }
    let usual = Speculation::default();
    let speculation = speculation.then(|| Speculation {
        quantile: quantile.unwrap_or(usual.quantile),
        multiplier: multiplier.unwrap_or(usual.multiplier),
        ..usual
    });
    let usual = Exclusion::default();
    // A worker whose disk is full is no use to anybody; that tasks fail may be the job's own fault.
    let max_task_failures_per_executor = match settings.switch(settings::EXCLUDE, false)? {
        true => usual.max_task_failures_per_executor,
        false => u32::MAX,
    };
    let timeout = settings.number(settings::EXCLUDE_TIMEOUT, 1.0)?;
    let timeout = timeout.map_or(usual.timeout, |s| Duration::from_secs_f64(s.min(1e9)));
    let exclusion = Exclusion { max_task_failures_per_executor, timeout, ..usual };
    let wait = settings.number(settings::LOCALITY_WAIT, 0.0)?;
    let wait = wait.map(|s| Duration::from_secs_f64(s.min(1e9)));
    let usual = Policy::default();
    Ok(Policy {
        min_registered: min_registered(settings)?,
        locality_wait: wait.unwrap_or(usual.locality_wait),
        max_attempts: settings.count(settings::MAX_FAILURES)?.unwrap_or(4),
        speculation,
        exclusion: Some(exclusion),
        ..usual
    })
}

/// What must be there before the first task runs.
fn min_registered(settings: &Settings) -> Result<Option<MinRegistered>, Failure> {
    /// Spark's.
    const WAIT: Duration = Duration::from_secs(30);
    let at_most = settings.time(settings::MAX_REGISTERED_WAIT)?.unwrap_or(WAIT);
    let key = settings::MIN_REGISTERED;
    let ratio = settings.number(key, 0.0)?.unwrap_or(0.0);
    if ratio > 1.0 {
        return Err(Failure::usage(format!("{key} is more than 1")));
    }
    if ratio == 0.0 {
        return Ok(None);
    }
    if settings.switch(settings::DYNAMIC, false)? {
        return Err(Failure::usage(format!(
            "{key} waits for executors, and with {} they come when tasks do; set one of both",
            settings::DYNAMIC
        )));
    }
    let count = |key| settings.count(key).map(|n| n.map(u64::from));
    let (total, instances, each) = (
        count(settings::TOTAL_CORES)?,
        count(settings::INSTANCES)?,
        count(settings::EXECUTOR_CORES)?,
    );
    // Executors are whole.
    let total = total.map(|total| total - total % each.unwrap_or(1).min(total));
    let by_number = instances.zip(each).map(|(instances, each)| instances * each);
    let Some(cores) = total.into_iter().chain(by_number).min() else {
        return Err(Failure::usage(format!(
            "{key} is a share of the cores that are asked for, and none are: give --total-executor-cores, or --num-executors with --executor-cores"
        )));
    };
    Ok(Some(MinRegistered { slots: (cores as f64 * ratio).ceil() as u64, at_most }))
}

/// How many executors there are, if that follows the tasks.
pub fn dynamic(settings: &Settings) -> Result<Option<DynamicPolicy>, Failure> {
    let whole = |key| settings.number(key, 0.0).map(|n| n.map(|n| n.min(1e6) as u32));
    let usual = DynamicPolicy::default();
    let idle = settings.number(settings::DYNAMIC_IDLE, 0.1)?;
    let policy = DynamicPolicy {
        min: whole(settings::DYNAMIC_MIN)?.unwrap_or(usual.min),
        max: whole(settings::DYNAMIC_MAX)?.unwrap_or(usual.max),
        initial: whole(settings::DYNAMIC_INITIAL)?.unwrap_or(usual.initial),
        idle_timeout: idle.map_or(usual.idle_timeout, |s| Duration::from_secs_f64(s.min(1e9))),
        ..usual
    };
    if policy.max == 0 || policy.min > policy.max {
        return Err(Failure::usage(format!(
            "{} must be at least 1, and not less than {}",
            settings::DYNAMIC_MAX,
            settings::DYNAMIC_MIN
        )));
    }
    Ok(settings.switch(settings::DYNAMIC, false)?.then_some(policy))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[&str]) -> Settings {
        let pairs: Vec<_> = pairs.iter().map(|pair| (*pair).to_owned()).collect();
        Settings::gather(None, &pairs).unwrap()
    }

    #[test]
    fn settings_reach_the_schedulers_policy() {
        let usual = policy(&settings(&[])).unwrap();
        assert!(usual.speculation.is_none(), "off unless asked for");
        let exclusion = usual.exclusion.unwrap();
        assert_eq!(exclusion.max_task_failures_per_executor, u32::MAX, "that of full disks stays");
        let asked = policy(&settings(&[
            "ingle.locality.wait=0.5",
            "ingle.speculation=true",
            "ingle.speculation.quantile=0.5",
            "ingle.speculation.multiplier=2",
            "ingle.excludeOnFailure.enabled=true",
            "ingle.excludeOnFailure.timeout=7",
            "ingle.task.maxFailures=9",
        ]));
        let asked = asked.unwrap();
        assert_eq!(
            (usual.locality_wait, asked.locality_wait),
            (Duration::from_secs(3), Duration::from_millis(500))
        );
        let speculation = asked.speculation.unwrap();
        assert_eq!((speculation.quantile, speculation.multiplier), (0.5, 2.0));
        let exclusion = asked.exclusion.unwrap();
        let usual = Exclusion::default().max_task_failures_per_executor;
        assert_eq!(exclusion.max_task_failures_per_executor, usual);
        assert_eq!((exclusion.timeout, asked.max_attempts), (Duration::from_secs(7), 9));
        assert!(policy(&settings(&["ingle.speculation.quantile=1.5"])).is_err());
    }

    #[test]
    fn a_share_of_the_cores_that_are_asked_for_is_waited_for() {
        let waits = |ratio: &str, others: &[&str]| {
            let ratio = format!("ingle.scheduler.minRegisteredResourcesRatio={ratio}");
            let pairs: Vec<_> =
                [ratio.as_str()].into_iter().chain(others.iter().copied()).collect();
            policy(&settings(&pairs)).map(|policy| policy.min_registered.map(|w| w.slots))
        };
        let total = "ingle.cores.max=7";
        let (each, number) = ("ingle.executor.cores=2", "ingle.executor.instances=2");
        assert_eq!(waits("0", &[]), Ok(None));
        assert_eq!(waits("1", &[total]), Ok(Some(7)));
        assert_eq!(waits("0.5", &[total]), Ok(Some(4)), "half a core more");
        assert_eq!(waits("1", &[total, each]), Ok(Some(6)), "three whole executors");
        assert_eq!(waits("1", &[total, each, number]), Ok(Some(4)));
        assert_eq!(waits("1", &[each, number]), Ok(Some(4)));
        for (ratio, others) in [
            ("1.1", &[total][..]),
            ("-1", &[total]),
            ("NaN", &[total]),
            ("1", &[]),
            ("1", &[number]),
            ("1", &[total, "ingle.dynamicAllocation.enabled=true"]),
            ("1", &[total, "ingle.scheduler.maxRegisteredResourcesWaitingTime=0"]),
        ] {
            assert!(waits(ratio, others).is_err(), "{ratio} {others:?}");
        }
        let wait = ["ingle.scheduler.minRegisteredResourcesRatio=1", total];
        let usual = policy(&settings(&wait)).unwrap().min_registered.unwrap();
        assert_eq!(usual.at_most, Duration::from_secs(30));
    }

    #[test]
    fn settings_reach_dynamic_allocation() {
        assert!(dynamic(&settings(&[])).unwrap().is_none(), "off unless asked for");
        let name = |key: &str| format!("ingle.dynamicAllocation.{key}");
        let pairs = [
            name("enabled=true"),
            name("minExecutors=2"),
            name("maxExecutors=5"),
            name("initialExecutors=3"),
            name("executorIdleTimeout=1.5"),
        ];
        let pairs: Vec<_> = pairs.iter().map(String::as_str).collect();
        let asked = dynamic(&settings(&pairs)).unwrap().unwrap();
        assert_eq!((asked.min, asked.max, asked.initial), (2, 5, 3));
        assert_eq!(asked.idle_timeout, Duration::from_millis(1500));
        let bad = [name("minExecutors=4"), name("maxExecutors=3")];
        let bad: Vec<_> = bad.iter().map(String::as_str).collect();
        assert!(dynamic(&settings(&bad)).is_err());
    }
}
