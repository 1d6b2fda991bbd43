//! JSON from strangers: one value, no key twice, fixed-length hex.
//!
//! A duplicate key is refused at every depth, also in parts that are not used. Depth is bounded by
//! serde_json (128), size by the caller.

use std::collections::BTreeSet;
use std::fmt;

use assay_evidence::Time;
use serde::Deserialize;
use serde::Deserializer;
use serde::de::DeserializeOwned;
use serde::de::IgnoredAny;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;

use crate::error::Error;
use crate::error::Place;

pub(super) fn parse<T: DeserializeOwned>(text: &[u8], place: Place) -> Result<T, Error> {
    serde_json::from_slice::<Unambiguous>(text).map_err(|fault| Error::collateral(place, fault))?;
    serde_json::from_slice(text).map_err(|fault| Error::collateral(place, fault))
}

/// Any value, as long as every key of every object is there once.
struct Unambiguous;

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Unambiguous, D::Error> {
        deserializer.deserialize_any(Walk)
    }
}

struct Walk;

impl<'de> Visitor<'de> for Walk {
    type Value = Unambiguous;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unambiguous, A::Error> {
        let mut keys = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value::<Unambiguous>()?;
            if let Some(key) = keys.replace(key) {
                return Err(serde::de::Error::custom(format!("the key `{key}` is there twice")));
            }
        }
        Ok(Unambiguous)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Unambiguous, A::Error> {
        while seq.next_element::<Unambiguous>()?.is_some() {}
        Ok(Unambiguous)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }

    fn visit_str<E>(self, _: &str) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }

    fn visit_unit<E>(self) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }
}

/// Exactly so many bytes, written as hex digits of either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hex<const N: usize>(pub [u8; N]);

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Hex<N>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; N];
        hex::decode_to_slice(&text, &mut bytes)
            .map_err(|fault| serde::de::Error::custom(format!("{N} bytes as hex: {fault}")))?;
        Ok(Hex(bytes))
    }
}

/// A date of a document: RFC 3339 in UTC.
pub(super) fn utc<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
    let text = String::deserialize(deserializer)?;
    if !text.ends_with('Z') {
        return Err(serde::de::Error::custom(format!("`{text}` is not a time in UTC")));
    }
    Time::parse_rfc3339(&text).map_err(serde::de::Error::custom)
}

/// A list of at most `MAX` members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bounded<T, const MAX: usize>(pub Vec<T>);

impl<T, const MAX: usize> Default for Bounded<T, MAX> {
    fn default() -> Self {
        Bounded(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Bounded<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T, const MAX: usize>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Members<T, MAX> {
            type Value = Bounded<T, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MAX}")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while all.len() < MAX {
                    match seq.next_element()? {
                        Some(member) => all.push(member),
                        None => return Ok(Bounded(all)),
                    }
                }
                match seq.next_element::<IgnoredAny>()? {
                    Some(_) => Err(serde::de::Error::custom(format!("more than {MAX} members"))),
                    None => Ok(Bounded(all)),
                }
            }
        }

        deserializer.deserialize_seq(Members(std::marker::PhantomData))
    }
}
