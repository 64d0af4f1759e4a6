//! Connectors: the edges where rows come in and go out. Async lives here, and only here.
//!
//! ```text
//!  table options ─► ConnectorFactory ─► Source ─► SourceReader (one per subtask) ─► batches of physical ++ metadata columns
//!                                  └──► Sink ───► SinkWriter   (one per subtask) ─► committables ─► SinkCommitter (one)
//! ```
//!
//! A bounded source serves both engines: the streaming runtime polls its readers, batch wraps them as a DataFusion
//! table (or uses the source's own provider where that can push more down).

pub mod blackhole;
pub mod collect;
pub mod datagen;
pub mod filesystem;
pub mod generator;
pub mod iceberg;
pub mod kafka;
pub mod nexmark;
pub mod options;
pub mod print;
pub mod registry;
pub mod values;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::logical_expr::Expr;

use crate::catalog::ResolvedTable;
use crate::error::{Error, Result};
use crate::runtime::{Activity, ChangeBatch, Epoch, Timestamp};

/// What a connector may use of its surroundings.
#[derive(Debug, Clone)]
pub struct ConnectorEnv {
    /// `SET` options of the session.
    pub config: Arc<BTreeMap<String, String>>,
    /// The session zone `table.local-time-zone`.
    pub time_zone: chrono_tz::Tz,
    /// Whether the query runs in batch mode (`CURRENT_TIMESTAMP` fixed, no row kinds printed).
    pub batch: bool,
    /// Folder that relative paths are relative to: the working directory.
    pub base_dir: std::path::PathBuf,
}

/// Makes sources and sinks for one value of the `connector` option.
pub trait ConnectorFactory: Send + Sync {
    /// The value of `connector`.
    fn identifier(&self) -> &'static str;

    /// A source for a table. Validates options: an unknown one is an error that lists the supported ones.
    ///
    /// # Errors
    /// Validation for bad options; Unsupported if the connector has no source.
    fn source(&self, table: &ResolvedTable, env: &ConnectorEnv) -> Result<Arc<dyn Source>>;

    /// A sink for a table.
    ///
    /// # Errors
    /// As [`ConnectorFactory::source`].
    fn sink(&self, table: &ResolvedTable, env: &ConnectorEnv) -> Result<Arc<dyn Sink>>;
}

/// What to read.
#[derive(Debug, Clone, Default)]
pub struct ScanRequest {
    /// Indices into [`Source::schema`]; `None` for all. May be empty (`COUNT(*)`): batches then carry a row count only.
    pub projection: Option<Vec<usize>>,
    /// Paths of the nested fields the query reads, e.g. `[bid, price]`; a path that ends early means everything below
    /// it. `None` when not known. A source may leave nullable fields on no path NULL; the schema stays the same.
    pub nested: Option<Vec<Vec<String>>>,
    /// Predicates over the source's columns that may be used to read less (partition pruning, Parquet statistics).
    /// The query evaluates them again.
    pub filters: Vec<Expr>,
    /// Predicates that the query evaluates behind the watermark: rows they drop still move time on. A source may use
    /// them all the same if it tells the row times of what it dropped ([`SourceEvent::Dropped`]).
    pub filters_behind_watermark: Vec<Expr>,
    /// At most so many rows are needed.
    pub limit: Option<usize>,
    /// Rows per batch to aim for.
    pub batch_rows: usize,
    /// Counters to keep up to date.
    pub metrics: Arc<SourceMetrics>,
}

/// Counters of a source, for the progress line.
#[derive(Debug, Default)]
pub struct SourceMetrics {
    /// Bytes read, as stored.
    pub bytes: AtomicU64,
    /// Bytes in all, when known (bounded files); 0 otherwise.
    pub total_bytes: AtomicU64,
    /// Rows or records behind the newest (Kafka lag); -1 when unknown.
    pub lag: AtomicI64,
    /// Records skipped by `ignore-parse-errors`.
    pub skipped: AtomicU64,
}

/// A table to read from.
#[async_trait]
pub trait Source: Send + Sync + Debug {
    /// Physical columns, then metadata columns: [`ResolvedTable::scan_schema`].
    fn schema(&self) -> SchemaRef;

    /// Whether it ends by itself.
    fn bounded(&self) -> bool;

    /// What kinds of changes it yields.
    fn changelog(&self) -> SourceChangelog {
        SourceChangelog::AppendOnly
    }

    /// Opens one reader per subtask, exactly `parallelism` of them; readers may share a queue of splits.
    /// `restored` are the split states of a snapshot, from all its subtasks.
    ///
    /// # Errors
    /// External when files, brokers or catalogs fail.
    async fn readers(
        &self,
        scan: ScanRequest,
        parallelism: usize,
        restored: Option<Vec<SplitState>>,
    ) -> Result<Vec<Box<dyn SourceReader>>>;

    /// A DataFusion table for batch mode with better push-down than the readers have. Its schema is [`Source::schema`].
    ///
    /// # Errors
    /// As [`Source::readers`].
    async fn batch_provider(&self) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(None)
    }
}

/// What kinds of changes a source yields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceChangelog {
    /// `+I` only.
    AppendOnly,
    /// `+I`, `-U`, `+U`, `-D`.
    Retract,
    /// `+I`/`+U` and `-D` by primary key, no `-U`.
    Upsert,
}

/// Number of a split within a reader; watermarks are kept per split.
pub type SplitId = u32;

/// What a reader has to say.
#[derive(Debug)]
pub enum SourceEvent {
    /// Splits it has begun to read. They hold the watermark back until they have rows, finish or idle.
    SplitsStarted(Vec<SplitId>),
    /// Rows of one split, projected, in the split's order.
    Batch {
        /// Where they come from.
        split: SplitId,
        /// Rows; kinds only from changelog sources.
        batch: ChangeBatch,
    },
    /// Rows of a split were dropped by [`ScanRequest::filters_behind_watermark`].
    Dropped {
        /// Where they were.
        split: SplitId,
        /// The latest of their row times.
        row_time: Timestamp,
    },
    /// A split has ended.
    SplitFinished(SplitId),
    /// Nothing more will come from this reader.
    End,
}

/// Position of one split, for snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitState {
    /// Stable name: `topic-3`, a file path.
    pub split: String,
    /// What to read next, as the connector's own JSON.
    pub position: String,
}

/// Reads the splits of one subtask.
#[async_trait]
pub trait SourceReader: Send {
    /// The next event; pending while there is nothing. Cancel-safe: the driver drops the future to send barriers.
    ///
    /// # Errors
    /// Data for bad records (with file and line, or partition and offset), External for failing stores.
    async fn next(&mut self) -> Result<SourceEvent>;

    /// Positions after the last event returned by [`SourceReader::next`].
    ///
    /// # Errors
    /// Internal.
    fn snapshot(&self) -> Result<Vec<SplitState>>;

    /// Epoch `epoch` with the positions of its snapshot is complete: commit offsets for lag tools.
    ///
    /// # Errors
    /// Never fatal to exactly-once; a failure is reported as a notice.
    async fn on_commit(&mut self, _epoch: Epoch) -> Result<()> {
        Ok(())
    }
}

/// How an INSERT writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// `INSERT INTO`.
    Append,
    /// `INSERT OVERWRITE` (batch only).
    Overwrite,
}

/// What kinds of changes a sink takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkChangelog {
    /// `+I` only; an updating query is refused at planning.
    AppendOnly,
    /// `+I`, `+U` and `-D`: by [`Sink::primary_key`], or by nothing if it does not care. `-U` is left out where possible.
    Upsert,
    /// Everything.
    All,
}

/// A table to write to.
#[async_trait]
pub trait Sink: Send + Sync + Debug {
    /// Columns it takes: [`ResolvedTable::sink_schema`].
    fn schema(&self) -> SchemaRef;

    /// Kinds it takes.
    fn changelog(&self) -> SinkChangelog;

    /// Columns of the PRIMARY KEY, if the table has one: rows of one key replace each other.
    fn primary_key(&self) -> Option<Vec<usize>> {
        None
    }

    /// Whether an insert also replaces the row of its key, so that even inserts alone can meet a conflict.
    fn always_upserts(&self) -> bool {
        false
    }

    /// Columns to partition rows by before the writers (Iceberg's hash distribution), if any.
    fn distribute_by(&self) -> Option<Vec<usize>> {
        None
    }

    /// Opens one writer per subtask and the one committer of the job. Checks what can be checked: the target
    /// exists, is writable, has the right columns.
    ///
    /// # Errors
    /// External or Validation.
    async fn open(&self, mode: WriteMode, parallelism: usize) -> Result<OpenedSink>;
}

/// Writers and committer of one INSERT.
pub struct OpenedSink {
    /// One per subtask.
    pub writers: Vec<Box<dyn SinkWriter>>,
    /// One per job.
    pub committer: Box<dyn SinkCommitter>,
}

/// What a writer hands over at a barrier, in a form that can be stored in a checkpoint.
pub type Committable = Vec<u8>;

/// Writes the rows of one subtask. Nothing is visible to readers before the committer commits it
/// (print and blackhole apart).
#[async_trait]
pub trait SinkWriter: Send {
    /// Takes rows with the schema of [`Sink::schema`].
    ///
    /// # Errors
    /// External or Data.
    async fn write(&mut self, batch: ChangeBatch) -> Result<()>;

    /// Called when its input is empty for now: push out what a reader at the other end waits for (Kafka, print).
    ///
    /// # Errors
    /// As [`SinkWriter::write`].
    async fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    /// When [`SinkWriter::flush`] has something to do again though no row comes.
    fn next_flush(&self) -> Option<Instant> {
        None
    }

    /// No row before `watermark` comes any more; [`Timestamp::MAX`] at the end of the input, before the last
    /// [`SinkWriter::prepare`].
    fn on_watermark(&mut self, _watermark: Timestamp) {}

    /// Its input became idle, or active again.
    fn on_activity(&mut self, _activity: Activity) {}

    /// A barrier, or the end: make everything written so far durable and hand over what commits it.
    ///
    /// # Errors
    /// As [`SinkWriter::write`].
    async fn prepare(&mut self, epoch: Epoch) -> Result<Option<Committable>>;

    /// The job failed: remove what would otherwise stay half-visible.
    async fn abort(&mut self) {}

    /// Bytes written so far, for the progress line.
    fn bytes_written(&self) -> u64 {
        0
    }
}

/// Makes the work of all writers visible, once per epoch.
#[async_trait]
pub trait SinkCommitter: Send {
    /// Commits what all writers prepared up to `epoch`; a writer whose input ended earlier prepared under another
    /// number. Idempotent.
    ///
    /// # Errors
    /// External.
    async fn commit(&mut self, epoch: Epoch, committables: Vec<Committable>) -> Result<()>;

    /// The job failed after `prepare`: remove what was prepared and not committed.
    async fn abort(&mut self, _committables: Vec<Committable>) {}
}

/// A committer for sinks that have nothing to commit.
#[derive(Debug, Default)]
pub struct NoCommit;

#[async_trait]
impl SinkCommitter for NoCommit {
    async fn commit(&mut self, _epoch: Epoch, _committables: Vec<Committable>) -> Result<()> {
        Ok(())
    }
}

/// The error for a connector without a source or sink.
pub fn not_a(what: &str, table: &ResolvedTable, connector: &str) -> Error {
    Error::unsupported(format!(
        "the connector '{connector}' of table {} cannot be used as a {what}",
        table.def.path
    ))
}

/// An empty projection keeps the row count.
///
/// # Errors
/// From Arrow, if an index is out of range.
pub fn project(batch: &RecordBatch, projection: Option<&[usize]>) -> Result<RecordBatch> {
    match projection {
        None => Ok(batch.clone()),
        Some(p) => Ok(batch.project(p)?),
    }
}
