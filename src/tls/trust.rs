//! The authorities that peers are verified with; changed while connections come and go.

use std::fmt;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::TrustAnchor;

use crate::spiffe::TrustDomain;

/// The X.509 authorities of one trust domain; a clone follows every change.
#[derive(Clone)]
pub struct Trust(Arc<Shared>);

struct Shared {
    trust_domain: TrustDomain,
    anchors: RwLock<Arc<Vec<TrustAnchor<'static>>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("authority {index} of the bundle is not a certificate")]
pub struct TrustError {
    pub index: usize,
}

impl Trust {
    /// Trusts nobody yet.
    pub fn nobody(trust_domain: TrustDomain) -> Self {
        Self(Arc::new(Shared { trust_domain, anchors: RwLock::default() }))
    }

    /// Trusts the authorities of a bundle (certificates in DER).
    pub fn new(trust_domain: TrustDomain, authorities: &[Vec<u8>]) -> Result<Self, TrustError> {
        let trust = Self::nobody(trust_domain);
        trust.replace(authorities)?;
        Ok(trust)
    }

    /// From now on trusts these and no others. On an error nothing changes.
    pub fn replace(&self, authorities: &[Vec<u8>]) -> Result<(), TrustError> {
        let anchors = authorities
            .iter()
            .enumerate()
            .map(|(index, der)| {
                webpki::anchor_from_trusted_cert(&CertificateDer::from(der.as_slice()))
                    .map(|anchor| anchor.to_owned())
                    .map_err(|_| TrustError { index })
            })
            .collect::<Result<Vec<_>, _>>()?;
        *self.0.anchors.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(anchors);
        Ok(())
    }

    pub fn trust_domain(&self) -> &TrustDomain {
        &self.0.trust_domain
    }

    pub(super) fn anchors(&self) -> Arc<Vec<TrustAnchor<'static>>> {
        Arc::clone(&self.0.anchors.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trust({}, {} authorities)", self.0.trust_domain, self.anchors().len())
    }
}
