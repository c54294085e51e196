//! What the README tells people to do works as it says.

use super::support::{RawSocket, SOON, TestNode, eventually};
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;
use tokio::sync::mpsc;

const README: &str = include_str!("../../README.md");
const PASSWORD: &str = "correct horse battery staple";

/// The fenced blocks of the README, each with its language.
fn blocks() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut blocks = Vec::new();
    let mut lines = README.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            blocks.push((language, lines.by_ref().take_while(|l| *l != "```").collect()));
        }
    }
    blocks
}

/// The block whose command begins so: the command's arguments, and the lines behind it.
fn shell(begins: &str) -> (Vec<String>, Vec<&'static str>) {
    let all = blocks();
    let found = all.iter().find(|(_, lines)| lines.first().is_some_and(|l| l.strip_prefix("$ ").is_some_and(|l| l.starts_with(begins))));
    let (_, lines) = found.unwrap_or_else(|| panic!("the README has no block with `$ {begins}`"));
    let command = lines[0].trim_start_matches("$ ").split_whitespace().map(str::to_owned).collect();
    (command, lines[1..].to_vec())
}

/// A program of the README, with what a reader would have typed into the environment or the prompt.
fn program(node: &TestNode, words: &[String]) -> Command {
    assert_eq!(words[0], "./target/debug/hubbub", "the README runs what `make run` has built");
    let mut command = Command::new(env!("CARGO_BIN_EXE_hubbub"));
    command.args(&words[1..]);
    command.env("HUBBUB_URL", node.url()).env("HUBBUB_PASSWORD", PASSWORD).env("HUBBUB_STORAGE__DATA_DIR", node.data_dir());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// A program in a terminal of its own; it ends with the test.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: mpsc::UnboundedReceiver<String>,
    seen: Vec<String>,
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // If it has ended by itself there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Terminal {
    fn open(mut command: Command) -> Terminal {
        let mut child = command.spawn().expect("it starts");
        let (keys, out) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let (shown, screen) = mpsc::unbounded_channel();
        std::thread::spawn(move || BufReader::new(out).lines().map_while(Result::ok).all(|line| shown.send(line).is_ok()));
        Terminal { child, keys, screen, seen: Vec::new() }
    }
    fn types(&mut self, line: &str) {
        self.keys.write_all(format!("{line}\n").as_bytes()).expect("it reads");
    }
    async fn shows(&mut self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        self.finds(SOON, fits).await.unwrap_or_else(|| panic!("{what:?} is not shown; shown is {:#?}", self.seen))
    }
    async fn finds(&mut self, within: Duration, fits: impl Fn(&str) -> bool) -> Option<String> {
        let look = async {
            while let Some(line) = self.screen.recv().await {
                self.seen.push(line.clone());
                if fits(&line) {
                    return Some(line);
                }
            }
            None
        };
        tokio::time::timeout(within, look).await.ok().flatten()
    }
}

#[tokio::test]
async fn two_people_chat_as_the_readme_shows() {
    let node = TestNode::start().await;
    let (words, expected) = shell("./target/debug/hubbub chat --register --user bob");
    let mut bob = Terminal::open(program(&node, &words));
    for line in expected.iter().filter(|l| l.starts_with('[')) {
        bob.shows(line, |l| l == *line).await;
    }
    let (words, expected) = shell("./target/debug/hubbub chat --register --user alice");
    let mut alice = Terminal::open(program(&node, &words));
    // The room's id is another one each time.
    let shape = |line: &str| line.trim_end_matches(']').trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
    for line in expected.iter().filter(|l| l.starts_with('[')) {
        alice.shows(line, |l| shape(l) == shape(line)).await;
    }
    let typed = *expected.last().expect("what she types");
    alice.types(typed);
    let shown = format!("@alice alice> {typed}");
    assert!(README.contains(&format!("`{shown}`")), "the README shows what Bob sees");
    bob.shows(&shown, |l| l == shown).await;
    assert!(README.contains("`/with alice`"));
    bob.types("/with alice");
    bob.types("hello alice");
    alice.shows("the answer", |l| l == "@bob bob> hello alice").await;
}

#[tokio::test]
async fn both_reconnect_when_the_server_comes_back() {
    let mut node = TestNode::builder().set("http.drain_spread_ms", 100).start().await;
    let port = node.address().port();
    let (words, _) = shell("./target/debug/hubbub chat --register --user bob");
    let mut bob = Terminal::open(program(&node, &words));
    bob.shows("caught up", |l| l == "[caught up]").await;
    let (words, _) = shell("./target/debug/hubbub chat --register --user alice");
    let mut alice = Terminal::open(program(&node, &words));
    alice.shows("in the room", |l| l.starts_with("[in @bob")).await;
    // A room that Bob's program has never heard of would begin for it with what comes after it is back.
    bob.shows("the room", |l| l == "@alice * alice opened the room").await;
    assert!(node.stop().await.success());
    alice.types("typed while the server was away");
    node.restart_at(port).await;
    bob.shows("what was typed meanwhile", |l| l == "@alice alice> typed while the server was away").await;
}

#[tokio::test]
async fn the_client_in_eight_lines_runs_as_printed() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let (words, _) = shell("./target/debug/hubbub token alice");
    let mut tokens = program(&node, &words);
    let output = tokio::task::spawn_blocking(move || tokens.output()).await.expect("no panic").expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let token = String::from_utf8(output.stdout).expect("a token").trim().to_owned();

    let all = blocks();
    let (_, code) = all.iter().find(|(language, _)| *language == "js").expect("the client");
    assert!(code.len() <= 10, "it has grown to {} lines", code.len());
    let code = code.join("\n");
    assert!(code.contains("ws://127.0.0.1:8080/"), "it names the usual address");
    let at = code.replace("127.0.0.1:8080", &node.address().to_string());
    // What a reader does with it: say what is typed.
    let tail = "require('readline').createInterface({ input: process.stdin }).on('line', (line) => say(...line.split('|')));";
    let script = format!("const token = {token:?};\n{at}\n{tail}\n");
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("readme-client-{}.cjs", std::process::id()));
    std::fs::write(&path, script).expect("written");
    let mut command = Command::new("node");
    command.arg("--experimental-websocket").arg(&path);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut terminal = Terminal::open(command);

    let mut other = RawSocket::live(&node, &bob).await;
    let create = json!({ "kind": "direct", "members": [alice.id.to_string()], "cid": uuid::Uuid::new_v4().to_string() });
    let room = other.ask("create", create).await["room"].as_str().expect("a room").to_owned();
    // It prints what comes live, which is from when it has resumed on: it says something until that is so.
    eventually("it has signed in and resumes", SOON, || async { node.metric("hubbub_requests_total").await >= 5.0 }).await;
    let mut tries = 0;
    while terminal.finds(Duration::from_millis(300), |l| l.ends_with("am I live?")).await.is_none() {
        tries += 1;
        assert!(tries < 50, "it never prints what it says: {:#?}", terminal.seen);
        terminal.types(&format!("{room}|am I live?"));
    }
    let send = json!({ "room": room, "text": "hello from bob", "cid": uuid::Uuid::new_v4().to_string() });
    let seq = other.ask("send", send).await["seq"].as_u64().expect("a seq");
    terminal.shows("what bob says", |l| l == format!("{room} {seq} {} hello from bob", bob.id)).await;
    terminal.types(&format!("{room}|hello from eight lines"));
    terminal.shows("its own", |l| l.ends_with(&format!(" {} hello from eight lines", alice.id))).await;
    let _ = std::fs::remove_file(&path);
    loop {
        let push = other.value().await;
        if push["body"]["message"]["text"] == "hello from eight lines" {
            break;
        }
    }
}

#[test]
fn every_file_that_the_readme_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names = README.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter(|name| !name.contains("://"));
    let missing: Vec<&str> = names.filter(|name| !root.join(name.split('#').next().unwrap_or_default()).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let makefile = std::fs::read_to_string(root.join("Makefile")).expect("a Makefile");
    let targets = README.split("`make ").skip(1).filter_map(|rest| rest.split('`').next()).chain(["run"]);
    for target in targets {
        assert!(makefile.lines().any(|l| l.starts_with(&format!("{target}:"))), "make {target}");
    }
    assert!(makefile.contains("scripts/run serve"), "make run serves");
}
