//! `assay demo` as a user runs it: the whole story holds, and nothing is left behind.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;
use std::time::Duration;
use std::time::Instant;

fn skipped() -> bool {
    let missing = assay_swtpm::missing_programs();
    if !missing.is_empty() {
        eprintln!("SKIPPED: {} not installed (make test installs them)", missing.join(", "));
    }
    !missing.is_empty()
}

fn leftovers(of: u32) -> Vec<String> {
    let prefix = format!("assay-demo-{of}-");
    let entries = std::fs::read_dir(std::env::temp_dir()).unwrap();
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(&prefix)).collect()
}

/// Command lines of running processes that name the demo's folder.
fn running(of: u32) -> Vec<String> {
    let needle = format!("assay-demo-{of}-");
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(&needle) {
            found.push(line);
        }
    }
    found
}

#[test]
fn the_whole_story_holds_and_leaves_nothing_behind() {
    if skipped() {
        return;
    }
    let child = Command::new(env!("CARGO_BIN_EXE_assay"))
        .args(["demo", "--refresh", "2"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let id = child.id();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{talk}");
    for link in [
        "custody hw_tpm_certified",
        "host-a is node",
        "host-b is node",
        "host B accepts A's JWT-SVID",
        "B's chain verifies against A's bundle",
        "both certificates verified",
        "by grant `workload`",
        "host B refused",
        "register-mismatch",
        "A goes on undisturbed",
        "Every link held",
    ] {
        assert!(said.contains(link), "no `{link}` in:\n{said}\n{talk}");
    }
    assert_eq!(leftovers(id), Vec::<String>::new());
    assert_eq!(running(id), Vec::<String>::new());
}

#[test]
fn ctrl_c_leaves_nothing_behind() {
    if skipped() {
        return;
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_assay"))
        .args(["demo", "--keep"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let id = child.id();
    let deadline = Instant::now() + Duration::from_secs(60);
    while leftovers(id).is_empty() || running(id).len() < 2 {
        assert!(Instant::now() < deadline, "the demo did not start");
        std::thread::sleep(Duration::from_millis(50));
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(leftovers(id), Vec::<String>::new());
    assert_eq!(running(id), Vec::<String>::new());
}
