//! `hubbub backup FILE|DIR` and `hubbub restore FILE`: a copy of everything, and a server from it.
//!
//! A backup is taken through the running server, which goes on; when none runs, from the data directory itself. It is held against its
//! checksums while it is written, is for its owner alone (0600), and has its name only once it is whole and flushed.
//! A restore reads the whole file before it writes anything, and writes into an empty directory only.

use super::operator::Operator;
use super::{ConfigArgs, Done, Failure, print, print_json, warn};
use crate::auth::now;
use crate::config::Config;
use crate::config::secrets;
use crate::storage::Store;
use crate::storage::copying::{CopiedFile, Decoder, Encoder, FORMAT, Head, Part, Totals};
use crate::storage::embedded::{EmbeddedOptions, EmbeddedStore, Restoring};
use serde_json::json;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Arguments of `hubbub backup`.
#[derive(clap::Args)]
pub struct BackupArgs {
    /// A file that is not there yet, or a directory in which one is made
    #[arg(value_name = "FILE|DIR")]
    to: PathBuf,
    /// The secrets too: without them a restored server makes new ones, and everybody signs in again
    #[arg(long)]
    with_secrets: bool,
    /// For a program
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Arguments of `hubbub restore`.
#[derive(clap::Args)]
pub struct RestoreArgs {
    /// What `hubbub backup` made
    #[arg(value_name = "FILE")]
    from: PathBuf,
    /// Only read the file and say whether it is whole
    #[arg(long)]
    verify: bool,
    /// For a program
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

fn at(path: &Path) -> impl Fn(io::Error) -> Failure + '_ {
    move |e| Failure::Failed(format!("{}: {e}", path.display()))
}

pub(super) fn backup(args: BackupArgs) -> Done {
    let config = args.config.config()?;
    let to = match args.to.is_dir() {
        true => args.to.join(format!("hubbub-{}.backup", now())),
        false => args.to.clone(),
    };
    if to.exists() {
        return Err(Failure::Usage(format!("{}: is there already", to.display())));
    }
    let part = PathBuf::from(format!("{}.part", to.display()));
    // Made anew: what lies there may be a link, or a file that others may read, and secrets may go into it.
    if let Err(error) = fs::remove_file(&part)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(at(&part)(error));
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).map_err(at(&part))?;
    let kept = source(&config, args.with_secrets).and_then(|from| keep(from, file).map_err(at(&part)));
    let (head, totals) = kept.inspect_err(|_| {
        // What is left would be no backup.
        let _ = fs::remove_file(&part);
    })?;
    fs::rename(&part, &to).map_err(at(&to))?;
    let dir = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir).and_then(|d| d.sync_all()).map_err(at(dir))?;
    if !args.with_secrets {
        warn("the secrets are not in it (--with-secrets): a server restored from it makes new ones");
    }
    say(args.json, "backed up to", &to, &head, &totals)
}

fn say(as_json: bool, done: &str, file: &Path, head: &Head, totals: &Totals) -> Done {
    if as_json {
        return print_json(&json!({ "file": file, "head": head, "totals": totals }));
    }
    let Totals { log_rows, other_rows, sha256 } = totals;
    print(&format!("{done} {}: {log_rows} log rows, {other_rows} others, sha256 {sha256}", file.display()))
}

/// The stream of the running server, or of a store that nobody has open.
fn source(config: &Config, with_secrets: bool) -> Result<Box<dyn Read>, Failure> {
    let dir = &config.storage.data_dir;
    if let Some(operator) = Operator::of(dir)? {
        return operator.stream(&format!("/admin/backup?secrets={with_secrets}"));
    }
    if !dir.join("STORE").exists() {
        return Err(Failure::Failed(format!("{}: there is no store", dir.display())));
    }
    let store = EmbeddedStore::open(dir, EmbeddedOptions::from(&config.storage)).map_err(|e| Failure::Failed(e.to_string()))?;
    let files = match with_secrets {
        true => crate::http::backup::secrets(dir).map_err(at(dir))?,
        false => Vec::new(),
    };
    Ok(Box::new(Stopped::begin(store, with_secrets, files)?))
}

/// A stopped server's store, as the same stream.
struct Stopped {
    copy: Box<dyn crate::storage::copying::Copying>,
    encoder: Option<Encoder>,
    ready: io::Cursor<Vec<u8>>,
    _store: std::sync::Arc<EmbeddedStore>,
}

impl Stopped {
    fn begin(store: std::sync::Arc<EmbeddedStore>, secrets: bool, files: Vec<CopiedFile>) -> Result<Stopped, Failure> {
        use crate::storage::Ownership;
        let mut encoder = Encoder::default();
        let mut ready = encoder.head(&Head { format: FORMAT, shards: store.shards(), created: now(), secrets }).to_vec();
        files.iter().for_each(|file| ready.extend(encoder.file(file)));
        Ok(Stopped { copy: store.copy()?, encoder: Some(encoder), ready: io::Cursor::new(ready), _store: store })
    }
}

impl Read for Stopped {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.ready.position() == self.ready.get_ref().len() as u64
            && let Some(mut encoder) = self.encoder.take()
        {
            let rows = self.copy.next().map_err(io::Error::other)?;
            self.ready = match rows.is_empty() {
                true => io::Cursor::new(encoder.end().to_vec()),
                false => {
                    let part = encoder.rows(&rows).to_vec();
                    self.encoder = Some(encoder);
                    io::Cursor::new(part)
                }
            };
        }
        self.ready.read(buf)
    }
}

/// Hands on what it reads, after writing it down.
struct Tee<R, W> {
    from: R,
    to: W,
}
impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buf)?;
        self.to.write_all(&buf[..n])?;
        Ok(n)
    }
}

/// Writes the stream into the file, looks at every checksum on the way, and flushes.
fn keep(from: Box<dyn Read>, file: File) -> io::Result<(Head, Totals)> {
    let mut decoder = Decoder::new(Tee { from, to: BufWriter::with_capacity(1 << 20, file) });
    let found = walk(&mut decoder, |_| Ok(()))?;
    decoder.into_inner().to.into_inner().map_err(|e| e.into_error())?.sync_all()?;
    Ok(found)
}

/// Reads a stream to its end.
fn walk<R: Read>(decoder: &mut Decoder<R>, mut each: impl FnMut(Part) -> io::Result<()>) -> io::Result<(Head, Totals)> {
    let (mut head, mut totals) = (None, None);
    while let Some(part) = decoder.read_part()? {
        match &part {
            Part::Head(h) => head = Some(h.clone()),
            Part::End(t) => totals = Some(t.clone()),
            _ => {}
        }
        each(part)?;
    }
    head.zip(totals).ok_or_else(|| io::Error::other("it has no head or no end"))
}

pub(super) fn restore(args: RestoreArgs) -> Done {
    let from = &args.from;
    let open = || File::open(from).map(|file| Decoder::new(BufReader::with_capacity(1 << 20, file))).map_err(at(from));
    let (head, totals) = walk(&mut open()?, |_| Ok(())).map_err(at(from))?;
    if args.verify {
        return say(args.json, "whole:", from, &head, &totals);
    }
    let config = args.config.config()?;
    let dir = &config.storage.data_dir;
    if fs::read_dir(dir).is_ok_and(|mut d| d.next().is_some()) {
        return Err(Failure::Usage(format!("{}: is not empty; restore into a directory that is", dir.display())));
    }
    if head.shards != config.storage.shards {
        let (stored, asked) = (head.shards, config.storage.shards);
        return Err(Failure::Config(format!("the backup has {stored} shards, not {asked}: set storage.shards = {stored}")));
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(dir))?;
    let mut restoring = Some(Restoring::begin(dir, head.shards).map_err(|e| Failure::Failed(e.to_string()))?);
    walk(&mut open()?, |part| match (part, &mut restoring) {
        (Part::Rows(rows), Some(restoring)) => restoring.rows(rows, now()).map_err(io::Error::other),
        (Part::File(file), _) => put_secret(dir, &file),
        _ => Ok(()),
    })
    .map_err(at(from))?;
    let shards = restoring.take().map_or(Ok(0), Restoring::finish).map_err(|e| Failure::Failed(e.to_string()))?;
    if !head.secrets {
        warn("the secrets were not in it: the server makes new ones, access tokens of before are refused, refresh tokens go on");
    }
    warn(&format!("the epochs of {shards} shards were raised; clients that are ahead of the backup are told to resync"));
    say(args.json, "restored from", from, &head, &totals)
}

fn put_secret(data_dir: &Path, file: &CopiedFile) -> io::Result<()> {
    let plain = !file.name.is_empty() && !file.name.starts_with('.') && !file.name.contains(['/', '\0']);
    if !plain {
        return Err(io::Error::other(format!("{:?} is no name of a secret's file", file.name)));
    }
    let dir = secrets::dir(data_dir);
    DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(dir.join(&file.name))?;
    to.write_all(&file.content)?;
    to.sync_all()
}
