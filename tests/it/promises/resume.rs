//! P4: a resume gives everything that was missed, of every kind, in order, and then goes on live without a seam.

use super::{Stage, all_is_well, answered, connected, groups, ids, people, pick};
use crate::support::{SOON, TestClient, TestNode, TestUser};
use futures_util::future::join_all;
use hubbub::client::{Connection, Options};
use hubbub::protocol::codec::Format;
use hubbub::protocol::entry::RoomKind;
use hubbub::protocol::ids::{ClientId, RoomId, Seq, UserId};
use hubbub::protocol::ops::{
    CursorShown, EditMessage, Have, InRoom, MoveCursor, OnMember, OnMessage, PinMessage, PresenceState, Push, ReactTo, Request, Resume,
    RoomStanding, Standing, UpdateRoom,
};
use std::collections::{BTreeMap, HashMap};
use tokio::sync::mpsc;

/// All must be answered.
async fn all(client: &TestClient, requests: &[Request]) -> Vec<Seq> {
    let answers = join_all(requests.iter().map(|request| answered(client, request))).await;
    answers.into_iter().map(|a| a.expect("the connection lives").seq.expect("an entry")).collect()
}

/// Fills a room with entries of every kind until it has so many.
async fn all_kinds(owner: &TestClient, writers: &[TestClient], guest: UserId, room: RoomId, entries: Seq) {
    let mut last = 0;
    while last < entries {
        let bursts = writers.iter().map(async |writer| {
            let burst: Vec<Request> = (0..32).map(|i| writer.message(room, &format!("{} {last}.{i}", writer.user.name))).collect();
            all(writer, &burst).await
        });
        let seqs = join_all(bursts).await;
        let (cid, since) = (ClientId::fresh, owner.have(room));
        let edit = EditMessage { room, seq: seqs[0][0], text: format!("edited at {last}"), mentions: Vec::new(), cid: cid(), since };
        all(&writers[0], &[Request::Edit(edit)]).await;
        let seq = seqs[0][1];
        let member = || OnMember { room, user: guest, cid: cid(), since };
        all(
            owner,
            &[
                Request::React(ReactTo { room, seq, emoji: "👍".into(), on: true, cid: cid(), since }),
                Request::Pin(PinMessage { room, seq: seqs[0][2], on: true, cid: cid(), since }),
                Request::Delete(OnMessage { room, seq: seqs[1][0], cid: cid(), since }),
                Request::Update(UpdateRoom { topic: Some(format!("topic {last}")), cid: cid(), since, ..UpdateRoom::of(room) }),
            ],
        )
        .await;
        all(owner, &[Request::Invite(member().into())]).await;
        last = all(owner, &[Request::Kick(member())]).await[0];
    }
}

/// How the rooms of the resume stood, and its end, out of the pushes of a client.
fn told(pushes: &[Push]) -> (HashMap<RoomId, RoomStanding>, hubbub::protocol::ops::Resumed) {
    let mut rooms = HashMap::new();
    for push in pushes {
        match push {
            Push::Room(standing) => assert!(rooms.insert(standing.room, standing.clone()).is_none(), "told twice of one room"),
            Push::Resumed(resumed) => return (rooms, resumed.clone()),
            _ => {}
        }
    }
    panic!("the resume did not end");
}

async fn befriend(node: &TestNode, a: &TestUser, b: &TestUser) {
    node.rest().add_contact(&a.token, b.id).await.unwrap();
    node.rest().add_contact(&b.token, a.id).await.unwrap();
}

#[tokio::test]
async fn a_resume_gives_every_missed_entry_in_order() {
    let node = TestNode::start().await;
    let users = people(&node, 7).await;
    let (guest, bob_user) = (users[6].id, users[5].clone());
    befriend(&node, &users[0], &bob_user).await;
    let mut clients = connected(&node, &users[..6]).await;
    let main = groups(&clients, 1).await[0];
    let mut bob = clients.pop().unwrap();
    let ann = &clients[0];
    let both = [bob_user.id];
    let (quiet, lost, renamed) =
        (ann.create(RoomKind::Group, &both).await, ann.create(RoomKind::Group, &both).await, ann.create(RoomKind::Group, &both).await);
    let (channel, invited) = (ann.create(RoomKind::Channel, &[]).await, ann.create(RoomKind::Group, &[]).await);
    for room in [quiet, lost, renamed] {
        bob.reaches(room, 1).await;
    }
    bob.request(Request::Join(InRoom { room: channel, cid: ClientId::fresh(), since: 0 })).await.unwrap();
    bob.reaches(channel, 1).await;
    bob.request(Request::Cursor(MoveCursor { room: main, read: Some(1), delivered: Some(1) })).await.unwrap();
    bob.disconnect().await;
    drop(bob.take_pushes());

    // While bob is away.
    all_kinds(ann, &clients[1..], guest, main, pick(4_000, 10_000)).await;
    let (cid, since) = (ClientId::fresh, 1);
    all(ann, &[Request::Update(UpdateRoom { name: Some("other".into()), cid: cid(), since, ..UpdateRoom::of(renamed) })]).await;
    ann.send(lost, "the last one that bob may see is not this").await;
    all(ann, &[Request::Kick(OnMember { room: lost, user: bob_user.id, cid: cid(), since })]).await;
    ann.send(invited, "before bob").await;
    all(ann, &[Request::Invite(OnMember { room: invited, user: bob_user.id, cid: cid(), since }.into())]).await;
    ann.send(invited, "after bob came").await;
    let created = ann.create(RoomKind::Group, &both).await;
    ann.send(channel, "in the channel").await;
    let missed = ann.have(main);

    // He comes back while the others talk on.
    let stage = Stage::new(node);
    let talkers = stage.talk(clients, &[main]);
    bob.reconnect(&*stage.node.read().await).await;
    assert!(bob.have(main) >= missed, "the resume ended at {}, {missed} was there before", bob.have(main));
    let (rooms, resumed) = told(&bob.take_pushes());
    let standings: BTreeMap<RoomId, Standing> = rooms.iter().map(|(room, told)| (*room, told.standing)).collect();
    let expected = [
        (main, Standing::CatchUp),
        (lost, Standing::Left),
        (renamed, Standing::CatchUp),
        (channel, Standing::CatchUp),
        (invited, Standing::Joined),
        (created, Standing::Joined),
    ];
    assert_eq!(standings, expected.into(), "nothing is said of an unchanged room ({quiet})");
    assert_eq!(rooms[&renamed].summary.as_ref().map(|s| s.name.as_str()), Some("other"));
    assert!(resumed.cursors.contains(&CursorShown { room: main, read: 1, delivered: 1 }), "{:?}", resumed.cursors);
    assert!(resumed.presence.iter().any(|p| p.user == users[0].id && p.state == PresenceState::Online), "{:?}", resumed.presence);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let mut clients = stage.silence(talkers).await;
    clients.push(bob);
    let node = stage.node.read().await;
    for room in [quiet, lost, renamed, channel, invited, created] {
        clients[0].read_log(&node, room).await;
    }
    all_is_well(&node, &clients, &[main]).await;
}

/// A socket that resumes with pages of the test's own making.
async fn resume_with(node: &TestNode, user: &TestUser, pages: Vec<Vec<Have>>) -> (Connection, mpsc::Receiver<Push>, Vec<Push>) {
    let opened = Connection::open(&node.url(), &user.token, Format::Msgpack, &Options::default()).await;
    let (connection, mut reader) = opened.unwrap();
    let count = pages.len();
    let asked = pages.into_iter().enumerate().map(|(i, rooms)| connection.request(Request::Resume(Resume { rooms, last: i + 1 == count })));
    let asked = join_all(asked);
    let read = async {
        let mut pushes = Vec::new();
        loop {
            let push = reader.recv().await.expect("the connection lives");
            let over = matches!(push, Push::Resumed(_));
            pushes.push(push);
            if over {
                return pushes;
            }
        }
    };
    let (answers, pushes) = tokio::time::timeout(SOON, async { tokio::join!(asked, read) }).await.expect("a resume ends");
    answers.into_iter().for_each(|answer| drop(answer.unwrap()));
    (connection, reader, pushes)
}

/// A thousand rooms in ten pages: only those that changed are told of, and all are live afterwards.
#[tokio::test]
async fn many_rooms_are_resumed_in_pages() {
    let count = pick(1_000, 4_900);
    let node = TestNode::start().await;
    let users = people(&node, 2).await;
    let ann = TestClient::connect(&node, &users[0], "device").await;
    let mut rooms = Vec::new();
    while rooms.len() < count {
        rooms.extend(join_all((0..50).map(async |_| ann.create(RoomKind::Group, &ids(&users[1..])).await)).await);
    }
    let changed: Vec<RoomId> = rooms.iter().step_by(7).copied().collect();
    for part in changed.chunks(50) {
        join_all(part.iter().map(|room| ann.send(*room, "something new"))).await;
    }
    let haves: Vec<Have> = rooms.iter().map(|room| Have { room: *room, have: 1 }).collect();
    let pages = haves.chunks(count / 10).map(<[Have]>::to_vec).collect();
    let (_connection, mut reader, pushes) = resume_with(&node, &users[1], pages).await;
    let (told, _) = told(&pushes);
    assert_eq!(told.len(), changed.len());
    assert!(changed.iter().all(|room| told[room].standing == Standing::CatchUp && told[room].from == 1));
    let entries = pushes.iter().filter_map(|p| if let Push::Entries(page) = p { Some(page.entries.iter().map(|e| e.seq)) } else { None });
    assert_eq!(entries.flatten().collect::<Vec<_>>(), vec![2; changed.len()]);
    let unchanged = rooms[count - 2];
    ann.send(unchanged, "live").await;
    let live = tokio::time::timeout(SOON, reader.recv()).await.unwrap().unwrap();
    assert!(matches!(&live, Push::Entry(e) if e.room == unchanged && e.seq == 2), "{live:?}");
}

/// A client that has more than the log is told so, and goes on from the head.
#[tokio::test]
async fn who_is_ahead_of_the_log_starts_anew() {
    let node = TestNode::builder().set("rooms.resume_entries_max", 50).start().await;
    let users = people(&node, 2).await;
    let clients = connected(&node, &users).await;
    let rooms = groups(&clients, 2).await;
    let burst: Vec<Request> = (0..100).map(|i| clients[0].message(rooms[1], &format!("{i}"))).collect();
    all(&clients[0], &burst).await;
    let haves = vec![Have { room: rooms[0], have: 1_000 }, Have { room: rooms[1], have: 3 }];
    let (_connection, mut reader, pushes) = resume_with(&node, &users[1], vec![haves]).await;
    let (told, _) = told(&pushes);
    for (room, head) in [(rooms[0], 1), (rooms[1], 101)] {
        assert_eq!((told[&room].standing, told[&room].head), (Standing::Resync, head));
    }
    assert!(!pushes.iter().any(|p| matches!(p, Push::Entries(_))), "{pushes:?}");
    clients[0].send(rooms[0], "live").await;
    let live = tokio::time::timeout(SOON, reader.recv()).await.unwrap().unwrap();
    assert!(matches!(&live, Push::Entry(e) if e.room == rooms[0] && e.seq == 2), "{live:?}");
}

/// Entries as large as they may be: pages of a resume and of history are bounded in bytes too, and no outbox runs over.
#[tokio::test]
async fn large_entries_are_given_in_pages_that_fit() {
    let node = TestNode::builder().set("socket.outbox_hard_bytes", 2 << 20).start().await;
    let users = people(&node, 2).await;
    let mut clients = connected(&node, &users).await;
    let room = groups(&clients, 1).await[0];
    clients[1].disconnect().await;
    let text = "x".repeat(16_000);
    for _ in 0..10 {
        let burst: Vec<Request> = (0..30).map(|_| clients[0].message(room, &text)).collect();
        all(&clients[0], &burst).await;
    }
    let node = &node;
    clients[1].reconnect(node).await;
    assert!(clients[1].have(room) >= 301);
    all_is_well(node, &clients, &[room]).await;
    assert_eq!(node.metric("hubbub_outbox_overruns_total").await, 0.0);
}
