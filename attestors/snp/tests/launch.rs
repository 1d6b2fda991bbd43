//! The predicted launch measurement: everything that goes in changes it, and an image that does not
//! say what is needed is refused. `oracle/` holds the values against another implementation.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/firmware.rs"]
mod firmware;

use assay_snp::launch::DirectBoot;
use assay_snp::launch::Launch;
use assay_snp::launch::LaunchError;
use assay_snp::launch::cpu_signature;
use assay_snp::launch::cpu_signature_of_model;
use assay_snp::launch::predict;
use firmware::HASHES;
use firmware::Image;
use firmware::METADATA;
use firmware::RESET;
use proptest::prelude::*;

fn launch(ovmf: &[u8]) -> Launch<'_> {
    let cpu_signature = cpu_signature_of_model("EPYC-Milan").unwrap();
    let direct =
        DirectBoot { kernel: b"a kernel", initrd: b"an initrd", command_line: COMMAND_LINE };
    Launch { ovmf, direct: Some(direct), processors: 2, cpu_signature, guest_features: 1 }
}

const COMMAND_LINE: &str = "console=ttyS0 quiet";
/// As the crate `sev` computes it for the same launch, one of those in `oracle/`.
const KNOWN: &str = "1bb341e04dd12617f8bb5916e08edb0b76670387a6d3a4d835bbf26b009dc48a623e5483e00f2f9a8f9dd9c5201bf6e8";

#[test]
fn a_launch_has_the_measurement_that_another_implementation_computes() {
    assert_eq!(hex::encode(predict(&launch(&Image::new().write())).unwrap()), KNOWN);
}

#[test]
fn everything_that_is_launched_changes_the_measurement() {
    let ovmf = Image::new().write();
    let base = launch(&ovmf);
    let direct = base.direct.unwrap();
    let mut changed_ovmf = ovmf.clone();
    changed_ovmf[5] ^= 1;
    let moved = Image::new().with(|image| image.sections[0].0 = 0x90_0000).write();
    let all = [
        base,
        Launch { ovmf: &changed_ovmf, ..base },
        Launch { ovmf: &moved, ..base },
        Launch { processors: 1, ..base },
        Launch { processors: 3, ..base },
        Launch { cpu_signature: cpu_signature(25, 17, 0), ..base },
        Launch { guest_features: 0x21, ..base },
        Launch { direct: None, ..base },
        Launch { direct: Some(DirectBoot { kernel: b"other", ..direct }), ..base },
        Launch { direct: Some(DirectBoot { initrd: b"", ..direct }), ..base },
        Launch { direct: Some(DirectBoot { command_line: "", ..direct }), ..base },
    ];
    let mut measurements: Vec<_> = all.iter().map(|launch| predict(launch).unwrap()).collect();
    measurements.sort_unstable();
    measurements.dedup();
    assert_eq!(measurements.len(), all.len());
}

#[test]
fn models_have_the_signatures_that_cpuid_shows() {
    assert_eq!(cpu_signature_of_model("EPYC-Milan-v2"), Some(0x00a0_0f11));
    assert_eq!(cpu_signature_of_model("EPYC-Genoa"), Some(0x00a1_0f10));
    assert_eq!(cpu_signature_of_model("EPYC-Rome"), Some(0x0083_0f10));
    assert_eq!(cpu_signature_of_model("Skylake"), None);
    assert_eq!(cpu_signature(6, 0, 1), 0x0000_0601);
}

#[test]
fn an_image_that_does_not_say_what_is_needed_is_refused() {
    let refused = |image: Image| predict(&launch(&image.write())).unwrap_err();
    let without = |name: &'static str| {
        Image::new().with(|image| image.entries.retain(|(other, _)| *other != name))
    };
    assert_eq!(refused(without(METADATA)), LaunchError::Missing("SEV metadata"));
    assert_eq!(refused(without(RESET)), LaunchError::Missing("reset block"));
    assert_eq!(refused(without(HASHES)), LaunchError::Missing("place for a table of hashes"));
    let section = |place, size, kind| {
        refused(Image::new().with(|image| image.sections.push((place, size, kind))))
    };
    assert_eq!(section(0x1000, 0x1000, 9), LaunchError::Section(9));
    assert_eq!(section(0x1001, 0x1000, 1), LaunchError::Malformed("metadata"));
    assert_eq!(section(0x1000, 0x1001, 1), LaunchError::Malformed("metadata"));
    assert_eq!(section(0x1000, 0xf000_0000, 1), LaunchError::Malformed("metadata"));
    let elsewhere = Image::new().with(|image| image.sections[5].0 = 0x82_0000);
    assert_eq!(refused(elsewhere), LaunchError::Malformed("table of hashes"));
    let twice = Image::new().with(|image| image.entries.push((RESET, vec![0; 4])));
    assert_eq!(refused(twice), LaunchError::Malformed("table of GUIDs"));

    let ovmf = Image::new().write();
    for length in [0, 1, 4095, 0x7fff] {
        assert!(matches!(predict(&launch(&ovmf[..length])), Err(LaunchError::Size { .. })));
    }
    assert_eq!(predict(&launch(&ovmf[..0x7000])), Err(LaunchError::NoTable));
    for processors in [0, 4097] {
        let many = Launch { processors, ..launch(&ovmf) };
        assert!(matches!(predict(&many), Err(LaunchError::Processors { .. })));
    }
    let direct = DirectBoot { kernel: b"", initrd: b"", command_line: "a\0b" };
    let zero = Launch { direct: Some(direct), ..launch(&ovmf) };
    assert_eq!(predict(&zero), Err(LaunchError::CommandLine));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_image_with_any_bytes_changed_is_measured_or_refused(
        places in proptest::collection::vec((0x7000..0x8000_usize, any::<u8>()), 0..20),
    ) {
        let mut ovmf = Image::new().write();
        for (place, byte) in places {
            ovmf[place] = byte;
        }
        let _ = predict(&Launch { processors: 1, ..launch(&ovmf) });
    }
}
