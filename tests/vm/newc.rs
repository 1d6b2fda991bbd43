//! Writes the archive that a kernel unpacks as its first root ("newc", Documentation/
//! driver-api/early-userspace/buffer-format.rst of Linux). Reproducible: no clock, no user ids.

use std::collections::BTreeSet;

/// An archive being written. Folders come by themselves.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    folders: BTreeSet<String>,
    count: u32,
}

/// Kind and permissions, as `st_mode` has them.
const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_644;
const PROGRAM: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_600;

impl Archive {
    /// A root with the console that the kernel opens for its first process.
    pub fn root() -> Self {
        let mut archive = Self::default();
        for folder in ["proc", "sys", "dev", "tmp", "run", "bin"] {
            archive.folder(folder);
        }
        archive.entry("dev/console", CHARACTER_DEVICE, (5, 1), &[]);
        archive
    }

    pub fn file(&mut self, path: &str, bytes: &[u8]) {
        self.parents(path);
        self.entry(path.trim_start_matches('/'), FILE, (0, 0), bytes);
    }

    pub fn program(&mut self, path: &str, bytes: &[u8]) {
        self.parents(path);
        self.entry(path.trim_start_matches('/'), PROGRAM, (0, 0), bytes);
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self.bytes
    }

    fn folder(&mut self, path: &str) {
        if self.folders.insert(path.to_owned()) {
            self.entry(path, FOLDER, (0, 0), &[]);
        }
    }

    fn parents(&mut self, path: &str) {
        let path = path.trim_start_matches('/');
        for (at, _) in path.match_indices('/') {
            self.folder(&path[..at]);
        }
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), contents: &[u8]) {
        self.count += 1;
        let links = if mode == FOLDER { 2 } else { 1 };
        let size = u32::try_from(contents.len()).unwrap();
        let name_size = u32::try_from(name.len() + 1).unwrap();
        let fields =
            [self.count, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
