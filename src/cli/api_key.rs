//! `hubbub api-key create|list|revoke`: the keys that other servers act with, through the running server.

use super::operator::Operator;
use super::{ConfigArgs, Done, Failure, print, print_json};
use crate::auth::keys::Scope;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Arguments of `hubbub api-key`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Make a key; it is printed this once.
    Create {
        /// For people
        #[arg(long, default_value = "")]
        name: String,
        /// What it may do, separated by commas: users:write, rooms:write, messages:write, messages:read, hooks:write, moderate
        #[arg(long, value_name = "SCOPE", value_delimiter = ',', required = true, value_parser = scope)]
        scopes: Vec<String>,
        /// The id of the only user that it acts as [default: any]
        #[arg(long, value_name = "USER")]
        user: Option<u64>,
        #[command(flatten)]
        common: Common,
    },
    /// List all keys, without what opens them.
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Revoke a key.
    Revoke {
        /// Its id
        id: u64,
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

/// A key as the server shows it.
#[derive(Serialize, Deserialize)]
struct Key {
    id: String,
    name: String,
    scopes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    created: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

fn scope(text: &str) -> Result<String, String> {
    text.parse::<Scope>().map(|scope| scope.as_str().to_owned()).map_err(|e| e.message.into_owned())
}

pub(super) fn run(args: Args) -> Done {
    match args.command {
        Command::Create { name, scopes, user, common } => create(&name, &scopes, user, common),
        Command::List { common } => list(common),
        Command::Revoke { id, common } => revoke(id, common),
    }
}

/// Keys are remembered by the server that runs, so that it is the one to ask.
fn operator(config: ConfigArgs) -> Result<Operator, Failure> {
    let data_dir = config.config()?.storage.data_dir;
    let none = || Failure::Failed(format!("no server runs on {}; start it first", data_dir.display()));
    Operator::of(&data_dir)?.ok_or_else(none)
}

fn create(name: &str, scopes: &[String], user: Option<u64>, common: Common) -> Done {
    let body = json!({ "name": name, "scopes": scopes, "user": user.map(|u| u.to_string()) });
    let made: Key = operator(common.config)?.post("/admin/api-keys", body)?;
    if common.json { print_json(&json!(made)) } else { print(made.key.as_deref().unwrap_or_default()) }
}

fn list(common: Common) -> Done {
    #[derive(Deserialize)]
    struct Answer {
        items: Vec<Key>,
    }
    let Answer { items } = operator(common.config)?.get("/admin/api-keys")?;
    if common.json {
        return print_json(&json!({ "items": items }));
    }
    let line = |key: &Key| format!("{}\t{}\t{}\t{}\n", key.id, key.name, key.scopes.join(","), key.user.as_deref().unwrap_or("any user"));
    print(&items.iter().map(line).collect::<String>())
}

fn revoke(id: u64, common: Common) -> Done {
    operator(common.config)?.delete(&format!("/admin/api-keys/{id}"))?;
    let answer: Value = json!({ "id": id.to_string(), "revoked": true });
    if common.json { print_json(&answer) } else { print(&format!("revoked {id}")) }
}
