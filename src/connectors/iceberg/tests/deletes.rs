//! Position and equality deletes as other engines write them, committed by hand.

use std::collections::HashMap;

use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use iceberg::MetadataLocation;
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, ManifestListWriter, ManifestWriterBuilder,
    Operation, Snapshot, Struct, Summary,
};
use parquet::arrow::ArrowWriter;
use sqlx::Connection as _;

use super::reads::raw;
use super::*;

async fn people(lake: &Lake, ids: Vec<Option<i64>>, names: Vec<Option<&str>>) {
    if lake.catalog.get(&lake.database, "t").await.unwrap().is_none() {
        let columns = vec![column("id", nullable(TypeRoot::BigInt)), column("name", LogicalType::string())];
        lake.create("t", columns, &[]).await;
    }
    let schema = lake.resolved("t", &[]).await.physical;
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(ids)), Arc::new(StringArray::from(names))];
    lake.append("t", &[RecordBatch::try_new(schema, columns).unwrap()]).await;
}

fn with_id(name: &str, ty: DataType, nullable: bool, id: i32) -> Field {
    Field::new(name, ty, nullable)
        .with_metadata(HashMap::from([("PARQUET:field_id".to_owned(), id.to_string())]))
}

/// Writes a delete file.
async fn delete_file(
    table: &iceberg::table::Table,
    content: DataContentType,
    ids: Option<Vec<i32>>,
    fields: Vec<Field>,
    columns: Vec<ArrayRef>,
    extension: &str,
) -> DataFile {
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let path = format!("{}/data/delete-{}.{extension}", table.metadata().location(), Uuid::new_v4());
    let size = bytes.len() as u64;
    table.file_io().new_output(&path).unwrap().write(bytes.into()).await.unwrap();
    DataFileBuilder::default()
        .content(content)
        .file_path(path)
        .file_format(DataFileFormat::Parquet)
        .partition(Struct::empty())
        .partition_spec_id(0)
        .record_count(batch.num_rows() as u64)
        .file_size_in_bytes(size)
        .equality_ids(ids)
        .build()
        .unwrap()
}

/// Adds a snapshot with delete files, which the crate's transactions cannot.
pub async fn commit_deletes(lake: &Lake, files: Vec<DataFile>) {
    let (opened, table) = raw(lake, "t").await;
    let metadata = table.metadata();
    let parent = metadata.current_snapshot().unwrap();
    let id = (Uuid::new_v4().as_u64_pair().0 >> 1) as i64;
    let seq = metadata.next_sequence_number();
    let meta = |name: &str| format!("{}/metadata/{name}-{}.avro", metadata.location(), Uuid::new_v4());
    let mut manifest = ManifestWriterBuilder::new(
        table.file_io().new_output(meta("m")).unwrap(),
        Some(id),
        metadata.current_schema().clone(),
        metadata.default_partition_spec().as_ref().clone(),
    )
    .build_v2_deletes();
    for f in files {
        manifest.add_file(f, -1).unwrap();
    }
    let manifest = manifest.write_manifest_file().await.unwrap();
    let list = meta("snap");
    let existing = table.manifest_list_reader(parent).load().await.unwrap();
    let output = table.file_io().new_output(&list).unwrap();
    let mut writer =
        ManifestListWriter::v2(output.writer().await.unwrap(), id, Some(parent.snapshot_id()), seq);
    writer.add_manifests(existing.entries().iter().cloned().chain([manifest])).unwrap();
    writer.close().await.unwrap();
    let snapshot = Snapshot::builder()
        .with_snapshot_id(id)
        .with_parent_snapshot_id(Some(parent.snapshot_id()))
        .with_sequence_number(seq)
        .with_timestamp_ms(parent.timestamp_ms() + 1)
        .with_manifest_list(list)
        .with_summary(Summary { operation: Operation::Delete, additional_properties: HashMap::new() })
        .with_schema_id(metadata.current_schema_id())
        .build();
    let old = table.metadata_location().unwrap().to_owned();
    let new = metadata
        .clone()
        .into_builder(Some(old.clone()))
        .set_branch_snapshot(snapshot, "main")
        .unwrap()
        .build()
        .unwrap()
        .metadata;
    let location: MetadataLocation = old.parse().unwrap();
    let location = location.with_next_version();
    new.write_to(table.file_io(), &location).await.unwrap();
    let mut db = sqlx::SqliteConnection::connect(&opened.config.uri).await.unwrap();
    let done = sqlx::query("UPDATE iceberg_tables SET metadata_location = ? WHERE metadata_location = ?")
        .bind(location.to_string())
        .bind(old)
        .execute(&mut db)
        .await
        .unwrap();
    assert_eq!(done.rows_affected(), 1);
}

pub async fn data_paths(lake: &Lake) -> Vec<String> {
    let (_, table) = raw(lake, "t").await;
    let list = table.manifest_list_reader(table.metadata().current_snapshot().unwrap()).load().await.unwrap();
    let mut paths = Vec::new();
    for m in list.entries() {
        for e in m.load_manifest(table.file_io()).await.unwrap().entries() {
            if e.content_type() == DataContentType::Data {
                paths.push(e.file_path().to_owned());
            }
        }
    }
    paths
}

pub async fn positions(lake: &Lake, rows: &[(&str, i64)]) -> DataFile {
    let (_, table) = raw(lake, "t").await;
    delete_file(
        &table,
        DataContentType::PositionDeletes,
        None,
        vec![
            with_id("file_path", DataType::Utf8, false, 2_147_483_546),
            with_id("pos", DataType::Int64, false, 2_147_483_545),
        ],
        vec![
            Arc::new(StringArray::from_iter_values(rows.iter().map(|(p, _)| *p))),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, r)| *r))),
        ],
        "parquet",
    )
    .await
}

async fn names(lake: &Lake, keys: Vec<Option<&str>>) -> DataFile {
    let (_, table) = raw(lake, "t").await;
    delete_file(
        &table,
        DataContentType::EqualityDeletes,
        Some(vec![2]),
        vec![with_id("name", DataType::Utf8, true, 2)],
        vec![Arc::new(StringArray::from(keys))],
        "parquet",
    )
    .await
}

async fn left(lake: &Lake) -> Vec<Option<i64>> {
    let got = lake.query("t", "SELECT id FROM t ORDER BY id NULLS LAST").await;
    let batch: Vec<_> = got.column(0).as_primitive::<Int64Type>().iter().collect();
    let source = lake.source("t", &[]).await.unwrap();
    let rows = drain(&mut source.readers(request(2), 2, None).await.unwrap()).await;
    let mut streamed: Vec<Option<i64>> = rows
        .iter()
        .flat_map(|b| b.column(0).as_primitive::<Int64Type>().iter().collect::<Vec<_>>())
        .collect();
    streamed.sort_by_key(|v| v.unwrap_or(i64::MAX));
    assert_eq!(batch, streamed);
    batch
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_are_applied_to_their_file() {
    let lake = sqlite().await;
    people(&lake, vec![Some(1), Some(2), Some(3)], vec![Some("a"), None, Some("c")]).await;
    people(&lake, vec![Some(4), Some(5), None], vec![Some("a"), None, Some("c")]).await;
    let paths = data_paths(&lake).await;
    // A path that is in no snapshot, a position twice, the last row of a file.
    let first =
        positions(&lake, &[("file:///nowhere", 0), (&paths[0], 0), (&paths[0], 0), (&paths[1], 2)]).await;
    commit_deletes(&lake, vec![first]).await;
    let before = left(&lake).await;
    assert_eq!(before.len(), 4);
    // Another file, the same data file: both count.
    let second = positions(&lake, &[(&paths[0], 2)]).await;
    commit_deletes(&lake, vec![second]).await;
    let after = left(&lake).await;
    assert_eq!(after.len(), 3);
    let got = lake.query("t", "SELECT count(*) AS c FROM t").await;
    assert_eq!(
        got.column(0).as_primitive::<Int64Type>().value(0),
        3,
        "statistics must not count deleted rows"
    );
    let got = lake.query("t", "SELECT id FROM t WHERE name IS NULL ORDER BY id").await;
    assert_eq!(got.column(0).as_primitive::<Int64Type>().values(), &[2, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn equality_deletes_match_nulls_and_only_older_rows() {
    let lake = sqlite().await;
    people(&lake, vec![Some(1), Some(2), Some(3)], vec![Some("a"), None, Some("c")]).await;
    let keys = names(&lake, vec![Some("a"), Some("zzz")]).await;
    commit_deletes(&lake, vec![keys]).await;
    // A key that is not NULL leaves NULLs alone.
    assert_eq!(left(&lake).await, [Some(2), Some(3)]);
    // Rows added later stay.
    people(&lake, vec![Some(4), Some(5)], vec![Some("a"), None]).await;
    assert_eq!(left(&lake).await, [Some(2), Some(3), Some(4), Some(5)]);
    // NULL is a key like any other.
    let keys = names(&lake, vec![None]).await;
    commit_deletes(&lake, vec![keys]).await;
    assert_eq!(left(&lake).await, [Some(3), Some(4)]);
    // Both kinds at once, and the key column is not among the selected ones.
    let paths = data_paths(&lake).await;
    let rows: Vec<(&str, i64)> = paths.iter().map(|p| (p.as_str(), 2)).collect();
    let both = vec![positions(&lake, &rows).await, names(&lake, vec![Some("a")]).await];
    commit_deletes(&lake, both).await;
    assert_eq!(left(&lake).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_vectors_are_refused() {
    let lake = sqlite().await;
    people(&lake, vec![Some(1)], vec![Some("a")]).await;
    let (_, table) = raw(&lake, "t").await;
    let file = delete_file(
        &table,
        DataContentType::PositionDeletes,
        None,
        vec![with_id("x", DataType::Int64, true, 1)],
        vec![Arc::new(Int64Array::from(vec![1]))],
        "puffin",
    )
    .await;
    commit_deletes(&lake, vec![file]).await;
    let source = lake.source("t", &[]).await.unwrap();
    let e = source.readers(request(1), 1, None).await.err().unwrap().to_string();
    assert!(e.contains("deletion vectors") && e.contains("compact"), "{e}");
}
