//! Nodes over batches of rows that are wide, or get wide.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array, ListBuilder, RecordBatch, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::common::UnnestOptions;
use datafusion::logical_expr::Operator;
use datafusion::physical_plan::expressions::{BinaryExpr, col, lit};
use datafusion::physical_plan::unnest::ListUnnest;
use datafusion::physical_plan::{Partitioning, collect};

use super::fitted::{Width, rows_that_fit};
use super::*;

/// Rows `from..to` with a text of `bytes` each.
fn rows(from: i32, to: i32, bytes: usize) -> RecordBatch {
    let n: ArrayRef = Arc::new(Int32Array::from_iter_values(from..to));
    let s: ArrayRef = Arc::new(StringArray::from_iter_values((from..to).map(|_| "x".repeat(bytes))));
    RecordBatch::try_from_iter([("n", n), ("s", s)]).unwrap()
}

/// A plan over one partition.
fn scan(batches: Vec<RecordBatch>) -> Node {
    let schema = batches[0].schema();
    MemorySourceConfig::try_new_exec(&[batches], schema, None).unwrap()
}

/// The batches of a plan, all of whose rows come, in order.
async fn run(plan: Node) -> Vec<RecordBatch> {
    collect(bounded(plan, 8192).unwrap(), Arc::default()).await.unwrap()
}

fn lengths(batches: &[RecordBatch]) -> Vec<usize> {
    batches.iter().map(RecordBatch::num_rows).collect()
}

fn numbers(batches: &[RecordBatch]) -> Vec<i32> {
    batches.iter().flat_map(|b| b.column(0).as_primitive::<Int32Type>().values().to_vec()).collect()
}

fn even(schema: &Schema) -> Arc<dyn datafusion::physical_plan::PhysicalExpr> {
    let half = BinaryExpr::new(col("n", schema).unwrap(), Operator::Modulo, lit(2));
    Arc::new(BinaryExpr::new(Arc::new(half), Operator::Eq, lit(0)))
}

#[tokio::test]
async fn a_filter_waits_for_rows_or_for_bytes() {
    let over = |batches: Vec<RecordBatch>| -> Node {
        let condition = even(&batches[0].schema());
        Arc::new(FilterExec::try_new(condition, scan(batches)).unwrap())
    };
    let narrow = run(over((0..10).map(|i| rows(i * 1000, (i + 1) * 1000, 1)).collect())).await;
    assert_eq!(lengths(&narrow), [5000]);
    // Four texts of 2 MB make a batch, and a row of 20 MB is one.
    let wide = (0..10).map(|i| rows(i * 2, i * 2 + 2, 2 << 20)).chain([rows(20, 22, 20 << 20)]);
    let wide = run(over(wide.collect())).await;
    assert_eq!(lengths(&wide), [3, 3, 3, 1, 1]);
    assert_eq!(numbers(&wide), (0..22).step_by(2).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_exchange_counts_bytes_too() {
    let batches = (0..40).map(|i| rows(i, i + 1, 1 << 20)).collect();
    let key = vec![col("n", &rows(0, 1, 1).schema()).unwrap()];
    let exchange = RepartitionExec::try_new(scan(batches), Partitioning::Hash(key, 2)).unwrap();
    let batches = run(Arc::new(exchange)).await;
    assert!(lengths(&batches).into_iter().all(|n| n <= 8), "{:?}", lengths(&batches));
    let mut all = numbers(&batches);
    all.sort_unstable();
    assert_eq!(all, (0..40).collect::<Vec<_>>());
}

#[tokio::test]
async fn texts_that_grow_make_more_batches() {
    let concat = crate::functions::scalar_functions(&crate::functions::FunctionContext::default());
    let concat = concat.into_iter().find(|f| f.name() == "concat").unwrap();
    let input = scan(vec![rows(0, 16, 1 << 20)]);
    let s = || col("s", &input.schema()).unwrap();
    let field = Arc::new(Field::new("t", DataType::Utf8, true));
    let options = Arc::default();
    let args = (0..6).map(|_| s()).collect();
    let grown = datafusion::physical_expr::ScalarFunctionExpr::new("concat", concat, args, field, options);
    let exprs: Vec<(Arc<dyn datafusion::physical_plan::PhysicalExpr>, String)> =
        vec![(col("n", &input.schema()).unwrap(), "n".into()), (Arc::new(grown), "t".into())];
    let batches = run(Arc::new(ProjectionExec::try_new(exprs, input).unwrap())).await;
    // A text of 6 MB is a batch.
    assert_eq!(lengths(&batches), [1; 16]);
    assert_eq!(numbers(&batches), (0..16).collect::<Vec<_>>());
    assert!(batches.iter().all(|b| b.column(1).as_string::<i32>().value(0).len() == 6 << 20));
}

#[tokio::test]
async fn unnest_copies_wide_rows_a_few_at_a_time() {
    let mut list = ListBuilder::new(StringBuilder::new());
    for n in [20, 0, 1] {
        (0..n).for_each(|i| list.values().append_value(format!("e{i}")));
        list.append(true);
    }
    let wide = rows(0, 3, 1 << 20);
    let columns = [
        ("n", wide.column(0).clone()),
        ("l", Arc::new(list.finish()) as ArrayRef),
        ("s", wide.column(1).clone()),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let schema = Arc::new(Schema::new(vec![
        batch.schema().field(0).clone(),
        Field::new("l", DataType::Utf8, true),
        batch.schema().field(2).clone(),
    ]));
    let list = vec![ListUnnest { index_in_input_schema: 1, depth: 1 }];
    let unnest = UnnestExec::new(scan(vec![batch]), list, vec![], schema, UnnestOptions::default()).unwrap();
    let batches = run(Arc::new(unnest)).await;
    assert_eq!(lengths(&batches), [7, 7, 7]);
    let elements: Vec<&str> =
        batches.iter().flat_map(|b| b.column(1).as_string::<i32>().iter().flatten()).collect();
    let expected: Vec<String> = (0..20).map(|i| format!("e{i}")).chain(["e0".to_owned()]).collect();
    assert_eq!(elements, expected);
    assert_eq!(numbers(&batches), [vec![0; 20], vec![2]].concat());
}

#[tokio::test]
async fn a_join_puts_as_many_rows_into_a_batch_as_fit() {
    // Every row of 40 meets every one of 40.
    let left = scan(vec![rows(0, 40, 100 << 10)]);
    let join: Node = Arc::new(CrossJoinExec::new(left, scan(vec![rows(0, 40, 100 << 10)])));
    let batches = run(join).await;
    let lengths = lengths(&batches);
    assert_eq!(lengths.iter().sum::<usize>(), 1600);
    assert!(lengths.iter().all(|n| *n <= 80), "{lengths:?}");
}

#[test]
fn rows_per_batch_follow_the_widest_input() {
    let width = |average, widest| Width { average, widest };
    assert_eq!(rows_that_fit(&[width(100, 200), width(20, 30)], 8192), 8192);
    assert_eq!(rows_that_fit(&[width(1 << 20, 1 << 20), width(1 << 20, 1 << 20)], 8192), 8);
    assert_eq!(rows_that_fit(&[width(100, 1 << 20)], 8192), 512);
    assert_eq!(rows_that_fit(&[width(1 << 30, 1 << 30)], 8192), 1);
    assert_eq!(rows_that_fit(&[], 8192), 8192);
}
