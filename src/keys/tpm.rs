//! Issuing keys in the server's own TPM.
//!
//! At each start the server treats its own TPM as it treats any host's: the endorsement
//! certificate must end in a configured root, the attestation key must be activated, and that key
//! must certify both issuing keys under a nonce of this start, for the purpose `custody`. Only
//! what our own verifier then accepts becomes an issuing key. Blob and authorisation value lie in
//! two files; without this very TPM they are worth nothing.

use std::fmt;
use std::sync::Arc;

use assay_evidence::BindingInput;
use assay_evidence::Certificate;
use assay_evidence::Curve;
use assay_evidence::Face;
use assay_evidence::HashAlgorithm;
use assay_evidence::Nonce;
use assay_evidence::PublicKey;
use assay_evidence::Purpose;
use assay_evidence::Reason;
use assay_evidence::Time;
use assay_evidence::crypto;
use assay_evidence::crypto::Random;
use assay_tpm::Activation;
use assay_tpm::Anchors;
use assay_tpm::AttestationKey;
use assay_tpm::CertifiedKey;
use assay_tpm::Endorsement;
use assay_tpm::ProvedKey;
use assay_tpm::Signed;
use assay_tpm::collect;
use assay_tpm::collect::AkPurpose;
use assay_tpm::collect::Device;
use assay_tpm::collect::DeviceKey;
use assay_tpm::collect::KeyBlob;
use assay_tpm::collect::Settings;
use assay_tpm::endorsement;
use assay_tpm::verify;
use assay_tpm::verify::UnknownParent;
use serde::Deserialize;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::appraisal::CustodyProof;
use crate::keys::Capacity;
use crate::keys::CustodyEvidence;
use crate::keys::IssuingKey;
use crate::keys::IssuingKeys;
use crate::keys::KeyName;
use crate::keys::KeysError;
use crate::keys::folder::Folder;
use crate::keys::queue::Queue;
use crate::keys::queue::Signer;
use crate::spiffe::TrustDomain;

/// Which TPM, and which roots its endorsement certificate must end in.
#[derive(Clone)]
pub struct TpmConfig {
    /// `device:/dev/tpmrm0`
    pub tcti: String,
    pub settings: Settings,
    pub anchors: Anchors,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TpmKeysError {
    #[error("the TPM did not do what was asked")]
    Device(#[from] collect::Error),
    #[error("the TPM does not prove that the issuing keys are in it")]
    Unproved(#[from] assay_tpm::Error),
    #[error("the certified key is not the one of `{0}`")]
    OtherKey(&'static str),
    #[error("an issuing key is a P-256 key, and this one is not")]
    Curve,
    #[error("`{0}` is there without the file beside it")]
    HalfAKey(String),
}

impl TpmKeysError {
    pub fn reason(&self) -> Reason {
        match self {
            Self::Device(error) => error.reason(),
            _ => Reason::CustodyUnproved,
        }
    }
}

struct Tpm {
    device: Device,
    x509: DeviceKey,
    jwt: DeviceKey,
}

pub fn open(
    config: &TpmConfig,
    folder: &Folder,
    trust_domain: &TrustDomain,
    now: Time,
    random: &mut dyn Random,
) -> Result<IssuingKeys, KeysError> {
    let device = Device::open_with(&config.tcti, config.settings.clone()).map_err(device_error)?;
    let own = OwnTpm::prove(&device, &config.anchors, now, random)?;
    let x509 = load_or_make(&device, folder, KeyName::X509, random)?;
    let jwt = load_or_make(&device, folder, KeyName::Jwt, random)?;
    let mut evidence = own.evidence();
    let mut proofs = Vec::with_capacity(2);
    for (name, key) in [(KeyName::X509, &x509), (KeyName::Jwt, &jwt)] {
        let nonce = Nonce::fresh(random).map_err(|_| KeysError::Random)?;
        let (proof, shown) = own.certify(&device, name, key, trust_domain, nonce)?;
        evidence.extend(shown);
        proofs.push((name, key.public().key().clone(), proof));
    }
    // It was needed for the proof alone, and a TPM has room for three.
    device.flush(&own.ak).map_err(device_error)?;
    let capacity = capacity(&device, folder, &x509, random)?;
    let queue = Arc::new(Queue::start(Tpm { device, x509, jwt }, capacity)?);
    let mut keys = proofs
        .into_iter()
        .map(|(name, public, proof)| IssuingKey::new(name, public, proof, Arc::clone(&queue)));
    match (keys.next(), keys.next()) {
        (Some(x509), Some(jwt)) => Ok(IssuingKeys { x509, jwt, evidence }),
        _ => Err(KeysError::Closed),
    }
}

/// The server's TPM, once it is known to be a genuine one.
struct OwnTpm {
    endorsement: Endorsement,
    chain: Vec<Certificate>,
    ak: DeviceKey,
    proved: ProvedKey,
}

impl OwnTpm {
    fn prove(
        device: &Device,
        anchors: &Anchors,
        now: Time,
        random: &mut dyn Random,
    ) -> Result<Self, KeysError> {
        let found = device.ek_certificates().map_err(device_error)?;
        let ek = device.endorsement_key(&found).map_err(device_error)?;
        let ders = |list: &[Certificate]| -> Vec<Vec<u8>> {
            list.iter().map(|certificate| certificate.der().to_vec()).collect()
        };
        let endorsement = endorsement::verify(
            &ders(&found.certificates),
            &ders(&found.chain),
            ek.public().raw(),
            anchors,
            now,
        )
        .map_err(unproved)?;
        let ak = device.attestation_key(AkPurpose::Exchange).map_err(device_error)?;
        let key = AttestationKey::parse(ak.public().raw()).map_err(unproved)?;
        let (credential, activation) =
            Activation::challenge(&endorsement, &key, random).map_err(unproved)?;
        let answer = device
            .activate(&ek, &ak, &credential.blob, &credential.secret)
            .map_err(device_error)?;
        let proved = activation.prove(&answer).map_err(unproved)?;
        Ok(Self { endorsement, chain: found.chain, ak, proved })
    }

    /// Has one issuing key certified, and verifies that as anybody else would.
    fn certify(
        &self,
        device: &Device,
        name: KeyName,
        key: &DeviceKey,
        trust_domain: &TrustDomain,
        nonce: Nonce,
    ) -> Result<(CustodyProof, Vec<CustodyEvidence>), KeysError> {
        let spki_sha256 = key.public().key().spki_sha256();
        let input = BindingInput {
            purpose: Purpose::Custody,
            face: Face::Native,
            trust_domain: trust_domain.to_string(),
            nonce,
            spki_sha256: Some(spki_sha256),
            ak_name: Some(self.ak.public().name().as_bytes().to_vec()),
            exporter: None,
        };
        let binding = input.binding();
        let statement =
            device.certify(&self.ak, key, &binding.qualifying_data()).map_err(device_error)?;
        let certified = accept(
            name,
            &statement,
            key.public().raw(),
            &self.proved,
            &binding.qualifying_data(),
            &spki_sha256,
        )?;
        let shown = vec![
            item(CERTIFY, &statement),
            item(PUBLIC_AREA, key.public().raw()),
            item(BINDING, &input.message()),
        ];
        let addresses = self.evidence().iter().chain(&shown).map(address).collect();
        Ok((CustodyProof::certified(&certified, addresses), shown))
    }

    /// What a later reader needs beside the statements.
    fn evidence(&self) -> Vec<CustodyEvidence> {
        let mut shown = vec![
            item(CERTIFICATE, self.endorsement.certificate().der()),
            item(PUBLIC_AREA, self.endorsement.public().raw()),
            item(PUBLIC_AREA, self.ak.public().raw()),
        ];
        let chain = self.chain.iter().take(MAX_CHAIN);
        shown.extend(chain.map(|certificate| item(CERTIFICATE, certificate.der())));
        shown
    }
}

/// The verifier's part, on bytes alone.
fn accept(
    name: KeyName,
    statement: &[u8],
    public: &[u8],
    proved: &ProvedKey,
    qualifying_data: &[u8],
    spki_sha256: &[u8; 32],
) -> Result<CertifiedKey, KeysError> {
    let certified = verify::verify_certify(
        Signed::from_item(statement).map_err(unproved)?,
        public,
        proved,
        qualifying_data,
        HashAlgorithm::Sha256,
        UnknownParent::Refuse,
    )
    .map_err(unproved)?
    .into_certified_key();
    certified.accept_as_issuing_key().map_err(unproved)?;
    if certified.spki_sha256() != spki_sha256 {
        return Err(TpmKeysError::OtherKey(name.as_str()).into());
    }
    match certified.public().key() {
        PublicKey::Ec { curve: Curve::P256, .. } => Ok(certified),
        _ => Err(TpmKeysError::Curve.into()),
    }
}

/// A blob on disk: TPM2B_PRIVATE contents and TPMT_PUBLIC.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BlobFile {
    #[serde(with = "hex::serde")]
    private: Vec<u8>,
    #[serde(with = "hex::serde")]
    public: Vec<u8>,
}

fn load_or_make(
    device: &Device,
    folder: &Folder,
    name: KeyName,
    random: &mut dyn Random,
) -> Result<DeviceKey, KeysError> {
    let blob_name = format!("{}.blob", name.as_str());
    let auth_name = format!("{}.auth", name.as_str());
    if let Some(text) = folder.read(&blob_name)? {
        // A key that cannot be opened is never quietly replaced by another.
        let damaged = || KeysError::KeyFile(blob_name.clone());
        let file: BlobFile = serde_json::from_slice(&text).map_err(|_| damaged())?;
        let auth =
            folder.read(&auth_name)?.ok_or_else(|| TpmKeysError::HalfAKey(blob_name.clone()))?;
        let auth: Zeroizing<[u8; 32]> = Zeroizing::new(
            auth.as_slice().try_into().map_err(|_| KeysError::KeyFile(auth_name.clone()))?,
        );
        let blob = KeyBlob { private: file.private, public: file.public };
        return device.load_issuing_key(&blob, &auth).map_err(device_error);
    }
    let auth = fresh_auth(random)?;
    let blob = device.create_issuing_key(&auth).map_err(device_error)?;
    // The authorisation value first: what is there at the end of a crash is then a value without
    // a blob, which is overwritten, and never a blob that nothing opens.
    folder.write(&auth_name, auth.as_slice())?;
    let file = BlobFile { private: blob.private.clone(), public: blob.public.clone() };
    let text = serde_json::to_vec(&file).map_err(|_| KeysError::KeyFile(blob_name.clone()))?;
    folder.write(&blob_name, &text)?;
    device.load_issuing_key(&blob, &auth).map_err(device_error)
}

fn fresh_auth(random: &mut dyn Random) -> Result<Zeroizing<[u8; 32]>, KeysError> {
    let mut auth = Zeroizing::new([0; 32]);
    random.fill(auth.as_mut_slice()).map_err(|_| KeysError::Random)?;
    Ok(auth)
}

/// The measurement as it is kept; of another key it counts for nothing.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CapacityFile {
    key: String,
    capacity: Capacity,
}

fn capacity(
    device: &Device,
    folder: &Folder,
    x509: &DeviceKey,
    random: &mut dyn Random,
) -> Result<Capacity, KeysError> {
    let key = hex::encode(x509.public().key().spki_sha256());
    let kept = folder.read(CAPACITY_FILE)?;
    let kept = kept.and_then(|text| serde_json::from_slice::<CapacityFile>(&text).ok());
    if let Some(kept) = kept.filter(|kept| kept.key == key) {
        return Ok(kept.capacity);
    }
    // A key of the same make that nothing is ever issued with.
    let auth = fresh_auth(random)?;
    let blob = device.create_issuing_key(&auth).map_err(device_error)?;
    let measured = device.load_issuing_key(&blob, &auth).map_err(device_error)?;
    let capacity = Capacity::measure(|message| {
        device.sign(&measured, &crypto::sha256(message)).map(drop).map_err(device_error)
    })?;
    device.flush(&measured).map_err(device_error)?;
    let file = CapacityFile { key, capacity };
    let text = serde_json::to_vec(&file).map_err(|_| KeysError::KeyFile(CAPACITY_FILE.into()))?;
    folder.write(CAPACITY_FILE, &text)?;
    Ok(capacity)
}

impl Signer for Tpm {
    fn sign(&mut self, key: KeyName, message: &[u8]) -> Result<Vec<u8>, KeysError> {
        let key = match key {
            KeyName::X509 => &self.x509,
            KeyName::Jwt => &self.jwt,
        };
        let signature = self.device.sign(key, &crypto::sha256(message)).map_err(device_error)?;
        Ok(signature.der())
    }
}

fn device_error(error: collect::Error) -> KeysError {
    TpmKeysError::Device(error).into()
}

fn unproved(error: assay_tpm::Error) -> KeysError {
    TpmKeysError::Unproved(error).into()
}

fn item(media_type: &'static str, bytes: &[u8]) -> CustodyEvidence {
    CustodyEvidence { media_type, bytes: bytes.to_vec() }
}

fn address(item: &CustodyEvidence) -> String {
    hex::encode(crypto::sha256(&item.bytes))
}

impl fmt::Debug for TpmConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TpmConfig").field("tcti", &self.tcti).finish_non_exhaustive()
    }
}

const CAPACITY_FILE: &str = "capacity.json";
/// A record has room for so many references.
const MAX_CHAIN: usize = 8;
const CERTIFY: &str = "application/vnd.assay.tpm-certify";
const PUBLIC_AREA: &str = "application/vnd.assay.tpm-public";
const BINDING: &str = "application/vnd.assay.binding";
/// RFC 2585 section 4.1
const CERTIFICATE: &str = "application/pkix-cert";

#[cfg(test)]
mod tests;
