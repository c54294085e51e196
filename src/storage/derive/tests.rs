//! Derived rows against a plain fold of the whole log, whatever the batches are and however often a suffix is applied again.

use super::*;
use crate::protocol::entry::{Edit, MemberChange, Message, Pin, Target};
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
}

impl Rows {
    fn new() -> Rows {
        Rows { room: blank(ROOM), members: BTreeMap::new(), folds: BTreeMap::new(), mentions: Default::default() }
    }
    fn standing(&self, user: UserId) -> Standing {
        match self.members.get(&user) {
            Some(MemberRow { role: Some(role), .. }) => Standing::Member(*role),
            Some(_) => Standing::Banned,
            None => Standing::Stranger,
        }
    }
    /// One batch, as the applier carries it out.
    fn apply(&mut self, entries: &[Entry]) {
        let folds = entries.iter().filter_map(|e| folds_into(&e.body)).filter_map(|s| Some((s, self.folds.get(&s)?.clone()))).collect();
        let mut standings: HashMap<UserId, Standing> = HashMap::new();
        let mut deriving = Deriving::new(self.room.clone(), folds);
        for entry in entries {
            let was = match &entry.body {
                Body::Member(change) => {
                    let was = standings.get(&change.user).copied().unwrap_or_else(|| self.standing(change.user));
                    standings.insert(change.user, standing_after(change));
                    Some(was)
                }
                Body::Room(change) => {
                    standings.extend(change.members.iter().map(|(u, r)| (*u, Standing::Member(*r))));
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
            }
        }
    }
}

fn body() -> impl Strategy<Value = Body> {
    let (user, seq) = (1u64..6, 2u64..30);
    let role = prop::sample::select(vec![Role::Reader, Role::Member, Role::Admin, Role::Owner]);
    let change = prop::sample::select(vec![Change::Invite, Change::Leave, Change::Kick, Change::Ban, Change::Unban, Change::Role]);
    prop_oneof![
        3 => (0u64..4).prop_map(|m| Body::Message(Message { text: "t".into(), mentions: vec![UserId(m + 1)], ..Message::default() })),
        1 => (seq.clone(), "[a-c]").prop_map(|(seq, text)| Body::Edit(Edit { seq, text, mentions: Vec::new() })),
        1 => seq.clone().prop_map(|seq| Body::Delete(Target { seq })),
        2 => (seq.clone(), "[a-c]", any::<bool>()).prop_map(|(seq, emoji, on)| Body::React(React { seq, emoji, on })),
        1 => (seq, any::<bool>()).prop_map(|(seq, on)| Body::Pin(Pin { seq, on })),
        2 => (user, change, role).prop_map(|(user, change, role)| {
            let role = matches!(change, Change::Invite | Change::Role).then_some(role);
            Body::Member(MemberChange { user: UserId(user), change, role })
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
            let change = log.iter().rev().find_map(|e| match &e.body {
                Body::Member(c) if c.user == user => Some(standing_after(c)),
                Body::Room(c) => c.members.iter().find(|(u, _)| *u == user).map(|(_, role)| Standing::Member(*role)),
                _ => None,
            });
            prop_assert_eq!(rows.standing(user), change.unwrap_or(Standing::Stranger));
        }
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
        for (seq, fold) in &rows.folds {
            let redone = &torn.folds[seq];
            prop_assert_eq!((&redone.edit, redone.deleted, redone.pinned), (&fold.edit, fold.deleted, fold.pinned));
        }
    }
}
