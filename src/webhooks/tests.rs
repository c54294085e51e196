//! What is durable, what is bounded, and what a replay does; over the real store, without a sender.

use super::*;
use crate::outbound::Outbound;
use crate::protocol::entry::{Body, Message};
use crate::protocol::ids::{MessageId, UserId};
use crate::storage::embedded::EmbeddedStore;

struct World {
    webhooks: Webhooks,
    outbound: Outbound,
    told: Arc<Mutex<Vec<Told>>>,
    store: Arc<EmbeddedStore>,
    _dir: tempfile::TempDir,
}

fn world() -> World {
    world_of(config::Webhooks { waiting_max: 5, dead_max: 3, hooks_max: 2, ..Default::default() })
}

fn world_of(config: config::Webhooks) -> World {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path(), Default::default()).unwrap();
    let webhooks = Webhooks::new(store.clone(), config);
    let told = Arc::new(Mutex::new(Vec::new()));
    let into = told.clone();
    webhooks.told_to(move |t| into.lock().push(t));
    let outbound = Outbound::new(&config::Outbound::default()).unwrap();
    World { webhooks, outbound, told, store, _dir: dir }
}

impl World {
    async fn hook(&self, id: u64, events: &[&str], rooms: &[u64]) -> Arc<Live> {
        let new = NewHook {
            url: "https://bot.example/hook".into(),
            events: events.iter().map(|e| e.to_string()).collect(),
            rooms: rooms.iter().map(|r| RoomId(*r)).collect(),
            ..NewHook::default()
        };
        self.webhooks.create(id, new, 1, &self.outbound).await.unwrap()
    }
    async fn keys(&self, live: &Live) -> Vec<(u64, Seq)> {
        self.webhooks.jobs(live.hook.id, None).await.unwrap().iter().map(|k| (k.room.0, k.seq)).collect()
    }
    async fn letters(&self, live: &Live) -> Vec<Seq> {
        self.webhooks.letters(live.hook.id, None, 100).await.unwrap().iter().map(|d| d.job.seq).collect()
    }
}

fn message(room: u64, seq: Seq) -> Entry {
    let body = Body::Message(Message { text: format!("text {seq}"), ..Message::default() });
    Entry { room: RoomId(room), seq, n: seq, id: MessageId(1_000 + seq), at: 1_000 + seq, by: UserId(7), cid: None, body }
}

#[actix_rt::test]
async fn the_same_entries_make_the_same_jobs() {
    let w = world();
    let live = w.hook(1, &[], &[]).await;
    let entries = [message(9, 1), message(9, 2)];
    for _ in 0..3 {
        w.webhooks.enqueue(RoomId(9), &entries.iter().collect::<Vec<_>>(), 50).await.unwrap();
        // As the sender does, who knows them by heart.
        w.webhooks.waits(&live, 2);
    }
    assert_eq!(w.keys(&live).await, [(9, 1), (9, 2)]);
    let job = w.webhooks.job(live.hook.id, JobKey { room: RoomId(9), seq: 2 }).await.unwrap().unwrap();
    let event: serde_json::Value = serde_json::from_slice(&job.body).unwrap();
    assert_eq!((event["id"].as_str(), event["type"].as_str(), event["room"].as_str()), (Some("1002"), Some("message"), Some("9")));
    assert_eq!(event["entry"]["body"]["message"]["text"], "text 2");
    w.webhooks.done(&live, &job).await.unwrap();
    assert_eq!(w.keys(&live).await, [(9, 1)]);
    // A process that begins again finds the webhook and its job.
    let again = Webhooks::new(w.store.clone(), config::Webhooks::default());
    again.load().await.unwrap();
    assert_eq!(again.all().len(), 1);
    assert_eq!(again.jobs(live.hook.id, None).await.unwrap().len(), 1);
}

#[actix_rt::test]
async fn a_webhook_gets_what_it_wants_and_nothing_else() {
    let w = world();
    let all = w.hook(1, &[], &[]).await;
    let some = w.hook(2, &["edit"], &[9]).await;
    w.webhooks.enqueue(RoomId(9), &[&message(9, 1)], 50).await.unwrap();
    w.webhooks.enqueue(RoomId(8), &[&message(8, 1)], 50).await.unwrap();
    assert_eq!((w.keys(&all).await, w.keys(&some).await.len()), (vec![(8, 1), (9, 1)], 0));
    assert!(!all.hook.wants(event::PRESENCE), "presence is for who asks for it");
    let off = HookChange { active: Some(false), ..HookChange::default() };
    w.webhooks.change(all.hook.id, off, &w.outbound).await.unwrap();
    w.webhooks.enqueue(RoomId(8), &[&message(8, 2)], 50).await.unwrap();
    assert_eq!(w.keys(&all).await.len(), 2);
    let third = w.webhooks.create(3, NewHook { url: "https://bot.example".into(), ..NewHook::default() }, 1, &w.outbound).await;
    assert_eq!(third.err().unwrap().code, Code::Conflict, "hooks_max");
    for (url, events) in [("http://127.0.0.1/", vec![]), ("https://bot.example", vec!["nothing".to_owned()])] {
        let change = HookChange { url: Some(url.into()), events: Some(events), ..HookChange::default() };
        assert_eq!(w.webhooks.change(some.hook.id, change, &w.outbound).await.err().unwrap().code, Code::Invalid);
    }
}

#[actix_rt::test]
async fn what_finds_no_room_goes_to_the_dead_letters_and_the_oldest_of_those_are_dropped_and_counted() {
    let w = world();
    let live = w.hook(1, &[], &[]).await;
    for seq in 1..=10 {
        w.webhooks.enqueue(RoomId(9), &[&message(9, seq)], 50).await.unwrap();
    }
    assert_eq!(w.keys(&live).await.len(), 5, "waiting_max");
    assert!(live.state.failing.lock().is_some());
    assert_eq!(w.letters(&live).await, [8, 9, 10], "dead_max");
    assert_eq!((live.state.dead.load(Ordering::Relaxed), live.state.dropped.load(Ordering::Relaxed)), (3, 2));
}

#[actix_rt::test]
async fn a_dead_letter_is_sent_again_under_the_same_id() {
    let w = world();
    let live = w.hook(1, &[], &[]).await;
    w.webhooks.enqueue(RoomId(9), &[&message(9, 1), &message(9, 2)], 50).await.unwrap();
    let key = JobKey { room: RoomId(9), seq: 1 };
    let job = w.webhooks.job(live.hook.id, key).await.unwrap().unwrap();
    let why = Why { tries: 3, status: Some(500), error: "the receiver answered 500".into() };
    w.webhooks.bury(&live, vec![job.clone()], &why, 60).await.unwrap();
    w.webhooks.waits(&live, 1);
    assert_eq!((w.keys(&live).await, w.letters(&live).await), (vec![(9, 2)], vec![1]));
    assert_eq!(w.webhooks.replay(&live, Some(&[DeadId::from(&job)]), 70).await.unwrap(), 1);
    assert_eq!((w.keys(&live).await, w.letters(&live).await.len()), (vec![(9, 1), (9, 2)], 0));
    let again = w.webhooks.job(live.hook.id, key).await.unwrap().unwrap();
    assert_eq!((again.event(), again.made, &again.body), (job.event(), 70, &job.body));
    assert!(matches!(w.told.lock().last(), Some(Told::Jobs(_, keys)) if *keys == [key]));
    let none = w.webhooks.replay(&live, Some(&[DeadId::from(&job)]), 70).await;
    assert_eq!(none.unwrap_err().code, Code::NotFound);
    assert_eq!(w.webhooks.replay(&live, None, 70).await.unwrap(), 0);
}

#[actix_rt::test]
async fn while_a_secret_is_rotated_two_sign_and_a_removed_webhook_leaves_nothing() {
    let w = world();
    let live = w.hook(1, &[], &[]).await;
    let old = live.hook.secret.clone();
    let rotating = w.webhooks.rotate(live.hook.id).await.unwrap();
    assert_eq!(rotating.hook.secrets().collect::<Vec<_>>(), [rotating.hook.secret.as_str(), old.as_str()]);
    // A second one would drop the only secret that the receiver knows.
    assert_eq!(w.webhooks.rotate(live.hook.id).await.err().unwrap().code, Code::Conflict);
    assert_eq!(w.webhooks.get(live.hook.id).unwrap().hook.secret, rotating.hook.secret);
    let done = w.webhooks.rotated(live.hook.id).await.unwrap();
    assert_eq!(done.hook.secrets().collect::<Vec<_>>(), [rotating.hook.secret.as_str()]);
    w.webhooks.enqueue(RoomId(9), &[&message(9, 1)], 50).await.unwrap();
    w.webhooks.remove(live.hook.id).await.unwrap();
    assert!(w.keys(&live).await.is_empty() && w.webhooks.all().is_empty());
    assert_eq!(w.webhooks.remove(live.hook.id).await.unwrap_err().code, Code::NotFound);
    assert!(w.store.records(Table::Webhook, b"", None, 10).await.unwrap().is_empty());
}

#[actix_rt::test]
async fn an_event_too_long_for_a_record_is_told_without_its_entry_and_holds_up_nothing() {
    let w = world();
    let live = w.hook(1, &[], &[]).await;
    let mut long = message(9, 1);
    long.body = Body::Message(Message { text: "x".repeat(300 * 1024), ..Message::default() });
    w.webhooks.enqueue(RoomId(9), &[&long, &message(9, 2)], 50).await.unwrap();
    assert_eq!(w.keys(&live).await, [(9, 1), (9, 2)]);
    let job = w.webhooks.job(live.hook.id, JobKey { room: RoomId(9), seq: 1 }).await.unwrap().unwrap();
    let event: serde_json::Value = serde_json::from_slice(&job.body).unwrap();
    let expected = serde_json::json!({ "id": "1001", "type": "message", "at": 1_001, "room": "9", "seq": 1, "reduced": true });
    assert_eq!(event, expected);
    // The longest that is told whole can die, too.
    let mut longest = message(9, 3);
    let spare = event::BYTES_MAX - event::job(&longest, 50).body.len();
    longest.body = Body::Message(Message { text: format!("text 3{}", "x".repeat(spare)), ..Message::default() });
    let job = event::job(&longest, 50);
    assert_eq!(job.body.len(), event::BYTES_MAX);
    let why = Why { tries: 1, status: None, error: "because ".repeat(5_000) };
    w.webhooks.bury(&live, vec![job], &why, 60).await.unwrap();
    assert_eq!(w.letters(&live).await, [3]);
}

#[actix_rt::test]
async fn many_long_events_are_written_in_parts_that_the_store_takes() {
    let w = world_of(config::Webhooks::default());
    let live = w.hook(1, &[], &[]).await;
    let body = Body::Message(Message { text: "x".repeat(200 * 1024), ..Message::default() });
    let entries: Vec<Entry> = (1..=400).map(|seq| Entry { body: body.clone(), ..message(9, seq) }).collect();
    w.webhooks.enqueue(RoomId(9), &entries.iter().collect::<Vec<_>>(), 50).await.unwrap();
    assert_eq!(live.state.waiting.load(Ordering::Relaxed), 400);
}

#[actix_rt::test]
async fn after_a_restore_another_entry_under_the_same_seq_is_another_event() {
    let before = message(9, 1);
    let after = Entry { id: MessageId(5_555), ..message(9, 1) };
    assert_ne!(event::job(&before, 50).event(), event::job(&after, 50).event());
}

#[actix_rt::test]
async fn dead_letters_that_come_again_are_counted_once_and_push_no_other_out() {
    let w = world();
    let live = w.hook(1, &[], &[]).await;
    let entries: Vec<Entry> = (1..=8).map(|seq| message(9, seq)).collect();
    for _ in 0..3 {
        w.webhooks.enqueue(RoomId(9), &entries.iter().collect::<Vec<_>>(), 50).await.unwrap();
        w.webhooks.waits(&live, 5);
    }
    assert_eq!((w.keys(&live).await.len(), w.letters(&live).await), (5, vec![6, 7, 8]));
    assert_eq!((live.state.dead.load(Ordering::Relaxed), live.state.dropped.load(Ordering::Relaxed)), (3, 0));
}

#[actix_rt::test]
async fn a_replay_of_all_takes_what_there_is_room_for_and_says_how_much() {
    let w = world();
    let live = w.hook(1, &[], &[]).await;
    let why = Why { tries: 0, status: None, error: "down".into() };
    let jobs = (1..=3).map(|seq| event::job(&message(9, seq), 50)).collect();
    w.webhooks.bury(&live, jobs, &why, 60).await.unwrap();
    w.webhooks.waits(&live, 3);
    assert_eq!(w.webhooks.replay(&live, None, 70).await.unwrap(), 2);
    assert_eq!((w.keys(&live).await, w.letters(&live).await), (vec![(9, 1), (9, 2)], vec![3]));
    assert_eq!(w.webhooks.replay(&live, None, 70).await.unwrap_err().code, Code::Busy, "not even one");
}

#[actix_rt::test]
async fn who_writes_for_a_webhook_that_was_taken_away_meanwhile_leaves_nothing() {
    let w = world();
    let live = w.hook(1, &[], &[]).await;
    w.webhooks.remove(live.hook.id).await.unwrap();
    // By what they saw before.
    let jobs: Vec<Job> = (1..=8).map(|seq| event::job(&message(9, seq), 50)).collect();
    w.webhooks.add(&live, jobs, 50).await.unwrap();
    assert!(w.keys(&live).await.is_empty() && w.letters(&live).await.is_empty());
    assert_eq!(live.state.waiting.load(Ordering::Relaxed), 0);
}

#[actix_rt::test]
async fn a_lower_limit_hides_no_webhook() {
    let w = world();
    w.hook(1, &[], &[]).await;
    w.hook(2, &[], &[]).await;
    let lower = Webhooks::new(w.store.clone(), config::Webhooks { hooks_max: 1, ..Default::default() });
    lower.load().await.unwrap();
    assert_eq!(lower.all().len(), 2);
}
