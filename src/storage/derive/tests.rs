//! Derived rows against a plain fold of the whole log, whatever the batches are and however often a suffix is applied again.

use super::*;
use crate::protocol::entry::{Edit, FOREVER, MemberChange, Message, Pin, Target};
use crate::protocol::ids::MessageId;
use proptest::prelude::*;

const ROOM: RoomId = RoomId(9);

/// What a store holds of one room.
#[derive(Clone, Debug, PartialEq)]
struct Rows {
    room: RoomRow,
    members: BTreeMap<UserId, MemberRow>,
    folds: BTreeMap<Seq, FoldRow>,
    mentions: std::collections::BTreeSet<(UserId, Seq)>,
    pins: std::collections::BTreeSet<Seq>,
}

impl Rows {
    fn new() -> Rows {
        Rows { room: blank(ROOM), members: BTreeMap::new(), folds: BTreeMap::new(), mentions: Default::default(), pins: Default::default() }
    }
    fn place(&self, user: UserId) -> Place {
        self.members.get(&user).map_or(Place::NONE, MemberRow::place)
    }
    /// One batch, as the applier carries it out.
    fn apply(&mut self, entries: &[Entry]) {
        let folds = entries.iter().filter_map(|e| folds_into(&e.body)).filter_map(|s| Some((s, self.folds.get(&s)?.clone()))).collect();
        let mut places: HashMap<UserId, Place> = HashMap::new();
        let mut deriving = Deriving::new(self.room.clone(), folds);
        for entry in entries {
            let was = match &entry.body {
                Body::Member(change) => {
                    let was = places.get(&change.user).copied().unwrap_or_else(|| self.place(change.user));
                    places.insert(change.user, place_after(was, change));
                    if change.change == Change::Transfer {
                        places.insert(entry.by, STEPPED_DOWN);
                    }
                    Some(was)
                }
                Body::Room(change) => {
                    places.extend(change.members.iter().map(|(u, r)| (*u, Place::from(Standing::Member(*r)))));
                    None
                }
                _ => None,
            };
            deriving.apply(entry, was);
        }
        for effect in deriving.finish().1 {
            match effect {
                Effect::Room(row) => self.room = row,
                Effect::Member(_, row) => drop(self.members.insert(row.user, row)),
                Effect::NoMember(_, user) => drop(self.members.remove(&user)),
                Effect::Fold(_, seq, fold) => drop(self.folds.insert(seq, fold)),
                Effect::Mention(user, _, seq) => drop(self.mentions.insert((user, seq))),
                Effect::Pin(_, seq, true) => drop(self.pins.insert(seq)),
                Effect::Pin(_, seq, false) => drop(self.pins.remove(&seq)),
            }
        }
    }
}

fn body() -> impl Strategy<Value = Body> {
    let (user, seq) = (1u64..6, 2u64..30);
    let role = prop::sample::select(vec![Role::Reader, Role::Member, Role::Admin, Role::Owner]);
    let change = prop::sample::select(vec![
        Change::Invite,
        Change::Leave,
        Change::Kick,
        Change::Ban,
        Change::Unban,
        Change::Role,
        Change::Mute,
        Change::Unmute,
    ]);
    prop_oneof![
        3 => (0u64..4).prop_map(|m| Body::Message(Message { text: "t".into(), mentions: vec![UserId(m + 1)], ..Message::default() })),
        1 => (seq.clone(), "[a-c]").prop_map(|(seq, text)| Body::Edit(Edit { seq, text, mentions: Vec::new() })),
        1 => seq.clone().prop_map(|seq| Body::Delete(Target { seq })),
        2 => (seq.clone(), "[a-c]", any::<bool>()).prop_map(|(seq, emoji, on)| Body::React(React { seq, emoji, on })),
        1 => (seq, any::<bool>()).prop_map(|(seq, on)| Body::Pin(Pin { seq, on })),
        2 => (user, change, role).prop_map(|(user, change, role)| {
            let role = matches!(change, Change::Invite | Change::Role).then_some(role);
            Body::Member(MemberChange::new(UserId(user), change, role))
        }),
        1 => "[a-z]{1,3}".prop_map(|name| Body::Room(RoomChange { name: Some(name), ..RoomChange::default() })),
    ]
}

/// A log that begins with the room's creation.
fn log() -> impl Strategy<Value = Vec<Entry>> {
    prop::collection::vec((body(), 1u64..4), 1..80).prop_map(|bodies| {
        let members = vec![(UserId(1), Role::Owner), (UserId(2), Role::Member)];
        let creation = Body::Room(RoomChange { kind: Some(RoomKind::Group), members, ..RoomChange::default() });
        let mut n = 0;
        let entry = |(i, (body, by)): (usize, (Body, u64))| {
            n += u64::from(body.is_message());
            let seq = i as u64 + 1;
            Entry { room: ROOM, seq, n, id: MessageId(seq), at: 100 + seq, by: UserId(by), cid: None, body }
        };
        std::iter::once((creation, 1)).chain(bodies).enumerate().map(entry).collect()
    })
}

/// Batches end at these positions.
fn split<'a>(log: &'a [Entry], cuts: &[prop::sample::Index]) -> Vec<&'a [Entry]> {
    let mut at: Vec<usize> = cuts.iter().map(|c| c.index(log.len() + 1)).collect();
    at.extend([0, log.len()]);
    at.sort_unstable();
    at.windows(2).map(|w| &log[w[0]..w[1]]).filter(|b| !b.is_empty()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn rows_are_the_fold_of_the_log_whatever_the_batches(log in log(), cuts: Vec<prop::sample::Index>) {
        let mut rows = Rows::new();
        split(&log, &cuts).into_iter().for_each(|batch| rows.apply(batch));

        let last = &log[log.len() - 1];
        prop_assert_eq!((rows.room.applied, rows.room.n, rows.room.at), (last.seq, last.n, last.at));
        let newest = log.iter().rev().find(|e| e.body.is_message()).map_or(0, |e| e.seq);
        prop_assert_eq!(rows.room.last_message, newest);
        let roles = || rows.members.values().filter_map(|m| m.role);
        prop_assert_eq!(rows.room.members, roles().count() as u64);
        prop_assert_eq!(rows.room.owners, roles().filter(|r| *r == Role::Owner).count() as u64);
        for user in (1..6).map(UserId) {
            let place = log.iter().fold(Place::NONE, |was, e| match &e.body {
                Body::Member(c) if c.user == user => place_after(was, c),
                Body::Room(c) => c.members.iter().find(|(u, _)| *u == user).map_or(was, |(_, role)| Standing::Member(*role).into()),
                _ => was,
            });
            prop_assert_eq!(rows.place(user), place);
        }
        let pinned: Vec<Seq> = rows.folds.iter().filter(|(_, fold)| fold.pinned.is_some()).map(|(seq, _)| *seq).collect();
        prop_assert_eq!(rows.pins.iter().copied().collect::<Vec<_>>(), pinned);
        for (seq, fold) in &rows.folds {
            let deletion = log.iter().find(|e| matches!(&e.body, Body::Delete(t) if t.seq == *seq)).map(|e| e.seq);
            prop_assert_eq!(fold.deleted, deletion);
            prop_assert!(deletion.is_none() || fold.reactions.is_empty(), "a deleted message has no reactions");
            for (emoji, users) in &fold.reactions {
                for user in users {
                    let newest = log.iter().rev().find_map(|e| match &e.body {
                        Body::React(r) if r.seq == *seq && r.emoji == *emoji && e.by == *user => Some(r.on),
                        _ => None,
                    });
                    prop_assert_eq!(newest, Some(true));
                }
            }
        }
    }

    /// A restart begins with some earlier row and does the rest again, also over folds and memberships that are newer than the row.
    #[test]
    fn applying_a_suffix_again_changes_nothing(log in log(), cuts: Vec<prop::sample::Index>, back: prop::sample::Index) {
        let mut rows = Rows::new();
        let batches = split(&log, &cuts);
        let mut earlier = vec![rows.clone()];
        for batch in &batches {
            rows.apply(batch);
            earlier.push(rows.clone());
        }
        let again = back.index(earlier.len());
        let mut from_then = earlier[again].clone();
        log[from_then.room.applied as usize..].chunks(3).for_each(|batch| from_then.apply(batch));
        prop_assert_eq!(&from_then, &rows);

        let mut twice = rows.clone();
        batches.iter().for_each(|batch| twice.apply(batch));
        prop_assert_eq!(&twice, &rows);

        // Rows that were written one by one: the room's row came last and was lost.
        let mut torn = rows.clone();
        torn.room = earlier[again].room.clone();
        torn.members = earlier[again].members.clone();
        log[torn.room.applied as usize..].chunks(5).for_each(|batch| torn.apply(batch));
        prop_assert_eq!(torn.room, rows.room);
        prop_assert_eq!(torn.members, rows.members);
        prop_assert_eq!(torn.pins, rows.pins);
        for (seq, fold) in &rows.folds {
            let redone = &torn.folds[seq];
            prop_assert_eq!((&redone.edit, redone.deleted, redone.pinned), (&fold.edit, fold.deleted, fold.pinned));
        }
    }
}

fn at(seq: Seq, by: u64, body: Body) -> Entry {
    Entry { room: ROOM, seq, n: 0, id: MessageId(seq), at: 100 + seq, by: UserId(by), cid: None, body }
}

#[test]
fn a_transfer_is_one_entry_and_two_memberships() {
    let mut rows = Rows::new();
    let members = vec![(UserId(1), Role::Owner), (UserId(2), Role::Member)];
    let creation = Body::Room(RoomChange { kind: Some(RoomKind::Group), members, ..RoomChange::default() });
    let transfer = MemberChange::new(UserId(2), Change::Transfer, Some(Role::Owner));
    rows.apply(&[at(1, 1, creation), at(2, 1, Body::Member(transfer))]);
    assert_eq!((rows.room.members, rows.room.owners), (2, 1));
    let roles = [1, 2].map(|user| rows.place(UserId(user)).standing);
    assert_eq!(roles, [Standing::Member(Role::Admin), Standing::Member(Role::Owner)]);
}

#[test]
fn a_mute_that_goes_on_keeps_a_row_of_who_left_and_one_that_is_over_does_not() {
    for (until, kept) in [(None, true), (Some(103), false)] {
        let mut rows = Rows::new();
        let members = vec![(UserId(1), Role::Owner), (UserId(2), Role::Member)];
        let creation = Body::Room(RoomChange { kind: Some(RoomKind::Group), members, ..RoomChange::default() });
        let mute = MemberChange { until, ..MemberChange::new(UserId(2), Change::Mute, None) };
        let leave = MemberChange::new(UserId(2), Change::Leave, None);
        rows.apply(&[at(1, 1, creation), at(2, 1, Body::Member(mute)), at(3, 2, Body::Member(leave))]);
        let row = MemberRow { user: UserId(2), role: None, seq: 3, muted_until: FOREVER, out: true };
        assert_eq!(rows.members.get(&UserId(2)), kept.then_some(&row));
        assert_eq!(rows.room.members, 1);
    }
}

#[test]
fn the_directory_follows_a_channel_through_names_and_out_of_sight() {
    let change = |change: RoomChange| Body::Room(change);
    let named = |name: &str| RoomChange { name: Some(name.into()), ..RoomChange::default() };
    let key = |name: &str| directory::key(&RoomRow { kind: RoomKind::Channel, name: name.into(), ..blank(ROOM) }).unwrap();
    let mut deriving = Deriving::new(blank(ROOM), HashMap::new());
    let mut apply = |seq, body: Body| {
        deriving.apply(&at(seq, 1, body), None);
        deriving.listings().into_iter().map(|(key, l)| (key, l.seq, l.room.is_some())).collect::<Vec<_>>()
    };
    assert_eq!(apply(1, change(RoomChange { kind: Some(RoomKind::Channel), ..named("News") })), [(key("news"), 1, true)]);
    assert_eq!(apply(2, change(named("NEWS"))), [(key("news"), 2, true)]);
    assert_eq!(apply(3, change(named("Alerts"))), [(key("alerts"), 3, true), (key("news"), 3, false)]);
    let archived = |on| RoomChange { archived: Some(on), ..RoomChange::default() };
    assert_eq!(apply(4, change(archived(true))), [(key("alerts"), 4, false)]);
    assert_eq!(apply(5, change(named("Later"))), []);
    assert_eq!(apply(6, change(archived(false))), [(key("later"), 6, true)]);
    assert_eq!(apply(7, change(RoomChange { unlisted: Some(true), ..RoomChange::default() })), [(key("later"), 7, false)]);
}
