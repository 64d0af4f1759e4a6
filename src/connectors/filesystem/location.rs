//! Where files are: local disks and S3-compatible stores behind one small interface.
//!
//! Local files go through the standard library (positioned reads, atomic renames), stores through `object_store`.
//! Everything that reads content is blocking and meant for the blocking pool; listing and metadata are async.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use futures::TryStreamExt;
use object_store::multipart::MultipartStore;
use object_store::path::Path as StorePath;
use object_store::{ObjectStore, ObjectStoreExt};

use super::pipe::{Pipe, is_pipe};
use crate::edges::{ConnectorEnv, s3};
use crate::error::{Error, Result, ResultExt};
use crate::options::Options;

/// A root folder, file or pattern given by the option `path`.
#[derive(Debug, Clone)]
pub(super) struct Location {
    /// As given, for messages.
    pub(super) given: String,
    /// Absolute path, or key within the bucket; no slash at the end.
    pub(super) path: String,
    pub(super) store: Store,
}

/// What holds the files.
#[derive(Clone)]
pub(super) enum Store {
    /// The local file system.
    Local,
    /// A bucket.
    Bucket {
        /// `s3://bucket`
        url: String,
        store: Arc<dyn ObjectStore>,
        /// The same store.
        uploads: Arc<dyn MultipartStore>,
    },
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Store::Local => f.write_str("Local"),
            Store::Bucket { url, .. } => f.write_str(url),
        }
    }
}

/// A file that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileEntry {
    /// Absolute path, or key within the bucket.
    pub(super) path: String,
    /// Bytes as stored.
    pub(super) size: u64,
    /// Milliseconds since the epoch.
    pub(super) modified: i64,
    /// Read once from its beginning, and of unknown size.
    pub(super) pipe: bool,
}

impl Location {
    /// Understands the option `path`; store settings are taken from the table options, then the session, then the
    /// environment.
    ///
    /// # Errors
    /// Validation for an empty path, Unsupported for an unknown scheme.
    pub(super) fn new(given: &str, options: &Options, env: &ConnectorEnv) -> Result<Self> {
        let text = given.trim();
        if text.is_empty() {
            return Err(options.invalid("path", given, "a file, folder or pattern"));
        }
        let scheme = text.split_once("://").map(|(s, _)| s.to_ascii_lowercase());
        if s3::is_s3(text) {
            let rest = text.split_once("://").map_or("", |(_, r)| r);
            let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err(options.invalid("path", given, "s3://bucket/key"));
            }
            let setting = |key: &str| options.take(key).or_else(|| env.config.get(key).cloned());
            let store = s3::bucket(bucket, &setting)?;
            return Ok(Location {
                given: given.to_owned(),
                path: key.trim_matches('/').to_owned(),
                store: Store::Bucket { url: format!("s3://{bucket}"), store: store.clone(), uploads: store },
            });
        }
        let local = match (scheme.as_deref(), text.strip_prefix("file:")) {
            (Some("file"), Some(rest)) | (None, Some(rest)) => {
                PathBuf::from(rest.strip_prefix("//").unwrap_or(rest))
            }
            (Some(other), _) => {
                return Err(Error::unsupported(format!("there is no file system for '{other}://'"))
                    .hint("supported: local paths, file:// and s3://"));
            }
            (None, None) => env.base_dir.join(text),
        };
        let path = std::path::absolute(&local).context(|| format!("path '{given}'"))?;
        let path = path.to_str().ok_or_else(|| options.invalid("path", given, "a path in UTF-8"))?;
        let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
        Ok(Location { given: given.to_owned(), path: path.to_owned(), store: Store::Local })
    }

    /// The path of something below it.
    pub(super) fn join(&self, relative: &str) -> String {
        if self.path.is_empty() { relative.to_owned() } else { format!("{}/{relative}", self.path) }
    }
}

impl Store {
    /// A path as people know it: absolute, or with `s3://bucket/` in front.
    pub(super) fn display(&self, path: &str) -> String {
        match self {
            Store::Local => path.to_owned(),
            Store::Bucket { url, .. } => format!("{url}/{path}"),
        }
    }

    /// The entry of one file; `None` if there is none (or it is a folder).
    pub(super) async fn stat(&self, path: &str) -> Result<Option<FileEntry>> {
        match self {
            Store::Local => match tokio::fs::metadata(path).await {
                Ok(m) if m.is_dir() => Ok(None),
                Ok(m) => Ok(Some(local_entry(path.to_owned(), &m))),
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(Error::from(e).context(path.to_owned())),
            },
            Store::Bucket { store, .. } => {
                if path.is_empty() {
                    return Ok(None);
                }
                match store.head(&key(path)).await {
                    Ok(meta) => Ok(Some(FileEntry {
                        path: path.to_owned(),
                        size: meta.size,
                        modified: meta.last_modified.timestamp_millis(),
                        pipe: false,
                    })),
                    Err(object_store::Error::NotFound { .. }) => Ok(None),
                    Err(e) => Err(Error::from(e).context(self.display(path))),
                }
            }
        }
    }

    /// All files below a folder at any depth, hidden ones left out, sorted by path; `None` if there is no such folder.
    pub(super) async fn list(&self, folder: &str) -> Result<Option<Vec<FileEntry>>> {
        match self {
            Store::Local => {
                let root = PathBuf::from(folder);
                if !tokio::fs::metadata(&root).await.is_ok_and(|m| m.is_dir()) {
                    return Ok(None);
                }
                let mut files = tokio::task::spawn_blocking(move || {
                    let mut files = Vec::new();
                    list_local(&root, &mut files).map(|()| files)
                })
                .await??;
                files.sort_by(|a, b| a.path.cmp(&b.path));
                Ok(Some(files))
            }
            Store::Bucket { store, .. } => {
                let prefix = (!folder.is_empty()).then(|| key(folder));
                let all: Vec<_> = store
                    .list(prefix.as_ref())
                    .try_collect()
                    .await
                    .map_err(|e| Error::from(e).context(self.display(folder)))?;
                let skip = if folder.is_empty() { 0 } else { folder.len() + 1 };
                let mut files: Vec<FileEntry> = all
                    .into_iter()
                    .map(|m| FileEntry {
                        path: m.location.to_string(),
                        size: m.size,
                        modified: m.last_modified.timestamp_millis(),
                        pipe: false,
                    })
                    .filter(|f| f.path.get(skip..).is_some_and(|rest| !rest.split('/').any(is_hidden_name)))
                    .collect();
                if files.is_empty() && skip > 0 {
                    return Ok(None); // stores have no empty folders
                }
                files.sort_by(|a, b| a.path.cmp(&b.path));
                Ok(Some(files))
            }
        }
    }

    /// Opens a file for sequential reading from `offset` (blocking).
    pub(super) fn open(&self, file: &FileEntry, offset: u64) -> Result<StoreReader> {
        let path = file.path.as_str();
        Ok(match self {
            Store::Local if file.pipe && offset > 0 => {
                return Err(Error::external("a pipe cannot be read again from its middle"));
            }
            Store::Local if file.pipe => StoreReader::Pipe(Pipe::open(path)?),
            Store::Local => {
                let mut file = std::fs::File::open(path).context(|| path.to_owned())?;
                if offset > 0 {
                    io::Seek::seek(&mut file, io::SeekFrom::Start(offset)).context(|| path.to_owned())?;
                }
                StoreReader::Local(file)
            }
            Store::Bucket { store, .. } => StoreReader::Store {
                store: store.clone(),
                path: key(path),
                runtime: tokio::runtime::Handle::current(),
                offset,
                buffer: bytes::Bytes::new(),
            },
        })
    }

    /// Reads a range of a file (blocking).
    pub(super) fn read_range(&self, path: &str, start: u64, length: usize) -> io::Result<bytes::Bytes> {
        match self {
            Store::Local => {
                let file = std::fs::File::open(path)?;
                let mut buffer = vec![0; length];
                std::os::unix::fs::FileExt::read_exact_at(&file, &mut buffer, start)?;
                Ok(buffer.into())
            }
            Store::Bucket { store, .. } => {
                let range = start..start + length as u64;
                let path = key(path);
                Ok(tokio::runtime::Handle::current().block_on(store.get_range(&path, range))?)
            }
        }
    }
}

impl Store {
    /// Makes a folder; true if it was not there.
    pub(super) async fn create_folder(&self, path: &str) -> Result<bool> {
        if let Store::Bucket { .. } = self {
            return Ok(false); // stores have no folders
        }
        let existed = tokio::fs::try_exists(path).await.unwrap_or(false);
        tokio::fs::create_dir_all(path).await.context(|| format!("folder {path}"))?;
        Ok(!existed)
    }

    /// Removes a file.
    pub(super) async fn remove(&self, path: &str) -> Result<()> {
        let removed = match self {
            Store::Local => match tokio::fs::remove_file(path).await {
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other.map_err(Error::from),
            },
            Store::Bucket { store, .. } => store.delete(&key(path)).await.map_err(Error::from),
        };
        removed.context(|| format!("file {}", self.display(path)))
    }

    /// Writes an empty file.
    pub(super) async fn put_empty(&self, path: &str) -> Result<()> {
        let put = match self {
            Store::Local => tokio::fs::write(path, b"").await.map_err(Error::from),
            Store::Bucket { store, .. } => {
                let put = store.put(&key(path), bytes::Bytes::new().into()).await;
                put.map(|_| ()).map_err(Error::from)
            }
        };
        put.context(|| format!("file {}", self.display(path)))
    }

    /// Removes a folder if it and those within it are empty. A folder in use stays; what fails is left as it is.
    pub(super) async fn remove_empty_folders(&self, path: &str) {
        if let Store::Local = self {
            let path = PathBuf::from(path);
            tokio::task::spawn_blocking(move || remove_empty(&path)).await.ok();
        }
    }

    /// Removes the folders whose paths begin with `prefix`, all but `own`, with what is in them.
    pub(super) async fn remove_dead(&self, prefix: &str, own: &str) {
        let Store::Local = self else { return };
        let (prefix, own) = (prefix.to_owned(), own.to_owned());
        let remove = move || {
            let Some((folder, _)) = prefix.rsplit_once('/') else { return };
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                let is_dead = path.to_str().is_some_and(|p| p.starts_with(&prefix) && p != own);
                if is_dead && path.is_dir() {
                    std::fs::remove_dir_all(&path).ok();
                }
            }
        };
        tokio::task::spawn_blocking(remove).await.ok();
    }

    /// Removes a folder if it is empty.
    pub(super) async fn remove_if_empty(&self, path: &str) {
        if let Store::Local = self {
            tokio::fs::remove_dir(path).await.ok();
        }
    }
}

fn remove_empty(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    std::fs::remove_dir(folder).ok();
}

/// The path of an object, taken as it is: `StorePath::from` would encode what is encoded already.
pub(super) fn key(path: &str) -> StorePath {
    StorePath::parse(path).unwrap_or_else(|_| StorePath::from(path))
}

/// Names that begin with `_` or `.` are not data.
pub(super) fn is_hidden_name(name: &str) -> bool {
    name.starts_with(['_', '.'])
}

fn local_entry(path: String, m: &std::fs::Metadata) -> FileEntry {
    let modified = m.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    FileEntry {
        path,
        size: m.len(),
        modified: modified.and_then(|d| i64::try_from(d.as_millis()).ok()).unwrap_or(0),
        pipe: is_pipe(m),
    }
}

fn list_local(folder: &Path, files: &mut Vec<FileEntry>) -> Result<()> {
    let shown = || folder.display().to_string();
    for entry in std::fs::read_dir(folder).context(shown)? {
        let entry = entry.context(shown)?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            return Err(Error::external(format!("the name of {} is not UTF-8", entry.path().display())));
        };
        if is_hidden_name(name) {
            continue;
        }
        let path = entry.path();
        // Follows symbolic links, as readers do.
        let metadata = match std::fs::metadata(&path) {
            Ok(m) => m,
            // Removed since the folder was read.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(Error::from(e).context(path.display().to_string())),
        };
        if metadata.is_dir() {
            list_local(&path, files)?;
        } else if metadata.is_file()
            && let Some(text) = path.to_str()
        {
            files.push(local_entry(text.to_owned(), &metadata));
        }
    }
    Ok(())
}

/// Sequential reader of a file.
pub(super) enum StoreReader {
    Local(std::fs::File),
    Pipe(Pipe),
    Store {
        store: Arc<dyn ObjectStore>,
        path: StorePath,
        runtime: tokio::runtime::Handle,
        offset: u64,
        buffer: bytes::Bytes,
    },
}

/// Bytes per request to a store.
const REQUEST: u64 = 8 << 20;

impl Read for StoreReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            StoreReader::Local(file) => file.read(out),
            StoreReader::Pipe(pipe) => pipe.read(out),
            StoreReader::Store { store, path, runtime, offset, buffer } => {
                if buffer.is_empty() && !out.is_empty() {
                    *buffer = match runtime.block_on(store.get_range(path, *offset..*offset + REQUEST)) {
                        Ok(bytes) => bytes,
                        Err(e) => {
                            // A range that begins at the end of the object is refused by stores.
                            let size = runtime.block_on(store.head(path)).map_err(io::Error::from)?.size;
                            if *offset < size {
                                return Err(e.into());
                            }
                            return Ok(0);
                        }
                    };
                    *offset += buffer.len() as u64;
                }
                let n = buffer.len().min(out.len());
                let taken = buffer.split_to(n);
                if let Some(target) = out.get_mut(..n) {
                    target.copy_from_slice(&taken);
                }
                Ok(n)
            }
        }
    }
}
