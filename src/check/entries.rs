//! Rules on entries, whoever was shown them: one content per seq, one seq per client id, counts, nothing that nobody sent.

use super::Options;
use super::facts::{Facts, Key, Sight};
use super::verdict::{Kind, Report};
use crate::protocol::ids::{MessageId, RoomId, Seq};
use std::collections::HashMap;

pub(super) fn check(facts: &Facts, options: &Options, report: &mut Report) {
    let mut by_key: HashMap<Key, Sight> = HashMap::new();
    let mut by_id: HashMap<MessageId, Sight> = HashMap::new();
    let mut previous: Option<(RoomId, Seq, Sight)> = None;
    for ((room, seq), sights) in &facts.entries {
        let place = (*room, Some(*seq));
        for other in &sights[1..] {
            disagree(sights[0], *other, report);
        }
        for sight in sights {
            let saw = sight.saw;
            if let Some(cid) = saw.cid {
                let first = *by_key.entry((saw.by, cid)).or_insert(*sight);
                if (first.saw.room, first.saw.seq) != (*room, *seq) {
                    let what = format!("the same client id is at seq {} of room {} too", first.saw.seq, first.saw.room);
                    report.add(Kind::Doubled, place, Some(cid), &[first.at, sight.at], what);
                }
            }
            let first = *by_id.entry(saw.id).or_insert(*sight);
            if (first.saw.room, first.saw.seq) != (*room, *seq) {
                let what = format!("message id {} is at seq {} of room {} too", saw.id, first.saw.seq, first.saw.room);
                report.add(Kind::SeqReuse, place, saw.cid, &[first.at, sight.at], what);
            }
            phantom(facts, options, *sight, report);
        }
        let before = previous.filter(|(r, s, _)| r == room && s + 1 == *seq).map(|(.., sight)| sight);
        count(before, sights[0], report);
        previous = Some((*room, *seq, sights[0]));
    }
    refused(facts, &by_key, report);
}

fn disagree(a: Sight, b: Sight, report: &mut Report) {
    let place = (a.saw.room, Some(a.saw.seq));
    if super::facts::same(a.saw, &super::history::Saw { n: a.saw.n, ..b.saw.clone() }) {
        let what = format!("shown with n {} and with n {}", a.saw.n, b.saw.n);
        return report.add(Kind::WrongCount, place, a.saw.cid, &[a.at, b.at], what);
    }
    if a.at.0 == b.at.0 {
        report.add(Kind::SeqReuse, place, a.saw.cid, &[a.at, b.at], "one client was shown two entries at one seq");
    }
    // Somebody else was shown one of the two.
    let pair = if a.at.0 != b.at.0 { Some([a.at, b.at]) } else { a.other.map(|o| [o, b.at]).or(b.other.map(|o| [a.at, o])) };
    if let Some(at) = pair {
        report.add(Kind::Disagreement, place, a.saw.cid, &at, "two clients were shown different entries");
    }
}

fn count(before: Option<Sight>, sight: Sight, report: &mut Report) {
    let saw = sight.saw;
    let base = match before {
        Some(before) => before.saw.n,
        None if saw.seq == 1 => 0,
        None => return,
    };
    let due = base + u64::from(saw.kind == "message");
    if saw.n != due {
        let at: Vec<_> = before.map(|b| b.at).into_iter().chain([sight.at]).collect();
        report.add(Kind::WrongCount, (saw.room, Some(saw.seq)), saw.cid, &at, format!("n is {}, should be {due}", saw.n));
    }
}

fn phantom(facts: &Facts, options: &Options, sight: Sight, report: &mut Report) {
    let saw = sight.saw;
    let mut add = |what: &str| report.add(Kind::Phantom, (saw.room, Some(saw.seq)), saw.cid, &[sight.at], what);
    if !facts.users.contains(&saw.by) {
        if options.closed_world {
            add("its author is nobody who sent anything");
        }
        return;
    }
    let Some(cid) = saw.cid else {
        if saw.kind == "message" {
            add("a message without a client id");
        }
        return;
    };
    let Some(request) = facts.requests.get(&(saw.by, cid)) else { return add("its author never sent it") };
    let Some((_, sent)) = request.sent.first() else { return add("its author never sent it") };
    // An answer that names this seq makes it the answer's fault (`answers`).
    if facts.own_answer(saw.by, saw.room, saw.seq).is_some() {
        return;
    }
    if sent.room != RoomId(0) && sent.room != saw.room {
        add("it was sent to another room");
    } else if sent.kind != saw.kind || (!saw.folded && sent.digest.is_some_and(|digest| digest != saw.digest)) {
        add("its author sent something else under this client id");
    }
}

fn refused(facts: &Facts, by_key: &HashMap<Key, Sight>, report: &mut Report) {
    for (key, sight) in by_key {
        let Some(request) = facts.requests.get(key) else { continue };
        if !request.sent.is_empty() && request.refused.len() >= request.sent.len() {
            let at = [request.refused[0], sight.at];
            let what = "every transmission was refused as if nothing was done";
            report.add(Kind::RefusedButDone, (sight.saw.room, Some(sight.saw.seq)), Some(key.1), &at, what);
        }
    }
}
