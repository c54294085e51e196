//! The ownership protocol of one room as a model, searched by `stateright` for a run that breaks a promise. With all rules there must be
//! none; with any of the known mistakes there must be one.
//!
//! Three replicas, owners that follow each other, batches that land on replicas one by one, late or never. Reduced without losing runs: of a seq
//! a replica keeps only the row that counts; a claim and the read behind it are one step, as are a check and what follows from it (unless
//! a mistake lies between them); an owner that died is one that does nothing more; replicas are interchangeable; what lands too late to
//! matter is dropped; client ids come in order. Bucket borders and several rooms of a shard are the simulation's (`super::simulation`).

use stateright::{Checker, HasDiscoveries, Model, Property};
use std::time::Duration;

mod state;
mod steps;

use state::{Batch, Owner, Phase, Replica, Row, SEQS, State};

/// What somebody might do who does not know the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Mistake {
    /// What a takeover finds counts as committed as it is.
    AdoptAsIs,
    /// What it finds is written again under its old epoch.
    OldEpochRewrite,
    /// Whatever follows counts, also rows of a lower epoch behind a newer one.
    NoChain,
    /// What it finds is written again row by row, from below.
    AscendingPieces,
    /// A check counts for what became durable after it began.
    EarlyCheck,
    /// The log is read before the epoch is raised.
    HeadBeforeCas,
    /// After a time-out the seq is given to another entry.
    SeqReuse,
    /// After a time-out of the claim it is enough to read back the epoch that was tried.
    NoToken,
    /// A room that starts again goes on under its epoch.
    SameEpochRestart,
    /// A reader joins a read that began before it knew the head.
    CoalescedReader,
    /// A batch is committed when it is durable.
    NoCheck,
    /// A replica forgets a row that it had stored (`commitlog_sync: periodic`, and the power fails).
    ForgetfulReplica,
}

/// What is searched.
#[derive(Clone, Copy, Debug)]
struct Search {
    mistake: Option<Mistake>,
    /// Owners, one after the other.
    owners: usize,
    /// Entries of the log.
    seqs: u8,
    /// Client ids.
    ids: u8,
    /// Entries of a batch at most.
    batch: u8,
    /// The next batch may be written while the check of the one before is under way.
    pipeline: bool,
}

impl Search {
    fn of(mistake: Mistake) -> Search {
        Search { mistake: Some(mistake), owners: 3, seqs: 2, ids: 2, batch: 2, pipeline: true }
    }
    fn has(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    /// The first promise that a run breaks, with the run; and how many states were seen, and whether those were all.
    fn run(self, within: Duration) -> (Option<String>, usize, bool) {
        let checker = self.checker().threads(2).timeout(within).finish_when(HasDiscoveries::AnyFailures);
        let checker = checker.spawn_bfs().join();
        let broken = checker.discoveries().into_iter().find(|(name, _)| *name != DONE).map(|(name, path)| {
            let steps: Vec<String> = path.into_actions().iter().map(|step| format!("{step:?}")).collect();
            format!("{name}: {}", steps.join(", "))
        });
        let whole = checker.is_done() && checker.discovery(DONE).is_some();
        (broken, checker.unique_state_count(), whole)
    }
}

/// Not a promise: shows that the search gets somewhere.
const DONE: &str = "the last owner commits a full log";

/// A step of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    /// An owner takes the next epoch and reads two replicas (all but this one).
    TakeOver(u8, u8),
    /// It believes in the epoch of the one before it.
    TakeOverSame(u8, u8),
    /// It reads, and has no epoch yet.
    Peek(u8, u8),
    /// It takes the next epoch, having read before.
    Cas(u8),
    /// It appends one entry or two.
    Append(u8, u8, u8),
    /// Its batch lands on a replica.
    Land(u8, u8),
    /// A batch nobody waits for lands.
    LandLate(u8, u8),
    /// It checks, and commits what was durable.
    Check(u8),
    /// It begins a check for all it has written, durable or not.
    CheckBegins(u8),
    /// That check ends.
    CheckEnds(u8),
    /// Its room starts again, in the same process.
    Restart(u8, u8),
    /// It forgets the batch under way.
    Forget(u8),
    /// A reader's page is read from two replicas.
    Page(u8),
    /// It is shown, up to the head that is known by now.
    Show,
    /// A replica forgets a row.
    Lose(u8, u8),
}

impl Model for Search {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn actions(&self, state: &State, out: &mut Vec<Step>) {
        if state.is_fine() {
            self.steps(state, out);
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut next = last.clone();
        self.take(&mut next, step);
        next.normalize();
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("P2: a committed seq has one content", |_, s: &State| !s.two_contents),
            Property::always("P2: committed seqs have no hole", |_, s: &State| !s.hole),
            Property::always("P3: a client id is committed once", |_, s: &State| !s.twice),
            Property::always("P2: a reader is shown what is committed", |_, s: &State| !s.shown_wrong),
            Property::always("P1: every pair of replicas shows the committed log", |_, s: &State| s.is_shown_by_every_pair()),
            Property::sometimes(DONE, |search: &Search, s: &State| s.owners[search.owners - 1].committed == search.seqs),
        ]
    }
}

/// Finds a run that breaks a promise because of this mistake.
fn found(search: Search) {
    let (broken, states, _) = search.run(Duration::from_secs(60));
    println!("{:?}: {states} states, {}", search.mistake, broken.as_deref().unwrap_or("nothing found"));
    assert!(broken.is_some(), "{search:?}: nothing found in {states} states");
}

#[test]
fn adopting_as_is_is_found() {
    found(Search { seqs: 1, ..Search::of(Mistake::AdoptAsIs) });
}

#[test]
fn writing_again_under_the_old_epoch_is_found() {
    found(Search { seqs: 1, ..Search::of(Mistake::OldEpochRewrite) });
}

#[test]
fn a_takeover_without_the_chain_rule_is_found() {
    found(Search::of(Mistake::NoChain));
}

#[test]
fn adopting_in_ascending_pieces_is_found() {
    found(Search { ids: 3, ..Search::of(Mistake::AscendingPieces) });
}

#[test]
fn a_check_that_began_too_early_is_found() {
    found(Search { seqs: 1, owners: 2, ..Search::of(Mistake::EarlyCheck) });
}

#[test]
fn reading_before_the_epoch_is_raised_is_found() {
    found(Search { seqs: 1, owners: 2, ..Search::of(Mistake::HeadBeforeCas) });
}

#[test]
fn using_a_seq_again_after_a_time_out_is_found() {
    found(Search { seqs: 1, owners: 1, ..Search::of(Mistake::SeqReuse) });
}

#[test]
fn an_epoch_without_a_token_is_found() {
    found(Search { seqs: 1, owners: 2, ..Search::of(Mistake::NoToken) });
}

#[test]
fn a_room_that_starts_again_under_its_epoch_is_found() {
    found(Search { owners: 2, ..Search::of(Mistake::SameEpochRestart) });
}

#[test]
fn a_reader_that_joins_an_older_read_is_found() {
    found(Search { seqs: 1, owners: 2, ..Search::of(Mistake::CoalescedReader) });
}

#[test]
fn committing_without_a_check_is_found() {
    found(Search { seqs: 1, owners: 2, ..Search::of(Mistake::NoCheck) });
}

#[test]
fn a_replica_that_forgets_is_found() {
    found(Search { seqs: 1, owners: 2, ..Search::of(Mistake::ForgetfulReplica) });
}

/// All states of a small cluster, and as many of a larger one as there is time for.
#[test]
fn with_all_rules_nothing_is_found() {
    let soak = std::env::var_os("HUBBUB_SOAK").is_some();
    let whole = Search { mistake: None, owners: 3, seqs: 2, ids: if soak { 3 } else { 2 }, batch: 2, pipeline: true };
    let (broken, states, all) = whole.run(Duration::from_secs(300));
    println!("{whole:?}: {states} states, all of them: {all}");
    assert_eq!(broken, None);
    assert!(all, "not all states were seen");
    let larger = Search { owners: 4, seqs: 3, ids: 3, ..whole };
    let (broken, states, _) = larger.run(Duration::from_secs(if soak { 600 } else { 6 }));
    println!("{larger:?}: {states} states");
    assert_eq!(broken, None);
    assert!(states > 10_000, "hardly anything was searched: {states} states");
}
