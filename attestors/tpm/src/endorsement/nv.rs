//! A certificate as an NV index holds it: perhaps with a header before it, perhaps with padding.
//!
//! No signature covers what stands around the certificate, so nothing there may be anybody's
//! choice: the header says the one length that is right, and padding is of one kind.

use assay_evidence::Certificate;
use assay_evidence::Reader;
use assay_evidence::certificate::CertificateError;

use crate::error::Error;

/// The one certificate in a file: PEM, or what was read from an index.
pub fn certificate_in_file(bytes: &[u8]) -> Result<Certificate, Error> {
    // Text may stand before the first line of PEM; a certificate in an index never begins so.
    let is_binary = matches!(bytes, [0x30, ..] | [0x10, 0x01, ..]);
    if is_binary || !bytes.windows(PEM_BEGIN.len()).any(|window| window == PEM_BEGIN) {
        return certificate_in_nv(bytes);
    }
    let mut all = Certificate::parse_set(bytes).map_err(Error::EkCertificate)?;
    match (all.pop(), all.is_empty()) {
        (Some(certificate), true) => Ok(certificate),
        _ => Err(Error::EkCertificate(CertificateError::Malformed)),
    }
}

/// The one certificate in what was read from an index.
///
/// Before it may stand the TCG header `10 01 00 len16`, or its long form with `10 02` behind, which
/// the length then counts; behind it only 00s or only FFs, which the length may count too.
pub fn certificate_in_nv(bytes: &[u8]) -> Result<Certificate, Error> {
    let (header, body) = Header::split(bytes);
    let (certificate, rest) = Certificate::parse_prefix(body).map_err(Error::EkCertificate)?;
    let padding = rest.iter().all(|&byte| byte == 0x00) || rest.iter().all(|&byte| byte == 0xff);
    if !padding {
        return Err(Error::EkCertificate(CertificateError::Trailing(rest.len())));
    }
    let right = |length| length == certificate.der().len() || length == body.len();
    if header.is_some_and(|header| !header.counted().is_some_and(right)) {
        return Err(Error::EkCertificate(CertificateError::Malformed));
    }
    Ok(certificate)
}

/// TCG PC Client Specific Implementation Specification 1.21, §7.3: TCG_PCCLIENT_STORED_CERT (tag
/// 1001, type 00, size) and TCG_FULL_CERT (tag 1002).
#[derive(Clone, Copy)]
struct Header {
    length: u16,
    long: bool,
}

impl Header {
    fn split(bytes: &[u8]) -> (Option<Header>, &[u8]) {
        let mut reader = Reader::new(bytes);
        let (Ok([0x10, 0x01, 0x00]), Ok(length)) = (reader.array(), reader.u16()) else {
            return (None, bytes);
        };
        match reader.rest() {
            [0x10, 0x02, body @ ..] => (Some(Header { length, long: true }), body),
            body => (Some(Header { length, long: false }), body),
        }
    }

    /// How many bytes it says that the certificate has.
    fn counted(self) -> Option<usize> {
        usize::from(self.length).checked_sub(if self.long { 2 } else { 0 })
    }
}

const PEM_BEGIN: &[u8] = b"-----BEGIN ";
