//! Components whose registers somebody vouches for by a signature, in place of values in the
//! profile.
//!
//! The registers' quoted values have to be signed by a listed key in every bank that decides. Such a
//! register need not follow from the boot log: user space extends it too. Where the profile names a
//! phase, the log has to lead to the quoted value by the words of the phases up to that one, so a
//! host that went on, or back, is another one.

use std::collections::BTreeMap;

use assay_evidence::Finding;
use assay_evidence::PublicKey;
use assay_evidence::Reason;
use assay_evidence::crypto;
use assay_evidence::digest::Digest;
use assay_evidence::digest::HashAlgorithm;
use assay_evidence::digest::Registers;

use crate::reference::Component;
use crate::reference::pcr_signature::PHASES;
use crate::reference::pcr_signature::PcrSignatures;
use crate::reference::pcr_signature::Vouched as By;
use crate::reference::profile::Vouched;

/// The register that the words of the phases go into.
const PHASE_REGISTER: u32 = 11;

/// `texts` are those that the host sent: a file of signatures is one of them. `replayed` is what
/// the boot log alone leads to.
pub(super) fn appraise(
    component: &Component,
    vouched: &Vouched,
    texts: &[&[u8]],
    banks: &[HashAlgorithm],
    quoted: &Registers,
    replayed: &dyn Fn(HashAlgorithm, u32) -> Option<Digest>,
    source: &str,
) -> Vec<Finding> {
    let finding = |code, claim: String, found: String, expected: &str| {
        Finding::new(code, claim, found, expected, source)
    };
    let signatures: Vec<PcrSignatures> =
        texts.iter().filter_map(|text| PcrSignatures::parse(text).ok()).collect();
    if signatures.is_empty() {
        let expected = "signatures of registers, as `systemd-measure sign` writes them";
        let claim = format!("component.{}", component.name);
        return vec![finding(Reason::EvidenceMissing, claim, "none".to_owned(), expected)];
    }
    // A profile parses only with keys that parse.
    let keys: Vec<PublicKey> =
        vouched.keys.iter().filter_map(|key| PublicKey::from_spki(key).ok()).collect();
    let mut findings = Vec::new();
    for bank in banks {
        let values: BTreeMap<u32, Digest> = component
            .on
            .iter()
            .filter_map(|register| Some((*register, *quoted.value(*bank, *register)?)))
            .collect();
        let claim = || match component.on.as_slice() {
            [register] => format!("pcr.{bank}.{register}"),
            _ => format!("component.{}.{bank}", component.name),
        };
        if values.len() != component.on.len() {
            let found = "not quoted".to_owned();
            findings.push(finding(Reason::PcrSelection, claim(), found, "quoted values"));
            continue;
        }
        let found = || values.values().map(Digest::to_hex).collect::<Vec<_>>().join(", ");
        let expected = "values that a listed key has signed";
        let by = signatures.iter().map(|file| file.vouches(*bank, &values, &keys));
        match by.min() {
            Some(By::Signed) => {}
            Some(By::OtherKey) => {
                let found = "signed by another key, or not at all".to_owned();
                findings.push(finding(Reason::SigInvalid, claim(), found, expected));
            }
            Some(By::Nothing) | None => {
                findings.push(finding(Reason::RegisterMismatch, claim(), found(), expected));
            }
        }
    }
    if let Some(phase) = &vouched.phase {
        findings.extend(wrong_phase(phase, banks, quoted, replayed, source));
    }
    findings
}

/// Register 11 as it would be at each phase, held against the quote.
fn wrong_phase(
    phase: &str,
    banks: &[HashAlgorithm],
    quoted: &Registers,
    replayed: &dyn Fn(HashAlgorithm, u32) -> Option<Digest>,
    source: &str,
) -> Option<Finding> {
    let found = banks.iter().map(|bank| {
        let quoted = quoted.value(*bank, PHASE_REGISTER)?;
        let mut value = replayed(*bank, PHASE_REGISTER)?;
        for word in PHASES {
            let word_digest = crypto::hash(*bank, &[word.as_bytes()])?;
            value = crypto::hash(*bank, &[value.as_bytes(), word_digest.as_bytes()])?;
            if value == *quoted {
                return Some(word);
            }
        }
        None
    });
    let mut wrong = found.filter(|found| *found != Some(phase));
    let found = wrong.next()?;
    let found = found.unwrap_or("no phase by which the log leads to the quote");
    Some(Finding::new(Reason::ClaimMismatch, "boot.phase", found, phase, source))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::reference::Demand;
    use crate::reference::Profile;

    /// Made by systemd-measure: see the tests of `reference::pcr_signature`.
    const SIGNED: &[u8] = include_bytes!("../reference/pcr_signature/signed.json");
    const VALUES: &[u8] = include_bytes!("../reference/pcr_signature/values.json");
    const SIGNER: &str = include_str!("../reference/pcr_signature/signer.pem");
    const OTHER: &str = "-----BEGIN PUBLIC KEY-----\n\
        MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE2hMPu9CZ6K1a4fAli1Caqnf5Ukve\n\
        LqAWYT4ad2kACehU9MmpV/Vt75VrJ9GerTrEw9yxeZiFrp0sw8rViK4PaQ==\n\
        -----END PUBLIC KEY-----";
    const BANKS: [HashAlgorithm; 2] = [HashAlgorithm::Sha256, HashAlgorithm::Sha384];

    fn profile(key: &str, phase: &str) -> Profile {
        Profile::parse(&format!(
            "schema = \"firmware-profile/1\"\nid = \"a/b\"\nserial = 1\nroot = \"tpm2\"\n\
             banks = [\"sha256\", \"sha384\"]\n[[key]]\nname = \"uki\"\nspki = \"\"\"\n{key}\"\"\"\n\
             [[component]]\nname = \"kernel\"\non = [11]\nvouched = {{ by = \"uki-pcr-signature\", \
             keys = [\"@key:uki\"]{phase} }}\n"
        ))
        .unwrap()
    }

    /// Register 11 of the image alone, and at each phase.
    fn value(bank: HashAlgorithm, phase: Option<usize>) -> Digest {
        let Some(phase) = phase else {
            let parts: [&[u8]; 4] = [b".linux\0", b"kernel\n", b".cmdline\0", b"quiet\n"];
            return parts.iter().fold(Digest::zero(bank), |value, part| {
                let part = crypto::hash(bank, &[part]).unwrap();
                crypto::hash(bank, &[value.as_bytes(), part.as_bytes()]).unwrap()
            });
        };
        let values: serde_json::Value = serde_json::from_slice(VALUES).unwrap();
        let text = values[bank.name()][phase]["hash"].as_str().unwrap();
        Digest::new(bank, &hex::decode(text).unwrap()).unwrap()
    }

    fn codes(profile: &Profile, text: &[u8], phase: Option<usize>) -> Vec<Reason> {
        let mut quoted = Registers::new();
        for bank in BANKS {
            assert!(quoted.insert(11, value(bank, phase)));
        }
        judged(profile, text, &quoted)
    }

    fn judged(profile: &Profile, text: &[u8], quoted: &Registers) -> Vec<Reason> {
        let component = profile.components.first().unwrap();
        let Demand::Vouched(vouched) = &component.demand else { panic!() };
        let replayed = |bank, _| Some(value(bank, None));
        let texts = [text];
        let found = appraise(component, vouched, &texts, &BANKS, quoted, &replayed, "line");
        found.into_iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn a_signed_boot_is_admitted_at_every_phase_that_was_signed_and_nowhere_else() {
        let any = profile(SIGNER, "");
        for phase in 0..4 {
            assert_eq!(codes(&any, SIGNED, Some(phase)), []);
        }
        assert_eq!(codes(&any, SIGNED, None), [Reason::RegisterMismatch; 2]);
        assert_eq!(codes(&any, b"{}", Some(3)), [Reason::EvidenceMissing]);
        assert_eq!(codes(&profile(OTHER, ""), SIGNED, Some(3)), [Reason::SigInvalid; 2]);
    }

    #[test]
    fn the_phase_that_the_profile_names_is_the_only_one() {
        let ready = profile(SIGNER, ", phase = \"ready\"");
        assert_eq!(codes(&ready, SIGNED, Some(3)), []);
        assert_eq!(codes(&ready, SIGNED, Some(2)), [Reason::ClaimMismatch]);
        let initrd = profile(SIGNER, ", phase = \"enter-initrd\"");
        assert_eq!(codes(&initrd, SIGNED, Some(0)), []);
        assert_eq!(codes(&initrd, SIGNED, Some(3)), [Reason::ClaimMismatch]);
    }

    #[test]
    fn one_bank_does_not_stand_for_another() {
        let any = profile(SIGNER, "");
        let mut quoted = Registers::new();
        assert!(quoted.insert(11, value(HashAlgorithm::Sha256, Some(3))));
        assert_eq!(judged(&any, SIGNED, &quoted), [Reason::PcrSelection]);
        assert!(quoted.insert(11, value(HashAlgorithm::Sha384, Some(2))));
        let ready = profile(SIGNER, ", phase = \"ready\"");
        assert_eq!(judged(&ready, SIGNED, &quoted), [Reason::ClaimMismatch]);
        let mut json: serde_json::Value = serde_json::from_slice(SIGNED).unwrap();
        json.as_object_mut().unwrap().remove("sha384");
        let text = json.to_string();
        assert_eq!(judged(&any, text.as_bytes(), &quoted), [Reason::RegisterMismatch]);
    }
}
