//! The zoo of odd endorsement certificates as cases: what is given, and what must come out.

#![allow(dead_code)]

use std::path::Path;
use std::path::PathBuf;

use assay_evidence::Certificate;
use assay_evidence::Finding;
use assay_evidence::Reason;
use assay_evidence::RevocationList;
use assay_evidence::Time;
use assay_evidence::chain::Lists;
use assay_evidence::chain::Rules;
use assay_tpm::Anchors;
use assay_tpm::EkRoot;
use assay_tpm::Error;
use assay_tpm::TpmClass;
use assay_tpm::endorsement;
use assay_tpm::endorsement::EndorsementCertificate;

/// The time at which the zoo is judged.
pub fn now() -> Time {
    Time::parse_rfc3339("2026-06-01T00:00:00Z").unwrap()
}

pub struct Case {
    pub name: String,
    /// `genuine`, with the code of a warning behind if there is one, or the code of the fault.
    pub expected: String,
    pub file: Vec<u8>,
    pub issuers: Vec<Certificate>,
    pub root: Certificate,
    pub lists: Vec<RevocationList>,
}

impl Case {
    pub fn verify(&self, file: &[u8]) -> Result<EndorsementCertificate, Vec<Error>> {
        let root = EkRoot { certificate: self.root.clone(), class: TpmClass::Discrete };
        let anchors = Anchors::new(vec![root], self.issuers.clone());
        let lists = if self.lists.is_empty() { Lists::None } else { Lists::Given(&self.lists) };
        let rules = Rules { lists, ..Rules::at(now()) };
        endorsement::verify_file(&rules, file, None, &[], &anchors)
    }

    /// In the words of `expected`.
    pub fn outcome(&self) -> String {
        let codes = |findings: Vec<Finding>| {
            findings.iter().map(|finding| format!(" {}", finding.code)).collect::<String>()
        };
        match self.verify(&self.file) {
            Ok(genuine) => format!("genuine{}", codes(genuine.warnings())),
            Err(faults) => faults[0].reason().to_string(),
        }
    }

    pub fn is_genuine(&self) -> bool {
        self.expected.starts_with("genuine")
    }

    pub fn reason(&self) -> Option<Reason> {
        self.expected.parse().ok()
    }
}

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/zoo")
}

pub fn cases() -> Vec<Case> {
    let folder = folder();
    let read = |name: &str| std::fs::read(folder.join(name)).ok();
    let certificate = |bytes: Vec<u8>| Certificate::parse(&bytes).unwrap();
    let table = String::from_utf8(read("cases.tsv").unwrap()).unwrap();
    let case = |line: &str| {
        let mut fields = line.split('\t');
        let (name, expected) = (fields.next().unwrap(), fields.next().unwrap());
        let own: Vec<_> = (1..)
            .map_while(|number| read(&format!("{name}.issuer-{number}")))
            .map(certificate)
            .collect();
        Case {
            name: name.into(),
            expected: expected.into(),
            file: read(&format!("{name}.ek")).unwrap(),
            issuers: match own.as_slice() {
                [] => vec![certificate(read("issuer.der").unwrap())],
                _ => own,
            },
            root: certificate(read(&format!("{name}.root")).or_else(|| read("root.der")).unwrap()),
            lists: read(&format!("{name}.crl"))
                .map(|list| RevocationList::parse(&list).unwrap())
                .into_iter()
                .collect(),
        }
    };
    table.lines().filter(|line| !line.starts_with('#')).map(case).collect()
}
