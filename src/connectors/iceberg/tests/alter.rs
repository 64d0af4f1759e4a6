//! ALTER TABLE: ids of columns, others who change the table in the same moment, answers that get lost.

use arrow::array::{AsArray, Int64Array, StringArray};
use arrow::datatypes::Int64Type;
use iceberg::TableUpdate;
use iceberg::spec::UnboundPartitionSpec;

use super::super::backend::Update;
use super::super::catalog::IcebergCatalog;
use super::super::lake;
use super::faults::{Fault, faulty};
use super::maintenance::{ALL_AGES, done};
use super::reads::raw;
use super::*;
use crate::catalog::{InferColumns, ViewColumn, ViewDef};
use crate::edges::SinkContext;
use crate::sql::ast::{Alter, Statement, TableAction, TableChange};
use crate::sql::parse_script;

/// Iceberg tables have nothing to infer.
struct Nothing;

#[async_trait::async_trait]
impl InferColumns for Nothing {
    async fn computed_columns(&self, _: &Arc<TableDef>) -> crate::Result<BTreeMap<String, LogicalType>> {
        panic!("asked for computed columns")
    }

    async fn view_columns(&self, _: &Arc<ViewDef>) -> crate::Result<Vec<ViewColumn>> {
        panic!("asked for a view")
    }
}

fn change(action: &str) -> TableChange {
    let script = parse_script(&format!("ALTER TABLE t {action}")).unwrap();
    match script.into_iter().next().unwrap().statement {
        Statement::Alter(Alter::Table { action: TableAction::Change(change), .. }) => change,
        other => panic!("{other:?}"),
    }
}

fn path(lake: &Lake, table: &str) -> ObjectPath {
    ObjectPath { catalog: "lake".into(), database: lake.database.clone(), object: table.into() }
}

async fn alter(lake: &Lake, catalog: &dyn Catalog, action: &str) -> crate::Result<()> {
    catalog.alter_table(&path(lake, "t"), &change(action), &Nothing).await
}

async fn create(lake: &Lake) {
    let columns = vec![
        column("id", LogicalType::not_null(TypeRoot::BigInt)),
        column("s", nullable(TypeRoot::Varchar(crate::types::MAX_LENGTH))),
    ];
    lake.create("t", columns, &[]).await;
}

fn rows(schema: &SchemaRef, ids: std::ops::Range<i64>) -> RecordBatch {
    let texts = StringArray::from_iter_values(ids.clone().map(|i| format!("s{i}")));
    let ids = Int64Array::from_iter_values(ids);
    RecordBatch::try_new(schema.clone(), vec![Arc::new(ids), Arc::new(texts)]).unwrap()
}

async fn count(lake: &Lake, sql: &str) -> i64 {
    lake.query("t", sql).await.column(0).as_primitive::<Int64Type>().value(0)
}

async fn names(lake: &Lake) -> Vec<String> {
    lake.table("t").await.columns.iter().map(|c| c.name.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_keep_their_ids() {
    for lake in lakes().await {
        create(&lake).await;
        let schema = lake.resolved("t", &[]).await.physical;
        lake.append("t", &[rows(&schema, 0..10)]).await;
        let catalog = lake.catalog.as_ref();
        alter(&lake, catalog, "RENAME s TO was").await.unwrap();
        alter(&lake, catalog, "ADD (s STRING FIRST, r ROW<a INT, b ARRAY<INT>> AFTER id)").await.unwrap();
        alter(&lake, catalog, "DROP was").await.unwrap();
        alter(&lake, catalog, "ADD was STRING").await.unwrap();
        let (_, table) = raw(&lake, "t").await;
        let current = table.metadata().current_schema();
        let ids: Vec<(&str, i32)> =
            current.as_struct().fields().iter().map(|f| (f.name.as_str(), f.id)).collect();
        assert_eq!(ids, [("s", 3), ("id", 1), ("r", 4), ("was", 8)], "{}", lake.name);
        assert_eq!(
            count(&lake, "SELECT count(*) FROM t WHERE s IS NULL AND r IS NULL AND was IS NULL").await,
            10
        );
        assert_eq!(count(&lake, "SELECT count(*) FROM t WHERE id >= 5").await, 5);
        // Fields of a row are columns, too.
        alter(&lake, catalog, "MODIFY r ROW<b ARRAY<BIGINT>, c INT>").await.unwrap();
        let (_, table) = raw(&lake, "t").await;
        let current = table.metadata().current_schema();
        let id = |name: &str| current.field_id_by_name(name);
        assert_eq!((id("r.a"), id("r.b"), id("r.c"), id("r.b.element")), (None, Some(6), Some(9), Some(7)));
        // Back to a schema that the table had before: it is found again.
        alter(&lake, catalog, "ADD x INT").await.unwrap();
        alter(&lake, catalog, "DROP x").await.unwrap();
        assert_eq!(names(&lake).await, ["s", "id", "r", "was"], "{}", lake.name);
        alter(&lake, catalog, "ADD x INT").await.unwrap();
        let (_, table) = raw(&lake, "t").await;
        assert_eq!(table.metadata().current_schema().field_id_by_name("x"), Some(11));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_and_databases() {
    for lake in lakes().await {
        create(&lake).await;
        let catalog = lake.catalog.as_ref();
        alter(&lake, catalog, "SET ('a' = '1', 'comment' = 'ü', 'format-version' = '3')").await.unwrap();
        let def = lake.table("t").await;
        assert_eq!(def.comment.as_deref(), Some("ü"));
        assert_eq!(def.options["a"], "1");
        assert_eq!(def.options["format-version"], "3");
        alter(&lake, catalog, "RESET ('a')").await.unwrap();
        assert!(!lake.table("t").await.options.contains_key("a"));
        let e = alter(&lake, catalog, "SET ('format-version' = '2')").await.unwrap_err().to_string();
        assert!(e.contains("no way back"), "{e}");
        let set = BTreeMap::from([("k".to_owned(), "v".to_owned()), ("comment".to_owned(), "c".to_owned())]);
        catalog.alter_database(&lake.database, &set).await.unwrap();
        let def = catalog.get_database(&lake.database).await.unwrap().unwrap();
        assert_eq!((def.comment.as_deref(), def.options["k"].as_str()), (Some("c"), "v"), "{}", lake.name);
        assert!(catalog.get_database("nosuch").await.unwrap().is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once() {
    for lake in lakes().await {
        create(&lake).await;
        let (opened, _) = raw(&lake, "t").await;
        let catalogs: Vec<IcebergCatalog> =
            (0..6).map(|_| IcebergCatalog::new("lake", BTreeMap::new(), Arc::clone(&opened))).collect();
        let different = (0..6).zip(&catalogs).map(|(i, c)| {
            let action = format!("ADD c{i} INT");
            let lake = &lake;
            async move { alter(lake, c, &action).await }
        });
        for done in futures::future::join_all(different).await {
            done.unwrap();
        }
        assert_eq!(names(&lake).await.len(), 8, "{}", lake.name);
        // Processes do not take turns: catalogs of their own, one of which has to find the column there.
        let (first, second) = (raw(&lake, "t").await.0, raw(&lake, "t").await.0);
        let [first, second] = [first, second].map(|l| IcebergCatalog::new("lake", BTreeMap::new(), l));
        let both = futures::future::join(
            alter(&lake, &first, "ADD (d1 INT, d2 INT)"),
            alter(&lake, &second, "ADD (d2 STRING, d3 INT)"),
        );
        let (a, b) = both.await;
        assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
        let e = a.and(b).unwrap_err().to_string();
        assert!(e.contains("the column `d2` is there already"), "{e}");
        assert_eq!(names(&lake).await.len(), 10, "{}", lake.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_catalog() {
    use Fault::*;
    let scripts: Vec<Vec<Fault>> = vec![
        vec![AppliedUnknown],
        vec![NotAppliedUnknown],
        vec![AppliedConflict],
        vec![Overtaken, Overtaken],
        vec![AppliedUnknown, Overtaken, NotAppliedUnknown],
    ];
    for faults in scripts {
        let lake = sqlite().await;
        create(&lake).await;
        let (opened, _) = raw(&lake, "t").await;
        let over = IcebergCatalog::new("lake", BTreeMap::new(), faulty(&opened, faults.clone()));
        alter(&lake, &over, "ADD x INT").await.unwrap_or_else(|e| panic!("{faults:?}: {e}"));
        assert_eq!(names(&lake).await, ["id", "s", "x"], "{faults:?}");
    }
    let lake = sqlite().await;
    create(&lake).await;
    let (opened, _) = raw(&lake, "t").await;
    let over = IcebergCatalog::new("lake", BTreeMap::new(), faulty(&opened, vec![SwallowedCommit]));
    let e = alter(&lake, &over, "ADD x INT").await.unwrap_err().to_string();
    assert!(e.contains("lost it"), "{e}");
    let over = IcebergCatalog::new("lake", BTreeMap::new(), faulty(&opened, vec![NotAppliedUnknown; 9]));
    let e = alter(&lake, &over, "ADD x INT").await.unwrap_err().to_string();
    assert!(e.contains("the commit state is unknown"), "{e}");
    assert_eq!(names(&lake).await, ["id", "s"]);
}

/// A job goes on: its rows have the columns that it knew, and those keep their ids.
#[tokio::test(flavor = "multi_thread")]
async fn writers_under_way() {
    for lake in lakes().await {
        create(&lake).await;
        let schema = lake.resolved("t", &[]).await.physical;
        let sink = lake.sink("t", &[]).await.unwrap();
        let mut opened = sink.open(&SinkContext::new(WriteMode::Append, 1)).await.unwrap();
        let first = write(&mut opened, &[rows(&schema, 0..10)], Epoch(1)).await;
        let catalog = lake.catalog.as_ref();
        alter(&lake, catalog, "RENAME s TO t").await.unwrap();
        alter(&lake, catalog, "ADD s STRING").await.unwrap();
        opened.committer.commit(Epoch(1), first).await.unwrap();
        let second = write(&mut opened, &[rows(&schema, 10..20)], Epoch(2)).await;
        alter(&lake, catalog, "DROP t").await.unwrap();
        opened.committer.commit(Epoch(2), second).await.unwrap();
        assert_eq!(count(&lake, "SELECT count(*) FROM t WHERE s IS NULL").await, 20, "{}", lake.name);
        assert_eq!(count(&lake, "SELECT sum(id) FROM t").await, 190, "{}", lake.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_old_files_need_stays() {
    let lake = sqlite().await;
    let columns = vec![
        column("id", LogicalType::not_null(TypeRoot::BigInt)),
        column("s", nullable(TypeRoot::Varchar(crate::types::MAX_LENGTH))),
    ];
    lake.create("t", columns, &["s"]).await;
    let schema = lake.resolved("t", &[]).await.physical;
    lake.append("t", &[rows(&schema, 0..3)]).await;
    let catalog = lake.catalog.as_ref();
    let e = alter(&lake, catalog, "DROP s").await.unwrap_err().to_string();
    assert!(e.contains("the partitioning uses it"), "{e}");
    // Others can change the partitioning; files of the old one are still there.
    let (opened, table) = raw(&lake, "t").await;
    let changes = vec![
        TableUpdate::AddSpec { spec: UnboundPartitionSpec::builder().build() },
        TableUpdate::SetDefaultSpec { spec_id: -1 },
    ];
    opened.backend().commit(&table, Update { requirements: Vec::new(), changes }).await.unwrap();
    let e = alter(&lake, catalog, "DROP s").await.unwrap_err().to_string();
    assert!(e.contains("a partitioning of old"), "{e}");
    alter(&lake, catalog, "ADD x INT").await.unwrap();
    assert_eq!(count(&lake, "SELECT count(*) FROM t WHERE s = 's1' AND x IS NULL").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn wider_columns_that_partition() {
    let lake = sqlite().await;
    lake.create("t", vec![column("id", nullable(TypeRoot::Int))], &["bucket(4, id)", "id"]).await;
    let schema = lake.resolved("t", &[]).await.physical;
    let ids = RecordBatch::try_new(
        schema.clone(),
        vec![Arc::new(arrow::array::Int32Array::from(vec![Some(1), None, Some(7)]))],
    );
    lake.append("t", &[ids.unwrap()]).await;
    alter(&lake, lake.catalog.as_ref(), "MODIFY id BIGINT").await.unwrap();
    let schema = lake.resolved("t", &[]).await.physical;
    let more = RecordBatch::try_new(schema.clone(), vec![Arc::new(Int64Array::from(vec![7, 5_000_000_000]))]);
    lake.append("t", &[more.unwrap()]).await;
    assert_eq!(count(&lake, "SELECT count(*) FROM t WHERE id = 7").await, 2);
    assert_eq!(count(&lake, "SELECT count(*) FROM t WHERE id IS NULL OR id > 1000").await, 2);
    assert_eq!(count(&lake, "SELECT sum(id) FROM t").await, 5_000_000_015);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_table_shares_its_folder_with_nobody() {
    for lake in lakes().await {
        create(&lake).await;
        let schema = lake.resolved("t", &[]).await.physical;
        lake.append("t", &[rows(&schema, 0..10)]).await;
        let catalog = lake.catalog.as_ref();
        catalog.rename(&path(&lake, "t"), &path(&lake, "u"), false).await.unwrap();
        let e = catalog.rename(&path(&lake, "t"), &path(&lake, "u"), false).await.unwrap_err().to_string();
        assert!(e.contains("does not exist"), "{e}");
        create(&lake).await;
        lake.append("t", &[rows(&schema, 0..3)]).await;
        assert_eq!(count(&lake, "SELECT count(*) FROM t").await, 3);
        assert_eq!(
            lake.query("u", "SELECT count(*) FROM t").await.column(0).as_primitive::<Int64Type>().value(0),
            10
        );
        let ((_, t), (_, u)) = (raw(&lake, "t").await, raw(&lake, "u").await);
        if lake.name != "rest" {
            assert_ne!(t.metadata().location(), u.metadata().location(), "{}", lake.name);
        }
        let e = catalog.rename(&path(&lake, "u"), &path(&lake, "t"), false).await.unwrap_err().to_string();
        assert!(e.contains("already exists"), "{e}");
        let opened: &lake::Lake = &raw(&lake, "u").await.0;
        let folder = u.metadata().location();
        let [other, any] =
            [Some(u.identifier()), None].map(|except| opened.backend().is_in_use(folder, except));
        let is_server = lake.name == "rest";
        assert_eq!(other.await.unwrap(), (!is_server).then_some(false));
        assert_eq!(any.await.unwrap(), (!is_server).then_some(true));
        // The sweep of one takes nothing from the other.
        done(&lake, "t", &ALL_AGES).await;
        done(&lake, "u", &ALL_AGES).await;
        assert_eq!(count(&lake, "SELECT sum(id) FROM t").await, 3);
        assert_eq!(
            lake.query("u", "SELECT sum(id) FROM t").await.column(0).as_primitive::<Int64Type>().value(0),
            45
        );
    }
}
