//! What a request's values may be, as far as the request alone can tell.
//!
//! Whether the room is there, who is a member and who may do what is decided by those who hold that state.

use super::entry::{Attachment, FOREVER, RoomKind};
use super::ids::{Seq, UserId};
use super::ops::*;
use crate::error::{ApiError, Code};
use std::collections::HashSet;

/// Characters of a room's name.
pub const NAME_CHARS_MAX: usize = 100;
/// Characters of a room's topic.
pub const TOPIC_CHARS_MAX: usize = 1_000;
/// Characters of a status text.
pub const STATUS_CHARS_MAX: usize = 140;
/// Characters of an emoji or its short name.
pub const EMOJI_CHARS_MAX: usize = 64;
/// Bytes of an attachment's address.
pub const URL_BYTES_MAX: usize = 2_048;
/// Characters of an attachment's name, and of its media type.
pub const LABEL_CHARS_MAX: usize = 255;
/// Seconds of slow mode: six hours.
pub const SLOW_MODE_S_MAX: u32 = 6 * 3_600;
/// Bytes of an access token.
pub const TOKEN_BYTES_MAX: usize = 4_096;
/// Rooms of one page of a resume.
pub const RESUME_PAGE_MAX: usize = 500;
/// Users of one `watch`.
pub const WATCH_MAX: usize = 500;
/// Messages of one page of history; rooms of one window of the room list.
pub const PAGE_MAX: u32 = 200;
/// Members of one page.
pub const MEMBERS_PAGE_MAX: u32 = 1_000;

/// The limits that an operator chooses. The others are part of the protocol and constants above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a message's text.
    pub text_bytes_max: usize,
    /// Bytes of a message's `data`.
    pub data_bytes_max: usize,
    /// Mentions of a message.
    pub mentions_max: usize,
    /// Attachments of a message.
    pub attachments_max: usize,
    /// Members that a room may have when it is created, its creator included.
    pub members_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { text_bytes_max: 16 * 1024, data_bytes_max: 16 * 1024, mentions_max: 50, attachments_max: 10, members_max: 1_000 }
    }
}

type Verdict = Result<(), ApiError>;

impl Request {
    /// Whether the request's values are allowed.
    ///
    /// # Errors
    /// [`Code::Invalid`], or [`Code::TooLarge`] for text and data over their limit; the message names the field.
    pub fn validate(&self, limits: &Limits) -> Verdict {
        match self {
            Request::Auth(Auth { token }) | Request::Refresh(Refresh { token }) => {
                require(!token.is_empty() && token.len() <= TOKEN_BYTES_MAX, || format!("token: 1 to {TOKEN_BYTES_MAX} bytes"))
            }
            Request::Ping(_) | Request::Typing(_) | Request::Join(_) | Request::Leave(_) => Ok(()),
            Request::Invite(_) | Request::Kick(_) | Request::Ban(_) | Request::Unban(_) | Request::Role(_) => Ok(()),
            Request::Unmute(_) | Request::Transfer(_) => Ok(()),
            Request::Mute(mute) => require(mute.until.is_none_or(|until| (1..=FOREVER).contains(&until)), || {
                format!("until: milliseconds since 1970, at most {FOREVER}")
            }),
            Request::Send(send) => message(send, limits),
            Request::Edit(edit) => {
                seq("seq", Some(edit.seq))?;
                bytes("text", edit.text.len(), limits.text_bytes_max)?;
                users("mentions", &edit.mentions, limits.mentions_max)
            }
            Request::Delete(delete) => seq("seq", Some(delete.seq)),
            Request::Pin(pin) => seq("seq", Some(pin.seq)),
            Request::React(react) => {
                seq("seq", Some(react.seq))?;
                emoji(&react.emoji)
            }
            Request::Cursor(c) => require(c.read.is_some() || c.delivered.is_some(), || "give `read`, `delivered` or both".into()),
            Request::Presence(presence) => own_presence(presence),
            Request::Watch(watch) => users("users", &watch.users, WATCH_MAX),
            Request::History(history) => {
                let directions = [history.before, history.after, history.around].into_iter().flatten().count();
                require(directions <= 1, || "give at most one of `before`, `after` and `around`".into())?;
                page(history.limit, PAGE_MAX)
            }
            Request::Rooms(rooms) => page(rooms.limit, PAGE_MAX),
            Request::Members(members) => page(members.limit, MEMBERS_PAGE_MAX),
            Request::Resume(resume) => resume_page(resume),
            Request::Create(create) => new_room(create, limits),
            Request::Update(update) => settings(update),
        }
    }
}

fn require(holds: bool, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(ApiError::new(Code::Invalid, what())) }
}

fn bytes(field: &str, len: usize, max: usize) -> Verdict {
    if len <= max { Ok(()) } else { Err(ApiError::new(Code::TooLarge, format!("{field}: {len} bytes; at most {max}"))) }
}

/// Entries are counted from 1.
fn seq(field: &str, seq: Option<Seq>) -> Verdict {
    require(seq != Some(0), || format!("{field}: expected a seq from 1 up"))
}

fn page(limit: Option<u32>, max: u32) -> Verdict {
    require(limit.is_none_or(|n| (1..=max).contains(&n)), || format!("limit: 1 to {max}"))
}

fn users(field: &str, users: &[UserId], max: usize) -> Verdict {
    require(users.len() <= max, || format!("{field}: {} users; at most {max}", users.len()))?;
    let mut seen = HashSet::with_capacity(users.len());
    require(users.iter().all(|u| seen.insert(u)), || format!("{field}: a user is named twice"))
}

fn chars(field: &str, text: &str, max: usize) -> Verdict {
    let n = text.chars().count();
    require(n <= max, || format!("{field}: {n} characters; at most {max}"))
}

fn plain(field: &str, text: &str) -> Verdict {
    require(!text.chars().any(char::is_control), || format!("{field}: no control characters"))
}

fn name(name: &str) -> Verdict {
    require(!name.is_empty() && name.trim() == name, || "name: must not be empty, nor begin or end with a space".into())?;
    chars("name", name, NAME_CHARS_MAX)?;
    plain("name", name)
}

/// A topic may have lines.
fn topic(topic: &str) -> Verdict {
    chars("topic", topic, TOPIC_CHARS_MAX)?;
    require(!topic.chars().any(|c| c.is_control() && c != '\n'), || "topic: no control characters but line ends".into())
}

fn emoji(emoji: &str) -> Verdict {
    let fits = (1..=EMOJI_CHARS_MAX).contains(&emoji.chars().count()) && !emoji.chars().any(|c| c.is_control() || c.is_whitespace());
    require(fits, || format!("emoji: 1 to {EMOJI_CHARS_MAX} characters without spaces and control characters"))
}

fn message(send: &Send, limits: &Limits) -> Verdict {
    bytes("text", send.text.len(), limits.text_bytes_max)?;
    bytes("data", send.data.as_ref().map_or(0, String::len), limits.data_bytes_max)?;
    let something = !send.text.is_empty() || !send.attachments.is_empty() || send.data.as_ref().is_some_and(|d| !d.is_empty());
    require(something, || "the message is empty: give `text`, `attachments` or `data`".into())?;
    seq("reply_to", send.reply_to)?;
    seq("thread", send.thread)?;
    users("mentions", &send.mentions, limits.mentions_max)?;
    let n = send.attachments.len();
    require(n <= limits.attachments_max, || format!("attachments: {n}; at most {}", limits.attachments_max))?;
    send.attachments.iter().try_for_each(attachment)
}

fn attachment(file: &Attachment) -> Verdict {
    require(file.url.len() <= URL_BYTES_MAX, || format!("attachments.url: at most {URL_BYTES_MAX} bytes"))?;
    require(is_address(&file.url), || "attachments.url: expected http://…, https://… or a path that begins with /".into())?;
    for (field, text) in [("attachments.name", &file.name), ("attachments.mime", &file.mime)] {
        chars(field, text, LABEL_CHARS_MAX)?;
        plain(field, text)?;
    }
    Ok(())
}

/// An address that a client may follow without running anything. `//host` and `/\host` would lead to another server.
fn is_address(url: &str) -> bool {
    let lower = url.get(..8).unwrap_or(url).to_ascii_lowercase();
    let after = ["https://", "http://"].iter().find(|s| lower.starts_with(**s)).map(|s| &url[s.len()..]);
    let form = match after {
        Some(rest) => rest.starts_with(|c: char| !matches!(c, '/' | '\\' | '?' | '#')),
        None => url.starts_with('/') && !url[1..].starts_with(['/', '\\']),
    };
    form && !url.chars().any(|c| c.is_control() || c.is_whitespace())
}

fn own_presence(presence: &SetPresence) -> Verdict {
    require(presence.state.is_some() || presence.status.is_some(), || "give `state`, `status` or both".into())?;
    require(presence.state != Some(PresenceState::Offline), || "state: close the socket to be offline".into())?;
    let status = presence.status.as_deref().unwrap_or_default();
    chars("status", status, STATUS_CHARS_MAX)?;
    plain("status", status)
}

/// Whether a profile may show this; what is absent stays as it is.
///
/// # Errors
/// [`Code::Invalid`]; the message names the field.
pub fn profile(display_name: Option<&str>, avatar_url: Option<&str>, status: Option<&str>) -> Verdict {
    if let Some(text) = display_name.filter(|text| !text.is_empty()) {
        require(text.trim() == text, || "display_name: must not begin or end with a space".into())?;
        chars("display_name", text, NAME_CHARS_MAX)?;
        plain("display_name", text)?;
    }
    if let Some(url) = avatar_url.filter(|url| !url.is_empty()) {
        require(url.len() <= URL_BYTES_MAX, || format!("avatar_url: at most {URL_BYTES_MAX} bytes"))?;
        require(is_address(url), || "avatar_url: expected http://…, https://… or a path that begins with /".into())?;
    }
    let status = status.unwrap_or_default();
    chars("status", status, STATUS_CHARS_MAX)?;
    plain("status", status)
}

fn resume_page(resume: &Resume) -> Verdict {
    let n = resume.rooms.len();
    require(n <= RESUME_PAGE_MAX, || format!("rooms: {n}; at most {RESUME_PAGE_MAX} a page"))?;
    let mut seen = HashSet::with_capacity(n);
    match resume.rooms.iter().find(|have| !seen.insert(have.room)) {
        Some(twice) => Err(ApiError::new(Code::Invalid, format!("rooms: room {} is named twice", twice.room))),
        None => Ok(()),
    }
}

fn settings(update: &UpdateRoom) -> Verdict {
    let UpdateRoom { name: called, topic: about, slow_mode_s, archived, unlisted, .. } = update;
    let something = called.is_some() || about.is_some() || slow_mode_s.is_some() || archived.is_some() || unlisted.is_some();
    require(something, || "give one of `name`, `topic`, `slow_mode_s`, `archived` and `unlisted`".into())?;
    called.as_deref().map_or(Ok(()), name)?;
    about.as_deref().map_or(Ok(()), topic)?;
    require(slow_mode_s.is_none_or(|s| s <= SLOW_MODE_S_MAX), || format!("slow_mode_s: at most {SLOW_MODE_S_MAX}"))
}

fn new_room(create: &Create, limits: &Limits) -> Verdict {
    users("members", &create.members, limits.members_max.saturating_sub(1))?;
    match (create.kind, create.name.as_deref()) {
        (RoomKind::Direct, Some(_)) => Err(ApiError::new(Code::Invalid, "name: a direct room has none")),
        (RoomKind::Direct, None) => {
            require(create.topic.is_none(), || "topic: a direct room has none".into())?;
            require(create.members.len() == 1, || "members: a direct room has exactly one other member".into())
        }
        (_, None) => Err(ApiError::new(Code::Invalid, "name: a group or channel needs one")),
        (_, Some(text)) => {
            name(text)?;
            create.topic.as_deref().map_or(Ok(()), topic)
        }
    }
}

#[cfg(test)]
mod tests;
