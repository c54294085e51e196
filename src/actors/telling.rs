//! Who must be told of a message by push: members without a connected device, by their level, mutes and blocks. One job for each
//! message and device, written durably before the room counts as followed up to the message.
//!
//! A room whose members are all online, or have no subscription, costs one question to presence and a look into memory. In a channel only
//! who is mentioned is told, and who wants every message of it. A mention by a later edit is told like one by the message.

use super::delivery::{Committed, Consequence};
use super::node::{NodeContext, now_ms};
use super::reading::in_time;
use crate::protocol::entry::{Body, Entry, RoomKind};
use crate::protocol::ids::{MessageId, Millis, RoomId, Seq, Shard, UserId};
use crate::push::jobs::{self, Group, Row};
use crate::push::levels::Level;
use crate::push::subscriptions::Subscription;
use crate::storage::records::RecordWrite;
use crate::storage::{ContactState, Result, RoomRow};
use crate::telemetry::metrics;
use async_trait::async_trait;
use futures_util::future::try_join_all;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// Users who are looked at, and shards that are written, beside each other.
const AT_ONCE: usize = 64;

/// See the module.
pub struct Telling;

/// Something to tell of.
struct News<'a> {
    /// The message.
    seq: Seq,
    /// The entry that tells of it: itself or an edit.
    entry: MessageId,
    by: UserId,
    at: Millis,
    mentions: &'a [UserId],
    /// It is the message itself, of interest to everybody; else an edit, of interest to who is mentioned by it.
    message: bool,
}

fn news(entry: &Entry) -> Option<News<'_>> {
    let (seq, mentions, message) = match &entry.body {
        Body::Message(message) => (entry.seq, &message.mentions, true),
        Body::Edit(edit) if !edit.mentions.is_empty() => (edit.seq, &edit.mentions, false),
        _ => return None,
    };
    Some(News { seq, entry: entry.id, by: entry.by, at: entry.at, mentions, message })
}

impl News<'_> {
    /// Whether it concerns the user at all; `eager`: the user hears of messages without a mention.
    fn concerns(&self, user: UserId, eager: bool) -> bool {
        user != self.by && ((self.message && eager) || self.mentions.contains(&user))
    }
}

#[async_trait]
impl Consequence for Telling {
    fn name(&self) -> &'static str {
        "telling who is away"
    }

    async fn carry_out(&self, node: &Arc<NodeContext>, committed: &Committed) -> Result<()> {
        let news: Vec<News<'_>> = committed.entries.iter().filter_map(|e| news(e)).collect();
        if news.is_empty() {
            return Ok(());
        }
        let eager = match &committed.members {
            Some(members) => members.clone(),
            None => node.pushes.levels.eager(committed.room).await?,
        };
        let mut asked = eager.to_vec();
        if committed.members.is_none() {
            asked.extend(news.iter().flat_map(|n| n.mentions));
        }
        asked.sort_unstable();
        asked.dedup();
        let online: HashSet<UserId> = node.router.online(&asked).await.into_iter().collect();
        asked.retain(|user| !online.contains(user));
        let away = Away { room: committed.room, channel: committed.members.is_none(), eager: eager.iter().copied().collect(), news };
        let recipients = away.recipients(&asked);
        if !asked.is_empty() {
            away.write(node, &asked).await?;
        }
        metrics().offline_recipients_total.inc_by(recipients);
        Ok(())
    }
}

/// Tells one user of entries: when they came the user counted as connected.
pub async fn belatedly(node: &NodeContext, user: UserId, row: &RoomRow, entries: &[Arc<Entry>]) -> Result<()> {
    let (room, channel) = (row.room, row.kind == RoomKind::Channel);
    let news: Vec<News<'_>> = entries.iter().filter_map(|entry| news(entry)).collect();
    if news.is_empty() {
        return Ok(());
    }
    let eager = !channel || node.pushes.levels.eager(room).await?.contains(&user);
    Away { room, channel, eager: eager.then_some(user).into_iter().collect(), news }.write(node, &[user]).await
}

/// News of a room for users who are away.
struct Away<'a> {
    room: RoomId,
    channel: bool,
    eager: HashSet<UserId>,
    news: Vec<News<'a>>,
}

impl Away<'_> {
    /// Recipients of messages among the users, each counted per message.
    fn recipients(&self, users: &[UserId]) -> u64 {
        let messages = || self.news.iter().filter(|n| n.message);
        if self.channel {
            return messages().map(|n| users.iter().filter(|u| n.concerns(**u, self.eager.contains(u))).count() as u64).sum();
        }
        messages().map(|n| users.len() as u64 - u64::from(users.binary_search(&n.by).is_ok())).sum()
    }

    /// Writes the jobs of those who have a subscription.
    async fn write(&self, node: &NodeContext, users: &[UserId]) -> Result<()> {
        if crate::sabotage::is("forget_push") {
            // A kill would nearly always come after the write otherwise.
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
        let subscribed = in_time(node.pushes.subscriptions.of(users)).await?;
        let now = now_ms();
        let due = now + node.config.push.delay_ms;
        let mut shards: BTreeMap<Shard, Vec<RecordWrite>> = BTreeMap::new();
        for some in subscribed.chunks(AT_ONCE) {
            let owed = try_join_all(some.iter().map(|(user, _)| self.owed(node, *user, now))).await?;
            for ((user, subscriptions), owed) in some.iter().zip(owed).filter(|(_, owed)| !owed.is_empty()) {
                let writes = shards.entry(node.pushes.shard(*user)).or_default();
                writes.extend(subscriptions.iter().flat_map(|s| self.jobs(*user, s, &owed, due)));
            }
        }
        metrics().push_jobs_total.inc_by(shards.values().map(|w| w.len() as u64).sum());
        let mut shards: Vec<(Shard, Vec<RecordWrite>)> = shards.into_iter().collect();
        while !shards.is_empty() {
            let some = shards.split_off(shards.len().saturating_sub(AT_ONCE));
            let written = some.into_iter().map(|(shard, writes)| async move {
                in_time(jobs::write(&*node.store, shard, writes)).await?;
                node.router.pushes_due(&node.pushes, shard, due);
                Ok(())
            });
            try_join_all(written).await?;
        }
        Ok(())
    }

    fn jobs(&self, user: UserId, to: &Subscription, owed: &[&News<'_>], due: Millis) -> Vec<RecordWrite> {
        let group = Group { user, device: to.device, room: self.room };
        let row = |news: &News<'_>| Row::new(news.seq, news.entry, news.mentions.contains(&user), news.at, due);
        owed.iter().map(|news| jobs::put(group, news.seq, &row(news))).collect()
    }

    /// Of what the user is to be told.
    async fn owed(&self, node: &NodeContext, user: UserId, now: Millis) -> Result<Vec<&News<'_>>> {
        let eager = self.eager.contains(&user);
        let concerning: Vec<&News<'_>> = self.news.iter().filter(|n| n.concerns(user, eager)).collect();
        if concerning.is_empty() {
            return Ok(Vec::new());
        }
        // What matters is what holds where nothing was set, and that is the same in direct rooms and groups.
        let kind = if self.channel { RoomKind::Channel } else { RoomKind::Group };
        let notify = in_time(node.pushes.levels.of(user, self.room, kind)).await?;
        let ttl = node.config.push.ttl_s.saturating_mul(1_000);
        let mut owed: Vec<&News<'_>> = Vec::new();
        for news in concerning.into_iter().filter(|n| now < n.at.saturating_add(ttl)) {
            let mentioned = news.mentions.contains(&user);
            // Who hears of every message has heard of this one when it was sent.
            if notify.wants(mentioned, now) && (news.message || notify.level == Level::Mentions) {
                owed.push(news);
            }
        }
        if owed.is_empty() {
            return Ok(Vec::new());
        }
        let read = in_time(node.store.cursors(user, &[self.room])).await?.first().map_or(0, |cursor| cursor.read);
        if self.channel && in_time(node.store.memberships(user, &[self.room])).await?.pop().flatten().is_none_or(|m| m.role.is_none()) {
            return Ok(Vec::new());
        }
        let mut senders: Vec<UserId> = owed.iter().map(|n| n.by).collect();
        senders.sort_unstable();
        senders.dedup();
        let states = in_time(node.store.contact_states(user, &senders)).await?;
        let blocked = |by: UserId| senders.binary_search(&by).is_ok_and(|i| states.get(i) == Some(&Some(ContactState::Blocked)));
        Ok(owed.into_iter().filter(|n| n.seq > read && !blocked(n.by)).collect())
    }
}
