//! Tables that keep how far their source was read, and columns that come with the rows.

use arrow::array::{AsArray, Int64Array, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Fields, Int64Type, Schema};
use iceberg::TableIdent;
use iceberg::transaction::{ApplyTransactionAction, Transaction};

use super::super::{KeptPositions, kept_positions};
use super::*;
use crate::edges::{Claim, SplitState};

const KEPT: &[(&str, &str)] = &[("source-positions", "table")];

fn states(offsets: &[(&str, i64)]) -> Vec<SplitState> {
    let state = |(split, offset): &(&str, i64)| SplitState {
        split: (*split).to_owned(),
        position: format!("{{\"offset\":{offset}}}"),
    };
    offsets.iter().map(state).collect()
}

fn ids(range: std::ops::Range<i64>) -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
    RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from_iter_values(range))]).unwrap()
}

async fn table_of_ids(lake: &Lake) {
    lake.create("t", vec![column("id", nullable(TypeRoot::BigInt))], &[]).await;
}

async fn claimed(lake: &Lake, hints: &[(&str, &str)]) -> crate::Result<(Claim, OpenedSink)> {
    let sink = lake.sink("t", hints).await?;
    assert!(sink.keeps_positions());
    let claim = sink.claim().await?;
    let context = SinkContext { claim: Some(claim.clone()), ..SinkContext::new(WriteMode::Append, 1) };
    Ok((claim, sink.open(&context).await?))
}

async fn count(lake: &Lake) -> i64 {
    let got = lake.query("t", "SELECT count(*) AS c FROM t").await;
    got.column(0).as_primitive::<Int64Type>().value(0)
}

async fn kept(lake: &Lake) -> KeptPositions {
    kept_positions("lake", &lake.options, lake.dir.path(), &lake.database, "t").await.unwrap().unwrap()
}

/// The crate's client and the table.
async fn client(lake: &Lake) -> (Arc<dyn iceberg::Catalog>, TableIdent) {
    let (opened, table) = super::reads::raw(lake, "t").await;
    (Arc::clone(opened.client()), table.identifier().clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_positions_are_one_commit() {
    for lake in lakes().await {
        table_of_ids(&lake).await;
        let (first, mut opened) = claimed(&lake, KEPT).await.unwrap();
        assert_eq!((first.generation, first.epoch, first.positions), (1, Epoch(0), None), "{}", lake.name);
        let rows = write(&mut opened, &[ids(0..10)], Epoch(1)).await;
        opened.committer.on_positions(states(&[("a", 10), ("b", 0)]), false);
        opened.committer.commit(Epoch(1), rows).await.unwrap();
        // No rows, and nothing has moved.
        opened.committer.commit(Epoch(2), Vec::new()).await.unwrap();
        // Records without rows: they wait for rows, or for the end.
        opened.committer.on_positions(states(&[("a", 11), ("b", 0)]), false);
        opened.committer.commit(Epoch(3), Vec::new()).await.unwrap();
        assert_eq!(kept(&lake).await.commits.len(), 2);
        opened.committer.on_positions(states(&[("a", 12), ("b", 5)]), true);
        opened.committer.commit(Epoch(4), Vec::new()).await.unwrap();

        let (second, mut opened) = claimed(&lake, KEPT).await.unwrap();
        assert_eq!((second.generation, second.epoch), (2, Epoch(4)));
        assert_eq!(second.positions, Some(states(&[("a", 12), ("b", 5)])));
        let rows = write(&mut opened, &[ids(10..12)], Epoch(5)).await;
        opened.committer.on_positions(states(&[("a", 14), ("b", 5)]), true);
        opened.committer.commit(Epoch(5), rows.clone()).await.unwrap();
        assert_eq!(count(&lake).await, 12);
        let kept = kept(&lake).await;
        let shown: Vec<_> =
            kept.commits.iter().map(|c| (c.epoch, c.rows, c.is_claim, c.ranges.len())).collect();
        assert_eq!(
            shown,
            [(0, 0, true, 0), (1, 10, false, 2), (4, 0, false, 2), (4, 0, true, 2), (5, 2, false, 1)]
        );
        assert_eq!(kept.commits[4].ranges["a"].0["offset"], 12);
        assert_eq!((kept.now["a"]["offset"].as_i64(), kept.is_rolled_back), (Some(14), false));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_process_is_fenced() {
    for lake in lakes().await {
        table_of_ids(&lake).await;
        let (_, mut old) = claimed(&lake, KEPT).await.unwrap();
        let rows = write(&mut old, &[ids(0..10)], Epoch(1)).await;
        old.committer.on_positions(states(&[("a", 10)]), false);
        let (claim, mut new) = claimed(&lake, KEPT).await.unwrap();
        assert_eq!((claim.generation, claim.positions), (2, None));
        let e = old.committer.commit(Epoch(1), rows.clone()).await.unwrap_err();
        assert!(e.to_string().contains("taken over by another process (generation 2)"), "{e}");
        assert!(!e.is_retryable(), "another attempt would only fence the other");
        old.committer.abort(Some(Epoch(1)), rows).await;
        if lake.folder.is_some() {
            assert!(lake.data_files().is_empty(), "nothing can commit them any more");
        }
        let rows = write(&mut new, &[ids(0..10)], Epoch(1)).await;
        new.committer.on_positions(states(&[("a", 10)]), false);
        new.committer.commit(Epoch(1), rows).await.unwrap();
        assert_eq!(count(&lake).await, 10, "{}", lake.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_begin_at_once_one_goes_on() {
    let lake = Arc::new(sqlite().await);
    table_of_ids(&lake).await;
    let starts = (0..5).map(|_| {
        let lake = Arc::clone(&lake);
        tokio::spawn(async move {
            let sink = lake.sink("t", KEPT).await.unwrap();
            (sink.claim().await.unwrap(), sink)
        })
    });
    let mut committed = 0;
    for (claim, sink) in futures::future::join_all(starts).await.into_iter().map(|s| s.unwrap()) {
        let context = SinkContext { claim: Some(claim), ..SinkContext::new(WriteMode::Append, 1) };
        let Ok(mut opened) = sink.open(&context).await else { continue };
        let rows = write(&mut opened, &[ids(0..10)], Epoch(1)).await;
        opened.committer.on_positions(states(&[("a", 10)]), false);
        committed += usize::from(opened.committer.commit(Epoch(1), rows).await.is_ok());
    }
    assert_eq!((committed, count(&lake).await), (1, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_do_to_the_table_is_seen() {
    let lake = sqlite().await;
    table_of_ids(&lake).await;
    let (_, mut opened) = claimed(&lake, KEPT).await.unwrap();
    let rows = write(&mut opened, &[ids(0..10)], Epoch(1)).await;
    opened.committer.on_positions(states(&[("a", 10)]), false);
    opened.committer.commit(Epoch(1), rows).await.unwrap();
    // Rows of others are none of its business.
    lake.append("t", &[ids(100..103)]).await;
    let rows = write(&mut opened, &[ids(10..20)], Epoch(2)).await;
    opened.committer.on_positions(states(&[("a", 20)]), false);
    opened.committer.commit(Epoch(2), rows).await.unwrap();
    assert_eq!(count(&lake).await, 23);
    // Nor is it that all of its own snapshots have expired.
    lake.append("t", &[ids(200..201)]).await;
    let (client, ident) = client(&lake).await;
    let table = client.load_table(&ident).await.unwrap();
    let transaction = Transaction::new(&table);
    let now = i64::MAX;
    let expire = transaction.expire_snapshots().expire_older_than_ms(now).retain_last(1);
    expire.apply(transaction).unwrap().commit(&*client).await.unwrap();
    assert_eq!(client.load_table(&ident).await.unwrap().metadata().snapshots().len(), 1);
    let (claim, _) = claimed(&lake, KEPT).await.unwrap();
    assert_eq!((claim.generation, claim.epoch, claim.positions), (2, Epoch(2), Some(states(&[("a", 20)]))));
}

/// Makes an older snapshot the current one, as another engine's rollback does.
async fn roll_back(lake: &Lake, to: i64) {
    let (client, ident) = client(lake).await;
    let table = client.load_table(&ident).await.unwrap();
    let location = table.metadata_location().unwrap().to_owned();
    let text = table.file_io().new_input(&location).unwrap().read().await.unwrap();
    let mut json: serde_json::Value = serde_json::from_slice(&text).unwrap();
    json["current-snapshot-id"] = to.into();
    json["refs"]["main"]["snapshot-id"] = to.into();
    let folder = location.rsplit_once('/').unwrap().0;
    let rolled = format!("{folder}/00099-{}.metadata.json", Uuid::new_v4());
    let output = table.file_io().new_output(&rolled).unwrap();
    output.write(serde_json::to_vec(&json).unwrap().into()).await.unwrap();
    client.drop_table(&ident).await.unwrap();
    client.register_table(&ident, rolled).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_is_asked_about() {
    let lake = sqlite().await;
    table_of_ids(&lake).await;
    let (_, mut opened) = claimed(&lake, KEPT).await.unwrap();
    for (epoch, at) in [(1, 10), (2, 20), (3, 30)] {
        let rows = write(&mut opened, &[ids(at - 10..at)], Epoch(epoch)).await;
        opened.committer.on_positions(states(&[("a", at)]), false);
        opened.committer.commit(Epoch(epoch), rows).await.unwrap();
    }
    let second = kept(&lake).await.commits[2].snapshot;
    roll_back(&lake, second).await;
    assert!(kept(&lake).await.is_rolled_back);
    // The one that runs stops.
    let rows = write(&mut opened, &[ids(30..40)], Epoch(4)).await;
    opened.committer.on_positions(states(&[("a", 40)]), false);
    let e = opened.committer.commit(Epoch(4), rows).await.unwrap_err();
    assert!(e.to_string().contains("rolled back"), "{e}");
    // So does one that starts, unless it is told what to do.
    let e = claimed(&lake, KEPT).await.err().unwrap();
    assert!(e.to_string().contains("rolled back") && e.to_string().contains("'resume'"), "{e}");
    let resume = &[KEPT[0], ("source-positions.on-rollback", "resume")];
    let (claim, mut opened) = claimed(&lake, resume).await.unwrap();
    assert_eq!(claim.positions, Some(states(&[("a", 20)])));
    let rows = write(&mut opened, &[ids(20..25)], Epoch(4)).await;
    opened.committer.on_positions(states(&[("a", 25)]), false);
    opened.committer.commit(Epoch(4), rows).await.unwrap();
    assert_eq!((count(&lake).await, kept(&lake).await.is_rolled_back), (25, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_properties_are_an_error() {
    let lake = sqlite().await;
    table_of_ids(&lake).await;
    claimed(&lake, KEPT).await.unwrap();
    let (client, ident) = client(&lake).await;
    let table = client.load_table(&ident).await.unwrap();
    let transaction = Transaction::new(&table);
    let change = transaction.update_table_properties().set("tidelake.epoch".into(), "many".into());
    change.apply(transaction).unwrap().commit(&*client).await.unwrap();
    let e = claimed(&lake, KEPT).await.err().unwrap();
    assert!(e.to_string().contains("'tidelake.epoch' is damaged"), "{e}");
}

/// A sink declared with these columns over the table `t`.
async fn declared(lake: &Lake, columns: Vec<ColumnDef>) -> crate::Result<Arc<dyn Sink>> {
    declared_in(lake, columns, "add-columns").await
}

async fn declared_in(lake: &Lake, columns: Vec<ColumnDef>, mode: &str) -> crate::Result<Arc<dyn Sink>> {
    declared_with(lake, columns, mode, &[]).await
}

async fn declared_with(
    lake: &Lake,
    columns: Vec<ColumnDef>,
    mode: &str,
    more: &[(&str, &str)],
) -> crate::Result<Arc<dyn Sink>> {
    let mut def = lake.def("t", columns, &[]);
    def.options = lake.options.clone();
    def.options.extend(
        [
            ("connector", "iceberg"),
            ("catalog-name", "lake"),
            ("catalog-database", &lake.database),
            ("catalog-table", "t"),
            ("schema-evolution", mode),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned())),
    );
    def.options.extend(more.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    let resolved = ResolvedTable::new(Arc::new(def), &BTreeMap::new())?;
    crate::connectors::ConnectorFactory::sink(&super::super::IcebergFactory, &resolved, &env(lake))
}

fn row(fields: &[(&str, TypeRoot)]) -> LogicalType {
    let field = |(name, root): &(&str, TypeRoot)| crate::types::RowField {
        name: (*name).to_owned(),
        ty: nullable(root.clone()),
        comment: None,
    };
    nullable(TypeRoot::Row(fields.iter().map(field).collect()))
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_become_wider_with_the_rows_that_need_it() {
    use arrow::array::{Decimal128Array, Float32Array, Float64Array, Int32Array};
    for lake in lakes().await {
        let narrow = [TypeRoot::Int, TypeRoot::Float, TypeRoot::Decimal(4, 2)];
        let columns = |roots: [TypeRoot; 3]| {
            let typed = ["a", "b", "c"].into_iter().zip(roots);
            typed.map(|(n, r)| column(n, nullable(r))).collect::<Vec<_>>()
        };
        let mut before = columns(narrow);
        before.push(column("d", LogicalType::not_null(TypeRoot::Int)));
        lake.create("t", before, &[]).await;
        let schema = lake.resolved("t", &[]).await.physical;
        let rows: Vec<arrow::array::ArrayRef> = vec![
            Arc::new(Int32Array::from(vec![1])),
            Arc::new(Float32Array::from(vec![1.5])),
            Arc::new(Decimal128Array::from(vec![125]).with_precision_and_scale(4, 2).unwrap()),
            Arc::new(Int32Array::from(vec![4])),
        ];
        lake.append("t", &[RecordBatch::try_new(schema, rows).unwrap()]).await;
        let mut wide = columns([TypeRoot::BigInt, TypeRoot::Double, TypeRoot::Decimal(9, 2)]);
        wide.push(column("d", nullable(TypeRoot::Int)));
        // Only columns that are missing are added, unless more is asked for.
        let sink = declared(&lake, wide.clone()).await.unwrap();
        assert!(sink.open(&SinkContext::new(WriteMode::Append, 1)).await.is_ok());
        let sink = declared_in(&lake, wide, "full").await.unwrap();
        let mut opened = sink.open(&SinkContext::new(WriteMode::Append, 1)).await.unwrap();
        let rows: Vec<arrow::array::ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![1 << 40])),
            Arc::new(Float64Array::from(vec![0.1])),
            Arc::new(Decimal128Array::from(vec![123_456_789]).with_precision_and_scale(9, 2).unwrap()),
            Arc::new(Int32Array::from(vec![None])),
        ];
        let rows = RecordBatch::try_new(sink.schema(), rows).unwrap();
        let committables = write(&mut opened, &[rows], Epoch(1)).await;
        opened.committer.commit(Epoch(1), committables).await.unwrap();
        let types: Vec<String> =
            lake.table("t").await.columns.iter().map(|c| c.ty.as_ref().unwrap().to_string()).collect();
        assert_eq!(types, ["BIGINT", "DOUBLE", "DECIMAL(9, 2)", "INT"], "{}", lake.name);
        let got = lake.query("t", "SELECT sum(a), max(b), sum(c), count(d) FROM t").await;
        let long = |i: usize| got.column(i).as_primitive::<Int64Type>().value(0);
        assert_eq!((long(0), long(3)), ((1 << 40) + 1, 1), "{}", lake.name);
        assert_eq!(got.column(2).as_primitive::<arrow::datatypes::Decimal128Type>().value(0), 123_456_914);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_come_with_the_rows_that_have_them() {
    for lake in lakes().await {
        lake.create(
            "t",
            vec![column("id", nullable(TypeRoot::BigInt)), column("at", row(&[("x", TypeRoot::BigInt)]))],
            &[],
        )
        .await;
        let inner: Fields =
            vec![Field::new("x", DataType::Int64, true), Field::new("y", DataType::Int64, true)].into();
        let columns = vec![
            column("id", nullable(TypeRoot::BigInt)),
            column("at", row(&[("x", TypeRoot::BigInt), ("y", TypeRoot::BigInt)])),
            column("name", LogicalType::string()),
        ];
        let sink = declared(&lake, columns).await.unwrap();
        let mut opened = sink.open(&SinkContext::new(WriteMode::Append, 1)).await.unwrap();
        let names = |def: &TableDef| def.columns.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&*lake.table("t").await), ["id", "at"], "no row has it yet");
        let ints = |v: i64| Arc::new(Int64Array::from(vec![v])) as arrow::array::ArrayRef;
        let rows = RecordBatch::try_new(
            sink.schema(),
            vec![
                ints(1),
                Arc::new(StructArray::new(inner.clone(), vec![ints(2), ints(3)], None)),
                Arc::new(StringArray::from(vec!["n"])),
            ],
        )
        .unwrap();
        let prepared = write(&mut opened, std::slice::from_ref(&rows), Epoch(1)).await;
        opened.committer.commit(Epoch(1), prepared).await.unwrap();
        let def = lake.table("t").await;
        assert_eq!(names(&def), ["id", "at", "name"], "{}", lake.name);
        assert_eq!(def.columns[1].ty.as_ref().unwrap().to_string(), "ROW<`x` BIGINT, `y` BIGINT>");
        let prepared = write(&mut opened, &[rows], Epoch(2)).await;
        opened.committer.commit(Epoch(2), prepared).await.unwrap();
        let got = lake.query("t", "SELECT sum(id) AS i, sum(at['y']) AS y, max(name) AS n FROM t").await;
        let number = |c: usize| got.column(c).as_primitive::<Int64Type>().value(0);
        assert_eq!((number(0), number(1), got.column(2).as_string::<i32>().value(0)), (2, 6, "n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_gets_another_name_with_the_first_rows_and_keeps_its_values() {
    let renames = [("schema-evolution.renames", "a:b;b:c;x:y")];
    for lake in lakes().await {
        let of =
            |names: &[&str]| names.iter().map(|n| column(n, nullable(TypeRoot::BigInt))).collect::<Vec<_>>();
        let mut def = lake.def("t", of(&["id", "a"]), &[]);
        def.options.insert("sort-order".to_owned(), "a".to_owned());
        lake.catalog.create_table(def, false).await.unwrap();
        let schema = lake.resolved("t", &[]).await.physical;
        let ints = |v: &[i64]| Arc::new(Int64Array::from(v.to_vec())) as arrow::array::ArrayRef;
        lake.append("t", &[RecordBatch::try_new(schema, vec![ints(&[2, 1]), ints(&[20, 10])]).unwrap()])
            .await;
        for (epoch, names) in [["id", "b"], ["id", "b"], ["id", "c"]].into_iter().enumerate() {
            let sink = declared_with(&lake, of(&names), "full", &renames).await.unwrap();
            let mut opened = sink.open(&SinkContext::new(WriteMode::Append, 1)).await.unwrap();
            let rows = RecordBatch::try_new(sink.schema(), vec![ints(&[4, 3]), ints(&[40, 30])]).unwrap();
            let prepared = write(&mut opened, &[rows], Epoch(epoch as u64 + 1)).await;
            opened.committer.commit(Epoch(epoch as u64 + 1), prepared).await.unwrap();
            let def = lake.table("t").await;
            let found: Vec<&str> = def.columns.iter().map(|c| c.name.as_str()).collect();
            assert_eq!(found, names, "{}", lake.name);
            assert_eq!(def.options["sort-order"], format!("`{}` NULLS FIRST", names[1]));
            let got = lake.query("t", &format!("SELECT sum({}) AS s FROM t", names[1])).await;
            assert_eq!(got.column(0).as_primitive::<Int64Type>().value(0), 30 + 70 * (epoch as i64 + 1));
        }
        // Where both are there, both stay.
        let sink = declared_with(&lake, of(&["id", "c", "b"]), "full", &renames).await.unwrap();
        let mut opened = sink.open(&SinkContext::new(WriteMode::Append, 1)).await.unwrap();
        let rows = RecordBatch::try_new(sink.schema(), vec![ints(&[5]), ints(&[50]), ints(&[500])]).unwrap();
        let prepared = write(&mut opened, &[rows], Epoch(9)).await;
        opened.committer.commit(Epoch(9), prepared).await.unwrap();
        assert_eq!(lake.table("t").await.columns.len(), 3);
        let e = declared_with(&lake, of(&["id"]), "add-columns", &renames).await.err().unwrap().to_string();
        assert!(e.contains("'schema-evolution' = 'full'"), "{e}");
        let bad = [("schema-evolution.renames", "a")];
        let e = declared_with(&lake, of(&["id"]), "full", &bad).await.err().unwrap().to_string();
        assert!(e.contains("old:new"), "{e}");
        let got = lake.query("t", "SELECT id FROM t").await;
        assert_eq!(got.num_rows(), 9);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_changed_by_others_meanwhile_is_an_error_that_another_attempt_cures() {
    let lake = sqlite().await;
    table_of_ids(&lake).await;
    let columns = || vec![column("id", nullable(TypeRoot::BigInt)), column("a", nullable(TypeRoot::BigInt))];
    let sink = declared(&lake, columns()).await.unwrap();
    let mut opened = sink.open(&SinkContext::new(WriteMode::Append, 1)).await.unwrap();
    let ints = || Arc::new(Int64Array::from(vec![1])) as arrow::array::ArrayRef;
    let rows = RecordBatch::try_new(sink.schema(), vec![ints(), ints()]).unwrap();
    let prepared = write(&mut opened, std::slice::from_ref(&rows), Epoch(1)).await;
    let mut other = columns();
    other[1].name = "b".into();
    let second = declared(&lake, other).await.unwrap();
    let mut second = second.open(&SinkContext::new(WriteMode::Append, 1)).await.unwrap();
    let theirs = write(&mut second, std::slice::from_ref(&rows), Epoch(1)).await;
    second.committer.commit(Epoch(1), theirs).await.unwrap();
    let e = opened.committer.commit(Epoch(1), prepared).await.unwrap_err();
    assert!(e.to_string().contains("changed by somebody else while adding `a`") && e.is_retryable(), "{e}");
    let mut opened = sink.open(&SinkContext::new(WriteMode::Append, 1)).await.unwrap();
    let prepared = write(&mut opened, &[rows], Epoch(1)).await;
    opened.committer.commit(Epoch(1), prepared).await.unwrap();
    let got = lake.query("t", "SELECT count(a) AS a, count(b) AS b FROM t").await;
    let number = |c: usize| got.column(c).as_primitive::<Int64Type>().value(0);
    assert_eq!((number(0), number(1)), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_contradict_are_refused() {
    let lake = sqlite().await;
    table_of_ids(&lake).await;
    let refused = async |hints: &[(&str, &str)]| match lake.sink("t", hints).await {
        Err(e) => e.to_string(),
        Ok(_) => panic!("{hints:?}"),
    };
    assert!(refused(&[("source-positions", "here")]).await.contains("'here'"));
    assert!(
        refused(&[("source-positions.on-rollback", "resume")]).await.contains("'source-positions' = 'table'")
    );
    let sink = lake.sink("t", KEPT).await.unwrap();
    let e = sink.open(&SinkContext::new(WriteMode::Append, 1)).await.err().unwrap().to_string();
    assert!(e.contains("streaming mode"), "{e}");
}
