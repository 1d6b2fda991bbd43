//! One entry of the list, borrowed from the bytes it was read from.
//!
//! Every field is looked at when the entry is read, so that an entry that is replayed is also one
//! whose text is understood. What a field says is a fact only once a quote covers the entry, and
//! of a violation not even then: its register is extended with ones whatever the entry says.

use assay_evidence::Digest;
use assay_evidence::HashAlgorithm;
use assay_evidence::Reader;
use assay_evidence::crypto;

use crate::ima::error::Fault;
use crate::ima::frame::ByteOrder;
use crate::ima::frame::Record;
use crate::ima::template::Field;
use crate::ima::template::Template;

#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Place in what its reader read, from 0; a tail begins at 0 too.
    pub(super) index: u64,
    pub(super) register: u32,
    pub(super) untrusted_column: &'a [u8],
    pub(super) template: Template<'a>,
    pub(super) data: Data<'a>,
    order: ByteOrder,
    violation: bool,
    said: Said<'a>,
}

/// What an entry is matched by.
#[derive(Clone, Copy, Debug)]
struct Said<'a> {
    digest: Option<FileDigest<'a>>,
    name: &'a [u8],
}

/// What the template digest is taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Data<'a> {
    /// Each field behind its 32-bit length: hashed as it stands.
    Sized(&'a [u8]),
    /// Template `ima`: the bare digest, and the name padded to 256 bytes in the hash.
    Ima { digest: &'a [u8], name: &'a [u8] },
}

/// A file's digest as the kernel names it; not every algorithm it may name is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileDigest<'a> {
    pub of: DigestOf,
    pub algorithm: &'a str,
    pub bytes: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestOf {
    Content,
    /// The root of the file's fs-verity tree, not its content.
    Verity,
}

/// What an entry is about. Every consumer has to say what it does with each of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// The registers of the boot in one digest: see [`BootAggregate`](crate::ima::BootAggregate).
    BootAggregate(FileDigest<'a>),
    File(File<'a>),
    /// Template `ima-buf`: keys, critical data, the command line of a kexec. The digest is of the
    /// buffer.
    Buffer {
        name: &'a [u8],
        digest: FileDigest<'a>,
        buffer: &'a [u8],
    },
    /// A file that changed while it was measured. Which file is only claimed: the register is
    /// extended with ones, so nothing covers the name.
    Violation {
        claimed_path: &'a [u8],
    },
    /// A custom format without a digest or a name: replayed, but it says nothing of a file.
    Anonymous,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File<'a> {
    pub digest: FileDigest<'a>,
    /// As measured: the kernel writes `_` for each space, and no byte of it must be UTF-8. A name
    /// proves no place; match the digest first.
    pub path: &'a [u8],
    /// Contents of `security.ima`, or of a portable `security.evm`; never empty.
    pub signature: Option<&'a [u8]>,
}

impl<'a> Entry<'a> {
    #[inline]
    pub(super) fn parse(
        record: Record<'a>,
        order: ByteOrder,
        index: u64,
    ) -> Result<Entry<'a>, Fault> {
        let template = Template::parse(record.template)?;
        let violation = record.column.iter().all(|byte| *byte == 0);
        let mut said = Said { digest: None, name: &[] };
        match record.data {
            Data::Ima { digest, name } => {
                said.take(Field::Digest, digest, violation).ok_or(Fault::Field(Field::Digest))?;
                said.take(Field::Name, name, violation).ok_or(Fault::Field(Field::Name))?;
            }
            Data::Sized(bytes) => {
                let mut reader = Reader::new(bytes);
                for field in template.fields() {
                    let bytes = sized(&mut reader, order)?;
                    said.take(field, bytes, violation).ok_or(Fault::Field(field))?;
                }
                reader.finish()?;
            }
        }
        Ok(Entry {
            index,
            register: record.register,
            untrusted_column: record.column,
            template,
            data: record.data,
            order,
            violation,
            said,
        })
    }

    pub fn index(&self) -> u64 {
        self.index
    }

    pub fn register(&self) -> u32 {
        self.register
    }

    pub fn template(&self) -> Template<'a> {
        self.template
    }

    /// The digest column as it stands in the list: nobody signed it.
    pub fn untrusted_column(&self) -> &'a [u8] {
        self.untrusted_column
    }

    /// A digest column of zeros. If it lies, the replay leads nowhere.
    pub fn is_violation(&self) -> bool {
        self.violation
    }

    /// The template digest, computed; nothing for an algorithm that is not computed here.
    pub fn template_digest(&self, algorithm: HashAlgorithm) -> Option<Digest> {
        match self.data {
            Data::Sized(bytes) => crypto::hash(algorithm, &[bytes]),
            Data::Ima { digest, name } => {
                let padding = NAME_PADDING.get(name.len()..).unwrap_or(&[]);
                crypto::hash(algorithm, &[digest, name, padding])
            }
        }
    }

    /// The raw bytes of a field, where the template has it.
    pub fn field(&self, wanted: Field) -> Option<&'a [u8]> {
        match self.data {
            Data::Ima { digest, name } => match wanted {
                Field::Digest => Some(digest),
                Field::Name => Some(name),
                _ => None,
            },
            Data::Sized(bytes) => {
                let mut reader = Reader::new(bytes);
                for field in self.template.fields() {
                    let bytes = sized(&mut reader, self.order).ok()?;
                    if field == wanted {
                        return Some(bytes);
                    }
                }
                None
            }
        }
    }

    pub fn kind(&self) -> Kind<'a> {
        if self.violation {
            return Kind::Violation { claimed_path: self.said.name };
        }
        let Some(digest) = self.said.digest else { return Kind::Anonymous };
        if let Some(buffer) = self.buffer() {
            return Kind::Buffer { name: self.said.name, digest, buffer };
        }
        match self.said.name {
            b"" => Kind::Anonymous,
            BOOT_AGGREGATE => Kind::BootAggregate(digest),
            path => Kind::File(File { digest, path, signature: self.signature() }),
        }
    }

    /// With a custom format that has `buf`, a file's entry has an empty one.
    fn buffer(&self) -> Option<&'a [u8]> {
        match self.template {
            Template::ImaBuf => self.field(Field::Buffer),
            Template::Custom(_) => self.field(Field::Buffer).filter(|buffer| !buffer.is_empty()),
            _ => None,
        }
    }

    fn signature(&self) -> Option<&'a [u8]> {
        match self.template {
            Template::Ima | Template::ImaNg | Template::ImaNgV2 | Template::ImaBuf => None,
            Template::EvmSig => self.field(Field::EvmSignature),
            _ => self.field(Field::Signature),
        }
        .filter(|signature| !signature.is_empty())
    }
}

impl FileDigest<'_> {
    /// Nothing for one of the kernel's algorithms that has no number in a TPM.
    pub fn hash_algorithm(&self) -> Option<HashAlgorithm> {
        Some(match self.algorithm {
            "sha256" => HashAlgorithm::Sha256,
            "sha1" => HashAlgorithm::Sha1,
            "sha384" => HashAlgorithm::Sha384,
            "sha512" => HashAlgorithm::Sha512,
            "sm3" | "sm3-256" => HashAlgorithm::Sm3_256,
            _ => return None,
        })
    }

    pub fn digest(&self) -> Option<Digest> {
        Digest::new(self.hash_algorithm()?, self.bytes)
    }
}

impl<'a> Said<'a> {
    /// Keeps what an entry is matched by; nothing if the field cannot be what it should be.
    #[inline]
    fn take(&mut self, field: Field, bytes: &'a [u8], violation: bool) -> Option<()> {
        match field {
            // A format may have both: the named digest and the whole name count.
            Field::Digest => self.digest = self.digest.or(Some(bare_digest(bytes)?)),
            Field::DigestNg => self.digest = Some(named_digest(bytes, false, violation)?),
            Field::DigestNgV2 => self.digest = Some(named_digest(bytes, true, violation)?),
            Field::Name => {
                let name = plain_name(bytes)?;
                self.name = if self.name.is_empty() { name } else { self.name };
            }
            Field::NameNg => self.name = terminated(bytes)?,
            Field::AppendedDigest if !bytes.is_empty() => {
                named_digest(bytes, false, violation)?;
            }
            Field::XattrNames if !bytes.is_empty() => {
                terminated(bytes)?;
            }
            Field::XattrLengths if !bytes.len().is_multiple_of(4) => return None,
            Field::Uid | Field::Gid if !matches!(bytes.len(), 0 | 4) => return None,
            Field::Mode if !matches!(bytes.len(), 0 | 2) => return None,
            _ => {}
        }
        Some(())
    }
}

/// `algorithm:` or `type:algorithm:`, a NUL, the digest. A violation holds zeros instead of a
/// digest, in older kernels always twenty of them.
fn named_digest(bytes: &[u8], typed: bool, violation: bool) -> Option<FileDigest<'_>> {
    // By far the most usual, told at once.
    if let Some(digest) = bytes.strip_prefix(b"sha256:\0").filter(|digest| digest.len() == 32) {
        let found = FileDigest { of: DigestOf::Content, algorithm: "sha256", bytes: digest };
        return (!typed).then_some(found);
    }
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let (name, rest) = bytes.split_at_checked(end)?;
    let digest = rest.get(1..)?;
    let name = name.strip_suffix(b":")?;
    let (of, algorithm) = match typed {
        false => (DigestOf::Content, name),
        true => match name.strip_prefix(b"verity:") {
            Some(algorithm) => (DigestOf::Verity, algorithm),
            None => (DigestOf::Content, name.strip_prefix(b"ima:")?),
        },
    };
    let sane = algorithm.len() <= MAX_ALGORITHM
        && algorithm.iter().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(b))
        && (1..=HashAlgorithm::Sha512.size()).contains(&digest.len());
    let algorithm = std::str::from_utf8(algorithm).ok().filter(|_| sane)?;
    let found = FileDigest { of, algorithm, bytes: digest };
    let sized = violation
        || found.hash_algorithm().is_none_or(|algorithm| algorithm.size() == digest.len());
    sized.then_some(found)
}

#[inline]
fn sized<'a>(reader: &mut Reader<'a>, order: ByteOrder) -> Result<&'a [u8], Fault> {
    let length = order.length(reader.array()?);
    Ok(reader.take(length)?)
}

/// Field `d` holds twenty bytes: SHA-1, or MD5 and zeros. Sixteen where a custom format lets it.
fn bare_digest(bytes: &[u8]) -> Option<FileDigest<'_>> {
    let algorithm = match bytes.len() {
        20 => "sha1",
        16 => "md5",
        _ => return None,
    };
    Some(FileDigest { of: DigestOf::Content, algorithm, bytes })
}

/// Field `n`: kernels differ in whether they end it by a NUL, or by several.
fn plain_name(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (name, rest) = bytes.split_at_checked(end)?;
    (name.len() <= MAX_NAME && rest.iter().all(|byte| *byte == 0)).then_some(name)
}

/// A C string whose NUL is its last byte.
fn terminated(bytes: &[u8]) -> Option<&[u8]> {
    let (last, text) = bytes.split_last()?;
    (*last == 0 && !text.contains(&0)).then_some(text)
}

/// A path for an operator's eyes: whole UTF-8 or escaped, and not without end.
pub(super) fn shown(path: &[u8]) -> String {
    let text = match std::str::from_utf8(path) {
        Ok(text) => text.escape_debug().to_string(),
        Err(_) => path.escape_ascii().to_string(),
    };
    text.chars().take(MAX_SHOWN).collect()
}

pub(super) const BOOT_AGGREGATE: &[u8] = b"boot_aggregate";
/// IMA_EVENT_NAME_LEN_MAX.
pub(super) const MAX_NAME: usize = 255;
const NAME_PADDING: [u8; MAX_NAME + 1] = [0; MAX_NAME + 1];
const MAX_ALGORITHM: usize = 32;
const MAX_SHOWN: usize = 256;
