//! Who may do what: the one policy for every kind of room (P8). Pure: rooms ask it, HTTP asks it, tests ask it.
//!
//! A denial says as little as it may: what a caller has no business knowing of is [`Denied::Hidden`] and looks like a room that does
//! not exist. Left to callers: facts that need the room's state, such as whether an owner is the last one, how many members
//! there are, and whether a message is the caller's own.

use super::entry::{Role, RoomKind};
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
    /// Give a member another role.
    SetRole {
        /// The member's role.
        target: Role,
        /// Its role from now on.
        to: Role,
    },
    /// Change the room's settings.
    UpdateRoom,
    /// See who is in.
    ListMembers,
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

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// As if the room did not exist.
    Hidden,
    /// The room is known to the caller; this is not allowed.
    Forbidden,
}

impl Denied {
    /// The error code that a client gets.
    pub fn code(self) -> Code {
        match self {
            Denied::Hidden => Code::NotFound,
            Denied::Forbidden => Code::Forbidden,
        }
    }
}

/// Whether somebody of this standing may do this in a room of this kind.
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
        Act::Typing | Act::MoveCursor | Act::ListMembers => true,
        Act::Delete { own: false } | Act::Join | Act::Leave | Act::Invite { .. } | Act::Kick { .. } | Act::Ban { .. } => false,
        Act::Unban | Act::SetRole { .. } | Act::UpdateRoom => false,
    }
}

fn in_room(kind: RoomKind, role: Role, act: Act) -> bool {
    match act {
        Act::Read | Act::MoveCursor | Act::ListMembers | Act::Leave => true,
        // Coming in twice changes nothing: a repeated join is answered like the first.
        Act::Join => kind == RoomKind::Channel,
        Act::Send | Act::EditOwn | Act::Delete { own: true } | Act::React | Act::Typing => role >= Role::Member,
        Act::Delete { own: false } | Act::Pin | Act::Unban => role >= Role::Moderator,
        Act::Invite { as_role } => may_invite(role, as_role),
        Act::Kick { target } => role >= Role::Moderator && target < role,
        Act::Ban { target } => role >= Role::Moderator && target.is_none_or(|target| target < role),
        Act::SetRole { target, to } => may_set_role(role, target, to),
        Act::UpdateRoom => role >= Role::Admin,
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
        acts.push(Act::Ban { target: None });
        for a in ROLES {
            acts.extend([Act::Invite { as_role: a }, Act::Kick { target: a }, Act::Ban { target: Some(a) }]);
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
            Act::Ban { target } => format!("ban {}", target.map_or("stranger".into(), role)),
            Act::SetRole { target, to } => format!("role {} {}", role(target), role(to)),
            plain => format!("{plain:?}").to_lowercase(),
        }
    }

    /// `+` allowed, `F` forbidden, `.` hidden. Columns: stranger, banned, reader, member, moderator, admin, owner.
    /// `role a b`: gives a member of role a role b; rows that are not listed are those of `role *`.
    const TABLE: &str = "
        act               direct   group    channel
        read              ..+++++  ..+++++  FF+++++
        send              ..+++++  ..F++++  FFF++++
        editown           ..+++++  ..F++++  FFF++++
        delete own        ..+++++  ..F++++  FFF++++
        delete other      ..FFFFF  ..FF+++  FFFF+++
        react             ..+++++  ..F++++  FFF++++
        pin               ..+++++  ..FF+++  FFFF+++
        typing            ..+++++  ..F++++  FFF++++
        movecursor        ..+++++  ..+++++  FF+++++
        listmembers       ..+++++  ..+++++  FF+++++
        join              ..FFFFF  ..FFFFF  +F+++++
        leave             ..FFFFF  ..+++++  FF+++++
        invite reader     ..FFFFF  ..F++++  FFF++++
        invite member     ..FFFFF  ..F++++  FFF++++
        invite moderator  ..FFFFF  ..FFF++  FFFFF++
        invite admin      ..FFFFF  ..FFFF+  FFFFFF+
        invite owner      ..FFFFF  ..FFFFF  FFFFFFF
        kick reader       ..FFFFF  ..FF+++  FFFF+++
        kick member       ..FFFFF  ..FF+++  FFFF+++
        kick moderator    ..FFFFF  ..FFF++  FFFFF++
        kick admin        ..FFFFF  ..FFFF+  FFFFFF+
        kick owner        ..FFFFF  ..FFFFF  FFFFFFF
        ban stranger      ..FFFFF  ..FF+++  FFFF+++
        ban reader        ..FFFFF  ..FF+++  FFFF+++
        ban member        ..FFFFF  ..FF+++  FFFF+++
        ban moderator     ..FFFFF  ..FFF++  FFFFF++
        ban admin         ..FFFFF  ..FFFF+  FFFFFF+
        ban owner         ..FFFFF  ..FFFFF  FFFFFFF
        unban             ..FFFFF  ..FF+++  FFFF+++
        updateroom        ..FFFFF  ..FFF++  FFFFF++
        role reader reader        ..FFFFF  ..FFF++  FFFFF++
        role reader member        ..FFFFF  ..FFF++  FFFFF++
        role reader moderator     ..FFFFF  ..FFF++  FFFFF++
        role member reader        ..FFFFF  ..FFF++  FFFFF++
        role member member        ..FFFFF  ..FFF++  FFFFF++
        role member moderator     ..FFFFF  ..FFF++  FFFFF++
        role moderator reader     ..FFFFF  ..FFF++  FFFFF++
        role moderator member     ..FFFFF  ..FFF++  FFFFF++
        role moderator moderator  ..FFFFF  ..FFF++  FFFFF++
        role *                    ..FFFFF  ..FFFF+  FFFFFF+
    ";

    fn expected(act: Act) -> Vec<String> {
        let name = row(act);
        let find =
            |name: &str| TABLE.lines().map(str::trim).find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with("  ")));
        let line =
            find(&name).or_else(|| find("role *").filter(|_| name.starts_with("role "))).unwrap_or_else(|| panic!("no row {name:?}"));
        line.split_whitespace().rev().take(3).map(str::to_owned).collect::<Vec<_>>().into_iter().rev().collect()
    }

    #[test]
    fn the_policy_is_this_table() {
        let standings: Vec<Standing> = [Standing::Stranger, Standing::Banned].into_iter().chain(ROLES.map(Standing::Member)).collect();
        for act in acts() {
            for (kind, expect) in KINDS.into_iter().zip(expected(act)) {
                let found: String = standings
                    .iter()
                    .map(|standing| match allows(kind, *standing, act) {
                        Ok(()) => '+',
                        Err(Denied::Forbidden) => 'F',
                        Err(Denied::Hidden) => '.',
                    })
                    .collect();
                assert_eq!(found, expect, "{act:?} in a {kind:?}");
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
                for act in [Act::Kick { target }, Act::Ban { target: Some(target) }, Act::SetRole { target, to: Reader }] {
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
