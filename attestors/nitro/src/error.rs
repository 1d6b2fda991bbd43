//! Every way in which a Nitro document can be refused. A verdict lists all faults that were found,
//! the most decisive first; the order of the variants is that order.

use assay_evidence::Finding;
use assay_evidence::Reason;
use assay_evidence::Time;
use assay_evidence::certificate::CertificateError;
use assay_evidence::faults::Ranked;
use assay_evidence::key::KeyFault;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    // --- shape ---
    #[error("not a COSE_Sign1 document")]
    NotADocument,
    #[error("the {what} is beyond its limit of {max}, or empty")]
    Limits { what: &'static str, max: usize },
    #[error("the document's {field} is malformed: {what}")]
    Malformed { field: &'static str, what: String },
    #[error("certificate {depth} cannot be read")]
    Certificate { depth: usize, source: Unreadable },

    // --- algorithms and keys ---
    #[error("the protected header is `{found}`, which is not ES384 alone")]
    Algorithm { found: String },
    #[error("the registers are digests by `{found}`")]
    Digest { found: String },
    #[error("the key of certificate {depth} is not to be relied on: {what}")]
    Key { depth: usize, what: String, weak: bool },

    // --- chain ---
    #[error("certificate {depth} is not signed by ECDSA with SHA-384")]
    CertificateSignature { depth: usize },
    #[error("the issuer of certificate {depth} may not issue it")]
    IssuerNotCa { depth: usize },
    #[error("the bundle begins with a root that is not pinned")]
    Root { found: String },
    #[error("certificate {depth} is not signed by the one above it")]
    ChainBroken { depth: usize },
    #[error("the signature on the document does not verify")]
    Signature,

    // --- freshness ---
    #[error("certificate {depth} is valid from {not_before} to {not_after}")]
    Expired { depth: usize, not_before: Time, not_after: Time, at: Time },
    #[error("the document is of {timestamp}, outside of its key's dates or of the future")]
    Timestamp { timestamp: Time, expected: String },
    #[error("the document was made for another nonce")]
    Nonce { found: String, expected: String },
}

/// What kept a certificate from being read, as text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

impl From<CertificateError> for Unreadable {
    fn from(error: CertificateError) -> Unreadable {
        Unreadable(error.to_string())
    }
}

impl From<&str> for Unreadable {
    fn from(text: &str) -> Unreadable {
        Unreadable(text.to_owned())
    }
}

impl Fault {
    pub(crate) fn key(depth: usize, fault: KeyFault) -> Fault {
        Fault::Key { depth, what: fault.to_string(), weak: true }
    }

    /// The stable code of this refusal.
    pub fn reason(&self) -> Reason {
        match self {
            Fault::NotADocument => Reason::NotADocument,
            Fault::Limits { .. } => Reason::DocumentLimits,
            Fault::Malformed { .. } => Reason::DocumentMalformed,
            Fault::Certificate { .. } => Reason::CertMalformed,
            Fault::Algorithm { .. } => Reason::CoseAlgorithm,
            Fault::Digest { .. } => Reason::DocumentDigest,
            Fault::Key { weak: true, .. } => Reason::KeyWeak,
            Fault::Key { .. } => Reason::CertMalformed,
            Fault::CertificateSignature { .. } => Reason::CertSignatureAlgorithm,
            Fault::IssuerNotCa { .. } => Reason::IssuerNotCa,
            Fault::Root { .. } => Reason::RootNotTrusted,
            Fault::ChainBroken { .. } => Reason::ChainBroken,
            Fault::Signature => Reason::DocumentSignatureInvalid,
            Fault::Expired { .. } | Fault::Timestamp { .. } => Reason::DocumentExpired,
            Fault::Nonce { .. } => Reason::NonceMismatch,
        }
    }

    /// The same as one line of a refusal.
    pub fn finding(&self) -> Finding {
        let (claim, found, expected) = self.values();
        let source = match self {
            Fault::NotADocument | Fault::Algorithm { .. } | Fault::Signature => "RFC 9052 §4",
            Fault::Certificate { .. }
            | Fault::CertificateSignature { .. }
            | Fault::IssuerNotCa { .. }
            | Fault::ChainBroken { .. }
            | Fault::Expired { .. } => "RFC 5280 §6",
            _ => "AWS Nitro Enclaves user guide, attestation process",
        };
        Finding::new(self.reason(), claim, found, expected, source)
    }

    fn values(&self) -> (String, String, String) {
        let line = |claim: &str, found: &str, expected: &str| {
            (claim.to_owned(), found.to_owned(), expected.to_owned())
        };
        let chain = |depth: &usize| format!("chain.{depth}");
        match self {
            Fault::NotADocument => line("document", "other bytes", "COSE_Sign1, untagged"),
            Fault::Limits { what, max } => {
                line(what, "beyond its limit, or empty", &format!("at most {max}"))
            }
            Fault::Malformed { field, what } => line(field, what, "a document as AWS makes it"),
            Fault::Certificate { depth, source } => {
                line(&chain(depth), &source.to_string(), "a certificate")
            }
            Fault::Algorithm { found } => line("protected", found, "a1013822, ES384"),
            Fault::Digest { found } => line("digest", found, "SHA384"),
            Fault::Key { depth, what, .. } => line(&chain(depth), what, "a P-384 key"),
            Fault::CertificateSignature { depth } => {
                line(&chain(depth), "another algorithm", "ECDSA with SHA-384")
            }
            Fault::IssuerNotCa { depth } => {
                line(&chain(depth), "an issuer that may not", "issued by a CA with this right")
            }
            Fault::Root { found } => line("root", found, "AWS Nitro Enclaves Root-G1"),
            Fault::ChainBroken { depth } => {
                line(&chain(depth), "a signature that does not verify", "signed by the one above")
            }
            Fault::Signature => line("signature", "does not verify", "signed by the leaf's key"),
            Fault::Expired { depth, not_before, not_after, at } => {
                let dates = format!("{not_before} to {not_after}");
                line(&chain(depth), &at.to_string(), &dates)
            }
            Fault::Timestamp { timestamp, expected } => {
                line("timestamp", &timestamp.to_string(), expected)
            }
            Fault::Nonce { found, expected } => line("nonce", found, expected),
        }
    }
}

/// At least one fault, the most decisive first.
pub type Faults = assay_evidence::faults::Faults<Fault>;

impl Ranked for Fault {
    fn rank(&self) -> u8 {
        match self {
            Fault::NotADocument => 0,
            Fault::Limits { .. } => 1,
            Fault::Malformed { .. } => 2,
            Fault::Certificate { .. } => 3,
            Fault::Algorithm { .. } => 4,
            Fault::Digest { .. } => 5,
            Fault::Key { .. } => 6,
            Fault::CertificateSignature { .. } => 7,
            Fault::IssuerNotCa { .. } => 8,
            Fault::Root { .. } => 9,
            Fault::ChainBroken { .. } => 10,
            Fault::Signature => 11,
            Fault::Expired { .. } | Fault::Timestamp { .. } => 12,
            Fault::Nonce { .. } => 13,
        }
    }

    fn reason(&self) -> Reason {
        Fault::reason(self)
    }

    fn finding(&self) -> Finding {
        Fault::finding(self)
    }
}
