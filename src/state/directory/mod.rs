//! Group directory: key columns → dense slots, under which operators keep their typed state vectors.
//!
//! ```text
//!  key columns ─► stable hash ─► table: hash → slot ─► compare with the key of the slot ─► slots
//!                                                       │ one integer-like column: a vector of 64-bit ordinals
//!                                                       │ one string or binary column: a byte arena
//!                                                       └ anything else: arrow-row bytes in the arena
//! ```
//!
//! | state | when it goes |
//! |---|---|
//! | key → slot | [`GroupDirectory::remove`]; the slot is used again |
//!
//! Unlike DataFusion's `GroupValues` it can look up without inserting and forget a group. Row encodings stay in
//! memory: state files get typed columns from [`GroupDirectory::keys`].

mod arena;
mod changes;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, Float32Array, Float64Array, StringBuilder, UInt8Array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use arrow::row::{RowConverter, Rows, SortField};
use hashbrown::HashTable;

use crate::error::{Error, Result};
use crate::functions::room::{append, check_column};
use crate::state::key::{canonical_bits, hash_columns, key_groups_of};
use crate::state::ordinal::{from_ordinals, is_ordinal, to_ordinals};
use crate::stream::BATCH_BYTES;
use crate::stream::bytes::cut;
use crate::types::sql_name;
use arena::Arena;
use changes::Changes;
pub use changes::{Written, anonymous};

/// What [`GroupDirectory::lookup`] gives for an unknown key.
pub const NO_SLOT: u32 = u32::MAX;

/// Maps keys to dense slots.
pub struct GroupDirectory {
    types: Vec<DataType>,
    table: HashTable<u32>,
    /// Stable hash of each slot's key; stale for free slots.
    hashes: Vec<u64>,
    free: Vec<u32>,
    keys: Keys,
    /// Hashes of the rows at hand, kept for their allocation.
    scratch: Vec<u64>,
    /// Noted for the next snapshot, once there was one that others follow.
    changes: Option<Changes>,
}

enum Keys {
    /// No key columns: one group.
    Global { live: bool },
    /// One column with ordinals. NULL is no member of the table.
    Ordinals { values: Vec<i64>, null: Option<u32>, rows: Vec<i64> },
    /// One string or binary column. NULL is no member of the table.
    Bytes { arena: Arena, null: Option<u32> },
    /// Any columns as arrow-row bytes.
    Rows { arena: Arena, converter: RowConverter, rows: Rows },
}

impl std::fmt::Debug for GroupDirectory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupDirectory").field("types", &self.types).field("len", &self.len()).finish()
    }
}

/// How the calls treat keys they do not know.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Insert,
    Find,
}

impl GroupDirectory {
    /// An empty directory for keys of these types.
    ///
    /// # Errors
    /// Unsupported for a type that cannot be a key (maps).
    pub fn new(types: &[DataType]) -> Result<Self> {
        let keys = match types {
            [] => Keys::Global { live: false },
            [ty] if is_ordinal(ty) => Keys::Ordinals { values: Vec::new(), null: None, rows: Vec::new() },
            [DataType::Utf8 | DataType::Binary] => Keys::Bytes { arena: Arena::default(), null: None },
            _ => {
                let fields: Vec<SortField> = types.iter().map(|t| SortField::new(t.clone())).collect();
                if !RowConverter::supports_fields(&fields) {
                    let all: Vec<String> = types.iter().map(sql_name).collect();
                    return Err(Error::unsupported(format!(
                        "values of type {} cannot be keys",
                        all.join(", ")
                    ))
                    .hint("CAST a MAP or MULTISET to STRING, or use MAP_KEYS and MAP_VALUES"));
                }
                let converter = RowConverter::new(fields)?;
                let rows = converter.empty_rows(0, 0);
                Keys::Rows { arena: Arena::default(), converter, rows }
            }
        };
        Ok(GroupDirectory {
            types: types.to_vec(),
            table: HashTable::new(),
            hashes: Vec::new(),
            free: Vec::new(),
            keys,
            scratch: Vec::new(),
            changes: None,
        })
    }

    /// Types of the key columns.
    pub fn types(&self) -> &[DataType] {
        &self.types
    }

    /// Number of known keys.
    pub fn len(&self) -> usize {
        match &self.keys {
            Keys::Global { live } => usize::from(*live),
            Keys::Ordinals { null, .. } | Keys::Bytes { null, .. } => {
                self.table.len() + usize::from(null.is_some())
            }
            Keys::Rows { .. } => self.table.len(),
        }
    }

    /// Whether no key is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One more than the greatest slot ever given out: the length of state vectors.
    pub fn capacity(&self) -> usize {
        self.hashes.len()
    }

    /// Writes the slot of each row to `slots` (cleared first), giving out slots to keys not known yet.
    ///
    /// # Errors
    /// From hashing; internal if the columns are not of the declared number.
    pub fn intern(&mut self, columns: &[ArrayRef], rows: usize, slots: &mut Vec<u32>) -> Result<()> {
        self.find(columns, rows, slots, Mode::Insert)?;
        self.touch(slots);
        Ok(())
    }

    /// Writes the slot of each row to `slots` (cleared first), [`NO_SLOT`] for unknown keys.
    ///
    /// # Errors
    /// As [`GroupDirectory::intern`].
    pub fn lookup(&mut self, columns: &[ArrayRef], rows: usize, slots: &mut Vec<u32>) -> Result<()> {
        self.find(columns, rows, slots, Mode::Find)
    }

    fn find(&mut self, columns: &[ArrayRef], rows: usize, slots: &mut Vec<u32>, mode: Mode) -> Result<()> {
        slots.clear();
        slots.reserve(rows);
        if columns.len() != self.types.len() {
            return Err(Error::internal("group directory: wrong number of key columns"));
        }
        let canonical: Vec<ArrayRef>;
        let columns = if matches!(self.keys, Keys::Rows { .. }) {
            canonical = columns.iter().map(one_zero_one_nan).collect();
            &canonical
        } else {
            columns
        };
        if !columns.is_empty() {
            hash_columns(columns, rows, &mut self.scratch)?;
        }
        let hashes = std::mem::take(&mut self.scratch);
        let mut pool = Pool { table: &mut self.table, hashes: &mut self.hashes, free: &mut self.free };
        match (&mut self.keys, columns) {
            (Keys::Global { live }, _) => {
                if mode == Mode::Insert && rows > 0 && !*live {
                    *live = true;
                    pool.give_out(0);
                }
                slots.resize(rows, if *live { 0 } else { NO_SLOT });
            }
            (Keys::Ordinals { values, null, rows: ordinals }, [column]) => {
                to_ordinals(column, ordinals)?;
                let nulls = column.nulls().filter(|n| n.null_count() > 0);
                for (i, (value, hash)) in ordinals.iter().zip(&hashes).enumerate() {
                    let slot = if nulls.is_some_and(|n| n.is_null(i)) {
                        pool.null_slot(null, mode, *hash)
                    } else if let Some(found) = pool.get(*hash, |s| values[s as usize] == *value) {
                        found
                    } else if mode == Mode::Find {
                        NO_SLOT
                    } else {
                        let slot = pool.insert(*hash);
                        if slot as usize >= values.len() {
                            values.resize(slot as usize + 1, 0);
                        }
                        values[slot as usize] = *value;
                        slot
                    };
                    slots.push(slot);
                }
            }
            (Keys::Bytes { arena, null }, [column]) => {
                let nulls = column.nulls().filter(|n| n.null_count() > 0);
                let mut each = |i: usize, bytes: &[u8]| {
                    let slot = if nulls.is_some_and(|n| n.is_null(i)) {
                        pool.null_slot(null, mode, hashes[i])
                    } else {
                        pool.arena_slot(arena, hashes[i], bytes, mode)
                    };
                    slots.push(slot);
                };
                if *column.data_type() == DataType::Utf8 {
                    let a = column.as_string::<i32>();
                    (0..rows).for_each(|i| each(i, a.value(i).as_bytes()));
                } else {
                    let a = column.as_binary::<i32>();
                    (0..rows).for_each(|i| each(i, a.value(i)));
                }
            }
            (Keys::Rows { arena, converter, rows: encoded }, _) => {
                encoded.clear();
                converter.append(encoded, columns)?;
                for (row, hash) in encoded.iter().zip(&hashes) {
                    slots.push(pool.arena_slot(arena, *hash, row.data(), mode));
                }
            }
            _ => return Err(Error::internal("group directory: wrong number of key columns")),
        }
        self.scratch = hashes;
        Ok(())
    }

    /// The keys of slots as typed columns.
    ///
    /// # Errors
    /// From Arrow; a slot must be live.
    pub fn keys(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        match (&self.keys, self.types.as_slice()) {
            (Keys::Ordinals { values, null, .. }, [ty]) => {
                let ordinals = slots.iter().map(|s| values.get(*s as usize).copied().unwrap_or(0)).collect();
                Ok(vec![from_ordinals(ty, ordinals, valid_but(slots, *null))?])
            }
            (Keys::Bytes { arena, null }, [ty]) => {
                let bytes = slots.iter().map(|s| (Some(*s) != *null).then(|| arena.get(*s)));
                Ok(vec![if *ty == DataType::Utf8 {
                    let mut b = StringBuilder::with_capacity(slots.len(), slots.len() * 16);
                    for v in bytes {
                        match v.map(std::str::from_utf8).transpose() {
                            Ok(Some(text)) => append(&mut b, text)?,
                            Ok(None) => b.append_null(),
                            Err(e) => return Err(Error::internal(e.to_string())),
                        }
                    }
                    Arc::new(b.finish())
                } else {
                    let mut b = BinaryBuilder::with_capacity(slots.len(), slots.len() * 16);
                    for v in bytes {
                        match v {
                            Some(bytes) => append(&mut b, bytes)?,
                            None => b.append_null(),
                        }
                    }
                    Arc::new(b.finish())
                }])
            }
            (Keys::Rows { arena, converter, .. }, _) => {
                // Encoded rows are longer than their values.
                let bytes: usize = slots.iter().map(|s| arena.get(*s).len()).sum();
                check_column(bytes)?;
                let parser = converter.parser();
                Ok(converter.convert_rows(slots.iter().map(|s| parser.parse(arena.get(*s))))?)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Cuts slots into runs of at most `rows` keys and about [`BATCH_BYTES`], so that the keys of each make a batch.
    pub fn cut(&self, slots: &[u32], rows: usize) -> Vec<Range<usize>> {
        let least = BATCH_BYTES / rows.max(1);
        let widths: Vec<usize> = match &self.keys {
            Keys::Global { .. } | Keys::Ordinals { .. } => vec![least; slots.len()],
            Keys::Bytes { arena, .. } | Keys::Rows { arena, .. } => {
                slots.iter().map(|s| arena.get(*s).len().max(least)).collect()
            }
        };
        cut(&widths, BATCH_BYTES, |_| false)
    }

    /// The key group of each slot.
    pub fn key_groups(&self, slots: &[u32]) -> UInt8Array {
        let hashes: Vec<u64> = slots.iter().map(|s| self.hashes[*s as usize]).collect();
        key_groups_of(&hashes)
    }

    /// All live slots in ascending order.
    pub fn slots(&self) -> Vec<u32> {
        let mut live = vec![true; self.hashes.len()];
        for s in &self.free {
            live[*s as usize] = false;
        }
        (0..self.hashes.len() as u32).filter(|s| live[*s as usize]).collect()
    }

    /// Forgets the keys of live slots; the slots will be given out again.
    pub fn remove(&mut self, slots: &[u32]) {
        if self.changes.is_some() && !slots.is_empty() {
            self.keep_gone(slots);
        }
        for slot in slots {
            match &mut self.keys {
                Keys::Global { live } => *live = false,
                Keys::Ordinals { null, .. } if *null == Some(*slot) => *null = None,
                Keys::Bytes { null, .. } if *null == Some(*slot) => *null = None,
                keys => {
                    if let Ok(entry) =
                        self.table.find_entry(spread(self.hashes[*slot as usize]), |s| s == slot)
                    {
                        entry.remove();
                    }
                    if let Keys::Bytes { arena, .. } | Keys::Rows { arena, .. } = keys {
                        arena.free(*slot);
                    }
                }
            }
            self.free.push(*slot);
        }
    }

    /// Forgets everything and keeps the allocations.
    pub fn clear(&mut self) {
        self.table.clear();
        self.hashes.clear();
        self.free.clear();
        match &mut self.keys {
            Keys::Global { live } => *live = false,
            Keys::Ordinals { values, null, .. } => {
                values.clear();
                *null = None;
            }
            Keys::Bytes { arena, null } => {
                arena.clear();
                *null = None;
            }
            Keys::Rows { arena, .. } => arena.clear(),
        }
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        let keys = match &self.keys {
            Keys::Global { .. } => 0,
            Keys::Ordinals { values, rows, .. } => (values.capacity() + rows.capacity()) * 8,
            Keys::Bytes { arena, .. } => arena.size(),
            Keys::Rows { arena, rows, .. } => arena.size() + rows.size(),
        };
        let changes = self.changes.as_ref().map_or(0, Changes::size);
        self.table.capacity() * 5 + self.hashes.capacity() * 8 + self.free.capacity() * 4 + keys + changes
    }
}

/// The top bits of a stable hash are the key group, equal for many keys of one subtask, while the table takes its tag
/// from them: turn the halves round.
#[inline]
fn spread(hash: u64) -> u64 {
    hash.rotate_left(32)
}

/// Table and slots without the keys, so that the keys can be borrowed beside it.
struct Pool<'a> {
    table: &'a mut HashTable<u32>,
    hashes: &'a mut Vec<u64>,
    free: &'a mut Vec<u32>,
}

impl Pool<'_> {
    #[inline]
    fn get(&self, hash: u64, is_key: impl Fn(u32) -> bool) -> Option<u32> {
        self.table.find(spread(hash), |s| is_key(*s)).copied()
    }

    fn give_out(&mut self, hash: u64) -> u32 {
        match self.free.pop() {
            Some(slot) => {
                self.hashes[slot as usize] = hash;
                slot
            }
            None => {
                self.hashes.push(hash);
                (self.hashes.len() - 1) as u32
            }
        }
    }

    fn insert(&mut self, hash: u64) -> u32 {
        let slot = self.give_out(hash);
        let hashes: &[u64] = self.hashes;
        self.table.insert_unique(spread(hash), slot, |s| spread(hashes[*s as usize]));
        slot
    }

    fn null_slot(&mut self, null: &mut Option<u32>, mode: Mode, hash: u64) -> u32 {
        match (*null, mode) {
            (Some(slot), _) => slot,
            (None, Mode::Find) => NO_SLOT,
            (None, Mode::Insert) => *null.insert(self.give_out(hash)),
        }
    }

    #[inline]
    fn arena_slot(&mut self, arena: &mut Arena, hash: u64, bytes: &[u8], mode: Mode) -> u32 {
        let hashes: &[u64] = self.hashes;
        // Comparing hashes first spares the jump into the arena for a mere tag collision.
        if let Some(slot) = self.get(hash, |s| hashes[s as usize] == hash && arena.get(s) == bytes) {
            return slot;
        }
        if mode == Mode::Find {
            return NO_SLOT;
        }
        let slot = self.insert(hash);
        arena.put(slot, bytes);
        slot
    }
}

fn valid_but(slots: &[u32], null: Option<u32>) -> Option<NullBuffer> {
    let null = null?;
    slots.contains(&null).then(|| slots.iter().map(|s| *s != null).collect())
}

/// Floats that are equal as keys get the same bits; other columns stay as they are.
pub(crate) fn one_zero_one_nan(column: &ArrayRef) -> ArrayRef {
    let odd = |v: f64| canonical_bits(v) != v.to_bits();
    match column.data_type() {
        DataType::Float64 => {
            let a = column.as_primitive::<Float64Type>();
            if a.values().iter().any(|v| odd(*v)) {
                let clean: Float64Array = a.unary(|v| f64::from_bits(canonical_bits(v)));
                return Arc::new(clean);
            }
        }
        DataType::Float32 => {
            let a = column.as_primitive::<Float32Type>();
            if a.values().iter().any(|v| odd(f64::from(*v))) {
                let clean: Float32Array = a.unary(|v| f64::from_bits(canonical_bits(f64::from(v))) as f32);
                return Arc::new(clean);
            }
        }
        _ => {}
    }
    Arc::clone(column)
}

#[cfg(test)]
mod tests;
