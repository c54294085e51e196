//! The pure part: what things are called, what frames mean, and the rules of a room's log. No actors, no I/O, no clock.

#[cfg(test)]
mod arbitrary;
pub mod close;
pub mod codec;
pub mod entry;
pub mod ids;
pub mod ops;
pub mod policy;
pub mod presence;
pub mod resume;
pub mod roomlog;
pub mod validate;
pub mod ws;
