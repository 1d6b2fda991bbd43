//! A draft of a profile out of logs of good boots.
//!
//! From one log the draft is exact: type, number, order and digest of every event in each register
//! it decides. Further logs widen it, and what differed between them is told. A person then reads
//! it, drops what should be free, and signs it; nothing here decides about a machine.
//!
//! Always decided: firmware, option ROMs, boot chain and Secure Boot (PCR 0, 2, 4, 7), what the
//! chain uses of 8, 9, 11 to 14, and that the others of these stay empty. The rest is recorded with
//! its reason.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Write;

use assay_eventlog::Event;
use assay_eventlog::Facts;
use assay_eventlog::Format;
use assay_eventlog::Grading;
use assay_eventlog::Log;
use assay_eventlog::Quirks;
use assay_eventlog::Value;
use assay_evidence::digest::Digest;
use assay_evidence::digest::HashAlgorithm;
use assay_evidence::time::Time;

use crate::reference::draft;
use crate::reference::draft::list;
use crate::reference::draft::quoted;
use crate::reference::grammar::Rule;
use crate::reference::set::DigestSet;

/// Boots that a draft may be made from.
pub const MAX_LOGS: usize = 64;
/// More ways than this to start one component are no variants any more.
const MAX_LEARNED_VARIANTS: usize = 32;

#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    pub id: &'a str,
    /// When recorded registers have to be looked at again.
    pub review_by: Time,
    /// Decide dbx and SBAT by floors and signers by set, so that they may grow.
    pub floors: bool,
    /// Digests of files in the IMA lists of these boots; nothing without lists.
    pub files: Option<BTreeSet<Digest>>,
    /// Built-in policies that the measured command line names.
    pub ima_policy: Vec<String>,
    /// Digests of policy files that these boots loaded, if each of them did.
    pub ima_policy_files: BTreeSet<Digest>,
    /// `log`, `pcrs` and `ima` of each boot, as the profile will name them.
    pub evidence: Vec<(String, String, Option<String>)>,
}

#[derive(Debug, Clone)]
pub struct Learned {
    pub text: String,
    pub banks: Vec<HashAlgorithm>,
    pub decided: Vec<u32>,
    pub recorded: Vec<u32>,
    pub quirks: Quirks,
    pub varied: Vec<Varied>,
}

/// What differed between the logs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Varied {
    pub register: u32,
    pub what: String,
    pub decided: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LearnError {
    #[error("1 to {MAX_LOGS} logs, found {0}")]
    Logs(usize),
    #[error("log {0} never decides: it has no bank as strong as sha256")]
    NeverDecides(usize),
    #[error("the logs have no bank in common that may decide")]
    NoCommonBank,
    #[error("logs of different kinds: {0} and {1}")]
    Mixed(&'static str, &'static str),
    #[error("log {log} is no honest log: {fault}")]
    Dishonest { log: usize, fault: String },
    #[error("component `{component}` starts in {found} ways, at most {MAX_LEARNED_VARIANTS}")]
    TooManyVariants { component: &'static str, found: usize },
}

/// The registers that are decided together.
struct Plan {
    name: &'static str,
    registers: &'static [u32],
}

/// A TPM's; registers of one that hold no event are in [`EMPTY`] instead.
const TPM: [Plan; 5] = [
    Plan { name: "firmware", registers: &[0] },
    Plan { name: "option-roms", registers: &[2] },
    Plan { name: "secure-boot", registers: &[7] },
    Plan { name: "boot-chain", registers: &[4, 8, 9, 11, 12, 13] },
    Plan { name: "machine-owner-keys", registers: &[14] },
];
/// Of these an empty one has to stay empty.
const EMPTY: [u32; 6] = [8, 9, 11, 12, 13, 14];
const TPM_RECORDED: [(u32, &str); 6] = [
    (1, "boot order, network addresses, SMBIOS and other settings differ between boots"),
    (3, "settings of option ROMs"),
    (5, "disk layout and the actions at the end of boot services"),
    (6, "the machine's vendor decides what it holds"),
    (10, "the IMA list decides it"),
    (15, "the host's own: machine id, volume keys"),
];
const TDX: [Plan; 1] = [Plan { name: "guest", registers: &[1, 2, 3] }];
const TDX_RECORDED: [(u32, &str); 1] = [(4, "extended by the guest while it runs")];

/// Makes a draft from logs that the caller knows to be of good boots.
pub fn learn(logs: &[Log<'_>], wanted: &Wanted<'_>) -> Result<Learned, LearnError> {
    if logs.is_empty() || logs.len() > MAX_LOGS {
        return Err(LearnError::Logs(logs.len()));
    }
    let format = logs.first().map_or(Format::CryptoAgile, Log::format);
    let mut quirks = Quirks::NONE;
    for (place, log) in logs.iter().enumerate() {
        if !log.decides() {
            return Err(LearnError::NeverDecides(place));
        }
        if log.format() != format {
            return Err(LearnError::Mixed(format.name(), log.format().name()));
        }
        let grades = log.grade(&Grading::INSPECT);
        if let Some(fault) = grades.faults().iter().chain(grades.forged()).next() {
            return Err(LearnError::Dishonest { log: place, fault: fault.to_string() });
        }
        quirks = quirks.union(grades.quirks());
    }
    let banks = common_banks(logs);
    if banks.is_empty() {
        return Err(LearnError::NoCommonBank);
    }
    let boots: Vec<Boot<'_>> = logs.iter().map(Boot::of).collect();
    Draft { boots, banks, quirks, format, wanted, text: String::new(), varied: Vec::new() }.write()
}

struct Boot<'l> {
    by_register: BTreeMap<u32, Vec<Event<'l>>>,
    facts: Facts,
}

impl<'l> Boot<'l> {
    fn of(log: &'l Log<'_>) -> Self {
        let mut by_register: BTreeMap<u32, Vec<Event<'l>>> = BTreeMap::new();
        for event in log.events() {
            by_register.entry(event.register()).or_default().push(event);
        }
        let grades = log.grade(&Grading::INSPECT);
        let facts = log.facts(&grades, &[]);
        Self { by_register, facts }
    }

    fn events(&self, register: u32) -> &[Event<'l>] {
        self.by_register.get(&register).map_or(&[], Vec::as_slice)
    }
}

struct Draft<'a, 'l> {
    boots: Vec<Boot<'l>>,
    banks: Vec<HashAlgorithm>,
    quirks: Quirks,
    format: Format,
    wanted: &'a Wanted<'a>,
    text: String,
    varied: Vec<Varied>,
}

/// The sets of one way to start a component.
type Sets = BTreeMap<(u32, &'static str), DigestSet>;

impl Draft<'_, '_> {
    fn write(mut self) -> Result<Learned, LearnError> {
        self.head();
        let (plans, recorded): (&[Plan], &[(u32, &str)]) = match self.format {
            Format::Ccel => (&TDX, &TDX_RECORDED),
            _ => (&TPM, &TPM_RECORDED),
        };
        let mut decided = Vec::new();
        let mut sets = String::new();
        for plan in plans {
            let on: Vec<u32> = plan
                .registers
                .iter()
                .copied()
                .filter(|register| !EMPTY.contains(register) || self.has_events(*register))
                .collect();
            if !on.is_empty() {
                self.component(plan, &on, &mut sets)?;
                decided.extend(on);
            }
        }
        if self.format != Format::Ccel {
            let empty: Vec<u32> =
                EMPTY.into_iter().filter(|register| !self.has_events(*register)).collect();
            if !empty.is_empty() {
                self.line(&format!(
                    "\n[[component]]\nname = \"unused\"\non = {empty:?}\nrule = \"\"\n"
                ));
                decided.extend(empty);
            }
        }
        decided.sort_unstable();
        for (register, because) in recorded {
            self.record(*register, because);
        }
        self.ima();
        self.evidence();
        let text = std::mem::take(&mut self.text) + &sets;
        Ok(Learned {
            text,
            banks: self.banks,
            decided,
            recorded: recorded.iter().map(|(register, _)| *register).collect(),
            quirks: self.quirks,
            varied: self.varied,
        })
    }

    fn line(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn has_events(&self, register: u32) -> bool {
        self.boots.iter().any(|boot| !boot.events(register).is_empty())
    }

    fn head(&mut self) {
        let root = match self.format {
            Format::Ccel => "tdx",
            _ => "tpm2",
        };
        let banks: Vec<String> = self.banks.iter().map(|bank| format!("\"{bank}\"")).collect();
        let quirks: Vec<String> = self.quirks.iter().map(|quirk| format!("\"{quirk}\"")).collect();
        let text = format!(
            "# Learned from {}; read it, drop what should be free, and sign it.\n\
             schema = \"firmware-profile/1\"\nid = {}\nserial = 1\nroot = \"{root}\"\n\
             banks = [{}]\nquirks = [{}]\n\n[select]\nby = \"enrolment\"\n",
            boots(self.boots.len()),
            quoted(self.wanted.id),
            banks.join(", "),
            quirks.join(", "),
        );
        self.line(&text);
    }

    fn component(&mut self, plan: &Plan, on: &[u32], sets: &mut String) -> Result<(), LearnError> {
        let mut text = format!("\n[[component]]\nname = \"{}\"\non = {on:?}\n", plan.name);
        let rules: Vec<String> = on
            .iter()
            .map(|register| format!("\"{register}\" = \"{}\"", self.rule(*register)))
            .collect();
        let _ = writeln!(text, "rule = {{ {} }}", rules.join(", "));
        let free = self.free_classes(plan);
        if plan.name == "secure-boot" {
            self.requirements(&mut text, sets);
        }
        let mut ways: Vec<Sets> = Vec::new();
        for boot in &self.boots {
            let way = self.way(boot, on, &free);
            match ways.iter_mut().find(|known| same_digests(known, &way)) {
                Some(known) => drop_other_texts(known, &way),
                None => ways.push(way),
            }
        }
        if ways.len() > MAX_LEARNED_VARIANTS {
            let found = ways.len();
            return Err(LearnError::TooManyVariants { component: plan.name, found });
        }
        for (place, way) in ways.iter().enumerate() {
            let number = place.saturating_add(1);
            let _ = write!(
                text,
                "[[component.variant]]\nname = \"{number}\"\nstate = \"active\"\n\
                 origin = \"learned: {}\"\n",
                boots(self.boots.len())
            );
            let classes: BTreeSet<&str> = way.keys().map(|(_, class)| *class).collect();
            for class in classes {
                let mut named = Vec::new();
                for ((register, _), set) in way.iter().filter(|((_, name), _)| *name == class) {
                    let name = format!("{}-{number}-{register}-{class}", plan.name);
                    let columns = draft::write_columns(set, &self.banks);
                    let _ = write!(sets, "\n[[set]]\nname = \"{name}\"\nserial = 1\n{columns}");
                    named.push(format!("\"{register}\" = \"@set:{name}\""));
                }
                let _ = writeln!(text, "{class} = {{ {} }}", named.join(", "));
            }
        }
        self.line(&text);
        Ok(())
    }

    /// The narrowest rule for this register in all boots.
    fn rule(&mut self, register: u32) -> Rule {
        let mut rules: Vec<Rule> =
            self.boots.iter().map(|boot| draft::exact_rule(boot.events(register))).collect();
        rules.dedup();
        let Some((first, rest)) = rules.split_first() else { return Rule::exact([]) };
        if !rest.is_empty() {
            self.varied.push(Varied {
                register,
                what: "type, number or order of events".to_owned(),
                decided: true,
            });
        }
        rest.iter().fold(first.clone(), |rule, other| rule.merged(other))
    }

    /// What is decided by content and not by digest.
    fn free_classes(&mut self, plan: &Plan) -> Vec<&'static str> {
        let mut free = Vec::new();
        if plan.name != "secure-boot" {
            return free;
        }
        let differs = |class: &str| {
            let mut rows = self
                .boots
                .iter()
                .map(|boot| draft::columns_of(boot.events(7), class, &self.banks).rows)
                .map(|rows| rows.into_iter().map(|row| row.digests).collect::<Vec<_>>());
            let first = rows.next();
            rows.any(|other| Some(&other) != first.as_ref())
        };
        let has = |claim: &str| self.boots.iter().all(|boot| boot.facts.value(claim).is_some());
        if has("sb.dbx") && (self.wanted.floors || differs("dbx")) {
            free.push("dbx");
        }
        if has("sb.authority") && has("sb.sbat") && self.wanted.floors {
            free.push("authority");
        }
        if differs("dbx") {
            self.varied.push(Varied {
                register: 7,
                what: "dbx: decided by its floor, the entries that all boots have".to_owned(),
                decided: true,
            });
        }
        free
    }

    fn way(&self, boot: &Boot<'_>, on: &[u32], free: &[&str]) -> Sets {
        let mut way = Sets::new();
        for register in on {
            let events = boot.events(*register);
            for class in draft::classes_of(events) {
                if free.contains(&class) {
                    continue;
                }
                let set = draft::columns_of(events, class, &self.banks);
                // The text is kept of every event: a quirk that this profile lists could bind
                // another one, or none at all, under the same digest.
                way.insert((*register, class), set);
            }
        }
        // A class that another boot has in this register and this one has not must be absent.
        for other in &self.boots {
            for register in on {
                for class in draft::classes_of(other.events(*register)) {
                    if !free.contains(&class) {
                        way.entry((*register, class))
                            .or_insert(DigestSet { ordered: true, rows: Vec::new() });
                    }
                }
            }
        }
        way
    }

    fn requirements(&self, text: &mut String, sets: &mut String) {
        let mut lines = Vec::new();
        for claim in ["sb.enabled", "sb.mok_validation"] {
            let mut flags = self.boots.iter().map(|boot| boot.facts.flag(claim));
            let first = flags.next().flatten();
            if let Some(flag) = first.filter(|_| flags.all(|flag| flag == first)) {
                lines.push(format!("{{ claim = \"{claim}\", is = {flag} }}"));
            }
        }
        for (claim, test, name) in [
            ("sb.db", "within", "db"),
            ("sb.dbx", "includes", "dbx-floor"),
            ("sb.authority", "within", "boot-signers"),
        ] {
            let Some(words) = self.words(claim, test == "includes") else { continue };
            let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
            let _ = write!(
                sets,
                "\n[[set]]\nname = \"{name}\"\nserial = 1\nwords = {}\n",
                list(&words)
            );
            lines.push(format!("{{ claim = \"{claim}\", {test} = \"@set:{name}\" }}"));
        }
        if let Some(floor) = self.floor() {
            let entries: Vec<String> =
                floor.iter().map(|(name, least)| format!("{} = {least}", quoted(name))).collect();
            let _ = write!(
                sets,
                "\n[[set]]\nname = \"sbat-floor\"\nserial = 1\nfloor = {{ {} }}\n",
                entries.join(", ")
            );
            lines.push("{ claim = \"sb.sbat\", at_least = \"@set:sbat-floor\" }".to_owned());
        }
        if !lines.is_empty() {
            let _ = writeln!(text, "require = [\n    {},\n]", lines.join(",\n    "));
        }
    }

    /// What all boots have, or what any has; nothing if a boot does not say.
    fn words(&self, claim: &str, common: bool) -> Option<BTreeSet<String>> {
        let mut found: Option<BTreeSet<String>> = None;
        for boot in &self.boots {
            let words: BTreeSet<String> = match boot.facts.value(claim)? {
                Value::Signatures(list) => {
                    list.iter().map(|s| format!("{}:{}", s.kind, hex::encode(s.sha256))).collect()
                }
                Value::Authorities(list) => {
                    list.iter().map(|a| format!("x509:{}", a.sha256)).collect()
                }
                _ => return None,
            };
            found = Some(match found {
                None => words,
                Some(before) if common => before.intersection(&words).cloned().collect(),
                Some(before) => before.union(&words).cloned().collect(),
            });
        }
        found
    }

    fn floor(&self) -> Option<BTreeMap<String, u32>> {
        let mut floor: BTreeMap<String, u32> = BTreeMap::new();
        for boot in &self.boots {
            let Value::Generations(generations) = boot.facts.value("sb.sbat")? else { return None };
            for (name, generation) in generations {
                let least = floor.entry(name.clone()).or_insert(*generation);
                *least = (*least).min(*generation);
            }
        }
        Some(floor)
    }

    fn record(&mut self, register: u32, because: &str) {
        let digests = |boot: &Boot<'_>| {
            let events = boot.events(register).iter();
            events.map(|event| event.digests().collect::<Vec<_>>()).collect::<Vec<_>>()
        };
        let mut all = self.boots.iter().map(digests);
        let first = all.next();
        if all.any(|other| Some(&other) != first.as_ref()) {
            let what = "events".to_owned();
            self.varied.push(Varied { register, what, decided: false });
        }
        let date = self.wanted.review_by.to_string();
        let date = date.split('T').next().unwrap_or_default().to_owned();
        self.line(&format!(
            "\n[[component]]\nname = \"register-{register}\"\non = [{register}]\n\
             mode = \"record\"\nbecause = {}\nreview_by = {date}\n",
            quoted(because)
        ));
    }

    fn ima(&mut self) {
        let Some(files) = &self.wanted.files else { return };
        let mut text =
            "\n[ima]\nallow = [\"@set:ima-files\"]\nviolations = \"refuse\"\n".to_owned();
        if !self.wanted.ima_policy.is_empty() {
            let words: Vec<String> = self.wanted.ima_policy.iter().map(|w| quoted(w)).collect();
            let _ = writeln!(text, "policy = [{}]", words.join(", "));
        }
        let policy_files = &self.wanted.ima_policy_files;
        if !policy_files.is_empty() {
            text.push_str("policy_files = [\"@set:ima-policy\"]\n");
        }
        let mut set = |name: &str, digests: &BTreeSet<Digest>| {
            let digests: Vec<String> = digests
                .iter()
                .filter(|digest| digest.algorithm() == HashAlgorithm::Sha256)
                .map(|digest| format!("\"{}\"", digest.to_hex()))
                .collect();
            let _ = writeln!(text, "\n[[set]]\nname = \"{name}\"\nserial = 1");
            let _ = writeln!(text, "sha256 = {}", list(&digests));
        };
        set("ima-files", files);
        if !policy_files.is_empty() {
            set("ima-policy", policy_files);
        }
        self.line(&text);
    }

    fn evidence(&mut self) {
        let mut text = String::new();
        for (log, pcrs, ima) in &self.wanted.evidence {
            let _ =
                write!(text, "\n[[evidence]]\nlog = {}\npcrs = {}\n", quoted(log), quoted(pcrs));
            if let Some(ima) = ima {
                let _ = writeln!(text, "ima = {}", quoted(ima));
            }
            text.push_str("expect = \"pass\"\n");
        }
        self.line(&text);
    }
}

fn boots(count: usize) -> String {
    match count {
        1 => "1 boot".to_owned(),
        count => format!("{count} boots"),
    }
}

/// Strongest last: sha256 is what every host has.
fn common_banks(logs: &[Log<'_>]) -> Vec<HashAlgorithm> {
    let deciding = [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512];
    let common = |bank: &HashAlgorithm| logs.iter().all(|log| log.replayable().any(|b| b == *bank));
    deciding.into_iter().filter(common).collect()
}

fn same_digests(a: &Sets, b: &Sets) -> bool {
    let digests = |sets: &Sets| {
        let rows = |set: &DigestSet| set.rows.iter().map(|row| row.digests.clone()).collect();
        sets.iter().map(|(key, set)| (*key, rows(set))).collect::<Vec<(_, Vec<_>)>>()
    };
    digests(a) == digests(b)
}

/// Unbound text that differs between boots is nothing to hold a boot against.
fn drop_other_texts(known: &mut Sets, other: &Sets) {
    for (key, set) in known.iter_mut() {
        let others = other.get(key).map_or(&[][..], |set| set.rows.as_slice());
        for (row, other) in set.rows.iter_mut().zip(others) {
            if row.text_sha256 != other.text_sha256 {
                row.text_sha256 = None;
            }
        }
    }
}
