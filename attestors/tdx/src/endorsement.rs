//! Intel's word for a key: chains of Intel's form, up to the pinned root.
//!
//! Every chain here is given whole and in order, its root last. So nothing is searched: each
//! certificate has its place, its name (Intel SGX PCK Certificate and CRL Profile, rev. 1.5) and
//! the next one as its issuer. Revocation is asked where the lists are: in `collateral`.

use assay_evidence::Certificate;
use assay_evidence::HashAlgorithm;
use assay_evidence::Time;
use assay_evidence::certificate::CertificateSignature;
use assay_evidence::chain;
use assay_evidence::chain::ChainError;
use assay_evidence::crypto::SignatureScheme;
use serde::Serialize;

use crate::error::Error;
use crate::error::Place;

mod pck;
mod wants;

pub use pck::PckFacts;
pub use pck::SgxType;
pub use wants::PckCa;
pub use wants::TcbUpdate;
pub use wants::Wanted;
pub use wants::wants;

/// Whose root stands above the evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Root {
    Intel,
    /// Given by the operator, for hardware that Intel does not vouch for.
    OperatorSupplied,
}

/// A chain whose signatures and names hold. Its dates are asked at each use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub place: Place,
    /// The leaf first, the root last.
    pub certificates: Vec<Certificate>,
    pub root: Root,
    pub root_sha256: [u8; 32],
    pub from: Time,
    pub until: Time,
}

impl Chain {
    pub fn leaf(&self) -> Option<&Certificate> {
        self.certificates.first()
    }

    /// The certificate above the leaf.
    pub fn issuer(&self) -> Option<&Certificate> {
        self.certificates.get(1)
    }

    pub fn root_certificate(&self) -> Option<&Certificate> {
        self.certificates.last()
    }
}

/// Inclusive at both ends, in whole seconds, as certificates count.
pub(crate) fn date_fault(place: Place, from: Time, until: Time, now: Time) -> Option<Error> {
    if now.unix_s() < from.unix_s() {
        return Some(Error::NotYetValid { place, from, at: now });
    }
    (now.unix_s() > until.unix_s()).then_some(Error::Expired { place, until, at: now })
}

/// Verifies a chain of the given form: one list of allowed names for each certificate.
pub(crate) fn verify_chain(
    place: Place,
    certificates: &[Certificate],
    names: &[&[&'static str]],
    extra_roots: &[Certificate],
) -> Result<Chain, Error> {
    let (Some((root, below)), Some(leaf)) = (certificates.split_last(), certificates.first())
    else {
        return Err(Error::ChainLength { place, found: 0, expected: names.len() });
    };
    if certificates.len() != names.len() {
        let (found, expected) = (certificates.len(), names.len());
        return Err(Error::ChainLength { place, found, expected });
    }
    let root_sha256 = root.sha256();
    let whose = match root_sha256 {
        INTEL_SGX_ROOT => Root::Intel,
        _ if extra_roots.contains(root) => Root::OperatorSupplied,
        found => return Err(Error::Root { place, found }),
    };
    for (depth, (certificate, names)) in certificates.iter().zip(names).enumerate() {
        let found = certificate.subject_common_name().unwrap_or_default();
        if !names.contains(&found) {
            let expected = names.first().copied().unwrap_or_default();
            let found = found.to_owned();
            return Err(Error::Subject { place, depth, found, expected });
        }
    }
    // Walked at the moment when the youngest of them begins, so that what is wrong besides dates
    // shows at any time, and the walk is good for every time between `from` and `until`.
    let from = below.iter().map(Certificate::not_before).max().unwrap_or(leaf.not_before());
    let until = below.iter().map(Certificate::not_after).min().unwrap_or(leaf.not_after());
    let intermediates = below.get(1..).unwrap_or_default();
    let broken = |fault| Error::Chain { place, fault };
    for (depth, certificate) in below.iter().enumerate() {
        if certificate.signature_scheme() != Some(CertificateSignature::Known(ECDSA_SHA256)) {
            return Err(broken(ChainError::SignatureAlgorithm { depth }));
        }
    }
    chain::verify(leaf, intermediates, std::slice::from_ref(root), from).map_err(broken)?;
    Ok(Chain { place, certificates: certificates.to_vec(), root: whose, root_sha256, from, until })
}

pub(crate) const PCK_CHAIN: &[&[&str]] = &[&["Intel SGX PCK Certificate"], PCK_CA, ROOT];
pub(crate) const PCK_CRL_CHAIN: &[&[&str]] = &[PCK_CA, ROOT];
pub(crate) const TCB_SIGNING_CHAIN: &[&[&str]] = &[&["Intel SGX TCB Signing"], ROOT];
const PCK_CA: &[&str] = &["Intel SGX PCK Platform CA", "Intel SGX PCK Processor CA"];
const ROOT: &[&str] = &["Intel SGX Root CA"];
/// All that Intel signs with.
const ECDSA_SHA256: SignatureScheme = SignatureScheme::EcdsaDer(HashAlgorithm::Sha256);

/// SHA-256 of the DER certificate `Intel SGX Root CA`, valid to 2049-12-31
/// (certificates.trustedservices.intel.com/Intel_SGX_Provisioning_Certification_RootCA.cer).
pub const INTEL_SGX_ROOT: [u8; 32] = [
    0x44, 0xa0, 0x19, 0x6b, 0x2b, 0x99, 0xf8, 0x89, 0xb8, 0xe1, 0x49, 0xe9, 0x5b, 0x80, 0x7a, 0x35,
    0x0e, 0x74, 0x24, 0x96, 0x43, 0x99, 0xe8, 0x85, 0xa7, 0xcb, 0xb8, 0xcc, 0xfa, 0xb6, 0x74, 0xd3,
];
