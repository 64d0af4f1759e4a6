//! A task fed by channels: alignment of barriers, the minimum of watermarks, small batches joined.

use arrow::compute::concat_batches;

use super::{FINAL_EPOCH, TaskContext, TaskEvent, due_timers, now, sleep_until, unpanicked, until};
use crate::error::{Error, Result};
use crate::runtime::chain::Chain;
use crate::runtime::channel::Receiver;
use crate::runtime::message::{Barrier, BarrierKind, Message};
use crate::stream::bytes::batch_bytes;
use crate::stream::snapshot::SnapshotMode;
use crate::stream::watermark::WatermarkTracker;
use crate::stream::{BATCH_BYTES, BATCH_ROWS, ChangeBatch, RowKinds};

/// Runs a chain fed by channels; `ports[q]` is the input port of queue `q`.
///
/// # Errors
/// The first failure of operators or tail; the tail has been aborted then.
pub async fn run_channels(
    receiver: Receiver,
    ports: Vec<usize>,
    chain: Chain,
    context: TaskContext,
) -> Result<()> {
    let queues = ports.len();
    let mut task = ChannelTask {
        receiver,
        ports,
        chain,
        context,
        tracker: WatermarkTracker::new(queues),
        blocked: vec![false; queues],
        ended: vec![false; queues],
        aligning: None,
    };
    let result = unpanicked(task.run()).await;
    if result.is_err() {
        task.chain.abort().await;
    }
    result
}

struct ChannelTask {
    receiver: Receiver,
    ports: Vec<usize>,
    chain: Chain,
    context: TaskContext,
    tracker: WatermarkTracker,
    /// Queues that have delivered the barrier being aligned.
    blocked: Vec<bool>,
    ended: Vec<bool>,
    aligning: Option<Barrier>,
}

impl ChannelTask {
    async fn run(&mut self) -> Result<()> {
        loop {
            if let Some(epoch) = self.context.newly_committed() {
                self.chain.on_commit(epoch)?;
            }
            let Some((queue, message)) = self.receive().await? else {
                self.chain.timer(now()).await?;
                continue;
            };
            match message {
                Message::Batch(batch) => {
                    let batch = self.coalesce(queue, batch)?;
                    due_timers(&mut self.chain).await?;
                    self.chain.batch(self.ports[queue], batch).await?;
                    tokio::task::yield_now().await;
                }
                Message::Watermark(watermark) => {
                    let change = self.tracker.on_watermark(queue, watermark);
                    self.chain.change(change).await?;
                }
                Message::Activity(activity) => {
                    let change = self.tracker.on_activity(queue, activity);
                    self.chain.change(change).await?;
                }
                Message::Barrier(barrier) => {
                    self.blocked[queue] = true;
                    self.aligning = Some(barrier);
                    if self.align().await? {
                        return Ok(());
                    }
                }
                Message::EndOfInput => {
                    self.ended[queue] = true;
                    if self.ended.iter().all(|e| *e) {
                        let committable = self.chain.end(FINAL_EPOCH).await?;
                        self.context.report(TaskEvent::Finished {
                            task: self.context.task,
                            operators: if self.context.keep {
                                self.chain.snapshot(SnapshotMode::Whole)?
                            } else {
                                Vec::new()
                            },
                            splits: Vec::new(),
                            committable,
                        });
                        return Ok(());
                    }
                    let change = self.tracker.on_end(queue);
                    self.chain.change(change).await?;
                    if self.align().await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// The next message, flushing when there is none yet; `None` when a timer is due.
    async fn receive(&mut self) -> Result<Option<(usize, Message)>> {
        let mut flushed = false;
        loop {
            if let Some(found) = self.receiver.try_receive(&self.blocked) {
                return Ok(Some(found));
            }
            if !flushed {
                flushed = true;
                self.chain.flush().await?;
                continue;
            }
            let timer = [until(self.chain.next_timer()), self.chain.next_flush()].into_iter().flatten().min();
            tokio::select! {
                biased;
                () = self.context.cancellation.cancelled() => return Err(Error::cancelled()),
                () = self.chain.answered() => {
                    self.chain.give_out().await?;
                    flushed = false;
                }
                () = self.receiver.arrived() => {}
                () = sleep_until(timer) => return Ok(None),
            }
        }
    }

    /// Joins the small batches that wait behind `first` in its queue: keyed exchanges cut batches into slivers.
    fn coalesce(&mut self, queue: usize, first: ChangeBatch) -> Result<ChangeBatch> {
        let (mut rows, mut bytes) = (first.num_rows(), batch_bytes(&first.rows));
        if rows >= BATCH_ROWS / 2 || bytes >= BATCH_BYTES / 2 {
            return Ok(first);
        }
        let mut parts = vec![first];
        while rows < BATCH_ROWS && bytes < BATCH_BYTES {
            let room = (BATCH_ROWS - rows, BATCH_BYTES - bytes);
            let Some(Message::Batch(next)) = self.receiver.try_receive_batch(queue, room) else {
                break;
            };
            rows += next.num_rows();
            bytes += batch_bytes(&next.rows);
            parts.push(next);
        }
        if parts.len() == 1 {
            return Ok(parts.swap_remove(0));
        }
        let schema = parts[0].schema();
        let kinds = parts.iter().any(|p| p.kinds.is_some()).then(|| {
            let mut codes = Vec::with_capacity(rows);
            for part in &parts {
                match &part.kinds {
                    Some(k) => codes.extend_from_slice(k.codes()),
                    None => codes.resize(codes.len() + part.num_rows(), 0),
                }
            }
            RowKinds::new(codes)
        });
        let rows = concat_batches(&schema, parts.iter().map(|p| &p.rows))?;
        Ok(ChangeBatch { rows, kinds })
    }

    /// Passes the barrier once every open queue has delivered it; true when the job ends with it.
    async fn align(&mut self) -> Result<bool> {
        let Some(barrier) = self.aligning else { return Ok(false) };
        if !self.blocked.iter().zip(&self.ended).all(|(blocked, ended)| *blocked || *ended) {
            return Ok(false);
        }
        self.aligning = None;
        self.blocked.fill(false);
        let (operators, committable) = self.chain.barrier(barrier).await?;
        self.context.report(TaskEvent::Snapshot {
            task: self.context.task,
            epoch: barrier.epoch,
            operators,
            splits: Vec::new(),
            time: None,
            committable,
        });
        Ok(barrier.kind == BarrierKind::Final)
    }
}
