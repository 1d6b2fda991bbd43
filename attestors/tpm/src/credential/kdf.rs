//! KDFa and KDFe, the TPM's key derivations (Part 1, §11.4.10.2 and §11.4.10.3).
//!
//! Both write their label with its terminating NUL.

use assay_evidence::HashAlgorithm;
use assay_evidence::crypto;
use assay_evidence::crypto::EncryptError;
use zeroize::Zeroizing;

use crate::error::Error;

/// SP 800-108 in counter mode over HMAC; the second context is always empty here.
pub(super) fn a(
    hash: HashAlgorithm,
    key: &[u8],
    label: &str,
    context: &[u8],
    bits: usize,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let wanted = bit_count(bits)?;
    expand(hash, bits, |counter| {
        crypto::hmac(hash, key, &[counter, label.as_bytes(), &[0], context, &wanted])
    })
}

/// SP 800-56A concatenation over the shared x-coordinate and those of both parties.
pub(super) fn e(
    hash: HashAlgorithm,
    shared: &[u8],
    label: &str,
    party_u: &[u8],
    party_v: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    expand(hash, 8 * hash.size(), |counter| {
        crypto::hash(hash, &[counter, shared, label.as_bytes(), &[0], party_u, party_v])
    })
}

fn expand(
    hash: HashAlgorithm,
    bits: usize,
    block: impl Fn(&[u8; 4]) -> Option<assay_evidence::Digest>,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let size = bits.div_ceil(8);
    let mut out = Zeroizing::new(Vec::with_capacity(size + hash.size()));
    let mut counter = 0u32;
    while out.len() < size {
        counter = counter.checked_add(1).ok_or(EncryptError::Unsupported)?;
        let digest = block(&counter.to_be_bytes()).ok_or(EncryptError::Unsupported)?;
        out.extend_from_slice(digest.as_bytes());
    }
    out.truncate(size);
    Ok(out)
}

fn bit_count(bits: usize) -> Result<[u8; 4], Error> {
    let bits = u32::try_from(bits).map_err(|_| EncryptError::Unsupported)?;
    Ok(bits.to_be_bytes())
}
