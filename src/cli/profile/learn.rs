//! `assay profile learn`: logs of good boots in, a draft and its evidence out.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use assay_eventlog::Grading;
use assay_eventlog::Log;
use assay_eventlog::ima;
use assay_eventlog::ima::Kind;
use assay_evidence::Digest;
use assay_evidence::Registers;
use assay_evidence::Time;
use clap::Args;
use serde_json::json;

use crate::appraisal;
use crate::cli::input;
use crate::cli::input::Inputs;
use crate::cli::measured;
use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::reference::Profile;
use crate::reference::learn;
use crate::reference::learn::Wanted;

/// A recorded register has to be looked at again within a year.
const REVIEW_DAYS: u64 = 365;
/// The first line of every draft: what may be written over.
const DRAFT: &str = "# Learned from ";

#[derive(Args, Debug)]
pub struct LearnArgs {
    /// Log of a good boot; may be given again, and what differs is widened and told
    #[arg(long, value_name = "FILE", required = true)]
    log: Vec<PathBuf>,
    /// IMA list of these boots: its files become the set of allowed ones
    #[arg(long, value_name = "FILE")]
    ima: Vec<PathBuf>,
    /// Name of the profile, such as `acme/web`
    #[arg(long, value_name = "ID")]
    id: String,
    /// Where the draft goes: a file, or a folder for `profile.toml`; `evidence/` comes beside it
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// The logs are those of confidential machines
    #[arg(long)]
    ccel: bool,
    /// Command line of these boots, as `/proc/cmdline` has it; counts where a log binds it
    #[arg(long, value_name = "FILE")]
    cmdline: Vec<PathBuf>,
    /// Decide dbx, SBAT and signers by floors and sets, so that updates of them need no new profile
    #[arg(long)]
    floors: bool,
    /// Time of learning, RFC 3339; now if left out
    #[arg(long, value_name = "TIME")]
    at: Option<Time>,
}

impl LearnArgs {
    pub fn run(self) -> Result<Answer, Failure> {
        let inputs = Inputs::default();
        let logs: Vec<Vec<u8>> = self
            .log
            .iter()
            .map(|path| measured::read_log(&inputs, path))
            .collect::<Result<_, _>>()?;
        let lists: Vec<Vec<u8>> = self
            .ima
            .iter()
            .map(|path| measured::read_list(&inputs, path))
            .collect::<Result<_, _>>()?;
        let texts = measured::texts(&inputs, &self.cmdline)?;
        let parsed = self.parse(&logs)?;
        let (files, ima_policy_files) = match lists.is_empty() {
            true => (None, BTreeSet::new()),
            false => self.files(&lists).map(|(files, policies)| (Some(files), policies))?,
        };
        let out = match self.out.is_dir() || self.out.extension().is_none() {
            true => self.out.join("profile.toml"),
            false => self.out.clone(),
        };
        demand_draft(&out, DRAFT)?;
        let now = input::at(self.at);
        let wanted = Wanted {
            id: &self.id,
            review_by: measured::date_after(now, REVIEW_DAYS),
            floors: self.floors,
            files,
            ima_policy: ima_policy(&parsed, &texts),
            ima_policy_files,
            evidence: evidence(&out, logs.len(), lists.len()),
        };
        let learned =
            learn::learn(&parsed, &wanted).map_err(|error| Failure::refused(error.to_string()))?;
        let profile = Profile::parse(&learned.text).map_err(|error| {
            Failure::new(format!("the draft does not parse, which is a fault of ours: {error}"))
        })?;
        write(&out, &learned.text, &profile, &parsed, &logs, &lists, &wanted.evidence)?;

        let by_bank = |registers: &[u32]| -> BTreeMap<&str, Vec<u32>> {
            learned.banks.iter().map(|bank| (bank.name(), registers.to_vec())).collect()
        };
        let json = json!({
            "verdict": "learned",
            "reason": null,
            "reasons": [],
            "id": self.id,
            "profile": out,
            "sha256": hex::encode(profile.sha256),
            "decided": by_bank(&learned.decided),
            "recorded": by_bank(&learned.recorded),
            "varied": learned.varied,
            "quirks": learned.quirks,
            "not_checked": [],
        });
        let mut text = format!(
            "learned `{}` from {} logs: {}\n  decides   {:?}\n  records   {:?}\n",
            self.id,
            logs.len(),
            out.display(),
            learned.decided,
            learned.recorded
        );
        for quirk in learned.quirks.iter() {
            text.push_str(&format!("  quirk     {quirk}: {}\n", quirk.meaning().trim()));
        }
        for varied in &learned.varied {
            text.push_str(&format!("  varied    register {}: {}\n", varied.register, varied.what));
        }
        text.push_str(&format!(
            "Next: read it, then `assay profile test {0}` and `assay profile sign {0} --key KEY`\n",
            out.display()
        ));
        Ok(Answer::new(json, text))
    }

    fn parse<'b>(&self, logs: &'b [Vec<u8>]) -> Result<Vec<Log<'b>>, Failure> {
        logs.iter()
            .zip(&self.log)
            .map(|(bytes, path)| {
                let parsed = match self.ccel {
                    true => Log::parse_ccel(bytes, None),
                    false => Log::parse(bytes),
                };
                parsed.map_err(|error| {
                    Failure::refused(format!(
                        "`{}` is no log to learn from: {error}",
                        path.display()
                    ))
                })
            })
            .collect()
    }

    /// Every file of the lists, and the policies that were loaded, if each boot loaded one. A
    /// violation says nothing of a file, so a list with one is no good boot's.
    fn files(&self, lists: &[Vec<u8>]) -> Result<(BTreeSet<Digest>, BTreeSet<Digest>), Failure> {
        let mut files = BTreeSet::new();
        let (mut policies, mut everywhere) = (BTreeSet::new(), true);
        for (list, path) in lists.iter().zip(&self.ima) {
            let refused = |why: String| Failure::refused(format!("`{}`: {why}", path.display()));
            let mut reader = ima::Reader::new();
            let mut entries = reader.entries(list);
            let mut loaded = false;
            while let Some(entry) = entries.next().map_err(|error| refused(error.to_string()))? {
                match entry.kind() {
                    Kind::File(file) => {
                        files.extend(file.digest.digest());
                        if file.path == ima::proof::POLICY_PATH {
                            policies.extend(file.digest.digest());
                            loaded = true;
                        }
                    }
                    Kind::Buffer { digest, .. } => files.extend(digest.digest()),
                    Kind::BootAggregate(_) => {}
                    Kind::Violation { .. } => {
                        return Err(refused(
                            "it has a violation, so it is no good boot's".to_owned(),
                        ));
                    }
                    Kind::Anonymous => {
                        return Err(refused(
                            "an entry without a file cannot be learned".to_owned(),
                        ));
                    }
                }
            }
            reader.finish().map_err(|error| refused(error.to_string()))?;
            everywhere &= loaded;
        }
        if !everywhere {
            policies.clear();
        }
        Ok((files, policies))
    }
}

/// The built-in policies that every boot's bound command line names.
fn ima_policy(logs: &[Log<'_>], texts: &[Vec<u8>]) -> Vec<String> {
    let preimages: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
    let mut common: Option<BTreeSet<String>> = None;
    for log in logs {
        let grades = log.grade(&Grading { preimages: &preimages, ..Grading::INSPECT });
        let facts = log.facts(&grades, &preimages);
        for line in facts.texts("boot.cmdline") {
            let words: BTreeSet<String> = ima::proof::built_in_policies(line).into_iter().collect();
            common = Some(match common {
                None => words,
                Some(before) => before.intersection(&words).cloned().collect(),
            });
        }
    }
    common.into_iter().flatten().collect()
}

/// A file that somebody edited or signed is not written over.
pub(super) fn demand_draft(out: &Path, head: &str) -> Result<(), Failure> {
    match fs::read_to_string(out) {
        Ok(text) if text.is_empty() || text.starts_with(head) => Ok(()),
        Ok(_) => Err(Failure::new(format!("`{}` is there and is no draft", out.display()))
            .hint("write the draft elsewhere and compare, or move that file away")),
        Err(_) => Ok(()),
    }
}

/// Names of the evidence, as the profile has them: relative to its folder.
fn evidence(out: &Path, logs: usize, lists: usize) -> Vec<(String, String, Option<String>)> {
    let stem = out.file_stem().and_then(|stem| stem.to_str()).unwrap_or("profile");
    (1..=logs)
        .map(|number| {
            let name = format!("evidence/{stem}-{number}");
            let ima = (lists == logs).then(|| format!("{name}.ima"));
            (format!("{name}.bin"), format!("{name}.pcrs"), ima)
        })
        .collect()
}

fn write(
    out: &Path,
    text: &str,
    profile: &Profile,
    parsed: &[Log<'_>],
    logs: &[Vec<u8>],
    lists: &[Vec<u8>],
    names: &[(String, String, Option<String>)],
) -> Result<(), Failure> {
    let folder = out.parent().map(Path::to_path_buf).unwrap_or_default();
    let put = |path: PathBuf, bytes: &[u8]| {
        fs::write(&path, bytes)
            .map_err(|error| Failure::new(format!("cannot write `{}`: {error}", path.display())))
    };
    fs::create_dir_all(folder.join("evidence"))
        .map_err(|error| Failure::new(format!("cannot make `{}`: {error}", folder.display())))?;
    for (place, (log, pcrs, ima)) in names.iter().enumerate() {
        let (Some(bytes), Some(parsed)) = (logs.get(place), parsed.get(place)) else { continue };
        put(folder.join(log), bytes)?;
        let mut values = appraisal::unsigned_values(profile, parsed);
        if let (Some(ima), Some(list)) = (ima, lists.get(place)) {
            put(folder.join(ima), list)?;
            values = with_ima(values, list)?;
        }
        put(folder.join(pcrs), registers_text(&values).as_bytes())?;
    }
    put(out.to_path_buf(), text.as_bytes())
}

/// Register 10 is what the list leads to.
fn with_ima(values: Registers, list: &[u8]) -> Result<Registers, Failure> {
    let inspection = ima::Inspection::of(list, None)
        .map_err(|error| Failure::refused(format!("--ima: {error}")))?;
    let mut all = Registers::new();
    for (bank, registers) in values.iter() {
        for (register, value) in registers {
            let listed = inspection.registers.value(*bank, ima::REGISTER);
            let value = match listed {
                Some(listed) if *register == ima::REGISTER => *listed,
                _ => *value,
            };
            // Each register of each bank comes once.
            let _ = all.insert(*register, value);
        }
    }
    Ok(all)
}

/// The form of `tpm2_pcrread`.
pub fn registers_text(values: &Registers) -> String {
    let mut text = String::new();
    for (bank, registers) in values.iter() {
        text.push_str(&format!("{bank}:\n"));
        for (register, value) in registers {
            text.push_str(&format!("  {register:<2}: 0x{}\n", value.to_hex().to_uppercase()));
        }
    }
    text
}
