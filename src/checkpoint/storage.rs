//! A folder on a local disk or in a bucket, with what checkpoints need of it: files that are created once, durable when
//! that has been said, and never changed.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path as StorePath;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use crate::edges::s3::{self, is_s3};
use crate::error::{Error, Result, ResultExt};

/// End of the names of files under way.
const UNFINISHED: &str = ".tmp";

/// See the module. Paths within are relative, with slashes.
#[derive(Clone)]
pub struct Storage {
    /// As it was given, for messages.
    url: String,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Local(PathBuf),
    Bucket { prefix: String, store: Arc<dyn ObjectStore> },
}

/// Held for as long as it lives; the operating system lets go of it when the process dies, however it dies.
#[derive(Debug)]
pub struct FolderLock(#[expect(dead_code, reason = "closing the file gives the lock back")] File);

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl Storage {
    /// The folder `url`: a path, `file://…` or `s3://bucket/…`; `setting` gives the options of the store.
    ///
    /// # Errors
    /// Unsupported for another scheme, Validation for settings that make no sense.
    pub fn open(url: &str, base_dir: &Path, setting: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let url = url.trim();
        let url = if url.ends_with("://") { url } else { url.trim_end_matches('/') };
        if is_s3(url) {
            let rest = url.split_once("://").map_or("", |(_, rest)| rest);
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err(Error::validation(format!("there is no bucket in '{url}'"))
                    .hint("a folder of a bucket is written s3://bucket/folder"));
            }
            let store: Arc<dyn ObjectStore> = s3::bucket(bucket, setting)?;
            return Ok(Self::in_bucket(url, prefix, store));
        }
        let path = match url.strip_prefix("file:") {
            Some(rest) => rest.strip_prefix("//").unwrap_or(rest),
            None if url.contains("://") => {
                return Err(Error::unsupported(format!("checkpoints cannot be kept in '{url}'"))
                    .hint("supported: local paths, file:// and s3://"));
            }
            None => url,
        };
        Ok(Storage { url: url.to_owned(), kind: Kind::Local(std::path::absolute(base_dir.join(path))?) })
    }

    /// A folder of an object store.
    pub fn in_bucket(url: &str, prefix: &str, store: Arc<dyn ObjectStore>) -> Self {
        let prefix = prefix.trim_matches('/').to_owned();
        Storage { url: url.to_owned(), kind: Kind::Bucket { prefix, store } }
    }

    /// A folder within it.
    #[must_use]
    pub fn folder(&self, name: &str) -> Self {
        let kind = match &self.kind {
            Kind::Local(path) => Kind::Local(path.join(name)),
            Kind::Bucket { prefix, store } => {
                let prefix = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
                Kind::Bucket { prefix, store: store.clone() }
            }
        };
        Storage { url: format!("{}/{name}", self.url), kind }
    }

    /// The same, known by a name that means the same to every process of this machine.
    #[must_use]
    pub fn absolute(mut self) -> Self {
        if let Kind::Local(path) = &self.kind {
            self.url = path.to_string_lossy().into_owned();
        }
        self
    }

    /// Whether it is the same folder as another.
    pub fn same_place(&self, other: &Storage) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Local(path), Kind::Local(other)) => path == other,
            (Kind::Bucket { .. }, Kind::Bucket { .. }) => self.url == other.url,
            _ => false,
        }
    }

    /// The folder that it lies in; `None` for the root of a bucket or a disk.
    pub fn parent(&self) -> Option<Self> {
        let (url, _) = self.url.rsplit_once('/').unwrap_or((".", ""));
        let kind = match &self.kind {
            Kind::Local(path) => Kind::Local(path.parent()?.to_owned()),
            Kind::Bucket { prefix, store } if !prefix.is_empty() => {
                let above = prefix.rsplit_once('/').map_or("", |(above, _)| above);
                Kind::Bucket { prefix: above.to_owned(), store: store.clone() }
            }
            Kind::Bucket { .. } => return None,
        };
        Some(Storage { url: url.to_owned(), kind })
    }

    /// Copies a file into a new folder under the same path, where it may be already from an attempt before. Between folders
    /// of one disk it becomes a second name of the same file, as files are never changed.
    ///
    /// # Errors
    /// External, also if the file is gone.
    pub async fn copy(&self, path: &str, to: &Storage) -> Result<()> {
        let is_made = match (&self.kind, &to.kind) {
            (Kind::Local(from), Kind::Local(to)) => {
                let (from, to) = (from.join(path), to.join(path));
                tokio::task::spawn_blocking(move || link_local(&from, &to)).await?
            }
            _ => false,
        };
        if is_made {
            return Ok(());
        }
        let bytes = self.read(path).await?;
        let bytes = bytes.ok_or_else(|| Error::external("the file is gone").context(self.shown(path)))?;
        to.create(path, bytes).await.map(|_| ())
    }

    /// Whether its files travel over a network.
    pub fn is_remote(&self) -> bool {
        matches!(self.kind, Kind::Bucket { .. })
    }

    /// A file as people know it.
    pub fn shown(&self, path: &str) -> String {
        format!("{}/{path}", self.url)
    }

    /// Creates a file; `false` if it is there already. When this returns, the file is durable and whole.
    ///
    /// # Errors
    /// External.
    pub async fn create(&self, path: &str, bytes: Bytes) -> Result<bool> {
        let created = match &self.kind {
            Kind::Local(root) => {
                let target = root.join(path);
                tokio::task::spawn_blocking(move || create_local(&target, &bytes)).await?.map_err(explain)
            }
            Kind::Bucket { prefix, store } => {
                let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
                match store.put_opts(&key(prefix, path), bytes.into(), options).await {
                    Ok(_) => Ok(true),
                    Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
                    Err(e) => Err(e.into()),
                }
            }
        };
        created.context(|| self.shown(path))
    }

    /// Reads a file; `None` if there is none.
    ///
    /// # Errors
    /// External.
    pub async fn read(&self, path: &str) -> Result<Option<Bytes>> {
        let read = match &self.kind {
            Kind::Local(root) => match tokio::fs::read(root.join(path)).await {
                Ok(bytes) => Ok(Some(bytes.into())),
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(explain(e)),
            },
            Kind::Bucket { prefix, store } => match store.get(&key(prefix, path)).await {
                Ok(found) => found.bytes().await.map(Some).map_err(Error::from),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(e) => Err(e.into()),
            },
        };
        read.context(|| self.shown(path))
    }

    /// Paths of all files of a folder at any depth, sorted; files under way are left out.
    ///
    /// # Errors
    /// External.
    pub async fn list(&self, folder: &str) -> Result<Vec<String>> {
        let listed = match &self.kind {
            Kind::Local(root) => {
                let (root, folder) = (root.clone(), folder.to_owned());
                let listed = tokio::task::spawn_blocking(move || {
                    let mut found = Vec::new();
                    list_local(&root, &folder, &mut found).map(|()| found)
                });
                listed.await?.map_err(explain)
            }
            Kind::Bucket { prefix, store } => {
                let below = key(prefix, folder);
                let skip = if prefix.is_empty() { 0 } else { prefix.len() + 1 };
                let all: Result<Vec<_>, _> = store.list(Some(&below)).try_collect().await;
                all.map_err(Error::from).map(|all| {
                    let path =
                        |m: object_store::ObjectMeta| m.location.as_ref().get(skip..).map(str::to_owned);
                    all.into_iter().filter_map(path).collect()
                })
            }
        };
        let mut files: Vec<String> = listed.context(|| self.shown(folder))?;
        files.retain(|f| !f.ends_with(UNFINISHED));
        files.sort();
        Ok(files)
    }

    /// Names of the folders in a folder, sorted.
    ///
    /// # Errors
    /// External.
    pub async fn folders(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> = match &self.kind {
            Kind::Local(root) => {
                let entries = match fs::read_dir(root) {
                    Ok(entries) => entries,
                    Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                    Err(e) => return Err(explain(e).context(self.url.clone())),
                };
                let folder = |e: fs::DirEntry| e.path().is_dir().then(|| e.file_name().into_string().ok());
                entries.filter_map(|e| e.ok().and_then(folder).flatten()).collect()
            }
            Kind::Bucket { prefix, store } => {
                let below = (!prefix.is_empty()).then(|| StorePath::from(prefix.as_str()));
                let listed = store.list_with_delimiter(below.as_ref()).await;
                let listed = listed.map_err(|e| Error::from(e).context(self.url.clone()))?;
                listed.common_prefixes.iter().filter_map(|p| p.filename().map(str::to_owned)).collect()
            }
        };
        names.sort();
        Ok(names)
    }

    /// Removes a file; it may be gone already.
    ///
    /// # Errors
    /// External.
    pub async fn remove(&self, path: &str) -> Result<()> {
        let removed = match &self.kind {
            Kind::Local(root) => match tokio::fs::remove_file(root.join(path)).await {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(explain(e)),
                _ => {
                    // The folder goes with its last file, and so on up to the root.
                    let (root, mut folder) = (root.clone(), root.join(path));
                    while folder.pop() && folder != root && tokio::fs::remove_dir(&folder).await.is_ok() {}
                    Ok(())
                }
            },
            Kind::Bucket { prefix, store } => match store.delete(&key(prefix, path)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(e) => Err(e.into()),
            },
        };
        removed.context(|| self.shown(path))
    }

    /// Takes the lock `path`, with `holder` in it for others to read; `Err` is what the present holder wrote. Buckets have
    /// no locks.
    ///
    /// # Errors
    /// External.
    pub fn lock(&self, path: &str, holder: &str) -> Result<std::result::Result<Option<FolderLock>, String>> {
        let Kind::Local(root) = &self.kind else { return Ok(Ok(None)) };
        let path = root.join(path);
        let failed = |e: io::Error| explain(e).context(path.display().to_string());
        fs::create_dir_all(root).map_err(failed)?;
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0).map_err(failed)?;
                (&file).write_all(holder.as_bytes()).map_err(failed)?;
                Ok(Ok(Some(FolderLock(file))))
            }
            Err(fs::TryLockError::WouldBlock) => Ok(Err(fs::read_to_string(&path).unwrap_or_default())),
            Err(fs::TryLockError::Error(e)) => Err(failed(e)),
        }
    }
}

fn key(prefix: &str, path: &str) -> StorePath {
    StorePath::from(format!("{prefix}/{path}"))
}

/// Explains the errors that people meet when they write.
fn explain(e: io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::external(format!("the disk is full: {e}")).hint("free some space")
        }
        _ => Error::external(e.to_string()).caused_by(e),
    }
}

/// The whole file appears under its name at once, or does not.
fn create_local(target: &Path, bytes: &[u8]) -> io::Result<bool> {
    static UNIQUE: AtomicU64 = AtomicU64::new(0);
    let folder = target.parent().unwrap_or(target);
    fs::create_dir_all(folder)?;
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let unique = UNIQUE.fetch_add(1, Ordering::Relaxed);
    let unfinished = folder.join(format!(".{name}.{}-{unique}{UNFINISHED}", std::process::id()));
    let written = (|| {
        let mut file = File::create(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        match fs::hard_link(&unfinished, target) {
            Ok(()) => {
                File::open(folder)?.sync_all()?;
                Ok(true)
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            // Some file systems have no links. There the lock of the folder has to do.
            Err(_) if !target.exists() => fs::rename(&unfinished, target).map(|()| true),
            Err(e) => Err(e),
        }
    })();
    // If the process dies before this, the next one that collects finds it.
    let _ = fs::remove_file(&unfinished);
    written
}

/// Gives a file a second name; `false` if that cannot be done here.
fn link_local(from: &Path, to: &Path) -> bool {
    let folder = to.parent().unwrap_or(to);
    let linked = fs::create_dir_all(folder).and_then(|()| fs::hard_link(from, to));
    linked.and_then(|()| File::open(folder)?.sync_all()).is_ok()
}

fn list_local(root: &Path, folder: &str, found: &mut Vec<String>) -> io::Result<()> {
    let entries = match fs::read_dir(root.join(folder)) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = format!("{folder}/{name}");
        if entry.file_type()?.is_dir() { list_local(root, &path, found)? } else { found.push(path) }
    }
    Ok(())
}
