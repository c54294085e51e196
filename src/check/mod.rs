//! The judge: reads what clients sent, were acknowledged and saw, and finds broken promises. Pure: no actors, no sockets.
//!
//! It trusts nothing that the server says about itself, only what clients wrote down ([`history`]). It guarantees that every
//! kind of fault in [`Kind`] that is visible in the histories is reported, and that histories of a correct server are not;
//! `tests` plants each fault to show the first and generates correct histories to show the second. A verdict on nothing is no
//! verdict: without histories, without an acknowledged send, or without a final reading of the log, [`judge`] is an error.
//!
//! | file | rules |
//! |---|---|
//! | [`facts`] | what all histories say together: entries, sends, answers, memberships |
//! | `entries` | one content per seq, one seq per client id, counts, nothing that nobody sent |
//! | `answers` | one answer per client id, true, durable, in real-time order |
//! | `streams` | what one replica was shown: in order, once, without holes, over reconnects |
//! | `pages` | pages of history: complete, and not older than what was acknowledged before |
//! | `rights` | nobody is shown what their membership does not allow |

mod answers;
mod entries;
pub mod facts;
pub mod history;
mod pages;
pub mod recorder;
mod rights;
mod streams;
#[cfg(test)]
mod tests;
pub mod verdict;

use crate::protocol::ids::RoomId;
use facts::Facts;
use history::History;
use verdict::Report;
pub use verdict::{Kind, Stats, Verdict, Violation};

/// What the judge may take for granted about the histories.
#[derive(Clone, Debug)]
pub struct Options {
    /// Every room with an acknowledged send was read to its end by an observer (`LogRead`). Without it loss cannot be found.
    pub truth_required: bool,
    /// Senders are shown their own entries like everybody else. If not, an answer counts as having been shown its entry.
    pub own_shown: bool,
    /// Every user who ever sent anything has a history here: an entry of anybody else is a phantom.
    pub closed_world: bool,
    /// Violations of one kind that are described; further ones are only counted.
    pub described_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { truth_required: true, own_shown: true, closed_world: false, described_max: 100 }
    }
}

/// Why there is no verdict.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoVerdict {
    /// There is no event at all.
    #[error("nothing to judge: the histories are empty")]
    Empty,
    /// Nothing was acknowledged.
    #[error("nothing to judge: no send was acknowledged")]
    NothingAcknowledged,
    /// A recorder was full.
    #[error("the history of {0} is incomplete: its recorder was full")]
    Truncated(String),
    /// Nobody read a room's log at the end.
    #[error("room {0} has acknowledged sends, but nobody read its log at the end: loss could not be found")]
    NoTruth(RoomId),
}

/// Judges the histories of all clients together.
pub fn judge(histories: &[History], options: &Options) -> Result<Verdict, NoVerdict> {
    if histories.iter().all(|h| h.events.is_empty()) {
        return Err(NoVerdict::Empty);
    }
    if let Some(h) = histories.iter().find(|h| h.truncated) {
        return Err(NoVerdict::Truncated(h.name()));
    }
    let facts = Facts::gather(histories);
    if facts.answers.is_empty() {
        return Err(NoVerdict::NothingAcknowledged);
    }
    if let Some(room) = facts.rooms_acked().find(|room| options.truth_required && !facts.logs.contains_key(room)) {
        return Err(NoVerdict::NoTruth(room));
    }
    let mut report = Report::new(histories, options.described_max);
    entries::check(&facts, options, &mut report);
    answers::check(&facts, &mut report);
    streams::check(&facts, options, &mut report);
    pages::check(&facts, &mut report);
    rights::check(&facts, &mut report);
    Ok(report.verdict(facts.stats()))
}
