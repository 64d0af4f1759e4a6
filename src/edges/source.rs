//! Sources: tables that are read, as a stream of events per subtask.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;

use crate::edges::lookup::LookupTable;
use crate::error::Result;
use crate::stream::{ChangeBatch, Epoch, Timestamp};

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

/// Told of rows as they are read.
pub type CountRows = Arc<dyn Fn(usize) + Send + Sync>;

/// A scan of a batch query.
pub struct BatchScan<'a> {
    /// Name of the table, for errors.
    pub table: &'a str,
    /// What to read.
    pub request: &'a ScanRequest,
    /// Counts the rows.
    pub count: CountRows,
    /// DataFusion's session.
    pub session: &'a dyn Session,
}

/// Counters of a source, for the progress line.
#[derive(Debug, Default)]
pub struct SourceMetrics {
    /// Bytes read, as stored.
    pub bytes: AtomicU64,
    /// Bytes in all, when known (bounded files); 0 otherwise.
    pub total_bytes: AtomicU64,
    /// Rows or records behind the newest (Kafka lag), or [`NO_LAG`], or [`UNKNOWN_LAG`].
    pub lag: AtomicI64,
    /// Records skipped by `ignore-parse-errors`.
    pub skipped: AtomicU64,
    /// Fields that it made NULL.
    pub nulled: AtomicU64,
    /// Rows with a field that has no column and stands in the one for the rest (`json.rest-column`).
    pub rested: AtomicU64,
}

/// [`SourceMetrics::lag`] of a source that has none.
pub const NO_LAG: i64 = -1;
/// [`SourceMetrics::lag`] while nobody knows how much there is to read.
pub const UNKNOWN_LAG: i64 = -2;

/// A table to read from.
#[async_trait]
pub trait Source: Send + Sync + Debug {
    /// Physical columns, then metadata columns: the scan schema of its table.
    fn schema(&self) -> SchemaRef;

    /// Whether it ends by itself.
    fn bounded(&self) -> bool;

    /// Whether its rows come at a pace of their own that takes time, so that they are worth seeing as they come even
    /// though it ends.
    fn paced(&self) -> bool {
        false
    }

    /// Whether a reader reads the splits that it has announced one after the other, so that one without rows waits for its
    /// turn and is not idle.
    fn reads_in_turn(&self) -> bool {
        false
    }

    /// Whether readers that are opened later find the rows again that earlier ones have read.
    ///
    /// # Errors
    /// External when that cannot be looked up.
    async fn can_be_read_again(&self) -> Result<bool> {
        Ok(true)
    }

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

    /// Positions that another run has left, for a run with other bounds: what they say of where that one was to end is
    /// taken out.
    ///
    /// # Errors
    /// Data if they are not its own.
    fn adopt(&self, positions: Vec<SplitState>) -> Result<Vec<SplitState>> {
        Ok(positions)
    }

    /// How its rows can be looked up by key; `None` if they cannot.
    fn lookup(&self) -> Option<LookupTable> {
        None
    }

    /// A DataFusion table for batch mode with better push-down than the readers have. Its schema is [`Source::schema`].
    ///
    /// # Errors
    /// As [`Source::readers`].
    async fn batch_provider(&self) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(None)
    }

    /// The plan of a scan in batch mode that reads better than the readers do, with their rows and their errors; `None`:
    /// they have to read.
    ///
    /// # Errors
    /// As [`Source::readers`].
    async fn batch_scan(&self, _scan: BatchScan<'_>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
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
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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

    /// Epoch `epoch` is complete, and these were the positions of its snapshot: commit offsets for lag tools.
    ///
    /// # Errors
    /// Never fatal to exactly-once; a failure is reported as a notice.
    async fn on_commit(&mut self, _epoch: Epoch, _positions: &[SplitState]) -> Result<()> {
        Ok(())
    }
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
