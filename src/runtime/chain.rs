//! A chain of operators called directly, one after the other, and what stands at its end.
//!
//! ```text
//!  batch, watermark, … ─► op 0 ─► op 1 ─► … ─► Tail (exchanges to the next tasks, or a sink writer)
//! ```
//!
//! Work is kept on an explicit stack, deepest first: what operator *i* produced is carried to the tail before operator
//! *i* goes on with [`Operator::resume`], so that a batch that explodes into thousands never piles up in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::edges::Committable;
use crate::error::{Error, Result, ResultExt};
use crate::failpoint::failpoint;
use crate::runtime::channel::Cancellation;
use crate::runtime::exchange::ExchangeOutput;
use crate::runtime::gauges::OperatorGauge;
use crate::runtime::job::JobMetrics;
use crate::runtime::message::{Barrier, BarrierKind, Message};
use crate::runtime::operator::{Operator, OperatorMetrics, Output, Progress, Spillable};
use crate::runtime::sink::SinkDriver;
use crate::runtime::spilling::memory::{StateMemory, StateShare};
use crate::stream::snapshot::{OperatorSnapshot, SnapshotMode, SnapshotWriter};
use crate::stream::watermark::Change;
use crate::stream::{Activity, ChangeBatch, Epoch, Timestamp};

/// What stands at the end of a chain.
pub enum Tail {
    /// Edges to other tasks; each gets everything.
    Exchanges(Vec<ExchangeOutput>),
    /// A sink.
    Sink(SinkDriver),
}

enum Work {
    Batch(usize, usize, ChangeBatch),
    Resume(usize),
    Watermark(usize, Timestamp),
    Timer(usize, Timestamp),
    Flush(usize),
    /// As `Flush` or, if it is true, to be emptied at any price, once everything asked has been answered and is out.
    Settle(usize, bool),
    /// An edge operator goes on with its next answer.
    Await(usize),
    /// The last watermark, which goes on only behind the end of each operator.
    EndOfTime(usize),
    End(usize),
}

/// Counting dropped rows asks every operator.
const COUNT_EVERY: Duration = Duration::from_millis(200);

/// Operators with their uids, the tail, and the stack of work under way.
pub struct Chain {
    operators: Vec<(String, Box<dyn Operator>)>,
    /// By operator: the watermark it has heard, and the one that those behind it have.
    times: Vec<(Timestamp, Timestamp)>,
    tail: Tail,
    stack: Vec<Work>,
    output: Output,
    metrics: Arc<JobMetrics>,
    cancellation: Cancellation,
    /// What the job's counters have seen of the operators' ones.
    dropped: OperatorMetrics,
    /// By operator: where it tells what it holds, and what it told last.
    gauges: Vec<(Arc<OperatorGauge>, OperatorMetrics)>,
    /// What the process may hold in state, and by operator its part, if its state cannot rest on disk.
    memory: Option<StateMemory>,
    shares: Vec<Option<StateShare>>,
    /// When they were last counted between watermarks.
    counted: Instant,
    /// Number of operators at the head that have ended.
    ended: usize,
}

/// Whether an operator waits for answers.
fn waits(operator: &mut dyn Operator) -> bool {
    operator.asked().is_some_and(|asked| !asked.is_empty())
}

impl Chain {
    /// A chain of `(uid, operator)`.
    pub fn new(
        operators: Vec<(String, Box<dyn Operator>)>,
        tail: Tail,
        metrics: Arc<JobMetrics>,
        cancellation: Cancellation,
    ) -> Self {
        let gauge = |(uid, operator): &(String, Box<dyn Operator>)| {
            (metrics.operators.of(uid, operator.name()), OperatorMetrics::default())
        };
        Chain {
            times: vec![(Timestamp::MIN, Timestamp::MIN); operators.len()],
            gauges: operators.iter().map(gauge).collect(),
            memory: None,
            shares: operators.iter().map(|_| None).collect(),
            operators,
            tail,
            stack: Vec::new(),
            output: Output::new(),
            metrics,
            cancellation,
            dropped: OperatorMetrics::default(),
            counted: Instant::now(),
            ended: 0,
        }
    }

    /// It goes on from a snapshot taken after the end of its first `ended` operators: they do not end a second time.
    #[must_use]
    pub fn after_end_of(mut self, ended: usize) -> Self {
        self.ended = ended;
        self
    }

    /// State that cannot rest on disk counts in the budget all the same, so that other state makes room for it.
    #[must_use]
    pub fn within(mut self, memory: Option<StateMemory>) -> Self {
        self.memory = memory;
        self
    }

    /// The state of every operator, or what has changed of it.
    ///
    /// # Errors
    /// Of the operators.
    pub fn snapshot(&mut self, mode: SnapshotMode) -> Result<Vec<(String, OperatorSnapshot)>> {
        self.operators
            .iter_mut()
            .map(|(uid, operator)| {
                let mut writer = SnapshotWriter::of(mode);
                operator.snapshot(&mut writer).context(|| format!("snapshot of {}", operator.name()))?;
                Ok((uid.clone(), writer.finish()))
            })
            .collect()
    }

    /// Takes a batch into the head at `port`.
    ///
    /// # Errors
    /// Of the operators and the tail.
    pub async fn batch(&mut self, port: usize, batch: ChangeBatch) -> Result<()> {
        self.run(Work::Batch(0, port, batch)).await?;
        self.count_dropped_at_times();
        Ok(())
    }

    /// The watermark of the head's inputs rose. Everything held back is emitted first.
    ///
    /// # Errors
    /// Of the operators and the tail.
    pub async fn watermark(&mut self, watermark: Timestamp) -> Result<()> {
        self.run(Work::Watermark(0, watermark)).await?;
        self.count_dropped();
        Ok(())
    }

    /// Time or activity of the inputs changed: they are active before time goes on, and idle behind it. The end of time
    /// is announced by the end of the input alone.
    ///
    /// # Errors
    /// Of the operators and the tail.
    pub async fn change(&mut self, change: Change) -> Result<()> {
        if change.activity == Some(Activity::Active) {
            self.activity(Activity::Active).await?;
        }
        if let Some(watermark) = change.watermark
            && watermark < Timestamp::MAX
        {
            self.watermark(watermark).await?;
        }
        if change.activity == Some(Activity::Idle) {
            self.activity(Activity::Idle).await?;
        }
        Ok(())
    }

    /// Processing time is `now`.
    ///
    /// # Errors
    /// Of the operators and the tail.
    pub async fn timer(&mut self, now: Timestamp) -> Result<()> {
        self.run(Work::Timer(0, now)).await
    }

    /// Earliest processing-time timer of the operators.
    pub fn next_timer(&self) -> Option<Timestamp> {
        self.operators.iter().filter_map(|(_, o)| o.next_timer()).min()
    }

    /// Whether an operator has to know the processing time of each batch.
    pub fn takes_time(&self) -> bool {
        self.operators.iter().any(|(_, o)| o.takes_time())
    }

    /// When the sink has something to flush again.
    pub fn next_flush(&self) -> Option<std::time::Instant> {
        match &self.tail {
            Tail::Sink(writer) => writer.next_flush(),
            Tail::Exchanges(_) => None,
        }
    }

    /// The inputs are empty for now: emits what is held back, pushes the sink's buffer out.
    ///
    /// # Errors
    /// Of the operators and the tail.
    pub async fn flush(&mut self) -> Result<()> {
        self.run(Work::Flush(0)).await?;
        self.count_dropped_at_times();
        if let Tail::Sink(writer) = &mut self.tail {
            self.cancellation.run(writer.flush()).await?;
        }
        Ok(())
    }

    /// Forwards idleness, behind what was held back.
    ///
    /// # Errors
    /// Of the operators and the tail.
    pub async fn activity(&mut self, activity: Activity) -> Result<()> {
        let holds = self.operators.iter_mut().any(|(_, o)| o.output_watermark().is_some() || waits(&mut **o));
        if activity == Activity::Idle && holds {
            self.run(Work::Settle(0, true)).await?;
        }
        self.control(&Message::Activity(activity)).await
    }

    /// Resolves when an edge operator has an answer to give out; never if nothing was asked.
    pub async fn answered(&mut self) {
        let answered = |cx: &mut std::task::Context<'_>| {
            let mut asked = self.operators.iter_mut().filter_map(|(_, o)| o.asked());
            if asked.any(|a| a.poll_answered(cx).is_ready()) { Poll::Ready(()) } else { Poll::Pending }
        };
        std::future::poll_fn(answered).await;
    }

    /// Gives out what has been answered.
    ///
    /// # Errors
    /// Of the operators and the tail.
    pub async fn give_out(&mut self) -> Result<()> {
        for i in (0..self.operators.len()).rev() {
            if waits(&mut *self.operators[i].1) {
                self.run(Work::Resume(i)).await?;
            }
        }
        Ok(())
    }

    /// A barrier has been aligned: flushes, forwards the barrier, snapshots every operator, prepares the sink.
    ///
    /// # Errors
    /// Of the operators and the tail.
    pub async fn barrier(
        &mut self,
        barrier: Barrier,
    ) -> Result<(Vec<(String, OperatorSnapshot)>, Option<Committable>)> {
        let drains = barrier.keep.is_some() || barrier.kind == BarrierKind::Final;
        self.run(Work::Settle(0, drains)).await?;
        // The barrier moves on at once: those behind need not wait for this state to be written down.
        self.control(&Message::Barrier(barrier)).await?;
        failpoint("barrier-passed");
        let snapshots = barrier.keep.map_or_else(|| Ok(Vec::new()), |mode| self.snapshot(mode))?;
        let committable = self.prepare(barrier.epoch).await?;
        if committable.is_some() {
            failpoint("sink-prepared");
        }
        Ok((snapshots, committable))
    }

    /// All inputs have ended: for one operator after the other the end of time and its own end, then for the tail.
    ///
    /// # Errors
    /// Of the operators and the tail.
    pub async fn end(&mut self, epoch: Epoch) -> Result<Option<Committable>> {
        self.run(Work::EndOfTime(self.ended)).await?;
        self.count_dropped();
        self.control(&Message::EndOfInput).await?;
        self.prepare(epoch).await
    }

    /// Epoch `epoch` is complete everywhere.
    ///
    /// # Errors
    /// Of the operators.
    pub fn on_commit(&mut self, epoch: Epoch) -> Result<()> {
        for (_, operator) in &mut self.operators {
            operator.on_commit(epoch)?;
        }
        Ok(())
    }

    /// The job failed: removes what the sink has written.
    pub async fn abort(&mut self) {
        if let Tail::Sink(writer) = &mut self.tail {
            writer.abort().await;
        }
    }

    async fn prepare(&mut self, epoch: Epoch) -> Result<Option<Committable>> {
        let Tail::Sink(writer) = &mut self.tail else { return Ok(None) };
        self.cancellation.run(writer.prepare(epoch)).await
    }

    async fn control(&mut self, message: &Message) -> Result<()> {
        match &mut self.tail {
            Tail::Exchanges(outputs) => {
                for output in outputs {
                    output.broadcast(message, &self.cancellation).await?;
                }
            }
            Tail::Sink(writer) => match message {
                Message::Watermark(watermark) => writer.on_watermark(*watermark),
                Message::Activity(activity) => writer.on_activity(*activity),
                // Barriers and the end come to it as `prepare`.
                _ => {}
            },
        }
        Ok(())
    }

    /// Where all rows are late, no watermark comes to count them by.
    fn count_dropped_at_times(&mut self) {
        let now = Instant::now();
        if now >= self.counted + COUNT_EVERY {
            self.counted = now;
            self.count_dropped();
        }
    }

    fn count_dropped(&mut self) {
        let mut all = OperatorMetrics::default();
        let operators = self.operators.iter().zip(&mut self.gauges).zip(&mut self.shares);
        for (((_, operator), (gauge, told)), share) in operators {
            let now = operator.metrics();
            gauge.tell(told, &now);
            if let Some(memory) = &self.memory
                && operator.spillable() == Spillable::No
            {
                memory.hold(share, now.state_bytes as usize, operator.name(), &self.metrics.notices);
            }
            *told = now;
            all += now;
        }
        let count = |counter: &AtomicU64, now: u64, before: u64| {
            counter.fetch_add(now.saturating_sub(before), Ordering::Relaxed);
        };
        count(&self.metrics.late_rows_dropped, all.late_rows_dropped, self.dropped.late_rows_dropped);
        count(&self.metrics.null_times_dropped, all.null_times_dropped, self.dropped.null_times_dropped);
        self.dropped = all;
    }

    async fn run(&mut self, work: Work) -> Result<()> {
        self.stack.push(work);
        while let Some(work) = self.stack.pop() {
            if let Work::Resume(_) = work {
                // One batch can keep a chain busy for minutes, behind a tail that never has to wait.
                if self.cancellation.is_cancelled() {
                    return Err(Error::cancelled());
                }
                tokio::task::yield_now().await;
            }
            self.step(work).await?;
        }
        Ok(())
    }

    async fn step(&mut self, work: Work) -> Result<()> {
        let depth = self.operators.len();
        let (i, progress) = match work {
            Work::Batch(i, _, batch) if i >= depth => return self.deliver(batch).await,
            Work::Watermark(i, watermark) if i >= depth => {
                return self.control(&Message::Watermark(watermark)).await;
            }
            Work::EndOfTime(i) if i >= depth => {
                return self.control(&Message::Watermark(Timestamp::MAX)).await;
            }
            Work::Timer(i, _)
            | Work::Flush(i)
            | Work::Settle(i, _)
            | Work::Await(i)
            | Work::End(i)
            | Work::Resume(i)
                if i >= depth =>
            {
                return Ok(());
            }
            Work::Await(i) => {
                let operator = &mut self.operators[i].1;
                let answered = std::future::poll_fn(|cx| match operator.asked() {
                    Some(asked) if !asked.is_empty() => asked.poll_answered(cx).map(Ok),
                    _ => Poll::Ready(Ok(())),
                });
                self.cancellation.run(answered).await?;
                self.stack.push(Work::Resume(i));
                return Ok(());
            }
            Work::Settle(i, _) | Work::EndOfTime(i) if waits(&mut *self.operators[i].1) => {
                self.stack.push(work);
                self.stack.push(Work::Await(i));
                return Ok(());
            }
            Work::Batch(i, port, batch) => (i, self.operators[i].1.process(port, batch, &mut self.output)),
            Work::Resume(i) => (i, self.operators[i].1.resume(&mut self.output)),
            Work::Timer(i, now) => {
                self.stack.push(Work::Timer(i + 1, now));
                (i, self.operators[i].1.on_timer(now, &mut self.output))
            }
            Work::Flush(i) => {
                self.stack.push(Work::Flush(i + 1));
                (i, self.operators[i].1.flush(&mut self.output))
            }
            Work::Settle(i, drains) => {
                self.stack.push(Work::Settle(i + 1, drains));
                let operator = &mut self.operators[i].1;
                let output = &mut self.output;
                (i, if drains { operator.drain(output) } else { operator.flush(output) })
            }
            Work::End(i) => {
                self.stack.push(Work::EndOfTime(i + 1));
                (i, self.operators[i].1.on_end(&mut self.output))
            }
            Work::Watermark(i, watermark) => {
                let (told, progress) = self.tell_time(i, watermark);
                if told {
                    self.times[i].0 = watermark;
                } else {
                    self.stack.push(Work::Watermark(i, watermark));
                }
                (i, progress)
            }
            Work::EndOfTime(i) => {
                let (told, progress) = self.tell_time(i, Timestamp::MAX);
                self.stack.push(if told { Work::End(i) } else { Work::EndOfTime(i) });
                (i, progress)
            }
        };
        let (uid, operator) = &mut self.operators[i];
        let progress = progress.map_err(|e| e.context(operator.name()).in_operator(uid))?;
        if progress == Progress::More {
            self.stack.push(Work::Resume(i));
        } else {
            if operator.asked().is_some_and(|asked| asked.is_full()) {
                self.stack.push(Work::Await(i));
            }
            let (heard, passed) = &mut self.times[i];
            let reached = operator.output_watermark().map_or(*heard, |held| held.min(*heard));
            if reached > *passed {
                *passed = reached;
                self.stack.push(Work::Watermark(i + 1, reached));
            }
        }
        // Reversed, as the stack gives the last one first.
        for batch in self.output.drain().rev() {
            self.stack.push(Work::Batch(i + 1, 0, batch));
        }
        Ok(())
    }

    /// Tells an operator a watermark, unless there is more to come of what it holds back, which belongs before it.
    fn tell_time(&mut self, i: usize, watermark: Timestamp) -> (bool, Result<Progress>) {
        let operator = &mut self.operators[i].1;
        match operator.flush(&mut self.output) {
            Ok(Progress::Done) => (true, operator.on_watermark(watermark, &mut self.output)),
            other => (false, other),
        }
    }

    async fn deliver(&mut self, batch: ChangeBatch) -> Result<()> {
        match &mut self.tail {
            Tail::Exchanges(outputs) => {
                let Some((last, others)) = outputs.split_last_mut() else { return Ok(()) };
                for output in others {
                    output.send(batch.clone(), &self.cancellation).await?;
                }
                last.send(batch, &self.cancellation).await
            }
            Tail::Sink(writer) => self.cancellation.run(writer.write(batch)).await,
        }
    }
}

impl Drop for Chain {
    /// What it holds is gone; what it has dropped stays counted.
    fn drop(&mut self) {
        for (gauge, told) in &mut self.gauges {
            let kept =
                OperatorMetrics { late_rows_dropped: told.late_rows_dropped, ..OperatorMetrics::default() };
            gauge.tell(told, &kept);
            *told = kept;
        }
    }
}
