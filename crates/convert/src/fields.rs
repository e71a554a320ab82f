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
use crate::json::Cursor;
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
    after: Vec<usize>,
}

impl FieldBuilders {
    pub(crate) fn new(columns: &[Column], naming: &Keys, unit: TimeUnit) -> Self {
        let keys: Vec<String> = columns.iter().map(|column| naming.wanted(&column.name)).collect();
        Self {
            builders: columns.iter().map(|column| ColumnBuilder::new(&column.kind, naming, unit)).collect(),
            names: columns.iter().map(|column| column.name.clone()).collect(),
            by_key: keys.iter().cloned().zip(0..).collect(),
            keys,
            naming: naming.clone(),
            after: (0..=columns.len()).collect(),
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
        while let Some(key) = json.next_key()? {
            let Some(index) = self.find(slot, &key) else {
                json.skip()?;
                continue;
            };
            slot = index + 1;
            if self.builders[index].len() > row {
                json.skip()?;
            } else {
                self.push_field(index, json, row, reading)?;
            }
        }
        Ok(())
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

    fn find(&mut self, slot: usize, key: &str) -> Option<usize> {
        let guess = self.after[slot];
        let same = |wanted: &String| {
            if self.naming.ignore_case { wanted.eq_ignore_ascii_case(key) } else { wanted == key }
        };
        if self.keys.get(guess).is_some_and(same) {
            return Some(guess);
        }
        let index = match self.by_key.get(key) {
            Some(index) => *index,
            None => *self.by_key.get(&self.naming.form(key))?,
        };
        self.after[slot] = index;
        Some(index)
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
