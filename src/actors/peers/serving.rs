//! What other nodes ask and tell this one.

use super::Peers;
use crate::actors::node::NodeContext;
use crate::actors::presence::PresenceMsg;
use crate::actors::room::{Ask, RoomMsg};
use crate::actors::router::{Place, Reply};
use crate::bus::Envelope;
use crate::bus::asks::{self, Answer, Elsewhere, Question, Said, ToPresence, Up, Word};
use crate::cluster::NodeId;
use crate::cluster::shard::Placed;
use crate::cluster::view::View;
use crate::error::{ApiError, Code};
use crate::protocol::codec::{self, Format};
use crate::protocol::entry::Caller;
use crate::protocol::ids::{RoomId, Shard, UserId};
use crate::protocol::ops::Request;
use crate::protocol::roomlog::{self, Link};
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Words that are sent on to another node, so often.
const HOPS_MAX: u8 = 3;

/// Takes the answer to a question.
pub(super) type Respond = Box<dyn FnOnce(Said) + Send>;

/// A node asks.
pub(super) fn asked(node: &Arc<NodeContext>, peers: &Arc<Peers>, from: NodeId, id: u64, body: &[u8]) {
    let bus = node.bus.clone();
    let respond: Respond = Box::new(move |said| bus.send(from, Envelope::Answer { id, body: asks::encode(&said) }));
    match asks::decode(body) {
        Ok(question) => serve(node, peers, from, question, respond),
        Err(error) => {
            tracing::warn!(%error, node = from.0, "a question of another node");
            respond(Said::Failed(ApiError::new(Code::Unavailable, "the nodes of this server are being changed; try again in a moment")));
        }
    }
}

/// Answers a question, here.
pub(super) fn serve(node: &Arc<NodeContext>, peers: &Arc<Peers>, from: NodeId, question: Question, respond: Respond) {
    let place = match &question {
        Question::Request { through, .. } => {
            Place { order: None, through: through.iter().copied().map(NodeId).chain((from != peers.me()).then_some(from)).collect() }
        }
        _ => Place::default(),
    };
    serve_at(node, peers, from, question, place, respond);
}

/// The same for what has a place.
pub(super) fn serve_at(node: &Arc<NodeContext>, peers: &Arc<Peers>, from: NodeId, question: Question, place: Place, respond: Respond) {
    if let Question::Request { user, device, frame, only_at, round, .. } = question {
        return match request(&frame) {
            Ok((room, request)) => {
                if let Some(elsewhere) = peers.refuses(node, from, room, round) {
                    return respond(Said::Elsewhere(elsewhere));
                }
                let at_once = from == peers.me() || place.through.contains(&peers.me());
                let reply = reply(respond).placed(place);
                let ask = RoomMsg::Ask(Box::new(Ask { caller: Caller { user, device }, request, reply, screened: false, only_at }));
                if at_once { node.router.to_room_here(room, ask) } else { node.router.in_turn(room, ask) }
            }
            Err(error) => respond(Said::Failed(error)),
        };
    }
    let elsewhere = peers.elsewhere(node, shards(node, &question));
    if !elsewhere.is_empty() {
        return respond(Said::Elsewhere(elsewhere));
    }
    match question {
        // Was answered above.
        Question::Request { .. } => {}
        Question::Create { room, by, create } => {
            node.router.to_room_here(room, RoomMsg::Create { by, create: Box::new(create), reply: reply(respond) });
        }
        Question::Admit { room, user, by, role } => {
            node.router.to_room_here(room, RoomMsg::Admit { user, link: Link { by, role }, reply: reply(respond) });
        }
        Question::Attach { user, rooms, follow } => {
            let node = node.clone();
            peers.runtime.spawn(async move {
                let verdicts = node.router.verdicts_here(user, follow.then_some(from), &rooms).await;
                respond(verdicts.map_or_else(Said::Failed, Said::Verdicts));
            });
        }
        Question::Settle { room } => {
            let node = node.clone();
            peers.runtime.spawn(async move {
                node.router.settle_here(room).await;
                respond(Said::Done(Answer::default()));
            });
        }
        Question::Presence { user, what } => {
            node.router.to_presence_here(user, message(from, what));
            respond(Said::Done(Answer::default()));
        }
        Question::Watch { watcher, hub, users } => {
            let watch = |reply| PresenceMsg::Watch { node: from, watcher, hub: hub as usize, reply: Some(reply) };
            presences(node, peers, users, watch, respond);
        }
        Question::Look { users } => presences(node, peers, users, PresenceMsg::Look, respond),
        Question::Revoked { user, device } => {
            node.hubs.dispatch(Envelope::Revoked { user, device });
            respond(Said::Done(Answer::default()));
        }
        Question::Online { users } => {
            let node = node.clone();
            peers.runtime.spawn(async move { respond(Said::Users(node.router.online_here(&users).await)) });
        }
    }
}

fn presences(
    node: &Arc<NodeContext>,
    peers: &Peers,
    users: Vec<UserId>,
    msg: impl Fn(oneshot::Sender<crate::protocol::ops::PresencePush>) -> PresenceMsg,
    respond: Respond,
) {
    let mut answers = Vec::with_capacity(users.len());
    for user in users {
        let (tx, rx) = oneshot::channel();
        node.router.to_presence_here(user, msg(tx));
        answers.push(rx);
    }
    peers.runtime.spawn(async move {
        let mut out = Vec::with_capacity(answers.len());
        for answer in answers {
            out.extend(answer.await);
        }
        respond(Said::Presences(out));
    });
}

fn request(frame: &[u8]) -> Result<(RoomId, Request), ApiError> {
    let (_, request) = codec::decode_request(Format::Msgpack, frame).map_err(|(_, error)| error)?;
    let room = roomlog::room_of(&request).ok_or_else(|| ApiError::new(Code::UnknownOp, "this request is not for a room"))?;
    Ok((room, request))
}

fn reply(respond: Respond) -> Reply {
    Reply::then(move |result| respond(result.map_or_else(Said::Failed, Said::Done)))
}

/// The shards that a question is about; those of requests are looked for where they are read.
fn shards(node: &NodeContext, question: &Question) -> Vec<Shard> {
    let router = &node.router;
    match question {
        Question::Request { .. } => Vec::new(),
        Question::Create { room, .. } | Question::Admit { room, .. } | Question::Settle { room } => vec![router.shard(*room)],
        Question::Attach { rooms, .. } => rooms.iter().map(|room| router.shard(*room)).collect(),
        Question::Presence { user, .. } => vec![router.shard_of_user(*user)],
        Question::Revoked { .. } => Vec::new(),
        Question::Watch { users, .. } | Question::Look { users } | Question::Online { users } => {
            users.iter().map(|user| router.shard_of_user(*user)).collect()
        }
    }
}

/// As a message of the node that tells.
fn message(from: NodeId, what: ToPresence) -> PresenceMsg {
    match what {
        ToPresence::Up(Up { session, device, hub, state }) => PresenceMsg::Up { node: from, session, device, hub: hub as usize, state },
        ToPresence::Down { session } => PresenceMsg::Down { node: from, session },
        ToPresence::Set { session, state } => PresenceMsg::Set { node: from, session, state },
        ToPresence::Status(text) => PresenceMsg::Status(text),
        ToPresence::Watch { watcher, hub } => PresenceMsg::Watch { node: from, watcher, hub: hub as usize, reply: None },
        ToPresence::Unwatch { watcher, hub } => PresenceMsg::Unwatch { watcher, hub: hub.map(|hub| (from, hub as usize)) },
        ToPresence::Event(event) => PresenceMsg::Event(event),
    }
}

/// A node tells something.
pub(super) fn told(node: &Arc<NodeContext>, peers: &Arc<Peers>, from: NodeId, body: &[u8]) {
    match asks::decode(body) {
        Ok(word) => word_of(node, peers, from, word),
        Err(error) => tracing::warn!(%error, node = from.0, "a word of another node"),
    }
}

fn owned(node: &NodeContext, peers: &Peers, by: NodeId, shard: u32, epoch: u64) {
    peers.owned(Shard(shard), by, epoch);
    node.claims.saw(Shard(shard), epoch);
}

fn word_of(node: &Arc<NodeContext>, peers: &Arc<Peers>, from: NodeId, word: Word) {
    if from == peers.me() {
        return; // what was told everybody
    }
    match word {
        Word::Leave => node.leave.notify_one(),
        Word::Owned { shard, epoch } => owned(node, peers, from, shard, epoch),
        Word::Owns { shards, among } => {
            if let Some((first, end)) = among {
                peers.owns_no_other(from, first..end.min(node.store.shards()), &shards);
            }
            shards.into_iter().for_each(|(shard, epoch)| owned(node, peers, from, shard, epoch));
            if among.is_some_and(|(_, end)| end >= node.store.shards()) {
                peers.introduced_itself(from);
            }
        }
        Word::Released { shard, to, epoch, rooms } => {
            let (shard, to) = (Shard(shard), NodeId(to));
            peers.released(shard, from, to, epoch);
            // Whoever owned it under an older epoch, and was not told when it lost it, hears of it here.
            node.claims.saw(shard, epoch);
            if to == peers.me() {
                // The one that gives it may know sooner than the plan here.
                node.claims.placed(shard, Placed::Mine);
                // Whoever is about to write there waits for less.
                rooms.into_iter().for_each(|room| node.router.to_room_here(room, RoomMsg::Wake));
            }
        }
        Word::Leaving { shards } => {
            for (shard, to) in shards.into_iter().map(|(shard, to)| (Shard(shard), NodeId(to))) {
                // Where somebody is known to own it, that one says when it does no more.
                if peers.shared.look(|view| view.told(shard)).is_none() {
                    peers.owned(shard, to, 0);
                    if to == peers.me() {
                        node.claims.placed(shard, Placed::Mine);
                    }
                }
            }
        }
        Word::Follow { rooms, all } => {
            let elsewhere = peers.elsewhere(node, rooms.iter().map(|room| node.router.shard(*room)));
            let mine = rooms.into_iter().filter(|room| elsewhere.iter().all(|e| e.shard != node.router.shard(*room).0)).collect();
            node.router.follow_here(from, mine, all);
            if !elsewhere.is_empty() {
                peers.tell(node, from, &Word::Elsewhere { shards: elsewhere, back: Vec::new(), hops: 0 });
            }
        }
        Word::Unfollow { rooms } => node.router.unfollow_here(from, rooms),
        Word::Heads { heads } => {
            for (room, head) in heads {
                node.hubs.dispatch(Envelope::Head { room, head });
            }
        }
        Word::Presence { to, hops } => presence_words(node, peers, from, to, hops),
        Word::Elsewhere { shards, back, hops } => {
            peers.corrected(node, from, &shards);
            peers.again.lock().extend(shards.iter().map(|e| Shard(e.shard)));
            for (user, what) in back {
                let owner = peers.owner(node, node.router.shard_of_user(user));
                if owner == peers.me() {
                    node.router.to_presence_here(user, message(owner, what));
                } else if hops < HOPS_MAX {
                    peers.tell(node, owner, &Word::Presence { to: vec![(user, what)], hops: hops + 1 });
                }
            }
            peers.wake();
        }
        Word::Again => {
            peers.tell_again(from);
            peers.say_what_is_owned(node, Some(from));
        }
        Word::Webhooks => peers.read_webhooks(node),
        Word::Changed(changed) => node.forget(changed),
        Word::Secrets(prints) => peers.secrets.heard(from, prints),
        Word::Due { shard, at } => node.pushes.hint(Shard(shard), at),
    }
}

fn presence_words(node: &Arc<NodeContext>, peers: &Peers, from: NodeId, to: Vec<(UserId, ToPresence)>, hops: u8) {
    let elsewhere = peers.elsewhere(node, to.iter().map(|(user, _)| node.router.shard_of_user(*user)));
    let mut back = Vec::new();
    for (user, what) in to {
        let shard = node.router.shard_of_user(user).0;
        if elsewhere.iter().all(|e| e.shard != shard) {
            node.router.to_presence_here(user, message(from, what));
        } else {
            back.push((user, what));
        }
    }
    if !elsewhere.is_empty() {
        peers.tell(node, from, &Word::Elsewhere { shards: elsewhere, back, hops });
    }
}

impl Peers {
    /// Of these shards the node owns only those that are listed: the others go by the plan again. It lost them to somebody who was not heard
    /// here; without this, who should own them now would go on sending everybody there.
    fn owns_no_other(&self, by: NodeId, among: Range<u32>, listed: &[(u32, u64)]) {
        let listed: HashSet<u32> = listed.iter().map(|(shard, _)| *shard).collect();
        let believed = |view: &View| {
            let here = among.clone().filter(|shard| !listed.contains(shard)).map(Shard);
            here.filter(|shard| view.told(*shard).is_some_and(|(_, owner)| owner == by)).collect::<Vec<_>>()
        };
        for shard in self.shared.look(believed) {
            self.refused(shard, by);
        }
    }

    /// Where a request of a node is to go instead; nowhere when it was only sent behind one that was refused, and must not overtake it.
    fn refuses(&self, node: &NodeContext, from: NodeId, room: RoomId, round: Option<u64>) -> Option<Vec<Elsewhere>> {
        let elsewhere = self.elsewhere(node, [node.router.shard(room)]);
        let Some(round) = round.filter(|_| from != self.me()) else { return (!elsewhere.is_empty()).then_some(elsewhere) };
        let (mut refused, now) = (self.refused.lock(), self.shared.now());
        if !elsewhere.is_empty() {
            refused.note(from, room, round, now);
            return Some(elsewhere);
        }
        refused.holds(from, room, round, now).then_some(elsewhere)
    }

    /// Those of the shards that are not this node's, each once, and where they are.
    fn elsewhere(&self, node: &NodeContext, shards: impl IntoIterator<Item = Shard>) -> Vec<Elsewhere> {
        let mut out: Vec<Elsewhere> = Vec::new();
        for shard in shards {
            let owner = self.owner(node, shard);
            if owner != self.me() && out.iter().all(|known| known.shard != shard.0) {
                let told = self.shared.look(|view| view.told(shard));
                let epoch = told.filter(|(_, who)| *who == owner).map_or(0, |(epoch, _)| epoch);
                out.push(Elsewhere { shard: shard.0, owner: owner.0, epoch });
            }
        }
        out
    }
}
