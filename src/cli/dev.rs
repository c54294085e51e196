//! `hubbub dev`: a server to try things with. Reads no configuration file, keeps its data apart from a real server's,
//! and never listens where another machine could reach it: everybody knows its demo users.

use super::{CommonArgs, Done, Failure, flag, serve};
use crate::config::load::{Flag, Sources, load};
use crate::node::{DevOptions, Mode};
use std::net::SocketAddr;

/// Where its data goes unless told otherwise.
const DATA_DIR: &str = "./data-dev";
/// Its users; docs and examples speak of them by name.
const USERS: [&str; 3] = ["alice", "bob", "carol"];
/// The room they share.
const ROOM: &str = "lobby";

/// Arguments of `hubbub dev`.
#[derive(clap::Args)]
pub struct Args {
    /// Clients' listener, on this machine only [default: 127.0.0.1:8080]; port 0 picks a free one
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Operators' listener, on this machine only [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDR")]
    admin_listen: Option<SocketAddr>,
    /// Print addresses and tokens as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: CommonArgs,
}

pub(super) fn run(args: Args) -> Done {
    let mut flags = vec![Flag { flag: "hubbub dev".into(), key: "storage.data_dir".into(), value: DATA_DIR.into() }];
    flags.extend(args.common.flags());
    flags.extend(flag("--listen", "http.listen", args.listen));
    flags.extend(flag("--admin-listen", "admin.listen", args.admin_listen));
    let config = load(Sources::without_file(flags))?.config;
    for (key, address) in [("http.listen", config.http.listen), ("admin.listen", config.admin.listen)] {
        if !address.ip().is_loopback() {
            return Err(Failure::Usage(format!(
                "dev: {key} is {address}, which other machines can reach, and the demo users' sign-in is public: \
                 use a loopback address such as 127.0.0.1:8080, or `hubbub serve`"
            )));
        }
    }
    let options = DevOptions { users: USERS.map(String::from).into(), room: ROOM.into(), json: args.json };
    serve::start(config, Mode::Dev(options))
}
