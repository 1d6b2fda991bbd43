//! The program as a script drives it.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Runs with `--json` in a folder; the output must be one object on one line. With the exit code.
pub fn assay(folder: &Path, arguments: &[&str]) -> (Value, i32) {
    let output = Command::new(env!("CARGO_BIN_EXE_assay"))
        .args(arguments)
        .arg("--json")
        .current_dir(folder)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.matches('\n').count(), 1, "{arguments:?}: {text}");
    (serde_json::from_str(&text).unwrap(), output.status.code().unwrap())
}
