//! The client against a simulator in an ordinary folder: see `support/simulator.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/simulator.rs"]
mod simulator;

use assay_tsm::Error;
use assay_tsm::Provider;
use assay_tsm::Request;
use assay_tsm::Service;
use assay_tsm::Tsm;
use simulator::Platform;
use simulator::Simulator;

/// A platform that gives the report data back.
fn echo() -> Platform {
    Platform {
        provider: "sev_guest",
        privilege_floor: None,
        answer: Box::new(|data, level| (data.to_vec(), format!("level {level}").into_bytes())),
        interfere: 0,
    }
}

fn request(report_data: &[u8]) -> Request<'_> {
    Request { report_data, privilege_level: None, service: None }
}

#[test]
fn a_report_comes_back_with_its_companions() {
    let simulator = Simulator::start(echo());
    let tsm = Tsm::at(simulator.folder());
    let found = tsm.collect(&request(&[7; 64])).unwrap();
    assert_eq!(found.provider, Provider::SevGuest);
    assert_eq!(found.report, [7; 64]);
    assert_eq!(found.auxiliary.as_deref(), Some(&b"level "[..]));
    assert_eq!(found.manifest, None);
    // Each call is a folder of its own.
    assert_eq!(tsm.collect(&request(&[8; 64])).unwrap().report, [8; 64]);
}

#[test]
fn a_privilege_level_is_asked_for_and_not_below_the_floor() {
    let simulator = Simulator::start(Platform { privilege_floor: Some(1), ..echo() });
    let tsm = Tsm::at(simulator.folder());
    let at = |level| tsm.collect(&Request { privilege_level: Some(level), ..request(b"x") });
    assert_eq!(at(2).unwrap().auxiliary.unwrap(), b"level 2");
    assert!(matches!(at(0), Err(Error::PrivilegeLevel { found: 0, floor: 1 })));
}

#[test]
fn a_service_brings_its_manifest() {
    let simulator = Simulator::start(echo());
    let guid = "c476f1eb-0123-45a5-9641-b4e7dde5bfe3";
    let service = Service { provider: "svsm", guid, manifest_version: None };
    let asked = Request { service: Some(service), ..request(b"x") };
    let found = Tsm::at(simulator.folder()).collect(&asked).unwrap();
    assert_eq!(found.manifest.unwrap(), b"a manifest");
}

#[test]
fn a_report_that_somebody_else_had_a_hand_in_is_asked_for_again() {
    let simulator = Simulator::start(Platform { interfere: 2, ..echo() });
    assert_eq!(Tsm::at(simulator.folder()).collect(&request(b"x")).unwrap().report, b"x");
    let simulator = Simulator::start(Platform { interfere: usize::MAX, ..echo() });
    let refused = Tsm::at(simulator.folder()).collect(&request(b"x"));
    assert!(matches!(refused, Err(Error::Interfered { found: 2, expected: 1 })), "{refused:?}");
}

#[test]
fn what_is_too_large_or_empty_is_refused() {
    let answering = |report: usize, auxiliary: usize| Platform {
        answer: Box::new(move |_, _| (vec![1; report], vec![1; auxiliary])),
        ..echo()
    };
    let collect = |platform| {
        let simulator = Simulator::start(platform);
        Tsm::at(simulator.folder()).collect(&request(b"x"))
    };
    let largest = collect(answering(32 * 1024, 64 * 1024)).unwrap();
    assert_eq!((largest.report.len(), largest.auxiliary.unwrap().len()), (32_768, 65_536));
    assert_eq!(collect(answering(1, 0)).unwrap().auxiliary, None);
    let refused = collect(answering(32 * 1024 + 1, 0));
    assert!(matches!(refused, Err(Error::TooLarge { name: "outblob", .. })));
    let refused = collect(answering(1, 64 * 1024 + 1));
    assert!(matches!(refused, Err(Error::TooLarge { name: "auxblob", .. })));
    assert!(matches!(collect(answering(0, 0)), Err(Error::Empty)));
}

#[test]
fn report_data_has_one_to_sixty_four_bytes() {
    let simulator = Simulator::start(echo());
    let tsm = Tsm::at(simulator.folder());
    for size in [0, 65] {
        let refused = tsm.collect(&request(&vec![1; size]));
        assert!(matches!(refused, Err(Error::ReportData { .. })));
    }
}

#[test]
fn a_kernel_that_offers_nothing_says_so() {
    let tsm = Tsm::at("/nowhere/tsm/report");
    assert!(!tsm.is_offered());
    assert!(matches!(tsm.collect(&request(b"x")), Err(Error::NotOffered { .. })));
}

#[test]
fn several_clients_do_not_get_each_others_reports() {
    let simulator = Simulator::start(echo());
    std::thread::scope(|scope| {
        for client in 0..4_u8 {
            let tsm = Tsm::at(simulator.folder());
            scope.spawn(move || {
                for round in 0..5 {
                    let data = [client * 16 + round; 64];
                    assert_eq!(tsm.collect(&request(&data)).unwrap().report, data);
                }
            });
        }
    });
}
