use super::{one, refused};
use crate::error::ErrorKind::{Syntax, Unsupported, Validation};
use crate::sql::ast::{CreateFunction, FunctionLanguage, Returns, Show, Statement};
use crate::sql::{parse_body_expr, parse_body_query};

fn created(sql: &str) -> CreateFunction {
    match one(sql) {
        Statement::CreateFunction(f) => *f,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_clause() {
    let f = created(
        "CREATE TEMPORARY SYSTEM FUNCTION IF NOT EXISTS f(a INT, `b` STRING NOT NULL) RETURNS BIGINT NOT DETERMINISTIC \
         LANGUAGE JAVASCRIPT RETURNS NULL ON NULL INPUT COMMENT 'c' AS $$ x; -- 'y' $$ WITH ('timeout' = '1 s')",
    );
    assert!(f.temporary && f.system && f.if_not_exists && f.strict && !f.deterministic && !f.aggregate);
    let parameters: Vec<String> = f.parameters.iter().map(|p| format!("{} {}", p.name, p.ty)).collect();
    assert_eq!(parameters, ["a INT", "b STRING NOT NULL"]);
    assert_eq!((f.body.as_str(), f.language), (" x; -- 'y' ", FunctionLanguage::JavaScript));
    assert_eq!(f.options.get("timeout").map(String::as_str), Some("1 s"));
    assert_eq!(f.comment.as_deref(), Some("c"));

    let f = created(
        "CREATE AGGREGATE FUNCTION c.d.f(a INT) RETURNS INT CALLED ON NULL INPUT DETERMINISTIC LANGUAGE PYTHON AS 'it''s'",
    );
    assert!(f.aggregate && f.deterministic && !f.strict && !f.temporary);
    assert_eq!((f.name.parts.len(), f.body.as_str()), (3, "it's"));

    let f = created(
        "CREATE FUNCTION f() RETURNS TABLE (x INT, y ARRAY<INT>) LANGUAGE SQL AS $q$ SELECT '$$', ARRAY[1] $q$",
    );
    assert!(f.parameters.is_empty());
    assert!(matches!(&f.returns, Returns::Table(columns) if columns.len() == 2));
    assert_eq!((f.body.as_str(), f.body_location.to_string().as_str()), (" SELECT '$$', ARRAY[1] ", "1:76"));
    assert!(matches!(one("SHOW CREATE FUNCTION f"), Statement::Show(Show::CreateFunction(_))));
    let dropped = one("DROP TEMPORARY SYSTEM FUNCTION IF EXISTS f");
    assert!(matches!(
        dropped,
        Statement::DropFunction { if_exists: true, temporary: true, system: true, .. }
    ));
}

#[test]
fn dollars_are_texts_behind_as_alone() {
    one("SELECT 1 AS $x");
    one("SELECT $a$ FROM t");
    refused(
        Syntax,
        "1:58",
        "CREATE FUNCTION f(a INT) RETURNS INT LANGUAGE SQL AS     $$ a $",
        &["does not end", "$$"],
    );
}

#[test]
fn what_is_refused() {
    for (kind, sql, parts) in [
        (Syntax, "CREATE FUNCTION f RETURNS INT", &["parameters"][..]),
        (Syntax, "CREATE FUNCTION f(a INT) LANGUAGE SQL AS 'a'", &["RETURNS"]),
        (Syntax, "CREATE FUNCTION f(a INT) RETURNS INT AS 'a'", &["LANGUAGE"]),
        (Syntax, "CREATE FUNCTION f(a INT) RETURNS INT LANGUAGE SQL LANGUAGE SQL AS 'a'", &["twice"]),
        (Unsupported, "CREATE FUNCTION f(a INT) RETURNS INT LANGUAGE JAVA AS 'a'", &["JAVA", "PYTHON"]),
        (Syntax, "CREATE FUNCTION f(a INT) RETURNS INT LANGUAGE PYTON AS 'a'", &["did you mean PYTHON?"]),
        (Syntax, "CREATE SYSTEM FUNCTION f(a INT) RETURNS INT LANGUAGE SQL AS 'a'", &["TEMPORARY"]),
        (Validation, "CREATE FUNCTION f(a INT) RETURNS TABLE () LANGUAGE SQL AS 'a'", &["one column"]),
        (Syntax, "CREATE FUNCTION f(a INT) RETURNS INT LANGUAGE SQL AS 1", &["body"]),
        (Unsupported, "CREATE FUNCTION f AS 'x.Y' LANGUAGE JAVA", &["Java class"]),
    ] {
        let e = crate::sql::parse_script(sql).unwrap_err();
        assert_eq!(e.kind(), kind, "{sql}: {e}");
        assert!(e.location().is_some(), "{sql}");
        for part in parts {
            assert!(e.to_string().contains(part), "{sql}: {e}");
        }
    }
}

#[test]
fn places_in_bodies_are_those_of_the_script() {
    let f = created("CREATE FUNCTION f(a INT) RETURNS INT\n  LANGUAGE SQL AS $$\n  a + $$");
    let e = parse_body_expr(&f.body, f.body_location).unwrap_err();
    assert_eq!(e.location().map(|l| l.line), Some(3), "{e}");
    let e = parse_body_query("SELECT 1 FROM", f.body_location).unwrap_err();
    assert_eq!(e.location().map(|l| l.line), Some(2), "{e}");
    assert!(parse_body_query("SELECT 1;", f.body_location).is_ok());
}
