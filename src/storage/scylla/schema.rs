//! The tables, as numbered migrations, and how several nodes apply them at once.
//!
//! Every statement can be carried out again without harm, and all nodes send them to the same database node (the one with the least host
//! id that can be reached), which carries out one after the other. So two nodes that start together do not make one table twice. What was
//! applied is noted by compare-and-set; a migration that was changed since is refused. One that is not known is a later build's: those
//! only add, so this build goes on (docs/STORAGE.md).

use super::{OpenError, ScyllaOptions};
use scylla::client::session::Session;
use scylla::policies::load_balancing::{LoadBalancingPolicy, NodeIdentifier, SingleTargetLoadBalancingPolicy};
use scylla::statement::{Consistency, SerialConsistency, Statement};
use std::sync::Arc;
use std::time::Duration;

/// Changing the schema takes long on a loaded database.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Tries of a statement: two changes at once may get into each other's way.
const TRIES: u32 = 5;

/// A step of the schema. Never changed once released.
struct Migration {
    number: u64,
    statements: &'static [&'static str],
}

/// `{data}` and `{cas}` are the keyspaces: what is written with time stamps, and what is written by compare-and-set.
const MIGRATIONS: &[Migration] = &[Migration {
    number: 1,
    statements: &[
        // The log: `value` is the row as `storage::record` writes it, with its checksum.
        "CREATE TABLE IF NOT EXISTS {data}.log (room bigint, bucket int, seq bigint, epoch bigint, value blob, \
         PRIMARY KEY ((room, bucket), seq, epoch)) WITH CLUSTERING ORDER BY (seq ASC, epoch ASC)",
        // Max-registers of a room: each column's time stamp is its value.
        "CREATE TABLE IF NOT EXISTS {data}.room_marks (room bigint PRIMARY KEY, committed bigint, bucket int, floor bigint)",
        // Rows that follow from logs, and others with one writer, by kind.
        "CREATE TABLE IF NOT EXISTS {data}.derived (kind text, part blob, id blob, value blob, PRIMARY KEY ((kind, part), id))",
        // Records that are ordered by their version.
        "CREATE TABLE IF NOT EXISTS {data}.records (kind text, part blob, id blob, value blob, PRIMARY KEY ((kind, part), id))",
        "CREATE TABLE IF NOT EXISTS {data}.cursors (user_id bigint, room bigint, seen bigint, seen_n bigint, delivered bigint, \
         PRIMARY KEY ((user_id), room))",
        // How users stand to each other, as copies of what was agreed on by compare-and-set; see `users`.
        "CREATE TABLE IF NOT EXISTS {data}.contacts (user_id bigint, other bigint, pending bigint, settled bigint, state text, \
         PRIMARY KEY ((user_id), other))",
    ],
}];

/// The first table: it says what was applied, so it is there before the first migration.
const CELLS: &str = "CREATE TABLE IF NOT EXISTS {cas}.cells (kind text, part blob, id blob, value blob, PRIMARY KEY ((kind, part), id))";

fn failed(what: &str, error: impl std::fmt::Display) -> OpenError {
    OpenError::Schema(format!("{what}: {error}"))
}

/// Makes the keyspaces and brings their tables up to date.
pub(super) async fn migrate(session: &Session, options: &ScyllaOptions) -> Result<(), OpenError> {
    let mut schema = Schema { session, options, target: None };
    schema.keyspaces().await?;
    schema.run(CELLS).await?;
    schema.agreed().await;
    for migration in MIGRATIONS {
        let text = migration.statements.join(";\n");
        match schema.noted(migration.number).await? {
            Some(was) if was == text.as_bytes() => continue,
            Some(_) => return Err(OpenError::Schema(format!("migration {} was applied with other statements", migration.number))),
            None => {}
        }
        for statement in migration.statements {
            schema.run(statement).await?;
        }
        schema.agreed().await;
        schema.note(migration.number, text.as_bytes()).await?;
        tracing::info!(migration = migration.number, keyspace = options.keyspace, "the schema was brought up to date");
    }
    Ok(())
}

struct Schema<'a> {
    session: &'a Session,
    options: &'a ScyllaOptions,
    target: Option<Arc<dyn LoadBalancingPolicy>>,
}

impl Schema<'_> {
    fn named(&self, statement: &str) -> String {
        statement.replace("{data}", &self.options.keyspace).replace("{cas}", &self.options.cas_keyspace())
    }

    /// The database node that all Hubbub nodes choose.
    fn target(&self) -> Result<Arc<dyn LoadBalancingPolicy>, OpenError> {
        let state = self.session.get_cluster_state();
        let reached = state.get_nodes_info().iter().filter(|node| node.is_connected());
        let least = reached.min_by_key(|node| node.host_id).ok_or_else(|| failed("schema", "no database node can be reached"))?;
        Ok(SingleTargetLoadBalancingPolicy::new(NodeIdentifier::HostId(least.host_id), None))
    }

    /// Carries a statement out.
    async fn run(&mut self, statement: &str) -> Result<(), OpenError> {
        let text = self.named(statement);
        let mut tries = 0;
        loop {
            tries += 1;
            let mut statement = Statement::new(&text);
            statement.set_request_timeout(Some(TIMEOUT));
            statement.set_load_balancing_policy(Some(match &self.target {
                Some(target) => target.clone(),
                None => self.target.insert(self.target()?).clone(),
            }));
            match self.session.query_unpaged(statement, ()).await {
                Ok(_) => return Ok(()),
                Err(error) if tries >= TRIES => return Err(failed("schema", error)),
                Err(error) => {
                    tracing::warn!(%error, "a change of the schema failed; trying again");
                    // The node may have gone: another is then the one.
                    self.target = None;
                    tokio::time::sleep(Duration::from_millis(200) * tries).await;
                }
            }
        }
    }

    /// Waits until all database nodes have what was made. The driver does so only after what it made itself; what another Hubbub node made
    /// a moment ago the database node that was asked has, and the next one may not.
    async fn agreed(&self) {
        if let Err(error) = self.session.await_schema_agreement().await {
            // If it matters, the next statement says so.
            tracing::warn!(%error, "the database's nodes do not agree on the schema");
        }
    }

    /// The keyspaces. Compare-and-set needs one without tablets on ScyllaDB, where those are on unless told otherwise and older
    /// versions refuse the two together; other databases do not know the word.
    async fn keyspaces(&mut self) -> Result<(), OpenError> {
        let (datacenter, copies) = (self.datacenter().await?, self.options.replication);
        let create = |name: &str| {
            let replication = format!("{{'class': 'NetworkTopologyStrategy', '{datacenter}': {copies}}}");
            format!("CREATE KEYSPACE IF NOT EXISTS {name} WITH replication = {replication}")
        };
        self.run(&create(&self.options.keyspace)).await?;
        let cas = create(&self.options.cas_keyspace());
        if self.is_scylla().await? && self.run(&format!("{cas} AND tablets = {{'enabled': false}}")).await.is_ok() {
            return Ok(());
        }
        self.run(&cas).await
    }

    /// The data centre that holds everything.
    async fn datacenter(&self) -> Result<String, OpenError> {
        if !self.options.datacenter.is_empty() {
            return Ok(self.options.datacenter.clone());
        }
        let answer = self.session.query_unpaged("SELECT data_center FROM system.local", ()).await.map_err(|e| failed("system.local", e))?;
        let rows = answer.into_rows_result().map_err(|e| failed("system.local", e))?;
        rows.single_row::<(String,)>().map(|(name,)| name).map_err(|e| failed("system.local", e))
    }

    async fn is_scylla(&self) -> Result<bool, OpenError> {
        let query = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = 'system' AND table_name = 'versions'";
        let answer = self.session.query_unpaged(query, ()).await.map_err(|e| failed("system_schema", e))?;
        Ok(answer.into_rows_result().map_err(|e| failed("system_schema", e))?.rows_num() > 0)
    }

    async fn noted(&self, number: u64) -> Result<Option<Vec<u8>>, OpenError> {
        let text = self.named("SELECT value FROM {cas}.cells WHERE kind = 'migration' AND part = ? AND id = 0x");
        let mut statement = Statement::new(text);
        statement.set_consistency(Consistency::LocalQuorum);
        let answer = self.session.query_unpaged(statement, (number.to_be_bytes(),)).await.map_err(|e| failed("migrations", e))?;
        let rows = answer.into_rows_result().map_err(|e| failed("migrations", e))?;
        rows.maybe_first_row::<(Vec<u8>,)>().map(|row| row.map(|(text,)| text)).map_err(|e| failed("migrations", e))
    }

    async fn note(&self, number: u64, text: &[u8]) -> Result<(), OpenError> {
        let insert = "INSERT INTO {cas}.cells (kind, part, id, value) VALUES ('migration', ?, 0x, ?) IF NOT EXISTS";
        let mut statement = Statement::new(self.named(insert));
        statement.set_consistency(Consistency::LocalQuorum);
        statement.set_serial_consistency(Some(SerialConsistency::LocalSerial));
        let mut tries = 0;
        // Nodes that start together get into each other's way here. All say the same, so that again is no harm.
        while let Err(error) = self.session.query_unpaged(statement.clone(), (number.to_be_bytes(), text)).await {
            tries += 1;
            if tries >= TRIES {
                return Err(failed("migrations", error));
            }
            tokio::time::sleep(Duration::from_millis(200) * tries).await;
        }
        Ok(())
    }
}
