//! Partition transforms: values by the specification, rows found again, files pruned.

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Int32Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::Int64Type;
use datafusion::logical_expr::{col, lit};

use super::super::provider::IcebergScan;
use super::*;
use crate::edges::SinkContext;
use crate::edges::scan_exec::ScanExec;

const DAY: i64 = 86_400_000_000;

/// The partition values of a table's data files, as the folder names say, sorted.
fn folders(lake: &Lake, table: &str) -> Vec<String> {
    let mut found: Vec<String> = lake
        .data_files()
        .iter()
        .filter(|p| p.components().any(|c| c.as_os_str() == table))
        .map(|p| p.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    found.sort();
    found
}

async fn written(lake: &Lake, table: &str, ty: TypeRoot, by: &str, values: ArrayRef) -> Vec<String> {
    let columns = vec![column("id", nullable(TypeRoot::BigInt)), column("v", nullable(ty))];
    lake.create(table, columns, &[by]).await;
    let def = lake.table(table).await;
    let text = &def.partitioned_by[0].text;
    assert_eq!(text.replace('`', ""), by.replace("year(", "years("), "SHOW CREATE gives it back");
    let schema = lake.resolved(table, &[]).await.physical;
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..values.len() as i64));
    let batch = RecordBatch::try_new(schema, vec![ids, values.clone()]).unwrap();
    lake.append(table, std::slice::from_ref(&batch)).await;
    let all = lake.query(table, "SELECT id, v FROM t ORDER BY id").await;
    assert_eq!(all, batch, "{by}");
    // Every value is found again through pruning, and only its own rows.
    for row in 0..values.len() {
        let ctx = context();
        let provider = lake.source(table, &[]).await.unwrap().batch_provider().await.unwrap().unwrap();
        let value = datafusion::common::ScalarValue::try_from_array(&values, row).unwrap();
        let filter = if values.is_null(row) { col("v").is_null() } else { col("v").eq(lit(value.clone())) };
        let found = ctx.read_table(provider).unwrap().filter(filter).unwrap().collect().await.unwrap();
        let ids: Vec<i64> =
            found.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
        assert!(ids.contains(&(row as i64)), "{by}: {value} is lost, found {ids:?}");
    }
    folders(lake, table)
}

#[tokio::test(flavor = "multi_thread")]
async fn transforms_follow_the_specification() {
    let lake = sqlite().await;
    let ts = |v: Vec<Option<i64>>| Arc::new(TimestampMicrosecondArray::from(v)) as ArrayRef;
    let moments = vec![Some(-1), Some(0), Some(DAY - 1), Some(-DAY - 1), Some(17_167 * DAY), None];
    let got = written(&lake, "y", TypeRoot::Timestamp(6), "year(v)", ts(moments.clone())).await;
    assert_eq!(got, ["v_year=1969", "v_year=1970", "v_year=2017", "v_year=null"]);
    let got = written(&lake, "mo", TypeRoot::Timestamp(6), "months(v)", ts(moments.clone())).await;
    assert_eq!(got, ["v_month=1969-12", "v_month=1970-01", "v_month=2017-01", "v_month=null"]);
    let got = written(&lake, "da", TypeRoot::Timestamp(6), "days(v)", ts(moments.clone())).await;
    assert_eq!(
        got,
        ["v_day=1969-12-30", "v_day=1969-12-31", "v_day=1970-01-01", "v_day=2017-01-01", "v_day=null"]
    );
    let ltz = Arc::new(TimestampMicrosecondArray::from(moments).with_timezone("UTC"));
    let got = written(&lake, "ho", TypeRoot::TimestampLtz(6), "hours(v)", ltz).await;
    assert_eq!(
        got,
        [
            "v_hour=1969-12-30-23",
            "v_hour=1969-12-31-23",
            "v_hour=1970-01-01-00",
            "v_hour=1970-01-01-23",
            "v_hour=2017-01-01-00",
            "v_hour=null"
        ]
    );
    let days = Arc::new(Date32Array::from(vec![Some(-1), Some(0), Some(-366), None]));
    let got = written(&lake, "dd", TypeRoot::Date, "years(v)", days).await;
    assert_eq!(got, ["v_year=1968", "v_year=1969", "v_year=1970", "v_year=null"]);
    let ints = Arc::new(Int32Array::from(vec![Some(-1), Some(0), Some(9), Some(10), Some(-11), None]));
    let got = written(&lake, "tr", TypeRoot::Int, "truncate(10, v)", ints).await;
    assert_eq!(got, ["v_trunc=-10", "v_trunc=-20", "v_trunc=0", "v_trunc=10", "v_trunc=null"]);
    let strings =
        Arc::new(StringArray::from(vec![Some("grün"), Some("grüße"), Some(""), None, Some("a/b c")]));
    let got = written(&lake, "ts", TypeRoot::Varchar(i32::MAX as u32), "truncate(3, v)", strings).await;
    assert_eq!(got.len(), 4, "{got:?}");
    // The hash values of the specification, appendix B: 34 → 2017239379, "iceberg" → 1210000089.
    let ints = Arc::new(Int32Array::from(vec![Some(34), Some(-34), None]));
    let got = written(&lake, "bu", TypeRoot::Int, "bucket(1000, v)", ints).await;
    assert!(got.contains(&format!("v_bucket={}", 2_017_239_379 % 1000)), "{got:?}");
    assert!(got.contains(&"v_bucket=null".to_owned()), "{got:?}");
    let strings = Arc::new(StringArray::from(vec![Some("iceberg"), None]));
    let got = written(&lake, "bs", TypeRoot::Varchar(i32::MAX as u32), "bucket(1000, v)", strings).await;
    assert!(got.contains(&format!("v_bucket={}", 1_210_000_089 % 1000)), "{got:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_of_every_type() {
    let lake = sqlite().await;
    let cases: Vec<(&str, TypeRoot, ArrayRef)> = vec![
        ("i1", TypeRoot::Int, Arc::new(Int32Array::from(vec![Some(-5), None, Some(5), Some(-5)]))),
        ("i2", TypeRoot::BigInt, Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(0)]))),
        ("i3", TypeRoot::Boolean, Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        ("i4", TypeRoot::Date, Arc::new(Date32Array::from(vec![Some(-1), None, Some(19_000)]))),
        (
            "i5",
            TypeRoot::Varchar(i32::MAX as u32),
            Arc::new(StringArray::from(vec![Some("a=b/c d%"), None, Some(""), Some("ü")])),
        ),
        (
            "i6",
            TypeRoot::Timestamp(6),
            Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None, Some(1)])),
        ),
        (
            "i7",
            TypeRoot::TimestampLtz(6),
            Arc::new(
                TimestampMicrosecondArray::from(vec![Some(-1_000_000), None, Some(1)]).with_timezone("UTC"),
            ),
        ),
        (
            "i8",
            TypeRoot::Decimal(9, 2),
            Arc::new(
                Decimal128Array::from(vec![Some(-12_345), None, Some(1)])
                    .with_precision_and_scale(9, 2)
                    .unwrap(),
            ),
        ),
    ];
    for (table, ty, values) in cases {
        let distinct = 3.min(values.len());
        let got = written(&lake, table, ty, "v", values).await;
        assert!(got.len() >= distinct, "{table}: {got:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_cannot_be_partitions_are_refused() {
    let lake = sqlite().await;
    let long = "ü".repeat(300);
    let strings = Arc::new(StringArray::from(vec![Some(long.as_str()), Some("..")]));
    let got = written(&lake, "l", TypeRoot::Varchar(i32::MAX as u32), "v", strings).await;
    assert!(got.iter().all(|f| f.len() < 200), "{got:?}");
    for (table, ty, by, value, text) in [
        ("a", TypeRoot::TimestampLtz(6), "v", -1, "before 1970"),
        ("b", TypeRoot::Timestamp(6), "days(v)", i64::MAX, "out of range"),
        ("c", TypeRoot::Timestamp(6), "v", i64::MIN, "out of range"),
    ] {
        let columns = vec![column("v", nullable(ty))];
        lake.create(table, columns, &[by]).await;
        let schema = lake.resolved(table, &[]).await.physical;
        let zone: Option<Arc<str>> = (table == "a").then(|| "UTC".into());
        let values = Arc::new(TimestampMicrosecondArray::from(vec![value]).with_timezone_opt(zone));
        let batch = RecordBatch::try_new(schema, vec![values]).unwrap();
        let mut opened =
            lake.sink(table, &[]).await.unwrap().open(&SinkContext::new(WriteMode::Append, 1)).await.unwrap();
        let e = opened.writers[0].write(ChangeBatch::insert_only(batch)).await.unwrap_err().to_string();
        assert!(e.contains(text) && e.contains("partition field `v"), "{e}");
    }
}

async fn planned(lake: &Lake, table: &str, filter: datafusion::logical_expr::Expr) -> usize {
    let provider = lake.source(table, &[]).await.unwrap().batch_provider().await.unwrap().unwrap();
    let ctx = context();
    let plan = provider.scan(&ctx.state(), None, &[filter], None).await.unwrap();
    plan.downcast_ref::<ScanExec<IcebergScan>>().unwrap().scan().files()
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_prune_files() {
    for lake in lakes().await {
        let columns = vec![column("city", LogicalType::string()), column("n", nullable(TypeRoot::BigInt))];
        lake.create("p", columns.clone(), &["city"]).await;
        lake.create("u", columns, &[]).await;
        let schema = lake.resolved("p", &[]).await.physical;
        for (i, city) in ["Rom", "Oslo", "Köln", "Lima"].into_iter().enumerate() {
            let ns: ArrayRef = Arc::new(Int64Array::from_iter_values((0..10).map(|n| n + 10 * i as i64)));
            let cities: ArrayRef = Arc::new(StringArray::from(vec![city; 10]));
            let batch = RecordBatch::try_new(schema.clone(), vec![cities, ns]).unwrap();
            lake.append("p", std::slice::from_ref(&batch)).await;
            lake.append("u", &[batch]).await;
        }
        assert_eq!(planned(&lake, "p", col("city").eq(lit("Köln"))).await, 1);
        assert_eq!(planned(&lake, "p", col("city").not_eq(lit("Köln"))).await, 3);
        assert_eq!(planned(&lake, "p", col("city").in_list(vec![lit("Rom"), lit("?")], false)).await, 1);
        assert_eq!(planned(&lake, "p", col("city").is_null()).await, 0);
        // By the statistics of the files, without partitions.
        assert_eq!(planned(&lake, "u", col("n").gt_eq(lit(30i64))).await, 1);
        assert_eq!(planned(&lake, "u", col("n").between(lit(9i64), lit(10i64))).await, 2);
        assert_eq!(planned(&lake, "u", col("n").lt(lit(0i64)).or(col("city").eq(lit("Oslo")))).await, 1);
        // Not translatable: everything is read.
        assert_eq!(planned(&lake, "u", (col("n") + lit(1i64)).eq(lit(1i64))).await, 4);
        let got =
            lake.query("u", "SELECT city, sum(n) AS s FROM t WHERE n > 25 GROUP BY city ORDER BY s").await;
        assert_eq!(got.column(1).as_primitive::<Int64Type>().values(), &[26 + 27 + 28 + 29, 345]);
    }
}
