//! Whether the nodes of a cluster have the same secrets. Each tells the others fingerprints of its own, now and then and after a change;
//! who finds a difference says so loudly: in its log, as a warning of `/readyz`, in `hubbub cluster status` and as a metric. Nothing is refused for it.
//!
//! A key that one node accepts and does not sign with yet is no difference: that is how a rotation begins.

use super::Peers;
use crate::actors::node::{NodeContext, now_ms};
use crate::bus::asks::{Prints, Word};
use crate::cluster::NodeId;
use crate::config::keys::{SigningKey, print};
use crate::protocol::ids::Millis;
use crate::telemetry::metrics;
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// What others may know of this node's secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Fingerprints of the keys that access tokens are accepted from, until when each is; the first signs.
    pub ring: Vec<(u64, Option<Millis>)>,
    /// Of the key that push services know this server by.
    pub vapid: u64,
    /// Of what signs for the push gateway, where there is one.
    pub gateway: Option<u64>,
}

impl Own {
    /// The fingerprints of a ring.
    pub fn of_ring(ring: &[SigningKey]) -> Vec<(u64, Option<Millis>)> {
        ring.iter().map(|key| (print(key.secret.expose()), key.until)).collect()
    }

    fn prints(&self, now: Millis) -> Option<Prints> {
        let (signs, _) = *self.ring.first()?;
        let accepts = self.ring.iter().filter(|(_, until)| until.is_none_or(|until| now < until)).map(|(print, _)| *print).collect();
        Some(Prints { signs, accepts, vapid: self.vapid, gateway: self.gateway })
    }
}

/// What is wrong between this node and another.
fn differences(mine: &Prints, theirs: &Prints) -> Vec<&'static str> {
    let gateways = mine.gateway.zip(theirs.gateway);
    let all = [
        (!mine.accepts.contains(&theirs.signs), "its access tokens are refused here"),
        (!theirs.accepts.contains(&mine.signs), "it refuses the access tokens of this node"),
        (mine.vapid != theirs.vapid, "browsers that subscribed there get no push from here (vapid.key)"),
        (gateways.is_some_and(|(mine, theirs)| mine != theirs), "the push gateway refuses one of the two (push_gateway.secret)"),
    ];
    all.into_iter().filter(|(is, _)| *is).map(|(_, what)| what).collect()
}

#[derive(Default)]
struct Known {
    own: Own,
    others: BTreeMap<NodeId, (Prints, Vec<&'static str>)>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Secrets(Mutex<Known>);

impl Secrets {
    fn own(&self, change: impl FnOnce(&mut Own)) {
        let mut known = self.0.lock();
        change(&mut known.own);
        let Some(mine) = known.own.prints(now_ms()) else { return };
        for (node, (prints, said)) in &mut known.others {
            *said = judged(*node, &mine, prints, said);
        }
        tell_metric(&known);
    }

    fn prints(&self) -> Option<Prints> {
        self.0.lock().own.prints(now_ms())
    }

    pub fn heard(&self, from: NodeId, prints: Prints) {
        let mut known = self.0.lock();
        let Some(mine) = known.own.prints(now_ms()) else { return };
        let was = known.others.remove(&from).map(|(_, said)| said).unwrap_or_default();
        let said = judged(from, &mine, &prints, &was);
        known.others.insert(from, (prints, said));
        tell_metric(&known);
    }

    pub fn gone(&self, node: NodeId) {
        let mut known = self.0.lock();
        known.others.remove(&node);
        tell_metric(&known);
    }

    fn of(&self, node: NodeId) -> Option<Vec<&'static str>> {
        self.0.lock().others.get(&node).map(|(_, said)| said.clone())
    }
}

/// The differences, with a word in the log when they are others than before.
fn judged(node: NodeId, mine: &Prints, theirs: &Prints, was: &[&'static str]) -> Vec<&'static str> {
    let now = differences(mine, theirs);
    if now != was {
        match now.is_empty() {
            true => tracing::info!(node = node.0, "a node has the same secrets again"),
            false => {
                tracing::error!(node = node.0, differences = ?now, "a node has other secrets: copy secrets/ (docs/OPERATIONS.md, \"Secrets of a cluster\")")
            }
        }
    }
    now
}

fn tell_metric(known: &Known) {
    metrics().cluster_secrets_differ.set(known.others.values().filter(|(_, said)| !said.is_empty()).count() as i64);
}

impl Peers {
    /// The secrets of this node are these now.
    pub fn secrets_are(&self, node: &NodeContext, change: impl FnOnce(&mut Own)) {
        self.secrets.own(change);
        self.tell_secrets(node);
    }

    pub(super) fn tell_secrets(&self, node: &NodeContext) {
        if let Some(prints) = self.secrets.prints() {
            self.broadcast(node, &Word::Secrets(prints));
        }
    }

    /// How a node's secrets stand to this one's, for people.
    pub fn secrets_of(&self, other: NodeId) -> String {
        match self.secrets.of(other) {
            _ if other == self.me() => "-".into(),
            None => "unknown".into(),
            Some(said) if said.is_empty() => "same".into(),
            Some(said) => said.join("; "),
        }
    }

    /// What is wrong, a line for each node.
    pub fn secrets_warnings(&self) -> Vec<String> {
        let known = self.secrets.0.lock();
        let wrong = known.others.iter().filter(|(_, (_, said))| !said.is_empty());
        wrong.map(|(node, (_, said))| format!("node {} has other secrets: {}", node.0, said.join("; "))).collect()
    }

    /// The nodes that have not said that they accept tokens of this key.
    pub fn lack_key(&self, print: u64) -> Vec<NodeId> {
        let others = self.others();
        let known = self.secrets.0.lock();
        let has = |node: &NodeId| known.others.get(node).is_some_and(|(prints, _)| prints.accepts.contains(&print));
        others.into_iter().filter(|node| !has(node)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prints(signs: u64, accepts: &[u64], vapid: u64, gateway: Option<u64>) -> Prints {
        Prints { signs, accepts: accepts.to_vec(), vapid, gateway }
    }

    #[test]
    fn what_differs_is_this_table() {
        let mine = prints(1, &[1, 5], 9, Some(3));
        let none: &[&str] = &[];
        assert_eq!(differences(&mine, &mine), none);
        assert_eq!(differences(&mine, &prints(1, &[1], 9, None)), none, "a key that was prepared at one of them only");
        assert_eq!(differences(&mine, &prints(5, &[5, 1], 9, Some(3))), none, "one signs with the new key already");
        assert_eq!(differences(&mine, &prints(2, &[2, 1], 9, Some(3))), ["its access tokens are refused here"]);
        assert_eq!(differences(&mine, &prints(5, &[5], 9, Some(3))), ["it refuses the access tokens of this node"]);
        assert_eq!(differences(&mine, &prints(2, &[2], 8, Some(4))).len(), 4);
    }

    #[test]
    fn a_key_whose_time_is_over_is_not_accepted() {
        let own = Own { ring: vec![(1, None), (2, Some(100))], vapid: 9, gateway: None };
        assert_eq!(own.prints(99).map(|prints| prints.accepts), Some(vec![1, 2]));
        assert_eq!(own.prints(100).map(|prints| prints.accepts), Some(vec![1]));
        assert_eq!(Own::default().prints(1), None, "nothing is known yet");
    }
}
