//! The relay against raw frames: what a client sees that opens the node as a file.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::File;
use std::fs::OpenOptions;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;
use std::time::Instant;

use assay_swtpm::Error;
use assay_swtpm::LocalCa;
use assay_swtpm::RunningTpm;
use assay_swtpm::SoftwareTpm;
use tempfile::TempDir;

/// One authority for all tests; each test has a TPM of its own.
fn ca() -> Option<&'static LocalCa> {
    static CA: OnceLock<Option<(TempDir, LocalCa)>> = OnceLock::new();
    let made = CA.get_or_init(|| {
        let missing = assay_swtpm::missing_programs();
        if !missing.is_empty() {
            eprintln!("SKIPPED: no software TPM without {}", missing.join(", "));
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let ca = LocalCa::create(folder.path().join("ca")).unwrap();
        Some((folder, ca))
    });
    made.as_ref().map(|(_, ca)| ca)
}

fn start(folder: &Path) -> Option<RunningTpm> {
    Some(SoftwareTpm::provision(ca()?, folder, "relay test").unwrap().start().unwrap())
}

fn open(tpm: &RunningTpm) -> File {
    OpenOptions::new().read(true).write(true).open(tpm.device()).unwrap()
}

fn ask(client: &mut File, frame: &[u8]) -> std::io::Result<Vec<u8>> {
    client.write_all(frame)?;
    let mut answer = vec![0; 4096];
    let count = client.read(&mut answer)?;
    answer.truncate(count);
    Ok(answer)
}

const RANDOM_8: [u8; 12] = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7b, 0, 8];
const RANDOM_16: [u8; 12] = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7b, 0, 16];
/// TPM2_HashSequenceStart: the cheapest way to a transient object.
const SEQUENCE: [u8; 14] = [0x80, 1, 0, 0, 0, 14, 0, 0, 1, 0x86, 0, 0, 0, 0x0b];
/// TPM2_PCR_Read, SHA-256, PCR 8.
const PCR_8: [u8; 20] = [0x80, 1, 0, 0, 0, 20, 0, 0, 1, 0x7e, 0, 0, 0, 1, 0, 0x0b, 3, 0, 1, 0];
const PERMANENT_ZERO: [u8; 32] = [0; 32];

fn pcr_8(client: &mut File) -> [u8; 32] {
    ask(client, &PCR_8).unwrap().last_chunk().copied().unwrap()
}

#[test]
fn a_client_gets_whole_answers_and_several_after_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let Some(tpm) = start(folder.path()) else { return };
    let mut client = open(&tpm);
    for _ in 0..50 {
        assert_eq!(ask(&mut client, &RANDOM_8).unwrap().len(), 20);
    }
    // In two pieces, and two at once.
    client.write_all(&RANDOM_8[..5]).unwrap();
    assert_eq!(ask(&mut client, &RANDOM_8[5..]).unwrap().len(), 20);
}

#[test]
fn the_next_client_gets_its_own_answer_and_an_empty_tpm() {
    let folder = tempfile::tempdir().unwrap();
    let Some(tpm) = start(folder.path()) else { return };
    for _ in 0..20 {
        let mut dying = open(&tpm);
        assert_eq!(ask(&mut dying, &SEQUENCE).unwrap().len(), 14);
        assert_eq!(tpm.loaded_handles().unwrap().len(), 1);
        dying.write_all(&RANDOM_8).unwrap(); // and never reads
        drop(dying);
        assert_eq!(tpm.loaded_handles().unwrap(), Vec::<u32>::new());
        let mut next = open(&tpm);
        assert_eq!(ask(&mut next, &RANDOM_16).unwrap().len(), 28);
    }
}

#[test]
fn what_is_no_command_does_no_harm_to_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let Some(tpm) = start(folder.path()) else { return };
    let mut client = open(&tpm);
    client.write_all(&[0xff; 64]).unwrap();
    drop(client);
    assert_eq!(ask(&mut open(&tpm), &RANDOM_8).unwrap().len(), 20);
}

#[test]
fn the_host_extends_beside_a_client_and_a_reboot_starts_anew() {
    let folder = tempfile::tempdir().unwrap();
    let Some(tpm) = start(folder.path()) else { return };
    let mut client = open(&tpm);
    assert_eq!(pcr_8(&mut client), PERMANENT_ZERO);
    tpm.pcr_extend(8, b"kernel command line").unwrap();
    let extended = pcr_8(&mut client);
    assert_ne!(extended, PERMANENT_ZERO);
    tpm.reset().unwrap();
    assert_eq!(pcr_8(&mut client), PERMANENT_ZERO);
    tpm.pcr_extend(8, b"kernel command line").unwrap();
    assert_eq!(pcr_8(&mut client), extended);
}

#[test]
fn too_long_an_event_is_refused_and_the_tpm_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let Some(tpm) = start(folder.path()) else { return };
    assert!(matches!(tpm.pcr_extend(8, &[0; 1025]), Err(Error::Malformed { .. })));
    assert!(matches!(tpm.pcr_extend(99, b"no such PCR"), Err(Error::Refused { .. })));
    tpm.pcr_extend(8, &[0; 1024]).unwrap();
}

#[test]
fn a_device_that_vanishes_in_the_middle_is_an_error_and_comes_back_under_its_address() {
    let folder = tempfile::tempdir().unwrap();
    let Some(tpm) = start(folder.path()) else { return };
    tpm.slow_down(Duration::from_secs(60)).unwrap();
    let mut client = open(&tpm);
    let asking = std::thread::spawn(move || ask(&mut client, &RANDOM_8));
    while tpm.loaded_handles().is_err() {}
    std::thread::sleep(Duration::from_millis(50));
    tpm.vanish().unwrap();
    assert!(asking.join().unwrap().is_err());
    assert!(OpenOptions::new().write(true).open(tpm.device()).is_err());
    tpm.slow_down(Duration::ZERO).unwrap();
    tpm.come_back().unwrap();
    assert_eq!(ask(&mut open(&tpm), &RANDOM_16).unwrap().len(), 28);
}

#[test]
fn a_slow_device_answers_late() {
    let folder = tempfile::tempdir().unwrap();
    let Some(tpm) = start(folder.path()) else { return };
    tpm.slow_down(Duration::from_millis(80)).unwrap();
    let (mut client, start) = (open(&tpm), Instant::now());
    assert_eq!(ask(&mut client, &RANDOM_8).unwrap().len(), 20);
    assert!(start.elapsed() >= Duration::from_millis(80));
}

/// libtss2 opens devices without O_CLOEXEC; swtpm, a child of the same process, must not keep a
/// copy whose late end looks like the end of the next client.
#[test]
fn a_client_in_our_own_process_is_not_kept_open_by_swtpm() {
    let folder = tempfile::tempdir().unwrap();
    let Some(tpm) = start(folder.path()) else { return };
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
    let inherited =
        || File::from(rustix::fs::open(tpm.device(), flags, rustix::fs::Mode::empty()).unwrap());
    for _ in 0..10 {
        let mut first = inherited();
        tpm.reset().unwrap();
        assert_eq!(ask(&mut first, &SEQUENCE).unwrap().len(), 14);
        drop(first);
        let mut second = inherited();
        assert_eq!(ask(&mut second, &SEQUENCE).unwrap().len(), 14);
        assert_eq!(tpm.loaded_handles().unwrap().len(), 1);
        tpm.reset().unwrap();
        assert_eq!(ask(&mut second, &RANDOM_8).unwrap().len(), 20);
    }
}

#[test]
fn a_clone_starts_beside_its_original_and_one_folder_starts_once() {
    let folder = tempfile::tempdir().unwrap();
    let Some(tpm) = start(&folder.path().join("a")) else { return };
    let clone = tpm.duplicate(folder.path().join("b"), "clone").unwrap().start().unwrap();
    assert_ne!(clone.tcti(), tpm.tcti());
    assert_eq!(ask(&mut open(&clone), &RANDOM_8).unwrap().len(), 20);
    assert!(matches!(tpm.tpm().start(), Err(Error::Program { .. })));
    assert_eq!(ask(&mut open(&tpm), &RANDOM_8).unwrap().len(), 20);
}

#[test]
fn nothing_is_left_when_the_handle_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let Some(tpm) = start(folder.path()) else { return };
    let device = tpm.device().to_owned();
    let node = std::fs::canonicalize(&device).unwrap();
    let mut client = open(&tpm);
    let at_rest = tpm.stop().unwrap();
    assert!(ask(&mut client, &RANDOM_8).is_err());
    drop(client);
    assert!(!device.is_symlink());
    assert!(!node.exists() || std::fs::read_link(&device).is_err());
    // The state is free for the next start: swtpm has ended, not only been told to.
    assert_eq!(ask(&mut open(&at_rest.start().unwrap()), &RANDOM_8).unwrap().len(), 20);
}

#[test]
fn a_folder_swtpm_cannot_be_told_of_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    if ca().is_none() {
        return;
    }
    let refused = LocalCa::create(folder.path().join("a,b"));
    assert!(matches!(refused, Err(Error::Path { .. })));
}

/// Not a test of its own: the process that the next one kills.
#[test]
#[ignore = "started by a_killed_parent_leaves_no_process"]
fn parent_that_waits_for_its_end() {
    let Some(folder) = std::env::var_os("ASSAY_SWTPM_TEST_FOLDER") else { return };
    let _tpm = start(Path::new(&folder)).unwrap();
    println!("started");
    loop {
        std::thread::park();
    }
}

#[test]
fn a_killed_parent_leaves_no_process() {
    let folder = tempfile::tempdir().unwrap();
    if ca().is_none() {
        return;
    }
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "parent_that_waits_for_its_end", "--ignored", "--nocapture"])
        .env("ASSAY_SWTPM_TEST_FOLDER", folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("started")));
    parent.kill().unwrap();
    parent.wait().unwrap();

    // swtpm locks its state: that another one starts shows that the first has gone.
    let at_rest = SoftwareTpm::provision(ca().unwrap(), folder.path(), "relay test").unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let tpm = loop {
        match at_rest.start() {
            Ok(tpm) => break tpm,
            Err(error) => assert!(Instant::now() < deadline, "still there: {error}"),
        }
    };
    assert_eq!(ask(&mut open(&tpm), &RANDOM_8).unwrap().len(), 20);
}

#[test]
fn a_client_that_opens_again_at_once_loses_no_command() {
    let folder = tempfile::tempdir().unwrap();
    let Some(tpm) = start(folder.path()) else { return };
    let (done, watchdog) = std::sync::mpsc::channel();
    let device = tpm.device().to_owned();
    std::thread::spawn(move || {
        for _ in 0..2000 {
            drop(OpenOptions::new().read(true).write(true).open(&device).unwrap());
            let mut client = OpenOptions::new().read(true).write(true).open(&device).unwrap();
            assert_eq!(ask(&mut client, &SEQUENCE).unwrap().len(), 14);
        }
        done.send(()).unwrap();
    });
    watchdog.recv_timeout(Duration::from_secs(60)).expect("a command or its answer was lost");
    assert_eq!(tpm.loaded_handles().unwrap(), Vec::<u32>::new());
}
