//! The bare log writer: append a group, `fdatasync`, again. What a disk can do, and so the bound of acknowledged messages.

use std::error::Error;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Records per flush.
const GROUPS: [usize; 3] = [1, 64, 512];

pub fn run(args: &[&str]) -> Result<(), Box<dyn Error>> {
    let (mut dir, mut seconds, mut size) = (std::env::temp_dir(), 3.0, 256);
    for pair in args.chunks(2) {
        match pair {
            ["--dir", d] => dir = PathBuf::from(d),
            ["--seconds", s] => seconds = s.parse()?,
            ["--size", n] => size = n.parse()?,
            other => return Err(format!("not understood: {other:?}").into()),
        }
    }
    for group in GROUPS {
        println!("{}", measure(&dir, group, size, Duration::try_from_secs_f64(seconds)?)?);
    }
    Ok(())
}

fn measure(dir: &std::path::Path, group: usize, size: usize, time: Duration) -> Result<serde_json::Value, Box<dyn Error>> {
    let path = dir.join(format!("ceiling-{}-{group}.log", std::process::id()));
    let mut file = OpenOptions::new().create_new(true).append(true).open(&path)?;
    // Gone when closed, however this ends.
    std::fs::remove_file(&path)?;
    let records = vec![b'x'; group * size];
    let (began, mut flushes, mut slowest) = (Instant::now(), 0u64, Duration::ZERO);
    while began.elapsed() < time {
        let flush = Instant::now();
        file.write_all(&records)?;
        file.sync_data()?;
        slowest = slowest.max(flush.elapsed());
        flushes += 1;
    }
    let seconds = began.elapsed().as_secs_f64();
    Ok(serde_json::json!({
        "ceiling": "log", "group": group, "record_bytes": size,
        "flushes_per_s": (flushes as f64 / seconds).round(),
        "records_per_s": (flushes as f64 * group as f64 / seconds).round(),
        "slowest_ms": (slowest.as_secs_f64() * 1e6).round() / 1e3,
    }))
}
