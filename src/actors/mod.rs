//! The actors, and who restarts whom.
//!
//! ```text
//!  web worker threads                      threads for rooms (shards)                 one of a kind
//!  Session ─┐                              Guardian ─┬─ Room …                        Sequencer
//!  Session ─┤ Hub ◄── Bus ◄────────────────          ├─ Presence …                    message log's writer (storage)
//!  Session ─┘  └──── Router ──────────────►          ├─ Applier
//!                                                    └─ Delivery
//! ```
//! A room or presence that panics tells its guardian by the drop of its guard and is rebuilt (from the log, from what hubs announce
//! again). A session that panics loses its socket, and its client resumes. Guardian, hub and sequencer catch a panic, and
//! begin anew with what can be trusted. Whoever waited for an answer gets a retriable error from the dropped reply.

pub mod answering;
pub mod applier;
pub mod asking;
pub mod conn;
pub mod cursor;
pub mod delivery;
pub mod guardian;
pub mod hub;
pub mod inviting;
pub mod loading;
pub mod looking;
pub mod node;
pub mod peers;
pub mod presence;
pub mod push_worker;
pub mod reading;
pub mod resuming;
pub mod room;
pub mod router;
pub mod screening;
pub mod sequencer;
pub mod session;
pub mod telling;
pub mod unreached;
pub mod wanted;
pub mod webhooks;
