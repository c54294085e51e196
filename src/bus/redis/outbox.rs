//! What waits for one other node: bounded in count and bytes, numbered when it leaves. Pure.
//!
//! At a bound the ephemeral goes first, without a number, because nobody looks for it afterwards; then the oldest goes and takes its number
//! with it, so that the receiver notices and reads the log. An ephemeral envelope that comes when there is little room is not let in:
//! so that what comes later need not look through the whole queue for something to throw out each time.

use crate::bus::link::Outgoing;
use crate::bus::wire::{BATCH_BYTES_MAX, BATCH_ENVELOPES_MAX};
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Instant;

/// What an envelope costs in memory beside its bytes.
const OVERHEAD_BYTES: usize = 64;

/// How much may wait for one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Envelopes.
    pub count: usize,
    /// Bytes.
    pub bytes: usize,
}

/// An envelope that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// It, packed.
    pub bytes: Bytes,
    /// Nobody looks for it when it is lost.
    pub ephemeral: bool,
    /// After this it is of no use: whoever waits for its answer has given up.
    pub until: Option<Instant>,
}

impl Waiting {
    fn cost(&self) -> usize {
        self.bytes.len() + OVERHEAD_BYTES
    }
}

/// What leaves at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leaving {
    /// The number of the first envelope, or of the next one when there is none and the receiver is to be told. Else nothing is to be sent.
    pub first: Option<u64>,
    /// The envelopes.
    pub all: Vec<Bytes>,
    /// So many were of no use any more.
    pub expired: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    ephemeral: usize,
    link: Outgoing,
}

impl Outbox {
    /// Takes an envelope in; gives how many were dropped for it, itself included.
    pub fn push(&mut self, envelope: Waiting, bounds: Bounds) -> u64 {
        let cost = envelope.cost();
        if envelope.ephemeral {
            if self.bytes + cost > bounds.bytes / 4 * 3 || self.waiting.len() >= bounds.count / 4 * 3 {
                return 1;
            }
            self.ephemeral += 1;
        }
        let mut dropped = 0;
        if self.is_over(cost, bounds) && self.ephemeral > 0 {
            dropped += self.ephemeral as u64;
            self.waiting.retain(|w| !w.ephemeral);
            self.ephemeral = 0;
            self.bytes = self.waiting.iter().map(Waiting::cost).sum();
        }
        // What alone is more than the bound waits alone.
        while self.is_over(cost, bounds)
            && let Some(oldest) = self.pop()
        {
            debug_assert!(!oldest.ephemeral, "they went first");
            self.link.lost(1);
            dropped += 1;
        }
        self.bytes += cost;
        self.waiting.push_back(envelope);
        dropped
    }

    fn is_over(&self, cost: usize, bounds: Bounds) -> bool {
        self.bytes + cost > bounds.bytes || self.waiting.len() >= bounds.count
    }

    fn pop(&mut self) -> Option<Waiting> {
        let envelope = self.waiting.pop_front()?;
        self.bytes -= envelope.cost();
        self.ephemeral -= usize::from(envelope.ephemeral);
        Some(envelope)
    }

    /// An envelope that never came in here will not be sent: the receiver shall notice.
    pub fn lost(&mut self) {
        self.link.lost(1);
    }

    /// The next batch of at most about `bytes_max`; with `position` an empty one too, when the receiver was not told yet how far the
    /// numbers go. Nothing when there is nothing to say.
    pub fn leave(&mut self, now: Instant, bytes_max: usize, position: bool) -> Option<Leaving> {
        let mut leaving = Leaving::default();
        let mut bytes = 0;
        while let Some(next) = self.waiting.front() {
            let full = bytes + next.bytes.len() > bytes_max.min(BATCH_BYTES_MAX / 2) || leaving.all.len() >= BATCH_ENVELOPES_MAX;
            if full && !leaving.all.is_empty() {
                break;
            }
            let Some(envelope) = self.pop() else { break };
            if envelope.until.is_some_and(|until| until < now) {
                leaving.expired += 1;
                continue;
            }
            bytes += envelope.bytes.len();
            leaving.all.push(envelope.bytes);
        }
        leaving.first = match leaving.all.len() {
            0 if position => self.link.position(),
            0 => None,
            count => Some(self.link.number(count as u64)),
        };
        (leaving.first.is_some() || leaving.expired > 0).then_some(leaving)
    }

    /// What left last may not have arrived.
    pub fn unsure(&mut self) {
        self.link.unsure();
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
    /// Envelopes that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }
    /// Bytes that wait, with what they cost in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const BOUNDS: Bounds = Bounds { count: 8, bytes: 8 * 1_000 };

    fn entry(name: u8) -> Waiting {
        Waiting { bytes: Bytes::from(vec![name; 10]), ephemeral: false, until: None }
    }
    fn typing() -> Waiting {
        Waiting { ephemeral: true, ..entry(b't') }
    }
    fn names(leaving: &Leaving) -> String {
        leaving.all.iter().map(|b| char::from(b[0])).collect()
    }

    #[test]
    fn at_the_bound_the_ephemeral_goes_first_and_then_the_oldest_with_its_number() {
        let (mut out, now) = (Outbox::default(), Instant::now());
        assert_eq!([entry(b'a'), typing(), entry(b'b'), typing(), entry(b'c'), entry(b'd')].map(|w| out.push(w, BOUNDS)), [0; 6]);
        assert_eq!(out.push(typing(), BOUNDS), 1, "it is not let in when there is little room");
        assert_eq!([b'e', b'f', b'g', b'h', b'i', b'j', b'k'].map(|n| out.push(entry(n), BOUNDS)), [0, 0, 2, 0, 1, 1, 1]);
        let leaving = out.leave(now, 1_000, false).unwrap();
        assert_eq!((leaving.first, names(&leaving).as_str(), out.bytes(), out.len()), (Some(4), "defghijk", 0, 0));
        assert_eq!(out.leave(now, 1_000, false), None);
        assert_eq!(out.leave(now, 1_000, true).unwrap().first, Some(12), "and how far it goes");
        assert_eq!(out.leave(now, 1_000, true), None, "once");
    }

    #[test]
    fn a_batch_is_bounded_and_in_order() {
        let (mut out, now) = (Outbox::default(), Instant::now());
        for n in b'a'..=b'e' {
            out.push(entry(n), BOUNDS);
        }
        let mut batches = Vec::new();
        while let Some(leaving) = out.leave(now, 25, false) {
            batches.push((leaving.first, names(&leaving)));
        }
        assert_eq!(batches, [(Some(1), "ab".into()), (Some(3), "cd".into()), (Some(5), "e".into())]);
        out.push(entry(b'x'), BOUNDS);
        assert_eq!(out.leave(now, 1, false).unwrap().all.len(), 1, "what is larger than a batch goes alone");
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_not_sent() {
        let (mut out, now) = (Outbox::default(), Instant::now());
        let ask = |until| Waiting { until: Some(until), ..entry(b'?') };
        out.push(ask(now + Duration::from_secs(1)), BOUNDS);
        out.push(entry(b'a'), BOUNDS);
        let late = now + Duration::from_secs(2);
        let leaving = out.leave(late, 1_000, false).unwrap();
        assert_eq!((leaving.first, names(&leaving).as_str(), leaving.expired), (Some(1), "a", 1));
        out.push(ask(now), BOUNDS);
        let leaving = out.leave(late, 1_000, false).unwrap();
        assert_eq!((leaving.first, leaving.all.len(), leaving.expired), (None, 0, 1));
    }

    proptest! {
        #[test]
        fn it_never_holds_more_than_it_may(all in proptest::collection::vec((0usize..3_000, any::<bool>()), 0..200)) {
            let mut out = Outbox::default();
            let (mut pushed, mut dropped, mut lasting) = (0u64, 0u64, 0u64);
            for (size, ephemeral) in all {
                pushed += 1;
                lasting += u64::from(!ephemeral);
                dropped += out.push(Waiting { bytes: vec![0; size].into(), ephemeral, until: None }, BOUNDS);
                prop_assert!(out.len() <= BOUNDS.count && out.bytes() <= BOUNDS.bytes);
                prop_assert_eq!(out.bytes(), out.waiting.iter().map(Waiting::cost).sum::<usize>());
                prop_assert_eq!(out.ephemeral, out.waiting.iter().filter(|w| w.ephemeral).count());
            }
            prop_assert_eq!(pushed, dropped + out.len() as u64);
            let ephemeral = out.ephemeral as u64;
            let mut last = 0;
            while let Some(leaving) = out.leave(Instant::now(), 4_000, false) {
                let first = leaving.first.unwrap();
                prop_assert!(first > last);
                last = first + leaving.all.len() as u64 - 1;
            }
            // Every envelope that is not ephemeral has a number, whether it was dropped or not.
            if last > 0 {
                prop_assert_eq!(last, lasting + ephemeral);
            }
        }
    }
}
