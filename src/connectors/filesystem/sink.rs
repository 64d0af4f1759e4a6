//! The sink: part files that nobody sees before they are committed.
//!
//! ```text
//!  rows ─► by partition ─► encoder ─► part file ─┐ rolled by size, by age and at every barrier
//!                                                ▼
//!                                   staged: .staging-<run>/…/part-<run>-<subtask>-<n>   (S3: a multipart upload)
//!                                                │ barrier: synced, handed over as committable
//!                                                ▼ commit: renamed                       (S3: upload completed)
//!                                   <path>/day=2020-01-01/part-<run>-<subtask>-<n>.json
//! ```
//!
//! | state | what for | when dropped |
//! |---|---|---|
//! | open part file per partition | rows written since it was begun | rolled, or at a barrier |
//! | finished part files | handed over at the next barrier | at the barrier |
//! | watermark, idleness | partitions that are complete by event time | never |
//!
//! The files of a job that goes on after its process has died are told apart by its lineage: what a dead run has staged
//! is committed if the checkpoint holds it, and removed if not.
//!
//! INSERT OVERWRITE replaces the files of the table, or of the partitions that were written to: the new ones become
//! visible first, then the old ones go.

use std::collections::HashMap;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, UInt32Array};
use arrow::compute::{take, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use async_trait::async_trait;
use uuid::Uuid;

use super::FileFormat;
use super::commit::{Committed, FileCommitter, StagedFile};
use super::location::{Location, Store};
use super::part::PartFile;
use super::partition::Partitioning;
use super::trigger::{PendingPartitions, Trigger, WriterTime};
use crate::edges::{
    Committable, OpenedSink, Sink, SinkChangelog, SinkCommitter, SinkContext, SinkWriter, SourceChangelog,
    WriteMode,
};
use crate::error::{Error, Result, ResultExt};
use crate::options::Options;
use crate::stream::RowKinds;
use crate::stream::{Activity, ChangeBatch, Epoch, Timestamp};

/// Options that concern writing.
#[derive(Debug, Clone)]
pub(super) struct SinkOptions {
    /// Bytes after which a file is finished.
    pub(super) file_size: u64,
    /// Age after which a file is finished.
    pub(super) rollover: Duration,
    /// Rows of a partition go to one writer.
    pub(super) shuffle: bool,
    /// Name of the file that marks a partition as written.
    pub(super) success_file: Option<String>,
    /// When a partition is complete.
    pub(super) trigger: Trigger,
}

impl SinkOptions {
    /// Takes the options that begin with `sink.`, and those of the partitions' time.
    ///
    /// # Errors
    /// Validation for bad ones, Unsupported for what cannot be done.
    pub(super) fn new(options: &Options, partitioning: &Partitioning) -> Result<Self> {
        // Checked with every batch.
        options.duration("sink.rolling-policy.check-interval")?;
        let key = "sink.partition-commit.policy.kind";
        let success = match options.take(key) {
            None => false,
            Some(kinds) => {
                for kind in kinds.split(',').map(str::trim) {
                    if kind != "success-file" {
                        return Err(Error::unsupported(format!("'{key}' = '{kind}' is not supported"))
                            .hint("supported: success-file"));
                    }
                }
                true
            }
        };
        let trigger = Trigger::new(options, partitioning)?;
        let key = "auto-compaction";
        if options.bool(key, false)? {
            return Err(Error::unsupported(format!("'{key}' = 'true' is not supported"))
                .hint("write fewer, larger files with a longer checkpoint interval"));
        }
        let name = options.take("sink.partition-commit.success-file.name");
        Ok(SinkOptions {
            file_size: options.bytes("sink.rolling-policy.file-size")?.unwrap_or(128 << 20).max(1),
            rollover: options
                .duration("sink.rolling-policy.rollover-interval")?
                .unwrap_or(Duration::from_secs(30 * 60)),
            shuffle: options.bool("sink.shuffle-by-partition.enable", false)?,
            success_file: success.then(|| name.unwrap_or_else(|| "_SUCCESS".to_owned())),
            trigger,
        })
    }
}

/// A table of files to write to.
#[derive(Debug, Clone)]
pub struct FilesystemSink {
    pub(super) table: String,
    pub(super) schema: SchemaRef,
    pub(super) primary_key: Option<Vec<usize>>,
    pub(super) location: Location,
    pub(super) partitioning: Partitioning,
    /// Columns of the schema that are in folder names, and those in files.
    pub(super) partition_columns: Vec<usize>,
    pub(super) file_columns: Vec<usize>,
    pub(super) format: FileFormat,
    /// End of file names: `.json`.
    pub(super) extension: String,
    pub(super) options: SinkOptions,
}

#[async_trait]
impl Sink for FilesystemSink {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn changelog(&self) -> SinkChangelog {
        match &self.format {
            FileFormat::Records(format) if format.changelog() != SourceChangelog::AppendOnly => {
                SinkChangelog::All
            }
            _ => SinkChangelog::AppendOnly,
        }
    }

    fn primary_key(&self) -> Option<Vec<usize>> {
        self.primary_key.clone()
    }

    fn distribute_by(&self) -> Option<Vec<usize>> {
        (self.options.shuffle && !self.partition_columns.is_empty()).then(|| self.partition_columns.clone())
    }

    async fn open(&self, context: &SinkContext) -> Result<OpenedSink> {
        let (mode, parallelism) = (context.mode, context.parallelism);
        let named = || format!("table {}", self.table);
        if self.location.path.contains(['*', '?']) {
            return Err(Error::validation(format!("cannot write to the pattern '{}'", self.location.given))
                .hint("write to a folder")
                .context(named()));
        }
        let store = &self.location.store;
        if let Some(there) = store.stat(&self.location.path).await.context(named)? {
            return Err(Error::validation(format!(
                "cannot write to '{}': it is a {}",
                self.location.given,
                if there.pipe { "pipe or a device" } else { "file" }
            ))
            .hint("a filesystem sink writes part files into a folder")
            .context(named()));
        }
        let created = store.create_folder(&self.location.path).await.context(named)?;
        let lineage = context.identity.as_ref().map(|i| i.pipeline().simple().to_string());
        let run = Uuid::new_v4().simple().to_string();
        let run = match &lineage {
            Some(lineage) => format!("{lineage}-{}", run.get(..8).unwrap_or(&run)),
            None => run,
        };
        let writers = (0..parallelism.max(1))
            .map(|subtask| {
                Ok(Box::new(FileSinkWriter {
                    sink: self.clone(),
                    run: run.clone(),
                    subtask,
                    next_file: 0,
                    mode,
                    open: HashMap::new(),
                    finished: Vec::new(),
                    rows: self.row_converter()?,
                    bytes: 0,
                    watermark: Timestamp::MIN,
                    idle: false,
                    told: None,
                }) as Box<dyn SinkWriter>)
            })
            .collect::<Result<_>>()?;
        let pending = PendingPartitions::new(self.options.trigger.clone(), parallelism.max(1));
        let committer: Box<dyn SinkCommitter> = Box::new(FileCommitter {
            sink: self.clone(),
            run,
            lineage,
            has_dead: false,
            created_root: created,
            pending,
        });
        Ok(OpenedSink { writers, committer })
    }
}

impl FilesystemSink {
    fn row_converter(&self) -> Result<Option<RowConverter>> {
        if self.partition_columns.is_empty() {
            return Ok(None);
        }
        let fields = self
            .partition_columns
            .iter()
            .map(|i| SortField::new(self.schema.field(*i).data_type().clone()))
            .collect();
        Ok(Some(RowConverter::new(fields)?))
    }

    pub(super) fn store(&self) -> &Store {
        &self.location.store
    }

    /// Where unfinished files of a run are.
    pub(super) fn staging(&self, run: &str) -> String {
        self.location.join(&format!(".staging-{run}"))
    }
}

/// Writes the rows of one subtask.
struct FileSinkWriter {
    sink: FilesystemSink,
    /// Distinguishes the files of this job from all others.
    run: String,
    subtask: usize,
    next_file: usize,
    mode: WriteMode,
    /// By partition folder, `""` without partitions.
    open: HashMap<String, PartFile>,
    finished: Vec<StagedFile>,
    rows: Option<RowConverter>,
    bytes: u64,
    watermark: Timestamp,
    idle: bool,
    /// What the committer knows of the two.
    told: Option<WriterTime>,
}

impl FileSinkWriter {
    /// How far it is, if partitions wait for that and the committer does not know it yet.
    fn news(&mut self) -> Option<WriterTime> {
        let options = &self.sink.options;
        if options.success_file.is_none() || !options.trigger.waits() {
            return None;
        }
        let time = WriterTime { subtask: self.subtask, watermark: self.watermark.0, idle: self.idle };
        if self.told == Some(time) {
            return None;
        }
        self.told = Some(time);
        self.told
    }

    /// Splits rows by partition folder.
    fn by_partition(&mut self, batch: &ChangeBatch) -> Result<Vec<(String, ChangeBatch)>> {
        let Some(converter) = &self.rows else { return Ok(vec![(String::new(), batch.clone())]) };
        let rows = &batch.rows;
        let partition = rows.project(&self.sink.partition_columns)?;
        let data = rows.project(&self.sink.file_columns)?;
        let columns: Vec<ArrayRef> = partition.columns().to_vec();
        let keys = converter.convert_columns(&columns)?;
        let mut groups: HashMap<&[u8], usize> = HashMap::new();
        let mut indices: Vec<(usize, Vec<u32>)> = Vec::new();
        for (i, key) in keys.iter().enumerate() {
            let group = *groups.entry(key.data()).or_insert_with(|| {
                indices.push((i, Vec::new()));
                indices.len() - 1
            });
            if let Some((_, rows)) = indices.get_mut(group) {
                rows.push(i as u32);
            }
        }
        indices
            .into_iter()
            .map(|(first, rows)| {
                let folder = self.sink.partitioning.folder(&columns, first)?;
                let part = if rows.len() == data.num_rows() {
                    ChangeBatch { rows: data.clone(), kinds: batch.kinds.clone() }
                } else {
                    let rows = UInt32Array::from(rows);
                    // Halves of an update may part here; they are written as a delete and an insert anyway.
                    let kinds = match &batch.kinds {
                        None => None,
                        Some(kinds) => {
                            let kinds = take(&kinds.to_array(), &rows, None)?;
                            Some(RowKinds::from_array(kinds.as_primitive()))
                        }
                    };
                    ChangeBatch { rows: take_record_batch(&data, &rows)?, kinds }
                };
                Ok((folder, part))
            })
            .collect()
    }

    /// Whatever fails or is cancelled in here, `open` knows every file that was begun: abort finds them there.
    async fn append(&mut self, folder: String, rows: &ChangeBatch) -> Result<()> {
        if !self.open.contains_key(&folder) {
            let name =
                format!("part-{}-{}-{}{}", self.run, self.subtask, self.next_file, self.sink.extension);
            self.next_file += 1;
            let part = PartFile::create(&self.sink, &self.run, &folder, &name).await?;
            self.open.insert(folder.clone(), part);
        }
        let Some(part) = self.open.get_mut(&folder) else {
            return Err(Error::internal("a part file that was begun is not open"));
        };
        let before = part.bytes();
        let written = part.write(rows).await;
        let size = part.bytes();
        self.bytes += size.saturating_sub(before);
        written?;
        if size >= self.sink.options.file_size || part.age() >= self.sink.options.rollover {
            self.finish(&folder).await?;
        }
        Ok(())
    }

    async fn finish(&mut self, folder: &str) -> Result<()> {
        let Some(part) = self.open.get_mut(folder) else { return Ok(()) };
        let file = part.finish().await?;
        self.finished.push(file);
        self.open.remove(folder);
        Ok(())
    }
}

#[async_trait]
impl SinkWriter for FileSinkWriter {
    async fn write(&mut self, batch: ChangeBatch) -> Result<()> {
        if batch.kinds.is_some() && self.sink.changelog() == SinkChangelog::AppendOnly {
            return Err(Error::internal("the filesystem sink was given updates"));
        }
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let context = format!("table {}", self.sink.table);
        for (folder, rows) in self.by_partition(&batch).context(|| context.clone())? {
            self.append(folder, &rows).await.context(|| context.clone())?;
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: Timestamp) {
        self.watermark = self.watermark.max(watermark);
    }

    fn on_activity(&mut self, activity: Activity) {
        self.idle = activity == Activity::Idle;
    }

    async fn prepare(&mut self, _epoch: Epoch) -> Result<Option<Committable>> {
        let mut folders: Vec<String> = self.open.keys().cloned().collect();
        folders.sort();
        for folder in folders {
            self.finish(&folder).await.context(|| format!("table {}", self.sink.table))?;
        }
        let time = self.news();
        // An overwrite by nothing still removes what is there.
        if self.finished.is_empty() && time.is_none() && self.mode == WriteMode::Append {
            return Ok(None);
        }
        let committed = Committed {
            run: self.run.clone(),
            overwrite: self.mode == WriteMode::Overwrite,
            files: std::mem::take(&mut self.finished),
            time,
        };
        committed.encode().map(Some)
    }

    async fn abort(&mut self) {
        for (_, part) in self.open.drain() {
            part.discard().await;
        }
        for file in self.finished.drain(..) {
            file.discard(self.sink.store()).await;
        }
        self.sink.store().remove_empty_folders(&self.sink.staging(&self.run)).await;
    }

    fn bytes_written(&self) -> u64 {
        self.bytes
    }
}
