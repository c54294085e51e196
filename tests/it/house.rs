//! The house rules that a machine can check: imports one way, sizes, no unexplained panics, licences, no leftovers.
//! docs/CONTRIBUTING.md says them in words.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// The order of src/lib.rs: a module may import those before it. A line holds those that do not know each other.
const ORDER: &[&[&str]] = &[
    &["error", "sabotage"],
    &["protocol"],
    &["config", "clock"],
    &["telemetry"],
    &["storage", "outbound"],
    &["auth", "cluster"],
    &["push", "webhooks"],
    &["bus"],
    &["actors"],
    &["http"],
    &["node"],
];
/// What stands beside the server: these may import those, and nothing in the order imports them.
const BESIDE: &[(&str, &[&str])] =
    &[("check", &["error", "protocol"]), ("client", &["error", "protocol"]), ("bench", &["error", "protocol", "client"])];
/// The command line stands over all of it.
const LAST: &str = "cli";

/// What each module may import, beside itself.
fn imports() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let mut allowed = BTreeMap::new();
    let mut before = BTreeSet::new();
    for line in ORDER {
        allowed.extend(line.iter().map(|m| (*m, before.clone())));
        before.extend(line.iter().copied());
    }
    before.extend(BESIDE.iter().map(|(m, _)| *m));
    allowed.extend(BESIDE.iter().map(|(m, may)| (*m, may.iter().copied().collect())));
    allowed.insert(LAST, before);
    allowed
}
/// What `protocol` and `check` must not know: they are pure.
const IMPURE: &[&str] = &["actix", "actix_web", "actix_rt", "actix_http", "actix_server", "tokio", "fjall", "redis", "scylla"];
/// Lines of code of a file: without its tests, comments and blank lines. Longer files are split by noun.
const FILE_LINES_MAX: usize = 700;
/// Lines of a function. About a screen.
const FUNCTION_LINES_MAX: usize = 80;

/// Test suites that are no `cfg(test)` modules, so that each backend can run them from its own tests.
const SUITES: &[&str] = &["src/storage/conformance"];

/// Licences that code linked into the binary may have.
const LICENCES: &[&str] = &[
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
    "0BSD",
];
/// Crates whose licence is none of those, and why each is all right.
const LICENCE_EXCEPTIONS: &[(&str, &str)] = &[];

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files below `dir`, by their path from the root, without what is built or fetched.
pub fn files(dir: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![root().join(dir)];
    while let Some(dir) = dirs.pop() {
        for e in fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = e.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if [".git", "target", "data", "data-dev", "node_modules", "dist"].contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                dirs.push(path);
            } else {
                found.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

struct Source {
    path: PathBuf,
    text: String,
    tree: syn::File,
    /// The whole file is for tests.
    test: bool,
}

fn sources() -> Vec<Source> {
    let mut found: Vec<Source> = files("src")
        .into_iter()
        .filter(|p| p.extension().is_some_and(|e| e == "rs"))
        .map(|path| {
            let text = fs::read_to_string(root().join(&path)).unwrap();
            let tree = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let test = only_for_tests(&tree.attrs) || SUITES.iter().any(|s| path.starts_with(s));
            Source { path, text, tree, test }
        })
        .collect();
    assert!(found.len() > 20, "the sources were not found");
    // `#[cfg(test)] mod name;` makes a test of name.rs and of all below name/.
    let declared: Vec<PathBuf> = found.iter().flat_map(Source::modules).filter_map(|(m, test)| test.then_some(m)).collect();
    for s in &mut found {
        s.test |= declared.iter().any(|m| s.path.starts_with(m) || s.path == m.with_extension("rs"));
    }
    found
}

impl Source {
    /// The top module it belongs to.
    fn module(&self) -> String {
        let first = self.path.components().nth(1).unwrap().as_os_str().to_string_lossy();
        first.trim_end_matches(".rs").to_owned()
    }

    /// Items that are not compiled for tests only.
    fn items(&self) -> impl Iterator<Item = &syn::Item> {
        self.tree.items.iter().filter(|i| !only_for_tests(attributes(i)))
    }

    /// The modules in other files that it declares: the path of each without extension, and whether it is for tests only.
    fn modules(&self) -> impl Iterator<Item = (PathBuf, bool)> {
        let dir = match self.path.file_stem().and_then(|s| s.to_str()) {
            Some("mod" | "lib" | "main") => self.path.parent().unwrap().to_owned(),
            _ => self.path.with_extension(""),
        };
        self.tree.items.iter().filter_map(move |i| match i {
            syn::Item::Mod(m) if m.content.is_none() => Some((dir.join(m.ident.to_string()), only_for_tests(&m.attrs))),
            _ => None,
        })
    }
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Mod(i) => &i.attrs,
        syn::Item::Fn(i) => &i.attrs,
        syn::Item::Use(i) => &i.attrs,
        syn::Item::Impl(i) => &i.attrs,
        syn::Item::Struct(i) => &i.attrs,
        syn::Item::Enum(i) => &i.attrs,
        syn::Item::Const(i) => &i.attrs,
        syn::Item::Static(i) => &i.attrs,
        syn::Item::Trait(i) => &i.attrs,
        syn::Item::Macro(i) => &i.attrs,
        _ => &[],
    }
}

fn only_for_tests(attrs: &[syn::Attribute]) -> bool {
    attrs.iter().any(|a| a.path().is_ident("cfg") && a.parse_args::<syn::Path>().is_ok_and(|p| p.is_ident("test")))
}

fn tokens(item: &syn::Item) -> TokenStream {
    // As text and back: the text of a macro call's inside is part of it, which a walk over the syntax would leave out.
    item.span().source_text().unwrap_or_default().parse().unwrap_or_default()
}

/// The names that follow `crate::`, wherever it stands, macros included.
fn crate_names(stream: TokenStream, names: &mut BTreeSet<String>) {
    let all: Vec<TokenTree> = stream.into_iter().collect();
    for (i, token) in all.iter().enumerate() {
        if let TokenTree::Group(g) = token {
            crate_names(g.stream(), names);
        }
        let is_crate = matches!(token, TokenTree::Ident(id) if id == "crate");
        match all.get(i + 3) {
            Some(TokenTree::Ident(id)) if is_crate => drop(names.insert(id.to_string())),
            Some(TokenTree::Group(g)) if is_crate && g.delimiter() == Delimiter::Brace => {
                let mut first = true;
                for t in g.stream() {
                    match t {
                        TokenTree::Ident(id) if first => drop(names.insert(id.to_string())),
                        TokenTree::Punct(p) if p.as_char() == ',' => {
                            first = true;
                            continue;
                        }
                        _ => {}
                    }
                    first = false;
                }
            }
            _ => {}
        }
    }
}

fn report(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn imports_point_one_way() {
    let allowed = imports();
    let mut faults = Vec::new();
    for s in sources().iter().filter(|s| !s.test) {
        let module = s.module();
        if ["lib", "main"].contains(&module.as_str()) {
            continue;
        }
        let Some(may) = allowed.get(module.as_str()) else {
            faults.push(format!("{}: module {module} has no place in the order (tests/it/house.rs, src/lib.rs)", s.path.display()));
            continue;
        };
        let mut names = BTreeSet::new();
        s.items().for_each(|i| crate_names(tokens(i), &mut names));
        for name in names {
            if allowed.contains_key(name.as_str()) && name != module && !may.contains(name.as_str()) {
                faults.push(format!("{}: {module} must not import {name}", s.path.display()));
            }
        }
    }
    report(&faults);
}

#[test]
fn the_pure_modules_know_no_runtime_and_no_backend() {
    let mut faults = Vec::new();
    for s in sources().iter().filter(|s| ["protocol", "check"].contains(&s.module().as_str()) && !s.test) {
        for item in s.items() {
            let text = item.span().source_text().unwrap_or_default();
            for krate in IMPURE {
                if text.contains(&format!("use {krate}::")) || text.contains(&format!(" {krate}::")) {
                    faults.push(format!("{}: names {krate}", s.path.display()));
                }
            }
        }
    }
    report(&faults);
}

#[test]
fn every_source_file_is_part_of_the_crate() {
    let sources = sources();
    let declared: BTreeSet<PathBuf> = sources.iter().flat_map(Source::modules).map(|(m, _)| m).collect();
    let belongs = |path: &Path| {
        let module = if path.ends_with("mod.rs") { path.parent().unwrap().to_owned() } else { path.with_extension("") };
        declared.contains(&module) || [Path::new("src/lib"), Path::new("src/main")].contains(&module.as_path())
    };
    let faults: Vec<_> = sources
        .iter()
        .filter(|s| !belongs(&s.path))
        .map(|s| format!("{}: no `mod` line leads to it, so it is never compiled", s.path.display()))
        .collect();
    report(&faults);
}

#[test]
fn the_finder_of_imports_finds_them() {
    let mut names = BTreeSet::new();
    let text = r#"use crate::{a::B, c}; fn f() { select! { x = crate::d::y() => 1 } } use crate::e; // crate::no "#;
    crate_names(text.parse().unwrap(), &mut names);
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["a", "c", "d", "e"]);
}

#[test]
fn every_source_file_says_first_what_it_owns() {
    let files = ["src", "tests", "benches"].into_iter().flat_map(files).filter(|p| p.extension().is_some_and(|e| e == "rs"));
    let faults: Vec<_> = files
        .filter(|p| {
            let text = fs::read_to_string(root().join(p)).unwrap();
            let first = text.lines().next().unwrap_or_default();
            !first.starts_with("//! ") || first == "//! stub"
        })
        .map(|p| format!("{}: does not open with `//!` and what it owns", p.display()))
        .collect();
    report(&faults);
}

#[derive(Default)]
struct Functions {
    long: Vec<(String, usize, usize)>,
}

impl Functions {
    fn measure(&mut self, name: &syn::Ident, block: &syn::Block) {
        let (from, to) = (block.span().start().line, block.span().end().line);
        if to - from > FUNCTION_LINES_MAX {
            self.long.push((name.to_string(), from, to - from));
        }
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, f: &'ast syn::ItemFn) {
        if !only_for_tests(&f.attrs) {
            self.measure(&f.sig.ident, &f.block);
            visit::visit_item_fn(self, f);
        }
    }
    fn visit_impl_item_fn(&mut self, f: &'ast syn::ImplItemFn) {
        self.measure(&f.sig.ident, &f.block);
        visit::visit_impl_item_fn(self, f);
    }
    fn visit_item_mod(&mut self, m: &'ast syn::ItemMod) {
        if !only_for_tests(&m.attrs) {
            visit::visit_item_mod(self, m);
        }
    }
}

#[test]
fn files_and_functions_have_a_size_that_can_be_read() {
    let mut faults = Vec::new();
    for s in sources().iter().filter(|s| !s.test) {
        let tests: Vec<_> = s.tree.items.iter().filter(|i| only_for_tests(attributes(i))).map(syn::Item::span).collect();
        let code = |n: usize, l: &str| {
            let l = l.trim_start();
            !l.is_empty() && !l.starts_with("//") && !tests.iter().any(|t| (t.start().line..=t.end().line).contains(&n))
        };
        let lines = s.text.lines().enumerate().filter(|(i, l)| code(i + 1, l)).count();
        if lines > FILE_LINES_MAX {
            faults.push(format!("{}: {lines} lines of code, at most {FILE_LINES_MAX}: split it by noun", s.path.display()));
        }
        let mut functions = Functions::default();
        functions.visit_file(&s.tree);
        for (name, line, lines) in functions.long {
            faults.push(format!("{}:{line}: fn {name} has {lines} lines, at most {FUNCTION_LINES_MAX}", s.path.display()));
        }
    }
    report(&faults);
}

/// Calls that end the process or the actor, outside tests: `.unwrap()`, `.expect()` without a reason, and unfinished work.
fn panics(stream: TokenStream, faults: &mut Vec<(usize, &'static str)>) {
    let all: Vec<TokenTree> = stream.into_iter().collect();
    for (i, token) in all.iter().enumerate() {
        let line = token.span().start().line;
        match token {
            TokenTree::Group(g) => panics(g.stream(), faults),
            TokenTree::Ident(id) => {
                let method = matches!(all.get(i.wrapping_sub(1)), Some(TokenTree::Punct(p)) if p.as_char() == '.');
                let bang = matches!(all.get(i + 1), Some(TokenTree::Punct(p)) if p.as_char() == '!');
                let arguments = match all.get(i + 1) {
                    Some(TokenTree::Group(g)) => g.stream().to_string(),
                    _ => String::new(),
                };
                match id.to_string().as_str() {
                    "unwrap" if method => faults.push((line, "unwrap() outside tests")),
                    "expect" if method && arguments.starts_with('"') && arguments.len() < 12 => {
                        faults.push((line, "expect() must say why it holds"));
                    }
                    "todo" | "unimplemented" | "dbg" if bang => faults.push((line, "unfinished work")),
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

#[test]
fn nothing_panics_without_saying_why_it_cannot() {
    let mut faults = Vec::new();
    for s in sources().iter().filter(|s| !s.test) {
        for item in s.items().filter(|i| !matches!(i, syn::Item::Macro(_))) {
            let mut found = Vec::new();
            panics(tokens(item), &mut found);
            let start = item.span().start().line;
            faults.extend(found.into_iter().map(|(line, what)| format!("{}:{}: {what}", s.path.display(), start + line - 1)));
        }
    }
    report(&faults);
}

#[test]
fn the_finder_of_panics_finds_them() {
    let mut found = Vec::new();
    let text = r#"fn f() { a.unwrap(); b.expect("x"); c.expect("the key was put in above"); if y { todo!() } unwrap(); d.unwrap_or(1) }"#;
    panics(text.parse().unwrap(), &mut found);
    let what: Vec<_> = found.iter().map(|(_, w)| *w).collect();
    assert_eq!(what, ["unwrap() outside tests", "expect() must say why it holds", "unfinished work"]);
}

#[test]
fn no_leftovers_of_the_machine_it_was_made_on() {
    // In two halves, so that this file does not find itself.
    let forbidden: Vec<String> =
        [("/wo", "rk/"), ("/ro", "ot/"), ("/ho", "me/"), ("sha", "red/"), ("TO", "DO"), ("FIX", "ME"), ("XX", "X:")]
            .map(|(a, b)| format!("{a}{b}"))
            .into();
    let mut faults = Vec::new();
    let mut seen = 0;
    for path in files("") {
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        seen += 1;
        for (i, line) in text.lines().enumerate() {
            for word in forbidden.iter().filter(|w| line.contains(w.as_str())) {
                faults.push(format!("{}:{}: {word:?}", path.display(), i + 1));
            }
        }
    }
    assert!(seen > 30, "the repository's files were not found");
    report(&faults);
}

#[test]
fn the_lock_file_names_no_registry_but_the_usual_one() {
    let lock: toml::Table = fs::read_to_string(root().join("Cargo.lock")).unwrap().parse().unwrap();
    let packages = lock["package"].as_array().unwrap();
    assert!(packages.len() > 100);
    let usual = ["registry+https://github.com/rust-lang/", "crates.io-index"].concat();
    for p in packages {
        let source = p.get("source").map_or(usual.as_str(), |s| s.as_str().unwrap());
        assert_eq!(source, usual, "{}", p["name"]);
    }
}

/// Whether an SPDX expression can be met with allowed licences only.
fn allowed(expression: &str) -> bool {
    let text = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = text.split_whitespace().peekable();
    let ok = any_of(&mut words);
    ok && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any_of(words: &mut Words<'_>) -> bool {
    let mut ok = all_of(words);
    while words.next_if_eq(&"OR").is_some() {
        ok |= all_of(words);
    }
    ok
}

fn all_of(words: &mut Words<'_>) -> bool {
    let mut ok = licence(words);
    while words.next_if_eq(&"AND").is_some() {
        ok &= licence(words);
    }
    ok
}

fn licence(words: &mut Words<'_>) -> bool {
    if words.next_if_eq(&"(").is_some() {
        let ok = any_of(words);
        return words.next() == Some(")") && ok;
    }
    let Some(mut name) = words.next().map(str::to_owned) else { return false };
    if words.next_if_eq(&"WITH").is_some() {
        name = format!("{name} WITH {}", words.next().unwrap_or_default());
    }
    LICENCES.contains(&name.as_str())
}

#[test]
fn licence_expressions_are_read_as_they_are_meant() {
    for ok in ["MIT", "MIT/Apache-2.0", "MIT OR GPL-3.0", "(MIT OR Apache-2.0) AND Unicode-3.0", "GPL-2.0 OR (MIT AND ISC)"] {
        assert!(allowed(ok), "{ok}");
    }
    for bad in ["", "GPL-3.0-only", "MIT AND GPL-3.0", "(MIT", "Apache-2.0 WITH Nothing-exception", "MIT ISC", "AND MIT"] {
        assert!(!allowed(bad), "{bad}");
    }
}

fn metadata() -> Value {
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    let version = Command::new(cargo).arg("-vV").output().unwrap().stdout;
    let version = String::from_utf8(version).unwrap();
    let host = version.lines().find_map(|l| l.strip_prefix("host: ")).expect("cargo -vV names the host");
    let out = Command::new(cargo)
        .current_dir(root())
        .args(["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform", host])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

/// Ids of the packages that the binary is built from: the root's dependencies, and theirs, without those for tests.
fn linked(metadata: &Value) -> BTreeSet<String> {
    let nodes: BTreeMap<&str, &Value> =
        metadata["resolve"]["nodes"].as_array().unwrap().iter().map(|n| (n["id"].as_str().unwrap(), n)).collect();
    let mut found = BTreeSet::new();
    let mut next = vec![metadata["resolve"]["root"].as_str().unwrap()];
    while let Some(id) = next.pop() {
        if found.insert(id.to_owned()) {
            let deps = nodes[id]["deps"].as_array().unwrap().iter();
            let kept = deps.filter(|d| d["dep_kinds"].as_array().unwrap().iter().any(|k| k["kind"] != "dev"));
            next.extend(kept.map(|d| d["pkg"].as_str().unwrap()));
        }
    }
    found
}

#[test]
fn every_linked_crate_has_a_licence_of_the_list() {
    let metadata = metadata();
    let linked = linked(&metadata);
    assert!(linked.len() > 100, "the dependencies were not found");
    let mut faults = Vec::new();
    let mut excused = BTreeSet::new();
    for p in metadata["packages"].as_array().unwrap().iter().filter(|p| linked.contains(p["id"].as_str().unwrap())) {
        let (name, licence) = (p["name"].as_str().unwrap(), p["license"].as_str().unwrap_or_default());
        if allowed(licence) {
            continue;
        }
        if LICENCE_EXCEPTIONS.iter().any(|(n, _)| *n == name) {
            excused.insert(name.to_owned());
        } else {
            faults.push(format!("{name} {}: {licence:?}", p["version"]));
        }
    }
    for (name, _) in LICENCE_EXCEPTIONS.iter().filter(|(n, _)| !excused.contains(*n)) {
        faults.push(format!("{name}: an exception that nothing needs any more"));
    }
    report(&faults);
}

#[test]
fn every_sabotage_has_a_test_that_must_fail_under_it() {
    let table = fs::read_to_string(root().join("scripts/sabotage.tsv")).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().filter(|l| !l.starts_with('#') && !l.is_empty()).map(|l| l.split('\t').collect()).collect();
    for row in &rows {
        assert_eq!(row.len(), 2, "{row:?}: name, tab, test");
        assert!(hubbub::sabotage::ALL.iter().any(|(n, _)| *n == row[0]), "there is no sabotage {}", row[0]);
    }
    for (name, _) in hubbub::sabotage::ALL {
        assert!(rows.iter().any(|r| r[0] == *name), "{name} is not in scripts/sabotage.tsv");
    }
}
