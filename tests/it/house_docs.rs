//! What the documents name is there: links, paths, `make` targets, configuration keys, tests.

use crate::house::{files, root};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Places of the repository that a path in a document may begin with.
const PLACES: &[&str] = &["src/", "docs/", "tests/", "scripts/", "benches/", "config/", "web/", "deploy/", ".ci/"];

fn documents() -> Vec<(PathBuf, String)> {
    let found: Vec<_> = files("")
        .into_iter()
        .filter(|p| p.extension().is_some_and(|e| e == "md"))
        .map(|p| {
            let text = fs::read_to_string(root().join(&p)).unwrap();
            (p, text)
        })
        .collect();
    assert!(found.len() >= 8, "the documents were not found");
    found
}

/// The text without its fenced blocks.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let kept = text.lines().filter(|l| {
        let fence = l.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    });
    kept.collect::<Vec<_>>().join("\n")
}

/// What stands between single backticks.
fn code(text: &str) -> Vec<String> {
    let prose = prose(text);
    let parts: Vec<&str> = prose.split('`').collect();
    parts.iter().skip(1).step_by(2).map(|s| s.to_string()).collect()
}

/// Targets of `[text](target)`.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    prose.split("](").skip(1).filter_map(|s| s.split_once(')')).map(|(t, _)| t.to_owned()).collect()
}

/// Headings as the anchors that forges make of them.
fn anchors(text: &str) -> BTreeSet<String> {
    let heading = |l: &str| l.trim_start_matches('#').trim().to_lowercase();
    let slug = |h: String| -> String {
        h.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    prose(text).lines().filter(|l| l.starts_with('#')).map(|l| slug(heading(l))).collect()
}

fn report(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_link_leads_somewhere() {
    let mut faults = Vec::new();
    for (path, text) in documents() {
        for link in links(&text).into_iter().filter(|l| !l.contains("://") && !l.starts_with("mailto:")) {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap_or(Path::new("")).join(file) };
            let absolute = root().join(&target);
            if !absolute.exists() {
                faults.push(format!("{}: {link} leads nowhere", path.display()));
            } else if !anchor.is_empty() && !anchors(&fs::read_to_string(absolute).unwrap()).contains(anchor) {
                faults.push(format!("{}: {link}: no such heading", path.display()));
            }
        }
    }
    report(&faults);
}

#[test]
fn every_path_and_make_target_named_exists() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let targets: BTreeSet<&str> = makefile.lines().filter_map(|l| l.split_once(':')).map(|(t, _)| t).collect();
    let mut faults = Vec::new();
    for (path, text) in documents() {
        for word in code(&text) {
            let plain = !word.contains(|c: char| c.is_whitespace() || "*{}<>…$".contains(c));
            let file = word.split(':').next().unwrap_or_default();
            if plain && PLACES.iter().any(|p| word.starts_with(p)) && !root().join(file).exists() {
                faults.push(format!("{}: {word} does not exist", path.display()));
            }
            if let Some(target) = word.strip_prefix("make ") {
                let target = target.split_whitespace().next().unwrap_or_default();
                if !targets.contains(target) {
                    faults.push(format!("{}: there is no `make {target}`", path.display()));
                }
            }
        }
    }
    report(&faults);
}

/// Why `word` looks like a configuration key and is none.
fn unknown_key(config: &Value, word: &str) -> Option<String> {
    let dotted = match word.strip_prefix("HUBBUB_") {
        Some(env) if env.contains("__") => env.split(['=', ' ']).next()?.to_lowercase().replace("__", "."),
        Some(_) => return None,
        None => word.split([' ', '=']).next()?.to_owned(),
    };
    let (section, key) = dotted.split_once('.')?;
    let looks_like_one = !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let is_file = ["rs", "md", "toml", "yaml", "json", "sh", "c", "py", "txt", "tsv"].contains(&key);
    let keys = config.get(section)?;
    (looks_like_one && !is_file && keys.get(key).is_none()).then(|| format!("there is no configuration key {dotted}"))
}

#[test]
fn every_configuration_key_named_exists() {
    let config = serde_json::to_value(hubbub::config::Config::default()).unwrap();
    assert!(unknown_key(&config, "socket.heartbeat").is_some() && unknown_key(&config, "HUBBUB_HTTP__LISEN=x").is_some());
    assert_eq!(unknown_key(&config, "socket.heartbeat_ms = 5"), None);
    let faults: Vec<_> = documents()
        .iter()
        .filter(|(p, _)| !p.ends_with("CHANGELOG.md"))
        .flat_map(|(p, text)| {
            code(text).into_iter().filter_map(|w| unknown_key(&config, &w)).map(|e| format!("{}: {e}", p.display())).collect::<Vec<_>>()
        })
        .collect();
    report(&faults);
}

/// Names of the functions under `#[test]` (or a runtime's `test`), in the library and in the test binary.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for path in files("src").into_iter().chain(files("tests")).filter(|p| p.extension().is_some_and(|e| e == "rs")) {
        let text = fs::read_to_string(root().join(path)).unwrap();
        let mut after_test = false;
        for line in text.lines().map(str::trim) {
            after_test |= line.starts_with("#[") && line.contains("test]");
            if let Some((_, rest)) = line.split_once("fn ") {
                if after_test {
                    names.insert(rest.split(['(', '<']).next().unwrap_or_default().to_owned());
                }
                after_test = false;
            }
        }
    }
    assert!(names.contains("every_test_named_exists"), "the tests were not found");
    names
}

/// Documents name tests as `test: name`; scripts/sabotage.tsv names them by their path.
#[test]
fn every_test_named_exists() {
    let tests = tests();
    let mut faults = Vec::new();
    for (path, text) in documents() {
        for name in code(&text).iter().filter_map(|w| w.strip_prefix("test: ")).filter(|n| !tests.contains(*n)) {
            faults.push(format!("{}: there is no test {name}", path.display()));
        }
    }
    let table = fs::read_to_string(root().join("scripts/sabotage.tsv")).unwrap();
    for (_, test) in table.lines().filter(|l| !l.starts_with('#')).filter_map(|l| l.split_once('\t')) {
        if !tests.contains(test.rsplit("::").next().unwrap_or_default()) {
            faults.push(format!("scripts/sabotage.tsv: there is no test {test}"));
        }
    }
    report(&faults);
}
