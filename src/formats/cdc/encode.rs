//! Rows with kinds to messages. A `-U` is written as a delete and a `+U` as an insert, as in Flink: who reads them back
//! gets the same table.

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;

use super::Dialect;
use crate::error::{Error, Result};
use crate::formats::RecordEncoder;
use crate::formats::json::JsonOptions;
use crate::formats::json::encode::JsonEncoder;
use crate::stream::ChangeBatch;

/// Encoder of change messages.
pub(super) struct CdcEncoder {
    json: JsonEncoder,
    columns: usize,
    /// What stands before and after the row of an insert, and of a delete.
    insert: (Vec<u8>, Vec<u8>),
    delete: (Vec<u8>, Vec<u8>),
}

impl CdcEncoder {
    pub(super) fn new(dialect: Dialect, schema: SchemaRef, options: JsonOptions) -> Self {
        let columns = schema.fields().len();
        let [new, old, op] = dialect.fields();
        let (insert_op, delete_op) = dialect.written_ops();
        // The image that is not there is `null`, or left out like all fields that are NULL.
        let null = |name: &str| {
            if options.ignore_null_fields { String::new() } else { format!("\"{name}\":null,") }
        };
        let (insert, delete) = match dialect {
            Dialect::Debezium | Dialect::Ogg => (
                (format!("{{{}\"{new}\":", null(old)), format!(",\"{op}\":\"{insert_op}\"}}")),
                (format!("{{\"{old}\":"), format!(",{}\"{op}\":\"{delete_op}\"}}", null(new))),
            ),
            Dialect::Maxwell => (
                (format!("{{\"{new}\":"), format!(",\"{op}\":\"{insert_op}\"}}")),
                (format!("{{\"{new}\":"), format!(",\"{op}\":\"{delete_op}\"}}")),
            ),
            Dialect::Canal => (
                (format!("{{\"{new}\":["), format!("],\"{op}\":\"{insert_op}\"}}")),
                (format!("{{\"{new}\":["), format!("],\"{op}\":\"{delete_op}\"}}")),
            ),
        };
        let bytes = |(before, after): (String, String)| (before.into_bytes(), after.into_bytes());
        CdcEncoder {
            json: JsonEncoder::new(schema, options),
            columns,
            insert: bytes(insert),
            delete: bytes(delete),
        }
    }

    fn write(
        &self,
        rows: &RecordBatch,
        retraction: impl Fn(usize) -> bool,
        buffer: &mut Vec<u8>,
        ends: &mut Vec<usize>,
    ) -> Result<()> {
        if rows.num_columns() != self.columns {
            return Err(Error::internal("rows to encode have other columns than the format"));
        }
        let columns: Vec<&dyn Array> = rows.columns().iter().map(|c| &**c).collect();
        for row in 0..rows.num_rows() {
            let (before, after) = if retraction(row) { &self.delete } else { &self.insert };
            buffer.extend_from_slice(before);
            self.json.write_row(buffer, &columns, row)?;
            buffer.extend_from_slice(after);
            ends.push(buffer.len());
        }
        Ok(())
    }
}

impl RecordEncoder for CdcEncoder {
    fn encode(&mut self, rows: &RecordBatch, buffer: &mut Vec<u8>, ends: &mut Vec<usize>) -> Result<()> {
        self.write(rows, |_| false, buffer, ends)
    }

    fn encode_changes(
        &mut self,
        batch: &ChangeBatch,
        buffer: &mut Vec<u8>,
        ends: &mut Vec<usize>,
    ) -> Result<()> {
        match &batch.kinds {
            None => self.encode(&batch.rows, buffer, ends),
            Some(kinds) => {
                let codes = kinds.codes();
                self.write(&batch.rows, |row| codes.get(row).is_some_and(|c| c & 1 == 1), buffer, ends)
            }
        }
    }
}
