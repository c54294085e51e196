//! Where configuration comes from, and how mistakes in it are told.
//!
//! Layers, each over the one before: the defaults in code, one TOML file, the environment, the command line. All mistakes of all
//! layers are collected and reported together, each with the place it was made in. A value is never part of a report, so that
//! a secret in the wrong place is not printed. What the values may be is `super::validate`'s.
//!
//! - File: the one named by `--config`, else by `HUBBUB_CONFIG` (either must exist), else [`DEFAULT_FILE`] when it is there.
//! - Environment: `HUBBUB_SECTION__KEY`. Variables without `__` are not configuration (`HUBBUB_CONFIG`, and what container
//!   platforms set for a service called "hubbub").
//! - Values in the environment and on the command line: texts as they stand, lists separated by commas, anything else as TOML.

use super::Config;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

/// The file that is read when none is named and it is there.
pub const DEFAULT_FILE: &str = "config/hubbub.toml";

/// The environment variable that names the file.
pub const FILE_VARIABLE: &str = "HUBBUB_CONFIG";

/// Bytes of a configuration file at most: far above any real one, far below what would hurt.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A value from the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// The flag as the user wrote it (`--listen`), for reports.
    pub flag: String,
    /// The key it sets.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// What to read configuration from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A file that must be there.
    pub file: Option<PathBuf>,
    /// A file that is read when it is there and `file` is not given.
    pub file_if_there: Option<PathBuf>,
    /// Environment variables; those that are not configuration are passed over.
    pub env: Vec<(String, String)>,
    /// The command line, in its order: a later one wins.
    pub flags: Vec<Flag>,
}

impl Sources {
    /// The usual ones: the file named by the flag, the variable or [`DEFAULT_FILE`]; this process's environment; these flags.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<Flag>) -> Sources {
        let named = file.or_else(|| std::env::var_os(FILE_VARIABLE).filter(|v| !v.is_empty()).map(PathBuf::from));
        Sources { file: named, file_if_there: Some(DEFAULT_FILE.into()), ..Sources::without_file(flags) }
    }

    /// This process's environment and these flags, and no file.
    pub fn without_file(flags: Vec<Flag>) -> Sources {
        // A variable that is not UTF-8 is kept with replacement characters: the key's own check then says what is wrong.
        let env = std::env::vars_os().map(|(k, v)| (k.to_string_lossy().into_owned(), v.to_string_lossy().into_owned())).collect();
        Sources { env, flags, ..Sources::default() }
    }
}

/// Where a value was set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: it is the default.
    #[default]
    Default,
    /// In a file, at a line (from 1).
    File(PathBuf, usize),
    /// By an environment variable.
    Env(String),
    /// By a flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path, line) => write!(f, "{}:{line}", path.display()),
            Origin::Env(name) => write!(f, "environment {name}"),
            Origin::Flag(flag) => f.write_str(flag),
        }
    }
}

/// One thing that is wrong, or questionable, in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key (`http.listen`); empty when it is about the whole file.
    pub key: String,
    /// Where it was set.
    pub origin: Origin,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { key, origin, message } = self;
        if key.is_empty() { write!(f, "{origin}: {message}") } else { write!(f, "{origin}: {key}: {message}") }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot read the configuration file: {error}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It can be read, and says something that is not allowed. Displayed one to a line.
    #[error("{}", .0.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
    Problems(Vec<Problem>),
}

/// A configuration and where each of its values that is not the default was set.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// It.
    pub config: Config,
    /// Key → where it was set.
    pub origins: BTreeMap<String, Origin>,
    /// The file that was read, if one was.
    pub file: Option<PathBuf>,
}

impl Config {
    /// Reads and validates.
    pub fn load(sources: Sources) -> Result<Config, ConfigError> {
        load(sources).map(|l| l.config)
    }
}

/// Reads and validates, and says where each value came from.
pub fn load(sources: Sources) -> Result<Loaded, ConfigError> {
    let mut layers = Layers::new();
    let file = sources.file.or(sources.file_if_there.filter(|p| p.exists()));
    if let Some(path) = &file {
        let text = read(path).map_err(|error| ConfigError::Unreadable { path: path.clone(), error })?;
        layers.add_file(path, &text);
    }
    for (name, value) in &sources.env {
        if let Some(key) = key_of_variable(name) {
            layers.add_text(&key, value, Origin::Env(name.clone()));
        }
    }
    for Flag { flag, key, value } in sources.flags {
        layers.add_text(&key, &value, Origin::Flag(flag));
    }
    layers.finish(file)
}

fn read(path: &Path) -> std::io::Result<String> {
    if std::fs::metadata(path)?.len() > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!("larger than {FILE_BYTES_MAX} bytes")));
    }
    std::fs::read_to_string(path)
}

/// `HUBBUB_HTTP__LISTEN` → `http.listen`.
fn key_of_variable(name: &str) -> Option<String> {
    let rest = name.strip_prefix("HUBBUB_").filter(|r| r.contains("__"))?;
    Some(rest.to_ascii_lowercase().replace("__", "."))
}

/// The defaults as TOML: the list of all keys and their types.
pub(super) fn defaults() -> Table {
    Table::try_from(Config::default()).expect("the defaults are TOML")
}

/// All keys with their defaults, in dotted form.
pub(super) fn flatten(table: &Table) -> Vec<(String, Value)> {
    let mut out = Vec::new();
    for (name, value) in table {
        match value {
            Value::Table(inner) => out.extend(flatten(inner).into_iter().map(|(k, v)| (format!("{name}.{k}"), v))),
            v => out.push((name.clone(), v.clone())),
        }
    }
    out
}

/// What has been read so far, over the defaults.
struct Layers {
    defaults: Table,
    keys: Vec<(String, Value)>,
    merged: Table,
    origins: BTreeMap<String, Origin>,
    problems: Vec<Problem>,
}

impl Layers {
    fn new() -> Layers {
        let defaults = defaults();
        Layers { keys: flatten(&defaults), merged: defaults.clone(), defaults, origins: BTreeMap::new(), problems: Vec::new() }
    }

    fn problem(&mut self, key: &str, origin: Origin, message: impl Into<String>) {
        self.problems.push(Problem { key: key.into(), origin, message: message.into() });
    }

    fn add_file(&mut self, path: &Path, text: &str) {
        let at = |span: Range<usize>| Origin::File(path.into(), line_of(text, span.start));
        // Parsed twice: once for values, once for the places they stand at.
        match (text.parse::<Table>(), DeTable::parse(text)) {
            (Ok(values), Ok(spans)) => self.add_table("", &values, spans.get_ref(), &at),
            (Err(e), _) | (_, Err(e)) => self.problem("", at(e.span().unwrap_or_default()), format!("not TOML: {}", e.message())),
        }
    }

    fn add_table(&mut self, prefix: &str, values: &Table, spans: &DeTable<'_>, at: &dyn Fn(Range<usize>) -> Origin) {
        // In the order of the file, so that mistakes are told in the order they are met.
        let mut names: Vec<_> = spans.iter().collect();
        names.sort_by_key(|(name, _)| name.span().start);
        for (name, spanned) in names {
            let key = if prefix.is_empty() { name.get_ref().to_string() } else { format!("{prefix}.{}", name.get_ref()) };
            let Some(value) = values.get(name.get_ref().as_ref()) else { continue };
            match (self.is_section(&key), value, spanned.get_ref()) {
                (true, Value::Table(inner), DeValue::Table(spans)) => self.add_table(&key, inner, spans, at),
                (true, other, _) => self.problem(&key, at(name.span()), format!("expected a section ([{key}]), found {}", kind(other))),
                (false, value, _) => self.add(&key, value.clone(), at(place(name, spanned))),
            }
        }
    }

    fn is_section(&self, key: &str) -> bool {
        self.defaults.get(key).is_some_and(Value::is_table)
    }

    /// A value as a person writes it in a shell: read as the key's own type where that is unambiguous.
    fn add_text(&mut self, key: &str, text: &str, origin: Origin) {
        let value = match self.keys.iter().find(|(k, _)| k == key).map(|(_, d)| d) {
            Some(Value::String(_)) => Value::String(text.into()),
            Some(Value::Array(_)) if !text.trim_start().starts_with('[') => {
                Value::Array(text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(|t| Value::String(t.into())).collect())
            }
            _ => scalar(text),
        };
        self.add(key, value, origin);
    }

    fn add(&mut self, key: &str, value: Value, origin: Origin) {
        let Some((_, default)) = self.keys.iter().find(|(k, _)| k == key) else {
            let message = match nearest(key, &self.keys) {
                _ if self.is_section(key) => format!("is a section; set one of its keys ({key}.…)"),
                Some(near) => format!("unknown key; did you mean {near}?"),
                None => "unknown key".into(),
            };
            return self.problem(key, origin, message);
        };
        if let Err(message) = fits(key, default, &value) {
            return self.problem(key, origin, message);
        }
        set(&mut self.merged, key, value);
        self.origins.insert(key.into(), origin);
    }

    fn finish(self, file: Option<PathBuf>) -> Result<Loaded, ConfigError> {
        let Layers { merged, origins, mut problems, .. } = self;
        // Every value was tried on its own before it was merged, so that this fails only beside problems already found.
        let config = match Config::deserialize(Value::Table(merged)) {
            Ok(config) => config,
            Err(e) if problems.is_empty() => {
                return Err(ConfigError::Problems(vec![Problem {
                    key: String::new(),
                    origin: Origin::Default,
                    message: e.message().into(),
                }]));
            }
            Err(_) => return Err(ConfigError::Problems(problems)),
        };
        if let Err(invalid) = config.validate() {
            problems.extend(invalid.into_iter().map(|p| Problem { origin: origins.get(&p.key).cloned().unwrap_or_default(), ..p }));
        }
        if problems.is_empty() { Ok(Loaded { config, origins, file }) } else { Err(ConfigError::Problems(problems)) }
    }
}

/// Where to point for a value that is wrong: at its key, or at its header when it is a whole table.
fn place(name: &Spanned<std::borrow::Cow<'_, str>>, value: &Spanned<DeValue<'_>>) -> Range<usize> {
    if value.get_ref().is_table() { value.span() } else { name.span() }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1
}

/// A TOML scalar or list, else the text itself.
fn scalar(text: &str) -> Value {
    let parsed = format!("v = {}", text.trim()).parse::<Table>();
    parsed.ok().filter(|t| t.len() == 1).and_then(|mut t| t.remove("v")).unwrap_or_else(|| Value::String(text.into()))
}

/// Tries the value alone, over the defaults, so that a mistake is certain to be this key's.
fn fits(key: &str, default: &Value, value: &Value) -> Result<(), String> {
    if !default.same_type(value) {
        return Err(format!("expected {}, found {}", expected(default), kind(value)));
    }
    let mut alone = defaults();
    set(&mut alone, key, value.clone());
    match Config::deserialize(Value::Table(alone)) {
        Ok(_) => Ok(()),
        Err(_) if is_address(default) => Err(format!("expected {}", expected(default))),
        Err(e) if key == "auth.issuers" => Err(super::issuer::complaint(e.message())),
        Err(_) if default.is_array() => Err("expected a list of texts".into()),
        Err(e) => Err(e.message().into()),
    }
}

fn is_address(default: &Value) -> bool {
    default.as_str().is_some_and(|d| d.parse::<std::net::SocketAddr>().is_ok())
}

fn expected(default: &Value) -> &'static str {
    if is_address(default) { "an address and port such as \"127.0.0.1:8080\"" } else { kind(default) }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number with a fraction",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a section",
    }
}

fn set(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.into(), value);
        }
        Some((section, rest)) => {
            if let Some(Value::Table(inner)) = table.get_mut(section) {
                set(inner, rest, value);
            }
        }
    }
}

/// The known key most like `key`: by the whole of it, or by its last part when only the section is wrong.
fn nearest<'a>(key: &str, keys: &'a [(String, Value)]) -> Option<&'a str> {
    let last = |k: &str| k.rsplit('.').next().unwrap_or_default().to_owned();
    let score = |k: &str| {
        let whole = strsim::normalized_damerau_levenshtein(key, k);
        let part = strsim::normalized_damerau_levenshtein(&last(key), &last(k));
        // A slip in the last part says less than the same slip in a key whose section is right too.
        if part > 0.8 { whole.max(0.85 * part) } else { whole }
    };
    keys.iter().map(|(k, _)| (k.as_str(), score(k))).max_by(|a, b| a.1.total_cmp(&b.1)).map(|(k, _)| k)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of_text(text: &str) -> Result<Loaded, ConfigError> {
        let mut layers = Layers::new();
        layers.add_file(Path::new("x.toml"), text);
        layers.finish(None)
    }
    fn complaint(text: &str) -> String {
        of_text(text).unwrap_err().to_string()
    }
    fn flag(key: &str, value: &str) -> Flag {
        Flag { flag: "--set".into(), key: key.into(), value: value.into() }
    }

    #[test]
    fn an_unknown_key_names_the_nearest_and_the_line() {
        assert_eq!(complaint("\n[http]\nlisen = \"127.0.0.1:1\"\n"), "x.toml:3: http.lisen: unknown key; did you mean http.listen?");
        assert_eq!(complaint("[http]\ndata_dir = \"x\""), "x.toml:2: http.data_dir: unknown key; did you mean storage.data_dir?");
        assert_eq!(complaint("[htpt]\nlisten = \"x\""), "x.toml:1: htpt: unknown key; did you mean http.listen?");
    }

    #[test]
    fn every_mistake_is_told_in_the_order_of_the_file_and_no_value_with_it() {
        let text = "log.format = \"xml\"\n[http]\nworkers = \"many\"\norigins = [1]\nlisten = 80\n[auth]\nsecret = 123456\n[storage]\nshards = -1\n";
        let lines = complaint(text);
        let lines: Vec<_> = lines.lines().collect();
        assert_eq!(lines.len(), 6, "{lines:#?}");
        assert!(lines[0].starts_with("x.toml:1: log.format: unknown variant"), "{lines:#?}");
        assert_eq!(lines[1], "x.toml:3: http.workers: expected a whole number, found a text");
        assert_eq!(lines[2], "x.toml:4: http.origins: expected a list of texts");
        assert_eq!(lines[3], "x.toml:5: http.listen: expected an address and port such as \"127.0.0.1:8080\", found a whole number");
        assert_eq!(lines[4], "x.toml:7: auth.secret: expected a text, found a whole number");
        assert!(lines[5].starts_with("x.toml:9: storage.shards: "), "{lines:#?}");
    }

    #[test]
    fn broken_toml_names_the_line_and_not_its_content() {
        let e = complaint("[auth]\nsecret = \"0123456789\n");
        assert!(e.starts_with("x.toml:2: not TOML") && !e.contains("0123"), "{e}");
        assert!(complaint("http = 1").contains("expected a section ([http])"));
        assert!(complaint("[http.listen]\na = 1").contains("http.listen: expected an address"));
    }

    #[test]
    fn later_layers_win_and_say_so() {
        let sources = Sources {
            env: vec![("HUBBUB_HTTP__WORKERS".into(), "3".into()), ("HUBBUB_SERVICE_HOST".into(), "10.0.0.1".into())],
            flags: vec![flag("http.workers", "4"), flag("http.workers", "5")],
            ..Sources::default()
        };
        let loaded = load(sources.clone()).unwrap();
        assert_eq!(loaded.config.http.workers, 5);
        assert_eq!(loaded.origins["http.workers"], Origin::Flag("--set".into()));
        let loaded = load(Sources { flags: vec![], ..sources }).unwrap();
        assert_eq!(
            (loaded.config.http.workers, loaded.origins["http.workers"].to_string()),
            (3, "environment HUBBUB_HTTP__WORKERS".into())
        );
    }

    #[test]
    fn shell_values_are_read_as_the_keys_type() {
        let flags = vec![
            flag("http.origins", "https://a.example, https://b.example"),
            flag("auth.key_id", "7"),
            flag("dev.echo", "true"),
            flag("storage.data_dir", "a b"),
        ];
        let c = Config::load(Sources { flags, ..Sources::default() }).unwrap();
        assert_eq!(c.http.origins, ["https://a.example", "https://b.example"]);
        assert_eq!((c.auth.key_id.as_str(), c.dev.echo, c.storage.data_dir.to_str()), ("7", true, Some("a b")));
        for (key, value) in [("dev.echo", "yes"), ("http.workers", "1\nx = 2"), ("http.listen", "localhost"), ("http", "1"), ("x.y.z", "1")]
        {
            assert!(load(Sources { flags: vec![flag(key, value)], ..Sources::default() }).is_err(), "{key}={value:?}");
        }
    }
}
