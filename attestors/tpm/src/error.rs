//! Every way in which TPM evidence can be refused, with what was found and what was expected.
//!
//! One variant per cause; [`Error::reason`] gives the product's stable code. The text of a source
//! is never repeated in the text of its bearer.

use assay_evidence::HashAlgorithm;
use assay_evidence::Reason;
use assay_evidence::certificate::CertificateError;
use assay_evidence::chain::ChainError;
use assay_evidence::crypto::EncryptError;
use assay_evidence::key::KeyFault;
use assay_evidence::reader::ReadError;

use crate::structures::name::Hierarchy;
use crate::structures::public::Attributes;

mod finding;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // --- shape ---
    #[error("a TPM structure that is cut or has bytes too many")]
    Shape(#[from] ReadError),
    #[error("the {place} is malformed")]
    Malformed { place: &'static str },
    #[error("the {place} names algorithm 0x{id:04x}, which is not known here")]
    UnknownAlgorithm { place: &'static str, id: u16 },
    #[error("a key on curve 0x{id:04x}, which is not known here")]
    UnknownCurve { id: u16 },
    #[error("a register file that cannot be read: {0}")]
    PcrFile(&'static str),
    #[error("the {0} is missing")]
    Missing(&'static str),

    // --- endorsement key ---
    #[error("the endorsement certificate cannot be read")]
    EkCertificate(#[source] CertificateError),
    #[error("there is no endorsement certificate for the endorsement key shown")]
    EkKeyCertMismatch,
    #[error("the endorsement key follows no known template")]
    EkTemplate,
    #[error("the certificate is not one of an endorsement key: {0}")]
    EkProfile(&'static str),
    #[error("the chain of the endorsement certificate is refused")]
    EkChain(#[source] ChainError),
    #[error("more than {max} certificates")]
    TooManyCertificates { max: usize },

    // --- attestation key ---
    #[error("the attestation key is not restricted")]
    AkNotRestricted { found: Attributes },
    #[error("the attestation key could leave its TPM")]
    AkNotFixed { found: Attributes },
    #[error("the attestation key was not made by the TPM")]
    AkExternalOrigin { found: Attributes },
    #[error("the attestation key has attributes {found}, which no such key may have")]
    AkAttributes { found: Attributes },
    #[error("the attestation key has no signing scheme that is accepted")]
    AkScheme,
    #[error("the attestation key lives in the {} hierarchy", hierarchy_name(*.found))]
    AkHierarchy { found: Option<Hierarchy> },
    #[error("the certificate is not of the attestation key")]
    AkCertificateKey,
    #[error("the certificate is not one of an attestation key: {0}")]
    AkProfile(&'static str),
    #[error("the chain of the certificate of the attestation key is refused")]
    AkChain(#[source] ChainError),
    #[error("the TPM did not give the secret of its challenge back")]
    Activation,
    #[error("a key that must not be relied on")]
    KeyWeak(#[source] KeyFault),
    #[error("the challenge cannot be encrypted to this endorsement key")]
    Encrypt(#[from] EncryptError),

    // --- certified key ---
    #[error("the certified key has attributes {found} and could leave its TPM")]
    KeyNotFixed { found: Attributes },
    #[error("the certified key has attributes {found}, {expected} expected")]
    KeyAttributes { found: Attributes, expected: Attributes },
    #[error("the certified key has no ECDSA P-256 scheme with SHA-256")]
    KeyScheme,
    #[error("the certified key lives in the {} hierarchy", hierarchy_name(*.found))]
    SvidKeyHierarchy { found: Option<Hierarchy> },
    #[error("the certification is of another key than the public area shown")]
    CertifiedName { found: String, expected: String },
    #[error("the TPM did not certify the key that asks for the identity")]
    SvidKeyNotCertified { found: String, expected: String },

    #[error("the certificate of the device is not of the key that its TPM certified")]
    DevidKey,
    #[error("the device key has attributes {found} and follows no template of its kind")]
    DevidTemplate { found: Attributes },

    // --- signature, magic, freshness ---
    #[error("the signature is {found}, the key signs by {expected}")]
    SignatureScheme { found: String, expected: String },
    #[error("no library here verifies a signature by {found} and this key")]
    SignatureUnsupported { found: String },
    #[error("the signature does not verify")]
    SignatureInvalid,
    #[error("signed over {found}, at least {expected} expected")]
    SignatureHashWeak { found: HashAlgorithm, expected: HashAlgorithm },
    #[error("the statement begins with 0x{found:08x} and was not made by a TPM")]
    Magic { found: u32 },
    #[error("a statement of type 0x{found:04x} where 0x{expected:04x} is expected")]
    Kind { found: u16, expected: u16 },
    #[error("the statement was made for other qualifying data")]
    Nonce { found: Vec<u8>, expected: Vec<u8> },

    // --- registers, counters ---
    #[error("the quote covers `{found}`, `{expected}` expected")]
    Selection { found: String, expected: String },
    #[error("register {register} of bank {bank} is not covered by the quote")]
    NotSigned { bank: HashAlgorithm, register: u32 },
    #[error("register {register} of bank {bank} is quoted, but its value is not given")]
    ValueMissing { bank: HashAlgorithm, register: u32 },
    #[error("{found} bytes of register values where the quote needs {expected}")]
    ValuesSize { found: usize, expected: usize },
    #[error("the register values are not those that were signed")]
    RegisterDigest { found: String, expected: String },
    #[error("register {register} is covered by no bank as strong as {expected}")]
    BankWeak { register: u32, expected: HashAlgorithm },
    #[error("the TPM was reset between the two statements")]
    ResetBetween { quote: (u32, u32), certify: (u32, u32) },
}

fn hierarchy_name(found: Option<Hierarchy>) -> String {
    found.map_or_else(|| "unknown".into(), |hierarchy| hierarchy.to_string())
}

impl Error {
    /// The stable code of this refusal.
    pub fn reason(&self) -> Reason {
        match self {
            Error::UnknownAlgorithm { id, .. } if REGISTERED.contains(id) => {
                Reason::UnsupportedEvidence
            }
            Error::UnknownCurve { id } if REGISTERED_CURVES.contains(id) => {
                Reason::UnsupportedEvidence
            }
            Error::Shape(_)
            | Error::Malformed { .. }
            | Error::UnknownAlgorithm { .. }
            | Error::UnknownCurve { .. }
            | Error::PcrFile(_) => Reason::TpmMalformed,
            Error::Missing(_) => Reason::EvidenceMissing,
            Error::EkCertificate(CertificateError::Size { .. }) => Reason::EvidenceTooLarge,
            Error::EkCertificate(_) => Reason::EkCertMalformed,
            Error::EkKeyCertMismatch => Reason::EkKeyCertMismatch,
            Error::EkTemplate => Reason::EkTemplateUnknown,
            Error::EkProfile(_) => Reason::EkProfile,
            Error::EkChain(fault) => chain_reason(fault),
            Error::TooManyCertificates { .. } => Reason::EvidenceTooLarge,
            Error::AkNotRestricted { .. } => Reason::AkNotRestricted,
            Error::AkNotFixed { .. } => Reason::AkNotFixed,
            Error::AkExternalOrigin { .. } => Reason::AkExternalOrigin,
            Error::AkAttributes { .. } => Reason::AkAttributes,
            Error::AkScheme => Reason::AkScheme,
            Error::AkHierarchy { .. } => Reason::AkHierarchy,
            Error::AkCertificateKey | Error::AkProfile(_) => Reason::AkNotCertified,
            Error::AkChain(fault) => ak_chain_reason(fault),
            Error::Activation => Reason::ActivationFailed,
            Error::KeyWeak(KeyFault::Roca) => Reason::KeyRoca,
            Error::KeyWeak(_) => Reason::KeyWeak,
            Error::Encrypt(EncryptError::Random) => Reason::Internal,
            Error::Encrypt(_) => Reason::KeyWeak,
            Error::KeyNotFixed { .. } => Reason::KeyNotFixed,
            Error::KeyAttributes { .. } | Error::KeyScheme => Reason::KeyAttributes,
            Error::SvidKeyHierarchy { .. } => Reason::SvidKeyHierarchy,
            Error::DevidKey => Reason::DevidKeyMismatch,
            Error::DevidTemplate { .. } => Reason::KeyAttributes,
            Error::CertifiedName { .. } => Reason::KeyNameMismatch,
            Error::SvidKeyNotCertified { .. } => Reason::SvidKeyNotCertified,
            Error::SignatureScheme { .. } => Reason::SigScheme,
            Error::SignatureUnsupported { .. } => Reason::UnsupportedEvidence,
            Error::SignatureInvalid => Reason::SigInvalid,
            Error::SignatureHashWeak { .. } => Reason::SignatureHashWeak,
            Error::Magic { .. } => Reason::AttestMagic,
            Error::Kind { .. } => Reason::AttestType,
            Error::Nonce { .. } => Reason::NonceMismatch,
            Error::Selection { .. } | Error::ValueMissing { .. } | Error::ValuesSize { .. } => {
                Reason::PcrSelection
            }
            Error::NotSigned { .. } => Reason::PcrNotSigned,
            Error::RegisterDigest { .. } => Reason::PcrDigestMismatch,
            Error::BankWeak { .. } => Reason::PcrBankWeak,
            Error::ResetBetween { .. } => Reason::ResetUnexplained,
        }
    }
}

/// Whatever is wrong above the key, nobody who counts has certified it; a weak key or a list that
/// does not fit says more.
fn ak_chain_reason(fault: &ChainError) -> Reason {
    match fault {
        ChainError::SignatureWeak { .. }
        | ChainError::KeyWeak { .. }
        | ChainError::RevocationList { .. }
        | ChainError::RevocationListStale { .. }
        | ChainError::RevocationListWeak { .. } => chain_reason(fault),
        _ => Reason::AkNotCertified,
    }
}

fn chain_reason(fault: &ChainError) -> Reason {
    match fault {
        ChainError::Untrusted => Reason::EkChainUntrusted,
        ChainError::Expired { .. } => Reason::EkExpired,
        ChainError::CriticalExtension { .. } => Reason::EkCriticalExt,
        ChainError::NameConstraint { .. } => Reason::EkNameConstraint,
        ChainError::SignatureWeak { .. } => Reason::CertSignatureWeak,
        ChainError::KeyWeak { fault: KeyFault::Roca, .. } => Reason::KeyRoca,
        ChainError::KeyWeak { .. } | ChainError::Key { .. } => Reason::KeyWeak,
        ChainError::Revoked { .. } => Reason::EkRevoked,
        ChainError::RevocationList { .. } => Reason::CrlInvalid,
        ChainError::RevocationListStale { .. } => Reason::CrlStale,
        ChainError::RevocationListWeak { .. } => Reason::CertSignatureWeak,
        _ => Reason::EkChainInvalid,
    }
}

/// TCG Algorithm Registry rev. 1.34, table 3: HMAC, KEYEDHASH, ECDAA, SM2, ECSCHNORR, ECMQV,
/// SYMCIPHER and SHA-3, which a genuine structure may name and nothing is done with here. What is
/// known here but stands in the wrong place is malformed.
const REGISTERED: &[u16] =
    &[0x0005, 0x0008, 0x001a, 0x001b, 0x001c, 0x001d, 0x0025, 0x0027, 0x0028, 0x0029];
/// The same, table 4: P-192, P-224, the Barreto-Naehrig curves, SM2.
const REGISTERED_CURVES: &[u16] = &[0x0001, 0x0002, 0x0010, 0x0011, 0x0020];
