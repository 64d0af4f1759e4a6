//! Exactly once: all records of an epoch, of all tables of a job, in one transaction of the cluster.
//!
//! ```text
//!  rows of epoch N   ─► producer N mod 2     ─► barrier N: acknowledged ─► checkpoint N durable ─► marker N, commit
//!  rows of epoch N+1 ─► producer (N+1) mod 2     meanwhile
//! ```
//!
//! Rows of the next epoch may not enter the transaction of one that is still being decided on, so two producers take
//! turns. The commit decides whether a checkpoint counts, as no other process can commit it again: whoever takes the job
//! over fences both producers, which ends their transactions one way or the other, and reads the marker. The marker is the
//! number of the epoch as offset of a consumer group, written in the same transaction; its metadata is the lineage of the
//! job, as the numbers of another job under the same ids say nothing of this one.
//!
//! Everything here blocks and is called on blocking threads.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::{Offset, TopicPartitionList};
use uuid::Uuid;

use super::client::Context;
use super::health::STATISTICS_MS;
use super::options::TableOptions;
use crate::error::{Error, Result};
use crate::failpoint::failpoint;

/// How long to try what a broker may refuse for a while.
const PATIENCE: Duration = Duration::from_secs(60);
/// One attempt.
const ATTEMPT: Duration = Duration::from_secs(3);

/// The producers of a job on one cluster.
pub(super) struct Transactions {
    turns: [Turn; 2],
    /// Whose offsets are the marker; without it nobody will ask.
    marker: Option<Marker>,
    /// Topics that the marker is written for: those of all tables.
    topics: Mutex<BTreeSet<String>>,
}

/// Who marks commits, and for which job.
struct Marker {
    consumer: BaseConsumer<Context>,
    lineage: String,
}

struct Turn {
    producer: Arc<BaseProducer<Context>>,
    /// Whether its transaction has begun.
    open: Mutex<bool>,
}

/// Calls until it works, cannot work, or [`PATIENCE`] is over; tells of brokers that are away meanwhile.
fn patiently(
    place: &str,
    producer: &BaseProducer<Context>,
    mut call: impl FnMut() -> Result<(), KafkaError>,
) -> Result<()> {
    let (end, context) = (Instant::now() + PATIENCE, producer.context());
    loop {
        // That it works again is seen in the statistics, for each broker.
        let Err(e) = call() else { return Ok(()) };
        // What has happened to its connections; a call without time hands over one event only.
        producer.poll(Duration::from_millis(20));
        context.health().no_answer();
        let (again, fenced) = match &e {
            KafkaError::Transaction(e) => (
                e.is_retriable(),
                matches!(e.code(), Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch),
            ),
            other => (other.rdkafka_error_code().is_some_and(may_pass), false),
        };
        if fenced {
            return Err(Error::validation(format!(
                "{place}: another process has taken over the transactions"
            ))
            .hint("it writes on; nothing of this process is committed any more"));
        }
        if !again || Instant::now() >= end {
            return Err(match &e {
                KafkaError::Transaction(cause) => {
                    Error::external(format!("Kafka at {}: {place}: {cause}", context.servers()))
                }
                other => context.error(place, other),
            });
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Whether a refusal of a consumer's call passes by itself.
fn may_pass(code: Code) -> bool {
    matches!(
        code,
        Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
    )
}

impl Transactions {
    /// Takes the transactional ids `prefix-0` and `prefix-1`: whatever is open under them is over. The commits of the job
    /// `lineage` can be asked for later.
    pub(super) fn open(
        options: &TableOptions,
        servers: &str,
        prefix: &str,
        lineage: Option<Uuid>,
    ) -> Result<Self> {
        let turn = |n: usize| {
            let mut config = options.properties.transactional(servers, &format!("{prefix}-{n}"))?;
            config.set("statistics.interval.ms", STATISTICS_MS);
            let context = Context::new(servers, options);
            let producer: BaseProducer<Context> = config
                .create_with_context(context)
                .map_err(|e| options.properties.refused(&options.table, e))?;
            patiently("beginning transactions", &producer, || producer.init_transactions(ATTEMPT))?;
            failpoint("transactions-fenced");
            Ok::<_, Error>(Turn { producer: Arc::new(producer), open: Mutex::new(false) })
        };
        let turns = [turn(0)?, turn(1)?];
        let marker = match lineage {
            Some(lineage) => {
                Some(Marker { consumer: group(options, servers, prefix)?, lineage: lineage.to_string() })
            }
            None => None,
        };
        Ok(Transactions { turns, marker, topics: Mutex::default() })
    }

    /// The newest epoch of the job `lineage` whose transaction was committed under `prefix`, by whatever process. Fences all
    /// others.
    pub(super) fn committed(
        options: &TableOptions,
        servers: &str,
        prefix: &str,
        lineage: Uuid,
    ) -> Result<Option<u64>> {
        let own = Self::open(options, servers, prefix, Some(lineage))?;
        let (Some(Marker { consumer, lineage }), Some(topic)) = (&own.marker, marker_topic(options)) else {
            return Ok(None);
        };
        let mut asked = TopicPartitionList::new();
        asked.add_partition(topic, 0);
        let mut found = None;
        patiently("reading the marker of the last transaction", &own.turns[0].producer, || {
            let offsets = consumer.committed_offsets(asked.clone(), ATTEMPT)?;
            let elements = offsets.elements();
            // Markers of the first version named no job.
            let is_own = |metadata: &str| metadata.is_empty() || metadata == lineage.as_str();
            let own = elements.first().filter(|e| is_own(e.metadata()));
            found = own.and_then(|e| e.offset().to_raw());
            Ok(())
        })?;
        Ok(found.and_then(|offset| u64::try_from(offset).ok()))
    }

    /// The tables of the job register their topics.
    pub(super) fn add_topic(&self, topic: &str) {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner).insert(topic.to_owned());
    }

    fn turn(&self, epoch: u64) -> &Turn {
        let [even, odd] = &self.turns;
        if epoch.is_multiple_of(2) { even } else { odd }
    }

    /// The producer of an epoch.
    pub(super) fn producer(&self, epoch: u64) -> Arc<BaseProducer<Context>> {
        self.turn(epoch).producer.clone()
    }

    /// The first record of an epoch is about to be written, by one of its writers.
    pub(super) fn begin(&self, epoch: u64) -> Result<()> {
        let turn = self.turn(epoch);
        let mut open = turn.open.lock().unwrap_or_else(PoisonError::into_inner);
        if !*open {
            patiently("beginning a transaction", &turn.producer, || turn.producer.begin_transaction())?;
            *open = true;
        }
        Ok(())
    }

    /// Commits the transaction of an epoch, with its marker; nothing if no record was written.
    pub(super) fn commit(&self, epoch: u64) -> Result<()> {
        let turn = self.turn(epoch);
        let mut open = turn.open.lock().unwrap_or_else(PoisonError::into_inner);
        if !*open {
            return Ok(());
        }
        let context = turn.producer.context();
        failpoint("transaction-acknowledged");
        if let Some(Marker { consumer, lineage }) = &self.marker
            && let Some(group) = consumer.group_metadata()
        {
            let mut marker = TopicPartitionList::new();
            let offset = i64::try_from(epoch).unwrap_or(i64::MAX);
            for topic in self.topics.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                let mut entry = marker.add_partition(topic, 0);
                entry.set_offset(Offset::Offset(offset)).map_err(|e| context.error(topic, &e))?;
                entry.set_metadata(lineage);
            }
            patiently("writing the marker of a transaction", &turn.producer, || {
                turn.producer.send_offsets_to_transaction(&marker, &group, ATTEMPT)
            })?;
            failpoint("transaction-marked");
        }
        patiently("committing a transaction", &turn.producer, || turn.producer.commit_transaction(ATTEMPT))?;
        failpoint("transaction-committed");
        *open = false;
        Ok(())
    }

    /// Ends what is open, so that readers need not wait for its timeout.
    pub(super) fn abort(&self) {
        for turn in &self.turns {
            let mut open = turn.open.lock().unwrap_or_else(PoisonError::into_inner);
            if std::mem::take(&mut *open) {
                let _ = turn.producer.abort_transaction(Duration::from_secs(5));
            }
        }
    }
}

/// The topic whose first partition the marker of a table names.
pub(super) fn marker_topic(options: &TableOptions) -> Option<&str> {
    match &options.topics {
        super::options::Topics::List(list) => list.first().map(String::as_str),
        super::options::Topics::Pattern(_) => None,
    }
}

fn group(options: &TableOptions, servers: &str, prefix: &str) -> Result<BaseConsumer<Context>> {
    let mut config = options.properties.consumer(servers, prefix);
    config.set("group.id", prefix);
    config.set("isolation.level", "read_committed");
    let context = Context::new(servers, options);
    config.create_with_context(context).map_err(|e| options.properties.refused(&options.table, e))
}
