//! An ECDSA signature over P-256, in the two forms that it is written in.

use assay_evidence::Reader;
use assay_evidence::reader::ReadError;

/// r and s, each padded to the field; made only from the strict DER form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    der: Vec<u8>,
    fixed: [u8; 64],
}

impl Signature {
    /// Reads an ECDSA-Sig-Value (RFC 3279 section 2.2.3); nothing if it is not exactly one.
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let mut fixed = [0; 64];
        let (r, s) = fixed.split_at_mut(32);
        parse(der, r, s).ok().flatten()?;
        Some(Self { der: der.to_vec(), fixed })
    }

    /// As X.509 has it.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// r ‖ s, as JOSE has it (RFC 7518 section 3.4).
    pub fn fixed(&self) -> &[u8; 64] {
        &self.fixed
    }
}

fn parse(der: &[u8], r: &mut [u8], s: &mut [u8]) -> Result<Option<()>, ReadError> {
    let mut reader = Reader::new(der);
    let sequence = reader.array::<2>()?;
    if sequence != [0x30, u8::try_from(reader.rest().len()).unwrap_or(0xff)] {
        return Ok(None);
    }
    for place in [r, s] {
        let [tag, length] = reader.array::<2>()?;
        let number = reader.take(usize::from(length))?;
        let digits = match number {
            // One zero octet keeps a high first bit from meaning "negative"; any other is waste.
            [0, rest @ ..] if rest.first().is_some_and(|first| *first >= 0x80) => rest,
            [first, ..] if (1..0x80).contains(first) => number,
            _ => return Ok(None),
        };
        let Some(start) = place.len().checked_sub(digits.len()).filter(|_| tag == 0x02) else {
            return Ok(None);
        };
        place.split_at_mut(start).1.copy_from_slice(digits);
    }
    reader.finish()?;
    Ok(Some(()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use assay_evidence::HashAlgorithm;
    use assay_evidence::crypto;
    use assay_evidence::crypto::SignatureScheme;
    use assay_evidence::crypto::SoftwareKey;

    use super::*;

    #[test]
    fn both_forms_of_a_signature_verify_whatever_the_length_of_its_numbers() {
        let key = SoftwareKey::generate().unwrap();
        let scheme = SignatureScheme::EcdsaFixed(HashAlgorithm::Sha256);
        for i in 0..600_u32 {
            let message = i.to_be_bytes();
            let signature = Signature::from_der(&key.sign(&message).unwrap()).unwrap();
            crypto::verify_signature(scheme, &key.public_key(), &message, signature.fixed())
                .unwrap();
        }
    }

    #[test]
    fn what_is_not_exactly_a_signature_is_refused() {
        let good = SoftwareKey::generate().unwrap().sign(b"m").unwrap();
        assert!(Signature::from_der(&good).is_some());
        for end in 0..good.len() {
            assert!(Signature::from_der(&good[..end]).is_none());
        }
        assert!(Signature::from_der(&[good.as_slice(), &[0]].concat()).is_none());
        for bad in [
            "3006020100020101",     // r is zero
            "3006020101020180",     // s is negative
            "300702020001020101",   // r is padded for nothing
            "3006030101020101",     // r is no integer
            "300602010102010100",   // a byte too many
            "30080201010201010500", // a third member
        ] {
            assert!(Signature::from_der(&hex::decode(bad).unwrap()).is_none(), "{bad}");
        }
        let long = [vec![0x30, 38, 0x02, 33, 0x01], vec![0; 32], vec![0x02, 1, 1]].concat();
        assert!(Signature::from_der(&long).is_none());
    }
}
