//! Any keyed operator with more state than memory: cold partitions of it rest on disk.
//!
//! ```text
//!  while memory suffices         rows ─► the operator ─► out
//!
//!  from then on                  rows ─► by key group ─► queue of each partition ─┐ enough rows, a time limit,
//!                                                                                 │ a barrier or the end
//!      disk: state of cold partitions ◄──► operator of one partition ◄────────────┘
//!                                              └─► out
//! ```
//!
//! A partition is a range of key groups with an operator instance of its own, which is snapshot to a file and restored
//! from it by the operator's own `snapshot` and `restore`. Rows wait until a partition is worth being read: the more
//! of the state is on disk, the more rows share one reading, and the later their results come. Order is kept per key
//! and input.
//!
//! | state | where | dropped |
//! |---|---|---|
//! | operator of a partition | memory, or a file | with the operator |
//! | rows and watermarks that wait for a partition | memory, then a file | when the partition is worked on |
//!
//! Only keyed operators are run this way, which say so ([`Operator::spillable`]). Where watermarks mean something to one
//! ([`Spillable::ByWatermark`]), they wait in the queues as rows do, and each partition with state hears of them in the next
//! pass. A watermark goes on when nothing waits that came before it; that is after the next pass at the latest. A barrier
//! whose snapshot is kept, and the end, find nothing waiting.

pub mod file;
pub mod memory;
mod partition;
pub mod pool;
mod process;
mod queue;
mod resident;
pub mod store;

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::runtime::operator::{Operator, OperatorMetrics, Output, Progress, Spillable};
use crate::runtime::spilling::memory::StateShare;
use crate::stream::BATCH_ROWS;
use crate::stream::key_group::KeyGroupRange;
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};
use crate::stream::{ChangeBatch, Epoch, Timestamp};
use partition::{Partitions, Step};

/// What helps when there is no room for what outgrew the memory.
pub const WAY_OUT: &str = "give more with --memory, or another folder with SET 'io.tmp.dirs'";

/// Makes an instance for a range of key groups.
pub type PartitionFactory = Arc<dyn Fn(KeyGroupRange) -> Result<Box<dyn Operator>> + Send + Sync>;

/// What an instance is made of.
pub struct SpillingConfig {
    /// Makes the operator of a partition.
    pub factory: PartitionFactory,
    /// Key columns of each input.
    pub keys: Vec<Vec<usize>>,
    /// Key groups of this instance.
    pub range: KeyGroupRange,
}

enum Body {
    Whole(Box<dyn Operator>),
    Split(Partitions),
}

/// The operator; see the module.
pub struct SpillingOperator {
    name: &'static str,
    spillable: Spillable,
    config: SpillingConfig,
    share: StateShare,
    body: Body,
    /// The last processing time heard of.
    now: Option<Timestamp>,
    /// When waiting rows are worked on even if they are few.
    deadline: Option<Timestamp>,
    /// The last watermark.
    watermark: Timestamp,
    /// The watermark before the first of what waits.
    held: Option<Timestamp>,
}

impl SpillingOperator {
    /// Runs `operator`, which is whole as long as `share` lets it.
    pub fn new(operator: Box<dyn Operator>, config: SpillingConfig, share: StateShare) -> Self {
        SpillingOperator {
            name: operator.name(),
            spillable: operator.spillable(),
            config,
            share,
            body: Body::Whole(operator),
            now: None,
            deadline: None,
            watermark: Timestamp::MIN,
            held: None,
        }
    }

    /// Splits the operator when it outgrows its share. The copy that a snapshot is needs memory too, so this happens
    /// at half of it.
    fn split_if_over(&mut self, out: &mut Output) -> Result<()> {
        let Body::Whole(operator) = &mut self.body else { return Ok(()) };
        self.share.report(operator.metrics().state_bytes as usize);
        if !self.share.is_over(0.5) || operator.flush(out)? == Progress::More {
            return Ok(());
        }
        let mut writer = SnapshotWriter::new();
        operator.snapshot(&mut writer)?;
        let state = writer.finish();
        // After a restore only its state knows what it had heard of.
        let known = SnapshotReader::new(state.clone(), self.config.range).watermark()?;
        self.watermark = self.watermark.max(known.map_or(Timestamp::MIN, Timestamp));
        let ports = self.config.keys.len();
        let partitions = Partitions::new(self.config.range, ports, &**operator, self.watermark);
        // The operator goes before its parts are written.
        self.body = Body::Split(partitions);
        let Body::Split(partitions) = &mut self.body else { return Ok(()) };
        partitions.take_state(state, &self.share)?;
        self.share.report(0);
        Ok(())
    }

    /// Works until nothing is to do or `out` is full.
    fn work(&mut self, out: &mut Output) -> Result<Progress> {
        let Body::Split(partitions) = &mut self.body else { return Ok(Progress::Done) };
        loop {
            match partitions.step(&self.config.factory, &mut self.share, self.now, out)? {
                Step::Nothing => {
                    if !partitions.has_waiting() {
                        self.held = None;
                    }
                    return Ok(Progress::Done);
                }
                Step::Worked if out.is_full(BATCH_ROWS) => return Ok(Progress::More),
                Step::Worked => {}
            }
        }
    }

    /// Works on everything that waits.
    fn work_on_all(&mut self, out: &mut Output) -> Result<Progress> {
        self.deadline = None;
        if let Body::Split(partitions) = &mut self.body {
            partitions.schedule_all();
        }
        self.work(out)
    }
}

impl Operator for SpillingOperator {
    fn name(&self) -> &'static str {
        self.name
    }

    fn process(&mut self, port: usize, batch: ChangeBatch, out: &mut Output) -> Result<Progress> {
        match &mut self.body {
            Body::Whole(operator) => {
                let progress = operator.process(port, batch, out)?;
                if progress == Progress::Done {
                    self.split_if_over(out)?;
                }
                Ok(progress)
            }
            Body::Split(partitions) => {
                let keys = self.config.keys.get(port).ok_or_else(|| Error::internal("no such input"))?;
                partitions.enqueue(port, &batch, keys, &mut self.share)?;
                self.held.get_or_insert(self.watermark);
                self.work(out)
            }
        }
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        match &mut self.body {
            Body::Whole(operator) => {
                let progress = operator.resume(out)?;
                if progress == Progress::Done {
                    self.split_if_over(out)?;
                }
                Ok(progress)
            }
            Body::Split(_) => self.work(out),
        }
    }

    fn on_watermark(&mut self, watermark: Timestamp, out: &mut Output) -> Result<Progress> {
        let before = self.watermark;
        self.watermark = before.max(watermark);
        match &mut self.body {
            Body::Whole(operator) => operator.on_watermark(watermark, out),
            Body::Split(partitions) => {
                partitions.tell_time(self.watermark);
                if partitions.has_waiting() {
                    self.held.get_or_insert(before);
                }
                Ok(Progress::Done)
            }
        }
    }

    fn output_watermark(&self) -> Option<Timestamp> {
        match &self.body {
            Body::Whole(operator) => operator.output_watermark(),
            Body::Split(partitions) => self.held.into_iter().chain(partitions.holds()).min(),
        }
    }

    fn on_timer(&mut self, now: Timestamp, out: &mut Output) -> Result<Progress> {
        self.now = Some(now);
        match &mut self.body {
            Body::Whole(operator) => operator.on_timer(now, out),
            Body::Split(partitions) => {
                partitions.schedule_due(now);
                match self.deadline {
                    Some(deadline) if deadline <= now => return self.work_on_all(out),
                    None if partitions.has_waiting() => {
                        self.deadline = Some(Timestamp(now.0.saturating_add(partitions.patience_ms())));
                    }
                    _ => {}
                }
                self.work(out)
            }
        }
    }

    fn next_timer(&self) -> Option<Timestamp> {
        match &self.body {
            Body::Whole(operator) => operator.next_timer(),
            Body::Split(partitions) => {
                // Without a deadline yet, the next call tells what time it is.
                let waiting = partitions.has_waiting().then(|| self.deadline.unwrap_or(Timestamp::MIN));
                [waiting, partitions.next_timer()].into_iter().flatten().min()
            }
        }
    }

    fn takes_time(&self) -> bool {
        // What is split by key rests: its rows come later than they came.
        matches!(&self.body, Body::Whole(operator) if operator.takes_time())
    }

    fn on_end(&mut self, out: &mut Output) -> Result<Progress> {
        match &mut self.body {
            Body::Whole(operator) => operator.on_end(out),
            Body::Split(partitions) => {
                partitions.end();
                self.work_on_all(out)
            }
        }
    }

    fn flush(&mut self, out: &mut Output) -> Result<Progress> {
        match &mut self.body {
            Body::Whole(operator) => operator.flush(out),
            // Partitions are flushed when they have been worked on.
            Body::Split(_) => Ok(Progress::Done),
        }
    }

    fn drain(&mut self, out: &mut Output) -> Result<Progress> {
        match &mut self.body {
            Body::Whole(operator) => operator.drain(out),
            Body::Split(_) => self.work_on_all(out),
        }
    }

    fn spillable(&self) -> Spillable {
        self.spillable
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        match &mut self.body {
            Body::Whole(operator) => operator.snapshot(writer),
            // What is on disk does not know what has changed.
            Body::Split(partitions) => writer.whole(self.config.range, |writer| {
                // Also where no partition has state that would tell it.
                if self.spillable == Spillable::ByWatermark {
                    writer.watermark(self.watermark.0)?;
                }
                partitions.snapshot(writer)
            }),
        }
    }

    fn restore(&mut self, reader: &SnapshotReader) -> Result<()> {
        match &mut self.body {
            Body::Whole(operator) => operator.restore(reader)?,
            Body::Split(_) => return Err(Error::internal("restored after its first batch")),
        }
        // Nothing is held back yet that could come out.
        self.split_if_over(&mut Output::new())
    }

    fn on_commit(&mut self, epoch: Epoch) -> Result<()> {
        match &mut self.body {
            Body::Whole(operator) => operator.on_commit(epoch),
            Body::Split(partitions) => partitions.on_commit(epoch),
        }
    }

    fn metrics(&self) -> OperatorMetrics {
        match &self.body {
            Body::Whole(operator) => operator.metrics(),
            Body::Split(partitions) => partitions.metrics(),
        }
    }
}

#[cfg(test)]
mod tests;
