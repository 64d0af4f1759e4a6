use super::*;

#[test]
fn types_have_sqls_names() {
    for (arrow, sql) in [
        ("from Utf8 to Int32", "from STRING to INT"),
        ("Timestamp(ms) + Int32", "TIMESTAMP(3) + INT"),
        ("Timestamp(µs, \"UTC\")", "TIMESTAMP_LTZ(6)"),
        ("Timestamp(Nanosecond, None)", "TIMESTAMP(9)"),
        ("List(Int32)", "ARRAY<INT>"),
        ("List(non-null Utf8)", "ARRAY<STRING>"),
        ("Decimal128(10, 2)", "DECIMAL(10, 2)"),
        ("Map(\"entries\": non-null Struct(\"key\": Utf8, \"value\": Int32), unsorted)", "MAP"),
        ("Interval(MonthDayNano)", "INTERVAL SECOND(3)"),
        ("not Int32(5)", "not 5"),
        ("my_Utf8 XUtf8", "my_Utf8 XUtf8"),
    ] {
        assert_eq!(sql_names(arrow), sql);
    }
}

#[test]
fn debug_forms_are_not_shown() {
    let e = told(ErrorKind::Unsupported, "Unsupported ast node: Ident { value: \"a\", span: Span(…) }");
    assert_eq!(e.message(), "this expression is not supported here");
}
