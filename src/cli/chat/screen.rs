//! What a person, or a program that reads the pipe, is shown: one line for each thing that happens.
//!
//! Standard output holds nothing else; with `--json` every line is an object with `event`. A reader that goes away ends the
//! program (broken pipe), it is not an error to report.

use crate::client::{Event, Replica};
use crate::protocol::entry::{Body, Change, Entry, MemberChange, RoomKind};
use crate::protocol::ids::{RoomId, UserId};
use crate::protocol::ops::{MemberShown, PresencePush, PresenceState, RoomSummary, Shown};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{self, Write};

/// Knows people's names, and how to show things.
pub struct Screen {
    json: bool,
    names: HashMap<UserId, String>,
}

impl Screen {
    /// A fresh one.
    pub fn new(json: bool) -> Screen {
        Screen { json, names: HashMap::new() }
    }
    /// Learns a name.
    pub fn learn(&mut self, user: UserId, name: &str) {
        self.names.insert(user, name.into());
    }
    /// Whether a user's name is known.
    pub fn knows(&self, user: UserId) -> bool {
        self.names.contains_key(&user)
    }
    /// A user's name; the id when it is not known.
    pub fn name(&self, user: UserId) -> String {
        self.names.get(&user).cloned().unwrap_or_else(|| user.to_string())
    }

    /// A room's label: `#name`, or `@somebody` for a direct room.
    pub fn label(&self, replica: &Replica, room: RoomId) -> String {
        match replica.room(room).and_then(|r| r.summary.as_ref()) {
            Some(s) => self.summary_label(s),
            None => format!("#{room}"),
        }
    }
    fn summary_label(&self, s: &RoomSummary) -> String {
        match (s.kind, s.peer) {
            (RoomKind::Direct, Some(peer)) => format!("@{}", self.name(peer)),
            _ if s.name.is_empty() => format!("#{}", s.room),
            _ => format!("#{}", s.name),
        }
    }

    /// Shows a line to people, or its object to programs.
    pub fn show(&self, line: &str, object: Value) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{object}")?
        } else {
            writeln!(out, "{line}")?
        }
        out.flush()
    }
    /// Shows a line to people only.
    pub fn note(&self, line: &str) -> io::Result<()> {
        if self.json { Ok(()) } else { self.show(line, Value::Null) }
    }
    /// Shows what went wrong.
    pub fn failed(&self, what: &str, why: &str) -> io::Result<()> {
        self.show(&format!("! {what}: {why}"), json!({"event": "failed", "what": what, "why": why}))
    }

    /// Shows an entry.
    pub fn entry(&self, replica: &Replica, entry: &Entry, live: bool) -> io::Result<()> {
        let (label, by) = (self.label(replica, entry.room), self.name(entry.by));
        let line = match &entry.body {
            Body::Message(m) => format!("{label} {by}> {}", one_line(&m.text)),
            Body::Edit(e) => format!("{label} * {by} changed {}: {}", e.seq, one_line(&e.text)),
            Body::Delete(t) => format!("{label} * {by} deleted {}", t.seq),
            Body::React(r) if r.on => format!("{label} * {by} reacts {} to {}", r.emoji, r.seq),
            Body::React(r) => format!("{label} * {by} takes {} back from {}", r.emoji, r.seq),
            Body::Pin(p) => format!("{label} * {by} {} {}", if p.on { "pinned" } else { "unpinned" }, p.seq),
            Body::Member(m) => format!("{label} * {}", self.membership(&by, m)),
            Body::Room(r) if r.kind.is_some() => format!("{label} * {by} opened the room"),
            Body::Room(_) => format!("{label} * {by} changed the room"),
            Body::Call(_) => format!("{label} * a call"),
            Body::Unknown => format!("{label} * something this version does not know"),
        };
        // Kinds that this build does not know have no encoding.
        let object = if entry.body == Body::Unknown { Value::Null } else { json!(entry) };
        self.show(&line, json!({"event": "entry", "live": live, "name": by, "label": label, "entry": object}))
    }

    fn membership(&self, by: &str, m: &MemberChange) -> String {
        let who = self.name(m.user);
        match m.change {
            Change::Join => format!("{who} joined"),
            Change::Invite => format!("{by} brought {who} in"),
            Change::Leave => format!("{who} left"),
            Change::Kick => format!("{by} put {who} out"),
            Change::Ban => format!("{by} banned {who}"),
            Change::Unban => format!("{by} let {who} come back"),
            Change::Role => format!("{who} has another role"),
            Change::Mute => format!("{by} muted {who}"),
            Change::Unmute => format!("{by} let {who} write again"),
            Change::Transfer => format!("{by} made {who} the owner"),
            Change::Unknown => format!("something changed for {who}"),
        }
    }

    /// Shows a page of history, with the numbers that `/edit` and the like take.
    pub fn history(&self, label: &str, messages: &[Shown]) -> io::Result<()> {
        for shown in messages {
            let by = self.name(shown.entry.by);
            let text = match (&shown.entry.body, shown.deleted) {
                (_, Some(_)) => "(deleted)".to_owned(),
                (Body::Message(m), None) => one_line(&m.text),
                _ => String::new(),
            };
            let edited = if shown.edited.is_some() { " (changed)" } else { "" };
            let reactions: String = shown.reactions.iter().map(|r| format!(" {}{}", r.emoji, r.users.len())).collect();
            let line = format!("[{}] {label} {by}> {text}{edited}{reactions}", shown.entry.seq);
            self.show(&line, json!({"event": "history", "name": by, "message": shown}))?;
        }
        Ok(())
    }

    /// Shows the room list.
    pub fn rooms(&self, rooms: &[RoomSummary]) -> io::Result<()> {
        for s in rooms {
            let line = format!("{}  {}  {} messages, {} unread", s.room, self.summary_label(s), s.n, s.unread);
            self.show(&line, json!({"event": "room", "room": s}))?;
        }
        if rooms.is_empty() { self.note("no rooms yet: /with NAME or /create NAME") } else { Ok(()) }
    }

    /// Shows who is in a room.
    pub fn members(&self, members: &[MemberShown]) -> io::Result<()> {
        for m in members {
            let role = format!("{:?}", m.role).to_lowercase();
            self.show(&format!("{}  {role}", m.name), json!({"event": "member", "member": m}))?;
        }
        Ok(())
    }

    /// Shows a presence.
    pub fn presence(&self, p: &PresencePush) -> io::Result<()> {
        let state = match p.state {
            PresenceState::Offline => "offline",
            PresenceState::Away => "away",
            PresenceState::Busy => "busy",
            PresenceState::Online => "online",
        };
        let status = if p.status.is_empty() { String::new() } else { format!(" ({})", one_line(&p.status)) };
        let name = self.name(p.user);
        self.show(&format!("* {name} is {state}{status}"), json!({"event": "presence", "name": name, "presence": p}))
    }

    /// Shows how the connection stands.
    pub fn connection(&self, event: &Event) -> io::Result<()> {
        match event {
            Event::Connected(hello) => {
                self.show(&format!("[signed in as {}]", hello.name), json!({"event": "connected", "user": hello.user, "name": hello.name}))
            }
            Event::CaughtUp { missed, again: true } => self.show(
                &format!("[reconnected, caught up: {missed} missed]"),
                json!({"event": "caught_up", "missed": missed, "again": true}),
            ),
            Event::CaughtUp { missed, again: false } => {
                self.show("[caught up]", json!({"event": "caught_up", "missed": missed, "again": false}))
            }
            Event::Disconnected { why, wait } => self.show(
                &format!("[connection lost ({why}); trying again in {:.1} s]", wait.as_secs_f64()),
                json!({"event": "disconnected", "why": why.to_string(), "wait_ms": wait.as_millis() as u64}),
            ),
            Event::Ended(why) => self.show(&format!("[ended: {why}]"), json!({"event": "ended", "why": why.to_string()})),
            _ => Ok(()),
        }
    }
}

/// A message's line breaks and control characters must not look like other lines, nor move a terminal's cursor.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c == '\n' {
                '\u{23ce}'
            } else if c.is_control() {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_forge_a_line_or_steer_the_terminal() {
        assert_eq!(one_line("a\n#room bob> b\x1b[2J"), "a\u{23ce}#room bob> b\u{fffd}[2J");
    }

    #[test]
    fn a_direct_room_is_called_after_the_other() {
        let mut screen = Screen::new(false);
        let text = r#"{"room":"5","kind":"direct","peer":"8","role":"member","head":0,"n":0,"at":0,"read":0,"unread":0}"#;
        let summary: RoomSummary = serde_json::from_str(text).expect("a summary");
        assert_eq!(screen.summary_label(&summary), "@8");
        screen.learn(UserId(8), "bob");
        assert_eq!(screen.summary_label(&summary), "@bob");
    }
}
