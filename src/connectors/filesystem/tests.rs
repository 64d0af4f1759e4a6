use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::prelude::{col, lit};

use super::*;
use crate::catalog::{ObjectPath, TableDef};
use crate::edges::{ScanRequest, SourceEvent, SourceMetrics, SourceReader, SplitState};
use crate::error::Location as SqlLocation;
use crate::sql::ast::{ColumnDef, ColumnKind, SqlExpr};
use crate::types::{LogicalType, TypeRoot};

pub(super) fn env(dir: &Path) -> ConnectorEnv {
    ConnectorEnv {
        config: Arc::default(),
        time_zone: chrono_tz::UTC,
        batch: false,
        base_dir: dir.to_owned(),
        notices: crate::edges::Notices::default(),
    }
}

pub(super) fn table(
    columns: &[(&str, LogicalType)],
    metadata: &[(&str, &str, LogicalType)],
    partitioned_by: &[&str],
    options: &[(&str, &str)],
) -> ResolvedTable {
    let mut defs: Vec<ColumnDef> = columns
        .iter()
        .map(|(name, ty)| ColumnDef {
            name: (*name).into(),
            ty: Some(ty.clone()),
            kind: ColumnKind::Physical,
            comment: None,
        })
        .collect();
    defs.extend(metadata.iter().map(|(name, key, ty)| ColumnDef {
        name: (*name).into(),
        ty: Some(ty.clone()),
        kind: ColumnKind::Metadata { key: (*key).into(), read_only: true },
        comment: None,
    }));
    let options: BTreeMap<String, String> = options
        .iter()
        .map(|(k, v)| ((*k).into(), (*v).into()))
        .chain([("connector".to_owned(), "filesystem".to_owned())])
        .collect();
    let ident = |n: &str| {
        datafusion::sql::sqlparser::ast::Expr::Identifier(datafusion::sql::sqlparser::ast::Ident::new(n))
    };
    let def = TableDef {
        path: ObjectPath { catalog: "c".into(), database: "d".into(), object: "t".into() },
        columns: defs,
        watermark: None,
        primary_key: None,
        partitioned_by: partitioned_by
            .iter()
            .map(|n| SqlExpr { expr: ident(n), text: (*n).into(), location: SqlLocation::default() })
            .collect(),
        comment: None,
        options,
        temporary: false,
        location: SqlLocation::default(),
        external: None,
    };
    ResolvedTable::new(Arc::new(def), &BTreeMap::new()).unwrap()
}

pub(super) fn int() -> LogicalType {
    LogicalType::nullable(TypeRoot::Int)
}

pub(super) fn show(batch: &arrow::array::RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<_> =
        batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).unwrap()).collect();
    (0..batch.num_rows())
        .map(|i| columns.iter().map(|c| c.value(i).to_string()).collect::<Vec<_>>().join("|"))
        .collect()
}

/// Takes events until the end, or until `rows` rows came.
pub(super) async fn drain(reader: &mut dyn SourceReader, rows: usize) -> Result<(Vec<String>, bool)> {
    let mut out = Vec::new();
    while out.len() < rows {
        match reader.next().await? {
            SourceEvent::Batch { batch, .. } => out.extend(show(&batch.rows)),
            SourceEvent::End => return Ok((out, true)),
            _ => {}
        }
    }
    Ok((out, false))
}

pub(super) async fn read_all(
    source: &dyn Source,
    scan: ScanRequest,
    parallelism: usize,
) -> Result<Vec<String>> {
    let mut rows = Vec::new();
    for mut reader in source.readers(scan, parallelism, None).await? {
        rows.extend(drain(&mut *reader, usize::MAX).await?.0);
    }
    rows.sort();
    Ok(rows)
}

pub(super) fn id_table(options: &[(&str, &str)]) -> ResolvedTable {
    // A format among the options comes later and wins.
    let mut all = vec![("format", "json")];
    all.extend_from_slice(options);
    table(&[("id", int()), ("s", LogicalType::string())], &[], &[], &all)
}

pub(super) fn open(table: &ResolvedTable, dir: &Path) -> Result<FilesystemSource> {
    source(table, &env(dir))
}

pub(super) fn lines(range: std::ops::Range<usize>) -> String {
    // Different lengths and multi-byte text, so that cuts fall everywhere.
    range.map(|i| format!("{{\"id\":{i},\"s\":\"{}é\"}}\n", "😀x".repeat(i % 13))).collect()
}

fn expected(range: std::ops::Range<usize>) -> Vec<String> {
    let mut rows: Vec<String> = range.map(|i| format!("{i}|{}é", "😀x".repeat(i % 13))).collect();
    rows.sort();
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_hidden_files_patterns_and_compression() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    std::fs::create_dir_all(d.join("in/sub/_tmp")).unwrap();
    std::fs::write(d.join("in/a.json"), lines(0..5)).unwrap();
    std::fs::write(d.join("in/sub/b.json"), lines(5..7)).unwrap();
    std::fs::write(d.join("in/sub/_tmp/c.json"), "bad").unwrap();
    std::fs::write(d.join("in/.hidden"), "bad").unwrap();
    std::fs::write(d.join("in/_SUCCESS"), "").unwrap();
    std::fs::write(d.join("in/empty.json"), "").unwrap();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(lines(7..9).as_bytes()).unwrap();
    let mut two = gz.finish().unwrap();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(lines(9..10).as_bytes()).unwrap();
    two.extend(gz.finish().unwrap());
    std::fs::write(d.join("in/c.json.gz"), two).unwrap();
    let last = lines(10..12);
    std::fs::write(d.join("in/d.zst"), zstd::encode_all(last.trim_end().as_bytes(), 1).unwrap()).unwrap();

    let all = open(&id_table(&[("path", "in")]), d).unwrap();
    let metrics = Arc::new(SourceMetrics::default());
    let scan = ScanRequest { metrics: metrics.clone(), ..ScanRequest::default() };
    assert_eq!(read_all(&all, scan, 3).await.unwrap(), expected(0..12));
    let load = |a: &std::sync::atomic::AtomicU64| a.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(load(&metrics.bytes), load(&metrics.total_bytes));

    for (path, range) in [
        ("in/a.json", 0..5),
        ("in/*.json", 0..5),
        ("in/**/[ab].json", 0..7),
        ("in/s*", 5..7),
        ("in/sub/b.json", 5..7),
    ] {
        let s = open(&id_table(&[("path", path)]), d).unwrap();
        assert_eq!(read_all(&s, ScanRequest::default(), 1).await.unwrap(), expected(range), "{path}");
    }
    let absolute = format!("file://{}/in/a.json", d.display());
    let s = open(&id_table(&[("path", &absolute)]), d).unwrap();
    assert_eq!(read_all(&s, ScanRequest::default(), 1).await.unwrap().len(), 5);
    let s = open(&id_table(&[("path", "in"), ("source.path.regex-pattern", ".*/b[.]json")]), d).unwrap();
    assert_eq!(read_all(&s, ScanRequest::default(), 1).await.unwrap(), expected(5..7));
    for (path, words) in [("nowhere", "'nowhere' does not exist"), ("in/*.csv", "no file matches")] {
        let s = open(&id_table(&[("path", path)]), d).unwrap();
        let e = read_all(&s, ScanRequest::default(), 1).await.unwrap_err().to_string();
        assert!(e.contains(words), "{e}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn splits_cut_lines_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a"), lines(0..300)).unwrap();
    for split_bytes in [1, 2, 7, 50, 51, 52, 53, 1000, 5000] {
        let mut s = open(&id_table(&[("path", "a")]), dir.path()).unwrap();
        s.split_bytes = split_bytes;
        let rows = read_all(&s, ScanRequest::default(), 2).await.unwrap();
        assert_eq!(rows, expected(0..300), "{split_bytes}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_records_and_chunk_borders() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = String::new();
    for i in 0..40 {
        let n = [10, 70_000, 600_000, 1_200_000][i % 4] + i;
        text.push_str(&format!("{{\"id\":{i},\"s\":\"{}\"}}\r\n", "y".repeat(n)));
    }
    std::fs::write(dir.path().join("a"), &text).unwrap();
    for split_bytes in [u64::MAX / 4, 1 << 20, 100_000] {
        let mut s = open(&id_table(&[("path", "a")]), dir.path()).unwrap();
        s.split_bytes = split_bytes;
        let mut readers = s.readers(ScanRequest::default(), 1, None).await.unwrap();
        let (rows, _) = drain(&mut *readers[0], usize::MAX).await.unwrap();
        assert_eq!(rows.len(), 40);
        for (i, row) in rows.iter().enumerate() {
            let n = [10, 70_000, 600_000, 1_200_000][i % 4] + i;
            assert_eq!(row.len(), format!("{i}|").len() + n);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn restored_in_mid_file_gives_the_same_rows() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    for (i, name) in ["a", "b.gz", "c"].iter().enumerate() {
        let text = lines(i * 200..(i + 1) * 200);
        if name.ends_with(".gz") {
            let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gz.write_all(text.as_bytes()).unwrap();
            std::fs::write(d.join(name), gz.finish().unwrap()).unwrap();
        } else {
            std::fs::write(d.join(name), text).unwrap();
        }
    }
    let mut s = open(&id_table(&[("path", ".")]), d).unwrap();
    s.split_bytes = 900;
    let scan = || ScanRequest { batch_rows: 7, ..ScanRequest::default() };
    for stop in [0, 1, 30, 100, 333, 590] {
        let mut readers = s.readers(scan(), 3, None).await.unwrap();
        let mut rows = Vec::new();
        let mut states: Vec<SplitState> = Vec::new();
        for (i, r) in readers.iter_mut().enumerate() {
            let quota = stop / 3 + usize::from(i < stop % 3);
            rows.extend(drain(&mut **r, quota).await.unwrap().0);
            // A future dropped in the middle loses nothing.
            let _ = tokio::time::timeout(std::time::Duration::ZERO, std::future::pending::<()>()).await;
            states.extend(r.snapshot().unwrap());
        }
        drop(readers);
        for mut r in s.readers(scan(), 2, Some(states)).await.unwrap() {
            rows.extend(drain(&mut *r, usize::MAX).await.unwrap().0);
        }
        rows.sort();
        assert_eq!(rows, expected(0..600), "{stop}");
    }
    // Snapshots of a restored job remember what the one before had done.
    let mut readers = s.readers(scan(), 1, None).await.unwrap();
    drain(&mut *readers[0], usize::MAX).await.unwrap();
    let states = readers[0].snapshot().unwrap();
    let mut readers = s.readers(scan(), 2, Some(states.clone())).await.unwrap();
    let mut again = Vec::new();
    for r in &mut readers {
        assert_eq!(drain(&mut **r, usize::MAX).await.unwrap().0.len(), 0);
        again.extend(r.snapshot().unwrap());
    }
    assert_eq!(again.len(), states.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_name_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = lines(0..500);
    text.push_str("{\"id\":nonsense}\n");
    text.push_str(&lines(500..510));
    std::fs::write(dir.path().join("bad.json"), text).unwrap();
    for split_bytes in [u64::MAX / 4, 1000] {
        let mut s = open(&id_table(&[("path", "bad.json")]), dir.path()).unwrap();
        s.split_bytes = split_bytes;
        let e = read_all(&s, ScanRequest::default(), 1).await.unwrap_err();
        assert!(e.message().contains("bad.json line 501: "), "{e}");
        assert!(e.message().starts_with("table c.d.t: "), "{e}");
        assert_eq!(e.kind(), crate::ErrorKind::Data);
    }
    let s =
        open(&id_table(&[("path", "bad.json"), ("json.ignore-parse-errors", "true")]), dir.path()).unwrap();
    let metrics = Arc::new(SourceMetrics::default());
    let scan = ScanRequest { metrics: metrics.clone(), ..ScanRequest::default() };
    assert_eq!(read_all(&s, scan, 1).await.unwrap(), expected(0..510));
    assert_eq!(metrics.skipped.load(std::sync::atomic::Ordering::Relaxed), 1);
    std::fs::write(dir.path().join("cut.json.gz"), [0x1f, 0x8b, 8, 0, 1]).unwrap();
    let s = open(&id_table(&[("path", "cut.json.gz")]), dir.path()).unwrap();
    let e = read_all(&s, ScanRequest::default(), 1).await.unwrap_err();
    assert!(e.message().contains("cut.json.gz"), "{e}");
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_metadata_projection_and_limit() {
    let dir = tempfile::tempdir().unwrap();
    for (p, n) in
        [("day=2020-01-01/k=a", 1), ("day=2020-01-02/k=b", 2), ("day=2020-01-02/k=__DEFAULT_PARTITION__", 3)]
    {
        let folder = dir.path().join(p);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("f.csv"), format!("{n},x\n")).unwrap();
    }
    let t = table(
        &[
            ("day", LogicalType::nullable(TypeRoot::Date)),
            ("n", int()),
            ("k", LogicalType::string()),
            ("s", LogicalType::string()),
        ],
        &[("size", "file.size", int()), ("name", "file.name", LogicalType::string())],
        &["day", "k"],
        &[("path", "."), ("format", "csv")],
    );
    let s = open(&t, dir.path()).unwrap();
    assert_eq!(s.schema(), t.scan_schema());
    let rows = read_all(&s, ScanRequest::default(), 1).await.unwrap();
    assert_eq!(rows, ["2020-01-01|1|a|x|4|f.csv", "2020-01-02|2|b|x|4|f.csv", "2020-01-02|3|NULL|x|4|f.csv"]);
    let scan = ScanRequest { projection: Some(vec![5, 2, 1]), ..ScanRequest::default() };
    assert_eq!(read_all(&s, scan, 1).await.unwrap(), ["f.csv|NULL|3", "f.csv|a|1", "f.csv|b|2"]);
    let metrics = Arc::new(SourceMetrics::default());
    let scan = ScanRequest {
        projection: Some(vec![]),
        filters: vec![col("k").eq(lit("b"))],
        metrics: metrics.clone(),
        ..ScanRequest::default()
    };
    let mut readers = s.readers(scan, 1, None).await.unwrap();
    let mut count = 0;
    loop {
        match readers[0].next().await.unwrap() {
            SourceEvent::Batch { batch, .. } => count += batch.num_rows(),
            SourceEvent::End => break,
            _ => {}
        }
    }
    assert_eq!(count, 1);
    assert_eq!(metrics.total_bytes.load(std::sync::atomic::Ordering::Relaxed), 4);
    let scan = ScanRequest { limit: Some(2), ..ScanRequest::default() };
    assert_eq!(read_all(&s, scan, 1).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitored_folder_reads_each_new_file_once() {
    let dir = tempfile::tempdir().unwrap();
    let t = id_table(&[("path", "in"), ("source.monitor-interval", "10 ms")]);
    let s = open(&t, dir.path()).unwrap();
    assert!(!s.bounded());
    let mut readers = s.readers(ScanRequest::default(), 1, None).await.unwrap();
    std::fs::create_dir(dir.path().join("in")).unwrap();
    std::fs::write(dir.path().join("in/a"), lines(0..3)).unwrap();
    let (rows, _) = drain(&mut *readers[0], 3).await.unwrap();
    std::fs::write(dir.path().join("in/.b"), lines(3..5)).unwrap();
    std::fs::rename(dir.path().join("in/.b"), dir.path().join("in/b")).unwrap();
    let (more, _) = drain(&mut *readers[0], 2).await.unwrap();
    assert_eq!([rows, more].concat().len(), 5);
    let nothing =
        tokio::time::timeout(std::time::Duration::from_millis(60), drain(&mut *readers[0], 1)).await;
    assert!(nothing.is_err(), "{nothing:?}");
    let states = readers[0].snapshot().unwrap();
    drop(readers);
    std::fs::write(dir.path().join("in/c"), lines(5..6)).unwrap();
    let mut readers = s.readers(ScanRequest::default(), 1, Some(states)).await.unwrap();
    assert_eq!(drain(&mut *readers[0], 1).await.unwrap().0, expected(5..6));
}

#[test]
fn bad_options() {
    let dir = tempfile::tempdir().unwrap();
    for (options, words) in [
        (&[][..], "required options are missing: 'path'"),
        (&[("path", "x"), ("formats", "csv")], "unsupported options found for 'filesystem': formats"),
        (&[("path", "hdfs://x/y")], "no file system for 'hdfs://'"),
        (&[("path", "x"), ("source.monitor-interval", "often")], "a duration"),
        (&[("path", "x"), ("source.path.regex-pattern", "(")], "a regular expression"),
        (&[("path", "x"), ("csv.field-delimiter", ";")], "unsupported options"),
    ] {
        let e = open(&id_table(options), dir.path()).unwrap_err().to_string();
        assert!(e.contains(words), "{e}");
    }
    let t = table(
        &[("id", int())],
        &[("m", "file.owner", LogicalType::string())],
        &[],
        &[("path", "x"), ("format", "json")],
    );
    let e = open(&t, dir.path()).unwrap_err().to_string();
    assert!(e.contains("Invalid metadata key 'file.owner'") && e.contains("file.modification-time"), "{e}");
    let t = table(&[("id", int())], &[], &["nope"], &[("path", "x"), ("format", "json")]);
    assert!(open(&t, dir.path()).unwrap_err().to_string().contains("`nope` is no column"));
}

#[tokio::test(flavor = "multi_thread")]
async fn begun_splits_that_wait_for_their_reader_are_remembered() {
    let dir = tempfile::tempdir().unwrap();
    for file in 0..4 {
        std::fs::write(dir.path().join(file.to_string()), lines(file * 10..(file + 1) * 10)).unwrap();
    }
    let s = open(&id_table(&[("path", ".")]), dir.path()).unwrap();
    let scan = || ScanRequest { batch_rows: 3, ..ScanRequest::default() };
    // Every file is begun by a reader of its own; then one reader goes on, and another one after it.
    let (mut rows, mut states) = (Vec::new(), Vec::new());
    for mut reader in s.readers(scan(), 4, None).await.unwrap() {
        rows.extend(drain(&mut *reader, 1).await.unwrap().0);
        states.extend(reader.snapshot().unwrap());
    }
    assert_eq!(rows.len(), 12);
    for parallelism in [1, 1, 3, 1] {
        let mut readers = s.readers(scan(), parallelism, Some(std::mem::take(&mut states))).await.unwrap();
        for reader in &mut readers {
            rows.extend(drain(&mut **reader, 1).await.unwrap().0);
            states.extend(reader.snapshot().unwrap());
        }
    }
    for mut reader in s.readers(scan(), 2, Some(states)).await.unwrap() {
        rows.extend(drain(&mut *reader, usize::MAX).await.unwrap().0);
    }
    rows.sort();
    assert_eq!(rows, expected(0..40));
}

#[tokio::test]
async fn long_lines_make_small_batches_unless_they_are_not_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let text = "x".repeat(1 << 20);
    let lines: String = (0..40).map(|id| format!("{{\"id\":{id},\"s\":\"{text}\"}}\n")).collect();
    std::fs::write(dir.path().join("a.json"), lines).unwrap();
    let table = id_table(&[("path", "a.json")]);
    // 32 lines are what is read of the file at once.
    for (projection, most) in [(None, 8), (Some(vec![0]), 32)] {
        let scan = ScanRequest { projection, ..ScanRequest::default() };
        let mut reader = open(&table, dir.path()).unwrap().readers(scan, 1, None).await.unwrap().remove(0);
        let (mut lengths, mut event) = (Vec::new(), reader.next().await.unwrap());
        while !matches!(event, SourceEvent::End) {
            if let SourceEvent::Batch { batch, .. } = event {
                lengths.push(batch.num_rows());
            }
            event = reader.next().await.unwrap();
        }
        assert_eq!(lengths.iter().sum::<usize>(), 40);
        assert_eq!(lengths.iter().max(), Some(&most), "{lengths:?}");
    }
}
