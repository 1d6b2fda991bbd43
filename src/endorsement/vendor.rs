//! What to ask a vendor's service for, and how its answers become the body of an endorsement.
//!
//! AMD: VCEK Certificate and KDS Interface Specification 57230. Intel: SGX and TDX Provisioning
//! Certification Service API, version 4; a PCCS speaks the same.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use serde::de::IgnoredAny;

use crate::endorsement::Subject;
use crate::endorsement::https::Answer;

/// Whose service has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vendor {
    Amd,
    Intel,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ask {
    pub path: String,
    /// The longest body that is read.
    pub max: usize,
}

impl Vendor {
    pub const fn of(subject: &Subject) -> Vendor {
        match subject {
            Subject::SnpVcek { .. } | Subject::SnpIssuer { .. } | Subject::SnpCrl { .. } => {
                Vendor::Amd
            }
            Subject::TdxCollateral(_) => Vendor::Intel,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Vendor::Amd => "amd",
            Vendor::Intel => "intel",
        }
    }
}

/// The requests for a subject, in order.
pub(super) fn asks(subject: &Subject) -> Vec<Ask> {
    let ask = |path: String, max| Ask { path, max };
    let of_kind = |kind: &assay_snp::report::SigningKey, product: &assay_snp::Product| {
        assay_snp::endorsement::Wanted { product: *product, kind: *kind, chip: None }
    };
    match subject {
        Subject::SnpVcek { product, chip } => vec![ask(chip.path(*product), MAX_CERTIFICATES)],
        Subject::SnpIssuer { product, kind } => {
            vec![ask(of_kind(kind, product).chain_path(), MAX_CERTIFICATES)]
        }
        Subject::SnpCrl { product, kind } => vec![ask(of_kind(kind, product).crl_path(), MAX_LIST)],
        Subject::TdxCollateral(wanted) => {
            let fmspc = hex::encode_upper(wanted.fmspc);
            let (ca, update) = (wanted.ca, wanted.update);
            let tdx = "/tdx/certification/v4";
            let sgx = "/sgx/certification/v4";
            vec![
                ask(format!("{tdx}/tcb?fmspc={fmspc}&update={update}"), MAX_DOCUMENT),
                ask(format!("{tdx}/qe/identity?update={update}"), MAX_DOCUMENT),
                ask(format!("{sgx}/pckcrl?ca={ca}&encoding=der"), MAX_LIST),
                ask(format!("{sgx}/rootcacrl"), MAX_LIST),
            ]
        }
    }
}

/// The body that the answers make, in the order of [`asks`]. What it is worth is asked later.
pub(super) fn body(subject: &Subject, answers: Vec<Answer>) -> Result<Vec<u8>, String> {
    match subject {
        Subject::TdxCollateral(_) => collateral(&answers),
        _ => answers.into_iter().next().map(|answer| answer.body).ok_or("no answer".to_owned()),
    }
}

/// The four answers as one bundle, in the field names that [`assay_tdx::Collateral`] reads. The
/// signed documents are taken out byte for byte.
fn collateral(answers: &[Answer]) -> Result<Vec<u8>, String> {
    let [tcb, qe, pck_crl, root_crl] = answers else {
        return Err(format!("{} answers where four are due", answers.len()));
    };
    let (tcb_info, tcb_signature) = signed(&tcb.body, "tcbInfo")?;
    let (identity, qe_signature) = signed(&qe.body, "enclaveIdentity")?;
    let bundle = serde_json::json!({
        "pck_crl_issuer_chain": chain(&pck_crl.headers, &["SGX-PCK-CRL-Issuer-Chain"])?,
        "root_ca_crl": hex::encode(list(&root_crl.body)?),
        "pck_crl": hex::encode(list(&pck_crl.body)?),
        "tcb_info_issuer_chain":
            chain(&tcb.headers, &["TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain"])?,
        "tcb_info": tcb_info,
        "tcb_info_signature": tcb_signature,
        "qe_identity_issuer_chain": chain(&qe.headers, &["SGX-Enclave-Identity-Issuer-Chain"])?,
        "qe_identity": identity,
        "qe_identity_signature": qe_signature,
    });
    Ok(bundle.to_string().into_bytes())
}

/// The text of a signed document in `{"<name>":…,"signature":"…"}`, as it stands there, and its
/// signature.
fn signed<'a>(body: &'a [u8], name: &str) -> Result<(&'a str, String), String> {
    let malformed = || format!("no signed `{name}` in the answer");
    let members = std::str::from_utf8(body).ok().and_then(members).ok_or_else(malformed)?;
    let member = |name: &str| members.iter().find(|(key, _)| key == name).map(|(_, text)| *text);
    let signature = member("signature").and_then(|text| serde_json::from_str(text).ok());
    match (member(name), signature) {
        (Some(text), Some(signature)) => Ok((text, signature)),
        _ => Err(malformed()),
    }
}

/// The members of one JSON object, each value as its text stands there.
fn members(text: &str) -> Option<Vec<(String, &str)>> {
    let mut rest = text.trim_start().strip_prefix('{')?;
    let mut all = Vec::new();
    while all.len() < MAX_MEMBERS {
        let key = serde_json::from_str(value(&mut rest)?).ok()?;
        rest = rest.trim_start().strip_prefix(':')?.trim_start();
        all.push((key, value(&mut rest)?));
        rest = rest.trim_start();
        match rest.strip_prefix(',') {
            Some(more) => rest = more.trim_start(),
            None => return (rest.strip_prefix('}')?.trim().is_empty()).then_some(all),
        }
    }
    None
}

/// The text of the JSON value that `rest` begins with; `rest` is then what follows.
fn value<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<IgnoredAny>();
    values.next()?.ok()?;
    let (value, behind) = rest.split_at_checked(values.byte_offset())?;
    *rest = behind;
    Some(value.trim())
}

/// A chain in PEM, percent-encoded, under the first of these names that is there.
fn chain(headers: &HeaderMap, names: &[&str]) -> Result<String, String> {
    let found = names.iter().find_map(|name| headers.get(*name));
    let missing = || format!("no header {}", names.first().copied().unwrap_or_default());
    let text = found.and_then(|value| value.to_str().ok()).ok_or_else(missing)?;
    decoded(text).ok_or_else(|| format!("header {} is not percent-encoded", names.join(" or ")))
}

/// RFC 3986, 2.1.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        rest = more;
        match (first, more) {
            (b'%', [high, low, more @ ..]) => {
                let mut byte = [0];
                hex::decode_to_slice([*high, *low], &mut byte).ok()?;
                bytes.extend(byte);
                rest = more;
            }
            (b'%', _) => return None,
            (byte, _) => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).ok()
}

/// A revocation list as DER: services answer in DER, in hex or in PEM.
fn list(body: &[u8]) -> Result<Vec<u8>, String> {
    if body.first() == Some(&SEQUENCE) && body.get(1).is_some_and(|length| !length.is_ascii()) {
        return Ok(body.to_vec());
    }
    let no_list = || "a revocation list that is none".to_owned();
    let text = std::str::from_utf8(body).map_err(|_| no_list())?.trim();
    if let Ok(der) = hex::decode(text)
        && der.first() == Some(&SEQUENCE)
    {
        return Ok(der);
    }
    let (_, rest) = text.split_once("-----BEGIN X509 CRL-----").ok_or_else(no_list)?;
    let (base64, _) = rest.split_once("-----END X509 CRL-----").ok_or_else(no_list)?;
    STANDARD.decode(base64.split_whitespace().collect::<String>()).map_err(|_| no_list())
}

const SEQUENCE: u8 = 0x30;
const MAX_MEMBERS: usize = 16;
/// Promises of docs/reference/limits.md: a dozen certificates in PEM; four times the largest
/// document; as long as any list that is read.
const MAX_CERTIFICATES: usize = 64 * 1024;
const MAX_DOCUMENT: usize = 256 * 1024;
const MAX_LIST: usize = 384 * 1024;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_requests_are_those_of_the_specifications() {
        let paths = |subject: &str| -> Vec<String> {
            asks(&subject.parse().unwrap()).into_iter().map(|ask| ask.path).collect()
        };
        assert_eq!(
            paths("snp-vcek-Turin-c1c1c1c1c1c1c1c1-1.2.3.4.81"),
            ["/vcek/v1/Turin/c1c1c1c1c1c1c1c1?fmcSPL=01&blSPL=02&teeSPL=03&snpSPL=04&ucodeSPL=81"]
        );
        assert_eq!(paths("snp-issuer-vlek-Milan"), ["/vlek/v1/Milan/cert_chain"]);
        assert_eq!(paths("snp-crl-vcek-Genoa"), ["/vcek/v1/Genoa/crl"]);
        assert_eq!(
            paths("tdx-collateral-00806f050000-platform-early"),
            [
                "/tdx/certification/v4/tcb?fmspc=00806F050000&update=early",
                "/tdx/certification/v4/qe/identity?update=early",
                "/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
                "/sgx/certification/v4/rootcacrl",
            ]
        );
    }

    #[test]
    fn a_list_is_read_in_each_form_that_services_answer_in() {
        let der = [0x30, 0x82, 0x00, 0x01, 0xff];
        let pem =
            format!("-----BEGIN X509 CRL-----\n{}\n-----END X509 CRL-----\n", STANDARD.encode(der));
        for body in [&der[..], hex::encode(der).as_bytes(), pem.as_bytes()] {
            assert_eq!(list(body).unwrap(), der);
        }
        for body in [&b""[..], b"<html>", b"30", b"30820", &[0xff, 0x30]] {
            assert!(list(body).map_or(true, |list| list == [SEQUENCE]), "{body:?}");
        }
    }

    #[test]
    fn a_signed_document_is_taken_as_it_stands() {
        let body = r#" {"tcbInfo":{"b": [1, 2.50],"a":"}\""} , "signature":"00ff"} "#;
        let (text, signature) = signed(body.as_bytes(), "tcbInfo").unwrap();
        assert_eq!((text, signature.as_str()), (r#"{"b": [1, 2.50],"a":"}\""}"#, "00ff"));
        let turned = r#"{"signature":"00","tcbInfo":{}}"#;
        assert_eq!(signed(turned.as_bytes(), "tcbInfo").unwrap(), ("{}", "00".to_owned()));
        for wrong in [
            "",
            "{}",
            "[]",
            r#"{"tcbInfo":{}}"#,
            r#"{"tcbInfo":{},"signature":1}"#,
            r#"{"tcbInfo":{},"signature":"00""#,
            r#"{"tcbInfo":{},"signature":"00"}x"#,
            r#"{"tcbInfo":{"signature":"00"}"#,
        ] {
            assert!(signed(wrong.as_bytes(), "tcbInfo").is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_header_is_decoded_whole_or_not_at_all() {
        assert_eq!(decoded("-----BEGIN%20C%0A%2b+").unwrap(), "-----BEGIN C\n++");
        for text in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(decoded(text), None, "{text}");
        }
    }
}
