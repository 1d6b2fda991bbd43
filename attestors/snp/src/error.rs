//! Every way in which SNP evidence can be refused, with what was found and what was expected.
//!
//! A verdict lists all faults that were found, the most decisive first ([`Faults`]); the order of
//! the variants below is that order. [`Fault::reason`] gives the product's stable code.

use std::fmt;

use assay_evidence::Finding;
use assay_evidence::Reason;
use assay_evidence::Time;
use assay_evidence::certificate::CertificateError;
use assay_evidence::faults::Ranked;
use assay_evidence::key::KeyFault;

use crate::product::Product;
use crate::report::GuestPolicy;
use crate::report::REPORT_SIZE;
use crate::report::SigningKey;
use crate::tcb::Tcb;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    // --- shape ---
    #[error("a report of {found} bytes")]
    ReportLength { found: usize },
    #[error("a report of version {found}")]
    ReportVersion { found: u32 },
    #[error("signature algorithm {found}")]
    SignatureAlgorithm { found: u32 },
    #[error("reserved bits are set at {field}")]
    Reserved { field: &'static str, found: String },
    #[error("a guest policy of {found}, which no guest can have")]
    GuestPolicy { found: GuestPolicy },
    #[error("a host certificate table that cannot be read: {0}")]
    HostCertificates(&'static str),
    #[error("the certificate of the {role} cannot be read")]
    Certificate { role: Role, source: CertificateError },
    #[error("the certificate of the {role} has no {field} that can be read")]
    CertificateField { role: Role, field: &'static str },
    #[error("more than {max} certificates in the chain")]
    TooManyCertificates { max: usize },

    // --- keys ---
    #[error("the report says that no key signed it")]
    SigningKeyNone,
    #[error("the chip's key was masked, so it did not sign")]
    ChipKeyMasked,
    #[error("{scalar} of the signature is no number below the group order")]
    SignatureRange { scalar: &'static str },
    #[error("there is no certificate of the key that signed")]
    VekMissing,
    #[error("the certificate is of a {found}, the report was signed by a {expected}")]
    VekKind { found: String, expected: SigningKey },
    #[error("the certificate of the {kind} names `{found}` as its issuer")]
    VekIssuer { found: String, expected: String, kind: SigningKey },
    #[error("{place} is {found}, the report was signed under {expected}")]
    Product { place: &'static str, found: String, expected: Product },
    #[error("the key of the {role} is not to be relied on")]
    KeyWeak { role: Role, source: KeyFault },

    // --- chain ---
    #[error("the certificate of the {role} is not signed by RSASSA-PSS with SHA-384")]
    CertificateSignature { role: Role },
    #[error("the {role} may not issue certificates")]
    IssuerNotCa { role: Role },
    #[error("the root `{found}` is not one of the pinned ones")]
    Root { found: String },
    #[error("there is no certificate of `{0}`")]
    ChainMissing(String),
    #[error("the certificate of the {role} is not signed by its root")]
    ChainBroken { role: Role },
    #[error("the certificate of the {kind} is not signed by `{issuer}`")]
    VekSignature { kind: SigningKey, issuer: String },
    #[error("the certificate of the {role} is valid from {not_before} to {not_after}")]
    Expired { role: Role, not_before: Time, not_after: Time, at: Time },
    #[error("the revocation list is not one of this chain's root")]
    Crl(&'static str),
    #[error("the revocation list is of {this_update}, the next one is due at {next_update}")]
    CrlStale { this_update: Time, next_update: String, at: Time },
    #[error("the certificate of the {role} was revoked")]
    Revoked { role: Role, serial: String },

    // --- signature, freshness, values ---
    #[error("the signature on the report does not verify by the key of its certificate")]
    ReportSignature,
    #[error("the report was made for other report data")]
    ReportData { found: String, expected: String },
    #[error("the certificate is of another chip than the report")]
    Chip { found: String, expected: String },
    #[error("the certificate is for another TCB than the report")]
    VekTcb { found: Tcb, expected: Tcb },
    #[error("the {lower_name} TCB is above the {upper_name} TCB")]
    TcbOrder { lower_name: &'static str, lower: Tcb, upper_name: &'static str, upper: Tcb },
}

/// Whose certificate it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// VCEK or VLEK.
    Vek,
    /// ASK or ASVK.
    Issuer,
    /// ARK.
    Root,
    /// One of those that were passed as a chain, whatever it is.
    Chain,
}

/// At least one fault, the most decisive first.
pub type Faults = assay_evidence::faults::Faults<Fault>;

impl Ranked for Fault {
    fn rank(&self) -> u8 {
        match self {
            Fault::ReportLength { .. } => 0,
            Fault::ReportVersion { .. } => 1,
            Fault::SignatureAlgorithm { .. } => 2,
            Fault::Reserved { .. } => 3,
            Fault::GuestPolicy { .. } => 4,
            Fault::HostCertificates(_) => 5,
            Fault::Certificate { .. }
            | Fault::CertificateField { .. }
            | Fault::TooManyCertificates { .. } => 6,
            Fault::SigningKeyNone => 10,
            Fault::ChipKeyMasked => 11,
            Fault::SignatureRange { .. } => 12,
            Fault::VekMissing => 13,
            Fault::VekKind { .. } => 14,
            Fault::VekIssuer { .. } => 15,
            Fault::Product { .. } => 16,
            Fault::KeyWeak { .. } => 17,
            Fault::CertificateSignature { .. } => 20,
            Fault::IssuerNotCa { .. } => 21,
            Fault::Root { .. } => 22,
            Fault::ChainMissing(_) => 23,
            Fault::ChainBroken { .. } => 24,
            Fault::VekSignature { .. } => 25,
            Fault::Crl(_) => 26,
            Fault::Revoked { .. } => 27,
            Fault::Expired { .. } => 28,
            Fault::CrlStale { .. } => 29,
            Fault::ReportSignature => 30,
            Fault::ReportData { .. } => 40,
            Fault::Chip { .. } => 50,
            Fault::VekTcb { .. } => 51,
            Fault::TcbOrder { .. } => 52,
        }
    }

    fn reason(&self) -> Reason {
        Fault::reason(self)
    }

    fn finding(&self) -> Finding {
        Fault::finding(self)
    }
}

impl Fault {
    /// The stable code of this refusal.
    pub fn reason(&self) -> Reason {
        match self {
            Fault::ReportLength { .. } => Reason::ReportLength,
            Fault::ReportVersion { .. } => Reason::ReportVersion,
            Fault::SignatureAlgorithm { .. } => Reason::ReportSigAlgo,
            Fault::Reserved { .. } => Reason::ReportReservedBits,
            Fault::GuestPolicy { .. } => Reason::SnpGuestPolicyInvalid,
            Fault::HostCertificates(_) => Reason::HostCertsMalformed,
            Fault::Certificate { .. } | Fault::CertificateField { .. } => Reason::CertMalformed,
            Fault::TooManyCertificates { .. } => Reason::EvidenceTooLarge,
            Fault::SigningKeyNone => Reason::SigningKeyNone,
            Fault::ChipKeyMasked => Reason::ChipKeyMasked,
            Fault::SignatureRange { .. } => Reason::SigInvalid,
            Fault::VekMissing => Reason::VekMissing,
            Fault::VekKind { .. } => Reason::VekKindMismatch,
            Fault::VekIssuer { .. } => Reason::VekWrongIssuer,
            Fault::Product { .. } => Reason::ProductMismatch,
            Fault::KeyWeak { source: KeyFault::Roca, .. } => Reason::KeyRoca,
            Fault::KeyWeak { .. } => Reason::KeyWeak,
            Fault::CertificateSignature { .. } => Reason::CertSignatureAlgorithm,
            Fault::IssuerNotCa { .. } => Reason::IssuerNotCa,
            Fault::Root { .. } => Reason::RootNotTrusted,
            Fault::ChainMissing(_) => Reason::ChainMissing,
            Fault::ChainBroken { .. } => Reason::ChainBroken,
            Fault::VekSignature { .. } => Reason::VekNotSignedByAmd,
            Fault::Expired { .. } => Reason::CertExpired,
            Fault::Crl(_) => Reason::CrlInvalid,
            Fault::CrlStale { .. } => Reason::CrlStale,
            Fault::Revoked { .. } => Reason::CertRevoked,
            Fault::ReportSignature => Reason::ReportSignatureInvalid,
            Fault::ReportData { .. } => Reason::ReportDataMismatch,
            Fault::Chip { .. } => Reason::VekChipMismatch,
            Fault::VekTcb { .. } => Reason::VekTcbMismatch,
            Fault::TcbOrder { .. } => Reason::TcbOrder,
        }
    }

    /// The same as one line of a refusal.
    pub fn finding(&self) -> Finding {
        let (claim, found, expected) = self.values();
        Finding::new(self.reason(), claim, found, expected, self.source_clause())
    }

    fn values(&self) -> (String, String, String) {
        let line = |claim: &str, found: String, expected: &str| {
            (claim.to_owned(), found, expected.to_owned())
        };
        match self {
            Fault::ReportLength { found } => {
                line("report.length", found.to_string(), &REPORT_SIZE.to_string())
            }
            Fault::ReportVersion { found } => line("version", found.to_string(), "2 to 5"),
            Fault::SignatureAlgorithm { found } => {
                line("signature_algorithm", found.to_string(), "1, ECDSA P-384 with SHA-384")
            }
            Fault::Reserved { field, found } => line(field, found.clone(), "zero where reserved"),
            Fault::GuestPolicy { found } => line("policy", found.to_string(), "bit 17 set"),
            Fault::HostCertificates(what) => {
                line("host_certs", (*what).to_owned(), "a whole table")
            }
            Fault::Certificate { role, source } => {
                line(role.claim(), source.to_string(), "a certificate")
            }
            Fault::CertificateField { role, field } => {
                line(role.claim(), format!("no {field} that can be read"), field)
            }
            Fault::TooManyCertificates { max } => {
                line("chain", format!("more than {max} certificates"), &max.to_string())
            }
            Fault::SigningKeyNone => line("signing_key", "none".into(), "VCEK or VLEK"),
            Fault::ChipKeyMasked => line("key_info", "MASK_CHIP_KEY is set".into(), "clear"),
            Fault::SignatureRange { scalar } => {
                line("signature", format!("{scalar} out of range"), "1 to the group order")
            }
            Fault::VekMissing => line("vek", "absent".into(), "VCEK or VLEK certificate"),
            Fault::VekKind { found, expected } => {
                line("vek.kind", found.clone(), expected.as_str())
            }
            Fault::VekIssuer { found, expected, .. } => line("vek.issuer", found.clone(), expected),
            Fault::Product { place, found, expected } => {
                line(place, found.clone(), expected.as_str())
            }
            Fault::KeyWeak { role, source } => {
                line(role.claim(), source.to_string(), "a key that may be relied on")
            }
            Fault::CertificateSignature { role } => line(
                role.claim(),
                "another algorithm or other parameters".into(),
                "RSASSA-PSS, SHA-384, MGF1 with SHA-384, salt of 48 bytes",
            ),
            Fault::IssuerNotCa { role } => {
                line(role.claim(), "no CA".into(), "a CA that may sign certificates")
            }
            Fault::Root { found } => line("root", found.clone(), "a pinned AMD root key"),
            Fault::ChainMissing(name) => line("chain", "absent".into(), name),
            Fault::ChainBroken { role } => line(
                role.claim(),
                "a signature that does not verify".into(),
                "signed by a pinned root",
            ),
            Fault::VekSignature { issuer, .. } => line(
                "vek",
                "a signature that does not verify".into(),
                &format!("signed by {issuer}"),
            ),
            Fault::Expired { role, not_before, not_after, at } => {
                line(role.claim(), at.to_string(), &format!("{not_before} to {not_after}"))
            }
            Fault::Crl(what) => {
                line("crl", (*what).to_owned(), "a list signed by the chain's root")
            }
            Fault::CrlStale { this_update, next_update, at } => {
                line("crl", at.to_string(), &format!("{this_update} to {next_update}"))
            }
            Fault::Revoked { role, serial } => {
                line(role.claim(), format!("serial {serial} is revoked"), "not revoked")
            }
            Fault::ReportSignature => {
                line("signature", "does not verify".into(), "signed by the certified key")
            }
            Fault::ReportData { found, expected } => line("report_data", found.clone(), expected),
            Fault::Chip { found, expected } => line("chip_id", found.clone(), expected),
            Fault::VekTcb { found, expected } => {
                line("vek_spl", found.to_string(), &expected.to_string())
            }
            Fault::TcbOrder { lower_name, lower, upper_name, upper } => line(
                &format!("{lower_name}_tcb"),
                lower.to_string(),
                &format!("at most the {upper_name} one: {upper}"),
            ),
        }
    }

    /// The rule that was broken, as text a reader can look up.
    fn source_clause(&self) -> &'static str {
        match self.rank() {
            0..=4 | 10..=12 => "SEV-SNP Firmware ABI (56860), ATTESTATION_REPORT",
            5 => "GHCB specification (56421), SNP Extended Guest Request",
            30..=40 | 52 => "SEV-SNP Firmware ABI (56860), ATTESTATION_REPORT",
            _ => "VCEK Certificate and KDS Interface Specification (57230)",
        }
    }
}

impl Role {
    const fn claim(self) -> &'static str {
        match self {
            Role::Vek => "vek",
            Role::Issuer => "chain.issuer",
            Role::Root => "chain.root",
            Role::Chain => "chain",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Vek => "key that signed the report",
            Role::Issuer => "issuer",
            Role::Root => "root",
            Role::Chain => "chain",
        })
    }
}
