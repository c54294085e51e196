//! Groups become notifications: once, under one id, whatever comes between.

use super::*;
use std::collections::BTreeMap;

const GROUP: Group = Group { user: UserId(1), device: DeviceId(2), room: RoomId(3) };

fn rows(seqs: &[Seq]) -> Vec<(Seq, Row)> {
    seqs.iter().map(|seq| (*seq, Row::new(*seq, MessageId(1_000 + seq), *seq == 5, 100 + seq, 1_000 + seq))).collect()
}

/// What a store holds after the writes.
fn stored(rows: &[(Seq, Row)], writes: &[RecordWrite]) -> Vec<(Seq, Row)> {
    let mut all: BTreeMap<Vec<u8>, Row> = rows.iter().map(|(seq, row)| (key(GROUP, *seq), row.clone())).collect();
    for write in writes {
        match &write.value {
            Some(value) => drop(all.insert(write.key.clone(), decode(value).unwrap())),
            None => drop(all.remove(&write.key)),
        }
    }
    all.into_iter().map(|(key, row)| (parse(&key).unwrap().1, row)).collect()
}

fn sent(plan: Plan) -> (Notification, Vec<RecordWrite>) {
    match plan {
        Plan::Send(notification, writes) => (notification, writes),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_burst_is_one_notification_that_counts() {
    let burst = rows(&[4, 5, 6]);
    assert_eq!(plan(GROUP, &burst, 1_003, 0), Plan::Wait(1_004));
    assert_eq!(plan(GROUP, &burst, 1_004, 2_000), Plan::Wait(2_000), "the one before was just now");
    let (notification, writes) = sent(plan(GROUP, &burst, 1_004, 0));
    let row = &notification.row;
    assert_eq!((notification.seq, row.n, row.from, row.mention, row.at), (6, 3, 4, true, 104));
    assert_eq!(stored(&burst, &writes), [(6, notification.row)]);
}

#[test]
fn a_notification_keeps_its_id_and_content_over_attempts_and_what_comes_meanwhile() {
    let burst = rows(&[4, 5]);
    let (first, writes) = sent(plan(GROUP, &burst, 2_000, 0));
    let mut now = stored(&burst, &writes);
    now.extend(rows(&[6, 7]));
    // The process ended in the middle of the attempt: it is made again, at once.
    let (again, writes) = sent(plan(GROUP, &now, 2_000, 0));
    assert_eq!((again.id(), again.row.n, again.row.attempts), (first.id(), 2, 2));
    let mut now = stored(&now, &writes);
    // It failed, and waits.
    now[0].1 = postponed(&now[0].1, 2_000, None, 0.5);
    let due = now[0].1.due;
    assert_eq!(plan(GROUP, &now, due - 1, 0), Plan::Wait(due));
    let (third, _) = sent(plan(GROUP, &now, due, 0));
    assert_eq!((third.id(), third.row.n), (first.id(), 2));
    assert_eq!(plan(GROUP, &now, due, due + 7), Plan::Wait(due + 7), "its host is left alone");
    // It is settled: the rest is another one.
    let (next, _) = sent(plan(GROUP, &now[1..], due, 0));
    assert_ne!(next.id(), first.id());
    assert_eq!((next.seq, next.row.n), (7, 2));
}

#[test]
fn a_job_written_again_changes_nothing_and_makes_no_other_id() {
    let one = rows(&[4]);
    let (first, writes) = sent(plan(GROUP, &one, 2_000, 0));
    assert!(writes[0].version > put(GROUP, 4, &one[0].1).version, "the store keeps the sealed one");
    let (again, _) = sent(plan(GROUP, &rows(&[4]), 2_000, 0));
    assert_eq!(again.id(), first.id());
    assert_eq!(first.id().len(), 32);
}

#[test]
fn after_a_restore_another_message_under_the_same_seq_is_another_notification() {
    let (lost, _) = sent(plan(GROUP, &rows(&[4]), 2_000, 0));
    let mut after = rows(&[4]);
    after[0].1.entry = MessageId(7_777);
    assert_ne!(sent(plan(GROUP, &after, 2_000, 0)).0.id(), lost.id());
}

#[test]
fn a_long_group_is_joined_before_it_is_due() {
    let seqs: Vec<Seq> = (1..=GROUP_ROWS_MAX as u64 + 1).collect();
    let many = rows(&seqs);
    let Plan::Join(writes, due) = plan(GROUP, &many, 0, 0) else { panic!("not joined") };
    assert_eq!(due, 1_001);
    let joined = stored(&many, &writes);
    assert_eq!((joined.len(), joined[0].0, joined[0].1.n, joined[0].1.is_sealed()), (1, 65, 65, false));
    let (notification, _) = sent(plan(GROUP, &joined, due, 0));
    assert_eq!((notification.row.n, notification.row.from), (65, 1));
}

#[test]
fn pauses_grow_spread_and_end_and_what_was_asked_for_counts() {
    let row = |attempts| Row { attempts, ..Row::new(1, MessageId(1), false, 0, 0) };
    let pause = |attempts, chance| postponed(&row(attempts), 10_000, None, chance).due - 10_000;
    assert_eq!((pause(1, 0.0), pause(1, 1.0)), (500, 1_000));
    assert_eq!((pause(3, 0.0), pause(3, 1.0)), (2_000, 4_000));
    assert_eq!(pause(u32::MAX, 1.0), PAUSE_MAX_MS);
    assert_eq!(postponed(&row(1), 0, Some(7_000), 1.0).due, 7_000);
    assert_eq!(postponed(&row(1), 0, Some(10), 1.0).due, 1_000, "never sooner than our own pause");
}

#[test]
fn keys_sort_by_group_and_seq_and_are_read_back() {
    let other = Group { room: RoomId(4), ..GROUP };
    let keys = [key(GROUP, 1), key(GROUP, 256), key(other, 1), key(Group { user: UserId(2), ..GROUP }, 0)];
    assert!(keys.is_sorted());
    assert_eq!(parse(&keys[1]), Some((GROUP, 256)));
    assert_eq!(parse(&keys[1][1..]), None);
}
