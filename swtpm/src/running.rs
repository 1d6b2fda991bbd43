//! The handle of a TPM that is switched on: its address for clients, and what only the "host" can
//! do to it. Dropping it shuts the TPM down in order.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::Error;
use crate::Result;
use crate::SoftwareTpm;
use crate::command;
use crate::relay::Order;
use crate::relay::Relay;
use crate::relay::Reply;
use crate::relay::Request;

/// A TPM that is switched on, behind a relay that plays `/dev/tpmrm0`.
#[derive(Debug)]
pub struct RunningTpm {
    tpm: SoftwareTpm,
    device: PathBuf,
    orders: mpsc::SyncSender<Request>,
    bell: UnixStream,
    relay: Option<JoinHandle<()>>,
}

impl RunningTpm {
    pub(crate) fn start(tpm: SoftwareTpm) -> Result<Self> {
        let (orders, inbox) = mpsc::sync_channel::<Request>(ORDERS);
        let (bell, ears) = UnixStream::pair().map_err(Error::system("make a socket pair"))?;
        ears.set_nonblocking(true).map_err(Error::system("make a socket pair"))?;
        let (started, result) = mpsc::sync_channel(1);
        let folder = tpm.folder().to_owned();
        let device = folder.join(DEVICE);
        let link = device.clone();
        let relay = thread::Builder::new()
            .name(format!("tpm {}", tpm.name()))
            .spawn(move || match Relay::power_on(&folder, &link) {
                Ok(relay) => {
                    let _ = started.send(Ok(()));
                    relay.run(&inbox, ears);
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            })
            .map_err(Error::system("start the relay's thread"))?;
        result.recv().map_err(|_| Error::RelayGone)??;
        Ok(Self { tpm, device, orders, bell, relay: Some(relay) })
    }

    /// How a client addresses it. The same through [`Self::vanish`] and [`Self::come_back`], as
    /// the link is followed at each open.
    pub fn tcti(&self) -> String {
        format!("device:{}", self.device.display())
    }

    /// The device node's path. One client at a time, as with `/dev/tpm0`.
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// The TPM at rest that this is.
    pub fn tpm(&self) -> &SoftwareTpm {
        &self.tpm
    }

    /// PEM files of the root and the intermediate that vouch for its endorsement keys.
    pub fn ek_roots(&self) -> &[PathBuf; 2] {
        self.tpm.ek_roots()
    }

    /// Measure `data` into a PCR: the TPM hashes it for each of its banks. At most 1024 bytes.
    pub fn pcr_extend(&self, index: u8, data: &[u8]) -> Result<()> {
        self.checked("PCR_Event", command::pcr_event(index, data)?)
    }

    /// Extend the SHA-256 bank alone with a ready digest.
    pub fn pcr_extend_digest(&self, index: u8, digest: &[u8; 32]) -> Result<()> {
        self.checked("PCR_Extend", command::pcr_extend_sha256(index, digest))
    }

    /// The host reboots: an orderly shutdown, then power off and on. PCRs start anew, every loaded
    /// object is gone, the counters show it; keys and certificates stay.
    pub fn reset(&self) -> Result<()> {
        self.order(Order::HostReboot).map(|_| ())
    }

    /// The host loses power: as [`Self::reset`] but without a shutdown, so the TPM counts a failed
    /// try for each protected key that was in use, and its clock is not safe for a while.
    pub fn lose_power(&self) -> Result<()> {
        self.order(Order::PowerLoss).map(|_| ())
    }

    /// The device node disappears, in the middle of a command if one is under way.
    pub fn vanish(&self) -> Result<()> {
        self.order(Order::Vanish).map(|_| ())
    }

    /// It is there again, under the same address.
    pub fn come_back(&self) -> Result<()> {
        self.order(Order::ComeBack).map(|_| ())
    }

    /// Hold back each answer for so long, as a discrete TPM would.
    pub fn slow_down(&self, latency: Duration) -> Result<()> {
        self.order(Order::SlowDown(latency)).map(|_| ())
    }

    /// A clone at rest: the state as it is now, in another folder.
    pub fn duplicate(&self, folder: impl AsRef<Path>, name: &str) -> Result<SoftwareTpm> {
        let clone = self.tpm.empty_twin(folder.as_ref(), name)?;
        self.order(Order::Duplicate(clone.state_file()))?;
        Ok(clone)
    }

    /// One raw command between two of the client's, and its raw answer.
    pub fn command(&self, frame: &[u8]) -> Result<Vec<u8>> {
        match self.order(Order::Command(frame.to_owned()))? {
            Reply::Answer(answer) => Ok(answer),
            Reply::Done | Reply::Handles(_) => Err(Error::RelayGone),
        }
    }

    /// Transient objects and sessions that are there now.
    pub fn loaded_handles(&self) -> Result<Vec<u32>> {
        match self.order(Order::Handles)? {
            Reply::Handles(handles) => Ok(handles),
            Reply::Done | Reply::Answer(_) => Err(Error::RelayGone),
        }
    }

    /// Shut down in order and say whether that worked; dropping does the same in silence.
    pub fn stop(mut self) -> Result<SoftwareTpm> {
        self.end()?;
        Ok(self.tpm.clone())
    }

    fn checked(&self, name: &'static str, frame: Vec<u8>) -> Result<()> {
        command::parameters(name, &self.command(&frame)?).map(|_| ())
    }

    fn order(&self, order: Order) -> Result<Reply> {
        let (reply, result) = mpsc::sync_channel(1);
        self.orders.send((order, reply)).map_err(|_| Error::RelayGone)?;
        (&self.bell).write_all(&[1]).map_err(|_| Error::RelayGone)?;
        result.recv().map_err(|_| Error::RelayGone)?
    }

    fn end(&mut self) -> Result<()> {
        let Some(relay) = self.relay.take() else { return Ok(()) };
        let result = self.order(Order::Stop).map(|_| ());
        let _ = relay.join();
        result
    }
}

impl Drop for RunningTpm {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!(%error, name = self.tpm.name(), "no orderly end of a software TPM");
        }
    }
}

const DEVICE: &str = "tpm0";
/// Orders wait for one command of the client at most; more than a few at once is a mistake.
const ORDERS: usize = 16;
