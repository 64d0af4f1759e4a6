use super::fails;
use crate::error::{Error, Location};
use crate::sql::render_error;

fn rendered(sql: &str) -> String {
    render_error(&fails(sql), "q.sql", sql)
}

#[test]
fn golden() {
    insta::assert_snapshot!(rendered("SELECT 1;\nCREATE TABLE t (\n  a INT,\n  b TEXT\n);"), @r"
    error: q.sql:4:5: unknown type `TEXT`; did you mean STRING?
      4 |   b TEXT
        |     ^~~~
    ");
    insta::assert_snapshot!(rendered("SELECT a,\nFROM t"), @r"
    error: q.sql:2:1: expected an expression, found `FROM`
      2 | FROM t
        | ^~~~
    ");
    insta::assert_snapshot!(rendered("SELECT * FROM (SELECT a b c FROM t) WHERE x"), @r"
    error: q.sql:1:27: expected `)`, found `c`
      1 | SELECT * FROM (SELECT a b c FROM t) WHERE x
        |                           ^
    ");
    insta::assert_snapshot!(rendered("SELECT SUM(a) FROM t GROUP BY"), @r"
    error: q.sql:1:30: expected an expression, found the end of the statement
      1 | SELECT SUM(a) FROM t GROUP BY
        |                              ^
    ");
    insta::assert_snapshot!(rendered("SELECT * FROM TABLE(TUMBLE(DATA => TABLE t, TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '1' FORTNIGHT))"), @r"
    error: q.sql:1:93: INTERVAL requires a unit after the literal value; units are SECOND, MINUTE, HOUR, DAY, WEEK, MONTH, QUARTER and YEAR
      1 | SELECT * FROM TABLE(TUMBLE(DATA => TABLE t, TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '1' FORTNIGHT))
        |                                                                                             ^~~~~~~~~
    ");
    insta::assert_snapshot!(rendered("SELECT a FROM t WHERE a ILIKE 'x'"), @r"
    error: q.sql:1:25: unexpected reserved word `ILIKE`; write LOWER(x) LIKE LOWER(pattern)
      1 | SELECT a FROM t WHERE a ILIKE 'x'
        |                         ^~~~~
    ");
    insta::assert_snapshot!(rendered("SELECT a JOIN b"), @r"
    error: q.sql:1:15: expected the end of the statement, found `b`
      1 | SELECT a JOIN b
        |               ^
    ");
    insta::assert_snapshot!(rendered("SELECT a FROM t JOIN u"), @r"
    error: q.sql:1:22: this join has no condition; add ON or USING, or write CROSS JOIN
      1 | SELECT a FROM t JOIN u
        |                      ^
    ");
    insta::assert_snapshot!(rendered("SELECT COUNT(a FROM t"), @r"
    error: q.sql:1:16: expected `)`, found `FROM`
      1 | SELECT COUNT(a FROM t
        |                ^~~~
    ");
    insta::assert_snapshot!(rendered("SELECT * EXCEPT (a) FROM t"), @r"
    error: q.sql:1:18: expected SELECT, VALUES, or a subquery in the query body, found `a`
      1 | SELECT * EXCEPT (a) FROM t
        |                  ^
    ");
    insta::assert_snapshot!(rendered("SELECT a FROM t LIMIT 1, 2"), @r"
    error: q.sql:1:24: expected the end of the statement, found `,`; LIMIT takes one number: write LIMIT n OFFSET m
      1 | SELECT a FROM t LIMIT 1, 2
        |                        ^
    ");
    insta::assert_snapshot!(rendered("SELECT CAST(a AS TEXT) FROM t"), @r"
    error: q.sql:1:18: unknown type `TEXT`; did you mean STRING?
      1 | SELECT CAST(a AS TEXT) FROM t
        |                  ^~~~
    ");
    insta::assert_snapshot!(rendered("SELECT 'abc"), @r"
    error: q.sql:1:8: this string does not end; close it with ' (a quote inside is written '')
      1 | SELECT 'abc
        |        ^
    ");
}

#[test]
fn underlines_fit_tabs_wide_characters_and_long_lines() {
    let at = |line, column| Error::validation("no").at(Location { line, column });
    insta::assert_snapshot!(render_error(&at(1, 10), "f", "\tSELECT '日本', prise FROM t"), @r"
    error: f:1:10: no
      1 |     SELECT '日本', prise FROM t
        |             ^~
    ");
    insta::assert_snapshot!(render_error(&at(1, 15), "f", "\tSELECT '日本', prise FROM t"), @r"
    error: f:1:15: no
      1 |     SELECT '日本', prise FROM t
        |                    ^~~~~
    ");
    insta::assert_snapshot!(render_error(&at(2, 1), "f", "a\r\nbcd\r\n"), @r"
    error: f:2:1: no
      2 | bcd
        | ^~~
    ");
    insta::assert_snapshot!(render_error(&at(3, 1), "f", "a\nb\n"), @r"
    error: f:3:1: no
      3 | 
        | ^
    ");
    insta::assert_snapshot!(render_error(&at(9, 9), "f", "a\nb\n"), @r"error: f:9:9: no");
    insta::assert_snapshot!(render_error(&at(1, 99), "f", "abc"), @r"
    error: f:1:99: no
      1 | abc
        |    ^
    ");
    insta::assert_snapshot!(render_error(&Error::validation("no").hint("do"), "f", "abc"), @r"error: f: no; do");
    insta::assert_snapshot!(render_error(&Error::validation("no"), "", "abc"), @r"error: no");
    let long = format!("SELECT {} prise {} FROM t", "a, ".repeat(100), ", b".repeat(100));
    let out = render_error(&at(1, 309), "f", &long);
    let lines: Vec<&str> = out.lines().collect();
    let (source, under) = (lines[1], lines[2]);
    let column = under.chars().position(|c| c == '^').unwrap();
    assert_eq!(source.chars().skip(column).take(5).collect::<String>(), "prise");
    assert!(under.ends_with("^~~~~") && source.chars().count() < 180);
}
