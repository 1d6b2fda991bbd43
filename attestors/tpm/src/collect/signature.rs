//! A signature as the TPM wrote it, and in the two forms others want it in.

use assay_evidence::Curve;
use assay_evidence::key::ecdsa_sig_value;

use super::error::Error;
use crate::Signature;
use crate::structures::signature::MAX_ECC;

/// An ECDSA P-256 signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EcdsaSignature {
    raw: Vec<u8>,
    fixed: [u8; 64],
}

impl EcdsaSignature {
    pub(super) fn parse(raw: Vec<u8>) -> Result<EcdsaSignature, Error> {
        let unreadable = |source: Option<crate::Error>| Error::Unreadable {
            command: "Sign",
            source: source.map(Box::new),
        };
        let mut place = [0; 2 * MAX_ECC];
        let fixed = Signature::parse(&raw)
            .map_err(|error| unreadable(Some(error)))?
            .ecc_fixed(Curve::P256, &mut place)
            .and_then(|fixed| fixed.try_into().ok())
            .ok_or_else(|| unreadable(None))?;
        Ok(EcdsaSignature { raw, fixed })
    }

    /// TPMT_SIGNATURE.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// r ‖ s, 32 bytes each, as JWS has it.
    pub fn fixed(&self) -> &[u8; 64] {
        &self.fixed
    }

    /// ECDSA-Sig-Value, as X.509 and TLS have it.
    pub fn der(&self) -> Vec<u8> {
        let (r, s) = self.fixed.split_at(32);
        ecdsa_sig_value(r, s)
    }
}
