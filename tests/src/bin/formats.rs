//! One object in every format and compression, for readers that others wrote (`tests/peers/run formats`).
//!
//!     formats INPUT COLUMNS FOLDER      INPUT's lines as records, COLUMNS a column list; prints what each object cost
//!     formats --large FOLDER            a ZIP archive of more than 4 GiB
//!
//! An object's name is `FORMAT-COMPRESSION` with Firehose's extension. With `-` as COLUMNS only lines are written. A
//! rejected record is a failure.

use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use bytes::Bytes;
use standpipe_convert::{
    Columns, Compression, CurrentRows, Delimiter, Format, OrcCompression, OrcOptions, ParquetCompression,
    ParquetOptions, ParquetTimestamps, ParquetVersion, encode_all, orc_supports,
};
use standpipe_flow::{LeaseKey, Millis, Record, SequenceNumber};

type Done<T> = Result<T, Box<dyn Error>>;

fn main() -> Done<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--large", folder] => large(Path::new(folder)),
        [input, columns, folder] => every(Path::new(input), Path::new(columns), Path::new(folder)),
        _ => Err("usage: formats INPUT COLUMNS FOLDER | formats --large FOLDER".into()),
    }
}

fn every(input: &Path, columns: &Path, folder: &Path) -> Done<()> {
    let data = Bytes::from(fs::read(input)?);
    let mut objects = objects_of_lines();
    if columns != Path::new("-") {
        let columns = Columns::parse(&fs::read_to_string(columns)?)?;
        orc_supports(&columns)?;
        objects.extend(objects_of_rows(&columns.into()));
    }
    let lines = data.split_inclusive(|byte| *byte == b'\n');
    let records: Vec<Record> = (1..).zip(lines).map(|(number, line)| record(number, data.slice_ref(line))).collect();
    for (name, format, compression) in objects {
        let path = folder.join(format!("{name}{}", format.extension(compression)));
        let begin = cpu_seconds();
        let bytes = encode(&format, compression, &records, &path)?;
        let seconds = cpu_seconds() - begin;
        let per_gb = seconds * 1e9 / data.len() as f64;
        println!("{name:<22} {bytes:>12} bytes {seconds:>8.2} CPU s {per_gb:>8.1} CPU s/GB of records");
    }
    Ok(())
}

/// A line without its line feed.
fn record(number: u64, line: Bytes) -> Record {
    let data = line.strip_suffix(b"\n").map_or(line.clone(), |data| line.slice_ref(data));
    Record {
        data,
        partition_key: "key".into(),
        sequence: SequenceNumber::from(number),
        sub: 0,
        arrival: Millis(1_700_000_000_000),
        transformed: None,
        partition: None,
    }
}

fn objects_of_lines() -> Vec<(String, Format, Compression)> {
    let lines = Format::JsonLines { delimiter: Delimiter::Newline };
    let of = |format: &Format, name: &str, compression| {
        (format!("{name}-{compression:?}").to_lowercase(), format.clone(), compression)
    };
    let raw = Compression::ALL.map(|compression| of(&Format::Raw, "raw", compression));
    raw.into_iter().chain(Compression::ALL.map(|compression| of(&lines, "lines", compression))).collect()
}

fn objects_of_rows(rows: &CurrentRows) -> Vec<(String, Format, Compression)> {
    use ParquetCompression as Parquet;
    let mut objects = Vec::new();
    let mut parquet = |name: &str, options| {
        let format = Format::Parquet { rows: rows.clone(), options };
        objects.push((format!("parquet-{name}"), format, Compression::None));
    };
    let compressions = [Parquet::None, Parquet::Snappy, Parquet::Gzip, Parquet::Zstd];
    for (compression, name) in compressions.into_iter().zip(["none", "snappy", "gzip", "zstd"]) {
        parquet(name, ParquetOptions { compression, ..ParquetOptions::default() });
    }
    parquet("v2", ParquetOptions { version: ParquetVersion::V2, ..ParquetOptions::default() });
    let int96 = ParquetOptions { timestamps: ParquetTimestamps::Int96, dictionary: false, ..ParquetOptions::default() };
    parquet("int96", int96);
    let mut orc = |name: &str, options| {
        objects.push((format!("orc-{name}"), Format::Orc { rows: rows.clone(), options }, Compression::None));
    };
    let compressions = [OrcCompression::None, OrcCompression::Zlib, OrcCompression::Snappy, OrcCompression::Zstd];
    for (compression, name) in compressions.into_iter().zip(["none", "zlib", "snappy", "zstd"]) {
        orc(name, OrcOptions { compression, ..OrcOptions::default() });
    }
    // Many stripes and row groups, without dictionaries and with nothing else.
    for (dictionary_threshold_percent, name) in [(0, "small0"), (100, "small100")] {
        let small = OrcOptions {
            stripe_bytes: 1 << 20,
            row_index_stride: OrcOptions::ROW_INDEX_STRIDE_MIN,
            dictionary_threshold_percent,
            compression: OrcCompression::Zlib,
        };
        orc(name, small);
    }
    objects
}

fn encode(format: &Format, compression: Compression, records: &[Record], path: &Path) -> Done<u64> {
    let mut file = File::create(path)?;
    let lease = LeaseKey::new("shardId-000000000000");
    let encoder = format.encoder(compression);
    let object = encode_all(encoder, records.iter().map(|record| (&lease, record)), |part| file.write_all(&part))?;
    if let Some(rejected) = object.rejected.first() {
        let (path, count) = (path.display(), object.rejected.len());
        return Err(format!("{path}: {count} records are rejected, the first as {}", rejected.message).into());
    }
    Ok(object.bytes)
}

/// 4,400 records of 1 MiB.
fn large(folder: &Path) -> Done<()> {
    let data = Bytes::from(b"0123456789abcdef".repeat(1 << 16));
    let records: Vec<Record> = (1..=4400).map(|number| record(number, data.clone())).collect();
    encode(&Format::Raw, Compression::Zip, &records, &folder.join("large.zip"))?;
    Ok(())
}

/// CPU seconds of this process so far (Linux; 0 elsewhere).
fn cpu_seconds() -> f64 {
    let nanos = fs::read_to_string("/proc/self/schedstat").ok();
    nanos.and_then(|text| text.split(' ').next()?.parse::<f64>().ok()).unwrap_or_default() / 1e9
}
