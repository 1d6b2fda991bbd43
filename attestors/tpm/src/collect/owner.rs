//! The one thread that talks to a TPM, and the queue before it.
//!
//! The TPM's library forbids two threads in one context, and a TPM does one thing at a time
//! anyway. So commands wait in a bounded queue, each with the time by which it is wanted; what is
//! too late is dropped unexecuted. When the line breaks, or the TPM has forgotten our keys, the
//! connection is opened anew and the command repeated once: every command here can be.
//!
//! A command that hangs inside the kernel cannot be taken back; its caller gets
//! [`Error::Deadline`], and so do those who wait behind it until the kernel gives up.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use zeroize::Zeroizing;

use super::Settings;
use super::address::Address;
use super::connection;
use super::connection::Connection;
use super::endorsement::EkCertificates;
use super::endorsement::EndorsementKey;
use super::error::Error;
use super::key::DeviceKey;
use super::key::KeyBlob;
use super::signature::EcdsaSignature;
use super::statements::Bank;
use super::statements::Quote;
use crate::Hierarchy;
use crate::PcrSelection;

type Reply<T> = mpsc::SyncSender<Result<T, Error>>;

/// All that can be asked of a TPM, each with its place to answer to.
pub(super) enum Command {
    EkCertificates(Reply<EkCertificates>),
    EndorsementKey(EkCertificates, Reply<EndorsementKey>),
    PersistentKey(u32, Reply<DeviceKey>),
    Nv(u32, Reply<Option<Vec<u8>>>),
    CreatePrimary(Hierarchy, Vec<u8>, Zeroizing<Vec<u8>>, Reply<DeviceKey>),
    Activate(EndorsementKey, DeviceKey, Vec<u8>, Vec<u8>, Reply<Zeroizing<Vec<u8>>>),
    Banks(Reply<Vec<Bank>>),
    Values(Vec<PcrSelection>, Reply<Vec<u8>>),
    Quote(DeviceKey, Vec<PcrSelection>, Vec<u8>, Reply<Quote>),
    Certify(DeviceKey, DeviceKey, Vec<u8>, Reply<Vec<u8>>),
    Sign(DeviceKey, [u8; 32], Reply<EcdsaSignature>),
    CreateIssuingKey(Zeroizing<Vec<u8>>, Reply<KeyBlob>),
    LoadIssuingKey(KeyBlob, Zeroizing<Vec<u8>>, Reply<DeviceKey>),
    Flush(DeviceKey, Reply<()>),
}

struct Job {
    command: Command,
    wanted_by: Instant,
}

/// The near end of the queue. Dropping it ends the thread, and waits for that a little, so that
/// whoever opens the same TPM next finds it free.
pub(super) struct Queue {
    jobs: Option<mpsc::SyncSender<Job>>,
    ended: std::sync::Mutex<mpsc::Receiver<()>>,
    deadline: Duration,
}

impl Queue {
    /// Open the TPM on a thread of its own.
    pub(super) fn start(address: Address, settings: Settings) -> Result<Queue, Error> {
        let deadline = settings.deadline;
        let (jobs, inbox) = mpsc::sync_channel::<Job>(QUEUE);
        let (opened, result) = mpsc::sync_channel(1);
        let (ending, ended) = mpsc::sync_channel(1);
        let spawned = thread::Builder::new().name("tpm".to_owned()).spawn(move || {
            let mut owner = Owner { address, settings, connection: None };
            let answer = owner.connected().map(|_| ());
            let failed = answer.is_err();
            let _ = opened.send(answer);
            if !failed {
                inbox.iter().for_each(|job| owner.execute(job));
            }
            drop(owner);
            let _ = ending.send(());
        });
        spawned.map_err(|_| Error::Stopped)?;
        match result.recv_timeout(deadline) {
            Ok(answer) => answer?,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                return Err(Error::Deadline { command: "open", after: deadline });
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => return Err(Error::Stopped),
        }
        Ok(Queue { jobs: Some(jobs), ended: std::sync::Mutex::new(ended), deadline })
    }

    /// Wait in line, then for the answer.
    pub(super) fn ask<T>(
        &self,
        name: &'static str,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T, Error> {
        let (reply, answer) = mpsc::sync_channel(1);
        let wanted_by = Instant::now() + self.deadline;
        let jobs = self.jobs.as_ref().ok_or(Error::Stopped)?;
        jobs.try_send(Job { command: command(reply), wanted_by }).map_err(|error| match error {
            mpsc::TrySendError::Full(_) => Error::QueueFull { waiting: QUEUE },
            mpsc::TrySendError::Disconnected(_) => Error::Stopped,
        })?;
        let late = || Error::Deadline { command: name, after: self.deadline };
        match answer.recv_timeout(self.deadline) {
            Ok(answer) => answer,
            Err(mpsc::RecvTimeoutError::Timeout) => Err(late()),
            // The owner drops what came too late; else it has ended.
            Err(mpsc::RecvTimeoutError::Disconnected) if Instant::now() >= wanted_by => Err(late()),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(Error::Stopped),
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.jobs = None;
        if let Ok(ended) = self.ended.get_mut() {
            let _ = ended.recv_timeout(END_LIMIT);
        }
    }
}

struct Owner {
    address: Address,
    settings: Settings,
    connection: Option<Connection>,
}

impl Owner {
    fn execute(&mut self, Job { command, wanted_by }: Job) {
        if Instant::now() >= wanted_by {
            return;
        }
        match command {
            Command::EkCertificates(reply) => {
                self.answer(wanted_by, &reply, |tpm| tpm.ek_certificates());
            }
            Command::EndorsementKey(found, reply) => {
                self.answer(wanted_by, &reply, |tpm| tpm.endorsement_key(&found.certificates));
            }
            Command::PersistentKey(handle, reply) => {
                self.answer(wanted_by, &reply, |tpm| tpm.persistent_key(handle));
            }
            Command::Nv(index, reply) => self.answer(wanted_by, &reply, |tpm| tpm.nv(index)),
            Command::CreatePrimary(hierarchy, template, auth, reply) => {
                self.answer(wanted_by, &reply, |tpm| {
                    tpm.create_primary(hierarchy, template.clone(), auth.clone())
                });
            }
            Command::Activate(ek, ak, blob, secret, reply) => {
                self.answer(wanted_by, &reply, |tpm| tpm.activate(&ek, &ak, &blob, &secret));
            }
            Command::Banks(reply) => self.answer(wanted_by, &reply, |tpm| tpm.banks()),
            Command::Values(selections, reply) => {
                self.answer(wanted_by, &reply, |tpm| tpm.values(&selections));
            }
            Command::Quote(ak, selections, qualifying, reply) => {
                self.answer(wanted_by, &reply, |tpm| tpm.quote(&ak, &selections, &qualifying));
            }
            Command::Certify(ak, key, qualifying, reply) => {
                self.answer(wanted_by, &reply, |tpm| tpm.certify(&ak, &key, &qualifying));
            }
            Command::Sign(key, digest, reply) => {
                self.answer(wanted_by, &reply, |tpm| tpm.sign(&key, &digest));
            }
            Command::CreateIssuingKey(auth, reply) => {
                self.answer(wanted_by, &reply, |tpm| tpm.create_issuing_key(&auth));
            }
            Command::LoadIssuingKey(blob, auth, reply) => {
                self.answer(wanted_by, &reply, |tpm| tpm.load_issuing_key(&blob, auth.clone()));
            }
            Command::Flush(key, reply) => self.answer(wanted_by, &reply, |tpm| tpm.unload(&key)),
        }
    }

    /// Execute and send the result; a caller that has gone is no matter.
    fn answer<T>(
        &mut self,
        wanted_by: Instant,
        reply: &Reply<T>,
        mut operation: impl FnMut(&mut Connection) -> Result<T, Error>,
    ) {
        let mut result = self.attempt(wanted_by, &mut operation);
        if let (Err(error), Some(connection)) = (&result, &mut self.connection)
            && error.is_full()
        {
            connection.unload_all();
            result = self.attempt(wanted_by, &mut operation);
        }
        if result.as_ref().is_err_and(|error| error.is_transport() || error.is_stale()) {
            tracing::warn!(device = %self.address, "the TPM is opened anew");
            self.connection = None;
            result = self.attempt(wanted_by, &mut operation);
            if result.as_ref().is_err_and(Error::is_transport) {
                self.connection = None;
            }
        }
        let _ = reply.send(result);
    }

    fn attempt<T>(
        &mut self,
        wanted_by: Instant,
        operation: &mut impl FnMut(&mut Connection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let address = self.address.clone();
        let connection = self.connected()?;
        connection::patiently(wanted_by, || operation(connection))
            .map_err(|error| connection.diagnose(error))
            .map_err(|error| connection::named(error, &address))
    }

    fn connected(&mut self) -> Result<&mut Connection, Error> {
        if self.connection.is_none() {
            self.connection = Some(Connection::open(&self.address, &self.settings)?);
        }
        self.connection.as_mut().ok_or(Error::Stopped)
    }
}

/// More than these wait for seconds on a hardware TPM: refuse at once instead.
const QUEUE: usize = 64;
const END_LIMIT: Duration = Duration::from_secs(2);
