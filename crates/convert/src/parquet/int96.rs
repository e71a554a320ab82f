//! Timestamps -> columns of INT96, as Hive and Firehose write them: the nanoseconds of a day, then the Julian day.
//!
//! The library has a writer of such columns and none that takes arrays; so the definition and repetition levels of their
//! values are counted here (Parquet's specification, "Nested Encoding"). What has gathered is held until its row group
//! ends.
//!
//! Never here: other columns.

use std::io::Write;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;
use parquet::basic::Type as PhysicalType;
use parquet::data_type::{Int96, Int96Type};
use parquet::errors::ParquetError;
use parquet::file::writer::SerializedRowGroupWriter;
use parquet::schema::types::{Type, TypePtr};

/// The Julian day of 1970-01-01.
const EPOCH_JULIAN_DAY: i64 = 2_440_588;
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// The values of one column, with the levels of each place where one could stand.
#[derive(Default)]
pub(super) struct Int96Leaf {
    values: Vec<Int96>,
    definition: Vec<i16>,
    repetition: Vec<i16>,
}

impl Int96Leaf {
    pub(super) fn memory_bytes(&self) -> usize {
        self.values.len() * size_of::<Int96>() + self.definition.len() * 2 * size_of::<i16>()
    }

    /// Ends the column.
    pub(super) fn write<W: Write + Send>(
        self,
        group: &mut SerializedRowGroupWriter<'_, W>,
    ) -> Result<(), ParquetError> {
        let Some(mut column) = group.next_column()? else {
            return Err(ParquetError::General("a column too many".to_owned()));
        };
        let (definition, repetition) = (Some(&self.definition[..]), Some(&self.repetition[..]));
        column.typed::<Int96Type>().write_batch(&self.values, definition, repetition)?;
        column.close()
    }
}

fn int96(micros: i64) -> Int96 {
    let nanos = micros.rem_euclid(MICROS_PER_DAY) * 1000;
    let day = micros.div_euclid(MICROS_PER_DAY) + EPOCH_JULIAN_DAY;
    let mut value = Int96::new();
    value.set_data(nanos as u32, (nanos >> 32) as u32, day as u32);
    value
}

/// The schema with every timestamp an INT96, which has no annotation.
pub(super) fn with_int96(kind: &TypePtr) -> Result<TypePtr, ParquetError> {
    let info = kind.get_basic_info();
    let is_root = !info.has_repetition();
    match &**kind {
        Type::PrimitiveType { physical_type: PhysicalType::INT64, .. }
            if matches!(info.logical_type_ref(), Some(parquet::basic::LogicalType::Timestamp { .. })) =>
        {
            let builder = Type::primitive_type_builder(info.name(), PhysicalType::INT96);
            Ok(Arc::new(builder.with_repetition(info.repetition()).build()?))
        }
        Type::PrimitiveType { .. } => Ok(kind.clone()),
        Type::GroupType { fields, .. } => {
            let fields = fields.iter().map(with_int96).collect::<Result<_, _>>()?;
            let builder = Type::group_type_builder(info.name()).with_fields(fields);
            if is_root {
                return Ok(Arc::new(builder.build()?));
            }
            let builder = builder
                .with_repetition(info.repetition())
                .with_logical_type(info.logical_type_ref().cloned())
                .with_converted_type(info.converted_type());
            Ok(Arc::new(builder.build()?))
        }
    }
}

/// Appends the timestamps of a batch to their columns, which come in the order of the schema.
pub(super) fn append<'a>(batch: &RecordBatch, leaves: &mut impl Iterator<Item = &'a mut Int96Leaf>) {
    let rows: Vec<Place> =
        (0..batch.num_rows()).map(|row| Place { at: Some(row), definition: 0, repetition: 0 }).collect();
    for column in batch.columns() {
        walk(column, &rows, Node { nullable: true, repetition: 0 }, leaves);
    }
}

/// A place where a value of an array could stand.
#[derive(Clone, Copy)]
struct Place {
    /// Its index in the array; `None`: something around it is null or empty.
    at: Option<usize>,
    /// The level that what is around it has reached.
    definition: i16,
    repetition: i16,
}

/// What is known of an array from its schema.
#[derive(Clone, Copy)]
struct Node {
    nullable: bool,
    /// Lists around it.
    repetition: i16,
}

fn walk<'a>(array: &ArrayRef, places: &[Place], node: Node, leaves: &mut impl Iterator<Item = &'a mut Int96Leaf>) {
    if !holds_timestamps(array.data_type()) {
        return;
    }
    let places: Vec<Place> = places.iter().map(|place| place.in_array(array, node.nullable)).collect();
    match array.data_type() {
        DataType::Timestamp(..) => {
            let Some(leaf) = leaves.next() else { return };
            let values = array.as_primitive::<TimestampMicrosecondType>();
            leaf.values.extend(places.iter().filter_map(|place| place.at).map(|at| int96(values.value(at))));
            leaf.definition.extend(places.iter().map(|place| place.definition));
            leaf.repetition.extend(places.iter().map(|place| place.repetition));
        }
        DataType::Struct(fields) => {
            for (field, child) in fields.iter().zip(array.as_struct().columns()) {
                walk(child, &places, Node { nullable: field.is_nullable(), ..node }, leaves);
            }
        }
        DataType::List(element) => {
            let list = array.as_list::<i32>();
            let places = elements(&places, list.value_offsets(), node.repetition + 1);
            let node = Node { nullable: element.is_nullable(), repetition: node.repetition + 1 };
            walk(list.values(), &places, node, leaves);
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let places = elements(&places, map.value_offsets(), node.repetition + 1);
            for (nullable, child) in [(false, map.keys()), (true, map.values())] {
                walk(child, &places, Node { nullable, repetition: node.repetition + 1 }, leaves);
            }
        }
        _ => (),
    }
}

impl Place {
    /// The same place, when it is known whether the array has a value there.
    fn in_array(self, array: &ArrayRef, nullable: bool) -> Self {
        match self.at {
            Some(at) if array.is_null(at) => Self { at: None, ..self },
            Some(_) => Self { definition: self.definition + i16::from(nullable), ..self },
            None => self,
        }
    }
}

/// The places within lists. An empty one has one, that holds nothing.
fn elements(lists: &[Place], offsets: &[i32], repetition: i16) -> Vec<Place> {
    let mut places = Vec::with_capacity(lists.len());
    for list in lists {
        let range = list.at.map_or(0..0, |at| offsets[at] as usize..offsets[at + 1] as usize);
        if range.is_empty() {
            places.push(Place { at: None, ..*list });
            continue;
        }
        let first = range.start;
        places.extend(range.map(|at| Place {
            at: Some(at),
            definition: list.definition + 1,
            repetition: if at == first { list.repetition } else { repetition },
        }));
    }
    places
}

fn holds_timestamps(kind: &DataType) -> bool {
    match kind {
        DataType::Timestamp(..) => true,
        DataType::List(field) | DataType::Map(field, _) => holds_timestamps(field.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| holds_timestamps(field.data_type())),
        _ => false,
    }
}
