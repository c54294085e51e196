//! The directory of public channels: which are there, found by the beginning of their name.
//!
//! Derived by the applier from the log (ownership rule 11), in [`Table::Directory`] with the seq as version: a channel lies under its
//! name in lower case and its id. Private rooms, archived channels and those that are `unlisted` are not in it. A listing is a hint
//! and nothing more: a write that comes late may bring one back, so who lists looks at each room's row too ([`key`]).

use super::records::{RecordWrite, Table, decode, encode};
use super::{Result, RoomRow, Store};
use crate::protocol::entry::RoomKind;
use crate::protocol::ids::{RoomId, Seq};
use std::collections::BTreeMap;

/// Bytes of a name in a key; longer ones differ by their room only.
const NAME_BYTES_MAX: usize = 400;
/// All channels lie in one partition: they are found by range.
const ALL: &[u8] = b"";

/// What the directory is to say under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The entry that says so.
    pub seq: Seq,
    /// The room; none: it is not here any more.
    pub room: Option<RoomId>,
}

/// A name as it is searched for.
pub fn folded(name: &str) -> String {
    let mut name = name.to_lowercase();
    while name.len() > NAME_BYTES_MAX {
        name.pop();
    }
    name
}

/// Where a room is listed, if it is.
pub fn key(row: &RoomRow) -> Option<Vec<u8>> {
    let listed = row.kind == RoomKind::Channel && !row.archived && !row.unlisted;
    listed.then(|| {
        let mut key = folded(&row.name).into_bytes();
        // No name has a control character (`protocol::validate`), so a name ends before any longer one.
        key.push(0);
        key.extend_from_slice(&row.room.0.to_be_bytes());
        key
    })
}

/// Writes listings, durably. To be done before the room's row says that they are applied.
pub async fn put(store: &dyn Store, listings: BTreeMap<Vec<u8>, Listing>) -> Result<()> {
    if listings.is_empty() {
        return Ok(());
    }
    let write = |(key, listing): (Vec<u8>, Listing)| RecordWrite { key, version: listing.seq, value: listing.room.map(|r| encode(&r)) };
    store.put_records(Table::Directory, ALL, listings.into_iter().map(write).collect()).await
}

/// Channels whose name begins with `prefix` (as [`folded`]), in order of their names, after a key, at most `limit`.
pub async fn list(store: &dyn Store, prefix: &str, after: Option<&[u8]>, limit: usize) -> Result<Vec<(Vec<u8>, RoomId)>> {
    // Every key is longer than its name, so what comes after the prefix itself is all that begins with it.
    let after = after.filter(|key| *key > prefix.as_bytes()).or(Some(prefix.as_bytes()).filter(|p| !p.is_empty()));
    let found = store.records(Table::Directory, ALL, after, limit).await?;
    let ours = found.into_iter().take_while(|(key, _)| key.starts_with(prefix.as_bytes()));
    ours.map(|(key, room)| Ok((key, decode(&room)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::derive::blank;

    fn channel(name: &str) -> RoomRow {
        RoomRow { kind: RoomKind::Channel, name: name.into(), ..blank(RoomId(7)) }
    }

    #[test]
    fn only_public_channels_that_are_in_use_are_listed() {
        assert!(key(&channel("General")).is_some_and(|key| key.starts_with(b"general\0")));
        for hidden in [
            RoomRow { kind: RoomKind::Group, ..channel("a") },
            RoomRow { archived: true, ..channel("a") },
            RoomRow { unlisted: true, ..channel("a") },
        ] {
            assert_eq!(key(&hidden), None);
        }
    }

    #[test]
    fn a_key_is_short_enough_for_every_store_whatever_the_name() {
        for name in ["İ".repeat(100), "ẞ".repeat(100), "𐐀".repeat(100)] {
            assert!(key(&channel(&name)).is_some_and(|key| key.len() <= crate::storage::records::KEY_BYTES_MAX), "{name}");
        }
    }
}
