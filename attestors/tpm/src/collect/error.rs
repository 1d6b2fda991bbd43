//! What goes wrong between us and a TPM, by cause, each with its cure. None of it is a refusal:
//! evidence that could not be collected says nothing about the machine.

use std::time::Duration;

use assay_evidence::Reason;
use tss_esapi::Error as TssError;
use tss_esapi::constants::Tss2ResponseCode;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("`{given}` is no address of a TPM: {why}")]
    Address { given: String, why: &'static str },
    #[error("cannot open `{device}`")]
    Open { device: String, source: std::io::Error },
    #[error("`{device}` is in use by another process")]
    InUse { device: String },
    #[error("`{device}` does not speak as a TPM to {command} (code {code:#x})")]
    Transport { device: String, command: &'static str, code: u32 },
    #[error("the TPM answered {code:#x} to {command}: {cause}")]
    Tpm { command: &'static str, code: u32, cause: Cause },
    #[error("the TPM's library refused {command} (code {code:#x})")]
    Library { command: &'static str, code: u32 },
    #[error("the TPM's library refused {command}: {why}")]
    Wrapper { command: &'static str, why: String },
    #[error("{command} did not end within {after:?}")]
    Deadline { command: &'static str, after: Duration },
    #[error("{waiting} commands wait for the TPM already")]
    QueueFull { waiting: usize },
    #[error("the thread that owns the TPM has ended")]
    Stopped,
    #[error("the key is gone: it lived in a boot that is over, or in another TPM")]
    KeyGone,
    #[error("the TPM has no endorsement certificate whose key it also has")]
    NoEndorsement,
    #[error("the TPM has nothing under the handle {handle:#010x}")]
    NoSuchHandle { handle: u32 },
    #[error("the TPM's answer to {command} cannot be read")]
    Unreadable { command: &'static str, source: Option<Box<crate::Error>> },
    #[error("the registers kept moving: {tries} quotes, none of them of the values read")]
    RegistersMoving { tries: usize },
    #[error("no random bytes to be had")]
    Random,
    #[error("cannot read `{path}`")]
    Log { path: String, source: std::io::Error },
    #[error("`{path}` is longer than {limit} bytes")]
    LogTooLong { path: String, limit: u64 },
}

/// What a response code means to an operator (TPM 2.0 Library, Part 2, §6.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// 0x921
    Lockout,
    /// 0x922, 0x908, 0x90a
    Retry,
    /// 0x902
    ObjectMemory,
    /// 0x903
    SessionMemory,
    /// 0x12f, 0xa9d and its like
    Policy,
    /// 0x98e, 0x9a2 and their like
    Authorisation,
    /// 0x1df and its like
    Integrity,
    /// 0x101, but the TPM says that its self test passed
    Failure,
    /// 0x101, and the self test failed
    FailureMode,
    /// 0x910 to 0x91e, 0x18b
    NotLoaded,
    /// 0x100
    NotStarted,
    /// 0x185, 0x120
    HierarchyOff,
    /// 0x143
    Unsupported,
    /// 0x920, 0x923
    NvBusy,
    Other,
}

impl Cause {
    pub(super) fn of(code: u32) -> Cause {
        // Bit 7 marks codes that name a parameter, handle or session; their number is in the low
        // six bits, whatever it is that they name.
        if code & 0x80 != 0 {
            return match code & 0x3f {
                0x05 => Cause::HierarchyOff,
                0x0b => Cause::NotLoaded,
                0x0e | 0x22 => Cause::Authorisation,
                0x1d | 0x24 => Cause::Policy,
                0x1f => Cause::Integrity,
                _ => Cause::Other,
            };
        }
        match code {
            0x100 => Cause::NotStarted,
            0x101 => Cause::Failure,
            0x120 => Cause::HierarchyOff,
            0x126 | 0x12f => Cause::Policy,
            0x143 => Cause::Unsupported,
            0x902 => Cause::ObjectMemory,
            0x903 => Cause::SessionMemory,
            0x908 | 0x90a | 0x922 => Cause::Retry,
            0x910..=0x91e => Cause::NotLoaded,
            0x920 | 0x923 => Cause::NvBusy,
            0x921 => Cause::Lockout,
            _ => Cause::Other,
        }
    }

    /// What to do about it; nothing if we do not know.
    pub const fn cure(self) -> Option<&'static str> {
        Some(match self {
            Cause::Lockout => {
                "the TPM counts failed tries, also of unclean power-offs: wait for its recovery \
                 time, or run `tpm2_dictionarylockout --clear-lockout`"
            }
            Cause::Retry => "the TPM was busy for longer than we wait: try again",
            Cause::ObjectMemory | Cause::SessionMemory => {
                "other programs left objects or sessions loaded: use `/dev/tpmrm0`, or run \
                 `tpm2_flushcontext -t -l -s`"
            }
            Cause::Policy => {
                "the endorsement hierarchy has an authorisation that is not configured here"
            }
            Cause::Authorisation => "a hierarchy's or a key's authorisation value is another one",
            Cause::Integrity => {
                "the blob or challenge is not of this TPM, or of a time before it was cleared"
            }
            Cause::Failure => "the TPM's self test passes: try again, then update its firmware",
            Cause::FailureMode => "the TPM failed its self test: cut the host's power; replace it",
            Cause::NotLoaded => "somebody else flushed our keys: let one program use this TPM",
            Cause::NotStarted => {
                "the TPM was not started: send TPM2_Startup (swtpm: startup flags)"
            }
            Cause::HierarchyOff => "switch the hierarchy on in the firmware's set-up",
            Cause::Unsupported => "this TPM lacks the command: update its firmware",
            Cause::NvBusy => "the TPM protects its memory from wear: try again later",
            Cause::Other => return None,
        })
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Cause::Lockout => "locked out after failed tries",
            Cause::Retry => "busy",
            Cause::ObjectMemory => "no room for another object",
            Cause::SessionMemory => "no room for another session",
            Cause::Policy => "a policy was not satisfied",
            Cause::Authorisation => "wrong authorisation value",
            Cause::Integrity => "not protected by this TPM",
            Cause::Failure => "the command failed inside the TPM",
            Cause::FailureMode => "the TPM is in failure mode",
            Cause::NotLoaded => "the object is not loaded",
            Cause::NotStarted => "not started",
            Cause::HierarchyOff => "the hierarchy is off",
            Cause::Unsupported => "command not implemented",
            Cause::NvBusy => "its memory cannot be written now",
            Cause::Other => "refused",
        })
    }
}

impl Error {
    /// The stable code; nearly always that the device is not to be had.
    pub fn reason(&self) -> Reason {
        match self {
            Error::Address { .. } | Error::Library { .. } | Error::Wrapper { .. } => {
                Reason::Internal
            }
            Error::Random | Error::Stopped => Reason::Internal,
            Error::QueueFull { .. } => Reason::OverLimit,
            Error::NoEndorsement | Error::Log { .. } => Reason::EvidenceMissing,
            Error::LogTooLong { .. } => Reason::EvidenceTooLarge,
            Error::Unreadable { .. } => Reason::TpmMalformed,
            _ => Reason::DeviceUnavailable,
        }
    }

    /// What to do about it, for the line after the error; nothing if we do not know.
    pub fn cure(&self) -> Option<&'static str> {
        match self {
            Error::Tpm { cause, .. } => cause.cure(),
            Error::Address { .. } => {
                Some("write `device:/dev/tpmrm0`, or `swtpm:host=127.0.0.1,port=2321`")
            }
            Error::Open { source, .. } => match source.kind() {
                std::io::ErrorKind::NotFound => {
                    Some("is there a TPM, and is it on in the firmware?")
                }
                std::io::ErrorKind::PermissionDenied => {
                    Some("run as root or as a member of the group that owns the node, often `tss`")
                }
                std::io::ErrorKind::ResourceBusy => Some("use `/dev/tpmrm0`, which many can open"),
                _ => None,
            },
            Error::InUse { .. } => Some("stop the other program, or wait for it"),
            Error::Deadline { .. } | Error::QueueFull { .. } => {
                Some("a hardware TPM makes a few signatures per second: ask less of it")
            }
            Error::KeyGone => Some("attest again: a new boot needs a new key"),
            Error::NoEndorsement => {
                Some("some vendors serve the certificate from the web; admit the node otherwise")
            }
            _ => None,
        }
    }

    /// The line to the device is broken: what was loaded is lost, and opening anew may help.
    pub(super) fn is_transport(&self) -> bool {
        matches!(self, Error::Transport { .. })
    }

    /// The TPM has forgotten what we had loaded: it was reset, or somebody flushed it.
    pub(super) fn is_stale(&self) -> bool {
        matches!(self, Error::Tpm { cause: Cause::NotLoaded, .. })
    }

    /// Others hold objects too, so our count of them is wrong.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Error::Tpm { cause: Cause::ObjectMemory, .. })
    }

    pub(super) fn is_retry(&self) -> bool {
        matches!(self, Error::Tpm { cause: Cause::Retry, .. })
    }
}

/// For `map_err`: an error of the library, said of this command.
pub(super) fn of(command: &'static str) -> impl Fn(TssError) -> Error {
    move |error| from_tss(command, error)
}

fn from_tss(command: &'static str, error: TssError) -> Error {
    let code = match error {
        TssError::WrapperError(kind) => {
            return Error::Wrapper { command, why: kind.to_string() };
        }
        TssError::Tss2Error(code) => number(code),
    };
    let layer = code & LAYERS;
    let code_of_tpm = code & !LAYERS;
    match layer {
        // A resource manager speaks for the TPM, in the TPM's codes.
        TPM | RESOURCE_MANAGER | RESOURCE_MANAGER_TPM => {
            Error::Tpm { command, code: code_of_tpm, cause: Cause::of(code_of_tpm) }
        }
        TCTI => Error::Transport { device: String::new(), command, code },
        // A cut answer shows as one that cannot be parsed, layers above the line.
        _ if (MALFORMED..=INSUFFICIENT).contains(&code_of_tpm) => {
            Error::Transport { device: String::new(), command, code }
        }
        _ => Error::Library { command, code },
    }
}

/// The library shows the number only as text.
fn number(code: Tss2ResponseCode) -> u32 {
    let text = match code {
        Tss2ResponseCode::Success => return 0,
        Tss2ResponseCode::FormatZero(code) => code.to_string(),
        Tss2ResponseCode::FormatOne(code) => code.to_string(),
    };
    let digits = text.rsplit("0x").next().unwrap_or_default();
    u32::from_str_radix(digits, 16).unwrap_or(u32::MAX)
}

/// TSS 2.0 Overview and Common Structures, §3.3: the layer that made the code.
const LAYERS: u32 = 0x00ff_0000;
const TPM: u32 = 0;
const TCTI: u32 = 0x000a_0000;
const RESOURCE_MANAGER: u32 = 0x000b_0000;
const RESOURCE_MANAGER_TPM: u32 = 0x000c_0000;
/// TSS2_BASE_RC_MALFORMED_RESPONSE to TSS2_BASE_RC_INSUFFICIENT_RESPONSE: what a read of nothing
/// shows as (measured: 0x80012 when the node goes in the middle of a command).
const MALFORMED: u32 = 0x0011;
const INSUFFICIENT: u32 = 0x0013;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn the_codes_of_the_manual_have_their_cause_and_a_cure() {
        for (code, cause) in [
            (0x921, Cause::Lockout),
            (0x922, Cause::Retry),
            (0x902, Cause::ObjectMemory),
            (0x903, Cause::SessionMemory),
            (0x12f, Cause::Policy),
            (0xa9d, Cause::Policy),
            (0x99d, Cause::Policy),
            (0x1df, Cause::Integrity),
            (0x101, Cause::Failure),
            (0x910, Cause::NotLoaded),
            (0x18b, Cause::NotLoaded),
            (0x98e, Cause::Authorisation),
            (0x9a2, Cause::Authorisation),
        ] {
            assert_eq!(Cause::of(code), cause, "{code:#x}");
            assert!(cause.cure().is_some());
        }
        assert_eq!(Cause::of(0x2c4), Cause::Other);
    }

    #[test]
    fn the_number_is_read_from_the_librarys_text() {
        // A wrong host name fails in the library before anything is opened.
        let refused = tss_esapi::structures::Digest::try_from(vec![0; 65]).unwrap_err();
        assert!(matches!(of("test")(refused), Error::Wrapper { .. }));
    }
}
