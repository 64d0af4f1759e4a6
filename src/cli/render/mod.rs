//! Rows on standard output: table, CSV or JSON.
//!
//! Values become text in [`crate::text`], here only the frame around them is made. A streaming query gets a first
//! column `op` with the kind of change.

mod table;

use std::io::{self, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use chrono_tz::Tz;

use crate::error::{Error, Result};
use crate::stream::ChangeBatch;
use crate::text::{Column, Escapes, Style, write_json_string};
use crate::types::LogicalType;

pub use super::args::Format;
use table::TableWriter;

/// How to print the rows of one query.
#[derive(Debug, Clone, Copy)]
pub struct RenderOptions {
    /// The frame.
    pub format: Format,
    /// Whether to print kinds of changes.
    pub changelog: bool,
    /// The zone to show instants in.
    pub zone: Tz,
    /// Longest cell of a table.
    pub max_width: usize,
}

/// Prints batches.
pub struct RowWriter<W: Write> {
    out: W,
    options: RenderOptions,
    types: Vec<LogicalType>,
    frame: Frame,
    text: String,
    rows: u64,
}

enum Frame {
    Table(TableWriter),
    Csv { header: Option<String> },
    Json { names: Vec<String> },
}

impl<W: Write> RowWriter<W> {
    /// A printer for rows of `schema`.
    pub fn new(out: W, schema: &SchemaRef, options: RenderOptions) -> Self {
        let names = schema.fields().iter().map(|f| f.name().as_str());
        let frame = match options.format {
            Format::Table => Frame::Table(TableWriter::new(schema, options.changelog, options.max_width)),
            Format::Csv => {
                let mut header = String::new();
                for (i, name) in options.changelog.then_some("op").into_iter().chain(names).enumerate() {
                    if i > 0 {
                        header.push(',');
                    }
                    write_csv(name, &mut header);
                }
                header.push('\n');
                Frame::Csv { header: Some(header) }
            }
            Format::Json => {
                let quoted = |name| {
                    let mut out = String::new();
                    write_json_string(name, Escapes::JSON, &mut out);
                    out.push(':');
                    out
                };
                Frame::Json { names: names.map(quoted).collect() }
            }
        };
        RowWriter { out, options, types: Vec::new(), frame, text: String::new(), rows: 0 }
    }

    /// The same for columns whose SQL types are known: a time has no more digits than its type.
    #[must_use]
    pub fn with_types(self, types: Vec<LogicalType>) -> Self {
        RowWriter { types, ..self }
    }

    /// Prints a batch.
    ///
    /// # Errors
    /// Data for values that have no text, External if the output fails.
    pub fn write(&mut self, batch: &ChangeBatch) -> Result<()> {
        let style = if self.options.format == Format::Json { Style::Json } else { Style::Sql };
        let columns = batch
            .rows
            .columns()
            .iter()
            .enumerate()
            .map(|(i, c)| {
                let column = Column::new(c, style, self.options.zone)?;
                Ok(match self.types.get(i) {
                    Some(ty) => column.with_type(ty),
                    None => column,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let kind = |row: usize| batch.kind(row).symbol();
        let (text, changelog) = (&mut self.text, self.options.changelog);
        text.clear();
        self.rows += batch.num_rows() as u64;
        match &mut self.frame {
            Frame::Table(table) => {
                let mut rows = Vec::with_capacity(batch.num_rows());
                for row in 0..batch.num_rows() {
                    let mut cells = Vec::with_capacity(columns.len() + 1);
                    if changelog {
                        cells.push(kind(row).to_owned());
                    }
                    for column in &columns {
                        let mut cell = String::new();
                        column.write(row, &mut cell)?;
                        cells.push(cell);
                    }
                    rows.push(cells);
                }
                table.write(rows, text);
            }
            Frame::Csv { header } => {
                text.push_str(&header.take().unwrap_or_default());
                let mut cell = String::new();
                for row in 0..batch.num_rows() {
                    if changelog {
                        text.push_str(kind(row));
                    }
                    for (i, column) in columns.iter().enumerate() {
                        if i > 0 || changelog {
                            text.push(',');
                        }
                        if !column.is_null(row) {
                            cell.clear();
                            column.write(row, &mut cell)?;
                            write_csv(&cell, text);
                        }
                    }
                    text.push('\n');
                }
            }
            Frame::Json { names } => {
                for row in 0..batch.num_rows() {
                    text.push('{');
                    if changelog {
                        text.push_str("\"op\":\"");
                        text.push_str(kind(row));
                        text.push('"');
                    }
                    for (i, (column, name)) in columns.iter().zip(&*names).enumerate() {
                        if i > 0 || changelog {
                            text.push(',');
                        }
                        text.push_str(name);
                        column.write(row, text)?;
                    }
                    text.push_str("}\n");
                }
            }
        }
        self.out.write_all(self.text.as_bytes()).map_err(output_failed)
    }

    /// Makes everything visible.
    ///
    /// # Errors
    /// External if the output fails.
    pub fn flush(&mut self) -> Result<()> {
        self.out.flush().map_err(output_failed)
    }

    /// Ends the frame; gives the number of rows printed.
    ///
    /// # Errors
    /// As [`RowWriter::flush`].
    pub fn finish(mut self) -> Result<u64> {
        self.text.clear();
        match &mut self.frame {
            Frame::Table(table) => table.finish(&mut self.text),
            Frame::Csv { header } => self.text.push_str(&header.take().unwrap_or_default()),
            Frame::Json { .. } => {}
        }
        self.out.write_all(self.text.as_bytes()).map_err(output_failed)?;
        self.flush()?;
        Ok(self.rows)
    }
}

/// Marks the error of a reader that has gone away, as `head` does when it has enough.
const GONE: &str = "the reader of the output has gone away";

fn output_failed(e: io::Error) -> Error {
    if e.kind() == io::ErrorKind::BrokenPipe {
        return Error::cancelled().context(GONE);
    }
    Error::external(format!("cannot print rows: {e}"))
}

/// Prints rows that are all there.
///
/// # Errors
/// If they cannot be written.
pub fn print(rows: &RecordBatch, format: Format) -> Result<()> {
    let options = RenderOptions { format, changelog: false, zone: chrono_tz::UTC, max_width: usize::MAX };
    let mut writer = RowWriter::new(io::stdout(), &rows.schema(), options);
    writer.write(&ChangeBatch::insert_only(rows.clone()))?;
    writer.finish().map(|_| ())
}

/// Whether an error only says that nobody reads the output any more.
pub fn is_reader_gone(e: &Error) -> bool {
    e.kind() == crate::error::ErrorKind::Cancelled && e.message().starts_with(GONE)
}

/// A field of RFC 4180. An empty text is quoted to tell it from NULL.
fn write_csv(field: &str, out: &mut String) {
    if !field.is_empty() && !field.contains([',', '"', '\n', '\r']) {
        out.push_str(field);
        return;
    }
    out.push('"');
    for part in field.split_inclusive('"') {
        out.push_str(part);
        if part.ends_with('"') {
            out.push('"');
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests;
