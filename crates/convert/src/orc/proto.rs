//! Messages of Protocol Buffers, as far as ORC's metadata needs them (orc_proto.proto of the format).

use super::rle::{put_varint, zigzag};

/// A message that is being written: its fields in the order of the calls.
#[derive(Clone, Debug, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    pub(super) fn uint(mut self, field: u32, value: u64) -> Self {
        self.key(field, 0);
        put_varint(&mut self.0, value.into());
        self
    }

    /// A field of type `sint32` or `sint64`.
    pub(super) fn sint(self, field: u32, value: i64) -> Self {
        self.uint(field, zigzag(value))
    }

    pub(super) fn double(mut self, field: u32, value: f64) -> Self {
        self.key(field, 1);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(super) fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        self.key(field, 2);
        put_varint(&mut self.0, value.len() as u128);
        self.0.extend_from_slice(value);
        self
    }

    pub(super) fn message(self, field: u32, message: &Self) -> Self {
        self.bytes(field, &message.0)
    }

    pub(super) fn messages(self, field: u32, messages: impl IntoIterator<Item = Self>) -> Self {
        messages.into_iter().fold(self, |all, message| all.message(field, &message))
    }

    /// A repeated field of integers, packed.
    pub(super) fn packed(self, field: u32, values: impl IntoIterator<Item = u64>) -> Self {
        let mut packed = Vec::new();
        values.into_iter().for_each(|value| put_varint(&mut packed, value.into()));
        if packed.is_empty() { self } else { self.bytes(field, &packed) }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.0
    }

    fn key(&mut self, field: u32, wire: u32) {
        put_varint(&mut self.0, (field << 3 | wire).into());
    }
}
