//! The JSON text whose hash a hardware report carries: the vTPM's keys and the VM's settings.
//!
//! Who wrote it is the paravisor. Members that are not known are kept out, not refused: the hash
//! covers them all, and Azure adds some with the years. A member or key that is there twice is
//! refused, because two readers would read two things.

use std::collections::BTreeMap;

use assay_evidence::PublicKey;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use crate::error::Fault;

/// The keys and settings of one VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VarData {
    ak: PublicKey,
    key_ids: Vec<String>,
    vm_configuration: BTreeMap<String, Value>,
    user_data: Option<[u8; 64]>,
}

#[derive(Deserialize)]
struct Text {
    keys: Vec<Key>,
    #[serde(rename = "vm-configuration", default)]
    vm_configuration: Settings,
    #[serde(rename = "user-data", default)]
    user_data: Option<String>,
}

/// A JSON Web Key (RFC 7517), as far as it is read.
#[derive(Deserialize)]
struct Key {
    kid: String,
    kty: String,
    #[serde(default)]
    e: String,
    #[serde(default)]
    n: String,
}

impl VarData {
    pub(crate) fn parse(text: &[u8]) -> Result<VarData, Fault> {
        let malformed = |what: &str| Fault::VarData(what.to_owned());
        let text: Text =
            serde_json::from_slice(text).map_err(|error| Fault::VarData(error.to_string()))?;
        if text.keys.len() > MAX_KEYS {
            return Err(malformed("more keys than a vTPM has"));
        }
        let key_ids: Vec<String> = text.keys.iter().map(|key| key.kid.clone()).collect();
        if key_ids.iter().enumerate().any(|(at, id)| key_ids.iter().skip(at + 1).any(|o| o == id)) {
            return Err(malformed("two keys of one name"));
        }
        let ak = text.keys.iter().find(|key| key.kid == AK).ok_or(Fault::KeyMissing(AK))?;
        let user_data = match &text.user_data {
            None => None,
            Some(hex_text) => {
                let mut bytes = [0; 64];
                hex::decode_to_slice(hex_text, &mut bytes)
                    .map_err(|_| malformed("user-data that is not 64 bytes in hex"))?;
                Some(bytes)
            }
        };
        Ok(VarData {
            ak: ak.public_key()?,
            key_ids,
            vm_configuration: text.vm_configuration.0,
            user_data,
        })
    }

    pub fn ak(&self) -> &PublicKey {
        &self.ak
    }

    pub fn key_ids(&self) -> &[String] {
        &self.key_ids
    }

    /// As the paravisor was started: secure boot, console, identity of the VM.
    pub fn vm_configuration(&self) -> &BTreeMap<String, Value> {
        &self.vm_configuration
    }

    /// 64 bytes that the guest may set.
    pub fn user_data(&self) -> Option<&[u8; 64]> {
        self.user_data.as_ref()
    }
}

impl Key {
    fn public_key(&self) -> Result<PublicKey, Fault> {
        let malformed = |what: &str| Fault::VarData(format!("the key `{}` {what}", self.kid));
        if self.kty != "RSA" {
            return Err(malformed("is not an RSA key"));
        }
        let number = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
        let modulus = number(&self.n).ok_or(malformed("has no modulus"))?;
        let exponent = number(&self.e)
            .filter(|bytes| bytes.len() <= 8)
            .ok_or(malformed("has no exponent"))?
            .iter()
            .fold(0_u64, |sum, &byte| sum << 8 | u64::from(byte));
        Ok(PublicKey::rsa(&modulus, exponent))
    }
}

/// An object whose members are there once each; a plain map would keep the last.
#[derive(Default)]
struct Settings(BTreeMap<String, Value>);

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Settings, D::Error> {
        struct Members;
        impl<'de> serde::de::Visitor<'de> for Members {
            type Value = Settings;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Settings, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if members.insert(name, value).is_some() {
                        return Err(serde::de::Error::custom("a setting that is there twice"));
                    }
                }
                Ok(Settings(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

const AK: &str = "HCLAkPub";
const MAX_KEYS: usize = 8;
