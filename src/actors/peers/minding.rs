//! Sees to it that owners know what this node follows and who is connected to it, whatever was lost on the way.
//!
//! Whenever something may have moved, every shard's owner is compared with the one that was told last; who is another is told. Now and
//! then all that is followed is told again, and every node is told what this one owns: who believes to own the same hears that it was followed,
//! and a link on which the last envelope was lost shows its hole; owners answer with the heads of the rooms that are active, so that a lost entry is noticed though nothing follows it.

use super::{CHUNK, Peers};
use crate::actors::guardian::GuardianMsg;
use crate::actors::hub::HubMsg;
use crate::actors::node::NodeContext;
use crate::bus::asks::{Changed, Word};
use crate::cluster::NodeId;
use crate::protocol::ids::{RoomId, Shard};
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Questions that nobody answers are looked for this often.
const EXPIRE_EVERY: Duration = Duration::from_millis(100);
/// What changes within this is told together.
const TOGETHER: Duration = Duration::from_millis(20);
/// All that is followed is told again this often, at most [`ROOMS_AT_ONCE`] at a time.
const AGAIN_EVERY: Duration = Duration::from_secs(3);
/// See [`AGAIN_EVERY`]: with more rooms it takes several rounds.
const ROOMS_AT_ONCE: usize = 20_000;

/// The peers of a node, as soon as it has joined; none when it is gone.
pub(super) async fn joined(node: &Weak<NodeContext>) -> Option<Arc<Peers>> {
    loop {
        if let Some(peers) = node.upgrade()?.router.peers() {
            return Some(peers.clone());
        }
        // It is being put together.
        tokio::time::sleep(TOGETHER).await;
    }
}

/// Goes on as long as the node does.
pub(super) async fn run(node: Weak<NodeContext>) {
    let (mut round, mut last) = (0, Instant::now());
    loop {
        let Some(peers) = joined(&node).await else { return };
        let woken = tokio::time::timeout(EXPIRE_EVERY, peers.woken.notified()).await.is_ok();
        peers.expire();
        peers.mind_lines();
        if woken {
            tokio::time::sleep(TOGETHER).await;
        }
        let Some(node) = node.upgrade() else { return };
        let again = last.elapsed() >= AGAIN_EVERY;
        if woken || again {
            peers.mind(&node);
        }
        if again {
            last = Instant::now();
            round += 1;
            peers.remind(&node, round);
        }
    }
}

impl Peers {
    /// Tells the owners of shards that are others than were told last.
    fn mind(&self, node: &Arc<NodeContext>) {
        let me = self.me();
        let owners: Vec<NodeId> = (0..node.store.shards()).map(|shard| self.owner(node, Shard(shard))).collect();
        let mut changed: HashSet<Shard> = std::mem::take(&mut *self.again.lock()).into_iter().collect();
        {
            let mut told = self.told.lock();
            let moved = told.iter().zip(&owners).zip(0..).filter(|((was, now), _)| was != now).map(|(_, shard)| Shard(shard));
            changed.extend(moved);
            *told = owners.clone();
        }
        if changed.is_empty() {
            return;
        }
        // Also what came and went, or went and came, since the last time.
        let (gained, lost): (HashSet<Shard>, HashSet<Shard>) = changed.iter().partition(|shard| owners.get(shard.0 as usize) == Some(&me));
        for shard in &gained {
            self.note_gained(*shard, false);
            node.pushes.hint(*shard, 0);
        }
        if !gained.is_empty() {
            node.webhooks.shards_gained();
            node.forget(Changed::Deletions);
        }
        if !lost.is_empty() {
            let lost = Arc::new(lost);
            for guardian in node.router.guardians() {
                guardian.addr.do_send(GuardianMsg::Left(lost.clone()));
            }
        }
        self.tell_follow(node, node.hubs.followed(|room| changed.contains(&node.router.shard(room))), true);
        let changed = Arc::new(changed);
        node.hubs.each(|| HubMsg::Announce(changed.clone()));
    }

    /// Tells owners which of their rooms this node follows.
    fn tell_follow(&self, node: &Arc<NodeContext>, rooms: Vec<RoomId>, all: bool) {
        let mut by_owner: BTreeMap<NodeId, Vec<RoomId>> = BTreeMap::new();
        for room in rooms {
            by_owner.entry(self.owner(node, node.router.shard(room))).or_default().push(room);
        }
        for (owner, rooms) in by_owner {
            if owner == self.me() {
                node.router.follow_here(owner, rooms, all);
                continue;
            }
            for some in rooms.chunks(CHUNK) {
                self.tell(node, owner, &Word::Follow { rooms: some.to_vec(), all });
            }
        }
    }

    /// Tells everybody again what is followed, so that whatever was lost is noticed.
    fn remind(&self, node: &Arc<NodeContext>, round: usize) {
        let mut rooms = node.hubs.followed(|room| self.owner(node, node.router.shard(room)) != self.me());
        if rooms.len() > ROOMS_AT_ONCE {
            rooms.sort_unstable();
            let from = round * ROOMS_AT_ONCE % rooms.len();
            rooms = rooms[from..].iter().take(ROOMS_AT_ONCE).copied().collect();
        }
        self.tell_follow(node, rooms, false);
        let doubtful = std::mem::take(&mut *self.doubtful.lock());
        if !doubtful.is_empty() {
            // What they told this node's sessions of rooms that their users came into may have been lost.
            let shards = (0..node.store.shards()).map(Shard).filter(|shard| doubtful.contains(&self.owner(node, *shard)));
            let shards = Arc::new(shards.collect::<HashSet<Shard>>());
            node.hubs.each(|| HubMsg::LookAgain(shards.clone()));
            // So may the word that something is another now.
            node.forget(Changed::Anything);
            self.read_webhooks(node);
        }
        self.say_what_is_owned(node, None);
        self.tell_secrets(node);
    }

    /// Tells another node, or all, which shards this one owns. Also where that is none: a hole before it shows.
    pub(super) fn say_what_is_owned(&self, node: &NodeContext, to: Option<NodeId>) {
        let owned: BTreeMap<u32, u64> = node.claims.all_owned().into_iter().map(|(shard, epoch)| (shard.0, epoch)).collect();
        let all = node.store.shards();
        for first in (0..all).step_by(CHUNK) {
            let end = all.min(first + CHUNK as u32);
            let shards = owned.range(first..end).map(|(shard, epoch)| (*shard, *epoch)).collect();
            let word = Word::Owns { shards, among: Some((first, end)) };
            match to {
                Some(to) => self.tell(node, to, &word),
                None => self.broadcast(node, &word),
            }
        }
    }
}
