//! `hubbub chat`.

use std::process::ExitCode;

/// Arguments of `hubbub chat`.
#[derive(clap::Args)]
pub struct Args {}

/// Runs it.
pub fn run(_args: Args) -> ExitCode {
    super::Failure::Failed("chat: not part of this build".into()).exit()
}
