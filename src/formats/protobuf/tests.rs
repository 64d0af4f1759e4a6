use super::*;
use crate::formats::tests::{hex, options, read, schema, show, survive, unhex, write};
use crate::registry::tests::Fake;
use crate::registry::{NewSchema, RegisteredSchema, RegistryClient, RegistryConfig};

const PROTO: &str = r#"
syntax = "proto3";
package p.q;
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
enum Color { RED = 0; GREEN = 1; NEG = -1; }
message T {
  message In { int32 a = 1; optional string b = 2; }
  int32 i32 = 1; int64 i64 = 2; uint32 u32 = 3; uint64 u64 = 4; sint32 s32 = 5; sint64 s64 = 6;
  fixed32 f32 = 7; fixed64 f64 = 8; sfixed32 sf32 = 9; sfixed64 sf64 = 10; bool b = 11; float f = 12; double d = 13;
  string s = 14; bytes y = 15; Color c = 16; In m = 17; repeated int32 packed = 18; repeated string texts = 19;
  map<string, In> map = 20; google.protobuf.Timestamp ts = 21; google.protobuf.Int64Value w = 22; optional int32 opt = 23;
  oneof one { string x = 24; int32 z = 25; }
  repeated Color colors = 300;
}
"#;
/// As Google's library for Python writes it.
const ALL: &str = "08ffffffffffffffffff0110feffffffffffffffff0118ffffffff0f20ffffffffffffffffff01280530073d050000004106000000000000004df9ffffff51f8ffffffffffffff5801650000c03f6900000000000004c07202c3a67a0200018001ffffffffffffffffff018a01040807120092010d01ffffffffffffffffff01ac029a0101619a0100a201070a016b12020809aa011108ffffffffffffffffff011080cab5ee01b20100b80100c20100e2120c0001ffffffffffffffffff01";
const COLUMNS: &str = "i32 INT, i64 BIGINT, u32 BIGINT, u64 DECIMAL(20, 0), s32 INT, s64 BIGINT, f32 BIGINT, f64 DECIMAL(20, 0), sf32 INT, sf64 BIGINT, b BOOLEAN, f FLOAT, d DOUBLE, s STRING, y BYTES, c STRING, m ROW<a INT, b STRING>, packed ARRAY<INT>, texts ARRAY<STRING>, `map` MAP<STRING, ROW<a INT, b STRING>>, ts TIMESTAMP_LTZ(9), w BIGINT, opt INT, x STRING, z INT, colors ARRAY<STRING>";

fn plain(columns: &str, message: &str, proto: &str, pairs: &[(&str, &str)]) -> Result<ProtobufFormat> {
    let mut all = vec![("message-class-name", message), ("schema", proto)];
    all.extend_from_slice(pairs);
    let options = options("protobuf.", &all);
    let format = ProtobufFormat::new(&options, "protobuf.", schema(columns))?;
    options.finish()?;
    Ok(format)
}

fn rows(columns: &str, records: &[&[u8]]) -> Result<Vec<String>> {
    read(&plain(columns, "T", PROTO, &[])?, records).map(|b| show(&b))
}

#[test]
fn messages_of_google() {
    let format = plain(COLUMNS, "p.q.T", PROTO, &[]).unwrap();
    let batch = read(&format, &[unhex(ALL), Vec::new()]).unwrap();
    assert_eq!(
        show(&batch),
        [
            "-1|-2|4294967295|18446744073709551615|-3|-4|5|6|-7|-8|true|1.5|-2.5|æ|0001|NEG|{a: 7, b: }|[1, -1, 300]|[a, ]|{k: {a: 9, b: NULL}}|1969-12-31T23:59:59.500Z|0|0||NULL|[RED, GREEN, NEG]",
            "0|0|0|0|0|0|0|0|0|0|false|0.0|0.0|||RED|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL",
        ]
    );
    let written: Vec<String> = write(&format, &batch).unwrap().iter().map(|r| hex(r)).collect();
    // A value that is zero is written by neither, but that of a wrapper is by us.
    assert_eq!(written, [ALL.replace("b20100", "b201020800"), String::new()]);
    assert_eq!(show(&read(&format, &[unhex(&written[0])]).unwrap()), show(&batch.slice(0, 1)));
    survive(&format, &unhex(ALL));
}

#[test]
fn the_order_and_number_of_fields_is_free() {
    // The last one counts; unknown fields and groups are skipped.
    assert_eq!(
        rows("i32 INT, s STRING", &[&[8, 1, 0x72, 1, b'a', 0xf8, 0x3f, 9, 8, 2, 0x72, 0]]).unwrap(),
        ["2|"]
    );
    assert_eq!(rows("i32 INT", &[&[0x0b, 8, 7, 0x0c, 0xfb, 7, 0xfc, 7, 8, 3]]).unwrap(), ["3"]);
    // Packed and not, in pieces, among others.
    let list = [0x90, 1, 1, 8, 5, 0x92, 1, 2, 2, 3, 0x90, 1, 4];
    assert_eq!(rows("packed ARRAY<INT>, i32 INT", &[&list]).unwrap(), ["[1, 2, 3, 4]|5"]);
    // The parts of a message are merged, also around others.
    let merged = [0x8a, 1, 2, 8, 1, 8, 5, 0x8a, 1, 3, 0x12, 1, b'x', 0x8a, 1, 2, 8, 2];
    assert_eq!(rows("m ROW<a INT, b STRING>, i32 INT", &[&merged]).unwrap(), ["{a: 2, b: x}|5"]);
    // Of a oneof the last one is set.
    assert_eq!(rows("x STRING, z INT", &[&[0xc2, 1, 1, b'a', 0xc8, 1, 7]]).unwrap(), ["NULL|7"]);
    assert_eq!(rows("x STRING, z INT", &[&[0xc8, 1, 7, 0xc2, 1, 1, b'a']]).unwrap(), ["a|NULL"]);
    // Entries of a map without key or value.
    assert_eq!(
        rows("`map` MAP<STRING, ROW<a INT>>", &[&[0xa2, 1, 0, 0xa2, 1, 3, 0x0a, 1, b'k']]).unwrap(),
        ["{: {a: 0}, k: {a: 0}}"]
    );
    // A value of an enumeration that the schema does not know.
    assert_eq!(rows("c STRING", &[&[0x80, 1, 9]]).unwrap(), ["9"]);
    assert_eq!(rows("c INT", &[&[0x80, 1, 9]]).unwrap(), ["9"]);
    assert_eq!(rows("", &[&[8, 1], &[]]).unwrap().len(), 2);
    // A timestamp in pieces and before 1970, cut to milliseconds towards the past.
    let ts = [0xaa, 1, 2, 8, 1, 0xaa, 1, 6, 0x10, 0xc0, 0x84, 0x3d, 8, 0];
    assert_eq!(rows("ts TIMESTAMP(3)", &[&ts]).unwrap(), ["1970-01-01T00:00:00.001"]);
    assert_eq!(rows("ts ROW<seconds BIGINT, nanos INT>", &[&ts]).unwrap(), ["{seconds: 0, nanos: 1000000}"]);
}

#[test]
fn what_is_absent() {
    let columns =
        "i32 INT NOT NULL, packed ARRAY<INT NOT NULL> NOT NULL, `map` MAP<STRING, ROW<a INT>> NOT NULL";
    assert_eq!(rows(columns, &[&[]]).unwrap(), ["0|[]|{}"]);
    let format = plain(
        "opt INT, m ROW<a INT, b STRING>, packed ARRAY<INT>, x STRING, w BIGINT",
        "T",
        PROTO,
        &[("read-default-values", "true")],
    )
    .unwrap();
    assert_eq!(show(&read(&format, &[[]]).unwrap()), ["0|{a: 0, b: }|[]||NULL"]);
    let e = rows("opt INT NOT NULL", &[&[]]).unwrap_err().to_string();
    assert!(e.contains("nothing for field 'opt', which is declared NOT NULL"), "{e}");
    let two = "syntax = \"proto2\"; message M { optional int32 a = 1 [default = 7]; required string b = 2; repeated int32 c = 3; optional E e = 4; enum E { X = 5; Y = 6; } }";
    let format = plain("a INT, b STRING, c ARRAY<INT>, e STRING", "M", two, &[]).unwrap();
    assert_eq!(show(&read(&format, &[[]]).unwrap()), ["NULL|NULL|NULL|NULL"]);
    let format =
        plain("a INT, b STRING, c ARRAY<INT>, e STRING", "M", two, &[("read-default-values", "true")])
            .unwrap();
    assert_eq!(show(&read(&format, &[[]]).unwrap()), ["7||[]|X"]);
    // Not packed in proto2.
    let rows = read(&format, &[&[0x1a, 2, 1, 2, 0x18, 3][..]]).unwrap();
    assert_eq!(write(&format, &rows).unwrap(), [[8, 7, 0x12, 0, 0x18, 1, 0x18, 2, 0x18, 3, 0x20, 5]]);
}

#[test]
fn damage_is_a_bad_record_of_its_own() {
    for (columns, record, says) in [
        ("i32 INT", &[8][..], "the message ends in the middle of a field"),
        ("i32 INT", &[0x0a, 1, 1], "field 'i32': bytes with a length where the schema has another type"),
        ("s STRING", &[0x72, 1, 0xff], "field 's': byte 1 of a text is not UTF-8"),
        (
            "u32 INT",
            &[0x18, 0xff, 0xff, 0xff, 0xff, 0x0f],
            "4294967295 is out of the range of INT; unsigned 32 bits fit into BIGINT",
        ),
        ("packed ARRAY<INT>", &[0x92, 1, 1, 0x80], "field 'packed': the message ends"),
        ("m ROW<a INT>", &[0x8a, 1, 2, 0x0a, 0], "field 'm': field 'a': bytes with a length"),
        (
            "ts TIMESTAMP_LTZ(9)",
            &[0xaa, 1, 6, 8, 0xff, 0xff, 0xff, 0xff, 0x7f],
            "out of the range of TIMESTAMP_LTZ(9)",
        ),
        ("i32 INT", &[0x0c], "field 1 has the wire type 4"),
    ] {
        let e = rows(columns, &[&[8, 1], record]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Data, "{e}");
        assert!(e.to_string().contains(says), "{e}");
    }
    let loose = plain("packed ARRAY<INT>, i32 INT", "T", PROTO, &[("ignore-parse-errors", "true")]).unwrap();
    let mut decoder = loose.row_decoder(&[0, 1]).unwrap();
    for record in [&[0x90, 1, 1][..], &[0x90, 1, 2, 0x90, 1], &[0x90, 1, 3, 8, 7]] {
        decoder.decode(record).unwrap();
    }
    assert_eq!((decoder.take_skipped(), decoder.rows()), (1, 2));
    assert_eq!(show(&decoder.finish().unwrap()), ["[1]|0", "[3]|7"]);
}

#[test]
fn what_cannot_be_written() {
    let format = plain("x STRING, z INT", "T", PROTO, &[]).unwrap();
    let json = |columns: &str, text: &str| {
        let json =
            crate::formats::record_format("json", &options("json.", &[]), "json.", schema(columns)).unwrap();
        read(&*json, &[text]).unwrap()
    };
    let e = write(&format, &json("x STRING, z INT", r#"{"x":"","z":1}"#)).unwrap_err().to_string();
    assert_eq!(e, "'x' and 'z' of the message p.q.T cannot both be set: they are of one oneof");
    let format = plain("u32 BIGINT, c STRING", "T", PROTO, &[]).unwrap();
    let e = write(&format, &json("u32 BIGINT, c STRING", r#"{"u32":-1}"#)).unwrap_err().to_string();
    assert_eq!(e, "column `u32`: -1 is out of the range of Protobuf's unsigned 32-bit numbers");
    let e = write(&format, &json("u32 BIGINT, c STRING", r#"{"c":"BLUE"}"#)).unwrap_err().to_string();
    assert_eq!(e, "column `c`: 'BLUE' is no value of the enumeration");
    // NULL among items is what the option says.
    let format =
        plain("texts ARRAY<STRING>, packed ARRAY<INT>", "T", PROTO, &[("write-null-string-literal", "-")])
            .unwrap();
    let rows = json("texts ARRAY<STRING>, packed ARRAY<INT>", r#"{"texts":["a",null],"packed":[1,null]}"#);
    assert_eq!(show(&read(&format, &write(&format, &rows).unwrap()).unwrap()), ["[a, -]|[1, 0]"]);
}

#[test]
fn options_and_columns_are_checked() {
    let with = |pairs: &[(&str, &str)], columns: &str| {
        ProtobufFormat::new(&options("protobuf.", pairs), "protobuf.", schema(columns))
            .unwrap_err()
            .to_string()
    };
    for (pairs, columns, says) in [
        (&[][..], "a INT", "one or more required options are missing: 'protobuf.message-class-name'"),
        (
            &[("message-class-name", "T")],
            "a INT",
            "needs exactly one of 'protobuf.schema-file', 'protobuf.descriptor-file' and 'protobuf.schema'; Java classes cannot be loaded",
        ),
        (
            &[("message-class-name", "T"), ("schema-file", "/nowhere")],
            "a INT",
            "'protobuf.schema-file': cannot read the Protobuf schema /nowhere",
        ),
        (
            &[("message-class-name", "T"), ("descriptor-file", "Cargo.toml")],
            "a INT",
            "Cargo.toml: the Protobuf schema is not valid",
        ),
        (&[("message-class-name", "T"), ("schema", "message")], "a INT", "the Protobuf schema is not valid"),
        (&[("message-class-name", "T"), ("schema", "import \"no.proto\";")], "a INT", "no.proto"),
        (
            &[("message-class-name", "U"), ("schema", PROTO)],
            "i32 INT",
            "there is no message 'U' in the Protobuf schema; its messages are p.q.T, p.q.T.In",
        ),
        (
            &[("message-class-name", "T"), ("schema", PROTO)],
            "a INT",
            "the message p.q.T has no field 'a'; its fields are i32, i64",
        ),
        (
            &[("message-class-name", "T"), ("schema", PROTO)],
            "s INT",
            "field 's': Protobuf's string and the column type INT don't fit",
        ),
        (
            &[("message-class-name", "T"), ("schema", PROTO)],
            "packed INT",
            "Protobuf's repeated int32 and the column type INT don't fit",
        ),
        (
            &[("message-class-name", "T"), ("schema", PROTO)],
            "m ROW<z INT>",
            "field 'm': the message p.q.T.In has no field 'z'",
        ),
    ] {
        let e = with(pairs, columns);
        assert!(e.contains(says), "{e}");
    }
    // Java's names.
    for name in ["T", "p.q.T", "com.example.Outer$T", "com.example.T"] {
        plain("i32 INT", name, PROTO, &[]).unwrap();
    }
    plain("a INT", "com.example.Outer$T$In", PROTO, &[]).unwrap();
}

#[test]
fn schemas_in_files() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    let (main, other) = (folder.path().join("sub/m.proto"), folder.path().join("other.proto"));
    std::fs::write(&main, "syntax = \"proto3\"; import \"other.proto\"; message M { O o = 1; }").unwrap();
    std::fs::write(&other, "syntax = \"proto3\"; message O { int32 a = 1; }").unwrap();
    let path = main.to_str().unwrap();
    let options = options("p.", &[("message-class-name", "M"), ("schema-file", path)]);
    let format = ProtobufFormat::new(&options, "p.", schema("o ROW<a INT>")).unwrap();
    assert_eq!(show(&read(&format, &[[0x0a, 2, 8, 5]]).unwrap()), ["{a: 5}"]);

    let set = folder.path().join("m.pb");
    let pool = descriptor::from_file(path).unwrap().parent_pool().clone();
    std::fs::write(&set, pool.encode_to_vec()).unwrap();
    let options = crate::formats::tests::options(
        "p.",
        &[("message-class-name", "M"), ("descriptor-file", set.to_str().unwrap())],
    );
    let format = ProtobufFormat::new(&options, "p.", schema("o ROW<a INT>")).unwrap();
    assert_eq!(show(&read(&format, &[[0x0a, 2, 8, 5]]).unwrap()), ["{a: 5}"]);
}

/// As Confluent's client for Python registers `syntax = "proto3"; import "o.proto"; message M { O o = 1; }`.
#[test]
fn descriptions_in_base64() {
    use base64::Engine;
    let imports = [("o.proto".to_owned(), "syntax = \"proto3\"; message O { int32 a = 1; }".to_owned())];
    let text = "syntax = \"proto3\"; import \"o.proto\"; message M { O o = 1; }";
    let file = descriptor::from_text(text, &imports).unwrap();
    let mut described = file.file_descriptor_proto().clone();
    described.name = Some("m.proto".to_owned());
    use prost_reflect::prost::Message;
    let base64 = base64::prelude::BASE64_STANDARD.encode(described.encode_to_vec());
    let again = descriptor::from_text(&base64, &imports).unwrap();
    assert_eq!(again.messages().next().unwrap().full_name(), "M");
    assert!(descriptor::from_text("AAAA", &[]).is_err());
}

#[test]
fn the_schema_of_a_table() {
    let columns = "id BIGINT NOT NULL, name STRING, ship_to ROW<zip STRING, lines ARRAY<ROW<x INT>>>, tags MAP<STRING, DOUBLE>, `at` TIMESTAMP_LTZ(3)";
    let text = derive::derive(&schema(columns)).unwrap();
    assert_eq!(
        text,
        "syntax = \"proto3\";

import \"google/protobuf/timestamp.proto\";

message Record {
  message ShipToRow {
    message LinesRow {
      optional int32 x = 1;
    }
    optional string zip = 1;
    repeated LinesRow lines = 2;
  }
  int64 id = 1;
  optional string name = 2;
  ShipToRow ship_to = 3;
  map<string, double> tags = 4;
  google.protobuf.Timestamp at = 5;
}
"
    );
    let format = plain(columns, "Record", &text, &[]).unwrap();
    let json =
        crate::formats::record_format("json", &options("json.", &[]), "json.", schema(columns)).unwrap();
    let rows = read(&*json, &[r#"{"id":0,"name":"","ship_to":{"zip":null,"lines":[{"x":0},{}]},"tags":{"a":0.5},"at":"2024-01-01 00:00:00.001Z"}"#, r#"{"id":1}"#]).unwrap();
    assert_eq!(show(&read(&format, &write(&format, &rows).unwrap()).unwrap()), show(&rows));
    for (columns, says) in [
        ("a DECIMAL(10, 2)", "column `a`: Protobuf has no type for DECIMAL(10, 2); CAST it to STRING"),
        ("a ARRAY<ARRAY<INT>>", "column `a`: Protobuf has no type for ARRAY<INT>"),
        ("`1` INT", "`1` is no name for a field in Protobuf"),
        ("m MAP<DOUBLE, INT>", "column `m`: Protobuf has no maps with keys of type DOUBLE"),
    ] {
        let e = derive::derive(&schema(columns)).unwrap_err().to_string();
        assert!(e.contains(says), "{e}");
    }
}

#[test]
fn records_with_ids_and_paths() {
    let fake = Fake::registry();
    let client = RegistryClient::new(RegistryConfig::new(&fake.url).unwrap()).unwrap();
    let text = "syntax = \"proto3\"; message A { map<string, int32> m = 1; message X {} message Y { int32 id = 1; } } message B { int32 id = 1; optional string name = 2; } import \"confluent/meta.proto\";";
    let new = NewSchema { kind: SchemaKind::Protobuf, text: text.to_owned(), references: Vec::new() };
    assert_eq!(client.register_blocking("x", new, true).unwrap(), 1);
    let confluent = |columns: &str, pairs: &[(&str, &str)]| {
        let mut all = vec![("url", fake.url.as_str())];
        all.extend_from_slice(pairs);
        let place = RecordPlace { topic: Some("t".to_owned()), key: true };
        ProtobufFormat::confluent(&options("p.", &all), "p.", schema(columns), &place).unwrap()
    };
    let with = |body: &[u8]| [&confluent::header(1)[..], body].concat();
    let format = confluent("id INT, name STRING", &[]);
    // B is [1], A.Y is [0, 1]: entries of maps don't count.
    let rows = read(&format, &[with(&[2, 2, 8, 7, 0x12, 1, b'n']), with(&[4, 0, 2, 8, 9])]).unwrap();
    assert_eq!(show(&rows), ["7|n", "9|NULL"]);
    for (body, says) in [
        (&[2, 8][..], "schema 1: the schema has no message at [4]"),
        (&[3], "an impossible number of indexes"),
        (&[100, 0], "an impossible number of indexes"),
        (&[], "the message ends"),
        (&[0, 8], "the message ends"),
    ] {
        let e = read(&format, &[with(body)]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Data, "{e}");
        assert!(e.to_string().contains(says), "{e}");
    }
    let only = confluent("id INT", &[("message-class-name", "B")]);
    let e = read(&only, &[with(&[4, 0, 2, 8, 9])]).unwrap_err().to_string();
    assert!(e.contains("the record is a A.Y, not the B that the table is of"), "{e}");
    let strict = confluent("other INT NOT NULL", &[]);
    let e = read(&strict, &[with(&[2, 2])]).unwrap_err();
    assert!(
        e.kind() == ErrorKind::Data && e.to_string().contains("the message B has no field 'other'"),
        "{e}"
    );

    let written = write(&format, &rows).unwrap();
    assert_eq!(written, [vec![0, 0, 0, 0, 2, 0, 8, 7, 0x12, 1, b'n'], vec![0, 0, 0, 0, 2, 0, 8, 9]]);
    assert_eq!(show(&read(&format, &written).unwrap()), ["7|n", "9|NULL"]);
    assert_eq!(fake.seen.lock().unwrap().iter().filter(|r| r.path == "/subjects/t-key/versions").count(), 1);
    let given = confluent("id INT", &[("schema", text), ("message-class-name", "A.Y")]);
    let rows = read(&given, &[with(&[4, 0, 2, 8, 9])]).unwrap();
    assert_eq!(write(&given, &rows).unwrap(), [[0, 0, 0, 0, 3, 4, 0, 2, 8, 9]]);
}

#[test]
fn columns_of_a_message() {
    let of = |text: &str, message: Option<&str>| {
        let schema = RegisteredSchema {
            id: 1,
            kind: SchemaKind::Protobuf,
            text: text.to_owned(),
            references: Vec::new(),
        };
        crate::formats::schema_columns(&schema, message)
    };
    let found = of(PROTO, None).unwrap();
    let shown: Vec<String> = found.columns.iter().map(|c| format!("{} {}", c.name, c.ty)).collect();
    assert_eq!(
        shown.join(", "),
        "i32 INT NOT NULL, i64 BIGINT NOT NULL, u32 BIGINT NOT NULL, u64 DECIMAL(20, 0) NOT NULL, s32 INT NOT NULL, s64 BIGINT NOT NULL, f32 BIGINT NOT NULL, f64 DECIMAL(20, 0) NOT NULL, sf32 INT NOT NULL, sf64 BIGINT NOT NULL, b BOOLEAN NOT NULL, f FLOAT NOT NULL, d DOUBLE NOT NULL, s STRING NOT NULL, y BYTES NOT NULL, c STRING NOT NULL, m ROW<`a` INT NOT NULL, `b` STRING>, packed ARRAY<INT NOT NULL> NOT NULL, texts ARRAY<STRING NOT NULL> NOT NULL, map MAP<STRING NOT NULL, ROW<`a` INT NOT NULL, `b` STRING> NOT NULL> NOT NULL, ts TIMESTAMP_LTZ(9), w BIGINT, opt INT, x STRING, z INT, colors ARRAY<STRING NOT NULL> NOT NULL"
    );
    assert_eq!(found.columns.last().unwrap().number, Some(300));
    let fields: Vec<_> = found.columns.iter().map(|c| c.ty.to_field(&c.name)).collect();
    let all = options("p.", &[("message-class-name", "T"), ("schema", PROTO)]);
    let format = ProtobufFormat::new(&all, "p.", Arc::new(arrow::datatypes::Schema::new(fields))).unwrap();
    assert_eq!(read(&format, &[unhex(ALL), Vec::new()]).unwrap().num_rows(), 2);

    assert_eq!(of(PROTO, Some("T.In")).unwrap().columns.len(), 2);
    let e = of("syntax = \"proto3\"; message R { R r = 1; }", None).unwrap_err().to_string();
    assert!(e.contains("schema 1: field 'r': the message R contains itself"), "{e}");
    let empty =
        of("syntax = \"proto3\"; message R { E e = 1; repeated E l = 2; int32 a = 3; } message E {}", None)
            .unwrap();
    assert_eq!((empty.columns.len(), empty.left_out), (1, vec!["e".to_owned(), "l".to_owned()]));
}
