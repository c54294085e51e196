//! The judge: reads what clients sent, were acknowledged and saw, and finds broken promises. Pure: no actors, no sockets.

pub mod history;
pub mod recorder;
