//! The source: finds files, cuts them into splits, hands them to readers.
//!
//! ```text
//!  listing ─► partition pruning ─► splits ─► queue ─► readers (one per subtask) ─► batches
//!     ▲                                        ▲
//!     └── every source.monitor-interval ───────┘
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;

use super::FileFormat;
use super::discover::Discovery;
use super::layout::{Layout, Projected};
use super::location::Store;
use super::monitor::Monitor;
use super::parquet::{ParquetScan, ParquetSplit};
use super::partition::Partitioning;
use super::scan;
use super::split::{Position, Queue, Restored, SPLIT_BYTES, Split, SplitFile, cut};
use super::text::{ChunkPool, Compression, TextSplit};
use crate::edges::lookup::{LookupCache, LookupTable};
use crate::edges::{
    BatchScan, ScanRequest, Source, SourceChangelog, SourceEvent, SourceMetrics, SourceReader, SplitId,
    SplitState,
};
use crate::error::{Error, Result, ResultExt};
use crate::formats::{RecordFormat, RowDecoder};
use crate::stream::ChangeBatch;
use crate::stream::RowKinds;

/// Rows per batch when nothing is asked for.
const BATCH_ROWS: usize = 8192;

/// A table of files.
#[derive(Debug, Clone)]
pub struct FilesystemSource {
    /// For messages.
    pub(super) table: String,
    pub(super) layout: Layout,
    pub(super) partitioning: Partitioning,
    pub(super) discovery: Discovery,
    pub(super) format: FileFormat,
    /// Looks for new files, if it does.
    pub(super) monitor: Option<Monitor>,
    /// How often it is read again where it is looked up.
    pub(super) lookup: LookupCache,
    pub(super) split_bytes: u64,
}

impl FilesystemSource {
    /// Bytes per split unless a test says otherwise.
    pub(super) const SPLIT_BYTES: u64 = SPLIT_BYTES;

    /// Lists the files that can hold rows of interest; `None` if there is nothing at the path.
    pub(super) async fn files(&self, filters: &[Expr]) -> Result<Option<Vec<SplitFile>>> {
        let Some(found) = self.discovery.find().await? else { return Ok(None) };
        let values: Vec<_> = found
            .files
            .iter()
            .map(|f| self.partitioning.values(&f.path, &found.root))
            .collect::<Result<_>>()?;
        if let Some(pipe) = found.files.iter().find(|f| f.pipe) {
            self.check_pipe(&pipe.path)?;
        }
        let keep = self.partitioning.prune(&values, filters);
        let files = found.files.into_iter().zip(values).zip(keep);
        let kept = files.filter(|(_, keep)| *keep);
        Ok(Some(kept.map(|((entry, partition), _)| SplitFile { entry, partition }).collect()))
    }

    /// Not everything can be done with a pipe.
    fn check_pipe(&self, path: &str) -> Result<()> {
        if let FileFormat::Parquet(_) = self.format {
            return Err(Error::unsupported(format!(
                "{path} is a pipe, and a Parquet file cannot be read from one: its directory stands at its end"
            ))
            .hint("save it as a file first; csv, json, raw and change messages can be read from pipes"));
        }
        if self.monitor.is_some() {
            return Err(Error::unsupported(format!(
                "{path} is a pipe, and 'source.monitor-interval' looks for new files"
            ))
            .hint("leave the option out: a pipe is read until its other end is closed"));
        }
        Ok(())
    }

    pub(super) fn cut(&self, file: SplitFile) -> Vec<Split> {
        let plain = Compression::of(&file.entry.path) == Compression::None;
        let (splittable, bytes) = match &self.format {
            FileFormat::Records(f) => (f.splittable() && plain, self.split_bytes),
            FileFormat::Parquet(_) => (true, self.split_bytes.saturating_mul(4)),
        };
        cut(file, splittable, bytes)
    }

    pub(super) fn context(&self) -> String {
        format!("table {}", self.table)
    }
}

#[async_trait]
impl Source for FilesystemSource {
    fn schema(&self) -> SchemaRef {
        self.layout.schema.clone()
    }

    fn bounded(&self) -> bool {
        self.monitor.is_none()
    }

    fn lookup(&self) -> Option<LookupTable> {
        Some(LookupTable { cache: self.lookup.clone(), points: None })
    }

    async fn can_be_read_again(&self) -> Result<bool> {
        let files = self.files(&[]).await.context(|| self.context())?;
        Ok(!files.into_iter().flatten().any(|file| file.entry.pipe))
    }

    fn changelog(&self) -> SourceChangelog {
        match &self.format {
            FileFormat::Records(format) => format.changelog(),
            FileFormat::Parquet(_) => SourceChangelog::AppendOnly,
        }
    }

    async fn batch_scan(&self, scan: BatchScan<'_>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        scan::plan(self, &scan).await.context(|| self.context())
    }

    async fn readers(
        &self,
        scan: ScanRequest,
        parallelism: usize,
        restored: Option<Vec<SplitState>>,
    ) -> Result<Vec<Box<dyn SourceReader>>> {
        let files = match self.files(&scan.filters).await.context(|| self.context())? {
            Some(files) => files,
            // A monitored folder may come into being later.
            None if self.monitor.is_some() => Vec::new(),
            None => return Err(self.discovery.missing().context(self.context())),
        };
        let total = files.iter().map(|f| f.entry.size).sum();
        scan.metrics.total_bytes.store(if self.monitor.is_some() { 0 } else { total }, Ordering::Relaxed);
        let queue = Arc::new(Queue::default());
        files.iter().for_each(|f| {
            queue.see(&f.entry.path);
        });
        let splits = files.into_iter().flat_map(|f| self.cut(f)).collect();
        let restored = Restored::new(&restored.unwrap_or_default())?;
        let (begun, fresh) = restored.remaining(splits)?;
        queue.push(fresh);
        if let Some(monitor) = &self.monitor {
            for name in restored.done() {
                if let Some((path, _)) = name.rsplit_once('#') {
                    queue.see(path);
                }
            }
            monitor.watch(self.clone(), &queue, scan.filters.clone());
        }
        let projected = self.layout.project(scan.projection.as_deref())?;
        let mut done = restored.done();
        let mut readers: Vec<Box<dyn SourceReader>> = Vec::new();
        // The changes of a key have to stay in order: one reader takes all files, by name.
        let ordered = self.changelog() != SourceChangelog::AppendOnly;
        // Begun splits are dealt out at once: in the queue nobody would remember how far they were read.
        let mut shares: Vec<VecDeque<Split>> = vec![VecDeque::new(); parallelism.max(1)];
        let takers = if ordered { 1 } else { shares.len() };
        for (i, split) in begun.into_iter().enumerate() {
            if let Some(share) = shares.get_mut(i % takers) {
                share.push_back(split);
            }
        }
        for (subtask, begun) in shares.into_iter().enumerate() {
            let queue = if ordered && subtask > 0 { Arc::default() } else { queue.clone() };
            let batch_rows = if scan.batch_rows == 0 { BATCH_ROWS } else { scan.batch_rows };
            let decode = match &self.format {
                FileFormat::Records(format) => Decode::Text {
                    format: format.clone(),
                    pool: ChunkPool::default(),
                    decoder: format.row_decoder(&projected.file_columns)?,
                    batch_rows,
                },
                FileFormat::Parquet(format) => Decode::Parquet(ParquetScan {
                    schema: Arc::new(format.schema().project(&projected.file_columns)?),
                    table: format.schema().clone(),
                    filters: scan.filters.clone().into(),
                    batch_rows,
                }),
            };
            readers.push(Box::new(FileReader {
                source: self.clone(),
                projected: projected.clone(),
                queue,
                begun,
                metrics: scan.metrics.clone(),
                // A limit counts rows of the table, not changes.
                rows_left: scan.limit.filter(|_| !ordered),
                decode,
                current: None,
                next_id: 0,
                // What is done is remembered by one of them.
                done: std::mem::take(&mut done),
            }));
        }
        Ok(readers)
    }
}

/// The split at work.
struct Current {
    id: SplitId,
    split: Split,
    rows: Rows,
}

/// Where its rows come from.
enum Rows {
    Text(TextSplit),
    Parquet(ParquetSplit),
}

/// How splits are read.
enum Decode {
    Text { format: Arc<dyn RecordFormat>, pool: ChunkPool, decoder: Box<dyn RowDecoder>, batch_rows: usize },
    Parquet(ParquetScan),
}

impl Decode {
    fn open(&self, split: &Split, store: Store, metrics: Arc<SourceMetrics>) -> Rows {
        match self {
            Decode::Text { format, pool, .. } => {
                Rows::Text(TextSplit::open(split.clone(), store, &**format, pool.clone(), metrics))
            }
            Decode::Parquet(scan) => Rows::Parquet(ParquetSplit::open(split, store, scan.clone(), metrics)),
        }
    }

    async fn next(
        &mut self,
        rows: &mut Rows,
        metrics: &SourceMetrics,
    ) -> Result<Option<(RecordBatch, Option<RowKinds>)>> {
        match (self, rows) {
            (Decode::Text { decoder, batch_rows, .. }, Rows::Text(text)) => {
                let batch = text.next(&mut **decoder, *batch_rows).await;
                metrics.skipped.fetch_add(decoder.take_skipped(), Ordering::Relaxed);
                metrics.nulled.fetch_add(decoder.take_nulled(), Ordering::Relaxed);
                Ok(batch?.map(|batch| (batch, decoder.take_kinds())))
            }
            (Decode::Parquet(_), Rows::Parquet(parquet)) => {
                Ok(parquet.next().await?.map(|batch| (batch, None)))
            }
            _ => Err(Error::internal("a split of another format")),
        }
    }
}

/// Reads splits from the shared queue.
struct FileReader {
    source: FilesystemSource,
    projected: Projected,
    queue: Arc<Queue>,
    /// Splits that were begun before a restore and not taken up yet.
    begun: VecDeque<Split>,
    metrics: Arc<SourceMetrics>,
    rows_left: Option<usize>,
    decode: Decode,
    current: Option<Current>,
    next_id: SplitId,
    /// Names of finished splits.
    done: Vec<String>,
}

impl FileReader {
    fn hand_out(
        &mut self,
        rows: RecordBatch,
        kinds: Option<RowKinds>,
        split: &SplitFile,
    ) -> Result<ChangeBatch> {
        let rows = self.projected.assemble(rows, split, &self.source.discovery.location.store)?;
        let mut batch = ChangeBatch { rows, kinds };
        if let Some(left) = &mut self.rows_left {
            batch = batch.slice(0, batch.num_rows().min(*left));
            *left -= batch.num_rows();
        }
        Ok(batch)
    }
}

/// The next split; with `wait` waits for one. `None`: there is none and none will come.
async fn take_split(queue: &Queue, wait: bool) -> Result<Option<Split>> {
    loop {
        let arrived = queue.arrived.notified();
        tokio::pin!(arrived);
        // From here on no ring is missed.
        arrived.as_mut().enable();
        if let Some(split) = queue.pop()? {
            return Ok(Some(split));
        }
        if !wait {
            return Ok(None);
        }
        arrived.await;
    }
}

#[async_trait]
impl SourceReader for FileReader {
    async fn next(&mut self) -> Result<SourceEvent> {
        if self.rows_left == Some(0) && self.current.is_none() {
            return Ok(SourceEvent::End);
        }
        let Some(current) = &mut self.current else {
            let wait = self.source.monitor.is_some();
            let split = match self.begun.pop_front() {
                Some(split) => split,
                None => match take_split(&self.queue, wait).await? {
                    Some(split) => split,
                    None => return Ok(SourceEvent::End),
                },
            };
            // No await from here on: a split that was taken is kept.
            let store = self.source.discovery.location.store.clone();
            let rows = self.decode.open(&split, store, self.metrics.clone());
            let id = self.next_id;
            self.next_id += 1;
            self.current = Some(Current { id, split, rows });
            return Ok(SourceEvent::SplitsStarted(vec![id]));
        };
        let batch = if self.rows_left == Some(0) {
            None
        } else {
            let batch = self.decode.next(&mut current.rows, &self.metrics).await;
            batch.context(|| self.source.context())?
        };
        let id = current.id;
        match batch {
            Some((rows, kinds)) => {
                let file = current.split.file.clone();
                Ok(SourceEvent::Batch { split: id, batch: self.hand_out(rows, kinds, &file)? })
            }
            None => {
                self.done.push(current.split.name());
                self.current = None;
                Ok(SourceEvent::SplitFinished(id))
            }
        }
    }

    fn snapshot(&self) -> Result<Vec<SplitState>> {
        let done = Position { done: true, ..Position::default() };
        let mut states: Vec<SplitState> =
            self.done.iter().map(|name| done.state(name.clone())).collect::<Result<_>>()?;
        if let Some(current) = &self.current {
            let position = match &current.rows {
                Rows::Text(text) => text.position(),
                Rows::Parquet(parquet) => parquet.position(),
            };
            if let Some(position) = position {
                states.push(position.state(current.split.name())?);
            }
        }
        for split in &self.begun {
            if let Some(position) = split.resume {
                states.push(position.state(split.name())?);
            }
        }
        Ok(states)
    }
}
