//! The certificate of the clients' listener, and how it is replaced while the server runs.
//!
//! A new handshake gets the certificate that is current; connections that exist go on. It is read again on SIGHUP, and when one of the two
//! files has changed (looked at every [`LOOK_EVERY`], through links, so that what renews certificates needs no hook). A certificate
//! that cannot be used (half written, of another key) replaces nothing: the old one stays, and the log says so.

use crate::config;
use crate::telemetry::metrics;
use parking_lot::{Mutex, RwLock};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::Signal;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The one protocol that is spoken over TLS.
const ALPN: &[u8] = b"http/1.1";

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not PEM.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: rustls::pki_types::pem::Error,
    },
    /// The files are read and do not go together, or the library refuses them.
    #[error("{}: {error}", path.display())]
    Unusable {
        /// The certificate.
        path: PathBuf,
        /// Why.
        error: rustls::Error,
    },
}

/// What says that a file is another than before, of both files.
type Seen = [Option<(u64, u64, i64, i64)>; 2];

/// The certificate and the way to replace it.
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    current: Arc<Current>,
    config: Arc<ServerConfig>,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().clone())
    }
}

impl Tls {
    /// Reads the files; `None` when TLS is not configured.
    pub fn load(config: &config::Tls) -> Result<Option<Arc<Tls>>, TlsError> {
        if !config.is_on() {
            return Ok(None);
        }
        let (certificate, key) = (config.certificate.clone(), config.key.clone());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let seen = look(&certificate, &key);
        let unusable = |error| TlsError::Unusable { path: certificate.clone(), error };
        let current = Arc::new(Current(RwLock::new(Arc::new(read(&certificate, &key, &provider)?))));
        let versions = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let mut config = versions.map_err(unusable)?.with_no_client_auth().with_cert_resolver(current.clone());
        config.alpn_protocols = vec![ALPN.to_vec()];
        let tls = Tls { certificate, key, provider, current, config: Arc::new(config), seen: Mutex::new(seen) };
        Ok(Some(Arc::new(tls)))
    }

    /// For new handshakes.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// Reads the files again.
    fn reload(&self) {
        *self.seen.lock() = look(&self.certificate, &self.key);
        let result = match read(&self.certificate, &self.key, &self.provider) {
            Ok(fresh) => {
                *self.current.0.write() = Arc::new(fresh);
                tracing::info!(file = %self.certificate.display(), "the certificate was read again; new connections get it");
                "reloaded"
            }
            Err(error) => {
                tracing::error!(%error, "the new certificate cannot be used; the old one stays");
                "refused"
            }
        };
        metrics().tls_reloads_total.of(result).inc();
    }

    /// Reads the files again whenever they have changed and whenever `hangup` says so. Does not end.
    pub async fn watch(self: Arc<Self>, mut hangup: Signal) {
        loop {
            let told = tokio::time::timeout(LOOK_EVERY, hangup.recv()).await.is_ok();
            let me = self.clone();
            // Two small files, off the thread that answers requests.
            let looked = tokio::task::spawn_blocking(move || {
                let now = look(&me.certificate, &me.key);
                if told || now != *me.seen.lock() {
                    me.reload();
                }
            });
            // A panic there is in the log; the next look is as good.
            let _ = looked.await;
        }
    }
}

fn look(certificate: &Path, key: &Path) -> Seen {
    [certificate, key].map(|path| fs::metadata(path).ok().map(|m| (m.ino(), m.len(), m.mtime(), m.mtime_nsec())))
}

fn read(certificate: &Path, key: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |error| TlsError::File { path, error }
    };
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(file(certificate))?;
    let unusable = |error| TlsError::Unusable { path: certificate.into(), error };
    if chain.is_empty() {
        return Err(unusable(rustls::Error::General("there is no certificate in the file".into())));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(file(key))?;
    CertifiedKey::from_der(chain, key, provider).map_err(unusable)
}
