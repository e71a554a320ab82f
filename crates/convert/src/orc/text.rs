//! The streams of a column of strings: a dictionary, or one after the other.
//!
//! As in Java's writer, the first row group of a stripe decides: if of its values more than the threshold are distinct,
//! the stripe has no dictionary. Entries stand in the order of their first use.

use std::collections::BTreeMap;

use super::column::{Encoding, Stream, StreamKind};
use super::rle::{Integers, Mark};

pub(super) struct TextWriter {
    threshold_percent: u8,
    /// Of the values of the first row group: their entries in the dictionary.
    undecided: Option<Vec<u32>>,
    dictionary: BTreeMap<Box<[u8]>, u32>,
    /// What the dictionary takes, about.
    dictionary_bytes: usize,
    /// Entries of the dictionary that the values are, or the values' lengths.
    numbers: Integers,
    /// The values, without a dictionary.
    data: Option<Vec<u8>>,
}

impl TextWriter {
    pub(super) fn new(threshold_percent: u8) -> Self {
        Self {
            threshold_percent,
            undecided: Some(Vec::new()),
            dictionary: BTreeMap::new(),
            dictionary_bytes: 0,
            numbers: Integers::unsigned(),
            data: None,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let undecided = self.undecided.as_ref().map_or(0, |entries| entries.len() * 4);
        undecided + self.dictionary_bytes + self.numbers.len() + self.data.as_ref().map_or(0, Vec::len)
    }

    pub(super) fn push(&mut self, value: &[u8]) {
        if let Some(data) = &mut self.data {
            data.extend_from_slice(value);
            self.numbers.push(value.len() as i64);
            return;
        }
        let entry = self.entry(value);
        match &mut self.undecided {
            Some(entries) => entries.push(entry),
            None => self.numbers.push(entry.into()),
        }
    }

    fn entry(&mut self, value: &[u8]) -> u32 {
        /// A node's share beside the text.
        const ENTRY_BYTES: usize = 48;
        if let Some(entry) = self.dictionary.get(value) {
            return *entry;
        }
        let entry = self.dictionary.len() as u32;
        self.dictionary.insert(value.into(), entry);
        self.dictionary_bytes += value.len() + ENTRY_BYTES;
        entry
    }

    /// The first row group has ended; of later ones nothing.
    pub(super) fn decide(&mut self) {
        let Some(entries) = self.undecided.take() else { return };
        if self.dictionary.len() * 100 <= entries.len() * usize::from(self.threshold_percent) {
            entries.iter().for_each(|entry| self.numbers.push((*entry).into()));
            return;
        }
        let dictionary = self.take_dictionary();
        self.data = Some(Vec::new());
        entries.iter().for_each(|entry| self.push(&dictionary[*entry as usize]));
    }

    pub(super) fn marks(&self) -> Vec<Mark> {
        let data = self.data.as_ref().map(|data| Mark { byte: data.len(), ..Mark::default() });
        data.into_iter().chain([self.numbers.mark()]).collect()
    }

    /// Encoding and streams of the stripe, and the marks of its first row group; it is empty again.
    pub(super) fn take(&mut self) -> (Encoding, Vec<Stream>, Vec<Mark>) {
        self.decide();
        self.undecided = Some(Vec::new());
        let numbers = self.numbers.take();
        let start = [Mark::default(), self.numbers.mark()];
        if let Some(data) = self.data.take() {
            let streams = vec![(StreamKind::Data, data), (StreamKind::Length, numbers)];
            return (Encoding::DirectV2, streams, start.to_vec());
        }
        let dictionary = self.take_dictionary();
        let mut lengths = Integers::unsigned();
        dictionary.iter().for_each(|entry| lengths.push(entry.len() as i64));
        let streams = vec![
            (StreamKind::Data, numbers),
            (StreamKind::DictionaryData, dictionary.concat()),
            (StreamKind::Length, lengths.take()),
        ];
        (Encoding::DictionaryV2 { entries: dictionary.len() as u64 }, streams, start[1..].to_vec())
    }

    /// The entries in the order of their numbers.
    fn take_dictionary(&mut self) -> Vec<Box<[u8]>> {
        self.dictionary_bytes = 0;
        let mut entries: Vec<_> = std::mem::take(&mut self.dictionary).into_iter().collect();
        entries.sort_unstable_by_key(|(_, number)| *number);
        entries.into_iter().map(|(text, _)| text).collect()
    }
}
