//! Connections to Redis: to one server or a Redis Cluster, with or without TLS, each with time limits for everything.
//!
//! A connection that fails is thrown away and made anew by whoever holds it, after a [`Pause`]; nothing reconnects behind its back, so that
//! nobody can be connected again without knowing that something was missed.

use crate::config;
use ::redis::aio::{AsyncPushSender, ConnectionLike, MultiplexedConnection};
use ::redis::cluster::{ClusterClient, ClusterClientBuilder};
use ::redis::cluster_async::ClusterConnection;
use ::redis::io::tcp::TcpSettings;
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, IntoConnectionInfo, Pipeline, ProtocolVersion, PushInfo, RedisFuture, RedisResult,
    TlsCertificates, Value,
};
use std::sync::Arc;
use std::time::Duration;

/// Why Redis cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The address.
    #[error("redis.url: {0}")]
    Url(String),
    /// The certificates.
    #[error("redis.ca_file: {0}")]
    Roots(String),
    /// The system gives no thread, or no way to wait for sockets.
    #[error("the bus could not be started: {0}")]
    System(std::io::Error),
}

/// What takes messages that come unasked. Called on the connection's own task.
pub type Pushes = Arc<dyn Fn(PushInfo) + Send + Sync>;

struct Sender(Pushes);

impl AsyncPushSender for Sender {
    fn send(&self, info: PushInfo) -> Result<(), ::redis::aio::SendError> {
        (self.0)(info);
        Ok(())
    }
}

/// Makes connections.
#[derive(Clone)]
pub struct Connector {
    targets: Vec<ConnectionInfo>,
    tls: Option<TlsCertificates>,
    sharded: bool,
    connect_timeout: Duration,
    response_timeout: Duration,
}

impl Connector {
    /// As configured.
    ///
    /// # Errors
    /// When the address or the certificates cannot be used.
    pub fn new(redis: &config::Redis) -> Result<Connector, SetupError> {
        // Whoever was first has installed the same one. Without it TLS would not know which of two providers to take.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let tls = match redis.ca_file.as_os_str().is_empty() {
            true => None,
            false => {
                let pem = std::fs::read(&redis.ca_file).map_err(|e| SetupError::Roots(e.to_string()))?;
                Some(TlsCertificates { client_tls: None, root_cert: Some(pem) })
            }
        };
        let targets = redis.urls().map(|url| info(url, redis)).collect::<Result<Vec<_>, _>>()?;
        let connector = Connector {
            targets,
            tls,
            sharded: redis.sharded,
            connect_timeout: Duration::from_millis(redis.connect_timeout_ms),
            response_timeout: Duration::from_millis(redis.response_timeout_ms),
        };
        connector.try_out()?;
        Ok(connector)
    }

    /// Finds mistakes of configuration before the first connection.
    fn try_out(&self) -> Result<(), SetupError> {
        let roots = |e: ::redis::RedisError| SetupError::Roots(e.to_string());
        match self.sharded {
            true => self.cluster(None).map(drop).map_err(|e| SetupError::Url(e.to_string())),
            false => self.client().map(drop).map_err(roots),
        }
    }

    /// The same with another time limit for answers.
    pub fn with_response_timeout(&self, timeout: Duration) -> Connector {
        Connector { response_timeout: self.response_timeout.min(timeout), ..self.clone() }
    }

    /// Whether it is a Redis Cluster, with sharded pub/sub.
    pub fn is_sharded(&self) -> bool {
        self.sharded
    }

    fn client(&self) -> RedisResult<Client> {
        let target = self.targets.first().cloned().ok_or((::redis::ErrorKind::InvalidClientConfig, "no address"))?;
        match &self.tls {
            Some(tls) => Client::build_with_tls(target, tls.clone()),
            None => Client::open(target),
        }
    }

    fn cluster(&self, pushes: Option<Pushes>) -> RedisResult<ClusterClient> {
        let mut builder = ClusterClientBuilder::new(self.targets.iter().cloned())
            .use_protocol(ProtocolVersion::RESP3)
            .connection_timeout(self.connect_timeout)
            .response_timeout(self.response_timeout)
            .tcp_settings(TcpSettings::default().set_nodelay(true))
            .retries(2);
        if let Some(tls) = &self.tls {
            builder = builder.certs(tls.clone());
        }
        if let Some(pushes) = pushes {
            builder = builder.push_sender(Sender(pushes));
        }
        builder.build()
    }

    /// A new connection; what comes over it unasked goes to `pushes`.
    ///
    /// # Errors
    /// When it is not there within the time limits.
    pub async fn connect(&self, pushes: Option<Pushes>) -> RedisResult<Connection> {
        // The handshake has several answers to wait for.
        let limit = self.connect_timeout + 2 * self.response_timeout;
        let made = tokio::time::timeout(limit, self.connect_in_time(pushes)).await;
        made.unwrap_or_else(|_| Err((::redis::ErrorKind::Io, "no connection in time").into()))
    }

    async fn connect_in_time(&self, pushes: Option<Pushes>) -> RedisResult<Connection> {
        if self.sharded {
            return self.cluster(pushes)?.get_async_connection().await.map(Connection::Cluster);
        }
        let mut config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(Some(self.response_timeout));
        if let Some(pushes) = pushes {
            config = config.set_push_sender(Sender(pushes));
        }
        self.client()?.get_multiplexed_async_connection_with_config(&config).await.map(Connection::One)
    }
}

fn info(url: &str, redis: &config::Redis) -> Result<ConnectionInfo, SetupError> {
    let info = url.into_connection_info().map_err(|e| SetupError::Url(e.to_string()))?;
    let mut settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    if !redis.user.is_empty() {
        settings = settings.set_username(&redis.user);
    }
    if !redis.password.is_empty() {
        settings = settings.set_password(&redis.password);
    }
    Ok(info.set_redis_settings(settings).set_tcp_settings(TcpSettings::default().set_nodelay(true)))
}

/// A connection. Clones share it.
#[derive(Clone)]
pub enum Connection {
    /// To one server.
    One(MultiplexedConnection),
    /// To all servers of a Redis Cluster.
    Cluster(ClusterConnection),
}

impl Connection {
    /// Hears a channel from now on.
    ///
    /// # Errors
    /// When Redis did not say so in time.
    pub async fn subscribe(&mut self, channel: &str) -> RedisResult<()> {
        match self {
            Connection::One(one) => one.subscribe(channel).await,
            Connection::Cluster(cluster) => cluster.ssubscribe(channel).await,
        }
    }

    /// The command that publishes to a channel. It is answered with the number of subscribers that the message was handed to.
    pub fn publish(&self, channel: &str, message: &[u8]) -> Cmd {
        let name = match self {
            Connection::One(_) => "PUBLISH",
            Connection::Cluster(_) => "SPUBLISH",
        };
        let mut cmd = ::redis::cmd(name);
        cmd.arg(channel).arg(message);
        cmd
    }

    /// Sends commands at once, in their order where they go to one server; gives each one's answer where it is a number, else 1.
    ///
    /// # Errors
    /// When one of them failed, or was not answered in time: any of them may have been carried out.
    pub async fn all(&mut self, commands: Vec<Cmd>) -> RedisResult<Vec<i64>> {
        let answers: Vec<Value> = match self {
            Connection::One(one) => {
                let mut pipeline = Pipeline::with_capacity(commands.len());
                for command in commands {
                    pipeline.add_command(command);
                }
                pipeline.query_async(one).await?
            }
            Connection::Cluster(cluster) => {
                let each = commands.into_iter().map(|command| {
                    let mut cluster = cluster.clone();
                    async move { command.query_async(&mut cluster).await }
                });
                futures_util::future::try_join_all(each).await?
            }
        };
        let number = |answer| if let Value::Int(number) = answer { number } else { 1 };
        Ok(answers.into_iter().map(number).collect())
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Connection::One(one) => one.req_packed_command(cmd),
            Connection::Cluster(cluster) => cluster.req_packed_command(cmd),
        }
    }
    fn req_packed_commands<'a>(&'a mut self, pipeline: &'a Pipeline, offset: usize, count: usize) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Connection::One(one) => one.req_packed_commands(pipeline, offset, count),
            Connection::Cluster(cluster) => cluster.req_packed_commands(pipeline, offset, count),
        }
    }
    fn get_db(&self) -> i64 {
        match self {
            Connection::One(one) => one.get_db(),
            Connection::Cluster(cluster) => cluster.get_db(),
        }
    }
}

/// How long to wait before the next attempt to connect: longer each time, and never the same for two nodes.
#[derive(Debug)]
pub struct Pause(Duration);

impl Pause {
    const FIRST: Duration = Duration::from_millis(50);
    /// Short: a Redis that is back is wanted at once, and a refused connection costs nothing.
    const MOST: Duration = Duration::from_millis(1_000);

    /// The first is short.
    pub fn new() -> Pause {
        Pause(Pause::FIRST)
    }
    /// The next one: between half of what is due and all of it.
    pub fn after_failure(&mut self) -> Duration {
        let due = self.0;
        self.0 = (due * 2).min(Pause::MOST);
        due.mul_f64(rand::random_range(0.5..1.0))
    }
    /// It worked.
    pub fn over(&mut self) {
        self.0 = Pause::FIRST;
    }
}

impl Default for Pause {
    fn default() -> Self {
        Pause::new()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_begin_anew() {
        let mut pause = Pause::new();
        let waited: Vec<Duration> = (0..20).map(|_| pause.after_failure()).collect();
        assert!(waited[0] <= Pause::FIRST && waited.iter().all(|w| *w >= Pause::FIRST / 2 && *w <= Pause::MOST));
        assert!(waited[19] >= Pause::MOST / 2);
        pause.over();
        assert!(pause.after_failure() <= Pause::FIRST);
    }

    #[test]
    fn mistakes_are_found_before_the_first_connection() {
        let redis = |url: &str| config::Redis { url: url.into(), ..config::Redis::default() };
        assert!(Connector::new(&redis("redis://127.0.0.1:1")).is_ok());
        assert!(Connector::new(&config::Redis { sharded: true, ..redis("redis://127.0.0.1:1,redis://127.0.0.1:2") }).is_ok());
        assert!(matches!(Connector::new(&redis("redis://127.0.0.1:99999")), Err(SetupError::Url(_))));
        let missing = config::Redis { ca_file: "no such file".into(), ..redis("rediss://127.0.0.1:1") };
        assert!(matches!(Connector::new(&missing), Err(SetupError::Roots(_))));
        let tmp = tempfile::tempdir().unwrap();
        let broken = tmp.path().join("ca.pem");
        std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n").unwrap();
        let broken = config::Redis { ca_file: broken, ..redis("rediss://127.0.0.1:1") };
        assert!(matches!(Connector::new(&broken), Err(SetupError::Roots(_))));
    }
}
