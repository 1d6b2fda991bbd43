//! What it takes to verify a quote beside the quote: Intel's collateral for this kind of platform.
//!
//! Only names it; whoever is online fetches it (Intel SGX and TDX Provisioning Certification
//! Service API, version 4) and hands over the bundle. [`Wanted`] was read from a quote that nobody
//! has verified.

use std::fmt;

use assay_evidence::Certificate;

use crate::endorsement::PckFacts;
use crate::error::Error;
use crate::pem;
use crate::quote::Quote;

/// One bundle of collateral is right for every platform that agrees in these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wanted {
    pub fmspc: [u8; 6],
    pub ca: PckCa,
    pub update: TcbUpdate,
}

/// Which of Intel's two CAs certified the platform; each has a revocation list of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PckCa {
    /// Platforms of one package.
    Processor,
    /// Platforms of several.
    Platform,
}

/// Which of two evaluations: after a TCB recovery Intel publishes the new one at once (`early`)
/// and, when machines have had time to follow, as `standard`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TcbUpdate {
    #[default]
    Standard,
    Early,
}

/// Reads the PCK certificate of a quote as it says of itself.
pub fn wants(quote: &Quote<'_>, update: TcbUpdate) -> Result<Wanted, Error> {
    let certificates = pem::certificates(quote.certified().pck_chain_pem(), pem::Form::Quote)
        .map_err(Error::PckPem)?;
    let leaf = certificates.first().ok_or(Error::PckExtension("certificate"))?;
    let ca = certificates.get(1).and_then(PckCa::of).ok_or(Error::PckExtension("issuer"))?;
    Ok(Wanted { fmspc: PckFacts::parse(leaf)?.fmspc, ca, update })
}

impl PckCa {
    pub(crate) fn of(certificate: &Certificate) -> Option<PckCa> {
        match certificate.subject_common_name()? {
            "Intel SGX PCK Processor CA" => Some(PckCa::Processor),
            "Intel SGX PCK Platform CA" => Some(PckCa::Platform),
            _ => None,
        }
    }

    /// As the service spells it.
    pub const fn name(self) -> &'static str {
        match self {
            PckCa::Processor => "processor",
            PckCa::Platform => "platform",
        }
    }

    pub fn from_name(name: &str) -> Option<PckCa> {
        [PckCa::Processor, PckCa::Platform].into_iter().find(|ca| ca.name() == name)
    }
}

impl TcbUpdate {
    /// As the service spells it.
    pub const fn name(self) -> &'static str {
        match self {
            TcbUpdate::Standard => "standard",
            TcbUpdate::Early => "early",
        }
    }

    pub fn from_name(name: &str) -> Option<TcbUpdate> {
        [TcbUpdate::Standard, TcbUpdate::Early].into_iter().find(|update| update.name() == name)
    }
}

impl fmt::Display for PckCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for TcbUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
