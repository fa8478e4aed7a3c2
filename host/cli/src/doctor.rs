//! `ingle doctor`: which walls this host can put around a process that runs a guest.

use std::fmt::Write;
use std::path::Path;

use clap::Args;
use ingle_cluster::ExecutorUids;
use ingle_walls::{Down, Groups, Wall};

use crate::daemons::ROOTS;

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
        ingle_walls::be_probed();
        return Ok(());
    }
    ingle_cluster::check_wall_names(&args.require).map_err(|why| format!("--require: {why}"))?;
    let program = std::env::current_exe().map_err(|e| format!("finding this program: {e}"))?;
    let (_groups, mut down) = Groups::find();
    down.extend(ingle_cluster::probe_walls(&program));
    // Where a worker of root's would keep everything.
    let users = ExecutorUids::Usual.choose(&Path::new(ROOTS).join("worker"), &program)?;
    down.extend(users.err().map(|why| Down::new(Wall::User, why)));
    print!("{}", report(&down));
    match ingle_cluster::lacking_wall(&down, &args.require) {
        Some(down) => Err(down.to_string()),
        None => Ok(()),
    }
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
    let put_around = Wall::ALL.into_iter().filter(|wall| wall.is_put_around()).map(Wall::name);
    let put_around = put_around.collect::<Vec<_>>().join(", ");
    let _ = writeln!(
        text,
        "\nrsubmit raises those of them around itself that a process can, where a job, or its driver, runs in it: all but {put_around}."
    );
    let _ = match down.len() {
        0 => writeln!(text, "\nAll walls stand."),
        count => writeln!(text, "\n{count} of {} walls are missing.", Wall::ALL.len()),
    };
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
        assert!(text.contains("1 of 12 walls are missing."));
        assert!(report(&[]).contains("All walls stand."));
    }
}
