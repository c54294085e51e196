//! One user's devices merged into what contacts see, and what to tell them when. Pure: time comes in, effects go out.
//!
//! Guarantees: once it is quiet and no deadline is left, contacts were last told [`Devices::merged`]; they are never told one state
//! twice in a row; coming online is told at once, a change of state at most once a second (the last one wins), going offline
//! only after nobody was connected for the debounce, so that a flap tells nobody. Left to the presence actor: who the contacts
//! are, timers ([`Devices::next_deadline`] says for when), storing `last_seen`, and how many sessions a user may have.

use super::ids::{DeviceId, Millis};
use super::ops::PresenceState;
use std::collections::BTreeMap;

/// Between two announced changes of one user.
pub const ANNOUNCE_EVERY_MS: u64 = 1_000;

/// What is to be done about a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Store that the user was last connected then. Comes just before `Announce(Offline)`.
    SetLastSeen(Millis),
    /// Tell the contacts.
    Announce(PresenceState),
}

#[derive(Clone, Copy, Debug)]
struct Connected {
    device: DeviceId,
    hub: u64,
    state: PresenceState,
}

/// A user's connected devices and what contacts were told.
#[derive(Clone, Debug)]
pub struct Devices {
    sessions: BTreeMap<u64, Connected>,
    offline_debounce_ms: u64,
    /// What contacts were told last, and when. None: a predecessor told them something that is not known.
    told: Option<PresenceState>,
    told_at: Millis,
    /// When the last session went, while contacts have not been told.
    gone_at: Option<Millis>,
    /// A session was connected in this life, or may have been in the last: `gone_at` is when it went.
    seen: bool,
    /// Nobody need be told that nobody was connected.
    quiet: bool,
    now: Millis,
}

impl Devices {
    /// Nobody connected; contacts know nothing else.
    pub fn new(offline_debounce_ms: u64) -> Devices {
        Devices {
            sessions: BTreeMap::new(),
            offline_debounce_ms,
            told: Some(PresenceState::Offline),
            told_at: 0,
            gone_at: None,
            seen: true,
            quiet: false,
            now: 0,
        }
    }

    /// Another node kept this before. Sessions that are there announce themselves, and contacts are told what they say a second later. If none
    /// does within the debounce: who kept it `died`, perhaps with the user's sessions, and contacts are told; else they know. When the user was
    /// last connected is not known here.
    pub fn moved(offline_debounce_ms: u64, now: Millis, died: bool) -> Devices {
        Devices { seen: false, quiet: !died, ..Devices::rebuilt(offline_debounce_ms, now) }
    }

    /// After a restart: what a predecessor told contacts is not known, so they are told whatever the sessions that announce themselves
    /// say, a second later (the contacts announce themselves too); if none does within the debounce, that the user is offline.
    pub fn rebuilt(offline_debounce_ms: u64, now: Millis) -> Devices {
        Devices { told: None, told_at: now, gone_at: Some(now), now, ..Devices::new(offline_debounce_ms) }
    }

    /// A session begins (or is announced again) in a hub. `Offline` counts as online: it is connected.
    pub fn connect(&mut self, session: u64, device: DeviceId, hub: u64, state: PresenceState, now: Millis) -> Vec<Effect> {
        let state = if state == PresenceState::Offline { PresenceState::Online } else { state };
        (self.seen, self.quiet) = (true, false);
        self.sessions.insert(session, Connected { device, hub, state });
        self.tick(now)
    }

    /// A session says what it is. Unknown sessions and `Offline` (the protocol refuses it) change nothing.
    pub fn set(&mut self, session: u64, state: PresenceState, now: Millis) -> Vec<Effect> {
        if let Some(connected) = self.sessions.get_mut(&session).filter(|_| state != PresenceState::Offline) {
            connected.state = state;
        }
        self.tick(now)
    }

    /// A session ended.
    pub fn disconnect(&mut self, session: u64, now: Millis) -> Vec<Effect> {
        self.remove(now, |id, _| *id == session)
    }

    /// A hub ended, or its node died, and all its sessions with it.
    pub fn hub_gone(&mut self, hub: u64, now: Millis) -> Vec<Effect> {
        self.remove(now, |_, connected| connected.hub == hub)
    }

    fn remove(&mut self, now: Millis, gone: impl Fn(&u64, &Connected) -> bool) -> Vec<Effect> {
        let before = self.sessions.len();
        self.sessions.retain(|id, connected| !gone(id, connected));
        if self.sessions.is_empty() && before > 0 {
            self.gone_at = Some(now.max(self.now));
        }
        self.tick(now)
    }

    /// Does what is due. A `now` that runs backwards is taken as the latest one known.
    pub fn tick(&mut self, now: Millis) -> Vec<Effect> {
        self.now = self.now.max(now);
        if !self.sessions.is_empty() {
            self.gone_at = None;
        }
        if self.next_deadline().is_none_or(|due| due > self.now) {
            return Vec::new();
        }
        let merged = self.merged();
        (self.told, self.told_at) = (Some(merged), self.now);
        let last_seen = self.gone_at.take().filter(|_| self.seen).map(Effect::SetLastSeen);
        let announce = (!std::mem::take(&mut self.quiet)).then_some(Effect::Announce(merged));
        last_seen.into_iter().chain(announce).collect()
    }

    /// When [`Devices::tick`] must be called next; none while there is nothing to tell.
    pub fn next_deadline(&self) -> Option<Millis> {
        let merged = self.merged();
        if self.told == Some(merged) {
            return None;
        }
        let paced = self.told_at + ANNOUNCE_EVERY_MS;
        Some(match (self.told, merged) {
            (Some(PresenceState::Offline), _) => self.now,
            (_, PresenceState::Offline) => paced.max(self.gone_at.unwrap_or(self.now) + self.offline_debounce_ms),
            _ => paced,
        })
    }

    /// What the user is: busy if any device says so, else online if any is, else away, else offline.
    pub fn merged(&self) -> PresenceState {
        let rank = |state: &PresenceState| match state {
            PresenceState::Offline => 0,
            PresenceState::Away => 1,
            PresenceState::Online => 2,
            PresenceState::Busy => 3,
        };
        self.sessions.values().map(|connected| connected.state).max_by_key(rank).unwrap_or_default()
    }

    /// What contacts were told last; what the user is, where that is not known.
    pub fn told(&self) -> PresenceState {
        self.told.unwrap_or_else(|| self.merged())
    }

    /// When the user was last connected, while that has not been given as [`Effect::SetLastSeen`]: store it before ending.
    pub fn unstored_last_seen(&self) -> Option<Millis> {
        self.gone_at
    }

    /// The device is connected.
    pub fn has(&self, device: DeviceId) -> bool {
        self.sessions.values().any(|connected| connected.device == device)
    }

    /// No session is connected and nothing is left to tell: the actor may end.
    pub fn is_idle(&self) -> bool {
        self.sessions.is_empty() && self.next_deadline().is_none()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use Effect::*;
    use PresenceState::*;
    use proptest::prelude::*;

    const DEBOUNCE: u64 = 3_000;

    fn online() -> Devices {
        let mut devices = Devices::new(DEBOUNCE);
        assert_eq!(devices.connect(1, DeviceId(1), 1, Online, 10_000), [Announce(Online)]);
        devices
    }

    #[test]
    fn who_comes_from_another_node_is_told_once_and_who_was_not_connected_not_at_all() {
        let mut online = Devices::moved(DEBOUNCE, 10_000, false);
        assert_eq!(online.connect(1, DeviceId(1), 1, Away, 10_100), []);
        assert_eq!(online.tick(11_000), [Announce(Away)]);
        assert_eq!(online.disconnect(1, 20_000), []);
        assert_eq!(online.tick(20_000 + DEBOUNCE), [SetLastSeen(20_000), Announce(Offline)]);
        let mut offline = Devices::moved(DEBOUNCE, 10_000, false);
        assert_eq!(offline.next_deadline(), Some(10_000 + DEBOUNCE));
        assert_eq!(offline.tick(10_000 + DEBOUNCE), []);
        assert_eq!(offline.next_deadline(), None);
        let mut died = Devices::moved(DEBOUNCE, 10_000, true);
        assert_eq!(died.tick(10_000 + DEBOUNCE), [Announce(Offline)], "when it was last connected is not known");
    }

    #[test]
    fn busy_beats_online_beats_away() {
        let mut devices = Devices::new(DEBOUNCE);
        for (session, state, expect) in [(1, Away, Away), (2, Online, Online), (3, Busy, Busy), (4, Away, Busy), (5, Offline, Busy)] {
            devices.connect(session, DeviceId(session), 1, state, 0);
            assert_eq!(devices.merged(), expect);
        }
        devices.disconnect(3, 0);
        assert_eq!(devices.merged(), Online);
        assert!(devices.has(DeviceId(4)) && !devices.has(DeviceId(3)));
    }

    #[test]
    fn a_reconnect_within_the_debounce_tells_nobody() {
        let mut devices = online();
        assert_eq!(devices.disconnect(1, 20_000), []);
        assert_eq!(devices.next_deadline(), Some(23_000));
        assert_eq!(devices.tick(22_999), []);
        assert_eq!(devices.connect(2, DeviceId(1), 2, Online, 22_999), []);
        assert_eq!((devices.next_deadline(), devices.tick(60_000)), (None, vec![]));
    }

    #[test]
    fn going_offline_is_told_after_the_debounce_with_the_time_of_the_last_session() {
        let mut devices = online();
        devices.disconnect(1, 20_000);
        assert_eq!(devices.unstored_last_seen(), Some(20_000));
        assert_eq!(devices.tick(23_000), [SetLastSeen(20_000), Announce(Offline)]);
        assert!(devices.is_idle() && devices.unstored_last_seen().is_none());
        assert_eq!(devices.connect(9, DeviceId(1), 1, Away, 23_001), [Announce(Away)], "coming online is told at once");
    }

    #[test]
    fn a_dead_hub_takes_only_its_own_sessions() {
        let mut devices = online();
        devices.connect(2, DeviceId(2), 2, Away, 10_001);
        assert_eq!(devices.hub_gone(1, 20_000), [Announce(Away)]);
        assert_eq!(devices.hub_gone(2, 20_001), []);
        assert_eq!(devices.tick(23_001), [SetLastSeen(20_001), Announce(Offline)]);
    }

    #[test]
    fn changes_are_told_once_a_second_and_the_last_one_wins() {
        let mut devices = online();
        assert_eq!(devices.set(1, Busy, 10_100), []);
        assert_eq!(devices.set(1, Away, 10_200), []);
        assert_eq!(devices.next_deadline(), Some(11_000));
        assert_eq!(devices.tick(11_000), [Announce(Away)]);
        assert_eq!(devices.set(1, Busy, 11_100), []);
        assert_eq!(devices.set(1, Away, 11_200), [], "back to what they know");
        assert_eq!((devices.next_deadline(), devices.tick(20_000)), (None, vec![]));
    }

    #[test]
    fn strange_input_changes_nothing() {
        let mut devices = online();
        assert_eq!(devices.set(7, Busy, 20_000), []);
        assert_eq!(devices.set(1, Offline, 20_000), []);
        assert_eq!(devices.disconnect(7, 20_000), []);
        assert_eq!(devices.hub_gone(7, 5), []);
        assert_eq!((devices.merged(), devices.told()), (Online, Online));
    }

    #[test]
    fn a_rebuilt_actor_tells_what_is_announced_and_offline_if_nobody_comes_back() {
        let mut devices = Devices::rebuilt(DEBOUNCE, 50_000);
        assert_eq!(devices.next_deadline(), Some(53_000));
        let mut other = devices.clone();
        assert_eq!(devices.tick(53_000), [SetLastSeen(50_000), Announce(Offline)]);
        assert_eq!(other.connect(1, DeviceId(1), 1, Busy, 51_000), [Announce(Busy)], "whatever they were told before");
        assert_eq!((other.next_deadline(), other.told()), (None, Busy));
    }

    #[derive(Clone, Copy, Debug)]
    enum Input {
        Connect(u64, u64, PresenceState),
        Set(u64, PresenceState),
        Disconnect(u64),
        HubGone(u64),
        Tick,
    }

    fn inputs() -> impl Strategy<Value = Vec<(u64, Input)>> {
        let state = || prop_oneof![Just(Offline), Just(Away), Just(Busy), Just(Online)];
        let input = prop_oneof![
            (0..5u64, 0..3u64, state()).prop_map(|(s, h, state)| Input::Connect(s, h, state)),
            (0..5u64, state()).prop_map(|(s, state)| Input::Set(s, state)),
            (0..5u64).prop_map(Input::Disconnect),
            (0..3u64).prop_map(Input::HubGone),
            Just(Input::Tick),
        ];
        proptest::collection::vec((prop_oneof![0..50u64, 0..5_000u64], input), 0..60)
    }

    /// Runs inputs with every deadline kept; gives each effect with its time, then waits for quiet.
    fn run(devices: &mut Devices, inputs: Vec<(u64, Input)>) -> Vec<(Millis, Effect)> {
        let (mut now, mut effects) = (1_000, Vec::new());
        let mut all = inputs;
        all.push((100_000, Input::Tick));
        for (pause, input) in all {
            let then = now + pause;
            while let Some(due) = devices.next_deadline().filter(|due| *due <= then) {
                now = due;
                let done = devices.tick(now);
                assert!(!done.is_empty(), "a deadline with nothing to do");
                effects.extend(done.into_iter().map(|effect| (now, effect)));
            }
            now = then;
            let done = match input {
                Input::Connect(s, hub, state) => devices.connect(s, DeviceId(s), hub, state, now),
                Input::Set(s, state) => devices.set(s, state, now),
                Input::Disconnect(s) => devices.disconnect(s, now),
                Input::HubGone(hub) => devices.hub_gone(hub, now),
                Input::Tick => devices.tick(now),
            };
            effects.extend(done.into_iter().map(|effect| (now, effect)));
        }
        effects
    }

    proptest! {
        #[test]
        fn after_quiet_contacts_know_what_is(inputs in inputs(), debounce in 0..4_000u64) {
            let mut devices = Devices::new(debounce);
            let effects = run(&mut devices, inputs);
            let told: Vec<(Millis, PresenceState)> =
                effects.iter().filter_map(|(at, e)| if let Announce(state) = e { Some((*at, *state)) } else { None }).collect();
            prop_assert_eq!(told.last().map_or(Offline, |(_, state)| *state), devices.merged());
            prop_assert_eq!(devices.told(), devices.merged());
            prop_assert_eq!(devices.next_deadline(), None);
            prop_assert_ne!(told.first().map(|(_, state)| *state), Some(Offline), "offline is what they knew");
            for pair in told.windows(2) {
                prop_assert_ne!(pair[0].1, pair[1].1, "told twice");
                prop_assert!(pair[0].1 == Offline || pair[1].0 - pair[0].0 >= ANNOUNCE_EVERY_MS, "too often");
            }
            for pair in effects.windows(2).filter(|pair| pair[1].1 == Announce(Offline)) {
                let SetLastSeen(seen) = pair[0].1 else { return Err(TestCaseError::fail("offline without last seen")) };
                prop_assert!(pair[1].0 - seen >= debounce, "told before the debounce was over");
            }
        }

        #[test]
        fn flaps_within_the_debounce_tell_nobody(flaps in proptest::collection::vec((0..5_000u64, 0..DEBOUNCE), 1..30)) {
            let mut devices = online();
            let mut now = 10_000;
            for (up, down) in flaps {
                now += up;
                prop_assert_eq!(devices.disconnect(1, now), []);
                now += down;
                prop_assert_eq!(devices.tick(now), []);
                prop_assert_eq!(devices.connect(1, DeviceId(1), 1, Online, now), []);
            }
            prop_assert_eq!(devices.next_deadline(), None);
        }
    }
}
