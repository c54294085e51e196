//! Up to seven nodes with the real logic of ownership over a store of three replicas, in one thread and a time of its own, from a seed.
//!
//! Writes land late, out of order, on some replicas or on none; calls time out and take effect all the same; nodes are paused and die;
//! their clocks jump; Redis is silent or forgets; nodes are wrong about who owns what; rooms panic. All along: an acknowledged send is in
//! the log, at its seq, once; a seq has one content; there is no hole; readers see nothing else; **every pair of replicas shows the
//! committed log**. And when everything has healed, everybody is answered.
//! A failing run is told by its seed: `HUBBUB_SEED=n cargo test --lib -- cluster::simulation::one_seed --ignored --nocapture`.

use std::time::{Duration, Instant};

mod judge;
mod node;
mod scale;
mod store;
mod world;

use world::World;

/// Seeds that every run of the tests tries; fresh ones come on top.
const FIXED: u64 = 1_000;
/// So long fresh ones are tried.
const FRESH: Duration = Duration::from_secs(10);
/// Without a rule, so long is searched at most.
const SEARCHED: Duration = Duration::from_secs(90);

/// What came of a row of seeds.
struct Ran {
    /// The first that breaks a promise, and how.
    broken: Option<(u64, String)>,
    schedules: u64,
    /// Entries that were committed in all.
    committed: usize,
}

/// Runs seeds until one breaks a promise that `counts`, or the time is over.
fn run(seeds: impl Iterator<Item = u64>, within: Duration, counts: fn(&str) -> bool) -> Ran {
    let (started, mut ran) = (Instant::now(), Ran { broken: None, schedules: 0, committed: 0 });
    for seed in seeds {
        let (verdict, committed) = World::new(seed).run();
        ran.schedules += 1;
        ran.committed += committed;
        if let Err(why) = verdict
            && counts(&why)
        {
            ran.broken = Some((seed, why));
            break;
        }
        if started.elapsed() > within {
            break;
        }
    }
    ran
}

#[test]
fn the_committed_log_survives_everything_that_goes_wrong() {
    let soak = std::env::var_os("HUBBUB_SOAK").is_some();
    let (more, within) = if soak { (100_000, Duration::from_secs(4 * 3_600)) } else { (1 << 20, FRESH) };
    let fresh = u64::from(rand::random::<u32>()) << 24;
    for (first, seeds, within) in [(0, FIXED, Duration::MAX), (fresh, more, within)] {
        let ran = run(first..first + seeds, within, |_| true);
        println!("{} schedules from seed {first} on, {} entries committed", ran.schedules, ran.committed);
        if let Some((seed, why)) = ran.broken {
            panic!("seed {seed}: {why}");
        }
        assert!(ran.committed as u64 > ran.schedules * 5, "hardly anything was committed: it shows nothing");
        assert!(!soak || ran.schedules == seeds, "{} of {seeds} schedules in the time there was", ran.schedules);
    }
}

/// Runs one seed again.
#[test]
#[ignore = "for a seed that failed: HUBBUB_SEED"]
fn one_seed() {
    let seed = std::env::var("HUBBUB_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let (verdict, committed) = World::new(seed).run();
    println!("seed {seed}: {verdict:?}, {committed} entries committed");
    assert!(verdict.is_ok());
}

/// With a rule broken, a schedule is found that breaks a promise. That nobody is answered would be found sooner, and shows less.
fn found_without(rule: &'static str, seeds: impl Iterator<Item = u64>) {
    let ran = crate::sabotage::with(Some(rule), || run(seeds, SEARCHED, |why| !why.contains("P6")));
    println!("{rule}: {:?} after {} schedules", ran.broken, ran.schedules);
    assert!(ran.broken.is_some(), "nothing was found without the rule ({rule}) in {} schedules", ran.schedules);
}

macro_rules! each_rule_is_needed {
    ($($rule:ident),*) => {
        /// Each rule of ownership, broken in the real code: the simulation finds it.
        mod without {
            $(#[test]
            fn $rule() {
                super::found_without(stringify!($rule), 0..);
            })*

            /// The rarest: three takeovers in a row, over a bucket's border, one behind the other. About one schedule of five thousand; these
            /// seeds have one soon.
            #[test]
            fn downward_tail() {
                super::found_without("downward_tail", 6_000..);
            }
        }
    };
}
each_rule_is_needed!(
    adopt_as_is,
    old_epoch_rewrite,
    no_chain,
    ascending_pieces,
    early_check,
    head_before_cas,
    skip_rewrite,
    no_token,
    same_epoch_restart,
    coalesced_reader
);
