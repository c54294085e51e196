//! Who is in a room, as far as it is known in memory: places, counts, and whose place an entry not yet committed changes.

use super::super::entry::{Change, FOREVER, MemberChange, Role};
use super::super::ids::{Seq, UserId};
use super::super::policy::{Place, Standing};
use std::collections::HashMap;

/// Memberships of a channel kept in memory.
const KNOWN_MAX: usize = 10_000;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct People {
    known: HashMap<UserId, Place>,
    /// `known` holds every member, every ban and every mute (direct rooms and groups).
    pub complete: bool,
    pub members: u64,
    pub owners: u64,
    uncommitted: Vec<(Seq, UserId)>,
}

impl People {
    pub fn new(known: impl IntoIterator<Item = (UserId, Place)>, complete: bool, members: u64, owners: u64) -> Self {
        People { known: known.into_iter().collect(), complete, members, owners, uncommitted: Vec::new() }
    }

    /// A user's place, where it is known.
    pub fn place(&self, user: UserId) -> Option<Place> {
        self.known.get(&user).copied().or(self.complete.then_some(Place::NONE))
    }

    /// Everybody known to be a member.
    pub fn known_members(&self) -> impl Iterator<Item = UserId> + '_ {
        self.known.iter().filter(|(_, p)| matches!(p.standing, Standing::Member(_))).map(|(u, _)| *u)
    }

    /// Takes in a place that was read. An entry that was numbered meanwhile knows better.
    pub fn learn(&mut self, user: UserId, place: Place) {
        if self.known.len() >= KNOWN_MAX {
            // What is not committed yet is written nowhere else.
            let uncommitted = &self.uncommitted;
            self.known.retain(|user, _| uncommitted.iter().any(|(_, u)| u == user));
        }
        self.known.entry(user).or_insert(place);
    }

    /// Takes in a change of membership by the entry at `seq`.
    pub fn take(&mut self, seq: Seq, by: UserId, change: &MemberChange) {
        let was = self.place(change.user).unwrap_or(Place::NONE);
        self.put(change.user, place_after(was, change));
        self.uncommitted.push((seq, change.user));
        if change.change == Change::Transfer {
            self.put(by, STEPPED_DOWN);
            self.uncommitted.push((seq, by));
        }
    }

    /// Another standing; a mute goes on.
    pub fn stands(&mut self, user: UserId, standing: Standing) {
        let muted_until = self.place(user).map_or(0, |p| p.muted_until);
        self.put(user, Place { standing, muted_until });
    }

    fn put(&mut self, user: UserId, place: Place) {
        let (was, now) = (count(self.known.get(&user).map(|p| p.standing)), count(Some(place.standing)));
        self.members = self.members + now.0 - was.0.min(self.members);
        self.owners = self.owners + now.1 - was.1.min(self.owners);
        self.known.insert(user, place);
    }

    /// Whether an entry that is not yet committed changes the user's place.
    pub fn is_in_flight(&self, user: UserId) -> bool {
        self.uncommitted.iter().any(|(_, u)| *u == user)
    }

    /// Everything up to `seq` is committed.
    pub fn commit(&mut self, seq: Seq) {
        self.uncommitted.retain(|(s, _)| *s > seq);
    }
}

/// What a standing adds to the numbers of members and of owners.
pub fn count(standing: Option<Standing>) -> (u64, u64) {
    match standing {
        Some(Standing::Member(Role::Owner)) => (1, 1),
        Some(Standing::Member(_)) => (1, 0),
        _ => (0, 0),
    }
}

/// The place of an owner who gave the room away.
pub const STEPPED_DOWN: Place = Place { standing: Standing::Member(Role::Admin), muted_until: 0 };

/// The place of `change.user` after the change. Of a transfer, the other half is [`STEPPED_DOWN`].
pub fn place_after(was: Place, change: &MemberChange) -> Place {
    let standing = match change.change {
        Change::Join | Change::Invite | Change::Role => Standing::Member(change.role.unwrap_or(Role::Member)),
        Change::Transfer => Standing::Member(Role::Owner),
        Change::Leave | Change::Kick | Change::Unban => Standing::Stranger,
        Change::Ban => Standing::Banned,
        Change::Mute | Change::Unmute | Change::Unknown => was.standing,
    };
    let muted_until = match change.change {
        Change::Mute => change.until.unwrap_or(FOREVER),
        Change::Unmute | Change::Transfer => 0,
        // Else nobody might be left who may lift it.
        Change::Role if change.role >= Some(Role::Moderator) => 0,
        _ => was.muted_until,
    };
    Place { standing, muted_until }
}

/// Whose places a change made by `by` concerns.
pub fn concerned(by: UserId, change: &MemberChange) -> impl Iterator<Item = UserId> + use<> {
    std::iter::once(change.user).chain((change.change == Change::Transfer).then_some(by))
}
