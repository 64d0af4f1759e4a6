//! JSON text to columns in one pass.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::JsonOptions;
use super::fail::{Fail, describe};
use super::object::ObjectReader;
use super::rest::Rest;
use super::scan::Scanner;
use crate::error::{Error, Result};
use crate::formats::column::Batch;
use crate::formats::record::RowDecoder;

/// Decoder of JSON records.
pub(super) struct JsonDecoder {
    reader: ObjectReader,
    rest: Option<Rest>,
    /// The columns that are wanted of those that are read; all of them if not said.
    output: Option<Vec<usize>>,
    batch: Batch,
}

impl JsonDecoder {
    /// For the columns of `schema`, of which one may be for all that has no column, and `output` are those that are wanted.
    pub(super) fn new(
        schema: SchemaRef,
        options: JsonOptions,
        rest: Option<usize>,
        output: Option<Vec<usize>>,
    ) -> Result<Self> {
        let mut fields = schema.fields().to_vec();
        if let Some(rest) = rest {
            Rest::hide(rest, &mut fields);
        }
        let reader = ObjectReader::new(&fields, options);
        Ok(JsonDecoder { reader, rest: rest.map(Rest::new), output, batch: Batch::new(schema)? })
    }

    fn record(&mut self, s: &mut Scanner<'_>) -> Result<(), Fail> {
        s.skip_blanks();
        match s.peek() {
            b'{' => self.row(s)?,
            b'[' => {
                s.pos += 1;
                s.skip_blanks();
                if s.peek() == b']' {
                    s.pos += 1;
                } else {
                    loop {
                        s.skip_blanks();
                        if s.peek() != b'{' {
                            return Err(Fail::Syntax("an element of the top-level array is no object"));
                        }
                        self.row(s)?;
                        if !s.more(b']')? {
                            break;
                        }
                    }
                }
            }
            b'n' => s.literal("null")?,
            _ if s.at_end() => {}
            _ => return Err(Fail::Syntax("a record has to be an object")),
        }
        s.skip_blanks();
        if !s.at_end() && !self.reader.ignores_errors() {
            return Err(Fail::Syntax("there is more text after the object"));
        }
        Ok(())
    }

    fn row(&mut self, s: &mut Scanner<'_>) -> Result<(), Fail> {
        let rows = self.batch.rows();
        match &mut self.rest {
            None => self.reader.object(s, &mut self.batch.columns, rows)?,
            Some(rest) => rest.object(&mut self.reader, s, &mut self.batch.columns, rows)?,
        }
        self.reader.close_row(&mut self.batch)
    }
}

impl RowDecoder for JsonDecoder {
    fn decode(&mut self, record: &[u8]) -> Result<()> {
        let rows = self.batch.rows();
        // Some writers begin a file with a byte order mark.
        let record = record.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(record);
        let error = match std::str::from_utf8(record) {
            Ok(text) => {
                let mut scanner = Scanner::new(text);
                match self.record(&mut scanner) {
                    Ok(()) => return Ok(()),
                    Err(_) if self.reader.ignores_errors() => None,
                    Err(fail) => Some(describe(fail, scanner.pos, text, "json")),
                }
            }
            Err(_) if self.reader.ignores_errors() => None,
            Err(e) => Some(Error::data(format!(
                "cannot parse the record as JSON: byte {} is not UTF-8",
                e.valid_up_to() + 1
            ))),
        };
        self.batch.truncate(rows);
        self.reader.skip();
        error.map_or(Ok(()), Err)
    }

    fn rows(&self) -> usize {
        self.batch.rows()
    }

    fn bytes(&self) -> usize {
        self.batch.bytes()
    }

    fn take_skipped(&mut self) -> u64 {
        self.reader.take_skipped()
    }

    fn take_nulled(&mut self) -> u64 {
        self.reader.take_nulled()
    }

    fn take_rested(&mut self) -> u64 {
        self.rest.as_mut().map_or(0, Rest::take_rows)
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        let batch = self.batch.finish()?;
        Ok(match &self.output {
            Some(output) => batch.project(output)?,
            None => batch,
        })
    }
}
