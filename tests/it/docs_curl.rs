//! Every `curl` line of the documents is run, page by page, against a node of its own, and must answer as the page shows.
//!
//! A page's ```` ```console ```` blocks are one session: what a reader would type is typed, in order.
//! - `$ curl …` (a `\` at the end goes on in the next line) is run by bash. The lines below it, up to the next `$` or the end of the
//!   block, are the answer as the page shows it. Of JSON, the members that are shown must be there with the value shown; ids, times
//!   and what ends in `…` may differ, and a lone `…` stands for what is left out. Anything else (a status line, headers with `-i`) must be
//!   in the output line by line, again up to a `…`. An error that the page does not show is a failure.
//! - `$ NAME=eyJ…  # access_token` takes the variable from the last answer, by the path behind `#` (`items.0.user`).
//! - `$ NAME=$(…)` is run by bash, in a directory where `./data` is the node's.
//! - Other commands (`$ make run`) are not run.
//!
//! `<!-- curl with: section.key=value -->` on a line of its own sets a key of that page's node.

use crate::house::{files, root};
use crate::support::TestNode;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// One thing that a reader would do.
#[derive(Debug, PartialEq)]
enum Step {
    /// A command, and what the page shows of its answer.
    Run { command: String, shown: String },
    /// A variable from the last answer, by a path.
    Take { name: String, path: String },
    /// A variable from a command.
    Set { name: String, command: String },
}

/// The steps of a page with the lines they stand on.
fn steps(text: &str) -> Vec<(usize, Step)> {
    let mut steps: Vec<(usize, Step)> = Vec::new();
    let mut block = None;
    let mut going_on = false;
    // A command that is not run may have an answer too.
    let mut ours = false;
    for (number, line) in text.lines().enumerate() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            block = if block.is_none() { Some(language.trim() == "console") } else { None };
            (going_on, ours) = (false, false);
            continue;
        }
        if block != Some(true) {
            continue;
        }
        let (body, more) = line.strip_suffix('\\').map_or((line, false), |body| (body, true));
        match (steps.last_mut(), body.strip_prefix("$ ")) {
            (Some((_, Step::Run { command, .. })), None) if going_on => *command = format!("{} {}", command.trim_end(), body.trim()),
            (_, Some(typed)) => {
                let step = step(typed.trim());
                ours = step.is_some();
                steps.extend(step.map(|step| (number + 1, step)));
            }
            (Some((_, Step::Run { shown, .. })), None) if ours => {
                shown.push_str(line);
                shown.push('\n');
            }
            _ => {}
        }
        going_on = more && (body.starts_with("$ ") || going_on) && ours;
    }
    steps
}

fn step(typed: &str) -> Option<Step> {
    if typed.starts_with("curl ") {
        return Some(Step::Run { command: typed.to_owned(), shown: String::new() });
    }
    let (name, value) = typed.split_once('=')?;
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_uppercase() || c == '_' || c.is_ascii_digit()) {
        return None;
    }
    let name = name.to_owned();
    match value.split_once(" # ") {
        Some((_, path)) => Some(Step::Take { name, path: path.trim().to_owned() }),
        None => Some(Step::Set { name, command: value.to_owned() }),
    }
}

/// An answer's member by a path such as `items.0.user`.
fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |at, key| match key.parse::<usize>() {
        Ok(index) if at.is_array() => at.get(index),
        _ => at.get(key),
    })
}

/// Why `found` is not what the page shows.
fn differs(shown: &Value, found: &Value, at: &str) -> Option<String> {
    match (shown, found) {
        (Value::Object(shown), Value::Object(found)) => shown.iter().find_map(|(key, value)| match found.get(key) {
            Some(found) => differs(value, found, &format!("{at}.{key}")),
            None => Some(format!("{at}.{key} is not there")),
        }),
        (Value::Array(shown), Value::Array(found)) => {
            let open = shown.last().is_some_and(|v| v == "…");
            let shown = &shown[..shown.len() - usize::from(open)];
            if shown.len() > found.len() || (!open && shown.len() != found.len()) {
                return Some(format!("{at} has {} items", found.len()));
            }
            shown.iter().zip(found).enumerate().find_map(|(i, (a, b))| differs(a, b, &format!("{at}.{i}")))
        }
        (Value::String(shown), Value::String(found)) => {
            let id = |text: &str| text.len() > 5 && text.bytes().all(|b| b.is_ascii_digit());
            let same = shown == found || shown.strip_suffix('…').is_some_and(|begin| found.starts_with(begin)) || (id(shown) && id(found));
            (!same).then(|| format!("{at} is {found:?}"))
        }
        (Value::Number(shown), Value::Number(found)) => {
            let time = |n: &serde_json::Number| n.as_u64().is_some_and(|n| n > 1_000_000_000_000);
            (shown != found && !(time(shown) && time(found))).then(|| format!("{at} is {found}"))
        }
        _ => (shown != found).then(|| format!("{at} is {found}")),
    }
}

/// JSON as pages show it: `, …` and `…` alone in an object stand for what is left out.
fn shown_json(text: &str) -> Option<Value> {
    let plain = text.replace(", …}", "}").replace(",…}", "}").replace("{…}", "{}").replace("…]", "\"…\"]");
    serde_json::from_str(&plain).ok()
}

/// Why the output is not what the page shows.
fn judge(shown: &str, output: &str) -> Option<String> {
    let body = output.rsplit("\r\n\r\n").next().unwrap_or(output).trim();
    let found: Value = serde_json::from_str(body).unwrap_or_default();
    let (head, json): (Vec<&str>, Vec<&str>) = match shown.lines().position(|l| l.starts_with(['{', '['])) {
        Some(begin) => (shown.lines().take(begin).collect(), shown.lines().skip(begin).collect()),
        None => (shown.lines().collect(), Vec::new()),
    };
    for line in head.iter().map(|l| l.trim()).filter(|l| !l.is_empty() && *l != "…") {
        let begin = line.split('…').next().unwrap_or_default().to_lowercase();
        if !output.lines().any(|l| l.to_lowercase().starts_with(&begin)) {
            return Some(format!("there is no line {line:?}"));
        }
    }
    if json.is_empty() {
        let problem = found.get("code").is_some() && found["status"].as_u64() >= Some(400);
        return (problem && head.is_empty()).then(|| "it is an error that the page does not show".into());
    }
    match shown_json(&json.concat()) {
        Some(shown) => differs(&shown, &found, "the answer"),
        None => Some("the answer shown is not JSON (with `…` for what is left out)".into()),
    }
}

struct Session {
    node: TestNode,
    dir: tempfile::TempDir,
    variables: BTreeMap<String, String>,
    last: Value,
}

impl Session {
    async fn start(text: &str) -> Session {
        let mut builder = TestNode::builder();
        let with = text.lines().filter_map(|l| l.trim().strip_prefix("<!-- curl with: ")?.strip_suffix(" -->"));
        for (key, value) in with.filter_map(|setting| setting.split_once('=')) {
            builder = builder.set(key, value);
        }
        let (node, dir) = (builder.start().await, tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(node.data_dir(), dir.path().join("data")).unwrap();
        std::fs::write(dir.path().join(".curlrc"), "silent\nshow-error\nmax-time = 20\n").unwrap();
        Session { node, dir, variables: BTreeMap::new(), last: Value::Null }
    }

    async fn bash(&self, command: &str) -> String {
        let (http, admin) = (self.node.url(), self.node.admin());
        let command = command.replace("http://127.0.0.1:8080", &http).replace("http://127.0.0.1:8081", &admin);
        let mut bash = Command::new("bash");
        bash.args(["-c", &command]).current_dir(self.dir.path()).env("CURL_HOME", self.dir.path()).envs(&self.variables);
        let run = tokio::task::spawn_blocking(move || bash.stdin(Stdio::null()).output());
        let output = run.await.expect("no panic").expect("bash is there");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    /// Why the step went wrong.
    async fn take(&mut self, step: Step) -> Option<String> {
        match step {
            Step::Run { command, shown } => {
                let output = self.bash(&command).await;
                let body = output.rsplit("\r\n\r\n").next().unwrap_or(&output);
                self.last = serde_json::from_str(body.trim()).unwrap_or_default();
                judge(&shown, &output).map(|why| format!("{why}\n  {command}\n  {output}"))
            }
            Step::Take { name, path } => {
                let found = at(&self.last, &path).map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
                let missing = found.is_none().then(|| format!("{name}: the last answer has no {path}: {}", self.last));
                self.variables.extend(found.map(|value| (name, value)));
                missing
            }
            Step::Set { name, command } => {
                let value = self.bash(&format!("printf %s {command}")).await;
                self.variables.insert(name, value);
                None
            }
        }
    }
}

fn pages() -> Vec<(PathBuf, String)> {
    let all = files("docs").into_iter().chain([PathBuf::from("README.md")]).filter(|p| p.extension().is_some_and(|e| e == "md"));
    all.map(|p| (p.clone(), std::fs::read_to_string(root().join(p)).unwrap())).collect()
}

#[tokio::test]
async fn every_curl_line_of_the_documents_answers_as_the_page_says() {
    let (mut wrong, mut run) = (Vec::new(), 0);
    for (page, text) in pages() {
        let steps = steps(&text);
        if !steps.iter().any(|(_, step)| matches!(step, Step::Run { .. })) {
            continue;
        }
        let mut session = Session::start(&text).await;
        for (line, step) in steps {
            run += usize::from(matches!(step, Step::Run { .. }));
            wrong.extend(session.take(step).await.map(|why| format!("{}:{line}: {why}", page.display())));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(run > 10, "the curl lines were not found");
}

#[test]
fn no_curl_line_stands_where_it_is_not_run() {
    let mut stray = Vec::new();
    for (page, text) in pages() {
        let found = steps(&text).iter().filter(|(_, step)| matches!(step, Step::Run { .. })).count();
        let (mut fenced, mut written) = (false, 0);
        for line in text.lines() {
            fenced ^= line.trim_start().starts_with("```");
            let typed = line.trim_start().trim_start_matches(['$', '#']).trim_start();
            written += usize::from(fenced && typed.starts_with("curl "));
        }
        if found != written {
            stray.push(format!("{}: {written} curl lines, of which {found} are run", page.display()));
        }
    }
    assert!(stray.is_empty(), "{stray:#?}");
}

#[test]
fn pages_are_read_and_answers_judged_as_the_head_of_this_file_says() {
    let page = "```console\n$ make run\nlistening\n$ curl a \\\n  -d b\n{\"user\":\"1\"}\n$ ALICE=eyJ…  # access_token\n$ ROOT=$(cat x)\n```\n```\n$ curl no\n```\n";
    let run = Step::Run { command: "curl a -d b".into(), shown: "{\"user\":\"1\"}\n".into() };
    let take = Step::Take { name: "ALICE".into(), path: "access_token".into() };
    let set = Step::Set { name: "ROOT".into(), command: "$(cat x)".into() };
    assert_eq!(steps(page).into_iter().map(|(_, s)| s).collect::<Vec<_>>(), [run, take, set]);

    let fine = |shown: &str, output: &str| assert_eq!(judge(shown, output), None, "{shown} / {output}");
    let wrong = |shown: &str, output: &str| assert!(judge(shown, output).is_some(), "{shown} / {output}");
    fine(
        r#"{"user":"38289599","token":"eyJ…","at":1700000000000, …}"#,
        r#"{"user":"99999999","token":"eyJabc","at":1790000000000,"more":1}"#,
    );
    fine(r#"{"items":[{"name":"bob", …}, …]}"#, r#"{"items":[{"name":"bob","x":1},{"name":"carol"}]}"#);
    fine("HTTP/1.1 201 Created\netag: …\n…\n{…}", "HTTP/1.1 201 Created\r\nETag: \"x\"\r\n\r\n{\"a\":1}");
    fine("", "");
    wrong("", r#"{"status":404,"code":"not_found"}"#);
    wrong(r#"{"name":"bob"}"#, r#"{"name":"carol"}"#);
    wrong(r#"{"items":[]}"#, r#"{"items":[1]}"#);
    wrong(r#"{"a":1}"#, r#"{}"#);
    wrong("HTTP/1.1 412 …", "HTTP/1.1 200 OK\r\n\r\n{}");
    assert_eq!(at(&serde_json::json!({ "items": [{ "user": "7" }] }), "items.0.user").unwrap(), "7");
}
