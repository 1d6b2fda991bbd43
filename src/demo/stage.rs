//! The stage: a temporary folder, software TPMs, a server and agents as processes of this binary.
//! The demo plays on it, and so do the tests of the whole product.
//!
//! Dropping it stops the processes, then the TPMs, then removes the folder. Children die with
//! this process, whatever ends it.

use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use assay_evidence::crypto;
use assay_swtpm::LocalCa;
use assay_swtpm::RunningTpm;
use assay_swtpm::SoftwareTpm;
use serde_json::Value;

/// What both hosts measure into PCR 8 when they boot well.
const GOOD_BOOT: &[u8] = b"the kernel everybody reviewed";

pub struct Stage {
    // Dropped in this order: processes, TPMs, folder.
    server: Option<Process>,
    agents: Vec<Process>,
    hosts: Vec<Host>,
    server_tpm: RunningTpm,
    folder: Folder,
    program: PathBuf,
    interrupted: Arc<AtomicBool>,
}

pub struct Host {
    pub name: &'static str,
    pub tpm: RunningTpm,
    pub node: String,
}

struct Process {
    child: Child,
    log: PathBuf,
}

/// The temporary folder, removed on drop unless its logs are wanted.
struct Folder(PathBuf, bool);

/// What stage to set.
pub struct Setup {
    /// The `assay` to run.
    pub program: PathBuf,
    pub hosts: &'static [&'static str],
    /// Seconds between two quotes of a host; a standing lasts three times as long.
    pub refresh: u64,
    pub interrupted: Arc<AtomicBool>,
}

impl Stage {
    /// Provisions and starts the TPMs, measures a good boot on every host, writes every
    /// configuration file.
    pub fn set(setup: Setup) -> Result<Self> {
        let folder = Folder::create()?;
        let path = |name: &str| folder.0.join(name);
        let ca = LocalCa::create(path("tpm-maker"))?;
        let start = |name: &str| -> Result<RunningTpm> {
            Ok(SoftwareTpm::provision(&ca, folder.0.join(format!("tpm-{name}")), name)?.start()?)
        };
        let server_tpm = start("server")?;
        let mut hosts = Vec::new();
        for name in setup.hosts {
            let tpm = start(name)?;
            tpm.pcr_extend(8, GOOD_BOOT)?;
            hosts.push(Host { name, tpm, node: String::new() });
        }
        let [root, issuer] = ca.certificates();
        let port = free_port()?;
        let stage = Self {
            server: None,
            agents: Vec::new(),
            hosts,
            server_tpm,
            program: setup.program,
            interrupted: setup.interrupted,
            folder,
        };
        let write = |name: &str, text: String| {
            fs::write(stage.path(name), text).with_context(|| format!("cannot write `{name}`"))
        };
        write("policy.toml", policy(setup.refresh))?;
        write("profile.toml", profile(&good_register()))?;
        write("server.toml", server(&stage.server_tpm.tcti(), port, &root, &issuer))?;
        for host in &stage.hosts {
            fs::create_dir_all(stage.path(host.name))?;
            write(&format!("{}/agent.toml", host.name), agent(&host.tpm.tcti(), port))?;
        }
        Ok(stage)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.0.join(name)
    }

    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    pub fn host(&self, index: usize) -> Result<&Host> {
        self.hosts.get(index).context("no such host")
    }

    pub fn name_node(&mut self, index: usize, node: String) {
        if let Some(host) = self.hosts.get_mut(index) {
            host.node = node;
        }
    }

    /// Where the server's TPM answers.
    pub fn server_tcti(&self) -> String {
        self.server_tpm.tcti()
    }

    pub fn server_socket(&self) -> PathBuf {
        self.path("server/private/api.sock")
    }

    pub fn workload_socket(&self, host: &Host) -> PathBuf {
        self.path(host.name).join("workload.sock")
    }

    pub fn start_server(&mut self) -> Result<()> {
        let config = self.path("server.toml");
        self.server = Some(self.spawn("server", &["server", "run", "--config"], &config)?);
        Ok(())
    }

    /// Ends the server the way a crash does.
    pub fn kill_server(&mut self) -> Result<()> {
        if let Some(mut server) = self.server.take() {
            server.child.kill()?;
            server.child.wait()?;
        }
        Ok(())
    }

    /// Ends one agent the way a crash does.
    pub fn kill_agent(&mut self, index: usize) -> Result<()> {
        if index < self.agents.len() {
            let mut agent = self.agents.remove(index);
            agent.child.kill()?;
            agent.child.wait()?;
        }
        Ok(())
    }

    pub fn start_agent(&mut self, index: usize) -> Result<()> {
        let name = self.host(index)?.name;
        let config = self.path(name).join("agent.toml");
        let agent = self.spawn(name, &["agent", "run", "--config"], &config)?;
        self.agents.push(agent);
        Ok(())
    }

    fn spawn(&self, name: &str, arguments: &[&str], config: &Path) -> Result<Process> {
        let log = self.path(&format!("{name}.log"));
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--"])
            .arg(&self.program)
            .args(arguments)
            .arg(config)
            .env("TSS2_LOG", "all+none")
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Process { child, log })
    }

    /// Runs `assay` with these arguments and `--json`; a refusal (exit 1) is an answer too.
    pub fn ask(&self, arguments: &[&str], socket: &Path) -> Result<(Value, bool)> {
        let output = Command::new(&self.program)
            .args(arguments)
            .arg("--json")
            .arg("--socket")
            .arg(socket)
            .stdin(Stdio::null())
            .output()?;
        let json = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("`assay {}` gave no JSON", arguments.join(" ")))?;
        Ok((json, output.status.success()))
    }

    /// The same, where nothing but success will do.
    pub fn demand(&self, arguments: &[&str], socket: &Path) -> Result<Value> {
        match self.ask(arguments, socket)? {
            (json, true) => Ok(json),
            (json, false) => bail!("`assay {}` failed: {json}", arguments.join(" ")),
        }
    }

    /// The text that a command prints for people.
    pub fn text(&self, arguments: &[&str], socket: &Path) -> Result<String> {
        let output = Command::new(&self.program)
            .args(arguments)
            .arg("--socket")
            .arg(socket)
            .stdin(Stdio::null())
            .output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    pub fn openssl(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new("openssl");
        command.args(arguments).current_dir(&self.folder.0).stdin(Stdio::null());
        command.output().context("cannot run openssl")
    }

    /// Asks again until `ready` gives something; gives up with the end of the log after `limit`.
    pub fn until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut ready: impl FnMut(&Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let deadline = Instant::now() + limit;
        loop {
            if self.interrupted() {
                bail!("interrupted");
            }
            if let Some(value) = ready(self)? {
                return Ok(value);
            }
            for process in self.server.iter_mut().chain(&mut self.agents) {
                if let Some(status) = process.child.try_wait()? {
                    bail!("{what}: a process ended with {status}\n{}", tail(&process.log));
                }
            }
            if Instant::now() > deadline {
                let logs: Vec<_> = self.server.iter().chain(&self.agents).collect();
                let tails: Vec<_> = logs.iter().map(|process| tail(&process.log)).collect();
                bail!("{what} did not happen within {limit:?}\n{}", tails.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst)
    }

    /// Leaves the folder where it is, for somebody to read the logs.
    pub fn keep_logs(&mut self) -> PathBuf {
        self.folder.1 = true;
        self.folder.0.clone()
    }
}

/// A flag that Ctrl-C or SIGTERM raises.
pub fn interrupts() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let raised = flag.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut terminate = {
        let _entered = runtime.enter();
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        });
        raised.store(true, Ordering::SeqCst);
    });
    Ok(flag)
}

impl Drop for Process {
    fn drop(&mut self) {
        // An orderly stop first: it flushes the TPM. Then no more patience.
        let id = i32::try_from(self.child.id()).unwrap_or(0);
        if let Some(pid) = rustix::process::Pid::from_raw(id) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Folder {
    /// A private folder below the system's temporary one; short, for socket paths are bounded.
    fn create() -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(format!("assay-demo-{process}-{number}"));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot create `{}`", path.display()))?;
        Ok(Self(path, false))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.1 {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// A port that nothing listened on a moment ago.
fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(12);
    lines.get(from..).unwrap_or_default().join("\n")
}

/// PCR 8 after a good boot: SHA-256(zeros ‖ SHA-256(measurement)).
fn good_register() -> [u8; 32] {
    let mut extended = vec![0; 32];
    extended.extend(crypto::sha256(GOOD_BOOT));
    crypto::sha256(&extended)
}

fn policy(refresh: u64) -> String {
    format!(
        "# The demo allows software TPMs openly; a real policy leaves `software` out.\n\
         tpm_class = [\"software\"]\n\
         refresh_every = \"{refresh}s\"\n\
         max_age = \"{}s\"\n",
        refresh * 3
    )
}

fn profile(eight: &[u8; 32]) -> String {
    format!(
        "schema = \"firmware-profile/1\"\n\
         id = \"demo/swtpm\"\n\
         serial = 1\n\
         root = \"tpm2\"\n\
         banks = [\"sha256\"]\n\n\
         [[component]]\n\
         name = \"firmware\"\n\
         on = [0, 8]\n\n\
         [[component.variant]]\n\
         name = \"the kernel everybody reviewed\"\n\
         state = \"active\"\n\
         pcr = {{ sha256 = {{ \"0\" = \"{}\", \"8\" = \"{}\" }} }}\n",
        "00".repeat(32),
        hex::encode(eight)
    )
}

fn server(tcti: &str, port: u16, root: &Path, issuer: &Path) -> String {
    let (root, issuer) = (root.display(), issuer.display());
    format!(
        "trust_domain = \"example.org\"\n\
         data_dir = \"server\"\n\
         listen = \"127.0.0.1:{port}\"\n\n\
         [bootstrap]\n\
         bundle = \"bundle.pem\"\n\n\
         [keys]\n\
         custody = \"tpm\"\n\
         device = \"{tcti}\"\n\n\
         [[keys.ek_root]]\n\
         path = \"{root}\"\n\
         intermediates = \"{issuer}\"\n\
         class = \"software\"\n\n\
         [nodes]\n\
         profile = \"profile.toml\"\n\
         policy = \"policy.toml\"\n\
         admit = [\"hash\"]\n\n\
         [[nodes.ek_root]]\n\
         path = \"{root}\"\n\
         intermediates = \"{issuer}\"\n\
         class = \"software\"\n"
    )
}

fn agent(tcti: &str, port: u16) -> String {
    format!(
        "trust_domain = \"example.org\"\n\
         server = \"127.0.0.1:{port}\"\n\
         data_dir = \"data\"\n\
         socket = \"workload.sock\"\n\
         device = \"{tcti}\"\n\n\
         [bootstrap]\n\
         bundle = \"../bundle.pem\"\n"
    )
}
