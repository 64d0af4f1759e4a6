//! A join in one or several subtasks, driven by the harness' language with a side in front of each row:
//!
//! ```text
//!  L +I 1 a     R -D 1 x     | 1 x4     @ 12:00:05
//! ```

mod increments;
mod model;
mod rows;
mod wide;

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::logical_expr::Operator as BinaryOperator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column};

use super::*;
use crate::checkpoint::increments::merge;
use crate::operators::harness::{dedent, format_batch, materialize, parse_batch, parse_time};
use crate::state::hash_columns;
use crate::stream::RowKinds;
use crate::stream::key_group::{KeyGroup, KeyGroupRange, subtask_of};
use crate::stream::snapshot::{OperatorSnapshot, SnapshotMode};

/// `k, a` on the left, `k, b` on the right.
fn schema(value: &str) -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new(value, DataType::Int64, true),
    ]))
}

fn config(kind: JoinKind) -> JoinConfig {
    let (left, right) = (schema("a"), schema("b"));
    let mut output: Vec<JoinColumn> = (0..2).map(|c| JoinColumn::Input(JoinSide::Left, c)).collect();
    let mut fields: Vec<Field> = left.fields().iter().map(|f| f.as_ref().clone()).collect();
    if kind == JoinKind::LeftMark {
        output.push(JoinColumn::Mark);
        fields.push(Field::new("mark", DataType::Boolean, false));
    } else if !kind.is_left_only() {
        output.extend((0..2).map(|c| JoinColumn::Input(JoinSide::Right, c)));
        fields.extend(right.fields().iter().map(|f| f.as_ref().clone()));
    }
    let input = |schema: SchemaRef| JoinInput {
        schema,
        keys: vec![0],
        unique: UniqueKey::None,
        retracts: true,
        ttl_ms: None,
    };
    JoinConfig {
        kind,
        left: input(left),
        right: input(right),
        null_safe: vec![false],
        filter: None,
        output,
        output_schema: Arc::new(Schema::new(fields)),
        emit_update_before: true,
    }
}

/// `a < b`.
fn with_filter(mut config: JoinConfig) -> JoinConfig {
    let schema = Arc::new(Schema::new(vec![
        Field::new("a", DataType::Int64, true),
        Field::new("b", DataType::Int64, true),
    ]));
    config.filter = Some(JoinFilter {
        condition: Arc::new(BinaryExpr::new(
            Arc::new(Column::new("a", 0)),
            BinaryOperator::Lt,
            Arc::new(Column::new("b", 1)),
        )),
        columns: vec![(JoinSide::Left, 1), (JoinSide::Right, 1)],
        schema,
    });
    config
}

fn without_keys(mut config: JoinConfig) -> JoinConfig {
    config.left.keys.clear();
    config.right.keys.clear();
    config.null_safe.clear();
    config
}

struct Joins {
    config: JoinConfig,
    subtasks: Vec<JoinOperator>,
    /// What checkpoints have written: all of it and, since then, what has changed.
    layers: Vec<OperatorSnapshot>,
}

impl Joins {
    fn new(config: JoinConfig) -> Self {
        let mut joins = Joins { config, subtasks: Vec::new(), layers: Vec::new() };
        joins.start(1);
        joins
    }

    fn start(&mut self, parallelism: usize) {
        let snapshot = merge(std::mem::take(&mut self.layers)).unwrap();
        self.subtasks = (0..parallelism)
            .map(|i| {
                let mut join = JoinOperator::new(self.config.clone()).unwrap();
                let range = KeyGroupRange::of_subtask(i, parallelism);
                let reader = SnapshotReader::new(snapshot.clone(), range);
                join.restore(&reader).unwrap();
                reader.finish().unwrap();
                join
            })
            .collect();
    }

    fn run(&mut self, script: &str) -> String {
        let mut text = Vec::new();
        let mut rows: Vec<&str> = Vec::new();
        let mut port = 0;
        for line in script.lines().map(str::trim).chain([""]) {
            let (command, rest) = line.split_at(line.len().min(1));
            let side = ["L", "R"].iter().position(|s| *s == command);
            if side != Some(port) && !rows.is_empty() {
                self.process(port, &rows, &mut text);
                rows.clear();
            }
            match (command, side) {
                (_, Some(side)) => {
                    port = side;
                    rows.push(rest.trim());
                }
                ("@", _) => {
                    for join in &mut self.subtasks {
                        let mut out = Output::new();
                        assert_eq!(
                            join.on_timer(Timestamp(parse_time(rest.trim())), &mut out).unwrap(),
                            Progress::Done
                        );
                        assert!(out.is_empty());
                    }
                }
                ("|", _) => {
                    let mut all = OperatorSnapshot::new();
                    let is_first = self.layers.is_empty();
                    let mode = if is_first { SnapshotMode::First } else { SnapshotMode::Changes };
                    for join in &mut self.subtasks {
                        let mut writer = SnapshotWriter::of(mode);
                        join.snapshot(&mut writer).unwrap();
                        for (table, parts) in writer.finish() {
                            all.entry(table).or_default().extend(parts);
                        }
                    }
                    self.layers.push(all);
                    if let Some((_, parallelism)) = rest.split_once('x') {
                        self.start(parallelism.parse().unwrap());
                    }
                }
                _ => assert_eq!(line, ""),
            }
        }
        text.join("\n")
    }

    fn process(&mut self, port: usize, lines: &[&str], text: &mut Vec<String>) {
        let side = if port == 0 { JoinSide::Left } else { JoinSide::Right };
        let input = self.config.input(side).clone();
        let batch = parse_batch(&input.schema, lines);
        let n = self.subtasks.len();
        let keys: Vec<ArrayRef> = input.keys.iter().map(|k| batch.rows.column(*k).clone()).collect();
        let mut hashes = Vec::new();
        hash_columns(&keys, batch.num_rows(), &mut hashes).unwrap();
        for (i, join) in self.subtasks.iter_mut().enumerate() {
            let rows: Vec<u32> = (0..batch.num_rows())
                .filter(|r| subtask_of(KeyGroup::of_hash(hashes[*r]), n) == i)
                .map(|r| r as u32)
                .collect();
            if rows.is_empty() {
                continue;
            }
            let mut codes: Vec<u8> = rows.iter().map(|r| batch.kind(*r as usize) as u8).collect();
            if rows.len() < batch.num_rows() {
                ChangeBatch::heal_pairs(&mut codes);
            }
            let part = take_record_batch(&batch.rows, &UInt32Array::from(rows)).unwrap();
            let part = ChangeBatch::with_kinds(part, RowKinds::new(codes));
            run_batch(join, port, part, text);
        }
    }

    fn bytes(&self) -> u64 {
        self.subtasks.iter().map(|s| s.metrics().state_bytes).sum()
    }

    fn entries(&self) -> u64 {
        self.subtasks.iter().map(|s| s.metrics().state_entries).sum()
    }

    fn check(&mut self, script: &str, expected: &str) {
        let got = self.run(script);
        assert_eq!(got, dedent(expected), "\n--- got:\n{got}\n---");
    }
}

fn run_batch(join: &mut JoinOperator, port: usize, batch: ChangeBatch, text: &mut Vec<String>) -> usize {
    let mut out = Output::new();
    let mut calls = 1;
    let mut progress = join.process(port, batch, &mut out).unwrap();
    loop {
        for batch in out.drain() {
            assert!(batch.num_rows() <= crate::stream::BATCH_ROWS + 4096);
            if join.config.emit_update_before
                && let Some(kinds) = &batch.kinds
            {
                let mut healed = kinds.codes().to_vec();
                ChangeBatch::heal_pairs(&mut healed);
                assert_eq!(healed, kinds.codes(), "halves of an update stand alone");
            }
            text.extend(format_batch(&batch));
        }
        if progress == Progress::Done {
            return calls;
        }
        calls += 1;
        progress = join.resume(&mut out).unwrap();
    }
}

#[test]
fn inner() {
    Joins::new(config(JoinKind::Inner)).check(
        "L +I 1 10
         L +I 2 20
         R +I 1 100
         R +I 1 101
         R +I null 1
         L +I null 1
         L +I 1 11
         R -D 1 100
         L -U 1 10
         L +U 1 12
         L -U 1 12
         L +U 2 12",
        "+I 1 10 1 100
         +I 1 10 1 101
         +I 1 11 1 101
         +I 1 11 1 100
         -D 1 11 1 100
         -D 1 10 1 100
         -U 1 10 1 101
         +U 1 12 1 101
         -D 1 12 1 101",
    );
}

#[test]
fn left_outer() {
    Joins::new(config(JoinKind::Left)).check(
        "L +I 1 10
         L +I null 1
         R +I 1 100
         R +I 1 101
         R -D 1 100
         R -D 1 101
         L -D null 1
         L -D 1 10
         R +I 1 5",
        "+I 1 10 null null
         +I null 1 null null
         -D 1 10 null null
         +I 1 10 1 100
         +I 1 10 1 101
         -D 1 10 1 100
         -D 1 10 1 101
         +I 1 10 null null
         -D null 1 null null
         -D 1 10 null null",
    );
}

#[test]
fn an_update_of_the_inner_side_does_not_bring_padding_back() {
    for config in [config(JoinKind::Left), with_filter(config(JoinKind::Left))] {
        Joins::new(config).check(
            "L +I 1 10
             R +I 1 100
             R -U 1 100
             R +U 1 101",
            "+I 1 10 null null
             -D 1 10 null null
             +I 1 10 1 100
             -D 1 10 1 100
             +I 1 10 1 101",
        );
    }
}

#[test]
fn semi_and_anti() {
    let script = "L +I 1 10
         R +I 1 100
         R +I 1 100
         L +I 1 11
         L +I null 1
         R -D 1 100
         R -D 1 100
         L -U 1 11
         L +U 1 12";
    Joins::new(config(JoinKind::LeftSemi)).check(
        script,
        "+I 1 10
         +I 1 11
         -D 1 11
         -D 1 10",
    );
    Joins::new(config(JoinKind::LeftAnti)).check(
        script,
        "+I 1 10
         -D 1 10
         +I null 1
         +I 1 11
         +I 1 10
         -U 1 11
         +U 1 12",
    );
    Joins::new(config(JoinKind::LeftMark)).check(
        script,
        "+I 1 10 false
         -U 1 10 false
         +U 1 10 true
         +I 1 11 true
         +I null 1 false
         -U 1 11 true
         +U 1 11 false
         -U 1 10 true
         +U 1 10 false
         -U 1 11 false
         +U 1 12 false",
    );
}

#[test]
fn not_in() {
    Joins::new(config(JoinKind::NullAwareLeftAnti)).check(
        "L +I 1 10
         L +I null 20
         L +I 2 30
         R +I 1 0
         R +I null 0
         | 1 x1
         L +I 3 40
         R -D null 0
         R -D 1 0
         R +I null 0
         R -D null 0",
        "+I 1 10
         +I null 20
         +I 2 30
         -D 1 10
         -D null 20
         -D 2 30
         +I 2 30
         +I 3 40
         +I 1 10
         +I null 20
         -D 1 10
         -D null 20
         -D 2 30
         -D 3 40
         +I 1 10
         +I null 20
         +I 2 30
         +I 3 40",
    );
}

#[test]
fn duplicates_are_counted() {
    let mut joins = Joins::new(config(JoinKind::Full));
    joins.check(
        "L +I 1 10
         L +I 1 10
         | 1 x2
         R +I 1 100
         L -D 1 10
         R -D 1 100
         L -D 1 10
         L -D 1 10",
        "+I 1 10 null null
         +I 1 10 null null
         -D 1 10 null null
         -D 1 10 null null
         +I 1 10 1 100
         +I 1 10 1 100
         -D 1 10 1 100
         -D 1 10 1 100
         +I 1 10 null null
         -D 1 10 null null",
    );
    assert_eq!(joins.entries(), 0);
}

#[test]
fn a_row_retracted_before_it_comes_is_ignored() {
    Joins::new(config(JoinKind::Left)).check(
        "R +I 1 100
         L -D 1 10
         L -D 2 10
         L -U 1 10
         L +U 1 10",
        "+I 1 10 1 100",
    );
}

#[test]
fn without_update_before_an_update_is_one_row() {
    let mut config = config(JoinKind::Inner);
    config.emit_update_before = false;
    config.left.unique = UniqueKey::Columns(vec![1]);
    config.right.unique = UniqueKey::JoinKey;
    Joins::new(config).check(
        "L +I 1 10
         R +I 1 100
         R -U 1 100
         R +U 1 101
         L -U 1 10
         L +U 2 10",
        "+I 1 10 1 100
         +U 1 10 1 101
         -D 1 10 1 101",
    );
}

#[test]
fn null_safe_keys_match_null() {
    let mut config = config(JoinKind::Left);
    config.null_safe = vec![true];
    Joins::new(config).check(
        "L +I null 10
         | 1 x4
         R +I null 100
         R -D null 100",
        "+I null 10 null null
         -D null 10 null null
         +I null 10 null 100
         -D null 10 null 100
         +I null 10 null null",
    );
}

#[test]
fn rows_expire() {
    let mut config = config(JoinKind::Left);
    config.right.ttl_ms = Some(10_000);
    let mut joins = Joins::new(config);
    joins.check(
        "@ 12:00:00
         L +I 1 10
         R +I 1 100
         @ 12:00:06
         R +I 1 101
         @ 12:00:11
         L +I 1 11
         | 1 x2
         @ 12:00:12
         L +I 1 12
         @ 12:00:20
         L +I 1 13
         R +I 1 102",
        "+I 1 10 null null
         -D 1 10 null null
         +I 1 10 1 100
         +I 1 10 1 101
         +I 1 11 1 101
         +I 1 12 1 101
         +I 1 13 null null
         -D 1 13 null null
         +I 1 13 1 102
         +I 1 12 1 102
         +I 1 11 1 102
         +I 1 10 1 102",
    );
    let timer = joins.subtasks.iter().filter_map(Operator::next_timer).min();
    assert!(timer.is_some_and(|t| t.0 > parse_time("12:00:20") && t.0 <= parse_time("12:00:21")));
}

/// A step of the clock is a twentieth of the time to live.
#[test]
fn a_row_lives_its_time_and_at_most_a_step_more() {
    let mut config = config(JoinKind::Left);
    config.right.ttl_ms = Some(10_000);
    let rows =
        |joins: &Joins| joins.subtasks.iter().map(|join| join.metrics().state_entries).collect::<Vec<_>>();
    for begun in [1, 499, 500, 501, 777, 1_400] {
        let mut joins = Joins::new(config.clone());
        joins.run(&format!("@ {begun}\nR +I 1 100\n@ {}", begun + 9_999));
        assert_eq!(rows(&joins), [1], "written at {begun}: too early");
        joins.run(&format!("@ {}", begun + 10_500));
        assert_eq!(rows(&joins), [0], "written at {begun}: too late");
    }
}
