//! Every error body of the HTTP API: problem+json (RFC 9457) with our own `code`, `retry` and `retry_after_ms` beside the standard members.
//!
//! Also what turns requests into values, because that is where most errors begin: [`Body`] reads JSON within the size and
//! time a body may take, and all extractors answer in the same form.

use super::Api;
use crate::error::{ApiError, Code};
use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{FromRequest, HttpMessage, HttpRequest, HttpResponse, ResponseError, web};
use futures_util::future::LocalBoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::time::Duration;
use utoipa::ToSchema;

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Media type of error bodies.
pub const PROBLEM: &str = "application/problem+json";

/// Every error (RFC 9457).
#[derive(Serialize, ToSchema)]
pub struct Problem<'a> {
    /// Always `about:blank`: `code` says more than an address could.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'a str,
    /// The HTTP status.
    status: u16,
    /// For people: what is wrong and what can be done.
    detail: &'a str,
    /// For programs.
    code: Code,
    /// Whether and when the same request may succeed.
    retry: crate::error::Retry,
    /// Milliseconds to wait before trying again, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    /// With `mfa_required`: what the second step of the sign-in needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    mfa_token: Option<&'a str>,
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        answer(self, None)
    }
}

/// The answer to a right password of an account with a second factor.
pub fn mfa_required(token: &str) -> HttpResponse {
    answer(&ApiError::new(Code::MfaRequired, "a code of the second factor is needed: /v1/auth/login/mfa"), Some(token))
}

fn answer(error: &ApiError, mfa_token: Option<&str>) -> HttpResponse {
    let status = error.status_code();
    let mut response = HttpResponse::build(status);
    response.insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff")).insert_header((header::CACHE_CONTROL, "no-store"));
    if status == StatusCode::UNAUTHORIZED {
        let challenge = match error.code {
            Code::TokenExpired | Code::TokenRevoked => r#"Bearer realm="hubbub", error="invalid_token""#,
            _ => r#"Bearer realm="hubbub""#,
        };
        response.insert_header((header::WWW_AUTHENTICATE, challenge));
    }
    if let Some(ms) = error.retry_after_ms {
        response.insert_header((header::RETRY_AFTER, ms.div_ceil(1000).max(1)));
    }
    let body = Problem {
        kind: "about:blank",
        title: status.canonical_reason().unwrap_or("Error"),
        status: status.as_u16(),
        detail: &error.message,
        code: error.code,
        retry: error.retry,
        retry_after_ms: error.retry_after_ms,
        mfa_token,
    };
    let json = serde_json::to_vec(&body).expect("a problem of plain types is JSON");
    response.content_type(PROBLEM).body(json)
}

/// There is nothing at this address.
pub async fn not_found() -> Result<HttpResponse, ApiError> {
    Err(ApiError::new(Code::NotFound, "there is nothing at this address"))
}

/// An answer to a method that the address does not have; OPTIONS asks which it has.
pub fn other_method(method: &Method, allow: &'static str) -> HttpResponse {
    let mut response = match *method {
        Method::OPTIONS => HttpResponse::NoContent().finish(),
        _ => ApiError::new(Code::MethodNotAllowed, format!("{method} is not for this address; allowed: {allow}")).error_response(),
    };
    if let Ok(allow) = HeaderValue::from_str(&format!("{allow}, OPTIONS")) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

/// Makes the errors of path and query extractors problems too.
pub fn extractors(cfg: &mut web::ServiceConfig, body_bytes_max: usize) {
    cfg.app_data(web::PayloadConfig::new(body_bytes_max))
        .app_data(web::PathConfig::default().error_handler(|_, _| ApiError::new(Code::NotFound, "there is nothing at this address").into()))
        .app_data(
            web::QueryConfig::default()
                .error_handler(|e, _| ApiError::new(Code::Malformed, format!("the query cannot be read: {e}")).into()),
        );
}

/// A JSON body.
pub struct Body<T>(pub T);

/// A JSON body that may be left out, or `null`.
pub struct OptionalBody<T>(pub T);

/// SHA-256 of a request's body, in the request's extensions once [`Body`] or [`OptionalBody`] has read it. Only where it will be needed:
/// with an `Idempotency-Key`.
#[derive(Clone, Copy)]
pub struct BodyHash(pub [u8; 32]);

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (json, bytes) = (is_json(req), read(req, payload));
        Box::pin(async move {
            let bytes = bytes.await?;
            if !json {
                return Err(ApiError::new(Code::Malformed, "the body must be JSON, with content-type application/json"));
            }
            no_list(&bytes)?;
            parse(&bytes).map(Body)
        })
    }
}

impl<T: DeserializeOwned + Default + 'static> FromRequest for OptionalBody<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (json, bytes) = (is_json(req), read(req, payload));
        Box::pin(async move {
            let bytes = bytes.await?;
            if bytes.is_empty() {
                return Ok(OptionalBody(T::default()));
            }
            if !json {
                return Err(ApiError::new(Code::Malformed, "the body must be JSON, with content-type application/json"));
            }
            no_list(&bytes)?;
            parse::<Option<T>>(&bytes).map(|body| OptionalBody(body.unwrap_or_default()))
        })
    }
}

fn read(req: &HttpRequest, payload: &mut Payload) -> impl Future<Output = Result<web::Bytes, ApiError>> + use<> {
    let bytes = web::Bytes::from_request(req, payload);
    let max = req.app_data::<web::Data<Api>>().map_or(0, |api| api.config.http.body_bytes_max);
    let hashed = req.headers().contains_key(super::idempotency::HEADER).then(|| req.clone());
    async move {
        let late = |_| ApiError::new(Code::Timeout, "the body took too long to arrive");
        let bytes = tokio::time::timeout(BODY_TIMEOUT, bytes).await.map_err(late)?.map_err(|e| match e.as_error::<PayloadError>() {
            Some(PayloadError::Overflow) => ApiError::new(Code::TooLarge, format!("a body has at most {max} bytes")),
            _ => ApiError::new(Code::Malformed, "the body could not be read"),
        })?;
        if let Some(req) = hashed {
            req.extensions_mut().insert(BodyHash(Sha256::digest(&bytes).into()));
        }
        Ok(bytes)
    }
}

fn is_json(req: &HttpRequest) -> bool {
    req.content_type().eq_ignore_ascii_case("application/json")
}

/// serde would take a list as the fields of an object in their order, which nobody means and no document says.
fn no_list(bytes: &[u8]) -> Result<(), ApiError> {
    let list = bytes.trim_ascii_start().starts_with(b"[");
    if list { Err(ApiError::new(Code::Malformed, "the body must be a JSON object")) } else { Ok(()) }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).or_else(|error| {
        // JSON has one kind of number: 3.0 is as whole as 3. Seldom written so, thus looked for only when reading failed.
        serde_json::from_slice(&wholes(bytes)).map_err(|_| ApiError::new(Code::Malformed, format!("the body cannot be read: {error}")))
    })
}

/// The same JSON, where whole numbers with a fraction or an exponent are written without.
fn wholes(json: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::with_capacity(json.len()), 0);
    let (mut quoted, mut escaped) = (false, false);
    while let Some(byte) = json.get(at) {
        let token = match byte {
            b'-' | b'0'..=b'9' if !quoted => json[at..].split(|b| !b.is_ascii_alphanumeric() && !b"+-.".contains(b)).next(),
            _ => None,
        };
        match token {
            Some(token) => {
                out.extend(whole(token).as_deref().unwrap_or(token));
                at += token.len();
            }
            None => {
                quoted ^= *byte == b'"' && !escaped;
                escaped = quoted && *byte == b'\\' && !escaped;
                out.push(*byte);
                at += 1;
            }
        }
    }
    out
}

/// A number with a fraction or an exponent that is whole, as an integer of 64 bits.
fn whole(number: &[u8]) -> Option<Vec<u8>> {
    const END: f64 = u64::MAX as f64;
    let text = std::str::from_utf8(number).ok().filter(|text| text.contains(['.', 'e', 'E']))?;
    let number: f64 = text.parse().ok()?;
    (number.fract() == 0.0 && number.abs() < END).then(|| format!("{number:.0}").into_bytes())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_number_is_whole_however_it_is_written_and_another_is_not() {
        for same in ["[7, null]", "[7.0, null]", "[0.7e1,null]", "[ 70E-1 ,7e0]"] {
            assert_eq!(parse::<(u64, Option<u64>)>(same.as_bytes()).unwrap().0, 7, "{same}");
        }
        assert_eq!(parse::<u64>(b"2251799813685247.0").unwrap(), 2_251_799_813_685_247);
        assert_eq!(parse::<(String, u64)>(br#"["a \"1.0\\", 2.0]"#).unwrap(), ("a \"1.0\\".into(), 2), "texts stay");
        for other in ["[7.5, null]", "[-7.0, null]", "[1e300, null]", "[\"7.0\", null]"] {
            assert_eq!(parse::<(u64, Option<u64>)>(other.as_bytes()).unwrap_err().code, Code::Malformed, "{other}");
        }
    }
}
