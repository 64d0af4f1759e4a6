//! Interval joins against a join of lists: rows out of order, restored at other parallelisms, in tiny batches; `pruning` has
//! them step by step, with late rows.

mod pruning;

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, TimestampMillisecondArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Field, Schema, SchemaRef, TimeUnit};
use datafusion::logical_expr::Operator as BinaryOperator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column};

use super::*;
use crate::operators::harness::format_batch;
use crate::operators::join::{JoinFilter, JoinInput, UniqueKey};
use crate::state::hash_columns;
use crate::stream::key_group::{KeyGroup, KeyGroupRange, subtask_of};
use crate::stream::snapshot::OperatorSnapshot;

/// `k, t, v`.
type Row = (Option<i64>, Option<i64>, i64);

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("t", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("v", DataType::Int64, false),
    ]))
}

fn rows(of: &[Row]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter(of.iter().map(|r| r.0))),
        Arc::new(TimestampMillisecondArray::from_iter(of.iter().map(|r| r.1))),
        Arc::new(Int64Array::from_iter_values(of.iter().map(|r| r.2))),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// Gives `t, v` of both sides, or of the left one; `filtered`: `l.v < r.v`.
fn config(kind: JoinKind, bounds: (i64, i64), filtered: bool) -> IntervalJoinConfig {
    let input = || JoinInput {
        schema: schema(),
        keys: vec![0],
        unique: UniqueKey::None,
        retracts: false,
        ttl_ms: None,
    };
    let sides: &[JoinSide] =
        if kind.is_left_only() { &[JoinSide::Left] } else { &[JoinSide::Left, JoinSide::Right] };
    let output: Vec<JoinColumn> =
        sides.iter().flat_map(|s| [1, 2].map(|c| JoinColumn::Input(*s, c))).collect();
    let fields: Vec<Field> = output
        .iter()
        .map(|c| match c {
            JoinColumn::Input(_, c) => schema().field(*c).clone().with_nullable(true),
            JoinColumn::Mark => unreachable!(),
        })
        .collect();
    let numbers = Field::new("v", DataType::Int64, true);
    let filter = JoinFilter {
        condition: Arc::new(BinaryExpr::new(
            Arc::new(Column::new("v", 0)),
            BinaryOperator::Lt,
            Arc::new(Column::new("v", 1)),
        )),
        columns: vec![(JoinSide::Left, 2), (JoinSide::Right, 2)],
        schema: Arc::new(Schema::new(vec![numbers.clone(), numbers])),
    };
    IntervalJoinConfig {
        join: JoinConfig {
            kind,
            left: input(),
            right: input(),
            null_safe: vec![false],
            filter: filtered.then_some(filter),
            output,
            output_schema: Arc::new(Schema::new(fields)),
            emit_update_before: true,
        },
        times: [1, 1],
        bounds,
        window: None,
    }
}

struct Subtasks {
    config: IntervalJoinConfig,
    joins: Vec<IntervalJoinOperator>,
    text: Vec<String>,
    /// No row that comes in is late.
    in_time: bool,
}

impl Subtasks {
    fn new(config: IntervalJoinConfig) -> Self {
        let join = IntervalJoinOperator::new(config.clone()).unwrap();
        Subtasks { config, joins: vec![join], text: Vec::new(), in_time: true }
    }

    fn drive(&mut self, i: usize, call: impl FnOnce(&mut IntervalJoinOperator, &mut Output) -> Progress) {
        let join = &mut self.joins[i];
        let before = join.output_watermark().map_or(i64::MIN, |w| w.0);
        let mut out = Output::new();
        let mut progress = call(join, &mut out);
        loop {
            for batch in out.drain() {
                // No row is late to those behind.
                let columns = [0, 2].into_iter().filter(|c| self.in_time && *c < batch.rows.num_columns());
                for column in columns {
                    let mut times = Vec::new();
                    to_millis(batch.rows.column(column), &mut times).unwrap();
                    let column = batch.rows.column(column);
                    let late = (0..times.len()).find(|i| column.is_valid(*i) && times[*i] <= before);
                    assert_eq!(late.map(|i| times[i]), None, "behind the watermark {before}");
                }
                self.text.extend(format_batch(&batch));
            }
            if progress == Progress::Done {
                return;
            }
            progress = join.resume(&mut out).unwrap();
        }
    }

    fn process(&mut self, port: usize, of: &[Row]) {
        let (batch, n) = (rows(of), self.joins.len());
        let mut hashes = Vec::new();
        hash_columns(&[batch.column(0).clone()], of.len(), &mut hashes).unwrap();
        for i in 0..n {
            let own = (0..of.len()).filter(|r| subtask_of(KeyGroup::of_hash(hashes[*r]), n) == i);
            let own = UInt32Array::from_iter_values(own.map(|r| r as u32));
            let part = take_record_batch(&batch, &own).unwrap();
            self.drive(i, |join, out| join.process(port, ChangeBatch::insert_only(part), out).unwrap());
        }
    }

    fn watermark(&mut self, watermark: i64) {
        for i in 0..self.joins.len() {
            self.drive(i, |join, out| join.on_watermark(Timestamp(watermark), out).unwrap());
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
                let mut join = IntervalJoinOperator::new(self.config.clone()).unwrap();
                let reader = SnapshotReader::new(all.clone(), KeyGroupRange::of_subtask(i, parallelism));
                join.restore(&reader).unwrap();
                reader.finish().unwrap();
                join
            })
            .collect();
        // Sources tell it again before any row.
        self.watermark(watermark);
    }
}

fn show(row: Option<&Row>) -> String {
    match row {
        None => "null null".to_owned(),
        Some(row) => format_batch(&ChangeBatch::insert_only(rows(&[*row]).project(&[1, 2]).unwrap()))
            .remove(0)
            .replacen("+I ", "", 1),
    }
}

fn expected(config: &IntervalJoinConfig, left: &[Row], right: &[Row]) -> Vec<String> {
    let (least, greatest) = config.bounds;
    let matches = |l: &Row, r: &Row| {
        let in_time = l.1.zip(r.1).is_some_and(|(l, r)| (least..=greatest).contains(&(l - r)));
        l.0.is_some() && l.0 == r.0 && in_time && (config.join.filter.is_none() || l.2 < r.2)
    };
    let kind = config.join.kind;
    let mut all = Vec::new();
    for l in left {
        let found: Vec<&Row> = right.iter().filter(|r| matches(l, r)).collect();
        match kind {
            JoinKind::LeftSemi => all.extend((!found.is_empty()).then(|| show(Some(l)))),
            JoinKind::LeftAnti => all.extend(found.is_empty().then(|| show(Some(l)))),
            _ => {
                all.extend(found.iter().map(|r| format!("{} {}", show(Some(l)), show(Some(r)))));
                if found.is_empty() && kind.pads(JoinSide::Left) {
                    all.push(format!("{} {}", show(Some(l)), show(None)));
                }
            }
        }
    }
    if kind.pads(JoinSide::Right) {
        let alone = right.iter().filter(|r| !left.iter().any(|l| matches(l, r)));
        all.extend(alone.map(|r| format!("{} {}", show(None), show(Some(r)))));
    }
    all.sort();
    all
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: i64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % sides as u64) as i64
    }
}

const KINDS: [JoinKind; 6] = [
    JoinKind::Inner,
    JoinKind::Left,
    JoinKind::Right,
    JoinKind::Full,
    JoinKind::LeftSemi,
    JoinKind::LeftAnti,
];

fn check(seed: u64) {
    let mut dice = Dice(seed);
    let kind = KINDS[dice.roll(6) as usize];
    let least = dice.roll(60) - 30;
    let bounds = (least, least + dice.roll(if seed.is_multiple_of(5) { 5_000 } else { 40 }));
    let config = config(kind, bounds, dice.roll(2) == 0);
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
                ((dice.roll(12) > 0).then(|| dice.roll(keys)), time, dice.roll(10))
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
    let left: u64 = joins.joins.iter().map(|j| j.metrics().state_entries).sum();
    assert_eq!(left, 0, "seed {seed}: rows are left behind the last watermark");
    assert!(joins.joins.iter().all(|j| j.directory.is_empty()), "seed {seed}: keys are left");
    let mut got: Vec<String> = joins.text.iter().map(|line| line.replacen("+I ", "", 1)).collect();
    got.sort();
    assert_eq!(got, expected(&config, &sides[0], &sides[1]), "seed {seed}: {kind:?} {bounds:?}");
}

#[test]
fn it_gives_the_rows_of_a_join_of_lists() {
    for seed in 0..600 {
        check(seed);
    }
}

#[test]
fn rows_go_with_the_watermark_and_not_before() {
    // A left row meets right ones up to 5 ms after it and 10 ms before.
    let mut joins = Subtasks::new(config(JoinKind::Left, (-5, 10), false));
    joins.process(0, &[(Some(1), Some(100), 0)]);
    joins.watermark(104);
    assert_eq!(joins.joins[0].metrics().state_entries, 1);
    assert_eq!(joins.joins[0].output_watermark(), Some(Timestamp(94)));
    joins.process(1, &[(Some(1), Some(105), 7), (Some(1), Some(106), 8), (Some(1), Some(89), 9)]);
    assert_eq!(joins.text.len(), 1);
    // The one at 89 could meet left rows until 99.
    assert_eq!(joins.joins[0].metrics().state_entries, 3);
    joins.process(0, &[(Some(2), Some(200), 0)]);
    joins.watermark(105);
    assert_eq!(joins.joins[0].metrics().state_entries, 3, "the left row is gone");
    joins.watermark(205);
    assert_eq!(joins.text.len(), 2, "the other one comes out without a match");
    assert_eq!(joins.joins[0].metrics().state_entries, 0);
    // Late, and nothing can come for it.
    joins.in_time = false;
    joins.process(0, &[(Some(1), Some(100), 0)]);
    assert_eq!(joins.text.len(), 3);
    assert_eq!(joins.joins[0].metrics().state_entries, 0);
    joins.watermark(i64::MAX);
    assert_eq!(joins.joins[0].output_watermark(), None);
}

#[test]
fn a_batch_that_meets_a_lot_is_handed_out_in_parts() {
    let mut joins = Subtasks::new(config(JoinKind::Inner, (-10, 10), false));
    let many: Vec<Row> = (0..1_000).map(|v| (Some(1), Some(0), v)).collect();
    joins.process(0, &many);
    let mut out = Output::new();
    let join = &mut joins.joins[0];
    let mut progress = join.process(1, ChangeBatch::insert_only(rows(&many)), &mut out).unwrap();
    let (mut calls, mut pairs) = (1, 0);
    loop {
        for batch in out.drain() {
            assert!(batch.num_rows() <= BATCH_ROWS);
            pairs += batch.num_rows();
        }
        if progress == Progress::Done {
            break;
        }
        calls += 1;
        progress = join.resume(&mut out).unwrap();
    }
    assert_eq!(pairs, 1_000_000);
    assert!(calls > 20, "{calls}");
}

#[test]
fn a_window_join_drops_what_is_late_for_its_window() {
    // The times are ends of windows, whose own times are a millisecond earlier.
    let config = IntervalJoinConfig { window: Some(1), ..config(JoinKind::Full, (0, 0), false) };
    let mut joins = Subtasks::new(config);
    joins.in_time = false;
    joins.process(0, &[(Some(1), Some(100), 1), (Some(1), Some(200), 2)]);
    joins.process(1, &[(Some(1), Some(100), 3)]);
    assert_eq!(joins.text.len(), 1);
    joins.watermark(98);
    assert_eq!(joins.joins[0].metrics().state_entries, 3);
    joins.watermark(99);
    assert_eq!(joins.joins[0].metrics().state_entries, 1, "the window until 100 has passed");
    joins.process(1, &[(Some(1), Some(100), 4), (Some(2), Some(100), 5)]);
    assert_eq!(joins.joins[0].metrics().late_rows_dropped, 2);
    assert_eq!(joins.joins[0].output_watermark(), None);
    joins.watermark(i64::MAX);
    assert_eq!(joins.text.len(), 2, "and the left row of the second window without a match");
}
