//! `hubbub audit`: what administrators did, newest first, as the running server has it.

use super::operator::Operator;
use super::{ConfigArgs, Done, Failure, print, print_json};
use crate::http::audit::Deed;
use serde::Deserialize;
use serde_json::json;

/// Acts per request.
const PAGE: usize = 500;

/// Arguments of `hubbub audit`.
#[derive(clap::Args)]
pub struct Args {
    /// Acts to print at most
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: usize,
    /// For a program: one object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Deserialize)]
struct Page {
    items: Vec<Deed>,
    next: Option<String>,
}

pub(super) fn run(args: Args) -> Done {
    let config = args.config.config()?;
    let not_running =
        || Failure::Failed(format!("no server runs on {}; start it to read its audit log", config.storage.data_dir.display()));
    let operator = Operator::of(&config.storage.data_dir)?.ok_or_else(not_running)?;
    let (mut left, mut cursor) = (args.limit, None::<String>);
    while left > 0 {
        let from = cursor.map(|c| format!("&cursor={c}")).unwrap_or_default();
        let page: Page = operator.get(&format!("/admin/audit?limit={}{from}", left.min(PAGE)))?;
        left -= page.items.len().min(left);
        for deed in &page.items {
            show(deed, args.json)?;
        }
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    Ok(())
}

fn show(deed: &Deed, as_json: bool) -> Done {
    if as_json {
        return print_json(&json!(deed));
    }
    let Deed { at, by, from, act, target, status, note } = deed;
    let why = if note.is_empty() { String::new() } else { format!("  ({note})") };
    print(&format!("{at}  {by:<12} {from:<16} {status}  {act}  {target}{why}"))
}
