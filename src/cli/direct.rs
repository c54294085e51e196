//! Accounts in a data directory that no server holds. The store's own lock keeps everybody else out meanwhile.
//!
//! Ids come from a sequencer slot that no node takes. The slot's row in the store keeps two commands from giving the same id, also
//! one after the other within a millisecond, and also when the clock was set back (ownership by compare-and-set, as nodes do it).

use super::accounts::{Account, Issued};
use super::{Failure, warn};
use crate::auth::accounts::Accounts;
use crate::auth::bans::Bans;
use crate::auth::sessions::Sessions;
use crate::auth::tokens::Tokens;
use crate::auth::totp::SecondFactor;
use crate::auth::{deletion, now};
use crate::config::Config;
use crate::config::secrets::{self, Secrets};
use crate::error::ApiError;
use crate::http::audit::{self, Audit};
use crate::protocol::ids::{DeviceId, UserId};
use crate::storage::embedded::OpenError;
use crate::storage::{self, StorageError, Store};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// The sequencer slot of this machine's commands: the last of 1,024.
const SLOT: u16 = 1023;
/// Bits of a slot in each of the two parts that an id carries it in.
const SLOT_PART_BITS: u16 = 5;
/// How long the slot is held: far longer than giving one id takes.
const SLOT_HELD_MS: u64 = 1_000;
/// Tries to take the slot, [`SLOT_PAUSE`] apart: longer than a command that was killed holds it.
const SLOT_TRIES: usize = 40;
const SLOT_PAUSE: Duration = Duration::from_millis(50);
/// A command never waits longer for the store.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Name of the devices that tokens belong to.
const DEVICE_NAME: &str = "hubbub token";

/// An opened data directory.
pub(super) struct Direct {
    config: Config,
    secrets: Secrets,
    store: Arc<dyn Store>,
    accounts: Accounts,
    runtime: tokio::runtime::Runtime,
}

impl Drop for Direct {
    fn drop(&mut self) {
        self.store.close();
    }
}

impl From<ApiError> for Failure {
    fn from(e: ApiError) -> Self {
        Failure::Failed(format!("{} ({})", e.message, e.code.as_str()))
    }
}
impl From<StorageError> for Failure {
    fn from(e: StorageError) -> Self {
        Failure::Failed(e.to_string())
    }
}

impl Direct {
    pub(super) fn open(config: Config) -> Result<Direct, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Failure::Failed(format!("cannot start: {e}")))?;
        // First, so that a new directory is for its owner only.
        let secrets = secrets::load_or_make(&config.storage.data_dir, &config.auth)?;
        for path in &secrets.made {
            warn(&format!("warning: made {}, which was not there; back it up with the data directory", path.display()));
        }
        let store = open_store(&config)?;
        let accounts = Accounts::new(store.clone(), &config.auth);
        Ok(Direct { config, secrets, store, accounts, runtime })
    }

    fn wait<T, E: Into<Failure>>(&self, what: impl Future<Output = Result<T, E>>) -> Result<T, Failure> {
        match self.runtime.block_on(async { tokio::time::timeout(CALL_TIMEOUT, what).await }) {
            Ok(done) => done.map_err(E::into),
            Err(_) => Err(Failure::Failed(format!("the store did not answer within {} s", CALL_TIMEOUT.as_secs()))),
        }
    }

    pub(super) fn add(&self, name: &str, password: &str) -> Result<UserId, Failure> {
        let id = self.wait(self.fresh_id())?;
        let made = self.wait(self.accounts.create(UserId(id), name, password))?.user;
        self.note("user add", name).map(|()| made)
    }

    pub(super) fn page(&self, after: UserId, limit: usize) -> Result<Vec<Account>, Failure> {
        let rows = self.wait(self.accounts.list(after, limit))?;
        Ok(rows.into_iter().map(|r| Account { user: r.user, name: r.name, disabled: r.disabled, created: r.created }).collect())
    }

    pub(super) fn set_disabled(&self, name: &str, disabled: bool) -> Result<(), Failure> {
        self.wait(Bans::new(self.store.clone(), self.accounts.clone()).switch(name, disabled))?;
        self.note(if disabled { "user disable" } else { "user enable" }, name)
    }

    pub(super) fn set_password(&self, name: &str, password: &str) -> Result<(), Failure> {
        self.wait(self.accounts.set_password(name, password))?;
        self.note("user password", name)
    }

    pub(super) fn no_totp(&self, name: &str) -> Result<(), Failure> {
        let user = self.wait(self.accounts.by_name(name))?.user;
        self.wait(SecondFactor::new(self.store.clone(), "").remove(user))?;
        self.note("user no-totp", name)
    }

    /// Signs the account out for good; a server does the rest as soon as it starts.
    pub(super) fn delete(&self, name: &str) -> Result<(), Failure> {
        let user = self.wait(self.accounts.by_name(name))?.user;
        self.wait(deletion::begin(&*self.store, user, now()))?;
        self.note("user delete", name)
    }

    pub(super) fn token(&self, name: &str, ttl_s: u64) -> Result<Issued, Failure> {
        let user = self.wait(self.accounts.by_name(name))?;
        if user.disabled {
            return Err(Failure::Failed(format!("{name} is disabled")));
        }
        let tokens = Tokens::of(&self.secrets.signing, &self.config.auth);
        let tokens = Arc::new(tokens.map_err(|e| Failure::Config(e.to_string()))?);
        // Nobody is connected to a server that does not run.
        let sessions = Sessions::new(self.store.clone(), tokens, &self.config.auth, Arc::new(|_, _| ()));
        let device = DeviceId(self.wait(self.fresh_id())?);
        let (token, expires) = self.wait(sessions.issue(&user, device, DEVICE_NAME, ttl_s * 1000, now()))?;
        self.note("user token", name)?;
        Ok(Issued { token, expires })
    }

    /// Writes an act down, as the operators' listener does with its own.
    fn note(&self, act: &str, name: &str) -> Result<(), Failure> {
        let audit = Audit::new(self.store.clone(), &self.config.audit);
        self.wait(async {
            audit.note(audit::OPERATOR, None, act, name, "without a server").await;
            Ok::<(), Failure>(())
        })
    }

    /// An id that nobody else gives.
    async fn fresh_id(&self) -> Result<u64, Failure> {
        let token = rand::random();
        for _ in 0..SLOT_TRIES {
            let start = now();
            if self.store.take_worker(SLOT, token, start, start + SLOT_HELD_MS).await?.is_some() {
                let part = |n: u16| i32::from(n & ((1 << SLOT_PART_BITS) - 1));
                let id = snowflake::SnowflakeIdGenerator::new(part(SLOT >> SLOT_PART_BITS), part(SLOT)).real_time_generate();
                // Held no longer than past the millisecond that is in the id.
                let end = now();
                self.store.take_worker(SLOT, token, end, end + 1).await?;
                // The clock may have been set back, or the machine have slept, in between.
                if (start..start + SLOT_HELD_MS).contains(&end) {
                    return u64::try_from(id).map_err(|_| Failure::Failed("the clock is before 1970 or after 2039".into()));
                }
            }
            tokio::time::sleep(SLOT_PAUSE).await;
        }
        Err(Failure::Failed("other commands are giving ids on this data directory, or the clock was set back; try again".into()))
    }
}

/// The store as the node opens it.
fn open_store(config: &Config) -> Result<Arc<dyn Store>, Failure> {
    use crate::storage::{OpenError as Open, scylla};
    storage::open(config).map_err(|e| match e {
        Open::Embedded(OpenError::Locked { .. }) => {
            Failure::Failed(format!("{e}, which was not reached through its operators' listener; if it is starting or ending, try again"))
        }
        Open::Embedded(OpenError::Shards { .. }) | Open::Scylla(scylla::OpenError::Shards { .. }) => Failure::Config(e.to_string()),
        _ => Failure::Failed(e.to_string()),
    })
}
