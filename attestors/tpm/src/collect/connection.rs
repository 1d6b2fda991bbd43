//! One opened TPM: the library's context, the keys that are loaded in it, and nothing that
//! outlives it. Only the owner thread has one.
//!
//! A TPM has room for three objects (measured on swtpm; three are all that is promised), so loaded
//! keys are a cache: the one used longest ago makes room. Whatever is loaded or started for one
//! operation is wrapped in a guard that lets it go on every way out.

use std::fs::OpenOptions;
use std::ops::Deref;
use std::ops::DerefMut;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use tss_esapi::Context;
use tss_esapi::attributes::SessionAttributesBuilder;
use tss_esapi::constants::CapabilityType;
use tss_esapi::constants::SessionType;
use tss_esapi::handles::KeyHandle;
use tss_esapi::handles::ObjectHandle;
use tss_esapi::handles::SessionHandle;
use tss_esapi::handles::TpmHandle;
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::resource_handles::Hierarchy as TssHierarchy;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::Auth;
use tss_esapi::structures::CapabilityData;
use tss_esapi::structures::Private;
use tss_esapi::structures::Public as TssPublic;
use tss_esapi::structures::SymmetricDefinition;
use tss_esapi::traits::Marshall as _;
use tss_esapi::traits::UnMarshall as _;
use zeroize::Zeroizing;

use super::Settings;
use super::address::Address;
use super::error;
use super::error::Cause;
use super::error::Error;
use super::key;
use super::key::DeviceKey;
use super::key::Recipe;
use crate::Hierarchy;
use crate::Name;
use crate::Public;

pub(super) struct Connection {
    pub(super) context: Context,
    /// The one used longest ago comes first.
    // INVARIANT: at most MAX_LOADED.
    loaded: Vec<Loaded>,
    /// Persistent keys, which take no room in the TPM.
    opened: Vec<Loaded>,
    /// Held as long as the context, and let go after it.
    _alone: Option<UnixListener>,
}

struct Loaded {
    name: Name,
    handle: KeyHandle,
}

impl Connection {
    pub(super) fn open(address: &Address, settings: &Settings) -> Result<Connection, Error> {
        let alone = match address {
            Address::Node(path) => alone_on(path, address)?,
            Address::Swtpm { .. } => None,
        };
        let context = Context::new(address.to_tcti()?).map_err(error::of("TPM2_Startup"));
        let context = context.map_err(|error| named(error, address))?;
        let mut connection =
            Connection { context, loaded: Vec::new(), opened: Vec::new(), _alone: alone };
        if !address.cleans_up() {
            connection.flush_leftovers(address)?;
        }
        for (handle, auth) in [
            (ObjectHandle::Endorsement, &settings.endorsement_auth),
            (ObjectHandle::Owner, &settings.owner_auth),
        ] {
            connection.set_auth(handle, auth)?;
        }
        Ok(connection)
    }

    /// What a program that was killed left loaded. A resource manager would have done this.
    fn flush_leftovers(&mut self, address: &Address) -> Result<(), Error> {
        let mut flushed = 0;
        for first in [TRANSIENT, LOADED_SESSIONS] {
            for handle in self.handles(first, first | 0x00ff_ffff)? {
                let found = self.context.execute_without_session(|c| c.tr_from_tpm_public(handle));
                match found.and_then(|object| self.context.flush_context(object)) {
                    Ok(()) => flushed += 1,
                    // tss2 before 4.0 knows no way to a session it did not start itself.
                    Err(error) => tracing::debug!(%error, ?handle, "a leftover stays loaded"),
                }
            }
        }
        if flushed > 0 {
            tracing::info!(device = %address, flushed, "flushed what another program left loaded");
        }
        Ok(())
    }

    /// All handles from `first` to `last`, over as many answers as it takes.
    pub(super) fn handles(&mut self, first: u32, last: u32) -> Result<Vec<TpmHandle>, Error> {
        let mut found = Vec::new();
        let mut next = first;
        for _ in 0..MAX_PAGES {
            let (page, more) = self
                .context
                .execute_without_session(|c| c.get_capability(CapabilityType::Handles, next, PAGE))
                .map_err(error::of("GetCapability"))?;
            let CapabilityData::Handles(page) = page else {
                return Err(Error::Unreadable { command: "GetCapability", source: None });
            };
            let page = page.into_inner();
            let end = page.last().map(|handle| u32::from(*handle));
            // A query gives every later handle too, of other ranges.
            found.extend(page.into_iter().filter(|h| (first..=last).contains(&u32::from(*h))));
            match end {
                Some(end) if more && end < last => next = end.saturating_add(1),
                _ => break,
            }
        }
        Ok(found)
    }

    // --- keys ---

    /// Make the key for the first time.
    pub(super) fn create_primary(
        &mut self,
        hierarchy: Hierarchy,
        template: Vec<u8>,
        auth: Zeroizing<Vec<u8>>,
    ) -> Result<DeviceKey, Error> {
        self.make_room(1, &[]);
        let (handle, public) = self.primary(hierarchy, &template, &auth)?;
        self.loaded.push(Loaded { name: public.name(), handle });
        Ok(DeviceKey::new(public, Recipe::Primary { hierarchy, template, auth }))
    }

    /// Have it loaded, `beside` others that must stay so.
    pub(super) fn load(&mut self, key: &DeviceKey, beside: &[Name]) -> Result<KeyHandle, Error> {
        let name = key.public().name();
        if let Some(found) = self.loaded.iter().position(|loaded| loaded.name == name) {
            let loaded = self.loaded.remove(found);
            let handle = loaded.handle;
            self.loaded.push(loaded);
            return Ok(handle);
        }
        let handle = match key.recipe() {
            Recipe::Persistent { handle } => return self.open_persistent(*handle, name),
            Recipe::Primary { hierarchy, template, auth } => {
                self.make_room(1, beside);
                let (handle, public) = self.primary(*hierarchy, template, auth)?;
                if public.name() != name {
                    let _ = self.context.flush_context(handle.into());
                    return Err(Error::KeyGone);
                }
                handle
            }
            Recipe::Child { private, auth } => {
                self.make_room(2, beside);
                self.child(private, key.public(), auth)?
            }
        };
        self.loaded.push(Loaded { name, handle });
        Ok(handle)
    }

    /// A key under a persistent handle, whatever it is.
    pub(super) fn persistent_key(&mut self, handle: u32) -> Result<DeviceKey, Error> {
        let (mut object, public) = self.read_persistent(handle)?;
        self.context.tr_close(&mut object).map_err(error::of("ReadPublic"))?;
        Ok(DeviceKey::new(public, Recipe::Persistent { handle }))
    }

    fn open_persistent(&mut self, handle: u32, name: Name) -> Result<KeyHandle, Error> {
        if let Some(known) = self.opened.iter().find(|known| known.name == name) {
            return Ok(known.handle);
        }
        let (mut object, public) = self.read_persistent(handle)?;
        if public.name() != name {
            self.context.tr_close(&mut object).map_err(error::of("ReadPublic"))?;
            return Err(Error::KeyGone);
        }
        let handle = KeyHandle::from(object);
        self.opened.push(Loaded { name, handle });
        Ok(handle)
    }

    fn read_persistent(&mut self, handle: u32) -> Result<(ObjectHandle, Public), Error> {
        let absent = Error::NoSuchHandle { handle };
        // What is not there is answered like what was flushed, and would be asked for again.
        let found = self.handles(handle, handle)?;
        let Some(found) = found.into_iter().next() else { return Err(absent) };
        let failed = error::of("ReadPublic");
        let opened = self.context.execute_without_session(|c| c.tr_from_tpm_public(found));
        let mut object = opened.map_err(&failed)?;
        let read = self
            .context
            .execute_without_session(|context| context.read_public(object.into()))
            .map_err(&failed)
            .and_then(|(public, _, _)| area(&public, "ReadPublic"));
        match read {
            Ok(public) => Ok((object, public)),
            Err(error) => {
                self.context.tr_close(&mut object).map_err(&failed)?;
                Err(error)
            }
        }
    }

    pub(super) fn unload(&mut self, key: &DeviceKey) -> Result<(), Error> {
        let name = key.public().name();
        match self.loaded.iter().position(|loaded| loaded.name == name) {
            Some(found) => {
                let loaded = self.loaded.remove(found);
                self.context.flush_context(loaded.handle.into()).map_err(error::of("FlushContext"))
            }
            None => Ok(()),
        }
    }

    /// Flush until `wanted` more objects fit.
    pub(super) fn make_room(&mut self, wanted: usize, beside: &[Name]) {
        while self.loaded.len() + wanted > MAX_LOADED {
            let free = self.loaded.iter().position(|loaded| !beside.contains(&loaded.name));
            let Some(free) = free else { return };
            let loaded = self.loaded.remove(free);
            if let Err(error) = self.context.flush_context(loaded.handle.into()) {
                tracing::debug!(%error, name = %loaded.name, "a key could not be flushed");
            }
        }
    }

    pub(super) fn unload_all(&mut self) {
        self.make_room(MAX_LOADED, &[]);
    }

    fn primary(
        &mut self,
        hierarchy: Hierarchy,
        template: &[u8],
        auth: &Zeroizing<Vec<u8>>,
    ) -> Result<(KeyHandle, Public), Error> {
        let failed = error::of("CreatePrimary");
        let template = TssPublic::unmarshall(template).map_err(&failed)?;
        let value = auth_value(auth)?;
        let made = with_passwords(&mut self.context, 1, |context| {
            context.create_primary(seat(hierarchy), template, Some(value), None, None, None)
        })
        .map_err(&failed)?;
        let made_public = area(&made.out_public, "CreatePrimary");
        let public = made_public.inspect_err(|_| {
            let _ = self.context.flush_context(made.key_handle.into());
        })?;
        self.set_auth(made.key_handle.into(), auth)?;
        Ok((made.key_handle, public))
    }

    fn child(
        &mut self,
        private: &[u8],
        public: &Public,
        auth: &Zeroizing<Vec<u8>>,
    ) -> Result<KeyHandle, Error> {
        let failed = error::of("Load");
        let private = Private::try_from(private).map_err(&failed)?;
        let public = TssPublic::unmarshall(public.raw()).map_err(&failed)?;
        let mut parent = self.storage_root()?;
        let parent_handle = parent.key();
        let handle =
            with_passwords(&mut parent, 1, |context| context.load(parent_handle, private, public))
                .map_err(&failed)?;
        drop(parent);
        self.set_auth(handle.into(), auth)?;
        Ok(handle)
    }

    /// The parent of issuing keys, for one operation.
    pub(super) fn storage_root(&mut self) -> Result<Held<'_>, Error> {
        let none = Zeroizing::new(Vec::new());
        let (handle, _) = self.primary(Hierarchy::Owner, &key::storage_template(), &none)?;
        Ok(Held { context: &mut self.context, handle: handle.into() })
    }

    fn set_auth(&mut self, handle: ObjectHandle, auth: &Zeroizing<Vec<u8>>) -> Result<(), Error> {
        if auth.is_empty() {
            return Ok(());
        }
        let value = auth_value(auth)?;
        self.context.tr_set_auth(handle, value).map_err(error::of("an authorisation value"))
    }

    /// A single 0x101 does not mean a dead TPM: ask it.
    pub(super) fn diagnose(&mut self, error: Error) -> Error {
        match error {
            Error::Tpm { command, code, cause: Cause::Failure } => {
                let passed =
                    self.context.execute_without_session(|context| context.get_test_result());
                let cause = match passed {
                    Ok((_, Ok(()))) => Cause::Failure,
                    _ => Cause::FailureMode,
                };
                Error::Tpm { command, code, cause }
            }
            other => other,
        }
    }
}

/// An object that is flushed at the end of its operation, whatever the end is.
pub(super) struct Held<'c> {
    context: &'c mut Context,
    handle: ObjectHandle,
}

impl<'c> Held<'c> {
    pub(super) fn new(context: &'c mut Context, handle: ObjectHandle) -> Held<'c> {
        Held { context, handle }
    }

    pub(super) fn key(&self) -> KeyHandle {
        self.handle.into()
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.context.flush_context(self.handle) {
            tracing::debug!(%error, "an object could not be flushed");
        }
    }
}

impl Deref for Held<'_> {
    type Target = Context;

    fn deref(&self) -> &Context {
        self.context
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Context {
        self.context
    }
}

/// Start a policy session; the guard ends it.
pub(super) fn policy_session(
    context: &mut Context,
    hash: HashingAlgorithm,
) -> Result<(Held<'_>, AuthSession), Error> {
    let failed = error::of("StartAuthSession");
    let session = context
        .execute_without_session(|context| {
            context.start_auth_session(
                None,
                None,
                None,
                SessionType::Policy,
                SymmetricDefinition::AES_128_CFB,
                hash,
            )
        })
        .map_err(&failed)?
        .ok_or(Error::Unreadable { command: "StartAuthSession", source: None })?;
    let held = Held::new(context, SessionHandle::from(session).into());
    // Else the TPM ends it with the command, and the guard flushes what is not there.
    let (attributes, mask) = SessionAttributesBuilder::new().with_continue_session(true).build();
    held.context.tr_sess_set_attributes(session, attributes, mask).map_err(&failed)?;
    Ok((held, session))
}

/// Run one command with exactly `count` password sessions: one too many is refused (0xa84).
pub(super) fn with_passwords<T>(
    context: &mut Context,
    count: u8,
    command: impl FnOnce(&mut Context) -> T,
) -> T {
    let password = |wanted| (count >= wanted).then_some(AuthSession::Password);
    context.execute_with_sessions((password(1), password(2), None), command)
}

/// Our own view of a public area that the library parsed.
pub(super) fn area(public: &TssPublic, command: &'static str) -> Result<Public, Error> {
    let raw = public.marshall().map_err(error::of(command))?;
    Public::parse(&raw)
        .map_err(|source| Error::Unreadable { command, source: Some(Box::new(source)) })
}

pub(super) fn named(error: Error, address: &Address) -> Error {
    match error {
        Error::Transport { command, code, .. } => {
            Error::Transport { device: address.to_string(), command, code }
        }
        other => other,
    }
}

/// Repeat a command that the TPM was too busy for, within bounds (the library has tried five
/// times already).
pub(super) fn patiently<T>(
    until: Instant,
    mut command: impl FnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    for _ in 0..MAX_RETRIES {
        match command() {
            Err(error) if error.is_retry() && Instant::now() + RETRY_PAUSE < until => {
                std::thread::sleep(RETRY_PAUSE);
            }
            other => return other,
        }
    }
    command()
}

/// Open for trial, to say clearly why it cannot be opened, and make sure that a terminal line that
/// plays a TPM has one client. The kernel does so itself for `/dev/tpm0`.
fn alone_on(path: &Path, address: &Address) -> Result<Option<UnixListener>, Error> {
    let device = || address.to_string();
    let failed = |source| Error::Open { device: device(), source };
    let node = std::fs::canonicalize(path).map_err(failed)?;
    let facts = std::fs::metadata(&node).map_err(failed)?;
    if !facts.file_type().is_char_device() {
        return Err(failed(std::io::Error::other("it is no device node")));
    }
    let alone = match node.starts_with("/dev/pts") {
        true => {
            // A name in the abstract space ends with the process, unlike a file.
            let name = format!("assay/tpm/{:x}", facts.rdev());
            let name = SocketAddr::from_abstract_name(name).map_err(failed)?;
            Some(UnixListener::bind_addr(&name).map_err(|error| match error.kind() {
                std::io::ErrorKind::AddrInUse => Error::InUse { device: device() },
                _ => failed(error),
            })?)
        }
        false => None,
    };
    OpenOptions::new().read(true).write(true).open(&node).map_err(failed)?;
    Ok(alone)
}

fn auth_value(auth: &Zeroizing<Vec<u8>>) -> Result<Auth, Error> {
    Auth::try_from(auth.as_slice()).map_err(error::of("an authorisation value"))
}

fn seat(hierarchy: Hierarchy) -> TssHierarchy {
    match hierarchy {
        Hierarchy::Owner => TssHierarchy::Owner,
        Hierarchy::Endorsement => TssHierarchy::Endorsement,
        Hierarchy::Platform => TssHierarchy::Platform,
        Hierarchy::Null => TssHierarchy::Null,
    }
}

/// TPM2_PT_HR_TRANSIENT_MIN is at least 3 (PC Client Platform TPM Profile).
const MAX_LOADED: usize = 3;
/// First handles of the ranges (Part 2, §7.2).
const TRANSIENT: u32 = 0x8000_0000;
const LOADED_SESSIONS: u32 = 0x0200_0000;
const PAGE: u32 = 64;
const MAX_PAGES: usize = 64;
const MAX_RETRIES: usize = 10;
const RETRY_PAUSE: Duration = Duration::from_millis(200);
