//! What load balancers, operators' tools and curious people ask: is it up, does it take traffic, its metrics.

use super::Api;
use crate::telemetry::{CONTENT_TYPE, metrics};
use actix_web::http::header;
use actix_web::{HttpResponse, web};
use serde::Serialize;

/// `GET /livez`: the process answers.
pub async fn livez() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("live\n")
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// `GET /readyz` for operators: 503 with reasons while the node drains or its log cannot be written. Redis that does not answer is a warning:
/// the node goes on with the rooms it owns, and no other node has it better.
pub async fn readyz(api: web::Data<Api>) -> HttpResponse {
    let log = |why: String| format!("the log cannot be written: {why}");
    answer(readiness(&api, log))
}

/// `GET /readyz` for everybody: the same without the details of a fault.
pub async fn readyz_public(api: web::Data<Api>) -> HttpResponse {
    answer(readiness(&api, |_| "the log cannot be written".into()))
}

fn readiness(api: &Api, log: impl Fn(String) -> String) -> Readiness {
    let status = api.node.status();
    let mut reasons: Vec<String> = status.draining.then(|| "draining".into()).into_iter().collect();
    reasons.extend(api.store.health().refuses_writes.map(log));
    reasons.extend(status.ready.err().into_iter().flatten());
    let ready = reasons.is_empty();
    metrics().node_ready.set(i64::from(ready));
    Readiness { ready, reasons, warnings: status.warnings }
}

fn answer(readiness: Readiness) -> HttpResponse {
    if readiness.ready { HttpResponse::Ok().json(readiness) } else { HttpResponse::ServiceUnavailable().json(readiness) }
}

/// `GET /metrics`
pub async fn metrics_text(api: web::Data<Api>) -> HttpResponse {
    let health = api.store.health();
    metrics().store(health.rows, health.syncs, health.appends_waiting, health.disk_bytes);
    readiness(&api, |why| why);
    HttpResponse::Ok().insert_header((header::CONTENT_TYPE, CONTENT_TYPE)).body(metrics().encode())
}
