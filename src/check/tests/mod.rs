//! The judge judged: correct histories pass, every planted fault is found as what it is, nothing is no pass.
#![allow(clippy::unwrap_used)]

mod generate;
mod plant;

use super::history::{Event, History, What};
use super::{Kind, NoVerdict, Options, judge};
use crate::protocol::ids::UserId;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::collections::BTreeMap;

#[test]
fn correct_histories_pass() {
    let (mut acked, mut shown) = (0, 0);
    for seed in 0..400 {
        let verdict = judge(&generate::correct(seed), &Options::default()).unwrap();
        assert!(verdict.is_clean(), "seed {seed}:\n{verdict}");
        (acked, shown) = (acked + verdict.stats.acked, shown + verdict.stats.shown);
    }
    assert!(acked > 10_000 && shown > 50_000, "the generator does too little: {acked} acknowledged, {shown} shown");
}

#[test]
fn the_generator_exercises_what_can_go_wrong() {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for event in (0..50).flat_map(generate::correct).flat_map(|h| h.events) {
        let name = match event.what {
            What::Refused { .. } => "refused",
            What::Unknown { .. } => "unknown",
            What::Resync { .. } => "resync",
            What::Began { .. } => "began",
            What::Entered { .. } => "entered",
            What::Left { .. } => "left",
            What::Resumed { .. } => "resumed",
            What::HistoryRead { .. } => "history",
            _ => continue,
        };
        *kinds.entry(name).or_default() += 1;
    }
    assert!(kinds.len() == 8 && kinds.values().all(|n| *n >= 10), "{kinds:?}");
}

#[test]
fn every_planted_fault_is_found_as_its_kind() {
    for kind in Kind::ALL {
        let mut planted = 0;
        for seed in 0..120 {
            let mut histories = generate::correct(seed);
            let mut rng = StdRng::seed_from_u64(seed);
            if plant::plant(*kind, &mut histories, &mut rng).is_none() {
                continue;
            }
            planted += 1;
            let verdict = judge(&histories, &Options::default()).unwrap();
            assert!(verdict.has(*kind), "seed {seed}: a planted {kind:?} was not found:\n{verdict}");
            let violation = verdict.violations.iter().find(|v| v.kind == *kind).unwrap();
            assert!(!violation.clients.is_empty() && !violation.events.is_empty(), "{violation}");
        }
        assert!(planted >= 25, "{kind:?} was planted only {planted} times");
    }
}

#[test]
fn nothing_is_no_pass() {
    assert_eq!(judge(&[], &Options::default()), Err(NoVerdict::Empty));
    assert_eq!(judge(&[History::default()], &Options::default()), Err(NoVerdict::Empty));
    let events = vec![Event { at: 1, what: What::Connected }];
    let idle = History { user: UserId(1), events, ..History::default() };
    assert_eq!(judge(std::slice::from_ref(&idle), &Options::default()), Err(NoVerdict::NothingAcknowledged));
    assert!(matches!(judge(&[History { truncated: true, ..idle }], &Options::default()), Err(NoVerdict::Truncated(_))));
}

#[test]
fn loss_cannot_be_ruled_out_without_a_last_reading_of_the_log() {
    let mut histories = generate::correct(1);
    histories.pop();
    assert_eq!(judge(&histories, &Options::default()), Err(NoVerdict::NoTruth(generate::GROUP)));
    let lenient = Options { truth_required: false, ..Options::default() };
    assert!(judge(&histories, &lenient).unwrap().is_clean());
}

#[test]
fn described_violations_are_bounded_and_all_are_counted() {
    let mut histories = generate::correct(2);
    histories.last_mut().unwrap().events.retain(|e| !matches!(e.what, What::Saw(_)));
    let verdict = judge(&histories, &Options { described_max: 2, ..Options::default() }).unwrap();
    assert!(verdict.counts[&Kind::SeqGap] > 2);
    assert_eq!(verdict.violations.iter().filter(|v| v.kind == Kind::SeqGap).count(), 2);
}

#[test]
fn a_violation_names_who_where_and_what() {
    let mut histories = generate::correct(3);
    plant::plant(Kind::TwoAnswers, &mut histories, &mut StdRng::seed_from_u64(3)).unwrap();
    let text = judge(&histories, &Options::default()).unwrap().to_string();
    for part in ["P3 two answers: room ", " seq ", " cid ", "\"what\":\"acked\"", " at 0.", "/a #"] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}
