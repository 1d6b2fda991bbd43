//! The envelope of evidence: media type and bytes, and the claims that came out of it.
//!
//! A closed set: new hardware is a new crate under `attestors/`, one media type here and one arm
//! in each `match`.

use std::fmt;
use std::str::FromStr;

use assay_evidence::Finding;
use assay_evidence::digest::Digest;
use assay_evidence::digest::HashAlgorithm;
use assay_evidence::digest::Registers;
use assay_tpm::ClockInfo;
use serde::Serialize;

const PREFIX: &str = "application/vnd.assay.";
/// Bytes of a list of measured files: some half a million of them.
const MAX_LIST: u64 = 64 * 1_024 * 1_024;

/// What an evidence item holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MediaType {
    /// TPM2B_ATTEST ‖ TPMT_SIGNATURE of a quote.
    TpmQuote,
    /// TPM2B_ATTEST ‖ TPMT_SIGNATURE of a key certification.
    TpmCertify,
    /// The same of the attestation key, by the key of a certificate: machines without one of an EK.
    TpmAkCertify,
    /// Bare register values in the order of the signed selection.
    TpmPcrs,
    TcgEventlog,
    ImaBinary,
    ImaAscii,
    /// The kernel's command line: a text that a boot log may have only as a digest.
    KernelCmdline,
    /// ATTESTATION_REPORT of an SEV-SNP guest, 1184 bytes.
    SnpReport,
    /// The certificate table that a host hands its SNP guests.
    SnpHostCerts,
    TdxQuote,
    /// The boot log of a TD, whose digests are in its RTMRs.
    Ccel,
    /// NV index 0x01400001 of the vTPM of an Azure confidential VM.
    HclReport,
}

impl MediaType {
    pub const ALL: [Self; 13] = [
        Self::TpmQuote,
        Self::TpmCertify,
        Self::TpmAkCertify,
        Self::TpmPcrs,
        Self::TcgEventlog,
        Self::ImaBinary,
        Self::ImaAscii,
        Self::KernelCmdline,
        Self::SnpReport,
        Self::SnpHostCerts,
        Self::TdxQuote,
        Self::Ccel,
        Self::HclReport,
    ];

    /// What a processor says of its guest, and what such a report is verified with.
    pub fn is_of_the_processor(self) -> bool {
        matches!(
            self,
            Self::SnpReport | Self::SnpHostCerts | Self::TdxQuote | Self::Ccel | Self::HclReport
        )
    }

    /// The short word used in `kinds` and `want`: `tpm-quote`.
    pub fn word(self) -> &'static str {
        match self {
            Self::TpmQuote => "tpm-quote",
            Self::TpmCertify => "tpm-certify",
            Self::TpmAkCertify => "tpm-ak-certify",
            Self::TpmPcrs => "tpm-pcrs",
            Self::TcgEventlog => "tcg-eventlog",
            Self::ImaBinary => "ima-binary",
            Self::ImaAscii => "ima-ascii",
            Self::KernelCmdline => "kernel-cmdline",
            Self::SnpReport => "snp-report",
            Self::SnpHostCerts => "snp-host-certs",
            Self::TdxQuote => "tdx-quote",
            Self::Ccel => "ccel",
            Self::HclReport => "hcl-report",
        }
    }

    /// The most bytes an item of this kind may have.
    pub fn limit(self) -> u64 {
        match self {
            Self::TpmQuote | Self::TpmCertify | Self::TpmAkCertify => 4 * 1_024,
            Self::TpmPcrs => 8 * 1_024,
            Self::KernelCmdline => 64 * 1_024,
            Self::SnpReport => 4 * 1_024,
            Self::HclReport => 16 * 1_024,
            Self::TdxQuote => 32 * 1_024,
            Self::SnpHostCerts => 64 * 1_024,
            Self::TcgEventlog | Self::Ccel => 1_024 * 1_024,
            Self::ImaBinary | Self::ImaAscii => MAX_LIST,
        }
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.word())
    }
}

impl FromStr for MediaType {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let word = text.strip_prefix(PREFIX).unwrap_or(text);
        Self::ALL
            .into_iter()
            .find(|media_type| media_type.word() == word)
            .ok_or_else(|| format!("`{text}` is not a media type of evidence"))
    }
}

/// One evidence item as received.
#[derive(Debug, Clone)]
pub struct Item {
    pub media_type: MediaType,
    pub bytes: Vec<u8>,
}

/// Verified claims of any attestor.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Claims {
    Tpm(assay_tpm::Claims),
}

impl Claims {
    pub fn register(&self, bank: HashAlgorithm, index: u32) -> Option<&Digest> {
        match self {
            Self::Tpm(claims) => claims.registers().value(bank, index),
        }
    }

    /// All registers of every bank that is on.
    pub fn all_registers(&self) -> &Registers {
        match self {
            Self::Tpm(claims) => claims.registers(),
        }
    }

    /// All registers of one bank, ascending.
    pub fn registers(&self, bank: HashAlgorithm) -> impl Iterator<Item = (u32, &Digest)> {
        let registers = match self {
            Self::Tpm(claims) => claims.registers().bank(bank),
        };
        registers.into_iter().flatten().map(|(index, digest)| (*index, digest))
    }

    pub fn clock(&self) -> ClockInfo {
        match self {
            Self::Tpm(claims) => claims.clock(),
        }
    }

    /// TPMS_ATTEST firmwareVersion, as it was signed.
    pub fn firmware_version(&self) -> u64 {
        match self {
            Self::Tpm(claims) => claims.firmware_version(),
        }
    }

    pub fn warnings(&self) -> &[Finding] {
        match self {
            Self::Tpm(claims) => claims.warnings(),
        }
    }

    pub fn not_checked(&self) -> &[&'static str] {
        match self {
            Self::Tpm(claims) => claims.not_checked(),
        }
    }
}

/// What the processor of a confidential machine says of its guest, verified.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum TeeClaims {
    Snp(Box<assay_snp::Claims>),
    Tdx(Box<assay_tdx::Claims>),
}

impl TeeClaims {
    /// `snp` or `tdx`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Snp(_) => "snp",
            Self::Tdx(_) => "tdx",
        }
    }

    /// SHA-256 of the signed bytes.
    pub fn evidence_id(&self) -> &[u8; 32] {
        match self {
            Self::Snp(claims) => claims.evidence_id(),
            Self::Tdx(claims) => claims.evidence_id(),
        }
    }

    pub fn report_data(&self) -> &[u8; 64] {
        match self {
            Self::Snp(claims) => claims.report_data(),
            Self::Tdx(claims) => claims.report_data(),
        }
    }

    pub fn not_checked(&self) -> &[&'static str] {
        match self {
            Self::Snp(claims) => claims.not_checked(),
            Self::Tdx(claims) => claims.not_checked(),
        }
    }
}
