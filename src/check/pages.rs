//! Rules on pages of history: in order, complete over the range they cover, and not older than what was acknowledged before.

use super::facts::Facts;
use super::history::{Micros, Via, What};
use super::verdict::{At, Kind, Report};
use crate::protocol::ids::{RoomId, Seq};
use std::collections::HashMap;

struct Page<'a> {
    at: At,
    room: RoomId,
    began: Micros,
    from: Seq,
    to: Seq,
    head: Seq,
    seqs: &'a [Seq],
}

pub(super) fn check(facts: &Facts, report: &mut Report) {
    for (h, history) in facts.histories.iter().enumerate() {
        let mut given: HashMap<RoomId, Vec<Seq>> = HashMap::new();
        for (e, event) in history.events.iter().enumerate() {
            match &event.what {
                What::Saw(saw) if saw.via == Via::History => given.entry(saw.room).or_default().push(saw.seq),
                What::HistoryRead { room, began, from, to, head } => {
                    let seqs = given.remove(room).unwrap_or_default();
                    let page = Page { at: (h, e), room: *room, began: *began, from: *from, to: *to, head: *head, seqs: &seqs };
                    read(facts, &page, report);
                }
                // What came of a page whose end was never noted says nothing about completeness.
                What::Connected | What::Closed { .. } => given.clear(),
                _ => {}
            }
        }
    }
}

fn read(facts: &Facts, page: &Page, report: &mut Report) {
    let history = &facts.histories[page.at.0];
    for pair in page.seqs.windows(2).filter(|pair| pair[0] >= pair[1]) {
        let kind = if pair[0] == pair[1] { Kind::ShownTwice } else { Kind::Reordered };
        report.add(kind, (page.room, Some(pair[1])), None, &[page.at], format!("came after seq {} in a page of history", pair[0]));
    }
    if page.from <= page.to {
        for ((room, seq), sights) in facts.entries.range((page.room, page.from)..=(page.room, page.to)) {
            if sights[0].saw.kind != "message" || page.seqs.contains(seq) {
                continue;
            }
            let own = facts.own_answer(history.user, *room, *seq);
            let kind = if own.is_some() { Kind::ReadYourWrites } else { Kind::HistoryHole };
            let at = [own.unwrap_or(sights[0].at), page.at];
            report.add(kind, (*room, Some(*seq)), sights[0].saw.cid, &at, "left out of a page of history that covers it");
        }
    }
    if let Some((seq, acked)) = facts.own_head_before(history.clock, page.room, history.user, page.began).filter(|(s, _)| *s > page.head) {
        let what = format!("history's head was {} after one's own entry was acknowledged", page.head);
        report.add(Kind::ReadYourWrites, (page.room, Some(seq)), None, &[acked, page.at], what);
    } else if let Some((seq, acked)) = facts.head_before(history.clock, page.room, page.began).filter(|(s, _)| *s > page.head) {
        let what = format!("history's head was {} after this was acknowledged", page.head);
        report.add(Kind::HistoryHole, (page.room, Some(seq)), None, &[acked, page.at], what);
    }
}
