//! The source: which partitions, from where to where, read by whom.
//!
//! ```text
//!  readers():  partitions of the topics ─► start and stop offsets ─► owner(topic, partition) ─► one KafkaReader each
//!                                            restored state wins            ▲
//!  discovery task: every scan.topic-partition-discovery.interval ─► new partitions, from their beginning
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use chrono_tz::Tz;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::bounds::plan;
use super::embedded::{embedded, name_of};
use super::metadata::{self, Key};
use super::offsets::{Cluster, TopicPartition};
use super::options::{Bounded, Connector, TableOptions, Topics};
use super::partitioner::owner;
use super::reader::{KafkaReader, ReaderSetup, SplitInbox, SplitPlan};
use super::rows::{Origin, RowReader, Side};
use crate::catalog::{MetadataColumn, ResolvedTable};
use crate::edges::{ConnectorEnv, ScanRequest, Source, SourceChangelog, SourceReader, SplitState};
use crate::error::{Error, Result, ResultExt};
use crate::types::LogicalType;

/// Readers that ask a cluster at the same time where to begin.
const OPENING: usize = 32;
/// For each cluster: one that does not answer holds up nobody who reads another.
static TURNS: LazyLock<Mutex<BTreeMap<String, Arc<Semaphore>>>> = LazyLock::new(Mutex::default);

/// Those who ask the brokers at `servers`.
fn turns(servers: &str) -> Arc<Semaphore> {
    let mut all = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
    let of = all.entry(servers.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(OPENING)));
    Arc::clone(of)
}

/// Rows per batch when the request leaves it open.
const BATCH_ROWS: usize = 8192;

/// A Kafka table to read from.
#[derive(Debug)]
pub(super) struct KafkaSource {
    options: Arc<TableOptions>,
    schema: SchemaRef,
    physical: usize,
    metadata: Vec<MetadataOrigin>,
    time_zone: Tz,
}

/// Where a metadata column comes from.
#[derive(Debug, Clone, Copy)]
enum MetadataOrigin {
    /// The record.
    Record(Key),
    /// The value's format; index into what it lists.
    Value(usize),
}

/// The origin of a metadata column, its declared type checked.
fn metadata_origin(options: &TableOptions, column: &MetadataColumn) -> Result<MetadataOrigin> {
    let Some(short) = column.key.strip_prefix("value.") else {
        return Ok(MetadataOrigin::Record(metadata::key_of(&options.table, column, false, true)?));
    };
    let known = options.value.format.metadata();
    let name = column.field.name();
    let Some(index) = known.iter().position(|f| f.name() == short) else {
        let names: Vec<String> = known.iter().map(|f| format!("value.{}", f.name())).collect();
        return Err(Error::validation(format!(
            "table {}: Invalid metadata key '{}' in column '{name}'",
            options.table, column.key
        ))
        .hint(if names.is_empty() {
            "the format of the value has no metadata".to_owned()
        } else {
            format!("the format of the value has: {}", names.join(", "))
        }));
    };
    let from = known.get(index).map(|f| f.data_type());
    let fits = from.is_some_and(|from| {
        from == column.field.data_type()
            || arrow::compute::can_cast_types(from, column.field.data_type())
                && !from.is_nested()
                && !column.field.data_type().is_nested()
    });
    if !fits {
        return Err(Error::validation(format!(
            "table {}: Invalid data type for metadata column '{name}' with metadata key '{}'",
            options.table, column.key
        ))
        .hint(match known.get(index).map(|f| LogicalType::from_field(&Arc::new(f.clone()))) {
            Some(Ok(ty)) => format!("declare it {ty} and cast in the query"),
            _ => "declare it with the type of the metadata".to_owned(),
        }));
    }
    Ok(MetadataOrigin::Value(index))
}

impl KafkaSource {
    /// Checks the table; connects to nothing.
    pub(super) fn new(table: &ResolvedTable, connector: Connector, env: &ConnectorEnv) -> Result<Self> {
        let options = TableOptions::parse(table, connector, env)?;
        let metadata: Vec<_> =
            table.metadata.iter().map(|m| metadata_origin(&options, m)).collect::<Result<_>>()?;
        let mut schema = table.scan_schema();
        if connector == Connector::Upsert {
            // A deleted row has its key and nothing else.
            let is_key = |i| options.key.as_ref().is_some_and(|k| k.columns.contains(&i));
            let fields = schema.fields().iter().enumerate();
            let fields: Vec<Field> = fields
                .map(|(i, f)| f.as_ref().clone().with_nullable(f.is_nullable() || !is_key(i)))
                .collect();
            schema = Arc::new(Schema::new(fields));
        }
        let source = KafkaSource {
            options: Arc::new(options),
            schema,
            physical: table.physical.fields().len(),
            metadata,
            time_zone: env.time_zone,
        };
        if source.tells_of_bad_records() && source.changelog() != SourceChangelog::AppendOnly {
            return Err(Error::unsupported(format!(
                "table {}: a bad record cannot be a row ('decode-error', 'bad-value') where rows replace each other",
                source.options.table
            ))
            .hint("read the topic with 'connector' = 'kafka' and a format of rows"));
        }
        Ok(source)
    }

    /// Whether a column of the table makes bad records rows.
    fn tells_of_bad_records(&self) -> bool {
        self.metadata.iter().any(|m| matches!(m, MetadataOrigin::Record(key) if key.tells_of_bad_records()))
    }

    /// The topics there are of those that are meant.
    pub(super) fn topics(&self) -> Result<Vec<String>> {
        let servers = connect(&self.options)?;
        let found = Cluster::new(&self.options, &servers)?.partitions(&self.options.topics)?;
        let names: BTreeSet<String> = found.iter().map(|at| at.topic.to_string()).collect();
        Ok(names.into_iter().collect())
    }

    /// Where their partitions end.
    pub(super) fn ends(&self) -> Result<Vec<(String, i32, i64)>> {
        let servers = connect(&self.options)?;
        let cluster = Cluster::new(&self.options, &servers)?;
        let found = cluster.partitions(&self.options.topics)?;
        let ends = cluster.ends(&found)?;
        Ok(found.iter().zip(ends).map(|(at, end)| (at.topic.to_string(), at.partition, end)).collect())
    }

    /// Where they begin.
    pub(super) fn beginnings(&self) -> Result<Vec<(String, i32, i64)>> {
        let servers = connect(&self.options)?;
        let cluster = Cluster::new(&self.options, &servers)?;
        let found = cluster.partitions(&self.options.topics)?;
        let lows = cluster.beginnings(&found)?;
        Ok(found.iter().zip(lows).map(|(at, low)| (at.topic.to_string(), at.partition, low)).collect())
    }

    /// How many offsets there are behind a time, and of how many partitions.
    pub(super) fn come_since(&self, millis: i64) -> Result<(u64, usize)> {
        let servers = connect(&self.options)?;
        let cluster = Cluster::new(&self.options, &servers)?;
        let found = cluster.partitions(&self.options.topics)?;
        let (from, ends) = (cluster.at_time(&found, millis)?, cluster.ends(&found)?);
        let records = from.iter().zip(ends).map(|(from, end)| u64::try_from(end - from).unwrap_or(0)).sum();
        Ok((records, found.len()))
    }

    /// Creates the topics that are named, as far as they are not there. Those of the embedded broker are there with their table.
    pub(super) fn ensure_topics(&self) -> Result<()> {
        let servers = connect(&self.options)?;
        let is_embedded = super::embedded::name_of(&self.options.properties.servers).is_some();
        if let Topics::List(topics) = &self.options.topics
            && !is_embedded
        {
            let cluster = Cluster::new(&self.options, &servers)?;
            topics.iter().try_for_each(|topic| cluster.ensure_topic(topic))?;
        }
        Ok(())
    }

    /// A row reader for the columns asked for. Formats decode only those.
    fn rows(&self, projection: Option<&[usize]>) -> Result<RowReader> {
        let options = &self.options;
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let wanted = projection.unwrap_or(&all);
        let upsert = options.connector == Connector::Upsert;
        let mut from_value = Vec::new();
        let mut value_metadata = Vec::new();
        let mut from_key = Vec::new();
        let mut origins = Vec::new();
        let slot = |list: &mut Vec<usize>, column: usize| {
            list.iter().position(|c| *c == column).unwrap_or_else(|| {
                list.push(column);
                list.len() - 1
            })
        };
        for index in wanted {
            let in_key = options.key.as_ref().and_then(|k| k.columns.iter().position(|c| c == index));
            let in_value = options.value.columns.iter().position(|c| c == index);
            // Where a key's record may have no value, the key is its own.
            let in_value = in_value.filter(|_| !(upsert && in_key.is_some()));
            let meta = index.checked_sub(self.physical).and_then(|i| self.metadata.get(i));
            origins.push(match (in_value, in_key, meta) {
                (Some(column), _, _) => Origin::Value(slot(&mut from_value, column)),
                (None, Some(column), _) => Origin::Key(slot(&mut from_key, column)),
                (None, None, Some(MetadataOrigin::Record(key))) => {
                    Origin::Metadata(*key, self.schema.field(*index).clone())
                }
                (None, None, Some(MetadataOrigin::Value(key))) => {
                    let field = self.schema.field(*index).clone();
                    Origin::ValueMetadata(slot(&mut value_metadata, *key), field)
                }
                _ => return Err(Error::internal(format!("no column {index} in {}", options.table))),
            });
        }
        for origin in &mut origins {
            // The format's metadata stand behind its columns.
            if let Origin::ValueMetadata(slot, _) = origin {
                *slot += from_value.len();
            }
        }
        let decoder = options.value.format.record_decoder(&from_value, &value_metadata)?;
        let value = Side::new(decoder, options.value.null_is_row);
        let key = match &options.key {
            Some(key) => Some(Side::new(key.format.record_decoder(&from_key, &[])?, key.null_is_row)),
            None => None,
        };
        let schema: SchemaRef = match projection {
            Some(p) => Arc::new(self.schema.project(p)?),
            None => Arc::clone(&self.schema),
        };
        let schema = Arc::new(Schema::new(schema.fields().clone()));
        let mut rows = RowReader::new(schema, origins, key, value, upsert, self.time_zone);
        if self.tells_of_bad_records() {
            rows.list_bad();
        }
        Ok(rows)
    }
}

/// The address to connect to, with the topics of an embedded broker made.
pub(super) fn connect(options: &TableOptions) -> Result<String> {
    let Some(name) = name_of(&options.properties.servers) else {
        return Ok(options.properties.servers.clone());
    };
    let broker = embedded(name)?;
    if let Topics::List(list) = &options.topics {
        for topic in list {
            broker.ensure_topic(topic, options.embedded_partitions)?;
        }
    }
    Ok(broker.bootstrap_servers().to_owned())
}

#[async_trait]
impl Source for KafkaSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn bounded(&self) -> bool {
        self.options.bounded != Bounded::Unbounded
    }

    fn changelog(&self) -> SourceChangelog {
        match self.options.connector {
            Connector::Upsert => SourceChangelog::Upsert,
            Connector::Log => self.options.value.format.changelog(),
        }
    }

    fn adopt(&self, positions: Vec<SplitState>) -> Result<Vec<SplitState>> {
        let without_end =
            |state: &SplitState| SplitPlan { stop: None, ..SplitPlan::from_state(state)? }.to_state();
        positions.iter().map(without_end).collect()
    }

    async fn readers(
        &self,
        scan: ScanRequest,
        parallelism: usize,
        restored: Option<Vec<SplitState>>,
    ) -> Result<Vec<Box<dyn SourceReader>>> {
        let table = self.options.table.clone();
        let restored = match restored {
            Some(states) => Some(states.iter().map(SplitPlan::from_state).collect::<Result<Vec<_>>>()?),
            None => None,
        };
        let parallelism = parallelism.max(1);
        let rows = (0..parallelism)
            .map(|_| self.rows(scan.projection.as_deref()))
            .collect::<Result<Vec<_>>>()
            .context(|| format!("table {table}"))?;
        let options = Arc::clone(&self.options);
        let bounded = self.bounded();
        // A thousand jobs that begin at once do not need a thousand threads that wait for the same broker.
        let turns = turns(&self.options.properties.servers);
        let _turn = turns.acquire().await.map_err(|_| Error::internal("a semaphore that was closed"))?;
        tokio::task::spawn_blocking(move || open(options, bounded, scan, rows, restored))
            .await?
            .context(|| format!("table {table}"))
    }
}

/// Asks the cluster and starts the readers. Blocks.
fn open(
    options: Arc<TableOptions>,
    bounded: bool,
    scan: ScanRequest,
    rows: Vec<RowReader>,
    restored: Option<Vec<SplitPlan>>,
) -> Result<Vec<Box<dyn SourceReader>>> {
    let servers = connect(&options)?;
    let cluster = Cluster::new(&options, &servers)?;
    let found = cluster.partitions(&options.topics)?;
    let discovery = options.discovery.filter(|_| !bounded);
    if found.is_empty() && discovery.is_none() {
        return Err(Error::external(format!("no topic at {servers} matches 'topic-pattern'")));
    }
    let plans = plan(&options, &cluster, &found, restored)?;

    let parallelism = rows.len();
    let mut shares: Vec<Vec<SplitPlan>> = vec![Vec::new(); parallelism];
    for plan in plans {
        let owner = owner(&plan.at.topic, plan.at.partition, parallelism);
        if let Some(share) = shares.get_mut(owner) {
            share.push(plan);
        }
    }
    let lags: Arc<Vec<AtomicI64>> = Arc::new((0..parallelism).map(|_| AtomicI64::new(0)).collect());
    let commits = options.properties.group_id.is_some() && options.properties.commit_on_checkpoint;
    let mut readers = Vec::new();
    let mut inboxes = Vec::new();
    for (subtask, (rows, splits)) in rows.into_iter().zip(shares).enumerate() {
        let setup = ReaderSetup {
            options: Arc::clone(&options),
            servers: servers.clone(),
            rows,
            splits,
            batch_rows: if scan.batch_rows == 0 { BATCH_ROWS } else { scan.batch_rows },
            open_ended: discovery.is_some(),
            commit_timeout: commits.then(|| options.properties.connect_timeout()),
            metrics: Arc::clone(&scan.metrics),
            lags: Arc::clone(&lags),
            subtask,
        };
        let (reader, inbox) = KafkaReader::start(setup)?;
        readers.push(reader);
        inboxes.push(inbox);
    }
    if let Some(every) = discovery {
        let known = found.into_iter().collect();
        let watch = Discovery { options, cluster, known, inboxes, failures: 0 };
        let watching = Arc::new(Watching(tokio::spawn(watch.run(every)).abort_handle()));
        readers.iter_mut().for_each(|reader| reader.hold(Arc::clone(&watching)));
    }
    Ok(readers.into_iter().map(|r| Box::new(r) as Box<dyn SourceReader>).collect())
}

/// Ends the discovery with the last reader.
#[derive(Debug)]
pub(super) struct Watching(AbortHandle);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Looks for new partitions from time to time.
struct Discovery {
    options: Arc<TableOptions>,
    cluster: Cluster,
    known: BTreeSet<TopicPartition>,
    inboxes: Vec<SplitInbox>,
    /// Looks in a row that found nothing out.
    failures: u32,
}

/// As many looks fail in a row before somebody hears of it. An outage is the readers' to tell, and sooner.
const FAILED_LOOKS: u32 = 3;

const DISCOVERY: &str = "kafka discovery";

impl Discovery {
    async fn run(mut self, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            let looked = tokio::task::spawn_blocking(move || {
                let found = self.cluster.partitions(&self.options.topics);
                let goes_on = found.and_then(|found| self.hand_out(found));
                self.note(goes_on.as_ref().err());
                (self, goes_on.unwrap_or(true))
            });
            match looked.await {
                Ok((discovery, true)) => self = discovery,
                _ => return,
            }
        }
    }

    /// Tells of looks that fail one after the other: what is read goes on, and what is new stays unseen.
    fn note(&mut self, failure: Option<&Error>) {
        match failure {
            Some(e) => {
                self.failures += 1;
                if self.failures == FAILED_LOOKS {
                    let text =
                        || format!("Kafka: new partitions cannot be looked for, which is tried again: {e}");
                    self.options.notices.begins(DISCOVERY, text);
                }
            }
            None => {
                if self.failures >= FAILED_LOOKS {
                    self.options
                        .notices
                        .ends(DISCOVERY, Some("Kafka: new partitions are looked for again".to_owned()));
                }
                self.failures = 0;
            }
        }
    }

    /// Gives new partitions to their readers; false when those are gone.
    fn hand_out(&mut self, found: Vec<TopicPartition>) -> Result<bool> {
        let new: Vec<TopicPartition> = found.into_iter().filter(|at| !self.known.contains(at)).collect();
        let lows = self.cluster.beginnings(&new)?;
        let mut shares: BTreeMap<usize, Vec<SplitPlan>> = BTreeMap::new();
        for (at, low) in new.into_iter().zip(lows) {
            let owner = owner(&at.topic, at.partition, self.inboxes.len());
            self.known.insert(at.clone());
            shares.entry(owner).or_default().push(SplitPlan { at, next: low, stop: None, rows: 0, bad: 0 });
        }
        let mut shares = shares.into_iter();
        Ok(shares.all(|(owner, plans)| self.inboxes.get(owner).is_some_and(|inbox| inbox.add(plans))))
    }
}
