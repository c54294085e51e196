//! What holds for every address: the document tells the truth, other origins, rate-limit headers, pages, keys.

use super::*;
use crate::http::idempotency::{Attempt, Key};
use crate::protocol::ids::Seq;
use std::collections::BTreeSet;
use std::time::Duration;

#[test]
fn the_document_and_the_route_table_agree() {
    let mut table = BTreeSet::new();
    let _ = App::new().configure(|cfg| {
        let mut addresses = Table::new(cfg);
        crate::http::public(&mut addresses);
        // Parameters have names for people only; HEAD is GET without the body.
        for (path, allow) in addresses.described {
            let methods = allow.split(", ").filter(|m| *m != "HEAD");
            table.extend(methods.map(|m| format!("{} {path}", m.to_lowercase())));
        }
    });
    let document = openapi::whole();
    let paths = document["paths"].as_object().unwrap();
    let described: BTreeSet<String> =
        paths.iter().flat_map(|(path, item)| item.as_object().unwrap().keys().map(move |m| format!("{m} {path}"))).collect();
    let missing: Vec<_> = table.difference(&described).collect();
    let invented: Vec<_> = described.difference(&table).collect();
    assert!(missing.is_empty() && invented.is_empty(), "not described: {missing:#?}\nnot there: {invented:#?}");
    assert!(table.len() > 10);
}

#[test]
fn every_operation_says_what_it_does_and_who_may_ask() {
    let document = openapi::whole();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let at = format!("{method} {path}");
            assert!(operation["summary"].as_str().is_some_and(|s| s.len() > 5), "{at} has no summary");
            assert!(operation["security"].is_array() && operation["responses"]["default"].is_object(), "{at}");
            let success = operation["responses"].as_object().unwrap().keys().any(|s| s.starts_with('2'));
            assert!(success, "{at} describes no success");
            for name in path.split('/').filter_map(|s| s.strip_prefix('{')?.strip_suffix('}')) {
                let parameters = operation["parameters"].as_array().map_or(&[][..], |p| p);
                assert!(parameters.iter().any(|p| p["in"] == "path" && p["name"] == name), "{at}: {name} is not described");
            }
        }
    }
}

#[actix_rt::test]
async fn the_document_and_its_page_are_served() {
    let w = world();
    let app = public!(w);
    let document = call(&app, request("GET", "/v1/openapi.json")).await;
    assert_eq!((document.status, document.header("content-type"), &document.body["openapi"]), (200, "application/json", &json!("3.1.0")));
    let again = request("GET", "/v1/openapi.json").insert_header(("if-none-match", document.header("etag")));
    assert_eq!(call(&app, again).await.status, 304);
    assert_eq!(call(&app, request("GET", "/docs")).await.header("location"), "/docs/");
    let page = call(&app, request("GET", "/docs/")).await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html"));
    assert!(page.header("content-security-policy").starts_with("default-src 'none'; script-src 'self'"));
    let settings = call(&app, request("GET", "/docs/swagger-initializer.js")).await;
    assert!(settings.body.as_str().unwrap().contains("/v1/openapi.json"));
    call(&app, request("GET", "/docs/nothing.js")).await.problem(404, "not_found");
}

#[actix_rt::test]
async fn pages_of_configured_origins_may_read_and_others_may_not() {
    let w = world_with(|c| c.http.origins = vec!["https://chat.example".into()]);
    let app = public!(w);
    let from = |origin: &str, method: &str| {
        request(method, "/v1/me").insert_header(("origin", origin)).insert_header(("access-control-request-method", "PATCH"))
    };
    let preflight = call(&app, from("https://chat.example", "OPTIONS")).await;
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (204, "https://chat.example"));
    assert!(preflight.header("access-control-allow-methods").contains("PATCH"));
    for name in ["authorization", "idempotency-key", "if-match"] {
        assert!(preflight.header("access-control-allow-headers").contains(name), "{name}");
    }
    // Also an error can be read, and one that is given before anybody looked at the request.
    let refused = call(&app, from("https://chat.example", "GET")).await;
    refused.problem(401, "unauthorized");
    assert_eq!((refused.header("access-control-allow-credentials"), refused.header("vary")), ("true", "origin"));
    for method in ["OPTIONS", "GET"] {
        let other = call(&app, from("https://evil.example", method)).await;
        assert!(other.headers.keys().all(|name| !name.as_str().starts_with("access-control")), "{method}");
    }
}

#[actix_rt::test]
async fn every_answer_says_how_many_requests_are_left() {
    let w = world_with(|c| (c.limits.http_per_second, c.limits.requests_per_second) = (10, 1));
    let app = public!(w);
    let left = |r: &Reply| (r.header("ratelimit-limit").to_owned(), r.header("ratelimit-remaining").to_owned());
    let text = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let me = register!(app, "alice");
    assert_eq!(left(&me), text("100", "99"));
    let token = me.text("access_token");
    // Signed in, it is the user's bucket that has fewer.
    assert_eq!(left(&call(&app, with_token("GET", "/v1/me", &token)).await), text("10", "9"));
    for _ in 0..9 {
        call(&app, with_token("GET", "/v1/me", &token)).await;
    }
    let refused = call(&app, with_token("GET", "/v1/me", &token)).await;
    refused.problem(429, "rate_limited");
    assert_eq!((refused.header("ratelimit-remaining"), refused.header("ratelimit-reset")), ("0", refused.header("retry-after")));
}

/// A POST that creates, as handlers write them: counts how often it is done, and by which client ids.
#[derive(Default)]
struct Made {
    attempts: Mutex<Vec<Attempt>>,
    refuse: Mutex<Option<ApiError>>,
    slow: Mutex<Duration>,
}

async fn make(
    api: web::Data<Api>,
    made: web::Data<Made>,
    key: Key,
    error::OptionalBody(body): error::OptionalBody<Value>,
) -> Result<actix_web::HttpResponse, ApiError> {
    let head = made.attempts.lock().len() as Seq;
    key.once(&api, UserId(7), async move { Ok(head) }, move |attempt| async move {
        let slow = *made.slow.lock();
        tokio::time::sleep(slow).await;
        made.attempts.lock().push(attempt);
        match made.refuse.lock().clone() {
            Some(error) => Err(error),
            None => Ok(actix_web::HttpResponse::Created().insert_header(("location", "/here")).json(json!({ "made": body }))),
        }
    })
    .await
}

macro_rules! maker {
    ($world:expr, $made:expr) => {{
        let (api, made) = ($world.api.clone(), $made.clone());
        let routes = move |cfg: &mut web::ServiceConfig| {
            error::extractors(cfg, api.config.http.body_bytes_max);
            cfg.app_data(api).app_data(made).route("/make", web::post().to(make)).route("/other", web::post().to(make));
        };
        init_service(App::new().configure(routes)).await
    }};
}

fn keyed(path: &str, key: &str, body: Value) -> TestRequest {
    request("POST", path).insert_header(("idempotency-key", key)).set_json(body)
}

#[actix_rt::test]
async fn a_request_with_a_key_is_done_once_and_answered_alike() {
    let (w, made) = (world(), web::Data::new(Made::default()));
    let app = maker!(w, made);
    let first = call(&app, keyed("/make", "k1", json!({ "a": 1 }))).await;
    assert_eq!((first.status, first.header("idempotency-replayed")), (201, ""));
    for _ in 0..3 {
        let again = call(&app, keyed("/make", "k1", json!({ "a": 1 }))).await;
        assert_eq!((again.status, &again.body, again.header("location")), (201, &first.body, "/here"));
        assert_eq!((again.header("idempotency-replayed"), again.header("content-type")), ("true", "application/json"));
    }
    assert_eq!(made.attempts.lock().len(), 1);
    for other in
        [keyed("/make", "k1", json!({ "a": 2 })), keyed("/other", "k1", json!({ "a": 1 })), keyed("/make?x=1", "k1", json!({ "a": 1 }))]
    {
        call(&app, other).await.problem(409, "conflict");
    }
    assert_eq!(call(&app, keyed("/make", "k2", json!({ "a": 1 }))).await.status, 201);
    for _ in 0..2 {
        assert_eq!(call(&app, request("POST", "/make").set_json(json!({}))).await.status, 201, "without a key each is done");
    }
    let cids: BTreeSet<_> = made.attempts.lock().iter().map(|a| a.cid).collect();
    assert_eq!((made.attempts.lock().len(), cids.len()), (4, 4));
    for bad in ["", "a b", "ü", &"x".repeat(256)] {
        call(&app, keyed("/make", bad, json!({}))).await.problem(422, "invalid");
    }
    let two = keyed("/make", "k3", json!({})).append_header(("idempotency-key", "k4"));
    call(&app, two).await.problem(422, "invalid");
}

#[actix_rt::test]
async fn only_answers_that_stay_are_remembered() {
    let (w, made) = (world(), web::Data::new(Made::default()));
    let app = maker!(w, made);
    // Whether it took effect is not known: the next try must be under the same client id and `since`.
    *made.refuse.lock() = Some(ApiError::new(Code::Unknown, "who knows"));
    call(&app, keyed("/make", "k", json!({}))).await.problem(503, "unknown");
    *made.refuse.lock() = Some(ApiError::new(Code::Forbidden, "you may not"));
    call(&app, keyed("/make", "k", json!({}))).await.problem(403, "forbidden");
    *made.refuse.lock() = None;
    let again = call(&app, keyed("/make", "k", json!({}))).await;
    assert_eq!((again.status, again.header("idempotency-replayed"), again.text("code")), (403, "true", "forbidden".into()));
    let attempts = made.attempts.lock().clone();
    assert_eq!((attempts.len(), attempts[0], attempts[0].since), (2, attempts[1], 0));
}

#[actix_rt::test]
async fn a_repeat_while_the_first_is_answered_waits_and_a_client_that_hangs_up_stops_nothing() {
    let (w, made) = (world(), web::Data::new(Made::default()));
    let app = maker!(w, made);
    *made.slow.lock() = Duration::from_millis(300);
    let hung_up = tokio::time::timeout(Duration::from_millis(100), call(&app, keyed("/make", "k", json!({})))).await;
    assert!(hung_up.is_err());
    let busy = call(&app, keyed("/make", "k", json!({}))).await;
    busy.problem(409, "conflict");
    assert_eq!(busy.text("retry"), "later");
    assert!(busy.body["retry_after_ms"].as_u64().unwrap() > 0);
    tokio::time::sleep(Duration::from_millis(600)).await;
    let done = call(&app, keyed("/make", "k", json!({}))).await;
    assert_eq!((done.status, done.header("idempotency-replayed"), made.attempts.lock().len()), (201, "true", 1));
}

#[actix_rt::test]
async fn keys_of_a_user_are_bounded() {
    let (w, made) = (world_with(|c| c.limits.idempotency_keys_per_day = 2), web::Data::new(Made::default()));
    let app = maker!(w, made);
    for key in ["a", "b"] {
        assert_eq!(call(&app, keyed("/make", key, json!({}))).await.status, 201);
    }
    call(&app, keyed("/make", "c", json!({}))).await.problem(429, "rate_limited");
    assert_eq!(call(&app, keyed("/make", "a", json!({}))).await.status, 201, "a repeat is not a new key");
}
