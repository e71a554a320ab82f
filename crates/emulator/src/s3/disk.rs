//! Where the bytes of objects and parts are: in memory, or as plain files under `s3/BUCKET/KEY`.
//!
//! What is not the object itself (its headers, open uploads) stands aside under `s3-meta`. A file appears by rename,
//! whole or not at all. Keys that are no file names (`..`, `a//b`, `a` beside `a/b`) go to `s3-meta/BUCKET/odd`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::store::{Bucket, Object, ObjectMeta};
use super::sums::{Algorithm, md5_hex};
use super::uploads::{Part, PartMeta, PartPlace, Upload, UploadMeta};

/// The bytes of an object or a part.
#[derive(Debug, Clone)]
pub(super) enum Blob {
    Memory(Bytes),
    File(PathBuf),
}

impl Blob {
    pub(super) fn read(&self) -> io::Result<Bytes> {
        match self {
            Blob::Memory(bytes) => Ok(bytes.clone()),
            Blob::File(path) => fs::read(path).map(Bytes::from),
        }
    }

    pub(super) fn read_range(&self, range: std::ops::Range<u64>) -> io::Result<Bytes> {
        match self {
            Blob::Memory(bytes) => Ok(bytes.slice(range.start as usize..range.end as usize)),
            Blob::File(path) => {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(range.start))?;
                let mut bytes = vec![0; (range.end - range.start) as usize];
                file.read_exact(&mut bytes)?;
                Ok(bytes.into())
            }
        }
    }
}

/// The data directory of S3.
#[derive(Debug)]
pub(super) struct Disk {
    data: PathBuf,
    meta: PathBuf,
    next_temporary: AtomicU64,
}

#[derive(Serialize, Deserialize)]
struct ObjectFile {
    key: String,
    odd: bool,
    meta: ObjectMeta,
}

#[derive(Serialize, Deserialize)]
struct UploadFile {
    key: String,
    id: String,
    meta: UploadMeta,
}

#[derive(Serialize, Deserialize)]
struct BucketFile {
    created_millis: u64,
}

impl Disk {
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let disk = Self { data: dir.join("s3"), meta: dir.join("s3-meta"), next_temporary: AtomicU64::new(0) };
        fs::create_dir_all(&disk.data)?;
        let temporary = disk.meta.join("tmp");
        if temporary.exists() {
            fs::remove_dir_all(&temporary)?;
        }
        fs::create_dir_all(temporary)?;
        Ok(disk)
    }

    pub(super) fn create_bucket(&self, bucket: &str, created_millis: u64) -> io::Result<()> {
        fs::create_dir_all(self.data.join(bucket))?;
        fs::create_dir_all(self.meta.join(bucket).join("objects"))?;
        write_json(&self.meta.join(bucket).join("bucket.json"), &BucketFile { created_millis })
    }

    pub(super) fn remove_bucket(&self, bucket: &str) -> io::Result<()> {
        fs::remove_dir_all(self.data.join(bucket))?;
        absent_is_fine(fs::remove_dir_all(self.meta.join(bucket)))
    }

    /// A file that nobody sees yet.
    pub(super) fn temporary(&self) -> io::Result<(PathBuf, File)> {
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        let path = self.meta.join("tmp").join(number.to_string());
        let file = File::create(&path)?;
        Ok((path, file))
    }

    /// Puts a finished file in the object's place.
    pub(super) fn place(&self, bucket: &str, key: &str, from: &Path, meta: &ObjectMeta) -> io::Result<Blob> {
        let plain = plain_path(&self.data.join(bucket), key).filter(|path| {
            path.parent().is_some_and(|parent| fs::create_dir_all(parent).is_ok()) && fs::rename(from, path).is_ok()
        });
        let odd = plain.is_none();
        let path = match plain {
            Some(path) => path,
            None => {
                let path = self.odd_path(bucket, key);
                fs::create_dir_all(self.meta.join(bucket).join("odd"))?;
                fs::rename(from, &path)?;
                path
            }
        };
        let file = ObjectFile { key: key.to_owned(), odd, meta: meta.clone() };
        write_json(&self.sidecar(bucket, key), &file)?;
        Ok(Blob::File(path))
    }

    /// Removes an object, and the directories that it leaves empty.
    pub(super) fn remove_object(&self, bucket: &str, key: &str, blob: &Blob) -> io::Result<()> {
        let Blob::File(path) = blob else { return Ok(()) };
        absent_is_fine(fs::remove_file(self.sidecar(bucket, key)))?;
        absent_is_fine(fs::remove_file(path))?;
        let root = self.data.join(bucket);
        let mut parent = path.parent();
        while let Some(dir) = parent.filter(|dir| *dir != root && dir.starts_with(&root)) {
            if fs::remove_dir(dir).is_err() {
                break;
            }
            parent = dir.parent();
        }
        Ok(())
    }

    pub(super) fn create_upload(&self, bucket: &str, key: &str, id: &str, meta: &UploadMeta) -> io::Result<()> {
        let dir = self.upload_dir(bucket, id);
        fs::create_dir_all(&dir)?;
        let file = UploadFile { key: key.to_owned(), id: id.to_owned(), meta: meta.clone() };
        write_json(&dir.join("upload.json"), &file)
    }

    pub(super) fn remove_upload(&self, bucket: &str, id: &str) -> io::Result<()> {
        absent_is_fine(fs::remove_dir_all(self.upload_dir(bucket, id)))
    }

    pub(super) fn place_part(&self, place: PartPlace<'_>, from: &Path, meta: &PartMeta) -> io::Result<Blob> {
        let dir = self.upload_dir(place.bucket, place.upload_id);
        let path = dir.join(format!("part-{:05}", place.number));
        fs::rename(from, &path)?;
        write_json(&dir.join(format!("part-{:05}.json", place.number)), meta)?;
        Ok(Blob::File(path))
    }

    /// Everything that an earlier run left, and files that were put under `s3/BUCKET` by hand.
    pub(super) fn load(&self) -> io::Result<BTreeMap<String, Bucket>> {
        let mut buckets = BTreeMap::new();
        for entry in fs::read_dir(&self.data)? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|_| path.is_dir()) else {
                continue;
            };
            let file = read_json::<BucketFile>(&self.meta.join(name).join("bucket.json"));
            let created_millis = file.map_or(0, |file| file.created_millis);
            self.create_bucket(name, created_millis)?;
            let mut bucket = Bucket { created_millis, ..Bucket::default() };
            self.load_objects(name, &mut bucket)?;
            adopt(&path, &path, &mut bucket)?;
            self.load_uploads(name, &mut bucket)?;
            buckets.insert(name.to_owned(), bucket);
        }
        Ok(buckets)
    }

    fn load_objects(&self, name: &str, bucket: &mut Bucket) -> io::Result<()> {
        for entry in fs::read_dir(self.meta.join(name).join("objects"))? {
            let sidecar = entry?.path();
            let Some(file) = read_json::<ObjectFile>(&sidecar) else { continue };
            let path = if file.odd {
                Some(self.odd_path(name, &file.key))
            } else {
                plain_path(&self.data.join(name), &file.key)
            };
            let kept = path.filter(|path| fs::metadata(path).is_ok_and(|found| found.len() == file.meta.size));
            match kept {
                Some(path) => {
                    bucket.objects.insert(file.key, Object { meta: file.meta, blob: Blob::File(path) });
                }
                // The file is gone, or is no longer the one that was described.
                None => absent_is_fine(fs::remove_file(sidecar))?,
            }
        }
        Ok(())
    }

    fn load_uploads(&self, name: &str, bucket: &mut Bucket) -> io::Result<()> {
        let dir = self.meta.join(name).join("uploads");
        if !dir.exists() {
            return Ok(());
        }
        for entry in fs::read_dir(dir)? {
            let dir = entry?.path();
            let Some(file) = read_json::<UploadFile>(&dir.join("upload.json")) else { continue };
            let mut upload = Upload { meta: file.meta, parts: BTreeMap::new() };
            for entry in fs::read_dir(&dir)? {
                let path = entry?.path();
                let number = path.file_stem().and_then(|stem| stem.to_str()?.strip_prefix("part-")?.parse().ok());
                let described = path.extension().is_some_and(|extension| extension == "json");
                if let (Some(number), true, Some(meta)) = (number, described, read_json::<PartMeta>(&path)) {
                    upload.parts.insert(number, Part { meta, blob: Blob::File(path.with_extension("")) });
                }
            }
            bucket.uploads.insert((file.key, file.id), upload);
        }
        Ok(())
    }

    fn upload_dir(&self, bucket: &str, id: &str) -> PathBuf {
        self.meta.join(bucket).join("uploads").join(id)
    }

    fn sidecar(&self, bucket: &str, key: &str) -> PathBuf {
        self.meta.join(bucket).join("objects").join(md5_hex(key.as_bytes()) + ".json")
    }

    fn odd_path(&self, bucket: &str, key: &str) -> PathBuf {
        self.meta.join(bucket).join("odd").join(md5_hex(key.as_bytes()))
    }
}

/// The file that is this key's, unless the key is no file name.
fn plain_path(root: &Path, key: &str) -> Option<PathBuf> {
    let fits = |part: &str| {
        !part.is_empty() && part != "." && part != ".." && part.len() <= 255 && !part.contains(['\0', '\\'])
    };
    key.split('/').all(fits).then(|| root.join(key))
}

/// Takes in files that have no description: their ETag and checksum are computed.
fn adopt(root: &Path, dir: &Path, bucket: &mut Bucket) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            adopt(root, &path, bucket)?;
            continue;
        }
        let Some(key) = path.strip_prefix(root).ok().and_then(Path::to_str).map(str::to_owned) else { continue };
        if bucket.objects.contains_key(&key) {
            continue;
        }
        let bytes = fs::read(&path)?;
        let meta = ObjectMeta {
            size: bytes.len() as u64,
            etag: md5_hex(&bytes),
            modified_millis: bucket.created_millis,
            sum: Some(Algorithm::Crc64Nvme.of([bytes.as_slice()])),
            ..ObjectMeta::default()
        };
        bucket.objects.insert(key, Object { meta, blob: Blob::File(path) });
    }
    Ok(())
}

fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    fs::rename(temporary, path)
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}
