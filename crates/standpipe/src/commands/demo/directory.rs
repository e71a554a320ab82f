//! The demo's directory: emptied first if an earlier demo made it, and otherwise not touched.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// The file that says whose directory it is.
const MARKER: &str = ".made-by-standpipe-demo";

/// Makes the directory, or empties it.
///
/// # Errors
/// When it holds anything and no demo made it, or cannot be written.
pub fn prepare(dir: &Path) -> Result<()> {
    let shown = dir.display();
    match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir_all(dir).with_context(|| format!("cannot make {shown}"))?;
        }
        Err(error) => return Err(error).with_context(|| format!("cannot use {shown} for the demo")),
        Ok(_) if dir.join(MARKER).is_file() => empty(dir).with_context(|| format!("cannot empty {shown}"))?,
        Ok(mut entries) => {
            if entries.next().is_some() {
                bail!(
                    "{shown} holds something that no demo made, and the demo would empty it\n  \
                     choose another directory: standpipe demo --dir DIR"
                );
            }
        }
    }
    fs::write(dir.join(MARKER), "standpipe demo empties this directory before it begins\n")
        .with_context(|| format!("cannot write into {shown}"))
}

/// Removes everything but the marker, which goes on saying whose it is if this is interrupted.
fn empty(dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name() == MARKER {
            continue;
        }
        // A link is removed, never followed.
        if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
    }
    Ok(())
}

/// The log of the demo, a new file.
pub fn log_file(dir: &Path) -> Result<File> {
    let path = dir.join("standpipe.log");
    File::create(&path).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_demo_made_is_emptied() {
        let place = tempfile::tempdir().expect("a temporary directory");
        let dir = place.path().join("deep/demo");
        prepare(&dir).expect("it is made");
        fs::create_dir(dir.join("s3")).expect("made");
        fs::write(dir.join("s3/x.parquet"), "x").expect("written");
        prepare(&dir).expect("it is a demo's");
        assert!(!dir.join("s3").exists());
        assert!(dir.join(MARKER).exists());

        let other = place.path().join("other");
        fs::create_dir(&other).expect("made");
        prepare(&other).expect("it is empty");
        fs::remove_file(other.join(MARKER)).expect("removed");
        fs::write(other.join("thesis.tex"), "x").expect("written");
        let refusal = prepare(&other).expect_err("it is not a demo's");
        assert!(refusal.to_string().contains("no demo made"), "{refusal}");
        assert!(other.join("thesis.tex").exists());
    }

    #[test]
    fn a_file_is_no_directory() {
        let place = tempfile::NamedTempFile::new().expect("a temporary file");
        assert!(prepare(place.path()).is_err());
    }
}
