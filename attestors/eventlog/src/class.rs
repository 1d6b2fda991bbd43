//! The class of an event: the alphabet in which profiles write the grammar of a register.
//!
//! A class is read from type, register and text, so it is a claim like these. What keeps it honest
//! is the grammar, which consumes every event of a register, and the grade: a class whose text
//! firmware hashes ([`Class::binds_its_text`]) and whose event is opaque was forged.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use serde::Serializer;

use crate::event_type::EventType;
use crate::log::Event;
use crate::log::STARTUP_LOCALITY;
use crate::variable::GLOBAL;
use crate::variable::SECURITY_DATABASE;
use crate::variable::Variable;
use crate::variable::utf16;

macro_rules! classes {
    ($($variant:ident $name:literal)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Class { $($variant,)* }

        impl Class {
            pub const ALL: &'static [Class] = &[$(Class::$variant,)*];

            /// As profiles write it.
            pub const fn name(self) -> &'static str {
                match self { $(Class::$variant => $name,)* }
            }
        }
    };
}

classes! {
    Locality "locality"
    NoAction "no_action"
    Crtm "crtm"
    CrtmContents "crtm_contents"
    Hcrtm "hcrtm"
    FwBlob "fw_blob"
    PostCode "post_code"
    Microcode "microcode"
    ConfigFlags "config_flags"
    Devices "devices"
    Handoff "handoff"
    Nonhost "nonhost"
    NonhostCode "nonhost_code"
    NonhostConfig "nonhost_config"
    CompactHash "compact_hash"
    Separator "separator"
    SeparatorError "separator_error"
    SeparatorWindows "separator_windows"
    SecureBoot "SecureBoot"
    Pk "PK"
    Kek "KEK"
    Db "db"
    Dbx "dbx"
    Dbt "dbt"
    Dbr "dbr"
    Variable "variable"
    Authority "authority"
    BootVariable "boot_variable"
    Action "action"
    Gpt "gpt"
    BootApp "boot_app"
    BootDriver "boot_driver"
    RuntimeDriver "runtime_driver"
    GrubCommand "grub_cmd"
    KernelCmdline "kernel_cmdline"
    ModuleCmdline "module_cmdline"
    UkiSection "uki_section"
    Mok "mok"
    Ipl "ipl"
    LoadOptions "load_options"
    Initrd "initrd"
    Windows "windows"
    Aael "aael"
    EventTag "event_tag"
    Spdm "spdm"
    Other "other"
    Unknown "unknown"
}

impl Event<'_> {
    pub fn class(&self) -> Class {
        class(self.kind(), self.data())
    }
}

/// Of a type and its text.
pub(crate) fn class(kind: EventType, data: &[u8]) -> Class {
    match kind {
        EventType::NO_ACTION => match data.starts_with(STARTUP_LOCALITY) {
            true => Class::Locality,
            false => Class::NoAction,
        },
        EventType::SEPARATOR => separator(data),
        EventType::S_CRTM_VERSION => Class::Crtm,
        EventType::S_CRTM_CONTENTS => Class::CrtmContents,
        EventType::EFI_HCRTM_EVENT => Class::Hcrtm,
        EventType::EFI_PLATFORM_FIRMWARE_BLOB | EventType::EFI_PLATFORM_FIRMWARE_BLOB2 => {
            Class::FwBlob
        }
        EventType::POST_CODE | EventType::POST_CODE2 => Class::PostCode,
        EventType::CPU_MICROCODE => Class::Microcode,
        EventType::PLATFORM_CONFIG_FLAGS => Class::ConfigFlags,
        EventType::TABLE_OF_DEVICES => Class::Devices,
        EventType::EFI_HANDOFF_TABLES | EventType::EFI_HANDOFF_TABLES2 => Class::Handoff,
        EventType::NONHOST_INFO => Class::Nonhost,
        EventType::NONHOST_CODE => Class::NonhostCode,
        EventType::NONHOST_CONFIG => Class::NonhostConfig,
        EventType::COMPACT_HASH => Class::CompactHash,
        EventType::EFI_VARIABLE_DRIVER_CONFIG => driver_config(data),
        EventType::EFI_VARIABLE_AUTHORITY => Class::Authority,
        EventType::EFI_VARIABLE_BOOT | EventType::EFI_VARIABLE_BOOT2 => Class::BootVariable,
        EventType::ACTION | EventType::EFI_ACTION => Class::Action,
        EventType::EFI_GPT_EVENT | EventType::EFI_GPT_EVENT2 => Class::Gpt,
        EventType::EFI_BOOT_SERVICES_APPLICATION => Class::BootApp,
        EventType::EFI_BOOT_SERVICES_DRIVER => Class::BootDriver,
        EventType::EFI_RUNTIME_SERVICES_DRIVER => Class::RuntimeDriver,
        EventType::IPL => ipl(data),
        EventType::EVENT_TAG => event_tag(data),
        EventType::EFI_SPDM_FIRMWARE_BLOB
        | EventType::EFI_SPDM_FIRMWARE_CONFIG
        | EventType::EFI_SPDM_DEVICE_POLICY
        | EventType::EFI_SPDM_DEVICE_AUTHORITY => Class::Spdm,
        kind if kind.name().is_some() => Class::Other,
        _ => Class::Unknown,
    }
}

impl Class {
    /// Whether firmware and boot loaders hash the text of such an event, so that an opaque one has
    /// forged text (but for the quirks that say otherwise).
    pub const fn binds_its_text(self) -> bool {
        self.must_be_bound()
            || matches!(
                self,
                Class::Crtm
                    | Class::Nonhost
                    | Class::BootVariable
                    | Class::GrubCommand
                    | Class::KernelCmdline
                    | Class::ModuleCmdline
                    | Class::Windows
                    | Class::Aael
            )
    }

    /// Whether an event of which this is not so cannot be part of an honest log.
    pub const fn must_be_bound(self) -> bool {
        matches!(
            self,
            Class::Separator
                | Class::SeparatorError
                | Class::SeparatorWindows
                | Class::SecureBoot
                | Class::Pk
                | Class::Kek
                | Class::Db
                | Class::Dbx
                | Class::Dbt
                | Class::Dbr
                | Class::Variable
                | Class::Authority
                | Class::Action
                | Class::Gpt
        )
    }
}

fn separator(data: &[u8]) -> Class {
    match data {
        [0, 0, 0, 0] => Class::Separator,
        b"WBCL" => Class::SeparatorWindows,
        _ => Class::SeparatorError,
    }
}

fn driver_config(data: &[u8]) -> Class {
    let Some(variable) = Variable::parse(data) else { return Class::Variable };
    match (variable.vendor, variable.name.as_str()) {
        (GLOBAL, "SecureBoot") => Class::SecureBoot,
        (GLOBAL, "PK") => Class::Pk,
        (GLOBAL, "KEK") => Class::Kek,
        (SECURITY_DATABASE, "db") => Class::Db,
        (SECURITY_DATABASE, "dbx") => Class::Dbx,
        (SECURITY_DATABASE, "dbt") => Class::Dbt,
        (SECURITY_DATABASE, "dbr") => Class::Dbr,
        _ => Class::Variable,
    }
}

fn ipl(data: &[u8]) -> Class {
    let label = data.split(|&byte| byte == b' ' || byte == 0).next().unwrap_or(data);
    match label {
        b"grub_cmd:" | b"grub_cmd" => Class::GrubCommand,
        b"kernel_cmdline:" | b"grub_kernel_cmdline" | b"grub_kernel_cmdline:" => {
            Class::KernelCmdline
        }
        b"module_cmdline:" | b"grub_module_cmdline:" => Class::ModuleCmdline,
        label if label.starts_with(b"Mok") => Class::Mok,
        _ if section_name(data).is_some() => Class::UkiSection,
        _ => Class::Ipl,
    }
}

/// `.linux` and its kin: UTF-16LE with a NUL. Name and contents of a section are two events with
/// the same text; only the first one's digest is of the text.
pub(crate) fn section_name(data: &[u8]) -> Option<String> {
    let text = utf16(data)?;
    let name = text.strip_suffix('\0')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let rest = name.strip_prefix('.')?;
    (rest.len() <= 16 && !rest.is_empty() && rest.chars().all(plain)).then(|| name.to_owned())
}

/// TCG_PCClientTaggedEvent: tag u32, size u32, data. Linux gives the tags of its EFI stub.
fn event_tag(data: &[u8]) -> Class {
    let Some((tag, rest)) = data.split_first_chunk::<4>() else { return Class::EventTag };
    match u32::from_le_bytes(*tag) {
        0x8f3b_22ed => Class::LoadOptions,
        0x8f3b_22ec => Class::Initrd,
        _ if data == b"LOADED_IMAGE::LoadOptions\0" => Class::LoadOptions,
        _ if tag == b"LEAA" => Class::Aael,
        // SIPA events of Windows: a container, or a key; the size must fit.
        0x4001_0001 | 0x0006_0002 if sized(rest) => Class::Windows,
        _ => Class::EventTag,
    }
}

fn sized(rest: &[u8]) -> bool {
    rest.split_first_chunk::<4>().is_some_and(|(size, data)| {
        usize::try_from(u32::from_le_bytes(*size)).is_ok_and(|size| size == data.len())
    })
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Class {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a class of events")]
pub struct UnknownClass(String);

impl FromStr for Class {
    type Err = UnknownClass;

    fn from_str(text: &str) -> Result<Class, UnknownClass> {
        let found = Class::ALL.iter().copied().find(|class| class.name() == text);
        found.ok_or_else(|| UnknownClass(text.into()))
    }
}
