//! The refresh token as a cookie, for web pages: out of the reach of their scripts, and of other sites.
//!
//! The cookie is `HttpOnly`, `SameSite=Strict`, `Path=/v1/auth`, and `Secure` unless the page itself came from this machine in the clear. A request
//! that gets or sends it must have an Origin that is allowed (the server's own, or of `http.origins`) and the header `Hubbub-CSRF`, which no
//! page of another origin can set without being allowed to: each of the three would do, and none is relied on alone.

use super::Api;
use super::peer::{self, origin_allowed};
use crate::error::{ApiError, Code};
use crate::protocol::ids::Millis;
use actix_web::cookie::time::Duration;
use actix_web::cookie::{Cookie, SameSite};
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponseBuilder};

/// The cookie's name.
pub const NAME: &str = "hubbub_refresh";
/// The header that requests with the cookie carry.
pub const CSRF_HEADER: &str = "hubbub-csrf";
/// Where browsers send it to: nowhere but to where tokens are given out.
const PATH: &str = "/v1/auth";

/// Whether a request may get or use the cookie.
pub fn allowed(req: &HttpRequest, api: &Api) -> Result<(), ApiError> {
    let refused = |what| Err(ApiError::new(Code::Forbidden, what));
    if !req.headers().contains_key(CSRF_HEADER) {
        return refused("requests with the refresh cookie need the header Hubbub-CSRF: 1");
    }
    if !req.headers().contains_key(header::ORIGIN) || !origin_allowed(req, &api.config.http.origins) {
        return refused("pages of this origin may not use the refresh cookie (http.origins)");
    }
    Ok(())
}

/// The refresh token of the request's cookie.
pub fn of(req: &HttpRequest) -> Option<String> {
    req.cookie(NAME).map(|cookie| cookie.value().to_owned())
}

/// Whether the request carries the cookie.
pub fn is_sent(req: &HttpRequest) -> bool {
    req.cookie(NAME).is_some()
}

/// Puts the token into the answer's cookie, for as long as it lives.
pub fn put(answer: &mut HttpResponseBuilder, req: &HttpRequest, token: &str, lives_ms: Millis) {
    let seconds = i64::try_from(lives_ms / 1000).unwrap_or(i64::MAX);
    answer.cookie(cookie(req, token, seconds));
}

/// Takes the cookie away.
pub fn take(answer: &mut HttpResponseBuilder, req: &HttpRequest) {
    answer.cookie(cookie(req, "", 0));
}

fn cookie(req: &HttpRequest, value: &str, seconds: i64) -> Cookie<'static> {
    Cookie::build(NAME, value.to_owned())
        .http_only(true)
        .same_site(SameSite::Strict)
        .path(PATH)
        .secure(!is_plain_loopback(req))
        .max_age(Duration::seconds(seconds))
        .finish()
}

/// The page is one of this machine, without TLS: there `Secure` would keep some browsers from taking the cookie, and nobody listens.
fn is_plain_loopback(req: &HttpRequest) -> bool {
    let client = peer::client(req);
    let text = |name| req.headers().get(name).and_then(|v: &header::HeaderValue| v.to_str().ok());
    let plain = !client.secure && text(header::ORIGIN).is_some_and(|origin| origin.starts_with("http://"));
    let host = client.host.as_deref().or(text(header::HOST)).unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|h| h.split_once(']')).map_or_else(|| host.split(':').next().unwrap_or(host), |(h, _)| h);
    let loopback = host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback());
    plain && loopback
}
