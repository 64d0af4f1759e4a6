//! Sessions as programs embed them: statements as text, tables of their own.

mod event_time;
mod functions;
mod long;
mod memory;
mod rest;
mod row_changes;

use std::sync::Arc;

use arrow::array::{
    ArrayRef, DictionaryArray, Int32Array, Int64Array, LargeStringArray, NullArray, RecordBatch, StringArray,
    StringViewArray, TimestampMicrosecondArray, TimestampMillisecondArray, UInt8Array,
};
use arrow::datatypes::{Int8Type, SchemaRef};
use arrow::util::pretty::pretty_format_batches;

use super::*;
use crate::connectors::values::ValuesSource;
use crate::edges::Source;

const MODES: [&str; 2] = ["batch", "streaming"];

fn session(mode: &str) -> Session {
    let config = [("execution.runtime-mode", mode), ("table.local-time-zone", "UTC")];
    let config = config.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec();
    Session::new(SessionOptions { config, ..SessionOptions::default() }).unwrap()
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter(columns).unwrap()
}

fn in_memory(batch: &RecordBatch) -> SourceTable {
    SourceTable::from_batches(batch.schema(), vec![batch.clone()])
}

fn source(schema: SchemaRef) -> Arc<dyn Source> {
    Arc::new(ValuesSource::new(schema, Vec::new()))
}

/// Rows as lines, sorted.
async fn lines(session: &mut Session, sql: &str) -> Vec<String> {
    let batches: Vec<RecordBatch> =
        session.query(sql).await.unwrap().collect().await.unwrap().into_iter().map(|c| c.rows).collect();
    let text = pretty_format_batches(&batches).unwrap().to_string();
    let rows = text.lines().filter(|l| l.starts_with('|')).skip(1);
    let mut rows: Vec<String> = rows
        .map(|l| l.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>().join(" "))
        .collect();
    rows.sort();
    rows
}

async fn failure(session: &mut Session, sql: &str) -> String {
    match session.execute_sql(sql).await {
        Err(e) => e.to_string(),
        Ok(_) => panic!("{sql} is executed"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_a_table_whatever_their_arrow_types() {
    let rows = |first: i32, names: [&str; 2]| {
        batch(vec![
            ("n", Arc::new(Int32Array::from(vec![first, first + 1]))),
            ("small", Arc::new(UInt8Array::from(vec![Some(255), None]))),
            ("view", Arc::new(StringViewArray::from(names.to_vec()))),
            ("dictionary", Arc::new(names.into_iter().collect::<DictionaryArray<Int8Type>>())),
            (
                "at",
                Arc::new(TimestampMicrosecondArray::from(vec![-1, 1_000_000]).with_timezone("Asia/Tokyo")),
            ),
        ])
    };
    for mode in MODES {
        let mut session = session(mode);
        let first = rows(1, ["a", "b"]);
        let table = SourceTable::from_batches(first.schema(), vec![first, rows(3, ["c", "a"])]);
        session.register_table("T", table).await.unwrap();
        let StatementResult::Rows(_, described) = session.execute_sql("DESCRIBE T").await.unwrap() else {
            panic!("DESCRIBE gives rows")
        };
        let types = described[0].column_by_name("type").unwrap();
        let types = types.as_any().downcast_ref::<StringArray>().unwrap();
        let types: Vec<&str> = types.iter().flatten().collect();
        assert_eq!(types, ["INT", "SMALLINT", "STRING", "STRING", "TIMESTAMP_LTZ(6)"], "{mode}");
        let all = lines(&mut session, "SELECT n, small, view, dictionary, CAST(at AS STRING) FROM T").await;
        let expected = [
            "1 255 a a 1969-12-31 23:59:59.999999",
            "2 b b 1970-01-01 00:00:01.000000",
            "3 255 c c 1969-12-31 23:59:59.999999",
            "4 a a 1970-01-01 00:00:01.000000",
        ];
        assert_eq!(all, expected, "{mode}");
        let counted =
            lines(&mut session, "SELECT COUNT(*) FROM T AS a JOIN T AS b ON a.view = b.dictionary").await;
        assert_eq!(counted.last().map(String::as_str), Some("6"), "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_table_has_event_time() {
    let minutes =
        |m: &[i64]| Arc::new(TimestampMillisecondArray::from_iter_values(m.iter().map(|m| m * 60_000)));
    let table = in_memory(&batch(vec![("at", minutes(&[0, 7, 2, 11, 12]))]));
    for mode in MODES {
        let mut session = session(mode);
        let table = table.clone().with_watermark("at", "`at` - INTERVAL '5' MINUTE");
        session.register_table("t", table).await.unwrap();
        let counts = lines(
            &mut session,
            "SELECT COUNT(*) FROM TUMBLE(TABLE t, DESCRIPTOR(`at`), INTERVAL '10' MINUTE) GROUP BY window_start, window_end",
        );
        assert_eq!(counts.await, ["2", "3"], "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_table_is_temporary_and_read_only() {
    let one = in_memory(&batch(vec![("n", Arc::new(Int64Array::from(vec![1])))]));
    let mut session = session("batch");
    session.execute_sql("CREATE TABLE t (x INT) WITH ('connector' = 'blackhole')").await.unwrap();
    session.register_table("t", one.clone()).await.unwrap();
    assert_eq!(lines(&mut session, "SELECT n FROM t").await, ["1"]);
    let e = session.register_table("t", one.clone()).await.unwrap_err().to_string();
    assert!(e.contains("temporary table default_catalog.default_database.t already exists"), "{e}");
    let e = failure(&mut session, "INSERT INTO t SELECT 1").await;
    assert!(e.contains("cannot be written to"), "{e}");
    let e = failure(&mut session, "SELECT * FROM t /*+ OPTIONS('path' = 'x') */").await;
    assert!(e.contains("the option 'path' has no meaning"), "{e}");
    session.execute_sql("DROP TEMPORARY TABLE t").await.unwrap();
    session.execute_sql("INSERT INTO t SELECT 1").await.unwrap();
    session.register_table("a.b", one).await.unwrap();
    assert_eq!(lines(&mut session, "SELECT n FROM `a.b`").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_said_when_a_table_is_registered() {
    let n = batch(vec![("n", Arc::new(Int32Array::from(vec![Some(1), None])))]);
    let at = batch(vec![("at", Arc::new(TimestampMillisecondArray::from(vec![0])))]);
    let other = batch(vec![("n", Arc::new(Int64Array::from(vec![1])))]);
    let null = batch(vec![("x", Arc::new(NullArray::new(1)))]);
    let large = batch(vec![("x", Arc::new(LargeStringArray::from(vec!["a"])))]);
    let cases = [
        (
            SourceTable::from_batches(n.schema(), vec![n.clone(), other]),
            "batch 1 has another schema than the table",
        ),
        (in_memory(&n).with_primary_key(["n"]), "batch 0: column `n` is NOT NULL"),
        (SourceTable::new(source(n.schema())).with_primary_key(["n"]), "can be NULL in the source"),
        (in_memory(&n).with_primary_key(["m"]), "the primary key names no column of the table: `m`"),
        (in_memory(&n).with_watermark("n", "n"), "the row-time column `n` is INT"),
        (in_memory(&at).with_watermark("at", "`at` -"), "watermark ``at` -`"),
        (in_memory(&at).with_watermark("at", "missing - INTERVAL '1' SECOND"), "missing"),
        (in_memory(&null), "column `x`: it has no type but NULL"),
        (
            SourceTable::new(source(large.schema())),
            "column `x`: the source yields LargeUtf8; STRING NOT NULL is Utf8 in Arrow",
        ),
    ];
    let session = session("batch");
    for (table, expected) in cases {
        let e = session.register_table("t", table).await.unwrap_err().to_string();
        assert!(e.contains("table `t`: ") && e.contains(expected), "{e}\nis not: {expected}");
    }
    let there = session.catalogs().list_objects("default_catalog", "default_database").await.unwrap();
    assert!(there.is_empty(), "{there:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_statement_is_executed() {
    let mut session = session("streaming");
    let e = failure(&mut session, "SELECT 1; SELECT 2").await;
    assert!(e.contains("the text has 2"), "{e}");
    let e = failure(&mut session, "-- nothing").await;
    assert!(e.contains("the text has none"), "{e}");
    let Err(e) = session.query("SHOW TABLES").await else { panic!("SHOW is no query") };
    assert!(e.to_string().starts_with("1:1: the statement is no query"), "{e}");
    let Err(e) = session.query("\nSELECT nothing").await else { panic!("there is no such column") };
    assert_eq!(e.location().map(|l| l.line), Some(2), "{e}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_fails_says_so_when_it_is_collected() {
    for mode in MODES {
        let mut session = session(mode);
        let table = in_memory(&batch(vec![("s", Arc::new(StringArray::from(vec!["1", "x"])))]));
        session.register_table("t", table).await.unwrap();
        let query = session.query("SELECT CAST(s AS INT) FROM t").await.unwrap();
        let e = query.collect().await.unwrap_err().to_string();
        assert!(e.contains('x'), "{mode}: {e}");
    }
}

#[tokio::test]
async fn a_runtime_of_one_thread_is_refused() {
    let Err(e) = session("batch").query("SELECT 1").await else { panic!("it cannot block") };
    assert!(e.to_string().contains("multi-threaded"), "{e}");
}
