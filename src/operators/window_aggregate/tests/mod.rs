use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::min_max::max_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::{AggregateUDF, Operator as BinaryOperator};
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{binary, col, lit};
use datafusion::physical_plan::PhysicalExpr;

use super::*;
use crate::operators::group_aggregate::AggregateCall;
use crate::operators::group_aggregate::distinct::VISITED;
use crate::operators::harness::{OperatorHarness, check};

fn input() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None), true),
        Field::new("k", DataType::Utf8, true),
        Field::new("v", DataType::Int64, true),
    ]))
}

fn call(schema: &SchemaRef, udaf: Arc<AggregateUDF>, arg: Arc<dyn PhysicalExpr>) -> AggregateCall {
    let name = udaf.name().to_owned();
    let expr = AggregateExprBuilder::new(udaf, vec![arg]).schema(schema.clone()).alias(name).build().unwrap();
    AggregateCall::new(Arc::new(expr), None)
}

fn config(kind: WindowKind) -> WindowAggregateConfig {
    let schema = input();
    let v = || col("v", &schema).unwrap();
    let mut aggregates = vec![
        call(&schema, count_udaf(), lit(1_i64)),
        call(&schema, sum_udaf(), v()),
        call(&schema, max_udaf(), v()),
    ];
    aggregates[2].filter = Some(binary(v(), BinaryOperator::Lt, lit(100_i64), &schema).unwrap());
    let mut config = WindowAggregateConfig {
        input_schema: schema.clone(),
        output_schema: Arc::new(Schema::empty()),
        output: vec![
            WindowOutput::Start,
            WindowOutput::End,
            WindowOutput::Key(0),
            WindowOutput::Aggregate(0),
            WindowOutput::Aggregate(1),
            WindowOutput::Aggregate(2),
        ],
        window: WindowSpec { kind, offset: 0, zone: None },
        time_column: 0,
        keys: vec![col("k", &schema).unwrap()],
        aggregates,
        phase: WindowPhase::Single,
        input_retracts: false,
        by_proctime: false,
    };
    set_output(&mut config);
    config
}

/// The output schema that the layout asks for.
fn set_output(config: &mut WindowAggregateConfig) {
    let fields: Vec<Field> = config
        .output
        .iter()
        .enumerate()
        .map(|(i, o)| Field::new(format!("c{i}"), config.output_type(*o).unwrap(), true))
        .collect();
    config.output_schema = Arc::new(Schema::new(fields));
}

fn harness(config: WindowAggregateConfig) -> OperatorHarness {
    let keys: Vec<usize> = if config.phase == WindowPhase::Global {
        (0..config.keys.len()).collect()
    } else if config.keys.is_empty() {
        vec![]
    } else {
        vec![1]
    };
    let schema = match config.phase {
        WindowPhase::Global => config.partial_schema().unwrap(),
        _ => config.input_schema.clone(),
    };
    OperatorHarness::new(schema, &keys, move |range| {
        Ok(Box::new(WindowAggregateOperator::new(config.clone(), range)?))
    })
}

mod firing;
mod flink;
mod model;
mod proctime;

const MINUTE: i64 = 60_000;

#[test]
fn tumble() {
    let mut h = harness(config(WindowKind::Tumble { size: 10 * MINUTE }));
    check(
        &mut h,
        "+I 00:01:00 a 1
         +I 00:11:00 a 2
         +I 00:02:00 b 300
         +I 00:09:59.999 a 3
         +I 00:10:00 null 4
         ~ 00:09:59.998
         +I 00:03:00 a null
         ~ 00:09:59.999
         +I 00:04:00 a 7
         +I null a 7
         ~ 00:30:00
         .",
        "~ 00:09:59.998
         +I 00:00:00 00:10:00 a 3 4 3
         +I 00:00:00 00:10:00 b 1 300 null
         ~ 00:09:59.999
         +I 00:10:00 00:20:00 a 1 2 2
         +I 00:10:00 00:20:00 null 1 4 4
         ~ 00:30:00",
    );
    let metrics = h.metrics();
    assert_eq!((metrics.late_rows_dropped, metrics.null_times_dropped, metrics.state_entries), (1, 1, 0));
}

#[test]
fn hop() {
    let mut h = harness(config(WindowKind::Hop { size: 10 * MINUTE, slide: 5 * MINUTE }));
    check(
        &mut h,
        "+I 00:01:00 a 1
         +I 00:06:00 a 2
         +I 00:21:00 a 3
         ~ 00:05:00
         +I 00:01:00 a 10
         +I 00:06:00 b 20
         ~ 00:14:59.999
         +I 00:04:59 a 1000
         +I 00:11:00 c 5
         .",
        "+I 1969-12-31T23:55:00 00:05:00 a 1 1 1
         ~ 00:05:00
         +I 00:00:00 00:10:00 a 3 13 10
         +I 00:00:00 00:10:00 b 1 20 20
         +I 00:05:00 00:15:00 a 1 2 2
         +I 00:05:00 00:15:00 b 1 20 20
         ~ 00:14:59.999
         +I 00:10:00 00:20:00 c 1 5 5
         +I 00:15:00 00:25:00 a 1 3 3
         +I 00:20:00 00:30:00 a 1 3 3",
    );
    assert_eq!(h.metrics().late_rows_dropped, 1);
}

#[test]
fn cumulate() {
    let mut h = harness(config(WindowKind::Cumulate { size: 15 * MINUTE, step: 5 * MINUTE }));
    check(
        &mut h,
        "+I 00:01:00 a 1
         +I 00:11:00 a 2
         ~ 00:05:00
         +I 00:02:00 b 5
         ~ 00:10:00
         ~ 00:15:00
         +I 00:14:00 a 1
         +I 00:29:00 a 7
         .",
        "+I 00:00:00 00:05:00 a 1 1 1
         ~ 00:05:00
         +I 00:00:00 00:10:00 a 1 1 1
         +I 00:00:00 00:10:00 b 1 5 5
         ~ 00:10:00
         +I 00:00:00 00:15:00 a 2 3 2
         +I 00:00:00 00:15:00 b 1 5 5
         ~ 00:15:00
         +I 00:15:00 00:30:00 a 1 7 7",
    );
    assert_eq!(h.metrics().late_rows_dropped, 1);
}

#[test]
fn restart_in_mid_window() {
    for kind in [
        WindowKind::Tumble { size: 10 * MINUTE },
        WindowKind::Hop { size: 10 * MINUTE, slide: 10 * MINUTE },
        WindowKind::Cumulate { size: 10 * MINUTE, step: 10 * MINUTE },
    ] {
        let mut h = harness(config(kind));
        check(
            &mut h,
            "+I 00:01:00 a 1
             +I 00:11:00 b 2
             ~ 00:02:00
             | 1 x2
             +I 00:02:00 a 2
             | 2 x1
             | 3 x1
             +I 00:03:00 a 3
             +I 00:12:00 null 3
             ~ 00:10:00
             | 4 x1
             +I 00:04:00 a 1000
             .",
            "~ 00:02:00
             | 1 x2
             | 2 x1
             | 3 x1
             +I 00:00:00 00:10:00 a 3 6 3
             ~ 00:10:00
             | 4 x1
             +I 00:10:00 00:20:00 b 1 2 2
             +I 00:10:00 00:20:00 null 1 3 3",
        );
        assert_eq!(h.metrics().late_rows_dropped, 1);
    }
}

#[test]
fn no_keys_and_reordered_output() {
    let mut c = config(WindowKind::Tumble { size: 10 * MINUTE });
    c.keys.clear();
    c.output = vec![
        WindowOutput::Aggregate(1),
        WindowOutput::Time,
        WindowOutput::End,
        WindowOutput::Start,
        WindowOutput::Aggregate(0),
    ];
    set_output(&mut c);
    check(
        &mut harness(c),
        "+I 00:01:00 a 1
         +I 00:11:00 b 2
         | 1 x1
         +I 00:02:00 c 3
         +I 1969-12-31T23:59:59.999 c null
         .",
        "| 1 x1
         +I null 1969-12-31T23:59:59.999 00:00:00 1969-12-31T23:50:00 1
         +I 4 00:09:59.999 00:10:00 00:00:00 2
         +I 2 00:19:59.999 00:20:00 00:10:00 1",
    );
}

#[test]
fn a_leap_of_the_watermark_keeps_the_order_of_windows() {
    let mut h = harness(config(WindowKind::Hop { size: 2 * MINUTE, slide: MINUTE }));
    let out = h.run(
        "+I 10:00:00 z 1
         +I 00:00:30 a 1
         +I 05:00:00 m 1
         .",
    );
    let keys: Vec<&str> = out.lines().map(|l| l.split(' ').nth(3).unwrap()).collect();
    assert_eq!(keys, ["a", "a", "m", "m", "z", "z"]);
}

#[test]
fn zone_with_a_change_of_clocks() {
    let mut c = config(WindowKind::Tumble { size: 24 * 60 * MINUTE });
    let mut fields: Vec<Field> = c.input_schema.fields().iter().map(|f| f.as_ref().clone()).collect();
    fields[0] = Field::new(
        "ts",
        DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into())),
        true,
    );
    c.input_schema = Arc::new(Schema::new(fields));
    c.output.push(WindowOutput::Time);
    set_output_after(&mut c, Some(chrono_tz::Tz::Europe__Berlin));
    // 26 October 2025 has 25 hours in Berlin: from 22:00 UTC to 23:00 UTC.
    check(
        &mut harness(c),
        "+I 2025-10-25T21:59:59.999999Z a 1
         +I 2025-10-25T22:00:00Z a 2
         +I 2025-10-26T00:30:00Z a 3
         +I 2025-10-26T22:59:59.999Z a 4
         +I 2025-10-26T23:00:00Z a 5
         ~ 2025-10-26T22:59:59.998
         ~ 2025-10-26T22:59:59.999
         .",
        "+I 2025-10-25T00:00:00 2025-10-26T00:00:00 a 1 1 1 2025-10-25T21:59:59.999Z
         ~ 2025-10-26T22:59:59.998
         +I 2025-10-26T00:00:00 2025-10-27T00:00:00 a 3 9 4 2025-10-26T22:59:59.999Z
         ~ 2025-10-26T22:59:59.999
         +I 2025-10-27T00:00:00 2025-10-28T00:00:00 a 1 5 5 2025-10-27T22:59:59.999Z",
    );
}

fn set_output_after(config: &mut WindowAggregateConfig, zone: Option<chrono_tz::Tz>) {
    config.window.zone = zone;
    set_output(config);
}

#[test]
fn attached_windows() {
    let time = |name: &str| {
        Field::new(name, DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None), false)
    };
    let schema = Arc::new(Schema::new(vec![
        time("ws"),
        Field::new("k", DataType::Utf8, true),
        Field::new("v", DataType::Int64, true),
        time("we"),
    ]));
    for distinct in [false, true] {
        let mut c = config(WindowKind::Attached { start_column: 0, end_column: 3 });
        c.input_schema = schema.clone();
        c.aggregates = vec![call(&schema, max_udaf(), col("v", &schema).unwrap())];
        // DISTINCT takes the other way of keeping windows and changes nothing for MAX.
        c.aggregates[0].distinct = distinct;
        c.output.truncate(4);
        set_output(&mut c);
        check(
            &mut harness(c),
            "+I 00:00:00 a 1 00:10:00
             +I 00:05:00 a 2 00:15:00
             +I 00:00:00 b 3 00:10:00
             | 1 x1
             +I 00:00:00 a 7 00:10:00
             ~ 00:09:59.999
             +I 00:00:00 a 9 00:10:00
             .",
            "| 1 x1
             +I 00:00:00 00:10:00 a 7
             +I 00:00:00 00:10:00 b 3
             ~ 00:09:59.999
             +I 00:05:00 00:15:00 a 2",
        );
    }
}

#[test]
fn rows_without_a_time_are_counted_apart_where_windows_are_added_to_rows() {
    use crate::operators::window_table_function::WindowTableFunctionOperator;

    let window = WindowSpec { kind: WindowKind::Tumble { size: MINUTE }, offset: 0, zone: None };
    let plain = DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None);
    let mut fields: Vec<_> = input().fields().iter().cloned().collect();
    for (name, ty) in
        [("window_start", plain.clone()), ("window_end", plain), ("window_time", window.time_type())]
    {
        fields.push(Arc::new(Field::new(name, ty, false)));
    }
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let mut h = OperatorHarness::new(input(), &[1], move |_| {
        Ok(Box::new(WindowTableFunctionOperator::new(window, 0, schema.clone())))
    });
    let output = h.run("+I 00:00:10 a 1\n+I null a 2\n+I null b 3\n~ 00:05:00\n+I null a 4");
    assert_eq!(output.lines().filter(|line| line.starts_with("+I")).count(), 1, "{output}");
    let metrics = h.metrics();
    assert_eq!((metrics.late_rows_dropped, metrics.null_times_dropped), (0, 3));
}

#[test]
fn updating_input() {
    let mut c = config(WindowKind::Hop { size: 10 * MINUTE, slide: 5 * MINUTE });
    c.input_retracts = true;
    let mut h = harness(c);
    check(
        &mut h,
        "+I 00:01:00 a 1
         +I 00:06:00 a 9
         +I 00:06:00 b 2
         ~ 00:05:00
         | 1 x2
         -U 00:06:00 a 9
         +U 00:06:00 a 5
         -D 00:06:00 b 2
         -D 00:01:00 a 1
         | 2 x1
         .",
        "+I 1969-12-31T23:55:00 00:05:00 a 1 1 1
         ~ 00:05:00
         | 1 x2
         | 2 x1
         +I 00:00:00 00:10:00 a 1 5 5
         +I 00:05:00 00:15:00 a 1 5 5",
    );
    assert_eq!(h.metrics().state_entries, 0);
    let mut plain = harness(config(WindowKind::Tumble { size: MINUTE }));
    let message = crate::operators::harness::failure(&mut plain, "-D 00:06:00 b 2");
    assert!(message.contains("updates in append-only input"), "{message}");
}

#[test]
fn hop_over_updates_keeps_slices() {
    // A row is in 60 windows, and its group in one slice.
    let mut c = config(WindowKind::Hop { size: 60 * MINUTE, slide: MINUTE });
    c.input_retracts = true;
    let mut h = harness(c.clone());
    h.run("+I 00:00:10 a 1\n+I 00:00:20 a 5\n+I 00:00:30 b 2\n+I 00:05:00 a 3\n-D 00:00:20 a 5");
    assert_eq!(h.metrics().state_entries, 3);
    let output = h.run("~ 00:01:00\n| 1 x2\n-D 00:00:30 b 2\n~ 00:06:00");
    assert!(output.contains("+I 1969-12-31T23:01:00 00:01:00 a 1 1 1\n"), "{output}");
    assert!(output.contains("+I 1969-12-31T23:01:00 00:01:00 b 1 2 2\n"), "{output}");
    assert!(!output.contains("00:02:00 b"), "{output}");
    assert!(output.contains("+I 1969-12-31T23:06:00 00:06:00 a 2 4 3\n"), "{output}");
    assert_eq!(h.run(".").lines().filter(|l| l.contains(" a 1 3 3")).count(), 5);
    assert_eq!(h.metrics().state_entries, 0);
    // Of DISTINCT a group and a value, each in one slice.
    let schema = input();
    for udaf in [count_udaf(), sum_udaf()] {
        let distinct = AggregateExprBuilder::new(udaf, vec![col("v", &schema).unwrap()]);
        let distinct = distinct.schema(schema.clone()).alias("d").distinct().build().unwrap();
        c.aggregates.push(AggregateCall::new(Arc::new(distinct), None));
        c.output.push(WindowOutput::Aggregate(c.aggregates.len() - 1));
    }
    set_output(&mut c);
    let mut h = harness(c);
    h.run("+I 00:00:10 a 1\n+I 00:00:20 a 1\n+I 00:00:30 a 5\n+I 00:05:00 a 1\n+I 00:05:10 a 7\n-D 00:00:30 a 5");
    assert!(h.metrics().state_entries <= 2 + 3, "{:?}", h.metrics());
    let output = h.run("~ 00:01:00\n| 1 x2\n-D 00:05:10 a 7\n~ 00:06:00");
    assert!(output.contains("+I 1969-12-31T23:01:00 00:01:00 a 2 2 1 1 1\n"), "{output}");
    assert!(output.contains("+I 1969-12-31T23:06:00 00:06:00 a 3 3 1 1 1\n"), "{output}");
    h.run(".");
    assert_eq!(h.metrics().state_entries, 0);
}

/// A window has 60 slices; merged anew each time they would be 60 × as many rows as its result.
#[test]
fn hop_merges_a_slice_a_few_times_however_many_windows_it_is_in() {
    const KEYS: usize = 20;
    const MINUTES: usize = 240;
    let mut script = String::new();
    for minute in 0..MINUTES {
        for key in 0..KEYS {
            script += &format!("+I {:02}:{:02}:30 k{key} {minute}\n", minute / 60, minute % 60);
        }
        script += &format!("~ {:02}:{:02}:00\n", (minute + 1) / 60, (minute + 1) % 60);
    }
    let before = partial::MERGED.get();
    let mut h = harness(config(WindowKind::Hop { size: 60 * MINUTE, slide: MINUTE }));
    let output = h.run(&script);
    let results = output.lines().filter(|line| line.starts_with("+I")).count();
    assert_eq!(results, KEYS * MINUTES);
    let merged = partial::MERGED.get() - before;
    assert!(merged < 12 * results, "{merged} rows merged for {results} results");
}

fn with_count_distinct(mut c: WindowAggregateConfig) -> WindowAggregateConfig {
    let distinct = AggregateExprBuilder::new(count_udaf(), vec![col("v", &input()).unwrap()]);
    let distinct = distinct.schema(input()).alias("d").distinct().build().unwrap();
    c.aggregates.push(AggregateCall::new(Arc::new(distinct), None));
    c.output.push(WindowOutput::Aggregate(c.aggregates.len() - 1));
    set_output(&mut c);
    c
}

/// 240 minutes of `values` different values each, a watermark after each minute or only at the end.
fn minutes_of_values(values: usize, is_late: bool) -> String {
    let mut script = String::new();
    for minute in 0..240 {
        for value in 0..values {
            let (hours, minutes) = (minute / 60, minute % 60);
            script += &format!("+I {hours:02}:{minutes:02}:30 a {}\n", minute * 10 + value);
        }
        if !is_late {
            script += &format!("~ {:02}:{:02}:00\n", (minute + 1) / 60, (minute + 1) % 60);
        }
    }
    script + "."
}

/// A value is gone through when its slice comes, when it goes and when it is forgotten, whatever the other windows have and
/// however many share it.
#[test]
fn distinct_values_are_gone_through_by_window() {
    const VALUES: usize = 40;
    let visited = |kind: WindowKind, updating: bool, is_late: bool| {
        let mut c = with_count_distinct(config(kind));
        c.input_retracts = updating;
        let before = VISITED.get();
        let output = harness(c).run(&minutes_of_values(VALUES, is_late));
        (output, VISITED.get() - before)
    };
    let hop = WindowKind::Hop { size: 60 * MINUTE, slide: MINUTE };
    for (kind, updating) in [
        (hop, false),
        (hop, true),
        (WindowKind::Tumble { size: MINUTE }, false),
        (WindowKind::Tumble { size: MINUTE }, true),
    ] {
        for is_late in [false, true] {
            let (output, visited) = visited(kind, updating, is_late);
            // A minute brings ten values that no minute before it had.
            let full = if kind == hop { 10 * 59 + VALUES } else { VALUES };
            assert_eq!(
                output.lines().filter(|l| l.ends_with(&format!(" {full}"))).count(),
                if kind == hop { 181 } else { 240 }
            );
            let most = 5 * 240 * VALUES;
            assert!(visited < most, "{kind:?} {updating} {is_late}: {visited} values visited");
        }
    }
}

#[test]
fn planner_mistakes_are_told() {
    let fails =
        |c: WindowAggregateConfig| WindowAggregateOperator::new(c, KeyGroupRange::ALL).unwrap_err().message();
    let mut c = config(WindowKind::Tumble { size: MINUTE });
    c.output.swap(0, 2);
    assert!(fails(c).contains("`c0` is planned as Timestamp(ms) but computed as Utf8"));
    let mut c = config(WindowKind::Tumble { size: MINUTE });
    c.window.zone = Some(chrono_tz::Tz::UTC);
    assert!(fails(c).contains("TIMESTAMP_LTZ need the session zone"));
    let mut c = config(WindowKind::Tumble { size: MINUTE });
    c.time_column = 1;
    assert!(fails(c).contains("time column of type Some(Utf8)"));
    let mut c = config(WindowKind::Tumble { size: MINUTE });
    (c.phase, c.input_retracts) = (WindowPhase::Local, true);
    assert!(fails(c).contains("cannot be pre-aggregated"));
}
