//! One user per subject, revocation of devices that only an issuer signs in, and names; over the real store.

use super::*;
use crate::auth::sessions::Sessions;
use crate::auth::tokens::Tokens;
use crate::config;
use crate::storage::Users;
use crate::storage::embedded::EmbeddedStore;
use std::sync::atomic::{AtomicU64, Ordering};

struct World {
    store: Arc<EmbeddedStore>,
    subjects: Subjects,
    sessions: Sessions,
    accounts: Accounts,
    _dir: tempfile::TempDir,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path(), Default::default()).unwrap();
    let config = config::Auth { argon2_memory_kib: 8, argon2_passes: 1, ..Default::default() };
    let accounts = Accounts::new(store.clone(), &config);
    let announce: Announce = Arc::new(|_, _| {});
    let tokens = Arc::new(Tokens::new(&[5; 32], &config).unwrap());
    let sessions = Sessions::new(store.clone(), tokens, &config, announce.clone());
    let next = Arc::new(AtomicU64::new(100));
    let ids: NextId = Arc::new(move || {
        let id = next.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move { Ok(id) })
    });
    let subjects = Subjects::new(store.clone(), accounts.clone(), ids, announce);
    World { store, subjects, sessions, accounts, _dir: dir }
}

fn identity(subject: &str, session: Option<&str>, issued: Millis) -> Identity {
    Identity {
        issuer: "https://login.example".into(),
        subject: subject.into(),
        session: session.map(str::to_owned),
        issued,
        expires: issued + 3_600_000,
        person: Person { name: Some("Alice".into()), display_name: Some("Alice A.".into()), avatar_url: None },
        create: true,
    }
}

#[actix_rt::test]
async fn a_subject_is_one_user_however_many_come_at_once() {
    let w = world();
    let alice = identity("42", None, 1_000_000);
    let all = futures_util::future::join_all((0..20).map(|_| w.subjects.admit(&alice))).await;
    let users: std::collections::BTreeSet<_> = all.into_iter().map(|r| r.unwrap().0.user).collect();
    assert_eq!(users.len(), 1);
    let rows = w.store.list_users(UserId(0), 100).await.unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!((rows[0].name.as_str(), rows[0].display_name.as_str(), rows[0].bot), ("alice", "Alice A.", false));
    let other = w.subjects.admit(&identity("43", None, 1_000_000)).await.unwrap().0;
    assert_eq!(other.name, "alice-2", "names are unique");
    assert!(w.accounts.authenticate("alice", "").await.is_err(), "there is no password");
    let stranger = Identity { create: false, ..identity("44", None, 1_000_000) };
    assert_eq!(w.subjects.admit(&stranger).await.unwrap_err().code, Code::Forbidden);
}

#[actix_rt::test]
async fn a_crash_between_the_record_and_the_account_leaves_nothing_behind() {
    let w = world();
    let fresh = Subject { user: UserId(7), made: false, person: 0, sessions: Vec::new(), floor: 0 };
    w.subjects.replace("https://login.example", "42", None, &fresh).await.unwrap();
    let (row, _) = w.subjects.admit(&identity("42", None, 1_000_000)).await.unwrap();
    assert_eq!(row.user, UserId(7));
}

#[actix_rt::test]
async fn a_revoked_device_comes_back_by_a_newer_token_and_the_old_one_never() {
    let w = world();
    let now = crate::auth::now();
    let (old, other) = (identity("42", Some("phone"), now - 5_000), identity("42", Some("desk"), now - 5_000));
    let (user, claims) = w.subjects.admit(&old).await.unwrap();
    let (_, desk) = w.subjects.admit(&other).await.unwrap();
    assert_ne!(claims.device, desk.device, "a device for each of the issuer's sessions");
    assert_eq!(w.subjects.admit(&old).await.unwrap().1.device, claims.device);
    w.sessions.sign_out(user.user, claims.device).await.unwrap();
    assert_eq!(w.subjects.admit(&old).await.unwrap_err().code, Code::TokenRevoked);
    assert!(w.subjects.admit(&other).await.is_ok(), "the other device goes on");
    let newer = identity("42", Some("phone"), crate::auth::now() + 1_000);
    assert_eq!(w.subjects.admit(&newer).await.unwrap().1.device, claims.device);
    assert_eq!(w.subjects.admit(&old).await.unwrap_err().code, Code::TokenRevoked, "still");
    w.accounts.sign_out_everywhere(&user.name).await.unwrap();
    assert_eq!(w.subjects.admit(&other).await.unwrap_err().code, Code::TokenRevoked);
    let later = identity("42", Some("desk"), crate::auth::now() + 10_000);
    assert!(w.subjects.admit(&later).await.is_ok());
    w.accounts.set_disabled(&user.name, true).await.unwrap();
    assert_eq!(w.subjects.admit(&identity("42", None, now + 99_000)).await.unwrap_err().code, Code::TokenRevoked);
}

#[actix_rt::test]
async fn a_subject_has_at_most_so_many_devices_and_who_lost_its_place_needs_a_new_token() {
    let w = world();
    for n in 0..=SESSIONS_MAX as u64 {
        w.subjects.admit(&identity("42", Some(&n.to_string()), 1_000_000 + n)).await.unwrap();
    }
    let user = w.store.list_users(UserId(0), 1).await.unwrap()[0].user;
    assert_eq!(w.store.devices(user).await.unwrap().len(), SESSIONS_MAX);
    assert_eq!(w.subjects.admit(&identity("42", Some("0"), 1_000_000)).await.unwrap_err().code, Code::TokenRevoked);
    assert!(w.subjects.admit(&identity("42", Some("0"), 2_000_000)).await.is_ok());
}

#[actix_rt::test]
async fn what_the_issuer_says_anew_is_taken_over_and_what_it_repeats_is_not() {
    let w = world();
    let mut alice = identity("42", None, 1_000_000);
    let (row, _) = w.subjects.admit(&alice).await.unwrap();
    w.accounts
        .edit(row.user, |row| {
            row.display_name = "Ally".into();
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(w.subjects.admit(&alice).await.unwrap().0.display_name, "Ally", "her own choice");
    alice.person.display_name = Some("Alice B.".into());
    alice.person.avatar_url = Some("https://login.example/a.png".into());
    let row = w.subjects.admit(&alice).await.unwrap().0;
    assert_eq!((row.display_name.as_str(), row.avatar_url.as_str()), ("Alice B.", "https://login.example/a.png"));
    alice.person.avatar_url = Some("javascript:alert(1)".into());
    assert_eq!(w.subjects.admit(&alice).await.unwrap().0.avatar_url, "");
}

#[test]
fn a_wish_becomes_a_name_that_may_be_taken() {
    for (wish, name) in [
        ("alice", "alice"),
        ("Alice Smith", "alice.smith"),
        ("alice@example.org", "alice"),
        ("Ünal", "nal"),
        ("", "user"),
        ("é", "user"),
        ("a/b\\c\n", "abc."),
        ("x", "user"),
        ("日本", "user"),
    ] {
        assert_eq!(base(wish), name, "{wish}");
    }
    let long = Person { name: Some("a".repeat(100)), ..Person::default() };
    assert!(candidates(&long).all(|name| valid_name(&name)));
}
