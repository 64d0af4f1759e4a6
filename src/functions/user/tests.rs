use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Decimal128Array, Int32Array, Int64Array, ListArray, StringArray, StructArray,
};
use arrow::datatypes::{DataType, Field, Fields, Int32Type, TimeUnit};

use super::engine::Engine;
use super::pool::Pool;
use super::wire::{from_wire, to_wire, wire_type};
use super::{UserFunction, check_types};
use crate::error::{Error, Result};
use crate::sql::ast::Statement;
use crate::sql::parse_script;

#[test]
fn arguments_are_taken_where_nothing_is_lost() {
    use DataType as D;
    let decimal = D::Decimal128;
    let list = |t: DataType| D::List(Arc::new(Field::new_list_field(t, true)));
    for (from, to) in [
        (D::Null, D::Utf8),
        (D::Int8, D::Int64),
        (D::Int64, D::Float64),
        (D::Float32, D::Float64),
        (D::Int32, decimal(10, 0)),
        (decimal(10, 2), decimal(12, 4)),
        (decimal(38, 2), D::Float64),
        (D::Date32, D::Timestamp(TimeUnit::Millisecond, None)),
        (D::Timestamp(TimeUnit::Millisecond, None), D::Timestamp(TimeUnit::Nanosecond, None)),
        (list(D::Int32), list(D::Int64)),
    ] {
        assert!(check_types(&from, &to), "{from} → {to}");
        assert!(!check_types(&to, &from) || to == from, "{to} → {from}");
    }
    for (from, to) in [
        (D::Int64, decimal(18, 0)),
        (decimal(10, 2), decimal(10, 4)),
        (D::Utf8, D::Int32),
        (D::Int32, D::Utf8),
        (D::Boolean, D::Int32),
        (list(D::Utf8), list(D::Int32)),
    ] {
        assert!(!check_types(&from, &to), "{from} → {to}");
    }
}

#[test]
fn columns_go_over_the_wire_and_back() {
    let decimals: ArrayRef = Arc::new(
        Decimal128Array::from(vec![Some(-5), None, Some(i128::from(i64::MAX))])
            .with_precision_and_scale(38, 3)
            .unwrap(),
    );
    let numbers: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3]));
    let fields = Fields::from(vec![
        Field::new("d", decimals.data_type().clone(), true),
        Field::new("n", DataType::Int32, false),
    ]);
    let rows: ArrayRef = Arc::new(StructArray::try_new(fields, vec![decimals, numbers], None).unwrap());
    let item = Arc::new(Field::new_list_field(rows.data_type().clone(), true));
    let offsets = arrow::buffer::OffsetBuffer::from_lengths([2, 0, 1]);
    let list: ArrayRef = Arc::new(ListArray::try_new(item, offsets, rows, None).unwrap());
    let wired = to_wire(&list).unwrap();
    assert_eq!(*wired.data_type(), wire_type(list.data_type()));
    assert_eq!(&from_wire(&wired, list.data_type()).unwrap(), &list);
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("2024-01-01"), None, Some("soon")]));
    let e = from_wire(&texts, &DataType::Date32).unwrap_err();
    assert_eq!(e.message(), "'soon' is no DATE");
}

#[test]
fn a_worker_that_broke_is_not_used_again() {
    let pool = Pool::default();
    let mut made = 0;
    let mut run = |fails: bool, whole: bool| {
        pool.with(
            || {
                made += 1;
                Ok(made)
            },
            |_| whole,
            |worker| if fails { Err(Error::data("no")) } else { Ok(*worker) },
        )
    };
    assert_eq!(run(false, true).unwrap(), 1);
    assert_eq!(run(false, true).unwrap(), 1);
    assert!(run(true, true).is_err());
    assert_eq!(run(false, true).unwrap(), 1);
    assert!(run(true, false).is_err());
    assert_eq!(run(false, true).unwrap(), 2);
}

fn create(sql: &str) -> Result<UserFunction> {
    let statement = parse_script(sql)?.remove(0).statement;
    let Statement::CreateFunction(create) = statement else { panic!("{sql}") };
    UserFunction::create(&create, ("c".into(), "d".into()))
}

/// An engine of JavaScript for a function.
fn engine(sql: &str) -> super::javascript::JavaScript {
    let statement = parse_script(sql).unwrap().remove(0).statement;
    let Statement::CreateFunction(create) = statement else { panic!("{sql}") };
    let signature = create_signature(&create);
    super::javascript::JavaScript::new(&create, &signature).unwrap()
}

fn create_signature(create: &crate::sql::ast::CreateFunction) -> Arc<super::Signature> {
    Arc::new(super::Signature {
        name: create.name.parts.last().unwrap().clone(),
        parameters: create.parameters.clone(),
        returns: create.returns.clone(),
        volatility: datafusion::logical_expr::Volatility::Immutable,
        strict: create.strict,
        language: Some(create.language),
    })
}

#[test]
fn threads_have_interpreters_of_their_own() {
    let f = "CREATE FUNCTION f(a INT) RETURNS INT LANGUAGE JAVASCRIPT AS $$ function f(a) { let s = 0; for (let i = 0; i < 1000; i++) s += a; return s } $$";
    let engine = engine(f);
    std::thread::scope(|scope| {
        for t in 0..4 {
            let engine = &engine;
            scope.spawn(move || {
                for _ in 0..20 {
                    let args: ArrayRef = Arc::new(Int32Array::from_iter_values(0..100 + t));
                    let out = engine.call(&[args], 100 + t as usize).unwrap();
                    let expected: Vec<i32> = (0..100 + t).map(|a| a * 1000).collect();
                    assert_eq!(out.as_primitive::<Int32Type>().values(), &expected[..]);
                }
            });
        }
    });
}

#[test]
fn a_loop_ends_and_the_function_goes_on() {
    let f = "CREATE FUNCTION f(a INT) RETURNS INT LANGUAGE JAVASCRIPT AS $$ function f(a) { while (a === 2) ; return a } $$ WITH ('timeout' = '200 ms')";
    let engine = engine(f);
    let args: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3]));
    let e = engine.call(&[args], 3).unwrap_err();
    assert_eq!(e.message(), "function f: a batch took longer than 200 ms, in row 2 of its batch: f(2)");
    let args: ArrayRef = Arc::new(Int32Array::from(vec![1, 3]));
    assert_eq!(engine.call(&[args], 2).unwrap().as_primitive::<Int32Type>().values(), &[1, 3]);
}

#[test]
fn what_a_script_lacks_is_told_with_its_place() {
    let e =
        create("CREATE FUNCTION f(a INT) RETURNS INT LANGUAGE JAVASCRIPT AS $$\n\n  x.y; $$").unwrap_err();
    assert_eq!(e.location().map(|l| l.line), Some(3), "{e}");
    assert!(e.message().contains("ReferenceError: x is not defined"), "{e}");
    let e = create("CREATE FUNCTION f(a INT) RETURNS INT LANGUAGE JAVASCRIPT AS 'let g = 1'").unwrap_err();
    assert!(e.to_string().contains("write function f(a) { … }"), "{e}");
}

#[test]
fn functions_of_a_program_are_held_to_their_types() {
    let short = UserFunction::builder("f")
        .parameter("a", "BIGINT")
        .scalar("BIGINT", |_args, _rows| Ok(Arc::new(Int64Array::from(vec![1])) as ArrayRef));
    assert_eq!(short.unwrap().describe(), "f(a BIGINT) RETURNS BIGINT");
    let refused = UserFunction::builder("f")
        .parameter("a", "VARCHAR(3)")
        .scalar("INT", |args, _| Ok(Arc::clone(&args[0])));
    assert!(refused.unwrap_err().message().contains("VARCHAR(3)"));
    let refused =
        UserFunction::builder("f").parameter("a", "NUMBER").scalar("INT", |args, _| Ok(Arc::clone(&args[0])));
    assert!(refused.is_err());
}
