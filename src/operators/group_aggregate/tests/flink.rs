//! Changelogs as Apache Flink 2.3.0 printed them for the same rows, without mini-batch, at parallelism 1.

use super::*;

/// A function with Flink's types over a column.
fn flink(schema: &SchemaRef, name: &str, arg: &str, distinct: bool) -> AggregateCall {
    let udaf = crate::functions::aggregate_functions().into_iter().find(|f| f.name() == name);
    let builder = AggregateExprBuilder::new(udaf.unwrap(), vec![col(arg, schema).unwrap()]);
    let expr = builder.schema(schema.clone()).alias("x").with_distinct(distinct).build().unwrap();
    AggregateCall::new(Arc::new(expr), None)
}

fn one_by_one(mut config: GroupAggregateConfig) -> OperatorHarness {
    config.bundle_rows = Some(1);
    harness(config)
}

const ROWS: &str = "+I a 1
                    +I b 7
                    +I a 4
                    +I a 4
                    +I b null
                    +I a 2";

/// Table t of the queries below: k STRING, v INT.
fn t() -> SchemaRef {
    schema(&[("k", DataType::Utf8), ("v", DataType::Int32)])
}

#[test]
fn all_kinds_of_calls() {
    let s = t();
    let count = || distinct(&s, f::count::count_udaf(), "v");
    let mut low = count();
    low.filter = Some(binary(col("v", &s).unwrap(), BinaryOperator::Lt, lit(4_i32), &s).unwrap());
    let calls = vec![
        star(&s),
        on(&s, f::count::count_udaf(), "v"),
        flink(&s, "sum", "v", false),
        flink(&s, "avg", "v", false),
        on(&s, f::min_max::min_udaf(), "v"),
        on(&s, f::min_max::max_udaf(), "v"),
        count(),
        low,
    ];
    check(
        &mut one_by_one(config(&s, &["k"], calls)),
        ROWS,
        "+I a 1 1 1 1 1 1 1 1
         +I b 1 1 7 7 7 7 1 0
         -U a 1 1 1 1 1 1 1 1
         +U a 2 2 5 2 1 4 2 1
         -U a 2 2 5 2 1 4 2 1
         +U a 3 3 9 3 1 4 2 1
         -U b 1 1 7 7 7 7 1 0
         +U b 2 1 7 7 7 7 1 0
         -U a 3 3 9 3 1 4 2 1
         +U a 4 4 11 2 1 4 3 2",
    );
}

#[test]
fn first_last_and_distinct_sum() {
    let s = t();
    let calls = vec![
        flink(&s, "first_value", "v", false),
        flink(&s, "last_value", "v", false),
        flink(&s, "sum", "v", true),
    ];
    check(
        &mut one_by_one(config(&s, &["k"], calls)),
        ROWS,
        "+I a 1 1 1
         +I b 7 7 7
         -U a 1 1 1
         +U a 1 4 5
         -U a 1 4 5
         +U a 1 2 7",
    );
}

/// SELECT mx, COUNT(*), SUM(s), MIN(s) FROM (SELECT k, MAX(v) mx, SUM(v) s FROM t GROUP BY k) GROUP BY mx
#[test]
fn aggregate_of_an_aggregate() {
    let s = t();
    let mut inner =
        config(&s, &["k"], vec![on(&s, f::min_max::max_udaf(), "v"), flink(&s, "sum", "v", false)]);
    inner.output = vec![GroupOutput::Aggregate(0), GroupOutput::Aggregate(1)];
    let middle = schema(&[("mx", DataType::Int32), ("s", DataType::Int32)]);
    inner.output_schema = middle.clone();
    let changes = one_by_one(inner).run(ROWS);
    let calls =
        vec![star(&middle), flink(&middle, "sum", "s", false), on(&middle, f::min_max::min_udaf(), "s")];
    let mut outer = config(&middle, &["mx"], calls);
    outer.input_retracts = true;
    check(
        &mut one_by_one(outer),
        &changes,
        "+I 1 1 1 1
         +I 7 1 7 7
         -D 1 1 1 1
         +I 4 1 5 5
         -D 4 1 5 5
         +I 4 1 9 9
         -D 4 1 9 9
         +I 4 1 11 11",
    );
}

#[test]
fn numbers() {
    let s = schema(&[("d", DataType::Decimal128(3, 2)), ("i", DataType::Int32), ("f", DataType::Float32)]);
    let calls = vec![
        flink(&s, "sum", "d", false),
        flink(&s, "avg", "d", false),
        flink(&s, "stddev_pop", "d", false),
        flink(&s, "sum", "i", false),
        flink(&s, "avg", "i", false),
        flink(&s, "sum", "f", false),
    ];
    check(
        &mut one_by_one(config(&s, &[], calls)),
        "+I 1.10 2147483647 0.1
         +I 2.25 1 0.2
         +I 2.26 -3 0.7",
        "+I 1.10 1.100000 0.000000 2147483647 2147483647 0.1
         -U 1.10 1.100000 0.000000 2147483647 2147483647 0.1
         +U 3.35 1.675000 0.575000 -2147483648 1073741824 0.3
         -U 3.35 1.675000 0.575000 -2147483648 1073741824 0.3
         +U 5.61 1.870000 0.544488 2147483645 715827881 1.0",
    );
}
