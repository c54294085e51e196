//! What a client knows of its rooms: pure, no I/O, no clock.
//!
//! Per room it holds `have` (the last seq applied) and the newest messages with edits, deletions, reactions and pins folded
//! in. It applies entries strictly in order: a double changes nothing, a gap is reported and changes nothing, so `have` is
//! always the truth that a resume may build on. At [`MESSAGES_MAX`] messages of a room the oldest are let go.

use crate::protocol::entry::{Body, Change, Edit, Entry, FOREVER, MemberChange, Message, Pin, React, Role, RoomKind};
use crate::protocol::ids::{RoomId, Seq, UserId};
use crate::protocol::ops::{CursorShown, Have, Reaction, Resume, RoomStanding, RoomSummary, Shown, Standing};
use std::collections::BTreeMap;

/// Messages of a room that are held for showing.
pub const MESSAGES_MAX: usize = 1_000;
/// Rooms of one page of a resume (the protocol's limit).
pub const RESUME_PAGE: usize = 500;

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It was the next one.
    New,
    /// It, or one after it, was applied before.
    Double,
    /// Entries between `have` and it are missing; nothing was changed.
    Gap {
        /// The last seq applied.
        have: Seq,
    },
}

/// What is known of one room.
#[derive(Clone, Debug, Default)]
pub struct Room {
    /// The last seq applied.
    pub have: Seq,
    /// Entries up to here were never given to this replica, only, perhaps, history.
    pub start: Seq,
    /// Messages in the room up to `have`.
    pub n: u64,
    /// As the server listed it.
    pub summary: Option<RoomSummary>,
    /// The newest messages, by seq.
    pub messages: BTreeMap<Seq, Shown>,
    /// One's read cursor.
    pub read: Seq,
}

impl Room {
    /// Its name, where it has one.
    pub fn name(&self) -> &str {
        self.summary.as_ref().map_or("", |s| s.name.as_str())
    }
    /// The other user, if it is a direct room.
    pub fn peer(&self) -> Option<UserId> {
        self.summary.as_ref().filter(|s| s.kind == RoomKind::Direct).and_then(|s| s.peer)
    }

    /// Takes in a change of membership: of one's own role and voice, and of how many there are.
    fn change_member(&mut self, me: Option<UserId>, entry: &Entry, change: &MemberChange) {
        // The summary knows of what led to it.
        let Some(summary) = self.summary.as_mut().filter(|s| s.head < entry.seq) else { return };
        match change.change {
            Change::Join | Change::Invite => summary.members += 1,
            Change::Leave | Change::Kick => summary.members = summary.members.saturating_sub(1),
            // A ban of who was not in changes nothing, but does not say so: the next summary does.
            _ => {}
        }
        let (own, giver) = (me == Some(change.user), me == Some(entry.by));
        match change.change {
            Change::Mute if own => summary.muted_until = Some(change.until.unwrap_or(FOREVER)),
            Change::Unmute if own => summary.muted_until = None,
            Change::Transfer if own => (summary.role, summary.muted_until) = (Role::Owner, None),
            Change::Transfer if giver => summary.role = Role::Admin,
            Change::Role if own => {
                summary.role = change.role.unwrap_or(summary.role);
                summary.muted_until = summary.muted_until.filter(|_| summary.role < Role::Moderator);
            }
            _ => {}
        }
    }

    fn apply(&mut self, entry: &Entry) -> Applied {
        if entry.seq <= self.have {
            return Applied::Double;
        }
        if entry.seq != self.have + 1 {
            return Applied::Gap { have: self.have };
        }
        self.have = entry.seq;
        self.n = entry.n;
        self.fold(entry);
        Applied::New
    }

    fn fold(&mut self, entry: &Entry) {
        match &entry.body {
            Body::Message(_) => {
                self.hold(Shown { entry: entry.clone(), edited: None, deleted: None, reactions: Vec::new(), pinned: false })
            }
            Body::Edit(edit) => self.on(edit.seq, |shown| apply_edit(shown, entry.seq, edit)),
            Body::Delete(target) => self.on(target.seq, |shown| {
                shown.deleted.get_or_insert(entry.seq);
                shown.entry.body = Body::Message(Message::default());
                shown.reactions.clear();
                shown.pinned = false;
            }),
            Body::React(react) => self.on(react.seq, |shown| apply_reaction(shown, entry.by, react)),
            Body::Pin(Pin { seq, on }) => self.on(*seq, |shown| shown.pinned = *on && shown.deleted.is_none()),
            Body::Room(change) => {
                if let Some(summary) = &mut self.summary {
                    summary.name = change.name.clone().unwrap_or_else(|| std::mem::take(&mut summary.name));
                    summary.topic = change.topic.clone().unwrap_or_else(|| std::mem::take(&mut summary.topic));
                    summary.slow_mode_s = change.slow_mode_s.unwrap_or(summary.slow_mode_s);
                    summary.archived = change.archived.unwrap_or(summary.archived);
                    summary.unlisted = change.unlisted.unwrap_or(summary.unlisted);
                }
            }
            Body::Member(_) | Body::Call(_) | Body::Unknown => {}
        }
    }

    fn on(&mut self, seq: Seq, change: impl FnOnce(&mut Shown)) {
        // A message that is not held is not shown: nothing to change.
        if let Some(shown) = self.messages.get_mut(&seq) {
            change(shown);
        }
    }

    fn hold(&mut self, shown: Shown) {
        self.messages.insert(shown.entry.seq, shown);
        while self.messages.len() > MESSAGES_MAX {
            self.messages.pop_first();
        }
    }
}

fn apply_edit(shown: &mut Shown, at: Seq, edit: &Edit) {
    // History may have brought a newer edit already.
    if shown.deleted.is_some() || shown.edited.is_some_and(|newest| newest >= at) {
        return;
    }
    if let Body::Message(message) = &mut shown.entry.body {
        message.text = edit.text.clone();
        message.mentions = edit.mentions.clone();
        shown.edited = Some(at);
    }
}

fn apply_reaction(shown: &mut Shown, by: UserId, react: &React) {
    if shown.deleted.is_some() {
        return;
    }
    let at = shown.reactions.iter().position(|r| r.emoji == react.emoji);
    match (at, react.on) {
        (Some(i), true) if !shown.reactions[i].users.contains(&by) => shown.reactions[i].users.push(by),
        (None, true) => shown.reactions.push(Reaction { emoji: react.emoji.clone(), users: vec![by] }),
        (Some(i), false) => {
            shown.reactions[i].users.retain(|user| *user != by);
            if shown.reactions[i].users.is_empty() {
                shown.reactions.remove(i);
            }
        }
        _ => {}
    }
}

/// What a client knows of its rooms.
#[derive(Clone, Debug, Default)]
pub struct Replica {
    me: Option<UserId>,
    rooms: BTreeMap<RoomId, Room>,
}

impl Replica {
    /// An empty one.
    pub fn new() -> Replica {
        Replica::default()
    }
    /// Says whose it is: one's own leaving ends a room.
    pub fn signed_in(&mut self, me: UserId) {
        if self.me.is_some_and(|was| was != me) {
            self.rooms.clear();
        }
        self.me = Some(me);
    }
    /// Whose it is.
    pub fn me(&self) -> Option<UserId> {
        self.me
    }
    /// A room.
    pub fn room(&self, room: RoomId) -> Option<&Room> {
        self.rooms.get(&room)
    }
    /// All rooms.
    pub fn rooms(&self) -> impl Iterator<Item = (RoomId, &Room)> {
        self.rooms.iter().map(|(id, room)| (*id, room))
    }
    /// The last seq applied in a room; 0 for one that is not known.
    pub fn have(&self, room: RoomId) -> Seq {
        self.rooms.get(&room).map_or(0, |r| r.have)
    }

    /// Applies one entry. A room never heard of begins with the first entry that comes from it: what lies before was not
    /// promised to this client and is history.
    pub fn apply(&mut self, entry: &Entry) -> Applied {
        let before = entry.seq.saturating_sub(1);
        let room = self.rooms.entry(entry.room).or_insert_with(|| Room { have: before, start: before, ..Room::default() });
        let applied = room.apply(entry);
        if let (Applied::New, Body::Member(change)) = (applied, &entry.body) {
            room.change_member(self.me, entry, change);
        }
        if applied == Applied::New && self.me.is_some_and(|me| ends_membership(entry, me)) {
            self.rooms.remove(&entry.room);
        }
        applied
    }

    /// Takes in how a room stands in a resume, or that one has come into it.
    pub fn standing(&mut self, told: &RoomStanding) {
        match told.standing {
            Standing::Left => {
                self.rooms.remove(&told.room);
                return;
            }
            // What follows begins after `from`; if we hold more, those are doubles and dropped as such.
            Standing::CatchUp => {
                self.rooms.entry(told.room).or_insert_with(|| Room { have: told.from, start: told.from, ..Room::default() });
            }
            Standing::Joined => {
                let room = self.rooms.entry(told.room).or_default();
                if room.have < told.from {
                    *room = Room { have: told.from, start: told.from, ..Room::default() };
                }
            }
            Standing::Resync => {
                self.rooms.insert(told.room, Room { have: told.head, start: told.head, ..Room::default() });
            }
        }
        if let (Some(room), Some(summary)) = (self.rooms.get_mut(&told.room), &told.summary) {
            room.read = summary.read;
            room.summary = Some((**summary).clone());
        }
    }

    /// Takes in a row of the room list: what the room is called, not what is in it.
    pub fn summary(&mut self, summary: &RoomSummary) {
        if let Some(room) = self.rooms.get_mut(&summary.room) {
            room.summary = Some(summary.clone());
        }
    }

    /// Takes in one's cursors.
    pub fn cursor(&mut self, cursor: &CursorShown) {
        if let Some(room) = self.rooms.get_mut(&cursor.room) {
            room.read = room.read.max(cursor.read);
        }
    }

    /// Takes in messages of a page of history: they are shown, and never move `have`.
    pub fn history(&mut self, messages: &[Shown]) {
        for shown in messages {
            if let Some(room) = self.rooms.get_mut(&shown.entry.room) {
                room.hold(shown.clone());
            }
        }
    }

    /// The pages of a resume: every room with its `have`; the last page says so, and there is always one.
    pub fn resume_pages(&self) -> Vec<Resume> {
        let all: Vec<Have> = self.rooms.iter().map(|(room, r)| Have { room: *room, have: r.have }).collect();
        let mut pages: Vec<Resume> = all.chunks(RESUME_PAGE).map(|rooms| Resume { rooms: rooms.to_vec(), last: false }).collect();
        match pages.last_mut() {
            Some(page) => page.last = true,
            None => pages.push(Resume { rooms: Vec::new(), last: true }),
        }
        pages
    }
}

fn ends_membership(entry: &Entry, me: UserId) -> bool {
    matches!(&entry.body, Body::Member(m) if m.user == me && matches!(m.change, Change::Leave | Change::Kick | Change::Ban))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::protocol::entry::{RoomChange, Target};
    use crate::protocol::ids::MessageId;

    const ROOM: RoomId = RoomId(5);
    const ME: UserId = UserId(7);
    const OTHER: UserId = UserId(8);

    fn entry(seq: Seq, by: UserId, body: Body) -> Entry {
        Entry { room: ROOM, seq, n: seq, id: MessageId(seq), at: 0, by, cid: None, body }
    }
    fn text(seq: Seq, text: &str) -> Entry {
        entry(seq, OTHER, Body::Message(Message { text: text.into(), ..Message::default() }))
    }
    fn react(seq: Seq, by: UserId, target: Seq, emoji: &str, on: bool) -> Entry {
        entry(seq, by, Body::React(React { seq: target, emoji: emoji.into(), on }))
    }
    fn told(standing: Standing, from: Seq, head: Seq) -> RoomStanding {
        RoomStanding { room: ROOM, standing, from, head, summary: None }
    }
    fn replica() -> Replica {
        let mut replica = Replica::new();
        replica.signed_in(ME);
        replica
    }
    fn body(replica: &Replica, seq: Seq) -> &Message {
        match &replica.room(ROOM).unwrap().messages[&seq].entry.body {
            Body::Message(message) => message,
            other => panic!("a shown message is a message, not {other:?}"),
        }
    }

    #[test]
    fn a_double_changes_nothing() {
        let mut r = replica();
        assert_eq!(r.apply(&text(1, "one")), Applied::New);
        assert_eq!(r.apply(&text(2, "two")), Applied::New);
        assert_eq!(r.apply(&text(1, "something else")), Applied::Double);
        assert_eq!((r.have(ROOM), body(&r, 1).text.as_str(), r.room(ROOM).unwrap().messages.len()), (2, "one", 2));
    }

    #[test]
    fn a_gap_is_reported_and_nothing_behind_it_is_applied_until_it_is_filled() {
        let mut r = replica();
        r.apply(&text(1, "one"));
        assert_eq!(r.apply(&text(3, "three")), Applied::Gap { have: 1 });
        assert_eq!((r.have(ROOM), r.room(ROOM).unwrap().messages.len()), (1, 1));
        assert_eq!(r.apply(&text(2, "two")), Applied::New);
        assert_eq!(r.apply(&text(3, "three")), Applied::New);
        assert_eq!(r.have(ROOM), 3);
    }

    #[test]
    fn entries_out_of_order_end_in_the_same_state() {
        let mut r = replica();
        r.apply(&text(1, "one"));
        let mut late = vec![text(4, "four"), text(2, "two"), text(3, "three")];
        while !late.is_empty() {
            let before = late.len();
            late.retain(|e| matches!(r.apply(e), Applied::Gap { .. }));
            assert!(late.len() < before, "no progress with {late:?}");
        }
        assert_eq!(r.room(ROOM).unwrap().messages.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4]);
    }

    #[test]
    fn edits_deletions_reactions_and_pins_are_folded_in() {
        let mut r = replica();
        r.apply(&text(1, "one"));
        r.apply(&entry(2, OTHER, Body::Edit(Edit { seq: 1, text: "uno".into(), mentions: vec![ME] })));
        r.apply(&react(3, ME, 1, "+1", true));
        r.apply(&react(4, OTHER, 1, "+1", true));
        r.apply(&react(5, ME, 1, "+1", true));
        r.apply(&entry(6, OTHER, Body::Pin(Pin { seq: 1, on: true })));
        let shown = &r.room(ROOM).unwrap().messages[&1];
        assert_eq!((body(&r, 1).text.as_str(), shown.edited, shown.pinned), ("uno", Some(2), true));
        assert_eq!(shown.reactions, [Reaction { emoji: "+1".into(), users: vec![ME, OTHER] }]);

        r.apply(&react(7, ME, 1, "+1", false));
        r.apply(&react(8, OTHER, 1, "+1", false));
        assert!(r.room(ROOM).unwrap().messages[&1].reactions.is_empty());

        r.apply(&entry(9, OTHER, Body::Delete(Target { seq: 1 })));
        r.apply(&entry(10, OTHER, Body::Edit(Edit { seq: 1, text: "back?".into(), mentions: vec![] })));
        let shown = &r.room(ROOM).unwrap().messages[&1];
        assert_eq!((shown.deleted, shown.pinned, body(&r, 1).text.as_str()), (Some(9), false, ""));
        assert_eq!(r.have(ROOM), 10);
    }

    #[test]
    fn history_shows_but_never_moves_have() {
        let mut r = replica();
        r.standing(&told(Standing::Joined, 10, 10));
        let old = Shown { entry: text(4, "old"), edited: Some(12), deleted: None, reactions: vec![], pinned: false };
        r.history(&[old]);
        assert_eq!((r.have(ROOM), body(&r, 4).text.as_str()), (10, "old"));
        r.apply(&text(11, "next"));
        r.apply(&entry(12, OTHER, Body::Edit(Edit { seq: 4, text: "stale".into(), mentions: vec![] })));
        assert_eq!(body(&r, 4).text, "old", "the page was newer than this edit");
    }

    #[test]
    fn standings_of_a_resume_move_have_only_where_they_must() {
        let mut r = replica();
        for seq in 1..=5 {
            r.apply(&text(seq, "x"));
        }
        r.standing(&told(Standing::CatchUp, 5, 9));
        assert_eq!(r.have(ROOM), 5);
        r.standing(&told(Standing::Resync, 0, 9_000));
        assert_eq!((r.have(ROOM), r.room(ROOM).unwrap().messages.len()), (9_000, 0));
        r.standing(&told(Standing::Left, 0, 0));
        assert!(r.room(ROOM).is_none());
    }

    #[test]
    fn ones_own_leaving_ends_a_room_and_anothers_does_not() {
        for (user, left) in [(OTHER, false), (ME, true)] {
            let mut r = replica();
            r.apply(&text(1, "x"));
            r.apply(&entry(2, OTHER, Body::Member(MemberChange::new(user, Change::Kick, None))));
            assert_eq!(r.room(ROOM).is_none(), left);
        }
    }

    #[test]
    fn a_renamed_room_shows_its_new_name() {
        let mut r = replica();
        let summary = serde_json::from_str::<RoomSummary>(
            r#"{"room":"5","kind":"group","name":"old","topic":"t","role":"member","head":0,"n":0,"at":0,"read":0,"unread":0}"#,
        );
        r.standing(&RoomStanding { summary: Some(Box::new(summary.unwrap())), ..told(Standing::Joined, 0, 0) });
        r.apply(&entry(1, OTHER, Body::Room(RoomChange { name: Some("new".into()), ..RoomChange::default() })));
        let room = r.room(ROOM).unwrap();
        assert_eq!((room.name(), room.summary.as_ref().unwrap().topic.as_str()), ("new", "t"));
    }

    #[test]
    fn ones_own_voice_and_role_are_those_of_the_newest_entry() {
        let mut r = replica();
        let summary = r#"{"room":"5","kind":"group","name":"x","role":"member","head":0,"n":0,"at":0,"read":0,"unread":0,"members":3}"#;
        r.standing(&RoomStanding { summary: Some(serde_json::from_str(summary).unwrap()), ..told(Standing::Joined, 0, 0) });
        let member = |seq, by, user, change, role| entry(seq, by, Body::Member(MemberChange::new(user, change, role)));
        let now = |r: &Replica| r.room(ROOM).unwrap().summary.as_ref().map(|s| (s.role, s.muted_until, s.members)).unwrap();
        r.apply(&member(1, OTHER, ME, Change::Mute, None));
        assert_eq!(now(&r), (Role::Member, Some(FOREVER), 3));
        r.apply(&member(2, OTHER, ME, Change::Role, Some(Role::Reader)));
        assert_eq!(now(&r), (Role::Reader, Some(FOREVER), 3));
        r.apply(&member(3, OTHER, ME, Change::Role, Some(Role::Moderator)));
        assert_eq!(now(&r), (Role::Moderator, None, 3));
        r.apply(&member(4, OTHER, ME, Change::Transfer, Some(Role::Owner)));
        r.apply(&member(5, OTHER, UserId(9), Change::Invite, Some(Role::Member)));
        assert_eq!(now(&r), (Role::Owner, None, 4));
        r.apply(&member(6, ME, OTHER, Change::Transfer, Some(Role::Owner)));
        r.apply(&member(7, OTHER, OTHER, Change::Mute, None));
        assert_eq!(now(&r), (Role::Admin, None, 4));
    }

    #[test]
    fn a_resume_lists_every_room_in_pages_and_marks_the_last() {
        let mut r = replica();
        assert_eq!(r.resume_pages(), [Resume { rooms: vec![], last: true }]);
        for id in 0..1_001 {
            r.apply(&Entry { room: RoomId(id), ..text(1, "x") });
        }
        let pages = r.resume_pages();
        assert_eq!(pages.iter().map(|p| (p.rooms.len(), p.last)).collect::<Vec<_>>(), [(500, false), (500, false), (1, true)]);
        assert!(pages.iter().flat_map(|p| &p.rooms).all(|h| h.have == 1));
    }

    #[test]
    fn the_oldest_messages_are_let_go_at_the_limit() {
        let mut r = replica();
        for seq in 1..=MESSAGES_MAX as u64 + 3 {
            r.apply(&text(seq, "x"));
        }
        let room = r.room(ROOM).unwrap();
        assert_eq!((room.messages.len(), *room.messages.keys().next().unwrap(), room.have), (MESSAGES_MAX, 4, 1_003));
    }
}
