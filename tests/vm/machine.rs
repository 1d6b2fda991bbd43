//! A virtual machine: QEMU without any privilege, OVMF, a TPM by swtpm, and a wire by which the
//! test is its administrator. From inside it reaches one port of this machine's loopback, the
//! server's, and nothing else. Dropping it ends its processes.

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use assay_swtpm::SoftwareTpm;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::parts::Firmware;
use crate::parts::program;

/// From power on to the first process, on a machine that has other things to do as well.
const BOOT: Duration = Duration::from_secs(180);
/// A command in the guest.
const COMMAND: Duration = Duration::from_secs(60);

pub struct Setup<'a> {
    pub firmware: Firmware,
    pub disk: &'a Path,
    pub tpm: &'a SoftwareTpm,
    /// The server on the loopback of this machine.
    pub port: u16,
    pub memory_mib: u32,
    pub processors: u32,
}

pub struct Machine {
    // Dropped in this order.
    wire: Option<BufReader<UnixStream>>,
    qemu: Ended,
    tpm: Ended,
    folder: PathBuf,
    asked: u32,
}

/// A process that ends with its owner.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Machine {
    /// Switches it on and waits until its first process is there.
    pub fn boot(folder: &Path, setup: &Setup<'_>) -> Result<Self> {
        let mut machine = Self::power_on(folder, setup)?;
        match machine.line(Instant::now() + BOOT) {
            Ok(line) if line == "ready" => Ok(machine),
            Ok(line) => bail!("the guest said `{line}`, not `ready`{}", machine.tail()),
            Err(error) => Err(error.context(format!("no boot{}", machine.tail()))),
        }
    }

    /// Switches it on and waits until firmware says that it does not start what is there.
    pub fn denied(folder: &Path, setup: &Setup<'_>, word: &str) -> Result<()> {
        let machine = Self::power_on(folder, setup)?;
        let said = || String::from_utf8_lossy(&machine.console()).contains(word);
        until(BOOT, said).with_context(|| format!("no `{word}`{}", machine.tail()))
    }

    fn console(&self) -> Vec<u8> {
        fs::read(self.folder.join("console.log")).unwrap_or_default()
    }

    /// `folder` is its own and short, for socket paths are bounded.
    fn power_on(folder: &Path, setup: &Setup<'_>) -> Result<Self> {
        // A reboot comes back to the same folder: what is left of the boot before must not be met.
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        let path = |name: &str| folder.join(name);
        let tpm = Ended(
            quiet("swtpm")
                .args(["socket", "--tpm2", "--tpmstate"])
                .arg(format!("dir={}", setup.tpm.folder().display()))
                .arg("--ctrl")
                .arg(format!("type=unixio,path={}", path("tpm.sock").display()))
                .arg("--terminate")
                .spawn()
                .context("cannot start swtpm")?,
        );
        until(Duration::from_secs(10), || path("tpm.sock").exists()).context("swtpm")?;
        fs::copy(setup.firmware.variables(), path("vars.fd"))?;
        let wrapper = path("server");
        let busybox = program("busybox").context("no busybox")?;
        let port = setup.port;
        let text = format!("#!/bin/sh\nexec {} nc 127.0.0.1 {port}\n", busybox.display());
        fs::write(&wrapper, text)?;
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o700))?;
        let log = fs::File::create(path("qemu.log"))?;
        let mut qemu = quiet("qemu-system-x86_64");
        let secure = setup.firmware == Firmware::SecureBoot;
        let smm = if secure { "on" } else { "off" };
        qemu.args(["-accel", "tcg,thread=multi", "-nodefaults", "-display", "none", "-no-reboot"]);
        qemu.args(["-machine", &format!("q35,smm={smm}"), "-m", &setup.memory_mib.to_string()]);
        qemu.args(["-smp", &setup.processors.to_string()]);
        if secure {
            qemu.args(["-global", "driver=cfi.pflash01,property=secure,value=on"]);
            qemu.args(["-global", "ICH9-LPC.disable_s3=1"]);
        }
        let code = setup.firmware.code();
        let drives = [
            format!("if=pflash,unit=0,format=raw,readonly=on,file={}", code.display()),
            format!("if=pflash,unit=1,format=raw,file={}", path("vars.fd").display()),
            format!("if=none,id=disk,format=raw,readonly=on,file={}", setup.disk.display()),
        ];
        for drive in &drives {
            qemu.args(["-drive", drive]);
        }
        qemu.args(["-device", "virtio-blk-pci,drive=disk,bootindex=1"]);
        qemu.args(["-chardev", &format!("socket,id=tpm,path={}", path("tpm.sock").display())]);
        qemu.args(["-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0"]);
        qemu.args(["-serial", &format!("file:{}", path("console.log").display())]);
        let wire = path("wire.sock");
        let chardev = format!("socket,id=wire,path={},server=on,wait=off", wire.display());
        qemu.args(["-chardev", &chardev, "-device", "virtio-serial-pci"]);
        qemu.args(["-device", "virtserialport,chardev=wire,name=wire,nr=1"]);
        let forward = format!("guestfwd=tcp:10.0.2.100:8081-cmd:{}", wrapper.display());
        qemu.args(["-netdev", &format!("user,id=net,restrict=on,{forward}")]);
        qemu.args(["-device", "virtio-net-pci,netdev=net,romfile="]);
        qemu.args(["-device", "virtio-rng-pci"]);
        let qemu = Ended(qemu.stderr(log).spawn().context("cannot start QEMU")?);
        let folder = folder.to_owned();
        let mut machine = Self { wire: None, qemu, tpm, folder, asked: 0 };
        until(Duration::from_secs(20), || wire.exists()).context("QEMU's wire")?;
        machine.wire = Some(BufReader::new(UnixStream::connect(&wire)?));
        Ok(machine)
    }

    /// Runs a command of the shell in the guest, which must succeed; gives what it printed.
    pub fn run(&mut self, command: &str) -> Result<String> {
        let (text, good) = self.ask(command)?;
        ensure!(good, "`{command}` failed in the guest: {text}{}", self.tail());
        Ok(text)
    }

    /// The same where failing is an answer.
    pub fn ask(&mut self, command: &str) -> Result<(String, bool)> {
        self.asked += 1;
        let mark = format!("@@{}", self.asked);
        let wire = self.wire.as_mut().context("no wire")?;
        let asked = format!("{command}\ncode=$?\necho; echo {mark} $code\n");
        wire.get_mut().write_all(asked.as_bytes())?;
        let deadline = Instant::now() + COMMAND;
        let mut text = String::new();
        loop {
            let line = self
                .line(deadline)
                .with_context(|| format!("`{command}` in the guest{}", self.tail()))?;
            match line.strip_prefix(&mark) {
                Some(code) => return Ok((text.trim_end().to_owned(), code.trim() == "0")),
                None => text.push_str(&format!("{line}\n")),
            }
        }
    }

    /// An orderly end, after which the TPM's state is at rest.
    pub fn off(mut self) -> Result<()> {
        let wire = self.wire.as_mut().context("no wire")?;
        wire.get_mut().write_all(b"poweroff -f\n")?;
        until(COMMAND, || matches!(self.qemu.0.try_wait(), Ok(Some(_))))?;
        until(COMMAND, || matches!(self.tpm.0.try_wait(), Ok(Some(_))))
    }

    /// A file of the guest.
    pub fn file(&mut self, path: &str) -> Result<Vec<u8>> {
        let text = self.run(&format!("base64 {path}"))?;
        Ok(STANDARD.decode(text.replace('\n', ""))?)
    }

    fn line(&mut self, deadline: Instant) -> Result<String> {
        let wire = self.wire.as_mut().context("no wire")?;
        let mut line = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(
                !left.is_zero(),
                "no answer in time, only `{}`",
                String::from_utf8_lossy(&line)
            );
            wire.get_ref().set_read_timeout(Some(left.min(Duration::from_millis(500))))?;
            match wire.read_until(b'\n', &mut line) {
                Ok(0) => bail!("the machine is gone"),
                Ok(_) if line.ends_with(b"\n") => break,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
            if let Some(status) = self.qemu.0.try_wait()? {
                bail!("QEMU ended with {status}");
            }
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// The end of what console and QEMU said, for whoever reads why a test failed.
    fn tail(&self) -> String {
        let mut text = String::new();
        for name in ["console.log", "qemu.log"] {
            let log = fs::read(self.folder.join(name)).unwrap_or_default();
            let log = String::from_utf8_lossy(&log).into_owned();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines.get(lines.len().saturating_sub(15)..).unwrap_or_default();
            text.push_str(&format!("\n--- {name}\n{}", end.join("\n")));
        }
        text
    }
}

/// A program that dies with the thread that started it, and reads and says nothing.
fn quiet(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

pub fn until(limit: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + limit;
    while !ready() {
        ensure!(Instant::now() < deadline, "not ready within {limit:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
