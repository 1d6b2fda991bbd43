//! Items of evidence as they come in: declared once, then whole or in chunks, hashed while they
//! stream, held against their declaration, and kept only as far as memory allows.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use assay_evidence::crypto;
use assay_evidence::reason::Reason;

use crate::envelope::MediaType;
use crate::exchange::Refused;
use crate::exchange::limits::Lease;
use crate::exchange::message::Chunk;
use crate::exchange::message::Item;
use crate::exchange::message::malformed;

/// An item that came in whole and hashed to what was declared.
#[derive(Debug, Clone)]
pub struct Received {
    pub media_type: MediaType,
    pub size: u64,
    pub sha256: [u8; 32],
    /// Absent where the item was larger than an exchange keeps: then only its digest is known.
    pub bytes: Option<Vec<u8>>,
}

/// The bytes of one kind, if they came and were kept.
pub(super) fn item(items: &[Received], kind: MediaType) -> Option<&[u8]> {
    items.iter().find(|item| item.media_type == kind)?.bytes.as_deref()
}

#[derive(Debug)]
pub(super) struct Intake {
    items: BTreeMap<u32, Incoming>,
    /// What the last message brought of a list of files.
    heard: Vec<u8>,
    lease: Lease,
}

#[derive(Debug)]
struct Incoming {
    media_type: MediaType,
    size: u64,
    sha256: [u8; 32],
    so_far: u64,
    progress: Progress,
}

enum Progress {
    Streaming { hash: crypto::Sha256, kept: Option<Vec<u8>> },
    Whole { kept: Option<Vec<u8>> },
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Streaming { .. } => "Streaming",
            Self::Whole { .. } => "Whole",
        })
    }
}

impl Intake {
    /// Takes the declarations and what came with them. Items that nobody asked for are refused,
    /// and so is a statement of the hardware that does not come whole: it decides whether the rest
    /// is listened to.
    pub(super) fn open(
        mut items: Vec<Item>,
        wanted: &BTreeSet<MediaType>,
        mut lease: Lease,
    ) -> Result<Self, Refused> {
        let mut incoming = BTreeMap::new();
        let mut heard = Vec::new();
        // Memory goes to what is judged at the end before it goes to what is judged as it comes in,
        // whatever the agent names first: a list that grows must not push a text out.
        items.sort_by_key(|item| (!is_statement(item.media_type), is_of_files(item.media_type)));
        for item in items {
            let word = item.media_type.word();
            if !wanted.contains(&item.media_type) {
                return Err(malformed("evidence.items", word, "only what was asked for"));
            }
            let decides = is_statement(item.media_type);
            if decides && item.data.is_empty() {
                return Err(malformed(word, "declared without data", "the whole item at once"));
            }
            let keeps = lease.take(item.size);
            if decides && !keeps {
                let expected = "room for the evidence of all exchanges";
                return Err(Refused::new(Reason::OverLimit, "server.memory", "none", expected));
            }
            let mut entry = Incoming {
                media_type: item.media_type,
                size: item.size,
                sha256: item.sha256,
                so_far: 0,
                progress: Progress::Streaming {
                    hash: crypto::Sha256::new(),
                    kept: keeps.then(Vec::new),
                },
            };
            if !item.data.is_empty() {
                entry.append(&item.data)?;
            }
            incoming.insert(item.id, entry);
            if is_of_files(item.media_type) {
                heard = item.data;
            }
        }
        Ok(Self { items: incoming, heard, lease })
    }

    pub(super) fn chunk(&mut self, chunk: Chunk) -> Result<(), Refused> {
        let Some(item) = self.items.get_mut(&chunk.id) else {
            return Err(malformed("chunk.id", chunk.id, "an item that was declared"));
        };
        if matches!(item.progress, Progress::Whole { .. }) {
            return Err(malformed("chunk.id", chunk.id, "an item that is still due"));
        }
        if chunk.offset != item.so_far {
            return Err(malformed("chunk.offset", chunk.offset, item.so_far));
        }
        item.append(&chunk.data)?;
        let of_files = is_of_files(item.media_type);
        self.heard = if of_files { chunk.data } else { Vec::new() };
        Ok(())
    }

    /// What the last message brought of a list of files. Taken after each message, the pieces are
    /// the whole list, of which nothing longer than a message is in memory for it.
    pub(super) fn heard(&self) -> &[u8] {
        &self.heard
    }

    /// The items still due, in the order they are to come.
    pub(super) fn due(&self) -> Vec<u32> {
        self.items
            .iter()
            .filter(|(_, item)| matches!(item.progress, Progress::Streaming { .. }))
            .map(|(id, _)| *id)
            .collect()
    }

    /// The bytes of an item that is whole and kept.
    pub(super) fn bytes(&self, media_type: MediaType) -> Option<&[u8]> {
        self.items.values().find(|item| item.media_type == media_type).and_then(|item| match &item
            .progress
        {
            Progress::Whole { kept } => kept.as_deref(),
            Progress::Streaming { .. } => None,
        })
    }

    /// Everything that came in whole, and the lease on the memory it takes.
    pub(super) fn received(self) -> (Vec<Received>, Lease) {
        let items = self
            .items
            .into_values()
            .filter_map(|item| match item.progress {
                Progress::Whole { kept } => Some(Received {
                    media_type: item.media_type,
                    size: item.size,
                    sha256: item.sha256,
                    bytes: kept,
                }),
                Progress::Streaming { .. } => None,
            })
            .collect();
        (items, self.lease)
    }
}

impl Incoming {
    fn append(&mut self, data: &[u8]) -> Result<(), Refused> {
        let added = u64::try_from(data.len()).unwrap_or(u64::MAX);
        let so_far = self.so_far.saturating_add(added);
        if so_far > self.size {
            let claim = self.media_type.word();
            let expected = format!("{} bytes as declared", self.size);
            return Err(Refused::new(Reason::EvidenceTooLarge, claim, so_far, expected));
        }
        self.so_far = so_far;
        let Progress::Streaming { hash, kept } = &mut self.progress else { return Ok(()) };
        hash.update(data);
        if let Some(kept) = kept {
            kept.extend_from_slice(data);
        }
        if so_far == self.size {
            let found = std::mem::take(hash).finish();
            let kept = kept.take();
            if found != self.sha256 {
                let claim = format!("{}.sha256", self.media_type.word());
                return Err(malformed(&claim, hex::encode(found), hex::encode(self.sha256)));
            }
            self.progress = Progress::Whole { kept };
        }
        Ok(())
    }
}

fn is_statement(media_type: MediaType) -> bool {
    match media_type {
        MediaType::TpmQuote
        | MediaType::TpmCertify
        | MediaType::TpmAkCertify
        | MediaType::TpmPcrs
        | MediaType::SnpReport
        | MediaType::SnpHostCerts
        | MediaType::TdxQuote
        | MediaType::HclReport => true,
        MediaType::TcgEventlog
        | MediaType::Ccel
        | MediaType::ImaBinary
        | MediaType::ImaAscii
        | MediaType::KernelCmdline => false,
    }
}

/// Of which an exchange asks for one form.
fn is_of_files(media_type: MediaType) -> bool {
    matches!(media_type, MediaType::ImaBinary | MediaType::ImaAscii)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::exchange::Budget;

    fn item(id: u32, media_type: MediaType, bytes: &[u8], inline: bool) -> Item {
        Item {
            id,
            media_type,
            size: bytes.len() as u64,
            sha256: crypto::sha256(bytes),
            data: if inline { bytes.to_vec() } else { Vec::new() },
        }
    }

    fn open(items: Vec<Item>) -> Result<Intake, Refused> {
        let wanted = BTreeSet::from([MediaType::TpmQuote, MediaType::TcgEventlog]);
        Intake::open(items, &wanted, Budget::default().lease())
    }

    fn chunk(id: u32, offset: u64, data: &[u8]) -> Chunk {
        Chunk { id, offset, data: data.to_vec() }
    }

    fn streaming(bytes: &[u8]) -> Intake {
        open(vec![item(7, MediaType::TcgEventlog, bytes, false)]).unwrap()
    }

    #[test]
    fn a_log_in_chunks_is_put_together_and_hashed() {
        let mut intake = streaming(b"abcdef");
        assert_eq!(intake.due(), [7]);
        intake.chunk(chunk(7, 0, b"abcd")).unwrap();
        intake.chunk(chunk(7, 4, b"ef")).unwrap();
        assert!(intake.due().is_empty());
        let (received, _lease) = intake.received();
        assert_eq!(received.first().unwrap().bytes.as_deref(), Some(&b"abcdef"[..]));
    }

    #[test]
    fn a_chunk_at_a_wrong_place_is_refused() {
        for offset in [0, 1, 3, 5, u64::MAX] {
            let mut intake = streaming(b"abcdef");
            intake.chunk(chunk(7, 0, b"abcd")).unwrap();
            let refused = intake.chunk(chunk(7, offset, b"ef")).unwrap_err();
            assert_eq!(refused.reason(), Reason::MessageMalformed, "{offset}");
        }
    }

    #[test]
    fn a_chunk_of_an_unknown_or_finished_item_is_refused() {
        let mut intake = streaming(b"ab");
        assert_eq!(intake.chunk(chunk(8, 0, b"a")).unwrap_err().reason(), Reason::MessageMalformed);
        intake.chunk(chunk(7, 0, b"ab")).unwrap();
        assert_eq!(intake.chunk(chunk(7, 2, b"c")).unwrap_err().reason(), Reason::MessageMalformed);
    }

    #[test]
    fn more_bytes_than_declared_or_other_bytes_are_refused() {
        let mut intake = streaming(b"abcdef");
        let refused = intake.chunk(chunk(7, 0, b"abcdefg")).unwrap_err();
        assert_eq!(refused.reason(), Reason::EvidenceTooLarge);
        let mut intake = streaming(b"abcdef");
        let refused = intake.chunk(chunk(7, 0, b"abcdeX")).unwrap_err();
        assert_eq!(refused.reason(), Reason::MessageMalformed);
    }

    #[test]
    fn what_nobody_asked_for_is_refused() {
        let refused = open(vec![item(1, MediaType::ImaAscii, b"x", true)]).unwrap_err();
        assert_eq!(refused.reason(), Reason::MessageMalformed);
    }

    #[test]
    fn an_item_of_the_tpm_comes_whole() {
        let refused = open(vec![item(1, MediaType::TpmQuote, b"x", false)]).unwrap_err();
        assert_eq!(refused.reason(), Reason::MessageMalformed);
        let intake = open(vec![item(1, MediaType::TpmQuote, b"x", true)]).unwrap();
        assert_eq!(intake.bytes(MediaType::TpmQuote), Some(&b"x"[..]));
    }

    #[test]
    fn a_list_leaves_the_memory_to_what_is_judged_at_the_end() {
        let wanted = MediaType::ALL.into_iter().collect();
        let list = vec![7; 1_024 * 1_024 - 10];
        let items = vec![
            item(1, MediaType::ImaBinary, &list, true),
            item(2, MediaType::KernelCmdline, &[1; 20], true),
            item(3, MediaType::TpmQuote, &[2; 20], true),
        ];
        let intake = Intake::open(items, &wanted, Budget::default().lease()).unwrap();
        assert_eq!(intake.bytes(MediaType::KernelCmdline), Some(&[1; 20][..]));
        assert_eq!(intake.bytes(MediaType::TpmQuote), Some(&[2; 20][..]));
        assert_eq!(intake.bytes(MediaType::ImaBinary), None);
        assert_eq!(intake.heard(), list, "and it is heard all the same");
    }

    #[test]
    fn without_memory_the_tpm_is_refused_and_a_log_is_hashed_only() {
        let wanted = BTreeSet::from([MediaType::TpmQuote, MediaType::TcgEventlog]);
        let purse = Budget::new(1);
        let quote = vec![item(1, MediaType::TpmQuote, b"xy", true)];
        let refused = Intake::open(quote, &wanted, purse.lease()).unwrap_err();
        assert_eq!(refused.reason(), Reason::OverLimit);
        let log = vec![item(1, MediaType::TcgEventlog, b"xy", true)];
        let (received, lease) = Intake::open(log, &wanted, purse.lease()).unwrap().received();
        assert_eq!(received.first().unwrap().bytes, None);
        drop(lease);
        assert_eq!(purse.used(), 0);
    }
}
