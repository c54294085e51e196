//! Ceilings: how fast the parts of the machine are that a chat server cannot do without, measured without a chat server.
//!
//! `cargo bench --bench ceilings -- log [--dir D] [--seconds S] [--size N]`: appends and `fdatasync`s groups of 1, 64 and 512
//! records; one JSON object a line. `… -- broadcast [ADDR]`: the smallest broadcast server there can be, to be driven by
//! `hubbub bench --bare ADDR --server-pid PID` (it prints both). `… -- cql ADDR [--keyspace K] [--in-flight N,…] [--seconds S] [--size N]`:
//! the bare driver's single inserts, so many under way; with `--rate R` one at a time, so many a second. `… -- redis ADDR [--rate R]
//! [--seconds S]`: PING and its answer. None of them knows rooms' rights, orders or logs: they are bounds to compare with, not things to
//! use. Without arguments (as `cargo bench` and `cargo test` run it): a short `log`.

mod broadcast;
mod cql;
mod log;
mod redis;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench" && a != "--test").collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.split_first() {
        None => log::run(&["--seconds", "0.2"]),
        Some((&"log", rest)) => log::run(rest),
        Some((&"broadcast", rest)) => broadcast::run(rest.first().copied().unwrap_or("127.0.0.1:0")),
        Some((&"cql", rest)) => cql::run(rest),
        Some((&"redis", rest)) => redis::run(rest),
        Some(_) => {
            Err("usage: ceilings log [--dir DIR] [--seconds S] [--size BYTES] | broadcast [ADDR] | cql ADDR … | redis ADDR …".into())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("ceilings: {e}");
            ExitCode::FAILURE
        }
    }
}
