//! The round trip to Redis: one PING at a time over one connection.

use super::cql::{histogram, millis};
use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

pub fn run(args: &[&str]) -> Result<(), Box<dyn Error>> {
    let [address, rest @ ..] = args else { return Err("redis needs an address".into()) };
    let (mut rate, mut seconds) = (100.0, 3.0);
    for pair in rest.chunks(2) {
        match pair {
            ["--rate", r] => rate = r.parse()?,
            ["--seconds", s] => seconds = s.parse()?,
            other => return Err(format!("not understood: {other:?}").into()),
        }
    }
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let (began, time, mut took) = (Instant::now(), Duration::try_from_secs_f64(seconds)?, histogram()?);
    for n in 0.. {
        let due = Duration::try_from_secs_f64(f64::from(n) / rate)?;
        if due >= time {
            break;
        }
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        let asked = Instant::now();
        socket.write_all(b"PING\r\n")?;
        let mut answer = [0; 7];
        socket.read_exact(&mut answer)?;
        if &answer != b"+PONG\r\n" {
            return Err(format!("Redis answered {:?}", String::from_utf8_lossy(&answer)).into());
        }
        took.saturating_record(asked.elapsed().as_nanos() as u64);
    }
    println!("{}", serde_json::json!({"ceiling": "redis", "rate": rate, "ms": millis(&took)}));
    Ok(())
}
