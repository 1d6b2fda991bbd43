//! Judges a boot log by a profile: every event of every decided register, against signed values.
//!
//! The order of faults is fixed: what is no honest log, what does not lead to the quoted values,
//! what the grammar has no place for, digests that no variant in force lists, and then what the
//! bound facts say. A register without events must stand where a reset leaves it; nothing is
//! skipped, and a register that is only recorded still has to be made of honest events.
//!
//! Pure, and told the time. It does not know where the register values come from: they count as
//! much as whoever signed them.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use assay_eventlog::Class;
use assay_eventlog::Error;
use assay_eventlog::Event;
use assay_eventlog::Facts;
use assay_eventlog::Grade;
use assay_eventlog::Grades;
use assay_eventlog::Grading;
use assay_eventlog::Log;
use assay_eventlog::Quirks;
use assay_eventlog::Replay;
use assay_evidence::Finding;
use assay_evidence::Reason;
use assay_evidence::crypto;
use assay_evidence::digest::Digest;
use assay_evidence::digest::HashAlgorithm;
use assay_evidence::digest::Registers;
use assay_evidence::time::Time;

use crate::appraisal::boot_facts;
use crate::appraisal::literal;
use crate::appraisal::vouched;
use crate::reference::Component;
use crate::reference::Demand;
use crate::reference::Profile;
use crate::reference::State;
use crate::reference::Variant;
use crate::reference::class;
use crate::reference::draft;
use crate::reference::grammar::Item;
use crate::reference::grammar::Rule;
use crate::reference::profile::Root;
use crate::reference::requirement::Fact;
use crate::reference::set::DigestSet;
use crate::reference::set::Row;

/// What came of a log. Values out of it count only where `findings` is empty.
#[derive(Debug)]
pub struct Measured<'p> {
    /// What refuses, most decisive first.
    pub findings: Vec<Finding>,
    pub warnings: Vec<Finding>,
    pub not_checked: Vec<String>,
    /// One for each event of the log.
    pub events: Vec<Judged<'p>>,
    /// What the log proves, from registers that follow from it alone.
    pub facts: Facts,
    /// Component and variant that admitted it.
    pub admitted: Vec<(&'p str, &'p str)>,
    /// Values of the command line that may differ from host to host.
    pub per_host: Vec<(String, String)>,
    pub quirks: Quirks,
    /// The nearest variant and the stanza that would admit what was found, for a human to sign.
    pub nearest: Vec<Nearest>,
}

/// An event and what consumed it.
#[derive(Debug, Clone, Copy)]
pub struct Judged<'p> {
    pub index: usize,
    pub register: u32,
    pub class: Class,
    pub grade: Grade,
    /// Nothing in a register that is recorded, and for an event that no item has a place for.
    pub item: Option<&'p Item>,
    pub component: Option<&'p Component>,
}

#[derive(Debug, Clone)]
pub struct Nearest {
    pub component: String,
    /// Nothing if no variant is in force.
    pub variant: Option<String>,
    pub stanza: String,
}

/// What is judged beside the log.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    /// The signed values of every bank that is switched on.
    pub quoted: &'a Registers,
    /// Texts that the host sent: preimages of digests in the log, and signatures of registers. Each
    /// is worth what stands behind it.
    pub preimages: &'a [&'a [u8]],
    /// Names of candidate variants that count for this node.
    pub candidates: &'a BTreeSet<String>,
    pub now: Time,
}

/// Judges `log` by `profile`.
pub fn appraise_log<'p>(profile: &'p Profile, log: &Log<'_>, given: &Given<'_>) -> Measured<'p> {
    let allowed = class::quirks(&profile.quirks);
    let grading = Grading {
        quirks: allowed,
        known: &|digest| profile.known.contains(digest),
        preimages: given.preimages,
    };
    let grades = log.grade(&grading);
    let mut judge = Judge::new(profile, log, given, &grades);
    judge.honest(allowed, &grading);
    judge.banks();
    judge.replayed();
    let facts = judge.facts();
    for component in &profile.components {
        judge.component(component, &facts);
    }
    judge.select(&facts);
    judge.finish(facts)
}

struct Judge<'p, 'a, 'l> {
    profile: &'p Profile,
    log: &'a Log<'l>,
    given: &'a Given<'a>,
    grades: &'a Grades,
    replay: Replay,
    /// Banks of the profile that the quote covers, in the profile's order.
    deciding: Vec<HashAlgorithm>,
    /// Registers whose value follows from the log in every quoted bank.
    follows: BTreeSet<u32>,
    by_register: BTreeMap<u32, Vec<Event<'a>>>,
    out: Measured<'p>,
    /// Found by components; told after what concerns the log as a whole.
    later: Vec<(u8, Finding)>,
}

/// In which order faults of components are told.
const GRAMMAR: u8 = 0;
const DIGEST: u8 = 1;
const CONTENT: u8 = 2;

impl<'p, 'a, 'l> Judge<'p, 'a, 'l> {
    fn new(
        profile: &'p Profile,
        log: &'a Log<'l>,
        given: &'a Given<'a>,
        grades: &'a Grades,
    ) -> Self {
        let mut by_register: BTreeMap<u32, Vec<Event<'a>>> = BTreeMap::new();
        let mut events = Vec::with_capacity(log.event_count());
        for event in log.events() {
            by_register.entry(event.register()).or_default().push(event);
            events.push(Judged {
                index: event.index(),
                register: event.register(),
                class: event.class(),
                grade: grades.grade(event.index()).unwrap_or(Grade::Opaque),
                item: None,
                component: None,
            });
        }
        let quoted = |bank: &HashAlgorithm| given.quoted.bank(*bank).is_some_and(|b| !b.is_empty());
        Self {
            profile,
            log,
            given,
            grades,
            replay: log.replay(),
            deciding: profile.banks.iter().copied().filter(quoted).collect(),
            follows: BTreeSet::new(),
            by_register,
            out: Measured {
                findings: Vec::new(),
                warnings: Vec::new(),
                not_checked: Vec::new(),
                events,
                facts: Facts::default(),
                admitted: Vec::new(),
                per_host: Vec::new(),
                quirks: grades.quirks(),
                nearest: Vec::new(),
            },
            later: Vec::new(),
        }
    }

    fn refuse(
        &mut self,
        code: Reason,
        claim: String,
        found: String,
        expected: String,
        source: String,
    ) {
        self.out.findings.push(Finding { code, claim, found, expected, source });
    }

    /// What no honest log has, in whatever register. A quirk that would explain it is named.
    fn honest(&mut self, allowed: Quirks, grading: &Grading<'_>) {
        if !self.log.decides() {
            let found = self.log.format().name().to_owned();
            let expected = "a log with a bank as strong as sha256".to_owned();
            let source = self.source_of_profile();
            self.refuse(Reason::PcrBankWeak, "eventlog.format".to_owned(), found, expected, source);
        }
        let faults = self.grades.faults().iter().chain(self.grades.forged());
        let mut findings: Vec<Finding> = faults.map(|fault| fault.finding()).collect();
        if !findings.is_empty() {
            let all = self.log.grade(&Grading { quirks: Quirks::ALL, ..*grading });
            let missing: Vec<&str> = all
                .quirks()
                .iter()
                .filter(|quirk| !allowed.contains(*quirk))
                .map(|quirk| quirk.name())
                .collect();
            if all.faults().is_empty() && all.forged().is_empty() && !missing.is_empty() {
                let first = findings.first().map(|f| f.claim.clone()).unwrap_or_default();
                findings = vec![Finding {
                    code: Reason::QuirkNotListed,
                    claim: first,
                    found: missing.join(", "),
                    expected: format!(
                        "only {:?}",
                        allowed.iter().map(|q| q.name()).collect::<Vec<_>>()
                    ),
                    source: self.source_of_profile(),
                }];
            }
        }
        self.out.findings.extend(findings);
    }

    /// Every bank that the TPM has on has to be in the log: one that firmware leaves alone can be
    /// filled by anybody afterwards (CVE-2021-42299).
    fn banks(&mut self) {
        if self.deciding.is_empty() {
            let found: Vec<&str> = self.given.quoted.keys().map(|bank| bank.name()).collect();
            let expected: Vec<&str> = self.profile.banks.iter().map(|bank| bank.name()).collect();
            let source = self.source_of_profile();
            let claim = "registers".to_owned();
            self.refuse(
                Reason::PcrBankWeak,
                claim,
                found.join(", "),
                expected.join(" or "),
                source,
            );
        }
        let lacking: Vec<HashAlgorithm> = self.given.quoted.keys().copied().collect();
        for bank in lacking {
            if bank != HashAlgorithm::Sm3_256 && self.replay.banks().contains(&bank) {
                continue;
            }
            if bank == HashAlgorithm::Sm3_256 {
                self.out.not_checked.push(format!("bank {bank}: it cannot be computed here"));
                continue;
            }
            let source = self.source_of_profile();
            self.refuse(
                Reason::BanksInconsistent,
                format!("eventlog.bank.{bank}"),
                "no digests".to_owned(),
                "one of each event, as the bank is on".to_owned(),
                source,
            );
        }
    }

    /// Holds every register against its quoted values, in every bank.
    fn replayed(&mut self) {
        let allowed = class::quirks(&self.profile.quirks);
        let comparison = self.replay.compare(self.given.quoted, &[], allowed);
        self.out.quirks = self.out.quirks.union(comparison.quirks);
        let mut values: BTreeMap<u32, usize> = BTreeMap::new();
        for (bank, registers) in self.given.quoted.iter() {
            for register in registers.keys().filter(|_| self.replay.banks().contains(bank)) {
                let banks = values.entry(*register).or_default();
                *banks = banks.saturating_add(1);
            }
        }
        let decided = self.profile.decided();
        let read = |component: &&Component| matches!(component.demand, Demand::Rule(_));
        let by_log: BTreeSet<u32> = self
            .profile
            .components
            .iter()
            .filter(read)
            .flat_map(|component| component.on.iter().copied())
            .collect();
        for (register, banks) in &values {
            let differing: Vec<_> = comparison
                .faults
                .iter()
                .filter(|fault| matches!(fault, Error::ReplayMismatch { register: r, .. } if r == register))
                .collect();
            let Some(first) = differing.first() else {
                self.follows.insert(*register);
                continue;
            };
            if !by_log.contains(register) {
                if !decided.contains(register) && self.by_register.contains_key(register) {
                    let text = format!("register {register}: it does not follow from this log");
                    self.out.not_checked.push(text);
                }
                continue;
            }
            let mut finding = first.finding();
            if differing.len() < *banks {
                finding.code = Reason::BanksInconsistent;
            }
            self.out.findings.push(finding);
        }
        for register in by_log.iter().filter(|register| !values.contains_key(*register)) {
            let source = self.source_of_profile();
            let (found, expected) = ("not quoted".to_owned(), "a quoted value".to_owned());
            self.refuse(Reason::PcrSelection, format!("pcr.{register}"), found, expected, source);
        }
    }

    /// Facts from registers that follow from the log alone.
    fn facts(&self) -> Facts {
        let grades = self.grades.within(self.log, &|register| self.follows.contains(&register));
        self.log.facts(&grades, self.given.preimages)
    }

    fn fact(&self, facts: &Facts, claim: &str) -> Option<Fact> {
        let seven = self.log.format().register_of_pcr(7);
        boot_facts::fact(facts, claim, self.follows.contains(&seven))
    }

    fn component(&mut self, component: &'p Component, facts: &Facts) {
        match &component.demand {
            Demand::Rule(rules) => self.rules(component, rules),
            Demand::Literal => {
                let found = literal::appraise(
                    component,
                    self.profile,
                    &|bank, register| self.given.quoted.value(bank, register).copied(),
                    self.given.candidates,
                    self.given.now,
                );
                self.later.extend(found.into_iter().map(|finding| (DIGEST, finding)));
            }
            Demand::Vouched(vouched) => {
                let found = vouched::appraise(
                    component,
                    vouched,
                    self.given.preimages,
                    &self.deciding,
                    self.given.quoted,
                    &|bank, register| self.replay.value(bank, register),
                    &self.source(component, component.line),
                );
                self.later.extend(found.into_iter().map(|finding| (DIGEST, finding)));
            }
            Demand::Record { .. } | Demand::Read => {}
        }
        for register in &component.on {
            self.bound(component, *register);
        }
        for requirement in &component.require {
            let fact = self.fact(facts, &requirement.claim);
            if let Some((found, expected)) = requirement.differs(fact.as_ref()) {
                let finding = Finding {
                    code: Reason::ClaimMismatch,
                    claim: requirement.claim.clone(),
                    found,
                    expected,
                    source: self.source(component, requirement.line),
                };
                self.later.push((CONTENT, finding));
            }
        }
        if let Some(tokens) = &component.tokens {
            let source = self.source(component, tokens.line);
            let Some(Fact::Texts(texts)) = self.fact(facts, "boot.cmdline") else {
                let finding = Finding {
                    code: Reason::CommandLine,
                    claim: "boot.cmdline".to_owned(),
                    found: "no text that a measured digest binds".to_owned(),
                    expected: "the kernel's command line".to_owned(),
                    source,
                };
                self.later.push((CONTENT, finding));
                return;
            };
            for text in &texts {
                for broken in tokens.broken(text) {
                    let finding = Finding {
                        code: Reason::CommandLine,
                        claim: "boot.cmdline".to_owned(),
                        found: broken.found,
                        expected: broken.expected,
                        source: source.clone(),
                    };
                    self.later.push((CONTENT, finding));
                }
                self.out.per_host.extend(tokens.recorded(text));
            }
        }
    }

    /// Classes whose text the profile wants bound wherever they are.
    fn bound(&mut self, component: &Component, register: u32) {
        for event in self.by_register.get(&register).into_iter().flatten() {
            let bound = matches!(self.grades.grade(event.index()), Some(Grade::Bound(_)));
            if !bound && component.bound.contains(event.class().name()) {
                let finding = Finding {
                    code: Reason::LogEventUnbound,
                    claim: format!("eventlog.event.{}", event.index()),
                    found: format!("{} in register {register}, opaque", event.class()),
                    expected: "text that its digest binds".to_owned(),
                    source: self.source(component, component.line),
                };
                self.out.findings.push(finding);
            }
        }
    }

    fn rules(&mut self, component: &'p Component, rules: &'p BTreeMap<u32, Rule>) {
        let mut fits = true;
        for (register, rule) in rules {
            fits &= self.grammar(component, *register, rule);
        }
        if component.variants.is_empty() {
            return;
        }
        let matched = |variant: &Variant| self.mismatches(component, variant);
        let revoked = component
            .variants
            .iter()
            .filter(|variant| matches!(variant.state, State::Revoked { .. }))
            .find(|variant| fits && matched(variant).is_empty());
        if let Some(variant) = revoked {
            let finding = literal::revoked(component, variant, self.profile);
            self.later.push((GRAMMAR, finding));
            return;
        }
        let nearest = component
            .variants
            .iter()
            .filter(|v| literal::in_force(component, v, self.given.candidates, self.given.now))
            .map(|variant| (variant, matched(variant)))
            .min_by_key(|(_, mismatches)| mismatches.len());
        match nearest {
            Some((variant, mismatches)) if mismatches.is_empty() => {
                if fits {
                    self.out.admitted.push((&component.name, &variant.name));
                    self.texts(component, variant);
                } else {
                    self.stanza(component, Some(variant));
                }
            }
            Some((variant, mismatches)) => {
                self.later.extend(mismatches.into_iter().map(|finding| (DIGEST, finding)));
                self.stanza(component, Some(variant));
            }
            None => {
                let finding = literal::none_in_force(component, self.profile);
                self.later.push((DIGEST, finding));
                self.stanza(component, None);
            }
        }
    }

    fn grammar(&mut self, component: &'p Component, register: u32, rule: &'p Rule) -> bool {
        let none = Vec::new();
        let events = self.by_register.get(&register).unwrap_or(&none);
        let classes: Vec<&str> = events.iter().map(|event| event.class().name()).collect();
        match rule.consume(&classes) {
            Ok(items) => {
                for (event, item) in events.iter().zip(items) {
                    let place = event.index().checked_sub(1);
                    let judged = place.and_then(|place| self.out.events.get_mut(place));
                    if let Some(judged) = judged {
                        judged.item = rule.items().get(item);
                        judged.component = Some(component);
                    }
                }
                true
            }
            Err(stuck) => {
                let (claim, found) = match events.get(stuck.at) {
                    Some(event) => {
                        (format!("eventlog.event.{}", event.index()), event.class().to_string())
                    }
                    None => (format!("eventlog.register.{register}"), "the end".to_owned()),
                };
                let expected = match stuck.expected.as_slice() {
                    [] => format!("no further event in register {register}"),
                    expected => format!("{} in register {register}", expected.join(" or ")),
                };
                let source = self.source(component, component.line);
                let code = Reason::EventUnexpected;
                self.later.push((GRAMMAR, Finding { code, claim, found, expected, source }));
                false
            }
        }
    }

    /// All events of a component whose digest the variant does not list.
    fn mismatches(&self, component: &Component, variant: &Variant) -> Vec<Finding> {
        let mut findings = Vec::new();
        for ((register, class), allowed) in &variant.sets {
            let of_class: Vec<&Event<'_>> = self
                .by_register
                .get(register)
                .into_iter()
                .flatten()
                .filter(|event| event.class().name() == class)
                .collect();
            let mut mismatch = |event: Option<&&Event<'_>>, expected: String| {
                let bank = self.deciding.first().copied();
                let found = match event {
                    None => "nothing more".to_owned(),
                    Some(event) => bank
                        .and_then(|bank| event.digest(bank))
                        .map_or_else(|| "no digest".to_owned(), |digest| digest.to_hex()),
                };
                let claim = match event {
                    Some(event) => format!("pcr.{register}.event.{}", event.index()),
                    None => format!("pcr.{register}"),
                };
                findings.push(Finding {
                    code: Reason::RegisterMismatch,
                    claim,
                    found,
                    expected,
                    source: literal::source(self.profile, component, variant),
                });
            };
            if allowed.set.ordered {
                for place in 0..of_class.len().max(allowed.set.rows.len()) {
                    let event = of_class.get(place);
                    let row = allowed.set.rows.get(place);
                    let equal = match (event, row) {
                        (Some(event), Some(row)) => {
                            row.matches(&|bank| event.digest(bank), &self.deciding)
                        }
                        _ => false,
                    };
                    if !equal {
                        let digest = row.and_then(|row| {
                            self.deciding.iter().find_map(|bank| row.digests.get(bank))
                        });
                        let expected = digest.map_or_else(
                            || format!("no further `{class}`"),
                            |digest| format!("{} ({})", digest.to_hex(), allowed.name),
                        );
                        mismatch(event, expected);
                    }
                }
            } else {
                for event in &of_class {
                    let digests = digests_of(event);
                    if allowed.set.rows_for(&digests, &self.deciding).next().is_none() {
                        mismatch(Some(event), format!("one of {}", allowed.name));
                    }
                }
            }
        }
        findings
    }

    /// Unbound text that is another than when the variant was learned: a warning.
    fn texts(&mut self, component: &Component, variant: &Variant) {
        for ((register, class), allowed) in &variant.sets {
            let events = self.by_register.get(register).into_iter().flatten();
            let of_class = events.filter(|event| event.class().name() == class);
            for (place, event) in of_class.enumerate() {
                if text_is_known(&allowed.set, place, event, &self.deciding) {
                    continue;
                }
                self.out.warnings.push(Finding {
                    code: Reason::EventTextUnknown,
                    claim: format!("eventlog.event.{}", event.index()),
                    found: hex::encode(crypto::sha256(event.data())),
                    expected: format!("the text that `{}` was learned with", variant.name),
                    source: literal::source(self.profile, component, variant),
                });
            }
        }
    }

    fn stanza(&mut self, component: &Component, variant: Option<&Variant>) {
        let none: Vec<Event<'_>> = Vec::new();
        let registers: Vec<(u32, &[Event<'_>])> = component
            .on
            .iter()
            .map(|register| (*register, self.by_register.get(register).unwrap_or(&none).as_slice()))
            .collect();
        let banks: Vec<HashAlgorithm> = self
            .profile
            .banks
            .iter()
            .copied()
            .filter(|b| self.replay.banks().contains(b))
            .collect();
        self.out.nearest.push(Nearest {
            component: component.name.clone(),
            variant: variant.map(|variant| variant.name.clone()),
            stanza: draft::admitting_stanza(component, &registers, &banks),
        });
    }

    fn select(&mut self, facts: &Facts) {
        for (claim, glob) in &self.profile.select.expect {
            let fits = match self.fact(facts, claim) {
                Some(Fact::Texts(texts)) => {
                    let fit = |text: &String| crate::reference::pattern::matches(glob, text);
                    (!texts.iter().all(fit)).then(|| texts.join(", "))
                }
                _ => Some("no bound value".to_owned()),
            };
            if let Some(found) = fits {
                let source = self.source_of_profile();
                let finding = Finding {
                    code: Reason::ProfileMismatch,
                    claim: claim.clone(),
                    found,
                    expected: glob.clone(),
                    source,
                };
                self.later.push((CONTENT, finding));
            }
        }
        for component in self.profile.overdue(self.given.now) {
            let Demand::Record { review_by, .. } = &component.demand else { continue };
            self.out.warnings.push(Finding {
                code: Reason::ProfileReviewDue,
                claim: format!("component.{}", component.name),
                found: self.given.now.to_string(),
                expected: format!("a review before {review_by}"),
                source: self.source(component, component.line),
            });
        }
    }

    fn finish(mut self, facts: Facts) -> Measured<'p> {
        self.later.sort_by_key(|(stage, _)| *stage);
        self.out.findings.extend(self.later.into_iter().map(|(_, finding)| finding));
        self.out.facts = facts;
        self.out
    }

    fn source(&self, component: &Component, line: usize) -> String {
        format!(
            "profile `{}`, serial {}, line {line} (component `{}`)",
            self.profile.id, self.profile.serial, component.name
        )
    }

    fn source_of_profile(&self) -> String {
        format!("profile `{}`, serial {}", self.profile.id, self.profile.serial)
    }
}

fn text_is_known(
    set: &DigestSet,
    place: usize,
    event: &Event<'_>,
    deciding: &[HashAlgorithm],
) -> bool {
    let hashed = std::cell::LazyCell::new(|| crypto::sha256(event.data()));
    let same = |row: &Row| row.text_sha256.is_none_or(|text| text == *hashed);
    if set.ordered {
        return set.rows.get(place).is_none_or(same);
    }
    let digests = digests_of(event);
    set.rows_for(&digests, deciding).any(same)
}

/// Read once for all the rows that they are held against.
fn digests_of(event: &Event<'_>) -> impl Fn(HashAlgorithm) -> Option<Digest> + use<> {
    let digests: Vec<Digest> = event.digests().collect();
    move |bank| digests.iter().find(|digest| digest.algorithm() == bank).copied()
}

/// The values that a log leads to by itself, for looking at it without a quote: worth nothing as
/// evidence, since nobody signed them.
pub fn unsigned_values(profile: &Profile, log: &Log<'_>) -> Registers {
    let replay = log.replay();
    let (first, last) = match profile.root {
        Root::Tpm2 => (0, 15),
        // No log leads to MRTD.
        Root::Tdx => (1, 4),
        Root::Snp => (0, 0),
    };
    let mut values = Registers::new();
    for bank in replay.banks() {
        for register in first..=last {
            // Each register of each bank is asked for once.
            let _ = replay.value(*bank, register).map(|value| values.insert(register, value));
        }
    }
    values
}
