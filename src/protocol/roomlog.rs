//! The rules of a room's log, pure: what may become an entry, what is a repeat, what number it gets.
//!
//! [`RoomLog`] is the room's state *including* entries that are numbered and not yet committed: whoever is numbered later is
//! judged by what was numbered before. When an append fails the owner throws the whole value away and rebuilds it from the log.
//! It does no I/O: where it needs to know more (somebody's membership, an old message, an older part of the log), it says so
//! ([`Decision::Need`]) and is asked again.

use super::entry::{Body, Change, Edit, Entry, MemberChange, Message, Pin, React, Role, RoomChange, RoomKind, Target};
use super::ids::{ClientId, MessageId, Millis, RoomId, Seq, UserId};
use super::ops::{Create, Request};
use super::policy::{self, Act, Denied, Standing};
use crate::error::{ApiError, Code};
use std::collections::{HashMap, VecDeque};
use xxhash_rust::xxh3::xxh3_64;

/// Entries that are kept in memory for finding repeats, authors and counts without reading the log.
pub const WINDOW: usize = 1024;
/// Memberships of a channel kept in memory.
const KNOWN_MAX: usize = 10_000;
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
    // A body that cannot be encoded (an unknown kind) never comes from a request, so it never needs to equal one.
    rmp_serde::to_vec_named(body).map_or(0, |bytes| xxh3_64(&bytes))
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

/// A room's log and state, in-flight entries included. See the module.
#[derive(Clone, Debug)]
pub struct RoomLog {
    room: RoomId,
    kind: Option<RoomKind>,
    name: String,
    topic: String,
    known: HashMap<UserId, Standing>,
    /// `known` holds every member and ban (direct rooms and groups).
    complete: bool,
    members: u64,
    owners: u64,
    head: Seq,
    committed: Seq,
    n: u64,
    window: VecDeque<Recent>,
    by_cid: HashMap<(UserId, ClientId), Seq>,
    old: HashMap<Seq, Old>,
    /// A filter may have changed texts.
    screened: bool,
    uncommitted_members: Vec<(Seq, UserId)>,
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
    /// A room as derived state has it, up to `settings.applied`. `known`: all members and bans, unless it is a channel.
    pub fn new(room: RoomId, settings: Settings, known: impl IntoIterator<Item = (UserId, Standing)>) -> Self {
        RoomLog {
            room,
            complete: settings.kind != Some(RoomKind::Channel),
            kind: settings.kind,
            name: settings.name,
            topic: settings.topic,
            known: known.into_iter().collect(),
            members: settings.members,
            owners: settings.owners,
            head: settings.applied,
            committed: settings.applied,
            n: settings.n,
            window: VecDeque::new(),
            by_cid: HashMap::new(),
            old: HashMap::new(),
            screened: false,
            uncommitted_members: Vec::new(),
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
            members: self.members,
            owners: self.owners,
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
        self.members
    }
    /// Everybody known to be a member (in groups and direct rooms: all members).
    pub fn known_members(&self) -> impl Iterator<Item = UserId> + '_ {
        self.known.iter().filter(|(_, s)| matches!(s, Standing::Member(_))).map(|(u, _)| *u)
    }

    /// Everything up to `seq` is committed.
    pub fn commit(&mut self, seq: Seq) {
        self.committed = self.committed.max(seq);
        let committed = self.committed;
        self.uncommitted_members.retain(|(s, _)| *s > committed);
    }

    /// A user's standing, where it is known.
    pub fn standing(&self, user: UserId) -> Option<Standing> {
        self.known.get(&user).copied().or(self.complete.then_some(Standing::Stranger))
    }
    /// Whether an entry that is not yet committed changes the user's membership: then who asks must wait.
    pub fn standing_in_flight(&self, user: UserId) -> bool {
        self.uncommitted_members.iter().any(|(_, u)| *u == user)
    }
    /// Answers [`Need::Standing`].
    pub fn learn_standing(&mut self, user: UserId, standing: Standing) {
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        // An entry that was numbered meanwhile knows better.
        self.known.entry(user).or_insert(standing);
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

    /// What is to be done about `request` of `user`, who is known to exist. `searched`: the entries before the window were searched
    /// from the request's `since` on, with this result. `repeat_window`: how far back a search may go.
    pub fn decide(&self, user: UserId, request: &Request, searched: Option<Option<Recent>>, repeat_window: u64) -> Decision {
        if self.kind.is_none() {
            return Decision::Refuse(not_found());
        }
        if user == UserId::SERVER {
            return self.once_only(user, request, self.body_of_server(request), searched, repeat_window);
        }
        let Some(standing) = self.standing(user) else { return Decision::Need(Need::Standing(user)) };
        // Who may not see the room learns nothing, also not whether a client id was used in it.
        if let Err(e) = self.check(standing, Act::Read)
            && !(matches!(request, Request::Join(_)) && matches!(standing, Standing::Stranger))
        {
            return match request {
                Request::Leave(_) => self.left_before(user, request, searched, repeat_window, e),
                _ => Decision::Refuse(e),
            };
        }
        self.once_only(user, request, self.body_of(user, standing, request), searched, repeat_window)
    }

    /// Numbers a body unless the request was carried out before: a resend is answered as it was the first time, even when the same request
    /// would be refused now.
    fn once_only(
        &self,
        user: UserId,
        request: &Request,
        body: Result<Body, Halt>,
        searched: Option<Option<Recent>>,
        repeat_window: u64,
    ) -> Decision {
        let body = match body {
            Ok(body) => Ok(body),
            Err(Halt::Refuse(e)) => Err(e),
            Err(other) => return other.into(),
        };
        let Some((cid, since)) = once(request) else { return body.map_or_else(Decision::Refuse, |_| Decision::Done) };
        match self.repeat(user, cid, since, searched, repeat_window) {
            Err(halt) => halt.into(),
            Ok(Some(first)) => self.same(request, user, first),
            Ok(None) => body.map_or_else(Decision::Refuse, Decision::Append),
        }
    }

    /// The server itself is in no room: as its moderation it deletes, whosever the message and whatever the room.
    fn body_of_server(&self, request: &Request) -> Result<Body, Halt> {
        match request {
            Request::Delete(delete) => self.target(delete.seq).map(|_| Body::Delete(Target { seq: delete.seq })),
            _ => Err(Halt::Refuse(ApiError::new(Code::Forbidden, "the server itself only deletes"))),
        }
    }

    /// A leave of somebody who is not in: perhaps it is a resend. If not: gone already is what was wanted of a channel, and of a hidden
    /// room nothing is said, not even how long its log is.
    fn left_before(&self, user: UserId, request: &Request, searched: Option<Option<Recent>>, window: u64, denied: ApiError) -> Decision {
        let Some((cid, since)) = once(request) else { return Decision::Refuse(denied) };
        match self.repeat(user, cid, since, searched, window) {
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
        repeat_window: u64,
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
            None if self.head - since > repeat_window => {
                let text = format!("since {since} is too far behind the room's head {}: resume, then look for the client id", self.head);
                Err(Halt::Refuse(ApiError::new(Code::Resync, text)))
            }
            None => Err(Halt::Need(Need::Search { from: since + 1, to: oldest - 1 })),
        }
    }

    fn recent(&self, seq: Seq) -> Option<&Recent> {
        let first = self.window.front()?.seq;
        self.window.get(seq.checked_sub(first)? as usize)
    }

    fn check(&self, standing: Standing, act: Act) -> Result<(), ApiError> {
        let Some(kind) = self.kind else { return Err(not_found()) };
        policy::allows(kind, standing, act).map_err(|denied| match denied {
            Denied::Hidden => not_found(),
            Denied::Forbidden => ApiError::new(Code::Forbidden, "your role in this room does not allow that"),
        })
    }

    /// The body that a request becomes, if the caller may.
    fn body_of(&self, user: UserId, standing: Standing, request: &Request) -> Result<Body, Halt> {
        let may = |act| self.check(standing, act).map_err(Halt::Refuse);
        match request {
            Request::Send(send) => {
                may(Act::Send)?;
                for seq in send.reply_to.iter().chain(&send.thread) {
                    if *seq == 0 || *seq > self.head {
                        return Err(Halt::Refuse(ApiError::new(Code::Invalid, format!("there is no message {seq} to answer"))));
                    }
                }
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
            Request::Update(_) => may(Act::UpdateRoom)?,
            Request::Typing(_) => may(Act::Typing)?,
            Request::Cursor(_) => may(Act::MoveCursor)?,
            Request::Join(_) => return Err(self.join(user, standing)),
            Request::Leave(_) => self.leave(user, standing)?,
            Request::Invite(r) => self.invite(standing, r.user)?,
            Request::Kick(r) => match self.other(r.user)? {
                Standing::Member(target) => may(Act::Kick { target })?,
                _ => return Err(Halt::Refuse(no_member())),
            },
            Request::Ban(r) => match self.other(r.user)? {
                Standing::Member(target) => may(Act::Ban { target: Some(target) })?,
                Standing::Stranger => may(Act::Ban { target: None })?,
                Standing::Banned => return Err(Halt::Refuse(ApiError::new(Code::Conflict, "the user is banned already"))),
            },
            Request::Unban(r) => {
                may(Act::Unban)?;
                if self.other(r.user)? != Standing::Banned {
                    return Err(Halt::Refuse(ApiError::new(Code::Conflict, "the user is not banned")));
                }
            }
            Request::Role(r) => {
                let Standing::Member(target) = self.other(r.user)? else { return Err(Halt::Refuse(no_member())) };
                may(Act::SetRole { target, to: r.role })?;
                if target == Role::Owner && r.role != Role::Owner && self.owners <= 1 {
                    return Err(Halt::Refuse(last_owner()));
                }
            }
            _ => return Err(Halt::Refuse(ApiError::new(Code::UnknownOp, "not a request on a room"))),
        }
        Ok(plain_body(request, user).unwrap_or(Body::Unknown))
    }

    fn other(&self, user: UserId) -> Result<Standing, Halt> {
        self.standing(user).ok_or(Halt::Need(Need::Standing(user)))
    }

    fn join(&self, user: UserId, standing: Standing) -> Halt {
        match (self.check(standing, Act::Join), standing) {
            (Err(e), _) => Halt::Refuse(e),
            (Ok(()), Standing::Member(_)) => Halt::Done,
            (Ok(()), _) => Halt::Subscribe(user, Some(Role::Member)),
        }
    }

    fn leave(&self, user: UserId, standing: Standing) -> Result<(), Halt> {
        let Standing::Member(role) = standing else {
            // Decided before (`left_before`).
            return Err(Halt::Done);
        };
        self.check(standing, Act::Leave)?;
        if role == Role::Owner && self.owners <= 1 && self.members > 1 {
            return Err(Halt::Refuse(last_owner()));
        }
        match self.kind {
            Some(RoomKind::Channel) => Err(Halt::Subscribe(user, None)),
            _ => Ok(()),
        }
    }

    fn invite(&self, standing: Standing, user: UserId) -> Result<(), Halt> {
        self.check(standing, Act::Invite { as_role: Role::Member })?;
        match (self.other(user)?, self.kind) {
            (Standing::Member(_), _) => Err(Halt::Refuse(ApiError::new(Code::Conflict, "the user is a member already"))),
            (Standing::Banned, _) => Err(Halt::Refuse(ApiError::new(Code::Forbidden, "the user is banned here; unban first"))),
            (Standing::Stranger, Some(RoomKind::Channel)) => Err(Halt::Subscribe(user, Some(Role::Member))),
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
        self.put(user, role.map_or(Standing::Stranger, Standing::Member));
    }

    fn take(&mut self, entry: &Entry) {
        debug_assert_eq!(entry.seq, self.head + 1, "entries are taken in order");
        self.head = entry.seq;
        self.n = entry.n;
        match &entry.body {
            Body::Room(change) => self.change_room(change),
            Body::Member(change) => {
                self.put(change.user, standing_after(change));
                self.uncommitted_members.push((entry.seq, change.user));
            }
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
            self.complete = kind != RoomKind::Channel;
        }
        if let Some(name) = &change.name {
            self.name.clone_from(name);
        }
        if let Some(topic) = &change.topic {
            self.topic.clone_from(topic);
        }
        for (user, role) in &change.members {
            self.put(*user, Standing::Member(*role));
        }
    }

    fn put(&mut self, user: UserId, standing: Standing) {
        let count = |s: Option<Standing>| match s {
            Some(Standing::Member(Role::Owner)) => (1, 1),
            Some(Standing::Member(_)) => (1, 0),
            _ => (0, 0),
        };
        let (was, now) = (count(self.known.get(&user).copied()), count(Some(standing)));
        self.members = self.members + now.0 - was.0.min(self.members);
        self.owners = self.owners + now.1 - was.1.min(self.owners);
        self.known.insert(user, standing);
    }

    fn push_recent(&mut self, recent: Recent) {
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

/// The standing after a change of membership.
pub fn standing_after(change: &MemberChange) -> Standing {
    match change.change {
        Change::Join | Change::Invite | Change::Role => Standing::Member(change.role.unwrap_or(Role::Member)),
        Change::Leave | Change::Kick | Change::Unban => Standing::Stranger,
        Change::Ban => Standing::Banned,
    }
}

/// The first entry of a room: its creator is the owner (both are members of a direct room).
pub fn creation(by: UserId, create: &Create) -> Body {
    let (own, rest) = match create.kind {
        RoomKind::Direct => (Role::Member, Role::Member),
        _ => (Role::Owner, Role::Member),
    };
    let mut members = vec![(by, own)];
    members.extend(create.members.iter().filter(|u| **u != by).map(|u| (*u, rest)));
    Body::Room(RoomChange { kind: Some(create.kind), name: create.name.clone(), topic: create.topic.clone(), members })
}

/// The client id and `since` of a request that becomes an entry.
pub fn once(request: &Request) -> Option<(ClientId, Seq)> {
    Some(match request {
        Request::Send(r) => (r.cid, r.since),
        Request::Edit(r) => (r.cid, r.since),
        Request::Delete(r) => (r.cid, r.since),
        Request::React(r) => (r.cid, r.since),
        Request::Pin(r) => (r.cid, r.since),
        Request::Join(r) | Request::Leave(r) => (r.cid, r.since),
        Request::Invite(r) | Request::Kick(r) | Request::Ban(r) | Request::Unban(r) => (r.cid, r.since),
        Request::Role(r) => (r.cid, r.since),
        Request::Update(r) => (r.cid, r.since),
        _ => return None,
    })
}

/// The room that a request is about, for requests that its owner answers.
pub fn room_of(request: &Request) -> Option<RoomId> {
    Some(match request {
        Request::Send(r) => r.room,
        Request::Edit(r) => r.room,
        Request::Delete(r) => r.room,
        Request::React(r) => r.room,
        Request::Pin(r) => r.room,
        Request::Join(r) | Request::Leave(r) => r.room,
        Request::Invite(r) | Request::Kick(r) | Request::Ban(r) | Request::Unban(r) => r.room,
        Request::Role(r) => r.room,
        Request::Update(r) => r.room,
        Request::Typing(r) => r.room,
        Request::Cursor(r) => r.room,
        _ => return None,
    })
}

/// The body that a request becomes, whoever may or may not send it: a function of the request alone, so that a resend
/// has the same one.
fn plain_body(request: &Request, user: UserId) -> Option<Body> {
    let member = |user, change, role| Body::Member(MemberChange { user, change, role });
    Some(match request {
        Request::Send(r) => Body::Message(Message {
            text: r.text.clone(),
            reply_to: r.reply_to,
            thread: r.thread,
            mentions: r.mentions.clone(),
            attachments: r.attachments.clone(),
            data: r.data.clone(),
        }),
        Request::Edit(r) => Body::Edit(Edit { seq: r.seq, text: r.text.clone(), mentions: r.mentions.clone() }),
        Request::Delete(r) => Body::Delete(Target { seq: r.seq }),
        Request::React(r) => Body::React(React { seq: r.seq, emoji: r.emoji.clone(), on: r.on }),
        Request::Pin(r) => Body::Pin(Pin { seq: r.seq, on: r.on }),
        Request::Leave(_) => member(user, Change::Leave, None),
        Request::Invite(r) => member(r.user, Change::Invite, Some(Role::Member)),
        Request::Kick(r) => member(r.user, Change::Kick, None),
        Request::Ban(r) => member(r.user, Change::Ban, None),
        Request::Unban(r) => member(r.user, Change::Unban, None),
        Request::Role(r) => member(r.user, Change::Role, Some(r.role)),
        Request::Update(r) => Body::Room(RoomChange { name: r.name.clone(), topic: r.topic.clone(), ..RoomChange::default() }),
        _ => return None,
    })
}

/// "Not there, or not for you": the two look alike.
pub fn not_found() -> ApiError {
    ApiError::new(Code::NotFound, "there is no such room, or you are not in it")
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
