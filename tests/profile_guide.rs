//! Runs the commands of docs/guides/profiles.md on a capture of our own machines and holds their
//! output against the page: each line shown must be there, `…` standing for anything.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::Command;

use evidence::corpus;

#[path = "support/evidence.rs"]
mod evidence;

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Each part between `…` is there, in order.
fn fits(expected: &str, found: &str) -> bool {
    let (expected, found) = (words(expected), words(found));
    let mut rest = found.as_str();
    expected.split('…').map(str::trim).all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

#[test]
fn the_commands_of_the_guide_do_what_it_shows() {
    let Some(capture) = corpus("qemu-ovmf-swtpm/uki-baseline") else { return };
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("evidence")).unwrap();
    for (from, to) in [
        ("eventlog.bin", "eventlog.bin"),
        ("ima.bin", "ima.bin"),
        ("cmdline.txt", "cmdline.txt"),
        ("pcrs.yaml", "pcrs.yaml"),
    ] {
        std::fs::copy(capture.join(from), folder.path().join(to)).unwrap();
    }
    for name in ["eventlog.bin", "ima.bin", "cmdline.txt", "pcrs.yaml", "ak.pub", "nonce.hex"] {
        std::fs::copy(capture.join(name), folder.path().join("evidence").join(name)).unwrap();
    }
    for (from, to) in [("quote-sha256.msg", "quote.msg"), ("quote-sha256.sig", "quote.sig")] {
        std::fs::copy(capture.join(from), folder.path().join("evidence").join(to)).unwrap();
    }
    let page = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guides/profiles.md"),
    )
    .unwrap();
    let mut run = 0;
    for block in page.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next()) {
        for shown in block.split("$ assay ").skip(1) {
            let (command, expected) = shown.split_once('\n').unwrap();
            let output = Command::new(env!("CARGO_BIN_EXE_assay"))
                .args(command.split_whitespace())
                .current_dir(folder.path())
                .output()
                .unwrap();
            let found = String::from_utf8(output.stdout).unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{command}: {found}{said}");
            for line in expected.lines().filter(|line| !line.trim().is_empty()) {
                assert!(
                    found.lines().any(|line_found| fits(line, line_found)),
                    "{command}: no line like `{line}` in\n{found}"
                );
            }
            run += 1;
        }
    }
    println!("{run} commands of the guide run");
    assert!(run >= 4);
}
