//! `INSERT … ON CONFLICT DO ERROR` into a table whose PRIMARY KEY is not a key of the query: fails where two rows meet.
//!
//! ```text
//!  changes ─► held back until a watermark ─► per primary key: row kept + changes ─┬─ none left ─► -D
//!                                                                                  ├─ one ──────► +I / +U
//!                                                                                  └─ more ─────► error
//! ```
//!
//! Only watermarks settle, as in Flink: in between, a row may come to a key before the one that leaves it, since changes of
//! different rows arrive in any order.
//!
//! | state | dropped |
//! |---|---|
//! | primary key → its row | when it is taken back; with a TTL, keys not written for that long |
//! | changes since the last watermark | at the next one |
//! | the last watermark | never |
//!
//! A restored job says again how far time was: only a later watermark settles what came after.
//!
//! Input: any changelog; rows with the same upsert key replace each other, without an upsert key all are different ones. A
//! retraction of a row never seen is ignored. Output: upserts by primary key; what changes nothing is dropped. A barrier
//! writes both tables; the end comes with a watermark.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, UInt8Array};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{Int64Type, SchemaRef, UInt8Type};
use arrow::util::display::array_value_to_string;

use crate::error::{Error, Result};
use crate::operators::keyed_rows::{KeyedRows, RowChanges};
use crate::runtime::operator::{Operator, OperatorMetrics, Output, Progress, Spillable};
use crate::state::GroupDirectory;
use crate::stream::bytes::{cut, row_bytes};
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};
use crate::stream::{BATCH_BYTES, ChangeBatch, RowKind, RowKinds, Timestamp};

const PENDING: &str = "pending";
const WATERMARK: &str = "watermark";

/// The row that stands in state, among those of the changes.
const KEPT: u32 = u32::MAX;

/// Rows that must not meet.
#[derive(Debug, Clone)]
pub struct ConflictConfig {
    /// Columns in and out.
    pub schema: SchemaRef,
    /// Columns of the sink's PRIMARY KEY.
    pub key: Vec<usize>,
    /// Columns that tell the query's rows apart; empty if there are none.
    pub upsert_key: Vec<usize>,
    /// How long an untouched key is kept.
    pub ttl_ms: Option<i64>,
}

/// A change that is held back.
struct Held {
    slot: u32,
    /// Among the batches held back: number of the batch, row.
    place: (usize, usize),
    retracts: bool,
    bytes: usize,
}

/// The operator; see the module.
pub struct ConflictOperator {
    config: ConflictConfig,
    rows: KeyedRows,
    /// Changes since the last watermark, with the slots of their keys.
    pending: Vec<(ChangeBatch, Vec<u32>)>,
    watermark: Timestamp,
}

impl std::fmt::Debug for ConflictOperator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConflictOperator").field("config", &self.config).finish_non_exhaustive()
    }
}

impl ConflictOperator {
    /// An instance without rows.
    ///
    /// # Errors
    /// Internal for keys that are no columns; unsupported for columns that cannot be kept.
    pub fn new(config: ConflictConfig) -> Result<Self> {
        let fields = config.schema.fields();
        if config.key.is_empty() || config.key.iter().chain(&config.upsert_key).any(|k| *k >= fields.len()) {
            return Err(Error::internal("ON CONFLICT DO ERROR: there is no key"));
        }
        Ok(ConflictOperator {
            rows: KeyedRows::whole("a sink", &config.schema, &config.key, config.ttl_ms)?,
            pending: Vec::new(),
            watermark: Timestamp::MIN,
            config,
        })
    }

    /// The slots of the keys of some rows.
    fn slots_of(&mut self, columns: &[ArrayRef], rows: usize) -> Result<Vec<u32>> {
        let mut slots = Vec::new();
        self.rows.slots(columns, rows, &mut slots)?;
        Ok(slots)
    }

    /// Numbers that are equal for rows that are the same to the query: of the rows kept, and of the changes.
    fn identities(&self, kept: &[ArrayRef], changes: &RecordBatch) -> Result<(Vec<u32>, Vec<u32>)> {
        let all: Vec<usize> = (0..self.config.schema.fields().len()).collect();
        let columns = if self.config.upsert_key.is_empty() { &all } else { &self.config.upsert_key };
        let types: Vec<_> =
            columns.iter().map(|c| self.config.schema.field(*c).data_type().clone()).collect();
        let mut directory = GroupDirectory::new(&types)?;
        let mut numbers = |of: &[ArrayRef]| -> Result<Vec<u32>> {
            let chosen: Vec<ArrayRef> = columns.iter().filter_map(|c| of.get(*c).cloned()).collect();
            let mut numbers = Vec::new();
            if let Some(first) = chosen.first() {
                directory.intern(&chosen, first.len(), &mut numbers)?;
            }
            Ok(numbers)
        };
        Ok((numbers(kept)?, numbers(changes.columns())?))
    }

    fn settle(&mut self, out: &mut Output) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        let batches: Vec<&RecordBatch> = pending.iter().map(|(b, _)| &b.rows).collect();
        let mut order: Vec<Held> = Vec::with_capacity(batches.iter().map(|b| b.num_rows()).sum());
        let mut widths: Vec<usize> = Vec::with_capacity(order.capacity());
        for (at, (changes, slots)) in pending.iter().enumerate() {
            let bytes = row_bytes(changes.rows.columns(), changes.num_rows());
            for (row, slot) in slots.iter().enumerate() {
                let retracts = changes.kind(row).is_retraction();
                order.push(Held { slot: *slot, place: (at, row), retracts, bytes: bytes[row] });
            }
        }
        order.sort_by_key(|held| held.slot);
        widths.extend(order.iter().map(|held| held.bytes + self.rows.row_bytes(held.slot)));
        // A key is settled in one go.
        let same_key = |row: usize| order.get(row + 1).is_some_and(|next| next.slot == order[row].slot);
        for run in cut(&widths, BATCH_BYTES, same_key) {
            let held = &order[run];
            let places: Vec<(usize, usize)> = held.iter().map(|held| held.place).collect();
            self.settle_keys(&interleave_record_batch(&batches, &places)?, held, out)?;
        }
        Ok(())
    }

    /// Settles keys: all changes of each of them, key by key.
    fn settle_keys(&mut self, batch: &RecordBatch, held: &[Held], out: &mut Output) -> Result<()> {
        let order: Vec<u32> = (0..held.len() as u32).collect();
        let slot_of = |row: &u32| held[*row as usize].slot;
        let by_key = || order.chunk_by(|a, b| slot_of(a) == slot_of(b));
        let kept: Vec<u32> = by_key()
            .filter_map(|rows| rows.first().map(slot_of))
            .filter(|slot| self.rows.has(*slot))
            .collect();
        // They came in an epoch that may be over.
        self.rows.touch(&by_key().filter_map(|rows| rows.first().map(slot_of)).collect::<Vec<_>>());
        let old = self.rows.gather(&kept)?;
        let (old_ids, ids) = self.identities(&old, batch)?;
        let source = self.rows.source(batch.columns())?;
        let (mut stored, mut stored_rows, mut freed, mut gone) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut changes = RowChanges::default();
        let mut live: Vec<(u32, u32)> = Vec::new();
        let mut next_kept = 0;
        for rows in by_key() {
            let Some(slot) = rows.first().map(slot_of) else { continue };
            let is_kept = self.rows.has(slot);
            let old_row = next_kept;
            live.clear();
            if is_kept {
                live.push((old_ids[next_kept], KEPT));
                next_kept += 1;
            }
            for row in rows {
                let id = ids[*row as usize];
                let same = live.iter().position(|(other, _)| *other == id);
                match (same, held[*row as usize].retracts) {
                    (Some(place), true) => {
                        live.remove(place);
                    }
                    (None, true) => {}
                    (Some(place), false) if !self.config.upsert_key.is_empty() => live[place] = (id, *row),
                    (_, false) => live.push((id, *row)),
                }
            }
            match live.as_slice() {
                [] if is_kept => {
                    changes.old_row(old_row, RowKind::Delete);
                    freed.push(slot);
                    gone.push(slot);
                }
                [] => gone.push(slot),
                [(_, KEPT)] => {}
                [(_, row)] => {
                    if is_kept && !self.rows.expires() && self.rows.is_equal(&source, *row as usize, slot) {
                        continue;
                    }
                    changes.new_row(*row, if is_kept { RowKind::UpdateAfter } else { RowKind::Insert });
                    stored.push(slot);
                    stored_rows.push(*row);
                }
                _ => {
                    let row = rows.first().copied().unwrap_or_default() as usize;
                    return Err(self.conflict(batch, row));
                }
            }
        }
        changes.emit(batch, &old, &self.config.schema, out)?;
        self.rows.put(&stored, &source, &stored_rows);
        self.rows.remove(&freed);
        self.rows.forget(&gone);
        Ok(())
    }

    fn conflict(&self, batch: &RecordBatch, row: usize) -> Error {
        let key: Vec<String> = self
            .config
            .key
            .iter()
            .map(|k| {
                let column = batch.column(*k);
                let value = if column.is_null(row) {
                    "null".to_owned()
                } else {
                    array_value_to_string(column, row).unwrap_or_default()
                };
                format!("{}={value}", self.config.schema.field(*k).name())
            })
            .collect();
        Error::data(format!(
            "Primary key constraint violation: multiple distinct records with the same primary key detected. Conflicting key: [{}]. Use ON CONFLICT DO NOTHING to keep the first record.",
            key.join(", ")
        ))
    }
}

impl Operator for ConflictOperator {
    fn name(&self) -> &'static str {
        "SinkMaterializer"
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, _out: &mut Output) -> Result<Progress> {
        let slots = self.slots_of(batch.rows.columns(), batch.num_rows())?;
        self.pending.push((batch, slots));
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, watermark: Timestamp, out: &mut Output) -> Result<Progress> {
        if watermark > self.watermark {
            self.watermark = watermark;
            self.settle(out)?;
        }
        Ok(Progress::Done)
    }

    fn on_timer(&mut self, now: Timestamp, _out: &mut Output) -> Result<Progress> {
        let mut expired = self.rows.expire(now);
        if !expired.is_empty() {
            // Keys of changes that are held back stay.
            let mut held: Vec<u32> =
                self.pending.iter().flat_map(|(_, slots)| slots.iter().copied()).collect();
            held.sort_unstable();
            expired.retain(|slot| held.binary_search(slot).is_err());
            self.rows.forget(&expired);
        }
        Ok(Progress::Done)
    }

    fn next_timer(&self) -> Option<Timestamp> {
        self.rows.next_timer()
    }

    fn next_due(&self) -> Timestamp {
        if self.pending.is_empty() { Timestamp::MAX } else { Timestamp::MIN }
    }

    fn spillable(&self) -> Spillable {
        Spillable::ByWatermark
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        self.rows.snapshot(writer, |_| Vec::new())?;
        for (batch, slots) in &self.pending {
            let mut columns = batch.rows.columns().to_vec();
            let kinds = (0..batch.num_rows()).map(|i| batch.kind(i) as u8);
            columns.push(Arc::new(UInt8Array::from_iter_values(kinds)));
            self.rows.write(writer, PENDING, columns, slots)?;
        }
        let watermark: ArrayRef = Arc::new(Int64Array::from(vec![self.watermark.0]));
        writer.broadcast(WATERMARK, RecordBatch::try_from_iter([("watermark", watermark)])?);
        Ok(())
    }

    fn restore(&mut self, reader: &SnapshotReader) -> Result<()> {
        let width = self.config.schema.fields().len();
        self.rows.restore(reader, 0, |_, _| Ok(()))?;
        for batch in reader.table(PENDING)? {
            let n = batch.num_rows();
            let (columns, rest) =
                batch.columns().split_at_checked(width).ok_or_else(|| self.rows.broken())?;
            let kinds = rest
                .first()
                .and_then(|c| c.as_primitive_opt::<UInt8Type>())
                .ok_or_else(|| self.rows.broken())?;
            let slots = self.slots_of(columns, n)?;
            let options = RecordBatchOptions::new().with_row_count(Some(n));
            let schema = Arc::clone(&self.config.schema);
            let rows = RecordBatch::try_new_with_options(schema, columns.to_vec(), &options)?;
            self.pending.push((ChangeBatch::with_kinds(rows, RowKinds::from_array(kinds)), slots));
        }
        for batch in reader.table(WATERMARK)? {
            let column = batch.columns().first().and_then(|c| c.as_primitive_opt::<Int64Type>());
            for watermark in column.ok_or_else(|| self.rows.broken())?.values() {
                self.watermark = self.watermark.max(Timestamp(*watermark));
            }
        }
        Ok(())
    }

    fn metrics(&self) -> OperatorMetrics {
        let pending: usize = self.pending.iter().map(|(b, s)| b.memory_size() + s.capacity() * 4).sum();
        self.rows.metrics(pending)
    }
}

#[cfg(test)]
mod tests;
