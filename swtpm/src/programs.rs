//! The foreign programs this crate runs, and how it runs one to its end: in a process group of
//! its own, so that the terminal's Ctrl-C never ends a TPM before it was shut down in order, and
//! with a bound on time. Every child dies with its parent.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Pid;
use rustix::process::Signal;

use crate::Error;
use crate::Result;

/// The programs that must be installed and are not, so that a test can skip and say why.
pub fn missing_programs() -> Vec<&'static str> {
    NEEDED.iter().copied().filter(|name| find(name).is_none()).collect()
}

/// The whole path of a program on `PATH`.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    std::env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// `setpriv --pdeathsig KILL -- program`, in its own process group.
///
/// The kernel sends that signal when the *thread* that made the child ends, so whoever calls this
/// for a child that outlives the call must do it from a thread that outlives the child.
pub(crate) fn tethered(program: &'static str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]).process_group(0);
    command
}

/// Run a program to its end with its output in `log`; on refusal the error carries the log's tail.
pub(crate) fn run<I, S>(program: &'static str, arguments: I, log: &Path) -> Result<()>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let output = fs::File::create(log).map_err(Error::file("create", log))?;
    let errors = output.try_clone().map_err(Error::file("open", log))?;
    let mut child = tethered(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(Error::system("start a program through setpriv"))?;

    let deadline = Instant::now() + RUN_LIMIT;
    loop {
        match child.try_wait().map_err(Error::system("wait for a program"))? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => {
                let (status, tail) = (status.to_string(), tail_of(log));
                return Err(Error::Program { program, status, tail });
            }
            None if Instant::now() >= deadline => {
                // The whole group: these programs start an swtpm of their own.
                if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                    let _ = rustix::process::kill_process_group(group, Signal::KILL);
                }
                let _ = child.wait();
                return Err(Error::ProgramStuck { program, seconds: RUN_LIMIT.as_secs() });
            }
            None => std::thread::sleep(WAIT_STEP),
        }
    }
}

pub(crate) fn tail_of(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<&str> = text.lines().rev().take(TAIL_LINES).collect();
    lines.reverse();
    lines.join(" / ")
}

const NEEDED: [&str; 6] = ["swtpm", "swtpm_setup", "swtpm_localca", "certtool", "setpriv", "bash"];
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// Provisioning takes about one second; two busy cores may make it ten.
const RUN_LIMIT: Duration = Duration::from_secs(120);
pub(crate) const WAIT_STEP: Duration = Duration::from_millis(5);
const TAIL_LINES: usize = 6;
