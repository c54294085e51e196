//! Web Push: a notification to a browser's push service (RFC 8030), encrypted for the browser alone (RFC 8291), signed (VAPID).

use super::subscriptions::{Target, Web};
use super::{Outcome, Outgoing, Provider, answered, failed, vapid};
use crate::outbound::{Call, HeaderMap, HeaderName, HeaderValue, Method, Outbound, Url, header};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::{GeneralPurposeConfig, STANDARD};
use base64::{alphabet, engine::DecodePaddingMode};
use std::sync::Arc;
use web_push_native::{Auth, p256::PublicKey};

/// Bytes of a payload at most: with its head and tag it must fit in the 4,096 that every push service takes.
pub const PAYLOAD_BYTES_MAX: usize = 3_800;
/// The subscription is over (RFC 8030, section 7.3, and what push services answer).
pub(super) const OVER: &[u16] = &[404, 410];
/// Bytes of the browser's authentication secret.
const AUTH_BYTES: usize = 16;

/// The provider.
pub struct WebPush {
    key: Arc<vapid::Key>,
    outbound: Arc<Outbound>,
}

/// Browsers write base64url without padding; libraries of all kinds sit between them and us.
fn base64_of(text: &str) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let url_safe = GeneralPurpose::new(&alphabet::URL_SAFE, config);
    url_safe.decode(text).or_else(|_| STANDARD.decode(text)).ok()
}

impl Web {
    /// The keys, if they are keys.
    pub fn keys(&self) -> Option<(PublicKey, Auth)> {
        let public = PublicKey::from_sec1_bytes(&base64_of(&self.p256dh)?).ok()?;
        let auth: [u8; AUTH_BYTES] = base64_of(&self.auth)?.try_into().ok()?;
        Some((public, Auth::from(auth)))
    }
}

impl WebPush {
    /// Signs with `key`, sends through `outbound`.
    pub fn new(key: Arc<vapid::Key>, outbound: Arc<Outbound>) -> WebPush {
        WebPush { key, outbound }
    }

    fn call(&self, url: Url, web: &Web, push: &Outgoing) -> Result<Call, String> {
        let (public, auth) = web.keys().ok_or("the subscription's keys are no keys")?;
        let sealed = web_push_native::encrypt(push.payload.to_vec(), &public, &auth).map_err(|e| e.to_string())?;
        let mut headers = HeaderMap::new();
        let mut put = |name: HeaderName, value: String| -> Result<(), String> {
            headers.insert(name, HeaderValue::try_from(value).map_err(|_| "a header field cannot be written".to_owned())?);
            Ok(())
        };
        put(header::AUTHORIZATION, self.key.authorization(&url).map_err(|e| e.to_string())?)?;
        put(header::CONTENT_ENCODING, "aes128gcm".into())?;
        put(header::CONTENT_TYPE, "application/octet-stream".into())?;
        put(HeaderName::from_static("ttl"), push.ttl_s.to_string())?;
        put(HeaderName::from_static("urgency"), if push.urgent { "high" } else { "normal" }.into())?;
        // A repeat takes the place of the first attempt where that still waits for the device.
        put(HeaderName::from_static("topic"), push.id.clone())?;
        Ok(Call { method: Method::POST, url, headers, body: sealed.into(), answer_bytes_max: 0 })
    }
}

#[async_trait]
impl Provider for WebPush {
    async fn attempt(&self, target: &Target, push: &Outgoing) -> Outcome {
        let Target::Web(web) = target else { return Outcome::Refused("not a target of Web Push".into()) };
        let call = match self.outbound.address(&web.endpoint) {
            Err(error) => return failed(&error),
            Ok(url) => self.call(url, web, push),
        };
        match call {
            Err(why) => Outcome::Refused(why),
            Ok(call) => answered(self.outbound.send(call).await, OVER),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use web_push_native::p256::SecretKey;

    /// RFC 8291, section 5.
    const P256DH: &str = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
    const AUTH: &str = "BTBZMqHH6r4Tts7J_aSIgg";

    fn web(p256dh: &str, auth: &str) -> Web {
        Web { endpoint: "https://push.example.org/x".into(), p256dh: p256dh.into(), auth: auth.into() }
    }

    #[test]
    fn keys_are_taken_as_browsers_and_libraries_write_them() {
        let keys = web(P256DH, AUTH).keys().unwrap();
        assert_eq!(web(&format!("{P256DH}="), &format!("{AUTH}==")).keys().unwrap(), keys);
        let standard = |text: &str| STANDARD.encode(base64_of(text).unwrap());
        assert_eq!(web(&standard(P256DH), &standard(AUTH)).keys().unwrap(), keys);
    }

    #[test]
    fn what_are_no_keys_is_refused() {
        let off_the_curve = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw5";
        for (p256dh, auth) in [("", AUTH), (off_the_curve, AUTH), (AUTH, AUTH), (P256DH, ""), (P256DH, "BTBZMqHH6r4Tts7J_aSI"), ("%", "%")]
        {
            assert!(web(p256dh, auth).keys().is_none(), "{p256dh} {auth}");
        }
    }

    #[test]
    fn the_largest_payload_fits_in_what_every_service_takes() {
        let secret = SecretKey::from_slice(&[7; 32]).unwrap();
        let (_, auth) = web(P256DH, AUTH).keys().unwrap();
        let sealed = web_push_native::encrypt(vec![b'x'; PAYLOAD_BYTES_MAX], &secret.public_key(), &auth).unwrap();
        assert!(sealed.len() <= 4096, "{}", sealed.len());
        assert_eq!(web_push_native::decrypt(sealed, &secret, &auth).unwrap(), vec![b'x'; PAYLOAD_BYTES_MAX]);
    }
}
