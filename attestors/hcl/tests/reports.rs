//! HCL reports made here, and for each rule one change that breaks it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use assay_evidence::PublicKey;
use assay_evidence::crypto;
use assay_hcl::Fault;
use assay_hcl::Hardware;
use assay_hcl::HclReport;
use proptest::prelude::*;

/// A report before it is written; the report data is the hash of the text.
struct Draft {
    hardware: Vec<u8>,
    kind: u32,
    text: String,
    padding: usize,
}

const MODULUS: [u8; 256] = [0xb7; 256];

fn key(id: &str) -> String {
    // 256 bytes of 0xb7, and 65537.
    let n = format!("{}tw", "t7e3".repeat(85));
    format!(r#"{{"kid":"{id}","key_ops":["sign"],"kty":"RSA","e":"AQAB","n":"{n}"}}"#)
}

fn text() -> String {
    let zero = "00".repeat(64);
    let keys = [key("HCLAkPub"), key("HCLEkPub")].join(",");
    format!(r#"{{"keys":[{keys}],"vm-configuration":{{"secure-boot":true}},"user-data":"{zero}"}}"#)
}

fn draft(kind: u32) -> Draft {
    Draft {
        hardware: vec![0x11; if kind == 2 { 1184 } else { 1024 }],
        kind,
        text: text(),
        padding: 200,
    }
}

impl Draft {
    fn write(&self) -> Vec<u8> {
        let mut hardware = self.hardware.clone();
        let place = if self.kind == 2 { 0x50 } else { 128 };
        hardware[place..place + 64].fill(0);
        hardware[place..place + 32].copy_from_slice(&crypto::sha256(self.text.as_bytes()));
        hardware.resize(1184, 0);
        let length = self.text.len() as u32;
        let mut bytes = b"HCLA".to_vec();
        for number in [1, 32 + 1184 + 20 + length, 2, 0, 0, 0, 0] {
            bytes.extend(u32::to_le_bytes(number));
        }
        bytes.extend(hardware);
        for number in [20 + length, 1, self.kind, 1, length] {
            bytes.extend(u32::to_le_bytes(number));
        }
        bytes.extend(self.text.as_bytes());
        bytes.resize(bytes.len() + self.padding, 0);
        bytes
    }
}

fn judge(bytes: &[u8]) -> Result<assay_hcl::Bound, &'static str> {
    HclReport::parse(bytes).and_then(HclReport::bound).map_err(|fault: Fault| fault.reason().code())
}

#[test]
fn a_bound_report_names_the_key_and_what_the_hardware_must_say() {
    for kind in [2, 4] {
        let bytes = draft(kind).write();
        let report = HclReport::parse(&bytes).unwrap();
        assert_eq!(matches!(report.hardware, Hardware::SnpReport(_)), kind == 2);
        let bound = judge(&bytes).unwrap();
        assert_eq!(bound.ak(), &PublicKey::rsa(&MODULUS, 65_537));
        assert_eq!(bound.report_data()[..32], crypto::sha256(text().as_bytes()));
        assert_eq!(bound.report_data()[32..], [0; 32]);
        let written = serde_json::to_value(&bound).unwrap();
        assert_eq!(written["vm_configuration"]["secure-boot"], true);
        assert_eq!(written["measures"], "paravisor");
    }
}

#[test]
fn fields_have_the_values_that_are_known() {
    let bytes = draft(2).write();
    // Signature, version, size, request type, status, reserved; then those of the data.
    let data = 32 + 1184;
    for place in [0, 4, 8, 12, 16, 20, 31, data, data + 4, data + 8, data + 12, data + 16] {
        let mut changed = bytes.clone();
        changed[place] ^= 0x40;
        assert_eq!(judge(&changed), Err("hcl-malformed"), "{place}");
    }
    let mut behind = bytes.clone();
    *behind.last_mut().unwrap() = 1;
    assert_eq!(judge(&behind), Err("trailing-bytes"));
    assert_eq!(judge(&vec![0; 17_000]), Err("hcl-malformed"));
    // Behind a TDREPORT there are zeros.
    let mut padded = draft(4).write();
    padded[32 + 1024] = 1;
    assert_eq!(judge(&padded), Err("hcl-malformed"));
}

#[test]
fn var_data_that_the_report_does_not_name_is_unbound() {
    let bytes = draft(2).write();
    let text_at = 32 + 1184 + 20;
    let other = text().find("true").unwrap() + text_at;
    let mut changed = bytes.clone();
    changed[other..other + 4].copy_from_slice(b"null");
    assert_eq!(judge(&changed), Err("vtpm-unbound"));
    // The upper half of the report data is zero.
    let mut changed = bytes;
    changed[32 + 0x50 + 63] = 1;
    assert_eq!(judge(&changed), Err("vtpm-unbound"));
}

#[test]
fn var_data_is_read_strictly() {
    let with = |text: String| judge(&Draft { text, ..draft(2) }.write());
    assert!(with(text()).is_ok());
    assert_eq!(with(text().replace("HCLAkPub", "HCLBkPub")), Err("hcl-malformed"));
    assert_eq!(with(text().replace("HCLEkPub", "HCLAkPub")), Err("hcl-malformed"), "twice");
    assert_eq!(with(text().replace("RSA", "EC")), Err("hcl-malformed"));
    assert_eq!(with(text().replace("AQAB", "AQ*B")), Err("hcl-malformed"));
    assert_eq!(with(text().replace("AQAB", "AQ")), Err("key-weak"));
    assert_eq!(with(text().replace("t7e3t7e3", "")), Err("key-weak"));
    assert_eq!(with(text().replace("user-data\":\"00", "user-data\":\"")), Err("hcl-malformed"));
    let twice = r#""secure-boot":true,"secure-boot":false"#;
    assert_eq!(with(text().replace(r#""secure-boot":true"#, twice)), Err("hcl-malformed"));
    assert_eq!(with(text().replace(r#""keys""#, r#""keys":[],"keys""#)), Err("hcl-malformed"));
    assert_eq!(with(format!("{} {{}}", text())), Err("hcl-malformed"));
    assert_eq!(with("[".repeat(5000)), Err("hcl-malformed"), "depth");
    // Members that Azure may add are covered by the hash.
    assert!(with(text().replacen('{', r#"{"more":1,"#, 1)).is_ok());
}

#[test]
fn no_other_bit_that_counts_and_no_shorter_length_is_accepted() {
    let bytes = draft(2).write();
    let (start, end) = (32, 32 + 1184);
    let mut changed = bytes.clone();
    let mut flips = 0;
    for place in 0..bytes.len() {
        // The hardware report is for its own verifier, but for its report data.
        if (start..end).contains(&place) && !(0x70..0xb0).contains(&place) {
            continue;
        }
        for bit in 0..8 {
            changed[place] ^= 1 << bit;
            assert!(judge(&changed).is_err(), "{place}.{bit}");
            changed[place] ^= 1 << bit;
            flips += 1;
        }
    }
    let whole = bytes.len() - 200;
    for length in 0..whole {
        assert!(judge(&bytes[..length]).is_err(), "{length}");
    }
    for length in whole..bytes.len() {
        assert!(judge(&bytes[..length]).is_ok(), "padding is the index's");
    }
    println!("{flips} flips and {whole} lengths, none accepted");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_refused_and_never_panic(
        text in proptest::collection::vec(any::<u8>(), 0..300), kind in 0..6_u32,
    ) {
        let mut bytes = draft(2).write();
        bytes.truncate(32 + 1184 + 8);
        for number in [kind, 1, text.len() as u32] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(&text);
        prop_assert!(judge(&bytes).is_err());
        prop_assert!(judge(&text).is_err());
    }
}
