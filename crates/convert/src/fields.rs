//! The columns of a table, or the fields of a struct: which key of an object is which.
//!
//! Keys are found as the deserializer says ([`Keys`]); of several that are the same, the first counts; a key that is
//! no field is passed over; a field without a key is null.
//!
//! Never here: what a value becomes (`column.rs`).

use std::collections::BTreeMap;

use arrow_array::{Array, ArrayRef};
use arrow_schema::{ArrowError, TimeUnit};

use crate::column::{ColumnBuilder, Reading};
use crate::deserialize::Keys;
use crate::fault::Fault;
use crate::json::{Cursor, Key};
use crate::schema::Column;

/// The builders of the fields of one object.
#[derive(Debug)]
pub(crate) struct FieldBuilders {
    builders: Vec<ColumnBuilder>,
    names: Vec<String>,
    /// The key of each, in the form in which keys are compared.
    keys: Vec<String>,
    by_key: BTreeMap<String, usize>,
    naming: Keys,
    /// What was last seen first, and after each field: records tend to name their keys in one order.
    after: Vec<Guess>,
}

/// The field that may come next, and how its key is written then.
#[derive(Debug)]
struct Guess {
    index: usize,
    written: String,
}

/// A longer key is looked up each time: a guess is held for every column.
const WRITTEN_BYTES_MAX: usize = 256;

impl FieldBuilders {
    pub(crate) fn new(columns: &[Column], naming: &Keys, unit: TimeUnit) -> Self {
        let keys: Vec<String> = columns.iter().map(|column| naming.wanted(&column.name)).collect();
        let guess = |index: usize| Guess { index, written: String::new() };
        Self {
            builders: columns.iter().map(|column| ColumnBuilder::new(&column.kind, naming, unit)).collect(),
            names: columns.iter().map(|column| column.name.clone()).collect(),
            by_key: keys.iter().cloned().zip(0..).collect(),
            keys,
            naming: naming.clone(),
            after: (0..=columns.len()).map(guess).collect(),
        }
    }

    /// Bytes that a row takes at least.
    pub(crate) fn width(&self) -> usize {
        self.builders.iter().map(ColumnBuilder::width).sum()
    }

    /// Appends an object as row `row`.
    pub(crate) fn push_object(
        &mut self,
        json: &mut Cursor<'_>,
        row: usize,
        reading: &mut Reading<'_>,
    ) -> Result<(), Fault> {
        json.enter()?;
        let mut slot = 0;
        loop {
            let guess = &self.after[slot];
            let index = if json.pass_key(&guess.written) {
                guess.index
            } else {
                let Some(key) = json.next_written_key()? else { return Ok(()) };
                let Some(index) = self.find(slot, &key) else {
                    json.skip()?;
                    continue;
                };
                index
            };
            slot = index + 1;
            if self.builders[index].len() > row {
                json.skip()?;
            } else {
                self.push_field(index, json, row, reading)?;
            }
        }
    }

    /// Appends an array as row `row`, field by field; elements beyond the last field are passed over.
    pub(crate) fn push_positions(
        &mut self,
        json: &mut Cursor<'_>,
        row: usize,
        reading: &mut Reading<'_>,
    ) -> Result<(), Fault> {
        json.enter()?;
        let mut index = 0;
        while json.next_element()? {
            if index < self.builders.len() {
                self.push_field(index, json, row, reading)?;
            } else {
                json.skip()?;
            }
            index += 1;
        }
        Ok(())
    }

    fn push_field(
        &mut self,
        index: usize,
        json: &mut Cursor<'_>,
        row: usize,
        reading: &mut Reading<'_>,
    ) -> Result<(), Fault> {
        let builder = &mut self.builders[index];
        builder.pad(row);
        builder.push(json, reading).map_err(|fault| fault.within(&self.names[index]))
    }

    /// Which field the key names, after the one before `slot`.
    fn find(&mut self, slot: usize, key: &Key<'_>) -> Option<usize> {
        let guess = &mut self.after[slot];
        let name = &*key.name;
        let same = |wanted: &String| {
            if self.naming.ignore_case { wanted.eq_ignore_ascii_case(name) } else { wanted == name }
        };
        if !self.keys.get(guess.index).is_some_and(same) {
            guess.index = match self.by_key.get(name) {
                Some(index) => *index,
                None => *self.by_key.get(&self.naming.form(name))?,
            };
        }
        guess.written.clear();
        if key.written.len() <= WRITTEN_BYTES_MAX {
            guess.written.push_str(key.written);
        }
        Some(guess.index)
    }

    pub(crate) fn truncate(&mut self, rows: usize) {
        for builder in &mut self.builders {
            builder.truncate(rows);
        }
    }

    /// The arrays of `rows` rows; the builders are empty again.
    pub(crate) fn finish(&mut self, rows: usize) -> Result<Vec<ArrayRef>, ArrowError> {
        self.builders
            .iter_mut()
            .map(|builder| {
                builder.pad(rows);
                let array = builder.finish()?;
                debug_assert_eq!(array.len(), rows);
                Ok(array)
            })
            .collect()
    }
}
