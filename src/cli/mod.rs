//! The command line: one file per subcommand; here what they share.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage, 78 wrong configuration (`EX_CONFIG` of sysexits.h). Results go to standard output, and
//! nothing else does; what a person should know goes to standard error. A reader that goes away early (`| head`) is not an error.

use crate::config::Config;
use crate::config::load::{ConfigError, Flag, Loaded, Sources};
use crate::config::secrets::SecretsError;
use clap::{Parser, Subcommand};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

mod accounts;
mod api_key;
mod audit;
mod backup;
pub mod bench;
pub mod chat;
pub mod check;
mod cluster;
mod config;
mod dev;
mod direct;
mod keys;
mod migrate;
mod operator;
mod sabotage_list;
mod serve;
mod token;
mod user;

/// Exit code of wrong usage.
const EXIT_USAGE: u8 = 2;
/// Exit code of wrong configuration.
const EXIT_CONFIG: u8 = 78;

/// Hubbub: a chat server and cluster in one binary.
#[derive(Parser)]
#[command(name = "hubbub", version, about, disable_help_subcommand = true)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 78 wrong configuration.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server.
    Serve(serve::Args),
    /// Run a server to try things with: no configuration file, demo users, this machine only.
    Dev(dev::Args),
    /// Make, list, disable and enable accounts, and set passwords.
    User(user::Args),
    /// Issue an access token for an account.
    Token(token::Args),
    /// List and rotate the keys that sign access tokens.
    Keys(keys::Args),
    /// Copy everything that the server keeps into one file, while it runs.
    Backup(backup::BackupArgs),
    /// Make a data directory from a backup.
    Restore(backup::RestoreArgs),
    /// Move a data directory into the store of a cluster.
    Migrate(migrate::Args),
    /// Show the cluster that a node is one of, and have a node leave it
    Cluster(cluster::Args),
    /// Show what administrators did.
    Audit(audit::Args),
    /// Make, list and revoke the keys that other servers act with.
    ApiKey(api_key::Args),
    /// Write, check and show configuration.
    Config(config::Args),
    /// Chat from a terminal.
    Chat(chat::Args),
    /// Put load on a server and measure it.
    Bench(bench::Args),
    /// Judge recorded histories of clients.
    Check(check::Args),
    /// Print what a sabotage build can break.
    #[command(hide = true)]
    SabotageList,
}

/// Parses the command line, runs the subcommand, and says how the process ends.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version are "errors" with exit code 0; that their reader went away is none of ours.
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { EXIT_USAGE } else { 0 });
        }
    };
    let done = match cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Dev(args) => dev::run(args),
        Command::User(args) => user::run(args),
        Command::Token(args) => token::run(args),
        Command::Keys(args) => keys::run(args),
        Command::Backup(args) => backup::backup(args),
        Command::Restore(args) => backup::restore(args),
        Command::Migrate(args) => migrate::run(args),
        Command::Cluster(args) => cluster::run(args),
        Command::Audit(args) => audit::run(args),
        Command::ApiKey(args) => api_key::run(args),
        Command::Check(args) => return check::run(args),
        Command::Config(args) => config::run(args),
        Command::Chat(args) => return chat::run(args),
        Command::Bench(args) => return bench::run(args),
        Command::SabotageList => sabotage_list::run(),
    };
    done.map_or_else(Failure::exit, |()| ExitCode::SUCCESS)
}

/// Why a subcommand did not do what was asked.
enum Failure {
    /// Exit code 1.
    Failed(String),
    /// Exit code 2.
    Usage(String),
    /// Exit code 78.
    Config(String),
    /// Exit code 78; everything has been said.
    ConfigSaid,
}

impl Failure {
    fn exit(self) -> ExitCode {
        let (code, text) = match self {
            Failure::Failed(text) => (1, text),
            Failure::Usage(text) => (EXIT_USAGE, text),
            Failure::Config(text) => (EXIT_CONFIG, text),
            Failure::ConfigSaid => (EXIT_CONFIG, String::new()),
        };
        for line in text.lines() {
            warn(line);
        }
        ExitCode::from(code)
    }
}
impl From<ConfigError> for Failure {
    fn from(e: ConfigError) -> Self {
        Failure::Config(e.to_string())
    }
}
impl From<SecretsError> for Failure {
    fn from(e: SecretsError) -> Self {
        match e {
            SecretsError::Io { .. } => Failure::Failed(e.to_string()),
            SecretsError::Exposed { .. } | SecretsError::Malformed { .. } => Failure::Config(e.to_string()),
        }
    }
}

type Done = Result<(), Failure>;

/// A result, on standard output.
fn print(text: &str) -> Done {
    let mut out = std::io::stdout().lock();
    match out
        .write_all(text.as_bytes())
        .and_then(|()| if text.ends_with('\n') { Ok(()) } else { out.write_all(b"\n") })
        .and_then(|()| out.flush())
    {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Failure::Failed(format!("cannot write the result: {e}"))),
        _ => Ok(()),
    }
}

/// A result for a program.
fn print_json(value: &serde_json::Value) -> Done {
    print(&value.to_string())
}

/// Something a person should know, on standard error.
fn warn(line: &str) {
    // Without standard error there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "hubbub: {line}");
}

/// Where the configuration is, for every subcommand that needs it.
#[derive(clap::Args)]
struct ConfigArgs {
    /// Configuration file [default: $HUBBUB_CONFIG, else config/hubbub.toml if it is there]
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
    #[command(flatten)]
    common: CommonArgs,
}

/// Flags that need no configuration file.
#[derive(clap::Args)]
struct CommonArgs {
    /// Directory of everything the server keeps (storage.data_dir)
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Set any key, as `rooms.idle_ms=30000`; may be given many times
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().into(), value.into())),
        _ => Err("expected key=value".into()),
    }
}

fn flag(flag: &str, key: &str, value: Option<impl ToString>) -> Option<Flag> {
    value.map(|v| Flag { flag: flag.into(), key: key.into(), value: v.to_string() })
}

impl CommonArgs {
    /// As flags, `--set` first: a flag of its own is the more particular.
    fn flags(self) -> Vec<Flag> {
        let set = self.set.into_iter().map(|(key, value)| Flag { flag: "--set".into(), key, value });
        set.chain(flag("--data-dir", "storage.data_dir", self.data_dir)).collect()
    }
}

impl ConfigArgs {
    /// The configuration with these flags and more.
    fn load(self, more: impl IntoIterator<Item = Flag>) -> Result<Loaded, ConfigError> {
        let mut flags = self.common.flags();
        flags.extend(more);
        crate::config::load::load(Sources::of_process(self.config, flags))
    }

    fn config(self) -> Result<Config, Failure> {
        Ok(self.load([])?.config)
    }
}
