//! `--master` and `--executor-cores`: how many task slots there are.

use crate::exit::Failure;

/// How many slots a local master gives, and whether the user said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Local {
    /// `local`: as Spark has it, one.
    One,
    /// `local[*]`.
    All,
    /// `local[N]`.
    Number(u32),
}

fn parse(master: &str) -> Result<Local, Failure> {
    let unknown = || {
        let scheme = master.split_once("://").map(|(scheme, _)| scheme);
        let clusters = match scheme {
            Some("spark") => "; that is a cluster of Spark's, Ingle's are ingle://HOST:PORT",
            _ => "",
        };
        Failure::usage(format!(
            "--master {master}: write local, local[N], local[*] or ingle://HOST:PORT{clusters}"
        ))
    };
    let inner = match master.strip_prefix("local") {
        Some("") => return Ok(Local::One),
        Some(rest) => {
            rest.strip_prefix('[').and_then(|r| r.strip_suffix(']')).ok_or_else(unknown)?
        }
        None => return Err(unknown()),
    };
    match inner.trim() {
        "*" => Ok(Local::All),
        number => match number.parse() {
            Ok(0) => Err(Failure::usage(format!(
                "--master {master}: there must be at least 1 task slot"
            ))),
            Ok(number) => Ok(Local::Number(number)),
            Err(_) => Err(unknown()),
        },
    }
}

/// The port of a master that isn't told another.
pub const PORT: u16 = 7077;

/// A cluster's host:port, of `ingle://HOST:PORT`; none if the master is none of a cluster.
pub fn cluster(master: &str) -> Option<Result<String, Failure>> {
    let address = master.strip_prefix("ingle://")?;
    let bad = || Failure::usage(format!("--master {master}: write ingle://HOST:PORT"));
    let bare = address.strip_suffix('/').unwrap_or(address);
    if bare.is_empty() || bare.contains(['/', '@', '?', '#']) || bare.contains(char::is_whitespace)
    {
        return Some(Err(bad()));
    }
    let has_port = match bare.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && !host.ends_with(':') => {
            if port.parse::<u16>().is_ok_and(|port| port > 0) {
                true
            } else if bare.ends_with(']') {
                false
            } else {
                return Some(Err(bad()));
            }
        }
        _ => false,
    };
    Some(Ok(if has_port { bare.to_owned() } else { format!("{bare}:{PORT}") }))
}

/// The number of task slots on a machine with so many cores.
pub fn slots(
    master: Option<&str>,
    executor_cores: Option<&str>,
    cores: u32,
    oversubscribe: bool,
) -> Result<u32, Failure> {
    let local = parse(master.unwrap_or("local[*]"))?;
    let asked = match executor_cores {
        None => None,
        Some(text) => match text.parse::<u32>() {
            Ok(0) => {
                return Err(Failure::usage(
                    "--executor-cores 0: there must be at least 1 task slot",
                ));
            }
            Ok(number) => Some(number),
            Err(_) => {
                return Err(Failure::usage(format!(
                    "--executor-cores {text}: write a whole number of at least 1"
                )));
            }
        },
    };
    let slots = match (local, asked) {
        (Local::Number(number), Some(asked)) if number != asked => {
            return Err(Failure::usage(format!(
                "--master local[{number}] and --executor-cores {asked} say different things: in local mode there is one \
                 executor, so give one of them"
            )));
        }
        (_, Some(asked)) => asked,
        (Local::One, None) => 1,
        (Local::All, None) => cores,
        (Local::Number(number), None) => number,
    };
    if slots > cores && !oversubscribe {
        return Err(Failure::usage(format!(
            "{slots} task slots are more than this machine's {cores} cores; give at most {cores}, or add --conf \
             ingle.local.oversubscribe=true"
        )));
    }
    // Each is a thread with a stack and its guest's 4 GiB of address space.
    if slots > MAX_SLOTS {
        return Err(Failure::usage(format!(
            "{slots} task slots are more than an executor can have, {MAX_SLOTS}"
        )));
    }
    Ok(slots)
}

const MAX_SLOTS: u32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn given(master: Option<&str>, cores: Option<&str>) -> Result<u32, String> {
        slots(master, cores, 4, false).map_err(|e| e.text)
    }

    #[test]
    fn masters_give_slots() {
        assert_eq!(given(None, None), Ok(4));
        assert_eq!(given(Some("local"), None), Ok(1));
        assert_eq!(given(Some("local[3]"), None), Ok(3));
        assert_eq!(given(Some("local[*]"), Some("2")), Ok(2));
        assert_eq!(given(Some("local[2]"), Some("2")), Ok(2));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_does() {
        for master in ["yarn", "local[", "local[x]", "local[-1]", "local[4x]", "locale"] {
            let text = given(Some(master), None).unwrap_err();
            assert_eq!(
                text,
                format!("--master {master}: write local, local[N], local[*] or ingle://HOST:PORT")
            );
        }
        assert!(given(Some("spark://h:7077"), None).unwrap_err().contains("Ingle's are ingle://"));
        assert!(given(Some("local[0]"), None).unwrap_err().contains("at least 1"));
        for cores in ["0", "4x", "-1", ""] {
            assert!(given(None, Some(cores)).unwrap_err().contains("at least 1"), "{cores}");
        }
        assert!(given(Some("local[2]"), Some("3")).unwrap_err().contains("different things"));
    }

    #[test]
    fn clusters_have_addresses() {
        let address = |master| cluster(master).unwrap().map_err(|e| e.text);
        assert_eq!(address("ingle://host"), Ok("host:7077".into()));
        assert_eq!(address("ingle://10.0.0.1:80/"), Ok("10.0.0.1:80".into()));
        assert_eq!(address("ingle://[::1]:80"), Ok("[::1]:80".into()));
        assert_eq!(address("ingle://[::1]"), Ok("[::1]:7077".into()));
        for bad in ["ingle://", "ingle://h:0", "ingle://h:x", "ingle://h/x", "ingle://a b:1"] {
            assert!(address(bad).unwrap_err().contains("write ingle://HOST:PORT"), "{bad}");
        }
        assert!(cluster("local[2]").is_none());
    }

    #[test]
    fn more_slots_than_cores_must_be_meant() {
        let text = given(Some("local[5]"), None).unwrap_err();
        assert!(text.contains("more than this machine's 4 cores"), "{text}");
        assert_eq!(slots(Some("local[5]"), None, 4, true), Ok(5));
        assert!(slots(Some("local[5000]"), None, 4, true).is_err());
    }
}
