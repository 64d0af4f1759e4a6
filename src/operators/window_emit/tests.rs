use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::AggregateUDF;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{col, lit};
use datafusion::physical_plan::PhysicalExpr;

use super::*;
use crate::operators::group_aggregate::AggregateCall;
use crate::operators::harness::{OperatorHarness, check, materialize};
use crate::operators::window_aggregate::WindowSpec;

const MINUTE: i64 = 60_000;

fn config(kind: WindowKind, emit: EmitStrategy) -> EmittingWindowConfig {
    let time = |name: &str| {
        Field::new(name, DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None), true)
    };
    let (text, number) =
        (|n: &str| Field::new(n, DataType::Utf8, true), |n: &str| Field::new(n, DataType::Int64, true));
    let schema = Arc::new(Schema::new(vec![time("ts"), text("k"), number("v")]));
    let call = |udaf: Arc<AggregateUDF>, arg: Arc<dyn PhysicalExpr>| {
        let name = udaf.name().to_owned();
        let expr =
            AggregateExprBuilder::new(udaf, vec![arg]).schema(schema.clone()).alias(name).build().unwrap();
        AggregateCall::new(Arc::new(expr), None)
    };
    let aggregates = vec![call(count_udaf(), lit(1_i64)), call(sum_udaf(), col("v", &schema).unwrap())];
    let aggregate = WindowAggregateConfig {
        output_schema: Arc::new(Schema::new(vec![time("s"), text("k"), number("n"), number("sum")])),
        output: vec![
            WindowOutput::Start,
            WindowOutput::Key(0),
            WindowOutput::Aggregate(0),
            WindowOutput::Aggregate(1),
        ],
        window: WindowSpec { kind, offset: 0, zone: None },
        time_column: 0,
        keys: vec![col("k", &schema).unwrap()],
        aggregates,
        phase: WindowPhase::Single,
        input_retracts: false,
        by_proctime: false,
        input_schema: schema,
    };
    EmittingWindowConfig { aggregate, emit, emit_update_before: true, bundle_rows: Some(1) }
}

fn harness(config: EmittingWindowConfig) -> OperatorHarness {
    let schema = config.aggregate.input_schema.clone();
    OperatorHarness::new(schema, &[1], move |_| Ok(Box::new(EmittingWindowOperator::new(config.clone())?)))
}

fn emit(early: Option<i64>, late: Option<i64>, lateness: i64) -> EmitStrategy {
    EmitStrategy { early, late, lateness }
}

const TUMBLE: WindowKind = WindowKind::Tumble { size: MINUTE };

/// The rows of which the expected changes below are those of Flink 2.3, with a watermark behind each.
const ROWS: &str = "+I 00:00:01 a 10
                    ~ 00:00:00.999
                    +I 00:00:02 b 20
                    ~ 00:00:01.999
                    +I 00:01:01 a 30
                    ~ 00:01:00.999
                    +I 00:00:30 a 5
                    +I 00:02:30 b 7
                    ~ 00:02:29.999
                    +I 00:00:31 a 7
                    +I 00:01:31 a 7
                    +I 00:10:31 a 7
                    ~ 00:10:30.999
                    +I 00:01:32 a 7
                    .";

fn changes(text: &str) -> Vec<&str> {
    text.lines().filter(|l| l.starts_with(['+', '-'])).collect()
}

#[test]
fn early_results_come_with_every_row_and_not_again_at_the_end() {
    let out = harness(config(TUMBLE, emit(Some(0), None, 0))).run(ROWS);
    assert_eq!(
        changes(&out),
        [
            "+I 00:00:00 a 1 10",
            "+I 00:00:00 b 1 20",
            "+I 00:01:00 a 1 30",
            "+I 00:02:00 b 1 7",
            "+I 00:10:00 a 1 7"
        ]
    );
    let early = harness(config(TUMBLE, emit(Some(0), None, 0))).run("+I 00:00:01 a 1\n+I 00:00:02 a 2\n.");
    assert_eq!(changes(&early), ["+I 00:00:00 a 1 1", "-U 00:00:00 a 1 1", "+U 00:00:00 a 2 3"]);
}

#[test]
fn late_rows_change_results_while_they_are_allowed() {
    let out = harness(config(TUMBLE, emit(None, Some(0), 5 * MINUTE))).run(ROWS);
    assert_eq!(
        changes(&out),
        [
            "+I 00:00:00 a 1 10",
            "+I 00:00:00 b 1 20",
            "-U 00:00:00 a 1 10",
            "+U 00:00:00 a 2 15",
            "+I 00:01:00 a 1 30",
            "-U 00:00:00 a 2 15",
            "+U 00:00:00 a 3 22",
            "-U 00:01:00 a 1 30",
            "+U 00:01:00 a 2 37",
            "+I 00:02:00 b 1 7",
            "+I 00:10:00 a 1 7"
        ]
    );
    let mut upserts = config(TUMBLE, emit(None, Some(0), 5 * MINUTE));
    upserts.emit_update_before = false;
    let out = harness(upserts).run(ROWS);
    assert!(!out.contains("-U"), "{out}");
    assert_eq!(changes(&out).len(), 8);
}

#[test]
fn windows_that_overlap_show_the_latest_first() {
    let kind = WindowKind::Hop { size: MINUTE, slide: MINUTE / 2 };
    check(
        &mut harness(config(kind, emit(Some(0), Some(0), 5 * MINUTE))),
        "+I 00:00:01 a 10
         ~ 00:01:00.999
         +I 00:00:30 a 5",
        "+I 00:00:00 a 1 10
         +I 1969-12-31T23:59:30 a 1 10
         ~ 00:01:00.999
         +I 00:00:30 a 1 5
         -U 00:00:00 a 1 10
         +U 00:00:00 a 2 15",
    );
}

#[test]
fn a_delay_is_of_processing_time() {
    check(
        &mut harness(config(TUMBLE, emit(Some(10_000), Some(1_000), 5 * MINUTE))),
        "@ 12:00:00
         +I 00:00:01 a 1
         +I 00:00:02 a 2
         @ 12:00:09
         +I 00:00:03 a 3
         @ 12:00:10
         +I 00:00:04 a 4
         ~ 00:01:00
         +I 00:00:05 a 5
         @ 12:00:10.500
         +I 00:00:06 a 6
         @ 12:00:11
         @ 12:00:30",
        "+I 00:00:00 a 3 6
         -U 00:00:00 a 3 6
         +U 00:00:00 a 4 10
         ~ 00:01:00
         -U 00:00:00 a 4 10
         +U 00:00:00 a 6 21",
    );
}

#[test]
fn nothing_is_shown_twice_behind_a_barrier() {
    check(
        &mut harness(config(TUMBLE, emit(Some(0), Some(0), 5 * MINUTE))),
        "+I 00:00:01 a 1
         +I 00:00:02 null 2
         | 1 x3
         +I 00:00:03 a null
         ~ 00:01:00
         | 2 x2
         +I 00:00:04 null 4
         ~ 00:05:59.998
         | 3 x1
         +I 00:00:05 a 5
         ~ 00:05:59.999
         +I 00:00:06 a 6
         .",
        "+I 00:00:00 a 1 1
         +I 00:00:00 null 1 2
         | 1 x3
         -U 00:00:00 a 1 1
         +U 00:00:00 a 2 1
         ~ 00:01:00
         | 2 x2
         -U 00:00:00 null 1 2
         +U 00:00:00 null 2 6
         ~ 00:05:59.998
         | 3 x1
         -U 00:00:00 a 2 1
         +U 00:00:00 a 3 6
         ~ 00:05:59.999",
    );
}

#[test]
fn rows_may_be_taken_back() {
    let mut c = config(TUMBLE, emit(Some(0), None, 0));
    c.aggregate.input_retracts = true;
    check(
        &mut harness(c),
        "+I 00:00:01 a 1
         -U 00:00:01 a 1
         +U 00:00:01 a 3
         -D 00:00:01 a 3
         .",
        "+I 00:00:00 a 1 1
         -D 00:00:00 a 1 1
         +I 00:00:00 a 1 3
         -D 00:00:00 a 1 3",
    );
}

#[test]
fn state_is_gone_when_windows_are_forgotten_and_rows_are_counted() {
    let mut h = harness(config(TUMBLE, emit(Some(0), Some(0), MINUTE)));
    h.run("+I 00:00:01 a 1\n+I null a 1\n+I 00:03:01 b 1\n~ 00:01:59.998");
    assert_eq!(h.metrics().state_entries, 2);
    h.run("~ 00:01:59.999\n+I 00:00:59 a 1");
    let metrics = h.metrics();
    assert_eq!((metrics.state_entries, metrics.late_rows_dropped, metrics.null_times_dropped), (1, 1, 1));
    h.run(".");
    assert_eq!(h.metrics().state_entries, 0);
}

#[test]
fn whatever_the_strategy_the_last_results_are_the_same() {
    let rows = "+I 00:00:01 a 10\n+I 00:00:59 b 1\n+I 00:01:10 a 3\n~ 00:00:59\n+I 00:00:30 a 5\n~ 00:01:30\n+I 00:01:31 b 4\n@ 00:00:09\n+I 00:02:05 a 1\n.";
    let kind = WindowKind::Hop { size: MINUTE, slide: MINUTE / 2 };
    let last = |strategy: EmitStrategy, bundle: Option<usize>| {
        let mut c = config(kind, strategy);
        c.bundle_rows = bundle;
        let last = materialize(&harness(c.clone()).run(rows));
        if c.emit.early.unwrap_or(0) == 0 && c.emit.late.unwrap_or(0) == 0 {
            assert_eq!(materialize(&harness(c).resting().run(rows)), last, "on disk");
        }
        last
    };
    let expected = last(emit(None, None, 0), None);
    // a in six windows, b in four.
    assert_eq!(expected.len(), 10);
    for strategy in [emit(Some(0), None, 0), emit(Some(5), Some(5), 0), emit(Some(1000), Some(0), MINUTE)] {
        for bundle in [None, Some(1), Some(2)] {
            assert_eq!(last(strategy, bundle), expected, "{strategy:?} {bundle:?}");
        }
    }
}

#[test]
fn sessions_are_refused() {
    let c = config(WindowKind::Session { gap: 1 }, emit(Some(0), None, 0));
    assert!(EmittingWindowOperator::new(c).unwrap_err().to_string().contains("at their end only"));
}
