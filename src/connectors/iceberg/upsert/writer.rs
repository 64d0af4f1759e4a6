//! Rows that replace each other by key, into data files and the keys that are gone.
//!
//! ```text
//!  changes ─► buffer, the last row of each key ─► (buffer full, barrier) ─► IcebergWriter: data files of one round
//!          └► keys whose last change is a delete ─────────► (barrier) ────► a file of deleted keys, for the committer alone
//! ```
//!
//! What a key's older rows are and where they stand is the committer's to find out. Files of a later round replace rows of an
//! earlier one, so that memory stays bounded however many changes an epoch has.
//!
//! State: the buffer since the last round; the deleted keys since the last barrier.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanBufferBuilder, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use hashbrown::HashMap as Map;
use iceberg::writer::file_writer::location_generator::LocationGenerator;
use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
use uuid::Uuid;

use super::super::prepared::DeletedKeys;
use super::super::writer::IcebergWriter;
use super::keys::{Key, KeyColumns};
use crate::edges::{Committable, SinkWriter};
use crate::error::{Error, Result};
use crate::stream::bytes::batch_bytes;
use crate::stream::{ChangeBatch, Epoch, RowKind};

/// Bytes of rows that are held back to find the last one of each key.
const BUFFER: usize = if cfg!(test) { 2 << 10 } else { 64 << 20 };

/// A row of the buffer.
type Row = (u32, u32);

/// Writes the changes of one subtask.
pub(in super::super) struct UpsertWriter {
    inner: IcebergWriter,
    columns: KeyColumns,
    /// Where the key columns stand in the rows.
    key: Vec<usize>,
    buffer: Vec<RecordBatch>,
    bytes: usize,
    /// The last row of each key of the buffer.
    last: Map<Key, Row>,
    /// Key columns of deleted keys, and which rows of them still count.
    deleted: Vec<RecordBatch>,
    gone: Map<Key, Row>,
    round: u32,
}

impl UpsertWriter {
    /// Over a writer of rows. `key` is where the columns of `columns` stand in them.
    pub fn new(inner: IcebergWriter, columns: KeyColumns, key: Vec<usize>) -> Self {
        UpsertWriter {
            inner,
            columns,
            key,
            buffer: Vec::new(),
            bytes: 0,
            last: Map::new(),
            deleted: Vec::new(),
            gone: Map::new(),
            round: 0,
        }
    }

    fn take(&mut self, batch: &ChangeBatch) -> Result<()> {
        let columns = self.columns.conform(&key_columns(&batch.rows, &self.key)?)?;
        let keys = self.columns.keys(&columns)?;
        let number = |n: usize| u32::try_from(n).map_err(|_| Error::internal("too many rows in a buffer"));
        let (rows, deleted) = (number(self.buffer.len())?, number(self.deleted.len())?);
        let mut deletes = false;
        for (i, key) in keys.into_iter().enumerate() {
            let row = number(i)?;
            match batch.kind(i) {
                RowKind::Insert | RowKind::UpdateAfter => {
                    self.last.insert(key, (rows, row));
                    self.gone.remove(&key);
                }
                RowKind::Delete | RowKind::UpdateBefore => {
                    self.last.remove(&key);
                    self.gone.insert(key, (deleted, row));
                    deletes = true;
                }
            }
        }
        if deletes {
            let field =
                |(i, c): (usize, &ArrayRef)| Field::new(format!("key{i}"), c.data_type().clone(), true);
            let fields: Vec<Field> = columns.iter().enumerate().map(field).collect();
            self.deleted.push(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?);
        }
        self.bytes += batch_bytes(&batch.rows);
        self.buffer.push(batch.rows.clone());
        Ok(())
    }

    /// Writes the last row of each key of the buffer.
    async fn write_round(&mut self) -> Result<()> {
        let (buffer, last) = (std::mem::take(&mut self.buffer), std::mem::take(&mut self.last));
        self.bytes = 0;
        for rows in pick(buffer, last.into_values())? {
            self.inner.write(ChangeBatch::insert_only(rows)).await?;
        }
        self.inner.end_round(self.round).await?;
        self.round += 1;
        Ok(())
    }

    /// Stores the deleted keys.
    async fn write_deleted(&mut self) -> Result<Option<DeletedKeys>> {
        let (deleted, gone) = (std::mem::take(&mut self.deleted), std::mem::take(&mut self.gone));
        let picked = pick(deleted, gone.into_values())?;
        let Some(first) = picked.first() else { return Ok(None) };
        let schema = with_ids(&first.schema(), self.columns.ids())?;
        let all = concat_batches(&first.schema(), &picked)?;
        let all = RecordBatch::try_new(Arc::clone(&schema), all.columns().to_vec())?;
        let mut writer = ArrowWriter::try_new(Vec::new(), schema, None)?;
        writer.write(&all)?;
        let bytes = writer.into_inner()?;
        let size = bytes.len() as u64;
        let setup = self.inner.setup();
        let path =
            self.inner.paths().generate_location(None, &format!("{}-deleted-keys.parquet", Uuid::now_v7()));
        let stored = match setup.table.file_io().new_output(&path) {
            Ok(output) => output.write(bytes.into()).await,
            Err(e) => Err(e),
        };
        stored.map_err(|e| setup.lake.error(path.clone(), &e))?;
        Ok(Some(DeletedKeys { path, bytes: size }))
    }
}

fn key_columns(rows: &RecordBatch, key: &[usize]) -> Result<Vec<ArrayRef>> {
    let column =
        |i: &usize| rows.columns().get(*i).cloned().ok_or_else(|| Error::internal("rows without their key"));
    key.iter().map(column).collect()
}

/// The rows of `buffer` that are chosen, in their order.
fn pick(buffer: Vec<RecordBatch>, rows: impl Iterator<Item = Row>) -> Result<Vec<RecordBatch>> {
    let mut masks: Vec<BooleanBufferBuilder> = buffer
        .iter()
        .map(|b| {
            let mut mask = BooleanBufferBuilder::new(b.num_rows());
            mask.append_n(b.num_rows(), false);
            mask
        })
        .collect();
    for (batch, row) in rows {
        if let Some(mask) = masks.get_mut(batch as usize) {
            mask.set_bit(row as usize, true);
        }
    }
    let mut picked = Vec::with_capacity(buffer.len());
    for (batch, mut mask) in buffer.into_iter().zip(masks) {
        let mask = arrow::array::BooleanArray::new(mask.finish(), None);
        match mask.true_count() {
            0 => {}
            n if n == batch.num_rows() => picked.push(batch),
            _ => picked.push(filter_record_batch(&batch, &mask)?),
        }
    }
    Ok(picked)
}

/// Columns with the ids by which they are read.
fn with_ids(schema: &SchemaRef, ids: &[i32]) -> Result<SchemaRef> {
    let fields = schema.fields().iter().zip(ids).map(|(f, id)| {
        let id = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())]);
        Field::new(f.name(), f.data_type().clone(), f.is_nullable()).with_metadata(id)
    });
    Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

#[async_trait]
impl SinkWriter for UpsertWriter {
    async fn write(&mut self, batch: ChangeBatch) -> Result<()> {
        if batch.num_rows() > 0 {
            self.take(&batch)?;
            if self.bytes >= BUFFER {
                self.write_round().await?;
            }
        }
        Ok(())
    }

    async fn prepare(&mut self, epoch: Epoch) -> Result<Option<Committable>> {
        self.write_round().await?;
        self.round = 0;
        let deleted = self.write_deleted().await?;
        self.inner.prepare_changes(epoch, deleted).await
    }

    async fn abort(&mut self) {
        (self.buffer, self.deleted) = Default::default();
        (self.last, self.gone, self.bytes) = Default::default();
        self.inner.abort().await;
    }

    fn bytes_written(&self) -> u64 {
        self.inner.bytes_written()
    }
}
