//! `assay endorsement fetch`: what one piece of evidence needs, from the cache or from its vendor.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use assay_evidence::Time;
use assay_snp::Product;
use assay_tdx::endorsement::TcbUpdate;
use clap::Args;
use serde_json::json;

use crate::cli::endorsement;
use crate::cli::endorsement::CacheArgs;
use crate::cli::input::Inputs;
use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::cli::verdict::Verdict;
use crate::clock::Clock;
use crate::clock::Span;
use crate::endorsement::BaseUrl;
use crate::endorsement::Config;
use crate::endorsement::Endorsements;
use crate::endorsement::Entry;
use crate::endorsement::Service;
use crate::endorsement::Subject;
use crate::endorsement::Unavailable;

#[derive(Args, Debug)]
pub struct FetchArgs {
    /// AMD SEV-SNP report, 1184 bytes; `-` is standard input
    #[arg(long, value_name = "FILE", required_unless_present = "quote", conflicts_with = "quote")]
    report: Option<PathBuf>,
    /// Intel TDX quote
    #[arg(long, value_name = "FILE")]
    quote: Option<PathBuf>,
    /// Processor of a report of version 2, which does not say it: Milan or Genoa
    #[arg(long, value_name = "NAME", value_parser = product)]
    product: Option<Product>,
    /// Intel's newest evaluation, before it is the standard one
    #[arg(long)]
    early: bool,
    #[command(flatten)]
    cache: CacheArgs,
    /// AMD's service, or one that answers as it does
    #[arg(long, value_name = "URL")]
    amd: Option<BaseUrl>,
    /// Intel's service, or a PCCS
    #[arg(long, value_name = "URL")]
    intel: Option<BaseUrl>,
    /// Authorities for the services' TLS certificates; the system's if left out
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Shortest time from one request to the next; 10s for AMD, 1s for Intel if left out
    #[arg(long, value_name = "TIME", value_parser = span)]
    every: Option<Span>,
    /// Time to judge dates at, RFC 3339; now if left out
    #[arg(long, value_name = "TIME")]
    at: Option<Time>,
}

fn span(text: &str) -> Result<Span, String> {
    Span::try_from(text.to_owned())
}

fn product(name: &str) -> Result<Product, String> {
    Product::from_name(name).ok_or_else(|| {
        let names: Vec<_> = Product::ALL.iter().map(|product| product.as_str()).collect();
        format!("one of {}", names.join(", "))
    })
}

impl FetchArgs {
    pub async fn run(self) -> Result<Answer, Failure> {
        let inputs = Inputs::default();
        let clock = self.at.map_or_else(Clock::machine, Clock::manual);
        let now = clock.now();
        let operator_roots = inputs.extra_roots(self.cache.danger_extra_roots.as_ref())?;
        let online = Config::online(&self.cache.cache);
        let at = |service: Option<Service>, url: &Option<BaseUrl>| {
            service.map(|usual| Service {
                url: url.clone().unwrap_or(usual.url),
                every: self.every.map_or(usual.every, |every| every.0),
                ..usual
            })
        };
        // Of the two only the one that is asked, so that the other needs no authorities.
        let config = Config {
            operator_roots,
            amd: at(online.amd.clone(), &self.amd).filter(|_| self.report.is_some()),
            intel: at(online.intel.clone(), &self.intel).filter(|_| self.quote.is_some()),
            ca: self.ca.clone(),
            patience: PATIENCE,
            ..online
        };
        let room = Endorsements::open(config, clock)
            .map_err(|error| Failure::from(anyhow::Error::from(error)))?;
        let (subjects, missing) = match (&self.report, &self.quote) {
            (Some(path), _) => self.of_report(&room, &inputs.read(path)?).await?,
            (None, Some(path)) => self.of_quote(&room, &inputs.read(path)?).await?,
            (None, None) => return Err(Failure::new("--report or --quote is needed")),
        };
        let entries: Vec<Arc<Entry>> =
            subjects.iter().filter_map(|subject| room.cache().find(subject)).collect();
        let mut answer = endorsement::answer("fetched", &entries, now, "nothing is to be fetched");
        let counts = room.counts();
        let requests = counts.requests_amd + counts.requests_intel;
        if let Some(object) = answer.json.as_object_mut() {
            object.insert("requests".to_owned(), json!(requests));
            if let Some(missing) = &missing {
                object.insert("not_checked".to_owned(), json!([format!("revocation: {missing}")]));
            }
        }
        if let Some(missing) = &missing {
            answer.text.push_str(&format!("  not checked: revocation: {missing}\n"));
        }
        Ok(answer)
    }

    async fn of_report(
        &self,
        room: &Endorsements,
        bytes: &[u8],
    ) -> Result<(Vec<Subject>, Option<Unavailable>), Failure> {
        let report = match assay_snp::Report::parse(bytes) {
            Ok(report) => report,
            Err(faults) => return Err(refused(faults.findings(), bytes)),
        };
        let wanted = assay_snp::endorsement::wants(&report, self.product).ok_or_else(|| {
            match report.cpuid {
                None => Failure::new("the report does not say which processor it is of")
                    .hint("a report of version 2: name it, `--product Milan` or `--product Genoa`"),
                Some(_) => Failure::new("no processor that is known signed the report"),
            }
        })?;
        let had = room.snp(&wanted, SELF).await.map_err(|error| told(error, bytes))?;
        let (product, kind) = (wanted.product, wanted.kind);
        let mut subjects = vec![Subject::SnpIssuer { product, kind }];
        subjects.extend(wanted.chip.map(|chip| Subject::SnpVcek { product, chip }));
        subjects.push(Subject::SnpCrl { product, kind });
        Ok((subjects, had.missing))
    }

    async fn of_quote(
        &self,
        room: &Endorsements,
        bytes: &[u8],
    ) -> Result<(Vec<Subject>, Option<Unavailable>), Failure> {
        let update = if self.early { TcbUpdate::Early } else { TcbUpdate::Standard };
        let wanted = assay_tdx::Quote::parse(bytes)
            .and_then(|quote| assay_tdx::endorsement::wants(&quote, update))
            .map_err(|error| refused(vec![error.finding()], bytes))?;
        room.tdx(&wanted, SELF, Duration::ZERO).await.map_err(|error| told(error, bytes))?;
        Ok((vec![Subject::TdxCollateral(wanted)], None))
    }
}

/// What the vendor sent was read and refused; or there is nothing to tell by.
fn told(error: Unavailable, evidence: &[u8]) -> Failure {
    match error {
        Unavailable::Unfit { findings, .. } => refused(findings, evidence),
        error => Failure::new(error.to_string()).hint(error.reason().remedy()),
    }
}

fn refused(findings: Vec<assay_evidence::Finding>, evidence: &[u8]) -> Failure {
    let answer = Verdict::refused(findings, assay_evidence::crypto::sha256(evidence)).answer();
    Failure { answer: Some(Box::new(answer)), ..Failure::refused("refused") }
}

/// One source of evidence: whoever runs the command.
const SELF: &str = "command line";
/// Somebody waits, and a service that was asked too often wants its rest.
const PATIENCE: Duration = Duration::from_secs(180);
