//! `hubbub bench`: puts load on a server and prints what was measured as one JSON object.

use crate::bench::{self, Load, Plan, Target, wire};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Arguments of `hubbub bench`.
#[derive(clap::Args)]
pub struct Args {
    /// Data directory of a node that runs on this machine: its addresses, process and operators' token are taken from there
    #[arg(long, default_value = "./data", value_name = "DIR")]
    data_dir: PathBuf,
    /// Data directory of a further node of the same cluster on this machine, any number of times: sessions sit at all nodes by turns
    #[arg(long, value_name = "DIR", conflicts_with_all = ["url", "bare"])]
    spread: Vec<PathBuf>,
    /// Another process of this machine whose processor time is told beside, any number of times
    #[arg(long, value_name = "PID")]
    watch: Vec<u32>,
    /// Another server instead; needs --admin-url and HUBBUB_ADMIN_TOKEN
    #[arg(long, value_name = "URL", requires = "admin_url")]
    url: Option<String>,
    /// Its operators' address
    #[arg(long, value_name = "URL", requires = "url")]
    admin_url: Option<String>,
    /// Its operators' token
    #[arg(long, env = "HUBBUB_ADMIN_TOKEN", hide_env_values = true)]
    admin_token: Option<String>,
    /// Its process, when it runs on this machine
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// The bare broadcast server of benches/ceilings instead
    #[arg(long, value_name = "ADDR", conflicts_with = "url")]
    bare: Option<SocketAddr>,
    /// Rooms
    #[arg(long, default_value_t = 100)]
    rooms: usize,
    /// Sessions in each room
    #[arg(long, default_value_t = 10)]
    members: usize,
    /// Members of each room that send, in turns [default: 1]
    #[arg(long, default_value_t = 1)]
    senders: usize,
    /// Distinct users in each room; sessions are spread over them [default: one per session]
    #[arg(long)]
    users: Option<usize>,
    /// Closed loop: messages in flight per room
    #[arg(long, default_value_t = 2)]
    window: u32,
    /// Open loop instead: messages per second over all rooms
    #[arg(long, conflicts_with = "idle")]
    rate: Option<f64>,
    /// No messages: the memory of a session, from the growth between two numbers of sessions
    #[arg(long, num_args = 0..=2, value_names = ["FROM", "TO"])]
    idle: Option<Vec<usize>>,
    /// Bytes of a message's text
    #[arg(long, default_value_t = 128)]
    size: usize,
    /// Seconds of load before the measurement
    #[arg(long, default_value_t = 2.0)]
    warmup: f64,
    /// Seconds of the measurement
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Sockets being opened at one time
    #[arg(long, default_value_t = 100)]
    opening: usize,
}

/// Runs it.
pub fn run(args: Args) -> ExitCode {
    let (plan, target) = match understand(args) {
        Ok(understood) => understood,
        Err(why) => return fail(2, &why),
    };
    match bench::run(&plan, &target) {
        Ok(result) => match writeln!(io::stdout(), "{result:#}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => fail(1, &e.to_string()),
        },
        Err(e) => fail(1, &e.to_string()),
    }
}

fn fail(code: u8, why: &str) -> ExitCode {
    // Without standard error there is nobody to tell.
    let _ = writeln!(io::stderr(), "hubbub: bench: {why}");
    ExitCode::from(code)
}

fn understand(args: Args) -> Result<(Plan, Target), String> {
    let load = match (args.idle.as_deref(), args.rate) {
        (Some([]), _) => Load::Idle { from: 1_000, to: 10_000 },
        (Some([to]), _) => Load::Idle { from: to / 10, to: *to },
        (Some([from, to, ..]), _) => Load::Idle { from: *from, to: *to },
        (None, Some(rate)) => Load::Open { rate },
        (None, None) => Load::Closed { window: args.window },
    };
    match load {
        Load::Idle { from, to } if from >= to => return Err(format!("--idle needs a smaller and a larger number, not {from} and {to}")),
        Load::Open { rate } if !(rate.is_finite() && rate > 0.0) => return Err(format!("--rate must be above 0, not {rate}")),
        Load::Closed { window: 0 } => return Err("--window must be at least 1".into()),
        _ => {}
    }
    let users_per_room = args.users.unwrap_or(args.members);
    if args.rooms == 0 || args.members == 0 || users_per_room == 0 || !(1..=args.members).contains(&args.senders) {
        return Err("--rooms, --members and --users must be at least 1, --senders from 1 to --members".into());
    }
    if args.size < wire::SIZE_MIN {
        return Err(format!("--size must be at least {}: every text holds a mark", wire::SIZE_MIN));
    }
    let seconds = |name: &str, s: f64| Duration::try_from_secs_f64(s).map_err(|_| format!("--{name} cannot be {s}"));
    let plan = Plan {
        rooms: args.rooms,
        members: args.members,
        senders: args.senders,
        users_per_room: users_per_room.min(args.members),
        load,
        size: args.size,
        warmup: seconds("warmup", args.warmup)?,
        measure: seconds("seconds", args.seconds)?,
        drain: Duration::from_secs(10),
        opening_max: args.opening.max(1),
        watched: args.watch,
    };
    let target = match (args.bare, args.url, args.admin_url) {
        (Some(address), ..) => Target::Bare { address, pid: args.server_pid },
        (None, Some(url), Some(admin_url)) => {
            let admin_token = args.admin_token.ok_or("--url needs the operators' token in HUBBUB_ADMIN_TOKEN")?;
            Target::Server { url, admin_url, admin_token, pid: args.server_pid }
        }
        _ => Target::Nodes(std::iter::once(args.data_dir).chain(args.spread).collect()),
    };
    Ok((plan, target))
}
