use super::{fails, one, refused};
use crate::error::ErrorKind::{Syntax, Unsupported, Validation};
use crate::sql::ast::{DropKind, ExplainDetail, Name, Show, Statement};

fn parts(n: &Name) -> Vec<&str> {
    n.parts.iter().map(String::as_str).collect()
}

#[test]
fn views_catalogs_databases() {
    let Statement::CreateView(v) = one(
        "CREATE TEMPORARY VIEW IF NOT EXISTS d.v (a, `b`) COMMENT 'c' AS SELECT 1, 2 FROM t /*+ OPTIONS('x'='y') */",
    ) else {
        panic!()
    };
    assert!(v.temporary && v.if_not_exists);
    assert_eq!((v.columns.len(), v.comment.as_deref(), v.query.table_hints.len()), (2, Some("c"), 1));
    assert_eq!(v.query.text, "SELECT 1, 2 FROM t /*+ OPTIONS('x'='y') */");

    let Statement::CreateCatalog { name, if_not_exists, comment, options, location } =
        one("CREATE CATALOG IF NOT EXISTS lake COMMENT 'c' WITH ('type'='iceberg', 'warehouse'='w')")
    else {
        panic!()
    };
    assert_eq!(
        (name.as_str(), if_not_exists, comment.as_deref(), options.len()),
        ("lake", true, Some("c"), 2)
    );
    assert_eq!(location.to_string(), "1:30");
    let Statement::CreateDatabase { name, options, .. } = one("CREATE DATABASE lake.db WITH ('a'='b')")
    else {
        panic!()
    };
    assert_eq!((parts(&name), options.len()), (vec!["lake", "db"], 1));
    one("CREATE DATABASE db");
    refused(Syntax, "1:17", "CREATE DATABASE a.b.c", &["3 parts"]);
    refused(Validation, "1:19", "CREATE VIEW v (a, a) AS SELECT 1, 2", &["twice"]);
    refused(Syntax, "1:14", "CREATE VIEW v", &["expected AS", "end of the statement"]);
}

#[test]
fn drops() {
    for (sql, expected) in [
        ("DROP TABLE t", (DropKind::Table, false, false, false)),
        ("DROP TEMPORARY TABLE IF EXISTS a.b.t", (DropKind::Table, true, true, false)),
        ("DROP VIEW v", (DropKind::View, false, false, false)),
        ("DROP DATABASE IF EXISTS c.d CASCADE", (DropKind::Database, true, false, true)),
        ("DROP DATABASE d RESTRICT", (DropKind::Database, false, false, false)),
        ("DROP CATALOG c", (DropKind::Catalog, false, false, false)),
    ] {
        let Statement::Drop { kind, if_exists, temporary, cascade, .. } = one(sql) else { panic!("{sql}") };
        assert_eq!((kind, if_exists, temporary, cascade), expected, "{sql}");
    }
    refused(Syntax, "1:14", "DROP TABLE t CASCADE", &["end of the statement"]);
    refused(Syntax, "1:6", "DROP TABEL t", &["did you mean TABLE?"]);
    refused(Unsupported, "1:6", "DROP MODEL m", &["MODEL"]);
    refused(Syntax, "1:11", "DROP TABLE", &["a table name", "end of the statement"]);
}

#[test]
fn use_show_describe() {
    assert!(matches!(one("USE CATALOG c"), Statement::UseCatalog(n) if parts(&n) == ["c"]));
    assert!(matches!(one("USE c.d"), Statement::UseDatabase(n) if parts(&n) == ["c", "d"]));
    assert!(matches!(one("USE catalog"), Statement::UseDatabase(n) if parts(&n) == ["catalog"]));
    refused(Unsupported, "1:5", "USE MODULES m", &["MODULES"]);

    let shows = [
        "CATALOGS",
        "CATALOGS LIKE 'a%'",
        "CURRENT CATALOG",
        "DATABASES",
        "DATABASES FROM c NOT LIKE 'x'",
        "CURRENT DATABASE",
        "TABLES",
        "TABLES IN c.d ILIKE 'x'",
        "VIEWS",
        "VIEWS FROM d",
        "COLUMNS FROM c.d.t LIKE 'x'",
        "COLUMNS IN t",
        "FUNCTIONS",
        "FUNCTIONS LIKE 'x'",
        "USER FUNCTIONS",
        "CREATE TABLE t",
        "CREATE VIEW d.v",
        "CREATE CATALOG c",
    ];
    for show in shows {
        assert!(matches!(one(&format!("SHOW {show}")), Statement::Show(_)), "{show}");
    }
    let Statement::Show(Show::Tables(Some(from), Some(p))) = one("show tables from d not ilike 'X\\%'")
    else {
        panic!()
    };
    assert_eq!(
        (parts(&from), p.negated, p.case_insensitive, p.pattern.as_str()),
        (vec!["d"], true, true, "X\\%")
    );
    refused(Syntax, "1:6", "SHOW TABELS", &["did you mean TABLES?"]);
    refused(Unsupported, "1:6", "SHOW JARS", &["JARS", "CATALOGS"]);
    refused(Syntax, "1:18", "SHOW TABLES LIKE x", &["single quotes"]);
    refused(Syntax, "1:13", "SHOW COLUMNS", &["FROM or IN"]);

    assert!(matches!(one("DESCRIBE TABLE t"), Statement::DescribeTable(n) if parts(&n) == ["t"]));
    assert!(matches!(one("DESC a.b.t"), Statement::DescribeTable(n) if n.parts.len() == 3));
    assert!(matches!(one("DESCRIBE catalog"), Statement::DescribeTable(n) if parts(&n) == ["catalog"]));
    assert!(matches!(one("DESCRIBE CATALOG c"), Statement::DescribeCatalog(_)));
    assert!(matches!(one("DESC DATABASE c.d"), Statement::DescribeDatabase(_)));
    refused(Unsupported, "1:10", "DESCRIBE EXTENDED t", &["EXTENDED"]);
    refused(Unsupported, "1:10", "DESCRIBE MODEL m", &["MODEL", "FUNCTION f"]);
    for (sql, deep) in [("DESCRIBE FUNCTION f", false), ("DESC FUNCTION EXTENDED UPPER", true)] {
        assert!(
            matches!(one(sql), Statement::DescribeFunction { extended, .. } if extended == deep),
            "{sql}"
        );
    }
}

#[test]
fn set_and_reset() {
    let set = |sql: &str| match one(sql) {
        Statement::Set(kv) => kv,
        other => panic!("{other:?}"),
    };
    assert_eq!(set("SET"), None);
    let pair = |k: &str, v: &str| Some((k.to_owned(), v.to_owned()));
    assert_eq!(set("SET 'a.b' = 'c'"), pair("a.b", "c"));
    assert_eq!(set("SET 'a.b'='it''s'"), pair("a.b", "it's"));
    assert_eq!(set("SET execution.runtime-mode = batch"), pair("execution.runtime-mode", "batch"));
    assert_eq!(
        set("SET table.exec.mini-batch.allow-latency = 5 s"),
        pair("table.exec.mini-batch.allow-latency", "5 s")
    );
    assert_eq!(set("SET parallelism.default=4"), pair("parallelism.default", "4"));
    assert!(matches!(one("RESET"), Statement::Reset(None)));
    assert!(matches!(one("RESET 'a'"), Statement::Reset(Some(k)) if k == "a"));
    assert!(matches!(one("RESET a.b-c"), Statement::Reset(Some(k)) if k == "a.b-c"));
    fails("SET 'a'");
    fails("SET 'a' =");
    fails("SET a b = c");
    fails("SET 'a' = 'b' 'c'");
    fails("RESET 'a' 'b'");
}

#[test]
fn inserts() {
    let insert = |sql: &str| match one(sql) {
        Statement::Insert(i) => i,
        other => panic!("{other:?}"),
    };
    let i = insert("INSERT INTO c.d.t /*+ OPTIONS('a'='b') */ PARTITION (p = 'x', q = 1) (a, b) SELECT 1, 2");
    assert_eq!((i.options.len(), i.partition.len(), i.columns.len(), i.overwrite), (1, 2, 2, false));
    assert_eq!(i.columns[1].1.to_string(), "1:74");
    assert_eq!(i.partition[0].1.text, "'x'");
    assert_eq!(i.query.text, "SELECT 1, 2");
    assert!(insert("INSERT OVERWRITE t SELECT 1").overwrite);
    assert!(insert("INSERT INTO t VALUES (1, 'a'), (2, NULL)").columns.is_empty());
    assert!(insert("INSERT INTO t (SELECT 1)").columns.is_empty());
    assert_eq!(insert("INSERT INTO t (a) (SELECT 1)").columns.len(), 1);
    insert("EXECUTE INSERT INTO t SELECT 1");
    insert("INSERT INTO t WITH x AS (SELECT 1) SELECT * FROM x");
    insert("INSERT INTO t TABLE s");
    refused(Syntax, "1:8", "INSERT t SELECT 1", &["INTO or OVERWRITE"]);
    refused(Syntax, "1:14", "INSERT INTO t", &["a query or VALUES"]);
    refused(Validation, "1:19", "INSERT INTO t (a, a) SELECT 1, 2", &["twice"]);
    let strategy = |sql: &str| insert(sql).on_conflict.map(|(s, at)| (s.keyword(), at.column));
    assert_eq!(strategy("INSERT INTO t SELECT 1 ON CONFLICT DO NOTHING"), Some(("NOTHING", 24)));
    assert_eq!(strategy("INSERT INTO t VALUES (1) ON CONFLICT DO ERROR").unwrap().0, "ERROR");
    assert_eq!(strategy("INSERT INTO t SELECT 1 on conflict do deduplicate").unwrap().0, "DEDUPLICATE");
    assert_eq!(strategy("INSERT INTO t SELECT 1 FROM a JOIN b ON conflict = x"), None);
    refused(Syntax, "1:39", "INSERT INTO t SELECT 1 ON CONFLICT DO UPDATE", &["DEDUPLICATE"]);
    refused(Syntax, "1:47", "INSERT INTO t SELECT 1 ON CONFLICT DO NOTHING x", &["end of the statement"]);
    refused(Unsupported, "1:19", "INSERT INTO t /*+ LOOKUP('a'='b') */ SELECT 1", &["LOOKUP"]);
}

#[test]
fn explains() {
    let explain = |sql: &str| match one(sql) {
        Statement::Explain { details, target } => (details, *target),
        other => panic!("{other:?}"),
    };
    assert!(matches!(explain("EXPLAIN SELECT 1"), (d, Statement::Query(_)) if d.is_empty()));
    assert!(matches!(explain("EXPLAIN PLAN FOR INSERT INTO t SELECT 1"), (_, Statement::Insert(_))));
    let (d, _) = explain("EXPLAIN ANALYZE SELECT 1");
    assert_eq!(d, [ExplainDetail::Analyze]);
    let (d, _) = explain("EXPLAIN changelog_mode, ESTIMATED_COST, JSON_EXECUTION_PLAN, PLAN_ADVICE SELECT 1");
    assert_eq!(d.first(), Some(&ExplainDetail::ChangelogMode));
    assert_eq!(d.len(), 4);
    for set in [
        "EXPLAIN STATEMENT SET BEGIN INSERT INTO t SELECT 1; INSERT INTO u SELECT 2; END",
        "EXPLAIN EXECUTE STATEMENT SET BEGIN INSERT INTO t SELECT 1; END",
        "EXPLAIN CHANGELOG_MODE EXECUTE STATEMENT SET BEGIN INSERT INTO t SELECT 1; END;",
    ] {
        assert!(matches!(explain(set), (_, Statement::StatementSet(_))), "{set}");
    }
    refused(Syntax, "1:9", "EXPLAIN CHANGELOG_MOD SELECT 1", &["did you mean CHANGELOG_MODE?"]);
    refused(Syntax, "1:9", "EXPLAIN CREATE TABLE t (a INT)", &["SELECT"]);
}

#[test]
fn changes_of_rows_are_queries_over_their_table() {
    let change = |sql: &str| match one(sql) {
        Statement::RowChange(change) => change,
        other => panic!("{sql}: {other:?}"),
    };
    let update = change(
        "UPDATE c.d.t AS x SET a = x.b + 1, `b` = (SELECT MAX(a) FROM u WHERE a < 3) WHERE a IN (1, 2)",
    );
    assert_eq!(update.table.parts, ["c", "d", "t"]);
    assert_eq!(update.set.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(update.has_condition && update.keyword() == "UPDATE");
    let shown = update.query.query.to_string();
    assert!(shown.ends_with("FROM `$target` AS `x` WHERE a IN (1, 2)"), "{shown}");
    let delete = change("DELETE FROM t");
    assert!(delete.set.is_empty() && !delete.has_condition && delete.keyword() == "DELETE");
    assert!(change("DELETE FROM t x WHERE x.a = 1").has_condition);
    assert!(matches!(one("TRUNCATE TABLE t"), Statement::Truncate(name) if name.parts == ["t"]));
    refused(Syntax, "1:14", "UPDATE t SET WHERE a = 1", &["a column name"]);
    refused(Syntax, "1:18", "UPDATE t SET a = WHERE b = 1", &["an expression"]);
    refused(Validation, "1:21", "UPDATE t SET a = 1, a = 2", &["set twice"]);
    refused(Syntax, "1:17", "DELETE FROM t x LIMIT 1", &["expected WHERE"]);
    refused(Unsupported, "1:15", "DELETE FROM t /*+ OPTIONS('a'='b') */ WHERE a = 1", &["a hint"]);
}

#[test]
fn anything_else() {
    refused(Syntax, "1:1", "SELCT 1", &["did you mean SELECT?"]);
    refused(Syntax, "2:1", "SELECT 1;\nfoo bar", &["found `foo`", "statements are SELECT"]);
    refused(Syntax, "1:1", "1", &["statements are"]);
    for word in ["LOAD MODULE m", "CALL p()"] {
        refused(Unsupported, "1:1", word, &["not supported", "statements are"]);
    }
}
