//! The small certificate authority that gives software TPMs their endorsement certificates: a
//! root and an intermediate, made once, used for any number of TPMs. Each folder is a "vendor" of
//! its own; no product configuration trusts any of them unless somebody names its root.

use std::fs;
use std::fs::DirBuilder;
use std::fs::File;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::path::PathBuf;

use crate::Error;
use crate::Result;
use crate::programs;

/// A root and an intermediate in one private folder.
#[derive(Debug, Clone)]
pub struct LocalCa {
    folder: PathBuf,
}

impl LocalCa {
    /// Open the authority in `folder`, making folder and keys if they are not there yet.
    pub fn create(folder: impl AsRef<Path>) -> Result<Self> {
        let missing = programs::missing_programs();
        if !missing.is_empty() {
            return Err(Error::ProgramsMissing(missing));
        }
        let ca = Self { folder: private_folder(folder.as_ref())? };
        let _lock = ca.lock()?;
        let [root, intermediate] = ca.certificates();
        if !(root.is_file() && intermediate.is_file()) {
            ca.write_settings()?;
            ca.make_authority()?;
        }
        Ok(ca)
    }

    /// The PEM files of the root and the intermediate, in this order.
    pub fn certificates(&self) -> [PathBuf; 2] {
        [self.folder.join(ROOT), self.folder.join(INTERMEDIATE)]
    }

    /// What `swtpm_localca` must be told to use this authority.
    pub(crate) fn settings(&self) -> (PathBuf, PathBuf) {
        (self.folder.join(SETTINGS), self.folder.join(OPTIONS))
    }

    /// One provisioning at a time: the authority counts serials in a file.
    pub(crate) fn lock(&self) -> Result<File> {
        let path = self.folder.join("lock");
        let file = File::create(&path).map_err(Error::file("create", &path))?;
        file.lock().map_err(Error::file("lock", &path))?;
        Ok(file)
    }

    fn write_settings(&self) -> Result<()> {
        let (settings, options) = self.settings();
        let folder = self.folder.display();
        let text = format!(
            "statedir = {folder}\nsigningkey = {folder}/signkey.pem\n\
             issuercert = {folder}/{INTERMEDIATE}\ncertserial = {folder}/certserial\n"
        );
        fs::write(&settings, text).map_err(Error::file("write", &settings))?;
        fs::write(&options, PLATFORM).map_err(Error::file("write", &options))
    }

    /// `swtpm_localca` makes root and intermediate on its first certificate: ask for one that
    /// nobody will use, so that the roots exist before the first TPM does.
    fn make_authority(&self) -> Result<()> {
        let (settings, options) = self.settings();
        let first = tempfile::tempdir_in(&self.folder)
            .map_err(Error::file("make a folder in", &self.folder))?;
        let mut arguments: Vec<std::ffi::OsString> =
            ["--type", "ek", "--ek", FIRST_KEY, "--vmid", "first", "--tpm2"].map(Into::into).into();
        arguments
            .extend(["--tpm-manufacturer", "id:00001014", "--tpm-model", "swtpm"].map(Into::into));
        arguments
            .extend(["--tpm-version", "id:20191023", "--tpm-spec-family", "2.0"].map(Into::into));
        arguments.extend(["--tpm-spec-level", "0", "--tpm-spec-revision", "164"].map(Into::into));
        arguments.extend(["--dir".into(), first.path().into()]);
        arguments.extend(["--configfile".into(), settings.into()]);
        arguments.extend(["--optsfile".into(), options.into()]);
        programs::run("swtpm_localca", arguments, &self.folder.join("create.log"))
    }
}

/// An absolute folder that only its owner can enter; swtpm's option syntax forbids some names.
pub(crate) fn private_folder(folder: &Path) -> Result<PathBuf> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(Error::file("create", folder))?;
    let folder = fs::canonicalize(folder).map_err(Error::file("find", folder))?;
    match folder.to_str() {
        None => Err(Error::Path { path: folder, why: "it is not UTF-8" }),
        Some(text) if text.contains([',', '\n', ' ', '"', '\'']) => {
            Err(Error::Path { path: folder, why: "commas, spaces and quotes end its options" })
        }
        Some(_) => Ok(folder),
    }
}

const ROOT: &str = "swtpm-localca-rootca-cert.pem";
const INTERMEDIATE: &str = "issuercert.pem";
const SETTINGS: &str = "swtpm-localca.conf";
const OPTIONS: &str = "swtpm-localca.options";
const PLATFORM: &str =
    "--platform-manufacturer Assay\n--platform-version 1\n--platform-model swtpm\n";
/// A P-256 public key of round numbers: no endorsement key of any TPM.
const FIRST_KEY: &str = "x=1111111111111111111111111111111111111111111111111111111111111111,\
y=2222222222222222222222222222222222222222222222222222222222222222,id=secp256r1";
