//! A certificate as an NV index holds it: perhaps with a header before it, perhaps with padding.

use assay_evidence::Certificate;
use assay_evidence::certificate::CertificateError;

use crate::error::Error;

/// The one certificate in what was read from an index.
///
/// Before it may stand the TCG header `10 01 00 len16`, or its long form with `10 02` behind,
/// which the length then counts; behind it only 00s or only FFs.
pub fn certificate_in_nv(bytes: &[u8]) -> Result<Certificate, Error> {
    let body = match bytes {
        [0x10, 0x01, 0x00, _, _, 0x10, 0x02, rest @ ..] => rest,
        [0x10, 0x01, 0x00, _, _, rest @ ..] => rest,
        _ => bytes,
    };
    let (certificate, rest) = Certificate::parse_prefix(body).map_err(Error::EkCertificate)?;
    let padding = rest.iter().all(|&byte| byte == 0x00) || rest.iter().all(|&byte| byte == 0xff);
    if !padding {
        return Err(Error::EkCertificate(CertificateError::Trailing(rest.len())));
    }
    Ok(certificate)
}
