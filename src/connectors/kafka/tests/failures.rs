//! What goes wrong is told: where, why, and what to do.

use std::time::Instant;

use arrow::array::{Int64Array, StringArray};

use super::*;
use crate::edges::SinkContext;
use crate::edges::source::{SourceMetrics, UNKNOWN_LAG};

fn id() -> Vec<ColumnDef> {
    vec![col("id", bigint())]
}

#[tokio::test]
async fn a_broker_that_is_down() {
    // A port nobody listens on.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let down = format!("127.0.0.1:{port}");
    let table = json(
        "t",
        id(),
        &[
            ("properties.bootstrap.servers", &down),
            ("properties.default.api.timeout.ms", "1500"),
            ("properties.sasl.password", "hunter2"),
        ],
    );
    let start = Instant::now();
    let source = readers(&table, 1, None).await.err().unwrap().to_string();
    let sink = KafkaFactory
        .sink(&table, &env())
        .unwrap()
        .open(&SinkContext::new(WriteMode::Append, 1))
        .await
        .err()
        .unwrap();
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    for e in [source, sink.to_string()] {
        assert!(e.contains(&down) && e.contains("cannot reach Kafka") && e.contains("c.d.t"), "{e}");
        assert!(e.contains("refused") && !e.contains("hunter2"), "{e}");
    }
}

#[tokio::test]
async fn a_host_that_does_not_exist() {
    let table = json(
        "t",
        id(),
        &[
            ("properties.bootstrap.servers", "no-such-host.invalid:9092"),
            ("properties.default.api.timeout.ms", "1000"),
        ],
    );
    let e = readers(&table, 1, None).await.err().unwrap().to_string();
    assert!(e.contains("no-such-host.invalid:9092"), "{e}");
}

#[tokio::test]
async fn a_topic_that_does_not_exist() {
    if real().is_none() {
        eprintln!("not tested: the embedded broker makes topics when they are used");
        return;
    }
    let topic = unique("missing");
    let table = json(&topic, id(), &[]);
    let source = readers(&table, 1, None).await.err().unwrap().to_string();
    let sink = KafkaFactory
        .sink(&table, &env())
        .unwrap()
        .open(&SinkContext::new(WriteMode::Append, 1))
        .await
        .err()
        .unwrap();
    for e in [source, sink.to_string()] {
        assert!(e.contains(&topic) && e.contains("does not exist") && e.contains("--create"), "{e}");
    }
}

#[tokio::test]
async fn a_bad_record_is_named() {
    let topic = topic("bad", 2).await;
    produce(
        &topic,
        &[
            text(1, "{\"id\": 1}"),
            Rec { partition: 1, ..Rec::default() },
            text(1, "{\"id\": oops"),
            text(1, "{\"id\": 2}"),
        ],
    );
    let e = read(&json(&topic, id(), &[]), 2).await.unwrap_err().to_string();
    assert!(e.contains(&format!("topic {topic} partition 1 offset 2")), "{e}");
    let lenient = json(&topic, id(), &[("json.ignore-parse-errors", "true")]);
    let scan = ScanRequest::default();
    let metrics = Arc::clone(&scan.metrics);
    let source = KafkaFactory.source(&lenient, &env()).unwrap();
    let mut rows = 0;
    for mut reader in source.readers(scan, 1, None).await.unwrap() {
        loop {
            match next(&mut reader).await.unwrap() {
                SourceEvent::Batch { batch, .. } => rows += batch.num_rows(),
                SourceEvent::End => break,
                _ => {}
            }
        }
    }
    assert_eq!((rows, metrics.skipped.load(Ordering::Relaxed)), (2, 1));
    assert!(metrics.bytes.load(Ordering::Relaxed) > 20);
    // A bad key.
    let topic = self::topic("badkey", 1).await;
    produce(&topic, &[Rec { key: Some("nope"), ..text(0, "{\"id\": 1}") }]);
    let keyed = json(
        &topic,
        vec![col("k", bigint()), col("id", bigint())],
        &[("key.format", "json"), ("key.fields", "k"), ("value.fields-include", "EXCEPT_KEY")],
    );
    let e = read(&keyed, 1).await.unwrap_err().to_string();
    assert!(e.contains("partition 0 offset 0, key"), "{e}");
}

#[tokio::test]
async fn null_in_a_not_null_column() {
    let topic = topic("notnull", 1).await;
    produce(&topic, &[text(0, "{}")]);
    let table = json(&topic, vec![col("id", LogicalType::not_null(TypeRoot::BigInt))], &[]);
    let e = read(&table, 1).await.unwrap_err().to_string();
    assert!(e.contains("`id`") && e.contains("NOT NULL"), "{e}");
}

#[tokio::test]
async fn records_that_are_too_large() {
    let topic = topic("large", 1).await;
    let table = json(
        &topic,
        vec![col("id", bigint()), col("s", string())],
        &[("properties.message.max.bytes", "5000")],
    );
    let big = "x".repeat(10_000);
    let rows = RecordBatch::try_new(
        table.sink_schema(),
        vec![Arc::new(Int64Array::from(vec![1])), Arc::new(StringArray::from(vec![big.as_str()]))],
    )
    .unwrap();
    let e = write(&table, &[rows]).await.unwrap_err().to_string();
    assert!(e.contains(&topic) && e.contains("too large") && e.contains("max.message.bytes"), "{e}");
}

#[tokio::test]
async fn a_snapshot_of_another_topic_is_refused() {
    let (a, b) = (topic("a", 1).await, topic("b", 1).await);
    let states = readers(&json(&a, id(), &[]), 1, None).await.unwrap()[0].snapshot().unwrap();
    let e = readers(&json(&b, id(), &[]), 1, Some(states)).await.err().unwrap().to_string();
    assert!(e.contains(&a), "{e}");
    let broken = vec![SplitState { split: "x-0".into(), position: "{}".into() }];
    let e = readers(&json(&b, id(), &[]), 1, Some(broken)).await.err().unwrap().to_string();
    assert!(e.contains("x-0"), "{e}");
}

#[tokio::test]
async fn overwriting_is_refused() {
    let table = json("t", id(), &[]);
    let e = KafkaFactory
        .sink(&table, &env())
        .unwrap()
        .open(&SinkContext::new(WriteMode::Overwrite, 1))
        .await
        .err()
        .unwrap();
    assert!(e.to_string().contains("INSERT INTO"), "{e}");
}

#[tokio::test]
async fn a_cluster_that_goes_away_in_mid_run() {
    let cluster = rdkafka::mocking::MockCluster::new(1).unwrap();
    cluster.create_topic("gone", 1, 1).unwrap();
    let servers = cluster.bootstrap_servers();
    let table = table(
        id(),
        &[
            ("properties.bootstrap.servers", &servers),
            ("properties.default.api.timeout.ms", "1500"),
            ("properties.delivery.timeout.ms", "2000"),
            ("topic", "gone"),
            ("format", "json"),
            ("scan.startup.mode", "earliest-offset"),
        ],
    );
    let mut reader = readers(&table, 1, None).await.unwrap().remove(0);
    assert!(matches!(next(&mut reader).await.unwrap(), SourceEvent::SplitsStarted(_)));
    let sink = KafkaFactory.sink(&table, &env()).unwrap();
    let mut writer = sink.open(&SinkContext::new(WriteMode::Append, 1)).await.unwrap().writers.remove(0);
    let rows = RecordBatch::try_new(table.sink_schema(), vec![Arc::new(Int64Array::from(vec![1]))]).unwrap();
    writer.write(ChangeBatch::insert_only(rows.clone())).await.unwrap();
    writer.flush().await.unwrap();
    assert!(matches!(next(&mut reader).await.unwrap(), SourceEvent::Batch { .. }));
    cluster.broker_down(-1).unwrap();
    let start = Instant::now();
    let written = writer.write(ChangeBatch::insert_only(rows)).await;
    let e = match written {
        Ok(()) => writer.prepare(Epoch(1)).await.unwrap_err(),
        Err(e) => e,
    }
    .to_string();
    assert!(
        e.contains("topic gone partition 0") && e.contains(&servers) && e.contains("delivery.timeout.ms"),
        "{e}"
    );
    let e = next(&mut reader).await.unwrap_err().to_string();
    assert!(e.contains("cannot reach Kafka") && e.contains(&servers), "{e}");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[tokio::test]
async fn offsets_deleted_under_a_running_reader() {
    // Small fetches, so that the reader is behind when the broker drops what it has not read.
    let broker = embedded("overrun").unwrap();
    let topic = unique("overrun");
    broker.ensure_topic(&topic, None).unwrap();
    let table = table(
        vec![col("v", bytes())],
        &[
            ("properties.bootstrap.servers", "embedded:overrun"),
            ("properties.queued.min.messages", "1"),
            ("properties.queued.max.messages.kbytes", "1"),
            ("topic", &topic),
            ("format", "raw"),
            ("scan.startup.mode", "earliest-offset"),
        ],
    );
    let source = KafkaFactory.source(&table, &env()).unwrap();
    let scan = ScanRequest { batch_rows: 1, ..ScanRequest::default() };
    let mut reader = source.readers(scan, 1, None).await.unwrap().remove(0);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap_servers())
        .set("batch.size", "60000")
        .create()
        .unwrap();
    let value = vec![0u8; 50_000];
    for _ in 0..400 {
        producer.send(BaseRecord::<(), [u8]>::to(&topic).payload(&value)).map_err(|(e, _)| e).unwrap();
        producer.poll(Duration::ZERO);
    }
    producer.flush(Duration::from_secs(10)).unwrap();
    let mut offsets = 0;
    let e = loop {
        match next(&mut reader).await {
            Ok(SourceEvent::Batch { batch, .. }) => offsets += batch.num_rows(),
            Ok(_) => {}
            Err(e) => break e.to_string(),
        }
        assert!(offsets < 400, "nothing was dropped");
    };
    assert!(e.contains(&topic) && e.contains(&format!("offset {offsets} is not there any more")), "{e}");
}

#[tokio::test]
async fn a_group_that_cannot_be_told_does_not_fail_the_job() {
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    let cluster = rdkafka::mocking::MockCluster::new(1).unwrap();
    cluster.create_topic("told", 1, 1).unwrap();
    let servers = cluster.bootstrap_servers();
    let table = table(
        id(),
        &[
            ("properties.bootstrap.servers", &servers),
            ("properties.group.id", "g"),
            ("properties.default.api.timeout.ms", "3000"),
            ("topic", "told"),
            ("format", "json"),
            ("scan.startup.mode", "earliest-offset"),
        ],
    );
    let env = env();
    let source = KafkaFactory.source(&table, &env).unwrap();
    let mut reader = source.readers(ScanRequest::default(), 1, None).await.unwrap().remove(0);
    assert!(matches!(next(&mut reader).await.unwrap(), SourceEvent::SplitsStarted(_)));
    let positions = reader.snapshot().unwrap();
    let refused = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED; 8];
    cluster.request_errors(RDKafkaApiKey::OffsetCommit, &refused);
    for epoch in 1..3 {
        reader.on_commit(Epoch(epoch), &positions).await.unwrap();
    }
    let told: Vec<String> =
        env.notices.take().into_iter().filter(|t| t.contains("the job goes on")).collect();
    assert_eq!(told.len(), 1, "once, and not for each epoch: {told:?}");
    // It reads on, and is told again when it can be.
    cluster.clear_request_errors(RDKafkaApiKey::OffsetCommit);
    reader.on_commit(Epoch(3), &positions).await.unwrap();
    assert_eq!(reader.snapshot().unwrap().len(), 1);
}

async fn lag_becomes(metrics: &SourceMetrics, wanted: i64) {
    let start = Instant::now();
    loop {
        let lag = metrics.lag.load(Ordering::Relaxed);
        if lag == wanted {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "lag {lag}, not {wanted}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn the_lag_behind_a_cluster_that_is_away_is_unknown() {
    let cluster = rdkafka::mocking::MockCluster::new(1).unwrap();
    cluster.create_topic("lag", 1, 1).unwrap();
    let servers = cluster.bootstrap_servers();
    let table = table(
        id(),
        &[
            ("properties.bootstrap.servers", &servers),
            ("properties.default.api.timeout.ms", "90000"),
            ("topic", "lag"),
            ("format", "json"),
            ("scan.startup.mode", "earliest-offset"),
        ],
    );
    let scan = ScanRequest::default();
    let metrics = scan.metrics.clone();
    let source = KafkaFactory.source(&table, &env()).unwrap();
    let mut reader = source.readers(scan, 1, None).await.unwrap().remove(0);
    assert!(matches!(next(&mut reader).await.unwrap(), SourceEvent::SplitsStarted(_)));
    lag_becomes(&metrics, 0).await;
    cluster.broker_down(-1).unwrap();
    lag_becomes(&metrics, UNKNOWN_LAG).await;
    cluster.broker_up(-1).unwrap();
    lag_becomes(&metrics, 0).await;
}
