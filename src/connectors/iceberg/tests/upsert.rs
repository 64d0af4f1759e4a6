//! Rows that replace each other by key, against a model: over epochs, writers, restarts, compaction and failures.

use std::collections::BTreeMap;

use arrow::array::{AsArray, Int64Array, StringArray};
use arrow::datatypes::Int64Type;

use super::super::commit::{IcebergCommitter, Target};
use super::super::judge::{Judge, Verdict};
use super::super::maintain::{Maintenance, maintain_table};
use super::super::mark::Mark;
use super::reads::raw;
use super::*;
use crate::edges::{Notices, SinkCommitter};
use crate::stream::{RowKind, RowKinds};

type Change = (RowKind, i64, &'static str);

const PLUS: RowKind = RowKind::Insert;
const AFTER: RowKind = RowKind::UpdateAfter;
const BEFORE: RowKind = RowKind::UpdateBefore;
const MINUS: RowKind = RowKind::Delete;

fn batch(schema: &SchemaRef, changes: &[(RowKind, i64, String)]) -> ChangeBatch {
    let ids = Int64Array::from_iter_values(changes.iter().map(|c| c.1));
    let names = StringArray::from_iter_values(changes.iter().map(|c| c.2.as_str()));
    let rows = RecordBatch::try_new(Arc::clone(schema), vec![Arc::new(ids), Arc::new(names)]).unwrap();
    ChangeBatch::with_kinds(rows, RowKinds::new(changes.iter().map(|c| c.0 as u8).collect()))
}

fn owned(changes: &[Change]) -> Vec<(RowKind, i64, String)> {
    changes.iter().map(|(kind, id, name)| (*kind, *id, (*name).to_owned())).collect()
}

async fn keyed(lake: &Lake, table: &str, partitioned_by: &[&str], options: &[(&str, &str)]) -> SchemaRef {
    let columns = vec![
        column("id", LogicalType::not_null(TypeRoot::BigInt)),
        column("name", nullable(TypeRoot::Varchar(crate::types::MAX_LENGTH))),
    ];
    let mut def = lake.def(table, columns, partitioned_by);
    def.primary_key = Some(key(&["id"]));
    def.options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    lake.catalog.create_table(def, false).await.unwrap();
    lake.resolved(table, &[]).await.physical
}

async fn open(lake: &Lake, table: &str, parallelism: usize) -> OpenedSink {
    let context = SinkContext { is_updating: true, ..SinkContext::new(WriteMode::Append, parallelism) };
    lake.sink(table, &[]).await.unwrap().open(&context).await.unwrap()
}

/// Writes changes, each key always to the same writer.
async fn prepare(
    sink: &mut OpenedSink,
    schema: &SchemaRef,
    changes: &[(RowKind, i64, String)],
    epoch: u64,
) -> Vec<Committable> {
    let n = sink.writers.len();
    let mut committables = Vec::new();
    for (i, writer) in sink.writers.iter_mut().enumerate() {
        let own: Vec<_> = changes.iter().filter(|c| c.1.unsigned_abs() as usize % n == i).cloned().collect();
        for part in own.chunks(7) {
            writer.write(batch(schema, part)).await.unwrap();
        }
        committables.extend(writer.prepare(Epoch(epoch)).await.unwrap());
    }
    committables
}

async fn rows(lake: &Lake, table: &str) -> Vec<(i64, String)> {
    let got = lake.query(table, "SELECT id, name FROM t ORDER BY id, name").await;
    let (ids, names) =
        (got.column(0).as_primitive::<Int64Type>().clone(), got.column(1).as_string::<i32>().clone());
    ids.values().iter().copied().zip(names.iter().map(|n| n.unwrap_or("NULL").to_owned())).collect()
}

fn expected(pairs: &[(i64, &str)]) -> Vec<(i64, String)> {
    pairs.iter().map(|(id, name)| (*id, (*name).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_replace_each_other_by_key() {
    for lake in lakes().await {
        let schema = keyed(&lake, "t", &[], &[]).await;
        let mut sink = open(&lake, "t", 1).await;
        let epochs: &[&[Change]] = &[
            &[(PLUS, 1, "a"), (PLUS, 2, "b"), (PLUS, 3, "c")],
            // Replaced twice, deleted, deleted and back again, deleted and never there.
            &[
                (BEFORE, 1, "a"),
                (AFTER, 1, "x"),
                (AFTER, 1, "y"),
                (MINUS, 2, "b"),
                (MINUS, 3, "c"),
                (PLUS, 3, "back"),
                (MINUS, 9, "?"),
            ],
            &[(MINUS, 3, "back"), (PLUS, 4, "d"), (MINUS, 4, "d")],
            // Nothing but deletes.
            &[(MINUS, 1, "y")],
            &[(PLUS, 2, "again")],
        ];
        let after = [
            expected(&[(1, "a"), (2, "b"), (3, "c")]),
            expected(&[(1, "y"), (3, "back")]),
            expected(&[(1, "y")]),
            expected(&[]),
            expected(&[(2, "again")]),
        ];
        for (i, (changes, after)) in epochs.iter().zip(&after).enumerate() {
            let epoch = i as u64 + 1;
            let committables = prepare(&mut sink, &schema, &owned(changes), epoch).await;
            sink.committer.commit(Epoch(epoch), committables).await.unwrap();
            assert_eq!(rows(&lake, "t").await, *after, "{} after epoch {epoch}", lake.name);
        }
        let (_, table) = raw(&lake, "t").await;
        let operations: Vec<String> = {
            let mut all: Vec<_> = table.metadata().snapshots().cloned().collect();
            all.sort_by_key(|s| s.sequence_number());
            all.iter().map(|s| s.summary().operation.as_str().to_owned()).collect()
        };
        assert_eq!(operations, ["append", "overwrite", "delete", "delete", "append"], "{}", lake.name);
        let summary = &table.metadata().current_snapshot().unwrap().summary().additional_properties;
        // 1, 2 and 3 in the second epoch, 3 in the third, 1 in the fourth.
        assert_eq!(summary["total-position-deletes"], "5", "{summary:?}");
    }
}

/// A generator that is the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

async fn against_the_model(lake: &Lake, seed: u64, partitioned_by: &[&str], parallelism: usize) {
    let table = format!("t{seed}");
    let schema = keyed(lake, &table, partitioned_by, &[("commit.manifest.min-count-to-merge", "4")]).await;
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut model: BTreeMap<i64, String> = BTreeMap::new();
    let mut sink = open(lake, &table, parallelism).await;
    for epoch in 1..=14_u64 {
        let mut changes = Vec::new();
        for n in 0..dice.roll(400) {
            let id = dice.roll(60) as i64 - 20;
            if dice.roll(3) == 0 {
                model.remove(&id);
                changes.push((MINUS, id, String::new()));
            } else {
                let name = format!("{epoch}-{n}-{}", "é".repeat(dice.roll(20) as usize));
                model.insert(id, name.clone());
                changes.push((if dice.roll(2) == 0 { PLUS } else { AFTER }, id, name));
            }
        }
        let committables = prepare(&mut sink, &schema, &changes, epoch).await;
        match dice.roll(6) {
            // The process dies before its commit, and the next one makes it; or after it, and the next one tries again.
            0 | 1 => {
                if dice.roll(2) == 0 {
                    sink.committer.commit(Epoch(epoch), committables.clone()).await.unwrap();
                }
                sink = open(lake, &table, parallelism).await;
                sink.committer.recover(Epoch(epoch), committables).await.unwrap();
            }
            _ => sink.committer.commit(Epoch(epoch), committables).await.unwrap(),
        }
        if dice.roll(4) == 0 {
            let (opened, found) = raw(lake, &table).await;
            let what = Maintenance {
                min_input_files: 2,
                orphan_age: std::time::Duration::from_secs(3600),
                ..Maintenance::default()
            };
            maintain_table(&opened, found.identifier(), &what).await.unwrap();
        }
        let want: Vec<(i64, String)> = model.iter().map(|(id, name)| (*id, name.clone())).collect();
        assert_eq!(rows(lake, &table).await, want, "seed {seed}, epoch {epoch}, {partitioned_by:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_give_the_table_of_a_model() {
    let lake = sqlite().await;
    for seed in 1..=6 {
        against_the_model(&lake, seed, &[], 1 + seed as usize % 3).await;
    }
    for seed in 11..=14 {
        // The partition of a key changes with its row.
        against_the_model(&lake, seed, &["truncate(1, name)"], 1 + seed as usize % 2).await;
    }
    against_the_model(&lake, 21, &["bucket(3, id)"], 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_changes_are_seen() {
    let lake = sqlite().await;
    let schema = keyed(&lake, "t", &[], &[]).await;
    let mut ours = open(&lake, "t", 1).await;
    let mut theirs = open(&lake, "t", 1).await;
    let steps: &[(bool, u64, &[Change])] = &[
        (true, 1, &[(PLUS, 1, "a"), (PLUS, 2, "b")]),
        (false, 1, &[(AFTER, 1, "theirs"), (PLUS, 3, "theirs")]),
        (true, 2, &[(AFTER, 1, "ours"), (MINUS, 3, "")]),
        (false, 2, &[(MINUS, 1, ""), (AFTER, 2, "theirs")]),
        (true, 3, &[(AFTER, 2, "ours"), (PLUS, 1, "ours")]),
    ];
    for (is_ours, epoch, changes) in steps {
        let sink = if *is_ours { &mut ours } else { &mut theirs };
        let committables = prepare(sink, &schema, &owned(changes), *epoch).await;
        sink.committer.commit(Epoch(*epoch), committables).await.unwrap();
    }
    assert_eq!(rows(&lake, "t").await, expected(&[(1, "ours"), (2, "ours")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_change_nothing() {
    use super::faults::{Fault, faulty};
    let lake = sqlite().await;
    let schema = keyed(&lake, "t", &[], &[]).await;
    let mut sink = open(&lake, "t", 1).await;
    let first = prepare(&mut sink, &schema, &owned(&[(PLUS, 1, "a"), (PLUS, 2, "b")]), 1).await;
    sink.committer.commit(Epoch(1), first).await.unwrap();
    for (n, fault) in [
        Fault::AppliedUnknown,
        Fault::NotAppliedUnknown,
        Fault::AppliedConflict,
        Fault::Overtaken,
        Fault::SwallowedCommit,
    ]
    .into_iter()
    .enumerate()
    {
        let (opened, table) = raw(&lake, "t").await;
        let over = faulty(&opened, vec![fault]);
        let target = Target { lake: over, ident: table.identifier().clone(), notices: Notices::default() };
        let mut committer = IcebergCommitter::new(target, None, None);
        for step in 0..2_u64 {
            let epoch = 10 + 2 * n as u64 + step;
            let name = format!("{fault:?} {step}");
            let changes = vec![(AFTER, 1, name.clone()), (MINUS, 2, String::new()), (PLUS, 3, name.clone())];
            let prepared = prepare(&mut sink, &schema, &changes, epoch).await;
            committer.commit(Epoch(epoch), prepared).await.unwrap();
            assert_eq!(rows(&lake, "t").await, vec![(1, name.clone()), (3, name)], "{fault:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_replaced_is_said() {
    let lake = sqlite().await;
    let schema = keyed(&lake, "three", &[], &[("format-version", "3")]).await;
    let context = SinkContext { is_updating: true, ..SinkContext::new(WriteMode::Append, 1) };
    let opened = lake.sink("three", &[]).await.unwrap().open(&context).await;
    let e = opened.err().unwrap().to_string();
    assert!(e.contains("format version 3") && e.contains("'format-version' = '2'"), "{e}");
    drop(schema);
    lake.create("keyless", vec![column("id", nullable(TypeRoot::BigInt))], &[]).await;
    let sink = lake.sink("keyless", &[("upsert-enabled", "true")]).await.unwrap();
    assert_eq!(sink.changelog(), crate::edges::SinkChangelog::AppendOnly);
    let e = sink.open(&SinkContext::new(WriteMode::Append, 1)).await.err().unwrap().to_string();
    assert!(e.contains("PRIMARY KEY"), "{e}");
    // Inserts alone replace nothing, unless they are to.
    keyed(&lake, "t", &[], &[]).await;
    assert!(!lake.sink("t", &[]).await.unwrap().always_upserts());
    assert!(lake.sink("t", &[("upsert-enabled", "true")]).await.unwrap().always_upserts());
    keyed(&lake, "u", &[], &[("write.upsert.enabled", "true")]).await;
    assert!(lake.sink("u", &[]).await.unwrap().always_upserts());
    // A mark says nothing of a table that is another one.
    let (_, table) = raw(&lake, "t").await;
    let mark = Mark { pipeline: Uuid::nil(), epoch: 1, table: Uuid::nil(), continues: None };
    assert_eq!(mark.judge(table.metadata()), Verdict::Replaced);
}
