//! Which nodes are there, as seen from Redis: leases, and what may be concluded from them. Pure; times are monotonic.
//!
//! A node renews its lease; a lease that is not renewed ends. A node counts as dead only on evidence: answers of a Redis that was there all
//! along, that list this node's own lease and not the other's, for [`Timing::confirm`]. Silence, an answer that came late, or a Redis that
//! was restarted empty is no evidence: **no shard moves because Redis is silent**. Whatever is concluded wrongly costs a takeover and
//! nothing else: the epoch cells decide who commits.

use super::{Mono, NodeId};
use std::collections::BTreeMap;

/// How long things may take, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// A lease that is not renewed ends after this.
    pub lease: u64,
    /// A lease is renewed, and all are read, this often.
    pub renew: u64,
    /// So long a lease must be missing in good answers until its node is dead.
    pub confirm: u64,
}

impl Timing {
    /// After a silence, or a restart of Redis, everybody gets this long to renew.
    pub fn grace(&self) -> u64 {
        self.lease + 2 * self.renew
    }
    /// An answer that took longer than this tells nothing about now.
    pub fn late(&self) -> u64 {
        self.lease
    }
}

/// A node's lease as Redis lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Whose.
    pub node: NodeId,
    /// Which process: random at its start. Two processes with one node id are a mistake of configuration.
    pub incarnation: u64,
    /// Its weight in the placement; 0: it takes no shards (it drains).
    pub weight: u32,
}

/// An answer of Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// When the question was asked.
    pub asked: Mono,
    /// Which life of Redis answered (its `run_id`, hashed): it changes when Redis restarts or another replica took over.
    pub server: u64,
    /// All leases.
    pub leases: Vec<Lease>,
}

/// What is known of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its lease was in the last good answer, or nothing is known against it.
    Live,
    /// Its lease is missing since then; its shards stay where they are.
    Suspected(Mono),
}

/// What follows from an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A node is there that was not: its first lease, or a new process under the same id (what the old one owned is nobody's).
    Came(NodeId),
    /// A node that was there as another process came back as a new one: its shards and sessions are gone.
    Restarted(NodeId),
    /// A node may be dead. Requests to it are given up sooner.
    Suspected(NodeId),
    /// It was not.
    Back(NodeId),
    /// A node is dead: its shards are to be taken over, its users are offline.
    Died(NodeId),
    /// The weights that the placement works with have changed.
    Weights,
    /// Another process renews the lease of this node's id: this one must stop.
    Usurped,
    /// Redis answers no more: what is owned stays owned.
    Silent,
    /// Redis answers again.
    Answers,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    incarnation: u64,
    weight: u32,
    standing: Standing,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Membership {
    me: Lease,
    timing: Timing,
    members: BTreeMap<NodeId, Member>,
    /// The last good answer: when it was asked for, and of which life of Redis.
    last: Option<(Mono, u64)>,
    /// This process has had the lease of its id.
    held: bool,
    /// When it began to wait for it.
    began: Option<Mono>,
    /// Until then nothing is concluded from a lease that is missing.
    blind_until: Mono,
    silent: bool,
}

impl Membership {
    /// Knows only this node.
    pub fn new(me: Lease, timing: Timing) -> Membership {
        let member = Member { incarnation: me.incarnation, weight: me.weight, standing: Standing::Live };
        let members = BTreeMap::from([(me.node, member)]);
        Membership { me, timing, members, last: None, held: false, began: None, blind_until: Mono(0), silent: false }
    }

    /// The lease that this node renews.
    pub fn me(&self) -> Lease {
        self.me
    }

    /// This node takes no more shards, or takes them again: with another weight.
    pub fn set_weight(&mut self, weight: u32) -> Vec<Change> {
        self.me.weight = weight;
        let Some(me) = self.members.get_mut(&self.me.node) else { return Vec::new() };
        let changed = std::mem::replace(&mut me.weight, weight) != weight;
        if changed { vec![Change::Weights] } else { Vec::new() }
    }

    /// Nodes that are not known to be dead.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, Standing)> + '_ {
        self.members.iter().map(|(node, m)| (*node, m.standing))
    }
    /// Whether a node is not known to be dead.
    pub fn has(&self, node: NodeId) -> bool {
        self.members.contains_key(&node)
    }
    /// What the placement works with: suspected nodes keep their shards.
    pub fn weights(&self) -> BTreeMap<NodeId, u32> {
        self.members.iter().map(|(node, m)| (*node, m.weight)).collect()
    }
    /// Whether Redis is silent.
    pub fn is_silent(&self) -> bool {
        self.silent
    }

    /// Whether Redis is silent, or was a moment ago: others have not had the time to renew, nor to say what they own.
    pub fn is_blind(&self, now: Mono) -> bool {
        self.silent || now < self.blind_until
    }

    /// Time passed.
    pub fn tick(&mut self, now: Mono) -> Vec<Change> {
        let heard = self.last.map_or(Mono(0), |(asked, _)| asked);
        if self.silent || now.since(heard) <= self.timing.late() {
            return Vec::new();
        }
        self.silent = true;
        vec![Change::Silent]
    }

    /// An answer of Redis.
    pub fn listed(&mut self, now: Mono, listing: Listing) -> Vec<Change> {
        let mut changes = Vec::new();
        let mine = listing.leases.iter().find(|l| l.node == self.me.node);
        let began = *self.began.get_or_insert(listing.asked);
        match mine {
            Some(lease) if lease.incarnation == self.me.incarnation => self.held = true,
            // The process before this one may have left its lease behind; it ends if nobody renews it.
            Some(_) if !self.held && now.since(began) <= self.timing.grace() => return changes,
            Some(_) => return vec![Change::Usurped],
            None => {}
        }
        let gap = self.last.is_none_or(|(asked, _)| listing.asked.since(asked) > self.timing.late());
        let other = self.last.is_none_or(|(_, server)| server != listing.server);
        if gap || other || mine.is_none() || now.since(listing.asked) > self.timing.late() {
            // Not there all along, another Redis, not told of this node, or long ago: it is seen who is there, not who is missing.
            self.blind_until = Mono(now.0 + self.timing.grace());
            for member in self.members.values_mut() {
                if let Standing::Suspected(since) = &mut member.standing {
                    *since = self.blind_until;
                }
            }
        }
        self.last = Some((listing.asked, listing.server));
        if std::mem::take(&mut self.silent) {
            changes.push(Change::Answers);
        }
        let weights = self.weights();
        let me = self.me.node;
        for lease in listing.leases.iter().filter(|l| l.node != me) {
            self.seen(lease, &mut changes);
        }
        if now >= self.blind_until {
            self.look_for_missing(now, &listing, &mut changes);
        }
        if weights != self.weights() {
            changes.push(Change::Weights);
        }
        changes
    }

    fn seen(&mut self, lease: &Lease, changes: &mut Vec<Change>) {
        let member = Member { incarnation: lease.incarnation, weight: lease.weight, standing: Standing::Live };
        match self.members.insert(lease.node, member) {
            None => changes.push(Change::Came(lease.node)),
            Some(was) if was.incarnation != lease.incarnation => changes.push(Change::Restarted(lease.node)),
            Some(Member { standing: Standing::Suspected(_), .. }) => changes.push(Change::Back(lease.node)),
            Some(_) => {}
        }
    }

    fn look_for_missing(&mut self, now: Mono, listing: &Listing, changes: &mut Vec<Change>) {
        let (me, confirm) = (self.me.node, self.timing.confirm);
        self.members.retain(|node, member| {
            if *node == me || listing.leases.iter().any(|l| l.node == *node) {
                return true;
            }
            match member.standing {
                Standing::Live => {
                    member.standing = Standing::Suspected(now);
                    changes.push(Change::Suspected(*node));
                    true
                }
                Standing::Suspected(since) if now.since(since) < confirm => true,
                Standing::Suspected(_) => {
                    changes.push(Change::Died(*node));
                    false
                }
            }
        });
    }

    /// A node said that it goes, or Redis says that it gave its lease back: no need to wait for its end.
    pub fn left(&mut self, node: NodeId, incarnation: u64) -> Vec<Change> {
        if node == self.me.node || self.members.get(&node).is_none_or(|m| m.incarnation != incarnation) {
            return Vec::new();
        }
        let weight = self.members.remove(&node).map_or(0, |m| m.weight);
        let mut changes = vec![Change::Died(node)];
        if weight > 0 {
            changes.push(Change::Weights);
        }
        changes
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIMING: Timing = Timing { lease: 600, renew: 150, confirm: 150 };
    const ME: NodeId = NodeId(1);

    fn lease(node: u32) -> Lease {
        Lease { node: NodeId(node), incarnation: 10 + u64::from(node), weight: 100 }
    }
    fn listing(at: u64, server: u64, nodes: &[u32]) -> Listing {
        Listing { asked: Mono(at), server, leases: nodes.iter().map(|n| lease(*n)).collect() }
    }
    /// A membership that has seen `nodes` for long enough to judge, and the time.
    fn settled(nodes: &[u32]) -> (Membership, u64) {
        let mut membership = Membership::new(lease(ME.0), TIMING);
        let mut at = 0;
        while at <= TIMING.grace() {
            membership.listed(Mono(at), listing(at, 7, nodes));
            at += TIMING.renew;
        }
        (membership, at)
    }
    fn hear(membership: &mut Membership, at: u64, server: u64, nodes: &[u32]) -> Vec<Change> {
        let mut changes = membership.tick(Mono(at));
        changes.extend(membership.listed(Mono(at), listing(at, server, nodes)));
        changes
    }

    #[test]
    fn a_node_whose_lease_ended_is_suspected_and_then_dead() {
        let (mut membership, at) = settled(&[1, 2, 3]);
        assert_eq!(hear(&mut membership, at, 7, &[1, 3]), [Change::Suspected(NodeId(2))]);
        assert_eq!(membership.weights().len(), 3, "a suspected node keeps its shards");
        assert_eq!(hear(&mut membership, at + TIMING.confirm, 7, &[1, 3]), [Change::Died(NodeId(2)), Change::Weights]);
        assert!(!membership.has(NodeId(2)));
    }

    #[test]
    fn a_suspected_node_that_renews_is_back() {
        let (mut membership, at) = settled(&[1, 2]);
        assert_eq!(hear(&mut membership, at, 7, &[1]), [Change::Suspected(NodeId(2))]);
        assert_eq!(hear(&mut membership, at + 100, 7, &[1, 2]), [Change::Back(NodeId(2))]);
    }

    #[test]
    fn a_redis_that_restarted_empty_kills_nobody() {
        let (mut membership, at) = settled(&[1, 2, 3]);
        assert_eq!(hear(&mut membership, at, 8, &[]), []);
        assert_eq!(hear(&mut membership, at + 150, 8, &[1]), [], "the others have not renewed yet");
        assert_eq!(hear(&mut membership, at + 300, 8, &[1, 2, 3]), []);
        // Who does not come back in time is dead all the same.
        let mut changes = Vec::new();
        for n in 3..15 {
            changes.extend(hear(&mut membership, at + n * 150, 8, &[1, 3]));
        }
        assert_eq!(changes, [Change::Suspected(NodeId(2)), Change::Died(NodeId(2)), Change::Weights]);
    }

    #[test]
    fn a_node_that_was_paused_itself_judges_nobody_at_once() {
        let (mut membership, at) = settled(&[1, 2]);
        let woke = at + 20_000;
        assert_eq!(hear(&mut membership, woke, 7, &[2]), [Change::Silent, Change::Answers], "its own lease has ended");
        assert_eq!(hear(&mut membership, woke + 150, 7, &[1]), []);
        assert_eq!(membership.weights().len(), 2);
        assert!(membership.is_blind(Mono(woke + 150)) && !membership.is_blind(Mono(woke + 2 * TIMING.grace())));
    }

    #[test]
    fn a_second_process_with_the_same_id_is_told_so() {
        let (mut membership, at) = settled(&[1, 2]);
        let mut other = listing(at, 7, &[1, 2]);
        other.leases[0].incarnation = 99;
        assert_eq!(membership.listed(Mono(at), other), [Change::Usurped]);
    }

    #[test]
    fn the_lease_that_the_process_before_left_behind_is_waited_for() {
        let mut membership = Membership::new(lease(ME.0), TIMING);
        let mut others = listing(0, 7, &[1, 2]);
        others.leases[0].incarnation = 99;
        assert_eq!(membership.listed(Mono(0), others.clone()), []);
        others.asked = Mono(TIMING.grace() + 1);
        assert_eq!(membership.listed(others.asked, others), [Change::Usurped], "somebody renews it");
    }

    #[test]
    fn a_new_process_under_an_old_id_owns_nothing_of_the_old() {
        let (mut membership, at) = settled(&[1, 2]);
        let mut again = listing(at, 7, &[1, 2]);
        again.leases[1].incarnation = 99;
        assert_eq!(membership.listed(Mono(at), again), [Change::Restarted(NodeId(2))]);
    }

    #[test]
    fn a_node_that_drains_is_there_and_takes_nothing() {
        let (mut membership, at) = settled(&[1, 2]);
        let mut drains = listing(at, 7, &[1, 2]);
        drains.leases[1].weight = 0;
        assert_eq!(membership.listed(Mono(at), drains), [Change::Weights]);
        assert!(membership.has(NodeId(2)) && membership.weights()[&NodeId(2)] == 0);
        assert_eq!(membership.left(NodeId(2), 12), [Change::Died(NodeId(2))]);
    }

    proptest! {
        /// Whatever Redis answers, rarely or late or empty or as another: nobody dies whose lease was listed within what a lease lasts,
        /// and nobody dies without two good answers of the same Redis in a row that miss them.
        #[test]
        fn nobody_dies_without_evidence(steps in proptest::collection::vec((1u64..900, 0u64..900, 0u64..2, any::<[bool; 3]>(), any::<bool>()), 1..80)) {
            let mut membership = Membership::new(lease(ME.0), TIMING);
            let (mut at, mut misses) = (0u64, BTreeMap::<NodeId, (u32, u64, u64)>::new());
            for (wait, took, server, there, silent) in steps {
                at += wait;
                let changes = membership.tick(Mono(at));
                let moved = |changes: &[Change]| changes.iter().any(|c| matches!(c, Change::Died(_) | Change::Weights));
                prop_assert!(!moved(&changes), "a shard moves because Redis is silent");
                if silent {
                    continue;
                }
                let (asked, server) = (at, 7 + server);
                at += took;
                let nodes: Vec<u32> = (1..=3).filter(|n| there[*n as usize - 1]).collect();
                let changes = membership.listed(Mono(at), Listing { asked: Mono(asked), ..listing(asked, server, &nodes) });
                for node in 2..=3u32 {
                    let miss = misses.entry(NodeId(node)).or_insert((0, server, at));
                    let good = there[0] && took <= TIMING.late() && asked.saturating_sub(miss.2) <= TIMING.late() && miss.1 == server;
                    *miss = (if !good || there[node as usize - 1] { 0 } else { miss.0 + 1 }, server, asked);
                    if changes.contains(&Change::Died(NodeId(node))) {
                        prop_assert!(miss.0 >= 2, "node {} died after {} answers without it", node, miss.0);
                    }
                }
            }
        }
    }
}
