//! Window top-N against sorted lists: rows out of order, restored at other parallelisms, windows that are pruned.

use std::collections::BTreeMap;

use arrow::compute::SortOptions;
use arrow::datatypes::{Field, Schema, SchemaRef, TimeUnit};

use super::*;
use crate::operators::harness::OperatorHarness;
use crate::operators::top_n::SortColumn;

/// End of the window, key, value.
fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("w", DataType::Timestamp(TimeUnit::Millisecond, None), false),
        Field::new("k", DataType::Int64, true),
        Field::new("v", DataType::Int64, true),
    ]))
}

fn config(start: u64, end: u64) -> WindowTopNConfig {
    let mut fields: Vec<Field> = schema().fields().iter().map(|f| f.as_ref().clone()).collect();
    fields.push(Field::new("n", DataType::Int64, false));
    let top = TopNConfig {
        input_schema: schema(),
        output_schema: Arc::new(Schema::new(fields)),
        output: (0..3).map(RankOutput::Column).chain([RankOutput::Rank]).collect(),
        partition: vec![0, 1],
        order: vec![SortColumn { column: 2, options: SortOptions { descending: true, nulls_first: false } }],
        latest_first: false,
        function: RankFunction::RowNumber,
        start,
        end: RankEnd::Constant(end),
        input_retracts: false,
        emit_update_before: true,
        bundle_rows: None,
        ttl_ms: None,
    };
    WindowTopNConfig { top, time: 0, behind: 1 }
}

fn harness(start: u64, end: u64) -> OperatorHarness {
    OperatorHarness::new(schema(), &[0, 1], move |_| {
        Ok(Box::new(WindowTopNOperator::new(config(start, end))?))
    })
}

#[test]
fn a_window_is_told_once_when_it_has_passed() {
    let script = |lines: &str| {
        let timed =
            |line: &str| line.replace("+I 1 ", "+I 00:00:01 ").replace("+I 2 ", "+I 00:00:02 ") + "\n";
        lines.split(", ").map(timed).collect::<String>()
    };
    let out = harness(1, 2).run(&script(
        "+I 1 1 5, +I 1 1 7, +I 2 1 9, +I 1 2 null, +I 1 1 6, , ~ 998, +I 1 1 8, , ~ 999, +I 1 1 99, , .",
    ));
    let rows: Vec<&str> = out.lines().filter(|l| l.starts_with('+')).collect();
    assert_eq!(
        rows,
        ["+I 00:00:01 1 8 1", "+I 00:00:01 1 7 2", "+I 00:00:01 2 null 1", "+I 00:00:02 1 9 1"],
        "{out}"
    );
    let out = harness(2, 3).run(&script("+I 1 1 5, +I 1 1 7, +I 1 1 6, +I 1 1 4, , ."));
    let rows: Vec<&str> = out.lines().filter(|l| l.starts_with('+')).collect();
    assert_eq!(rows, ["+I 00:00:01 1 6 2", "+I 00:00:01 1 5 3"]);
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[test]
fn it_gives_the_first_of_sorted_lists() {
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let end = 1 + dice.roll(4);
        let mut windows: BTreeMap<(u64, u64), Vec<u64>> = BTreeMap::new();
        let (mut script, mut watermark) = (String::new(), 0);
        for step in 0..40 {
            for _ in 0..dice.roll(30) {
                // No value twice within a partition, so that there is one answer.
                let (window, key) = (watermark + 1 + dice.roll(3), dice.roll(4));
                let values = windows.entry((window, key)).or_default();
                let value = dice.roll(1000);
                if !values.contains(&value) {
                    values.push(value);
                    script.push_str(&format!("+I 00:00:{window:02} {key} {value}\n"));
                }
            }
            script.push('\n');
            match dice.roll(4) {
                0 => {
                    watermark += 1;
                    script.push_str(&format!("~ {}\n", watermark * 1000 - 1));
                }
                1 => {
                    script.push_str(&format!("| {step} x{}\n~ {}\n", 1 + dice.roll(3), watermark as i64 - 1))
                }
                _ => {}
            }
        }
        script.push_str(".\n");
        let mut expected = Vec::new();
        for ((window, key), mut values) in windows {
            values.sort_unstable_by(|a, b| b.cmp(a));
            for (rank, value) in values.into_iter().take(end as usize).enumerate() {
                expected.push(format!("+I 00:00:{window:02} {key} {value} {}", rank + 1));
            }
        }
        expected.sort();
        let resting = (seed < 4).then(|| harness(1, end).resting());
        for mut harness in std::iter::once(harness(1, end)).chain(resting) {
            let out = harness.run(&script);
            let mut got: Vec<String> =
                out.lines().filter(|l| l.starts_with('+')).map(str::to_owned).collect();
            got.sort();
            assert_eq!(got, expected, "seed {seed}");
        }
    }
}

#[test]
fn a_window_holds_little_more_than_its_best() {
    let mut top = WindowTopNOperator::new(config(1, 3)).unwrap();
    let mut out = Output::new();
    for from in (0..400_000_i64).step_by(BATCH_ROWS) {
        let n = BATCH_ROWS;
        let ends = arrow::array::TimestampMillisecondArray::from(vec![100; n]);
        let keys = Int64Array::from_iter_values((0..n as i64).map(|i| i % 10));
        let values = Int64Array::from_iter_values(from..from + n as i64);
        let rows =
            RecordBatch::try_new(schema(), vec![Arc::new(ends), Arc::new(keys), Arc::new(values)]).unwrap();
        assert_eq!(top.process(0, ChangeBatch::insert_only(rows), &mut out).unwrap(), Progress::Done);
        assert!(top.metrics().state_entries <= (LEAST_ROWS + BATCH_ROWS) as u64);
    }
    assert_eq!(top.on_watermark(Timestamp(99), &mut out).unwrap(), Progress::Done);
    assert_eq!(out.take().iter().map(ChangeBatch::num_rows).sum::<usize>(), 30);
    assert_eq!(top.metrics().state_entries, 0);
    assert!(top.directory.is_empty());
}
