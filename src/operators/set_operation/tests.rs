use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::*;
use crate::operators::harness::{OperatorHarness, check, materialize};
use crate::stream::snapshot::SnapshotReader;

/// Sends each row to the side that its first column names, so that the harness's one input feeds both.
struct Sides(SetOperationOperator);

impl Operator for Sides {
    fn name(&self) -> &'static str {
        "Sides"
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, out: &mut Output) -> Result<Progress> {
        let side: Vec<usize> =
            batch.rows.column(0).as_string::<i32>().iter().map(|s| usize::from(s == Some("r"))).collect();
        let mut from = 0;
        while from < side.len() {
            let to = (from..side.len()).find(|i| side[*i] != side[from]).unwrap_or(side.len());
            let indices: UInt32Array = (from as u32..to as u32).collect();
            let all: RecordBatch = take_record_batch(&batch.rows, &indices)?;
            let columns: Vec<usize> = (1..all.num_columns()).collect();
            let rows = all.project(&columns)?;
            let kinds = RowKinds::new((from..to).map(|i| batch.kind(i) as u8).collect());
            let _ = self.0.process(side[from], ChangeBatch::with_kinds(rows, kinds), out)?;
            from = to;
        }
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        self.0.snapshot(writer)
    }

    fn restore(&mut self, reader: &SnapshotReader) -> Result<()> {
        self.0.restore(reader)
    }

    fn metrics(&self) -> OperatorMetrics {
        self.0.metrics()
    }
}

fn fields(types: &[DataType]) -> Vec<Field> {
    types.iter().enumerate().map(|(i, t)| Field::new(format!("c{i}"), t.clone(), true)).collect()
}

fn harness_of(kind: SetOperationKind, types: &[DataType], bundle_rows: Option<usize>) -> OperatorHarness {
    let schema: SchemaRef = Arc::new(Schema::new(fields(types)));
    let mut input = vec![Field::new("side", DataType::Utf8, false)];
    input.extend(fields(types));
    let keys: Vec<usize> = (1..=types.len()).collect();
    OperatorHarness::new(Arc::new(Schema::new(input)), &keys, move |_| {
        let config = SetOperationConfig { kind, schema: schema.clone(), bundle_rows };
        Ok(Box::new(Sides(SetOperationOperator::new(config)?)))
    })
}

fn harness(kind: SetOperationKind) -> OperatorHarness {
    harness_of(kind, &[DataType::Int32, DataType::Utf8], None)
}

#[test]
fn intersect_shows_a_row_once_both_sides_have_it() {
    let script = "
        +I l 1 a
        +I l 1 a
        +I l 2 b

        +I r 1 a
        +I r 3 c
        +I r 1 a

        -D r 1 a

        -D r 1 a
        +I r 2 b

        -D l 2 b
        .";
    check(
        &mut harness(SetOperationKind::Intersect),
        script,
        "+I 1 a
        -D 1 a
        +I 2 b
        -D 2 b",
    );
}

#[test]
fn all_counts_copies() {
    let script = "
        +I l 1 a
        +I l 1 a
        +I l 1 a

        +I r 1 a

        +I r 1 a

        -D l 1 a

        -D l 1 a
        .";
    check(
        &mut harness(SetOperationKind::IntersectAll),
        script,
        "+I 1 a
        +I 1 a
        -D 1 a",
    );
    check(
        &mut harness(SetOperationKind::ExceptAll),
        script,
        "+I 1 a
        +I 1 a
        +I 1 a
        -D 1 a
        -D 1 a
        -D 1 a",
    );
}

#[test]
fn except_takes_away_what_the_right_has() {
    check(
        &mut harness(SetOperationKind::Except),
        "+I r 1 a
        +I l 1 a
        +I l 2 b
        +I l 2 b

        +I r 2 b

        -U r 1 a
        +U r 3 c

        -D l 1 a
        .",
        "+I 2 b
        -D 2 b
        +I 1 a
        -D 1 a",
    );
}

#[test]
fn nulls_are_equal() {
    check(
        &mut harness(SetOperationKind::Intersect),
        "+I l null null
        +I l 1 null
        +I r null null
        +I r 1 x
        .",
        "+I null null",
    );
    let mut one = harness_of(SetOperationKind::ExceptAll, &[DataType::Int32], None);
    check(&mut one, "+I l null\n+I l null\n+I r null\n.", "+I null\n+I null\n-D null");
}

#[test]
fn a_batch_is_folded_unless_bundles_are_one_row() {
    let script = "
        +I r 1 a

        +I l 1 a
        -D l 1 a
        +I l 1 a
        +I l 2 b
        .";
    check(&mut harness(SetOperationKind::Intersect), script, "+I 1 a");
    let types = [DataType::Int32, DataType::Utf8];
    check(&mut harness_of(SetOperationKind::Intersect, &types, Some(1)), script, "+I 1 a\n-D 1 a\n+I 1 a");
}

#[test]
fn a_row_never_seen_cannot_be_taken_away() {
    let mut h = harness(SetOperationKind::Except);
    check(&mut h, "-D l 1 a\n-D r 1 a\n+I l 1 a\n.", "+I 1 a");
    assert_eq!(h.metrics().state_entries, 1);
    let mut h = harness(SetOperationKind::Except);
    check(&mut h, "-D l 1 a\n-D r 2 a\n.", "");
    assert_eq!(h.metrics().state_entries, 0);
}

#[test]
fn state_is_gone_with_its_rows() {
    let mut h = harness(SetOperationKind::IntersectAll);
    h.run("+I l 1 a\n+I r 1 a\n+I r 2 b\n\n-D l 1 a\n-D r 1 a\n\n-D r 2 b");
    assert_eq!(h.metrics().state_entries, 0);
    assert!(h.metrics().state_bytes > 0);
    // A slot that is used again starts from nothing.
    check(&mut h, "+I l 7 z\n+I r 7 z\n.", "+I 7 z");
}

#[test]
fn equal_floats_cancel_out_to_the_bit() {
    let mut h = harness_of(SetOperationKind::Except, &[DataType::Float64], None);
    let out = h.run("+I l -0.0\n+I l NaN\n\n+I r 0.0\n\n-D l 0.0\n-D r -0.0\n.");
    assert_eq!(materialize(&out), ["NaN"], "{out}");
}

#[test]
fn state_survives_at_any_parallelism() {
    let parts = [
        "+I l 1 a\n+I l 1 a\n+I l null b\n+I l 3 c\n+I r 3 c\n+I r 4 null\n",
        "-D l 1 a\n+I r null b\n+I l 4 null\n-D r 3 c\n",
        "+I r 1 a\n+I l 9 i\n-D l null b\n-D r 4 null\n+I r 9 i\n",
        ".",
    ];
    let kinds = [
        SetOperationKind::Intersect,
        SetOperationKind::IntersectAll,
        SetOperationKind::Except,
        SetOperationKind::ExceptAll,
    ];
    for kind in kinds {
        let plain = harness(kind).run(&parts.join("\n"));
        let expected = materialize(&plain);
        for (a, b) in [(1, 1), (4, 2), (2, 7)] {
            let script =
                format!("{}\n| 1 x{a}\n{}\n| 2 x{b}\n{}\n{}", parts[0], parts[1], parts[2], parts[3]);
            let out = harness(kind).run(&script);
            assert_eq!(materialize(&out), expected, "{kind:?} {a} {b}\n{out}");
        }
    }
}

/// Against counting, over random changes.
#[test]
fn agrees_with_a_model() {
    let kinds = [
        SetOperationKind::Intersect,
        SetOperationKind::IntersectAll,
        SetOperationKind::Except,
        SetOperationKind::ExceptAll,
    ];
    for seed in 0..40_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = |n: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % n
        };
        let mut script = String::new();
        let mut counts = [[0_i64; 6]; 2];
        for _ in 0..120 {
            let (side, value) = (random(2) as usize, random(6) as usize);
            let name = ["l", "r"][side];
            let shown = if value == 0 { "null".to_owned() } else { value.to_string() };
            if counts[side][value] > 0 && random(2) == 0 {
                counts[side][value] -= 1;
                script.push_str(&format!("-D {name} {shown} x\n"));
            } else {
                counts[side][value] += 1;
                script.push_str(&format!("+I {name} {shown} x\n"));
            }
            match random(9) {
                0 => script.push('\n'),
                1 => script.push_str("| 1 x2\n"),
                _ => {}
            }
        }
        script.push('.');
        for kind in kinds {
            let mut expected = Vec::new();
            for (value, (left, right)) in counts[0].iter().zip(counts[1]).enumerate() {
                let shown = if value == 0 { "null".to_owned() } else { value.to_string() };
                for _ in 0..kind.copies([*left, right]) {
                    expected.push(format!("{shown} x"));
                }
            }
            expected.sort();
            let bundle = if seed % 2 == 0 { None } else { Some(1) };
            let types = [DataType::Int32, DataType::Utf8];
            let out = harness_of(kind, &types, bundle).run(&script);
            assert_eq!(materialize(&out), expected, "seed {seed} {kind:?}\n{script}\n{out}");
        }
    }
}
