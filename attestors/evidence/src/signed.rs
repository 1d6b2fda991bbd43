//! What a CA signs, certificate or revocation list: its bytes, the algorithm said twice, and a
//! signature.
//!
//! The outermost structure is read strictly, for what no signature covers must leave no choice
//! (RFC 5280 §4.1.1): the lengths of the whole and of the signature are said in the fewest bytes,
//! the algorithm outside is the one inside, byte for byte, nothing stands behind the signature, and
//! its bit string has no unused bits. So nobody makes a second encoding of what was signed. What is
//! verified is always the bytes as they came, never a re-encoding.
//!
//! SHA-1 is read and, where a caller asks for it by name, verified; it is never taken in silence.

use crate::crypto;
use crate::crypto::SignatureError;
use crate::crypto::SignatureScheme;
use crate::der;
use crate::der::BIT_STRING;
use crate::der::Element;
use crate::der::NULL;
use crate::der::OBJECT_IDENTIFIER;
use crate::der::SEQUENCE;
use crate::digest::HashAlgorithm;
use crate::key::PublicKey;

/// The signature algorithm of a certificate or a revocation list, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateSignature {
    Known(SignatureScheme),
    Md5,
}

/// What a signature that verifies is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Strength {
    Sound,
    /// Over SHA-1: to be said to whoever relies on it.
    Sha1,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignedError {
    #[error("the signature does not verify by the issuer's key")]
    Invalid,
    #[error("signed over {hash}")]
    Weak { hash: &'static str },
    #[error("signed by an algorithm that is not supported")]
    Algorithm,
}

/// SIGNED{…}, X.509 §7: the signed bytes, the algorithm, the signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    pub tbs: Vec<u8>,
    pub algorithm: Option<CertificateSignature>,
    pub signature: Vec<u8>,
}

impl Signed {
    /// `inner` finds the algorithm within the fields of the signed bytes.
    pub fn parse(mut der: &[u8], inner: fn(&[u8]) -> Option<Element<'_>>) -> Option<Signed> {
        let whole = der::take(&mut der).filter(|whole| whole.tag == SEQUENCE)?;
        let mut rest = whole.contents;
        let tbs = der::take(&mut rest).filter(|tbs| tbs.tag == SEQUENCE)?;
        let algorithm = der::take(&mut rest).filter(|algorithm| algorithm.tag == SEQUENCE)?;
        let bits = der::take(&mut rest).filter(|bits| bits.tag == BIT_STRING)?;
        let (&unused_bits, signature) = bits.contents.split_first()?;
        let same = inner(tbs.contents)?.whole == algorithm.whole;
        let one_way = [&whole, &bits].iter().all(|element| element.is_shortest());
        let nothing_behind = der.is_empty() && rest.is_empty();
        (same && one_way && nothing_behind && unused_bits == 0).then(|| Signed {
            tbs: tbs.whole.to_vec(),
            algorithm: scheme(algorithm.contents),
            signature: signature.to_vec(),
        })
    }

    /// By a hash of today; a signature over SHA-1 or MD5 is refused whether it verifies or not.
    pub fn verify(&self, issuer: &PublicKey) -> Result<(), SignedError> {
        match self.verify_also_sha1(issuer)? {
            Strength::Sound => Ok(()),
            Strength::Sha1 => Err(SignedError::Weak { hash: "sha1" }),
        }
    }

    /// SHA-1 too, which the answer then says.
    pub fn verify_also_sha1(&self, issuer: &PublicKey) -> Result<Strength, SignedError> {
        self.verify_with(issuer, crypto::verify_signature)
    }

    /// By a pinned root, whose size nobody judges.
    pub fn verify_of_root(&self, root: &PublicKey) -> Result<Strength, SignedError> {
        self.verify_with(root, crypto::verify_signature_by_root)
    }

    fn verify_with(&self, issuer: &PublicKey, verify: Verify) -> Result<Strength, SignedError> {
        let scheme = match self.algorithm {
            Some(CertificateSignature::Known(scheme)) => scheme,
            Some(CertificateSignature::Md5) => return Err(SignedError::Weak { hash: "md5" }),
            None => return Err(SignedError::Algorithm),
        };
        verify(scheme, issuer, &self.tbs, &self.signature).map_err(|error| match error {
            SignatureError::Unsupported => SignedError::Algorithm,
            _ => SignedError::Invalid,
        })?;
        Ok(match scheme.hash() {
            HashAlgorithm::Sha1 => Strength::Sha1,
            _ => Strength::Sound,
        })
    }
}

type Verify = fn(SignatureScheme, &PublicKey, &[u8], &[u8]) -> Result<(), SignatureError>;

/// The contents of an AlgorithmIdentifier as a scheme. Parameters count for RSASSA-PSS alone: they
/// are signed, and the other algorithms have none to choose (RFC 3279 §2.2, RFC 5758 §3).
fn scheme(identifier: &[u8]) -> Option<CertificateSignature> {
    use HashAlgorithm::Sha1;
    use HashAlgorithm::Sha256;
    use HashAlgorithm::Sha384;
    use HashAlgorithm::Sha512;
    use SignatureScheme::EcdsaDer;
    use SignatureScheme::RsaPkcs1;
    let mut fields = identifier;
    let oid = der::take(&mut fields).filter(|oid| oid.tag == OBJECT_IDENTIFIER)?.contents;
    let known = |scheme| Some(CertificateSignature::Known(scheme));
    if let Some(last) = oid.strip_prefix(PKCS1) {
        return match last {
            [4] => Some(CertificateSignature::Md5),
            [5] => known(RsaPkcs1(Sha1)),
            [10] => known(SignatureScheme::RsaPss(pss_hash(fields)?)),
            [11] => known(RsaPkcs1(Sha256)),
            [12] => known(RsaPkcs1(Sha384)),
            [13] => known(RsaPkcs1(Sha512)),
            _ => None,
        };
    }
    match oid.strip_prefix(ANSI_X962_SIGNATURES)? {
        [1] => known(EcdsaDer(Sha1)),
        [3, 2] => known(EcdsaDer(Sha256)),
        [3, 3] => known(EcdsaDer(Sha384)),
        [3, 4] => known(EcdsaDer(Sha512)),
        _ => None,
    }
}

/// RSASSA-PSS-params (RFC 8017 A.2.3), of the one kind that is verified: hash, mask and salt
/// length are all said, the mask is MGF1 over the same hash, the salt is as long as the hash, the
/// trailer is 1. The defaults all mean SHA-1 and so are refused.
fn pss_hash(mut parameters: &[u8]) -> Option<HashAlgorithm> {
    let whole = der::take(&mut parameters).filter(|whole| whole.tag == SEQUENCE)?;
    let mut fields = whole.contents;
    let hash = hash_algorithm(tagged(&mut fields, 0xa0)?)?;
    let mut mask = der::sequence(tagged(&mut fields, 0xa1)?)?;
    let mask_oid = der::take(&mut mask)?;
    let same = mask_oid.contents.strip_prefix(PKCS1) == Some(&[8])
        && mask_oid.tag == OBJECT_IDENTIFIER
        && hash_algorithm(mask) == Some(hash);
    let salt = der::small_integer(tagged(&mut fields, 0xa2)?)?;
    let trailer = match fields {
        [] => 1,
        _ => der::small_integer(tagged(&mut fields, 0xa3)?)?,
    };
    let rest = [fields, parameters].iter().all(|rest| rest.is_empty());
    (same && usize::from(salt) == hash.size() && trailer == 1 && rest).then_some(hash)
}

fn tagged<'a>(fields: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    der::take(fields).filter(|field| field.tag == tag).map(|field| field.contents)
}

/// One AlgorithmIdentifier of the SHA-2 family, its parameters NULL or absent (RFC 4055 §2.1).
fn hash_algorithm(identifier: &[u8]) -> Option<HashAlgorithm> {
    let mut fields = der::sequence(identifier)?;
    let oid = der::take(&mut fields).filter(|oid| oid.tag == OBJECT_IDENTIFIER)?;
    let plain = matches!(fields, [] | [NULL, 0]);
    match oid.contents.strip_prefix(NIST_HASHES).filter(|_| plain)? {
        [1] => Some(HashAlgorithm::Sha256),
        [2] => Some(HashAlgorithm::Sha384),
        [3] => Some(HashAlgorithm::Sha512),
        _ => None,
    }
}

/// 1.2.840.113549.1.1
const PKCS1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
/// 1.2.840.10045.4
const ANSI_X962_SIGNATURES: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];
/// 2.16.840.1.101.3.4.2
const NIST_HASHES: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::der::INTEGER;
    use crate::der::element;

    const SHA384: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02];
    const MGF1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08];
    const PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];

    fn hash(oid: &[u8], parameters: &[u8]) -> Vec<u8> {
        element(SEQUENCE, &[&element(OBJECT_IDENTIFIER, oid), parameters].concat())
    }

    fn mask(hash: &[u8]) -> Vec<u8> {
        element(SEQUENCE, &[&element(OBJECT_IDENTIFIER, MGF1), hash].concat())
    }

    fn read(fields: &[(u8, Vec<u8>)]) -> Option<CertificateSignature> {
        let fields: Vec<u8> =
            fields.iter().flat_map(|(tag, contents)| element(*tag, contents)).collect();
        let parameters = element(SEQUENCE, &fields);
        scheme(&[element(OBJECT_IDENTIFIER, PSS), parameters].concat())
    }

    fn pss_sha384() -> [(u8, Vec<u8>); 3] {
        let sha384 = hash(SHA384, &[NULL, 0]);
        [(0xa0, sha384.clone()), (0xa1, mask(&sha384)), (0xa2, element(INTEGER, &[48]))]
    }

    #[test]
    fn pss_with_all_said_and_alike_is_read_with_and_without_trailer() {
        let found = CertificateSignature::Known(SignatureScheme::RsaPss(HashAlgorithm::Sha384));
        let mut fields = pss_sha384().to_vec();
        assert_eq!(read(&fields), Some(found));
        fields.push((0xa3, element(INTEGER, &[1])));
        assert_eq!(read(&fields), Some(found));
        let bare = hash(SHA384, &[]);
        fields[0].1 = bare.clone();
        fields[1].1 = mask(&bare);
        assert_eq!(read(&fields), Some(found));
    }

    #[test]
    fn pss_with_a_default_another_mask_salt_or_trailer_is_not_known() {
        let sha256 = hash(&[&SHA384[..8], &[1]].concat(), &[NULL, 0]);
        for missing in 0..3 {
            let mut fields = pss_sha384().to_vec();
            fields.remove(missing);
            assert_eq!(read(&fields), None);
        }
        for (field, contents) in [
            (0, sha256.clone()),
            (0, hash(SHA384, &[INTEGER, 1, 0])),
            (1, mask(&sha256)),
            (1, hash(SHA384, &hash(SHA384, &[NULL, 0]))),
            (2, element(INTEGER, &[32])),
            (2, element(INTEGER, &[0, 48])),
            (2, [element(INTEGER, &[48]), vec![0]].concat()),
        ] {
            let mut fields = pss_sha384().to_vec();
            fields[field].1 = contents;
            assert_eq!(read(&fields), None, "field {field}");
        }
        for more in [(0xa3, element(INTEGER, &[2])), (0xa4, vec![])] {
            assert_eq!(read(&[pss_sha384().as_slice(), &[more]].concat()), None);
        }
        assert_eq!(scheme(&element(OBJECT_IDENTIFIER, PSS)), None, "no parameters at all");
    }
}
