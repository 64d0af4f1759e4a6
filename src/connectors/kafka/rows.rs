//! From Kafka's records to rows.
//!
//! ```text
//!  record ─ key ──► key decoder ──┐
//!         ─ value ► value decoder ┼─► columns in the order asked for
//!         ─ rest ─► collector ────┘
//! ```
//!
//! As in Flink: a record without a value gives no row (with `raw` it gives a row of NULLs, in an `upsert-kafka` table it
//! deletes the row of its key); the same goes for the key
//! where there is a key format; a value that holds several rows repeats the key's columns; a column that is in both
//! is taken from the value.
//!
//! Where a column asks for the error of a record (`decode-error`), a bad record is a row as well: it has NULLs where its key
//! or value would be, and the error beside them.

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Field, SchemaRef};
use rdkafka::message::{BorrowedMessage, Message};

use super::metadata::{BadValue, Collector, Key, declared};
use super::offsets::TopicPartition;
use crate::error::{Error, Result};
use crate::formats::{BadRecord, Decoded, RecordDecoder};
use crate::stream::ChangeBatch;
use crate::stream::{RowKind, RowKinds};

/// Where an output column comes from.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// A column of the value's rows.
    Value(usize),
    /// A column of the key's rows.
    Key(usize),
    /// What the value's format tells beside its rows, a further column of them.
    ValueMetadata(usize, Field),
    /// The record's metadata.
    Metadata(Key, Field),
}

/// Key or value on its way through its decoder.
pub(super) struct Side {
    decoder: Box<dyn RecordDecoder>,
    /// A record without bytes is a row of NULLs rather than nothing.
    null_is_row: bool,
    pushed: u32,
    /// Record of each pushed one, once they differ.
    record_of: Option<Vec<u32>>,
    /// Records without bytes that are rows.
    nulls: Vec<u32>,
}

impl Side {
    /// For a decoder; `null_is_row` as the format has it.
    pub(super) fn new(decoder: Box<dyn RecordDecoder>, null_is_row: bool) -> Self {
        Side { decoder, null_is_row, pushed: 0, record_of: None, nulls: Vec::new() }
    }

    fn push(&mut self, record: u32, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => {
                self.decoder.push(bytes);
                if self.record_of.is_none() && self.pushed != record {
                    self.record_of = Some((0..self.pushed).collect());
                }
                if let Some(map) = &mut self.record_of {
                    map.push(record);
                }
                self.pushed += 1;
            }
            None if self.null_is_row => self.nulls.push(record),
            None => {}
        }
    }

    /// Record of a pushed one.
    fn record(&self, pushed: u32) -> u32 {
        self.record_of.as_ref().and_then(|m| m.get(pushed as usize)).copied().unwrap_or(pushed)
    }

    /// Decodes; an error comes with the record it is about. Bad records that don't end the job are told to `meta`.
    fn flush(&mut self, meta: &mut Collector, what: &str) -> Result<Decoded, (u32, Error)> {
        let mut decoded = self.decoder.flush().map_err(|bad| (self.record(bad.record as u32), bad.error))?;
        for BadRecord { record, error, bytes } in std::mem::take(&mut decoded.bad) {
            let record = self.record(record as u32);
            self.nulls.push(record);
            meta.bad.insert(record, BadValue { error: format!("{what}: {}", error.message()), bytes });
        }
        Ok(decoded)
    }

    /// Record and row of every row, by record; a row of NULLs is `None`. Nothing when row `i` is record `i`.
    fn pairs(&self, decoded: &Decoded, records: usize) -> Option<Vec<(u32, Option<u32>)>> {
        let rows = decoded.rows.num_rows();
        if decoded.records.is_none() && self.record_of.is_none() && self.nulls.is_empty() && rows == records {
            return None;
        }
        let mut pairs: Vec<(u32, Option<u32>)> = (0..rows as u32)
            .map(|row| {
                let pushed =
                    decoded.records.as_ref().and_then(|r| r.get(row as usize)).copied().unwrap_or(row);
                (self.record(pushed), Some(row))
            })
            .collect();
        if !self.nulls.is_empty() {
            pairs.extend(self.nulls.iter().map(|record| (*record, None)));
            pairs.sort_by_key(|(record, _)| *record);
        }
        Some(pairs)
    }

    fn reset(&mut self) {
        self.pushed = 0;
        self.record_of = None;
        self.nulls.clear();
    }
}

/// Turns the records of one split at a time into batches.
pub(super) struct RowReader {
    schema: SchemaRef,
    origins: Vec<Origin>,
    key: Option<Side>,
    value: Side,
    meta: Collector,
    /// A record without a value is a deletion.
    upsert: bool,
    time_zone: chrono_tz::Tz,
    skipped: u64,
    nulled: u64,
    rested: u64,
}

impl RowReader {
    /// Columns of `schema` from `origins`.
    pub(super) fn new(
        schema: SchemaRef,
        origins: Vec<Origin>,
        key: Option<Side>,
        value: Side,
        upsert: bool,
        time_zone: chrono_tz::Tz,
    ) -> Self {
        let wants = origins
            .iter()
            .filter_map(|o| match o {
                Origin::Metadata(key, _) => Some(*key),
                _ => None,
            })
            .fold(Vec::new(), |mut all, key| {
                if !all.contains(&key) {
                    all.push(key);
                }
                all
            });
        let meta = Collector::new(wants, time_zone);
        RowReader { schema, origins, key, value, meta, upsert, time_zone, skipped: 0, nulled: 0, rested: 0 }
    }

    /// Bad records are rows as well, whether or not their errors are among the columns.
    pub(super) fn list_bad(&mut self) {
        self.value.decoder.list_bad();
        if let Some(key) = &mut self.key {
            key.decoder.list_bad();
        }
    }

    /// Takes a record.
    pub(super) fn push(&mut self, message: &BorrowedMessage<'_>) {
        let value = message.payload();
        if value.is_none() && !self.value.null_is_row {
            return;
        }
        let record = self.meta.len() as u32;
        self.meta.push(message);
        self.value.push(record, value);
        if let Some(key) = &mut self.key {
            key.push(record, message.key());
        }
    }

    /// The column that says why a record is bad, if it is asked for.
    pub(super) fn error_column(&self) -> Option<usize> {
        self.origins.iter().position(|o| matches!(o, Origin::Metadata(Key::DecodeError, _)))
    }

    /// Records that `ignore-parse-errors` dropped, since the last call.
    pub(super) fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    /// Fields that it made NULL, since the last call.
    pub(super) fn take_nulled(&mut self) -> u64 {
        std::mem::take(&mut self.nulled)
    }

    /// Rows of which a field stands in the column for the rest, since the last call.
    pub(super) fn take_rested(&mut self) -> u64 {
        std::mem::take(&mut self.rested)
    }

    /// The rows of all records taken since the last flush; `None` if there are none.
    pub(super) fn flush(&mut self, from: &TopicPartition) -> Result<Option<ChangeBatch>> {
        if self.meta.len() == 0 {
            return Ok(None);
        }
        let batch = self.build(from);
        self.meta.clear();
        self.value.reset();
        if let Some(key) = &mut self.key {
            key.reset();
        }
        batch.map(|b| Some(b).filter(|b| b.num_rows() > 0))
    }

    fn build(&mut self, from: &TopicPartition) -> Result<ChangeBatch> {
        let records = self.meta.len();
        let place = |meta: &Collector, (record, error): (u32, Error), side: &str| {
            let offset = meta.offset(record as usize).unwrap_or(-1);
            error.context(format!("{from} offset {offset}, {side}"))
        };
        let values = self.value.flush(&mut self.meta, "value").map_err(|e| place(&self.meta, e, "value"))?;
        let mut value_pairs = self.value.pairs(&values, records);
        self.skipped += values.skipped;
        self.nulled += values.nulled;
        self.rested += values.rested;

        let mut keys = None;
        let mut key_pairs = None;
        if let Some(key) = &mut self.key {
            let decoded = key.flush(&mut self.meta, "key").map_err(|e| place(&self.meta, e, "key"))?;
            key_pairs = key.pairs(&decoded, records);
            self.skipped += decoded.skipped;
            self.nulled += decoded.nulled;
            keys = Some(decoded.rows);
        }
        // Row i is record i on both sides: nothing to rearrange. That is the common case.
        let mut rows = records;
        let mut take_values = None;
        let mut take_keys = None;
        let mut take_records = None;
        let mut kinds = values.kinds.clone();
        if value_pairs.is_some() || key_pairs.is_some() {
            let identity = || (0..records as u32).map(|i| (i, Some(i))).collect::<Vec<_>>();
            let value_pairs = value_pairs.take().unwrap_or_else(identity);
            let key_pairs = keys.as_ref().map(|_| key_pairs.take().unwrap_or_else(identity));
            let joined = join(&value_pairs, key_pairs.as_deref());
            rows = joined.len();
            if values.kinds.is_some() || (self.upsert && joined.iter().any(|j| j.1.is_none())) {
                let kind = |row: Option<u32>| match row {
                    Some(row) => values.kinds.as_ref().map_or(RowKind::Insert, |k| k.get(row as usize)),
                    None if self.upsert => RowKind::Delete,
                    None => RowKind::Insert,
                };
                kinds = Some(RowKinds::new(joined.iter().map(|j| kind(j.1) as u8).collect()));
            }
            take_values = Some(joined.iter().map(|j| j.1).collect::<UInt32Array>());
            take_keys = Some(joined.iter().map(|j| j.2).collect::<UInt32Array>());
            take_records = Some(joined.iter().map(|j| Some(j.0)).collect::<UInt32Array>());
        }
        let pick = |column: &ArrayRef, by: &Option<UInt32Array>| -> Result<ArrayRef> {
            match by {
                Some(by) => Ok(take(column, by, None)?),
                None => Ok(column.clone()),
            }
        };
        let mut columns = Vec::with_capacity(self.origins.len());
        for origin in &self.origins {
            columns.push(match origin {
                Origin::Value(i) => pick(values.rows.column(*i), &take_values)?,
                Origin::Key(i) => match &keys {
                    Some(keys) => pick(keys.column(*i), &take_keys)?,
                    None => return Err(Error::internal("a key column without a key format")),
                },
                Origin::ValueMetadata(i, field) => {
                    let column = pick(values.rows.column(*i), &take_values)?;
                    declared(column, field, self.time_zone)?
                }
                Origin::Metadata(key, field) => {
                    self.meta.column(*key, field, &from.topic, from.partition, take_records.as_ref())?
                }
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let rows =
            RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map_err(|e| {
                // A NULL in a column declared NOT NULL: say where.
                let null =
                    self.schema.fields().iter().find(|f| e.to_string().contains(&format!("'{}'", f.name())));
                match null {
                    Some(f) => Error::data(format!(
                        "{from}: NULL in column `{}`, which is declared NOT NULL",
                        f.name()
                    )),
                    None => Error::from(e).context(from.to_string()),
                }
            })?;
        Ok(ChangeBatch { rows, kinds })
    }
}

/// Record, value row and key row of every output row. Both inputs are sorted by record.
fn join(
    values: &[(u32, Option<u32>)],
    keys: Option<&[(u32, Option<u32>)]>,
) -> Vec<(u32, Option<u32>, Option<u32>)> {
    let Some(keys) = keys else {
        return values.iter().map(|(record, row)| (*record, *row, None)).collect();
    };
    let mut joined = Vec::with_capacity(values.len());
    let mut start = 0;
    for (record, row) in values {
        while keys.get(start).is_some_and(|k| k.0 < *record) {
            start += 1;
        }
        let same = keys.iter().skip(start).take_while(|k| k.0 == *record);
        joined.extend(same.map(|k| (*record, *row, k.1)));
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::join;

    #[test]
    fn values_meet_the_keys_of_their_record() {
        let values = [(0, Some(0)), (0, Some(1)), (1, None), (3, Some(2))];
        let keys = [(0, Some(0)), (2, Some(1)), (3, Some(2)), (3, Some(3))];
        assert_eq!(
            join(&values, Some(&keys)),
            [(0, Some(0), Some(0)), (0, Some(1), Some(0)), (3, Some(2), Some(2)), (3, Some(2), Some(3))]
        );
        assert_eq!(join(&values, None).len(), 4);
        assert!(join(&[], Some(&keys)).is_empty());
    }
}
