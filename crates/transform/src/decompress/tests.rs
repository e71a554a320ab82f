//! What was compressed by others, what is broken, bombs, and any bytes.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::*;
use crate::testing::{Outcome, outcome, record};

const LIMIT: usize = 1 << 20;

fn stage(codec: Codec) -> Decompress {
    Decompress::new(DecompressSettings { codec, bytes_max: LIMIT }).unwrap()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zstd_of(data: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(data, 1).unwrap()
}

/// As a producer writes it that does not know the size beforehand.
fn zstd_stream(data: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// Text that shrinks, of so many bytes.
fn text(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| b"a line of a log, number 0123456789\n"[i % 35] ^ u8::from(i % 977 == 0)).collect()
}

#[track_caller]
fn comes_out(codec: Codec, compressed: Vec<u8>, expected: &[u8]) {
    let made = outcome(&stage(codec), record(compressed.clone())).records();
    assert_eq!(made.len(), 1);
    assert!(made[0].data == expected, "other bytes came out");
    assert_eq!(made[0].original(), &compressed, "an error object later shows the compressed record");
}

#[track_caller]
fn fails(codec: Codec, data: Vec<u8>) -> (&'static str, String) {
    let fault = outcome(&stage(codec), record(data)).fault();
    assert_eq!(fault.output_type, "decompression-failed");
    (fault.code, fault.message.to_string())
}

#[test]
fn what_was_compressed_comes_out() {
    for bytes in [0, 1, 100, 65_535, 65_536, 300_000, LIMIT - 1, LIMIT] {
        let data = text(bytes);
        for codec in [Codec::Gzip, Codec::Auto] {
            comes_out(codec, gzip(&data), &data);
        }
        for codec in [Codec::Zstd, Codec::Auto] {
            comes_out(codec, zstd_of(&data), &data);
            comes_out(codec, zstd_stream(&data), &data);
        }
    }
}

#[test]
fn several_members_or_frames_are_one_text() {
    let (a, b) = (text(200_000), text(10));
    let together = [&a[..], &b, &[], &a].concat();
    comes_out(Codec::Auto, [gzip(&a), gzip(&b), gzip(&[]), gzip(&a)].concat(), &together);
    comes_out(Codec::Auto, [zstd_of(&a), zstd_stream(&b), zstd_of(&[]), zstd_stream(&a)].concat(), &together);
    comes_out(Codec::Auto, [zstd_of(&b), zstd_of(&a)].concat(), &[&b[..], &a].concat());
}

#[test]
fn what_is_not_compressed_passes_under_auto_and_under_none() {
    for data in [&b""[..], b"{}", b"\x1f", b"\x1f\x8b", b"\x1f\x8b\x07", b"\x28\xb5\x2f"] {
        assert_eq!(outcome(&stage(Codec::Auto), record(data)), Outcome::Made(vec![record(data)]));
    }
    let compressed = gzip(b"x");
    assert_eq!(outcome(&stage(Codec::None), record(compressed.clone())), Outcome::Made(vec![record(compressed)]));
}

#[test]
fn what_is_broken_is_rejected() {
    let (gz, zs) = (gzip(&text(5_000)), zstd_of(&text(5_000)));
    let malformed = |name: &str| ("Decompression.MalformedData", format!("The record is not valid {name}."));
    assert_eq!(fails(Codec::Gzip, b"{\"a\":1}".to_vec()), malformed("gzip"));
    assert_eq!(fails(Codec::Gzip, Vec::new()), malformed("gzip"));
    assert_eq!(fails(Codec::Zstd, b"{\"a\":1}".to_vec()), malformed("zstd"));
    for codec in [Codec::Gzip, Codec::Auto] {
        assert_eq!(fails(codec, gz[..gz.len() - 1].to_vec()), malformed("gzip"));
        assert_eq!(fails(codec, gz[..gz.len() / 2].to_vec()), malformed("gzip"));
        assert_eq!(fails(codec, [&gz[..], b"and more"].concat()), malformed("gzip"));
    }
    let mut sum = gz.clone();
    sum[gz.len() - 5] ^= 1;
    assert_eq!(fails(Codec::Auto, sum), malformed("gzip"));
    assert_eq!(fails(Codec::Auto, zs[..zs.len() - 1].to_vec()), malformed("zstd"));
    assert_eq!(fails(Codec::Auto, [&zs[..], b"and more"].concat()), malformed("zstd"));
}

#[test]
fn a_bomb_is_rejected() {
    let zeros = vec![0; 64 << 20];
    for bomb in [gzip(&zeros), zstd_of(&zeros), zstd_stream(&zeros), [gzip(&[]), gzip(&zeros)].concat()] {
        let message = "More than 1048576 bytes would come out of the record.".to_owned();
        assert_eq!(fails(Codec::Auto, bomb), ("Decompression.OutputTooLarge", message));
    }
    let by_one = text(LIMIT + 1);
    assert_eq!(fails(Codec::Gzip, gzip(&by_one)).0, "Decompression.OutputTooLarge");
    assert_eq!(fails(Codec::Zstd, zstd_of(&by_one)).0, "Decompression.OutputTooLarge");
    assert_eq!(fails(Codec::Zstd, zstd_stream(&by_one)).0, "Decompression.OutputTooLarge");
}

#[test]
fn a_size_that_lies_costs_nothing_and_changes_nothing() {
    let data = text(3_000);
    for said in [0_u32, 1, 2_999, 3_001, u32::MAX] {
        let mut lying = gzip(&data);
        let at = lying.len() - 4;
        lying[at..].copy_from_slice(&said.to_le_bytes());
        assert_eq!(fails(Codec::Gzip, lying).0, "Decompression.MalformedData", "the size is part of what is checked");
    }
}

#[test]
fn limits_that_cannot_be_meant_are_refused() {
    let new = |bytes_max| Decompress::new(DecompressSettings { codec: Codec::Auto, bytes_max });
    assert!(new(0).unwrap_err().contains("0 bytes"));
    assert!(new((1 << 30) + 1).unwrap_err().contains("1GiB"));
    assert!(new(DecompressSettings::BYTES_MAX).is_ok());
}

proptest! {
    #[test]
    fn any_bytes_come_out_again(data in proptest::collection::vec(any::<u8>(), 0..5_000), members in 1..4_usize) {
        let members = data.chunks(data.len() / members + 1);
        let (gz, zs): (Vec<_>, Vec<_>) = members.map(|member| (gzip(member), zstd_of(member))).unzip();
        if !gz.is_empty() {
            comes_out(Codec::Gzip, gz.concat(), &data);
            comes_out(Codec::Zstd, zs.concat(), &data);
        }
    }

    #[test]
    fn any_bytes_end_in_a_record_or_a_rejection(
        noise in proptest::collection::vec(any::<u8>(), 0..300),
        at in 0..200_usize,
        codec in prop_oneof![Just(Codec::Gzip), Just(Codec::Zstd), Just(Codec::Auto)],
    ) {
        outcome(&stage(codec), record(noise.clone()));
        for mut broken in [gzip(&text(4_000)), zstd_of(&text(4_000)), zstd_stream(&text(4_000))] {
            let at = at.min(broken.len() - 1);
            broken[at] ^= noise.first().copied().unwrap_or(1);
            broken.splice(at.., noise.clone());
            if let Outcome::Made(made) = outcome(&stage(codec), record(broken)) {
                prop_assert!(made.len() == 1 && made[0].data.len() <= LIMIT);
            }
        }
    }
}
