//! The next boot's values, computed from the files that it will start.
//!
//! What firmware, systemd-stub and the Linux EFI stub measure of a unified kernel image follows from
//! its bytes: its Authenticode hash and that of the kernel inside (PCR 4), its sections (PCR 11), the
//! command line as UTF-16 and the initrd (PCR 9). So a kernel update can be admitted before the
//! reboot, and nobody edits register values.
//!
//! Not predicted: what firmware adds by itself, command lines given from outside, and phases that
//! user space extends into PCR 11.

use std::collections::BTreeMap;

use assay_evidence::Reader;
use assay_evidence::crypto;
use assay_evidence::digest::Digest;
use assay_evidence::digest::HashAlgorithm;
use assay_evidence::digest::Registers;
use assay_evidence::reader::ReadError;

/// A digest for each bank.
pub type Digests = BTreeMap<HashAlgorithm, Digest>;

/// Sections in the order in which systemd-stub measures them, and its first version that does.
const MEASURED: [(&str, u32); 9] = [
    (".linux", 252),
    (".osrel", 252),
    (".cmdline", 252),
    (".initrd", 252),
    (".splash", 252),
    (".dtb", 252),
    (".uname", 254),
    (".sbat", 254),
    (".pcrpkey", 254),
];
const LOADER_INFO: &[u8] = b"#### LoaderInfo: systemd-stub ";
const MAX_SECTIONS: usize = 96;
const ACTION: &[u8] = b"Calling EFI Application from Boot Option";
const SEPARATOR: &[u8] = &[0; 4];

/// The hashes that a prediction rests on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parts {
    /// Authenticode hash of the image.
    pub image: Digests,
    /// Authenticode hash of the kernel inside; firmware measures it where Secure Boot is off.
    pub kernel: Digests,
    /// Name and contents of each measured section, in order.
    pub sections: Vec<(String, Digests)>,
    /// The command line as UTF-16LE with NUL.
    pub load_options: Digests,
    pub initrd: Digests,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PredictError {
    #[error("not a PE image: {0}")]
    NotPe(&'static str),
    #[error("the image ends within its headers")]
    Cut(#[from] ReadError),
    #[error("the image has no section `{0}`, so it is no unified kernel image")]
    NoSection(&'static str),
}

/// A section of a PE image and its bytes in the file.
struct Section<'a> {
    name: String,
    offset: usize,
    raw: &'a [u8],
    /// As loaded: padding of the file is cut off.
    contents: &'a [u8],
}

/// PE headers as far as hashing needs them (PE Format, "Optional Header", "Section Table").
struct Image<'a> {
    bytes: &'a [u8],
    checksum: usize,
    certificate_entry: usize,
    certificates: usize,
    headers: usize,
    sections: Vec<Section<'a>>,
}

impl Parts {
    /// Of a unified kernel image.
    pub fn of_image(bytes: &[u8], banks: &[HashAlgorithm]) -> Result<Self, PredictError> {
        let image = Image::parse(bytes)?;
        let section = |name: &'static str| {
            let found = image.sections.iter().find(|section| section.name == name);
            found.map(|section| section.contents).ok_or(PredictError::NoSection(name))
        };
        let linux = section(".linux")?;
        let kernel = Image::parse(linux)?;
        let version = stub_version(bytes);
        let measured = MEASURED.iter().filter(|(_, since)| *since <= version);
        let sections = measured
            .filter_map(|(name, _)| {
                Some(((*name).to_owned(), digests(&[section(name).ok()?], banks)))
            })
            .collect();
        let command_line = section(".cmdline").unwrap_or_default();
        Ok(Self {
            image: image.authenticode(banks),
            kernel: kernel.authenticode(banks),
            sections,
            load_options: load_options(&String::from_utf8_lossy(command_line), banks),
            initrd: digests(&[section(".initrd").unwrap_or_default()], banks),
        })
    }

    /// What each register's events will be, by class, in their order.
    pub fn events(
        &self,
        secure_boot: bool,
        banks: &[HashAlgorithm],
    ) -> BTreeMap<u32, Vec<(&'static str, Digests)>> {
        let text = |text: &[u8]| digests(&[text], banks);
        let mut four = vec![
            ("action", text(ACTION)),
            ("separator", text(SEPARATOR)),
            ("boot_app", self.image.clone()),
        ];
        if !secure_boot {
            four.push(("boot_app", self.kernel.clone()));
        }
        let nine =
            vec![("load_options", self.load_options.clone()), ("initrd", self.initrd.clone())];
        let mut eleven = Vec::new();
        for (name, contents) in &self.sections {
            eleven.push(("uki_section", digests(&[name.as_bytes(), &[0]], banks)));
            eleven.push(("uki_section", contents.clone()));
        }
        BTreeMap::from([(4, four), (9, nine), (11, eleven)])
    }

    /// What the registers will be.
    pub fn registers(&self, secure_boot: bool, banks: &[HashAlgorithm]) -> Registers {
        let mut registers = Registers::new();
        for (register, events) in self.events(secure_boot, banks) {
            for bank in banks {
                let mut value = Digest::zero(*bank);
                for digest in events.iter().filter_map(|(_, digests)| digests.get(bank)) {
                    let parts = [value.as_bytes(), digest.as_bytes()];
                    value = crypto::hash(*bank, &parts).unwrap_or(value);
                }
                // Each register of each bank is made once.
                let _ = registers.insert(register, value);
            }
        }
        registers
    }
}

/// What the Linux EFI stub measures of a command line.
pub fn load_options(command_line: &str, banks: &[HashAlgorithm]) -> Digests {
    let text = command_line.trim_end_matches(['\0', '\n']);
    let wide: Vec<u8> =
        text.encode_utf16().chain([0]).flat_map(|unit: u16| unit.to_le_bytes()).collect();
    digests(&[&wide], banks)
}

/// The Authenticode hash of a PE image.
pub fn authenticode(bytes: &[u8], banks: &[HashAlgorithm]) -> Result<Digests, PredictError> {
    Ok(Image::parse(bytes)?.authenticode(banks))
}

pub fn digests(parts: &[&[u8]], banks: &[HashAlgorithm]) -> Digests {
    banks.iter().filter_map(|bank| Some((*bank, crypto::hash(*bank, parts)?))).collect()
}

/// The stub says its version in a text of its own; an unknown one is taken for the oldest.
fn stub_version(bytes: &[u8]) -> u32 {
    let at = bytes.windows(LOADER_INFO.len()).position(|window| window == LOADER_INFO);
    let rest = at.and_then(|at| bytes.get(at.saturating_add(LOADER_INFO.len())..));
    let digits = rest.unwrap_or_default().iter().take_while(|byte| byte.is_ascii_digit()).take(5);
    let text: String = digits.map(|byte| char::from(*byte)).collect();
    text.parse().unwrap_or(252)
}

impl<'a> Image<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, PredictError> {
        let at = |offset: usize| {
            bytes.get(offset..).map(Reader::new).ok_or(PredictError::NotPe("it is cut"))
        };
        if !bytes.starts_with(b"MZ") {
            return Err(PredictError::NotPe("no `MZ`"));
        }
        let start = size32(&mut at(0x3c)?)?;
        let mut header = at(start)?;
        if header.take(4)? != b"PE\0\0" {
            return Err(PredictError::NotPe("no `PE`"));
        }
        header.take(2)?;
        let count = size16(&mut header)?;
        header.take(12)?;
        let optional_size = size16(&mut header)?;
        header.take(2)?;
        let optional = start.saturating_add(24);
        let mut reader = at(optional)?;
        let directories = match size16(&mut reader)? {
            0x10b => 96,
            0x20b => 112,
            _ => return Err(PredictError::NotPe("no PE32 or PE32+")),
        };
        let place = |offset: usize| optional.saturating_add(offset);
        let headers = size32(&mut at(place(60))?)?;
        let certificate_entry = place(directories).saturating_add(4 * 8);
        let mut entry = at(certificate_entry)?;
        size32(&mut entry)?;
        let certificates = size32(&mut entry)?;
        if count > MAX_SECTIONS {
            return Err(PredictError::NotPe("more than 96 sections"));
        }
        let mut table = at(place(optional_size))?;
        let mut sections = Vec::new();
        for _ in 0..count {
            let name = table.take(8)?;
            let name: String =
                name.iter().take_while(|b| **b != 0).map(|b| char::from(*b)).collect();
            let loaded = size32(&mut table)?;
            table.take(4)?;
            let size = size32(&mut table)?;
            let offset = size32(&mut table)?;
            table.take(16)?;
            let end = offset.saturating_add(size);
            let raw = bytes.get(offset..end).ok_or(PredictError::NotPe("a section is cut"))?;
            let contents = raw.get(..loaded.min(size)).unwrap_or(raw);
            sections.push(Section { name, offset, raw, contents });
        }
        Ok(Self { bytes, checksum: place(64), certificate_entry, certificates, headers, sections })
    }

    /// Windows Authenticode PE Signature Format, "Calculating the PE Image Hash": headers without
    /// checksum and certificate entry, sections by their place, and what is behind them but the
    /// certificates.
    fn authenticode(&self, banks: &[HashAlgorithm]) -> Digests {
        let part = |from: usize, to: usize| self.bytes.get(from..to).unwrap_or_default();
        let mut parts = vec![
            part(0, self.checksum),
            part(self.checksum.saturating_add(4), self.certificate_entry),
            part(self.certificate_entry.saturating_add(8), self.headers),
        ];
        let mut sections: Vec<&Section<'_>> =
            self.sections.iter().filter(|section| !section.raw.is_empty()).collect();
        sections.sort_by_key(|section| section.offset);
        let mut hashed = self.headers;
        for section in sections {
            parts.push(section.raw);
            hashed = hashed.saturating_add(section.raw.len());
        }
        let end = self.bytes.len().saturating_sub(self.certificates);
        parts.push(part(hashed, end.max(hashed)));
        digests(&parts, banks)
    }
}

fn size16(reader: &mut Reader<'_>) -> Result<usize, ReadError> {
    reader.array().map(|bytes| usize::from(u16::from_le_bytes(bytes)))
}

fn size32(reader: &mut Reader<'_>) -> Result<usize, ReadError> {
    reader.array().map(|bytes| usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const BANKS: [HashAlgorithm; 1] = [HashAlgorithm::Sha256];

    /// A PE32+ image with these sections.
    fn image(sections: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0_u8; 0x200];
        bytes[..2].copy_from_slice(b"MZ");
        bytes[0x3c..0x40].copy_from_slice(&0x80_u32.to_le_bytes());
        bytes[0x80..0x84].copy_from_slice(b"PE\0\0");
        bytes[0x86..0x88].copy_from_slice(&u16::try_from(sections.len()).unwrap().to_le_bytes());
        bytes[0x94..0x96].copy_from_slice(&0xf0_u16.to_le_bytes());
        let optional = 0x98;
        bytes[optional..optional + 2].copy_from_slice(&0x20b_u16.to_le_bytes());
        bytes[optional + 60..optional + 64].copy_from_slice(&0x400_u32.to_le_bytes());
        bytes.resize(0x400, 0);
        let mut table = optional + 0xf0;
        for (name, contents) in sections {
            let offset = u32::try_from(bytes.len()).unwrap();
            let padded = contents.len().next_multiple_of(0x200);
            bytes[table..table + name.len()].copy_from_slice(name.as_bytes());
            let numbers = [contents.len(), 0, padded].map(|n| u32::try_from(n).unwrap());
            for (i, number) in numbers.into_iter().chain([offset]).enumerate() {
                let at = table + 8 + 4 * i;
                bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
            }
            table += 40;
            bytes.extend_from_slice(contents);
            bytes.resize(bytes.len().next_multiple_of(0x200), 0);
        }
        bytes
    }

    #[test]
    fn the_hash_leaves_out_checksum_and_certificates_and_nothing_else() {
        let bytes = image(&[(".text", b"code")]);
        let hash = |bytes: &[u8]| authenticode(bytes, &BANKS).unwrap();
        let original = hash(&bytes);
        let mut same = 0;
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            if authenticode(&changed, &BANKS).is_ok_and(|hash| hash == original) {
                same += 1;
                let checksum = (0x98 + 64..0x98 + 68).contains(&at);
                let entry = (0x98 + 144..0x98 + 152).contains(&at);
                assert!(checksum || entry, "{at:#x}");
            }
        }
        assert!(same >= 4, "{same}");
        let mut signed = bytes.clone();
        signed.extend_from_slice(&[7; 64]);
        signed[0x98 + 148..0x98 + 152].copy_from_slice(&64_u32.to_le_bytes());
        assert_eq!(hash(&signed), original);
        println!("{} bytes that count, {same} that do not", bytes.len() - same);
    }

    #[test]
    fn a_unified_image_gives_its_sections_in_the_stubs_order() {
        let kernel = image(&[(".text", b"kernel")]);
        let old = [
            (".osrel", &b"ID=x"[..]),
            (".cmdline", b"quiet"),
            (".uname", b"6.1"),
            (".linux", &kernel),
            (".initrd", b"initrd"),
        ];
        let names = |sections: &[(&str, &[u8])]| {
            let parts = Parts::of_image(&image(sections), &BANKS).unwrap();
            parts.sections.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(names(&old), [".linux", ".osrel", ".cmdline", ".initrd"]);
        let new = b"#### LoaderInfo: systemd-stub 255 ####";
        let new = [&old[..], &[(".sdmagic", &new[..])]].concat();
        assert_eq!(names(&new), [".linux", ".osrel", ".cmdline", ".initrd", ".uname"]);
        let refused = Parts::of_image(&kernel, &BANKS).unwrap_err();
        assert_eq!(refused, PredictError::NoSection(".linux"));
    }

    #[test]
    fn a_cut_image_is_refused_and_never_a_panic() {
        let bytes = image(&[(".linux", &image(&[(".text", b"k")]))]);
        assert!(Parts::of_image(&bytes, &BANKS).is_ok());
        let refused =
            (0..bytes.len()).filter(|end| Parts::of_image(&bytes[..*end], &BANKS).is_err()).count();
        println!("{refused} of {} cuts refused", bytes.len());
        assert!(refused > 0x400);
        for at in 0..0x400 {
            for value in [0, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                let _ = Parts::of_image(&changed, &BANKS);
            }
        }
    }
}
