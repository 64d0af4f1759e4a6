//! Position delete files: which rows of which data files are gone, one file per partition.
//!
//! | column | field id | |
//! |---|---|---|
//! | `file_path` | 2147483546 | the data file |
//! | `pos` | 2147483545 | its row, from 0 |
//!
//! Sorted by both. The bounds of `file_path` in the manifest let readers pass by delete files that do not concern them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use iceberg::metadata_columns::{RESERVED_FIELD_ID_DELETE_FILE_PATH, RESERVED_FIELD_ID_DELETE_FILE_POS};
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum, PartitionKey, Struct, TableMetadata,
};
use iceberg::table::Table;
use iceberg::writer::file_writer::location_generator::LocationGenerator;
use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use uuid::Uuid;

use super::super::paths::TrackedLocations;
use super::index::Left;
use crate::error::{Error, Result};

/// Rows that are turned into Arrow at a time.
const CHUNK: usize = 1 << 16;

/// Writes what is gone; gives the files with their partition specs.
///
/// # Errors
/// External.
pub(in super::super) async fn write(
    table: &Table,
    metadata: &TableMetadata,
    left: &[Left<'_>],
) -> Result<Vec<(i32, DataFile)>> {
    let mut partitions: Vec<((i32, &Struct), Vec<&Left<'_>>)> = Vec::new();
    let mut known: HashMap<(i32, &Struct), usize> = HashMap::new();
    for file in left {
        let key = (file.spec, file.partition);
        let at = *known.entry(key).or_insert_with(|| {
            partitions.push((key, Vec::new()));
            partitions.len() - 1
        });
        if let Some((_, files)) = partitions.get_mut(at) {
            files.push(file);
        }
    }
    let (paths, run) = (TrackedLocations::new(metadata), Uuid::now_v7());
    let mut written = Vec::with_capacity(partitions.len());
    for (number, ((spec, partition), files)) in partitions.into_iter().enumerate() {
        let partition_spec = metadata
            .partition_spec_by_id(spec)
            .ok_or_else(|| Error::internal(format!("the table has no partition spec {spec}")))?;
        let key = PartitionKey::new(
            partition_spec.as_ref().clone(),
            Arc::clone(metadata.current_schema()),
            partition.clone(),
        );
        let name = format!("{run}-{number:05}-deletes.parquet");
        let path = paths.generate_location((!partition_spec.is_unpartitioned()).then_some(&key), &name);
        let bytes = encode(&files)?;
        let size = bytes.len() as u64;
        let output = table.file_io().new_output(&path);
        let stored = match output {
            Ok(output) => output.write(bytes.into()).await,
            Err(e) => Err(e),
        };
        stored.map_err(|e| Error::external(format!("{path}: {}", e.message())))?;
        let mut file = DataFileBuilder::default();
        file.content(DataContentType::PositionDeletes)
            .file_path(path)
            .file_format(DataFileFormat::Parquet)
            .partition(partition.clone())
            .partition_spec_id(spec)
            .record_count(files.iter().map(|f| f.rows.len() as u64).sum())
            .file_size_in_bytes(size);
        if let (Some(first), Some(last)) = (files.first(), files.last()) {
            let bound =
                |path: &str| HashMap::from([(RESERVED_FIELD_ID_DELETE_FILE_PATH, Datum::string(path))]);
            file.lower_bounds(bound(first.path)).upper_bounds(bound(last.path));
            if files.len() == 1 {
                file.referenced_data_file(Some(first.path.to_owned()));
            }
        }
        let file = file.build().map_err(|e| Error::internal(format!("a delete file: {e}")))?;
        written.push((spec, file));
    }
    Ok(written)
}

fn encode(files: &[&Left<'_>]) -> Result<Vec<u8>> {
    let field = |name: &str, ty: DataType, id: i32| {
        let id = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())]);
        Field::new(name, ty, false).with_metadata(id)
    };
    let schema = Arc::new(Schema::new(vec![
        field("file_path", DataType::Utf8, RESERVED_FIELD_ID_DELETE_FILE_PATH),
        field("pos", DataType::Int64, RESERVED_FIELD_ID_DELETE_FILE_POS),
    ]));
    let properties = WriterProperties::builder()
        .set_created_by(format!("tidelake {}", env!("CARGO_PKG_VERSION")))
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), Some(properties))?;
    for file in files {
        for rows in file.rows.chunks(CHUNK) {
            let paths: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|_| file.path)));
            let rows: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| i64::from(*r))));
            writer.write(&RecordBatch::try_new(Arc::clone(&schema), vec![paths, rows])?)?;
        }
    }
    Ok(writer.into_inner()?)
}
