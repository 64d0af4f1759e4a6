//! A task that begins with a source reader: its rows, barriers from the coordinator, time that stands still.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Instant;

use super::{FINAL_EPOCH, TaskContext, TaskEvent, due_timers, now, sleep_until, unpanicked, until};
use crate::edges::{SourceEvent, SourceReader, SplitId, SplitState};
use crate::error::{Error, Result};
use crate::runtime::chain::Chain;
use crate::runtime::message::{Barrier, BarrierKind};
use crate::runtime::source::SourceHead;
use crate::stream::snapshot::SnapshotMode;
use crate::stream::watermark::Change;
use crate::stream::{Activity, ChangeBatch, Epoch, Timestamp};

/// Runs a chain that begins with a source reader.
///
/// # Errors
/// The first failure of reader, operators or tail; the tail has been aborted then.
pub async fn run_source(
    reader: Box<dyn SourceReader>,
    head: SourceHead,
    chain: Chain,
    context: TaskContext,
) -> Result<()> {
    let batches_left = context.pause_after.map(|batches| batches.max(1));
    let mut task = SourceTask { head, chain, context, batches_left, snapshots: VecDeque::new() };
    let mut reader = reader;
    let result = unpanicked(task.run(&mut *reader)).await;
    if result.is_err() {
        task.chain.abort().await;
    }
    result
}

struct SourceTask {
    head: SourceHead,
    chain: Chain,
    context: TaskContext,
    /// Batches until it stops.
    batches_left: Option<usize>,
    /// Positions at barriers that are not complete yet.
    snapshots: VecDeque<(Epoch, Vec<SplitState>)>,
}

enum Wake {
    Event(Result<SourceEvent>),
    Barrier,
    Timer,
    Answered,
}

impl SourceTask {
    async fn run(&mut self, reader: &mut dyn SourceReader) -> Result<()> {
        // Where a snapshot left time is news to all that stands behind.
        let watermark = Some(self.head.watermark()).filter(|w| *w > Timestamp::MIN);
        self.apply(Change { watermark, activity: None }).await?;
        loop {
            if let Some(barrier) = self.pending_barrier() {
                if barrier.kind == BarrierKind::Drain {
                    return self.end(reader).await;
                }
                self.barrier(barrier, reader).await?;
                if barrier.kind == BarrierKind::Final {
                    return self.tell_last(reader).await;
                }
            }
            if let Some(epoch) = self.context.newly_committed() {
                self.chain.on_commit(epoch)?;
                self.tell_positions(epoch, reader).await?;
            }
            match self.wait(reader).await? {
                Wake::Barrier => {}
                Wake::Answered => self.chain.give_out().await?,
                Wake::Timer => {
                    self.check_time().await?;
                    self.chain.timer(now()).await?;
                }
                Wake::Event(event) => match event? {
                    SourceEvent::SplitsStarted(splits) => {
                        for split in splits {
                            let change = self.head.start_split(split, Instant::now());
                            self.apply(change).await?;
                        }
                    }
                    SourceEvent::Dropped { split, row_time } => {
                        let change = self.head.dropped(split, row_time, Instant::now());
                        self.apply(change).await?;
                    }
                    SourceEvent::SplitFinished(split) => {
                        let change = self.head.finish_split(split, Instant::now());
                        self.apply(change).await?;
                    }
                    SourceEvent::Batch { split, batch } => {
                        self.context.metrics.rows_in.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
                        if self.head.is_on_event() {
                            let mut row = 0;
                            while row < batch.num_rows() {
                                // Halves of an update stay together.
                                let rows =
                                    if batch.holds_next(row) { 2 } else { 1 }.min(batch.num_rows() - row);
                                self.batch(split, batch.slice(row, rows)).await?;
                                row += rows;
                            }
                        } else {
                            self.batch(split, batch).await?;
                        }
                        // Where there is always another batch, no timer is waited for.
                        if self.head.next_check().is_some_and(|at| at <= Instant::now()) {
                            self.check_time().await?;
                        }
                        if let Some(left) = &mut self.batches_left {
                            *left -= 1;
                            if *left == 0 {
                                self.context.report(TaskEvent::Paused { task: self.context.task });
                            }
                        }
                        tokio::task::yield_now().await;
                    }
                    SourceEvent::End => return self.end(reader).await,
                },
            }
        }
    }

    /// Rows of a split, and the watermark behind them.
    async fn batch(&mut self, split: SplitId, batch: ChangeBatch) -> Result<()> {
        let (batches, change) = self.head.batch(split, batch, Instant::now())?;
        if change.activity == Some(Activity::Active) {
            self.chain.activity(Activity::Active).await?;
        }
        for batch in batches {
            due_timers(&mut self.chain).await?;
            self.chain.batch(0, batch).await?;
        }
        self.apply(Change { activity: None, ..change }).await
    }

    /// No row follows.
    async fn end(&mut self, reader: &mut dyn SourceReader) -> Result<()> {
        self.head.leave();
        self.head.tell(&self.context.metrics, Instant::now(), true);
        let committable = self.chain.end(FINAL_EPOCH).await?;
        let keep = self.context.keep;
        let splits = reader.snapshot()?;
        self.snapshots.push_back((FINAL_EPOCH, splits.clone()));
        self.context.report(TaskEvent::Finished {
            task: self.context.task,
            operators: if keep { self.chain.snapshot(SnapshotMode::Whole)? } else { Vec::new() },
            splits: if keep { splits } else { Vec::new() },
            committable,
        });
        self.tell_last(reader).await
    }

    /// Waits for what comes next; flushes when the reader has nothing ready.
    async fn wait(&mut self, reader: &mut dyn SourceReader) -> Result<Wake> {
        // A reader that always has rows never gets to the select below.
        if self.context.cancellation.is_cancelled() {
            return Err(Error::cancelled());
        }
        let waits = self.head.waits();
        let paused = self.batches_left == Some(0) || waits.is_some();
        let mut next =
            pin!(async { if paused { std::future::pending().await } else { reader.next().await } });
        if let Poll::Ready(event) = futures::poll!(next.as_mut()) {
            return Ok(Wake::Event(event));
        }
        self.chain.flush().await?;
        let others = waits.map(|interval| Instant::now() + interval);
        let timers =
            [self.head.next_check(), until(self.chain.next_timer()), self.chain.next_flush(), others];
        let timer = timers.into_iter().flatten().min();
        let cancellation = self.context.cancellation.clone();
        tokio::select! {
            biased;
            () = cancellation.cancelled() => Err(Error::cancelled()),
            changed = self.context.barriers.changed() => {
                if changed.is_err() {
                    return Err(Error::cancelled());
                }
                // Looked at by the loop.
                self.context.barriers.mark_changed();
                Ok(Wake::Barrier)
            }
            () = self.chain.answered() => Ok(Wake::Answered),
            event = &mut next => Ok(Wake::Event(event)),
            () = sleep_until(timer) => Ok(Wake::Timer),
        }
    }

    fn pending_barrier(&mut self) -> Option<Barrier> {
        match self.context.barriers.has_changed() {
            Ok(true) => *self.context.barriers.borrow_and_update(),
            _ => None,
        }
    }

    /// Splits without rows, and rows without a use.
    async fn check_time(&mut self) -> Result<()> {
        let now = Instant::now();
        let change = self.head.check_idle(now);
        self.apply(change).await?;
        self.head.tell(&self.context.metrics, now, false);
        Ok(())
    }

    async fn barrier(&mut self, barrier: Barrier, reader: &mut dyn SourceReader) -> Result<()> {
        if barrier.kind == BarrierKind::Final {
            self.head.tell(&self.context.metrics, Instant::now(), true);
        }
        let splits = reader.snapshot()?;
        self.snapshots.push_back((barrier.epoch, splits.clone()));
        let (operators, committable) = self.chain.barrier(barrier).await?;
        self.context.report(TaskEvent::Snapshot {
            task: self.context.task,
            epoch: barrier.epoch,
            operators,
            splits,
            time: Some((self.head.watermark(), self.head.activity())),
            committable,
        });
        Ok(())
    }

    /// Tells the reader what is complete: the positions of `epoch`, not those that it has come to since.
    async fn tell_positions(&mut self, epoch: Epoch, reader: &mut dyn SourceReader) -> Result<()> {
        let mut complete = None;
        while self.snapshots.front().is_some_and(|(of, _)| *of <= epoch) {
            complete = self.snapshots.pop_front();
        }
        match complete {
            Some((of, positions)) => reader.on_commit(of, &positions).await,
            None => Ok(()),
        }
    }

    /// Waits for the commit of what was handed over last, and tells the reader of it.
    async fn tell_last(&mut self, reader: &mut dyn SourceReader) -> Result<()> {
        while !self.snapshots.is_empty() {
            let cancellation = self.context.cancellation.clone();
            tokio::select! {
                biased;
                () = cancellation.cancelled() => return Err(Error::cancelled()),
                changed = self.context.committed.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                }
            }
            let epoch = Epoch(*self.context.committed.borrow_and_update());
            self.tell_positions(epoch, reader).await?;
        }
        Ok(())
    }

    async fn apply(&mut self, change: Change) -> Result<()> {
        if let Some(watermark) = change.watermark.filter(|w| *w < Timestamp::MAX) {
            self.context.metrics.watermark.store(watermark.0, Ordering::Relaxed);
        }
        self.chain.change(change).await
    }
}
