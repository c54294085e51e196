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
use serde_json::Value;
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
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let status = self.status_code();
        let mut response = HttpResponse::build(status);
        response.insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff")).insert_header((header::CACHE_CONTROL, "no-store"));
        if status == StatusCode::UNAUTHORIZED {
            let challenge = match self.code {
                Code::TokenExpired | Code::TokenRevoked => r#"Bearer realm="hubbub", error="invalid_token""#,
                _ => r#"Bearer realm="hubbub""#,
            };
            response.insert_header((header::WWW_AUTHENTICATE, challenge));
        }
        if let Some(ms) = self.retry_after_ms {
            response.insert_header((header::RETRY_AFTER, ms.div_ceil(1000).max(1)));
        }
        let body = Problem {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: &self.message,
            code: self.code,
            retry: self.retry,
            retry_after_ms: self.retry_after_ms,
        };
        let json = serde_json::to_vec(&body).expect("a problem of plain types is JSON");
        response.content_type(PROBLEM).body(json)
    }
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

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).or_else(|error| {
        // JSON has one kind of number: 3.0 is as whole as 3. Seldom written so, thus looked for only when reading failed.
        let whole = serde_json::from_slice(bytes).ok().and_then(|mut value| wholes(&mut value).then_some(value));
        let again = whole.and_then(|value| serde_json::from_value(value).ok());
        again.ok_or_else(|| ApiError::new(Code::Malformed, format!("the body cannot be read: {error}")))
    })
}

/// Makes integers of numbers that are written with a fraction and have none; false when there are no such numbers.
fn wholes(value: &mut Value) -> bool {
    /// Up to here (2^53) a floating point number has one meaning.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) => match number.as_f64().filter(|n| number.is_f64() && n.fract() == 0.0 && n.abs() <= EXACT) {
            Some(whole) => {
                *number = (whole as i64).into();
                true
            }
            None => false,
        },
        Value::Array(list) => list.iter_mut().fold(false, |any, v| wholes(v) | any),
        Value::Object(object) => object.values_mut().fold(false, |any, v| wholes(v) | any),
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_number_is_whole_however_it_is_written_and_another_is_not() {
        for same in ["[7, null]", "[7.0, null]", "[0.7e1, null]"] {
            assert_eq!(parse::<(u64, Option<u64>)>(same.as_bytes()).unwrap(), (7, None), "{same}");
        }
        for other in ["[7.5, null]", "[-7.0, null]", "[1e300, null]", "[\"7.0\", null]"] {
            assert_eq!(parse::<(u64, Option<u64>)>(other.as_bytes()).unwrap_err().code, Code::Malformed, "{other}");
        }
    }
}
