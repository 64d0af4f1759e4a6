use super::{one, refused};
use crate::error::ErrorKind::{Syntax, Unsupported, Validation};
use crate::sql::ast::ColumnKind;
use crate::sql::ast::{CreateTable, LikeAction, LikeFeature, Statement};
use crate::sql::parse_type;

fn table(sql: &str) -> CreateTable {
    match one(sql) {
        Statement::CreateTable(t) => *t,
        other => panic!("{sql}: {other:?}"),
    }
}

#[test]
fn every_part_of_create_table() {
    let t = table(
        "CREATE TEMPORARY TABLE IF NOT EXISTS c.`d.e`.t (
            id BIGINT NOT NULL COMMENT 'it''s',
            k STRING METADATA FROM 'key' VIRTUAL COMMENT 'k',
            off BIGINT METADATA,
            cost AS price * CAST(n AS DECIMAL(10, 2)) COMMENT 'c',
            pt AS PROCTIME(),
            `select` ROW<a INT, b ARRAY<MAP<STRING, INT>>>,
            WATERMARK FOR ts AS ts - INTERVAL '5' SECOND,
            CONSTRAINT pk PRIMARY KEY (id, k) NOT ENFORCED
        ) COMMENT 'table' PARTITIONED BY (id, days(ts), bucket(16, id), truncate(4, s))
        WITH ('connector' = 'kafka', 'a' = '')",
    );
    assert!(t.temporary && t.if_not_exists);
    assert_eq!(t.name.parts, ["c", "d.e", "t"]);
    assert_eq!(t.name.location.to_string(), "1:38");
    let names: Vec<_> = t.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["id", "k", "off", "cost", "pt", "select"]);
    assert_eq!(t.columns[0].comment.as_deref(), Some("it's"));
    assert!(!t.columns[0].ty.as_ref().unwrap().nullable);
    assert_eq!(t.columns[1].kind, ColumnKind::Metadata { key: "key".into(), read_only: true });
    assert_eq!(t.columns[2].kind, ColumnKind::Metadata { key: "off".into(), read_only: false });
    let ColumnKind::Computed(cost) = &t.columns[3].kind else { panic!() };
    assert_eq!(cost.text, "price * CAST(n AS DECIMAL(10, 2))");
    assert_eq!(cost.location.to_string(), "5:21");
    assert_eq!(t.columns[3].comment.as_deref(), Some("c"));
    let w = t.watermark.unwrap();
    assert_eq!((w.column.as_str(), w.expr.text.as_str()), ("ts", "ts - INTERVAL '5' SECOND"));
    let key = t.primary_key.unwrap();
    assert_eq!((key.name.as_deref(), key.columns.len()), (Some("pk"), 2));
    let parts: Vec<_> = t.partitioned_by.iter().map(|p| p.text.as_str()).collect();
    assert_eq!(parts, ["id", "days(ts)", "bucket(16, id)", "truncate(4, s)"]);
    assert_eq!(t.options.len(), 2);
}

#[test]
fn forms_of_create_table() {
    let t = table("create table t (a int primary key not enforced comment 'x', b varchar(3) null)");
    assert_eq!(t.primary_key.unwrap().columns, ["a"]);
    let t = table(
        "CREATE TABLE t WITH ('a'='b') LIKE d.s (EXCLUDING ALL INCLUDING GENERATED OVERWRITING OPTIONS)",
    );
    let like = t.like.unwrap();
    assert_eq!(like.source.parts, ["d", "s"]);
    assert_eq!(
        like.options,
        [
            (LikeAction::Excluding, LikeFeature::All),
            (LikeAction::Including, LikeFeature::Generated),
            (LikeAction::Overwriting, LikeFeature::Options)
        ]
    );
    assert!(table("CREATE TABLE t LIKE s").like.unwrap().options.is_empty());
    let t = table("CREATE TABLE t (b, a) WITH ('x'='y') AS SELECT a, b FROM s WHERE a = ')'");
    assert_eq!(t.column_names_only, ["b", "a"]);
    assert_eq!(t.query.unwrap().text, "SELECT a, b FROM s WHERE a = ')'");
    assert!(table("CREATE TABLE t AS WITH x AS (SELECT 1) SELECT * FROM x").query.is_some());
    // Words that are no reserved words in Flink.
    table(
        "CREATE TABLE t (name INT, key INT, type INT, data INT, source INT, label INT, version INT, EXPR$0 INT, größe INT)",
    );
}

#[test]
fn bad_tables() {
    for (kind, at, sql, parts) in [
        (Syntax, "1:17", "CREATE TABLE t ()", &["column name"][..]),
        (Syntax, "1:14", "CREATE TABLE t", &["needs columns"]),
        (Syntax, "1:14", "CREATE TABLE t (a)", &["`a` has no type"]),
        (Syntax, "1:24", "CREATE TABLE t (id INT,)", &["column name", "found `)`"]),
        (Syntax, "1:17", "CREATE TABLE t (timestamp INT)", &["TIMESTAMP is a reserved word", "`timestamp`"]),
        (Syntax, "1:17", "CREATE TABLE t (Value INT)", &["`Value`"]),
        (Syntax, "1:17", "CREATE TABLE t ('a' INT)", &["backticks", "`a`"]),
        (Syntax, "1:19", "CREATE TABLE t (a TEXT)", &["unknown type `TEXT`", "STRING"]),
        (Syntax, "1:19", "CREATE TABLE t (a BIGNIT)", &["did you mean BIGINT?"]),
        (Syntax, "1:23", "CREATE TABLE t (a INT b STRING)", &["`,` or `)`"]),
        (Syntax, "1:23", "CREATE TABLE t (a INT DEFAULT 3)", &["no default values"]),
        (Syntax, "1:35", "CREATE TABLE t (a INT COMMENT 'x' NOT NULL)", &["right after the type"]),
        (Syntax, "1:35", "CREATE TABLE t (a INT COMMENT 'x' METADATA)", &["`,` or `)`"]),
        (Validation, "1:39", "CREATE TABLE t (a INT, PRIMARY KEY (a))", &["NOT ENFORCED"]),
        (Validation, "1:34", "CREATE TABLE t (a INT PRIMARY KEY)", &["NOT ENFORCED"]),
        (Validation, "1:40", "CREATE TABLE t (a INT, PRIMARY KEY (a) ENFORCED)", &["NOT ENFORCED"]),
        (Unsupported, "1:24", "CREATE TABLE t (a INT, UNIQUE (a) NOT ENFORCED)", &["UNIQUE"]),
        (
            Validation,
            "1:56",
            "CREATE TABLE t (a INT PRIMARY KEY NOT ENFORCED, b INT, PRIMARY KEY (b) NOT ENFORCED)",
            &["at most one primary key"],
        ),
        (
            Validation,
            "1:58",
            "CREATE TABLE t (a TIMESTAMP(3), WATERMARK FOR a AS a,    WATERMARK FOR a AS a)",
            &["one watermark"],
        ),
        (Unsupported, "1:46", "CREATE TABLE t (a ROW<b INT>, WATERMARK FOR a.b AS a)", &["computed column"]),
        (Syntax, "1:42", "CREATE TABLE t (a INT, WATERMARK FOR a AS)", &["an expression"]),
        (Unsupported, "1:24", "CREATE TABLE t (a INT) DISTRIBUTED BY (a) INTO 3 BUCKETS", &["DISTRIBUTED"]),
        (
            Validation,
            "1:40",
            "CREATE TABLE t (a INT) PARTITIONED BY (a + 1)",
            &["cannot partition by a + 1", "bucket"],
        ),
        (Validation, "1:40", "CREATE TABLE t (a INT) PARTITIONED BY (bucket(a))", &["cannot partition"]),
        (Syntax, "1:40", "CREATE TABLE t (a INT) PARTITIONED BY (year)", &["`year`"]),
        (Syntax, "1:30", "CREATE TABLE t (a INT) WITH (connector = 'x')", &["single quotes", "'connector'"]),
        (Syntax, "1:36", "CREATE TABLE t (a INT) WITH ('a' = 3)", &["write '3'"]),
        (Validation, "1:41", "CREATE TABLE t (a INT) WITH ('a' = 'b', 'a' = 'c')", &["set twice"]),
        (Syntax, "1:39", "CREATE TABLE t (a INT) WITH ('a'='b') COMMENT 'x'", &["the order is"]),
        (Syntax, "1:24", "CREATE TABLE t LIKE s (INCLUDE ALL)", &["INCLUDING"]),
        (Validation, "1:24", "CREATE TABLE t LIKE s (OVERWRITING PARTITIONS)", &["OVERWRITING"]),
        (Validation, "1:45", "CREATE TABLE t LIKE s (INCLUDING OPTIONS    EXCLUDING OPTIONS)", &["once"]),
        (Unsupported, "1:26", "CREATE TEMPORARY TABLE t AS SELECT 1", &["temporary view"]),
        (Syntax, "1:14", "CREATE TABLE a.b.c.d (a INT)", &["4 parts"]),
        (Unsupported, "1:8", "CREATE OR REPLACE TABLE t (a INT)", &["DROP"]),
        (Unsupported, "1:8", "CREATE FUNCTION f AS 'x'", &["CREATE FUNCTION"]),
        (Syntax, "1:8", "CREATE TABEL t (a INT)", &["did you mean TABLE?"]),
        (Syntax, "1:18", "CREATE TEMPORARY CATALOG c", &["VIEW or FUNCTION"]),
    ] {
        refused(kind, at, sql, parts);
    }
}

#[test]
fn types() {
    for (sql, printed) in [
        ("CHAR", "CHAR(1)"),
        ("CHARACTER VARYING(5)", "VARCHAR(5)"),
        ("VARCHAR", "VARCHAR(1)"),
        ("VARCHAR(2147483647)", "STRING"),
        ("BINARY", "BINARY(1)"),
        ("BINARY VARYING (3)", "VARBINARY(3)"),
        ("bytes", "BYTES"),
        ("DECIMAL", "DECIMAL(10, 0)"),
        ("DEC(5)", "DECIMAL(5, 0)"),
        ("NUMERIC(38, 38)", "DECIMAL(38, 38)"),
        ("INTEGER", "INT"),
        ("DOUBLE PRECISION", "DOUBLE"),
        ("TIME", "TIME(0)"),
        ("TIME(3) WITHOUT TIME ZONE", "TIME(3)"),
        ("TIMESTAMP", "TIMESTAMP(6)"),
        ("TIMESTAMP(9) WITHOUT TIME ZONE", "TIMESTAMP(9)"),
        ("TIMESTAMP WITH LOCAL TIME ZONE", "TIMESTAMP_LTZ(6)"),
        ("TIMESTAMP_LTZ(0) NOT NULL", "TIMESTAMP_LTZ(0) NOT NULL"),
        ("INT NOT NULL ARRAY NOT NULL", "ARRAY<INT NOT NULL> NOT NULL"),
        ("INT MULTISET ARRAY", "ARRAY<MULTISET<INT>>"),
        ("ROW(a INT, `b c` STRING 'it''s')", "ROW<`a` INT, `b c` STRING 'it''s'>"),
        ("MAP<INT, MAP<INT, ARRAY<ROW<a ARRAY<INT>>>>>", "MAP<INT, MAP<INT, ARRAY<ROW<`a` ARRAY<INT>>>>>"),
        ("INTERVAL YEAR TO MONTH", "INTERVAL MONTH"),
        ("INTERVAL DAY(2) TO SECOND(3)", "INTERVAL SECOND(3)"),
        ("INTERVAL MONTH", "INTERVAL MONTH"),
    ] {
        let ty = parse_type(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert_eq!(ty.to_string(), printed, "{sql}");
        assert_eq!(parse_type(printed).unwrap(), ty, "{printed}");
    }
    for (at, sql, part) in [
        ("1:9", "DECIMAL(39)", "between 1 and 38"),
        ("1:12", "DECIMAL(5, 6)", "between 0 and 5"),
        ("1:11", "TIMESTAMP(10)", "between 0 and 9"),
        ("1:6", "CHAR(0)", "between 1 and"),
        ("1:9", "VARCHAR(2147483648)", "between 1 and"),
        ("1:9", "VARCHAR(99999999999999999999999)", "length"),
        ("1:1", "TIMESTAMP WITH TIME ZONE", "TIMESTAMP_LTZ"),
        ("1:1", "RAW('a', 'b')", "RAW"),
        ("1:12", "ROW<a INT, a INT>", "twice"),
        ("1:4", "ROW<>", "found"),
        ("1:6", "ARRAY", "`<`"),
        ("1:10", "ARRAY<INT", "`>`"),
        ("1:4", "INT(3)", "end of the statement"),
        ("1:1", "NOTATYPE", "unknown type"),
        ("1:1", "", "a type"),
        ("1:18", "INTERVAL YEAR TO DAY", "MONTH"),
    ] {
        let e = parse_type(sql).unwrap_err();
        assert_eq!(e.location().unwrap().to_string(), at, "{sql}: {e}");
        assert!(e.to_string().contains(part), "{sql}: {e}");
    }
}
