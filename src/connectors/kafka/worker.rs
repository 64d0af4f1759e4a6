//! The task of a reader: takes records from the queues of its partitions and decodes them. It sleeps until a queue has
//! something, so that a thousand of them that have nothing to do cost nothing.
//!
//! A bounded partition ends at its stop offset. The record there need not exist: transaction markers, aborted records
//! and compaction leave holes, also at the very end. So the end of the partition counts too: when the broker has
//! nothing more below the stop offset, the task asks once more from where it is, and ends if the answer is the same.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::{Notify, mpsc};

use super::client::Context;
use super::native;
use super::offsets::TopicPartition;
use super::reader::{ReaderSetup, SplitPlan};
use super::shared::Lease;
use crate::edges::source::UNKNOWN_LAG;
use crate::edges::{SourceEvent, SplitId};
use crate::error::{Error, Result};
use crate::runtime::blocking::blocking;
use crate::stream::{BATCH_BYTES, ChangeBatch};

/// How often the lag is worked out, and how long the task sleeps when nothing wakes it.
const LAG_EVERY: Duration = Duration::from_secs(1);

/// What the task tells the async side.
pub(super) struct Item {
    pub(super) event: Option<SourceEvent>,
    pub(super) started: Vec<(SplitId, SplitPlan)>,
    pub(super) moved: Option<(SplitId, i64)>,
}

/// A partition being read.
struct Split {
    id: SplitId,
    plan: SplitPlan,
    /// Whose client it is read with.
    consumer: Arc<BaseConsumer<Context>>,
    queue: PartitionQueue<Context>,
    /// Where the end of the partition was met below the stop offset and is being asked for again.
    asked_again: Option<i64>,
}

/// Whether the task goes on.
enum Step {
    Idle,
    Progress,
    Stop,
}

/// What the task works with.
pub(super) struct Worker {
    setup: ReaderSetup,
    out: mpsc::Sender<Result<Item>>,
    inbox: mpsc::UnboundedReceiver<Vec<SplitPlan>>,
    /// A queue has something.
    ready: Arc<Notify>,
    /// Dropped before the leases.
    splits: Vec<Split>,
    leases: Vec<Lease>,
    next_id: SplitId,
    lag_at: Instant,
}

/// The async side has gone.
struct Gone;

impl Drop for Worker {
    /// The partitions are free for others when nothing more of them can come. Also when the task is dropped where it waits.
    fn drop(&mut self) {
        for split in std::mem::take(&mut self.splits) {
            split.leave().ok();
        }
    }
}

impl Split {
    /// Ends reading. What is in the queue is not read any more, and would stay there for as long as the client lives.
    fn leave(self) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.plan.at.topic, self.plan.at.partition);
        self.consumer.incremental_unassign(&list)?;
        while self.queue.poll(Duration::ZERO).is_some() {}
        Ok(())
    }
}

impl Worker {
    pub(super) fn new(
        setup: ReaderSetup,
        lease: Lease,
        out: mpsc::Sender<Result<Item>>,
        inbox: mpsc::UnboundedReceiver<Vec<SplitPlan>>,
    ) -> Self {
        Worker {
            setup,
            out,
            inbox,
            ready: Arc::default(),
            splits: Vec::new(),
            leases: vec![lease],
            next_id: 0,
            lag_at: Instant::now(),
        }
    }

    /// Works until everything is read, something fails or the reader is dropped.
    pub(super) async fn run(mut self) {
        let first = std::mem::take(&mut self.setup.splits);
        let mut step = self.begin(first).await;
        loop {
            step = match step {
                Ok(Step::Stop) => break,
                Ok(Step::Idle) => self.sleep().await,
                Ok(Step::Progress) => self.turn().await,
                Err(e) => {
                    let _ = self.out.send(Err(e)).await;
                    break;
                }
            };
        }
        let splits = std::mem::take(&mut self.splits);
        blocking(|| {
            splits.into_iter().for_each(|split| {
                split.leave().ok();
            });
        });
        self.leases.clear();
        // What is in the channel is still to be read, and its end would be a failure.
        self.out.closed().await;
    }

    /// Waits for something to do.
    async fn sleep(&mut self) -> Result<Step> {
        let next = tokio::time::Instant::from_std(self.lag_at + LAG_EVERY);
        tokio::select! {
            () = self.ready.notified() => {}
            () = self.out.closed() => return Ok(Step::Stop),
            () = tokio::time::sleep_until(next) => {}
            Some(plans) = self.inbox.recv() => return self.take_on(plans).await,
        }
        Ok(Step::Progress)
    }

    /// Starts reading partitions that were found later.
    async fn take_on(&mut self, plans: Vec<SplitPlan>) -> Result<Step> {
        let partitions: Vec<TopicPartition> = plans.iter().map(|p| p.at.clone()).collect();
        if !self.leases.iter_mut().take(1).any(|lease| lease.extend(&partitions)) {
            let ReaderSetup { options, servers, subtask, .. } = &self.setup;
            self.leases.insert(0, Lease::take(options, servers, *subtask, &partitions)?);
        }
        self.begin(plans).await
    }

    async fn send(&mut self, item: Item) -> Result<(), Gone> {
        self.out.send(Ok(item)).await.map_err(|_| Gone)
    }

    async fn tell(&mut self, event: SourceEvent) -> Result<(), Gone> {
        self.send(Item { event: Some(event), started: Vec::new(), moved: None }).await
    }

    /// Starts reading partitions of the first lease.
    async fn begin(&mut self, plans: Vec<SplitPlan>) -> Result<Step> {
        let Some(consumer) = self.leases.first().map(|lease| Arc::clone(lease.consumer())) else {
            return Ok(Step::Stop);
        };
        let fail = |e: KafkaError| consumer.context().error("", &e);
        let mut started = Vec::new();
        let mut finished = Vec::new();
        let mut assignment = TopicPartitionList::new();
        for plan in plans {
            let id = self.next_id;
            self.next_id += 1;
            started.push((id, plan.clone()));
            if plan.done() {
                finished.push(id);
                continue;
            }
            // Split off before assigned, so that nothing reaches the common queue.
            let Some(mut queue) = consumer.split_partition_queue(&plan.at.topic, plan.at.partition) else {
                return Err(Error::internal(format!("{}: no queue", plan.at)));
            };
            let ready = Arc::clone(&self.ready);
            queue.set_nonempty_callback(move || ready.notify_one());
            assignment
                .add_partition_offset(&plan.at.topic, plan.at.partition, Offset::Offset(plan.next))
                .map_err(fail)?;
            self.splits.push(Split { id, plan, consumer: Arc::clone(&consumer), queue, asked_again: None });
        }
        if assignment.count() > 0 {
            blocking(|| consumer.incremental_assign(&assignment)).map_err(fail)?;
        }
        let ids = started.iter().map(|(id, _)| *id).collect();
        let item = Item { event: Some(SourceEvent::SplitsStarted(ids)), started, moved: None };
        let mut told = self.send(item).await;
        for id in finished {
            told = told.and(self.tell(SourceEvent::SplitFinished(id)).await);
        }
        if told.is_err() {
            return Ok(Step::Stop);
        }
        self.end_if_done().await
    }

    /// `End` once nothing is left to read and nothing can come.
    async fn end_if_done(&mut self) -> Result<Step> {
        if !self.splits.is_empty() || self.setup.open_ended {
            return Ok(Step::Progress);
        }
        let _ = self.tell(SourceEvent::End).await;
        Ok(Step::Stop)
    }

    /// One round over all partitions.
    async fn turn(&mut self) -> Result<Step> {
        if self.out.is_closed() {
            return Ok(Step::Stop);
        }
        self.leases.iter().try_for_each(Lease::check)?;
        // Also while there is something to read all the time.
        if let Ok(plans) = self.inbox.try_recv() {
            return self.take_on(plans).await;
        }
        let (mut progress, mut again) = (false, false);
        let mut i = 0;
        while i < self.splits.len() {
            let drained = self.drain(i)?;
            let Some(split) = self.splits.get(i) else { break };
            progress |= drained.batch.is_some() || drained.moved || drained.finished;
            again |= drained.again;
            let (id, next) = (split.id, split.plan.next);
            let event = drained.batch.map(|batch| SourceEvent::Batch { split: id, batch });
            if event.is_some() || drained.moved {
                let item = Item { event, started: Vec::new(), moved: Some((id, next)) };
                if self.send(item).await.is_err() {
                    return Ok(Step::Stop);
                }
            }
            if drained.finished {
                if self.finish(i).await?.is_err() {
                    return Ok(Step::Stop);
                }
                if let Step::Stop = self.end_if_done().await? {
                    return Ok(Step::Stop);
                }
            } else {
                i += 1;
            }
        }
        self.report_lag();
        if progress {
            self.leases.iter().for_each(|lease| lease.consumer().context().mark_up());
            return Ok(Step::Progress);
        }
        Ok(if again { Step::Progress } else { Step::Idle })
    }

    /// Takes what a partition has ready, up to a batch.
    fn drain(&mut self, i: usize) -> Result<Drained> {
        let mut drained = Drained::default();
        let Some(split) = self.splits.get_mut(i) else { return Ok(drained) };
        let start = split.plan.next;
        let mut bytes = 0;
        let mut failed = None;
        for _ in 0..self.setup.batch_rows {
            match split.queue.poll(Duration::ZERO) {
                None => break,
                Some(Ok(message)) => {
                    let offset = message.offset();
                    if split.plan.stop.is_some_and(|stop| offset >= stop) {
                        drained.finished = true;
                        break;
                    }
                    self.setup.rows.push(&message);
                    bytes += message.payload_len() + message.key_len();
                    split.plan.next = offset + 1;
                    if bytes >= BATCH_BYTES {
                        drained.finished = split.plan.done();
                        break;
                    }
                    if split.plan.done() {
                        drained.finished = true;
                        break;
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    let (Some(stop), TopicPartition { topic, partition }) = (split.plan.stop, &split.plan.at)
                    else {
                        continue;
                    };
                    let end = native::cached_end(&split.consumer, topic, *partition);
                    if end.is_none_or(|end| end < stop) {
                        continue;
                    }
                    let next = split.plan.next;
                    if split.asked_again == Some(next) {
                        drained.finished = true;
                        break;
                    }
                    split.asked_again = Some(next);
                    split
                        .consumer
                        .seek(topic, *partition, Offset::Offset(next), Duration::ZERO)
                        .map_err(|e| split.consumer.context().error(&split.plan.at.to_string(), &e))?;
                    drained.again = true;
                    break;
                }
                Some(Err(e)) => {
                    drained.again = true;
                    failed = Some((split.plan.clone(), Arc::clone(&split.consumer), e));
                    break;
                }
            }
        }
        drained.moved = split.plan.next != start;
        if drained.moved {
            self.setup.metrics.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            drained.batch = self.setup.rows.flush(&split.plan.at)?;
            self.setup.metrics.skipped.fetch_add(self.setup.rows.take_skipped(), Ordering::Relaxed);
            self.setup.metrics.nulled.fetch_add(self.setup.rows.take_nulled(), Ordering::Relaxed);
            self.setup.metrics.rested.fetch_add(self.setup.rows.take_rested(), Ordering::Relaxed);
        }
        if drained.finished {
            split.plan.next = split.plan.next.max(split.plan.stop.unwrap_or(split.plan.next));
            drained.moved = true;
        }
        if let Some((plan, consumer, e)) = failed {
            judge(&plan, consumer.context(), &e)?;
        }
        Ok(drained)
    }

    /// Ends a split.
    async fn finish(&mut self, i: usize) -> Result<Result<(), Gone>> {
        let split = self.splits.remove(i);
        let (id, at, consumer) = (split.id, split.plan.at.clone(), Arc::clone(&split.consumer));
        blocking(|| split.leave()).map_err(|e| consumer.context().error(&at.to_string(), &e))?;
        Ok(self.tell(SourceEvent::SplitFinished(id)).await)
    }

    fn report_lag(&mut self) {
        if self.lag_at.elapsed() < LAG_EVERY {
            return;
        }
        self.lag_at = Instant::now();
        let behind = |s: &Split| {
            let end = native::cached_end(&s.consumer, &s.plan.at.topic, s.plan.at.partition)?;
            Some((s.plan.stop.map_or(end, |stop| stop.min(end)) - s.plan.next).max(0))
        };
        // Where a partition ends is what its leader said last, which is old news while that is away.
        let lag = match self.leases.iter().any(Lease::is_unreadable) {
            true => None,
            false => self.splits.iter().map(behind).sum::<Option<i64>>(),
        };
        if let Some(own) = self.setup.lags.get(self.setup.subtask) {
            own.store(lag.unwrap_or(UNKNOWN_LAG), Ordering::Relaxed);
        }
        let lags = self.setup.lags.iter().map(|l| l.load(Ordering::Relaxed));
        let all = lags.map(|lag| Some(lag).filter(|lag| *lag >= 0)).sum::<Option<i64>>();
        self.setup.metrics.lag.store(all.unwrap_or(UNKNOWN_LAG), Ordering::Relaxed);
    }
}

/// What a partition gave.
#[derive(Default)]
struct Drained {
    batch: Option<ChangeBatch>,
    /// The position has moved.
    moved: bool,
    finished: bool,
    /// The queue may have more, of which nobody tells: it was not empty.
    again: bool,
}

/// Whether an error event of a partition ends the job; librdkafka deals with the passing ones itself.
fn judge(plan: &SplitPlan, context: &Context, e: &KafkaError) -> Result<()> {
    let place = plan.at.to_string();
    if let Some(refusal) = context.refusal() {
        return Err(refusal);
    }
    if matches!(e, KafkaError::MessageConsumptionFatal(_)) {
        return Err(context.error(&place, e));
    }
    match e.rdkafka_error_code() {
        Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => Err(Error::validation(format!(
            "{place}: offset {} is not there any more: Kafka has deleted the records up to there, or the topic was made anew",
            plan.next
        ))
        .hint("records are lost to this job; begin again with 'scan.startup.mode' = 'earliest-offset', and keep records longer (retention.ms, retention.bytes)")),
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
            Err(Error::external(format!("{place}: the topic or partition does not exist any more")))
        }
        Some(
            Code::TopicAuthorizationFailed
            | Code::BadMessage
            | Code::InvalidMessage
            | Code::InvalidMessageSize
            | Code::BadCompression
            | Code::Inconsistent,
        ) => Err(context.error(&place, e)),
        _ => Ok(()),
    }
}
