//! What vouches for a machine: the certificate of its endorsement key, or, where there is none,
//! that of an attestation key which a cloud or a maker left in its TPM.
//!
//! Both stand below roots of their own role. The first proves the agent's key by activation, the
//! second by certifying it; from then on a node is a node.

use assay_evidence::certificate::Certificate;
use assay_evidence::reason::Finding;
use assay_evidence::reason::Reason;
use assay_evidence::time::Time;
use assay_tpm::AkCertificate;
use assay_tpm::Endorsement;
use assay_tpm::TpmClass;
use assay_tpm::endorsement;
use assay_tpm::endorsement::Device;

use crate::exchange::Hello;
use crate::exchange::Refused;
use crate::exchange::Terms;
use crate::exchange::admission::Shown;
use crate::exchange::limits;
use crate::store::NodeKind;
use crate::store::NodeRow;

/// Verified up to a root; that it is in this machine is not proved yet.
#[derive(Debug)]
pub(super) enum Hardware {
    Ek(Endorsement),
    Ak { certificate: AkCertificate, class: TpmClass, spki_sha256: [u8; 32] },
}

impl Hardware {
    /// Endorsement certificates decide where there are any: they prove more.
    pub(super) fn verify(hello: &Hello, terms: &Terms, now: Time) -> Result<Self, Refused> {
        let of_ek = !(hello.ek_certs.is_empty() && hello.ek_public.is_empty());
        match hello.ak_certs.split_first() {
            Some((leaf, chain)) if !of_ek => Self::verify_ak(leaf, chain, terms, now),
            _ => endorsement::verify(
                &hello.ek_certs,
                &hello.ek_chain,
                &hello.ek_public,
                &terms.anchors,
                now,
            )
            .map(Self::Ek)
            .map_err(|error| Refused::tpm(&error)),
        }
    }

    fn verify_ak(
        leaf: &[u8],
        chain: &[Vec<u8>],
        terms: &Terms,
        now: Time,
    ) -> Result<Self, Refused> {
        let parsed = |der: &[u8]| {
            Certificate::parse(der).map_err(|error| {
                Refused::new(Reason::CertMalformed, "ak.certificate", error, "a certificate")
            })
        };
        let leaf = parsed(leaf)?;
        let chain = chain.iter().map(|der| parsed(der)).collect::<Result<Vec<_>, _>>()?;
        let (certificate, class) =
            terms.ak_anchors.verify(&leaf, &chain, now).map_err(|error| Refused::tpm(&error))?;
        let spki_sha256 = certificate.key().spki_sha256();
        Ok(Self::Ak { certificate, class, spki_sha256 })
    }

    /// What its chain was borne with, such as a signature over SHA-1.
    pub(super) fn warnings(&self) -> Vec<Finding> {
        match self {
            Self::Ek(endorsement) => endorsement.warnings(),
            // The claims of a key that a certificate names tell those.
            Self::Ak { .. } => Vec::new(),
        }
    }

    pub(super) fn kind(&self) -> NodeKind {
        match self {
            Self::Ek(_) => NodeKind::TpmEk,
            Self::Ak { .. } => NodeKind::TpmAk,
        }
    }

    /// What the node's id is made of.
    pub(super) fn spki_der(&self) -> Vec<u8> {
        match self {
            Self::Ek(endorsement) => endorsement.spki_der(),
            Self::Ak { certificate, .. } => certificate.key().to_spki(),
        }
    }

    pub(super) fn spki_sha256(&self) -> &[u8; 32] {
        match self {
            Self::Ek(endorsement) => endorsement.spki_sha256(),
            Self::Ak { spki_sha256, .. } => spki_sha256,
        }
    }

    fn root_sha256(&self) -> &[u8; 32] {
        match self {
            Self::Ek(endorsement) => endorsement.root_sha256(),
            Self::Ak { certificate, .. } => certificate.root_sha256(),
        }
    }

    pub(super) fn shown(&self) -> Shown<'_> {
        Shown { kind: self.kind(), spki_sha256: self.spki_sha256(), root: self.root_sha256() }
    }

    /// EKs whose certificates came along, unproved.
    pub(super) fn claimed_others(&self) -> &[[u8; 32]] {
        match self {
            Self::Ek(endorsement) => endorsement.claimed_others(),
            Self::Ak { .. } => &[],
        }
    }

    /// The certificate that counts, then the chain that came with it, in DER.
    pub(super) fn certificates(&self, hello: &Hello) -> Vec<Vec<u8>> {
        match self {
            Self::Ek(endorsement) => {
                let own = endorsement.certificate().der().to_vec();
                std::iter::once(own).chain(hello.ek_chain.iter().cloned()).collect()
            }
            Self::Ak { .. } => hello.ak_certs.clone(),
        }
    }

    /// What no evidence shows of it, each with its reason.
    pub(super) fn not_checked(&self) -> Vec<String> {
        match self {
            Self::Ek(_) => Vec::new(),
            Self::Ak { certificate, .. } => {
                let word = "ak certificate: that its key is a restricted one is its CA's word";
                let own = certificate.not_checked().iter().cloned();
                std::iter::once(word.to_owned()).chain(own).collect()
            }
        }
    }

    /// Only the verified key becomes the node's. Certificates that came along are kept as they
    /// were shown, and tie nothing to this node: somebody else's could be among them.
    pub(super) fn put(&self, row: &mut NodeRow, hello: &Hello) {
        if !row.ek_spki_sha256.contains(self.spki_sha256()) {
            row.ek_spki_sha256.push(*self.spki_sha256());
        }
        for other in self.claimed_others() {
            if row.claimed_eks.len() < limits::MAX_EK_CERTIFICATES
                && !row.claimed_eks.contains(other)
            {
                row.claimed_eks.push(*other);
            }
        }
        let shown = match self {
            Self::Ek(_) => hello.ek_certs.as_slice(),
            Self::Ak { .. } => hello.ak_certs.get(..1).unwrap_or_default(),
        };
        for certificate in shown {
            if row.ek_certs.len() < limits::MAX_EK_CERTIFICATES
                && !row.ek_certs.contains(certificate)
            {
                row.ek_certs.push(certificate.clone());
            }
        }
        row.ek_root = Some(*self.root_sha256());
        row.class = Some(self.class());
        row.device = Some(self.device().into());
        row.class_asserted = false;
    }

    fn class(&self) -> TpmClass {
        match self {
            Self::Ek(endorsement) => endorsement.class(),
            Self::Ak { class, .. } => *class,
        }
    }

    fn device(&self) -> &Device {
        match self {
            Self::Ek(endorsement) => endorsement.device(),
            Self::Ak { certificate, .. } => certificate.device(),
        }
    }
}
