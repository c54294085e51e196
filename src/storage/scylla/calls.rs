//! How requests reach the database: bounded in number and time, repeated where that is safe, refused at once while it is down.
//!
//! What became of a request is one of three: it was answered; nothing was done (`Down`, `Busy`); or it is not known (`InDoubt`), which
//! for a read is the same as nothing. Only writes that carry their own time stamp are repeated. A compare-and-set never is: whoever
//! asked must find out, or do it again with a token of its own.

use super::Core;
use super::breaker::Breaker;
use crate::storage::{Result, StorageError};
use parking_lot::Mutex;
use scylla::deserialize::row::DeserializeRow;
use scylla::errors::{DbError, ExecutionError, RequestAttemptError, WriteType};
use scylla::response::PagingState;
use scylla::response::query_result::{QueryResult, QueryRowsResult};
use scylla::serialize::row::SerializeRow;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlValue, Row};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};

/// The first pause before a write is repeated; each further one is twice as long.
const AGAIN: Duration = Duration::from_millis(20);

/// How many requests of a kind are under way, and how many wait.
pub(super) struct Gate {
    under_way: Semaphore,
    waiting: AtomicUsize,
    waiting_max: usize,
    what: &'static str,
}

impl Gate {
    pub(super) fn new(what: &'static str, under_way: usize, waiting_max: usize) -> Self {
        Gate { under_way: Semaphore::new(under_way.max(1)), waiting: AtomicUsize::new(0), waiting_max, what }
    }

    /// Lets a request through, after a wait of at most `limit`.
    async fn enter(&self, limit: Duration) -> Result<SemaphorePermit<'_>> {
        if let Ok(permit) = self.under_way.try_acquire() {
            return Ok(permit);
        }
        struct Waits<'a>(&'a AtomicUsize);
        impl Drop for Waits<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Relaxed);
            }
        }
        let before = self.waiting.fetch_add(1, Relaxed);
        let _waits = Waits(&self.waiting);
        if before >= self.waiting_max {
            return Err(StorageError::Busy(self.what));
        }
        match tokio::time::timeout(limit, self.under_way.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(StorageError::Busy(self.what)),
        }
    }

    /// Requests that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }
}

/// What an error says about the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It was not carried out, for want of nodes.
    Refused,
    /// It may have been carried out, or may still be.
    Doubt,
    /// The same, and the database is well: others were writing the same row.
    Contention,
    /// It was refused for what it is.
    Fault,
}

fn kind(error: &ExecutionError) -> Kind {
    match error {
        ExecutionError::EmptyPlan | ExecutionError::ConnectionPoolError(_) | ExecutionError::PrepareError(_) => Kind::Refused,
        ExecutionError::LastAttemptError(attempt) => kind_of_attempt(attempt),
        ExecutionError::BadQuery(_) | ExecutionError::UseKeyspaceError(_) => Kind::Fault,
        _ => Kind::Doubt,
    }
}

fn kind_of_attempt(error: &RequestAttemptError) -> Kind {
    match error {
        RequestAttemptError::UnableToAllocStreamId => Kind::Refused,
        RequestAttemptError::SerializationError(_) | RequestAttemptError::CqlRequestSerialization(_) => Kind::Fault,
        RequestAttemptError::DbError(error, _) => match error {
            // Said before anything is sent to a replica.
            DbError::Unavailable { .. } | DbError::IsBootstrapping | DbError::RateLimitReached { .. } => Kind::Refused,
            DbError::WriteTimeout { write_type: WriteType::Cas, .. } => Kind::Contention,
            DbError::SyntaxError
            | DbError::Invalid
            | DbError::AlreadyExists { .. }
            | DbError::FunctionFailure { .. }
            | DbError::AuthenticationError
            | DbError::Unauthorized
            | DbError::ConfigError
            | DbError::ProtocolError => Kind::Fault,
            _ => Kind::Doubt,
        },
        _ => Kind::Doubt,
    }
}

/// A row that does not have the shape that was asked for.
pub(super) fn odd(error: impl std::fmt::Display) -> StorageError {
    StorageError::Damaged(format!("an answer of the database: {error}").into())
}

/// Nothing of what matters was written, whatever became of what came before it.
pub(super) fn nothing_written(error: StorageError) -> StorageError {
    match error {
        StorageError::InDoubt(why) => StorageError::Down(why),
        other => other,
    }
}

impl Core {
    pub(super) fn breaker(options: &super::ScyllaOptions) -> Mutex<Breaker> {
        Mutex::new(Breaker::new(options.down_after, options.down_for, options.request_timeout * 2))
    }

    fn admit(&self) -> Result<()> {
        match self.breaker.lock().admit(Instant::now()) {
            true => Ok(()),
            false => Err(StorageError::Down("it did not answer a moment ago".into())),
        }
    }

    /// Whether requests are let through now; one that is counts as no trial.
    pub(super) fn is_down(&self) -> bool {
        self.breaker.lock().is_open()
    }

    /// One request, once. What went wrong, and how.
    async fn once<T>(
        &self,
        limit: Duration,
        request: impl Future<Output = std::result::Result<T, ExecutionError>>,
    ) -> std::result::Result<T, (Kind, String)> {
        let began = Instant::now();
        let answer = tokio::time::timeout(limit, request).await;
        let (now, mut breaker) = (Instant::now(), self.breaker.lock());
        match answer {
            Ok(Ok(value)) => {
                breaker.succeeded(now);
                Ok(value)
            }
            Ok(Err(error)) => {
                let kind = kind(&error);
                match kind {
                    Kind::Refused | Kind::Doubt => breaker.failed(now),
                    Kind::Contention | Kind::Fault => breaker.succeeded(now),
                }
                Err((kind, error.to_string()))
            }
            Err(_) => {
                breaker.timed_out(began, now);
                Err((Kind::Doubt, format!("no answer within {} ms", limit.as_millis())))
            }
        }
    }

    /// A write that may be done again: it carries its own time stamp. Repeated at most `retries_max` times, within one request's time.
    async fn repeated<T, F>(&self, request: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, ExecutionError>>,
    {
        let _permit = self.writes.enter(self.options.request_timeout).await?;
        let deadline = Instant::now() + self.options.request_timeout;
        let (mut doubt, mut pause, mut last) = (false, AGAIN, String::new());
        for attempt in 0..=self.options.retries_max {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            if let Err(down) = self.admit() {
                return Err(if doubt { StorageError::InDoubt(last.into()) } else { down });
            }
            // A database node that stands still must not cost all of the time: another may answer.
            let limit = if attempt < self.options.retries_max { left / 2 } else { left };
            let (kind, why) = match self.once(limit, request()).await {
                Ok(value) => return Ok(value),
                Err(failed) => failed,
            };
            // What an earlier attempt has done is not undone by a refusal of this one.
            doubt |= matches!(kind, Kind::Doubt | Kind::Contention);
            if kind == Kind::Fault {
                return Err(if doubt { StorageError::InDoubt(why.into()) } else { StorageError::Failed(why.into()) });
            }
            last = why;
            if attempt < self.options.retries_max {
                tokio::time::sleep(pause.min(deadline.saturating_duration_since(Instant::now()))).await;
                pause *= 2;
            }
        }
        Err(if doubt { StorageError::InDoubt(last.into()) } else { StorageError::Down(last.into()) })
    }

    /// One write with its own time stamp.
    pub(super) async fn write(&self, statement: &PreparedStatement, values: impl SerializeRow) -> Result<()> {
        self.repeated(|| self.session.execute_unpaged(statement, &values)).await.map(drop)
    }

    /// Writes to one partition: all or none, each with its own time stamp.
    pub(super) async fn write_batch(&self, writes: Vec<(PreparedStatement, Vec<CqlValue>)>) -> Result<()> {
        if let [(statement, values)] = &writes[..] {
            return self.write(statement, values).await;
        }
        let (statements, values): (Vec<_>, Vec<_>) = writes.into_iter().unzip();
        if statements.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::new(BatchType::Unlogged);
        batch.set_is_idempotent(true);
        if crate::sabotage::is("one_replica") {
            batch.set_consistency(scylla::statement::Consistency::LocalOne);
        }
        statements.into_iter().for_each(|statement| batch.append_statement(statement));
        self.repeated(|| self.session.batch(&batch, &values)).await.map(drop)
    }

    /// A compare-and-set: whether it was applied. Never repeated.
    pub(super) async fn compare_and_set(&self, statement: &PreparedStatement, values: impl SerializeRow) -> Result<bool> {
        let _permit = self.writes.enter(self.options.request_timeout).await?;
        self.admit()?;
        // Several rounds between replicas, and others' rounds about the same row before them.
        let limit = self.options.request_timeout * 2;
        let answer = self.once(limit, self.session.execute_unpaged(statement, &values)).await.map_err(|(kind, why)| match kind {
            Kind::Refused => StorageError::Down(why.into()),
            Kind::Doubt | Kind::Contention => StorageError::InDoubt(why.into()),
            Kind::Fault => StorageError::Failed(why.into()),
        })?;
        applied(answer)
    }

    /// A page of an answer.
    async fn page(
        &self,
        statement: &PreparedStatement,
        values: &impl SerializeRow,
        from: PagingState,
    ) -> Result<(QueryRowsResult, ControlFlow<(), PagingState>)> {
        let _permit = self.reads.enter(self.options.request_timeout).await?;
        self.admit()?;
        let request = self.session.execute_single_page(statement, values, from);
        let (answer, next) = self.once(self.options.request_timeout, request).await.map_err(|(kind, why)| match kind {
            Kind::Fault => StorageError::Failed(why.into()),
            _ => StorageError::Down(why.into()),
        })?;
        Ok((answer.into_rows_result().map_err(odd)?, next.into_paging_control_flow()))
    }

    /// The rows of a query, in its order, at most `limit`.
    pub(super) async fn select<R>(&self, statement: &PreparedStatement, values: impl SerializeRow, limit: usize) -> Result<Vec<R>>
    where
        R: for<'a> DeserializeRow<'a, 'a>,
    {
        let (mut rows, mut from) = (Vec::new(), PagingState::start());
        loop {
            let (page, next) = self.page(statement, &values, from).await?;
            for row in page.rows::<R>().map_err(odd)? {
                if rows.len() == limit {
                    return Ok(rows);
                }
                rows.push(row.map_err(odd)?);
            }
            match next {
                ControlFlow::Continue(state) => from = state,
                ControlFlow::Break(()) => return Ok(rows),
            }
        }
    }

    /// The one row of a query.
    pub(super) async fn select_one<R>(&self, statement: &PreparedStatement, values: impl SerializeRow) -> Result<Option<R>>
    where
        R: for<'a> DeserializeRow<'a, 'a>,
    {
        Ok(self.select(statement, values, 1).await?.pop())
    }
}

/// The column `[applied]`, by its name: what stands beside it differs between databases.
fn applied(answer: QueryResult) -> Result<bool> {
    let rows = answer.into_rows_result().map_err(odd)?;
    let at = rows.column_specs().get_by_name("[applied]").map(|(at, _)| at);
    let row = rows.first_row::<Row>().map_err(odd)?;
    match at.and_then(|at| row.columns.into_iter().nth(at)).flatten() {
        Some(CqlValue::Boolean(applied)) => Ok(applied),
        _ => Err(odd("a compare-and-set without [applied]")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scylla::statement::Consistency;

    #[tokio::test]
    async fn a_gate_lets_so_many_through_and_so_many_wait() {
        let gate = Gate::new("full", 1, 1);
        let long = Duration::from_secs(60);
        let inside = gate.enter(long).await.expect("there is room");
        {
            let waits = gate.enter(long);
            tokio::pin!(waits);
            assert!(futures_util::poll!(&mut waits).is_pending());
            assert_eq!(gate.waiting(), 1);
            let refused = gate.enter(long).await;
            assert!(matches!(refused, Err(StorageError::Busy("full"))), "nobody more waits");
            drop(inside);
            drop(waits.await.expect("its turn"));
        }
        let _inside = gate.enter(long).await.expect("there is room");
        assert!(matches!(gate.enter(Duration::from_millis(1)).await, Err(StorageError::Busy("full"))), "a wait has an end");
        assert_eq!(gate.waiting(), 0);
    }

    #[test]
    fn only_what_was_never_sent_counts_as_not_done() {
        let db = |error| kind(&ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, String::new())));
        let consistency = Consistency::LocalQuorum;
        assert_eq!(db(DbError::Unavailable { consistency, required: 2, alive: 1 }), Kind::Refused);
        assert_eq!(kind(&ExecutionError::EmptyPlan), Kind::Refused);
        let timeout = |write_type| DbError::WriteTimeout { consistency, received: 1, required: 2, write_type };
        assert_eq!(db(timeout(WriteType::UnloggedBatch)), Kind::Doubt);
        assert_eq!(db(timeout(WriteType::Cas)), Kind::Contention);
        // A coordinator that is overloaded may have sent it to some.
        assert_eq!(db(DbError::Overloaded), Kind::Doubt);
        assert_eq!(db(DbError::ServerError), Kind::Doubt);
        assert_eq!(db(DbError::Unauthorized), Kind::Fault);
    }
}
