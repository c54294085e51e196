//! Which pages of other origins may read answers: those of `http.origins`, with credentials. A page of the server's own origin needs no leave.
//!
//! An origin that is not allowed is answered like a program that sends none, without a word about origins: the browser then keeps the
//! answer from the page. What a page could *do* by such a request is guarded where cookies are taken, not here.

use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// What pages may send beside what they always may.
const REQUEST_HEADERS: &str = "authorization, content-type, idempotency-key, if-match, if-none-match, hubbub-as, hubbub-csrf";
/// What pages may read beside what they always may.
const RESPONSE_HEADERS: &str =
    "allow, etag, idempotency-replayed, location, ratelimit-limit, ratelimit-remaining, ratelimit-reset, retry-after";
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
/// Seconds that a browser may remember a preflight's answer.
const MAX_AGE_S: &str = "600";

/// Whether an `Origin` is one that is configured; `*` allows all.
pub fn configured(origin: &str, origins: &[String]) -> bool {
    origins.iter().any(|o| o == "*" || o.eq_ignore_ascii_case(origin))
}

/// The headers that the answer to a request gets.
pub fn headers(method: &Method, request: &HeaderMap, origins: &[String]) -> Vec<(HeaderName, HeaderValue)> {
    // Also without an origin: a cache must not give a program's answer to a page.
    let mut found = vec![(header::VARY, HeaderValue::from_static("origin"))];
    let Some(origin) = request.get(header::ORIGIN) else { return found };
    if !origin.to_str().is_ok_and(|origin| configured(origin, origins)) {
        return found;
    }
    found.push((header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()));
    let mut say = |name, value| found.push((name, HeaderValue::from_static(value)));
    say(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
    say(header::ACCESS_CONTROL_EXPOSE_HEADERS, RESPONSE_HEADERS);
    if method == Method::OPTIONS && request.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
        say(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        say(header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
        say(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_S);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(method: Method, origin: Option<&'static str>, origins: &[&str]) -> Vec<String> {
        let mut request = HeaderMap::new();
        if let Some(origin) = origin {
            request.insert(header::ORIGIN, HeaderValue::from_static(origin));
        }
        request.insert(header::ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("PATCH"));
        let origins: Vec<String> = origins.iter().map(|o| o.to_string()).collect();
        headers(&method, &request, &origins).into_iter().map(|(name, _)| name.to_string()).collect()
    }

    #[test]
    fn only_configured_origins_are_told_anything() {
        let mine = ["https://chat.example"];
        let read = ["vary", "access-control-allow-origin", "access-control-allow-credentials", "access-control-expose-headers"];
        assert_eq!(answer(Method::GET, Some("https://chat.example"), &mine), read);
        assert_eq!(answer(Method::GET, Some("https://any.example"), &["*"]), read);
        assert_eq!(answer(Method::OPTIONS, Some("https://chat.example"), &mine).len(), read.len() + 3);
        for origin in [None, Some("https://evil.example"), Some("null"), Some("https://chat.example.evil.example")] {
            assert_eq!(answer(Method::OPTIONS, origin, &mine), ["vary"], "{origin:?}");
        }
        assert_eq!(answer(Method::GET, Some("https://chat.example"), &[]), ["vary"]);
    }
}
