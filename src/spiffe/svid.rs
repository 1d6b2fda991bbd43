//! SVIDs as values: what was signed for whom, until when. Making one is the CA's work alone.

use std::fmt;

use assay_evidence::time::Time;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use serde::de::Error as _;

use crate::spiffe::SpiffeId;

/// The serial number of a certificate: 16 random bytes, positive, never zero (RFC 5280 4.1.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial([u8; 16]);

impl Serial {
    /// Makes a serial of random bytes: the top bit is cleared so that the DER integer is positive
    /// and has no padding octet, the next is set so that it is never short or zero.
    pub fn from_random(mut bytes: [u8; 16]) -> Self {
        if let Some(first) = bytes.first_mut() {
            *first = (*first & 0x7f) | 0x40;
        }
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    pub fn parse_hex(text: &str) -> Option<Self> {
        let bytes: [u8; 16] = hex::decode(text).ok()?.try_into().ok()?;
        Some(Self(bytes))
    }

    /// The serial as it stands in a certificate; `None` where it has another length than ours.
    pub fn from_certificate(serial: &[u8]) -> Option<Self> {
        Some(Self(serial.try_into().ok()?))
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl Serialize for Serial {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Serial {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse_hex(&text).ok_or_else(|| D::Error::custom("a serial is 16 bytes in hex"))
    }
}

/// An issued X.509-SVID: the chain in DER, leaf first, without a self-signed root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct X509Svid {
    pub id: SpiffeId,
    pub chain: Vec<Vec<u8>>,
    pub serial: Serial,
    pub not_before: Time,
    pub not_after: Time,
    pub hint: String,
}

/// An issued JWT-SVID in compact form. Debug never prints the token: it is a bearer secret.
#[derive(Clone, PartialEq, Eq)]
pub struct JwtSvid {
    pub id: SpiffeId,
    pub token: String,
    pub issued_at: Time,
    pub expires_at: Time,
    pub hint: String,
}

impl fmt::Debug for JwtSvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtSvid")
            .field("id", &self.id)
            .field("issued_at", &self.issued_at)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_serial_is_positive_and_full_length_whatever_the_random_bytes() {
        for bytes in [[0; 16], [0xff; 16], [0x80; 16]] {
            let serial = Serial::from_random(bytes);
            assert_eq!(serial.as_bytes()[0] & 0xc0, 0x40);
            assert_eq!(Serial::parse_hex(&serial.to_string()).unwrap(), serial);
        }
    }

    #[test]
    fn the_token_of_a_jwt_svid_is_not_printed() {
        let svid = JwtSvid {
            id: SpiffeId::parse("spiffe://example.org/web").unwrap(),
            token: "head.body.tail".to_owned(),
            issued_at: Time::from_unix_s(0),
            expires_at: Time::from_unix_s(1),
            hint: String::new(),
        };
        assert!(!format!("{svid:?}").contains("body"));
    }
}
