//! A SIMULATOR of configfs-tsm in an ordinary folder: no kernel, no confidential hardware.
//!
//! A thread watches the folder, fills each new entry as the kernel would, and answers each write of
//! `inblob`. What it answers is a function of the test's choosing.

#![allow(dead_code)] // each test uses what it needs

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

/// What a simulated platform answers to report data, and how it misbehaves.
pub struct Platform {
    pub provider: &'static str,
    pub privilege_floor: Option<u8>,
    /// Report data and privilege level → report and auxiliary blob.
    pub answer: Box<Answer>,
    /// How many times somebody else's write is counted beside the client's.
    pub interfere: usize,
}

pub type Answer = dyn FnMut(&[u8], &str) -> (Vec<u8>, Vec<u8>) + Send;

pub struct Simulator {
    folder: tempfile::TempDir,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Simulator {
    pub fn start(platform: Platform) -> Simulator {
        let folder = tempfile::tempdir().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (path, flag) = (folder.path().to_owned(), Arc::clone(&stop));
        let platform = Mutex::new(platform);
        let thread = std::thread::spawn(move || {
            let mut platform = platform.into_inner().unwrap();
            let mut seen = HashSet::new();
            while !flag.load(Ordering::Relaxed) {
                step(&path, &mut platform, &mut seen);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Simulator { folder, stop, thread: Some(thread) }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn step(folder: &Path, platform: &mut Platform, answered: &mut HashSet<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten().map(|entry| entry.path()) {
        if !entry.join("generation").is_file() {
            fill(&entry, platform);
        } else if !answered.contains(&entry) {
            let Ok(data) = fs::read(entry.join("inblob")) else { continue };
            if !data.is_empty() {
                answer(&entry, platform, &data);
                answered.insert(entry);
            }
        }
    }
}

/// `generation` last: whoever sees it sees all.
fn fill(entry: &Path, platform: &Platform) {
    for name in ["inblob", "outblob", "auxblob", "privlevel", "service_provider", "service_guid"] {
        let _ = fs::write(entry.join(name), b"");
    }
    let _ = fs::write(entry.join("manifestblob"), b"");
    let _ = fs::write(entry.join("provider"), format!("{}\n", platform.provider));
    let floor = platform.privilege_floor.unwrap_or(0);
    let _ = fs::write(entry.join("privlevel_floor"), format!("{floor}\n"));
    whole(entry, "generation", b"0\n");
}

fn answer(entry: &Path, platform: &mut Platform, data: &[u8]) {
    let text = |name| fs::read_to_string(entry.join(name)).unwrap_or_default();
    let level = text("privlevel");
    let (report, auxiliary) = (platform.answer)(data, &level);
    let _ = fs::write(entry.join("outblob"), report);
    let _ = fs::write(entry.join("auxblob"), auxiliary);
    let options = ["privlevel", "service_provider", "service_guid"];
    let mut writes = 1 + options.iter().filter(|name| !text(name).is_empty()).count();
    if writes > 2 {
        let _ = fs::write(entry.join("manifestblob"), b"a manifest");
    }
    if platform.interfere > 0 {
        platform.interfere -= 1;
        writes += 1;
    }
    whole(entry, "generation", format!("{writes}\n").as_bytes());
}

/// Never seen half written.
fn whole(entry: &Path, name: &str, bytes: &[u8]) {
    let beside = entry.join("generation.new");
    if fs::write(&beside, bytes).is_ok() {
        let _ = fs::rename(beside, entry.join(name));
    }
}
