//! The names things go by: numeric ids that the sequencer gives, client ids that clients choose, shards and epochs.
//!
//! In JSON a 64-bit id is a string of decimal digits (a JavaScript number would lose bits); in MessagePack and in stored
//! records it is an integer. Every id type here carries both forms, so no other code needs to think of it.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(s: &str) -> Result<Self, IdError> {
                parse_id(s).map($name).ok_or(IdError)
            }
        }
        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                id_schema()
            }
        }
        impl ToSchema for $name {}
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                if s.is_human_readable() { s.collect_str(&self.0) } else { s.serialize_u64(self.0) }
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                if d.is_human_readable() { d.deserialize_str(IdVisitor) } else { d.deserialize_u64(IdVisitor) }.map($name)
            }
        }
    };
}

id!(
    /// An account.
    UserId
);
id!(
    /// A room of any kind.
    RoomId
);
id!(
    /// A message's snowflake: unique everywhere, roughly ordered by time; nothing is sorted by it.
    MessageId
);
id!(
    /// A device of a user: what a refresh token belongs to, and what a push goes to.
    DeviceId
);

impl UserId {
    /// The server itself, where it acts in rooms as nobody's user (moderation). No account has this id.
    pub const SERVER: UserId = UserId(0);
}

/// A text that is not an id: ids are 1 to 19 decimal digits, at most 2^63 - 1, without sign or leading zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id: expected 1 to 19 decimal digits")]
pub struct IdError;

fn parse_id(s: &str) -> Option<u64> {
    let plain = !s.is_empty() && s.len() <= 19 && s.bytes().all(|b| b.is_ascii_digit()) && (s == "0" || !s.starts_with('0'));
    s.parse().ok().filter(|n| plain && *n <= i64::MAX as u64)
}

/// An id as an OpenAPI document says it. The pattern leaves out only the last 2 % of the ids that are read.
fn id_schema() -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some("^(0|[1-9][0-9]{0,17}|[1-8][0-9]{18})$"))
        .description(Some("an id: a whole number below 2^63 in decimal digits, as a string"))
        .examples([serde_json::json!("382895990180708352")])
        .into()
}

struct IdVisitor;
impl de::Visitor<'_> for IdVisitor {
    type Value = u64;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id (in JSON a string of decimal digits)")
    }
    fn visit_str<E: de::Error>(self, s: &str) -> Result<u64, E> {
        parse_id(s).ok_or_else(|| E::invalid_value(de::Unexpected::Str(s), &self))
    }
    fn visit_u64<E: de::Error>(self, n: u64) -> Result<u64, E> {
        if n <= i64::MAX as u64 { Ok(n) } else { Err(E::invalid_value(de::Unexpected::Unsigned(n), &self)) }
    }
}

/// A client id: 128 bits that a client chose for one send (random or time-ordered), the same in every resend of it.
/// In JSON the usual UUID text (with or without hyphens), in MessagePack 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClientId(pub uuid::Uuid);

impl ClientId {
    /// A fresh time-ordered client id (UUID version 7, RFC 9562).
    pub fn fresh() -> Self {
        ClientId(uuid::Uuid::now_v7())
    }
}
impl PartialSchema for ClientId {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::Custom("uuid".into())))
            .description(Some("a client id: 128 bits that the client chose for one request, the same in every repeat of it"))
            .into()
    }
}
impl ToSchema for ClientId {}
impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientId({})", self.0)
    }
}

/// Position of an entry in its room's log: 1 for the first, without gaps. 0 stands for "before the first".
pub type Seq = u64;

/// A fixed slice of the id space of rooms and users. The number of shards is fixed when a store is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(pub u32);

/// Number of shards of a new store unless chosen otherwise (docs/ARCHITECTURE.md says why this many).
pub const SHARDS_DEFAULT: u32 = 4096;

impl Shard {
    /// The shard of a room.
    pub fn of_room(room: RoomId, shards: u32) -> Shard {
        Shard::of(room.0, shards)
    }
    /// The shard of a user (its presence).
    pub fn of_user(user: UserId, shards: u32) -> Shard {
        Shard::of(user.0, shards)
    }
    fn of(id: u64, shards: u32) -> Shard {
        // Snowflakes differ mostly in their high bits; a hash spreads them evenly.
        Shard((xxhash_rust::xxh3::xxh3_64(&id.to_be_bytes()) % u64::from(shards.max(1))) as u32)
    }
}

/// A writer's epoch as rows carry it: the shard's epoch and, within it, the activation of the room
/// (ownership rule 2). Ordered lexicographically in one 63-bit number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// Bits of an activation: 16 million starts of a room's actor per shard epoch; the shard then takes a new epoch.
    pub const ACTIVATION_BITS: u32 = 24;
    /// Joins a shard epoch and an activation.
    ///
    /// # Panics
    /// In debug builds, when the activation does not fit.
    pub fn new(shard_epoch: u64, activation: u32) -> Epoch {
        debug_assert!(activation < 1 << Self::ACTIVATION_BITS);
        Epoch(shard_epoch << Self::ACTIVATION_BITS | u64::from(activation))
    }
    /// The shard's epoch in it.
    pub fn shard_epoch(self) -> u64 {
        self.0 >> Self::ACTIVATION_BITS
    }
    /// The activation in it.
    pub fn activation(self) -> u32 {
        (self.0 & ((1 << Self::ACTIVATION_BITS) - 1)) as u32
    }
}

/// Entries per bucket: the size of a partition of the log (about 1 MiB of short messages).
pub const BUCKET_ENTRIES: u64 = 4096;

/// The bucket that holds `seq`.
pub fn bucket_of(seq: Seq) -> u32 {
    (seq / BUCKET_ENTRIES) as u32
}

/// Milliseconds since 1970-01-01 UTC, by the wall clock of the node that numbered an entry. For people; orders nothing.
pub type Millis = u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_strings_in_json_and_integers_in_messagepack() {
        let id = RoomId(1 << 60);
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"1152921504606846976\"");
        assert_eq!(serde_json::from_str::<RoomId>("\"1152921504606846976\"").unwrap(), id);
        assert_eq!(rmp_serde::from_slice::<RoomId>(&rmp_serde::to_vec(&id).unwrap()).unwrap(), id);
        for bad in ["\"\"", "\"-1\"", "\"+1\"", "\" 1\"", "\"01\"", "\"9223372036854775808\"", "1", "null", "\"x\""] {
            assert!(serde_json::from_str::<RoomId>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn epochs_order_by_shard_epoch_then_activation() {
        assert!(Epoch::new(2, 0) > Epoch::new(1, 9_000_000));
        assert!(Epoch::new(2, 1) > Epoch::new(2, 0));
        assert_eq!((Epoch::new(7, 3).shard_epoch(), Epoch::new(7, 3).activation()), (7, 3));
    }
}
