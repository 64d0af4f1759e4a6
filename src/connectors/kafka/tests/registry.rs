//! Formats with a schema registry: the real one of `TIDELAKE_TEST_REGISTRY`, or one of the tests' own.

use super::*;
use crate::registry::tests::any_registry;

fn columns() -> Vec<ColumnDef> {
    let address = LogicalType::nullable(TypeRoot::Row(vec![crate::types::RowField {
        name: "zip".to_owned(),
        ty: string(),
        comment: None,
    }]));
    vec![col("id", bigint()), col("name", string()), col("address", address)]
}

fn with_format(topic: &str, format: &str, url: &str, more: &[(&str, &str)]) -> ResolvedTable {
    let (key, value) = (format!("key.{format}.url"), format!("value.{format}.url"));
    let mut options = vec![
        ("topic", topic),
        ("key.format", format),
        ("key.fields", "id"),
        ("value.format", format),
        (key.as_str(), url),
        (value.as_str(), url),
        ("scan.startup.mode", "earliest-offset"),
        ("scan.bounded.mode", "latest-offset"),
    ];
    options.extend_from_slice(more);
    table(columns(), &options)
}

fn some_rows(table: &ResolvedTable) -> RecordBatch {
    let json = crate::formats::record_format(
        "json",
        &crate::options::Options::new("t", "t", &BTreeMap::new()),
        "json.",
        table.sink_schema(),
    )
    .unwrap();
    let records = [
        r#"{"id":1,"name":"æ","address":{"zip":"0150"}}"#,
        r#"{"id":2}"#,
        r#"{"id":3,"name":"","address":{}}"#,
    ];
    crate::formats::tests::read(&*json, &records).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_read() {
    let (url, _fake) = any_registry();
    for format in [
        "avro-confluent",
        "avro-registry",
        "json-confluent",
        "json-registry",
        "protobuf-confluent",
        "proto-registry",
    ] {
        let topic = topic("registry", 2).await;
        let table = with_format(&topic, format, &url, &[]);
        let rows = some_rows(&table);
        write(&table, &[rows]).await.unwrap();
        for parallelism in [1, 2] {
            assert_eq!(
                shown(&read_one(&table, parallelism).await),
                ["1|æ|{zip: 0150}", "2|NULL|NULL", "3||{zip: NULL}"],
                "{format}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_formats_need_no_registry() {
    let proto = "syntax = \"proto3\"; message A { string zip = 1; } message R { int64 id = 1; optional string name = 2; A address = 3; }";
    for (format, more) in [
        ("avro", vec![]),
        ("protobuf", vec![("protobuf.message-class-name", "R"), ("protobuf.schema", proto)]),
    ] {
        let topic = topic("plain", 1).await;
        let mut options = vec![
            ("topic", topic.as_str()),
            ("format", format),
            ("scan.startup.mode", "earliest-offset"),
            ("scan.bounded.mode", "latest-offset"),
        ];
        options.extend(more);
        let table = table(columns(), &options);
        write(&table, &[some_rows(&table)]).await.unwrap();
        let zip = if format == "avro" { "NULL" } else { "" };
        assert_eq!(
            shown(&read_one(&table, 1).await),
            ["1|æ|{zip: 0150}".to_owned(), "2|NULL|NULL".to_owned(), format!("3||{{zip: {zip}}}")]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_records_are_named() {
    let (url, _fake) = any_registry();
    let topic = topic("bad", 1).await;
    let table = with_format(&topic, "avro-confluent", &url, &[]);
    let value_only = |more: &[(&str, &str)]| {
        let mut options = vec![
            ("topic", topic.as_str()),
            ("format", "avro-confluent"),
            ("avro-confluent.url", url.as_str()),
            ("scan.startup.mode", "earliest-offset"),
            ("scan.bounded.mode", "latest-offset"),
        ];
        options.extend_from_slice(more);
        super::table(columns(), &options)
    };
    write(&table, &[some_rows(&table)]).await.unwrap();
    produce(
        &topic,
        &[Rec { value: Some(b"{}"), ..Rec::default() }, Rec { value: Some(&[0, 0, 0, 0]), ..Rec::default() }],
    );
    let e = read(&value_only(&[]), 1).await.unwrap_err().to_string();
    assert!(e.contains(&format!("topic {topic} partition 0 offset 3, value: Unknown data format")), "{e}");
    let rows = read_one(&value_only(&[("avro-confluent.ignore-parse-errors", "true")]), 1).await;
    assert_eq!(rows.num_rows(), 3);
}
