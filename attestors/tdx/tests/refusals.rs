//! One change to genuine evidence, and the reason for which it is then refused.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use assay_evidence::Certificate;
use assay_evidence::Reason;
use assay_evidence::Time;
use assay_tdx::Claims;
use assay_tdx::CollateralCache;
use assay_tdx::Expected;
use assay_tdx::Faults;
use serde_json::json;

#[path = "support/forge.rs"]
mod forge;

use forge::Cert;
use forge::Crl;
use forge::Evidence;
use forge::Holder;
use forge::Recipe;

fn verify(evidence: &Evidence, roots: &[Certificate], now: &str) -> Result<Claims, Faults> {
    let expected = Expected::at(Time::parse_rfc3339(now).unwrap()).binding(&[0x66; 64]);
    let cache = CollateralCache::default();
    assay_tdx::verify_with(&evidence.quote, &evidence.collateral, roots, &expected, &cache)
}

fn refused(recipe: &Recipe) -> Faults {
    let evidence = recipe.build();
    verify(&evidence, std::slice::from_ref(&evidence.root), forge::NOW).unwrap_err()
}

type Change = fn(&mut Recipe);

#[track_caller]
fn matrix(cases: &[(&str, Reason, Change)]) {
    for (name, reason, change) in cases {
        let faults = refused(&Recipe::with(change));
        assert_eq!(faults.reason(), *reason, "{name}: {faults:?}");
        let findings = faults.findings();
        assert_eq!(findings.first().map(|finding| finding.code), Some(*reason));
        assert!(findings.iter().all(|finding| !finding.source.is_empty()), "{name}");
    }
    println!("{} changes refused", cases.len());
}

#[test]
fn a_quote_of_another_shape_is_refused() {
    use Reason::QuoteMalformed;
    matrix(&[
        ("version 3", Reason::QuoteVersion, |r| r.header[0] = 3),
        ("version 6", Reason::QuoteVersion, |r| r.header[0] = 6),
        ("version 0x0104", Reason::QuoteVersion, |r| r.header[1] = 1),
        ("key type P-384", QuoteMalformed, |r| r.header[2] = 3),
        ("an SGX enclave", QuoteMalformed, |r| r.header[4] = 0),
        ("another vendor", QuoteMalformed, |r| r.header[12] ^= 1),
        ("a longer body", QuoteMalformed, |r| r.body.push(0)),
        ("a shorter body", QuoteMalformed, |r| r.body.truncate(583)),
        ("outer type 5", QuoteMalformed, |r| r.certification_type = 5),
        ("outer type 7", QuoteMalformed, |r| r.certification_type = 7),
        ("outer size", QuoteMalformed, |r| r.certification_excess = 1),
        ("inner type 4", QuoteMalformed, |r| r.pck_certification_type = 4),
        ("inner type 6", QuoteMalformed, |r| r.pck_certification_type = 6),
        ("inner size", QuoteMalformed, |r| r.pck_excess = 1),
        ("a size into the padding", QuoteMalformed, |r| r.authentication_excess = 1),
        ("a size beyond the end", QuoteMalformed, |r| r.authentication_excess = 71),
        ("31 bytes beside the key", QuoteMalformed, |r| r.qe_authentication = vec![0; 31]),
        ("33 bytes beside the key", QuoteMalformed, |r| r.qe_authentication = vec![0; 33]),
        ("nothing beside the key", QuoteMalformed, |r| r.qe_authentication = vec![]),
        ("a byte behind it", Reason::TrailingBytes, |r| r.padding = vec![1]),
        ("a byte behind zeros", Reason::TrailingBytes, |r| r.padding[69] = 1),
        ("too long", Reason::EvidenceTooLarge, |r| r.padding = vec![0; 64 * 1024]),
    ]);
    for (body_type, size) in [(1, None), (5, None), (3, Some(584)), (2, Some(648))] {
        let mut recipe = Recipe::version_5(2);
        recipe.body_type = body_type;
        recipe.body_size = size;
        assert_eq!(refused(&recipe).reason(), QuoteMalformed, "body type {body_type}");
    }
}

#[test]
fn a_chain_that_is_not_of_its_form_is_refused() {
    matrix(&[
        ("no chain", Reason::ChainMissing, |r| r.chain_text = Some(String::new())),
        ("no root", Reason::ChainBroken, |r| r.chain.truncate(2)),
        ("the leaf twice", Reason::ChainBroken, |r| r.chain.insert(0, forge::pck())),
        ("five", Reason::CertMalformed, |r| r.chain = vec![forge::ca(); 5]),
        ("another order", Reason::ChainBroken, |r| r.chain.swap(0, 1)),
        ("a foreign root", Reason::RootNotTrusted, |r| r.chain[2] = forge::foreign_root()),
        ("another CA's key", Reason::ChainBroken, |r| r.chain[1].key = Holder::Stranger),
        ("a CA signed by nobody", Reason::ChainBroken, |r| r.chain[1].signer = Holder::Stranger),
        ("a leaf signed by nobody", Reason::ChainBroken, |r| r.chain[0].signer = Holder::Stranger),
        ("a CA that is none", Reason::IssuerNotCa, |r| r.chain[1].is_ca = false),
        ("a leaf of another name", Reason::ChainBroken, |r| r.chain[0].name = forge::TCB_NAME),
        ("a CA of another name", Reason::ChainBroken, |r| {
            r.chain[1].name = "Intel SGX PCK Shadow CA";
            r.chain[0].issuer_name = "Intel SGX PCK Shadow CA";
        }),
        ("a leaf out of date", Reason::CertExpired, |r| r.chain[0].until = "260615115959Z"),
        ("a leaf of tomorrow", Reason::CertExpired, |r| r.chain[0].from = "260615120001Z"),
        ("a CA out of date", Reason::CertExpired, |r| r.chain[1].until = "260101000000Z"),
        ("a critical extension", Reason::ChainBroken, |r| {
            r.chain[0].extensions.push(forge::extension(&[0x55, 0x1d, 99], true, &[5, 0]));
        }),
        ("the extension twice", Reason::CertMalformed, |r| {
            r.chain[0].extensions.push(forge::extension(forge::SGX, false, &[0x30, 0]));
        }),
    ]);
}

#[test]
fn the_text_of_a_chain_has_one_form() {
    let text = Recipe::new().pem(&[forge::pck(), forge::ca(), forge::root()]);
    let changes: [(&str, String); 9] = [
        ("words before it", format!("Bag Attributes\n{text}")),
        ("an empty line", text.replacen("-----\n-----", "-----\n\n-----", 1)),
        ("an empty line at the end", format!("{text}\n")),
        ("two NULs", format!("{text}\0")),
        ("a space", text.replacen("-----\nMII", "-----\n MII", 1)),
        ("a mixed line end", text.replacen("-----\nMII", "-----\r\nMII", 1)),
        ("lines joined", text.replacen("\n", "", 3).replacen("-----MII", "-----\nMII", 1)),
        ("another label", text.replace("CERTIFICATE", "X509 CERTIFICATE")),
        ("cut", text[..text.len() - 30].to_owned()),
    ];
    for (name, changed) in changes {
        assert_ne!(changed, text, "{name}");
        let recipe = Recipe::with(|r| r.chain_text = Some(changed + "\0"));
        assert_eq!(refused(&recipe).reason(), Reason::CertMalformed, "{name}");
    }
    for accepted in [text.clone(), text.trim_end().to_owned(), text.replace('\n', "\r\n")] {
        let evidence = Recipe::with(|r| r.chain_text = Some(accepted)).build();
        let roots = std::slice::from_ref(&evidence.root);
        verify(&evidence, roots, forge::NOW).expect("the strict form");
    }
}

#[test]
fn a_platform_that_its_certificate_does_not_name_is_refused() {
    use Reason::CertMalformed;
    matrix(&[
        ("a short PPID", CertMalformed, |r| r.ppid.truncate(15)),
        ("a long FMSPC", CertMalformed, |r| r.fmspc.push(0)),
        ("no PCE ID", CertMalformed, |r| r.pce_id.clear()),
        ("a short PIID", CertMalformed, |r| r.piid = Some(vec![1; 15])),
        ("an unknown type", CertMalformed, |r| r.sgx_type = 3),
    ]);
}

#[test]
fn what_was_revoked_is_refused() {
    matrix(&[
        ("the PCK", Reason::CertRevoked, |r| r.pck_crl.revoked = vec![9, 4]),
        ("the PCK's CA", Reason::CertRevoked, |r| r.root_crl.revoked = vec![2]),
        ("the TCB signing key", Reason::CertRevoked, |r| r.root_crl.revoked = vec![3]),
        ("a list by nobody", Reason::CrlInvalid, |r| r.pck_crl.signer = Holder::Stranger),
        ("a list by the root", Reason::CrlInvalid, |r| r.pck_crl.signer = Holder::Root),
        ("a root list by nobody", Reason::CrlInvalid, |r| r.root_crl.signer = Holder::Stranger),
        ("a root list by the CA", Reason::CrlInvalid, |r| r.root_crl = forge::CRL),
        ("a list of another CA", Reason::CrlInvalid, |r| {
            r.pck_crl.issuer_name = "Intel SGX PCK Processor CA";
        }),
        ("lists of the other CA", Reason::CrlInvalid, |r| {
            let name = "Intel SGX PCK Processor CA";
            r.crl_chain[0] = Cert { name, key: Holder::Stranger, ..forge::ca() };
            r.pck_crl = Crl { issuer_name: name, signer: Holder::Stranger, ..forge::CRL };
        }),
        ("an old list", Reason::CrlStale, |r| r.pck_crl.until = "260615115959Z"),
        ("an old root list", Reason::CrlStale, |r| r.root_crl.until = "260615115959Z"),
        ("a list of tomorrow", Reason::CollateralNotYetValid, |r| r.pck_crl.from = "260616000000Z"),
        ("no list", Reason::CrlInvalid, |r| {
            r.bundle = |text| replaced(&text, "pck_crl", json!(""));
        }),
        ("no root list", Reason::CrlInvalid, |r| {
            r.bundle = |text| replaced(&text, "root_ca_crl", json!(""));
        }),
        ("a list left out", Reason::CollateralMalformed, |r| {
            r.bundle = |text| {
                let mut bundle: serde_json::Value = serde_json::from_str(&text).unwrap();
                bundle.as_object_mut().unwrap().remove("pck_crl");
                bundle.to_string()
            };
        }),
    ]);
}

#[test]
fn what_others_signed_is_refused() {
    matrix(&[
        ("a quote by nobody", Reason::QuoteSignatureInvalid, |r| r.quote_signer = Holder::Stranger),
        ("a quote by the PCK", Reason::QuoteSignatureInvalid, |r| r.quote_signer = Holder::Pck),
        ("a QE by nobody", Reason::QeReportSignatureInvalid, |r| r.qe_signer = Holder::Stranger),
        ("a QE by the CA", Reason::QeReportSignatureInvalid, |r| r.qe_signer = Holder::Ca),
        ("TCB info by nobody", Reason::CollateralSignatureInvalid, |r| {
            r.tcb_info_signer = Holder::Stranger;
        }),
        ("QE identity by nobody", Reason::CollateralSignatureInvalid, |r| {
            r.qe_identity_signer = Holder::Stranger;
        }),
        ("TCB info by the root", Reason::CollateralSignatureInvalid, |r| {
            r.tcb_info_signer = Holder::Root;
        }),
        ("TCB info by the PCK CA", Reason::CollateralSignatureInvalid, |r| {
            r.tcb_info_signer = Holder::Ca;
            r.tcb_chain = vec![forge::ca(), forge::root()];
        }),
        ("QE identity by a leaf of another name", Reason::CollateralSignatureInvalid, |r| {
            r.qe_chain[0].name = forge::PCK_NAME;
        }),
        ("TCB info under a foreign root", Reason::RootNotTrusted, |r| {
            r.tcb_chain[0].signer = Holder::ForeignRoot;
            r.tcb_chain[1] = forge::foreign_root();
        }),
        ("lists under a foreign root", Reason::RootNotTrusted, |r| {
            r.crl_chain[0].signer = Holder::ForeignRoot;
            r.crl_chain[1] = forge::foreign_root();
            r.root_crl.signer = Holder::ForeignRoot;
        }),
        ("TCB info's signer out of date", Reason::CertExpired, |r| {
            r.tcb_chain[0].until = "260101000000Z";
        }),
        ("TCB info's signature cut", Reason::CollateralSignatureInvalid, |r| {
            r.bundle = |text| replaced(&text, "tcb_info_signature", json!("00".repeat(63)));
        }),
        ("TCB info with one more space", Reason::CollateralSignatureInvalid, |r| {
            r.bundle = |text| text.replacen(r#""tcb_info":"{"#, r#""tcb_info":"{ "#, 1);
        }),
    ]);
}

#[test]
fn a_key_that_the_quoting_enclave_does_not_name_is_refused() {
    matrix(&[
        ("another hash", Reason::QeBinding, |r| r.qe_report_data = Some([1; 64])),
        ("a byte behind the hash", Reason::QeBinding, |r| {
            let evidence = r.build();
            let offset = 48 + 584 + 4 + 128 + 6 + 320;
            let mut data: [u8; 64] = evidence.quote[offset..offset + 64].try_into().unwrap();
            data[63] = 1;
            r.qe_report_data = Some(data);
        }),
    ]);
}

#[test]
fn dates_count_to_the_second_and_both_ends_are_inside() {
    let evidence = Recipe::with(|r| {
        r.tcb_info["issueDate"] = json!("2026-06-02T00:00:00Z");
        r.qe_identity["nextUpdate"] = json!("2026-06-30T00:00:00Z");
    })
    .build();
    let roots = std::slice::from_ref(&evidence.root);
    let at = |now: &str| verify(&evidence, roots, now).map_err(|faults| faults.reason()).err();
    assert_eq!(at("2026-06-01T23:59:59Z"), Some(Reason::CollateralNotYetValid));
    assert_eq!(at("2026-06-02T00:00:00Z"), None);
    assert_eq!(at("2026-06-30T00:00:00Z"), None);
    assert_eq!(at("2026-06-30T00:00:01Z"), Some(Reason::CollateralExpired));
    let faults = verify(&evidence, roots, "2026-07-02T00:00:00Z").unwrap_err();
    let reasons: Vec<Reason> = faults.iter().map(|fault| fault.reason()).collect();
    use Reason::CollateralExpired as Expired;
    use Reason::CrlStale as Stale;
    assert_eq!(reasons, [Expired, Expired, Stale, Stale], "both documents and both lists");
}

#[test]
fn parts_of_different_machines_are_refused() {
    matrix(&[
        ("FMSPC", Reason::FmspcMismatch, |r| r.tcb_info["fmspc"] = json!("90C06F000001")),
        ("PCE ID", Reason::PceidMismatch, |r| r.tcb_info["pceId"] = json!("0001")),
        ("the PCK chain of another", Reason::PckChainMismatch, |r| {
            let other = Cert { serial: 5, ..forge::pck() };
            r.pck_certificate_chain = Some(vec![other, forge::ca(), forge::root()]);
        }),
        ("QE signer", Reason::QeIdentityMismatch, |r| r.set_qe(forge::QE_MRSIGNER, &[0])),
        ("QE product", Reason::QeIdentityMismatch, |r| r.set_qe(forge::QE_PRODUCT, &[1])),
        ("QE miscselect", Reason::QeIdentityMismatch, |r| r.set_qe(forge::QE_MISCSELECT, &[1])),
        ("QE debug", Reason::QeIdentityMismatch, |r| r.set_qe(forge::QE_ATTRIBUTES, &[0x13])),
        ("QE attributes", Reason::QeIdentityMismatch, |r| r.set_qe(forge::QE_ATTRIBUTES, &[1])),
        ("QE debug where the mask leaves it open", Reason::QeIdentityMismatch, |r| {
            r.qe_identity["attributesMask"] = json!("F9FFFFFFFFFFFFFF0000000000000000");
            r.set_qe(forge::QE_ATTRIBUTES, &[0x13]);
        }),
        ("module signer", Reason::TdxModuleMismatch, |r| r.set(forge::MRSIGNERSEAM, &[1])),
        ("module attributes", Reason::TdxModuleMismatch, |r| r.set(forge::SEAM_ATTRIBUTES, &[1])),
        ("module version", Reason::TdxModuleMismatch, |r| r.set(forge::TEE_TCB_SVN, &[7, 2])),
        ("the signer of module 0", Reason::TdxModuleMismatch, |r| {
            r.set(forge::TEE_TCB_SVN, &[7, 0]);
            r.tcb_info["tdxModule"]["mrsigner"] = json!("01".repeat(48));
        }),
        ("report data", Reason::ReportDataMismatch, |r| r.set(forge::REPORT_DATA + 63, &[0])),
    ]);
    let mut recipe = Recipe::version_5(3);
    recipe.set(forge::TEE_TCB_SVN2, &[7, 2, 5]);
    assert_eq!(refused(&recipe).reason(), Reason::TdxModuleMismatch);
}

#[test]
fn documents_that_are_not_of_their_form_are_malformed() {
    use Reason::CollateralMalformed;
    matrix(&[
        ("no JSON", CollateralMalformed, |r| r.bundle = |_| "quote".into()),
        ("nothing", CollateralMalformed, |r| r.bundle = |_| String::new()),
        ("a list", CollateralMalformed, |r| r.bundle = |text| format!("[{text}]")),
        ("two bundles", CollateralMalformed, |r| r.bundle = |text| format!("{text}{text}")),
        ("a key twice", CollateralMalformed, |r| {
            r.bundle = |text| text.replacen('{', r#"{"pck_crl":"","#, 1);
        }),
        ("a key twice, once escaped", CollateralMalformed, |r| {
            r.bundle = |text| text.replacen('{', r#"{"pck\u005fcrl":"","#, 1);
        }),
        ("an unused key twice, deep down", CollateralMalformed, |r| {
            r.bundle = |text| text.replacen('{', r#"{"more":[{"a":1,"a":1}],"#, 1);
        }),
        ("too deep", CollateralMalformed, |r| {
            r.bundle = |text| {
                let deep = "[".repeat(200) + &"]".repeat(200);
                text.replacen('{', &format!(r#"{{"more":{deep},"#), 1)
            };
        }),
        ("too large", Reason::EvidenceTooLarge, |r| {
            r.bundle = |text| text + &" ".repeat(1024 * 1024);
        }),
        ("a key twice in TCB info", CollateralMalformed, |r| {
            let text = r.tcb_info.to_string();
            r.tcb_info_text = Some(text.replacen('{', r#"{"tcbType":0,"#, 1));
        }),
        ("a key twice within a level", CollateralMalformed, |r| {
            let text = r.tcb_info.to_string();
            let twice = text.replacen(r#""pcesvn":"#, r#""pcesvn":0,"pcesvn":"#, 1);
            r.tcb_info_text = Some(twice);
        }),
        ("SGX's TCB info", CollateralMalformed, |r| r.tcb_info["id"] = json!("SGX")),
        ("TCB info 2", CollateralMalformed, |r| r.tcb_info["version"] = json!(2)),
        ("TCB type 1", CollateralMalformed, |r| r.tcb_info["tcbType"] = json!(1)),
        ("SGX's QE", CollateralMalformed, |r| r.qe_identity["id"] = json!("QE")),
        ("QE identity 3", CollateralMalformed, |r| r.qe_identity["version"] = json!(3)),
        ("a short FMSPC", CollateralMalformed, |r| r.tcb_info["fmspc"] = json!("90C06F0000")),
        ("an unknown status", CollateralMalformed, |r| {
            r.tcb_info["tcbLevels"][0]["tcbStatus"] = json!("Fine");
        }),
        ("a status that no document may say", CollateralMalformed, |r| {
            r.tcb_info["tcbLevels"][0]["tcbStatus"] = json!("TDRelaunchAdvised");
        }),
        ("no level at all, said as such", CollateralMalformed, |r| {
            r.tcb_info["tcbLevels"][0]["tcbStatus"] = json!("none");
        }),
        ("15 components", CollateralMalformed, |r| {
            r.tcb_info["tcbLevels"][0]["tcb"]["sgxtcbcomponents"].as_array_mut().unwrap().pop();
        }),
        ("17 components", CollateralMalformed, |r| {
            let tcb = &mut r.tcb_info["tcbLevels"][0]["tcb"];
            tcb["tdxtcbcomponents"].as_array_mut().unwrap().push(json!({"svn": 0}));
        }),
        ("an SVN of 256", CollateralMalformed, |r| {
            r.tcb_info["tcbLevels"][0]["tcb"]["tdxtcbcomponents"][0]["svn"] = json!(256);
        }),
        ("a negative PCE SVN", CollateralMalformed, |r| {
            r.tcb_info["tcbLevels"][0]["tcb"]["pcesvn"] = json!(-1);
        }),
        ("a local time", CollateralMalformed, |r| {
            r.tcb_info["issueDate"] = json!("2026-06-01T00:00:00+02:00");
        }),
        ("no date", CollateralMalformed, |r| r.qe_identity["nextUpdate"] = json!("soon")),
        ("129 levels", CollateralMalformed, |r| {
            let level = r.tcb_info["tcbLevels"][0].clone();
            r.tcb_info["tcbLevels"] = json!(vec![level; 129]);
        }),
        ("257 advisories", CollateralMalformed, |r| {
            r.tcb_info["tcbLevels"][0]["advisoryIDs"] = json!(vec!["INTEL-SA-00001"; 257]);
        }),
        ("a chain that is no PEM", CollateralMalformed, |r| {
            r.bundle = |text| replaced(&text, "tcb_info_issuer_chain", json!("MIIB"));
        }),
        ("a signature that is no hex", CollateralMalformed, |r| {
            r.bundle = |text| replaced(&text, "tcb_info_signature", json!("xx"));
        }),
    ]);
}

#[test]
fn a_root_that_nobody_gave_is_not_trusted() {
    let evidence = Recipe::new().build();
    let found = verify(&evidence, &[], forge::NOW).unwrap_err();
    assert_eq!(found.reason(), Reason::RootNotTrusted);
    // Its three chains and the quote's own.
    let reasons: Vec<Reason> = found.iter().map(|fault| fault.reason()).collect();
    assert_eq!(reasons, [Reason::RootNotTrusted; 4]);
    let foreign = Certificate::parse_set(Recipe::new().pem(&[forge::foreign_root()]).as_bytes());
    let found = verify(&evidence, &foreign.unwrap(), forge::NOW).unwrap_err();
    assert_eq!(found.reason(), Reason::RootNotTrusted);
}

#[test]
fn two_roots_are_not_mixed_though_both_are_trusted() {
    let recipe = Recipe::with(|r| {
        r.tcb_chain[0].signer = Holder::ForeignRoot;
        r.tcb_chain[1] = forge::foreign_root();
    });
    let evidence = recipe.build();
    let foreign = recipe.pem(&[forge::foreign_root()]);
    let mut roots = Certificate::parse_set(foreign.as_bytes()).unwrap();
    roots.push(evidence.root.clone());
    let found = verify(&evidence, &roots, forge::NOW).unwrap_err();
    assert_eq!(found.reason(), Reason::ChainBroken, "{found:?}");
}

#[test]
fn an_earlier_fault_is_told_before_a_later_one_and_all_are_told() {
    let faults = refused(&Recipe::with(|r| {
        r.set(forge::REPORT_DATA, &[0]);
        r.set(forge::MRSIGNERSEAM, &[1]);
        r.tcb_info["pceId"] = json!("0001");
        r.tcb_info["fmspc"] = json!("000000000000");
        r.pck_crl.until = "260610000000Z";
        r.qe_identity["nextUpdate"] = json!("2026-06-10T00:00:00Z");
        r.quote_signer = Holder::Stranger;
        r.qe_report_data = Some([0; 64]);
    }));
    let reasons: Vec<&str> = faults.iter().map(|fault| fault.reason().code()).collect();
    assert_eq!(
        reasons,
        [
            "qe-binding",
            "quote-signature-invalid",
            "collateral-expired",
            "crl-stale",
            "report-data-mismatch",
            "fmspc-mismatch",
            "pceid-mismatch",
            "tdx-module-mismatch",
        ]
    );
}

#[test]
fn what_was_remembered_is_not_believed_of_others() {
    let evidence = Recipe::new().build();
    let roots = std::slice::from_ref(&evidence.root);
    let expected = Expected::at(forge::now());
    let cache = CollateralCache::new(2);
    let verify = |quote: &[u8], collateral: &[u8], roots: &[Certificate]| {
        assay_tdx::verify_with(quote, collateral, roots, &expected, &cache)
    };
    verify(&evidence.quote, &evidence.collateral, roots).unwrap();
    assert_eq!(cache.len(), 1);
    // The same bundle without its root, and the same platform with another quote.
    verify(&evidence.quote, &evidence.collateral, &[]).unwrap_err();
    let forged = Recipe::with(|r| r.qe_signer = Holder::Stranger).build();
    let found = verify(&forged.quote, &evidence.collateral, roots).unwrap_err();
    assert_eq!(found.reason(), Reason::QeReportSignatureInvalid);
    // Another signature over the QE report that was remembered.
    let mut other = evidence.quote.clone();
    other[48 + 584 + 4 + 128 + 6 + 384 + 40] ^= 1;
    let found = verify(&other, &evidence.collateral, roots).unwrap_err();
    assert_eq!(found.reason(), Reason::QeReportSignatureInvalid);
    // A remembered bundle does not outlive its dates.
    let late = Expected { now: Time::parse_rfc3339("2026-07-02T00:00:00Z").unwrap(), ..expected };
    let (quote, bundle) = (&evidence.quote, &evidence.collateral);
    let found = assay_tdx::verify_with(quote, bundle, roots, &late, &cache).unwrap_err();
    assert_eq!(found.reason(), Reason::CollateralExpired);
    // A platform that a later list revokes is not remembered from the earlier one.
    let revoking = Recipe::with(|r| r.pck_crl.revoked = vec![4]).build();
    let found = verify(&evidence.quote, &revoking.collateral, roots).unwrap_err();
    assert_eq!(found.reason(), Reason::CertRevoked);
    assert_eq!(cache.len(), 2);
}

fn replaced(text: &str, key: &str, value: serde_json::Value) -> String {
    let mut bundle: serde_json::Value = serde_json::from_str(text).unwrap();
    bundle[key] = value;
    bundle.to_string()
}
