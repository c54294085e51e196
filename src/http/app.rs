//! The web app: the files of `web/dist/app`, embedded in the binary when it is built, and what browsers need to know of them.
//!
//! An address that is no file and no part of the API is a place within the app, and gets its page. Files whose names carry a hash of
//! their content are kept by browsers for good; everything else is asked for again, with an ETag. What was compressed when the app was
//! built is sent so to whoever takes it. A binary that was built without the app says how to build it.

use super::{api_of, error};
use crate::error::ApiError;
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse};
use rust_embed::RustEmbed;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::path::{Component, Path};

/// What the app may load and talk to: itself. Nothing inline, nothing from elsewhere: pictures of other hosts would tell them who reads.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; \
    font-src 'self'; connect-src 'self'; manifest-src 'self'; worker-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// What the app asks the browser for; all else is off.
const PERMISSIONS: &str = "camera=(self), microphone=(self), geolocation=(), payment=(), usb=()";
/// The app's page.
const PAGE: &str = "index.html";
/// The folder whose files' names carry a hash.
const HASHED: &str = "assets/";
/// For good, as far as browsers know that.
const FOR_GOOD: &str = "public, max-age=31536000, immutable";
/// Addresses that are never the app's: a mistyped one is to be told so.
const NOT_THE_APP: &[&str] = &["v1", "admin", "livez", "readyz", "metrics"];

#[derive(RustEmbed)]
#[folder = "$CARGO_MANIFEST_DIR/web/dist/app"]
#[allow_missing = true]
struct Built;

/// A file of the app.
struct File {
    bytes: Cow<'static, [u8]>,
    hash: [u8; 32],
}

/// Where the files come from: by name.
type Files<'a> = &'a dyn Fn(&str) -> Option<File>;

fn built(name: &str) -> Option<File> {
    Built::get(name).map(|file| File { hash: file.metadata.sha256_hash(), bytes: file.data })
}

/// A file of a directory, for working on the app (`dev.app_dir`): read anew each time.
fn in_dir(dir: &Path, name: &str) -> Option<File> {
    let within = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    let bytes = std::fs::read(dir.join(name)).ok().filter(|_| within)?;
    Some(File { hash: Sha256::digest(&bytes).into(), bytes: bytes.into() })
}

/// What a browser said about what it has and takes.
#[derive(Default)]
struct Browser<'a> {
    accept_encoding: &'a str,
    if_none_match: &'a str,
}

/// Everything that has no route of its own.
pub async fn serve(req: HttpRequest) -> Result<HttpResponse, ApiError> {
    let path = req.path().trim_start_matches('/');
    if NOT_THE_APP.contains(&path.split('/').next().unwrap_or_default()) {
        return error::not_found().await;
    }
    if !matches!(*req.method(), Method::GET | Method::HEAD) {
        return Ok(error::other_method(req.method(), "GET, HEAD"));
    }
    let said = |name| req.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let browser = Browser { accept_encoding: said(header::ACCEPT_ENCODING), if_none_match: said(header::IF_NONE_MATCH) };
    let dir = &api_of(&req)?.config.dev.app_dir;
    let response =
        if dir.as_os_str().is_empty() { answer(&built, path, &browser) } else { answer(&|name| in_dir(dir, name), path, &browser) };
    match response {
        Some(response) => Ok(response),
        None => error::not_found().await,
    }
}

/// The answer to a path; `None` when there is nothing.
fn answer(files: Files, path: &str, browser: &Browser) -> Option<HttpResponse> {
    if files(PAGE).is_none() {
        return (path.is_empty() || is_place(path)).then(not_built);
    }
    let name = if !path.is_empty() && files(path).is_some() {
        path
    } else if path.is_empty() || is_place(path) {
        PAGE
    } else {
        return None;
    };
    let (file, encoding) = packed(files, name, browser.accept_encoding)?;
    // Each encoding is a body of its own, so the tag tells them apart.
    let tag = format!("\"{}{}\"", hex::encode(&file.hash[..12]), encoding.unwrap_or_default());
    let known = browser.if_none_match.split(',').any(|t| t.trim().trim_start_matches("W/") == tag);
    let mut response = HttpResponse::build(if known { StatusCode::NOT_MODIFIED } else { StatusCode::OK });
    response
        .insert_header((header::ETAG, tag))
        .insert_header((header::VARY, "accept-encoding"))
        .insert_header((header::CACHE_CONTROL, if name.starts_with(HASHED) { FOR_GOOD } else { "no-cache" }));
    security(&mut response);
    if known {
        return Some(response.finish());
    }
    if let Some(encoding) = encoding {
        response.insert_header((header::CONTENT_ENCODING, encoding));
    }
    Some(response.content_type(media_type(name)).body(file.bytes.into_owned()))
}

/// The file as the browser takes it, and how it is packed. The build leaves `name.br` and `name.gz` beside what gets smaller.
fn packed(files: Files, name: &str, accepted: &str) -> Option<(File, Option<&'static str>)> {
    let takes = |encoding: &str| accepted.split(',').any(|a| a.split(';').next().is_some_and(|a| a.trim() == encoding));
    for (encoding, ending) in [("br", "br"), ("gzip", "gz")] {
        if takes(encoding)
            && let Some(file) = files(&format!("{name}.{ending}"))
        {
            return Some((file, Some(encoding)));
        }
    }
    files(name).map(|file| (file, None))
}

/// Whether a path is a place within the app (`r/5/17`) rather than a file that is missing (`logo.png`).
fn is_place(path: &str) -> bool {
    !path.starts_with(HASHED) && !path.rsplit('/').next().unwrap_or_default().contains('.')
}

fn media_type(name: &str) -> HeaderValue {
    let guessed = match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("webmanifest") => "application/manifest+json".to_owned(),
        Some("html") => "text/html; charset=utf-8".to_owned(),
        Some("js") => "text/javascript; charset=utf-8".to_owned(),
        Some("css") => "text/css; charset=utf-8".to_owned(),
        _ => mime_guess::from_path(name).first_or_octet_stream().to_string(),
    };
    HeaderValue::from_str(&guessed).unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"))
}

fn security(response: &mut actix_web::HttpResponseBuilder) {
    response
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .insert_header(("permissions-policy", PERMISSIONS))
        .insert_header(("cross-origin-opener-policy", "same-origin"));
}

/// What a binary without the app serves in its place.
fn not_built() -> HttpResponse {
    const TEXT: &str = "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
        <title>Hubbub</title>\n<h1>Hubbub</h1>\n<p>The server runs, but this binary was built without the web app. To have it: install \
        Node.js 20 or newer with npm, and start the server with <code>make run</code>, which builds the app first; or run \
        <code>scripts/web build</code> and then <code>cargo build</code> again.</p>\n<p>Programs talk to the server over the WebSocket at \
        <code>/v1/socket</code> and over HTTP under <code>/v1</code>: <code>docs/PROTOCOL.md</code> in its source tree has the words.</p>\n</html>\n";
    let mut response = HttpResponse::Ok();
    security(&mut response);
    response.insert_header((header::CACHE_CONTROL, "no-store")).content_type("text/html; charset=utf-8").body(TEXT)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use actix_web::body::{MessageBody, to_bytes};

    fn some(name: &str) -> Option<File> {
        let text = match name {
            "index.html" => "page",
            "index.html.br" => "packed page",
            "assets/a-1234.js" => "script",
            "sw.js" => "worker",
            _ => return None,
        };
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&text.as_bytes()[..4]);
        Some(File { bytes: Cow::Borrowed(text.as_bytes()), hash })
    }

    fn get<'a>(response: &'a HttpResponse, name: &str) -> &'a str {
        response.headers().get(name).map_or("", |v| v.to_str().unwrap())
    }

    async fn text(response: HttpResponse) -> String {
        String::from_utf8(to_bytes(response.into_body().boxed()).await.unwrap().to_vec()).unwrap()
    }

    #[actix_web::test]
    async fn a_place_within_the_app_gets_the_page_and_a_missing_file_nothing() {
        let plain = Browser::default();
        for place in ["", "r/5", "r/5/17", "invite/abc"] {
            let response = answer(&some, place, &plain).unwrap();
            assert_eq!(get(&response, "content-type"), "text/html; charset=utf-8");
            assert_eq!(text(response).await, "page", "{place}");
        }
        for missing in ["logo.png", "assets/old-1.js", "assets/no-ending", "../Cargo.toml"] {
            assert!(answer(&some, missing, &plain).is_none(), "{missing}");
        }
    }

    #[actix_web::test]
    async fn only_hashed_names_are_kept_for_good() {
        let plain = Browser::default();
        assert_eq!(get(&answer(&some, "assets/a-1234.js", &plain).unwrap(), "cache-control"), FOR_GOOD);
        for changing in ["", "sw.js"] {
            assert_eq!(get(&answer(&some, changing, &plain).unwrap(), "cache-control"), "no-cache");
        }
    }

    #[actix_web::test]
    async fn the_packed_form_goes_to_who_takes_it_and_its_tag_is_its_own() {
        let packed = answer(&some, "", &Browser { accept_encoding: "gzip, br;q=0.9", if_none_match: "" }).unwrap();
        assert_eq!(get(&packed, "content-encoding"), "br");
        let tag = get(&packed, "etag").to_owned();
        assert_eq!(text(packed).await, "packed page");
        let again = answer(&some, "", &Browser { accept_encoding: "br", if_none_match: &tag }).unwrap();
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        let plain = answer(&some, "", &Browser { accept_encoding: "", if_none_match: &tag }).unwrap();
        assert_eq!(plain.status(), StatusCode::OK);
        assert_eq!(get(&plain, "content-encoding"), "");
    }

    #[actix_web::test]
    async fn no_policy_lets_anything_inline_or_foreign_in() {
        let response = answer(&some, "", &Browser::default()).unwrap();
        let policy = get(&response, "content-security-policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        assert!(!policy.contains("unsafe") && !policy.contains("https:") && !policy.contains('*'), "{policy}");
    }

    #[test]
    fn a_directory_gives_what_is_in_it_and_nothing_above() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("app")).unwrap();
        std::fs::write(dir.path().join("secret"), "no").unwrap();
        std::fs::write(dir.path().join("app/index.html"), "page").unwrap();
        let app = dir.path().join("app");
        assert_eq!(&*in_dir(&app, "index.html").unwrap().bytes, b"page");
        for name in ["../secret", "/etc/hostname", "./../secret", "missing", ""] {
            assert!(in_dir(&app, name).is_none(), "{name}");
        }
    }

    #[actix_web::test]
    async fn without_the_app_the_page_says_how_to_build_it() {
        let none = |_: &str| None;
        let response = answer(&none, "", &Browser::default()).unwrap();
        assert!(text(response).await.contains("make run"));
        assert!(answer(&none, "assets/a-1234.js", &Browser::default()).is_none());
    }
}
