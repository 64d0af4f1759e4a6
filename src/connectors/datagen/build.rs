//! Generators from types and options: `fields.<path>.<option>`.
//!
//! | type | path of what is inside |
//! |---|---|
//! | ROW | `fields.<path>.<field>` |
//! | ARRAY, MULTISET | `fields.<path>.element` |
//! | MAP | `fields.<path>.key`, `fields.<path>.value` |

use std::str::FromStr;

use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};
use crate::options::Options;
use crate::types::{LogicalType, MAX_LENGTH, TypeRoot};

use super::field::{Field, Nulls, Values};

const STRING_LENGTH: u32 = 100;
const COLLECTION_LENGTH: u32 = 3;
/// A limit on one value, far beyond use, that keeps batches within Arrow's offsets.
const MOST: u32 = 1 << 17;

/// Builds the generators of one table.
pub(super) struct FieldBuilder<'a> {
    options: &'a Options,
    shortest_sequence: Option<u64>,
}

impl<'a> FieldBuilder<'a> {
    pub(super) fn new(options: &'a Options) -> Self {
        FieldBuilder { options, shortest_sequence: None }
    }

    /// Rows until the first sequence ends.
    pub(super) fn shortest_sequence(&self) -> Option<u64> {
        self.shortest_sequence
    }

    /// The generator of a column.
    pub(super) fn field(&mut self, path: &str, ty: &LogicalType, nullable: bool) -> Result<Field> {
        self.build(path, ty, nullable, true)
    }

    /// `per_row`: the value number is the row number, so that sequences make sense.
    fn build(&mut self, path: &str, ty: &LogicalType, nullable: bool, per_row: bool) -> Result<Field> {
        let kind = self.options.one_of(&key(path, "kind"), &["random", "sequence"])?.unwrap_or("random");
        let (values, nulls) = if kind == "sequence" {
            if !per_row {
                return Err(Error::unsupported(format!("field '{path}': elements cannot be a sequence")));
            }
            (self.sequence(path, ty)?, None)
        } else {
            let values = self.random(path, ty, per_row)?;
            (values, self.nulls(path, nullable)?)
        };
        Ok(Field { values, nulls, salt: xxh3_64(path.as_bytes()), ty: ty.to_arrow() })
    }

    fn sequence(&mut self, path: &str, ty: &LogicalType) -> Result<Values> {
        match ty.root {
            TypeRoot::Char(_)
            | TypeRoot::Varchar(_)
            | TypeRoot::Decimal(..)
            | TypeRoot::TinyInt
            | TypeRoot::SmallInt
            | TypeRoot::Int
            | TypeRoot::BigInt
            | TypeRoot::Float
            | TypeRoot::Double => {}
            _ => {
                return Err(Error::validation(format!("field '{path}': {ty} cannot be a sequence"))
                    .hint("sequences are numbers or strings"));
            }
        }
        let bound = |option: &str| -> Result<i64> {
            self.options.parse(&key(path, option), "a whole number")?.ok_or_else(|| {
                Error::validation(format!(
                    "Could not find required property '{}' for sequence generator.",
                    key(path, option)
                ))
            })
        };
        let (start, end) = (bound("start")?, bound("end")?);
        let count = i128::from(end) - i128::from(start) + 1;
        let rows = u64::try_from(count).ok().filter(|r| *r > 0).ok_or_else(|| {
            Error::validation(format!("field '{path}': the sequence ends ({end}) before it starts ({start})"))
        })?;
        for value in [start, end] {
            if !fits(value, &ty.root) {
                return Err(Error::validation(format!("field '{path}': {value} does not fit {ty}")));
            }
        }
        self.shortest_sequence = Some(self.shortest_sequence.map_or(rows, |s| s.min(rows)));
        Ok(Values::Sequence { start })
    }

    fn nulls(&self, path: &str, nullable: bool) -> Result<Option<Nulls>> {
        let option = key(path, "null-rate");
        let rate = self.options.parse::<f64>(&option, "a number from 0 to 1")?.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&rate) {
            return Err(self.options.invalid(&option, &rate.to_string(), "a number from 0 to 1"));
        }
        if rate > 0.0 && !nullable {
            return Err(Error::validation(format!("field '{path}' is NOT NULL, but '{option}' is {rate}")));
        }
        Ok((rate > 0.0).then_some(Nulls { rate }))
    }

    /// `min` and `max`.
    fn range<T: FromStr + PartialOrd + Copy>(&self, path: &str, least: T, most: T) -> Result<(T, T)> {
        let expected = "a number within the type";
        let min = self.options.parse(&key(path, "min"), expected)?.unwrap_or(least);
        let max = self.options.parse(&key(path, "max"), expected)?.unwrap_or(most);
        if min > max {
            return Err(Error::validation(format!("field '{path}': 'min' is above 'max'")));
        }
        Ok((min, max))
    }

    fn random(&mut self, path: &str, ty: &LogicalType, per_row: bool) -> Result<Values> {
        let integers = |(min, max): (i64, i64)| Values::Integers { min, max };
        let widen = |(min, max): (i32, i32)| (i64::from(min), i64::from(max));
        Ok(match &ty.root {
            TypeRoot::Boolean => Values::Booleans,
            TypeRoot::TinyInt => {
                let (min, max) = self.range(path, i8::MIN, i8::MAX)?;
                integers((min.into(), max.into()))
            }
            TypeRoot::SmallInt => {
                let (min, max) = self.range(path, i16::MIN, i16::MAX)?;
                integers((min.into(), max.into()))
            }
            TypeRoot::Int => integers(widen(self.range(path, i32::MIN, i32::MAX)?)),
            TypeRoot::BigInt => integers(self.range(path, i64::MIN, i64::MAX)?),
            TypeRoot::IntervalYearMonth => integers(widen(self.range(path, 0, 120_000)?)),
            TypeRoot::IntervalDayTime => {
                // Flink's default is all of BIGINT; days are 32 bits here.
                let most = i64::from(i32::MAX) * 86_400_000;
                let (min, max) = self.range(path, -most, most)?;
                if min < -most || max > most {
                    return Err(Error::validation(format!(
                        "field '{path}': intervals are at most {most} ms"
                    )));
                }
                integers((min, max))
            }
            // Java's MIN_VALUE, Flink's default, is the smallest number above zero.
            TypeRoot::Float => {
                let (min, max) = self.range(path, f32::from_bits(1), f32::MAX)?;
                Values::Floats { min: min.into(), max: max.into() }
            }
            TypeRoot::Double => {
                let (min, max) = self.range(path, f64::from_bits(1), f64::MAX)?;
                Values::Floats { min, max }
            }
            TypeRoot::Decimal(precision, scale) => {
                let (min, max) = self.range(path, f64::from_bits(1), f64::MAX)?;
                let largest = 10i128.pow(u32::from(*precision)) - 1;
                let unscaled = |v: f64| {
                    // The cast saturates.
                    ((v * 10f64.powi(i32::from(*scale))).round() as i128).clamp(-largest, largest)
                };
                Values::Decimals { min: unscaled(min), max: unscaled(max) }
            }
            TypeRoot::Char(n) | TypeRoot::Binary(n) => {
                self.fixed_length(path)?;
                Values::Bytes { length: limited(path, *n)?, variable: false }
            }
            TypeRoot::Varchar(n) | TypeRoot::Varbinary(n) => {
                let (length, variable) = self.variable_length(path, *n)?;
                Values::Bytes { length, variable }
            }
            TypeRoot::Date => Values::Today,
            TypeRoot::Time(_) => Values::TimeOfDay,
            TypeRoot::Timestamp(_) | TypeRoot::TimestampLtz(_) => {
                let max_past = self.options.duration(&key(path, "max-past"))?;
                let max_past = max_past.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
                Values::Past { max_past: max_past.min(i64::MAX as u64 / 4) }
            }
            TypeRoot::Array(element) => {
                let length = self.collection_length(path)?;
                let element = self.build(&format!("{path}.element"), element, element.nullable, false)?;
                Values::Array { element: Box::new(element), length }
            }
            TypeRoot::Multiset(element) => {
                let length = self.collection_length(path)?;
                let key = self.build(&format!("{path}.element"), element, false, false)?;
                let value = Field {
                    values: Values::Integers { min: 1, max: 10 },
                    nulls: None,
                    salt: xxh3_64(format!("{path}.count").as_bytes()),
                    ty: arrow::datatypes::DataType::Int32,
                };
                Values::Map { key: Box::new(key), value: Box::new(value), length }
            }
            TypeRoot::Map(key, value) => {
                let length = self.collection_length(path)?;
                let key = self.build(&format!("{path}.key"), key, false, false)?;
                let value = self.build(&format!("{path}.value"), value, value.nullable, false)?;
                Values::Map { key: Box::new(key), value: Box::new(value), length }
            }
            TypeRoot::Row(fields) => {
                let fields = fields
                    .iter()
                    .map(|f| self.build(&format!("{path}.{}", f.name), &f.ty, f.ty.nullable, per_row))
                    .collect::<Result<_>>()?;
                Values::Row { fields }
            }
            TypeRoot::Variant | TypeRoot::Bitmap | TypeRoot::Null => {
                return Err(Error::validation(format!("field '{path}': Unsupported type: {ty}")));
            }
        })
    }

    fn fixed_length(&self, path: &str) -> Result<()> {
        if self.options.take(&key(path, "length")).is_some() {
            return Err(Error::validation(format!(
                "Custom length for fixed-length type (CHAR/BINARY) field '{path}' is not supported."
            )));
        }
        if self.options.take(&key(path, "var-len")).is_some() {
            return Err(Error::validation(format!(
                "Only supports specifying '{}' option for variable-length types \
                 (VARCHAR/STRING/VARBINARY/BYTES). The type of field '{path}' is not within this range.",
                key(path, "var-len")
            )));
        }
        Ok(())
    }

    fn variable_length(&self, path: &str, declared: u32) -> Result<(u32, bool)> {
        let variable = self.options.bool(&key(path, "var-len"), false)?;
        let length = self.options.parse::<u32>(&key(path, "length"), "a whole number")?;
        if let Some(length) = length.filter(|l| *l > declared) {
            return Err(Error::validation(format!(
                "Custom length '{length}' for variable-length type (VARCHAR/STRING/VARBINARY/BYTES) field '{path}' \
                 should be shorter than '{declared}' defined in the schema."
            )));
        }
        let default = if declared == MAX_LENGTH { STRING_LENGTH } else { declared };
        Ok((limited(path, length.unwrap_or(default))?, variable))
    }

    fn collection_length(&self, path: &str) -> Result<u32> {
        let length = self.options.parse::<u32>(&key(path, "length"), "a whole number")?;
        limited(path, length.unwrap_or(COLLECTION_LENGTH))
    }
}

fn key(path: &str, option: &str) -> String {
    format!("fields.{path}.{option}")
}

fn limited(path: &str, length: u32) -> Result<u32> {
    if length > MOST {
        return Err(Error::unsupported(format!("field '{path}': a length of {length} is above {MOST}"))
            .hint(format!("set '{}'", key(path, "length"))));
    }
    Ok(length)
}

fn fits(value: i64, root: &TypeRoot) -> bool {
    match root {
        TypeRoot::TinyInt => i8::try_from(value).is_ok(),
        TypeRoot::SmallInt => i16::try_from(value).is_ok(),
        TypeRoot::Int => i32::try_from(value).is_ok(),
        TypeRoot::Decimal(p, s) => {
            let digits = u32::from(p.saturating_sub(*s));
            i128::from(value).abs() < 10i128.pow(digits)
        }
        TypeRoot::Char(n) | TypeRoot::Varchar(n) => value.to_string().len() <= *n as usize,
        _ => true,
    }
}
