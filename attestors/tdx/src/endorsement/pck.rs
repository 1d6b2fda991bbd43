//! What a PCK certificate says of its platform: extension 1.2.840.113741.1.13.1.
//!
//! Source: Intel SGX PCK Certificate and CRL Profile, rev. 1.5, §1.3.5. Each member is there once;
//! members that are not known here are stepped over, for later parts have more.

use assay_evidence::Certificate;
use assay_evidence::der;
use assay_evidence::der::INTEGER;
use assay_evidence::der::OBJECT_IDENTIFIER;
use assay_evidence::der::OCTET_STRING;
use assay_evidence::der::SEQUENCE;
use serde::Serialize;

use crate::error::Error;

/// The platform, as Intel certified it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PckFacts {
    /// .1: an identifier of the platform, encrypted at provisioning.
    pub ppid: [u8; 16],
    /// .2.1 to .2.16: SVNs of the SGX TCB components.
    pub sgx_svn: [u8; 16],
    /// .2.17
    pub pcesvn: u16,
    /// .3
    pub pce_id: [u8; 2],
    /// .4: family, model, stepping, platform and custom SKU.
    pub fmspc: [u8; 6],
    /// .5
    pub sgx_type: SgxType,
    /// .6: of a platform instance; changes when it is set up anew. Multi-package parts only.
    pub piid: Option<[u8; 16]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SgxType {
    Standard,
    Scalable,
    ScalableWithIntegrity,
}

impl PckFacts {
    pub(crate) fn parse(certificate: &Certificate) -> Result<PckFacts, Error> {
        let missing = Error::PckExtension;
        let extension = certificate.extension(SGX_EXTENSION).ok_or(missing("SGX extension"))?;
        let members = members(extension.value, SGX).ok_or(missing("SGX extension"))?;
        let octets = |last: u8, what| {
            let member = member(&members, last).filter(|member| member.tag == OCTET_STRING);
            member.map(|member| member.contents).ok_or(missing(what))
        };
        let tcb = member(&members, 2).ok_or(missing("TCB"))?;
        let tcb = self::members(tcb.whole, TCB).ok_or(missing("TCB"))?;
        let mut sgx_svn = [0; 16];
        for (last, svn) in (1..).zip(&mut sgx_svn) {
            *svn = member(&tcb, last)
                .and_then(number)
                .and_then(|number| u8::try_from(number).ok())
                .ok_or(missing("TCB components"))?;
        }
        let sgx_type = match member(&members, 5).map(|member| (member.tag, member.contents)) {
            Some((ENUMERATED, [0])) => SgxType::Standard,
            Some((ENUMERATED, [1])) => SgxType::Scalable,
            Some((ENUMERATED, [2])) => SgxType::ScalableWithIntegrity,
            _ => return Err(missing("SGX type")),
        };
        let piid = match member(&members, 6) {
            Some(_) => Some(exact(octets(6, "PIID")?).ok_or(missing("PIID"))?),
            None => None,
        };
        Ok(PckFacts {
            ppid: exact(octets(1, "PPID")?).ok_or(missing("PPID"))?,
            sgx_svn,
            pcesvn: member(&tcb, 17).and_then(number).ok_or(missing("PCE SVN"))?,
            pce_id: exact(octets(3, "PCE ID")?).ok_or(missing("PCE ID"))?,
            fmspc: exact(octets(4, "FMSPC")?).ok_or(missing("FMSPC"))?,
            sgx_type,
            piid,
        })
    }
}

/// A value under an identifier that ends in `last`.
struct Member<'a> {
    last: u8,
    value: der::Element<'a>,
}

/// SEQUENCE OF SEQUENCE { OBJECT IDENTIFIER prefix.last, value }; nothing if one is there twice.
fn members<'a>(whole: &'a [u8], prefix: &[u8]) -> Option<Vec<Member<'a>>> {
    let mut rest = der::sequence(whole)?;
    let mut all: Vec<Member<'a>> = Vec::new();
    while !rest.is_empty() {
        let mut fields = der::take(&mut rest).filter(|member| member.tag == SEQUENCE)?.contents;
        let oid = der::take(&mut fields).filter(|oid| oid.tag == OBJECT_IDENTIFIER)?;
        let value = der::take(&mut fields)?;
        let [last] = oid.contents.strip_prefix(prefix)? else { return None };
        if !fields.is_empty() || all.len() >= MAX_MEMBERS || member(&all, *last).is_some() {
            return None;
        }
        all.push(Member { last: *last, value });
    }
    Some(all)
}

fn member<'m, 'a>(all: &'m [Member<'a>], last: u8) -> Option<&'m der::Element<'a>> {
    all.iter().find(|member| member.last == last).map(|member| &member.value)
}

/// An INTEGER from 0 to 65535.
fn number(element: &der::Element<'_>) -> Option<u16> {
    match (element.tag, element.contents) {
        (INTEGER, &[low @ 0..=0x7f]) => Some(u16::from(low)),
        (INTEGER, &[high @ 0..=0x7f, low]) => Some(u16::from_be_bytes([high, low])),
        (INTEGER, &[0, high @ 0x80..=0xff, low]) => Some(u16::from_be_bytes([high, low])),
        _ => None,
    }
}

fn exact<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

const SGX_EXTENSION: &str = "1.2.840.113741.1.13.1";
/// 1.2.840.113741.1.13.1
const SGX: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01];
/// 1.2.840.113741.1.13.1.2
const TCB: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01, 0x02];
const ENUMERATED: u8 = 0x0a;
const MAX_MEMBERS: usize = 32;
