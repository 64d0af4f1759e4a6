//! MATCH_RECOGNIZE, by scripts; `model` has it against a brute-force matcher.

mod model;

use arrow::array::{Int64Array, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{Field, Schema, TimeUnit};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::PhysicalExpr;

use super::*;
use crate::operators::harness::{OperatorHarness, check, failure};

pub(super) fn column(name: &str, at: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(name, at))
}

/// Key, time, price.
fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Utf8, true),
        Field::new("t", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("p", DataType::Int64, true),
    ]))
}

fn var(v: u8) -> Pattern {
    Pattern::Variable(v)
}

fn repeat(v: u8, from: u32, to: Option<u32>, greedy: bool) -> Pattern {
    Pattern::Repeat { inner: Box::new(var(v)), from, to, greedy }
}

/// Gives the key, the price of the first and of the last row, and the time of the last; `low`: condition of `b`.
fn config(pattern: &Pattern, defines: Vec<Option<Condition>>, after: AfterMatch) -> MatchRecognizeConfig {
    let (key, time, price) = (column("k", 0), column("t", 1), column("p", 2));
    let fields = |names: [&str; 4]| {
        let types = [
            DataType::Utf8,
            DataType::Int64,
            DataType::Int64,
            DataType::Timestamp(TimeUnit::Millisecond, None),
        ];
        Arc::new(Schema::new(
            names.iter().zip(types).map(|(n, ty)| Field::new(*n, ty, true)).collect::<Vec<_>>(),
        ))
    };
    let read = fields(["r0", "r1", "r2", "r3"]);
    MatchRecognizeConfig {
        input: schema(),
        partition: vec![0],
        time: 1,
        then: Vec::new(),
        program: Program::new(pattern).unwrap(),
        least_rows: pattern.least_rows(),
        variables: (0..defines.len()).map(|i| char::from(b'a' + i as u8).to_string()).collect(),
        defines,
        values: RowValues { facts: Vec::new(), operands: vec![column("p", 2)] },
        within: None,
        after,
        output: MatchOutput {
            all_rows: false,
            rows: vec![RowRef::First(None, 0), RowRef::Last(None, 0)],
            values: vec![(0, key), (0, Arc::clone(&price)), (1, price), (1, time)],
            aggregates: Vec::new(),
            classes: None,
            columns: (0..4).map(|i| column(&format!("r{i}"), i)).collect(),
            read,
            schema: fields(["k", "first", "last", "t"]),
        },
        has_row_time: true,
    }
}

/// Price less than the last one of a variable.
fn less_than(v: u8, n: u32) -> Condition {
    Condition::Compare((RowRef::Current, 0), Comparison::Less, (RowRef::Last(Some(v), n), 0))
}

fn greater_than(v: u8, n: u32) -> Condition {
    Condition::Compare((RowRef::Current, 0), Comparison::Greater, (RowRef::Last(Some(v), n), 0))
}

/// `a b+ c`: a start, lower and lower, then higher.
fn dips(after: AfterMatch) -> MatchRecognizeConfig {
    let lower = Condition::Any(vec![less_than(1, 1), Condition::All(vec![no_row(1, 1), less_than(0, 0)])]);
    let pattern = Pattern::Concat(vec![var(0), repeat(1, 1, None, true), var(2)]);
    config(&pattern, vec![None, Some(lower), Some(greater_than(1, 0))], after)
}

/// There is no such row of the variable: its price is NULL.
fn no_row(v: u8, n: u32) -> Condition {
    Condition::Fact(RowRef::Last(Some(v), n), 0, true)
}

fn harness(config: MatchRecognizeConfig) -> OperatorHarness {
    let mut config = config;
    // `p IS NULL`, which is false of the rows that are there.
    config.values.facts =
        vec![Arc::new(datafusion::physical_expr::expressions::IsNullExpr::new(column("p", 2)))];
    OperatorHarness::new(schema(), &[0], move |_| Ok(Box::new(MatchRecognizeOperator::new(config.clone())?)))
}

#[test]
fn a_dip_over_several_watermarks_and_keys() {
    let mut h = harness(dips(AfterMatch::PastLastRow));
    check(
        &mut h,
        "+I x 00:00:01 10
         +I y 00:00:01 5
         +I x 00:00:02 9
         ~ 00:00:02
         +I x 00:00:03 8
         +I y 00:00:03 7
         ~ 00:00:03
         | 1 x3
         +I x 00:00:04 9
         +I y 00:00:04 6
         ~ 00:00:04
         +I y 00:00:05 8
         .",
        "~ 00:00:02
         ~ 00:00:03
         | 1 x3
         +I x 10 9 00:00:04
         ~ 00:00:04
         +I y 7 8 00:00:05",
    );
    assert_eq!(h.metrics().state_entries, 0);
}

#[test]
fn rows_are_put_in_the_order_of_their_time() {
    let mut h = harness(dips(AfterMatch::PastLastRow));
    check(
        &mut h,
        "+I x 00:00:03 8
         +I x 00:00:04 9
         +I x 00:00:01 10
         +I x 00:00:02 9
         ~ 00:00:10",
        "+I x 10 9 00:00:04
         ~ 00:00:10",
    );
}

#[test]
fn late_rows_and_rows_without_a_time_are_dropped_and_counted() {
    let mut h = harness(dips(AfterMatch::PastLastRow));
    check(
        &mut h,
        "+I x 00:00:01 10
         +I x null 9
         +I z null 9
         ~ 00:00:02
         +I x 00:00:02 9
         +I w 00:00:01 9
         ~ 00:00:03",
        "~ 00:00:02
         ~ 00:00:03",
    );
    let metrics = h.metrics();
    assert_eq!((metrics.late_rows_dropped, metrics.null_times_dropped, metrics.state_entries), (2, 2, 1));
}

#[test]
fn skipping() {
    let script = "+I x 00:00:01 10
         +I x 00:00:02 9
         +I x 00:00:03 8
         +I x 00:00:04 9
         +I x 00:00:05 8
         +I x 00:00:06 9
         .";
    let run = |after| harness(dips(after)).run(script);
    assert_eq!(run(AfterMatch::PastLastRow), "+I x 10 9 00:00:04");
    assert_eq!(run(AfterMatch::ToNextRow), "+I x 10 9 00:00:04\n+I x 9 9 00:00:04\n+I x 9 9 00:00:06");
    assert_eq!(run(AfterMatch::ToLast(2)), "+I x 10 9 00:00:04\n+I x 9 9 00:00:06");
    assert_eq!(run(AfterMatch::ToFirst(1)), "+I x 10 9 00:00:04\n+I x 9 9 00:00:04\n+I x 9 9 00:00:06");
    let failed = |after| failure(&mut harness(dips(after)), script);
    assert_eq!(failed(AfterMatch::ToFirst(0)), "Could not skip to first element of a match.");
    let mut optional = dips(AfterMatch::ToLast(1));
    let pattern = Pattern::Concat(vec![var(0), repeat(1, 0, None, true), var(2)]);
    optional.program = Program::new(&pattern).unwrap();
    optional.defines = vec![None, Some(less_than(0, 0)), None];
    optional.defines[1] = Some(Condition::Any(Vec::new()));
    assert_eq!(
        failure(&mut harness(optional), script),
        "Could not skip to b. No such element in the found match."
    );
}

#[test]
fn time_is_over_for_a_match() {
    let mut within = dips(AfterMatch::PastLastRow);
    within.within = Some(3_000);
    let mut h = harness(within);
    check(
        &mut h,
        "+I x 00:00:01 10
         +I x 00:00:02 9
         ~ 00:00:03
         | 1 x2
         +I x 00:00:04 10
         ~ 00:00:04
         +I y 00:00:05 10
         ~ 00:00:06
         ~ 00:00:08",
        "~ 00:00:03
         | 1 x2
         ~ 00:00:04
         ~ 00:00:06
         ~ 00:00:08",
    );
    // 00:00:04 is three seconds behind the first row: too late. What waits for more is given up when time is over.
    assert_eq!(h.metrics().state_entries, 0);
}

#[test]
fn a_greedy_end_waits_for_a_row_that_decides() {
    let pattern = Pattern::Concat(vec![var(0), repeat(1, 0, None, true)]);
    let mut greedy = config(&pattern, vec![None, Some(less_than(0, 0))], AfterMatch::PastLastRow);
    greedy.within = Some(10_000);
    let mut h = harness(greedy);
    check(
        &mut h,
        "+I x 00:00:01 10
         +I x 00:00:02 9
         +I x 00:00:03 8
         ~ 00:00:05
         +I x 00:00:06 10
         ~ 00:00:07
         ~ 00:00:16
         +I x 00:00:17 9
         .",
        "~ 00:00:05
         +I x 10 8 00:00:03
         ~ 00:00:07
         +I x 10 10 00:00:06
         ~ 00:00:16
         +I x 9 9 00:00:17",
    );
}

#[test]
fn the_watermark_is_held_back_before_what_is_undecided() {
    let mut operator = MatchRecognizeOperator::new({
        let mut c = dips(AfterMatch::PastLastRow);
        c.values.facts =
            vec![Arc::new(datafusion::physical_expr::expressions::IsNullExpr::new(column("p", 2)))];
        c
    })
    .unwrap();
    let mut out = Output::new();
    let mut feed = |operator: &mut MatchRecognizeOperator, rows: &[&str], watermark: i64| {
        let batch = crate::operators::harness::parse_batch(&schema(), rows);
        let batch = ChangeBatch::insert_only(batch.rows);
        let _ = operator.process(0, batch, &mut out).unwrap();
        let _ = operator.on_watermark(Timestamp(watermark), &mut out).unwrap();
        operator.output_watermark().map(|w| w.0)
    };
    // Two rows are no match yet: one has to end later.
    assert_eq!(feed(&mut operator, &["+I x 00:00:01 10", "+I x 00:00:02 9"], 2_500), None);
    assert_eq!(feed(&mut operator, &["+I x 00:00:03 8"], 3_500), Some(2_999));
    assert_eq!(feed(&mut operator, &["+I x 00:00:04 9"], 4_500), None);
}

#[test]
fn the_work_of_a_failed_start_is_not_done_again() {
    // `a b+ c` where all rows are `a` and `b` and none is `c`, and so for each start: without notes, this takes hours.
    let pattern = Pattern::Concat(vec![var(0), repeat(1, 1, None, true), var(2)]);
    let mut c = config(&pattern, vec![None, None, Some(Condition::Any(Vec::new()))], AfterMatch::ToNextRow);
    c.has_row_time = false;
    let mut h = harness(c);
    let mut text = Vec::new();
    for from in (0..100_000i64).step_by(1_000) {
        let times = from..from + 1_000;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec!["x"; 1_000])),
            Arc::new(TimestampMillisecondArray::from_iter_values(times)),
            Arc::new(Int64Array::from(vec![1; 1_000])),
        ];
        let rows = RecordBatch::try_new(schema(), columns).unwrap();
        h.process(&ChangeBatch::insert_only(rows), &mut text).unwrap();
        h.run(&format!("~ {}", from + 999));
    }
    assert_eq!(h.run("."), "");
    assert_eq!(h.metrics().state_entries, 0);
}
