//! Topics that become tables: on the embedded broker, and on a real one where it is given.

use std::process::Stdio;
use std::thread;
use std::time::Duration;

use crate::crash::Dice;
use crate::crash::services::Broker;

use super::support::{Place, Ran, Running, finish, service, tidelake, unique};

pub(super) const LONG: Duration = Duration::from_secs(120);

pub(super) struct Setting {
    pub(super) place: Place,
    pub(super) servers: String,
    pub(super) catalog: Vec<String>,
    pub(super) topic: String,
}

impl Setting {
    pub(super) fn embedded() -> Self {
        Setting { place: Place::new(), servers: "embedded".into(), catalog: Vec::new(), topic: "t".into() }
    }

    /// A topic of its own on the real broker.
    pub(super) fn real(partitions: i32) -> Option<Self> {
        let servers = service("TIDELAKE_TEST_KAFKA", "no topic of a real broker becomes a table")?;
        let topic = format!("tableflow_{}", unique());
        Broker::new(&servers).create(std::slice::from_ref(&topic), partitions);
        Some(Setting { place: Place::new(), servers, catalog: Vec::new(), topic })
    }

    pub(super) fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = tidelake();
        command.arg("tableflow").stdin(Stdio::null());
        const OTHERS: [&str; 2] = ["verify", "reprocess"];
        if let Some(other) = args.first().filter(|a| OTHERS.contains(a)) {
            command.arg(other);
        }
        let warehouse = self.place.path("lake");
        command.args([
            "--bootstrap-servers",
            &self.servers,
            "--topic",
            &self.topic,
            "--warehouse",
            &warehouse,
        ]);
        command.args(&self.catalog).args(args.iter().filter(|a| !OTHERS.contains(a)));
        command
    }

    pub(super) fn run(&self, args: &[&str]) -> Ran {
        finish(self.command(args), LONG)
    }

    pub(super) fn start(&self, args: &[&str]) -> Running {
        Running::start(self.command(args))
    }

    /// Writes records.
    pub(super) fn put(&self, records: &[&str]) {
        let lines = self.place.write("records.txt", format!("{}\n", records.join("\n")));
        self.place
            .run(
                &format!(
                    "CREATE TABLE l (v STRING) WITH ('connector' = 'filesystem', 'path' = '{lines}', 'format' = 'raw');
                     CREATE TABLE o (v STRING) WITH ('connector' = 'kafka', 'topic' = '{}',
                       'properties.bootstrap.servers' = '{}', 'format' = 'raw');
                     INSERT INTO o SELECT v FROM l;",
                    self.topic, self.servers
                ),
                &[],
            )
            .ok();
    }

    pub(super) fn query(&self, select: &str) -> Vec<serde_json::Value> {
        let catalog = format!(
            "CREATE CATALOG lake WITH ('type' = 'iceberg', 'warehouse' = '{}', 'catalog-name' = 'tableflow');
             USE CATALOG lake; USE `default`;",
            self.place.path("lake")
        );
        let select = select.replace("{t}", &self.topic);
        self.place.run(&format!("{catalog} {select};"), &["--format", "json"]).ok().rows()
    }

    pub(super) fn maintain(&self, args: &[&str], failpoint: Option<&str>) -> Ran {
        let mut command = tidelake();
        command
            .arg("maintain")
            .stdin(Stdio::null())
            .args(["--warehouse", &self.place.path("lake")])
            .args(args);
        // The catalog has its name from those who made it.
        command.args(["--catalog-option", "catalog-name=tableflow"]);
        if let Some(place) = failpoint {
            command.env("TIDELAKE_FAILPOINT", format!("{place}:1"));
        }
        finish(command, LONG)
    }

    pub(super) fn verified(&self) -> String {
        self.run(&["verify", "--deep"]).ok().stdout
    }
}

#[test]
fn a_first_run_needs_no_services() {
    let s = Setting { topic: "flights".into(), ..Setting::embedded() };
    let ran = s.run(&["--load", "flights=data/flights-2013-w01.json", "--once"]).ok();
    assert!(ran.stderr.contains("flights → default.flights: 6,099 rows"), "{}", ran.stderr);
    let rows = s.query(
        "SELECT COUNT(*) AS n, COUNT(DISTINCT _offset * 10 + _partition) AS o, SUM(distance) AS d FROM {t}",
    );
    assert_eq!(rows[0]["n"], 6099);
    assert_eq!(rows[0]["o"], 6099);
    let verified = s.run(&["verify"]).ok().stdout;
    assert!(verified.contains("6,099 rows") && verified.trim_end().ends_with(": ok"), "{verified}");
}

#[test]
fn a_dry_run_prints_sql_that_runs() {
    let s = Setting::embedded();
    let file = s.place.write("r.json", "{\"id\": 1, \"a\": {\"x\": 1.5}}\n{\"id\": 2}\n");
    let load = format!("t={file}");
    let args =
        ["--load", &load, "--dry-run", "--partition-by", "hours(_timestamp)", "--include", "key,headers"];
    let sql = s.run(&args).ok().stdout;
    assert!(
        sql.contains("`a` ROW<`x` DOUBLE>") && sql.contains("PARTITIONED BY (hours(_timestamp))"),
        "{sql}"
    );
    let script = s.place.write("flow.sql", sql);
    let mut explain = tidelake();
    explain.args(["explain", &script]);
    let plan = finish(explain, LONG).ok().stdout;
    assert!(plan.contains("Sink"), "{plan}");
    assert!(s.place.visible_files("lake").iter().all(|f| f.extension().is_none_or(|e| e != "parquet")));
}

#[test]
fn mistakes_are_told() {
    let s = Setting::embedded();
    s.run(&["--once"]).fails_with(&["topic t does not exist"]);
    let mut nowhere = tidelake();
    nowhere.args(["tableflow", "--bootstrap-servers", "embedded", "--topic", "t"]);
    finish(nowhere, LONG).fails_with(&["--warehouse"]);
    s.run(&["verify"]).fails_with(&["no table of tableflow"]);
    let bad = Setting { topic: "(".into(), ..Setting::embedded() };
    bad.run(&["--once"]).fails_with(&["--topic ("]);
    let file = s.place.write("r.json", "1\n2\n");
    let load = format!("t={file}");
    let ran = s.run(&["--load", &load, "--once"]);
    ran.fails_with(&["none of the first 2 records is a JSON object", "--format raw"]);
    s.run(&["--load", &load, "--once", "--format", "text"]).ok();
    assert_eq!(s.query("SELECT SUM(CAST(`value` AS INT)) AS n FROM {t}")[0]["n"], 3);
}

#[test]
fn a_topic_grows_columns_and_keeps_its_bad_records() {
    let Some(s) = Setting::real(2) else { return };
    s.put(&[r#"{"id":1,"a":{"x":1}}"#, r#"{"id":2}"#]);
    let flow = s.start(&["--commit-interval", "200ms"]);
    let rows = |n: i64| {
        for _ in 0..400 {
            thread::sleep(Duration::from_millis(100));
            if s.place.visible_files("lake").len() > 3
                && s.query("SELECT COUNT(*) AS n FROM {t}")[0]["n"].as_i64() >= Some(n)
            {
                return;
            }
        }
        panic!("no {n} rows");
    };
    rows(2);
    s.put(&[r#"{"id":3,"name":"n","a":{"x":3,"y":true},"tags":["p"]}"#, r#"{"id":"four"}"#]);
    rows(4);
    // Found in the rows that are committed; the rows that follow have the columns.
    thread::sleep(Duration::from_secs(7));
    s.put(&[r#"{"id":5,"name":"later","a":{"x":5,"y":false},"tags":["q"]}"#]);
    rows(5);
    flow.signal("INT");
    flow.finish(LONG).ok();
    let all = s.query("SELECT id, a, name, tags, _rest FROM {t} ORDER BY _timestamp, _partition, _offset");
    let of = |id: i64| all.iter().find(|r| r["id"] == id).unwrap();
    assert_eq!(
        (&of(5)["name"], &of(5)["a"]["y"], &of(5)["_rest"]),
        (&"later".into(), &false.into(), &serde_json::Value::Null)
    );
    assert!(of(3)["_rest"].as_str().unwrap().contains("\"name\":\"n\""), "{:?}", of(3));
    assert!(all.iter().any(|r| r["_rest"] == "{\"id\":\"four\"}"), "{all:?}");
    assert!(s.verified().contains("5 rows compared: ok"));

    s.put(&["no json", r#"{"id":7}"#]);
    s.run(&["--once"]).fails_with(&["cannot parse the record as JSON", "--on-error rescue"]);
    s.run(&["--once", "--on-error", "rescue"]).ok();
    let bad = s.query("SELECT _error, CAST(_bad_value AS STRING) AS v FROM {t} WHERE _error IS NOT NULL");
    assert_eq!((bad.len(), &bad[0]["v"]), (1, &"no json".into()));
    assert!(bad[0]["_error"].as_str().unwrap().contains("cannot parse"), "{bad:?}");
    assert!(s.verified().contains("7 rows compared: ok"));
}

#[test]
fn bad_records_go_to_another_topic() {
    let Some(s) = Setting::real(2) else { return };
    s.put(&["{\"id\": 1}", "{\"id\": ", "{\"id\": 2}", "ü"]);
    let dlq = ["--on-error", "dlq", "--once", "--dlq-topic", "{topic}_bad"];
    s.run(&dlq).ok();
    let count = |want: usize| {
        let rows = s.query("SELECT id FROM {t} ORDER BY id");
        assert_eq!(rows.len(), want, "{rows:?}");
    };
    count(2);
    let read = format!(
        "CREATE TABLE bad (k BYTES, v STRING, h MAP<STRING, BYTES> METADATA FROM 'headers')
           WITH ('connector' = 'kafka', 'topic' = '{}_bad', 'properties.bootstrap.servers' = '{}', 'value.format' = 'raw',
                 'key.format' = 'raw', 'key.fields' = 'k', 'value.fields-include' = 'EXCEPT_KEY',
                 'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset');
         SET 'execution.runtime-mode' = 'batch';
         SELECT v, DECODE(h['__connect.errors.topic'], 'UTF-8') AS topic, DECODE(h['__connect.errors.exception.message'], 'UTF-8') AS why,
                CAST(DECODE(h['__connect.errors.offset'], 'UTF-8') AS BIGINT) AS place FROM bad;",
        s.topic, s.servers
    );
    let bad = s.place.run(&read, &["--format", "json"]).ok().rows();
    let mut values: Vec<&str> = bad.iter().filter_map(|r| r["v"].as_str()).collect();
    values.sort_unstable();
    assert_eq!(values, ["{\"id\": ", "ü"]);
    let told = |r: &serde_json::Value| {
        r["topic"] == s.topic.as_str() && r["why"].as_str().is_some_and(|w| !w.is_empty())
    };
    assert!(bad.iter().all(told), "{bad:?}");
    // Nothing comes again.
    s.put(&["{\"id\": 3}"]);
    s.run(&dlq).ok();
    count(3);
    assert_eq!(s.place.run(&read, &["--format", "json"]).ok().rows().len(), 2);
    assert!(s.verified().contains("ok"));
}

#[test]
fn rescued_records_are_read_again_where_they_are() {
    let Some(s) = Setting::real(1) else { return };
    s.put(&["{\"id\": 1}", "{\"id\": 2", "no"]);
    s.run(&["--on-error", "rescue", "--once"]).ok();
    let again = s.run(&["reprocess"]).ok().stdout;
    assert!(again.contains("0 records made rows, 2 records still bad"), "{again}");
    let mend = format!(
        "CREATE CATALOG lake WITH ('type' = 'iceberg', 'warehouse' = '{}', 'catalog-name' = 'tableflow');
         UPDATE lake.`default`.{} SET _bad_value = ENCODE('{{\"id\": 2}}', 'UTF-8') WHERE _offset = 1;",
        s.place.path("lake"),
        s.topic
    );
    s.place.run(&mend, &[]).ok();
    let again = s.run(&["reprocess"]).ok().stdout;
    assert!(again.contains("1 record made rows, 1 record still bad"), "{again}");
    let rows = s.query("SELECT id, _offset FROM {t} WHERE _error IS NULL ORDER BY id");
    assert_eq!(rows.iter().map(|r| r["_offset"].as_i64()).collect::<Vec<_>>(), [Some(0), Some(1)]);
    // The flow goes on over what was changed.
    s.put(&["{\"id\": 4}"]);
    s.run(&["--on-error", "rescue", "--once"]).ok();
    assert_eq!(s.query("SELECT id FROM {t}").len(), 4);
}

#[test]
fn a_script_reads_tables_with_the_tails_of_their_topics() {
    let Some(s) = Setting::real(2) else { return };
    s.put(&["{\"id\": 1}", "{\"id\": 2}"]);
    s.run(&["--once"]).ok();
    s.put(&["{\"id\": 3}", "{\"id\": 4}", "{\"id\": 5}"]);
    let file = s.place.write(
        "flows.toml",
        format!(
            "bootstrap-servers = \"{}\"\nwarehouse = \"{}\"\n[[flow]]\ntopic = \"{}\"\n",
            s.servers,
            s.place.path("lake"),
            s.topic
        ),
    );
    let sql = format!("SELECT id, _offset FROM {} ORDER BY id", s.topic);
    let args = ["--tableflow", &file, "-s", "execution.runtime-mode=batch", "--format", "json"];
    let rows = s.place.run(&sql, &args).ok().rows();
    assert_eq!(rows.iter().map(|r| r["id"].as_i64()).collect::<Vec<_>>(), [1, 2, 3, 4, 5].map(Some));
    assert_eq!(s.query("SELECT id FROM {t}").len(), 2);
    let mut status = tidelake();
    status.args(["tableflow", "status", "--warehouse", &s.place.path("lake"), "--output", "json"]);
    status.args(["--bootstrap-servers", &s.servers]).stdin(Stdio::null());
    let status = finish(status, LONG).ok().rows();
    assert_eq!(
        (status[0]["lag"].as_i64(), status[0]["read_rows"].as_i64()),
        (Some(3), Some(2)),
        "{status:?}"
    );
}

#[test]
fn of_two_processes_one_goes_on() {
    let Some(s) = Setting::real(1) else { return };
    s.put(&[r#"{"id":1}"#]);
    let mut first = s.start(&["--commit-interval", "100ms"]);
    let until_there = || {
        for _ in 0..300 {
            thread::sleep(Duration::from_millis(100));
            if s.place.visible_files("lake").iter().any(|f| f.extension().is_some_and(|e| e == "parquet")) {
                return;
            }
        }
        panic!("nothing is committed");
    };
    until_there();
    let second = s.start(&["--commit-interval", "100ms"]);
    thread::sleep(Duration::from_secs(2));
    s.put(&[r#"{"id":2}"#, r#"{"id":3}"#]);
    assert!(first.dies_within(Duration::from_secs(30)), "it would write what the other writes");
    first.finish(LONG).fails_with(&["taken over by another process"]);
    second.signal("TERM");
    second.finish(LONG).ok();
    s.run(&["--once"]).ok();
    assert!(s.verified().contains("3 rows, 1 partition"));
}

#[test]
fn what_is_missing_or_twice_is_found() {
    let Some(s) = Setting::real(1) else { return };
    s.put(&[r#"{"id":1}"#, r#"{"id":2}"#]);
    s.run(&["--once"]).ok();
    assert!(s.verified().contains(": ok"));
    let lake = s.place.path("lake");
    let sql = format!(
        "CREATE CATALOG lake WITH ('type' = 'iceberg', 'warehouse' = '{lake}', 'catalog-name' = 'tableflow');
         INSERT INTO lake.`default`.{t} SELECT * FROM lake.`default`.{t} WHERE id = 2;",
        t = s.topic
    );
    s.place.run(&sql, &[]).ok();
    let ran = s.run(&["verify"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stdout.contains("2 rows were read and 3 are there"), "{}", ran.stdout);
    assert!(ran.stdout.contains("3 rows have 2 different offsets"), "{}", ran.stdout);
    let ran = s.run(&["verify", "--deep", "--output", "json"]);
    assert!(ran.rows()[0]["problems"].as_array().unwrap().len() >= 3, "{}", ran.stdout);
}

/// Where a flow is killed.
const FAILPOINTS: &[&str] = &[
    "iceberg-claiming",
    "iceberg-claimed",
    "sink-opened",
    "barrier-passed",
    "sink-prepared",
    "iceberg-committing",
    "iceberg-snapshot-written",
    "iceberg-committed",
];

#[test]
fn killed_again_and_again_nothing_is_lost_and_nothing_comes_twice() {
    let columns = "CREATE TABLE o (id BIGINT, s STRING) WITH (";
    killed(columns, "SELECT * FROM g", &[], |rows| rows);
}

#[test]
fn killed_again_and_again_each_key_has_its_last_row() {
    let columns =
        "CREATE TABLE o (k BIGINT, id BIGINT, s STRING) WITH ('key.format' = 'json', 'key.fields' = 'k', ";
    killed(columns, "SELECT id % 700, id, s FROM g", &["--mode", "upsert", "--key-format", "json"], |_| 700);
}

/// A flow that is killed while its topic is written: `left` says how many rows its table has of so many records.
fn killed(table: &str, select: &str, mode: &[&str], left: impl Fn(u64) -> u64) {
    let Some(mut s) = Setting::real(4) else { return };
    let Some(catalog) = service("TIDELAKE_TEST_REST_CATALOG", "no flow is killed on a REST catalog") else {
        return;
    };
    s.catalog = vec!["--catalog-uri".into(), catalog, "--namespace".into(), s.topic.clone()];
    let kills: u64 = std::env::var("TIDELAKE_CRASH_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(16);
    let seed: u64 = std::env::var("TIDELAKE_CRASH_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let mut dice = Dice::new(seed);
    let rows = kills * 2_500;
    let value_format = if mode.is_empty() { "format" } else { "value.format" };
    let producer = s.place.start(
        &format!(
            "CREATE TABLE g (id BIGINT, s STRING) WITH ('connector' = 'datagen', 'rows-per-second' = '3000',
               'number-of-rows' = '{rows}', 'fields.id.kind' = 'sequence', 'fields.id.start' = '1',
               'fields.id.end' = '{rows}', 'fields.s.length' = '20');
             {table} 'connector' = 'kafka', 'topic' = '{}',
               'properties.bootstrap.servers' = '{}', '{value_format}' = 'json');
             INSERT INTO o {select};",
            s.topic, s.servers
        ),
        &[],
    );
    thread::sleep(Duration::from_secs(1));
    for kill in 0..kills {
        let parallelism = (1 + dice.roll(3)).to_string();
        let mut command =
            s.command(&[&["--commit-interval", "100ms", "--parallelism", &parallelism], mode].concat());
        // At its own failpoint first, then anywhere.
        let place = FAILPOINTS.get(usize::try_from(kill).unwrap());
        if let Some(place) = place {
            command.env("TIDELAKE_FAILPOINT", format!("{place}:{}", 1 + dice.roll(3)));
        }
        let mut flow = Running::start(command);
        flow.dies_within(Duration::from_millis(200 + dice.roll(1_500)));
        flow.kill();
    }
    producer.finish(Duration::from_secs(600)).ok();
    s.run(&[&["--once"], mode].concat()).ok();
    let verified = s.verified();
    let left = left(rows);
    eprintln!("tableflow: {kills} kills, seed {seed}, {rows} records, {left} rows: {verified}");
    let left = if left < 1000 { left.to_string() } else { format!("{},{:03}", left / 1000, left % 1000) };
    assert!(verified.contains(&format!("{left} rows compared: ok")), "{verified}");
}

#[test]
fn a_topic_of_keys_is_a_table_that_changes() {
    let Some(s) = Setting::real(1) else { return };
    let put = |rows: &str| {
        s.place
            .run(
                &format!(
                    "CREATE TABLE o (k STRING, v STRING) WITH ('connector' = 'kafka', 'topic' = '{}',
                       'properties.bootstrap.servers' = '{}', 'key.format' = 'raw', 'key.fields' = 'k',
                       'value.format' = 'raw', 'value.fields-include' = 'EXCEPT_KEY');
                     INSERT INTO o VALUES {rows};",
                    s.topic, s.servers
                ),
                &["-s", "parallelism.default=1"],
            )
            .ok();
    };
    let upsert = ["--once", "--mode", "upsert", "--key-format", "json"];
    put(
        r#"('{"id":1}', '{"id":1,"name":"a"}'), ('{"id":2}', '{"id":2,"name":"b"}'), ('{"id":1}', '{"id":1,"name":"a2"}')"#,
    );
    s.run(&upsert).ok();
    put(
        r#"('{"id":2}', CAST(NULL AS STRING)), ('{"id":3}', '{"id":3,"name":"c","more":true}'), ('{"id":1}', '{"name":"a3"}')"#,
    );
    s.run(&upsert).ok();
    let rows = s.query("SELECT id, name, _rest FROM {t} ORDER BY id");
    let shown: Vec<String> =
        rows.iter().map(|r| format!("{} {} {}", r["id"], r["name"], r["_rest"])).collect();
    assert_eq!(shown, [r#"1 "a3" null"#, r#"3 "c" "{\"more\":true}""#]);
    assert!(s.verified().contains("2 rows compared: ok"));
    // As appended rows they would not be what the table says.
    s.run(&["--once", "--mode", "upsert", "--start-at", "latest"]).fails_with(&["--start-at latest"]);
    // What the commits have left behind is put together, and the topic goes on.
    let maintained = s.maintain(&["--min-input-files", "2", "--snapshot-age", "0s"], None).ok().stdout;
    assert!(maintained.contains("put together into 1"), "{maintained}");
    put(r#"('{"id":3}', CAST(NULL AS STRING)), ('{"id":4}', '{"id":4}')"#);
    s.run(&upsert).ok();
    assert_eq!(s.query("SELECT id FROM {t} ORDER BY id").len(), 2);
    assert!(s.verified().contains("2 rows compared: ok"));
}

#[test]
fn changes_of_a_database_are_made_to_the_table() {
    let Some(s) = Setting::real(1) else { return };
    s.put(&[
        r#"{"payload":{"before":null,"after":{"id":1,"name":"a"},"op":"r"},"schema":{"type":"struct"}}"#,
        r#"{"payload":{"before":null,"after":{"id":2,"name":"b"},"op":"c"},"schema":{"type":"struct"}}"#,
        r#"{"payload":{"before":{"id":1,"name":"a"},"after":{"id":1,"name":"é"},"op":"u"},"schema":{"type":"struct"}}"#,
    ]);
    let changes = ["--once", "--format", "debezium-json", "--primary-key", "id"];
    s.run(&changes).ok();
    s.put(&[
        r#"{"payload":{"before":{"id":2,"name":"b"},"after":null,"op":"d"},"schema":{"type":"struct"}}"#,
        r#"{"payload":{"before":null,"after":{"id":3,"name":"c","age":7},"op":"c"},"schema":{"type":"struct"}}"#,
    ]);
    s.run(&changes).ok();
    let rows = s.query("SELECT id, name, _rest FROM {t} ORDER BY id");
    let shown: Vec<String> =
        rows.iter().map(|r| format!("{} {} {}", r["id"], r["name"], r["_rest"])).collect();
    assert_eq!(shown, [r#"1 "é" null"#, r#"3 "c" "{\"age\":7}""#]);
    assert!(s.verified().contains("2 rows compared: ok"));
    s.run(&["--once", "--format", "debezium-json", "--mode", "upsert"])
        .fails_with(&["leave --mode upsert out"]);
}

#[test]
fn maintenance_may_die_anywhere() {
    let Some(s) = Setting::real(2) else { return };
    let mut records = 0;
    for place in
        ["compaction-written", "iceberg-snapshot-written", "compaction-committed", "snapshots-expired"]
    {
        for _ in 0..3 {
            s.put(&[&format!("{{\"id\":{records}}}"), &format!("{{\"id\":{}}}", records + 1)]);
            records += 2;
            s.run(&["--once"]).ok();
        }
        let now = ["--min-input-files", "2", "--snapshot-age", "0s", "--orphan-age", "0s"];
        let died = s.maintain(&now, Some(place));
        assert_ne!(died.code, Some(0), "{place}: {}", died.stderr);
        assert!(s.verified().contains(&format!("{records} rows compared: ok")), "{place}");
        s.maintain(&now, None).ok();
        assert!(s.verified().contains(&format!("{records} rows compared: ok")), "{place}");
        let files = s
            .place
            .visible_files("lake")
            .iter()
            .filter(|f| f.extension().is_some_and(|e| e == "parquet"))
            .count();
        assert!(files <= 2, "{place}: {files} files are left");
    }
}
