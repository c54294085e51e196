//! Records: small rows about everything that is neither a log nor derived from one: API keys, webhooks, invite links, push jobs, …
//!
//! One trait serves all of them, so that a backend is complete with it: a record lies under (table, partition, key) and is bytes to the
//! store. The modules that own a noun wrap it in types of their own. A table is written in one of two ways and never in both
//! (ownership rule 12): compared with what is stored ([`Records::replace_record`]), which in a cluster is an LWT and so is never used per
//! message; or with a version that orders the writes ([`Records::put_records`]).

use super::{Result, StorageError};
use async_trait::async_trait;
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

/// Bytes of a partition's and of a record's key at most.
pub const KEY_BYTES_MAX: usize = 512;
/// Bytes of a record at most.
pub const RECORD_BYTES_MAX: usize = 256 * 1024;
/// Versions are below this: a cluster's store keeps them as microseconds and refuses those far ahead of its clock.
pub const VERSION_MAX: u64 = 1 << 50;

macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident = $letter:literal, $text:literal, $way:ident;)*) => {
        /// Which records. The letter is part of the embedded store's keys and never changes its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Table { $($(#[$doc])* $name,)* }
        impl Table {
            /// All of them.
            pub const ALL: &'static [Table] = &[$(Table::$name,)*];
            /// Its letter.
            pub fn letter(self) -> u8 { match self { $(Table::$name => $letter,)* } }
            /// Its name, for a store with tables, and for people.
            pub fn name(self) -> &'static str { match self { $(Table::$name => $text,)* } }
            /// How it is written.
            pub fn way(self) -> Way { match self { $(Table::$name => Way::$way,)* } }
        }
    };
}

/// How the records of a table are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By [`Records::replace_record`] only.
    Compared,
    /// By [`Records::put_records`] only.
    Versioned,
}

tables! {
    /// user → kind ("profile", "totp", "email", …): what an account has beside its row.
    Account = b'a', "account", Compared;
    /// normalized e-mail address → user.
    Email = b'e', "email", Compared;
    /// hash of a one-time token → what it allows.
    OneTime = b'o', "one_time", Compared;
    /// external issuer → subject: the user.
    Subject = b's', "subject", Compared;
    /// → id: an API key, kept as a hash.
    ApiKey = b'k', "api_key", Compared;
    /// → id: an outgoing webhook.
    Webhook = b'w', "webhook", Compared;
    /// webhook → event: what is to be delivered.
    WebhookJob = b'j', "webhook_job", Versioned;
    /// webhook → event: what could not be delivered.
    WebhookDead = b'x', "webhook_dead", Versioned;
    /// → id: an incoming webhook.
    IncomingHook = b'h', "incoming_hook", Compared;
    /// → code: an invite link.
    Invite = b'i', "invite", Compared;
    /// room → code: the room's invite links.
    RoomInvite = b'r', "room_invite", Compared;
    /// user → room: how much of it the user wants to be told of.
    Notify = b'n', "notify", Compared;
    /// room → user: members of a channel who want to be told of every message.
    RoomNotify = b'f', "room_notify", Compared;
    /// user → device: where pushes to it go.
    PushSubscription = b'p', "push_subscription", Compared;
    /// hash of where pushes go →: whose device that is.
    PushAddress = b'u', "push_address", Compared;
    /// shard of the user → (user, device, room, seq): a push that is to be sent.
    PushJob = b'q', "push_job", Versioned;
    /// bucket of the user → user and Idempotency-Key: the answer that was given.
    Idempotency = b'y', "idempotency", Compared;
    /// → name and room: the directory of public channels.
    Directory = b'd', "directory", Versioned;
    /// day → time and id: what administrators did.
    Audit = b'l', "audit", Versioned;
    /// state → id: what was reported.
    Report = b't', "report", Compared;
    /// → kind and value: who is banned from this server.
    ServerBan = b'b', "server_ban", Compared;
    /// → name: settings that operators change while it runs.
    Setting = b'g', "setting", Compared;
}

/// A write of [`Records::put_records`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordWrite {
    /// The record's key.
    pub key: Vec<u8>,
    /// Orders the writes of this key; below [`VERSION_MAX`].
    pub version: u64,
    /// The record from now on; `None` removes it.
    pub value: Option<Bytes>,
}

/// Small rows. See the module.
#[async_trait]
pub trait Records: Send + Sync + 'static {
    /// A record.
    async fn record(&self, table: Table, partition: &[u8], key: &[u8]) -> Result<Option<Bytes>>;
    /// Records of a partition with a key greater than `after` (all, when `None`), ascending in byte order, at most `limit`.
    async fn records(&self, table: Table, partition: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<(Vec<u8>, Bytes)>>;
    /// Puts `now` (`None`: removes) if the stored record equals `was` (`None`: there is none); true when it did. Durable when it answers.
    /// Tables that are [`Way::Compared`] only.
    async fn replace_record(&self, table: Table, partition: &[u8], key: &[u8], was: Option<Bytes>, now: Option<Bytes>) -> Result<bool>;
    /// Writes each record unless the stored one has a greater version, or the same one and the write is no removal: all of them or none.
    /// Durable when it answers. A record that was removed may come back by a later write of a lower version: callers make that
    /// harmless. Tables that are [`Way::Versioned`] only.
    async fn put_records(&self, table: Table, partition: &[u8], writes: Vec<RecordWrite>) -> Result<()>;
}

/// Refuses what no backend would store alike: a key or record over its limit, a table written in the other way.
pub fn check(table: Table, way: Way, partition: &[u8], key: &[u8], value: Option<&Bytes>) -> Result<()> {
    let fault = |what: &str| Err(StorageError::Failed(format!("record of {}: {what}", table.name()).into()));
    if table.way() != way {
        return fault("the table is written in the other way");
    }
    if partition.len() > KEY_BYTES_MAX || key.len() > KEY_BYTES_MAX {
        return fault("the key is too long");
    }
    if value.is_some_and(|v| v.len() > RECORD_BYTES_MAX) {
        return fault("the record is too long");
    }
    Ok(())
}

/// A value as a record: MessagePack with named fields, so that later builds may add some.
pub fn encode<T: Serialize>(value: &T) -> Bytes {
    rmp_serde::to_vec_named(value).expect("records have no type that MessagePack lacks, and a Vec takes every write").into()
}

/// A record as a value.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    super::record::decode_whole(bytes).map_err(|e| StorageError::Damaged(format!("record: {e}").into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn tables_have_letters_and_names_of_their_own() {
        let letters: BTreeSet<u8> = Table::ALL.iter().map(|t| t.letter()).collect();
        let names: BTreeSet<&str> = Table::ALL.iter().map(|t| t.name()).collect();
        assert_eq!((letters.len(), names.len()), (Table::ALL.len(), Table::ALL.len()));
    }
}
