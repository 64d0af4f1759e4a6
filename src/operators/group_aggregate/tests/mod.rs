use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::functions_aggregate as f;
use datafusion::logical_expr::{AggregateUDF, Operator as BinaryOperator};
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{binary, col, lit};
use datafusion::physical_plan::PhysicalExpr;

use super::*;
use crate::operators::harness::{OperatorHarness, check, failure, materialize};

mod flink;
mod model;
mod phases;
mod values;
mod wide;

fn schema(types: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(types.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect::<Vec<_>>()))
}

fn ints() -> SchemaRef {
    schema(&[("k", DataType::Utf8), ("v", DataType::Int64)])
}

fn call(schema: &SchemaRef, udaf: Arc<AggregateUDF>, arg: Arc<dyn PhysicalExpr>) -> AggregateCall {
    let expr = AggregateExprBuilder::new(udaf, vec![arg]).schema(schema.clone()).alias("x").build().unwrap();
    AggregateCall::new(Arc::new(expr), None)
}

fn distinct(schema: &SchemaRef, udaf: Arc<AggregateUDF>, arg: &str) -> AggregateCall {
    let arg = col(arg, schema).unwrap();
    let builder = AggregateExprBuilder::new(udaf, vec![arg]).schema(schema.clone()).alias("x").distinct();
    AggregateCall::new(Arc::new(builder.build().unwrap()), None)
}

fn on(schema: &SchemaRef, udaf: Arc<AggregateUDF>, arg: &str) -> AggregateCall {
    call(schema, udaf, col(arg, schema).unwrap())
}

fn star(schema: &SchemaRef) -> AggregateCall {
    call(schema, f::count::count_udaf(), lit(1_i64))
}

/// With the argument and result types that Flink gives it, which DataFusion's function does not accept.
fn typed(schema: &SchemaRef, udaf: Arc<AggregateUDF>, arg: &str, ty: DataType) -> AggregateCall {
    let mut call = call(schema, udaf, lit(1.0_f64));
    call.args = vec![col(arg, schema).unwrap()];
    call.return_field = Arc::new(Field::new("x", ty, true));
    call
}

fn below(mut call: AggregateCall, schema: &SchemaRef, limit: i64) -> AggregateCall {
    let v = col("v", schema).unwrap();
    call.filter = Some(binary(v, BinaryOperator::Lt, lit(limit), schema).unwrap());
    call
}

fn config(schema: &SchemaRef, keys: &[&str], aggregates: Vec<AggregateCall>) -> GroupAggregateConfig {
    let keys: Vec<_> = keys.iter().map(|k| col(k, schema).unwrap()).collect();
    let mut output: Vec<GroupOutput> = (0..keys.len()).map(GroupOutput::Key).collect();
    output.extend((0..aggregates.len()).map(GroupOutput::Aggregate));
    let mut fields: Vec<Field> =
        keys.iter().map(|k| Field::new("k", k.data_type(schema).unwrap(), true)).collect();
    fields.extend(aggregates.iter().map(|a| Field::new("a", a.return_type().clone(), true)));
    GroupAggregateConfig {
        input_schema: schema.clone(),
        output_schema: Arc::new(Schema::new(fields)),
        output,
        keys,
        aggregates,
        input_retracts: false,
        emit_update_before: true,
        bundle_rows: None,
        merges_partials: false,
        ttl_ms: None,
        emit_default_row_on_end: false,
    }
}

fn harness(config: GroupAggregateConfig) -> OperatorHarness {
    let keys: Vec<usize> = (0..config.keys.len()).collect();
    OperatorHarness::new(config.input_schema.clone(), &keys, move |range| {
        Ok(Box::new(GroupAggregateOperator::new(config.clone(), range)?))
    })
}

fn basic() -> GroupAggregateConfig {
    let s = ints();
    config(
        &s,
        &["k"],
        vec![
            star(&s),
            on(&s, f::count::count_udaf(), "v"),
            on(&s, f::sum::sum_udaf(), "v"),
            typed(&s, f::average::avg_udaf(), "v", DataType::Int64),
            on(&s, f::min_max::min_udaf(), "v"),
            on(&s, f::min_max::max_udaf(), "v"),
        ],
    )
}

#[test]
fn a_bundle_is_a_batch() {
    let mut h = harness(basic());
    check(
        &mut h,
        "+I a 1
         +I b null
         +I a 4
         +I null -3

         +I a 2
         +I c 0
         +I b 9",
        "+I a 2 2 5 2 1 4
         +I b 1 0 null null null null
         +I null 1 1 -3 -3 -3 -3
         -U a 2 2 5 2 1 4
         +U a 3 3 7 2 1 4
         +I c 1 1 0 0 0 0
         -U b 1 0 null null null null
         +U b 2 1 9 9 9 9",
    );
}

#[test]
fn row_by_row() {
    let mut c = basic();
    c.bundle_rows = Some(1);
    c.emit_update_before = false;
    check(
        &mut harness(c),
        "+I a 1
         +I b 7
         +I a 4
         +I a 4",
        "+I a 1 1 1 1 1 1
         +I b 1 1 7 7 7 7
         +U a 2 2 5 2 1 4
         +U a 3 3 9 3 1 4",
    );
}

#[test]
fn bundles_over_batches() {
    let mut c = basic();
    c.bundle_rows = Some(3);
    check(
        &mut harness(c),
        "+I a 1

         +I a 2

         +I b 1
         +I b 2
         ~ 00:00:01",
        "+I a 2 2 3 1 1 2
         +I b 1 1 1 1 1 1
         -U b 1 1 1 1 1 1
         +U b 2 2 3 1 1 2
         ~ 00:00:01",
    );
}

#[test]
fn unchanged_results_are_not_sent() {
    let s = ints();
    let c = config(&s, &["k"], vec![on(&s, f::min_max::max_udaf(), "v")]);
    check(
        &mut harness(c),
        "+I a 5

         +I a 3
         +I b 1

         +I a null
         +I a 6",
        "+I a 5
         +I b 1
         -U a 5
         +U a 6",
    );
}

#[test]
fn retractions() {
    let mut c = basic();
    c.input_retracts = true;
    check(
        &mut harness(c),
        "+I a 1
         +I a 9
         +I a 4

         -D a 9
         -D zz 1

         -U a 1
         +U a 3

         -D a 4
         -D a 3

         +I a 7
         -D a 7",
        "+I a 3 3 14 4 1 9
         -U a 3 3 14 4 1 9
         +U a 2 2 5 2 1 4
         -U a 2 2 5 2 1 4
         +U a 2 2 7 3 3 4
         -D a 2 2 7 3 3 4",
    );
}

#[test]
fn a_group_that_dies_in_a_bundle_starts_anew() {
    let s = schema(&[("k", DataType::Utf8), ("v", DataType::Float64)]);
    let mut c = config(&s, &["k"], vec![on(&s, f::sum::sum_udaf(), "v")]);
    c.input_retracts = true;
    // 1e300 would swallow the 1 if the sum went on.
    check(
        &mut harness(c),
        "+I a 1e300
         +I a 1
         -D a 1e300
         -D a 1
         +I a 2",
        "+I a 2.0",
    );
}

#[test]
fn distinct_and_filters() {
    let s = ints();
    let calls = vec![
        distinct(&s, f::count::count_udaf(), "v"),
        below(distinct(&s, f::count::count_udaf(), "v"), &s, 5),
        distinct(&s, f::sum::sum_udaf(), "v"),
        below(star(&s), &s, 5),
        below(on(&s, f::sum::sum_udaf(), "v"), &s, 5),
    ];
    let mut c = config(&s, &["k"], calls);
    let script = "+I a 1
         +I a 1
         +I a 8
         +I a null

         +I a 8
         +I a 2
         +I a 1";
    check(
        &mut harness(c.clone()),
        script,
        "+I a 2 1 9 2 2
         -U a 2 1 9 2 2
         +U a 3 2 11 4 5",
    );
    c.input_retracts = true;
    let back = format!(
        "{script}

        -D a 1
        -D a 8

        -D a 8
        -D a 1
        -D a null"
    );
    check(
        &mut harness(c),
        &back,
        "+I a 2 1 9 2 2
         -U a 2 1 9 2 2
         +U a 3 2 11 4 5
         -U a 3 2 11 4 5
         +U a 3 2 11 3 4
         -U a 3 2 11 3 4
         +U a 2 2 3 2 3",
    );
}

#[test]
fn global_aggregate() {
    let s = ints();
    let mut c = config(&s, &[], vec![star(&s), on(&s, f::sum::sum_udaf(), "v")]);
    check(&mut harness(c.clone()), ".", "");
    check(&mut harness(c.clone()), "+I a 1\n+I b 2\n\n+I a 3", "+I 2 3\n-U 2 3\n+U 3 6");
    c.emit_default_row_on_end = true;
    check(&mut harness(c.clone()), ".", "+I 0 null");
    check(&mut harness(c.clone()), "+I a 1\n.", "+I 1 1");
    c.input_retracts = true;
    check(&mut harness(c), "+I a 1\n\n-D a 1\n.", "+I 1 1\n-D 1 1\n+I 0 null");
}

#[test]
fn flink_result_types() {
    let s = schema(&[
        ("k", DataType::Utf8),
        ("i", DataType::Int32),
        ("t", DataType::Int8),
        ("d", DataType::Decimal128(38, 2)),
        ("f", DataType::Float32),
    ]);
    let c = config(
        &s,
        &["k"],
        vec![
            typed(&s, f::sum::sum_udaf(), "i", DataType::Int32),
            typed(&s, f::average::avg_udaf(), "i", DataType::Int32),
            typed(&s, f::sum::sum_udaf(), "t", DataType::Int8),
            typed(&s, f::sum::sum_udaf(), "d", DataType::Decimal128(38, 2)),
            typed(&s, f::average::avg_udaf(), "d", DataType::Decimal128(38, 6)),
            typed(&s, f::sum::sum_udaf(), "f", DataType::Float32),
            typed(&s, f::variance::var_pop_udaf(), "i", DataType::Int32),
        ],
    );
    check(
        &mut harness(c),
        "+I a 2147483647 100 0.01 0.5
         +I a 1 100 0.00 0.25
         +I a -3 0 0.01 null

         +I b -1 0 99999999999999999999999999999999999.99 0
         +I b -2 0 99999999999999999999999999999999999.99 0

         +I b -2 0 900000000000000000000000000000000000.00 0
         +I b -2 0 -999999999999999999999999999999999999.99 0",
        "+I a 2147483645 715827881 -56 0.02 0.006667 0.75 2147483647
         +I b -3 -1 0 199999999999999999999999999999999999.98 null 0.0 0
         -U b -3 -1 0 199999999999999999999999999999999999.98 null 0.0 0
         +U b -7 -1 0 99999999999999999999999999999999999.99 null 0.0 0",
    );
}

#[test]
fn other_aggregates_on_append_only_input() {
    let s = ints();
    let calls = vec![
        on(&s, f::first_last::first_value_udaf(), "v"),
        on(&s, f::first_last::last_value_udaf(), "v"),
        on(&s, f::bit_and_or_xor::bit_or_udaf(), "v"),
        on(&s, f::array_agg::array_agg_udaf(), "v"),
        distinct(&s, f::bit_and_or_xor::bit_xor_udaf(), "v"),
    ];
    let mut c = config(&s, &["k"], calls);
    let mut h = harness(c.clone());
    check(
        &mut h,
        "+I a null
         +I a 1
         +I b 4

         +I a 2
         +I a 1
         | 1 x1
         +I b null
         +I c 5",
        "+I a 1 1 1 '[null, 1]' 1
         +I b 4 4 4 [4] 4
         -U a 1 1 1 '[null, 1]' 1
         +U a 1 1 3 '[null, 1, 2, 1]' 3
         | 1 x1
         -U b 4 4 4 [4] 4
         +U b 4 4 4 '[4, null]' 4
         +I c 5 5 5 [5] 5",
    );
    c.input_retracts = true;
    let e = GroupAggregateOperator::new(c, KeyGroupRange::ALL).unwrap_err();
    assert!(e.message().contains("bit_or(v@1) over updating input is not supported"), "{}", e.message());
}

#[test]
fn planner_mistakes_are_told() {
    let mut c = basic();
    c.aggregates[2] = typed(&ints(), f::sum::sum_udaf(), "v", DataType::Int32);
    c.output_schema = basic().output_schema;
    let e = GroupAggregateOperator::new(c, KeyGroupRange::ALL).unwrap_err();
    assert!(e.message().contains("planned as Int64 but computed as Int32"), "{}", e.message());
    let message = failure(&mut harness(basic()), "-D a 1");
    assert!(message.contains("updates in append-only input"), "{message}");
    assert_eq!(materialize("+I 1\n+I 2\n-D 1"), vec!["2"]);
}
