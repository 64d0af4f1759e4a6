//! The thread of a reader: takes records from the queues of its partitions and decodes them.
//!
//! A bounded partition ends at its stop offset. The record there need not exist: transaction markers, aborted records
//! and compaction leave holes, also at the very end. So the end of the partition counts too: when the broker has
//! nothing more below the stop offset, the thread asks once more from where it is, and ends if the answer is the same.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc as std_mpsc};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;

use super::client::Context;
use super::native;
use super::offsets::TopicPartition;
use super::reader::{ReaderSetup, SplitPlan};
use crate::edges::source::UNKNOWN_LAG;
use crate::edges::{SourceEvent, SplitId};
use crate::error::{Error, Result};
use crate::stream::{BATCH_BYTES, ChangeBatch};

/// How long the thread sleeps when nothing wakes it.
const NAP: Duration = Duration::from_millis(50);
/// How often the lag is worked out.
const LAG_EVERY: Duration = Duration::from_secs(1);

/// What the thread tells the async side.
pub(super) struct Item {
    pub(super) event: Option<SourceEvent>,
    pub(super) started: Vec<(SplitId, SplitPlan)>,
    pub(super) moved: Option<(SplitId, i64)>,
}

/// A partition being read.
struct Split {
    id: SplitId,
    plan: SplitPlan,
    queue: PartitionQueue<Context>,
    /// Where the end of the partition was met below the stop offset and is being asked for again.
    asked_again: Option<i64>,
}

/// Whether the thread goes on.
enum Step {
    Idle,
    Progress,
    Stop,
}

/// What the thread works with.
pub(super) struct Worker {
    setup: ReaderSetup,
    out: mpsc::Sender<Result<Item>>,
    inbox: std_mpsc::Receiver<Vec<SplitPlan>>,
    splits: Vec<Split>,
    next_id: SplitId,
    lag_at: Instant,
}

/// The async side has gone.
struct Gone;

impl Worker {
    pub(super) fn new(
        setup: ReaderSetup,
        out: mpsc::Sender<Result<Item>>,
        inbox: std_mpsc::Receiver<Vec<SplitPlan>>,
    ) -> Self {
        Worker { setup, out, inbox, splits: Vec::new(), next_id: 0, lag_at: Instant::now() }
    }

    /// Works until everything is read, something fails or the reader is dropped.
    pub(super) fn run(mut self) {
        let first = std::mem::take(&mut self.setup.splits);
        let mut step = self.begin(first);
        loop {
            match step {
                Ok(Step::Stop) => break,
                Ok(Step::Idle) => std::thread::park_timeout(NAP),
                Ok(Step::Progress) => {}
                Err(e) => {
                    let _ = self.out.blocking_send(Err(e));
                    break;
                }
            }
            step = self.turn();
        }
        self.splits.clear();
        let _ = self.setup.consumer.unassign();
        while !self.out.is_closed() {
            std::thread::park_timeout(NAP);
        }
    }

    fn send(&self, item: Item) -> Result<(), Gone> {
        self.out.blocking_send(Ok(item)).map_err(|_| Gone)
    }

    fn tell(&self, event: SourceEvent) -> Result<(), Gone> {
        self.send(Item { event: Some(event), started: Vec::new(), moved: None })
    }

    /// Starts reading more partitions.
    fn begin(&mut self, plans: Vec<SplitPlan>) -> Result<Step> {
        let consumer = Arc::clone(&self.setup.consumer);
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
            let thread = std::thread::current();
            queue.set_nonempty_callback(move || thread.unpark());
            assignment
                .add_partition_offset(&plan.at.topic, plan.at.partition, Offset::Offset(plan.next))
                .map_err(fail)?;
            self.splits.push(Split { id, plan, queue, asked_again: None });
        }
        if assignment.count() > 0 {
            consumer.incremental_assign(&assignment).map_err(fail)?;
        }
        let ids = started.iter().map(|(id, _)| *id).collect();
        let item = Item { event: Some(SourceEvent::SplitsStarted(ids)), started, moved: None };
        let told = self
            .send(item)
            .and_then(|()| finished.into_iter().try_for_each(|id| self.tell(SourceEvent::SplitFinished(id))));
        if told.is_err() {
            return Ok(Step::Stop);
        }
        self.end_if_done()
    }

    /// `End` once nothing is left to read and nothing can come.
    fn end_if_done(&mut self) -> Result<Step> {
        if !self.splits.is_empty() || self.setup.open_ended {
            return Ok(Step::Progress);
        }
        let _ = self.tell(SourceEvent::End);
        Ok(Step::Stop)
    }

    /// One round over all partitions.
    fn turn(&mut self) -> Result<Step> {
        if self.out.is_closed() {
            return Ok(Step::Stop);
        }
        if let Ok(plans) = self.inbox.try_recv() {
            return self.begin(plans);
        }
        // Serves the callbacks; records never come this way.
        for _ in 0..16 {
            match self.setup.consumer.poll(Duration::ZERO) {
                None => break,
                Some(Ok(message)) => {
                    return Err(Error::internal(format!(
                        "a record of topic {} partition {} came unasked",
                        message.topic(),
                        message.partition()
                    )));
                }
                Some(Err(e)) => self.judge(None, &e)?,
            }
        }
        let mut progress = false;
        let mut i = 0;
        while i < self.splits.len() {
            let drained = self.drain(i)?;
            let Some(split) = self.splits.get(i) else { break };
            progress |= drained.batch.is_some() || drained.moved || drained.finished;
            let (id, next) = (split.id, split.plan.next);
            let event = drained.batch.map(|batch| SourceEvent::Batch { split: id, batch });
            if event.is_some() || drained.moved {
                let item = Item { event, started: Vec::new(), moved: Some((id, next)) };
                if self.send(item).is_err() {
                    return Ok(Step::Stop);
                }
            }
            if drained.finished {
                if self.finish(i)?.is_err() {
                    return Ok(Step::Stop);
                }
                if let Step::Stop = self.end_if_done()? {
                    return Ok(Step::Stop);
                }
            } else {
                i += 1;
            }
        }
        self.report_lag();
        if progress {
            self.setup.consumer.context().mark_up();
            return Ok(Step::Progress);
        }
        self.check_outage()?;
        Ok(Step::Idle)
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
                    let end = native::cached_end(&self.setup.consumer, topic, *partition);
                    if end.is_none_or(|end| end < stop) {
                        continue;
                    }
                    let next = split.plan.next;
                    if split.asked_again == Some(next) {
                        drained.finished = true;
                        break;
                    }
                    split.asked_again = Some(next);
                    self.setup
                        .consumer
                        .seek(topic, *partition, Offset::Offset(next), Duration::ZERO)
                        .map_err(|e| self.setup.consumer.context().error(&split.plan.at.to_string(), &e))?;
                    break;
                }
                Some(Err(e)) => {
                    failed = Some((split.plan.clone(), e));
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
        if let Some((plan, e)) = failed {
            self.judge(Some(&plan), &e)?;
        }
        Ok(drained)
    }

    /// Ends a split.
    fn finish(&mut self, i: usize) -> Result<Result<(), Gone>> {
        let split = self.splits.remove(i);
        let at = &split.plan.at;
        let mut list = TopicPartitionList::new();
        list.add_partition(&at.topic, at.partition);
        self.setup
            .consumer
            .incremental_unassign(&list)
            .map_err(|e| self.setup.consumer.context().error(&at.to_string(), &e))?;
        Ok(self.tell(SourceEvent::SplitFinished(split.id)))
    }

    /// Whether an error event ends the job; librdkafka deals with the passing ones itself.
    fn judge(&self, plan: Option<&SplitPlan>, e: &KafkaError) -> Result<()> {
        let context = self.setup.consumer.context();
        let place = plan.map(|p| p.at.to_string()).unwrap_or_default();
        if let Some(refusal) = context.refusal() {
            return Err(refusal);
        }
        if matches!(e, KafkaError::MessageConsumptionFatal(_)) {
            return Err(context.error(&place, e));
        }
        match e.rdkafka_error_code() {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => {
                let next = plan.map_or(-1, |p| p.next);
                Err(Error::validation(format!("{place}: offset {next} is not there any more: Kafka has deleted the records up to there, or the topic was made anew"))
                    .hint("records are lost to this job; begin again with 'scan.startup.mode' = 'earliest-offset', and keep records longer (retention.ms, retention.bytes)"))
            }
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
                Err(Error::external(format!(
                    "{}the topic or partition does not exist any more",
                    if place.is_empty() { String::new() } else { format!("{place}: ") }
                )))
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

    /// All brokers gone for too long is an error; a single one is librdkafka's business.
    fn check_outage(&self) -> Result<()> {
        let context = self.setup.consumer.context();
        let Some(since) = context.all_down_since() else { return Ok(()) };
        if since.elapsed() < self.setup.outage {
            return Ok(());
        }
        let topic = self.splits.first().map(|s| Arc::clone(&s.plan.at.topic));
        match self.setup.consumer.fetch_metadata(topic.as_deref(), Duration::from_secs(2)) {
            Ok(_) => {
                context.mark_up();
                Ok(())
            }
            Err(e) => {
                Err(context.error("", &e).context(format!("no broker for {} s", since.elapsed().as_secs())))
            }
        }
    }

    fn report_lag(&mut self) {
        if self.lag_at.elapsed() < LAG_EVERY {
            return;
        }
        self.lag_at = Instant::now();
        let behind = |s: &Split| {
            let end = native::cached_end(&self.setup.consumer, &s.plan.at.topic, s.plan.at.partition)?;
            Some((s.plan.stop.map_or(end, |stop| stop.min(end)) - s.plan.next).max(0))
        };
        // Where a partition ends is what its leader said last, which is old news while that is away.
        let lag = match self.setup.consumer.context().health().is_unreadable() {
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
}
