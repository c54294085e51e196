//! `hubbub user add|list|disable|enable|passwd|no-totp|delete`: accounts, through the running server or in its data directory.

use super::accounts::{Account, Accounts};
use super::{ConfigArgs, Done, Failure, print, print_json};
use rand::Rng;
use serde_json::json;
use std::io::{BufRead, Read};

/// Bytes of a password at most, as read here; what a password must be is `auth`'s to say.
const PASSWORD_BYTES_MAX: u64 = 4096;
/// Letters and digits that are not mistaken for one another when read aloud or copied by hand.
const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
/// Letters of a password that is made here: 20 of 56 are 116 bits.
const PASSWORD_LETTERS: usize = 20;

/// Arguments of `hubbub user`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Make an account; without --password-stdin its password is made and printed.
    Add(WithPassword),
    /// List all accounts.
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Let an account sign in no more, and close its sockets.
    Disable(OfName),
    /// Let a disabled account sign in again.
    Enable(OfName),
    /// Set an account's password; without --password-stdin it is made and printed.
    Passwd(WithPassword),
    /// Turn an account's second factor off, for who has lost the app and the recovery codes.
    NoTotp(OfName),
    /// Delete an account for good: it leaves its rooms, and nobody gets its name again.
    Delete {
        #[command(flatten)]
        of: OfName,
        /// There is no way back
        #[arg(long)]
        yes: bool,
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

#[derive(clap::Args)]
struct OfName {
    /// The account's name
    name: String,
    #[command(flatten)]
    common: Common,
}

#[derive(clap::Args)]
struct WithPassword {
    #[command(flatten)]
    of: OfName,
    /// Read the password from the first line of standard input
    #[arg(long)]
    password_stdin: bool,
}

pub(super) fn run(args: Args) -> Done {
    match args.command {
        Command::Add(args) => add(args),
        Command::List { common } => list(common),
        Command::Disable(args) => set_disabled(args, true),
        Command::Enable(args) => set_disabled(args, false),
        Command::Passwd(args) => passwd(args),
        Command::NoTotp(args) => no_totp(args),
        Command::Delete { of, yes } => delete(of, yes),
    }
}

fn add(args: WithPassword) -> Done {
    let OfName { name, common: Common { json, config } } = args.of;
    let password = Password::get(args.password_stdin)?;
    let user = Accounts::open_or_make(config.config()?)?.add(&name, &password.text)?;
    match (json, password.made()) {
        (true, made) => print_json(&json!({ "user": user, "name": name, "password": made })),
        (false, Some(made)) => print(&format!("added {name}, id {user}, password {made}")),
        (false, None) => print(&format!("added {name}, id {user}")),
    }
}

fn passwd(args: WithPassword) -> Done {
    let OfName { name, common: Common { json, config } } = args.of;
    let password = Password::get(args.password_stdin)?;
    Accounts::open(config.config()?)?.set_password(&name, &password.text)?;
    match (json, password.made()) {
        (true, made) => print_json(&json!({ "name": name, "password": made })),
        (false, Some(made)) => print(&format!("{name} has a new password: {made}")),
        (false, None) => print(&format!("{name} has a new password")),
    }
}

fn set_disabled(args: OfName, disabled: bool) -> Done {
    let OfName { name, common: Common { json, config } } = args;
    Accounts::open(config.config()?)?.set_disabled(&name, disabled)?;
    if json {
        return print_json(&json!({ "name": name, "disabled": disabled }));
    }
    print(&format!("{name} is {}", state(disabled)))
}

fn no_totp(args: OfName) -> Done {
    let OfName { name, common: Common { json, config } } = args;
    Accounts::open(config.config()?)?.no_totp(&name)?;
    if json { print_json(&json!({ "name": name, "totp": false })) } else { print(&format!("{name} has no second factor")) }
}

fn delete(args: OfName, yes: bool) -> Done {
    let OfName { name, common: Common { json, config } } = args;
    if !yes {
        return Err(Failure::Failed(format!("there is no way back; to delete {name}, say --yes")));
    }
    Accounts::open(config.config()?)?.delete(&name)?;
    if json { print_json(&json!({ "name": name, "deleted": true })) } else { print(&format!("{name} is deleted")) }
}

fn list(common: Common) -> Done {
    let accounts = Accounts::open(common.config.config()?)?.list()?;
    if common.json {
        return print_json(&json!({ "users": accounts }));
    }
    let line = |a: &Account| format!("{}\t{}\t{}\n", a.name, a.user, state(a.disabled));
    print(&accounts.iter().map(line).collect::<String>())
}

fn state(disabled: bool) -> &'static str {
    if disabled { "disabled" } else { "enabled" }
}

/// A password, and whether it was made here and must be shown.
struct Password {
    text: String,
    is_made: bool,
}

impl Password {
    fn get(from_stdin: bool) -> Result<Password, Failure> {
        if from_stdin { Ok(Password { text: read_line()?, is_made: false }) } else { Ok(Password { text: make(), is_made: true }) }
    }
    fn made(&self) -> Option<&str> {
        self.is_made.then_some(&self.text)
    }
}

fn read_line() -> Result<String, Failure> {
    let mut line = String::new();
    let read = std::io::stdin().lock().take(PASSWORD_BYTES_MAX + 2).read_line(&mut line);
    read.map_err(|e| Failure::Failed(format!("cannot read the password: {e}")))?;
    let password = line.trim_end_matches(['\n', '\r']);
    if password.is_empty() || password.len() as u64 > PASSWORD_BYTES_MAX {
        return Err(Failure::Failed(format!("the password on standard input must have 1 to {PASSWORD_BYTES_MAX} bytes")));
    }
    Ok(password.into())
}

fn make() -> String {
    let mut random = rand::rng();
    (0..PASSWORD_LETTERS).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect()
}
