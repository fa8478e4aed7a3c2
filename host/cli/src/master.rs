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
            Some(_) => "; this version runs jobs on this machine only, clusters come later",
            None => "",
        };
        Failure::usage(format!("--master {master}: write local, local[N] or local[*]{clusters}"))
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
            assert_eq!(text, format!("--master {master}: write local, local[N] or local[*]"));
        }
        assert!(given(Some("spark://h:7077"), None).unwrap_err().contains("clusters come later"));
        assert!(given(Some("local[0]"), None).unwrap_err().contains("at least 1"));
        for cores in ["0", "4x", "-1", ""] {
            assert!(given(None, Some(cores)).unwrap_err().contains("at least 1"), "{cores}");
        }
        assert!(given(Some("local[2]"), Some("3")).unwrap_err().contains("different things"));
    }

    #[test]
    fn more_slots_than_cores_must_be_meant() {
        let text = given(Some("local[5]"), None).unwrap_err();
        assert!(text.contains("more than this machine's 4 cores"), "{text}");
        assert_eq!(slots(Some("local[5]"), None, 4, true), Ok(5));
        assert!(slots(Some("local[5000]"), None, 4, true).is_err());
    }
}
