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
//! Widths do not change once the head is printed. Changes are printed as they come, so their columns are as wide as values
//! of the type can be, strings as wide as a cell may be; as in Flink's client. A result without changes is held back
//! until it ends, so that columns are as wide as what they hold, or until it proves long. Longer cells are cut.

use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Rows of a result that are held back at most.
const HELD: usize = 10_000;

struct TableColumn {
    name: String,
    /// Width of the widest value of the type.
    widest: usize,
    right: bool,
}

/// The cells of a row.
type Cells = Vec<String>;

pub(super) struct TableWriter {
    columns: Vec<TableColumn>,
    /// Longest cell.
    max: usize,
    /// Rows that wait for the head.
    held: Vec<Cells>,
    /// So many may wait; `None` if the widths do not depend on what else comes.
    limit: Option<usize>,
    /// Once the head is printed.
    widths: Option<Vec<usize>>,
}

impl TableWriter {
    pub(super) fn new(schema: &SchemaRef, changelog: bool, max: usize) -> Self {
        let op = changelog.then(|| TableColumn { name: "op".into(), widest: 2, right: false });
        let columns = schema.fields().iter().map(|f| TableColumn {
            name: f.name().clone(),
            widest: widest(f.data_type()).unwrap_or(max),
            right: f.data_type().is_numeric(),
        });
        TableWriter {
            columns: op.into_iter().chain(columns).collect(),
            max,
            held: Vec::new(),
            // Where cells are not cut, there is no width that all of them have room in.
            limit: if max == usize::MAX { Some(usize::MAX) } else { (!changelog).then_some(HELD) },
            widths: None,
        }
    }

    /// Appends rows of cells, or holds them back.
    pub(super) fn write(&mut self, mut rows: Vec<Cells>, out: &mut String) {
        for cell in rows.iter_mut().flatten() {
            tidy(cell, self.max);
        }
        if self.widths.is_none() {
            if self.limit.is_some_and(|limit| self.held.len() + rows.len() <= limit) {
                self.held.append(&mut rows);
                return;
            }
            let widths = self.columns.iter().map(|c| c.widest.min(self.max)).collect();
            self.head(widths, out);
        }
        self.lines(&rows, out);
    }

    /// Appends what was held back and the bottom line.
    pub(super) fn finish(&mut self, out: &mut String) {
        if self.widths.is_none() {
            let columns = 0..self.columns.len();
            // Without a row nothing tells how wide a stream's columns would have been but their types.
            let least = |i: usize| match self.limit {
                Some(_) => 0,
                None => self.columns.get(i).map_or(0, |c| c.widest.min(self.max)),
            };
            let held = |i: usize| self.held.iter().filter_map(move |r| r.get(i)).map(|c| width(c)).max();
            let widths = columns.map(|i| held(i).unwrap_or(0).max(least(i))).collect();
            self.head(widths, out);
        }
        rule(self.widths.as_deref().unwrap_or_default(), out);
    }

    /// Appends the head, and what waited for it. Columns are at least as wide as their names.
    fn head(&mut self, mut widths: Vec<usize>, out: &mut String) {
        let mut names: Cells = self.columns.iter().map(|c| c.name.clone()).collect();
        for (name, room) in names.iter_mut().zip(&mut widths) {
            tidy(name, self.max);
            *room = width(name).max(*room);
        }
        rule(&widths, out);
        line(names.iter().map(String::as_str), &widths, &self.columns, out);
        rule(&widths, out);
        self.widths = Some(widths);
        let held = std::mem::take(&mut self.held);
        self.lines(&held, out);
    }

    fn lines(&self, rows: &[Cells], out: &mut String) {
        let widths = self.widths.as_deref().unwrap_or_default();
        for row in rows {
            line(row.iter().map(String::as_str), widths, &self.columns, out);
        }
    }
}

/// Width of the widest value of a type, at least that of NULL; `None` if values can be of any length.
fn widest(ty: &DataType) -> Option<usize> {
    Some(match ty {
        DataType::Boolean => 5,
        DataType::Int8 => 4,
        DataType::Int16 => 6,
        DataType::Int32 | DataType::Date32 => 11,
        DataType::Int64 => 20,
        // A sign, a point and, where all digits stand behind it, a zero before it.
        DataType::Decimal128(p, _) => usize::from(*p) + 3,
        DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond, _) => 23,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 26,
        DataType::Timestamp(..) => 29,
        DataType::Time32(_) => 12,
        _ => return None,
    })
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
