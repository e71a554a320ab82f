//! What was delivered, by reading the Parquet files back as any reader would: nothing that a worker says is believed.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::orders::Order;
use super::producer::Produced;

/// What the files hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Rows.
    pub delivered: u64,
    /// Produced orders that are in no row.
    pub lost: u64,
    /// Rows beyond the first of an order.
    pub duplicated: u64,
    /// Rows that are no order that was produced, or another than was produced.
    pub altered: u64,
    /// Rows that come after a later one of their shard in the same file.
    pub out_of_order: u64,
    /// Files.
    pub files: u64,
    /// Bytes of the files.
    pub file_bytes: u64,
    /// Rows of each shard, at its place in [`Produced::shards`].
    pub of_shard: Vec<u64>,
}

/// Reads all files back and compares them with what was produced.
pub fn count(files: &[PathBuf], produced: &Produced) -> Result<Count> {
    let mut seen = vec![0_u32; produced.shard_of.len()];
    let mut count = Count { of_shard: vec![0; produced.shards.len()], ..Count::default() };
    for path in files {
        let shown = || format!("cannot read {} back", path.display());
        count.files += 1;
        count.file_bytes += std::fs::metadata(path).with_context(shown)?.len();
        let mut last_of_shard = vec![None; produced.shards.len()];
        let builder = open(path).with_context(shown)?;
        let mask = ProjectionMask::columns(builder.parquet_schema(), ["id", "customer", "total"]);
        for batch in builder.with_projection(mask).build().with_context(shown)? {
            let batch = batch.with_context(shown)?;
            count.rows(&rows(&batch).with_context(shown)?, produced, (&mut seen, &mut last_of_shard));
        }
    }
    count.lost = seen.iter().filter(|times| **times == 0).count() as u64;
    count.duplicated = seen.iter().map(|times| u64::from(times.saturating_sub(1))).sum();
    Ok(count)
}

/// The rows of a file, by its footer alone.
pub fn rows_of(path: &Path) -> Result<u64> {
    let rows = open(path)?.metadata().file_metadata().num_rows();
    Ok(u64::try_from(rows).unwrap_or(0))
}

fn open(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    Ok(ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?)
}

struct Row<'a> {
    id: Option<i64>,
    customer: &'a str,
    total: f64,
}

fn rows(batch: &RecordBatch) -> Result<Vec<Row<'_>>> {
    let column = |name: &str| batch.column_by_name(name).with_context(|| format!("there is no column {name}"));
    let ids = column("id")?.as_primitive_opt::<Int64Type>().context("id is no bigint")?;
    let customers = column("customer")?.as_string_opt::<i32>().context("customer is no string")?;
    let totals = column("total")?.as_primitive_opt::<Float64Type>().context("total is no double")?;
    let row = |index: usize| Row {
        id: ids.is_valid(index).then(|| ids.value(index)),
        customer: customers.value(index),
        total: totals.value(index),
    };
    Ok((0..batch.num_rows()).map(row).collect())
}

impl Count {
    fn rows(&mut self, rows: &[Row<'_>], produced: &Produced, (seen, last): (&mut [u32], &mut [Option<u64>])) {
        for row in rows {
            self.delivered += 1;
            let known = row.id.and_then(|id| u64::try_from(id).ok()).filter(|id| *id < seen.len() as u64);
            let Some(id) = known else {
                self.altered += 1;
                continue;
            };
            let order = Order::new(id);
            self.altered += u64::from(order.customer != row.customer || order.total() != row.total);
            seen[id as usize] += 1;
            let shard = usize::from(produced.shard_of[id as usize]);
            self.of_shard[shard] += 1;
            self.out_of_order += u64::from(last[shard].is_some_and(|last| last >= id));
            last[shard] = Some(id);
        }
    }
}

/// Counts delivered rows while files appear; each footer is read once.
#[derive(Debug, Default)]
pub struct Live {
    known: BTreeSet<PathBuf>,
    rows: u64,
}

impl Live {
    /// Rows of all files, of which some may be new. A file that cannot be read yet is looked at again.
    pub fn update(&mut self, files: Vec<PathBuf>) -> u64 {
        for file in files {
            if !self.known.contains(&file)
                && let Ok(rows) = rows_of(&file)
            {
                self.rows += rows;
                self.known.insert(file);
            }
        }
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Float64Array, Int64Array, StringArray};
    use parquet::arrow::ArrowWriter;

    use super::*;

    /// A file of these orders; the total is off by `off`.
    fn file(dir: &Path, name: &str, ids: &[i64], off: f64) -> PathBuf {
        let orders: Vec<_> = ids.iter().map(|id| Order::new(*id as u64)).collect();
        let id: Arc<dyn Array> = Arc::new(Int64Array::from(ids.to_vec()));
        let customer = Arc::new(StringArray::from_iter_values(orders.iter().map(|order| &order.customer)));
        let total = Arc::new(Float64Array::from_iter_values(orders.iter().map(|order| order.total() + off)));
        let columns = [("id", id), ("customer", customer as _), ("total", total as _)];
        let batch = RecordBatch::try_from_iter(columns).expect("a batch");
        let path = dir.join(name);
        let file = File::create(&path).expect("made");
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("a writer");
        writer.write(&batch).expect("written");
        writer.close().expect("closed");
        path
    }

    fn produced(shard_of: &[u16]) -> Produced {
        Produced { shard_of: shard_of.to_vec(), shards: vec!["a".to_owned(), "b".to_owned()], bytes: 0 }
    }

    #[test]
    fn loss_and_duplicates_are_found() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let files = [file(dir.path(), "1", &[0, 1, 2], 0.0), file(dir.path(), "2", &[4, 1], 0.0)];
        let counted = count(&files, &produced(&[0, 1, 0, 0, 1])).expect("they are read");
        let bytes = counted.file_bytes;
        let of_shard = vec![2, 3];
        // 4 and 1 are of one shard, and 4 stands first.
        let expected = Count {
            delivered: 5,
            lost: 1,
            duplicated: 1,
            out_of_order: 1,
            files: 2,
            file_bytes: bytes,
            of_shard,
            altered: 0,
        };
        assert_eq!(counted, expected);
    }

    #[test]
    fn what_is_not_as_it_was_produced_is_found() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let files = [file(dir.path(), "1", &[0], 0.5), file(dir.path(), "2", &[1, 77], 0.0)];
        let counted = count(&files, &produced(&[0, 0])).expect("they are read");
        assert_eq!((counted.altered, counted.lost, counted.duplicated), (2, 0, 0));
        std::fs::write(&files[1], "no parquet").expect("written");
        assert!(count(&files, &produced(&[0, 0])).is_err());
    }

    #[test]
    fn live_rows_are_those_of_new_files() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut live = Live::default();
        let first = file(dir.path(), "1", &[0, 1], 0.0);
        assert_eq!(live.update(vec![first.clone()]), 2);
        assert_eq!(live.update(vec![first.clone(), dir.path().join("absent")]), 2);
        let second = file(dir.path(), "2", &[2], 0.0);
        assert_eq!(live.update(vec![first, second]), 3);
    }
}
