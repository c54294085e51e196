//! The cluster as one node sees it: membership, the placement that follows from it, and who said that it owns what. Pure.
//!
//! All of it is a hint and makes things fast. A shard's way is the node that last said it owns it, by its epoch, as long as that node is there;
//! else the node that should own it.

use super::Mono;
use super::NodeId;
use super::membership::{Change, Lease, Listing, Membership, Timing};
use super::placement::Plan;
use super::shard::Placed;
use crate::protocol::ids::Shard;

/// What follows for this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Something about a node, or about Redis.
    Member(Change),
    /// The placement of a shard, new: for [`super::shard::In::Placed`].
    Placed(Shard, Placed),
    /// The shard's owner is gone, and this node should take it over now, if anybody is interested in its rooms.
    TakeOver(Shard),
}

/// See the module.
pub struct View {
    membership: Membership,
    plan: Plan,
    /// Who said that it owns a shard, and under which epoch.
    told: Vec<Option<(u64, NodeId)>>,
}

impl View {
    /// Knows only this node.
    pub fn new(me: Lease, timing: Timing, shards: u32) -> View {
        let membership = Membership::new(me, timing);
        let mut plan = Plan::new(shards);
        plan.set(&membership.weights());
        View { membership, plan, told: vec![None; shards as usize] }
    }

    /// This node.
    pub fn me(&self) -> NodeId {
        self.membership.me().node
    }
    /// The members.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }
    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Where the shard's requests go.
    pub fn owner(&self, shard: Shard) -> Option<NodeId> {
        let told = self.told.get(shard.0 as usize).copied().flatten();
        told.map(|(_, node)| node).filter(|node| self.membership.has(*node)).or_else(|| self.plan.owner(shard))
    }

    /// Who last said that it owns the shard, and under which epoch, as far as that still counts.
    pub fn told(&self, shard: Shard) -> Option<(u64, NodeId)> {
        self.told.get(shard.0 as usize).copied().flatten()
    }

    /// What the placement says of a shard.
    pub fn placed(&self, shard: Shard) -> Placed {
        match self.plan.owner(shard) {
            Some(node) if node == self.me() => Placed::Mine,
            Some(node) => Placed::At(node),
            None => Placed::Nowhere,
        }
    }

    /// A node says that it owns the shard under this epoch. True when nobody was known to own it under a higher one.
    pub fn announced(&mut self, shard: Shard, node: NodeId, epoch: u64) -> bool {
        match self.told.get_mut(shard.0 as usize) {
            Some(told) if told.is_none_or(|(known, _)| known <= epoch) => {
                *told = Some((epoch, node));
                true
            }
            _ => false,
        }
    }

    /// A node says that it gave the shard away: it goes by the plan again.
    pub fn released(&mut self, shard: Shard, node: NodeId, epoch: u64) {
        if let Some(told) = self.told.get_mut(shard.0 as usize)
            && *told == Some((epoch, node))
        {
            *told = None;
        }
    }

    /// A node answered that the shard is not its own: it goes by the plan again. Without this a word of release that was lost would send
    /// everybody to it for ever.
    pub fn refused(&mut self, shard: Shard, node: NodeId) {
        if let Some(told) = self.told.get_mut(shard.0 as usize)
            && told.is_some_and(|(_, owner)| owner == node)
        {
            *told = None;
        }
    }

    /// Time passed.
    pub fn tick(&mut self, now: Mono) -> Vec<Event> {
        let changes = self.membership.tick(now);
        self.follow(changes)
    }
    /// An answer of Redis.
    pub fn listed(&mut self, now: Mono, listing: Listing) -> Vec<Event> {
        let changes = self.membership.listed(now, listing);
        self.follow(changes)
    }
    /// A node said that it goes.
    pub fn left(&mut self, node: NodeId, incarnation: u64) -> Vec<Event> {
        let changes = self.membership.left(node, incarnation);
        self.follow(changes)
    }
    /// This node takes no more shards (0), or takes them again.
    pub fn set_weight(&mut self, weight: u32) -> Vec<Event> {
        let changes = self.membership.set_weight(weight);
        self.follow(changes)
    }

    fn follow(&mut self, changes: Vec<Change>) -> Vec<Event> {
        let mut events = Vec::new();
        let mut orphans = Vec::new();
        for change in &changes {
            if let Change::Died(node) | Change::Restarted(node) = change {
                orphans.extend(self.forget(*node));
            }
        }
        if changes.contains(&Change::Weights) {
            for moved in self.plan.set(&self.membership.weights()) {
                events.push(Event::Placed(moved.shard, self.placed(moved.shard)));
            }
        }
        let mine = orphans.into_iter().filter(|shard| self.placed(*shard) == Placed::Mine);
        events.extend(mine.map(Event::TakeOver));
        changes.into_iter().map(Event::Member).chain(events).collect()
    }

    /// What a node that is gone owned, or should have.
    fn forget(&mut self, node: NodeId) -> Vec<Shard> {
        let mut owned = Vec::new();
        for (index, told) in self.told.iter_mut().enumerate() {
            let shard = Shard(index as u32);
            // Nobody may have heard that it owned what it should own, and presence is kept without owning anything.
            if told.map_or(self.plan.owner(shard) == Some(node), |(_, owner)| owner == node) {
                *told = None;
                owned.push(shard);
            }
        }
        owned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing { lease: 600, renew: 150, confirm: 150 };
    const SHARDS: u32 = 64;

    fn lease(node: u32) -> Lease {
        Lease { node: NodeId(node), incarnation: u64::from(node), weight: 100 }
    }
    /// Hears of these nodes until it may judge; gives the time.
    fn settle(view: &mut View, from: u64, nodes: &[u32]) -> (Vec<Event>, u64) {
        let (mut events, mut at) = (Vec::new(), from);
        while at <= from + TIMING.grace() + TIMING.renew {
            let listing = Listing { asked: Mono(at), server: 1, leases: nodes.iter().map(|n| lease(*n)).collect() };
            events.extend(view.listed(Mono(at), listing));
            at += TIMING.renew;
        }
        (events, at)
    }

    #[test]
    fn a_shard_goes_where_its_owner_said_and_by_the_plan_when_that_one_is_gone() {
        let mut view = View::new(lease(1), TIMING, SHARDS);
        let (_, at) = settle(&mut view, 0, &[1, 2]);
        let shard = view.plan().shards_of(NodeId(1)).next().expect("half of the shards are node 1's");
        assert_eq!((view.owner(shard), view.placed(shard)), (Some(NodeId(1)), Placed::Mine));
        assert!(view.announced(shard, NodeId(2), 5) && !view.announced(shard, NodeId(1), 4), "the higher epoch counts");
        assert_eq!(view.owner(shard), Some(NodeId(2)));
        let (events, _) = settle(&mut view, at, &[1]);
        assert!(events.contains(&Event::TakeOver(shard)) && events.contains(&Event::Member(Change::Died(NodeId(2)))));
        assert_eq!(view.owner(shard), Some(NodeId(1)));
        assert!(view.plan().each().all(|(shard, _)| view.placed(shard) == Placed::Mine));
    }

    #[test]
    fn silence_moves_nothing() {
        let mut view = View::new(lease(1), TIMING, SHARDS);
        let (_, at) = settle(&mut view, 0, &[1, 2, 3]);
        let before = view.plan().clone();
        for n in 1..100 {
            let events = view.tick(Mono(at + n * 1_000));
            assert!(events.iter().all(|e| *e == Event::Member(Change::Silent)), "{events:?}");
        }
        assert_eq!(*view.plan(), before);
    }

    #[test]
    fn a_node_that_drains_gives_its_shards_to_those_who_should_have_them() {
        let mut view = View::new(lease(1), TIMING, SHARDS);
        settle(&mut view, 0, &[1, 2, 3]);
        let mine: Vec<Shard> = view.plan().shards_of(NodeId(1)).collect();
        let heirs: Vec<_> = mine.iter().map(|s| view.plan().next_after(*s, NodeId(1))).collect();
        let events = view.set_weight(0);
        for (shard, heir) in mine.into_iter().zip(heirs) {
            let heir = heir.expect("there are two others");
            assert!(events.contains(&Event::Placed(shard, Placed::At(heir))), "{shard:?}");
        }
    }
}
