//! `[[keys.ek_root]]` and `[[nodes.ek_root]]`: whom TPMs come from, by a shipped pack or by files;
//! and `[[nodes.ak_root]]`, the same of attestation keys: a role of its own, a list of its own.
//!
//! A root says that a TPM is genuine. That any genuine TPM is let in is said by `admit = true`, and
//! for the roots of vendors only with a switch that carries `danger` in its name: anybody can buy a
//! genuine TPM, reset it and extend what he likes. A vendor's root is one by its name and key,
//! whether it comes from a pack or from a file.

use std::collections::BTreeSet;
use std::path::PathBuf;

use assay_evidence::certificate::Certificate;
use assay_evidence::chain;
use assay_tpm::AkAnchors;
use assay_tpm::endorsement::Anchors;
use assay_tpm::endorsement::EkRoot;
use assay_tpm::endorsement::TpmClass;
use serde::Deserialize;
use toml::Spanned;

use super::ConfigError;
use super::Reader;
use super::certificates;
use crate::reference::ek_roots;
use crate::reference::ek_roots::Pack;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EkRootSyntax {
    pack: Option<String>,
    path: Option<PathBuf>,
    intermediates: Option<PathBuf>,
    /// With `path`; a pack says it for each of its roots.
    class: Option<TpmClass>,
    #[serde(default)]
    admit: bool,
}

/// All roots of one list.
pub(super) struct EkRoots {
    roots: Vec<EkRoot>,
    intermediates: Vec<Certificate>,
    /// SHA-256 of those whose EKs are welcome at sight.
    pub admitted: BTreeSet<[u8; 32]>,
    /// The first of those that is a vendor's: the list, its line, the vendor.
    vendor_admitted: Option<(&'static str, usize, String)>,
}

impl EkRoots {
    pub(super) fn judged(
        key: &'static str,
        listed: Vec<Spanned<EkRootSyntax>>,
        reader: &Reader<'_>,
    ) -> Result<Self, ConfigError> {
        let (mut roots, mut shipped, mut intermediates) = (Vec::new(), Vec::new(), Vec::new());
        let mut admitted = BTreeSet::new();
        let mut vendor_admitted = None;
        for root in listed {
            let line = reader.line(root.span().start);
            let root = root.into_inner();
            let pinned = root.pinned(key, line, reader)?;
            if root.admit {
                for EkRoot { certificate, .. } in &pinned {
                    admitted.insert(certificate.sha256());
                    let vendor = vendor_of(certificate);
                    let vendor = vendor.map(|vendor| (key, line, vendor.to_owned()));
                    vendor_admitted = vendor_admitted.or(vendor);
                }
            }
            match root.pack.as_deref().and_then(ek_roots::named) {
                Some(pack) => {
                    shipped.extend(pinned);
                    intermediates.extend(pack.intermediate_certificates());
                }
                None => roots.extend(pinned),
            }
            if let Some(path) = &root.intermediates {
                intermediates.extend(certificates(&reader.folder.join(path))?);
            }
        }
        // What the operator says of a root wins over what a pack says of it.
        roots.append(&mut shipped);
        Ok(Self { roots, intermediates, admitted, vendor_admitted })
    }

    /// The roots of vendors are let in by the switch, and the switch is there for nothing else.
    pub(super) fn demand_danger(lists: &[&Self], switch: bool) -> Result<(), ConfigError> {
        match (lists.iter().find_map(|list| list.vendor_admitted.clone()), switch) {
            (Some((key, line, vendor)), false) => {
                Err(ConfigError::VendorRootAdmitted { key, line, vendor })
            }
            (None, true) => Err(ConfigError::NeedlessAdmitDanger),
            _ => Ok(()),
        }
    }

    /// For certificates of endorsement keys.
    pub(super) fn anchors(self) -> Anchors {
        Anchors::new(self.roots, self.intermediates)
    }

    /// For certificates of attestation keys.
    pub(super) fn ak_anchors(self) -> AkAnchors {
        let pair = |root: EkRoot| (root.certificate, root.class);
        AkAnchors::new(self.roots.into_iter().map(pair).collect(), self.intermediates)
    }
}

impl EkRootSyntax {
    fn pinned(
        &self,
        key: &'static str,
        line: usize,
        reader: &Reader<'_>,
    ) -> Result<Vec<EkRoot>, ConfigError> {
        let fault = |fault: String| ConfigError::EkRoot { key, line, fault };
        match (&self.pack, &self.path, self.class) {
            (Some(name), None, None) => match ek_roots::named(name) {
                Some(pack) => Ok(pack.ek_roots().collect()),
                None => {
                    let known: Vec<_> = ek_roots::shipped().iter().map(Pack::name).collect();
                    let known = known.join(", ");
                    Err(fault(format!("`pack` is `{name}`, expected one of {known}")))
                }
            },
            (None, Some(path), Some(class)) => {
                let found = certificates(&reader.folder.join(path))?;
                let root = |certificate| EkRoot { certificate, class };
                Ok(found.into_iter().map(root).collect())
            }
            (None, Some(_), None) => Err(fault(
                "`path` needs `class`: discrete, firmware, pluton, vtpm or software".to_owned(),
            )),
            (Some(_), None, Some(_)) => Err(fault(
                "`class` goes with `path`; a pack says the class of each of its roots".to_owned(),
            )),
            (Some(_), Some(_), _) => Err(fault("either `pack` or `path`, found both".to_owned())),
            (None, None, _) => Err(fault("`pack` or `path` is missing".to_owned())),
        }
    }
}

/// The vendor of a root that ships, wherever the certificate at hand comes from.
fn vendor_of(certificate: &Certificate) -> Option<&'static str> {
    let same = |known: &Certificate| {
        chain::same_name(known.subject(), certificate.subject())
            && known.spki_der() == certificate.spki_der()
    };
    let mut known = ek_roots::shipped().iter().flat_map(Pack::entries);
    known.find(|entry| same(&entry.certificate)).map(|entry| entry.vendor.as_str())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::path::Path;

    use super::super::Config;
    use super::super::Nodes;
    use super::*;

    const SERVER: &str = "trust_domain = \"example.org\"\ndata_dir = \"state\"\n[keys]\n\
        custody = \"software\"\ndanger_software_keys = true\n[nodes]\n\
        profile = \"profile.toml\"\n";
    const PROFILE: &str = "schema = \"firmware-profile/1\"\nid = \"p\"\nserial = 1\n\
        root = \"tpm2\"\nbanks = [\"sha256\"]\n[[component]]\nname = \"f\"\non = [0]\n\
        [[component.variant]]\nname = \"1\"\nstate = \"active\"\n\
        pcr = { sha256 = { \"0\" = \"00000000000000000000000000000000000000000000000000000000000\
        00000\" } }\n";

    fn loaded(more: &str) -> Result<Nodes, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &[u8]| fs::write(folder.path().join(name), text).unwrap();
        write("profile.toml", PROFILE.as_bytes());
        let vendor = ek_roots::named("vendors").unwrap().roots().next().unwrap();
        write("vendor.der", vendor.certificate.der());
        write("server.toml", format!("{SERVER}{more}").as_bytes());
        Config::load(Path::new(&folder.path().join("server.toml"))).map(|config| config.nodes)
    }

    fn refused(more: &str) -> String {
        loaded(more).unwrap_err().to_string()
    }

    #[test]
    fn a_pack_gives_all_its_roots_and_lets_none_in() {
        let nodes = loaded("[[nodes.ek_root]]\npack = \"vendors\"\n").unwrap();
        assert!(!nodes.anchors.is_empty() && nodes.admit_roots.is_empty());
        let both = "[[nodes.ek_root]]\npack = \"vendors\"\n[[nodes.ek_root]]\npath = \
            \"vendor.der\"\nclass = \"firmware\"\n";
        assert!(loaded(both).is_ok());
    }

    #[test]
    fn a_vendors_root_lets_nobody_in_without_the_danger_switch() {
        let pack = "[[nodes.ek_root]]\npack = \"vendors\"\nadmit = true\n";
        let told = refused(pack);
        assert!(told.contains("line 8") && told.contains("danger_admit_vendor_roots"), "{told}");
        // The same root out of a file is the same root.
        let file = "[[nodes.ek_root]]\npath = \"vendor.der\"\nclass = \"firmware\"\n\
            admit = true\n";
        assert!(refused(file).contains("danger_admit_vendor_roots"));
        for roots in [pack, file] {
            let nodes = loaded(&format!("danger_admit_vendor_roots = true\n{roots}")).unwrap();
            assert!(nodes.danger_admit_vendor_roots && !nodes.admit_roots.is_empty());
        }
    }

    #[test]
    fn a_danger_switch_without_danger_is_refused() {
        let idle = "danger_admit_vendor_roots = true\n[[nodes.ek_root]]\npack = \"vendors\"\n";
        assert!(refused(idle).contains("found none"));
    }

    #[test]
    fn a_root_that_says_too_little_or_too_much_is_named_with_its_line() {
        let root = |keys: &str| refused(&format!("[[nodes.ek_root]]\n{keys}\n"));
        for (keys, word) in [
            ("pack = \"vendor\"", "legacy-sha1"),
            ("pack = \"vendors\"\nclass = \"discrete\"", "`class` goes with `path`"),
            ("pack = \"vendors\"\npath = \"vendor.der\"", "found both"),
            ("path = \"vendor.der\"", "needs `class`"),
            ("admit = true", "is missing"),
        ] {
            let told = root(keys);
            assert!(told.contains("`nodes.ek_root`, line 8") && told.contains(word), "{told}");
        }
    }

    #[test]
    fn what_the_operator_says_of_a_root_wins_over_the_pack() {
        let class = |first: &str, second: &str| {
            let text = format!("[[nodes.ek_root]]\n{first}\n[[nodes.ek_root]]\n{second}\n");
            format!("{:?}", loaded(&text).unwrap().anchors)
        };
        let (pack, file) = ("pack = \"vendors\"", "path = \"vendor.der\"\nclass = \"vtpm\"");
        assert_eq!(class(pack, file), class(file, pack));
    }
}
