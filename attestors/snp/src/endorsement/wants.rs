//! What would have to be fetched to verify a report: paths of AMD's key distribution service.
//!
//! Only names them; whoever is online fetches, keeps and hands over the bytes (VCEK Certificate and
//! KDS Interface Specification 57230, `https://kdsintf.amd.com`). What comes back is believed no
//! more for where it came from.

use crate::product::Product;
use crate::report::Report;
use crate::report::SigningKey;

/// Paths below the service's address; the same path is always the same certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// The signing key's certificate; nothing where only its owner can get it, as with a VLEK, or
    /// where the report hides its chip.
    pub vek: Option<String>,
    /// Issuer and root, PEM. Both are built in for the products of today.
    pub chain: String,
    /// The revocation list of the root, DER.
    pub crl: String,
}

/// Nothing for a report that no key signed. A report of version 2 does not name its product, so it
/// has to be said; one that names another is not of it.
pub fn wants(report: &Report, product: Option<Product>) -> Option<Wanted> {
    let named = match report.cpuid {
        Some(cpuid) => Some(Product::from_cpuid(cpuid)?),
        None => product,
    };
    let product = named.filter(|named| product.is_none_or(|said| said == *named))?;
    let service = match report.key_info.signing_key()? {
        SigningKey::Vcek => "vcek",
        SigningKey::Vlek => "vlek",
    };
    let vek = match report.key_info.signing_key()? {
        SigningKey::Vcek if report.chip_id != [0; 64] => Some(vcek_path(report, product)?),
        _ => None,
    };
    Some(Wanted {
        vek,
        chain: format!("/{service}/v1/{product}/cert_chain"),
        crl: format!("/{service}/v1/{product}/crl"),
    })
}

fn vcek_path(report: &Report, product: Product) -> Option<String> {
    let tcb = report.reported_tcb.read(product)?;
    let chip = hex::encode(report.chip_id.get(..product.chip_id_size())?);
    let fmc = tcb.fmc.map_or_else(String::new, |fmc| format!("fmcSPL={fmc:02}&"));
    let (bootloader, tee, snp, microcode) = (tcb.bootloader, tcb.tee, tcb.snp, tcb.microcode);
    Some(format!(
        "/vcek/v1/{product}/{chip}?{fmc}blSPL={bootloader:02}&teeSPL={tee:02}&snpSPL={snp:02}\
         &ucodeSPL={microcode:02}"
    ))
}
