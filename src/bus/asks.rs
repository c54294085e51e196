//! What nodes ask and tell each other: the bodies of [`Envelope::Ask`](super::Envelope::Ask), `Answer` and `Tell`.
//!
//! A body is a version and a MessagePack value with named fields; fields that this build does not know are passed over, a kind that it
//! does not know is an error, which is answered or counted and harms nobody. `tests/golden/asks.hex` holds one of each.
//! Everything here may be lost on the way: a question is then asked again by who asked, a word is told again (`actors::peers`).

use super::UserEvent;
use crate::error::{ApiError, Code};
use crate::protocol::codec::{self, Format};
use crate::protocol::entry::{Caller, Role};
use crate::protocol::ids::{DeviceId, MessageId, Millis, RoomId, Seq, UserId};
use crate::protocol::ops::{Create, PresencePush, PresenceState, Request};
use crate::protocol::roomlog::Recent;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version that this build writes and reads.
pub const VERSION: u8 = 1;

/// What a room answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<RoomId>,
    /// The entry's seq.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<Seq>,
    /// Messages up to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<MessageId>,
    /// When it was numbered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Millis>,
}

impl Answer {
    /// The answer that names an entry.
    pub fn entry(entry: &Recent) -> Answer {
        Answer { room: None, seq: Some(entry.seq), n: Some(entry.n), id: Some(entry.id), at: Some(entry.at) }
    }
}

impl From<Answer> for crate::protocol::ops::Ok {
    fn from(Answer { room, seq, n, id, at }: Answer) -> Self {
        crate::protocol::ops::Ok { room, seq, n, id, at, ..Default::default() }
    }
}

/// How a room stands to a user, for a session that wants to follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The room.
    pub room: RoomId,
    /// The user is a member.
    pub member: bool,
    /// The committed head at which that was so.
    pub head: Seq,
}

/// A question to the owner of a shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// A request of a user to a room.
    Request {
        /// The user.
        user: UserId,
        /// On which device.
        device: DeviceId,
        /// The request as a frame of the wire, see [`Question::request`].
        #[serde(with = "serde_bytes")]
        frame: Vec<u8>,
        /// Only if this is the room's head.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        only_at: Option<Seq>,
        /// Grows at the node that asks with every request to this room that was refused: what was sent before it knew must be refused too.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        round: Option<u64>,
        /// The nodes, before the one that asks, at which the same request waits for an answer: there it must not wait for itself.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        through: Vec<u32>,
    },
    /// Creates a room.
    Create {
        /// Which.
        room: RoomId,
        /// Who.
        by: UserId,
        /// What.
        create: Create,
    },
    /// Lets a user in who comes by an invite link.
    Admit {
        /// Where.
        room: RoomId,
        /// Who.
        user: UserId,
        /// Who made the link.
        by: UserId,
        /// The role it gives.
        role: Role,
    },
    /// How rooms stand to a user.
    Attach {
        /// The user.
        user: UserId,
        /// Which rooms.
        rooms: Vec<RoomId>,
        /// The node that asks follows them from now on.
        follow: bool,
    },
    /// Waits until what the room has committed is applied.
    Settle {
        /// The room.
        room: RoomId,
    },
    /// Something for a user's presence that must arrive.
    Presence {
        /// Whose.
        user: UserId,
        /// What.
        what: ToPresence,
    },
    /// Begins to watch users.
    Watch {
        /// Who watches.
        watcher: UserId,
        /// In which hub of the node that asks.
        hub: u32,
        /// Whom.
        users: Vec<UserId>,
    },
    /// What users are now.
    Look {
        /// Which.
        users: Vec<UserId>,
    },
    /// Which of the users have a connected device.
    Online {
        /// Who is asked about.
        users: Vec<UserId>,
    },
    /// Tokens of this user (or of one device) are no longer accepted: to every node, which closes its sockets.
    Revoked {
        /// Whose.
        user: UserId,
        /// Which device; all when none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<DeviceId>,
    },
}

impl Question {
    /// A user's request as a question.
    pub fn request(caller: Caller, request: &Request, only_at: Option<Seq>) -> Question {
        let frame = codec::encode_request(Format::Msgpack, 1, request);
        Question::Request { user: caller.user, device: caller.device, frame, only_at, round: None, through: Vec::new() }
    }

    /// The same as it is sent in this round, having come through these nodes; only requests are.
    pub fn in_line(mut self, now: u64, came: Vec<u32>) -> Question {
        if let Question::Request { round, through, .. } = &mut self {
            (*round, *through) = (Some(now), came);
        }
        self
    }
}

/// What is told a user's presence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToPresence {
    /// A session of the node that tells is connected.
    Up(Up),
    /// It is gone.
    Down {
        /// Its number at that node.
        session: u64,
    },
    /// It says what its user is.
    Set {
        /// Its number at that node.
        session: u64,
        /// What.
        state: PresenceState,
    },
    /// The user's status text.
    Status(String),
    /// A contact wants to be told.
    Watch {
        /// The contact.
        watcher: UserId,
        /// In which hub of the node that tells.
        hub: u32,
    },
    /// A contact need not, or must not, be told any more.
    Unwatch {
        /// The contact.
        watcher: UserId,
        /// In this hub of the node that tells; anywhere when none.
        hub: Option<u32>,
    },
    /// For the user's sessions.
    Event(#[serde(with = "EventDef")] UserEvent),
}

/// See [`ToPresence::Up`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Up {
    /// The session's number at its node.
    pub session: u64,
    /// On which device.
    pub device: DeviceId,
    /// In which hub of its node.
    pub hub: u32,
    /// What its client said its user is.
    pub state: PresenceState,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "UserEvent", rename_all = "snake_case")]
enum EventDef {
    Joined { room: RoomId, seq: Seq },
    Left { room: RoomId, seq: Seq },
    Contact { other: UserId },
}

/// Where a shard is, as far as the node knows that was asked in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// The shard.
    pub shard: u32,
    /// Its owner.
    pub owner: u32,
    /// The epoch under which that one said so; 0: it is only planned.
    pub epoch: u64,
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// It was done.
    Done(Answer),
    /// It was not.
    Failed(ApiError),
    /// To [`Question::Attach`].
    Verdicts(Vec<Verdict>),
    /// To [`Question::Watch`] and [`Question::Look`].
    Presences(Vec<PresencePush>),
    /// To [`Question::Online`].
    Users(Vec<UserId>),
    /// Nothing was done: these shards are another's. None are named when only what was refused before stands in the way.
    Elsewhere(Vec<Elsewhere>),
}

/// What a node tells another and wants no answer to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// The node that tells owns the shard.
    Owned {
        /// Which.
        shard: u32,
        /// Under which epoch.
        epoch: u64,
    },
    /// The node that tells gave the shard away.
    Released {
        /// Which.
        shard: u32,
        /// To whom.
        to: u32,
        /// The epoch under which it owned it.
        epoch: u64,
        /// Rooms that ran: the other starts them at once, and not when somebody asks. Of many the first ones.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        rooms: Vec<RoomId>,
    },
    /// The node that tells wants no shards any more. These, which it did not own, should be those nodes'; for those that it owns,
    /// `Released` follows.
    Leaving {
        /// Shard and node.
        shards: Vec<(u32, u32)>,
    },
    /// The node that tells follows these rooms.
    Follow {
        /// Which.
        rooms: Vec<RoomId>,
        /// It may have missed anything: it wants to know every head, also of rooms that rest.
        all: bool,
    },
    /// It does not any more.
    Unfollow {
        /// Which.
        rooms: Vec<RoomId>,
    },
    /// Committed heads of rooms that the other follows.
    Heads {
        /// Room and head.
        heads: Vec<(RoomId, Seq)>,
    },
    /// For presences; `hops`: how often it was sent on.
    Presence {
        /// Whose, and what.
        to: Vec<(UserId, ToPresence)>,
        /// Not more than a few.
        hops: u8,
    },
    /// Shards of which the other was told something are not its own. `back`: what must be told their owner.
    Elsewhere {
        /// Which, and where they are.
        shards: Vec<Elsewhere>,
        /// What came to the wrong node.
        back: Vec<(UserId, ToPresence)>,
        /// See [`Word::Presence`].
        hops: u8,
    },
    /// Say again whatever the other should know of the node it is said to: what it follows, who is connected.
    Again,
    /// The webhooks are others now: to be read again.
    Webhooks,
    /// What others may know of the secrets of the node that tells.
    Secrets(Prints),
    /// Something that nodes remember of the store is another now.
    Changed(Changed),
    /// Pushes of a shard are due then.
    Due {
        /// The shard.
        shard: u32,
        /// When.
        at: Millis,
    },
    /// All that the node that tells owns: said now and then, so that who believes to own a shard and was cut off when another took it hears
    /// of it, though nothing is written there; and so that nobody goes on believing that the node owns what it lost unheard.
    Owns {
        /// Shard and epoch.
        shards: Vec<(u32, u64)>,
        /// It owns no others from this shard on, up to that one, which is not meant any more. None where an earlier build tells.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        among: Option<(u32, u32)>,
    },
    /// An operator wants the other to hand its shards over and end.
    Leave,
}

/// Fingerprints of a node's secrets, see [`crate::config::keys::print`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prints {
    /// Of the key that it signs access tokens with.
    pub signs: u64,
    /// Of the keys that it accepts tokens from.
    pub accepts: Vec<u64>,
    /// Of the key that push services know it by.
    pub vapid: u64,
    /// Of what it signs for the push gateway with, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<u64>,
}

/// See [`Word::Changed`]. Whoever does not hear of it finds out when what it remembers is too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Changed {
    /// The push subscriptions of a user.
    Subscriptions(UserId),
    /// Who wants to be told of everything in a channel.
    Levels(RoomId),
    /// An API key was revoked.
    ApiKey(u64),
    /// There is an account to be deleted.
    Deletions,
    /// Words were lost: it may be anything.
    Anything,
}

/// Writes a body.
pub fn encode<T: Serialize>(body: &T) -> Bytes {
    let mut out = Vec::with_capacity(128);
    out.push(VERSION);
    // Writing to a Vec cannot fail, and nothing in a body refuses to be written.
    rmp_serde::encode::write_named(&mut out, body).expect("a body can be encoded");
    out.into()
}

/// Reads a body.
///
/// # Errors
/// [`Code::Malformed`]: another version, an unknown kind, or damage.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let malformed = |why: String| ApiError::new(Code::Malformed, format!("what another node said cannot be read: {why}"));
    let Some((&VERSION, mut rest)) = body.split_first() else { return Err(malformed("another version".into())) };
    let value = rmp_serde::from_read(&mut rest).map_err(|e| malformed(e.to_string()))?;
    if rest.is_empty() { Ok(value) } else { Err(malformed(format!("{} bytes behind the value", rest.len()))) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::protocol::entry::RoomKind;
    use crate::protocol::ids::ClientId;
    use crate::protocol::ops::Typing;
    use std::fmt::Debug;

    const ANN: UserId = UserId(7);
    const ROOM: RoomId = RoomId(5);

    fn questions() -> Vec<Question> {
        let caller = Caller { user: ANN, device: DeviceId(9) };
        let cid = ClientId("0199f3a0-1c00-7000-8000-000000000001".parse().unwrap());
        let create = Create { kind: RoomKind::Group, name: Some("tea".into()), topic: None, members: vec![UserId(8)], cid };
        let presence = |what| Question::Presence { user: ANN, what };
        vec![
            Question::request(caller, &Request::Typing(Typing { room: ROOM, on: true }), Some(3)),
            Question::request(caller, &Request::Typing(Typing { room: ROOM, on: true }), None).in_line(6, vec![2]),
            Question::Create { room: ROOM, by: ANN, create },
            Question::Admit { room: ROOM, user: UserId(8), by: ANN, role: Role::Member },
            Question::Attach { user: ANN, rooms: vec![ROOM, RoomId(u64::MAX >> 1)], follow: true },
            Question::Settle { room: ROOM },
            presence(ToPresence::Event(UserEvent::Joined { room: ROOM, seq: 4 })),
            presence(ToPresence::Event(UserEvent::Left { room: ROOM, seq: 4 })),
            presence(ToPresence::Event(UserEvent::Contact { other: UserId(8) })),
            presence(ToPresence::Unwatch { watcher: UserId(8), hub: None }),
            Question::Watch { watcher: UserId(8), hub: 1, users: vec![ANN] },
            Question::Look { users: vec![ANN] },
            Question::Online { users: vec![ANN, UserId(8)] },
            Question::Revoked { user: ANN, device: Some(DeviceId(9)) },
        ]
    }

    fn answers() -> Vec<Said> {
        let presence = PresencePush { user: ANN, state: PresenceState::Away, last_seen: 1_700_000_000_000, status: "tea".into() };
        vec![
            Said::Done(Answer { room: Some(ROOM), seq: Some(4), n: Some(3), id: Some(MessageId(99)), at: Some(1_700_000_000_000) }),
            Said::Done(Answer::default()),
            Said::Failed(ApiError::after(Code::Busy, "too much is waiting", std::time::Duration::from_secs(1))),
            Said::Verdicts(vec![Verdict { room: ROOM, member: true, head: 4 }]),
            Said::Presences(vec![presence]),
            Said::Users(vec![ANN]),
            Said::Elsewhere(vec![Elsewhere { shard: 11, owner: 2, epoch: 3 }]),
        ]
    }

    fn words() -> Vec<Word> {
        let up = Up { session: 1, device: DeviceId(9), hub: 0, state: PresenceState::Busy };
        let to = vec![
            (ANN, ToPresence::Up(up)),
            (ANN, ToPresence::Down { session: 1 }),
            (ANN, ToPresence::Set { session: 1, state: PresenceState::Online }),
            (ANN, ToPresence::Status("tea".into())),
            (ANN, ToPresence::Watch { watcher: UserId(8), hub: 1 }),
            (ANN, ToPresence::Unwatch { watcher: UserId(8), hub: Some(1) }),
        ];
        let elsewhere = Elsewhere { shard: 11, owner: 2, epoch: 0 };
        vec![
            Word::Owned { shard: 11, epoch: 3 },
            Word::Released { shard: 11, to: 2, epoch: 3, rooms: Vec::new() },
            Word::Released { shard: 11, to: 2, epoch: 3, rooms: vec![ROOM] },
            Word::Leaving { shards: vec![(11, 2), (300, 3)] },
            Word::Follow { rooms: vec![ROOM], all: true },
            Word::Unfollow { rooms: vec![ROOM] },
            Word::Heads { heads: vec![(ROOM, 4)] },
            Word::Presence { to: to.clone(), hops: 0 },
            Word::Elsewhere { shards: vec![elsewhere], back: to, hops: 1 },
            Word::Again,
            Word::Webhooks,
            Word::Due { shard: 11, at: 1_700_000_000_000 },
            Word::Owns { shards: vec![(11, 3)], among: None },
            Word::Owns { shards: vec![(11, 3)], among: Some((0, 1_000)) },
            Word::Leave,
            Word::Secrets(Prints { signs: 1, accepts: vec![1, u64::MAX], vapid: 3, gateway: Some(4) }),
            Word::Changed(Changed::Subscriptions(ANN)),
            Word::Changed(Changed::Levels(ROOM)),
            Word::Changed(Changed::ApiKey(99)),
            Word::Changed(Changed::Deletions),
            Word::Changed(Changed::Anything),
        ]
    }

    /// The lines that a value becomes; each is read back.
    fn lines<T: Serialize + DeserializeOwned + PartialEq + Debug>(values: &[T]) -> Vec<String> {
        let line = |value: &T| {
            let body = encode(value);
            assert_eq!(decode::<T>(&body).unwrap(), *value);
            assert!((0..body.len()).all(|end| decode::<T>(&body[..end]).is_err()), "half of it is nothing: {value:?}");
            hex::encode(&body)
        };
        values.iter().map(line).collect()
    }

    #[test]
    fn what_nodes_say_is_written_and_read_as_it_always_was() {
        let made = [lines(&questions()), lines(&answers()), lines(&words())].concat();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/asks.hex");
        let golden = std::fs::read_to_string(path).unwrap_or_default();
        assert!(golden.lines().eq(made.iter().map(String::as_str)), "tests/golden/asks.hex should read:\n{}", made.join("\n"));
    }

    #[test]
    fn fields_of_a_later_build_are_passed_over_and_another_version_is_refused() {
        #[derive(Serialize)]
        enum Later {
            #[serde(rename = "settle")]
            Settle { room: RoomId, patience: Vec<u8> },
            #[serde(rename = "dance")]
            Dance,
        }
        let settle = encode(&Later::Settle { room: ROOM, patience: vec![1] });
        assert_eq!(decode::<Question>(&settle).unwrap(), Question::Settle { room: ROOM });
        assert_eq!(decode::<Question>(&encode(&Later::Dance)).unwrap_err().code, Code::Malformed);
        let mut other = encode(&Question::Settle { room: ROOM }).to_vec();
        other[0] = VERSION + 1;
        assert!(decode::<Question>(&other).is_err() && decode::<Question>(&[]).is_err());
    }
}
