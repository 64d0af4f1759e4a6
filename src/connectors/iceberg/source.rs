//! Reading a table: at one snapshot, for both engines, or as it grows.
//!
//! ```text
//!  IcebergSource ── batch_provider ─► IcebergTable (DataFusion)
//!             ├──── readers ────────► files dealt out by size ─► one reader per subtask, file after file
//!             └── 'streaming' ──────► `monitor` finds new snapshots ─► each reader takes the files that are its own
//! ```
//!
//! A split is a data file. All splits of a reader that were found together count as started from the beginning: files are
//! in no order of time, so the watermark may pass a row only when no file is left that could hold an older one.
//!
//! State of a reader: per file that it has not finished the number of rows already emitted and the snapshot that it was
//! found in; of a streaming read also the snapshot that it has come to. Readers come to a snapshot at different moments:
//! which of them was to read a file that not all have heard of follows from its path.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::logical_expr::Expr;
use futures::StreamExt;
use futures::stream::BoxStream;
use iceberg::TableIdent;
use iceberg::io::FileIO;
use iceberg::scan::FileScanTask;
use iceberg::spec::TableMetadata;
use iceberg::table::Table;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use xxhash_rust::xxh3::xxh3_64;

use super::connection::Connection;
use super::monitor::{Discovery, Monitor};
use super::options::{ReadOptions, Start};
use super::provider::IcebergTable;
use super::scan::{Scan, Version, all_columns};
use crate::edges::lookup::{LookupCache, LookupTable};
use crate::edges::{
    Notices, ScanRequest, Source, SourceEvent, SourceMetrics, SourceReader, SplitId, SplitState,
};
use crate::error::{Error, Result};
use crate::stream::ChangeBatch;

/// An Iceberg table as a source.
#[derive(Debug)]
pub(super) struct IcebergSource {
    connection: Connection,
    ident: TableIdent,
    read: ReadOptions,
    schema: SchemaRef,
    /// How often it is read again where it is looked up.
    lookup: LookupCache,
    notices: Notices,
    /// A table that is only rehearsed: nothing is in it.
    uncreated: Option<Arc<TableMetadata>>,
}

impl IcebergSource {
    /// A read of a table, with the declared columns.
    pub fn new(
        connection: Connection,
        ident: TableIdent,
        read: ReadOptions,
        schema: SchemaRef,
        lookup: LookupCache,
        notices: Notices,
    ) -> Self {
        IcebergSource { connection, ident, read, schema, lookup, notices, uncreated: None }
    }

    /// The same table before it is created, which is planned over and not read.
    pub fn uncreated(mut self, metadata: Arc<TableMetadata>) -> Self {
        self.uncreated = Some(metadata);
        self
    }

    async fn scan(&self, version: &Version) -> Result<Arc<Scan>> {
        let lake = self.connection.open().await?;
        if let Some(metadata) = &self.uncreated {
            let shown = lake.shown(&self.ident);
            let table = Table::builder()
                .file_io(FileIO::new_with_memory())
                .identifier(self.ident.clone())
                .metadata(Arc::clone(metadata))
                .runtime(lake.runtime().clone())
                .build();
            let table = table.map_err(|e| lake.error(shown.clone(), &e))?;
            return Scan::at(table, shown, None, Arc::clone(&self.schema));
        }
        Scan::new(&lake, &self.ident, version, Arc::clone(&self.schema)).await
    }

    /// All files of a snapshot, of which rows are counted.
    async fn all(&self, scan: &Arc<Scan>, filters: &[Expr]) -> Result<Vec<Split>> {
        let snapshot = scan.snapshot().unwrap_or_default();
        let mut tasks = scan.plan(filters).await?;
        for task in &mut tasks {
            // Positions count rows of the file, so the reader must not filter them.
            task.predicate = None;
        }
        let split = |task| Split::new(task, Arc::clone(scan), snapshot, false);
        Ok(tasks.into_iter().map(split).collect())
    }

    /// A read that goes on has to be what it was.
    fn check(&self, restored: &Restored) -> Result<()> {
        let was_streaming = !restored.readers.is_empty();
        if was_streaming != self.bounded() {
            return Ok(());
        }
        let (was, is) = if was_streaming { ("with", "without") } else { ("without", "with") };
        Err(Error::validation(format!(
            "table {} was read {was} 'streaming' = 'true' and cannot go on {is}",
            self.ident
        ))
        .hint("set the option as it was, or begin anew with --fresh"))
    }

    /// The splits of one state of the table. Restored ones are looked for among all files, whatever the query filters now.
    async fn bounded_splits(
        &self,
        version: &Version,
        filters: &[Expr],
        restored: Option<&Restored>,
    ) -> Result<Vec<Split>> {
        let Some(restored) = restored else { return self.all(&self.scan(version).await?, filters).await };
        // A restored read of a table that had no files then has none now, whatever was added since.
        let Some(first) = restored.files.values().next() else { return Ok(Vec::new()) };
        let scan = self.scan(&Version::Snapshot(first.snapshot)).await?;
        restored.take_up(self.all(&scan, &[]).await?, first.snapshot, false)
    }

    /// The splits that a streaming read begins with, and the snapshot behind which it goes on.
    async fn streaming_splits(
        &self,
        monitor: &Monitor,
        filters: &[Expr],
        restored: Option<&Restored>,
    ) -> Result<(Vec<Split>, Option<i64>)> {
        let Some(restored) = restored else {
            let first = monitor.first().await?;
            let mut splits = match (monitor.read.start, first.to) {
                (Start::TableScan, Some(_)) => self.all(&first.scan, filters).await?,
                _ => Vec::new(),
            };
            let added = first.files.into_iter();
            splits.extend(added.map(|(id, task)| Split::new(task, Arc::clone(&first.scan), id, true)));
            return Ok((splits, first.to));
        };
        let (lineage, now) = monitor.load().await?;
        // What some of the readers had not heard of yet.
        let reached = restored.readers.values().map(|at| Ok((lineage.after(*at)?, *at)));
        let reached: Vec<(usize, Option<i64>)> = reached.collect::<Result<_>>()?;
        let (Some(oldest), Some(newest)) = (reached.iter().min(), reached.iter().max()) else {
            return Err(Error::internal("a streaming read without a position"));
        };
        let mut splits = Vec::new();
        let unheard = lineage.behind(oldest.0).iter().zip(oldest.0..newest.0);
        for (snapshot, place) in unheard {
            for task in monitor.added(&now, snapshot).await? {
                let reader = owner(&task.data_file_path, reached.len());
                if reached.get(reader).is_some_and(|(heard, _)| *heard <= place) {
                    splits.push(Split::new(task, Arc::clone(&now), snapshot.snapshot_id(), true));
                }
            }
        }
        for (snapshot, is_added) in restored.snapshots() {
            let found = if is_added {
                let added = monitor.added(&now, lineage.get(snapshot)?).await?;
                added.into_iter().map(|task| Split::new(task, Arc::clone(&now), snapshot, true)).collect()
            } else {
                lineage.check(snapshot)?;
                self.all(&monitor.load_at(snapshot).await?, &[]).await?
            };
            splits.extend(restored.take_up(found, snapshot, is_added)?);
        }
        Ok((splits, newest.1))
    }
}

#[async_trait]
impl Source for IcebergSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn bounded(&self) -> bool {
        matches!(self.read, ReadOptions::At(_))
    }

    fn lookup(&self) -> Option<LookupTable> {
        Some(LookupTable { cache: self.lookup.clone(), points: None })
    }

    fn reads_in_turn(&self) -> bool {
        true
    }

    async fn readers(
        &self,
        scan: ScanRequest,
        parallelism: usize,
        restored: Option<Vec<SplitState>>,
    ) -> Result<Vec<Box<dyn SourceReader>>> {
        let ScanRequest {
            projection,
            filters,
            filters_behind_watermark: _,
            limit: _,
            nested: _,
            batch_rows,
            metrics,
        } = scan;
        let parallelism = parallelism.max(1);
        let restored = restored.as_deref().map(Restored::new).transpose()?;
        if let Some(restored) = &restored {
            self.check(restored)?;
        }
        let (splits, position, monitor) = match &self.read {
            ReadOptions::At(version) => {
                let splits = self.bounded_splits(version, &filters, restored.as_ref()).await?;
                let total: u64 = splits.iter().map(|s| s.task.length).sum();
                metrics.total_bytes.fetch_add(total, std::sync::atomic::Ordering::Relaxed);
                (splits, None, None)
            }
            ReadOptions::Streaming(read) => {
                let monitor = Monitor {
                    connection: self.connection.clone(),
                    ident: self.ident.clone(),
                    schema: Arc::clone(&self.schema),
                    read: read.clone(),
                    parallelism,
                    notices: self.notices.clone(),
                };
                let (splits, to) = self.streaming_splits(&monitor, &filters, restored.as_ref()).await?;
                (splits, to, Some(monitor))
            }
        };
        let projection = projection.unwrap_or_else(|| all_columns(&self.schema));
        let mut shares: Vec<(u64, VecDeque<Split>)> = Vec::new();
        shares.resize_with(parallelism, Default::default);
        for split in splits {
            if let Some((size, share)) = shares.iter_mut().min_by_key(|(size, _)| *size) {
                *size += split.task.length;
                share.push_back(split);
            }
        }
        let mut senders = Vec::new();
        let readers = shares.into_iter().enumerate().map(|(subtask, (_, splits))| {
            let feed = monitor.as_ref().map(|_| {
                let (sender, found) = mpsc::unbounded_channel();
                senders.push(sender);
                Feed { subtask, parallelism, found, position, gate: None, is_told: true }
            });
            Box::new(IcebergReader {
                projection: projection.clone(),
                batch_rows,
                metrics: Arc::clone(&metrics),
                splits,
                begun: 0,
                announced: false,
                stream: None,
                feed,
            }) as Box<dyn SourceReader>
        });
        let readers = readers.collect();
        if let Some(monitor) = monitor {
            monitor.watch(position, senders);
        }
        Ok(readers)
    }

    async fn batch_provider(&self) -> Result<Option<Arc<dyn TableProvider>>> {
        match &self.read {
            ReadOptions::At(version) => Ok(Some(Arc::new(IcebergTable::new(self.scan(version).await?)))),
            ReadOptions::Streaming(_) => Ok(None),
        }
    }
}

/// Which of so many readers a file is read by that was found while they ran.
fn owner(path: &str, readers: usize) -> usize {
    (xxh3_64(path.as_bytes()) % readers.max(1) as u64) as usize
}

/// Where a file is read on, as stored in checkpoints.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Position {
    snapshot: i64,
    rows: u64,
    /// Whether the snapshot has added it; otherwise it is one of all its files.
    #[serde(default)]
    added: bool,
    /// Checkpoints of the first version held files that were read, too.
    #[serde(default, skip_serializing)]
    finished: bool,
}

/// The snapshot that a reader of a streaming read has come to, as stored in checkpoints.
#[derive(Debug, Serialize, Deserialize)]
struct Reached {
    snapshot: Option<i64>,
}

/// Names of the states of streaming readers: `reader 0 of 2`.
const READER: &str = "reader ";

/// What a checkpoint holds.
#[derive(Default)]
struct Restored {
    /// Files that were not finished, by path.
    files: HashMap<String, Position>,
    /// The snapshots that the readers had come to, by subtask.
    readers: BTreeMap<usize, Option<i64>>,
}

impl Restored {
    fn new(states: &[SplitState]) -> Result<Self> {
        let mut restored = Restored::default();
        for state in states {
            let damaged = |e: &dyn std::fmt::Display| {
                Error::internal(format!(
                    "the position of split {} in the checkpoint is damaged: {e}",
                    state.split
                ))
            };
            if let Some(reader) = state.split.strip_prefix(READER) {
                let subtask = reader.split(' ').next().unwrap_or_default().parse();
                let reached: Reached = serde_json::from_str(&state.position).map_err(|e| damaged(&e))?;
                restored.readers.insert(subtask.map_err(|e| damaged(&e))?, reached.snapshot);
                continue;
            }
            let position: Position = serde_json::from_str(&state.position).map_err(|e| damaged(&e))?;
            if !position.finished {
                restored.files.insert(state.split.clone(), position);
            }
        }
        Ok(restored)
    }

    /// The snapshots that the files were found in, and whether those have added them.
    fn snapshots(&self) -> BTreeSet<(i64, bool)> {
        self.files.values().map(|p| (p.snapshot, p.added)).collect()
    }

    /// Those of the files of a snapshot that were not finished.
    fn take_up(&self, found: Vec<Split>, snapshot: i64, is_added: bool) -> Result<Vec<Split>> {
        let mut left: HashMap<&str, &Position> = HashMap::new();
        let of_snapshot = |p: &&Position| p.snapshot == snapshot && p.added == is_added;
        left.extend(self.files.iter().filter(|(_, p)| of_snapshot(p)).map(|(path, p)| (path.as_str(), p)));
        let mut splits = Vec::new();
        for mut split in found {
            if let Some(position) = left.remove(split.task.data_file_path.as_str()) {
                (split.skip, split.rows) = (position.rows, position.rows);
                splits.push(split);
            }
        }
        match left.keys().next() {
            Some(path) => Err(Error::data(format!("snapshot {snapshot} has no data file {path} any more"))),
            None => Ok(splits),
        }
    }
}

struct Split {
    task: FileScanTask,
    scan: Arc<Scan>,
    /// See [`Position`].
    snapshot: i64,
    is_added: bool,
    /// Rows to pass over after a restore.
    skip: u64,
    rows: u64,
}

impl Split {
    fn new(task: FileScanTask, scan: Arc<Scan>, snapshot: i64, is_added: bool) -> Self {
        Split { task, scan, snapshot, is_added, skip: 0, rows: 0 }
    }

    fn state(&self) -> Result<SplitState> {
        let position =
            Position { snapshot: self.snapshot, rows: self.rows, added: self.is_added, finished: false };
        state(self.task.data_file_path.clone(), &position)
    }
}

fn state(split: String, position: &impl Serialize) -> Result<SplitState> {
    let position = serde_json::to_string(position).map_err(|e| Error::internal(e.to_string()))?;
    Ok(SplitState { split, position })
}

/// What comes to a reader while it runs.
struct Feed {
    subtask: usize,
    parallelism: usize,
    found: mpsc::UnboundedReceiver<Result<Arc<Discovery>>>,
    /// The snapshot that it has come to.
    position: Option<i64>,
    /// What was found last, until all have announced their files of it.
    gate: Option<Arc<Discovery>>,
    /// Whether the others may know that this one has.
    is_told: bool,
}

struct IcebergReader {
    projection: Vec<usize>,
    batch_rows: usize,
    metrics: Arc<SourceMetrics>,
    /// Those that are not finished; the first is at work.
    splits: VecDeque<Split>,
    /// Number of the first.
    begun: SplitId,
    announced: bool,
    stream: Option<BoxStream<'static, Result<RecordBatch>>>,
    /// `None` if nothing is added.
    feed: Option<Feed>,
}

impl IcebergReader {
    /// Waits for new files; `false` if there will be none.
    async fn wait(&mut self) -> Result<bool> {
        let Some(feed) = &mut self.feed else { return Ok(false) };
        let discovery = match feed.found.recv().await {
            Some(discovery) => discovery?,
            None if feed.subtask == 0 => {
                return Err(Error::internal("nobody looks for new snapshots any more"));
            }
            // The first one is told why.
            None => return std::future::pending().await,
        };
        let own =
            |(_, task): &&(i64, FileScanTask)| owner(&task.data_file_path, feed.parallelism) == feed.subtask;
        let split = |(id, task): &(i64, FileScanTask)| {
            Split::new(task.clone(), Arc::clone(&discovery.scan), *id, true)
        };
        self.splits.extend(discovery.files.iter().filter(own).map(split));
        self.announced = false;
        (feed.position, feed.gate, feed.is_told) = (discovery.to, Some(discovery), false);
        Ok(true)
    }
}

#[async_trait]
impl SourceReader for IcebergReader {
    async fn next(&mut self) -> Result<SourceEvent> {
        loop {
            if !self.announced {
                self.announced = true;
                let number =
                    SplitId::try_from(self.splits.len()).map_err(|_| Error::internal("too many splits"))?;
                if number > 0 {
                    return Ok(SourceEvent::SplitsStarted((self.begun..self.begun + number).collect()));
                }
            }
            // Whoever reads this has passed on by now what was announced.
            if let Some(feed) = self.feed.as_mut().filter(|feed| !feed.is_told) {
                feed.is_told = true;
                feed.gate.iter().for_each(|discovery| discovery.gate.announced());
            }
            let Some(split) = self.splits.front_mut() else {
                if self.wait().await? {
                    continue;
                }
                return Ok(SourceEvent::End);
            };
            if let Some(feed) = &mut self.feed
                && let Some(discovery) = &feed.gate
            {
                discovery.gate.open().await;
                feed.gate = None;
            }
            let stream = match &mut self.stream {
                Some(s) => s,
                None => {
                    let task = split.task.clone();
                    let metrics = Some(Arc::clone(&self.metrics));
                    self.stream.insert(split.scan.read(task, &self.projection, self.batch_rows, metrics))
                }
            };
            // Dropping this future loses nothing: the stream keeps what it has begun.
            match stream.next().await {
                Some(batch) => {
                    let mut batch = batch?;
                    let passed = split.skip.min(batch.num_rows() as u64);
                    split.skip -= passed;
                    let passed = usize::try_from(passed).unwrap_or(usize::MAX);
                    batch = batch.slice(passed, batch.num_rows() - passed);
                    if batch.num_rows() == 0 {
                        continue;
                    }
                    split.rows += batch.num_rows() as u64;
                    return Ok(SourceEvent::Batch {
                        split: self.begun,
                        batch: ChangeBatch::insert_only(batch),
                    });
                }
                None => {
                    self.stream = None;
                    self.splits.pop_front();
                    self.begun += 1;
                    return Ok(SourceEvent::SplitFinished(self.begun - 1));
                }
            }
        }
    }

    fn snapshot(&self) -> Result<Vec<SplitState>> {
        let mut states = self.splits.iter().map(Split::state).collect::<Result<Vec<_>>>()?;
        if let Some(feed) = &self.feed {
            let name = format!("{READER}{} of {}", feed.subtask, feed.parallelism);
            states.push(state(name, &Reached { snapshot: feed.position })?);
        }
        Ok(states)
    }
}
