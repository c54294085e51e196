//! Promises about records.

use super::Backend;
use crate::storage::records::{KEY_BYTES_MAX, RecordWrite, Table};
use bytes::Bytes;
use futures_util::future::join_all;

const COMPARED: Table = Table::Setting;
const VERSIONED: Table = Table::PushJob;

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str, version: u64, value: Option<&str>) -> RecordWrite {
    RecordWrite { key: key.as_bytes().to_vec(), version, value: value.map(bytes) }
}

/// Only what was read is replaced; of many who try one succeeds.
pub async fn records_are_replaced_by_compare_and_set(b: &dyn Backend) {
    let s = b.open().await;
    let set = |was: Option<&str>, now: Option<&str>| {
        let (s, was, now) = (s.clone(), was.map(bytes), now.map(bytes));
        async move { s.replace_record(COMPARED, b"p", b"k", was, now).await.expect("replace") }
    };
    assert!(!set(Some("a"), Some("b")).await, "there is none");
    assert!(set(None, Some("a")).await);
    assert!(!set(None, Some("b")).await, "there is one");
    let mut winners = Vec::new();
    for (n, won) in join_all((0..16).map(|n| {
        let (s, now) = (s.clone(), bytes(&format!("w{n}")));
        async move { s.replace_record(COMPARED, b"p", b"k", Some(bytes("a")), Some(now)).await.expect("replace") }
    }))
    .await
    .into_iter()
    .enumerate()
    {
        if won {
            winners.push(format!("w{n}"));
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(s.record(COMPARED, b"p", b"k").await.expect("record"), Some(bytes(&winners[0])));
    assert!(set(Some(&winners[0]), None).await);
    assert_eq!(s.record(COMPARED, b"p", b"k").await.expect("record"), None);
}

/// Ascending in byte order within their partition, from behind `after`, and no other partition's.
pub async fn records_are_listed_by_partition(b: &dyn Backend) {
    let s = b.open().await;
    for (partition, key) in [("p", "b"), ("p", "a"), ("p", "a\0"), ("p", "c"), ("pa", "a"), ("", "z")] {
        assert!(s.replace_record(COMPARED, partition.as_bytes(), key.as_bytes(), None, Some(bytes(key))).await.expect("replace"));
    }
    let list = |after: Option<&'static str>, limit: usize| {
        let s = s.clone();
        async move {
            let rows = s.records(COMPARED, b"p", after.map(str::as_bytes), limit).await.expect("records");
            rows.into_iter()
                .map(|(key, value)| {
                    assert_eq!(key, value);
                    String::from_utf8(key).expect("text")
                })
                .collect::<Vec<_>>()
        }
    };
    assert_eq!(list(None, 10).await, ["a", "a\0", "b", "c"]);
    assert_eq!(list(None, 2).await, ["a", "a\0"]);
    assert_eq!(list(Some("a"), 10).await, ["a\0", "b", "c"]);
    assert_eq!(list(Some("c"), 10).await, Vec::<String>::new());
    assert_eq!(s.records(Table::Webhook, b"p", None, 10).await.expect("records"), [], "another table");
}

/// A greater version wins, whatever comes first; at a tie a removal does.
pub async fn versions_order_the_writes_of_a_record(b: &dyn Backend) {
    let s = b.open().await;
    let get = || async { s.record(VERSIONED, b"p", b"k").await.expect("record").map(|v| String::from_utf8_lossy(&v).into_owned()) };
    s.put_records(VERSIONED, b"p", vec![put("k", 5, Some("five")), put("l", 1, Some("one"))]).await.expect("put");
    s.put_records(VERSIONED, b"p", vec![put("k", 4, Some("four"))]).await.expect("put");
    assert_eq!(get().await.as_deref(), Some("five"));
    s.put_records(VERSIONED, b"p", vec![put("k", 4, None)]).await.expect("put");
    assert_eq!(get().await.as_deref(), Some("five"));
    s.put_records(VERSIONED, b"p", vec![put("k", 6, Some("six"))]).await.expect("put");
    assert_eq!(get().await.as_deref(), Some("six"));
    s.put_records(VERSIONED, b"p", vec![put("k", 6, None)]).await.expect("put");
    assert_eq!(get().await, None);
    assert_eq!(s.records(VERSIONED, b"p", None, 10).await.expect("records"), [(b"l".to_vec(), bytes("one"))]);
}

/// What answered is there after a restart.
pub async fn records_are_durable(b: &dyn Backend) {
    let s = b.open().await;
    assert!(s.replace_record(COMPARED, b"p", b"k", None, Some(bytes("kept"))).await.expect("replace"));
    s.put_records(VERSIONED, b"p", vec![put("k", 1, Some("kept too"))]).await.expect("put");
    s.close();
    drop(s);
    let s = b.open().await;
    assert_eq!(s.record(COMPARED, b"p", b"k").await.expect("record"), Some(bytes("kept")));
    assert_eq!(s.record(VERSIONED, b"p", b"k").await.expect("record"), Some(bytes("kept too")));
}

/// A table written in the other way, or a key that is too long, is refused and nothing is written.
pub async fn what_does_not_fit_is_refused(b: &dyn Backend) {
    let s = b.open().await;
    assert!(s.replace_record(VERSIONED, b"p", b"k", None, Some(bytes("x"))).await.is_err());
    assert!(s.put_records(COMPARED, b"p", vec![put("k", 1, Some("x"))]).await.is_err());
    let long = vec![b'k'; KEY_BYTES_MAX + 1];
    assert!(s.replace_record(COMPARED, b"p", &long, None, Some(bytes("x"))).await.is_err());
    assert!(
        s.put_records(VERSIONED, b"p", vec![put("k", 1, Some("x")), RecordWrite { key: long, version: 1, value: None }]).await.is_err()
    );
    assert_eq!(s.record(VERSIONED, b"p", b"k").await.expect("record"), None);
}
