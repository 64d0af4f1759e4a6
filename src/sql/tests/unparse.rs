use crate::sql::{format_expr, parse_expr};

#[test]
fn expressions_print_as_flink_prints_them() {
    for (written, printed) in [
        ("to_timestamp(w)", "TO_TIMESTAMP(`w`)"),
        (
            "case when i=1 then 'a' else upper(w)||'x' end",
            "CASE WHEN `i` = 1 THEN 'a' ELSE UPPER(`w`) || 'x' END",
        ),
        ("(i + 1)*2", "(`i` + 1) * 2"),
        ("EXTRACT(YEAR FROM ts)", "EXTRACT(YEAR FROM `ts`)"),
        ("CAST(w AS string)", "CAST(`w` AS STRING)"),
        ("cast(w as decimal(10,2))", "CAST(`w` AS DECIMAL(10, 2))"),
        ("CAST(ts AS ROW<a INT, b ARRAY<STRING>>)", "CAST(`ts` AS ROW<`a` INT, `b` ARRAY<STRING>>)"),
        ("i IS NULL and w not like 'a%'", "`i` IS NULL AND `w` NOT LIKE 'a%'"),
        ("arr[1] + r.x + m['k']", "`arr`[1] + `r`.`x` + `m`['k']"),
        ("ts + INTERVAL '1' day", "`ts` + INTERVAL '1' DAY"),
        ("ts -  interval '10' minutes", "`ts` - INTERVAL '10' MINUTES"),
        ("date '2020-01-01'", "DATE '2020-01-01'"),
        ("TIMESTAMPDIFF(DAY, ts, ts)", "TIMESTAMPDIFF(DAY, `ts`, `ts`)"),
        ("i in (1,2)", "`i` IN (1, 2)"),
        ("floor(ts TO HOUR)", "FLOOR(`ts` TO HOUR)"),
        ("CURRENT_TIMESTAMP", "CURRENT_TIMESTAMP"),
        ("-i", "- `i`"),
        ("1.50", "1.50"),
        ("i   +   1  /* x */ + 2", "`i` + 1 + 2"),
        ("ARRAY[1,2]", "ARRAY[1, 2]"),
        ("map['a', week]['a']", "MAP['a', `week`]['a']"),
        ("true and not (a or b)", "TRUE AND NOT (`a` OR `b`)"),
        ("`Group`.`a``b`", "`Group`.`a``b`"),
        ("`concat`(a, U&'\\00e9')", "`concat`(`a`, U&'\\00e9')"),
        ("PROCTIME ( )", "PROCTIME()"),
    ] {
        assert_eq!(format_expr(written), printed);
        assert_eq!(format_expr(printed), printed);
        parse_expr(printed).unwrap_or_else(|e| panic!("{printed}: {e}"));
    }
    assert_eq!(format_expr("'open"), "'open");
}
