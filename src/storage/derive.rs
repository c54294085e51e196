//! What follows from an entry, pure: the derived rows that the applier writes (ownership rule 11).
//!
//! Deriving is idempotent by (room, seq): applied twice, or from an older row again, the result is the same, because every
//! fold keeps the seq that caused it and an older cause never overwrites a newer one.

use super::{Effect, FoldRow, MemberRow, RoomRow};
use crate::protocol::entry::{Body, Change, Entry, React, Role, RoomChange, RoomKind};
use crate::protocol::ids::{RoomId, Seq, UserId};
use crate::protocol::policy::Standing;
use crate::protocol::roomlog::standing_after;
use std::collections::{BTreeMap, HashMap};

/// Different emoji on one message at most.
pub const EMOJI_MAX: usize = 50;
/// Reactions of one message at most.
pub const REACTIONS_MAX: usize = 1_000;

/// The message that an entry folds into, if it is of a kind that does.
pub fn folds_into(body: &Body) -> Option<Seq> {
    match body {
        Body::Edit(edit) => Some(edit.seq),
        Body::Delete(target) => Some(target.seq),
        Body::React(react) => Some(react.seq),
        Body::Pin(pin) => Some(pin.seq),
        _ => None,
    }
}

/// Derived state of one room while entries are applied to it.
#[derive(Clone, Debug)]
pub struct Deriving {
    row: RoomRow,
    /// Roles where known, for counting members.
    effects: Vec<Effect>,
    folds: BTreeMap<Seq, FoldRow>,
}

/// A room that has no entries applied yet.
pub fn blank(room: RoomId) -> RoomRow {
    RoomRow {
        room,
        kind: RoomKind::Group,
        name: String::new(),
        topic: String::new(),
        pair: None,
        members: 0,
        owners: 0,
        applied: 0,
        followed: Some(0),
        n: 0,
        at: 0,
        last_message: 0,
    }
}

impl Deriving {
    /// Begins with the room's row and the fold rows of all messages that the entries fold into.
    pub fn new(row: RoomRow, folds: HashMap<Seq, FoldRow>) -> Self {
        Deriving { row, effects: Vec::new(), folds: folds.into_iter().collect() }
    }

    /// Applies the next entry. `was` is the standing of the user whose membership it changes, before it.
    pub fn apply(&mut self, entry: &Entry, was: Option<Standing>) {
        if entry.seq <= self.row.applied {
            return;
        }
        let room = self.row.room;
        match &entry.body {
            Body::Message(message) => {
                self.row.last_message = entry.seq;
                self.mention(entry.seq, &message.mentions);
            }
            Body::Edit(edit) => {
                self.mention(edit.seq, &edit.mentions);
                let fold = self.folds.entry(edit.seq).or_default();
                if fold.edit.as_ref().is_none_or(|(seq, ..)| *seq < entry.seq) {
                    fold.edit = Some((entry.seq, edit.text.clone(), edit.mentions.clone()));
                }
            }
            Body::Delete(target) => {
                let fold = self.folds.entry(target.seq).or_default();
                *fold = FoldRow { deleted: Some(fold.deleted.unwrap_or(entry.seq)), ..FoldRow::default() };
            }
            Body::React(react) => react_to(self.folds.entry(react.seq).or_default(), entry.by, react),
            Body::Pin(pin) => self.folds.entry(pin.seq).or_default().pinned = pin.on.then_some(entry.seq),
            Body::Member(change) => {
                let now = standing_after(change);
                self.count(was, now);
                self.member(room, change.user, now, entry.seq, change.change);
            }
            Body::Room(change) => self.change_room(entry, change),
            Body::Call(_) | Body::Unknown => {}
        }
        self.row.applied = entry.seq;
        self.row.n = entry.n;
        self.row.at = entry.at;
    }

    fn mention(&mut self, seq: Seq, users: &[UserId]) {
        self.effects.extend(users.iter().map(|user| Effect::Mention(*user, self.row.room, seq)));
    }

    fn change_room(&mut self, entry: &Entry, change: &RoomChange) {
        if let Some(kind) = change.kind {
            self.row.kind = kind;
        }
        if let Some(name) = &change.name {
            self.row.name.clone_from(name);
        }
        if let Some(topic) = &change.topic {
            self.row.topic.clone_from(topic);
        }
        if let (RoomKind::Direct, [(a, _), (b, _)]) = (self.row.kind, &change.members[..]) {
            self.row.pair = Some((*a.min(b), *a.max(b)));
        }
        for (user, role) in &change.members {
            self.count(None, Standing::Member(*role));
            self.effects.push(Effect::Member(self.row.room, MemberRow { user: *user, role: Some(*role), seq: entry.seq }));
        }
    }

    fn member(&mut self, room: RoomId, user: UserId, now: Standing, seq: Seq, change: Change) {
        self.effects.push(match now {
            Standing::Member(role) => Effect::Member(room, MemberRow { user, role: Some(role), seq }),
            Standing::Banned => Effect::Member(room, MemberRow { user, role: None, seq }),
            Standing::Stranger => {
                debug_assert!(matches!(change, Change::Leave | Change::Kick | Change::Unban));
                Effect::NoMember(room, user)
            }
        });
    }

    fn count(&mut self, was: Option<Standing>, now: Standing) {
        let of = |s: Option<Standing>| match s {
            Some(Standing::Member(Role::Owner)) => (1, 1),
            Some(Standing::Member(_)) => (1, 0),
            _ => (0, 0),
        };
        let (was, now) = (of(was), of(Some(now)));
        self.row.members = (self.row.members + now.0).saturating_sub(was.0);
        self.row.owners = (self.row.owners + now.1).saturating_sub(was.1);
    }

    /// A channel's subscription began or ended: no entry, but the same rows.
    pub fn subscribe(&mut self, user: UserId, was: Option<Standing>, role: Option<Role>, seq: Seq) {
        self.count(was, role.map_or(Standing::Stranger, Standing::Member));
        self.effects.push(match role {
            Some(role) => Effect::Member(self.row.room, MemberRow { user, role: Some(role), seq }),
            None => Effect::NoMember(self.row.room, user),
        });
    }

    /// The room's row as it is now, and everything that is to be written.
    pub fn finish(mut self) -> (RoomRow, Vec<Effect>) {
        let room = self.row.room;
        self.effects.extend(self.folds.into_iter().map(|(seq, fold)| Effect::Fold(room, seq, fold)));
        self.effects.push(Effect::Room(self.row.clone()));
        (self.row, self.effects)
    }
}

fn react_to(fold: &mut FoldRow, by: UserId, react: &React) {
    if fold.deleted.is_some() {
        return;
    }
    let total: usize = fold.reactions.iter().map(|(_, users)| users.len()).sum();
    let at = fold.reactions.iter().position(|(emoji, _)| *emoji == react.emoji);
    match (at, react.on) {
        (Some(i), true) if !fold.reactions[i].1.contains(&by) && total < REACTIONS_MAX => fold.reactions[i].1.push(by),
        (None, true) if fold.reactions.len() < EMOJI_MAX && total < REACTIONS_MAX => fold.reactions.push((react.emoji.clone(), vec![by])),
        (Some(i), false) => {
            fold.reactions[i].1.retain(|user| *user != by);
            if fold.reactions[i].1.is_empty() {
                fold.reactions.remove(i);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
