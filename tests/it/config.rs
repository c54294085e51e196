//! Configuration as an operator meets it: through the built binary, from files, the environment and flags.
#![allow(clippy::unwrap_used)]

use crate::cli::{Ran, Work};
use hubbub::config::Config;
use serde_json::Value;

const DOCUMENTED: &str = include_str!("../../config/default.toml");

/// Dotted keys of a document, each with the line it is on.
fn keys_by_line(text: &str) -> Vec<(String, usize)> {
    let mut section = String::new();
    let mut keys = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').into();
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            keys.push((format!("{section}.{key}"), number));
        }
    }
    keys
}

#[test]
fn the_documented_file_says_what_the_code_does() {
    let documented: toml::Table = DOCUMENTED.parse().unwrap();
    let code = toml::Table::try_from(Config::default()).unwrap();
    for (section, keys) in &code {
        for (key, value) in keys.as_table().unwrap() {
            assert_eq!(documented.get(section).and_then(|s| s.get(key)), Some(value), "{section}.{key}");
        }
    }
    assert_eq!(documented, code, "no key more");
}

#[test]
fn every_key_of_the_documented_file_is_explained() {
    let lines: Vec<_> = DOCUMENTED.lines().collect();
    let keys = keys_by_line(DOCUMENTED);
    assert!(keys.len() > 50, "{}", keys.len());
    for (key, line) in keys {
        assert!(lines[line - 1].strip_prefix("# ").is_some_and(|l| !l.trim().is_empty()), "{key} has no comment above it");
    }
    for (n, line) in lines.iter().enumerate().filter(|(_, l)| l.starts_with('[')) {
        assert!(lines[n - 1].starts_with("# "), "{line} has no comment above it");
    }
}

#[test]
fn the_examples_are_accepted() {
    let work = Work::new();
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/config/examples");
    let mut seen = 0;
    for file in std::fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        work.run(&["config", "check", "--config", path.to_str().unwrap()]).ok();
        seen += 1;
    }
    assert!(seen >= 2);
}

#[test]
fn the_configuration_of_the_containers_is_accepted() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/node.toml");
    let env = [("HUBBUB_CLUSTER__NODE", "1"), ("HUBBUB_REDIS__PASSWORD", "not a secret")];
    Work::new().run_with(&["config", "check", "--config", file], &env).ok();
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_and_the_line() {
    let work = Work::new();
    work.write("c.toml", "# a comment\n[http]\n\nlisten_adress = \"127.0.0.1:0\"\n[socket]\nheartbeat = 1\n");
    for command in [&["config", "check"][..], &["config", "show"], &["serve"], &["user", "list"], &["token", "alice"]] {
        let ran = work.run(&[command, &["--config", "c.toml"]].concat());
        ran.fails_with(78);
        assert!(ran.err.contains("c.toml:4: http.listen_adress: unknown key; did you mean http.listen?"), "{}", ran.err);
        assert!(ran.err.contains("c.toml:6: socket.heartbeat: unknown key; did you mean socket.heartbeat_ms?"), "{}", ran.err);
    }
    let ran = work.run_with(&["config", "check"], &[("HUBBUB_HTTP__LISEN", "x")]);
    ran.fails_with(78);
    assert!(ran.err.contains("environment HUBBUB_HTTP__LISEN: http.lisen: unknown key; did you mean http.listen?"), "{}", ran.err);
    let ran = work.run(&["serve", "--set", "rooms.idle=5"]);
    ran.fails_with(78);
    assert!(ran.err.contains("--set: rooms.idle: unknown key; did you mean rooms.idle_ms?"), "{}", ran.err);
}

#[test]
fn a_wrong_type_or_value_names_key_line_and_what_is_right() {
    let work = Work::new();
    work.write("c.toml", "[http]\nworkers = \"two\"\n[auth]\nsecret = \"too short\"\n");
    let ran = work.run(&["serve", "--config", "c.toml"]);
    ran.fails_with(78);
    assert!(ran.err.contains("c.toml:2: http.workers: expected a whole number, found a text"), "{}", ran.err);
    assert!(ran.err.contains("c.toml:4: auth.secret: has 9 bytes; it needs at least 32"), "{}", ran.err);
    assert!(!ran.err.contains("too short"), "a secret is not repeated");
}

#[test]
fn defaults_then_file_then_environment_then_flags() {
    let work = Work::new();
    work.write("c.toml", "[http]\nworkers = 2\nstop_timeout_ms = 2\n[rooms]\nidle_ms = 200\n");
    let env = [("HUBBUB_CONFIG", "c.toml"), ("HUBBUB_HTTP__STOP_TIMEOUT_MS", "3"), ("HUBBUB_ROOMS__IDLE_MS", "300")];
    let args = ["config", "show", "--json", "--set", "rooms.idle_ms=400"];
    let shown = work.run_with(&args, &env).json();
    assert_eq!(shown["http"]["drain_spread_ms"], 5000, "default");
    assert_eq!(shown["http"]["workers"], 2, "file");
    assert_eq!(shown["http"]["stop_timeout_ms"], 3, "environment over file");
    assert_eq!(shown["rooms"]["idle_ms"], 400, "flag over environment");
    let text = work.run_with(&["config", "show", "--set", "rooms.idle_ms=400"], &env).ok();
    for line in [
        "workers = 2  # c.toml:2",
        "stop_timeout_ms = 3  # environment HUBBUB_HTTP__STOP_TIMEOUT_MS",
        "idle_ms = 400  # --set",
        "drain_spread_ms = 5000",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    text.parse::<toml::Table>().unwrap();
}

#[test]
fn the_file_is_the_named_one_else_the_usual_one() {
    let work = Work::new();
    let workers = |ran: Ran| ran.json()["http"]["workers"].clone();
    let show = ["config", "show", "--json"];
    assert_eq!(workers(work.run(&show)), 0, "no file is fine");
    work.write("config/hubbub.toml", "http.workers = 1");
    work.write("two.toml", "http.workers = 2");
    work.write("three.toml", "http.workers = 3");
    assert_eq!(workers(work.run(&show)), 1);
    assert_eq!(workers(work.run_with(&show, &[("HUBBUB_CONFIG", "two.toml")])), 2);
    assert_eq!(workers(work.run_with(&[&show[..], &["--config", "three.toml"]].concat(), &[("HUBBUB_CONFIG", "two.toml")])), 3);
    let ran = work.run(&["config", "show", "--config", "absent.toml"]);
    ran.fails_with(78);
    assert!(ran.err.contains("absent.toml"), "{}", ran.err);
}

#[test]
fn init_writes_a_file_that_is_the_defaults_and_never_overwrites() {
    let work = Work::new();
    work.run(&["config", "init"]).ok();
    assert_eq!(work.read("config/hubbub.toml"), DOCUMENTED);
    assert_eq!(work.mode("config/hubbub.toml"), 0o600);
    assert_eq!(work.run(&["config", "show", "--json"]).json(), serde_json::to_value(Config::default()).unwrap());
    work.write("config/hubbub.toml", "# mine\n");
    work.run(&["config", "init"]).fails_with(1);
    assert_eq!(work.read("config/hubbub.toml"), "# mine\n");
    assert_eq!(work.run(&["config", "init", "-"]).ok(), DOCUMENTED);
}

#[test]
fn show_never_prints_a_secret() {
    let work = Work::new();
    let (secret, old) = ("s3cret-".repeat(6), "0ld-secret-".repeat(4));
    work.write("c.toml", &format!("[auth]\nsecret = \"{secret}\"\nretired_keys = [\"0:{old}\"]\n"));
    for args in [&["config", "show", "--config", "c.toml"][..], &["config", "show", "--json", "--config", "c.toml"]] {
        let shown = work.run(args).ok();
        assert!(shown.contains("***") && !shown.contains("s3cret") && !shown.contains("0ld-secret"), "{shown}");
    }
}

#[test]
fn check_warns_of_what_opens_the_server_up() {
    let work = Work::new();
    let ran = work.run(&["config", "check", "--json"]);
    let fine = ran.json();
    assert_eq!((&fine["ok"], &fine["problems"], &fine["warnings"]), (&Value::Bool(true), &Value::Array(vec![]), &Value::Array(vec![])));
    work.write("c.toml", &format!("[dev]\necho = true\n[admin]\nlisten = \"0.0.0.0:8081\"\n[auth]\nsecret = \"{}\"\n", "x".repeat(40)));
    work.chmod("c.toml", 0o644);
    let warned = work.run(&["config", "check", "--json", "--config", "c.toml"]).json();
    let warnings: Vec<_> =
        warned["warnings"].as_array().unwrap().iter().map(|w| (w["key"].as_str().unwrap(), w["line"].as_u64().unwrap())).collect();
    assert_eq!(warnings, [("dev.echo", 2), ("admin.listen", 4), ("auth.secret", 6), ("auth.secret", 6)], "{warned}");
    let ran = work.run(&["config", "check", "--config", "c.toml"]);
    ran.ok();
    assert!(ran.err.contains("warning: c.toml:2: dev.echo: ") && ran.err.contains("others can read it"), "{}", ran.err);
}

#[test]
fn check_tells_a_program_what_is_wrong() {
    let work = Work::new();
    work.write("c.toml", "[socket]\noutbox_soft_bytes = 5000000\n");
    let ran = work.run(&["config", "check", "--json", "--config", "c.toml"]);
    ran.fails_with(78);
    let told: Value = serde_json::from_str(&ran.out).unwrap();
    let problem = &told["problems"][0];
    assert_eq!(
        (&told["ok"], &problem["key"], &problem["file"], &problem["line"]),
        (&Value::Bool(false), &"socket.outbox_soft_bytes".into(), &"c.toml".into(), &2.into())
    );
}

#[test]
fn a_secret_that_others_may_read_is_refused() {
    let work = Work::new();
    work.write("data/secrets/signing.key", &"x".repeat(64));
    work.chmod("data/secrets", 0o700);
    work.chmod("data/secrets/signing.key", 0o644);
    let ran = work.run(&["config", "check"]);
    ran.fails_with(78);
    assert!(ran.err.contains("signing.key") && ran.err.contains("chmod 600"), "{}", ran.err);
    work.chmod("data/secrets/signing.key", 0o600);
    work.run(&["config", "check"]).ok();
}
