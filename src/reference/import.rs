//! Reference values that somebody else wrote, as a draft of our own: a profile, or sets alone.
//!
//! | module | reads |
//! |---|---|
//! | [`pcrlock`] | systemd-pcrlock components and logs (CEL-JSON) |
//! | [`keylime`] | Keylime's measured-boot reference state, runtime policy and allow list |
//! | [`super::corim`] | CoRIM |
//!
//! What came is somebody's word until a person has read the draft and signed it; `origin` says
//! where it is from. What a format says and a draft cannot is listed, never dropped in silence.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Write;

use assay_evidence::digest::Digest;
use assay_evidence::digest::HashAlgorithm;

use crate::reference::draft;
use crate::reference::draft::quoted;
use crate::reference::profile;
use crate::reference::profile::Root;
use crate::reference::set;
use crate::reference::set::DigestSet;

pub(super) mod json;
pub mod keylime;
pub mod pcrlock;

/// The first words of what is written here: a file that begins so may be written over.
pub const DRAFT: &str = "# Imported from ";

/// Faults that leave nothing to import.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    #[error("no JSON: {0}")]
    Json(String),
    #[error("`{at}` is {found}, expected {expected}")]
    Value { at: String, found: String, expected: &'static str },
    #[error("{found} {what}, expected at most {max}")]
    TooMany { what: &'static str, found: usize, max: usize },
    #[error("nothing in it can be imported{}", because(.told))]
    Nothing { told: Vec<String> },
    #[error("bank {0}: registers cannot be computed with it")]
    Bank(HashAlgorithm),
    #[error("malformed: {0}")]
    Malformed(String),
    #[error("the signature: {0}")]
    Signature(String),
}

/// A draft, not yet text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    pub root: Root,
    /// As the draft's `origin` has it: `imported: …`.
    pub origin: String,
    pub banks: Vec<HashAlgorithm>,
    pub quirks: BTreeSet<String>,
    pub components: Vec<Component>,
    /// Digests by the name of their set.
    pub digests: BTreeMap<String, DigestSet>,
    /// Words by the name of their set.
    pub words: BTreeMap<String, BTreeSet<String>>,
    /// Sets of files that may be measured.
    pub files: Vec<String>,
    /// What was there and is not in the draft.
    pub not_imported: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Component {
    pub name: String,
    pub on: Vec<u32>,
    /// Without a rule the variants are literals, or there are none and `require` reads.
    pub rules: BTreeMap<u32, String>,
    /// Lines of TOML, each one test.
    pub require: Vec<String>,
    pub variants: Vec<Variant>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variant {
    pub name: String,
    pub literals: BTreeMap<HashAlgorithm, BTreeMap<u32, Digest>>,
    pub sets: BTreeMap<(u32, String), DigestSet>,
}

impl Imported {
    pub(super) fn new(root: Root, origin: String) -> Self {
        Self {
            root,
            origin,
            banks: Vec::new(),
            quirks: BTreeSet::new(),
            components: Vec::new(),
            digests: BTreeMap::new(),
            words: BTreeMap::new(),
            files: Vec::new(),
            not_imported: Vec::new(),
        }
    }

    /// Whether it is a profile; otherwise it is sets alone.
    pub fn is_profile(&self) -> bool {
        !self.components.is_empty()
    }

    /// The draft as `profile.toml`, its sets inside.
    pub fn profile(&self, id: &str) -> String {
        let mut text = self.head();
        let banks: Vec<String> = self.banks.iter().map(|bank| quoted(bank.name())).collect();
        let quirks: Vec<String> = self.quirks.iter().map(|quirk| quoted(quirk)).collect();
        let _ = write!(
            text,
            "schema = \"{}\"\nid = {}\nserial = 1\nroot = \"{}\"\nbanks = [{}]\n\
             quirks = [{}]\n\n[select]\nby = \"enrolment\"\n",
            profile::SCHEMA,
            quoted(id),
            self.root.name(),
            banks.join(", "),
            quirks.join(", ")
        );
        for component in &self.components {
            self.component(component, &mut text);
        }
        if !self.files.is_empty() {
            let sets: Vec<String> =
                self.files.iter().map(|name| quoted(&format!("@set:{name}"))).collect();
            let _ = write!(text, "\n[ima]\nallow = [{}]\n", sets.join(", "));
        }
        for (name, body) in self.set_bodies() {
            let _ = write!(text, "\n[[set]]\nname = {}\n{body}", quoted(&name));
        }
        text
    }

    /// Each set as a file of `sets/`: its name and its text.
    pub fn sets(&self) -> Vec<(String, String)> {
        let file = |(name, body): (String, String)| {
            let head = self.head();
            let text = format!(
                "{head}schema = \"{}\"\nname = {}\nserial = 1\nissuer = {}\n{body}",
                set::SCHEMA,
                quoted(&name),
                quoted(&self.origin)
            );
            (name, text)
        };
        self.set_bodies().into_iter().map(file).collect()
    }

    /// Where it is from, and what is not in it, for the one who reads and signs.
    fn head(&self) -> String {
        let line = |text: &str| text.replace(|c: char| c.is_control(), " ");
        let origin = self.origin.strip_prefix("imported: ").unwrap_or(&self.origin);
        let mut text = format!("{DRAFT}{}\n", line(origin));
        for told in &self.not_imported {
            let _ = writeln!(text, "# not imported: {}", line(told));
        }
        text.push('\n');
        text
    }

    fn component(&self, component: &Component, text: &mut String) {
        let on: Vec<String> = component.on.iter().map(ToString::to_string).collect();
        let _ = write!(
            text,
            "\n[[component]]\nname = {}\non = [{}]\n",
            quoted(&component.name),
            on.join(", ")
        );
        if !component.rules.is_empty() {
            let rules: Vec<String> = component
                .rules
                .iter()
                .map(|(register, rule)| format!("\"{register}\" = {}", quoted(rule)))
                .collect();
            let _ = writeln!(text, "rule = {{ {} }}", rules.join(", "));
        }
        if !component.require.is_empty() {
            let _ = writeln!(text, "require = [\n    {},\n]", component.require.join(",\n    "));
        }
        for variant in &component.variants {
            let _ = write!(
                text,
                "[[component.variant]]\nname = {}\nstate = \"active\"\norigin = {}\n",
                quoted(&variant.name),
                quoted(&self.origin)
            );
            self.variant(variant, text);
        }
    }

    fn variant(&self, variant: &Variant, text: &mut String) {
        let mut banks = Vec::new();
        for (bank, registers) in &variant.literals {
            let values: Vec<String> = registers
                .iter()
                .map(|(register, value)| format!("\"{register}\" = \"{}\"", value.to_hex()))
                .collect();
            banks.push(format!("{bank} = {{ {} }}", values.join(", ")));
        }
        if !banks.is_empty() {
            let _ = writeln!(text, "pcr = {{ {} }}", banks.join(", "));
        }
        let classes: BTreeSet<&str> =
            variant.sets.keys().map(|(_, class)| class.as_str()).collect();
        for class in classes {
            let of_class = variant.sets.iter().filter(|((_, name), _)| name == class);
            let sets: Vec<String> = of_class
                .map(|((register, _), set)| {
                    format!("\"{register}\" = {}", draft::inline(set, &self.banks))
                })
                .collect();
            let _ = writeln!(text, "{class} = {{ {} }}", sets.join(", "));
        }
    }

    /// Name and values of each set. A row has to be there in every bank that its set names.
    fn set_bodies(&self) -> Vec<(String, String)> {
        let digests = self.digests.iter().map(|(name, set)| {
            let full =
                |bank: &HashAlgorithm| set.rows.iter().all(|row| row.digests.contains_key(bank));
            let banks: Vec<HashAlgorithm> = DECIDING.into_iter().filter(full).collect();
            (name.clone(), draft::write_columns(set, &banks))
        });
        let words = self.words.iter().map(|(name, words)| {
            let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
            (name.clone(), format!("words = {}\n", draft::list(&words)))
        });
        digests.chain(words).collect()
    }
}

/// Banks that may decide, the strongest last.
pub(super) const DECIDING: [HashAlgorithm; 3] =
    [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512];

/// A name out of somebody's text, as sets and files may have it.
pub(super) fn name_of(text: &str) -> String {
    let plain = |c: char| match c {
        c if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') => c,
        _ => '-',
    };
    let name: String = text.chars().take(MAX_NAME).map(plain).collect();
    if name.is_empty() { "unnamed".to_owned() } else { name }
}

fn because(told: &[String]) -> String {
    match told.first() {
        Some(first) => format!(": {first}"),
        None => String::new(),
    }
}

const MAX_NAME: usize = 96;
