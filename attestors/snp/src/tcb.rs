//! Security versions of a platform: eight bytes in a report, the parts that they mean.
//!
//! Parts are compared one by one, never as one number: a higher microcode does not make up for a
//! lower firmware.

use std::fmt;

use serde::Serialize;
use serde::Serializer;

use crate::product::Product;
use crate::product::TcbLayout;

/// TCB_VERSION as it stands in a report (SNP ABI rev. 1.58, §2.2); no meaning yet.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TcbBytes(pub [u8; 8]);

/// The security patch levels, by part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Tcb {
    /// Firmware microcontroller; Turin and later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fmc: Option<u8>,
    pub bootloader: u8,
    pub tee: u8,
    pub snp: u8,
    pub microcode: u8,
}

impl TcbBytes {
    /// Nothing if a reserved byte is not zero.
    pub fn read(self, product: Product) -> Option<Tcb> {
        let [b0, b1, b2, b3, b4, b5, b6, b7] = self.0;
        let (tcb, reserved) = match product.tcb_layout() {
            TcbLayout::BeforeTurin => (
                Tcb { fmc: None, bootloader: b0, tee: b1, snp: b6, microcode: b7 },
                [b2, b3, b4, b5],
            ),
            TcbLayout::SinceTurin => (
                Tcb { fmc: Some(b0), bootloader: b1, tee: b2, snp: b3, microcode: b7 },
                [0, b4, b5, b6],
            ),
        };
        (reserved == [0; 4]).then_some(tcb)
    }
}

impl Tcb {
    /// Each part at most the other's.
    pub fn is_at_most(&self, other: &Tcb) -> bool {
        self.parts().iter().zip(other.parts()).all(|((_, own), (_, other))| *own <= other)
    }

    /// Parts by name, in the order in which they start.
    pub fn parts(&self) -> [(&'static str, u8); 5] {
        [
            ("fmc", self.fmc.unwrap_or(0)),
            ("bootloader", self.bootloader),
            ("tee", self.tee),
            ("snp", self.snp),
            ("microcode", self.microcode),
        ]
    }

    /// The bytes again.
    pub fn write(&self, product: Product) -> TcbBytes {
        let Tcb { fmc, bootloader, tee, snp, microcode } = *self;
        TcbBytes(match product.tcb_layout() {
            TcbLayout::BeforeTurin => [bootloader, tee, 0, 0, 0, 0, snp, microcode],
            TcbLayout::SinceTurin => [fmc.unwrap_or(0), bootloader, tee, snp, 0, 0, 0, microcode],
        })
    }
}

/// Numbers in decimal, as AMD's bulletins and its key server have them.
impl fmt::Display for Tcb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(fmc) = self.fmc {
            write!(f, "fmc {fmc}, ")?;
        }
        let Tcb { bootloader, tee, snp, microcode, .. } = self;
        write!(f, "bootloader {bootloader}, tee {tee}, snp {snp}, microcode {microcode}")
    }
}

impl fmt::Display for TcbBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for TcbBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TcbBytes({self})")
    }
}

impl Serialize for TcbBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_same_bytes_mean_something_else_on_turin() {
        let bytes = TcbBytes([1, 1, 1, 4, 0, 0, 0, 0x51]);
        let tcb = bytes.read(Product::Turin).unwrap();
        assert_eq!((tcb.fmc, tcb.snp, tcb.microcode), (Some(1), 4, 0x51));
        assert_eq!(bytes.read(Product::Milan), None, "Milan reserves bytes 2 to 5");
        assert_eq!(tcb.write(Product::Turin), bytes);
    }

    #[test]
    fn a_higher_part_does_not_make_up_for_a_lower_one() {
        let low = TcbBytes([3, 0, 0, 0, 0, 0, 8, 0x73]).read(Product::Milan).unwrap();
        let mixed = Tcb { snp: 7, microcode: 0xff, ..low };
        assert!(low.is_at_most(&low));
        assert!(!low.is_at_most(&mixed));
        assert!(!mixed.is_at_most(&low));
    }
}
