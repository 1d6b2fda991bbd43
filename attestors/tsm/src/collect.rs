//! Asking for a report by the files of `/sys/kernel/config/tsm/report/<name>/`.
//!
//! The kernel counts every write in `generation` (Documentation/ABI/testing/configfs-tsm). This
//! client makes a folder of its own, counts its own writes, and believes what it reads only if the
//! kernel counted the same before and after: a report that somebody else's write slipped into is
//! thrown away and asked for again. All waiting is bounded.
//!
//! Blocking calls; there is no fallback to a device's ioctl, which would need unsafe code.

use std::io::Read as _;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

mod error;

pub use error::Error;

/// The folder in which reports are asked for.
#[derive(Clone, Debug)]
pub struct Tsm {
    folder: PathBuf,
}

/// What a report is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Goes into the report whole: 1 to 64 bytes.
    pub report_data: &'a [u8],
    /// The VMPL to ask at; nothing takes the kernel's own.
    pub privilege_level: Option<u8>,
    /// A service of an SVSM that the report shall vouch for.
    pub service: Option<Service<'a>>,
}

/// A service below the guest, such as a virtual TPM (kernel 6.10).
#[derive(Clone, Copy, Debug)]
pub struct Service<'a> {
    /// `svsm`
    pub provider: &'a str,
    pub guid: &'a str,
    pub manifest_version: Option<u32>,
}

/// What came back, of one generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collected {
    pub provider: Provider,
    /// SNP report or TDX quote, perhaps padded by the kernel.
    pub report: Vec<u8>,
    /// The host's certificate table, of SNP; nothing where the host has none.
    pub auxiliary: Option<Vec<u8>>,
    /// What the report data of a service binds.
    pub manifest: Option<Vec<u8>>,
}

/// Which driver made the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provider {
    SevGuest,
    TdxGuest,
    Other(String),
}

impl Tsm {
    /// Where Linux mounts it.
    pub fn system() -> Tsm {
        Tsm::at("/sys/kernel/config/tsm/report")
    }

    pub fn at(folder: impl Into<PathBuf>) -> Tsm {
        Tsm { folder: folder.into() }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether the kernel offers it here at all.
    pub fn is_offered(&self) -> bool {
        self.folder.is_dir()
    }

    /// Which driver makes the reports here; asks for none.
    pub fn provider(&self) -> Result<Provider, Error> {
        if !self.is_offered() {
            return Err(Error::NotOffered { folder: self.folder.clone() });
        }
        let entry = Entry::new(&self.folder)?;
        entry.generation_when(|_| true)?;
        Ok(Provider::named(&entry.text("provider")?))
    }

    /// Asks until a report comes that nobody else had a hand in, a few times at most.
    pub fn collect(&self, request: &Request<'_>) -> Result<Collected, Error> {
        if request.report_data.is_empty() || request.report_data.len() > MAX_REPORT_DATA {
            return Err(Error::ReportData { found: request.report_data.len() });
        }
        if !self.is_offered() {
            return Err(Error::NotOffered { folder: self.folder.clone() });
        }
        let mut last = None;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                std::thread::sleep(PAUSE * 2_u32.saturating_pow(attempt));
            }
            match Entry::new(&self.folder)?.ask(request) {
                Err(error) if error.is_passing() => last = Some(error),
                done => return done,
            }
        }
        Err(last.unwrap_or(Error::Interfered { found: 0, expected: 0 }))
    }
}

/// A folder of this client alone; the kernel fills it when it is made.
struct Entry {
    folder: PathBuf,
    written: u64,
}

impl Entry {
    fn new(parent: &Path) -> Result<Entry, Error> {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let folder = parent.join(format!("assay-{}-{number}", std::process::id()));
        std::fs::create_dir(&folder)
            .map_err(|source| Error::Folder { folder: folder.clone(), source })?;
        Ok(Entry { folder, written: 0 })
    }

    fn ask(mut self, request: &Request<'_>) -> Result<Collected, Error> {
        let before = self.generation_when(|_| true)?;
        if let Some(level) = request.privilege_level {
            let floor = self.text("privlevel_floor")?.parse().unwrap_or(0);
            if level < floor {
                return Err(Error::PrivilegeLevel { found: level, floor });
            }
            self.write("privlevel", level.to_string().as_bytes())?;
        }
        if let Some(service) = request.service {
            self.write("service_provider", service.provider.as_bytes())?;
            self.write("service_guid", service.guid.as_bytes())?;
            if let Some(version) = service.manifest_version {
                self.write("service_manifest_version", version.to_string().as_bytes())?;
            }
        }
        self.write("inblob", request.report_data)?;
        let expected = before.saturating_add(self.written);
        self.accept_generation(self.generation_when(|found| found >= expected)?, expected)?;

        let provider = Provider::named(&self.text("provider")?);
        let report = self.read("outblob", MAX_REPORT)?;
        let auxiliary = self.read_optional("auxblob", MAX_AUXILIARY)?;
        let manifest = match request.service {
            Some(_) => Some(self.read("manifestblob", MAX_AUXILIARY)?),
            None => None,
        };
        self.accept_generation(self.generation()?, expected)?;
        if report.is_empty() {
            return Err(Error::Empty);
        }
        Ok(Collected { provider, report, auxiliary, manifest })
    }

    fn accept_generation(&self, found: u64, expected: u64) -> Result<(), Error> {
        if found == expected {
            return Ok(());
        }
        Err(Error::Interfered { found, expected })
    }

    fn generation(&self) -> Result<u64, Error> {
        let text = self.text("generation")?;
        text.parse().map_err(|_| Error::Generation { found: text })
    }

    /// The kernel fills the folder and counts at once; whatever else stands behind gets a moment.
    fn generation_when(&self, is_reached: impl Fn(u64) -> bool) -> Result<u64, Error> {
        let mut found = self.generation();
        for _ in 0..POLLS {
            match &found {
                Ok(number) if is_reached(*number) => break,
                Ok(_) => {}
                Err(error) if error.is_absent() => {}
                Err(_) => break,
            }
            std::thread::sleep(PAUSE);
            found = self.generation();
        }
        found
    }

    fn write(&mut self, name: &'static str, bytes: &[u8]) -> Result<(), Error> {
        let failed = |source| Error::Write { name, source };
        // One call, as the kernel takes each write for a value of its own.
        std::fs::OpenOptions::new()
            .write(true)
            .open(self.folder.join(name))
            .and_then(|mut file| file.write_all(bytes))
            .map_err(failed)?;
        self.written = self.written.saturating_add(1);
        Ok(())
    }

    fn text(&self, name: &'static str) -> Result<String, Error> {
        let bytes = self.read(name, MAX_TEXT)?;
        Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    }

    fn read_optional(&self, name: &'static str, max: usize) -> Result<Option<Vec<u8>>, Error> {
        match self.read(name, max) {
            Ok(bytes) if bytes.is_empty() => Ok(None),
            Err(error) if error.is_absent() => Ok(None),
            found => found.map(Some),
        }
    }

    fn read(&self, name: &'static str, max: usize) -> Result<Vec<u8>, Error> {
        let failed = |source| Error::Read { name, source };
        let file = std::fs::File::open(self.folder.join(name)).map_err(failed)?;
        let mut bytes = Vec::new();
        let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
        file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() > max {
            return Err(Error::TooLarge { name, max });
        }
        Ok(bytes)
    }
}

impl Drop for Entry {
    /// The kernel removes the files with the folder.
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.folder);
    }
}

impl Provider {
    fn named(text: &str) -> Provider {
        match text {
            "sev_guest" => Provider::SevGuest,
            "tdx_guest" => Provider::TdxGuest,
            other => Provider::Other(other.to_owned()),
        }
    }
}

static COUNTER: AtomicU64 = AtomicU64::new(0);
/// `inblob` takes no more.
const MAX_REPORT_DATA: usize = 64;
/// Promises of docs/reference/limits.md; a TDX quote on some hosts is padded to 8000 bytes.
const MAX_REPORT: usize = 32 * 1024;
const MAX_AUXILIARY: usize = 64 * 1024;
const MAX_TEXT: usize = 256;
/// Hypervisors limit how often a guest may ask.
const ATTEMPTS: u32 = 6;
const PAUSE: Duration = Duration::from_millis(10);
const POLLS: usize = 300;
