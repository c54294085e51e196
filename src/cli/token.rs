//! `hubbub token NAME`: an access token, for scripts and for trying things.

use super::accounts::Accounts;
use super::{ConfigArgs, Done, print, print_json};
use serde_json::json;

/// Arguments of `hubbub token`.
#[derive(clap::Args)]
pub struct Args {
    /// The account's name
    name: String,
    /// How long it is valid: seconds, or with a unit as `90s`, `15m`, `12h`, `7d` [default: auth.access_ttl_s]
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    ttl: Option<u64>,
    /// For a program
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Seconds that a token may be asked for: a year.
const TTL_MAX_S: u64 = 365 * 86_400;

/// A time on the command line, in seconds.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let (number, unit) = text.split_at(text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len());
    let times = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(format!("unknown unit {unit:?}: s, m, h and d are known")),
    };
    let seconds = number.parse::<u64>().ok().and_then(|n| n.checked_mul(times));
    seconds.filter(|s| (1..=TTL_MAX_S).contains(s)).ok_or_else(|| "expected 1s to 365d".into())
}

pub(super) fn run(args: Args) -> Done {
    let config = args.config.config()?;
    let ttl_s = args.ttl.unwrap_or(config.auth.access_ttl_s);
    let issued = Accounts::open(config)?.token(&args.name, ttl_s)?;
    if args.json { print_json(&json!({ "token": issued.token, "expires": issued.expires })) } else { print(&issued.token) }
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn times_have_units() {
        assert_eq!([seconds("90"), seconds("90s"), seconds("15m"), seconds("2h"), seconds("7d")], [90, 90, 900, 7200, 604_800].map(Ok));
        for bad in ["", "0", "1w", "m", "-1", "366d", "99999999999999999999d", "1.5h"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
