//! What happens between a connection's arrival and its first request: the PROXY protocol header, then the TLS handshake.
//!
//! Both within [`ARRIVAL_TIMEOUT`]; a connection that does not get through is dropped and counted. The header is read from trusted proxies
//! only, and where it is expected (`proxy.protocol`) nobody else is let in: else anybody could say to be anybody.

use super::peer::Proxies;
use super::tls::Tls;
use crate::telemetry::metrics;
use actix_http::error::DispatchError;
use ppp::{v1, v2};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a connection may take until it can send a request.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a PROXY header of version 1 at most (its specification, 2.1).
const V1_BYTES_MAX: usize = 107;
/// Bytes of the head of version 2, whose last two say how many follow.
const V2_HEAD_BYTES: usize = 16;
/// Bytes behind the head of version 2 that are read: addresses, and what load balancers add.
const V2_BYTES_MAX: usize = 4096;
/// The kind of addition that says whether the client spoke TLS to the proxy, and its bit for yes.
const V2_SSL: (u8, u8) = (0x20, 0x01);

/// A connection that is ready for HTTP.
pub struct Stream {
    io: Inner,
    arrived: Arrived,
}

/// What is known of a connection beside its bytes; requests find it as connection data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// The client speaks TLS, to us or to the proxy that said so.
    pub secure: bool,
    /// A PROXY header named no client: then the connection's address is the proxy's, and what is in the request's headers is somebody
    /// else's word.
    pub unnamed: bool,
}

enum Inner {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// What is known of it.
    pub fn arrived(&self) -> Arrived {
        self.arrived
    }
    /// The socket below.
    pub fn tcp(&self) -> &TcpStream {
        match &self.io {
            Inner::Plain(tcp) => tcp,
            Inner::Tls(tls) => tls.get_ref().0,
        }
    }
}

/// How connections arrive.
pub struct Arrival {
    /// Who may send a PROXY header; `None`: none is expected.
    proxies: Option<Proxies>,
    tls: Option<Arc<Tls>>,
}

impl Arrival {
    /// As configured.
    pub fn new(config: &crate::config::Proxy, tls: Option<Arc<Tls>>) -> Arrival {
        Arrival { proxies: config.protocol.then(|| Proxies::new(config)), tls }
    }

    /// Brings a connection as far as HTTP; with the address of its client.
    pub async fn receive(&self, io: TcpStream) -> Result<(Stream, Option<SocketAddr>), DispatchError> {
        let late = |_| {
            metrics().connections_refused_total.of("timeout").inc();
            DispatchError::Io(io::ErrorKind::TimedOut.into())
        };
        tokio::time::timeout(ARRIVAL_TIMEOUT, self.prepare(io)).await.map_err(late)?.map_err(DispatchError::Io)
    }

    async fn prepare(&self, mut io: TcpStream) -> io::Result<(Stream, Option<SocketAddr>)> {
        // A failure leaves small frames waiting for each other, nothing worse.
        let _ = io.set_nodelay(true);
        let refused = |reason: &'static str| {
            move |_: &io::Error| {
                metrics().connections_refused_total.of(reason).inc();
            }
        };
        let mut peer = io.peer_addr()?;
        let mut arrived = Arrived::default();
        if let Some(proxies) = &self.proxies {
            let said = match proxies.trusts(peer.ip()) {
                true => read_header(&mut io).await,
                false => Err(io::Error::other("no proxy that is trusted")),
            };
            let said = said.inspect_err(refused("proxy_header"))?;
            peer = said.client.unwrap_or(peer);
            arrived = Arrived { secure: said.secure, unnamed: said.client.is_none() };
        }
        let Some(tls) = &self.tls else { return Ok((Stream { io: Inner::Plain(io), arrived }, Some(peer))) };
        let stream = TlsAcceptor::from(tls.config()).accept(io).await.inspect_err(refused("tls"))?;
        Ok((Stream { io: Inner::Tls(Box::new(stream)), arrived: Arrived { secure: true, ..arrived } }, Some(peer)))
    }
}

/// What a PROXY header says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    /// The client's address; none: the proxy asks for itself (a health check).
    client: Option<SocketAddr>,
    secure: bool,
}

/// Reads a header and not a byte more: what follows is the client's.
async fn read_header<R: AsyncRead + Unpin>(io: &mut R) -> io::Result<Said> {
    let mut bytes = vec![0; v2::PROTOCOL_PREFIX.len()];
    io.read_exact(&mut bytes).await?;
    if bytes == v2::PROTOCOL_PREFIX {
        bytes.resize(V2_HEAD_BYTES, 0);
        io.read_exact(&mut bytes[v2::PROTOCOL_PREFIX.len()..]).await?;
        let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
        if length > V2_BYTES_MAX {
            return Err(io::Error::other("the PROXY header is too long"));
        }
        bytes.resize(V2_HEAD_BYTES + length, 0);
        io.read_exact(&mut bytes[V2_HEAD_BYTES..]).await?;
        return said_v2(&bytes);
    }
    // Byte by byte, as only its end says how long it is; a connection pays it once.
    while !bytes.ends_with(b"\r\n") {
        if bytes.len() == V1_BYTES_MAX {
            return Err(io::Error::other("the PROXY header does not end"));
        }
        bytes.push(io.read_u8().await?);
    }
    said_v1(&bytes)
}

fn said_v1(bytes: &[u8]) -> io::Result<Said> {
    let header = v1::Header::try_from(bytes).map_err(|e| io::Error::other(e.to_string()))?;
    let client = match header.addresses {
        v1::Addresses::Tcp4(a) => Some((a.source_address, a.source_port).into()),
        v1::Addresses::Tcp6(a) => Some((a.source_address, a.source_port).into()),
        v1::Addresses::Unknown => None,
    };
    Ok(Said { client, secure: false })
}

fn said_v2(bytes: &[u8]) -> io::Result<Said> {
    let header = v2::Header::try_from(bytes).map_err(|e| io::Error::other(e.to_string()))?;
    if header.command == v2::Command::Local {
        return Ok(Said::default());
    }
    let client = match header.addresses {
        v2::Addresses::IPv4(a) => Some((a.source_address, a.source_port).into()),
        v2::Addresses::IPv6(a) => Some((a.source_address, a.source_port).into()),
        v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
    };
    let ssl = |tlv: v2::TypeLengthValue<'_>| tlv.kind == V2_SSL.0 && tlv.value.first().is_some_and(|flags| flags & V2_SSL.1 != 0);
    Ok(Said { client, secure: header.tlvs().filter_map(Result::ok).any(ssl) })
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Inner::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Inner::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Inner::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Inner::Tls(io) => Pin::new(io).poll_write(cx, buf),
        }
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Inner::Plain(io) => Pin::new(io).poll_flush(cx),
            Inner::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Inner::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Inner::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> (io::Result<Said>, Vec<u8>) {
        let mut rest = bytes;
        let said = read_header(&mut rest).await;
        (said, rest.to_vec())
    }

    #[actix_rt::test]
    async fn a_header_is_read_and_not_a_byte_more() {
        let client: SocketAddr = "192.0.2.7:4000".parse().unwrap();
        let (said, rest) = read(b"PROXY TCP4 192.0.2.7 10.0.0.1 4000 443\r\nGET / HTTP/1.1\r\n").await;
        assert_eq!((said.unwrap(), &rest[..]), (Said { client: Some(client), secure: false }, &b"GET / HTTP/1.1\r\n"[..]));
        let (said, rest) = read(b"PROXY UNKNOWN\r\nGET /").await;
        assert_eq!((said.unwrap(), &rest[..]), (Said::default(), &b"GET /"[..]));

        let build = |command| {
            v2::Builder::with_addresses(
                v2::Version::Two | command,
                v2::Protocol::Stream,
                (client, "10.0.0.1:443".parse::<SocketAddr>().unwrap()),
            )
        };
        let mut bytes = build(v2::Command::Proxy).write_tlv(V2_SSL.0, &[1, 0, 0, 0, 0]).unwrap().build().unwrap();
        bytes.extend_from_slice(b"GET /");
        let (said, rest) = read(&bytes).await;
        assert_eq!((said.unwrap(), &rest[..]), (Said { client: Some(client), secure: true }, &b"GET /"[..]));
        let local = build(v2::Command::Local).build().unwrap();
        assert_eq!(read(&local).await.0.unwrap(), Said::default());
    }

    #[actix_rt::test]
    async fn what_is_no_header_is_refused() {
        let endless = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat();
        let long = [v2::PROTOCOL_PREFIX, &[0x21, 0x11, 0xff, 0xff], &[0; 200]].concat();
        let bad: [&[u8]; 6] = [
            b"",
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 4000\r\n",
            b"PROXY TCP4 192.0.2.7",
            &endless,
            &long,
        ];
        for bytes in bad {
            assert!(read(bytes).await.0.is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
