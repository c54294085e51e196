//! Rules on acknowledgements: one answer per client id, true of its entry, in the log at the end, in the order of real time.

use super::facts::{Facts, Key, Log};
use super::history::{Acked, Sent};
use super::verdict::{At, Kind, Report};
use crate::protocol::ids::{RoomId, Seq, UserId};
use std::collections::HashMap;

pub(super) fn check(facts: &Facts, report: &mut Report) {
    let mut by_place: HashMap<(RoomId, Seq), (UserId, At, &Acked)> = HashMap::new();
    for (key, answers) in &facts.answers {
        let (first_at, first) = answers[0];
        for (at, acked) in answers {
            let place = (acked.room, Some(acked.seq));
            if (acked.room, acked.seq) != (first.room, first.seq) || differ(acked.id, first.id) || differ(acked.n, first.n) {
                let what = format!("answered with seq {} and with seq {}", first.seq, acked.seq);
                report.add(Kind::TwoAnswers, place, Some(key.1), &[first_at, *at], what);
            }
            let (user, other_at, other) = *by_place.entry((acked.room, acked.seq)).or_insert((key.0, *at, acked));
            if (user, other.cid) != *key {
                let what = format!("also the answer for client id {}", other.cid);
                report.add(Kind::SeqReuse, place, Some(key.1), &[other_at, *at], what);
            }
            fits(facts, *key, *at, acked, report);
            lost(facts, *key, *at, acked, report);
        }
    }
    logs(facts, report);
    real_time(facts, report);
}

fn differ<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
    matches!((a, b), (Some(a), Some(b)) if a != b)
}

fn fits(facts: &Facts, key: Key, at: At, acked: &Acked, report: &mut Report) {
    let request = facts.requests.get(&key).and_then(|r| r.sent.first());
    let entry = facts.entry(acked.room, acked.seq);
    let at: Vec<At> = request.map(|r| r.0).into_iter().chain([at]).chain(entry.map(|e| e.at)).collect();
    let mut add = |what: &str| report.add(Kind::AckMismatch, (acked.room, Some(acked.seq)), Some(key.1), &at, what);
    let Some((_, sent)) = request else { return add("an answer to what was never sent") };
    if sent.room != RoomId(0) && sent.room != acked.room {
        add("the answer is of another room");
    }
    let Some(saw) = entry.map(|e| e.saw) else { return };
    if (saw.by, saw.cid) != (key.0, Some(key.1)) {
        add("the entry at this seq is another request's");
    } else if acked.id.is_some_and(|id| id != saw.id) || acked.n.is_some_and(|n| n != saw.n) {
        add("the entry has another id or n than the answer says");
    } else if sent.kind != saw.kind || (!saw.folded && other_content(sent, saw.digest)) {
        add("the entry has another content than was sent");
    }
}

fn other_content(sent: &Sent, digest: u64) -> bool {
    sent.digest.is_some_and(|sent| sent != digest)
}

fn lost(facts: &Facts, key: Key, at: At, acked: &Acked, report: &mut Report) {
    for log in facts.logs.get(&acked.room).into_iter().flatten() {
        if missing(facts, log, at, acked.seq) {
            let what = format!("acknowledged, but the log read at the end ({}..={}) has no such seq", log.from, log.head);
            return report.add(Kind::Lost, (acked.room, Some(acked.seq)), Some(key.1), &[at, log.at], what);
        }
    }
    if facts.entry(acked.room, acked.seq).is_some_and(|e| (e.saw.by, e.saw.cid) != (key.0, Some(key.1))) {
        let what = "acknowledged, but its seq holds another entry";
        report.add(Kind::Lost, (acked.room, Some(acked.seq)), Some(key.1), &[at], what);
    }
}

/// Whether a reading of the log should have given the seq that was noted at `at`, and did not.
fn missing(facts: &Facts, log: &Log, at: At, seq: Seq) -> bool {
    let ((clock, time), (log_clock, _)) = (facts.time(at), facts.time(log.at));
    let earlier = clock != log_clock || time < log.began;
    let due = seq >= log.from && (seq <= log.head || earlier);
    due && !log.seqs.contains(&seq)
}

fn logs(facts: &Facts, report: &mut Report) {
    for (room, logs) in &facts.logs {
        for log in logs {
            for gap in (log.from.max(1)..=log.head).filter(|seq| !log.seqs.contains(seq)) {
                report.add(Kind::SeqGap, (*room, Some(gap)), None, &[log.at], "the log has no entry here");
            }
            let beyond = facts.entries.range((*room, log.head + 1)..=(*room, Seq::MAX)).map(|(_, sights)| sights[0]);
            for sight in beyond.filter(|sight| missing(facts, log, sight.at, sight.saw.seq)) {
                let what = format!("was shown, but the log read later ends at {}", log.head);
                report.add(Kind::Lost, (*room, Some(sight.saw.seq)), sight.saw.cid, &[sight.at, log.at], what);
            }
        }
    }
}

/// A request whose first transmission came after another's answer had arrived is numbered after it.
fn real_time(facts: &Facts, report: &mut Report) {
    for (key, answers) in &facts.answers {
        let (at, acked) = answers[0];
        let Some((clock, sent)) = facts.first_sent(*key) else { continue };
        if let Some((seq, earlier)) = facts.head_before(clock, acked.room, sent).filter(|(seq, _)| *seq > acked.seq) {
            let what = format!("was sent after seq {seq} had been acknowledged");
            report.add(Kind::RealTime, (acked.room, Some(acked.seq)), Some(key.1), &[earlier, at], what);
        }
    }
}
