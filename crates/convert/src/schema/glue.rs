//! An answer of AWS Glue (GetTable, GetTableVersion; JSON 1.1) -> the columns of the table and its names.
//!
//! Types are Hive's. The columns are those of the storage descriptor: partition keys are in the names of objects, not in
//! their rows. A table whose schema lies in the schema registry has them there too, for Glue resolves it.
//!
//! Never here: the request.

use standpipe_flow::CatalogTable;

use super::parse;
use super::source::{Json, Node, SourceError, named_columns};
use super::{Column, Columns};

/// A table of the Glue Data Catalog.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GlueTable {
    /// Its columns.
    pub columns: Columns,
    /// Its names, and the version that the columns are of; without the region, which no answer says.
    pub table: CatalogTable,
}

impl GlueTable {
    /// Reads the body of an answer to GetTable or GetTableVersion.
    pub fn from_answer(body: &[u8]) -> Result<Self, SourceError> {
        let wrong = |message: String| SourceError { place: "the answer of Glue".to_owned(), message };
        let json: Json = serde_json::from_slice(body).map_err(|error| wrong(format!("not JSON: {error}")))?;
        let root = Node::root(&json);
        let table = table(&root)?;
        let text = |node: &Node<'_>, name| node.get(name).and_then(|node| node.text()).unwrap_or_default().to_owned();
        let version = match root.get("TableVersion").map(|version| text(&version, "VersionId")) {
            Some(version) if !version.is_empty() => version,
            _ => text(&table, "VersionId"),
        };
        let names = CatalogTable {
            catalog_id: text(&table, "CatalogId"),
            database: text(&table, "DatabaseName"),
            table: text(&table, "Name"),
            region: String::new(),
            version_id: version,
        };
        Ok(Self { columns: Columns::checked(columns(&root)?)?, table: names })
    }
}

fn table<'a>(root: &Node<'a>) -> Result<Node<'a>, SourceError> {
    root.get("TableVersion").unwrap_or_else(|| root.clone()).need("Table")
}

pub(super) fn columns(root: &Node<'_>) -> Result<Vec<Column>, SourceError> {
    let columns = table(root)?.need("StorageDescriptor")?.need("Columns")?;
    let mut fields = Vec::new();
    for column in columns.elements()? {
        fields.push((column.need("Name")?.need_text()?, column.need("Type")?));
    }
    if fields.is_empty() {
        return Err(columns.wrong("the table has no columns"));
    }
    named_columns(fields, |kind| parse::column_type(kind.need_text()?).map_err(|error| kind.wrong(&error.to_string())))
}
