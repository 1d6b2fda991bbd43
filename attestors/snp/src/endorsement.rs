//! What AMD says of a signing key: the certificate of a VCEK or VLEK, read and led to a root.
//!
//! ARK `ARK-<product>` → ASK `SEV-<product>` → VCEK, or ARK → ASVK `SEV-VLEK-<product>` → VLEK
//! (VCEK Certificate and KDS Interface Specification 57230). Every certificate is signed by
//! RSASSA-PSS with SHA-384 and a salt of 48 bytes, and by nothing else. A VCEK has serial number
//! zero, so revocation is asked of its issuer.
//!
//! Signatures hold for ever and are remembered ([`Anchors`]); dates and revocation are asked anew
//! each time.

use assay_evidence::Certificate;
use assay_evidence::Curve;
use assay_evidence::HashAlgorithm;
use assay_evidence::PublicKey;
use assay_evidence::certificate::CertificateSignature;
use assay_evidence::crypto::SignatureScheme;

use crate::error::Fault;
use crate::error::Role;
use crate::product::Product;
use crate::product::TcbLayout;
use crate::report::SigningKey;
use crate::tcb::Tcb;

mod anchors;
mod apart;
mod revocation;
mod wants;

pub use anchors::Anchors;
pub use anchors::Root;
pub use apart::Dates;
pub use apart::verify_issuer;
pub use apart::verify_list;
pub(crate) use revocation::Revocation;
pub use wants::Chip;
pub use wants::Wanted;
pub use wants::wants;

/// The certificate of a key that signs reports, as it says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vek {
    pub certificate: Certificate,
    pub kind: SigningKey,
    pub product: Product,
    pub tcb: Tcb,
    /// The chip, of a VCEK.
    pub hardware_id: Option<Vec<u8>>,
    /// The cloud provider, of a VLEK.
    pub csp_id: Option<String>,
    pub key: PublicKey,
}

/// A signing key's certificate that leads to a root, signature by signature.
#[derive(Clone, Debug)]
pub struct Chain {
    pub(crate) vek: Vek,
    pub(crate) issuer: Certificate,
    pub(crate) root: Root,
    /// What the root's revocation list says, where one was given.
    pub(crate) revocation: Option<Revocation>,
}

/// What a certificate above a signing key is, by the name that AMD gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Authority {
    Ark(Product),
    Ask(Product),
    Asvk(Product),
}

impl Vek {
    /// Reads one; whether any of it is true is for [`Anchors`] to say.
    pub fn read(certificate: Certificate) -> Result<Vek, Fault> {
        let missing = |field| Fault::CertificateField { role: Role::Vek, field };
        let extensions = certificate.extensions();
        if !extensions.unknown_critical.is_empty() {
            return Err(missing("extensions without unknown critical ones"));
        }
        let kind = match certificate.subject_common_name() {
            Some("SEV-VCEK") => SigningKey::Vcek,
            Some("SEV-VLEK") => SigningKey::Vlek,
            _ => return Err(missing("common name `SEV-VCEK` or `SEV-VLEK`")),
        };
        let key = match certificate.public_key() {
            Ok(key @ PublicKey::Ec { curve: Curve::P384, .. }) => key.clone(),
            _ => return Err(missing("P-384 key")),
        };
        let product = certificate
            .extension(PRODUCT_NAME)
            .and_then(|name| der_value(IA5_STRING, name.value))
            .and_then(|name| std::str::from_utf8(name).ok())
            .and_then(Product::from_product_name)
            .ok_or(missing("productName"))?;
        let tcb = tcb(&certificate, product)?;
        let hardware_id =
            certificate.extension(HARDWARE_ID).map(|id| hardware_id(id.value, product));
        let csp_id = certificate
            .extension(CSP_ID)
            .and_then(|id| der_value(IA5_STRING, id.value))
            .and_then(|id| std::str::from_utf8(id).ok())
            .map(str::to_owned);
        // Each kind says whose it is: which chip, or which provider.
        let hardware_id = match (kind, hardware_id, &csp_id) {
            (SigningKey::Vcek, Some(Some(id)), None) => Some(id),
            (SigningKey::Vlek, None, Some(_)) => None,
            (SigningKey::Vcek, ..) => return Err(missing("hardware id")),
            (SigningKey::Vlek, ..) => return Err(missing("provider id")),
        };
        Ok(Vek { certificate, kind, product, tcb, hardware_id, csp_id, key })
    }
}

impl Chain {
    /// All checks that hold for ever: names, rights, keys, signatures. Every fault is told.
    ///
    /// `shown` came with the evidence and `known` is built in. An issuer that was shown counts
    /// alone, so that a wrong chain is told and not quietly replaced by the right one.
    pub(crate) fn build(
        vek: Vek,
        shown: &[Certificate],
        known: &[Certificate],
        roots: &[Root],
        list: Option<&[u8]>,
    ) -> Result<Chain, Vec<Fault>> {
        let mut faults = foreign_roots(shown, roots);
        if shown.iter().any(|certificate| is_stranger(certificate, roots)) {
            let field = "name of AMD's hierarchy";
            faults.push(Fault::CertificateField { role: Role::Chain, field });
        }
        let issuer = match issuer_of(&vek, shown, known) {
            Ok(issuer) => issuer,
            Err(fault) => {
                faults.push(fault);
                return Err(faults);
            }
        };
        let expected = Authority::issuer(vek.product, vek.kind);
        faults.extend(authority_fault(&vek, Authority::of(&issuer), expected, &issuer));
        faults.extend(accept_signed(&vek.certificate, &issuer, Role::Vek, Role::Issuer).map(
            |fault| match fault {
                Fault::ChainBroken { .. } => {
                    Fault::VekSignature { kind: vek.kind, issuer: name(&issuer) }
                }
                other => other,
            },
        ));
        if !issuer.extensions().unknown_critical.is_empty() {
            let field = "extensions without unknown critical ones";
            faults.push(Fault::CertificateField { role: Role::Issuer, field });
        }
        match root_of(&issuer, shown, roots) {
            Ok(root) => {
                match Authority::of(&root.certificate) {
                    Some(Authority::Ark(product)) if product == vek.product => {}
                    // The operator vouches for it, whatever it is called.
                    None if root.operator_supplied => {}
                    _ => faults.push(Fault::Product {
                        place: "chain.root",
                        found: name(&root.certificate),
                        expected: vek.product,
                    }),
                }
                let revocation =
                    list.map(|list| Revocation::read(list, &issuer, &root)).transpose();
                match revocation {
                    Ok(revocation) if faults.is_empty() => {
                        return Ok(Chain { vek, issuer, root, revocation });
                    }
                    Ok(_) => {}
                    Err(what) => faults.push(Fault::Crl(what)),
                }
            }
            Err(fault) => faults.push(fault),
        }
        faults.dedup();
        Err(faults)
    }
}

/// A root that was shown is one of the pinned ones, byte for byte, or it is a fault: a chain never
/// adds trust.
fn foreign_roots(shown: &[Certificate], roots: &[Root]) -> Vec<Fault> {
    shown
        .iter()
        .filter(|certificate| {
            let is_root = certificate.subject() == certificate.issuer()
                || matches!(Authority::of(certificate), Some(Authority::Ark(_)));
            is_root && !roots.iter().any(|root| root.certificate == **certificate)
        })
        .map(|root| Fault::Root { found: name(root) })
        .collect()
}

/// A certificate that has no place in such a chain is a damaged one, or a mistake.
fn is_stranger(certificate: &Certificate, roots: &[Root]) -> bool {
    let signing_key = matches!(certificate.subject_common_name(), Some("SEV-VCEK" | "SEV-VLEK"));
    Authority::of(certificate).is_none()
        && !signing_key
        && certificate.subject() != certificate.issuer()
        && !roots.iter().any(|root| root.certificate == *certificate)
}

/// The issuer by its name. Of several with the right name, the one that did sign, else the first.
fn issuer_of(
    vek: &Vek,
    shown: &[Certificate],
    known: &[Certificate],
) -> Result<Certificate, Fault> {
    let named = |set: &[Certificate]| -> Option<Certificate> {
        let of_name = || set.iter().filter(|other| other.subject() == vek.certificate.issuer());
        let signed = |issuer: &&Certificate| {
            issuer.public_key().is_ok_and(|key| vek.certificate.verify_signature(key).is_ok())
        };
        of_name().find(signed).or_else(|| of_name().next()).cloned()
    };
    if let Some(issuer) = named(shown) {
        return Ok(issuer);
    }
    let known = named(known);
    // A chain was shown, and it is another one.
    let other = shown.iter().find_map(|certificate| match Authority::of(certificate) {
        Some(authority @ (Authority::Ask(_) | Authority::Asvk(_))) => {
            Some((certificate, authority))
        }
        _ => None,
    });
    match (other, known) {
        (None, Some(issuer)) => Ok(issuer),
        (None, None) => Err(Fault::ChainMissing(vek.issuer_expected())),
        (Some((certificate, authority)), _) => Err(if authority.product() == vek.product {
            Fault::VekIssuer {
                found: name(certificate),
                expected: vek.issuer_expected(),
                kind: vek.kind,
            }
        } else {
            Fault::Product { place: "chain", found: name(certificate), expected: vek.product }
        }),
    }
}

impl Vek {
    fn issuer_expected(&self) -> String {
        match self.kind {
            SigningKey::Vcek => format!("SEV-{}", self.product),
            SigningKey::Vlek => format!("SEV-VLEK-{}", self.product),
        }
    }
}

fn authority_fault(
    vek: &Vek,
    found: Option<Authority>,
    expected: Authority,
    issuer: &Certificate,
) -> Option<Fault> {
    match found {
        Some(found) if found == expected => None,
        Some(Authority::Ask(product) | Authority::Asvk(product)) if product != vek.product => {
            Some(Fault::Product {
                place: "chain.issuer",
                found: name(issuer),
                expected: vek.product,
            })
        }
        _ => Some(Fault::VekIssuer {
            found: name(issuer),
            expected: vek.issuer_expected(),
            kind: vek.kind,
        }),
    }
}

/// The pinned root that signed the issuer.
fn root_of(issuer: &Certificate, shown: &[Certificate], roots: &[Root]) -> Result<Root, Fault> {
    let mut broken = None;
    for root in roots.iter().filter(|root| root.certificate.subject() == issuer.issuer()) {
        match accept_signed(issuer, &root.certificate, Role::Issuer, Role::Root) {
            None => return Ok(root.clone()),
            Some(fault) => broken = Some(fault),
        }
    }
    // Signed by a root that was shown and is not pinned: that it is foreign says it all.
    let foreign = shown
        .iter()
        .filter(|root| root.subject() == issuer.issuer())
        .find(|root| accept_signed(issuer, root, Role::Issuer, Role::Root).is_none());
    match (foreign, broken) {
        (Some(root), _) => Err(Fault::Root { found: name(root) }),
        (None, Some(fault)) => Err(fault),
        (None, None) => Err(Fault::Root { found: format!("issuer of {}", name(issuer)) }),
    }
}

/// One step of the chain: by the vendor's one algorithm, by a key that may be relied on, of a CA.
fn accept_signed(
    child: &Certificate,
    issuer: &Certificate,
    child_role: Role,
    issuer_role: Role,
) -> Option<Fault> {
    let pss = CertificateSignature::Known(SignatureScheme::RsaPss(HashAlgorithm::Sha384));
    if child.signature_scheme() != Some(pss) {
        return Some(Fault::CertificateSignature { role: child_role });
    }
    let extensions = issuer.extensions();
    if !extensions.is_ca || extensions.key_usage.is_some_and(|usage| usage & KEY_CERT_SIGN == 0) {
        return Some(Fault::IssuerNotCa { role: issuer_role });
    }
    let Ok(key) = issuer.public_key() else {
        return Some(Fault::CertificateField { role: issuer_role, field: "key" });
    };
    if let Some(source) = key.fault() {
        return Some(Fault::KeyWeak { role: issuer_role, source });
    }
    child.verify_signature(key).err().map(|_| Fault::ChainBroken { role: child_role })
}

impl Authority {
    pub(crate) fn of(certificate: &Certificate) -> Option<Authority> {
        let name = certificate.subject_common_name()?;
        if let Some(product) = name.strip_prefix("ARK-") {
            return Product::from_name(product).map(Authority::Ark);
        }
        if let Some(product) = name.strip_prefix("SEV-VLEK-") {
            return Product::from_name(product).map(Authority::Asvk);
        }
        Product::from_name(name.strip_prefix("SEV-")?).map(Authority::Ask)
    }

    /// Who signs keys of this kind.
    pub(crate) const fn issuer(product: Product, kind: SigningKey) -> Authority {
        match kind {
            SigningKey::Vcek => Authority::Ask(product),
            SigningKey::Vlek => Authority::Asvk(product),
        }
    }

    const fn product(self) -> Product {
        match self {
            Authority::Ark(product) | Authority::Ask(product) | Authority::Asvk(product) => product,
        }
    }
}

fn name(certificate: &Certificate) -> String {
    let fingerprint = || hex::encode(certificate.sha256());
    certificate.subject_common_name().map_or_else(fingerprint, str::to_owned)
}

fn tcb(certificate: &Certificate, product: Product) -> Result<Tcb, Fault> {
    let unreadable = |field| Fault::CertificateField { role: Role::Vek, field };
    let part = |oid: &str| certificate.extension(oid).map(|raw| patch_level(raw.value));
    let required = |oid, field| part(oid).flatten().ok_or(unreadable(field));
    let fmc = match (product.tcb_layout(), part(FMC_SPL)) {
        (TcbLayout::SinceTurin, Some(Some(level))) => Some(level),
        (TcbLayout::BeforeTurin, None) => None,
        _ => return Err(unreadable("fmcSPL")),
    };
    // Reserved parts may be missing; one that says something is not understood.
    if RESERVED_SPL.iter().any(|oid| part(oid).is_some_and(|level| level != Some(0))) {
        return Err(unreadable("reserved SPL of zero"));
    }
    Ok(Tcb {
        fmc,
        bootloader: required(BOOTLOADER_SPL, "blSPL")?,
        tee: required(TEE_SPL, "teeSPL")?,
        snp: required(SNP_SPL, "snpSPL")?,
        microcode: required(MICROCODE_SPL, "ucodeSPL")?,
    })
}

/// INTEGER 0 to 255, shortest form: from 128 on there is a zero byte in front.
fn patch_level(value: &[u8]) -> Option<u8> {
    match value {
        [0x02, 0x01, level @ 0..=0x7f] | [0x02, 0x02, 0x00, level @ 0x80..=0xff] => Some(*level),
        _ => None,
    }
}

/// The bare bytes, or (some certificates) an OCTET STRING around them; as many as the product has.
fn hardware_id(value: &[u8], product: Product) -> Option<Vec<u8>> {
    let size = product.chip_id_size();
    let bare = match value {
        [0x04, 0x40, bare @ ..] if bare.len() == 64 => bare,
        bare => bare,
    };
    (bare.len() == size).then(|| bare.to_vec())
}

/// The contents of a short element with this tag and nothing behind it.
fn der_value(tag: u8, value: &[u8]) -> Option<&[u8]> {
    match value {
        [found, length @ 0..=0x7f, contents @ ..]
            if *found == tag && usize::from(*length) == contents.len() =>
        {
            Some(contents)
        }
        _ => None,
    }
}

const IA5_STRING: u8 = 0x16;
/// keyCertSign, RFC 5280 §4.2.1.3, bit 5.
const KEY_CERT_SIGN: u16 = 1 << 5;
/// Specification 57230, table "VCEK Certificate Extensions".
const PRODUCT_NAME: &str = "1.3.6.1.4.1.3704.1.2";
const BOOTLOADER_SPL: &str = "1.3.6.1.4.1.3704.1.3.1";
const TEE_SPL: &str = "1.3.6.1.4.1.3704.1.3.2";
const SNP_SPL: &str = "1.3.6.1.4.1.3704.1.3.3";
const RESERVED_SPL: [&str; 4] = [
    "1.3.6.1.4.1.3704.1.3.4",
    "1.3.6.1.4.1.3704.1.3.5",
    "1.3.6.1.4.1.3704.1.3.6",
    "1.3.6.1.4.1.3704.1.3.7",
];
const MICROCODE_SPL: &str = "1.3.6.1.4.1.3704.1.3.8";
const FMC_SPL: &str = "1.3.6.1.4.1.3704.1.3.9";
const HARDWARE_ID: &str = "1.3.6.1.4.1.3704.1.4";
const CSP_ID: &str = "1.3.6.1.4.1.3704.1.5";
