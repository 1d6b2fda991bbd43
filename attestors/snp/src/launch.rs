//! The measurement that a launch will have: a reference value from firmware, kernel, command line
//! and processors, before any machine has run it.
//!
//! The firmware extends one digest page by page (SEV-SNP Firmware ABI (56860) rev. 1.58,
//! SNP_LAUNCH_UPDATE, PAGE_INFO): every page of OVMF below 4 GiB, the pages that OVMF's own
//! metadata asks for, at last one VMSA per processor. This follows QEMU with OVMF as confidential
//! guests are built today; other monitors lay the VMSA out otherwise and are not predicted.

use assay_evidence::Reader;
use assay_evidence::crypto;
use assay_evidence::reader::ReadError;

mod firmware;
mod vmsa;

use firmware::Firmware;
use firmware::Section;

/// What is launched.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// The OVMF image, whole pages.
    pub ovmf: &'a [u8],
    /// Kernel, initrd and command line given to QEMU directly; nothing: booted from a disk.
    pub direct: Option<DirectBoot<'a>>,
    pub processors: u32,
    /// CPUID leaf 1, EAX, of the model that QEMU shows: see [`cpu_signature`].
    pub cpu_signature: u32,
    /// SEV_FEATURES; bit 0 is SNP itself.
    pub guest_features: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct DirectBoot<'a> {
    pub kernel: &'a [u8],
    pub initrd: &'a [u8],
    pub command_line: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    #[error("an image that is not whole pages, at most {max} bytes of them")]
    Size { max: usize },
    #[error("no table of GUIDs at the end of the image")]
    NoTable,
    #[error("the image has no {0}")]
    Missing(&'static str),
    #[error("the image's {0} is malformed")]
    Malformed(&'static str),
    #[error("the image's metadata has a section of type {0:#x}, which is not known")]
    Section(u32),
    #[error("{found} processors, 1 to {max} expected")]
    Processors { found: u32, max: u32 },
    #[error("a command line with a zero byte")]
    CommandLine,
}

impl From<ReadError> for LaunchError {
    fn from(_: ReadError) -> LaunchError {
        LaunchError::Malformed("metadata")
    }
}

/// The launch measurement of a report.
pub fn predict(launch: &Launch<'_>) -> Result<[u8; 48], LaunchError> {
    if !(1..=MAX_PROCESSORS).contains(&launch.processors) {
        let (found, max) = (launch.processors, MAX_PROCESSORS);
        return Err(LaunchError::Processors { found, max });
    }
    let firmware = Firmware::parse(launch.ovmf)?;
    let mut digest = Digest([0; 48]);
    for (place, page) in firmware.pages() {
        digest.extend(PageType::Normal, place, Some(page));
    }
    for section in firmware.sections() {
        digest.section(section, &firmware, launch.direct.as_ref())?;
    }
    for processor in 0..launch.processors {
        let entry = if processor == 0 { vmsa::RESET_VECTOR } else { firmware.reset_address()? };
        let page = vmsa::page(entry, launch.cpu_signature, launch.guest_features);
        digest.extend(PageType::Vmsa, VMSA_ADDRESS, Some(&page));
    }
    Ok(digest.0)
}

/// CPUID leaf 1, EAX, of a family, model and stepping.
pub fn cpu_signature(family: u8, model: u8, stepping: u8) -> u32 {
    let [family, model, stepping] = [family, model, stepping].map(u32::from);
    let (extended, base) = match family.checked_sub(15) {
        Some(extended) => (extended, 15),
        None => (0, family),
    };
    extended << 20 | (model >> 4) << 16 | base << 8 | (model & 15) << 4 | stepping & 15
}

/// The models that QEMU knows by name, without their version.
pub fn cpu_signature_of_model(name: &str) -> Option<u32> {
    let (family, model, stepping) = match name.split("-v").next()? {
        "EPYC" => (23, 1, 2),
        "EPYC-Rome" => (23, 49, 0),
        "EPYC-Milan" => (25, 1, 1),
        "EPYC-Genoa" => (25, 17, 0),
        "EPYC-Turin" => (26, 0, 0),
        _ => return None,
    };
    Some(cpu_signature(family, model, stepping))
}

/// PAGE_TYPE of SNP_LAUNCH_UPDATE.
#[derive(Clone, Copy)]
enum PageType {
    Normal,
    Vmsa,
    Zero,
    Secrets,
    Cpuid,
}

struct Digest([u8; 48]);

impl Digest {
    /// DIGEST_CUR ‖ contents ‖ length ‖ type ‖ IMI ‖ three permissions ‖ reserved ‖ address.
    fn extend(&mut self, page_type: PageType, place: u64, page: Option<&[u8]>) {
        let contents = page.map_or([0; 48], crypto::sha384);
        let mut info = Vec::with_capacity(PAGE_INFO);
        info.extend_from_slice(&self.0);
        info.extend_from_slice(&contents);
        info.extend_from_slice(&[0x70, 0x00]);
        info.push(match page_type {
            PageType::Normal => 1,
            PageType::Vmsa => 2,
            PageType::Zero => 3,
            PageType::Secrets => 5,
            PageType::Cpuid => 6,
        });
        info.extend_from_slice(&[0; 5]);
        info.extend_from_slice(&place.to_le_bytes());
        self.0 = crypto::sha384(&info);
    }

    fn section(
        &mut self,
        section: &Section,
        firmware: &Firmware<'_>,
        direct: Option<&DirectBoot<'_>>,
    ) -> Result<(), LaunchError> {
        let page_type = match section.kind {
            SECTION_MEMORY | SECTION_CALLING_AREA => PageType::Zero,
            SECTION_SECRETS => PageType::Secrets,
            SECTION_CPUID => PageType::Cpuid,
            SECTION_HASHES => match direct {
                None => PageType::Zero,
                Some(direct) => {
                    let page = hashes_page(firmware, direct, section)?;
                    self.extend(PageType::Normal, u64::from(section.place), Some(&page));
                    return Ok(());
                }
            },
            other => return Err(LaunchError::Section(other)),
        };
        for place in section.pages() {
            self.extend(page_type, place, None);
        }
        Ok(())
    }
}

/// QEMU's table of hashes, where OVMF looks for it: command line, initrd, kernel.
fn hashes_page(
    firmware: &Firmware<'_>,
    direct: &DirectBoot<'_>,
    section: &Section,
) -> Result<Vec<u8>, LaunchError> {
    if direct.command_line.contains('\0') {
        return Err(LaunchError::CommandLine);
    }
    let command_line = [direct.command_line.as_bytes(), &[0]].concat();
    let entry =
        |guid: [u8; 16], bytes: &[u8]| [&guid[..], &[50, 0], &crypto::sha256(bytes)].concat();
    let table = [
        [&HASHES_TABLE[..], &[168, 0]].concat(),
        entry(HASHES_COMMAND_LINE, &command_line),
        entry(HASHES_INITRD, direct.initrd),
        entry(HASHES_KERNEL, direct.kernel),
    ]
    .concat();
    let place = firmware.hashes_address()?;
    // The table lies in its own page, whole; QEMU rounds its size up to 16.
    let inside = place
        .checked_sub(section.place)
        .and_then(|offset| usize::try_from(offset).ok())
        .filter(|offset| section.size == 4096 && offset.saturating_add(176) <= PAGE);
    let offset = inside.ok_or(LaunchError::Malformed("table of hashes"))?;
    let mut page = vec![0; offset];
    page.extend_from_slice(&table);
    page.resize(PAGE, 0);
    Ok(page)
}

/// A GUID as EFI stores it: the first three groups little-endian.
const fn guid(first: u32, second: u16, third: u16, rest: [u8; 8]) -> [u8; 16] {
    let (a, b, c) = (first.to_le_bytes(), second.to_le_bytes(), third.to_le_bytes());
    let [r0, r1, r2, r3, r4, r5, r6, r7] = rest;
    [a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], r0, r1, r2, r3, r4, r5, r6, r7]
}

fn u32_le(reader: &mut Reader<'_>) -> Result<u32, ReadError> {
    reader.array().map(u32::from_le_bytes)
}

const PAGE: usize = 4096;
const PAGE_INFO: usize = 0x70;
/// The same for every processor.
const VMSA_ADDRESS: u64 = 0xffff_ffff_f000;
const MAX_PROCESSORS: u32 = 4096;
/// OVMF, OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm, section types.
const SECTION_MEMORY: u32 = 1;
const SECTION_SECRETS: u32 = 2;
const SECTION_CPUID: u32 = 3;
const SECTION_CALLING_AREA: u32 = 4;
const SECTION_HASHES: u32 = 0x10;
/// QEMU, target/i386/sev.c: the table of hashes and its entries.
const HASHES_TABLE: [u8; 16] =
    guid(0x9438_d606, 0x4f22, 0x4cc9, [0xb4, 0x79, 0xa7, 0x93, 0xd4, 0x11, 0xfd, 0x21]);
const HASHES_COMMAND_LINE: [u8; 16] =
    guid(0x97d0_2dd8, 0xbd20, 0x4c94, [0xaa, 0x78, 0xe7, 0x71, 0x4d, 0x36, 0xab, 0x2a]);
const HASHES_INITRD: [u8; 16] =
    guid(0x44ba_f731, 0x3a2f, 0x4bd7, [0x9a, 0xf1, 0x41, 0xe2, 0x91, 0x69, 0x78, 0x1d]);
const HASHES_KERNEL: [u8; 16] =
    guid(0x4de7_9437, 0xabd2, 0x427f, [0xb8, 0x35, 0xd5, 0xb1, 0x72, 0xd2, 0x04, 0x5b]);
