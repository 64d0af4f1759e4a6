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
    /// Their rows replace rows of their keys, and in which order: those of a later round those of an earlier one. Empty if
    /// they are only added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rounds: Vec<u32>,
    /// Keys that are gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<DeletedKeys>,
    /// The rows are changes by key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_key: bool,
}

/// A file of keys, for the committer alone: it goes when they are committed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct DeletedKeys {
    /// Where it is.
    pub path: String,
    /// Its size.
    pub bytes: u64,
}

/// Of files that are only added; those of changes by key have the next one, so that older programs refuse them.
const VERSION: u32 = 1;
const VERSION_BY_KEY: u32 = 2;

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
            version: VERSION,
            pipeline,
            epoch: epoch.0,
            table: metadata.uuid(),
            spec: metadata.default_partition_spec_id(),
            paths: files.iter().map(|f| f.file_path().to_owned()).collect(),
            files: described,
            rounds: Vec::new(),
            deleted: None,
            by_key: false,
        })
    }

    /// The same files as changes by key.
    #[must_use]
    pub fn by_key(self, rounds: Vec<u32>, deleted: Option<DeletedKeys>) -> Self {
        Prepared { version: VERSION_BY_KEY, rounds, deleted, by_key: true, ..self }
    }

    /// All files that it answers for.
    pub fn all_paths(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().chain(self.deleted.as_ref().map(|d| &d.path)).map(String::as_str)
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
        if ![VERSION, VERSION_BY_KEY].contains(&p.version) {
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
