//! Functions that a program brings along, and those of statements beside them.

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};

use super::*;
use crate::functions::user::UserFunction;

fn plus(n: i64) -> UserFunction {
    let f = UserFunction::builder("plus").parameter("a", "BIGINT").strict();
    f.scalar("BIGINT", move |args, _rows| {
        Ok(Arc::new(args[0].as_primitive::<Int64Type>().unary::<_, Int64Type>(|a| a + n)) as ArrayRef)
    })
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_adds_functions_and_replaces_them() {
    for mode in MODES {
        let mut session = session(mode);
        session.register_function(plus(1)).unwrap();
        let sql = "SELECT plus(a) AS x FROM (VALUES (1), (CAST(NULL AS INT))) AS t(a) WHERE a IS NULL OR plus(a) > 0";
        assert_eq!(lines(&mut session, sql).await, ["", "2"], "{mode}");
        session.register_function(plus(10)).unwrap();
        assert_eq!(lines(&mut session, "SELECT plus(1) AS x").await, ["11"], "{mode}");
        let e = failure(&mut session, "SELECT plus('x')").await;
        assert!(e.contains("its parameters are plus(a BIGINT)"), "{e}");
        let e = failure(&mut session, "SHOW CREATE FUNCTION plus").await;
        assert!(e.contains("was made by the program"), "{e}");
        session.execute_sql("DROP TEMPORARY FUNCTION plus").await.unwrap();
        assert!(failure(&mut session, "SELECT plus(1)").await.contains("No match found"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_of_datafusion_can_be_used() {
    for mode in MODES {
        let mut session = session(mode);
        let double =
            create_udf("double_it", vec![DataType::Int64], DataType::Int64, Volatility::Immutable, {
                Arc::new(|args: &[ColumnarValue]| {
                    let a = args[0].to_array(1)?;
                    Ok(ColumnarValue::Array(Arc::new(
                        a.as_primitive::<Int64Type>().unary::<_, Int64Type>(|a| 2 * a),
                    ) as ArrayRef))
                })
            });
        session.register_function(UserFunction::from_scalar(double)).unwrap();
        let median = datafusion::functions_aggregate::median::median_udaf();
        session.register_function(UserFunction::from_aggregate(median.as_ref().clone())).unwrap();
        let rows = batch(vec![("a", Arc::new(Int64Array::from(vec![1, 2, 9])) as ArrayRef)]);
        session.register_table("t", in_memory(&rows)).await.unwrap();
        assert_eq!(lines(&mut session, "SELECT double_it(a) AS x FROM t").await, ["18", "2", "4"], "{mode}");
        let last = lines(&mut session, "SELECT MEDIAN(a) AS m FROM t").await;
        assert!(last.contains(&"2.0".to_owned()), "{mode}: {last:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_does_not_fit_is_a_defect_of_the_program() {
    let mut session = session("batch");
    let f = UserFunction::builder("wrong").parameter("a", "BIGINT");
    let f = f.scalar("BIGINT", |_args, _rows| Ok(Arc::new(Int64Array::from(vec![1])) as ArrayRef)).unwrap();
    session.register_function(f).unwrap();
    let query = session.query("SELECT wrong(a) FROM (VALUES (1), (2)) AS t(a)").await.unwrap();
    let e = query.collect().await.unwrap_err();
    assert!(e.message().contains("function wrong: 1 results for 2 rows"), "{e}");
    let taken = UserFunction::builder("concat")
        .parameter("a", "STRING")
        .scalar("STRING", |args, _| Ok(Arc::clone(&args[0])));
    let e = session.register_function(taken.unwrap()).unwrap_err();
    assert!(e.to_string().contains("CONCAT is a built-in function"), "{e}");
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_go_with_their_database() {
    let mut session = session("batch");
    for sql in [
        "CREATE DATABASE d",
        "CREATE FUNCTION d.f(a INT) RETURNS INT LANGUAGE SQL AS 'a + 1'",
        "CREATE TEMPORARY FUNCTION d.g(a INT) RETURNS INT LANGUAGE SQL AS 'd.f(a) + 1'",
    ] {
        session.execute_sql(sql).await.unwrap();
    }
    assert_eq!(lines(&mut session, "SELECT d.f(1) AS x, d.g(1) AS y").await, ["2 3"]);
    session.execute_sql("DROP DATABASE d CASCADE").await.unwrap();
    assert!(failure(&mut session, "SELECT d.f(1)").await.contains("No match found"));
    let e = failure(&mut session, "CREATE FUNCTION nowhere.f(a INT) RETURNS INT LANGUAGE SQL AS 'a'").await;
    assert!(e.contains("nowhere"), "{e}");
}
