use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};

use super::*;
use crate::formats::tests::{hex, options, read, schema, show, survive, unhex, write};
use crate::registry::tests::Fake;
use crate::registry::{NewSchema, RegistryClient, RegistryConfig};

/// As fastavro writes it, with the schema below.
const ALL: &str = "010d028080808080400000c03f00000000000002c00ac3a6e697a50400ff0261626306ed29798cb502feffbadd830580c9e7e2ca8b8e064831323334353637382d313233342d353637382d313233342d3536373831323334353637380602020002d7040002026b0a000202000406737472";
const NULLS: &str = "000d000000c03f00000000000002c00ac3a6e697a50400ff0261626306ed29798cb502feffbadd830580c9e7e2ca8b8e064831323334353637382d313233342d353637382d313233342d353637383132333435363738000000061202027a";
const SCHEMA: &str = r#"{"type":"record","name":"R","namespace":"a.b","fields":[{"name":"b","type":"boolean"},{"name":"i","type":"int"},{"name":"l","type":["null","long"]},{"name":"f","type":"float"},{"name":"d","type":"double"},{"name":"s","type":"string"},{"name":"y","type":"bytes"},{"name":"e","type":{"type":"enum","name":"E","symbols":["A","B"]}},{"name":"x","type":{"type":"fixed","name":"F","size":3}},{"name":"dec","type":{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}},{"name":"date","type":{"type":"int","logicalType":"date"}},{"name":"time","type":{"type":"long","logicalType":"time-micros"}},{"name":"ts","type":{"type":"long","logicalType":"timestamp-micros"}},{"name":"u","type":{"type":"string","logicalType":"uuid"}},{"name":"arr","type":{"type":"array","items":["null","int"]}},{"name":"map","type":{"type":"map","values":"long"}},{"name":"rec","type":["null",{"type":"record","name":"N","fields":[{"name":"p","type":"int"},{"name":"q","type":["null","string"]}]}]},{"name":"un","type":["null","int","string","N"]}]}"#;
const COLUMNS: &str = "b BOOLEAN, i INT, l BIGINT, f FLOAT, d DOUBLE, s STRING, y BYTES, e STRING, x BYTES, `dec` DECIMAL(10, 2), `date` DATE, `time` TIME(3), ts TIMESTAMP(6), u STRING, arr ARRAY<INT>, `map` MAP<STRING, BIGINT>, rec ROW<p INT, q STRING>, un ROW<`int` INT, `string` STRING, N ROW<p INT, q STRING>>";

fn plain(columns: &str, pairs: &[(&str, &str)]) -> Result<AvroFormat> {
    let options = options("avro.", pairs);
    let format = AvroFormat::new(&options, "avro.", schema(columns))?;
    options.finish()?;
    Ok(format)
}

/// Reads records of a writer's schema into columns; the reader's schema may be given.
fn decode(writer: &str, reader: Option<&str>, columns: &str, records: &[&[u8]]) -> Result<Vec<String>> {
    let schema = schema(columns);
    let writer = Arc::new(AvroSchema::parse(writer, &[])?);
    let reader = reader.map(|r| AvroSchema::parse(r, &[])).transpose()?;
    let program = Program::new(writer, reader.as_ref(), schema.fields())?;
    let mut batch = Batch::new(schema)?;
    for record in records {
        let rows = batch.rows();
        if let Err(e) = program.read(record, &mut batch) {
            batch.truncate(rows);
            return Err(e);
        }
    }
    Ok(show(&batch.finish()?))
}

fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"r","fields":[{fields}]}}"#)
}

#[test]
fn records_of_fastavro() {
    let rows = decode(SCHEMA, None, COLUMNS, &[&unhex(ALL), &unhex(NULLS)]).unwrap();
    assert_eq!(
        rows,
        [
            "true|-7|1099511627776|1.5|-2.25|æ日|00ff|B|616263|-12345.67|2024-02-29|23:59:59.999|2024-07-01T12:00:00.123456|12345678-1234-5678-1234-567812345678|[1, NULL, -300]|{k: 5}|{p: 1, q: NULL}|{int: NULL, string: str, N: NULL}",
            "false|-7|NULL|1.5|-2.25|æ日|00ff|B|616263|-12345.67|2024-02-29|23:59:59.999|2024-07-01T12:00:00.123456|12345678-1234-5678-1234-567812345678|[]|{}|NULL|{int: NULL, string: NULL, N: {p: 9, q: z}}",
        ]
    );
}

#[test]
fn damaged_records_leave_the_others_alone() {
    let format = plain(COLUMNS, &[("schema", SCHEMA)]).unwrap();
    survive(&format, &unhex(ALL));
    survive(&format, &unhex(NULLS));
}

#[test]
fn the_same_bytes_are_written() {
    // Without the union of several branches, and with the time of day that SQL has.
    let time = r#"{"type":"long","logicalType":"time-micros"}"#;
    let writer = SCHEMA
        .replace(r#",{"name":"un","type":["null","int","string","N"]}"#, "")
        .replace(time, r#"{"type":"int","logicalType":"time-millis"}"#);
    let columns = COLUMNS.split(", un ROW").next().unwrap();
    let format = plain(columns, &[("schema", &writer)]).unwrap();
    for (golden, union) in [(ALL, "0406737472"), (NULLS, "061202027a")] {
        let golden = golden.strip_suffix(union).unwrap().replace("feffbadd8305", &hex(&zigzag(86_399_999)));
        let rows = read(&format, &[unhex(&golden)]).unwrap();
        let written: Vec<String> = write(&format, &rows).unwrap().iter().map(|r| hex(r)).collect();
        assert_eq!(written, [golden]);
    }
}

fn zigzag(value: i64) -> Vec<u8> {
    let mut out = Vec::new();
    encode::put_long(&mut out, value);
    out
}

#[test]
fn numbers_are_promoted_and_fields_found_by_name() {
    let writer = record(
        r#"{"name":"gone","type":{"type":"array","items":{"type":"map","values":"string"}}},{"name":"i","type":"int"},{"name":"l","type":"long"},{"name":"f","type":"float"},{"name":"s","type":"string"},{"name":"y","type":"bytes"}"#,
    );
    // An array of one map with a block size, then the values.
    let body = [2, 1, 8, 2, b'k', 2, b'v', 0, 0, 14, 16, 0, 0, 0x80, 0x3f, 2, b's', 2, b'y'];
    let rows = decode(&writer, None, "y STRING, f DOUBLE, i DOUBLE, l FLOAT, s BYTES, `new` INT", &[&body]);
    assert_eq!(rows.unwrap(), ["y|1.0|7.0|8.0|73|NULL"]);
    let rows = decode(&writer, None, "i TINYINT, l SMALLINT", &[&body]).unwrap();
    assert_eq!(rows, ["7|8"]);
    assert_eq!(decode(&writer, None, "", &[&body]).unwrap().len(), 1);
}

#[test]
fn a_readers_schema_gives_defaults_and_aliases() {
    let writer = record(r#"{"name":"old","type":"int"}"#);
    let reader = record(
        r#"{"name":"new","type":"long","aliases":["old"]},{"name":"a","type":["null","string"],"default":null},{"name":"b","type":{"type":"array","items":"int"},"default":[1,2]},{"name":"c","type":{"type":"record","name":"n","fields":[{"name":"d","type":"double","default":1.5},{"name":"e","type":"bytes"}]},"default":{"e":"\u00ff"}},{"name":"m","type":{"type":"map","values":"boolean"},"default":{"k":true}}"#,
    );
    let columns = "`new` BIGINT NOT NULL, a STRING, b ARRAY<INT> NOT NULL, c ROW<d DOUBLE, e BYTES>, m MAP<STRING, BOOLEAN>";
    assert_eq!(
        decode(&writer, Some(&reader), columns, &[&[2]]).unwrap(),
        ["1|NULL|[1, 2]|{d: 1.5, e: ff}|{k: true}"]
    );
    let e = decode(&writer, None, columns, &[&[2]]).unwrap_err().to_string();
    assert!(e.contains("the writer's schema r has no field 'new', which is declared NOT NULL"), "{e}");
}

#[test]
fn unions_are_read_by_branch() {
    let writer = record(r#"{"name":"u","type":["long","null","int","string"]}"#);
    let rows = decode(&writer, None, "u BIGINT", &[&[0, 2], &[2], &[4, 3]]).unwrap();
    assert_eq!(rows, ["1", "NULL", "-2"]);
    let e = decode(&writer, None, "u BIGINT", &[&[6, 2, b'x']]).unwrap_err().to_string();
    assert_eq!(e, "field 'u': a string cannot be read as BIGINT");
    let e = decode(&writer, None, "u BIGINT", &[&[8]]).unwrap_err().to_string();
    assert_eq!(e, "field 'u': branch 4 of a union of 4");
    let e = decode(&writer, None, "u BOOLEAN", &[]).unwrap_err().to_string();
    assert!(e.contains("field 'u': a string cannot be read as BOOLEAN; declare the column"), "{e}");
    // NULL deep inside, where it must not be.
    let list = record(r#"{"name":"l","type":{"type":"array","items":["null","int"]}}"#);
    let e = decode(&list, None, "l ARRAY<INT NOT NULL>", &[&[2, 0, 0]]).unwrap_err().to_string();
    assert!(e.contains("NULL for `item`, which is declared NOT NULL"), "{e}");
}

#[test]
fn timestamps_keep_their_moment() {
    let of = |logical: &str| {
        record(&format!(r#"{{"name":"t","type":{{"type":"long","logicalType":"{logical}"}}}}"#))
    };
    let micros = zigzag(1_719_835_200_123_456);
    let millis = zigzag(1_719_835_200_123);
    let nanos = zigzag(1_719_835_200_123_456_789);
    let before = zigzag(-1);
    for (logical, value, column, shown) in [
        ("timestamp-micros", &micros, "TIMESTAMP(3)", "2024-07-01T12:00:00.123"),
        ("timestamp-micros", &micros, "TIMESTAMP(9)", "2024-07-01T12:00:00.123456"),
        ("timestamp-micros", &micros, "TIMESTAMP_LTZ(6)", "2024-07-01T12:00:00.123456Z"),
        ("local-timestamp-millis", &millis, "TIMESTAMP(6)", "2024-07-01T12:00:00.123"),
        ("timestamp-nanos", &nanos, "TIMESTAMP_LTZ(9)", "2024-07-01T12:00:00.123456789Z"),
        ("timestamp-nanos", &before, "TIMESTAMP(3)", "1969-12-31T23:59:59.999"),
        ("something-else", &millis, "TIMESTAMP(3)", "2024-07-01T12:00:00.123"),
    ] {
        let rows = decode(&of(logical), None, &format!("t {column}"), &[value]).unwrap();
        assert_eq!(rows, [shown], "{logical} {column}");
    }
    let far = zigzag(i64::MAX);
    let e = decode(&of("timestamp-millis"), None, "t TIMESTAMP(9)", &[&far]).unwrap_err().to_string();
    assert!(e.contains("is out of the range of TIMESTAMP(9)"), "{e}");
}

#[test]
fn decimals_and_uuids() {
    let bytes =
        record(r#"{"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}}"#);
    let fixed = record(
        r#"{"name":"d","type":{"type":"fixed","name":"f","size":20,"logicalType":"decimal","precision":38,"scale":0}},{"name":"u","type":{"type":"fixed","name":"g","size":16,"logicalType":"uuid"}}"#,
    );
    assert_eq!(decode(&bytes, None, "d DECIMAL(12, 4)", &[&[4, 0x30, 0x39]]).unwrap(), ["123.4500"]);
    assert_eq!(decode(&bytes, None, "d DECIMAL(4, 1)", &[&[4, 0xcf, 0xc7]]).unwrap(), ["-123.5"]);
    let e = decode(&bytes, None, "d DECIMAL(3, 2)", &[&[4, 0x30, 0x39]]).unwrap_err().to_string();
    assert!(e.contains("more digits before the point than DECIMAL(3, 2) takes"), "{e}");
    let mut body = vec![0xff; 20];
    body.extend(1..=16);
    let uuid = "01020304-0506-0708-090a-0b0c0d0e0f10";
    assert_eq!(decode(&fixed, None, "d DECIMAL(38, 0), u STRING", &[&body]).unwrap(), [format!("-1|{uuid}")]);
}

#[test]
fn damage_is_a_bad_record_of_its_own() {
    let writer = record(r#"{"name":"l","type":{"type":"array","items":"int"}},{"name":"s","type":"string"}"#);
    for (body, says) in [
        (&[][..], "field 'l': the record ends in the middle of a value"),
        (&[4, 2, 4, 0, 6, b'a'], "field 's': the record ends in the middle of a value"),
        (&[0, 1], "field 's': a value of -1 bytes"),
        (&[0, 2, 0xff], "field 's': byte 1 of a text is not UTF-8"),
        (&[0, 0, 7], "1 bytes are left after the last field"),
        (&[0xfe, 0xff, 0xff, 0xff, 0x1f, 0], "items in a record of 6 bytes"),
        (&[2, 0x80, 0x80, 0x80, 0x80, 0x20, 0, 0], "is too large for Avro's int"),
        (&[255; 12], "a number of more than 64 bits"),
    ] {
        let e = decode(&writer, None, "l ARRAY<INT>, s STRING", &[body]).unwrap_err().to_string();
        assert!(e.contains(says), "{body:?}: {e}");
    }
    // NULLs have no width: a block of many is no way to fill the memory.
    let nulls = record(r#"{"name":"n","type":{"type":"array","items":"null"}}"#);
    let e =
        decode(&nulls, None, "n ARRAY<INT>", &[&[0xfe, 0xff, 0xff, 0xff, 0x1f, 0]]).unwrap_err().to_string();
    assert!(e.contains("items in a record"), "{e}");

    let format =
        plain("l ARRAY<INT>, s STRING", &[("schema", &writer), ("ignore-parse-errors", "true")]).unwrap();
    let mut decoder = format.row_decoder(&[1, 0]).unwrap();
    for record in [&[0, 2, b'x'][..], &[2, 4, 0, 9, 9], &[2, 4, 0, 2, b'y'], &[1]] {
        decoder.decode(record).unwrap();
    }
    assert_eq!(decoder.take_skipped(), 2);
    assert_eq!(show(&decoder.finish().unwrap()), ["x|[]", "y|[2]"]);
    // The batch after it begins anew.
    decoder.decode(&[0, 0]).unwrap();
    assert_eq!(show(&decoder.finish().unwrap()), ["|[]"]);
}

#[test]
fn recursive_schemas_can_be_skipped() {
    let writer = record(r#"{"name":"next","type":["null","r"]},{"name":"v","type":"int"}"#);
    assert_eq!(decode(&writer, None, "v INT", &[&[2, 0, 2, 4]]).unwrap(), ["2"]);
    let deep: Vec<u8> = std::iter::repeat_n(2, 100_000).collect();
    let e = decode(&writer, None, "v INT", &[&deep]).unwrap_err().to_string();
    assert!(e.contains("nested more than 500 deep"), "{e}");
    let parsed = AvroSchema::parse(&writer, &[]).unwrap();
    let e = columns::columns(&parsed).unwrap_err().to_string();
    assert!(e.contains("field 'next': the record r contains itself"), "{e}");
}

#[test]
fn a_value_without_a_record() {
    assert_eq!(decode(r#""string""#, None, "k STRING", &[&[2, b'a']]).unwrap(), ["a"]);
    assert_eq!(decode(r#"["null","long"]"#, None, "k BIGINT", &[&[0], &[2, 2]]).unwrap(), ["NULL", "1"]);
    let e = decode(r#""string""#, None, "a STRING, b STRING", &[]).unwrap_err().to_string();
    assert!(e.contains("the schema of the record is a string, not a record"), "{e}");
    let nullable = format!(r#"["null",{}]"#, record(r#"{"name":"a","type":"int"}"#));
    assert_eq!(decode(&nullable, None, "a INT", &[&[2, 2], &[0], &[2, 4]]).unwrap(), ["1", "2"]);
    let format = plain("k STRING", &[("schema", r#""string""#)]).unwrap();
    let rows = read(&format, &[[2, b'a']]).unwrap();
    assert_eq!(write(&format, &rows).unwrap(), [[2, b'a']]);
}

#[test]
fn the_schema_of_a_table_is_flinks() {
    let columns = "a INT NOT NULL, b STRING, c ROW<d TIMESTAMP(3) NOT NULL, e ARRAY<ROW<f DECIMAL(10, 2)>>>, m MAP<STRING, DOUBLE NOT NULL>, g TINYINT, h DATE, i TIME(0), j BYTES, k FLOAT, l BIGINT";
    let format = plain(columns, &[]).unwrap();
    let wanted: serde_json::Value = serde_json::from_str(r#"{"type":"record","name":"record","namespace":"org.apache.flink.avro.generated","fields":[
        {"name":"a","type":"int"},
        {"name":"b","type":["null","string"],"default":null},
        {"name":"c","type":["null",{"type":"record","name":"record_c","namespace":"org.apache.flink.avro.generated","fields":[
            {"name":"d","type":{"type":"long","logicalType":"timestamp-millis"}},
            {"name":"e","type":["null",{"type":"array","items":["null",{"type":"record","name":"record_c_e","namespace":"org.apache.flink.avro.generated","fields":[
                {"name":"f","type":["null",{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}],"default":null}]}]}],"default":null}]}],"default":null},
        {"name":"m","type":["null",{"type":"map","values":"double"}],"default":null},
        {"name":"g","type":["null","int"],"default":null},
        {"name":"h","type":["null",{"type":"int","logicalType":"date"}],"default":null},
        {"name":"i","type":["null",{"type":"int","logicalType":"time-millis"}],"default":null},
        {"name":"j","type":["null","bytes"],"default":null},
        {"name":"k","type":["null","float"],"default":null},
        {"name":"l","type":["null","long"],"default":null}]}"#).unwrap();
    let made: serde_json::Value = serde_json::from_str(format.text.as_ref().unwrap()).unwrap();
    assert_eq!(made, wanted);
    let modern =
        plain("a TIMESTAMP(3), b TIMESTAMP_LTZ(6)", &[("timestamp_mapping.legacy", "false")]).unwrap();
    let text = modern.text.unwrap();
    assert!(text.contains("local-timestamp-millis") && text.contains("\"timestamp-micros\""), "{text}");
}

#[test]
fn what_avro_cannot_hold_is_refused() {
    for (columns, pairs, says) in [
        (
            "a TIMESTAMP_LTZ(3)",
            &[][..],
            "column `a`: Avro has no type for TIMESTAMP_LTZ with the legacy mapping of timestamps; add 'avro.timestamp_mapping.legacy' = 'false'",
        ),
        ("a TIMESTAMP(6)", &[], "a precision above 3 with the legacy mapping"),
        (
            "a MAP<INT, INT>",
            &[],
            "Avro format doesn't support non-string as key type of map. The type is: MAP<INT",
        ),
        ("`ä` INT", &[], "`ä` is no name for a field in Avro"),
        ("a INT", &[("encoding", "json")], "'avro.encoding' = 'json'"),
        ("a INT", &[("codec", "snappy")], "unsupported options found for 'test': avro.codec"),
        ("a INT", &[("schema", "{")], "'avro.schema': the Avro schema is not valid: it is no JSON"),
        (
            "a INT",
            &[("schema", r#"{"type":"record","name":"r","fields":[{"name":"a","type":"string"}]}"#)],
            "Schema provided for the avro format does not match the table data type: field 'a': a string cannot be read as INT",
        ),
    ] {
        let e = plain(columns, pairs).unwrap_err().to_string();
        assert!(e.contains(says), "{e}");
    }
}

#[test]
fn values_that_the_schema_cannot_hold() {
    let given = |ty: &str| record(&format!(r#"{{"name":"a","type":{ty}}}"#));
    let rows = |values: ArrayRef| RecordBatch::try_from_iter_with_nullable([("a", values, true)]).unwrap();
    let text = rows(Arc::new(StringArray::from(vec!["C"])));
    let schema = given(r#"{"type":"enum","name":"e","symbols":["A","B"]}"#);
    let format = plain("a STRING", &[("schema", &schema)]).unwrap();
    let e = write(&format, &text).unwrap_err().to_string();
    assert_eq!(e, "column `a`: 'C' is no symbol of the enumeration; its symbols are A, B");
    let format = plain("a BIGINT", &[("schema", &given(r#""long""#))]).unwrap();
    let null = rows(Arc::new(Int64Array::from(vec![None])));
    let e = write(&format, &null).unwrap_err().to_string();
    assert!(e.contains("column `a`: NULL where the schema has no null"), "{e}");
}

#[test]
fn every_type_goes_round() {
    let columns = "a BOOLEAN, b TINYINT, c SMALLINT, d INT, e BIGINT, f FLOAT, g DOUBLE, h STRING, i BYTES, j DECIMAL(38, 10), k DATE, l TIME(3), m TIMESTAMP(3), n TIMESTAMP_LTZ(6), o ARRAY<ARRAY<STRING>>, p MAP<STRING, ROW<q INT NOT NULL, r MULTISET<STRING>>>, s TIMESTAMP(9)";
    let format = plain(columns, &[("timestamp_mapping.legacy", "false")]).unwrap();
    let json =
        crate::formats::record_format("json", &options("json.", &[]), "json.", schema(columns)).unwrap();
    let text = [
        r#"{"a":true,"b":-128,"c":-32768,"d":-2147483648,"e":-9223372036854775808,"f":1.5,"g":-0.0,"h":"æ","i":"AP8=","j":-12345678901234567890.0123456789,"k":"0001-01-01","l":"23:59:59.999","m":"1969-12-31 23:59:59.999","n":"2024-02-29 00:00:00.000001Z","o":[["a",null],null,[]],"p":{"k":{"q":1,"r":{"x":2}}},"s":"1969-12-31 23:59:59.999999999"}"#,
        "{}",
        r#"{"b":127,"c":32767,"d":2147483647,"e":9223372036854775807,"j":0,"h":"","i":"","o":[],"p":{}}"#,
    ];
    let rows = read(&*json, &text).unwrap();
    let records = write(&format, &rows).unwrap();
    assert_eq!(show(&read(&format, &records).unwrap()), show(&rows));
    // Cut anywhere it is damaged, never a panic.
    for cut in 0..records[0].len() {
        assert!(read(&format, &[&records[0][..cut]]).is_err());
    }
    assert_eq!(show(&read(&format, &[] as &[&[u8]]).unwrap()), [] as [&str; 0]);
}

fn confluent(fake: &Fake, columns: &str, pairs: &[(&str, &str)]) -> Result<AvroFormat> {
    let mut all = vec![("url", fake.url.as_str())];
    all.extend_from_slice(pairs);
    let options = options("value.avro-confluent.", &all);
    let place = RecordPlace { topic: Some("orders".to_owned()), key: false };
    let format = AvroFormat::confluent(&options, "value.avro-confluent.", schema(columns), &place)?;
    options.finish()?;
    Ok(format)
}

#[test]
fn records_with_ids() {
    let fake = Fake::registry();
    let client = RegistryClient::new(RegistryConfig::new(&fake.url).unwrap()).unwrap();
    let put = |kind, text: &str| {
        let schema = NewSchema { kind, text: text.to_owned(), references: Vec::new() };
        client.register_blocking("x", schema, true).unwrap()
    };
    let old = put(SchemaKind::Avro, &record(r#"{"name":"id","type":"int"}"#));
    let new = put(
        SchemaKind::Avro,
        &record(r#"{"name":"name","type":"string"},{"name":"id","type":["null","long"]}"#),
    );
    let json = put(SchemaKind::Json, "{}");
    let text = put(SchemaKind::Avro, &record(r#"{"name":"id","type":"string"}"#));
    let format = confluent(&fake, "id BIGINT, name STRING", &[]).unwrap();
    let with = |id: u32, body: &[u8]| [&confluent::header(id)[..], body].concat();
    let rows =
        read(&format, &[with(old, &[2]), with(new, &[2, b'a', 2, 4]), with(old, &[6]), with(new, &[0, 0])]);
    assert_eq!(show(&rows.unwrap()), ["1|NULL", "2|a", "3|NULL", "NULL|"]);
    for (record, says) in [
        (with(99, &[2]), "schema 99 is not in the registry at"),
        (with(json, &[2]), "schema 3 is JSON Schema, not Avro"),
        (with(text, &[2]), "schema 4: field 'id': a string cannot be read as BIGINT"),
        (b"{}".to_vec(), "the record begins with 0x7b"),
    ] {
        let e = read(&format, &[record]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Data, "{e}");
        assert!(e.to_string().contains(says), "{e}");
    }
    let loose = confluent(&fake, "id BIGINT", &[("ignore-parse-errors", "true")]).unwrap();
    let records = [with(99, &[2]), with(old, &[2]), with(99, &[]), with(text, &[]), vec![]];
    assert_eq!(show(&read(&loose, &records).unwrap()), ["1"]);

    // What is written is registered under the topic, once.
    let rows = read(&format, &[with(new, &[2, b'a', 2, 4])]).unwrap();
    let written = write(&format, &rows).unwrap();
    write(&format, &rows).unwrap();
    assert_eq!(written, [with(text + 1, &[2, 4, 2, 2, b'a'])]);
    assert_eq!(show(&read(&format, &written).unwrap()), ["2|a"]);
    let posts =
        fake.seen.lock().unwrap().iter().filter(|r| r.path == "/subjects/orders-value/versions").count();
    assert_eq!(posts, 1);
    let strict = confluent(&fake, "z INT", &[("properties.auto.register.schemas", "false")]).unwrap();
    let e = strict.encoder().err().unwrap().to_string();
    assert!(e.contains("subject orders-value: the schema is not registered at"), "{e}");
}

#[test]
fn a_topic_of_its_own_names_the_subject() {
    let fake = Fake::registry();
    let options = options("a.", &[("url", fake.url.as_str())]);
    let nowhere = AvroFormat::confluent(&options, "a.", schema("a INT"), &RecordPlace::default()).unwrap();
    let e = nowhere.encoder().err().unwrap().to_string();
    assert!(e.contains("Option 'a.subject' is required for serialization"), "{e}");
    // TIMESTAMP_LTZ can be read whatever the mapping, and is written only with the new one.
    let ltz = confluent(&fake, "a TIMESTAMP_LTZ(3)", &[]).unwrap();
    ltz.row_decoder(&[0]).map(|_| ()).unwrap();
    let e = ltz.encoder().err().unwrap().to_string();
    assert!(e.contains("'value.avro-confluent.timestamp_mapping.legacy' = 'false'"), "{e}");
}

#[test]
fn columns_of_a_schema() {
    let found = columns::columns(&AvroSchema::parse(SCHEMA, &[]).unwrap()).unwrap();
    let shown: Vec<String> = found.columns.iter().map(|c| format!("{} {}", c.name, c.ty)).collect();
    assert_eq!(
        shown.join(", "),
        "b BOOLEAN NOT NULL, i INT NOT NULL, l BIGINT, f FLOAT NOT NULL, d DOUBLE NOT NULL, s STRING NOT NULL, y BYTES NOT NULL, e STRING NOT NULL, x BINARY(3) NOT NULL, dec DECIMAL(10, 2) NOT NULL, date DATE NOT NULL, time TIME(3) NOT NULL, ts TIMESTAMP_LTZ(6) NOT NULL, u STRING NOT NULL, arr ARRAY<INT> NOT NULL, map MAP<STRING NOT NULL, BIGINT NOT NULL> NOT NULL, rec ROW<`p` INT NOT NULL, `q` STRING>, un ROW<`int` INT, `string` STRING, `N` ROW<`p` INT NOT NULL, `q` STRING>>"
    );
    // Records of the schema are read into them.
    let fields: Vec<_> = found.columns.iter().map(|c| c.ty.to_field(&c.name)).collect();
    let schema = Arc::new(Schema::new(fields));
    let program =
        Program::new(Arc::new(AvroSchema::parse(SCHEMA, &[]).unwrap()), None, schema.fields()).unwrap();
    let mut batch = Batch::new(schema).unwrap();
    program.read(&unhex(ALL), &mut batch).unwrap();
    program.read(&unhex(NULLS), &mut batch).unwrap();
    assert_eq!(batch.finish().unwrap().num_rows(), 2);

    let odd = record(
        r#"{"name":"n","type":"null"},{"name":"o","type":{"type":"record","name":"empty","fields":[]}},{"name":"u","type":[{"type":"record","name":"a.X","fields":[{"name":"v","type":"int","doc":"why"}]},{"type":"record","name":"b.X","fields":[{"name":"w","type":"null"},{"name":"v","type":"int"}]}]},{"name":"d","type":{"type":"fixed","name":"dur","size":12,"logicalType":"duration"},"doc":"how long","aliases":["old"]}"#,
    );
    let found = columns::columns(&AvroSchema::parse(&odd, &[]).unwrap()).unwrap();
    let shown: Vec<String> = found.columns.iter().map(|c| format!("{} {}", c.name, c.ty)).collect();
    assert_eq!(
        shown,
        [
            "u ROW<`a_X` ROW<`v` INT NOT NULL 'why'>, `b_X` ROW<`v` INT NOT NULL>> NOT NULL",
            "d BINARY(12) NOT NULL"
        ]
    );
    assert_eq!(found.left_out, ["n", "o", "u.b_X.w"]);
    assert_eq!(found.columns[1].comment.as_deref(), Some("how long"));
    assert_eq!(found.columns[1].aliases, ["old"]);
}

#[test]
fn schemas_that_are_not_valid() {
    for (text, says) in [
        ("{}", "a type without \"type\""),
        ("7", "a type cannot be 7"),
        (r#"{"type":"array"}"#, "an array without \"items\""),
        (r#"{"type":"map"}"#, "a map without \"values\""),
        (r#""nope""#, "the type 'nope' is not defined"),
        (r#"{"type":"record","name":"r"}"#, "record r: no \"fields\""),
        (r#"{"type":"record","fields":[]}"#, "a record without \"name\""),
        (r#"{"type":"fixed","name":"f"}"#, "fixed f: no \"size\""),
        (r#"[["int"]]"#, "a union within a union"),
    ] {
        let e = AvroSchema::parse(text, &[]).unwrap_err().to_string();
        assert!(e.contains("the Avro schema is not valid") && e.contains(says), "{e}");
    }
    let twice = record(r#"{"name":"a","type":"int"},{"name":"a","type":"int"}"#);
    assert!(AvroSchema::parse(&twice, &[]).unwrap_err().to_string().contains("the field 'a' is there twice"));
    let deep = format!("{}\"int\"{}", r#"{"type":"array","items":"#.repeat(101), "}".repeat(101));
    assert!(AvroSchema::parse(&deep, &[]).unwrap_err().to_string().contains("more than 100 deep"));
    // A named type of a reference, with its namespace and without.
    let named = ("x".to_owned(), r#"{"type":"fixed","name":"f","namespace":"n","size":2}"#.to_owned());
    let user =
        r#"{"type":"record","name":"n.r","fields":[{"name":"a","type":"f"},{"name":"b","type":"n.f"}]}"#;
    assert_eq!(AvroSchema::parse(user, &[named]).unwrap().types.len(), 2);
}
