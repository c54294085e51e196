//! Clients' listener: actix-web for HTTP, and the way by which a session gets the raw socket.
//!
//! The HTTP service is built on `actix_http` with an upgrade service beside it, which runs the request through a second instance of the
//! same App: routing, state, limits and middleware all apply to a handshake. When the answer is 101 and a handler has called
//! [`Upgraded::hand_over`], the socket and the bytes already read go to the session, and nothing of HTTP is left of the connection: an
//! idle session costs a tenth of the memory it would as a response body, and a client that stops reading cannot freeze its own
//! timeouts. Upgraded sockets are counted by `socket::Doors`, not by the server. What comes before the first request (PROXY protocol, TLS)
//! is `arrival`'s.

use super::arrival::{Arrival, Stream};
use super::socket::{self, Doors};
use super::tls::Tls;
use super::{Api, routes};
use crate::actors::conn::Io;
use crate::config::Config;
use actix_codec::{Encoder, Framed, FramedParts};
use actix_http::body::{BodySize, MessageBody, to_bytes_limited};
use actix_http::{ConnectionType, Extensions, HttpService, Protocol, Request, Response, h1};
use actix_server::Server;
use actix_service::{IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, fn_factory, fn_service, map_config};
use actix_web::dev::{AppConfig, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::{App, Error, HttpMessage, HttpRequest, HttpResponse, web};
use bytes::{Bytes, BytesMut};
use socket2::SockRef;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 8_192;
/// A request's head must be there within this; an idle connection is kept this long.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of the answer to a refused handshake.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;
/// Unacknowledged data for so long ends a connection.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

type Start = Box<dyn FnOnce(Box<dyn Io>, BytesMut)>;

/// A handshake that was accepted: who gets the socket.
pub struct Upgraded(Start);

impl Upgraded {
    /// In a handler: answers with `response` (101) and then gives the socket, and what was read beyond the request, to `start`.
    pub fn hand_over(req: &HttpRequest, response: HttpResponse, start: impl FnOnce(Box<dyn Io>, BytesMut) + 'static) -> HttpResponse {
        req.extensions_mut().insert(Upgraded(Box::new(start)));
        response
    }
}

/// Answers a request that asks for an upgrade.
async fn upgrade<T: Io, S, B>(app: Rc<S>, req: Request, framed: Framed<T, h1::Codec>) -> Result<(), Error>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody + 'static,
{
    let FramedParts { mut io, mut codec, read_buf, .. } = framed.into_parts();
    let (start, response) = match app.call(req).await {
        Ok(response) => {
            let (req, response) = response.into_parts();
            let start = req.extensions_mut().remove::<Upgraded>();
            (start, response.map_into_boxed_body())
        }
        Err(error) => (None, HttpResponse::from_error(error)),
    };
    let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let (mut response, body) = Response::from(response).into_parts();
    let body = if switching {
        Bytes::new()
    } else {
        response.head_mut().set_connection_type(ConnectionType::Close);
        to_bytes_limited(body, REFUSAL_BYTES_MAX).await.ok().and_then(Result::ok).unwrap_or_default()
    };
    let size = if switching { BodySize::None } else { BodySize::Sized(body.len() as u64) };
    let mut out = BytesMut::new();
    codec.encode(h1::Message::Item((response, size)), &mut out)?;
    out.extend_from_slice(&body);
    tokio::time::timeout(HEAD_TIMEOUT, async {
        io.write_all(&out).await?;
        io.flush().await
    })
    .await
    .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    match start {
        Some(Upgraded(start)) if switching => start(Box::new(io), BytesMut::from(&read_buf[..])),
        _ => {
            let _ = tokio::time::timeout(HEAD_TIMEOUT, io.shutdown()).await;
        }
    }
    Ok(())
}

fn tune(io: &TcpStream, send_buffer_bytes: usize) {
    let socket = SockRef::from(io);
    // A failure leaves the system's own values, which are merely larger.
    let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
    let _ = socket.set_send_buffer_size(send_buffer_bytes);
}

/// Starts the listener, with TLS if there is a certificate. The caller drains sockets before it stops the server.
pub fn start(
    config: &Config,
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    api: web::Data<Api>,
    doors: web::Data<Doors>,
) -> io::Result<Server> {
    let arrival = Arc::new(Arrival::new(&config.proxy, tls));
    let workers = match config.http.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    };
    let (send_buffer, echo) = (config.socket.send_buffer_bytes, config.dev.echo);
    listener.set_nonblocking(true)?;
    let server = Server::build()
        .workers(workers.min(crate::actors::node::HUBS_MAX))
        .backlog(BACKLOG)
        .max_concurrent_connections(config.socket.connections_max)
        .disable_signals()
        .shutdown_timeout(1)
        .listen("hubbub", listener, move || {
            let (api, doors) = (api.clone(), doors.clone());
            let app = move || {
                let node = web::Data::from(doors.node.clone());
                let app = App::new().app_data(node).app_data(doors.clone()).route("/v1/socket", web::get().to(socket::socket));
                let app = if echo { app.route("/v1/echo", web::get().to(socket::echo)) } else { app };
                app.configure(routes(api.clone()))
            };
            let (again, arrival) = (app.clone(), arrival.clone());
            let arrive = fn_service(move |io: TcpStream| {
                let arrival = arrival.clone();
                async move {
                    let (stream, peer) = arrival.receive(io).await?;
                    Ok((stream, Protocol::Http1, peer))
                }
            });
            let http = HttpService::build()
                .keep_alive(HEAD_TIMEOUT)
                .client_request_timeout(HEAD_TIMEOUT)
                .client_disconnect_timeout(Duration::ZERO)
                .on_connect_ext(move |stream: &Stream, data: &mut Extensions| {
                    tune(stream.tcp(), send_buffer);
                    data.insert(stream.arrived());
                })
                .upgrade(fn_factory(move || {
                    let app = again.clone();
                    async move {
                        let factory = IntoServiceFactory::<_, Request>::into_factory(app());
                        let service = Rc::new(factory.new_service(AppConfig::default()).await?);
                        Ok::<_, ()>(fn_service(move |(req, framed)| upgrade(service.clone(), req, framed)))
                    }
                }))
                .finish(map_config(app(), |()| AppConfig::default()));
            arrive.and_then(http)
        })?;
    Ok(server.run())
}
