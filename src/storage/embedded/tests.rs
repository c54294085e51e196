//! The shared suite, and tests of what only the embedded store promises.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::storage::conformance::Backend;
use async_trait::async_trait;

mod suite {
    use super::*;
    crate::storage_conformance!(Temporary::new());
}

/// A store in a directory of its own that goes away with it.
struct Temporary {
    dir: tempfile::TempDir,
}
impl Temporary {
    fn new() -> Self {
        Temporary { dir: tempfile::tempdir().unwrap() }
    }
}

fn options() -> EmbeddedOptions {
    EmbeddedOptions { shards: 16, disk_free_bytes_min: 0, cache_bytes: 4 << 20, ..EmbeddedOptions::default() }
}

#[async_trait]
impl Backend for Temporary {
    async fn open(&self) -> Arc<dyn Store> {
        EmbeddedStore::open(self.dir.path(), options()).unwrap()
    }
}

mod damage;
mod faults;
mod keeping;
mod speed;

fn open(dir: &Path) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(dir, options()).unwrap()
}

/// Numbers that are the same in every run of a seed.
struct Seeded(u64);
impl Seeded {
    fn below(&mut self, n: usize) -> usize {
        // A step of splitmix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((z ^ (z >> 27)) % n as u64) as usize
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, target) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() { copy(&path, &target) } else { _ = std::fs::copy(&path, &target).unwrap() }
    }
}

#[tokio::test]
async fn the_number_of_shards_is_fixed() {
    let t = Temporary::new();
    open(t.dir.path()).close();
    let other = EmbeddedStore::open(t.dir.path(), EmbeddedOptions { shards: 17, ..options() });
    assert!(matches!(other, Err(OpenError::Shards { stored: 16, asked: 17, .. })), "{:?}", other.err());
    assert_eq!(crate::storage::Ownership::shards(&*open(t.dir.path())), 16);
}

#[tokio::test]
async fn a_directory_has_one_store_at_a_time() {
    let t = Temporary::new();
    let first = open(t.dir.path());
    let second = EmbeddedStore::open(t.dir.path(), options());
    let me = std::process::id();
    assert!(matches!(second, Err(OpenError::Locked { pid: Some(pid), .. }) if pid == me), "{:?}", second.err());
    drop(first);
    open(t.dir.path());
}

#[tokio::test]
async fn a_store_of_another_format_is_refused() {
    let t = Temporary::new();
    open(t.dir.path()).close();
    let path = t.dir.path().join(STORE);
    let text = std::fs::read_to_string(&path).unwrap().replace("\"format\": 1", "\"format\": 9");
    std::fs::write(&path, text).unwrap();
    assert!(matches!(EmbeddedStore::open(t.dir.path(), options()), Err(OpenError::Format { found: 9, .. })));
}
