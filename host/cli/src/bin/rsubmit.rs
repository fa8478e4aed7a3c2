//! `rsubmit`: runs a job.

use std::process::ExitCode;

use clap::Parser;
use ingle_cli::{Options, submit};
use ingle_walls::Inherited;

fn main() -> ExitCode {
    // Before this process opens anything.
    let inherited = Inherited::note();
    if let Some(code) = ingle_cli::be_compiler(std::env::args_os().skip(1)) {
        return code.into();
    }
    let ended = submit(&Options::parse(), inherited);
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
