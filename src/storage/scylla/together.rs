//! Reads of epoch cells ride together: who asks while as many requests are under way as may be waits for one of them to end, and all who
//! wait are then asked for in one. Every batch of every room is followed by such a read (rule 6), and nearly all are of different
//! shards: one by one they would cost the database, and the driver's thread, as much as the batches themselves.
//!
//! Nobody is answered by a request that had begun before. When a joint read fails, each is read by itself: shards whose replicas are away
//! must not take the others with them.

use super::Core;
use super::calls::odd;
use super::ownership::{EPOCH, cell_of};
use crate::protocol::ids::Shard;
use crate::storage::{EpochCell, Result, StorageError};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Requests under way: while one is being answered another is on its way.
const UNDER_WAY_MAX: usize = 2;
/// Shards in one request.
const RIDERS_MAX: usize = 32;

type Rider<V> = (Shard, oneshot::Sender<Result<V>>);

struct State<V> {
    waiting: VecDeque<Rider<V>>,
    under_way: usize,
}

/// Who waits for a read.
pub(super) struct Together<V>(Mutex<State<V>>);

impl<V> Default for Together<V> {
    fn default() -> Self {
        Together(Mutex::new(State { waiting: VecDeque::new(), under_way: 0 }))
    }
}

/// Makes requests until nobody waits; dropped, another may begin.
struct Lead<'a, V>(&'a Together<V>);

impl<V> Drop for Lead<'_, V> {
    fn drop(&mut self) {
        self.0.0.lock().under_way -= 1;
    }
}

impl<V> Together<V> {
    /// Waits with the others; true: whoever asks must [`Together::lead`].
    fn join(&self, shard: Shard) -> (oneshot::Receiver<Result<V>>, bool) {
        let (tx, rx) = oneshot::channel();
        let mut state = self.0.lock();
        state.waiting.push_back((shard, tx));
        let leads = state.under_way < UNDER_WAY_MAX;
        state.under_way += usize::from(leads);
        (rx, leads)
    }

    /// Reads for all who wait, until nobody does.
    async fn lead<F>(&self, read: impl Fn(Vec<Shard>) -> F)
    where
        F: Future<Output = Vec<Result<V>>>,
    {
        let mut lead = Some(Lead(self));
        // Who asks in the same moment rides along.
        tokio::task::yield_now().await;
        loop {
            let riders: Vec<Rider<V>> = {
                let mut state = self.0.lock();
                let many = state.waiting.len().min(RIDERS_MAX);
                if many == 0 {
                    // Under the same lock: who comes from now on leads.
                    std::mem::forget(lead.take());
                    state.under_way -= 1;
                    return;
                }
                state.waiting.drain(..many).collect()
            };
            let answers = read(riders.iter().map(|(shard, _)| *shard).collect()).await;
            for ((_, rider), answer) in riders.into_iter().zip(answers) {
                // Who has gone away meanwhile needs no answer.
                let _ = rider.send(answer);
            }
        }
    }
}

impl Core {
    /// A shard's cell as a quorum sees it, by a read that begins now or later.
    pub(super) async fn epoch(self: Arc<Core>, shard: Shard) -> Result<EpochCell> {
        let (answer, leads) = self.epochs.join(shard);
        if leads {
            let core = self.clone();
            tokio::spawn(async move { core.epochs.lead(|shards| core.epochs_of(shards)).await });
        }
        answer.await.unwrap_or_else(|_| Err(StorageError::Down("a read did not end".into())))
    }

    async fn epochs_of(&self, shards: Vec<Shard>) -> Vec<Result<EpochCell>> {
        if shards.len() > 1
            && let Ok(cells) = self.joint(&shards).await
        {
            return shards.iter().map(|shard| Ok(cells.get(shard).copied().unwrap_or_default())).collect();
        }
        futures_util::future::join_all(shards.into_iter().map(|shard| self.single(shard))).await
    }

    async fn single(&self, shard: Shard) -> Result<EpochCell> {
        let stored = self.cell(EPOCH, &shard.0.to_be_bytes(), b"").await?;
        Ok(stored.map(|value| cell_of(&value)).transpose()?.unwrap_or_default())
    }

    async fn joint(&self, shards: &[Shard]) -> Result<HashMap<Shard, EpochCell>> {
        let mut parts: Vec<[u8; 4]> = shards.iter().map(|shard| shard.0.to_be_bytes()).collect();
        parts.sort_unstable();
        parts.dedup();
        let parts: Vec<&[u8]> = parts.iter().map(|part| &part[..]).collect();
        let rows = self.select::<(Vec<u8>, Vec<u8>)>(&self.statements.cells_of, (EPOCH, parts, &b""[..]), usize::MAX).await?;
        let read = |(part, value): (Vec<u8>, Vec<u8>)| {
            let shard = part.try_into().map(u32::from_be_bytes).map_err(|_| odd("a shard's number"))?;
            Ok((Shard(shard), cell_of(&value)?))
        };
        rows.into_iter().map(read).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::cell::RefCell;

    fn ask(together: &Together<u32>, shard: u32) -> (oneshot::Receiver<Result<u32>>, bool) {
        together.join(Shard(shard))
    }

    #[tokio::test]
    async fn who_asks_meanwhile_rides_in_the_next_request_and_in_none_before() {
        let together = Together::default();
        let asked = RefCell::new(Vec::new());
        let go = tokio::sync::Semaphore::new(0);
        let read = |shards: Vec<Shard>| {
            asked.borrow_mut().push(shards.iter().map(|shard| shard.0).collect::<Vec<_>>());
            let go = &go;
            async move {
                go.acquire().await.unwrap().forget();
                shards.iter().map(|shard| Ok(shard.0)).collect()
            }
        };
        let (mut first, leads) = ask(&together, 1);
        assert!(leads);
        let mut leading = Box::pin(together.lead(read));
        assert!(leading.as_mut().now_or_never().is_none() && leading.as_mut().now_or_never().is_none());
        // A second may lead, and more may not.
        let (_second, leads) = ask(&together, 2);
        assert!(leads);
        let mut also = Box::pin(together.lead(read));
        assert!(also.as_mut().now_or_never().is_none() && also.as_mut().now_or_never().is_none());
        let later: Vec<_> = (3..3 + RIDERS_MAX as u32 + 1).map(|shard| ask(&together, shard)).collect();
        assert!(later.iter().all(|(_, leads)| !leads));
        assert_eq!(*asked.borrow(), [vec![1], vec![2]], "who asks now is in no request that has begun");
        go.add_permits(1);
        assert!(leading.as_mut().now_or_never().is_none());
        assert_eq!(first.try_recv().unwrap().unwrap(), 1);
        assert_eq!(asked.borrow()[2].len(), RIDERS_MAX);
        go.add_permits(3);
        leading.await;
        also.await;
        for (answer, _) in later {
            answer.await.unwrap().unwrap();
        }
        assert_eq!(together.0.lock().under_way, 0);
        assert!(ask(&together, 9).1, "and the next one leads again");
    }

    #[tokio::test]
    async fn who_leads_and_ends_in_the_middle_does_not_count_any_more() {
        let together = Together::default();
        let (answer, _) = ask(&together, 1);
        let mut leading = Box::pin(together.lead(|_| std::future::pending()));
        assert!(leading.as_mut().now_or_never().is_none() && leading.as_mut().now_or_never().is_none());
        drop(leading);
        assert_eq!(together.0.lock().under_way, 0);
        assert!(answer.await.is_err());
    }
}
