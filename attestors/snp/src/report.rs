//! The attestation report: 1184 bytes, read field by field, every reserved bit asked for.
//!
//! All offsets are those of ATTESTATION_REPORT, SEV-SNP Firmware ABI Specification (56860) rev.
//! 1.58, table "ATTESTATION_REPORT Structure". Numbers are little-endian. Versions 2 to 5 are
//! known; a later one is refused, because what it reserves is not known.
//!
//! Nothing read here is true yet: a [`Report`] is what somebody sent. `verify` makes claims of it.

use std::fmt;

use assay_evidence::Reader;
use assay_evidence::reader::ReadError;
use serde::Serialize;

use crate::error::Fault;
use crate::error::Faults;
use crate::product::Cpuid;
use crate::product::Product;
use crate::tcb::TcbBytes;

/// Whole report, signature and padding included.
pub const REPORT_SIZE: usize = 1184;
/// What the signature covers: everything before it.
pub const SIGNED_SIZE: usize = 0x2a0;

/// The fields of a report whose shape is right. Nothing here is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub version: u32,
    pub guest_svn: u32,
    pub policy: GuestPolicy,
    pub family_id: [u8; 16],
    pub image_id: [u8; 16],
    /// Who asked for the report: 0 to 3 a guest at that level, 0xffff_ffff the host.
    pub vmpl: u32,
    pub signature_algorithm: u32,
    pub current_tcb: TcbBytes,
    pub platform_info: PlatformInfo,
    pub key_info: KeyInfo,
    pub report_data: [u8; 64],
    pub measurement: [u8; 48],
    pub host_data: [u8; 32],
    pub id_key_digest: [u8; 48],
    pub author_key_digest: [u8; 48],
    pub report_id: [u8; 32],
    pub report_id_ma: [u8; 32],
    pub reported_tcb: TcbBytes,
    /// Since version 3.
    pub cpuid: Option<Cpuid>,
    pub chip_id: [u8; 64],
    pub committed_tcb: TcbBytes,
    pub current_version: FirmwareVersion,
    pub committed_version: FirmwareVersion,
    pub launch_tcb: TcbBytes,
    /// Since version 5.
    pub launch_mitigations: Option<u64>,
    /// Since version 5.
    pub current_mitigations: Option<u64>,
    /// r ‖ s, big-endian, each 48 bytes.
    pub signature: [u8; 96],
}

/// The guest's policy, fixed at launch (rev. 1.58, §4.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct GuestPolicy(pub u64);

/// What the platform says of its settings (offset 0x040).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PlatformInfo(pub u64);

/// Which key signed, and what of the author is in the report (offset 0x048).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyInfo(pub u32);

/// The kinds of key that a report can be signed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SigningKey {
    /// Derived from the chip and its TCB.
    Vcek,
    /// Given by AMD to a cloud provider, for its TCB.
    Vlek,
}

/// Version of the SNP firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FirmwareVersion {
    pub major: u8,
    pub minor: u8,
    pub build: u8,
}

impl Report {
    /// Exactly one report; a collector strips what a kernel pads. All faults of shape are told.
    pub fn parse(bytes: &[u8]) -> Result<Report, Faults> {
        if bytes.len() != REPORT_SIZE {
            return Err(Fault::ReportLength { found: bytes.len() }.into());
        }
        let mut reserved = Reserved::default();
        // The lengths below add up to REPORT_SIZE, so reading cannot run short.
        let report = Report::read(bytes, &mut reserved)
            .map_err(|_| Fault::ReportLength { found: bytes.len() })?;
        if !(FIRST_VERSION..=LAST_VERSION).contains(&report.version) {
            return Err(Fault::ReportVersion { found: report.version }.into());
        }
        let mut faults = Vec::new();
        if report.signature_algorithm != ECDSA_P384_SHA384 {
            faults.push(Fault::SignatureAlgorithm { found: report.signature_algorithm });
        }
        faults.extend(reserved.0);
        faults.extend(report.reserved_bits());
        if !report.policy.has(POLICY_RESERVED_ONE) {
            faults.push(Fault::GuestPolicy { found: report.policy });
        }
        if let Some(product) = report.cpuid.and_then(Product::from_cpuid) {
            faults.extend(report.tcb_faults(product));
        }
        match Faults::of(faults) {
            Some(faults) => Err(faults),
            None => Ok(report),
        }
    }

    fn read(bytes: &[u8], reserved: &mut Reserved) -> Result<Report, ReadError> {
        let mut reader = Reader::new(bytes);
        let r = &mut reader;
        let version = u32_le(r)?; // 0x000
        let guest_svn = u32_le(r)?; // 0x004
        let policy = GuestPolicy(u64_le(r)?); // 0x008
        let family_id = r.array()?; // 0x010
        let image_id = r.array()?; // 0x020
        let vmpl = u32_le(r)?; // 0x030
        let signature_algorithm = u32_le(r)?; // 0x034
        let current_tcb = TcbBytes(r.array()?); // 0x038
        let platform_info = PlatformInfo(u64_le(r)?); // 0x040
        let key_info = KeyInfo(u32_le(r)?); // 0x048
        reserved.zeros(r, "0x04c", 4)?;
        let report_data = r.array()?; // 0x050
        let measurement = r.array()?; // 0x090
        let host_data = r.array()?; // 0x0c0
        let id_key_digest = r.array()?; // 0x0e0
        let author_key_digest = r.array()?; // 0x110
        let report_id = r.array()?; // 0x140
        let report_id_ma = r.array()?; // 0x160
        let reported_tcb = TcbBytes(r.array()?); // 0x180
        let cpuid = if version >= WITH_CPUID {
            Some(Cpuid { family: r.u8()?, model: r.u8()?, stepping: r.u8()? }) // 0x188
        } else {
            reserved.zeros(r, "0x188", 3)?;
            None
        };
        reserved.zeros(r, "0x18b", 21)?;
        let chip_id = r.array()?; // 0x1a0
        let committed_tcb = TcbBytes(r.array()?); // 0x1e0
        let current_version = FirmwareVersion::read(r)?; // 0x1e8
        reserved.zeros(r, "0x1eb", 1)?;
        let committed_version = FirmwareVersion::read(r)?; // 0x1ec
        reserved.zeros(r, "0x1ef", 1)?;
        let launch_tcb = TcbBytes(r.array()?); // 0x1f0
        let (launch_mitigations, current_mitigations) = if version >= WITH_MITIGATIONS {
            (Some(u64_le(r)?), Some(u64_le(r)?)) // 0x1f8, 0x200
        } else {
            reserved.zeros(r, "0x1f8", 16)?;
            (None, None)
        };
        reserved.zeros(r, "0x208", 0x98)?;
        let signature = read_signature(r, reserved)?; // 0x2a0
        reserved.zeros(r, "0x330", 0x170)?;
        reader.finish()?;
        Ok(Report {
            version,
            guest_svn,
            policy,
            family_id,
            image_id,
            vmpl,
            signature_algorithm,
            current_tcb,
            platform_info,
            key_info,
            report_data,
            measurement,
            host_data,
            id_key_digest,
            author_key_digest,
            report_id,
            report_id_ma,
            reported_tcb,
            cpuid,
            chip_id,
            committed_tcb,
            current_version,
            committed_version,
            launch_tcb,
            launch_mitigations,
            current_mitigations,
            signature,
        })
    }

    /// Reserved bits inside of fields. Unknown platform bits are no fault: new parts set them.
    fn reserved_bits(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let policy = self.policy.0 & POLICY_RESERVED;
        if policy != 0 {
            faults.push(Fault::Reserved { field: "policy", found: format!("{policy:#x}") });
        }
        let key_info = self.key_info.0 & KEY_INFO_RESERVED;
        if key_info != 0 || self.key_info.signing_key_number() > 1 && !self.key_info.is_unsigned() {
            faults.push(Fault::Reserved { field: "key_info", found: self.key_info.to_string() });
        }
        faults
    }

    /// Reserved bytes of the four TCB versions. Which they are depends on the product, which a
    /// report of version 2 does not say.
    pub(crate) fn tcb_faults(&self, product: Product) -> Vec<Fault> {
        let all = [
            ("current_tcb", self.current_tcb),
            ("reported_tcb", self.reported_tcb),
            ("committed_tcb", self.committed_tcb),
            ("launch_tcb", self.launch_tcb),
        ];
        all.into_iter()
            .filter(|(_, bytes)| bytes.read(product).is_none())
            .map(|(field, bytes)| Fault::Reserved { field, found: bytes.to_string() })
            .collect()
    }

    /// Whether r and s lie between one and the group order, as a signature's must.
    pub(crate) fn signature_in_range(&self) -> bool {
        self.signature
            .chunks_exact(SCALAR)
            .all(|scalar| scalar.iter().any(|&byte| byte != 0) && *scalar < P384_ORDER[..])
    }
}

/// r and s are little-endian in fields of 72 bytes, of which P-384 fills 48.
fn read_signature(reader: &mut Reader<'_>, reserved: &mut Reserved) -> Result<[u8; 96], ReadError> {
    let mut r: [u8; SCALAR] = reader.array()?;
    reserved.scalar_top(reader, "r")?;
    let mut s: [u8; SCALAR] = reader.array()?;
    reserved.scalar_top(reader, "s")?;
    r.reverse();
    s.reverse();
    let mut signature = [0; 2 * SCALAR];
    let (left, right) = signature.split_at_mut(SCALAR);
    left.copy_from_slice(&r);
    right.copy_from_slice(&s);
    Ok(signature)
}

/// What stands in bytes that must be zero.
#[derive(Default)]
struct Reserved(Vec<Fault>);

impl Reserved {
    fn zeros(
        &mut self,
        reader: &mut Reader<'_>,
        field: &'static str,
        length: usize,
    ) -> Result<(), ReadError> {
        let bytes = reader.take(length)?;
        if bytes.iter().any(|&byte| byte != 0) {
            self.0.push(Fault::Reserved { field, found: hex::encode(bytes) });
        }
        Ok(())
    }

    /// A scalar that is wider than the field of the curve is out of its range.
    fn scalar_top(
        &mut self,
        reader: &mut Reader<'_>,
        scalar: &'static str,
    ) -> Result<(), ReadError> {
        let top = reader.take(SCALAR_FIELD - SCALAR)?;
        if top.iter().any(|&byte| byte != 0) {
            self.0.push(Fault::SignatureRange { scalar });
        }
        Ok(())
    }
}

impl GuestPolicy {
    pub const fn abi_minor(self) -> u8 {
        self.0.to_le_bytes()[0]
    }

    pub const fn abi_major(self) -> u8 {
        self.0.to_le_bytes()[1]
    }

    pub const fn has(self, bit: u32) -> bool {
        self.0 >> bit & 1 == 1
    }

    /// SMT may be on.
    pub const fn smt_allowed(self) -> bool {
        self.has(16)
    }

    /// A migration agent may be associated with the guest.
    pub const fn migrate_ma(self) -> bool {
        self.has(18)
    }

    /// The host may read and write the guest's memory.
    pub const fn debug(self) -> bool {
        self.has(19)
    }

    pub const fn single_socket(self) -> bool {
        self.has(20)
    }

    pub const fn cxl_allowed(self) -> bool {
        self.has(21)
    }

    pub const fn memory_aes_256_xts(self) -> bool {
        self.has(22)
    }

    pub const fn rapl_disabled(self) -> bool {
        self.has(23)
    }

    pub const fn ciphertext_hiding(self) -> bool {
        self.has(24)
    }

    pub const fn page_swap_disabled(self) -> bool {
        self.has(25)
    }
}

impl PlatformInfo {
    const fn has(self, bit: u32) -> bool {
        self.0 >> bit & 1 == 1
    }

    pub const fn smt_enabled(self) -> bool {
        self.has(0)
    }

    pub const fn tsme_enabled(self) -> bool {
        self.has(1)
    }

    pub const fn ecc_enabled(self) -> bool {
        self.has(2)
    }

    pub const fn rapl_disabled(self) -> bool {
        self.has(3)
    }

    pub const fn ciphertext_hiding(self) -> bool {
        self.has(4)
    }

    /// Memory was looked through for aliased addresses (BadRAM).
    pub const fn alias_check_complete(self) -> bool {
        self.has(5)
    }

    pub const fn iommu_write_safe(self) -> bool {
        self.has(6)
    }

    pub const fn sev_tio_enabled(self) -> bool {
        self.has(7)
    }

    /// Bits that nobody here has a name for.
    pub const fn unknown(self) -> u64 {
        self.0 >> 8 << 8
    }
}

impl KeyInfo {
    pub const fn author_key_enabled(self) -> bool {
        self.0 & 1 == 1
    }

    /// The chip's key was withheld, so the report is not signed by it.
    pub const fn chip_key_masked(self) -> bool {
        self.0 >> 1 & 1 == 1
    }

    const fn signing_key_number(self) -> u32 {
        self.0 >> 2 & 7
    }

    /// The report says that no key signed it.
    pub const fn is_unsigned(self) -> bool {
        self.signing_key_number() == 7
    }

    pub const fn signing_key(self) -> Option<SigningKey> {
        match self.signing_key_number() {
            0 => Some(SigningKey::Vcek),
            1 => Some(SigningKey::Vlek),
            _ => None,
        }
    }
}

impl SigningKey {
    pub const fn as_str(self) -> &'static str {
        match self {
            SigningKey::Vcek => "VCEK",
            SigningKey::Vlek => "VLEK",
        }
    }
}

impl FirmwareVersion {
    /// BUILD, MINOR, MAJOR, in this order.
    fn read(reader: &mut Reader<'_>) -> Result<FirmwareVersion, ReadError> {
        let [build, minor, major] = reader.array()?;
        Ok(FirmwareVersion { major, minor, build })
    }
}

impl fmt::Display for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for FirmwareVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.build)
    }
}

/// Words of bits read and compare best as hexadecimal numbers.
macro_rules! bits {
    ($($name:ident)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    )*};
}

bits!(GuestPolicy PlatformInfo KeyInfo);

fn u32_le(reader: &mut Reader<'_>) -> Result<u32, ReadError> {
    reader.array().map(u32::from_le_bytes)
}

fn u64_le(reader: &mut Reader<'_>) -> Result<u64, ReadError> {
    reader.array().map(u64::from_le_bytes)
}

const FIRST_VERSION: u32 = 2;
const LAST_VERSION: u32 = 5;
const WITH_CPUID: u32 = 3;
const WITH_MITIGATIONS: u32 = 5;
/// SIGNATURE_ALGO, rev. 1.58, chapter 10.
const ECDSA_P384_SHA384: u32 = 1;
/// A guest policy without this bit is none.
const POLICY_RESERVED_ONE: u32 = 17;
const POLICY_RESERVED: u64 = !((1 << 26) - 1);
const KEY_INFO_RESERVED: u32 = !0b1_1111;
const SCALAR: usize = 48;
const SCALAR_FIELD: usize = 72;
/// Order of the group of P-384 (FIPS 186-4, D.1.2.4), big-endian.
const P384_ORDER: [u8; SCALAR] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xc7, 0x63, 0x4d, 0x81, 0xf4, 0x37, 0x2d, 0xdf,
    0x58, 0x1a, 0x0d, 0xb2, 0x48, 0xb0, 0xa7, 0x7a, 0xec, 0xec, 0x19, 0x6a, 0xcc, 0xc5, 0x29, 0x73,
];
