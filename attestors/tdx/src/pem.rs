//! Certificates as PEM text, in the one form that Intel's tools write (RFC 7468, strict, §3).
//!
//! The text around a certificate is not signed. So it has no freedom here: nothing between the
//! certificates, lines of 64 characters, no stray bits, one kind of line end. At the very end the
//! last line end may be missing, and one NUL may stand (quotes carry a C string). Only collateral,
//! which comes from files that people join, may have empty lines around a certificate.

use assay_evidence::Certificate;
use assay_evidence::certificate::CertificateError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PemError {
    #[error("line {0} of the PEM text is not in its strict form")]
    Line(usize),
    #[error("more than {max} certificates")]
    TooMany { max: usize },
    #[error("certificate {at} cannot be read")]
    Certificate { at: usize, fault: CertificateError },
}

/// Where the text comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Quote,
    Collateral,
}

pub(crate) fn certificates(text: &[u8], form: Form) -> Result<Vec<Certificate>, PemError> {
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    let line_end: &[u8] = match text.iter().position(|&byte| byte == b'\n') {
        Some(at) if at > 0 && text.get(at - 1) == Some(&b'\r') => b"\r\n",
        _ => b"\n",
    };
    let mut lines = Lines { rest: text, line_end, number: 0 };
    let mut all = Vec::new();
    loop {
        if form == Form::Collateral {
            lines.skip_empty();
        }
        if lines.rest.is_empty() {
            return Ok(all);
        }
        if all.len() == MAX_CERTIFICATES {
            return Err(PemError::TooMany { max: MAX_CERTIFICATES });
        }
        let der = lines.certificate()?;
        let parsed = Certificate::parse(&der)
            .map_err(|fault| PemError::Certificate { at: all.len(), fault })?;
        all.push(parsed);
    }
}

struct Lines<'a> {
    rest: &'a [u8],
    line_end: &'static [u8],
    number: usize,
}

impl<'a> Lines<'a> {
    fn certificate(&mut self) -> Result<Vec<u8>, PemError> {
        if self.line()? != BEGIN {
            return Err(PemError::Line(self.number));
        }
        let mut base64 = Vec::new();
        let mut last = false;
        loop {
            let line = self.line()?;
            if line == END {
                break;
            }
            // Full lines, and only the last one may be shorter.
            let full = line.len() == WIDTH;
            if last || line.is_empty() || line.len() > WIDTH || base64.len() > MAX_BASE64 {
                return Err(PemError::Line(self.number));
            }
            last = !full;
            base64.extend_from_slice(line);
        }
        STANDARD.decode(base64).map_err(|_| PemError::Line(self.number))
    }

    fn skip_empty(&mut self) {
        while let Some(rest) = self.rest.strip_prefix(self.line_end) {
            self.rest = rest;
            self.number += 1;
        }
    }

    fn line(&mut self) -> Result<&'a [u8], PemError> {
        self.number += 1;
        let at = self.rest.windows(self.line_end.len()).position(|found| found == self.line_end);
        let (line, rest) = match at {
            Some(at) => (
                self.rest.get(..at).unwrap_or_default(),
                self.rest.get(at + self.line_end.len()..).unwrap_or_default(),
            ),
            // Only the last line of all has no end.
            None if self.rest == END => (self.rest, &[][..]),
            None => return Err(PemError::Line(self.number)),
        };
        self.rest = rest;
        Ok(line)
    }
}

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const END: &[u8] = b"-----END CERTIFICATE-----";
const WIDTH: usize = 64;
/// Text of the largest certificate.
const MAX_BASE64: usize = assay_evidence::certificate::MAX_CERTIFICATE / 3 * 4;
/// A PCK certificate, its CA, the root, and one to spare for a fault that can be named.
const MAX_CERTIFICATES: usize = 4;
