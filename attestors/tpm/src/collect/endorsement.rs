//! The endorsement key and its certificates, as the vendor left them in the TPM.
//!
//! Nothing is believed here: the certificates are read, the key is found that belongs to one, and
//! the verifier judges both.

use assay_evidence::Certificate;
use tss_esapi::constants::PropertyTag;
use tss_esapi::handles::KeyHandle;
use tss_esapi::handles::NvIndexHandle;
use tss_esapi::handles::ObjectHandle;
use tss_esapi::handles::TpmHandle;
use tss_esapi::interface_types::resource_handles::NvAuth;
use tss_esapi::structures::Public as TssPublic;
use tss_esapi::traits::Marshall as _;
use tss_esapi::traits::UnMarshall as _;

use super::connection::Connection;
use super::connection::Held;
use super::connection::area;
use super::connection::with_passwords;
use super::error;
use super::error::Error;
use crate::Public;
use crate::endorsement::Template;
use crate::endorsement::certificate_in_nv;

/// What the vendor wrote into the TPM.
#[derive(Clone, Debug, Default)]
pub struct EkCertificates {
    /// Every endorsement certificate found, by index.
    pub certificates: Vec<Certificate>,
    /// Intermediates, for vendors that put them there (Intel ODCA, newer STM and Infineon).
    pub chain: Vec<Certificate>,
}

/// The endorsement key that stands for this machine: the first of P-384, P-256 and RSA-2048 that
/// has a certificate, so that the node's id does not change from one run to the next.
#[derive(Clone, Debug)]
pub struct EndorsementKey {
    pub(super) certificate: Certificate,
    pub(super) public: Public,
    pub(super) template: Template,
}

impl EndorsementKey {
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// `public().raw()` is the TPMT_PUBLIC that goes over the wire.
    pub fn public(&self) -> &Public {
        &self.public
    }
}

impl Connection {
    pub(super) fn ek_certificates(&mut self) -> Result<EkCertificates, Error> {
        let mut found = EkCertificates::default();
        let mut chain = Vec::new();
        for handle in self.handles(EK_FIRST, CHAIN_LAST)? {
            let index = u32::from(handle);
            if CERTIFICATES.contains(&index) {
                let Some(bytes) = self.read_nv(handle)? else { continue };
                match certificate_in_nv(&bytes) {
                    Ok(certificate) => found.certificates.push(certificate),
                    Err(error) => {
                        tracing::warn!(%error, index = format!("{index:#x}"), "no certificate");
                    }
                }
            } else if (CHAIN_FIRST..=CHAIN_LAST).contains(&index) {
                // One certificate may be split over indexes: join first, then read.
                chain.extend(self.read_nv(handle)?.unwrap_or_default());
            }
        }
        found.chain = certificates_in_a_row(&chain);
        Ok(found)
    }

    /// The preferred certificate whose key this TPM has.
    pub(super) fn endorsement_key(
        &mut self,
        certificates: &[Certificate],
    ) -> Result<EndorsementKey, Error> {
        for template in PREFERRED {
            for certificate in certificates {
                let Ok(key) = certificate.public_key() else { continue };
                let Some(expected) = template.around(key) else { continue };
                let Ok(expected) = Public::from_area(expected) else { continue };
                let found =
                    EndorsementKey { certificate: certificate.clone(), public: expected, template };
                match self.with_endorsement_key(&found, |_, _| Ok(())) {
                    Ok(()) => return Ok(found),
                    Err(Error::NoEndorsement) => tracing::warn!(
                        template = ?template,
                        "the TPM does not have the key of one of its endorsement certificates"
                    ),
                    Err(error) => return Err(error),
                }
            }
        }
        Err(Error::NoEndorsement)
    }

    /// Find or make the key, use it, let it go.
    pub(super) fn with_endorsement_key<T>(
        &mut self,
        key: &EndorsementKey,
        operation: impl FnOnce(&mut tss_esapi::Context, KeyHandle) -> Result<T, Error>,
    ) -> Result<T, Error> {
        // A persistent one saves an RSA key generation, which takes seconds in hardware. Its
        // handle may hold any other key.
        for persistent in self.handles(PERSISTENT_FIRST, PERSISTENT_LAST)? {
            let Some(mut object) = self.persistent(persistent, &key.public)? else { continue };
            let result = operation(&mut self.context, object.into());
            if let Err(error) = self.context.tr_close(&mut object) {
                tracing::debug!(%error, "a persistent key could not be closed");
            }
            return result;
        }
        self.make_room(1, &[]);
        let failed = error::of("CreatePrimary");
        let template = key.template.input().ok_or(Error::NoEndorsement)?;
        let template = TssPublic::unmarshall(&template).map_err(&failed)?;
        let made = with_passwords(&mut self.context, 1, |context| {
            let endorsement = tss_esapi::interface_types::resource_handles::Hierarchy::Endorsement;
            context.create_primary(endorsement, template, None, None, None, None)
        })
        .map_err(&failed)?;
        let mut held = Held::new(&mut self.context, made.key_handle.into());
        if area(&made.out_public, "CreatePrimary")?.raw() != key.public.raw() {
            return Err(Error::NoEndorsement);
        }
        operation(&mut held, made.key_handle)
    }

    /// The persistent object, if it is this key.
    fn persistent(
        &mut self,
        handle: TpmHandle,
        wanted: &Public,
    ) -> Result<Option<ObjectHandle>, Error> {
        let failed = error::of("ReadPublic");
        let opened = self.context.execute_without_session(|c| c.tr_from_tpm_public(handle));
        let mut object = opened.map_err(&failed)?;
        let public = self
            .context
            .execute_without_session(|context| context.read_public(object.into()))
            .and_then(|(public, _, _)| public.marshall());
        // Keys of kinds that the library cannot write are not the one.
        if public.is_ok_and(|raw| raw == wanted.raw()) {
            return Ok(Some(object));
        }
        self.context.tr_close(&mut object).map_err(&failed)?;
        Ok(None)
    }

    /// What stands under this number, if anything does.
    pub(super) fn nv(&mut self, index: u32) -> Result<Option<Vec<u8>>, Error> {
        match self.handles(index, index)?.into_iter().next() {
            Some(handle) => self.read_nv(handle),
            None => Ok(None),
        }
    }

    /// A whole index; nothing if it may not be read or was never written.
    fn read_nv(&mut self, handle: TpmHandle) -> Result<Option<Vec<u8>>, Error> {
        let failed = error::of("NV_ReadPublic");
        let opened = self.context.execute_without_session(|c| c.tr_from_tpm_public(handle));
        let mut object = opened.map_err(&failed)?;
        let result = self.read_nv_object(object.into());
        self.context.tr_close(&mut object).map_err(&failed)?;
        result
    }

    fn read_nv_object(&mut self, index: NvIndexHandle) -> Result<Option<Vec<u8>>, Error> {
        let (public, _) = self
            .context
            .execute_without_session(|context| context.nv_read_public(index))
            .map_err(error::of("NV_ReadPublic"))?;
        let attributes = public.attributes();
        let auth = match (attributes.written(), attributes.auth_read(), attributes.owner_read()) {
            (true, true, _) => NvAuth::NvIndex(index),
            (true, false, true) => NvAuth::Owner,
            _ => return Ok(None),
        };
        let size = public.data_size();
        if size > MAX_INDEX {
            return Err(Error::Unreadable { command: "NV_ReadPublic", source: None });
        }
        let chunk = self
            .context
            .get_tpm_property(PropertyTag::NvBufferMax)
            .map_err(error::of("GetCapability"))?
            .and_then(|chunk| usize::try_from(chunk).ok())
            .unwrap_or(DEFAULT_CHUNK)
            .clamp(1, MAX_CHUNK);
        let mut bytes = Vec::with_capacity(size);
        while bytes.len() < size {
            let unreadable = || Error::Unreadable { command: "NV_Read", source: None };
            let count = u16::try_from((size - bytes.len()).min(chunk)).map_err(|_| unreadable())?;
            let offset = u16::try_from(bytes.len()).map_err(|_| unreadable())?;
            let part = with_passwords(&mut self.context, 1, |context| {
                context.nv_read(auth, index, count, offset)
            })
            .map_err(error::of("NV_Read"))?;
            if part.is_empty() {
                return Err(unreadable());
            }
            bytes.extend_from_slice(&part);
        }
        Ok(Some(bytes))
    }
}

/// Certificates one after another, padding or not; ends at the first thing that is none.
fn certificates_in_a_row(mut bytes: &[u8]) -> Vec<Certificate> {
    let mut found = Vec::new();
    while found.len() < MAX_CHAIN {
        let Ok((certificate, rest)) = Certificate::parse_prefix(bytes) else { break };
        found.push(certificate);
        bytes = rest;
    }
    found
}

/// The order is fixed, so that a node's identity does not change with what is found first: P-384,
/// P-256, RSA-2048, and behind them what few TPMs have.
const PREFERRED: [Template; 8] = [
    Template::H3,
    Template::L2,
    Template::H2,
    Template::L1,
    Template::H1,
    Template::H4,
    Template::H6,
    Template::H7,
];
/// Certificate indexes of the templates L-1, L-2, H-1 to H-7 (TCG EK Credential Profile 2.5,
/// §2.2.1). Those between hold nonces and templates.
const CERTIFICATES: [u32; 9] = [
    0x01c0_0002,
    0x01c0_000a,
    0x01c0_0012,
    0x01c0_0014,
    0x01c0_0016,
    0x01c0_0018,
    0x01c0_001a,
    0x01c0_001c,
    0x01c0_001e,
];
const EK_FIRST: u32 = 0x01c0_0002;
const CHAIN_FIRST: u32 = 0x01c0_0100;
const CHAIN_LAST: u32 = 0x01c0_01ff;
/// Where vendors and set-up tools put endorsement keys.
const PERSISTENT_FIRST: u32 = 0x8101_0000;
const PERSISTENT_LAST: u32 = 0x8101_ffff;
const MAX_INDEX: usize = 16 << 10;
const MAX_CHUNK: usize = 2048;
const DEFAULT_CHUNK: usize = 512;
const MAX_CHAIN: usize = 16;
