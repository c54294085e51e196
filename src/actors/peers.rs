//! The other nodes: questions to the owners of shards that are not this node's, and what comes from them.
//!
//! A question travels as an envelope and is answered, or it is not: after [`ASK_MS`] whoever asked gets a retriable error, and the same
//! request with the same client id settles it. At most [`OPEN_MAX`] questions are open; more are refused with `busy`. A node that is
//! asked about a shard that is not its own says so and does nothing; then the shard is looked for once more.
//! Interest and presence are words that may be lost, and are told again: when a shard has another owner, when something of a node was
//! missed, and now and then (`minding`). `serving` is the other side: what this node answers.
//! Alone there are no peers, and nothing here runs.

use super::guardian::GuardianMsg;
use super::node::NodeContext;
use super::presence::PresenceMsg;
use super::router::lost;
use crate::bus::asks::{self, Changed, Elsewhere, Question, Said, ToPresence, Word};
use crate::bus::{Arrival, Envelope, Inbox};
use crate::cluster::claims::Told;
use crate::cluster::membership::Change;
use crate::cluster::shared::Shared;
use crate::cluster::view::Event;
use crate::cluster::{NodeId, Placement};
use crate::error::{ApiError, Code};
use crate::protocol::ids::{DeviceId, Millis, RoomId, Seq, Shard, UserId};
use crate::protocol::ops::PresencePush;
use crate::telemetry::metrics;
use actix::Arbiter;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

mod asking;
mod handing;
mod line;
mod minding;
pub mod secrets;
mod serving;
#[cfg(test)]
mod tests;

/// A question is given up after this, in milliseconds.
pub const ASK_MS: u32 = 2_000;
/// Questions that may be open.
const OPEN_MAX: usize = 65_536;
/// How often a shard is looked for, and what must arrive is sent.
const TRIES: u32 = 6;
/// The first pause before the same node is asked again about a shard, because its owner is being changed; each further one is twice as long,
/// up to the second figure. Nearly always the word of it is on its way, over another link.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
const LOOK_AGAIN_MAX: Duration = Duration::from_millis(100);
/// Rooms or users in one question or word.
const CHUNK: usize = 1_000;
/// A shard counts as just gained for this long: what nodes announce to its new owner may still be on its way.
const GAINED: Duration = Duration::from_secs(10);

pub use asking::Here;
use asking::Lines;
use line::Refused;
use secrets::Secrets;

/// What is done with an answer. Called on any thread: passes on and returns.
pub type Then = Box<dyn FnOnce(Result<Said, ApiError>) + Send>;

struct Open {
    to: NodeId,
    until: Instant,
    then: Then,
}

struct Table {
    next: u64,
    /// By number, and so by age: all wait equally long.
    open: BTreeMap<u64, Open>,
}

/// See the module.
pub struct Peers {
    shared: Shared,
    node: Weak<NodeContext>,
    runtime: Handle,
    table: Mutex<Table>,
    /// Whom this node last told what it follows, by shard.
    told: Mutex<Vec<NodeId>>,
    /// Shards whose owner is to be told again, whoever it is.
    again: Mutex<BTreeSet<Shard>>,
    /// Shards that became this node's a moment ago, and whether by their owner's death.
    gained: Mutex<HashMap<Shard, (Instant, bool)>>,
    /// Nodes of which something was missed, that sessions here may have to know.
    doubtful: Mutex<BTreeSet<NodeId>>,
    placing: Mutex<()>,
    handing: handing::Handing,
    woken: Notify,
    lines: Lines,
    secrets: Secrets,
    /// Nodes that have said what they own since this one joined.
    introduced: Mutex<BTreeSet<NodeId>>,
    introducing: Notify,
    /// What this node refused others.
    refused: Mutex<Refused>,
}

/// How long to wait before a shard is looked for with so many tries left.
fn look_again(tries: u32) -> Duration {
    (LOOK_AGAIN * (1 << TRIES.saturating_sub(tries).min(8))).min(LOOK_AGAIN_MAX)
}

fn unavailable() -> ApiError {
    ApiError::new(Code::Unavailable, "the node that this belongs to cannot be reached; send the same request again")
}

/// Joins the actors of a node to the cluster that `shared` shows, or to none; gives what the node's bus is to hand arrivals to.
/// To be called once, before the first guardian starts.
pub fn join(node: &Arc<NodeContext>, shared: Option<Shared>) -> Inbox {
    if let Some(shared) = shared {
        let peers = Arc::new(Peers::new(node, shared.clone()));
        node.router.join(node, peers.clone());
        let listening = Arc::downgrade(node);
        shared.listen(Arc::new(move |event| {
            if let Some(node) = listening.upgrade() {
                let _runtime = peers.runtime.enter();
                peers.changed(&node, event.clone());
            }
        }));
    }
    let claiming = Arc::downgrade(node);
    node.claims.listen(Box::new(move |shard, told| {
        if let Some(node) = claiming.upgrade() {
            owned_or_not(&node, shard, told);
        }
    }));
    let inbox = Arc::downgrade(node);
    Arc::new(move |arrival| {
        if let Some(node) = inbox.upgrade() {
            arrived(&node, arrival);
        }
    })
}

/// Passes on what became of a shard: to its rooms, and to the other nodes.
fn owned_or_not(node: &NodeContext, shard: Shard, told: Told) {
    if let Some(peers) = node.router.peers() {
        match &told {
            Told::Owned(epoch) => {
                peers.owned(shard, peers.me(), *epoch);
                peers.broadcast(node, &Word::Owned { shard: shard.0, epoch: *epoch });
            }
            Told::Released(to, epoch, rooms) => {
                peers.released(shard, peers.me(), *to, *epoch);
                let rooms = rooms.iter().take(CHUNK).copied().collect();
                peers.broadcast(node, &Word::Released { shard: shard.0, to: to.0, epoch: *epoch, rooms });
                peers.handed();
            }
            Told::StepDown(..) | Told::Finish(_) => {}
        }
    }
    node.router.told(shard, told);
}

/// Takes in what the bus brought.
fn arrived(node: &Arc<NodeContext>, arrival: Arrival) {
    let Some(peers) = node.router.peers() else {
        if let Arrival::Envelope(_, envelope) = arrival {
            node.hubs.dispatch(envelope);
        }
        return;
    };
    let _runtime = peers.runtime.enter();
    match arrival {
        Arrival::Envelope(from, Envelope::Ask { id, body, .. }) => serving::asked(node, peers, from, id, &body),
        Arrival::Envelope(from, Envelope::Answer { id, body }) => peers.answered(from, id, &body),
        Arrival::Envelope(from, Envelope::Tell { body }) => serving::told(node, peers, from, &body),
        Arrival::Envelope(from, envelope) => {
            if let Envelope::Entries { room, .. } | Envelope::Head { room, .. } = &envelope
                && from != peers.me()
                && !node.hubs.follows(*room)
            {
                // A word that nobody here follows it any more was lost.
                return peers.tell(node, from, &Word::Unfollow { rooms: vec![*room] });
            }
            node.hubs.dispatch(envelope);
        }
        Arrival::Missed(from) => peers.missed(node, from),
    }
}

impl Peers {
    fn new(node: &Arc<NodeContext>, shared: Shared) -> Peers {
        let (tx, rx) = std::sync::mpsc::channel();
        let thread = Arbiter::new();
        let weak = Arc::downgrade(node);
        thread.spawn_fn(move || {
            let _ = tx.send(Handle::current());
            actix::spawn(minding::run(weak.clone()));
            actix::spawn(handing::run(weak));
        });
        let runtime = rx.recv().expect("a thread that has just been started says what runs on it");
        let next = u64::from(rand::random::<u32>()) << 24;
        let me = shared.me();
        Peers {
            shared,
            node: Arc::downgrade(node),
            runtime,
            table: Mutex::new(Table { next, open: BTreeMap::new() }),
            told: Mutex::new(vec![me; node.store.shards() as usize]),
            again: Mutex::default(),
            gained: Mutex::default(),
            doubtful: Mutex::default(),
            placing: Mutex::default(),
            handing: handing::Handing::default(),
            woken: Notify::new(),
            lines: Lines::new(me, node.store.shards()),
            refused: Mutex::default(),
            secrets: Secrets::default(),
            introduced: Mutex::default(),
            introducing: Notify::new(),
        }
    }

    /// This node.
    pub fn me(&self) -> NodeId {
        self.shared.me()
    }

    /// Who is to be asked about a shard.
    pub fn owner(&self, node: &NodeContext, shard: Shard) -> NodeId {
        let owner = self.shared.owner(shard);
        if owner == self.me() && !node.claims.is_for_me(shard) {
            // It was given away, and the word of it says so no more.
            self.refused(shard, owner);
            return self.shared.owner(shard);
        }
        owner
    }

    /// The shard became this node's a moment ago; whether because its owner died.
    pub fn gained(&self, shard: Shard) -> Option<bool> {
        let mut gained = self.gained.lock();
        let (at, died) = *gained.get(&shard)?;
        if at.elapsed() > GAINED {
            gained.remove(&shard);
            return None;
        }
        Some(died)
    }

    fn note_gained(&self, shard: Shard, died: bool) {
        let mut gained = self.gained.lock();
        gained.retain(|_, (at, _)| at.elapsed() <= GAINED);
        let known = gained.get(&shard).is_some_and(|(_, died)| *died);
        gained.insert(shard, (Instant::now(), died || known));
    }

    /// A shard may have another owner, if only for a moment: whoever owns it is told what it should know.
    fn touched(&self, shard: Shard) {
        self.again.lock().insert(shard);
        self.wake();
    }
    fn learn(&self, shard: Shard, learn: impl FnOnce(&Shared)) {
        let before = self.shared.owner(shard);
        learn(&self.shared);
        if self.shared.owner(shard) != before {
            self.touched(shard);
        }
    }
    fn owned(&self, shard: Shard, by: NodeId, epoch: u64) {
        self.learn(shard, |shared| {
            shared.announced(shard, by, epoch);
        });
    }
    /// The plan of those who hear of it may not say yet who is the next: until it does, or somebody says so, it is who was named.
    fn released(&self, shard: Shard, by: NodeId, to: NodeId, epoch: u64) {
        self.learn(shard, |shared| {
            shared.released(shard, by, epoch);
            shared.announced(shard, to, epoch);
        });
    }
    fn refused(&self, shard: Shard, by: NodeId) {
        self.learn(shard, |shared| shared.refused(shard, by));
    }

    /// Questions that are not answered yet.
    pub fn open(&self) -> usize {
        self.table.lock().open.len()
    }

    /// Tells another node to leave.
    pub fn send_away(&self, node: &NodeContext, other: NodeId) {
        self.tell(node, other, &Word::Leave);
    }

    /// Something may have changed: whoever must be told is looked for.
    fn wake(&self) {
        self.woken.notify_one();
    }

    fn tell(&self, node: &NodeContext, to: NodeId, word: &Word) {
        node.bus.send(to, Envelope::Tell { body: asks::encode(word) });
    }
    fn broadcast(&self, node: &NodeContext, word: &Word) {
        node.bus.broadcast(Envelope::Tell { body: asks::encode(word) });
    }

    /// Asks one node once.
    fn ask(&self, node: &NodeContext, to: NodeId, body: Bytes, then: Then) {
        let until = Instant::now() + Duration::from_millis(u64::from(ASK_MS));
        let id = {
            let mut table = self.table.lock();
            if table.open.len() >= OPEN_MAX {
                drop(table);
                metrics().peer_questions_total.of("refused").inc();
                return then(Err(ApiError::new(Code::Busy, "too many requests wait for other nodes; try again in a moment")));
            }
            table.next += 1;
            let id = table.next;
            table.open.insert(id, Open { to, until, then });
            id
        };
        node.bus.send(to, Envelope::Ask { id, wait_ms: ASK_MS, body });
    }

    /// An answer came.
    fn answered(&self, from: NodeId, id: u64, body: &[u8]) {
        let open = {
            let mut table = self.table.lock();
            match table.open.get(&id) {
                Some(open) if open.to == from => table.open.remove(&id),
                _ => None,
            }
        };
        let Some(Open { then, .. }) = open else { return };
        let said = asks::decode::<Said>(body).map_err(|error| {
            tracing::warn!(%error, node = from.0, "an answer of another node");
            unavailable()
        });
        let result = if matches!(said, Ok(Said::Elsewhere(_))) { "elsewhere" } else { "answered" };
        metrics().peer_questions_total.of(result).inc();
        if let Ok(Said::Elsewhere(shards)) = &said
            && let Some(node) = self.node.upgrade()
        {
            self.corrected(&node, from, shards);
        }
        then(said);
    }

    /// A node says that shards are not its own.
    fn corrected(&self, node: &NodeContext, from: NodeId, shards: &[Elsewhere]) {
        for Elsewhere { shard, owner, epoch } in shards {
            let (shard, owner) = (Shard(*shard), NodeId(*owner));
            self.refused(shard, from);
            if owner == self.me() {
                if node.claims.owned(shard).is_none() && self.owner(node, shard) != self.me() {
                    // The word of the release was lost there.
                    let to = self.shared.owner(shard).0;
                    self.tell(node, from, &Word::Released { shard: shard.0, to, epoch: *epoch, rooms: Vec::new() });
                }
            } else if owner != from {
                self.owned(shard, owner, *epoch);
            }
        }
    }

    /// Gives up what nobody has answered in time.
    fn expire(&self) {
        let now = Instant::now();
        let mut over = Vec::new();
        {
            let mut table = self.table.lock();
            while let Some(first) = table.open.first_entry()
                && first.get().until <= now
            {
                over.push(first.remove().then);
            }
        }
        metrics().peer_questions_total.of("expired").inc_by(over.len() as u64);
        over.into_iter().for_each(|then| then(Err(unavailable())));
    }

    /// Gives up what a node was asked that will not answer.
    fn give_up(&self, on: NodeId) {
        let over: Vec<Open> = {
            let mut table = self.table.lock();
            let ids: Vec<u64> = table.open.iter().filter(|(_, open)| open.to == on).map(|(id, _)| *id).collect();
            ids.iter().filter_map(|id| table.open.remove(id)).collect()
        };
        metrics().peer_questions_total.of("given_up").inc_by(over.len() as u64);
        over.into_iter().for_each(|open| (open.then)(Err(unavailable())));
    }

    /// A message for a presence that another node owns.
    pub fn to_presence(self: &Arc<Self>, node: &NodeContext, owner: NodeId, shard: Shard, user: UserId, msg: PresenceMsg) {
        let sure = |what| self.ask_owner(shard, Question::Presence { user, what }, true, TRIES, Box::new(|_| {}));
        let what = match msg {
            PresenceMsg::Event(event) => return sure(ToPresence::Event(event)),
            // Who must not be told any more must not be told because an envelope was lost.
            PresenceMsg::Unwatch { watcher, hub: None } => return sure(ToPresence::Unwatch { watcher, hub: None }),
            PresenceMsg::Look(reply) => {
                let then = first_presence(reply);
                return self.ask_owner(shard, Question::Look { users: vec![user] }, false, TRIES, then);
            }
            PresenceMsg::Watch { watcher, hub, reply: Some(reply), .. } => {
                let question = Question::Watch { watcher, hub: hub as u32, users: vec![user] };
                return self.ask_owner(shard, question, false, TRIES, first_presence(reply));
            }
            PresenceMsg::Up { session, device, hub, state, .. } => ToPresence::Up(asks::Up { session, device, hub: hub as u32, state }),
            PresenceMsg::Down { session, .. } => ToPresence::Down { session },
            PresenceMsg::Set { session, state, .. } => ToPresence::Set { session, state },
            PresenceMsg::Status(text) => ToPresence::Status(text),
            PresenceMsg::Watch { watcher, hub, reply: None, .. } => ToPresence::Watch { watcher, hub: hub as u32 },
            PresenceMsg::Unwatch { watcher, hub: Some((_, hub)) } => ToPresence::Unwatch { watcher, hub: Some(hub as u32) },
            PresenceMsg::NodeGone(_) | PresenceMsg::Doubt(_) | PresenceMsg::Leave | PresenceMsg::Stop | PresenceMsg::Panic => return,
        };
        self.tell(node, owner, &Word::Presence { to: vec![(user, what)], hops: 0 });
    }

    /// Asks the owners of items about them, each owner about all of its own. What could not be answered is left out, and the error given.
    pub async fn gather<T: Copy, R>(
        self: &Arc<Self>,
        mut items: Vec<T>,
        shard: impl Fn(T) -> Shard,
        question: impl Fn(Vec<T>) -> Question,
        take: impl Fn(Said) -> Result<Vec<R>, ApiError>,
    ) -> (Vec<R>, Option<ApiError>) {
        let (mut out, mut failed) = (Vec::new(), None);
        for round in 0..=TRIES {
            if items.is_empty() {
                return (out, failed);
            }
            if round > 0 {
                tokio::time::sleep(look_again(TRIES + 1 - round)).await;
            }
            let Some(node) = self.node.upgrade() else { return (out, Some(lost())) };
            let mut by_owner: BTreeMap<NodeId, Vec<T>> = BTreeMap::new();
            for item in std::mem::take(&mut items) {
                by_owner.entry(self.owner(&node, shard(item))).or_default().push(item);
            }
            let mut asked = Vec::new();
            for (owner, some) in by_owner.iter().flat_map(|(owner, all)| all.chunks(CHUNK).map(|some| (*owner, some.to_vec()))) {
                let (tx, rx) = oneshot::channel();
                self.ask_one(&node, owner, question(some.clone()), tx);
                asked.push((some, rx));
            }
            for (some, rx) in asked {
                match rx.await.unwrap_or_else(|_| Err(lost())) {
                    Ok(Said::Elsewhere(_)) if round < TRIES => items.extend(some),
                    Ok(Said::Elsewhere(_)) => failed = Some(unavailable()),
                    Err(error) => failed = Some(error),
                    Ok(said) => match take(said) {
                        Ok(results) => out.extend(results),
                        Err(error) => failed = Some(error),
                    },
                }
            }
        }
        (out, failed)
    }

    fn ask_one(self: &Arc<Self>, node: &Arc<NodeContext>, owner: NodeId, question: Question, tx: oneshot::Sender<Result<Said, ApiError>>) {
        if owner == self.me() {
            serving::serve(node, self, owner, question, Box::new(move |said| drop(tx.send(Ok(said)))));
        } else {
            self.ask(node, owner, asks::encode(&question), Box::new(move |said| drop(tx.send(said))));
        }
    }

    /// What the view learned.
    fn changed(&self, node: &NodeContext, event: Event) {
        match event {
            Event::Placed(shard, _) => self.placed(node, shard),
            Event::TakeOver(shard) => {
                self.note_gained(shard, true);
                node.router.redo(shard);
                self.touched(shard);
            }
            Event::Member(Change::Died(gone)) => self.gone(node, gone),
            Event::Member(Change::Restarted(gone)) => {
                self.gone(node, gone);
                self.tell(node, gone, &Word::Again);
            }
            Event::Member(Change::Came(other) | Change::Back(other)) => self.tell(node, other, &Word::Again),
            // Perhaps it is slow; who asks again finds out.
            Event::Member(Change::Suspected(node)) => self.give_up(node),
            // What became others' meanwhile is asked of them before it is believed to be this node's.
            Event::Member(Change::Answers) => self.broadcast(node, &Word::Again),
            Event::Member(Change::Weights | Change::Usurped | Change::Silent) => {}
        }
        self.wake();
    }

    /// A node's process is gone, and its interest and sessions with it.
    fn gone(&self, node: &NodeContext, gone: NodeId) {
        self.give_up(gone);
        self.refused.lock().forget(gone);
        self.secrets.gone(gone);
        self.introduced.lock().remove(&gone);
        self.introducing.notify_waiters();
        for guardian in node.router.guardians() {
            guardian.addr.do_send(GuardianMsg::NodeGone(gone));
        }
    }

    /// Anything that a node said may have been missed, in both directions.
    fn missed(&self, node: &NodeContext, from: NodeId) {
        self.tell_again(from);
        self.tell(node, from, &Word::Again);
        self.doubtful.lock().insert(from);
        for guardian in node.router.guardians() {
            guardian.addr.do_send(GuardianMsg::Doubt(from));
        }
    }

    /// No session of this node needs the room any more. Another thread's hub may have begun to follow it just now.
    pub fn unfollow(&self, node: &NodeContext, owner: NodeId, room: RoomId) {
        if !node.hubs.follows(room) {
            self.tell(node, owner, &Word::Unfollow { rooms: vec![room] });
        }
    }

    /// Closes the sockets of a user, or of one of its devices, at every node. What a node does not hear within a few tries it finds out when the
    /// tokens end.
    pub fn revoked(self: &Arc<Self>, node: &NodeContext, user: UserId, device: Option<DeviceId>) {
        node.hubs.dispatch(Envelope::Revoked { user, device });
        let body = asks::encode(&Question::Revoked { user, device });
        for other in self.others() {
            self.clone().surely(other, body.clone(), TRIES);
        }
    }

    fn surely(self: Arc<Self>, to: NodeId, body: Bytes, tries: u32) {
        let Some(node) = self.node.upgrade() else { return };
        let (peers, again) = (self.clone(), body.clone());
        let then: Then = Box::new(move |said| {
            if said.is_err() && tries > 0 && peers.shared.look(|view| view.membership().has(to)) {
                peers.surely(to, again, tries - 1);
            }
        });
        self.ask(&node, to, body, then);
    }

    /// The nodes that are there beside this one.
    fn others(&self) -> Vec<NodeId> {
        self.shared.look(|view| view.membership().nodes().map(|(node, _)| node).filter(|node| *node != view.me()).collect())
    }

    /// Waits until every other node that is there has said what it owns, at most so long. A node that comes anew knows only the plan: what it
    /// took by that before it heard who is at work, it would take from them without a handover.
    pub async fn introduced(&self, limit: Duration) {
        let all = async {
            loop {
                let heard = self.introducing.notified();
                if self.others().iter().all(|other| self.introduced.lock().contains(other)) {
                    return;
                }
                heard.await;
            }
        };
        if tokio::time::timeout(limit, all).await.is_err() {
            tracing::warn!("not every node that is there has said what it owns; what is theirs may be taken from them");
        }
    }

    fn introduced_itself(&self, other: NodeId) {
        self.introduced.lock().insert(other);
        self.introducing.notify_waiters();
    }

    /// The webhooks were changed here.
    pub fn webhooks_changed(&self, node: &NodeContext) {
        self.broadcast(node, &Word::Webhooks);
    }

    /// Something that nodes remember was changed here.
    pub fn changed_here(&self, node: &NodeContext, changed: Changed) {
        node.forget(changed);
        self.broadcast(node, &Word::Changed(changed));
    }

    /// Reads the webhooks again that another node may have changed.
    fn read_webhooks(&self, node: &Arc<NodeContext>) {
        let node = node.clone();
        self.runtime.spawn(async move {
            if let Err(error) = node.webhooks.load().await {
                tracing::warn!(%error, "webhooks that another node changed could not be read");
            }
        });
    }

    /// Tells a node the heads of rooms that it follows.
    pub fn heads(&self, node: &NodeContext, to: NodeId, heads: Vec<(RoomId, Seq)>) {
        for some in heads.chunks(CHUNK) {
            self.tell(node, to, &Word::Heads { heads: some.to_vec() });
        }
    }

    /// Pushes of a shard are due.
    pub fn due(&self, node: &NodeContext, owner: NodeId, shard: Shard, at: Millis) {
        self.tell(node, owner, &Word::Due { shard: shard.0, at });
    }

    /// Everything that a node should know is told it again.
    fn tell_again(&self, owner: NodeId) {
        let shards: Vec<Shard> = self.told.lock().iter().zip(0..).filter(|(to, _)| **to == owner).map(|(_, shard)| Shard(shard)).collect();
        self.again.lock().extend(shards);
        self.wake();
    }

    /// Whether there is another node that takes shards.
    pub fn others_serve(&self) -> bool {
        self.shared.look(|view| view.membership().weights().iter().any(|(other, weight)| *other != view.me() && *weight > 0))
    }

    /// Hands this node's shards to the others and waits until its rooms have ended; gives up after `limit`. True: nothing is owned. To be called
    /// when [`Peers::others_serve`].
    pub async fn hand_over(&self, node: &NodeContext, limit: Duration) -> bool {
        let mine: Vec<Shard> = (0..node.store.shards()).map(Shard).filter(|shard| self.shared.should_own(*shard) == self.me()).collect();
        self.shared.set_weight(0);
        // The others learn by Redis that this node wants none, and that takes a moment.
        for some in mine.chunks(CHUNK) {
            let shards = some.iter().map(|shard| (shard.0, self.shared.should_own(*shard).0)).collect();
            self.broadcast(node, &Word::Leaving { shards });
        }
        let until = Instant::now() + limit;
        while node.claims.owned_shards() > 0 {
            if Instant::now() > until {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        true
    }
}

fn first_presence(reply: oneshot::Sender<PresencePush>) -> Then {
    Box::new(move |said| {
        if let Ok(Said::Presences(mut presences)) = said
            && let Some(presence) = presences.pop()
        {
            let _ = reply.send(presence);
        }
    })
}

/// Set once, when the node joins a cluster.
pub type Joined = OnceLock<Arc<Peers>>;
