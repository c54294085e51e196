//! Addresses, names that change their mind, redirects, silence, and long answers; against a server of the test's own.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn config(ranges: &[&str]) -> config::Outbound {
    config::Outbound { allowed_ranges: ranges.iter().map(|r| r.to_string()).collect(), timeout_ms: 500, ..Default::default() }
}

fn call(url: &str, answer_bytes_max: usize) -> Call {
    Call { method: Method::POST, url: Url::parse(url).unwrap(), headers: HeaderMap::new(), body: "hello".into(), answer_bytes_max }
}

/// A server that answers each connection with these bytes (none: not at all), and counts connections.
async fn server(answer: Option<&'static str>) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, count) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let came = count.clone();
    actix_rt::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut io, _)) = listener.accept().await {
            came.fetch_add(1, Ordering::SeqCst);
            let mut head = [0; 4096];
            let _ = io.read(&mut head).await;
            match answer {
                Some(answer) => drop(io.write_all(answer.as_bytes()).await),
                None => silent.push(io),
            }
        }
    });
    (port, count)
}

#[test]
fn only_the_public_internet_is_public() {
    let public = ["1.1.1.1", "100.128.0.1", "172.32.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1"];
    let special = [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.1",
        "192.0.2.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fc00::1",
        "fd00::1",
        "ff02::1",
        "2001:db8::1",
        "2001::1",
        "3fff::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::1",
        "::7f00:1",
    ];
    for ip in public {
        assert!(is_public(ip.parse().unwrap()), "{ip}");
    }
    for ip in special {
        assert!(!is_public(ip.parse().unwrap()), "{ip}");
    }
}

#[actix_rt::test]
async fn an_address_that_may_not_be_called_is_refused_before_it_is() {
    let strict = Outbound::new(&config(&[])).unwrap();
    for bad in [
        "ftp://example.org",
        "example.org",
        "https://user:secret@example.org",
        "https://127.0.0.1",
        "https://[::1]/x",
        "https://0x7f.1/",
        "https://2130706433/",
        "http://1.1.1.1/",
        "https://169.254.169.254/latest",
        "https://[::ffff:10.0.0.1]/",
        "file:///etc/passwd",
    ] {
        assert!(matches!(strict.address(bad), Err(OutboundError::Refused(_))), "{bad}");
    }
    assert!(strict.address(&format!("https://example.org/{}", "x".repeat(URL_BYTES_MAX))).is_err());
    assert!(strict.address("https://example.org/hook?x=1").is_ok(), "its host is looked at when it is called");
    let (port, count) = server(Some("HTTP/1.1 204 No Content\r\n\r\n")).await;
    let sent = strict.send(call(&format!("http://127.0.0.1:{port}/"), 0)).await;
    assert!(matches!(sent, Err(OutboundError::Refused(_))), "{sent:?}");
    let sent = strict.send(call(&format!("http://localhost:{port}/"), 0)).await;
    assert!(matches!(sent, Err(OutboundError::Refused(_))), "{sent:?}");
    assert_eq!(count.load(Ordering::SeqCst), 0, "not a connection");
    let allowing = Outbound::new(&config(&["127.0.0.0/8"])).unwrap();
    assert_eq!(allowing.send(call(&format!("http://127.0.0.1:{port}/"), 0)).await.unwrap().status, 204);
    assert!(Outbound::new(&config(&["10.0.0.0"])).is_err());
}

#[actix_rt::test]
async fn a_name_that_answers_otherwise_the_next_time_reaches_nothing() {
    let (port, count) = server(Some("HTTP/1.1 204 No Content\r\n\r\n")).await;
    // The first answer looks harmless, each later one points inside; and one that mixes both.
    for answers in [vec![vec!["1.1.1.1"], vec!["127.0.0.1"]], vec![vec!["1.1.1.1", "127.0.0.1"]]] {
        let asked = Arc::new(AtomicUsize::new(1));
        let lookup: Lookup = Arc::new(move |_| {
            let at = asked.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
            let ips = answers[at].iter().map(|ip| ip.parse().unwrap()).collect();
            Box::pin(async move { Ok(ips) })
        });
        let outbound = Outbound::with_lookup(&config(&[]), lookup).unwrap();
        let url = format!("https://rebinding.example:{port}/");
        assert!(outbound.address(&url).is_ok());
        let sent = outbound.send(call(&url, 0)).await;
        assert!(matches!(sent, Err(OutboundError::Refused(_))), "{sent:?}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 0, "not a connection");
}

#[actix_rt::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let (inside, count) = server(Some("HTTP/1.1 204 No Content\r\n\r\n")).await;
    let to: &'static str =
        Box::leak(format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:{inside}/\r\nContent-Length: 0\r\n\r\n").into());
    let (port, _) = server(Some(to)).await;
    let outbound = Outbound::new(&config(&["127.0.0.0/8"])).unwrap();
    let answer = outbound.send(call(&format!("http://127.0.0.1:{port}/"), 0)).await.unwrap();
    assert!(answer.status == 307 && !answer.is_success());
    assert_eq!(count.load(Ordering::SeqCst), 0);
}

#[actix_rt::test]
async fn silence_is_given_up_and_a_long_answer_is_cut() {
    let outbound = Outbound::new(&config(&["127.0.0.0/8"])).unwrap();
    let (port, _) = server(None).await;
    let begun = std::time::Instant::now();
    let sent = outbound.send(call(&format!("http://127.0.0.1:{port}/"), 10)).await;
    assert_eq!(sent.unwrap_err(), OutboundError::TimedOut(500));
    assert!(begun.elapsed() < Duration::from_secs(3));
    let (port, _) = server(Some("HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 12\r\n\r\nhello, world")).await;
    let answer = outbound.send(call(&format!("http://127.0.0.1:{port}/"), 5)).await.unwrap();
    assert_eq!((answer.status, &answer.body[..], answer.whole), (503, &b"hello"[..], false));
    assert_eq!(answer.retry_after(), Some(Duration::from_secs(7)));
    let answer = outbound.send(call(&format!("http://127.0.0.1:{port}/"), 12)).await.unwrap();
    assert!(answer.whole && answer.body.len() == 12);
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let error = outbound.send(call(&format!("http://127.0.0.1:{nobody}/secret"), 0)).await.unwrap_err();
    assert!(matches!(&error, OutboundError::Failed(why) if !why.contains("secret")), "{error:?}");
}
