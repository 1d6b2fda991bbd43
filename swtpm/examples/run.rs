//! Start one software TPM and print its address:
//! `cargo run -p assay-swtpm --example run -- FOLDER`.
//! It runs until its standard input ends (Ctrl-D).

use std::io::Read as _;
use std::path::PathBuf;

use assay_swtpm::LocalCa;
use assay_swtpm::SoftwareTpm;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("swtpm-run"), Into::into);
    let ca = LocalCa::create(folder.join("ca"))?;
    let tpm = SoftwareTpm::provision(&ca, folder.join("tpm"), "run")?.start()?;
    println!("{}", tpm.tcti());
    for root in tpm.ek_roots() {
        eprintln!("ek root {}", root.display());
    }
    std::io::stdin().read_to_end(&mut Vec::new())?;
    tpm.stop()?;
    Ok(())
}
