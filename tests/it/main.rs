//! The one integration test binary: a module per capability. The name of a test is the guarantee it checks.
#![allow(clippy::unwrap_used)]

mod backup;
mod cli;
mod cluster;
mod config;
mod docs_curl;
mod embedding;
mod farewell;
mod golden;
mod house;
mod house_docs;
mod idempotency;
mod identity;
mod limits;
mod links;
mod matrix;
mod moderation;
mod powercut_store;
mod powercut_tool;
mod presence;
mod promises;
mod proxy;
mod push;
mod readme;
mod retention;
mod rights;
mod rooms;
mod rooms_rest;
mod schemathesis;
mod seen;
mod socket;
mod strangers;
mod support;
mod tls;
mod webhooks;
