//! What the offline commands read: files, folders of certificates, numbers in hex, the time.
//!
//! Each input is bounded, standard input can be one of them, and what cannot be read is a
//! [`Failure`] (exit 2). Whether what was read is any good is not asked here.

use std::cell::Cell;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use assay_evidence::Certificate;
use assay_evidence::Finding;
use assay_evidence::Reason;
use assay_evidence::Time;
use assay_evidence::crl::RevocationList;
use assay_evidence::crypto;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::cli::output::Failure;
use crate::cli::verdict::Verdict;
use crate::clock::Clock;

/// The files of one command; remembers whether standard input was one of them.
#[derive(Default)]
pub struct Inputs {
    stdin_taken: Cell<bool>,
}

impl Inputs {
    /// The whole file, at most 1 MiB; `-` is standard input, once.
    pub fn read(&self, path: &Path) -> Result<Vec<u8>, Failure> {
        self.read_up_to(path, MAX_FILE)
    }

    pub fn read_optional(&self, path: Option<&PathBuf>) -> Result<Option<Vec<u8>>, Failure> {
        path.map(|path| self.read(path)).transpose()
    }

    /// The whole file, at most `max` bytes.
    pub fn read_up_to(&self, path: &Path, max: u64) -> Result<Vec<u8>, Failure> {
        let failed = |error: std::io::Error| {
            Failure::new(format!("cannot read `{}`: {error}", path.display()))
        };
        let mut bytes = Vec::new();
        let source: Box<dyn Read> = if path == Path::new("-") {
            if self.stdin_taken.replace(true) {
                return Err(Failure::new("`-` is given twice, and standard input is there once"));
            }
            Box::new(std::io::stdin())
        } else {
            Box::new(fs::File::open(path).map_err(failed)?)
        };
        source.take(max + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > max {
            // Read and refused: evidence is never that long.
            let fault = Finding::new(
                Reason::EvidenceTooLarge,
                path.display().to_string(),
                format!("more than {max} bytes"),
                format!("at most {max} bytes"),
                "docs/reference/limits.md",
            );
            let answer = Verdict::refused(vec![fault], crypto::sha256(&bytes)).answer();
            let message = format!("`{}` is longer than {max} bytes", path.display());
            return Err(Failure { answer: Some(Box::new(answer)), ..Failure::new(message) });
        }
        Ok(bytes)
    }

    /// Every certificate of a file, or of the files of a folder. What else a folder holds is passed
    /// over: an anchor that is not found makes a chain fail, never hold.
    pub fn certificates(&self, path: &Path) -> Result<Vec<Certificate>, Failure> {
        if !path.is_dir() {
            return self.certificates_of(path);
        }
        let entries = fs::read_dir(path)
            .map_err(|error| Failure::new(format!("cannot read `{}`: {error}", path.display())))?;
        let mut files: Vec<PathBuf> =
            entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
        files.sort();
        let mut found = Vec::new();
        for file in files {
            found.extend(self.certificates_of(&file).unwrap_or_default());
        }
        Ok(found)
    }

    fn certificates_of(&self, file: &Path) -> Result<Vec<Certificate>, Failure> {
        Certificate::parse_set(&self.read(file)?).map_err(|error| {
            Failure::new(format!("`{}` holds no certificate: {error}", file.display()))
        })
    }

    /// Trust anchors of one role; none at all is a mistake of the caller.
    pub fn anchors(&self, option: &str, path: &Path) -> Result<Vec<Certificate>, Failure> {
        let found = self.certificates(path)?;
        if found.is_empty() {
            return Err(Failure::new(format!("{option}: no certificate in `{}`", path.display())));
        }
        Ok(found)
    }

    /// `--danger-extra-roots`: none where it is left out.
    pub fn extra_roots(&self, path: Option<&PathBuf>) -> Result<Vec<Certificate>, Failure> {
        path.map_or(Ok(Vec::new()), |path| self.anchors("--danger-extra-roots", path))
    }

    /// Certificates that help to find a path and are never anchors.
    pub fn intermediates(&self, path: Option<&PathBuf>) -> Result<Vec<Certificate>, Failure> {
        path.map_or(Ok(Vec::new()), |path| self.certificates(path))
    }
}

/// The time to judge at: the one given, else the machine's.
pub fn at(given: Option<Time>) -> Time {
    given.unwrap_or_else(|| Clock::machine().now())
}

/// An even number of hex digits, either case, 1 to 64 bytes.
pub fn nonce(text: &str) -> Result<Vec<u8>, Failure> {
    bytes("--nonce", text, MAX_NONCE)
}

/// 1 to `max` bytes in hex.
pub fn bytes(option: &str, text: &str, max: usize) -> Result<Vec<u8>, Failure> {
    let bytes = hex::decode(text).ok().filter(|bytes| (1..=max).contains(&bytes.len()));
    bytes
        .ok_or_else(|| Failure::new(format!("{option} is 1 to {max} bytes in hex, found `{text}`")))
}

/// Exactly 128 hex digits.
pub fn report_data(text: Option<&str>) -> Result<Option<[u8; 64]>, Failure> {
    let Some(text) = text else { return Ok(None) };
    let bytes = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    let wrong = || Failure::new(format!("--report-data is 128 hex digits, found `{text}`"));
    bytes.map(Some).ok_or_else(wrong)
}

/// DER, also where the file is PEM.
pub fn der_of(bytes: &[u8]) -> Vec<u8> {
    pem_body(bytes, "CERTIFICATE").unwrap_or_else(|| bytes.to_vec())
}

/// The list of a file, DER or PEM; nothing where no file was given.
pub fn revocation_lists(bytes: Option<&[u8]>) -> Result<Vec<RevocationList>, Finding> {
    let Some(bytes) = bytes else { return Ok(Vec::new()) };
    RevocationList::parse(bytes).map(|list| vec![list]).map_err(|error| {
        let expected = "one X.509 certificate revocation list";
        Finding::new(error.reason(), "crl", error.to_string(), expected, "RFC 5280 §5")
    })
}

/// The first PEM block of that label.
pub fn pem_body(bytes: &[u8], label: &str) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    STANDARD.decode(body.split_whitespace().collect::<String>()).ok()
}

const MAX_FILE: u64 = 1_024 * 1_024;
const MAX_NONCE: usize = 64;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_nonce_is_one_to_sixty_four_bytes_of_hex() {
        assert_eq!(nonce("00FF").unwrap(), [0, 0xff]);
        for text in ["", "0", "0x00", "zz", &"00".repeat(65)] {
            assert!(nonce(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_folder_without_certificates_gives_no_anchor() {
        let folder = tempfile::tempdir().unwrap();
        let told = Inputs::default().anchors("--ek-roots", folder.path()).unwrap_err();
        assert!(told.message.starts_with("--ek-roots"), "{}", told.message);
    }
}
