//! The certificate of a node's attestation key, at an operator's word.

use std::collections::BTreeMap;
use std::time::Duration;

use assay_tpm::AttestationKey;
use assay_tpm::ProvedKey;
use tonic::Status;

use crate::appraisal::Grant;
use crate::ca::AttestationCertificate;
use crate::server::api::agent::act_with;
use crate::server::authorization::Caller;
use crate::server::domain::Domain;
use crate::server::nodes::Node;
use crate::server::refusal;

const METHOD: &str = "CertifyAttestationKey";

/// Certifies the key that the node's row holds: the one that answered this server's challenge.
pub async fn certify(
    domain: &Domain,
    caller: &Caller,
    node: &Node,
    within: Duration,
) -> Result<AttestationCertificate, Status> {
    if !domain.config.nodes.certify_attestation_keys {
        return Err(Status::failed_precondition(
            "attestation keys are not certified here: `nodes.certify_attestation_keys` is false",
        ));
    }
    let deny = domain.registry.deny(&domain.store).await.map_err(|e| refusal::store(&e))?;
    let view = node.view();
    let standing = view.standing.ok_or_else(|| {
        Status::failed_precondition("the node has no standing: it must attest first")
    })?;
    let key = view.row.ak_public.as_deref().map(AttestationKey::parse);
    let Some(Ok(key)) = key else {
        return Err(Status::failed_precondition("the node has no attestation key that was proved"));
    };
    let key = ProvedKey::enrolled(key);
    let grant = Grant::attestation_key(&standing, &key, &deny, domain.clock.moment())
        .map_err(|refused| refusal::grant(&caller.name(), METHOD, &refused))?;
    let act = act_with(caller, "node-certify-ak", &node.id, BTreeMap::new());
    domain.store.commit(Vec::new(), vec![act]).await.map_err(|error| refusal::store(&error))?;
    let signed = domain.authority.certify_attestation_key(grant, within).await;
    let signed = signed.map_err(|error| {
        refusal::refuse(&caller.name(), METHOD, error.reason(), &error.to_string())
    })?;
    tracing::info!(
        decision = "node-certify-ak",
        caller = caller.name(),
        node = %node.id,
        serial = %signed.serial
    );
    Ok(signed)
}
