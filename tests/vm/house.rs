//! The server that the machines attest to, as an operator runs it: a process with its keys in a
//! TPM, asked over its private socket by the commands of this program.

use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use assay_swtpm::LocalCa;
use assay_swtpm::RunningTpm;
use assay_swtpm::SoftwareTpm;
use serde_json::Value;
use tempfile::TempDir;

use crate::machine::until;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_assay");
const START: Duration = Duration::from_secs(60);

pub struct House {
    // Dropped in this order.
    server: Server,
    _tpm: RunningTpm,
    pub ca: LocalCa,
    pub port: u16,
    folder: TempDir,
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl House {
    /// Its folder is short, for socket paths are bounded.
    pub fn open() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("assay-vm-").tempdir_in("/tmp")?;
        let path = |name: &str| folder.path().join(name);
        let ca = LocalCa::create(path("maker"))?;
        let tpm = SoftwareTpm::provision(&ca, path("tpm-server"), "server")?.start()?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let [root, issuer] = ca.certificates().map(|path| path.display().to_string());
        let root =
            format!("path = \"{root}\"\nintermediates = \"{issuer}\"\nclass = \"software\"\n");
        fs::write(path("policy.toml"), POLICY)?;
        fs::write(path("nobody.toml"), NOBODY)?;
        fs::write(
            path("server.toml"),
            format!(
                "trust_domain = \"example.org\"\ndata_dir = \"server\"\n\
                 listen = \"127.0.0.1:{port}\"\n\
                 [bootstrap]\nbundle = \"bundle.pem\"\n\
                 [keys]\ncustody = \"tpm\"\ndevice = \"{}\"\n[[keys.ek_root]]\n{root}\
                 [nodes]\nprofile = \"nobody.toml\"\npolicy = \"policy.toml\"\n\
                 admit = [\"hash\"]\n[[nodes.ek_root]]\n{root}\
                 [limits]\nattestations_per_minute = 600\n",
                tpm.tcti()
            ),
        )?;
        let log = File::create(path("server.log"))?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", PROGRAM, "server", "run", "--config"])
            .arg(path("server.toml"))
            .env("TSS2_LOG", "all+none")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let house = Self { server: Server(child), _tpm: tpm, ca, port, folder };
        until(START, || house.path("bundle.pem").exists() && house.ready())
            .with_context(|| house.log())?;
        Ok(house)
    }

    fn ready(&self) -> bool {
        self.ask(&["authority", "show"]).is_ok_and(|(_, good)| good)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn bundle(&self) -> Result<Vec<u8>> {
        Ok(fs::read(self.path("bundle.pem"))?)
    }

    /// Runs `assay … --json` against the server; a refusal (exit 1) is an answer too.
    pub fn ask(&self, arguments: &[&str]) -> Result<(Value, bool)> {
        let socket = self.path("server/private/api.sock");
        answer(Command::new(PROGRAM).args(arguments).arg("--socket").arg(socket))
    }

    /// The same, where nothing but success will do.
    pub fn demand(&self, arguments: &[&str]) -> Result<Value> {
        match self.ask(arguments)? {
            (json, true) => Ok(json),
            (json, false) => bail!("`assay {}`: {json}\n{}", arguments.join(" "), self.log()),
        }
    }

    /// Leaves the folder where it is, for somebody to read the logs.
    pub fn keep(&mut self) {
        self.folder.disable_cleanup(true);
        let _ = self.server.0.try_wait();
        println!("logs are in {}", self.folder.path().display());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("server.log")).unwrap_or_default()
    }
}

/// Runs an offline command in `folder`, which must succeed.
pub fn offline(folder: &Path, arguments: &[&str]) -> Result<Value> {
    match answer(Command::new(PROGRAM).args(arguments).current_dir(folder))? {
        (json, true) => Ok(json),
        (json, false) => bail!("`assay {}`: {json}", arguments.join(" ")),
    }
}

fn answer(command: &mut Command) -> Result<(Value, bool)> {
    let output = command.arg("--json").stdin(Stdio::null()).output()?;
    let json = serde_json::from_slice(&output.stdout).with_context(|| {
        format!("{command:?} gave no JSON: {}", String::from_utf8_lossy(&output.stderr))
    })?;
    Ok((json, output.status.success()))
}

pub fn text(json: &Value, pointer: &str) -> String {
    match json.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

/// Software TPMs are let in, for these are all there are; refreshes come often.
const POLICY: &str = "tpm_class = [\"software\"]\nrefresh_every = \"3s\"\nmax_age = \"60s\"\n";

/// What judges a machine whose profile nobody named: it fits nothing that boots.
const NOBODY: &str = "schema = \"firmware-profile/1\"\nid = \"vm/nobody\"\nserial = 1\n\
    root = \"tpm2\"\nbanks = [\"sha256\"]\n\n[[component]]\nname = \"firmware\"\non = [0]\n\n\
    [[component.variant]]\nname = \"none\"\nstate = \"active\"\n\
    pcr = { sha256 = { \"0\" = \
    \"0000000000000000000000000000000000000000000000000000000000000000\" } }\n";
