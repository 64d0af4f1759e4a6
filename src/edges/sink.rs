//! Sinks: tables that are written, visible once per epoch.

use std::any::Any;
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use uuid::Uuid;

use crate::edges::SplitState;
use crate::error::{Error, Result};
use crate::stream::{Activity, ChangeBatch, Epoch, Timestamp};

/// How an INSERT writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// `INSERT INTO`.
    Append,
    /// `INSERT OVERWRITE` (batch only).
    Overwrite,
}

/// What a sink is opened for.
#[derive(Debug, Clone)]
pub struct SinkContext {
    /// Append or overwrite.
    pub mode: WriteMode,
    /// Number of writers.
    pub parallelism: usize,
    /// How it is known over all runs of its job; `None` if nothing of the job outlives its process.
    pub identity: Option<SinkIdentity>,
    /// The epoch that the job goes on from; the first one it prepares is the next.
    pub epoch: Epoch,
    /// What the sinks of the job have in common.
    pub shared: Shared,
    /// What [`Sink::claim`] gave, if the job goes on from the table itself.
    pub claim: Option<Claim>,
    /// Whether rows come that replace others or take them away.
    pub is_updating: bool,
}

impl SinkContext {
    /// For a job of which nothing is kept, and rows that are only added.
    pub fn new(mode: WriteMode, parallelism: usize) -> Self {
        SinkContext {
            mode,
            parallelism,
            identity: None,
            epoch: Epoch(0),
            shared: Shared::default(),
            claim: None,
            is_updating: false,
        }
    }
}

/// What a table knows of the job that writes to it, where the job has no checkpoints and goes on from its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Number of the process that writes: no process with a smaller one can commit any more.
    pub generation: u64,
    /// The last epoch that is committed.
    pub epoch: Epoch,
    /// How far the source was read for what is in the table; `None` if nothing was ever committed.
    pub positions: Option<Vec<SplitState>>,
}

/// A sink of a job that goes on after its process has died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkIdentity {
    /// Name of the job.
    pub job: String,
    /// The job from its first start to its end, however often it is restarted.
    pub lineage: Uuid,
    /// Number of the process that runs it.
    pub generation: u64,
    /// Uid of the sink in the plan.
    pub uid: String,
}

impl SinkIdentity {
    /// A name for what the sink writes that no other sink and no other job has.
    pub fn pipeline(&self) -> Uuid {
        let name = xxhash_rust::xxh3::xxh3_128(format!("{}/{}", self.lineage, self.uid).as_bytes());
        uuid::Builder::from_custom_bytes(name.to_be_bytes()).into_uuid()
    }
}

/// Things that several sinks of one job use together, by name.
#[derive(Debug, Clone, Default)]
pub struct Shared(Arc<Mutex<HashMap<String, Arc<dyn Any + Send + Sync>>>>);

impl Shared {
    /// The thing `name`, made by the first who asks for it.
    ///
    /// # Errors
    /// Of `make`; Internal if the name stands for something else.
    pub fn get<T: Send + Sync + 'static>(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<Arc<T>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(name) {
            return known
                .clone()
                .downcast()
                .map_err(|_| Error::internal(format!("'{name}' is another thing")));
        }
        let made = Arc::new(make()?);
        all.insert(name.to_owned(), made.clone());
        Ok(made)
    }
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

    /// What decides, with the commit of this sink, whether a checkpoint counts: a transaction, which cannot be committed
    /// again by another process. Sinks with the same decision commit in the same transaction.
    fn decision(&self, _identity: &SinkIdentity) -> Option<String> {
        None
    }

    /// Whether the transaction of `epoch` has been committed. A process that may still hold it open is fenced.
    ///
    /// # Errors
    /// External.
    async fn is_committed(&self, _identity: &SinkIdentity, _epoch: Epoch) -> Result<bool> {
        Ok(true)
    }

    /// Whether its table keeps how far the source was read, in the commits of the rows themselves: a job without state then
    /// goes on from there, whatever has happened to its process, and needs no checkpoints.
    fn keeps_positions(&self) -> bool {
        false
    }

    /// Takes the table over for this process, if it [keeps positions](Sink::keeps_positions). A table that does not exist
    /// is made.
    ///
    /// # Errors
    /// External; Validation if the table belongs to something else.
    async fn claim(&self) -> Result<Claim> {
        Err(Error::internal("the sink keeps no positions"))
    }

    /// Opens one writer per subtask and the one committer of the job. Checks what can be checked: the target
    /// exists, is writable, has the right columns.
    ///
    /// # Errors
    /// External or Validation.
    async fn open(&self, context: &SinkContext) -> Result<OpenedSink>;
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
    /// How far the source has been read for the commit that follows. Called before each commit of a job that took a
    /// [`Claim`]; after the `last` one nothing follows.
    fn on_positions(&mut self, _positions: Vec<SplitState>, _last: bool) {}

    /// Commits what all writers prepared up to `epoch`; a writer whose input ended earlier prepared under another
    /// number. Idempotent.
    ///
    /// # Errors
    /// External.
    async fn commit(&mut self, epoch: Epoch, committables: Vec<Committable>) -> Result<()>;

    /// Called once, before the first row, by a job that goes on from the checkpoint `epoch`: commits what it holds for this
    /// sink, which may have been committed already, and removes what dead runs have left behind it.
    ///
    /// # Errors
    /// External.
    async fn recover(&mut self, epoch: Epoch, committables: Vec<Committable>) -> Result<()> {
        if committables.is_empty() { Ok(()) } else { self.commit(epoch, committables).await }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_is_known_by_its_job_and_its_place() {
        let identity = |lineage: u128, uid: &str, generation| SinkIdentity {
            job: "j".to_owned(),
            lineage: Uuid::from_u128(lineage),
            generation,
            uid: uid.to_owned(),
        };
        let pipeline = identity(1, "a", 1).pipeline();
        assert_eq!(pipeline, identity(1, "a", 2).pipeline());
        assert_ne!(pipeline, identity(1, "b", 1).pipeline());
        assert_ne!(pipeline, identity(2, "a", 1).pipeline());
    }

    #[test]
    fn the_first_makes_what_is_shared() {
        let shared = Shared::default();
        let a = shared.get("n", || Ok(1_i32)).unwrap();
        let b = shared.clone().get("n", || Ok(2_i32)).unwrap();
        assert_eq!((*a, *b), (1, 1));
        assert!(shared.get("n", || Ok("text")).is_err());
        assert!(shared.get::<i32>("m", || Err(Error::external("down"))).is_err());
        assert_eq!(*shared.get("m", || Ok(3_i32)).unwrap(), 3);
    }
}
