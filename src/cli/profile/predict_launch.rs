//! `assay profile predict snp`: the launch digest of a confidential guest, from the files that it
//! will be started with.

use std::path::PathBuf;

use assay_snp::launch;
use assay_snp::launch::DirectBoot;
use assay_snp::launch::Launch;
use clap::Args;
use clap::Subcommand;
use serde_json::json;

use crate::cli::input::Inputs;
use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::cli::profile::predict::PredictArgs;
use crate::reference::draft::quoted;

const MAX_IMAGE: u64 = 1_024 * 1_024 * 1_024;

/// A boot of a machine with a TPM, or the launch of a guest.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Predict {
    #[command(subcommand)]
    launch: Option<LaunchCommand>,
    #[command(flatten)]
    boot: PredictArgs,
}

#[derive(Subcommand, Debug)]
enum LaunchCommand {
    /// Compute the launch digest of an SEV-SNP guest (QEMU with OVMF)
    #[command(
        after_help = "Example:\n  assay profile predict snp --ovmf OVMF.fd --kernel vmlinuz \
        --initrd initrd.img \\\n    --cmdline cmdline.txt --vcpus 4 --vcpu-type EPYC-Genoa"
    )]
    Snp(SnpLaunchArgs),
}

#[derive(Args, Debug)]
struct SnpLaunchArgs {
    /// Firmware image
    #[arg(long, value_name = "FILE")]
    ovmf: PathBuf,
    /// Kernel that QEMU is given, if any
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Initrd that QEMU is given with it
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// File with the command line that QEMU is given with it; a line end after it does not count
    #[arg(long, value_name = "FILE", requires = "kernel")]
    cmdline: Option<PathBuf>,
    /// Number of processors
    #[arg(long, value_name = "N")]
    vcpus: u32,
    /// Model of the processors as QEMU names it, such as `EPYC-Milan`
    #[arg(long, value_name = "MODEL")]
    vcpu_type: String,
    /// SEV_FEATURES of the guest, in hex; bit 0 is SNP itself
    #[arg(long, value_name = "HEX", default_value = "1")]
    guest_features: String,
    /// Name of the candidate variant
    #[arg(long, value_name = "NAME", default_value = "next")]
    name: String,
}

impl Predict {
    pub fn run(self) -> Result<Answer, Failure> {
        match self.launch {
            Some(LaunchCommand::Snp(args)) => args.run(),
            None => self.boot.run(),
        }
    }
}

impl SnpLaunchArgs {
    fn run(self) -> Result<Answer, Failure> {
        let inputs = Inputs::default();
        let cpu_signature = launch::cpu_signature_of_model(&self.vcpu_type).ok_or_else(|| {
            Failure::new(format!("--vcpu-type `{}` is not known", self.vcpu_type)).hint(
                "EPYC, EPYC-Rome, EPYC-Milan, EPYC-Genoa or EPYC-Turin, with or without `-v1`",
            )
        })?;
        let digits = self.guest_features.strip_prefix("0x").unwrap_or(&self.guest_features);
        let guest_features = u64::from_str_radix(digits, 16).map_err(|_| {
            Failure::new(format!("--guest-features is hex, found `{}`", self.guest_features))
        })?;
        let read = |path: &PathBuf| inputs.read_up_to(path, MAX_IMAGE);
        let ovmf = read(&self.ovmf)?;
        let kernel = self.kernel.as_ref().map(read).transpose()?;
        let initrd = self.initrd.as_ref().map(read).transpose()?.unwrap_or_default();
        let command_line = match &self.cmdline {
            None => String::new(),
            Some(path) => String::from_utf8(inputs.read(path)?)
                .map_err(|_| Failure::new(format!("`{}` is no text", path.display())))?,
        };
        let launch = Launch {
            ovmf: &ovmf,
            direct: kernel.as_deref().map(|kernel| DirectBoot {
                kernel,
                initrd: &initrd,
                command_line: command_line.trim_end_matches(['\n', '\r']),
            }),
            processors: self.vcpus,
            cpu_signature,
            guest_features,
        };
        let measurement = launch::predict(&launch)
            .map_err(|error| Failure::refused(format!("`{}`: {error}", self.ovmf.display())))?;
        let measurement = hex::encode(measurement);
        let stanza = format!(
            "[[component.variant]]\nname = {}\nstate = \"candidate\"\n\
             origin = \"predicted from files\"\npcr = {{ sha384 = {{ \"0\" = \"{measurement}\" }} }}\n",
            quoted(&self.name)
        );
        let json = json!({
            "verdict": "predicted",
            "reason": null,
            "reasons": [],
            "measurement": measurement,
            "stanza": stanza,
            "not_checked": ["monitor: QEMU is assumed, others lay a guest out otherwise"],
        });
        let text = format!(
            "measurement {measurement}\n\nto admit it, in the component on register 0 of a profile \
             of root `snp`:\n{stanza}"
        );
        Ok(Answer::new(json, text))
    }
}
