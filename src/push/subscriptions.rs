//! Subscriptions: where the pushes for a device go. One per device; it ends with the device.
//!
//! An **address** (a browser's at its push service, a token at the gateway) is one device's: the one that named it last. Signing in anew
//! gives a browser a new device while the browser's subscription stays the same, and everything would be pushed twice. The address
//! changes hands first; a subscription that a crash left with the one before counts no more ([`Subscriptions::valid`]).
//!
//! Who has one is asked with every message whose recipient is away, so the answers are kept in memory, "none" too: bounded, forgotten
//! at a change on this node or when another node tells of one, and after a while in case that is not heard. Nothing of a room's members is read from disk per message.

use super::user_key;
use crate::auth::sessions::DEVICES_MAX;
use crate::protocol::ids::{DeviceId, Millis, UserId};
use crate::storage::records::{decode, encode};
use crate::storage::{Result, StorageError, Store, Table};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use url::Url;

/// Users whose subscriptions are kept in memory: about 100 bytes each, without their subscriptions.
const USERS_KEPT: usize = 100_000;
/// How long they are kept: a change on another node that was not heard of is seen after this.
const KEPT: Duration = Duration::from_secs(60);
/// Users that are read beside each other.
const READS_AT_ONCE: usize = 64;
/// Changes of one record that may collide before the caller is told to try again.
const TRIES: usize = 8;

/// Where to.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A Web Push service (RFC 8030).
    Web(Web),
    /// The embedder's gateway, which knows the device by this token.
    Gateway {
        /// Whatever the gateway needs: an APNs or FCM token.
        token: String,
    },
}

/// A browser's subscription, as `PushSubscription.toJSON()` gives it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Web {
    /// Its address at the push service. Whoever knows it can send to it, so it is shown to nobody.
    pub endpoint: String,
    /// The browser's public key: an uncompressed point on P-256, base64url.
    pub p256dh: String,
    /// The browser's authentication secret: 16 bytes, base64url.
    pub auth: String,
}

impl Target {
    /// Who is called for it: a push service's origin, or the gateway. Attempts are counted by it.
    pub fn host(&self) -> String {
        match self {
            Target::Web(web) => Url::parse(&web.endpoint).map(|url| url.origin().ascii_serialization()).unwrap_or_default(),
            Target::Gateway { .. } => "gateway".into(),
        }
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What opens it is nobody's business, the log's least of all.
        f.write_str(match self {
            Target::Web(_) => "Web(***)",
            Target::Gateway { .. } => "Gateway(***)",
        })
    }
}

impl Target {
    /// The address, so that nobody can read it: it is a key that lies in the open.
    fn address(&self) -> [u8; 32] {
        let (kind, text) = match self {
            Target::Web(web) => (b"w", &web.endpoint),
            Target::Gateway { token } => (b"g", token),
        };
        Sha256::new().chain_update(kind).chain_update(text).finalize().into()
    }
}

/// Whose an address is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    user: UserId,
    device: DeviceId,
}

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// Whose device.
    pub device: DeviceId,
    /// Where to.
    pub target: Target,
    /// When it was made or last changed.
    pub created: Millis,
}

type Known = (Arc<[Subscription]>, Instant);

#[derive(Default)]
struct Cache {
    known: HashMap<UserId, Known>,
    /// Grows with every change: what was read before one is not kept.
    changes: u64,
}

/// All of them.
pub struct Subscriptions {
    store: Arc<dyn Store>,
    cache: Mutex<Cache>,
    tell: OnceLock<Box<dyn Fn(UserId) + Send + Sync>>,
}

fn key(device: DeviceId) -> [u8; 8] {
    device.0.to_be_bytes()
}

impl Subscriptions {
    /// Over a store.
    pub fn new(store: Arc<dyn Store>) -> Subscriptions {
        Subscriptions { store, cache: Mutex::default(), tell: OnceLock::new() }
    }

    /// Who tells other nodes whose subscriptions were changed here; set once. Must not block.
    pub fn told_to(&self, tell: impl Fn(UserId) + Send + Sync + 'static) {
        let _ = self.tell.set(Box::new(tell));
    }

    /// A user's subscriptions, ascending by device. A user has as many at most as devices.
    pub async fn list(&self, user: UserId) -> Result<Vec<Subscription>> {
        let rows = self.store.records(Table::PushSubscription, &user_key(user), None, DEVICES_MAX).await?;
        rows.iter().map(|(_, row)| decode(row)).collect()
    }

    /// A device's subscription.
    pub async fn get(&self, user: UserId, device: DeviceId) -> Result<Option<Subscription>> {
        let row = self.store.record(Table::PushSubscription, &user_key(user), &key(device)).await?;
        row.map(|row| decode(&row)).transpose()
    }

    /// Those of the users who have any, with them.
    pub async fn of(&self, users: &[UserId]) -> Result<Vec<(UserId, Arc<[Subscription]>)>> {
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        let changes = {
            let cache = self.cache.lock();
            for user in users {
                match cache.known.get(user) {
                    Some((subscriptions, at)) if at.elapsed() < KEPT => {
                        if !subscriptions.is_empty() {
                            found.push((*user, subscriptions.clone()));
                        }
                    }
                    _ => missing.push(*user),
                }
            }
            cache.changes
        };
        for users in missing.chunks(READS_AT_ONCE) {
            let at = Instant::now();
            let read = futures_util::future::try_join_all(users.iter().map(|user| self.list(*user))).await?;
            let read: Vec<(UserId, Arc<[Subscription]>)> = users.iter().copied().zip(read.into_iter().map(Arc::from)).collect();
            self.keep(&read, at, changes);
            found.extend(read.into_iter().filter(|(_, subscriptions)| !subscriptions.is_empty()));
        }
        Ok(found)
    }

    fn keep(&self, read: &[(UserId, Arc<[Subscription]>)], at: Instant, changes: u64) {
        let mut cache = self.cache.lock();
        if cache.changes != changes {
            return;
        }
        if cache.known.len() + read.len() > USERS_KEPT {
            cache.known.retain(|_, (_, at)| at.elapsed() < KEPT);
            if cache.known.len() + read.len() > USERS_KEPT {
                cache.known.clear();
            }
        }
        cache.known.extend(read.iter().map(|(user, subscriptions)| (*user, (subscriptions.clone(), at))));
    }

    /// Those of a user, or of anybody, may be others now.
    pub fn forget(&self, user: Option<UserId>) {
        let mut cache = self.cache.lock();
        cache.changes += 1;
        match user {
            Some(user) => drop(cache.known.remove(&user)),
            None => cache.known.clear(),
        }
    }

    fn changed(&self, user: UserId) {
        self.forget(Some(user));
        if let Some(tell) = self.tell.get() {
            tell(user);
        }
    }

    /// Sets a device's subscription, in place of the one it had, and of the one that another device has with the same address.
    pub async fn put(&self, user: UserId, subscription: &Subscription) -> Result<()> {
        let (address, device) = (subscription.target.address(), subscription.device);
        let mine = Owner { user, device };
        if let Some(other) = self.claim(&address, mine).await?.filter(|owner| *owner != mine)
            && let Some(theirs) = self.get(other.user, other.device).await?.filter(|s| s.target.address() == address)
        {
            self.end(other.user, &theirs).await?;
        }
        self.replace(user, device, Some(subscription)).await
    }

    /// Ends a device's subscription.
    pub async fn remove(&self, user: UserId, device: DeviceId) -> Result<()> {
        self.replace(user, device, None).await
    }

    /// A device's subscription, if its address is still the device's. One that is not is ended.
    pub async fn valid(&self, user: UserId, device: DeviceId) -> Result<Option<Subscription>> {
        let Some(subscription) = self.get(user, device).await? else { return Ok(None) };
        let owner = self.owner(&subscription.target.address()).await?;
        // None: it was made by a build that did not keep this.
        if owner.is_none_or(|owner| owner == Owner { user, device }) {
            return Ok(Some(subscription));
        }
        self.end(user, &subscription).await?;
        Ok(None)
    }

    async fn owner(&self, address: &[u8]) -> Result<Option<Owner>> {
        let row = self.store.record(Table::PushAddress, address, b"").await?;
        row.map(|row| decode(&row)).transpose()
    }

    /// Makes an address somebody's; whose it was.
    async fn claim(&self, address: &[u8], by: Owner) -> Result<Option<Owner>> {
        for _ in 0..TRIES {
            let was = self.owner(address).await?;
            let (before, now) = (was.as_ref().map(encode), Some(encode(&by)));
            if was == Some(by) || self.store.replace_record(Table::PushAddress, address, b"", before, now).await? {
                return Ok(was);
            }
        }
        Err(collided())
    }

    /// A subscription is over: its address is nobody's, unless it has changed hands.
    async fn release(&self, user: UserId, over: &Subscription) -> Result<()> {
        let mine = Some(encode(&Owner { user, device: over.device }));
        self.store.replace_record(Table::PushAddress, &over.target.address(), b"", mine, None).await?;
        Ok(())
    }

    /// Ends all subscriptions of a user.
    pub async fn remove_all(&self, user: UserId) -> Result<()> {
        for subscription in self.list(user).await? {
            self.remove(user, subscription.device).await?;
        }
        Ok(())
    }

    /// Ends a subscription if it is still this one: a newer one of the device stays.
    pub async fn end(&self, user: UserId, subscription: &Subscription) -> Result<()> {
        let (key, was) = (key(subscription.device), Some(encode(subscription)));
        let ended = self.store.replace_record(Table::PushSubscription, &user_key(user), &key, was, None).await?;
        self.changed(user);
        if ended { self.release(user, subscription).await } else { Ok(()) }
    }

    async fn replace(&self, user: UserId, device: DeviceId, now: Option<&Subscription>) -> Result<()> {
        for _ in 0..TRIES {
            let was = self.get(user, device).await?;
            let (before, after) = (was.as_ref().map(encode), now.map(encode));
            let done =
                before == after || self.store.replace_record(Table::PushSubscription, &user_key(user), &key(device), before, after).await?;
            self.changed(user);
            if done {
                return match was.filter(|was| now.is_none_or(|now| now.target.address() != was.target.address())) {
                    Some(over) => self.release(user, &over).await,
                    None => Ok(()),
                };
            }
        }
        Err(collided())
    }
}

fn collided() -> StorageError {
    StorageError::Busy("the subscription is being changed by others")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::storage::embedded::EmbeddedStore;

    fn of(device: u64, token: &str) -> Subscription {
        Subscription { device: DeviceId(device), target: Target::Gateway { token: token.into() }, created: device }
    }

    #[tokio::test]
    async fn an_address_is_the_device_s_that_named_it_last() {
        let dir = tempfile::tempdir().unwrap();
        let all = Subscriptions::new(EmbeddedStore::open(dir.path(), Default::default()).unwrap());
        let (alice, bob) = (UserId(1), UserId(2));
        all.put(alice, &of(1, "phone")).await.unwrap();
        assert_eq!(all.of(&[alice, bob]).await.unwrap().len(), 1);
        // She signs in anew, then somebody else does, on the same phone.
        all.put(alice, &of(2, "phone")).await.unwrap();
        assert_eq!(all.list(alice).await.unwrap(), [of(2, "phone")]);
        all.put(bob, &of(3, "phone")).await.unwrap();
        assert_eq!((all.list(alice).await.unwrap(), all.of(&[alice, bob]).await.unwrap().len()), (vec![], 1));
        // A crash in between leaves two: only the last one counts, and the other ends.
        all.replace(alice, DeviceId(2), Some(&of(2, "phone"))).await.unwrap();
        assert_eq!(all.valid(alice, DeviceId(2)).await.unwrap(), None);
        assert_eq!(all.valid(bob, DeviceId(3)).await.unwrap(), Some(of(3, "phone")));
        assert!(all.list(alice).await.unwrap().is_empty());
        // What is over leaves nothing.
        all.put(bob, &of(3, "other")).await.unwrap();
        assert!(all.owner(&of(3, "phone").target.address()).await.unwrap().is_none());
        all.remove_all(bob).await.unwrap();
        assert!(all.owner(&of(3, "other").target.address()).await.unwrap().is_none());
    }
}
