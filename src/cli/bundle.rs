//! `assay bundle show`: the keys that SVIDs of this trust domain are verified with.

use assay_proto::spire::api::server::bundle::v1::GetBundleRequest;
use assay_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use clap::Subcommand;
use serde_json::json;

use crate::cli::connect::ServerSocket;
use crate::cli::output::Answer;
use crate::cli::output::Failure;

#[derive(Subcommand, Debug)]
pub enum BundleCommand {
    /// Show the bundle: X.509 authorities as PEM, with --json the JWT authorities too
    #[command(after_help = "Example:\n  assay bundle show > bundle.pem")]
    Show(ShowArgs),
}

#[derive(Args, Debug)]
pub struct ShowArgs {
    #[command(flatten)]
    server: ServerSocket,
}

impl BundleCommand {
    pub async fn run(self) -> Result<Answer, Failure> {
        let Self::Show(args) = self;
        let mut client = BundleClient::new(args.server.connect().await?);
        let bundle = client.get_bundle(GetBundleRequest { output_mask: None }).await?.into_inner();
        let certificates: Vec<String> =
            bundle.x509_authorities.iter().map(|authority| pem(&authority.asn1)).collect();
        let keys: Vec<_> = bundle
            .jwt_authorities
            .iter()
            .map(|key| {
                json!({
                    "key_id": key.key_id,
                    "spki": STANDARD.encode(&key.public_key),
                    "expires_at": key.expires_at,
                })
            })
            .collect();
        let json = json!({
            "trust_domain": bundle.trust_domain,
            "x509_authorities": certificates,
            "jwt_authorities": keys,
            "sequence": bundle.sequence_number,
            "refresh_hint_s": bundle.refresh_hint,
        });
        Ok(Answer::new(json, certificates.concat()))
    }
}

/// A certificate in PEM (RFC 7468).
pub fn pem(der: &[u8]) -> String {
    pem_of("CERTIFICATE", der)
}

/// PEM with any label (RFC 7468): 64 characters a line.
pub fn pem_of(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = STANDARD.encode(der);
    while !rest.is_empty() {
        let tail = rest.split_off(rest.len().min(64));
        text.push_str(&rest);
        text.push('\n');
        rest = tail;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}
