//! Who is really asking: the address, scheme and host of a request, also behind proxies.
//!
//! A connection says one address that cannot be forged; everything in headers can. So headers count only when the connection comes from a
//! trusted proxy (`proxy.trusted`), only the one header that this proxy is known to write (`proxy.header`), and of its entries only those
//! that trusted proxies added: read from the right, the first address that is no trusted proxy is the client's. What stands left of it was
//! sent by the client itself. (A PROXY protocol header, `super::arrival`, replaces the connection's own address before any of this.)
//! Limits, the same-origin check and the audit log all ask here.

use super::Api;
use super::arrival::Arrived;
use crate::config::{self, ForwardedBy};
use actix_web::http::header::{self, HeaderMap, HeaderName};
use actix_web::{HttpRequest, web};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Entries of a forwarding header that are looked at: more proxies than that are not in a row.
const HOPS_MAX: usize = 32;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The client of a request, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address.
    pub address: IpAddr,
    /// It speaks TLS to us, or to a trusted proxy.
    pub secure: bool,
    /// The host it asked for, where a trusted proxy says another than `Host` does.
    pub host: Option<String>,
}

/// Whom to believe.
#[derive(Clone, Debug)]
pub struct Proxies {
    trusted: Vec<IpNet>,
    header: ForwardedBy,
}

impl Proxies {
    /// As configured (networks that cannot be read were refused with the configuration).
    pub fn new(config: &config::Proxy) -> Proxies {
        Proxies { trusted: config.trusted.iter().filter_map(|n| config::network(n)).collect(), header: config.header }
    }

    /// Whether a proxy at this address is believed.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// The client behind a connection from `peer` (`secure`: by TLS) that sent these headers.
    fn client(&self, peer: IpAddr, secure: bool, headers: &HeaderMap) -> Client {
        let direct = Client { address: peer.to_canonical(), secure, host: None };
        if !self.trusts(peer) {
            return direct;
        }
        match self.header {
            ForwardedBy::XForwardedFor => self.x_forwarded(direct, headers),
            ForwardedBy::Forwarded => self.forwarded(direct, headers),
        }
    }

    fn x_forwarded(&self, direct: Client, headers: &HeaderMap) -> Client {
        let mut client = direct;
        for hop in values(headers, &X_FORWARDED_FOR).iter().rev().take(HOPS_MAX) {
            let Some(address) = node_address(hop) else { break };
            client.address = address;
            if !self.trusts(address) {
                break;
            }
        }
        // A proxy sets these two and does not add to them; if several did, the nearest is the one that is known to be trusted.
        if let Some(proto) = values(headers, &X_FORWARDED_PROTO).last() {
            client.secure = proto.eq_ignore_ascii_case("https");
        }
        client.host = values(headers, &X_FORWARDED_HOST).pop();
        client
    }

    fn forwarded(&self, direct: Client, headers: &HeaderMap) -> Client {
        let mut client = direct;
        let elements: Vec<String> = headers.get_all(header::FORWARDED).map(text).flat_map(|v| split(&v, ',')).collect();
        for element in elements.iter().rev().take(HOPS_MAX) {
            let mut address = None;
            let (mut secure, mut host) = (client.secure, None);
            for pair in split(element, ';') {
                let Some((name, value)) = pair.split_once('=') else { continue };
                let value = unquoted(value);
                match name.trim().to_ascii_lowercase().as_str() {
                    "for" => address = node_address(&value),
                    "proto" => secure = value.eq_ignore_ascii_case("https"),
                    "host" => host = Some(value),
                    _ => {}
                }
            }
            // An obfuscated name or "unknown": the proxy will not say, so it counts as the client itself.
            let Some(address) = address else { break };
            client = Client { address, secure, host };
            if !self.trusts(address) {
                break;
            }
        }
        client
    }
}

/// All values of a header that lists them, in order.
fn values(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let all: Vec<_> = headers.get_all(name).map(text).collect();
    all.iter().flat_map(|v| v.split(',')).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty()).collect()
}

/// A header's text. Bytes that are no UTF-8 spoil the part that they are in; what a proxy added behind it is still read.
fn text(value: &header::HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// The parts between separators that stand outside quotes. Read from the right, where the proxies' own words are: a quote that a client
/// opened and did not close hides nothing that was added behind it.
fn split(text: &str, separator: char) -> Vec<String> {
    let (mut parts, mut end, mut quoted) = (Vec::new(), text.len(), false);
    for (at, c) in text.char_indices().rev() {
        let escaped = || text[..at].bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1;
        if c == '"' && !(quoted && escaped()) {
            quoted = !quoted;
        } else if c == separator && !quoted {
            parts.push(text[at + c.len_utf8()..end].trim().to_owned());
            end = at;
        }
    }
    parts.push(text[..end].trim().to_owned());
    parts.retain(|part| !part.is_empty());
    parts.reverse();
    parts
}

fn unquoted(value: &str) -> String {
    let value = value.trim();
    let Some(inner) = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')) else { return value.to_owned() };
    let (mut out, mut chars) = (String::with_capacity(inner.len()), inner.chars());
    while let Some(c) = chars.next() {
        out.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    out
}

/// An address as forwarding headers write it: with or without port, IPv6 with or without brackets.
fn node_address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|a| a.ip()));
    address.map(|a: IpAddr| a.to_canonical())
}

/// The client of a request.
pub fn client(req: &HttpRequest) -> Client {
    let peer = req.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |a| a.ip());
    let Arrived { secure, unnamed } = req.conn_data::<Arrived>().copied().unwrap_or_default();
    match req.app_data::<web::Data<Api>>() {
        Some(api) if !unnamed => api.proxies.client(peer, secure, req.headers()),
        _ => Client { address: peer.to_canonical(), secure, host: None },
    }
}

/// Whether a page may use what its visitors may: programs send no Origin; a browser's must be this server's own, or one of `origins`.
pub fn origin_allowed(req: &HttpRequest, origins: &[String]) -> bool {
    let Some(origin) = req.headers().get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    super::cors::configured(origin, origins) || is_own(&client(req), host(req), origin)
}

fn host(req: &HttpRequest) -> Option<&str> {
    req.headers().get(header::HOST).and_then(|h| h.to_str().ok())
}

/// The server's own pages have its host, and TLS where the server has: a page that somebody on the way could have changed is not its own.
/// The other way round nothing is known: a proxy that speaks TLS may be in front without being configured here.
fn is_own(client: &Client, host: Option<&str>, origin: &str) -> bool {
    let Some((scheme, of_page)) = origin.split_once("://") else { return false };
    let own = client.host.as_deref().or(host);
    own.is_some_and(|own| own.eq_ignore_ascii_case(of_page)) && (scheme.eq_ignore_ascii_case("https") || !client.secure)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    fn proxies(trusted: &[&str], header: ForwardedBy) -> Proxies {
        Proxies::new(&config::Proxy { trusted: trusted.iter().map(|t| t.to_string()).collect(), header, protocol: false })
    }
    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        map
    }
    fn ask(proxies: &Proxies, peer: &str, lines: &[(&str, &str)]) -> (String, bool) {
        let client = proxies.client(peer.parse().unwrap(), false, &headers(lines));
        (client.address.to_string(), client.secure)
    }

    #[test]
    fn who_is_no_trusted_proxy_is_believed_nothing() {
        for header in [ForwardedBy::XForwardedFor, ForwardedBy::Forwarded] {
            for trusted in [&[][..], &["10.0.0.0/8"]] {
                let lines = [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "https"), ("forwarded", "for=192.0.2.1;proto=https")];
                assert_eq!(ask(&proxies(trusted, header), "198.51.100.9", &lines), ("198.51.100.9".into(), false));
            }
        }
    }

    #[test]
    fn the_right_most_untrusted_address_is_the_clients() {
        let p = proxies(&["10.0.0.0/8", "::1"], ForwardedBy::XForwardedFor);
        let from = |xff: &str| ask(&p, "10.0.0.1", &[("x-forwarded-for", xff)]).0;
        assert_eq!(from("192.0.2.7"), "192.0.2.7");
        assert_eq!(from("6.6.6.6, 192.0.2.7"), "192.0.2.7", "what the client sent itself stands further left");
        assert_eq!(from("6.6.6.6, 192.0.2.7, 10.2.2.2, 10.3.3.3"), "192.0.2.7");
        assert_eq!(from("10.9.9.9, 10.3.3.3"), "10.9.9.9", "all are proxies: the first one asks for itself");
        assert_eq!(from("192.0.2.7, nonsense"), "10.0.0.1", "nothing is read past what cannot be read");
        assert_eq!(from("[2001:db8::7]:443"), "2001:db8::7");
        assert_eq!(from("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(from("192.0.2.7:5555"), "192.0.2.7");
        assert_eq!(from(""), "10.0.0.1");
        let spoilt = HeaderValue::from_bytes(b"6.6.6.\xff, 192.0.2.7").unwrap();
        let map = HeaderMap::from_iter([(X_FORWARDED_FOR, spoilt)]);
        assert_eq!(p.client("10.0.0.1".parse().unwrap(), false, &map).address.to_string(), "192.0.2.7", "not the proxy itself");
        let two = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "192.0.2.8"), ("x-forwarded-proto", "http, https")];
        assert_eq!(ask(&p, "::1", &two), ("192.0.2.8".into(), true), "several lines are one list");
    }

    #[test]
    fn only_the_header_that_the_proxy_writes_is_read() {
        let lines = [("forwarded", "for=6.6.6.6;proto=https"), ("x-forwarded-for", "192.0.2.7")];
        assert_eq!(ask(&proxies(&["10.0.0.1"], ForwardedBy::XForwardedFor), "10.0.0.1", &lines), ("192.0.2.7".into(), false));
        assert_eq!(ask(&proxies(&["10.0.0.1"], ForwardedBy::Forwarded), "10.0.0.1", &lines), ("6.6.6.6".into(), true));
    }

    #[test]
    fn a_forwarded_header_is_read_as_rfc_7239_writes_it() {
        let p = proxies(&["10.0.0.0/8"], ForwardedBy::Forwarded);
        let from = |value: &str| p.client("10.0.0.1".parse().unwrap(), false, &headers(&[("forwarded", value)]));
        let client = from(r#"for=6.6.6.6;proto=http, For="[2001:db8:cafe::17]:4711" ; PROTO=https;host="chat.example";by=10.0.0.1"#);
        assert_eq!(client, Client { address: "2001:db8:cafe::17".parse().unwrap(), secure: true, host: Some("chat.example".into()) });
        assert_eq!(from("for=192.0.2.7;proto=https, for=10.0.0.2;proto=http").address.to_string(), "192.0.2.7");
        assert_eq!(from("for=192.0.2.7, for=_hidden").address.to_string(), "10.0.0.1");
        assert_eq!(from("for=192.0.2.7, for=unknown").address.to_string(), "10.0.0.1");
        assert_eq!(from(r#"for="6.6.6.6, for=192.0.2.7"#).address.to_string(), "192.0.2.7", "a quote that does not end hides nothing");
        assert_eq!(from(r#"for="a\", for=6.6.6.6", for=192.0.2.7"#).address.to_string(), "192.0.2.7");
    }

    #[test]
    fn a_page_without_tls_is_not_a_tls_servers_own() {
        let client = |secure, host: Option<&str>| Client { address: [192, 0, 2, 1].into(), secure, host: host.map(str::to_owned) };
        let (plain, tls) = (client(false, None), client(true, None));
        assert!(
            is_own(&plain, Some("chat.example"), "http://chat.example") && is_own(&plain, Some("chat.example"), "https://chat.example")
        );
        assert!(is_own(&tls, Some("chat.example"), "https://CHAT.example") && !is_own(&tls, Some("chat.example"), "http://chat.example"));
        assert!(!is_own(&tls, Some("chat.example"), "https://chat.example.evil") && !is_own(&tls, None, "https://chat.example"));
        assert!(is_own(&client(true, Some("chat.example")), Some("10.0.0.5:8080"), "https://chat.example"));
        assert!(!is_own(&client(true, Some("chat.example")), Some("evil.example"), "https://evil.example"));
    }
}
