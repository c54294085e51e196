//! The bare driver: single prepared inserts into a table of the log's shape, of rows of the log's size. What a database takes of a writer
//! that makes nothing of its messages but a row each, and how long one such row takes.

use hdrhistogram::Histogram;
use hubbub::protocol::entry::{Body, Entry, Message};
use hubbub::protocol::ids::{ClientId, Epoch, MessageId, RoomId, UserId};
use hubbub::storage::{LogRow, record};
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::LocalSet;

/// Compactions are waited for so long at most.
const COMPACTED_MAX: Duration = Duration::from_secs(60);
/// Rows go to so many partitions by turns.
const ROOMS: i64 = 100;

struct Asked {
    address: String,
    keyspace: String,
    in_flight: Vec<usize>,
    rate: Option<f64>,
    seconds: f64,
    size: usize,
}

pub fn run(args: &[&str]) -> Result<(), Box<dyn Error>> {
    let [address, rest @ ..] = args else { return Err("cql needs the address of a database node".into()) };
    let keyspace = "hubbub_ceiling".to_owned();
    let mut asked =
        Asked { address: (*address).to_owned(), keyspace, in_flight: vec![32, 64, 128, 256, 512], rate: None, seconds: 3.0, size: 128 };
    for pair in rest.chunks(2) {
        match pair {
            ["--keyspace", name] => asked.keyspace = (*name).to_owned(),
            ["--in-flight", numbers] => asked.in_flight = numbers.split(',').map(str::parse).collect::<Result<_, _>>()?,
            ["--rate", rate] => asked.rate = Some(rate.parse()?),
            ["--seconds", s] => asked.seconds = s.parse()?,
            ["--size", n] => asked.size = n.parse()?,
            other => return Err(format!("not understood: {other:?}").into()),
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, measure(asked))
}

async fn measure(asked: Asked) -> Result<(), Box<dyn Error>> {
    let writer = Rc::new(Writer::connect(&asked).await?);
    let time = Duration::try_from_secs_f64(asked.seconds)?;
    match asked.rate {
        Some(rate) => println!("{}", writer.by_the_clock(rate, time).await?),
        None => {
            // The database compiles itself while it works: its first seconds say nothing.
            let most = asked.in_flight.iter().copied().max().unwrap_or(1);
            writer.clone().closed(most, time).await?;
            for in_flight in asked.in_flight {
                println!("{}", writer.clone().closed(in_flight, time).await?);
            }
            writer.compacted().await;
        }
    }
    Ok(())
}

struct Writer {
    session: Session,
    insert: PreparedStatement,
    value: Vec<u8>,
    next: Cell<i64>,
}

impl Writer {
    async fn connect(asked: &Asked) -> Result<Writer, Box<dyn Error>> {
        let profile = ExecutionProfile::builder().consistency(Consistency::LocalQuorum).build().into_handle();
        let session = SessionBuilder::new().known_node(&asked.address).default_execution_profile_handle(profile).build().await?;
        let keyspace = &asked.keyspace;
        let replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}";
        session.query_unpaged(format!("CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = {replication}"), ()).await?;
        let table = format!(
            "CREATE TABLE IF NOT EXISTS {keyspace}.log (room bigint, bucket int, seq bigint, epoch bigint, value blob, \
             PRIMARY KEY ((room, bucket), seq, epoch)) WITH CLUSTERING ORDER BY (seq ASC, epoch ASC)"
        );
        session.query_unpaged(table, ()).await?;
        let insert = format!("INSERT INTO {keyspace}.log (room, bucket, seq, epoch, value) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP 1");
        let insert = session.prepare(insert).await?;
        // Rows of an earlier run are not written again.
        let next = Cell::new(i64::from(rand::random::<u32>()) << 24);
        Ok(Writer { session, insert, value: value(asked.size), next })
    }

    async fn one(&self) -> Result<(), Box<dyn Error>> {
        let n = self.next.get();
        self.next.set(n + 1);
        let (room, seq) = (n % ROOMS, n / ROOMS);
        self.session.execute_unpaged(&self.insert, (room, (seq / 4_096) as i32, seq, 1i64, &self.value[..])).await?;
        Ok(())
    }

    /// So many rows under way, all the time.
    async fn closed(self: Rc<Self>, in_flight: usize, time: Duration) -> Result<serde_json::Value, Box<dyn Error>> {
        let began = Instant::now();
        let took = Rc::new(RefCell::new(histogram()?));
        let writing = |_| {
            let (writer, took) = (self.clone(), took.clone());
            tokio::task::spawn_local(async move {
                while began.elapsed() < time {
                    let asked = Instant::now();
                    writer.one().await.map_err(|e| e.to_string())?;
                    took.borrow_mut().saturating_record(asked.elapsed().as_nanos() as u64);
                }
                Ok::<(), String>(())
            })
        };
        for writing in (0..in_flight.max(1)).map(writing).collect::<Vec<_>>() {
            writing.await??;
        }
        let per_second = took.borrow().len() as f64 / began.elapsed().as_secs_f64();
        Ok(serde_json::json!({
            "ceiling": "cql", "in_flight": in_flight, "row_bytes": self.value.len(), "inserts_per_s": per_second.round(),
            "ms": millis(&took.borrow()),
        }))
    }

    /// Waits until what was written here is no longer being compacted: that would be done while something else is measured. A database that
    /// does not say so is not waited for.
    async fn compacted(&self) {
        let began = Instant::now();
        while began.elapsed() < COMPACTED_MAX {
            let Ok(answer) = self.session.query_unpaged("SELECT keyspace_name FROM system_views.sstable_tasks", ()).await else { return };
            if !answer.into_rows_result().is_ok_and(|rows| rows.rows_num() > 0) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// One row at a time, each when it is due.
    async fn by_the_clock(&self, rate: f64, time: Duration) -> Result<serde_json::Value, Box<dyn Error>> {
        let (began, mut took) = (Instant::now(), histogram()?);
        for n in 0.. {
            let due = Duration::try_from_secs_f64(f64::from(n) / rate)?;
            if due >= time {
                break;
            }
            tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
            // Not from the scheduled instant: the runtime's clock counts whole milliseconds, which are not the database's.
            let asked = Instant::now();
            self.one().await?;
            took.saturating_record(asked.elapsed().as_nanos() as u64);
        }
        Ok(serde_json::json!({"ceiling": "cql", "rate": rate, "row_bytes": self.value.len(), "ms": millis(&took)}))
    }
}

/// The value of a log row that holds a message with so many bytes of text.
fn value(size: usize) -> Vec<u8> {
    let body = Body::Message(Message { text: "x".repeat(size), ..Message::default() });
    let (room, seq, cid) = (RoomId(1), 1_000, Some(ClientId::fresh()));
    let entry = Entry { room, seq, n: seq, id: MessageId(1 << 60), at: 1_790_000_000_000, by: UserId(1 << 60), cid, body };
    let row = LogRow { seq, epoch: Epoch::new(1, 1), committed: seq - 1, payload: record::encode_entry(&entry) };
    record::encode_value(room, &row).to_vec()
}

pub fn histogram() -> Result<Histogram<u64>, Box<dyn Error>> {
    Ok(Histogram::new_with_bounds(1_000, 60_000_000_000, 3)?)
}

pub fn millis(h: &Histogram<u64>) -> serde_json::Value {
    let at = |q| (h.value_at_quantile(q) as f64 / 1e3).round() / 1e3;
    serde_json::json!({"count": h.len(), "p50": at(0.5), "p99": at(0.99), "max": (h.max() as f64 / 1e3).round() / 1e3})
}
