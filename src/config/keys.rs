//! The ring of keys that sign access tokens: where they come from, and the rotation of those that a node made itself.
//!
//! The first key of a ring signs; all are accepted until their time is over, so that a rotation logs nobody out. A configured secret
//! (`auth.secret`) is rotated in the configuration (`auth.retired_keys`). One that was made here is rotated by [`rotate`]: from then on
//! `signing.ring` holds the ring, one key a line, and takes the place of `signing.key`. It is replaced whole or not at all.
//!
//! Several nodes need the same ring, and a key must be accepted everywhere before one of them signs with it. So a key can be **prepared**
//! first ([`prepare`]): it stands in the file without an end and behind the first, is accepted and does not sign; [`rotate`] then makes
//! it the first, on every node the same one.

use super::Auth;
use super::secrets::{self, Result, SIGNING_FILE, Secret, SecretsError};
use super::validate::SECRET_BYTES_MIN;
use std::path::Path;

/// File of the ring, after the first rotation.
pub const RING_FILE: &str = "signing.ring";
/// Keys of a ring file at most; a rotation beyond it drops the oldest.
pub const KEYS_MAX: usize = 16;

/// A key of the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    /// The `kid` in a token's header.
    pub id: String,
    /// What signs.
    pub secret: Secret,
    /// Until when (milliseconds since 1970) its tokens are accepted; `None`: as long as it is in the ring.
    pub until: Option<u64>,
}

/// What a rotation did.
#[derive(Clone, Debug)]
pub struct Rotated {
    /// The ring from now on; its first key is new.
    pub ring: Vec<SigningKey>,
    /// Ids of the keys that are in it no more.
    pub dropped: Vec<String>,
}

/// The keys of a configured secret; `None` when there is none and the node makes its own.
pub fn configured(auth: &Auth) -> Option<Vec<SigningKey>> {
    let first = SigningKey { id: auth.key_id.clone(), secret: auth.secret.clone().into(), until: None };
    (!auth.secret.is_empty()).then(|| std::iter::once(first).chain(retired(auth)).collect())
}

/// The keys of `auth.retired_keys`. One that has not its form is left out; the configuration's check refuses it.
fn retired(auth: &Auth) -> impl Iterator<Item = SigningKey> + '_ {
    let key = |(id, secret): (&str, &str)| SigningKey { id: id.into(), secret: secret.to_owned().into(), until: None };
    auth.retired_keys.iter().filter_map(move |k| k.split_once(':').map(key))
}

/// The ring of the data directory with the configured retired keys; `None` when no secret was made yet. Makes nothing.
pub fn kept(data_dir: &Path, auth: &Auth) -> Result<Option<Vec<SigningKey>>> {
    let dir = secrets::dir(data_dir);
    let mut ring = match read(&dir.join(RING_FILE))? {
        Some(ring) => ring,
        None => match secrets::read(&dir.join(SIGNING_FILE))? {
            Some(secret) => vec![SigningKey { id: auth.key_id.clone(), secret, until: None }],
            None => return Ok(None),
        },
    };
    ring.extend(retired(auth));
    Ok(Some(ring))
}

/// What others may know of a secret, to compare it with theirs. From a secret of 32 random bytes nobody finds the secret by it.
pub fn print(secret: &str) -> u64 {
    use sha2::{Digest, Sha256};
    let hash = Sha256::new().chain_update(b"fingerprint\0").chain_update(secret).finalize();
    hash.iter().take(8).fold(0, |print, byte| print << 8 | u64::from(*byte))
}

/// The key of the data directory's ring that is accepted and does not sign yet, if one was prepared.
pub fn prepared(data_dir: &Path) -> Result<Option<SigningKey>> {
    let ring = read(&secrets::dir(data_dir).join(RING_FILE))?.unwrap_or_default();
    Ok(ring.into_iter().skip(1).find(|key| key.until.is_none()))
}

/// Puts a new key into the ring in the data directory that is accepted and does not sign yet; one that was prepared and not used stays.
/// There must be a secret that was made here. Gives the whole ring.
pub fn prepare(data_dir: &Path, auth: &Auth) -> Result<Vec<SigningKey>> {
    let none = Auth { retired_keys: Vec::new(), ..auth.clone() };
    let mut ring = kept(data_dir, &none)?.unwrap_or_default();
    if prepared(data_dir)?.is_none() {
        ring.truncate(KEYS_MAX - 1);
        ring.insert(ring.len().min(1), fresh());
        put(data_dir, &ring)?;
    }
    ring.extend(retired(auth));
    Ok(ring)
}

fn fresh() -> SigningKey {
    SigningKey { id: format!("{:08x}", rand::random::<u32>()), secret: secrets::random(), until: None }
}

/// Makes a new key, or the one that was prepared, the first of the ring in the data directory. The keys that were there are accepted for `keep_ms` more at least
/// (0: no longer); those whose time is over go. There must be a secret that was made here.
pub fn rotate(data_dir: &Path, auth: &Auth, keep_ms: u64, now: u64) -> Result<Rotated> {
    let none = Auth { retired_keys: Vec::new(), ..auth.clone() };
    let was = kept(data_dir, &none)?.unwrap_or_default();
    let ids: Vec<String> = was.iter().map(|key| key.id.clone()).collect();
    let next = prepared(data_dir)?.unwrap_or_else(fresh);
    let was: Vec<SigningKey> = was.into_iter().filter(|key| key.id != next.id).collect();
    let retire = |key: SigningKey| SigningKey { until: Some(key.until.unwrap_or(now.saturating_add(keep_ms))), ..key };
    let old = was.into_iter().map(retire).filter(|key| keep_ms > 0 && key.until.is_some_and(|until| until > now));
    let mut ring: Vec<SigningKey> = std::iter::once(next).chain(old).take(KEYS_MAX).collect();
    put(data_dir, &ring)?;
    let dropped = ids.into_iter().filter(|id| !ring.iter().any(|key| key.id == *id)).collect();
    ring.extend(retired(auth));
    Ok(Rotated { ring, dropped })
}

fn put(data_dir: &Path, ring: &[SigningKey]) -> Result<()> {
    let dir = secrets::dir(data_dir);
    secrets::replace(&dir.join(RING_FILE), &text(ring))?;
    // From now on the ring counts; also when this is not done any more.
    match std::fs::remove_file(dir.join(SIGNING_FILE)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(SecretsError::Io { path: dir.join(SIGNING_FILE), error }),
        _ => Ok(()),
    }
}

fn text(ring: &[SigningKey]) -> String {
    let until = |key: &SigningKey| key.until.map_or("-".into(), |until| until.to_string());
    ring.iter().map(|key| format!("{} {} {}\n", key.id, key.secret.expose(), until(key))).collect()
}

fn read(path: &Path) -> Result<Option<Vec<SigningKey>>> {
    let Some(text) = secrets::read_text(path)? else { return Ok(None) };
    let ring: Option<Vec<SigningKey>> = text.lines().map(parse).collect();
    let ring = ring.filter(|ring| ring.first().is_some_and(|key| key.until.is_none()) && ring.len() <= KEYS_MAX);
    ring.map(Some).ok_or_else(|| SecretsError::Malformed { path: path.into() })
}

fn parse(line: &str) -> Option<SigningKey> {
    let [id, secret, until] = line.split(' ').collect::<Vec<_>>().try_into().ok()?;
    let until = if until == "-" { None } else { Some(until.parse().ok()?) };
    let plain = |s: &str, min: usize| s.len() >= min && s.bytes().all(|b| b.is_ascii_graphic());
    (plain(id, 1) && plain(secret, SECRET_BYTES_MIN)).then(|| SigningKey { id: id.into(), secret: secret.to_owned().into(), until })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const NOW: u64 = 1_900_000_000_000;

    #[test]
    fn a_rotation_keeps_what_was_there_as_long_as_asked_and_survives_a_restart() {
        let tmp = tempfile::tempdir().unwrap();
        let auth = Auth::default();
        let first = secrets::load_or_make(tmp.path(), &auth).unwrap().signing;
        assert_eq!((first.len(), first[0].id.as_str(), first[0].until), (1, "1", None));
        let second = rotate(tmp.path(), &auth, 1_000, NOW).unwrap();
        assert_eq!(second.ring.len(), 2);
        assert_eq!((&second.ring[1].secret, second.ring[1].until), (&first[0].secret, Some(NOW + 1_000)));
        assert!(second.ring[0].secret != first[0].secret && second.ring[0].id != "1" && second.ring[0].until.is_none());
        assert_eq!(secrets::load_or_make(tmp.path(), &auth).unwrap().signing, second.ring);
        assert!(!secrets::dir(tmp.path()).join(SIGNING_FILE).exists());
        let mode = std::fs::metadata(secrets::dir(tmp.path()).join(RING_FILE)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        // The first one's time is over, the second's begins to run.
        let third = rotate(tmp.path(), &auth, 1_000, NOW + 1_000).unwrap();
        assert_eq!((third.ring.len(), third.dropped.as_slice()), (2, &["1".to_string()][..]));
        let last = rotate(tmp.path(), &auth, 0, NOW + 1_001).unwrap();
        assert_eq!((last.ring.len(), last.dropped.len()), (1, 2), "somebody may have read the secrets: none of them counts");
    }

    #[test]
    fn a_prepared_key_is_accepted_and_signs_only_after_the_rotation_on_every_node_the_same() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let auth = Auth::default();
        let first = secrets::load_or_make(one.path(), &auth).unwrap().signing;
        assert_eq!(prepared(one.path()).unwrap(), None);
        let ring = prepare(one.path(), &auth).unwrap();
        assert_eq!((&ring[0], ring.len(), ring[1].until), (&first[0], 2, None));
        assert_eq!(prepare(one.path(), &auth).unwrap(), ring, "it is prepared already");
        assert_eq!(prepared(one.path()).unwrap().as_ref(), Some(&ring[1]));
        // The file is copied.
        secrets::load_or_make(other.path(), &auth).unwrap();
        secrets::replace(&secrets::dir(other.path()).join(RING_FILE), &text(&ring)).unwrap();
        for (node, at) in [(&one, NOW), (&other, NOW + 5)] {
            let rotated = rotate(node.path(), &auth, 1_000, at).unwrap();
            assert_eq!((&rotated.ring[0], rotated.ring.len(), rotated.ring[1].until), (&ring[1], 2, Some(at + 1_000)));
            assert_eq!((prepared(node.path()).unwrap(), rotated.dropped.len()), (None, 0));
        }
        // Somebody read the first: nothing but the prepared one is left.
        let ring = prepare(one.path(), &auth).unwrap();
        let rotated = rotate(one.path(), &auth, 0, NOW + 10).unwrap();
        assert_eq!((rotated.ring.len(), &rotated.ring[0]), (1, &ring[1]));
    }

    #[test]
    fn a_ring_has_an_end() {
        let tmp = tempfile::tempdir().unwrap();
        secrets::load_or_make(tmp.path(), &Auth::default()).unwrap();
        for n in 0..40 {
            let rotated = rotate(tmp.path(), &Auth::default(), u64::MAX, NOW + n).unwrap();
            assert!(rotated.ring.len() <= KEYS_MAX);
        }
        assert_eq!(kept(tmp.path(), &Auth::default()).unwrap().unwrap().len(), KEYS_MAX, "and a file that can be read again");
    }

    #[test]
    fn a_configured_secret_stands_before_its_retired_ones() {
        let auth = Auth { secret: "s".repeat(32), retired_keys: vec![format!("0:{}", "o".repeat(32))], ..Auth::default() };
        let ids: Vec<String> = configured(&auth).unwrap().into_iter().map(|key| key.id).collect();
        assert_eq!(ids, ["1", "0"]);
        assert!(configured(&Auth::default()).is_none());
    }

    #[test]
    fn a_strange_ring_is_refused_and_kept() {
        let tmp = tempfile::tempdir().unwrap();
        secrets::load_or_make(tmp.path(), &Auth::default()).unwrap();
        rotate(tmp.path(), &Auth::default(), 1, NOW).unwrap();
        let path = secrets::dir(tmp.path()).join(RING_FILE);
        let secret = "x".repeat(32);
        for bad in
            ["".into(), format!("1 {secret}"), format!("1 {secret} 5\n"), "1 short -\n".into(), format!("1 {secret} -\n2 {secret} x\n")]
        {
            std::fs::write(&path, &bad).unwrap();
            assert!(matches!(kept(tmp.path(), &Auth::default()), Err(SecretsError::Malformed { .. })), "{bad:?}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), bad);
        }
    }
}
