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
