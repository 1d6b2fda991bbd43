//! Firmware with a known fault, held against the policy: refused, or borne until a date.
//!
//! The version comes out of the signed quote, the maker and the model out of the verified EK
//! certificate. Where the certificate names no maker nothing can be said, and that is said.

use std::collections::BTreeMap;

use assay_evidence::reason::Finding;
use assay_evidence::reason::Reason;
use assay_evidence::time::Time;
use assay_tpm::advisory;
use assay_tpm::endorsement::Device;

use crate::policy::Policy;

/// What the list says of one TPM.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub findings: Vec<Finding>,
    pub warnings: Vec<Finding>,
    pub not_checked: Option<String>,
}

pub(super) fn appraise_firmware(
    device: Option<&Device>,
    firmware_version: u64,
    policy: &Policy,
    now: Time,
) -> Judged {
    let Some(device) = device.filter(|device| !device.manufacturer.trim().is_empty()) else {
        let gap = "firmware advisories: no verified certificate names the maker of the TPM";
        return Judged { not_checked: Some(gap.to_owned()), ..Judged::default() };
    };
    let list = &policy.advisories;
    let affecting = advisory::affecting(&list.advisories, device, firmware_version);
    // One fault may have several ranges; it is told once.
    let affecting: BTreeMap<_, _> =
        affecting.into_iter().map(|advisory| (advisory.id.as_str(), advisory)).collect();
    let mut judged = Judged::default();
    for advisory in affecting.into_values() {
        let mut finding = Finding {
            code: Reason::TpmFirmwareVulnerable,
            claim: "tpm.firmware_version".to_owned(),
            found: format!(
                "0x{firmware_version:016x} of {} {}: {} ({})",
                device.manufacturer, device.model, advisory.id, advisory.source
            ),
            expected: match advisory.firmware_below {
                Some(good) => format!("0x{good:016x} or later"),
                None => "a TPM without this fault: no fixed version is known".to_owned(),
            },
            source: format!("advisories `{}` as of {}", list.name, list.as_of),
        };
        match policy.accept_advisories.iter().find(|accepted| accepted.id == advisory.id) {
            Some(accepted) if now < accepted.until => {
                finding.source = format!(
                    "policy, `accept_advisories`, until {}: {}",
                    accepted.until, accepted.because
                );
                judged.warnings.push(finding);
            }
            Some(accepted) => {
                finding.source.push_str(&format!(
                    "; the exception in policy, `accept_advisories`, ended {}",
                    accepted.until
                ));
                judged.findings.push(finding);
            }
            None => judged.findings.push(finding),
        }
    }
    judged
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn time(text: &str) -> Time {
        Time::parse_rfc3339(text).unwrap()
    }

    fn device(manufacturer: &str) -> Device {
        Device { manufacturer: manufacturer.into(), model: "ST33".into(), version: String::new() }
    }

    const ACCEPTED: &str = "accept_advisories = [{ id = \"CVE-2019-16863\", \
        until = \"2027-01-01T00:00:00Z\", because = \"board swap in December\" }]";

    /// STMicroelectronics 73.4, one of the versions of TPM-FAIL, and the first good one.
    const BAD: u64 = 0x0049_0004_0000_0000;
    const GOOD: u64 = 0x0049_0014_0000_0000;

    fn judged(policy: &str, maker: &str, version: u64, now: &str) -> Judged {
        let policy = Policy::parse(policy).unwrap();
        appraise_firmware(Some(&device(maker)), version, &policy, time(now))
    }

    #[test]
    fn known_bad_firmware_is_refused_with_the_version_that_cures_it() {
        let bad = judged("", "id:53544D20", BAD, "2026-11-24T00:00:00Z");
        let [finding] = bad.findings.as_slice() else { panic!("{bad:?}") };
        assert_eq!(finding.code, Reason::TpmFirmwareVulnerable);
        assert!(finding.found.contains("CVE-2019-16863"), "{finding:?}");
        assert!(finding.expected.contains("0x0049001400000000"), "{finding:?}");
        let good = judged("", "id:53544D20", GOOD, "2026-11-24T00:00:00Z");
        assert!(good.findings.is_empty() && good.not_checked.is_none());
        let other = judged("", "id:4E544300", BAD, "2026-11-24T00:00:00Z");
        assert!(other.findings.is_empty());
    }

    #[test]
    fn an_exception_warns_until_its_date_and_refuses_from_then_on() {
        let before = judged(ACCEPTED, "id:53544D20", BAD, "2026-12-31T23:59:59Z");
        assert!(before.findings.is_empty());
        assert!(before.warnings[0].source.contains("board swap"), "{before:?}");
        let after = judged(ACCEPTED, "id:53544D20", BAD, "2027-01-01T00:00:00Z");
        assert!(after.warnings.is_empty());
        assert!(after.findings[0].source.contains("ended 2027-01-01"), "{after:?}");
        let other = ACCEPTED.replace("CVE-2019-16863", "CVE-2017-15361");
        assert_eq!(judged(&other, "id:53544D20", BAD, "2026-12-01T00:00:00Z").findings.len(), 1);
    }

    #[test]
    fn a_maker_that_nobody_names_is_said_to_be_unchecked() {
        let policy = Policy::parse("").unwrap();
        let now = time("2026-11-24T00:00:00Z");
        assert!(appraise_firmware(None, BAD, &policy, now).not_checked.is_some());
        assert!(appraise_firmware(Some(&device(" ")), BAD, &policy, now).not_checked.is_some());
    }

    #[test]
    fn an_operators_list_takes_the_place_of_the_built_in_one() {
        let list = "as_of = \"2026-11-01\"\n[[advisory]]\nid = \"HOUSE-1\"\n\
            date = \"2026-11-01\"\nmanufacturer = \"id:4E544300\"\nseverity = \"low\"\n\
            source = \"ticket 7\"\n";
        let read = |_: &std::path::Path| Ok(list.to_owned());
        let policy = Policy::parse_with("advisories = \"own.toml\"", read).unwrap();
        let now = time("2026-11-24T00:00:00Z");
        let judged = |maker| appraise_firmware(Some(&device(maker)), BAD, &policy, now).findings;
        assert!(judged("id:53544D20").is_empty());
        let found = judged("id:4E544300");
        assert!(found[0].source.contains("own.toml") && found[0].expected.contains("no fixed"));
    }
}
