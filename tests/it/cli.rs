//! The command line: exit codes, accounts in a data directory and through a running server, what `dev` refuses.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

/// A directory of its own to run the binary in, with an environment of its own.
pub struct Work(tempfile::TempDir);

/// How a run ended.
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Work {
    pub fn new() -> Work {
        Work(tempfile::tempdir().unwrap())
    }
    pub fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.0.path().join(path)).unwrap()
    }
    pub fn mode(&self, path: &str) -> u32 {
        std::fs::metadata(self.0.path().join(path)).unwrap().permissions().mode() & 0o777
    }
    pub fn chmod(&self, path: &str, mode: u32) {
        std::fs::set_permissions(self.0.path().join(path), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    pub fn run(&self, args: &[&str]) -> Ran {
        self.run_full(args, &[], "")
    }
    pub fn run_with(&self, args: &[&str], env: &[(&str, &str)]) -> Ran {
        self.run_full(args, env, "")
    }
    fn run_full(&self, args: &[&str], env: &[(&str, &str)], input: &str) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hubbub"));
        command.args(args).current_dir(self.0.path()).env_clear().envs(env.iter().copied());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A run that does not read its input may be gone already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let done = child.wait_with_output().unwrap();
        let text = |b: Vec<u8>| String::from_utf8(b).unwrap();
        Ran { code: done.status.code(), out: text(done.stdout), err: text(done.stderr) }
    }
}

impl Ran {
    /// Its result; it must have gone well.
    pub fn ok(&self) -> String {
        assert_eq!(self.code, Some(0), "out: {}\nerr: {}", self.out, self.err);
        self.out.clone()
    }
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }
    /// It must have failed so, and said why on standard error.
    pub fn fails_with(&self, code: i32) {
        assert_eq!(self.code, Some(code), "out: {}\nerr: {}", self.out, self.err);
        assert!(!self.err.is_empty() || self.out.starts_with('{'), "says nothing");
    }
}

#[test]
fn exit_codes_tell_usage_from_configuration_from_failure() {
    let work = Work::new();
    for args in [&["--help"][..], &["--version"], &["user", "--help"], &["sabotage-list"]] {
        assert!(!work.run(args).ok().is_empty());
    }
    for args in
        [&[][..], &["nonsense"], &["serve", "--listen", "localhost"], &["serve", "--set", "x"], &["token"], &["token", "a", "--ttl", "1w"]]
    {
        work.run(args).fails_with(2);
    }
    work.run(&["serve", "--set", "http.workers=x"]).fails_with(78);
    work.run(&["serve", "--config", "absent.toml"]).fails_with(78);
    work.run(&["config", "init", "/proc/absent/x.toml"]).fails_with(1);
}

#[test]
fn the_sabotage_list_is_for_a_program() {
    let out = Work::new().run(&["sabotage-list"]).ok();
    assert_eq!(out.lines().count(), hubbub::sabotage::ALL.len());
    assert!(
        out.lines().all(|l| l.split_once('\t').is_some_and(|(name, promise)| !name.contains(' ') && promise.starts_with('P'))),
        "{out}"
    );
}

#[test]
fn dev_refuses_to_be_reached_from_other_machines() {
    let work = Work::new();
    for (args, env) in [
        (&["dev", "--listen", "0.0.0.0:0"][..], &[][..]),
        (&["dev", "--listen", "[::]:0"], &[]),
        (&["dev", "--admin-listen", "192.0.2.1:0"], &[]),
        (&["dev", "--set", "http.listen=0.0.0.0:0"], &[]),
        (&["dev"], &[("HUBBUB_HTTP__LISTEN", "0.0.0.0:0")]),
    ] {
        let ran = work.run_with(args, env);
        ran.fails_with(2);
        assert!(ran.err.contains("other machines can reach") && ran.err.contains("loopback"), "{}", ran.err);
    }
    assert_eq!(std::fs::read_dir(work.0.path()).unwrap().count(), 0, "nothing was made");
}

/// One request that a stand-in for the operators' listener got.
#[derive(Debug, PartialEq)]
struct Asked {
    line: String,
    bearer: String,
    body: Value,
}

/// Answers each request as `answer` says, one per connection, and gives back what was asked when the run is over.
fn operators_listener(work: &Work, run: impl FnOnce(), answer: fn(&str) -> (u16, Value)) -> Vec<Asked> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    work.write("data/node.json", &json!({ "pid": 1, "http": "127.0.0.1:1", "admin": address }).to_string());
    work.write("data/secrets/admin.token", &"a".repeat(64));
    work.chmod("data/secrets", 0o700);
    work.chmod("data/secrets/admin.token", 0o600);
    let server = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut line, mut bearer, mut length) = (String::new(), String::new(), 0);
            // A connection that asks nothing only looks whether somebody listens.
            if stream.read_line(&mut line).unwrap() == 0 {
                continue;
            }
            if line.starts_with("STOP") {
                return asked;
            }
            loop {
                let mut header = String::new();
                stream.read_line(&mut header).unwrap();
                match header.trim_end().split_once(": ") {
                    Some((name, value)) if name.eq_ignore_ascii_case("authorization") => bearer = value.into(),
                    Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().unwrap(),
                    Some(_) => {}
                    None => break,
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
            let (status, answer) = answer(&line);
            let text = answer.to_string();
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                text.len()
            );
            stream.get_mut().write_all(format!("{head}{text}").as_bytes()).unwrap();
            asked.push(Asked { line, bearer, body: serde_json::from_slice(&body).unwrap_or_default() });
        }
        asked
    });
    run();
    std::net::TcpStream::connect(address).unwrap().write_all(b"STOP\n").unwrap();
    let asked = server.join().unwrap();
    assert!(asked.iter().all(|a| a.bearer == format!("Bearer {}", "a".repeat(64))), "{asked:?}");
    asked.into_iter().filter(|a| a.line != "GET /admin/users?after=0&limit=1").collect()
}

fn as_the_server(line: &str) -> (u16, Value) {
    match line {
        "POST /admin/users" => (201, json!({ "user": "7", "name": "dora" })),
        "GET /admin/users?after=0&limit=1" => (200, json!({ "users": [] })),
        "GET /admin/users?after=0&limit=500" => {
            let row =
                |id: u64, disabled: bool| json!({ "user": id.to_string(), "name": format!("u{id}"), "disabled": disabled, "created": 1 });
            (200, json!({ "users": [row(1, false), row(2, true)] }))
        }
        "GET /admin/users?after=2&limit=500" => (200, json!({ "users": [] })),
        "POST /admin/users/dora/token" => (200, json!({ "token": "t.o.k", "expires": 99 })),
        "POST /admin/users/dora/disable" | "POST /admin/users/dora/password" => (200, json!({})),
        _ => (404, json!({ "code": "not_found", "detail": "no such user" })),
    }
}

#[test]
fn a_running_server_is_asked() {
    let work = Work::new();
    let asked = operators_listener(
        &work,
        || {
            let added = work.run_full(&["user", "add", "dora", "--password-stdin", "--json"], &[], "correct horse battery\n").json();
            assert_eq!(added, json!({ "user": "7", "name": "dora", "password": null }));
            let users = work.run(&["user", "list", "--json"]).json();
            assert_eq!((users["users"].as_array().unwrap().len(), &users["users"][1]["user"]), (2, &"2".into()));
            assert_eq!(work.run(&["user", "list"]).ok(), "u1\t1\tenabled\nu2\t2\tdisabled\n");
            assert_eq!(work.run(&["token", "dora", "--ttl", "15m"]).ok(), "t.o.k\n");
            assert_eq!(work.run(&["token", "dora", "--json"]).json(), json!({ "token": "t.o.k", "expires": 99 }));
            work.run(&["user", "disable", "dora"]).ok();
            let passwd = work.run(&["user", "passwd", "dora", "--json"]).json();
            assert_eq!(passwd["password"].as_str().unwrap().len(), 20);
            let ran = work.run(&["user", "enable", "nobody"]);
            ran.fails_with(1);
            assert_eq!(ran.err, "hubbub: no such user (not_found)\n");
            work.run(&["user", "enable", "../x"]).fails_with(1);
        },
        as_the_server,
    );
    assert_eq!(asked[0].body, json!({ "name": "dora", "password": "correct horse battery" }));
    let lines: Vec<_> = asked.iter().map(|a| a.line.as_str()).filter(|l| l.starts_with("POST")).collect();
    let user = "POST /admin/users";
    let wanted = ["", "/dora/token", "/dora/token", "/dora/disable", "/dora/password", "/nobody/enable"].map(|p| format!("{user}{p}"));
    assert_eq!(lines, wanted);
    let ttls: Vec<_> = asked.iter().filter(|a| a.line.ends_with("token")).map(|a| a.body["ttl_s"].as_u64().unwrap()).collect();
    assert_eq!(ttls, [900, 900]);
}

#[test]
fn without_a_server_the_data_directory_is_worked_on() {
    let work = Work::new();
    let cheap =
        [("HUBBUB_AUTH__ARGON2_MEMORY_KIB", "64"), ("HUBBUB_AUTH__ARGON2_PASSES", "1"), ("HUBBUB_STORAGE__DISK_FREE_BYTES_MIN", "0")];
    let run = |args: &[&str], input: &str| work.run_full(args, &cheap, input);
    let ran = run(&["user", "list"], "");
    ran.fails_with(1);
    assert!(ran.err.contains("there is no data directory ./data") && !work.0.path().join("data").exists(), "{}", ran.err);

    let ran = run(&["user", "add", "alice", "--json"], "");
    let alice = ran.json();
    assert_eq!((&alice["name"], alice["password"].as_str().unwrap().len()), (&"alice".into(), 20));
    assert!(ran.err.contains("made ./data/secrets/signing.key") && ran.err.contains("made ./data/secrets/admin.token"), "{}", ran.err);
    let modes = ["data", "data/secrets", "data/secrets/signing.key", "data/secrets/admin.token"].map(|p| work.mode(p));
    assert_eq!(modes, [0o700, 0o700, 0o600, 0o600]);
    let ran = run(&["user", "add", "bob", "--password-stdin", "--json"], "correct horse battery\n");
    assert_eq!((&ran.json()["password"], ran.err.as_str()), (&Value::Null, ""), "neither printed nor made again");
    let ran = run(&["user", "add", "alice"], "");
    ran.fails_with(1);
    assert!(ran.err.contains("(conflict)") && ran.out.is_empty(), "{}", ran.err);
    run(&["user", "add", "A Name"], "").fails_with(1);
    run(&["user", "add", "carl", "--password-stdin"], "\n").fails_with(1);

    run(&["user", "disable", "bob"], "").ok();
    let users = run(&["user", "list", "--json"], "").json();
    let of = |n: usize| (users["users"][n]["name"].as_str().unwrap(), users["users"][n]["disabled"].as_bool().unwrap());
    assert_eq!((of(0), of(1), users["users"].as_array().unwrap().len()), (("alice", false), ("bob", true), 2), "{users}");
    assert_eq!(users["users"][0]["user"], alice["user"]);
    run(&["token", "bob"], "").fails_with(1);
    assert_eq!(run(&["user", "enable", "bob", "--json"], "").json(), json!({ "name": "bob", "disabled": false }));
    run(&["user", "passwd", "nobody"], "").fails_with(1);
    assert_ne!(run(&["user", "passwd", "alice", "--json"], "").json()["password"], alice["password"]);
}

#[test]
fn a_token_is_one_that_the_server_would_accept() {
    use hubbub::auth::{now, tokens::Tokens};
    let work = Work::new();
    let env = [("HUBBUB_STORAGE__DISK_FREE_BYTES_MIN", "0")];
    work.run_with(&["user", "add", "alice"], &env).ok();
    let issued = work.run_with(&["token", "alice", "--ttl", "1h", "--json"], &env).json();
    let config = hubbub::config::Config::default();
    let secrets = hubbub::config::secrets::load_or_make(&work.0.path().join("data"), &config.auth).unwrap();
    let tokens = Tokens::of(&secrets.signing, &config.auth).unwrap();
    let claims = tokens.verify(issued["token"].as_str().unwrap(), now()).unwrap();
    let users = work.run_with(&["user", "list", "--json"], &env).json();
    assert_eq!(users["users"][0]["user"], claims.user.to_string());
    assert_eq!(issued["expires"], claims.expires);
    assert!((3_590_000..=3_600_000).contains(&(claims.expires - now())));
    assert!(!secrets.made.iter().any(|_| true), "the command had made them");
}

#[test]
fn a_left_over_node_file_is_passed_over() {
    let work = Work::new();
    let env = [("HUBBUB_STORAGE__DISK_FREE_BYTES_MIN", "0")];
    work.run_with(&["user", "add", "alice"], &env).ok();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    work.write("data/node.json", &json!({ "pid": 1, "http": closed, "admin": closed }).to_string());
    assert!(work.run_with(&["user", "list"], &env).ok().starts_with("alice\t"));
    work.write("data/node.json", "{");
    let ran = work.run_with(&["user", "list"], &env);
    assert!(ran.ok().starts_with("alice\t") && ran.err.contains("node.json: not understood"), "{}", ran.err);
}

#[test]
fn another_server_at_the_same_address_is_not_asked() {
    let work = Work::new();
    let env = [("HUBBUB_STORAGE__DISK_FREE_BYTES_MIN", "0")];
    work.run_with(&["user", "add", "alice"], &env).ok();
    let refuse = |_: &str| (401, json!({ "code": "unauthorized", "detail": "not this token" }));
    let run = || {
        let ran = work.run_with(&["user", "list"], &env);
        assert!(ran.ok().starts_with("alice\t") && ran.err.contains("is not the one of ./data"), "{}", ran.err);
    };
    assert_eq!(operators_listener(&work, run, refuse), []);
}

#[test]
fn a_held_data_directory_that_does_not_answer_is_left_alone() {
    let work = Work::new();
    let env = [("HUBBUB_STORAGE__DISK_FREE_BYTES_MIN", "0")];
    work.run_with(&["user", "add", "alice"], &env).ok();
    let options = hubbub::storage::embedded::EmbeddedOptions::default();
    let held = hubbub::storage::embedded::EmbeddedStore::open(&work.0.path().join("data"), options).unwrap();
    let ran = work.run_with(&["user", "list"], &env);
    ran.fails_with(1);
    assert!(ran.err.contains("open in another process") && ran.err.contains("try again"), "{}", ran.err);
    drop(held);
    work.run_with(&["user", "list"], &env).ok();
}

#[test]
fn commands_at_once_give_different_ids() {
    let work = Work::new();
    let env = [("HUBBUB_AUTH__ARGON2_MEMORY_KIB", "64"), ("HUBBUB_STORAGE__DISK_FREE_BYTES_MIN", "0")];
    work.run_with(&["user", "add", "first"], &env).ok();
    let names: Vec<_> = (0..6).map(|n| format!("user{n}")).collect();
    std::thread::scope(|s| {
        let (work, env) = (&work, &env);
        for name in &names {
            // The store is held by one at a time; who finds it held is told to try again.
            s.spawn(move || {
                let added = (0..300).any(|_| work.run_with(&["user", "add", name], env).code == Some(0));
                assert!(added, "{name}");
            });
        }
    });
    let users = work.run_with(&["user", "list", "--json"], &env).json();
    let ids: std::collections::BTreeSet<_> = users["users"].as_array().unwrap().iter().map(|u| u["user"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 7, "{users}");
}
