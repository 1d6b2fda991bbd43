//! From a bundle that was read to one that is believed.
//!
//! ```compile_fail,E0451
//! fn forge(genuine: assay_tdx::VerifiedCollateral) -> assay_tdx::VerifiedCollateral {
//!     assay_tdx::VerifiedCollateral { sha256: [0; 32], ..genuine }
//! }
//! ```

use std::sync::Arc;
use std::time::Duration;

use assay_evidence::Certificate;
use assay_evidence::HashAlgorithm;
use assay_evidence::PublicKey;
use assay_evidence::Time;
use assay_evidence::crl::RevocationList;
use assay_evidence::crypto;
use assay_evidence::crypto::SignatureScheme;

use crate::collateral::Collateral;
use crate::collateral::QeIdentity;
use crate::collateral::Recent;
use crate::collateral::TcbInfo;
use crate::endorsement;
use crate::endorsement::Chain;
use crate::endorsement::PckCa;
use crate::endorsement::Root;
use crate::error::Error;
use crate::error::Faults;
use crate::error::Place;
use crate::verify::Platform;

/// Collateral whose chains, signatures and revocation lists hold; whether it is of today is asked
/// with the time of each verification.
#[derive(Debug)]
pub struct VerifiedCollateral {
    sha256: [u8; 32],
    tcb_info: TcbInfo,
    qe_identity: QeIdentity,
    /// Of the TCB info, of the QE identity, of the PCK CRL.
    chains: [Chain; 3],
    root_crl: RevocationList,
    pck_crl: RevocationList,
    pck_chain: Option<Vec<Certificate>>,
    extra_roots: Vec<Certificate>,
    /// PCK chains that hold under this collateral.
    platforms: Recent<Platform>,
}

impl Collateral {
    /// Verifies chains, signatures and revocation lists; `extra_roots` are further roots beside
    /// Intel's. Tells every fault.
    pub fn verify(self, extra_roots: &[Certificate]) -> Result<VerifiedCollateral, Faults> {
        let mut faults = Vec::new();
        let chains = [
            (Place::TcbInfoChain, &self.tcb_info_chain, endorsement::TCB_SIGNING_CHAIN),
            (Place::QeIdentityChain, &self.qe_identity_chain, endorsement::TCB_SIGNING_CHAIN),
            (Place::PckCrlChain, &self.pck_crl_chain, endorsement::PCK_CRL_CHAIN),
        ]
        .map(|(place, chain, names)| {
            let chain = endorsement::verify_chain(place, chain, names, extra_roots);
            chain.map_err(|fault| faults.push(fault)).ok()
        });
        let lists = [(Place::RootCrl, &self.root_ca_crl), (Place::PckCrl, &self.pck_crl)].map(
            |(place, der)| {
                let list = RevocationList::parse(der).map_err(|fault| Error::Crl { place, fault });
                list.map_err(|fault| faults.push(fault)).ok()
            },
        );
        let ([Some(tcb_chain), Some(qe_chain), Some(crl_chain)], [Some(root_crl), Some(pck_crl)]) =
            (chains, lists)
        else {
            return Err(told(faults));
        };

        // One root above all of it: trust in two must not be mixed into one statement.
        for chain in [&qe_chain, &crl_chain] {
            if chain.root_sha256 != tcb_chain.root_sha256 {
                faults.push(Error::RootDiffers {
                    place: chain.place,
                    found: chain.root_sha256,
                    expected: tcb_chain.root_sha256,
                });
            }
        }
        faults.extend(list_fault(Place::RootCrl, &root_crl, crl_chain.root_certificate()));
        faults.extend(list_fault(Place::PckCrl, &pck_crl, crl_chain.leaf()));
        for chain in [&tcb_chain, &qe_chain, &crl_chain] {
            faults.extend(revoked(Place::RootCrl, &root_crl, chain, chain.leaf()));
        }
        let documents = [
            (Place::TcbInfo, &tcb_chain, &self.tcb_info_text, &self.tcb_info_signature),
            (Place::QeIdentity, &qe_chain, &self.qe_identity_text, &self.qe_identity_signature),
        ];
        for (place, chain, text, signature) in documents {
            let key = chain.leaf().and_then(|leaf| leaf.public_key().ok());
            if !key.is_some_and(|key| is_signed(key, text.as_bytes(), signature)) {
                faults.push(Error::CollateralSignature { place });
            }
        }
        if let Some(faults) = Faults::of(faults) {
            return Err(faults);
        }
        Ok(VerifiedCollateral {
            sha256: self.sha256,
            tcb_info: self.tcb_info,
            qe_identity: self.qe_identity,
            chains: [tcb_chain, qe_chain, crl_chain],
            root_crl,
            pck_crl,
            pck_chain: self.pck_chain,
            extra_roots: extra_roots.to_vec(),
            platforms: Recent::new(MAX_PLATFORMS),
        })
    }
}

impl VerifiedCollateral {
    /// SHA-256 of the bundle.
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    pub fn tcb_info(&self) -> &TcbInfo {
        &self.tcb_info
    }

    pub fn qe_identity(&self) -> &QeIdentity {
        &self.qe_identity
    }

    pub fn root(&self) -> Root {
        let [tcb_info, ..] = &self.chains;
        tcb_info.root
    }

    /// Whose platforms the list of PCK certificates is about.
    pub fn pck_ca(&self) -> Option<PckCa> {
        let [.., crl_chain] = &self.chains;
        crl_chain.leaf().and_then(PckCa::of)
    }

    pub(crate) fn root_sha256(&self) -> [u8; 32] {
        let [tcb_info, ..] = &self.chains;
        tcb_info.root_sha256
    }

    pub(crate) fn extra_roots(&self) -> &[Certificate] {
        &self.extra_roots
    }

    pub(crate) fn pck_chain(&self) -> Option<&[Certificate]> {
        self.pck_chain.as_deref()
    }

    pub(crate) fn platform(&self, key: &[u8; 32]) -> Option<Arc<Platform>> {
        self.platforms.find(key)
    }

    pub(crate) fn keep_platform(&self, key: [u8; 32], platform: Arc<Platform>) {
        self.platforms.keep(key, platform);
    }

    /// The first and the last second at which all of it is valid.
    pub fn validity(&self) -> (Time, Time) {
        let first = self.dated().map(|(_, from, _)| from).max();
        let last = self.dated().map(|(_, _, until)| until).min();
        let (from, until) = (self.tcb_info.issue_date, self.tcb_info.next_update);
        (first.unwrap_or(from), last.unwrap_or(until))
    }

    /// What `now` says of every part that has dates. Documents and lists may be overdue for as long
    /// as `grace`; certificates may not.
    pub(crate) fn date_faults(&self, now: Time, grace: Duration) -> impl Iterator<Item = Error> {
        self.dated().filter_map(move |(place, from, until)| {
            let until = match place {
                Place::TcbInfo | Place::QeIdentity | Place::RootCrl | Place::PckCrl => {
                    until + grace
                }
                _ => until,
            };
            endorsement::date_fault(place, from, until, now)
        })
    }

    fn dated(&self) -> impl Iterator<Item = (Place, Time, Time)> {
        let list = |place, list: &RevocationList| {
            // A list that never says when the next is due is late at once.
            (place, list.this_update(), list.next_update().unwrap_or(list.this_update()))
        };
        let (tcb, qe) = (&self.tcb_info, &self.qe_identity);
        let documents = [
            (Place::TcbInfo, tcb.issue_date, tcb.next_update),
            (Place::QeIdentity, qe.issue_date, qe.next_update),
            list(Place::RootCrl, &self.root_crl),
            list(Place::PckCrl, &self.pck_crl),
        ];
        let chains = self.chains.each_ref().map(|chain| (chain.place, chain.from, chain.until));
        documents.into_iter().chain(chains)
    }

    /// Whether a PCK chain hangs under the same CA as the lists, and is on neither of them.
    pub(crate) fn pck_chain_faults(&self, chain: &Chain) -> Vec<Error> {
        let mut faults = Vec::new();
        if chain.root_sha256 != self.root_sha256() {
            faults.push(Error::RootDiffers {
                place: Place::PckChain,
                found: chain.root_sha256,
                expected: self.root_sha256(),
            });
        }
        // The CA that signed the list was looked at with it; any other must have signed it too.
        let [.., crl_chain] = &self.chains;
        if chain.issuer() != crl_chain.leaf() {
            faults.extend(list_fault(Place::PckCrl, &self.pck_crl, chain.issuer()));
        }
        faults.extend(revoked(Place::RootCrl, &self.root_crl, chain, chain.issuer()));
        faults.extend(revoked(Place::PckCrl, &self.pck_crl, chain, chain.leaf()));
        faults
    }
}

fn list_fault(place: Place, list: &RevocationList, issuer: Option<&Certificate>) -> Option<Error> {
    let cause = |cause: String| Some(Error::CrlSignature { place, cause });
    let Some(issuer) = issuer else { return cause("no issuer".into()) };
    if list.issuer() != issuer.subject() {
        return cause("of another CA".into());
    }
    // A list for CAs only would say nothing of a platform.
    if list.scope() != assay_evidence::crl::Scope::All {
        return cause("not of all certificates".into());
    }
    let key = issuer.public_key().map_err(|fault| fault.to_string());
    match key.and_then(|key| list.verify(key).map_err(|fault| fault.to_string())) {
        Ok(()) => None,
        Err(fault) => cause(fault),
    }
}

fn revoked(
    place: Place,
    list: &RevocationList,
    chain: &Chain,
    certificate: Option<&Certificate>,
) -> Option<Error> {
    let certificate = certificate?;
    let serial = certificate.serial();
    if !list.is_revoked(serial) && !list.speaks_of(certificate) {
        let cause = format!("does not speak of the {}", chain.place.claim());
        return Some(Error::CrlSignature { place, cause });
    }
    list.is_revoked(serial).then(|| Error::Revoked {
        place,
        chain: chain.place,
        serial: serial.to_vec(),
    })
}

/// Documents are signed as r ‖ s over their text.
fn is_signed(key: &PublicKey, text: &[u8], signature: &[u8]) -> bool {
    let scheme = SignatureScheme::EcdsaFixed(HashAlgorithm::Sha256);
    crypto::verify_signature(scheme, key, text, signature).is_ok()
}

/// The faults of which there is at least one.
fn told(faults: Vec<Error>) -> Faults {
    Faults::of(faults)
        .unwrap_or_else(|| Error::collateral(Place::Bundle, "nothing could be verified").into())
}

/// Platforms of one kind that are remembered, about one kilobyte each; a promise of
/// docs/reference/limits.md.
const MAX_PLATFORMS: usize = 1024;
