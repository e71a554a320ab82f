use proptest::prelude::*;

use super::*;
use crate::testing;

fn output() -> impl Strategy<Value = Output> {
    let kind = prop_oneof![Just(OutputKind::Data), Just(OutputKind::Error), Just(OutputKind::Backup)];
    let checksum =
        prop_oneof!["[A-Za-z0-9+/]{11}=".prop_map(Checksum::Crc64Nvme), "[A-Za-z0-9+/]{6}==".prop_map(Checksum::Crc32)];
    (kind, ".{0,8}", ".{0,20}", held(), any::<u64>(), checksum, any::<u64>()).prop_map(
        |(kind, bucket, key, held, size, checksum, records)| Output {
            kind,
            bucket,
            key,
            held,
            size,
            checksum,
            records,
        },
    )
}

fn held() -> impl Strategy<Value = Held> {
    let numbers = prop_oneof![
        (0_u32..5).prop_map(|count| (1..=count).collect::<Vec<_>>()),
        proptest::collection::btree_set(1_u32..10_001, 0..4).prop_map(|numbers| numbers.into_iter().collect()),
    ];
    let upload = numbers.prop_map(|numbers| {
        let parts = numbers.into_iter().map(|number| Part { number, etag: format!("\"{number:x}\"") });
        Held::Upload { id: "upload".to_owned(), parts: parts.collect() }
    });
    let slice = (".{0,20}", any::<u64>(), proptest::option::of(Just("gzip".to_owned())))
        .prop_map(|(object, offset, encoding)| Held::Slice { object, offset, encoding });
    prop_oneof![upload, slice, Just(Held::Object)]
}

pub(crate) fn receipt() -> impl Strategy<Value = Receipt> {
    let state = prop_oneof![Just(ReceiptState::Committed), Just(ReceiptState::Done), Just(ReceiptState::Retracted)];
    let shard = (testing::shard(), testing::position(), testing::position(), testing::tenure(), 0_u64..3, any::<u64>())
        .prop_map(|(shard, from, to, tenure, generation, arrival)| ReceiptShard {
            lease: LeaseKey::of(&shard),
            from,
            to,
            tenure,
            generation: Generation(generation),
            arrival: (arrival % 2 == 0).then_some(Millis(arrival)),
        });
    (
        any::<[u8; 16]>(),
        state,
        testing::destination(),
        proptest::collection::vec(shard, 0..3),
        proptest::collection::vec(output(), 0..3),
        any::<u64>(),
        proptest::option::of(any::<u64>().prop_map(Millis)),
    )
        .prop_map(|(cid, state, destination, shards, outputs, records, created_at)| Receipt {
            gave_up: false,
            cid: CommitId(cid),
            state,
            destination,
            shards,
            outputs,
            config: "c0ffee".to_owned(),
            worker: WorkerId::new("worker-1"),
            version: "0.1.0".to_owned(),
            records,
            bytes: records / 2,
            created_at,
        })
}

proptest! {
    #[test]
    fn receipts_round_trip(receipt in receipt()) {
        prop_assert_eq!(decode(&encode(&receipt)), Ok((receipt, None)));
    }

    #[test]
    fn a_receipt_with_something_missing_or_wrong_is_an_error(receipt in receipt(), index in any::<prop::sample::Index>()) {
        let mut item = encode(&receipt);
        let names: Vec<_> = item.keys().filter(|name| *name != name::CREATED_AT).cloned().collect();
        let name = index.get(&names).clone();
        item.insert(name.clone(), AttributeValue::Null(true));
        prop_assert!(decode(&item).is_err(), "{} is null", name);
        item.remove(&name);
        prop_assert!(decode(&item).is_err(), "{} is missing", name);
    }
}

fn uploaded() -> Output {
    let part = |number: u32| Part { number, etag: format!("\"e{number}\"") };
    Output {
        kind: OutputKind::Data,
        bucket: "lake".to_owned(),
        key: "in/k".to_owned(),
        held: Held::Upload { id: "u-1".to_owned(), parts: vec![part(1), part(3)] },
        size: 12,
        checksum: Checksum::Crc64Nvme("AAAAAAAAAAA=".to_owned()),
        records: 7,
    }
}

/// Receipts outlive programs: what the first version wrote of an upload is what this one writes and reads.
#[test]
fn an_upload_has_the_form_it_had_before_outputs_were_held_otherwise() {
    let list = |of: [AttributeValue; 2]| AttributeValue::L(of.to_vec());
    let first = [
        ("kind", text("data")),
        ("bucket", text("lake")),
        ("key", text("in/k")),
        ("uploadId", text("u-1")),
        ("etags", list([text("\"e1\""), text("\"e3\"")])),
        ("partNumbers", list([number(1), number(3)])),
        ("size", number(12)),
        ("algorithm", text("CRC64NVME")),
        ("checksum", text("AAAAAAAAAAA=")),
        ("records", number(7)),
    ];
    let first: Item = first.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    assert_eq!(encode_output(&uploaded()), AttributeValue::M(first.clone().into_iter().collect()));
    let map: Item = first;
    assert_eq!(decode_output(&Fields::of("", String::new(), &map)), Ok(uploaded()));

    let line = r#"["data","lake","in/k","u-1",[[1,"\"e1\""],[3,"\"e3\""]],12,{"crc64nvme":"AAAAAAAAAAA="},7]"#;
    let page = format!("[{}]", vec![line; 400].join(","));
    let written = Paged::of(&vec![uploaded(); 400]).expect("too many for an item");
    assert_eq!(zstd::bulk::decompress(&written.pages[0], 1 << 20).expect("a page"), page.as_bytes());
    let read = Paged { pages: vec![zstd::bulk::compress(page.as_bytes(), 3).expect("compressed")] };
    assert_eq!(read.outputs(), Ok(vec![uploaded(); 400]));
}

/// I13: what holds an output is read as it was written, or not at all.
#[test]
fn an_unknown_way_to_hold_an_output_is_not_guessed() {
    let AttributeValue::M(map) = encode_output(&uploaded()) else { panic!("a map") };
    let mut map: Item = map.into_iter().collect();
    for unknown in [text("upload"), text("elsewhere"), AttributeValue::Null(true), number(1)] {
        map.insert("held".to_owned(), unknown);
        assert!(decode_output(&Fields::of("", String::new(), &map)).is_err());
    }
    for held in [r#"{"elsewhere":1}"#, r#"{"slice":["o"]}"#, r#""elsewhere""#, "null", r#""u-1""#] {
        let page = format!(r#"[["data","lake","in/k",{held},12,{{"crc32":"AAAAAA=="}},7]]"#);
        let read = Paged { pages: vec![zstd::bulk::compress(page.as_bytes(), 3).expect("compressed")] };
        assert!(read.outputs().is_err(), "{page}");
    }
}

/// Bytes of an attribute value, as DynamoDB counts them ("Item sizes and formats"): texts and bytes as they are, 21 for a
/// number at most, 3 for a list or a map and 1 for each element.
fn counted(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::B(bytes) => bytes.as_ref().len(),
        AttributeValue::N(_) => 21,
        AttributeValue::L(list) => 3 + list.iter().map(|value| 1 + counted(value)).sum::<usize>(),
        AttributeValue::M(map) => 3 + map.iter().map(|(name, value)| 1 + name.len() + counted(value)).sum::<usize>(),
        other => panic!("no part of a receipt: {other:?}"),
    }
}

fn size(item: &Item) -> usize {
    item.iter().map(|(name, value)| name.len() + counted(value)).sum()
}

fn large(kind: OutputKind, parts: u32, number: u64) -> Output {
    // Digits that no compression finds anything in.
    let noise = |length: usize| -> String {
        let words = (0..).map(|word: u64| standpipe_flow::hash::hash64(&[&number.to_be_bytes(), &word.to_be_bytes()]));
        words.flat_map(|word| format!("{word:016x}").into_bytes()).take(length).map(char::from).collect()
    };
    Output {
        kind,
        bucket: "b".repeat(63),
        key: noise(1024),
        held: Held::Upload {
            id: noise(400),
            parts: (1..=parts).map(|number| Part { number, etag: format!("\"{}\"", noise(32)) }).collect(),
        },
        size: u64::MAX,
        checksum: Checksum::Crc64Nvme(noise(12)),
        records: u64::MAX,
    }
}

fn largest(outputs: Vec<Output>) -> Receipt {
    let digits = || Position::at(standpipe_flow::SequenceNumber::parse("4".repeat(56)).expect("digits"), u64::MAX);
    let shard = |number| ReceiptShard {
        lease: LeaseKey::new(format!("shardId-{number:012}")),
        from: digits(),
        to: digits(),
        tenure: Tenure([7; 16]),
        generation: Generation(u64::MAX),
        arrival: Some(Millis(u64::MAX)),
    };
    Receipt {
        gave_up: false,
        cid: CommitId([1; 16]),
        state: ReceiptState::Committed,
        destination: DestinationId::new("d".repeat(16)),
        shards: (0..32).map(shard).collect(),
        outputs,
        config: "c".repeat(16),
        worker: WorkerId::new("w".repeat(160)),
        version: "0.1.0".to_owned(),
        records: u64::MAX,
        bytes: u64::MAX,
        created_at: Some(Millis(u64::MAX)),
    }
}

/// The bounds of `docs/decisions/receipt-size.md`: whatever a commit writes, its receipt and every page fit an item.
#[test]
fn a_receipt_of_any_commit_fits_its_items() {
    let mut outputs = vec![large(OutputKind::Data, 512, 0), large(OutputKind::Backup, 512, 1)];
    outputs.extend((2..5_000).map(|number| large(OutputKind::Error, 4, number)));
    for output in outputs.iter_mut().skip(2).step_by(2) {
        let object = output.key.chars().rev().collect();
        output.held = Held::Slice { object, offset: u64::MAX, encoding: Some("e".repeat(64)) };
    }
    let receipt = largest(outputs);
    let item = encode(&receipt);
    assert!(size(&item) < 16 << 10, "{}", size(&item));
    let paged = Paged::of(&receipt.outputs).expect("too many for an item");
    let sizes: Vec<usize> =
        (0..).zip(&paged.pages).map(|(page, body)| size(&pages::item(receipt.cid, page, body, Some(1)))).collect();
    assert!(sizes.iter().all(|bytes| *bytes < 400 << 10), "{sizes:?}");
    assert_eq!(paged.outputs(), Ok(receipt.outputs.clone()));
    let (read, on_pages) = decode(&item).expect("a receipt");
    assert_eq!(on_pages, Some(OnPages { pages: sizes.len() as u64, hash: paged.hash() }));
    assert_eq!(Receipt { outputs: receipt.outputs.clone(), ..read }, receipt);
}

/// What stays in the item is far below what an item takes.
#[test]
fn a_receipt_of_few_outputs_is_one_item() {
    let outputs: Vec<Output> = (0..).map(|number| large(OutputKind::Error, 4, number)).take(100).collect();
    let few = (1..).take_while(|count| Paged::of(&outputs[..*count]).is_none()).last().expect("one at least");
    let item = encode(&largest(outputs[..few].to_vec()));
    assert!(size(&item) < 64 << 10, "{few} outputs are {} bytes", size(&item));
    assert!(few > 8, "{few} outputs");
}

proptest! {
    #[test]
    fn pages_round_trip(outputs in proptest::collection::vec(output(), 0..400)) {
        if let Some(paged) = Paged::of(&outputs) {
            prop_assert_eq!(paged.outputs(), Ok(outputs));
        }
    }

    #[test]
    fn no_page_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let whole = zstd::bulk::compress(&body, 3).expect("compressed");
        for page in [body, whole] {
            let paged = Paged { pages: vec![page] };
            prop_assert!(paged.outputs().unwrap_or_default().is_empty());
        }
    }
}
