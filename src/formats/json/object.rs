//! Objects and their values, read into columns.

use std::borrow::Cow;
use std::collections::HashMap;

use arrow::datatypes::FieldRef;

use super::JsonOptions;
use super::fail::{Fail, FieldError, at_field, clip};
use super::scalar::{integer, narrow, quoted, text};
use super::scan::{Scanner, compact, unescape};
use super::shape::{RowShape, Shape};
use crate::error::Result;
use crate::formats::column::{Batch, Column, ColumnValues, ListValues, RowKind};
use crate::formats::datetime::{parse_date, parse_time, parse_timestamp};
use crate::formats::number::{ParsedDecimal, parse_decimal, parse_f32, parse_f64};
use crate::text::read_base64;
use crate::types::LogicalType;

/// Reads objects into the columns of a row, and single values.
pub(crate) struct ObjectReader {
    pub(super) shape: RowShape,
    pub(super) cx: Context,
}

pub(super) struct Context {
    options: JsonOptions,
    skipped: u64,
    nulled: u64,
    /// Nothing may be lost: whatever has no place in the columns is put elsewhere by the reader of the outermost object.
    pub(super) keeps_all: bool,
    /// A field of an inner object had no place.
    pub(super) lost: bool,
}

impl ObjectReader {
    /// A reader of objects with these fields.
    pub(crate) fn new(fields: &[FieldRef], options: JsonOptions) -> Self {
        let cx = Context { options, skipped: 0, nulled: 0, keeps_all: false, lost: false };
        ObjectReader { shape: RowShape::new(fields), cx }
    }

    /// Takes the object at the scanner's position into the open row of `columns`, which begin with one per field and
    /// hold `rows` closed rows. A field that the open row has already is replaced; one that the object lacks stays.
    #[inline]
    pub(crate) fn object(
        &mut self,
        s: &mut Scanner<'_>,
        columns: &mut [Column],
        rows: usize,
    ) -> Result<(), Fail> {
        self.cx.object(s, &mut self.shape, columns, rows)
    }

    /// Takes the value at the scanner's position.
    pub(crate) fn value(
        &mut self,
        s: &mut Scanner<'_>,
        shape: &mut Shape,
        column: &mut Column,
    ) -> Result<(), Fail> {
        self.cx.value(s, shape, column)
    }

    /// Ends the open row of a batch.
    pub(crate) fn close_row(&self, batch: &mut Batch) -> Result<(), Fail> {
        batch.close_row().map_err(|field| {
            Fail::Field(Box::new(FieldError {
                path: field.name().clone(),
                reason: "the column is NOT NULL and the record has no value for it".to_owned(),
            }))
        })
    }

    /// Whether what cannot be parsed is skipped or NULL.
    pub(crate) fn ignores_errors(&self) -> bool {
        self.cx.options.ignore_parse_errors
    }

    /// Counts a record that was given up.
    pub(crate) fn skip(&mut self) {
        self.cx.skipped += 1;
    }

    /// Records given up since the last call.
    pub(crate) fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.cx.skipped)
    }

    /// Fields that became NULL since the last call.
    pub(crate) fn take_nulled(&mut self) -> u64 {
        std::mem::take(&mut self.cx.nulled)
    }
}

impl Context {
    /// Takes an object into columns that hold `rows` values. Fields it lacks stay as they are.
    fn object(
        &mut self,
        s: &mut Scanner<'_>,
        shape: &mut RowShape,
        columns: &mut [Column],
        rows: usize,
    ) -> Result<(), Fail> {
        s.pos += 1;
        s.skip_blanks();
        if s.peek() == b'}' {
            s.pos += 1;
        } else {
            let mut nth = 0;
            loop {
                s.skip_blanks();
                let target = shape.field(s, nth)?;
                s.skip_blanks();
                match target.and_then(|t| Some((shape.fields.get_mut(t)?, columns.get_mut(t)?))) {
                    Some((field, column)) => {
                        if column.len() > rows {
                            // A name that stands twice: the last value counts.
                            column.truncate(rows);
                        }
                        self.value(s, &mut field.shape, column).map_err(|e| at_field(e, &field.name))?;
                    }
                    None => {
                        self.lost |= s.peek() != b'n';
                        s.skip_value(0)?;
                    }
                }
                nth += 1;
                if !s.more(b'}')? {
                    break;
                }
            }
        }
        if self.options.fail_on_missing_field {
            for (field, column) in shape.fields.iter().zip(columns.iter()) {
                if column.len() == rows {
                    return Err(Fail::Field(Box::new(FieldError {
                        path: field.name.clone(),
                        reason: format!("Could not find field with name '{}'.", field.name),
                    })));
                }
            }
        }
        Ok(())
    }

    /// Takes a value into a column. One of the wrong type becomes NULL if parse errors are ignored.
    #[inline]
    pub(super) fn value(
        &mut self,
        s: &mut Scanner<'_>,
        shape: &mut Shape,
        column: &mut Column,
    ) -> Result<(), Fail> {
        let start = s.pos;
        match self.convert(s, shape, column) {
            Err(Fail::Mismatch) => self.mismatch(s, column, start),
            other => other,
        }
    }

    #[cold]
    fn mismatch(&mut self, s: &mut Scanner<'_>, column: &mut Column, start: usize) -> Result<(), Fail> {
        s.pos = start;
        s.skip_value(0)?;
        // A mismatch is found before the value is closed: what is there of it is cut off.
        column.truncate(column.len());
        if self.options.ignore_parse_errors && !self.keeps_all {
            column.push_null();
            self.nulled += 1;
            return Ok(());
        }
        let ty = LogicalType::from_arrow(column.data_type(), true)
            .map_or_else(|_| column.data_type().to_string(), |t| t.to_string());
        Err(Fail::Field(Box::new(FieldError {
            path: String::new(),
            reason: format!("cannot read {} as {ty}", clip(s.slice(start, s.pos)).trim_matches('\'')),
        })))
    }

    #[inline]
    fn convert(&mut self, s: &mut Scanner<'_>, shape: &mut Shape, column: &mut Column) -> Result<(), Fail> {
        if s.peek() == b'n' {
            s.literal("null")?;
            column.push_null();
            return Ok(());
        }
        match &mut column.values {
            ColumnValues::Utf8(v) => match s.peek() {
                b'"' => {
                    let (raw, escaped) = s.raw_string()?;
                    if escaped {
                        unescape(raw, v.buffer())?;
                        v.close();
                    } else {
                        v.push(raw.as_bytes());
                    }
                }
                b'{' | b'[' => {
                    let start = s.pos;
                    s.skip_value(0)?;
                    compact(s.slice(start, s.pos), v.buffer());
                    v.close();
                }
                _ => {
                    let start = s.pos;
                    s.skip_value(0)?;
                    v.push(s.slice(start, s.pos).as_bytes());
                }
            },
            ColumnValues::Int64(v) => v.push(integer(s, true)?),
            ColumnValues::Int32(v) => v.push(narrow(integer(s, true)?)?),
            ColumnValues::Int16(v) => v.push(narrow(integer(s, false)?)?),
            ColumnValues::Int8(v) => v.push(narrow(integer(s, false)?)?),
            ColumnValues::Float64(v) => v.push(text(s)?.and_then(|t| parse_f64(&t)).ok_or(Fail::Mismatch)?),
            ColumnValues::Float32(v) => v.push(text(s)?.and_then(|t| parse_f32(&t)).ok_or(Fail::Mismatch)?),
            ColumnValues::Boolean(v) => {
                let value = match s.peek() {
                    b't' => s.literal("true").map(|()| true)?,
                    b'f' => s.literal("false").map(|()| false)?,
                    _ if self.keeps_all => return Err(Fail::Mismatch),
                    // Java's parseBoolean: whatever is not "true" is false.
                    _ => text(s)?.ok_or(Fail::Mismatch)?.trim().eq_ignore_ascii_case("true"),
                };
                v.push(value);
            }
            ColumnValues::Decimal(v, precision, scale) => {
                let t = text(s)?.ok_or(Fail::Mismatch)?;
                match parse_decimal(t.trim(), *precision, *scale) {
                    ParsedDecimal::Value(d) => v.push(d),
                    ParsedDecimal::TooLarge => column.push_null(),
                    ParsedDecimal::Invalid => return Err(Fail::Mismatch),
                }
            }
            ColumnValues::Date(v) => v.push(quoted(s)?.and_then(|t| parse_date(&t)).ok_or(Fail::Mismatch)?),
            ColumnValues::Time(v) => {
                v.push(quoted(s)?.and_then(|t| parse_time(&t, true, false)).ok_or(Fail::Mismatch)?);
            }
            ColumnValues::Timestamp(v, unit, zoned) => {
                let format = self.options.timestamp_format;
                let parsed = quoted(s)?.and_then(|t| parse_timestamp(&t, format, *zoned, *unit));
                v.push(parsed.ok_or(Fail::Mismatch)?);
            }
            ColumnValues::Binary(v) => {
                let t = quoted(s)?.ok_or(Fail::Mismatch)?;
                read_base64(t.as_bytes(), v.buffer()).ok_or(Fail::Mismatch)?;
                v.close();
            }
            ColumnValues::List(v) => self.list(s, shape, v)?,
            ColumnValues::Map(v) => self.map(s, shape, v)?,
            ColumnValues::Row(v) if v.kind == RowKind::Variant => {
                let start = s.pos;
                s.skip_value(0)?;
                v.push_variant(s.slice(start, s.pos)).ok_or(Fail::Mismatch)?;
            }
            ColumnValues::Row(v) if v.kind == RowKind::Bitmap => {
                let t = quoted(s)?.ok_or(Fail::Mismatch)?;
                v.push_bitmap(&t).ok_or(Fail::Mismatch)?;
            }
            ColumnValues::Row(v) => {
                let Shape::Row(shape) = shape else { return Err(Fail::Mismatch) };
                if s.peek() != b'{' {
                    return Err(Fail::Mismatch);
                }
                let rows = v.len();
                self.object(s, shape, &mut v.children, rows)?;
                v.close();
            }
            ColumnValues::Null(_) => return Err(Fail::Mismatch),
        }
        Ok(())
    }

    fn list(&mut self, s: &mut Scanner<'_>, shape: &mut Shape, v: &mut ListValues) -> Result<(), Fail> {
        let (Shape::List(shape), Some(items)) = (shape, v.children.first_mut()) else {
            return Err(Fail::Mismatch);
        };
        if s.peek() != b'[' {
            return Err(Fail::Mismatch);
        }
        s.pos += 1;
        s.skip_blanks();
        if s.peek() == b']' {
            s.pos += 1;
        } else {
            loop {
                s.skip_blanks();
                self.value(s, shape, items)?;
                if !s.more(b']')? {
                    break;
                }
            }
        }
        v.close();
        Ok(())
    }

    /// A map's entries are found first, because of keys that stand twice: the last value counts.
    fn map(&mut self, s: &mut Scanner<'_>, shape: &mut Shape, v: &mut ListValues) -> Result<(), Fail> {
        let (Shape::Map(shape, not_null), [keys, values]) = (shape, v.children.as_mut_slice()) else {
            return Err(Fail::Mismatch);
        };
        let ColumnValues::Utf8(keys) = &mut keys.values else { return Err(Fail::Mismatch) };
        if s.peek() != b'{' {
            return Err(Fail::Mismatch);
        }
        s.pos += 1;
        s.skip_blanks();
        let mut entries: Vec<(Cow<'_, str>, usize)> = Vec::new();
        let mut seen: HashMap<Cow<'_, str>, usize> = HashMap::new();
        if s.peek() == b'}' {
            s.pos += 1;
        } else {
            loop {
                s.skip_blanks();
                if s.peek() != b'"' {
                    return Err(Fail::Syntax("an object has a field without a name"));
                }
                let key = s.string()?;
                s.skip_blanks();
                s.expect(b':', "a field name is not followed by ':'")?;
                s.skip_blanks();
                match seen.get(&key).and_then(|i| entries.get_mut(*i)) {
                    Some((_, at)) => *at = s.pos,
                    None => {
                        seen.insert(key.clone(), entries.len());
                        entries.push((key, s.pos));
                    }
                }
                s.skip_value(0)?;
                if !s.more(b'}')? {
                    break;
                }
            }
        }
        let end = s.pos;
        for (key, at) in entries {
            s.pos = at;
            keys.push(key.as_bytes());
            self.value(s, shape, values).map_err(|e| at_field(e, &key))?;
            if *not_null && values.last_is_null() {
                return Err(Fail::Mismatch);
            }
        }
        s.pos = end;
        v.close();
        Ok(())
    }
}
