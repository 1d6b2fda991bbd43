//! Real evidence with expected verdicts, where it is at hand.

use std::path::Path;
use std::path::PathBuf;

/// The folder of one kind, in `$ASSAY_CORPUS` or beside the repository; says so where it is not there.
pub fn corpus(kind: &str) -> Option<PathBuf> {
    let root = std::env::var_os("ASSAY_CORPUS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus"),
        PathBuf::from,
    );
    let folder = root.join(kind);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("SKIPPED: no folder {}: what is in it was not read", folder.display());
    None
}
