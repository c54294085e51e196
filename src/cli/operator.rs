//! Asks the server that runs on a data directory, through its operators' listener.
//!
//! A running node says in `<data_dir>/node.json` where it listens; the token is among its secrets. A file left by a node that was
//! killed points at nothing, or at another server that refuses the token: then nobody is found, and the caller goes to the data
//! directory itself, whose lock has the last word. Every call has a timeout; answers are read up to a limit.

use super::{Failure, warn};
use crate::config::secrets;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

/// Where a node says how it can be reached, in its data directory.
const NODE_FILE: &str = "node.json";
/// Of this machine, or of one near by.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Covers a queue of passwords to hash.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an answer: a page of accounts is far below.
const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;

#[derive(Deserialize)]
struct NodeFile {
    admin: SocketAddr,
}

#[derive(Deserialize)]
struct Refusal {
    code: String,
    detail: Option<String>,
}

/// A running server's operators' listener.
pub(super) struct Operator {
    base: String,
    token: secrets::Secret,
    agent: ureq::Agent,
}

impl Operator {
    /// The server that runs on the directory, if one answers.
    pub(super) fn of(data_dir: &Path) -> Result<Option<Operator>, Failure> {
        let Ok(text) = std::fs::read(data_dir.join(NODE_FILE)) else { return Ok(None) };
        let Ok(node) = serde_json::from_slice::<NodeFile>(&text) else {
            warn(&format!("{}: not understood; taken for left over", data_dir.join(NODE_FILE).display()));
            return Ok(None);
        };
        let Some(token) = secrets::admin_token(data_dir)? else { return Ok(None) };
        let address = reachable(node.admin);
        if TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).is_err() {
            return Ok(None);
        }
        let config = ureq::Agent::config_builder().timeout_global(Some(CALL_TIMEOUT)).http_status_as_error(false).proxy(None).build();
        let operator = Operator { base: format!("http://{address}"), token, agent: config.into() };
        match operator.request("GET", "/admin/users?after=0&limit=1", None)?.status {
            401 | 403 | 404 => {
                warn(&format!("the server at {address} is not the one of {}; taken for another", data_dir.display()));
                Ok(None)
            }
            _ => Ok(Some(operator)),
        }
    }

    /// Reads something.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.request("GET", path, None)?.into()
    }

    /// Does something that has an answer.
    pub(super) fn post<T: DeserializeOwned>(&self, path: &str, body: Value) -> Result<T, Failure> {
        self.request("POST", path, Some(body))?.into()
    }

    /// Does something; whatever a success carries is passed over.
    pub(super) fn post_done(&self, path: &str, body: Value) -> Result<(), Failure> {
        let answer = self.request("POST", path, Some(body))?;
        if answer.is_fine() { Ok(()) } else { answer.into() }
    }

    /// Asks for a stream, which may take as long as it takes; the server ends one that nobody reads.
    pub(super) fn stream(&self, path: &str) -> Result<Box<dyn Read>, Failure> {
        let url = format!("{}{path}", self.base);
        let config = ureq::Agent::config_builder().timeout_connect(Some(CONNECT_TIMEOUT)).timeout_recv_response(Some(CALL_TIMEOUT));
        let agent: ureq::Agent = config.http_status_as_error(false).proxy(None).build().into();
        let sent = agent.post(&url).header("authorization", format!("Bearer {}", self.token.expose())).send_empty();
        let mut response = sent.map_err(|e| Failure::Failed(format!("POST {url}: {e}")))?;
        let status = response.status().as_u16();
        if status != 200 {
            let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
            let refused: Result<Value, Failure> = Answer { status, body: body.unwrap_or_default() }.into();
            return Err(refused.err().unwrap_or_else(|| Failure::Failed(format!("the server answered with status {status}"))));
        }
        Ok(Box::new(response.into_body().into_reader()))
    }

    /// Takes something away.
    pub(super) fn delete(&self, path: &str) -> Result<(), Failure> {
        let answer = self.request("DELETE", path, None)?;
        if answer.is_fine() { Ok(()) } else { answer.into() }
    }

    fn request(&self, method: &str, path: &str, body: Option<Value>) -> Result<Answer, Failure> {
        let url = format!("{}{path}", self.base);
        let bearer = format!("Bearer {}", self.token.expose());
        let sent = match body {
            None if method == "DELETE" => self.agent.delete(&url).header("authorization", bearer).call(),
            None => self.agent.get(&url).header("authorization", bearer).call(),
            Some(body) => self.agent.post(&url).header("authorization", bearer).send_json(body),
        };
        let read = sent.and_then(|mut response| {
            let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
            Ok(Answer { status: response.status().as_u16(), body })
        });
        read.map_err(|e| Failure::Failed(format!("{method} {url}: {e}")))
    }
}

/// A node that listens on every address is asked on the loopback one.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
    }
    address
}

struct Answer {
    status: u16,
    body: Vec<u8>,
}

impl Answer {
    fn is_fine(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl<T: DeserializeOwned> From<Answer> for Result<T, Failure> {
    fn from(answer: Answer) -> Self {
        if answer.is_fine() {
            return serde_json::from_slice(&answer.body)
                .map_err(|e| Failure::Failed(format!("the server's answer is not understood: {e}")));
        }
        Err(Failure::Failed(match serde_json::from_slice(&answer.body) {
            Ok(Refusal { code, detail: Some(detail) }) => format!("{detail} ({code})"),
            Ok(Refusal { code, detail: None }) => code,
            Err(_) => format!("the server answered with status {}", answer.status),
        }))
    }
}
