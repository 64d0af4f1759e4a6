use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::*;
use crate::types::{RowField, TypeRoot};

fn nullable(root: TypeRoot) -> LogicalType {
    LogicalType::nullable(root)
}

fn format(columns: &[(&str, LogicalType)], options: &[(&str, &str)]) -> Result<CsvFormat> {
    let fields: Vec<Field> = columns.iter().map(|(n, t)| t.to_field(n)).collect();
    let options: BTreeMap<String, String> =
        options.iter().map(|(k, v)| (format!("csv.{k}"), (*v).to_owned())).collect();
    let options = Options::new("t", "test", &options);
    let format = CsvFormat::new(&options, "csv.", Arc::new(Schema::new(fields)))?;
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

/// Reads a whole file, given in pieces of `step` bytes.
fn read_file(format: &CsvFormat, text: &[u8], step: usize) -> Result<Vec<String>> {
    let all: Vec<usize> = (0..format.schema.fields().len()).collect();
    let mut d = format.row_decoder(&all)?;
    let (mut start, mut end) = (0, 0);
    while start < text.len() {
        match d.frame(&text[start..end], end == text.len()).filter(|_| end > start) {
            Some(frame) => {
                d.decode(&text[start..start + frame.record])?;
                start += frame.total;
            }
            None => end = (end + step).min(text.len()),
        }
        if start == end && end < text.len() {
            end = (end + step).min(text.len());
        }
    }
    Ok(show(&d.finish()?))
}

fn read(columns: &[(&str, LogicalType)], options: &[(&str, &str)], text: &str) -> Result<Vec<String>> {
    let f = format(columns, options)?;
    let rows = read_file(&f, text.as_bytes(), text.len().max(1))?;
    for step in [1, 2, 7] {
        assert_eq!(read_file(&f, text.as_bytes(), step).unwrap(), rows, "in steps of {step}");
    }
    Ok(rows)
}

fn columns() -> Vec<(&'static str, LogicalType)> {
    vec![
        ("id", nullable(TypeRoot::Int)),
        ("s", LogicalType::string()),
        ("d", nullable(TypeRoot::Double)),
        ("b", nullable(TypeRoot::Boolean)),
        ("dt", nullable(TypeRoot::Date)),
        ("tm", nullable(TypeRoot::Time(3))),
        ("ts", nullable(TypeRoot::Timestamp(6))),
        ("tz", nullable(TypeRoot::TimestampLtz(3))),
        ("dec", nullable(TypeRoot::Decimal(6, 2))),
        ("a", nullable(TypeRoot::Array(Box::new(nullable(TypeRoot::Int))))),
        (
            "r",
            nullable(TypeRoot::Row(vec![
                RowField { name: "x".into(), ty: LogicalType::string(), comment: None },
                RowField { name: "y".into(), ty: nullable(TypeRoot::Int), comment: None },
            ])),
        ),
        ("by", nullable(TypeRoot::Varbinary(crate::types::MAX_LENGTH))),
    ]
}

const INPUT: &str = "1,abc,1.5,true,2020-01-01,10:11:12,2020-01-01 00:00:00,2020-01-01 00:00:00Z,12.345,1;2;3,x;7,aGVsbG8=
,,,,,,,,,,,
 2 , abc , 2.5 , true , 2020-01-01 , 10:11:12 , 2020-01-01 00:00:00 , 2020-01-01 00:00:00Z , 1.5 , 1; 2 , x ; 7 , aGVsbG8=
3,\"a,b\",\"2\",\"TRUE\"
4,\"a \"\"q\"\" b\",x,1,2020-1-1,10:11,2020-01-01T00:00:00,2020-01-01 00:00:00,99999999999,1,x,!!!,extra,more

5,\"multi
line\",1,false
#6,comment
7,a\"b\"c,1
8,\"abc\"x,1
9,'q',1
12,,1,,,10:11:12.345,2020-01-01 00:00:00.123456,2020-01-01 00:00:00.123Z,1.005,;,;,
13.5,a
\"14\",a
16,a,NaN,true,2020-02-30,24:00:00,2020-02-30 00:00:00,2020-02-30 00:00:00Z,1e2,a;b,1;2,é
";

/// Input and result as Apache Flink 2.3 read it.
#[test]
fn read_as_flink_reads_it() {
    let rows = read(&columns(), &[("ignore-parse-errors", "true")], INPUT).unwrap();
    let expected = [
        "1|abc|1.5|true|2020-01-01|10:11:12|2020-01-01T00:00:00|2020-01-01T00:00:00Z|12.35|[1, 2, 3]|{x: x, y: 7}|68656c6c6f",
        "NULL||NULL|false|NULL|NULL|NULL|NULL|NULL|[]|NULL|",
        "2| abc |2.5|true|NULL|NULL|2020-01-01T00:00:00|2020-01-01T00:00:00Z|NULL|[1, 2]|{x:  x , y: 7}|68656c6c6f",
        "3|a,b|2.0|true|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL",
        "NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL",
        "5|multi\nline|1.0|false|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL",
        "NULL|comment|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL",
        "7|a\"b\"c|1.0|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL",
        "9|'q'|1.0|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL",
        "12||1.0|false|NULL|10:11:12.345|2020-01-01T00:00:00.123456|2020-01-01T00:00:00.123Z|1.01|[NULL, NULL]|{x: , y: NULL}|",
        "NULL|a|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL",
        "14|a|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL",
        "16|a|NaN|true|2020-03-01|NULL|2020-02-29T00:00:00|2020-02-29T00:00:00Z|100.00|[NULL, NULL]|{x: 1, y: 2}|NULL",
    ];
    for (row, expected) in rows.iter().zip(expected) {
        assert_eq!(row, expected);
    }
    assert_eq!(rows.len(), expected.len());
    let rows =
        read(&columns(), &[("ignore-parse-errors", "true"), ("allow-comments", "true")], INPUT).unwrap();
    assert_eq!(rows.len(), expected.len() - 2, "neither the comment nor the blank line");
}

fn small() -> Vec<(&'static str, LogicalType)> {
    vec![("i", nullable(TypeRoot::Int)), ("s", LogicalType::string()), ("d", nullable(TypeRoot::Double))]
}

#[test]
fn empty_fields_and_null_literals() {
    for option in [("null-literal", ""), ("empty-string-as-null", "true")] {
        assert_eq!(read(&small(), &[option], "1,,\n,\"\",\n").unwrap(), ["1|NULL|NULL", "NULL|NULL|NULL"]);
    }
    assert_eq!(
        read(&small(), &[("null-literal", "N")], "N,N,N\n1,n,2\n").unwrap(),
        ["NULL|NULL|NULL", "1|n|2.0"]
    );
    let e = read(&small(), &[], "1,a,\n").unwrap_err().to_string();
    assert!(e.contains("field `d`: cannot read '' as DOUBLE") && e.contains("csv.null-literal"), "{e}");
    assert_eq!(
        read(&small(), &[("trim-spaces", "true")], " 1 , a b ,2 \n1, \" q\" ,2\n").unwrap(),
        ["1|a b|2.0", "1| q|2.0"]
    );
}

#[test]
fn quotes_escapes_and_line_ends() {
    let two = [("i", nullable(TypeRoot::Int)), ("s", LogicalType::string())];
    let options = [("quote-character", "'"), ("escape-character", "\\"), ("field-delimiter", "|")];
    let text = "1|'a|b'\n2|a\\|b\n3|'it''s'\n4|a\\nb\n5|'a\\'b'\n6|'x\\\\'\n7|a\\\nb\n";
    assert_eq!(
        read(&two, &options, text).unwrap(),
        ["1|a|b", "2|a|b", "3|it's", "4|a\nb", "5|a'b", "6|x\\", "7|a\nb"]
    );
    assert_eq!(
        read(&two, &[("field-delimiter", "\\t")], "1\ta,b\r\n2\t\"c\td\"\r\n").unwrap(),
        ["1|a,b", "2|c\td"]
    );
    assert_eq!(
        read(&two, &[], "1,\"a\r\nb\"\r\n2,\"\"\"\"\r\n3,é\"\r\n4,x").unwrap(),
        ["1|a\r\nb", "2|\"", "3|é\"", "4|x"]
    );
    let raw = [("disable-quote-character", "true")];
    assert_eq!(read(&two, &raw, "1,\"a\n2,b\"\n").unwrap(), ["1|\"a", "2|b\""]);
    assert_eq!(read(&two, &[], "\u{feff}1,a\n").unwrap(), ["1|a"]);
    assert!(read(&two, &[], "").unwrap().is_empty());
    for (text, words) in [
        ("1,\"a", "no end"),
        ("1,\"a\"b\n", "followed by something else"),
        ("1\n", "Row length mismatch. 2 fields expected but was 1"),
        ("\n", "Row length mismatch"),
        ("1,a,b\n", "too many fields"),
        ("x,a\n", "field `i`: cannot read 'x' as INT"),
        ("99999999999,a\n", "field `i`"),
    ] {
        let e = read(&two, &[], text).unwrap_err().to_string();
        assert!(e.contains(words), "{text:?}: {e}");
    }
    assert_eq!(read(&two, &[], "1,a,\n").unwrap(), ["1|a"], "a trailing comma is allowed");
    assert_eq!(read(&two, &[("ignore-trailing-unmappable", "true")], "1,a,b,c\n").unwrap(), ["1|a"]);
    let mut d = format(&two, &[]).unwrap().row_decoder(&[0, 1]).unwrap();
    assert!(d.decode(b"1,\xff").unwrap_err().to_string().contains("not UTF-8"));
}

#[test]
fn written_as_flink_writes_it() {
    let f = format(&columns(), &[]).unwrap();
    let lines = [
        "1,\"a\"\"b\\/é \n\",1.0E10,true,2020-01-01,10:11:12,\"2020-01-01 00:00:00.12\",\"2020-01-01 00:00:00.12Z\",12.3,1;2,x;1,YWJj",
        "3,\"a b\",1.0E-4,,9999-12-31,23:59:59,\"2020-01-01 00:00:00.1234\",\"2020-01-01 00:00:00Z\",0,2,y;1,YWI=",
        "4,\"a,b\",-0.5,true,2020-01-01,10:11:12,\"2020-01-01 00:00:00\",\"2020-01-01 00:00:00Z\",-0.01,3,\"y,q;1\",YQ==",
        "8,\"abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz\",1.0,true,2020-01-01,10:11:12,\"2020-01-01 00:00:00\",\"2020-01-01 00:00:00Z\",1E+3,3,y;1,YQ==",
        "9,a-b.c_d:e;f,1.0,false,2020-01-01,10:11:12,\"2020-01-01 00:00:00\",\"2020-01-01 00:00:00Z\",1,3,y;1,YQ==",
        "10,aé,1.0,true,2020-01-01,10:11:12,\"2020-01-01 00:00:00\",\"2020-01-01 00:00:00Z\",1,3,y;1,YQ==",
    ];
    let mut d = f.row_decoder(&(0..columns().len()).collect::<Vec<_>>()).unwrap();
    for line in lines {
        // An empty BOOLEAN reads as false; the NULL of the second line is put in below.
        d.decode(line.replace(",,", ",true,").as_bytes()).unwrap();
    }
    let batch = d.finish().unwrap();
    let mut arrays = batch.columns().to_vec();
    arrays[3] = Arc::new(arrow::array::BooleanArray::from(vec![
        Some(true),
        None,
        Some(true),
        Some(true),
        Some(false),
        Some(true),
    ]));
    let batch = RecordBatch::try_new(batch.schema(), arrays).unwrap();
    let (mut out, mut ends) = (Vec::new(), Vec::new());
    f.encoder().unwrap().encode(&batch, &mut out, &mut ends).unwrap();
    let mut start = 0;
    for (end, expected) in ends.iter().zip(lines) {
        assert_eq!(std::str::from_utf8(&out[start..*end]).unwrap(), expected);
        start = *end;
    }
}

#[test]
fn whatever_is_written_reads_back() {
    let texts =
        ["", "a", "\"", "a\"b", "a,b", "a\nb", "a\r\nb", "\\", "a\\nb", "#x", " x ", "é😀", "'", "|", ";"];
    let column = [("s", LogicalType::string()), ("t", LogicalType::string())];
    for options in [
        &[][..],
        &[("escape-character", "\\")],
        &[("quote-character", "'"), ("field-delimiter", "|")],
        &[("null-literal", "NULL"), ("allow-comments", "true")],
    ] {
        let f = format(&column, options).unwrap();
        let a = Arc::new(arrow::array::StringArray::from(texts.to_vec()));
        let batch = RecordBatch::try_new(f.schema.clone(), vec![a.clone(), a]).unwrap();
        let (mut out, mut ends) = (Vec::new(), Vec::new());
        f.encoder().unwrap().encode(&batch, &mut out, &mut ends).unwrap();
        let mut file = Vec::new();
        let mut start = 0;
        for end in &ends {
            file.extend_from_slice(&out[start..*end]);
            file.push(b'\n');
            start = *end;
        }
        let rows = read_file(&f, &file, 3).unwrap();
        let expected: Vec<String> = texts.iter().map(|t| format!("{t}|{t}")).collect();
        assert_eq!(rows, expected, "{options:?}");
    }
}

#[test]
fn bad_options() {
    let c = small();
    for (options, words) in [
        (&[("disable-quote-character", "true"), ("quote-character", "'")][..], "at the same time"),
        (&[("field-delimiter", "ab")], "a single ASCII character"),
        (&[("field-delimiter", "\"")], "have to differ"),
        (&[("header", "true")], "unsupported options"),
        (&[("fail-on-missing-columns", "true"), ("ignore-parse-errors", "true")], "shouldn't both be true"),
    ] {
        let e = format(&c, options).unwrap_err().to_string();
        assert!(e.contains(words), "{e}");
    }
    let map = nullable(TypeRoot::Map(Box::new(LogicalType::string()), Box::new(LogicalType::string())));
    assert!(format(&[("m", map)], &[]).unwrap_err().to_string().contains("MAP<STRING NOT NULL, STRING>"));
}
