//! `--memory` bounds what the process holds of the machine's memory, in both modes. Figures of more rows are those of
//! `benches/run memory`.

use std::time::Duration;

use crate::e2e::support::{Place, Running, tidelake};

const ROWS: u64 = 3_000_000;

/// In MB of 10⁶ bytes.
const LIMIT: u64 = 200;
const BEYOND: u64 = 100;

/// A table of two BIGINTs, its keys all different and in no order.
fn table(name: &str) -> String {
    format!(
        "CREATE TABLE {name}_numbers (n BIGINT, v BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '{ROWS}',
           'rows-per-second' = '1000000000', 'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '{}');
         CREATE VIEW {name} AS SELECT MOD(n * 7368787, {ROWS}) AS k, v FROM {name}_numbers;\n",
        ROWS - 1
    )
}

/// The same with a row time, of which a day has more than there are rows.
fn timed(name: &str) -> String {
    format!(
        "CREATE TABLE {name} (n BIGINT, v BIGINT, k AS MOD(n * 7368787, {ROWS}), ts AS TO_TIMESTAMP_LTZ(n, 3),
           WATERMARK FOR ts AS ts) WITH ('connector' = 'datagen', 'number-of-rows' = '{ROWS}',
           'rows-per-second' = '1000000000', 'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '{}');\n",
        ROWS - 1
    )
}

/// Runs a query into nothing and checks what the process has held at most.
fn holds_to_its_limit(what: &str, mode: &str, columns: &str, query: &str) {
    let place = Place::new();
    let table = if query.contains("ts") { timed } else { table };
    let script = place.write(
        "memory.sql",
        format!(
            "{}{}CREATE TABLE nothing ({columns}) WITH ('connector' = 'blackhole');\nINSERT INTO nothing {query};\n",
            table("a"),
            table("b")
        ),
    );
    let mut c = tidelake();
    let (limit, mode) = (format!("{LIMIT}MB"), format!("execution.runtime-mode={mode}"));
    c.args(["run", &script, "--memory", &limit, "-s", &mode, "-s", "parallelism.default=2"]);
    let ran = Running::start(c).finish(Duration::from_secs(600)).ok();
    if let Some(peak) = ran.peak_memory {
        let peak = peak / 1_000_000;
        assert!(peak <= LIMIT + BEYOND, "{what}, {mode}: {peak} MB with --memory {limit}");
    }
}

#[test]
fn aggregates_hold_to_the_limit() {
    for mode in ["batch", "streaming"] {
        let query = "SELECT k, COUNT(*), SUM(v) FROM a GROUP BY k";
        holds_to_its_limit("GROUP BY", mode, "k BIGINT, n BIGINT, s BIGINT", query);
    }
}

#[test]
fn joins_hold_to_the_limit() {
    for mode in ["batch", "streaming"] {
        let query = "SELECT a.k, a.v, b.v FROM a JOIN b ON a.k = b.k";
        holds_to_its_limit("join", mode, "k BIGINT, v BIGINT, w BIGINT", query);
    }
}

#[test]
fn over_and_joins_over_time_hold_to_the_limit() {
    let join = "SELECT a.k, a.v, b.v FROM a JOIN b ON a.k = b.k
        AND a.ts BETWEEN b.ts - INTERVAL '1' DAY AND b.ts + INTERVAL '1' DAY";
    holds_to_its_limit("interval join", "streaming", "k BIGINT, v BIGINT, w BIGINT", join);
    let over =
        "SELECT k, SUM(v) OVER (PARTITION BY k ORDER BY ts ROWS BETWEEN 5 PRECEDING AND CURRENT ROW) FROM a";
    holds_to_its_limit("OVER", "streaming", "k BIGINT, s BIGINT", over);
}

#[test]
fn ranks_and_sorts_hold_to_the_limit() {
    let rank = "SELECT k, v, ROW_NUMBER() OVER (PARTITION BY MOD(k, 1000) ORDER BY v) FROM a";
    holds_to_its_limit("ROW_NUMBER", "batch", "k BIGINT, v BIGINT, r BIGINT", rank);
    let first =
        "SELECT k, v FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v) AS r FROM a) WHERE r <= 1";
    holds_to_its_limit("first rows", "batch", "k BIGINT, v BIGINT", first);
    let distinct = "SELECT MOD(k, 1000), COUNT(DISTINCT k) FROM a GROUP BY MOD(k, 1000)";
    holds_to_its_limit("COUNT(DISTINCT)", "batch", "k BIGINT, n BIGINT", distinct);
    holds_to_its_limit("ORDER BY", "batch", "k BIGINT, v BIGINT", "SELECT k, v FROM a ORDER BY v");
}

/// Of rows that are updated all of the result is kept until its end.
#[test]
fn a_final_result_holds_to_the_limit() {
    for query in ["SELECT k, v FROM a", "SELECT k, COUNT(*) AS n FROM a GROUP BY k"] {
        let place = Place::new();
        let script = place.write("final.sql", format!("{}{query};\n", table("a")));
        let mut c = tidelake();
        let limit = format!("{LIMIT}MB");
        c.args(["run", &script, "--memory", &limit, "--result-mode", "final", "--format", "csv"]);
        c.args(["-s", "execution.runtime-mode=streaming", "-s", "parallelism.default=2"]);
        let ran = Running::start(c).finish(Duration::from_secs(600)).ok();
        assert_eq!(ran.stdout.lines().count() as u64, ROWS + 1, "{query}");
        if let Some(peak) = ran.peak_memory {
            let peak = peak / 1_000_000;
            assert!(peak <= LIMIT + BEYOND, "{query}: {peak} MB with --memory {limit}");
        }
    }
}
