//! The host's TPM in the agent's hands: what it shows of itself, the evidence it gives, and the
//! SVID key that lives in it.
//!
//! Everything here blocks. One value is one boot of the TPM as far as the SVID key goes: after a
//! reset the key is gone, and the driver opens the TPM anew, with a new key.

use std::fs;
use std::io;
use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use assay_evidence::binding::Face;
use assay_evidence::certificate::Certificate;
use assay_evidence::certificate::CertificateError;
use assay_evidence::crypto;
use assay_evidence::key::Curve;
use assay_evidence::key::PublicKey;
use assay_hcl::Hardware;
use assay_hcl::HclReport;
use assay_tpm::collect::AkPurpose;
use assay_tpm::collect::Device;
use assay_tpm::collect::DeviceKey;
use assay_tpm::collect::EndorsementKey;
use assay_tpm::collect::Error as TpmError;
use assay_tpm::collect::Settings;
use assay_tpm::endorsement::certificate_in_nv;
use rcgen::CertificateParams;
use rcgen::DistinguishedName;
use zeroize::Zeroizing;

use crate::agent::config::AkCertificate;
use crate::agent::config::Logs;
use crate::agent::config::Place;
use crate::agent::host_logs::HostLogs;
use crate::agent::tee::HostTee;
use crate::agent::tee::TeeError;
use crate::envelope::Item;
use crate::envelope::MediaType;
use crate::exchange::Collect;
use crate::exchange::Facts;
use crate::exchange::Gathered;
use crate::exchange::Log;
use crate::tls;

/// One command of the TPM, waiting in line included.
const COMMAND: Duration = Duration::from_secs(30);
/// An authorization value longer than this is no authorization value.
const MAX_AUTH: usize = 64;
/// A certificate with its chain is shorter.
const MAX_CHAIN: u64 = 256 * 1_024;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostTpmError {
    #[error("the tpm")]
    Tpm(#[from] TpmError),
    #[error("`{}`: the endorsement authorization cannot be read", path.display())]
    Authorization { path: PathBuf, source: io::Error },
    #[error("`{}`: an authorization value has at most {MAX_AUTH} bytes", .0.display())]
    LongAuthorization(PathBuf),
    #[error("`{}`: the AK certificate cannot be read", path.display())]
    CertificateFile { path: PathBuf, source: io::Error },
    #[error("`{}`: no AK certificate and its chain", path.display())]
    Certificate { path: PathBuf, source: CertificateError },
    #[error("no AK certificate in NV index {0:#010x}")]
    NvCertificate(u32),
    #[error("the key under {0:#010x} is not the key of the AK certificate")]
    OtherKey(u32),
    #[error("the processor")]
    Tee(#[from] TeeError),
    #[error("the svid key is not a P-256 key")]
    SvidKey,
    #[error("no certificate request can be made")]
    Request(#[source] rcgen::Error),
}

/// An open TPM with its keys.
#[derive(Debug)]
pub struct HostTpm {
    device: Device,
    vouching: Vouching,
    ak: DeviceKey,
    svid_key: DeviceKey,
    svid_public: PublicKey,
    logs: HostLogs,
    /// The processor's reports, where this is a confidential machine.
    tee: Option<HostTee>,
    facts: Facts,
}

/// The key by which the machine proves itself.
#[derive(Debug)]
enum Vouching {
    Ek(EndorsementKey),
    /// The key of an AK certificate, which certifies our AK.
    Ak(DeviceKey),
}

impl HostTpm {
    /// Opens the TPM, finds its EK or the key of `ak_certificate`, makes the AK again and a new
    /// SVID key.
    pub fn open(
        address: &str,
        endorsement_auth: Option<&Path>,
        ak_certificate: Option<&AkCertificate>,
        tsm_folder: Option<&Path>,
        logs: &Logs,
    ) -> Result<Self, HostTpmError> {
        let tee = HostTee::find(tsm_folder)?;
        let endorsement_auth = match endorsement_auth {
            Some(path) => authorization(path)?,
            None => Zeroizing::default(),
        };
        let settings = Settings { deadline: COMMAND, endorsement_auth, ..Settings::default() };
        let device = Device::open_with(address, settings)?;
        let (vouching, certificates) = match ak_certificate {
            None => Vouching::ek(&device)?,
            Some(of) => Vouching::ak(&device, of)?,
        };
        let ak = device.attestation_key(AkPurpose::Exchange)?;
        let svid_key = device.svid_key()?;
        let svid_public = PublicKey::from_spki(&svid_key.public().spki_der())
            .map_err(|_| HostTpmError::SvidKey)?;
        let logs = HostLogs::of(address, logs);
        let boot_log = logs.boot();
        let mut kinds = vec![MediaType::TpmQuote, MediaType::TpmCertify, MediaType::TpmPcrs];
        if matches!(vouching, Vouching::Ak(_)) {
            kinds.push(MediaType::TpmAkCertify);
        }
        if boot_log.is_some() {
            kinds.push(MediaType::TcgEventlog);
        }
        kinds.extend(logs.kinds());
        kinds.extend(tee.iter().flat_map(HostTee::kinds));
        // Azure's vTPM holds the report that names its AK, so it is of use where that AK vouches.
        if tee.is_none() && matches!(vouching, Vouching::Ak(_)) && hcl(&device)?.is_some() {
            kinds.push(MediaType::HclReport);
        }
        let banks = device.banks()?;
        let facts = Facts {
            face: Face::Native,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            kinds,
            ek_certs: certificates.ek,
            ek_public: vouching.ek_public(),
            ek_chain: certificates.ek_chain,
            ak_certs: certificates.ak,
            ak_public: ak.public().raw().to_vec(),
            ak_name: ak.public().name().as_bytes().to_vec(),
            log_sha256: boot_log.as_deref().map(crypto::sha256),
            banks: banks.iter().map(|b| (b.algorithm.tpm_id(), b.is_active())).collect(),
        };
        Ok(Self { device, vouching, ak, svid_key, svid_public, logs, tee, facts })
    }

    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// SubjectPublicKeyInfo of the SVID key.
    pub fn svid_spki(&self) -> Vec<u8> {
        self.svid_public.to_spki()
    }

    /// Does what the server's challenge asks, in its order: activate, quote, read, certify.
    pub fn collect(&self, collect: &Collect) -> Result<Gathered, HostTpmError> {
        let activated = match (&collect.credential, &self.vouching) {
            (Some((blob, secret)), Vouching::Ek(ek)) => {
                Some(self.device.activate(ek, &self.ak, blob, secret)?)
            }
            (Some(_), Vouching::Ak(_)) => return Err(TpmError::NoEndorsement.into()),
            (None, _) => None,
        };
        let data = collect.qualifying_data;
        let quote = self.device.quote(&self.ak, &collect.selections, &data)?;
        let certified = match collect.certify {
            true => {
                let statement = self.device.certify(&self.ak, &self.svid_key, &data)?;
                Some((statement, self.svid_key.public().raw().to_vec()))
            }
            false => None,
        };
        let ak_certified = match &self.vouching {
            Vouching::Ak(key) if collect.certify_ak => {
                Some(self.device.certify(key, &self.ak, &data)?)
            }
            _ => None,
        };
        let mut reports = match &self.tee {
            Some(tee) => tee.collect(&collect.report_data, &collect.reports)?,
            None => Vec::new(),
        };
        if collect.reports.contains(&MediaType::HclReport) {
            let report = hcl(&self.device)?;
            reports.extend(report.map(|bytes| Item { media_type: MediaType::HclReport, bytes }));
        }
        let logs = collect.logs.iter().filter_map(|kind| self.log(*kind, collect)).collect();
        Ok(Gathered {
            activated,
            quote: quote.statement,
            pcrs: quote.values,
            certified,
            ak_certified,
            reports,
            logs,
        })
    }

    /// A request for the SVID key, signed by it.
    pub fn request(&self) -> Result<Vec<u8>, HostTpmError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&Signer(self)).map_err(HostTpmError::Request)?;
        Ok(request.der().to_vec())
    }

    /// The SVID key as TLS uses it.
    pub fn tls_key(&self) -> tls::DeviceKey {
        let (device, key) = (self.device.clone(), self.svid_key.clone());
        let sign = move |message: &[u8]| {
            let signature = device.sign(&key, &crypto::sha256(message));
            signature.map(|signature| signature.der()).map_err(|error| error.to_string())
        };
        tls::DeviceKey::new(self.svid_spki(), Arc::new(sign))
    }

    /// Whether the SVID key still is: it ends with the boot it was made in.
    pub fn has_svid_key(&self) -> Result<bool, HostTpmError> {
        match self.device.sign(&self.svid_key, &[0; 32]) {
            Ok(_) => Ok(true),
            Err(TpmError::KeyGone) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// A log as it stands now; one that cannot be read is missing, and the server sees that.
    fn log(&self, kind: MediaType, collect: &Collect) -> Option<Log> {
        if kind != MediaType::Ccel {
            return self.logs.read(kind, collect);
        }
        let read = self.tee.as_ref()?.ccel();
        read.inspect_err(|error| tracing::warn!(log = kind.word(), %error, "log not read"))
            .ok()
            .map(|bytes| Log { media_type: kind, bytes })
    }
}

/// The paravisor writes it anew at each boot.
const HCL_REPORT: u32 = 0x0140_0001;

/// What goes into the hello, in DER.
#[derive(Default)]
struct Certificates {
    ek: Vec<Vec<u8>>,
    ek_chain: Vec<Vec<u8>>,
    ak: Vec<Vec<u8>>,
}

impl Vouching {
    fn ek(device: &Device) -> Result<(Self, Certificates), HostTpmError> {
        let found = device.ek_certificates()?;
        let key = device.endorsement_key(&found)?;
        let ders = |list: &[Certificate]| list.iter().map(|c| c.der().to_vec()).collect();
        let (ek, ek_chain) = (ders(&found.certificates), ders(&found.chain));
        Ok((Self::Ek(key), Certificates { ek, ek_chain, ..Certificates::default() }))
    }

    /// Endorsement certificates stay at home: a server would go by them alone.
    fn ak(device: &Device, of: &AkCertificate) -> Result<(Self, Certificates), HostTpmError> {
        let chain = match &of.certificate {
            Place::File(path) => certificates(path)?,
            Place::Nv { index, chain } => {
                let bytes = device.nv(*index)?.unwrap_or_default();
                let leaf = certificate_in_nv(&bytes);
                let leaf = leaf.map_err(|_| HostTpmError::NvCertificate(*index))?;
                let chain = chain.as_deref().map(certificates).transpose()?;
                std::iter::once(leaf).chain(chain.unwrap_or_default()).collect()
            }
        };
        let key = device.persistent_key(of.handle)?;
        // The server would find out as well, and could not say which key is meant.
        let spki = key.public().spki_der();
        if chain.first().is_none_or(|leaf| leaf.spki_der() != spki) {
            return Err(HostTpmError::OtherKey(of.handle));
        }
        let ak = chain.iter().map(|certificate| certificate.der().to_vec()).collect();
        Ok((Self::Ak(key), Certificates { ak, ..Certificates::default() }))
    }

    fn ek_public(&self) -> Vec<u8> {
        match self {
            Self::Ek(ek) => ek.public().raw().to_vec(),
            Self::Ak(_) => Vec::new(),
        }
    }
}

/// All certificates of a file, PEM or DER.
fn certificates(path: &Path) -> Result<Vec<Certificate>, HostTpmError> {
    let unread = |source| HostTpmError::CertificateFile { path: path.to_path_buf(), source };
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(unread)?;
    file.take(MAX_CHAIN).read_to_end(&mut bytes).map_err(unread)?;
    Certificate::parse_set(&bytes)
        .map_err(|source| HostTpmError::Certificate { path: path.to_path_buf(), source })
}

/// The report of an Azure confidential VM; nothing where the index is another's, or there is none,
/// or where it is a TDREPORT, which no other machine can check.
fn hcl(device: &Device) -> Result<Option<Vec<u8>>, TpmError> {
    let of_snp = |bytes: &Vec<u8>| {
        let report = HclReport::parse(bytes);
        report.is_ok_and(|report| matches!(report.hardware, Hardware::SnpReport(_)))
    };
    Ok(device.nv(HCL_REPORT)?.filter(of_snp))
}

fn authorization(path: &Path) -> Result<Zeroizing<Vec<u8>>, HostTpmError> {
    let read = fs::read(path);
    let unreadable = |source| HostTpmError::Authorization { path: path.to_path_buf(), source };
    let bytes = Zeroizing::new(read.map_err(unreadable)?);
    match bytes.len() <= MAX_AUTH {
        true => Ok(bytes),
        false => Err(HostTpmError::LongAuthorization(path.to_path_buf())),
    }
}

/// The SVID key as rcgen wants one.
struct Signer<'a>(&'a HostTpm);

impl rcgen::PublicKeyData for Signer<'_> {
    fn der_bytes(&self) -> &[u8] {
        match &self.0.svid_public {
            PublicKey::Ec { curve: Curve::P256, point } => point,
            _ => &[],
        }
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for Signer<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let HostTpm { device, svid_key, .. } = self.0;
        let signature = device.sign(svid_key, &crypto::sha256(message)).map_err(|error| {
            tracing::warn!(%error, "the tpm did not sign the request");
            rcgen::Error::RemoteKeyError
        })?;
        Ok(signature.der())
    }
}
