//! The operator contract: synchronous, push-based, without clock, randomness, files or network.
//!
//! An operator gets batches, watermarks, timers and the end from the task driver and appends what it produces to an
//! [`Output`]. One input batch can mean thousands of output batches; such an operator stops early with
//! [`Progress::More`] and goes on in [`Operator::resume`], so that the driver can flush channels in between.

use std::task::{Context, Poll};

use crate::error::Result;
use crate::stream::bytes::batch_bytes;
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};
use crate::stream::{BATCH_BYTES, ChangeBatch, Epoch, Timestamp};

/// Whether a call has done all its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// All done.
    Done,
    /// More output is waiting: the driver calls [`Operator::resume`] after flushing.
    More,
}

/// Bytes that wait before the driver gets its turn.
const ENOUGH_BYTES: usize = 2 * BATCH_BYTES;

/// Where an operator puts what it produces; the driver hands it to the next operator of the chain.
#[derive(Debug, Default)]
pub struct Output {
    batches: Vec<ChangeBatch>,
    bytes: usize,
    rows: usize,
}

impl Output {
    /// An empty output.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a batch, in slices if it is large in bytes; empty ones are dropped.
    pub fn emit(&mut self, batch: ChangeBatch) {
        if batch.num_rows() == 0 {
            return;
        }
        let bytes = batch_bytes(&batch.rows);
        self.bytes += bytes;
        self.rows += batch.num_rows();
        if bytes <= BATCH_BYTES {
            self.batches.push(batch);
        } else {
            self.batches.extend(batch.slices(BATCH_BYTES));
        }
    }

    /// Takes what was produced so far, in order.
    pub fn take(&mut self) -> Vec<ChangeBatch> {
        (self.bytes, self.rows) = (0, 0);
        std::mem::take(&mut self.batches)
    }

    /// Takes what was produced, keeping the allocation.
    pub fn drain(&mut self) -> std::vec::Drain<'_, ChangeBatch> {
        (self.bytes, self.rows) = (0, 0);
        self.batches.drain(..)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Whether so many rows wait, or rows that are large in bytes: time to return [`Progress::More`].
    pub fn is_full(&self, rows: usize) -> bool {
        self.bytes >= ENOUGH_BYTES || self.rows >= rows
    }
}

/// Counters an operator shows; the driver adds rows in and out by itself.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct OperatorMetrics {
    /// Rows dropped because the watermark had passed them.
    pub late_rows_dropped: u64,
    /// Rows dropped because their row time is NULL.
    pub null_times_dropped: u64,
    /// Live keys (or groups, or rows) in state.
    pub state_entries: u64,
    /// Bytes of state in memory.
    pub state_bytes: u64,
    /// Matches of a row pattern that have begun and are undecided.
    pub partial_matches: u64,
}

impl std::ops::AddAssign for OperatorMetrics {
    fn add_assign(&mut self, other: Self) {
        self.late_rows_dropped += other.late_rows_dropped;
        self.null_times_dropped += other.null_times_dropped;
        self.state_entries += other.state_entries;
        self.state_bytes += other.state_bytes;
        self.partial_matches += other.partial_matches;
    }
}

/// What an edge operator has asked of the world outside. Its answers come out of [`Operator::resume`], in order.
pub trait Asked {
    /// Whether no more may be asked before something is answered.
    fn is_full(&self) -> bool;

    /// Whether everything has been answered and taken.
    fn is_empty(&self) -> bool;

    /// Ready once the oldest question has been answered; pending as long as there is none.
    fn poll_answered(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// Whether the state of an operator may be split by key group and rest on disk. Of one that may, all state is keyed by the
/// exchange of its inputs, and rows of different keys do not meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spillable {
    /// It stays whole and in memory.
    No,
    /// Its results do not depend on when a watermark passes: rows may wait as they like.
    Timeless,
    /// Watermarks bring results out, or tell which rows are late. Parts of the state that rest hear of them later, at the
    /// same place among the rows; where nothing is kept, an instance without state that has been told the last watermark is
    /// as good as one that heard all. Its time is not the processing time of its rows.
    ByWatermark,
}

impl Spillable {
    /// `self`, if its rows are keyed.
    #[must_use]
    pub fn if_keyed(self, keyed: bool) -> Self {
        if keyed { self } else { Spillable::No }
    }
}

/// One subtask's instance of an operator.
pub trait Operator: Send {
    /// Short name for plans, metrics and errors, e.g. `GroupAggregate`.
    fn name(&self) -> &'static str;

    /// Takes one batch from input `port` (0 for one-input operators).
    ///
    /// # Errors
    /// Typed, naming the culprit; an operator never panics on data.
    fn process(&mut self, port: usize, batch: ChangeBatch, out: &mut Output) -> Result<Progress>;

    /// Goes on after [`Progress::More`].
    ///
    /// # Errors
    /// As [`Operator::process`].
    fn resume(&mut self, _out: &mut Output) -> Result<Progress> {
        Ok(Progress::Done)
    }

    /// The combined watermark of all active inputs rose to `watermark`. The driver forwards it after the output
    /// of this call (and of its resumes), as far as [`Operator::output_watermark`] lets it.
    ///
    /// # Errors
    /// As [`Operator::process`].
    fn on_watermark(&mut self, _watermark: Timestamp, _out: &mut Output) -> Result<Progress> {
        Ok(Progress::Done)
    }

    /// How far the watermark behind it may be while rows that came before a later one are held back; `None` if none are.
    /// The driver asks after every call, and forwards the rest once the rows are out.
    fn output_watermark(&self) -> Option<Timestamp> {
        None
    }

    /// Processing time has reached `now`; called on a timer and before batches when [`Operator::next_timer`] is due, and
    /// before every batch for those that [`Operator::takes_time`].
    ///
    /// # Errors
    /// As [`Operator::process`].
    fn on_timer(&mut self, _now: Timestamp, _out: &mut Output) -> Result<Progress> {
        Ok(Progress::Done)
    }

    /// Earliest processing time at which [`Operator::on_timer`] has to be called.
    fn next_timer(&self) -> Option<Timestamp> {
        None
    }

    /// Whether its rows are of the processing time at which they come: then [`Operator::on_timer`] is called before each
    /// batch, whether a timer is due or not.
    fn takes_time(&self) -> bool {
        false
    }

    /// All inputs have ended; called once, after [`Operator::on_watermark`] with [`Timestamp::MAX`]. Only then do the
    /// operators behind it hear of the end of time.
    ///
    /// # Errors
    /// As [`Operator::process`].
    fn on_end(&mut self, _out: &mut Output) -> Result<Progress> {
        Ok(Progress::Done)
    }

    /// Emits what is held back for batching (mini-batch bundles, local pre-aggregates). The driver calls it when its
    /// inputs are empty, before a watermark, a barrier and the end.
    ///
    /// # Errors
    /// As [`Operator::process`].
    fn flush(&mut self, _out: &mut Output) -> Result<Progress> {
        Ok(Progress::Done)
    }

    /// As [`Operator::flush`], and also what is held back at any price: before a barrier whose snapshot is kept.
    ///
    /// # Errors
    /// As [`Operator::process`].
    fn drain(&mut self, out: &mut Output) -> Result<Progress> {
        self.flush(out)
    }

    /// Of an edge operator: what it waits for. The driver calls [`Operator::resume`] when something is answered, sends
    /// nothing more while it is full, and waits for all answers before a barrier and the end.
    fn asked(&mut self) -> Option<&mut dyn Asked> {
        None
    }

    /// The least watermark that can bring something out of it, as it stands. Of what is [`Spillable::ByWatermark`]: while its
    /// state rests, it hears of no watermark before that.
    fn next_due(&self) -> Timestamp {
        Timestamp::MIN
    }

    /// Whether its state may be split by key group and rest on disk.
    fn spillable(&self) -> Spillable {
        Spillable::No
    }

    /// Whether its end is one that a snapshot has to know of. Not of what only gathers rows between two flushes: it may be
    /// missing at another parallelism.
    fn remembers(&self) -> bool {
        true
    }

    /// Writes its state as typed columns. Cheap: no IO happens here.
    ///
    /// # Errors
    /// As [`Operator::process`].
    fn snapshot(&mut self, _writer: &mut SnapshotWriter) -> Result<()> {
        Ok(())
    }

    /// Loads the part of a snapshot that belongs to its key groups, possibly written at another parallelism.
    /// Called once, before anything else.
    ///
    /// # Errors
    /// As [`Operator::process`].
    fn restore(&mut self, _reader: &SnapshotReader) -> Result<()> {
        Ok(())
    }

    /// Epoch `epoch` is complete everywhere.
    ///
    /// # Errors
    /// As [`Operator::process`].
    fn on_commit(&mut self, _epoch: Epoch) -> Result<()> {
        Ok(())
    }

    /// Its counters.
    fn metrics(&self) -> OperatorMetrics {
        OperatorMetrics::default()
    }
}
