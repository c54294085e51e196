//! One row for each rule: a request on either side of it.
#![allow(clippy::unwrap_used)]

use super::super::codec::{Format, decode_request};
use super::*;

const CID: &str = r#""cid":"00000000-0000-0000-0000-000000000001""#;

/// The verdict on a request given as its fields without `ref` and `cid`.
fn verdict(fields: &str) -> Verdict {
    let limits = Limits { text_bytes_max: 8, data_bytes_max: 8, mentions_max: 2, attachments_max: 1, members_max: 3 };
    let frame = format!(r#"{{"ref":1,{CID},{fields}}}"#);
    let (_, request) = decode_request(Format::Json, frame.as_bytes()).unwrap_or_else(|e| panic!("{frame}: {e:?}"));
    request.validate(&limits)
}

fn all_good(rows: &[&str]) {
    for row in rows {
        assert_eq!(verdict(row), Ok(()), "{row}");
    }
}

fn all_bad(rows: &[(&str, &str)]) {
    for (row, part) in rows {
        let e = verdict(row).expect_err(row);
        assert!(e.message.contains(part) && matches!(e.code, Code::Invalid | Code::TooLarge), "{row}: {e}");
        assert_eq!(e.code == Code::TooLarge, part.ends_with("at most 8"), "{row}: {e}");
    }
}

#[test]
fn messages() {
    all_good(&[
        r#""op":"send","room":"5","text":"12345678""#,
        r#""op":"send","room":"5","data":"12345678""#,
        r#""op":"send","room":"5","text":"a","mentions":["1","2"],"reply_to":1,"thread":1"#,
        r#""op":"edit","room":"5","seq":1,"text":"""#,
        r#""op":"delete","room":"5","seq":1"#,
        r#""op":"pin","room":"5","seq":1,"on":true"#,
    ]);
    all_bad(&[
        (r#""op":"send","room":"5""#, "empty"),
        (r#""op":"send","room":"5","text":"","data":"""#, "empty"),
        (r#""op":"send","room":"5","text":"123456789""#, "text: 9 bytes; at most 8"),
        (r#""op":"send","room":"5","text":"äääää""#, "text: 10 bytes; at most 8"),
        (r#""op":"send","room":"5","data":"123456789""#, "data: 9 bytes; at most 8"),
        (r#""op":"send","room":"5","text":"a","mentions":["1","2","3"]"#, "mentions: 3"),
        (r#""op":"send","room":"5","text":"a","mentions":["1","1"]"#, "twice"),
        (r#""op":"send","room":"5","text":"a","reply_to":0"#, "reply_to"),
        (r#""op":"send","room":"5","text":"a","thread":0"#, "thread"),
        (r#""op":"edit","room":"5","seq":1,"text":"123456789""#, "text: 9 bytes; at most 8"),
        (r#""op":"edit","room":"5","seq":0,"text":"a""#, "seq"),
        (r#""op":"edit","room":"5","seq":1,"text":"a","mentions":["1","2","3"]"#, "mentions"),
        (r#""op":"delete","room":"5","seq":0"#, "seq"),
        (r#""op":"pin","room":"5","seq":0,"on":true"#, "seq"),
    ]);
}

#[test]
fn attachments() {
    let send = |url: &str| format!(r#""op":"send","room":"5","attachments":[{{"url":{}}}]"#, serde_json::to_string(url).unwrap());
    let long = format!("/{}", "x".repeat(URL_BYTES_MAX - 1));
    for url in ["https://a", "http://a/b?c#d", "HTTPS://a", "/v1/files/1", "/", &long] {
        assert_eq!(verdict(&send(url)), Ok(()), "{url}");
    }
    let longer = format!("{long}x");
    let bad = [
        "",
        "a",
        "x/y",
        "//a",
        "/\\a",
        "javascript:alert(1)",
        "data:,x",
        "ftp://a",
        "http://",
        "https:///a",
        "/a b",
        "/a\nb",
        "http:/a",
        "\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}",
    ];
    for url in bad.into_iter().chain([&longer[..]]) {
        assert!(verdict(&send(url)).is_err(), "{url}");
    }
    all_bad(&[
        (r#""op":"send","room":"5","attachments":[{"url":"/1"},{"url":"/2"}]"#, "attachments: 2"),
        (r#""op":"send","room":"5","attachments":[{"url":"/1","name":"a\u0007"}]"#, "attachments.name"),
        (r#""op":"send","room":"5","attachments":[{"url":"/1","mime":"a\n"}]"#, "attachments.mime"),
        (&format!(r#""op":"send","room":"5","attachments":[{{"url":"/1","name":"{}"}}]"#, "x".repeat(256)), "attachments.name"),
    ]);
}

#[test]
fn reactions() {
    for emoji in ["👍", "👩‍👩‍👧‍👦", "+1", &"x".repeat(64)] {
        assert_eq!(verdict(&format!(r#""op":"react","room":"5","seq":1,"emoji":"{emoji}","on":true"#)), Ok(()), "{emoji}");
    }
    for emoji in ["", " ", "a b", "\\u0000", &"x".repeat(65)] {
        let e = verdict(&format!(r#""op":"react","room":"5","seq":1,"emoji":"{emoji}","on":true"#)).expect_err(emoji);
        assert!(e.message.starts_with("emoji"), "{e}");
    }
    all_bad(&[(r#""op":"react","room":"5","seq":0,"emoji":"+1","on":true"#, "seq")]);
}

#[test]
fn rooms() {
    all_good(&[
        r#""op":"create","kind":"direct","members":["2"]"#,
        r#""op":"create","kind":"group","name":"a b","topic":"one\ntwo""#,
        r#""op":"create","kind":"channel","name":"a","members":["2","3"]"#,
        r#""op":"update","room":"5","topic":"""#,
    ]);
    let name = |n: usize| format!(r#""op":"update","room":"5","name":"{}""#, "ä".repeat(n));
    let topic = |n: usize| format!(r#""op":"update","room":"5","topic":"{}""#, "ä".repeat(n));
    all_good(&[&name(NAME_CHARS_MAX), &topic(TOPIC_CHARS_MAX)]);
    all_bad(&[
        (&name(NAME_CHARS_MAX + 1), "name: 101"),
        (&topic(TOPIC_CHARS_MAX + 1), "topic: 1001"),
        (r#""op":"create","kind":"direct","members":[]"#, "exactly one"),
        (r#""op":"create","kind":"direct","members":["2","3"]"#, "exactly one"),
        (r#""op":"create","kind":"direct","members":["2"],"name":"a""#, "name"),
        (r#""op":"create","kind":"direct","members":["2"],"topic":"a""#, "topic"),
        (r#""op":"create","kind":"group""#, "name"),
        (r#""op":"create","kind":"group","name":"""#, "name"),
        (r#""op":"create","kind":"group","name":" a""#, "name"),
        (r#""op":"create","kind":"group","name":"a\tb""#, "name"),
        (r#""op":"create","kind":"group","name":"a","topic":"a\tb""#, "topic"),
        (r#""op":"create","kind":"group","name":"a","members":["2","3","4"]"#, "members: 3"),
        (r#""op":"create","kind":"group","name":"a","members":["2","2"]"#, "twice"),
        (r#""op":"update","room":"5""#, "give"),
        (r#""op":"update","room":"5","name":"a ""#, "name"),
    ]);
}

#[test]
fn people() {
    let status = |n: usize| format!(r#""op":"presence","status":"{}""#, "ä".repeat(n));
    let token = |op: &str, n: usize| format!(r#""op":"{op}","token":"{}""#, "x".repeat(n));
    let watch = |n: usize| format!(r#""op":"watch","on":true,"users":{:?}"#, (0..n).map(|i| i.to_string()).collect::<Vec<_>>());
    all_good(&[&status(0), &status(140), r#""op":"presence","state":"away""#, &watch(0), &watch(500)]);
    all_good(&[&token("auth", 1), &token("auth", TOKEN_BYTES_MAX), &token("refresh", 1)]);
    all_bad(&[
        (&status(141), "status"),
        (r#""op":"presence","status":"a\u0085b""#, "status"),
        (r#""op":"presence","state":"offline""#, "state"),
        (r#""op":"presence""#, "give"),
        (&watch(501), "users: 501"),
        (r#""op":"watch","on":true,"users":["1","1"]"#, "twice"),
        (&token("auth", 0), "token"),
        (&token("refresh", TOKEN_BYTES_MAX + 1), "token"),
    ]);
}

#[test]
fn pages() {
    let resume = |n: usize| {
        let rooms: Vec<_> = (0..n).map(|i| format!(r#"{{"room":"{i}","have":0}}"#)).collect();
        format!(r#""op":"resume","rooms":[{}],"last":true"#, rooms.join(","))
    };
    all_good(&[&resume(0), &resume(500)]);
    for (op, max) in [("history", 200), ("rooms", 200), ("members", 1_000)] {
        all_good(&[&format!(r#""op":"{op}","room":"5","limit":1"#), &format!(r#""op":"{op}","room":"5","limit":{max}"#)]);
        all_bad(&[
            (&format!(r#""op":"{op}","room":"5","limit":0"#), "limit"),
            (&format!(r#""op":"{op}","room":"5","limit":{}"#, max + 1), "limit"),
        ]);
    }
    all_good(&[r#""op":"cursor","room":"5","read":0"#, r#""op":"history","room":"5","around":7"#]);
    all_bad(&[
        (&resume(501), "rooms: 501"),
        (r#""op":"resume","rooms":[{"room":"5","have":1},{"room":"5","have":2}]"#, "room 5 is named twice"),
        (r#""op":"history","room":"5","before":9,"after":1"#, "at most one"),
        (r#""op":"cursor","room":"5""#, "give"),
    ]);
}
