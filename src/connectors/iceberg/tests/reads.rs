//! Reads: pinned snapshots, restored readers, tables of others, changed schemas.

use arrow::array::{Array, AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use datafusion::physical_plan::displayable;
use iceberg::spec::{PrimitiveType, Type};
use iceberg::transaction::{AddColumn, ApplyTransactionAction, Transaction};

use super::super::config::CatalogConfig;
use super::super::{IcebergFactory, lake};
use super::*;
use crate::connectors::ConnectorFactory;
use crate::edges::SinkContext;
use crate::edges::SplitState;
use crate::options::Options;

fn ids(schema: &SchemaRef, range: std::ops::Range<i64>) -> RecordBatch {
    RecordBatch::try_new(schema.clone(), vec![Arc::new(Int64Array::from_iter_values(range))]).unwrap()
}

async fn numbers(lake: &Lake, appends: &[std::ops::Range<i64>]) -> SchemaRef {
    lake.create("t", vec![column("id", nullable(TypeRoot::BigInt))], &[]).await;
    let schema = lake.resolved("t", &[]).await.physical;
    for range in appends {
        lake.append("t", &[ids(&schema, range.clone())]).await;
    }
    schema
}

fn sorted(batches: &[RecordBatch]) -> Vec<i64> {
    let mut all: Vec<i64> =
        batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
    all.sort_unstable();
    all
}

/// The Iceberg crate's own view of a table.
pub async fn raw(lake: &Lake, table: &str) -> (Arc<lake::Lake>, iceberg::table::Table) {
    let options = Options::new("lake", "iceberg", &lake.options);
    let config = CatalogConfig::parse("lake", &options, lake.dir.path()).unwrap();
    let opened = lake::Lake::open(config).await.unwrap();
    let loaded = opened.load(&lake::table_ident(&lake.database, table).unwrap()).await.unwrap();
    (opened, loaded)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_table_is_empty() {
    for lake in lakes().await {
        numbers(&lake, &[]).await;
        assert_eq!(lake.query("t", "SELECT * FROM t").await.num_rows(), 0);
        let got = lake.query("t", "SELECT count(*) AS c FROM t").await;
        assert_eq!(got.column(0).as_primitive::<Int64Type>().value(0), 0);
        let source = lake.source("t", &[]).await.unwrap();
        assert!(drain(&mut source.readers(request(10), 3, None).await.unwrap()).await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn older_snapshots_are_read() {
    let lake = sqlite().await;
    numbers(&lake, &[0..10, 10..20]).await;
    let (_, table) = raw(&lake, "t").await;
    let log = table.metadata().history();
    let count = async |key: &str, value: String| {
        let source = lake.source("t", &[(key, &value)]).await?;
        let ctx = context();
        let provider = source.batch_provider().await?.unwrap();
        Ok::<_, crate::Error>(ctx.read_table(provider)?.count().await?)
    };
    assert_eq!(count("snapshot-id", log[0].snapshot_id.to_string()).await.unwrap(), 10);
    assert_eq!(count("as-of-timestamp", log[0].timestamp_ms().to_string()).await.unwrap(), 10);
    assert_eq!(count("as-of-timestamp", (log[1].timestamp_ms() + 5).to_string()).await.unwrap(), 20);
    assert_eq!(count("branch", "main".into()).await.unwrap(), 20);
    for (key, value, text) in [
        ("snapshot-id", "7", "no snapshot 7"),
        ("snapshot-id", "x", "a snapshot id"),
        ("as-of-timestamp", "7", "as old as 7"),
        ("tag", "v1", "no branch or tag 'v1'"),
        ("nonsense", "1", "supported options"),
    ] {
        let e = count(key, value.into()).await.unwrap_err().to_string();
        assert!(e.contains(text), "{e}");
    }
    let e = lake.source("t", &[("snapshot-id", "1"), ("tag", "x")]).await.unwrap_err().to_string();
    assert!(e.contains("only one"), "{e}");
}

#[tokio::test(flavor = "multi_thread")]
async fn restored_readers_go_on_where_they_were() {
    for lake in lakes().await {
        let schema = numbers(&lake, &[0..100, 100..200, 200..250]).await;
        let source = lake.source("t", &[]).await.unwrap();
        let mut readers = source.readers(request(7), 2, None).await.unwrap();
        let mut seen = Vec::new();
        // Six batches from the first, none from the second.
        while seen.len() < 6 {
            if let SourceEvent::Batch { batch, .. } = readers[0].next().await.unwrap() {
                seen.push(batch.rows);
            }
        }
        let states: Vec<SplitState> = readers.iter().flat_map(|r| r.snapshot().unwrap()).collect();
        drop(readers);
        // What others add meanwhile belongs to no restored read.
        lake.append("t", &[ids(&schema, 1000..1010)]).await;
        let mut restored = source.readers(request(16), 3, Some(states)).await.unwrap();
        assert_eq!(restored.len(), 3);
        seen.extend(drain(&mut restored).await);
        assert_eq!(sorted(&seen), (0..250).collect::<Vec<_>>(), "{}", lake.name);
        // At the end nothing is left.
        let states: Vec<SplitState> = restored.iter().flat_map(|r| r.snapshot().unwrap()).collect();
        let mut again = source.readers(request(16), 1, Some(states)).await.unwrap();
        assert!(drain(&mut again).await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_declared_elsewhere_reach_the_catalog() {
    for lake in lakes().await {
        numbers(&lake, std::slice::from_ref(&(0..10))).await;
        // As LIKE makes it: all options, another catalog.
        let mut def = (*lake.table("t").await).clone();
        def.external = None;
        def.path = ObjectPath { catalog: "default_catalog".into(), database: "d".into(), object: "o".into() };
        let resolved = ResolvedTable::new(Arc::new(def.clone()), &BTreeMap::new()).unwrap();
        let source = IcebergFactory.source(&resolved, &env(&lake)).unwrap();
        let mut opened = IcebergFactory
            .sink(&resolved, &env(&lake))
            .unwrap()
            .open(&SinkContext::new(WriteMode::Append, 1))
            .await
            .unwrap();
        let c = write(&mut opened, &[ids(&resolved.physical, 10..12)], Epoch(1)).await;
        opened.committer.commit(Epoch(1), c).await.unwrap();
        let got = query(source, "SELECT count(*) AS c FROM t").await;
        assert_eq!(got.column(0).as_primitive::<Int64Type>().value(0), 12, "{}", lake.name);
        // LIKE into the same catalog keeps nothing of how it is reached among the table's properties.
        def.path =
            ObjectPath { catalog: "lake".into(), database: lake.database.clone(), object: "t2".into() };
        lake.catalog.create_table(def.clone(), false).await.unwrap();
        let (_, copy) = raw(&lake, "t2").await;
        let leaked: Vec<_> =
            copy.metadata().properties().keys().filter(|k| k.contains("s3") || *k == "uri").collect();
        assert!(leaked.is_empty(), "{leaked:?}");
        // A declared table that does not exist is created by the first INSERT, without its computed columns.
        let r = {
            let mut d = def.clone();
            d.options.insert("catalog-table".into(), "made".into());
            d.options.insert("catalog-database".into(), format!("{}_new", lake.database));
            d.options.insert("write.parquet.compression-codec".into(), "snappy".into());
            let mut computed = column("twice", nullable(TypeRoot::BigInt));
            computed.kind = ColumnKind::Computed(sql_expr("id * 2"));
            d.columns.push(computed);
            ResolvedTable::new(Arc::new(d), &BTreeMap::new()).unwrap()
        };
        let missing = IcebergFactory.source(&r, &env(&lake)).unwrap().batch_provider().await.unwrap_err();
        assert!(missing.to_string().contains("does not exist"), "{missing}");
        let mut opened = IcebergFactory
            .sink(&r, &env(&lake))
            .unwrap()
            .open(&SinkContext::new(WriteMode::Append, 1))
            .await
            .unwrap();
        let c = write(&mut opened, &[ids(&r.physical, 0..3)], Epoch(1)).await;
        opened.committer.commit(Epoch(1), c).await.unwrap();
        let source = IcebergFactory.source(&r, &env(&lake)).unwrap();
        assert_eq!(query(source, "SELECT * FROM t").await.num_rows(), 3);
        // A column that is not there, a type that does not fit, an unknown option.
        let e = {
            let mut d = def.clone();
            d.columns.push(column("nope", nullable(TypeRoot::Int)));
            let r = ResolvedTable::new(Arc::new(d), &BTreeMap::new()).unwrap();
            IcebergFactory.source(&r, &env(&lake)).unwrap().batch_provider().await.unwrap_err().to_string()
        };
        assert!(e.contains("no column `nope`") && e.contains("its columns: id"), "{e}");
        let e = {
            let mut d = def.clone();
            d.columns = vec![column("id", LogicalType::string())];
            let r = ResolvedTable::new(Arc::new(d), &BTreeMap::new()).unwrap();
            IcebergFactory.source(&r, &env(&lake)).unwrap().batch_provider().await.unwrap_err().to_string()
        };
        assert!(e.contains("`id` is BIGINT and cannot be read as STRING"), "{e}");
        def.options.insert("tabel".into(), "x".into());
        let r = ResolvedTable::new(Arc::new(def), &BTreeMap::new()).unwrap();
        assert!(IcebergFactory.source(&r, &env(&lake)).unwrap_err().to_string().contains("tabel"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_added_by_others_appears() {
    for lake in lakes().await {
        let old = numbers(&lake, std::slice::from_ref(&(0..3))).await;
        let source_before = lake.source("t", &[]).await.unwrap();
        let mut before =
            lake.sink("t", &[]).await.unwrap().open(&SinkContext::new(WriteMode::Append, 1)).await.unwrap();
        let (opened, table) = raw(&lake, "t").await;
        let tx = Transaction::new(&table);
        let tx = tx
            .update_schema()
            .add_column(AddColumn::optional("name", Type::Primitive(PrimitiveType::String)))
            .apply(tx)
            .unwrap();
        tx.commit(opened.client().as_ref()).await.unwrap();
        // The new column exists before any file has it.
        let got = lake.query("t", "SELECT id, name FROM t WHERE name IS NULL ORDER BY id").await;
        assert_eq!((got.num_rows(), got.column(1).null_count()), (3, 3), "{}", lake.name);
        assert_eq!(lake.query("t", "SELECT * FROM t WHERE name = 'x'").await.num_rows(), 0);
        // A reader and a writer that began before go on with their columns.
        assert_eq!(query(source_before, "SELECT id FROM t").await.num_rows(), 3);
        let c = write(&mut before, &[ids(&old, 3..5)], Epoch(1)).await;
        before.committer.commit(Epoch(1), c).await.unwrap();
        let got = lake.query("t", "SELECT id, name FROM t WHERE id > 1 ORDER BY id").await;
        assert_eq!((got.num_rows(), got.num_columns()), (3, 2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_version_is_read_and_written() {
    for lake in lakes().await {
        for version in ["1", "2", "3"] {
            let table = format!("v{version}");
            let mut def =
                lake.def(&table, vec![column("id", nullable(TypeRoot::BigInt))], &["bucket(4, id)"]);
            def.options.insert("format-version".into(), version.into());
            lake.catalog.create_table(def, false).await.unwrap();
            let schema = lake.resolved(&table, &[]).await.physical;
            lake.append(&table, &[ids(&schema, 0..10)]).await;
            lake.append(&table, &[ids(&schema, 10..20)]).await;
            let got = lake.query(&table, "SELECT count(DISTINCT id) AS c FROM t WHERE id <> 4").await;
            assert_eq!(got.column(0).as_primitive::<Int64Type>().value(0), 19, "{} v{version}", lake.name);
            assert_eq!(lake.table(&table).await.options["format-version"], version);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_and_limits_read_little() {
    let lake = sqlite().await;
    numbers(&lake, &[0..1000, 1000..2000, 2000..3000, 3000..4000]).await;
    let ctx = context();
    let provider = lake.source("t", &[]).await.unwrap().batch_provider().await.unwrap().unwrap();
    ctx.register_table("t", provider).unwrap();
    let shown = async |sql: &str| {
        let plan = ctx.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
        displayable(plan.as_ref()).indent(false).to_string()
    };
    let plan = shown("SELECT count(*) FROM t").await;
    assert!(!plan.contains("IcebergScan"), "answered from the manifests: {plan}");
    let plan = shown("SELECT id FROM t").await;
    assert!(plan.contains("files=4") && plan.contains("partitions=3"), "{plan}");
    let plan = shown("SELECT id FROM t LIMIT 1500").await;
    assert!(plan.contains("limit=1500"), "{plan}");
    assert_eq!(lake.query("t", "SELECT id FROM t LIMIT 1500").await.num_rows(), 1500);
    // The row count without any column, with a filter that cannot be pushed down.
    let got = lake.query("t", "SELECT count(*) AS c FROM t WHERE id % 2 = 0").await;
    assert_eq!(got.column(0).as_primitive::<Int64Type>().value(0), 2000);
    let mut scan = request(100);
    scan.projection = Some(vec![]);
    let source = lake.source("t", &[]).await.unwrap();
    let rows = drain(&mut source.readers(scan, 1, None).await.unwrap()).await;
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 4000);
    assert!(rows.iter().all(|b| b.num_columns() == 0));
}
