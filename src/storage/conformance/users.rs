//! Promises about accounts, devices and contacts.

use super::Backend;
use super::support::{batch, device, next, user};
use crate::protocol::ids::{DeviceId, RoomId, Shard, UserId};
use crate::storage::{ContactState, EpochCell, UserRow};
use futures_util::future::join_all;

/// Of many who want a name one gets it, and the others' accounts are not there.
pub async fn a_name_is_taken_once(b: &dyn Backend) {
    let s = b.open().await;
    let made = join_all((1..=32).map(|id| s.create_user(user(id, "alice")))).await;
    let won: Vec<u64> = (1..).zip(made).filter(|(_, made)| *made.as_ref().expect("create")).map(|(id, _)| id).collect();
    assert_eq!(won.len(), 1);
    assert_eq!(s.list_users(UserId(0), 100).await.expect("list"), [user(won[0], "alice")]);
    assert!(s.create_user(user(40, "alice.")).await.expect("create"), "compared as it stands");
}

/// By id, by many ids in the order asked for, by name.
pub async fn users_are_found_by_id_and_name(b: &dyn Backend) {
    let s = b.open().await;
    for (id, name) in [(1, "al"), (2, "alice")] {
        assert!(s.create_user(user(id, name)).await.expect("create"));
    }
    assert_eq!(s.user(UserId(2)).await.expect("user"), Some(user(2, "alice")));
    assert_eq!(s.user(UserId(3)).await.expect("user"), None);
    let got = s.users(&[UserId(2), UserId(9), UserId(1)]).await.expect("users");
    assert_eq!(got, [Some(user(2, "alice")), None, Some(user(1, "al"))]);
    assert_eq!(s.user_by_name("al").await.expect("user"), Some(user(1, "al")));
    assert_eq!(s.user_by_name("ali").await.expect("user"), None);
}

/// Ascending by id, from behind `after`.
pub async fn users_are_listed_in_order(b: &dyn Backend) {
    let s = b.open().await;
    for id in [300, 1, 256, 2] {
        assert!(s.create_user(user(id, &format!("user{id}"))).await.expect("create"));
    }
    let ids = |rows: Vec<UserRow>| rows.iter().map(|u| u.user.0).collect::<Vec<_>>();
    assert_eq!(ids(s.list_users(UserId(0), 3).await.expect("list")), [1, 2, 256]);
    assert_eq!(ids(s.list_users(UserId(256), 3).await.expect("list")), [300]);
}

/// A row that has changed since it was read is not overwritten.
pub async fn replacing_needs_the_stored_row(b: &dyn Backend) {
    let s = b.open().await;
    let was = user(1, "alice");
    assert!(!s.replace_user(&was, was.clone()).await.expect("replace"), "there is none");
    assert!(s.create_user(was.clone()).await.expect("create"));
    let now = UserRow { disabled: true, tokens_after: 99, ..was.clone() };
    assert!(s.replace_user(&was, now.clone()).await.expect("replace"));
    assert!(!s.replace_user(&was, was.clone()).await.expect("replace"));
    assert_eq!(s.user(UserId(1)).await.expect("user"), Some(now));
}

/// Exactly one of those who read the same row.
pub async fn one_of_many_replacements_wins(b: &dyn Backend) {
    let s = b.open().await;
    let was = user(1, "alice");
    assert!(s.create_user(was.clone()).await.expect("create"));
    let next = |i: u64| UserRow { status: format!("{i}"), ..was.clone() };
    let done = join_all((1..=32).map(|i| s.replace_user(&was, next(i)))).await;
    let won: Vec<u64> = (1..).zip(done).filter(|(_, done)| *done.as_ref().expect("replace")).map(|(i, _)| i).collect();
    assert_eq!(won.len(), 1);
    assert_eq!(s.user(UserId(1)).await.expect("user"), Some(next(won[0])));
}

/// A new name is unique like a first one, and the old one can be taken.
pub async fn renaming_frees_the_old_name(b: &dyn Backend) {
    let s = b.open().await;
    assert!(s.create_user(user(1, "alice")).await.expect("create"));
    assert!(s.create_user(user(2, "bob")).await.expect("create"));
    assert!(!s.replace_user(&user(1, "alice"), user(1, "bob")).await.expect("replace"), "taken");
    assert!(s.replace_user(&user(1, "alice"), user(1, "carol")).await.expect("replace"));
    assert_eq!(s.user_by_name("carol").await.expect("user"), Some(user(1, "carol")));
    assert_eq!(s.user_by_name("alice").await.expect("user"), None);
    assert!(s.create_user(user(3, "alice")).await.expect("create"));
}

/// However many change them at once: no two accounts bear one name, each is found by its own, and every other name is free.
pub async fn names_and_accounts_agree_after_many_changes_at_once(b: &dyn Backend) {
    let s = b.open().await;
    let names = ["red", "green", "blue", "white", "black"];
    for id in 1..=3 {
        assert!(s.create_user(user(id, names[id as usize])).await.expect("create"));
    }
    let mut changes = 0;
    for round in 0..6 {
        let change = |id: u64, to: usize| {
            let s = s.clone();
            async move {
                let was = s.user(UserId(id)).await.expect("user").expect("it was made");
                let changed = s.replace_user(&was, UserRow { name: names[to % names.len()].into(), ..was.clone() }).await;
                // Too many at once may be told so.
                changed.is_ok_and(|changed| changed)
            }
        };
        // Each wants two names, and each name is wanted by several.
        let changed = join_all((1..=3).flat_map(|id| [change(id, round + id as usize), change(id, round + 2 * id as usize)])).await;
        changes += changed.into_iter().filter(|changed| *changed).count();
    }
    assert!(changes > 0, "nobody ever got a name");
    let rows = s.list_users(UserId(0), 10).await.expect("list");
    assert_eq!(rows.len(), 3);
    for name in names {
        let borne: Vec<_> = rows.iter().filter(|row| row.name == name).cloned().collect();
        assert!(borne.len() < 2, "{borne:?}");
        assert_eq!(s.user_by_name(name).await.expect("user"), borne.first().cloned());
    }
    for (id, name) in (10..).zip(names) {
        let free = rows.iter().all(|row| row.name != name);
        assert_eq!(s.create_user(user(id, name)).await.expect("create"), free, "{name}");
    }
}

/// A max-register; nobody is made by it.
pub async fn last_seen_only_grows(b: &dyn Backend) {
    let s = b.open().await;
    assert!(s.create_user(user(1, "alice")).await.expect("create"));
    for at in [5, 9, 7] {
        s.seen(UserId(1), at).await.expect("seen");
    }
    s.seen(UserId(2), 5).await.expect("seen");
    assert_eq!(s.user(UserId(1)).await.expect("user").map(|u| u.last_seen), Some(9));
    assert_eq!(s.user(UserId(2)).await.expect("user"), None);
}

/// Refresh tokens rotate by this: a token that was used wins once.
pub async fn devices_are_replaced_by_compare_and_set(b: &dyn Backend) {
    let s = b.open().await;
    let first = device(1, 7, 1);
    assert!(!s.replace_device(Some(&first), device(1, 7, 2)).await.expect("replace"), "there is none");
    assert!(s.replace_device(None, first.clone()).await.expect("replace"));
    assert!(!s.replace_device(None, device(1, 7, 3)).await.expect("replace"), "there is one");
    let done = join_all((2..=33).map(|i| s.replace_device(Some(&first), device(1, 7, i)))).await;
    let won: Vec<u8> = (2..).zip(done).filter(|(_, done)| *done.as_ref().expect("replace")).map(|(i, _)| i).collect();
    assert_eq!(won.len(), 1);
    s.close();
    let s = b.open().await;
    assert_eq!(s.device(UserId(1), DeviceId(7)).await.expect("device"), Some(device(1, 7, won[0])));
}

/// Ascending, only the user's.
pub async fn devices_are_listed_in_order(b: &dyn Backend) {
    let s = b.open().await;
    for (u, d) in [(1, 300), (1, 2), (2, 5), (1, 256)] {
        assert!(s.replace_device(None, device(u, d, 1)).await.expect("replace"));
    }
    let got: Vec<u64> = s.devices(UserId(1)).await.expect("devices").iter().map(|d| d.device.0).collect();
    assert_eq!(got, [2, 256, 300]);
    assert_eq!(s.device(UserId(2), DeviceId(2)).await.expect("device"), None);
}

/// Both directions change in one write: no reader, and no restart, sees one without the other.
pub async fn contacts_change_both_ways(b: &dyn Backend) {
    use ContactState::{Accepted, Pending, Requested};
    let s = b.open().await;
    let (x, y) = (UserId(1), UserId(2));
    s.set_contact(x, y, Some(Requested), Some(Pending)).await.expect("set");
    assert_eq!(s.contact_states(x, &[y, UserId(3)]).await.expect("states"), [Some(Requested), None]);
    assert_eq!(s.contact_states(y, &[x]).await.expect("states"), [Some(Pending)]);
    s.set_contact(x, y, Some(Accepted), Some(Accepted)).await.expect("set");
    s.set_contact(x, UserId(3), Some(ContactState::Blocked), None).await.expect("set");
    // Flips while it is closed: whatever was the last to be written, it is whole.
    let flips = (0..50).map(|i| {
        let state = (i % 2 == 0).then_some(Accepted);
        s.set_contact(x, y, state, state)
    });
    let (done, ()) = tokio::join!(join_all(flips), async { s.close() });
    let s = b.open().await;
    let (there, back) = (s.contact_states(x, &[y]).await.expect("states"), s.contact_states(y, &[x]).await.expect("states"));
    assert_eq!(there, back, "after {} flips", done.iter().filter(|d| d.is_ok()).count());
    assert_eq!(s.contact_states(x, &[UserId(3)]).await.expect("states"), [Some(ContactState::Blocked)]);
    assert_eq!(s.contact_states(UserId(3), &[x]).await.expect("states"), [None]);
}

/// Ascending, at most `limit`, without those that were removed.
pub async fn contacts_are_listed_in_order(b: &dyn Backend) {
    let s = b.open().await;
    for other in [300, 2, 256, 9] {
        s.set_contact(UserId(1), UserId(other), Some(ContactState::Accepted), Some(ContactState::Accepted)).await.expect("set");
    }
    s.set_contact(UserId(1), UserId(9), None, None).await.expect("set");
    let ids = |rows: Vec<(UserId, ContactState)>| rows.iter().map(|(u, _)| u.0).collect::<Vec<_>>();
    assert_eq!(ids(s.contacts(UserId(1), 10).await.expect("contacts")), [2, 256, 300]);
    assert_eq!(ids(s.contacts(UserId(1), 2).await.expect("contacts")), [2, 256]);
    assert_eq!(ids(s.contacts(UserId(256), 2).await.expect("contacts")), [1]);
}

/// Everything that answered is there after a restart.
pub async fn accounts_are_durable(b: &dyn Backend) {
    let s = b.open().await;
    assert!(s.create_user(user(1, "alice")).await.expect("create"));
    assert!(s.replace_user(&user(1, "alice"), UserRow { created: 6, ..user(1, "alice") }).await.expect("replace"));
    s.set_contact(UserId(1), UserId(2), Some(ContactState::Accepted), None).await.expect("set");
    s.close();
    let s = b.open().await;
    assert_eq!(s.user_by_name("alice").await.expect("user"), Some(UserRow { created: 6, ..user(1, "alice") }));
    assert_eq!(s.contact_states(UserId(1), &[UserId(2)]).await.expect("states"), [Some(ContactState::Accepted)]);
    assert!(!s.create_user(user(2, "alice")).await.expect("create"));
}

/// After `close` reads and writes fail; closing again is harmless.
pub async fn a_closed_store_fails(b: &dyn Backend) {
    let s = b.open().await;
    assert!(s.create_user(user(1, "alice")).await.expect("create"));
    s.close();
    s.close();
    assert!(s.user(UserId(1)).await.is_err());
    assert!(s.create_user(user(2, "bob")).await.is_err());
    assert!(s.append(batch(RoomId(1), 1, 1, 0)).await.is_err());
    assert!(s.apply(RoomId(1), Shard(0), next(), Vec::new(), true).await.is_err());
    assert!(s.raise_epoch(Shard(0), EpochCell::default(), EpochCell { epoch: 1, token: 1 }).await.is_err());
}
