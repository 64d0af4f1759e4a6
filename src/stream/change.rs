//! Change batches: rows with what they do to the table that the stream stands for.

use arrow::array::{AsArray, BooleanArray, RecordBatch, UInt8Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::{filter, filter_record_batch};
use arrow::datatypes::{SchemaRef, UInt8Type};

use super::bytes::{batch_bytes, cut, row_bytes};
use crate::error::Result;

/// What a row does to the table the stream stands for. The codes are Flink's; `code & 1` marks a retraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RowKind {
    /// `+I`
    Insert = 0,
    /// `-U`
    UpdateBefore = 1,
    /// `+U`
    UpdateAfter = 2,
    /// `-D`
    Delete = 3,
}

impl RowKind {
    /// The kind of a code, `None` above 3.
    pub fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => RowKind::Insert,
            1 => RowKind::UpdateBefore,
            2 => RowKind::UpdateAfter,
            3 => RowKind::Delete,
            _ => return None,
        })
    }

    /// `+I`, `-U`, `+U` or `-D`.
    pub fn symbol(self) -> &'static str {
        match self {
            RowKind::Insert => "+I",
            RowKind::UpdateBefore => "-U",
            RowKind::UpdateAfter => "+U",
            RowKind::Delete => "-D",
        }
    }

    /// Whether the row is taken away.
    pub fn is_retraction(self) -> bool {
        self as u8 & 1 == 1
    }
}

/// One kind code per row, beside the batch so that column indices stay those of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowKinds(ScalarBuffer<u8>);

impl RowKinds {
    /// From codes 0 to 3.
    pub fn new(codes: Vec<u8>) -> Self {
        debug_assert!(codes.iter().all(|c| *c <= 3));
        RowKinds(codes.into())
    }

    /// The codes.
    pub fn codes(&self) -> &[u8] {
        &self.0
    }

    /// Kind of row `i`.
    pub fn get(&self, i: usize) -> RowKind {
        RowKind::from_code(self.0.get(i).copied().unwrap_or(0)).unwrap_or(RowKind::Insert)
    }

    /// Zero-copy slice.
    #[must_use]
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        RowKinds(self.0.slice(offset, length))
    }

    /// As an Arrow array, for `take`, `filter`, state files.
    pub fn to_array(&self) -> UInt8Array {
        UInt8Array::new(self.0.clone(), None)
    }

    /// From an Arrow array without nulls.
    pub fn from_array(array: &UInt8Array) -> Self {
        RowKinds(array.values().clone())
    }

    /// Whether every row is `+I`.
    pub fn all_insert(&self) -> bool {
        self.0.iter().all(|c| *c == 0)
    }
}

/// Rows of user columns with their kinds. `kinds: None` means every row is `+I` and costs nothing.
///
/// Invariant: a `-U` stands directly before the `+U` of the same key in the same batch. Whoever splits such a pair
/// (exchange, filter, key-changing projection) turns the halves into `-D` and `+I`: [`ChangeBatch::heal_pairs`].
#[derive(Debug, Clone, PartialEq)]
pub struct ChangeBatch {
    /// User columns only.
    pub rows: RecordBatch,
    /// One kind per row, or `None` when all are `+I`.
    pub kinds: Option<RowKinds>,
}

impl ChangeBatch {
    /// All rows `+I`.
    pub fn insert_only(rows: RecordBatch) -> Self {
        ChangeBatch { rows, kinds: None }
    }

    /// Rows with kinds; all-insert kinds are dropped.
    pub fn with_kinds(rows: RecordBatch, kinds: RowKinds) -> Self {
        debug_assert_eq!(rows.num_rows(), kinds.codes().len());
        let kinds = if kinds.all_insert() { None } else { Some(kinds) };
        ChangeBatch { rows, kinds }
    }

    /// Number of rows.
    pub fn num_rows(&self) -> usize {
        self.rows.num_rows()
    }

    /// Schema of the user columns.
    pub fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    /// Kind of row `i`.
    pub fn kind(&self, i: usize) -> RowKind {
        self.kinds.as_ref().map_or(RowKind::Insert, |k| k.get(i))
    }

    /// Zero-copy slice.
    #[must_use]
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        ChangeBatch {
            rows: self.rows.slice(offset, length),
            kinds: self.kinds.as_ref().map(|k| k.slice(offset, length)),
        }
    }

    /// Cut into slices of at most `limit` bytes, an update always whole.
    pub fn slices(self, limit: usize) -> Vec<Self> {
        let rows = self.num_rows();
        if rows <= 1 || batch_bytes(&self.rows) <= limit {
            return vec![self];
        }
        let runs = cut(&row_bytes(self.rows.columns(), rows), limit, |row| self.holds_next(row));
        runs.into_iter().map(|r| self.slice(r.start, r.len())).collect()
    }

    /// Whether a row is the old one of an update, whose new one follows.
    pub fn holds_next(&self, row: usize) -> bool {
        self.kind(row) == RowKind::UpdateBefore
    }

    /// Without the old rows of updates: what a table by key needs to know.
    ///
    /// # Errors
    /// From Arrow.
    pub fn without_update_before(self) -> Result<Self> {
        let Some(kinds) = &self.kinds else { return Ok(self) };
        if !kinds.codes().contains(&(RowKind::UpdateBefore as u8)) {
            return Ok(self);
        }
        let keep: BooleanArray =
            kinds.codes().iter().map(|c| Some(*c != RowKind::UpdateBefore as u8)).collect();
        let kinds = filter(&kinds.to_array(), &keep)?;
        let kinds = RowKinds::from_array(kinds.as_primitive::<UInt8Type>());
        Ok(ChangeBatch::with_kinds(filter_record_batch(&self.rows, &keep)?, kinds))
    }

    /// Bytes held by the columns, for channel bounds.
    pub fn memory_size(&self) -> usize {
        self.rows.get_array_memory_size()
    }

    /// Turns halves of update pairs into `-D` and `+I`, given the kinds of rows that stayed together after a split.
    ///
    /// A `-U` not directly followed by a `+U` becomes `-D`; a `+U` not directly preceded by a `-U` becomes `+I`.
    /// Right only where the producer sends both halves (a retract stream); never call it on an upsert stream.
    pub fn heal_pairs(codes: &mut [u8]) {
        let mut i = 0;
        while i < codes.len() {
            match codes[i] {
                1 if codes.get(i + 1) == Some(&2) => i += 2,
                1 => {
                    codes[i] = 3;
                    i += 1;
                }
                2 => {
                    codes[i] = 0;
                    i += 1;
                }
                _ => i += 1,
            }
        }
    }
}
