//! The records of one shard: an append-only run of JSON fragments that are already what GetRecords answers.
//!
//! Fragments follow one another as `{...},\n`, so any run of records is the inside of a JSON array as it stands and a
//! read is a copy of one range. In memory the run is cut into segments; with a data directory it is a file, and the
//! index is rebuilt from it at start.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::Deserialize;

/// Segments of the log in memory grow to this size: small enough to drop by retention, large enough to be few.
const SEGMENT_BYTES: usize = 1 << 20;
const SEPARATOR: &[u8] = b",\n";

/// Where one record stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// The record's place in the stream: its sequence number is made of it.
    pub(super) counter: u64,
    /// When it arrived, epoch milliseconds; never descends within a shard.
    pub(super) arrival_millis: u64,
    start: u64,
    fragment_bytes: u32,
    /// What counts towards the limits of reads: data and partition key.
    pub(super) counted_bytes: u32,
}

/// The records of one shard.
#[derive(Debug)]
pub(super) struct Log {
    entries: Vec<Entry>,
    store: Store,
    end: u64,
}

#[derive(Debug)]
enum Store {
    Memory(Vec<Segment>),
    File { file: File, unwritten: Vec<u8> },
}

#[derive(Debug)]
struct Segment {
    start: u64,
    bytes: Vec<u8>,
}

impl Log {
    pub(super) fn in_memory() -> Self {
        Self { entries: Vec::new(), store: Store::Memory(Vec::new()), end: 0 }
    }

    /// Opens the log in this file, made if absent; a record cut short by a crash is cut off.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut entries = Vec::new();
        let mut end = 0u64;
        let mut reader = BufReader::with_capacity(1 << 20, &file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line)?;
            let Some(fragment) = line.strip_suffix(SEPARATOR) else { break };
            let Some(entry) = parse(fragment, end) else { break };
            entries.push(entry);
            end += read as u64;
        }
        file.set_len(end)?;
        Ok(Self { entries, store: Store::File { file, unwritten: Vec::new() }, end })
    }

    /// Records that are kept, oldest first.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Adds one record; with a file it is written by the next `flush`.
    pub(super) fn append(&mut self, counter: u64, arrival_millis: u64, fragment: &[&[u8]], counted_bytes: usize) {
        let fragment_bytes: usize = fragment.iter().map(|part| part.len()).sum();
        let target = match &mut self.store {
            Store::File { unwritten, .. } => unwritten,
            Store::Memory(segments) => {
                let full = segments.last().is_none_or(|segment| segment.bytes.len() + fragment_bytes > SEGMENT_BYTES);
                if full {
                    segments.push(Segment { start: self.end, bytes: Vec::new() });
                }
                &mut segments.last_mut().expect("one was pushed if there was none").bytes
            }
        };
        fragment.iter().for_each(|part| target.extend_from_slice(part));
        target.extend_from_slice(SEPARATOR);
        self.entries.push(Entry {
            counter,
            arrival_millis,
            start: self.end,
            fragment_bytes: u32::try_from(fragment_bytes).unwrap_or(u32::MAX),
            counted_bytes: u32::try_from(counted_bytes).unwrap_or(u32::MAX),
        });
        self.end += (fragment_bytes + SEPARATOR.len()) as u64;
    }

    /// Writes what was appended, where there is a file.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let Store::File { file, unwritten } = &mut self.store else { return Ok(()) };
        if unwritten.is_empty() {
            return Ok(());
        }
        file.seek(SeekFrom::Start(self.end - unwritten.len() as u64))?;
        file.write_all(unwritten)?;
        unwritten.clear();
        Ok(())
    }

    /// Appends the fragments of these entries, parted by commas, to `into`.
    pub(super) fn copy(&mut self, range: std::ops::Range<usize>, into: &mut Vec<u8>) -> io::Result<()> {
        let Some((first, last)) = self.entries.get(range).and_then(|run| Some((run.first()?, run.last()?))) else {
            return Ok(());
        };
        let (start, end) = (first.start, last.start + u64::from(last.fragment_bytes));
        let length = usize::try_from(end - start).expect("a read is bounded by 10 MiB of data");
        match &mut self.store {
            Store::File { file, .. } => {
                let at = into.len();
                into.resize(at + length, 0);
                file.seek(SeekFrom::Start(start))?;
                file.read_exact(&mut into[at..])
            }
            Store::Memory(segments) => {
                let mut position = start;
                let mut index = segments.partition_point(|segment| segment.start <= start) - 1;
                while position < end {
                    let segment = &segments[index];
                    let from = (position - segment.start) as usize;
                    let until = segment.bytes.len().min((end - segment.start) as usize);
                    into.extend_from_slice(&segment.bytes[from..until]);
                    position = segment.start + until as u64;
                    index += 1;
                }
                Ok(())
            }
        }
    }

    /// Forgets records that arrived before this instant; the bytes go segment by segment, a file keeps them.
    pub(super) fn trim(&mut self, before_millis: u64) {
        let gone = self.entries.partition_point(|entry| entry.arrival_millis < before_millis);
        if gone == 0 {
            return;
        }
        self.entries.drain(..gone);
        let kept_from = self.entries.first().map_or(self.end, |entry| entry.start);
        if let Store::Memory(segments) = &mut self.store {
            let dead = segments.iter().take_while(|segment| segment.start + segment.bytes.len() as u64 <= kept_from);
            let dead = dead.count();
            segments.drain(..dead);
        }
    }
}

/// What the index needs of a fragment.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Fragment<'a> {
    data: &'a str,
    #[serde(borrow)]
    partition_key: std::borrow::Cow<'a, str>,
    approximate_arrival_timestamp: f64,
    sequence_number: &'a str,
}

fn parse(fragment: &[u8], start: u64) -> Option<Entry> {
    let record: Fragment<'_> = serde_json::from_slice(fragment).ok()?;
    let counter = super::sequence::parse(record.sequence_number)?.counter;
    let data = super::put::decoded_length(record.data);
    Some(Entry {
        counter,
        arrival_millis: (record.approximate_arrival_timestamp * 1000.0).round() as u64,
        start,
        fragment_bytes: u32::try_from(fragment.len()).ok()?,
        counted_bytes: u32::try_from(data + record.partition_key.len()).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sequence::{self, Parts};
    use super::*;

    fn fragment(counter: u64, data_bytes: usize) -> String {
        let number = sequence::format(Parts { created_secs: 1, shard: 0, counter });
        let data = base64_simd::STANDARD.encode_to_string(vec![b'x'; data_bytes]);
        format!(
            "{{\"Data\":\"{data}\",\"PartitionKey\":\"k\",\"ApproximateArrivalTimestamp\":{counter}.000,\"SequenceNumber\":\"{number}\"}}"
        )
    }

    fn fill(log: &mut Log, sizes: &[usize]) -> Vec<String> {
        let fragments: Vec<_> = (0u64..).zip(sizes).map(|(counter, size)| fragment(counter, *size)).collect();
        for (counter, (text, size)) in (0u64..).zip(fragments.iter().zip(sizes)) {
            let (head, tail) = text.as_bytes().split_at(text.len() / 2);
            log.append(counter, counter * 1000, &[head, tail], size + 1);
        }
        log.flush().expect("the directory of a test");
        fragments
    }

    fn copied(log: &mut Log, range: std::ops::Range<usize>) -> String {
        let mut into = Vec::new();
        log.copy(range, &mut into).expect("read");
        String::from_utf8(into).expect("text")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn a_run_is_its_fragments_in_memory_and_in_a_file(
            sizes in proptest::collection::vec(prop_oneof![0usize..300, 200_000usize..900_000], 1..12),
            from in 0usize..12,
            count in 0usize..12,
        ) {
            let dir = tempfile::tempdir().expect("a directory");
            let path = dir.path().join("log");
            let mut memory = Log::in_memory();
            let fragments = fill(&mut memory, &sizes);
            fill(&mut Log::open(&path).expect("opened"), &sizes);
            let mut file = Log::open(&path).expect("opened once more");

            let from = from.min(sizes.len());
            let range = from..(from + count).min(sizes.len());
            let expected = fragments[range.clone()].join(",\n");
            prop_assert_eq!(copied(&mut memory, range.clone()), &expected[..]);
            prop_assert_eq!(copied(&mut file, range), &expected[..]);
            for (one, other) in memory.entries().iter().zip(file.entries()) {
                prop_assert_eq!(one.counter, other.counter);
                prop_assert_eq!(one.arrival_millis, other.arrival_millis);
                prop_assert_eq!(one.counted_bytes, other.counted_bytes);
            }
            prop_assert_eq!(file.entries().len(), sizes.len());
        }

        #[test]
        fn what_is_trimmed_is_gone_and_the_rest_is_whole(
            sizes in proptest::collection::vec(1usize..600_000, 1..10),
            before in 0u64..10,
        ) {
            let mut log = Log::in_memory();
            let fragments = fill(&mut log, &sizes);
            log.trim(before * 1000);
            let gone = sizes.len().min(usize::try_from(before).expect("small"));
            prop_assert_eq!(log.entries().len(), sizes.len() - gone);
            prop_assert_eq!(copied(&mut log, 0..sizes.len() - gone), fragments[gone..].join(",\n"));
        }
    }
}
