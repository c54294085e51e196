//! stub

pub mod bench;
pub mod chat;
