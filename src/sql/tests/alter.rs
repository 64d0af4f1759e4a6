use super::{one, refused};
use crate::error::ErrorKind::{Syntax, Unsupported, Validation};
use crate::sql::ast::{
    Alter, Analyze, CatalogAction, ColumnKind, ColumnPosition, FunctionLanguage, Statement, TableAction,
    TableChange, TableElements, ViewAction,
};

fn alter(sql: &str) -> Alter {
    match one(sql) {
        Statement::Alter(a) => a,
        other => panic!("{sql}: {other:?}"),
    }
}

fn change(action: &str) -> TableChange {
    match alter(&format!("ALTER TABLE t {action}")) {
        Alter::Table { action: TableAction::Change(change), .. } => change,
        other => panic!("{action}: {other:?}"),
    }
}

fn added(action: &str) -> TableElements {
    match change(action) {
        TableChange::Add(elements) | TableChange::Modify(elements) => *elements,
        other => panic!("{action}: {other:?}"),
    }
}

#[test]
fn columns_and_their_places() {
    let e = added("ADD a INT");
    assert_eq!((e.columns[0].column.name.as_str(), &e.columns[0].position), ("a", &None));
    assert_eq!(e.columns[0].location.to_string(), "1:19");
    assert_eq!(added("ADD COLUMN a INT").columns[0].column, e.columns[0].column);
    let e = added("MODIFY a STRING NOT NULL COMMENT 'c' FIRST");
    assert_eq!(e.columns[0].position, Some(ColumnPosition::First));
    assert_eq!(e.columns[0].column.comment.as_deref(), Some("c"));
    assert!(!e.columns[0].column.ty.as_ref().unwrap().nullable);
    let e = added(
        "ADD (a AS `first` + 1 FIRST, b AS UPPER(s) COMMENT 'c' AFTER a, k STRING METADATA FROM 'key' VIRTUAL AFTER `x y`, \
         CONSTRAINT pk PRIMARY KEY (a, b) NOT ENFORCED, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND)",
    );
    let ColumnKind::Computed(expr) = &e.columns[0].column.kind else { panic!() };
    assert_eq!((expr.text.as_str(), &e.columns[0].position), ("`first` + 1", &Some(ColumnPosition::First)));
    assert!(matches!(&e.columns[1].position, Some(ColumnPosition::After(a, _)) if a == "a"));
    assert_eq!(e.columns[2].column.kind, ColumnKind::Metadata { key: "key".into(), read_only: true });
    assert!(matches!(&e.columns[2].position, Some(ColumnPosition::After(a, _)) if a == "x y"));
    let (key, at) = e.primary_key.unwrap();
    assert_eq!((key.name.as_deref(), key.columns.len()), (Some("pk"), 2));
    assert_eq!(at.line, 1);
    assert_eq!(e.watermark.unwrap().0.column, "ts");
    // The key of one column stands with it.
    let e = added("ADD a INT PRIMARY KEY NOT ENFORCED FIRST");
    assert_eq!(e.primary_key.unwrap().0.columns, ["a"]);
    assert_eq!(e.columns[0].position, Some(ColumnPosition::First));
    let e = added("MODIFY WATERMARK FOR ts AS ts");
    assert!(e.columns.is_empty() && e.watermark.is_some());
}

#[test]
fn everything_else_of_a_table() {
    let name = |n: &str| match alter(n) {
        Alter::Table { name, if_exists, action: TableAction::RenameTo(to) } => {
            (name.parts.join("."), if_exists, to.parts.join("."))
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(name("ALTER TABLE IF EXISTS a.b.c RENAME TO d.e"), ("a.b.c".into(), true, "d.e".into()));
    assert_eq!(name("alter table t rename to `to`"), ("t".into(), false, "to".into()));
    let TableChange::Set(options) = change("SET ('a' = 'b', 'c' = '')") else { panic!() };
    assert_eq!(options.len(), 2);
    let TableChange::Reset(keys) = change("RESET ('a', 'b')") else { panic!() };
    assert_eq!(keys.iter().map(|(k, at)| format!("{k} {at}")).collect::<Vec<_>>(), ["a 1:22", "b 1:27"]);
    let drop = |action: &str| match change(action) {
        TableChange::DropColumns(columns) => columns.into_iter().map(|(c, _)| c).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(drop("DROP a"), ["a"]);
    assert_eq!(drop("DROP COLUMN a"), ["a"]);
    assert_eq!(drop("DROP (a, `b c`)"), ["a", "b c"]);
    assert!(matches!(change("DROP PRIMARY KEY"), TableChange::DropPrimaryKey(_)));
    assert!(matches!(change("DROP WATERMARK"), TableChange::DropWatermark(_)));
    assert!(matches!(change("DROP CONSTRAINT c"), TableChange::DropConstraint(c, _) if c == "c"));
    let TableChange::RenameColumn { from, to } = change("RENAME a TO b") else { panic!() };
    assert_eq!((from.0.as_str(), to.0.as_str(), to.1.to_string().as_str()), ("a", "b", "1:27"));
}

#[test]
fn what_is_no_table() {
    assert!(matches!(
        alter("ALTER VIEW v RENAME TO w"),
        Alter::View { action: ViewAction::RenameTo(w), .. } if w.parts == ["w"]
    ));
    let Alter::View { action: ViewAction::As(query), .. } = alter("ALTER VIEW v AS SELECT a FROM t") else {
        panic!()
    };
    assert_eq!(query.text, "SELECT a FROM t");
    assert!(matches!(
        alter("ALTER DATABASE c.d SET ('a' = 'b')"),
        Alter::Database { name, .. } if name.parts == ["c", "d"]
    ));
    let catalog = |sql: &str| match alter(sql) {
        Alter::Catalog { action, .. } => action,
        other => panic!("{other:?}"),
    };
    assert!(matches!(catalog("ALTER CATALOG c SET ('a' = 'b')"), CatalogAction::Set(o) if o.len() == 1));
    assert!(matches!(catalog("ALTER CATALOG c RESET ('a')"), CatalogAction::Reset(k) if k.len() == 1));
    assert_eq!(catalog("ALTER CATALOG c COMMENT 'x'"), CatalogAction::Comment("x".into()));
    let Alter::Function { function, if_exists } =
        alter("ALTER TEMPORARY SYSTEM FUNCTION IF EXISTS f(x INT) RETURNS INT LANGUAGE SQL AS $$ x $$")
    else {
        panic!()
    };
    assert!(if_exists && function.system && function.temporary);
    assert_eq!(function.language, FunctionLanguage::Sql);
    assert_eq!(
        function.text,
        "CREATE TEMPORARY SYSTEM FUNCTION f(x INT) RETURNS INT LANGUAGE SQL AS $$ x $$"
    );
    let analyze = |sql: &str| match one(sql) {
        Statement::Analyze(a) => a,
        other => panic!("{other:?}"),
    };
    let Analyze { table, partition, columns } =
        analyze("ANALYZE TABLE a.t PARTITION (p = 'x', q) COMPUTE STATISTICS FOR COLUMNS c, d");
    assert_eq!((table.parts.len(), partition.len(), columns.len()), (2, 2, 2));
    assert!(analyze("ANALYZE TABLE t COMPUTE STATISTICS").columns.is_empty());
    assert!(analyze("ANALYZE TABLE t COMPUTE STATISTICS FOR ALL COLUMNS").columns.is_empty());
}

#[test]
fn mistakes() {
    refused(Syntax, "1:7", "ALTER t ADD a INT", &["TABLE, VIEW, DATABASE, CATALOG or FUNCTION"]);
    refused(Syntax, "1:14", "ALTER TABLE t", &["RENAME, SET, RESET, ADD, MODIFY or DROP"]);
    refused(Syntax, "1:15", "ALTER TABLE t MODFY a INT", &["did you mean MODIFY?"]);
    refused(Syntax, "1:20", "ALTER TABLE t ADD a", &["a type"]);
    refused(Syntax, "1:20", "ALTER TABLE t ADD (a, b)", &["`a` has no type"]);
    refused(Syntax, "1:25", "ALTER TABLE t ADD a INT BEFORE b", &["FIRST, AFTER column"]);
    refused(Syntax, "1:30", "ALTER TABLE t ADD a INT AFTER", &["the column before it"]);
    refused(Syntax, "1:22", "ALTER TABLE t RESET (a)", &["single quotes"]);
    refused(Validation, "1:21", "ALTER TABLE t RESET ()", &["at least one key"]);
    refused(Validation, "1:29", "ALTER TABLE t SET ('a'='b', 'a'='c')", &["set twice"]);
    refused(Unsupported, "1:19", "ALTER TABLE t ADD r.a INT", &["a field of a row", "MODIFY r ROW<"]);
    refused(Unsupported, "1:20", "ALTER TABLE t DROP r.a", &["a field of a row"]);
    refused(Unsupported, "1:19", "ALTER TABLE t ADD PARTITION (p = 'x')", &["need no declaration"]);
    refused(Unsupported, "1:20", "ALTER TABLE t DROP PARTITION (p = 'x')", &["DELETE FROM t"]);
    refused(Unsupported, "1:19", "ALTER TABLE t ADD DISTRIBUTION BY (a)", &["DISTRIBUTION"]);
    let twice = "ALTER TABLE t ADD (WATERMARK FOR a AS a, WATERMARK FOR b AS b)";
    refused(Validation, "1:42", twice, &["at most one watermark"]);
    let twice = "ALTER TABLE t ADD (a INT PRIMARY KEY NOT ENFORCED, PRIMARY KEY (b) NOT ENFORCED)";
    refused(Validation, "1:52", twice, &["at most one primary key"]);
    refused(Syntax, "1:14", "ALTER VIEW v (a) AS SELECT 1", &["expected RENAME or AS", "of its new query"]);
    refused(Syntax, "1:15", "ALTER VIEW IF EXISTS v AS SELECT 1", &[]);
    refused(Unsupported, "1:17", "ALTER TEMPORARY VIEW v AS SELECT 1", &["DROP TEMPORARY VIEW"]);
    refused(Unsupported, "1:7", "ALTER MODEL m RENAME TO n", &["ALTER MODEL"]);
    refused(Unsupported, "1:7", "ALTER FUNCTION f AS 'org.X'", &["a Java class", "LANGUAGE"]);
    refused(Syntax, "1:7", "ALTER SYSTEM FUNCTION f(a INT) RETURNS INT LANGUAGE SQL AS 'a'", &["TEMPORARY"]);
    refused(Syntax, "1:18", "ALTER DATABASE d RESET ('a')", &["expected SET"]);
    refused(Unsupported, "1:9", "ANALYZE TABLES COMPUTE STATISTICS", &["never out of date"]);
    refused(Syntax, "1:17", "ANALYZE TABLE t STATISTICS", &["COMPUTE"]);
}
