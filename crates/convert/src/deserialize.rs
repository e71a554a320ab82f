//! How the JSON of a record is read into columns: Firehose's two deserializers and their options.
//!
//! [`RowFormat`] is what the config means: the columns, the deserializer, and the table that an error line names.
//! [`CurrentRows`] is one that may change while objects are written (a table of Glue of which the newest version is
//! followed): an object has the columns that were current when it began.
//!
//! Never here: values (`column.rs`, `scalar.rs`).

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use standpipe_flow::CatalogTable;

use crate::joda::Joda;
use crate::schema::{Column, ColumnType, Columns, fold};

/// How JSON becomes values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Deserializer {
    /// Firehose's OpenXJsonSerDe, the default: what does not fit a column is made to fit where that can be done.
    OpenX(OpenX),
    /// Firehose's HiveJsonSerDe: a string is no number, and a value of another shape fails its record.
    Hive(Hive),
}

impl Default for Deserializer {
    fn default() -> Self {
        Self::OpenX(OpenX::default())
    }
}

/// Options of OpenXJsonSerDe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenX {
    /// CaseInsensitive: keys name columns without regard to case, and keys that are data (of maps, and of objects that
    /// become text) are put in lower case. True unless it is said.
    pub case_insensitive: bool,
    /// ConvertDotsInJsonKeysToUnderscores: the key `a.b` names the column `a_b`.
    pub convert_dots_in_keys: bool,
    /// ColumnToJsonKeyMappings: the key that a column, or a field of a struct at any depth, is read from instead of its
    /// own name.
    pub column_to_json_key: BTreeMap<String, String>,
}

impl Default for OpenX {
    fn default() -> Self {
        Self { case_insensitive: true, convert_dots_in_keys: false, column_to_json_key: BTreeMap::new() }
    }
}

/// Options of HiveJsonSerDe.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Hive {
    /// TimestampFormats, tried in order before `yyyy-[M]M-[d]d [H]H:[m]m:[s]s[.fraction]`.
    pub timestamp_formats: Vec<Joda>,
}

/// What the rows of a destination are, and how records become them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RowFormat {
    columns: Columns,
    deserializer: Deserializer,
    table: Option<Arc<CatalogTable>>,
}

/// A deserializer that does not fit the columns.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RowFormatError {
    /// A mapping whose column is neither a column nor a field of a struct.
    #[error("no column and no field of a struct is named `{0}`, which is to be read from another key")]
    NoSuchColumn(String),
    /// Two columns of one object that would be read from one key.
    #[error("`{0}` and `{1}` would be read from the same key")]
    SameKey(String, String),
}

impl RowFormat {
    /// Columns, and how they are read.
    pub fn new(columns: Columns, deserializer: Deserializer) -> Result<Self, RowFormatError> {
        if let Deserializer::OpenX(openx) = &deserializer {
            let missing = openx.column_to_json_key.keys().find(|name| !names(columns.as_slice(), &fold(name)));
            if let Some(name) = missing {
                return Err(RowFormatError::NoSuchColumn(name.clone()));
            }
        }
        distinct(columns.as_slice(), &Keys::of(&deserializer))?;
        Ok(Self { columns, deserializer, table: None })
    }

    /// Columns of a table of the Glue Data Catalog: error lines name it.
    #[must_use]
    pub fn of_table(self, table: CatalogTable) -> Self {
        Self { table: Some(Arc::new(table)), ..self }
    }

    /// The same with other columns, of a newer version of the table.
    pub fn with_columns(&self, columns: Columns, table: Option<CatalogTable>) -> Result<Self, RowFormatError> {
        Ok(Self { table: table.map(Arc::new), ..Self::new(columns, self.deserializer.clone())? })
    }

    /// The columns.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// The table of the Glue Data Catalog that they are from.
    pub fn table(&self) -> Option<&Arc<CatalogTable>> {
        self.table.as_ref()
    }

    pub(crate) fn keys(&self) -> Keys {
        Keys::of(&self.deserializer)
    }

    pub(crate) fn rules(&self) -> Rules {
        match &self.deserializer {
            Deserializer::OpenX(openx) => Rules { hive: None, fold_keys: openx.case_insensitive },
            Deserializer::Hive(hive) => Rules { hive: Some(hive.clone()), fold_keys: false },
        }
    }
}

impl From<Columns> for RowFormat {
    /// Columns read as Firehose's default deserializer does.
    fn from(columns: Columns) -> Self {
        Self { columns, deserializer: Deserializer::default(), table: None }
    }
}

/// The rows of a destination at this moment. Clones are one: what one replaces, all see.
#[derive(Clone, Debug)]
pub struct CurrentRows(Arc<RwLock<Option<Arc<RowFormat>>>>);

impl CurrentRows {
    /// Rows whose columns are not known yet: until they are given, no record is one.
    pub fn unknown() -> Self {
        Self(Arc::default())
    }

    /// What an object that begins now is made of; `None` while that is not known.
    pub fn current(&self) -> Option<Arc<RowFormat>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes the objects that begin from now on of `rows`.
    pub fn replace(&self, rows: RowFormat) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(rows));
    }
}

impl<T: Into<RowFormat>> From<T> for CurrentRows {
    fn from(rows: T) -> Self {
        Self(Arc::new(RwLock::new(Some(Arc::new(rows.into())))))
    }
}

impl PartialEq for CurrentRows {
    fn eq(&self, other: &Self) -> bool {
        self.current() == other.current()
    }
}

impl Eq for CurrentRows {}

/// Which key names a column.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub(crate) ignore_case: bool,
    pub(crate) dots: bool,
    /// By the name of the column in lower case.
    mapped: BTreeMap<String, String>,
}

impl Keys {
    fn of(deserializer: &Deserializer) -> Self {
        match deserializer {
            Deserializer::OpenX(openx) => {
                let mapped = openx.column_to_json_key.iter().map(|(column, key)| (fold(column), key.clone()));
                Self { ignore_case: openx.case_insensitive, dots: openx.convert_dots_in_keys, mapped: mapped.collect() }
            }
            Deserializer::Hive(_) => Self { ignore_case: true, dots: false, mapped: BTreeMap::new() },
        }
    }

    /// The key that column `name` is read from, in the form that [`Self::form`] gives keys.
    pub(crate) fn wanted(&self, name: &str) -> String {
        let key = self.mapped.get(&fold(name)).map_or(name, String::as_str);
        self.form(key)
    }

    /// A key in the form in which keys are compared.
    pub(crate) fn form(&self, key: &str) -> String {
        let key = if self.ignore_case { fold(key) } else { key.to_owned() };
        if self.dots { key.replace('.', "_") } else { key }
    }
}

/// How values become those of their columns.
#[derive(Debug)]
pub(crate) struct Rules {
    /// The Hive deserializer's; `None`: as OpenX does.
    pub(crate) hive: Option<Hive>,
    /// Whether keys that are data are put in lower case.
    pub(crate) fold_keys: bool,
}

/// Whether a column, or a field at any depth, has the name.
fn names(columns: &[Column], folded: &str) -> bool {
    columns.iter().any(|column| fold(&column.name) == folded || structs(&column.kind).any(|s| names(s, folded)))
}

fn distinct(columns: &[Column], keys: &Keys) -> Result<(), RowFormatError> {
    let mut seen = BTreeMap::new();
    for column in columns {
        if let Some(other) = seen.insert(keys.wanted(&column.name), &column.name) {
            return Err(RowFormatError::SameKey(other.clone(), column.name.clone()));
        }
        structs(&column.kind).try_for_each(|fields| distinct(fields, keys))?;
    }
    Ok(())
}

/// The structs in a type that are in no other struct: at most one.
fn structs(kind: &ColumnType) -> impl Iterator<Item = &[Column]> {
    let mut kind = kind;
    loop {
        match kind {
            ColumnType::Array(inner) | ColumnType::Map(_, inner) => kind = inner,
            ColumnType::Struct(columns) => break Some(columns.as_slice()),
            _ => break None,
        }
    }
    .into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(text: &str) -> Columns {
        Columns::parse(text).expect("columns")
    }

    fn mapped(mappings: &[(&str, &str)]) -> Deserializer {
        let column_to_json_key =
            mappings.iter().map(|(column, key)| ((*column).to_owned(), (*key).to_owned())).collect();
        Deserializer::OpenX(OpenX { column_to_json_key, ..OpenX::default() })
    }

    #[test]
    fn mappings_name_columns_and_share_no_key() {
        let deep = columns("a int, s array<struct<ts:timestamp>>");
        assert!(RowFormat::new(deep.clone(), mapped(&[("TS", "timestamp"), ("a", "b")])).is_ok());
        let error = RowFormat::new(deep, mapped(&[("t", "timestamp")])).expect_err("no column");
        assert_eq!(
            error.to_string(),
            "no column and no field of a struct is named `t`, which is to be read from another key"
        );
        let error = RowFormat::new(columns("a int, s struct<x:int,y:int>"), mapped(&[("x", "Y")])).expect_err("twice");
        assert_eq!(error.to_string(), "`x` and `y` would be read from the same key");
        let dots = Deserializer::OpenX(OpenX { convert_dots_in_keys: true, ..OpenX::default() });
        assert!(RowFormat::new(columns("`a.b` int, a_b int"), dots).is_err());
    }

    #[test]
    fn what_is_replaced_is_seen_by_every_clone() {
        let rows = CurrentRows::from(columns("a int"));
        let other = rows.clone();
        let begun = other.current().expect("columns");
        let newer = begun.with_columns(columns("a int, b int"), Some(CatalogTable::default())).expect("rows");
        rows.replace(newer);
        assert_eq!(begun.columns(), &columns("a int"));
        let current = other.current().expect("columns");
        assert_eq!(current.columns(), &columns("a int, b int"));
        assert!(current.table().is_some());
        assert_eq!(rows, other);
    }
}
