//! The embedded broker's limits are errors, never silent losses.

use arrow::array::StringArray;

use super::*;
use crate::edges::SinkContext;

fn raw(name: &str, topic: &str, more: &[(&str, &str)]) -> ResolvedTable {
    let servers = format!("embedded:{name}");
    let mut options = vec![
        ("properties.bootstrap.servers", servers.as_str()),
        ("topic", topic),
        ("format", "raw"),
        ("scan.startup.mode", "earliest-offset"),
        ("scan.bounded.mode", "latest-offset"),
    ];
    options.extend_from_slice(more);
    table(vec![col("v", string())], &options)
}

fn strings(table: &ResolvedTable, n: usize, len: usize) -> RecordBatch {
    let value = "x".repeat(len);
    RecordBatch::try_new(table.sink_schema(), vec![Arc::new(StringArray::from(vec![value.as_str(); n]))])
        .unwrap()
}

#[tokio::test]
async fn a_full_partition_is_an_error_and_nothing_is_lost() {
    for (len, rows) in [(1000, 100), (20, 500), (100_000, 3)] {
        let topic = unique("full");
        let table = raw("full", &topic, &[]);
        let sink = KafkaFactory.sink(&table, &env()).unwrap();
        let mut opened = sink.open(&SinkContext::new(WriteMode::Append, 1)).await.unwrap();
        let batch = strings(&table, rows, len);
        let mut written = 0;
        let e = loop {
            match opened.writers[0].write(ChangeBatch::insert_only(batch.clone())).await {
                Ok(()) => written += rows,
                Err(e) => break e.to_string(),
            }
            assert!(written * len < 6_000_000, "not refused");
        };
        assert!(e.contains("5 MB") && e.contains("embedded.partitions") && e.contains(&topic), "{e}");
        assert!(written * (len + 30) > 3_500_000, "refused too early: {written} records of {len} bytes");
        opened.writers[0].prepare(Epoch(1)).await.unwrap();
        let read: usize = read(&table, 1).await.unwrap().iter().map(RecordBatch::num_rows).sum();
        assert_eq!(read, written, "records of {len} bytes");
    }
}

#[tokio::test]
async fn more_partitions_hold_more() {
    let topic = unique("wide");
    let table = raw("wide", &topic, &[("embedded.partitions", "4")]);
    let batch = strings(&table, 1000, 1000);
    write(&table, &vec![batch; 12]).await.unwrap();
    let read: usize = read(&table, 2).await.unwrap().iter().map(RecordBatch::num_rows).sum();
    assert_eq!(read, 12_000);
    // Another number of partitions is a contradiction.
    let e =
        self::read(&raw("wide", &topic, &[("embedded.partitions", "2")]), 1).await.unwrap_err().to_string();
    assert!(e.contains("has 4 partitions"), "{e}");
}

#[tokio::test]
async fn dropped_records_are_noticed() {
    let broker = embedded("dropping").unwrap();
    let topic = unique("dropping");
    broker.ensure_topic(&topic, None).unwrap();
    let table = raw("dropping", &topic, &[]);
    write(&table, &[strings(&table, 1, 5)]).await.unwrap();
    let states = readers(&table, 1, None).await.unwrap()[0].snapshot().unwrap();
    // Another client does not count.
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap_servers())
        .set("batch.size", "100000")
        .create()
        .unwrap();
    let value = vec![0u8; 50_000];
    for _ in 0..150 {
        producer.send(BaseRecord::<(), [u8]>::to(&topic).payload(&value)).map_err(|(e, _)| e).unwrap();
        producer.poll(Duration::ZERO);
    }
    producer.flush(Duration::from_secs(10)).unwrap();
    let e = read(&table, 1).await.unwrap_err().to_string();
    assert!(e.contains("dropped the first"), "{e}");
    let e = readers(&table, 1, Some(states)).await.err().unwrap().to_string();
    assert!(e.contains("not there any more") || e.contains("dropped the first"), "{e}");
}

#[tokio::test]
async fn brokers_are_shared_by_name() {
    assert!(Arc::ptr_eq(&embedded("one").unwrap(), &embedded("one").unwrap()));
    assert_ne!(embedded("one").unwrap().bootstrap_servers(), embedded("two").unwrap().bootstrap_servers());
    let topic = unique("shared");
    let table = raw("one", &topic, &[]);
    write(&table, &[strings(&table, 3, 5)]).await.unwrap();
    assert_eq!(read_one(&table, 1).await.num_rows(), 3);
    assert_eq!(read_one(&raw("two", &topic, &[]), 1).await.num_rows(), 0);
    assert_eq!(embedded("one").unwrap().partitions(&topic), Some(1));
}
