//! `hubbub sabotage-list`: what a build with the feature `sabotage` can break, for `make prove`.

use super::{Done, print};

pub(super) fn run() -> Done {
    let lines: Vec<_> = crate::sabotage::ALL.iter().map(|(name, promise)| format!("{name}\t{promise}")).collect();
    print(&lines.join("\n"))
}
