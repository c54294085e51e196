//! Promises of the epoch cells and worker slots.

use super::Backend;
use crate::protocol::ids::Shard;
use crate::storage::EpochCell;
use futures_util::future::join_all;

const SHARD: Shard = Shard(5);

fn cell(epoch: u64) -> EpochCell {
    EpochCell { epoch, token: u128::MAX - u128::from(epoch) }
}

/// Nobody has owned the shard yet.
pub async fn a_missing_cell_is_the_default(b: &dyn Backend) {
    let s = b.open().await;
    assert_eq!(s.epoch(SHARD).await.expect("epoch"), EpochCell::default());
    assert!(s.shards() > 5);
}

/// Epoch and token must both be what is stored.
pub async fn raising_needs_the_right_cell(b: &dyn Backend) {
    let s = b.open().await;
    assert!(s.raise_epoch(SHARD, EpochCell::default(), cell(1)).await.expect("raise"));
    assert!(!s.raise_epoch(SHARD, EpochCell::default(), cell(2)).await.expect("raise"), "an old cell");
    assert!(!s.raise_epoch(SHARD, EpochCell { epoch: 1, token: 3 }, cell(2)).await.expect("raise"), "another's token");
    assert_eq!(s.epoch(SHARD).await.expect("epoch"), cell(1));
    assert!(s.raise_epoch(SHARD, cell(1), cell(2)).await.expect("raise"));
    assert_eq!(s.epoch(SHARD).await.expect("epoch"), cell(2));
}

/// Of many who saw the same cell exactly one is told that it won, and the cell is its.
pub async fn one_of_many_raises_wins(b: &dyn Backend) {
    let s = b.open().await;
    for epoch in 0..10 {
        let was = s.epoch(SHARD).await.expect("epoch");
        let next = |token| EpochCell { epoch: epoch + 1, token };
        let won = join_all((1..=32).map(|token| s.raise_epoch(SHARD, was, next(token)))).await;
        let winners: Vec<u128> = (1..).zip(won).filter(|(_, won)| *won.as_ref().expect("raise")).map(|(token, _)| token).collect();
        assert_eq!(winners.len(), 1);
        assert_eq!(s.epoch(SHARD).await.expect("epoch"), next(winners[0]));
    }
}

/// A raise that was answered survives a restart.
pub async fn epochs_are_durable(b: &dyn Backend) {
    let s = b.open().await;
    assert!(s.raise_epoch(SHARD, EpochCell::default(), cell(1)).await.expect("raise"));
    s.close();
    let s = b.open().await;
    assert_eq!(s.epoch(SHARD).await.expect("epoch"), cell(1));
    assert!(s.raise_epoch(SHARD, cell(1), cell(2)).await.expect("raise"));
}

/// Cells of other shards are not touched.
pub async fn shards_are_independent(b: &dyn Backend) {
    let s = b.open().await;
    assert!(s.raise_epoch(Shard(1), EpochCell::default(), cell(1)).await.expect("raise"));
    assert_eq!(s.epoch(Shard(2)).await.expect("epoch"), EpochCell::default());
    assert!(s.raise_epoch(Shard(2), EpochCell::default(), cell(1)).await.expect("raise"));
}

/// Absent, over or one's own: taken. Else not (rule 14).
pub async fn a_worker_slot_has_one_holder(b: &dyn Backend) {
    let s = b.open().await;
    assert_eq!(s.take_worker(3, 11, 100, 200).await.expect("take"), Some(0), "nobody had it");
    assert_eq!(s.take_worker(3, 22, 150, 900).await.expect("take"), None, "held by another");
    assert_eq!(s.take_worker(3, 11, 150, 300).await.expect("take"), Some(200), "renewed");
    assert_eq!(s.take_worker(3, 22, 299, 900).await.expect("take"), None, "renewed until 300");
    assert_eq!(s.take_worker(3, 22, 300, 900).await.expect("take"), Some(300), "over: who takes it starts at the old end");
    assert_eq!(s.take_worker(3, 11, 400, 950).await.expect("take"), None, "the first holder has lost it");
    let taken = join_all((1..=32).map(|token| s.take_worker(4, token, 0, 10))).await;
    assert_eq!(taken.iter().filter(|t| t.as_ref().expect("take").is_some()).count(), 1);
}

/// No id is given twice because a node restarted.
pub async fn a_worker_slot_is_durable(b: &dyn Backend) {
    let s = b.open().await;
    assert_eq!(s.take_worker(3, 11, 100, 200).await.expect("take"), Some(0));
    s.close();
    let s = b.open().await;
    assert_eq!(s.take_worker(3, 22, 150, 900).await.expect("take"), None);
    assert_eq!(s.take_worker(3, 22, 250, 900).await.expect("take"), Some(200));
}
