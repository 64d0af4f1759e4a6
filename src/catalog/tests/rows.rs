use super::{fails, manager, ok};

const TABLE: &str = "CREATE TABLE t (id INT NOT NULL, name STRING COMMENT 'the ''name''', ts TIMESTAMP(3), k STRING METADATA FROM 'key' VIRTUAL, \
    tp STRING METADATA, cost AS id * 2 COMMENT 'double', pt AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND, \
    PRIMARY KEY (id, name) NOT ENFORCED)";

#[test]
fn describe_as_flink() {
    let m = manager();
    ok(&m, TABLE);
    let all = [
        "id|INT|false|PRI(id, name)|-|-|-",
        "name|STRING|false|PRI(id, name)|-|-|the 'name'",
        "ts|TIMESTAMP(3) *ROWTIME*|true|-|-|`ts` - INTERVAL '5' SECOND|-",
        "k|STRING|true|-|METADATA FROM 'key' VIRTUAL|-|-",
        "tp|STRING|true|-|METADATA|-|-",
        "cost|INT|true|-|AS `id` * 2|-|double",
        "pt|TIMESTAMP_LTZ(3) *PROCTIME*|false|-|AS PROCTIME()|-|-",
    ];
    assert_eq!(ok(&m, "DESCRIBE t"), all);
    assert_eq!(ok(&m, "DESC TABLE t"), all);
    assert_eq!(ok(&m, "SHOW COLUMNS FROM t"), all);
    // The comment column is there only if a row has one.
    assert_eq!(
        ok(&m, "SHOW COLUMNS IN t LIKE 't_'"),
        [&all[2][..all[2].len() - 2], &all[4][..all[4].len() - 2]]
    );
    ok(&m, "CREATE VIEW v (x) AS SELECT 1");
    assert_eq!(ok(&m, "DESCRIBE v"), ["x|INT|false|-|-|-", "b|STRING|true|-|-|-"]);
}

#[test]
fn patterns() {
    let m = manager();
    ok(
        &m,
        "CREATE TABLE abc (a INT); CREATE TABLE a_c (a INT); CREATE TABLE `A%C` (a INT); CREATE TABLE `a.c` (a INT)",
    );
    for (pattern, names) in [
        ("LIKE 'a_c'", &["a.c", "a_c", "abc"][..]),
        (r"LIKE 'a\_c'", &["a_c"]),
        ("LIKE '%c'", &["a.c", "a_c", "abc"]),
        (r"ILIKE 'a\%c'", &["A%C"]),
        ("ILIKE 'a%'", &["A%C", "a.c", "a_c", "abc"]),
        ("NOT LIKE 'a%'", &["A%C"]),
        ("LIKE ''", &[]),
        (r"LIKE 'a\'", &[]),
    ] {
        assert_eq!(ok(&m, &format!("SHOW TABLES {pattern}")), names, "{pattern}");
    }
    assert_eq!(ok(&m, "SHOW FUNCTIONS"), ["AVG", "SUM"]);
    assert_eq!(ok(&m, "SHOW FUNCTIONS LIKE 'S%'"), ["SUM"]);
    assert_eq!(ok(&m, "SHOW USER FUNCTIONS"), [""; 0]);
}

#[test]
fn show_create_reads_back() {
    let m = manager();
    for sql in [
        TABLE,
        "CREATE TEMPORARY TABLE t (a INT) WITH ('connector' = 'x', 'it''s' = 'o''k')",
        "CREATE TABLE t (`a``b` ROW<`x y` INT NOT NULL 'c', z ARRAY<MAP<STRING, BYTES NOT NULL>>> NOT NULL, `select` MULTISET<CHAR(3)>) COMMENT 'ü'",
        "CREATE TABLE t (a DECIMAL(38, 38), b TIME(3), c TIMESTAMP_LTZ(3), d VARBINARY(7), e TIMESTAMP, f DOUBLE PRECISION, g INTERVAL DAY TO SECOND(3)) PARTITIONED BY (a, b)",
    ] {
        ok(&m, sql);
        let first = ok(&m, "SHOW CREATE TABLE t")[0].clone();
        let kind = if first.starts_with("CREATE TEMPORARY") { "TEMPORARY TABLE" } else { "TABLE" };
        ok(&m, &format!("DROP {kind} t"));
        ok(&m, &first);
        assert_eq!(ok(&m, "SHOW CREATE TABLE t")[0], first);
        ok(&m, &format!("DROP {kind} t"));
    }
    ok(&m, "CREATE TEMPORARY VIEW v (a, `b c`) COMMENT 'it''s' AS SELECT 1 AS x, '--' FROM t -- end\n");
    let first = ok(&m, "SHOW CREATE VIEW v")[0].clone();
    assert_eq!(
        first,
        "CREATE TEMPORARY VIEW `default_catalog`.`default_database`.`v` (\n  `a`,\n  `b c`\n)\nCOMMENT 'it''s'\nAS SELECT 1 AS x, '--' FROM t\n"
    );
    ok(&m, "DROP TEMPORARY VIEW v");
    ok(&m, &first);
    fails(&m, "SHOW CREATE TABLE v", &["SHOW CREATE VIEW"]);
    ok(&m, TABLE);
    fails(&m, "SHOW CREATE VIEW t", &["SHOW CREATE TABLE"]);
}

#[test]
fn secrets_are_masked() {
    let m = manager();
    ok(&m, "CREATE TABLE t (a INT) WITH ('connector' = 'x', 'properties.sasl.jaas.config' = 'hunter2')");
    ok(&m, "CREATE VIEW v AS SELECT * FROM t /*+ OPTIONS('password' = 'hunter2', 'x' = 'y') */");
    ok(&m, "CREATE DATABASE d WITH ('secret' = 'hunter2')");
    for sql in ["SHOW CREATE TABLE t", "SHOW CREATE VIEW v", "DESCRIBE DATABASE d"] {
        let all = ok(&m, sql).join("\n");
        assert!(!all.contains("hunter2"), "{all}");
        assert!(all.contains("******"), "{all}");
    }
}

#[test]
fn catalogs_and_databases() {
    let m = manager();
    ok(&m, "CREATE CATALOG c1 COMMENT 'cc' WITH ('type'='generic_in_memory', 'default-database'='d1')");
    assert_eq!(
        ok(&m, "SHOW CREATE CATALOG c1"),
        [
            "CREATE CATALOG `c1`\nCOMMENT 'cc'\nWITH (\n  'default-database' = 'd1',\n  'type' = 'generic_in_memory'\n)\n"
        ]
    );
    assert_eq!(
        ok(&m, "DESCRIBE CATALOG c1"),
        ["name|c1", "type|generic_in_memory", "comment|cc", "option:default-database|d1"]
    );
    ok(&m, "CREATE DATABASE c1.d2 COMMENT 'ddd' WITH ('a' = 'b')");
    assert_eq!(ok(&m, "DESCRIBE DATABASE c1.d2"), ["catalog|c1", "name|d2", "comment|ddd", "option:a|b"]);
    assert_eq!(ok(&m, "SHOW CATALOGS LIKE 'c%'"), ["c1"]);
    fails(&m, "DESCRIBE CATALOG c2", &["`c2` does not exist"]);
    fails(&m, "DESCRIBE DATABASE c1.nope", &["`nope` does not exist"]);
    fails(&m, "SHOW CREATE CATALOG c2", &["`c2` does not exist"]);
}
