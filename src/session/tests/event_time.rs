//! What event-time operators hold does not grow with the time that has passed: an hour holds what six minutes do.

use std::collections::BTreeMap;

use super::*;
use crate::runtime::gauges::OperatorState;

/// A row a second of event time, of 20 keys, a watermark behind each.
fn table(seconds: u64) -> String {
    format!(
        "CREATE TABLE t (n BIGINT, k AS MOD(n * 7, 20), v AS MOD(n * 37, 101), ts AS TO_TIMESTAMP_LTZ(n * 1000, 3),
            WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)
         WITH ('connector' = 'datagen', 'number-of-rows' = '{seconds}', 'rows-per-second' = '1000000000',
            'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '{}',
            'scan.watermark.emit.strategy' = 'on-event')",
        seconds - 1
    )
}

/// A side of a join may be ahead by what is in its channel; it would hold 7,200 rows if it forgot none.
const JOIN: u64 = 1_800;

/// Each construct with what it holds at most by the definition of the query, in rows, groups or versions.
const CONSTRUCTS: &[(&str, &str, u64)] = &[
    (
        "TUMBLE",
        "SELECT COUNT(*) FROM TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '30' SECOND) GROUP BY k, window_start, window_end",
        100,
    ),
    (
        "HOP",
        "SELECT SUM(v) FROM HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '1' MINUTE) GROUP BY k, window_start, window_end",
        200,
    ),
    (
        "CUMULATE",
        "SELECT MAX(v) FROM CUMULATE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '1' MINUTE) GROUP BY k, window_start, window_end",
        200,
    ),
    (
        "TUMBLE in GROUP BY, DISTINCT",
        "SELECT COUNT(DISTINCT v) FROM t GROUP BY TUMBLE(ts, INTERVAL '30' SECOND)",
        100,
    ),
    (
        "SESSION",
        "SELECT COUNT(*) FROM SESSION(TABLE busy PARTITION BY k, DESCRIPTOR(ts), INTERVAL '25' SECOND) GROUP BY k, window_start, window_end",
        100,
    ),
    (
        "SESSION, rows",
        "SELECT n FROM SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '5' SECOND)",
        100,
    ),
    (
        "window join",
        "SELECT a.n FROM (SELECT * FROM TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '20' SECOND)) AS a FULL JOIN (SELECT * FROM TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '20' SECOND)) AS b ON a.k = b.k AND a.window_start = b.window_start AND a.window_end = b.window_end",
        JOIN,
    ),
    (
        "window top-N",
        "SELECT n FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY v DESC) AS r FROM TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '30' SECOND)) WHERE r <= 3",
        50,
    ),
    (
        "window deduplication",
        "SELECT n FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k, window_start, window_end ORDER BY ts DESC) AS r FROM TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '30' SECOND)) WHERE r <= 1",
        100,
    ),
    (
        "interval join",
        "SELECT a.n FROM t AS a JOIN t AS b ON a.k = b.k AND a.ts BETWEEN b.ts - INTERVAL '20' SECOND AND b.ts",
        JOIN,
    ),
    (
        "interval join, outer",
        "SELECT a.n FROM t AS a FULL JOIN t AS b ON a.v = b.k AND a.ts BETWEEN b.ts - INTERVAL '5' SECOND AND b.ts + INTERVAL '15' SECOND",
        JOIN,
    ),
    (
        "temporal join",
        "SELECT a.n FROM t AS a LEFT JOIN versions FOR SYSTEM_TIME AS OF a.ts AS b ON a.k = b.k",
        JOIN,
    ),
    (
        "OVER RANGE",
        "SELECT SUM(v) OVER (PARTITION BY k ORDER BY ts RANGE BETWEEN INTERVAL '30' SECOND PRECEDING AND CURRENT ROW) FROM t",
        100,
    ),
    (
        "OVER ROWS",
        "SELECT SUM(v) OVER (PARTITION BY k ORDER BY ts ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) FROM t",
        150,
    ),
    (
        "MATCH_RECOGNIZE WITHIN",
        "SELECT x FROM t MATCH_RECOGNIZE (PARTITION BY k ORDER BY ts MEASURES A.n AS x ONE ROW PER MATCH AFTER MATCH SKIP PAST LAST ROW PATTERN (A B* C) WITHIN INTERVAL '1' MINUTE DEFINE A AS v > 20, B AS v < 80, C AS v > 95)",
        150,
    ),
    ("ORDER BY", "SELECT n FROM t ORDER BY ts", 50),
];

/// What each operator of each construct holds at most when so much time goes by.
async fn most(seconds: u64) -> BTreeMap<(&'static str, String), OperatorState> {
    let mut all = BTreeMap::new();
    let mut session = session("streaming");
    session.execute_sql(&table(seconds)).await.unwrap();
    session
        .execute_sql(
            "CREATE VIEW versions AS SELECT k, v, ts FROM (SELECT k, v, ts,
                ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts DESC) AS r FROM t) WHERE r = 1",
        )
        .await
        .unwrap();
    // A minute with a row of each key every 20 seconds, then 40 without.
    session.execute_sql("CREATE VIEW busy AS SELECT * FROM t WHERE MOD(n, 100) < 60").await.unwrap();
    session.execute_sql("CREATE TABLE nothing (n BIGINT) WITH ('connector' = 'blackhole')").await.unwrap();
    for (name, query, _) in CONSTRUCTS {
        let insert = format!("INSERT INTO nothing {query}");
        let StatementResult::Insert(job) = session.execute_sql(&insert).await.unwrap() else {
            panic!("{name}")
        };
        let metrics = job.metrics();
        job.wait().await.unwrap();
        let operators = metrics.operators.all();
        assert!(operators.iter().any(|o| o.most_entries > 0), "{name}: {operators:?}");
        assert!(operators.iter().all(|o| o.entries == 0 && o.partial_matches == 0), "{name}: {operators:?}");
        all.extend(operators.into_iter().map(|o| ((*name, o.uid.clone()), o)));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_of_event_time_holds_what_six_minutes_do() {
    let (tenth, half, whole) = (most(360).await, most(1_800).await, most(3_600).await);
    for (operator, of_hour) in &whole {
        let (name, _) = operator;
        let bound = CONSTRUCTS.iter().find(|c| c.0 == *name).unwrap().2;
        let [tenth, half] = [&tenth, &half].map(|all| all[operator].most_entries);
        let told = format!("{name}, {}: {tenth}, {half}, {} entries", of_hour.name, of_hour.most_entries);
        assert!(of_hour.most_entries <= bound, "{told}");
        // Ten times as much would be what grows with time.
        assert!(bound == JOIN || half.max(of_hour.most_entries) <= 2 * tenth + 20, "{told}");
    }
}
