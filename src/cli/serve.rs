//! `hubbub serve`: configuration, then the node, until it is told to stop.

use super::{ConfigArgs, Done, Failure, flag};
use crate::node::{self, Mode, NodeError};
use std::net::SocketAddr;

/// Arguments of `hubbub serve`.
#[derive(clap::Args)]
pub struct Args {
    /// Clients' listener (http.listen); port 0 picks a free one
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Operators' listener (admin.listen)
    #[arg(long, value_name = "ADDR")]
    admin_listen: Option<SocketAddr>,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn run(args: Args) -> Done {
    let more = [flag("--listen", "http.listen", args.listen), flag("--admin-listen", "admin.listen", args.admin_listen)];
    let loaded = args.config.load(more.into_iter().flatten())?;
    start(loaded.config, Mode::Serve)
}

/// Runs the node; shared with `hubbub dev`.
pub(super) fn start(config: crate::config::Config, mode: Mode) -> Done {
    node::run(config, mode).map_err(|e| match e {
        NodeError::Config(text) => Failure::Config(text),
        NodeError::Failed(text) => Failure::Failed(text),
    })
}
