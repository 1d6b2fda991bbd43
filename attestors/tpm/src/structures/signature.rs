//! TPMT_SIGNATURE: a signature as a TPM writes it, borrowed from the bytes it came in.

use assay_evidence::Curve;
use assay_evidence::HashAlgorithm;
use assay_evidence::Reader;

use crate::error::Error;

/// Part 2, §11.3.4. The scheme named here is the sender's word; the verifier uses the key's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature<'a> {
    pub scheme: SigningScheme,
    value: Value<'a>,
}

/// A signing scheme with its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningScheme {
    Rsassa(HashAlgorithm),
    Rsapss(HashAlgorithm),
    Ecdsa(HashAlgorithm),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value<'a> {
    Rsa(&'a [u8]),
    Ecc { r: &'a [u8], s: &'a [u8] },
}

impl SigningScheme {
    pub const fn hash(self) -> HashAlgorithm {
        match self {
            SigningScheme::Rsassa(hash)
            | SigningScheme::Rsapss(hash)
            | SigningScheme::Ecdsa(hash) => hash,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            SigningScheme::Rsassa(_) => "rsassa",
            SigningScheme::Rsapss(_) => "rsapss",
            SigningScheme::Ecdsa(_) => "ecdsa",
        }
    }
}

impl std::fmt::Display for SigningScheme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.name(), self.hash())
    }
}

impl<'a> Signature<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Signature<'a>, Error> {
        let mut reader = Reader::new(bytes);
        let algorithm = reader.u16()?;
        if !matches!(algorithm, RSASSA | RSAPSS | ECDSA) {
            return Err(Error::UnknownAlgorithm { place: "signature", id: algorithm });
        }
        let id = reader.u16()?;
        let hash = HashAlgorithm::from_tpm_id(id)
            .ok_or(Error::UnknownAlgorithm { place: "signature", id })?;
        let signature = match algorithm {
            RSASSA => Signature {
                scheme: SigningScheme::Rsassa(hash),
                value: Value::Rsa(reader.sized16(MAX_RSA)?),
            },
            RSAPSS => Signature {
                scheme: SigningScheme::Rsapss(hash),
                value: Value::Rsa(reader.sized16(MAX_RSA)?),
            },
            _ => Signature {
                scheme: SigningScheme::Ecdsa(hash),
                value: Value::Ecc { r: reader.sized16(MAX_ECC)?, s: reader.sized16(MAX_ECC)? },
            },
        };
        reader.finish()?;
        Ok(signature)
    }

    pub(crate) fn rsa(&self) -> Option<&'a [u8]> {
        match self.value {
            Value::Rsa(bytes) => Some(bytes),
            Value::Ecc { .. } => None,
        }
    }

    /// r ‖ s at the width of the curve's field, written into `place`. A TPM may send r or s
    /// shorter than the field; what is wider than the field, even by zeros, is no number of it.
    pub(crate) fn ecc_fixed<'p>(
        &self,
        curve: Curve,
        place: &'p mut [u8; 2 * MAX_ECC],
    ) -> Option<&'p [u8]> {
        let Value::Ecc { r, s } = self.value else {
            return None;
        };
        let width = curve.field_size();
        let fixed = place.get_mut(..2 * width)?;
        let (left, right) = fixed.split_at_mut(width);
        for (number, half) in [(r, left), (s, right)] {
            let start = width.checked_sub(number.len())?;
            half.get_mut(start..)?.copy_from_slice(number);
        }
        Some(fixed)
    }
}

/// TPM_ALG_ID, TCG Algorithm Registry rev. 1.34, table 3.
pub(crate) const RSASSA: u16 = 0x0014;
pub(crate) const RSAPSS: u16 = 0x0016;
pub(crate) const ECDSA: u16 = 0x0018;
/// RSA-4096, the largest key of a TPM.
const MAX_RSA: usize = 512;
/// A coordinate of P-521, the largest curve of a TPM.
pub(crate) const MAX_ECC: usize = 66;
