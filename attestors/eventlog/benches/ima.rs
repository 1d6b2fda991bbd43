//! How many entries of an IMA list are verified in a second on one core, held against nothing but
//! the hashes that the entries need, in the same run: for each entry its template digest and the
//! extend. And whether memory stays where it is as a list grows, and what is kept of a node.
//!
//! `known`: the way in which the kernel extends the bank is known, as in every round but the first.
//! `column`: the digest column is compared, too. Where no quoted bank has its hash, that is a third
//! hash for each entry, and so it is in the bare rate: `hashes` says how many there are.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../tests/support/kernel_list.rs"]
mod kernel_list;

use std::time::Duration;
use std::time::Instant;

use assay_eventlog::ima::Reader;
use assay_eventlog::ima::Replay;
use assay_eventlog::ima::State;
use assay_eventlog::ima::replay::Columns;
use assay_eventlog::ima::state::Mode;
use assay_evidence::Digest;
use assay_evidence::HashAlgorithm;
use assay_evidence::Registers;
use assay_evidence::crypto;
use kernel_list::Item;
use kernel_list::Order;

/// Distinct entries; a longer list repeats them, so that the list itself takes no memory.
const DISTINCT: usize = 10_000;
const ENTRIES: usize = 200_000;
/// As the exchange sends them.
const PIECE: usize = 64 * 1024;
const ROUNDS: usize = 5;

struct List {
    bytes: Vec<u8>,
    data: Vec<Vec<u8>>,
}

impl List {
    fn new() -> List {
        let path = |n: usize| format!("/usr/lib/x86_64-linux-gnu/a-library-{n}.so.{}", n % 7);
        let items: Vec<Item> =
            (0..DISTINCT).map(|n| Item::ng(&path(n), &n.to_be_bytes())).collect();
        let data = items.iter().map(|item| item.hashed(Order::Little)).collect();
        List { bytes: kernel_list::binary(&items), data }
    }

    /// The two hashes for each entry, one bank after the other; and that of the column if it is
    /// compared and is no bank's.
    fn bare(&self, entries: usize, banks: &[HashAlgorithm], more: bool) -> (Duration, Registers) {
        let mut registers = Registers::new();
        let start = Instant::now();
        if more {
            self.data.iter().cycle().take(entries).for_each(|data| {
                std::hint::black_box(crypto::sha1(data));
            });
        }
        for bank in banks {
            let value = match bank {
                HashAlgorithm::Sha1 => bare(&self.data, entries, [0; 20], crypto::sha1),
                _ => bare(&self.data, entries, [0; 32], crypto::sha256),
            };
            assert!(registers.insert(10, Digest::new(*bank, &value).unwrap()));
        }
        (start.elapsed(), registers)
    }

    fn verified(&self, entries: usize, replay: Replay<'_>) -> (Duration, State) {
        let mut replay = replay;
        let mut reader = Reader::new();
        let start = Instant::now();
        let lists = entries / DISTINCT;
        let part = entries % DISTINCT;
        let mut feed = |bytes: &[u8], most: usize| {
            let mut taken = 0;
            for piece in bytes.chunks(PIECE) {
                let mut pieces = reader.entries(piece);
                while taken < most {
                    let Some(entry) = pieces.next().unwrap() else { break };
                    replay.advance(&entry).unwrap();
                    taken += 1;
                }
            }
        };
        (0..lists).for_each(|_| feed(&self.bytes, DISTINCT));
        feed(&self.bytes, part);
        let covered = replay.finish().unwrap();
        let elapsed = start.elapsed();
        assert_eq!(covered.within(), entries as u64);
        assert!(covered.warnings().is_empty());
        (elapsed, covered.into_state())
    }
}

fn bare<const N: usize>(
    data: &[Vec<u8>],
    entries: usize,
    start: [u8; N],
    hash: fn(&[u8]) -> [u8; N],
) -> Vec<u8> {
    let mut value = start;
    let mut buffer = vec![0; 2 * N];
    for data in data.iter().cycle().take(entries) {
        buffer[..N].copy_from_slice(&value);
        buffer[N..].copy_from_slice(&hash(data));
        value = hash(&buffer);
    }
    value.to_vec()
}

/// Bytes of this process that were in memory at most, as the kernel counts them.
fn peak_kib() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or("unknown".into(), |line| line.trim().to_owned())
}

fn main() {
    let list = List::new();
    let bytes = list.bytes.len() / DISTINCT;
    println!("{ENTRIES} entries of {bytes} bytes, one core; best of {ROUNDS}\n");
    println!("{:<24} {:>7} {:>12} {:>12} {:>7}", "banks", "hashes", "entries/s", "bare/s", "ratio");
    let sha1 = HashAlgorithm::Sha1;
    let sha256 = HashAlgorithm::Sha256;
    for (name, banks, known, columns) in [
        ("sha256 known", &[sha256][..], true, Columns::Ignore),
        ("sha256 known column", &[sha256], true, Columns::Compare),
        ("sha256 column", &[sha256], false, Columns::Compare),
        ("sha1 column", &[sha1], true, Columns::Compare),
        ("sha1+sha256 known column", &[sha1, sha256], true, Columns::Compare),
    ] {
        let mut best = [f64::MAX; 2];
        let more = columns == Columns::Compare && !banks.contains(&sha1);
        for _ in 0..ROUNDS {
            let (bare, quoted) = list.bare(ENTRIES, banks, more);
            let mut replay = Replay::new(&State::boot(1), &quoted).unwrap().with_columns(columns);
            for bank in banks.iter().filter(|_| known) {
                replay = replay.declaring(*bank, Mode::Hashed);
            }
            let (verified, _) = list.verified(ENTRIES, replay);
            best[0] = best[0].min(bare.as_secs_f64());
            best[1] = best[1].min(verified.as_secs_f64());
        }
        let [bare, verified] = best.map(|seconds| ENTRIES as f64 / seconds);
        let (hashes, ratio) = (2 * banks.len() + usize::from(more), verified / bare);
        println!("{name:<24} {hashes:>7} {verified:>12.0} {bare:>12.0} {ratio:>7.2}");
    }

    println!("\n{:>9} {:>14} {:>12}", "entries", "peak memory", "state bytes");
    for entries in [1_000, 10_000, 100_000, 1_000_000] {
        let (_, quoted) = list.bare(entries, &[sha1, sha256], false);
        let replay = Replay::new(&State::boot(1), &quoted).unwrap();
        let (_, state) = list.verified(entries, replay);
        println!("{entries:>9} {:>14} {:>12}", peak_kib(), state.to_bytes().len());
    }
}
