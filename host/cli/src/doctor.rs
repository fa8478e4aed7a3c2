//! `ingle doctor`: which walls this host can put around a process that runs a guest.

use std::fmt::Write;
use std::process::{Command, Stdio};

use clap::Args;
use ingle_walls::{Down, Groups, Wall};

/// What is asked.
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    /// Fails unless these stand: names, or `all`; comma-separated.
    #[arg(long, value_name = "WALLS", value_delimiter = ',')]
    require: Vec<String>,
    /// Gives this process's own walls up, and says in lines which it couldn't raise: for workers.
    #[arg(long, hide = true)]
    probe: bool,
}

/// Examines this host, and prints what it has.
pub fn run(args: &DoctorArgs) -> Result<(), String> {
    if args.probe {
        let down = ingle_walls::probe();
        down.iter().for_each(|down| print!("{}", down.line()));
        return Ok(());
    }
    ingle_cluster::check_wall_names(&args.require).map_err(|why| format!("--require: {why}"))?;
    let (_groups, mut down) = Groups::find();
    down.extend(probe()?);
    print!("{}", report(&down));
    ingle_cluster::judge_walls(&required(&down, &args.require), &args.require)
}

/// Only those that were asked for: the report has the others.
fn required(down: &[Down], require: &[String]) -> Vec<Down> {
    let is_required =
        |down: &&Down| require.iter().any(|name| name == "all" || name == down.wall.name());
    down.iter().filter(is_required).cloned().collect()
}

/// What a process of this program says that tries: it can't take its walls down again.
fn probe() -> Result<Vec<Down>, String> {
    let program = std::env::current_exe().map_err(|e| format!("finding this program: {e}"))?;
    let output = Command::new(program)
        .args(["doctor", "--probe"])
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("starting a process to try: {e}"))?;
    if !output.status.success() {
        return Err(format!("the process that tried ended with {}", output.status));
    }
    Ok(ingle_walls::Down::read(&String::from_utf8_lossy(&output.stdout)))
}

fn report(down: &[Down]) -> String {
    let mut text = String::from(
        "Around each executor and driver that a worker of this host starts, which then keep who broke out of the sandbox from …\n\n",
    );
    for wall in Wall::ALL {
        let missing = down.iter().find(|down| down.wall == wall);
        let mark = if missing.is_none() { "stands " } else { "MISSING" };
        // Writing to a string can't fail.
        let _ = writeln!(text, "  {mark}  {:<13} {}", wall.name(), wall.meaning());
        if let Some(Down { why, .. }) = missing {
            let _ = writeln!(text, "{:>25}{why}; {}", "", wall.remedy());
        }
    }
    let _ = match down.len() {
        0 => writeln!(text, "\nAll walls stand."),
        count => writeln!(text, "\n{count} of {} walls are missing.", Wall::ALL.len()),
    };
    if rustix::process::geteuid().is_root() {
        text.push_str(
            "You are root: executors of a worker that root starts are root's processes, without its capabilities.\n",
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wall_is_told_with_what_is_missing_and_how_to_get_it() {
        let down = Down { wall: Wall::Files, why: "this kernel has no landlock for it".into() };
        let text = report(std::slice::from_ref(&down));
        assert_eq!(text.matches("stands ").count(), Wall::ALL.len() - 1);
        assert!(
            text.contains("MISSING  files")
                && text.contains("no landlock for it; it needs Linux 5.19")
        );
        assert!(text.contains("1 of 10 walls are missing."));
        assert!(report(&[]).contains("All walls stand."));
        let (all, calls) = ([String::from("all")], [String::from("calls")]);
        let down = [down];
        assert_eq!((required(&down, &all).len(), required(&down, &calls).len()), (1, 0));
    }
}
