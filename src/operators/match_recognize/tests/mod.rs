//! MATCH_RECOGNIZE, by scripts; `model` has it against a brute-force matcher.

mod model;

use arrow::array::{AsArray, Int64Array, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{Field, Schema, TimeUnit};
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{BinaryExpr, Column};
use datafusion::physical_plan::PhysicalExpr;

use super::*;
use crate::operators::group_aggregate::AggregateCall;
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
        by_proctime: false,
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
fn matches_under_way_are_counted() {
    let mut h = harness(dips(AfterMatch::PastLastRow));
    let mut partial = |script: &str| {
        h.run(script);
        h.metrics().partial_matches
    };
    assert_eq!(partial("+I x 00:00:01 10\n+I y 00:00:01 5\n+I z 00:00:09 1"), 0, "nobody has looked at them");
    assert_eq!(partial("~ 00:00:01"), 2, "z waits for its time");
    assert_eq!(partial("+I x 00:00:02 9\n~ 00:00:02"), 2);
    assert_eq!(partial("| 1 x2\n~ 00:00:03"), 2);
    // x is complete; y goes on with its second row, behind the first no match begins.
    assert_eq!(partial("+I x 00:00:04 10\n+I y 00:00:04 6\n~ 00:00:04"), 1);
    assert_eq!(partial("~ 00:00:09"), 2);
    assert_eq!(partial("."), 0);
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

#[test]
fn where_all_rows_come_out_the_watermark_is_held_back_before_the_first_undecided_one() {
    let mut c = dips(AfterMatch::PastLastRow);
    c.output.all_rows = true;
    c.within = Some(10_000);
    c.values.facts = vec![Arc::new(datafusion::physical_expr::expressions::IsNullExpr::new(column("p", 2)))];
    let mut operator = MatchRecognizeOperator::new(c).unwrap();
    let mut out = Output::new();
    let mut feed = |operator: &mut MatchRecognizeOperator, rows: &[&str], watermark: i64| {
        let batch = crate::operators::harness::parse_batch(&schema(), rows);
        let batch = ChangeBatch::insert_only(batch.rows);
        let _ = operator.process(0, batch, &mut out).unwrap();
        let _ = operator.on_watermark(Timestamp(watermark), &mut out).unwrap();
        operator.output_watermark().map(|w| w.0)
    };
    // One row is no match yet, but will be a row of one.
    assert_eq!(feed(&mut operator, &["+I x 00:00:01 10"], 1_500), Some(999));
    assert_eq!(feed(&mut operator, &["+I x 00:00:02 9"], 2_500), Some(999));
    assert_eq!(feed(&mut operator, &["+I x 00:00:03 10"], 3_500), None);
    assert_eq!(feed(&mut operator, &["+I x 00:00:05 10"], 5_500), Some(4_999));
    // Time is over for it.
    assert_eq!(feed(&mut operator, &[], 15_000), None);
}

#[test]
fn a_search_without_an_end_fails() {
    // Each row can be `a` or `b`, and `c` looks at rows of `a` without ever being there.
    let either = Pattern::Alternation(vec![var(0), var(1)]);
    let many = Pattern::Repeat { inner: Box::new(either), from: 1, to: None, greedy: true };
    let never = Condition::All(vec![less_than(0, 0), greater_than(0, 0)]);
    let c =
        config(&Pattern::Concat(vec![many, var(2)]), vec![None, None, Some(never)], AfterMatch::PastLastRow);
    let rows: Vec<String> = (0..40).map(|i| format!("+I x 00:00:{i:02} 10")).collect();
    let failed = failure(&mut harness(c), &format!("{}\n.", rows.join("\n")));
    assert!(failed.starts_with("MATCH_RECOGNIZE has tried too many ways"), "{failed}");
}

/// The sum of the prices.
fn sum() -> AggregateCall {
    let sum = datafusion::functions_aggregate::sum::sum_udaf();
    let sum = AggregateExprBuilder::new(sum, vec![column("p", 2)]).schema(schema()).alias("s").build();
    AggregateCall::new(Arc::new(sum.unwrap()), None)
}

#[test]
fn aggregates_follow_the_rows_of_a_match_that_is_longer_than_a_batch() {
    // `a b+` where `b`: the sum of all rows, or of `b`, is small enough.
    const ROWS: i64 = 20_000;
    for of in [None, Some(1)] {
        let small = Condition::Computed {
            inputs: vec![Input::Aggregate(of, Box::new(sum()), 0)],
            schema: Arc::new(Schema::new(vec![Field::new("s", DataType::Int64, true)])),
            condition: Arc::new(BinaryExpr::new(
                column("s", 0),
                datafusion::logical_expr::Operator::Lt,
                datafusion::physical_expr::expressions::lit(ROWS + 1),
            )),
        };
        let pattern = Pattern::Concat(vec![var(0), repeat(1, 1, None, true)]);
        let mut c = config(&pattern, vec![None, Some(small)], AfterMatch::PastLastRow);
        c.output.all_rows = true;
        c.output.aggregates = vec![(None, sum()), (Some(0), sum()), (Some(1), sum())];
        let fields = ["all", "a", "b"].map(|n| Field::new(n, DataType::Int64, true));
        let read = Arc::new(Schema::new(fields.to_vec()));
        c.output.rows.clear();
        c.output.values.clear();
        c.output.columns = vec![column("all", 0), column("a", 1), column("b", 2)];
        (c.output.read, c.output.schema) = (Arc::clone(&read), read);
        c.has_row_time = false;
        let mut operator = MatchRecognizeOperator::new(c).unwrap();
        let mut out = Output::new();
        let n = ROWS + 10;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec!["x"; n as usize])),
            Arc::new(TimestampMillisecondArray::from_iter_values(0..n)),
            Arc::new(Int64Array::from(vec![1; n as usize])),
        ];
        let rows = RecordBatch::try_new(schema(), columns).unwrap();
        let _ = operator.process(0, ChangeBatch::insert_only(rows), &mut out).unwrap();
        let _ = operator.on_watermark(Timestamp(n), &mut out).unwrap();
        let mut row = 0;
        for batch in out.drain() {
            let value = |c: usize, i: usize| {
                let column = batch.rows.column(c).as_primitive::<arrow::datatypes::Int64Type>();
                column.is_valid(i).then(|| column.value(i))
            };
            for i in 0..batch.num_rows() {
                row += 1;
                let b = (row > 1).then_some(row - 1);
                assert_eq!((value(0, i), value(1, i), value(2, i)), (Some(row), Some(1), b), "{row}");
            }
        }
        assert_eq!(row, ROWS + of.map_or(0, |_| 1));
    }
}
