//! The collector against a SIMULATOR of configfs-tsm, with reports of the tests' own processor.

#![cfg(feature = "attest")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/forge.rs"]
mod forge;
#[path = "support/guest.rs"]
mod guest;
#[path = "../../tsm/tests/support/simulator.rs"]
mod simulator;

use assay_snp::Evidence;
use assay_snp::collect::CollectError;
use assay_snp::collect::collect;
use assay_snp::verify;
use assay_tsm::Tsm;
use forge::Machine;
use forge::NOW;

#[test]
fn what_is_collected_is_genuine_for_its_report_data_and_no_other() {
    for padding in [vec![], vec![0; 2816]] {
        let simulator = guest::start(Machine::milan(), "sev_guest", padding);
        let data = [0x42; 64];
        let found = collect(&Tsm::at(simulator.folder()), &data, Some(2)).unwrap();
        assert_eq!(found.report.len(), 1184);
        let evidence = Evidence {
            report: &found.report,
            host_certificates: found.host_certificates.as_deref(),
            ..Evidence::default()
        };
        let anchors = Machine::milan().show().anchors();
        let claims = verify(&evidence, &anchors, Some(&data), NOW).unwrap();
        assert_eq!(claims.vmpl(), 2);
        let other = verify(&evidence, &anchors, Some(&[0x43; 64]), NOW).unwrap_err();
        assert_eq!(other.reason().code(), "report-data-mismatch");
    }
}

#[test]
fn another_providers_report_and_one_of_another_size_are_refused() {
    let refused = |provider, padding| {
        let simulator = guest::start(Machine::milan(), provider, padding);
        collect(&Tsm::at(simulator.folder()), &[1; 64], None).unwrap_err()
    };
    assert!(matches!(refused("tdx_guest", vec![]), CollectError::Provider(_)));
    assert!(matches!(refused("sev_guest", vec![1]), CollectError::Size { found: 1185 }));
}
