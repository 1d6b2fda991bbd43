//! A kernel as far as its measurement list goes: what it writes into the binary and the text list,
//! and what it extends each bank with. Written from the kernel's rules, not from the parser, so
//! that a mistake in one does not hide one in the other. Used by tests, bench and vectors.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use assay_evidence::Digest;
use assay_evidence::HashAlgorithm;
use assay_evidence::Registers;
use assay_evidence::crypto;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Little,
    Big,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Hashed,
    Padded,
    /// Before 5.8.
    PaddedViolations,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub register: u32,
    pub template: String,
    /// Id and value of each field; for template `ima` the bare digest and name.
    pub fields: Vec<(String, Vec<u8>)>,
    pub violation: bool,
}

impl Item {
    pub fn new(template: &str, fields: &[(&str, Vec<u8>)]) -> Item {
        let fields = fields.iter().map(|(id, value)| ((*id).to_owned(), value.clone())).collect();
        Item { register: 10, template: template.into(), fields, violation: false }
    }

    pub fn ng(path: &str, content: &[u8]) -> Item {
        let fields = [("d-ng", ng("sha256", &crypto::sha256(content))), ("n-ng", name(path))];
        Item::new("ima-ng", &fields)
    }

    pub fn sig(path: &str, content: &[u8], signature: &[u8]) -> Item {
        let mut item = Item::ng(path, content);
        item.template = "ima-sig".into();
        item.fields.push(("sig".into(), signature.to_vec()));
        item
    }

    pub fn buffer(label: &str, buffer: &[u8]) -> Item {
        let mut item = Item::ng(label, buffer);
        item.template = "ima-buf".into();
        item.fields.push(("buf".into(), buffer.to_vec()));
        item
    }

    pub fn ima(path: &str, content: &[u8]) -> Item {
        let digest = crypto::sha1(content).to_vec();
        Item::new("ima", &[("d", digest), ("n", path.as_bytes().to_vec())])
    }

    pub fn violation(path: &str) -> Item {
        let mut item = Item::ng(path, b"");
        item.fields[0].1 = ng("sha256", &[0; 32]);
        item.violation = true;
        item
    }

    /// Over these registers of the digest's bank.
    pub fn boot_aggregate(registers: &Registers, bank: HashAlgorithm, last: u32) -> Item {
        let values: Vec<&[u8]> =
            (0..=last).map(|r| registers.value(bank, r).unwrap().as_bytes()).collect();
        let digest = crypto::hash(bank, &values).unwrap();
        let fields =
            [("d-ng", ng(bank.name(), digest.as_bytes())), ("n-ng", name("boot_aggregate"))];
        Item::new("ima-ng", &fields)
    }

    pub fn data(&self, order: Order) -> Vec<u8> {
        let mut out = Vec::new();
        for (id, value) in &self.fields {
            if self.template != "ima" {
                out.extend(number(value.len(), order));
                out.extend(value);
            } else if id == "d" {
                out.extend(value);
            } else {
                out.extend(number(value.len(), order));
                out.extend(value);
            }
        }
        out
    }

    /// What the kernel hashes.
    pub fn hashed(&self, order: Order) -> Vec<u8> {
        if self.template != "ima" {
            return self.data(order);
        }
        let mut out = self.fields[0].1.clone();
        let mut name = self.fields[1].1.clone();
        name.resize(256, 0);
        out.extend(name);
        out
    }

    pub fn column(&self, algorithm: HashAlgorithm, order: Order) -> Vec<u8> {
        match self.violation {
            true => vec![0; algorithm.size()],
            false => crypto::hash(algorithm, &[&self.hashed(order)]).unwrap().as_bytes().to_vec(),
        }
    }

    pub fn record(&self, column: HashAlgorithm, order: Order) -> Vec<u8> {
        let mut out = number(self.register as usize, order).to_vec();
        out.extend(self.column(column, order));
        out.extend(number(self.template.len(), order));
        out.extend(self.template.as_bytes());
        let data = self.data(order);
        if self.template != "ima" {
            out.extend(number(data.len(), order));
        }
        out.extend(data);
        out
    }

    pub fn line(&self) -> Vec<u8> {
        let mut out = format!("{:2} ", self.register).into_bytes();
        let column = self.column(HashAlgorithm::Sha1, Order::Little);
        out.extend(hex::encode(column).into_bytes());
        out.push(b' ');
        out.extend(self.template.as_bytes());
        for (id, value) in &self.fields {
            out.push(b' ');
            match id.as_str() {
                _ if value.is_empty() => {}
                "d-ng" | "d-ngv2" | "d-modsig" => {
                    let nul = value.iter().position(|b| *b == 0).unwrap();
                    out.extend(&value[..nul]);
                    out.extend(hex::encode(&value[nul + 1..]).into_bytes());
                }
                "n" | "n-ng" | "xattrnames" => {
                    out.extend(value.strip_suffix(&[0]).unwrap_or(value));
                }
                "iuid" | "igid" => {
                    let id = u32::from_le_bytes(value.as_slice().try_into().unwrap());
                    out.extend(id.to_string().into_bytes());
                }
                "imode" => {
                    let mode = u16::from_le_bytes(value.as_slice().try_into().unwrap());
                    out.extend(mode.to_string().into_bytes());
                }
                _ => out.extend(hex::encode(value).into_bytes()),
            }
        }
        out.push(b'\n');
        out
    }

    pub fn extended_with(&self, bank: HashAlgorithm, way: Way, order: Order) -> Vec<u8> {
        let mut digest = match (self.violation, way) {
            (true, Way::PaddedViolations) => vec![0xff; 20],
            (true, _) => vec![0xff; bank.size()],
            (false, Way::Hashed) => return self.column(bank, order),
            (false, _) => self.column(HashAlgorithm::Sha1, order),
        };
        digest.resize(bank.size(), 0);
        digest
    }
}

/// Algorithm, colon, NUL, digest.
pub fn ng(algorithm: &str, digest: &[u8]) -> Vec<u8> {
    [algorithm.as_bytes(), b":\0", digest].concat()
}

/// As the kernel writes it: no spaces, a NUL.
pub fn name(path: &str) -> Vec<u8> {
    let mut out = path.replace(' ', "_").into_bytes();
    out.push(0);
    out
}

pub fn binary(items: &[Item]) -> Vec<u8> {
    binary_as(items, HashAlgorithm::Sha1, Order::Little)
}

pub fn binary_as(items: &[Item], column: HashAlgorithm, order: Order) -> Vec<u8> {
    items.iter().flat_map(|item| item.record(column, order)).collect()
}

pub fn text(items: &[Item]) -> Vec<u8> {
    items.iter().flat_map(Item::line).collect()
}

pub fn pcr10(items: &[Item], bank: HashAlgorithm, way: Way) -> Digest {
    pcr10_as(items, bank, way, Order::Little)
}

pub fn pcr10_as(items: &[Item], bank: HashAlgorithm, way: Way, order: Order) -> Digest {
    items.iter().fold(Digest::zero(bank), |value, item| {
        crypto::hash(bank, &[value.as_bytes(), &item.extended_with(bank, way, order)]).unwrap()
    })
}

/// A machine's registers 0 to 9, each another value, and PCR 10 after these entries.
pub fn quoted(items: &[Item], banks: &[(HashAlgorithm, Way)]) -> Registers {
    let mut registers = boot_registers(banks);
    for (bank, way) in banks {
        assert!(registers.insert(10, pcr10(items, *bank, *way)));
    }
    registers
}

pub fn boot_registers(banks: &[(HashAlgorithm, Way)]) -> Registers {
    let mut registers = Registers::new();
    for (bank, _) in banks {
        for register in 0..10_u8 {
            let value = crypto::hash(*bank, &[&[register]]).unwrap();
            assert!(registers.insert(u32::from(register), value));
        }
    }
    registers
}

pub const SHA1: (HashAlgorithm, Way) = (HashAlgorithm::Sha1, Way::Hashed);
pub const SHA256: (HashAlgorithm, Way) = (HashAlgorithm::Sha256, Way::Hashed);

/// A boot aggregate, then files, one of each template, a violation last but one.
pub fn every_template() -> Vec<Item> {
    let registers = boot_registers(&[SHA256]);
    let mut all = vec![Item::boot_aggregate(&registers, HashAlgorithm::Sha256, 9)];
    all.push(Item::ng("/usr/bin/with space (deleted)", b"one"));
    all.push(Item::ima("/sbin/init", b"two"));
    all.push(Item::sig("/lib/signed.so", b"three", &[3, 2, 4, 0xaa, 0xbb]));
    all.push(Item::sig("/lib/plain.so", b"four", &[]));
    let v2 = |kind: &str, content: &[u8]| {
        let digest = crypto::sha256(content);
        [format!("{kind}:sha256:\0").as_bytes(), &digest].concat()
    };
    all.push(Item::new("ima-ngv2", &[("d-ngv2", v2("ima", b"5")), ("n-ng", name("/opt/five"))]));
    let verity = [("d-ngv2", v2("verity", b"6")), ("n-ng", name("/opt/six")), ("sig", vec![6; 9])];
    all.push(Item::new("ima-sigv2", &verity));
    all.push(Item::buffer("kernel_version", b"6.1.0"));
    let modsig = [
        ("d-ng", ng("sha512", &crypto::sha512(b"seven"))),
        ("n-ng", name("/lib/modules/seven.ko")),
        ("sig", vec![]),
        ("d-modsig", ng("sha1", &crypto::sha1(b"seven"))),
        ("modsig", vec![0x30, 0x82, 7]),
    ];
    all.push(Item::new("ima-modsig", &modsig));
    let unsigned = [
        ("d-ng", ng("sha256", &crypto::sha256(b"eight"))),
        ("n-ng", name("/lib/modules/eight.ko")),
        ("sig", vec![]),
        ("d-modsig", vec![]),
        ("modsig", vec![]),
    ];
    all.push(Item::new("ima-modsig", &unsigned));
    let evm = [
        ("d-ng", ng("rmd160", &[9; 20])),
        ("n-ng", name("/usr/bin/nine")),
        ("evmsig", vec![5, 2, 9]),
        ("xattrnames", name("security.ima|security.selinux")),
        ("xattrlengths", vec![2, 0, 0, 0, 1, 0, 0, 0]),
        ("xattrvalues", vec![1, 2, 3]),
        ("iuid", 1000_u32.to_le_bytes().to_vec()),
        ("igid", 100_u32.to_le_bytes().to_vec()),
        ("imode", 0o100_755_u16.to_le_bytes().to_vec()),
    ];
    all.push(Item::new("evm-sig", &evm));
    let custom = [
        ("n-ng", name("/usr/bin/ten")),
        ("d-ng", ng("sm3", &[10; 32])),
        ("imode", 0o100_644_u16.to_le_bytes().to_vec()),
    ];
    all.push(Item::new("n-ng|d-ng|imode", &custom));
    all.push(Item::violation("/var/log/open"));
    all.push(Item::ng("/usr/bin/last", b"last"));
    all
}

fn number(value: usize, order: Order) -> [u8; 4] {
    let value = u32::try_from(value).unwrap();
    match order {
        Order::Little => value.to_le_bytes(),
        Order::Big => value.to_be_bytes(),
    }
}

/// One kernel, a measured kexec, the next kernel.
pub fn kexec() -> Vec<Item> {
    let boot = || Item::boot_aggregate(&boot_registers(&[SHA256]), HashAlgorithm::Sha256, 9);
    let line = Item::buffer("kexec-cmdline", b"root=/dev/vda ro");
    vec![boot(), Item::ng("/usr/sbin/kexec", b"kexec"), line, boot(), Item::ng("/init", b"init")]
}

/// What stands in `vectors/ima`.
pub fn vectors() -> Vec<(&'static str, Vec<u8>)> {
    let items = every_template();
    vec![
        ("templates.bin", binary(&items)),
        ("templates.txt", text(&items)),
        ("big-endian.bin", binary_as(&items, HashAlgorithm::Sha1, Order::Big)),
        ("column-sha256.bin", binary_as(&items, HashAlgorithm::Sha256, Order::Little)),
        ("kexec.bin", binary(&kexec())),
    ]
}
