//! What is promised of single-record stages, as checks of one input.

use std::io::Read;

use bytes::Bytes;
use serde_json::Value;
use standpipe_flow::{Millis, Record};
use standpipe_transform::{
    CloudWatchLogs, CloudWatchLogsSettings, Codec, DECOMPRESSION_FAILED, Decompress, DecompressSettings, Fault, Made,
    PROCESSING_FAILED, Split, SplitBy, SplitSettings, Stage,
};

use super::{Answer, Check};

/// Bytes that the fuzzer lets `decompress` make of one record.
pub(super) const DECOMPRESS_BYTES_MAX: usize = 1 << 20;

/// A record as it was read.
pub(super) fn record(data: &Bytes) -> Record {
    Record {
        data: data.clone(),
        partition_key: "key".into(),
        sequence: 7.into(),
        sub: 0,
        arrival: Millis(1_700_000_000_000),
        transformed: None,
        partition: None,
    }
}

/// Sends a record through a stage: what was made of it, or the answer that a rejection is.
fn made(stage: &dyn Stage, data: &Bytes) -> Result<Vec<Record>, Answer> {
    let mut made = Made::default();
    match stage.apply(record(data), &mut made) {
        Ok(()) => Ok(made.take()),
        Err(fault) => Err(rejected(&fault)),
    }
}

/// A rejection names a folder and says something short.
fn rejected(Fault { output_type, code, message }: &Fault) -> Answer {
    match *output_type {
        PROCESSING_FAILED | DECOMPRESSION_FAILED if message.len() <= 400 => Ok(format!("{code} {message}")),
        _ => Err(format!("the folder is {output_type}, the message has {} bytes", message.len())),
    }
}

fn promise(kept: bool, what: &str) -> Result<(), String> {
    if kept { Ok(()) } else { Err(what.into()) }
}

/// Of how many records something is made, roughly: a new order of size is a new answer.
fn about(records: &[Record]) -> String {
    format!("made {}", "x".repeat(records.len().checked_ilog2().map_or(0, |log| log as usize + 1)))
}

/// A stage that changes a record, or makes several of it.
pub(super) fn stage(stage: impl Stage) -> Check {
    Box::new(move |data| {
        let records = match made(&stage, data) {
            Ok(records) => records,
            Err(answer) => return answer,
        };
        if let [one] = &records[..] {
            promise(one.original() == data, "a record that was changed shows other bytes than those that were read")?;
        }
        Ok(about(&records))
    })
}

/// A stage whose results are JSON objects.
pub(super) fn json_stage(stage: impl Stage) -> Check {
    Box::new(move |data| {
        let records = match made(&stage, data) {
            Ok(records) => records,
            Err(answer) => return answer,
        };
        // Of many only some: they are one like the other, and time is for other inputs.
        for record in records.iter().step_by(1 + records.len() / 100) {
            let object = serde_json::from_slice::<Value>(&record.data).is_ok_and(|value| value.is_object());
            promise(object, "what is made is no JSON object")?;
        }
        Ok(about(&records))
    })
}

/// `decompress`: within its bound, and as the streaming decoders have it.
pub(super) fn decompress() -> Check {
    let settings = DecompressSettings { codec: Codec::Auto, bytes_max: DECOMPRESS_BYTES_MAX };
    let stage = Decompress::new(settings).expect("the bound is none of those that are refused");
    Box::new(move |data| {
        let records = match made(&stage, data) {
            Ok(records) => records,
            Err(answer) => return answer,
        };
        let [record] = &records[..] else { return Err(format!("{} records are made of one", records.len())) };
        promise(record.data.len() <= DECOMPRESS_BYTES_MAX.max(data.len()), "more comes out than may")?;
        if data.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            let streamed = streams_as(&record.data, data);
            promise(streamed != Some(false), "a stream of it is other bytes")?;
            return Ok(format!("zstd, streamed {streamed:?}"));
        }
        Ok(if record.data == *data { "passed".into() } else { about(&records) })
    })
}

/// Whether the streaming decoder gives these bytes; `None` if it refuses the frames, as it does windows that the other
/// does not need.
fn streams_as(mut expected: &[u8], data: &[u8]) -> Option<bool> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(data).ok()?;
    let mut block = [0; 8_192];
    loop {
        let read = decoder.read(&mut block).ok()?;
        if read == 0 {
            return Some(expected.is_empty());
        }
        match expected.strip_prefix(&block[..read]) {
            Some(rest) => expected = rest,
            None => return Some(false),
        }
    }
}

/// `cloudwatch_logs` with extraction: the messages are those that an independent reading finds.
pub(super) fn cloudwatch_logs() -> Check {
    let stage = CloudWatchLogs::new(CloudWatchLogsSettings { extract_message: true });
    Box::new(move |data| {
        let records = match made(&stage, data) {
            Ok(records) => records,
            Err(answer) => return answer,
        };
        let Ok(envelope) = serde_json::from_slice::<Value>(data) else { return Ok("made of what is too deep".into()) };
        let events = envelope["logEvents"].as_array().map(Vec::as_slice).unwrap_or_default();
        let messages = events.iter().map(|event| event["message"].as_str().or(event[0].as_str()));
        let messages: Vec<&str> = messages.map(Option::unwrap_or_default).collect();
        let control = envelope["messageType"] == "CONTROL_MESSAGE";
        let expected = (!control && !messages.is_empty()).then(|| messages.join("\n"));
        let made = records.first().map(|record| &record.data[..]);
        promise(made == expected.as_deref().map(str::as_bytes), "other messages come out than went in")?;
        Ok(format!("{} control {control}", about(&records)))
    })
}

/// `split: json`: no byte is lost but white space.
pub(super) fn split_json() -> Check {
    let settings = SplitSettings { by: SplitBy::Json, pieces_max: SplitSettings::PIECES_MAX };
    let stage = Split::new(settings).expect("splitting by JSON has no wrong settings");
    Box::new(move |data| {
        let records = match made(&stage, data) {
            Ok(records) => records,
            Err(answer) => return answer,
        };
        let dense = |bytes: &[u8]| bytes.iter().copied().filter(|byte| !b" \t\r\n".contains(byte)).collect::<Vec<u8>>();
        let pieces: Vec<u8> = records.iter().flat_map(|record| dense(&record.data)).collect();
        promise(pieces == dense(data), "bytes are lost between the pieces")?;
        let lines = records.iter().all(|record| record.data.starts_with(b"{") && !record.data.contains(&b'\n'));
        promise(lines, "a piece is not an object on one line")?;
        Ok(about(&records))
    })
}

/// `split: delimited`: no byte is lost but delimiters.
pub(super) fn split_delimited() -> Check {
    let settings = SplitSettings { by: SplitBy::Delimited("##".into()), pieces_max: SplitSettings::PIECES_MAX };
    let stage = Split::new(settings).expect("the delimiter is not empty");
    Box::new(move |data| {
        let records = match made(&stage, data) {
            Ok(records) => records,
            Err(answer) => return answer,
        };
        let (mut expected, mut at) = (Vec::new(), 0);
        while at < data.len() {
            if data[at..].starts_with(b"##") {
                at += 2;
            } else {
                expected.push(data[at]);
                at += 1;
            }
        }
        let pieces: Vec<u8> = records.iter().flat_map(|record| record.data.to_vec()).collect();
        promise(pieces == expected, "bytes are lost between the pieces")?;
        promise(records.iter().all(|record| !record.data.is_empty()), "a piece is empty")?;
        Ok(about(&records))
    })
}
