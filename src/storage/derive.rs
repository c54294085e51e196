//! What follows from an entry, pure: the derived rows that the applier writes (ownership rule 11).
//!
//! Deriving is idempotent by (room, seq): applied twice, or from an older row again, the result is the same, because every
//! fold keeps the seq that caused it and an older cause never overwrites a newer one.

use super::directory::{self, Listing};
use super::{Effect, FoldRow, MemberRow, RoomRow};
use crate::protocol::entry::{Body, Change, Entry, MemberChange, React, Role, RoomChange, RoomKind};
use crate::protocol::ids::{Millis, RoomId, Seq, UserId};
use crate::protocol::policy::{Place, Standing};
use crate::protocol::roomlog::{STEPPED_DOWN, count, place_after};
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

/// Whether nothing follows from an entry but what the room's row says of its end.
pub fn only_the_row(body: &Body) -> bool {
    match body {
        Body::Message(message) => message.mentions.is_empty(),
        Body::Call(_) | Body::Unknown => true,
        _ => false,
    }
}

/// Derived state of one room while entries are applied to it.
#[derive(Clone, Debug)]
pub struct Deriving {
    row: RoomRow,
    effects: Vec<Effect>,
    folds: BTreeMap<Seq, FoldRow>,
    listings: BTreeMap<Vec<u8>, Listing>,
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
        slow_mode_s: 0,
        archived: false,
        unlisted: false,
        turn: 0,
    }
}

impl Deriving {
    /// Begins with the room's row and the fold rows of all messages that the entries fold into.
    pub fn new(row: RoomRow, folds: HashMap<Seq, FoldRow>) -> Self {
        Deriving { row, effects: Vec::new(), folds: folds.into_iter().collect(), listings: BTreeMap::new() }
    }

    /// Applies the next entry. `was` is the place of the user whose membership it changes, before it.
    pub fn apply(&mut self, entry: &Entry, was: Option<Place>) {
        if entry.seq <= self.row.applied {
            return;
        }
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
                self.effects.push(Effect::Pin(self.row.room, target.seq, false));
            }
            Body::React(react) => react_to(self.folds.entry(react.seq).or_default(), entry.by, react),
            Body::Pin(pin) => {
                let fold = self.folds.entry(pin.seq).or_default();
                // A pin that comes again after the deletion that followed it pins nothing.
                let on = pin.on && fold.deleted.is_none();
                fold.pinned = on.then_some(entry.seq);
                self.effects.push(Effect::Pin(self.row.room, pin.seq, on));
            }
            Body::Member(change) => self.change_member(entry, was, change),
            Body::Room(change) => {
                let listed = directory::key(&self.row);
                self.change_room(entry, change);
                self.list(listed, entry.seq);
            }
            Body::Call(_) | Body::Unknown => {}
        }
        (self.row.applied, self.row.turn) = (entry.seq, 0);
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
        self.row.slow_mode_s = change.slow_mode_s.unwrap_or(self.row.slow_mode_s);
        self.row.archived = change.archived.unwrap_or(self.row.archived);
        self.row.unlisted = change.unlisted.unwrap_or(self.row.unlisted);
        if let (RoomKind::Direct, [(a, _), (b, _)]) = (self.row.kind, &change.members[..]) {
            self.row.pair = Some((*a.min(b), *a.max(b)));
        }
        for (user, role) in &change.members {
            self.put(*user, None, Standing::Member(*role).into(), entry.seq, entry.at);
        }
    }

    /// The directory after a change of the room: where it was listed, where it is now. Never both for one key (ownership rule 11).
    fn list(&mut self, was: Option<Vec<u8>>, seq: Seq) {
        let now = directory::key(&self.row);
        if let Some(key) = was.filter(|key| now.as_ref() != Some(key)) {
            self.listings.insert(key, Listing { seq, room: None });
        }
        if let Some(key) = now {
            self.listings.insert(key, Listing { seq, room: Some(self.row.room) });
        }
    }

    fn change_member(&mut self, entry: &Entry, was: Option<Place>, change: &MemberChange) {
        if change.change == Change::Unknown {
            return;
        }
        let now = place_after(was.unwrap_or(Place::NONE), change);
        self.put(change.user, was, now, entry.seq, entry.at);
        if change.change == Change::Transfer {
            self.put(entry.by, Some(Standing::Member(Role::Owner).into()), STEPPED_DOWN, entry.seq, entry.at);
        }
    }

    fn put(&mut self, user: UserId, was: Option<Place>, now: Place, seq: Seq, at: Millis) {
        let (before, after) = (count(was.map(|p| p.standing)), count(Some(now.standing)));
        self.row.members = (self.row.members + after.0).saturating_sub(before.0);
        self.row.owners = (self.row.owners + after.1).saturating_sub(before.1);
        let room = self.row.room;
        self.effects.push(match MemberRow::of(user, now, seq, at) {
            Some(row) => Effect::Member(room, row),
            None => Effect::NoMember(room, user),
        });
    }

    /// A channel's subscription began or ended: no entry, but the same rows. A mute goes on over both.
    pub fn subscribe(&mut self, user: UserId, was: Option<Place>, role: Option<Role>, seq: Seq) {
        let standing = role.map_or(Standing::Stranger, Standing::Member);
        let now = Place { standing, ..was.unwrap_or(Place::NONE) };
        self.row.take_turn();
        self.put(user, was, now, seq, self.row.at);
    }

    /// What the directory of channels is to say from now on, by key.
    pub fn listings(&mut self) -> BTreeMap<Vec<u8>, Listing> {
        std::mem::take(&mut self.listings)
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
