//! The swtpm process behind the relay, spoken to over a socket pair that nobody else can open.
//!
//! It ends by itself when our end of the pair closes, and the kernel kills it when the thread that
//! started it ends; so nothing of it is left behind whatever happens to us.

use std::fs::File;
use std::io::Read as _;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Child;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use crate::Error;
use crate::Result;
use crate::command;
use crate::programs;

pub(crate) struct Engine {
    child: Child,
    /// None once the power is off.
    link: Option<UnixStream>,
}

impl Engine {
    /// Start swtpm on `folder` with TPM2_Startup(CLEAR). The thread that calls this must outlive
    /// the engine.
    pub(crate) fn power_on(folder: &Path) -> Result<Self> {
        let (ours, theirs) = UnixStream::pair().map_err(Error::system("make a socket pair"))?;
        let log = folder.join(LOG);
        let log = File::create(&log).map_err(Error::file("create", &log))?;
        let errors = log.try_clone().map_err(Error::system("share the log"))?;
        let mut state = std::ffi::OsString::from("dir=");
        state.push(folder);
        // swtpm refuses descriptors 0 to 2 for the line, and only those can be given without
        // unsafe code: the shell moves it to 3. It also closes what others in our process opened
        // without O_CLOEXEC, as libtss2 does with the device: a copy would keep it open.
        let child = programs::tethered("bash")
            .args(["-c", START, "swtpm"])
            .arg(state)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(Error::system("start swtpm through setpriv"))?;
        ours.set_read_timeout(Some(ANSWER_LIMIT)).map_err(Error::system("set a time limit"))?;
        ours.set_write_timeout(Some(ANSWER_LIMIT)).map_err(Error::system("set a time limit"))?;
        Ok(Self { child, link: Some(ours) })
    }

    /// Why it ended, as it said itself.
    pub(crate) fn last_words(mut self, folder: &Path) -> Error {
        let _ = self.child.kill();
        let status = self.child.wait().map_or_else(|error| error.to_string(), |s| s.to_string());
        Error::Program { program: "swtpm", status, tail: programs::tail_of(&folder.join(LOG)) }
    }

    /// Forget failed tries: a TPM that lost power after a use of a protected key counts one, and
    /// at the third locks its endorsement keys.
    pub(crate) fn reset_lockout(&mut self) -> Result<()> {
        let answer = self.exchange_retrying(&command::lockout_reset())?;
        command::parameters("DictionaryAttackLockReset", &answer).map(|_| ())
    }

    /// One command, one answer.
    pub(crate) fn exchange(&mut self, frame: &[u8]) -> Result<Vec<u8>> {
        let link = self.link.as_mut().ok_or(Error::Dead)?;
        let answer = talk(link, frame);
        if answer.is_err() {
            // Half an answer may still come: this line is of no more use.
            self.link = None;
        }
        answer
    }

    /// The same for our own commands, which nobody would repeat for us.
    pub(crate) fn exchange_retrying(&mut self, frame: &[u8]) -> Result<Vec<u8>> {
        let mut answer = self.exchange(frame)?;
        for _ in 0..RETRIES {
            match command::response_code(&answer) {
                Some(0x922 | 0x908 | 0x90a) => answer = self.exchange(frame)?,
                _ => break,
            }
        }
        Ok(answer)
    }

    /// What the kernel's resource manager does when a client closes the device.
    pub(crate) fn flush_client(&mut self) -> Result<()> {
        for first in command::CLIENT_RANGES {
            let answer = self.exchange_retrying(&command::handles_from(first))?;
            for handle in command::parse_handles(&answer)? {
                if handle >> 24 == first >> 24 {
                    let answer = self.exchange_retrying(&command::flush(handle))?;
                    command::parameters("FlushContext", &answer)?;
                }
            }
        }
        Ok(())
    }

    /// TPM2_Shutdown, then no power.
    pub(crate) fn power_off(mut self) -> Result<()> {
        let answer = self.exchange_retrying(&command::shutdown())?;
        command::parameters("Shutdown", &answer)?;
        self.link = None;
        let deadline = Instant::now() + END_LIMIT;
        while Instant::now() < deadline {
            if self.child.try_wait().map_err(Error::system("wait for swtpm"))?.is_some() {
                return Ok(());
            }
            std::thread::sleep(programs::WAIT_STEP);
        }
        Ok(()) // dropping kills it; the state is on disk since TPM2_Shutdown
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn talk(link: &mut UnixStream, frame: &[u8]) -> Result<Vec<u8>> {
    let engine = |source| Error::Engine { source };
    link.write_all(frame).map_err(engine)?;
    let mut answer = vec![0; command::HEADER];
    link.read_exact(&mut answer).map_err(engine)?;
    let size = command::frame_size(&answer)
        .filter(|size| (command::HEADER..=command::MAX_FRAME).contains(size))
        .ok_or(Error::Malformed { command: "a command" })?;
    answer.resize(size, 0);
    let rest = answer.get_mut(command::HEADER..).ok_or(Error::Dead)?;
    link.read_exact(rest).map_err(engine)?;
    Ok(answer)
}

const LOG: &str = "swtpm.log";
const START: &str = r#"
for link in /proc/$$/fd/*; do fd=${link##*/}; if ((fd > 2)); then eval "exec $fd>&-"; fi; done
exec swtpm socket --tpm2 --tpmstate "$1" --fd 3 --flags not-need-init,startup-clear 3<&0 0</dev/null
"#;
/// RSA key generation on a busy machine is the slowest thing a TPM does.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);
const END_LIMIT: Duration = Duration::from_secs(2);
const RETRIES: usize = 10;
