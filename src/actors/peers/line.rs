//! A room's line at a node: what keeps a node's requests to a room in order while the room's owner changes. Pure.
//!
//! A request may go to an owner only when every one before it that is not answered yet went to the same owner, in the same **round**: from there
//! on the link and the owner keep the order. One that is refused (the owner is another) keeps its place, and begins a new round. The owner
//! that refused it refuses all that was sent in that round or before ([`Refused`]): else one that was sent behind the refused one, when the
//! owner may have become the owner after all, would overtake it.
//! What this node had taken in as the owner, and **passes on** because it is the owner no more, keeps the place that it got when it came; as
//! long as anything is taken in and not answered, only what is passed on goes elsewhere. A request carries through which nodes' lines it
//! came: at one of those it must not wait for itself, and is not passed on once more, but refused.

use crate::cluster::{Mono, NodeId};
use crate::protocol::ids::RoomId;
use std::collections::{HashMap, VecDeque};

/// Rooms and nodes of which an owner remembers that it refused something.
const REFUSED_MAX: usize = 65_536;
/// For so many milliseconds: whoever asked has given up by then, and nothing from before is under way any more.
const REFUSED_KEPT_MS: u64 = 5_000;

/// Where a request is.
enum State<T> {
    Waits(T),
    /// At this node, sent in this round.
    At(NodeId, u64),
}

struct Item<T> {
    ticket: u64,
    /// Grows with the requests as they come to this node; what is passed on has that of when it came.
    order: u64,
    passed_on: bool,
    state: State<T>,
}

/// The requests of a node to one room that are not answered.
pub(super) struct Line<T> {
    items: VecDeque<Item<T>>,
    me: NodeId,
    round: u64,
}

impl<T> Line<T> {
    /// An empty line of this node that begins in a round that is later than any in which a request of this room was refused.
    pub fn new(me: NodeId, round: u64) -> Line<T> {
        Line { items: VecDeque::new(), me, round }
    }

    /// A request joins, in its place.
    pub fn push(&mut self, ticket: u64, order: u64, passed_on: bool, what: T) {
        let behind = self.items.iter().rev().take_while(|item| item.order > order).count();
        self.items.insert(self.items.len() - behind, Item { ticket, order, passed_on, state: State::Waits(what) });
    }

    /// The next one that may go to the owner; from now on it is there. `is_here`: this node has taken requests in that are not answered,
    /// and what is not passed on must wait for them. What is here itself holds up nobody otherwise: it is passed on, or is the owner's already.
    pub fn next(&mut self, owner: NodeId, is_here: bool) -> Option<(u64, u64, T)> {
        let (me, to) = (self.me, (owner, self.round));
        let is_before = |state: &State<T>| matches!(state, State::At(node, round) if *node == me || (*node, *round) == to);
        let item = self.items.iter_mut().find(|item| !is_before(&item.state))?;
        if !matches!(item.state, State::Waits(_)) || (is_here && owner != me && !item.passed_on) {
            return None;
        }
        match std::mem::replace(&mut item.state, State::At(to.0, to.1)) {
            State::Waits(what) => Some((item.ticket, self.round, what)),
            State::At(..) => None,
        }
    }

    /// A request was refused where it was: it waits again, in its place. `fresh` gives a round that nobody has heard of.
    pub fn back(&mut self, ticket: u64, what: T, fresh: impl FnOnce() -> u64) {
        let Some(item) = self.items.iter_mut().find(|item| item.ticket == ticket) else { return };
        if matches!(item.state, State::At(_, round) if round == self.round) {
            self.round = fresh();
        }
        item.state = State::Waits(what);
    }

    /// A request was answered.
    pub fn done(&mut self, ticket: u64) {
        self.items.retain(|item| item.ticket != ticket);
    }

    /// Takes out what has waited too long.
    pub fn expire(&mut self, over: impl Fn(&T) -> bool) -> Vec<T> {
        let mut gone = Vec::new();
        for item in std::mem::take(&mut self.items) {
            match item.state {
                State::Waits(what) if over(&what) => gone.push(what),
                _ => self.items.push_back(item),
            }
        }
        gone
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
    /// How many were not sent anywhere.
    pub fn waiting(&self) -> usize {
        self.items.iter().filter(|item| matches!(item.state, State::Waits(_))).count()
    }
}

/// What an owner refused, so that what was sent behind it is refused too. At the bound what is oldest is forgotten: then a request may
/// overtake another.
#[derive(Default)]
pub(super) struct Refused {
    rounds: HashMap<(NodeId, RoomId), (u64, Mono)>,
}

impl Refused {
    /// A request of the node was refused that was sent in this round.
    pub fn note(&mut self, by: NodeId, room: RoomId, round: u64, now: Mono) {
        if self.rounds.len() >= REFUSED_MAX {
            self.rounds.retain(|_, (_, at)| at.0 + REFUSED_KEPT_MS > now.0);
            if self.rounds.len() >= REFUSED_MAX {
                self.rounds.clear();
            }
        }
        let known = self.rounds.entry((by, room)).or_insert((round, now));
        *known = (known.0.max(round), now);
    }

    /// Whether a request that was sent in this round must be refused for that alone.
    pub fn holds(&self, by: NodeId, room: RoomId, round: u64, now: Mono) -> bool {
        self.rounds.get(&(by, room)).is_some_and(|(refused, at)| round <= *refused && at.0 + REFUSED_KEPT_MS > now.0)
    }

    /// The process of the node is gone; the next one counts anew.
    pub fn forget(&mut self, node: NodeId) {
        self.rounds.retain(|(by, _), _| *by != node);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ROOM: RoomId = RoomId(1);
    const ASKER: NodeId = NodeId(3);
    /// The asker is a node as the others are; only it never becomes the owner.
    const NODES: usize = 4;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Ask,
        /// The next question from one node to another arrives.
        Arrive(usize, usize),
        /// The next answer does.
        Answer(usize, usize),
        /// A node hears who the owner is, rightly or not.
        Hear(usize, usize),
        /// The room goes to this node.
        Move(usize),
        /// The owner stores what it has taken in.
        Store,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let (any, owner) = (0..NODES, 0..NODES - 1);
        let step = prop_oneof![
            4 => Just(Step::Ask),
            8 => (any.clone(), owner.clone()).prop_map(|(from, to)| Step::Arrive(from, to)),
            8 => (owner.clone(), any.clone()).prop_map(|(from, to)| Step::Answer(from, to)),
            2 => (any, owner.clone()).prop_map(|(node, owner)| Step::Hear(node, owner)),
            1 => owner.prop_map(Step::Move),
            2 => Just(Step::Store),
        ];
        prop::collection::vec(step, 0..300)
    }

    /// Who is answered: somebody who asked, by which ticket of its line; nobody where the request began.
    type Reply = Option<(usize, u64)>;

    #[derive(Clone)]
    struct Request {
        what: u32,
        order: u64,
        passed_on: bool,
        /// The nodes in whose lines it stands.
        through: Vec<usize>,
        reply: Reply,
    }

    struct Node {
        line: Line<Request>,
        asked: HashMap<u64, Request>,
        seen: usize,
        refused: Refused,
        taken: VecDeque<Request>,
        /// Taken in and not answered.
        here: usize,
        to: [VecDeque<(u64, u64, Request)>; NODES],
        answers: [VecDeque<(u64, bool)>; NODES],
    }

    /// One room, and nodes that ask, take in and pass on as the real ones do. A careless one does not remember what it refused.
    struct World {
        nodes: [Node; NODES],
        counter: u64,
        owner: usize,
        stored: Vec<u32>,
        asked: u32,
        failed: usize,
        careless: bool,
    }

    impl World {
        fn new(careless: bool) -> World {
            let node = |id: usize| Node {
                line: Line::new(NodeId(id as u32), 0),
                asked: HashMap::new(),
                seen: 0,
                refused: Refused::default(),
                taken: VecDeque::new(),
                here: 0,
                to: Default::default(),
                answers: Default::default(),
            };
            World { nodes: std::array::from_fn(node), counter: 0, owner: 0, stored: Vec::new(), asked: 0, failed: 0, careless }
        }
        fn join(&mut self, node: usize, request: Request) {
            self.counter += 1;
            self.nodes[node].asked.insert(self.counter, request.clone());
            self.nodes[node].line.push(self.counter, request.order, request.passed_on, request);
        }
        fn drain(&mut self, node: usize) {
            let me = &mut self.nodes[node];
            while let Some((ticket, round, mut request)) = me.line.next(NodeId(me.seen as u32), me.here > 0) {
                if me.seen != node {
                    request.through.push(node);
                    me.to[me.seen].push_back((ticket, round, request));
                } else if node == self.owner {
                    me.here += 1;
                    me.taken.push_back(Request { reply: Some((node, ticket)), ..request });
                } else {
                    me.seen = self.owner;
                    self.back(node, ticket);
                    return self.drain(node);
                }
            }
        }
        fn back(&mut self, node: usize, ticket: u64) {
            let (me, counter) = (&mut self.nodes[node], &mut self.counter);
            me.line.back(ticket, me.asked[&ticket].clone(), || {
                *counter += 1;
                *counter
            });
        }
        fn done(&mut self, node: usize, ticket: u64) {
            self.nodes[node].line.done(ticket);
            let request = self.nodes[node].asked.remove(&ticket).unwrap();
            self.nodes[node].here -= usize::from(request.passed_on);
            self.reply(node, request.reply);
            self.drain(node);
        }
        fn reply(&mut self, from: usize, reply: Reply) {
            match reply {
                Some((node, ticket)) if node == from => self.done(node, ticket),
                Some((node, ticket)) => self.nodes[from].answers[node].push_back((ticket, true)),
                None => {}
            }
        }
        fn arrive(&mut self, from: usize, to: usize) {
            let Some((ticket, round, request)) = self.nodes[from].to[to].pop_front() else { return };
            let (me, asker) = (&mut self.nodes[to], NodeId(from as u32));
            self.counter += 1;
            let came = Request { reply: Some((from, ticket)), order: self.counter, passed_on: false, ..request };
            if to != self.owner {
                me.refused.note(asker, ROOM, round, Mono(0));
            }
            if to != self.owner || (!self.careless && me.refused.holds(asker, ROOM, round, Mono(0))) {
                me.answers[from].push_back((ticket, false));
            } else if came.through.contains(&to) || me.line.is_empty() {
                me.here += 1;
                me.taken.push_back(came);
            } else {
                self.join(to, came);
            }
            self.drain(to);
        }
        fn step(&mut self, step: Step) {
            match step {
                Step::Ask => {
                    self.asked += 1;
                    let order = self.counter + 1;
                    self.join(ASKER.0 as usize, Request { what: self.asked, order, passed_on: false, through: Vec::new(), reply: None });
                    self.drain(ASKER.0 as usize);
                }
                Step::Arrive(from, to) => self.arrive(from, to),
                Step::Answer(from, to) => match self.nodes[from].answers[to].pop_front() {
                    Some((ticket, true)) => self.done(to, ticket),
                    Some((ticket, false)) => {
                        self.nodes[to].seen = self.owner;
                        self.back(to, ticket);
                        self.drain(to);
                    }
                    None => {}
                },
                Step::Hear(node, owner) => {
                    self.nodes[node].seen = owner;
                    self.drain(node);
                }
                Step::Move(node) if node == self.owner => {}
                Step::Move(node) => {
                    let was = std::mem::replace(&mut self.owner, node);
                    self.nodes[was].seen = node;
                    for request in std::mem::take(&mut self.nodes[was].taken) {
                        if request.through.contains(&was) {
                            self.failed += 1;
                            self.nodes[was].here -= 1;
                            self.reply(was, request.reply);
                        } else {
                            self.join(was, Request { passed_on: true, ..request });
                        }
                    }
                    self.drain(was);
                }
                Step::Store => {
                    if let Some(request) = self.nodes[self.owner].taken.pop_front() {
                        self.stored.push(request.what);
                        self.nodes[self.owner].here -= 1;
                        self.reply(self.owner, request.reply);
                        self.drain(self.owner);
                    }
                }
            }
        }
        fn settle(&mut self) {
            for _ in 0..20 * (self.asked as usize + 10) {
                for from in 0..NODES {
                    self.step(Step::Hear(from, self.owner));
                    for to in 0..NODES {
                        self.step(Step::Arrive(from, to));
                        self.step(Step::Answer(from, to));
                    }
                }
                self.step(Step::Store);
            }
        }
    }

    fn run(steps: &[Step], careless: bool) -> World {
        let mut world = World::new(careless);
        steps.iter().for_each(|step| world.step(*step));
        world
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]
        #[test]
        fn requests_are_stored_in_the_order_in_which_they_were_made_and_none_is_left_over(steps in steps()) {
            let mut world = run(&steps, false);
            world.settle();
            prop_assert!(world.stored.is_sorted(), "{:?}", world.stored);
            prop_assert_eq!(world.stored.len() + world.failed, world.asked as usize);
            prop_assert!(world.nodes.iter().all(|node| node.line.is_empty()));
        }
    }

    #[test]
    fn an_owner_that_does_not_remember_what_it_refused_lets_a_request_overtake() {
        // Both are under way to a node that becomes the owner in between.
        let steps = [Step::Ask, Step::Move(1), Step::Ask, Step::Arrive(3, 0), Step::Move(0), Step::Arrive(3, 0), Step::Store];
        assert_eq!(run(&steps, true).stored, [2]);
        assert!(run(&steps, false).stored.is_empty());
    }

    #[test]
    fn what_was_taken_in_here_goes_in_the_order_in_which_it_came() {
        let mut line = Line::new(NodeId(9), 0);
        line.push(1, 3, false, 'c');
        assert_eq!(line.next(NodeId(1), true), None, "what is older may still come");
        line.push(2, 1, true, 'a');
        line.push(3, 2, true, 'b');
        assert_eq!(line.next(NodeId(1), true).map(|(_, _, what)| what), Some('a'));
        assert_eq!(line.next(NodeId(2), false), None, "the one before is elsewhere");
        assert_eq!(line.next(NodeId(1), false).map(|(_, _, what)| what), Some('b'));
        assert_eq!(line.next(NodeId(1), false).map(|(_, _, what)| what), Some('c'));
    }

    #[test]
    fn what_has_waited_too_long_leaves_the_line_and_what_is_under_way_does_not() {
        let mut line = Line::new(NodeId(9), 0);
        (1..=3).for_each(|n| line.push(n, n, false, n));
        line.next(NodeId(1), false);
        assert_eq!(line.expire(|n| *n != 3), [2]);
        assert_eq!(line.waiting(), 1);
        line.done(1);
        assert_eq!(line.next(NodeId(2), false).map(|(_, _, what)| what), Some(3));
    }

    #[test]
    fn what_was_refused_is_forgotten_after_a_while_and_with_the_process_that_asked() {
        let mut refused = Refused::default();
        refused.note(ASKER, ROOM, 5, Mono(0));
        assert!(refused.holds(ASKER, ROOM, 5, Mono(REFUSED_KEPT_MS - 1)));
        assert!(!refused.holds(ASKER, ROOM, 6, Mono(1)), "it knew of the refusal");
        assert!(!refused.holds(ASKER, ROOM, 5, Mono(REFUSED_KEPT_MS)));
        refused.forget(ASKER);
        assert!(!refused.holds(ASKER, ROOM, 1, Mono(1)));
    }
}
