//! Topics that hold changes: by key, and as messages of change data capture.

use std::time::Instant;

use arrow::array::{Int64Array, StringArray};

use super::*;
use crate::connectors::kafka::UpsertKafkaFactory;
use crate::edges::SinkContext;
use crate::edges::{Sink, SinkChangelog, Source, SourceChangelog};
use crate::sql::ast::PrimaryKey;
use crate::stream::{RowKind, RowKinds};

fn keyed(mut t: ResolvedTable, key: &[&str]) -> ResolvedTable {
    let mut def = (*t.def).clone();
    let columns = key.iter().map(|k| (*k).to_owned()).collect();
    def.primary_key = Some(PrimaryKey { name: None, columns });
    t = ResolvedTable::new(Arc::new(def), &BTreeMap::new()).unwrap();
    t
}

fn upsert(topic: &str, columns: Vec<ColumnDef>, key: &[&str], more: &[(&str, &str)]) -> ResolvedTable {
    let mut options = vec![
        ("connector", "upsert-kafka"),
        ("topic", topic),
        ("key.format", "json"),
        ("value.format", "json"),
        ("scan.bounded.mode", "latest-offset"),
    ];
    options.extend_from_slice(more);
    keyed(table(columns, &options), key)
}

fn debezium(topic: &str, columns: Vec<ColumnDef>, more: &[(&str, &str)]) -> ResolvedTable {
    let mut options = vec![
        ("topic", topic),
        ("format", "debezium-json"),
        ("scan.startup.mode", "earliest-offset"),
        ("scan.bounded.mode", "latest-offset"),
    ];
    options.extend_from_slice(more);
    table(columns, &options)
}

/// Changes as text, in the order of the partitions' readers: `+I a|1`.
async fn changes(source: &dyn Source, parallelism: usize) -> Result<Vec<String>> {
    use arrow::util::display::{ArrayFormatter, FormatOptions};
    let options = FormatOptions::default().with_null("NULL");
    let mut shown = Vec::new();
    for mut reader in source.readers(ScanRequest::default(), parallelism, None).await? {
        loop {
            match next(&mut reader).await? {
                SourceEvent::Batch { batch, .. } => {
                    let columns = batch.rows.columns().iter();
                    let columns: Vec<_> =
                        columns.map(|c| ArrayFormatter::try_new(c, &options).unwrap()).collect();
                    shown.extend((0..batch.num_rows()).map(|i| {
                        let cells: Vec<String> = columns.iter().map(|c| c.value(i).to_string()).collect();
                        format!("{} {}", batch.kind(i).symbol(), cells.join("|"))
                    }));
                }
                SourceEvent::End => break,
                _ => {}
            }
        }
    }
    Ok(shown)
}

fn batch(table: &ResolvedTable, rows: &[(RowKind, i64, Option<&str>)]) -> ChangeBatch {
    let ids = rows.iter().map(|r| r.1).collect::<Vec<i64>>();
    let names = rows.iter().map(|r| r.2).collect::<StringArray>();
    let columns =
        RecordBatch::try_new(table.sink_schema(), vec![Arc::new(Int64Array::from(ids)), Arc::new(names)]);
    ChangeBatch::with_kinds(columns.unwrap(), RowKinds::new(rows.iter().map(|r| r.0 as u8).collect()))
}

async fn write_all(sink: &dyn Sink, batches: &[ChangeBatch]) {
    let mut opened = sink.open(&SinkContext::new(WriteMode::Append, 1)).await.unwrap();
    for batch in batches {
        opened.writers[0].write(batch.clone()).await.unwrap();
    }
    assert!(opened.writers[0].prepare(Epoch(1)).await.unwrap().is_none());
}

/// What lies in a topic: `key=value`, `key=-` without a value.
async fn records(topic: &str) -> Vec<String> {
    let log = table(
        vec![col("k", string()), col("v", string())],
        &[
            ("topic", topic),
            ("key.format", "raw"),
            ("key.fields", "k"),
            ("value.format", "raw"),
            ("value.fields-include", "EXCEPT_KEY"),
            ("scan.startup.mode", "earliest-offset"),
            ("scan.bounded.mode", "latest-offset"),
        ],
    );
    let rows = changes(&*KafkaFactory.source(&log, &env()).unwrap(), 1).await.unwrap();
    rows.iter().map(|r| r.trim_start_matches("+I ").replace('|', "=").replace("=NULL", "=-")).collect()
}

fn id_name() -> Vec<ColumnDef> {
    vec![col("id", bigint()), col("name", string())]
}

#[tokio::test]
async fn a_record_sets_the_row_of_its_key_and_one_without_value_deletes_it() {
    let topic = topic("upserts", 1).await;
    let rec = |key, value: Option<&'static str>| Rec {
        key: Some(key),
        value: value.map(str::as_bytes),
        ..Rec::default()
    };
    produce(
        &topic,
        &[
            rec("{\"id\":1}", Some("{\"id\":1,\"name\":\"a\"}")),
            rec("{\"id\":2}", Some("{\"id\":2,\"name\":null}")),
            rec("{\"id\":1}", None),
            // The key is the key's, whatever the value says.
            rec("{\"id\":3}", Some("{\"name\":\"c\"}")),
            Rec { key: None, value: Some(b"{\"id\":9}"), ..Rec::default() },
            rec("{\"id\":2}", Some("{\"id\":2,\"name\":\"b\"}")),
        ],
    );
    let mut columns = id_name();
    columns.push(meta("o", "offset", bigint(), true));
    let t = upsert(&topic, columns, &["id"], &[]);
    let source = UpsertKafkaFactory.source(&t, &env()).unwrap();
    assert_eq!(source.changelog(), SourceChangelog::Upsert);
    // A deleted row has nothing but its key.
    assert!(!source.schema().field(0).is_nullable() && source.schema().field(1).is_nullable());
    assert_eq!(
        changes(&*source, 1).await.unwrap(),
        ["+I 1|a|0", "+I 2|NULL|1", "-D 1|NULL|2", "+I 3|c|3", "+I 2|b|5"]
    );
    let prefixed = upsert(
        &topic,
        vec![col("k_id", bigint()), col("name", string())],
        &["k_id"],
        &[("key.fields-prefix", "k_"), ("value.fields-include", "EXCEPT_KEY")],
    );
    let source = UpsertKafkaFactory.source(&prefixed, &env()).unwrap();
    assert_eq!(changes(&*source, 2).await.unwrap().len(), 5);
}

#[tokio::test]
async fn deletes_are_written_as_records_without_value() {
    let topic = topic("tombstones", 1).await;
    let t = upsert(&topic, id_name(), &["id"], &[]);
    let sink = UpsertKafkaFactory.sink(&t, &env()).unwrap();
    assert_eq!((sink.changelog(), sink.primary_key()), (SinkChangelog::Upsert, Some(vec![0])));
    let first = [
        (RowKind::Insert, 1, Some("a")),
        (RowKind::Insert, 2, None),
        (RowKind::UpdateBefore, 1, Some("a")),
        (RowKind::UpdateAfter, 1, Some("b")),
    ];
    write_all(&*sink, &[batch(&t, &first), batch(&t, &[(RowKind::Delete, 2, None)])]).await;
    assert_eq!(
        records(&topic).await,
        [
            "{\"id\":1}={\"id\":1,\"name\":\"a\"}",
            "{\"id\":2}={\"id\":2,\"name\":null}",
            "{\"id\":1}={\"id\":1,\"name\":\"b\"}",
            "{\"id\":2}=-",
        ]
    );
    let source = UpsertKafkaFactory.source(&t, &env()).unwrap();
    assert_eq!(changes(&*source, 1).await.unwrap(), ["+I 1|a", "+I 2|NULL", "+I 1|b", "-D 2|NULL"]);
}

#[tokio::test]
async fn the_records_of_a_key_are_in_one_partition() {
    let topic = topic("spread", 4).await;
    let t = upsert(&topic, id_name(), &["id"], &[("value.fields-include", "EXCEPT_KEY")]);
    let sink = UpsertKafkaFactory.sink(&t, &env()).unwrap();
    let rows: Vec<_> = (0..40).map(|i| (RowKind::Insert, i % 10, Some("x"))).collect();
    write_all(&*sink, &[batch(&t, &rows)]).await;
    let mut columns = id_name();
    columns.push(meta("p", "partition", int(), true));
    let t = upsert(&topic, columns, &["id"], &[("value.fields-include", "EXCEPT_KEY")]);
    let rows = changes(&*UpsertKafkaFactory.source(&t, &env()).unwrap(), 3).await.unwrap();
    assert_eq!(rows.len(), 40);
    let distinct: std::collections::BTreeSet<&String> = rows.iter().collect();
    assert_eq!(distinct.len(), 10);
}

#[tokio::test]
async fn buffered_changes_of_a_key_are_written_once() {
    let topic = topic("buffered", 1).await;
    let options = [("sink.buffer-flush.max-rows", "5"), ("sink.buffer-flush.interval", "300 ms")];
    let t = upsert(&topic, id_name(), &["id"], &options);
    let sink = UpsertKafkaFactory.sink(&t, &env()).unwrap();
    let mut opened = sink.open(&SinkContext::new(WriteMode::Append, 1)).await.unwrap();
    let writer = &mut opened.writers[0];
    let one = |kind, id, name| batch(&t, &[(kind, id, name)]);
    for name in ["a", "b", "c"] {
        writer.write(one(RowKind::Insert, 1, Some(name))).await.unwrap();
    }
    writer.write(one(RowKind::UpdateBefore, 1, Some("c"))).await.unwrap();
    writer.flush().await.unwrap();
    assert!(records(&topic).await.is_empty());
    let due = writer.next_flush().unwrap();
    // Five rows are enough.
    writer.write(batch(&t, &[(RowKind::Insert, 2, Some("x")), (RowKind::Delete, 2, None)])).await.unwrap();
    assert!(writer.next_flush().unwrap() > due, "nothing waits any more");
    writer.flush().await.unwrap();
    let written = ["{\"id\":1}={\"id\":1,\"name\":\"c\"}".to_owned(), "{\"id\":2}=-".to_owned()];
    assert_eq!(records(&topic).await, written);
    // So is the time.
    writer.write(one(RowKind::Insert, 3, None)).await.unwrap();
    // The producer's events are looked at meanwhile, at times of their own.
    for _ in 0..3 {
        let due = writer.next_flush().unwrap();
        tokio::time::sleep(due.saturating_duration_since(Instant::now())).await;
        writer.flush().await.unwrap();
    }
    assert_eq!(records(&topic).await.len(), 3);
    // So is a checkpoint.
    writer.write(one(RowKind::Delete, 3, None)).await.unwrap();
    writer.prepare(Epoch(1)).await.unwrap();
    assert_eq!(records(&topic).await.last().unwrap(), "{\"id\":3}=-");
}

#[tokio::test]
async fn change_messages_there_and_back() {
    for format in ["debezium-json", "canal-json", "maxwell-json", "ogg-json"] {
        let topic = topic("changes", 1).await;
        let t = debezium(&topic, id_name(), &[("format", format)]);
        let sink = KafkaFactory.sink(&t, &env()).unwrap();
        assert_eq!((sink.changelog(), sink.primary_key()), (SinkChangelog::All, None));
        let rows = [
            (RowKind::Insert, 1, Some("a")),
            (RowKind::UpdateBefore, 1, Some("a")),
            (RowKind::UpdateAfter, 1, None),
            (RowKind::Delete, 1, None),
        ];
        write_all(&*sink, &[batch(&t, &rows)]).await;
        let source = KafkaFactory.source(&t, &env()).unwrap();
        assert_eq!(source.changelog(), SourceChangelog::Retract);
        assert_eq!(changes(&*source, 1).await.unwrap(), ["+I 1|a", "-D 1|a", "+I 1|NULL", "-D 1|NULL"]);
    }
}

#[tokio::test]
async fn metadata_of_messages_and_of_records() {
    let topic = topic("source", 1).await;
    produce(
        &topic,
        &[
            text(
                0,
                r#"{"before":null,"after":{"id":1,"name":"a"},"op":"c","ts_ms":1500,"source":{"db":"shop","ts_ms":1000}}"#,
            ),
            Rec { key: Some("1"), ..Rec::default() },
            text(0, r#"{"before":{"id":1,"name":"a"},"after":{"id":1,"name":"b"},"op":"u","ts_ms":2500}"#),
        ],
    );
    let mut columns = id_name();
    let timestamp = LogicalType::nullable(TypeRoot::Timestamp(3));
    columns.extend([
        meta("at", "value.ingestion-timestamp", timestamp, true),
        meta("o", "offset", bigint(), true),
        meta("db", "value.source.database", string(), true),
        meta("st", "value.source.timestamp", ltz(), true),
    ]);
    let t = keyed(debezium(&topic, columns, &[]), &["id"]);
    let source = KafkaFactory.source(&t, &env()).unwrap();
    assert_eq!(
        changes(&*source, 1).await.unwrap(),
        [
            "+I 1|a|1970-01-01T00:00:01.500|0|shop|1970-01-01T00:00:01Z",
            "-U 1|a|1970-01-01T00:00:02.500|2|NULL|NULL",
            "+U 1|b|1970-01-01T00:00:02.500|2|NULL|NULL",
        ]
    );
    produce(&topic, &[text(0, r#"{"after":null,"op":"d"}"#)]);
    let e = changes(&*source, 1).await.unwrap_err().to_string();
    assert!(e.contains("offset 3") && e.contains("REPLICA IDENTITY"), "{e}");
}

fn refusal(t: &ResolvedTable) -> String {
    let factory: &dyn ConnectorFactory =
        if t.options["connector"] == "kafka" { &KafkaFactory } else { &UpsertKafkaFactory };
    let e = factory.source(t, &env()).err().or_else(|| factory.sink(t, &env()).err());
    e.map(|e| e.to_string()).unwrap_or_default()
}

#[test]
fn tables_of_changes_that_make_no_sense() {
    let no_key = table(id_name(), &[("connector", "upsert-kafka"), ("topic", "t"), ("key.format", "json")]);
    let cases = [
        (no_key, "PRIMARY KEY constraint"),
        (upsert("t", id_name(), &["id"], &[("scan.startup.mode", "latest-offset")]), "scan.startup.mode"),
        (upsert("t", id_name(), &["id"], &[("key.fields", "id")]), "key.fields"),
        (upsert("t", id_name(), &["id"], &[("value.format", "canal-json")]), "not in insert-only mode"),
        (upsert("t", id_name(), &["id"], &[("key.format", "ogg-json")]), "INSERT-only records"),
        (upsert("t", id_name(), &["id"], &[("key.fields-prefix", "k_")]), "EXCEPT_KEY"),
        (
            upsert(
                "t",
                id_name(),
                &["id"],
                &[("key.fields-prefix", "k_"), ("value.fields-include", "EXCEPT_KEY")],
            ),
            "PRIMARY KEY must be prefixed with 'k_'",
        ),
        (upsert("t", id_name(), &["id"], &[("sink.buffer-flush.max-rows", "x")]), "a number of rows"),
        (keyed(json("t", id_name(), &[]), &["id"]), "doesn't support defining PRIMARY KEY"),
        (
            debezium("t", vec![col("id", bigint()), meta("m", "value.op", string(), true)], &[]),
            "value.source.database",
        ),
        (
            json("t", vec![col("id", bigint()), meta("m", "value.table", string(), true)], &[]),
            "has no metadata",
        ),
        (
            debezium("t", vec![col("id", bigint()), meta("m", "value.source.properties", int(), true)], &[]),
            "MAP<STRING NOT NULL, STRING>",
        ),
        (debezium("t", id_name(), &[("debezium-json.schema", "true")]), "debezium-json.schema-include"),
    ];
    for (t, expected) in cases {
        let e = refusal(&t);
        assert!(e.contains(expected), "{:?}: {e}", t.options);
    }
    assert_eq!(refusal(&upsert("t", id_name(), &["id"], &[])), "");
}
