//! Keys, values, metadata: what is written comes back.

use arrow::array::{
    ArrayRef, BinaryBuilder, Int64Array, MapBuilder, MapFieldNames, StringArray, StringBuilder,
    TimestampMillisecondArray,
};

use super::*;

fn headers_type() -> LogicalType {
    LogicalType::nullable(TypeRoot::Map(Box::new(string()), Box::new(bytes())))
}

fn headers(rows: &[&[(&str, Option<&str>)]]) -> ArrayRef {
    let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
    let mut builder = MapBuilder::new(Some(names), StringBuilder::new(), BinaryBuilder::new());
    for row in rows {
        for (key, value) in *row {
            builder.keys().append_value(key);
            builder.values().append_option(*value);
        }
        builder.append(true).unwrap();
    }
    Arc::new(builder.finish())
}

fn batch(table: &ResolvedTable, columns: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_new(table.sink_schema(), columns).unwrap()
}

#[tokio::test]
async fn round_trip_with_all_metadata() {
    let topic = topic("all", 3).await;
    let table = json(
        &topic,
        vec![
            col("id", bigint()),
            meta("headers", "headers", headers_type(), false),
            col("name", string()),
            meta("at", "timestamp", ltz(), false),
            meta("topic", "topic", string(), true),
            meta("p", "partition", int(), true),
            meta("o", "offset", bigint(), true),
            meta("epoch", "leader-epoch", int(), true),
            meta("kind", "timestamp-type", string(), true),
        ],
        &[("sink.partitioner", "round-robin")],
    );
    let rows = batch(
        &table,
        vec![
            Arc::new(Int64Array::from(vec![Some(1), Some(2), None])),
            headers(&[&[("a", Some("x")), ("b", None)], &[], &[("ü", Some("ß"))]]),
            Arc::new(StringArray::from(vec![Some("æøå 日本"), None, Some("")])),
            Arc::new(TimestampMillisecondArray::from(vec![1000, 2000, 3000]).with_timezone("UTC")),
        ],
    );
    write(&table, &[rows]).await.unwrap();
    for parallelism in [1, 2, 5] {
        let read = read_one(&table, parallelism).await;
        assert_eq!(
            shown(&read),
            [
                format!("1|æøå 日本|{{a: 78, b: NULL}}|1970-01-01T00:00:01Z|{topic}|1|0|0|CreateTime"),
                format!("2|NULL|{{}}|1970-01-01T00:00:02Z|{topic}|2|0|0|CreateTime"),
                format!("NULL||{{c3bc: c39f}}|1970-01-01T00:00:03Z|{topic}|0|0|0|CreateTime")
                    .replace("c3bc", "ü"),
            ],
            "parallelism {parallelism}"
        );
    }
}

#[tokio::test]
async fn metadata_takes_the_declared_type() {
    let topic = topic("cast", 1).await;
    produce(
        &topic,
        &[Rec {
            timestamp: Some(1_719_835_200_123),
            headers: &[("h", Some("1")), ("h", Some("2"))],
            ..text(0, "{}")
        }],
    );
    let text_headers = LogicalType::nullable(TypeRoot::Map(Box::new(string()), Box::new(string())));
    let table = json(
        &topic,
        vec![
            col("id", bigint()),
            meta("at", "timestamp", LogicalType::nullable(TypeRoot::Timestamp(3)), true),
            meta("at6", "timestamp", LogicalType::not_null(TypeRoot::TimestampLtz(6)), true),
            meta("p", "partition", bigint(), true),
            meta("o", "offset", string(), true),
            meta("h", "headers", text_headers, true),
        ],
        &[],
    );
    let mut berlin = env();
    berlin.time_zone = "Europe/Berlin".parse().unwrap();
    let source = KafkaFactory.source(&table, &berlin).unwrap();
    let mut reader = source.readers(ScanRequest::default(), 1, None).await.unwrap().remove(0);
    loop {
        if let SourceEvent::Batch { batch, .. } = next(&mut reader).await.unwrap() {
            assert_eq!(
                shown(&batch.rows),
                ["NULL|2024-07-01T14:00:00.123|2024-07-01T12:00:00.123Z|0|0|{h: 2}"]
            );
            break;
        }
    }
}

#[tokio::test]
async fn keys_and_values_with_their_own_formats() {
    let topic = topic("keys", 4).await;
    let table = table(
        vec![col("k_id", bigint()), col("name", string()), col("k_part", string())],
        &[
            ("topic", &topic),
            ("key.format", "json"),
            ("key.fields", "k_part;k_id"),
            ("key.fields-prefix", "k_"),
            ("value.format", "csv"),
            ("value.csv.null-literal", "n/a"),
            ("value.fields-include", "EXCEPT_KEY"),
            ("scan.startup.mode", "earliest-offset"),
            ("scan.bounded.mode", "latest-offset"),
        ],
    );
    let n = 500;
    let rows = batch(
        &table,
        vec![
            Arc::new(Int64Array::from_iter_values(0..n)),
            Arc::new(StringArray::from_iter((0..n).map(|i| (i % 3 > 0).then(|| format!("n,{i}"))))),
            Arc::new(StringArray::from_iter_values((0..n).map(|i| format!("p{}", i % 7)))),
        ],
    );
    write(&table, std::slice::from_ref(&rows)).await.unwrap();
    let read = read_one(&table, 2).await;
    assert_eq!(shown(&read), shown(&rows));
    // The bytes are what other clients expect: the prefix is gone, the value has only its own column.
    let raw = self::table(
        vec![col("v", string())],
        &[
            ("topic", &topic),
            ("format", "raw"),
            ("scan.startup.mode", "earliest-offset"),
            ("scan.bounded.mode", "latest-offset"),
        ],
    );
    let values = read_one(&raw, 1).await;
    assert!(shown(&values).contains(&"\"n,1\"".to_owned()), "{:?}", &shown(&values)[..3]);
    // Only the key's columns, only the count.
    for (projection, expected) in [(vec![2, 0], 2), (vec![], 0), (vec![1], 1)] {
        let source = KafkaFactory.source(&table, &env()).unwrap();
        let scan = ScanRequest { projection: Some(projection), ..ScanRequest::default() };
        let mut reader = source.readers(scan, 1, None).await.unwrap().remove(0);
        let mut count = 0;
        loop {
            match next(&mut reader).await.unwrap() {
                SourceEvent::Batch { batch, .. } => {
                    assert_eq!(batch.rows.num_columns(), expected);
                    count += batch.num_rows();
                }
                SourceEvent::End => break,
                _ => {}
            }
        }
        assert_eq!(count, n as usize);
    }
}

#[tokio::test]
async fn a_column_in_key_and_value_is_the_values() {
    let topic = topic("both", 1).await;
    produce(&topic, &[Rec { key: Some("{\"id\": 1}"), ..text(0, "{\"id\": 2, \"v\": 3}") }]);
    let table = json(
        &topic,
        vec![col("id", bigint()), col("v", bigint())],
        &[("key.format", "json"), ("key.fields", "id")],
    );
    assert_eq!(shown(&read_one(&table, 1).await), ["2|3"]);
}

#[tokio::test]
async fn records_without_key_or_value() {
    let topic = topic("nulls", 1).await;
    produce(
        &topic,
        &[
            Rec { key: Some("a"), ..text(0, "{\"v\":1}") },
            Rec { key: Some("b"), ..Rec::default() },
            text(0, "{\"v\":3}"),
            Rec { key: Some("d"), ..text(0, "") },
            Rec { key: Some(""), ..text(0, "{\"v\":5}") },
        ],
    );
    let of = |format: &str, ty: LogicalType, more: &[(&str, &str)]| {
        let mut options = vec![
            ("topic", topic.as_str()),
            ("format", format),
            ("scan.startup.mode", "earliest-offset"),
            ("scan.bounded.mode", "latest-offset"),
        ];
        options.extend_from_slice(more);
        table(vec![col("k", string()), col("v", ty), meta("o", "offset", bigint(), true)], &options)
    };
    let keyed = [("key.format", "raw"), ("key.fields", "k"), ("value.fields-include", "EXCEPT_KEY")];
    // raw: a missing value is a NULL, an empty one is empty.
    let rows = read_one(&of("raw", string(), &keyed), 1).await;
    assert_eq!(shown(&rows), ["NULL|{\"v\":3}|2", "a|{\"v\":1}|0", "b|NULL|1", "d||3", "|{\"v\":5}|4"]);
    // json: a missing or empty value gives no row, and neither does a missing key.
    let rows = read_one(&of("json", bigint(), &keyed), 1).await;
    assert_eq!(shown(&rows), ["NULL|3|2", "a|1|0", "|5|4"]);
    let keyed = [("key.format", "csv"), ("key.fields", "k"), ("value.fields-include", "EXCEPT_KEY")];
    let rows = read_one(&of("json", bigint(), &keyed), 1).await;
    assert!(!shown(&rows).iter().any(|r| r.ends_with("|2")), "{:?}", shown(&rows));
    assert!(shown(&rows).contains(&"a|1|0".to_owned()), "{:?}", shown(&rows));
}

#[tokio::test]
async fn raw_nulls_are_written_as_records_without_value() {
    let topic = topic("tombstones", 1).await;
    let table = table(
        vec![col("k", string()), col("v", string())],
        &[
            ("topic", &topic),
            ("format", "raw"),
            ("key.format", "raw"),
            ("key.fields", "k"),
            ("value.fields-include", "EXCEPT_KEY"),
            ("scan.startup.mode", "earliest-offset"),
            ("scan.bounded.mode", "latest-offset"),
        ],
    );
    let rows = batch(
        &table,
        vec![
            Arc::new(StringArray::from(vec![Some("a"), None, Some("c")])),
            Arc::new(StringArray::from(vec![Some(""), Some("x"), None])),
        ],
    );
    write(&table, &[rows]).await.unwrap();
    assert_eq!(shown(&read_one(&table, 1).await), ["NULL|x", "a|", "c|NULL"]);
}

#[tokio::test]
async fn a_value_with_several_rows_repeats_its_metadata() {
    let topic = topic("arrays", 1).await;
    produce(&topic, &[text(0, "{\"id\": 1}"), text(0, "[{\"id\": 2}, {\"id\": 3}]"), text(0, "{\"id\": 4}")]);
    let table = json(&topic, vec![col("id", bigint()), meta("o", "offset", bigint(), true)], &[]);
    assert_eq!(shown(&read_one(&table, 1).await), ["1|0", "2|1", "3|1", "4|2"]);
}

#[tokio::test]
async fn several_topics_and_a_topic_column() {
    let (a, b) = (topic("multi", 2).await, topic("multi", 1).await);
    let list = format!("{a};{b}");
    let columns = || vec![col("id", bigint()), meta("topic", "topic", string(), false)];
    let table = json(&list, columns(), &[]);
    let rows = |names: Vec<&str>| {
        let ids = Int64Array::from_iter_values(0..names.len() as i64);
        batch(&table, vec![Arc::new(ids), Arc::new(StringArray::from(names))])
    };
    write(&table, &[rows(vec![&a, &b, &a])]).await.unwrap();
    assert_eq!(read_one(&table, 3).await.num_rows(), 3);
    assert_eq!(shown(&read_one(&json(&b, columns(), &[]), 1).await), [format!("1|{b}")]);
    let e = write(&table, &[rows(vec!["elsewhere"])]).await.unwrap_err().to_string();
    assert!(e.contains("elsewhere"), "{e}");
    // By pattern.
    let pattern = format!("{a}|{b}");
    let by_pattern = self::table(
        columns(),
        &[
            ("topic-pattern", &pattern),
            ("format", "json"),
            ("scan.startup.mode", "earliest-offset"),
            ("scan.bounded.mode", "latest-offset"),
        ],
    );
    assert_eq!(read_one(&by_pattern, 2).await.num_rows(), 3);
}

#[tokio::test]
async fn keys_land_where_java_clients_put_them() {
    let topic = topic("murmur", 10).await;
    let table = table(
        vec![col("k", string()), meta("p", "partition", int(), true)],
        &[
            ("topic", &topic),
            ("format", "raw"),
            ("key.format", "raw"),
            ("key.fields", "k"),
            ("scan.startup.mode", "earliest-offset"),
            ("scan.bounded.mode", "latest-offset"),
        ],
    );
    let rows = batch(&table, vec![Arc::new(StringArray::from(vec!["foobar", "21"]))]);
    write(&table, &[rows]).await.unwrap();
    // Kafka's hashes, without their sign, modulo 10.
    let partition = |hash: i32| (hash & 0x7fff_ffff) % 10;
    assert_eq!(
        shown(&read_one(&table, 1).await),
        [format!("21|{}", partition(-973_932_308)), format!("foobar|{}", partition(-790_332_482))]
    );
}
