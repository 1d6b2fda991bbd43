//! The boot log of a trust domain (CCEL) held against the RTMRs of its quote.
//!
//! A CCEL names measurement registers: index 0 is MRTD, 1 to 4 are RTMR 0 to 3 (UEFI 2.10, §38.4.1,
//! table "TDX measurement register index"). Parsing, replay and grading are those of every log; here
//! is only whose values they are held against. What the log then says may be believed as far as its
//! events are bound, in registers that follow from it.

use assay_eventlog::Comparison;
use assay_eventlog::Grades;
use assay_eventlog::Grading;
use assay_eventlog::Log;
use assay_evidence::Digest;
use assay_evidence::HashAlgorithm;
use assay_evidence::Registers;

use crate::claims::Claims;

/// What a log is worth beside a verified quote.
#[derive(Clone, Debug)]
pub struct RuntimeLog {
    /// Registers that do not follow from the log, and what could not be compared.
    pub comparison: Comparison,
    /// Nothing is bound in a register that does not follow from the log.
    pub grades: Grades,
}

impl Claims {
    /// The RTMRs under the indexes that a CCEL has for them.
    pub fn registers(&self) -> Registers {
        let mut registers = Registers::new();
        for (index, value) in (FIRST_RTMR..).zip(self.rtmrs()) {
            let value = Digest::new(HashAlgorithm::Sha384, value);
            // Four different indexes: none is ever refused.
            let _kept = value.is_some_and(|value| registers.insert(index, value));
        }
        registers
    }
}

/// Replays a log and holds it against the RTMRs of verified claims.
///
/// `elsewhere` names indexes that other software extends too, after the firmware's log: often 4,
/// which is RTMR 3. They are reported as not compared, and nothing in them is bound.
pub fn hold(
    claims: &Claims,
    log: &Log<'_>,
    grading: &Grading<'_>,
    elsewhere: &[u32],
) -> RuntimeLog {
    let registers = claims.registers();
    let replay = log.replay();
    let follows = |index: u32| {
        let given = registers.value(HashAlgorithm::Sha384, index);
        given.is_some()
            && replay.value(HashAlgorithm::Sha384, index).as_ref() == given
            && !elsewhere.contains(&index)
    };
    RuntimeLog {
        comparison: replay.compare(&registers, elsewhere, grading.quirks),
        grades: log.grade(grading).within(log, &follows),
    }
}

impl RuntimeLog {
    /// Every register that was compared follows from the log, and no event of it is forged.
    pub fn holds(&self) -> bool {
        self.comparison.faults.is_empty()
            && self.comparison.banks_missing.is_empty()
            && self.grades.faults().is_empty()
    }
}

const FIRST_RTMR: u32 = 1;
