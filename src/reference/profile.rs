//! A firmware profile: for each component the registers it decides and the variants it may have.
//!
//! This reads the part of the schema `firmware-profile/1` that needs no event log: literal
//! register values per variant. Registers that no component names are recorded, not decided.

use std::collections::BTreeMap;

use assay_evidence::crypto;
use assay_evidence::digest::Digest;
use assay_evidence::digest::HashAlgorithm;
use assay_evidence::time::Time;
use serde::Deserialize;
use toml::Spanned;

const SCHEMA: &str = "firmware-profile/1";
const MAX_COMPONENTS: usize = 64;
const MAX_VARIANTS: usize = 256;
/// PCR 0–23 (TCG PC Client platform).
const MAX_REGISTER: u32 = 23;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    pub id: String,
    pub serial: u64,
    pub components: Vec<Component>,
    /// SHA-256 of the text this profile was parsed from; goes into every record.
    pub sha256: [u8; 32],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    pub name: String,
    /// Register indexes that this component decides, ascending.
    pub on: Vec<u32>,
    pub variants: Vec<Variant>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    pub name: String,
    pub state: State,
    /// Where the variant stands in the profile's text.
    pub line: usize,
    /// bank → register → value
    pub literals: BTreeMap<HashAlgorithm, BTreeMap<u32, Digest>>,
}

/// Where a variant is in its life: only `Active` and an unexpired `Retiring` admit a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Candidate,
    Active,
    Retiring { until: Time },
    Revoked,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    #[error("{0}")]
    Syntax(String),
    #[error("`{key}` is `{found}`, expected {expected}")]
    Value { key: &'static str, found: String, expected: String },
    #[error("component `{component}`, variant `{variant}`, line {line}: {fault}")]
    Variant { component: String, variant: String, line: usize, fault: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileConfig {
    schema: String,
    id: String,
    serial: u64,
    root: String,
    banks: Vec<String>,
    #[serde(default)]
    component: Vec<ComponentConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ComponentConfig {
    name: String,
    on: Vec<u32>,
    #[serde(default)]
    variant: Vec<Spanned<VariantConfig>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VariantConfig {
    name: String,
    state: String,
    until: Option<String>,
    pcr: BTreeMap<String, BTreeMap<String, String>>,
}

impl Profile {
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        let config: ProfileConfig = toml::from_str(text)
            .map_err(|error| ProfileError::Syntax(error.to_string().trim_end().to_owned()))?;
        let value = |key, found: &str, expected: &str| ProfileError::Value {
            key,
            found: found.to_owned(),
            expected: expected.to_owned(),
        };
        if config.schema != SCHEMA {
            return Err(value("schema", &config.schema, SCHEMA));
        }
        if config.root != "tpm2" {
            return Err(value("root", &config.root, "tpm2"));
        }
        if config.id.is_empty() || config.id.len() > 128 {
            return Err(value("id", &config.id, "1 to 128 bytes"));
        }
        let mut banks = Vec::new();
        for name in &config.banks {
            banks.push(deciding_bank(name).ok_or_else(|| {
                value("banks", name, "sha256, sha384 or sha512: sha1 never decides")
            })?);
        }
        if banks.is_empty() {
            return Err(value("banks", "[]", "at least one bank"));
        }
        if config.component.is_empty() || config.component.len() > MAX_COMPONENTS {
            let found = config.component.len().to_string();
            return Err(value("component", &found, "1 to 64 components"));
        }
        let components = config
            .component
            .into_iter()
            .map(|component| Component::from_config(component, &banks, text))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            id: config.id,
            serial: config.serial,
            components,
            sha256: crypto::sha256(text.as_bytes()),
        })
    }
}

impl Component {
    fn from_config(
        config: ComponentConfig,
        banks: &[HashAlgorithm],
        text: &str,
    ) -> Result<Self, ProfileError> {
        let value = |key, found: String, expected: &str| ProfileError::Value {
            key,
            found,
            expected: expected.to_owned(),
        };
        let mut on = config.on;
        on.sort_unstable();
        if on.is_empty() || on.iter().any(|register| *register > MAX_REGISTER) {
            return Err(value("on", format!("{on:?}"), "registers 0 to 23, at least one"));
        }
        if on.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(value("on", format!("{on:?}"), "each register once"));
        }
        if config.variant.is_empty() || config.variant.len() > MAX_VARIANTS {
            return Err(value("variant", config.variant.len().to_string(), "1 to 256 variants"));
        }
        let mut variants = Vec::new();
        for variant in config.variant {
            let start = variant.span().start;
            let line = 1 + text.bytes().take(start).filter(|b| *b == b'\n').count();
            let variant = variant.into_inner();
            let name = variant.name.clone();
            variants.push(Variant::from_config(variant, &on, banks, line).map_err(|fault| {
                ProfileError::Variant { component: config.name.clone(), variant: name, line, fault }
            })?);
        }
        Ok(Self { name: config.name, on, variants })
    }
}

impl Variant {
    /// Every decided register must have a literal in every bank of the profile: a register left
    /// out would silently be free.
    fn from_config(
        config: VariantConfig,
        on: &[u32],
        banks: &[HashAlgorithm],
        line: usize,
    ) -> Result<Self, String> {
        let state = match (config.state.as_str(), &config.until) {
            ("candidate", None) => State::Candidate,
            ("active", None) => State::Active,
            ("revoked", None) => State::Revoked,
            ("retiring", Some(until)) => State::Retiring {
                until: Time::parse_rfc3339(until)
                    .map_err(|_| format!("`until` is `{until}`, expected an RFC 3339 time"))?,
            },
            ("retiring", None) => return Err("a retiring variant needs `until`".to_owned()),
            (state, Some(_)) => return Err(format!("a variant that is `{state}` has no `until`")),
            (state, None) => {
                return Err(format!(
                    "`state` is `{state}`, expected candidate, active, retiring or revoked"
                ));
            }
        };
        let mut literals = BTreeMap::new();
        for (bank_name, values) in config.pcr {
            let bank = deciding_bank(&bank_name)
                .filter(|bank| banks.contains(bank))
                .ok_or_else(|| format!("`{bank_name}` is not one of the profile's `banks`"))?;
            let mut registers = BTreeMap::new();
            for (register, text) in values {
                let index =
                    register.parse().ok().filter(|index| on.contains(index)).ok_or_else(|| {
                        format!("register `{register}` is not one of `on` {on:?}")
                    })?;
                let digest = hex::decode(&text)
                    .ok()
                    .and_then(|bytes| Digest::new(bank, &bytes))
                    .ok_or_else(|| {
                        format!("register {index}: `{text}` is not a {bank_name} value in hex")
                    })?;
                registers.insert(index, digest);
            }
            literals.insert(bank, registers);
        }
        for bank in banks {
            let named = literals.get(bank).map_or(0, BTreeMap::len);
            if named != on.len() {
                return Err(format!(
                    "{named} of {} registers of `on` have a value in bank {bank}",
                    on.len()
                ));
            }
        }
        Ok(Self { name: config.name, state, line, literals })
    }
}

fn deciding_bank(name: &str) -> Option<HashAlgorithm> {
    match name {
        "sha256" => Some(HashAlgorithm::Sha256),
        "sha384" => Some(HashAlgorithm::Sha384),
        "sha512" => Some(HashAlgorithm::Sha512),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn text(pcr8: &str, state: &str) -> String {
        let zero = "00".repeat(32);
        format!(
            r#"schema = "firmware-profile/1"
id = "demo/swtpm"
serial = 1
root = "tpm2"
banks = ["sha256"]
[[component]]
name = "firmware"
on = [8, 0]
[[component.variant]]
name = "1"
state = "{state}"
pcr = {{ sha256 = {{ "0" = "{zero}", {pcr8} }} }}
"#
        )
    }

    fn eight() -> String {
        format!("\"8\" = \"{}\"", "11".repeat(32))
    }

    #[test]
    fn a_literal_profile_parses() {
        let profile = Profile::parse(&text(&eight(), "active")).unwrap();
        assert_eq!((profile.id.as_str(), profile.serial), ("demo/swtpm", 1));
        let component = profile.components.first().unwrap();
        assert_eq!(component.on, [0, 8]);
        let variant = component.variants.first().unwrap();
        assert_eq!(variant.state, State::Active);
        assert_eq!(variant.literals[&HashAlgorithm::Sha256].len(), 2);
        assert!((9..=12).contains(&variant.line), "{}", variant.line);
    }

    #[test]
    fn a_decided_register_without_value_is_refused() {
        let error = Profile::parse(&text("", "active")).unwrap_err().to_string();
        assert!(error.contains("1 of 2 registers"), "{error}");
    }

    #[test]
    fn ill_formed_profiles_are_refused_with_the_cause() {
        let refused = |text: String| Profile::parse(&text).unwrap_err().to_string();
        assert!(refused(text("\"9\" = \"00\"", "active")).contains("not one of `on`"));
        assert!(refused(text("\"8\" = \"00\"", "active")).contains("not a sha256 value"));
        assert!(refused(text(&eight(), "retiring")).contains("needs `until`"));
        assert!(refused(text(&eight(), "live")).contains("expected candidate"));
        let good = text(&eight(), "active");
        assert!(refused(good.replace("[\"sha256\"]", "[\"sha1\"]")).contains("sha1 never decides"));
        assert!(refused(good.replace("on = [8, 0]", "on = [8, 0, 8]")).contains("once"));
        assert!(refused(good.replace("on = [8, 0]", "on = [8, 24]")).contains("0 to 23"));
        assert!(refused(good.replace("serial = 1", "serial = 1\nseriall = 2")).contains("seriall"));
        assert!(refused(good.replace("profile/1", "profile/2")).contains("firmware-profile/1"));
    }
}
