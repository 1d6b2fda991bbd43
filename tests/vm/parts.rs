//! What this machine has of what the tests need: programs, firmware, kernels. What is missing is
//! said in one visible line, and the tests are skipped.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;

/// Everything that the machines are made of.
pub struct Parts {
    pub current: Kernel,
    pub previous: Option<Kernel>,
    pub shim_grub: Option<ShimGrub>,
}

/// A kernel package, unpacked.
pub struct Kernel {
    pub version: String,
    pub image: PathBuf,
    pub modules: PathBuf,
}

/// The signed boot loaders, unpacked.
pub struct ShimGrub {
    pub shim: PathBuf,
    pub grub: PathBuf,
}

/// A build of OVMF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// Four megabytes, without Secure Boot.
    FourMegabytes,
    /// Two megabytes: another build of the same source.
    TwoMegabytes,
    /// Four megabytes with Secure Boot and the keys of Microsoft, as machines are sold.
    SecureBoot,
}

pub const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";
const OVMF: &str = "/usr/share/OVMF";
const PROGRAMS: [&str; 9] = [
    "qemu-system-x86_64",
    "swtpm",
    "swtpm_setup",
    "mformat",
    "mmd",
    "mcopy",
    "objcopy",
    "busybox",
    "setpriv",
];

impl Firmware {
    pub fn code(self) -> PathBuf {
        Path::new(OVMF).join(match self {
            Self::FourMegabytes => "OVMF_CODE_4M.fd",
            Self::TwoMegabytes => "OVMF_CODE.fd",
            Self::SecureBoot => "OVMF_CODE_4M.secboot.fd",
        })
    }

    pub fn variables(self) -> PathBuf {
        Path::new(OVMF).join(match self {
            Self::FourMegabytes => "OVMF_VARS_4M.fd",
            Self::TwoMegabytes => "OVMF_VARS.fd",
            Self::SecureBoot => "OVMF_VARS_4M.ms.fd",
        })
    }
}

impl Parts {
    /// Nothing, after a line that says why, where something is missing.
    pub fn find() -> Option<Self> {
        let mut missing: Vec<String> =
            PROGRAMS.iter().filter(|name| program(name).is_none()).map(|n| (*n).into()).collect();
        let firmware = [Firmware::FourMegabytes, Firmware::TwoMegabytes, Firmware::SecureBoot];
        let files = firmware.into_iter().flat_map(|build| [build.code(), build.variables()]);
        let files = files.chain([PathBuf::from(STUB)]);
        missing.extend(files.filter(|path| !path.exists()).map(|path| path.display().to_string()));
        let folder = folder();
        let current = Kernel::find(&folder.join("current"));
        if current.is_none() {
            missing.push(format!("a kernel in {}", folder.join("current").display()));
        }
        match current {
            Some(current) if missing.is_empty() => Some(Self {
                current,
                previous: Kernel::find(&folder.join("previous")),
                shim_grub: ShimGrub::find(&folder.join("shim-grub")),
            }),
            _ => {
                println!("SKIPPED: no machine was booted, missing: {}", missing.join(", "));
                None
            }
        }
    }
}

impl Kernel {
    fn find(folder: &Path) -> Option<Self> {
        let modules = fs::read_dir(folder.join("lib/modules")).ok()?.next()?.ok()?.path();
        let version = modules.file_name()?.to_str()?.to_owned();
        let image = folder.join(format!("boot/vmlinuz-{version}"));
        image.is_file().then_some(Self { version, image, modules })
    }

    /// The modules by which a guest reaches its devices, in the order in which they need each
    /// other.
    pub fn modules(&self) -> Result<Vec<(String, Vec<u8>)>> {
        MODULES
            .iter()
            .enumerate()
            .map(|(place, module)| {
                let path = self.modules.join("kernel").join(format!("{module}.ko"));
                let name = path.file_name().and_then(|name| name.to_str()).context("no name")?;
                let bytes = fs::read(&path)
                    .with_context(|| format!("{}: no module {module}", self.version))?;
                Ok((format!("{place:02}-{name}"), bytes))
            })
            .collect()
    }
}

const MODULES: [&str; 10] = [
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci",
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
    "drivers/char/virtio_console",
    "drivers/char/hw_random/virtio-rng",
];

impl ShimGrub {
    fn find(folder: &Path) -> Option<Self> {
        let shim = folder.join("usr/lib/shim/shimx64.efi.signed");
        let grub = folder.join("usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed");
        (shim.is_file() && grub.is_file()).then_some(Self { shim, grub })
    }
}

/// Where `packaging/fetch-vm-parts.sh` put the kernels.
fn folder() -> PathBuf {
    match std::env::var_os("ASSAY_VM") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("target/vm"),
    }
}

pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file())
}
