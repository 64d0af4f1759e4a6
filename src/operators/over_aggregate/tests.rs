use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::functions_aggregate as f;
use datafusion::logical_expr::AggregateUDF;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::col;

use super::*;
use crate::operators::group_aggregate::AggregateCall;
use crate::operators::harness::{OperatorHarness, check, materialize};

fn input() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Utf8, true),
        Field::new("v", DataType::Int64, true),
        Field::new("t", DataType::Timestamp(TimeUnit::Millisecond, None), true),
    ]))
}

fn call(udaf: Arc<AggregateUDF>, distinct: bool) -> AggregateCall {
    let builder = AggregateExprBuilder::new(udaf, vec![col("v", &input()).unwrap()]);
    let builder = builder.schema(input()).alias("x");
    let expr = if distinct { builder.distinct().build() } else { builder.build() };
    AggregateCall::new(Arc::new(expr.unwrap()), None)
}

fn config(frames: Vec<OverFrame>, lags: Vec<LagCall>, ranks: &[OverOutput]) -> OverAggregateConfig {
    let mut fields: Vec<Arc<Field>> = input().fields().iter().cloned().collect();
    let mut output = Vec::new();
    for (frame, f) in frames.iter().enumerate() {
        for (call, c) in f.calls.iter().enumerate() {
            output.push(OverOutput::Aggregate { frame, call });
            fields.push(Arc::new(Field::new(format!("f{frame}_{call}"), c.return_type().clone(), true)));
        }
    }
    for (i, lag) in lags.iter().enumerate() {
        output.push(OverOutput::Lag(i));
        fields.push(Arc::new(input().field(lag.column).clone().with_name(format!("lag{i}"))));
    }
    for rank in ranks {
        output.push(*rank);
        fields.push(Arc::new(Field::new(format!("{rank:?}"), DataType::Int64, true)));
    }
    OverAggregateConfig {
        input_schema: input(),
        output_schema: Arc::new(Schema::new(fields)),
        partition: vec![0],
        order: OverOrder::RowTime(2),
        frames,
        lags,
        output,
        ttl_ms: None,
    }
}

fn sums(bounds: FrameBounds) -> OverFrame {
    OverFrame { bounds, calls: vec![call(f::sum::sum_udaf(), false), call(f::count::count_udaf(), false)] }
}

fn harness(config: OverAggregateConfig) -> OperatorHarness {
    OperatorHarness::new(input(), &[0], move |_| Ok(Box::new(OverAggregateOperator::new(config.clone())?)))
}

#[test]
fn rows_before_each_row() {
    let frames = vec![sums(FrameBounds::Rows(Some(1))), sums(FrameBounds::Rows(None))];
    check(
        &mut harness(config(frames, vec![], &[])),
        "+I a 1 00:00:03
         +I a 2 00:00:01
         +I b 9 00:00:02
         ~ 00:00:02
         +I a 3 00:00:01
         +I a 4 00:00:05
         +I a null 00:00:04
         ~ 00:00:09",
        "+I a 2 00:00:01 2 1 2 1
         +I b 9 00:00:02 9 1 9 1
         ~ 00:00:02
         +I a 1 00:00:03 3 2 3 2
         +I a null 00:00:04 1 1 3 2
         +I a 4 00:00:05 4 1 7 3
         ~ 00:00:09",
    );
}

#[test]
fn rows_of_one_time_see_each_other_in_a_range() {
    let frames = vec![sums(FrameBounds::Range(Some(1_000))), sums(FrameBounds::Range(None))];
    let ranks = [OverOutput::RowNumber, OverOutput::Rank, OverOutput::DenseRank];
    check(
        &mut harness(config(frames, vec![], &ranks)),
        "+I a 1 00:00:01
         +I a 2 00:00:02
         +I a 3 00:00:02
         +I a 4 00:00:04
         ~ 00:00:09",
        "+I a 1 00:00:01 1 1 1 1 1 1 1
         +I a 2 00:00:02 6 3 6 3 2 2 2
         +I a 3 00:00:02 6 3 6 3 3 2 2
         +I a 4 00:00:04 4 1 10 4 4 4 3
         ~ 00:00:09",
    );
}

#[test]
fn late_rows_and_rows_without_a_time_are_counted() {
    let mut harness = harness(config(vec![sums(FrameBounds::Rows(None))], vec![], &[]));
    check(
        &mut harness,
        "~ 00:00:05
         +I a 1 00:00:05
         +I a 2 null
         +I a 3 00:00:06
         .",
        "~ 00:00:05
         +I a 3 00:00:06 3 1",
    );
    assert_eq!((harness.metrics().late_rows_dropped, harness.metrics().null_times_dropped), (1, 1));
}

#[test]
fn a_range_forgets_what_the_watermark_has_left_behind() {
    let mut over = harness(config(vec![sums(FrameBounds::Range(Some(1_000)))], vec![], &[]));
    for second in 0..60 {
        let mut script = String::new();
        for key in 0..20 {
            writeln!(script, "+I k{second}_{key} 1 00:00:{second:02}").unwrap();
        }
        writeln!(script, "~ 00:00:{second:02}").unwrap();
        over.run(&script);
        assert!(over.metrics().state_entries <= 3 * 40, "{}", over.metrics().state_entries);
    }
    over.run("~ 00:10:00");
    assert_eq!(over.metrics().state_entries, 0);
}

#[test]
fn by_arrival_rows_go_out_at_once() {
    let lag = LagCall { column: 1, offset: 1, default: ScalarValue::Int64(Some(-1)) };
    let frames = vec![sums(FrameBounds::Range(Some(1_000))), sums(FrameBounds::Rows(None))];
    let mut config = config(frames, vec![lag], &[OverOutput::RowNumber]);
    config.order = OverOrder::Arrival;
    check(
        &mut harness(config),
        "@ 00:00:01
         +I a 1 null
         +I b 5 null
         +I a 2 null

         | 1 x2
         @ 00:00:02
         +I a 3 null

         @ 00:00:09
         +I a 4 null",
        "+I a 1 null 1 1 1 1 -1 1
         +I b 5 null 5 1 5 1 -1 1
         +I a 2 null 3 2 3 2 1 2
         | 1 x2
         +I a 3 null 6 3 6 3 2 3
         +I a 4 null 4 1 10 4 3 4",
    );
}

#[test]
fn partitions_expire() {
    let mut config = config(vec![sums(FrameBounds::Rows(None))], vec![], &[OverOutput::RowNumber]);
    (config.order, config.ttl_ms) = (OverOrder::Arrival, Some(20_000));
    let mut over = harness(config);
    over.run("@ 00:00:01\n+I a 1 null\n");
    assert_eq!(over.run("@ 00:00:10\n+I b 2 null\n"), "+I b 2 null 2 1 1");
    assert_eq!(over.run("@ 00:00:25\n+I b 3 null\n+I a 4 null\n"), "+I b 3 null 5 2 2\n+I a 4 null 4 1 1");
}

#[test]
fn restored_partitions_expire() {
    let lag = LagCall { column: 1, offset: 1, default: ScalarValue::Int64(None) };
    let mut config = config(vec![sums(FrameBounds::Rows(Some(1)))], vec![lag], &[OverOutput::RowNumber]);
    (config.order, config.ttl_ms) = (OverOrder::Arrival, Some(20_000));
    let mut over = harness(config);
    let rows: Vec<String> = (0..100).map(|k| format!("+I k{k} 1 null")).collect();
    over.run(&format!("@ 00:00:01\n{}\n\n| 1 x2\n@ 00:00:10\n", rows.join("\n")));
    assert!(over.metrics().state_entries >= 300);
    over.run("+I k3 2 null\n\n@ 00:00:20\n@ 00:00:31\n@ 00:00:40\n@ 00:01:10\n");
    assert_eq!(over.metrics().state_entries, 0);
}

#[test]
fn what_was_late_before_a_restore_is_late_after_it() {
    let mut over = harness(config(vec![sums(FrameBounds::Rows(None))], vec![], &[]));
    check(
        &mut over,
        "+I a 1 00:00:03
         ~ 00:00:05
         | 1 x2
         +I a 2 00:00:04
         +I a 3 00:00:06
         .",
        "+I a 1 00:00:03 1 1
         ~ 00:00:05
         | 1 x2
         +I a 3 00:00:06 4 2",
    );
    assert_eq!(over.metrics().late_rows_dropped, 1);
}

/// A generator of small numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

#[derive(Clone)]
struct Row {
    key: u64,
    value: Option<i64>,
    time: i64,
}

/// What the functions of [`everything`] are, by looking at all rows.
fn model(rows: &[Row]) -> Vec<String> {
    let mut partitions: BTreeMap<u64, Vec<&Row>> = BTreeMap::new();
    rows.iter().for_each(|row| partitions.entry(row.key).or_default().push(row));
    let mut lines = Vec::new();
    for rows in partitions.values_mut() {
        rows.sort_by_key(|row| row.time);
        for (i, row) in rows.iter().enumerate() {
            let last = rows.partition_point(|r| r.time <= row.time);
            let frames = [
                i.saturating_sub(2)..i + 1,
                0..i + 1,
                rows.partition_point(|r| r.time < row.time - 30)..last,
                0..last,
            ];
            let mut line = format!("k{} {} {}", row.key, show(row.value), clock(row.time));
            for frame in frames {
                let values: Vec<i64> = rows[frame].iter().filter_map(|r| r.value).collect();
                let mut distinct = values.clone();
                distinct.sort_unstable();
                distinct.dedup();
                let sum = (!values.is_empty()).then(|| values.iter().sum());
                let results = [sum, values.iter().min().copied(), values.iter().max().copied()];
                results.iter().for_each(|r| write!(line, " {}", show(*r)).unwrap());
                write!(line, " {} {}", values.len(), distinct.len()).unwrap();
            }
            for offset in [1, 3] {
                let lag = i.checked_sub(offset).map_or(Some(-7), |at| rows[at].value);
                write!(line, " {}", show(lag)).unwrap();
            }
            let rank = rows.partition_point(|r| r.time < row.time);
            let mut times: Vec<i64> = rows[..=rank].iter().map(|r| r.time).collect();
            times.dedup();
            write!(line, " {} {} {}", i + 1, rank + 1, times.len()).unwrap();
            lines.push(line);
        }
    }
    lines.sort();
    lines
}

fn show(value: Option<i64>) -> String {
    value.map_or("null".to_owned(), |v| v.to_string())
}

fn clock(time: i64) -> String {
    let (s, ms) = (time / 1000, time % 1000);
    if ms == 0 { format!("00:00:{s:02}") } else { format!("00:00:{s:02}.{ms:03}") }
}

fn everything() -> OverAggregateConfig {
    let all = |bounds| OverFrame {
        bounds,
        calls: vec![
            call(f::sum::sum_udaf(), false),
            call(f::min_max::min_udaf(), false),
            call(f::min_max::max_udaf(), false),
            call(f::count::count_udaf(), false),
            call(f::count::count_udaf(), true),
        ],
    };
    let lag = |offset| LagCall { column: 1, offset, default: ScalarValue::Int64(Some(-7)) };
    let frames = vec![
        all(FrameBounds::Rows(Some(2))),
        all(FrameBounds::Rows(None)),
        all(FrameBounds::Range(Some(30))),
        all(FrameBounds::Range(None)),
    ];
    let ranks = [OverOutput::RowNumber, OverOutput::Rank, OverOutput::DenseRank];
    config(frames, vec![lag(1), lag(3)], &ranks)
}

#[test]
fn agrees_with_a_look_at_all_rows() {
    for seed in 0..12 {
        let mut random = Random(seed * 7 + 1);
        let (mut script, mut rows) = (String::new(), Vec::new());
        let mut time = 1_000_i64;
        for step in 0..120 {
            for _ in 0..random.below(12) {
                let delay = random.below(60) as i64;
                let value = (random.below(6) > 0).then(|| random.below(9) as i64 - 4);
                let row = Row { key: random.below(1 + seed % 5), value, time: time - delay };
                writeln!(script, "+I k{} {} {}", row.key, show(value), clock(row.time)).unwrap();
                rows.push(row);
            }
            time += random.below(25) as i64;
            if random.below(3) == 0 {
                // Nothing comes that is more than 60 ms behind.
                writeln!(script, "~ {}", clock(time - 61)).unwrap();
            }
            if random.below(15) == 0 {
                writeln!(script, "| {step} x{}", 1 + random.below(4)).unwrap();
            }
        }
        script.push_str(".\n");
        let resting = (seed < 2).then(|| harness(everything()).resting());
        for mut over in std::iter::once(harness(everything())).chain(resting) {
            assert_eq!(materialize(&over.run(&script)), model(&rows), "seed {seed}");
            assert_eq!(over.metrics().late_rows_dropped, 0);
        }
    }
}
