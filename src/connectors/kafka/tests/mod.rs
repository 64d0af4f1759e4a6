//! Tests against the Kafka at `TIDELAKE_TEST_KAFKA`, or against the embedded broker when that is not set.

mod changes;
mod embedded_broker;
mod failures;
mod formats;
mod options;
mod positions;
mod registry;
mod sharing;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::Int64Type;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::{KafkaFactory, embedded};
use crate::catalog::{ObjectPath, ResolvedTable, TableDef};
use crate::connectors::ConnectorFactory;
use crate::edges::SinkContext;
use crate::edges::{ConnectorEnv, ScanRequest, SourceEvent, SourceReader, SplitState, WriteMode};
use crate::error::{Location, Result};
use crate::sql::ast::{ColumnDef, ColumnKind};
use crate::stream::{ChangeBatch, Epoch};
use crate::types::{LogicalType, MAX_LENGTH, TypeRoot};

/// The real broker, if there is one.
fn real() -> Option<String> {
    std::env::var("TIDELAKE_TEST_KAFKA").ok().filter(|v| !v.is_empty())
}

/// `properties.bootstrap.servers` of the tests.
fn servers() -> String {
    static SAY: Once = Once::new();
    let found = real();
    SAY.call_once(|| match &found {
        Some(servers) => eprintln!("kafka tests run on {servers}"),
        None => eprintln!("kafka tests run on the embedded broker: TIDELAKE_TEST_KAFKA is not set"),
    });
    found.unwrap_or_else(|| "embedded".to_owned())
}

/// Where clients of the tests themselves connect.
fn address() -> String {
    real().unwrap_or_else(|| embedded("").unwrap().bootstrap_servers().to_owned())
}

/// A name no other test uses.
fn unique(stem: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{stem}-{}-{n}", uuid::Uuid::new_v4().simple())
}

/// A new topic.
async fn topic(stem: &str, partitions: u32) -> String {
    let name = unique(stem);
    servers();
    if real().is_none() {
        embedded("").unwrap().ensure_topic(&name, Some(partitions)).unwrap();
        return name;
    }
    let new = NewTopic::new(&name, partitions as i32, TopicReplication::Fixed(1));
    let made = admin().create_topics([&new], &AdminOptions::new()).await.unwrap();
    made.into_iter().for_each(|r| {
        r.unwrap();
    });
    name
}

fn admin() -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", address()).create().unwrap()
}

/// A record to produce past the sink.
#[derive(Default, Clone)]
struct Rec<'a> {
    partition: i32,
    key: Option<&'a str>,
    value: Option<&'a [u8]>,
    timestamp: Option<i64>,
    headers: &'a [(&'a str, Option<&'a str>)],
}

fn text(partition: i32, value: &str) -> Rec<'_> {
    Rec { partition, value: Some(value.as_bytes()), ..Rec::default() }
}

/// Produces records in order.
fn produce(topic: &str, records: &[Rec<'_>]) {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", address()).set("linger.ms", "1").create().unwrap();
    for r in records {
        let mut record: BaseRecord<'_, str, [u8]> = BaseRecord::to(topic).partition(r.partition);
        record.key = r.key;
        record.payload = r.value;
        record.timestamp = r.timestamp;
        if !r.headers.is_empty() {
            record.headers = Some(
                r.headers
                    .iter()
                    .fold(OwnedHeaders::new(), |h, (key, value)| h.insert(Header { key, value: *value })),
            );
        }
        producer.send(record).map_err(|(e, _)| e).unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();
}

fn string() -> LogicalType {
    LogicalType::string()
}

fn bytes() -> LogicalType {
    LogicalType::nullable(TypeRoot::Varbinary(MAX_LENGTH))
}

fn bigint() -> LogicalType {
    LogicalType::nullable(TypeRoot::BigInt)
}

fn int() -> LogicalType {
    LogicalType::nullable(TypeRoot::Int)
}

fn ltz() -> LogicalType {
    LogicalType::nullable(TypeRoot::TimestampLtz(3))
}

fn col(name: &str, ty: LogicalType) -> ColumnDef {
    ColumnDef { name: name.to_owned(), ty: Some(ty), kind: ColumnKind::Physical, comment: None }
}

fn meta(name: &str, key: &str, ty: LogicalType, read_only: bool) -> ColumnDef {
    let kind = ColumnKind::Metadata { key: key.to_owned(), read_only };
    ColumnDef { name: name.to_owned(), ty: Some(ty), kind, comment: None }
}

/// A table on the test's broker.
fn table(columns: Vec<ColumnDef>, options: &[(&str, &str)]) -> ResolvedTable {
    let mut all: BTreeMap<String, String> = BTreeMap::from([
        ("connector".to_owned(), "kafka".to_owned()),
        ("properties.bootstrap.servers".to_owned(), servers()),
    ]);
    all.extend(options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    let def = TableDef {
        path: ObjectPath { catalog: "c".into(), database: "d".into(), object: "t".into() },
        columns,
        watermark: None,
        primary_key: None,
        partitioned_by: Vec::new(),
        comment: None,
        options: all,
        temporary: false,
        location: Location::default(),
        external: None,
    };
    ResolvedTable::new(Arc::new(def), &BTreeMap::new()).unwrap()
}

/// A bounded JSON table from the beginning to what is there now.
fn json(topic: &str, columns: Vec<ColumnDef>, more: &[(&str, &str)]) -> ResolvedTable {
    let mut options = vec![
        ("topic", topic),
        ("format", "json"),
        ("scan.startup.mode", "earliest-offset"),
        ("scan.bounded.mode", "latest-offset"),
    ];
    options.extend_from_slice(more);
    table(columns, &options)
}

fn env() -> ConnectorEnv {
    ConnectorEnv {
        config: Arc::default(),
        time_zone: chrono_tz::Tz::UTC,
        batch: false,
        base_dir: std::path::PathBuf::from("."),
        notices: crate::edges::Notices::default(),
    }
}

async fn readers(
    table: &ResolvedTable,
    parallelism: usize,
    restored: Option<Vec<SplitState>>,
) -> Result<Vec<Box<dyn SourceReader>>> {
    let source = KafkaFactory.source(table, &env())?;
    source.readers(ScanRequest::default(), parallelism, restored).await
}

/// The next event, within a time.
async fn next(reader: &mut Box<dyn SourceReader>) -> Result<SourceEvent> {
    tokio::time::timeout(Duration::from_secs(30), reader.next()).await.expect("an event within 30 s")
}

/// Everything a bounded table has, reader by reader; also checks that splits start, finish and end in order.
async fn read(table: &ResolvedTable, parallelism: usize) -> Result<Vec<RecordBatch>> {
    let mut batches = Vec::new();
    for mut reader in readers(table, parallelism, None).await? {
        let mut open = Vec::new();
        loop {
            match next(&mut reader).await? {
                SourceEvent::SplitsStarted(ids) => open.extend(ids),
                SourceEvent::Dropped { .. } => {}
                SourceEvent::Batch { split, batch } => {
                    assert!(open.contains(&split));
                    assert!(batch.num_rows() > 0);
                    batches.push(batch.rows);
                }
                SourceEvent::SplitFinished(split) => {
                    assert!(open.contains(&split));
                    open.retain(|s| *s != split);
                }
                SourceEvent::End => break,
            }
        }
        assert!(open.is_empty());
    }
    Ok(batches)
}

/// As [`read`], as one batch.
async fn read_one(table: &ResolvedTable, parallelism: usize) -> RecordBatch {
    let batches = read(table, parallelism).await.unwrap();
    concat_batches(&table.scan_schema(), &batches).unwrap()
}

/// Rows as text, sorted: `a|1|NULL`.
fn shown(batch: &RecordBatch) -> Vec<String> {
    use arrow::util::display::{ArrayFormatter, FormatOptions};
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<_> =
        batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).unwrap()).collect();
    let mut rows: Vec<String> = (0..batch.num_rows())
        .map(|i| columns.iter().map(|c| c.value(i).to_string()).collect::<Vec<_>>().join("|"))
        .collect();
    rows.sort();
    rows
}

fn longs(batches: &[RecordBatch], column: usize) -> Vec<i64> {
    batches.iter().flat_map(|b| b.column(column).as_primitive::<Int64Type>().values().to_vec()).collect()
}

/// Writes batches through the sink and waits for the acknowledgement.
async fn write(table: &ResolvedTable, batches: &[RecordBatch]) -> Result<()> {
    let sink = KafkaFactory.sink(table, &env())?;
    let mut opened = sink.open(&SinkContext::new(WriteMode::Append, 1)).await?;
    for batch in batches {
        opened.writers[0].write(ChangeBatch::insert_only(batch.clone())).await?;
    }
    assert!(opened.writers[0].prepare(Epoch(1)).await?.is_none());
    Ok(())
}
