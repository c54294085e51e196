//! `hubbub keys list|prepare|reload|rotate`: the keys that sign access tokens, through the running server or in its data directory.

use super::direct::Direct;
use super::operator::Operator;
use super::{ConfigArgs, Done, Failure, print, print_json, token};
use crate::auth::now;
use crate::config::keys::{self, SigningKey};
use crate::config::{Config, secrets};
use crate::http::keys::{KEEP_S, PREPARE_FIRST};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Arguments of `hubbub keys`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List the keys; the first one signs.
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Make a key that is accepted from now on and does not sign yet: the first step of a rotation in a cluster
    Prepare {
        #[command(flatten)]
        common: Common,
    },
    /// Have the running server read the keys again that were copied here from another node
    Reload {
        #[command(flatten)]
        common: Common,
    },
    /// Make a new key, or the one that was prepared, the one that signs. Nobody is signed out, unless --keep is short.
    Rotate {
        /// How long tokens of the keys until now are still accepted: `0`, or as `15m`, `12h`, `30d` [default: longer than any token lives]
        #[arg(long, value_name = "TIME", value_parser = keep)]
        keep: Option<u64>,
        /// In a cluster: also when other nodes refuse the new key's tokens, until they have its file
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(clap::Args)]
struct Common {
    /// For a program
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

fn keep(text: &str) -> Result<u64, String> {
    if text == "0" { Ok(0) } else { token::seconds(text) }
}

/// A key as the command line shows it.
#[derive(Serialize, Deserialize)]
struct Key {
    id: String,
    signs: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
}

#[derive(Deserialize)]
struct Answer {
    items: Vec<Key>,
    dropped: Vec<String>,
}

fn of_ring(ring: Vec<SigningKey>, dropped: Vec<String>) -> Answer {
    let key = |(n, key): (usize, SigningKey)| Key { id: key.id, signs: n == 0, until: key.until };
    Answer { items: ring.into_iter().enumerate().map(key).collect(), dropped }
}

pub(super) fn run(args: Args) -> Done {
    match args.command {
        Command::List { common } => {
            let config = common.config.config()?;
            let answer = match Operator::of(&config.storage.data_dir)? {
                Some(server) => server.get::<Answer>("/admin/keys")?,
                None => {
                    let ring = match keys::configured(&config.auth) {
                        Some(ring) => Some(ring),
                        None => keys::kept(&config.storage.data_dir, &config.auth)?,
                    };
                    of_ring(ring.unwrap_or_default(), Vec::new())
                }
            };
            show(&answer, common.json)
        }
        Command::Prepare { common } => {
            let config = common.config.config()?;
            let (dir, clustered) = (keys_dir(&config), config.redis.is_on());
            let answer = match Operator::of(&config.storage.data_dir)? {
                Some(server) => server.post::<Answer>("/admin/keys/prepare", json!({}))?,
                None => prepare_directly(config)?,
            };
            show(&answer, common.json)?;
            if clustered && !common.json {
                print(&next_steps(&dir))?;
            }
            Ok(())
        }
        Command::Reload { common } => {
            let config = common.config.config()?;
            let dir = &config.storage.data_dir;
            let none = || Failure::Failed(format!("no node runs on {}; it reads the keys when it starts", dir.display()));
            let answer = Operator::of(dir)?.ok_or_else(none)?.post::<Answer>("/admin/keys/reload", json!({}))?;
            show(&answer, common.json)
        }
        Command::Rotate { keep, force, common } => {
            let config = common.config.config()?;
            let keep_s = keep.unwrap_or(KEEP_S);
            let answer = match Operator::of(&config.storage.data_dir)? {
                Some(server) => server.post::<Answer>("/admin/keys/rotate", json!({ "keep_s": keep_s, "force": force }))?,
                None => rotate_directly(config, keep_s, force)?,
            };
            show(&answer, common.json)
        }
    }
}

fn keys_dir(config: &Config) -> PathBuf {
    secrets::dir(&config.storage.data_dir)
}

/// What is left to do after a key was prepared on one node of a cluster.
fn next_steps(dir: &Path) -> String {
    let ring = dir.join(keys::RING_FILE);
    format!(
        "This node is one of a cluster. Next:\n\
         1. copy {} into secrets/ of every other node, with mode 0600\n\
         2. hubbub keys reload      on each of them (or restart them)\n\
         3. hubbub keys rotate      on every node, in any order: it is refused while one does not accept the new key\n\
         `hubbub cluster status` shows whose secrets differ.",
        ring.display()
    )
}

fn made_here(config: &Config) -> Result<(), Failure> {
    if config.auth.secret.is_empty() {
        return Ok(());
    }
    Err(Failure::Failed("the secret is configured (auth.secret); rotate it there, with auth.retired_keys".into()))
}

fn prepare_directly(config: Config) -> Result<Answer, Failure> {
    made_here(&config)?;
    let (data_dir, auth) = (config.storage.data_dir.clone(), config.auth.clone());
    let _held = Direct::open(config)?;
    Ok(of_ring(keys::prepare(&data_dir, &auth)?, Vec::new()))
}

fn rotate_directly(config: Config, keep_s: u64, force: bool) -> Result<Answer, Failure> {
    made_here(&config)?;
    if config.redis.is_on() && !force && keys::prepared(&config.storage.data_dir)?.is_none() {
        return Err(Failure::Failed(PREPARE_FIRST.into()));
    }
    let (data_dir, auth) = (config.storage.data_dir.clone(), config.auth.clone());
    // Held meanwhile, so that no server starts on the keys as they were.
    let _held = Direct::open(config)?;
    let rotated = keys::rotate(&data_dir, &auth, keep_s.saturating_mul(1000), now())?;
    Ok(of_ring(rotated.ring, rotated.dropped))
}

fn show(answer: &Answer, json: bool) -> Done {
    if json {
        return print_json(&json!({ "items": answer.items, "dropped": answer.dropped }));
    }
    let what = |key: &Key| match (key.signs, key.until) {
        (true, _) => "signs".to_owned(),
        (false, None) => "accepted".into(),
        (false, Some(until)) => format!("accepted until {until}"),
    };
    let mut lines: Vec<String> = answer.items.iter().map(|key| format!("{}\t{}", key.id, what(key))).collect();
    lines.extend(answer.dropped.iter().map(|id| format!("{id}\tdropped")));
    print(&lines.join("\n"))
}
