//! What a machine boots: a first root with our agent in it, a unified kernel image around that, a
//! disk with the image where firmware looks for it.

use std::fs;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;

use crate::newc::Archive;
use crate::parts::Kernel;
use crate::parts::STUB;
use crate::parts::ShimGrub;
use crate::parts::program;

/// Where the agent is in the guest.
pub const AGENT: &str = "/usr/bin/assay";
/// The command line of a good boot. Without `rootfstype` the root is a tmpfs, and IMA looks away.
pub const COMMAND_LINE: &str = "console=ttyS0 panic=-1 rootfstype=ramfs ima_policy=tcb \
    ima_hash=sha256 ima_template=ima-ng quiet";

/// The first process of a guest: what an operating system does before it starts services. Then it
/// obeys the test, which is the machine's administrator.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin:/usr/bin TSS2_LOG=all+none
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t securityfs securityfs /sys/kernel/security
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
for module in /lib/modules/*.ko; do insmod $module; done
ip link set lo up
ip addr add 10.0.2.15/24 dev eth0
ip link set eth0 up
until [ -e /dev/vport?p1 ]; do sleep 0.1; done
exec 3<>$(echo /dev/vport?p1)
echo ready >&3
sh <&3 >&3 2>&1
poweroff -f
"#;

/// The agent's configuration in the guest. Its TPM, its logs: where they are on any machine.
const AGENT_TOML: &str = r#"trust_domain = "example.org"
server = "10.0.2.100:8081"
data_dir = "/run/assay"
socket = "/run/workload.sock"
device = "device:/dev/tpmrm0"

[bootstrap]
bundle = "/etc/assay/bundle.pem"

[log]
format = "json"

[intervals]
retry_first = "2s"
retry_longest = "4s"
"#;

/// A first root with our agent in it, compressed, in reproducible bytes.
pub fn initrd(
    agent: &[u8],
    libraries: &[PathBuf],
    kernel: &Kernel,
    bundle: &[u8],
) -> Result<Vec<u8>> {
    let mut archive = base(kernel)?;
    archive.program(AGENT, agent);
    for library in libraries {
        archive.program(library.to_str().context("not UTF-8")?, &fs::read(library)?);
    }
    archive.file("/etc/assay/agent.toml", AGENT_TOML.as_bytes());
    archive.file("/etc/assay/bundle.pem", bundle);
    compressed(&archive.finish())
}

/// A first root with nothing of ours but its first process.
pub fn reference_initrd(kernel: &Kernel) -> Result<Vec<u8>> {
    compressed(&base(kernel)?.finish())
}

fn base(kernel: &Kernel) -> Result<Archive> {
    let mut archive = Archive::root();
    archive.program("/init", INIT.as_bytes());
    let busybox = program("busybox").context("no busybox")?;
    archive.program("/bin/busybox", &fs::read(busybox)?);
    for (name, bytes) in kernel.modules()? {
        archive.file(&format!("/lib/modules/{name}"), &bytes);
    }
    archive.file("/etc/passwd", b"root:x:0:0:root:/:/bin/sh\n");
    archive.file("/etc/group", b"root:x:0:\n");
    Ok(archive)
}

/// Without name and time in the header.
fn compressed(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = Command::new("gzip")
        .args(["-1", "-n", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = gzip.stdin.take().context("no stdin")?;
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(bytes));
        gzip.wait_with_output()
    })?;
    ensure!(output.status.success(), "gzip failed");
    Ok(output.stdout)
}

/// The program as one ships it: without debugging symbols, which are most of it.
pub fn stripped(folder: &Path, agent: &Path) -> Result<Vec<u8>> {
    let to = folder.join("assay.stripped");
    run(Command::new("objcopy").arg("--strip-all").arg(agent).arg(&to))?;
    Ok(fs::read(to)?)
}

/// The libraries that the loader will look for, and the TPM transport that libtss2 loads by name.
pub fn libraries(agent: &Path) -> Result<Vec<PathBuf>> {
    let listed = |program: &Path| -> Result<Vec<PathBuf>> {
        let output = Command::new("ldd").arg(program).output()?;
        let text = String::from_utf8(output.stdout)?;
        let paths = text.split_whitespace().filter(|word| word.starts_with('/'));
        Ok(paths.map(|path| PathBuf::from(path.trim_end_matches(':'))).collect())
    };
    let mut paths = listed(agent)?;
    let beside = paths.iter().find(|path| path.to_string_lossy().contains("libtss2-tctildr"));
    let folder = beside.and_then(|path| path.parent()).context("agent without libtss2")?;
    let transport = folder.join("libtss2-tcti-device.so.0");
    paths.extend(listed(&transport)?);
    paths.push(transport);
    paths.retain(|path| path.is_file());
    paths.sort();
    paths.dedup();
    Ok(paths)
}

/// A unified kernel image: systemd's stub with sections that it loads and measures.
pub fn unified(
    folder: &Path,
    kernel: &Kernel,
    initrd: &[u8],
    command_line: &str,
) -> Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let write = |name: &str, bytes: &[u8]| -> Result<PathBuf> {
        let path = folder.join(name);
        fs::write(&path, bytes)?;
        Ok(path)
    };
    let sections = [
        (".osrel", write("osrel", b"ID=assay-guest\n")?, "0x20000"),
        (".cmdline", write("cmdline", command_line.as_bytes())?, "0x30000"),
        (".uname", write("uname", kernel.version.as_bytes())?, "0x40000"),
        (".linux", kernel.image.clone(), "0x2000000"),
        (".initrd", write("initrd", initrd)?, "0x4000000"),
    ];
    let image = folder.join("uki.efi");
    let mut objcopy = Command::new("objcopy");
    for (name, path, address) in sections {
        objcopy.arg("--add-section").arg(format!("{name}={}", path.display()));
        objcopy.arg("--change-section-vma").arg(format!("{name}={address}"));
    }
    run(objcopy.arg(STUB).arg(&image))?;
    Ok(image)
}

/// An EFI system partition without a partition table around it.
pub fn disk(path: &Path, files: &[(&str, &Path)]) -> Result<()> {
    let mut bytes = 4 << 20;
    for (_, file) in files {
        bytes += fs::metadata(file)?.len();
    }
    // FAT32 begins at 65 525 clusters of a sector.
    let sectors = (bytes / 512).max(72_000) * 21 / 20;
    File::create(path)?.set_len(sectors * 512)?;
    let tool = |name: &str| {
        let mut tool = Command::new(name);
        tool.arg("-i").arg(path).env("MTOOLS_SKIP_CHECK", "1");
        tool
    };
    let size = sectors.to_string();
    run(tool("mformat").args(["-F", "-N", "20261124", "-T", &size, "::"]))?;
    run(tool("mmd").args(["::EFI", "::EFI/BOOT", "::EFI/debian"]))?;
    for (name, file) in files {
        run(tool("mcopy").arg(file).arg(format!("::{name}")))?;
    }
    Ok(())
}

/// The disk of a unified image.
pub fn unified_disk(path: &Path, image: &Path) -> Result<()> {
    disk(path, &[("EFI/BOOT/BOOTX64.EFI", image)])
}

/// The disk of Debian's signed chain: shim, GRUB, a kernel by the distribution.
pub fn shim_grub_disk(
    folder: &Path,
    loaders: &ShimGrub,
    kernel: &Kernel,
    initrd: &[u8],
    command_line: &str,
) -> Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let config = folder.join("grub.cfg");
    fs::write(&config, format!("linux /vmlinuz {command_line}\ninitrd /initrd.img\nboot\n"))?;
    let root = folder.join("initrd");
    fs::write(&root, initrd)?;
    let path = folder.join("disk.img");
    disk(
        &path,
        &[
            ("EFI/BOOT/BOOTX64.EFI", &loaders.shim),
            ("EFI/BOOT/grubx64.efi", &loaders.grub),
            ("EFI/debian/grub.cfg", &config),
            ("vmlinuz", &kernel.image),
            ("initrd.img", &root),
        ],
    )?;
    Ok(path)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
