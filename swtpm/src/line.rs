//! The pseudo terminal that plays the device node.
//!
//! The client opens the slave; we keep only the master, so that a closed device is seen. A watch
//! on the node tells of every open and close, even when the next client came so fast that the
//! master never hung up.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::inotify;
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::OptionalActions;
use rustix::termios::QueueSelector;

use crate::Error;
use crate::Result;

pub(crate) struct Line {
    master: OwnedFd,
    watch: OwnedFd,
    node: PathBuf,
    /// No client has the node open: polling the master would return at once, for ever.
    pub(crate) hung_up: bool,
}

/// What happened at the node since the last look. Opens of one client and the next look alike, so
/// a client that opens twice must close twice before it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    None,
    Opened,
    Closed,
    /// The next client is there already.
    ClosedAndOpened,
}

impl Line {
    pub(crate) fn open() -> Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags).map_err(Error::system("open a pseudo terminal"))?;
        rustix::pty::grantpt(&master).map_err(Error::system("own the pseudo terminal"))?;
        rustix::pty::unlockpt(&master).map_err(Error::system("unlock the pseudo terminal"))?;
        let node = rustix::pty::ptsname(&master, Vec::new())
            .map_err(Error::system("name the pseudo terminal"))?;
        let node = PathBuf::from(OsStr::from_bytes(node.as_bytes()));

        // Bytes, not text: no echo, no line endings, no signals.
        let mut settings =
            rustix::termios::tcgetattr(&master).map_err(Error::system("read line settings"))?;
        settings.make_raw();
        rustix::termios::tcsetattr(&master, OptionalActions::Now, &settings)
            .map_err(Error::system("make the line raw"))?;

        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
            .map_err(Error::system("make a watch"))?;
        let events = inotify::WatchFlags::OPEN
            | inotify::WatchFlags::CLOSE_WRITE
            | inotify::WatchFlags::CLOSE_NOWRITE;
        inotify::add_watch(&watch, &node, events).map_err(Error::system("watch the node"))?;
        Ok(Self { master, watch, node, hung_up: false })
    }

    /// The slave, `/dev/pts/N`.
    pub(crate) fn node(&self) -> &Path {
        &self.node
    }

    pub(crate) fn master(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }

    pub(crate) fn watch(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }

    /// Take all news of the node.
    pub(crate) fn news(&mut self) -> News {
        let mut buffer = [MaybeUninit::uninit(); 1024];
        let mut reader = inotify::Reader::new(self.watch.as_fd(), &mut buffer);
        let closed = inotify::ReadFlags::CLOSE_WRITE | inotify::ReadFlags::CLOSE_NOWRITE;
        let mut news = News::None;
        while let Ok(event) = reader.next() {
            news = match news {
                _ if event.events().intersects(closed) => News::Closed,
                News::None => News::Opened,
                News::Closed => News::ClosedAndOpened,
                news => news,
            };
            // Whatever it was, the master is worth another look.
            self.hung_up = false;
        }
        news
    }

    /// Something to read, or a hang-up.
    pub(crate) fn readable(&self) -> bool {
        let mut polled = [PollFd::new(&self.master, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(rustix::event::poll(&mut polled, Some(&now)), Ok(count) if count > 0)
    }

    /// What the client wrote; nothing if it is gone.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> usize {
        match rustix::io::read(&self.master, buffer) {
            Ok(0) | Err(Errno::IO) => {
                self.hung_up = true;
                0
            }
            Ok(count) => count,
            Err(_) => 0,
        }
    }

    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            match rustix::io::write(&self.master, bytes) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(source) => return Err(Error::system("write an answer")(source)),
            }
        }
        Ok(())
    }

    /// Drop answers that the last client never read. First those on their way to the slave's side
    /// (the kernel delivers in its own time), then those that are there, which only somebody who
    /// has the slave open reaches.
    pub(crate) fn flush_unread(&mut self) -> Result<()> {
        rustix::termios::tcflush(&self.master, QueueSelector::OFlush)
            .map_err(Error::system("flush the line"))?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let slave = rustix::fs::open(&self.node, flags, Mode::empty())
            .map_err(Error::system("open the line for flushing"))?;
        rustix::termios::tcflush(&slave, QueueSelector::IFlush)
            .map_err(Error::system("flush the line"))?;
        drop(slave);
        // Our own open and close are no news.
        self.news();
        Ok(())
    }
}
