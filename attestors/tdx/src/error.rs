//! Every way in which TDX evidence can be refused, with what was found and what was expected.
//!
//! One variant per cause; [`Error::reason`] gives the product's stable code. A verification tells
//! all faults that it found as [`Faults`], the most decisive one first.

use std::fmt;

use assay_evidence::Finding;
use assay_evidence::Reason;
use assay_evidence::Time;
use assay_evidence::certificate::CertificateError;
use assay_evidence::chain::ChainError;
use assay_evidence::crl::CrlError;
use assay_evidence::faults::Ranked;
use assay_evidence::reader::ReadError;

use crate::pem::PemError;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // --- shape ---
    #[error("a quote of version {found}; 4 and 5 are those of a TD")]
    QuoteVersion { found: u16 },
    #[error("a quote of {found} bytes where at most {max} may stand")]
    QuoteTooLarge { found: usize, max: usize },
    #[error("a quote that is cut or has bytes too many")]
    QuoteShape(#[from] ReadError),
    #[error("the {place} of the quote is `{found}`, `{expected}` expected")]
    QuoteMalformed { place: &'static str, found: String, expected: String },
    #[error("{left} bytes stand behind the quote, and byte {at} of them is not zero")]
    TrailingBytes { left: usize, at: usize },
    #[error("a certificate of the PCK chain cannot be read")]
    PckPem(#[source] PemError),
    #[error("the PCK certificate does not say the platform's {0}")]
    PckExtension(&'static str),
    #[error("collateral of {found} bytes where at most {max} may stand")]
    CollateralTooLarge { found: usize, max: usize },
    #[error("the {place} of the collateral cannot be read: {cause}")]
    Collateral { place: Place, cause: String },
    #[error("the {place} of the collateral cannot be read")]
    CollateralPem { place: Place, fault: PemError },

    // --- chains ---
    #[error("the {place} has {found} certificates, {expected} expected")]
    ChainLength { place: Place, found: usize, expected: usize },
    #[error("the {place} ends in a root that nobody here trusts")]
    Root { place: Place, found: [u8; 32] },
    #[error("the {place} ends in another root than the rest of the evidence")]
    RootDiffers { place: Place, found: [u8; 32], expected: [u8; 32] },
    #[error("certificate {depth} of the {place} is of `{found}`, not of `{expected}`")]
    Subject { place: Place, depth: usize, found: String, expected: &'static str },
    #[error("the {place} does not hold")]
    Chain { place: Place, fault: ChainError },
    #[error("the {place} cannot be read")]
    Crl { place: Place, fault: CrlError },
    #[error("the {place} is not signed by the CA above the certificates it is for")]
    CrlSignature { place: Place, cause: String },
    #[error("the {place} revokes a certificate of the {chain}")]
    Revoked { place: Place, chain: Place, serial: Vec<u8> },

    // --- signatures ---
    #[error("the signature on the QE report does not verify by the PCK")]
    QeReportSignature,
    #[error("the QE report speaks of another attestation key")]
    QeBinding { found: Vec<u8>, expected: Vec<u8> },
    #[error("the signature on the quote does not verify by the attestation key")]
    QuoteSignature,
    #[error("the signature on the {place} does not verify")]
    CollateralSignature { place: Place },

    // --- dates and freshness ---
    #[error("the {place} was to be renewed by {until}, judged at {at}")]
    Expired { place: Place, until: Time, at: Time },
    #[error("the {place} is of {from}, judged at {at}")]
    NotYetValid { place: Place, from: Time, at: Time },
    #[error("the quote was made for other report data")]
    ReportData { found: Vec<u8>, expected: Vec<u8> },

    // --- whether the parts belong together ---
    #[error("the collateral brings the PCK chain of another platform")]
    PckChainDiffers,
    #[error("the collateral is for other platforms")]
    Fmspc { found: [u8; 6], expected: [u8; 6] },
    #[error("the collateral is for another PCE")]
    PceId { found: [u8; 2], expected: [u8; 2] },
    #[error("the {claim} of the quoting enclave is not that of Intel's")]
    QeIdentity { claim: &'static str, found: String, expected: String },
    #[error("the {claim} of the TDX module is not that of Intel's")]
    Module { claim: &'static str, found: String, expected: String },
}

/// A part of the evidence, as a reader of a refusal knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    Bundle,
    PckChain,
    TcbInfoChain,
    TcbInfo,
    TcbInfoSignature,
    QeIdentityChain,
    QeIdentity,
    QeIdentitySignature,
    PckCrlChain,
    RootCrl,
    PckCrl,
}

impl Place {
    pub const fn name(self) -> &'static str {
        match self {
            Place::Bundle => "bundle",
            Place::PckChain => "PCK chain",
            Place::TcbInfoChain => "TCB info's chain",
            Place::TcbInfo => "TCB info",
            Place::TcbInfoSignature => "TCB info's signature",
            Place::QeIdentityChain => "QE identity's chain",
            Place::QeIdentity => "QE identity",
            Place::QeIdentitySignature => "QE identity's signature",
            Place::PckCrlChain => "PCK CRL's chain",
            Place::RootCrl => "root CA's CRL",
            Place::PckCrl => "PCK CRL",
        }
    }

    pub(crate) const fn claim(self) -> &'static str {
        match self {
            Place::Bundle => "collateral",
            Place::PckChain => "pck_chain",
            Place::TcbInfoChain => "collateral.tcb_info_issuer_chain",
            Place::TcbInfo => "collateral.tcb_info",
            Place::TcbInfoSignature => "collateral.tcb_info_signature",
            Place::QeIdentityChain => "collateral.qe_identity_issuer_chain",
            Place::QeIdentity => "collateral.qe_identity",
            Place::QeIdentitySignature => "collateral.qe_identity_signature",
            Place::PckCrlChain => "collateral.pck_crl_issuer_chain",
            Place::RootCrl => "collateral.root_ca_crl",
            Place::PckCrl => "collateral.pck_crl",
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// At least one fault, the most decisive first.
pub type Faults = assay_evidence::faults::Faults<Error>;

impl Ranked for Error {
    /// A smaller number is told first.
    fn rank(&self) -> u8 {
        match self {
            Error::QuoteVersion { .. } => 0,
            Error::QuoteTooLarge { .. }
            | Error::QuoteShape(_)
            | Error::QuoteMalformed { .. }
            | Error::TrailingBytes { .. }
            | Error::PckPem(_) => 1,
            Error::CollateralTooLarge { .. }
            | Error::Collateral { .. }
            | Error::CollateralPem { .. } => 2,
            Error::ChainLength { .. } | Error::Root { .. } | Error::Subject { .. } => 3,
            Error::Chain { .. } | Error::RootDiffers { .. } | Error::PckExtension(_) => 4,
            Error::Crl { .. } | Error::CrlSignature { .. } => 5,
            Error::Revoked { .. } => 6,
            Error::QeReportSignature => 7,
            Error::QeBinding { .. } => 8,
            Error::QuoteSignature => 9,
            Error::CollateralSignature { .. } => 10,
            Error::Expired { place: Place::TcbInfo | Place::QeIdentity, .. } => 12,
            Error::NotYetValid { place: Place::TcbInfo | Place::QeIdentity, .. } => 12,
            Error::Expired { place: Place::RootCrl | Place::PckCrl, .. } => 13,
            Error::NotYetValid { place: Place::RootCrl | Place::PckCrl, .. } => 13,
            // Certificates live for years: one out of its dates says more than a late list.
            Error::Expired { .. } | Error::NotYetValid { .. } => 11,
            Error::ReportData { .. } => 14,
            Error::PckChainDiffers => 15,
            Error::Fmspc { .. } => 16,
            Error::PceId { .. } => 17,
            Error::QeIdentity { .. } => 18,
            Error::Module { .. } => 19,
        }
    }

    fn reason(&self) -> Reason {
        Error::reason(self)
    }

    fn finding(&self) -> Finding {
        Error::finding(self)
    }
}

impl Error {
    pub(crate) fn malformed(
        place: &'static str,
        found: impl fmt::Display,
        expected: impl fmt::Display,
    ) -> Error {
        Error::QuoteMalformed { place, found: found.to_string(), expected: expected.to_string() }
    }

    pub(crate) fn collateral(place: Place, cause: impl fmt::Display) -> Error {
        Error::Collateral { place, cause: cause.to_string() }
    }

    /// The stable code of this refusal.
    pub fn reason(&self) -> Reason {
        match self {
            Error::QuoteVersion { .. } => Reason::QuoteVersion,
            Error::QuoteTooLarge { .. } | Error::CollateralTooLarge { .. } => {
                Reason::EvidenceTooLarge
            }
            Error::QuoteShape(_) | Error::QuoteMalformed { .. } => Reason::QuoteMalformed,
            Error::TrailingBytes { .. } => Reason::TrailingBytes,
            Error::PckPem(PemError::Certificate {
                fault: CertificateError::Size { .. }, ..
            }) => Reason::EvidenceTooLarge,
            Error::PckPem(_) | Error::PckExtension(_) => Reason::CertMalformed,
            Error::Collateral { .. } | Error::CollateralPem { .. } => Reason::CollateralMalformed,
            Error::ChainLength { found: 0, .. } => Reason::ChainMissing,
            Error::ChainLength { .. } | Error::RootDiffers { .. } => Reason::ChainBroken,
            Error::Root { .. } => Reason::RootNotTrusted,
            Error::Subject { place: Place::TcbInfoChain | Place::QeIdentityChain, .. } => {
                Reason::CollateralSignatureInvalid
            }
            Error::Subject { .. } => Reason::ChainBroken,
            Error::Chain { fault, .. } => chain_reason(fault),
            Error::Crl { .. } | Error::CrlSignature { .. } => Reason::CrlInvalid,
            Error::Revoked { .. } => Reason::CertRevoked,
            Error::QeReportSignature => Reason::QeReportSignatureInvalid,
            Error::QeBinding { .. } => Reason::QeBinding,
            Error::QuoteSignature => Reason::QuoteSignatureInvalid,
            Error::CollateralSignature { .. } => Reason::CollateralSignatureInvalid,
            Error::Expired { place, .. } | Error::NotYetValid { place, .. } => match place {
                Place::TcbInfo | Place::QeIdentity => match self {
                    Error::Expired { .. } => Reason::CollateralExpired,
                    _ => Reason::CollateralNotYetValid,
                },
                Place::RootCrl | Place::PckCrl => match self {
                    Error::Expired { .. } => Reason::CrlStale,
                    _ => Reason::CollateralNotYetValid,
                },
                _ => Reason::CertExpired,
            },
            Error::ReportData { .. } => Reason::ReportDataMismatch,
            Error::PckChainDiffers => Reason::PckChainMismatch,
            Error::Fmspc { .. } => Reason::FmspcMismatch,
            Error::PceId { .. } => Reason::PceidMismatch,
            Error::QeIdentity { .. } => Reason::QeIdentityMismatch,
            Error::Module { .. } => Reason::TdxModuleMismatch,
        }
    }

    /// The same as one line of a refusal.
    pub fn finding(&self) -> Finding {
        let (claim, found, expected) = self.values();
        Finding::new(self.reason(), claim, found, expected, self.source_clause())
    }

    fn values(&self) -> (&'static str, String, String) {
        let hex = |bytes: &[u8]| hex::encode(bytes);
        match self {
            Error::QuoteVersion { found } => ("quote.version", found.to_string(), "4 or 5".into()),
            Error::QuoteTooLarge { found, max } => {
                ("quote.size", found.to_string(), format!("at most {max}"))
            }
            Error::CollateralTooLarge { found, max } => {
                ("collateral.size", found.to_string(), format!("at most {max}"))
            }
            Error::QuoteShape(fault) => ("quote", fault.to_string(), "a whole quote".into()),
            Error::QuoteMalformed { place, found, expected } => {
                ("quote", format!("{place} {found}"), expected.clone())
            }
            Error::TrailingBytes { left, at } => {
                ("quote.padding", format!("byte {at} of {left} is not zero"), "zeros".into())
            }
            Error::PckPem(fault) => ("pck_chain", fault.to_string(), "three certificates".into()),
            Error::PckExtension(what) => {
                ("pck", format!("no {what}"), format!("the platform's {what}"))
            }
            Error::Collateral { place, cause } => {
                (place.claim(), cause.clone(), "a document as Intel's service gives it".into())
            }
            Error::CollateralPem { place, fault } => {
                (place.claim(), fault.to_string(), "certificates as PEM".into())
            }
            Error::ChainLength { place, found, expected } => {
                (place.claim(), found.to_string(), format!("{expected} certificates"))
            }
            Error::Root { place, found } => (place.claim(), hex(found), "a trusted root".into()),
            Error::RootDiffers { place, found, expected } => {
                (place.claim(), hex(found), hex(expected))
            }
            Error::Subject { place, found, expected, .. } => {
                (place.claim(), found.clone(), (*expected).into())
            }
            Error::Chain { place, fault } => {
                (place.claim(), fault.to_string(), "a path to a trusted root".into())
            }
            Error::Crl { place, fault } => {
                (place.claim(), fault.to_string(), "a revocation list".into())
            }
            Error::CrlSignature { place, cause } => {
                (place.claim(), cause.clone(), "a list of the CA above the certificate".into())
            }
            Error::Revoked { chain, serial, .. } => {
                (chain.claim(), hex(serial), "a certificate that is not revoked".into())
            }
            Error::QeBinding { found, expected } => {
                ("qe_report.report_data", hex(found), hex(expected))
            }
            Error::Expired { place, until, at } => {
                (place.claim(), format!("until {until}"), format!("valid at {at}"))
            }
            Error::NotYetValid { place, from, at } => {
                (place.claim(), format!("from {from}"), format!("valid at {at}"))
            }
            Error::ReportData { found, expected } => ("report_data", hex(found), hex(expected)),
            Error::PckChainDiffers => (
                "collateral.pck_certificate_chain",
                "another chain".into(),
                "the chain of the quote".into(),
            ),
            Error::Fmspc { found, expected } => ("fmspc", hex(found), hex(expected)),
            Error::PceId { found, expected } => ("pce_id", hex(found), hex(expected)),
            Error::QeIdentity { claim, found, expected }
            | Error::Module { claim, found, expected } => (claim, found.clone(), expected.clone()),
            Error::QeReportSignature => ("qe_report.signature", self.to_string(), String::new()),
            Error::QuoteSignature => ("quote.signature", self.to_string(), String::new()),
            Error::CollateralSignature { place } => {
                (place.claim(), self.to_string(), String::new())
            }
        }
    }

    /// The rule that was broken, as text a reader can look up.
    fn source_clause(&self) -> &'static str {
        match self {
            Error::Chain { .. }
            | Error::ChainLength { .. }
            | Error::Root { .. }
            | Error::RootDiffers { .. }
            | Error::Crl { .. }
            | Error::CrlSignature { .. }
            | Error::Revoked { .. } => "RFC 5280 §6",
            Error::PckExtension(_) | Error::Subject { .. } => {
                "Intel SGX PCK Certificate and CRL Profile"
            }
            Error::Collateral { .. }
            | Error::CollateralPem { .. }
            | Error::CollateralTooLarge { .. }
            | Error::CollateralSignature { .. }
            | Error::Expired { .. }
            | Error::NotYetValid { .. }
            | Error::Fmspc { .. }
            | Error::PceId { .. }
            | Error::PckChainDiffers
            | Error::QeIdentity { .. }
            | Error::Module { .. } => "Intel PCS API v4",
            _ => "Intel TDX DCAP Quoting Library API, appendix A",
        }
    }
}

fn chain_reason(fault: &ChainError) -> Reason {
    match fault {
        ChainError::Expired { .. } => Reason::CertExpired,
        ChainError::IssuerNotCa { .. } => Reason::IssuerNotCa,
        ChainError::SignatureAlgorithm { .. } | ChainError::SignatureWeak { .. } => {
            Reason::CertSignatureAlgorithm
        }
        ChainError::KeyWeak { .. } => Reason::KeyWeak,
        _ => Reason::ChainBroken,
    }
}
