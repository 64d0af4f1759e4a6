use arrow::compute::SortOptions;
use arrow::datatypes::{Field, Schema};
use datafusion::common::DFSchema;
use datafusion::execution::context::ExecutionProps;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::functions_window::expr_fn::lead;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{Expr, ExprFunctionExt, WindowFrame, col};
use datafusion::physical_planner::create_window_expr;

use super::*;
use crate::operators::harness::{OperatorHarness, check, materialize};

fn input() -> SchemaRef {
    let field = |n: &str, ty| Field::new(n, ty, true);
    Arc::new(Schema::new(vec![
        field("k", DataType::Utf8),
        field("v", DataType::Int64),
        field("id", DataType::Int64),
    ]))
}

/// SUM(v) in the order of v, and the id of the row behind.
fn config(bundle_rows: Option<usize>) -> UpdatingOverConfig {
    let schema = input();
    let df = DFSchema::try_from(schema.as_ref().clone()).unwrap();
    let order = || vec![col("v").sort(true, true)];
    let frame = WindowFrame::new(Some(false));
    let functions = [
        Expr::from(WindowFunction::new(sum_udaf(), vec![col("v")]))
            .partition_by(vec![col("k")])
            .order_by(order())
            .window_frame(frame)
            .build()
            .unwrap(),
        lead(col("id"), Some(1), None).partition_by(vec![col("k")]).order_by(order()).build().unwrap(),
    ];
    let functions: Vec<_> =
        functions.iter().map(|e| create_window_expr(e, &df, &ExecutionProps::new()).unwrap()).collect();
    let mut fields: Vec<Field> = schema.fields().iter().map(|f| f.as_ref().clone()).collect();
    fields.extend(["sum", "next"].map(|n| Field::new(n, DataType::Int64, true)));
    UpdatingOverConfig {
        input_schema: schema,
        output_schema: Arc::new(Schema::new(fields)),
        partition: vec![0],
        order: vec![SortColumn { column: 1, options: SortOptions { descending: false, nulls_first: true } }],
        functions,
        emit_update_before: true,
        bundle_rows,
        ttl_ms: None,
    }
}

fn harness(config: UpdatingOverConfig) -> OperatorHarness {
    OperatorHarness::new(input(), &[0], move |_| Ok(Box::new(UpdatingOverOperator::new(config.clone())?)))
}

#[test]
fn rows_that_come_before_others_change_their_results() {
    check(
        &mut harness(config(Some(1))),
        "+I a 10 1
         +I b 20 2
         +I a 30 3
         +I a 5 4",
        "+I a 10 1 10 null
         +I b 20 2 20 null
         -U a 10 1 10 null
         +U a 10 1 10 3
         +I a 30 3 40 null
         +I a 5 4 5 1
         -U a 10 1 10 3
         +U a 10 1 15 3
         -U a 30 3 40 null
         +U a 30 3 45 null",
    );
}

#[test]
fn a_bundle_shows_what_is_left_of_it() {
    check(
        &mut harness(config(None)),
        "+I a 10 1
         +I a 30 3
         -D a 10 1
         +I a 5 4
         -D z 1 1",
        "+I a 5 4 5 3
         +I a 30 3 35 null",
    );
    let mut c = config(None);
    c.emit_update_before = false;
    check(
        &mut harness(c),
        "+I a 10 1

         +I a 5 2
         -U a 10 1
         +U a 20 1

         -D a 5 2
         -D a 20 1",
        "+I a 10 1 10 null
         -D a 10 1 10 null
         +I a 5 2 5 1
         +I a 20 1 25 null
         -D a 5 2 5 1
         -D a 20 1 25 null",
    );
}

#[test]
fn nulls_stand_first_and_equal_rows_as_they_came() {
    check(
        &mut harness(config(None)),
        "+I null 5 1
         +I null null 2
         +I null 5 3
         +I null 5 3
         | 1 x3
         -D null 5 3",
        "+I null null 2 null 1
         +I null 5 1 15 3
         +I null 5 3 15 3
         +I null 5 3 15 null
         | 1 x3
         -D null 5 3 15 3
         -U null 5 1 15 3
         +U null 5 1 10 3
         -U null 5 3 15 null
         +U null 5 3 10 null",
    );
}

#[test]
fn a_partition_is_forgotten_after_its_time() {
    let mut c = config(None);
    c.ttl_ms = Some(60_000);
    let mut h = harness(c);
    h.run("@ 00:00:00\n+I a 1 1\n+I b 1 1\n@ 00:00:50\n+I b 2 2\n@ 00:01:55");
    assert_eq!(h.metrics().state_entries, 0);
    assert_eq!(h.run("+I a 3 3"), "+I a 3 3 3 null");
}

#[test]
fn whatever_the_bundles_and_restores_the_last_results_are_those_of_the_rows_that_are_left() {
    // A pseudo-random history of rows that come and go.
    let (mut state, mut rows, mut script) = (7_u64, Vec::<String>::new(), Vec::new());
    let mut next = |n: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % n
    };
    for id in 0..300 {
        if !rows.is_empty() && next(3) == 0 {
            let row = rows.swap_remove(next(rows.len() as u64) as usize);
            script.push(format!("-D {row}"));
        } else {
            let v = if next(8) == 0 { "null".to_owned() } else { next(20).to_string() };
            let row = format!("{} {v} {id}", ["a", "b", "null"][next(3) as usize]);
            rows.push(row.clone());
            script.push(format!("+I {row}"));
        }
    }
    // Sums and rows behind, from the rows that are left.
    let of = |row: &str| -> (String, Option<i64>, i64) {
        let mut words = row.split(' ');
        let k = words.next().unwrap().to_owned();
        (k, words.next().unwrap().parse().ok(), words.next().unwrap().parse().unwrap())
    };
    let mut sums = Vec::new();
    for row in &rows {
        let (k, v, id) = of(row);
        let peers = rows.iter().map(|r| of(r)).filter(|(k2, v2, _)| *k2 == k && *v2 <= v);
        let sum = peers.filter_map(|(_, v, _)| v).reduce(|a, b| a + b);
        let text = |n: Option<i64>| n.map_or("null".to_owned(), |n| n.to_string());
        sums.push(format!("{k} {} {id} {}", text(v), text(sum)));
    }
    sums.sort();
    for bundle in [Some(1), Some(7), None] {
        for every in [0, 10] {
            let lines: Vec<String> = script
                .iter()
                .enumerate()
                .map(|(i, line)| {
                    if every > 0 && i % every == 0 {
                        format!("| {} x{}\n{line}", i + 1, i % 3 + 1)
                    } else {
                        line.clone()
                    }
                })
                .collect();
            let out = harness(config(bundle)).run(&lines.join("\n"));
            let mut left: Vec<String> = materialize(&out)
                .iter()
                .map(|row| row.rsplit_once(' ').unwrap().0.trim_start_matches("+I ").to_owned())
                .collect();
            left.sort();
            assert_eq!(left, sums, "{bundle:?} {every}");
        }
    }
}
