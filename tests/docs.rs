//! Runs the commands that guides show and holds their output against the page: each line shown must
//! be there, `…` standing for anything. Those of try-it.md run beside a demo that was left running.

#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

/// One `$ ` line of a console block, and the lines below it.
struct Shown {
    command: String,
    output: Vec<String>,
}

fn shown(page: &str) -> Vec<Shown> {
    let mut found: Vec<Shown> = Vec::new();
    let blocks = page.split("```console\n").skip(1);
    for line in blocks.filter_map(|rest| rest.split("```").next()).flat_map(str::lines) {
        match line.strip_prefix("$ ") {
            Some(command) => found.push(Shown { command: command.to_owned(), output: Vec::new() }),
            None => found.last_mut().unwrap().output.push(line.to_owned()),
        }
    }
    found
}

/// Words alone count, and `…` stands for anything, also for nothing.
fn fits(expected: &str, found: &str) -> bool {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (expected, found) = (words(expected), words(found));
    let mut parts = expected.split('…').map(str::trim);
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = found.strip_prefix(first) else { return false };
    let mut last = first;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        last = part;
    }
    last.is_empty() || rest.is_empty() || (expected.contains('…') && found.ends_with(last))
}

/// The demo, left running; ended by closing its input.
struct Demo {
    child: Child,
    exports: Vec<(String, String)>,
}

impl Demo {
    fn start() -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_assay"))
            .args(["demo", "--keep", "--refresh", "2"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut demo = Self { child, exports: Vec::new() };
        let mut heard = String::new();
        for line in BufReader::new(demo.child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some((name, value)) =
                line.trim().strip_prefix("export ").and_then(|export| export.split_once('='))
            {
                demo.exports.push((name.to_owned(), value.to_owned()));
            }
            heard.push_str(&line);
            heard.push('\n');
            if line.contains("Enter or Ctrl-C") {
                return demo;
            }
        }
        panic!("the demo ended by itself:\n{heard}");
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Runs all commands of a guide in a folder of their own and looks for what it shows.
fn hold(guide: &str, exports: &[(String, String)]) {
    hold_in(tempfile::tempdir().unwrap().path(), guide, exports);
}

fn hold_in(folder: &Path, guide: &str, exports: &[(String, String)]) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guides").join(guide);
    let shown = shown(&fs::read_to_string(page).unwrap());
    assert!(!shown.is_empty(), "{guide} shows nothing");

    // One shell for all, so that what one line sets the next one knows.
    let mark = |number: usize| format!("@@ {number}");
    let script: String = shown
        .iter()
        .enumerate()
        .map(|(number, shown)| format!("echo '{}'\n{}\n", mark(number), shown.command))
        .collect();
    let program = Path::new(env!("CARGO_BIN_EXE_assay")).parent().unwrap();
    let path = std::env::join_paths(
        std::iter::once(program.to_owned())
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    )
    .unwrap();
    let output = Command::new("sh")
        .args(["-c", &format!("exec 2>&1\n{script}")])
        .envs(exports.iter().map(|(name, value)| (name, value)))
        .env("PATH", path)
        .current_dir(folder)
        .output()
        .unwrap();

    let said = String::from_utf8(output.stdout).unwrap();
    for (number, shown) in shown.iter().enumerate() {
        let after = said.split(&format!("{}\n", mark(number))).nth(1).unwrap();
        let own = after.split("@@ ").next().unwrap();
        for expected in &shown.output {
            let found = own.lines().any(|line| fits(expected, line));
            assert!(found, "$ {}\nno line `{expected}` in:\n{own}", shown.command);
        }
        let silent = shown.output.is_empty() && !own.trim().is_empty();
        assert!(!silent, "$ {}\nwas to say nothing:\n{own}", shown.command);
    }
}

#[test]
fn the_commands_of_the_first_page_do_what_it_shows() {
    let demo = Demo::start();
    hold("try-it.md", &demo.exports);
}

#[test]
fn the_commands_of_the_page_on_real_tpms_do_what_it_shows() {
    hold("enrol-real-tpms.md", &[]);
}

#[test]
fn the_commands_of_the_page_on_evidence_do_what_it_shows_in_a_clone() {
    hold_in(Path::new(env!("CARGO_MANIFEST_DIR")), "verify-evidence.md", &[]);
}

#[test]
fn the_commands_of_the_page_on_endorsements_do_what_it_shows_in_a_clone() {
    hold_in(Path::new(env!("CARGO_MANIFEST_DIR")), "endorsements.md", &[]);
}

#[test]
fn a_line_that_is_not_there_is_caught() {
    assert!(fits("a … c", "a  b   c"));
    assert!(fits("… hash affirming …", "1f hash   affirming  software"));
    assert!(fits("custody hw", "  custody    hw"));
    assert!(!fits("custody hw", "  custody    hw_claimed"));
    assert!(!fits("a … d", "a b c"));
    assert!(!fits("b …", "a b"));
}
