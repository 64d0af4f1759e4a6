//! Topics whose records change: fields are renamed, partitions come, records and whole topics go. And what is left of many commits.

use std::thread;
use std::time::{Duration, Instant};

use crate::crash::services::Broker;

use super::support::service;
use super::tableflow::{LONG, Setting};

/// Writes rows of a table into the topic of a setting.
fn put(s: &Setting, columns: &str, format: &str, rows: &str) {
    s.place
        .run(
            &format!(
                "CREATE TABLE o ({columns}) WITH ('connector' = 'kafka', 'topic' = '{}',
                   'properties.bootstrap.servers' = '{}', {format});
                 INSERT INTO o VALUES {rows};",
                s.topic, s.servers
            ),
            &["-s", "parallelism.default=1"],
        )
        .ok();
}

fn shown(rows: &[serde_json::Value], columns: &[&str]) -> Vec<String> {
    rows.iter().map(|r| columns.iter().map(|c| r[*c].to_string()).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn a_renamed_field_keeps_its_column() {
    let Some(url) = service("TIDELAKE_TEST_REGISTRY", "no field of a registered schema is renamed") else {
        return;
    };
    let avro = |second: &str| {
        format!(r#"{{"type":"record","name":"R","fields":[{{"name":"id","type":"long"}},{second}]}}"#)
    };
    let proto = |second: &str| format!("syntax = \"proto3\"; message R {{ int64 id = 1; {second} }}");
    for (name, format, schemas) in [
        (
            "avro",
            "avro-confluent",
            [
                avro(r#"{"name":"name","type":["null","string"],"default":null}"#),
                avro(r#"{"name":"title","aliases":["name"],"type":["null","string"],"default":null}"#),
                avro(
                    r#"{"name":"title","aliases":["name"],"type":["null","string"],"default":null},{"name":"name","type":["null","long"],"default":null}"#,
                ),
            ],
        ),
        (
            "protobuf",
            "protobuf-confluent",
            [
                proto("optional string name = 2;"),
                proto("optional string title = 2;"),
                proto("optional string title = 2; optional int64 other = 3;"),
            ],
        ),
    ] {
        let Some(s) = Setting::real(1) else { return };
        let with = |schema: &str| {
            format!("'format' = '{format}', '{format}.url' = '{url}', '{format}.schema' = '{schema}'")
        };
        let [first, second, third] = &schemas;
        let flow = ["--once", "--format", name, "--registry", &url];
        put(&s, "id BIGINT NOT NULL, name STRING", &with(first), "(1, 'a'), (2, CAST(NULL AS STRING))");
        s.run(&flow).ok();
        assert_eq!(
            shown(&s.query("SELECT id, name FROM {t} ORDER BY id"), &["id", "name"]),
            ["1 \"a\"", "2 null"]
        );
        // Records of both schemas are read by a flow that knows the new name.
        put(&s, "id BIGINT NOT NULL, name STRING", &with(first), "(3, 'c')");
        put(&s, "id BIGINT NOT NULL, title STRING", &with(second), "(4, 'd')");
        s.run(&flow).ok();
        let rows = s.query("SELECT * FROM {t} ORDER BY id");
        assert_eq!(shown(&rows, &["id", "title"]), ["1 \"a\"", "2 null", "3 \"c\"", "4 \"d\""], "{name}");
        assert!(rows[0].get("name").is_none(), "{name}: the column is there twice: {rows:?}");
        let verify = s.run(&["verify", "--deep", "--format", name, "--registry", &url]).ok().stdout;
        assert!(verify.contains("4 rows compared: ok"), "{name}: {verify}");
        // Another field comes, in Avro under the old name.
        let more = if name == "avro" { "name" } else { "other" };
        put(&s, &format!("id BIGINT NOT NULL, title STRING, {more} BIGINT"), &with(third), "(5, 'e', 50)");
        s.run(&flow).ok();
        let rows = s.query("SELECT * FROM {t} ORDER BY id");
        assert_eq!(rows.len(), 5, "{name}: {rows:?}");
        assert_eq!(
            (rows[4]["title"].as_str(), rows[4][more].as_i64()),
            (Some("e"), Some(50)),
            "{name}: {rows:?}"
        );
        assert_eq!(rows[0]["title"], "a", "{name}: {rows:?}");
        // Older records are what they were, whoever reads them.
        put(&s, "id BIGINT NOT NULL, name STRING", &with(first), "(6, 'f')");
        s.run(&flow).ok();
        let rows = s.query("SELECT * FROM {t} ORDER BY id");
        assert_eq!((rows[5]["title"].as_str(), &rows[5][more]), (Some("f"), &serde_json::Value::Null));
        let verify = s.run(&["verify", "--deep", "--format", name, "--registry", &url]).ok().stdout;
        assert!(verify.contains("6 rows compared: ok"), "{name}: {verify}");
        let anew = ["--once", "--format", name, "--registry", &url, "--table-name", "anew"];
        s.run(&anew).ok();
        let rows = s.query("SELECT * FROM anew ORDER BY id");
        assert_eq!(
            shown(&rows, &["id", "title", more]),
            ["1 \"a\" null", "2 null null", "3 \"c\" null", "4 \"d\" null", "5 \"e\" 50", "6 \"f\" null",]
        );
    }
}

#[test]
fn rows_of_files_are_in_order() {
    let Some(s) = Setting::real(1) else { return };
    let flow = ["--once", "--sort-by", "name DESC NULLS LAST", "--sort-by", "id"];
    s.put(&[r#"{"id":3,"name":"a"}"#, r#"{"id":2,"name":"ö"}"#, r#"{"id":1,"name":"a"}"#, r#"{"id":4}"#]);
    s.run(&flow).ok();
    let ids = || s.query("SELECT id FROM {t}").iter().map(|r| r["id"].as_i64().unwrap()).collect::<Vec<_>>();
    assert_eq!(ids(), [2, 1, 3, 4]);
    s.put(&[r#"{"id":6,"name":"b"}"#, r#"{"id":5,"name":"z"}"#]);
    s.run(&["--once"]).ok();
    s.maintain(&["--min-input-files", "2"], None).ok();
    assert_eq!(ids(), [2, 5, 6, 1, 3, 4]);
    assert!(s.verified().contains("6 rows compared: ok"));
    let made = s.query("SHOW CREATE TABLE {t}")[0].to_string();
    assert!(made.contains("'sort-order' = '`name` DESC NULLS LAST, `id` NULLS FIRST'"), "{made}");
    let other = Setting { topic: s.topic.clone(), ..Setting::embedded() };
    let file = other.place.write("r.json", "{\"id\": 1}\n");
    let load = format!("{}={file}", other.topic);
    other.run(&["--once", "--load", &load, "--sort-by", "x"]).fails_with(&["there is no column `x`"]);
}

#[test]
fn partitions_come_and_records_go() {
    let Some(s) = Setting::real(1) else { return };
    let broker = Broker::new(&s.servers);
    let put = |partition: i32, ids: std::ops::Range<i32>| {
        for id in ids {
            broker.put(&s.topic, partition, &format!("{{\"id\":{id}}}"));
        }
    };
    put(0, 0..3);
    s.run(&["--once"]).ok();
    // A partition that is new is read from its beginning.
    broker.partitions(&s.topic, 2);
    thread::sleep(Duration::from_secs(1));
    put(1, 3..5);
    s.run(&["--once"]).ok();
    assert!(s.verified().contains("5 rows, 2 partitions"));
    // What Kafka deletes after it was read is nobody's loss; what it deletes before is told.
    put(0, 5..8);
    broker.forget(&s.topic, 0, 3);
    s.run(&["--once"]).ok();
    assert_eq!(s.query("SELECT id FROM {t}").len(), 8);
    put(0, 8..12);
    broker.forget(&s.topic, 0, 8);
    for _ in 0..2 {
        s.run(&["--once"]).fails_with(&["partition 0: offset 6 is not there any more", "offset 8"]);
    }
    assert_eq!(s.query("SELECT id FROM {t}").len(), 8);
    assert!(s.run(&["verify"]).ok().stdout.contains(": ok"));
    // A topic under the same name is another one.
    broker.delete(&s.topic);
    broker.create(std::slice::from_ref(&s.topic), 2);
    thread::sleep(Duration::from_secs(1));
    put(0, 0..1);
    s.run(&["--once"]).fails_with(&["the topic was made anew"]);
    assert_eq!(s.query("SELECT id FROM {t}").len(), 8);
}

#[test]
fn a_script_reads_a_table_of_keys_with_the_tail_of_its_topic() {
    let Some(s) = Setting::real(2) else { return };
    let columns = "k STRING, v STRING";
    let format = "'key.format' = 'raw', 'key.fields' = 'k', 'value.format' = 'raw', 'value.fields-include' = 'EXCEPT_KEY'";
    let flow = ["--once", "--mode", "upsert", "--key-format", "json"];
    put(
        &s,
        columns,
        format,
        r#"('{"id":1}', '{"id":1,"name":"a"}'), ('{"id":2}', '{"id":2,"name":"b"}'), ('{"id":3}', '{"id":3,"name":"c"}')"#,
    );
    s.run(&flow).ok();
    put(
        &s,
        columns,
        format,
        r#"('{"id":1}', '{"name":"a2"}'), ('{"id":2}', CAST(NULL AS STRING)), ('{"id":4}', '{"id":4,"name":"d","x":1}'), ('{"id":1}', '{"name":"a3"}'), ('{"id":5}', '{"id":5}'), ('{"id":5}', CAST(NULL AS STRING))"#,
    );
    let file = s.place.write(
        "flows.toml",
        format!(
            "bootstrap-servers = \"{}\"\nwarehouse = \"{}\"\n[[flow]]\ntopic = \"{}\"\nmode = \"upsert\"\nkey-format = \"json\"\n",
            s.servers,
            s.place.path("lake"),
            s.topic
        ),
    );
    let sql = format!("SELECT id, name, _rest FROM {} ORDER BY id", s.topic);
    let read = |mode: &str| {
        let mode = format!("execution.runtime-mode={mode}");
        s.place.run(&sql, &["--tableflow", &file, "-s", &mode, "--format", "json"])
    };
    let rows = read("batch").ok().rows();
    let expected = ["1 \"a3\" null", "3 \"c\" null", "4 \"d\" \"{\\\"x\\\":1}\""];
    assert_eq!(shown(&rows, &["id", "name", "_rest"]), expected);
    assert_eq!(s.query("SELECT id FROM {t}").len(), 3, "that is committed");
    // And when all of it is committed.
    s.run(&flow).ok();
    assert_eq!(shown(&read("batch").ok().rows(), &["id", "name", "_rest"]), expected);
    assert!(read("streaming").stderr.contains("as they are committed in streaming mode"));
}

/// A table of keys as a script reads it with the tail of its topic.
fn with_tail(s: &Setting, toml: &str, columns: &[&str]) -> Vec<String> {
    let file = s.place.write(
        "flows.toml",
        format!(
            "bootstrap-servers = \"{}\"\nwarehouse = \"{}\"\n[[flow]]\ntopic = \"{}\"\nmode = \"upsert\"\n{toml}",
            s.servers,
            s.place.path("lake"),
            s.topic
        ),
    );
    let sql = format!("SELECT `{}` FROM {} ORDER BY 1", columns.join("`, `"), s.topic);
    let batch = "execution.runtime-mode=batch";
    let rows = s.place.run(&sql, &["--tableflow", &file, "-s", batch, "--format", "json"]).ok().rows();
    shown(&rows, columns)
}

#[test]
fn the_tail_of_a_table_of_keys_is_what_its_flow_makes_of_it() {
    let format = "'key.format' = 'raw', 'key.fields' = 'k', 'value.format' = 'raw', 'value.fields-include' = 'EXCEPT_KEY'";
    let put = |s: &Setting, rows: &str| put(s, "k STRING, v STRING", format, rows);
    let upsert = ["--once", "--mode", "upsert"];
    for (args, toml, columns, first, then, expected) in [
        (
            ["--key-format", "text", "--format", "text"],
            "key-format = \"text\"\nformat = \"text\"\n",
            ["_key", "value"],
            "('a', '1'), ('b', '2'), ('c', '3')",
            "('a', CAST(NULL AS STRING)), ('b', '4'), ('d', '5'), ('d', CAST(NULL AS STRING))",
            ["\"b\" \"4\"", "\"c\" \"3\""],
        ),
        (
            // A value that is left out leaves the row that was there.
            ["--key-format", "json", "--on-error", "skip"],
            "key-format = \"json\"\non-error = \"skip\"\n",
            ["id", "name"],
            r#"('{"id":1}', '{"name":"a"}'), ('{"id":2}', '{"name":"b"}'), ('{"id":3}', '{"name":"c"}')"#,
            r#"('{"id":1}', 'no JSON'), ('{"id":2}', '{"name":"d"}'), ('{"id":2}', '['), ('{"id":3}', CAST(NULL AS STRING))"#,
            ["1 \"a\"", "2 \"d\""],
        ),
    ] {
        let Some(s) = Setting::real(1) else { return };
        let flow = [&upsert[..], &args[..]].concat();
        put(&s, first);
        s.run(&flow).ok();
        put(&s, then);
        assert_eq!(with_tail(&s, toml, &columns), expected);
        s.run(&flow).ok();
        let committed = s.query(&format!("SELECT `{}` FROM {{t}} ORDER BY 1", columns.join("`, `")));
        assert_eq!(shown(&committed, &columns), expected);
    }
    // Keys that come to another partition than before.
    let Some(s) = Setting::real(1) else { return };
    let all = |name: &str| {
        let row = |id| format!("('{{\"id\":{id}}}', '{{\"name\":\"{name}\"}}')");
        (0..8).map(row).collect::<Vec<_>>().join(", ")
    };
    put(&s, &all("first"));
    s.run(&[&upsert[..], &["--key-format", "json"]].concat()).ok();
    put(&s, &all("second"));
    put(&s, &all("third"));
    Broker::new(&s.servers).partitions(&s.topic, 3);
    thread::sleep(Duration::from_secs(2));
    put(&s, &all("last"));
    assert_eq!(with_tail(&s, "key-format = \"json\"\n", &["name"]), ["\"last\""; 8]);
}

#[test]
fn a_process_that_slept_does_not_write_over_the_one_that_took_over() {
    let Some(s) = Setting::real(1) else { return };
    s.put(&[r#"{"id":1}"#]);
    let every = ["--commit-interval", "100ms"];
    let rows = |count: usize| {
        for _ in 0..300 {
            thread::sleep(Duration::from_millis(100));
            let is_made =
                s.place.visible_files("lake").iter().any(|f| f.extension().is_some_and(|e| e == "parquet"));
            if is_made && s.query("SELECT id FROM {t}").len() == count {
                return;
            }
        }
        panic!("no {count} rows");
    };
    let mut first = s.start(&every);
    rows(1);
    first.signal("STOP");
    let second = s.start(&every);
    s.put(&[r#"{"id":2}"#]);
    rows(2);
    first.signal("CONT");
    s.put(&[r#"{"id":3}"#]);
    assert!(first.dies_within(Duration::from_secs(30)), "it would write what the other writes");
    first.finish(LONG).fails_with(&["taken over by another process"]);
    rows(3);
    second.signal("TERM");
    second.finish(LONG).ok();
    assert!(s.verified().contains("3 rows compared: ok"));
}

/// Commits of a day, with maintenance between them: in short, or as many as `TIDELAKE_TEST_COMMITS` says.
#[test]
fn a_table_stays_small_however_often_it_is_committed_to() {
    let Some(s) = Setting::real(1) else { return };
    let broker = Broker::new(&s.servers);
    let commits = std::env::var("TIDELAKE_TEST_COMMITS").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let keep = ["--table-property", "history.expire.max-snapshot-age-ms=1000"];
    let keep = [&keep[..], &["--table-property", "write.metadata.previous-versions-max=5"]].concat();
    let flow = s.start(&[&["--commit-interval", "100ms", "--maintain-every", "3s"], &keep[..]].concat());
    let (mut written, mut looks) = (0, Vec::new());
    while written < commits {
        for _ in 0..(commits / 6).max(1) {
            broker.put(&s.topic, 0, &format!("{{\"id\":{written}}}"));
            written += 1;
            thread::sleep(Duration::from_millis(120));
        }
        // A round of maintenance is over, or nearly so.
        thread::sleep(Duration::from_secs(4));
        let files = s.place.visible_files("lake").len();
        let began = Instant::now();
        let rows = s.query("SELECT COUNT(*) AS n FROM {t}")[0]["n"].as_i64().unwrap();
        let took = began.elapsed();
        let snapshots = s.query("SELECT COUNT(*) AS n FROM `{t}$snapshots`")[0]["n"].as_i64().unwrap();
        eprintln!(
            "tableflow: {written} commits, {rows} rows: {files} files, {snapshots} snapshots, read in {took:.2?}"
        );
        looks.push((files, snapshots, took));
    }
    flow.signal("INT");
    flow.finish(LONG).ok();
    assert!(s.verified().contains(&format!("{written} rows compared: ok")));
    let (first, last) = (looks[1], looks[looks.len() - 1]);
    assert!(last.0 < first.0 + 30, "the files grow: {looks:?}");
    assert!(last.1 < 25 && first.1 < 25, "the snapshots grow: {looks:?}");
    assert!(last.2 < first.2 * 3 + Duration::from_secs(1), "reading grows: {looks:?}");
}
