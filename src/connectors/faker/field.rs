//! The values of one column.

use std::ops::Range;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, TimeUnit};

use crate::connectors::synthetic::clock::Now;
use crate::connectors::synthetic::random::{Sequence, Stream, unit};
use crate::error::{Error, Result};
use crate::formats::column::{Column, ColumnValues, ListValues};
use crate::formats::datetime::{TimestampFormat, parse_date, parse_time, parse_timestamp};
use crate::formats::number::{ParsedDecimal, parse_decimal, parse_f32, parse_f64};
use crate::types::sql_name;

use super::expression::{Template, Value};

/// Makes the values of a column by their number.
#[derive(Debug)]
pub(super) struct Field {
    pub name: String,
    pub ty: DataType,
    pub made: Made,
    /// Share of rows without a value.
    pub null_rate: f64,
    /// Tells the chances of columns apart.
    pub salt: u64,
}

/// How values are made.
#[derive(Debug)]
pub(super) enum Made {
    Scalar(Template),
    /// ARRAY: so many.
    Array(Template, u32),
    /// MULTISET: so many in all, equal ones counted.
    Multiset(Template, u32),
    /// MAP: so many entries, of which the last one of a key stays.
    Map(Template, Template, u32),
    Row(Vec<Made>),
}

/// What is used again from value to value.
#[derive(Default)]
struct Scratch {
    text: Vec<u8>,
    /// Ends of the texts of a collection in `text`.
    ends: Vec<usize>,
}

impl Field {
    /// Bytes that no value has more of.
    pub(super) fn most_bytes(&self) -> u64 {
        self.made.most_bytes()
    }

    /// The values of these rows.
    pub(super) fn generate(&self, seed: u64, numbers: Range<u64>, now: Now) -> Result<ArrayRef> {
        let stream = Stream::new(seed, self.salt);
        let mut column = Column::new(&self.ty)?;
        let mut scratch = Scratch::default();
        for number in numbers {
            let mut random = stream.sequence(number);
            if self.null_rate > 0.0 && unit(random.next_u64()) < self.null_rate {
                column.push_null();
                continue;
            }
            let mut row = Row { random: &mut random, now: now.at(number), scratch: &mut scratch };
            self.made
                .push(&mut column, &mut row)
                .map_err(|e| e.context(format!("column `{}`", self.name)))?;
        }
        column.finish()
    }
}

struct Row<'a> {
    random: &'a mut Sequence,
    now: i64,
    scratch: &'a mut Scratch,
}

impl Row<'_> {
    /// Appends a text of `template` to `scratch`.
    fn write(&mut self, template: &Template) {
        let out = &mut self.scratch.text;
        template.write(&mut Value { random: self.random, now: self.now, out });
        self.scratch.ends.push(self.scratch.text.len());
    }

    fn clear(&mut self) {
        self.scratch.text.clear();
        self.scratch.ends.clear();
    }

    fn text(&self, i: usize) -> &[u8] {
        let end = |i: usize| self.scratch.ends.get(i).copied().unwrap_or(0);
        let begin = i.checked_sub(1).map_or(0, end);
        self.scratch.text.get(begin..end(i)).unwrap_or_default()
    }
}

impl Made {
    fn most_bytes(&self) -> u64 {
        match self {
            Made::Scalar(t) => t.most_bytes().max(16),
            Made::Array(t, n) | Made::Multiset(t, n) => t.most_bytes().max(16).saturating_mul((*n).into()),
            Made::Map(k, v, n) => (k.most_bytes() + v.most_bytes()).max(32).saturating_mul((*n).into()),
            Made::Row(fields) => fields.iter().map(Made::most_bytes).fold(0, u64::saturating_add),
        }
    }

    fn push(&self, column: &mut Column, row: &mut Row<'_>) -> Result<()> {
        match self {
            Made::Scalar(template) => {
                if let ColumnValues::Utf8(values) = &mut column.values {
                    let out = values.buffer();
                    template.write(&mut Value { random: row.random, now: row.now, out });
                    values.close();
                    return Ok(());
                }
                row.clear();
                row.write(template);
                scalar(column, row.text(0))
            }
            Made::Array(template, length) => {
                let ColumnValues::List(list) = &mut column.values else { return Err(mismatch()) };
                for _ in 0..*length {
                    row.clear();
                    row.write(template);
                    scalar(child(list, 0)?, row.text(0))?;
                }
                list.close();
                Ok(())
            }
            Made::Multiset(template, length) => {
                let ColumnValues::Map(list) = &mut column.values else { return Err(mismatch()) };
                let length = *length as usize;
                row.clear();
                (0..length).for_each(|_| row.write(template));
                for i in 0..length {
                    let text = row.text(i);
                    if (0..i).any(|before| row.text(before) == text) {
                        continue;
                    }
                    let count = (i..length).filter(|other| row.text(*other) == text).count();
                    scalar(child(list, 0)?, text)?;
                    let ColumnValues::Int32(counts) = &mut child(list, 1)?.values else {
                        return Err(mismatch());
                    };
                    counts.push(count as i32);
                }
                list.close();
                Ok(())
            }
            Made::Map(key, value, length) => {
                let ColumnValues::Map(list) = &mut column.values else { return Err(mismatch()) };
                let length = *length as usize;
                row.clear();
                for _ in 0..length {
                    row.write(key);
                    row.write(value);
                }
                for i in 0..length {
                    let text = row.text(2 * i);
                    if (i + 1..length).any(|behind| row.text(2 * behind) == text) {
                        continue;
                    }
                    scalar(child(list, 0)?, text)?;
                    scalar(child(list, 1)?, row.text(2 * i + 1))?;
                }
                list.close();
                Ok(())
            }
            Made::Row(fields) => {
                let ColumnValues::Row(values) = &mut column.values else { return Err(mismatch()) };
                for (made, child) in fields.iter().zip(&mut values.children) {
                    made.push(child, row)?;
                }
                values.close();
                Ok(())
            }
        }
    }
}

fn mismatch() -> Error {
    Error::internal("faker: values do not fit their type")
}

fn child(list: &mut ListValues, i: usize) -> Result<&mut Column> {
    list.children.get_mut(i).ok_or_else(mismatch)
}

/// Appends the value that a text means.
fn scalar(column: &mut Column, text: &[u8]) -> Result<()> {
    let text = std::str::from_utf8(text).map_err(|e| Error::internal(format!("faker made no UTF-8: {e}")))?;
    if read(column, text).is_some() {
        return Ok(());
    }
    let ty = sql_name(column.data_type());
    Err(Error::data(format!("the expression made '{text}', which is no {ty}")).hint(
        match column.data_type() {
            DataType::Timestamp(..) => {
                "times are yyyy-MM-dd HH:mm:ss[.SSS], as #{date.past '15','SECONDS'} makes them"
            }
            DataType::Time32(_) => {
                "a time is HH:mm:ss or the nanoseconds of the day, as #{time.past '1','HOURS'} makes them"
            }
            _ => "give the column another expression or the type STRING",
        },
    ))
}

fn read(column: &mut Column, text: &str) -> Option<()> {
    let time = |unit: TimeUnit| parse_timestamp(text, TimestampFormat::Sql, false, unit);
    match &mut column.values {
        ColumnValues::Utf8(v) => v.push(text.as_bytes()),
        ColumnValues::Boolean(v) => v.push(text.eq_ignore_ascii_case("true")),
        ColumnValues::Int8(v) => v.push(text.parse().ok()?),
        ColumnValues::Int16(v) => v.push(text.parse().ok()?),
        ColumnValues::Int32(v) => v.push(text.parse().ok()?),
        ColumnValues::Int64(v) => v.push(text.parse().ok()?),
        ColumnValues::Float32(v) => v.push(parse_f32(text)?),
        ColumnValues::Float64(v) => v.push(parse_f64(text)?),
        ColumnValues::Decimal(v, precision, scale) => match parse_decimal(text, *precision, *scale) {
            ParsedDecimal::Value(d) => v.push(d),
            ParsedDecimal::TooLarge | ParsedDecimal::Invalid => return None,
        },
        ColumnValues::Date(v) => {
            let of_time = || i32::try_from(time(TimeUnit::Second)?.div_euclid(86_400)).ok();
            v.push(parse_date(text).or_else(of_time)?);
        }
        ColumnValues::Time(v) => {
            let of_nanos = || i32::try_from(text.parse::<i64>().ok()? / 1_000_000).ok();
            v.push(of_nanos().or_else(|| parse_time(text, true, true))?);
        }
        ColumnValues::Timestamp(v, unit, _) => v.push(time(*unit)?),
        ColumnValues::Binary(_)
        | ColumnValues::List(_)
        | ColumnValues::Map(_)
        | ColumnValues::Row(_)
        | ColumnValues::Null(_) => return None,
    }
    Some(())
}
