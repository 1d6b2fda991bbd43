//! What a replay tells beside register values: the first few of each kind, and a count.
//!
//! It judges nothing: whether a violation refuses is the policy's business, and a digest column
//! that is wrong never does.

use assay_evidence::Finding;
use assay_evidence::Reason;
use serde::Serialize;

use crate::ima::entry;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Place in the whole list, from 0.
    pub index: u64,
    /// Bound by nothing.
    pub claimed_path: String,
}

/// What is told of the new entries beside their number.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    mismatches: Capped<u64>,
    violations: Capped<Violation>,
}

impl Seen {
    pub(super) fn mismatch(&mut self, index: u64) {
        self.mismatches.push(|| index);
    }

    pub(super) fn violation(&mut self, index: u64, claimed_path: &[u8]) {
        self.violations.push(|| Violation { index, claimed_path: entry::shown(claimed_path) });
    }

    pub(super) fn violations(&self) -> &[Violation] {
        &self.violations.kept
    }

    pub(super) fn warnings(&self) -> Vec<Finding> {
        self.mismatches.findings(|index| {
            Finding::new(
                Reason::ImaTemplateHashMismatch,
                format!("ima.entry.{index}.template_digest"),
                "a column that is not the hash of the entry",
                "the hash of the entry",
                "Linux, security/integrity/ima, template digest",
            )
        })
    }

    pub(super) fn violation_findings(&self) -> Vec<Finding> {
        self.violations.findings(|violation| {
            Finding::new(
                Reason::ImaViolation,
                format!("ima.entry.{}.violation", violation.index),
                format!("claimed path `{}`", violation.claimed_path),
                "a file that does not change while it is measured",
                "Linux, security/integrity/ima/ima_main.c, ima_rdwr_violation_check",
            )
        })
    }
}

/// The first few of something, and how many there were.
#[derive(Clone, Debug)]
struct Capped<T> {
    kept: Vec<T>,
    count: u64,
}

impl<T> Default for Capped<T> {
    fn default() -> Capped<T> {
        Capped { kept: Vec::new(), count: 0 }
    }
}

impl<T> Capped<T> {
    fn push(&mut self, item: impl FnOnce() -> T) {
        self.count = self.count.saturating_add(1);
        if self.kept.len() < MAX_KEPT {
            self.kept.push(item());
        }
    }

    fn findings(&self, finding: impl Fn(&T) -> Finding) -> Vec<Finding> {
        let mut findings: Vec<Finding> = self.kept.iter().map(finding).collect();
        let kept = u64::try_from(self.kept.len()).unwrap_or(u64::MAX);
        if let (Some(last), true) = (findings.last_mut(), self.count > kept) {
            last.found = format!("{} (and {} more)", last.found, self.count.saturating_sub(kept));
        }
        findings
    }
}

/// A flood of warnings says no more than its first ones.
const MAX_KEPT: usize = 16;
