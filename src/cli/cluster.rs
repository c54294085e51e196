//! `hubbub cluster status|drain`: the cluster as the node that runs on a data directory sees it.

use super::operator::Operator;
use super::{ConfigArgs, Done, Failure, print, print_json};
use crate::http::cluster::{ClusterStatus, NodeSeen};
use serde_json::json;

/// Arguments of `hubbub cluster`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Show nodes, shards, leases and links, as the node that runs here sees them.
    Status {
        /// For a program
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Have a node hand its shards over, send its clients elsewhere and end.
    Drain {
        /// The node's number (cluster.node)
        node: u32,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

pub(super) fn run(args: Args) -> Done {
    match args.command {
        Command::Status { json, config } => {
            let status: ClusterStatus = server(config)?.get("/admin/cluster")?;
            if json { print_json(&json!(status)) } else { print(&shown(&status)) }
        }
        Command::Drain { node, config } => {
            server(config)?.post_done("/admin/cluster/drain", json!({ "node": node }))?;
            print(&format!("node {node} was told to leave; `hubbub cluster status` shows when it is gone"))
        }
    }
}

fn server(config: ConfigArgs) -> Result<Operator, Failure> {
    let dir = config.config()?.storage.data_dir;
    Operator::of(&dir)?.ok_or_else(|| Failure::Failed(format!("no node runs on {}", dir.display())))
}

fn shown(status: &ClusterStatus) -> String {
    let mut lines =
        vec![format!("cluster {}, seen by node {}; {} shards, {} owned here", status.name, status.node, status.shards, status.owned)];
    lines.push("node\tstanding\tweight\tshould own\tsaid to own\tsecrets".into());
    for node in &status.nodes {
        let NodeSeen { node, standing, weight, should_own, said_to_own, secrets } = node;
        lines.push(format!("{node}\t{standing}\t{weight}\t{should_own}\t{said_to_own}\t{secrets}"));
    }
    let links = &status.links;
    let yes = |yes| if yes { "yes" } else { "NO" };
    lines.push(format!(
        "publishes: {}, hears: {}, leases: {}; waiting: {} envelopes ({} bytes) for nodes, {} questions, {} writes for the store",
        yes(links.publishes),
        yes(links.hears),
        yes(links.leases),
        links.waiting,
        links.waiting_bytes,
        links.questions,
        status.store_waiting
    ));
    lines.join("\n")
}
