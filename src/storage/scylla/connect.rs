//! The way to a store that can be used: session, schema, statements, the number of shards.

use super::*;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::statement::{Consistency, SerialConsistency};

/// Locks for compare-and-sets; partitions share them.
const TURNS: usize = 256;

impl Core {
    pub(super) async fn connect(options: ScyllaOptions) -> std::result::Result<Core, OpenError> {
        let session = session(&options).await?;
        schema::migrate(&session, &options).await?;
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

    /// The number of shards, which whoever comes first decides for ever.
    pub(super) async fn fixed_shards(&self) -> std::result::Result<u32, OpenError> {
        const KIND: &str = "store";
        let asked = self.options.shards.max(1);
        let stored = match self.cell(KIND, b"shards", b"").await? {
            Some(stored) => stored,
            None => {
                self.set_cell(KIND, b"shards", b"", None, Some(&asked.to_be_bytes())).await?;
                self.cell_serial(KIND, b"shards", b"").await?.unwrap_or_default()
            }
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
        .keepalive_interval(Duration::from_secs(5))
        .keepalive_timeout(Duration::from_secs(5))
        .fetch_schema_metadata(true)
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
