//! Requests that this server makes to others: webhooks, push services, issuers' keys. The only HTTP client of the server.
//!
//! Whoever may name an address (a user's browser names a push service, an integrator a webhook) must not reach through this
//! server what only the server can reach. So: a host is resolved once for a connection, **every** address of the answer is
//! checked, and the connection goes to a checked one, so that a name that answers otherwise the next moment gains nothing.
//! Private, loopback, link-local and other special ranges are refused unless `outbound.allowed_ranges` has them. Redirects are
//! never followed (the caller gets the 3xx), proxies of the environment are not used, `http:` is only for allowed ranges.
//! Every request has a time limit over all of it, answers are read up to a size, and requests under way are bounded by
//! `outbound.requests_max`: above it they wait, within their own time limit. Errors never hold an address: it may be a secret.

use crate::config;
use crate::telemetry::metrics;
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
pub use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
pub use reqwest::{Method, Url};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use url::Host;

mod signature;

pub use signature::{SIGNATURE, sign};

/// Bytes of an address that is called at most.
pub const URL_BYTES_MAX: usize = 2048;
/// Connections to one host that are kept when idle, and for how long.
const IDLE_PER_HOST: usize = 4;
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// A `Retry-After` further away than this is not believed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(86_400);

/// Why the client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Not a CIDR range.
    #[error("outbound.allowed_ranges: {0:?} is not a range such as \"10.0.0.0/8\"")]
    Range(String),
    /// The roots cannot be read.
    #[error("outbound.ca_file: {0}")]
    Roots(String),
    /// TLS could not be set up.
    #[error("outbound requests: {0}")]
    Client(String),
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// It was not sent, and will not be as long as the address and the configuration stay as they are.
    #[error("refused: {0}")]
    Refused(&'static str),
    /// The time is over; it may have arrived.
    #[error("no answer within {0} ms")]
    TimedOut(u128),
    /// Anything else; it may have arrived.
    #[error("failed: {0}")]
    Failed(String),
}

/// A request.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its method.
    pub method: Method,
    /// Where to, as [`Outbound::address`] has accepted it.
    pub url: Url,
    /// Its header fields.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Bytes of the answer's body that are read; 0: none, the status is all that is wanted.
    pub answer_bytes_max: usize,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its header fields.
    pub headers: HeaderMap,
    /// Its body, as far as it was read.
    pub body: Bytes,
    /// All of the body is there.
    pub whole: bool,
}

impl Answer {
    /// Any 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
    /// Seconds of a `Retry-After`; its form with a date is passed over.
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
    }
}

/// How a host's addresses are found. Tests bring their own.
type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// The client. See the module. One per process, shared.
pub struct Outbound {
    /// `https:`, to public and allowed addresses.
    tls: reqwest::Client,
    /// `http:`, to allowed addresses only.
    plain: reqwest::Client,
    allowed: Arc<[IpNet]>,
    under_way: Semaphore,
    timeout: Duration,
}

impl Outbound {
    /// As configured.
    pub fn new(config: &config::Outbound) -> Result<Outbound, SetupError> {
        let system: Lookup = Arc::new(|host| {
            Box::pin(async move {
                let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
                Ok(found.map(|address| address.ip()).collect())
            })
        });
        Outbound::with_lookup(config, system)
    }

    fn with_lookup(config: &config::Outbound, lookup: Lookup) -> Result<Outbound, SetupError> {
        // Whoever was first has installed the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let range = |text: &String| text.parse::<IpNet>().map_err(|_| SetupError::Range(text.clone()));
        let allowed: Arc<[IpNet]> = config.allowed_ranges.iter().map(range).collect::<Result<_, _>>()?;
        let roots = match config.ca_file.as_os_str().is_empty() {
            true => Vec::new(),
            false => {
                let pem = std::fs::read(&config.ca_file).map_err(|e| SetupError::Roots(e.to_string()))?;
                reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| SetupError::Roots(e.to_string()))?
            }
        };
        let client = |secure: bool| {
            reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .https_only(secure)
                .user_agent(concat!("hubbub/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(Duration::from_millis(config.connect_timeout_ms))
                .pool_max_idle_per_host(IDLE_PER_HOST)
                .pool_idle_timeout(IDLE_TIMEOUT)
                .tls_certs_merge(roots.clone())
                .dns_resolver(Arc::new(Checked { lookup: lookup.clone(), allowed: allowed.clone(), secure }))
                .build()
                .map_err(|e| SetupError::Client(e.to_string()))
        };
        let (tls, plain) = (client(true)?, client(false)?);
        let timeout = Duration::from_millis(config.timeout_ms);
        Ok(Outbound { tls, plain, allowed, under_way: Semaphore::new(config.requests_max), timeout })
    }

    /// Looks whether an address that somebody names could be called at all; what its host resolves to is looked at with every call.
    pub fn address(&self, text: &str) -> Result<Url, OutboundError> {
        if text.len() > URL_BYTES_MAX {
            return Err(OutboundError::Refused("the address is too long"));
        }
        let url = Url::parse(text).map_err(|_| OutboundError::Refused("not an address such as https://example.org/path"))?;
        self.check(&url)?;
        Ok(url)
    }

    fn check(&self, url: &Url) -> Result<(), OutboundError> {
        let secure = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(OutboundError::Refused("the address must begin with https://")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(OutboundError::Refused("the address must hold no user name and no password"));
        }
        // A host that is an address is never resolved, so that the resolver would not see it.
        let literal = match url.host() {
            Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
            Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
            Some(Host::Domain(_)) => None,
            None => return Err(OutboundError::Refused("the address has no host")),
        };
        match literal {
            Some(ip) if !permitted(&self.allowed, ip, secure) => Err(OutboundError::Refused(forbidden(secure))),
            _ => Ok(()),
        }
    }

    /// Sends a request and reads its answer.
    pub async fn send(&self, call: Call) -> Result<Answer, OutboundError> {
        self.check(&call.url)?;
        let timed = tokio::time::timeout(self.timeout, self.exchange(call)).await;
        let result = timed.unwrap_or_else(|_| Err(OutboundError::TimedOut(self.timeout.as_millis())));
        let label = match &result {
            Ok(answer) => match answer.status {
                200..300 => "2xx",
                300..400 => "3xx",
                400..500 => "4xx",
                _ => "5xx",
            },
            Err(OutboundError::Refused(_)) => "refused",
            Err(OutboundError::TimedOut(_)) => "timed_out",
            Err(OutboundError::Failed(_)) => "failed",
        };
        metrics().outbound_requests_total.of(label).inc();
        result
    }

    async fn exchange(&self, call: Call) -> Result<Answer, OutboundError> {
        let _permit = self.under_way.acquire().await.map_err(|_| OutboundError::Failed("the client was closed".into()))?;
        let client = if call.url.scheme() == "https" { &self.tls } else { &self.plain };
        let request = client.request(call.method, call.url).headers(call.headers).body(call.body);
        let mut response = request.send().await.map_err(|e| told(&e))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let (mut body, mut whole) = (BytesMut::new(), true);
        if call.answer_bytes_max == 0 {
            return Ok(Answer { status, headers, body: Bytes::new(), whole: false });
        }
        while let Some(chunk) = response.chunk().await.map_err(|e| told(&e))? {
            let room = call.answer_bytes_max - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                whole = false;
                break;
            }
        }
        Ok(Answer { status, headers, body: body.freeze(), whole })
    }
}

/// A client's error in words without the address: the last cause says the most.
fn told(error: &reqwest::Error) -> OutboundError {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        if let Some(Forbidden(why)) = next.downcast_ref() {
            return OutboundError::Refused(why);
        }
        cause = next;
    }
    match cause.downcast_ref::<reqwest::Error>() {
        // It would print the address.
        Some(_) if error.is_connect() => OutboundError::Failed("no connection".into()),
        Some(_) => OutboundError::Failed("the exchange broke off".into()),
        None => OutboundError::Failed(cause.to_string()),
    }
}

/// The resolver of a client: all addresses of a host are permitted, or none is given.
struct Checked {
    lookup: Lookup,
    allowed: Arc<[IpNet]>,
    secure: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Forbidden(&'static str);

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let found = (self.lookup)(name.as_str().to_owned());
        let (allowed, secure) = (self.allowed.clone(), self.secure);
        Box::pin(async move {
            let found = found.await?;
            if found.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the host has no address").into());
            }
            if !found.iter().all(|ip| permitted(&allowed, *ip, secure)) {
                return Err(Forbidden(forbidden(secure)).into());
            }
            // Port 0 stands for the port of the address that is called.
            Ok(Box::new(found.into_iter().map(|ip| SocketAddr::new(ip, 0))) as Addrs)
        })
    }
}

fn forbidden(secure: bool) -> &'static str {
    match secure {
        true => "the host has an address in a private or special range (see outbound.allowed_ranges)",
        false => "http:// is only for addresses of outbound.allowed_ranges; use https://",
    }
}

fn permitted(allowed: &[IpNet], ip: IpAddr, secure: bool) -> bool {
    let ip = ip.to_canonical();
    allowed.iter().any(|range| range.contains(&ip)) || (secure && is_public(ip))
}

/// Whether an address is one of the public internet's (IANA's special-purpose registries), seen through the ways of writing
/// an IPv4 address as an IPv6 one.
pub fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = a == 0
        || a >= 224
        || ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19));
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let s = ip.segments();
    let embedded = |hi: u16, lo: u16| Ipv4Addr::from(u32::from(hi) << 16 | u32::from(lo));
    match s {
        // NAT64 (RFC 6052): an IPv4 address in other clothes.
        [0x64, 0xff9b, 0, 0, 0, 0, hi, lo] => is_public_v4(embedded(hi, lo)),
        // 6to4.
        [0x2002, hi, lo, ..] => is_public_v4(embedded(hi, lo)),
        // Protocol assignments (Teredo among them), and documentation.
        [0x2001, second, ..] if second < 0x200 || second == 0xdb8 => false,
        [0x3fff, second, ..] if second < 0x1000 => false,
        // Everything else that is given out for global unicast.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
