//! A real HTTP server in the test's own process: takes requests, keeps them, and answers as the test says.

use serde_json::Value;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::SOON;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Received {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", String::from_utf8_lossy(&self.body)))
    }
}

/// How a request is answered.
#[derive(Clone, Debug)]
pub enum Reply {
    /// With this status and nothing else.
    Status(u16),
    /// With this status, header lines and body.
    Full(u16, Vec<(&'static str, String)>, String),
    /// Never: the connection stays open.
    Hang,
}

impl Reply {
    pub fn json(value: &Value) -> Reply {
        Reply::Full(200, vec![("content-type", "application/json".into())], value.to_string())
    }
}

type Answer = Arc<dyn Fn(&Received) -> Reply + Send + Sync>;

/// See the module.
pub struct Receiver {
    pub port: u16,
    came: mpsc::UnboundedReceiver<Received>,
    /// Requests that were taken out while another was waited for.
    kept: VecDeque<Received>,
}

impl Receiver {
    /// Starts one that answers by this.
    pub async fn start(answer: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Receiver {
        Receiver::start_at(0, answer).await
    }
    /// The same on a port of the test's choice.
    pub async fn start_at(port: u16, answer: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Receiver {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let (tell, came) = mpsc::unbounded_channel();
        let answer: Answer = Arc::new(answer);
        tokio::spawn(async move {
            // Ends with the receiver: nobody would read what it tells.
            while !tell.is_closed() {
                let Ok(Ok((io, _))) = tokio::time::timeout(Duration::from_millis(200), listener.accept()).await else { continue };
                let (tell, answer) = (tell.clone(), answer.clone());
                tokio::spawn(async move { serve(io, &tell, &answer).await });
            }
        });
        Receiver { port, came, kept: VecDeque::new() }
    }
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
    /// The next request.
    pub async fn next(&mut self) -> Received {
        if let Some(first) = self.kept.pop_front() {
            return first;
        }
        tokio::time::timeout(SOON, self.came.recv()).await.expect("a request comes soon").expect("the server runs")
    }
    /// The next request that fits; others are kept for later.
    pub async fn next_where(&mut self, fits: impl Fn(&Received) -> bool) -> Received {
        if let Some(at) = self.kept.iter().position(&fits) {
            return self.kept.remove(at).expect("it is there");
        }
        loop {
            let came = tokio::time::timeout(SOON, self.came.recv()).await.expect("such a request comes soon").expect("the server runs");
            if fits(&came) {
                return came;
            }
            self.kept.push_back(came);
        }
    }
    /// Nothing comes for a while.
    pub async fn silence(&mut self, for_ms: u64) {
        assert!(self.kept.is_empty(), "{:?}", self.kept);
        let came = tokio::time::timeout(Duration::from_millis(for_ms), self.came.recv()).await;
        assert!(came.is_err(), "{came:?}");
    }
}

async fn serve(mut io: TcpStream, tell: &mpsc::UnboundedSender<Received>, answer: &Answer) {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at;
        }
        match io.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let mut lines = text.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (method, path) = (first.next().unwrap_or_default().to_owned(), first.next().unwrap_or_default().to_owned());
    let headers: Vec<(String, String)> =
        lines.filter_map(|l| l.split_once(':')).map(|(n, v)| (n.to_lowercase(), v.trim().to_owned())).collect();
    let length = headers.iter().find(|(n, _)| n == "content-length").and_then(|(_, v)| v.parse().ok()).unwrap_or(0);
    let mut body = bytes.split_off(head + 4);
    while body.len() < length {
        if io.read_buf(&mut body).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let received = Received { method, path, headers, body };
    let reply = answer(&received);
    let _ = tell.send(received);
    let (status, headers, body) = match reply {
        Reply::Status(status) => (status, Vec::new(), String::new()),
        Reply::Full(status, headers, body) => (status, headers, body),
        Reply::Hang => {
            // Until the other side gives up.
            let _ = io.read_buf(&mut bytes).await;
            return;
        }
    };
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!("HTTP/1.1 {status} As It Is\r\ncontent-length: {}\r\nconnection: close\r\n{lines}\r\n", body.len());
    let _ = io.write_all(head.as_bytes()).await;
    let _ = io.write_all(body.as_bytes()).await;
    let _ = io.shutdown().await;
}
