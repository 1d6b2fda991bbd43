//! A refusal as one line for whoever has to mend it: which claim failed, what was found there, what
//! was expected, and where the rule is written.

use assay_evidence::Finding;
use assay_evidence::chain::ChainError;
use assay_evidence::crypto::EncryptError;
use assay_evidence::key::KeyFault;

use crate::error::Error;
use crate::error::hierarchy_name;

impl Error {
    /// The same as one line of a refusal. None of its texts is empty.
    pub fn finding(&self) -> Finding {
        let (claim, found, expected) = self.values();
        let claim = match self {
            Error::NotSigned { bank, register } | Error::ValueMissing { bank, register } => {
                format!("pcr.{bank}.{register}")
            }
            _ => claim.to_owned(),
        };
        let told = |text: String| if text.is_empty() { "none".to_owned() } else { text };
        Finding::new(self.reason(), claim, told(found), told(expected), self.source_clause())
    }

    /// Claim, found, expected.
    fn values(&self) -> (&'static str, String, String) {
        let hex = |bytes: &[u8]| hex::encode(bytes);
        match self {
            Error::AkNotRestricted { found } => {
                ("ak.attributes", found.to_string(), "restricted".into())
            }
            Error::AkNotFixed { found } => {
                ("ak.attributes", found.to_string(), "fixedTPM, fixedParent".into())
            }
            Error::AkExternalOrigin { found } => {
                ("ak.attributes", found.to_string(), "sensitiveDataOrigin".into())
            }
            Error::AkAttributes { found } => {
                ("ak.attributes", found.to_string(), "sign, no decrypt, nothing unknown".into())
            }
            Error::AkHierarchy { found } => {
                ("ak.hierarchy", hierarchy_name(*found), "endorsement".into())
            }
            Error::KeyNotFixed { found } => (
                "certified_key.attributes",
                found.to_string(),
                "fixedTPM, fixedParent, sensitiveDataOrigin".into(),
            ),
            Error::KeyAttributes { found, expected } => {
                ("certified_key.attributes", found.to_string(), expected.to_string())
            }
            Error::DevidTemplate { found } => (
                "device_key.template",
                found.to_string(),
                "a template of TPM 2.0 Keys for Device Identity and Attestation".into(),
            ),
            Error::SvidKeyHierarchy { found } => {
                ("certified_key.hierarchy", hierarchy_name(*found), "null".into())
            }
            Error::CertifiedName { found, expected } => {
                ("certified_key.name", found.clone(), expected.clone())
            }
            Error::SvidKeyNotCertified { found, expected } => {
                ("certified_key.spki_sha256", found.clone(), expected.clone())
            }
            Error::SignatureScheme { found, expected } => {
                ("signature.scheme", found.clone(), expected.clone())
            }
            Error::SignatureHashWeak { found, expected } => {
                ("signature.hash", found.to_string(), expected.to_string())
            }
            Error::Magic { found } => ("attest.magic", format!("{found:08x}"), "ff544347".into()),
            Error::Kind { found, expected } => {
                ("attest.type", format!("{found:04x}"), format!("{expected:04x}"))
            }
            Error::Nonce { found, expected } => ("attest.extra_data", hex(found), hex(expected)),
            Error::Selection { found, expected } => {
                ("pcrs.selection", found.clone(), expected.clone())
            }
            Error::ValuesSize { found, expected } => {
                ("pcrs.size", found.to_string(), expected.to_string())
            }
            Error::RegisterDigest { found, expected } => {
                ("pcrs.digest", found.clone(), expected.clone())
            }
            Error::ResetBetween { quote, certify } => {
                ("clock.counters", format!("{certify:?}"), format!("{quote:?}"))
            }
            Error::AkCertificateKey => {
                ("ak.certificate", "another key".into(), "the key that signed".into())
            }
            Error::AkProfile(fault) => {
                ("ak.certificate", (*fault).into(), "a certificate of an attestation key".into())
            }
            Error::AkChain(fault) => ("ak.chain", fault.to_string(), fault.expected().into()),
            Error::EkChain(fault) => ("ek.chain", fault.to_string(), fault.expected().into()),
            Error::EkProfile(why) => {
                ("ek.profile", (*why).into(), "a certificate of an endorsement key".into())
            }
            Error::EkCertificate(fault) => (
                "ek.certificate",
                fault.to_string(),
                "one X.509 certificate and nothing else".into(),
            ),
            Error::KeyWeak(fault) => {
                ("key", fault.to_string(), "a key that may be relied on".into())
            }
            Error::Shape(fault) => (
                "tpm.structure",
                fault.to_string(),
                "a whole TPM structure and nothing behind it".into(),
            ),
            Error::Malformed { place } => {
                ("tpm.structure", format!("a malformed {place}"), format!("a {place} by its rules"))
            }
            Error::UnknownAlgorithm { place, id } => (
                "tpm.algorithm",
                format!("0x{id:04x} in the {place}"),
                "an algorithm that is known here".into(),
            ),
            Error::UnknownCurve { id } => {
                ("key.curve", format!("0x{id:04x}"), "P-256, P-384 or P-521".into())
            }
            Error::PcrFile(why) => {
                ("pcrs.file", (*why).into(), "values of registers by bank, each once".into())
            }
            Error::Missing(what) => (missing_claim(what), "none".into(), (*what).into()),
            Error::EkKeyCertMismatch => (
                "ek.certificate",
                "certificates of other keys, or none".into(),
                "a certificate of the endorsement key shown".into(),
            ),
            Error::EkTemplate => (
                "ek.template",
                "another public area".into(),
                "a default template of the TCG EK Credential Profile".into(),
            ),
            Error::TooManyCertificates { max } => {
                ("ek.certificates", format!("more than {max}"), format!("at most {max}"))
            }
            Error::AkScheme => (
                "ak.scheme",
                "no signing scheme that is accepted".into(),
                "ECDSA, RSASSA or RSAPSS with a hash".into(),
            ),
            Error::Activation => (
                "ak.activation",
                "another secret".into(),
                "the secret that only the TPM of both keys can read".into(),
            ),
            Error::Encrypt(fault @ EncryptError::Random) => {
                ("challenge.random", fault.to_string(), "random bytes".into())
            }
            Error::Encrypt(fault) => {
                ("ek.key", fault.to_string(), "a key that can be encrypted to".into())
            }
            Error::KeyScheme => (
                "certified_key.scheme",
                "another kind of key or scheme".into(),
                "ECDSA P-256 with SHA-256".into(),
            ),
            Error::DevidKey => (
                "device_key.certificate",
                "a certificate of another key".into(),
                "a certificate of the key that the TPM certified".into(),
            ),
            Error::SignatureUnsupported { found } => {
                ("signature.scheme", found.clone(), "a scheme that is supported for the key".into())
            }
            Error::SignatureInvalid => (
                "attest.signature",
                "a signature that does not verify".into(),
                "a signature by the attestation key over this very statement".into(),
            ),
            Error::NotSigned { .. } => {
                ("pcr", "not covered by the quote".into(), "covered by the quote".into())
            }
            Error::ValueMissing { .. } => ("pcr", "no value".into(), "the value quoted".into()),
            Error::BankWeak { register, expected } => (
                "pcrs.selection",
                format!("register {register} in no bank as strong"),
                format!("register {register} in a bank of {expected} or stronger"),
            ),
        }
    }

    /// The rule that was broken, as text a reader can look up.
    fn source_clause(&self) -> &'static str {
        match self {
            Error::UnknownAlgorithm { .. } => "TCG Algorithm Registry 1.34, table 3",
            Error::UnknownCurve { .. } => "TCG Algorithm Registry 1.34, table 4",
            Error::PcrFile(_) => "tpm2-tools, tpm2_pcrread(1) and tpm2_quote(1)",
            Error::Missing(what) => match missing_claim(what) {
                "certify" | "certified_key.public" => "TPM 2.0 Library, Part 3, TPM2_Certify",
                _ => "TPM 2.0 Library, Part 3, TPM2_Quote",
            },
            Error::EkTemplate
            | Error::EkProfile(_)
            | Error::EkKeyCertMismatch
            | Error::TooManyCertificates { .. } => "TCG EK Credential Profile 2.5",
            Error::AkChain(fault) | Error::EkChain(fault) => chain_clause(fault),
            Error::EkCertificate(_) => "RFC 5280 §4.1",
            Error::AkNotRestricted { .. }
            | Error::AkNotFixed { .. }
            | Error::AkExternalOrigin { .. }
            | Error::AkAttributes { .. }
            | Error::KeyNotFixed { .. }
            | Error::KeyAttributes { .. } => "TPM 2.0 Library, Part 2, TPMA_OBJECT",
            Error::AkScheme
            | Error::KeyScheme
            | Error::SignatureScheme { .. }
            | Error::SignatureUnsupported { .. } => "TPM 2.0 Library, Part 2, TPMT_SIG_SCHEME",
            Error::AkHierarchy { .. } => "TPM 2.0 Library, Part 1, §36.7",
            Error::AkCertificateKey
            | Error::AkProfile(_)
            | Error::DevidKey
            | Error::DevidTemplate { .. } => {
                "TCG TPM 2.0 Keys for Device Identity and Attestation, §8"
            }
            Error::Activation | Error::Encrypt(_) => "TPM 2.0 Library, Part 1, §24",
            Error::KeyWeak(fault) => key_clause(fault),
            Error::SvidKeyHierarchy { .. }
            | Error::CertifiedName { .. }
            | Error::SvidKeyNotCertified { .. } => "TPM 2.0 Library, Part 2, TPMS_CERTIFY_INFO",
            Error::SignatureInvalid => "TPM 2.0 Library, Part 2, TPMT_SIGNATURE",
            Error::SignatureHashWeak { .. } | Error::BankWeak { .. } => "NIST SP 800-131A",
            Error::Magic { .. } | Error::Kind { .. } | Error::Nonce { .. } => {
                "TPM 2.0 Library, Part 2, TPMS_ATTEST"
            }
            Error::Selection { .. }
            | Error::NotSigned { .. }
            | Error::ValueMissing { .. }
            | Error::ValuesSize { .. }
            | Error::RegisterDigest { .. } => "TPM 2.0 Library, Part 2, TPMS_QUOTE_INFO",
            Error::ResetBetween { .. } => "TPM 2.0 Library, Part 2, TPMS_CLOCK_INFO",
            Error::Shape(_) | Error::Malformed { .. } => "TPM 2.0 Library, Part 2",
        }
    }
}

/// Of which claim the missing part would have been.
fn missing_claim(what: &str) -> &'static str {
    match what {
        "key certification" => "certify",
        "public area of the certified key" => "certified_key.public",
        "register values" => "pcrs.values",
        "sha256 bank" | "sha1 bank" => "pcrs.selection",
        _ => "evidence",
    }
}

fn chain_clause(fault: &ChainError) -> &'static str {
    match fault {
        ChainError::Expired { .. } => "RFC 5280 §4.1.2.5",
        ChainError::IssuerNotCa { .. } | ChainError::PathLength { .. } => "RFC 5280 §4.2.1.9",
        ChainError::CriticalExtension { .. } => "RFC 5280 §4.2",
        ChainError::NameConstraint { .. } => "RFC 5280 §4.2.1.10",
        ChainError::Revoked { .. }
        | ChainError::RevocationList { .. }
        | ChainError::RevocationListStale { .. } => "RFC 5280 §6.3",
        ChainError::SignatureWeak { .. } | ChainError::RevocationListWeak { .. } => {
            "NIST SP 800-131A"
        }
        ChainError::KeyWeak { fault, .. } => key_clause(fault),
        _ => "RFC 5280 §6.1",
    }
}

fn key_clause(fault: &KeyFault) -> &'static str {
    match fault {
        KeyFault::Roca => "CVE-2017-15361",
        KeyFault::Modulus(_) => "NIST SP 800-131A",
        KeyFault::OffCurve => "NIST SP 800-56A, §5.6.2.3",
        _ => "NIST FIPS 186-5, A.1.1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_without_numbers_says_too_what_was_found_and_expected() {
        let errors = [
            Error::Malformed { place: "clock" },
            Error::UnknownAlgorithm { place: "signature", id: 5 },
            Error::UnknownCurve { id: 0x10 },
            Error::PcrFile("it is empty"),
            Error::Missing("register values"),
            Error::EkKeyCertMismatch,
            Error::EkTemplate,
            Error::TooManyCertificates { max: 16 },
            Error::AkScheme,
            Error::Activation,
            Error::Encrypt(EncryptError::Key),
            Error::Encrypt(EncryptError::Random),
            Error::KeyScheme,
            Error::DevidKey,
            Error::SignatureUnsupported { found: "ecdsa".into() },
            Error::SignatureInvalid,
            Error::NotSigned { bank: assay_evidence::HashAlgorithm::Sha256, register: 16 },
            Error::ValueMissing { bank: assay_evidence::HashAlgorithm::Sha1, register: 0 },
            Error::BankWeak { register: 0, expected: assay_evidence::HashAlgorithm::Sha256 },
            Error::Nonce { found: vec![], expected: vec![1] },
        ];
        for error in &errors {
            let line = error.finding();
            for text in [&line.claim, &line.found, &line.expected, &line.source] {
                assert!(!text.is_empty(), "{error:?}: {line:?}");
            }
            assert!(line.claim.contains('.') && line.found != line.expected, "{line:?}");
        }
        assert_eq!(errors[16].finding().claim, "pcr.sha256.16");
        assert_eq!(errors[19].finding().found, "none");
    }

    #[test]
    fn a_fault_of_a_chain_expects_what_was_wrong_there_and_cites_its_rule() {
        let faults = [
            ChainError::Untrusted,
            ChainError::Signature { depth: 0 },
            ChainError::IssuerNotCa { depth: 0 },
            ChainError::NameConstraint { depth: 1 },
            ChainError::KeyWeak { depth: 0, fault: KeyFault::Roca },
            ChainError::RevocationList { list: 0 },
        ];
        let mut expected = std::collections::BTreeSet::new();
        for fault in faults {
            let (ek, ak) = (Error::EkChain(fault.clone()), Error::AkChain(fault));
            assert_eq!(ek.finding().expected, ak.finding().expected);
            assert!(expected.insert(ek.finding().expected), "{ek:?}");
        }
        let roca = ChainError::KeyWeak { depth: 0, fault: KeyFault::Roca };
        assert_eq!(Error::EkChain(roca).finding().source, "CVE-2017-15361");
    }
}
