//! Who owns what. Alone, a node is a cluster of one: the same traits, answered in process.
//!
//! Safety does not rest on anything here but [`claims`]: the log store's epoch cells decide who may commit.

use crate::protocol::ids::Shard;

pub mod chain;
pub mod claims;

/// A node of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

/// Which node should own a shard. A hint: when it is wrong the epoch cell refuses, and nothing is lost.
pub trait Placement: Send + Sync + 'static {
    /// This node.
    fn me(&self) -> NodeId;
    /// The node that owns the shard, as far as is known here.
    fn owner(&self, shard: Shard) -> NodeId;
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
