//! The way to a store that can be used: session, schema, statements, the number of shards.

use super::*;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::statement::{Consistency, SerialConsistency};

/// The cell that says how many shards there are.
const KIND: &str = "store";
const SHARDS: &[u8] = b"shards";
/// Tries to read and write it.
const TRIES: u32 = 5;
/// How often a connection is asked whether the other side is there, and how long that may take to say so. A database node that stands still
/// takes connections all the same, and its answer to the first request is awaited without another limit: at a start twice, when the driver
/// chooses it for its own questions, and for the session's.
const ALIVE_EVERY: Duration = Duration::from_millis(1_500);
const ALIVE_WITHIN: Duration = Duration::from_millis(2_500);
/// Locks for compare-and-sets; partitions share them.
const TURNS: usize = 256;

impl Core {
    pub(super) async fn connect(options: ScyllaOptions) -> std::result::Result<Core, OpenError> {
        let session = session(&options).await?;
        schema::migrate(&session, &options).await?;
        if let Err(error) = session.refresh_metadata().await {
            // The driver tries again by itself; until then requests take a step more.
            tracing::warn!(%error, "where rows lie is not known yet");
        }
        let statements = Statements::prepare(&session, &options).await?;
        let mut core = Core {
            reads: Gate::new("too many reads wait for the database", options.in_flight_max, options.waiting_max),
            writes: Gate::new("too many writes wait for the database", options.in_flight_max, options.waiting_max),
            breaker: Core::breaker(&options),
            turns: (0..TURNS).map(|_| tokio::sync::Mutex::new(())).collect(),
            epochs: together::Together::default(),
            batches: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            shards: options.shards,
            session,
            statements,
            options,
        };
        core.shards = core.fixed_shards().await?;
        if !core.options.receiving && core.is_receiving().await? {
            return Err(OpenError::Receiving(core.options.keyspace.clone()));
        }
        Ok(core)
    }

    /// Asks for something that is there, to see whether anybody answers.
    pub(super) async fn ask_whether_it_is_there(&self) -> Result<()> {
        self.cell(KIND, SHARDS, b"").await.map(drop)
    }

    /// The number of shards, which whoever comes first decides for ever.
    pub(super) async fn fixed_shards(&self) -> std::result::Result<u32, OpenError> {
        let asked = self.options.shards.max(1);
        let mut tries = 0;
        let stored = loop {
            match self.claim(KIND, SHARDS, &asked.to_be_bytes()).await {
                Ok(stored) => break stored,
                // Nodes that start together get into each other's way here.
                Err(StorageError::InDoubt(_) | StorageError::Down(_)) if tries < TRIES => tries += 1,
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(Duration::from_millis(200) * tries).await;
        };
        let stored = stored.try_into().map(u32::from_be_bytes).map_err(|_| calls::odd("the number of shards"))?;
        let keyspace = self.options.keyspace.clone();
        if stored == asked { Ok(stored) } else { Err(OpenError::Shards { keyspace, stored, asked }) }
    }
}

pub(super) async fn session(options: &ScyllaOptions) -> std::result::Result<Session, OpenError> {
    let nodes = options.nodes.iter().map(|node| if has_port(node) { node.clone() } else { format!("{node}:{PORT}") });
    let mut balancing = DefaultPolicy::builder().token_aware(true);
    if !options.datacenter.is_empty() {
        balancing = balancing.prefer_datacenter(options.datacenter.clone());
    }
    let profile = ExecutionProfile::builder()
        .consistency(Consistency::LocalQuorum)
        .serial_consistency(Some(SerialConsistency::LocalSerial))
        .load_balancing_policy(balancing.build())
        .request_timeout(Some(options.request_timeout * 10))
        .build();
    let mut builder = SessionBuilder::new()
        .known_nodes(nodes)
        .connection_timeout(options.connect_timeout)
        .schema_agreement_interval(Duration::from_millis(100))
        // A node that is gone without a word is noticed by this.
        .keepalive_interval(ALIVE_EVERY)
        .keepalive_timeout(ALIVE_WITHIN)
        // Of the schema only where rows lie, and only of what is ours: others may have much in the same database. `connect` reads it
        // once when the tables are there, and not after each of them.
        .keyspaces_to_fetch([options.keyspace.clone(), options.cas_keyspace()])
        .fetch_full_schema_metadata(false)
        .refresh_metadata_on_auto_schema_agreement(false)
        .default_execution_profile_handle(profile.into_handle());
    if let Some((user, password)) = &options.credentials {
        builder = builder.user(user, password);
    }
    if !options.ca_file.as_os_str().is_empty() {
        builder = builder.tls_context(Some(tls(options)?));
    }
    builder.build().await.map_err(|e| OpenError::Unreachable { nodes: options.nodes.clone(), why: e.to_string() })
}

/// `[::1]:9042` and `db:9042` have a port; `db` and `::1` have none.
fn has_port(node: &str) -> bool {
    node.rsplit_once(':').is_some_and(|(host, port)| (host.ends_with(']') || !host.contains(':')) && port.parse::<u16>().is_ok())
}

fn tls(options: &ScyllaOptions) -> std::result::Result<Arc<rustls::ClientConfig>, OpenError> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let unusable = |e: String| OpenError::Tls(format!("{}: {e}", options.ca_file.display()));
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&options.ca_file).map_err(|e| unusable(e.to_string()))? {
        let certificate = certificate.map_err(|e| unusable(e.to_string()))?;
        roots.add(certificate).map_err(|e| unusable(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable("there is no certificate in it".into()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|e| unusable(e.to_string()))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use super::has_port;

    #[test]
    fn a_contact_point_may_name_a_port() {
        for (node, has) in [("db", false), ("db:9042", true), ("10.0.0.1", false), ("::1", false), ("[::1]", false), ("[::1]:1", true)] {
            assert_eq!(has_port(node), has, "{node}");
        }
    }
}
