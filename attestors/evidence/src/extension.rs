//! One extension of a certificate or a revocation list as it stands there, read by nobody yet.

use x509_parser::der_parser::oid::Oid;

use crate::der;
use crate::der::BOOLEAN;
use crate::der::OBJECT_IDENTIFIER;
use crate::der::OCTET_STRING;
use crate::der::SEQUENCE;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawExtension<'a> {
    pub critical: bool,
    /// The contents of extnValue.
    pub value: &'a [u8],
}

/// Extension ::= SEQUENCE { OBJECT IDENTIFIER, BOOLEAN DEFAULT FALSE, OCTET STRING } from the front
/// (RFC 5280 §4.1), with the contents of its identifier.
pub(crate) fn take<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], RawExtension<'a>)> {
    let mut fields = der::take(rest).filter(|extension| extension.tag == SEQUENCE)?.contents;
    let oid = der::take(&mut fields).filter(|oid| oid.tag == OBJECT_IDENTIFIER)?;
    let critical = match fields.first() {
        Some(&BOOLEAN) => match der::take(&mut fields)?.contents {
            [flag] => *flag != 0,
            _ => return None,
        },
        _ => false,
    };
    let value = der::take(&mut fields).filter(|value| value.tag == OCTET_STRING)?;
    fields.is_empty().then_some((oid.contents, RawExtension { critical, value: value.contents }))
}

pub(crate) fn dotted(oid: &[u8]) -> String {
    Oid::new(oid.into()).to_id_string()
}
