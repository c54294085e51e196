//! The few HTTP calls a client needs around its socket: accounts, tokens, contacts; and the operator's for load tests.
//!
//! `ureq` blocks, so every call runs on tokio's blocking pool, with a time limit of its own.

use super::ClientError;
use crate::error::{ApiError, Code};
use crate::protocol::ids::{DeviceId, Millis, UserId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// What signing in gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SignedIn {
    /// Who.
    pub user: UserId,
    /// The account's name.
    pub name: String,
    /// On which device.
    pub device: DeviceId,
    /// For the socket and the API.
    pub access_token: String,
    /// When it ends.
    pub expires: Millis,
    /// For one call of [`Rest::refresh`].
    pub refresh_token: String,
    /// When it ends.
    pub refresh_expires: Millis,
}

/// A user as others find it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UserFound {
    /// Who.
    pub user: UserId,
    /// The account's name.
    pub name: String,
    /// The name to show.
    #[serde(default)]
    pub display_name: String,
    /// Where the picture is; empty: nowhere.
    #[serde(default)]
    pub avatar_url: String,
    /// Status text.
    #[serde(default)]
    pub status: String,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// The `cursor` of the next page; none: this is the last one.
    #[serde(default)]
    pub next: Option<String>,
}

/// A server's HTTP API.
#[derive(Clone)]
pub struct Rest {
    base: String,
    agent: ureq::Agent,
}

impl Rest {
    /// For the server at `base` (`http://host:port`).
    pub fn new(base: &str) -> Rest {
        let agent = ureq::Agent::config_builder().timeout_global(Some(CALL_TIMEOUT)).http_status_as_error(false).build().into();
        Rest { base: http_base(base), agent }
    }

    /// Makes an account and signs in.
    pub async fn register(&self, name: &str, password: &str) -> Result<SignedIn, ClientError> {
        self.post("/v1/auth/register", None, json!({"name": name, "password": password})).await
    }
    /// Signs in.
    pub async fn login(&self, name: &str, password: &str) -> Result<SignedIn, ClientError> {
        self.post("/v1/auth/login", None, json!({"name": name, "password": password})).await
    }
    /// A new access and refresh token for a refresh token, which is used up by it.
    pub async fn refresh(&self, refresh_token: &str) -> Result<SignedIn, ClientError> {
        self.post("/v1/auth/refresh", None, json!({"refresh_token": refresh_token})).await
    }
    /// The user of that name.
    pub async fn by_name(&self, token: &str, name: &str) -> Result<UserFound, ClientError> {
        self.call("GET", &format!("/v1/users/by-name/{}", escape(name)), Some(token), None).await
    }
    /// The user of that id.
    pub async fn user(&self, token: &str, user: UserId) -> Result<UserFound, ClientError> {
        self.call("GET", &format!("/v1/users/{user}"), Some(token), None).await
    }
    /// Everybody to whom the user stands somehow (contacts, requests, blocks).
    pub async fn contacts(&self, token: &str) -> Result<Vec<UserFound>, ClientError> {
        self.list("/v1/contacts", token).await
    }
    /// All items of a list, page by page; the server bounds how many there can be.
    pub async fn list<T: DeserializeOwned + Send + 'static>(&self, path: &str, token: &str) -> Result<Vec<T>, ClientError> {
        let mut items = Vec::new();
        let mut at = format!("{path}?limit=200");
        loop {
            let page: Page<T> = self.call("GET", &at, Some(token), None).await?;
            items.extend(page.items);
            match page.next {
                Some(next) => at = format!("{path}?limit=200&cursor={}", escape(&next)),
                None => return Ok(items),
            }
        }
    }
    /// Makes a user a contact.
    pub async fn add_contact(&self, token: &str, user: UserId) -> Result<(), ClientError> {
        self.call::<Value>("PUT", &format!("/v1/contacts/{user}"), Some(token), None).await.map(drop)
    }
    /// POSTs JSON and reads the answer as JSON.
    pub async fn post<T: DeserializeOwned + Send + 'static>(&self, path: &str, token: Option<&str>, body: Value) -> Result<T, ClientError> {
        self.call("POST", path, token, Some(body)).await
    }

    /// Any call; an empty answer reads as `null`.
    pub async fn call<T: DeserializeOwned + Send + 'static>(
        &self,
        method: &'static str,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> Result<T, ClientError> {
        let (agent, url) = (self.agent.clone(), format!("{}{path}", self.base));
        let bearer = token.map(|t| format!("Bearer {t}"));
        let answer = tokio::task::spawn_blocking(move || blocking(&agent, method, &url, bearer.as_deref(), body)).await;
        let (status, text) = answer.map_err(|e| ClientError::Unusable(e.to_string()))??;
        if !(200..300).contains(&status) {
            return Err(problem(status, &text));
        }
        let text = if text.is_empty() { "null" } else { &text };
        serde_json::from_str(text).map_err(|e| ClientError::Unusable(format!("the answer to {method} {path} cannot be read: {e}")))
    }
}

fn blocking(agent: &ureq::Agent, method: &str, url: &str, bearer: Option<&str>, body: Option<Value>) -> Result<(u16, String), ClientError> {
    let unreachable = |e: ureq::Error| ClientError::Unreachable(format!("{url}: {e}"));
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    if let Some(bearer) = bearer {
        request = request.header("authorization", bearer);
    }
    let unusable = |e: ureq::http::Error| ClientError::Unusable(format!("{url}: {e}"));
    let mut response = match body {
        Some(body) => {
            let request = request.header("content-type", "application/json").body(body.to_string()).map_err(unusable)?;
            agent.run(request).map_err(unreachable)?
        }
        None if matches!(method, "GET" | "HEAD") => agent.run(request.body(()).map_err(unusable)?).map_err(unreachable)?,
        None => agent.run(request.body(String::new()).map_err(unusable)?).map_err(unreachable)?,
    };
    let status = response.status().as_u16();
    let text = response.body_mut().read_to_string().map_err(unreachable)?;
    Ok((status, text))
}

/// Reads problem+json; anything else becomes an error that names the status.
fn problem(status: u16, text: &str) -> ClientError {
    let body: Value = serde_json::from_str(text).unwrap_or_default();
    let Ok(code) = serde_json::from_value::<Code>(body["code"].clone()) else { return ClientError::Refused(status) };
    let message = ["detail", "message", "title"].iter().find_map(|key| body[*key].as_str()).unwrap_or(code.as_str()).to_owned();
    let mut error = ApiError::new(code, message);
    error.retry_after_ms = body["retry_after_ms"].as_u64();
    ClientError::Api(error)
}

fn http_base(url: &str) -> String {
    let plain = url.trim_end_matches('/');
    let rest = plain.strip_prefix("http://").or_else(|| plain.strip_prefix("ws://")).unwrap_or(plain);
    if rest.contains("://") { plain.to_owned() } else { format!("http://{}", rest.split('/').next().unwrap_or(rest)) }
}

fn escape(segment: &str) -> String {
    segment
        .bytes()
        .map(|b| if b.is_ascii_alphanumeric() || b"-._~".contains(&b) { (b as char).to_string() } else { format!("%{b:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Retry;

    #[test]
    fn a_problem_keeps_its_code_and_anything_else_its_status() {
        let text = r#"{"type":"about:blank","status":429,"code":"rate_limited","detail":"too fast","retry_after_ms":40}"#;
        let expected = ApiError { code: Code::RateLimited, message: "too fast".into(), retry: Retry::Later, retry_after_ms: Some(40) };
        assert_eq!(problem(429, text), ClientError::Api(expected));
        assert_eq!(problem(502, "<html>"), ClientError::Refused(502));
    }

    #[test]
    fn addresses_and_names_become_urls() {
        assert_eq!(http_base("ws://h:1/v1/socket"), "http://h:1");
        assert_eq!(http_base("http://h:1/"), "http://h:1");
        assert_eq!(escape("a/ü b"), "a%2F%C3%BC%20b");
    }
}
