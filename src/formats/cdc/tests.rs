use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::*;
use crate::formats::json::fail::clip;
use crate::stream::{ChangeBatch, RowKind, RowKinds};
use crate::types::{LogicalType, TypeRoot};

fn schema() -> SchemaRef {
    Arc::new(arrow::datatypes::Schema::new(vec![
        LogicalType::not_null(TypeRoot::Int).to_field("id"),
        LogicalType::string().to_field("name"),
        LogicalType::nullable(TypeRoot::Decimal(10, 2)).to_field("weight"),
    ]))
}

fn format(name: &str, options: &[(&str, &str)]) -> Result<CdcFormat> {
    let options: BTreeMap<String, String> =
        options.iter().map(|(k, v)| (format!("{name}.{k}"), (*v).to_owned())).collect();
    let options = Options::new("t", "test", &options);
    let format = CdcFormat::new(name, &options, &format!("{name}."), schema())?;
    options.finish()?;
    Ok(format)
}

fn show(rows: &RecordBatch, kinds: Option<&RowKinds>) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<_> =
        rows.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).unwrap()).collect();
    (0..rows.num_rows())
        .map(|i| {
            let kind = kinds.map_or(RowKind::Insert, |k| k.get(i)).symbol();
            let cells: Vec<String> = columns.iter().map(|c| c.value(i).to_string()).collect();
            format!("{kind} {}", cells.join("|"))
        })
        .collect()
}

fn read_with(format: &CdcFormat, metadata: &[usize], messages: &[&str]) -> Result<(Vec<String>, u64)> {
    let mut decoder = format.row_decoder_with(&[0, 1, 2], metadata)?;
    for message in messages {
        decoder.decode(message.as_bytes())?;
    }
    let skipped = decoder.take_skipped();
    let rows = decoder.finish()?;
    let kinds = decoder.take_kinds();
    Ok((show(&rows, kinds.as_ref()), skipped))
}

fn read(format: &CdcFormat, messages: &[&str]) -> Vec<String> {
    read_with(format, &[], messages).unwrap().0
}

fn refusal(format: &CdcFormat, message: &str) -> String {
    read_with(format, &[], &[message]).unwrap_err().to_string()
}

/// Messages as the MySQL connector of Debezium writes them.
const DEBEZIUM: &[&str] = &[
    r#"{"before":null,"after":{"id":101,"name":"kite","weight":"3.14"},"source":{"version":"2.7.1.Final","connector":"mysql","name":"shop","ts_ms":1720000000123,"snapshot":"true","db":"stock","sequence":null,"table":"toys","server_id":0,"gtid":null,"file":"bin.000003","pos":157,"row":0,"thread":null,"query":null},"op":"r","ts_ms":1720000001500,"transaction":null}"#,
    r#"{"before":{"id":101,"name":"kite","weight":3.14},"after":{"id":101,"name":"red \"kite\"","weight":null},"source":{"ts_ms":1720000002000,"db":"stock","table":"toys"},"op":"u","ts_ms":1720000002100}"#,
    r#"{"before":null,"after":{"id":102,"name":null,"weight":5.3},"op":"c"}"#,
    r#"{"before":{"id":102,"name":null,"weight":5.3},"after":null,"op":"d"}"#,
    "",
];

#[test]
fn debezium_messages_and_tombstones() {
    let f = format("debezium-json", &[]).unwrap();
    assert_eq!(
        read(&f, DEBEZIUM),
        [
            "+I 101|kite|3.14",
            "-U 101|kite|3.14",
            "+U 101|red \"kite\"|NULL",
            "+I 102|NULL|5.30",
            "-D 102|NULL|5.30",
        ]
    );
    assert!(read(&f, &["", "  "]).is_empty());
}

#[test]
fn inserts_alone_carry_no_kinds() {
    let f = format("debezium-json", &[]).unwrap();
    let mut decoder = f.row_decoder(&[1]).unwrap();
    decoder.decode(DEBEZIUM[0].as_bytes()).unwrap();
    assert_eq!(decoder.finish().unwrap().num_rows(), 1);
    assert!(decoder.take_kinds().is_none());
    decoder.decode(DEBEZIUM[3].as_bytes()).unwrap();
    decoder.finish().unwrap();
    assert_eq!(decoder.take_kinds().unwrap().codes(), [3]);
    assert!(decoder.take_kinds().is_none());
}

#[test]
fn debezium_metadata() {
    let f = format("debezium-json", &[]).unwrap();
    let names: Vec<String> = f.metadata().iter().map(|m| m.name().clone()).collect();
    assert_eq!(
        names,
        [
            "schema",
            "ingestion-timestamp",
            "source.timestamp",
            "source.database",
            "source.schema",
            "source.table",
            "source.properties"
        ]
    );
    let (rows, _) = read_with(&f, &[1, 2, 3, 4, 5], &DEBEZIUM[1..3]).unwrap();
    assert_eq!(
        rows,
        [
            "-U 101|kite|3.14|2024-07-03T09:46:42.100Z|2024-07-03T09:46:42Z|stock|NULL|toys",
            "+U 101|red \"kite\"|NULL|2024-07-03T09:46:42.100Z|2024-07-03T09:46:42Z|stock|NULL|toys",
            "+I 102|NULL|5.30|NULL|NULL|NULL|NULL|NULL",
        ]
    );
    let (rows, _) = read_with(&f, &[6], &DEBEZIUM[1..2]).unwrap();
    assert_eq!(rows[0], "-U 101|kite|3.14|{ts_ms: 1720000002000, db: stock, table: toys}");
    let bad = r#"{"after":{"id":1},"op":"c","ts_ms":"soon"}"#;
    let e = read_with(&f, &[1], &[bad]).unwrap_err().to_string();
    assert!(e.contains("'ingestion-timestamp'") && e.contains("soon"), "{e}");
    let f = format("debezium-json", &[("ignore-parse-errors", "true")]).unwrap();
    assert_eq!(read_with(&f, &[1], &[bad]).unwrap().0, ["+I 1|NULL|NULL|NULL"]);
}

#[test]
fn debezium_with_schema() {
    let f = format("debezium-json", &[("schema-include", "true")]).unwrap();
    let message = r#"{"schema":{"type":"struct","fields":[]},"payload":{"op":"c","after":{"id":1,"name":"a"},"before":null,"ts_ms":5}}"#;
    let (rows, _) = read_with(&f, &[0, 1], &[message]).unwrap();
    assert_eq!(rows, [r#"+I 1|a|NULL|{"type":"struct","fields":[]}|1970-01-01T00:00:00.005Z"#]);
    let e = refusal(&f, r#"{"after":{"id":1},"op":"c"}"#);
    assert!(e.contains("\"payload\""), "{e}");
    let e = f.encoder().err().unwrap().to_string();
    assert!(e.contains("debezium-json.schema-include"), "{e}");
}

#[test]
fn bad_messages_are_refused_or_skipped() {
    let f = format("debezium-json", &[]).unwrap();
    let cases = [
        (r#"{"before":null,"after":{"id":1},"op":"u"}"#, "REPLICA IDENTITY"),
        (r#"{"before":null,"after":null,"op":"d"}"#, "DELETE message is null"),
        (r#"{"after":{"id":1},"op":"x"}"#, "Unknown \"op\" value \"x\""),
        (r#"{"after":{"id":1}}"#, "no field \"op\""),
        (r#"{"after":{"id":1},"op":7}"#, "\"op\" is no text"),
        (r#"{"after":null,"op":"c"}"#, "its \"after\" is null"),
        (r#"{"after":[1],"op":"c"}"#, "a row is no object"),
        (r#"{"after":{"id":"one"},"op":"c"}"#, "field `id`"),
        (r#"{"after":{"name":"x"},"op":"c"}"#, "NOT NULL"),
        (r#"{"after":{"id":1},"op":"c""#, "ends in the middle"),
        (r#"{"after":{"id":1},"op":"c"} x"#, "more text"),
        (r#"[{"after":{"id":1},"op":"c"}]"#, "has to be an object"),
    ];
    let loose = format("debezium-json", &[("ignore-parse-errors", "true")]).unwrap();
    for (message, expected) in cases {
        let e = refusal(&f, message);
        assert!(e.starts_with("Corrupt Debezium JSON message: ") && e.contains(expected), "{message}: {e}");
        let (rows, skipped) = read_with(&loose, &[], &[DEBEZIUM[2], message, DEBEZIUM[3]]).unwrap();
        // A field of a wrong type is NULL, which `id` cannot be.
        assert_eq!(rows, ["+I 102|NULL|5.30", "-D 102|NULL|5.30"], "{message}");
        assert!(skipped >= 1, "{message}");
    }
    // The first half of an update goes with the second.
    let torn = r#"{"before":{"id":1},"after":{"id":"one"},"op":"u"}"#;
    assert!(read_with(&loose, &[], &[torn]).unwrap().0.is_empty());
    let mut decoder = f.row_decoder(&[0]).unwrap();
    decoder.decode(&[b'{', 0xff]).unwrap_err();
    assert_eq!(clip("x"), "'x'");
}

const CANAL: &[&str] = &[
    r#"{"data":[{"id":"111","name":"ball","weight":"5.18"},{"id":"112","name":null,"weight":"1"}],"database":"stock","es":1589373560000,"id":9,"isDdl":false,"mysqlType":{"id":"INTEGER","name":"VARCHAR(255)"},"old":null,"pkNames":["id"],"sql":"","sqlType":{"id":4,"name":12},"table":"toys","ts":1589373560798,"type":"INSERT"}"#,
    r#"{"data":[{"id":"111","name":"ball","weight":"5.20"},{"id":"112","name":"box","weight":null}],"database":"stock","es":1,"table":"toys","old":[{"weight":"5.18"},{"name":null,"weight":"1"}],"type":"UPDATE","ts":2}"#,
    r#"{"data":null,"database":"stock","table":"toys","isDdl":true,"type":"CREATE","sql":"CREATE TABLE toys (…)"}"#,
    r#"{"data":[{"id":"112","name":"box","weight":null}],"database":"other","table":"toys","type":"DELETE"}"#,
];

#[test]
fn canal_messages_hold_several_rows_and_the_changed_fields() {
    let f = format("canal-json", &[]).unwrap();
    assert_eq!(
        read(&f, CANAL),
        [
            "+I 111|ball|5.18",
            "+I 112|NULL|1.00",
            "-U 111|ball|5.18",
            "+U 111|ball|5.20",
            // A NULL in the old image is the old value.
            "-U 112|NULL|1.00",
            "+U 112|box|NULL",
            "-D 112|box|NULL",
        ]
    );
    let (rows, _) = read_with(&f, &[0, 1, 2, 3, 4, 5], &CANAL[..1]).unwrap();
    assert_eq!(
        rows[0],
        "+I 111|ball|5.18|stock|toys|{id: 4, name: 12}|[id]|2020-05-13T12:39:20.798Z|2020-05-13T12:39:20Z"
    );
    let cases = [
        (r#"{"data":[{"id":1},{"id":2}],"old":[{"id":0}],"type":"UPDATE"}"#, "fewer rows"),
        (r#"{"data":[{"id":1}],"old":null,"type":"UPDATE"}"#, "\"old\" is null"),
        (r#"{"data":{"id":1},"type":"INSERT"}"#, "no array"),
        (r#"{"data":[{"id":1}],"type":"TRUNCATE"}"#, "Unknown \"type\" value \"TRUNCATE\""),
    ];
    for (message, expected) in cases {
        let e = refusal(&f, message);
        assert!(e.starts_with("Corrupt Canal JSON message: ") && e.contains(expected), "{message}: {e}");
    }
    assert!(read(&f, &[r#"{"data":[],"type":"INSERT"}"#]).is_empty());
}

#[test]
fn canal_chooses_databases_and_tables() {
    let f = format("canal-json", &[("database.include", "o.*"), ("table.include", "toys|tools")]).unwrap();
    assert_eq!(read(&f, CANAL), ["-D 112|box|NULL"]);
    let e = refusal(&f, r#"{"data":[],"type":"INSERT","table":"toys"}"#);
    assert!(e.contains("\"database\""), "{e}");
    let e = format("canal-json", &[("table.include", "(")]).unwrap_err().to_string();
    assert!(e.contains("canal-json.table.include"), "{e}");
    let e = format("maxwell-json", &[("table.include", "x")]).unwrap_err().to_string();
    assert!(e.contains("unsupported options"), "{e}");
}

#[test]
fn maxwell_messages() {
    let f = format("maxwell-json", &[]).unwrap();
    let messages = [
        r#"{"database":"stock","table":"toys","type":"insert","ts":1596684883,"xid":7125,"xoffset":0,"data":{"id":1,"name":"a","weight":1.5},"primary_key_columns":["id"]}"#,
        r#"{"database":"stock","table":"toys","type":"update","ts":1596684906,"data":{"id":1,"name":"b","weight":null},"old":{"name":"a","weight":1.5}}"#,
        r#"{"database":"stock","table":"toys","type":"delete","ts":1596684928,"data":{"id":1,"name":"b","weight":null}}"#,
    ];
    assert_eq!(read(&f, &messages), ["+I 1|a|1.50", "-U 1|a|1.50", "+U 1|b|NULL", "-D 1|b|NULL"]);
    let (rows, _) = read_with(&f, &[0, 1, 2, 3], &messages[..1]).unwrap();
    assert_eq!(rows, ["+I 1|a|1.50|stock|toys|[id]|2020-08-06T03:34:43Z"]);
    let e = refusal(&f, r#"{"type":"table-create","database":"stock"}"#);
    assert!(e.contains("Unknown \"type\" value \"table-create\""), "{e}");
    let e = refusal(&f, r#"{"type":"update","data":{"id":1}}"#);
    assert!(e.contains("\"old\" is null"), "{e}");
}

#[test]
fn ogg_messages() {
    let f = format("ogg-json", &[]).unwrap();
    let messages = [
        r#"{"after":{"id":111,"name":"x","weight":5.15},"before":{"id":111,"name":"x","weight":5.18},"current_ts":"2020-05-13T13:39:35.766000","op_ts":"2020-05-13 15:40:06.000000","op_type":"U","pos":"00000000000000000000143","primary_keys":["id"],"table":"STOCK.TOYS"}"#,
        r#"{"after":{"id":1},"op_type":"I"}"#,
        r#"{"before":{"id":1},"op_type":"D"}"#,
    ];
    assert_eq!(read(&f, &messages), ["-U 111|x|5.18", "+U 111|x|5.15", "+I 1|NULL|NULL", "-D 1|NULL|NULL"]);
    let (rows, _) = read_with(&f, &[0, 1, 2, 3], &messages[..1]).unwrap();
    assert_eq!(rows[1], "+U 111|x|5.15|STOCK.TOYS|[id]|2020-05-13T13:39:35.766Z|2020-05-13T15:40:06Z");
    let e = refusal(&f, r#"{"after":{"id":1},"op_type":"T"}"#);
    assert!(e.contains("Unknown \"op_type\" value \"T\""), "{e}");
    let e = refusal(&f, r#"{"after":{"id":1},"op_type":"U"}"#);
    assert!(e.contains("REPLICA IDENTITY"), "{e}");
}

fn changes() -> ChangeBatch {
    let f = format("debezium-json", &[]).unwrap();
    let mut decoder = f.row_decoder(&[0, 1, 2]).unwrap();
    DEBEZIUM.iter().for_each(|m| decoder.decode(m.as_bytes()).unwrap());
    let rows = decoder.finish().unwrap();
    ChangeBatch { rows, kinds: decoder.take_kinds() }
}

fn write(format: &CdcFormat, batch: &ChangeBatch) -> Vec<String> {
    let (mut out, mut ends) = (Vec::new(), Vec::new());
    format.encoder().unwrap().encode_changes(batch, &mut out, &mut ends).unwrap();
    let mut start = 0;
    ends.iter()
        .map(|end| {
            let text = String::from_utf8(out[start..*end].to_vec()).unwrap();
            start = *end;
            text
        })
        .collect()
}

#[test]
fn messages_written() {
    let batch = changes();
    let pick = |name: &str| {
        let all = write(&format(name, &[]).unwrap(), &batch);
        [all[0].clone(), all[1].clone(), all[2].clone()]
    };
    assert_eq!(
        pick("debezium-json"),
        [
            r#"{"before":null,"after":{"id":101,"name":"kite","weight":3.14},"op":"c"}"#,
            r#"{"before":{"id":101,"name":"kite","weight":3.14},"after":null,"op":"d"}"#,
            r#"{"before":null,"after":{"id":101,"name":"red \"kite\"","weight":null},"op":"c"}"#,
        ]
    );
    assert_eq!(
        pick("ogg-json")[..2],
        [
            r#"{"before":null,"after":{"id":101,"name":"kite","weight":3.14},"op_type":"I"}"#,
            r#"{"before":{"id":101,"name":"kite","weight":3.14},"after":null,"op_type":"D"}"#,
        ]
    );
    assert_eq!(
        pick("canal-json")[..2],
        [
            r#"{"data":[{"id":101,"name":"kite","weight":3.14}],"type":"INSERT"}"#,
            r#"{"data":[{"id":101,"name":"kite","weight":3.14}],"type":"DELETE"}"#,
        ]
    );
    assert_eq!(
        pick("maxwell-json")[..2],
        [
            r#"{"data":{"id":101,"name":"kite","weight":3.14},"type":"insert"}"#,
            r#"{"data":{"id":101,"name":"kite","weight":3.14},"type":"delete"}"#,
        ]
    );
    let sparse = format("debezium-json", &[("encode.ignore-null-fields", "true")]).unwrap();
    let written = write(&sparse, &batch);
    assert_eq!(written[2], r#"{"after":{"id":101,"name":"red \"kite\""},"op":"c"}"#);
    assert_eq!(written[4], r#"{"before":{"id":102,"weight":5.3},"op":"d"}"#);
}

#[test]
fn what_is_written_is_read_back() {
    let batch = changes();
    for name in ["debezium-json", "canal-json", "maxwell-json", "ogg-json"] {
        let f = format(name, &[]).unwrap();
        let messages = write(&f, &batch);
        let messages: Vec<&str> = messages.iter().map(String::as_str).collect();
        assert_eq!(
            read(&f, &messages),
            [
                "+I 101|kite|3.14",
                "-D 101|kite|3.14",
                "+I 101|red \"kite\"|NULL",
                "+I 102|NULL|5.30",
                "-D 102|NULL|5.30",
            ],
            "{name}"
        );
    }
}

#[test]
fn records_know_their_rows() {
    let f = format("canal-json", &[]).unwrap();
    let mut decoder = f.record_decoder(&[0], &[1]).unwrap();
    CANAL.iter().for_each(|m| decoder.push(m.as_bytes()));
    let decoded = decoder.flush().unwrap();
    assert_eq!(decoded.records.unwrap(), [0, 0, 1, 1, 1, 1, 3]);
    assert_eq!(decoded.kinds.unwrap().codes(), [0, 0, 1, 2, 1, 2, 3]);
    let tables: &ArrayRef = decoded.rows.column(1);
    assert_eq!((decoded.rows.num_columns(), tables.null_count()), (2, 0));
    // After a bad record the decoder is empty, kinds included.
    decoder.push(CANAL[3].as_bytes());
    decoder.push(b"{");
    assert_eq!(decoder.flush().unwrap_err().record, 1);
    decoder.push(CANAL[0].as_bytes());
    let decoded = decoder.flush().unwrap();
    assert!(decoded.kinds.is_none() && decoded.rows.num_rows() == 2);
}
