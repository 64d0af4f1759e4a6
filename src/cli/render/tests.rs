use std::sync::Arc;

use arrow::array::{
    ArrayRef, Decimal128Array, Float64Array, Int32Array, RecordBatch, StringArray, TimestampMillisecondArray,
};

use super::*;
use crate::stream::RowKinds;

fn rows() -> ChangeBatch {
    let rows = RecordBatch::try_from_iter([
        ("name", Arc::new(StringArray::from(vec![Some("Ann"), None, Some("")])) as ArrayRef),
        ("a \"b\"", Arc::new(Int32Array::from(vec![Some(1), Some(-20), None])) as ArrayRef),
    ])
    .unwrap();
    ChangeBatch::with_kinds(rows, RowKinds::new(vec![0, 1, 2]))
}

fn options(format: Format, changelog: bool) -> RenderOptions {
    RenderOptions { format, changelog, zone: Tz::UTC, max_width: 30 }
}

fn print(batches: &[ChangeBatch], options: RenderOptions) -> String {
    let mut out = Vec::new();
    let mut writer = RowWriter::new(&mut out, &batches[0].schema(), options);
    for b in batches {
        writer.write(b).unwrap();
    }
    let rows: usize = batches.iter().map(ChangeBatch::num_rows).sum();
    assert_eq!(writer.finish().unwrap(), rows as u64);
    String::from_utf8(out).unwrap()
}

#[test]
fn json_lines() {
    let expected = "{\"op\":\"+I\",\"name\":\"Ann\",\"a \\\"b\\\"\":1}\n\
                    {\"op\":\"-U\",\"name\":null,\"a \\\"b\\\"\":-20}\n\
                    {\"op\":\"+U\",\"name\":\"\",\"a \\\"b\\\"\":null}\n";
    assert_eq!(print(&[rows()], options(Format::Json, true)), expected);
    let expected = "{\"name\":\"Ann\",\"a \\\"b\\\"\":1}\n";
    assert_eq!(print(&[rows().slice(0, 1)], options(Format::Json, false)), expected);
    let special = RecordBatch::try_from_iter([
        ("d", Arc::new(Float64Array::from(vec![f64::NAN])) as ArrayRef),
        ("t", Arc::new(TimestampMillisecondArray::from(vec![1500])) as ArrayRef),
    ])
    .unwrap();
    let printed = print(&[ChangeBatch::insert_only(special)], options(Format::Json, false));
    assert_eq!(printed, "{\"d\":\"NaN\",\"t\":\"1970-01-01 00:00:01.500\"}\n");
}

#[test]
fn csv() {
    assert_eq!(print(&[rows()], options(Format::Csv, false)), "name,\"a \"\"b\"\"\"\nAnn,1\n,-20\n\"\",\n");
    assert!(
        print(&[rows()], options(Format::Csv, true))
            .starts_with("op,name,\"a \"\"b\"\"\"\n+I,Ann,1\n-U,,-20\n")
    );
    let mut out = String::new();
    write_csv("a,\"b\"\nc", &mut out);
    assert_eq!(out, "\"a,\"\"b\"\"\nc\"");
    assert_eq!(print(&[rows().slice(0, 0)], options(Format::Csv, false)), "name,\"a \"\"b\"\"\"\n");
}

#[test]
fn tables_are_aligned() {
    let expected = "\
+------+-------+
| name | a \"b\" |
+------+-------+
| Ann  |     1 |
| NULL |   -20 |
|      |  NULL |
+------+-------+
";
    assert_eq!(print(&[rows()], options(Format::Table, false)), expected);
    let expected = "\
+----+--------------------------------+-------------+
| op | name                           |       a \"b\" |
+----+--------------------------------+-------------+
| +I | Ann                            |           1 |
| -U | NULL                           |         -20 |
| +U |                                |        NULL |
+----+--------------------------------+-------------+
";
    assert_eq!(print(&[rows().slice(0, 1), rows().slice(1, 2)], options(Format::Table, true)), expected);
    let expected = "+------+-------+\n| name | a \"b\" |\n+------+-------+\n+------+-------+\n";
    assert_eq!(print(&[rows().slice(0, 0)], options(Format::Table, false)), expected);
}

/// Width of the lines of a table, which all have the same.
fn width_of(table: &str) -> usize {
    use unicode_width::UnicodeWidthStr;
    let widths: Vec<usize> = table.lines().map(UnicodeWidthStr::width).collect();
    assert!(widths.iter().all(|w| *w == widths[0]), "{table}");
    widths[0]
}

#[test]
fn lines_are_aligned_whatever_comes_later() {
    let batch = |name: &str, amount: i128, rows: usize| {
        let names = StringArray::from(vec![name; rows]);
        let amounts = Decimal128Array::from(vec![amount; rows]).with_precision_and_scale(2, 2).unwrap();
        let rows = [("名", Arc::new(names) as ArrayRef), ("amount", Arc::new(amounts) as ArrayRef)];
        ChangeBatch::insert_only(RecordBatch::try_from_iter(rows).unwrap())
    };
    let later = [
        batch("a", 1, 1),
        batch("日本語日本語日本語日本", -12, 1),
        batch("👍 and a text beyond all cells", 0, 1),
    ];
    // A stream, a short result and a long one.
    assert_eq!(width_of(&print(&later, options(Format::Table, true))), 2 + 30 + 6 + 10);
    assert_eq!(width_of(&print(&later, options(Format::Table, false))), 30 + 6 + 7);
    let long: Vec<ChangeBatch> =
        (0..3).flat_map(|i| [batch("a", 1, 8000), later[i].clone(), batch("bb", 2, 100)]).collect();
    assert_eq!(width_of(&print(&long, options(Format::Table, false))), 30 + 6 + 7);
    let uncut = RenderOptions { max_width: usize::MAX, ..options(Format::Table, false) };
    assert_eq!(width_of(&print(&long, uncut)), 30 + 6 + 7);
}

#[test]
fn long_cells_are_cut_and_lines_kept_whole() {
    let cells = vec!["x".repeat(40), "a\nb".into(), "üüüüüüüüüüüü".into()];
    let rows = RecordBatch::try_from_iter([("s", Arc::new(StringArray::from(cells)) as ArrayRef)]).unwrap();
    let options = RenderOptions { max_width: 10, ..options(Format::Table, false) };
    let printed = print(&[ChangeBatch::insert_only(rows)], options);
    let lines: Vec<&str> = printed.lines().skip(3).collect();
    assert_eq!(lines, ["| xxxxxxx... |", "| a\\nb       |", "| üüüüüüü... |", "+------------+"]);
}

#[test]
fn wide_characters_take_two_cells() {
    let cells = vec!["日本", "ab", "👍", "日本語日本語"];
    let rows = RecordBatch::try_from_iter([("s", Arc::new(StringArray::from(cells)) as ArrayRef)]).unwrap();
    let options = RenderOptions { max_width: 10, ..options(Format::Table, false) };
    let printed = print(&[ChangeBatch::insert_only(rows)], options);
    let lines: Vec<&str> = printed.lines().skip(3).collect();
    assert_eq!(lines, ["| 日本      |", "| ab        |", "| 👍        |", "| 日本語... |", "+-----------+"]);
}

#[test]
fn a_reader_that_leaves_is_told_from_other_failures() {
    struct Fails(io::ErrorKind);
    impl Write for Fails {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let fail =
        |kind| RowWriter::new(Fails(kind), &rows().schema(), options(Format::Json, false)).write(&rows());
    assert!(is_reader_gone(&fail(io::ErrorKind::BrokenPipe).unwrap_err()));
    assert!(!is_reader_gone(&fail(io::ErrorKind::StorageFull).unwrap_err()));
}
