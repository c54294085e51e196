//! Mail into a directory, one `.eml` a mail: for trying things, and for operators who hand mail on by a program of their own.
//!
//! `outbox/` of the data directory, for its owner alone (mode 0700). A file appears whole, under a name that sorts by time. At most
//! [`KEPT_MAX`] are kept; one more removes the oldest.

use super::smtp::{message, sender};
use super::{Mail, MailError, Transport};
use crate::auth::now;
use crate::config;
use async_trait::async_trait;
use lettre::message::Mailbox;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Mails that are kept.
pub const KEPT_MAX: usize = 1_000;
/// What a mail's file ends in.
const SUFFIX: &str = ".eml";

pub(super) struct Outbox {
    dir: PathBuf,
    from: Mailbox,
}

impl Outbox {
    /// The directory is made with the first mail.
    pub(super) fn new(config: &config::Mail, data_dir: &Path) -> Result<Outbox, String> {
        Ok(Outbox { dir: data_dir.join("outbox"), from: sender(config)? })
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        if !self.dir.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        }
        let name = format!("{:013}-{:08x}", now(), rand::random::<u32>());
        let aside = self.dir.join(format!("{name}.new"));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
        let done = file.write_all(bytes).and_then(|()| fs::rename(&aside, self.dir.join(format!("{name}{SUFFIX}"))));
        if done.is_err() {
            // It may not be there.
            let _ = fs::remove_file(&aside);
        }
        done?;
        self.tidy()
    }

    fn tidy(&self) -> io::Result<()> {
        let names = fs::read_dir(&self.dir)?.filter_map(|entry| entry.ok().map(|e| e.path()));
        let mut mails: Vec<PathBuf> = names.filter(|p| p.to_string_lossy().ends_with(SUFFIX)).collect();
        mails.sort_unstable();
        mails.iter().rev().skip(KEPT_MAX).try_for_each(fs::remove_file)
    }
}

#[async_trait]
impl Transport for Outbox {
    async fn deliver(&self, mail: &Mail) -> Result<(), MailError> {
        let bytes = message(mail, &self.from)?.formatted();
        // The thread is the mailer's own, and a local disk is its matter.
        self.write(&bytes).map_err(|e| MailError::Later(format!("{}: {e}", self.dir.display())))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[actix_rt::test]
    async fn mails_lie_there_whole_for_nobody_else_and_not_without_end() {
        use std::os::unix::fs::PermissionsExt;
        let tmp = tempfile::tempdir().unwrap();
        let outbox = Outbox::new(&config::Mail::default(), tmp.path()).unwrap();
        let dir = tmp.path().join("outbox");
        fs::create_dir(&dir).unwrap();
        (0..KEPT_MAX + 5).for_each(|n| fs::write(dir.join(format!("{n:013}-x{SUFFIX}")), "old").unwrap());
        fs::write(dir.join("mine.txt"), "not a mail").unwrap();
        outbox.deliver(&Mail { to: "a@example.org".into(), subject: "s".into(), text: "hello".into() }).await.unwrap();
        let mut names: Vec<PathBuf> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path()).collect();
        names.sort();
        assert_eq!(names.len(), KEPT_MAX + 1);
        assert!(names.contains(&dir.join("mine.txt")) && !names.contains(&dir.join(format!("{:013}-x{SUFFIX}", 5))));
        let newest = &names[KEPT_MAX - 1];
        assert!(fs::read_to_string(newest).unwrap().ends_with("hello"));
        assert_eq!(fs::metadata(newest).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
