//! The 32 random bytes of a challenge.
//!
//! A nonce is public once sent, so it is compared and printed freely; that it is used once is the
//! business of whoever hands it out.

use std::fmt;

use serde::Serialize;
use serde::Serializer;

use crate::crypto;
use crate::crypto::Random;
use crate::crypto::RandomError;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce([u8; 32]);

impl Nonce {
    pub const fn from_bytes(bytes: [u8; 32]) -> Nonce {
        Nonce(bytes)
    }

    pub fn fresh(random: &mut dyn Random) -> Result<Nonce, RandomError> {
        let mut bytes = [0; 32];
        random.fill(&mut bytes)?;
        Ok(Nonce(bytes))
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Under this hash the server remembers what it handed out.
    pub fn sha256(&self) -> [u8; 32] {
        crypto::sha256(&self.0)
    }
}

impl TryFrom<&[u8]> for Nonce {
    type Error = std::array::TryFromSliceError;

    fn try_from(bytes: &[u8]) -> Result<Nonce, Self::Error> {
        bytes.try_into().map(Nonce)
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nonce({self})")
    }
}

impl Serialize for Nonce {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
