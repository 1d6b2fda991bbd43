//! Writes `vectors/machines`: reports, certificates, revocation lists and host tables of the tests'
//! own processors, for fuzzing and for whoever wants some to look at.
//!
//! Run it in `attestors/snp`; ECDSA signatures are new each time, so the files change.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../tests/support/forge.rs"]
mod forge;

use std::path::Path;

use forge::Machine;
use forge::RevocationDraft;

fn main() {
    let machines = [
        ("milan", Machine::milan().with(|m| m.crl = Some(RevocationDraft::empty()))),
        ("milan-vlek", Machine::milan_vlek()),
        ("turin", Machine::turin()),
    ];
    for (name, machine) in machines {
        let shown = machine.show();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/machines").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).unwrap();
        write("report.bin", &shown.report);
        write("vek.der", &shown.vek);
        write("issuer.der", &shown.issuer);
        write("ark.der", &shown.ark);
        write("host-certs.bin", &shown.host_table(name == "milan-vlek"));
        if let Some(list) = &shown.crl {
            write("crl.der", list);
        }
    }
}
