//! Streaming reads: where they begin, what they pass over, how they go on.

use std::time::Duration;

use arrow::array::{AsArray, Int64Array};
use arrow::datatypes::Int64Type;

use super::deletes::{commit_deletes, data_paths, positions};
use super::reads::raw;
use super::*;
use crate::edges::SplitState;

const STREAMING: (&str, &str) = ("streaming", "true");
const INTERVAL: (&str, &str) = ("monitor-interval", "10 ms");

async fn append(lake: &Lake, range: std::ops::Range<i64>) {
    if lake.catalog.get(&lake.database, "t").await.unwrap().is_none() {
        lake.create("t", vec![column("id", nullable(TypeRoot::BigInt))], &[]).await;
    }
    let schema = lake.resolved("t", &[]).await.physical;
    let rows = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from_iter_values(range))]).unwrap();
    lake.append("t", &[rows]).await;
}

async fn source(lake: &Lake, hints: &[(&str, &str)]) -> crate::Result<Arc<dyn Source>> {
    lake.source("t", &[&[STREAMING, INTERVAL], hints].concat()).await
}

/// Rows of all readers until there are `enough`.
async fn read(readers: &mut [Box<dyn SourceReader>], enough: usize) -> crate::Result<Vec<i64>> {
    let mut rows = Vec::new();
    while rows.len() < enough {
        for reader in readers.iter_mut() {
            let Ok(event) = tokio::time::timeout(Duration::from_millis(5), reader.next()).await else {
                continue;
            };
            if let SourceEvent::Batch { batch, .. } = event? {
                rows.extend(batch.rows.column(0).as_primitive::<Int64Type>().values());
            }
        }
    }
    Ok(rows)
}

fn sorted(mut rows: Vec<i64>) -> Vec<i64> {
    rows.sort_unstable();
    rows
}

fn states(readers: &[Box<dyn SourceReader>]) -> Vec<SplitState> {
    readers.iter().flat_map(|r| r.snapshot().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_appended_is_read() {
    for lake in lakes().await {
        append(&lake, 0..10).await;
        append(&lake, 10..20).await;
        append(&lake, 20..30).await;
        let (_, table) = raw(&lake, "t").await;
        let log = table.metadata().history();
        let (id, time) = (log[1].snapshot_id.to_string(), (log[0].timestamp_ms() + 1).to_string());
        let starts: [(&[(&str, &str)], i64); 6] = [
            (&[], 20),
            (&[("starting-strategy", "table_scan_then_incremental")], 0),
            (&[("starting-strategy", "INCREMENTAL_FROM_EARLIEST_SNAPSHOT")], 0),
            (&[("start-snapshot-id", &id)], 10),
            (
                &[
                    ("starting-strategy", "INCREMENTAL_FROM_SNAPSHOT_TIMESTAMP"),
                    ("start-snapshot-timestamp", &time),
                ],
                10,
            ),
            (
                &[
                    ("starting-strategy", "INCREMENTAL_FROM_EARLIEST_SNAPSHOT"),
                    ("max-planning-snapshot-count", "1"),
                ],
                0,
            ),
        ];
        let mut all = Vec::new();
        for (hints, from) in starts {
            let source = source(&lake, hints).await.unwrap();
            assert!(!source.bounded() && source.batch_provider().await.unwrap().is_none());
            let mut readers = source.readers(request(4), 2, None).await.unwrap();
            let rows = read(&mut readers, usize::try_from(30 - from).unwrap()).await.unwrap();
            assert_eq!(sorted(rows), (from..30).collect::<Vec<_>>(), "{} {hints:?}", lake.name);
            all.push(readers);
        }
        append(&lake, 30..40).await;
        append(&lake, 40..50).await;
        for mut readers in all {
            assert_eq!(sorted(read(&mut readers, 20).await.unwrap()), (30..50).collect::<Vec<_>>());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_read_in_their_order() {
    let lake = sqlite().await;
    for i in 0..20 {
        append(&lake, i * 10..i * 10 + 10).await;
    }
    let source = source(&lake, &[("starting-strategy", "INCREMENTAL_FROM_EARLIEST_SNAPSHOT")]).await.unwrap();
    let mut readers = source.readers(request(100), 1, None).await.unwrap();
    assert_eq!(read(&mut readers, 200).await.unwrap(), (0..200).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_snapshots_is_waited_for() {
    let lake = sqlite().await;
    lake.create("t", vec![column("id", nullable(TypeRoot::BigInt))], &[]).await;
    for strategy in ["TABLE_SCAN_THEN_INCREMENTAL", "INCREMENTAL_FROM_LATEST_SNAPSHOT"] {
        let source = source(&lake, &[("starting-strategy", strategy)]).await.unwrap();
        let mut readers = source.readers(request(4), 2, None).await.unwrap();
        let states = states(&readers);
        append(&lake, 0..10).await;
        let rows = read(&mut readers, 10).await.unwrap();
        assert_eq!(sorted(rows)[..10], (0..10).collect::<Vec<_>>());
        let mut readers = source.readers(request(4), 1, Some(states)).await.unwrap();
        assert_eq!(sorted(read(&mut readers, 10).await.unwrap()), (0..10).collect::<Vec<_>>());
        lake.catalog.drop_table(&lake.database, "t", false).await.unwrap();
        lake.create("t", vec![column("id", nullable(TypeRoot::BigInt))], &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_read_goes_on_where_it_was() {
    for lake in lakes().await {
        append(&lake, 0..100).await;
        append(&lake, 100..200).await;
        let source = source(&lake, &[("starting-strategy", "TABLE_SCAN_THEN_INCREMENTAL")]).await.unwrap();
        // Rows and states of every run; each goes on from the states of the one before, which are of two moments.
        let (mut seen, mut kept): (Vec<i64>, Option<Vec<SplitState>>) = (Vec::new(), None);
        let mut end = 200;
        for parallelism in [3, 1, 2, 4, 3] {
            let mut readers = source.readers(request(7), parallelism, kept.take()).await.unwrap();
            if parallelism != 3 {
                seen.extend(read(&mut readers, 15).await.unwrap());
            }
            let mut states = readers[0].snapshot().unwrap();
            for _ in 0..8 {
                append(&lake, end..end + 10).await;
                end += 10;
            }
            // The others have gone further by the time of their snapshots.
            for reader in &mut readers[1..] {
                for _ in 0..20 {
                    let next = tokio::time::timeout(Duration::from_millis(20), reader.next()).await;
                    if let Ok(Ok(SourceEvent::Batch { batch, .. })) = next {
                        seen.extend(batch.rows.column(0).as_primitive::<Int64Type>().values());
                    }
                }
                states.extend(reader.snapshot().unwrap());
            }
            kept = Some(states);
        }
        let mut readers = source.readers(request(64), 2, kept).await.unwrap();
        let left = usize::try_from(end).unwrap() - seen.len();
        assert!(left > 0, "everything was read before the end");
        seen.extend(read(&mut readers, left).await.unwrap());
        assert_eq!(sorted(seen), (0..end).collect::<Vec<_>>(), "{}", lake.name);
        append(&lake, end..end + 1).await;
        assert_eq!(read(&mut readers, 1).await.unwrap(), [end]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes_are_told_and_passed_over() {
    let lake = sqlite().await;
    append(&lake, 0..10).await;
    append(&lake, 10..20).await;
    let first = &data_paths(&lake).await[0];
    commit_deletes(&lake, vec![positions(&lake, &[(first, 0)]).await]).await;
    append(&lake, 20..30).await;
    let environment = env(&lake);
    let read_all = async |strategy: &str, rows: usize| {
        let hints = [STREAMING, INTERVAL, ("starting-strategy", strategy)];
        let table = lake.resolved("t", &hints).await;
        let source = table.def.external.clone().unwrap().source(&table, &environment).unwrap();
        sorted(read(&mut source.readers(request(100), 2, None).await.unwrap(), rows).await.unwrap())
    };
    let all = read_all("INCREMENTAL_FROM_EARLIEST_SNAPSHOT", 30).await;
    assert_eq!(all, (0..30).collect::<Vec<_>>());
    let told = environment.notices.take();
    assert!(
        told.len() == 1 && told[0].contains("changes or deletes rows; a streaming read passes over"),
        "{told:?}"
    );
    assert_eq!(read_all("TABLE_SCAN_THEN_INCREMENTAL", 29).await.len(), 29);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_starts_are_named() {
    let lake = sqlite().await;
    append(&lake, 0..10).await;
    let open = async |hints: &[(&str, &str)]| {
        let source = source(&lake, hints).await?;
        source.readers(request(1), 1, None).await.map(|_| ())
    };
    for (hints, text) in [
        (&[("start-snapshot-id", "7")][..], "no snapshot 7 to start from"),
        (&[("start-snapshot-timestamp", "9999999999999")], "at 9999999999999 ms or later to start from"),
        (&[("starting-strategy", "NEWEST")], "expected TABLE_SCAN_THEN_INCREMENTAL"),
        (&[("starting-strategy", "INCREMENTAL_FROM_SNAPSHOT_ID")], "'start-snapshot-id' belongs to"),
        (&[("snapshot-id", "7")], "is one state of the table"),
        (&[("branch", "b")], "no branch 'b'"),
        (&[("max-planning-snapshot-count", "0")], "a number above 0"),
        (&[("end-snapshot-id", "7")], "'end-snapshot-id' of Iceberg reads is not supported"),
        (&[("watermark-column", "id")], "declare a WATERMARK"),
    ] {
        let e = open(hints).await.unwrap_err().to_string();
        assert!(e.contains(text), "{hints:?}: {e}");
    }
    open(&[("branch", "main")]).await.unwrap();
    let e = lake.source("t", &[("start-snapshot-id", "7")]).await.unwrap_err().to_string();
    assert!(e.contains("a batch read between two snapshots"), "{e}");
    // A position that is not there any more.
    let source = source(&lake, &[]).await.unwrap();
    let gone = vec![SplitState { split: "reader 0 of 1".into(), position: "{\"snapshot\":7}".into() }];
    let e = source.readers(request(1), 1, Some(gone.clone())).await.err().unwrap().to_string();
    assert!(e.contains("snapshot 7, up to or in which the table was read, is not among those"), "{e}");
    // A read that ends goes on as one, and one that does not as such.
    let bounded = lake.source("t", &[]).await.unwrap();
    let e = bounded.readers(request(1), 1, Some(gone)).await.err().unwrap().to_string();
    assert!(e.contains("was read with 'streaming' = 'true' and cannot go on without"), "{e}");
    let ended = bounded.readers(request(1), 1, None).await.unwrap()[0].snapshot().unwrap();
    let e = source.readers(request(1), 1, Some(ended)).await.err().unwrap().to_string();
    assert!(e.contains("was read without 'streaming' = 'true' and cannot go on with"), "{e}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_row_comes_before_all_files_of_its_snapshot_are_announced() {
    let lake = sqlite().await;
    append(&lake, 0..10).await;
    let source = source(&lake, &[]).await.unwrap();
    let mut readers = source.readers(request(4), 2, None).await.unwrap();
    read(&mut readers, 10).await.unwrap();
    // One snapshot with files for both.
    let schema = lake.resolved("t", &[]).await.physical;
    let sink = lake.sink("t", &[]).await.unwrap();
    let mut opened = sink.open(&SinkContext::new(WriteMode::Append, 16)).await.unwrap();
    let rows = |n: i64| {
        RecordBatch::try_new(schema.clone(), vec![Arc::new(Int64Array::from_iter_values(n..n + 10))]).unwrap()
    };
    let committables = write(&mut opened, &(1..17).map(|n| rows(n * 10)).collect::<Vec<_>>(), Epoch(1)).await;
    opened.committer.commit(Epoch(1), committables).await.unwrap();
    let soon = Duration::from_millis(300);
    let is_started = |event: &SourceEvent| matches!(event, SourceEvent::SplitsStarted(_));
    let finished = readers[0].next().await.unwrap();
    let first = if is_started(&finished) { finished } else { readers[0].next().await.unwrap() };
    assert!(is_started(&first), "{first:?}");
    assert!(
        tokio::time::timeout(soon, readers[0].next()).await.is_err(),
        "the other has not announced its files"
    );
    let second = readers[1].next().await.unwrap();
    let second = if is_started(&second) { second } else { readers[1].next().await.unwrap() };
    assert!(is_started(&second), "{second:?}");
    assert!(
        tokio::time::timeout(soon, readers[0].next()).await.is_err(),
        "what the other has announced may not have been passed on yet"
    );
    assert_eq!(sorted(read(&mut readers, 160).await.unwrap()), (10..170).collect::<Vec<_>>());
}
