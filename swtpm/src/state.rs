//! A software TPM at rest: the folder that holds everything it is. Copying the folder copies the
//! TPM, endorsement keys and all, which is how the tests make clones.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use crate::Error;
use crate::LocalCa;
use crate::Result;
use crate::RunningTpm;
use crate::ca;
use crate::programs;

/// A bank of PCRs the TPM keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bank {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl Bank {
    fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }
}

/// A TPM that is switched off.
#[derive(Debug, Clone)]
pub struct SoftwareTpm {
    folder: PathBuf,
    name: String,
    ek_roots: [PathBuf; 2],
}

impl SoftwareTpm {
    /// Make the TPM in `folder`, or find the one that is there. As swtpm ships it: endorsement
    /// keys and certificates for RSA-2048 (L-1) and P-384 (H-3), only the SHA-256 bank on.
    pub fn provision(ca: &LocalCa, folder: impl AsRef<Path>, name: &str) -> Result<Self> {
        Self::provision_with(ca, folder, name, &[Bank::Sha256])
    }

    /// The same with these banks allocated; the others stay listed, and off.
    pub fn provision_with(
        ca: &LocalCa,
        folder: impl AsRef<Path>,
        name: &str,
        banks: &[Bank],
    ) -> Result<Self> {
        let folder = ca::private_folder(folder.as_ref())?;
        let tpm = Self { folder, name: name.to_owned(), ek_roots: ca.certificates() };
        if !tpm.folder.join(STATE).is_file() {
            let _lock = ca.lock()?;
            tpm.manufacture(ca, banks)?;
        }
        Ok(tpm)
    }

    /// Switch it on behind a relay of its own.
    pub fn start(&self) -> Result<RunningTpm> {
        RunningTpm::start(self.clone())
    }

    /// A second TPM in `folder` with the state, and so the identity, of this one. While it runs,
    /// call [`RunningTpm::duplicate`] instead.
    pub fn duplicate(&self, folder: impl AsRef<Path>, name: &str) -> Result<Self> {
        let twin = self.empty_twin(folder.as_ref(), name)?;
        fs::copy(self.state_file(), twin.state_file())
            .map_err(Error::file("copy", self.state_file()))?;
        Ok(twin)
    }

    /// A place for a clone's state, with copies of the certificate files.
    pub(crate) fn empty_twin(&self, folder: &Path, name: &str) -> Result<Self> {
        let folder = ca::private_folder(folder)?;
        let twin = Self { folder, name: name.to_owned(), ek_roots: self.ek_roots.clone() };
        for (from, to) in self.ek_certificates().iter().zip(twin.ek_certificates()) {
            fs::copy(from, to).map_err(Error::file("copy", from))?;
        }
        Ok(twin)
    }

    pub(crate) fn state_file(&self) -> PathBuf {
        self.folder.join(STATE)
    }

    /// The name its endorsement certificates carry.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it lives.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// PEM files of the root and the intermediate that vouch for its endorsement keys.
    pub fn ek_roots(&self) -> &[PathBuf; 2] {
        &self.ek_roots
    }

    /// DER files of its endorsement certificates, P-384 first.
    pub fn ek_certificates(&self) -> [PathBuf; 2] {
        [self.folder.join("ek-secp384r1.crt"), self.folder.join("ek-rsa2048.crt")]
    }

    fn manufacture(&self, ca: &LocalCa, banks: &[Bank]) -> Result<()> {
        let (settings, options) = ca.settings();
        let tool = programs::find("swtpm_localca")
            .ok_or_else(|| Error::ProgramsMissing(vec!["swtpm_localca"]))?;
        let banks: Vec<&str> = banks.iter().map(|bank| bank.name()).collect();
        let setup = self.folder.join("swtpm_setup.conf");
        let text = format!(
            "create_certs_tool = {}\ncreate_certs_tool_config = {}\n\
             create_certs_tool_options = {}\nactive_pcr_banks = {}\n",
            tool.display(),
            settings.display(),
            options.display(),
            banks.join(",")
        );
        fs::write(&setup, text).map_err(Error::file("write", &setup))?;

        let mut arguments: Vec<OsString> = vec!["--tpm2".into()];
        arguments.extend(["--tpmstate".into(), self.folder.clone().into()]);
        arguments.extend(["--config".into(), setup.into()]);
        arguments.extend(["--write-ek-cert-files".into(), self.folder.clone().into()]);
        arguments.extend(["--create-ek-cert", "--create-platform-cert"].map(Into::into));
        arguments.extend(["--lock-nvram", "--not-overwrite", "--vmid", &self.name].map(Into::into));
        let result = programs::run("swtpm_setup", arguments, &self.folder.join("setup.log"));
        if result.is_err() {
            // Half a TPM would be taken for a whole one the next time.
            let _ = fs::remove_file(self.folder.join(STATE));
        }
        result
    }
}

/// The file swtpm keeps its permanent state in.
pub(crate) const STATE: &str = "tpm2-00.permall";
