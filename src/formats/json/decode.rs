//! JSON text to columns in one pass.

use std::borrow::Cow;
use std::collections::HashMap;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, SchemaRef};

use super::JsonOptions;
use super::scan::{Scanner, Syntax, compact, unescape};
use crate::error::{Error, Result};
use crate::formats::column::{Batch, Column, ColumnValues, ListValues};
use crate::formats::datetime::{parse_date, parse_time, parse_timestamp};
use crate::formats::number::{ParsedDecimal, parse_decimal, parse_f32, parse_f64};
use crate::formats::record::RowDecoder;
use crate::text::read_base64;
use crate::types::LogicalType;

/// Names of a row's fields and where to find them.
pub(crate) struct RowShape {
    fields: Vec<FieldShape>,
    /// Only for rows of many fields.
    index: HashMap<String, usize>,
    /// Field names in the order in which the first record had them, with the field each one is (`None`: not read).
    /// Producers keep an order, so nearly every lookup ends here with one comparison.
    order: Vec<(String, Option<usize>)>,
}

pub(crate) struct FieldShape {
    name: String,
    shape: Shape,
}

/// What is inside of a type.
pub(crate) enum Shape {
    Leaf,
    /// ARRAY
    List(Box<Shape>),
    /// MAP, MULTISET: the shape of the values, and whether they are NOT NULL
    Map(Box<Shape>, bool),
    Row(RowShape),
}

impl Shape {
    /// The inside of an Arrow type.
    pub(crate) fn new(ty: &DataType) -> Self {
        match ty {
            DataType::List(item) => Shape::List(Box::new(Shape::new(item.data_type()))),
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(kv) => {
                    let value = kv.get(1);
                    let shape = value.map_or(Shape::Leaf, |v| Shape::new(v.data_type()));
                    Shape::Map(Box::new(shape), value.is_some_and(|v| !v.is_nullable()))
                }
                _ => Shape::Leaf,
            },
            DataType::Struct(fields) => Shape::Row(RowShape::new(fields)),
            _ => Shape::Leaf,
        }
    }
}

/// Above this many fields names are looked up by hash.
const LINEAR_FIELDS: usize = 8;
/// Longest remembered order of fields.
const MAX_ORDER: usize = 1024;

impl RowShape {
    fn new(fields: &[FieldRef]) -> Self {
        let mut index = HashMap::new();
        if fields.len() > LINEAR_FIELDS {
            for (i, f) in fields.iter().enumerate() {
                index.entry(f.name().clone()).or_insert(i);
            }
        }
        let fields = fields
            .iter()
            .map(|f| FieldShape { name: f.name().clone(), shape: Shape::new(f.data_type()) })
            .collect();
        RowShape { fields, index, order: Vec::new() }
    }

    fn lookup(&self, name: &str) -> Option<usize> {
        if self.index.is_empty() {
            self.fields.iter().position(|f| f.name == name)
        } else {
            self.index.get(name).copied()
        }
    }

    /// Takes the name of the `nth` field of an object; gives the field that it is.
    #[inline]
    fn field(&mut self, s: &mut Scanner<'_>, nth: usize) -> Result<Option<usize>, Fail> {
        if let Some((name, target)) = self.order.get(nth)
            && s.take_name(name)
        {
            return Ok(*target);
        }
        if s.peek() != b'"' {
            return Err(Fail::Syntax("an object has a field without a name"));
        }
        let start = s.pos + 1;
        let name = s.string()?;
        let target = self.lookup(&name);
        // Only names without escapes can be compared with the raw text.
        if nth == self.order.len() && nth < MAX_ORDER && name == s.slice(start, s.pos - 1) {
            self.order.push((name.into_owned(), target));
        }
        Ok(target)
    }
}

/// Why a value was not decoded.
pub(crate) enum Fail {
    /// The text is no JSON.
    Syntax(Syntax),
    /// JSON, but not of the column's type. Becomes NULL or [`Fail::Field`].
    Mismatch,
    /// A mismatch with its place, when errors count.
    Field(Box<FieldError>),
}

pub(crate) struct FieldError {
    path: String,
    reason: String,
}

impl From<Syntax> for Fail {
    fn from(e: Syntax) -> Self {
        Fail::Syntax(e)
    }
}

/// Reads objects into the columns of a row, and single values.
pub(crate) struct ObjectReader {
    shape: RowShape,
    cx: Context,
}

impl ObjectReader {
    /// A reader of objects with these fields.
    pub(crate) fn new(fields: &[FieldRef], options: JsonOptions) -> Self {
        ObjectReader { shape: RowShape::new(fields), cx: Context { options, skipped: 0 } }
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

    /// What was given up since the last call.
    pub(crate) fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.cx.skipped)
    }
}

/// Decoder of JSON records.
pub(super) struct JsonDecoder {
    reader: ObjectReader,
    batch: Batch,
}

struct Context {
    options: JsonOptions,
    skipped: u64,
}

impl JsonDecoder {
    pub(super) fn new(schema: SchemaRef, options: JsonOptions) -> Result<Self> {
        let reader = ObjectReader::new(schema.fields(), options);
        Ok(JsonDecoder { reader, batch: Batch::new(schema)? })
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
        self.reader.object(s, &mut self.batch.columns, rows)?;
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

    fn take_skipped(&mut self) -> u64 {
        self.reader.take_skipped()
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        self.batch.finish()
    }
}

/// The error for a record of `format` that could not be decoded; the scanner stands at `pos`.
pub(crate) fn describe(fail: Fail, pos: usize, text: &str, format: &str) -> Error {
    let way_out = format!("set '{format}.ignore-parse-errors' = 'true' to skip such records");
    match fail {
        Fail::Syntax(what) => {
            let column = text.get(..pos.min(text.len())).map_or(pos, |t| t.chars().count()) + 1;
            Error::data(format!(
                "cannot parse the record as JSON: {what} (character {column} of {})",
                clip(text)
            ))
            .hint(way_out)
        }
        Fail::Mismatch => Error::internal("a mismatch without a field"),
        Fail::Field(e) => Error::data(format!("field `{}`: {}", e.path, e.reason)).hint(way_out),
    }
}

/// A text short enough for a message.
pub(crate) fn clip(text: &str) -> String {
    const MAX: usize = 120;
    match text.char_indices().nth(MAX) {
        None => format!("'{text}'"),
        Some((end, _)) => format!("'{}…'", text.get(..end).unwrap_or_default()),
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
                s.expect(b':', "a field name is not followed by ':'")?;
                s.skip_blanks();
                match target.and_then(|t| Some((shape.fields.get_mut(t)?, columns.get_mut(t)?))) {
                    Some((field, column)) => {
                        if column.len() > rows {
                            // A name that stands twice: the last value counts.
                            column.truncate(rows);
                        }
                        self.value(s, &mut field.shape, column).map_err(|e| at_field(e, &field.name))?;
                    }
                    None => s.skip_value(0)?,
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
    fn value(&mut self, s: &mut Scanner<'_>, shape: &mut Shape, column: &mut Column) -> Result<(), Fail> {
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
        if self.options.ignore_parse_errors {
            column.push_null();
            self.skipped += 1;
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
            ColumnValues::Boolean(..) => {
                let value = match s.peek() {
                    b't' => s.literal("true").map(|()| true)?,
                    b'f' => s.literal("false").map(|()| false)?,
                    // Java's parseBoolean: whatever is not "true" is false.
                    _ => text(s)?.ok_or(Fail::Mismatch)?.trim().eq_ignore_ascii_case("true"),
                };
                column.push_bool(value);
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

fn at_field(e: Fail, name: &str) -> Fail {
    match e {
        Fail::Field(mut e) => {
            e.path = if e.path.is_empty() { name.to_owned() } else { format!("{name}.{}", e.path) };
            Fail::Field(e)
        }
        other => other,
    }
}

/// Takes a string or number as text; `None` for anything else.
#[inline]
fn text<'a>(s: &mut Scanner<'a>) -> Result<Option<Cow<'a, str>>, Fail> {
    match s.peek() {
        b'"' => Ok(Some(s.string()?)),
        b'-' | b'0'..=b'9' => Ok(Some(Cow::Borrowed(s.number()?.0))),
        _ => other(s),
    }
}

/// Takes a string; `None` for anything else.
#[inline]
fn quoted<'a>(s: &mut Scanner<'a>) -> Result<Option<Cow<'a, str>>, Fail> {
    if s.peek() == b'"' { Ok(Some(s.string()?)) } else { other(s) }
}

#[cold]
fn other<'a>(s: &mut Scanner<'a>) -> Result<Option<Cow<'a, str>>, Fail> {
    s.skip_value(0)?;
    Ok(None)
}

/// Takes an integer: a number or a numeric text. A number with a fraction is cut if `cut`, as Jackson does for INT and
/// BIGINT (Flink reads the smaller types from the text, where a fraction is an error).
#[inline]
fn integer(s: &mut Scanner<'_>, cut: bool) -> Result<i64, Fail> {
    match s.peek() {
        b'-' | b'0'..=b'9' => {
            let (text, whole) = s.number()?;
            if whole {
                return small_integer(text).or_else(|| text.parse().ok()).ok_or(Fail::Mismatch);
            }
            let v: f64 = text.parse().map_err(|_| Fail::Mismatch)?;
            // 2^63 is the first float beyond BIGINT.
            if cut && (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&v) {
                Ok(v as i64)
            } else {
                Err(Fail::Mismatch)
            }
        }
        b'"' => s.string()?.trim().parse().map_err(|_| Fail::Mismatch),
        _ => {
            s.skip_value(0)?;
            Err(Fail::Mismatch)
        }
    }
}

/// Up to 18 digits, which cannot overflow.
#[inline]
fn small_integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        all => (false, all),
    };
    if digits.len() > 18 {
        return None;
    }
    let v = digits.iter().fold(0i64, |n, d| n * 10 + i64::from(d - b'0'));
    Some(if negative { -v } else { v })
}

#[inline]
fn narrow<T: TryFrom<i64>>(v: i64) -> Result<T, Fail> {
    T::try_from(v).map_err(|_| Fail::Mismatch)
}
