use arrow::array::{Array, AsArray};
use arrow::compute::{max, min};
use arrow::datatypes::*;

use crate::connectors::synthetic::tests::{drain, env, read_all, sorted_rows, table};
use crate::types::{LogicalType, RowField, TypeRoot};

use super::*;

fn nullable(root: TypeRoot) -> LogicalType {
    LogicalType::nullable(root)
}

fn datagen(columns: &[(&str, LogicalType)], options: &[(&str, &str)]) -> Result<Arc<dyn Source>> {
    let mut all = vec![("connector", "datagen"), ("rows-per-second", "100000000"), ("seed", "1")];
    all.retain(|(k, _)| !options.iter().any(|(o, _)| o == k));
    all.extend_from_slice(options);
    DatagenFactory.source(&table(columns, &all), &env())
}

async fn rows(columns: &[(&str, LogicalType)], options: &[(&str, &str)]) -> RecordBatch {
    let source = datagen(columns, options).unwrap();
    let mut readers = source.readers(ScanRequest::default(), 1, None).await.unwrap();
    let batches = drain(&mut readers, usize::MAX).await;
    arrow::compute::concat_batches(&source.schema(), &batches).unwrap()
}

fn error(columns: &[(&str, LogicalType)], options: &[(&str, &str)]) -> String {
    datagen(columns, options).unwrap_err().to_string()
}

/// A column of every type.
fn every_type() -> Vec<(&'static str, LogicalType)> {
    use TypeRoot as T;
    let row = T::Row(vec![
        RowField { name: "x".into(), ty: nullable(T::Int), comment: None },
        RowField { name: "y".into(), ty: nullable(T::Array(Box::new(nullable(T::Double)))), comment: None },
    ]);
    vec![
        ("bo", nullable(T::Boolean)),
        ("i1", nullable(T::TinyInt)),
        ("i2", nullable(T::SmallInt)),
        ("i4", nullable(T::Int)),
        ("i8", nullable(T::BigInt)),
        ("f4", nullable(T::Float)),
        ("f8", nullable(T::Double)),
        ("de", nullable(T::Decimal(38, 10))),
        ("d2", nullable(T::Decimal(5, 5))),
        ("ch", nullable(T::Char(7))),
        ("vc", nullable(T::Varchar(9))),
        ("st", LogicalType::string()),
        ("bi", nullable(T::Binary(3))),
        ("by", nullable(T::Varbinary(crate::types::MAX_LENGTH))),
        ("da", nullable(T::Date)),
        ("ti", nullable(T::Time(0))),
        ("t3", nullable(T::Timestamp(3))),
        ("t9", nullable(T::Timestamp(9))),
        ("l3", nullable(T::TimestampLtz(3))),
        ("l6", nullable(T::TimestampLtz(6))),
        ("ym", nullable(T::IntervalYearMonth)),
        ("dt", nullable(T::IntervalDayTime)),
        ("ar", nullable(T::Array(Box::new(nullable(T::Array(Box::new(LogicalType::string()))))))),
        ("ms", nullable(T::Multiset(Box::new(nullable(T::Int))))),
        ("ma", nullable(T::Map(Box::new(LogicalType::string()), Box::new(nullable(row.clone()))))),
        ("ro", nullable(row)),
    ]
}

#[tokio::test]
async fn every_type_is_the_same_at_any_parallelism_and_after_any_restore() {
    let options = [("number-of-rows", "3001"), ("base-time", "2024-01-01"), ("fields.t3.max-past", "1 d")];
    let source = datagen(&every_type(), &options).unwrap();
    assert!(source.bounded());
    let expected = sorted_rows(&read_all(source.as_ref(), 1, 0, 1).await);
    assert_eq!(expected.len(), 3001);
    for (before, cut, after) in [(3, 0, 3), (2, 1, 4), (4, 1, 1)] {
        let found = sorted_rows(&read_all(source.as_ref(), before, cut, after).await);
        assert!(found == expected, "{before} readers, {after} after {cut} batches");
    }
    let other = datagen(&every_type(), &[("number-of-rows", "3001"), ("seed", "2")]).unwrap();
    assert!(sorted_rows(&read_all(other.as_ref(), 1, 0, 1).await) != expected);
}

#[tokio::test]
async fn defaults_are_flinks() {
    let all = rows(&every_type(), &[("number-of-rows", "2000")]).await;
    let lengths = |name: &str| {
        let texts = all.column_by_name(name).unwrap().as_string::<i32>();
        assert!(texts.iter().flatten().all(|t| t.bytes().all(|b| b.is_ascii_hexdigit())));
        let mut all: Vec<usize> = texts.iter().flatten().map(str::len).collect();
        all.dedup();
        all
    };
    assert_eq!((lengths("ch"), lengths("vc"), lengths("st")), (vec![7], vec![9], vec![100]));
    let doubles = all.column_by_name("f8").unwrap().as_primitive::<Float64Type>();
    assert!(doubles.values().iter().all(|v| *v > 0.0 && v.is_finite()));
    let decimals = all.column_by_name("de").unwrap().as_primitive::<Decimal128Type>();
    assert!(decimals.values().iter().all(|v| *v >= 0));
    assert!(max(decimals).unwrap() > 10i128.pow(37));
    let lists = all.column_by_name("ar").unwrap().as_list::<i32>();
    assert!(lists.iter().flatten().all(|l| l.len() == 3));
    let counts = all.column_by_name("ms").unwrap().as_map().values().clone();
    let counts = counts.as_primitive::<Int32Type>();
    assert!(min(counts).unwrap() >= 1 && max(counts).unwrap() <= 10);
    let tiny = all.column_by_name("i1").unwrap().as_primitive::<Int8Type>();
    assert_eq!((min(tiny), max(tiny)), (Some(i8::MIN), Some(i8::MAX)));
    let now = chrono::Utc::now().timestamp_millis();
    let times = all.column_by_name("l3").unwrap().as_primitive::<TimestampMillisecondType>();
    assert!(times.values().iter().all(|t| (now - t).abs() < 60_000));
    assert!(all.columns().iter().all(|c| c.null_count() == 0));
}

#[tokio::test]
async fn options_of_nested_fields() {
    let row = TypeRoot::Row(vec![RowField { name: "n".into(), ty: nullable(TypeRoot::Int), comment: None }]);
    let columns = [
        ("r", nullable(row)),
        ("a", nullable(TypeRoot::Array(Box::new(nullable(TypeRoot::Int))))),
        (
            "m",
            nullable(TypeRoot::Map(Box::new(nullable(TypeRoot::Int)), Box::new(nullable(TypeRoot::Boolean)))),
        ),
    ];
    let options = [
        ("number-of-rows", "500"),
        ("fields.r.n.kind", "sequence"),
        ("fields.r.n.start", "10"),
        ("fields.r.n.end", "209"),
        ("fields.a.length", "5"),
        ("fields.a.element.min", "1"),
        ("fields.a.element.max", "2"),
        ("fields.a.element.null-rate", "0.5"),
        ("fields.m.length", "4"),
        ("fields.m.key.min", "0"),
        ("fields.m.key.max", "2"),
        ("fields.m.null-rate", "0.25"),
    ];
    let all = rows(&columns, &options).await;
    assert_eq!(all.num_rows(), 200, "the sequence is the shorter one");
    let n = all.column(0).as_struct().column(0).as_primitive::<Int32Type>();
    assert_eq!(n.values().to_vec(), (10..210).collect::<Vec<i32>>());
    let elements = all.column(1).as_list::<i32>().values().clone();
    assert!((400..600).contains(&elements.null_count()), "{}", elements.null_count());
    let elements = elements.as_primitive::<Int32Type>();
    assert_eq!((min(elements), max(elements)), (Some(1), Some(2)));
    let maps = all.column(2).as_map();
    assert!((25..80).contains(&maps.null_count()), "{}", maps.null_count());
    for map in maps.iter().flatten() {
        let mut keys = map.column(0).as_primitive::<Int32Type>().values().to_vec();
        let found = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert!(keys.len() == found && found <= 3);
    }
}

#[tokio::test]
async fn sequences_of_every_type_end_the_source() {
    let columns = [
        ("i", nullable(TypeRoot::BigInt)),
        ("s", LogicalType::string()),
        ("d", nullable(TypeRoot::Decimal(10, 2))),
        ("f", nullable(TypeRoot::Double)),
        ("t", nullable(TypeRoot::TinyInt)),
    ];
    let mut options = Vec::new();
    let keys: Vec<[String; 3]> = columns
        .iter()
        .map(|(c, _)| [format!("fields.{c}.kind"), format!("fields.{c}.start"), format!("fields.{c}.end")])
        .collect();
    for [kind, start, end] in &keys {
        options.extend([(kind.as_str(), "sequence"), (start.as_str(), "-2"), (end.as_str(), "0")]);
    }
    let source = datagen(&columns, &options).unwrap();
    assert!(source.bounded());
    let found = sorted_rows(&read_all(source.as_ref(), 2, 0, 2).await);
    assert_eq!(found, ["-1|-1|-1.00|-1.0|-1|", "-2|-2|-2.00|-2.0|-2|", "0|0|0.00|0.0|0|"]);
}

#[tokio::test]
async fn ranges_are_inclusive_and_full_ones_do_not_overflow() {
    let columns = [
        ("i", nullable(TypeRoot::BigInt)),
        ("d", nullable(TypeRoot::Double)),
        ("p", nullable(TypeRoot::Decimal(4, 2))),
    ];
    let options = [
        ("number-of-rows", "1000"),
        ("fields.d.min", "-1.7976931348623157E308"),
        ("fields.p.min", "-1.5"),
        ("fields.p.max", "1.5"),
    ];
    let all = rows(&columns, &options).await;
    let i = all.column(0).as_primitive::<Int64Type>();
    assert!(min(i).unwrap() < -(1 << 61) && max(i).unwrap() > 1 << 61);
    assert!(all.column(1).as_primitive::<Float64Type>().values().iter().all(|v| v.is_finite()));
    let p = all.column(2).as_primitive::<Decimal128Type>();
    assert!(min(p).unwrap() >= -150 && max(p).unwrap() <= 150 && min(p).unwrap() < -100);
    let one =
        rows(&columns[..1], &[("number-of-rows", "9"), ("fields.i.min", "3"), ("fields.i.max", "3")]).await;
    assert!(one.column(0).as_primitive::<Int64Type>().values().iter().all(|v| *v == 3));
}

#[tokio::test]
async fn lengths_vary_when_asked() {
    let options = [("number-of-rows", "1000"), ("fields.s.length", "5"), ("fields.s.var-len", "true")];
    let all = rows(&[("s", LogicalType::string())], &options).await;
    let mut lengths: Vec<usize> = all.column(0).as_string::<i32>().iter().flatten().map(str::len).collect();
    lengths.sort_unstable();
    lengths.dedup();
    assert_eq!(lengths, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn base_time_replaces_the_clock() {
    let columns = [
        ("t", nullable(TypeRoot::Timestamp(3))),
        ("d", nullable(TypeRoot::Date)),
        ("h", nullable(TypeRoot::Time(0))),
    ];
    let options =
        [("number-of-rows", "3"), ("rows-per-second", "2"), ("base-time", "2024-01-01 23:59:59.500")];
    let source = datagen(&columns, &options).unwrap();
    let found = sorted_rows(&read_all(source.as_ref(), 1, 0, 1).await);
    assert_eq!(
        found,
        [
            "2024-01-01T23:59:59.500|2024-01-01|23:59:59.500|",
            "2024-01-02T00:00:00.500|2024-01-02|00:00:00.500|",
            "2024-01-02T00:00|2024-01-02|00:00|"
        ]
    );
}

#[tokio::test]
async fn projections_and_all_null() {
    let columns = [("a", nullable(TypeRoot::Int)), ("b", nullable(TypeRoot::Int))];
    let source = datagen(&columns, &[("number-of-rows", "10"), ("fields.b.null-rate", "1")]).unwrap();
    let read = |projection: Vec<usize>| async {
        let scan = ScanRequest { projection: Some(projection), ..Default::default() };
        drain(&mut source.readers(scan, 1, None).await.unwrap(), usize::MAX).await.swap_remove(0)
    };
    assert_eq!(read(vec![]).await.num_rows(), 10);
    let swapped = read(vec![1, 0]).await;
    assert_eq!(swapped.schema().field(0).name(), "b");
    assert_eq!((swapped.column(0).null_count(), swapped.column(1).null_count()), (10, 0));
}

#[test]
fn mistakes_are_named() {
    let int = [("a", nullable(TypeRoot::Int))];
    assert!(!datagen(&int, &[]).unwrap().bounded());
    for (options, expected) in [
        (&[("rows-per-second", "0")][..], "rows-per-second"),
        (&[("fields.b.min", "1")], "unsupported options found for 'datagen': fields.b.min"),
        (&[("fields.a.min", "5"), ("fields.a.max", "4")], "'min' is above 'max'"),
        (&[("fields.a.min", "3000000000")], "invalid value '3000000000'"),
        (&[("fields.a.kind", "series")], "one of random, sequence"),
        (
            &[("fields.a.kind", "sequence"), ("fields.a.start", "1")],
            "Could not find required property 'fields.a.end'",
        ),
        (
            &[("fields.a.kind", "sequence"), ("fields.a.start", "2"), ("fields.a.end", "1")],
            "before it starts",
        ),
        (&[("fields.a.null-rate", "2")], "from 0 to 1"),
        (&[("fields.a.length", "2")], "unsupported options"),
        (&[("number-of-rows", "-1")], "number-of-rows"),
    ] {
        let e = error(&int, options);
        assert!(e.contains(expected), "{e}");
    }
    let e = error(&[("c", nullable(TypeRoot::Char(3)))], &[("fields.c.length", "2")]);
    assert!(e.contains("Custom length for fixed-length type"), "{e}");
    let e = error(&[("v", nullable(TypeRoot::Varchar(3)))], &[("fields.v.length", "4")]);
    assert!(e.contains("should be shorter than '3'"), "{e}");
    let e = error(&[("n", LogicalType::not_null(TypeRoot::Int))], &[("fields.n.null-rate", "0.1")]);
    assert!(e.contains("NOT NULL"), "{e}");
    let e = error(&[("d", nullable(TypeRoot::Date))], &[("fields.d.kind", "sequence")]);
    assert!(e.contains("DATE cannot be a sequence"), "{e}");
    let tiny = [("fields.t.kind", "sequence"), ("fields.t.start", "1"), ("fields.t.end", "128")];
    assert!(error(&[("t", nullable(TypeRoot::TinyInt))], &tiny).contains("128 does not fit TINYINT"));
}
