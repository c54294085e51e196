//! Which values are allowed, and which are allowed but worth a warning.
//!
//! Pure: looks at the values alone, at no file, clock or network. Problems carry no place; [`super::load`] adds it.

use super::load::{Origin, Problem};
use super::{
    Auth, Cluster, Config, Http, KeySource, Mail, MailTransport, Moderation, Outbound, Proxy, Push, Redis, Rooms, Scylla, SmtpTls, Socket,
    Tls, Webhooks,
};
use std::ops::RangeInclusive;

/// Bytes of a signing secret at least: HS256 is as strong as its key up to 256 bits.
pub const SECRET_BYTES_MIN: usize = 32;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
/// An hour and a day, in milliseconds: limits that only catch a wrong unit.
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// Collects problems.
#[derive(Default)]
struct Found(Vec<Problem>);

impl Found {
    fn say(&mut self, key: &str, message: impl Into<String>) {
        self.0.push(Problem { key: key.into(), origin: Origin::Default, message: message.into() });
    }
    fn unless(&mut self, fine: bool, key: &str, message: impl Into<String>) {
        if !fine {
            self.say(key, message);
        }
    }
    fn range(&mut self, key: &str, value: u64, range: RangeInclusive<u64>) {
        self.unless(range.contains(&value), key, format!("{value} is out of range: {} to {}", range.start(), range.end()));
    }
    fn size(&mut self, key: &str, value: usize, range: RangeInclusive<u64>) {
        self.range(key, value as u64, range);
    }
}

impl Config {
    /// Whether every value is allowed, on its own and beside the others.
    pub fn validate(&self) -> Result<(), Vec<Problem>> {
        let mut f = Found::default();
        http(&mut f, &self.http);
        tls(&mut f, &self.tls);
        proxy(&mut f, &self.proxy);
        f.range("audit.retention_days", self.audit.retention_days, 1..=3_650);
        let same = self.http.listen == self.admin.listen && self.admin.listen.port() != 0;
        f.unless(!same, "admin.listen", "is http.listen too; the two listeners need an address each");
        self.storage(&mut f);
        scylla(&mut f, &self.scylla);
        auth(&mut f, &self.auth);
        mail(&mut f, &self.mail);
        issuers(&mut f, &self.auth);
        webhooks(&mut f, &self.webhooks);
        socket(&mut f, &self.socket);
        rooms(&mut f, &self.rooms);
        moderation(&mut f, &self.moderation);
        f.range("presence.offline_debounce_ms", self.presence.offline_debounce_ms, 0..=HOUR_MS);
        f.range("presence.seen_every_ms", self.presence.seen_every_ms, 1_000..=24 * HOUR_MS);
        f.size("presence.contacts_max", self.presence.contacts_max, 1..=1_000_000);
        outbound(&mut f, &self.outbound);
        push(&mut f, &self.push);
        cluster(&mut f, &self.cluster, self.redis.is_on());
        redis(&mut f, &self.redis);
        let filter = tracing_subscriber::EnvFilter::try_new(&self.log.filter);
        f.unless(filter.is_ok(), "log.filter", "is not a filter such as \"info\" or \"info,hubbub::actors=debug\"");
        if f.0.is_empty() { Ok(()) } else { Err(f.0) }
    }

    fn storage(&self, f: &mut Found) {
        let s = &self.storage;
        f.unless(!s.data_dir.as_os_str().is_empty(), "storage.data_dir", "must name a directory");
        f.unless(
            s.disk_quota_bytes == 0 || s.disk_quota_bytes >= MIB,
            "storage.disk_quota_bytes",
            "is 0 (no limit) or at least 1048576 (1 MiB)",
        );
        f.range("storage.shards", s.shards.into(), 1..=65_536);
        f.size("storage.appends_waiting_max", s.appends_waiting_max, 1..=10_000_000);
        f.range("storage.cache_bytes", s.cache_bytes, MIB..=1 << 50);
    }

    /// What is allowed and yet rarely meant: `config check` prints it.
    pub fn warnings(&self) -> Vec<Problem> {
        let mut f = Found::default();
        f.unless(!self.dev.echo, "dev.echo", "anybody may use /v1/echo without a token; for tests only");
        f.unless(!self.dev.faults, "dev.faults", "the admin listener can cause faults; for tests only");
        f.unless(self.dev.clock_offset_ms == 0, "dev.clock_offset_ms", "the clock of this node is made wrong; for tests only");
        f.unless(
            self.admin.listen.ip().is_loopback(),
            "admin.listen",
            "the operators' listener is reachable from other machines; keep it off public networks",
        );
        f.unless(
            self.http.listen.ip().is_loopback() || self.tls.is_on() || !self.proxy.trusted.is_empty(),
            "http.listen",
            "is reachable from other machines without TLS; set tls.certificate, or put a proxy that speaks TLS in front (proxy.trusted)",
        );
        f.unless(!self.http.origins.iter().any(|o| o == "*"), "http.origins", "\"*\" lets any web site use its visitors' sessions");
        f.unless(
            self.auth.secret.is_empty(),
            "auth.secret",
            "is part of the configuration; left empty it is made and kept in the data directory",
        );
        let retired = self.auth.retired_keys.is_empty();
        f.unless(retired, "auth.retired_keys", "tokens of an earlier key are accepted; drop it once auth.access_ttl_s has passed");
        let clear = self.mail.transport == MailTransport::Smtp && self.mail.smtp_tls == SmtpTls::None;
        f.unless(!clear, "mail.smtp_tls", "mail, with links in it that open accounts, goes to the mail server in the clear");
        let fits = self.rooms.text_bytes_max.saturating_add(self.rooms.data_bytes_max) <= self.socket.frame_bytes_max;
        f.unless(
            fits,
            "socket.frame_bytes_max",
            "does not hold rooms.text_bytes_max and rooms.data_bytes_max together: such a message cannot be sent",
        );
        let weak = self.auth.argon2_memory_kib < 19_456 || self.auth.argon2_passes < 2;
        f.unless(!weak, "auth.argon2_memory_kib", "passwords are hashed with less than 19456 KiB and 2 passes, which is quick to guess");
        let shared = "the log of this node is its own alone, in storage.data_dir: other nodes of the cluster do not see its rooms";
        f.unless(!self.redis.is_on(), "redis.url", shared);
        let clear = self.redis.urls().any(|url| url.starts_with("redis:")) && !self.redis.password.is_empty();
        f.unless(!clear, "redis.url", "the password, and what nodes tell each other, go to Redis in the clear");
        let ranges = self.outbound.allowed_ranges.is_empty();
        f.unless(
            ranges,
            "outbound.allowed_ranges",
            "whoever may name a webhook or a push endpoint reaches these addresses through this server",
        );
        for (key, value) in [
            ("limits.requests_per_second", self.limits.requests_per_second),
            ("limits.http_per_second", self.limits.http_per_second),
            ("limits.connects_per_second", self.limits.connects_per_second),
            ("limits.idempotency_keys_per_day", self.limits.idempotency_keys_per_day),
        ] {
            f.unless(value != 0, key, "is 0: no limit");
        }
        f.0
    }
}

fn cluster(f: &mut Found, c: &Cluster, on: bool) {
    f.unless(!on || c.node > 0, "cluster.node", "must be a number from 1 up that no other node has, with redis.url");
    let plain = (1..=64).contains(&c.name.len()) && c.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    f.unless(plain, "cluster.name", "must be 1 to 64 letters, digits, dots, - or _");
    f.range("cluster.weight", c.weight.into(), 0..=10_000);
    f.range("cluster.lease_ms", c.lease_ms, 100..=HOUR_MS);
    f.range("cluster.renew_ms", c.renew_ms, 10..=HOUR_MS);
    let often = c.renew_ms.saturating_mul(3) <= c.lease_ms;
    f.unless(often, "cluster.renew_ms", "must be at most a third of cluster.lease_ms: one renewal that is late would be a node's end");
    f.range("cluster.confirm_ms", c.confirm_ms, 1..=HOUR_MS);
}

fn redis(f: &mut Found, r: &Redis) {
    for text in r.urls() {
        let wanted = "is not an address such as \"redis://redis.internal:6379\" or \"rediss://redis.internal:6380\"";
        match url::Url::parse(text) {
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                f.say("redis.url", "must hold no user name and no password; they are redis.user and redis.password");
            }
            Ok(url) => f.unless(matches!(url.scheme(), "redis" | "rediss") && url.has_host(), "redis.url", wanted),
            // What does not parse may hold a password: it is not repeated.
            Err(_) => f.say("redis.url", wanted),
        }
    }
    let several = r.urls().count() > 1;
    f.unless(!several || r.sharded, "redis.url", "is one address, unless redis.sharded says that it is a Redis Cluster");
    let tls = r.urls().all(|url| url.starts_with("rediss:"));
    f.unless(r.ca_file.as_os_str().is_empty() || tls, "redis.ca_file", "has no meaning without TLS: redis.url must begin with rediss://");
    f.unless(r.user.is_empty() || !r.password.is_empty(), "redis.password", "redis.user needs it");
    f.range("redis.connect_timeout_ms", r.connect_timeout_ms, 10..=HOUR_MS);
    f.range("redis.response_timeout_ms", r.response_timeout_ms, 10..=HOUR_MS);
    f.size("redis.queue_envelopes_max", r.queue_envelopes_max, 16..=10_000_000);
    f.size("redis.queue_bytes_max", r.queue_bytes_max, 64 * KIB..=16 * 1024 * MIB);
    f.size("redis.batch_bytes_max", r.batch_bytes_max, KIB..=8 * MIB);
}

fn scylla(f: &mut Found, s: &Scylla) {
    f.unless(!s.nodes.is_empty() && s.nodes.iter().all(|n| !n.trim().is_empty()), "scylla.nodes", "must name a node of the database");
    let plain = |name: &str, max| name.len() <= max && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    let named = plain(&s.keyspace, 40) && s.keyspace.starts_with(|c: char| c.is_ascii_lowercase());
    f.unless(named, "scylla.keyspace", "is 1 to 40 of a-z, 0-9 and _, and begins with a letter");
    let datacenter = s.datacenter.len() <= 100 && s.datacenter.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-. ".contains(&b));
    f.unless(datacenter, "scylla.datacenter", "is a name of letters, digits, _, - and .");
    f.range("scylla.replication", s.replication.into(), 1..=20);
    f.unless(s.user.is_empty() == s.password.is_empty(), "scylla.password", "scylla.user and scylla.password go together");
    f.range("scylla.connect_timeout_ms", s.connect_timeout_ms, 1..=60_000);
    // Rooms wait 10 s for an append and 5 s for a read: what is known earlier is known in time.
    f.range("scylla.request_timeout_ms", s.request_timeout_ms, 50..=4_500);
    f.range("scylla.retries_max", s.retries_max.into(), 0..=10);
    // Above it a connection runs out of numbers for its requests.
    f.size("scylla.in_flight_max", s.in_flight_max, 1..=16_384);
    f.size("scylla.waiting_max", s.waiting_max, 0..=1_000_000);
    f.range("scylla.down_after", s.down_after.into(), 1..=10_000);
    f.range("scylla.down_for_ms", s.down_for_ms, 10..=60_000);
}

fn push(f: &mut Found, p: &Push) {
    f.range("push.delay_ms", p.delay_ms, 0..=HOUR_MS);
    f.range("push.interval_ms", p.interval_ms, 0..=DAY_MS);
    // Push services keep nothing for longer than four weeks.
    f.range("push.ttl_s", p.ttl_s, 1..=28 * 86_400);
    f.range("push.threads", p.threads.into(), 1..=64);
    let contact = ["mailto:", "https://"].iter().any(|scheme| p.contact.len() > scheme.len() && p.contact.starts_with(scheme));
    f.unless(p.contact.is_empty() || contact, "push.contact", "is an address that begins with mailto: or https://, or empty");
    let gateway = ["http://", "https://"].iter().any(|scheme| p.gateway_url.starts_with(scheme));
    f.unless(p.gateway_url.is_empty() || gateway, "push.gateway_url", "is an address that begins with https://, or empty");
}

fn outbound(f: &mut Found, o: &Outbound) {
    for range in &o.allowed_ranges {
        f.unless(
            range.parse::<ipnet::IpNet>().is_ok(),
            "outbound.allowed_ranges",
            format!("{range:?} is not a range such as \"10.0.0.0/8\""),
        );
    }
    f.range("outbound.connect_timeout_ms", o.connect_timeout_ms, 1..=HOUR_MS);
    f.range("outbound.timeout_ms", o.timeout_ms, 1..=HOUR_MS);
    f.size("outbound.requests_max", o.requests_max, 1..=65_536);
}

fn http(f: &mut Found, h: &Http) {
    f.size("http.workers", h.workers, 0..=1024);
    for origin in &h.origins {
        f.unless(
            origin == "*" || is_origin(origin),
            "http.origins",
            format!("{origin:?} is not an origin such as \"https://chat.example\" (no path, no \"/\" at the end)"),
        );
    }
    f.size("http.body_bytes_max", h.body_bytes_max, KIB..=64 * MIB);
    f.range("http.stop_timeout_ms", h.stop_timeout_ms, 0..=HOUR_MS);
    f.range("http.drain_spread_ms", h.drain_spread_ms, 0..=HOUR_MS);
}

fn tls(f: &mut Found, t: &Tls) {
    let both = t.certificate.as_os_str().is_empty() == t.key.as_os_str().is_empty();
    f.unless(both, "tls.key", "needs tls.certificate beside it, and the other way round");
    f.range("tls.hsts_s", t.hsts_s, 0..=10 * 365 * 86_400);
}

fn proxy(f: &mut Found, p: &Proxy) {
    for network in &p.trusted {
        let wanted = format!("{network:?} is neither a network such as \"10.0.0.0/8\" nor an address");
        f.unless(super::network(network).is_some(), "proxy.trusted", wanted);
    }
    f.unless(!p.protocol || !p.trusted.is_empty(), "proxy.protocol", "needs proxy.trusted: nobody else may say who the client is");
}

fn is_origin(origin: &str) -> bool {
    let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    host.is_some_and(|h| !h.is_empty() && h.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]_".contains(&b)))
}

fn auth(f: &mut Found, a: &Auth) {
    let long = a.secret.is_empty() || a.secret.len() >= SECRET_BYTES_MIN;
    f.unless(long, "auth.secret", format!("has {} bytes; it needs at least {SECRET_BYTES_MIN}", a.secret.len()));
    let plain = |s: &str| (1..=64).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_graphic());
    f.unless(plain(&a.key_id), "auth.key_id", "must be 1 to 64 printable ASCII characters without spaces");
    for key in &a.retired_keys {
        // Neither the secret nor what may be one is repeated in the message.
        let fine = key.split_once(':').is_some_and(|(id, secret)| plain(id) && id != a.key_id && secret.len() >= SECRET_BYTES_MIN);
        let wanted = format!("each must be a key id other than auth.key_id, a colon, and a secret of at least {SECRET_BYTES_MIN} bytes");
        f.unless(fine, "auth.retired_keys", wanted);
    }
    f.unless((1..=256).contains(&a.issuer.len()), "auth.issuer", "must be 1 to 256 bytes");
    f.range("auth.access_ttl_s", a.access_ttl_s, 1..=7 * 86_400);
    f.range("auth.refresh_ttl_s", a.refresh_ttl_s, 1..=10 * 365 * 86_400);
    f.unless(a.refresh_ttl_s >= a.access_ttl_s, "auth.refresh_ttl_s", "must be at least auth.access_ttl_s");
    f.range("auth.argon2_memory_kib", a.argon2_memory_kib.into(), 8..=4 * MIB);
    f.range("auth.argon2_passes", a.argon2_passes.into(), 1..=100);
    f.size("auth.hash_threads", a.hash_threads, 1..=256);
    f.range("auth.attempts_per_minute", a.attempts_per_minute.into(), 1..=1_000_000);
    f.range("auth.reset_ttl_s", a.reset_ttl_s, 60..=7 * 86_400);
    f.range("auth.verify_ttl_s", a.verify_ttl_s, 60..=30 * 86_400);
}

fn mail(f: &mut Found, m: &Mail) {
    f.unless(m.from.parse::<lettre::message::Mailbox>().is_ok(), "mail.from", "is not a sender such as \"Hubbub <hubbub@chat.example>\"");
    let url = url::Url::parse(&m.public_url).is_ok_and(|u| matches!(u.scheme(), "http" | "https") && u.query().is_none());
    let fine = url && !m.public_url.ends_with('/') && !m.public_url.contains('#');
    f.unless(fine, "mail.public_url", "is not an address such as \"https://chat.example\" (no query, no \"/\" at the end)");
    f.unless(m.transport != MailTransport::Smtp || !m.smtp_host.is_empty(), "mail.smtp_host", "must name the mail server");
    let whole = m.smtp_user.is_empty() == m.smtp_password.is_empty();
    f.unless(whole, "mail.smtp_password", "mail.smtp_user and mail.smtp_password belong together");
    f.range("mail.timeout_ms", m.timeout_ms, 100..=HOUR_MS);
    f.size("mail.waiting_max", m.waiting_max, 1..=100_000);
    f.range("mail.attempts_max", m.attempts_max.into(), 1..=100);
    f.range("mail.retry_ms", m.retry_ms, 1..=HOUR_MS);
}

fn socket(f: &mut Found, s: &Socket) {
    f.size("socket.frame_bytes_max", s.frame_bytes_max, KIB..=64 * MIB);
    f.size("socket.connections_max", s.connections_max, 1..=10_000_000);
    f.size("socket.connections_per_address_max", s.connections_per_address_max, 1..=10_000_000);
    f.size("socket.unauthenticated_per_address_max", s.unauthenticated_per_address_max, 1..=10_000_000);
    f.range("socket.auth_timeout_ms", s.auth_timeout_ms, 50..=HOUR_MS);
    f.range("socket.heartbeat_ms", s.heartbeat_ms, 50..=HOUR_MS);
    f.size("socket.outbox_soft_bytes", s.outbox_soft_bytes, KIB..=1024 * MIB);
    f.size("socket.outbox_hard_bytes", s.outbox_hard_bytes, KIB..=1024 * MIB);
    f.unless(s.outbox_soft_bytes < s.outbox_hard_bytes, "socket.outbox_soft_bytes", "must be less than socket.outbox_hard_bytes");
    f.unless(
        s.frame_bytes_max < s.outbox_hard_bytes,
        "socket.outbox_hard_bytes",
        "must be more than socket.frame_bytes_max, or one large message closes its readers",
    );
    f.range("socket.outbox_stall_ms", s.outbox_stall_ms, 50..=HOUR_MS);
    f.size("socket.requests_in_flight_max", s.requests_in_flight_max, 1..=65_536);
    f.range("socket.request_timeout_ms", s.request_timeout_ms, 50..=HOUR_MS);
    f.range("socket.malformed_max", s.malformed_max.into(), 1..=1_000_000);
    f.size("socket.send_buffer_bytes", s.send_buffer_bytes, 4 * KIB..=64 * MIB);
}

fn moderation(f: &mut Found, m: &Moderation) {
    f.range("moderation.reports_per_hour", m.reports_per_hour.into(), 1..=1_000_000);
    f.size("moderation.reports_open_max", m.reports_open_max, 1..=1_000_000);
    f.range("moderation.reports_kept_days", m.reports_kept_days, 1..=36_500);
    let url = m.filter_url.strip_prefix("https://").or_else(|| m.filter_url.strip_prefix("http://"));
    let fine = m.filter_url.is_empty() || url.is_some_and(|rest| !rest.is_empty() && !rest.contains(char::is_whitespace));
    f.unless(fine, "moderation.filter_url", "is not an address such as \"https://filter.example/screen\"");
    f.range("moderation.filter_timeout_ms", m.filter_timeout_ms, 10..=8_000);
    f.size("moderation.filter_calls_max", m.filter_calls_max, 1..=10_000);
}

fn rooms(f: &mut Found, r: &Rooms) {
    f.size("rooms.threads", r.threads, 0..=1024);
    f.size("rooms.text_bytes_max", r.text_bytes_max, 1..=MIB);
    f.size("rooms.data_bytes_max", r.data_bytes_max, 0..=MIB);
    f.size("rooms.mentions_max", r.mentions_max, 0..=10_000);
    f.size("rooms.attachments_max", r.attachments_max, 0..=1_000);
    f.range("rooms.group_members_max", r.group_members_max, 2..=1_000_000);
    f.size("rooms.rooms_per_user_max", r.rooms_per_user_max, 1..=1_000_000);
    f.range("rooms.repeat_window", r.repeat_window, 1..=10_000_000);
    f.range("rooms.idle_ms", r.idle_ms, 50..=DAY_MS);
    f.size("rooms.waiting_max", r.waiting_max, 1..=10_000_000);
    // An append is of one bucket.
    f.size("rooms.batch_max", r.batch_max, 1..=crate::protocol::ids::BUCKET_ENTRIES);
    f.range("rooms.receipts_members_max", r.receipts_members_max, 0..=100_000);
    f.range("rooms.typing_ttl_ms", r.typing_ttl_ms, 50..=HOUR_MS);
    f.range("rooms.keep_s", r.keep_s, 0..=100 * 365 * 86_400);
    f.range("rooms.purge_every_s", r.purge_every_s, 1..=7 * 86_400);
    f.size("rooms.purge_rows_max", r.purge_rows_max, 1..=10_000_000);
    f.range("rooms.resume_entries_max", r.resume_entries_max, 1..=100_000_000);
}

/// Algorithms that an issuer may sign by.
const ALGORITHMS: &[&str] = &["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

fn issuers(f: &mut Found, a: &Auth) {
    let key = "auth.issuers";
    for (n, issuer) in a.issuers.iter().enumerate() {
        let name = &issuer.issuer;
        let mut must = |fine: bool, what: &str| f.unless(fine, key, format!("{name:?}: {what}"));
        must((1..=256).contains(&name.len()), "issuer must be 1 to 256 bytes");
        must(*name != a.issuer, "issuer is auth.issuer, our own");
        must(!a.issuers[..n].iter().any(|i| i.issuer == *name), "issuer is there twice");
        must(!issuer.audience.is_empty(), "audience must not be empty: a token for somebody else would do");
        must(issuer.source().is_some(), "needs exactly one of secret, public_key_file, jwks_file, jwks_url");
        let known = issuer.algorithms.iter().all(|a| ALGORITHMS.contains(&a.as_str()));
        must(known && !issuer.algorithms.is_empty(), &format!("algorithms must list some of {}", ALGORITHMS.join(", ")));
        let secret = issuer.source() == Some(KeySource::Secret);
        let fits = issuer.algorithms.iter().all(|a| a.starts_with("HS") == secret);
        must(fits, "a secret signs by HS… algorithms only, and a public key by the others only");
        must(!secret || issuer.secret.len() >= SECRET_BYTES_MIN, &format!("secret must have at least {SECRET_BYTES_MIN} bytes"));
        must((1..=86_400).contains(&issuer.jwks_refresh_s), "jwks_refresh_s is 1 to 86400");
        must((1..=3_600).contains(&issuer.jwks_pause_s), "jwks_pause_s is 1 to 3600");
    }
}

fn webhooks(f: &mut Found, w: &Webhooks) {
    f.size("webhooks.hooks_max", w.hooks_max, 0..=1_000);
    f.size("webhooks.waiting_max", w.waiting_max, 1..=1_000_000);
    f.size("webhooks.dead_max", w.dead_max, 1..=1_000_000);
    f.size("webhooks.in_flight_max", w.in_flight_max, 1..=1_000);
    f.range("webhooks.retry_first_ms", w.retry_first_ms, 1..=HOUR_MS);
    f.range("webhooks.retry_max_ms", w.retry_max_ms, 1..=DAY_MS);
    f.range("webhooks.retry_for_s", w.retry_for_s, 1..=30 * 86_400);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn keys(change: impl FnOnce(&mut Config)) -> Vec<String> {
        let mut c = Config::default();
        change(&mut c);
        c.validate().err().unwrap_or_default().into_iter().map(|p| p.key).collect()
    }

    #[test]
    fn the_defaults_are_allowed_and_worth_no_warning() {
        assert_eq!(Config::default().validate(), Ok(()));
        assert_eq!(Config::default().warnings(), []);
    }

    #[test]
    fn what_is_not_allowed_is_named() {
        assert_eq!(keys(|c| c.auth.secret = "x".repeat(31)), ["auth.secret"]);
        assert_eq!(keys(|c| c.auth.secret = "x".repeat(32)), [""; 0]);
        let secret = "x".repeat(32);
        for bad in [format!("0:{}", &secret[1..]), format!("1:{secret}"), format!("0 :{secret}"), format!(":{secret}"), secret.clone()] {
            assert_eq!(keys(|c| c.auth.retired_keys = vec![bad.clone()]), ["auth.retired_keys"], "{bad}");
        }
        assert_eq!(keys(|c| c.auth.retired_keys = vec![format!("0:{secret}")]), [""; 0]);
        assert_eq!(keys(|c| c.socket.outbox_soft_bytes = c.socket.outbox_hard_bytes), ["socket.outbox_soft_bytes"]);
        assert_eq!(keys(|c| c.socket.frame_bytes_max = c.socket.outbox_hard_bytes), ["socket.outbox_hard_bytes"]);
        assert_eq!(keys(|c| c.socket.heartbeat_ms = 0), ["socket.heartbeat_ms"]);
        assert_eq!(keys(|c| c.rooms.batch_max = 4097), ["rooms.batch_max"]);
        assert_eq!(keys(|c| c.storage.shards = 0), ["storage.shards"]);
        assert_eq!(keys(|c| c.admin.listen = c.http.listen), ["admin.listen"]);
        assert_eq!(keys(|c| c.log.filter = "a=b=c".into()), ["log.filter"]);
        assert_eq!(keys(|c| c.auth.refresh_ttl_s = c.auth.access_ttl_s - 1), ["auth.refresh_ttl_s"]);
        let free_ports = |c: &mut Config| {
            c.http.listen.set_port(0);
            c.admin.listen.set_port(0);
        };
        assert_eq!(keys(free_ports), [""; 0]);
    }

    #[test]
    fn mail_has_a_sender_a_place_for_links_and_whole_credentials() {
        assert_eq!(keys(|c| c.mail.from = "nobody".into()), ["mail.from"]);
        for bad in ["", "chat.example", "https://chat.example/", "https://chat.example/?a", "https://chat.example#a", "ftp://chat.example"]
        {
            assert_eq!(keys(|c| c.mail.public_url = bad.into()), ["mail.public_url"], "{bad}");
        }
        assert_eq!(keys(|c| c.mail.public_url = "https://chat.example/app".into()), [""; 0]);
        assert_eq!(keys(|c| c.mail.smtp_user = "hubbub".into()), ["mail.smtp_password"]);
    }

    #[test]
    fn origins_have_a_scheme_a_host_and_no_path() {
        for fine in ["*", "https://chat.example", "http://127.0.0.1:3000", "http://[::1]:80"] {
            assert_eq!(keys(|c| c.http.origins = vec![fine.into()]), [""; 0], "{fine}");
        }
        for bad in ["", "chat.example", "https://", "https://chat.example/", "https://a b", "ftp://x", "null"] {
            assert_eq!(keys(|c| c.http.origins = vec![bad.into()]), ["http.origins"], "{bad}");
        }
    }

    #[test]
    fn networks_of_proxies_are_networks_or_addresses() {
        for fine in ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::1"] {
            assert_eq!(keys(|c| c.proxy.trusted = vec![fine.into()]), [""; 0], "{fine}");
        }
        for bad in ["", "10.0.0.0/33", "proxy.internal", "*", "10.0.0.1:80"] {
            assert_eq!(keys(|c| c.proxy.trusted = vec![bad.into()]), ["proxy.trusted"], "{bad}");
        }
        assert_eq!(keys(|c| c.proxy.protocol = true), ["proxy.protocol"]);
        assert_eq!(keys(|c| c.tls.certificate = "x.pem".into()), ["tls.key"]);
    }

    #[test]
    fn a_node_of_a_cluster_has_a_number_and_an_address_of_redis() {
        let with = |change: fn(&mut Config)| {
            keys(|c| {
                c.redis.url = "redis://127.0.0.1:6379".into();
                c.cluster.node = 1;
                change(c);
            })
        };
        assert_eq!(with(|_| {}), [""; 0]);
        assert_eq!(with(|c| c.cluster.node = 0), ["cluster.node"]);
        assert_eq!(with(|c| c.cluster.name = "a b".into()), ["cluster.name"]);
        assert_eq!(with(|c| c.cluster.renew_ms = 201), ["cluster.renew_ms"]);
        for bad in ["127.0.0.1:6379", "http://127.0.0.1", "redis://:secret@127.0.0.1", "redis://a,redis://b"] {
            assert_eq!(keys(|c| (c.redis.url, c.cluster.node) = (bad.into(), 1)), ["redis.url"], "{bad}");
        }
        assert_eq!(with(|c| (c.redis.url, c.redis.sharded) = ("redis://a:1, redis://b:2/".into(), true)), [""; 0]);
        assert_eq!(with(|c| c.redis.ca_file = "ca.pem".into()), ["redis.ca_file"]);
        assert_eq!(with(|c| c.redis.user = "hubbub".into()), ["redis.password"]);
    }

    #[test]
    fn what_opens_the_server_up_is_warned_of() {
        let mut c = Config::default();
        c.dev.echo = true;
        c.admin.listen = ([0, 0, 0, 0], 1).into();
        c.limits.http_per_second = 0;
        c.socket.frame_bytes_max = 32 * 1024 - 1;
        let keys: Vec<_> = c.warnings().into_iter().map(|p| p.key).collect();
        assert_eq!(keys, ["dev.echo", "admin.listen", "socket.frame_bytes_max", "limits.http_per_second"]);
    }
}
