//! Facts of type `unix`: uid, gid, user, group, supplementary groups, path and SHA-256 of the
//! executable. Names and spelling of the selectors are SPIRE's, so that entries move over as
//! they are.
//!
//! `unix:path` is a fact only where the name leads, in the agent's own mount namespace, to the
//! very file that is executed. A user may build a namespace in which `/usr/bin/web` is a program
//! of his own (user namespaces need no privilege), and the kernel would show us that name.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::unistd::Gid;
use nix::unistd::Group;
use nix::unistd::Uid;
use nix::unistd::User;

use crate::spiffe::Selector;
use crate::workload::Peer;
use crate::workload::WorkloadError;
use crate::workload::executable::Digested;
use crate::workload::executable::ExecutableDigests;
use crate::workload::executable::FileState;
use crate::workload::process::Credentials;

/// How often a process that changes under our eyes is looked at again.
const TRIES: usize = 3;

/// What is known of a process at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub pid: u32,
    pub start_time: u64,
    pub uid: u32,
    pub gid: u32,
    pub supplementary_gids: Vec<u32>,
    /// Absent where the agent may not look, or where the name is not trustworthy.
    pub path: Option<String>,
    /// Absent where it was not asked for, the agent may not look, the file is too long, or nobody
    /// vouches for it.
    pub sha256: Option<[u8; 32]>,
}

/// What must be the same before and after the executable was read.
#[derive(PartialEq, Eq)]
struct Reading {
    start_time: u64,
    credentials: Credentials,
    executable: Option<FileState>,
}

impl Facts {
    /// Looks at the process twice around reading its executable, which is digested where `digests`
    /// are given. Blocking: reads /proc and files.
    pub fn read(peer: &Peer, digests: Option<&ExecutableDigests>) -> Result<Facts, WorkloadError> {
        for _ in 0..TRIES {
            match try_read(peer, digests) {
                Ok(Some(facts)) => return Ok(facts),
                Ok(None) => {}
                // A process with several threads is briefly nobody while one of them execs.
                Err(WorkloadError::Gone { .. }) if peer.is_alive() => {}
                Err(error) => return Err(error),
            }
        }
        Err(WorkloadError::Unsteady { pid: peer.pid() })
    }

    /// The facts as selectors. Blocking: user and group names come from the system's databases.
    pub fn selectors(&self) -> BTreeSet<Selector> {
        let mut values = vec![format!("uid:{}", self.uid), format!("gid:{}", self.gid)];
        values.extend(user_name(self.uid).map(|name| format!("user:{name}")));
        values.extend(group_name(self.gid).map(|name| format!("group:{name}")));
        for gid in &self.supplementary_gids {
            values.push(format!("supplementary_gid:{gid}"));
            let name = group_name(*gid);
            values.extend(name.map(|name| format!("supplementary_group:{name}")));
        }
        values.extend(self.path.as_ref().map(|path| format!("path:{path}")));
        values.extend(self.sha256.map(|sha256| format!("sha256:{}", hex::encode(sha256))));
        // A value that no selector can hold (too long, control characters) is no fact.
        values.iter().filter_map(|value| Selector::new("unix", value).ok()).collect()
    }
}

/// Nothing where the process changed in between.
fn try_read(
    peer: &Peer,
    digests: Option<&ExecutableDigests>,
) -> Result<Option<Facts>, WorkloadError> {
    let executable = peer.process().executable()?;
    let before = look(peer, executable.as_ref())?;
    let mut path = None;
    let mut sha256 = None;
    if let Some(file) = &executable {
        let digested = digests.map(|digests| digests.digest(file)).transpose();
        match digested.map_err(|source| unreadable(peer, source))? {
            None => {}
            Some(Digested::Sha256(digest)) => sha256 = Some(digest),
            Some(Digested::Unsteady) => return Ok(None),
            Some(Digested::TooLong(size)) => {
                tracing::debug!(pid = peer.pid(), size, "executable too long for a digest");
            }
            Some(Digested::Untrusted) => {
                tracing::debug!(pid = peer.pid(), "executable on a file system in user space");
            }
        }
        path = trusted_path(peer, before.executable.as_ref())?;
    }
    let again = peer.process().executable()?;
    if look(peer, again.as_ref())? != before {
        return Ok(None);
    }
    if !peer.is_alive() {
        return Err(WorkloadError::Gone { pid: peer.pid() });
    }
    Ok(Some(Facts {
        pid: peer.pid(),
        start_time: peer.start_time(),
        uid: before.credentials.uid,
        gid: before.credentials.gid,
        supplementary_gids: before.credentials.groups,
        path,
        sha256,
    }))
}

fn look(peer: &Peer, executable: Option<&File>) -> Result<Reading, WorkloadError> {
    let start_time = peer.process().start_time()?;
    if start_time != peer.start_time() {
        return Err(WorkloadError::Gone { pid: peer.pid() });
    }
    let credentials = peer.process().credentials()?;
    // INVARIANT: facts are those of the ids that connected. Somebody could connect, keep the
    // socket in a child and exec a set-uid program, and would have root's facts.
    if (credentials.uid, credentials.gid) != (peer.uid(), peer.gid()) {
        return Err(WorkloadError::CredentialsChanged {
            pid: peer.pid(),
            then_uid: peer.uid(),
            then_gid: peer.gid(),
            now_uid: credentials.uid,
            now_gid: credentials.gid,
        });
    }
    let state = |file: &File| rustix::fs::fstat(file).map(|stat| FileState::of(&stat));
    let executable = executable.map(state).transpose();
    let executable = executable.map_err(|error| unreadable(peer, error.into()))?;
    Ok(Reading { start_time, credentials, executable })
}

/// The name of the executable, if it leads to `executed` from here.
fn trusted_path(
    peer: &Peer,
    executed: Option<&FileState>,
) -> Result<Option<String>, WorkloadError> {
    let (Some(path), Some(executed)) = (peer.process().executable_path()?, executed) else {
        return Ok(None);
    };
    let here = rustix::fs::stat(&path).map(|stat| FileState::of(&stat));
    match here {
        Ok(here) if here.is_same_file(executed) => Ok(text(&path)),
        // Replaced, deleted, or a name of another mount namespace.
        _ => {
            tracing::debug!(pid = peer.pid(), "the executable's name leads elsewhere from here");
            Ok(None)
        }
    }
}

fn text(path: &Path) -> Option<String> {
    String::from_utf8(path.as_os_str().as_bytes().to_vec()).ok()
}

fn user_name(uid: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
}

fn group_name(gid: u32) -> Option<String> {
    Group::from_gid(Gid::from_raw(gid)).ok().flatten().map(|group| group.name)
}

fn unreadable(peer: &Peer, source: std::io::Error) -> WorkloadError {
    WorkloadError::Unreadable { pid: peer.pid(), file: "exe", source }
}
