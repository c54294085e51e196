//! The rules of a room's log, pure: what may become an entry, what is a repeat, what number it gets.
//!
//! [`RoomLog`] is the room's state *including* entries that are numbered and not yet committed: whoever is numbered later is
//! judged by what was numbered before. When an append fails the owner throws the whole value away and rebuilds it from the log.
//! It does no I/O: where it needs to know more (somebody's membership, an old message, an older part of the log), it says so
//! ([`Decision::Need`]) and is asked again.

use super::entry::{Body, Change, Entry, MemberChange, Role, RoomChange, RoomKind, Target};
use super::ids::{ClientId, MessageId, Millis, RoomId, Seq, UserId};
use super::ops::{InviteMember, Request, UpdateRoom};
use super::policy::{self, Act, Denied, Place, Restraint, Standing};
use crate::error::{ApiError, Code};
use people::People;
use requests::plain_body;
use slow::Spoken;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use xxhash_rust::xxh3::Xxh3;

mod people;
mod requests;
mod slow;

pub use people::{STEPPED_DOWN, concerned, count, place_after};
pub use requests::{creation, once, room_of};

/// Entries that are kept in memory for finding repeats, authors and counts without reading the log.
pub const WINDOW: usize = 1024;
/// Old messages kept in memory for edits, deletions, reactions and pins.
const OLD_MAX: usize = 256;

/// What is kept of a recent entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recent {
    /// Its seq.
    pub seq: Seq,
    /// Its author.
    pub by: UserId,
    /// Its client id.
    pub cid: Option<ClientId>,
    /// Hash of its body, to tell a repeat from another body under the same client id.
    pub hash: u64,
    /// Messages up to it.
    pub n: u64,
    /// Its id.
    pub id: MessageId,
    /// When it was numbered.
    pub at: Millis,
    /// It is a message.
    pub message: bool,
    /// It was deleted.
    pub deleted: bool,
}

impl Recent {
    /// What is kept of `entry`.
    pub fn of(entry: &Entry) -> Recent {
        Recent {
            seq: entry.seq,
            by: entry.by,
            cid: entry.cid,
            hash: hash_body(&entry.body),
            n: entry.n,
            id: entry.id,
            at: entry.at,
            message: entry.body.is_message(),
            deleted: false,
        }
    }
}

/// Hash of a body as it is stored.
pub fn hash_body(body: &Body) -> u64 {
    /// Hashes what is written to it.
    struct Hashing(Xxh3);
    impl std::io::Write for Hashing {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut hash = Hashing(Xxh3::new());
    // A body that cannot be encoded (an unknown kind) never comes from a request, so it never needs to equal one.
    rmp_serde::encode::write_named(&mut hash, body).map_or(0, |()| hash.0.digest())
}

/// An old message, as far as deciding on it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Old {
    /// Its author; none when the entry is not a message.
    pub by: Option<UserId>,
    /// It was deleted.
    pub deleted: bool,
}

/// What a room must find out before it can decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// A user's standing.
    Standing(UserId),
    /// The message at a seq.
    Old(Seq),
    /// Whether (user, client id) is among the entries `from..=to`.
    Search {
        /// First seq to look at.
        from: Seq,
        /// Last seq to look at.
        to: Seq,
    },
}

/// The limits that a decision is held against.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Seqs that may be searched for a repeat; further back the answer is `resync`.
    pub repeat_window: u64,
    /// Members that a group may have.
    pub members_max: u64,
}

/// An invite link, as far as deciding on it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Who made it. It is worth what its maker may do now.
    pub by: UserId,
    /// The role of those who come by it.
    pub role: Role,
}

/// What is to be done about a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Number this body and append it.
    Append(Body),
    /// It was done before: answer with that entry, once it is committed.
    Repeat(Recent),
    /// Nothing is to be written: answer success.
    Done,
    /// A subscription to a channel begins (with a role) or ends (without): write it, then answer. Not an entry.
    Subscribe(UserId, Option<Role>),
    /// Find this out and ask again.
    Need(Need),
    /// No.
    Refuse(ApiError),
}

/// Why a request comes to no entry, or not yet: the decisions that need no body.
enum Halt {
    Done,
    Subscribe(UserId, Option<Role>),
    Need(Need),
    Refuse(ApiError),
}

impl From<Halt> for Decision {
    fn from(halt: Halt) -> Decision {
        match halt {
            Halt::Done => Decision::Done,
            Halt::Subscribe(user, role) => Decision::Subscribe(user, role),
            Halt::Need(need) => Decision::Need(need),
            Halt::Refuse(error) => Decision::Refuse(error),
        }
    }
}

impl From<ApiError> for Halt {
    fn from(error: ApiError) -> Halt {
        Halt::Refuse(error)
    }
}

/// Who asks, at what time by the owner's clock.
#[derive(Clone, Copy)]
struct Caller {
    user: UserId,
    place: Place,
    now: Millis,
}

/// A room's log and state, in-flight entries included. See the module.
#[derive(Clone, Debug)]
pub struct RoomLog {
    room: RoomId,
    kind: Option<RoomKind>,
    name: String,
    topic: String,
    slow_mode_s: u32,
    archived: bool,
    unlisted: bool,
    people: People,
    spoken: Spoken,
    head: Seq,
    committed: Seq,
    n: u64,
    window: VecDeque<Recent>,
    by_cid: HashMap<(UserId, ClientId), Seq>,
    old: HashMap<Seq, Old>,
    /// A filter may have changed texts.
    screened: bool,
}

/// A room's settings as the log has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Its kind; none: the room does not exist.
    pub kind: Option<RoomKind>,
    /// Its name.
    pub name: String,
    /// What it is about.
    pub topic: String,
    /// Seconds of slow mode; 0: none.
    pub slow_mode_s: u32,
    /// Nobody writes.
    pub archived: bool,
    /// Not in the directory of channels.
    pub unlisted: bool,
    /// Members.
    pub members: u64,
    /// Owners.
    pub owners: u64,
    /// The seq up to which all this is true.
    pub applied: Seq,
    /// Messages up to there.
    pub n: u64,
}

impl RoomLog {
    /// A room as derived state has it, up to `settings.applied`. `known`: all members, bans and mutes, unless it is a channel.
    pub fn new(room: RoomId, settings: Settings, known: impl IntoIterator<Item = (UserId, Place)>) -> Self {
        let complete = settings.kind != Some(RoomKind::Channel);
        RoomLog {
            room,
            people: People::new(known, complete, settings.members, settings.owners),
            kind: settings.kind,
            name: settings.name,
            topic: settings.topic,
            slow_mode_s: settings.slow_mode_s,
            archived: settings.archived,
            unlisted: settings.unlisted,
            spoken: Spoken::default(),
            head: settings.applied,
            committed: settings.applied,
            n: settings.n,
            window: VecDeque::new(),
            by_cid: HashMap::new(),
            old: HashMap::new(),
            screened: false,
        }
    }

    /// A filter may change the texts of messages before they are numbered: a repeat of one is known by its client id alone.
    pub fn screened(mut self, screened: bool) -> Self {
        self.screened = screened;
        self
    }

    /// Puts what the log has at or before the applied seq into the window, oldest first.
    pub fn remember(&mut self, entry: &Entry) {
        if let Body::Delete(target) = &entry.body {
            self.mark_deleted(target.seq, entry.by);
        }
        self.push_recent(Recent::of(entry));
    }

    /// Takes in the next committed entry of the log.
    ///
    /// # Panics
    /// In debug builds, when it is not the next one.
    pub fn replay(&mut self, entry: &Entry) {
        self.take(entry);
        self.commit(entry.seq);
    }

    /// The room's settings now.
    pub fn settings(&self) -> Settings {
        Settings {
            kind: self.kind,
            name: self.name.clone(),
            topic: self.topic.clone(),
            slow_mode_s: self.slow_mode_s,
            archived: self.archived,
            unlisted: self.unlisted,
            members: self.people.members,
            owners: self.people.owners,
            applied: self.head,
            n: self.n,
        }
    }
    /// The room's kind; none: it does not exist.
    pub fn kind(&self) -> Option<RoomKind> {
        self.kind
    }
    /// The last numbered seq.
    pub fn head(&self) -> Seq {
        self.head
    }
    /// The committed head.
    pub fn committed(&self) -> Seq {
        self.committed
    }
    /// Members.
    pub fn members(&self) -> u64 {
        self.people.members
    }
    /// Everybody known to be a member (in groups and direct rooms: all members).
    pub fn known_members(&self) -> impl Iterator<Item = UserId> + '_ {
        self.people.known_members()
    }

    /// Everything up to `seq` is committed.
    pub fn commit(&mut self, seq: Seq) {
        self.committed = self.committed.max(seq);
        self.people.commit(self.committed);
    }

    /// A user's place, where it is known.
    pub fn place(&self, user: UserId) -> Option<Place> {
        self.people.place(user)
    }
    /// Whether an entry that is not yet committed changes the user's membership: then who asks must wait.
    pub fn standing_in_flight(&self, user: UserId) -> bool {
        self.people.is_in_flight(user)
    }
    /// Answers [`Need::Standing`].
    pub fn learn_place(&mut self, user: UserId, place: Place) {
        self.people.learn(user, place);
    }
    /// Answers [`Need::Old`].
    pub fn learn_old(&mut self, seq: Seq, old: Old) {
        if self.old.len() >= OLD_MAX {
            self.old.retain(|_, o| o.deleted);
            if self.old.len() >= OLD_MAX {
                self.old.clear();
            }
        }
        self.old.entry(seq).or_insert(old);
    }

    /// Messages up to `seq`, if the window still knows.
    pub fn n_at(&self, seq: Seq) -> Option<u64> {
        match self.window.front() {
            _ if seq == 0 => Some(0),
            _ if seq >= self.head => Some(self.n),
            Some(first) if seq >= first.seq => self.window.get((seq - first.seq) as usize).map(|r| r.n),
            _ => None,
        }
    }

    /// What is to be done about `request` of `user`, who is known to exist, at `now` by the owner's clock: the time that the entry
    /// will carry. `searched`: the entries before the window were searched from the request's `since` on, with this result.
    pub fn decide(&self, user: UserId, request: &Request, now: Millis, searched: Option<Option<Recent>>, bounds: Bounds) -> Decision {
        if self.kind.is_none() {
            return Decision::Refuse(not_found());
        }
        if user == UserId::SERVER {
            return self.once_only(user, request, self.body_of_server(request, bounds), searched, bounds);
        }
        let Some(place) = self.place(user) else { return Decision::Need(Need::Standing(user)) };
        let caller = Caller { user, place, now };
        // Who may not see the room learns nothing, also not whether a client id was used in it.
        if let Err(e) = self.check(caller, Act::Read)
            && !(matches!(request, Request::Join(_)) && matches!(place.standing, Standing::Stranger))
        {
            return match request {
                Request::Leave(_) => self.left_before(user, request, searched, bounds, e),
                _ => Decision::Refuse(e),
            };
        }
        self.once_only(user, request, self.body_of(caller, request, bounds), searched, bounds)
    }

    /// Numbers a body unless the request was carried out before: a resend is answered as it was the first time, even when the same request
    /// would be refused now.
    fn once_only(
        &self,
        user: UserId,
        request: &Request,
        body: Result<Body, Halt>,
        searched: Option<Option<Recent>>,
        bounds: Bounds,
    ) -> Decision {
        let body = match body {
            Ok(body) => Ok(body),
            Err(Halt::Refuse(e)) => Err(e),
            Err(other) => return other.into(),
        };
        let Some((cid, since)) = once(request) else { return body.map_or_else(Decision::Refuse, |_| Decision::Done) };
        match self.repeat(user, cid, since, searched, bounds) {
            Err(halt) => halt.into(),
            Ok(Some(first)) => self.same(request, user, first),
            Ok(None) => body.map_or_else(Decision::Refuse, Decision::Append),
        }
    }

    /// What is to be done about `user`, who comes by an invite link. Who is in already has what it wanted.
    pub fn admit(&self, user: UserId, link: Link, now: Millis, bounds: Bounds) -> Decision {
        let Some(kind) = self.kind else { return Decision::Refuse(no_invite()) };
        let (Some(place), maker) = (self.place(user), self.place(link.by)) else { return Decision::Need(Need::Standing(user)) };
        let Some(maker) = maker else { return Decision::Need(Need::Standing(link.by)) };
        let maker = Caller { user: link.by, place: maker, now };
        match (place.standing, self.check(maker, Act::Invite { as_role: link.role })) {
            (Standing::Member(_), _) => Decision::Done,
            (Standing::Banned, _) | (_, Err(_)) => Decision::Refuse(no_invite()),
            (Standing::Stranger, Ok(())) if kind == RoomKind::Channel => Decision::Subscribe(user, Some(link.role)),
            (Standing::Stranger, Ok(())) if self.people.members >= bounds.members_max => Decision::Refuse(full()),
            (Standing::Stranger, Ok(())) => Decision::Append(Body::Member(MemberChange {
                link_by: Some(link.by),
                ..MemberChange::new(user, Change::Join, Some(link.role))
            })),
        }
    }

    /// The server itself is in no room: as its moderation it deletes, whosever the message and whatever the room, and the bots that
    /// operators made it lets in.
    fn body_of_server(&self, request: &Request, bounds: Bounds) -> Result<Body, Halt> {
        match request {
            Request::Delete(delete) => self.target(delete.seq).map(|_| Body::Delete(Target { seq: delete.seq })),
            Request::Invite(invite) if self.kind != Some(RoomKind::Direct) => {
                self.may_come_in(invite, bounds)?;
                Ok(plain_body(request, UserId::SERVER).unwrap_or(Body::Unknown))
            }
            _ => Err(Halt::Refuse(ApiError::new(Code::Forbidden, "the server itself only deletes and lets bots in"))),
        }
    }

    /// A leave of somebody who is not in: perhaps it is a resend. If not: gone already is what was wanted of a channel, and of a hidden
    /// room nothing is said, not even how long its log is.
    fn left_before(&self, user: UserId, request: &Request, searched: Option<Option<Recent>>, bounds: Bounds, denied: ApiError) -> Decision {
        let Some((cid, since)) = once(request) else { return Decision::Refuse(denied) };
        match self.repeat(user, cid, since, searched, bounds) {
            Ok(Some(first)) => self.same(request, user, first),
            Err(Halt::Need(need)) => Decision::Need(need),
            _ if self.kind == Some(RoomKind::Channel) => Decision::Done,
            _ => Decision::Refuse(denied),
        }
    }

    fn same(&self, request: &Request, user: UserId, first: Recent) -> Decision {
        // What a filter made of the text is in the log, and not what was sent.
        let may_differ = self.screened && matches!(request, Request::Send(_) | Request::Edit(_));
        match plain_body(request, user) {
            Some(body) if hash_body(&body) != first.hash && !may_differ => {
                Decision::Refuse(ApiError::new(Code::Conflict, format!("the client id was used for another request (seq {})", first.seq)))
            }
            _ => Decision::Repeat(first),
        }
    }

    /// Looks for (user, client id) after `since`; `Err`: decide later, or `resync`.
    fn repeat(
        &self,
        user: UserId,
        cid: ClientId,
        since: Seq,
        searched: Option<Option<Recent>>,
        bounds: Bounds,
    ) -> Result<Option<Recent>, Halt> {
        if crate::sabotage::is("forget_client_id") {
            return Ok(None);
        }
        if since > self.head {
            let text = format!("since {since} is beyond the room's head {}: resume, then look for the client id", self.head);
            return Err(Halt::Refuse(ApiError::new(Code::Resync, text)));
        }
        if let Some(seq) = self.by_cid.get(&(user, cid)) {
            return Ok(self.recent(*seq).cloned());
        }
        let oldest = self.window.front().map_or(self.head + 1, |r| r.seq);
        if since + 1 >= oldest {
            return Ok(None);
        }
        match searched {
            Some(found) => Ok(found),
            None if self.head - since > bounds.repeat_window => {
                let text = format!("since {since} is too far behind the room's head {}: resume, then look for the client id", self.head);
                Err(Halt::Refuse(ApiError::new(Code::Resync, text)))
            }
            None => Err(Halt::Need(Need::Search { from: since + 1, to: oldest - 1 })),
        }
    }

    /// What is remembered of an entry, if it is one of the last ones.
    pub fn recent(&self, seq: Seq) -> Option<&Recent> {
        let first = self.window.front()?.seq;
        self.window.get(seq.checked_sub(first)? as usize)
    }

    fn check(&self, caller: Caller, act: Act) -> Result<(), ApiError> {
        let Some(kind) = self.kind else { return Err(not_found()) };
        let muted_until = caller.place.muted_until;
        let restraint = Restraint { archived: self.archived, muted: caller.place.is_muted(caller.now) };
        policy::allows_now(kind, caller.place.standing, restraint, act).map_err(|denied| match denied {
            Denied::Hidden => not_found(),
            Denied::Forbidden => ApiError::new(Code::Forbidden, "your role in this room does not allow that"),
            Denied::Archived => ApiError::new(Code::Forbidden, "this room is archived; an admin may open it again"),
            Denied::Muted => ApiError::new(Code::Forbidden, format!("you may read here and not write, until {muted_until}")),
        })
    }

    /// The pause that slow mode asks of a member after each message.
    fn pause(&self, caller: Caller) -> Result<(), ApiError> {
        if self.slow_mode_s == 0 || self.check(caller, Act::SkipSlowMode).is_ok() {
            return Ok(());
        }
        match self.spoken.wait(caller.user, caller.now, self.slow_mode_ms()) {
            None => Ok(()),
            Some(wait) => {
                let text = format!("slow mode: one message every {} s in this room", self.slow_mode_s);
                Err(ApiError::after(Code::RateLimited, text, Duration::from_millis(wait)))
            }
        }
    }

    fn slow_mode_ms(&self) -> Millis {
        Millis::from(self.slow_mode_s) * 1_000
    }

    /// The body that a request becomes, if the caller may.
    fn body_of(&self, caller: Caller, request: &Request, bounds: Bounds) -> Result<Body, Halt> {
        let user = caller.user;
        let may = |act| self.check(caller, act).map_err(Halt::Refuse);
        match request {
            Request::Send(send) => {
                may(Act::Send)?;
                for seq in send.reply_to.iter().chain(&send.thread) {
                    if *seq == 0 || *seq > self.head {
                        return Err(Halt::Refuse(ApiError::new(Code::Conflict, format!("there is no message {seq} to answer"))));
                    }
                }
                self.pause(caller)?;
            }
            Request::Edit(edit) => {
                let old = self.target(edit.seq)?;
                if old.by != Some(user) {
                    return Err(Halt::Refuse(ApiError::new(Code::Forbidden, "only its author may edit a message")));
                }
                may(Act::EditOwn)?;
            }
            Request::Delete(delete) => {
                let old = self.target(delete.seq)?;
                may(Act::Delete { own: old.by == Some(user) })?;
            }
            Request::React(react) => {
                may(Act::React)?;
                self.target(react.seq)?;
            }
            Request::Pin(pin) => {
                may(Act::Pin)?;
                self.target(pin.seq)?;
            }
            Request::Update(UpdateRoom { archived: Some(false), .. }) => may(Act::Unarchive)?,
            Request::Update(_) => may(Act::UpdateRoom)?,
            Request::Typing(_) => may(Act::Typing)?,
            Request::Cursor(_) => may(Act::MoveCursor)?,
            Request::Join(_) => return Err(self.join(caller)),
            Request::Leave(_) => self.leave(caller)?,
            Request::Invite(r) => self.invite(caller, r, bounds)?,
            Request::Kick(_) | Request::Ban(_) | Request::Unban(_) | Request::Mute(_) | Request::Unmute(_) => {
                self.govern(caller, request)?
            }
            Request::Role(_) | Request::Transfer(_) => self.promote(caller, request)?,
            _ => return Err(Halt::Refuse(ApiError::new(Code::UnknownOp, "not a request on a room"))),
        }
        Ok(plain_body(request, user).unwrap_or(Body::Unknown))
    }

    fn other(&self, user: UserId) -> Result<Place, Halt> {
        self.place(user).ok_or(Halt::Need(Need::Standing(user)))
    }

    fn member(&self, user: UserId) -> Result<(Role, Place), Halt> {
        let place = self.other(user)?;
        if let Standing::Member(role) = place.standing { Ok((role, place)) } else { Err(Halt::Refuse(no_member())) }
    }

    /// Whether the caller may take another's place or voice, or give it back.
    fn govern(&self, caller: Caller, request: &Request) -> Result<(), Halt> {
        let may = |act| self.check(caller, act).map_err(Halt::Refuse);
        let conflict = |text| Err(Halt::Refuse(ApiError::new(Code::Conflict, text)));
        match request {
            Request::Kick(r) => may(Act::Kick { target: self.member(r.user)?.0 }),
            Request::Ban(r) => match self.other(r.user)?.standing {
                Standing::Member(target) => may(Act::Ban { target: Some(target) }),
                Standing::Stranger => may(Act::Ban { target: None }),
                Standing::Banned => conflict("the user is banned already"),
            },
            Request::Unban(r) => {
                may(Act::Unban)?;
                if self.other(r.user)?.standing == Standing::Banned { Ok(()) } else { conflict("the user is not banned") }
            }
            Request::Mute(r) => {
                may(Act::Mute { target: self.member(r.user)?.0 })?;
                if r.until.is_none_or(|until| until > caller.now) {
                    Ok(())
                } else {
                    Err(Halt::Refuse(ApiError::new(Code::Conflict, "until: the mute would be over already")))
                }
            }
            Request::Unmute(r) => {
                let (target, place) = self.member(r.user)?;
                may(Act::Mute { target })?;
                if place.is_muted(caller.now) { Ok(()) } else { conflict("the user is not muted") }
            }
            _ => Ok(()),
        }
    }

    /// Whether the caller may give another the role, or its own place.
    fn promote(&self, caller: Caller, request: &Request) -> Result<(), Halt> {
        match request {
            Request::Role(r) => {
                let (target, _) = self.member(r.user)?;
                self.check(caller, Act::SetRole { target, to: r.role })?;
                if target == Role::Owner && r.role != Role::Owner && self.people.owners <= 1 {
                    return Err(Halt::Refuse(last_owner()));
                }
            }
            Request::Transfer(r) => {
                self.check(caller, Act::Transfer)?;
                if !matches!(self.other(r.user)?.standing, Standing::Member(_)) {
                    return Err(Halt::Refuse(ApiError::new(Code::Conflict, "a room is given to one of its members only")));
                }
                if r.user == caller.user {
                    return Err(Halt::Refuse(ApiError::new(Code::Conflict, "the room is yours already")));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn join(&self, caller: Caller) -> Halt {
        match (self.check(caller, Act::Join), caller.place.standing) {
            (Err(e), _) => Halt::Refuse(e),
            (Ok(()), Standing::Member(_)) => Halt::Done,
            (Ok(()), _) => Halt::Subscribe(caller.user, Some(Role::Member)),
        }
    }

    fn leave(&self, caller: Caller) -> Result<(), Halt> {
        let Standing::Member(role) = caller.place.standing else {
            // Decided before (`left_before`).
            return Err(Halt::Done);
        };
        self.check(caller, Act::Leave)?;
        if role == Role::Owner && self.people.owners <= 1 && self.people.members > 1 {
            return Err(Halt::Refuse(last_owner()));
        }
        match self.kind {
            Some(RoomKind::Channel) => Err(Halt::Subscribe(caller.user, None)),
            _ => Ok(()),
        }
    }

    fn invite(&self, caller: Caller, invite: &InviteMember, bounds: Bounds) -> Result<(), Halt> {
        let as_role = invite.role.unwrap_or(Role::Member);
        self.check(caller, Act::Invite { as_role })?;
        self.may_come_in(invite, bounds)
    }

    fn may_come_in(&self, invite: &InviteMember, bounds: Bounds) -> Result<(), Halt> {
        let as_role = invite.role.unwrap_or(Role::Member);
        match (self.other(invite.user)?.standing, self.kind) {
            (Standing::Member(_), _) => Err(Halt::Refuse(ApiError::new(Code::Conflict, "the user is a member already"))),
            (Standing::Banned, _) => Err(Halt::Refuse(ApiError::new(Code::Forbidden, "the user is banned here; unban first"))),
            (Standing::Stranger, Some(RoomKind::Channel)) => Err(Halt::Subscribe(invite.user, Some(as_role))),
            (Standing::Stranger, _) if self.people.members >= bounds.members_max => Err(Halt::Refuse(full())),
            (Standing::Stranger, _) => Ok(()),
        }
    }

    /// The message that a request is about.
    fn target(&self, seq: Seq) -> Result<Old, Halt> {
        let missing = || Halt::Refuse(ApiError::new(Code::NotFound, format!("there is no message {seq} in this room")));
        if seq == 0 || seq > self.head {
            return Err(missing());
        }
        let old = match (self.recent(seq), self.old.get(&seq)) {
            (Some(recent), _) => Old { by: recent.message.then_some(recent.by), deleted: recent.deleted },
            (None, Some(old)) => *old,
            (None, None) => return Err(Halt::Need(Need::Old(seq))),
        };
        match old {
            Old { by: None, .. } => Err(missing()),
            Old { deleted: true, .. } => Err(Halt::Refuse(ApiError::new(Code::Conflict, format!("message {seq} is deleted")))),
            old => Ok(old),
        }
    }

    /// Numbers a body: the next entry of the log, taken into the state at once.
    pub fn number(&mut self, by: UserId, cid: Option<ClientId>, body: Body, id: MessageId, at: Millis) -> Entry {
        let entry = Entry { room: self.room, seq: self.head + 1, n: self.n + u64::from(body.is_message()), id, at, by, cid, body };
        self.take(&entry);
        entry
    }

    /// A subscription was written: membership of a channel without an entry.
    pub fn subscribed(&mut self, user: UserId, role: Option<Role>) {
        self.people.stands(user, role.map_or(Standing::Stranger, Standing::Member));
    }

    fn take(&mut self, entry: &Entry) {
        debug_assert_eq!(entry.seq, self.head + 1, "entries are taken in order");
        self.head = entry.seq;
        self.n = entry.n;
        match &entry.body {
            Body::Room(change) => self.change_room(change),
            Body::Member(change) => self.people.take(entry.seq, entry.by, change),
            Body::Delete(target) => self.mark_deleted(target.seq, entry.by),
            _ => {}
        }
        self.push_recent(Recent::of(entry));
    }

    fn mark_deleted(&mut self, seq: Seq, by: UserId) {
        let index = self.window.front().and_then(|first| seq.checked_sub(first.seq)).map(|i| i as usize);
        match index.and_then(|i| self.window.get_mut(i)) {
            Some(recent) => recent.deleted = true,
            None => {
                self.old.remove(&seq);
                self.learn_old(seq, Old { by: Some(by), deleted: true });
            }
        }
    }

    fn change_room(&mut self, change: &RoomChange) {
        if let Some(kind) = change.kind {
            self.kind = Some(kind);
            // A room's first entry names all its members, so everybody is known, in a channel too until some subscribe.
            self.people.complete = kind != RoomKind::Channel;
        }
        if let Some(name) = &change.name {
            self.name.clone_from(name);
        }
        if let Some(topic) = &change.topic {
            self.topic.clone_from(topic);
        }
        self.archived = change.archived.unwrap_or(self.archived);
        self.unlisted = change.unlisted.unwrap_or(self.unlisted);
        if let Some(seconds) = change.slow_mode_s {
            self.slow_mode_s = seconds;
            self.spoken.clear();
            if seconds > 0 {
                let pause = self.slow_mode_ms();
                self.window.iter().filter(|r| r.message).for_each(|r| self.spoken.note(r.by, r.at, pause));
            }
        }
        for (user, role) in &change.members {
            self.people.stands(*user, Standing::Member(*role));
        }
    }

    fn push_recent(&mut self, recent: Recent) {
        if self.slow_mode_s > 0 && recent.message {
            self.spoken.note(recent.by, recent.at, self.slow_mode_ms());
        }
        if let Some(cid) = recent.cid {
            self.by_cid.insert((recent.by, cid), recent.seq);
        }
        self.window.push_back(recent);
        self.trim();
    }

    fn trim(&mut self) {
        while self.window.len() > WINDOW {
            // What is not committed is at most a batch, far less than the window.
            let Some(gone) = self.window.pop_front() else { break };
            if let Some(cid) = gone.cid
                && self.by_cid.get(&(gone.by, cid)) == Some(&gone.seq)
            {
                self.by_cid.remove(&(gone.by, cid));
            }
        }
    }
}

/// "Not there, or not for you": the two look alike.
pub fn not_found() -> ApiError {
    ApiError::new(Code::NotFound, "there is no such room, or you are not in it")
}
/// An invite that is not there, is over, or was made by somebody who may not invite any more: all look alike.
pub fn no_invite() -> ApiError {
    ApiError::new(Code::NotFound, "there is no such invite, or it is over")
}
fn full() -> ApiError {
    ApiError::new(Code::Conflict, "the group has as many members as it may")
}
fn no_member() -> ApiError {
    ApiError::new(Code::NotFound, "the user is not a member of this room")
}
fn last_owner() -> ApiError {
    ApiError::new(Code::Conflict, "the last owner must make somebody else an owner first")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
