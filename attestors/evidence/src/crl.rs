//! Certificate revocation lists, held against one issuer's key, offline.
//!
//! A list is a statement of one CA at one time: it is read strictly, bounded in size, and what it
//! does not say plainly is refused. Delta lists and indirect ones are not read, for taking one for
//! a full list of its signer would turn "revoked" into "not on the list". Fetching is the business
//! of whoever is online.

use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use crate::certificate::Certificate;
use crate::crypto;
use crate::der;
use crate::der::Element;
use crate::der::INTEGER;
use crate::der::SEQUENCE;
use crate::der::without_leading_zeros;
use crate::extension;
use crate::extension::RawExtension;
use crate::extension::dotted;
use crate::key::PublicKey;
use crate::reason::Reason;
use crate::signed::Signed;
use crate::signed::SignedError;
use crate::signed::Strength;
use crate::time::Time;

/// One list, its signature not yet verified.
#[derive(Clone, Debug)]
pub struct RevocationList {
    sha256: [u8; 32],
    signed: Signed,
    issuer: Vec<u8>,
    this_update: Time,
    next_update: Option<Time>,
    scope: Scope,
    /// If the list is one of several, where it is to be had: each a GeneralName in DER, or the one
    /// relative name.
    parts: Vec<Vec<u8>>,
    /// Without leading zeros, sorted.
    revoked: Vec<Vec<u8>>,
}

/// Which certificates of its issuer a list speaks of (RFC 5280 §5.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    All,
    EndEntities,
    Authorities,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CrlError {
    #[error("{found} bytes where a revocation list may have {max}")]
    Size { found: usize, max: usize },
    #[error("not a revocation list")]
    Malformed,
    #[error("{0} bytes behind the revocation list")]
    Trailing(usize),
    #[error("the critical extension `{0}` of the list or of an entry is not understood")]
    CriticalExtension(String),
    #[error("the extension `{0}` is there twice")]
    DuplicateExtension(String),
    #[error("a list of changes only, not of all that is revoked")]
    Delta,
    #[error("a list that speaks for other issuers, for some reasons only, or not of certificates")]
    Partial,
}

impl CrlError {
    /// The stable code: what is no list is another fault than a list of the wrong kind.
    pub const fn reason(&self) -> Reason {
        match self {
            CrlError::Size { .. }
            | CrlError::Malformed
            | CrlError::Trailing(_)
            | CrlError::DuplicateExtension(_) => Reason::CrlMalformed,
            CrlError::CriticalExtension(_) | CrlError::Delta | CrlError::Partial => {
                Reason::CrlInvalid
            }
        }
    }
}

impl RevocationList {
    /// Exactly one list, DER or PEM (`X509 CRL`).
    pub fn parse(bytes: &[u8]) -> Result<RevocationList, CrlError> {
        if bytes.len() > MAX_TEXT {
            return Err(CrlError::Size { found: bytes.len(), max: MAX_LIST });
        }
        if !bytes.windows(PEM_BEGIN.len()).any(|window| window == PEM_BEGIN) {
            return RevocationList::from_der(bytes);
        }
        let mut lists = Vec::new();
        for pem in Pem::iter_from_buffer(bytes) {
            let pem = pem.map_err(|_| CrlError::Malformed)?;
            if pem.label == "X509 CRL" {
                lists.push(pem.contents);
            }
        }
        match lists.as_slice() {
            [list] => RevocationList::from_der(list),
            _ => Err(CrlError::Malformed),
        }
    }

    fn from_der(bytes: &[u8]) -> Result<RevocationList, CrlError> {
        if bytes.len() > MAX_LIST {
            return Err(CrlError::Size { found: bytes.len(), max: MAX_LIST });
        }
        let mut behind = bytes;
        der::take(&mut behind).ok_or(CrlError::Malformed)?;
        if !behind.is_empty() {
            return Err(CrlError::Trailing(behind.len()));
        }
        let signed = Signed::parse(bytes, algorithm).ok_or(CrlError::Malformed)?;
        let fields = Fields::parse(&signed.tbs).ok_or(CrlError::Malformed)?;
        let (scope, parts) = scope(fields.extensions)?;
        let mut revoked = Vec::new();
        let mut entries = fields.entries;
        while !entries.is_empty() {
            revoked.push(entry(&mut entries)?);
        }
        revoked.sort_unstable();
        let (issuer, this_update) = (fields.issuer.to_vec(), fields.this_update);
        let (next_update, sha256) = (fields.next_update, crypto::sha256(bytes));
        Ok(RevocationList {
            sha256,
            signed,
            issuer,
            this_update,
            next_update,
            scope,
            parts,
            revoked,
        })
    }

    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// The raw bytes of the name, as [`Certificate::subject`](crate::Certificate::subject) has it.
    pub fn issuer(&self) -> &[u8] {
        &self.issuer
    }

    pub fn this_update(&self) -> Time {
        self.this_update
    }

    pub fn next_update(&self) -> Option<Time> {
        self.next_update
    }

    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// Whether a certificate of the same issuer that is not on the list is not revoked: it is of
    /// the kind that the list speaks of and, where the list is one of several, points to this one
    /// (RFC 5280 §6.3.3 (b)(2)). A certificate that is on the list is revoked either way.
    pub fn speaks_of(&self, certificate: &Certificate) -> bool {
        let is_ca = certificate.extensions().is_ca;
        let kind = match self.scope {
            Scope::All => true,
            Scope::EndEntities => !is_ca,
            Scope::Authorities => is_ca,
        };
        kind && (self.parts.is_empty() || points_to(certificate, &self.parts) == Some(true))
    }

    /// How many certificates the list names.
    pub fn len(&self) -> usize {
        self.revoked.len()
    }

    pub fn is_empty(&self) -> bool {
        self.revoked.is_empty()
    }

    /// Whether the holder of this key signed the list, by a hash of today.
    pub fn verify(&self, issuer: &PublicKey) -> Result<(), SignedError> {
        self.signed.verify(issuer)
    }

    /// The same, also over SHA-1, which the answer then says.
    pub fn verify_also_sha1(&self, issuer: &PublicKey) -> Result<Strength, SignedError> {
        self.signed.verify_also_sha1(issuer)
    }

    /// Whether it speaks of this time, both ends included; a list without an end never does.
    pub fn is_current(&self, now: Time) -> bool {
        self.next_update
            .is_some_and(|end| (self.this_update.unix_s()..=end.unix_s()).contains(&now.unix_s()))
    }

    /// The serial number as its certificate has it; leading zeros make no difference.
    pub fn is_revoked(&self, serial: &[u8]) -> bool {
        let serial = without_leading_zeros(serial);
        self.revoked.binary_search_by(|other| other.as_slice().cmp(serial)).is_ok()
    }
}

/// Where TBSCertList (RFC 5280 §5.1) has its algorithm.
fn algorithm(mut fields: &[u8]) -> Option<Element<'_>> {
    let first = der::take(&mut fields)?;
    match first.tag {
        INTEGER => der::take(&mut fields),
        _ => Some(first),
    }
}

/// TBSCertList, field by field, with nothing left over.
struct Fields<'a> {
    issuer: &'a [u8],
    this_update: Time,
    next_update: Option<Time>,
    /// The contents of revokedCertificates.
    entries: &'a [u8],
    /// The SEQUENCE crlExtensions, or nothing.
    extensions: &'a [u8],
}

impl<'a> Fields<'a> {
    fn parse(tbs: &'a [u8]) -> Option<Fields<'a>> {
        let mut rest = der::sequence(tbs)?;
        // Version 1 says nothing, and has no extensions.
        let version_2 = rest.first() == Some(&INTEGER);
        if version_2 && der::take(&mut rest)?.contents != [1] {
            return None;
        }
        der::take(&mut rest)?;
        let issuer = der::take(&mut rest).filter(|name| name.tag == SEQUENCE)?.whole;
        let this_update = time(&mut rest)?;
        let next_update = match rest.first() {
            Some(&UTC_TIME | &GENERALIZED_TIME) => Some(time(&mut rest)?),
            _ => None,
        };
        let entries = match rest.first() {
            Some(&SEQUENCE) => der::take(&mut rest)?.contents,
            _ => &[],
        };
        let extensions = match rest.first() {
            Some(&EXPLICIT_EXTENSIONS) if version_2 => der::take(&mut rest)?.contents,
            _ => &[],
        };
        let whole = rest.is_empty();
        whole.then_some(Fields { issuer, this_update, next_update, entries, extensions })
    }
}

/// The serial number of one entry, without leading zeros.
fn entry(entries: &mut &[u8]) -> Result<Vec<u8>, CrlError> {
    let mut fields = der::take(entries)
        .filter(|entry| entry.tag == SEQUENCE)
        .ok_or(CrlError::Malformed)?
        .contents;
    let serial = der::take(&mut fields)
        .filter(|serial| serial.tag == INTEGER && serial.contents.len() <= MAX_SERIAL)
        .ok_or(CrlError::Malformed)?;
    time(&mut fields).ok_or(CrlError::Malformed)?;
    // A reason or a date changes nothing about being revoked; another issuer does.
    each_once(fields, |oid, extension| match oid {
        CERTIFICATE_ISSUER => Err(CrlError::Partial),
        REASON_CODE | INVALIDITY_DATE => Ok(()),
        oid if extension.critical => Err(CrlError::CriticalExtension(dotted(oid))),
        _ => Ok(()),
    })?;
    Ok(without_leading_zeros(serial.contents).to_vec())
}

fn time(fields: &mut &[u8]) -> Option<Time> {
    let (rest, time) = ASN1Time::from_der(der::take(fields)?.whole).ok()?;
    rest.is_empty().then(|| Time::from_unix_s(time.timestamp()))
}

fn scope(extensions: &[u8]) -> Result<(Scope, Vec<Vec<u8>>), CrlError> {
    let mut scope = (Scope::All, Vec::new());
    each_once(extensions, |oid, extension| match oid {
        DELTA_CRL_INDICATOR => Err(CrlError::Delta),
        ISSUING_DISTRIBUTION_POINT => {
            scope = distribution_point(extension.value).ok_or(CrlError::Partial)?;
            Ok(())
        }
        oid if extension.critical => Err(CrlError::CriticalExtension(dotted(oid))),
        _ => Ok(()),
    })?;
    Ok(scope)
}

/// Extensions ::= SEQUENCE OF Extension, or no byte at all.
fn each_once(
    extensions: &[u8],
    mut accept: impl FnMut(&[u8], &RawExtension<'_>) -> Result<(), CrlError>,
) -> Result<(), CrlError> {
    if extensions.is_empty() {
        return Ok(());
    }
    let mut rest = der::sequence(extensions).ok_or(CrlError::Malformed)?;
    let mut seen: Vec<&[u8]> = Vec::new();
    while !rest.is_empty() {
        let (oid, extension) = extension::take(&mut rest).ok_or(CrlError::Malformed)?;
        if seen.contains(&oid) {
            return Err(CrlError::DuplicateExtension(dotted(oid)));
        }
        if seen.len() >= MAX_EXTENSIONS {
            return Err(CrlError::Malformed);
        }
        accept(oid, &extension)?;
        seen.push(oid);
    }
    Ok(())
}

/// IssuingDistributionPoint, RFC 5280 §5.2.5; nothing if the list leaves out what is asked of it.
fn distribution_point(value: &[u8]) -> Option<(Scope, Vec<Vec<u8>>)> {
    let mut fields = der::sequence(value)?;
    let mut scope = Scope::All;
    let mut parts = Vec::new();
    let mut least = 0;
    while !fields.is_empty() {
        let field = der::take(&mut fields)?;
        let number = field.tag & 0x1f;
        if number < least {
            return None;
        }
        least = number + 1;
        let said = field.contents != [0];
        match field.tag {
            // An issuer that has several lists tells them apart by where they are to be had.
            DISTRIBUTION_POINT => {
                parts = point_names(field.contents)?.into_iter().map(<[u8]>::to_vec).collect();
            }
            // onlyContainsUserCerts, onlyContainsCACerts
            0x81 if said => scope = Scope::EndEntities,
            0x82 if said && scope == Scope::All => scope = Scope::Authorities,
            // indirectCRL, onlyContainsAttributeCerts, said to be false
            0x81 | 0x82 | 0x84 | 0x85 if !said => {}
            _ => return None,
        }
    }
    Some((scope, parts))
}

/// DistributionPointName ::= CHOICE { [0] GeneralNames, [1] RelativeDistinguishedName }
/// (RFC 5280 §4.2.1.13), at least one name.
fn point_names(mut choice: &[u8]) -> Option<Vec<&[u8]>> {
    let name = der::take(&mut choice).filter(|_| choice.is_empty())?;
    let mut names = Vec::new();
    match name.tag {
        FULL_NAME => {
            let mut rest = name.contents;
            while !rest.is_empty() && names.len() < MAX_NAMES {
                names.push(der::take(&mut rest)?.whole);
            }
            (rest.is_empty() && !names.is_empty()).then_some(names)
        }
        RELATIVE_NAME => Some(vec![name.whole]),
        _ => None,
    }
}

/// Whether cRLDistributionPoints ::= SEQUENCE OF SEQUENCE { [0] name, [1] reasons, [2] cRLIssuer }
/// (RFC 5280 §4.2.1.13) has one of these names; nothing if it has none that can be read.
fn points_to(certificate: &Certificate, parts: &[Vec<u8>]) -> Option<bool> {
    let mut points = der::sequence(certificate.extension(CRL_DISTRIBUTION_POINTS)?.value)?;
    let mut found = false;
    while !points.is_empty() {
        let mut fields = der::take(&mut points).filter(|point| point.tag == SEQUENCE)?.contents;
        let mut names = Vec::new();
        // The lists of a point that names a CRL issuer are not those of the certificate's issuer.
        let mut indirect = false;
        while !fields.is_empty() {
            let field = der::take(&mut fields)?;
            match field.tag {
                DISTRIBUTION_POINT => names = point_names(field.contents)?,
                CRL_ISSUER => indirect = true,
                _ => {}
            }
        }
        found |= !indirect && names.iter().any(|name| parts.iter().any(|part| part == name));
    }
    Some(found)
}

/// A promise of docs/reference/limits.md.
pub const MAX_LIST: usize = 1024 * 1024;
/// PEM takes four characters for three bytes, and line ends.
const MAX_TEXT: usize = MAX_LIST / 2 * 3;
const MAX_EXTENSIONS: usize = 32;
/// Places where one list is to be had; issuers name one or two.
const MAX_NAMES: usize = 32;
const PEM_BEGIN: &[u8] = b"-----BEGIN ";

/// RFC 5280 allows 20; the longest that a vendor made has 22.
const MAX_SERIAL: usize = 64;

const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const EXPLICIT_EXTENSIONS: u8 = 0xa0;
/// [0] of IssuingDistributionPoint and of DistributionPoint, and [2] of the latter.
const DISTRIBUTION_POINT: u8 = 0xa0;
const CRL_ISSUER: u8 = 0xa2;
/// The two kinds of DistributionPointName.
const FULL_NAME: u8 = 0xa0;
const RELATIVE_NAME: u8 = 0xa1;
const CRL_DISTRIBUTION_POINTS: &str = "2.5.29.31";

/// Below 2.5.29, RFC 5280 §5.2 and §5.3.
const REASON_CODE: &[u8] = &[0x55, 0x1d, 21];
const INVALIDITY_DATE: &[u8] = &[0x55, 0x1d, 24];
const DELTA_CRL_INDICATOR: &[u8] = &[0x55, 0x1d, 27];
const ISSUING_DISTRIBUTION_POINT: &[u8] = &[0x55, 0x1d, 28];
const CERTIFICATE_ISSUER: &[u8] = &[0x55, 0x1d, 29];
