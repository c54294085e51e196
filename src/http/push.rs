//! Where pushes go: the subscription of the token's device, and the key that browsers need to make one.
//!
//! A subscription belongs to the device that set it and ends with it. What opens it (the address at the push service, the gateway's
//! token) is never shown again.

use super::Api;
use super::auth::SignedIn;
use super::error::Body;
use crate::auth::failed;
use crate::error::{ApiError, Code};
use crate::protocol::ids::{DeviceId, Millis};
use crate::push::subscriptions::{Subscription, Target, Web};
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi, ToSchema};

/// Bytes of a gateway's token at most.
const TOKEN_BYTES_MAX: usize = 4_096;
/// Characters of a browser's key at most: 65 bytes in base64, with padding.
const KEY_CHARS_MAX: usize = 100;

/// What this file adds to the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(vapid, subscribe, unsubscribe, list))]
pub struct Docs;

/// The key by which push services know this server.
#[derive(Serialize, ToSchema)]
struct VapidKey {
    /// For `pushManager.subscribe({applicationServerKey})`: an uncompressed point on P-256, base64url.
    public_key: String,
}

/// The key that a browser needs to subscribe. No token is needed: a service worker may ask before anybody signs in.
#[utoipa::path(get, path = "/v1/push/vapid", security(()), responses((status = 200, description = "the key", body = VapidKey)))]
pub async fn vapid(api: web::Data<Api>) -> HttpResponse {
    HttpResponse::Ok().json(VapidKey { public_key: api.pushes.vapid.public().to_owned() })
}

/// A browser's keys.
#[derive(Deserialize, ToSchema)]
pub struct BrowserKeys {
    /// Its public key.
    #[schema(max_length = 100)]
    p256dh: String,
    /// Its authentication secret.
    #[schema(max_length = 100)]
    auth: String,
}

/// Where pushes for the token's device are to go: what `PushSubscription.toJSON()` gives, or the device's token at the gateway that the
/// server is configured with.
#[derive(Deserialize, ToSchema)]
pub struct PushTarget {
    /// The address at the push service.
    #[schema(max_length = 2048)]
    endpoint: Option<String>,
    /// The browser's keys; with `endpoint`.
    keys: Option<BrowserKeys>,
    /// The device's token at the gateway; instead of `endpoint` and `keys`.
    #[schema(max_length = 4096)]
    token: Option<String>,
}

/// A subscription, without what opens it.
#[derive(Serialize, ToSchema)]
struct ShownSubscription {
    /// Whose device.
    #[schema(value_type = String)]
    device: DeviceId,
    /// `web` or `gateway`.
    kind: &'static str,
    /// The push service, without the part that is secret.
    host: String,
    /// When it was made or last changed.
    created: Millis,
    /// It is the device of the token.
    current: bool,
}

impl ShownSubscription {
    fn of(subscription: &Subscription, me: &SignedIn) -> ShownSubscription {
        let kind = match &subscription.target {
            Target::Web(_) => "web",
            Target::Gateway { .. } => "gateway",
        };
        let Subscription { device, target, created } = subscription;
        ShownSubscription { device: *device, kind, host: target.host(), created: *created, current: *device == me.claims.device }
    }
}

fn target(api: &Api, wish: PushTarget) -> Result<Target, ApiError> {
    let invalid = |what: String| Err(ApiError::new(Code::Invalid, what));
    match wish {
        PushTarget { endpoint: Some(endpoint), keys: Some(BrowserKeys { p256dh, auth }), token: None } => {
            // Its host is looked up, and looked at, with every push.
            if let Err(error) = api.pushes.outbound.address(&endpoint) {
                return invalid(format!("endpoint: {error}"));
            }
            let web = Web { endpoint, p256dh, auth };
            let short = web.p256dh.len() <= KEY_CHARS_MAX && web.auth.len() <= KEY_CHARS_MAX;
            if !short || web.keys().is_none() {
                return invalid("keys: not a P-256 public key and 16 bytes of secret, in base64url".into());
            }
            Ok(Target::Web(web))
        }
        PushTarget { endpoint: None, keys: None, token: Some(token) } => {
            if !api.pushes.has_gateway() {
                return invalid("token: this server has no push gateway".into());
            }
            if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
                return invalid(format!("token: 1 to {TOKEN_BYTES_MAX} bytes"));
            }
            Ok(Target::Gateway { token })
        }
        _ => invalid("either endpoint and keys, or token".into()),
    }
}

/// Sets where pushes for the token's device go, in place of what was set before.
#[utoipa::path(put, path = "/v1/push/subscription", request_body = PushTarget,
    responses((status = 200, description = "set", body = ShownSubscription)))]
pub async fn subscribe(api: web::Data<Api>, me: SignedIn, Body(wish): Body<PushTarget>) -> Result<HttpResponse, ApiError> {
    let subscription = Subscription { device: me.claims.device, target: target(&api, wish)?, created: crate::auth::now() };
    api.pushes.subscriptions.put(me.user.user, &subscription).await.map_err(failed)?;
    Ok(HttpResponse::Ok().json(ShownSubscription::of(&subscription, &me)))
}

/// Ends the pushes for the token's device.
#[utoipa::path(delete, path = "/v1/push/subscription", responses((status = 204, description = "there is none any more")))]
pub async fn unsubscribe(api: web::Data<Api>, me: SignedIn) -> Result<HttpResponse, ApiError> {
    api.pushes.subscriptions.remove(me.user.user, me.claims.device).await.map_err(failed)?;
    Ok(HttpResponse::NoContent().finish())
}

/// All subscriptions of a user.
#[derive(Serialize, ToSchema)]
struct SubscriptionList {
    /// One per device at most, so that there is one page.
    items: Vec<ShownSubscription>,
}

/// The subscriptions of all of one's devices.
#[utoipa::path(get, path = "/v1/push/subscriptions", responses((status = 200, description = "all of them", body = SubscriptionList)))]
pub async fn list(api: web::Data<Api>, me: SignedIn) -> Result<HttpResponse, ApiError> {
    let all = api.pushes.subscriptions.list(me.user.user).await.map_err(failed)?;
    Ok(HttpResponse::Ok().json(SubscriptionList { items: all.iter().map(|s| ShownSubscription::of(s, &me)).collect() }))
}
