//! Accounts for the command line: through the server that runs on the data directory, else in the directory itself.

use super::Failure;
use super::direct::Direct;
use super::operator::Operator;
use crate::auth::accounts::valid_name;
use crate::config::Config;
use crate::protocol::ids::UserId;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Accounts asked for at once.
const PAGE: usize = 500;

/// An account as the command line shows it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Account {
    pub(super) user: UserId,
    pub(super) name: String,
    pub(super) disabled: bool,
    pub(super) created: u64,
}

/// An access token.
#[derive(Debug, Deserialize)]
pub(super) struct Issued {
    pub(super) token: String,
    /// Milliseconds since 1970.
    pub(super) expires: u64,
}

#[derive(Deserialize)]
struct Page {
    users: Vec<Account>,
}

/// Where accounts are reached.
pub(super) enum Accounts {
    /// A running server.
    Server(Operator),
    /// The data directory, which nobody else holds.
    Store(Box<Direct>),
}

impl Accounts {
    /// Those there are; a data directory that is not there is a slip in its name.
    pub(super) fn open(config: Config) -> Result<Accounts, Failure> {
        let dir = &config.storage.data_dir;
        if !dir.is_dir() {
            return Err(Failure::Failed(format!(
                "there is no data directory {}: name it with --data-dir, or make the first account with `hubbub user add`",
                dir.display()
            )));
        }
        Accounts::open_or_make(config)
    }

    /// The same; makes the data directory if it is not there.
    pub(super) fn open_or_make(config: Config) -> Result<Accounts, Failure> {
        match Operator::of(&config.storage.data_dir)? {
            Some(operator) => Ok(Accounts::Server(operator)),
            None => Ok(Accounts::Store(Box::new(Direct::open(config)?))),
        }
    }

    /// Makes an account; its id.
    pub(super) fn add(&self, name: &str, password: &str) -> Result<UserId, Failure> {
        check(name)?;
        match self {
            Accounts::Store(store) => store.add(name, password),
            Accounts::Server(server) => {
                #[derive(Deserialize)]
                struct Added {
                    user: UserId,
                }
                server.post::<Added>("/admin/users", json!({ "name": name, "password": password })).map(|a| a.user)
            }
        }
    }

    /// All accounts.
    pub(super) fn list(&self) -> Result<Vec<Account>, Failure> {
        let mut all: Vec<Account> = Vec::new();
        loop {
            let after = all.last().map_or(UserId(0), |a| a.user);
            let page = match self {
                Accounts::Store(store) => store.page(after, PAGE)?,
                Accounts::Server(server) => server.get::<Page>(&format!("/admin/users?after={after}&limit={PAGE}"))?.users,
            };
            // Until nothing is left: a server may give shorter pages than it was asked for. Each must go on, lest this never ends.
            if page.last().is_none_or(|a| a.user <= after) {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    pub(super) fn set_disabled(&self, name: &str, disabled: bool) -> Result<(), Failure> {
        check(name)?;
        let what = if disabled { "disable" } else { "enable" };
        match self {
            Accounts::Store(store) => store.set_disabled(name, disabled),
            Accounts::Server(server) => server.post_done(&format!("/admin/users/{name}/{what}"), json!({})),
        }
    }

    pub(super) fn set_password(&self, name: &str, password: &str) -> Result<(), Failure> {
        check(name)?;
        match self {
            Accounts::Store(store) => store.set_password(name, password),
            Accounts::Server(server) => server.post_done(&format!("/admin/users/{name}/password"), json!({ "password": password })),
        }
    }

    pub(super) fn no_totp(&self, name: &str) -> Result<(), Failure> {
        check(name)?;
        match self {
            Accounts::Store(store) => store.no_totp(name),
            Accounts::Server(server) => server.delete(&format!("/admin/users/{name}/totp")),
        }
    }

    pub(super) fn delete(&self, name: &str) -> Result<(), Failure> {
        check(name)?;
        match self {
            Accounts::Store(store) => store.delete(name),
            Accounts::Server(server) => server.delete(&format!("/admin/users/{name}")),
        }
    }

    pub(super) fn token(&self, name: &str, ttl_s: u64) -> Result<Issued, Failure> {
        check(name)?;
        match self {
            Accounts::Store(store) => store.token(name, ttl_s),
            Accounts::Server(server) => server.post(&format!("/admin/users/{name}/token"), json!({ "ttl_s": ttl_s })),
        }
    }
}

/// Before the name becomes part of an address.
fn check(name: &str) -> Result<(), Failure> {
    // The two that an address would take for something else.
    let path = matches!(name, "." | "..");
    if valid_name(name) && !path { Ok(()) } else { Err(Failure::Failed("a user name has 2 to 32 characters of a-z, 0-9, _ . -".into())) }
}
