//! Lines -> a file, as a destination would write it: for readers and measurements outside this workspace
//! (`tests/peers/formats`, `tests/peers/bench`).
//!
//!     rows SCHEMA LINES OUT [WORD...]   a Parquet file. SCHEMA is a file in any of the languages that a config may name;
//!                                       the words are those of `option`. Prints how many records are in the file and why
//!                                       others are not
//!     rows --gzip LINES OUT             the lines, packed
//!     rows --columns LINES              prints the columns that hold the lines
//!
//! Never here: what a value becomes.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use standpipe_convert::{
    Columns, Compression, Delimiter, Deserializer, Format, Hive, Inferring, ParquetCompression, ParquetOptions,
    ParquetTimestamps, ParquetVersion, RowFormat,
};
use standpipe_flow::{LeaseKey, Millis, Record, SequenceNumber};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, schema, lines, rest @ ..] = arguments.as_slice() else {
        return Err("usage: rows SCHEMA LINES OUT [WORD...] | rows --gzip LINES OUT | rows --columns LINES".into());
    };
    if schema == "--columns" {
        let lines = BufReader::with_capacity(1 << 20, File::open(lines)?).split(b'\n');
        let mut inferring = Inferring::default();
        for (line, number) in lines.zip(1..) {
            inferring.line(number, &line?);
        }
        println!("{}", inferring.finish().columns.map(|columns| columns.to_string()).unwrap_or_default());
        return Ok(());
    }
    let [out, words @ ..] = rest else { return Err("where to?".into()) };
    let (mut options, mut deserializer) = (ParquetOptions::default(), Deserializer::default());
    words.iter().try_for_each(|word| option(word, &mut options, &mut deserializer))?;
    let (format, compression) = if schema == "--gzip" {
        (Format::JsonLines { delimiter: Delimiter::Newline }, Compression::Gzip)
    } else {
        let rows = RowFormat::new(Columns::from_schema(&fs::read_to_string(schema)?)?, deserializer)?;
        (Format::Parquet { rows: rows.into(), options }, Compression::None)
    };

    let lease = LeaseKey::new("shardId-000000000000");
    let key: Arc<str> = "key".into();
    let mut encoder = format.encoder(compression);
    let mut out = File::create(out)?;
    let mut rejected = Vec::new();
    let mut file = File::open(lines)?;
    let mut rest = Vec::new();
    loop {
        let mut block = block(&mut file, &mut rest)?;
        if block.is_empty() {
            break;
        }
        while !block.is_empty() {
            let end = memchr::memchr(b'\n', &block);
            let line = block.split_to(end.unwrap_or(block.len()));
            block.advance(usize::from(end.is_some()));
            rejected.extend(encoder.push(&lease, &record(line, &key)).err());
            while let Some(part) = encoder.take()? {
                out.write_all(&part)?;
            }
        }
    }
    let encoded = encoder.finish()?;
    encoded.tail.iter().try_for_each(|part| out.write_all(part))?;
    println!("{} records, {} rejected", encoded.records, rejected.len());
    rejected.iter().for_each(|rejected| println!("{} {}", rejected.code, rejected.message));
    Ok(())
}

fn option(word: &str, options: &mut ParquetOptions, deserializer: &mut Deserializer) -> Result<(), Box<dyn Error>> {
    match word {
        "hive" => *deserializer = Deserializer::Hive(Hive::default()),
        "none" => options.compression = ParquetCompression::None,
        "gzip" => options.compression = ParquetCompression::Gzip,
        "zstd" => options.compression = ParquetCompression::Zstd,
        "plain" => options.dictionary = false,
        "v2" => options.version = ParquetVersion::V2,
        "millis" => options.timestamps = ParquetTimestamps::Millis,
        "int96" => options.timestamps = ParquetTimestamps::Int96,
        "small" => (options.page_bytes, options.row_group_bytes) = (ParquetOptions::PAGE_BYTES_MIN, 1 << 20),
        other => return Err(format!("no option: {other}").into()),
    }
    Ok(())
}

/// The next lines of a file, all of them whole: about as many bytes as one read of a shard gives. `rest` is what was read
/// beyond them. Nothing at the end.
fn block(file: &mut File, rest: &mut Vec<u8>) -> std::io::Result<Bytes> {
    let mut block = std::mem::take(rest);
    while file.take(1 << 20).read_to_end(&mut block)? > 0 {
        if let Some(last) = memchr::memrchr(b'\n', &block) {
            *rest = block.split_off(last + 1);
            break;
        }
    }
    Ok(block.into())
}

fn record(line: Bytes, key: &Arc<str>) -> Record {
    Record {
        data: line,
        partition_key: key.clone(),
        sequence: SequenceNumber::from(1),
        sub: 0,
        arrival: Millis(0),
        transformed: None,
        partition: None,
    }
}
