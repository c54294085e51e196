//! Who may do what: the one policy for every kind of room (P8). Pure: rooms ask it, HTTP asks it, tests ask it.
//!
//! A denial says as little as it may: what a caller has no business knowing of is [`Denied::Hidden`] and looks like a room that does
//! not exist. Left to callers: facts that need the room's state, such as whether an owner is the last one, how many members
//! there are, and whether a message is the caller's own.

use super::entry::{Role, RoomKind};
use super::ids::Millis;
use crate::error::Code;

/// Something a user wants to do in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Read history, resume, be shown live entries.
    Read,
    /// Send a message.
    Send,
    /// Edit a message of one's own. Others' messages are edited by nobody.
    EditOwn,
    /// Delete a message.
    Delete {
        /// One's own.
        own: bool,
    },
    /// React to a message.
    React,
    /// Pin or unpin.
    Pin,
    /// Be seen typing.
    Typing,
    /// Move one's cursors.
    MoveCursor,
    /// Come in by oneself.
    Join,
    /// Leave. Whether the last owner may is the caller's to decide.
    Leave,
    /// Bring somebody in.
    Invite {
        /// With this role.
        as_role: Role,
    },
    /// Put a member out.
    Kick {
        /// The member's role.
        target: Role,
    },
    /// Put somebody out for good.
    Ban {
        /// The role of a member; none for somebody who is not in.
        target: Option<Role>,
    },
    /// Let somebody banned come back.
    Unban,
    /// Take a member's voice, or give it back.
    Mute {
        /// The member's role.
        target: Role,
    },
    /// Give a member another role.
    SetRole {
        /// The member's role.
        target: Role,
        /// Its role from now on.
        to: Role,
    },
    /// Make a member the owner in one's own place.
    Transfer,
    /// Change the room's settings.
    UpdateRoom,
    /// Let writing go on in an archived room.
    Unarchive,
    /// See who is in.
    ListMembers,
    /// See who is banned.
    ListBans,
    /// See and revoke others' invite links; one's own are always one's own.
    ManageLinks,
    /// Write without the pauses of slow mode.
    SkipSlowMode,
}

/// How a user stands to a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Is in, with a role.
    Member(Role),
    /// Was put out for good.
    Banned,
    /// Neither.
    Stranger,
}

/// A user's place in a room: how it stands, and until when it may not write. A mute goes on when its user leaves and comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// How the user stands.
    pub standing: Standing,
    /// The first time at which it may write again; 0 when it may.
    pub muted_until: Millis,
}

impl Place {
    /// The place of who is not in and was never muted.
    pub const NONE: Place = Place { standing: Standing::Stranger, muted_until: 0 };

    /// Whether it may not write at `now`, by the clock of the room's owner.
    pub fn is_muted(&self, now: Millis) -> bool {
        now < self.muted_until
    }
}

impl From<Standing> for Place {
    fn from(standing: Standing) -> Place {
        Place { standing, muted_until: 0 }
    }
}

/// What holds for the moment, beside kind and role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restraint {
    /// The room is archived.
    pub archived: bool,
    /// The user is muted.
    pub muted: bool,
}

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// As if the room did not exist.
    Hidden,
    /// The room is known to the caller; this is not allowed.
    Forbidden,
    /// It would be allowed if the room were not archived.
    Archived,
    /// It would be allowed if the caller were not muted.
    Muted,
}

impl Denied {
    /// The error code that a client gets.
    pub fn code(self) -> Code {
        match self {
            Denied::Hidden => Code::NotFound,
            Denied::Forbidden | Denied::Archived | Denied::Muted => Code::Forbidden,
        }
    }
}

/// Whether somebody of this standing may do this in a room of this kind, as things are for the moment.
pub fn allows_now(kind: RoomKind, standing: Standing, now: Restraint, act: Act) -> Result<(), Denied> {
    allows(kind, standing, act)?;
    match act {
        act if now.archived && !goes_on_in_archives(act) => Err(Denied::Archived),
        Act::Send | Act::EditOwn | Act::React | Act::Pin | Act::Typing if now.muted => Err(Denied::Muted),
        _ => Ok(()),
    }
}

/// Reading goes on, one may go, and who may change the room may open it again.
fn goes_on_in_archives(act: Act) -> bool {
    match act {
        Act::Read | Act::MoveCursor | Act::ListMembers | Act::ListBans | Act::ManageLinks | Act::Leave | Act::Unarchive => true,
        Act::Send | Act::EditOwn | Act::Delete { .. } | Act::React | Act::Pin | Act::Typing | Act::Join | Act::SkipSlowMode => false,
        Act::Invite { .. } | Act::Kick { .. } | Act::Ban { .. } | Act::Unban | Act::Mute { .. } => false,
        Act::SetRole { .. } | Act::Transfer | Act::UpdateRoom => false,
    }
}

/// Whether somebody of this standing may do this in a room of this kind, by kind and role alone.
pub fn allows(kind: RoomKind, standing: Standing, act: Act) -> Result<(), Denied> {
    let allowed = match (kind, standing) {
        // A channel's existence is public: everybody may come in, and is told so.
        (RoomKind::Channel, Standing::Stranger) => act == Act::Join,
        (RoomKind::Channel, Standing::Banned) => false,
        (RoomKind::Direct | RoomKind::Group, Standing::Stranger | Standing::Banned) => return Err(Denied::Hidden),
        (RoomKind::Direct, Standing::Member(_)) => in_direct(act),
        (RoomKind::Group | RoomKind::Channel, Standing::Member(role)) => in_room(kind, role, act),
    };
    if allowed { Ok(()) } else { Err(Denied::Forbidden) }
}

/// The two of a direct room are equals, whatever role they are listed with, and stay the two.
fn in_direct(act: Act) -> bool {
    match act {
        Act::Read | Act::Send | Act::EditOwn | Act::Delete { own: true } | Act::React | Act::Pin => true,
        Act::Typing | Act::MoveCursor | Act::ListMembers | Act::SkipSlowMode => true,
        Act::Delete { own: false } | Act::Join | Act::Leave | Act::Invite { .. } | Act::Kick { .. } | Act::Ban { .. } => false,
        Act::Unban | Act::Mute { .. } | Act::SetRole { .. } | Act::Transfer | Act::UpdateRoom | Act::Unarchive => false,
        Act::ListBans | Act::ManageLinks => false,
    }
}

fn in_room(kind: RoomKind, role: Role, act: Act) -> bool {
    match act {
        Act::Read | Act::MoveCursor | Act::ListMembers | Act::Leave => true,
        // Coming in twice changes nothing: a repeated join is answered like the first.
        Act::Join => kind == RoomKind::Channel,
        Act::Send | Act::EditOwn | Act::Delete { own: true } | Act::React | Act::Typing => role >= Role::Member,
        Act::Delete { own: false } | Act::Pin | Act::Unban | Act::SkipSlowMode => role >= Role::Moderator,
        Act::ListBans | Act::ManageLinks => role >= Role::Moderator,
        Act::Invite { as_role } => may_invite(role, as_role),
        Act::Kick { target } | Act::Mute { target } => role >= Role::Moderator && target < role,
        Act::Ban { target } => role >= Role::Moderator && target.is_none_or(|target| target < role),
        Act::SetRole { target, to } => may_set_role(role, target, to),
        Act::Transfer => role == Role::Owner,
        Act::UpdateRoom | Act::Unarchive => role >= Role::Admin,
    }
}

/// Members bring in readers and members; admins anybody below themselves; owners make owners only of those who are in.
fn may_invite(role: Role, as_role: Role) -> bool {
    match role {
        Role::Reader => false,
        Role::Member | Role::Moderator => as_role <= Role::Member,
        Role::Admin | Role::Owner => as_role < role,
    }
}

/// Among those strictly below, and to below oneself; owners make owners, and take it back, their own included.
fn may_set_role(role: Role, target: Role, to: Role) -> bool {
    match role {
        Role::Owner => true,
        Role::Admin => target < role && to < role,
        Role::Moderator | Role::Member | Role::Reader => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use Role::*;

    const ROLES: [Role; 5] = [Reader, Member, Moderator, Admin, Owner];
    const KINDS: [RoomKind; 3] = [RoomKind::Direct, RoomKind::Group, RoomKind::Channel];

    fn acts() -> Vec<Act> {
        let mut acts = vec![Act::Read, Act::Send, Act::EditOwn, Act::Delete { own: true }, Act::Delete { own: false }, Act::React];
        acts.extend([Act::Pin, Act::Typing, Act::MoveCursor, Act::Join, Act::Leave, Act::Unban, Act::UpdateRoom, Act::ListMembers]);
        acts.extend([Act::Transfer, Act::Unarchive, Act::ListBans, Act::ManageLinks, Act::SkipSlowMode]);
        acts.push(Act::Ban { target: None });
        for a in ROLES {
            acts.extend([Act::Invite { as_role: a }, Act::Kick { target: a }, Act::Mute { target: a }, Act::Ban { target: Some(a) }]);
            acts.extend(ROLES.map(|b| Act::SetRole { target: a, to: b }));
        }
        acts
    }

    fn row(act: Act) -> String {
        let role = |r: Role| format!("{r:?}").to_lowercase();
        match act {
            Act::Delete { own } => format!("delete {}", if own { "own" } else { "other" }),
            Act::Invite { as_role } => format!("invite {}", role(as_role)),
            Act::Kick { target } => format!("kick {}", role(target)),
            Act::Mute { target } => format!("mute {}", role(target)),
            Act::Ban { target } => format!("ban {}", target.map_or("stranger".into(), role)),
            Act::SetRole { target, to } => format!("role {} {}", role(target), role(to)),
            plain => format!("{plain:?}").to_lowercase(),
        }
    }

    /// `+` allowed, `F` forbidden, `.` hidden. Columns: stranger, banned, reader, member, moderator, admin, owner.
    /// `now`: what who may otherwise is told in an archived room, and when muted: `A`, `M`, or `+` where it makes no difference.
    /// `role a b`: gives a member of role a role b; rows that are not listed are those of `role *`.
    const TABLE: &str = "
        act                       direct   group    channel  now
        read                      ..+++++  ..+++++  FF+++++  ++
        send                      ..+++++  ..F++++  FFF++++  AM
        editown                   ..+++++  ..F++++  FFF++++  AM
        delete own                ..+++++  ..F++++  FFF++++  A+
        delete other              ..FFFFF  ..FF+++  FFFF+++  A+
        react                     ..+++++  ..F++++  FFF++++  AM
        pin                       ..+++++  ..FF+++  FFFF+++  AM
        typing                    ..+++++  ..F++++  FFF++++  AM
        movecursor                ..+++++  ..+++++  FF+++++  ++
        listmembers               ..+++++  ..+++++  FF+++++  ++
        join                      ..FFFFF  ..FFFFF  +F+++++  A+
        leave                     ..FFFFF  ..+++++  FF+++++  ++
        invite reader             ..FFFFF  ..F++++  FFF++++  A+
        invite member             ..FFFFF  ..F++++  FFF++++  A+
        invite moderator          ..FFFFF  ..FFF++  FFFFF++  A+
        invite admin              ..FFFFF  ..FFFF+  FFFFFF+  A+
        invite owner              ..FFFFF  ..FFFFF  FFFFFFF  A+
        kick reader               ..FFFFF  ..FF+++  FFFF+++  A+
        kick member               ..FFFFF  ..FF+++  FFFF+++  A+
        kick moderator            ..FFFFF  ..FFF++  FFFFF++  A+
        kick admin                ..FFFFF  ..FFFF+  FFFFFF+  A+
        kick owner                ..FFFFF  ..FFFFF  FFFFFFF  A+
        ban stranger              ..FFFFF  ..FF+++  FFFF+++  A+
        ban reader                ..FFFFF  ..FF+++  FFFF+++  A+
        ban member                ..FFFFF  ..FF+++  FFFF+++  A+
        ban moderator             ..FFFFF  ..FFF++  FFFFF++  A+
        ban admin                 ..FFFFF  ..FFFF+  FFFFFF+  A+
        ban owner                 ..FFFFF  ..FFFFF  FFFFFFF  A+
        mute reader               ..FFFFF  ..FF+++  FFFF+++  A+
        mute member               ..FFFFF  ..FF+++  FFFF+++  A+
        mute moderator            ..FFFFF  ..FFF++  FFFFF++  A+
        mute admin                ..FFFFF  ..FFFF+  FFFFFF+  A+
        mute owner                ..FFFFF  ..FFFFF  FFFFFFF  A+
        unban                     ..FFFFF  ..FF+++  FFFF+++  A+
        updateroom                ..FFFFF  ..FFF++  FFFFF++  A+
        unarchive                 ..FFFFF  ..FFF++  FFFFF++  ++
        transfer                  ..FFFFF  ..FFFF+  FFFFFF+  A+
        listbans                  ..FFFFF  ..FF+++  FFFF+++  ++
        managelinks               ..FFFFF  ..FF+++  FFFF+++  ++
        skipslowmode              ..+++++  ..FF+++  FFFF+++  A+
        role reader reader        ..FFFFF  ..FFF++  FFFFF++  A+
        role reader member        ..FFFFF  ..FFF++  FFFFF++  A+
        role reader moderator     ..FFFFF  ..FFF++  FFFFF++  A+
        role member reader        ..FFFFF  ..FFF++  FFFFF++  A+
        role member member        ..FFFFF  ..FFF++  FFFFF++  A+
        role member moderator     ..FFFFF  ..FFF++  FFFFF++  A+
        role moderator reader     ..FFFFF  ..FFF++  FFFFF++  A+
        role moderator member     ..FFFFF  ..FFF++  FFFFF++  A+
        role moderator moderator  ..FFFFF  ..FFF++  FFFFF++  A+
        role *                    ..FFFFF  ..FFFF+  FFFFFF+  A+
    ";

    fn expected(act: Act) -> Vec<String> {
        let name = row(act);
        let find =
            |name: &str| TABLE.lines().map(str::trim).find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with("  ")));
        let line =
            find(&name).or_else(|| find("role *").filter(|_| name.starts_with("role "))).unwrap_or_else(|| panic!("no row {name:?}"));
        line.split_whitespace().rev().take(4).map(str::to_owned).collect::<Vec<_>>().into_iter().rev().collect()
    }

    fn letter(verdict: Result<(), Denied>) -> char {
        match verdict {
            Ok(()) => '+',
            Err(Denied::Forbidden) => 'F',
            Err(Denied::Hidden) => '.',
            Err(Denied::Archived) => 'A',
            Err(Denied::Muted) => 'M',
        }
    }

    #[test]
    fn the_policy_is_this_table() {
        let standings: Vec<Standing> = [Standing::Stranger, Standing::Banned].into_iter().chain(ROLES.map(Standing::Member)).collect();
        for act in acts() {
            let expected = expected(act);
            for (kind, expect) in KINDS.into_iter().zip(&expected) {
                let letters = |now: Restraint| standings.iter().map(|s| letter(allows_now(kind, *s, now, act))).collect::<String>();
                assert_eq!(letters(Restraint::default()), *expect, "{act:?} in a {kind:?}");
                for (now, is) in [Restraint { archived: true, muted: false }, Restraint { archived: false, muted: true }]
                    .into_iter()
                    .zip(expected[3].chars())
                {
                    assert_eq!(letters(now), expect.replace('+', &is.to_string()), "{act:?} in a {kind:?}, {now:?}");
                }
            }
        }
    }

    #[test]
    fn a_higher_role_never_loses_a_right() {
        for (kind, act) in KINDS.into_iter().flat_map(|kind| acts().into_iter().map(move |act| (kind, act))) {
            for pair in ROLES.windows(2) {
                let [low, high] = [pair[0], pair[1]].map(|role| allows(kind, Standing::Member(role), act).is_ok());
                assert!(high || !low, "{:?} may {act:?} in a {kind:?}, {:?} may not", pair[0], pair[1]);
            }
        }
    }

    #[test]
    fn being_in_never_takes_a_right_away_and_a_ban_never_gives_one() {
        for (kind, act) in KINDS.into_iter().flat_map(|kind| acts().into_iter().map(move |act| (kind, act))) {
            let stranger = allows(kind, Standing::Stranger, act).is_ok();
            assert!(!stranger || allows(kind, Standing::Member(Reader), act).is_ok(), "{act:?} in a {kind:?}");
            assert!(allows(kind, Standing::Banned, act).is_err(), "{act:?} in a {kind:?}");
        }
    }

    #[test]
    fn nobody_below_an_owner_acts_on_equals_or_raises_to_their_own_role() {
        for role in [Reader, Member, Moderator, Admin] {
            for target in ROLES.into_iter().filter(|target| *target >= role) {
                for act in
                    [Act::Kick { target }, Act::Mute { target }, Act::Ban { target: Some(target) }, Act::SetRole { target, to: Reader }]
                {
                    assert_eq!(allows(RoomKind::Group, Standing::Member(role), act), Err(Denied::Forbidden), "{role:?} {act:?}");
                }
                let raise = Act::SetRole { target: Reader, to: target };
                assert_eq!(allows(RoomKind::Group, Standing::Member(role), raise), Err(Denied::Forbidden), "{role:?} {raise:?}");
            }
        }
    }

    #[test]
    fn a_hidden_room_looks_like_none() {
        assert_eq!(Denied::Hidden.code(), Code::NotFound);
        assert_eq!(Denied::Forbidden.code(), Code::Forbidden);
    }
}
