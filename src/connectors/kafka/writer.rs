//! The writer of one subtask: batches to records, and their delivery.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, UInt8Array, UInt32Array};
use arrow::compute::{concat_batches, take, take_record_batch};
use arrow::datatypes::UInt8Type;
use async_trait::async_trait;
use chrono_tz::Tz;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::client::Context;
use super::embedded::{Embedded, embedded, name_of};
use super::health::STATISTICS_MS;
use super::metadata;
use super::offsets::Cluster;
use super::options::{Connector, TableOptions, Topics};
use super::partitioner::{Chooser, Partitioner};
use super::parts::Part;
use super::source::connect;
use super::transactions::Transactions;
use crate::edges::{Committable, SinkWriter};
use crate::error::{Error, Result, ResultExt};
use crate::formats::RecordEncoder;
use crate::stream::bytes::batch_bytes;
use crate::stream::{BATCH_BYTES, ChangeBatch, Epoch, RowKinds};

/// Bytes that are collected at most, whatever number of rows the table asks for.
const MAX_COLLECTED: usize = 4 * BATCH_BYTES;

/// Under which the end of the input is prepared: no epoch follows.
const LAST: Epoch = Epoch(u64::MAX);

/// How often a producer's events are looked at when nothing is written.
const SERVE_EVERY: Duration = Duration::from_secs(1);

/// Where in the sink's columns things are.
#[derive(Debug, Clone, Default)]
pub(super) struct Layout {
    pub(super) value: Vec<usize>,
    pub(super) key: Vec<usize>,
    pub(super) topic: Option<usize>,
    pub(super) headers: Option<usize>,
    pub(super) timestamp: Option<usize>,
}

/// Looks at the topics and makes the producers. Blocks.
pub(super) fn open(
    options: &Arc<TableOptions>,
    layout: &Layout,
    time_zone: Tz,
    parallelism: usize,
    transactions: Option<&Arc<Transactions>>,
    epoch: u64,
) -> Result<Vec<Box<dyn SinkWriter>>> {
    let servers = connect(options)?;
    let broker = name_of(&options.properties.servers).map(embedded).transpose()?;
    let cluster = Cluster::new(options, &servers)?;
    let mut topics = BTreeMap::new();
    match &options.topics {
        Topics::List(list) => {
            for topic in list {
                topics.insert(topic.clone(), cluster.partitions_of(topic)?.len());
            }
        }
        Topics::Pattern(_) => {
            for at in cluster.partitions(&options.topics)? {
                *topics.entry(at.topic.to_string()).or_default() += 1;
            }
        }
    }
    let mut writers: Vec<Box<dyn SinkWriter>> = Vec::new();
    for subtask in 0..parallelism.max(1) {
        let producer = match transactions {
            Some(transactions) => transactions.producer(epoch),
            None => {
                let mut config = options.properties.producer(&servers);
                config.set("statistics.interval.ms", STATISTICS_MS);
                let context = Context::new(&servers, options);
                let producer = config.create_with_context(context);
                Arc::new(producer.map_err(|e| options.properties.refused(&options.table, e))?)
            }
        };
        let transaction =
            transactions.map(|t| Transaction { transactions: Arc::clone(t), epoch, begun: false });
        let encoder = |part: &Part| part.format.encoder();
        writers.push(Box::new(KafkaWriter {
            producer,
            transaction,
            options: Arc::clone(options),
            layout: layout.clone(),
            time_zone,
            value: encoder(&options.value)?,
            key: options.key.as_ref().map(encoder).transpose()?,
            topics: topics.clone(),
            chooser: Chooser::new(options.partitioner, subtask),
            broker: broker.clone(),
            last_write: Instant::now(),
            buffers: Buffers::default(),
            collected: Vec::new(),
            collected_since: Instant::now(),
            served: Instant::now(),
            bytes: 0,
        }));
    }
    Ok(writers)
}

/// Encoded keys and values of a batch, kept between batches.
#[derive(Default)]
struct Buffers {
    values: Vec<u8>,
    value_ends: Vec<usize>,
    keys: Vec<u8>,
    key_ends: Vec<usize>,
}

/// The part of a writer in the transactions of its job.
struct Transaction {
    transactions: Arc<Transactions>,
    /// The epoch that it writes rows of.
    epoch: u64,
    /// Whether it has written one.
    begun: bool,
}

/// The writer of one subtask.
struct KafkaWriter {
    /// That of the epoch, which all writers share, or its own.
    producer: Arc<BaseProducer<Context>>,
    transaction: Option<Transaction>,
    options: Arc<TableOptions>,
    layout: Layout,
    time_zone: Tz,
    value: Box<dyn RecordEncoder>,
    key: Option<Box<dyn RecordEncoder>>,
    /// Number of partitions of each topic, as of the start.
    topics: BTreeMap<String, usize>,
    chooser: Chooser,
    broker: Option<Arc<Embedded>>,
    last_write: Instant,
    buffers: Buffers,
    /// Changes held back by `sink.buffer-flush.*`, and when the first of them came.
    collected: Vec<ChangeBatch>,
    collected_since: Instant,
    /// When the producer's events were last looked at.
    served: Instant,
    bytes: u64,
}

/// A record of a batch, all but key and value.
struct Target<'a> {
    topic: &'a str,
    partition: Option<usize>,
    timestamp: Option<i64>,
    headers: Option<OwnedHeaders>,
}

/// The encoded records, cut apart; `None` where `absent` says so.
fn records<'a>(
    buffer: &'a [u8],
    ends: &[usize],
    absent: impl Fn(usize) -> bool,
    n: usize,
) -> Vec<Option<&'a [u8]>> {
    let mut start = 0;
    (0..n)
        .map(|i| {
            let end = ends.get(i).copied().unwrap_or(start);
            let record = buffer.get(start..end).unwrap_or_default();
            start = end;
            (!absent(i)).then_some(record)
        })
        .collect()
}

/// The column whose NULLs are records without bytes: that of `raw`.
fn absent_when_null<'a>(part: Option<&Part>, rows: &'a RecordBatch) -> Option<&'a ArrayRef> {
    part.filter(|p| p.null_is_absent).and_then(|_| rows.columns().first())
}

impl KafkaWriter {
    /// What failed since the last look.
    fn check(&self) -> Result<()> {
        for _ in 0..8 {
            self.producer.poll(Duration::ZERO);
        }
        let context = self.producer.context();
        if let Some(e) = context.undelivered().or_else(|| context.refusal()) {
            return Err(e.context(format!("table {}", self.options.table)));
        }
        if let Some((code, reason)) = self.producer.client().fatal_error() {
            return Err(Error::external(format!(
                "table {}: the Kafka producer has failed: {code}: {}",
                self.options.table,
                self.options.properties.mask(&reason)
            )));
        }
        Ok(())
    }

    /// The topic and the rest of every row; partitions where librdkafka does not choose.
    fn targets<'a>(
        &mut self,
        topics: Option<&'a StringArray>,
        one: &'a str,
        rows: &RecordBatch,
        keys: &[Option<&[u8]>],
    ) -> Result<Vec<Target<'a>>> {
        let n = rows.num_rows();
        let timestamps = match self.layout.timestamp {
            Some(i) => Some(metadata::timestamps_to_write(rows.column(i), self.time_zone)?),
            None => None,
        };
        let choose = self.broker.is_some() || self.options.partitioner != Partitioner::Default;
        let mut targets = Vec::with_capacity(n);
        for i in 0..n {
            let topic = match topics {
                None => one,
                Some(names) if names.is_null(i) => {
                    return Err(Error::data("the metadata column 'topic' is NULL: no topic to write to"));
                }
                Some(names) => names.value(i),
            };
            if topics.is_some() && !self.options.topics.contains(topic) {
                return Err(Error::data(format!(
                    "the metadata column 'topic' says '{topic}', which the table's topics do not include"
                )));
            }
            let partition = if choose {
                let known = self.topics.get(topic).copied();
                let Some(partitions) = known.or_else(|| self.late_topic(topic)) else {
                    return Err(Error::external(format!(
                        "topic {topic} does not exist on Kafka at {}",
                        self.producer.context().servers()
                    ))
                    .hint("create it before the job starts"));
                };
                Some(self.chooser.choose(keys.get(i).copied().flatten(), partitions))
            } else {
                None
            };
            let headers = match self.layout.headers {
                Some(column) => metadata::headers_to_write(rows.column(column), i)?,
                None => None,
            };
            let timestamp = timestamps.as_ref().and_then(|t| t.get(i)).copied().flatten();
            targets.push(Target { topic, partition, timestamp, headers });
        }
        self.chooser.end_batch();
        Ok(targets)
    }

    /// An embedded topic chosen by a row of a pattern's table.
    fn late_topic(&mut self, topic: &str) -> Option<usize> {
        let broker = self.broker.as_ref()?;
        broker.ensure_topic(topic, self.options.embedded_partitions).ok()?;
        let partitions = broker.partitions(topic)?;
        self.topics.insert(topic.to_owned(), partitions);
        Some(partitions)
    }

    /// Counts a batch against what the embedded broker keeps.
    fn reserve(
        &mut self,
        targets: &[Target<'_>],
        keys: &[Option<&[u8]>],
        values: &[Option<&[u8]>],
    ) -> Result<()> {
        /// Most that a record adds to its bytes: lengths, time and offset differences.
        const RECORD: usize = 28;
        /// Header of a record batch.
        const BATCH: u64 = 61;
        let Some(broker) = &self.broker else { return Ok(()) };
        let mut sums: BTreeMap<(&str, usize), (u64, u64)> = BTreeMap::new();
        for (i, target) in targets.iter().enumerate() {
            use rdkafka::message::Headers;
            let len = |side: &[Option<&[u8]>]| side.get(i).copied().flatten().map_or(0, <[u8]>::len);
            let headers: usize = target
                .headers
                .iter()
                .flat_map(|h| h.iter())
                .map(|h| h.key.len() + h.value.map_or(0, <[u8]>::len) + 10)
                .sum();
            let sum = sums.entry((target.topic, target.partition.unwrap_or(0))).or_default();
            sum.0 += (len(keys) + len(values) + headers + RECORD) as u64;
            sum.1 += 1;
        }
        // A batch is sent when it is full or has lingered (5 ms): so many at most since the last write.
        let lingered = self.last_write.elapsed().as_millis() as u64 / 5 + 2;
        self.last_write = Instant::now();
        for ((topic, partition), (bytes, records)) in sums {
            let batches = (lingered + bytes / 500_000 + records / 10_000).min(records);
            broker.reserve(topic, partition, bytes + batches * BATCH, batches)?;
        }
        Ok(())
    }

    async fn send(&mut self, target: Target<'_>, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<()> {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(target.topic);
        record.key = key;
        record.payload = value;
        record.partition = target.partition.map(|p| p as i32);
        record.timestamp = target.timestamp;
        record.headers = target.headers;
        let mut pause = 1;
        loop {
            record = match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), back)) => back,
                Err((e, _)) => {
                    let size = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
                    let place = format!("topic {}, a record of {size} bytes", target.topic);
                    return Err(self.producer.context().error(&place, &e));
                }
            };
            // Back-pressure: the producer holds what the broker has not taken yet.
            self.check()?;
            tokio::time::sleep(Duration::from_millis(pause)).await;
            pause = (pause * 2).min(16);
        }
    }

    /// Waits until everything written is acknowledged.
    async fn drain(&mut self) -> Result<()> {
        let mut pause = 1;
        loop {
            self.check()?;
            if self.producer.in_flight_count() == 0 {
                return self.check();
            }
            tokio::time::sleep(Duration::from_millis(pause)).await;
            pause = (pause * 2).min(8);
        }
    }

    /// Writes what was collected: of every key the last row.
    async fn write_collected(&mut self) -> Result<()> {
        let collected = std::mem::take(&mut self.collected);
        let (Some(first), Some(key)) = (collected.first(), &self.options.key) else { return Ok(()) };
        let rows = concat_batches(&first.schema(), collected.iter().map(|b| &b.rows))?;
        let kinds =
            collected.iter().flat_map(|b| (0..b.num_rows()).map(|i| b.kind(i) as u8)).collect::<UInt8Array>();
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        if let Some(encoder) = &mut self.key {
            encoder.encode(&key.select(&rows, &self.layout.key)?, &mut bytes, &mut ends)?;
        }
        let keys = records(&bytes, &ends, |_| false, rows.num_rows());
        let mut last: HashMap<Option<&[u8]>, u32> = HashMap::with_capacity(keys.len());
        for (i, key) in keys.iter().enumerate() {
            last.insert(*key, i as u32);
        }
        let mut indices: Vec<u32> = last.into_values().collect();
        indices.sort_unstable();
        let indices = UInt32Array::from(indices);
        let kinds = take(&kinds, &indices, None)?;
        let kinds = RowKinds::from_array(kinds.as_primitive::<UInt8Type>());
        let rows = take_record_batch(&rows, &indices)?;
        self.write_rows(&ChangeBatch::with_kinds(rows, kinds)).await
    }

    /// When what was collected has to be written.
    fn due(&self) -> Option<Instant> {
        let buffering = self.options.buffering.filter(|_| !self.collected.is_empty())?;
        Some(self.collected_since + buffering.interval)
    }

    async fn write_batch(&mut self, batch: ChangeBatch) -> Result<()> {
        if self.options.connector == Connector::Log {
            return self.write_rows(&batch).await;
        }
        let batch = batch.without_update_before()?;
        let Some(buffering) = self.options.buffering else { return self.write_rows(&batch).await };
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if self.collected.is_empty() {
            self.collected_since = Instant::now();
        }
        self.collected.push(batch);
        let rows: usize = self.collected.iter().map(ChangeBatch::num_rows).sum();
        let bytes: usize = self.collected.iter().map(|b| batch_bytes(&b.rows)).sum();
        let due = self.due().is_some_and(|due| due <= Instant::now());
        let full = rows >= buffering.max_rows || bytes >= MAX_COLLECTED;
        if full || due { self.write_collected().await } else { Ok(()) }
    }

    async fn write_rows(&mut self, batch: &ChangeBatch) -> Result<()> {
        let rows = &batch.rows;
        let mut b = std::mem::take(&mut self.buffers);
        b.values.clear();
        b.value_ends.clear();
        b.keys.clear();
        b.key_ends.clear();
        let value_rows = self.options.value.select(rows, &self.layout.value)?;
        let upsert = self.options.connector == Connector::Upsert;
        // A record that deletes has no value; `records` leaves it out.
        let kinds = batch.kinds.clone().filter(|_| !upsert);
        let value_changes = ChangeBatch { rows: value_rows.clone(), kinds };
        self.value.encode_changes(&value_changes, &mut b.values, &mut b.value_ends)?;
        let mut key_rows = None;
        if let (Some(encoder), Some(part)) = (&mut self.key, &self.options.key) {
            let columns = part.select(rows, &self.layout.key)?;
            encoder.encode(&columns, &mut b.keys, &mut b.key_ends)?;
            key_rows = Some(columns);
        }
        let n = rows.num_rows();
        let absent = absent_when_null(Some(&self.options.value), &value_rows);
        let null = |array: Option<&ArrayRef>, i: usize| array.is_some_and(|a| a.is_null(i));
        let deleted = |i: usize| upsert && batch.kind(i).is_retraction();
        let values = records(&b.values, &b.value_ends, |i| null(absent, i) || deleted(i), n);
        let keys = match &key_rows {
            None => vec![None; n],
            Some(rows) => {
                let absent = absent_when_null(self.options.key.as_ref(), rows);
                records(&b.keys, &b.key_ends, |i| null(absent, i), n)
            }
        };
        let options = Arc::clone(&self.options);
        let one = options.topics.single().unwrap_or_default();
        let topic_column = self.layout.topic.map(|i| rows.column(i).clone());
        let topics = topic_column.as_ref().and_then(|c| c.as_any().downcast_ref::<StringArray>());
        let targets = self.targets(topics, one, rows, &keys)?;
        self.reserve(&targets, &keys, &values)?;
        if let Some(transaction) = self.transaction.as_mut().filter(|t| !t.begun) {
            transaction.transactions.begin(transaction.epoch)?;
            transaction.begun = true;
        }
        for ((target, key), value) in targets.into_iter().zip(&keys).zip(&values) {
            self.send(target, *key, *value).await?;
        }
        self.bytes += (b.values.len() + b.keys.len()) as u64;
        drop((keys, values));
        self.buffers = b;
        self.check()
    }
}

#[async_trait]
impl SinkWriter for KafkaWriter {
    async fn write(&mut self, batch: ChangeBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let table = self.options.table.clone();
        self.write_batch(batch).await.context(|| format!("table {table}"))
    }

    async fn flush(&mut self) -> Result<()> {
        if self.due().is_some_and(|due| due <= Instant::now()) {
            let table = self.options.table.clone();
            self.write_collected().await.context(|| format!("table {table}"))?;
        }
        self.served = Instant::now();
        // Of a transaction nobody sees anything yet.
        if self.transaction.is_some() { self.check() } else { self.drain().await }
    }

    /// Also without rows events come: statistics, which tell whether brokers are there, and refusals.
    fn next_flush(&self) -> Option<Instant> {
        let serve = self.served + SERVE_EVERY;
        Some(self.due().map_or(serve, |due| due.min(serve)))
    }

    async fn prepare(&mut self, epoch: Epoch) -> Result<Option<Committable>> {
        let table = self.options.table.clone();
        self.write_collected().await.context(|| format!("table {table}"))?;
        self.drain().await?;
        let Some(transaction) = &mut self.transaction else { return Ok(None) };
        let written =
            std::mem::take(&mut transaction.begun).then(|| transaction.epoch.to_string().into_bytes());
        if epoch != LAST {
            transaction.epoch = epoch.0 + 1;
            self.producer = transaction.transactions.producer(transaction.epoch);
        }
        Ok(written)
    }

    async fn abort(&mut self) {
        if let Some(transaction) = &self.transaction {
            let transactions = Arc::clone(&transaction.transactions);
            tokio::task::spawn_blocking(move || transactions.abort()).await.ok();
        }
    }

    fn bytes_written(&self) -> u64 {
        self.bytes
    }
}
