//! Compaction, expiry and the sweep for orphans: no row changes, no file that is needed goes.

use std::time::Duration;

use arrow::array::{AsArray, Int64Array};
use arrow::datatypes::Int64Type;

use super::super::lake;
use super::super::maintain::{Maintained, Maintenance, maintain_table};
use super::reads::raw;
use super::*;

pub(super) const ALL_AGES: Maintenance = Maintenance {
    compact: true,
    target_file_size: None,
    min_input_files: 2,
    expire: true,
    snapshot_age: Some(Duration::ZERO),
    snapshots_to_keep: None,
    orphans: true,
    orphan_age: Duration::ZERO,
    dry_run: false,
};

async fn appended(lake: &Lake, table: &str, partitioned_by: &[&str], commits: i64) {
    lake.create(
        table,
        vec![column("id", nullable(TypeRoot::BigInt)), column("k", nullable(TypeRoot::BigInt))],
        partitioned_by,
    )
    .await;
    let schema = lake.resolved(table, &[]).await.physical;
    for commit in 0..commits {
        let ids = Int64Array::from_iter_values(commit * 10..commit * 10 + 10);
        let keys = Int64Array::from_iter_values((0..10).map(|i| i % 2));
        let rows = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(ids), Arc::new(keys)]).unwrap();
        lake.append(table, &[rows]).await;
    }
}

async fn sum(lake: &Lake, table: &str) -> (i64, i64) {
    let got = lake.query(table, "SELECT count(*), sum(id) FROM t").await;
    (got.column(0).as_primitive::<Int64Type>().value(0), got.column(1).as_primitive::<Int64Type>().value(0))
}

pub(super) async fn done(lake: &Lake, table: &str, what: &Maintenance) -> Maintained {
    let (opened, found): (Arc<lake::Lake>, _) = raw(lake, table).await;
    maintain_table(&opened, found.identifier(), what).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_becomes_small_and_stays_the_same() {
    for lake in lakes().await {
        appended(&lake, "t", &["k"], 8).await;
        let before = sum(&lake, "t").await;
        let (_, table) = raw(&lake, "t").await;
        // Of a run that died.
        let stray = format!("{}/data/stray.parquet", table.metadata().location());
        table.file_io().new_output(&stray).unwrap().write("x".into()).await.unwrap();

        let planned = done(&lake, "t", &Maintenance { dry_run: true, ..ALL_AGES }).await;
        assert_eq!((planned.compacted.0, planned.expired), (16, 7), "{}: {planned:?}", lake.name);
        assert_eq!(sum(&lake, "t").await, before);

        let first = done(&lake, "t", &ALL_AGES).await;
        assert_eq!(first.compacted, (16, 2), "{}: {first:?}", lake.name);
        // Nothing but the head is left: 8 appends and the compaction of the first partition have gone.
        assert_eq!(first.expired, 9, "{first:?}");
        assert!(first.expired_files >= 16 && first.orphans >= 1, "{first:?}");
        assert!(!table.file_io().exists(&stray).await.unwrap(), "{}", lake.name);
        assert_eq!(sum(&lake, "t").await, before, "{}", lake.name);
        let again = done(&lake, "t", &ALL_AGES).await;
        assert_eq!((again.compacted, again.expired), ((0, 0), 0), "{again:?}");
        if lake.name == "sqlite" {
            assert_eq!(lake.data_files().len(), 2);
        }
        // What is young stays.
        appended(&lake, "young", &[], 3).await;
        let kept = done(&lake, "young", &Maintenance::default()).await;
        assert_eq!((kept.expired, kept.orphans), (0, 0), "{kept:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_be_kept_is_kept() {
    let lake = sqlite().await;
    appended(&lake, "t", &[], 5).await;
    let what = Maintenance { compact: false, snapshots_to_keep: Some(3), ..ALL_AGES };
    assert_eq!(done(&lake, "t", &what).await.expired, 2);
    let (_, table) = raw(&lake, "t").await;
    assert_eq!(table.metadata().snapshots().len(), 3);
    // The files of the snapshots that went are those of the ones that stayed.
    assert_eq!(sum(&lake, "t").await, (50, 1225));
    assert_eq!(lake.data_files().len(), 5);

    let columns = vec![column("id", nullable(TypeRoot::BigInt))];
    let mut def = lake.def("locked", columns, &[]);
    def.options = BTreeMap::from([("gc.enabled".to_owned(), "false".to_owned())]);
    lake.catalog.create_table(def, false).await.unwrap();
    let told = done(&lake, "locked", &ALL_AGES).await;
    assert!(told.skipped.iter().any(|s| s.contains("gc.enabled")), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_is_known_when_its_snapshots_have_gone() {
    let lake = sqlite().await;
    appended(&lake, "t", &[], 2).await;
    let schema = lake.resolved("t", &[]).await.physical;
    let identity = crate::edges::SinkIdentity {
        job: "j".into(),
        lineage: Uuid::new_v4(),
        generation: 1,
        uid: "u".into(),
    };
    let context = SinkContext { identity: Some(identity), ..SinkContext::new(WriteMode::Append, 1) };
    let open = async || lake.sink("t", &[]).await.unwrap().open(&context).await.unwrap();
    let rows = || {
        let (ids, keys) = (Int64Array::from(vec![100]), Int64Array::from(vec![0]));
        RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(ids), Arc::new(keys)]).unwrap()
    };
    let mut sink = open().await;
    let committed = write(&mut sink, &[rows()], Epoch(7)).await;
    sink.committer.commit(Epoch(7), committed.clone()).await.unwrap();
    // Neither its file nor its snapshot is left.
    let first = done(&lake, "t", &ALL_AGES).await;
    assert_eq!((first.compacted.0, first.expired), (3, 3), "{first:?}");
    open().await.committer.recover(Epoch(7), committed).await.unwrap();
    assert_eq!(sum(&lake, "t").await.0, 21);
    let mut sink = open().await;
    let next = write(&mut sink, &[rows()], Epoch(8)).await;
    sink.committer.commit(Epoch(8), next).await.unwrap();
    assert_eq!(sum(&lake, "t").await.0, 22);
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_are_merged() {
    let lake = sqlite().await;
    let columns = vec![column("id", nullable(TypeRoot::BigInt))];
    let mut def = lake.def("t", columns, &[]);
    def.options = BTreeMap::from([("commit.manifest.min-count-to-merge".to_owned(), "3".to_owned())]);
    lake.catalog.create_table(def, false).await.unwrap();
    let schema = lake.resolved("t", &[]).await.physical;
    for i in 0..10 {
        let rows =
            RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Int64Array::from(vec![i]))]).unwrap();
        lake.append("t", &[rows]).await;
    }
    let (_, table) = raw(&lake, "t").await;
    let head = table.metadata().current_snapshot().unwrap();
    let manifests = table.manifest_list_reader(head).load().await.unwrap();
    assert!(manifests.entries().len() <= 4, "{}", manifests.entries().len());
    // Each file is still one of the snapshot that it came with.
    let mut sequences = Vec::new();
    for m in manifests.entries() {
        for e in m.load_manifest(table.file_io()).await.unwrap().entries() {
            sequences.push(e.sequence_number().unwrap());
        }
    }
    sequences.sort_unstable();
    assert_eq!(sequences, (1..=10).collect::<Vec<i64>>());
    assert_eq!(
        lake.query("t", "SELECT count(*) FROM t").await.column(0).as_primitive::<Int64Type>().value(0),
        10
    );
}
