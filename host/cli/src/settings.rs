//! Settings: a properties file, `--conf`, and flags, the later ones winning; and what Ingle's own mean.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use ingle_cluster::{Compression, TaskTime};
use ingle_core::size::ByteSize;
use ingle_sandbox::Interrupt;

use crate::exit::Failure;
use crate::walls::Walls;

/// A properties file larger than this is some other file.
const MAX_FILE: u64 = 1 << 20;

pub const MASTER: &str = "ingle.master";
pub const NAME: &str = "ingle.app.name";
pub const EXECUTOR_MEMORY: &str = "ingle.executor.memory";
pub const EXECUTOR_CORES: &str = "ingle.executor.cores";
pub const DRIVER_MEMORY: &str = "ingle.driver.memory";
pub const DEPLOY_MODE: &str = "ingle.submit.deployMode";
pub const TOTAL_CORES: &str = "ingle.cores.max";
pub const INSTANCES: &str = "ingle.executor.instances";
pub const DRIVER_CORES: &str = "ingle.driver.cores";
pub const DRIVER_HOST: &str = "ingle.driver.host";
pub const DRIVER_PORT: &str = "ingle.driver.port";
pub const SPREAD_OUT: &str = "ingle.deploy.spreadOut";
pub const BROADCAST: &str = "ingle.join.broadcast.threshold";
pub const SKEW: &str = "ingle.join.skew.threshold";
pub const COALESCE: &str = "ingle.shuffle.coalesce.size";
pub const PARALLELISM: &str = "ingle.default.parallelism";
pub const COMPRESSION: &str = "ingle.shuffle.compression";
pub const LOCALITY_WAIT: &str = "ingle.locality.wait";
pub const MIN_REGISTERED: &str = "ingle.scheduler.minRegisteredResourcesRatio";
pub const MAX_REGISTERED_WAIT: &str = "ingle.scheduler.maxRegisteredResourcesWaitingTime";
pub const SPECULATION: &str = "ingle.speculation";
pub const QUANTILE: &str = "ingle.speculation.quantile";
pub const MULTIPLIER: &str = "ingle.speculation.multiplier";
pub const EXCLUDE: &str = "ingle.excludeOnFailure.enabled";
pub const EXCLUDE_TIMEOUT: &str = "ingle.excludeOnFailure.timeout";
pub const DYNAMIC: &str = "ingle.dynamicAllocation.enabled";
pub const DYNAMIC_MIN: &str = "ingle.dynamicAllocation.minExecutors";
pub const DYNAMIC_MAX: &str = "ingle.dynamicAllocation.maxExecutors";
pub const DYNAMIC_INITIAL: &str = "ingle.dynamicAllocation.initialExecutors";
pub const DYNAMIC_IDLE: &str = "ingle.dynamicAllocation.executorIdleTimeout";
pub const MAX_FAILURES: &str = "ingle.task.maxFailures";
pub const TASK_TIMEOUT: &str = "ingle.task.timeout";
pub const TASK_CPU_TIMEOUT: &str = "ingle.task.cpuTimeout";
pub const DRIVER_TIMEOUT: &str = "ingle.driver.timeout";
pub const EXECUTOR_DISK: &str = "ingle.executor.disk";
pub const TASK_OUTPUT: &str = "ingle.task.output.limit";
pub const REUSE: &str = "ingle.task.reuse";
pub const INTERRUPT: &str = "ingle.task.interrupt";
pub const CLOCK: &str = "ingle.clock.resolution";
pub const S3_ENDPOINT: &str = "ingle.s3.endpoint";
pub const S3_REGION: &str = "ingle.s3.region";
pub const S3_ACCESS_KEY: &str = "ingle.s3.access.key";
pub const S3_SECRET_KEY: &str = "ingle.s3.secret.key";
pub const S3_SESSION_TOKEN: &str = "ingle.s3.session.token";
pub const S3_PATH_STYLE: &str = "ingle.s3.path.style.access";
pub const LOCAL_DIR: &str = "ingle.local.dir";
pub const CACHE_DIR: &str = "ingle.cache.dir";
pub const WALLS: &str = "ingle.walls";
pub const REQUIRE_WALLS: &str = "ingle.walls.require";
pub const OVERSUBSCRIBE: &str = "ingle.local.oversubscribe";

/// Ingle's settings, and what they mean.
const KNOWN: &[(&str, &str)] = &[
    (MASTER, "as --master"),
    (NAME, "as --name"),
    (EXECUTOR_MEMORY, "as --executor-memory"),
    (EXECUTOR_CORES, "as --executor-cores"),
    (
        EXECUTOR_DISK,
        "what an executor may store of what is shuffled, spilled and cached, as 10g [default: its share of its worker's --disk, or 90 % of what is free]",
    ),
    (DRIVER_MEMORY, "as --driver-memory"),
    (DEPLOY_MODE, "as --deploy-mode"),
    (TOTAL_CORES, "as --total-executor-cores"),
    (INSTANCES, "as --num-executors"),
    (DRIVER_CORES, "as --driver-cores"),
    (
        DRIVER_HOST,
        "on a cluster, the address by which executors find the driver, and on which it listens [default: 127.0.0.1]",
    ),
    (DRIVER_PORT, "on a cluster, the port for that [default: any that is free]"),
    (
        SPREAD_OUT,
        "on a cluster, executors on as many workers as there are, else on as few: true or false [default: true]",
    ),
    (
        LOCALITY_WAIT,
        "on a cluster, for how many seconds tasks wait for an executor that holds what they read of a cached dataset [default: 3]",
    ),
    (
        MIN_REGISTERED,
        "on a cluster, which share of the cores that are asked for (--total-executor-cores, or --num-executors with --executor-cores) must be there before the first task runs, from 0 to 1 [default: 0]",
    ),
    (MAX_REGISTERED_WAIT, "how long that is waited for, as 30s [default: 30s]"),
    (SPECULATION, "on a cluster, copies of tasks that take long: true or false [default: false]"),
    (
        QUANTILE,
        "the share of a stage's tasks that must be done before any is copied [default: 0.9]",
    ),
    (MULTIPLIER, "how many times the median of those a task must take to be copied [default: 3]"),
    (
        EXCLUDE,
        "on a cluster, no more tasks for executors on which tasks of 2 partitions failed: true or false [default: false; a \
         worker whose disk is full is always excluded]",
    ),
    (EXCLUDE_TIMEOUT, "for how many seconds [default: 3600]"),
    (DYNAMIC, "on a cluster, executors come and go as tasks do: true or false [default: false]"),
    (DYNAMIC_MIN, "how many there are at least [default: 0]"),
    (DYNAMIC_MAX, "how many there are at most [default: no bound]"),
    (DYNAMIC_INITIAL, "how many there are at first [default: 0]"),
    (DYNAMIC_IDLE, "after how many idle seconds one goes [default: 60]"),
    (COMPRESSION, "how shuffle output is compressed: none, lz4 or zstd [default: lz4]"),
    (PARALLELISM, "partitions of wide operators where a job doesn't say [default: the task slots]"),
    (
        BROADCAST,
        "up to what size a join's side is sent to all tasks, so that nothing is shuffled; 0: none is [default: 10m]",
    ),
    (
        SKEW,
        "from what size on a partition of a join that is larger than others is computed by several tasks; 0: none is [default: 16m]",
    ),
    (
        COALESCE,
        "up to what size tiny partitions of an operator by key are computed by one task, and no more than a quarter of a slot's share; 0: none are [default: 4m]",
    ),
    (
        "ingle.text.invalid-utf8",
        "what becomes of text that isn't UTF-8: fail or replace [default: fail]",
    ),
    (MAX_FAILURES, "how often a task is tried before its job fails [default: 4]"),
    (
        TASK_TIMEOUT,
        "how long a try of a task may take, as 90s, 15m or 2h; it fails then, and only a task that ingle.task.interrupt can stop leaves its executor alone [default: no bound]",
    ),
    (TASK_CPU_TIMEOUT, "how much of a processor's time it may take [default: no bound]"),
    (
        TASK_OUTPUT,
        "what a task may write to an output, before compression, and to files of granted folders, together, as 10g [default: no bound]",
    ),
    (DRIVER_TIMEOUT, "how long a driver, and so its job, may take [default: no bound]"),
    (
        CLOCK,
        "in which steps a job's clocks tick, as 1ms, so that it can't time its neighbours as well [default: as fine as the host's]",
    ),
    (
        INTERRUPT,
        "where a task that is killed stops: calls (when it next asks its host for something; on a cluster its executor is replaced if it doesn't) or epoch (anywhere; its code runs slower) [default: calls]",
    ),
    (
        REUSE,
        "whether tasks of a stage share a sandbox, reset in between: true or false [default: true]",
    ),
    (
        S3_ENDPOINT,
        "where s3:// is, as http://HOST:PORT, if it isn't Amazon's [default: AWS_ENDPOINT_URL]",
    ),
    (S3_REGION, "its region [default: AWS_REGION, or us-east-1]"),
    (
        S3_ACCESS_KEY,
        "who reads and writes s3:// [default: AWS_ACCESS_KEY_ID, or nobody]; the job doesn't see these keys",
    ),
    (S3_SECRET_KEY, "their secret, better in a file [default: AWS_SECRET_ACCESS_KEY]"),
    (S3_SESSION_TOKEN, "of keys that end [default: AWS_SESSION_TOKEN, with AWS_ACCESS_KEY_ID]"),
    (
        S3_PATH_STYLE,
        "the bucket in the path, not in the host's name: true or false [default: true with an endpoint]",
    ),
    (
        LOCAL_DIR,
        "where a folder for shuffle output and spilled blocks is made [default: the system's folder for temporary files]",
    ),
    (CACHE_DIR, "where compiled jobs are kept [default: ~/.cache/ingle/code]"),
    (
        WALLS,
        "whether the process of rsubmit, where the job or its driver runs in it, gives up what that doesn't need before it does: on or off [default: on]; on a worker it always does",
    ),
    (REQUIRE_WALLS, "as --require-walls"),
    (
        OVERSUBSCRIBE,
        "more task slots or memory than this machine has: true or false [default: false]",
    ),
];

/// Settings by key, checked for those of Ingle that don't exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// Reads the properties file, if there is one, and then each `--conf`.
    pub fn gather(file: Option<&Path>, conf: &[String]) -> Result<Self, Failure> {
        let mut settings = Self::default();
        if let Some(path) = file {
            let shown = path.display();
            let length = std::fs::metadata(path).map(|m| m.len());
            let text = match length {
                Ok(length) if length > MAX_FILE => {
                    return Err(Failure::usage(format!(
                        "{shown} has {length} bytes: that is no properties file"
                    )));
                }
                _ => std::fs::read_to_string(path),
            };
            let text = text
                .map_err(|e| Failure::usage(format!("reading the properties file {shown}: {e}")))?;
            for (number, line) in (1..).zip(text.lines()) {
                if let Some((key, value)) = property(line) {
                    settings
                        .set(key, value)
                        .map_err(|e| Failure::usage(format!("{shown}, line {number}: {e}")))?;
                }
            }
        }
        for pair in conf {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(Failure::usage(format!(
                    "--conf {pair}: there is no `=`; write --conf KEY=VALUE"
                )));
            };
            settings
                .set(key.trim(), value)
                .map_err(|e| Failure::usage(format!("--conf {pair}: {e}")))?;
        }
        Ok(settings)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        check(key)?;
        self.0.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    /// A flag wins over what was set.
    pub fn override_with(&mut self, key: &'static str, flag: Option<&String>) {
        if let Some(value) = flag {
            self.0.insert(key.to_owned(), value.clone());
        }
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// A setting that is a switch.
    pub fn switch(&self, key: &str, default: bool) -> Result<bool, Failure> {
        match self.get(key) {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(other) => Err(Failure::usage(format!("{key} is `{other}`; it is true or false"))),
        }
    }

    /// How shuffle output is compressed.
    pub fn compression(&self) -> Result<Compression, Failure> {
        match self.get(COMPRESSION) {
            None | Some("lz4") => Ok(Compression::Lz4),
            Some("none") => Ok(Compression::None),
            Some("zstd") => Ok(Compression::Zstd),
            Some(other) => {
                Err(Failure::usage(format!("{COMPRESSION} is `{other}`; it is none, lz4 or zstd")))
            }
        }
    }

    /// What becomes of the walls of a process that runs the job, or its driver, without a worker.
    pub fn walls(&self) -> Result<Walls, Failure> {
        Walls::of(self.get(WALLS), self.get(REQUIRE_WALLS))
    }

    /// Where tasks that are killed stop.
    pub fn interrupt(&self) -> Result<Interrupt, Failure> {
        match self.get(INTERRUPT) {
            None | Some("calls") => Ok(Interrupt::Calls),
            Some("epoch") => Ok(Interrupt::Epoch),
            Some(other) => {
                Err(Failure::usage(format!("{INTERRUPT} is `{other}`; it is calls or epoch")))
            }
        }
    }

    /// In which steps a job's clocks tick.
    pub fn clock(&self) -> Result<Option<Duration>, Failure> {
        match self.time(CLOCK)? {
            Some(step) if step > Duration::from_secs(1) => {
                Err(Failure::usage(format!("{CLOCK} is {step:?}; at most a second may be")))
            }
            step => Ok(step),
        }
    }

    /// A setting that is a whole number of at least 1.
    pub fn count(&self, key: &str) -> Result<Option<u32>, Failure> {
        let Some(text) = self.get(key) else { return Ok(None) };
        match text.parse::<u32>() {
            Ok(0) | Err(_) => Err(Failure::usage(format!(
                "{key} is `{text}`; it is a whole number of at least 1"
            ))),
            Ok(count) => Ok(Some(count)),
        }
    }

    /// A setting that is a number of at least `least`.
    pub fn number(&self, key: &str, least: f64) -> Result<Option<f64>, Failure> {
        let Some(text) = self.get(key) else { return Ok(None) };
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() && number >= least => Ok(Some(number)),
            _ => Err(Failure::usage(format!(
                "{key} is `{text}`; it is a number of at least {least}"
            ))),
        }
    }

    /// A setting that is a time of more than nothing: a number, in seconds if no unit follows.
    pub fn time(&self, key: &str) -> Result<Option<Duration>, Failure> {
        let Some(text) = self.get(key) else { return Ok(None) };
        let time = time(text).filter(|time| !time.is_zero());
        let wrong =
            || Failure::usage(format!("{key} is `{text}`; it is a time, as 90s, 15m or 2h"));
        time.ok_or_else(wrong).map(Some)
    }

    /// A setting that is a size.
    pub fn size(&self, key: &str) -> Result<Option<ByteSize>, Failure> {
        let Some(text) = self.get(key) else { return Ok(None) };
        let size = text.parse().map_err(|error| {
            Failure::usage(format!("{key} is `{text}`; it is a size, as 10g: {error}"))
        });
        size.map(Some)
    }

    /// How long a try of a task may take.
    pub fn task_time(&self) -> Result<TaskTime, Failure> {
        let (wall, processor) = (self.time(TASK_TIMEOUT)?, self.time(TASK_CPU_TIMEOUT)?);
        Ok(TaskTime { wall, processor })
    }

    /// Checks those that the job reads: the words are better here than in the middle of its run.
    pub fn check_for_job(&self) -> Result<(), Failure> {
        self.count(PARALLELISM)?;
        for key in [BROADCAST, SKEW, COALESCE] {
            let Some(text) = self.get(key).filter(|text| text.trim() != "0") else { continue };
            text.parse::<ByteSize>().map_err(|error| {
                Failure::usage(format!("{key} is `{text}`; it is a size, or 0: {error}"))
            })?;
        }
        Ok(())
    }

    /// As they were in another process.
    pub fn from_map(map: BTreeMap<String, String>) -> Self {
        Self(map)
    }

    /// All that the job may see.
    pub fn into_map(mut self) -> BTreeMap<String, String> {
        self.0.retain(|key, _| !is_secret(key));
        self.0
    }

    /// All that may be seen.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let seen = self.0.iter().filter(|(key, _)| !is_secret(key));
        seen.map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

fn time(text: &str) -> Option<Duration> {
    let text = text.trim();
    let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86400.0)];
    let (number, seconds) = units
        .iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, *seconds)))
        .unwrap_or((text, 1.0));
    Duration::try_from_secs_f64(number.trim().parse::<f64>().ok()? * seconds).ok()
}

/// Keys of stores are for the host alone.
fn is_secret(key: &str) -> bool {
    key.starts_with("ingle.s3.")
}

/// Refuses settings that would silently do nothing.
fn check(key: &str) -> Result<(), String> {
    if key.is_empty() {
        return Err("a setting's name is empty".to_owned());
    }
    if let Some(rest) = key.strip_prefix("spark.") {
        let ours = format!("ingle.{rest}");
        let hint = if is_known(&ours) { format!("; Ingle's is {ours}") } else { String::new() };
        return Err(format!("{key} is a setting of Spark's, which does nothing here{hint}"));
    }
    if !key.starts_with("ingle.") || is_known(key) {
        return Ok(());
    }
    Err(format!("there is no setting {key}; there are{}", list()))
}

/// Ingle's settings, a line each.
pub fn list() -> String {
    KNOWN.iter().map(|(key, meaning)| format!("\n  {key}: {meaning}")).collect()
}

fn is_known(key: &str) -> bool {
    KNOWN.iter().any(|(known, _)| *known == key)
}

/// A line of a properties file, in any of the spellings that Spark's users know.
fn property(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with(['#', '!']) {
        return None;
    }
    let end = line.find(|c: char| c == '=' || c == ':' || c.is_whitespace()).unwrap_or(line.len());
    let (key, rest) = line.split_at(end);
    let rest = rest.trim_start();
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    Some((key, value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_read_in_every_spelling() {
        for line in ["a.b c d", "a.b=c d", "a.b = c d", "a.b: c d", "  a.b\t c d  "] {
            assert_eq!(property(line), Some(("a.b", "c d")), "{line}");
        }
        for line in ["", "   ", "# a b", "!a"] {
            assert_eq!(property(line), None, "{line}");
        }
        assert_eq!(property("a"), Some(("a", "")));
        assert_eq!(property("url=x=y:z"), Some(("url", "x=y:z")));
    }

    #[test]
    fn conf_wins_over_the_file_and_flags_over_both() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "ingle.executor.memory 1g\nmine 2\n").unwrap();
        let conf = ["ingle.executor.memory=2g".to_owned()];
        let mut settings = Settings::gather(Some(file.path()), &conf).unwrap();
        assert_eq!(settings.get(EXECUTOR_MEMORY), Some("2g"));
        assert_eq!(settings.get("mine"), Some("2"));
        settings.override_with(EXECUTOR_MEMORY, Some(&"3g".to_owned()));
        settings.override_with(EXECUTOR_MEMORY, None);
        assert_eq!(settings.get(EXECUTOR_MEMORY), Some("3g"));
    }

    #[test]
    fn settings_that_would_do_nothing_are_refused() {
        let refused = |pair: &str| Settings::gather(None, &[pair.to_owned()]).unwrap_err().text;
        assert!(refused("spark.executor.memory=4g").contains("Ingle's is ingle.executor.memory"));
        assert!(refused("spark.ui.port=1").ends_with("does nothing here"));
        assert!(refused("ingle.executor.mem=4g").contains("\n  ingle.executor.memory: as"));
        assert!(refused("novalue").contains("write --conf KEY=VALUE"));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "\n\ningle.nothing 1").unwrap();
        let text = Settings::gather(Some(file.path()), &[]).unwrap_err().text;
        assert!(text.contains(", line 3: there is no setting ingle.nothing"), "{text}");
    }

    #[test]
    fn the_job_sees_no_keys_of_stores() {
        let conf = ["mine=1".to_owned(), format!("{S3_SECRET_KEY}=x")];
        let settings = Settings::gather(None, &conf).unwrap();
        assert_eq!(settings.get(S3_SECRET_KEY), Some("x"));
        assert_eq!(settings.iter().collect::<Vec<_>>(), [("mine", "1")]);
        assert_eq!(settings.into_map().into_keys().collect::<Vec<_>>(), ["mine"]);
    }

    #[test]
    fn numbers_and_switches_are_checked() {
        let settings = Settings::gather(
            None,
            &["ingle.task.maxFailures=0".into(), "ingle.task.reuse=yes".into()],
        );
        let settings = settings.unwrap();
        assert!(settings.count(MAX_FAILURES).is_err() && settings.switch(REUSE, true).is_err());
        assert_eq!(settings.count(EXECUTOR_CORES), Ok(None));
        assert_eq!(settings.switch(OVERSUBSCRIBE, false), Ok(false));
    }

    #[test]
    fn times_have_units_and_are_never_nothing() {
        let time = |text: &str| {
            Settings::gather(None, &[format!("{TASK_TIMEOUT}={text}")]).unwrap().time(TASK_TIMEOUT)
        };
        let millis = |text| time(text).unwrap().unwrap().as_millis();
        assert_eq!((millis("90"), millis("90s"), millis("15 m")), (90_000, 90_000, 900_000));
        assert_eq!((millis("2h"), millis("1.5s"), millis("250ms")), (7_200_000, 1500, 250));
        for wrong in ["0", "-1", "s", "", "1e400", "NaN", "ten", "1w"] {
            assert!(time(wrong).unwrap_err().text.contains(TASK_TIMEOUT), "{wrong}");
        }
    }
}
