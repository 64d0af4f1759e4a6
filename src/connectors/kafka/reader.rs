//! Reads the partitions of one subtask.
//!
//! ```text
//!  librdkafka ─ one queue per partition ─► task: drain a partition up to batch_rows, decode ─► bounded channel ─► next()
//!                                            ▲ new partitions                                      │
//!                                            └ discovery                      positions ◄──────────┘ on_commit
//! ```
//!
//! The task (worker.rs) does all that costs time, beside the one that takes whole batches from a channel of a few. The
//! client is shared with other readers (shared.rs). State: per partition the next offset, moved when [`KafkaReader::next`] hands the batch out, so that a snapshot
//! tells exactly what has been handed out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::offsets::TopicPartition;
use super::options::TableOptions;
use super::rows::RowReader;
use super::shared::{Lease, SharedConsumer};
use super::source::Watching;
use super::worker::{Item, Worker};
use crate::edges::{Notices, SourceEvent, SourceMetrics, SourceReader, SplitId, SplitState};
use crate::error::{Error, Result};
use crate::stream::Epoch;

/// What to read of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SplitPlan {
    pub(super) at: TopicPartition,
    /// The next offset to read.
    pub(super) next: i64,
    /// Where a bounded read ends, exclusive.
    pub(super) stop: Option<i64>,
    /// Rows that have come of it so far, over all runs: what a table that it is written to has to have.
    pub(super) rows: u64,
    /// How many of them are bad records that were asked for as rows.
    pub(super) bad: u64,
}

/// A split's position in snapshots.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Position {
    topic: String,
    partition: i32,
    offset: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stop: Option<i64>,
    #[serde(default)]
    rows: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    bad: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl SplitPlan {
    /// As a snapshot keeps it.
    pub(super) fn to_state(&self) -> Result<SplitState> {
        let position = Position {
            topic: self.at.topic.to_string(),
            partition: self.at.partition,
            offset: self.next,
            stop: self.stop,
            rows: self.rows,
            bad: self.bad,
        };
        let position = serde_json::to_string(&position)
            .map_err(|e| Error::internal(format!("position of {}: {e}", self.at)))?;
        Ok(SplitState { split: format!("{}-{}", self.at.topic, self.at.partition), position })
    }

    /// From a snapshot.
    pub(super) fn from_state(state: &SplitState) -> Result<Self> {
        let p: Position = serde_json::from_str(&state.position).map_err(|e| {
            Error::data(format!("the snapshot of Kafka split {} cannot be read: {e}", state.split))
        })?;
        let at = TopicPartition { topic: p.topic.into(), partition: p.partition };
        Ok(SplitPlan { at, next: p.offset, stop: p.stop, rows: p.rows, bad: p.bad })
    }

    /// Whether a bounded read has come to its end.
    pub(super) fn done(&self) -> bool {
        self.stop.is_some_and(|stop| self.next >= stop)
    }
}

/// What a reader needs to start.
pub(super) struct ReaderSetup {
    pub(super) options: Arc<TableOptions>,
    /// Of the cluster.
    pub(super) servers: String,
    pub(super) rows: RowReader,
    pub(super) splits: Vec<SplitPlan>,
    pub(super) batch_rows: usize,
    /// Whether splits may be added later.
    pub(super) open_ended: bool,
    /// How long a commit may take; `None` commits nothing.
    pub(super) commit_timeout: Option<Duration>,
    pub(super) metrics: Arc<SourceMetrics>,
    /// Lag of each reader of the source; `lags[subtask]` is this one's.
    pub(super) lags: Arc<Vec<AtomicI64>>,
    pub(super) subtask: usize,
}

/// Hands new partitions to a reader.
pub(super) struct SplitInbox {
    splits: mpsc::UnboundedSender<Vec<SplitPlan>>,
}

impl SplitInbox {
    /// False if the reader is gone.
    pub(super) fn add(&self, splits: Vec<SplitPlan>) -> bool {
        self.splits.send(splits).is_ok()
    }
}

/// The reader of one subtask.
pub(super) struct KafkaReader {
    /// Of the client, for commits. Its partitions are the task's.
    client: Arc<SharedConsumer>,
    commit_timeout: Option<Duration>,
    positions: BTreeMap<SplitId, SplitPlan>,
    /// The column that says why a record is bad.
    errors: Option<usize>,
    notices: Notices,
    items: mpsc::Receiver<Result<Item>>,
    watching: Option<Arc<Watching>>,
}

impl KafkaReader {
    /// Starts the task.
    pub(super) fn start(setup: ReaderSetup) -> Result<(Self, SplitInbox)> {
        let (out, items) = mpsc::channel(4);
        let (splits, inbox) = mpsc::unbounded_channel();
        let partitions: Vec<TopicPartition> = setup.splits.iter().map(|s| s.at.clone()).collect();
        let lease = Lease::take(&setup.options, &setup.servers, setup.subtask, &partitions)?;
        let client = lease.client();
        let (commit_timeout, notices) = (setup.commit_timeout, setup.options.notices.clone());
        let errors = setup.rows.error_column();
        let positions = setup.splits.iter().enumerate().map(|(i, s)| (i as SplitId, s.clone())).collect();
        tokio::spawn(Worker::new(setup, lease, out, inbox).run());
        let reader =
            KafkaReader { client, commit_timeout, positions, errors, notices, items, watching: None };
        Ok((reader, SplitInbox { splits }))
    }

    /// Keeps the search for new partitions going.
    pub(super) fn hold(&mut self, watching: Arc<Watching>) {
        self.watching = Some(watching);
    }
}

#[async_trait]
impl SourceReader for KafkaReader {
    async fn next(&mut self) -> Result<SourceEvent> {
        loop {
            let item = match self.items.recv().await {
                Some(item) => item?,
                None => return Err(Error::internal("the Kafka reader's task has ended")),
            };
            // No await from here on: what is taken is accounted for.
            self.positions.extend(item.started);
            if let Some((split, next)) = item.moved
                && let Some(position) = self.positions.get_mut(&split)
            {
                position.next = next;
                if let Some(SourceEvent::Batch { batch, .. }) = &item.event {
                    position.rows += batch.num_rows() as u64;
                    if let Some(errors) = self.errors.and_then(|i| batch.rows.columns().get(i)) {
                        position.bad += (errors.len() - errors.null_count()) as u64;
                    }
                }
            }
            if let Some(event) = item.event {
                return Ok(event);
            }
        }
    }

    fn snapshot(&self) -> Result<Vec<SplitState>> {
        self.positions.values().map(SplitPlan::to_state).collect()
    }

    /// Tells the group. Nothing rests on that but lag tools and where another job begins: what fails is told, and made good
    /// by the next epoch.
    async fn on_commit(&mut self, _epoch: Epoch, positions: &[SplitState]) -> Result<()> {
        let Some(timeout) = self.commit_timeout else { return Ok(()) };
        let plans = positions.iter().map(SplitPlan::from_state);
        let offsets = plans.map(|p| p.map(|p| (p.at, p.next))).collect::<Result<Vec<_>>>()?;
        let of = offsets.iter().map(|(at, _)| at);
        if offsets.is_empty() || self.client.consumer().context().health().is_unreadable(of) {
            return Ok(());
        }
        if let Err(e) = self.commit(offsets, timeout).await {
            self.notices.once("kafka offsets", || {
                format!(
                    "Kafka: {}; the job goes on, the group's offsets are older than its rows",
                    e.message()
                )
            });
        }
        Ok(())
    }
}

impl KafkaReader {
    async fn commit(&self, offsets: Vec<(TopicPartition, i64)>, timeout: Duration) -> Result<()> {
        let client = Arc::clone(&self.client);
        let commit = tokio::task::spawn_blocking(move || {
            let consumer = client.consumer();
            let mut list = TopicPartitionList::with_capacity(offsets.len());
            for (at, next) in &offsets {
                list.add_partition_offset(&at.topic, at.partition, Offset::Offset(*next))
                    .map_err(|e| consumer.context().error(&at.to_string(), &e))?;
            }
            consumer
                .commit(&list, CommitMode::Sync)
                .map_err(|e| consumer.context().error("offsets were not committed", &e))
        });
        match tokio::time::timeout(timeout, commit).await {
            Ok(done) => done?,
            Err(_) => Err(Error::external(format!(
                "offsets were not committed to Kafka at {} in time",
                self.client.consumer().context().servers()
            ))),
        }
    }
}
