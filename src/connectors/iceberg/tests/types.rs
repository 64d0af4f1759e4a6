//! Tables and their types: what is created comes back, what cannot be stored is refused.

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int32Array, Int64Array, ListArray, MapArray, StringArray, StructArray, Time32MillisecondArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Int64Type, Schema};

use super::*;
use crate::edges::SinkContext;
use crate::sql::ast::WatermarkDef;
use crate::types::{MAX_LENGTH, RowField};

fn row(fields: Vec<(&str, LogicalType)>) -> TypeRoot {
    TypeRoot::Row(fields.into_iter().map(|(n, ty)| RowField { name: n.into(), ty, comment: None }).collect())
}

/// Columns whose types come back exactly as they were declared.
fn stable_columns() -> Vec<ColumnDef> {
    let n = nullable;
    vec![
        column("id", LogicalType::not_null(TypeRoot::BigInt)),
        column("b", n(TypeRoot::Boolean)),
        column("i", n(TypeRoot::Int)),
        column("f", n(TypeRoot::Float)),
        column("d", n(TypeRoot::Double)),
        column("small", n(TypeRoot::Decimal(7, 2))),
        column("wide", n(TypeRoot::Decimal(38, 10))),
        column("day", n(TypeRoot::Date)),
        column("tod", n(TypeRoot::Time(3))),
        column("ts", n(TypeRoot::Timestamp(6))),
        column("ltz", n(TypeRoot::TimestampLtz(6))),
        column("s", LogicalType::string()),
        column("bytes", n(TypeRoot::Varbinary(MAX_LENGTH))),
        column("fixed", n(TypeRoot::Binary(3))),
        column("arr", n(TypeRoot::Array(Box::new(LogicalType::string())))),
        column(
            "map",
            n(TypeRoot::Map(
                Box::new(LogicalType::not_null(TypeRoot::Varchar(MAX_LENGTH))),
                Box::new(n(TypeRoot::TimestampLtz(6))),
            )),
        ),
        column(
            "rec",
            n(row(vec![
                ("x", n(TypeRoot::Int)),
                (
                    "in",
                    n(row(vec![
                        ("t", n(TypeRoot::Time(3))),
                        ("l", n(TypeRoot::Array(Box::new(n(TypeRoot::Varbinary(MAX_LENGTH)))))),
                    ])),
                ),
            ])),
        ),
    ]
}

fn all_types(schema: &SchemaRef) -> RecordBatch {
    let field = |name: &str| schema.field_with_name(name).unwrap().data_type().clone();
    let ltz = |v: Vec<Option<i64>>| TimestampMicrosecondArray::from(v).with_timezone("UTC");
    let arr: ArrayRef = match field("arr") {
        DataType::List(f) => Arc::new(ListArray::new(
            f,
            OffsetBuffer::new(vec![0, 2, 2, 2, 3].into()),
            Arc::new(StringArray::from(vec![Some("ä"), None, Some("")])),
            Some(NullBuffer::from(vec![true, true, false, true])),
        )),
        _ => unreachable!(),
    };
    let map: ArrayRef = match field("map") {
        DataType::Map(f, sorted) => {
            let DataType::Struct(kv) = f.data_type() else { unreachable!() };
            let entries = StructArray::new(
                kv.clone(),
                vec![Arc::new(StringArray::from(vec!["k1", "k2"])), Arc::new(ltz(vec![Some(-1), None]))],
                None,
            );
            Arc::new(MapArray::new(
                f.clone(),
                OffsetBuffer::new(vec![0, 2, 2, 2, 2].into()),
                entries,
                Some(NullBuffer::from(vec![true, false, true, true])),
                sorted,
            ))
        }
        _ => unreachable!(),
    };
    let rec: ArrayRef = match field("rec") {
        DataType::Struct(fields) => {
            let DataType::Struct(inner) = fields[1].data_type() else { unreachable!() };
            let DataType::List(l) = inner[1].data_type() else { unreachable!() };
            let list = ListArray::new(
                l.clone(),
                OffsetBuffer::new(vec![0, 1, 1, 2, 2].into()),
                Arc::new(BinaryArray::from_opt_vec(vec![Some(b"\0\xff"), None])),
                None,
            );
            let inner = StructArray::new(
                inner.clone(),
                vec![
                    Arc::new(Time32MillisecondArray::from(vec![Some(1), None, Some(86_399_999), None])),
                    Arc::new(list),
                ],
                Some(NullBuffer::from(vec![true, true, true, false])),
            );
            Arc::new(StructArray::new(
                fields,
                vec![Arc::new(Int32Array::from(vec![Some(1), None, Some(3), None])), Arc::new(inner)],
                Some(NullBuffer::from(vec![true, true, true, false])),
            ))
        }
        _ => unreachable!(),
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![1, 2, 3, 4])),
        Arc::new(BooleanArray::from(vec![Some(true), None, Some(false), None])),
        Arc::new(Int32Array::from(vec![Some(i32::MIN), None, Some(i32::MAX), None])),
        Arc::new(Float32Array::from(vec![Some(f32::NAN), None, Some(-0.0), None])),
        Arc::new(Float64Array::from(vec![Some(f64::NEG_INFINITY), None, Some(f64::MAX), None])),
        Arc::new(
            Decimal128Array::from(vec![Some(-9_999_999), None, Some(1), None])
                .with_precision_and_scale(7, 2)
                .unwrap(),
        ),
        Arc::new(
            Decimal128Array::from(vec![Some(10i128.pow(38) - 1), None, Some(-(10i128.pow(38) - 1)), None])
                .with_precision_and_scale(38, 10)
                .unwrap(),
        ),
        Arc::new(Date32Array::from(vec![Some(-1), None, Some(19_000), None])),
        Arc::new(Time32MillisecondArray::from(vec![Some(0), None, Some(86_399_999), None])),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None, Some(1_700_000_000_123_456), None])),
        Arc::new(ltz(vec![Some(-1), None, Some(1_700_000_000_123_456), None])),
        Arc::new(StringArray::from(vec![Some("grüße 🐟"), None, Some(""), Some(&"x".repeat(200))])),
        Arc::new(BinaryArray::from_opt_vec(vec![Some(b"\0\x01"), None, Some(b""), None])),
        Arc::new(BinaryArray::from_opt_vec(vec![Some(b"abc"), None, Some(b"\0\0\0"), None])),
        arr,
        map,
        rec,
    ];
    RecordBatch::try_new(Arc::clone(schema), columns).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_round_trips() {
    for lake in lakes().await {
        lake.create("types", stable_columns(), &[]).await;
        let table = lake.table("types").await;
        assert_eq!(table.columns, stable_columns(), "{}", lake.name);
        let resolved = lake.resolved("types", &[]).await;
        let batch = all_types(&resolved.physical);
        lake.append("types", &[batch.slice(0, 3), batch.slice(3, 1)]).await;
        let back = lake.query("types", "SELECT * FROM t ORDER BY id").await;
        assert_eq!(back.schema(), resolved.physical, "{}", lake.name);
        assert_eq!(back, batch, "{}", lake.name);
        // The same through the streaming readers, in batches of one row.
        let source = lake.source("types", &[]).await.unwrap();
        let mut readers = source.readers(request(1), 2, None).await.unwrap();
        let rows = drain(&mut readers).await;
        assert_eq!(rows.len(), 4);
        assert_eq!(concat_batches(&resolved.physical, &rows).unwrap(), batch, "{}", lake.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn types_widen_as_in_flink() {
    let lake = sqlite().await;
    let columns = vec![
        column("a", nullable(TypeRoot::TinyInt)),
        column("b", nullable(TypeRoot::SmallInt)),
        column("c", nullable(TypeRoot::Char(3))),
        column("d", nullable(TypeRoot::Timestamp(3))),
        column("e", nullable(TypeRoot::TimestampLtz(3))),
        column("f", nullable(TypeRoot::Multiset(Box::new(LogicalType::string())))),
    ];
    let mut def = lake.def("w", columns, &[]);
    def.primary_key = Some(key(&["c", "a"]));
    def.comment = Some("it's".into());
    def.options.insert("write.parquet.compression-codec".into(), "snappy".into());
    def.options.insert("my.own".into(), "x".into());
    lake.catalog.create_table(def, false).await.unwrap();
    let table = lake.table("w").await;
    let shown: Vec<String> =
        table.columns.iter().map(|c| c.ty.as_ref().map(ToString::to_string).unwrap()).collect();
    assert_eq!(
        shown,
        [
            "INT NOT NULL",
            "INT",
            "STRING NOT NULL",
            "TIMESTAMP(6)",
            "TIMESTAMP_LTZ(6)",
            "MAP<STRING NOT NULL, INT NOT NULL>"
        ]
    );
    assert_eq!(table.primary_key, Some(key(&["a", "c"])));
    assert_eq!(table.comment.as_deref(), Some("it's"));
    assert_eq!(table.options.get("my.own").map(String::as_str), Some("x"));
}

#[tokio::test(flavor = "multi_thread")]
async fn digits_beyond_microseconds_are_refused() {
    let lake = sqlite().await;
    let fine = || nullable(TypeRoot::Timestamp(9));
    let ltz = || nullable(TypeRoot::TimestampLtz(7));
    let with_time = |ty| row(vec![("at", ty)]);
    for (ty, culprit) in [
        (fine(), "`v`: an Iceberg table holds microseconds and would lose digits of TIMESTAMP(9)"),
        (ltz(), "`v`: an Iceberg table holds microseconds and would lose digits of TIMESTAMP_LTZ(7)"),
        (nullable(with_time(fine())), "`v.at`"),
        (nullable(TypeRoot::Array(Box::new(ltz()))), "`v[]`"),
        (
            nullable(TypeRoot::Map(Box::new(LogicalType::string()), Box::new(nullable(with_time(fine()))))),
            "`v{value}.at`",
        ),
        (nullable(TypeRoot::Map(Box::new(fine()), Box::new(LogicalType::string()))), "`v{key}`"),
        (nullable(TypeRoot::Multiset(Box::new(ltz()))), "`v{key}`"),
    ] {
        let def = lake.def("x", vec![column("v", ty)], &[]);
        let e = lake.catalog.create_table(def, false).await.unwrap_err();
        assert!(e.message().contains(culprit), "{e}");
        let hint = e.hint_text().unwrap();
        assert!(hint.contains("(6)"), "{hint}");
    }
    // Declared elsewhere with more digits than the table has: it can be read, not written.
    let at = |ty| nullable(TypeRoot::Array(Box::new(nullable(with_time(ty)))));
    lake.create("t", vec![column("v", at(nullable(TypeRoot::Timestamp(6))))], &[]).await;
    let mut def = (*lake.table("t").await).clone();
    def.columns = vec![column("v", at(fine()))];
    def.external = None;
    let resolved = ResolvedTable::new(Arc::new(def), &BTreeMap::new()).unwrap();
    let factory = crate::connectors::iceberg::IcebergFactory;
    use crate::connectors::ConnectorFactory;
    let e = factory
        .sink(&resolved, &env(&lake))
        .unwrap()
        .open(&SinkContext::new(WriteMode::Append, 1))
        .await
        .err()
        .unwrap();
    assert!(e.message().contains("`v[].at`") && e.message().contains("TIMESTAMP(9)"), "{e}");
    query(factory.source(&resolved, &env(&lake)).unwrap(), "SELECT v FROM t").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_what_and_where() {
    let lake = sqlite().await;
    let id = || column("id", nullable(TypeRoot::BigInt));
    let refused = |def: TableDef| {
        let catalog = Arc::clone(&lake.catalog);
        async move { catalog.create_table(def, false).await.unwrap_err().to_string() }
    };
    let mut computed = id();
    computed.kind = ColumnKind::Computed(sql_expr("id + 1"));
    let e = refused(lake.def("x", vec![id(), computed], &[])).await;
    assert!(e.starts_with("3:7: ") && e.contains("computed column") && e.contains("LIKE"), "{e}");
    let mut def = lake.def("x", vec![id()], &[]);
    def.watermark = Some(WatermarkDef { column: "id".into(), expr: sql_expr("id") });
    assert!(refused(def).await.contains("watermark"));
    let e = refused(lake.def("x", vec![column("i", nullable(TypeRoot::IntervalDayTime))], &[])).await;
    assert!(e.contains("`i`") && e.contains("INTERVAL"), "{e}");
    let e = refused(lake.def("x", vec![id()], &["days(id)"])).await;
    assert!(e.contains("days(id)") && e.contains("long"), "{e}");
    let e = refused(lake.def("x", vec![id()], &["nope"])).await;
    assert!(e.contains("`nope`"), "{e}");
    let e = refused(lake.def("x", vec![id()], &["bucket(0, id)"])).await;
    assert!(e.contains("positive number"), "{e}");
    let e = refused(lake.def("x", vec![id()], &["lower(id)"])).await;
    assert!(e.contains("supported: a column"), "{e}");
    for (key, value, text) in [
        ("connector", "kafka", "no 'connector'"),
        ("format-version", "7", "1, 2 or 3"),
        ("s3.endpoint", "http://x", "CREATE CATALOG"),
        ("my.password", "x", "secret"),
    ] {
        let mut def = lake.def("x", vec![id()], &[]);
        def.options.insert(key.into(), value.into());
        let e = refused(def).await;
        assert!(e.contains(text), "{e}");
    }
    lake.create("x", vec![id()], &[]).await;
    let e = refused(lake.def("x", vec![id()], &[])).await;
    assert!(e.contains("already exists"), "{e}");
    lake.catalog.create_table(lake.def("x", vec![id()], &[]), true).await.unwrap();
    let mut def = lake.def("y", vec![id()], &[]);
    def.path.database = "nowhere".into();
    let e = refused(def).await;
    assert!(e.contains("nowhere") && e.contains("CREATE DATABASE"), "{e}");
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_and_tables_are_listed_and_dropped() {
    for lake in lakes().await {
        let c = &lake.catalog;
        assert_eq!(c.default_database(), Some("default"));
        let names = c.list_databases().await.unwrap();
        assert!(names.contains(&"default".to_owned()) && names.contains(&lake.database), "{names:?}");
        c.create_database(&lake.database, None, BTreeMap::new(), true).await.unwrap();
        assert!(c.create_database(&lake.database, None, BTreeMap::new(), false).await.is_err());
        lake.create("b", vec![column("id", nullable(TypeRoot::BigInt))], &[]).await;
        lake.create("a", vec![column("id", nullable(TypeRoot::BigInt))], &[]).await;
        let objects = c.list_objects(&lake.database).await.unwrap();
        assert_eq!(objects, [("a".to_owned(), false), ("b".to_owned(), false)]);
        assert!(c.get(&lake.database, "zz").await.unwrap().is_none());
        assert!(c.get("nowhere", "zz").await.unwrap().is_none());
        c.drop_table(&lake.database, "a", false).await.unwrap();
        c.drop_table(&lake.database, "a", true).await.unwrap();
        assert!(c.drop_table(&lake.database, "a", false).await.is_err());
        assert!(c.drop_database(&lake.database, false, false).await.is_err());
        c.drop_database(&lake.database, false, true).await.unwrap();
        c.drop_database(&lake.database, true, false).await.unwrap();
        assert!(c.drop_database(&lake.database, false, false).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn null_in_a_required_column_names_it() {
    let lake = sqlite().await;
    lake.create("t", vec![column("qty", LogicalType::not_null(TypeRoot::BigInt))], &[]).await;
    let mut opened =
        lake.sink("t", &[]).await.unwrap().open(&SinkContext::new(WriteMode::Append, 1)).await.unwrap();
    let schema = Arc::new(Schema::new(vec![arrow::datatypes::Field::new("qty", DataType::Int64, true)]));
    let batch = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![Some(1), None]))]).unwrap();
    let e = opened.writers[0].write(ChangeBatch::insert_only(batch)).await.unwrap_err().to_string();
    assert!(e.contains("`qty` is NOT NULL") && e.contains("table lake."), "{e}");
    opened.writers[0].abort().await;
    assert_eq!(lake.query("t", "SELECT * FROM t").await.column(0).as_primitive::<Int64Type>().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_never_show() {
    let dir = TempDir::new().unwrap();
    let options: BTreeMap<String, String> = [
        ("warehouse", "s3://nowhere-bucket/x"),
        ("uri", "sqlite:c.db"),
        ("s3.endpoint", "http://127.0.0.1:1"),
        ("s3.access-key-id", "AKIASECRETID"),
        ("s3.secret-access-key", "verysecretvalue"),
        ("s3.path-style-access", "true"),
    ]
    .iter()
    .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
    .collect();
    let catalog = create_catalog("lake", &options, dir.path()).await.unwrap();
    assert!(
        !format!(
            "{:?}",
            super::super::connection::Connection::lazy(
                super::super::config::CatalogConfig::parse(
                    "lake",
                    &crate::options::Options::new("lake", "iceberg", &options),
                    dir.path()
                )
                .unwrap()
            )
        )
        .contains("secret")
    );
    let rest: BTreeMap<String, String> = [
        ("catalog-type", "rest"),
        ("uri", "http://127.0.0.1:1"),
        ("credential", "client:verysecretvalue"),
        ("token", "tokentoken"),
    ]
    .iter()
    .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
    .collect();
    let e = create_catalog("lake", &rest, dir.path()).await.err().unwrap().to_string();
    assert!(e.contains("catalog `lake`") && !e.contains("verysecret") && !e.contains("tokentoken"), "{e}");
    drop(catalog);
}
