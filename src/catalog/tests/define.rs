use super::{fails, manager, ok};

const SOURCE: &str = "CREATE TABLE t (id INT, name STRING COMMENT 'n', ts TIMESTAMP(3), k STRING METADATA FROM 'key' VIRTUAL, \
    cost AS id * 2, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND, PRIMARY KEY (id) NOT ENFORCED) \
    COMMENT 'c' PARTITIONED BY (name) WITH ('connector' = 'x', 'a' = '1');";

#[test]
fn definitions_are_checked() {
    for (at, sql, parts) in [
        ("1:14", "CREATE TABLE t (id INT, id STRING)", &["`id` appears twice"][..]),
        ("1:14", "CREATE TABLE t (a AS 1)", &["not computed"]),
        (
            "1:35",
            "CREATE TABLE t (id INT, x AS id + y, y AS 1)",
            &["computed column `x` uses the computed column `y`"],
        ),
        ("1:30", "CREATE TABLE t (id INT, x AS x + 1)", &["uses the computed column `x`"]),
        ("1:30", "CREATE TABLE t (id INT, x AS (SELECT 1))", &["holds a query"]),
        (
            "1:62",
            "CREATE TABLE t (id INT, ts TIMESTAMP(6), WATERMARK FOR ts AS ts)",
            &["TIMESTAMP(6)", "TIMESTAMP(3)"],
        ),
        ("1:48", "CREATE TABLE t (ts STRING, WATERMARK FOR ts AS ts)", &["STRING"]),
        (
            "1:54",
            "CREATE TABLE t (Ts TIMESTAMP(3), WATERMARK FOR ts AS ts)",
            &["no column", "did you mean `Ts`"],
        ),
        ("1:63", "CREATE TABLE t (id INT, pt AS PROCTIME(), WATERMARK FOR pt AS pt)", &["processing-time"]),
        ("1:14", "CREATE TABLE t (id INT, x AS id, PRIMARY KEY (x) NOT ENFORCED)", &["`x` is not physical"]),
        ("1:14", "CREATE TABLE t (id INT, PRIMARY KEY (z) NOT ENFORCED)", &["`z`", "columns are id"]),
        ("1:14", "CREATE TABLE t (id INT, PRIMARY KEY (id, id) NOT ENFORCED)", &["twice"]),
        ("1:41", "CREATE TABLE t (id INT) PARTITIONED BY (zz)", &["`zz`"]),
        ("1:50", "CREATE TABLE t (id INT, x AS id) PARTITIONED BY (x)", &["not physical"]),
        ("1:50", "CREATE TABLE t (ts TIMESTAMP(3)) PARTITIONED BY (days(ts))", &["Iceberg"]),
        ("1:14", "CREATE TABLE a.b.c (id INT)", &["catalog `a` does not exist"]),
        ("1:14", "CREATE TABLE nope.c (id INT)", &["database `nope` does not exist"]),
    ] {
        let e = fails(&manager(), sql, parts);
        assert_eq!(e.location().map(|l| l.to_string()).as_deref(), Some(at), "{sql}: {e}");
    }
}

#[test]
fn key_columns_are_not_null() {
    let m = manager();
    ok(&m, "CREATE TABLE t (a INT PRIMARY KEY NOT ENFORCED, b INT)");
    assert_eq!(ok(&m, "DESCRIBE t"), ["a|INT|false|PRI(a)|-|-", "b|INT|true|-|-|-"]);
}

#[test]
fn like_takes_everything_by_default() {
    let m = manager();
    ok(&m, SOURCE);
    ok(&m, "CREATE TABLE u (extra AS id + 1) WITH ('a' = '2', 'b' = '3') LIKE t");
    assert_eq!(
        ok(&m, "SHOW CREATE TABLE u")[0],
        "CREATE TABLE `default_catalog`.`default_database`.`u` (\n  `id` INT NOT NULL,\n  `name` VARCHAR(2147483647) COMMENT 'n',\n  \
         `ts` TIMESTAMP(3),\n  `k` VARCHAR(2147483647) METADATA FROM 'key' VIRTUAL,\n  `cost` AS `id` * 2,\n  `extra` AS `id` + 1,\n  \
         WATERMARK FOR `ts` AS `ts` - INTERVAL '5' SECOND,\n  CONSTRAINT `PK_id` PRIMARY KEY (`id`) NOT ENFORCED\n)\n\
         PARTITIONED BY (`name`)\nWITH (\n  'a' = '2',\n  'b' = '3',\n  'connector' = 'x'\n)\n"
    );
}

#[test]
fn like_options() {
    let m = manager();
    ok(&m, SOURCE);
    ok(&m, "CREATE TABLE v WITH ('connector' = 'y') LIKE t (EXCLUDING ALL INCLUDING GENERATED)");
    assert_eq!(
        ok(&m, "SHOW CREATE TABLE v")[0],
        "CREATE TABLE `default_catalog`.`default_database`.`v` (\n  `id` INT NOT NULL,\n  `name` VARCHAR(2147483647) COMMENT 'n',\n  \
         `ts` TIMESTAMP(3),\n  `cost` AS `id` * 2\n)\nWITH (\n  'connector' = 'y'\n)\n"
    );
    ok(
        &m,
        "CREATE TABLE w (cost AS id * 3, WATERMARK FOR ts AS ts) LIKE t (OVERWRITING GENERATED OVERWRITING WATERMARKS)",
    );
    assert!(
        ok(&m, "SHOW CREATE TABLE w")[0].contains("`cost` AS `id` * 3,\n  WATERMARK FOR `ts` AS `ts`,\n")
    );
    for (sql, part) in [
        ("CREATE TABLE x (id BIGINT) LIKE t", "has a column `id` already"),
        ("CREATE TABLE x (cost AS id * 3) LIKE t", "OVERWRITING GENERATED"),
        ("CREATE TABLE x (k STRING METADATA) LIKE t", "OVERWRITING METADATA"),
        ("CREATE TABLE x (cost INT METADATA) LIKE t", "rename it"),
        ("CREATE TABLE x (c INT, PRIMARY KEY (c) NOT ENFORCED) LIKE t", "EXCLUDING CONSTRAINTS"),
        ("CREATE TABLE x (WATERMARK FOR ts AS ts) LIKE t", "OVERWRITING WATERMARKS"),
        ("CREATE TABLE x PARTITIONED BY (id) LIKE t", "EXCLUDING PARTITIONS"),
        ("CREATE TABLE x WITH ('a' = '2') LIKE t (INCLUDING ALL)", "OVERWRITING OPTIONS"),
        ("CREATE TABLE x LIKE nope", "`nope` does not exist"),
        ("CREATE TABLE x LIKE T", "did you mean `t`?"),
        ("CREATE VIEW vv AS SELECT 1; CREATE TABLE x LIKE vv", "LIKE takes a table"),
    ] {
        fails(&m, sql, &[part]);
    }
}

#[test]
fn tables_of_queries() {
    let m = manager();
    let text = |sql: &str, name: &str| {
        ok(&m, sql);
        let all = ok(&m, &format!("SHOW CREATE TABLE {name}"))[0].clone();
        all.lines()
            .filter(|l| l.starts_with("  "))
            .map(|l| l.trim().trim_end_matches(',').to_owned())
            .collect::<Vec<_>>()
    };
    // New columns come before the query's.
    assert_eq!(
        text("CREATE TABLE a (x INT, c AS id + 1) AS SELECT 1", "a"),
        ["`x` INT", "`c` AS `id` + 1", "`id` INT NOT NULL", "`b` VARCHAR(2147483647)"]
    );
    assert_eq!(
        text("CREATE TABLE b (b, id) AS SELECT 1", "b"),
        ["`b` VARCHAR(2147483647)", "`id` INT NOT NULL"]
    );
    assert_eq!(
        text("CREATE TABLE c (id BIGINT, PRIMARY KEY (id) NOT ENFORCED) AS SELECT 1", "c"),
        [
            "`id` BIGINT NOT NULL",
            "`b` VARCHAR(2147483647)",
            "CONSTRAINT `PK_id` PRIMARY KEY (`id`) NOT ENFORCED"
        ]
    );
    fails(&m, "CREATE TABLE d (b) AS SELECT 1", &["1 names", "2 columns"]);
    fails(&m, "CREATE TABLE d (b, ID) AS SELECT 1", &["no column `ID`", "did you mean `id`?"]);
    fails(&m, "CREATE TABLE d (b AS 1) AS SELECT 1", &["`b` is computed or metadata"]);
}
