//! The upgrade: from an HTTP request to a session. Everything that can be refused is refused here, before there is a socket.
//!
//! Order: draining, limits, Origin, form of the handshake, subprotocol, token. A token is taken from the subprotocol
//! `hubbub.bearer.<token>` (never echoed) or later from the first frame, never from the address.

use super::peer::origin_allowed;
use super::server::Upgraded;
use super::{Api, address};
use crate::actors::node::NodeContext;
use crate::actors::session::{Gate, Opening, Session, Ticket};
use crate::error::{ApiError, Code};
use crate::protocol::codec::Format;
use crate::telemetry::metrics;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, ResponseError, web};
use actix_web_actors::ws;
use base64::Engine;
use parking_lot::Mutex;
use std::cell::Cell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Prefix of the subprotocol that carries a token.
const BEARER: &str = "hubbub.bearer.";

/// What the socket's routes share.
pub struct Doors {
    /// The node.
    pub node: Arc<NodeContext>,
    /// Who may come in.
    pub gate: Arc<dyn Gate>,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Default)]
struct Counts {
    all: usize,
    /// Per address: sockets, and those of them that have not signed in.
    by_address: HashMap<IpAddr, (usize, usize)>,
}

impl Doors {
    /// Nobody is in yet.
    pub fn new(node: Arc<NodeContext>, gate: Arc<dyn Gate>) -> Doors {
        Doors { node, gate, counts: Arc::default() }
    }

    /// Counts a socket in, if the limits allow.
    fn enter(&self, from: IpAddr) -> Result<Entered, (&'static str, ApiError)> {
        let limits = &self.node.config.socket;
        let mut counts = self.counts.lock();
        let (open, unknown) = counts.by_address.get(&from).copied().unwrap_or_default();
        let busy = |text| ApiError::after(Code::Busy, text, Duration::from_secs(5));
        if counts.all >= limits.connections_max {
            return Err(("connections_max", busy("this server has as many connections as it takes")));
        }
        if open >= limits.connections_per_address_max {
            return Err(("per_address", busy("there are too many connections from this address")));
        }
        if unknown >= limits.unauthenticated_per_address_max {
            return Err(("unauthenticated", busy("too many connections from this address have not signed in")));
        }
        counts.all += 1;
        counts.by_address.insert(from, (open + 1, unknown + 1));
        Ok(Entered { counts: self.counts.clone(), from, known: Cell::new(false) })
    }

    /// Sockets open now.
    pub fn open(&self) -> usize {
        self.counts.lock().all
    }
}

struct Entered {
    counts: Arc<Mutex<Counts>>,
    from: IpAddr,
    known: Cell<bool>,
}
impl Ticket for Entered {
    fn signed_in(&self) {
        if !self.known.replace(true)
            && let Some((_, unknown)) = self.counts.lock().by_address.get_mut(&self.from)
        {
            *unknown = unknown.saturating_sub(1);
        }
    }
}
impl Drop for Entered {
    fn drop(&mut self) {
        self.signed_in();
        let mut counts = self.counts.lock();
        counts.all = counts.all.saturating_sub(1);
        if let Some((open, _)) = counts.by_address.get_mut(&self.from) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                counts.by_address.remove(&self.from);
            }
        }
    }
}

fn refuse(reason: &str, error: ApiError) -> HttpResponse {
    metrics().sockets_refused_total.of(reason).inc();
    error.error_response()
}

/// `GET /v1/socket`
pub async fn socket(req: HttpRequest, api: web::Data<Api>, doors: web::Data<Doors>) -> HttpResponse {
    if let Err((reason, error)) = allowed(&req, &api, &doors) {
        return refuse(reason, error);
    }
    if let Some(response) = malformed(&req) {
        return response;
    }
    let offered = match offered(&req) {
        Ok(offered) => offered,
        Err(error) => return refuse("subprotocol", error),
    };
    let entered = match doors.enter(crate::auth::limits::network(address(&req))) {
        Ok(entered) => entered,
        Err((reason, error)) => return refuse(reason, error),
    };
    let Ok(mut response) = ws::handshake(&req) else {
        return refuse("handshake", ApiError::new(Code::Malformed, "this is not a WebSocket handshake"));
    };
    if offered.named {
        // Named by us and not by the library, which looks at the first of several such headers only.
        response.insert_header((header::SEC_WEBSOCKET_PROTOCOL, offered.format.subprotocol()));
    }
    let opening = Opening {
        node: doors.node.clone(),
        gate: doors.gate.clone(),
        format: offered.format,
        token: offered.token,
        echo: false,
        ticket: Box::new(entered),
    };
    Upgraded::hand_over(&req, response.finish(), move |io, read| Session::open(io, read, opening))
}

/// `GET /v1/echo` (`dev.echo`): the same frame path as chat, without token and subprotocol.
pub async fn echo(req: HttpRequest, doors: web::Data<Doors>) -> HttpResponse {
    if let Some(response) = malformed(&req) {
        return response;
    }
    let entered = match doors.enter(address(&req)) {
        Ok(entered) => entered,
        Err((reason, error)) => return refuse(reason, error),
    };
    let Ok(mut response) = ws::handshake(&req) else {
        return refuse("handshake", ApiError::new(Code::Malformed, "this is not a WebSocket handshake"));
    };
    entered.signed_in();
    let opening = Opening {
        node: doors.node.clone(),
        gate: doors.gate.clone(),
        format: Format::Json,
        token: None,
        echo: true,
        ticket: Box::new(entered),
    };
    Upgraded::hand_over(&req, response.finish(), move |io, read| Session::open(io, read, opening))
}

fn allowed(req: &HttpRequest, api: &Api, doors: &Doors) -> Result<(), (&'static str, ApiError)> {
    if doors.node.draining.load(Ordering::Relaxed) {
        return Err(("draining", ApiError::after(Code::Draining, "this server is going away", Duration::from_secs(1))));
    }
    api.limits.connect(address(req)).map_err(|e| ("rate_limited", e))?;
    let query = req.query_string();
    if query.contains("token=") {
        let text = "a token in the address ends up in logs: send it in the first frame or as a subprotocol";
        return Err(("handshake", ApiError::new(Code::Invalid, text)));
    }
    if !origin_allowed(req, &doors.node.config.http.origins) {
        return Err(("origin", ApiError::new(Code::Forbidden, "pages of this origin may not connect (http.origins)")));
    }
    Ok(())
}

/// The refusal of a handshake that is not what RFC 6455, 4.2.1 asks, as far as the library does not look at it.
fn malformed(req: &HttpRequest) -> Option<HttpResponse> {
    let get = |name| req.headers().get(name).and_then(|v| v.to_str().ok());
    let upgrade = get(header::UPGRADE).is_some_and(|v| v.eq_ignore_ascii_case("websocket"));
    if !upgrade || get(header::SEC_WEBSOCKET_VERSION) != Some("13") {
        metrics().sockets_refused_total.of("handshake").inc();
        let error = ApiError::new(Code::Malformed, "this address speaks WebSocket, version 13");
        let mut response = error.error_response();
        *response.status_mut() = actix_web::http::StatusCode::UPGRADE_REQUIRED;
        response.headers_mut().insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
        response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, header::HeaderValue::from_static("13"));
        return Some(response);
    }
    let key = get(header::SEC_WEBSOCKET_KEY).and_then(|k| base64::engine::general_purpose::STANDARD.decode(k).ok());
    let refused = || refuse("handshake", ApiError::new(Code::Malformed, "sec-websocket-key is not 16 bytes in base64"));
    key.is_none_or(|k| k.len() != 16).then(refused)
}

struct Offered {
    format: Format,
    /// The client named it, so the answer must.
    named: bool,
    token: Option<String>,
}

/// The first known encoding of those offered; JSON when none is; an error when all are unknown.
fn offered(req: &HttpRequest) -> Result<Offered, ApiError> {
    let headers = req.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL).filter_map(|v| v.to_str().ok());
    let names: Vec<&str> = headers.flat_map(|v| v.split(',')).map(str::trim).filter(|n| !n.is_empty()).collect();
    let token = names.iter().find_map(|n| n.strip_prefix(BEARER)).map(str::to_owned);
    let encodings: Vec<&&str> = names.iter().filter(|n| !n.starts_with(BEARER)).collect();
    let (format, named) = match encodings.iter().find_map(|n| Format::from_subprotocol(n)) {
        Some(format) => (format, true),
        None if encodings.is_empty() => (Format::Json, false),
        None => {
            let text = "none of the offered subprotocols is known here (hubbub.v1.json, hubbub.v1.msgpack)";
            return Err(ApiError::new(Code::Malformed, text));
        }
    };
    Ok(Offered { format, named, token })
}
