//! Logs of machines that never were: every kind of event whose rule is known, written by our own
//! hand, so that the tests need no machine and no corpus.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use assay_eventlog::Draft;
use assay_eventlog::EventRecord;
use assay_eventlog::EventType;
use assay_eventlog::Format;
use assay_eventlog::draft::Header;
use assay_eventlog::draft::spec_id;
use assay_eventlog::variable::GLOBAL;
use assay_eventlog::variable::Guid;
use assay_eventlog::variable::SECURITY_DATABASE;
use assay_eventlog::variable::SHIM_LOCK;
use assay_evidence::HashAlgorithm;
use assay_evidence::crypto;

pub const CMDLINE: &str = "console=ttyS0 ima_policy=tcb quiet";

/// A log under construction.
pub struct Maker {
    draft: Draft,
    banks: Vec<HashAlgorithm>,
    /// Where a TPM's register lies.
    place: fn(u32) -> u32,
}

impl Maker {
    pub fn new(banks: &[HashAlgorithm]) -> Maker {
        let sizes: Vec<(u16, u16)> =
            banks.iter().map(|b| (b.tpm_id(), u16::try_from(b.size()).unwrap())).collect();
        Maker {
            draft: Draft::crypto_agile(&sizes),
            banks: banks.to_vec(),
            place: |register| register,
        }
    }

    pub fn event(&mut self, register: u32, kind: EventType, data: &[u8], hashed: &[u8]) {
        let digest = |bank: &HashAlgorithm| {
            (bank.tpm_id(), crypto::hash(*bank, &[hashed]).unwrap().as_bytes().to_vec())
        };
        let digests = self.banks.iter().map(digest).collect();
        let register = (self.place)(register);
        self.draft.events.push(EventRecord { register, kind, digests, data: data.to_vec() });
    }

    /// An event whose digest is of its data.
    pub fn plain(&mut self, register: u32, kind: EventType, data: &[u8]) {
        self.event(register, kind, data, data);
    }

    fn no_action(&mut self, data: &[u8]) {
        let digests = self.banks.iter().map(|b| (b.tpm_id(), vec![0; b.size()])).collect();
        let kind = EventType::NO_ACTION;
        self.draft.events.push(EventRecord { register: 0, kind, digests, data: data.to_vec() });
    }

    pub fn firmware(&mut self) {
        self.plain(0, EventType::S_CRTM_VERSION, &wide("SYNTH 1.0\0"));
        self.event(0, EventType::EFI_PLATFORM_FIRMWARE_BLOB, &[7; 16], b"firmware volume");
        self.variable(EventType::EFI_VARIABLE_DRIVER_CONFIG, GLOBAL, "SecureBoot", &[1]);
        let list = signature_list(b"certificate");
        for (vendor, name) in
            [(GLOBAL, "PK"), (GLOBAL, "KEK"), (SECURITY_DATABASE, "db"), (SECURITY_DATABASE, "dbx")]
        {
            self.variable(EventType::EFI_VARIABLE_DRIVER_CONFIG, vendor, name, &list);
        }
        self.separator(7);
        let boot = variable(GLOBAL, "BootOrder", &[0, 0]);
        self.event(1, EventType::EFI_VARIABLE_BOOT, &boot, &[0, 0]);
        self.plain(4, EventType::EFI_ACTION, b"Calling EFI Application from Boot Option");
    }

    pub fn separator(&mut self, register: u32) {
        self.plain(register, EventType::SEPARATOR, &[0; 4]);
    }

    pub fn variable(&mut self, kind: EventType, vendor: Guid, name: &str, data: &[u8]) {
        self.plain(7, kind, &variable(vendor, name, data));
    }

    pub fn authorities(&mut self) {
        let signed = [&[9; 16][..], &[0x30, 0x82, 0, 0], b"certificate"].concat();
        let authority = EventType::EFI_VARIABLE_AUTHORITY;
        self.variable(authority, SECURITY_DATABASE, "db", &signed);
        self.variable(authority, SHIM_LOCK, "SbatLevel", b"sbat,1,2025021800\nshim,4\n");
        // As an old shim writes it: one byte behind what is hashed.
        let old = [variable(SHIM_LOCK, "Shim", &signed), vec![0; 5]].concat();
        let data = [&old[..], &[0xaf]].concat();
        self.event(7, authority, &data, &old);
    }

    pub fn grub(&mut self) {
        let texts = [
            ("grub_cmd: ", format!("linux /vmlinuz {CMDLINE}")),
            ("kernel_cmdline: ", format!("/vmlinuz {CMDLINE}")),
        ];
        for (label, text) in texts {
            let data = [label.as_bytes(), text.as_bytes(), &[0]].concat();
            self.event(8, EventType::IPL, &data, text.as_bytes());
        }
        self.event(9, EventType::IPL, b"/initrd\0", b"initrd");
    }

    fn unified_image(&mut self) {
        let contents: [(&str, &[u8]); 2] =
            [(".linux", b"kernel"), (".cmdline", CMDLINE.as_bytes())];
        for (name, contents) in contents {
            let text = wide(&format!("{name}\0"));
            self.event(11, EventType::IPL, &text, format!("{name}\0").as_bytes());
            self.event(11, EventType::IPL, &text, contents);
        }
        self.load_options();
    }

    fn load_options(&mut self) {
        let data = [&[0xed, 0x22, 0x3b, 0x8f, 26, 0, 0, 0], &b"LOADED_IMAGE::LoadOptions\0"[..]];
        self.event(9, EventType::EVENT_TAG, &data.concat(), &wide(&format!("{CMDLINE}\0")));
    }

    pub fn exit(&mut self) {
        for text in ["Exit Boot Services Invocation", "Exit Boot Services Returned with Success"] {
            self.plain(5, EventType::EFI_ACTION, text.as_bytes());
        }
    }

    pub fn finish(self) -> Draft {
        self.draft
    }
}

/// Secure Boot, shim and GRUB on a TPM with two banks, started at locality 3.
pub fn shim_and_grub() -> Draft {
    let mut log = Maker::new(&[HashAlgorithm::Sha1, HashAlgorithm::Sha256]);
    log.no_action(b"StartupLocality\0\x03");
    log.firmware();
    for register in 0..7 {
        log.separator(register);
    }
    log.authorities();
    log.plain(5, EventType::EFI_GPT_EVENT, b"EFI PART and so on");
    log.event(4, EventType::EFI_BOOT_SERVICES_APPLICATION, &[1; 40], b"shim");
    log.grub();
    log.exit();
    log.finish()
}

/// A unified kernel image on a TPM with one bank.
pub fn unified_kernel() -> Draft {
    let mut log = Maker::new(&[HashAlgorithm::Sha256]);
    log.firmware();
    for register in 0..7 {
        log.separator(register);
    }
    log.event(4, EventType::EFI_BOOT_SERVICES_APPLICATION, &[1; 40], b"image");
    log.unified_image();
    log.exit();
    log.finish()
}

/// The same in a confidential machine, with padding.
pub fn confidential() -> Draft {
    let mut log = Maker::new(&[HashAlgorithm::Sha384]);
    log.place = |register| Format::Ccel.register_of_pcr(register);
    log.firmware();
    log.separator(2);
    log.event(4, EventType::EFI_BOOT_SERVICES_APPLICATION, &[1; 40], b"image");
    log.unified_image();
    log.exit();
    let mut draft = log.finish();
    draft.format = Format::Ccel;
    draft.header = Some(Header { register: 1, data: spec_id(&[(0x000c, 48)]) });
    draft.padding = vec![0xff; 96];
    draft
}

/// TPM 1.2: no header, SHA-1 records.
pub fn old() -> Draft {
    let mut log = Maker::new(&[HashAlgorithm::Sha1]);
    log.firmware();
    log.separator(0);
    let mut draft = log.finish();
    draft.format = Format::Sha1;
    draft.header = None;
    draft
}

/// The ACPI table of an area of 64 KiB.
pub fn table() -> Vec<u8> {
    let mut table =
        [&b"CCEL"[..], &56_u32.to_le_bytes(), &[1, 0], b"SYNTHSYNTHETIC", &[0; 12]].concat();
    table.extend_from_slice(&[2, 0, 0, 0]);
    table.extend_from_slice(&0x1_0000_u64.to_le_bytes());
    table.extend_from_slice(&0x8000_0000_u64.to_le_bytes());
    let sum = table.iter().fold(0_u8, |sum, &byte| sum.wrapping_add(byte));
    table[9] = 0_u8.wrapping_sub(sum);
    table
}

pub fn all() -> [(&'static str, Draft); 4] {
    [
        ("shim-grub", shim_and_grub()),
        ("unified-kernel", unified_kernel()),
        ("ccel", confidential()),
        ("tpm12", old()),
    ]
}

pub fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

pub fn variable(vendor: Guid, name: &str, data: &[u8]) -> Vec<u8> {
    let length = |n: usize| u64::try_from(n).unwrap().to_le_bytes();
    let (characters, size) = (length(name.len()), length(data.len()));
    [&vendor.0[..], &characters, &size, &wide(name), data].concat()
}

/// One list of two SHA-256 entries.
fn signature_list(seed: &[u8]) -> Vec<u8> {
    let kind = [
        0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43,
        0x28,
    ];
    let mut list = kind.to_vec();
    for number in [28 + 2 * 48, 0, 48_u32] {
        list.extend_from_slice(&number.to_le_bytes());
    }
    for entry in [0_u8, 1] {
        list.extend_from_slice(&[entry; 16]);
        list.extend_from_slice(&crypto::sha256(&[seed, &[entry]].concat()));
    }
    list
}
