use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::*;
use crate::types::{LogicalType, RowField, TypeRoot};

fn nullable(root: TypeRoot) -> LogicalType {
    LogicalType::nullable(root)
}

fn format(columns: &[(&str, LogicalType)], options: &[(&str, &str)]) -> Result<JsonFormat> {
    let fields: Vec<Field> = columns.iter().map(|(n, t)| t.to_field(n)).collect();
    let options: BTreeMap<String, String> =
        options.iter().map(|(k, v)| (format!("json.{k}"), (*v).to_owned())).collect();
    let options = Options::new("t", "test", &options);
    let format = JsonFormat::new(&options, "json.", Arc::new(Schema::new(fields)))?;
    options.finish()?;
    Ok(format)
}

fn show(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<_> =
        batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).unwrap()).collect();
    (0..batch.num_rows())
        .map(|i| columns.iter().map(|c| c.value(i).to_string()).collect::<Vec<_>>().join("|"))
        .collect()
}

/// The rows, and how many records were skipped and fields made NULL.
fn read(format: &JsonFormat, records: &[&str]) -> Result<(Vec<String>, [u64; 2])> {
    let all: Vec<usize> = (0..format.schema.fields().len()).collect();
    let mut decoder = format.row_decoder(&all)?;
    for r in records {
        decoder.decode(r.as_bytes())?;
    }
    let ignored = [decoder.take_skipped(), decoder.take_nulled()];
    Ok((show(&decoder.finish()?), ignored))
}

const LOOSE: &[(&str, &str)] = &[("ignore-parse-errors", "true")];

fn scalars() -> Vec<(&'static str, LogicalType)> {
    vec![
        ("id", nullable(TypeRoot::Int)),
        ("i", nullable(TypeRoot::Int)),
        ("ti", nullable(TypeRoot::TinyInt)),
        ("b", nullable(TypeRoot::Boolean)),
        ("s", LogicalType::string()),
        ("d", nullable(TypeRoot::Double)),
        ("f", nullable(TypeRoot::Float)),
        ("dec", nullable(TypeRoot::Decimal(10, 2))),
        ("dt", nullable(TypeRoot::Date)),
        ("tm", nullable(TypeRoot::Time(0))),
        ("ts", nullable(TypeRoot::Timestamp(9))),
        ("tz", nullable(TypeRoot::TimestampLtz(3))),
        ("by", nullable(TypeRoot::Varbinary(crate::types::MAX_LENGTH))),
    ]
}

/// Input and result as Apache Flink 2.3 read it.
#[test]
fn scalars_as_flink_reads_them() {
    let f = format(&scalars(), LOOSE).unwrap();
    let records = [
        r#"{"id":1,"i":12,"ti":5,"b":true,"s":"x","d":1.5,"f":1.5,"dec":1.005,"dt":"2020-01-01","tm":"10:11:12","ts":"2020-01-01 00:00:00","tz":"2020-01-01 00:00:00.123Z","by":"aGVsbG8="}"#,
        r#"{"id":2,"i":"12","ti":"5","b":"true","s":12.10,"d":"1e3","f":"2","dec":"12345678901.12","dt":"2020-1-1","tm":"10:11:12.345","ts":"2020-01-01T00:00:00","tz":"2020-01-01 00:00:00","by":"aGVsbG8"}"#,
        r#"{"id":3,"i":12.7,"ti":300,"b":1,"s":true,"d":"NaN","f":"Infinity","dec":99999999999,"dt":"2020-02-30","tm":"10:11","ts":"2020-01-01 00:00","tz":"2020-01-01T00:00:00Z","by":"!!!"}"#,
        r#"{"id":4,"i":3000000000,"ti":1.0,"b":"TRUE","s":{"a": 1, "b":[1, 2,"x y"]},"d":true,"f":1e400,"dec":"abc","dt":20200101,"tm":"24:00:00","ts":"2020-02-30 10:00:00","tz":"2020-01-01 00:00:00+01:00","by":12}"#,
        r#"{"id":5,"i":" 7 ","ti":true,"b":"yes","s":[1, 2 ,null],"d":" 2.5 ","f":"abc","dec":1e3,"dt":"2020-01-01 ","tm":36000,"ts":1577836800000,"tz":1577836800000,"by":""}"#,
        r#"{"id":6,"i":"","ti":"","b":"","s":"","d":"","f":"","dec":"","dt":"","tm":"","ts":"","tz":"","by":""}"#,
        r#"{"id":7,"i":null,"I":8,"b":null}"#,
        r#"{"id":8,"i":1,"i":2}"#,
        r#"[{"id":9,"i":1},{"id":10,"i":"x"}]"#,
        "",
        "   ",
        "5",
        "\"x\"",
        r#"{"id":11,"i":1} xyz"#,
        r#"{"id":12,"i":1}{"id":13,"i":1}"#,
        r#"{"id":14,"i":1"#,
        r#"{"id":15,"i":01}"#,
        r#"{"id":16,"i":+1}"#,
        r#"{"id":17,,"i":1}"#,
        r#"{"id":18,"i":1,}"#,
        "{\"id\":19,\"s\":\"a\tb\",\"i\":1}",
        r#"{"id":20,"s":"\u00e9\ud83d\ude00\n","i":1}"#,
        r#"{"id":21,"s":"\ud83d","i":1}"#,
        r#"{"id":22,"ts":"2020-01-01 00:00:00.123456789","tm":"10:11:12.999999","dec":0.125,"d":1,"f":16777217,"s":1e10}"#,
        r#"{"id":23,"ts":"10000-01-01 00:00:00","dt":"+10000-01-01","dec":-0.005,"d":-0.0,"s":-0.0}"#,
        r#"{"id":24,"ts":"2020-01-01 24:00:00","dt":"2021-02-29","i":"+5","dec":"+5"}"#,
        r#"{"id":25,"i":NaN}"#,
        r#"{"id":26,"ts":" 2020-01-01 00:00:00","i":1e2,"ti":"1e0","s":null}"#,
        "null",
        "[]",
        "[5,{\"id\":29}]",
    ];
    let expected = [
        "1|12|5|true|x|1.5|1.5|1.01|2020-01-01|10:11:12|2020-01-01T00:00:00|2020-01-01T00:00:00.123Z|68656c6c6f",
        "2|12|5|true|12.10|1000.0|2.0|NULL|NULL|10:11:12.345|NULL|NULL|NULL",
        "3|12|NULL|false|true|NaN|inf|NULL|NULL|NULL|NULL|NULL|NULL",
        "4|NULL|NULL|true|{\"a\":1,\"b\":[1,2,\"x y\"]}|NULL|inf|NULL|NULL|00:00:00|2020-02-29T10:00:00|NULL|NULL",
        "5|7|NULL|false|[1,2,null]|2.5|NULL|1000.00|NULL|NULL|NULL|NULL|",
        "6|NULL|NULL|false||NULL|NULL|NULL|NULL|NULL|NULL|NULL|",
        "7|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL",
        "8|2|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL",
        "9|1|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL",
        "10|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL",
        "11|1|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL",
        "12|1|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL",
        "19|1|NULL|NULL|a\tb|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL",
        "20|1|NULL|NULL|é😀\n|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL",
        "21|1|NULL|NULL|?|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL",
        "22|NULL|NULL|NULL|1e10|1.0|16777216.0|0.13|NULL|10:11:12.999|2020-01-01T00:00:00.123456789|NULL|NULL",
        "23|NULL|NULL|NULL|-0.0|-0.0|NULL|-0.01|+10000-01-01|NULL|NULL|NULL|NULL",
        "24|5|NULL|NULL|NULL|NULL|NULL|5.00|NULL|NULL|2020-01-02T00:00:00|NULL|NULL",
        "26|100|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL",
    ];
    let (rows, [skipped, nulled]) = read(&f, &records).unwrap();
    for (row, expected) in rows.iter().zip(expected) {
        assert_eq!(row, expected);
    }
    assert_eq!(rows.len(), expected.len());
    // 5, "x", 14 to 18, 25 and the list that holds a number.
    assert_eq!(skipped, 9);
    assert!(nulled > 22, "{nulled}");
}

fn nested() -> Vec<(&'static str, LogicalType)> {
    let int = || nullable(TypeRoot::Int);
    let row = |fields: &[(&str, LogicalType)]| {
        nullable(TypeRoot::Row(
            fields
                .iter()
                .map(|(n, t)| RowField { name: (*n).to_owned(), ty: t.clone(), comment: None })
                .collect(),
        ))
    };
    let array = |t| nullable(TypeRoot::Array(Box::new(t)));
    vec![
        ("a", array(int())),
        ("m", nullable(TypeRoot::Map(Box::new(LogicalType::string()), Box::new(int())))),
        ("r", row(&[("x", int()), ("y", LogicalType::string())])),
        ("ms", nullable(TypeRoot::Multiset(Box::new(LogicalType::string())))),
        ("aa", array(array(int()))),
        ("ar", array(row(&[("x", int())]))),
    ]
}

#[test]
fn nested_as_flink_reads_it() {
    let f = format(&nested(), LOOSE).unwrap();
    let records = [
        r#"{"a":[1,"2","x"],"m":{"k":1,"l":"x"},"r":{"x":1,"y":"q"},"ms":{"a":2},"aa":[[1],[2,3]],"ar":[{"x":1}]}"#,
        r#"{"a":5,"m":[],"r":[],"ms":5,"aa":[1],"ar":[5]}"#,
        r#"{"a":[],"m":{},"r":{},"ms":{},"aa":[null],"ar":[null]}"#,
        r#"{"a":[null],"m":{"k":null},"r":{"x":"z"},"aa":null}"#,
        r#"{"m":{"k":1,"j":3,"\u006b":2},"r":{"x":1,"x":2}}"#,
        r#"{"ar":[{"x":1},{"x":2}"#,
        r#"{"a":[7]}"#,
    ];
    let (rows, _) = read(&f, &records).unwrap();
    assert_eq!(
        rows,
        [
            "[1, 2, NULL]|{k: 1, l: NULL}|{x: 1, y: q}|{a: 2}|[[1], [2, 3]]|[{x: 1}]",
            "NULL|NULL|NULL|NULL|[NULL]|[NULL]",
            "[]|{}|{x: NULL, y: NULL}|{}|[NULL]|[NULL]",
            "[NULL]|{k: NULL}|{x: NULL, y: NULL}|NULL|NULL|NULL",
            "NULL|{k: 2, j: 3}|{x: 2, y: NULL}|NULL|NULL|NULL",
            "[7]|NULL|NULL|NULL|NULL|NULL",
        ]
    );
}

fn refused(columns: &[(&str, LogicalType)], options: &[(&str, &str)], record: &str) -> String {
    let f = format(columns, options).unwrap();
    let mut d = f.row_decoder(&(0..columns.len()).collect::<Vec<_>>()).unwrap();
    d.decode(br#"{"id":1,"i":1,"r":{"x":1,"y":"q"}}"#).ok();
    let before = d.rows();
    let e = d.decode(record.as_bytes()).unwrap_err();
    assert_eq!(d.rows(), before);
    d.finish().unwrap();
    e.to_string()
}

#[test]
fn strict_errors_name_field_and_reason() {
    let c = scalars();
    for (record, words) in [
        (r#"{"id":2,"i":3000000000}"#, "field `i`: cannot read 3000000000 as INT"),
        (r#"{"id":2,"ts":"yesterday"}"#, "field `ts`: cannot read \"yesterday\" as TIMESTAMP(9)"),
        (r#"{"id":2,"s":"a"#, "a string has no end"),
        (r#"{"id":2"#, "ends in the middle of an object"),
        (r#"{"id":2} {"id":3}"#, "there is more text after the object (character 10"),
        (r#"{"id":2,"zz":tru}"#, "a value is none of JSON's"),
        (r#"{"id":2,"zz":"\q"}"#, "unknown escape"),
        ("5", "a record has to be an object"),
        ("garbage", "a record has to be an object"),
        ("[{\"id\":2},{\"id\":\"x\"}]", "field `id`"),
    ] {
        let e = refused(&c, &[], record);
        assert!(e.contains(words), "{record}: {e}");
        assert!(e.contains("json.ignore-parse-errors"), "{e}");
    }
    let e = refused(&nested(), &[], r#"{"r":{"x":[1]}}"#);
    assert!(e.contains("field `r.x`: cannot read [1] as INT"), "{e}");
    let e = refused(&nested(), &[("fail-on-missing-field", "true")], r#"{"a":[1]}"#);
    assert!(e.contains("Could not find field with name 'm'"), "{e}");
    let not_null = [("id", LogicalType::not_null(TypeRoot::Int))];
    assert!(refused(&not_null, &[], r#"{"i":1}"#).contains("`id`: the column is NOT NULL"));
}

#[test]
fn hostile_records() {
    let f = format(&[("s", LogicalType::string()), ("n", nullable(TypeRoot::BigInt))], LOOSE).unwrap();
    let deep = format!("{{\"s\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let wide = format!("{{\"s\":{}1{}}}", "[".repeat(900), "]".repeat(900));
    let huge = format!("{{\"n\":{}}}", "9".repeat(5_000));
    let long = format!("{{\"s\":\"{}\"}}", "é".repeat(100_000));
    let (rows, _) = read(&f, &[&deep, &wide, &huge, &long, "{\"n\":9223372036854775807}"]).unwrap();
    assert_eq!(rows.len(), 4);
    assert!(rows[0].starts_with("[[["));
    assert_eq!(rows[1], "NULL|NULL");
    assert_eq!(rows[2].chars().count(), 100_000 + "|NULL".len());
    assert_eq!(rows[3], "NULL|9223372036854775807");
    let mut d = f.row_decoder(&[0]).unwrap();
    d.decode(b"{\"s\":\"\xff\xfe\"}").unwrap();
    d.decode(b"\xEF\xBB\xBF{\"s\":\"bom\"}").unwrap();
    d.decode(&b"{\"s\":\"\xc3"[..]).unwrap();
    assert_eq!(show(&d.finish().unwrap()), ["bom"]);
    // Every prefix of a record is refused and leaves nothing behind.
    let record = r#"{"s":"a\u00e9\"b","n":-12,"x":[{"y":1.5e3},true,null]}"#;
    for cut in 1..record.len() {
        let strict = format(&[("s", LogicalType::string()), ("n", nullable(TypeRoot::BigInt))], &[]).unwrap();
        let mut d = strict.row_decoder(&[0, 1]).unwrap();
        assert!(d.decode(&record.as_bytes()[..cut]).is_err(), "{}", &record[..cut]);
        assert_eq!(d.rows(), 0);
        d.decode(record.as_bytes()).unwrap();
        assert_eq!(show(&d.finish().unwrap()), ["aé\"b|-12"]);
    }
}

#[test]
fn records_are_told_apart() {
    let f = format(&[("id", nullable(TypeRoot::Int))], LOOSE).unwrap();
    let mut d = f.record_decoder(&[0], &[]).unwrap();
    for r in ["{\"id\":1}", "", "[{\"id\":2},{\"id\":3}]", "nonsense", "{\"id\":4}"] {
        d.push(r.as_bytes());
    }
    assert_eq!(d.pending(), 5);
    let out = d.flush().unwrap();
    assert_eq!(show(&out.rows), ["1", "2", "3", "4"]);
    assert_eq!(out.records, Some(vec![0, 2, 2, 4]));
    assert_eq!((out.skipped, d.pending()), (1, 0));
    d.push(b"{\"id\":5}");
    let out = d.flush().unwrap();
    assert_eq!((show(&out.rows).len(), out.records, out.skipped), (1, None, 0));
    assert_eq!(d.flush().unwrap().rows.num_rows(), 0);

    let strict = format(&[("id", nullable(TypeRoot::Int))], &[]).unwrap();
    let mut d = strict.record_decoder(&[0], &[]).unwrap();
    d.push(b"{\"id\":1}");
    d.push(b"{\"id\":x}");
    assert_eq!(d.flush().unwrap_err().record, 1);
    assert_eq!(d.pending(), 0);
    d.push(b"{\"id\":2}");
    assert_eq!(show(&d.flush().unwrap().rows), ["2"]);
}

#[test]
fn projection_and_field_order() {
    let f = format(&scalars(), &[]).unwrap();
    let mut d = f.row_decoder(&[4, 0]).unwrap();
    d.decode(br#"{"id":1,"ts":"not read, so not looked at","s":"a"}"#).unwrap();
    d.decode(br#"{"s":"b","id":2}"#).unwrap();
    d.decode(br#"{"ts":0,"\u0073":"c","id":3}"#).unwrap();
    assert_eq!(show(&d.finish().unwrap()), ["a|1", "b|2", "c|3"]);
    let mut none = f.row_decoder(&[]).unwrap();
    none.decode(b"{}").unwrap();
    none.decode(b"{\"id\":1}").unwrap();
    assert_eq!(none.finish().unwrap().num_rows(), 2);
}

#[test]
fn written_as_flink_writes_it() {
    let mut columns = scalars();
    columns.extend(nested());
    let f = format(&columns, &[]).unwrap();
    let all: Vec<usize> = (0..columns.len()).collect();
    let records = [
        r#"{"id":1,"i":-2147483648,"ti":-128,"b":false,"s":"a\"b\\/é \n\u0001","d":1.0E10,"f":1.1,"dec":12345678.1,"dt":"0001-01-01","tm":"10:11:12.345","ts":"1969-12-31 23:59:59.999999","tz":"1900-01-01 00:00:00.12Z","by":"YWI=","a":[1,null],"m":{"k":1,"l":null},"r":{"x":null,"y":"z"},"ms":{"a":2},"aa":[[],[1]],"ar":[{"x":1}]}"#,
        r#"{"id":null,"i":null,"ti":null,"b":null,"s":null,"d":null,"f":null,"dec":null,"dt":null,"tm":null,"ts":null,"tz":null,"by":null,"a":null,"m":null,"r":null,"ms":null,"aa":null,"ar":null}"#,
        r#"{"id":2,"i":0,"ti":0,"b":true,"s":"","d":-0.5,"f":1.0E-10,"dec":1E+6,"dt":"9999-12-31","tm":"00:00:00","ts":"2020-01-01 00:00:00","tz":"2020-01-01 00:00:00Z","by":"","a":[],"m":{},"r":{"x":1,"y":null},"ms":{},"aa":[],"ar":[]}"#,
    ];
    let mut d = f.row_decoder(&all).unwrap();
    for r in records {
        d.decode(r.as_bytes()).unwrap();
    }
    let batch = d.finish().unwrap();
    let (mut out, mut ends) = (Vec::new(), Vec::new());
    f.encoder().unwrap().encode(&batch, &mut out, &mut ends).unwrap();
    let mut start = 0;
    for (end, expected) in ends.iter().zip(records) {
        assert_eq!(std::str::from_utf8(&out[start..*end]).unwrap(), expected);
        start = *end;
    }
    let f = format(
        &[
            ("dec", nullable(TypeRoot::Decimal(10, 2))),
            ("s", LogicalType::string()),
            ("d", nullable(TypeRoot::Double)),
        ],
        &[
            ("encode.decimal-as-plain-number", "true"),
            ("encode.ignore-null-fields", "true"),
            ("timestamp-format.standard", "ISO-8601"),
        ],
    )
    .unwrap();
    let mut d = f.row_decoder(&[0, 1, 2]).unwrap();
    d.decode(br#"{"dec":1000000,"d":"NaN"}"#).unwrap();
    let (mut out, mut ends) = (Vec::new(), Vec::new());
    f.encoder().unwrap().encode(&d.finish().unwrap(), &mut out, &mut ends).unwrap();
    assert_eq!(out, br#"{"dec":1000000,"d":"NaN"}"#);
}

#[test]
fn bad_options() {
    let c = [("id", nullable(TypeRoot::Int))];
    for (options, words) in [
        (&[("fail-on-missing-field", "true"), ("ignore-parse-errors", "true")][..], "shouldn't both be true"),
        (&[("timestamp-format.standard", "RFC")], "one of SQL, ISO-8601"),
        (&[("ignore-parse-error", "true")], "unsupported options"),
        (&[("ignore-parse-errors", "yes")], "true or false"),
    ] {
        let e = format(&c, options).unwrap_err().to_string();
        assert!(e.contains(words), "{e}");
    }
    let map = nullable(TypeRoot::Map(Box::new(nullable(TypeRoot::Int)), Box::new(nullable(TypeRoot::Int))));
    let e = format(&[("m", map)], &[]).unwrap_err().to_string();
    assert!(e.contains("doesn't support non-string as key type of map. The type is: MAP<INT"), "{e}");
    assert_eq!(DataType::Int32, c[0].1.to_arrow());
}
