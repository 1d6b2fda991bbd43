//! Issuing keys in the memory of the process: for trying things out, behind a `danger_` switch.
//!
//! Whoever reads the folder or the memory has the keys, and every record and every certificate's
//! custody class says so. There is no other way into this file than the permit.

use std::sync::Arc;

use assay_evidence::crypto::SoftwareKey;

use crate::appraisal::CustodyProof;
use crate::appraisal::DangerPermit;
use crate::keys::Capacity;
use crate::keys::IssuingKey;
use crate::keys::IssuingKeys;
use crate::keys::KeyName;
use crate::keys::KeysError;
use crate::keys::folder::Folder;
use crate::keys::queue::Queue;
use crate::keys::queue::Signer;

struct Software {
    x509: SoftwareKey,
    jwt: SoftwareKey,
}

pub fn open(permit: &DangerPermit, folder: &Folder) -> Result<IssuingKeys, KeysError> {
    let software = Software {
        x509: load_or_make(folder, KeyName::X509)?,
        jwt: load_or_make(folder, KeyName::Jwt)?,
    };
    let measured = SoftwareKey::generate().map_err(|_| KeysError::Random)?;
    let capacity = Capacity::measure(|message| {
        measured.sign(message).map(drop).map_err(|_| KeysError::Faulty)
    })?;
    let [x509, jwt] = [&software.x509, &software.jwt].map(SoftwareKey::public_key);
    let queue = Arc::new(Queue::start(software, capacity)?);
    let key = |name, public: assay_evidence::PublicKey| {
        let custody = CustodyProof::software(public.spki_sha256(), permit);
        IssuingKey::new(name, public, custody, Arc::clone(&queue))
    };
    Ok(IssuingKeys {
        x509: key(KeyName::X509, x509),
        jwt: key(KeyName::Jwt, jwt),
        evidence: Vec::new(),
    })
}

fn load_or_make(folder: &Folder, name: KeyName) -> Result<SoftwareKey, KeysError> {
    let file = format!("{}.p8", name.as_str());
    if let Some(kept) = folder.read(&file)? {
        return SoftwareKey::from_pkcs8(&kept).map_err(|_| KeysError::KeyFile(file));
    }
    let key = SoftwareKey::generate().map_err(|_| KeysError::Random)?;
    folder.write(&file, key.pkcs8_der())?;
    Ok(key)
}

impl Signer for Software {
    fn sign(&mut self, key: KeyName, message: &[u8]) -> Result<Vec<u8>, KeysError> {
        let key = match key {
            KeyName::X509 => &self.x509,
            KeyName::Jwt => &self.jwt,
        };
        key.sign(message).map_err(|_| KeysError::Faulty)
    }
}
