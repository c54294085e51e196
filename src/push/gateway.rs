//! The embedder's own push gateway: one address that takes every notification for devices that are known to it by a token, and passes it to
//! whatever their system needs (APNs, FCM). Signed as webhooks are, so that the gateway knows who calls.

use super::subscriptions::Target;
use super::{Outcome, Outgoing, Provider, answered};
use crate::outbound::{self, Call, HeaderMap, HeaderName, HeaderValue, Method, Outbound, Url, header};
use async_trait::async_trait;
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;

/// The device's token is over. Not 404: the gateway has one address for all devices, and when that is wrong, every answer is a 404.
pub(super) const OVER: &[u16] = &[410];

/// The provider.
pub struct Gateway {
    url: Url,
    secret: String,
    outbound: Arc<Outbound>,
}

/// What the gateway gets.
#[derive(Serialize)]
struct Body<'a> {
    /// The device, in the gateway's own terms.
    token: &'a str,
    ttl_s: u64,
    urgent: bool,
    /// See `super::payload`.
    push: Value,
}

impl Gateway {
    /// At that address; signs with `secret`.
    pub fn new(url: Url, secret: String, outbound: Arc<Outbound>) -> Gateway {
        Gateway { url, secret, outbound }
    }

    fn call(&self, token: &str, push: &Outgoing) -> Result<Call, String> {
        let payload: Value = serde_json::from_slice(&push.payload).map_err(|e| e.to_string())?;
        let body = Body { token, ttl_s: push.ttl_s, urgent: push.urgent, push: payload };
        let body = serde_json::to_vec(&body).map_err(|e| e.to_string())?;
        let now = crate::clock::now_ms() / 1000;
        let signature = outbound::sign([self.secret.as_str()], now, &body);
        let mut headers = HeaderMap::new();
        let value = |text: &str| HeaderValue::from_str(text).map_err(|_| "a header field cannot be written".to_owned());
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(HeaderName::from_static(outbound::SIGNATURE), value(&signature)?);
        headers.insert(HeaderName::from_static("idempotency-key"), value(&push.id)?);
        Ok(Call { method: Method::POST, url: self.url.clone(), headers, body: body.into(), answer_bytes_max: 0 })
    }
}

#[async_trait]
impl Provider for Gateway {
    async fn attempt(&self, target: &Target, push: &Outgoing) -> Outcome {
        let Target::Gateway { token } = target else { return Outcome::Refused("not a target of the gateway".into()) };
        match self.call(token, push) {
            Err(why) => Outcome::Refused(why),
            Ok(call) => answered(self.outbound.send(call).await, OVER),
        }
    }
}
