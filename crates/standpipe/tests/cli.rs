//! The program as its users meet it: whole transcripts, `tests/cli/*.trycmd`, each in a copy of the folder beside it.
//!
//! `TRYCMD=overwrite cargo test -p standpipe --test cli` writes what the program prints now; read the difference.

#[test]
fn transcripts() {
    let cases = trycmd::TestCases::new();
    // The width of help must not come from whoever runs this; an empty variable counts as not set.
    cases.env("COLUMNS", "100").env("NO_COLOR", "1").env("STANDPIPE_LOG", "").env("RUST_LOG", "");
    cases.insert_var("[VERSION]", env!("CARGO_PKG_VERSION")).expect("a name in brackets");
    cases.case("tests/cli/*.trycmd");
}
