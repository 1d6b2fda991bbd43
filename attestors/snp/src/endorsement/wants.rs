//! What it takes to verify a report beside the report, and where AMD's key distribution service has
//! it.
//!
//! Only names it; whoever is online fetches, keeps and hands over the bytes (VCEK Certificate and
//! KDS Interface Specification 57230, `https://kdsintf.amd.com`). What comes back is believed no
//! more for where it came from, and [`Wanted`] was read from a report that nobody has verified.

use crate::product::Product;
use crate::report::Report;
use crate::report::SigningKey;
use crate::tcb::Tcb;

/// Whose certificates and list are wanted; the same path is always the same certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wanted {
    pub product: Product,
    pub kind: SigningKey,
    /// Nothing where only its owner can get the certificate, as with a VLEK, or where the report
    /// hides its chip.
    pub chip: Option<Chip>,
}

/// What a VCEK is derived from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Chip {
    /// As many bytes as the product has.
    pub hardware_id: Vec<u8>,
    pub tcb: Tcb,
}

/// Nothing for a report that no key signed. A report of version 2 does not name its product, so it
/// has to be said; one that names another is not of it.
pub fn wants(report: &Report, product: Option<Product>) -> Option<Wanted> {
    let named = match report.cpuid {
        Some(cpuid) => Some(Product::from_cpuid(cpuid)?),
        None => product,
    };
    let product = named.filter(|named| product.is_none_or(|said| said == *named))?;
    let kind = report.key_info.signing_key()?;
    let chip = match kind {
        SigningKey::Vcek if report.chip_id != [0; 64] => Some(Chip {
            hardware_id: report.chip_id.get(..product.chip_id_size())?.to_vec(),
            tcb: report.reported_tcb.read(product)?,
        }),
        _ => None,
    };
    Some(Wanted { product, kind, chip })
}

impl Wanted {
    /// The certificate of the chip's key, DER.
    pub fn vek_path(&self) -> Option<String> {
        self.chip.as_ref().map(|chip| chip.path(self.product))
    }

    /// Issuer and root, PEM. Both are built in for the products of today.
    pub fn chain_path(&self) -> String {
        let (service, product) = (self.kind.service(), self.product);
        format!("/{service}/v1/{product}/cert_chain")
    }

    /// The revocation list of the root, DER.
    pub fn crl_path(&self) -> String {
        let (service, product) = (self.kind.service(), self.product);
        format!("/{service}/v1/{product}/crl")
    }
}

impl Chip {
    pub fn path(&self, product: Product) -> String {
        let chip = hex::encode(&self.hardware_id);
        let Tcb { fmc, bootloader, tee, snp, microcode } = self.tcb;
        let fmc = fmc.map_or_else(String::new, |fmc| format!("fmcSPL={fmc:02}&"));
        format!(
            "/vcek/v1/{product}/{chip}?{fmc}blSPL={bootloader:02}&teeSPL={tee:02}\
             &snpSPL={snp:02}&ucodeSPL={microcode:02}"
        )
    }
}

impl SigningKey {
    const fn service(self) -> &'static str {
        match self {
            SigningKey::Vcek => "vcek",
            SigningKey::Vlek => "vlek",
        }
    }
}
