//! Arrow values as SQL literals, and the text of results as Arrow arrays.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanArray, RecordBatch, RecordBatchOptions,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Float32Type, Float64Type, SchemaRef, TimeUnit};
use arrow::util::display::FormatOptions;

use super::dialect::Dialect;
use crate::error::{Error, Result};
use crate::text::{Column, Style};

/// The cells of a result, column by column, as the database sends them.
pub(super) struct Cells {
    columns: Vec<BinaryBuilder>,
    rows: usize,
    bytes: usize,
}

impl Cells {
    pub(super) fn new(columns: usize) -> Self {
        Cells { columns: (0..columns).map(|_| BinaryBuilder::new()).collect(), rows: 0, bytes: 0 }
    }

    /// Appends the cell of the next row to a column.
    pub(super) fn push(&mut self, column: usize, cell: Option<&[u8]>) {
        if let Some(builder) = self.columns.get_mut(column) {
            self.bytes += cell.map_or(0, <[u8]>::len);
            builder.append_option(cell);
        }
        if column + 1 == self.columns.len() {
            self.rows += 1;
        }
    }

    /// A row of a result without columns.
    pub(super) fn push_row(&mut self) {
        self.rows += 1;
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// As a batch of `schema`.
    ///
    /// # Errors
    /// Data for a value that is none of its column's type, and for NULL in a column that may not be NULL.
    pub(super) fn finish(mut self, schema: &SchemaRef, dialect: Dialect) -> Result<RecordBatch> {
        let columns = self
            .columns
            .iter_mut()
            .zip(schema.fields())
            .map(|(cells, field)| {
                let column = decode(cells.finish(), field.data_type(), dialect)
                    .map_err(|e| e.context(format!("column `{}`", field.name())))?;
                if !field.is_nullable() && column.null_count() > 0 {
                    return Err(Error::data(format!(
                        "column `{}` is NOT NULL, and the database has NULL",
                        field.name()
                    ))
                    .hint("declare it without NOT NULL"));
                }
                Ok(column)
            })
            .collect::<Result<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
    }
}

fn decode(cells: BinaryArray, ty: &DataType, dialect: Dialect) -> Result<ArrayRef> {
    if *ty == DataType::Binary {
        return match dialect {
            Dialect::Mysql => Ok(Arc::new(cells)),
            Dialect::Postgres => bytea(&cells),
        };
    }
    let cells: ArrayRef = Arc::new(cells);
    let strict = CastOptions { safe: false, format_options: FormatOptions::default() };
    let invalid = |e| Error::data("the database sent what is no value of the column's type").caused_by(e);
    let text = cast_with_options(&cells, &DataType::Utf8, &strict).map_err(invalid)?;
    match ty {
        DataType::Utf8 => Ok(text),
        // BIT(1) of MySQL is a byte.
        DataType::Boolean => {
            let truth = |text: &str| match text {
                "t" | "true" | "1" | "\u{1}" => Ok(true),
                "f" | "false" | "0" | "\0" => Ok(false),
                other => Err(Error::data(format!("'{other}' is no BOOLEAN"))),
            };
            let column = text.as_string::<i32>().iter().map(|t| t.map(truth).transpose());
            Ok(Arc::new(column.collect::<Result<BooleanArray>>()?))
        }
        _ => cast_with_options(&text, ty, &strict).map_err(|e| Error::data(e.to_string())),
    }
}

/// `\x0aff`
fn bytea(cells: &BinaryArray) -> Result<ArrayRef> {
    let mut out = BinaryBuilder::new();
    let mut bytes = Vec::new();
    for cell in cells {
        let Some(cell) = cell else {
            out.append_null();
            continue;
        };
        let digits = cell.strip_prefix(b"\\x").unwrap_or(cell);
        bytes.clear();
        for pair in digits.chunks(2) {
            let byte = std::str::from_utf8(pair).ok().and_then(|p| u8::from_str_radix(p, 16).ok());
            bytes.push(
                byte.ok_or_else(|| Error::data("the database sent bytes that are no hexadecimal digits"))?,
            );
        }
        out.append_value(&bytes);
    }
    Ok(Arc::new(out.finish()))
}

/// Writes the values of some columns as literals.
pub(super) struct Literals {
    dialect: Dialect,
    columns: Vec<Writer>,
}

enum Writer {
    Text(ArrayRef),
    Bytes(ArrayRef),
    Float32(ArrayRef),
    Float64(ArrayRef),
    /// As it is.
    Plain(Column, ArrayRef),
    /// Within quotes.
    Quoted(Column, ArrayRef),
}

impl Literals {
    pub(super) fn new(columns: &[ArrayRef], dialect: Dialect) -> Result<Self> {
        let writer = |array: &ArrayRef| {
            let text = || Column::new(array, Style::Sql, chrono_tz::UTC);
            Ok(match array.data_type() {
                DataType::Utf8 => Writer::Text(array.clone()),
                DataType::Binary => Writer::Bytes(array.clone()),
                DataType::Float32 => Writer::Float32(array.clone()),
                DataType::Float64 => Writer::Float64(array.clone()),
                DataType::Boolean
                | DataType::Int8
                | DataType::Int16
                | DataType::Int32
                | DataType::Int64
                | DataType::Decimal128(..) => Writer::Plain(text()?, array.clone()),
                DataType::Date32 | DataType::Time32(TimeUnit::Millisecond) | DataType::Timestamp(..) => {
                    Writer::Quoted(text()?, array.clone())
                }
                other => {
                    return Err(Error::unsupported(format!(
                        "values of type {other} cannot be written to a database"
                    )));
                }
            })
        };
        Ok(Literals { dialect, columns: columns.iter().map(writer).collect::<Result<_>>()? })
    }

    /// `(1, 'a', NULL)`
    pub(super) fn write_row(&self, row: usize, out: &mut String) -> Result<()> {
        out.push('(');
        for i in 0..self.columns.len() {
            if i > 0 {
                out.push_str(", ");
            }
            self.write(i, row, out)?;
        }
        out.push(')');
        Ok(())
    }

    /// One value.
    pub(super) fn write(&self, column: usize, row: usize, out: &mut String) -> Result<()> {
        let Some(writer) = self.columns.get(column) else { return Err(Error::internal("no such column")) };
        let array = match writer {
            Writer::Text(a) | Writer::Bytes(a) | Writer::Float32(a) | Writer::Float64(a) => a,
            Writer::Plain(_, a) | Writer::Quoted(_, a) => a,
        };
        if array.is_null(row) {
            out.push_str("NULL");
            return Ok(());
        }
        match writer {
            Writer::Text(a) => {
                let text = a.as_string::<i32>().value(row);
                if self.dialect == Dialect::Postgres && text.contains('\0') {
                    return Err(Error::data("a text holds a zero character, which PostgreSQL cannot store"));
                }
                self.dialect.write_text(text, out);
            }
            Writer::Bytes(a) => self.dialect.write_bytes(a.as_binary::<i32>().value(row), out),
            Writer::Float32(a) => self.float(
                f64::from(a.as_primitive::<Float32Type>().value(row)),
                &a.as_primitive::<Float32Type>().value(row),
                out,
            )?,
            Writer::Float64(a) => {
                let value = a.as_primitive::<Float64Type>().value(row);
                self.float(value, &value, out)?;
            }
            Writer::Plain(column, _) => column.write(row, out)?,
            Writer::Quoted(column, _) => {
                out.push('\'');
                column.write(row, out)?;
                out.push('\'');
            }
        }
        Ok(())
    }

    fn float(&self, value: f64, shown: &impl std::fmt::LowerExp, out: &mut String) -> Result<()> {
        use std::fmt::Write;
        if value.is_finite() {
            // Writing to a String cannot fail.
            let _ = write!(out, "{shown:e}");
            return Ok(());
        }
        match self.dialect {
            Dialect::Postgres if value.is_nan() => out.push_str("'NaN'::float8"),
            Dialect::Postgres if value > 0.0 => out.push_str("'Infinity'::float8"),
            Dialect::Postgres => out.push_str("'-Infinity'::float8"),
            Dialect::Mysql => return Err(Error::data("MySQL cannot store NaN and infinity")),
        }
        Ok(())
    }
}
