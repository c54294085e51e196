//! Shards that go to other nodes, because this one drains or another has come: a few at a time.
//!
//! A shard in which rooms run is closed for as long as they need to finish and the next owner needs to load them. All shards at once would
//! make that long for every room of the node; in turns each room waits for its own shard only. A shard that waits for its turn is owned and
//! serves as before, and one that takes longer than [`SLOW`] holds nobody up.

use super::{Peers, minding};
use crate::actors::node::NodeContext;
use crate::cluster::shard::Placed;
use crate::protocol::ids::Shard;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Weak;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Shards that are handed over at one time at least.
const AT_ONCE: usize = 8;
/// So many turns at most: a node that owns more than this many times [`AT_ONCE`] hands more over at one time.
const TURNS: usize = 40;
/// See the module.
const SLOW: Duration = Duration::from_secs(1);
/// How often the slow are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What waits for its turn, and whose turn it is.
#[derive(Default)]
pub(super) struct Handing {
    turns: Mutex<Turns>,
    woken: Notify,
}

#[derive(Default)]
struct Turns {
    waiting: BTreeSet<Shard>,
    moving: BTreeMap<Shard, Instant>,
}

impl Turns {
    /// Those whose turn it is now; `moves` says whether one still moves.
    fn next(&mut self, now: Instant, owned: usize, moves: impl Fn(Shard) -> bool) -> Option<Shard> {
        self.moving.retain(|shard, since| now.duration_since(*since) < SLOW && moves(*shard));
        if self.moving.len() >= AT_ONCE.max(owned / TURNS) {
            return None;
        }
        self.waiting.pop_first()
    }
}

/// Goes on as long as the node does.
pub(super) async fn run(node: Weak<NodeContext>) {
    while let Some(peers) = minding::joined(&node).await {
        let _ = tokio::time::timeout(LOOK_EVERY, peers.handing.woken.notified()).await;
        let Some(node) = node.upgrade() else { return };
        peers.hand_next(&node);
    }
}

impl Peers {
    /// The placement of a shard is another.
    pub(super) fn placed(&self, node: &NodeContext, shard: Shard) {
        // Events of two threads may overtake each other: what holds now is what is passed on, one at a time.
        let _one = self.placing.lock();
        let placed = self.shared.look(|view| view.placed(shard));
        if matches!(placed, Placed::At(_)) && node.claims.has_rooms(shard) && !node.claims.is_moving(shard) {
            self.handing.turns.lock().waiting.insert(shard);
            return self.handed();
        }
        self.place(node, shard, placed);
    }

    /// A shard's rooms may have ended: perhaps it is another's turn. Called under a claim's lock.
    pub(super) fn handed(&self) {
        self.handing.woken.notify_one();
    }

    fn hand_next(&self, node: &NodeContext) {
        if self.handing.turns.lock().waiting.is_empty() {
            return; // nearly always
        }
        let _one = self.placing.lock();
        let owned = node.claims.owned_shards();
        loop {
            let next = self.handing.turns.lock().next(Instant::now(), owned, |shard| node.claims.is_moving(shard));
            let Some(shard) = next else { return };
            self.place(node, shard, self.shared.look(|view| view.placed(shard)));
            if node.claims.is_moving(shard) {
                self.handing.turns.lock().moving.insert(shard, Instant::now());
            }
        }
    }

    fn place(&self, node: &NodeContext, shard: Shard, placed: Placed) {
        node.claims.placed(shard, placed);
        if placed != Placed::Mine && node.claims.owned(shard).is_none() {
            self.shared.refused(shard, self.me());
        }
        self.touched(shard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(waiting: u32) -> Turns {
        Turns { waiting: (0..waiting).map(Shard).collect(), moving: BTreeMap::new() }
    }
    fn take(turns: &mut Turns, now: Instant, owned: usize, moves: impl Fn(Shard) -> bool) -> Vec<u32> {
        let mut taken = Vec::new();
        while let Some(shard) = turns.next(now, owned, &moves) {
            turns.moving.insert(shard, now);
            taken.push(shard.0);
        }
        taken
    }

    #[test]
    fn shards_go_a_few_at_a_time_and_each_once() {
        let (mut turns, now) = (turns(20), Instant::now());
        assert_eq!(take(&mut turns, now, 20, |_| true), (0..8).collect::<Vec<_>>());
        assert_eq!(take(&mut turns, now, 20, |_| true), [0; 0]);
        assert_eq!(take(&mut turns, now, 17, |shard| shard.0 >= 3), [8, 9, 10], "three are done");
        assert_eq!(take(&mut turns, now, 9, |shard| shard.0 >= 9), (11..17).collect::<Vec<_>>());
        assert_eq!(take(&mut turns, now, 0, |_| false), (17..20).collect::<Vec<_>>());
    }

    #[test]
    fn who_is_slow_holds_nobody_up_and_who_has_many_hands_over_more_at_once() {
        let (mut turns, now) = (turns(40), Instant::now());
        assert_eq!(take(&mut turns, now, 0, |_| true).len(), AT_ONCE);
        assert_eq!(take(&mut turns, now + SLOW, 0, |_| true).len(), AT_ONCE);
        assert_eq!(take(&mut turns, now + SLOW * 2, 20 * TURNS, |_| true).len(), 20);
    }
}
