//! What the judge found: kinds of violations, their descriptions for people, and how much was looked at.

use super::history::History;
use crate::protocol::ids::{ClientId, RoomId, Seq};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $promise:literal;)*) => {
        /// A kind of broken promise.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Kind { $($(#[$doc])* $name,)* }
        impl Kind {
            /// All of them.
            pub const ALL: &'static [Kind] = &[$(Kind::$name,)*];
            /// For people.
            pub fn text(self) -> &'static str { match self { $(Kind::$name => $text,)* } }
            /// The promise it breaks, as ARCHITECTURE.md numbers them.
            pub fn promise(self) -> &'static str { match self { $(Kind::$name => $promise,)* } }
        }
    };
}
kinds! {
    /// Acknowledged, or shown to somebody, and not in the log at the end.
    Lost = "lost", "P1";
    /// Refused with a code that says nothing was done, and there all the same.
    RefusedButDone = "refused, but done", "P1";
    /// The log has no entry at a seq below its head.
    SeqGap = "seq gap", "P2";
    /// One seq for two requests, or one message id for two entries.
    SeqReuse = "seq reused", "P2";
    /// Two clients were shown different entries at one seq.
    Disagreement = "members disagree", "P2";
    /// `n` does not count the messages.
    WrongCount = "n does not count", "P2";
    /// A replica was shown a lower seq after a higher one.
    Reordered = "reordered", "P2";
    /// Sent after another's answer had arrived, and numbered before it.
    RealTime = "against real time", "P2";
    /// One client id, two entries.
    Doubled = "doubled", "P3";
    /// A replica was shown one entry twice.
    ShownTwice = "shown twice", "P3";
    /// One client id, two different answers.
    TwoAnswers = "two answers", "P3";
    /// The answer names an entry that is not the request's.
    AckMismatch = "answer for another entry", "P3";
    /// An entry that nobody sent.
    Phantom = "phantom", "P3";
    /// Left out between live entries.
    Gap = "gap in live entries", "P4";
    /// Left out by a resume.
    HoleAfterResume = "hole after resume", "P4";
    /// Never shown to a connected member, and nothing later told of it.
    Missed = "missed", "P4";
    /// Left out of a page of history.
    HistoryHole = "hole in history", "P4";
    /// One's own acknowledged entry is not in what one reads afterwards.
    ReadYourWrites = "own write not read", "P4";
    /// Shown to somebody whose membership had ended.
    Leak = "leak after leaving", "P8";
    /// Shown to somebody who was not a member (yet).
    NeverMember = "shown to a stranger", "P8";
}

/// An event of one of the histories: (which history, which event).
pub type At = (usize, usize);

/// One broken promise, described.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Violation {
    /// What kind.
    pub kind: Kind,
    /// In which room.
    pub room: RoomId,
    /// At which seq, where there is one.
    pub seq: Option<Seq>,
    /// Of which client id, where there is one.
    pub cid: Option<ClientId>,
    /// Which clients noted it.
    pub clients: Vec<String>,
    /// What is wrong, in words.
    pub what: String,
    /// The events that show it.
    pub events: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: room {}", self.kind.promise(), self.kind.text(), self.room)?;
        if let Some(seq) = self.seq {
            write!(f, " seq {seq}")?;
        }
        if let Some(cid) = self.cid {
            write!(f, " cid {cid}")?;
        }
        write!(f, ": {} ({})", self.what, self.clients.join(", "))?;
        self.events.iter().try_for_each(|event| write!(f, "\n    {event}"))
    }
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Histories.
    pub clients: usize,
    /// Events.
    pub events: usize,
    /// Rooms.
    pub rooms: usize,
    /// Client ids that were sent.
    pub sent: usize,
    /// Client ids that were acknowledged.
    pub acked: usize,
    /// Distinct entries that were shown.
    pub entries: usize,
    /// Times an entry was shown.
    pub shown: usize,
}

/// What the judge says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// The violations, by kind; of one kind at most `Options::described_max`.
    pub violations: Vec<Violation>,
    /// Violations of each kind, also those that are not described.
    pub counts: BTreeMap<Kind, usize>,
    /// How much was looked at.
    pub stats: Stats,
}

impl Verdict {
    /// Nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.counts.is_empty()
    }
    /// Something of this kind is wrong.
    pub fn has(&self, kind: Kind) -> bool {
        self.counts.contains_key(&kind)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = &self.stats;
        for violation in &self.violations {
            writeln!(f, "{violation}")?;
        }
        write!(f, "{} clients, {} events, {} rooms: {} sent, {} acknowledged, ", s.clients, s.events, s.rooms, s.sent, s.acked)?;
        write!(f, "{} entries shown {} times: ", s.entries, s.shown)?;
        if self.is_clean() {
            return f.write_str("nothing wrong");
        }
        let counts: Vec<String> = self.counts.iter().map(|(kind, n)| format!("{n} {}", kind.text())).collect();
        f.write_str(&counts.join(", "))
    }
}

/// Collects violations.
pub(super) struct Report<'a> {
    histories: &'a [History],
    described_max: usize,
    violations: Vec<Violation>,
    counts: BTreeMap<Kind, usize>,
}

impl<'a> Report<'a> {
    pub(super) fn new(histories: &'a [History], described_max: usize) -> Self {
        Report { histories, described_max, violations: Vec::new(), counts: BTreeMap::new() }
    }

    /// Adds a violation, shown by the events `at`.
    pub(super) fn add(&mut self, kind: Kind, place: (RoomId, Option<Seq>), cid: Option<ClientId>, at: &[At], what: impl Into<String>) {
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        if *count > self.described_max {
            return;
        }
        let mut clients: Vec<String> = at.iter().map(|(h, _)| self.histories[*h].name()).collect();
        clients.dedup();
        let events = at.iter().map(|at| self.describe(*at)).collect();
        self.violations.push(Violation { kind, room: place.0, seq: place.1, cid, clients, what: what.into(), events });
    }

    fn describe(&self, (h, e): At) -> String {
        let (history, event) = (&self.histories[h], &self.histories[h].events[e]);
        let what = serde_json::to_string(&event.what).unwrap_or_else(|_| format!("{:?}", event.what));
        format!("{} #{e} at {:.6} s: {what}", history.name(), event.at as f64 / 1e6)
    }

    pub(super) fn verdict(mut self, stats: Stats) -> Verdict {
        self.violations.sort_by_key(|v| (v.kind, v.room, v.seq));
        Verdict { violations: self.violations, counts: self.counts, stats }
    }
}
