//! `hubbub check FILE...`: judges recorded histories. Exit code 0: nothing wrong; 1: broken promises; 2: nothing that could be judged.

use crate::check::history::History;
use crate::check::{Options, Verdict, judge};
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Judges what clients recorded: lost, doubled, reordered, leaked?
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recorded histories (JSON lines), all of one run.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Do without a reading of each room's whole log at the end. Loss is then not looked for.
    #[arg(long)]
    without_truth: bool,
    /// Senders are not shown their own entries.
    #[arg(long)]
    own_not_shown: bool,
    /// Every sender's history is among the files: entries of others are phantoms.
    #[arg(long)]
    closed_world: bool,
    /// Violations of each kind to describe; the rest is counted.
    #[arg(long, default_value_t = 100)]
    described_max: usize,
    /// The verdict as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args) -> ExitCode {
    let code = match verdict(&args) {
        Ok(verdict) => {
            let text = if args.json { serde_json::to_string(&verdict).unwrap_or_default() } else { verdict.to_string() };
            // A reader that went away has seen enough; the exit code still says it.
            writeln!(io::stdout(), "{text}").ok();
            u8::from(!verdict.is_clean())
        }
        Err(why) => {
            writeln!(io::stderr(), "hubbub check: {why}").ok();
            2
        }
    };
    ExitCode::from(code)
}

fn verdict(args: &Args) -> Result<Verdict, String> {
    let mut histories = Vec::new();
    for file in &args.files {
        histories.extend(read(file).map_err(|why| format!("{}: {why}", file.display()))?);
    }
    let options = Options {
        truth_required: !args.without_truth,
        own_shown: !args.own_not_shown,
        closed_world: args.closed_world,
        described_max: args.described_max,
    };
    judge(&histories, &options).map_err(|why| why.to_string())
}

fn read(file: &Path) -> Result<Vec<History>, String> {
    let input = std::fs::File::open(file).map_err(|why| why.to_string())?;
    let histories = History::read_all(BufReader::new(input)).map_err(|why| why.to_string())?;
    if histories.is_empty() { Err("holds no history".into()) } else { Ok(histories) }
}
