//! Endorsements on disk: one file for each subject, written whole or not at all.
//!
//! The first line of a file is SHA-256 of all that follows. What does not match it, is not
//! canonical, or no longer verifies counts as absent: the cache saves a way to the vendor and is
//! trusted with nothing. An entry never makes place for one that was issued before it.
//!
//! Another process may put files here (`assay endorsement import`): at each use it is asked whether
//! the file is still the one that was read, and writers of all processes wait for one another.

use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::fs::Metadata;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::SystemTime;

use assay_evidence::Time;
use assay_evidence::crypto;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use crate::canonical;
use crate::endorsement::Entry;
use crate::endorsement::Roots;
use crate::endorsement::Subject;
use crate::endorsement::entry::MAX_BODY;

/// The folder and what of it is in memory.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    roots: Arc<Roots>,
    room: Room,
    kept: Mutex<Kept>,
    /// One writer at a time, so that comparing and replacing are one step.
    writing: Mutex<u64>,
}

/// How much it may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    pub entries: usize,
    pub bytes: u64,
}

impl Default for Room {
    fn default() -> Room {
        Room { entries: MAX_ENTRIES, bytes: MAX_BYTES }
    }
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    #[error("{}: cannot be used as a cache of endorsements", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("{}: cannot be written", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// It keeps old bundles out, so it must not be lost unseen.
    #[error("{}: the record of imported bundles cannot be read: {fault}", path.display())]
    Signers { path: PathBuf, fault: String },
    #[error("`{subject}` was issued before the one that is kept")]
    Older { subject: Subject },
}

#[derive(Debug, Default)]
struct Kept {
    uses: u64,
    slots: BTreeMap<String, Slot>,
}

#[derive(Debug)]
struct Slot {
    /// Used last, and for what was not used since the start, written last.
    used: (u64, SystemTime),
    /// The file as it was when it was read.
    stamp: Stamp,
    entry: Option<Arc<Entry>>,
}

/// Tells one file from the one that took its place: when it was written, how long it is, which
/// inode it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    written: SystemTime,
    size: u64,
    inode: u64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            written: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            size: metadata.len(),
            inode: metadata.ino(),
        }
    }
}

impl Cache {
    /// Opens a folder, or makes it.
    pub fn open(folder: &Path, roots: Arc<Roots>, room: Room) -> Result<Cache, CacheError> {
        let failed = |source| CacheError::Folder { path: folder.to_path_buf(), source };
        fs::create_dir_all(folder).map_err(failed)?;
        let mut kept = Kept::default();
        for file in fs::read_dir(folder).map_err(failed)? {
            let file = file.map_err(failed)?;
            let name = file.file_name().to_string_lossy().into_owned();
            let Ok(metadata) = file.metadata() else { continue };
            let stamp = Stamp::of(&metadata);
            let age = stamp.written.elapsed().unwrap_or_default();
            if name.ends_with(UNFINISHED) && age > LEFT_BEHIND {
                // Of a process that was stopped while it wrote.
                let _ = fs::remove_file(file.path());
            }
            if let Some(key) = name.strip_suffix(SUFFIX)
                && key.parse::<Subject>().is_ok()
            {
                let slot = Slot { used: (0, stamp.written), stamp, entry: None };
                kept.slots.insert(key.to_owned(), slot);
            }
        }
        Ok(Cache {
            folder: folder.to_path_buf(),
            roots,
            room,
            kept: Mutex::new(kept),
            writing: Mutex::new(0),
        })
    }

    /// What is kept of a subject: in memory, or read from disk where the file is new or another
    /// one. Blocks on the disk.
    pub fn find(&self, subject: &Subject) -> Option<Arc<Entry>> {
        let key = subject.to_string();
        let stamp = fs::metadata(self.path(&key)).ok().map(|metadata| Stamp::of(&metadata));
        let known = {
            let mut kept = self.kept();
            kept.uses = kept.uses.saturating_add(1);
            let uses = kept.uses;
            kept.slots.get_mut(&key).and_then(|slot| {
                slot.used.0 = uses;
                slot.entry.clone().map(|entry| (entry, slot.stamp))
            })
        };
        match known {
            Some((entry, read)) if stamp.is_none_or(|stamp| stamp == read) => Some(entry),
            Some((entry, _)) => match self.read_again(subject) {
                // Spoilt or older: what was read before is still what its vendor signed.
                Some(found) if !found.is_older_than(&entry) => Some(found),
                _ => Some(entry),
            },
            None => self.read_again(subject),
        }
    }

    fn read_again(&self, subject: &Subject) -> Option<Arc<Entry>> {
        let key = subject.to_string();
        let read = read(&self.path(&key));
        let (entry, stamp) = read
            .and_then(|(text, stamp)| Some((Arc::new(self.parse(subject, &text)?), stamp)))
            .unzip();
        let mut kept = self.kept();
        match (&entry, stamp) {
            (Some(entry), Some(stamp)) => kept.put(key, stamp, entry.clone()),
            _ if kept.slots.get(&key).is_some_and(|slot| slot.entry.is_none()) => {
                kept.slots.remove(&key);
            }
            _ => {}
        }
        entry
    }

    /// Keeps an entry, on disk first. One that was issued before what is there is refused.
    pub fn keep(&self, entry: Entry) -> Result<Arc<Entry>, CacheError> {
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let _alone = self.alone()?;
        let subject = entry.subject().clone();
        if self.find(&subject).is_some_and(|there| entry.is_older_than(&there)) {
            return Err(CacheError::Older { subject });
        }
        let key = subject.to_string();
        let text = write(&entry);
        *writing = writing.saturating_add(1);
        let stamp = self
            .store(&key, &text, *writing)
            .map_err(|source| CacheError::Write { path: self.path(&key), source })?;
        let entry = Arc::new(entry);
        let gone = {
            let mut kept = self.kept();
            kept.put(key, stamp, entry.clone());
            kept.beyond(self.room)
        };
        for key in gone {
            let _ = fs::remove_file(self.path(&key));
        }
        Ok(entry)
    }

    /// Everything that holds, in the order of subjects.
    pub fn all(&self) -> Vec<Arc<Entry>> {
        let keys: Vec<String> = self.kept().slots.keys().cloned().collect();
        keys.iter().filter_map(|key| key.parse().ok()).filter_map(|s| self.find(&s)).collect()
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn roots(&self) -> &Arc<Roots> {
        &self.roots
    }

    /// Verifies bytes about a subject, with the issuer that is kept where none is built in.
    pub fn verify(
        &self,
        subject: Subject,
        body: Vec<u8>,
        fetched_at: Time,
    ) -> Result<Entry, super::Unfit> {
        let issuer = match subject.issuer() {
            Some(Subject::SnpIssuer { product, kind })
                if self.roots.need_no_issuer(product, kind) =>
            {
                None
            }
            Some(issuer) => self.find(&issuer),
            None => None,
        };
        let issuer = issuer.as_ref().map(|entry| entry.body());
        Entry::verify(subject, body, fetched_at, &self.roots, issuer)
    }

    fn parse(&self, subject: &Subject, text: &[u8]) -> Option<Entry> {
        let (sha256, rest) = text.split_at_checked(64)?;
        let json = rest.strip_prefix(b"\n")?;
        if hex::encode(crypto::sha256(json)).as_bytes() != sha256 {
            return None;
        }
        let wire: Wire = serde_json::from_slice(json).ok()?;
        let (named, body, fetched_at) = wire.parts()?;
        (named == *subject).then_some(())?;
        self.verify(named, body, fetched_at).ok()
    }

    fn store(&self, key: &str, text: &[u8], number: u64) -> io::Result<Stamp> {
        let own = std::process::id();
        let unfinished = self.folder.join(format!("{key}.{own}-{number}{UNFINISHED}"));
        write_whole(&self.path(key), &unfinished, text).map(|metadata| Stamp::of(&metadata))
    }

    /// Writers of all processes, one after the other, until this is dropped.
    pub(super) fn alone(&self) -> Result<File, CacheError> {
        let path = self.folder.join(LOCK);
        let locked = File::options().create(true).append(true).open(&path);
        locked
            .and_then(|file| file.lock().map(|()| file))
            .map_err(|source| CacheError::Write { path, source })
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}{SUFFIX}"))
    }

    /// Slots are put in whole, so a panic elsewhere spoils nothing.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn put(&mut self, key: String, stamp: Stamp, entry: Arc<Entry>) {
        self.uses = self.uses.saturating_add(1);
        let used = (self.uses, SystemTime::UNIX_EPOCH);
        self.slots.insert(key, Slot { used, stamp, entry: Some(entry) });
    }

    /// Forgets what was not used longest, until the rest has room. Says what.
    fn beyond(&mut self, room: Room) -> Vec<String> {
        let mut bytes: u64 = self.slots.values().map(|slot| slot.stamp.size).sum();
        let mut gone = Vec::new();
        while self.slots.len() > room.entries.max(1) || (bytes > room.bytes && self.slots.len() > 1)
        {
            let oldest = self.slots.iter().min_by_key(|(_, slot)| slot.used);
            let Some((key, size)) = oldest.map(|(key, slot)| (key.clone(), slot.stamp.size)) else {
                break;
            };
            bytes = bytes.saturating_sub(size);
            self.slots.remove(&key);
            gone.push(key);
        }
        gone
    }
}

/// An entry as files and bundles have it. The dates are for readers and are found anew.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wire {
    subject: String,
    sha256: String,
    fetched_at: Time,
    #[serde(rename = "valid_from")]
    _valid_from: Time,
    #[serde(rename = "valid_until")]
    _valid_until: Time,
    body: String,
}

impl Wire {
    /// Subject, body and time, if the body is the one of the hash.
    pub(super) fn parts(self) -> Option<(Subject, Vec<u8>, Time)> {
        if self.body.len() > MAX_BODY / 3 * 4 + 4 {
            return None;
        }
        let body = STANDARD.decode(&self.body).ok()?;
        let named = hex::encode(crypto::sha256(&body)) == self.sha256;
        named.then_some(())?;
        Some((self.subject.parse().ok()?, body, self.fetched_at))
    }
}

/// On disk whole, or not at all: beside it first, under a name of the caller's own.
pub(super) fn write_whole(path: &Path, unfinished: &Path, text: &[u8]) -> io::Result<Metadata> {
    let written = (|| {
        let mut file = File::create(unfinished)?;
        file.write_all(text)?;
        file.sync_all()?;
        let metadata = file.metadata()?;
        fs::rename(unfinished, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(metadata)
    })();
    if written.is_err() {
        let _ = fs::remove_file(unfinished);
    }
    written
}

fn write(entry: &Entry) -> Vec<u8> {
    let json: Value = entry.to_json();
    // Strings only: there is no number that readers could disagree on.
    let json = canonical::write(&json).unwrap_or_default();
    [hex::encode(crypto::sha256(&json)).as_bytes(), b"\n", &json].concat()
}

/// Nothing for what cannot be read, and for what is longer than any entry.
fn read(path: &Path) -> Option<(Vec<u8>, Stamp)> {
    let file = File::open(path).ok()?;
    let stamp = Stamp::of(&file.metadata().ok()?);
    let mut text = Vec::new();
    file.take(MAX_TEXT + 1).read_to_end(&mut text).ok()?;
    let whole = u64::try_from(text.len()).is_ok_and(|size| size <= MAX_TEXT);
    whole.then_some((text, stamp))
}

const SUFFIX: &str = ".endorsement";
const UNFINISHED: &str = ".unfinished";
const LOCK: &str = "lock";
/// Nobody writes one file for that long.
const LEFT_BEHIND: Duration = Duration::from_secs(3_600);
/// A body in base64 and a few hundred bytes about it.
const MAX_TEXT: u64 = 2 * 1024 * 1024;
/// Promises of docs/reference/limits.md.
const MAX_ENTRIES: usize = 16_384;
const MAX_BYTES: u64 = 256 * 1024 * 1024;
