//! Values without a database; `sql-tests/e2e/databases.rs` has the rest, on real ones.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Float32Array, Float64Array, Int32Array,
    StringArray, Time32MillisecondArray, TimestampMicrosecondArray, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit, TimestampMicrosecondType};

use super::dialect::Dialect;
use super::values::{Cells, Literals};

fn written(columns: &[ArrayRef], dialect: Dialect) -> Vec<String> {
    let literals = Literals::new(columns, dialect).unwrap();
    (0..columns[0].len())
        .map(|row| {
            let mut out = String::new();
            literals.write_row(row, &mut out).unwrap();
            out
        })
        .collect()
}

#[test]
fn values_become_literals() {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![Some(-1), None])),
        Arc::new(BooleanArray::from(vec![true, false])),
        Arc::new(StringArray::from(vec!["it's", ""])),
        Arc::new(BinaryArray::from_vec(vec![b"\0\xff", b""])),
        Arc::new(Decimal128Array::from(vec![-1234, 5]).with_precision_and_scale(10, 2).unwrap()),
        Arc::new(Float32Array::from(vec![0.1, 1e30])),
        Arc::new(Float64Array::from(vec![0.1, -0.0])),
        Arc::new(Time32MillisecondArray::from(vec![3_723_004, 0])),
        Arc::new(TimestampMicrosecondArray::from(vec![-1, 0])),
        Arc::new(TimestampMillisecondArray::from(vec![1, 0]).with_timezone("UTC")),
    ];
    assert_eq!(
        written(&columns, Dialect::Postgres),
        [
            "(-1, TRUE, 'it''s', '\\x00ff'::bytea, -12.34, 1e-1, 1e-1, '01:02:03.004', '1969-12-31 23:59:59.999999', '1970-01-01 00:00:00.001')",
            "(NULL, FALSE, '', '\\x'::bytea, 0.05, 1e30, -0e0, '00:00:00', '1970-01-01 00:00:00', '1970-01-01 00:00:00')",
        ]
    );
    assert!(written(&columns[..4], Dialect::Mysql)[0].ends_with("'it''s', x'00ff')"));
    let nan: Vec<ArrayRef> = vec![Arc::new(Float64Array::from(vec![f64::NAN, f64::NEG_INFINITY]))];
    assert_eq!(written(&nan, Dialect::Postgres), ["('NaN'::float8)", "('-Infinity'::float8)"]);
    assert!(Literals::new(&nan, Dialect::Mysql).unwrap().write(0, 0, &mut String::new()).is_err());
    let zero: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec!["a\0b"]))];
    assert!(Literals::new(&zero, Dialect::Postgres).unwrap().write(0, 0, &mut String::new()).is_err());
}

#[test]
fn cells_become_values_or_errors() {
    let one = |cell: &[u8], ty: DataType, dialect| {
        let schema = Arc::new(Schema::new(vec![Field::new("c", ty, true)]));
        let mut cells = Cells::new(1);
        cells.push(0, Some(cell));
        cells.push(0, None);
        cells.finish(&schema, dialect).map(|batch| batch.column(0).clone())
    };
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let found = one(b"9999-12-31 23:59:59.5", time.clone(), Dialect::Postgres).unwrap();
    assert_eq!(found.as_primitive::<TimestampMicrosecondType>().value(0), 253_402_300_799_500_000);
    assert!(found.is_null(1));
    let found = one(b"\\x00fF", DataType::Binary, Dialect::Postgres).unwrap();
    assert_eq!(found.as_binary::<i32>().value(0), b"\0\xff");
    for (cell, ty) in [
        (&b"x"[..], DataType::Int32),
        (b"300", DataType::Int8),
        (b"0000-00-00 00:00:00", time),
        (b"maybe", DataType::Boolean),
        (b"\xff\xfe", DataType::Utf8),
        (b"\\x0g", DataType::Binary),
    ] {
        let e = one(cell, ty, Dialect::Postgres).unwrap_err();
        assert_eq!(e.kind(), crate::error::ErrorKind::Data, "{e}");
        assert!(e.to_string().contains("column `c`"), "{e}");
    }
    let schema = Arc::new(Schema::new(vec![Field::new("c", DataType::Int32, false)]));
    let mut cells = Cells::new(1);
    cells.push(0, None);
    let e = cells.finish(&schema, Dialect::Mysql).unwrap_err().to_string();
    assert!(e.contains("NOT NULL"), "{e}");
}
