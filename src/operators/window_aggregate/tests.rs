use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::min_max::max_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::{AggregateUDF, Operator as BinaryOperator};
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{binary, col, lit};
use datafusion::physical_plan::PhysicalExpr;

use super::*;
use crate::operators::group_aggregate::AggregateCall;
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
    assert_eq!(h.metrics().late_rows_dropped, 2);
    assert_eq!(h.metrics().state_entries, 0);
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
