//! The demo into S3: Parquet files in the demo's directory, read back as any reader would.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use async_trait::async_trait;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::count::{Count, Row, Tally};
use super::orders::COLUMNS;
use super::producer::Produced;
use super::scene::{BUCKET, FOLDER, Scene, is_order};
use super::target::{Target, Told};
use crate::terminal::grouped;

/// Files of delivered records.
#[derive(Debug, Default)]
pub struct Lake {
    live: Live,
}

#[async_trait]
impl Target for Lake {
    fn opening(&self, dir: &Path) -> String {
        format!("delivered as Parquet into {}/", dir.display())
    }

    fn destination(&self) -> String {
        format!(
            "      - s3:
          id: lake
          bucket: {BUCKET}
          prefix: \"{FOLDER}/dt=!{{timestamp:yyyy-MM-dd}}/\"
          error_prefix: \"errors/!{{firehose:error-output-type}}/\"
          format: {{ parquet: {{ compression: snappy }} }}
          schema:
            columns: \"{COLUMNS}\"
          buffer: {{ size: 16MiB, interval: 2s }}
"
        )
    }

    async fn rows(&mut self, scene: &Scene) -> Result<u64> {
        Ok(self.live.update(files(scene)))
    }

    async fn count(&mut self, scene: &Scene, produced: &Produced) -> Result<Count> {
        count(&files(scene), produced)
    }

    fn told(&self, scene: &Scene, count: &Count) -> Told {
        let directory = scene.bucket.join(FOLDER).display().to_string();
        let megabytes = count.file_bytes as f64 / 1e6;
        Told {
            what: "the files",
            delivered: format!(
                "{} records in {} Parquet files, {megabytes:.1} MB",
                grouped(count.delivered),
                grouped(count.files),
            ),
            after: format!("The files are in {directory}/\nQuery them:\n\n  {}\n", query(&directory)),
            directory: Some(directory),
        }
    }
}

/// The files of delivered records that are there now, in the order of their keys.
fn files(scene: &Scene) -> Vec<PathBuf> {
    let objects = scene.emulator.objects(BUCKET).into_iter();
    objects.filter(|object| is_order(&object.key)).map(|object| scene.bucket.join(object.key)).collect()
}

/// One command that reads the files.
fn query(directory: &str) -> String {
    let glob = format!("{}/**/*.parquet", directory.replace('\'', "''"));
    let select = format!(
        "select country, count(*) as orders, round(sum(total), 2) as total from '{glob}' group by country order by country"
    );
    format!("duckdb -c \"{select}\"")
}

/// Reads all files back and compares them with what was produced.
fn count(files: &[PathBuf], produced: &Produced) -> Result<Count> {
    let mut tally = Tally::new(produced);
    let mut out_of_order = 0;
    for path in files {
        let shown = || format!("cannot read {} back", path.display());
        tally.count.files += 1;
        tally.count.file_bytes += std::fs::metadata(path).with_context(shown)?.len();
        let mut last_of_shard = vec![None; produced.shards.len()];
        let builder = open(path).with_context(shown)?;
        let mask = ProjectionMask::columns(builder.parquet_schema(), ["id", "customer", "total"]);
        for batch in builder.with_projection(mask).build().with_context(shown)? {
            let batch = batch.with_context(shown)?;
            for row in rows(&batch).with_context(shown)? {
                let Some((id, shard)) = tally.row(&row) else { continue };
                out_of_order += u64::from(last_of_shard[shard].is_some_and(|last| last >= id));
                last_of_shard[shard] = Some(id);
            }
        }
    }
    Ok(Count { out_of_order: Some(out_of_order), ..tally.end() })
}

/// The rows of a file, by its footer alone.
fn rows_of(path: &Path) -> Result<u64> {
    let rows = open(path)?.metadata().file_metadata().num_rows();
    Ok(u64::try_from(rows).unwrap_or(0))
}

fn open(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    Ok(ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?)
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

/// Counts delivered rows while files appear; each footer is read once.
#[derive(Debug, Default)]
struct Live {
    known: BTreeSet<PathBuf>,
    rows: u64,
}

impl Live {
    /// Rows of all files, of which some may be new. A file that cannot be read yet is looked at again.
    fn update(&mut self, files: Vec<PathBuf>) -> u64 {
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

    use super::super::orders::Order;
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
            out_of_order: Some(1),
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
