//! The headers that every answer carries to protect who gets it. A handler that needs another value sets its own first.

use super::peer;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// For answers that are no pages: a browser that shows one loads and runs nothing, and no page frames it.
const CLOSED: &str = "default-src 'none'; frame-ancestors 'none'";
/// Puts what is not there yet. `hsts_s`: how long a browser shall come back by TLS only; told only where it came by TLS (RFC 6797, 7.2).
pub fn protect<B: MessageBody>(response: &mut ServiceResponse<B>, hsts_s: u64) {
    let secure = hsts_s > 0 && peer::client(response.request()).secure;
    let headers = response.headers_mut();
    put(headers, header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    put(headers, header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    put(headers, header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CLOSED));
    put(headers, header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    // Answers are personal or change at once; tokens must never be kept by anything in between.
    put(headers, header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if secure && let Ok(value) = HeaderValue::from_str(&format!("max-age={hsts_s}")) {
        put(headers, header::STRICT_TRANSPORT_SECURITY, value);
    }
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    if !headers.contains_key(&name) {
        headers.insert(name, value);
    }
}

/// Whether a request changes nothing by its method.
pub fn is_safe(req: &ServiceRequest) -> bool {
    req.method().is_safe()
}
