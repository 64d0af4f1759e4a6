//! Random and damaged records for every format that reads records: nothing panics, nothing takes long, and the good ones
//! beside them are read. How long: [`crate::text::fuzzing`].

use std::sync::Arc;

use super::tests::{options, read, schema, show, write};
use super::{RecordFormat, RecordPlace, message_format};
use crate::text::fuzzing::{Random, fuzz};

const COLUMNS: &str = "a INT, b BIGINT, c DOUBLE, d DECIMAL(10, 3), e STRING, f BOOLEAN, g DATE, h TIME(3), i TIMESTAMP(3), j TIMESTAMP_LTZ(6), k BYTES, l ARRAY<INT>, m MAP<STRING, ROW<x INT, y ARRAY<STRING>>>, n ROW<x TINYINT, y STRING>";

const JSON: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\\",
    "\\u",
    "\\ud83d",
    "\"a\":",
    "\"b\":",
    "\"c\":",
    "\"d\":",
    "\"e\":",
    "\"f\":",
    "\"g\":",
    "\"h\":",
    "\"i\":",
    "\"j\":",
    "\"k\":",
    "\"l\":[",
    "\"m\":{\"k\":",
    "\"n\":{\"x\":",
    "1",
    "-0",
    "1.5",
    "1e400",
    "99999999999999999999",
    "true",
    "null",
    "nul",
    "\"2020-02-29\"",
    "\"24:00:00\"",
    "\"2020-02-29 10:11:12.123\"",
    "\"YWI=\"",
    "\"x\"",
    "é",
    "\0",
    " ",
    "\n",
    "{\"a\":1}",
];

const CHANGES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"before\":",
    "\"after\":",
    "\"op\":",
    "\"c\"",
    "\"u\"",
    "\"d\"",
    "\"r\"",
    "\"payload\":",
    "\"type\":",
    "\"data\":",
    "\"old\":",
    "\"INSERT\"",
    "\"UPDATE\"",
    "\"DELETE\"",
    "\"insert\"",
    "\"op_type\":",
    "\"I\"",
    "null",
    "{\"a\":1}",
    "[{\"a\":1}]",
    "{\"b\":\"2\"}",
    "1",
    "\"x\"",
    "\"source\":",
    "\"ts_ms\":",
    "\"sql\":",
    "\"es\":",
];

const CSV: &[&str] = &[
    ",",
    ";",
    "\"",
    "\"\"",
    "\\",
    "\n",
    "\r\n",
    "1",
    "-1.5",
    "x",
    "é",
    "NULL",
    "2020-02-29",
    "10:11:12",
    "true",
    " ",
    "|",
    "\0",
];

/// A format of records with columns that it takes.
fn format(name: &str, columns: &str, pairs: &[(&str, &str)]) -> Arc<dyn RecordFormat> {
    let options = options("f.", pairs);
    let place = RecordPlace { topic: Some("t".to_owned()), key: false };
    message_format(name, &options, "f.", schema(columns), &place).unwrap()
}

/// Reads records, of which any may be bad, with a good one behind them, if there is one.
fn take(format: &dyn RecordFormat, bad: &[Vec<u8>], good: Option<&[u8]>) {
    let all: Vec<usize> = (0..format.schema().fields().len()).collect();
    let mut decoder = format.record_decoder(&all, &[]).unwrap();
    decoder.list_bad();
    for record in bad.iter().map(Vec::as_slice).chain(good) {
        decoder.push(record);
    }
    let decoded = decoder.flush().unwrap();
    assert!(decoded.bad.len() <= bad.len());
    if let Some(good) = good {
        let last = decoded.rows.slice(decoded.rows.num_rows() - 1, 1);
        assert_eq!(show(&last), show(&read(format, &[good]).unwrap()));
    }
    // What was read can be written, if the format writes such values at all.
    if decoded.kinds.is_none() {
        let _ = write(format, &decoded.rows);
    }
}

/// Records of these pieces.
fn of(random: &mut Random, pieces: &[&str]) -> Vec<Vec<u8>> {
    (0..32)
        .map(|_| {
            let text = random.text(pieces, 16);
            if random.below(4) == 0 { random.damaged(text.as_bytes()) } else { text.into_bytes() }
        })
        .collect()
}

#[test]
fn json() {
    let good = br#"{"a":1,"b":-2,"c":1.5,"d":2.125,"e":"x","f":true,"g":"2020-02-29","h":"10:11:12","i":"2020-02-29 10:11:12.5","j":"2020-02-29 10:11:12.5Z","k":"YWI=","l":[1,null],"m":{"k":{"x":1,"y":["z"]}},"n":{"x":7,"y":"w"}}"#;
    let formats =
        [format("json", COLUMNS, &[]), format("json", COLUMNS, &[("timestamp-format.standard", "ISO-8601")])];
    fuzz("json records", 32, |random| {
        let mut bad = of(random, JSON);
        bad.extend((0..8).map(|_| random.damaged(good)));
        take(formats[0].as_ref(), &bad, Some(good));
        take(formats[1].as_ref(), &bad, None);
    });
    take(
        formats[0].as_ref(),
        &["[".repeat(1_000_000).into_bytes(), "{\"l\":".repeat(100_000).into_bytes()],
        Some(good),
    );
}

#[test]
fn changes() {
    let formats = ["debezium-json", "canal-json", "maxwell-json", "ogg-json"]
        .map(|name| format(name, "a INT, b STRING", &[]));
    fuzz("change messages", 32, |random| {
        let bad = of(random, CHANGES);
        take(formats[random.below(formats.len())].as_ref(), &bad, None);
    });
}

#[test]
fn csv() {
    let columns = COLUMNS.split(", l ARRAY").next().unwrap();
    let formats = [
        format("csv", columns, &[]),
        format(
            "csv",
            columns,
            &[("field-delimiter", ";"), ("escape-character", "\\"), ("null-literal", "NULL")],
        ),
        format(
            "csv",
            columns,
            &[("disable-quote-character", "true"), ("field-delimiter", "|"), ("allow-comments", "true")],
        ),
    ];
    fuzz("csv records", 32, |random| {
        let bad = of(random, CSV);
        take(formats[random.below(formats.len())].as_ref(), &bad, None);
    });
}

#[test]
fn avro() {
    let format = format("avro", COLUMNS, &[("timestamp_mapping.legacy", "false")]);
    let json = self::format("json", COLUMNS, &[]);
    let rows = read(json.as_ref(), &[
        br#"{"a":1,"b":-2,"c":1.5,"d":2.125,"e":"x","f":true,"g":"2020-02-29","h":"10:11:12","i":"2020-02-29 10:11:12.5","j":"2020-02-29 10:11:12.5Z","k":"YWI=","l":[1,null],"m":{"k":{"x":1,"y":["z"]}},"n":{"x":7,"y":"w"}}"#.as_slice(),
        br#"{"e":""}"#.as_slice(),
    ])
    .unwrap();
    let good = write(format.as_ref(), &rows).unwrap();
    fuzz("avro records", 32, |random| {
        let bad: Vec<Vec<u8>> = (0..32)
            .map(|_| {
                let of = random.below(good.len());
                random.damaged(&good[of])
            })
            .collect();
        take(format.as_ref(), &bad, Some(&good[0]));
    });
}

#[test]
fn protobuf() {
    const PROTO: &str = r#"syntax = "proto3"; message T { int32 a = 1; sint64 b = 2; double c = 3; string e = 4; bool f = 5; bytes k = 6; repeated int32 l = 7; map<string, int32> m = 8; T n = 9; fixed32 o = 10; }"#;
    let columns = "a INT, b BIGINT, c DOUBLE, e STRING, f BOOLEAN, k BYTES, l ARRAY<INT>, m MAP<STRING, INT>, n ROW<a INT, e STRING>, o BIGINT";
    let format = format("protobuf", columns, &[("message-class-name", "T"), ("schema", PROTO)]);
    let json = self::format("json", columns, &[]);
    let rows = read(json.as_ref(), &[br#"{"a":-1,"b":-2,"c":1.5,"e":"x","f":true,"k":"YWI=","l":[1,300],"m":{"k":5},"n":{"a":7,"e":"y"},"o":9}"#]).unwrap();
    let good = write(format.as_ref(), &rows).unwrap().remove(0);
    fuzz("protobuf records", 32, |random| {
        let bad: Vec<Vec<u8>> = (0..32).map(|_| random.damaged(&good)).collect();
        take(format.as_ref(), &bad, Some(&good));
    });
}
