use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;

use super::tests::{env, int, read_all, table};
use super::*;
use crate::edges::SinkContext;
use crate::edges::{Committable, OpenedSink, ScanRequest, WriteMode};
use crate::stream::{Activity, ChangeBatch, Epoch, Timestamp};
use crate::types::{LogicalType, TypeRoot};

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path.clone());
            }
            out.push(path.strip_prefix(dir).unwrap().to_owned());
        }
    }
    out.sort();
    out
}

fn visible(dir: &Path) -> Vec<PathBuf> {
    let hidden =
        |p: &PathBuf| p.components().any(|c| c.as_os_str().to_string_lossy().starts_with(['.', '_']));
    let all = files(dir).into_iter().filter(|p| dir.join(p).is_file());
    all.filter(|p| !hidden(p)).collect()
}

fn people(format: &str, partitioned_by: &[&str], more: &[(&str, &str)]) -> ResolvedTable {
    let mut options = vec![("path", "out"), ("format", format)];
    options.extend_from_slice(more);
    table(
        &[("day", LogicalType::nullable(TypeRoot::Date)), ("id", int()), ("s", LogicalType::string())],
        &[],
        partitioned_by,
        &options,
    )
}

/// Rows `id` of the given day.
fn rows(schema: &arrow::datatypes::SchemaRef, day: i32, ids: std::ops::Range<i32>) -> ChangeBatch {
    let n = ids.len();
    ChangeBatch::insert_only(
        RecordBatch::try_new(
            schema.clone(),
            vec![
                Arc::new(arrow::array::Date32Array::from(vec![(day >= 0).then_some(day); n])),
                Arc::new(arrow::array::Int32Array::from_iter_values(ids.clone())),
                Arc::new(arrow::array::StringArray::from_iter_values(ids.map(|i| format!("é,\"{i}\n")))),
            ],
        )
        .unwrap(),
    )
}

async fn write(sink: &dyn Sink, mode: WriteMode, batches: Vec<ChangeBatch>) -> Result<()> {
    let OpenedSink { mut writers, mut committer } = sink.open(&SinkContext::new(mode, 2)).await?;
    let mut failed = None;
    for (i, batch) in batches.into_iter().enumerate() {
        if let Err(e) = writers[i % 2].write(batch).await {
            failed = Some(e);
            break;
        }
    }
    let mut committables = Vec::new();
    for w in &mut writers {
        committables.extend(w.prepare(Epoch(1)).await?);
    }
    match failed {
        None => committer.commit(Epoch(1), committables).await,
        Some(e) => {
            for w in &mut writers {
                w.abort().await;
            }
            committer.abort(None, committables).await;
            Err(e)
        }
    }
}

async fn read(t: &ResolvedTable, dir: &Path) -> Vec<String> {
    let source = source(t, &env(dir)).unwrap();
    read_all(&source, ScanRequest::default(), 2).await.unwrap()
}

fn ids(rows: &[String]) -> Vec<i32> {
    let mut ids: Vec<i32> = rows.iter().map(|r| r.split('|').nth(1).unwrap().parse().unwrap()).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_and_partitioning_round_trips() {
    for format in ["json", "csv", "parquet"] {
        for partitioned_by in [&[][..], &["day"], &["s", "day"]] {
            let dir = tempfile::tempdir().unwrap();
            let options = if format == "csv" { &[("csv.null-literal", "")][..] } else { &[] };
            let t = people(format, partitioned_by, options);
            let s = sink(&t, &env(dir.path())).unwrap();
            let schema = s.schema();
            let batches =
                vec![rows(&schema, 18_262, 0..5), rows(&schema, -1, 5..7), rows(&schema, 18_263, 7..10)];
            let one = arrow::compute::concat_batches(&schema, batches.iter().map(|b| &b.rows)).unwrap();
            write(&s, WriteMode::Append, vec![ChangeBatch::insert_only(one)]).await.unwrap();
            write(&s, WriteMode::Append, batches).await.unwrap();
            let got = read(&t, dir.path()).await;
            let mut expected: Vec<String> = (0..10)
                .map(|i| {
                    format!(
                        "{}|{i}|é,\"{i}\n",
                        ["2020-01-01", "NULL", "2020-01-02"][usize::from(i >= 5) + usize::from(i >= 7)]
                    )
                })
                .flat_map(|r| [r.clone(), r])
                .collect();
            expected.sort();
            assert_eq!(got, expected, "{format} {partitioned_by:?}");
            let root = dir.path().join("out");
            assert!(
                files(&root).iter().all(|p| !p.to_string_lossy().contains("staging")),
                "{:?}",
                files(&root)
            );
            if partitioned_by == ["day"] {
                assert!(
                    root.join("day=2020-01-01").is_dir() && root.join("day=__DEFAULT_PARTITION__").is_dir()
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_visible_before_the_commit_and_a_commit_can_be_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let t = people("json", &[], &[]);
    let s = sink(&t, &env(dir.path())).unwrap();
    let root = dir.path().join("out");
    let OpenedSink { mut writers, mut committer } =
        s.open(&SinkContext::new(WriteMode::Append, 1)).await.unwrap();
    let mut last: Vec<Committable> = Vec::new();
    for epoch in 1..4 {
        writers[0].write(rows(&s.schema(), 1, epoch * 10..epoch * 10 + 3)).await.unwrap();
        let before = visible(&root).len();
        last = writers[0].prepare(Epoch(epoch as u64)).await.unwrap().into_iter().collect();
        writers[0].write(rows(&s.schema(), 1, 100..101)).await.unwrap();
        assert_eq!(visible(&root).len(), before);
        committer.commit(Epoch(epoch as u64), last.clone()).await.unwrap();
        assert_eq!(visible(&root).len(), before + 1);
    }
    // After a crash a new committer does it again.
    drop((writers, committer));
    let OpenedSink { mut committer, .. } = s.open(&SinkContext::new(WriteMode::Append, 1)).await.unwrap();
    committer.commit(Epoch(3), last).await.unwrap();
    assert_eq!(visible(&root).len(), 3);
    assert_eq!(ids(&read(&t, dir.path()).await), [10, 11, 12, 20, 21, 22, 30, 31, 32, 100, 100]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for format in ["csv", "parquet"] {
        let t = people(format, &["day"], &[("sink.rolling-policy.file-size", "1 b")]);
        let s = sink(&t, &env(dir.path())).unwrap();
        let OpenedSink { mut writers, mut committer } =
            s.open(&SinkContext::new(WriteMode::Append, 2)).await.unwrap();
        writers[0].write(rows(&s.schema(), 1, 0..5)).await.unwrap();
        writers[1].write(rows(&s.schema(), 2, 0..5)).await.unwrap();
        let prepared = writers[0].prepare(Epoch(1)).await.unwrap();
        writers[0].write(rows(&s.schema(), 1, 0..5)).await.unwrap();
        for w in &mut writers {
            w.abort().await;
        }
        committer.abort(None, prepared.into_iter().collect()).await;
        assert!(!dir.path().join("out").exists(), "{:?}", files(dir.path()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn overwrite_replaces_the_table_or_the_partitions_it_touches() {
    let dir = tempfile::tempdir().unwrap();
    let t = people("json", &[], &[]);
    let s = sink(&t, &env(dir.path())).unwrap();
    for range in [0..3, 3..6] {
        write(&s, WriteMode::Append, vec![rows(&s.schema(), 1, range)]).await.unwrap();
    }
    write(&s, WriteMode::Overwrite, vec![rows(&s.schema(), 1, 7..9), rows(&s.schema(), 1, 9..10)])
        .await
        .unwrap();
    assert_eq!(ids(&read(&t, dir.path()).await), [7, 8, 9]);
    write(&s, WriteMode::Overwrite, vec![]).await.unwrap();
    assert!(visible(&dir.path().join("out")).is_empty());

    let dir = tempfile::tempdir().unwrap();
    let t = people("json", &["day"], &[("sink.partition-commit.policy.kind", "success-file")]);
    let s = sink(&t, &env(dir.path())).unwrap();
    write(&s, WriteMode::Append, vec![rows(&s.schema(), 1, 0..3), rows(&s.schema(), 2, 3..6)]).await.unwrap();
    write(&s, WriteMode::Overwrite, vec![rows(&s.schema(), 2, 7..9)]).await.unwrap();
    assert_eq!(ids(&read(&t, dir.path()).await), [0, 1, 2, 7, 8]);
    assert!(dir.path().join("out/day=1970-01-03/_SUCCESS").is_file());
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_rolled_by_size() {
    let dir = tempfile::tempdir().unwrap();
    let t = people("csv", &[], &[("sink.rolling-policy.file-size", "2 kb")]);
    let s = sink(&t, &env(dir.path())).unwrap();
    let batches = (0..20).map(|i| rows(&s.schema(), 1, i * 50..(i + 1) * 50)).collect();
    write(&s, WriteMode::Append, batches).await.unwrap();
    let found = visible(&dir.path().join("out"));
    assert!(found.len() >= 6, "{found:?}");
    assert!(found.iter().all(|p| p.extension().is_some_and(|e| e == "csv")));
    assert_eq!(ids(&read(&t, dir.path()).await), (0..1000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_that_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("out"), "").unwrap();
    let t = people("json", &[], &[]);
    let e = sink(&t, &env(dir.path()))
        .unwrap()
        .open(&SinkContext::new(WriteMode::Append, 1))
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(e.contains("it is a file"), "{e}");
    // A full disk.
    if Path::new("/dev/full").exists() {
        let e = std::fs::write("/dev/full", "x").map_err(super::part::explain).unwrap_err().to_string();
        assert!(e.contains("the disk is full"), "{e}");
    }
    for (options, words) in [
        (&[("sink.partition-commit.policy.kind", "metastore")][..], "'metastore' is not supported"),
        (&[("sink.partition-commit.trigger", "partition-time")], "needs partitions"),
        (&[("sink.partition-commit.trigger", "sometimes")], "one of process-time, partition-time"),
        (&[("sink.partition-commit.delay", "soon")], "a duration such as"),
        (&[("sink.partition-commit.watermark-time-zone", "Mars")], "a zone name"),
        (&[("partition.time-extractor.kind", "custom")], "'custom' is not supported"),
        (&[("partition.time-extractor.timestamp-pattern", "$day")], "no partition columns"),
        (&[("partition.time-extractor.timestamp-formatter", "yyyy-bb")], "DateTimeFormatter"),
        (&[("sink.rolling-policy.file-size", "big")], "a size such as"),
        (&[("sink.compression", "gzip")], "unsupported options"),
    ] {
        let e = sink(&people("json", &[], options), &env(dir.path())).unwrap_err().to_string();
        assert!(e.contains(words), "{e}");
    }
}

const BY_TIME: &[(&str, &str)] = &[
    ("path", "out"),
    ("format", "csv"),
    ("sink.partition-commit.trigger", "partition-time"),
    ("sink.partition-commit.policy.kind", "success-file"),
];

/// A table `id, dt, hm` in folders by the last two.
fn by_minute(more: &[(&str, &str)]) -> ResolvedTable {
    let columns = [("id", int()), ("dt", LogicalType::string()), ("hm", LogicalType::string())];
    table(&columns, &[], &["dt", "hm"], &[BY_TIME, more].concat())
}

fn minute(schema: &arrow::datatypes::SchemaRef, dt: &str, hm: &str) -> ChangeBatch {
    let text = |s: &str| Arc::new(arrow::array::StringArray::from(vec![s])) as arrow::array::ArrayRef;
    let id = Arc::new(arrow::array::Int32Array::from(vec![1]));
    ChangeBatch::insert_only(RecordBatch::try_new(schema.clone(), vec![id, text(dt), text(hm)]).unwrap())
}

/// Folders with a success file.
fn marked(dir: &Path) -> Vec<String> {
    let all = files(&dir.join("out")).into_iter().filter(|p| p.ends_with("_SUCCESS"));
    all.map(|p| p.parent().unwrap().to_str().unwrap().to_owned()).collect()
}

/// One checkpoint.
async fn checkpoint(opened: &mut OpenedSink, epoch: u64) -> Result<Vec<Committable>> {
    let mut committables = Vec::new();
    for w in &mut opened.writers {
        committables.extend(w.prepare(Epoch(epoch)).await?);
    }
    opened.committer.commit(Epoch(epoch), committables.clone()).await?;
    Ok(committables)
}

/// 2020-01-01 00:00:00 and so many seconds.
fn at(seconds: i64) -> Timestamp {
    Timestamp((18_262 * 86_400 + seconds) * 1000)
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_marked_when_the_watermark_passes_their_time() {
    let dir = tempfile::tempdir().unwrap();
    let t = by_minute(&[
        ("sink.partition-commit.delay", "1 min"),
        ("partition.time-extractor.timestamp-pattern", "$dt $hm:00"),
    ]);
    let s = sink(&t, &env(dir.path())).unwrap();
    let mut opened = s.open(&SinkContext::new(WriteMode::Append, 2)).await.unwrap();
    let (first, second) = ("dt=2020-01-01/hm=00%3A00", "dt=2020-01-01/hm=00%3A01");
    opened.writers[0].write(minute(&s.schema(), "2020-01-01", "00:00")).await.unwrap();
    opened.writers[1].write(minute(&s.schema(), "2020-01-01", "00:01")).await.unwrap();
    opened.writers[0].on_watermark(at(60));
    opened.writers[1].on_watermark(at(1000));
    checkpoint(&mut opened, 1).await.unwrap();
    assert_eq!(visible(&dir.path().join("out")).len(), 2);
    // The watermark has to be beyond the time, as in Flink.
    assert!(marked(dir.path()).is_empty(), "{:?}", marked(dir.path()));
    opened.writers[0].on_watermark(Timestamp(at(60).0 + 1));
    // Only the barrier counts.
    assert!(marked(dir.path()).is_empty());
    let last = checkpoint(&mut opened, 2).await.unwrap();
    assert_eq!(last.len(), 1, "the second writer has no news");
    assert_eq!(marked(dir.path()), [first]);
    opened.committer.commit(Epoch(2), last).await.unwrap();
    assert_eq!(marked(dir.path()), [first]);
    assert!(checkpoint(&mut opened, 3).await.unwrap().is_empty());
    // A late row: the partition is marked again.
    std::fs::remove_file(dir.path().join("out").join(first).join("_SUCCESS")).unwrap();
    opened.writers[0].write(minute(&s.schema(), "2020-01-01", "00:00")).await.unwrap();
    checkpoint(&mut opened, 4).await.unwrap();
    assert_eq!(marked(dir.path()), [first]);
    // An idle writer does not hold back the others.
    opened.writers[0].on_activity(Activity::Idle);
    checkpoint(&mut opened, 5).await.unwrap();
    assert_eq!(marked(dir.path()), [first, second]);
    // One writer ends, the other does not.
    let third = "dt=2020-01-02/hm=00%3A00";
    opened.writers[0].write(minute(&s.schema(), "2020-01-02", "00:00")).await.unwrap();
    opened.writers[0].on_watermark(Timestamp::MAX);
    checkpoint(&mut opened, 6).await.unwrap();
    assert_eq!(marked(dir.path()), [first, second]);
    opened.writers[1].on_watermark(Timestamp::MAX);
    checkpoint(&mut opened, 7).await.unwrap();
    assert_eq!(marked(dir.path()), [first, second, third]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_a_partition() {
    let shanghai = ("sink.partition-commit.watermark-time-zone", "Asia/Shanghai");
    let pattern = "partition.time-extractor.timestamp-pattern";
    let formatter = "partition.time-extractor.timestamp-formatter";
    for (options, dt, hm, due) in [
        // Without a pattern the first column is the time.
        (vec![], "2020-01-01", "x", at(0)),
        (vec![(pattern, "$dt $hm:30"), shanghai], "2020-01-01", "10:00", at(2 * 3600 + 30)),
        (vec![(pattern, "$dt$hm"), (formatter, "yyyyMMddHHmm")], "20200101", "0100", at(3600)),
        (vec![(pattern, "$dt"), (formatter, "yyyyMMdd")], "20200101", "", at(0)),
        // `$` of a value is no column.
        (vec![(pattern, "$dt")], "2020-1-1", "$dt", at(0)),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let s = sink(&by_minute(&options), &env(dir.path())).unwrap();
        let mut opened = s.open(&SinkContext::new(WriteMode::Append, 1)).await.unwrap();
        opened.writers[0].write(minute(&s.schema(), dt, hm)).await.unwrap();
        opened.writers[0].on_watermark(due);
        checkpoint(&mut opened, 1).await.unwrap();
        assert!(marked(dir.path()).is_empty(), "{options:?}");
        opened.writers[0].on_watermark(Timestamp(due.0 + 1));
        checkpoint(&mut opened, 2).await.unwrap();
        assert_eq!(marked(dir.path()).len(), 1, "{options:?}");
    }
    for wrong in ["$dt $h:00", "$$dt", "$dt $"] {
        let dir = tempfile::tempdir().unwrap();
        let e = sink(&by_minute(&[(pattern, wrong)]), &env(dir.path())).unwrap_err().to_string();
        assert!(e.contains("only partition columns after '$': $dt, $hm"), "{e}");
    }
    // A partition that stands for no time, here that of NULL.
    let dir = tempfile::tempdir().unwrap();
    let s = sink(&by_minute(&[(pattern, "$dt $hm:00")]), &env(dir.path())).unwrap();
    let mut opened = s.open(&SinkContext::new(WriteMode::Append, 1)).await.unwrap();
    opened.writers[0].write(minute(&s.schema(), "", "10:00")).await.unwrap();
    opened.writers[0].on_watermark(at(0));
    let e = checkpoint(&mut opened, 1).await.unwrap_err().to_string();
    assert!(e.contains("'__DEFAULT_PARTITION__ 10:00:00' is no time") && e.contains("hm=10%3A00"), "{e}");
    // At the end, and so in batch, everything is complete.
    opened.writers[0].on_watermark(Timestamp::MAX);
    checkpoint(&mut opened, 2).await.unwrap();
    assert_eq!(marked(dir.path()).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_marked_some_time_after_they_were_begun() {
    for (delay, names) in [("0 s", 1), ("1 h", 0)] {
        let dir = tempfile::tempdir().unwrap();
        let t = by_minute(&[
            ("sink.partition-commit.trigger", "process-time"),
            ("sink.partition-commit.delay", delay),
        ]);
        let s = sink(&t, &env(dir.path())).unwrap();
        let mut opened = s.open(&SinkContext::new(WriteMode::Append, 1)).await.unwrap();
        opened.writers[0].write(minute(&s.schema(), "a", "b")).await.unwrap();
        checkpoint(&mut opened, 1).await.unwrap();
        assert_eq!(marked(dir.path()).len(), names);
        opened.writers[0].on_watermark(Timestamp::MAX);
        checkpoint(&mut opened, 2).await.unwrap();
        assert_eq!(marked(dir.path()), ["dt=a/hm=b"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_cancelled_leaves_nothing() {
    for format in ["json", "parquet"] {
        let dir = tempfile::tempdir().unwrap();
        let t = people(format, &[], &[("path", "out"), ("sink.rolling-policy.file-size", "1b")]);
        let s = sink(&t, &env(dir.path())).unwrap();
        let OpenedSink { mut writers, mut committer } =
            s.open(&SinkContext::new(WriteMode::Append, 1)).await.unwrap();
        // More than is collected before the disk is written to, which is where it waits.
        let many = rows(&s.schema(), 1, 0..200_000);
        assert!(futures::poll!(writers[0].write(many)).is_pending());
        writers[0].abort().await;
        committer.abort(None, Vec::new()).await;
        assert!(!dir.path().join("out").exists(), "{format}");
    }
}

/// The same on an S3 service, if there is one.
#[tokio::test(flavor = "multi_thread")]
async fn s3_round_trip() {
    let Ok(endpoint) = std::env::var("TIDELAKE_TEST_S3") else {
        println!("no S3 service (TIDELAKE_TEST_S3): the local tests stand for this one");
        return;
    };
    let bucket = std::env::var("TIDELAKE_TEST_S3_BUCKET").unwrap_or_else(|_| "lake".into());
    let dir = tempfile::tempdir().unwrap();
    let path = format!("s3://{bucket}/files-{}", uuid::Uuid::new_v4().simple());
    for format in ["json", "parquet"] {
        let path = format!("{path}/{format}");
        let options = [
            ("path", path.as_str()),
            ("s3.endpoint", endpoint.as_str()),
            ("s3.access-key", "a"),
            ("s3.secret-key", "b"),
            ("s3.path.style.access", "true"),
        ];
        let t = people(format, &["s", "day"], &options);
        let s = sink(&t, &env(dir.path())).unwrap();
        write(&s, WriteMode::Append, vec![rows(&s.schema(), 1, 0..5), rows(&s.schema(), 2, 5..9)])
            .await
            .unwrap();
        assert_eq!(ids(&read(&t, dir.path()).await), (0..9).collect::<Vec<_>>());
        let OpenedSink { mut writers, mut committer } =
            s.open(&SinkContext::new(WriteMode::Append, 1)).await.unwrap();
        writers[0].write(rows(&s.schema(), 3, 20..21)).await.unwrap();
        let prepared: Vec<Committable> = writers[0].prepare(Epoch(1)).await.unwrap().into_iter().collect();
        assert_eq!(read(&t, dir.path()).await.len(), 9);
        committer.commit(Epoch(1), prepared.clone()).await.unwrap();
        committer.commit(Epoch(1), prepared).await.unwrap();
        assert_eq!(ids(&read(&t, dir.path()).await), [0, 1, 2, 3, 4, 5, 6, 7, 8, 20]);
        write(&s, WriteMode::Overwrite, vec![rows(&s.schema(), 3, 20..22)]).await.unwrap();
        writers[0].write(rows(&s.schema(), 3, 30..31)).await.unwrap();
        writers[0].abort().await;
        assert_eq!(ids(&read(&t, dir.path()).await), [0, 1, 2, 3, 4, 5, 6, 7, 8, 20, 21]);
    }
}
