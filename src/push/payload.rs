//! What a device is told: a small JSON object, within what every push service takes.

use super::webpush::PAYLOAD_BYTES_MAX;
use crate::protocol::ids::{RoomId, Seq, UserId};
use bytes::Bytes;
use serde::Serialize;

/// Characters of a title that are kept.
const TITLE_CHARS_MAX: usize = 120;
/// Characters of a text that are kept.
const BODY_CHARS_MAX: usize = 240;

/// A notification's content.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Payload {
    /// The same in every attempt: who has seen it drops the repeat.
    pub id: String,
    /// Who is told: a browser may hold more than one account.
    pub user: UserId,
    /// The room.
    pub room: RoomId,
    /// The newest message it tells of.
    pub seq: Seq,
    /// The room's name; in a direct room the other's.
    pub title: String,
    /// The newest message's text, where the server is configured to give it (`push.show_text`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Messages it tells of.
    pub n: u64,
    /// Unread messages of the room.
    pub unread: u64,
    /// One of them mentions the user.
    pub mention: bool,
}

impl Payload {
    /// As JSON that fits: long texts are cut.
    pub fn encode(mut self) -> Bytes {
        cut(&mut self.title, TITLE_CHARS_MAX);
        if let Some(body) = &mut self.body {
            cut(body, BODY_CHARS_MAX);
        }
        let json = serde_json::to_vec(&self).expect("plain fields are JSON");
        if json.len() <= PAYLOAD_BYTES_MAX {
            return json.into();
        }
        // Control characters take six bytes each in JSON: what needs so many is not worth showing.
        let bare = Payload { title: String::new(), body: None, ..self };
        serde_json::to_vec(&bare).expect("plain fields are JSON").into()
    }
}

fn cut(text: &mut String, chars: usize) {
    if let Some((at, _)) = text.char_indices().nth(chars) {
        text.truncate(at);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(title: &str, body: &str) -> Payload {
        Payload {
            id: "x".repeat(32),
            user: UserId(i64::MAX as u64),
            room: RoomId(i64::MAX as u64),
            seq: u64::MAX,
            title: title.into(),
            body: Some(body.into()),
            n: u64::MAX,
            unread: u64::MAX,
            mention: false,
        }
    }

    #[test]
    fn whatever_is_said_the_payload_fits() {
        for unit in ["a", "ü", "👍", "\"", "\u{1}", "\\"] {
            let json = payload(&unit.repeat(10_000), &unit.repeat(100_000)).encode();
            assert!(json.len() <= PAYLOAD_BYTES_MAX, "{unit:?}: {}", json.len());
            let value: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
            assert_eq!(value["room"], i64::MAX.to_string());
        }
    }

    #[test]
    fn a_short_text_is_whole_and_a_long_one_is_cut_at_a_character() {
        let json = payload("team", "hi 👍").encode();
        let value: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        assert_eq!((&value["title"], &value["body"]), (&"team".into(), &"hi 👍".into()));
        let value: serde_json::Value = serde_json::from_slice(&payload("", &"👍".repeat(1000)).encode()).expect("JSON");
        assert_eq!(value["body"].as_str().map(|s| s.chars().count()), Some(BODY_CHARS_MAX + 1));
    }
}
