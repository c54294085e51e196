//! Hubbub: a chat cluster of actors in one binary. docs/ARCHITECTURE.md shows the way through.
//!
//! Imports point one way: `error ← protocol ← {config, clock} ← telemetry ← {storage, outbound} ← {auth, cluster} ← {push, webhooks} ← bus ← actors ← http ← node ← cli`.
//! Beside them stand `check` and `client`, which need only `protocol`, and `bench`, which needs `client`. A test checks it.

pub mod actors;
pub mod auth;
pub mod bench;
pub mod bus;
pub mod check;
pub mod cli;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod error;
pub mod http;
pub mod node;
pub mod outbound;
pub mod protocol;
pub mod push;
pub mod sabotage;
pub mod storage;
pub mod telemetry;
pub mod webhooks;
