use super::{all, fails, one, refused};
use crate::error::ErrorKind::Syntax;
use crate::sql::ast::Statement;
use crate::sql::parse_expr;

/// The string a literal stands for.
fn literal(sql: &str) -> String {
    use datafusion::sql::sqlparser::ast::{Expr, Value};
    match parse_expr(sql).unwrap_or_else(|e| panic!("{sql}: {e}")).expr {
        Expr::Value(v) => match v.value {
            Value::SingleQuotedString(s) | Value::HexStringLiteral(s) => s,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn strings() {
    for (sql, value) in [
        ("''", ""),
        ("'a''b'", "a'b"),
        (r"'a\nb\'", r"a\nb\"),
        ("'a;b -- c /* d'", "a;b -- c /* d"),
        ("'a\nb'", "a\nb"),
        ("'a'\n  'b' -- x\n 'c'", "abc"),
        (r"U&'\00e9\d83d\de00 \\'", "é😀 \\"),
        ("u&'!00e9!!' UESCAPE '!'", "é!"),
        (r"E'a\tb\n\x41\101\u00e9\U0001F600\'\\q\q'", "a\tb\nAA\u{e9}😀'\\qq"),
        ("e'it''s'", "it's"),
        ("N'abc'", "abc"),
        ("X'0a FF'", "0aFF"),
        ("'日本'", "日本"),
    ] {
        assert_eq!(literal(sql), value, "{sql}");
    }
}

#[test]
fn bad_literals_point_at_their_opening() {
    for (at, sql, part) in [
        ("1:8", "SELECT 'abc", "does not end"),
        ("2:3", "SELECT\n  'abc;\nSELECT 1;", "does not end"),
        ("1:8", "SELECT `abc", "does not end"),
        ("1:10", "SELECT 1 /* abc ; '", "does not end"),
        ("1:8", "SELECT E'abc\\'", "does not end"),
        ("1:8", "SELECT ``", "empty name"),
        ("1:8", "SELECT X'0'", "even number"),
        ("1:8", "SELECT X'0g'", "even number"),
        ("1:8", r"SELECT U&'\00g0'", "Unicode escape"),
        ("1:8", r"SELECT U&'\12'", "Unicode escape"),
        ("1:8", r"SELECT U&'\d83d'", "surrogate"),
        ("1:19", "SELECT U&'!0041!' UESCAPE 'ab'", "one character"),
        ("1:8", r"SELECT E'\u12'", "four hexadecimal"),
        ("1:8", r"SELECT E'\U00110000'", "no Unicode character"),
        ("1:12", "SELECT 'a' 'b'", "side by side"),
        ("1:8", "SELECT \"a\"", "backticks"),
        ("1:10", "SELECT a != b", "write <>"),
        ("1:9", "SELECT a::INT", "CAST"),
        ("1:10", "SELECT a & b", "bitwise"),
        ("1:12", "SELECT a = ?", "parameters"),
        ("1:8", "SELECT ‘a’", "plain single quotes"),
    ] {
        refused(Syntax, at, sql, &[part]);
    }
}

#[test]
fn statements_are_split_and_placed() {
    let script = "-- first\n/* c; */ SELECT ';' ; ;\r\n\tSHOW TABLES;\nSELECT `a;b`\nFROM t -- ; end\n; // x ; y\nSELECT 1";
    let found: Vec<_> = all(script).iter().map(|s| (s.location.to_string(), s.text.clone())).collect();
    let expected = [
        ("2:10", "SELECT ';'"),
        ("3:2", "SHOW TABLES"),
        ("4:1", "SELECT `a;b`\nFROM t"),
        ("7:1", "SELECT 1"),
    ];
    assert_eq!(found, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
}

#[test]
fn nothing_is_no_statement() {
    for sql in
        ["", "  \n\t", ";", ";;\n;", "-- only\n", "-- only", "/* only */", "/**/", "\u{feff}", "\r\n\r\n"]
    {
        assert!(all(sql).is_empty(), "{sql:?}");
    }
    assert_eq!(all("\u{feff}SELECT 1")[0].location.to_string(), "1:1");
}

#[test]
fn statement_sets_are_one_statement() {
    let set = "EXECUTE STATEMENT SET BEGIN\nINSERT INTO a SELECT CASE WHEN x THEN 1 END FROM t;\nINSERT INTO b SELECT 1;\nEND";
    let script = format!("SELECT 1;\n{set};\nSELECT 2");
    let statements = all(&script);
    assert_eq!(statements.len(), 3);
    assert_eq!(statements[1].text, set);
    let Statement::StatementSet(inserts) = &statements[1].statement else { panic!() };
    assert_eq!(inserts.len(), 2);
    assert_eq!(inserts[1].query.location.to_string(), "4:15");

    assert!(
        matches!(one("BEGIN STATEMENT SET; INSERT INTO a SELECT 1; END;"), Statement::StatementSet(i) if i.len() == 1)
    );
    refused(
        Syntax,
        "1:1",
        "EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT 1; SELECT 2;",
        &["does not end", "END;"],
    );
    refused(Syntax, "1:1", "EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT 1 END;", &["does not end"]);
    refused(Syntax, "1:29", "EXECUTE STATEMENT SET BEGIN SELECT 1; END;", &["expected INSERT"]);
    refused(Syntax, "1:29", "EXECUTE STATEMENT SET BEGIN END;", &["expected INSERT"]);
}

#[test]
fn places_count_characters_in_the_whole_script() {
    // Behind wide characters, tabs and several statements.
    let e = fails("SELECT 1;\nSELECT '日本',\t`ü` FROM\n  t WHERE\n  ,");
    assert_eq!(e.location().unwrap().to_string(), "4:3");
    let e = fails("SELECT 1;\r\nCREATE TABLE t (\r\n  a INT,\r\n  b TEXT\r\n);");
    assert_eq!(e.location().unwrap().to_string(), "4:5");
}

#[test]
fn deep_nesting_is_an_error_and_not_a_crash() {
    for sql in [
        format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000)),
        format!("SELECT * FROM {}t{}", "(SELECT * FROM ".repeat(2000), ")".repeat(2000)),
        format!("CREATE TABLE t (a {}INT{})", "ARRAY<".repeat(3000), ">".repeat(3000)),
        format!("SELECT CAST(x AS {}INT{})", "ROW<a ".repeat(3000), ">".repeat(3000)),
        format!("SELECT {}1", "NOT ".repeat(5000)),
    ] {
        assert_eq!(fails(&sql).kind(), Syntax);
    }
    // Long is not deep.
    let sql = format!("SELECT * FROM t WHERE {}a = 1", "a = 1 OR ".repeat(3000));
    one(&sql);
}

/// Every statement and query of the project's own SQL files parses, unless its file says that it fails.
#[test]
fn sql_files_of_the_project_parse() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    for entry in std::fs::read_dir(root.join("sql-tests")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "slt") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for record in text.split("\n\n") {
            let lines: Vec<&str> = record
                .lines()
                .skip_while(|l| !l.starts_with("query") && !l.starts_with("statement ok"))
                .collect();
            let Some((_, rest)) = lines.split_first() else { continue };
            let sql: Vec<&str> = rest.iter().take_while(|l| **l != "----").copied().collect();
            let sql = sql.join("\n");
            if let Err(e) = crate::sql::parse_script(&sql) {
                panic!("{}: {}", path.display(), crate::sql::render_error(&e, "", &sql));
            }
            seen += 1;
        }
    }
    assert!(seen > 0);
    let file = "data/quickstart.sql";
    let text = std::fs::read_to_string(root.join(file)).unwrap();
    crate::sql::parse_script(&text)
        .unwrap_or_else(|e| panic!("{}", crate::sql::render_error(&e, file, &text)));
}

/// Scripts cut off anywhere, and with any one token left out, give an error or a statement, never a panic.
#[test]
fn damaged_scripts() {
    let scripts = [
        "CREATE TEMPORARY TABLE IF NOT EXISTS a.`b` (id BIGINT NOT NULL COMMENT 'x', k STRING METADATA FROM 'key' VIRTUAL, c AS CAST(id AS DECIMAL(3, 1)), r ROW<x ARRAY<INT>>, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND, PRIMARY KEY (id) NOT ENFORCED) COMMENT 'c' PARTITIONED BY (id, bucket(3, k)) WITH ('a' = 'b') LIKE s (EXCLUDING ALL INCLUDING OPTIONS);",
        "WITH x AS (SELECT a, MAP['k', 1]['k'], E'\\n', U&'\\00e9' FROM t /*+ OPTIONS('a'='b') */ AS u) SELECT DISTINCT CASE WHEN a THEN 'ü' END, SUM(b) OVER (PARTITION BY c ORDER BY d ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM x LEFT JOIN UNNEST(arr) AS y (z) ON TRUE, TABLE(HOP(DATA => TABLE t, TIMECOL => DESCRIPTOR(ts), SLIDE => INTERVAL '1' MINUTE, SIZE => INTERVAL '5' MINUTE)) WHERE a IN (SELECT 1) GROUP BY GROUPING SETS ((a), ()) HAVING COUNT(*) > 1 ORDER BY 1 DESC NULLS LAST LIMIT 3",
        "EXECUTE STATEMENT SET BEGIN INSERT INTO t /*+ OPTIONS('a'='b') */ PARTITION (p = 1) (a, b) VALUES (1, 'x'); INSERT OVERWRITE u SELECT * FROM v; END; SHOW TABLES FROM d NOT LIKE 'x'; SET 'a' = 'b'; EXPLAIN CHANGELOG_MODE, ESTIMATED_COST SELECT 1; DROP DATABASE IF EXISTS d CASCADE",
    ];
    let check = |sql: &str| {
        if let Err(e) = crate::sql::parse_script(sql) {
            assert!(e.location().is_some(), "{sql}\n{e}");
            assert_ne!(e.kind(), crate::error::ErrorKind::Internal, "{sql}\n{e}");
            crate::sql::render_error(&e, "f", sql);
        }
        crate::sql::format_expr(sql);
    };
    for script in scripts {
        all(script);
        for (i, _) in script.char_indices() {
            check(&script[..i]);
            check(&script[i..]);
        }
        let tokens = crate::sql::lexer::tokenize(script).unwrap();
        for (i, a) in tokens.iter().enumerate() {
            check(&format!("{} {}", &script[..a.lo], &script[a.hi..]));
            if let Some(b) = tokens.get(i + 1) {
                // Neighbours swapped.
                check(&format!(
                    "{} {} {} {}",
                    &script[..a.lo],
                    &script[b.lo..b.hi],
                    &script[a.lo..a.hi],
                    &script[b.hi..]
                ));
            }
        }
    }
}
