//! Rules on who was shown what: nothing after a membership's end until the next begins, nothing to strangers.
//!
//! In groups and direct rooms memberships begin and end with entries, so they are compared by seq. Coming to and going from a
//! channel are no entries: there the users' own answers and the real time of sends decide.

use super::facts::{Facts, Move, Step, Turn};
use super::history::{Saw, Via, What};
use super::verdict::{At, Kind, Report};

pub(super) fn check(facts: &Facts, report: &mut Report) {
    for (h, history) in facts.histories.iter().enumerate() {
        for (e, event) in history.events.iter().enumerate() {
            if let What::Saw(saw) = &event.what
                && saw.via != Via::Log
                && let Some((kind, what)) = wrong(facts, (h, e), saw)
            {
                report.add(kind, (saw.room, Some(saw.seq)), saw.cid, &[(h, e)], what);
            }
        }
    }
}

fn wrong(facts: &Facts, at: At, saw: &Saw) -> Option<(Kind, &'static str)> {
    let user = facts.histories[at.0].user;
    let turns = facts.turns.get(&(saw.room, user)).map(Vec::as_slice).unwrap_or_default();
    let known = turns.partition_point(|turn| turn.seq <= saw.seq);
    let (now, later) = (turns[..known].last(), &turns[known..]);
    match now {
        Some(turn) if turn.begins => left_by_answer(facts, at, saw, &turns[..known]),
        // The entry that ends a membership is the last that is shown.
        Some(turn) if turn.seq == saw.seq => None,
        Some(turn) => {
            let back = invited(facts, at, later) || came(facts, at, saw, turn.by.and_then(|key| facts.first_sent(key)));
            (!back).then_some((Kind::Leak, "shown after the membership had ended"))
        }
        None if invited(facts, at, later) => None,
        None if came(facts, at, saw, None) => left_by_answer(facts, at, saw, &[]),
        // Without the first entry the first members are not known.
        None if facts.entry(saw.room, 1).is_none() => None,
        None if later.is_empty() => Some((Kind::NeverMember, "shown to somebody who was never a member")),
        None => Some((Kind::NeverMember, "shown before the membership began")),
    }
}

/// Whether a membership that begins with a later entry had been asked for when this was shown. Times that cannot be compared
/// are taken in the server's favour.
fn invited(facts: &Facts, at: At, later: &[Turn]) -> bool {
    let (clock, time) = facts.time(at);
    let asked = |turn: &Turn| match turn.by.and_then(|key| facts.first_sent(key)) {
        Some((other, sent)) => other != clock || sent <= time,
        None => true,
    };
    later.iter().filter(|turn| turn.begins).any(asked)
}

/// Whether the user asked to come into the room (a channel), after `since` if that is known, and before this was shown.
fn came(facts: &Facts, at: At, saw: &Saw, since: Option<(u64, u64)>) -> bool {
    let (clock, time) = facts.time(at);
    let moves = facts.moves.get(&(saw.room, facts.histories[at.0].user)).map(Vec::as_slice).unwrap_or_default();
    let after = |m: &Move| since.is_none_or(|(clock, since)| m.clock != clock || m.at > since);
    moves.iter().any(|m| m.step != Step::Went && (m.clock != clock || (m.at <= time && after(m))))
}

/// A channel's leave is no entry: what was sent after its answer had arrived may not be shown until the user asks to come back.
fn left_by_answer(facts: &Facts, at: At, saw: &Saw, turns: &[Turn]) -> Option<(Kind, &'static str)> {
    // Where entries end memberships, they decide.
    if turns.iter().any(|turn| !turn.begins) {
        return None;
    }
    let (clock, time) = facts.time(at);
    let moves = facts.moves.get(&(saw.room, facts.histories[at.0].user))?;
    // A request that is not answered yet may have brought the user back already.
    let (mut open, mut went) = (0u64, None);
    for m in moves.iter().filter(|m| m.clock == clock && m.at <= time) {
        open = if m.step == Step::Asked { open + 1 } else { open.saturating_sub(1) };
        went = if m.step == Step::Asked { went } else { (m.step == Step::Went).then_some(m.at) };
    }
    let (sent_clock, sent) = facts.first_sent((saw.by, saw.cid?))?;
    let leaked = open == 0 && sent_clock == clock && went.is_some_and(|went| sent > went);
    leaked.then_some((Kind::Leak, "sent after the user's leave was acknowledged, and shown all the same"))
}
