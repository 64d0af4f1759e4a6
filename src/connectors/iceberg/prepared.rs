//! What a writer hands over: data files that no snapshot names yet, in a form that a checkpoint can keep.

use iceberg::spec::{
    DataFile, Schema, TableMetadata, deserialize_data_file_from_json, serialize_data_file_to_json,
};
use iceberg::table::Table;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::edges::Committable;
use crate::error::{Error, Result};
use crate::stream::Epoch;

/// The data files of one writer and epoch, as stored in checkpoints.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Prepared {
    version: u32,
    /// Whose they are.
    pub pipeline: Uuid,
    /// The epoch that they were written in.
    pub epoch: u64,
    /// The table.
    pub table: Uuid,
    /// Its partition spec.
    pub spec: i32,
    /// Where they are.
    pub paths: Vec<String>,
    files: Vec<String>,
}

impl Prepared {
    /// Describes `files`, written for the current default partition spec of `table`.
    ///
    /// # Errors
    /// Internal if a file cannot be described.
    pub fn new(table: &Table, pipeline: Uuid, epoch: Epoch, files: &[DataFile]) -> Result<Self> {
        let metadata = table.metadata();
        let described = files
            .iter()
            .map(|f| {
                serialize_data_file_to_json(
                    f.clone(),
                    metadata.default_partition_type(),
                    metadata.format_version(),
                )
                .map_err(|e| Error::internal(format!("data file {}: {}", f.file_path(), e.message())))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Prepared {
            version: 1,
            pipeline,
            epoch: epoch.0,
            table: metadata.uuid(),
            spec: metadata.default_partition_spec_id(),
            paths: files.iter().map(|f| f.file_path().to_owned()).collect(),
            files: described,
        })
    }

    /// For the checkpoint.
    ///
    /// # Errors
    /// Internal.
    pub fn to_bytes(&self) -> Result<Committable> {
        serde_json::to_vec(self).map_err(|e| Error::internal(e.to_string()))
    }

    /// From a checkpoint.
    ///
    /// # Errors
    /// Internal if they are damaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let p: Prepared = serde_json::from_slice(bytes).map_err(|e| {
            Error::internal(format!("prepared Iceberg files in the checkpoint are damaged: {e}"))
        })?;
        if p.version != 1 {
            return Err(Error::internal(format!(
                "prepared Iceberg files have the unknown version {}",
                p.version
            )));
        }
        Ok(p)
    }

    /// The files, written with `schema`.
    ///
    /// # Errors
    /// Internal.
    pub fn data_files(&self, metadata: &TableMetadata, schema: &Schema) -> Result<Vec<DataFile>> {
        let wrap = |e: iceberg::Error| Error::internal(format!("a prepared data file: {}", e.message()));
        let spec = metadata
            .partition_spec_by_id(self.spec)
            .ok_or_else(|| Error::internal(format!("the table has no partition spec {}", self.spec)))?;
        let types = spec.partition_type(schema).map_err(wrap)?;
        self.files
            .iter()
            .map(|json| deserialize_data_file_from_json(json, self.spec, &types, schema).map_err(wrap))
            .collect()
    }
}
