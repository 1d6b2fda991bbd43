//! Packs of EK roots: whose word that a TPM is genuine is worth something, and for what kind of TPM.
//!
//! A pack is data that people review: `firmware-profiles/ek-roots/<pack>/<vendor>.toml`, each
//! certificate with its fingerprint, role, class and where it was found. The shipped packs are
//! built in. They say that a TPM is genuine, never that it is yours: whom to let in is asked
//! elsewhere.
//!
//! Nothing here reads a file or a clock, and nothing asks the network for a certificate.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use assay_evidence::certificate::Certificate;
use assay_evidence::certificate::CertificateError;
use assay_evidence::chain;
use assay_evidence::reason::Finding;
use assay_evidence::reason::Reason;
use assay_evidence::time::Time;
use assay_tpm::endorsement::Anchors;
use assay_tpm::endorsement::EkRoot;
use assay_tpm::endorsement::TpmClass;
use serde::Deserialize;
use serde::Serialize;
use toml::Spanned;

mod shipped;

/// A named set of roots, and of intermediates that help to find a path to them.
#[derive(Debug, Clone)]
pub struct Pack {
    name: String,
    entries: Vec<Entry>,
}

/// One certificate of a pack, and what is said of it.
#[derive(Debug, Clone)]
pub struct Entry {
    pub certificate: Certificate,
    pub role: Role,
    /// What kind of TPM the root vouches for; an intermediate has its root's.
    pub class: TpmClass,
    /// The vendor's short name, such as `IFX`.
    pub vendor: String,
    /// The subject for people to read; what counts is in the certificate.
    pub subject: String,
    pub provenance: Provenance,
    pub note: Option<String>,
    /// Where the entry stands: `vendors/amd.toml:12`.
    pub place: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A trust anchor: its name and key, not its dates.
    Root,
    /// Never trusted by itself.
    Intermediate,
}

/// Where a certificate was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Provenance {
    pub repository: String,
    pub commit: String,
    pub path: String,
    /// Licence of the repository.
    pub licence: String,
    /// Where the vendor publishes it, as far as the repository says.
    pub published: Option<String>,
}

/// How an entry fares at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Life {
    Valid,
    /// Ends within [`SOON`].
    EndsSoon,
    Ended,
    NotYet,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    #[error("{file}: {fault}")]
    Syntax { file: String, fault: String },
    #[error("{file}: `{key}` is `{found}`, expected {expected}")]
    Value { file: String, key: &'static str, found: String, expected: String },
    #[error("{place}: not one certificate")]
    Certificate { place: String, source: Option<CertificateError> },
    #[error("{place}: the certificate's SHA-256 is `{found}`, stated `{stated}`")]
    Fingerprint { place: String, stated: String, found: String },
    #[error("{place}: the certificate is valid {found}, stated {stated}")]
    Dates { place: String, stated: String, found: String },
    #[error("{place}: the source `{found}` is not described in the file")]
    Source { place: String, found: String },
    #[error("{place}: the same {what} as {other}")]
    Duplicate { place: String, what: &'static str, other: String },
}

/// An entry that does not fit into its pack.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misfit {
    #[error("verifies up to no root of the pack")]
    NoPath,
    #[error("is `{stated}`, its root is `{root}`")]
    Class { stated: TpmClass, root: TpmClass },
    #[error("is no CA certificate")]
    NotCa,
}

/// A shipped pack by its name.
pub fn named(name: &str) -> Option<&'static Pack> {
    shipped().iter().find(|pack| pack.name == name)
}

/// All shipped packs: current hierarchies of vendors first. Offline, where nobody is let in, all of
/// them count; a server names those that it means.
pub fn shipped() -> &'static [Pack] {
    // INVARIANT: the shipped files parse; `every_shipped_pack_is_whole` below holds it. Should one
    // not, it is as if it were not there: fewer anchors, never more.
    static PACKS: LazyLock<Vec<Pack>> = LazyLock::new(|| {
        let parse = |(name, files): &(&str, &[(&str, &str)])| Pack::parse(name, files).ok();
        shipped::PACKS.iter().filter_map(parse).collect()
    });
    &PACKS
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PackSyntax {
    schema: String,
    pack: String,
    vendor: String,
    source: Vec<SourceSyntax>,
    certificate: Vec<Spanned<EntrySyntax>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceSyntax {
    name: String,
    repository: String,
    commit: String,
    licence: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntrySyntax {
    subject: String,
    role: Role,
    class: TpmClass,
    sha256: String,
    not_before: String,
    not_after: String,
    source: String,
    path: String,
    published: Option<String>,
    note: Option<String>,
    pem: String,
}

impl Pack {
    /// Reads the files of one pack, each as (name, text). Every fingerprint and date that is stated
    /// must be the certificate's own.
    pub fn parse(name: &str, files: &[(&str, &str)]) -> Result<Pack, PackError> {
        let mut pack = Pack { name: name.to_owned(), entries: Vec::new() };
        for (file, text) in files {
            let (stated, entries) = parse_file(file, text)?;
            if stated != name {
                let (file, expected) = ((*file).to_owned(), format!("`{name}`"));
                return Err(PackError::Value { file, key: "pack", found: stated, expected });
            }
            pack.entries.extend(entries);
        }
        pack.refuse_duplicates()?;
        Ok(pack)
    }

    /// Reads files of several packs, each file saying which it belongs to.
    pub fn parse_all(
        files: impl IntoIterator<Item = (impl AsRef<str>, impl AsRef<str>)>,
    ) -> Result<Vec<Pack>, PackError> {
        let mut packs: Vec<Pack> = Vec::new();
        for (file, text) in files {
            let (name, entries) = parse_file(file.as_ref(), text.as_ref())?;
            match packs.iter_mut().find(|pack| pack.name == name) {
                Some(pack) => pack.entries.extend(entries),
                None => packs.push(Pack { name, entries }),
            }
        }
        packs.iter().try_for_each(Pack::refuse_duplicates)?;
        Ok(packs)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// False for the pack of a cloud that certifies attestation keys alone.
    pub fn is_of_endorsement_keys(&self) -> bool {
        self.name != "cloud-azure"
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub fn roots(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.role == Role::Root)
    }

    pub fn intermediates(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.role == Role::Intermediate)
    }

    /// What EK certificates are held against.
    pub fn anchors(&self) -> Anchors {
        Anchors::new(self.ek_roots().collect(), self.intermediate_certificates().collect())
    }

    pub fn ek_roots(&self) -> impl Iterator<Item = EkRoot> {
        self.roots().map(|root| EkRoot { certificate: root.certificate.clone(), class: root.class })
    }

    pub fn intermediate_certificates(&self) -> impl Iterator<Item = Certificate> {
        self.intermediates().map(|entry| entry.certificate.clone())
    }

    /// The root that an intermediate verifies up to, at some time at which all above it were valid.
    pub fn root_of(&self, entry: &Entry) -> Option<&Entry> {
        let roots: Vec<_> = self.roots().collect();
        let anchors: Vec<_> = roots.iter().map(|root| root.certificate.clone()).collect();
        let intermediates: Vec<_> = self.intermediate_certificates().collect();
        let began = intermediates.iter().map(Certificate::not_before);
        let times = std::iter::once(entry.certificate.not_before())
            .chain(began.filter(|time| *time > entry.certificate.not_before()));
        let tried: BTreeSet<Time> = times.collect();
        tried.into_iter().find_map(|time| {
            let path = chain::verify(&entry.certificate, &intermediates, &anchors, time).ok()?;
            roots.get(path.root()).copied()
        })
    }

    /// The entries that do not fit, each with the reason; none in a pack that is whole.
    pub fn misfits(&self) -> Vec<(&Entry, Misfit)> {
        let judge = |entry: &Entry| -> Option<Misfit> {
            if entry.role == Role::Root {
                return None;
            }
            if !entry.certificate.extensions().is_ca {
                return Some(Misfit::NotCa);
            }
            let Some(root) = self.root_of(entry) else { return Some(Misfit::NoPath) };
            (root.class != entry.class)
                .then_some(Misfit::Class { stated: entry.class, root: root.class })
        };
        self.entries.iter().filter_map(|entry| Some((entry, judge(entry)?))).collect()
    }

    /// One certificate twice is a slip; so are two roots of one name and key, which are one anchor.
    fn refuse_duplicates(&self) -> Result<(), PackError> {
        let duplicate = |entry: &Entry, what, other: &Entry| PackError::Duplicate {
            place: entry.place.clone(),
            what,
            other: other.place.clone(),
        };
        for (index, entry) in self.entries.iter().enumerate() {
            for other in self.entries.iter().take(index) {
                let (one, two) = (&entry.certificate, &other.certificate);
                if one == two {
                    return Err(duplicate(entry, "certificate", other));
                }
                let anchors = entry.role == Role::Root && other.role == Role::Root;
                let same = chain::same_name(one.subject(), two.subject());
                if anchors && same && one.spki_der() == two.spki_der() {
                    return Err(duplicate(entry, "name and key", other));
                }
            }
        }
        Ok(())
    }
}

impl Entry {
    pub fn sha256(&self) -> [u8; 32] {
        self.certificate.sha256()
    }

    pub fn life(&self, now: Time) -> Life {
        let (from, to) = (self.certificate.not_before(), self.certificate.not_after());
        match () {
            () if now < from => Life::NotYet,
            () if now > to => Life::Ended,
            () if to.since(now) < SOON => Life::EndsSoon,
            () => Life::Valid,
        }
    }
}

impl Role {
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Root => "root",
            Role::Intermediate => "intermediate",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Life {
    pub const fn as_str(self) -> &'static str {
        match self {
            Life::Valid => "valid",
            Life::EndsSoon => "ends-soon",
            Life::Ended => "ended",
            Life::NotYet => "not-yet",
        }
    }
}

impl PackError {
    pub fn finding(&self) -> Finding {
        let (found, expected) = match self {
            PackError::Fingerprint { stated, found, .. }
            | PackError::Dates { stated, found, .. } => (found.clone(), stated.clone()),
            PackError::Value { found, expected, .. } => (found.clone(), expected.clone()),
            other => (other.to_string(), "a pack as its page describes it".to_owned()),
        };
        Finding::new(Reason::EkRootsMalformed, "ek_roots", found, expected, self.place())
    }

    fn place(&self) -> &str {
        match self {
            PackError::Syntax { file, .. } | PackError::Value { file, .. } => file,
            PackError::Certificate { place, .. }
            | PackError::Fingerprint { place, .. }
            | PackError::Dates { place, .. }
            | PackError::Source { place, .. }
            | PackError::Duplicate { place, .. } => place,
        }
    }
}

impl Misfit {
    pub fn finding(&self, entry: &Entry) -> Finding {
        let (code, expected) = match self {
            Misfit::NoPath => (Reason::EkChainUntrusted, "a path to a root of the pack"),
            Misfit::Class { .. } => (Reason::EkRootsMalformed, "the class of its root"),
            Misfit::NotCa => (Reason::EkChainInvalid, "a CA certificate"),
        };
        let found = format!("`{}` {self}", entry.subject);
        Finding::new(code, "ek_roots", found, expected, entry.place.as_str())
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Reads one file: the name of its pack, and its entries. Its vendor holds for all of it, and so do
/// the sources that it describes.
fn parse_file(file: &str, text: &str) -> Result<(String, Vec<Entry>), PackError> {
    let syntax: PackSyntax = toml::from_str(text).map_err(|error| PackError::Syntax {
        file: file.to_owned(),
        fault: error.to_string().trim_end().to_owned(),
    })?;
    let value = |key, found: &str, expected: &str| PackError::Value {
        file: file.to_owned(),
        key,
        found: found.to_owned(),
        expected: expected.to_owned(),
    };
    if syntax.schema != SCHEMA {
        return Err(value("schema", &syntax.schema, SCHEMA));
    }
    if syntax.pack.is_empty() {
        return Err(value("pack", "", "the name of the pack"));
    }
    if syntax.vendor.is_empty() {
        return Err(value("vendor", "", "a short name, such as `IFX`"));
    }
    if syntax.certificate.len() > MAX_ENTRIES {
        let found = syntax.certificate.len().to_string();
        return Err(value("certificate", &found, "at most 1024"));
    }
    let entry = |spanned: Spanned<EntrySyntax>| {
        let before = text.bytes().take(spanned.span().start);
        let line = 1 + before.filter(|byte| *byte == b'\n').count();
        let place = format!("{file}:{line}");
        spanned.into_inner().judged(&syntax.vendor, &syntax.source, place)
    };
    let entries = syntax.certificate.into_iter().map(entry).collect::<Result<_, _>>()?;
    Ok((syntax.pack, entries))
}

impl EntrySyntax {
    fn judged(
        self,
        vendor: &str,
        sources: &[SourceSyntax],
        place: String,
    ) -> Result<Entry, PackError> {
        let unreadable =
            |source| PackError::Certificate { place: place.clone(), source: Some(source) };
        let found = Certificate::parse_set(self.pem.as_bytes()).map_err(unreadable)?;
        let [certificate] = found.as_slice() else {
            return Err(PackError::Certificate { place, source: None });
        };
        let sha256 = hex::encode(certificate.sha256());
        if sha256 != self.sha256 {
            return Err(PackError::Fingerprint { place, stated: self.sha256, found: sha256 });
        }
        let dates = |from: &str, to: &str| format!("from {from} to {to}");
        let stated = (Time::parse_rfc3339(&self.not_before), Time::parse_rfc3339(&self.not_after));
        let (from, to) = (certificate.not_before(), certificate.not_after());
        if !matches!(stated, (Ok(f), Ok(t)) if f == from && t == to) {
            let stated = dates(&self.not_before, &self.not_after);
            let found = dates(&from.to_string(), &to.to_string());
            return Err(PackError::Dates { place, stated, found });
        }
        let Some(source) = sources.iter().find(|source| source.name == self.source) else {
            return Err(PackError::Source { place, found: self.source });
        };
        Ok(Entry {
            certificate: certificate.clone(),
            role: self.role,
            class: self.class,
            vendor: vendor.to_owned(),
            subject: self.subject,
            provenance: Provenance {
                repository: source.repository.clone(),
                commit: source.commit.clone(),
                path: self.path,
                licence: source.licence.clone(),
                published: self.published,
            },
            note: self.note,
            place,
        })
    }
}

pub const SCHEMA: &str = "ek-roots/1";
/// How long before its end a certificate is talked about.
pub const SOON: Duration = Duration::from_secs(180 * 86_400);
/// More than any vendor has; duplicates are looked for pair by pair.
const MAX_ENTRIES: usize = 1_024;

#[cfg(test)]
mod tests;
