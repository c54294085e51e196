//! ETags: a client that polls gets 304 while nothing has changed, and one that edits changes only what it has seen.
//!
//! A tag is a hash of the thing as it is shown, so nothing needs a version number. It is strong: equal tags are equal bytes.

use crate::error::{ApiError, Code};
use actix_web::dev::Payload;
use actix_web::http::header::{CacheControl, CacheDirective, ETag, EntityTag, Header, IfMatch, IfNoneMatch};
use actix_web::{FromRequest, HttpRequest, HttpResponse};
use base64::Engine;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::future::{Ready, ready};
use utoipa::IntoParams;

/// The conditions of a request; a handler of a single thing takes them.
#[derive(Default)]
pub struct Conditions {
    only_if: Option<IfMatch>,
    unless: Option<IfNoneMatch>,
}

/// The header of a read, for the document.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code)]
pub struct IfNoneMatchHeader {
    /// An `ETag` that was given before: 304 when the thing is still the same.
    #[param(rename = "If-None-Match")]
    if_none_match: Option<String>,
}

/// The header of a change, for the document.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code)]
pub struct IfMatchHeader {
    /// An `ETag` that was given before: 412 `precondition_failed` when the thing is no longer the same.
    #[param(rename = "If-Match")]
    if_match: Option<String>,
}

impl FromRequest for Conditions {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(read(req).and_then(|only_if| Ok(Conditions { only_if, unless: read(req)? })))
    }
}

fn read<H: Header>(req: &HttpRequest) -> Result<Option<H>, ApiError> {
    if !req.headers().contains_key(H::name()) {
        return Ok(None);
    }
    H::parse(req).map(Some).map_err(|_| ApiError::new(Code::Invalid, format!("{}: not a list of entity tags", H::name())))
}

impl Conditions {
    /// Shows the thing with its tag, or says that the client has it already.
    pub fn show<T: Serialize>(&self, thing: &T) -> HttpResponse {
        let (body, tag) = tagged(thing);
        let same = match &self.unless {
            None => false,
            Some(IfNoneMatch::Any) => true,
            Some(IfNoneMatch::Items(tags)) => tags.iter().any(|t| t.weak_eq(&tag)),
        };
        let mut response = if same { HttpResponse::NotModified() } else { HttpResponse::Ok() };
        // It may be kept by the one client, and is asked for again before it is used.
        response.insert_header(ETag(tag)).insert_header(CacheControl(vec![CacheDirective::Private, CacheDirective::NoCache]));
        if same { response.finish() } else { response.content_type("application/json").body(body) }
    }

    /// Whether a change may be made only to what the client has seen.
    pub fn is_conditional(&self) -> bool {
        self.only_if.is_some()
    }

    /// Whether the thing, as it is shown now, may be changed by this request.
    pub fn allow<T: Serialize>(&self, thing: &T) -> Result<(), ApiError> {
        let allowed = match &self.only_if {
            None | Some(IfMatch::Any) => true,
            Some(IfMatch::Items(tags)) => {
                let (_, tag) = tagged(thing);
                tags.iter().any(|t| t.strong_eq(&tag))
            }
        };
        let changed = || ApiError::new(Code::PreconditionFailed, "it was changed since you read it (if-match); read it again");
        if allowed { Ok(()) } else { Err(changed()) }
    }
}

fn tagged<T: Serialize>(thing: &T) -> (Vec<u8>, EntityTag) {
    let body = serde_json::to_vec(thing).expect("what is shown is plain data, which is JSON");
    let hash = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&Sha256::digest(&body)[..16]);
    (body, EntityTag::new_strong(hash))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use actix_web::http::header;
    use actix_web::test::TestRequest;

    fn conditions(name: &str, value: &str) -> Result<Conditions, ApiError> {
        let req = TestRequest::default().insert_header((name, value)).to_http_request();
        Conditions::from_request(&req, &mut Payload::None).into_inner()
    }

    #[test]
    fn a_reader_gets_the_thing_once_and_then_304_until_it_changes() {
        let first = Conditions::default().show(&"a");
        let tag = first.headers().get(header::ETAG).unwrap().to_str().unwrap().to_owned();
        assert_eq!(
            (first.status().as_u16(), first.headers().get(header::CACHE_CONTROL).unwrap()),
            (200, &header::HeaderValue::from_static("private, no-cache"))
        );
        for same in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".into()] {
            let again = conditions("if-none-match", &same).unwrap().show(&"a");
            assert_eq!((again.status().as_u16(), again.headers().get(header::ETAG).unwrap().to_str().unwrap()), (304, &*tag), "{same}");
        }
        assert_eq!(conditions("if-none-match", &tag).unwrap().show(&"b").status(), 200);
    }

    #[test]
    fn a_writer_changes_only_what_it_has_seen() {
        let tag = tagged(&"a").1.to_string();
        for fine in [tag.as_str(), "*", &format!("\"x\", {tag}")] {
            assert!(conditions("if-match", fine).unwrap().allow(&"a").is_ok(), "{fine}");
        }
        for stale in ["\"x\"", "no tag", &format!("W/{tag}")] {
            let refused = conditions("if-match", stale).unwrap().allow(&"a").unwrap_err();
            assert_eq!((refused.code, refused.code.status()), (Code::PreconditionFailed, 412), "{stale}");
        }
        assert!(Conditions::default().allow(&"a").is_ok());
    }
}
