//! Making finished part files visible, once.
//!
//! A committable names staged files and the names they get. Every step can be done again: a file that was renamed
//! already is left alone, an upload that was completed already counts as done.

use async_trait::async_trait;
use object_store::ObjectStoreExt;
use object_store::multipart::PartId;
use serde::{Deserialize, Serialize};

use super::location::{Store, key};
use super::sink::FilesystemSink;
use super::trigger::{PendingPartitions, WriterTime, now_millis};
use crate::edges::{Committable, SinkCommitter};
use crate::error::{Error, Result, ResultExt};
use crate::failpoint::failpoint;
use crate::stream::Epoch;

/// A file that is complete and not visible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum StagedFile {
    /// To be renamed.
    Local { staged: String, path: String },
    /// To be completed.
    Upload { path: String, id: String, parts: Vec<String> },
}

/// What a writer hands over.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Committed {
    pub(super) run: String,
    pub(super) overwrite: bool,
    pub(super) files: Vec<StagedFile>,
    /// How far the writer is, when it has changed and matters.
    #[serde(default)]
    pub(super) time: Option<WriterTime>,
}

impl Committed {
    pub(super) fn encode(&self) -> Result<Committable> {
        serde_json::to_vec(self).map_err(|e| Error::internal(e.to_string()))
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|e| {
            Error::data(format!("the checkpoint holds files to commit that are not understood: {e}"))
        })
    }
}

impl StagedFile {
    fn path(&self) -> &str {
        match self {
            StagedFile::Local { path, .. } | StagedFile::Upload { path, .. } => path,
        }
    }

    /// `again`: it may have been done before, and whoever wanted the file may have taken it away since.
    async fn commit(&self, store: &Store, again: bool) -> Result<()> {
        match (self, store) {
            (StagedFile::Local { staged, path }, Store::Local) => {
                let (staged, path) = (staged.clone(), path.clone());
                tokio::task::spawn_blocking(move || rename(&staged, &path, again)).await?
            }
            (StagedFile::Upload { path, id, parts }, Store::Bucket { uploads, store, .. }) => {
                let path = key(path);
                let parts = parts.iter().map(|p| PartId { content_id: p.clone() }).collect();
                match uploads.complete_multipart(&path, id, parts).await {
                    Ok(_) => Ok(()),
                    // Completed before: names are unique, so what is there is this file.
                    Err(_) if store.head(&path).await.is_ok() => Ok(()),
                    Err(e) => Err(e.into()),
                }
            }
            _ => Err(Error::internal("a staged file of another store")),
        }
    }

    /// Removes it, whether it is there or not.
    pub(super) async fn discard(&self, store: &Store) {
        match (self, store) {
            (StagedFile::Local { staged, .. }, _) => {
                tokio::fs::remove_file(staged).await.ok();
            }
            (StagedFile::Upload { path, id, .. }, Store::Bucket { uploads, .. }) => {
                uploads.abort_multipart(&key(path), id).await.ok();
            }
            _ => {}
        }
    }
}

fn rename(staged: &str, path: &str, again: bool) -> Result<()> {
    let target = std::path::Path::new(path);
    if !std::path::Path::new(staged).exists() {
        return if again || target.exists() {
            Ok(())
        } else {
            Err(Error::external(format!("the file {staged} to commit is gone")))
        };
    }
    let folder = target.parent().unwrap_or(target);
    std::fs::create_dir_all(folder)?;
    std::fs::rename(staged, target)?;
    // The new name has to survive a power cut, too.
    std::fs::File::open(folder)?.sync_all()?;
    Ok(())
}

/// Commits the files of all writers.
pub(super) struct FileCommitter {
    pub(super) sink: FilesystemSink,
    pub(super) run: String,
    /// Begins the names of all runs of the job.
    pub(super) lineage: Option<String>,
    /// Dead runs of the job may have staged files that no checkpoint holds.
    pub(super) has_dead: bool,
    /// The folder of the table did not exist before.
    pub(super) created_root: bool,
    /// Partitions with committed files that are not marked as complete.
    pub(super) pending: PendingPartitions,
}

impl FileCommitter {
    /// Removes the files that an overwrite replaces.
    async fn replace(&self, run: &str, files: &[StagedFile]) -> Result<()> {
        let store = self.sink.store();
        let root = &self.sink.location.path;
        let mut folders: Vec<&str> = if self.sink.partition_columns.is_empty() {
            vec![root]
        } else {
            files.iter().filter_map(|f| f.path().rsplit_once('/').map(|(folder, _)| folder)).collect()
        };
        folders.sort_unstable();
        folders.dedup();
        let own = format!("part-{run}-");
        for folder in folders {
            for old in store.list(folder).await?.unwrap_or_default() {
                let name = old.path.rsplit('/').next().unwrap_or(&old.path);
                if !name.starts_with(&own) {
                    store.remove(&old.path).await?;
                }
            }
        }
        Ok(())
    }

    /// Marks the partitions that are complete.
    async fn mark(&mut self, files: &[StagedFile]) -> Result<()> {
        let Some(name) = self.sink.options.success_file.clone() else { return Ok(()) };
        let now = now_millis();
        let root = &self.sink.location.path;
        for (folder, _) in files.iter().filter_map(|f| f.path().rsplit_once('/')) {
            self.pending.add(folder.strip_prefix(root.as_str()).unwrap_or(folder).trim_matches('/'), now);
        }
        for folder in self.pending.due(now)? {
            let file = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            self.sink.store().put_empty(&self.sink.location.join(&file)).await?;
            self.pending.done(&folder);
        }
        Ok(())
    }

    async fn commit_files(&mut self, committables: &[Committable], again: bool) -> Result<()> {
        let context = || format!("table {}", self.sink.table);
        let (mut files, mut times) = (Vec::new(), Vec::new());
        let (mut overwrite, mut runs) = (false, Vec::new());
        for bytes in committables {
            let committed = Committed::decode(bytes).context(context)?;
            overwrite |= committed.overwrite;
            files.extend(committed.files);
            runs.push(committed.run);
            times.extend(committed.time);
        }
        for file in &files {
            file.commit(self.sink.store(), again)
                .await
                .context(|| format!("file {}", self.sink.store().display(file.path())))
                .context(context)?;
            failpoint("file-committed");
        }
        runs.sort();
        runs.dedup();
        for run in &runs {
            if overwrite {
                self.replace(run, &files).await.context(context)?;
            }
            self.sink.store().remove_empty_folders(&self.sink.staging(run)).await;
        }
        for time in times {
            self.pending.advance(time);
        }
        self.mark(&files).await.context(|| format!("table {}", self.sink.table))
    }
}

#[async_trait]
impl SinkCommitter for FileCommitter {
    async fn commit(&mut self, _epoch: Epoch, committables: Vec<Committable>) -> Result<()> {
        self.commit_files(&committables, false).await?;
        // Now that there is a checkpoint of this run, none of a dead one can come to count any more.
        if std::mem::take(&mut self.has_dead)
            && let Some(lineage) = &self.lineage
        {
            let own = self.sink.staging(&self.run);
            self.sink.store().remove_dead(&self.sink.staging(lineage), &own).await;
        }
        Ok(())
    }

    async fn recover(&mut self, _epoch: Epoch, committables: Vec<Committable>) -> Result<()> {
        self.has_dead = true;
        self.commit_files(&committables, true).await
    }

    async fn abort(&mut self, _tried: Option<Epoch>, committables: Vec<Committable>) {
        for committed in committables.iter().filter_map(|b| Committed::decode(b).ok()) {
            for file in committed.files {
                file.discard(self.sink.store()).await;
            }
        }
        let store = self.sink.store();
        store.remove_empty_folders(&self.sink.staging(&self.run)).await;
        if self.created_root {
            store.remove_if_empty(&self.sink.location.path).await;
        }
    }
}
