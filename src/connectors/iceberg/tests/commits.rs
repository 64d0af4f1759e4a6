//! Commits: once each, whoever else commits, whatever is repeated.

use arrow::array::{AsArray, Int64Array};
use arrow::datatypes::Int64Type;

use super::*;
use crate::edges::SinkContext;

fn ids(schema: &SchemaRef, range: std::ops::Range<i64>) -> RecordBatch {
    RecordBatch::try_new(schema.clone(), vec![Arc::new(Int64Array::from_iter_values(range))]).unwrap()
}

async fn prepared_table(lake: &Lake) -> SchemaRef {
    lake.create("t", vec![column("id", nullable(TypeRoot::BigInt))], &[]).await;
    lake.resolved("t", &[]).await.physical
}

async fn count_and_sum(lake: &Lake) -> (i64, i64) {
    let got = lake.query("t", "SELECT count(*) AS c, coalesce(sum(id), 0) AS s FROM t").await;
    (got.column(0).as_primitive::<Int64Type>().value(0), got.column(1).as_primitive::<Int64Type>().value(0))
}

async fn snapshots(lake: &Lake) -> usize {
    let source = lake.source("t", &[("snapshot-id", "1")]).await.unwrap();
    let e = source.batch_provider().await.unwrap_err().to_string();
    if e.contains("none yet") { 0 } else { e.matches(" ms)").count() }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_is_one_snapshot_and_is_committed_once() {
    for lake in lakes().await {
        let schema = prepared_table(&lake).await;
        let sink = lake.sink("t", &[]).await.unwrap();
        let mut opened = sink.open(&SinkContext::new(WriteMode::Append, 3)).await.unwrap();
        let first =
            write(&mut opened, &[ids(&schema, 0..10), ids(&schema, 10..20), ids(&schema, 20..30)], Epoch(1))
                .await;
        assert_eq!(first.len(), 3);
        assert_eq!(count_and_sum(&lake).await.0, 0, "nothing is visible before the commit");
        opened.committer.commit(Epoch(1), first.clone()).await.unwrap();
        opened.committer.commit(Epoch(1), first.clone()).await.unwrap();
        assert_eq!(count_and_sum(&lake).await, (30, 435), "{}", lake.name);
        // An epoch without rows.
        let empty = write(&mut opened, &[], Epoch(2)).await;
        assert!(empty.is_empty());
        opened.committer.commit(Epoch(2), empty).await.unwrap();
        let third = write(&mut opened, &[ids(&schema, 30..31)], Epoch(3)).await;
        opened.committer.commit(Epoch(3), third.clone()).await.unwrap();
        // After a restart the committer is another one and the committables come from the checkpoint.
        let mut restarted =
            lake.sink("t", &[]).await.unwrap().open(&SinkContext::new(WriteMode::Append, 1)).await.unwrap();
        restarted.committer.commit(Epoch(3), third).await.unwrap();
        restarted.committer.commit(Epoch(1), first).await.unwrap();
        assert_eq!(count_and_sum(&lake).await, (31, 465));
        assert_eq!(snapshots(&lake).await, 2);
        // Prepared before the restart, committed after it.
        let lost = write(&mut opened, &[ids(&schema, 31..33)], Epoch(4)).await;
        restarted.committer.commit(Epoch(4), lost.clone()).await.unwrap();
        restarted.committer.commit(Epoch(4), lost).await.unwrap();
        assert_eq!(count_and_sum(&lake).await.0, 33);
        let e = restarted.committer.commit(Epoch(5), vec![b"rubbish".to_vec()]).await.unwrap_err();
        assert!(e.to_string().contains("damaged"), "{e}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_committers_lose_nothing() {
    for lake in lakes().await {
        let schema = prepared_table(&lake).await;
        let mut tasks = Vec::new();
        for w in 0..3i64 {
            // Each through a client of its own, as another process would.
            let catalog = create_catalog("lake", &lake.options, lake.dir.path()).await.unwrap();
            let Some(CatalogObject::Table(def)) = catalog.get(&lake.database, "t").await.unwrap() else {
                panic!("no table")
            };
            let resolved = ResolvedTable::new(def, &BTreeMap::new()).unwrap();
            let sink = resolved.def.external.clone().unwrap().sink(&resolved, &env(&lake)).unwrap();
            let schema = schema.clone();
            tasks.push(tokio::spawn(async move {
                let mut opened = sink.open(&SinkContext::new(WriteMode::Append, 1)).await.unwrap();
                for e in 0..4i64 {
                    let start = w * 1000 + e * 10;
                    let c = write(&mut opened, &[ids(&schema, start..start + 10)], Epoch(e as u64 + 1)).await;
                    opened.committer.commit(Epoch(e as u64 + 1), c).await.unwrap();
                }
            }));
        }
        for t in tasks {
            t.await.unwrap();
        }
        let got = lake.query("t", "SELECT count(*) AS c, count(DISTINCT id) AS d FROM t").await;
        assert_eq!(got.column(0).as_primitive::<Int64Type>().value(0), 120, "{}", lake.name);
        assert_eq!(got.column(1).as_primitive::<Int64Type>().value(0), 120, "{}", lake.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn abort_leaves_no_files() {
    let lake = sqlite().await;
    let schema = prepared_table(&lake).await;
    let sink = lake.sink("t", &[]).await.unwrap();
    let mut opened = sink.open(&SinkContext::new(WriteMode::Append, 2)).await.unwrap();
    // Still open.
    opened.writers[0].write(ChangeBatch::insert_only(ids(&schema, 0..40_000))).await.unwrap();
    assert!(opened.writers[0].bytes_written() > 0);
    opened.writers[0].abort().await;
    assert!(lake.data_files().is_empty());
    // Prepared.
    let mut opened = sink.open(&SinkContext::new(WriteMode::Append, 2)).await.unwrap();
    let prepared = write(&mut opened, &[ids(&schema, 0..10), ids(&schema, 10..20)], Epoch(1)).await;
    assert_eq!(lake.data_files().len(), 2);
    opened.writers[0].abort().await;
    assert_eq!(lake.data_files().len(), 2, "the committer answers for prepared files");
    opened.committer.abort(None, prepared).await;
    assert!(lake.data_files().is_empty());
    // Committed: an abort that comes too late takes nothing away.
    let mut opened = sink.open(&SinkContext::new(WriteMode::Append, 1)).await.unwrap();
    let prepared = write(&mut opened, &[ids(&schema, 0..10)], Epoch(1)).await;
    opened.committer.commit(Epoch(1), prepared.clone()).await.unwrap();
    opened.committer.abort(None, prepared).await;
    assert_eq!(count_and_sum(&lake).await, (10, 45));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_made_anew_is_not_written() {
    let lake = sqlite().await;
    let schema = prepared_table(&lake).await;
    let mut opened =
        lake.sink("t", &[]).await.unwrap().open(&SinkContext::new(WriteMode::Append, 1)).await.unwrap();
    let prepared = write(&mut opened, &[ids(&schema, 0..10)], Epoch(1)).await;
    lake.catalog.drop_table(&lake.database, "t", false).await.unwrap();
    prepared_table(&lake).await;
    let e = opened.committer.commit(Epoch(1), prepared).await.unwrap_err().to_string();
    assert!(e.contains("created again"), "{e}");
    assert_eq!(count_and_sum(&lake).await.0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_refused() {
    let lake = sqlite().await;
    prepared_table(&lake).await;
    let mut keyed = lake.def("k", vec![column("id", LogicalType::not_null(TypeRoot::BigInt))], &[]);
    keyed.primary_key = Some(PrimaryKey { name: None, columns: vec!["id".into()] });
    lake.catalog.create_table(keyed, false).await.unwrap();
    let sink = lake.sink("k", &[("upsert-enabled", "true")]).await.unwrap();
    let e = sink.open(&SinkContext::new(WriteMode::Overwrite, 1)).await.err().unwrap().to_string();
    assert!(e.contains("OVERWRITE") && e.contains("'upsert-enabled' = 'false'"), "{e}");
    for (key, value, text) in [
        ("overwrite-enabled", "true", "OVERWRITE"),
        ("branch", "dev", "branch 'dev'"),
        ("write-format", "orc", "parquet"),
        ("nonsense", "1", "nonsense"),
    ] {
        let e = lake.sink("t", &[(key, value)]).await.unwrap_err().to_string();
        assert!(e.contains(text), "{e}");
    }
    let sink = lake.sink("t", &[("compression-codec", "lzma")]).await.unwrap();
    let e = sink.open(&SinkContext::new(WriteMode::Append, 1)).await.err().unwrap().to_string();
    assert!(e.contains("lzma") && e.contains("zstd"), "{e}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_roll_and_many_partitions_stay_bounded() {
    let lake = sqlite().await;
    lake.create("r", vec![column("id", nullable(TypeRoot::BigInt))], &[]).await;
    let schema = lake.resolved("r", &[]).await.physical;
    let sink = lake.sink("r", &[("target-file-size-bytes", "4kb")]).await.unwrap();
    let mut opened = sink.open(&SinkContext::new(WriteMode::Append, 1)).await.unwrap();
    let batches: Vec<RecordBatch> = (0..8).map(|i| ids(&schema, i * 4000..(i + 1) * 4000)).collect();
    let c = write(&mut opened, &batches, Epoch(1)).await;
    opened.committer.commit(Epoch(1), c).await.unwrap();
    assert!(lake.data_files().len() > 1);
    let got = lake.query("r", "SELECT count(DISTINCT id) AS c FROM t").await;
    assert_eq!(got.column(0).as_primitive::<Int64Type>().value(0), 32_000);
    // More partitions than files may be open.
    lake.create("m", vec![column("id", nullable(TypeRoot::BigInt))], &["id"]).await;
    let c = {
        let sink = lake.sink("m", &[]).await.unwrap();
        assert_eq!(sink.distribute_by(), Some(vec![0]));
        let mut opened = sink.open(&SinkContext::new(WriteMode::Append, 1)).await.unwrap();
        let c = write(&mut opened, &[ids(&schema, 0..250), ids(&schema, 0..250)], Epoch(1)).await;
        opened.committer.commit(Epoch(1), c.clone()).await.unwrap();
        c
    };
    assert_eq!(c.len(), 1);
    let got = lake.query("m", "SELECT count(*) AS c, count(DISTINCT id) AS d FROM t").await;
    assert_eq!(got.column(0).as_primitive::<Int64Type>().value(0), 500);
    assert_eq!(got.column(1).as_primitive::<Int64Type>().value(0), 250);
}
