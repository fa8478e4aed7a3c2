//! `rsubmit`: runs a job.

use std::process::ExitCode;

use clap::Parser;
use ingle_cli::{Options, submit};

fn main() -> ExitCode {
    let ended = submit(&Options::parse());
    let code = match &ended {
        Ok(()) => 0,
        Err(failure) => {
            if !failure.text.is_empty() {
                ingle_cli::terminal::say(format_args!("error: {failure}"));
            }
            failure.code.into()
        }
    };
    // Not by returning: a task that never stops must not keep the process.
    std::process::exit(i32::from(code))
}
