//! The power-cut library (`scripts/powercut`) itself: what was synced is in the image, and nothing else is.
//!
//! Tests that cut the power rest on this one. [`library`] builds the library once per run and says where it is;
//! [`preload`] starts a command under it.

use std::fs::{self, File, OpenOptions};
use std::io::{IoSlice, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The built library.
pub fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("powercut.so");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/powercut/build");
        let done = Command::new(script).arg(&out).output().expect("scripts/powercut/build can be started");
        assert!(done.status.success(), "scripts/powercut/build failed:\n{}", String::from_utf8_lossy(&done.stderr));
        out
    })
}

/// Lets `command` run with `live` watched and what is durable of it kept in `image`. While the file `fault` exists,
/// its first word (`fsync` or `write`) names the calls that fail.
pub fn preload(command: &mut Command, live: &Path, image: &Path, fault: Option<&Path>) {
    command.env("LD_PRELOAD", library()).env("POWERCUT_DIR", live).env("POWERCUT_IMAGE", image);
    if let Some(fault) = fault {
        command.env("POWERCUT_FAULT", fault);
    }
}

/// The same as settings, for a process that somebody else starts.
pub fn environment(live: &Path, image: &Path, fault: Option<&Path>) -> Vec<(String, String)> {
    let mut command = Command::new("");
    preload(&mut command, live, image, fault);
    let text = |s: &std::ffi::OsStr| s.to_str().expect("a path of the test's own").to_owned();
    command.get_envs().map(|(name, value)| (text(name), text(value.expect("set, not removed")))).collect()
}

const STEPS: &str = "HUBBUB_TEST_POWERCUT_STEPS";

fn create(path: PathBuf, text: &str) -> File {
    let mut f = File::create(path).unwrap();
    f.write_all(text.as_bytes()).unwrap();
    f
}

fn sync_dir(dir: &Path) {
    File::open(dir).unwrap().sync_all().unwrap();
}

/// Runs in a process of its own, started by the other tests under the library.
#[test]
#[ignore = "a helper process of the other tests here"]
fn steps() {
    let dir = PathBuf::from(std::env::var_os("POWERCUT_DIR").expect("started by the other tests"));
    match std::env::var(STEPS).expect("started by the other tests").as_str() {
        "bytes" => bytes(&dir),
        "names" => names(&dir),
        "threads" => threads(&dir),
        "faults" => faults(&dir),
        "again" => create(dir.join("second"), "second").sync_all().unwrap(),
        other => panic!("no steps named {other}"),
    }
}

fn run(steps: &str, live: &Path, image: &Path, fault: Option<&Path>) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "powercut_tool::steps", "--ignored", "--nocapture"]).env(STEPS, steps);
    preload(&mut child, live, image, fault);
    let done = child.output().unwrap();
    let out = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{out}\n{}", String::from_utf8_lossy(&done.stderr));
    assert!(out.contains("1 passed"), "{out}");
}

/// A live directory and its image, both below a temporary one.
struct Dirs {
    live: PathBuf,
    image: PathBuf,
    _temp: tempfile::TempDir,
}

fn dirs() -> Dirs {
    let temp = tempfile::tempdir().unwrap();
    let dirs = Dirs { live: temp.path().join("live"), image: temp.path().join("image"), _temp: temp };
    fs::create_dir(&dirs.live).unwrap();
    dirs
}

fn read(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap_or_else(|e| format!("{name}: {e}"))
}

fn bytes(dir: &Path) {
    let mut f = create(dir.join("appended"), "synced");
    f.sync_data().unwrap();
    f.write_all(b", lost").unwrap();

    create(dir.join("never"), "lost");

    let f = create(dir.join("overwritten"), "0123456789");
    f.sync_all().unwrap();
    f.write_all_at(b"ab", 2).unwrap();
    f.sync_data().unwrap();
    f.write_all_at(b"XY", 7).unwrap();

    let mut f = create(dir.join("vectored"), "");
    assert_eq!(f.write_vectored(&[IoSlice::new(b"one "), IoSlice::new(b"two")]).unwrap(), 7);
    f.sync_all().unwrap();

    let f = create(dir.join("truncated"), "0123456789");
    f.sync_all().unwrap();
    f.set_len(4).unwrap();
    f.sync_all().unwrap();
    f.set_len(8).unwrap();

    let f = create(dir.join("regrown"), "0123456789");
    f.sync_all().unwrap();
    f.set_len(2).unwrap();
    f.set_len(6).unwrap();
    f.sync_all().unwrap();

    let mut f = OpenOptions::new().write(true).create(true).truncate(true).custom_flags(libc::O_DSYNC).open(dir.join("dsync")).unwrap();
    f.write_all(b"synced by its flag").unwrap();

    fs::copy(dir.join("overwritten"), dir.join("copied")).unwrap();
    File::open(dir.join("copied")).unwrap().sync_all().unwrap();
    fs::copy(dir.join("overwritten"), dir.join("copied_lost")).unwrap();

    let mut f = create(dir.join("reopened"), "long before");
    f.sync_all().unwrap();
    drop(f);
    f = OpenOptions::new().append(true).open(dir.join("reopened")).unwrap();
    f.write_all(b", and after").unwrap();
    f.sync_data().unwrap();
    drop(f);
    create(dir.join("reopened"), "truncated and lost");

    let mut f = create(dir.join("allocated"), "");
    f.set_len(256 << 20).unwrap();
    f.write_all(b"head").unwrap();
    f.sync_all().unwrap();
}

#[test]
fn only_synced_bytes_are_in_the_image() {
    let d = dirs();
    fs::write(d.live.join("before"), "was there").unwrap();
    run("bytes", &d.live, &d.image, None);
    assert_eq!(read(&d.live, "appended"), "synced, lost");
    assert_eq!(read(&d.image, "appended"), "synced");
    assert!(d.live.join("never").exists() && !d.image.join("never").exists());
    assert_eq!(read(&d.image, "overwritten"), "01ab456789");
    assert_eq!(read(&d.image, "vectored"), "one two");
    assert_eq!(read(&d.image, "truncated"), "0123");
    assert_eq!(read(&d.image, "regrown"), "01\0\0\0\0");
    assert_eq!(read(&d.image, "dsync"), "synced by its flag");
    assert_eq!(read(&d.image, "copied"), read(&d.live, "overwritten"));
    assert!(!d.image.join("copied_lost").exists());
    assert_eq!(read(&d.image, "reopened"), "long before, and after");
    assert_eq!(read(&d.image, "before"), "was there");
    let allocated = fs::metadata(d.image.join("allocated")).unwrap();
    assert_eq!(allocated.len(), 256 << 20);
    let blocks = std::os::unix::fs::MetadataExt::blocks(&allocated);
    assert!(blocks < 1024, "space allocated ahead is not copied, but {blocks} blocks were");
}

fn names(dir: &Path) {
    create(dir.join("renamed_from"), "r").sync_all().unwrap();
    fs::rename(dir.join("renamed_from"), dir.join("renamed_to")).unwrap();

    create(dir.join("removed"), "x").sync_all().unwrap();
    fs::remove_file(dir.join("removed")).unwrap();

    let sub = dir.join("synced");
    fs::create_dir(&sub).unwrap();
    create(sub.join("current"), "old").sync_all().unwrap();
    // Renames without libc's `rename`, as the store's own library does.
    let mut next = tempfile::NamedTempFile::new_in(&sub).unwrap();
    next.write_all(b"new").unwrap();
    next.as_file().sync_all().unwrap();
    next.persist(sub.join("current")).unwrap();
    create(sub.join("removed"), "x").sync_all().unwrap();
    fs::remove_file(sub.join("removed")).unwrap();
    create(sub.join("name_without_bytes"), "lost");
    fs::create_dir(sub.join("empty")).unwrap();
    sync_dir(&sub);
    create(sub.join("current"), "truncated after the sync");

    fs::create_dir_all(dir.join("a/b/unsynced")).unwrap();
    create(dir.join("a/b/file"), "deep").sync_all().unwrap();
}

#[test]
fn names_are_durable_only_after_a_sync_of_their_directory() {
    let d = dirs();
    run("names", &d.live, &d.image, None);
    assert_eq!(read(&d.image, "renamed_from"), "r");
    assert!(!d.image.join("renamed_to").exists(), "a rename is durable after a sync of the directory only");
    assert_eq!(read(&d.image, "removed"), "x");
    assert_eq!(read(&d.image, "synced/current"), "new");
    assert!(!d.image.join("synced/removed").exists());
    assert_eq!(read(&d.image, "synced/name_without_bytes"), "");
    assert!(d.image.join("synced/empty").is_dir());
    assert_eq!(fs::read_dir(d.image.join("synced")).unwrap().count(), 3, "nothing of the temporary file is left");
    assert_eq!(read(&d.image, "a/b/file"), "deep");
    assert!(!d.image.join("a/b/unsynced").exists());
}

fn threads(dir: &Path) {
    let shared = OpenOptions::new().append(true).create(true).open(dir.join("shared")).unwrap();
    std::thread::scope(|s| {
        for t in 0..8 {
            let mut shared = &shared;
            s.spawn(move || {
                let mut own = create(dir.join(format!("own{t}")), "");
                for i in 0..100 {
                    writeln!(own, "{t} {i}").unwrap();
                    shared.write_all(format!("{t} {i}\n").as_bytes()).unwrap();
                    own.sync_data().unwrap();
                    shared.sync_data().unwrap();
                }
                own.write_all(b"lost").unwrap();
            });
        }
    });
}

#[test]
fn many_threads_lose_nothing_that_they_synced() {
    let d = dirs();
    run("threads", &d.live, &d.image, None);
    for t in 0..8 {
        let want: String = (0..100).map(|i| format!("{t} {i}\n")).collect();
        assert_eq!(read(&d.image, &format!("own{t}")), want);
    }
    let mut lines: Vec<_> = read(&d.image, "shared").lines().map(str::to_owned).collect();
    assert_eq!(read(&d.image, "shared"), read(&d.live, "shared"));
    lines.sort();
    lines.dedup();
    assert_eq!(lines.len(), 800);
}

fn faults(dir: &Path) {
    let fault = PathBuf::from(std::env::var_os("POWERCUT_FAULT").unwrap());
    let mut f = create(dir.join("file"), "kept");
    f.sync_all().unwrap();
    fs::write(&fault, "fsync").unwrap();
    f.write_all(b"lost").unwrap();
    assert_eq!(f.sync_data().unwrap_err().raw_os_error(), Some(libc::EIO));
    assert_eq!(File::open(dir).unwrap().sync_all().unwrap_err().raw_os_error(), Some(libc::EIO));
    fs::remove_file(&fault).unwrap();
    f.sync_data().unwrap(); // says that all is well, and does not bring back what the failed one lost
    fs::write(&fault, "write").unwrap();
    assert_eq!(f.write_all(b"full").unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    assert_eq!(f.set_len(1 << 20).unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    fs::remove_file(&fault).unwrap();
    f.write_all(b"more").unwrap();
    f.sync_data().unwrap();
}

#[test]
fn what_a_failed_fsync_lost_no_later_one_brings_back() {
    let d = dirs();
    run("faults", &d.live, &d.image, Some(&d.live.with_file_name("fault")));
    assert_eq!(read(&d.live, "file"), "keptlostmore");
    assert_eq!(read(&d.image, "file"), "kept\0\0\0\0more");
}

#[test]
fn an_image_lives_on_through_a_restart_and_can_be_started_on() {
    let d = dirs();
    run("bytes", &d.live, &d.image, None);
    run("again", &d.live, &d.image, None);
    assert_eq!(read(&d.image, "second"), "second");
    assert_eq!(read(&d.image, "appended"), "synced", "a restart alone makes nothing durable");
    // The power is cut: the image is the disk now, and has an image of its own.
    let next = d.image.with_file_name("image2");
    run("again", &d.image, &next, None);
    assert_eq!((read(&next, "appended"), read(&next, "second")), ("synced".into(), "second".into()));
}
