//! Tests against the emulator, in process.
