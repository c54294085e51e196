//! Argon2id on threads of its own: hashing takes tens of milliseconds of a core, which no actor or web worker may spend.
//!
//! The queue holds [`WAITING_MAX`] jobs; a job that finds it full is refused with `busy` and nothing is done. A check of a
//! password without a stored hash (an unknown account) runs against a dummy made with the same cost, so it takes as long.

use crate::config;
use crate::error::{ApiError, Code};
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use parking_lot::Mutex;
use std::sync::{Arc, mpsc};
use tokio::sync::oneshot;

/// Jobs that may wait. At 25 ms a hash the last of them waits under two seconds: longer than that a client has given up.
pub const WAITING_MAX: usize = 64;

/// Characters of a password at least (NIST SP 800-63B asks for 8 or more) and at most (a bound on what is hashed).
pub const LENGTH: std::ops::RangeInclusive<usize> = 8..=128;

/// The pool. Clones share it; its threads end when the last clone is gone.
#[derive(Clone)]
pub struct Passwords {
    jobs: mpsc::SyncSender<Job>,
    params: Params,
}

enum Job {
    Hash(String, oneshot::Sender<Result<String, ApiError>>),
    /// Without a stored hash the answer is always false, after the same work.
    Check(String, Option<String>, oneshot::Sender<Result<bool, ApiError>>),
}

impl Passwords {
    /// Starts the threads. Costs below what argon2 can do are raised to it.
    pub fn new(config: &config::Auth) -> Passwords {
        let params = Params::new(config.argon2_memory_kib.max(Params::MIN_M_COST), config.argon2_passes.max(1), 1, None)
            .expect("memory and passes are in range, one lane needs no more");
        let (jobs, queue) = mpsc::sync_channel(WAITING_MAX);
        let queue = Arc::new(Mutex::new(queue));
        for n in 0..config.hash_threads.max(1) {
            let (queue, params) = (queue.clone(), params.clone());
            let spawned = std::thread::Builder::new().name(format!("hash-{n}")).spawn(move || work(&queue, params));
            // Without this thread the others, or `busy` and `unavailable`, answer.
            if let Err(error) = spawned {
                tracing::error!(%error, "no thread for hashing passwords");
            }
        }
        Passwords { jobs, params }
    }

    /// Whether a new password may be used. Only its length is judged.
    pub fn acceptable(password: &str) -> Result<(), ApiError> {
        if LENGTH.contains(&password.chars().count()) {
            Ok(())
        } else {
            Err(ApiError::new(Code::Invalid, "a password has 8 to 128 characters"))
        }
    }

    /// A new PHC string of the password.
    pub async fn hash(&self, password: String) -> Result<String, ApiError> {
        let (answer, result) = oneshot::channel();
        self.submit(Job::Hash(password, answer))?;
        result.await.map_err(|_| gone())?
    }

    /// Whether `stored` is a hash of the password; false, after as much work, when there is none, or an empty one (of a bot, say).
    pub async fn check(&self, password: String, stored: Option<String>) -> Result<bool, ApiError> {
        let (answer, result) = oneshot::channel();
        self.submit(Job::Check(password, stored, answer))?;
        result.await.map_err(|_| gone())?
    }

    /// Whether a stored hash was made with another cost than the one in use.
    pub fn outdated(&self, stored: &str) -> bool {
        let cost = |h: &PasswordHash| Params::try_from(h).map(|p| (p.m_cost(), p.t_cost(), p.p_cost())).ok();
        let ours = Some((self.params.m_cost(), self.params.t_cost(), self.params.p_cost()));
        PasswordHash::new(stored).ok().as_ref().and_then(cost) != ours
    }

    fn submit(&self, job: Job) -> Result<(), ApiError> {
        self.jobs.try_send(job).map_err(|e| match e {
            mpsc::TrySendError::Full(_) => {
                ApiError::after(Code::Busy, "too many passwords are waiting to be checked", std::time::Duration::from_secs(1))
            }
            mpsc::TrySendError::Disconnected(_) => gone(),
        })
    }
}

fn gone() -> ApiError {
    ApiError::new(Code::Unavailable, "the password threads have ended")
}

fn work(queue: &Mutex<mpsc::Receiver<Job>>, params: Params) {
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = |password: &str| -> Result<String, ApiError> {
        PasswordHasher::<PasswordHash>::hash_password(&argon, password.as_bytes()).map(|h| h.to_string()).map_err(|error| {
            tracing::error!(%error, "a password could not be hashed");
            ApiError::new(Code::Internal, "the password could not be hashed")
        })
    };
    let dummy = hash("no account has this password").unwrap_or_default();
    loop {
        // The lock is held while waiting: one idle thread waits for a job, the others for the lock.
        let Ok(job) = queue.lock().recv() else { return };
        // Whoever asked may have gone away meanwhile; then nobody needs the work.
        match job {
            Job::Hash(_, answer) if answer.is_closed() => {}
            Job::Check(_, _, answer) if answer.is_closed() => {}
            Job::Hash(password, answer) => drop(answer.send(hash(&password))),
            Job::Check(password, stored, answer) => {
                let stored = stored.filter(|hash| !hash.is_empty());
                let known = stored.is_some();
                let same = verify(&argon, &password, stored.as_deref().unwrap_or(&dummy));
                drop(answer.send(Ok(same && known)));
            }
        }
    }
}

fn verify(argon: &Argon2<'_>, password: &str, stored: &str) -> bool {
    PasswordHash::new(stored).is_ok_and(|h| argon.verify_password(password.as_bytes(), &h).is_ok())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn cheap() -> config::Auth {
        config::Auth { argon2_memory_kib: 8, argon2_passes: 1, ..Default::default() }
    }

    #[actix_rt::test]
    async fn a_hash_is_argon2id_and_fits_only_its_password() {
        let pool = Passwords::new(&cheap());
        let stored = pool.hash("correct horse".into()).await.unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{stored}");
        assert!(pool.check("correct horse".into(), Some(stored.clone())).await.unwrap());
        assert!(!pool.check("correct horsf".into(), Some(stored.clone())).await.unwrap());
        assert!(!pool.check("correct horse".into(), Some("damaged".into())).await.unwrap());
        assert!(!pool.check("no account has this password".into(), None).await.unwrap(), "the dummy is nobody's password");
        assert_ne!(stored, pool.hash("correct horse".into()).await.unwrap(), "salted");
        assert!(!pool.outdated(&stored));
        assert!(Passwords::new(&config::Auth { argon2_passes: 2, ..cheap() }).outdated(&stored));
    }

    #[actix_rt::test]
    async fn a_full_queue_answers_busy_and_not_with_silence() {
        // A cost that keeps the only thread busy while the queue fills.
        let pool = Passwords::new(&config::Auth { argon2_memory_kib: 32 * 1024, argon2_passes: 1, ..Default::default() });
        let all = futures_util::future::join_all((0..WAITING_MAX + 8).map(|_| pool.check("12345678".into(), None))).await;
        let refused: Vec<_> = all.iter().filter_map(|r| r.as_ref().err()).collect();
        assert!(!refused.is_empty() && refused.len() <= 8, "{} refused", refused.len());
        assert!(refused.iter().all(|e| e.code == Code::Busy && e.retry_after_ms.is_some()));
        assert!(all.iter().flatten().all(|same| !same));
    }

    #[test]
    fn the_length_is_counted_in_characters() {
        assert!(Passwords::acceptable("1234567").is_err());
        assert!(Passwords::acceptable("ääääääää").is_ok());
        assert!(Passwords::acceptable(&"ä".repeat(128)).is_ok());
        assert!(Passwords::acceptable(&"a".repeat(129)).is_err());
    }
}
