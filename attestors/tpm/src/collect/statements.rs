//! What the TPM signs: quotes, certifications, and plain signatures; and what is needed beside
//! them. Statements leave here as TPM2B_ATTEST ‖ TPMT_SIGNATURE.

use assay_evidence::HashAlgorithm;
use assay_evidence::crypto;
use tss_esapi::Context;
use tss_esapi::constants::CapabilityType;
use tss_esapi::handles::AuthHandle;
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::interface_types::session_handles::PolicySession;
use tss_esapi::structures::Attest as TssAttest;
use tss_esapi::structures::Auth;
use tss_esapi::structures::CapabilityData;
use tss_esapi::structures::Data;
use tss_esapi::structures::Digest;
use tss_esapi::structures::DigestList;
use tss_esapi::structures::EncryptedSecret;
use tss_esapi::structures::HashcheckTicket;
use tss_esapi::structures::IdObject;
use tss_esapi::structures::Nonce;
use tss_esapi::structures::PcrSelectionList;
use tss_esapi::structures::Public as TssPublic;
use tss_esapi::structures::Signature as TssSignature;
use tss_esapi::structures::SignatureScheme;
use tss_esapi::traits::Marshall as _;
use tss_esapi::traits::UnMarshall as _;
use tss_esapi::tss2_esys::TPM2B_DIGEST;
use tss_esapi::tss2_esys::TPML_PCR_SELECTION;
use tss_esapi::tss2_esys::TPMS_PCR_SELECTION;
use tss_esapi::tss2_esys::TPMT_TK_HASHCHECK;
use zeroize::Zeroizing;

use super::connection::Connection;
use super::connection::policy_session;
use super::connection::with_passwords;
use super::endorsement::EndorsementKey;
use super::error;
use super::error::Error;
use super::key;
use super::key::DeviceKey;
use super::key::KeyBlob;
use super::key::Recipe;
use super::signature::EcdsaSignature;
use crate::Attest;
use crate::PcrSelection;
use crate::Public;
use crate::endorsement::Template;
use crate::structures::attest::Attested;

/// A bank that the TPM lists, allocated or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bank {
    pub algorithm: HashAlgorithm,
    /// Registers it has; none if it is not allocated.
    pub mask: u32,
}

impl Bank {
    pub fn is_active(&self) -> bool {
        self.mask != 0
    }
}

/// A quote and the values it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// TPM2B_ATTEST ‖ TPMT_SIGNATURE.
    pub statement: Vec<u8>,
    /// Bare values in the order of the signed selection.
    pub values: Vec<u8>,
}

impl Connection {
    pub(super) fn banks(&mut self) -> Result<Vec<Bank>, Error> {
        let (found, _) = self
            .context
            .execute_without_session(|c| c.get_capability(CapabilityType::AssignedPcr, 0, 16))
            .map_err(error::of("GetCapability"))?;
        let CapabilityData::AssignedPcr(list) = found else {
            return Err(Error::Unreadable { command: "GetCapability", source: None });
        };
        let list = TPML_PCR_SELECTION::from(list);
        let count = usize::try_from(list.count).unwrap_or(0);
        let mut banks = Vec::new();
        for bank in list.pcrSelections.iter().take(count) {
            match HashAlgorithm::from_tpm_id(bank.hash) {
                Some(algorithm) => banks.push(Bank { algorithm, mask: mask_of(bank) }),
                // No verifier of ours reads it, so quoting it proves nothing.
                None => tracing::debug!(id = format!("{:#06x}", bank.hash), "unknown bank"),
            }
        }
        Ok(banks)
    }

    /// A quote whose values are known. Registers may move between the two (IMA extends PCR 10 all
    /// the time), so both are repeated until they agree.
    pub(super) fn quote(
        &mut self,
        ak: &DeviceKey,
        selections: &[PcrSelection],
        qualifying: &[u8],
    ) -> Result<Quote, Error> {
        for _ in 0..MAX_QUOTES {
            let (attest, signature) = self.quote_once(ak, selections, qualifying)?;
            let unreadable = |source: Option<crate::Error>| Error::Unreadable {
                command: "Quote",
                source: source.map(Box::new),
            };
            let parsed = Attest::parse(&attest).map_err(|error| unreadable(Some(error)))?;
            let Attested::Quote { selections: signed, pcr_digest } = parsed.attested else {
                return Err(unreadable(None));
            };
            let values = self.values(signed.as_slice())?;
            // Our attestation keys sign over SHA-256, so the digest is one too.
            if crypto::sha256(&values) == pcr_digest {
                return Ok(Quote { statement: statement(&attest, &signature)?, values });
            }
        }
        Err(Error::RegistersMoving { tries: MAX_QUOTES })
    }

    fn quote_once(
        &mut self,
        ak: &DeviceKey,
        selections: &[PcrSelection],
        qualifying: &[u8],
    ) -> Result<(Vec<u8>, Vec<u8>), Error> {
        let failed = error::of("Quote");
        let data = Data::try_from(qualifying).map_err(&failed)?;
        let list = selection_list(selections)?;
        let handle = self.load(ak, &[])?;
        let (attest, signature) = with_passwords(&mut self.context, 1, |context| {
            context.quote(handle, data, SignatureScheme::Null, list)
        })
        .map_err(&failed)?;
        marshalled(&attest, &signature, "Quote")
    }

    /// Values of these registers, bank by bank; a call gives eight at most.
    pub(super) fn values(&mut self, selections: &[PcrSelection]) -> Result<Vec<u8>, Error> {
        let unreadable = || Error::Unreadable { command: "PCR_Read", source: None };
        let mut values = Vec::new();
        for selection in selections {
            let registers: Vec<u32> = selection.registers().collect();
            for eight in registers.chunks(8) {
                let mask = eight.iter().fold(0, |mask, register| mask | 1 << register);
                let part = selection_list(&[PcrSelection::new(selection.bank, mask)])?;
                let (_, _, read) = self
                    .context
                    .execute_without_session(|context| context.pcr_read(part))
                    .map_err(error::of("PCR_Read"))?;
                let right = |digest: &Digest| digest.len() == selection.bank.size();
                if read.len() != eight.len() || !read.value().iter().all(right) {
                    return Err(unreadable());
                }
                read.value().iter().for_each(|digest| values.extend_from_slice(digest));
            }
        }
        Ok(values)
    }

    pub(super) fn certify(
        &mut self,
        ak: &DeviceKey,
        key: &DeviceKey,
        qualifying: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let failed = error::of("Certify");
        let data = Data::try_from(qualifying).map_err(&failed)?;
        let object = self.load(key, &[ak.public().name()])?;
        let signer = self.load(ak, &[key.public().name()])?;
        let (attest, signature) = with_passwords(&mut self.context, 2, |context| {
            context.certify(object.into(), signer, data, SignatureScheme::Null)
        })
        .map_err(&failed)?;
        let (attest, signature) = marshalled(&attest, &signature, "Certify")?;
        statement(&attest, &signature)
    }

    pub(super) fn sign(
        &mut self,
        key: &DeviceKey,
        digest: &[u8; 32],
    ) -> Result<EcdsaSignature, Error> {
        let failed = error::of("Sign");
        let handle = self.load(key, &[])?;
        let digest = Digest::try_from(digest.as_slice()).map_err(&failed)?;
        let ticket = no_ticket()?;
        let signature = with_passwords(&mut self.context, 1, |context| {
            context.sign(handle, digest, SignatureScheme::Null, ticket)
        })
        .map_err(&failed)?;
        EcdsaSignature::parse(signature.marshall().map_err(&failed)?)
    }

    /// TPM2_ActivateCredential. The endorsement key asks for its policy, which is fulfilled by
    /// whoever has the authorisation of the endorsement hierarchy.
    pub(super) fn activate(
        &mut self,
        ek: &EndorsementKey,
        ak: &DeviceKey,
        blob: &[u8],
        secret: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let failed = error::of("ActivateCredential");
        let blob = IdObject::try_from(blob).map_err(&failed)?;
        let secret = EncryptedSecret::try_from(secret).map_err(&failed)?;
        self.make_room(2, &[ak.public().name()]);
        let activated = self.load(ak, &[])?;
        let template = ek.template;
        self.with_endorsement_key(ek, |context, endorsement| {
            let (mut session, policy) = endorsement_policy(context, template)?;
            let sessions = (Some(AuthSession::Password), Some(policy), None);
            session
                .execute_with_sessions(sessions, |context| {
                    context.activate_credential(activated, endorsement, blob, secret)
                })
                .map(|secret| Zeroizing::new(secret.to_vec()))
                .map_err(&failed)
        })
    }

    /// A new issuing key below the storage root key; it is not loaded yet.
    pub(super) fn create_issuing_key(
        &mut self,
        auth: &Zeroizing<Vec<u8>>,
    ) -> Result<KeyBlob, Error> {
        let failed = error::of("Create");
        let template = TssPublic::unmarshall(&key::issuing_template()).map_err(&failed)?;
        let value = Auth::try_from(auth.as_slice()).map_err(&failed)?;
        // The parent, and the new key while it is being made (measured).
        self.make_room(2, &[]);
        let mut parent = self.storage_root()?;
        let handle = parent.key();
        let made = with_passwords(&mut parent, 1, |context| {
            context.create(handle, template, Some(value), None, None, None)
        })
        .map_err(&failed)?;
        let public = made.out_public.marshall().map_err(&failed)?;
        Ok(KeyBlob { private: made.out_private.to_vec(), public })
    }

    pub(super) fn load_issuing_key(
        &mut self,
        blob: &KeyBlob,
        auth: Zeroizing<Vec<u8>>,
    ) -> Result<DeviceKey, Error> {
        let public = Public::parse(&blob.public).map_err(|source| Error::Unreadable {
            command: "Load",
            source: Some(Box::new(source)),
        })?;
        let key = DeviceKey::new(public, Recipe::Child { private: blob.private.clone(), auth });
        self.load(&key, &[])?;
        Ok(key)
    }
}

/// PolicySecret(endorsement), and for high templates PolicyOR over it (EK Credential Profile 2.5,
/// §B.6). One session serves one command.
fn endorsement_policy(
    context: &mut Context,
    template: Template,
) -> Result<(super::connection::Held<'_>, AuthSession), Error> {
    let hash = match template.name_algorithm() {
        HashAlgorithm::Sha384 => HashingAlgorithm::Sha384,
        HashAlgorithm::Sha512 => HashingAlgorithm::Sha512,
        _ => HashingAlgorithm::Sha256,
    };
    let (mut held, session) = policy_session(context, hash)?;
    let failed = error::of("PolicySecret");
    let policy = PolicySession::try_from(session).map_err(&failed)?;
    with_passwords(&mut held, 1, |context| {
        context.policy_secret(
            policy,
            AuthHandle::Endorsement,
            Nonce::default(),
            Digest::default(),
            Nonce::default(),
            None,
        )
    })
    .map_err(&failed)?;
    if template.is_high() {
        let failed = error::of("PolicyOR");
        let mut either = DigestList::new();
        for digest in template.branches() {
            let digest = Digest::try_from(digest).map_err(&failed)?;
            either.add(digest).map_err(&failed)?;
        }
        held.execute_without_session(|context| context.policy_or(policy, either))
            .map_err(&failed)?;
    }
    Ok((held, session))
}

/// The library gives statements parsed; written back they are the bytes that were signed, which
/// the verifier finds out.
fn marshalled(
    attest: &TssAttest,
    signature: &TssSignature,
    command: &'static str,
) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let failed = error::of(command);
    Ok((attest.marshall().map_err(&failed)?, signature.marshall().map_err(&failed)?))
}

fn statement(attest: &[u8], signature: &[u8]) -> Result<Vec<u8>, Error> {
    let size = u16::try_from(attest.len())
        .map_err(|_| Error::Unreadable { command: "Quote", source: None })?;
    Ok([&size.to_be_bytes(), attest, signature].concat())
}

/// In the order given: the library's own builder puts banks in the order of a hash map.
fn selection_list(selections: &[PcrSelection]) -> Result<PcrSelectionList, Error> {
    let count = u32::try_from(selections.len()).unwrap_or(u32::MAX);
    let mut list = TPML_PCR_SELECTION { count, ..TPML_PCR_SELECTION::default() };
    for (place, selection) in list.pcrSelections.iter_mut().zip(selections) {
        let octets = selection.octets();
        place.hash = selection.bank.tpm_id();
        place.sizeofSelect = u8::try_from(octets.len()).unwrap_or(u8::MAX);
        place.pcrSelect.iter_mut().zip(octets).for_each(|(place, octet)| *place = octet);
    }
    PcrSelectionList::try_from(list).map_err(error::of("PCR selection"))
}

fn mask_of(bank: &TPMS_PCR_SELECTION) -> u32 {
    let mut octets = bank.pcrSelect;
    octets.iter_mut().skip(usize::from(bank.sizeofSelect)).for_each(|octet| *octet = 0);
    u32::from_le_bytes(octets)
}

/// The digest was not made by the TPM, and an unrestricted key does not ask.
fn no_ticket() -> Result<HashcheckTicket, Error> {
    HashcheckTicket::try_from(TPMT_TK_HASHCHECK {
        tag: 0x8024,
        hierarchy: 0x4000_0007,
        digest: TPM2B_DIGEST::default(),
    })
    .map_err(error::of("Sign"))
}

const MAX_QUOTES: usize = 10;
