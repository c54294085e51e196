//! Which node should own which shard: weighted rendezvous hashing over the nodes that take shards. Pure.
//!
//! Every node computes the same plan from the same members, in whatever order it learned of them, and in whole numbers, so that no two
//! processors round differently. A node that goes moves only its own shards, one that comes takes only what becomes its own; nothing else
//! moves. A plan is a hint: the epoch cell decides.

use super::NodeId;
use crate::protocol::ids::Shard;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The weight of an ordinary node. A node with twice the weight gets about twice the shards; with none, none.
pub const WEIGHT_DEFAULT: u32 = 100;

/// What decides who gets a shard: the smaller (cost, id) wins.
type Bid = (u64, NodeId);

/// Binary digits behind the point of a cost.
const COST_BITS: u32 = 32;

/// `-log2(hash / 2^64)` as a fixed-point number: exponentially distributed over hashes, which is what makes weights proportional.
fn cost(hash: u64) -> u64 {
    let hash = hash | 1;
    let zeros = hash.leading_zeros();
    // 1 <= x < 2 with 63 digits behind the point; its logarithm comes digit by digit, by squaring.
    let mut x = hash << zeros;
    let mut log = 0u64;
    for _ in 0..COST_BITS {
        let squared = (u128::from(x) * u128::from(x)) >> 63;
        let over = squared >> 64 != 0;
        log = log << 1 | u64::from(over);
        x = if over { (squared >> 1) as u64 } else { squared as u64 };
    }
    (u64::from(zeros + 1) << COST_BITS) - log
}

/// A node's bid for a shard; `None` when it wants none.
fn bid(shard: Shard, node: NodeId, weight: u32) -> Option<Bid> {
    if weight == 0 {
        return None;
    }
    let mut key = [0; 8];
    key[..4].copy_from_slice(&shard.0.to_be_bytes());
    key[4..].copy_from_slice(&node.0.to_be_bytes());
    // Divided by the weight with digits to spare: bids that are nearly equal must not become equal.
    let cost = (u128::from(cost(xxhash_rust::xxh3::xxh3_64(&key))) << 20) / u128::from(weight);
    Some((cost.min(u128::from(u64::MAX)) as u64, node))
}

/// A shard that changes its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Move {
    /// Which.
    pub shard: Shard,
    /// Whose it was.
    pub from: Option<NodeId>,
    /// Whose it is to be.
    pub to: Option<NodeId>,
}

/// Who should own each shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    members: BTreeMap<NodeId, u32>,
    best: Vec<Option<Bid>>,
}

impl Plan {
    /// A plan for so many shards and nobody to own them.
    pub fn new(shards: u32) -> Plan {
        Plan { members: BTreeMap::new(), best: vec![None; shards as usize] }
    }

    /// The nodes that are planned with, and their weights.
    pub fn members(&self) -> &BTreeMap<NodeId, u32> {
        &self.members
    }

    /// Who should own the shard; nobody when there is no node.
    pub fn owner(&self, shard: Shard) -> Option<NodeId> {
        self.best.get(shard.0 as usize)?.map(|(_, node)| node)
    }

    /// Who would own the shard if `node` did not: where it hands it over to.
    pub fn next_after(&self, shard: Shard, node: NodeId) -> Option<NodeId> {
        self.best(shard, Some(node)).map(|(_, node)| node)
    }

    fn best(&self, shard: Shard, without: Option<NodeId>) -> Option<Bid> {
        let others = self.members.iter().filter(|(node, _)| Some(**node) != without);
        others.filter_map(|(node, weight)| bid(shard, *node, *weight)).min()
    }

    /// The shards that a node should own.
    pub fn shards_of(&self, node: NodeId) -> impl Iterator<Item = Shard> + '_ {
        self.each().filter(move |(_, owner)| *owner == Some(node)).map(|(shard, _)| shard)
    }

    /// Every shard and its owner.
    pub fn each(&self) -> impl Iterator<Item = (Shard, Option<NodeId>)> + '_ {
        self.best.iter().zip(0..).map(|(best, shard)| (Shard(shard), best.map(|(_, node)| node)))
    }

    /// Plans with these nodes from now on; gives what moves, by shard. Looks only at what the difference can move: a node that comes
    /// costs a look at each shard, one that goes a look at each node for each of its shards.
    pub fn set(&mut self, members: &BTreeMap<NodeId, u32>) -> Vec<Move> {
        let gone: Vec<NodeId> = self.members.iter().filter(|(node, weight)| members.get(node) != Some(weight)).map(|(n, _)| *n).collect();
        let new: Vec<(NodeId, u32)> = members.iter().filter(|(node, w)| self.members.get(node) != Some(w)).map(|(n, w)| (*n, *w)).collect();
        self.members.clone_from(members);
        let mut moves = Vec::new();
        for index in 0..self.best.len() {
            let (shard, was) = (Shard(index as u32), self.best[index]);
            let mut best = was;
            if was.is_some_and(|(_, node)| gone.contains(&node)) {
                // The newcomers are members by now.
                best = self.best(shard, None);
            } else {
                let bids = new.iter().filter_map(|(node, weight)| bid(shard, *node, *weight));
                best = best.into_iter().chain(bids).min();
            }
            self.best[index] = best;
            let (from, to) = (was.map(|(_, n)| n), best.map(|(_, n)| n));
            if from != to {
                moves.push(Move { shard, from, to });
            }
        }
        moves
    }
}

/// Shards per node, smallest and largest first, and the fair share: how even a plan is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Balance {
    /// Shards of the node with the fewest.
    pub least: usize,
    /// Shards of the node with the most.
    pub most: usize,
    /// Shards divided by nodes.
    pub mean: f64,
}

impl Balance {
    /// Of anything that is counted per node.
    pub fn of(counts: impl IntoIterator<Item = usize>) -> Balance {
        let mut counts: Vec<usize> = counts.into_iter().collect();
        counts.sort_by_key(|n| Reverse(*n));
        let sum: usize = counts.iter().sum();
        let (least, most) = (counts.last().copied().unwrap_or(0), counts.first().copied().unwrap_or(0));
        Balance { least, most, mean: sum as f64 / counts.len().max(1) as f64 }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHARDS: u32 = 512;

    fn members(nodes: impl IntoIterator<Item = (u32, u32)>) -> BTreeMap<NodeId, u32> {
        nodes.into_iter().map(|(node, weight)| (NodeId(node), weight)).collect()
    }
    fn plan(members: &BTreeMap<NodeId, u32>) -> Plan {
        let mut plan = Plan::new(SHARDS);
        plan.set(members);
        plan
    }
    fn some_members() -> impl Strategy<Value = BTreeMap<NodeId, u32>> {
        proptest::collection::btree_map((0..40u32).prop_map(NodeId), 0..4u32, 0..12)
    }

    #[test]
    fn the_cost_is_the_logarithm() {
        for hash in [1, 2, 3, 1 << 20, 0x1234_5678_9abc_def0, u64::MAX / 2, u64::MAX - 7, u64::MAX] {
            let want = 64.0 - ((hash | 1) as f64).log2();
            let got = cost(hash) as f64 / (1u64 << COST_BITS) as f64;
            assert!((want - got).abs() < 1e-8, "{hash}: {got} instead of {want}");
        }
    }

    proptest! {
        #[test]
        fn a_plan_that_was_changed_is_the_plan_that_is_made_anew(a in some_members(), b in some_members(), c in some_members()) {
            let mut changed = plan(&a);
            changed.set(&b);
            changed.set(&c);
            prop_assert_eq!(changed, plan(&c));
        }

        #[test]
        fn only_what_must_move_moves(before in some_members(), after in some_members()) {
            let mut plan = plan(&before);
            for Move { shard, from, to } in plan.set(&after) {
                let came = to.is_some_and(|n| before.get(&n) != after.get(&n));
                let went = from.is_none_or(|n| before.get(&n) != after.get(&n));
                prop_assert!(came || went, "{:?} moved from {:?} to {:?} for nothing", shard, from, to);
                prop_assert_eq!(plan.owner(shard), to);
            }
        }

        #[test]
        fn whoever_is_named_as_the_next_becomes_the_owner(before in some_members(), gone in 0..40u32) {
            let first = plan(&before);
            let mut after = before.clone();
            after.remove(&NodeId(gone));
            let second = plan(&after);
            for (shard, _) in first.each() {
                prop_assert_eq!(first.next_after(shard, NodeId(gone)), second.owner(shard));
            }
        }

        #[test]
        fn every_shard_has_an_owner_as_long_as_a_node_wants_one(all in some_members()) {
            let wanted = all.values().any(|w| *w > 0);
            let plan = plan(&all);
            for (_, owner) in plan.each() {
                prop_assert_eq!(owner.is_some(), wanted);
                prop_assert!(owner.is_none_or(|n| all[&n] > 0));
            }
        }
    }

    #[test]
    fn weights_are_shares() {
        let mut plan = Plan::new(32_768);
        plan.set(&members([(1, 50), (2, 100), (3, 250)]));
        let share = |n| plan.shards_of(NodeId(n)).count() as f64 / 32_768.0;
        assert!((share(1) - 0.125).abs() < 0.01 && (share(2) - 0.25).abs() < 0.01 && (share(3) - 0.625).abs() < 0.01);
    }

    #[test]
    fn a_newcomer_takes_its_share_and_a_dead_nodes_shards_spread_over_all() {
        let mut plan = Plan::new(4_096);
        plan.set(&members((0..10).map(|n| (n, 100))));
        let came = plan.set(&members((0..11).map(|n| (n, 100))));
        assert!(came.iter().all(|m| m.to == Some(NodeId(10))) && (300..450).contains(&came.len()), "{}", came.len());
        let went = plan.set(&members((0..11).filter(|n| *n != 3).map(|n| (n, 100))));
        let heirs: std::collections::BTreeSet<_> = went.iter().filter_map(|m| m.to).collect();
        assert!(went.iter().all(|m| m.from == Some(NodeId(3))) && heirs.len() == 10);
    }
}
