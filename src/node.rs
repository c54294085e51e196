//! Starts a node from its configuration.

use crate::config::Config;

/// How a node is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// For real.
    Serve,
    /// For trying things, with demo users and a room.
    Dev(DevOptions),
}

/// What `hubbub dev` puts into an empty store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevOptions {
    /// Names of the demo users.
    pub users: Vec<String>,
    /// Name of the room they are members of.
    pub room: String,
    /// Print addresses and tokens as one JSON object a line instead of as text.
    pub json: bool,
}

/// Why a node did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The configuration cannot be used.
    #[error("configuration: {0}")]
    Config(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// Runs a node until it is told to stop.
pub fn run(_config: Config, _mode: Mode) -> Result<(), NodeError> {
    Err(NodeError::Failed("this build has no node".into()))
}
