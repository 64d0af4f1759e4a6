use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{Field, Fields};

use super::*;

fn text(array: ArrayRef, style: Style) -> Vec<String> {
    let column = Column::new(&array, style, chrono_tz::Europe::Berlin).unwrap();
    (0..array.len())
        .map(|i| {
            let mut out = String::new();
            column.write(i, &mut out).unwrap();
            out
        })
        .collect()
}

fn all(array: impl Array + 'static) -> [Vec<String>; 3] {
    let array: ArrayRef = Arc::new(array);
    [Style::Sql, Style::Json, Style::Java].map(|s| text(array.clone(), s))
}

#[test]
fn doubles_as_java_writes_them() {
    let values = vec![
        0.0,
        -0.0,
        1.0,
        1e10,
        1.5,
        1e-3,
        9.999e-4,
        1e-5,
        123456.789,
        1e7,
        9_999_999.0,
        12_345_678.9,
        1e21,
        f64::MIN_POSITIVE,
        f64::MAX,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        0.1,
        -1.25e-7,
    ];
    let expected = [
        "0.0",
        "-0.0",
        "1.0",
        "1.0E10",
        "1.5",
        "0.001",
        "9.999E-4",
        "1.0E-5",
        "123456.789",
        "1.0E7",
        "9999999.0",
        "1.23456789E7",
        "1.0E21",
        "2.2250738585072014E-308",
        "1.7976931348623157E308",
        "NaN",
        "Infinity",
        "-Infinity",
        "0.1",
        "-1.25E-7",
    ];
    let [sql, json, java] = all(Float64Array::from(values));
    assert_eq!(sql, expected);
    assert_eq!(java, expected);
    assert_eq!(json[15], "\"NaN\"");
    assert_eq!(json[17], "\"-Infinity\"");
    assert_eq!(json[3], "1.0E10");
    assert_eq!(
        all(Float32Array::from(vec![0.1, 1.0e10, 3.4028235e38, 16777216.0]))[0],
        ["0.1", "1.0E10", "3.4028235E38", "1.6777216E7"]
    );
}

#[test]
fn decimals() {
    let array =
        |values: Vec<i128>, p, s| Decimal128Array::from(values).with_precision_and_scale(p, s).unwrap();
    let [sql, json, java] = all(array(vec![1, 0, -12_345_678_901, 100_000_000], 20, 8));
    assert_eq!(sql, ["0.00000001", "0.00000000", "-123.45678901", "1.00000000"]);
    assert_eq!(json[0], "\"0.00000001\"");
    assert_eq!(java, ["1E-8", "0E-8", "-123.45678901", "1.00000000"]);
    assert_eq!(all(array(vec![1_000_000_000_000], 20, 0))[2], ["1000000000000"]);
    let most = 99_999_999_999_999_999_999_999_999_999_999_999_999i128;
    assert_eq!(
        all(array(vec![most, -most], 38, 38))[0],
        ["0.99999999999999999999999999999999999999", "-0.99999999999999999999999999999999999999"]
    );
    assert_eq!(all(array(vec![15, -12], 10, 7))[2], ["0.0000015", "-0.0000012"]);
}

#[test]
fn times() {
    let ms = 1_577_959_200_000;
    let [sql, json, java] = all(TimestampMillisecondArray::from(vec![ms, ms + 120, ms + 1500, -1]));
    assert_eq!(
        sql,
        [
            "2020-01-02 10:00:00",
            "2020-01-02 10:00:00.120",
            "2020-01-02 10:00:01.500",
            "1969-12-31 23:59:59.999"
        ]
    );
    assert_eq!(json[1], "\"2020-01-02 10:00:00.120\"");
    assert_eq!(java[..3], ["2020-01-02T10:00", "2020-01-02T10:00:00.120", "2020-01-02T10:00:01.500"]);
    let [sql, _, java] = all(TimestampMillisecondArray::from(vec![ms, ms + 120]).with_timezone("UTC"));
    assert_eq!(sql, ["2020-01-02 11:00:00", "2020-01-02 11:00:00.120"]);
    assert_eq!(java, ["2020-01-02T10:00:00Z", "2020-01-02T10:00:00.120Z"]);
    assert_eq!(all(TimestampMicrosecondArray::from(vec![1]))[0], ["1970-01-01 00:00:00.000001"]);
    assert_eq!(
        all(TimestampNanosecondArray::from(vec![1, 1000]))[0],
        ["1970-01-01 00:00:00.000000001", "1970-01-01 00:00:00.000001"]
    );
    assert_eq!(all(TimestampSecondArray::from(vec![0]))[0], ["1970-01-01 00:00:00"]);
    let [sql, _, java] = all(Time32MillisecondArray::from(vec![36_000_000, 36_001_005]));
    assert_eq!(sql, ["10:00:00", "10:00:01.005"]);
    assert_eq!(java, ["10:00", "10:00:01.005"]);
    assert_eq!(all(Date32Array::from(vec![0, -1, 2_932_896]))[0], ["1970-01-01", "1969-12-31", "9999-12-31"]);
    let [sql, json, java] = all(IntervalYearMonthArray::from(vec![14, -1]));
    assert_eq!(sql, ["+1-02", "-0-01"]);
    assert_eq!(json, ["\"+1-02\"", "\"-0-01\""]);
    assert_eq!(java, ["P14M", "P-1M"]);
    let day_time = |d, n| IntervalMonthDayNanoType::make_value(0, d, n);
    let [sql, _, java] = all(IntervalMonthDayNanoArray::from(vec![
        day_time(1, 7_384_500_000_000),
        day_time(0, -500_000_000),
        day_time(0, 0),
        day_time(1, 0),
    ]));
    assert_eq!(sql, ["+1 02:03:04.500", "-0 00:00:00.500", "+0 00:00:00.000", "+1 00:00:00.000"]);
    assert_eq!(java, ["PT26H3M4.5S", "PT-0.5S", "PT0S", "PT24H"]);
    assert!(
        Column::new(
            &(Arc::new(TimestampSecondArray::from(vec![i64::MAX / 2])) as ArrayRef),
            Style::Sql,
            Tz::UTC
        )
        .unwrap()
        .write(0, &mut String::new())
        .is_err()
    );
}

#[test]
fn scalars_and_nulls() {
    let [sql, json, java] = all(BooleanArray::from(vec![Some(true), Some(false), None]));
    assert_eq!(sql, ["TRUE", "FALSE", "NULL"]);
    assert_eq!(json, ["true", "false", "null"]);
    assert_eq!(java, ["true", "false", "null"]);
    let [sql, json, java] = all(StringArray::from(vec!["a\"b\\\n\u{1}ü", ""]));
    assert_eq!(sql, ["a\"b\\\n\u{1}ü", ""]);
    assert_eq!(json, ["\"a\\\"b\\\\\\n\\u0001ü\"", "\"\""]);
    assert_eq!(java, sql);
    let [sql, json, java] = all(BinaryArray::from_vec(vec![b"\x01\xff", b"", b"abc", b"abcd"]));
    assert_eq!(sql, ["x'01ff'", "x''", "x'616263'", "x'61626364'"]);
    assert_eq!(json, ["\"Af8=\"", "\"\"", "\"YWJj\"", "\"YWJjZA==\""]);
    assert_eq!(java[0], "[1, -1]");
    assert_eq!(all(Int8Array::from(vec![-128]))[0], ["-128"]);
    assert_eq!(all(Int16Array::from(vec![-5]))[0], ["-5"]);
    assert_eq!(all(Int64Array::from(vec![i64::MIN]))[1], ["-9223372036854775808"]);
    assert_eq!(all(NullArray::new(2))[0], ["NULL", "NULL"]);
    // Layouts of other people's files.
    assert_eq!(all(StringViewArray::from(vec!["view"]))[0], ["view"]);
    assert_eq!(all(UInt32Array::from(vec![7]))[0], ["7"]);
    assert_eq!(all(DictionaryArray::<Int32Type>::from_iter(["d"]))[0], ["d"]);
}

#[test]
fn nested() {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
        Some(vec![Some(1), None]),
        Some(vec![]),
        None,
    ]);
    let [sql, json, java] = all(list);
    assert_eq!(sql, ["[1, NULL]", "[]", "NULL"]);
    assert_eq!(json, ["[1,null]", "[]", "null"]);
    assert_eq!(java, ["[1, null]", "[]", "null"]);
    let fields =
        Fields::from(vec![Field::new("x", DataType::Int32, true), Field::new("y", DataType::Utf8, true)]);
    let row = StructArray::new(
        fields,
        vec![Arc::new(Int32Array::from(vec![Some(1), None])), Arc::new(StringArray::from(vec!["abc", "d"]))],
        None,
    );
    let [sql, json, java] = all(row);
    assert_eq!(sql, ["(1, abc)", "(NULL, d)"]);
    assert_eq!(json, ["{\"x\":1,\"y\":\"abc\"}", "{\"x\":null,\"y\":\"d\"}"]);
    assert_eq!(java, ["+I[1, abc]", "+I[null, d]"]);
    let entries = StructArray::from(vec![
        (
            Arc::new(Field::new("key", DataType::Int32, false)),
            Arc::new(Int32Array::from(vec![7, 8])) as ArrayRef,
        ),
        (
            Arc::new(Field::new("value", DataType::Boolean, true)),
            Arc::new(BooleanArray::from(vec![Some(true), None])),
        ),
    ]);
    let field = Arc::new(Field::new("entries", entries.data_type().clone(), false));
    let map = MapArray::new(field, OffsetBuffer::from_lengths([2, 0]), entries, None, false);
    let [sql, json, java] = all(map);
    assert_eq!(sql, ["{7=TRUE, 8=NULL}", "{}"]);
    assert_eq!(json, ["{\"7\":true,\"8\":null}", "{}"]);
    assert_eq!(java, ["{7=true, 8=null}", "{}"]);
}

#[test]
fn slices_of_nested_values() {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
        Some(vec![Some(1)]),
        Some(vec![Some(2), Some(3)]),
    ]);
    assert_eq!(text(Arc::new(list.slice(1, 1)), Style::Sql), ["[2, 3]"]);
}
