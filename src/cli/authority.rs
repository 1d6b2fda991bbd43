//! `assay authority show`: the keys that sign, and what was proved about where they live.

use assay_proto::assay::v1::Authority;
use assay_proto::assay::v1::GetAuthorityRequest;
use assay_proto::assay::v1::admin_client::AdminClient;
use clap::Args;
use clap::Subcommand;
use serde_json::Value;
use serde_json::json;

use crate::cli::connect::ServerSocket;
use crate::cli::output::Answer;
use crate::cli::output::Failure;

#[derive(Subcommand, Debug)]
pub enum AuthorityCommand {
    /// Show the issuing keys and their custody
    Show(ShowArgs),
}

#[derive(Args, Debug)]
pub struct ShowArgs {
    #[command(flatten)]
    server: ServerSocket,
}

impl AuthorityCommand {
    pub async fn run(self) -> Result<Answer, Failure> {
        let Self::Show(args) = self;
        let mut client = AdminClient::new(args.server.connect().await?);
        let response = client.get_authority(GetAuthorityRequest {}).await?.into_inner();
        let authorities = &response.authorities;
        let json = json!({ "authorities": authorities.iter().map(to_json).collect::<Vec<_>>() });
        Ok(Answer::new(json, authorities.iter().map(to_text).collect::<String>()))
    }
}

fn time(unix_ms: i64) -> String {
    assay_evidence::Time::from_unix_ms(unix_ms).to_string()
}

fn to_json(authority: &Authority) -> Value {
    let custody = authority.custody.clone().unwrap_or_default();
    json!({
        "id": authority.id,
        "use": authority.r#use,
        "state": authority.state,
        "algorithm": authority.algorithm,
        "spki_sha256": hex::encode(&authority.spki_sha256),
        "key_id": authority.key_id,
        "not_before": time(authority.not_before_ms),
        "not_after": time(authority.not_after_ms),
        "expiring": authority.expiring,
        "signatures_per_s": authority.capacity,
        "custody": {
            "class": custody.class,
            "gate": custody.gate,
            "tpm_class": custody.tpm_class,
            "ek_sha256": hex::encode(&custody.ek_sha256),
            "evidence": custody.evidence_sha256.iter().map(hex::encode).collect::<Vec<_>>(),
            "proved_at": time(custody.proved_ms),
        },
    })
}

fn to_text(authority: &Authority) -> String {
    let custody = authority.custody.clone().unwrap_or_default();
    let warning = if authority.expiring { "  (expires soon: plan its rotation)" } else { "" };
    let mut text = format!(
        "{} authority {} ({})\n  key         {} {}\n  custody     {}\n  valid       {} to {}{}\n",
        authority.r#use,
        authority.id,
        authority.state,
        authority.algorithm,
        hex::encode(&authority.spki_sha256),
        custody.class,
        time(authority.not_before_ms),
        time(authority.not_after_ms),
        warning,
    );
    if !custody.tpm_class.is_empty() {
        let ek = hex::encode(&custody.ek_sha256);
        text.push_str(&format!("  device      {} TPM, EK {ek}\n", custody.tpm_class));
    }
    for blob in &custody.evidence_sha256 {
        text.push_str(&format!("  evidence    {}\n", hex::encode(blob)));
    }
    if authority.capacity > 0.0 {
        text.push_str(&format!("  capacity    {:.0} signatures a second\n", authority.capacity));
    }
    text
}
