//! Every way in which an HCL report can be refused.

use assay_evidence::Finding;
use assay_evidence::Reason;
use assay_evidence::key::KeyFault;
use assay_evidence::reader::ReadError;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    #[error("{found} bytes where an HCL report may have {max}")]
    Size { found: usize, max: usize },
    #[error("an HCL report that is cut")]
    Shape(#[from] ReadError),
    #[error("the field {field} is {found}, {expected} expected")]
    Field { field: &'static str, found: String, expected: &'static str },
    #[error("something stands behind the report")]
    Trailing,
    #[error("the var-data cannot be read: {0}")]
    VarData(String),
    #[error("the var-data has no key `{0}`")]
    KeyMissing(&'static str),
    #[error("the vTPM's key is not to be relied on")]
    KeyWeak(#[source] KeyFault),
    #[error("the report's data is not the hash of the var-data")]
    Unbound { found: String, expected: String },
}

impl Fault {
    /// The stable code of this refusal.
    pub fn reason(&self) -> Reason {
        match self {
            Fault::Size { .. }
            | Fault::Shape(_)
            | Fault::Field { .. }
            | Fault::VarData(_)
            | Fault::KeyMissing(_) => Reason::HclMalformed,
            Fault::Trailing => Reason::TrailingBytes,
            Fault::KeyWeak(KeyFault::Roca) => Reason::KeyRoca,
            Fault::KeyWeak(_) => Reason::KeyWeak,
            Fault::Unbound { .. } => Reason::VtpmUnbound,
        }
    }

    /// The same as one line of a refusal.
    pub fn finding(&self) -> Finding {
        let (claim, found, expected) = match self {
            Fault::Field { field, found, expected } => {
                (*field, found.clone(), (*expected).to_owned())
            }
            Fault::Unbound { found, expected } => ("report_data", found.clone(), expected.clone()),
            Fault::KeyMissing(name) => ("var_data.keys", "absent".to_owned(), (*name).to_owned()),
            Fault::KeyWeak(fault) => {
                ("var_data.keys", fault.to_string(), "a key that may be relied on".to_owned())
            }
            other => ("hcl_report", other.to_string(), "a whole HCL report".to_owned()),
        };
        Finding::new(self.reason(), claim, found, expected, "Azure confidential VM, HCL report")
    }
}
