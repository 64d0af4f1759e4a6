//! What plans have to keep from one parallelism to another.

use std::collections::BTreeSet;

use arrow::array::AsArray;

use crate::session::{Session, SessionOptions, StatementResult};

/// Uids of the nodes that have state or a position, by name without its phase.
async fn uids(sql: &str, parallelism: usize) -> BTreeSet<(String, String)> {
    let config = vec![
        ("execution.runtime-mode".to_owned(), "streaming".to_owned()),
        ("parallelism.default".to_owned(), parallelism.to_string()),
    ];
    let mut session = Session::new(SessionOptions { config, ..SessionOptions::default() }).unwrap();
    let table = "CREATE TABLE t (k INT, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'datagen', 'number-of-rows' = '9')";
    let script = format!("{table}; EXPLAIN {sql};");
    let mut text = String::new();
    for statement in crate::sql::parse_script(&script).unwrap() {
        if let StatementResult::Rows(_, batches) = session.execute(&statement).await.unwrap() {
            text.push_str(batches[0].column(0).as_string::<i32>().value(0));
        }
    }
    let (_, plan) = text.split_once("Optimized Execution Plan").unwrap();
    plan.lines()
        .filter_map(|line| {
            let (node, uid) = line.split_once(" uid=")?;
            let name = node.trim().split('(').next()?;
            let stateless = ["Calc", "Union", "Expand", "Sink"].contains(&name) || name.starts_with("Local");
            (!stateless).then(|| (name.trim_start_matches("Global").to_owned(), uid.trim().to_owned()))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn state_has_the_same_name_at_any_parallelism() {
    for sql in [
        "SELECT a.k, b.n FROM (SELECT k, COUNT(*) AS n FROM t GROUP BY k) a JOIN (SELECT k, COUNT(*) AS n FROM t GROUP BY k) b ON a.n = b.n AND a.k < b.k",
        "SELECT n, COUNT(*) FROM (SELECT k, COUNT(*) AS n FROM t GROUP BY k UNION ALL SELECT k, COUNT(*) FROM t GROUP BY k) GROUP BY n",
        "SELECT window_start, COUNT(*), COUNT(DISTINCT v) FROM TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR) GROUP BY window_start, window_end",
        "SELECT window_start, SUM(v) FROM HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR, INTERVAL '2' HOUR) GROUP BY window_start, window_end UNION ALL SELECT window_start, SUM(v) FROM HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR, INTERVAL '2' HOUR) GROUP BY window_start, window_end",
        "SELECT * FROM (VALUES (1, RAND()), (2, RAND())) AS x(a, b)",
    ] {
        let expected = uids(sql, 1).await;
        assert!(!expected.is_empty(), "{sql}");
        for parallelism in [1, 2, 4] {
            assert_eq!(uids(sql, parallelism).await, expected, "{sql} at {parallelism}");
        }
    }
}
