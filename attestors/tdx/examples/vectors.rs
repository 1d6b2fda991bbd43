//! Makes the vectors under `vectors/forged` anew.
//!
//! `cargo run -p assay-tdx --example vectors -- attestors/tdx/vectors/forged`
//!
//! Keys and so all bytes differ at each run; nothing reads more out of them than that they are
//! genuine under their own root at 2026-06-15. The fuzz targets begin with them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::PathBuf;

#[path = "../tests/support/forge.rs"]
mod forge;

use forge::Recipe;

fn main() {
    let out = PathBuf::from(std::env::args().nth(1).expect("a folder to write to"));
    fs::create_dir_all(&out).unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(out.join(name), bytes).unwrap();
    let first = Recipe::new().build();
    write("root.der", first.root.der());
    write("collateral.json", &first.collateral);
    write("quote-v4", &first.quote);
    // The same keys within one run, so the one bundle serves all of them.
    for body_type in [2, 3, 4] {
        write(&format!("quote-v5-{body_type}"), &Recipe::version_5(body_type).build().quote);
    }
}
