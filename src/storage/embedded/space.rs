//! How much disk the store uses and how much is free, measured beside the writes and at most once a second.

use super::EmbeddedOptions;
use crate::storage::{Result, StorageError};
use parking_lot::{Condvar, Mutex};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Space {
    used: AtomicU64,
    free: AtomicU64,
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Space {
    pub(super) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// Whether less is free than must be, in words.
    pub(super) fn too_full(&self, options: &EmbeddedOptions) -> Option<String> {
        let (free, min) = (self.free.load(Relaxed), options.disk_free_bytes_min);
        (free < min).then(|| format!("{free} bytes free on the disk, {min} must stay free"))
    }

    /// Whether new messages may be stored.
    pub(super) fn check(&self, options: &EmbeddedOptions) -> Result<()> {
        let (used, quota) = (self.used(), options.disk_quota_bytes);
        if quota > 0 && used >= quota {
            return Err(StorageError::Quota { used, quota });
        }
        self.too_full(options).map_or(Ok(()), |why| Err(StorageError::ReadOnly(why.into())))
    }

    /// Measures now.
    pub(super) fn measure(&self, dir: &Path) {
        self.used.store(used(dir), Relaxed);
        // What cannot be measured is no reason to refuse: a write that finds no room fails by itself.
        let free = rustix::fs::statvfs(dir).map_or(u64::MAX, |s| s.f_bavail.saturating_mul(s.f_frsize));
        self.free.store(free, Relaxed);
    }

    /// Measures until stopped. A directory that takes long to walk is walked less often.
    pub(super) fn watch(&self, dir: &Path) {
        let mut stopped = self.stopped.lock();
        while !*stopped {
            let began = Instant::now();
            parking_lot::MutexGuard::unlocked(&mut stopped, || self.measure(dir));
            let pause = EVERY.max(began.elapsed() * 20);
            self.changed.wait_while_for(&mut stopped, |s| !*s, pause);
        }
    }

    pub(super) fn stop(&self) {
        *self.stopped.lock() = true;
        self.changed.notify_all();
    }
}

/// Bytes that the directory's files take on the disk. Files come and go meanwhile; those that are gone count nothing.
fn used(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let one = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(m) if m.is_dir() => used(&entry.path()),
        Ok(m) => m.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(one).sum()
}
