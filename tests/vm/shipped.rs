//! Makes the profiles of `firmware-profiles/qemu`: boots reference machines, keeps what they
//! measured as evidence, and has `assay profile learn` write the profile.
//!
//! A reference machine has nothing in it but a distribution's packages and the few lines of a first
//! process, so whoever has the same packages makes the same bytes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use assay_swtpm::LocalCa;
use assay_swtpm::SoftwareTpm;

use crate::house::offline;
use crate::image;
use crate::machine::Machine;
use crate::machine::Setup;
use crate::parts::Firmware;
use crate::parts::Kernel;
use crate::parts::Parts;

/// Memory in MiB and processors: OVMF's first firmware volume is measured with both patched in.
/// From 2816 MiB on, q35 keeps 2048 of them below four gigabytes, and those are what counts.
type Sizes = &'static [(u32, u32)];

struct Kind {
    id: &'static str,
    firmware: Firmware,
    /// What is written above the profile.
    about: &'static str,
    floors: bool,
    sizes: Sizes,
}

const UKI: Kind = Kind {
    id: "qemu/ovmf-uki",
    firmware: Firmware::FourMegabytes,
    about: "# QEMU's q35 with OVMF (4 MB, Secure Boot off) and a TPM by swtpm; a unified kernel image that\n\
            # firmware starts by itself.\n\
            #\n\
            # `firmware` is this build of OVMF, with a variant for each size of machine: PCR 0 changes with\n\
            # `-m` (up to the 2048 MiB that q35 puts below four gigabytes when there are 2816 or more) and\n\
            # with `-smp`, because what is measured is patched with both at run time.\n\
            # Yours to replace: `boot-chain` (`assay profile predict --uki …`) and the set `ima-files`\n\
            # (`--files …`), which are those of the reference image that the evidence is from.\n",
    floors: false,
    sizes: &[(512, 1), (1_024, 1), (2_048, 1), (2_048, 2), (2_048, 4), (4_096, 2)],
};

const SHIM_GRUB: Kind = Kind {
    id: "qemu/ovmf-shim-grub-secure-boot",
    firmware: Firmware::SecureBoot,
    about: "# QEMU's q35 with OVMF (4 MB, Secure Boot on with the keys of Microsoft) and a TPM by swtpm;\n\
            # shim, GRUB and the kernel as Debian 12 signs them.\n\
            #\n\
            # `firmware` is this build of OVMF, with a variant for each number of processors: PCR 0 changes\n\
            # with `-smp`, because what is measured is patched with it at run time.\n\
            # `secure-boot` takes updates of dbx and SBAT as they come; `boot-chain` does not, a new\n\
            # shim, GRUB, kernel, grub.cfg or initrd is learned from one updated machine.\n\
            # Yours to replace: `boot-chain` and the set `ima-files`, which are those of the reference\n\
            # machine that the evidence is from.\n",
    floors: true,
    // Four processors that wait for each other in SMM do not boot in time in software.
    sizes: &[(512, 1), (1_024, 1), (2_048, 1), (2_048, 2), (4_096, 2)],
};

pub fn make(parts: &Parts) -> Result<()> {
    let to = match std::env::var_os("ASSAY_PROFILES") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("firmware-profiles"),
    };
    let work = tempfile::Builder::new().prefix("assay-vm-").tempdir_in("/tmp")?;
    let root = image::reference_initrd(&parts.current)?;
    let words = image::COMMAND_LINE;
    let image = image::unified(&work.path().join("uki"), &parts.current, &root, words)?;
    let disk = work.path().join("uki.img");
    image::unified_disk(&disk, &image)?;
    profile(work.path(), &to, &UKI, &disk, &parts.current)?;
    let Some(loaders) = &parts.shim_grub else {
        println!("SKIPPED: no shim and GRUB, so no profile of them was made");
        return Ok(());
    };
    let disk =
        image::shim_grub_disk(&work.path().join("grub"), loaders, &parts.current, &root, words)?;
    profile(work.path(), &to, &SHIM_GRUB, &disk, &parts.current)
}

fn profile(work: &Path, to: &Path, kind: &Kind, disk: &Path, kernel: &Kernel) -> Result<()> {
    if std::env::var("ASSAY_VM_CASE").is_ok_and(|wanted| wanted != kind.id) {
        return Ok(());
    }
    let ca = LocalCa::create(work.join("maker"))?;
    let draft = work.join(kind.id.replace('/', "-"));
    fs::create_dir_all(&draft)?;
    let mut arguments: Vec<String> =
        ["profile", "learn", "--id", kind.id, "--out", "."].map(str::to_owned).into();
    if kind.floors {
        arguments.push("--floors".to_owned());
    }
    // Name, value of PCR 0, size.
    let mut boots: Vec<(String, String, String)> = Vec::new();
    for (memory_mib, processors) in kind.sizes.iter().copied() {
        let name = format!("{memory_mib}m-{processors}cpu");
        let tpm = SoftwareTpm::provision(&ca, draft.join(format!("tpm-{name}")), &name)?;
        let setup =
            Setup { firmware: kind.firmware, disk, tpm: &tpm, port: 9, memory_mib, processors };
        let mut machine = Machine::boot(&work.join(&name), &setup)?;
        // Each program is measured at its first run: registers and list are read when both stand.
        let registers = "for r in $(seq 0 23); do cat /sys/class/tpm/tpm0/pcr-sha256/$r; done";
        machine.run(registers)?;
        machine.run("base64 /proc/cmdline")?;
        let values = machine.run(registers)?;
        let security = "/sys/kernel/security";
        for (end, path) in [
            ("bin", format!("{security}/tpm0/binary_bios_measurements")),
            ("ima", format!("{security}/ima/binary_runtime_measurements")),
            ("cmdline", "/proc/cmdline".to_owned()),
        ] {
            fs::write(draft.join(format!("{name}.{end}")), machine.file(&path)?)?;
        }
        ensure!(machine.run(registers)? == values, "the registers change while they are read");
        let mut text = "sha256:\n".to_owned();
        for (register, value) in values.split_whitespace().enumerate() {
            text.push_str(&format!("  {register:<2}: 0x{}\n", value.to_uppercase()));
        }
        fs::write(draft.join(format!("{name}.pcrs")), text)?;
        for (flag, end) in [("--log", "bin"), ("--ima", "ima"), ("--cmdline", "cmdline")] {
            arguments.extend([flag.to_owned(), format!("{name}.{end}")]);
        }
        println!("{}: {name} captured", kind.id);
        let firmware = values.split_whitespace().next().unwrap_or_default().to_owned();
        let size = format!("-m {memory_mib} -smp {processors}");
        boots.push((name, firmware, size));
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let learned = offline(&draft, &arguments)?;
    println!("{}: decides {}", kind.id, learned["decided"]);
    println!("{}: varied {}", kind.id, learned["varied"]);

    let folder = to.join(kind.id);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(folder.join("evidence"))?;
    let text = fs::read_to_string(draft.join("profile.toml"))?;
    let (_, mut text) = text.split_once('\n').map(|(a, b)| (a, b.to_owned())).context("empty")?;
    for (place, (name, _, _)) in boots.iter().enumerate() {
        let drafted = format!("evidence/profile-{}.", place + 1);
        text = text.replace(&drafted, &format!("evidence/{name}."));
        for end in ["bin", "pcrs", "ima"] {
            let file = format!("{name}.{end}");
            fs::copy(draft.join(&file), folder.join("evidence").join(&file))?;
        }
    }
    // The firmware is the first component; its variants are numbered as they came.
    let mut firmware: Vec<&String> = boots.iter().map(|(_, value, _)| value).collect();
    let mut seen = BTreeSet::new();
    firmware.retain(|value| seen.insert(*value));
    for (place, value) in firmware.iter().enumerate() {
        let sizes: Vec<&str> = boots
            .iter()
            .filter(|(_, of, _)| of == *value)
            .map(|(_, _, size)| size.as_str())
            .collect();
        let number = format!("name = \"{}\"\n", place + 1);
        text = text.replacen(&number, &format!("name = \"{}\"\n", sizes.join(", ")), 1);
    }
    let about = format!(
        "{}#\n# Learned from {} boots of Linux {} by `make vm-profiles`.\n",
        kind.about,
        boots.len(),
        kernel.version
    );
    fs::write(folder.join("profile.toml"), about + &text)?;
    let tried = offline(&folder, &["profile", "test", "."])?;
    println!(
        "{}: {} of {} accepted, {} mutations refused, {} survived, {} in recorded registers",
        kind.id,
        tried["accepted"],
        tried["evidence"],
        tried["refused"],
        tried["survived"],
        tried["recorded"]
    );
    Ok(())
}
