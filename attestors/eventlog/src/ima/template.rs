//! Which fields an entry has: the kernel's own templates, and format strings of an operator.
//!
//! Names and fields are those of Linux, security/integrity/ima/ima_template.c. A list whose
//! template is not known here is refused by name: a field that nobody reads could say anything.

use crate::ima::error::Fault;

/// What is measured of a file. The name column holds the template's name, or, with
/// `ima_template_fmt=`, the format string itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template<'a> {
    Ima,
    ImaNg,
    ImaSig,
    ImaNgV2,
    ImaSigV2,
    ImaBuf,
    ImaModsig,
    EvmSig,
    /// Known fields joined by bars, none of them twice.
    Custom(&'a str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// SHA-1 or MD5 without a name.
    Digest,
    /// At most 255 bytes.
    Name,
    DigestNg,
    DigestNgV2,
    NameNg,
    Signature,
    Buffer,
    AppendedDigest,
    AppendedSignature,
    EvmSignature,
    XattrNames,
    XattrLengths,
    XattrValues,
    Uid,
    Gid,
    Mode,
}

impl<'a> Template<'a> {
    pub(super) fn parse(name: &'a [u8]) -> Result<Template<'a>, Fault> {
        if let Some((template, _, _)) = NAMED.iter().find(|(_, known, _)| known.as_bytes() == name)
        {
            return Ok(*template);
        }
        let unknown = || Fault::Template(name.escape_ascii().take(80).map(char::from).collect());
        let format = std::str::from_utf8(name).map_err(|_| unknown())?;
        let mut seen = 0_u32;
        for (count, id) in format.split('|').enumerate() {
            let field = FIELDS.iter().position(|(known, _)| *known == id).ok_or_else(unknown)?;
            let bit = 1_u32 << field;
            if count >= MAX_FIELDS || seen & bit != 0 {
                return Err(unknown());
            }
            seen |= bit;
        }
        Ok(Template::Custom(format))
    }

    pub fn name(self) -> &'a str {
        match self {
            Template::Custom(format) => format,
            _ => self.row().map_or("", |(_, name, _)| name),
        }
    }

    /// The fields in the order in which an entry holds them.
    pub fn fields(self) -> Fields<'a> {
        match self {
            Template::Custom(format) => Fields::Custom(format.split('|')),
            _ => Fields::Named(self.row().map_or(&[][..], |(_, _, fields)| fields).iter()),
        }
    }

    fn row(self) -> Option<&'static (Template<'static>, &'static str, &'static [Field])> {
        NAMED.iter().find(|(template, _, _)| *template == self)
    }
}

#[derive(Clone, Debug)]
pub enum Fields<'a> {
    Named(std::slice::Iter<'static, Field>),
    Custom(std::str::Split<'a, char>),
}

impl Iterator for Fields<'_> {
    type Item = Field;

    #[inline]
    fn next(&mut self) -> Option<Field> {
        match self {
            Fields::Named(fields) => fields.next().copied(),
            Fields::Custom(ids) => field(ids.next()?),
        }
    }
}

fn field(id: &str) -> Option<Field> {
    FIELDS.iter().find(|(known, _)| *known == id).map(|(_, field)| *field)
}

/// The most usual first: a list is mostly of one template.
const NAMED: [(Template<'static>, &str, &[Field]); 8] = [
    (Template::ImaNg, "ima-ng", &[Field::DigestNg, Field::NameNg]),
    (Template::ImaSig, "ima-sig", &[Field::DigestNg, Field::NameNg, Field::Signature]),
    (Template::Ima, "ima", &[Field::Digest, Field::Name]),
    (Template::ImaNgV2, "ima-ngv2", &[Field::DigestNgV2, Field::NameNg]),
    (Template::ImaSigV2, "ima-sigv2", &[Field::DigestNgV2, Field::NameNg, Field::Signature]),
    (Template::ImaBuf, "ima-buf", &[Field::DigestNg, Field::NameNg, Field::Buffer]),
    (
        Template::ImaModsig,
        "ima-modsig",
        &[
            Field::DigestNg,
            Field::NameNg,
            Field::Signature,
            Field::AppendedDigest,
            Field::AppendedSignature,
        ],
    ),
    (
        Template::EvmSig,
        "evm-sig",
        &[
            Field::DigestNg,
            Field::NameNg,
            Field::EvmSignature,
            Field::XattrNames,
            Field::XattrLengths,
            Field::XattrValues,
            Field::Uid,
            Field::Gid,
            Field::Mode,
        ],
    ),
];

const FIELDS: [(&str, Field); 16] = [
    ("d", Field::Digest),
    ("n", Field::Name),
    ("d-ng", Field::DigestNg),
    ("d-ngv2", Field::DigestNgV2),
    ("n-ng", Field::NameNg),
    ("sig", Field::Signature),
    ("buf", Field::Buffer),
    ("d-modsig", Field::AppendedDigest),
    ("modsig", Field::AppendedSignature),
    ("evmsig", Field::EvmSignature),
    ("xattrnames", Field::XattrNames),
    ("xattrlengths", Field::XattrLengths),
    ("xattrvalues", Field::XattrValues),
    ("iuid", Field::Uid),
    ("igid", Field::Gid),
    ("imode", Field::Mode),
];

/// IMA_TEMPLATE_NUM_FIELDS_MAX.
const MAX_FIELDS: usize = 15;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn each_name_and_each_format_of_known_fields_is_read() {
        for (template, name, fields) in NAMED {
            assert_eq!(Template::parse(name.as_bytes()).unwrap(), template);
            assert_eq!(template.name(), name);
            assert_eq!(template.fields().collect::<Vec<_>>(), fields);
        }
        let custom = Template::parse(b"d-ng|n-ng|imode").unwrap();
        assert_eq!(
            custom.fields().collect::<Vec<_>>(),
            [Field::DigestNg, Field::NameNg, Field::Mode]
        );
        assert_eq!(custom.name(), "d-ng|n-ng|imode");
    }

    #[test]
    fn any_other_name_is_refused_by_name() {
        for name in ["", "ima-new", "IMA", "d-ng|", "d-ng||n-ng", "d-ng|d-ng", "d-ng|x", "|", "d\0"]
        {
            let fault = Template::parse(name.as_bytes()).unwrap_err();
            assert!(matches!(fault, Fault::Template(_)), "{name}: {fault:?}");
        }
        let every: Vec<_> = FIELDS.iter().map(|(id, _)| *id).collect();
        assert!(Template::parse(every.join("|").as_bytes()).is_err(), "sixteen are too many");
        assert!(Template::parse(every[1..].join("|").as_bytes()).is_ok());
        assert!(Template::parse(&[0xff; 4]).is_err());
    }
}
