//! Makes an input of others.

use crate::simulation::Dice;

use super::INPUT_BYTES_MAX;

/// Words that mean something to most parsers: ends of numbers, broken text, other encodings.
const TOKENS: &[&[u8]] = &[
    b"0",
    b"-1",
    b"-",
    b"1e999999",
    b"99999999999999999999999999",
    b"NaN",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\x00",
    b"\r\n",
    b"\n",
    b"\t",
    b" ",
    b"\xe2\x80\xa8",
    b"%",
    b"..",
    b"../",
    b"\x1f\x8b\x08",
    b"\x28\xb5\x2f\xfd",
    b"\xf3\x89\x9a\xc2",
];

/// Bytes that end or begin things.
const BYTES: &[u8] = b"\x00\x01\x7f\x80\xff\"\\{}[]<>&;:,=' \n\r\t-+.09eEaA/%@#";

/// An input of the corpus with one to eight changes. Most stay short, for speed; some become length bombs.
pub(super) fn mutate(dice: &mut Dice, corpus: &[Vec<u8>], tokens: &[&[u8]]) -> Vec<u8> {
    let mut input = pick(dice, corpus).cloned().unwrap_or_default();
    let bytes_max = match dice.within(0, 999) {
        0 => INPUT_BYTES_MAX,
        1..=29 => INPUT_BYTES_MAX >> 4,
        _ => INPUT_BYTES_MAX >> 8,
    };
    for _ in 0..dice.within(1, 8) {
        change(dice, &mut input, (corpus, tokens), bytes_max);
        input.truncate(bytes_max);
    }
    input
}

fn change(dice: &mut Dice, input: &mut Vec<u8>, (corpus, tokens): (&[Vec<u8>], &[&[u8]]), bytes_max: usize) {
    let at = place(dice, input.len() + 1);
    match dice.within(0, 11) {
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << dice.within(0, 7);
            }
        }
        1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = BYTES[place(dice, BYTES.len())];
            }
        }
        2 => {
            let noise: Vec<u8> = (0..dice.within(1, 8)).map(|_| dice.roll() as u8).collect();
            input.splice(at..at, noise);
        }
        3 => {
            let range = range(dice, input);
            input.drain(range);
        }
        4 => {
            let copied = input[range(dice, input)].to_vec();
            input.splice(at..at, copied);
        }
        5 | 6 => {
            let token = token(dice, tokens);
            input.splice(at..at, token.iter().copied());
        }
        7 => {
            let token = token(dice, tokens);
            let end = input.len().min(at + token.len());
            input.splice(at..end, token.iter().copied());
        }
        8 => {
            if let Some(other) = pick(dice, corpus) {
                let from = place(dice, other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
        9 => input.truncate(at),
        10 => {
            // A part again and again: a length bomb, or a nesting if it opens something.
            let part = if dice.percent(50) { token(dice, tokens).to_vec() } else { input[range(dice, input)].to_vec() };
            let room = bytes_max.saturating_sub(input.len()) / part.len().max(1);
            let times = 1 + place(dice, room.max(1));
            input.splice(at..at, part.repeat(times));
        }
        _ => {
            // A number becomes another.
            let digits = input.iter().skip(at).position(u8::is_ascii_digit).map(|from| at + from);
            if let Some(from) = digits {
                let end =
                    input[from..].iter().position(|byte| !byte.is_ascii_digit()).map_or(input.len(), |end| from + end);
                let number = dice.roll() >> dice.within(0, 63);
                input.splice(from..end, number.to_string().into_bytes());
            }
        }
    }
}

fn place(dice: &mut Dice, length: usize) -> usize {
    (dice.roll() % length as u64) as usize
}

fn pick<'a, T>(dice: &mut Dice, from: &'a [T]) -> Option<&'a T> {
    (!from.is_empty()).then(|| &from[place(dice, from.len())])
}

fn token<'a>(dice: &mut Dice, own: &[&'a [u8]]) -> &'a [u8] {
    let own = (!own.is_empty() && dice.percent(70)).then(|| own[place(dice, own.len())]);
    own.unwrap_or_else(|| TOKENS[place(dice, TOKENS.len())])
}

fn range(dice: &mut Dice, input: &[u8]) -> std::ops::Range<usize> {
    let start = place(dice, input.len() + 1);
    let end = start + place(dice, (input.len() - start + 1).min(64));
    start..end
}
