//! Sort keys under ids: 64 bits that order most rows, the rest of the key only where it is longer, ties by arrival.
//!
//! ```text
//!  one column with ordinals ─► ordinal, turned round for DESC          ─┐
//!  anything else            ─► arrow-row bytes: the first 8 of them     ├─► prefix (64 bits) · tail · tie
//!                                              what follows ─► tail     ┘
//!  tie = class (1 bit) · arrival (63 bits); the class keeps NULL apart from the ordinal at the end where NULLs stand
//! ```
//!
//! Row encodings stay in memory: snapshots hold the sort columns themselves.

use arrow::array::{Array, ArrayRef};
use arrow::compute::SortOptions;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, Rows, SortField};

use crate::error::{Error, Result};
use crate::state::directory::one_zero_one_nan;
use crate::state::ordinal::{is_ordinal, to_ordinals};

/// Top bit of a tie.
const CLASS: u64 = 1 << 63;

/// Below this many dead bytes packing does not pay.
const PACK_FROM: usize = 65_536;

/// Turns sort columns into comparable keys.
pub struct SortKeyEncoder {
    kind: Kind,
}

enum Kind {
    /// Without sort columns all rows are ties.
    Arrival,
    Ordinal(SortOptions),
    Rows(RowConverter),
}

/// Keys of the rows of a batch.
pub struct BatchKeys {
    prefixes: Vec<u64>,
    /// Rows whose class is 1; empty when there is none.
    classes: Vec<bool>,
    rows: Option<Rows>,
}

impl SortKeyEncoder {
    /// For sort columns of these types, first to last.
    ///
    /// # Errors
    /// Unsupported for a type without order.
    pub fn new(columns: &[(DataType, SortOptions)]) -> Result<Self> {
        let kind = match columns {
            [] => Kind::Arrival,
            [(ty, options)] if is_ordinal(ty) => Kind::Ordinal(*options),
            _ => {
                let fields: Vec<SortField> =
                    columns.iter().map(|(ty, o)| SortField::new_with_options(ty.clone(), *o)).collect();
                if !RowConverter::supports_fields(&fields) {
                    let all: Vec<String> = columns.iter().map(|(ty, _)| ty.to_string()).collect();
                    return Err(Error::unsupported(format!(
                        "rows cannot be ordered by values of type {}",
                        all.join(", ")
                    )));
                }
                Kind::Rows(RowConverter::new(fields)?)
            }
        };
        Ok(SortKeyEncoder { kind })
    }

    /// Keys of a batch's rows.
    ///
    /// # Errors
    /// Internal if the columns are not of the declared types.
    pub fn encode(&self, columns: &[ArrayRef], rows: usize) -> Result<BatchKeys> {
        let mut keys = BatchKeys { prefixes: Vec::new(), classes: Vec::new(), rows: None };
        match (&self.kind, columns) {
            (Kind::Arrival, _) => keys.prefixes.resize(rows, 0),
            (Kind::Ordinal(options), [column]) => {
                let mut ordinals = Vec::new();
                to_ordinals(column, &mut ordinals)?;
                let turned = if options.descending { u64::MAX } else { 0 };
                keys.prefixes.extend(ordinals.into_iter().map(|o| (o as u64 ^ CLASS) ^ turned));
                let nulls = column.nulls().filter(|n| n.null_count() > 0);
                if let Some(nulls) = nulls {
                    let end = if options.nulls_first { 0 } else { u64::MAX };
                    for (i, prefix) in keys.prefixes.iter_mut().enumerate() {
                        if nulls.is_null(i) {
                            *prefix = end;
                        }
                    }
                }
                let is_null = |i: usize| nulls.is_some_and(|n| n.is_null(i));
                if options.nulls_first && keys.prefixes.contains(&0) {
                    keys.classes =
                        keys.prefixes.iter().enumerate().map(|(i, p)| *p == 0 && !is_null(i)).collect();
                } else if !options.nulls_first && nulls.is_some() {
                    keys.classes = (0..rows).map(is_null).collect();
                }
            }
            (Kind::Rows(converter), _) => {
                let canonical: Vec<ArrayRef> = columns.iter().map(one_zero_one_nan).collect();
                let encoded = converter.convert_columns(&canonical)?;
                keys.prefixes.extend(encoded.iter().map(|row| prefix(row.data())));
                keys.rows = Some(encoded);
            }
            _ => return Err(Error::internal("wrong number of sort columns")),
        }
        Ok(keys)
    }
}

/// The first eight bytes as a number of the same order.
#[inline]
fn prefix(bytes: &[u8]) -> u64 {
    let mut first = [0_u8; 8];
    let n = bytes.len().min(8);
    first[..n].copy_from_slice(&bytes[..n]);
    u64::from_be_bytes(first)
}

/// The ordinal behind the prefix of an ascending key of one column.
#[inline]
pub fn ordinal_of(prefix: u64) -> i64 {
    (prefix ^ CLASS) as i64
}

impl BatchKeys {
    /// What decides most comparisons.
    #[inline]
    pub fn prefix(&self, row: usize) -> u64 {
        self.prefixes[row]
    }

    /// How two rows compare, arrival aside.
    #[inline]
    pub fn compare(&self, a: usize, b: usize) -> std::cmp::Ordering {
        self.prefix(a)
            .cmp(&self.prefix(b))
            .then_with(|| self.tail(a).cmp(self.tail(b)))
            .then_with(|| self.class(a).cmp(&self.class(b)))
    }

    #[inline]
    fn tail(&self, row: usize) -> &[u8] {
        self.rows.as_ref().map_or(&[], |rows| rows.row(row).data().get(8..).unwrap_or(&[]))
    }

    #[inline]
    fn class(&self, row: usize) -> u64 {
        u64::from(self.classes.get(row).copied().unwrap_or(false)) << 63
    }
}

/// Keys by id.
#[derive(Default)]
pub struct SortKeys {
    prefixes: Vec<u64>,
    ties: Vec<u64>,
    /// Bytes behind the prefix; empty while no key has any.
    tails: Vec<(usize, u32)>,
    data: Vec<u8>,
    dead: usize,
}

impl std::fmt::Debug for SortKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SortKeys").field("len", &self.prefixes.len()).finish_non_exhaustive()
    }
}

impl SortKeys {
    /// Stores the key of a batch's row under `id`, over what was there. `arrival` orders ties.
    pub fn put(&mut self, id: u32, keys: &BatchKeys, row: usize, arrival: u64) {
        let at = id as usize;
        if at >= self.prefixes.len() {
            self.prefixes.resize(at + 1, 0);
            self.ties.resize(at + 1, 0);
        }
        self.prefixes[at] = keys.prefix(row);
        self.ties[at] = keys.class(row) | (arrival & !CLASS);
        let tail = keys.tail(row);
        if tail.is_empty() && at >= self.tails.len() {
            return;
        }
        if at >= self.tails.len() {
            self.tails.resize(self.prefixes.len(), (0, 0));
        }
        self.dead += self.tails[at].1 as usize;
        self.tails[at] = (self.data.len(), tail.len() as u32);
        self.data.extend_from_slice(tail);
        self.pack();
    }

    /// Forgets a key.
    pub fn free(&mut self, id: u32) {
        if let Some(tail) = self.tails.get_mut(id as usize) {
            self.dead += tail.1 as usize;
            *tail = (0, 0);
            self.pack();
        }
    }

    fn pack(&mut self) {
        if self.dead < PACK_FROM || self.dead < self.data.len() / 2 {
            return;
        }
        let mut packed = Vec::with_capacity(self.data.len() - self.dead);
        for (start, length) in &mut self.tails {
            let from = *start;
            *start = packed.len();
            packed.extend_from_slice(&self.data[from..from + *length as usize]);
        }
        self.data = packed;
        self.dead = 0;
    }

    #[inline]
    fn tail(&self, id: u32) -> &[u8] {
        match self.tails.get(id as usize) {
            Some((start, length)) => &self.data[*start..*start + *length as usize],
            None => &[],
        }
    }

    /// The prefix of a stored key.
    #[inline]
    pub fn prefix(&self, id: u32) -> u64 {
        self.prefixes[id as usize]
    }

    /// When a row arrived.
    #[inline]
    pub fn arrival(&self, id: u32) -> u64 {
        self.ties[id as usize] & !CLASS
    }

    /// Whether `a` stands before `b`.
    #[inline]
    pub fn is_before(&self, a: u32, b: u32) -> bool {
        let (left, right) = (self.prefix(a), self.prefix(b));
        if left != right {
            return left < right;
        }
        if !self.tails.is_empty() {
            match self.tail(a).cmp(self.tail(b)) {
                std::cmp::Ordering::Equal => {}
                other => return other.is_lt(),
            }
        }
        self.ties[a as usize] < self.ties[b as usize]
    }

    /// Whether two stored keys are equal, arrival aside.
    pub fn is_tie(&self, a: u32, b: u32) -> bool {
        let class = |id: u32| self.ties[id as usize] & CLASS;
        self.prefix(a) == self.prefix(b) && self.tail(a) == self.tail(b) && class(a) == class(b)
    }

    /// How a batch's row compares with a stored one, arrival aside.
    #[inline]
    pub fn compare(&self, keys: &BatchKeys, row: usize, id: u32) -> std::cmp::Ordering {
        keys.prefix(row)
            .cmp(&self.prefix(id))
            .then_with(|| keys.tail(row).cmp(self.tail(id)))
            .then_with(|| keys.class(row).cmp(&(self.ties[id as usize] & CLASS)))
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        (self.prefixes.capacity() + self.ties.capacity()) * 8
            + self.tails.capacity() * size_of::<(usize, u32)>()
            + self.data.capacity()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, StringArray};

    use super::*;

    /// Rows in the order of their keys.
    fn order(columns: &[ArrayRef], options: &[(bool, bool)]) -> Vec<u32> {
        let types: Vec<(DataType, SortOptions)> = columns
            .iter()
            .zip(options)
            .map(|(c, (descending, nulls_first))| {
                (c.data_type().clone(), SortOptions { descending: *descending, nulls_first: *nulls_first })
            })
            .collect();
        let encoder = SortKeyEncoder::new(&types).unwrap();
        let n = columns.first().map_or(4, |c| c.len());
        let keys = encoder.encode(columns, n).unwrap();
        let mut stored = SortKeys::default();
        for row in 0..n {
            stored.put(row as u32, &keys, row, row as u64);
        }
        let mut ids: Vec<u32> = (0..n as u32).collect();
        ids.sort_by(|a, b| {
            if stored.is_before(*a, *b) { std::cmp::Ordering::Less } else { std::cmp::Ordering::Greater }
        });
        for pair in ids.windows(2) {
            assert!(stored.compare(&keys, pair[0] as usize, pair[1]).is_le());
        }
        ids
    }

    #[test]
    fn nulls_and_the_ends_of_the_range() {
        let c: ArrayRef = Arc::new(Int64Array::from(vec![
            Some(i64::MIN),
            None,
            Some(i64::MAX),
            Some(0),
            None,
            Some(i64::MIN),
        ]));
        let columns = [c];
        assert_eq!(order(&columns, &[(false, true)]), [1, 4, 0, 5, 3, 2]);
        assert_eq!(order(&columns, &[(false, false)]), [0, 5, 3, 2, 1, 4]);
        assert_eq!(order(&columns, &[(true, true)]), [1, 4, 2, 3, 0, 5]);
        assert_eq!(order(&columns, &[(true, false)]), [2, 3, 0, 5, 1, 4]);
    }

    #[test]
    fn several_columns_and_ties() {
        let a: ArrayRef = Arc::new(StringArray::from(vec![
            Some("a long text, first"),
            Some("a long text, second"),
            None,
            Some("a long text, first"),
            Some("a long text, first"),
        ]));
        let b: ArrayRef = Arc::new(Float64Array::from(vec![0.0, 5.0, 1.0, 7.0, -0.0]));
        assert_eq!(order(&[a.clone(), b.clone()], &[(false, true), (true, false)]), [2, 3, 0, 4, 1]);
        assert_eq!(order(&[a], &[(true, false)]), [1, 0, 3, 4, 2]);
        assert_eq!(order(&[], &[]), [0, 1, 2, 3]);
    }
}
