//! A push service and a gateway of the test's own: takes every request, answers as told, and keeps what it got.

use super::SOON;
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use web_push_native::p256::SecretKey;
use web_push_native::p256::elliptic_curve::sec1::ToEncodedPoint;

/// What the vendor answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// This status, with these header lines.
    Status(u16, &'static str),
    /// A redirect to a path of the vendor's own.
    Redirect(&'static str),
    /// Nothing, until the other side goes away.
    Hang,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Got {
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Got {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }
    /// What was pushed to a browser of [`browser`].
    pub fn opened(&self) -> Value {
        let auth = web_push_native::Auth::from(AUTH);
        let plain = web_push_native::decrypt(self.body.clone(), &secret(), &auth).expect("encrypted for this browser");
        serde_json::from_slice(&plain).expect("JSON")
    }
}

const SECRET: [u8; 32] = [7; 32];
const AUTH: [u8; 16] = [9; 16];

fn secret() -> SecretKey {
    SecretKey::from_slice(&SECRET).expect("a secret of the curve")
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

/// The browser's private half, as text: key and authentication secret.
pub fn browser_secrets() -> (String, String) {
    (base64(&SECRET), base64(&AUTH))
}

/// What a browser gives to subscribe.
pub fn browser(endpoint: &str) -> Value {
    let public = secret().public_key().to_encoded_point(false);
    serde_json::json!({ "endpoint": endpoint, "keys": { "p256dh": base64(public.as_bytes()), "auth": base64(&AUTH) } })
}

#[derive(Default)]
struct Inner {
    got: Mutex<Vec<Got>>,
    answers: Mutex<HashMap<String, VecDeque<Answer>>>,
}

/// See the module.
pub struct Vendor {
    address: SocketAddr,
    inner: Arc<Inner>,
    came: watch::Sender<()>,
}

impl Vendor {
    pub async fn start() -> Vendor {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let vendor = Vendor { address, inner: Arc::default(), came: watch::channel(()).0 };
        let (inner, came) = (vendor.inner.clone(), vendor.came.clone());
        tokio::spawn(async move {
            while let Ok((io, _)) = listener.accept().await {
                tokio::spawn(serve(io, inner.clone(), came.clone()));
            }
        });
        vendor
    }

    /// An address of it.
    pub fn at(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The next requests to a path are answered so; those after them with 201.
    pub fn answer(&self, path: &str, answers: impl IntoIterator<Item = Answer>) {
        self.inner.answers.lock().entry(path.into()).or_default().extend(answers);
    }

    /// What came to a path so far.
    pub fn got(&self, path: &str) -> Vec<Got> {
        self.inner.got.lock().iter().filter(|g| g.path == path).cloned().collect()
    }

    /// Waits until something that came to the path satisfies the condition.
    pub async fn until(&self, path: &str, what: &str, fits: impl Fn(&[Got]) -> bool) -> Vec<Got> {
        let mut came = self.came.subscribe();
        let found = async {
            loop {
                came.borrow_and_update();
                let got = self.got(path);
                if fits(&got) {
                    return got;
                }
                came.changed().await.expect("the vendor lives");
            }
        };
        let found = tokio::time::timeout(SOON, found).await;
        found.unwrap_or_else(|_| panic!("not within {SOON:?}: {what}; {} requests came to {path}", self.got(path).len()))
    }

    /// Waits for so many requests to a path, and gives all that came.
    pub async fn until_count(&self, path: &str, count: usize) -> Vec<Got> {
        self.until(path, &format!("{count} requests"), |got| got.len() >= count).await
    }

    /// For what must not come: waits, then says how much came to the path.
    pub async fn after(&self, path: &str, time: Duration) -> Vec<Got> {
        tokio::time::sleep(time).await;
        self.got(path)
    }
}

/// Serves one connection: requests one after the other.
async fn serve(mut io: TcpStream, inner: Arc<Inner>, came: watch::Sender<()>) {
    let mut bytes = Vec::new();
    loop {
        let Some(got) = read(&mut io, &mut bytes).await else { return };
        let answer = inner.answers.lock().get_mut(&got.path).and_then(VecDeque::pop_front);
        inner.got.lock().push(got);
        came.send_modify(|()| {});
        let text = match answer.unwrap_or(Answer::Status(201, "")) {
            Answer::Status(status, headers) => format!("HTTP/1.1 {status} Told\r\n{headers}Content-Length: 0\r\n\r\n"),
            Answer::Redirect(to) => {
                let at = io.local_addr().expect("connected");
                format!("HTTP/1.1 307 Elsewhere\r\nLocation: http://{at}{to}\r\nContent-Length: 0\r\n\r\n")
            }
            Answer::Hang => {
                let _ = io.read(&mut [0; 1]).await;
                return;
            }
        };
        if io.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The next request; none when the connection ends.
async fn read(io: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<Got> {
    loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let mut lines = head.split("\r\n");
            let path = lines.next()?.split(' ').nth(1)?.to_owned();
            let headers: Vec<(String, String)> =
                lines.filter_map(|l| l.split_once(':')).map(|(n, v)| (n.to_lowercase(), v.trim().to_owned())).collect();
            let length = headers.iter().find(|(n, _)| n == "content-length").map_or(0, |(_, v)| v.parse().expect("a length"));
            let whole = end + 4 + length;
            if bytes.len() >= whole {
                let body = bytes[end + 4..whole].to_vec();
                bytes.drain(..whole);
                return Some(Got { path, headers, body });
            }
        }
        if io.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    }
}
