//! Names of accounts: each is one account's, decided by compare-and-set in a cell of its own.
//!
//! The account's cell says which name it bears, the name's cell whose it is, and both cannot be written at once. So a change that is broken
//! off may leave a name behind whose account bears another: the new one, when it had only been claimed, or the old one, when it had not been
//! freed yet. Such a name is nobody's, and is taken over by whoever wants it next.
//!
//! That the change may be under way still does no harm. Who takes a name over writes the account's cell anew first, the same row with the
//! next `turn`: whatever has read it before fails at its own compare-and-set. And every claim has a token of its own, so that a name that
//! was claimed again meanwhile, by the same account too, is not taken over by who had looked before.

use super::Core;
use super::calls::{nothing_written, odd};
use super::users::{NAME, USER, bare};
use crate::protocol::ids::UserId;
use crate::storage::records::{decode, encode};
use crate::storage::{Result, StorageError, UserRow};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Tries of a change that others make too.
const TRIES: usize = 16;

/// Whose a name is; with it the account's first row, until that is written.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Claimed {
    pub(super) user: UserId,
    pub(super) first: Option<UserRow>,
    /// No two claims have the same; 0 for those that were made while nobody else could.
    #[serde(default)]
    pub(super) token: u64,
}

impl Claimed {
    pub(super) fn new(user: UserId, first: Option<&UserRow>) -> Claimed {
        Claimed { user, first: first.map(bare), token: rand::random() }
    }
}

/// What an account's cell holds: the fields of its row, and a turn among them.
pub(super) struct Account {
    pub(super) row: UserRow,
    /// How often a name was taken over that it had left behind.
    turn: u64,
}

#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    row: &'a UserRow,
    #[serde(skip_serializing_if = "is_none")]
    turn: u64,
}

#[derive(Deserialize)]
struct Turn {
    #[serde(default)]
    turn: u64,
}

fn is_none(turn: &u64) -> bool {
    *turn == 0
}

impl Account {
    /// The first content of an account's cell.
    pub(super) fn first(row: &UserRow) -> Bytes {
        Account { row: bare(row), turn: 0 }.write()
    }
    /// The next content, with this row.
    pub(super) fn with(&self, row: &UserRow) -> Bytes {
        Account { row: bare(row), turn: self.turn }.write()
    }
    fn write(&self) -> Bytes {
        encode(&Written { row: &self.row, turn: self.turn })
    }
    /// A cell's content. In two parts, because flattened fields would be read as those of a format for people, where ids are strings.
    pub(super) fn read(stored: &[u8]) -> Result<Account> {
        Ok(Account { row: decode(stored)?, turn: decode::<Turn>(stored)?.turn })
    }
}

impl Core {
    /// Whether a name is somebody's, as far as a quick look tells.
    pub(super) async fn is_taken(&self, name: &str) -> Result<bool> {
        let Some(stored) = self.cell(NAME, name.as_bytes(), b"").await? else { return Ok(false) };
        let there: Claimed = decode(&stored)?;
        if there.first.is_some() {
            return Ok(true);
        }
        let account = self.cell(USER, &there.user.0.to_be_bytes(), b"").await?.map(|row| decode::<UserRow>(&row)).transpose()?;
        Ok(account.is_none_or(|row| row.name == name))
    }

    /// Claims a name for the account that `claim` says; false when it is another's.
    pub(super) async fn claim_name(&self, name: &str, claim: &Claimed) -> Result<bool> {
        let mine = encode(claim);
        let mut doubt = None;
        for _ in 0..TRIES {
            let stored = self.cell_serial(NAME, name.as_bytes(), b"").await?;
            if let Some(stored) = &stored {
                // After a time-out that has done it.
                if **stored == *mine {
                    return Ok(true);
                }
                let there: Claimed = decode(stored)?;
                if there.first.is_some() {
                    self.write_first(name, stored, &there).await?;
                    continue;
                }
                if there.user != claim.user && !self.bears_another(there.user, name).await.map_err(nothing_written)? {
                    return Ok(false);
                }
            }
            match self.set_cell(NAME, name.as_bytes(), b"", stored.as_deref(), Some(&mine)).await {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(StorageError::InDoubt(why)) => doubt = Some(why),
                Err(error) => return Err(error),
            }
        }
        Err(doubt.map_or(StorageError::Busy("others want the same name"), StorageError::InDoubt))
    }

    /// Frees a name if it is this account's and the account bears another. One that stays behind is nobody's, and is found by who wants it.
    pub(super) async fn free_name(&self, name: &str, user: UserId) {
        let free = async {
            let Some(stored) = self.cell_serial(NAME, name.as_bytes(), b"").await? else { return Ok(()) };
            if decode::<Claimed>(&stored)?.user == user && self.bears_another(user, name).await? {
                self.set_cell(NAME, name.as_bytes(), b"", Some(&stored), None).await?;
            }
            Ok::<(), StorageError>(())
        };
        if let Err(error) = free.await {
            tracing::debug!(%error, %user, "a name that was given up is left to who wants it next");
        }
    }

    /// Whether an account bears another name than this, and no change of its row that has begun can succeed any more.
    async fn bears_another(&self, user: UserId, name: &str) -> Result<bool> {
        let part = user.0.to_be_bytes();
        for _ in 0..TRIES {
            // A claim without a first row is made of a row that is there; who finds none does not know better than its claim.
            let Some(stored) = self.cell_serial(USER, &part, b"").await? else { return Ok(false) };
            let mut account = Account::read(&stored)?;
            if account.row.name == name {
                return Ok(false);
            }
            if crate::sabotage::is("sleeping_rename") {
                return Ok(true);
            }
            account.turn = account.turn.checked_add(1).ok_or_else(|| odd("an account's turn"))?;
            if self.set_cell(USER, &part, b"", Some(&stored), Some(&account.write())).await? {
                return Ok(true);
            }
        }
        Err(StorageError::Busy("others are changing the account that had the name"))
    }

    /// Writes an account's first row, and lets the name forget it: a password's hash should be in one place.
    pub(super) async fn write_first(&self, name: &str, stored: &[u8], claim: &Claimed) -> Result<()> {
        let Some(first) = &claim.first else { return Ok(()) };
        self.claim(USER, &claim.user.0.to_be_bytes(), &Account::first(first)).await?;
        let settled = encode(&Claimed { first: None, ..claim.clone() });
        if let Err(error) = self.set_cell(NAME, name.as_bytes(), b"", Some(stored), Some(&settled)).await {
            tracing::debug!(%error, "a name keeps its account's first row until it is looked up");
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::storage::conformance::support::user;

    #[test]
    fn an_accounts_cell_is_its_row_to_builds_that_know_no_turn() {
        let row = user(7, "grace");
        assert_eq!(Account::first(&row), encode(&row), "the same bytes, so that a move begun by another build goes on");
        let account = Account::read(&encode(&row)).unwrap();
        assert_eq!((&account.row, account.turn), (&row, 0));
        let later = Account { turn: 3, ..account }.write();
        assert_eq!(decode::<UserRow>(&later).unwrap(), row);
        assert_eq!(Account::read(&later).unwrap().turn, 3);
    }
}
