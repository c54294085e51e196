//! Rotation, reuse, lost answers, revocation and bounds, over the real store.

use super::*;
use crate::auth::accounts::Accounts;
use crate::storage::embedded::EmbeddedStore;
use parking_lot::Mutex;

type Told = Arc<Mutex<Vec<(UserId, Option<DeviceId>)>>>;

struct World {
    store: Arc<EmbeddedStore>,
    accounts: Accounts,
    tokens: Arc<Tokens>,
    sessions: Sessions,
    told: Told,
    alice: UserRow,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(dir.path(), Default::default()).unwrap();
        let config = config::Auth { argon2_memory_kib: 8, argon2_passes: 1, ..Default::default() };
        let tokens = Arc::new(Tokens::new(&[5; 32], &config).unwrap());
        let told = Told::default();
        let into = told.clone();
        let sessions = Sessions::new(store.clone(), tokens.clone(), &config, Arc::new(move |u, d| into.lock().push((u, d))));
        let accounts = Accounts::new(store.clone(), &config);
        let alice = accounts.create(UserId(1), "alice", "correct horse").await.unwrap();
        World { store, accounts, tokens, sessions, told, alice, _dir: dir }
    }
    async fn live(&self, access: &str, now: Millis) -> Result<UserRow, ApiError> {
        self.sessions.check_live(&self.tokens.verify(access, now)?).await
    }
    async fn code(&self, refresh: &str, now: Millis) -> Code {
        self.sessions.refresh(refresh, now).await.err().expect("refused").code
    }
}

const T: Millis = 1_900_000_000_000;

#[actix_rt::test]
async fn each_refresh_ends_the_token_before() {
    let w = World::new().await;
    let mut pair = w.sessions.sign_in(&w.alice, DeviceId(10), "phone", T).await.unwrap();
    let first = pair.refresh.clone();
    for n in 1..5 {
        let now = T + n * 60_000;
        let (user, next) = w.sessions.refresh(&pair.refresh, now).await.unwrap();
        assert_eq!((user.user, next.device), (UserId(1), DeviceId(10)));
        assert_ne!(next.refresh, pair.refresh);
        assert!(w.live(&next.access, now).await.is_ok() && next.refresh_expires > pair.refresh_expires);
        pair = next;
    }
    let row = w.store.device(UserId(1), DeviceId(10)).await.unwrap().unwrap();
    assert!(!format!("{row:?}").contains(&pair.refresh), "the store holds no token");
    assert!(w.told.lock().is_empty());
    // The very first token, four rotations ago: a thief's copy. The whole family ends.
    assert_eq!(w.code(&first, T + 400_000).await, Code::TokenRevoked);
    assert_eq!(*w.told.lock(), [(UserId(1), Some(DeviceId(10)))], "told once");
    assert_eq!(w.code(&pair.refresh, T + 400_000).await, Code::TokenRevoked, "the valid one too");
    assert_eq!(w.live(&pair.access, T + 240_000).await.unwrap_err().code, Code::TokenRevoked);
}

#[actix_rt::test]
async fn a_lost_answer_can_be_asked_for_again_for_a_while() {
    let w = World::new().await;
    let pair = w.sessions.sign_in(&w.alice, DeviceId(10), "phone", T).await.unwrap();
    let (_, lost) = w.sessions.refresh(&pair.refresh, T + 1_000).await.unwrap();
    let (_, again) = w.sessions.refresh(&pair.refresh, T + 1_000 + GRACE_MS).await.unwrap();
    assert_eq!(lost.refresh, again.refresh, "one line of tokens, however often it is asked");
    assert!(w.live(&again.access, T + 1_000 + GRACE_MS).await.is_ok());
    let (_, next) = w.sessions.refresh(&again.refresh, T + 20_000).await.unwrap();
    assert_eq!(w.code(&pair.refresh, T + 20_000).await, Code::TokenRevoked, "after its successor was used there is no grace");
    assert_eq!(w.code(&next.refresh, T + 20_001).await, Code::TokenRevoked);

    let pair = w.sessions.sign_in(&w.alice, DeviceId(11), "phone", T).await.unwrap();
    w.sessions.refresh(&pair.refresh, T + 1_000).await.unwrap();
    assert_eq!(w.code(&pair.refresh, T + 1_001 + GRACE_MS).await, Code::TokenRevoked, "too late");
}

#[actix_rt::test]
async fn many_at_once_get_one_successor() {
    let w = World::new().await;
    let pair = w.sessions.sign_in(&w.alice, DeviceId(10), "phone", T).await.unwrap();
    let all = futures_util::future::join_all((0..20).map(|_| w.sessions.refresh(&pair.refresh, T + 5))).await;
    let tokens: std::collections::HashSet<_> = all.into_iter().map(|r| r.unwrap().1.refresh).collect();
    assert_eq!(tokens.len(), 1);
}

#[actix_rt::test]
async fn strangers_and_late_comers_are_refused_and_change_nothing() {
    let w = World::new().await;
    let pair = w.sessions.sign_in(&w.alice, DeviceId(10), "phone", T).await.unwrap();
    let forger = Tokens::new(&[6; 32], &config::Auth::default()).unwrap();
    let forged = RefreshToken::fresh(&forger, UserId(1), DeviceId(10), T).text();
    let elsewhere = RefreshToken::fresh(&w.tokens, UserId(1), DeviceId(99), T).text();
    let earlier_life = RefreshToken::fresh(&w.tokens, UserId(1), DeviceId(10), T - 1).text();
    for bad in ["", "hbr_", "x", pair.access.as_str(), &forged, &elsewhere, &earlier_life] {
        assert_eq!(w.code(bad, T).await, Code::Unauthorized, "{bad}");
    }
    assert_eq!(w.code(&pair.refresh, pair.refresh_expires).await, Code::TokenExpired);
    assert!(w.told.lock().is_empty());
    assert!(w.sessions.refresh(&pair.refresh, T + 1).await.is_ok(), "the device is still signed in");
    // A refresh token is no access token.
    assert!(w.tokens.verify(&pair.refresh, T).is_err());
}

#[actix_rt::test]
async fn signing_out_disabling_and_a_new_password_end_what_was_given_out_before() {
    let w = World::new().await;
    let now = crate::auth::now();
    let one = w.sessions.sign_in(&w.alice, DeviceId(10), "a", now).await.unwrap();
    let two = w.sessions.sign_in(&w.alice, DeviceId(11), "b", now).await.unwrap();
    w.sessions.sign_out(UserId(1), DeviceId(10)).await.unwrap();
    w.sessions.sign_out(UserId(1), DeviceId(10)).await.unwrap();
    assert_eq!(*w.told.lock(), [(UserId(1), Some(DeviceId(10)))]);
    assert_eq!(w.live(&one.access, now).await.unwrap_err().code, Code::TokenRevoked);
    assert_eq!(w.code(&one.refresh, now).await, Code::TokenRevoked);
    assert!(w.live(&two.access, now).await.is_ok(), "the other device goes on");

    for end in 0..3 {
        let user = w.store.user(UserId(1)).await.unwrap().unwrap();
        let pair = w.sessions.sign_in(&user, DeviceId(20 + end), "c", now).await.unwrap();
        let then = pair.access_expires - 1;
        assert!(w.live(&pair.access, then).await.is_ok());
        match end {
            0 => w.accounts.sign_out_everywhere("alice").await.unwrap(),
            1 => w.accounts.set_password("alice", "another horse").await.unwrap(),
            _ => w.accounts.set_disabled("alice", true).await.unwrap(),
        };
        assert_eq!(w.live(&pair.access, then).await.unwrap_err().code, Code::TokenRevoked, "{end}");
        assert_eq!(w.code(&pair.refresh, then).await, Code::TokenRevoked, "{end}");
    }
    assert_eq!(w.accounts.authenticate("alice", "another horse").await.unwrap_err().code, Code::Forbidden);
    let user = w.accounts.set_disabled("alice", false).await.unwrap();
    assert_eq!(w.live(&two.access, now).await.unwrap_err().code, Code::TokenRevoked, "enabling brings nothing back");
    // Signing in anew in the same millisecond, or with a clock that is behind, gives tokens that count.
    let pair = w.sessions.sign_in(&user, DeviceId(30), "d", now - 60_000).await.unwrap();
    assert!(w.live(&pair.access, now).await.is_ok() && w.sessions.refresh(&pair.refresh, now).await.is_ok());
}

#[actix_rt::test]
async fn who_signs_in_while_the_password_is_changed_does_not_stay() {
    let w = World::new().await;
    let checked = w.accounts.authenticate("alice", "correct horse").await.unwrap();
    w.accounts.set_password("alice", "another horse").await.unwrap();
    let late = w.sessions.sign_in(&checked, DeviceId(10), "thief", crate::auth::now() + 1_000).await;
    assert_eq!(late.err().unwrap().code, Code::TokenRevoked);
    assert!(w.store.device(UserId(1), DeviceId(10)).await.unwrap().unwrap().revoked);
}

#[actix_rt::test]
async fn a_user_has_at_most_so_many_devices_and_a_taken_over_row_honours_no_old_token() {
    let w = World::new().await;
    let mut pairs = Vec::new();
    for n in 0..DEVICES_MAX as u64 {
        pairs.push(w.sessions.sign_in(&w.alice, DeviceId(100 + n), "d", T + n).await.unwrap());
    }
    w.sessions.sign_out(UserId(1), DeviceId(130)).await.unwrap();
    w.told.lock().clear();
    let later = T + 1_000;
    let taken = w.sessions.sign_in(&w.alice, DeviceId(900), "new", later).await.unwrap();
    assert_eq!(taken.device, DeviceId(130), "one that is signed out goes first");
    assert!(w.live(&taken.access, later).await.is_ok());
    assert_eq!(w.live(&pairs[30].access, later).await.unwrap_err().code, Code::TokenRevoked);
    assert_eq!(w.code(&pairs[30].refresh, later).await, Code::Unauthorized);
    assert!(w.sessions.refresh(&taken.refresh, later).await.is_ok(), "the old token did not close the new family");
    let taken = w.sessions.sign_in(&w.alice, DeviceId(901), "new", later).await.unwrap();
    assert_eq!(taken.device, DeviceId(100), "then the one not used for longest");
    assert!(w.told.lock().contains(&(UserId(1), Some(DeviceId(100)))), "whose sockets are closed");
    assert_eq!(w.store.devices(UserId(1)).await.unwrap().len(), DEVICES_MAX);
}

#[actix_rt::test]
async fn an_unknown_name_and_a_wrong_password_are_one_answer() {
    let w = World::new().await;
    let wrong = w.accounts.authenticate("alice", "wrong horse").await.unwrap_err();
    assert_eq!(wrong.code, Code::BadCredentials);
    for (name, password) in [("nobody", "correct horse"), ("ALICE", "correct horse"), ("", ""), ("alice", ""), ("alice", &"x".repeat(200))]
    {
        assert_eq!(w.accounts.authenticate(name, password).await.unwrap_err(), wrong, "{name}");
    }
    assert_eq!(w.accounts.authenticate("alice", "correct horse").await.unwrap().user, UserId(1));
    assert_eq!(w.accounts.create(UserId(2), "alice", "correct horse").await.unwrap_err().code, Code::Conflict);
    for name in ["a", "Alice", "al ice", "älice", &"a".repeat(33), "a/b"] {
        assert_eq!(w.accounts.create(UserId(3), name, "correct horse").await.unwrap_err().code, Code::Invalid, "{name}");
    }
}

#[actix_rt::test]
async fn an_unknown_name_takes_as_long_as_a_wrong_password() {
    let w = World::new().await;
    // A cost that dwarfs the rest.
    let config = config::Auth { argon2_memory_kib: 8 * 1024, argon2_passes: 2, ..Default::default() };
    let accounts = Accounts::new(w.store.clone(), &config);
    accounts.create(UserId(2), "bob", "correct horse").await.unwrap();
    let mut took = [Vec::new(), Vec::new()];
    for _ in 0..9 {
        for (n, name) in ["bob", "nobody"].into_iter().enumerate() {
            let begun = std::time::Instant::now();
            accounts.authenticate(name, "wrong horse").await.unwrap_err();
            took[n].push(begun.elapsed().as_secs_f64());
        }
    }
    let [known, unknown] = took.map(|mut t| {
        t.sort_by(f64::total_cmp);
        t[4]
    });
    // Without the dummy an unknown name would take a hundredth.
    assert!(unknown > known / 3.0 && unknown < known * 3.0, "known {known} s, unknown {unknown} s");
}

#[actix_rt::test]
async fn a_hash_of_another_cost_is_made_anew_at_the_next_sign_in() {
    let w = World::new().await;
    let stronger = config::Auth { argon2_memory_kib: 16, argon2_passes: 1, ..Default::default() };
    let accounts = Accounts::new(w.store.clone(), &stronger);
    accounts.authenticate("alice", "correct horse").await.unwrap();
    let row = w.store.user(UserId(1)).await.unwrap().unwrap();
    assert!(row.password.contains("m=16,t=1"), "{}", row.password);
    assert!(accounts.authenticate("alice", "correct horse").await.is_ok());
}
