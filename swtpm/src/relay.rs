//! The thread between the line and swtpm: whole frames to and fro, and what the kernel's resource
//! manager does when a client closes `/dev/tpmrm0`. It also owns the swtpm process, and takes the
//! orders of the handle between two frames.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;
use std::time::Instant;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;

use crate::Error;
use crate::Result;
use crate::command;
use crate::engine::Engine;
use crate::line::Line;
use crate::line::News;

/// What the handle may ask for, between two frames of the client.
pub(crate) enum Order {
    Command(Vec<u8>),
    Handles,
    HostReboot,
    PowerLoss,
    Vanish,
    ComeBack,
    SlowDown(Duration),
    Duplicate(PathBuf),
    Stop,
}

pub(crate) enum Reply {
    Done,
    Answer(Vec<u8>),
    Handles(Vec<u32>),
}

/// An order and where its reply goes.
pub(crate) type Request = (Order, mpsc::SyncSender<Result<Reply>>);

pub(crate) struct Relay {
    folder: PathBuf,
    link: PathBuf,
    engine: Option<Engine>,
    line: Option<Line>,
    /// Bytes of a frame that is not whole yet.
    partial: Vec<u8>,
    /// The client has sent something since it opened the device: there is something to clean up.
    used: bool,
    /// Somebody closed the device, and the line has not hung up: perhaps not yet.
    closing: bool,
    /// An answer held back to play a slow device, and when it is due.
    late: Option<(Vec<u8>, Instant)>,
    latency: Duration,
}

impl Relay {
    /// Switch on. Runs on the thread that will call [`Relay::run`]: the child dies with it.
    pub(crate) fn power_on(folder: &Path, link: &Path) -> Result<Self> {
        let mut relay = Self {
            folder: folder.to_owned(),
            link: link.to_owned(),
            engine: Some(Self::engine(folder)?),
            line: None,
            partial: Vec::new(),
            used: false,
            closing: false,
            late: None,
            latency: Duration::ZERO,
        };
        relay.come_back()?;
        Ok(relay)
    }

    /// Until told to stop, or until the handle is gone.
    pub(crate) fn run(mut self, orders: &mpsc::Receiver<Request>, mut bell: UnixStream) {
        loop {
            self.wait(&bell);
            self.serve_line();
            if !silence(&mut bell) {
                self.stop(None);
                return;
            }
            while let Ok((order, reply)) = orders.try_recv() {
                if matches!(order, Order::Stop) {
                    self.stop(Some(&reply));
                    return;
                }
                // Whoever gave the order may have closed the device just before.
                self.serve_line();
                let _ = reply.send(self.obey(order));
            }
        }
    }

    /// Until the line, the node's watch, the bell or a late answer has something.
    fn wait(&self, bell: &UnixStream) {
        let mut polled = vec![PollFd::new(bell, PollFlags::IN)];
        let (watch, master) = match &self.line {
            Some(line) => (Some(line.watch()), Some(line.master())),
            None => (None, None),
        };
        if let Some(watch) = &watch {
            polled.push(PollFd::new(watch, PollFlags::IN));
        }
        let listening = self.late.is_none() && self.line.as_ref().is_some_and(|line| !line.hung_up);
        if let Some(master) = master.as_ref().filter(|_| listening) {
            polled.push(PollFd::new(master, PollFlags::IN));
        }
        let timeout = self.late.as_ref().map(|(_, due)| {
            let left = due.saturating_duration_since(Instant::now());
            Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 })
        });
        // An interrupted wait only means one more turn.
        let _ = rustix::event::poll(&mut polled, timeout.as_ref());
    }

    fn serve_line(&mut self) {
        self.clean_up_after_client();
        self.deliver_late();
        self.exchange_frames();
    }

    /// Read what is there; true if a client has closed the device since the last look.
    fn clean_up_after_client(&mut self) -> bool {
        // INVARIANT: first the bytes, then the news. So every open and close before those bytes is
        // known when they are looked at, and none of them is taken for the next client's.
        let hung_up = self.read_line();
        let news = self.line.as_mut().map_or(News::None, Line::news);
        let (gone, mut next_is_there) = match news {
            News::None => (hung_up, false),
            News::Opened => (hung_up || self.closing, true),
            // If the line does not hang up, it was not the client: libtss2 opens devices without
            // O_CLOEXEC, so a copy of an older client's may live on in a child of its process.
            News::Closed => (hung_up, false),
            News::ClosedAndOpened => (true, true),
        };
        self.closing = !gone && (self.closing || news == News::Closed);
        if !gone {
            return false;
        }
        // What came in between is a last command of the one that went, unless the next one is
        // there already. Each sends one at a time, so only the last frame can be the next one's.
        self.read_line();
        let since = self.line.as_mut().map_or(News::None, Line::news);
        next_is_there |= matches!(since, News::Opened | News::ClosedAndOpened);
        let waiting = match next_is_there {
            true => last_frame(&self.partial).to_owned(),
            false => Vec::new(),
        };
        self.client_gone();
        self.used = !waiting.is_empty();
        self.partial = waiting;
        true
    }

    /// True if nobody has the device open any more.
    fn read_line(&mut self) -> bool {
        let Some(line) = self.line.as_mut().filter(|line| !line.hung_up) else { return false };
        if !line.readable() {
            return false;
        }
        let mut buffer = [0; command::MAX_FRAME];
        let count = line.read(&mut buffer);
        self.used |= count > 0;
        self.partial.extend_from_slice(buffer.get(..count).unwrap_or_default());
        count == 0
    }

    fn exchange_frames(&mut self) {
        while self.late.is_none() {
            let Some(size) = command::frame_size(&self.partial) else { return };
            if !(command::HEADER..=command::MAX_FRAME).contains(&size) {
                tracing::warn!(size, "a client sent what is no TPM command");
                return self.client_gone();
            }
            if self.partial.len() < size {
                return;
            }
            let frame: Vec<u8> = self.partial.drain(..size).collect();
            self.exchange(&frame);
        }
    }

    /// One frame of the client to swtpm, and the answer back if the client is still there.
    fn exchange(&mut self, frame: &[u8]) {
        let Some(engine) = self.engine.as_mut() else { return };
        let answer = match engine.exchange(frame) {
            Ok(answer) => answer,
            Err(error) => {
                tracing::error!(%error, "the software TPM has died");
                self.engine = None;
                return self.vanish();
            }
        };
        if self.clean_up_after_client() {
            return; // the next one must not read this answer
        }
        self.late = Some((answer, Instant::now() + self.latency));
        self.deliver_late();
    }

    fn deliver_late(&mut self) {
        if let Some((answer, _)) = self.late.take_if(|(_, due)| *due <= Instant::now())
            && let Some(Err(error)) = self.line.as_mut().map(|line| line.write(&answer))
        {
            tracing::warn!(%error, "an answer was lost");
        }
    }

    /// Everything the client left: half a frame, an unread answer, objects and sessions.
    fn client_gone(&mut self) {
        self.partial.clear();
        self.late = None;
        if !std::mem::take(&mut self.used) {
            return;
        }
        if let Some(Err(error)) = self.line.as_mut().map(Line::flush_unread) {
            tracing::warn!(%error, "the line was not flushed");
        }
        if let Some(Err(error)) = self.engine.as_mut().map(Engine::flush_client) {
            tracing::warn!(%error, "objects of a client stayed loaded");
        }
    }

    fn obey(&mut self, order: Order) -> Result<Reply> {
        match order {
            Order::Command(frame) => self.powered()?.exchange_retrying(&frame).map(Reply::Answer),
            Order::Handles => self.handles().map(Reply::Handles),
            Order::HostReboot => {
                if let Some(engine) = self.engine.take() {
                    engine.power_off()?;
                }
                self.engine = Some(Self::engine(&self.folder)?);
                Ok(Reply::Done)
            }
            Order::PowerLoss => {
                drop(self.engine.take());
                self.engine = Some(Engine::power_on(&self.folder)?);
                Ok(Reply::Done)
            }
            Order::Vanish => {
                self.vanish();
                Ok(Reply::Done)
            }
            Order::ComeBack => self.come_back().map(|()| Reply::Done),
            Order::SlowDown(latency) => {
                self.latency = latency;
                Ok(Reply::Done)
            }
            Order::Duplicate(to) => {
                // Between two commands: the state on disk is whole.
                let from = self.folder.join(crate::state::STATE);
                fs::copy(&from, &to).map_err(Error::file("copy", &from))?;
                Ok(Reply::Done)
            }
            Order::Stop => Ok(Reply::Done), // taken by `run`
        }
    }

    fn handles(&mut self) -> Result<Vec<u32>> {
        let mut found = Vec::new();
        for first in command::CLIENT_RANGES {
            let answer = self.powered()?.exchange_retrying(&command::handles_from(first))?;
            let handles = command::parse_handles(&answer)?;
            found.extend(handles.into_iter().filter(|handle| handle >> 24 == first >> 24));
        }
        Ok(found)
    }

    fn powered(&mut self) -> Result<&mut Engine> {
        self.engine.as_mut().ok_or(Error::Dead)
    }

    /// The node goes; whoever has it open reads EIO from now on.
    fn vanish(&mut self) {
        if let Some(line) = self.line.take() {
            let _ = fs::remove_file(&self.link);
            drop(line);
            self.client_gone();
        }
    }

    fn come_back(&mut self) -> Result<()> {
        if self.line.is_none() {
            let line = Line::open()?;
            let _ = fs::remove_file(&self.link); // of a process that was killed
            symlink(line.node(), &self.link).map_err(Error::file("link", &self.link))?;
            self.line = Some(line);
        }
        Ok(())
    }

    fn stop(mut self, reply: Option<&mpsc::SyncSender<Result<Reply>>>) {
        self.vanish();
        let result = self.engine.take().map_or(Ok(()), Engine::power_off);
        if let Some(reply) = reply {
            let _ = reply.send(result.map(|()| Reply::Done));
        }
    }

    fn engine(folder: &Path) -> Result<Engine> {
        let mut engine = Engine::power_on(folder)?;
        match engine.reset_lockout() {
            Ok(()) => Ok(engine),
            // It ended at once: its last words say why, another swtpm on this state for one.
            Err(Error::Engine { .. }) => Err(engine.last_words(folder)),
            Err(error) => Err(error),
        }
    }
}

/// The whole frame at the end of what several clients wrote, garbage before it or not.
fn last_frame(bytes: &[u8]) -> &[u8] {
    (0..bytes.len())
        .rev()
        .filter_map(|start| bytes.get(start..))
        .find(|rest| {
            matches!(rest, [0x80, 1 | 2, ..])
                && rest.len() >= command::HEADER
                && command::frame_size(rest) == Some(rest.len())
        })
        .unwrap_or_default()
}

/// Take the strokes of the bell; false when the handle that rings it is gone.
fn silence(bell: &mut UnixStream) -> bool {
    let mut strokes = [0; 64];
    loop {
        match bell.read(&mut strokes) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return true,
        }
    }
}
