//! Writes the lists of `vectors/ima` again: `cargo run -p assay-eventlog --example ima_vectors`.
//!
//! They come out of the model of a kernel that the tests use, not out of the parser, and hold no
//! secrets and no random bytes: the same lists every time.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../tests/support/kernel_list.rs"]
mod kernel_list;

use std::path::Path;

fn main() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/ima");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, bytes) in kernel_list::vectors() {
        std::fs::write(folder.join(name), &bytes).unwrap();
        println!("{name}: {} bytes", bytes.len());
    }
}
