//! One socket: signs in, matches replies to requests by `ref`, hands pushes on in order, and knows how it ended.
//!
//! One task owns the socket. Bounds: [`Options::pushes_max`] pushes wait for their reader, after which the task stops
//! reading the socket (so a server sees a slow reader, and replies wait too: a user who makes requests must drain the
//! pushes); [`REQUESTS_WAITING_MAX`] requests wait to be written. Every request has a time limit. It never reconnects:
//! that is [`super::session`]'s.

use super::ClientError;
use crate::protocol::codec::{self, Format};
use crate::protocol::ops::{Auth, Hello, Ok as Reply, Push, Request};
use futures_util::{SinkExt, StreamExt};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Error as WsError};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// Requests that may wait to be written; above it callers wait.
pub const REQUESTS_WAITING_MAX: usize = 256;
/// Bytes of a frame that the client takes: pages of a resume are the largest.
const FRAME_BYTES_MAX: usize = 16 << 20;
/// A server that does not answer our Close in this time is left.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How the access token travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenIn {
    /// In the first frame.
    #[default]
    Frame,
    /// As a subprotocol of the handshake.
    Subprotocol,
}

/// What may be chosen about a connection.
#[derive(Clone, Debug)]
pub struct Options {
    /// TCP, handshake and sign-in together.
    pub connect_timeout: Duration,
    /// Time limit of a request.
    pub request_timeout: Duration,
    /// Pushes that may wait for their reader.
    pub pushes_max: usize,
    /// How the token travels.
    pub token_in: TokenIn,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(15),
            pushes_max: 1024,
            token_in: TokenIn::Frame,
        }
    }
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The close code; 1006 when the socket ended without one.
    pub code: u16,
    /// For people.
    pub reason: String,
}

impl End {
    fn abnormal(reason: impl fmt::Display) -> End {
        End { code: 1006, reason: reason.to_string() }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.reason)
    }
}

type Answer = oneshot::Sender<Result<Reply, ClientError>>;

enum Command {
    Request(Box<Request>, Answer),
    Frame(Message),
    Ping(oneshot::Sender<()>),
    Close(u16, &'static str),
}

struct Shared {
    hello: Hello,
    commands: mpsc::Sender<Command>,
    end: watch::Receiver<Option<End>>,
    request_timeout: Duration,
}

/// A signed-in socket. Clones share it; it is closed when the last one is dropped.
#[derive(Clone)]
pub struct Connection(Arc<Shared>);

impl Connection {
    /// Connects and signs in. `url` may be `http://host:port`, `ws://host:port` or a whole `ws://` address.
    pub async fn open(
        url: &str,
        token: &str,
        format: Format,
        options: &Options,
    ) -> Result<(Connection, mpsc::Receiver<Push>), ClientError> {
        let limit = options.connect_timeout;
        match tokio::time::timeout(limit, Connection::establish(url, token, format, options)).await {
            Ok(result) => result,
            Err(_) => Err(ClientError::Unreachable(format!("{url} did not answer within {limit:?}"))),
        }
    }

    async fn establish(
        url: &str,
        token: &str,
        format: Format,
        options: &Options,
    ) -> Result<(Connection, mpsc::Receiver<Push>), ClientError> {
        let bearer = matches!(options.token_in, TokenIn::Subprotocol).then_some(token);
        let mut socket = handshake(url, format, bearer).await?;
        if bearer.is_none() {
            let auth = Request::Auth(Auth { token: token.into() });
            let frame = message(format, codec::encode_request(format, AUTH_REF, &auth))?;
            socket.send(frame).await.map_err(|e| ClientError::Closed(End::abnormal(e)))?;
        }
        let hello = first_hello(&mut socket, format).await?;
        let (commands, inbox) = mpsc::channel(REQUESTS_WAITING_MAX);
        let (pushes, reader) = mpsc::channel(options.pushes_max.max(1));
        let (ended, end) = watch::channel(None);
        let pump = Pump { socket, format, inbox, pushes, waiting: HashMap::new(), pongs: HashMap::new(), last_ref: AUTH_REF };
        let heartbeat = Duration::from_millis(hello.heartbeat_ms.max(100));
        tokio::spawn(async move {
            let end = pump.run(heartbeat).await;
            let _ = ended.send(Some(end));
        });
        Ok((Connection(Arc::new(Shared { hello, commands, end, request_timeout: options.request_timeout })), reader))
    }

    /// What the server said at sign-in.
    pub fn hello(&self) -> &Hello {
        &self.0.hello
    }

    /// Sends a request and waits for its answer.
    pub async fn request(&self, request: Request) -> Result<Reply, ClientError> {
        let (answer, answered) = oneshot::channel();
        self.limited(async {
            self.command(Command::Request(Box::new(request), answer)).await?;
            match answered.await {
                Ok(result) => result,
                Err(_) => Err(ClientError::Closed(self.ended().await)),
            }
        })
        .await
    }

    /// Writes a WebSocket frame as it is, for tests of what a server does with it.
    pub async fn send_raw(&self, frame: Message) -> Result<(), ClientError> {
        self.command(Command::Frame(frame)).await
    }

    /// Sends a WebSocket ping; the time until its pong.
    pub async fn ping(&self) -> Result<Duration, ClientError> {
        let began = Instant::now();
        let (pong, ponged) = oneshot::channel();
        self.limited(async {
            self.command(Command::Ping(pong)).await?;
            match ponged.await {
                Ok(()) => Ok(began.elapsed()),
                Err(_) => Err(ClientError::Closed(self.ended().await)),
            }
        })
        .await
    }

    /// How it ended, if it has.
    pub fn end(&self) -> Option<End> {
        self.0.end.borrow().clone()
    }

    /// Waits for the end.
    pub async fn ended(&self) -> End {
        let mut end = self.0.end.clone();
        let known = match end.wait_for(Option::is_some).await {
            Ok(end) => end.clone(),
            Err(_) => None,
        };
        known.unwrap_or_else(|| End::abnormal("the connection's task ended"))
    }

    /// Closes with 1000 and waits for the end.
    pub async fn close(&self) -> End {
        // A full command queue still ends: the pump drains it or the socket fails.
        let _ = self.command(Command::Close(1000, "bye")).await;
        self.ended().await
    }

    async fn command(&self, command: Command) -> Result<(), ClientError> {
        match self.0.commands.send(command).await {
            Ok(()) => Ok(()),
            Err(_) => Err(ClientError::Closed(self.ended().await)),
        }
    }

    async fn limited<T>(&self, work: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
        let limit = self.0.request_timeout;
        tokio::time::timeout(limit, work).await.unwrap_or(Err(ClientError::Timeout(limit)))
    }
}

const AUTH_REF: u64 = 1;

type Socket = WebSocketStream<TcpStream>;

/// The socket's address for what a person gives as the server's address.
pub fn socket_url(url: &str) -> Result<String, ClientError> {
    let plain = url.trim_end_matches('/');
    if plain.starts_with("https://") || plain.starts_with("wss://") {
        return Err(ClientError::Unusable(format!("{url}: this client does not speak TLS; use the http:// address of the server")));
    }
    let rest = plain.strip_prefix("http://").or_else(|| plain.strip_prefix("ws://")).unwrap_or(plain);
    if rest.is_empty() || rest.contains("://") {
        return Err(ClientError::Unusable(format!("{url:?} is not the address of a server (http://host:port)")));
    }
    Ok(if rest.contains('/') { format!("ws://{rest}") } else { format!("ws://{rest}/v1/socket") })
}

async fn handshake(url: &str, format: Format, bearer: Option<&str>) -> Result<Socket, ClientError> {
    let url = socket_url(url)?;
    let unusable = |e: &dyn fmt::Display| ClientError::Unusable(format!("{url}: {e}"));
    let mut request = url.as_str().into_client_request().map_err(|e| unusable(&e))?;
    let mut offered = format.subprotocol().to_owned();
    if let Some(token) = bearer {
        offered.push_str(", hubbub.bearer.");
        offered.push_str(token);
    }
    let offered =
        HeaderValue::from_str(&offered).map_err(|_| ClientError::Unusable("the token holds characters that no token has".into()))?;
    request.headers_mut().insert("sec-websocket-protocol", offered);
    let host = request.uri().host().ok_or_else(|| unusable(&"there is no host in it"))?.to_owned();
    let port = request.uri().port_u16().unwrap_or(80);
    let tcp = TcpStream::connect((host.trim_matches(['[', ']']), port))
        .await
        .map_err(|e| ClientError::Unreachable(format!("{host}:{port}: {e}")))?;
    tcp.set_nodelay(true).map_err(|e| ClientError::Unreachable(e.to_string()))?;
    let config = WebSocketConfig::default().max_frame_size(Some(FRAME_BYTES_MAX)).max_message_size(Some(FRAME_BYTES_MAX));
    match client_async_with_config(request, tcp, Some(config)).await {
        Ok((socket, _)) => Ok(socket),
        Err(WsError::Http(response)) => Err(ClientError::Refused(response.status().as_u16())),
        Err(e) => Err(ClientError::Unreachable(format!("{url}: {e}"))),
    }
}

async fn first_hello(socket: &mut Socket, format: Format) -> Result<Hello, ClientError> {
    let mut failed = None;
    while let Some(frame) = socket.next().await {
        match frame.map_err(|e| ClientError::Closed(End::abnormal(e)))? {
            Message::Close(close) => return Err(failed.unwrap_or_else(|| ClientError::Closed(end_of(close)))),
            frame => match decode(format, &frame)? {
                Some(Push::Hello(hello)) => return Ok(hello),
                // The close code that follows says it too, but less exactly.
                Some(Push::Error(e)) => failed = Some(ClientError::Api(e.error)),
                _ => {}
            },
        }
    }
    Err(failed.unwrap_or_else(|| ClientError::Closed(End::abnormal("the socket ended before the sign-in was answered"))))
}

fn message(format: Format, bytes: Vec<u8>) -> Result<Message, ClientError> {
    Ok(match format {
        Format::Json => Message::text(String::from_utf8(bytes).map_err(|e| ClientError::Unusable(e.to_string()))?),
        Format::Msgpack => Message::binary(bytes),
    })
}

fn decode(format: Format, frame: &Message) -> Result<Option<Push>, ClientError> {
    match frame {
        Message::Text(text) => codec::decode_push(format, text.as_bytes()).map(Some).map_err(ClientError::Api),
        Message::Binary(bytes) => codec::decode_push(format, bytes).map(Some).map_err(ClientError::Api),
        _ => Ok(None),
    }
}

fn end_of(close: Option<CloseFrame>) -> End {
    match close {
        Some(c) => End { code: c.code.into(), reason: c.reason.to_string() },
        None => End { code: 1005, reason: "closed without a code".into() },
    }
}

/// The task that owns the socket.
struct Pump {
    socket: Socket,
    format: Format,
    inbox: mpsc::Receiver<Command>,
    pushes: mpsc::Sender<Push>,
    waiting: HashMap<u64, Answer>,
    pongs: HashMap<u64, oneshot::Sender<()>>,
    last_ref: u64,
}

impl Pump {
    async fn run(mut self, heartbeat: Duration) -> End {
        let mut beat = tokio::time::interval(heartbeat / 2);
        let end = loop {
            let step = tokio::select! {
                frame = self.socket.next() => match frame {
                    Some(frame) => self.incoming(frame).await,
                    None => Err(End::abnormal("the socket ended")),
                },
                command = self.inbox.recv() => match command {
                    Some(command) => self.outgoing(command).await,
                    None => self.close(1000, "bye").await,
                },
                _ = beat.tick() => self.write(Message::Ping(Vec::new().into())).await,
            };
            if let Err(end) = step {
                break end;
            }
        };
        for (_, answer) in self.waiting.drain() {
            let _ = answer.send(Err(ClientError::Closed(end.clone())));
        }
        end
    }

    async fn incoming(&mut self, frame: Result<Message, WsError>) -> Result<(), End> {
        let frame = frame.map_err(End::abnormal)?;
        match &frame {
            Message::Close(close) => {
                let end = end_of(close.clone());
                // Lets the library write its answer; the server may be gone already.
                let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.socket.next()).await;
                return Err(end);
            }
            Message::Pong(payload) => {
                if let Ok(n) = <[u8; 8]>::try_from(&payload[..])
                    && let Some(pong) = self.pongs.remove(&u64::from_be_bytes(n))
                {
                    let _ = pong.send(());
                }
                return Ok(());
            }
            _ => {}
        }
        let push = match decode(self.format, &frame) {
            Ok(Some(push)) => push,
            Ok(None) => return Ok(()),
            Err(e) => return Err(End::abnormal(format!("the server sent what cannot be read: {e}"))),
        };
        let forwarded = match push {
            Push::Ok(reply) => {
                self.answer(reply.reference, Ok(reply));
                return Ok(());
            }
            Push::Error(failed) if failed.reference != 0 => {
                self.answer(failed.reference, Err(ClientError::Api(failed.error)));
                return Ok(());
            }
            Push::Resumed(resumed) => {
                // The end of a resume is its answer, and an event with a place among the pushes.
                self.answer(resumed.reference, Ok(Reply { reference: resumed.reference, ..Reply::default() }));
                Push::Resumed(resumed)
            }
            other => other,
        };
        // A reader that dropped its end only wants replies.
        let _ = self.pushes.send(forwarded).await;
        Ok(())
    }

    fn answer(&mut self, reference: u64, result: Result<Reply, ClientError>) {
        // Callers that gave up have dropped their end.
        if let Some(answer) = self.waiting.remove(&reference) {
            let _ = answer.send(result);
        }
    }

    async fn outgoing(&mut self, command: Command) -> Result<(), End> {
        self.last_ref += 1;
        let frame = match command {
            Command::Request(request, answer) => {
                if self.waiting.len() >= 2 * REQUESTS_WAITING_MAX {
                    self.waiting.retain(|_, answer| !answer.is_closed());
                }
                self.waiting.insert(self.last_ref, answer);
                message(self.format, codec::encode_request(self.format, self.last_ref, &request)).map_err(End::abnormal)?
            }
            Command::Frame(frame) => frame,
            Command::Ping(pong) => {
                self.pongs.retain(|_, pong| !pong.is_closed());
                self.pongs.insert(self.last_ref, pong);
                Message::Ping(self.last_ref.to_be_bytes().to_vec().into())
            }
            Command::Close(code, reason) => return self.close(code, reason).await,
        };
        self.write(frame).await
    }

    async fn write(&mut self, frame: Message) -> Result<(), End> {
        match self.socket.send(frame).await {
            Ok(()) => Ok(()),
            // The server has closed: what it said comes with the next reads.
            Err(WsError::AlreadyClosed | WsError::ConnectionClosed | WsError::Protocol(_)) => Ok(()),
            Err(WsError::Io(e)) => Err(self.last_words(e).await),
            Err(e) => Err(End::abnormal(e)),
        }
    }

    /// A write failed because the peer is gone, but its Close frame may still lie in our receive buffer.
    async fn last_words(&mut self, error: std::io::Error) -> End {
        let read = async {
            while let Some(Ok(frame)) = self.socket.next().await {
                if let Message::Close(close) = frame {
                    return Some(end_of(close));
                }
            }
            None
        };
        tokio::time::timeout(CLOSE_TIMEOUT, read).await.ok().flatten().unwrap_or_else(|| End::abnormal(error))
    }

    async fn close(&mut self, code: u16, reason: &'static str) -> Result<(), End> {
        let frame = CloseFrame { code: code.into(), reason: tungstenite::Utf8Bytes::from_static(reason) };
        let ours = End { code, reason: reason.into() };
        let farewell = async {
            self.socket.close(Some(frame)).await?;
            while let Some(frame) = self.socket.next().await {
                frame?;
            }
            Ok::<(), WsError>(())
        };
        // Whatever the server still does: we ended it.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, farewell).await;
        Err(ours)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn any_form_of_the_servers_address_is_understood() {
        for given in ["http://127.0.0.1:8080", "ws://127.0.0.1:8080/", "127.0.0.1:8080", "http://127.0.0.1:8080/v1/socket"] {
            assert_eq!(socket_url(given).unwrap(), "ws://127.0.0.1:8080/v1/socket", "{given}");
        }
        for bad in ["https://chat.example", "wss://chat.example", "ftp://x", ""] {
            assert!(matches!(socket_url(bad), Err(ClientError::Unusable(_))), "{bad}");
        }
    }
}
