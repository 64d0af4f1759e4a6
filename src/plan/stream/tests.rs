//! What plans have to keep from one parallelism to another.

use std::collections::BTreeSet;

use arrow::array::AsArray;

use crate::session::{Session, SessionOptions, StatementResult};

/// The execution plans that a script explains.
async fn explained(script: &str, parallelism: usize) -> crate::error::Result<String> {
    let config = vec![
        ("execution.runtime-mode".to_owned(), "streaming".to_owned()),
        ("parallelism.default".to_owned(), parallelism.to_string()),
    ];
    let mut session = Session::new(SessionOptions { config, ..SessionOptions::default() }).unwrap();
    let mut plans = String::new();
    for statement in crate::sql::parse_script(script)? {
        if let StatementResult::Rows(_, batches) = session.execute(&statement).await? {
            let text = batches[0].column(0).as_string::<i32>().value(0);
            plans.push_str(text.split_once("Optimized Execution Plan").unwrap().1);
        }
    }
    Ok(plans)
}

/// Uids of the nodes that have state or a position, by name without its phase.
async fn uids(sql: &str, parallelism: usize) -> BTreeSet<(String, String)> {
    let table = "CREATE TABLE t (k INT, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'datagen', 'number-of-rows' = '9')";
    explained(&format!("{table}; EXPLAIN {sql};"), parallelism)
        .await
        .unwrap()
        .lines()
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

/// Each node of a plan and how many tasks it has.
async fn tasks(query: &str, source: usize, sink: usize) -> crate::error::Result<Vec<(String, usize)>> {
    let script = format!(
        "CREATE TABLE t (k INT, v INT) WITH ('connector' = 'datagen', 'scan.parallelism' = '{source}');
         CREATE TABLE appended (k INT, v BIGINT) WITH ('connector' = 'blackhole', 'sink.parallelism' = '{sink}');
         CREATE TABLE keyed (k INT PRIMARY KEY NOT ENFORCED, v BIGINT) WITH ('connector' = 'upsert-kafka', 'topic' = 't', 'properties.bootstrap.servers' = 'embedded', 'key.format' = 'json', 'value.format' = 'json', 'sink.parallelism' = '{sink}');
         CREATE TABLE shown (k INT, v BIGINT) WITH ('connector' = 'print', 'sink.parallelism' = '{sink}');
         EXPLAIN {query};"
    );
    let plan = explained(&script, 2).await?;
    let node = |line: &str| {
        let (name, rest) = line.trim().split_once('(')?;
        let tasks = rest.split_once(" parallelism=")?.1.split(' ').next()?.parse().ok()?;
        Some((name.to_owned(), tasks))
    };
    Ok(plan.lines().filter_map(node).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_have_readers_and_writers_of_their_own_number() {
    let of = |name: &str, n| (name.to_owned(), n);
    let plan = tasks("INSERT INTO appended SELECT k + 1, v FROM t", 4, 3).await.unwrap();
    assert_eq!((plan.first(), plan.last()), (Some(&of("Sink", 3)), Some(&of("Source", 4))), "{plan:?}");
    assert!(plan.contains(&of("Calc", 4)), "{plan:?}");
    let plan = tasks("INSERT INTO keyed SELECT k, COUNT(*) FROM t GROUP BY k", 1, 3).await.unwrap();
    assert_eq!((plan.first(), plan.last()), (Some(&of("Sink", 3)), Some(&of("Source", 1))), "{plan:?}");
    assert!(
        plan.contains(&of("GlobalGroupAggregate", 2)) || plan.contains(&of("GroupAggregate", 2)),
        "{plan:?}"
    );
    let e = tasks("INSERT INTO shown SELECT k, COUNT(*) FROM t GROUP BY k", 1, 3).await.unwrap_err();
    assert!(e.to_string().contains("PRIMARY KEY"), "{e}");
    tasks("INSERT INTO shown SELECT k, COUNT(*) FROM t GROUP BY k", 1, 2).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_on_one_key_are_one_operator() {
    let tables = ["a", "b", "c", "d"].map(|t| {
        format!("CREATE TABLE {t} (k INT, m INT, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'datagen');")
    });
    for (query, expected) in [
        ("SELECT a.v, b.v, c.v FROM a JOIN b ON a.k = b.k JOIN c ON b.k = c.k", 1),
        ("SELECT a.v, d.v FROM a JOIN b ON a.k = b.k JOIN c ON b.k = c.k JOIN d ON a.k = d.k", 1),
        ("SELECT * FROM a JOIN b ON a.k = b.k AND a.m = b.m JOIN c ON b.m = c.m AND a.k = c.k", 1),
        // Another key in the middle: the two below are a key of their own.
        ("SELECT a.v FROM a JOIN b ON a.k = b.k JOIN c ON b.m = c.m", 0),
        ("SELECT a.v FROM a JOIN b ON a.k = b.k JOIN c ON b.k = c.k JOIN d ON c.m = d.m", 1),
        ("SELECT a.v FROM a JOIN b ON a.k = b.k LEFT JOIN c ON b.k = c.k", 0),
        ("SELECT a.v FROM a JOIN b ON a.k = b.k JOIN c ON b.k = c.k AND a.v < c.v", 0),
        (
            "SELECT a.v FROM a JOIN b ON a.k = b.k JOIN (SELECT k, COUNT(*) FROM c GROUP BY k) c ON b.k = c.k",
            0,
        ),
        ("SELECT a.v FROM a JOIN b ON a.ts = b.ts JOIN c ON b.ts = c.ts", 0),
        ("SELECT a.v FROM a JOIN b ON a.k = b.k", 0),
    ] {
        let plan = explained(&format!("{}EXPLAIN {query};", tables.join("")), 2).await.unwrap();
        assert_eq!(plan.matches("MultiJoin(").count(), expected, "{query}: {plan}");
    }
}
