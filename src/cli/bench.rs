//! `hubbub bench`.

use std::process::ExitCode;

/// Arguments of `hubbub bench`.
#[derive(clap::Args)]
pub struct Args {}

/// Runs it.
pub fn run(_args: Args) -> ExitCode {
    super::Failure::Failed("bench: not part of this build".into()).exit()
}
