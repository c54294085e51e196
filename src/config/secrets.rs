//! The secrets that a node makes for itself: the key that signs access tokens, and the token of the operators' listener.
//!
//! They live in `<data_dir>/secrets/` (directory 0700, files 0600), are made once, whole or not at all, and are durable before they are
//! used. A file that others may read is refused, not repaired: who could read it already has it. Nothing here prints a secret.

use super::keys::{self, SigningKey};
use super::validate::SECRET_BYTES_MIN;
use super::{Auth, Mail, Moderation, Redis, Scylla};
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Random bytes of a secret that is made here.
const RANDOM_BYTES: usize = 32;
/// Bytes of a secret file at most.
const FILE_BYTES_MAX: u64 = 4096;

/// File of the key that signs access tokens.
pub const SIGNING_FILE: &str = "signing.key";
/// File of the token of the operators' listener.
pub const ADMIN_FILE: &str = "admin.token";
/// File of the key that Web Push services know this server by (VAPID): a secret of P-256 in hex. With another one browsers must subscribe anew.
pub const VAPID_FILE: &str = "vapid.key";
/// File of the secret that signs what the push gateway gets.
pub const GATEWAY_FILE: &str = "push_gateway.secret";

/// What is shown in place of a secret.
pub const HIDDEN: &str = "***";

impl Auth {
    /// The same without its secrets, for showing.
    pub fn hidden(&self) -> Auth {
        let hide = |s: &str| if s.is_empty() { String::new() } else { HIDDEN.into() };
        let retired = |key: &String| format!("{}:{HIDDEN}", key.split_once(':').map_or("", |(id, _)| id));
        Auth {
            secret: hide(&self.secret),
            retired_keys: self.retired_keys.iter().map(retired).collect(),
            issuers: self.issuers.iter().map(|i| i.hidden()).collect(),
            ..self.clone()
        }
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Auth({})", serde_json::to_string(&self.hidden()).map_err(|_| fmt::Error)?)
    }
}

impl Mail {
    /// The same without its password, for showing.
    pub fn hidden(&self) -> Mail {
        let password = if self.smtp_password.is_empty() { String::new() } else { HIDDEN.into() };
        Mail { smtp_password: password, ..self.clone() }
    }
}

impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mail({})", serde_json::to_string(&self.hidden()).map_err(|_| fmt::Error)?)
    }
}

impl Scylla {
    /// The same without its password, for showing.
    pub fn hidden(&self) -> Scylla {
        let password = if self.password.is_empty() { String::new() } else { HIDDEN.into() };
        Scylla { password, ..self.clone() }
    }
}

impl fmt::Debug for Scylla {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scylla({})", serde_json::to_string(&self.hidden()).map_err(|_| fmt::Error)?)
    }
}

impl Moderation {
    /// The same without its secret, for showing.
    pub fn hidden(&self) -> Moderation {
        let filter_secret = if self.filter_secret.is_empty() { String::new() } else { HIDDEN.into() };
        Moderation { filter_secret, ..self.clone() }
    }
}

impl fmt::Debug for Moderation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Moderation({})", serde_json::to_string(&self.hidden()).map_err(|_| fmt::Error)?)
    }
}

impl Redis {
    /// The same without its password, for showing.
    pub fn hidden(&self) -> Redis {
        let password = if self.password.is_empty() { String::new() } else { HIDDEN.into() };
        Redis { password, ..self.clone() }
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redis({})", serde_json::to_string(&self.hidden()).map_err(|_| fmt::Error)?)
    }
}

/// A text that is not to be printed: `Debug` shows `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}
impl From<String> for Secret {
    fn from(s: String) -> Secret {
        Secret(s)
    }
}
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// A node's secrets.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// Sign access tokens: the first those that are made, all of them count.
    pub signing: Vec<SigningKey>,
    /// Opens the operators' listener (`Authorization: Bearer …`).
    pub admin_token: Secret,
    /// Files that this call made, for a warning on standard error where no log is written.
    pub made: Vec<PathBuf>,
}

/// Why a secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// Others may read or change it.
    #[error("{}: mode {mode:03o} lets others in; make it {wanted:03o} (chmod {wanted:03o}), and replace the secret if somebody may have read it", path.display())]
    Exposed {
        /// The file or directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// What it should be.
        wanted: u32,
    },
    /// Not a secret of the length that one has.
    #[error("{}: not a secret: expected one line of {SECRET_BYTES_MIN} to {FILE_BYTES_MAX} bytes", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be read or made.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

pub(super) type Result<T> = std::result::Result<T, SecretsError>;

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> SecretsError + '_ {
    move |error| SecretsError::Io { path: path.into(), error }
}

/// The directory of the secrets.
pub fn dir(data_dir: &Path) -> PathBuf {
    data_dir.join("secrets")
}

/// The node's secrets; those that are not there are made, with a warning in the log.
pub fn load_or_make(data_dir: &Path, auth: &Auth) -> Result<Secrets> {
    let dir = dir(data_dir);
    make_dir(data_dir)?;
    make_dir(&dir)?;
    check_mode(&dir, &fs::metadata(&dir).map_err(io_at(&dir))?, 0o700)?;
    let mut made = Vec::new();
    let signing = match keys::configured(auth) {
        Some(ring) => ring,
        None => ring_or_made(data_dir, auth, &mut made)?,
    };
    let path = dir.join(ADMIN_FILE);
    let admin_token = match read(&path)? {
        Some(token) => token,
        None => make(&path, &mut made)?,
    };
    for path in &made {
        tracing::warn!(path = %path.display(), "made a secret that was not there; back it up with the data directory");
    }
    Ok(Secrets { signing, admin_token, made })
}

fn ring_or_made(data_dir: &Path, auth: &Auth, made: &mut Vec<PathBuf>) -> Result<Vec<SigningKey>> {
    if let Some(ring) = keys::kept(data_dir, auth)? {
        return Ok(ring);
    }
    make(&dir(data_dir).join(SIGNING_FILE), made)?;
    Ok(keys::kept(data_dir, auth)?.unwrap_or_default())
}

/// A further secret of the node, made at the first need of it. After [`load_or_make`], which looks after the directory.
pub fn further(data_dir: &Path, file: &str) -> Result<Secret> {
    let path = dir(data_dir).join(file);
    if let Some(secret) = read(&path)? {
        return Ok(secret);
    }
    let secret = make(&path, &mut Vec::new())?;
    tracing::warn!(path = %path.display(), "made a secret that was not there; back it up with the data directory");
    Ok(secret)
}

/// The token of the operators' listener, if there is one; makes nothing.
pub fn admin_token(data_dir: &Path) -> Result<Option<Secret>> {
    read(&dir(data_dir).join(ADMIN_FILE))
}

/// Looks whether the secrets that are there could be used; makes nothing.
pub fn check(data_dir: &Path) -> Result<()> {
    let dir = dir(data_dir);
    match fs::metadata(&dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        found => check_mode(&dir, &found.map_err(io_at(&dir))?, 0o700)?,
    }
    [ADMIN_FILE, VAPID_FILE, GATEWAY_FILE].iter().try_for_each(|name| read(&dir.join(name)).map(drop))?;
    keys::kept(data_dir, &Auth::default()).map(drop)
}

fn make_dir(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_at(path))?;
    sync_parent(path)
}

fn check_mode(path: &Path, found: &fs::Metadata, wanted: u32) -> Result<()> {
    let mode = found.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(SecretsError::Exposed { path: path.into(), mode, wanted }) }
}

/// A file with one secret in it.
pub(super) fn read(path: &Path) -> Result<Option<Secret>> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    let secret = text.trim_end_matches(['\n', '\r']);
    let fine = secret.len() >= SECRET_BYTES_MIN && secret.bytes().all(|b| b.is_ascii_graphic());
    if fine { Ok(Some(Secret(secret.into()))) } else { Err(SecretsError::Malformed { path: path.into() }) }
}

/// A small file that nobody else may read.
pub(super) fn read_text(path: &Path) -> Result<Option<String>> {
    let file = match File::open(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(io_at(path))?,
    };
    // Of the open file, so that it is the one that is read.
    check_mode(path, &file.metadata().map_err(io_at(path))?, 0o600)?;
    let mut text = String::new();
    let malformed = || SecretsError::Malformed { path: path.into() };
    match file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text) {
        Err(e) if e.kind() == ErrorKind::InvalidData => return Err(malformed()),
        read => read.map_err(io_at(path))?,
    };
    if text.len() as u64 <= FILE_BYTES_MAX { Ok(Some(text)) } else { Err(malformed()) }
}

/// A secret that nobody knows yet.
pub(super) fn random() -> Secret {
    Secret(hex::encode(rand::random::<[u8; RANDOM_BYTES]>()))
}

/// Where a file is written before it gets its name.
fn aside(path: &Path) -> PathBuf {
    path.with_extension(format!("new-{}-{:08x}", std::process::id(), rand::random::<u32>()))
}

/// Writes a new file for its owner alone, and makes it durable.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Puts a file in the place of what was there, whole or not at all, and durably.
pub(super) fn replace(path: &Path, text: &str) -> Result<()> {
    let aside = aside(path);
    let done = write_new(&aside, text).and_then(|()| fs::rename(&aside, path));
    if done.is_err() {
        // It may not be there.
        let _ = fs::remove_file(&aside);
    }
    done.map_err(io_at(path))?;
    sync_parent(path)
}

/// Makes the file whole or not at all: written aside, flushed, then linked under its name, which fails when somebody else was first.
fn make(path: &Path, made: &mut Vec<PathBuf>) -> Result<Secret> {
    let (secret, aside) = (random(), aside(path));
    let written = write_new(&aside, &format!("{}\n", secret.expose()));
    let linked = written.and_then(|()| fs::hard_link(&aside, path));
    // Also when writing failed half way; it may not be there then.
    let _ = fs::remove_file(&aside);
    match linked {
        Ok(()) => {
            sync_parent(path)?;
            made.push(path.into());
            Ok(secret)
        }
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            read(path)?.ok_or_else(|| SecretsError::Io { path: path.into(), error: ErrorKind::NotFound.into() })
        }
        Err(error) => Err(SecretsError::Io { path: path.into(), error }),
    }
}

fn sync_parent(path: &Path) -> Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|d| d.sync_all()).map_err(io_at(parent))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn they_are_made_once_for_nobody_else_to_read() {
        let tmp = tempfile::tempdir().unwrap();
        let data = tmp.path().join("data");
        let first = load_or_make(&data, &Auth::default()).unwrap();
        assert_eq!(first.made.len(), 2);
        assert_eq!((mode(&dir(&data)), mode(&first.made[0]), mode(&first.made[1])), (0o700, 0o600, 0o600));
        assert!(first.signing[0].secret.expose().len() == 64 && first.signing[0].secret != first.admin_token);
        let again = load_or_make(&data, &Auth::default()).unwrap();
        assert_eq!((again.signing, again.admin_token.clone(), again.made.len()), (first.signing, first.admin_token, 0));
        assert_eq!(admin_token(&data).unwrap(), Some(again.admin_token));
        assert_eq!(fs::read_dir(dir(&data)).unwrap().count(), 2, "nothing is left aside");
    }

    #[test]
    fn a_configured_secret_is_used_and_not_written() {
        let tmp = tempfile::tempdir().unwrap();
        let auth = Auth { secret: "s".repeat(32), ..Auth::default() };
        let secrets = load_or_make(tmp.path(), &auth).unwrap();
        assert_eq!(secrets.signing[0].secret.expose(), auth.secret);
        assert!(!dir(tmp.path()).join(SIGNING_FILE).exists());
        assert!(!format!("{secrets:?}").contains("ssss"));
    }

    #[test]
    fn what_is_shown_has_no_secret_in_it() {
        let secret = "s".repeat(32);
        let auth = Auth { secret: secret.clone(), retired_keys: vec![format!("0:{secret}"), secret.clone()], ..Auth::default() };
        assert!(!format!("{auth:?}").contains(&secret));
        let mail = Mail { smtp_user: "hubbub".into(), smtp_password: secret.clone(), ..Mail::default() };
        assert!(!format!("{mail:?}").contains(&secret) && mail.hidden().smtp_password == HIDDEN);
        let redis = Redis { password: secret.clone(), ..Redis::default() };
        assert!(!format!("{redis:?}").contains(&secret) && redis.hidden().password == HIDDEN);
        let auth = auth.hidden();
        assert_eq!((auth.secret.as_str(), auth.retired_keys), (HIDDEN, vec!["0:***".into(), ":***".to_string()]));
        assert_eq!(Auth::default().hidden(), Auth::default());
    }

    #[test]
    fn what_others_may_read_is_refused() {
        let tmp = tempfile::tempdir().unwrap();
        load_or_make(tmp.path(), &Auth::default()).unwrap();
        let (secrets, key) = (dir(tmp.path()), dir(tmp.path()).join(SIGNING_FILE));
        for (path, bad, good) in [(&key, 0o640, 0o600), (&key, 0o604, 0o600), (&secrets, 0o750, 0o700)] {
            fs::set_permissions(path, fs::Permissions::from_mode(bad)).unwrap();
            assert!(matches!(load_or_make(tmp.path(), &Auth::default()), Err(SecretsError::Exposed { mode, .. }) if mode == bad));
            assert!(check(tmp.path()).is_err());
            fs::set_permissions(path, fs::Permissions::from_mode(good)).unwrap();
            check(tmp.path()).unwrap();
        }
    }

    #[test]
    fn a_short_or_strange_file_is_refused_and_kept() {
        let tmp = tempfile::tempdir().unwrap();
        load_or_make(tmp.path(), &Auth::default()).unwrap();
        let key = dir(tmp.path()).join(SIGNING_FILE);
        for bad in [&b""[..], b"short\n", &[0xff; 64], &[b'x'; 5000], b"two lines\nof a text that is long enough"] {
            fs::write(&key, bad).unwrap();
            assert!(matches!(load_or_make(tmp.path(), &Auth::default()), Err(SecretsError::Malformed { .. })), "{bad:?}");
            assert_eq!(fs::read(&key).unwrap(), bad);
        }
    }

    #[test]
    fn who_makes_them_at_once_agrees() {
        let tmp = tempfile::tempdir().unwrap();
        let make = || load_or_make(tmp.path(), &Auth::default()).unwrap();
        let all = std::thread::scope(|s| {
            let threads: Vec<_> = (0..8).map(|_| s.spawn(make)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(all.iter().all(|s| s.signing == all[0].signing && s.admin_token == all[0].admin_token));
        assert_eq!(all.iter().map(|s| s.made.len()).sum::<usize>(), 2);
    }
}
