//! What a piece of evidence is bound to: one message, one hash, for every attestor.
//!
//! ```text
//! M = "assay/binding/1" 00 ‖ F(1, purpose) ‖ F(2, face) ‖ F(3, trust domain) ‖ F(4, nonce)
//!     [‖ F(5, SHA-256 of the SPKI to certify)] [‖ F(6, AK Name)] [‖ F(7, TLS exporter)]
//! F(t, v) = u8 t ‖ u16 big-endian length ‖ v, tags strictly ascending;  Binding = SHA-512(M)
//! ```
//!
//! A TPM signs the first 32 bytes as qualifying data, an SEV-SNP or TDX report carries all 64. The
//! verifier builds its own M and compares hashes; the M that an agent sends along decides nothing
//! and is read only to name the fault ([`BindingInput::explain`]).

use std::fmt;

use serde::Serialize;

use crate::crypto;
use crate::nonce::Nonce;
use crate::reader::ReadError;
use crate::reader::Reader;
use crate::reason::Reason;

/// What the evidence is given for. Evidence for one purpose is worthless for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// A host asks for its own identity.
    Attest,
    /// An attested host shows that it still is what it was.
    Refresh,
    /// A server shows where its issuing keys live.
    Custody,
}

/// Through which protocol the evidence comes, and so what it can be tied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Face {
    /// Our own exchange: knows the TLS channel.
    Native,
    /// A plugin inside SPIRE: sees neither channel nor certificate request.
    SpirePlugin,
}

/// The fields of M.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindingInput {
    pub purpose: Purpose,
    pub face: Face,
    pub trust_domain: String,
    pub nonce: Nonce,
    /// SHA-256 of the SubjectPublicKeyInfo of the key to certify.
    pub spki_sha256: Option<[u8; 32]>,
    /// Name of the attestation key, where there is a TPM.
    pub ak_name: Option<Vec<u8>>,
    /// Exported from the TLS 1.3 connection that carries the evidence.
    pub exporter: Option<[u8; 32]>,
}

/// SHA-512 of M.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Binding([u8; 64]);

/// What the server remembers of a nonce that is not the one it expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceState {
    /// It was issued to another exchange that is still open.
    OpenElsewhere,
    /// It was issued and has been used.
    Consumed,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindingError {
    #[error("the message does not begin with its label")]
    Label,
    #[error("the message is cut or has bytes too many")]
    Shape(#[from] ReadError),
    #[error("field {0} is out of order, repeated or unknown")]
    Order(u8),
    #[error("field {0} is missing")]
    Missing(u8),
    #[error("field {0} has a value that it cannot have")]
    Value(u8),
}

impl Purpose {
    pub const fn as_str(self) -> &'static str {
        match self {
            Purpose::Attest => "attest",
            Purpose::Refresh => "refresh",
            Purpose::Custody => "custody",
        }
    }

    fn from_bytes(text: &[u8]) -> Option<Purpose> {
        [Purpose::Attest, Purpose::Refresh, Purpose::Custody]
            .into_iter()
            .find(|purpose| purpose.as_str().as_bytes() == text)
    }
}

impl Face {
    pub const fn as_str(self) -> &'static str {
        match self {
            Face::Native => "native",
            Face::SpirePlugin => "spire-plugin",
        }
    }

    pub fn parse(text: &str) -> Option<Face> {
        [Face::Native, Face::SpirePlugin].into_iter().find(|face| face.as_str() == text)
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Face {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Binding {
    /// What a TPM signs as extraData, and what a Nitro document carries as nonce.
    pub fn qualifying_data(&self) -> [u8; 32] {
        let mut first = [0; 32];
        first.copy_from_slice(self.0.split_at(32).0);
        first
    }

    /// What an SEV-SNP or TDX report carries as report data.
    pub const fn report_data(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Binding({})", hex::encode(self.0))
    }
}

impl BindingInput {
    pub fn message(&self) -> Vec<u8> {
        let mut message = Vec::with_capacity(256);
        message.extend_from_slice(LABEL);
        put(&mut message, PURPOSE, self.purpose.as_str().as_bytes());
        put(&mut message, FACE, self.face.as_str().as_bytes());
        put(&mut message, TRUST_DOMAIN, self.trust_domain.as_bytes());
        put(&mut message, NONCE, self.nonce.as_bytes());
        if let Some(spki) = &self.spki_sha256 {
            put(&mut message, SPKI, spki);
        }
        if let Some(name) = &self.ak_name {
            put(&mut message, AK_NAME, name);
        }
        if let Some(exporter) = &self.exporter {
            put(&mut message, EXPORTER, exporter);
        }
        message
    }

    pub fn binding(&self) -> Binding {
        Binding(crypto::sha512(&self.message()))
    }

    /// Reads an M that somebody else built. Exactly one byte string gives one value.
    pub fn parse(message: &[u8]) -> Result<BindingInput, BindingError> {
        let fields = Fields::parse(message)?;
        let purpose = fields.required(PURPOSE)?;
        let face = fields.required(FACE)?;
        let trust_domain = fields.required(TRUST_DOMAIN)?;
        let text = |tag, bytes: &[u8]| {
            std::str::from_utf8(bytes).map(String::from).map_err(|_| BindingError::Value(tag))
        };
        Ok(BindingInput {
            purpose: Purpose::from_bytes(purpose).ok_or(BindingError::Value(PURPOSE))?,
            face: Face::parse(&text(FACE, face)?).ok_or(BindingError::Value(FACE))?,
            trust_domain: text(TRUST_DOMAIN, trust_domain)?,
            nonce: Nonce::try_from(fields.required(NONCE)?)
                .map_err(|_| BindingError::Value(NONCE))?,
            spki_sha256: fields.array(SPKI)?,
            ak_name: fields.optional(AK_NAME).map(<[u8]>::to_vec),
            exporter: fields.array(EXPORTER)?,
        })
    }

    /// Names the fault of evidence whose signed extraData (`signed`) is not this binding.
    ///
    /// The claimed message counts only if it hashes to what was signed; then the first field in
    /// which it differs is the answer. Everything else is a nonce that does not match. It is called
    /// after the hashes were found unequal and can only choose a word for that.
    pub fn explain(&self, claimed_message: &[u8], signed: &[u8], nonce: NonceState) -> Reason {
        let claimed_hash = crypto::sha512(claimed_message);
        let is_prefix = matches!(signed.len(), 32 | 64) && claimed_hash.starts_with(signed);
        let own = self.message();
        let (true, Ok(claimed), Ok(expected)) =
            (is_prefix, Fields::parse(claimed_message), Fields::parse(&own))
        else {
            return Reason::NonceMismatch;
        };
        match (PURPOSE..=EXPORTER).find(|&tag| claimed.optional(tag) != expected.optional(tag)) {
            Some(PURPOSE) => Reason::AttestPurpose,
            Some(FACE) => Reason::FaceNotAllowed,
            Some(TRUST_DOMAIN) => Reason::TrustDomainMismatch,
            Some(SPKI) => Reason::SvidKeyNotCertified,
            Some(AK_NAME) => Reason::AkMismatch,
            Some(EXPORTER) => Reason::ChannelBinding,
            Some(_) | None => match nonce {
                NonceState::OpenElsewhere => Reason::ChallengeUnknown,
                NonceState::Consumed => Reason::NonceConsumed,
                NonceState::Unknown => Reason::NonceMismatch,
            },
        }
    }
}

/// The fields of one message by tag, as they stand.
struct Fields<'a>([Option<&'a [u8]>; 8]);

impl<'a> Fields<'a> {
    fn parse(message: &'a [u8]) -> Result<Fields<'a>, BindingError> {
        let mut reader = Reader::new(message);
        if reader.take(LABEL.len()).ok() != Some(LABEL) {
            return Err(BindingError::Label);
        }
        let mut fields = [None; 8];
        let mut last = 0;
        while !reader.is_empty() {
            let tag = reader.u8()?;
            if tag <= last {
                return Err(BindingError::Order(tag));
            }
            last = tag;
            let value = reader.sized16(MAX_FIELD)?;
            *fields.get_mut(usize::from(tag)).ok_or(BindingError::Order(tag))? = Some(value);
        }
        Ok(Fields(fields))
    }

    fn optional(&self, tag: u8) -> Option<&'a [u8]> {
        self.0.get(usize::from(tag)).copied().flatten()
    }

    fn required(&self, tag: u8) -> Result<&'a [u8], BindingError> {
        self.optional(tag).ok_or(BindingError::Missing(tag))
    }

    fn array(&self, tag: u8) -> Result<Option<[u8; 32]>, BindingError> {
        self.optional(tag)
            .map(|bytes| bytes.try_into().map_err(|_| BindingError::Value(tag)))
            .transpose()
    }
}

/// Values are at most a trust domain or a name long; a longer one is cut to what the length field
/// can say, which no honest caller reaches and which hashes to nothing anybody expects.
fn put(message: &mut Vec<u8>, tag: u8, value: &[u8]) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    let value = value.get(..usize::from(length)).unwrap_or(value);
    message.push(tag);
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(value);
}

const LABEL: &[u8] = b"assay/binding/1\0";
const PURPOSE: u8 = 1;
const FACE: u8 = 2;
const TRUST_DOMAIN: u8 = 3;
const NONCE: u8 = 4;
const SPKI: u8 = 5;
const AK_NAME: u8 = 6;
const EXPORTER: u8 = 7;
/// The longest field is a trust domain (SPIFFE: 255 bytes).
const MAX_FIELD: usize = 255;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;

    use super::*;

    fn nonce() -> Nonce {
        Nonce::from_bytes(std::array::from_fn(|i| u8::try_from(i).unwrap()))
    }

    fn ak_name() -> Vec<u8> {
        [&[0x00, 0x0b][..], &[0x11; 32]].concat()
    }

    fn attest() -> BindingInput {
        let mut spki =
            hex::decode("3059301306072a8648ce3d020106082a8648ce3d03010703420004").unwrap();
        spki.extend_from_slice(&[0; 64]);
        BindingInput {
            purpose: Purpose::Attest,
            face: Face::Native,
            trust_domain: "example.org".into(),
            nonce: nonce(),
            spki_sha256: Some(crypto::sha256(&spki)),
            ak_name: Some(ak_name()),
            exporter: Some([0x22; 32]),
        }
    }

    #[test]
    fn attest_vector_holds() {
        assert_eq!(
            hex::encode(attest().binding().report_data()),
            "9acceb722e19e64d96777392a54c8744d98972a69a83c0895b7b1a65d7d97e17\
             1b26c075eac0ff63256f987dc04f7ca77e2f508b4f800b995e7b4bda8ff249d3"
        );
    }

    #[test]
    fn refresh_vector_holds() {
        let input = BindingInput {
            purpose: Purpose::Refresh,
            face: Face::SpirePlugin,
            trust_domain: "example.org".into(),
            nonce: nonce(),
            spki_sha256: None,
            ak_name: Some(ak_name()),
            exporter: None,
        };
        assert_eq!(
            hex::encode(input.binding().report_data()),
            "b477dd440161747193b75a9f6521d4184c533d6d892fa8957b146f22f9a11bf8\
             dad38f6dba2ae7e573cda26ce26df181ed39a11758efd2e33790e9639f9cbea5"
        );
        assert_eq!(input.binding().qualifying_data(), input.binding().report_data()[..32]);
    }

    /// An agent that bound `actual` and says so honestly, judged by a server that wanted
    /// `attest()`.
    fn explained(actual: &BindingInput, state: NonceState) -> Reason {
        attest().explain(&actual.message(), &actual.binding().qualifying_data(), state)
    }

    #[test]
    fn each_differing_field_names_its_fault() {
        let unknown = NonceState::Unknown;
        let with = |change: &dyn Fn(&mut BindingInput)| {
            let mut input = attest();
            change(&mut input);
            input
        };
        let purpose = with(&|i| i.purpose = Purpose::Refresh);
        let face = with(&|i| i.face = Face::SpirePlugin);
        let domain = with(&|i| i.trust_domain = "example.com".into());
        let other_nonce = with(&|i| i.nonce = Nonce::from_bytes([9; 32]));
        let spki = with(&|i| i.spki_sha256 = Some([0; 32]));
        let no_spki = with(&|i| i.spki_sha256 = None);
        let ak = with(&|i| i.ak_name = None);
        let exporter = with(&|i| i.exporter = None);
        assert_eq!(explained(&purpose, unknown), Reason::AttestPurpose);
        assert_eq!(explained(&face, unknown), Reason::FaceNotAllowed);
        assert_eq!(explained(&domain, unknown), Reason::TrustDomainMismatch);
        assert_eq!(explained(&other_nonce, unknown), Reason::NonceMismatch);
        assert_eq!(explained(&other_nonce, NonceState::Consumed), Reason::NonceConsumed);
        assert_eq!(explained(&other_nonce, NonceState::OpenElsewhere), Reason::ChallengeUnknown);
        assert_eq!(explained(&spki, unknown), Reason::SvidKeyNotCertified);
        assert_eq!(explained(&no_spki, unknown), Reason::SvidKeyNotCertified);
        assert_eq!(explained(&ak, unknown), Reason::AkMismatch);
        assert_eq!(explained(&exporter, unknown), Reason::ChannelBinding);
    }

    #[test]
    fn the_first_differing_field_wins() {
        let mut both = attest();
        both.face = Face::SpirePlugin;
        both.exporter = None;
        assert_eq!(explained(&both, NonceState::Unknown), Reason::FaceNotAllowed);
    }

    #[test]
    fn a_claimed_message_that_was_not_signed_explains_nothing() {
        let mut other = attest();
        other.exporter = None;
        let signed = [7; 32];
        let state = NonceState::Consumed;
        assert_eq!(attest().explain(&other.message(), &signed, state), Reason::NonceMismatch);
        assert_eq!(attest().explain(&other.message(), &[], state), Reason::NonceMismatch);
        assert_eq!(attest().explain(b"", &signed, state), Reason::NonceMismatch);
    }

    #[test]
    fn every_cut_and_every_added_byte_is_refused() {
        let message = attest().message();
        for end in 0..message.len() {
            // A cut between two optional fields is a shorter message that is whole in itself.
            if let Ok(shorter) = BindingInput::parse(&message[..end]) {
                assert_ne!(shorter, attest());
            }
        }
        for byte in 0..=255 {
            assert!(BindingInput::parse(&[&message[..], &[byte]].concat()).is_err());
        }
    }

    #[test]
    fn fields_out_of_order_repeated_or_unknown_are_refused() {
        let mut repeated = attest().message();
        put(&mut repeated, EXPORTER, &[0x22; 32]);
        assert_eq!(BindingInput::parse(&repeated), Err(BindingError::Order(EXPORTER)));
        let mut unknown = attest().message();
        put(&mut unknown, 8, b"?");
        assert_eq!(BindingInput::parse(&unknown), Err(BindingError::Order(8)));
        assert_eq!(BindingInput::parse(LABEL), Err(BindingError::Missing(PURPOSE)));
    }

    proptest! {
        #[test]
        fn parse_undoes_message(
            purpose in prop_oneof![
                Just(Purpose::Attest), Just(Purpose::Refresh), Just(Purpose::Custody)
            ],
            face in prop_oneof![Just(Face::Native), Just(Face::SpirePlugin)],
            trust_domain in "[a-z0-9.-]{1,255}",
            nonce: [u8; 32],
            spki_sha256: Option<[u8; 32]>,
            ak_name in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..67)),
            exporter: Option<[u8; 32]>,
        ) {
            let nonce = Nonce::from_bytes(nonce);
            let input = BindingInput {
                purpose, face, trust_domain, nonce, spki_sha256, ak_name, exporter,
            };
            prop_assert_eq!(BindingInput::parse(&input.message()), Ok(input));
        }

        #[test]
        fn any_bytes_parse_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(input) = BindingInput::parse(&bytes) {
                prop_assert_eq!(input.message(), bytes);
            }
        }
    }
}
