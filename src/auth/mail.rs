//! Mail to people: a bounded queue, attempts with pauses, and what hands a mail over ([`Transport`]).
//!
//! Guarantees: [`Mailer::send`] never waits, neither for a mail server nor for a disk; everything runs on a thread of its own. At most
//! `mail.waiting_max` mails wait, and one more is refused; at most [`AT_ONCE`] are handed over at the same time, each within
//! `mail.timeout_ms`. A mail that cannot be handed over now is tried again after pauses that double, `mail.attempts_max` times in all, then
//! dropped and logged without its text and address. Mails that wait when the process ends are lost: links are asked for again.

mod outbox;
mod smtp;
pub mod texts;

use crate::config::{self, MailTransport};
use crate::error::{ApiError, Code};
use crate::telemetry::metrics;
use async_trait::async_trait;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Mails handed over at the same time: one slow mail server must not hold up everything, and none is to be flooded.
const AT_ONCE: usize = 4;
/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(15 * 60);

/// A mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// To this address.
    pub to: String,
    /// One line.
    pub subject: String,
    /// Plain text.
    pub text: String,
}

/// Why a mail was not handed over.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// It may be taken later.
    #[error("{0}")]
    Later(String),
    /// It will never be taken.
    #[error("{0}")]
    Never(String),
}

/// What takes a mail out of this process: a mail server, a directory, or whatever else an embedder brings.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Hands one mail over. After `Ok` it is somebody else's; the same mail may come again after an error. May be dropped while it waits.
    async fn deliver(&self, mail: &Mail) -> Result<(), MailError>;
}

/// The queue. Clones share it; its thread ends with the last clone.
#[derive(Clone)]
pub struct Mailer(Option<Arc<Shared>>);

struct Shared {
    transport: Arc<dyn Transport>,
    places: Arc<Semaphore>,
    at_once: Arc<Semaphore>,
    timeout: Duration,
    attempts_max: u32,
    pause: Duration,
    thread: Handle,
    /// Dropped with this, which ends the thread.
    _until: oneshot::Sender<()>,
}

/// A place in the queue: of a mail, or of work that may end in one.
pub struct Place {
    shared: Arc<Shared>,
    permit: OwnedSemaphorePermit,
}

impl Mailer {
    /// As configured. `Err` says why a mailer cannot be had.
    pub fn new(config: &config::Mail, data_dir: &Path) -> Result<Mailer, String> {
        let transport: Arc<dyn Transport> = match config.transport {
            MailTransport::None => return Ok(Mailer(None)),
            MailTransport::File => Arc::new(outbox::Outbox::new(config, data_dir)?),
            MailTransport::Smtp => Arc::new(smtp::Smtp::new(config)?),
        };
        Mailer::over(transport, config)
    }

    /// Over any transport.
    pub fn over(transport: Arc<dyn Transport>, config: &config::Mail) -> Result<Mailer, String> {
        let failed = |e: std::io::Error| format!("no thread for mail: {e}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (until, ended) = oneshot::channel::<()>();
        let thread = runtime.handle().clone();
        let work = move || {
            // The sender is never used: it is dropped with the last clone.
            let _ = runtime.block_on(ended);
        };
        std::thread::Builder::new().name("mail".into()).spawn(work).map_err(failed)?;
        Ok(Mailer(Some(Arc::new(Shared {
            transport,
            places: Arc::new(Semaphore::new(config.waiting_max)),
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
            timeout: Duration::from_millis(config.timeout_ms),
            attempts_max: config.attempts_max,
            pause: Duration::from_millis(config.retry_ms),
            thread,
            _until: until,
        }))))
    }

    /// Whether mail goes anywhere at all.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// A place in the queue. `Busy` when it is full, `Forbidden` when no mail is sent.
    pub fn place(&self) -> Result<Place, ApiError> {
        let shared = self.0.clone().ok_or_else(|| ApiError::new(Code::Forbidden, "this server sends no mail; ask its operator"))?;
        match shared.places.clone().try_acquire_owned() {
            Ok(permit) => Ok(Place { shared, permit }),
            Err(_) => {
                metrics().mails_total.of("refused").inc();
                Err(ApiError::after(Code::Busy, "too many mails are waiting to be sent", Duration::from_secs(10)))
            }
        }
    }

    /// Sends a mail if there is a place for it and mail is sent at all: for notices, which nobody waits for.
    pub fn send(&self, mail: Mail) {
        if let Some(place) = self.is_on().then(|| self.place().ok()).flatten() {
            place.run(async { Some(mail) });
        }
    }
}

impl Place {
    /// Runs the work on the mail thread, and sends what it gives. The caller goes on at once and learns nothing of it.
    pub fn run(self, work: impl Future<Output = Option<Mail>> + Send + 'static) {
        let Place { shared, permit } = self;
        shared.thread.clone().spawn(async move {
            match work.await {
                Some(mail) => shared.hand_over(&mail).await,
                None => drop(metrics().mails_total.of("none").inc()),
            }
            drop(permit);
        });
    }
}

impl Shared {
    async fn hand_over(&self, mail: &Mail) {
        let mut pause = self.pause;
        for attempt in 1..=self.attempts_max {
            match self.attempt(mail).await {
                Ok(()) => {
                    metrics().mails_total.of("sent").inc();
                    return;
                }
                Err(MailError::Later(error)) if attempt < self.attempts_max => {
                    metrics().mails_total.of("retried").inc();
                    tracing::info!(%error, attempt, "a mail could not be handed over; it is tried again");
                }
                Err(error) => {
                    metrics().mails_total.of("failed").inc();
                    tracing::warn!(%error, attempt, "a mail was given up");
                    return;
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn attempt(&self, mail: &Mail) -> Result<(), MailError> {
        // Never closed; were it, the mail goes without having waited.
        let _turn = self.at_once.acquire().await;
        let late = |_| MailError::Later("the mail server did not answer in time".into());
        tokio::time::timeout(self.timeout, self.transport.deliver(mail)).await.map_err(late)?
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::collections::VecDeque;

    /// Answers as the test says, in this order, and then well.
    #[derive(Default)]
    struct Script {
        answers: Mutex<VecDeque<Result<(), MailError>>>,
        seen: Mutex<Vec<String>>,
        hang: bool,
    }

    #[async_trait]
    impl Transport for Script {
        async fn deliver(&self, mail: &Mail) -> Result<(), MailError> {
            self.seen.lock().push(mail.to.clone());
            if self.hang {
                std::future::pending::<()>().await;
            }
            self.answers.lock().pop_front().unwrap_or(Ok(()))
        }
    }

    fn quick() -> config::Mail {
        config::Mail { retry_ms: 1, timeout_ms: 100, waiting_max: 3, attempts_max: 3, ..Default::default() }
    }

    fn mail(to: &str) -> Mail {
        Mail { to: to.into(), subject: "s".into(), text: "t".into() }
    }

    async fn until(what: impl Fn() -> bool) {
        tokio::time::timeout(Duration::from_secs(10), async {
            while !what() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await
        .expect("in time");
    }

    #[actix_rt::test]
    async fn a_mail_is_tried_again_until_it_is_taken_or_given_up() {
        let script = Arc::new(Script::default());
        let later = || Err(MailError::Later("busy".into()));
        script.answers.lock().extend([
            later(),
            later(),
            Ok(()),
            Err(MailError::Never("no such mailbox".into())),
            later(),
            later(),
            later(),
        ]);
        let mailer = Mailer::over(script.clone(), &quick()).unwrap();
        for (to, attempts) in [("a@x", 3), ("b@x", 1), ("c@x", 3), ("d@x", 1)] {
            mailer.send(mail(to));
            until(|| script.seen.lock().iter().filter(|seen| *seen == to).count() >= attempts).await;
            // Its place is free again, so that nothing of it goes on.
            until(|| mailer.0.as_ref().unwrap().places.available_permits() == 3).await;
            assert_eq!(script.seen.lock().iter().filter(|seen| *seen == to).count(), attempts, "{to}");
        }
    }

    #[actix_rt::test]
    async fn a_mail_server_that_hangs_holds_nobody_up_and_the_queue_has_an_end() {
        let script = Arc::new(Script { hang: true, ..Script::default() });
        let mailer = Mailer::over(script.clone(), &config::Mail { retry_ms: 60_000, ..quick() }).unwrap();
        let begun = std::time::Instant::now();
        for n in 0..3 {
            mailer.send(mail(&n.to_string()));
        }
        assert_eq!(mailer.place().err().unwrap().code, Code::Busy);
        assert!(begun.elapsed() < Duration::from_millis(100));
        until(|| script.seen.lock().len() == 3).await;
    }
}
