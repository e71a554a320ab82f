//! Every bound on what a configuration may say, each with its source. Bounds that a service sets say which; the others
//! are ours and say why.

/// Characters of a prefix as written: Firehose's API (`Prefix`, `ErrorOutputPrefix`: at most 1,024).
pub const PREFIX_CHARS_MAX: usize = 1024;
/// Nested `[` in a date pattern. Ours: no real pattern has more than a few, and the reader must end.
pub const PATTERN_DEPTH_MAX: usize = 16;
/// Width of `p` in a date pattern. Ours: a key has at most 1,024 bytes (S3).
pub const PATTERN_PAD_MAX: usize = 64;
