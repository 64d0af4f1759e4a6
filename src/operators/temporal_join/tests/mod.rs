//! Temporal joins against lists of versions: rows out of order, restored at other parallelisms, in tiny batches; `pruning`
//! has them step by step, with late rows.

mod pruning;

use std::sync::Arc;

use arrow::array::{Int64Array, TimestampMillisecondArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Field, Schema, SchemaRef, TimeUnit};
use datafusion::logical_expr::Operator as BinaryOperator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column};

use super::*;
use crate::operators::harness::{format_batch, materialize};
use crate::operators::join::{JoinFilter, JoinInput, UniqueKey};
use crate::state::hash_columns;
use crate::stream::key_group::{KeyGroup, KeyGroupRange, subtask_of};
use crate::stream::snapshot::OperatorSnapshot;

/// Kind, `k, t, v`.
type Row = (RowKind, Option<i64>, Option<i64>, i64);

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("t", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("v", DataType::Int64, false),
    ]))
}

fn rows(of: &[Row]) -> ChangeBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter(of.iter().map(|r| r.1))),
        Arc::new(TimestampMillisecondArray::from_iter(of.iter().map(|r| r.2))),
        Arc::new(Int64Array::from_iter_values(of.iter().map(|r| r.3))),
    ];
    let kinds = RowKinds::new(of.iter().map(|r| r.0 as u8).collect());
    ChangeBatch::with_kinds(RecordBatch::try_new(schema(), columns).unwrap(), kinds)
}

/// Gives `v` of both sides; `filtered`: `l.v < r.v`.
fn config(kind: JoinKind, filtered: bool) -> TemporalJoinConfig {
    let input = || JoinInput {
        schema: schema(),
        keys: vec![0],
        unique: UniqueKey::None,
        retracts: true,
        ttl_ms: None,
    };
    let number = Field::new("v", DataType::Int64, true);
    let two = Arc::new(Schema::new(vec![number.clone(), number]));
    let filter = JoinFilter {
        condition: Arc::new(BinaryExpr::new(
            Arc::new(Column::new("v", 0)),
            BinaryOperator::Lt,
            Arc::new(Column::new("v", 1)),
        )),
        columns: vec![(JoinSide::Left, 2), (JoinSide::Right, 2)],
        schema: two.clone(),
    };
    TemporalJoinConfig {
        join: JoinConfig {
            kind,
            left: input(),
            right: input(),
            null_safe: vec![false],
            filter: filtered.then_some(filter),
            output: vec![JoinColumn::Input(JoinSide::Left, 2), JoinColumn::Input(JoinSide::Right, 2)],
            output_schema: two,
            emit_update_before: true,
        },
        times: [1, 1],
    }
}

struct Subtasks {
    config: TemporalJoinConfig,
    joins: Vec<TemporalJoinOperator>,
    text: Vec<String>,
}

impl Subtasks {
    fn new(config: TemporalJoinConfig) -> Self {
        let join = TemporalJoinOperator::new(config.clone()).unwrap();
        Subtasks { config, joins: vec![join], text: Vec::new() }
    }

    fn process(&mut self, port: usize, of: &[Row]) {
        let (batch, n) = (rows(of), self.joins.len());
        let mut hashes = Vec::new();
        hash_columns(&[batch.rows.column(0).clone()], of.len(), &mut hashes).unwrap();
        for (i, join) in self.joins.iter_mut().enumerate() {
            let own: Vec<usize> =
                (0..of.len()).filter(|r| subtask_of(KeyGroup::of_hash(hashes[*r]), n) == i).collect();
            let kinds = RowKinds::new(own.iter().map(|r| batch.kind(*r) as u8).collect());
            let own = UInt32Array::from_iter_values(own.into_iter().map(|r| r as u32));
            let part = ChangeBatch::with_kinds(take_record_batch(&batch.rows, &own).unwrap(), kinds);
            let mut out = Output::new();
            assert_eq!(join.process(port, part, &mut out).unwrap(), Progress::Done);
            assert!(out.is_empty(), "rows go out on the watermark");
        }
    }

    fn watermark(&mut self, watermark: i64) {
        for join in &mut self.joins {
            let mut out = Output::new();
            let mut progress = join.on_watermark(Timestamp(watermark), &mut out).unwrap();
            loop {
                self.text.extend(out.drain().flat_map(|batch| format_batch(&batch)));
                if progress == Progress::Done {
                    break;
                }
                progress = join.resume(&mut out).unwrap();
            }
        }
    }

    fn restart(&mut self, parallelism: usize) {
        let mut all = OperatorSnapshot::new();
        let watermark = self.joins[0].watermark;
        for join in &mut self.joins {
            let mut writer = SnapshotWriter::new();
            join.snapshot(&mut writer).unwrap();
            for (table, parts) in writer.finish() {
                all.entry(table).or_default().extend(parts);
            }
        }
        self.joins = (0..parallelism)
            .map(|i| {
                let mut join = TemporalJoinOperator::new(self.config.clone()).unwrap();
                let reader = SnapshotReader::new(all.clone(), KeyGroupRange::of_subtask(i, parallelism));
                join.restore(&reader).unwrap();
                reader.finish().unwrap();
                join
            })
            .collect();
        self.watermark(watermark);
    }

    fn entries(&self) -> u64 {
        self.joins.iter().map(|j| j.metrics().state_entries).sum()
    }
}

fn expected(config: &TemporalJoinConfig, left: &[Row], right: &[Row]) -> Vec<String> {
    let mut all = Vec::new();
    for (kind, k, t, v) in left {
        let Some(t) = t else { continue };
        // Of several at one time the last one to come.
        let version = right
            .iter()
            .filter(|r| {
                r.0 != RowKind::UpdateBefore && k.is_some() && r.1 == *k && r.2.is_some_and(|r| r <= *t)
            })
            .max_by_key(|r| r.2)
            .filter(|r| r.0 != RowKind::Delete)
            .filter(|r| config.join.filter.is_none() || *v < r.3);
        let sign = if kind.is_retraction() { "-D" } else { "+I" };
        match version {
            Some(r) => all.push(format!("{sign} {v} {}", r.3)),
            None if config.join.kind == JoinKind::Left => all.push(format!("{sign} {v} null")),
            None => {}
        }
    }
    materialize(&all.join("\n"))
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: i64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % sides as u64) as i64
    }
}

fn check(seed: u64) {
    let mut dice = Dice(seed);
    let kind = if dice.roll(2) == 0 { JoinKind::Inner } else { JoinKind::Left };
    let config = config(kind, dice.roll(2) == 0);
    let keys = 1 + dice.roll(4);
    let mut joins = Subtasks::new(config.clone());
    let mut sides: [Vec<Row>; 2] = [Vec::new(), Vec::new()];
    const DISORDER: i64 = 20;
    let mut now = 0;
    for _ in 0..60 {
        let port = dice.roll(2) as usize;
        let batch: Vec<Row> = (0..dice.roll(12))
            .map(|_| {
                now += dice.roll(4);
                let time = (dice.roll(15) > 0).then_some(now + dice.roll(2 * DISORDER) - DISORDER);
                let key = (dice.roll(12) > 0).then(|| dice.roll(keys));
                let kind = match (port, dice.roll(8)) {
                    (1, 0) => RowKind::Delete,
                    (1, 1) => RowKind::UpdateBefore,
                    (1, 2) => RowKind::UpdateAfter,
                    _ => RowKind::Insert,
                };
                (kind, key, time, dice.roll(10))
            })
            .collect();
        sides[port].extend(&batch);
        joins.process(port, &batch);
        if dice.roll(3) == 0 {
            joins.watermark(now - DISORDER - 1);
        }
        if dice.roll(8) == 0 {
            joins.restart(1 + dice.roll(3) as usize);
        }
    }
    joins.watermark(i64::MAX);
    assert_eq!(
        materialize(&joins.text.join("\n")),
        expected(&config, &sides[0], &sides[1]),
        "seed {seed}: {kind:?}"
    );
    assert!(joins.entries() <= keys as u64, "seed {seed}: one version of each key is enough");
}

#[test]
fn it_gives_each_row_the_version_of_its_time() {
    for seed in 0..600 {
        check(seed);
    }
}

const I: RowKind = RowKind::Insert;

#[test]
fn versions_that_are_over_go() {
    let mut joins = Subtasks::new(config(JoinKind::Left, false));
    joins.process(1, &[(I, Some(1), Some(10), 1), (I, Some(1), Some(20), 2), (I, Some(1), Some(30), 3)]);
    joins.watermark(9);
    assert_eq!(joins.entries(), 3);
    joins.watermark(25);
    assert_eq!(joins.entries(), 2, "that of 20 is valid, that of 30 is to come");
    joins.process(0, &[(I, Some(1), Some(26), 7), (I, Some(1), Some(30), 8), (I, Some(1), Some(24), 9)]);
    joins.watermark(30);
    assert_eq!(joins.text, ["+I 7 2", "+I 8 3"], "a late row is dropped");
    assert_eq!(joins.joins[0].metrics().late_rows_dropped, 1);
    joins.process(1, &[(RowKind::Delete, Some(1), Some(40), 3)]);
    joins.process(0, &[(I, Some(1), Some(39), 1), (I, Some(1), Some(41), 2)]);
    joins.watermark(50);
    assert_eq!(joins.text[2..], ["+I 1 3", "+I 2 null"]);
    assert_eq!(joins.entries(), 1, "the end of the last version");
    // A version from before that end comes late, and is none any more.
    joins.process(1, &[(I, Some(1), Some(35), 9)]);
    joins.process(0, &[(I, Some(1), Some(60), 5)]);
    joins.watermark(70);
    assert_eq!(joins.text[4..], ["+I 5 null"]);
    assert_eq!(joins.entries(), 1);
}

#[test]
fn rows_that_are_taken_back_take_their_version_along() {
    let mut joins = Subtasks::new(config(JoinKind::Inner, false));
    joins.process(1, &[(I, Some(1), Some(10), 1), (I, Some(1), Some(20), 2)]);
    joins.process(0, &[(I, Some(1), Some(12), 7)]);
    joins.process(
        0,
        &[(RowKind::UpdateBefore, Some(1), Some(12), 7), (RowKind::UpdateAfter, Some(1), Some(22), 8)],
    );
    joins.watermark(100);
    assert_eq!(joins.text, ["+I 7 1", "-D 7 1", "+I 8 2"]);
}
