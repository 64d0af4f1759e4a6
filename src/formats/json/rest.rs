//! The column of all that has no column: `json.rest-column`.
//!
//! ```text
//!  {"id": 1, "price": "cheap", "tag": "x"} ─► id = 1, price = NULL, rest = {"price":"cheap","tag":"x"}
//! ```
//!
//! It is for topics whose records no schema describes: nothing of them is lost, and no record is bad for a field that is new or
//! of another type than before. A field goes there whole if there is no column of its name, if its value does not fit
//! the column (which is NULL then), or if something inside of it has no place. Fields that are `null` don't.

use std::sync::Arc;

use arrow::datatypes::FieldRef;

use super::fail::Fail;
use super::object::ObjectReader;
use super::scan::{Scanner, compact};
use crate::formats::column::{Column, ColumnValues};

/// Gathers the fields of an object that have no place.
pub(crate) struct Rest {
    column: usize,
    text: Vec<u8>,
    rows: u64,
}

impl Rest {
    /// Into the column of that index.
    pub(crate) fn new(column: usize) -> Self {
        Rest { column, text: Vec::new(), rows: 0 }
    }

    /// Its column.
    pub(crate) fn column(&self) -> usize {
        self.column
    }

    /// The fields of a reader, of which none may have the name of the column.
    pub(crate) fn hide(column: usize, fields: &mut [FieldRef]) {
        if let Some(field) = fields.get_mut(column) {
            // No field of a record has this name.
            *field = Arc::new(field.as_ref().clone().with_name("\u{0}"));
        }
    }

    /// Rows since the last call that have something in it.
    pub(crate) fn take_rows(&mut self) -> u64 {
        std::mem::take(&mut self.rows)
    }

    /// `name` as it stands, in quotes.
    fn add(&mut self, name: &str, value: &str) {
        self.text.push(if self.text.is_empty() { b'{' } else { b',' });
        self.text.extend_from_slice(name.as_bytes());
        self.text.push(b':');
        compact(value, &mut self.text);
    }

    /// Takes the object at the scanner's position into the open row of `columns`, as [`ObjectReader::object`] does.
    pub(crate) fn object(
        &mut self,
        reader: &mut ObjectReader,
        s: &mut Scanner<'_>,
        columns: &mut [Column],
        rows: usize,
    ) -> Result<(), Fail> {
        self.text.clear();
        reader.cx.keeps_all = true;
        s.pos += 1;
        s.skip_blanks();
        if s.peek() == b'}' {
            s.pos += 1;
            return Ok(());
        }
        let mut nth = 0;
        loop {
            s.skip_blanks();
            let name = s.pos;
            let target = reader.shape.field(s, nth)?;
            let name = s.slice(name, s.pos).trim_end_matches(':').trim_end();
            s.skip_blanks();
            let start = s.pos;
            let place = target.and_then(|t| Some((reader.shape.fields.get_mut(t)?, columns.get_mut(t)?)));
            let mut is_lost = place.is_none() && s.peek() != b'n';
            match place {
                Some((field, column)) => {
                    // A name that stands twice: the last value counts.
                    column.truncate(rows);
                    reader.cx.lost = false;
                    match reader.cx.value(s, &mut field.shape, column) {
                        Ok(()) => is_lost = reader.cx.lost,
                        Err(Fail::Syntax(e)) => return Err(Fail::Syntax(e)),
                        Err(Fail::Mismatch | Fail::Field(_)) => {
                            column.truncate(rows);
                            column.push_null();
                            is_lost = true;
                            s.pos = start;
                            s.skip_value(0)?;
                        }
                    }
                }
                None => s.skip_value(0)?,
            }
            if is_lost {
                self.add(name, s.slice(start, s.pos));
            }
            nth += 1;
            if !s.more(b'}')? {
                break;
            }
        }
        if !self.text.is_empty()
            && let Some(Column { values: ColumnValues::Utf8(values), .. }) = columns.get_mut(self.column)
        {
            self.rows += 1;
            self.text.push(b'}');
            values.push(&self.text);
        }
        Ok(())
    }
}
