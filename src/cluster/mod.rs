//! Who owns what. Alone, a node is a cluster of one: the same traits, answered in process.
//!
//! Everything here but [`claims`] is pure: inputs in, effects out, no clock and no I/O, so that a simulator runs it through a thousand faults.
//! [`membership`] is who is there, [`placement`] who should own what, [`view`] both together; [`shard`] is a shard's life at a node,
//! [`takeover`] how a room is taken over, [`append`] how its batches are committed, [`chain`] which rows count.
//! Safety rests on the log store's epoch cells alone.

use crate::protocol::ids::Shard;

pub mod append;
pub mod chain;
pub mod claims;
pub mod membership;
pub mod placement;
pub mod shard;
pub mod shared;
pub mod takeover;
pub mod view;

#[cfg(test)]
mod model;
#[cfg(test)]
mod simulation;

/// A node of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

/// Milliseconds of a monotonic clock of this process. Compared with nobody else's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mono(pub u64);

impl Mono {
    /// Milliseconds from `earlier` to this; 0 when it is not earlier.
    pub fn since(self, earlier: Mono) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Which node should own a shard. A hint: when it is wrong the epoch cell refuses, and nothing is lost.
pub trait Placement: Send + Sync + 'static {
    /// This node.
    fn me(&self) -> NodeId;
    /// The node that owns the shard, as far as is known here.
    fn owner(&self, shard: Shard) -> NodeId;
    /// The node that should own it, whoever does now.
    fn should_own(&self, shard: Shard) -> NodeId {
        self.owner(shard)
    }
    /// Nothing is heard of the others, or has been for too short a time to know who is there.
    fn is_blind(&self) -> bool {
        false
    }
}

/// A cluster of one: this node owns everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Alone {
    /// The only node's id.
    pub const ME: NodeId = NodeId(0);
}
impl Placement for Alone {
    fn me(&self) -> NodeId {
        Alone::ME
    }
    fn owner(&self, _: Shard) -> NodeId {
        Alone::ME
    }
}
