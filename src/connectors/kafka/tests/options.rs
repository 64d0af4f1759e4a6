//! Options are understood or refused.

use super::*;

fn refused(columns: Vec<ColumnDef>, options: &[(&str, &str)]) -> String {
    let mut all = vec![("topic", "t"), ("format", "json")];
    all.retain(|(k, _)| !options.iter().any(|(o, v)| o == k && v.is_empty()));
    all.extend(options.iter().filter(|(_, v)| !v.is_empty()));
    let table = table(columns, &all);
    let e = KafkaFactory.source(&table, &env()).err().or_else(|| KafkaFactory.sink(&table, &env()).err());
    e.map(|e| e.to_string()).unwrap_or_default()
}

#[test]
fn bad_options_are_named() {
    let id = || vec![col("id", bigint()), col("name", string())];
    for (options, expected) in [
        (&[("scan.startup.mod", "x")][..], "scan.startup.mod"),
        (&[("topic", "")], "Either 'topic' or 'topic-pattern' must be set."),
        (&[("topic-pattern", "x.*")], "shouldn't be set together"),
        (&[("topic", ""), ("topic-pattern", "(")], "regular expression"),
        (&[("topic", "a;a")], "each once"),
        (&[("topic", "a b")], "letters"),
        (&[("format", "")], "'format'"),
        (&[("format", "avro2")], "avro2"),
        (&[("value.format", "csv")], "same option"),
        (&[("scan.startup.mode", "newest")], "earliest-offset"),
        (&[("scan.startup.mode", "timestamp")], "scan.startup.timestamp-millis"),
        (&[("scan.startup.mode", "specific-offsets")], "scan.startup.specific-offsets"),
        (
            &[
                ("scan.startup.mode", "specific-offsets"),
                ("scan.startup.specific-offsets", "partition:0;offset:1"),
            ],
            "partition:0,offset:42",
        ),
        (&[("scan.bounded.mode", "group-offsets")], "properties.group.id"),
        (&[("scan.topic-partition-discovery.interval", "often")], "duration"),
        (&[("sink.partitioner", "com.acme.Mine")], "round-robin"),
        (&[("sink.delivery-guarantee", "twice")], "at-least-once"),
        (&[("sink.transactional-id-prefix", "x")], "'exactly-once'"),
        (
            &[("sink.delivery-guarantee", "exactly-once"), ("properties.bootstrap.servers", "embedded")],
            "embedded broker has no transactions",
        ),
        (&[("key.fields", "id")], "key.format"),
        (&[("key.format", "json")], "key.fields"),
        (&[("key.format", "json"), ("key.fields", "nope")], "Could not find the field 'nope'"),
        (&[("key.format", "raw"), ("key.fields", "id;name")], "single physical column"),
        (&[("key.format", "raw"), ("key.fields", "id"), ("key.fields-prefix", "k_")], "EXCEPT_KEY"),
        (
            &[
                ("key.format", "raw"),
                ("key.fields", "id"),
                ("key.fields-prefix", "k_"),
                ("value.fields-include", "EXCEPT_KEY"),
            ],
            "must be prefixed with 'k_'",
        ),
        (&[("key.format", "raw"), ("key.fields", "id"), ("sink.partitioner", "round-robin")], "round-robin"),
        (&[("properties.bootstrap.servers", "h:1"), ("embedded.partitions", "3")], "embedded.partitions"),
        (&[("properties.value.deserializer", "x")], "formats"),
        (&[("json.fail-on-missing", "true")], "json.fail-on-missing"),
        (&[("csv.field-delimiter", ";")], "csv.field-delimiter"),
    ] {
        let e = refused(id(), options);
        assert!(e.contains(expected), "{options:?}: {e}");
    }
}

#[test]
fn metadata_columns_are_checked() {
    let e = refused(vec![col("id", bigint()), meta("x", "nope", string(), true)], &[]);
    assert!(e.contains("nope") && e.contains("leader-epoch"), "{e}");
    let e = refused(vec![col("id", bigint()), meta("offset", "offset", bigint(), false)], &[]);
    assert!(e.contains("VIRTUAL"), "{e}");
    // One topic: rows cannot choose.
    let e = refused(vec![col("id", bigint()), meta("topic", "topic", string(), false)], &[]);
    assert!(e.contains("VIRTUAL"), "{e}");
    // Several topics: they have to.
    let e = refused(vec![col("id", bigint())], &[("topic", "a;b")]);
    assert!(e.contains("METADATA"), "{e}");
}

#[test]
fn everything_flink_understands_is_taken() {
    let e = refused(
        vec![col("id", bigint()), col("name", string())],
        &[
            ("value.format", "json"),
            ("format", ""),
            ("value.json.ignore-parse-errors", "true"),
            ("key.format", "csv"),
            ("key.csv.null-literal", "-"),
            ("key.fields", "id"),
            ("value.fields-include", "all"),
            ("properties.group.id", "g"),
            ("properties.auto.offset.reset", "EARLIEST"),
            ("properties.client.id", "me"),
            ("scan.startup.mode", "GROUP-OFFSETS"),
            ("scan.bounded.mode", "unbounded"),
            ("scan.topic-partition-discovery.interval", "0"),
            ("sink.partitioner", "fixed"),
            ("sink.delivery-guarantee", "none"),
        ],
    );
    assert_eq!(e, "");
}

#[test]
fn secrets_are_in_no_message() {
    for options in [
        &[("properties.sasl.password", "hunter2"), ("properties.acks", "hunter2")][..],
        &[("properties.sasl.jaas.config", "x.KerberosLoginModule required password=\"hunter2\";")],
        &[("properties.ssl.key.password", "hunter2"), ("what", "ever")],
    ] {
        let e = refused(vec![col("id", bigint())], options);
        assert!(!e.is_empty() && !e.contains("hunter2"), "{e}");
    }
    let table = table(
        vec![col("id", bigint())],
        &[("topic", "t"), ("format", "json"), ("properties.sasl.password", "hunter2")],
    );
    let source = KafkaFactory.source(&table, &env()).unwrap();
    assert!(!format!("{source:?}").contains("hunter2"));
}
