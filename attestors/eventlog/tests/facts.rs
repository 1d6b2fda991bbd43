//! What logs really bind, on real machines and under the hands of somebody who forges.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/corpus.rs"]
mod corpus;
#[path = "support/synthetic.rs"]
mod synthetic;

use assay_eventlog::Draft;
use assay_eventlog::EventType;
use assay_eventlog::Facts;
use assay_eventlog::Format;
use assay_eventlog::Grade;
use assay_eventlog::Grading;
use assay_eventlog::Log;
use assay_eventlog::Quirk;
use assay_eventlog::Quirks;
use assay_eventlog::Report;
use assay_eventlog::Rule;
use assay_eventlog::Value;
use assay_eventlog::variable::GLOBAL;
use assay_eventlog::variable::SECURITY_DATABASE;
use assay_eventlog::variable::SHIM_LOCK;
use assay_evidence::HashAlgorithm;
use assay_evidence::crypto;
use synthetic::CMDLINE;
use synthetic::Maker;
use synthetic::variable;

fn facts_with(log: &Log<'_>, preimages: &[&[u8]]) -> Facts {
    log.facts(&log.grade(&Grading { preimages, ..Grading::INSPECT }), preimages)
}

fn facts(draft: &Draft) -> Facts {
    let bytes = draft.write();
    let log = match draft.format {
        Format::Ccel => Log::parse_ccel(&bytes, None),
        _ => Log::parse(&bytes),
    };
    facts_with(&log.unwrap(), &[])
}

fn text(facts: &Facts, name: &str) -> String {
    match facts.texts(name) {
        [text] => text.clone(),
        texts => panic!("{name}: {texts:?}"),
    }
}

// --- real machines --------------------------------------------------------------------------

#[test]
fn a_unified_kernel_image_tells_its_command_line_to_whoever_knows_it() {
    let captures = corpus::captures();
    let mut count = 0;
    for capture in captures.iter().filter(|capture| capture.folder.join("cmdline.txt").is_file()) {
        let cmdline = std::fs::read(capture.folder.join("cmdline.txt")).unwrap();
        let expected = std::str::from_utf8(&cmdline).unwrap().trim_end();
        let log = capture.log().unwrap();
        let facts = facts_with(&log, &[&cmdline]);
        if capture.name == "shim-grub-secureboot" {
            // GRUB says it by itself, with the kernel's path in front.
            assert!(text(&facts_with(&log, &[]), "boot.cmdline").starts_with("/vmlinuz console="));
            continue;
        }
        assert_eq!(text(&facts, "boot.cmdline"), expected, "{}", capture.name);
        // Another text is worth nothing.
        let other = [expected.as_bytes(), b" init=/bin/sh\n"].concat();
        assert_eq!(facts_with(&log, &[&other]).fact("boot.cmdline"), None, "{}", capture.name);
        assert_eq!(facts_with(&log, &[]).fact("boot.cmdline"), None, "{}", capture.name);
        count += 1;
    }
    println!("{count} command lines bound by what the host sent");
}

#[test]
fn the_sections_of_the_image_are_those_that_were_built() {
    let Some(folder) = corpus::corpus("qemu-ovmf-swtpm") else { return };
    let text = std::fs::read_to_string(folder.join("reference.json")).unwrap();
    let reference: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut count = 0;
    for capture in corpus::captures() {
        let Some(image) = reference["ukis"].get(&capture.name) else { continue };
        let facts = facts_with(&capture.log().unwrap(), &[]);
        let Some(Value::Sections(sections)) = facts.value("boot.uki") else { panic!() };
        let names: Vec<&str> = sections.iter().map(|section| section.name.as_str()).collect();
        assert_eq!(names, [".linux", ".osrel", ".cmdline", ".initrd"], "{}", capture.name);
        for section in sections {
            let built = image["sections"][&section.name]["sha256"].as_str().unwrap();
            assert_eq!(section.digests[&HashAlgorithm::Sha256], built, "{}", capture.name);
            count += 1;
        }
    }
    println!("{count} sections equal to those of the files");
}

#[test]
fn secure_boot_and_firmware_are_what_the_cases_say() {
    let cases = corpus::cases();
    let mut count = 0;
    for case in cases.iter().filter(|case| case.genuine) {
        let text = std::fs::read_to_string(case.folder.join("case.toml")).unwrap();
        let stated: toml::Value = toml::from_str(&text).unwrap();
        // A case names a variable without contents `empty`: off.
        let stated = match stated["claims"].get("secure_boot") {
            Some(stated) => stated.as_bool().unwrap(),
            None => stated["claims"].get("secure_boot_variable").is_none(),
        };
        let facts = facts_with(&case.log().unwrap(), &[]);
        assert_eq!(facts.flag("sb.enabled"), Some(stated), "{}", case.name);
        count += 1;
    }
    println!("{count} states of Secure Boot");
    let of = |name: &str| {
        let case = cases.iter().find(|case| case.name == name)?;
        Some(facts_with(&case.log().unwrap(), &[]))
    };
    let Some(lenovo) = of("hw-lenovo-n3vet") else { return };
    assert!(text(&lenovo, "fw.version").starts_with("N3VET59W"));
    assert_eq!(lenovo.signatures("sb.dbx").unwrap().len(), 482);
    let google = of("gce-ubuntu2404-snp").unwrap();
    assert_eq!(text(&google, "fw.version"), "GCE Virtual Firmware v2");
    assert_eq!(text(&google, "fw.gce_technology"), "sev-snp");
}

// --- forgery --------------------------------------------------------------------------------

#[test]
fn the_synthetic_machines_say_what_they_were_made_to_say() {
    let grub = facts(&synthetic::shim_and_grub());
    assert_eq!(text(&grub, "fw.version"), "SYNTH 1.0");
    assert_eq!(grub.flag("sb.enabled"), Some(true));
    assert_eq!(grub.flag("sb.mok_validation"), Some(true));
    assert_eq!(grub.signatures("sb.db").unwrap().len(), 2);
    let Some(Value::Authorities(signers)) = grub.value("sb.authority") else { panic!() };
    assert_eq!(signers.iter().map(|s| s.variable.as_str()).collect::<Vec<_>>(), ["db", "Shim"]);
    let Some(Value::Generations(sbat)) = grub.value("sb.sbat") else { panic!() };
    assert_eq!((sbat["sbat"], sbat["shim"]), (1, 4));
    assert_eq!(text(&grub, "boot.cmdline"), format!("/vmlinuz {CMDLINE}"));

    for draft in [synthetic::unified_kernel(), synthetic::confidential()] {
        let bytes = draft.write();
        let log = match draft.format {
            Format::Ccel => Log::parse_ccel(&bytes, Some(&synthetic::table())).unwrap(),
            _ => Log::parse(&bytes).unwrap(),
        };
        let found = facts_with(&log, &[b"nonsense", CMDLINE.as_bytes()]);
        assert_eq!(text(&found, "boot.cmdline"), CMDLINE);
        assert_eq!(found.fact("boot.cmdline").unwrap().events().len(), 2, "stub and kernel");
    }
}

#[test]
fn a_label_of_grub_moved_to_another_text_hides_nothing() {
    let mut draft = synthetic::shim_and_grub();
    let place = |draft: &Draft, label: &[u8]| {
        draft.events.iter().position(|e| e.data.starts_with(label)).unwrap()
    };
    // The real command line becomes a command; a command that failed becomes the command line.
    let (command, cmdline) = (place(&draft, b"grub_cmd:"), place(&draft, b"kernel_cmdline:"));
    draft.events[cmdline].data = format!("grub_cmd: /vmlinuz {CMDLINE}\0").into_bytes();
    let mut planted = draft.events[command].clone();
    let good = b"/vmlinuz quiet";
    planted.data = [b"kernel_cmdline: ", &good[..], &[0]].concat();
    for (id, digest) in &mut planted.digests {
        let bank = HashAlgorithm::from_tpm_id(*id).unwrap();
        *digest = crypto::hash(bank, &[good]).unwrap().as_bytes().to_vec();
    }
    draft.events.insert(command, planted);
    let found = facts(&draft);
    let texts = found.texts("boot.cmdline");
    assert_eq!(texts, ["/vmlinuz quiet".to_owned(), format!("/vmlinuz {CMDLINE}")]);
}

#[test]
fn load_options_that_root_measured_afterwards_explain_nothing() {
    let good = synthetic::wide("quiet\0");
    for kind in [EventType::EVENT_TAG, EventType::IPL] {
        let mut draft = synthetic::unified_kernel();
        let mut planted = draft.events.last().unwrap().clone();
        let digest = crypto::hash(HashAlgorithm::Sha256, &[&good]).unwrap();
        planted.digests[0].1 = digest.as_bytes().to_vec();
        (planted.register, planted.kind) = (9, kind);
        draft.events.push(planted);
        let bytes = draft.write();
        let log = Log::parse(&bytes).unwrap();
        assert_eq!(facts_with(&log, &[b"quiet"]).fact("boot.cmdline"), None);
        // Both are told where both texts are: each rule has to hold for each.
        let both = facts_with(&log, &[b"quiet", CMDLINE.as_bytes()]);
        assert_eq!(both.texts("boot.cmdline").len(), 2);
    }
}

#[test]
fn secure_boot_said_again_after_the_separator_is_not_believed() {
    let mut log = Maker::new(&[HashAlgorithm::Sha256]);
    let config = EventType::EFI_VARIABLE_DRIVER_CONFIG;
    log.variable(config, GLOBAL, "SecureBoot", &[0]);
    log.separator(7);
    log.variable(config, GLOBAL, "SecureBoot", &[1]);
    let mut draft = log.finish();
    assert_eq!(facts(&draft).flag("sb.enabled"), None, "two that contradict each other");
    // Calling the first one something else does not help.
    for kind in [EventType::EFI_ACTION, EventType::POST_CODE, EventType::EVENT_TAG, EventType::IPL]
    {
        draft.events[0].kind = kind;
        assert_eq!(facts(&draft).flag("sb.enabled"), None, "{kind}");
    }
    // Nor does taking its text away: off has only two digests.
    draft.events[0].data = b"text".to_vec();
    assert_eq!(facts(&draft).flag("sb.enabled"), None);
}

#[test]
fn two_lists_of_one_name_are_no_fact() {
    let mut draft = synthetic::shim_and_grub();
    let db = |e: &assay_eventlog::EventRecord| {
        e.kind == EventType::EFI_VARIABLE_DRIVER_CONFIG
            && e.data == variable(SECURITY_DATABASE, "db", &e.data[36..])
    };
    let place = draft.events.iter().position(db).unwrap();
    assert!(facts(&draft).signatures("sb.db").is_some());
    draft.events.insert(place, draft.events[place].clone());
    assert_eq!(facts(&draft).signatures("sb.db"), None);
}

#[test]
fn validation_that_shim_turned_off_is_off_under_any_label() {
    let mut log = Maker::new(&[HashAlgorithm::Sha256]);
    log.firmware();
    log.authorities();
    assert_eq!(facts(&log.finish()).flag("sb.mok_validation"), Some(true));

    let mut log = Maker::new(&[HashAlgorithm::Sha256]);
    log.firmware();
    log.authorities();
    log.variable(EventType::EFI_VARIABLE_AUTHORITY, SHIM_LOCK, "MokSBState", &[1]);
    let mut draft = log.finish();
    assert_eq!(facts(&draft).flag("sb.mok_validation"), Some(false));
    let last = draft.events.last_mut().unwrap();
    (last.kind, last.data) = (EventType::POST_CODE, b"ACPI DATA".to_vec());
    assert_eq!(facts(&draft).flag("sb.mok_validation"), Some(false));
}

#[test]
fn weakened_firmware_is_seen_under_any_label() {
    for (fact, said) in [
        ("boot.dma_protection_disabled", "DMA Protection Disabled"),
        ("boot.uefi_debug_mode", "UEFI Debug Mode"),
    ] {
        let mut log = Maker::new(&[HashAlgorithm::Sha256]);
        log.firmware();
        assert_eq!(facts(&log.finish()).flag(fact), Some(false));
        let mut log = Maker::new(&[HashAlgorithm::Sha256]);
        log.plain(7, EventType::EFI_ACTION, said.as_bytes());
        log.firmware();
        let mut draft = log.finish();
        assert_eq!(facts(&draft).flag(fact), Some(true));
        draft.events[0].kind = EventType::POST_CODE;
        draft.events[0].data = b"something else".to_vec();
        assert_eq!(facts(&draft).flag(fact), Some(true));
    }
}

#[test]
fn a_signer_is_not_hidden_by_another_type() {
    let mut draft = synthetic::shim_and_grub();
    let before = facts(&draft).value("sb.authority").cloned();
    let authority = EventType::EFI_VARIABLE_AUTHORITY;
    for event in draft.events.iter_mut().filter(|event| event.kind == authority) {
        event.kind = EventType::POST_CODE;
    }
    assert_eq!(facts(&draft).value("sb.authority").cloned(), before);
}

// --- grades ---------------------------------------------------------------------------------

#[test]
fn a_digest_of_a_reference_set_is_known_and_its_text_is_still_nobodys() {
    let bytes = synthetic::unified_kernel().write();
    let log = Log::parse(&bytes).unwrap();
    let image = crypto::hash(HashAlgorithm::Sha256, &[b"image"]).unwrap();
    let known = |digest: &assay_evidence::Digest| *digest == image;
    let grades = log.grade(&Grading { known: &known, ..Grading::INSPECT });
    assert_eq!(grades.counts().known, 1);
    let app = log.events().find(|event| event.digest(HashAlgorithm::Sha256) == Some(image));
    assert_eq!(grades.grade(app.unwrap().index()), Some(Grade::Known));
}

#[test]
fn a_text_has_to_be_bound_in_every_bank() {
    let mut draft = synthetic::shim_and_grub();
    let place = draft.events.iter().position(|e| e.kind == EventType::EFI_ACTION).unwrap();
    let graded = |draft: &Draft| {
        let bytes = draft.write();
        let log = Log::parse(&bytes).unwrap();
        let grades = log.grade(&Grading::INSPECT);
        (grades.grade(place + 1).unwrap(), grades.faults().len())
    };
    assert_eq!(graded(&draft), (Grade::Bound(Rule::Data), 0));
    // A collision in SHA-1 would not be enough, nor would one digest of another text.
    draft.events[place].digests[0].1[0] ^= 1;
    assert_eq!(graded(&draft), (Grade::Opaque, 1));
}

#[test]
fn firmware_that_does_not_bind_its_version_needs_its_quirk() {
    let mut draft = synthetic::unified_kernel();
    draft.events[0].data = b"another version".to_vec();
    let bytes = draft.write();
    let log = Log::parse(&bytes).unwrap();
    let strict = log.grade(&Grading { quirks: Quirks::NONE, ..Grading::INSPECT });
    assert!(strict.forged().iter().any(|fault| fault.to_string().contains("EV_S_CRTM_VERSION")));
    let allowed = log.grade(&Grading::INSPECT);
    assert_eq!(allowed.forged(), []);
    assert!(allowed.quirks().contains(Quirk::CrtmVersionUnbound));
    assert_eq!(facts(&draft).fact("fw.version"), None);
}

#[test]
fn actions_measured_after_the_log_was_taken_need_their_quirk() {
    let whole = synthetic::unified_kernel();
    let bytes = whole.write();
    let quoted = Log::parse(&bytes).unwrap().replay().registers().clone();
    let mut short = whole.clone();
    short.events.truncate(whole.events.len() - 2);
    let bytes = short.write();
    let replay = Log::parse(&bytes).unwrap().replay();
    assert_eq!(replay.compare(&quoted, &[], Quirks::NONE).faults.len(), 1);
    let allowed = replay.compare(&quoted, &[], Quirks::ALL);
    assert_eq!(allowed.faults, []);
    assert!(allowed.quirks.contains(Quirk::EbsPairMissing));
    // One event more missing is no longer that.
    short.events.retain(|event| event.kind != EventType::SEPARATOR || event.register != 5);
    let bytes = short.write();
    let replay = Log::parse(&bytes).unwrap().replay();
    assert_eq!(replay.compare(&quoted, &[], Quirks::ALL).faults.len(), 1);
}

#[test]
fn the_report_says_replay_before_text_and_what_it_did_not_ask() {
    let draft = synthetic::unified_kernel();
    let bytes = draft.write();
    let quoted = Log::parse(&bytes).unwrap().replay().registers().clone();
    let mut changed = draft.clone();
    let place = draft.events.iter().position(|e| e.kind == EventType::EFI_ACTION).unwrap();
    changed.events[place].digests[0].1[0] ^= 1;
    let bytes = changed.write();
    let log = Log::parse(&bytes).unwrap();
    let codes = |report: &Report| -> Vec<&'static str> {
        report.findings.iter().map(|finding| finding.code.code()).collect()
    };
    let report = Report::new(&log, &Grading::INSPECT, Some(&quoted), &[10]);
    assert_eq!(codes(&report), ["log-replay-mismatch", "log-event-unbound"]);
    let report = Report::new(&log, &Grading::INSPECT, None, &[]);
    assert_eq!(codes(&report), ["log-event-unbound"]);
    assert_eq!(report.not_checked, ["registers: no values given"]);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["format"], "tcg2-crypto-agile");
    assert_eq!(json["facts"]["sb.enabled"], true);
    assert_eq!(json["events"], draft.events.len());
    assert!(json["registers"]["sha256"]["7"].is_string());
}
