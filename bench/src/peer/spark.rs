//! Apache Spark: its distribution from PyPI, the jobs of `bench/spark`, and how they are run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// What pip is asked for.
const VERSION: &str = "pyspark==4.1.*";

/// Errors only, on stderr.
const LOGGING: &str = "\
rootLogger.level = error
rootLogger.appenderRef.stderr.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %p %c{1}: %m%n%ex
";

/// Settings of every job, better than those that it would have by itself.
pub const SETTINGS: &[(&str, &str)] = &[
    ("spark.serializer", "org.apache.spark.serializer.KryoSerializer"),
    ("spark.sql.adaptive.enabled", "true"),
    ("spark.ui.enabled", "false"),
    ("spark.ui.showConsoleProgress", "false"),
    ("spark.eventLog.enabled", "false"),
    ("spark.driver.host", "127.0.0.1"),
    ("spark.driver.bindAddress", "127.0.0.1"),
    ("spark.hadoop.mapreduce.fileoutputcommitter.algorithm.version", "2"),
];

/// Options of the Java machines that run tasks.
pub const JAVA: &str = "-XX:+UseParallelGC -XX:+UseCompressedOops";

/// An installed distribution with compiled jobs.
pub struct Spark {
    /// What the Python package holds.
    home: PathBuf,
    /// Our own settings and files.
    dir: PathBuf,
    jar: PathBuf,
}

/// What a job may have.
#[derive(Clone, Copy, Debug)]
pub struct Resources {
    /// Memory of the executor, and of the driver's machine, in GiB.
    pub memory: u32,
    /// Partitions of shuffles.
    pub partitions: u32,
}

impl Spark {
    /// Installs Spark into a folder, once, and compiles the jobs if they were changed since.
    pub fn ready(dir: &Path, sources: &Path) -> Result<Self> {
        fs::create_dir_all(dir.join("tmp"))
            .with_context(|| format!("can't make {}", dir.display()))?;
        let home = match installed(dir) {
            Some(home) => home,
            None => {
                install(dir).context(
                    "can't install Spark, which needs python3 with venv and a package index to reach",
                )?;
                installed(dir).context("pip installed no Spark")?
            }
        };
        let conf = dir.join("conf");
        fs::create_dir_all(&conf)?;
        fs::write(conf.join("log4j2.properties"), LOGGING)?;
        let jar = dir.join("jobs.jar");
        if outdated(&jar, sources)? {
            compile(&home, sources, dir, &jar)
                .context("can't compile Spark's jobs, which needs a JDK of Java 17 or newer")?;
        }
        Ok(Self { home, dir: dir.to_owned(), jar })
    }

    /// The version, as the distribution says it.
    pub fn version(&self) -> String {
        let text = fs::read_to_string(self.home.join("version.py")).unwrap_or_default();
        version(&text).unwrap_or("of an unknown version").to_owned()
    }

    /// `spark-submit` of a job.
    pub fn job(&self, master: &str, resources: Resources, class: &str, args: &[String]) -> Command {
        let mut command = self.program("spark-submit");
        command.env("SPARK_CONF_DIR", self.dir.join("conf"));
        let memory = format!("{}g", resources.memory);
        command.args(["--master", master, "--driver-memory", &memory]);
        command.args(["--executor-memory", &memory, "--executor-cores", "2"]);
        let mut conf = |key: &str, value: &str| {
            command.args(["--conf", &format!("{key}={value}")]);
        };
        SETTINGS.iter().for_each(|(key, value)| conf(key, value));
        let partitions = resources.partitions.to_string();
        conf("spark.default.parallelism", &partitions);
        conf("spark.sql.shuffle.partitions", &partitions);
        conf("spark.driver.extraJavaOptions", JAVA);
        conf("spark.executor.extraJavaOptions", JAVA);
        command.arg("--class").arg(class).arg(&self.jar).args(args);
        command
    }

    /// A folder for files that needn't stay.
    pub fn scratch(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    /// A daemon's class, with arguments.
    pub fn daemon(&self, class: &str) -> Command {
        let mut command = self.program("spark-class");
        command.arg(format!("org.apache.spark.deploy.{class}"));
        command
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.home.join("bin").join(name));
        command
            .env("SPARK_HOME", &self.home)
            .env("SPARK_LOCAL_IP", "127.0.0.1")
            .env("SPARK_LOCAL_DIRS", self.scratch())
            .env_remove("SPARK_CONF_DIR");
        command
    }
}

/// Where pip put it, if it came to its end.
fn installed(dir: &Path) -> Option<PathBuf> {
    if !dir.join("installed").exists() {
        return None;
    }
    let versions = fs::read_dir(dir.join("venv/lib")).ok()?;
    let homes = versions.flatten().map(|python| python.path().join("site-packages/pyspark"));
    { homes }.find(|home| home.join("jars").is_dir())
}

fn install(dir: &Path) -> Result<()> {
    eprintln!("installing Spark to {}, once", dir.display());
    let venv = dir.join("venv");
    succeed(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    succeed(Command::new(venv.join("bin/pip")).args(["install", "--quiet", VERSION]))?;
    fs::write(dir.join("installed"), "")?;
    Ok(())
}

fn compile(home: &Path, sources: &Path, dir: &Path, jar: &Path) -> Result<()> {
    let classes = tempfile::Builder::new().prefix("classes-").tempdir_in(dir)?;
    let mut javac = Command::new("javac");
    javac.args(["-nowarn", "-cp"]).arg(home.join("jars/*")).arg("-d").arg(classes.path());
    succeed(javac.args(java_files(sources)?))?;
    let mut archive = Command::new("jar");
    succeed(archive.arg("cf").arg(jar).arg("-C").arg(classes.path()).arg("."))
}

fn java_files(sources: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(sources).with_context(|| format!("can't list {}", sources.display()))?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|e| e == "java")).collect())
}

/// Whether a jar isn't there or is older than one of its sources.
fn outdated(jar: &Path, sources: &Path) -> Result<bool> {
    let Ok(made) = fs::metadata(jar).and_then(|jar| jar.modified()) else { return Ok(true) };
    for file in java_files(sources)? {
        if fs::metadata(&file)?.modified()? > made {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Runs a command, which says why it failed.
fn succeed(command: &mut Command) -> Result<()> {
    let name = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("can't run {name}"))?;
    if output.status.success() {
        return Ok(());
    }
    let words = [output.stdout, output.stderr].concat();
    bail!("{name}: {}: {}", output.status, String::from_utf8_lossy(&words).trim())
}

/// The version in `__version__: str = '4.1.4'`.
fn version(text: &str) -> Option<&str> {
    let line = text.lines().find(|line| line.starts_with("__version__"))?;
    line.split(['\'', '"']).nth(1)
}

/// The first line of what `java -version` says.
pub fn java() -> Result<String> {
    let output = Command::new("java").arg("-version").output().context("can't run java")?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "java -version: {}", text.trim());
    Ok(text.lines().next().unwrap_or_default().replace('"', ""))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn a_version_is_read() {
        assert_eq!(version("# x\n__version__: str = '4.1.4'\n"), Some("4.1.4"));
        assert_eq!(version("nothing"), None);
    }

    #[test]
    fn a_jar_is_made_anew_after_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let (jar, sources) = (dir.path().join("jobs.jar"), dir.path().join("src"));
        fs::create_dir(&sources).unwrap();
        fs::write(sources.join("A.java"), "").unwrap();
        assert!(outdated(&jar, &sources).unwrap());
        fs::write(&jar, "").unwrap();
        let at = |seconds| SystemTime::now() + Duration::from_secs(seconds);
        fs::File::open(&jar).unwrap().set_modified(at(10)).unwrap();
        assert!(!outdated(&jar, &sources).unwrap());
        let file = fs::File::options().write(true).open(sources.join("A.java")).unwrap();
        file.set_modified(at(20)).unwrap();
        assert!(outdated(&jar, &sources).unwrap());
    }

    #[test]
    fn an_installation_that_was_cut_off_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("venv/lib/python3.11/site-packages/pyspark");
        fs::create_dir_all(home.join("jars")).unwrap();
        assert_eq!(installed(dir.path()), None);
        fs::write(dir.path().join("installed"), "").unwrap();
        assert_eq!(installed(dir.path()), Some(home));
    }

    #[test]
    fn what_fails_is_told_with_its_words() {
        let mut command = Command::new("sh");
        let error = succeed(command.args(["-c", "echo no index >&2; exit 2"])).unwrap_err();
        assert!(error.to_string().contains("no index"), "{error}");
    }
}
