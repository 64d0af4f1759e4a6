//! Aligned columns.
//!
//! ```text
//!  +----+-------+------+
//!  | op | name  |    n |
//!  +----+-------+------+
//!  | +I | Alice |   12 |
//!  +----+-------+------+
//! ```
//!
//! Rows are printed as they come, so widths are decided from the first batch (for streams at least what the type
//! usually needs); a longer cell later moves its own line only. Cells beyond the largest width are cut.

use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

struct TableColumn {
    name: String,
    /// Width that values of the type usually have.
    usual: usize,
    right: bool,
}

pub(super) struct TableWriter {
    columns: Vec<TableColumn>,
    /// Whether to keep room for values that are longer than those of the first batch.
    streaming: bool,
    max: usize,
    widths: Option<Vec<usize>>,
}

impl TableWriter {
    pub(super) fn new(schema: &SchemaRef, changelog: bool, max: usize) -> Self {
        let op = changelog.then(|| TableColumn { name: "op".into(), usual: 2, right: false });
        let columns = schema.fields().iter().map(|f| TableColumn {
            name: f.name().clone(),
            usual: usual_width(f.data_type()),
            right: f.data_type().is_numeric(),
        });
        TableWriter {
            columns: op.into_iter().chain(columns).collect(),
            streaming: changelog,
            max,
            widths: None,
        }
    }

    /// Appends rows of cells.
    pub(super) fn write(&mut self, mut rows: Vec<Vec<String>>, out: &mut String) {
        if rows.is_empty() {
            return;
        }
        for cell in rows.iter_mut().flatten() {
            tidy(cell, self.max);
        }
        if self.widths.is_none() {
            self.head(&rows, out);
        }
        let widths = self.widths.as_deref().unwrap_or_default();
        for row in &rows {
            line(row.iter().map(String::as_str), widths, &self.columns, out);
        }
    }

    /// Appends the bottom line (and the head, if there were no rows).
    pub(super) fn finish(&mut self, out: &mut String) {
        if self.widths.is_none() {
            self.head(&[], out);
        }
        rule(self.widths.as_deref().unwrap_or_default(), out);
    }

    fn head(&mut self, rows: &[Vec<String>], out: &mut String) {
        let mut names: Vec<String> = self.columns.iter().map(|c| c.name.clone()).collect();
        for name in &mut names {
            tidy(name, self.max);
        }
        let widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(i, column)| {
                let cells = rows.iter().filter_map(|r| r.get(i)).chain(names.get(i));
                let least = if self.streaming { column.usual.min(self.max) } else { 0 };
                cells.map(|c| width(c)).max().unwrap_or(0).max(least)
            })
            .collect();
        rule(&widths, out);
        line(names.iter().map(String::as_str), &widths, &self.columns, out);
        rule(&widths, out);
        self.widths = Some(widths);
    }
}

fn usual_width(ty: &DataType) -> usize {
    match ty {
        DataType::Boolean => 5,
        DataType::Int8 => 4,
        DataType::Int16 => 6,
        DataType::Int32 | DataType::Date32 => 11,
        DataType::Int64 | DataType::Utf8 | DataType::Float32 | DataType::Float64 => 20,
        DataType::Decimal128(p, _) => usize::from(*p) + 2,
        DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond, _) => 23,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 26,
        DataType::Timestamp(..) => 29,
        DataType::Time32(_) => 12,
        _ => 0,
    }
}

/// One line and no longer than `max`.
fn tidy(cell: &mut String, max: usize) {
    if cell.contains(['\n', '\r', '\t']) {
        *cell = cell.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t");
    }
    if cell.len() > max && width(cell) > max {
        let mut room = max.saturating_sub(3);
        let fits = |c: &char| {
            let left = room.checked_sub(c.width().unwrap_or(1));
            room = left.unwrap_or(0);
            left.is_some()
        };
        *cell = cell.chars().take_while(fits).chain("...".chars()).collect();
    }
}

/// How many cells of a terminal a text takes: East Asian characters and emoji take two, combining marks none.
fn width(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.width() }
}

fn rule(widths: &[usize], out: &mut String) {
    for width in widths {
        out.push('+');
        out.extend(std::iter::repeat_n('-', width + 2));
    }
    out.push_str("+\n");
}

fn line<'a>(
    cells: impl Iterator<Item = &'a str>,
    widths: &[usize],
    columns: &[TableColumn],
    out: &mut String,
) {
    for ((cell, room), column) in cells.zip(widths).zip(columns) {
        let pad = room.saturating_sub(width(cell));
        let (left, right) = if column.right { (pad, 0) } else { (0, pad) };
        out.push_str("| ");
        out.extend(std::iter::repeat_n(' ', left));
        out.push_str(cell);
        out.extend(std::iter::repeat_n(' ', right + 1));
    }
    out.push_str("|\n");
}
