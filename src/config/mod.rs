//! Typed configuration: defaults < file < environment (`HUBBUB_A__B`) < flags. One struct per concern.
//!
//! `config/default.toml` documents every key and shows its default; a test keeps the two equal.
//! An unknown key is an error that names the nearest key and the line (see [`load`]).

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

pub mod keys;
pub mod load;
pub mod secrets;
pub mod validate;

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident: $ty:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name { $($(#[$fdoc])* pub $field: $ty,)* }
        impl Default for $name {
            fn default() -> Self { $name { $($field: $default,)* } }
        }
    };
}

mod issuer;

pub use issuer::{Issuer, KeySource};

section! {
    /// Everything.
    #[derive(Debug)]
    Config {
        /// Clients' listener.
        http: Http = Http::default(),
        /// TLS of the clients' listener.
        tls: Tls = Tls::default(),
        /// Proxies in front of the server.
        proxy: Proxy = Proxy::default(),
        /// Operators' listener.
        admin: Admin = Admin::default(),
        /// What is written down of administrative acts.
        audit: Audit = Audit::default(),
        /// What is kept, and where.
        storage: Storage = Storage::default(),
        /// The database of a cluster.
        scylla: Scylla = Scylla::default(),
        /// Signing in.
        auth: Auth = Auth::default(),
        /// Mail to people.
        mail: Mail = Mail::default(),
        /// Sockets.
        socket: Socket = Socket::default(),
        /// Rooms.
        rooms: Rooms = Rooms::default(),
        /// Presence.
        presence: Presence = Presence::default(),
        /// Reports, and the filter of messages.
        moderation: Moderation = Moderation::default(),
        /// Rate limits.
        limits: Limits = Limits::default(),
        /// Offline push.
        push: Push = Push::default(),
        /// Requests to others: webhooks, push services, issuers.
        outbound: Outbound = Outbound::default(),
        /// Outgoing webhooks.
        webhooks: Webhooks = Webhooks::default(),
        /// The cluster that this node is one of, where Redis is configured.
        cluster: Cluster = Cluster::default(),
        /// Redis: carries what the nodes of a cluster tell each other.
        redis: Redis = Redis::default(),
        /// The server's own log.
        log: Log = Log::default(),
        /// For tests and trying things; all off in production.
        dev: Dev = Dev::default(),
    }
}
section! {
    /// Clients' listener: HTTP and WebSocket.
    #[derive(Debug)]
    Http {
        /// Address to listen on; port 0 picks a free one.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8080)),
        /// Worker threads (each with a hub); 0: one per core.
        workers: usize = 0,
        /// Origins that browsers may open sockets and send cookies from (`https://chat.example`); the server's own is always allowed, `*` allows all.
        origins: Vec<String> = Vec::new(),
        /// Bytes of a request body at most.
        body_bytes_max: usize = 256 * 1024,
        /// Milliseconds that a graceful stop may take.
        stop_timeout_ms: u64 = 10_000,
        /// Milliseconds over which clients are told to reconnect, spread evenly, when the server drains.
        drain_spread_ms: u64 = 5_000,
    }
}
section! {
    /// TLS of the clients' listener. Both files, or neither.
    #[derive(Debug)]
    Tls {
        /// PEM file of the certificate and those between it and its authority; empty: no TLS.
        certificate: PathBuf = PathBuf::new(),
        /// PEM file of its private key.
        key: PathBuf = PathBuf::new(),
        /// Seconds that browsers are told to come back by TLS only (HSTS), where a request came by TLS; 0: they are not told.
        hsts_s: u64 = 31_536_000,
    }
}
section! {
    /// Proxies in front of the server: what they say of clients is believed, and of nobody else.
    #[derive(Debug)]
    Proxy {
        /// Networks (`10.0.0.0/8`) and addresses of the proxies.
        trusted: Vec<String> = Vec::new(),
        /// The header that they write: `x_forwarded_for` (with X-Forwarded-Proto and -Host) or `forwarded` (RFC 7239). The other one is never read, because a proxy that does not write a header lets a client's own through.
        header: ForwardedBy = ForwardedBy::XForwardedFor,
        /// Connections begin with a PROXY protocol header (version 1 or 2) and come from trusted proxies only.
        protocol: bool = false,
    }
}
section! {
    /// What is written down of administrative acts.
    #[derive(Debug)]
    Audit {
        /// Days that the record of an act is kept.
        retention_days: u64 = 365,
    }
}
section! {
    /// Operators' listener: metrics, health, administration.
    #[derive(Debug)]
    Admin {
        /// Address to listen on; port 0 picks a free one. Keep it off public networks.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8081)),
    }
}
section! {
    /// What is kept, and where.
    #[derive(Debug)]
    Storage {
        /// `embedded`: in the data directory, for one server; `scylla`: in a database (`[scylla]`), for any number of servers.
        kind: StorageKind = StorageKind::Embedded,
        /// Directory of everything the server keeps.
        data_dir: PathBuf = PathBuf::from("./data"),
        /// Bytes the directory may hold; above it sends are refused (`quota_exceeded`). 0: no limit but the disk.
        disk_quota_bytes: u64 = 0,
        /// Bytes that must stay free on the disk; below it sends are refused.
        disk_free_bytes_min: u64 = 256 * 1024 * 1024,
        /// Shards of a new store; fixed once it is created.
        shards: u32 = crate::protocol::ids::SHARDS_DEFAULT,
        /// Appends that may wait for the device, over all rooms; above it they are refused (`busy`).
        appends_waiting_max: usize = 8_192,
        /// Bytes of cache for reads.
        cache_bytes: u64 = 64 * 1024 * 1024,
    }
}
section! {
    /// The database of a cluster: ScyllaDB, or another that speaks CQL (docs/STORAGE.md). Used when `storage.kind` is `scylla`. Its `Debug` (in [`secrets`]) leaves the password out.
    Scylla {
        /// Some of its nodes, each `host` or `host:port` (9042 unless said); the others are found by them.
        nodes: Vec<String> = vec!["127.0.0.1:9042".into()],
        /// Keyspace of the tables. Epochs, names and what else is decided by compare-and-set lie in a second one, with `_cas` at its end.
        keyspace: String = "hubbub".into(),
        /// The data centre that holds everything; empty: that of the node first reached.
        datacenter: String = String::new(),
        /// Copies of every row, where the keyspaces are still to be made. Below 3 no node of the database may be missing.
        replication: u32 = 3,
        /// User name there; empty: without signing in.
        user: String = String::new(),
        /// Password there.
        password: String = String::new(),
        /// PEM file with the authorities that its certificates are from; empty: no TLS.
        ca_file: PathBuf = PathBuf::new(),
        /// Milliseconds until a connection must be there.
        connect_timeout_ms: u64 = 5_000,
        /// Milliseconds that a request may take, repetitions included (a compare-and-set twice as many); then its outcome counts as unknown.
        request_timeout_ms: u64 = 2_000,
        /// Repetitions of a write that failed, within its time.
        retries_max: u32 = 2,
        /// Reads, and writes, that are under way at once.
        in_flight_max: usize = 1_024,
        /// Reads, and writes, that may wait beside those; above it they are refused (`busy`).
        waiting_max: usize = 8_192,
        /// Requests that fail in a row until the database counts as down: then requests are refused at once (`log_unavailable`).
        down_after: u32 = 8,
        /// Milliseconds until one is let through to see whether it is back.
        down_for_ms: u64 = 500,
    }
}
section! {
    /// Signing in. Its `Debug` (in [`secrets`]) leaves the secrets out.
    Auth {
        /// May people make accounts by themselves?
        registration: bool = true,
        /// Secret that signs access tokens (HS256), at least 32 bytes; empty: made at the first start and kept in the data directory.
        secret: String = String::new(),
        /// Key id in the tokens' header.
        key_id: String = "1".into(),
        /// Earlier keys that tokens may still be signed with, each `key id:secret`. Drop one when its last token is over (`access_ttl_s`).
        retired_keys: Vec<String> = Vec::new(),
        /// Issuer (`iss`) that tokens carry and must carry.
        issuer: String = "hubbub".into(),
        /// Seconds an access token is valid.
        access_ttl_s: u64 = 900,
        /// Seconds a refresh token is valid.
        refresh_ttl_s: u64 = 30 * 86_400,
        /// Argon2id: KiB of memory for a hash.
        argon2_memory_kib: u32 = 19_456,
        /// Argon2id: passes.
        argon2_passes: u32 = 2,
        /// Threads that hash passwords; requests that find 64 waiting are refused (`busy`).
        hash_threads: usize = 1,
        /// Sign-in and registration attempts per address and minute.
        attempts_per_minute: u32 = 30,
        /// Seconds that a link to reset a password works.
        reset_ttl_s: u64 = 3_600,
        /// Seconds that a link to verify an e-mail address works.
        verify_ttl_s: u64 = 86_400,
        /// Issuers whose tokens are accepted beside our own: one `[[auth.issuers]]` each (docs/embedding/issuers.md).
        issuers: Vec<Issuer> = Vec::new(),
    }
}
section! {
    /// Mail to people: links to reset a password and to verify an address, notices of changes. Its `Debug` (in [`secrets`]) leaves the password out.
    Mail {
        /// `file`: into `outbox/` of the data directory, one `.eml` a mail; `smtp`: to a mail server; `none`: nowhere.
        transport: MailTransport = MailTransport::File,
        /// Sender, as `Hubbub <hubbub@chat.example>`.
        from: String = "Hubbub <hubbub@localhost>".into(),
        /// What links begin with: the address under which people reach the web app.
        public_url: String = "http://127.0.0.1:8080".into(),
        /// The mail server.
        smtp_host: String = "localhost".into(),
        /// Its port; 0: the usual one for `smtp_tls` (465, 587, 25).
        smtp_port: u16 = 0,
        /// `tls`: from the first byte; `starttls`: required before anything is said; `none`: in the clear, for a server on this machine.
        smtp_tls: SmtpTls = SmtpTls::Starttls,
        /// User name there; empty: without signing in.
        smtp_user: String = String::new(),
        /// Password there.
        smtp_password: String = String::new(),
        /// Milliseconds an attempt to hand a mail over may take.
        timeout_ms: u64 = 15_000,
        /// Mails that may wait to be handed over; more are refused.
        waiting_max: usize = 256,
        /// Attempts until a mail is given up.
        attempts_max: u32 = 8,
        /// Milliseconds until the second attempt; each further pause is twice as long, at most 15 minutes.
        retry_ms: u64 = 2_000,
    }
}
section! {
    /// Sockets.
    #[derive(Debug)]
    Socket {
        /// Bytes of a frame, and of a message joined from fragments.
        frame_bytes_max: usize = 64 * 1024,
        /// Connections at most; above it 503.
        connections_max: usize = 18_000,
        /// Sockets of one address at most.
        connections_per_address_max: usize = 18_000,
        /// Sockets of one address that have not signed in.
        unauthenticated_per_address_max: usize = 256,
        /// Milliseconds to sign in.
        auth_timeout_ms: u64 = 10_000,
        /// Milliseconds between heartbeats: the server pings an idle client after it, and closes after twice it without a word.
        heartbeat_ms: u64 = 25_000,
        /// Bytes of an outbox above which ephemeral events are dropped, and above which a client that reads nothing is closed.
        outbox_soft_bytes: usize = 256 * 1024,
        /// Bytes of an outbox at most; above it the session is closed (4000).
        outbox_hard_bytes: usize = 4 * 1024 * 1024,
        /// Milliseconds without progress above `outbox_soft_bytes` until the session is closed.
        outbox_stall_ms: u64 = 2_000,
        /// Requests of a session that may be under way; above it reading from the socket pauses.
        requests_in_flight_max: usize = 64,
        /// Milliseconds a request may take until it is answered with `timeout`.
        request_timeout_ms: u64 = 10_000,
        /// Malformed frames until the socket is closed (4204).
        malformed_max: u32 = 20,
        /// Bytes of the kernel's send buffer.
        send_buffer_bytes: usize = 64 * 1024,
    }
}
section! {
    /// Rooms.
    #[derive(Debug)]
    Rooms {
        /// Threads for rooms and presence; 0: one per core.
        threads: usize = 0,
        /// Bytes of a message's text.
        text_bytes_max: usize = 16 * 1024,
        /// Bytes of a message's `data`.
        data_bytes_max: usize = 16 * 1024,
        /// Mentions of a message.
        mentions_max: usize = 50,
        /// Attachments of a message.
        attachments_max: usize = 10,
        /// Members of a group.
        group_members_max: u64 = 1_000,
        /// Rooms of a user.
        rooms_per_user_max: usize = 5_000,
        /// Seqs that an owner searches for a repeat before it answers `resync`.
        repeat_window: u64 = 10_000,
        /// Milliseconds until an idle room's or presence's actor is passivated.
        idle_ms: u64 = 60_000,
        /// Requests that may wait in one room; above it they are refused (`busy`).
        waiting_max: usize = 4_096,
        /// Messages of one append.
        batch_max: usize = 512,
        /// Members up to which receipts are sent to everybody.
        receipts_members_max: u64 = 100,
        /// Milliseconds until `typing` ends by itself.
        typing_ttl_ms: u64 = 6_000,
        /// Seconds that entries are kept, where a room has no setting of its own; 0: for ever.
        keep_s: u64 = 0,
        /// Seconds between two rounds of removing what is no longer kept.
        purge_every_s: u64 = 3_600,
        /// Rows of the log that a round removes at most; the rest is the next round's, which then follows at once.
        purge_rows_max: usize = 50_000,
        /// Missed entries of a room that a resume gives; above it the room is `resync`.
        resume_entries_max: u64 = 100_000,
    }
}
section! {
    /// Presence.
    #[derive(Debug)]
    Presence {
        /// Milliseconds after the last device is gone until contacts are told "offline".
        offline_debounce_ms: u64 = 3_000,
        /// Milliseconds after which it is noted again that a user is connected: so old may "last seen" be when a node dies.
        seen_every_ms: u64 = 300_000,
        /// Contacts of a user at most.
        contacts_max: usize = 5_000,
    }
}
section! {
    /// Reports, and the filter of messages. Its `Debug` (in [`secrets`]) leaves the secret out.
    Moderation {
        /// Reports of a user and hour.
        reports_per_hour: u32 = 30,
        /// Reports that may wait for a moderator; a new one above it is refused with `busy`.
        reports_open_max: usize = 10_000,
        /// Days that resolved reports are kept, with the texts that were reported.
        reports_kept_days: u64 = 365,
        /// Address that is asked about every message and edit before it is stored; empty: nobody is asked. It is called as the operator's own, also in private networks.
        filter_url: String = String::new(),
        /// Signs what is asked, as outgoing webhooks are signed; empty: not signed.
        filter_secret: String = String::new(),
        /// Milliseconds that an answer may take; then the filter counts as down.
        filter_timeout_ms: u64 = 1_000,
        /// What becomes of a message while the filter is down: `open` (it is stored unseen) or `closed` (it is refused with `busy`, and may be sent again).
        filter_down: FilterDown = FilterDown::Closed,
        /// Messages that the filter is asked about at once; more wait, within the time that an answer may take.
        filter_calls_max: usize = 64,
    }
}
section! {
    /// Rate limits. Each is a bucket: so many per second on average, and a burst of ten seconds' (keys: a day's) worth.
    #[derive(Debug)]
    Limits {
        /// Requests per user and second; 0: no limit.
        requests_per_second: u32 = 200,
        /// Requests to the HTTP API per address and second; 0: no limit.
        http_per_second: u32 = 100,
        /// New sockets per address and second; 0: no limit.
        connects_per_second: u32 = 500,
        /// `Idempotency-Key`s of a user per day, each kept for a day (about 1 KiB); 0: no limit.
        idempotency_keys_per_day: u32 = 100_000,
        /// Requests per API key and second; 0: no limit.
        key_requests_per_second: u32 = 200,
        /// Posts per incoming webhook and second; 0: no limit.
        hook_requests_per_second: u32 = 10,
    }
}
section! {
    /// Offline push: telling devices without a connection of messages.
    #[derive(Debug)]
    Push {
        /// Is a message's text part of what is pushed? Web Push encrypts it for the device; a gateway, and whoever it passes it on to, can read it.
        show_text: bool = false,
        /// Milliseconds between a message and its push: what is read meanwhile on another device is not pushed, and a burst becomes one push.
        delay_ms: u64 = 1_000,
        /// Milliseconds between two pushes of one room to one device at least; what comes meanwhile becomes one.
        interval_ms: u64 = 5_000,
        /// Seconds after which a push is not worth sending any more.
        ttl_s: u64 = 86_400,
        /// Threads that sign, encrypt and send.
        threads: u32 = 1,
        /// Whom push services may write to about this server: `mailto:…` or `https://…`. Some services insist on it.
        contact: String = String::new(),
        /// Address of your own push gateway, for devices that are known to it by a token; empty: there is none. What it gets is signed with `secrets/push_gateway.secret` of the data directory.
        gateway_url: String = String::new(),
    }
}
section! {
    /// Requests that this server makes to others: webhooks, push services, issuers' keys.
    #[derive(Debug)]
    Outbound {
        /// Private, loopback or special address ranges (`10.0.0.0/8`) that may be called all the same, also by plain http; others are refused.
        allowed_ranges: Vec<String> = Vec::new(),
        /// PEM file with certificates of authorities that are trusted beside the system's; empty: none.
        ca_file: PathBuf = PathBuf::new(),
        /// Milliseconds until a connection must be there.
        connect_timeout_ms: u64 = 5_000,
        /// Milliseconds that a request may take, from its beginning to the end of its answer.
        timeout_ms: u64 = 10_000,
        /// Requests under way at once; more wait, within their time limit.
        requests_max: usize = 128,
    }
}
section! {
    /// Outgoing webhooks.
    #[derive(Debug)]
    Webhooks {
        /// Webhooks at most.
        hooks_max: usize = 100,
        /// Events that may wait for one webhook; above it they go to its dead letters.
        waiting_max: usize = 10_000,
        /// Dead letters of one webhook; above it the oldest are dropped and counted.
        dead_max: usize = 10_000,
        /// Requests to one webhook at once.
        in_flight_max: usize = 8,
        /// Milliseconds before the first retry; each further pause is twice as long.
        retry_first_ms: u64 = 1_000,
        /// Milliseconds that a pause has at most.
        retry_max_ms: u64 = 900_000,
        /// Seconds that an event is tried before it goes to the dead letters.
        retry_for_s: u64 = 86_400,
    }
}
section! {
    /// The cluster that this node is one of. Counts where `redis.url` is set; else a node is alone.
    #[derive(Debug)]
    Cluster {
        /// Number of this node, from 1 up; no two nodes of a cluster may have the same.
        node: u32 = 0,
        /// Name of the cluster: clusters of different names may use one Redis.
        name: String = "hubbub".into(),
        /// This node's share of the shards beside the other nodes'; 0: it takes none.
        weight: u32 = 100,
        /// Milliseconds after which a node that no longer renews its lease counts as gone.
        lease_ms: u64 = 600,
        /// Milliseconds between two renewals of the lease; each also reads everybody's.
        renew_ms: u64 = 150,
        /// Milliseconds that a lease must be missing until the node's shards are taken over.
        confirm_ms: u64 = 150,
    }
}
section! {
    /// Redis: carries what the nodes of a cluster tell each other, and their leases; keeps nothing that may not be lost. Its `Debug` (in [`secrets`]) leaves the password out.
    Redis {
        /// Address, as `redis://redis.internal:6379` or, with TLS, `rediss://redis.internal:6380`; with `sharded` several, separated by commas. Empty: a node alone, without Redis.
        url: String = String::new(),
        /// User name there; empty: the default user.
        user: String = String::new(),
        /// Password there; empty: without signing in.
        password: String = String::new(),
        /// PEM file with the authorities that Redis' certificate may come from, instead of the system's; empty: the system's.
        ca_file: PathBuf = PathBuf::new(),
        /// Redis is a Redis Cluster (7 or newer): publish by sharded pub/sub.
        sharded: bool = false,
        /// Milliseconds until a connection must be there.
        connect_timeout_ms: u64 = 1_000,
        /// Milliseconds until an answer must be there; then Redis counts as silent and is connected to anew.
        response_timeout_ms: u64 = 1_000,
        /// Envelopes that may wait for one other node; above it ephemeral ones are dropped, then the oldest (and read from the log there).
        queue_envelopes_max: usize = 16_384,
        /// Bytes that may wait for one other node; above it the same.
        queue_bytes_max: usize = 8 * 1024 * 1024,
        /// Bytes of what is published at once to one node.
        batch_bytes_max: usize = 256 * 1024,
    }
}
section! {
    /// The server's own log, on standard error.
    #[derive(Debug)]
    Log {
        /// What to log, as tracing-subscriber's `EnvFilter` reads it.
        filter: String = "info".into(),
        /// `text` or `json`.
        format: LogFormat = LogFormat::Text,
    }
}
section! {
    /// For tests and trying things; all off in production. `config check` warns when one is on.
    #[derive(Debug)]
    Dev {
        /// Serve `/v1/echo`: a socket that sends back what it gets, without token.
        echo: bool = false,
        /// Let the admin listener cause faults (panics of actors).
        faults: bool = false,
        /// Lose every n-th envelope of entries between rooms and hubs (which must then backfill); 0: none.
        lose_envelopes_every: u64 = 0,
        /// Milliseconds by which this node's wall clock is made wrong; may be negative.
        clock_offset_ms: i64 = 0,
        /// Directory to serve the web app from, instead of the one in the binary; empty: the one in the binary.
        app_dir: PathBuf = PathBuf::new(),
    }
}

/// Where everything is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StorageKind {
    /// In the data directory.
    Embedded,
    /// In a database.
    Scylla,
}

/// Where mail goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailTransport {
    /// Into the data directory.
    File,
    /// To a mail server.
    Smtp,
    /// Nowhere.
    None,
}

/// How a mail server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SmtpTls {
    /// TLS from the first byte (465).
    Tls,
    /// TLS after STARTTLS, which is required (587).
    Starttls,
    /// In the clear (25).
    None,
}

/// The header by which trusted proxies say who the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForwardedBy {
    /// `X-Forwarded-For`, `-Proto` and `-Host`.
    XForwardedFor,
    /// `Forwarded`, RFC 7239.
    Forwarded,
}

/// What becomes of a message while the filter is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilterDown {
    /// It is stored unseen.
    Open,
    /// It is refused, and may be sent again.
    Closed,
}

/// A network as it stands in `proxy.trusted`: with its length, or a single address.
pub fn network(text: &str) -> Option<ipnet::IpNet> {
    text.parse().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(ipnet::IpNet::from))
}

impl Redis {
    /// Whether this node is one of a cluster.
    pub fn is_on(&self) -> bool {
        !self.url.is_empty()
    }
    /// The addresses: one, or with `sharded` several.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        self.url.split(',').map(str::trim).filter(|url| !url.is_empty())
    }
}

impl Tls {
    /// Whether the clients' listener speaks TLS.
    pub fn is_on(&self) -> bool {
        !self.certificate.as_os_str().is_empty()
    }
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: one object a line.
    Json,
}
