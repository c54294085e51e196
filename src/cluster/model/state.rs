//! What a run is at one moment.

/// Entries at most.
pub const SEQS: usize = 3;
/// Owners at most.
const OWNERS: usize = 4;
const REPLICAS: usize = 3;
/// The replicas that are a quorum together.
pub const PAIRS: [(usize, usize); 3] = [(1, 2), (0, 2), (0, 1)];
const ORDERS: [[usize; REPLICAS]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
const EVERYWHERE: u8 = 0b111;

/// A row of one seq; ordered by whose counts. `what` is its client id, which stands for its content; 0: no row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Row {
    pub epoch: u8,
    /// The write's time stamp, where two activations share an epoch.
    pub activation: u8,
    pub what: u8,
}

impl Row {
    pub fn is_there(self) -> bool {
        self.what != 0
    }
    /// Whether this one takes the place of `other`: of equal keys the later time stamp stays, of equal time stamps the later to come.
    fn replaces(self, other: Row) -> bool {
        self.is_there() && (self.epoch, self.activation) >= (other.epoch, other.activation)
    }
}

/// Of each seq the row that counts, and the largest committed head that any row told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Replica {
    pub committed: u8,
    pub rows: [Row; SEQS],
}

impl Replica {
    fn put(&mut self, batch: &Batch) {
        self.committed = self.committed.max(batch.committed);
        for (row, new) in self.rows.iter_mut().zip(batch.rows) {
            if new.replaces(*row) {
                *row = new;
            }
        }
    }
    /// What a quorum read gives.
    pub fn with(mut self, other: &Replica) -> Replica {
        self.put(&Batch { rows: other.rows, committed: other.committed, landed: 0 });
        self
    }
    /// Whether this batch would change nothing here, now or later.
    fn is_beyond(&self, batch: &Batch) -> bool {
        let same = |(mine, new): (&Row, &Row)| !new.is_there() || mine == new || !new.replaces(*mine);
        batch.committed <= self.committed && self.rows.iter().zip(&batch.rows).all(same)
    }
}

/// Rows on their way, each at its seq.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Batch {
    pub rows: [Row; SEQS],
    /// The head that their owner had committed when it wrote them.
    pub committed: u8,
    /// On which replicas they are: a bit each.
    pub landed: u8,
}

impl Batch {
    pub fn is_on_a_quorum(&self) -> bool {
        self.landed.count_ones() >= 2
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    #[default]
    NotYet,
    /// Has read, and has no epoch.
    Peeked,
    Owning,
}

/// One node's time as owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    pub phase: Phase,
    pub epoch: u8,
    pub activation: u8,
    /// The log as it knows it, adopted and written entries included, and its length.
    pub log: [u8; SEQS],
    pub head: u8,
    /// Up to here what it wrote is durable.
    pub durable: u8,
    /// Up to here it has committed.
    pub committed: u8,
    /// Adopted in pieces: the next seq to write again, and the last.
    pub pieces: (u8, u8),
    /// A check that is under way: for everything up to here.
    pub check: u8,
    pub batch: Option<Batch>,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct State {
    pub replicas: [Replica; REPLICAS],
    pub owners: [Owner; OWNERS],
    /// Batches that their writer has given up.
    pub late: Vec<Batch>,
    /// The epoch cell.
    pub epoch: u8,
    /// What is committed: the log, as acknowledged, and its length.
    pub truth: [u8; SEQS],
    pub head: u8,
    /// Client ids that were used.
    pub used: u8,
    /// A page that a reader waits for.
    pub page: Option<[u8; SEQS]>,
    pub lost: bool,
    pub two_contents: bool,
    pub hole: bool,
    pub twice: bool,
    pub shown_wrong: bool,
}

impl State {
    pub fn is_fine(&self) -> bool {
        !(self.two_contents || self.hole || self.twice || self.shown_wrong)
    }

    pub fn read(&self, pair: u8) -> Replica {
        let (a, b) = PAIRS[pair as usize];
        self.replicas[a].with(&self.replicas[b])
    }

    pub fn is_shown_by_every_pair(&self) -> bool {
        (0..3).all(|pair| self.read(pair).rows.iter().zip(self.truth).take(self.head as usize).all(|(row, what)| row.what == what))
    }

    /// An owner acknowledges everything up to `to`.
    pub fn commit(&mut self, who: usize, to: u8) {
        self.owners[who].committed = to;
        for (what, truth) in self.owners[who].log.iter().zip(&mut self.truth).take(to as usize) {
            self.hole |= *what == 0;
            self.two_contents |= *truth != 0 && truth != what;
            if *truth == 0 {
                *truth = *what;
            }
        }
        self.head = self.head.max(to);
        let known = &self.truth[..self.head as usize];
        self.twice |= known.iter().enumerate().any(|(i, what)| *what != 0 && known[i + 1..].contains(what));
    }

    pub fn give_up_batch(&mut self, who: usize) {
        self.late.extend(self.owners[who].batch.take());
    }

    /// A batch lands on a replica; true when that makes it durable.
    pub fn land(&mut self, batch: &mut Batch, replica: u8) -> bool {
        self.replicas[replica as usize].put(batch);
        batch.landed |= 1 << replica;
        batch.is_on_a_quorum()
    }

    /// The same state under the names that make it the least, without what cannot matter any more.
    pub fn normalize(&mut self) {
        let replicas = self.replicas;
        for batch in &mut self.late {
            for (i, replica) in replicas.iter().enumerate() {
                if replica.is_beyond(batch) {
                    batch.landed |= 1 << i;
                }
            }
        }
        self.late.retain(|batch| batch.landed != EVERYWHERE);
        self.late.sort_unstable();
        let sorted = |order: &&[usize; REPLICAS]| order.windows(2).all(|w| replicas[w[0]] <= replicas[w[1]]);
        let best = ORDERS.iter().filter(sorted).map(|order| self.renamed(order)).min();
        if let Some(best) = best {
            *self = best;
        }
    }

    fn renamed(&self, order: &[usize; REPLICAS]) -> State {
        let bits = |landed: u8| order.iter().enumerate().fold(0, |bits, (new, old)| bits | (landed >> old & 1) << new);
        let mut state = self.clone();
        state.replicas = order.map(|old| self.replicas[old]);
        for batch in state.late.iter_mut().chain(state.owners.iter_mut().filter_map(|o| o.batch.as_mut())) {
            batch.landed = bits(batch.landed);
        }
        state.late.sort_unstable();
        state
    }
}
