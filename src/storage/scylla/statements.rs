//! Every statement, prepared once. All are at LOCAL_QUORUM; compare-and-sets decide at LOCAL_SERIAL.

use super::{OpenError, ScyllaOptions};
use scylla::client::execution_profile::ExecutionProfileHandle;
use scylla::client::session::Session;
use scylla::policies::retry::{DefaultRetryPolicy, FallthroughRetryPolicy};
use scylla::policies::speculative_execution::SimpleSpeculativeExecutionPolicy;
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::{Consistency, SerialConsistency};
use std::sync::Arc;

/// Rows of a page of an answer.
const PAGE_ROWS: i32 = 1_000;

/// How a statement may be treated.
#[derive(Clone, Copy)]
enum Sort {
    /// Read at a quorum; the driver may ask again.
    Read,
    /// Read what compare-and-sets have decided, those under way included.
    SerialRead,
    /// A write with a time stamp of its own: harmless when done again, which `calls` does and the driver does not.
    Write,
    /// A compare-and-set: never done again.
    Cas,
}

/// Statements about rows that lie under (kind, part, id).
pub(super) struct Rows {
    pub(super) get: PreparedStatement,
    pub(super) list: PreparedStatement,
    pub(super) list_after: PreparedStatement,
    pub(super) put: PreparedStatement,
    pub(super) remove: PreparedStatement,
    pub(super) remove_to: PreparedStatement,
}

/// See the module.
pub(super) struct Statements {
    pub(super) log_put: PreparedStatement,
    pub(super) log_range: PreparedStatement,
    pub(super) log_remove_to: PreparedStatement,
    pub(super) log_remove: PreparedStatement,
    pub(super) marks: PreparedStatement,
    pub(super) mark_committed: PreparedStatement,
    pub(super) mark_bucket: PreparedStatement,
    pub(super) mark_floor: PreparedStatement,
    pub(super) derived: Rows,
    pub(super) records: Rows,
    pub(super) cursor: PreparedStatement,
    pub(super) cursors: PreparedStatement,
    pub(super) cursor_seen: PreparedStatement,
    pub(super) cursor_delivered: PreparedStatement,
    pub(super) contact: PreparedStatement,
    pub(super) contacts: PreparedStatement,
    pub(super) contact_pending: PreparedStatement,
    pub(super) contact_settled: PreparedStatement,
    pub(super) cell: PreparedStatement,
    pub(super) cell_serial: PreparedStatement,
    pub(super) cells_of: PreparedStatement,
    pub(super) cells: PreparedStatement,
    pub(super) cells_after: PreparedStatement,
    pub(super) cell_insert: PreparedStatement,
    pub(super) cell_replace: PreparedStatement,
    pub(super) cell_remove: PreparedStatement,
}

struct Preparing<'a> {
    session: &'a Session,
    options: &'a ScyllaOptions,
    /// Asks a second node when the first takes long. For reads only: what became of a write must be known of every attempt.
    reads: ExecutionProfileHandle,
}

impl Preparing<'_> {
    async fn prepare(&self, sort: Sort, text: &str) -> Result<PreparedStatement, OpenError> {
        let text = text.replace("{data}", &self.options.keyspace).replace("{cas}", &self.options.cas_keyspace());
        let prepared = self.session.prepare(text.as_str()).await;
        let mut statement = prepared.map_err(|e| OpenError::Schema(format!("{text}: {e}")))?;
        statement.set_page_size(PAGE_ROWS);
        // How long it may take is said by `calls`, where what it means is known.
        statement.set_request_timeout(None);
        statement.set_consistency(match sort {
            Sort::SerialRead => Consistency::LocalSerial,
            Sort::Read | Sort::Write if crate::sabotage::is("one_replica") => Consistency::LocalOne,
            _ => Consistency::LocalQuorum,
        });
        statement.set_serial_consistency(Some(SerialConsistency::LocalSerial));
        if matches!(sort, Sort::Read | Sort::SerialRead) {
            statement.set_execution_profile_handle(Some(self.reads.clone()));
        }
        statement.set_is_idempotent(!matches!(sort, Sort::Cas));
        statement.set_retry_policy(Some(match sort {
            Sort::Read | Sort::SerialRead => Arc::new(DefaultRetryPolicy::new()),
            Sort::Write | Sort::Cas => Arc::new(FallthroughRetryPolicy::new()),
        }));
        Ok(statement)
    }

    async fn rows(&self, table: &str) -> Result<Rows, OpenError> {
        let of = |text: &str| text.replace("{table}", table);
        let list = "SELECT id, value FROM {data}.{table} WHERE kind = ? AND part = ?";
        let remove = "DELETE FROM {data}.{table} USING TIMESTAMP ? WHERE kind = ? AND part = ? AND id";
        Ok(Rows {
            get: self.prepare(Sort::Read, &of("SELECT value FROM {data}.{table} WHERE kind = ? AND part = ? AND id = ?")).await?,
            list: self.prepare(Sort::Read, &of(&format!("{list} LIMIT ?"))).await?,
            list_after: self.prepare(Sort::Read, &of(&format!("{list} AND id > ? LIMIT ?"))).await?,
            put: self
                .prepare(Sort::Write, &of("INSERT INTO {data}.{table} (kind, part, id, value) VALUES (?, ?, ?, ?) USING TIMESTAMP ?"))
                .await?,
            remove: self.prepare(Sort::Write, &of(&format!("{remove} = ?"))).await?,
            remove_to: self.prepare(Sort::Write, &of(&format!("{remove} < ?"))).await?,
        })
    }
}

impl Statements {
    pub(super) async fn prepare(session: &Session, options: &ScyllaOptions) -> Result<Statements, OpenError> {
        use Sort::{Cas, Read, SerialRead, Write};
        let second = SimpleSpeculativeExecutionPolicy { max_retry_count: 1, retry_interval: options.request_timeout / 4 };
        let reads = session.get_default_execution_profile_handle().pointee_to_builder();
        let reads = reads.speculative_execution_policy(Some(Arc::new(second))).build().into_handle();
        let p = Preparing { session, options, reads };
        let cell = "WHERE kind = ? AND part = ? AND id = ?";
        let cells = "SELECT id, value FROM {cas}.cells WHERE kind = ? AND part = ?";
        let contacts = "SELECT other, pending, settled, state FROM {data}.contacts WHERE user_id = ?";
        let cursors = "SELECT room, seen, seen_n, delivered FROM {data}.cursors WHERE user_id = ?";
        let log = "FROM {data}.log";
        let part = "WHERE room = ? AND bucket = ?";
        Ok(Statements {
            // One key never has two contents (rule 5), so one time stamp is enough, and a removal at it is final.
            log_put: p
                .prepare(Write, "INSERT INTO {data}.log (room, bucket, seq, epoch, value) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP 1")
                .await?,
            log_range: p.prepare(Read, &format!("SELECT seq, epoch, value {log} {part} AND seq >= ? AND seq <= ?")).await?,
            log_remove_to: p.prepare(Write, &format!("DELETE {log} USING TIMESTAMP 1 {part} AND seq < ?")).await?,
            log_remove: p.prepare(Write, &format!("DELETE {log} USING TIMESTAMP 1 {part}")).await?,
            marks: p.prepare(Read, "SELECT committed, bucket, floor FROM {data}.room_marks WHERE room = ?").await?,
            mark_committed: p.prepare(Write, "UPDATE {data}.room_marks USING TIMESTAMP ? SET committed = ? WHERE room = ?").await?,
            mark_bucket: p.prepare(Write, "UPDATE {data}.room_marks USING TIMESTAMP ? SET bucket = ? WHERE room = ?").await?,
            mark_floor: p.prepare(Write, "UPDATE {data}.room_marks USING TIMESTAMP ? SET floor = ? WHERE room = ?").await?,
            derived: p.rows("derived").await?,
            records: p.rows("records").await?,
            cursor: p.prepare(Read, &format!("{cursors} AND room = ?")).await?,
            cursors: p.prepare(Read, cursors).await?,
            cursor_seen: p
                .prepare(Write, "UPDATE {data}.cursors USING TIMESTAMP ? SET seen = ?, seen_n = ? WHERE user_id = ? AND room = ?")
                .await?,
            cursor_delivered: p
                .prepare(Write, "UPDATE {data}.cursors USING TIMESTAMP ? SET delivered = ? WHERE user_id = ? AND room = ?")
                .await?,
            contact: p.prepare(Read, &format!("{contacts} AND other = ?")).await?,
            contacts: p.prepare(Read, contacts).await?,
            contact_pending: p
                .prepare(Write, "UPDATE {data}.contacts USING TIMESTAMP ? SET pending = ? WHERE user_id = ? AND other = ?")
                .await?,
            contact_settled: p
                .prepare(Write, "UPDATE {data}.contacts USING TIMESTAMP ? SET settled = ?, state = ? WHERE user_id = ? AND other = ?")
                .await?,
            cell: p.prepare(Read, &format!("SELECT value FROM {{cas}}.cells {cell}")).await?,
            cell_serial: p.prepare(SerialRead, &format!("SELECT value FROM {{cas}}.cells {cell}")).await?,
            cells_of: p.prepare(Read, "SELECT part, value FROM {cas}.cells WHERE kind = ? AND part IN ? AND id = ?").await?,
            cells: p.prepare(Read, &format!("{cells} LIMIT ?")).await?,
            cells_after: p.prepare(Read, &format!("{cells} AND id > ? LIMIT ?")).await?,
            cell_insert: p.prepare(Cas, "INSERT INTO {cas}.cells (kind, part, id, value) VALUES (?, ?, ?, ?) IF NOT EXISTS").await?,
            cell_replace: p.prepare(Cas, &format!("UPDATE {{cas}}.cells SET value = ? {cell} IF value = ?")).await?,
            cell_remove: p.prepare(Cas, &format!("DELETE FROM {{cas}}.cells {cell} IF value = ?")).await?,
        })
    }
}
