//! Sinks: tables that are written, visible once per epoch.

use std::fmt::Debug;
use std::time::Instant;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use crate::error::Result;
use crate::stream::{Activity, ChangeBatch, Epoch, Timestamp};

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
    /// Columns it takes: the sink schema of its table.
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

    /// Whether rows are visible only once they are committed.
    fn holds_back(&self) -> bool {
        true
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

    /// The job failed after `prepare`: remove what was prepared and not committed. `tried` is the epoch in whose commit
    /// they were when it failed; what that has made visible in spite of its failure stays.
    async fn abort(&mut self, _tried: Option<Epoch>, _committables: Vec<Committable>) {}
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
