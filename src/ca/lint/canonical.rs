//! The one way to write a certificate of a profile, by a writer of our own.
//!
//! Readers of DER forgive: a wrong tag here, a TRUE that is not FF there, and two readers forgive
//! different things. Bytes that two independent writers agree on leave nothing to forgive.

use assay_evidence::Time;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::ca::certificate::AuthorityUse;
use crate::ca::der::BIT_STRING;
use crate::ca::der::BOOLEAN;
use crate::ca::der::ECDSA_WITH_SHA256;
use crate::ca::der::GENERALIZED_TIME;
use crate::ca::der::INTEGER;
use crate::ca::der::OBJECT_IDENTIFIER;
use crate::ca::der::OCTET_STRING;
use crate::ca::der::SEQUENCE;
use crate::ca::der::UTC_TIME;
use crate::ca::der::tlv;
use crate::ca::lint::EMPTY_NAME;
use crate::ca::lint::Expected;
use crate::ca::lint::Role;
use crate::ca::lint::key_id;

/// The TBSCertificate of `expected`; `subject` is the name of an authority, as it is in its
/// certificate. Nothing for a time that no certificate can state.
pub fn tbs(expected: &Expected<'_>, subject: &[u8]) -> Option<Vec<u8>> {
    let (issuer, subject) = match &expected.role {
        Role::Svid { issuer, .. } => (issuer.name, EMPTY_NAME.to_vec()),
        Role::AttestationKey { name, issuer } => (issuer.name, attestation_name(name)),
        Role::Authority { .. } => (subject, subject.to_vec()),
    };
    let validity = [time(expected.not_before)?, time(expected.not_after)?].concat();
    let extensions = tlv(SEQUENCE, &extensions(expected).concat());
    let fields = [
        tlv(VERSION, &tlv(INTEGER, &[2])),
        tlv(INTEGER, expected.serial.as_bytes()),
        ECDSA_WITH_SHA256.to_vec(),
        issuer.to_vec(),
        tlv(SEQUENCE, &validity),
        subject,
        expected.spki_der.to_vec(),
        tlv(EXTENSIONS, &extensions),
    ];
    Some(tlv(SEQUENCE, &fields.concat()))
}

/// In the order of the builder; RFC 5280 leaves it open.
fn extensions(expected: &Expected<'_>) -> Vec<Vec<u8>> {
    let subject_key_id = extension(14, false, &tlv(OCTET_STRING, &key_id(expected.spki_der)));
    match &expected.role {
        Role::Svid { id, dns_names, issuer } => {
            let mut names = tlv(URI_NAME, id.to_string().as_bytes());
            for name in *dns_names {
                names.extend(tlv(DNS_NAME, name.as_bytes()));
            }
            let usages = [SERVER_AUTH, CLIENT_AUTH].map(|oid| tlv(OBJECT_IDENTIFIER, oid));
            vec![
                extension(35, false, &tlv(SEQUENCE, &tlv(KEY_IDENTIFIER, issuer.key_id))),
                extension(17, true, &tlv(SEQUENCE, &names)),
                extension(15, true, &tlv(BIT_STRING, &DIGITAL_SIGNATURE)),
                extension(37, false, &tlv(SEQUENCE, &usages.concat())),
                subject_key_id,
                extension(19, true, &tlv(SEQUENCE, &[])),
            ]
        }
        Role::AttestationKey { issuer, .. } => {
            let usages = tlv(OBJECT_IDENTIFIER, AIK_CERTIFICATE);
            vec![
                extension(35, false, &tlv(SEQUENCE, &tlv(KEY_IDENTIFIER, issuer.key_id))),
                extension(15, true, &tlv(BIT_STRING, &DIGITAL_SIGNATURE)),
                extension(37, false, &tlv(SEQUENCE, &usages)),
                subject_key_id,
                extension(19, true, &tlv(SEQUENCE, &[])),
            ]
        }
        Role::Authority { trust_domain, usage } => {
            let name = tlv(URI_NAME, trust_domain.id().as_bytes());
            let constraints = [tlv(BOOLEAN, &[0xff]), tlv(INTEGER, &[0])].concat();
            let mut extensions = vec![
                extension(17, false, &tlv(SEQUENCE, &name)),
                extension(15, true, &tlv(BIT_STRING, &KEY_CERT_SIGN_AND_CRL_SIGN)),
            ];
            if *usage == AuthorityUse::AttestationKeys {
                let usages = tlv(OBJECT_IDENTIFIER, AIK_CERTIFICATE);
                extensions.push(extension(37, false, &tlv(SEQUENCE, &usages)));
            }
            extensions.push(subject_key_id);
            extensions.push(extension(19, true, &tlv(SEQUENCE, &constraints)));
            extensions
        }
    }
}

/// O=Assay, CN=`name`, as UTF8String.
pub fn attestation_name(name: &str) -> Vec<u8> {
    let attribute = |number: u8, text: &str| {
        let oid = tlv(OBJECT_IDENTIFIER, &[0x55, 0x04, number]);
        let pair = [oid, tlv(UTF8_STRING, text.as_bytes())].concat();
        tlv(SET, &tlv(SEQUENCE, &pair))
    };
    tlv(SEQUENCE, &[attribute(10, "Assay"), attribute(3, name)].concat())
}

/// RFC 5280 section 4.2: the standard extensions are id-ce (2.5.29) and a number.
fn extension(number: u8, critical: bool, value: &[u8]) -> Vec<u8> {
    let mut contents = tlv(OBJECT_IDENTIFIER, &[0x55, 0x1d, number]);
    if critical {
        contents.extend(tlv(BOOLEAN, &[0xff]));
    }
    contents.extend(tlv(OCTET_STRING, value));
    tlv(SEQUENCE, &contents)
}

/// RFC 5280 section 4.1.2.5: two digits of the year until 2049, four from then on.
fn time(time: Time) -> Option<Vec<u8>> {
    let date = OffsetDateTime::from_unix_timestamp(time.unix_s()).ok()?;
    let long = date
        .format(format_description!("[year][month][day][hour][minute][second]Z"))
        .ok()
        .filter(|text| text.len() == 15)?;
    match date.year() {
        1950..=2049 => Some(tlv(UTC_TIME, long.get(2..)?.as_bytes())),
        _ => Some(tlv(GENERALIZED_TIME, long.as_bytes())),
    }
}

/// [0] EXPLICIT and [3] EXPLICIT of TBSCertificate
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// [6] and [2] of GeneralName, [0] of AuthorityKeyIdentifier
const URI_NAME: u8 = 0x86;
const DNS_NAME: u8 = 0x82;
const KEY_IDENTIFIER: u8 = 0x80;
// RFC 5280 section 4.2.1.3: unused bits, then bit 0 first
const DIGITAL_SIGNATURE: [u8; 2] = [7, 0b1000_0000];
const KEY_CERT_SIGN_AND_CRL_SIGN: [u8; 2] = [1, 0b0000_0110];
/// id-kp 1 and 2
const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
/// tcg-kp-AIKCertificate, 2.23.133.8.3
const AIK_CERTIFICATE: &[u8] = &[0x67, 0x81, 0x05, 0x08, 0x03];
const UTF8_STRING: u8 = 0x0c;
const SET: u8 = 0x31;
const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
