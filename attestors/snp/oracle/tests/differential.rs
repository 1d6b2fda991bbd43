//! Ours and `sev`'s verdict side by side: real reports, every bit of each signed region that both
//! look at, reports of the tests' own processor, and launch measurements.

#[path = "../../tests/support/corpus.rs"]
mod corpus;
#[path = "../../tests/support/firmware.rs"]
mod firmware;

use std::path::PathBuf;

use assay_snp::Anchors;
use assay_snp::Evidence;
use assay_snp::Product;
use assay_snp::launch::DirectBoot;
use assay_snp::launch::Launch;
use assay_snp::launch::cpu_signature_of_model;
use assay_snp::launch::predict;
use firmware::Image;
use sev::certs::snp::Certificate;
use sev::certs::snp::Chain;
use sev::certs::snp::Verifiable;
use sev::certs::snp::ca;
use sev::firmware::guest::AttestationReport;
use sev::measurement::snp::SnpMeasurementArgs;
use sev::measurement::snp::snp_calc_launch_digest;
use sev::measurement::vcpu_types::CpuType;
use sev::measurement::vmsa::GuestFeatures;
use sev::measurement::vmsa::VMMType;
use sev::parser::ByteParser;

/// `sev`'s verdict on a report, its certificate and AMD's authorities for the product.
fn theirs(report: &[u8], vek: &[u8], ark: &[u8], issuer: &[u8]) -> bool {
    let certificate = |der: &[u8]| Certificate::from_der(der).ok();
    let (Some(vek), Some(ark), Some(ask)) =
        (certificate(vek), certificate(ark), certificate(issuer))
    else {
        return false;
    };
    let chain = Chain { ca: ca::Chain { ark, ask }, vek };
    let Ok(report) = AttestationReport::from_bytes(report) else { return false };
    (&chain).verify().is_ok() && (&chain, &report).verify().is_ok()
}

#[test]
fn the_verdicts_on_real_reports_are_the_same() {
    let Some(folder) = corpus::folder("snp") else { return };
    let authority = |product: Product, name: &str| {
        let file = format!("{}-{name}.der", product.as_str().to_lowercase());
        std::fs::read(folder.join("snp-amd-ca").join(file)).unwrap()
    };
    let (mut reports, mut flips, mut stricter) = (0, 0, 0);
    for case in corpus::cases("snp") {
        let (Some(report), Some(vek)) = (case.file("report"), case.file("vek")) else { continue };
        let anchors = Anchors::amd();
        let ours = |report: &[u8]| {
            let evidence = Evidence { report, vek: Some(&vek), ..Evidence::default() };
            assay_snp::verify(&evidence, &anchors, None, case.at()).is_ok()
        };
        let product = Product::from_name(case.claims()["product"].as_str().unwrap()).unwrap();
        let vlek = case.claims()["signing_key"].as_str() == Some("VLEK");
        let issuer = authority(product, if vlek { "asvk" } else { "ask" });
        let ark = authority(product, "ark");
        assert_eq!(ours(&report), theirs(&report, &vek, &ark, &issuer), "{}", case.id);
        reports += 1;
        // One bit of every byte: wherever ours accepts, theirs does; the reverse is counted.
        let mut changed = report.clone();
        for place in (0..report.len()).step_by(16) {
            changed[place] ^= 1;
            let (own, other) = (ours(&changed), theirs(&changed, &vek, &ark, &issuer));
            assert!(!own || other, "{}: byte {place:#x}", case.id);
            stricter += usize::from(other && !own);
            changed[place] ^= 1;
            flips += 1;
        }
    }
    println!("{reports} reports alike; of {flips} flips ours refuses {stricter} more");
}

#[test]
fn the_launch_measurements_are_the_same() {
    let folder = std::env::temp_dir().join(format!("assay-snp-oracle-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let images = [
        Image::new(),
        Image::new().with(|image| image.size = 0x2_0000),
        Image::new().with(|image| image.sections.remove(4).0 = 0),
        Image::new().with(|image| image.sections.swap(0, 3)),
    ];
    let models = [
        ("EPYC", CpuType::Epyc),
        ("EPYC-Rome", CpuType::EpycRome),
        ("EPYC-Milan", CpuType::EpycMilan),
        ("EPYC-Genoa", CpuType::EpycGenoa),
    ];
    let mut compared = 0;
    for image in &images {
        let ovmf = image.write();
        for (name, model) in models {
            for processors in [1, 2, 5] {
                for command_line in [None, Some(""), Some("console=ttyS0 quiet")] {
                    let (kernel, initrd) = (b"a kernel", b"an initrd");
                    let theirs = snp_calc_launch_digest(SnpMeasurementArgs {
                        vcpus: processors,
                        vcpu_type: model,
                        ovmf_file: file("ovmf", &ovmf),
                        guest_features: GuestFeatures(1),
                        kernel_file: command_line.map(|_| file("kernel", kernel)),
                        initrd_file: command_line.map(|_| file("initrd", initrd)),
                        append: command_line,
                        ovmf_hash_str: None,
                        vmm_type: Some(VMMType::QEMU),
                    });
                    let ours = predict(&Launch {
                        ovmf: &ovmf,
                        direct: command_line.map(|command_line| DirectBoot {
                            kernel,
                            initrd,
                            command_line,
                        }),
                        processors,
                        cpu_signature: cpu_signature_of_model(name).unwrap(),
                        guest_features: 1,
                    });
                    let theirs = theirs.unwrap().get_hex_ld();
                    assert_eq!(hex::encode(ours.unwrap()), theirs, "{name} {processors}");
                    compared += 1;
                }
            }
        }
    }
    let _ = std::fs::remove_dir_all(&folder);
    println!("{compared} launch measurements alike");
}
