//! The task driver: one per chain and subtask. It alone knows channels, alignment, the watermark minimum, timers,
//! barriers and cancellation.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow::compute::concat_batches;
use tokio::sync::{mpsc, watch};

use crate::edges::{Committable, SourceEvent, SourceReader, SplitState};
use crate::error::Result;
use crate::runtime::chain::Chain;
use crate::runtime::channel::{Cancellation, Receiver};
use crate::runtime::job::JobMetrics;
use crate::runtime::message::{Barrier, BarrierKind, Message};
use crate::runtime::source::SourceHead;
use crate::stream::BATCH_ROWS;
use crate::stream::snapshot::OperatorSnapshot;
use crate::stream::watermark::{Change, WatermarkTracker};
use crate::stream::{Activity, ChangeBatch, Epoch, RowKinds, Timestamp};

/// What a task tells the coordinator.
#[derive(Debug)]
pub enum TaskEvent {
    /// It has passed a barrier.
    Snapshot {
        /// Which task.
        task: usize,
        /// Which barrier.
        epoch: Epoch,
        /// State by operator uid.
        operators: Vec<(String, OperatorSnapshot)>,
        /// Positions, from source tasks.
        splits: Vec<SplitState>,
        /// How far time is, from source tasks.
        time: Option<(Timestamp, Activity)>,
        /// From sink tasks.
        committable: Option<Committable>,
    },
    /// A source has read as much as it may and waits for the last barrier.
    Paused {
        /// Which task.
        task: usize,
    },
    /// It has reached the end of its input.
    Finished {
        /// Which task.
        task: usize,
        /// State by operator uid, if snapshots are kept.
        operators: Vec<(String, OperatorSnapshot)>,
        /// Positions, from source tasks, if snapshots are kept.
        splits: Vec<SplitState>,
        /// From sink tasks.
        committable: Option<Committable>,
    },
}

/// Ties of a task to its job.
#[derive(Clone)]
pub struct TaskContext {
    /// Number of the task.
    pub task: usize,
    /// To the coordinator.
    pub events: mpsc::UnboundedSender<TaskEvent>,
    /// Barriers to inject (source tasks).
    pub barriers: watch::Receiver<Option<Barrier>>,
    /// Newest complete epoch.
    pub committed: watch::Receiver<u64>,
    /// Set when the job fails.
    pub cancellation: Cancellation,
    /// Counters.
    pub metrics: Arc<JobMetrics>,
    /// Whether somebody keeps snapshots.
    pub keep: bool,
    /// Batches after which a source stops.
    pub pause_after: Option<usize>,
}

impl TaskContext {
    fn report(&self, event: TaskEvent) {
        // The coordinator outlives its tasks unless the whole job is being dropped.
        let _ = self.events.send(event);
    }

    /// Newest epoch that completed since the last call.
    fn newly_committed(&mut self) -> Option<Epoch> {
        match self.committed.has_changed() {
            Ok(true) => Some(Epoch(*self.committed.borrow_and_update())),
            _ => None,
        }
    }
}

/// Epoch under which the last committables of ended inputs are prepared: after every periodic one.
pub const FINAL_EPOCH: Epoch = Epoch(u64::MAX);

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn until(timer: Option<Timestamp>) -> Option<Instant> {
    timer.map(|t| Instant::now() + Duration::from_millis(t.0.saturating_sub(now().0).max(0) as u64))
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(i) => tokio::time::sleep_until(i.into()).await,
        None => std::future::pending().await,
    }
}

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
    let mut task = SourceTask { head, chain, context, batches_left };
    let mut reader = reader;
    let result = task.run(&mut *reader).await;
    if result.is_err() {
        task.chain.abort().await;
    }
    result
}

/// Timers that are due while there is always another batch.
async fn due_timers(chain: &mut Chain) -> Result<()> {
    if let Some(timer) = chain.next_timer() {
        let now = now();
        if timer <= now {
            chain.timer(now).await?;
        }
    }
    Ok(())
}

struct SourceTask {
    head: SourceHead,
    chain: Chain,
    context: TaskContext,
    /// Batches until it stops.
    batches_left: Option<usize>,
}

enum Wake {
    Event(Result<SourceEvent>),
    Barrier,
    Timer,
}

impl SourceTask {
    async fn run(&mut self, reader: &mut dyn SourceReader) -> Result<()> {
        // Where a snapshot left time is news to all that stands behind.
        let watermark = Some(self.head.watermark()).filter(|w| *w > Timestamp::MIN);
        self.apply(Change { watermark, activity: None }).await?;
        loop {
            if let Some(barrier) = self.pending_barrier() {
                self.barrier(barrier, reader).await?;
                if barrier.kind == BarrierKind::Final {
                    return Ok(());
                }
            }
            if let Some(epoch) = self.context.newly_committed() {
                self.chain.on_commit(epoch)?;
                reader.on_commit(epoch).await?;
            }
            match self.wait(reader).await? {
                Wake::Barrier => {}
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
                        let change = self.head.finish_split(split);
                        self.apply(change).await?;
                    }
                    SourceEvent::Batch { split, batch } => {
                        self.context.metrics.rows_in.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
                        let (batch, change) = self.head.batch(split, batch, Instant::now())?;
                        if change.activity == Some(Activity::Active) {
                            self.chain.activity(Activity::Active).await?;
                        }
                        if batch.num_rows() > 0 {
                            due_timers(&mut self.chain).await?;
                            self.chain.batch(0, batch).await?;
                        }
                        self.apply(Change { activity: None, ..change }).await?;
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
                    SourceEvent::End => {
                        self.head.tell(&self.context.metrics, Instant::now(), true);
                        let committable = self.chain.end(FINAL_EPOCH).await?;
                        let keep = self.context.keep;
                        self.context.report(TaskEvent::Finished {
                            task: self.context.task,
                            operators: if keep { self.chain.snapshot()? } else { Vec::new() },
                            splits: if keep { reader.snapshot()? } else { Vec::new() },
                            committable,
                        });
                        return Ok(());
                    }
                },
            }
        }
    }

    /// Waits for what comes next; flushes when the reader has nothing ready.
    async fn wait(&mut self, reader: &mut dyn SourceReader) -> Result<Wake> {
        // A reader that always has rows never gets to the select below.
        if self.context.cancellation.is_cancelled() {
            return Err(crate::error::Error::cancelled());
        }
        let paused = self.batches_left == Some(0);
        let mut next =
            pin!(async { if paused { std::future::pending().await } else { reader.next().await } });
        if let Poll::Ready(event) = futures::poll!(next.as_mut()) {
            return Ok(Wake::Event(event));
        }
        self.chain.flush().await?;
        let timers = [self.head.next_check(), until(self.chain.next_timer()), self.chain.next_flush()];
        let timer = timers.into_iter().flatten().min();
        let cancellation = self.context.cancellation.clone();
        tokio::select! {
            biased;
            () = cancellation.cancelled() => Err(crate::error::Error::cancelled()),
            changed = self.context.barriers.changed() => {
                if changed.is_err() {
                    return Err(crate::error::Error::cancelled());
                }
                // Looked at by the loop.
                self.context.barriers.mark_changed();
                Ok(Wake::Barrier)
            }
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

    async fn apply(&mut self, change: Change) -> Result<()> {
        if change.activity == Some(Activity::Active) {
            self.chain.activity(Activity::Active).await?;
        }
        if let Some(watermark) = change.watermark {
            // The end of time is announced by the end of the input alone.
            if watermark < Timestamp::MAX {
                self.context.metrics.watermark.store(watermark.0, Ordering::Relaxed);
                self.chain.watermark(watermark).await?;
            }
        }
        if change.activity == Some(Activity::Idle) {
            self.chain.activity(Activity::Idle).await?;
        }
        Ok(())
    }
}

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
    let result = task.run().await;
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
                    self.apply(change).await?;
                }
                Message::Activity(activity) => {
                    let change = self.tracker.on_activity(queue, activity);
                    self.apply(change).await?;
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
                            operators: if self.context.keep { self.chain.snapshot()? } else { Vec::new() },
                            splits: Vec::new(),
                            committable,
                        });
                        return Ok(());
                    }
                    let change = self.tracker.on_end(queue);
                    self.apply(change).await?;
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
                () = self.context.cancellation.cancelled() => return Err(crate::error::Error::cancelled()),
                () = self.receiver.arrived() => {}
                () = sleep_until(timer) => return Ok(None),
            }
        }
    }

    /// Joins the small batches that wait behind `first` in its queue: keyed exchanges cut batches into slivers.
    fn coalesce(&mut self, queue: usize, first: ChangeBatch) -> Result<ChangeBatch> {
        let mut rows = first.num_rows();
        if rows >= BATCH_ROWS / 2 {
            return Ok(first);
        }
        let mut parts = vec![first];
        while rows < BATCH_ROWS {
            let Some(Message::Batch(next)) = self.receiver.try_receive_batch(queue, BATCH_ROWS - rows) else {
                break;
            };
            rows += next.num_rows();
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

    async fn apply(&mut self, change: Change) -> Result<()> {
        if change.activity == Some(Activity::Active) {
            self.chain.activity(Activity::Active).await?;
        }
        if let Some(watermark) = change.watermark
            && watermark < Timestamp::MAX
        {
            self.chain.watermark(watermark).await?;
        }
        if change.activity == Some(Activity::Idle) {
            self.chain.activity(Activity::Idle).await?;
        }
        Ok(())
    }
}
