//! The server's own TLS identity, new at each start and renewed at half of its life; and the
//! bundle that its peers are verified with, which follows the store.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use assay_evidence::crypto::SoftwareKey;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::task::JoinHandle;

use crate::appraisal::Grant;
use crate::ca::SubjectKey;
use crate::ca::Terms;
use crate::server::domain::Domain;
use crate::spiffe::Bundle;
use crate::spiffe::X509Svid;
use crate::tls::Identity;
use crate::tls::ServerIdentity;
use crate::tls::Trust;

/// The life of the server's certificate.
const LIFE: Duration = Duration::from_secs(3_600);
const SIGNATURE_WITHIN: Duration = Duration::from_secs(30);
/// After a renewal that failed.
const AGAIN: Duration = Duration::from_secs(30);

/// Makes the identity, and a task that renews it.
pub async fn open(domain: Arc<Domain>) -> anyhow::Result<(ServerIdentity, JoinHandle<()>)> {
    let (first, mut svid) = issue(&domain).await.context("no certificate for the server itself")?;
    let own = ServerIdentity::new(first);
    let renewed = own.clone();
    let task = tokio::spawn(async move {
        loop {
            let left = svid.not_after.since(domain.clock.now());
            tokio::time::sleep((left / 2).max(Duration::from_secs(1))).await;
            match issue(&domain).await {
                Ok((identity, next)) => {
                    tracing::info!(serial = %next.serial, "the server's certificate is renewed");
                    renewed.replace(identity);
                    svid = next;
                }
                Err(error) => {
                    tracing::error!(error = %error, "the server's certificate is not renewed");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    });
    Ok((own, task))
}

async fn issue(domain: &Domain) -> anyhow::Result<(Identity, X509Svid)> {
    let key = SoftwareKey::generate()?;
    let custody = domain.authority.custody().clone();
    let grant = Grant::server(&domain.config.trust_domain, custody);
    let subject = SubjectKey::from_spki(&key.public_key().to_spki())?;
    let terms = Terms { max_ttl: Some(LIFE), ..Terms::default() };
    let prepared = domain.authority.prepare_x509(grant, subject, terms)?;
    let mut recorded = domain.store.record(vec![prepared]).await?;
    let recorded = recorded.pop().context("a record is missing")?;
    let svid = domain.authority.issue_x509(recorded, SIGNATURE_WITHIN).await?;
    Ok((Identity::software(&svid.chain, &key)?, svid))
}

/// Reads the bundle again whenever the store's has changed.
pub fn follow_bundle(domain: Arc<Domain>, trust: Trust) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut sequences = domain.store.subscribe();
        let mut known = domain.authority.bundle().sequence;
        while sequences.changed().await.is_ok() {
            if sequences.borrow_and_update().bundle_sequence == known {
                continue;
            }
            match domain.authority.reload_bundle().await {
                Ok(bundle) => {
                    known = bundle.sequence;
                    if let Err(error) = trust.replace(&bundle.x509_authorities) {
                        tracing::error!(error = %error, "the new bundle cannot be used");
                    }
                    let exported =
                        domain.config.bundle_export.as_ref().map(|path| export(path, &bundle));
                    if let Some(Err(error)) = exported {
                        tracing::error!(error = %error, "the bundle cannot be exported");
                    }
                }
                Err(error) => tracing::error!(error = %error, "the bundle cannot be read"),
            }
        }
    })
}

/// Writes the X.509 authorities as PEM, whole or not at all.
pub fn export(path: &Path, bundle: &Bundle) -> anyhow::Result<()> {
    let mut text = String::new();
    for der in &bundle.x509_authorities {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = STANDARD.encode(der);
        let mut rest = encoded.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(64));
            text.push_str(line);
            text.push('\n');
            rest = after;
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    let fresh = path.with_extension("new");
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    Ok(())
}
