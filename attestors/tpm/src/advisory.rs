//! Firmware of TPMs that is known to be bad: a dated list, and which of it concerns a TPM.
//!
//! The list is data that an operator may replace, and a pure question is asked of it. Evidence is
//! genuine or not whatever firmware signed it, so `verify` never asks; an appraisal does. A quote
//! carries the firmware version but not the maker, so that comes from a verified certificate.

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;

use crate::endorsement::Device;

/// A list as its file has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Advisories {
    /// The day on which somebody last looked for news, `2026-11-24`.
    pub as_of: String,
    #[serde(default)]
    pub advisory: Vec<Advisory>,
}

/// One range of firmware with one known fault.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Advisory {
    /// `CVE-2019-16863`; one fault may have several ranges.
    pub id: String,
    /// The day on which the fault became public.
    pub date: String,
    /// As certificates write it: `id:53544D20`.
    pub manufacturer: String,
    /// Beginnings of model names; none stands for all models of the manufacturer.
    #[serde(default)]
    pub models: Vec<String>,
    /// First bad version, as a quote has it; left out: from the beginning.
    #[serde(default, deserialize_with = "version")]
    pub firmware_from: Option<u64>,
    /// First good version after it; left out: there is none yet.
    #[serde(default, deserialize_with = "version")]
    pub firmware_below: Option<u64>,
    pub severity: Severity,
    /// Where to read more.
    pub source: String,
}

/// What the fault lets an attacker do: for people. It
/// decides nothing: a policy that asks for advisories refuses by each that concerns a TPM, unless
/// it bears that one by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Denial of service, or physical access for long.
    Low,
    /// Secrets other than keys, or conditions that are seldom met.
    Medium,
    /// Keys of the TPM can be computed, or its code changed.
    High,
}

/// The advisories that concern a TPM of this kind with this firmware (TPMS_ATTEST
/// firmwareVersion), in the order of the list.
///
/// A device that does not say its model counts as every model of its maker: to leave a name out is
/// no cure.
pub fn affecting<'a>(
    list: &'a [Advisory],
    device: &Device,
    firmware_version: u64,
) -> Vec<&'a Advisory> {
    list.iter().filter(|advisory| advisory.concerns(device, firmware_version)).collect()
}

impl Advisory {
    fn concerns(&self, device: &Device, firmware_version: u64) -> bool {
        let model = normal(&device.model);
        let named = self.models.is_empty()
            || model.is_empty()
            || self.models.iter().any(|name| model.starts_with(&normal(name)));
        normal(&self.manufacturer) == normal(&device.manufacturer)
            && named
            && self.firmware_from.is_none_or(|from| from <= firmware_version)
            && self.firmware_below.is_none_or(|below| firmware_version < below)
    }
}

/// Makers write `id:49465800` in either case, and models with or without spaces.
fn normal(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).flat_map(char::to_lowercase).collect()
}

/// `0x` and hex digits, as in our own claims: TOML has no unsigned 64-bit integers.
fn version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let digits = text.strip_prefix("0x").filter(|digits| digits.len() == 16);
    digits
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .map(Some)
        .ok_or_else(|| serde::de::Error::custom("a version is 0x and sixteen hex digits"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn advisory(models: &[&str], from: Option<u64>, below: Option<u64>) -> Advisory {
        Advisory {
            id: "CVE-2019-16863".into(),
            date: "2019-11-12".into(),
            manufacturer: "id:53544D20".into(),
            models: models.iter().map(ToString::to_string).collect(),
            firmware_from: from,
            firmware_below: below,
            severity: Severity::High,
            source: "https://example.org".into(),
        }
    }

    fn device(manufacturer: &str, model: &str) -> Device {
        Device { manufacturer: manufacturer.into(), model: model.into(), version: String::new() }
    }

    #[test]
    fn a_range_is_closed_below_and_open_above() {
        let list = [advisory(&[], Some(10), Some(20))];
        let hit = |version| !affecting(&list, &device("id:53544D20", "ST33"), version).is_empty();
        assert_eq!([9, 10, 19, 20].map(hit), [false, true, true, false]);
        let open = [advisory(&[], None, None)];
        assert_eq!(affecting(&open, &device("id:53544d20", "x"), u64::MAX).len(), 1);
    }

    #[test]
    fn only_the_named_maker_and_models_are_concerned() {
        let list = [advisory(&["SLB 9670"], None, None)];
        let hit = |maker, model| !affecting(&list, &device(maker, model), 1).is_empty();
        assert!(hit("id:53544D20", "SLB9670VQ2.0"));
        assert!(!hit("id:53544D20", "SLB 9665"));
        assert!(!hit("id:49465800", "SLB 9670"));
        // To leave the model out is no cure.
        assert!(hit("id:53544D20", ""));
    }

    #[test]
    fn an_unknown_key_or_a_version_in_another_form_is_refused() {
        let text = |extra: &str| {
            serde_json::from_str::<Advisory>(&format!(
                r#"{{"id":"a","date":"2020-01-01","manufacturer":"id:0","severity":"low",
                    "source":"s"{extra}}}"#
            ))
        };
        assert!(text("").is_ok());
        let with = text(r#","firmware_from":"0x0000000000000010""#).unwrap();
        assert_eq!(with.firmware_from, Some(16));
        for bad in ["16", "\"10\"", "\"0x10\"", "\"0xzzzzzzzzzzzzzzzz\"", "\"0x00000000000000100\""]
        {
            assert!(text(&format!(r#","firmware_from":{bad}"#)).is_err(), "{bad}");
        }
        assert!(text(r#","firmware":"0x0000000000000010""#).is_err());
    }
}
