//! Nodes over an in-memory net: requests, fan-out, owners that change or die, presence, what is lost and what moves.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::actors::hub::{HubMsg, Parting};
use crate::protocol::entry::Caller;
use crate::protocol::ops::{Request, Send};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use world::{World, until};

mod world;

const ANN: UserId = UserId(7);
const BEN: UserId = UserId(8);

#[actix::test]
async fn a_request_reaches_the_rooms_owner_on_another_node_and_its_entry_a_session_on_a_third() {
    let world = World::of(3).await;
    let (room, mut ben) = world.room_heard(2, 3).await;
    for n in 0..20 {
        let answer = world.node(1).say(ANN, room, &format!("hello {n}")).await;
        assert_eq!(answer.seq, Some(n + 2), "answered by the owner with the entry's seq");
        assert_eq!(ben.text().await, format!("hello {n}"));
    }
    assert!(world.node(2).context.claims.owned(world.node(2).context.router.shard(room)).is_some());
    assert_eq!(world.node(1).context.claims.owned_shards() + world.node(3).context.claims.owned_shards(), 0, "nobody else took it");
}

#[actix::test]
async fn a_resend_over_another_node_gets_the_first_answer() {
    let world = World::of(3).await;
    let room = world.room_at(3);
    world.node(1).create(room, &[ANN, BEN]).await;
    let request = Request::Send(Send::text(room, 0, "once"));
    let first = world.node(1).once(ANN, request.clone()).await.unwrap();
    assert_eq!(world.node(2).once(ANN, request.clone()).await.unwrap(), first);
    assert_eq!(world.node(3).once(ANN, request).await.unwrap(), first);
}

#[actix::test]
async fn a_lost_answer_is_a_retriable_error_within_seconds_and_the_same_request_settles_it() {
    let world = World::of(2).await;
    let room = world.room_at(2);
    world.node(1).create(room, &[ANN, BEN]).await;
    let request = Request::Send(Send::text(room, 0, "once"));
    world.net.lose(|_, _, envelope| matches!(envelope, Envelope::Answer { .. }));
    let began = Instant::now();
    let error = world.node(1).once(ANN, request.clone()).await.unwrap_err();
    assert_eq!(error.code, Code::Unavailable);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    world.net.lose(|_, _, _| false);
    assert_eq!(world.node(1).once(ANN, request).await.unwrap().seq, Some(2), "it was stored the first time");
}

#[actix::test]
async fn entries_that_the_bus_loses_are_backfilled() {
    let world = World::of(3).await;
    let (room, mut ben) = world.room_heard(2, 3).await;
    let mut n = 0;
    world.net.lose(move |_, _, envelope| {
        n += u32::from(matches!(envelope, Envelope::Entries { .. }));
        matches!(envelope, Envelope::Entries { .. }) && n % 3 != 0
    });
    for n in 0..30 {
        world.node(1).say(ANN, room, &n.to_string()).await;
    }
    for n in 0..30 {
        assert_eq!(ben.text().await, n.to_string());
    }
}

#[actix::test]
async fn an_entry_that_was_lost_silently_in_a_quiet_room_is_noticed_within_seconds() {
    let world = World::of(2).await;
    let (room, mut ben) = world.room_heard(2, 1).await;
    world.net.silently(true);
    world.net.lose(|_, _, envelope| matches!(envelope, Envelope::Entries { .. } | Envelope::Head { .. }));
    world.node(2).say(ANN, room, "can you hear me").await;
    let began = Instant::now();
    assert_eq!(ben.text().await, "can you hear me");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[actix::test]
async fn a_room_whose_owner_changes_loses_nothing_and_is_followed_at_the_new_one() {
    let world = World::of(3).await;
    let (room, mut ben) = world.room_heard(2, 3).await;
    for n in 0..60 {
        if n == 20 {
            world.weigh(2, 0);
        }
        if n == 40 {
            world.weigh(2, 100);
        }
        world.node(1).say(ANN, room, &n.to_string()).await;
    }
    for n in 0..60 {
        assert_eq!(ben.text().await, n.to_string());
    }
    // It is taken when it is asked for; until then nobody needs it.
    let back = async || {
        world.node(1).say(ANN, room, "and on").await;
        world.node(2).context.claims.owned_shards() > 0
    };
    until("the shard is back", back).await;
}

#[actix::test]
async fn the_death_of_a_rooms_owner_loses_nothing_that_was_acknowledged() {
    let world = World::of(3).await;
    let (room, mut ben) = world.room_heard(2, 3).await;
    for n in 0..40 {
        if n == 20 {
            // What it sent last has not arrived.
            world.net.cut(NodeId(2), NodeId(3), true);
        }
        if n == 23 {
            world.kill(2);
        }
        world.node(1).say(ANN, room, &n.to_string()).await;
    }
    for n in 0..40 {
        assert_eq!(ben.text().await, n.to_string());
    }
}

#[actix::test]
async fn who_dies_with_entries_that_nobody_was_told_of_is_found_out_by_the_new_owner() {
    let world = World::of(3).await;
    let (room, mut ben) = world.room_heard(2, 3).await;
    world.node(1).say(ANN, room, "heard").await;
    assert_eq!(ben.text().await, "heard");
    world.net.cut(NodeId(2), NodeId(3), true);
    world.node(1).say(ANN, room, "unheard").await;
    world.kill(2);
    // Nobody asks anything of the room any more.
    assert_eq!(ben.text().await, "unheard");
}

/// What it acknowledged last is known by no row and no marker: its shard was lost to another, and went on to a third.
#[actix::test]
async fn what_an_owner_wrote_last_before_it_stepped_down_is_shown_though_nobody_asks() {
    let world = World::of(3).await;
    let (room, mut ben) = world.room_heard(2, 3).await;
    world.node(1).say(ANN, room, "heard").await;
    assert_eq!(ben.text().await, "heard");
    world.net.lose(|from, _, envelope| from == NodeId(2) && matches!(envelope, Envelope::Entries { .. } | Envelope::Head { .. }));
    world.node(1).say(ANN, room, "unheard").await;
    let (claims, shard) = (&world.node(2).context.claims, world.node(2).context.router.shard(room));
    claims.saw(shard, claims.owned(shard).unwrap() + 1);
    world.weigh(2, 0);
    assert_eq!(ben.text().await, "unheard");
}

#[actix::test]
async fn a_room_that_lost_its_shard_for_a_moment_takes_it_again_though_nobody_writes() {
    let world = World::of(2).await;
    let room = world.room_at(2);
    world.node(1).create(room, &[ANN, BEN]).await;
    let (claims, shard) = (&world.node(2).context.claims, world.node(2).context.router.shard(room));
    let mut epoch = claims.owned(shard).unwrap();
    for _ in 0..2 {
        claims.saw(shard, epoch + 1);
        assert_eq!(claims.owned(shard), None);
        until("it is taken again", async || claims.owned(shard).is_some()).await;
        assert!(claims.owned(shard).unwrap() > epoch);
        epoch = claims.owned(shard).unwrap();
    }
}

/// P4: what it could read when it failed to take the shard says nothing of what the owner has acknowledged since.
#[actix::test]
async fn who_could_not_take_a_shard_says_no_head_that_its_owner_has_gone_beyond() {
    let world = World::of(3).await;
    let room = world.room_at(2);
    world.node(1).create(room, &[ANN, BEN]).await;
    let mut acked = world.node(1).say(ANN, room, "one").await.seq.unwrap();
    world.node(3).believe(room);
    world.faults.lost_raises.store(u32::MAX, Relaxed);
    for n in 0..10 {
        match world.node(3).head(ANN, room).await {
            Ok(head) => assert!(head >= acked, "{head} after {acked} was acknowledged"),
            Err(error) => assert_ne!(error.retry, crate::error::Retry::Never, "{error}"),
        }
        acked = world.node(1).say(ANN, room, &n.to_string()).await.seq.unwrap();
    }
    world.faults.lost_raises.store(0, Relaxed);
    until("it can tell again", async || matches!(world.node(3).head(ANN, room).await, Ok(head) if head >= acked)).await;
}

/// Two nodes that both believe in their right would take it from each other for as long as Redis says nothing to one of them.
#[actix::test]
async fn a_node_that_hears_nothing_of_the_others_takes_nothing_back_that_another_took() {
    let world = World::of(2).await;
    let room = world.room_at(2);
    world.node(1).create(room, &[ANN, BEN]).await;
    let node = world.node(2);
    world.net.cut(NodeId(1), NodeId(2), true);
    until("Redis is silent", async || {
        node.shared.tick();
        node.shared.look(|view| view.membership().is_silent())
    })
    .await;
    world.node(1).believe(room);
    let acked = world.node(1).say(ANN, room, "taken").await.seq.unwrap();
    for n in 0..4 {
        let error = node.once(ANN, Request::Send(Send::text(room, acked, n.to_string()))).await.unwrap_err();
        assert_eq!(error.code, Code::Unavailable, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (shard, nodes) = (node.context.router.shard(room), [&node.context.claims, &world.node(1).context.claims]);
    assert_eq!(nodes.map(|claims| claims.owned(shard).is_some()), [false, true]);
    world.net.cut(NodeId(1), NodeId(2), false);
    until("it goes on", async || {
        world.list();
        node.once(ANN, Request::Send(Send::text(room, acked, "and on"))).await.is_ok()
    })
    .await;
}

/// P4: the shard goes to and fro between two nodes that both believe in their right, and whoever is asked knows what was acknowledged.
#[actix::test]
async fn whoever_is_asked_after_an_acknowledgement_knows_of_it_though_nodes_take_the_shard_from_each_other() {
    let world = World::of(3).await;
    let room = world.room_at(2);
    world.node(1).create(room, &[ANN, BEN]).await;
    let acked = AtomicU64::new(0);
    let mut told = 0;
    let say = async {
        for n in 0..36u32 {
            world.node(2 + n / 3 % 2).believe(room);
            let answer = world.node(2 + n % 2).say(ANN, room, &n.to_string()).await;
            acked.fetch_max(answer.seq.unwrap(), Relaxed);
        }
        acked.store(u64::MAX, Relaxed);
    };
    let ask = async {
        for n in 0.. {
            let before = acked.load(Relaxed);
            if before == u64::MAX {
                return;
            }
            match world.node(2 + n % 2).head(ANN, room).await {
                Ok(head) => {
                    assert!(head >= before, "node {} says {head} after {before} was acknowledged", 2 + n % 2);
                    told += 1;
                }
                Err(error) => assert_ne!(error.retry, crate::error::Retry::Never, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    futures_util::join!(say, ask);
    assert!(told > 5, "{told}");
}

#[actix::test]
async fn a_node_that_is_asked_about_a_shard_of_another_says_whose_it_is() {
    let world = World::of(3).await;
    let room = world.room_at(2);
    world.node(1).create(room, &[ANN, BEN]).await;
    let (asker, shard) = (world.node(1), world.node(1).context.router.shard(room));
    assert!(asker.shared.announced(shard, NodeId(3), 1_000), "a wrong word with a high epoch");
    let before = Instant::now();
    assert_eq!(asker.once(ANN, Request::Send(Send::text(room, 0, "where are you"))).await.unwrap().seq, Some(2));
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
    assert_eq!(asker.shared.owner(shard), NodeId(2));
}

/// Asks without waiting; what was answered comes in the order of the asking.
fn pipeline(
    node: &world::TestNode,
    user: UserId,
    room: RoomId,
    texts: &[String],
) -> Vec<oneshot::Receiver<Result<asks::Answer, ApiError>>> {
    let ask = |text: &String| {
        let (reply, answer) = super::super::router::Reply::task();
        node.context.router.ask(Caller { user, device: DeviceId(1) }, room, Request::Send(Send::text(room, 0, text)), reply);
        answer
    };
    texts.iter().map(ask).collect()
}

#[actix::test]
async fn requests_that_a_node_makes_one_after_the_other_are_not_reordered_when_the_room_moves() {
    let world = World::of(3).await;
    world.net.delay(Duration::from_millis(3));
    let room = world.room_at(2);
    world.node(1).create(room, &[ANN, BEN]).await;
    let mut answers: HashMap<u32, Vec<_>> = HashMap::new();
    for round in 0..120u32 {
        // Now at one, now at another of the two.
        match round % 24 {
            6 => world.weigh(2, 0),
            18 => world.weigh(2, 100),
            _ => {}
        }
        for (node, user) in [(1, ANN), (2, BEN), (3, ANN)] {
            let texts = [0, 1, 2].map(|n| format!("{node}: {round} {n}"));
            answers.entry(node).or_default().extend(pipeline(world.node(node), user, room, &texts));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut failed = 0;
    for (node, answers) in answers {
        let mut last = 0;
        for answer in answers {
            match answer.await.unwrap() {
                Ok(answer) => {
                    let seq = answer.seq.unwrap();
                    assert!(seq > last, "node {node}: what was asked later was stored as {last}, this as {seq}");
                    last = seq;
                }
                Err(error) => {
                    assert!(error.retry != crate::error::Retry::Never, "{error}");
                    failed += 1;
                }
            }
        }
    }
    eprintln!("{failed} of 1080 were refused");
    let peers: Vec<_> = [1, 2, 3].map(|n| world.node(n).context.router.peers().unwrap().clone()).into();
    until("no line is left", async || peers.iter().all(|peers| !peers.has_line(room))).await;
}

#[actix::test]
async fn a_request_that_is_asked_again_elsewhere_is_not_overtaken_by_the_one_behind_it() {
    let world = World::of(3).await;
    let room = world.room_at(2);
    world.node(1).create(room, &[ANN, BEN]).await;
    let (asker, shard) = (world.node(1), world.node(1).context.router.shard(room));
    world.net.delay(Duration::from_millis(30));
    assert!(asker.shared.announced(shard, NodeId(3), 1_000), "a wrong word with a high epoch");
    let first = pipeline(asker, ANN, room, &["one".into()]).remove(0);
    tokio::time::sleep(Duration::from_millis(15)).await;
    // Somebody says whose it is before the answer comes that says so too.
    asker.shared.refused(shard, NodeId(3));
    let second = pipeline(asker, ANN, room, &["two".into()]).remove(0);
    let (first, second) = (first.await.unwrap().unwrap(), second.await.unwrap().unwrap());
    assert_eq!((first.seq, second.seq), (Some(2), Some(3)));
}

#[actix::test]
async fn who_waits_behind_a_request_that_nobody_answers_waits_no_longer_than_that() {
    let world = World::of(3).await;
    let room = world.room_at(2);
    world.node(1).create(room, &[ANN, BEN]).await;
    let asker = world.node(1);
    world.net.lose(|from, _, envelope| from == NodeId(2) && matches!(envelope, Envelope::Answer { .. }));
    world.net.silently(true);
    let began = Instant::now();
    let first = pipeline(asker, ANN, room, &["one".into()]).remove(0);
    world.weigh(2, 0);
    until("the room has moved", async || asker.shared.owner(asker.context.router.shard(room)) != NodeId(2)).await;
    let second = pipeline(asker, ANN, room, &["two".into()]).remove(0);
    assert_eq!(first.await.unwrap().unwrap_err().code, Code::Unavailable);
    // It waited as long as it may, or went when the first was given up.
    if let Err(error) = second.await.unwrap() {
        assert_eq!(error.code, Code::Unavailable);
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[actix::test]
async fn a_session_learns_of_a_room_that_its_user_is_brought_into_over_three_nodes() {
    let world = World::of(3).await;
    // The room at one node, the user's presence at a second, the session at a third.
    let (room, cid) = (world.room_at(1), world.users_at(2).next().unwrap());
    let mut cid = (cid, world.node(3).session(cid).await);
    world.node(3).create(room, &[ANN, cid.0]).await;
    cid.1.joined(room).await;
    world.node(2).say(ANN, room, "welcome").await;
    assert_eq!(cid.1.text().await, "welcome");
}

#[actix::test]
async fn a_user_with_devices_at_three_nodes_goes_offline_once_when_the_last_is_gone() {
    let world = World::of(3).await;
    let (user, watcher) = (world.users_at(1).next().unwrap(), world.users_at(1).nth(1).unwrap());
    world.befriend(user, watcher).await;
    let mut watching = world.node(2).session(watcher).await;
    let first = world.node(1).session(user).await;
    assert_eq!(watching.presence(user).await, "online");
    let (second, third) = (world.node(2).session(user).await, world.node(3).session(user).await);
    drop(first);
    drop(second);
    watching.quiet(1_500, |push| push["op"] == "presence").await;
    world.kill(3);
    assert_eq!(watching.presence(user).await, "offline");
    watching.quiet(1_500, |push| push["op"] == "presence").await;
    drop(third);
}

#[actix::test]
async fn the_death_of_who_keeps_a_presence_is_noticed_by_nobody_who_is_connected_elsewhere() {
    let world = World::of(3).await;
    let (user, watcher) = (world.users_at(2).next().unwrap(), world.users_at(2).nth(1).unwrap());
    world.befriend(user, watcher).await;
    let mut watching = world.node(1).session(watcher).await;
    let session = world.node(3).session(user).await;
    assert_eq!(watching.presence(user).await, "online");
    world.kill(2);
    watching.quiet(2_500, |push| push["op"] == "presence" && push["state"] == "offline").await;
    for user in [user, watcher] {
        let shard = world.node(1).context.router.shard_of_user(user);
        let owners: Vec<NodeId> = [1, 3].map(|n| world.node(n).shared.owner(shard)).to_vec();
        assert_eq!(world.node(1).context.router.online(&[user]).await, [user], "{shard:?} {owners:?}");
    }
    assert_eq!(world.node(3).context.router.presences(&[user]).await[0].state, crate::protocol::ops::PresenceState::Online);
    drop(session);
    assert_eq!(watching.presence(user).await, "offline");
}

#[actix::test]
async fn who_dies_with_the_node_that_kept_its_presence_goes_offline() {
    let world = World::of(3).await;
    let (user, watcher) = (world.users_at(2).next().unwrap(), world.users_at(1).next().unwrap());
    world.befriend(user, watcher).await;
    let mut watching = world.node(1).session(watcher).await;
    let _session = world.node(2).session(user).await;
    assert_eq!(watching.presence(user).await, "online");
    world.kill(2);
    assert_eq!(watching.presence(user).await, "offline");
    watching.quiet(1_500, |push| push["op"] == "presence").await;
}

#[actix::test]
async fn when_somebody_was_seen_last_is_known_though_its_node_died_and_kept_its_presence() {
    let world = World::of(2).await;
    let user = world.users_at(2).next().unwrap();
    world.account(user).await;
    let session = world.node(2).session(user).await;
    let connected = crate::actors::node::now_ms();
    until("it is noted while it is connected", async || world.last_seen(user).await >= connected).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let died = crate::actors::node::now_ms();
    world.kill(2);
    drop(session);
    assert!(world.last_seen(user).await + 450 > died);
}

#[actix::test]
async fn a_session_whose_end_was_lost_on_the_way_does_not_stay_online() {
    let world = World::of(2).await;
    let (user, watcher) = (world.users_at(2).next().unwrap(), world.users_at(2).nth(1).unwrap());
    world.befriend(user, watcher).await;
    let mut watching = world.node(2).session(watcher).await;
    let session = world.node(1).session(user).await;
    assert_eq!(watching.presence(user).await, "online");
    world.net.cut(NodeId(1), NodeId(2), true);
    drop(session);
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.net.cut(NodeId(1), NodeId(2), false);
    assert_eq!(watching.presence(user).await, "offline");
}

#[actix::test]
async fn a_node_that_drains_hands_over_everything_and_its_sessions_go_on() {
    let world = World::of(3).await;
    let rooms: Vec<RoomId> = world.rooms_at(2).take(12).collect();
    for room in &rooms {
        world.node(1).create(*room, &[ANN, BEN]).await;
    }
    let drained = &world.node(2).context;
    assert!(drained.claims.owned_shards() > 0);
    let mut ben = world.node(2).session(BEN).await;
    let peers = drained.router.peers().unwrap().clone();
    let unclaimed: UserId = world.users_at(2).find(|user| drained.claims.owned(drained.router.shard_of_user(*user)).is_none()).unwrap();
    let handed = async { peers.hand_over(drained, Duration::from_secs(5)).await };
    let said = async {
        for room in &rooms {
            world.node(3).say(ANN, *room, "still there").await;
        }
    };
    let (handed, ()) = futures_util::join!(handed, said);
    assert!(handed);
    // The others have not heard of the weight yet, only from the node itself.
    let heir = drained.placement.owner(drained.router.shard_of_user(unclaimed));
    assert!(heir != NodeId(2));
    for n in [1, 3] {
        let node = world.node(n);
        let shard = node.context.router.shard_of_user(unclaimed);
        until("the heir is known", async || node.context.placement.owner(shard) == heir).await;
    }
    world.list();
    for _ in &rooms {
        assert_eq!(ben.text().await, "still there");
    }
    world.node(2).say(BEN, rooms[0], "yes").await;
    assert_eq!(ben.text().await, "yes");
    assert_eq!(drained.claims.owned_shards(), 0);
}

#[actix::test]
async fn each_session_of_a_node_that_drains_is_served_until_its_own_time() {
    let world = World::of(2).await;
    let room = world.room_at(1);
    world.node(1).create(room, &[ANN, BEN]).await;
    let mut bens = Vec::new();
    for _ in 0..8 {
        bens.push(world.node(2).session(BEN).await);
    }
    let began = Instant::now();
    let parting = Parting { until: began + Duration::from_secs(3), served: true };
    world.node(2).context.hubs.each(|| HubMsg::Drain(parting));
    world.node(1).say(ANN, room, "the last word").await;
    let mut waits = Vec::new();
    for ben in &mut bens {
        waits.push(Duration::from_millis(ben.push("drain").await["after_ms"].as_u64().unwrap()));
    }
    let longest = (0..bens.len()).max_by_key(|n| waits[*n]).unwrap();
    assert_eq!(bens[longest].text().await, "the last word", "told after {:?}", waits[longest]);
    let partings = bens.iter_mut().zip(&waits).map(async |(ben, wait)| {
        ben.ended().await;
        assert!(began.elapsed() >= *wait, "closed after {:?}, told to stay for {wait:?}", began.elapsed());
    });
    futures_util::future::join_all(partings).await;
}

#[actix::test]
async fn a_revocation_closes_sockets_everywhere_though_its_envelopes_are_lost_at_first() {
    let world = World::of(3).await;
    let mut sessions = vec![world.node(2).session(BEN).await, world.node(3).session(BEN).await];
    let mut left = 2;
    world.net.silently(true);
    world.net.lose(move |from, _, envelope| {
        let lost = from == NodeId(1) && left > 0 && matches!(envelope, Envelope::Ask { .. });
        left -= i32::from(lost);
        lost
    });
    let node = &world.node(1).context;
    node.router.revoked(node, BEN, None);
    for session in &mut sessions {
        session.ended().await;
    }
}

#[actix::test]
async fn a_word_of_a_room_that_was_lost_is_made_up_for() {
    let world = World::of(3).await;
    let (room, cid) = (world.room_at(1), world.users_at(2).next().unwrap());
    let mut session = world.node(3).session(cid).await;
    world.net.lose(|_, _, envelope| matches!(envelope, Envelope::User { .. }));
    world.node(1).create(room, &[ANN, cid]).await;
    session.joined(room).await;
    world.node(2).say(ANN, room, "welcome").await;
    assert_eq!(session.text().await, "welcome");
}

#[actix::test]
async fn pushes_of_a_dead_nodes_shards_are_looked_for_by_who_gets_them_and_hints_go_to_the_owner() {
    let world = World::of(2).await;
    let (asker, owner) = (&world.node(1).context, &world.node(2).context);
    let shard = owner.router.shard_of_user(world.users_at(2).next().unwrap());
    owner.pushes.take_hints(owner.pushes.worker(shard));
    asker.router.pushes_due(&asker.pushes, shard, 5);
    until("the owner is told", async || owner.pushes.take_hints(owner.pushes.worker(shard)).contains_key(&shard)).await;
    asker.pushes.take_hints(asker.pushes.worker(shard));
    assert!(!asker.router.owns(shard));
    world.kill(2);
    until("the heir looks", async || asker.pushes.take_hints(asker.pushes.worker(shard)).contains_key(&shard)).await;
    assert!(asker.router.owns(shard));
}

#[actix::test]
async fn a_push_subscription_that_another_node_makes_or_ends_counts_at_once() {
    let world = World::of(2).await;
    let (here, there) = (&world.node(1).context.pushes.subscriptions, &world.node(2).context.pushes.subscriptions);
    let known = async |n: usize| there.of(&[ANN]).await.unwrap().len() == n;
    assert!(known(0).await, "and remembered");
    let target = crate::push::subscriptions::Target::Gateway { token: "phone".into() };
    here.put(ANN, &crate::push::subscriptions::Subscription { device: DeviceId(1), target, created: 1 }).await.unwrap();
    until("it is known there", async || known(1).await).await;
    here.remove(ANN, DeviceId(1)).await.unwrap();
    until("its end is known there", async || known(0).await).await;
}

#[actix::test]
async fn what_a_node_remembers_is_forgotten_when_a_word_that_it_changed_was_lost() {
    let world = World::of(2).await;
    let (here, there) = (&world.node(1).context.pushes.levels, &world.node(2).context.pushes.levels);
    let channel = world.room_at(1);
    let eager = async |n: usize| there.eager(channel).await.unwrap().len() == n;
    let all = crate::push::levels::Notify { level: crate::push::levels::Level::All, muted_until: None };
    assert!(eager(0).await, "and remembered");
    here.set(ANN, channel, crate::protocol::entry::RoomKind::Channel, all).await.unwrap();
    until("it is known there", async || eager(1).await).await;
    world.net.lose(|_, _, envelope| matches!(envelope, Envelope::Tell { body } if asks::decode::<Word>(body).is_ok_and(|word| matches!(word, Word::Changed(_)))));
    here.set(BEN, channel, crate::protocol::entry::RoomKind::Channel, all).await.unwrap();
    until("the hole is noticed", async || eager(2).await).await;
}

#[actix::test]
async fn more_questions_than_may_be_open_are_refused_and_the_death_of_who_was_asked_ends_them() {
    let world = World::of(2).await;
    let peers = world.node(1).context.router.peers().unwrap();
    world.net.cut(NodeId(1), NodeId(2), true);
    let (tx, rx) = std::sync::mpsc::channel();
    for _ in 0..=OPEN_MAX {
        let tx = tx.clone();
        let then: Then = Box::new(move |said| tx.send(said.unwrap_err().code).unwrap());
        peers.ask(&world.node(1).context, NodeId(2), Bytes::new(), then);
    }
    assert_eq!(rx.try_recv(), Ok(Code::Busy));
    assert!(rx.try_recv().is_err());
    world.kill(2);
    let codes: Vec<Code> = rx.iter().take(OPEN_MAX).collect();
    assert!(codes.iter().all(|code| *code == Code::Unavailable));
    assert!(peers.table.lock().open.is_empty());
}

/// Whatever is lost, delayed and moved: what was acknowledged is in the log once, and every session gets the whole log in order.
#[actix::test]
async fn whatever_the_bus_does_every_session_gets_every_log_in_order() {
    use rand::{Rng, SeedableRng};
    let seed: u64 = std::env::var("HUBBUB_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    eprintln!("HUBBUB_SEED={seed}");
    let mut chance = rand::rngs::StdRng::seed_from_u64(seed);
    let world = World::of(3).await;
    let rooms: Vec<RoomId> = (1..=3).map(|n| world.room_at(n)).collect();
    for room in &rooms {
        world.node(1).create(*room, &[ANN, BEN]).await;
    }
    let mut sessions = vec![world.node(1).session(BEN).await, world.node(2).session(BEN).await, world.node(3).session(BEN).await];
    let mut loss = rand::rngs::StdRng::seed_from_u64(seed + 1);
    world.net.lose(move |_, _, _| loss.random_bool(0.05));
    world.net.delay(Duration::from_millis(2));
    for n in 0..60 {
        match chance.random_range(0..12) {
            0 => world.weigh(chance.random_range(1..=3), 0),
            1 | 2 => (1..=3).for_each(|node| world.weigh(node, 100)),
            _ => {}
        }
        let said = rooms.iter().map(|room| {
            let node = world.node(chance.random_range(1..=3));
            async move { node.say(ANN, *room, &format!("{room} {n}")).await }
        });
        futures_util::future::join_all(said).await;
    }
    world.net.lose(|_, _, _| false);
    for session in &mut sessions {
        let mut texts = Vec::new();
        while texts.len() < 180 {
            texts.push(session.text().await);
        }
        for room in &rooms {
            let of_room: Vec<&String> = texts.iter().filter(|text| text.starts_with(&format!("{room} "))).collect();
            let expected: Vec<String> = (0..60).map(|n| format!("{room} {n}")).collect();
            assert!(of_room.iter().copied().eq(&expected), "seed {seed}: {of_room:?}");
        }
    }
}
