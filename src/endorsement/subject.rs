//! What an endorsement is about. Its written form is a key of the cache, the name of a file in it,
//! and what bundles and people call it.
//!
//! | written | body |
//! |---|---|
//! | `snp-vcek-Milan-<hardware id>-<TCB parts>` | certificate of that chip's key, DER or PEM |
//! | `snp-issuer-vcek-Milan` | ASK or ASVK and ARK, DER or PEM |
//! | `snp-crl-vcek-Milan` | revocation list of the ARK, DER or PEM |
//! | `tdx-collateral-<FMSPC>-platform-standard` | collateral as JSON |

use std::fmt;
use std::str::FromStr;

use assay_snp::Product;
use assay_snp::Tcb;
use assay_snp::endorsement::Chip;
use assay_snp::product::TcbLayout;
use assay_snp::report::SigningKey;
use assay_tdx::endorsement::PckCa;
use assay_tdx::endorsement::TcbUpdate;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The certificate of a chip's key at a TCB. Never of a VLEK: its owner hands that out.
    SnpVcek {
        product: Product,
        chip: Chip,
    },
    /// The certificates above keys of a kind.
    SnpIssuer {
        product: Product,
        kind: SigningKey,
    },
    SnpCrl {
        product: Product,
        kind: SigningKey,
    },
    TdxCollateral(assay_tdx::endorsement::Wanted),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no endorsement")]
pub struct UnknownSubject(pub String);

impl Subject {
    /// The kind, as tables show it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Subject::SnpVcek { .. } => "snp-vcek",
            Subject::SnpIssuer { .. } => "snp-issuer",
            Subject::SnpCrl { .. } => "snp-crl",
            Subject::TdxCollateral(_) => "tdx-collateral",
        }
    }

    /// One of the few that a product has, whatever chips there are.
    pub(super) const fn is_of_a_product(&self) -> bool {
        matches!(self, Subject::SnpIssuer { .. } | Subject::SnpCrl { .. })
    }

    /// What has to be known above it, where that is not built in.
    pub(super) fn issuer(&self) -> Option<Subject> {
        match self {
            Subject::SnpVcek { product, .. } => {
                Some(Subject::SnpIssuer { product: *product, kind: SigningKey::Vcek })
            }
            _ => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match self {
            Subject::SnpVcek { product, chip } => {
                let parts: Vec<String> =
                    tcb_parts(&chip.tcb).map(|part| part.to_string()).collect();
                let id = hex::encode(&chip.hardware_id);
                write!(f, "{kind}-{product}-{id}-{}", parts.join("."))
            }
            Subject::SnpIssuer { product, kind: key } | Subject::SnpCrl { product, kind: key } => {
                write!(f, "{kind}-{}-{product}", key_name(*key))
            }
            Subject::TdxCollateral(wanted) => {
                let fmspc = hex::encode(wanted.fmspc);
                write!(f, "{kind}-{fmspc}-{}-{}", wanted.ca, wanted.update)
            }
        }
    }
}

impl FromStr for Subject {
    type Err = UnknownSubject;

    /// Exactly what `Display` writes: one subject has one name.
    fn from_str(text: &str) -> Result<Subject, UnknownSubject> {
        let unknown = || UnknownSubject(text.chars().take(MAX_TEXT).collect());
        if text.len() > MAX_TEXT {
            return Err(unknown());
        }
        let parts: Vec<&str> = text.split('-').collect();
        let subject = match parts.as_slice() {
            ["snp", "vcek", product, id, tcb] => vcek(product, id, tcb),
            ["snp", "issuer", kind, product] => {
                pair(kind, product).map(|(product, kind)| Subject::SnpIssuer { product, kind })
            }
            ["snp", "crl", kind, product] => {
                pair(kind, product).map(|(product, kind)| Subject::SnpCrl { product, kind })
            }
            ["tdx", "collateral", fmspc, ca, update] => collateral(fmspc, ca, update),
            _ => None,
        };
        subject.filter(|subject| subject.to_string() == text).ok_or_else(unknown)
    }
}

fn vcek(product: &str, id: &str, tcb: &str) -> Option<Subject> {
    let product = Product::from_name(product)?;
    let hardware_id = hex::decode(id).ok().filter(|id| id.len() == product.chip_id_size())?;
    let levels: Vec<u8> =
        tcb.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<u8>>>()?;
    let (fmc, rest) = match (product.tcb_layout(), levels.as_slice()) {
        (TcbLayout::BeforeTurin, rest) => (None, rest),
        (TcbLayout::SinceTurin, [fmc, rest @ ..]) => (Some(*fmc), rest),
        (TcbLayout::SinceTurin, []) => return None,
    };
    let [bootloader, tee, snp, microcode] = *rest else { return None };
    let tcb = Tcb { fmc, bootloader, tee, snp, microcode };
    Some(Subject::SnpVcek { product, chip: Chip { hardware_id, tcb } })
}

fn pair(kind: &str, product: &str) -> Option<(Product, SigningKey)> {
    let kind =
        [SigningKey::Vcek, SigningKey::Vlek].into_iter().find(|key| key_name(*key) == kind)?;
    Some((Product::from_name(product)?, kind))
}

fn collateral(fmspc: &str, ca: &str, update: &str) -> Option<Subject> {
    Some(Subject::TdxCollateral(assay_tdx::endorsement::Wanted {
        fmspc: hex::decode(fmspc).ok()?.try_into().ok()?,
        ca: PckCa::from_name(ca)?,
        update: TcbUpdate::from_name(update)?,
    }))
}

const fn key_name(kind: SigningKey) -> &'static str {
    match kind {
        SigningKey::Vcek => "vcek",
        SigningKey::Vlek => "vlek",
    }
}

/// Only the parts that the product has.
fn tcb_parts(tcb: &Tcb) -> impl Iterator<Item = u8> {
    tcb.fmc.into_iter().chain([tcb.bootloader, tcb.tee, tcb.snp, tcb.microcode])
}

/// The longest has 64 bytes in hex.
const MAX_TEXT: usize = 200;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_subject_has_one_name_and_no_other_is_read() {
        let chip = "c1".repeat(64);
        let names = [
            format!("snp-vcek-Milan-{chip}-4.0.24.219"),
            "snp-vcek-Turin-c1c1c1c1c1c1c1c1-1.2.3.4.81".to_owned(),
            "snp-issuer-vlek-Genoa".to_owned(),
            "snp-crl-vcek-Milan".to_owned(),
            "tdx-collateral-00806f050000-platform-standard".to_owned(),
        ];
        for name in &names {
            assert_eq!(name.parse::<Subject>().unwrap().to_string(), *name);
        }
        for wrong in [
            "".to_owned(),
            "snp-crl-vcek".to_owned(),
            "snp-crl-VCEK-Milan".to_owned(),
            "snp-crl-vcek-Milan-".to_owned(),
            format!("snp-vcek-Milan-{chip}-4.0.24"),
            format!("snp-vcek-Milan-{chip}-04.0.24.219"),
            format!("snp-vcek-Milan-{}-4.0.24.219", chip.to_uppercase()),
            "snp-vcek-Turin-c1c1c1c1c1c1c1c1-2.3.4.81".to_owned(),
            "tdx-collateral-00806f0500-platform-standard".to_owned(),
            "tdx-collateral-00806F050000-platform-standard".to_owned(),
            "../../etc/passwd".to_owned(),
            "x".repeat(10_000),
        ] {
            assert!(wrong.parse::<Subject>().is_err(), "{wrong}");
        }
    }
}
