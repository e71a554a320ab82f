//! Lines of JSON -> a file of columns, as a destination would write it: for readers and measurements outside this
//! workspace (`tests/peers/formats_parquet.py`, `tests/peers/bench-parquet`).
//!
//! `rows SCHEMA LINES OUT`: the columns stand in the file SCHEMA; prints how many records are in the file and, one a
//! line, why the others are not. Never here: what a value becomes.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};

use bytes::Bytes;
use standpipe_convert::{Columns, Compression, Format, ParquetOptions, encode_all};
use standpipe_flow::{LeaseKey, Millis, Record, SequenceNumber};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, schema, lines, out] = arguments.as_slice() else { return Err("usage: rows SCHEMA LINES OUT".into()) };
    let columns = Columns::parse(&fs::read_to_string(schema)?)?;
    let format = Format::Parquet { rows: columns.into(), options: ParquetOptions::default() };
    let lease = LeaseKey::new("shardId-000000000000");
    let lines = BufReader::new(File::open(lines)?).split(b'\n').map_while(Result::ok);
    let records: Vec<Record> = lines.map(record).collect();
    let mut out = File::create(out)?;
    let records = records.iter().map(|record| (&lease, record));
    let object = encode_all(format.encoder(Compression::None), records, |part| out.write_all(&part))?;
    println!("{} records, {} bytes, {} rejected", object.records, object.bytes, object.rejected.len());
    object.rejected.iter().for_each(|rejected| println!("{} {}", rejected.code, rejected.message));
    Ok(())
}

fn record(line: Vec<u8>) -> Record {
    Record {
        data: Bytes::from(line),
        partition_key: "key".into(),
        sequence: SequenceNumber::from(1),
        sub: 0,
        arrival: Millis(0),
        transformed: None,
        partition: None,
    }
}
