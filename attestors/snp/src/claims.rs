//! What a verified report establishes; nothing in it was not covered by a checked signature.
//!
//! Claims can be written out and never read in: the only way to have some is to verify a report.
//!
//! ```compile_fail,E0451
//! fn forge(genuine: assay_snp::Claims) -> assay_snp::Claims {
//!     assay_snp::Claims { not_checked: Vec::new(), ..genuine }
//! }
//! ```
//!
//! The names of the written form, all at the top unless grouped:
//!
//! | name | what it is |
//! |---|---|
//! | `version`, `guest_svn`, `vmpl`, `product`, `signing_key` | numbers and words of the report; `VCEK` or `VLEK` |
//! | `policy`, `platform_info`, `key_info` | words of bits, `0x…` |
//! | `debug`, `migrate_ma` | two bits of `policy` that decide most |
//! | `guest_policy`, `platform` | the same bits by name |
//! | `current_tcb`, `committed_tcb`, `reported_tcb`, `launch_tcb`, `vek_spl` | eight bytes in hex, in the order of the report |
//! | `tcb` | the four by part: `reported`, `committed`, `launch`, `current` |
//! | `current_version`, `committed_version` | firmware, `major.minor.build` |
//! | `measurement`, `report_data`, `host_data`, `id_key_digest`, `author_key_digest`, `family_id`, `image_id`, `report_id`, `report_id_ma`, `chip_id` | hex |
//! | `cpuid_fms` | family, model, stepping in hex, or null before version 3 |
//! | `launch_mit_vector`, `current_mit_vector` | eight bytes in hex in the order of the report, or null before version 5 |
//! | `hwid_matches_chip_id` | true, or null where it is not checked |
//! | `vek_not_before`, `vek_not_after`, `csp_id`, `spl_equals_reported_tcb` | of the signing key's certificate |
//! | `report_data_checked` | whether a value was expected |
//! | `root`, `tier` | `amd`, or `operator-supplied` and then the tier is `none` |

use assay_evidence::Time;
use assay_evidence::crypto;
use serde::Serialize;
use serde::Serializer;

use crate::endorsement::Chain;
use crate::product::Product;
use crate::report::FirmwareVersion;
use crate::report::GuestPolicy;
use crate::report::PlatformInfo;
use crate::report::Report;
use crate::report::SigningKey;
use crate::tcb::Tcb;

#[derive(Clone, Debug)]
pub struct Claims {
    report: Report,
    product: Product,
    tcb: PlatformTcb,
    vek_not_before: Time,
    vek_not_after: Time,
    csp_id: Option<String>,
    operator_root: bool,
    report_data_checked: bool,
    evidence_id: [u8; 32],
    not_checked: Vec<&'static str>,
}

/// The four TCBs of a report, by part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PlatformTcb {
    /// What the signing key vouches for.
    pub reported: Tcb,
    /// What the firmware can no longer be rolled back from.
    pub committed: Tcb,
    /// What ran when the guest was launched.
    pub launch: Tcb,
    /// What runs.
    pub current: Tcb,
}

impl Claims {
    pub(crate) fn new(
        report: Report,
        signed: &[u8],
        chain: &Chain,
        report_data_checked: bool,
    ) -> Claims {
        let vek = &chain.vek;
        let mut not_checked = Vec::new();
        if chain.revocation.is_none() {
            not_checked.push("revocation: no revocation list was given");
        }
        match vek.kind {
            SigningKey::Vlek => not_checked.push("chip-id: a VLEK belongs to no chip"),
            SigningKey::Vcek if report.chip_id == [0; 64] => {
                not_checked.push("chip-id: the report hides it");
            }
            SigningKey::Vcek => {}
        }
        if !report_data_checked {
            not_checked.push("report-data: no value was expected");
        }
        // Reserved bytes were asked for, so each of them reads; zero would be the safe answer.
        let read = |bytes: crate::tcb::TcbBytes| bytes.read(vek.product).unwrap_or(ZERO);
        Claims {
            tcb: PlatformTcb {
                reported: read(report.reported_tcb),
                committed: read(report.committed_tcb),
                launch: read(report.launch_tcb),
                current: read(report.current_tcb),
            },
            product: vek.product,
            vek_not_before: vek.certificate.not_before(),
            vek_not_after: vek.certificate.not_after(),
            csp_id: vek.csp_id.clone(),
            operator_root: chain.root.operator_supplied,
            report_data_checked,
            evidence_id: crypto::sha256(signed),
            not_checked,
            report,
        }
    }

    pub fn product(&self) -> Product {
        self.product
    }

    pub fn signing_key(&self) -> SigningKey {
        self.report.key_info.signing_key().unwrap_or(SigningKey::Vcek)
    }

    pub fn policy(&self) -> GuestPolicy {
        self.report.policy
    }

    pub fn platform(&self) -> PlatformInfo {
        self.report.platform_info
    }

    pub fn version(&self) -> u32 {
        self.report.version
    }

    pub fn guest_svn(&self) -> u32 {
        self.report.guest_svn
    }

    pub fn vmpl(&self) -> u32 {
        self.report.vmpl
    }

    pub fn tcb(&self) -> &PlatformTcb {
        &self.tcb
    }

    pub fn current_version(&self) -> FirmwareVersion {
        self.report.current_version
    }

    pub fn committed_version(&self) -> FirmwareVersion {
        self.report.committed_version
    }

    /// Of launch and of now; nothing before version 5.
    pub fn mitigations(&self) -> Option<(u64, u64)> {
        self.report.launch_mitigations.zip(self.report.current_mitigations)
    }

    pub fn report_data(&self) -> &[u8; 64] {
        &self.report.report_data
    }

    pub fn measurement(&self) -> &[u8; 48] {
        &self.report.measurement
    }

    pub fn host_data(&self) -> &[u8; 32] {
        &self.report.host_data
    }

    pub fn family_id(&self) -> &[u8; 16] {
        &self.report.family_id
    }

    pub fn image_id(&self) -> &[u8; 16] {
        &self.report.image_id
    }

    pub fn id_key_digest(&self) -> &[u8; 48] {
        &self.report.id_key_digest
    }

    /// Nothing where the guest was launched without an author key.
    pub fn author_key_digest(&self) -> Option<&[u8; 48]> {
        let enabled = self.report.key_info.author_key_enabled();
        enabled.then_some(&self.report.author_key_digest)
    }

    pub fn report_id(&self) -> &[u8; 32] {
        &self.report.report_id
    }

    /// Nothing where the report hides it.
    pub fn chip_id(&self) -> Option<&[u8; 64]> {
        (self.report.chip_id != [0; 64]).then_some(&self.report.chip_id)
    }

    /// The provider that a VLEK belongs to.
    pub fn csp_id(&self) -> Option<&str> {
        self.csp_id.as_deref()
    }

    /// The chain leads to a root that the operator added, so to no vendor.
    pub fn operator_supplied_root(&self) -> bool {
        self.operator_root
    }

    pub fn report_data_checked(&self) -> bool {
        self.report_data_checked
    }

    /// SHA-256 of the signed bytes.
    pub fn evidence_id(&self) -> &[u8; 32] {
        &self.evidence_id
    }

    /// Checks that could not be made with what was given, each with its reason.
    pub fn not_checked(&self) -> &[&'static str] {
        &self.not_checked
    }
}

impl Serialize for Claims {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let report = &self.report;
        let policy = report.policy;
        let platform = report.platform_info;
        let vector = |vector: Option<u64>| vector.map(|bits| hex::encode(bits.to_le_bytes()));
        let (root, tier) = match self.operator_root {
            true => ("operator-supplied", Some("none")),
            false => ("amd", None),
        };
        Written {
            version: report.version,
            guest_svn: report.guest_svn,
            policy: policy.to_string(),
            debug: policy.debug(),
            migrate_ma: policy.migrate_ma(),
            guest_policy: WrittenPolicy {
                abi: format!("{}.{}", policy.abi_major(), policy.abi_minor()),
                smt_allowed: policy.smt_allowed(),
                single_socket: policy.single_socket(),
                cxl_allowed: policy.cxl_allowed(),
                memory_aes_256_xts: policy.memory_aes_256_xts(),
                rapl_disabled: policy.rapl_disabled(),
                ciphertext_hiding: policy.ciphertext_hiding(),
                page_swap_disabled: policy.page_swap_disabled(),
            },
            vmpl: report.vmpl,
            platform_info: platform.to_string(),
            platform: WrittenPlatform {
                smt_enabled: platform.smt_enabled(),
                tsme_enabled: platform.tsme_enabled(),
                ecc_enabled: platform.ecc_enabled(),
                rapl_disabled: platform.rapl_disabled(),
                ciphertext_hiding: platform.ciphertext_hiding(),
                alias_check_complete: platform.alias_check_complete(),
                iommu_write_safe: platform.iommu_write_safe(),
                sev_tio_enabled: platform.sev_tio_enabled(),
                unknown: format!("{:#x}", platform.unknown()),
            },
            key_info: report.key_info.to_string(),
            signing_key: self.signing_key(),
            product: self.product,
            current_tcb: report.current_tcb.to_string(),
            committed_tcb: report.committed_tcb.to_string(),
            reported_tcb: report.reported_tcb.to_string(),
            launch_tcb: report.launch_tcb.to_string(),
            tcb: self.tcb,
            current_version: report.current_version.to_string(),
            committed_version: report.committed_version.to_string(),
            measurement: hex::encode(report.measurement),
            report_data: hex::encode(report.report_data),
            report_data_checked: self.report_data_checked,
            host_data: hex::encode(report.host_data),
            family_id: hex::encode(report.family_id),
            image_id: hex::encode(report.image_id),
            id_key_digest: hex::encode(report.id_key_digest),
            author_key_digest: hex::encode(report.author_key_digest),
            report_id: hex::encode(report.report_id),
            report_id_ma: hex::encode(report.report_id_ma),
            chip_id: hex::encode(report.chip_id),
            cpuid_fms: report.cpuid.map(|cpuid| cpuid.to_string()),
            launch_mit_vector: vector(report.launch_mitigations),
            current_mit_vector: vector(report.current_mitigations),
            // Verified equal, where there is something to compare.
            hwid_matches_chip_id: (self.csp_id.is_none() && self.chip_id().is_some())
                .then_some(true),
            vek_spl: report.reported_tcb.to_string(),
            spl_equals_reported_tcb: true,
            vek_not_before: self.vek_not_before,
            vek_not_after: self.vek_not_after,
            csp_id: self.csp_id.as_deref(),
            root,
            tier,
        }
        .serialize(serializer)
    }
}

/// The written form: the table at the head of this file.
#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    guest_svn: u32,
    policy: String,
    debug: bool,
    migrate_ma: bool,
    guest_policy: WrittenPolicy,
    vmpl: u32,
    platform_info: String,
    platform: WrittenPlatform,
    key_info: String,
    signing_key: SigningKey,
    product: Product,
    current_tcb: String,
    committed_tcb: String,
    reported_tcb: String,
    launch_tcb: String,
    tcb: PlatformTcb,
    current_version: String,
    committed_version: String,
    measurement: String,
    report_data: String,
    report_data_checked: bool,
    host_data: String,
    family_id: String,
    image_id: String,
    id_key_digest: String,
    author_key_digest: String,
    report_id: String,
    report_id_ma: String,
    chip_id: String,
    cpuid_fms: Option<String>,
    launch_mit_vector: Option<String>,
    current_mit_vector: Option<String>,
    hwid_matches_chip_id: Option<bool>,
    vek_spl: String,
    spl_equals_reported_tcb: bool,
    vek_not_before: Time,
    vek_not_after: Time,
    csp_id: Option<&'a str>,
    root: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<&'static str>,
}

#[derive(Serialize)]
struct WrittenPolicy {
    abi: String,
    smt_allowed: bool,
    single_socket: bool,
    cxl_allowed: bool,
    memory_aes_256_xts: bool,
    rapl_disabled: bool,
    ciphertext_hiding: bool,
    page_swap_disabled: bool,
}

#[derive(Serialize)]
struct WrittenPlatform {
    smt_enabled: bool,
    tsme_enabled: bool,
    ecc_enabled: bool,
    rapl_disabled: bool,
    ciphertext_hiding: bool,
    alias_check_complete: bool,
    iommu_write_safe: bool,
    sev_tio_enabled: bool,
    unknown: String,
}

const ZERO: Tcb = Tcb { fmc: None, bootloader: 0, tee: 0, snp: 0, microcode: 0 };
