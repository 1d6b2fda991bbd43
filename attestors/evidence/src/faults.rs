//! A refusal with everything that was found wrong, the most decisive first.
//!
//! Each attestor has its own list of faults; their order (shape before keys before signatures
//! before values) and what is told of them is one idea.

use std::fmt;

use crate::reason::Finding;
use crate::reason::Reason;

/// One thing that is wrong with a piece of evidence.
pub trait Ranked: fmt::Display + PartialEq {
    /// Its place in the decisive order: the lower, the earlier.
    fn rank(&self) -> u8;
    /// The product's stable code.
    fn reason(&self) -> Reason;
    fn finding(&self) -> Finding;
}

/// At least one fault. Of two equally decisive ones that which was met first comes first, and
/// each is told once.
#[derive(Clone, Debug, PartialEq)]
pub struct Faults<F> {
    first: F,
    more: Vec<F>,
}

impl<F: Ranked> Faults<F> {
    /// Nothing if there are none.
    pub fn of(mut faults: Vec<F>) -> Option<Self> {
        faults.sort_by_key(Ranked::rank);
        let mut faults = faults.into_iter();
        let first = faults.next()?;
        let mut more: Vec<F> = Vec::new();
        for fault in faults {
            if fault != first && !more.contains(&fault) {
                more.push(fault);
            }
        }
        Some(Self { first, more })
    }

    pub fn decisive(&self) -> &F {
        &self.first
    }

    pub fn iter(&self) -> impl Iterator<Item = &F> {
        std::iter::once(&self.first).chain(&self.more)
    }

    /// The code of the first decisive fault.
    pub fn reason(&self) -> Reason {
        self.first.reason()
    }

    pub fn findings(&self) -> Vec<Finding> {
        self.iter().map(Ranked::finding).collect()
    }

    pub fn into_vec(self) -> Vec<F> {
        std::iter::once(self.first).chain(self.more).collect()
    }
}

impl<F> From<F> for Faults<F> {
    fn from(fault: F) -> Self {
        Self { first: fault, more: Vec::new() }
    }
}

impl<F: Ranked> fmt::Display for Faults<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)?;
        self.more.iter().try_for_each(|fault| write!(f, "; {fault}"))
    }
}

impl<F: Ranked + fmt::Debug> std::error::Error for Faults<F> {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Wrong(u8, &'static str);

    impl fmt::Display for Wrong {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.1)
        }
    }

    impl Ranked for Wrong {
        fn rank(&self) -> u8 {
            self.0
        }

        fn reason(&self) -> Reason {
            if self.0 == 0 { Reason::CertMalformed } else { Reason::CertExpired }
        }

        fn finding(&self) -> Finding {
            let text = self.1.to_owned();
            Finding {
                code: self.reason(),
                claim: text.clone(),
                found: text.clone(),
                expected: text.clone(),
                source: text,
            }
        }
    }

    #[test]
    fn the_most_decisive_is_told_first_and_each_once() {
        let late =
            [Wrong(3, "late"), Wrong(1, "b"), Wrong(3, "late"), Wrong(1, "a"), Wrong(0, "x")];
        let faults = Faults::of(late.to_vec()).unwrap();
        assert_eq!(faults.to_string(), "x; b; a; late");
        assert_eq!(faults.reason(), Reason::CertMalformed);
        assert_eq!(faults.findings().len(), 4);
        assert_eq!(faults.into_vec().len(), 4);
        assert_eq!(Faults::of(Vec::<Wrong>::new()), None);
    }
}
