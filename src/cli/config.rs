//! `hubbub config init|check|show`: write a documented file, find mistakes, show what is in force. None of them prints a secret.

use super::{ConfigArgs, Done, Failure, print, print_json, warn};
use crate::config::load::{ConfigError, DEFAULT_FILE, Loaded, Origin, Problem};
use crate::config::secrets;
use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Every key with its default and what it means; a test keeps it equal to the code.
const DOCUMENTED: &str = include_str!("../../config/default.toml");

/// Arguments of `hubbub config`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Write a file with every key, its meaning and its default; never over one that is there.
    Init {
        /// Where; `-` is standard output
        #[arg(default_value = DEFAULT_FILE)]
        path: PathBuf,
    },
    /// Look for mistakes (exit code 78) and for what is rarely meant (warnings).
    Check {
        /// For a program
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Show what is in force and where it was set.
    Show {
        /// For a program
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

pub(super) fn run(args: Args) -> Done {
    match args.command {
        Command::Init { path } if path.as_os_str() == "-" => print(DOCUMENTED),
        Command::Init { path } => init(&path),
        Command::Check { json, config } => check(json, config),
        Command::Show { json, config } => show(json, config),
    }
}

fn init(path: &Path) -> Done {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    // For the owner only: a secret may be written into it.
    let written = parent.map_or(Ok(()), fs::create_dir_all).and_then(|()| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(DOCUMENTED.as_bytes())?;
        file.sync_all()
    });
    match written {
        Ok(()) => print(&format!("wrote {}", path.display())),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            Err(Failure::Failed(format!("{} is there already; it was left as it is", path.display())))
        }
        Err(e) => Err(Failure::Failed(format!("{}: {e}", path.display()))),
    }
}

fn check(json: bool, args: ConfigArgs) -> Done {
    let (file, problems, warnings) = match args.load([]) {
        Ok(loaded) => {
            let (problems, warnings) = look_around(&loaded);
            (loaded.file, problems, warnings)
        }
        Err(ConfigError::Problems(problems)) => (None, problems, Vec::new()),
        Err(e @ ConfigError::Unreadable { .. }) => {
            (None, vec![Problem { key: String::new(), origin: Origin::Flag("--config".into()), message: e.to_string() }], Vec::new())
        }
    };
    if json {
        let list = |all: &[Problem]| all.iter().map(problem_json).collect::<Vec<_>>();
        let ok = problems.is_empty();
        print_json(&json!({ "ok": ok, "file": file, "problems": list(&problems), "warnings": list(&warnings) }))?;
        return if ok { Ok(()) } else { Err(Failure::ConfigSaid) };
    }
    for warning in &warnings {
        warn(&format!("warning: {warning}"));
    }
    if !problems.is_empty() {
        return Err(ConfigError::Problems(problems).into());
    }
    let what = file.map_or("no file, defaults".into(), |f| f.display().to_string());
    print(&format!("{what}: fine{}", if warnings.is_empty() { "" } else { ", with warnings" }))
}

/// What can only be found by looking beside the values: the warnings' places, files that others can read.
fn look_around(loaded: &Loaded) -> (Vec<Problem>, Vec<Problem>) {
    let origin = |key: &str| loaded.origins.get(key).cloned().unwrap_or_default();
    let mut warnings: Vec<_> = loaded.config.warnings().into_iter().map(|p| Problem { origin: origin(&p.key), ..p }).collect();
    for key in ["auth.secret", "auth.retired_keys", "mail.smtp_password", "redis.password"] {
        if let Origin::File(path, _) = origin(key)
            && fs::metadata(&path).is_ok_and(|m| m.permissions().mode() & 0o077 != 0)
        {
            let message = "the file holds a secret and others can read it (chmod 600)".into();
            warnings.push(Problem { key: key.into(), origin: origin(key), message });
        }
    }
    let key = "storage.data_dir";
    let secrets = secrets::check(&loaded.config.storage.data_dir).err();
    let problems = secrets.map(|e| Problem { key: key.into(), origin: origin(key), message: e.to_string() });
    (problems.into_iter().collect(), warnings)
}

fn problem_json(p: &Problem) -> Value {
    let (file, line) = match &p.origin {
        Origin::File(path, line) => (Some(path.display().to_string()), Some(*line)),
        _ => (None, None),
    };
    json!({ "key": p.key, "origin": p.origin.to_string(), "file": file, "line": line, "message": p.message })
}

fn show(json: bool, args: ConfigArgs) -> Done {
    let mut loaded = args.load([])?;
    loaded.config.auth = loaded.config.auth.hidden();
    loaded.config.mail = loaded.config.mail.hidden();
    loaded.config.scylla = loaded.config.scylla.hidden();
    loaded.config.moderation = loaded.config.moderation.hidden();
    loaded.config.redis = loaded.config.redis.hidden();
    let failed = |e: &dyn std::fmt::Display| Failure::Failed(format!("cannot show the configuration: {e}"));
    if json {
        return print_json(&serde_json::to_value(&loaded.config).map_err(|e| failed(&e))?);
    }
    let text = toml::to_string(&loaded.config).map_err(|e| failed(&e))?;
    print(&with_origins(&text, &loaded))
}

/// Writes behind each value that is not the default where it was set.
fn with_origins(text: &str, loaded: &Loaded) -> String {
    let mut section = "";
    let mut out = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = name;
        }
        let key = line.split_once(" = ").map(|(k, _)| format!("{section}.{k}"));
        out.push_str(line);
        if let Some(origin) = key.and_then(|k| loaded.origins.get(&k)) {
            out.push_str(&format!("  # {origin}"));
        }
        out.push('\n');
    }
    out
}
