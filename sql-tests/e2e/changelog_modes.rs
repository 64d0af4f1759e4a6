//! Which kinds of changes each operator sends: `EXPLAIN CHANGELOG_MODE`.
//!
//! The modes were compared with those that Apache Flink 2.3 prints for the same statements. Two differences are meant: a
//! query that is printed needs `-U`, which Flink's EXPLAIN of a bare query leaves out, and a condition that tears the halves of
//! an update apart makes deletes of them here.

use super::support::Place;

const TABLES: &str = "
CREATE TABLE a (id BIGINT NOT NULL, k INT, v INT, s STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'datagen');
CREATE TABLE b (id BIGINT NOT NULL, k INT, w INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'datagen');
CREATE TABLE hole (k INT, n BIGINT) WITH ('connector' = 'blackhole');
CREATE TABLE shown (k INT, n BIGINT) WITH ('connector' = 'print');
";

/// Statements and the modes of their operators, from the sink to the sources.
const CASES: &[(&str, &str)] = &[
    // A sink that does not want old rows: none are made.
    ("INSERT INTO hole SELECT k, COUNT(*) FROM a GROUP BY k", "Calc[I,UA] GroupAggregate[I,UA] Source[I]"),
    (
        "INSERT INTO shown SELECT k, COUNT(*) FROM a GROUP BY k",
        "Calc[I,UB,UA] GroupAggregate[I,UB,UA] Source[I]",
    ),
    // A condition on a result has to see the old row, too.
    (
        "INSERT INTO hole SELECT k, COUNT(*) FROM a GROUP BY k HAVING COUNT(*) > 1",
        "Calc[I,UA,D] GroupAggregate[I,UB,UA] Source[I]",
    ),
    // One on the key goes below.
    (
        "INSERT INTO hole SELECT k, n FROM (SELECT k, COUNT(*) AS n FROM a GROUP BY k) WHERE k > 1",
        "Calc[I,UA] GroupAggregate[I,UA] Calc[I] Source[I]",
    ),
    (
        "SELECT n, COUNT(*) FROM (SELECT k, COUNT(*) AS n FROM a GROUP BY k) GROUP BY n",
        "Calc[I,UB,UA,D] GroupAggregate[I,UB,UA,D] Calc[I,UB,UA] GroupAggregate[I,UB,UA] Source[I]",
    ),
    ("SELECT a.v, b.w FROM a JOIN b ON a.k = b.k", "Calc[I] Join[I] Source[I] Source[I]"),
    (
        "SELECT a.v, b.w FROM a LEFT JOIN b ON a.k = b.k",
        "Calc[I,UB,UA,D] Join[I,UB,UA,D] Source[I] Source[I]",
    ),
    ("SELECT a.v FROM a WHERE a.k IN (SELECT k FROM b)", "Calc[I] Join[I] Source[I] Source[I]"),
    (
        "SELECT a.v FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.k = a.k)",
        "Calc[I,UB,UA,D] Join[I,UB,UA,D] Source[I] Source[I]",
    ),
    (
        "SELECT k, v FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v) AS rn FROM a) WHERE rn <= 3",
        "Calc[I,UB,UA,D] Rank[I,UB,UA,D] Source[I]",
    ),
    ("SELECT v FROM a ORDER BY v LIMIT 5", "SortLimit[I,UB,UA,D] Source[I]"),
    ("SELECT k FROM a UNION ALL SELECT k FROM b", "Union[I] Source[I] Source[I]"),
    (
        "SELECT x.k, x.n, y.n FROM (SELECT k, COUNT(*) AS n FROM a GROUP BY k) x
         JOIN (SELECT k, COUNT(*) AS n FROM b GROUP BY k) y ON x.k = y.k",
        "Calc[I,UB,UA] Join[I,UB,UA] Calc[I,UB,UA] GroupAggregate[I,UB,UA] Source[I] Calc[I,UB,UA] GroupAggregate[I,UB,UA] Source[I]",
    ),
    // The join retracts what it has stored, its own output needs no old rows.
    (
        "INSERT INTO hole SELECT x.k, y.n FROM (SELECT k, COUNT(*) AS n FROM a GROUP BY k) x
         JOIN (SELECT k, COUNT(*) AS n FROM b GROUP BY k) y ON x.k = y.k",
        "Calc[I,UA] Join[I,UA] GroupAggregate[I,UB,UA] Source[I] Calc[I,UB,UA] GroupAggregate[I,UB,UA] Source[I]",
    ),
];

/// `Name(…, changelogMode=[…])` as `Name[…]`, without sinks and the checks before them.
fn modes(plan: &str) -> String {
    let operators = plan.lines().filter_map(|line| {
        let (name, arguments) = line.trim_start_matches(['|', ' ']).split_once('(')?;
        let (_, mode) = arguments.rsplit_once("changelogMode=")?;
        let (mode, _) = mode.split_once(']')?;
        (name != "ConstraintEnforcer").then(|| format!("{name}{mode}]"))
    });
    operators.collect::<Vec<_>>().join(" ")
}

#[test]
fn operators_send_what_their_consumers_need() {
    let place = Place::new();
    for (statement, expected) in CASES {
        let sql = format!("{TABLES}EXPLAIN CHANGELOG_MODE {statement};\n");
        let plan = place.run(&sql, &["-s", "execution.runtime-mode=streaming"]).ok().stdout;
        assert_eq!(modes(&plan), *expected, "{statement}\n{plan}");
    }
}
