//! What a cluster has: topics, partitions, and the offsets at which reading begins and ends.
//!
//! Everything here blocks and is called on blocking threads. Every call has an end: a cluster that does not answer
//! within the timeout of the properties is an error that names it.

use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::client::Context;
use super::options::{TableOptions, Topics};
use super::shared::fingerprint;
use crate::edges::Notices;
use crate::error::{Error, Result};

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TopicPartition {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "topic {} partition {}", self.topic, self.partition)
    }
}

/// A client for questions, which all share that would ask the same way.
struct Asking {
    key: String,
    /// Until it is closed.
    consumer: Option<Arc<BaseConsumer<Context>>>,
}

static ASKING: LazyLock<Mutex<Vec<Weak<Asking>>>> = LazyLock::new(Mutex::default);

impl Drop for Asking {
    fn drop(&mut self) {
        // Closing blocks, and who asked last may be a task.
        let consumer = self.consumer.take();
        let _ = std::thread::Builder::new().name("kafka-close".to_owned()).spawn(move || drop(consumer));
    }
}

/// Questions about a cluster.
pub(super) struct Cluster {
    /// Dropped before the client is closed.
    consumer: Arc<BaseConsumer<Context>>,
    _asking: Arc<Asking>,
    notices: Notices,
    config: ClientConfig,
    timeout: Duration,
    /// The embedded broker cannot look up offsets by time.
    scan_for_times: bool,
}

/// One attempt of a call, so that a refused login is told before the whole timeout has passed.
const ATTEMPT: Duration = Duration::from_secs(2);

impl Drop for Cluster {
    fn drop(&mut self) {
        self.consumer.context().health().leave(&self.notices);
    }
}

impl Cluster {
    /// With a client of `servers` with the properties of a table. Does not connect yet.
    pub(super) fn new(options: &TableOptions, servers: &str) -> Result<Self> {
        let config = options.properties.consumer(servers, FALLBACK_GROUP);
        let key = format!("{} {}", options.debug, fingerprint(&config));
        let mut known = ASKING.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|a| a.strong_count() > 0);
        let shared = known.iter().filter_map(Weak::upgrade).find_map(|asking| {
            let consumer =
                asking.consumer.clone().filter(|c| asking.key == key && c.context().refusal().is_none())?;
            Some((asking, consumer))
        });
        let (asking, consumer) = match shared {
            Some(shared) => shared,
            None => {
                let context = Context::shared(servers, options);
                let consumer = config.create_with_context(context);
                let consumer = Arc::new(consumer.map_err(|e| options.properties.refused(&options.table, e))?);
                let asking = Arc::new(Asking { key, consumer: Some(Arc::clone(&consumer)) });
                known.push(Arc::downgrade(&asking));
                (asking, consumer)
            }
        };
        consumer.context().health().listen(&options.notices);
        Ok(Cluster {
            consumer,
            _asking: asking,
            notices: options.notices.clone(),
            config,
            timeout: options.properties.connect_timeout(),
            scan_for_times: super::embedded::name_of(&options.properties.servers).is_some(),
        })
    }

    /// Calls until it works, the timeout has passed or waiting cannot help.
    fn retry<T>(&self, place: &str, mut call: impl FnMut(Duration) -> Result<T, KafkaError>) -> Result<T> {
        let end = Instant::now() + self.timeout;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let result = call(left.min(ATTEMPT).max(Duration::from_millis(10)));
            // Serves the callbacks: reasons arrive as events.
            for _ in 0..32 {
                let _ = self.consumer.poll(Duration::ZERO);
            }
            let error = match result {
                Ok(value) => {
                    self.consumer.context().health().answer();
                    self.consumer.context().mark_up();
                    return Ok(value);
                }
                Err(error) => error,
            };
            self.consumer.context().health().no_answer();
            if let Some(refusal) = self.consumer.context().refusal() {
                return Err(refusal);
            }
            let hopeless = matches!(
                error.rdkafka_error_code(),
                Some(
                    Code::TopicAuthorizationFailed
                        | Code::GroupAuthorizationFailed
                        | Code::ClusterAuthorizationFailed
                        | Code::InvalidTopic
                        | Code::UnknownTopicOrPartition
                        | Code::UnknownTopic
                        | Code::UnknownPartition
                )
            );
            if hopeless || Instant::now() >= end {
                // Others may ask the same client: what they were told of its brokers is over when one answers.
                return Err(self.consumer.context().error(place, &error));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The partitions of the topics, sorted.
    pub(super) fn partitions(&self, topics: &Topics) -> Result<Vec<TopicPartition>> {
        let mut found = Vec::new();
        match topics {
            Topics::List(list) => {
                for topic in list {
                    found.extend(self.partitions_of(topic)?);
                }
            }
            Topics::Pattern(pattern) => {
                let metadata = self.retry("", |t| self.consumer.fetch_metadata(None, t))?;
                for topic in metadata.topics() {
                    if pattern.is_match(topic.name()) && !is_internal(topic.name()) {
                        let name: Arc<str> = topic.name().into();
                        found.extend(
                            topic
                                .partitions()
                                .iter()
                                .map(|p| TopicPartition { topic: Arc::clone(&name), partition: p.id() }),
                        );
                    }
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// Creates a topic unless it is there.
    pub(super) fn ensure_topic(&self, topic: &str) -> Result<()> {
        let there = self.retry("", |t| self.consumer.fetch_metadata(None, t))?;
        if there.topics().iter().any(|t| t.name() == topic) {
            return Ok(());
        }
        let failed = |why: &dyn std::fmt::Display| {
            Error::external(format!("topic {topic} does not exist on Kafka and cannot be created: {why}"))
                .hint("create it, or let the user that tidelake logs in as create topics")
        };
        let admin: AdminClient<DefaultClientContext> = self.config.create().map_err(|e| failed(&e))?;
        // What the cluster does with new topics.
        let new = NewTopic::new(topic, -1, TopicReplication::Fixed(-1));
        let options = AdminOptions::new().request_timeout(Some(self.timeout));
        let created = futures::executor::block_on(admin.create_topics([&new], &options));
        match created.map_err(|e| failed(&e))?.into_iter().next() {
            Some(Err((_, code))) if code != Code::TopicAlreadyExists => Err(failed(&code)),
            _ => Ok(()),
        }
    }

    /// The partitions of one topic.
    pub(super) fn partitions_of(&self, topic: &str) -> Result<Vec<TopicPartition>> {
        // A topic made a moment ago may not be known to every broker yet.
        let patience = Instant::now() + Duration::from_secs(1).min(self.timeout);
        loop {
            let metadata =
                self.retry(&format!("topic {topic}"), |t| self.consumer.fetch_metadata(Some(topic), t))?;
            let entry = metadata.topics().iter().find(|t| t.name() == topic);
            let error = entry.and_then(|t| t.error()).map(Code::from);
            match entry {
                Some(t) if error.is_none() && !t.partitions().is_empty() => {
                    let name: Arc<str> = topic.into();
                    return Ok(t
                        .partitions()
                        .iter()
                        .map(|p| TopicPartition { topic: Arc::clone(&name), partition: p.id() })
                        .collect());
                }
                _ => {}
            }
            match error {
                Some(code @ (Code::TopicAuthorizationFailed | Code::InvalidTopic)) => {
                    return Err(self
                        .consumer
                        .context()
                        .error(&format!("topic {topic}"), &KafkaError::MetadataFetch(code)));
                }
                _ if Instant::now() < patience => std::thread::sleep(Duration::from_millis(100)),
                _ => {
                    let servers = self.consumer.context().servers();
                    return Err(Error::external(format!("topic {topic} does not exist on Kafka at {servers}"))
                        .hint(format!(
                            "create it, e.g. kafka-topics.sh --bootstrap-server {servers} --create --topic {topic} --partitions 4"
                        )));
                }
            }
        }
    }

    /// Offset of the oldest record of each partition.
    pub(super) fn beginnings(&self, of: &[TopicPartition]) -> Result<Vec<i64>> {
        self.ask(of, Offset::Beginning)
    }

    /// One past the newest record of each partition (newest committed one when reading committed).
    pub(super) fn ends(&self, of: &[TopicPartition]) -> Result<Vec<i64>> {
        self.ask(of, Offset::End)
    }

    /// Offset of the first record at or after `millis` of each partition; the end where there is none.
    pub(super) fn at_time(&self, of: &[TopicPartition], millis: i64) -> Result<Vec<i64>> {
        let ends = self.ends(of)?;
        if self.scan_for_times {
            let lows = self.beginnings(of)?;
            return of
                .iter()
                .zip(lows.iter().zip(&ends))
                .map(|(p, (low, end))| self.scan(p, *low, *end, millis))
                .collect();
        }
        let found = self.ask(of, Offset::Offset(millis.max(0)))?;
        Ok(found.into_iter().zip(ends).map(|(o, end)| if o < 0 { end } else { o }).collect())
    }

    /// ListOffsets takes a time, or one of two special values, where librdkafka's list has the offset.
    fn ask(&self, of: &[TopicPartition], what: Offset) -> Result<Vec<i64>> {
        if of.is_empty() {
            return Ok(Vec::new());
        }
        let answer = self.retry("", |timeout| {
            let mut list = TopicPartitionList::with_capacity(of.len());
            for p in of {
                list.add_partition_offset(&p.topic, p.partition, what)?;
            }
            let answer = self.consumer.offsets_for_times(list, timeout)?;
            for element in answer.elements() {
                element.error()?;
            }
            Ok(answer)
        })?;
        of.iter()
            .map(|p| {
                let element = answer.find_partition(&p.topic, p.partition);
                match element.map(|e| e.offset()) {
                    Some(Offset::Offset(o)) => Ok(o),
                    Some(Offset::End | Offset::Invalid) => Ok(-1),
                    _ => Err(Error::external(format!("{p}: the broker tells no offset"))),
                }
            })
            .collect()
    }

    /// Committed offset of the group for each partition, `None` where there is none.
    pub(super) fn committed(&self, of: &[TopicPartition]) -> Result<Vec<Option<i64>>> {
        if of.is_empty() {
            return Ok(Vec::new());
        }
        let answer = self.retry("committed offsets", |timeout| {
            let mut list = TopicPartitionList::with_capacity(of.len());
            for p in of {
                list.add_partition(&p.topic, p.partition);
            }
            let answer = self.consumer.committed_offsets(list, timeout)?;
            for element in answer.elements() {
                element.error()?;
            }
            Ok(answer)
        })?;
        Ok(of
            .iter()
            .map(|p| match answer.find_partition(&p.topic, p.partition).map(|e| e.offset()) {
                Some(Offset::Offset(o)) if o >= 0 => Some(o),
                _ => None,
            })
            .collect())
    }

    /// Finds an offset by time where the broker cannot: reads from `low` to `end`.
    fn scan(&self, p: &TopicPartition, low: i64, end: i64, millis: i64) -> Result<i64> {
        if low >= end {
            return Ok(end);
        }
        let fail = |e: KafkaError| self.consumer.context().error(&p.to_string(), &e);
        let reader: BaseConsumer = self.config.create().map_err(fail)?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&p.topic, p.partition, Offset::Offset(low)).map_err(fail)?;
        reader.assign(&list).map_err(fail)?;
        let deadline = Instant::now() + self.timeout;
        while Instant::now() < deadline {
            match reader.poll(Duration::from_millis(100)) {
                Some(Ok(m)) if m.offset() >= end => return Ok(end),
                Some(Ok(m)) if m.timestamp().to_millis().unwrap_or(-1) >= millis => return Ok(m.offset()),
                Some(Ok(m)) if m.offset() + 1 == end => return Ok(end),
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(end),
                Some(Err(e)) => return Err(fail(e)),
                _ => {}
            }
        }
        Err(Error::external(format!("{p}: no answer while looking for an offset by time")))
    }
}

/// The group name of readers without `properties.group.id`. Nothing joins or commits under it.
pub(super) const FALLBACK_GROUP: &str = "tidelake";

/// Topics that Kafka keeps for itself; a pattern does not mean them.
fn is_internal(topic: &str) -> bool {
    matches!(
        topic,
        "__consumer_offsets" | "__transaction_state" | "__share_group_state" | "__cluster_metadata"
    )
}
