//! Profiles, contacts in pages, presence of contacts, blocks.

use super::*;

#[actix_rt::test]
async fn one_changes_what_one_shows_and_only_what_one_has_seen() {
    let w = world();
    let app = public!(w);
    let (alice, bob) = (register!(app, "alice"), register!(app, "bob"));
    let (token, bobs) = (alice.text("access_token"), bob.text("access_token"));
    let before = call(&app, with_token("GET", "/v1/me", &token)).await;
    assert_eq!((before.text("name"), before.text("display_name"), before.text("avatar_url")), ("alice".into(), "alice".into(), "".into()));
    let tag = before.header("etag").to_owned();
    assert_eq!(call(&app, with_token("GET", "/v1/me", &token).insert_header(("if-none-match", tag.clone()))).await.status, 304);

    let change = json!({ "display_name": "Alice L.", "avatar_url": "https://pictures.example/a.png", "status": "at lunch" });
    let patch = |body: &Value, tag: &str| with_token("PATCH", "/v1/me", &token).insert_header(("if-match", tag)).set_json(body);
    let after = call(&app, patch(&change, &tag)).await;
    assert_eq!((after.status, after.text("display_name"), after.text("status")), (200, "Alice L.".into(), "at lunch".into()));
    assert_eq!(*w.node.statuses.lock(), [(alice.text("user").parse().unwrap(), "at lunch".to_owned())]);
    call(&app, patch(&json!({ "status": "back" }), &tag)).await.problem(412, "precondition_failed");
    assert_eq!(call(&app, patch(&json!({ "status": "" }), after.header("etag"))).await.text("status"), "");
    let nothing = call(&app, with_token("PATCH", "/v1/me", &token).set_json(json!({}))).await;
    assert_eq!((nothing.status, nothing.text("display_name")), (200, "Alice L.".into()));
    for bad in [
        json!({ "display_name": " Alice" }),
        json!({ "display_name": "a".repeat(101) }),
        json!({ "avatar_url": "javascript:alert(1)" }),
        json!({ "status": "a\nb" }),
    ] {
        call(&app, with_token("PATCH", "/v1/me", &token).set_json(&bad)).await.problem(422, "invalid");
    }
    call(&app, with_token("PATCH", "/v1/me", &token).set_json(json!({ "status": 1 }))).await.problem(400, "malformed");
    call(&app, with_token("PATCH", "/v1/me", &token).set_json(json!([null, null]))).await.problem(400, "malformed");

    for path in [format!("/v1/users/{}", alice.text("user")), "/v1/users/by-name/alice".into()] {
        let seen = call(&app, with_token("GET", &path, &bobs)).await;
        assert_eq!((seen.status, seen.text("display_name"), &seen.body["last_seen"]), (200, "Alice L.".into(), &Value::Null), "{path}");
        assert!(seen.body["device"].is_null() && seen.body["password"].is_null());
        let again = with_token("GET", &path, &bobs).insert_header(("if-none-match", seen.header("etag")));
        assert_eq!(call(&app, again).await.status, 304);
    }
    // Whom one does not see and who is not there look alike, by id as by name.
    let nobody = call(&app, with_token("GET", "/v1/users/999", &bobs)).await;
    call(&app, with_token("PUT", &format!("/v1/blocks/{}", bob.text("user")), &token)).await;
    for path in [format!("/v1/users/{}", alice.text("user")), "/v1/users/by-name/alice".into()] {
        let hidden = call(&app, with_token("GET", &path, &bobs)).await;
        hidden.problem(404, "not_found");
        assert_eq!(hidden.body, nobody.body);
    }
}

#[actix_rt::test]
async fn contacts_come_in_pages_by_state_and_with_presence_when_accepted() {
    let w = world();
    let app = public!(w);
    let me = register!(app, "me");
    let (token, id) = (me.text("access_token"), me.text("user"));
    let mut ids = Vec::new();
    for n in 0..7 {
        let other = register!(app, format!("user{n}"));
        let (theirs, them) = (other.text("access_token"), other.text("user"));
        match n {
            0..3 => {
                call(&app, with_token("PUT", &format!("/v1/contacts/{them}"), &token)).await;
                let accepted = call(&app, with_token("PUT", &format!("/v1/contacts/{id}"), &theirs)).await;
                assert_eq!(accepted.text("state"), "accepted");
            }
            3 | 4 => drop(call(&app, with_token("PUT", &format!("/v1/contacts/{id}"), &theirs)).await),
            5 => drop(call(&app, with_token("PUT", &format!("/v1/contacts/{them}"), &token)).await),
            _ => drop(call(&app, with_token("PUT", &format!("/v1/blocks/{them}"), &token)).await),
        }
        ids.push(them);
    }
    let users = |reply: &Reply| -> Vec<String> {
        reply.body["items"].as_array().unwrap().iter().map(|i| i["user"].as_str().unwrap().to_owned()).collect()
    };
    let get = async |path: &str| {
        let reply = call(&app, with_token("GET", path, &token)).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        reply
    };
    let (mut seen, mut path, mut pages) = (Vec::new(), "/v1/contacts?limit=3".to_owned(), 0);
    loop {
        let page = get(&path).await;
        seen.extend(users(&page));
        pages += 1;
        match page.body["next"].as_str() {
            Some(next) => path = format!("/v1/contacts?limit=3&cursor={next}"),
            None => break,
        }
    }
    assert_eq!((seen, pages), (ids.clone(), 3));
    for (state, expected) in [("accepted", &ids[..3]), ("pending", &ids[3..5]), ("requested", &ids[5..6]), ("blocked", &ids[6..])] {
        assert_eq!(users(&get(&format!("/v1/contacts?state={state}")).await), expected, "{state}");
    }
    let presence = get("/v1/contacts/presence").await;
    assert_eq!(users(&presence), ids[..3]);
    assert_eq!(presence.body["items"][0], json!({ "user": ids[0], "state": "online", "last_seen": 9, "status": "here" }));
    assert_eq!(presence.body["items"][1]["state"], "offline", "who has no presence is not connected");
    assert_eq!(users(&get("/v1/blocks").await), ids[6..]);

    // Declining is deleting, and nobody is left on either side.
    assert_eq!(call(&app, with_token("DELETE", &format!("/v1/contacts/{}", ids[3]), &token)).await.status, 204);
    assert_eq!(users(&get("/v1/contacts?state=pending").await), ids[4..5]);
    for (query, status, code) in
        [("limit=0", 422, "invalid"), ("limit=x", 400, "malformed"), ("cursor=!", 422, "invalid"), ("state=x", 400, "malformed")]
    {
        call(&app, with_token("GET", &format!("/v1/contacts?{query}"), &token)).await.problem(status, code);
    }
}

#[actix_rt::test]
async fn only_the_node_that_owns_an_account_carries_its_deletion_out_and_another_goes_on_with_it() {
    let world = world();
    let api = world.api.clone().into_inner();
    let user = api.accounts.create(UserId(1), "alice", "correct horse").await.unwrap().user;
    crate::auth::deletion::begin(&*api.store, user, 5).await.unwrap();
    let begun = async || crate::auth::deletion::is_begun(&*api.store, user).await.unwrap();
    world.node.owns_nothing.store(true, Ordering::Relaxed);
    let other = actix_web::rt::spawn(deletion::work(api.clone()));
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(begun().await, "it is another node's to do");
    // That one is gone, and its shards came here.
    world.node.owns_nothing.store(false, Ordering::Relaxed);
    api.forgetting()(Changed::Deletions);
    let until = Instant::now() + std::time::Duration::from_secs(10);
    while begun().await {
        assert!(Instant::now() < until, "nobody goes on with it");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    other.abort();
}
