//! Processor generations: what they are called, how CPUID tells them, how their TCB is laid out.
//!
//! A generation is one key hierarchy. Bergamo and Siena are Genoa here, because Genoa's keys sign
//! for them.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;

/// A generation of processors that share an AMD root key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Product {
    Milan,
    Genoa,
    Turin,
    Venice,
}

/// How the eight bytes of a TCB_VERSION are used; read by the wrong one, fields swap silently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcbLayout {
    /// bootloader, TEE, 4 reserved, SNP, microcode
    BeforeTurin,
    /// FMC, bootloader, TEE, SNP, 3 reserved, microcode
    SinceTurin,
}

/// CPUID_FAM_ID, CPUID_MOD_ID, CPUID_STEP (SNP ABI rev. 1.58, ATTESTATION_REPORT, offset 0x188).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cpuid {
    /// Combined extended and base family.
    pub family: u8,
    /// Combined extended and base model.
    pub model: u8,
    pub stepping: u8,
}

impl Product {
    pub const ALL: [Product; 4] = [Product::Milan, Product::Genoa, Product::Turin, Product::Venice];

    /// As AMD writes it in the names of its certificates.
    pub const fn as_str(self) -> &'static str {
        match self {
            Product::Milan => "Milan",
            Product::Genoa => "Genoa",
            Product::Turin => "Turin",
            Product::Venice => "Venice",
        }
    }

    pub fn from_name(name: &str) -> Option<Product> {
        Product::ALL.into_iter().find(|product| product.as_str() == name)
    }

    /// productName of a certificate may carry the stepping behind a hyphen: `Milan-B0`.
    pub fn from_product_name(text: &str) -> Option<Product> {
        Product::from_name(text.split('-').next().unwrap_or(text))
    }

    pub const fn from_cpuid(cpuid: Cpuid) -> Option<Product> {
        match (cpuid.family, cpuid.model) {
            (0x19, 0x00..=0x0f) => Some(Product::Milan),
            (0x19, 0x10..=0x1f | 0xa0..=0xaf) => Some(Product::Genoa),
            (0x1a, 0x00..=0x11) => Some(Product::Turin),
            (0x1a, 0x50..=0x57 | 0x90..=0x9f | 0xa0..=0xaf | 0xc0..=0xc7) => Some(Product::Venice),
            _ => None,
        }
    }

    pub const fn tcb_layout(self) -> TcbLayout {
        match self {
            Product::Milan | Product::Genoa => TcbLayout::BeforeTurin,
            Product::Turin | Product::Venice => TcbLayout::SinceTurin,
        }
    }

    /// Bytes of the chip id that are used; the rest of the 64 is zero.
    pub const fn chip_id_size(self) -> usize {
        match self.tcb_layout() {
            TcbLayout::BeforeTurin => 64,
            TcbLayout::SinceTurin => 8,
        }
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Cpuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}{:02x}{:02x}", self.family, self.model, self.stepping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_stepping_is_the_same_product() {
        assert_eq!(Product::from_product_name("Milan-B0"), Some(Product::Milan));
        assert_eq!(Product::from_product_name("Turin"), Some(Product::Turin));
        assert_eq!(Product::from_product_name("Rome-B0"), None);
        assert_eq!(Product::from_product_name("milan"), None);
    }

    #[test]
    fn an_unknown_model_is_no_product() {
        let cpuid = |family, model| Product::from_cpuid(Cpuid { family, model, stepping: 1 });
        assert_eq!(cpuid(0x19, 0x01), Some(Product::Milan));
        assert_eq!(cpuid(0x19, 0xa0), Some(Product::Genoa));
        assert_eq!(cpuid(0x19, 0x20), None);
        assert_eq!(cpuid(0x1a, 0x12), None);
        assert_eq!(cpuid(0x17, 0x31), None);
    }
}
