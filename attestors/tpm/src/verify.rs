//! From signed TPM statements to claims: the decisive list.
//!
//! The order is a promise: a fault of an earlier stage is never masked by a later one.
//!
//! 1. shape of every part, trailing bytes included
//! 2. keys and their attributes
//! 3. signatures, each by the key's own scheme
//! 4. magic and type of the statements
//! 5. place of the keys in the TPM
//! 6. freshness: the qualifying data, whole and exact
//! 7. the certified key, the selection and the register values
//! 8. counters
//!
//! Everything is an argument and nothing is remembered: the same bytes give the same verdict years
//! later. What the register values mean is the appraiser's business.

use assay_evidence::Finding;
use assay_evidence::HashAlgorithm;
use assay_evidence::Reader;
use assay_evidence::Reason;
use assay_evidence::Registers;
use assay_evidence::crypto;

use crate::ak::ProvedKey;
use crate::ak_certificate::AkCertificate;
use crate::certified;
use crate::certified::CertifiedKey;
use crate::certified::FirmwareVersion;
use crate::claims::AkClaims;
use crate::claims::Certification;
use crate::claims::Claims;
use crate::error::Error;
use crate::structures::attest;
use crate::structures::attest::Attest;
use crate::structures::attest::Attested;
use crate::structures::name::Hierarchy;
use crate::structures::name::Name;
use crate::structures::public::Public;
use crate::structures::selection::PcrSelection;
use crate::structures::selection::Selections;
use crate::structures::signature::Signature;

mod faults;
mod registers;

pub use faults::certify_faults;
pub use faults::faults;
pub use registers::Selection;
pub use registers::Values;

/// A statement and its signature as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed<'a> {
    /// TPMS_ATTEST.
    pub attest: &'a [u8],
    /// TPMT_SIGNATURE.
    pub signature: &'a [u8],
}

/// What a TPM showed of its state.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    pub quote: Signed<'a>,
    /// TPM2_Certify of the SVID key, by the same attestation key.
    pub certify: Option<Signed<'a>>,
    /// TPMT_PUBLIC of the SVID key.
    pub svid_public: Option<&'a [u8]>,
    pub values: Option<Values<'a>>,
}

/// What the verifier demands of the evidence.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The whole extraData: first 32 bytes of the binding, or a nonce.
    pub qualifying_data: &'a [u8],
    pub selection: Selection<'a>,
    /// SubjectPublicKeyInfo that the TPM must have certified. Without it a certification that is
    /// shown must still be right.
    pub svid_spki: Option<&'a [u8]>,
    /// Statements signed over anything weaker are refused.
    pub min_hash: HashAlgorithm,
    pub unknown_parent: UnknownParent,
}

/// What to do when nothing tells where in its TPM the attestation key lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownParent {
    Refuse,
    /// Say so in the claims.
    Report,
}

impl<'a> Evidence<'a> {
    /// From the items of an exchange: each statement is TPM2B_ATTEST ‖ TPMT_SIGNATURE.
    pub fn from_items(
        quote: &'a [u8],
        certify: Option<&'a [u8]>,
        svid_public: Option<&'a [u8]>,
        pcrs: Option<&'a [u8]>,
    ) -> Result<Evidence<'a>, Error> {
        Ok(Evidence {
            quote: Signed::from_item(quote)?,
            certify: certify.map(Signed::from_item).transpose()?,
            svid_public,
            values: pcrs.map(Values::Bare),
        })
    }
}

impl<'a> Signed<'a> {
    pub fn from_item(bytes: &'a [u8]) -> Result<Signed<'a>, Error> {
        let mut reader = Reader::new(bytes);
        let attest = reader.sized16(MAX_ATTEST)?;
        Ok(Signed { attest, signature: reader.rest() })
    }

    /// From two files; the statement may be a TPM2B_ATTEST or bare.
    pub fn from_files(attest: &'a [u8], signature: &'a [u8]) -> Signed<'a> {
        let mut reader = Reader::new(attest);
        match reader.sized16(MAX_ATTEST) {
            Ok(inner) if reader.is_empty() => Signed { attest: inner, signature },
            _ => Signed { attest, signature },
        }
    }

    pub fn parse(self) -> Result<(Attest<'a>, Signature<'a>), Error> {
        Ok((Attest::parse(self.attest)?, Signature::parse(self.signature)?))
    }
}

impl<'a> Expected<'a> {
    /// What an exchange demands: these registers and no others, at least SHA-256, a key that is
    /// known to live in the endorsement hierarchy.
    pub fn exchange(
        qualifying_data: &'a [u8],
        asked: &'a [PcrSelection],
        no_sha1: bool,
    ) -> Expected<'a> {
        Expected {
            qualifying_data,
            selection: Selection::Exactly { asked, no_sha1 },
            svid_spki: None,
            min_hash: HashAlgorithm::Sha256,
            unknown_parent: UnknownParent::Refuse,
        }
    }

    #[must_use]
    pub fn certifying(self, spki: &'a [u8]) -> Expected<'a> {
        Expected { svid_spki: Some(spki), ..self }
    }
}

/// Verifies a quote and, where there is one, the certification of the SVID key.
pub fn verify(
    evidence: &Evidence<'_>,
    key: &ProvedKey,
    expected: &Expected<'_>,
) -> Result<Claims, Error> {
    // 1. Shape.
    let (quote, quote_signature) = evidence.quote.parse()?;
    let shown = certification(evidence)?;

    // 2. Keys. Those of the attestation key were asked when it was parsed.
    if let Some(shown) = &shown {
        certified::accept_svid_public(&shown.public)?;
    }

    // 3. Signatures.
    key.verify_signature(quote.raw(), &quote_signature, expected.min_hash)?;
    if let Some(shown) = &shown {
        key.verify_signature(shown.attest.raw(), &shown.signature, expected.min_hash)?;
    }

    // 4. Magic and type.
    let (selections, pcr_digest) = quoted(&quote)?;
    let names = shown.as_ref().map(|shown| certified_names(&shown.attest)).transpose()?;

    // 5. Place of the keys.
    let mut not_checked = Vec::new();
    accept_signer(&quote, key, expected.unknown_parent, &mut not_checked)?;
    if let (Some(shown), Some((name, qualified_name))) = (&shown, names) {
        accept_signer(&shown.attest, key, expected.unknown_parent, &mut Vec::new())?;
        certified::accept_svid_hierarchy(name, qualified_name)?;
    }

    // 6. Freshness.
    accept_fresh(&quote, expected.qualifying_data)?;
    if let Some(shown) = &shown {
        accept_fresh(&shown.attest, expected.qualifying_data)?;
    }

    // 7. The certified key, the selection and the values.
    let certified_key = match (shown, names) {
        (Some(shown), Some(names)) => Some(certified_svid_key(shown, names, expected.svid_spki)?),
        _ if expected.svid_spki.is_some() => return Err(Error::Missing("key certification")),
        _ => None,
    };
    registers::accept_selection(&selections, &expected.selection)?;
    let hash = quote_signature.scheme.hash();
    let registers = match evidence.values {
        Some(values) => registers::registers(&selections, values, pcr_digest, hash)?,
        None if matches!(expected.selection, Selection::Exactly { .. }) => {
            return Err(Error::Missing("register values"));
        }
        None => {
            not_checked.push("registers: no values given");
            Registers::new()
        }
    };

    // 8. Counters.
    if let Some(certified) = &certified_key {
        accept_same_boot(&quote, certified)?;
    }

    Ok(Claims {
        ak: AkClaims::of(key),
        clock: quote.clock,
        firmware_version: FirmwareVersion(quote.firmware_version),
        selection: selections,
        pcr_digest: pcr_digest.to_vec(),
        registers,
        banks_off: registers::banks_off(&selections),
        certified_key,
        signature_hash: hash,
        not_checked,
        warnings: warnings(&quote, key),
    })
}

/// Verifies one certification by itself: of an issuing key, or of a file's key. What the key may
/// be used for is asked of the result.
pub fn verify_certify(
    certify: Signed<'_>,
    public: &[u8],
    key: &ProvedKey,
    qualifying_data: &[u8],
    min_hash: HashAlgorithm,
    unknown_parent: UnknownParent,
) -> Result<Certification, Error> {
    let (attest, signature) = certify.parse()?;
    let public = Public::parse_file(public)?;
    if let Some(fault) = public.key().fault() {
        return Err(Error::KeyWeak(fault));
    }
    key.verify_signature(attest.raw(), &signature, min_hash)?;
    let (name, qualified_name) = certified_names(&attest)?;
    let mut not_checked = Vec::new();
    accept_signer(&attest, key, unknown_parent, &mut not_checked)?;
    accept_fresh(&attest, qualifying_data)?;
    Ok(Certification {
        ak: AkClaims::of(key),
        certified_key: certified_key(&attest, public, name, qualified_name)?,
        signature_hash: signature.scheme.hash(),
        not_checked,
        warnings: warnings(&attest, key),
    })
}

/// A certification with the public area it is said to be of.
struct Shown<'a> {
    attest: Attest<'a>,
    signature: Signature<'a>,
    public: Public,
}

fn certification<'a>(evidence: &Evidence<'a>) -> Result<Option<Shown<'a>>, Error> {
    match (evidence.certify, evidence.svid_public) {
        (Some(certify), Some(public)) => {
            let (attest, signature) = certify.parse()?;
            Ok(Some(Shown { attest, signature, public: Public::parse(public)? }))
        }
        (None, None) => Ok(None),
        (Some(_), None) => Err(Error::Missing("public area of the certified key")),
        (None, Some(_)) => Err(Error::Missing("key certification")),
    }
}

fn quoted<'a>(quote: &Attest<'a>) -> Result<(Selections, &'a [u8]), Error> {
    accept_magic(quote)?;
    match quote.attested {
        Attested::Quote { selections, pcr_digest } => Ok((selections, pcr_digest)),
        _ => Err(Error::Kind { found: quote.kind, expected: attest::QUOTE }),
    }
}

fn certified_names<'a>(statement: &Attest<'a>) -> Result<(&'a [u8], &'a [u8]), Error> {
    accept_magic(statement)?;
    match statement.attested {
        Attested::Certify { name, qualified_name } => Ok((name, qualified_name)),
        _ => Err(Error::Kind { found: statement.kind, expected: attest::CERTIFY }),
    }
}

fn accept_magic(statement: &Attest<'_>) -> Result<(), Error> {
    match statement.magic {
        attest::MAGIC => Ok(()),
        found => Err(Error::Magic { found }),
    }
}

/// The signer must be a primary of the endorsement hierarchy or a child of the endorsement key:
/// for a key anywhere else the TPM blurs counters and firmware version (Part 1, §36.7).
fn accept_signer(
    statement: &Attest<'_>,
    key: &ProvedKey,
    unknown_parent: UnknownParent,
    not_checked: &mut Vec<&'static str>,
) -> Result<(), Error> {
    let Some(name) = key.name() else {
        not_checked.push("ak-attributes: only the bare key was given");
        not_checked.push("hierarchy: only the bare key was given");
        return Ok(());
    };
    let signer = statement.qualified_signer;
    match Hierarchy::of_primary(&name, signer) {
        Some(Hierarchy::Endorsement) => return Ok(()),
        Some(found) => return Err(Error::AkHierarchy { found: Some(found) }),
        None => {}
    }
    match key.endorsement_qualified_name().map(|parent| name.child_of(parent)) {
        Some(child) if child.is_some_and(|child| child.as_bytes() == signer) => Ok(()),
        None if unknown_parent == UnknownParent::Report => {
            not_checked.push("hierarchy: the parent of the attestation key is not known");
            Ok(())
        }
        _ => Err(Error::AkHierarchy { found: None }),
    }
}

fn accept_fresh(statement: &Attest<'_>, qualifying_data: &[u8]) -> Result<(), Error> {
    // An empty nonce would make every statement without one fresh.
    if !qualifying_data.is_empty() && statement.extra_data == qualifying_data {
        return Ok(());
    }
    Err(Error::Nonce { found: statement.extra_data.to_vec(), expected: qualifying_data.to_vec() })
}

fn certified_svid_key(
    shown: Shown<'_>,
    (name, qualified_name): (&[u8], &[u8]),
    spki: Option<&[u8]>,
) -> Result<CertifiedKey, Error> {
    let not_certified =
        |found: String, expected: String| Err(Error::SvidKeyNotCertified { found, expected });
    if shown.public.name().as_bytes() != name {
        return not_certified(hex::encode(name), shown.public.name().to_string());
    }
    let key = certified_key(&shown.attest, shown.public, name, qualified_name)?;
    match spki {
        // The key is rebuilt from what was certified, so that one key has one form.
        Some(spki) if crypto::sha256(spki) != *key.spki_sha256() => {
            not_certified(hex::encode(key.spki_sha256()), hex::encode(crypto::sha256(spki)))
        }
        _ => Ok(key),
    }
}

fn certified_key(
    statement: &Attest<'_>,
    public: Public,
    name: &[u8],
    qualified_name: &[u8],
) -> Result<CertifiedKey, Error> {
    if public.name().as_bytes() != name {
        return Err(Error::CertifiedName {
            found: hex::encode(name),
            expected: public.name().to_string(),
        });
    }
    let qualified_name =
        Name::from_bytes(qualified_name).ok_or(Error::Malformed { place: "qualified name" })?;
    Ok(CertifiedKey::new(public, qualified_name, statement.clock, statement.firmware_version))
}

/// Both statements must be of one boot: a key from before a reset is not in the state after it.
fn accept_same_boot(quote: &Attest<'_>, certified: &CertifiedKey) -> Result<(), Error> {
    let quote = (quote.clock.reset_count, quote.clock.restart_count);
    let certify = (certified.clock().reset_count, certified.clock().restart_count);
    if quote != certify {
        return Err(Error::ResetBetween { quote, certify });
    }
    Ok(())
}

/// What is said and not refused: after an unclean stop the TPM does not vouch for its clock for a
/// while, and what the chain of the key's certificate was borne with, such as SHA-1 of old CAs.
fn warnings(statement: &Attest<'_>, key: &ProvedKey) -> Vec<Finding> {
    let mut warnings = Vec::new();
    if !statement.clock.safe {
        warnings.push(Finding::new(
            Reason::ClockUnsafe,
            "clock.safe",
            "false",
            "true",
            "TPM 2.0 Library, Part 1, §36",
        ));
    }
    warnings.extend(key.certificate().into_iter().flat_map(AkCertificate::warnings));
    warnings
}

/// TPM2B_ATTEST: the largest statement is far smaller.
const MAX_ATTEST: usize = 2048;
