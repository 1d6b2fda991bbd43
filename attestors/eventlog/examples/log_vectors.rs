//! Writes the boot logs under `vectors/log` anew.
//!
//! `cargo run -p assay-eventlog --example log_vectors -- attestors/eventlog/vectors/log`
//!
//! They are synthetic and the same at each run: small logs with every kind of event whose rule is
//! known, from which fuzzing begins and which the sweeps take apart.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::PathBuf;

#[path = "../tests/support/synthetic.rs"]
mod synthetic;

fn main() {
    let folder = PathBuf::from(std::env::args().nth(1).expect("a folder to write to"));
    fs::create_dir_all(&folder).unwrap();
    for (name, draft) in synthetic::all() {
        fs::write(folder.join(format!("{name}.bin")), draft.write()).unwrap();
    }
    fs::write(folder.join("ccel.table"), synthetic::table()).unwrap();
}
