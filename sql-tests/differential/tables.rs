//! Random tables: columns of few types, and a history of inserts, updates and deletes over few values.

use std::fmt;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int32Builder,
    Int64Array, ListBuilder, RecordBatch, RecordBatchOptions, StringArray, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMillisecondType};
use tidelake::stream::{ChangeBatch, RowKind, RowKinds};
use tidelake::types::{LogicalType, TypeRoot};

use super::random::Random;

/// Types of columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ty {
    Int,
    Big,
    Str,
    Bool,
    Dec,
    Dbl,
    Date,
    /// TIMESTAMP(3).
    Time,
    /// TIMESTAMP_LTZ(3).
    Instant,
    Arr,
}

impl Ty {
    pub(crate) fn sql(self) -> &'static str {
        match self {
            Ty::Int => "INT",
            Ty::Big => "BIGINT",
            Ty::Str => "STRING",
            Ty::Bool => "BOOLEAN",
            Ty::Dec => "DECIMAL(10, 2)",
            Ty::Dbl => "DOUBLE",
            Ty::Date => "DATE",
            Ty::Time => "TIMESTAMP(3)",
            Ty::Instant => "TIMESTAMP_LTZ(3)",
            Ty::Arr => "ARRAY<INT>",
        }
    }

    pub(crate) fn logical(self, nullable: bool) -> LogicalType {
        let root = match self {
            Ty::Int => TypeRoot::Int,
            Ty::Big => TypeRoot::BigInt,
            Ty::Str => return LogicalType { nullable, ..LogicalType::string() },
            Ty::Bool => TypeRoot::Boolean,
            Ty::Dec => TypeRoot::Decimal(10, 2),
            Ty::Dbl => TypeRoot::Double,
            Ty::Date => TypeRoot::Date,
            Ty::Time => TypeRoot::Timestamp(3),
            Ty::Instant => TypeRoot::TimestampLtz(3),
            Ty::Arr => TypeRoot::Array(Box::new(LogicalType::nullable(TypeRoot::Int))),
        };
        LogicalType { root, nullable }
    }

    pub(crate) fn is_number(self) -> bool {
        matches!(self, Ty::Int | Ty::Big | Ty::Dec | Ty::Dbl)
    }
}

/// A value of a column.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Int(i64),
    Str(&'static str),
    Bool(bool),
    /// Unscaled, two digits.
    Dec(i64),
    Dbl(f64),
    /// Days.
    Date(i32),
    /// Milliseconds.
    Time(i64),
    Arr(Vec<Option<i32>>),
}

impl Value {
    /// A value out of few, so that rows meet.
    pub(crate) fn random(ty: Ty, r: &mut Random) -> Value {
        match ty {
            Ty::Int => Value::Int(r.within(-1, 4)),
            Ty::Big => Value::Int(*r.pick(&[-7, 0, 1, 2, 3, 1_000_000_000_000])),
            Ty::Str => Value::Str(r.pick::<&str>(&["", "a", "b", "ab", "B", "é", "日本😀", "it's"])),
            Ty::Bool => Value::Bool(r.one_in(2)),
            Ty::Dec => Value::Dec(r.within(-3, 6) * 50),
            // Exact in binary: sums do not depend on the order of rows.
            Ty::Dbl => Value::Dbl(r.within(-4, 6) as f64 / 2.0),
            Ty::Date => Value::Date(r.within(19_000, 19_004) as i32),
            Ty::Time | Ty::Instant => Value::Time(TIMES + r.within(0, 60) * 1000),
            Ty::Arr => {
                let n = r.below(4);
                Value::Arr((0..n).map(|_| (!r.one_in(6)).then(|| r.within(0, 3) as i32)).collect())
            }
        }
    }

    /// As a literal of its type.
    pub(crate) fn literal(&self, ty: Ty) -> String {
        match self {
            Value::Null => format!("CAST(NULL AS {})", ty.sql()),
            Value::Int(v) if ty == Ty::Big => format!("CAST({v} AS BIGINT)"),
            Value::Int(v) => v.to_string(),
            Value::Str(s) => format!("'{}'", s.replace('\'', "''")),
            Value::Bool(b) => b.to_string().to_uppercase(),
            Value::Dec(v) => format!("CAST({} AS DECIMAL(10, 2))", *v as f64 / 100.0),
            Value::Dbl(v) => format!("CAST({v} AS DOUBLE)"),
            Value::Date(days) => format!("DATE '{}'", date(*days)),
            Value::Time(ms) if ty == Ty::Instant => format!("TO_TIMESTAMP_LTZ({ms}, 3)"),
            Value::Time(ms) => format!("CAST(TIMESTAMP '{}' AS TIMESTAMP(3))", time(*ms)),
            Value::Arr(items) => {
                let items: Vec<String> = items
                    .iter()
                    .map(|i| i.map_or("CAST(NULL AS INT)".to_owned(), |i| i.to_string()))
                    .collect();
                if items.is_empty() {
                    return format!("CAST(NULL AS {})", ty.sql());
                }
                format!("ARRAY[{}]", items.join(", "))
            }
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("NULL"),
            Value::Int(v) => v.fmt(f),
            Value::Str(s) => write!(f, "'{s}'"),
            Value::Bool(b) => b.fmt(f),
            Value::Dec(v) => write!(f, "{:.2}", *v as f64 / 100.0),
            Value::Dbl(v) => write!(f, "{v:?}"),
            Value::Date(d) => write!(f, "day {d}"),
            Value::Time(ms) => f.write_str(&time(*ms)),
            Value::Arr(items) => write!(f, "{items:?}"),
        }
    }
}

pub(crate) type Row = Vec<Value>;

/// One change to a table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    Insert(Row),
    Delete(Row),
    Update(Row, Row),
}

/// A table with its history.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) name: String,
    /// Type and whether NULL occurs.
    pub(crate) columns: Vec<(Ty, bool)>,
    /// Whether the first column is the primary key.
    pub(crate) keyed: bool,
    /// Whether the last column is a row time: rows are at most [`DISORDER`] behind.
    pub(crate) timed: bool,
    /// Whether rows share a row time.
    pub(crate) ties: bool,
    /// Changes of each split, in order; splits know nothing of each other.
    pub(crate) splits: Vec<Vec<Change>>,
    /// Changes per batch.
    pub(crate) batch: usize,
}

impl Table {
    pub(crate) fn random(name: String, r: &mut Random) -> Table {
        if r.one_in(3) {
            return Table::random_timed(name, r);
        }
        let keyed = r.one_in(3);
        let mut columns: Vec<(Ty, bool)> = Vec::new();
        for i in 0..2 + r.below(3) {
            let types = [Ty::Int, Ty::Str, Ty::Big, Ty::Dec, Ty::Bool, Ty::Dbl, Ty::Date, Ty::Arr];
            let ty = if i == 0 { Ty::Int } else { types[r.weighted(&[6, 5, 2, 2, 1, 1, 1, 1])] };
            columns.push((ty, !r.one_in(4)));
        }
        if keyed {
            columns[0] = (*r.pick(&[Ty::Int, Ty::Str]), false);
        }
        let mut table = Table {
            name,
            columns,
            keyed,
            timed: false,
            ties: false,
            splits: vec![Vec::new(); 1 + r.below(3)],
            batch: 1 + r.below(7),
        };
        let append_only = r.one_in(3);
        let changes = *r.pick(&[0, 1, 3, 8, 12, 20, 40]);
        let mut live: Vec<Vec<Row>> = vec![Vec::new(); table.splits.len()];
        for _ in 0..changes {
            let split = r.below(table.splits.len());
            let rows = &mut live[split];
            let what = if append_only || rows.is_empty() { 0 } else { r.weighted(&[5, 3, 3]) };
            match what {
                0 => {
                    let mut row = table.row(r);
                    if table.keyed {
                        // Keys of a split are its own.
                        row[0] = match (table.columns[0].0, r.below(5)) {
                            (Ty::Int, n) => Value::Int((n * table.splits.len() + split) as i64),
                            (_, n) => Value::Str(KEYS[(n * 3 + split) % KEYS.len()]),
                        };
                        if rows.iter().any(|old| old[0] == row[0]) {
                            continue;
                        }
                    } else if !rows.is_empty() && r.one_in(4) {
                        row = r.pick(rows).clone();
                    }
                    rows.push(row.clone());
                    table.splits[split].push(Change::Insert(row));
                }
                1 => {
                    let row = rows.swap_remove(r.below(rows.len()));
                    table.splits[split].push(Change::Delete(row));
                }
                _ => {
                    let at = r.below(rows.len());
                    let old = rows[at].clone();
                    let mut new = old.clone();
                    for (i, value) in table.row(r).into_iter().enumerate() {
                        if r.one_in(2) && !(table.keyed && i == 0) {
                            new[i] = value;
                        }
                    }
                    rows[at] = new.clone();
                    table.splits[split].push(Change::Update(old, new));
                }
            }
        }
        table
    }

    /// Name of the row time.
    pub(crate) fn time(&self) -> String {
        format!("c{}", self.columns.len() - 1)
    }

    /// Types of the columns.
    pub(crate) fn types(&self) -> Vec<Ty> {
        self.columns.iter().map(|(ty, _)| *ty).collect()
    }

    pub(super) fn row(&self, r: &mut Random) -> Row {
        self.columns
            .iter()
            .map(|(ty, nullable)| if *nullable && r.one_in(5) { Value::Null } else { Value::random(*ty, r) })
            .collect()
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        let fields: Vec<Field> = self
            .columns
            .iter()
            .enumerate()
            .map(|(i, (ty, nullable))| ty.logical(*nullable).to_field(&format!("c{i}")))
            .collect();
        Arc::new(Schema::new(fields))
    }

    pub(crate) fn is_append_only(&self) -> bool {
        self.splits.iter().flatten().all(|c| matches!(c, Change::Insert(_)))
    }

    /// The rows that are left at the end.
    pub(crate) fn net(&self) -> Vec<Row> {
        let mut left = Vec::new();
        for split in &self.splits {
            let mut rows: Vec<Row> = Vec::new();
            for change in split {
                let (gone, come) = match change {
                    Change::Insert(new) => (None, Some(new)),
                    Change::Delete(old) => (Some(old), None),
                    Change::Update(old, new) => (Some(old), Some(new)),
                };
                if let Some(old) = gone {
                    let at = rows.iter().position(|r| r == old).expect("a consistent history");
                    rows.swap_remove(at);
                }
                rows.extend(come.cloned());
            }
            left.extend(rows);
        }
        left
    }

    /// Removes changes to rows that are not there.
    pub(crate) fn make_consistent(&mut self) {
        let keyed = self.keyed;
        for split in &mut self.splits {
            let mut rows: Vec<Row> = Vec::new();
            split.retain(|change| {
                let (gone, come) = match change {
                    Change::Insert(new) => (None, Some(new)),
                    Change::Delete(old) => (Some(old), None),
                    Change::Update(old, new) => (Some(old), Some(new)),
                };
                if let Some(old) = gone {
                    let Some(at) = rows.iter().position(|r| r == old) else { return false };
                    rows.swap_remove(at);
                } else if keyed && come.is_some_and(|new| rows.iter().any(|r| r[0] == new[0])) {
                    return false;
                }
                rows.extend(come.cloned());
                true
            });
        }
    }

    /// The batches of a split.
    pub(crate) fn batches(&self, split: usize) -> Vec<ChangeBatch> {
        self.splits[split]
            .chunks(self.batch)
            .map(|changes| {
                let mut rows = Vec::new();
                let mut kinds = Vec::new();
                let mut push = |row: &Row, kind: RowKind| {
                    rows.push(row.clone());
                    kinds.push(kind as u8);
                };
                for change in changes {
                    match change {
                        Change::Insert(row) => push(row, RowKind::Insert),
                        Change::Delete(row) => push(row, RowKind::Delete),
                        Change::Update(old, new) => {
                            push(old, RowKind::UpdateBefore);
                            push(new, RowKind::UpdateAfter);
                        }
                    }
                }
                ChangeBatch::with_kinds(self.record_batch(&rows), RowKinds::new(kinds))
            })
            .collect()
    }

    pub(crate) fn record_batch(&self, rows: &[Row]) -> RecordBatch {
        let schema = self.schema();
        let columns = self
            .columns
            .iter()
            .enumerate()
            .map(|(i, (ty, _))| match (schema.field(i).data_type(), column(*ty, rows, i)) {
                (DataType::Timestamp(_, Some(zone)), values) => {
                    let values = values.as_primitive::<TimestampMillisecondType>().clone();
                    Arc::new(values.with_timezone(zone.clone())) as ArrayRef
                }
                (_, values) => values,
            })
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        RecordBatch::try_new_with_options(schema, columns, &options).expect("rows of the schema")
    }
}

const KEYS: [&str; 15] =
    ["k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7", "k8", "k9", "ka", "kb", "kc", "kd", "ke"];

fn column(ty: Ty, rows: &[Row], i: usize) -> ArrayRef {
    let values = rows.iter().map(|r| &r[i]);
    let int = |v: &Value| if let Value::Int(v) = v { Some(*v) } else { None };
    match ty {
        Ty::Int => Arc::new(values.map(|v| int(v).map(|v| v as i32)).collect::<Int32Array>()),
        Ty::Big => Arc::new(values.map(int).collect::<Int64Array>()),
        Ty::Str => Arc::new(
            values.map(|v| if let Value::Str(s) = v { Some(*s) } else { None }).collect::<StringArray>(),
        ),
        Ty::Bool => Arc::new(
            values.map(|v| if let Value::Bool(b) = v { Some(*b) } else { None }).collect::<BooleanArray>(),
        ),
        Ty::Dec => Arc::new(
            values
                .map(|v| if let Value::Dec(d) = v { Some(i128::from(*d)) } else { None })
                .collect::<Decimal128Array>()
                .with_precision_and_scale(10, 2)
                .expect("DECIMAL(10, 2)"),
        ),
        Ty::Dbl => Arc::new(
            values.map(|v| if let Value::Dbl(d) = v { Some(*d) } else { None }).collect::<Float64Array>(),
        ),
        Ty::Date => Arc::new(
            values.map(|v| if let Value::Date(d) = v { Some(*d) } else { None }).collect::<Date32Array>(),
        ),
        Ty::Time | Ty::Instant => Arc::new(
            values
                .map(|v| if let Value::Time(ms) = v { Some(*ms) } else { None })
                .collect::<TimestampMillisecondArray>(),
        ),
        Ty::Arr => {
            let mut builder = ListBuilder::new(Int32Builder::new());
            for value in values {
                match value {
                    Value::Arr(items) => builder.append_value(items.iter().copied()),
                    _ => builder.append_null(),
                }
            }
            Arc::new(builder.finish())
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<String> = self
            .columns
            .iter()
            .enumerate()
            .map(|(i, (ty, nullable))| {
                format!("c{i} {}{}", ty.sql(), if *nullable { "" } else { " NOT NULL" })
            })
            .collect();
        let key = if self.keyed { ", PRIMARY KEY (c0) NOT ENFORCED" } else { "" };
        let key = if self.timed {
            let versions = if self.has_versions() {
                format!(" ({} with PRIMARY KEY (c0) NOT ENFORCED)", self.versions())
            } else {
                String::new()
            };
            format!(", WATERMARK FOR {} 30 s behind{versions}", self.time())
        } else {
            key.to_owned()
        };
        writeln!(f, "{} ({}{key}), {} changes a batch", self.name, columns.join(", "), self.batch)?;
        let row = |row: &Row| row.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        for (i, split) in self.splits.iter().enumerate() {
            if self.splits.len() > 1 {
                writeln!(f, "  split {i}")?;
            }
            for change in split {
                match change {
                    Change::Insert(new) => writeln!(f, "    +I {}", row(new))?,
                    Change::Delete(old) => writeln!(f, "    -D {}", row(old))?,
                    Change::Update(old, new) => writeln!(f, "    -U {}\n    +U {}", row(old), row(new))?,
                }
            }
        }
        Ok(())
    }
}

/// First of the row times, in ms.
pub(crate) const TIMES: i64 = 1_710_064_800_000;

/// How far a row may be behind one before it, in ms; watermarks are [`WATERMARK`] behind.
pub(crate) const DISORDER: i64 = 20_000;

/// Of tables with a row time.
pub(crate) const WATERMARK: &str = "INTERVAL '30' SECOND";

pub(crate) fn time(ms: i64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(ms).expect("a time");
    time.format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

pub(crate) fn date(days: i32) -> String {
    use chrono::Days;
    let epoch = chrono::NaiveDate::default();
    epoch.checked_add_days(Days::new(days as u64)).expect("a date").to_string()
}
