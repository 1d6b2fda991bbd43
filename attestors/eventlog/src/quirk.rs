//! Quirks: what real firmware and boot loaders do against the rules, each by name.
//!
//! A quirk widens exactly one rule. There is no tolerant mode: whoever grades a log says which
//! quirks may be used, and is told which were.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use serde::Serializer;

macro_rules! quirks {
    ($($(#[doc = $meaning:literal])* $variant:ident $name:literal)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Quirk { $($(#[doc = $meaning])* $variant,)* }

        impl Quirk {
            pub const ALL: &'static [Quirk] = &[$(Quirk::$variant,)*];

            /// As profiles write it.
            pub const fn name(self) -> &'static str {
                match self { $(Quirk::$variant => $name,)* }
            }

            /// What it widens, and where it was seen.
            pub const fn meaning(self) -> &'static str {
                match self { $(Quirk::$variant => concat!($($meaning,)*),)* }
            }
        }
    };
}

quirks! {
    /// EV_EFI_VARIABLE_AUTHORITY: one byte behind the variable is not hashed (old shim)
    ShimAuthorityTrailingByte "shim-authority-trailing-byte"
    /// EV_IPL: only the text after the first space is hashed, without or with one NUL (GRUB)
    GrubIplPrefix "grub-ipl-prefix"
    /// EV_IPL: the text after the first space, and one byte behind its NUL is not hashed (GRUB 2.02)
    GrubIplTrailingByte "grub-ipl-trailing-byte"
    /// EV_IPL: the name of a UKI's section is hashed as ASCII with a NUL (systemd-stub)
    SystemdStubNameNul "systemd-stub-name-nul"
    /// EV_IPL: the last byte of what is hashed, a zero, is missing in the log (old systemd-boot)
    IplCutNul "ipl-cut-nul"
    /// EV_EFI_VARIABLE_BOOT: only the variable's data is hashed, so that its name is not bound
    VariableBootDataOnly "variable-boot-data-only"
    /// EV_S_CRTM_VERSION: the text is not hashed (some Dell servers)
    CrtmVersionUnbound "crtm-version-unbound"
    /// EV_NONHOST_INFO: the text is not hashed (`IntelCSxEEvent01`)
    NonhostInfoUnbound "nonhost-info-unbound"
    /// PCR 5: the pair of ExitBootServices actions was measured after the log was taken
    EbsPairMissing "ebs-pair-missing"
    /// An event of the unknown type 0x8401 (Lenovo)
    UnknownType8401 "unknown-type-0x8401"
    /// A firmware blob whose digest is that of nothing (Dell, Intel)
    FwBlobEmpty "fw-blob-empty"
    /// Bytes 0xff or 0x00 behind the last event of a CCEL
    CcelPadding "ccel-padding"
    /// IMA: a violation extends a bank by twenty bytes of ones and zeros (kernels before 5.8)
    ImaViolationZeroPad "ima-violation-zero-pad"
}

/// A set of quirks.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Quirks(u32);

impl Quirks {
    pub const NONE: Quirks = Quirks(0);
    pub const ALL: Quirks = {
        let mut all = Quirks::NONE;
        let mut rest = Quirk::ALL;
        while let [first, more @ ..] = rest {
            all = all.with(*first);
            rest = more;
        }
        all
    };

    #[must_use]
    pub const fn with(self, quirk: Quirk) -> Quirks {
        Quirks(self.0 | Quirks::bit(quirk))
    }

    #[must_use]
    pub const fn union(self, other: Quirks) -> Quirks {
        Quirks(self.0 | other.0)
    }

    pub const fn contains(self, quirk: Quirk) -> bool {
        self.0 & Quirks::bit(quirk) != 0
    }

    pub fn iter(self) -> impl Iterator<Item = Quirk> {
        Quirk::ALL.iter().copied().filter(move |&quirk| self.contains(quirk))
    }

    // A discriminant counts from 0 and there are fewer than 32, so the cast loses nothing.
    const fn bit(quirk: Quirk) -> u32 {
        1 << quirk as u32
    }
}

impl FromIterator<Quirk> for Quirks {
    fn from_iter<I: IntoIterator<Item = Quirk>>(quirks: I) -> Quirks {
        quirks.into_iter().fold(Quirks::NONE, Quirks::with)
    }
}

impl fmt::Debug for Quirks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Serialize for Quirks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl fmt::Display for Quirk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Quirk {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a quirk that is known here")]
pub struct UnknownQuirk(String);

impl FromStr for Quirk {
    type Err = UnknownQuirk;

    fn from_str(text: &str) -> Result<Quirk, UnknownQuirk> {
        let found = Quirk::ALL.iter().copied().find(|quirk| quirk.name() == text);
        found.ok_or_else(|| UnknownQuirk(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in_and_nothing_else() {
        for &quirk in Quirk::ALL {
            let one = Quirks::NONE.with(quirk);
            assert_eq!(one.iter().collect::<Vec<_>>(), [quirk]);
            assert!(Quirks::ALL.contains(quirk));
            assert_eq!(quirk.name().parse::<Quirk>().ok(), Some(quirk));
        }
        assert_eq!(Quirks::NONE.iter().count(), 0);
    }
}
