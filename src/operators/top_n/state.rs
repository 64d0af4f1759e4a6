//! The rows of all partitions: partition → tree of row ids; row id → sort key, columns.
//!
//! | snapshot table | columns |
//! |---|---|
//! | `rows` | partition key, the columns kept, order of arrival; with a TTL the partition's last write |

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use hashbrown::HashTable;

use super::changes::Ranked;
use super::config::{RankEnd, RankFunction, RankOutput, TopNConfig};
use super::forest::{Forest, NIL};
use crate::error::{Error, Result};
use crate::operators::keyed_rows::{PART_ROWS, anonymous};
use crate::state::row_store::SourceRows;
use crate::state::sort_key::{BatchKeys, SortKeyEncoder, SortKeys};
use crate::state::ttl::TimeToLive;
use crate::state::{GroupDirectory, RowStore};
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};

const ROWS: &str = "rows";

/// Arrivals count down from here where the latest row comes first.
const LATEST: u64 = i64::MAX as u64;

/// See the module.
pub(super) struct RankState {
    pub(super) directory: GroupDirectory,
    partition: Vec<usize>,
    order: Vec<usize>,
    /// Input columns that are kept, ascending.
    kept: Vec<usize>,
    pub(super) encoder: SortKeyEncoder,
    /// Root of each partition's tree, by slot.
    pub(super) roots: Vec<u32>,
    /// Append-only input: the last row of a partition that is full, else [`NIL`]; by slot.
    pub(super) worst: Vec<u32>,
    end: RankEnd,
    /// By slot, where the rank end is a column.
    ends: Vec<u32>,
    pub(super) forest: Forest,
    pub(super) keys: SortKeys,
    pub(super) rows: RowStore,
    /// By row id.
    pub(super) slot_of: Vec<u32>,
    free: Vec<u32>,
    next_arrival: u64,
    latest_first: bool,
    /// Retracting input: finds a row by its columns.
    pub(super) index: Option<RowIndex>,
    pub(super) ttl: Option<TimeToLive>,
}

impl RankState {
    pub(super) fn new(config: &TopNConfig) -> Result<Self> {
        let ty = |c: &usize| config.input_schema.field(*c).data_type().clone();
        let order: Vec<usize> = config.order.iter().map(|o| o.column).collect();
        let mut kept: Vec<usize> = config
            .output
            .iter()
            .filter_map(|o| if let RankOutput::Column(c) = o { Some(*c) } else { None })
            .chain(order.iter().copied())
            .collect();
        kept.sort_unstable();
        kept.dedup();
        let sort: Vec<_> = config.order.iter().map(|o| (ty(&o.column), o.options)).collect();
        Ok(RankState {
            directory: GroupDirectory::new(&config.partition.iter().map(ty).collect::<Vec<_>>())?,
            encoder: SortKeyEncoder::new(&sort)?,
            rows: RowStore::new(&kept.iter().map(ty).collect::<Vec<_>>())?,
            partition: config.partition.clone(),
            order,
            kept,
            roots: Vec::new(),
            worst: Vec::new(),
            end: config.end,
            ends: Vec::new(),
            forest: Forest::default(),
            keys: SortKeys::default(),
            slot_of: Vec::new(),
            free: Vec::new(),
            next_arrival: 0,
            latest_first: config.latest_first,
            index: config.input_retracts.then(RowIndex::default),
            ttl: TimeToLive::new(config.ttl_ms),
        })
    }

    /// Where an input column lies among the kept ones.
    pub(super) fn place_of(&self, column: usize) -> Result<usize> {
        self.kept
            .binary_search(&column)
            .map_err(|_| Error::internal(format!("top-N: column {column} is not kept")))
    }

    pub(super) fn kept_columns(&self, rows: &RecordBatch) -> Vec<ArrayRef> {
        self.kept.iter().map(|c| Arc::clone(rows.column(*c))).collect()
    }

    pub(super) fn sort_keys(&self, rows: &RecordBatch) -> Result<BatchKeys> {
        let columns: Vec<ArrayRef> = self.order.iter().map(|c| Arc::clone(rows.column(*c))).collect();
        self.encoder.encode(&columns, rows.num_rows())
    }

    /// The partition of each row.
    pub(super) fn slots(&mut self, rows: &RecordBatch, slots: &mut Vec<u32>) -> Result<()> {
        let columns: Vec<ArrayRef> = self.partition.iter().map(|c| Arc::clone(rows.column(*c))).collect();
        self.directory.intern(&columns, rows.num_rows(), slots)?;
        self.grow();
        if let RankEnd::Column(column) = self.end {
            let ends = arrow::compute::cast(rows.column(column), &DataType::Int64)?;
            self.set_ends(slots, ends.as_primitive::<Int64Type>());
        }
        Ok(())
    }

    fn set_ends(&mut self, slots: &[u32], ends: &Int64Array) {
        self.ends.resize(self.roots.len(), 0);
        for (slot, end) in slots.iter().zip(ends) {
            self.ends[*slot as usize] = end.map_or(0, |e| e.clamp(0, i64::from(u32::MAX)) as u32);
        }
    }

    /// Makes room for all slots that the directory has given out.
    fn grow(&mut self) {
        let slots = self.directory.capacity();
        if slots > self.roots.len() {
            self.roots.resize(slots, NIL);
            self.worst.resize(slots, NIL);
        }
    }

    /// The last rank of a partition.
    #[inline]
    pub(super) fn end(&self, slot: u32) -> u32 {
        match self.end {
            RankEnd::Constant(end) => u32::try_from(end).unwrap_or(u32::MAX),
            RankEnd::Column(_) => self.ends[slot as usize],
        }
    }

    /// A row id that is free.
    pub(super) fn allocate(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.slot_of.push(NIL);
            (self.slot_of.len() - 1) as u32
        })
    }

    /// Stores the sort key of a new row.
    #[inline]
    pub(super) fn put_key(&mut self, id: u32, keys: &BatchKeys, row: usize) {
        let arrival = if self.latest_first { LATEST - self.next_arrival } else { self.next_arrival };
        self.next_arrival += 1;
        self.keys.put(id, keys, row, arrival);
    }

    /// Whether a new row stands before a stored one.
    #[inline]
    pub(super) fn stands_before(&self, keys: &BatchKeys, row: usize, id: u32) -> bool {
        match self.keys.compare(keys, row, id) {
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Equal => self.latest_first,
            std::cmp::Ordering::Greater => false,
        }
    }

    /// Puts a row whose key is stored into the tree of its partition.
    #[inline]
    pub(super) fn link(&mut self, slot: u32, id: u32) {
        let keys = &self.keys;
        let root = &mut self.roots[slot as usize];
        *root = self.forest.insert(*root, id, &|a, b| keys.is_before(a, b));
        self.slot_of[id as usize] = slot;
    }

    /// Takes a row out of the tree of its partition; what is stored of it stays until [`RankState::forget`].
    #[inline]
    pub(super) fn unlink(&mut self, slot: u32, id: u32) {
        let keys = &self.keys;
        let root = &mut self.roots[slot as usize];
        *root = self.forest.remove(*root, id, &|a, b| keys.is_before(a, b));
    }

    /// How many rows of the partition stand before a row.
    pub(super) fn rank(&self, slot: u32, id: u32) -> u32 {
        self.forest.rank(self.roots[slot as usize], id, &|a, b| self.keys.is_before(a, b))
    }

    /// Rows of a partition with ranks from `start` on, in order.
    pub(super) fn collect(&self, slot: u32, function: RankFunction, start: u64, into: &mut Ranked) {
        let (root, end) = (self.roots[slot as usize], self.end(slot));
        let start = u32::try_from(start).unwrap_or(u32::MAX);
        if function == RankFunction::RowNumber {
            self.forest.collect(root, start - 1, end, &mut into.ids);
            return;
        }
        let (mut rank, mut before) = (0, NIL);
        for place in 0..self.forest.len(root) {
            let id = self.forest.nth(root, place);
            if before == NIL || !self.keys.is_tie(before, id) {
                rank = if function == RankFunction::Rank { place + 1 } else { rank + 1 };
            }
            if rank > end {
                break;
            }
            if rank >= start {
                into.ids.push(id);
                into.ranks.push(rank);
            }
            before = id;
        }
    }

    /// Gives ids back.
    pub(super) fn forget(&mut self, ids: &[u32]) {
        self.rows.free(ids);
        ids.iter().for_each(|id| self.keys.free(*id));
        self.free.extend_from_slice(ids);
    }

    /// Drops partitions that have not been written for their time to live.
    pub(super) fn expire(&mut self, slots: &[u32]) {
        for slot in slots {
            let mut ids = Vec::new();
            let root = std::mem::replace(&mut self.roots[*slot as usize], NIL);
            self.forest.collect(root, 0, self.forest.len(root), &mut ids);
            if let Some(index) = &mut self.index {
                index.remove_all(&ids, |id| self.slot_of[id as usize] == *slot);
            }
            self.worst[*slot as usize] = NIL;
            self.forget(&ids);
        }
        self.directory.remove(slots);
    }

    pub(super) fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        let written = self.directory.to_write(writer.mode())?;
        let key: Vec<usize> = (0..self.directory.types().len()).collect();
        let has_rows = |slot: u32| self.roots[slot as usize] != NIL;
        self.directory.void(writer, ROWS, (&key, key.len()), &written, has_rows)?;
        let mut ids = Vec::new();
        for slot in &written.slots {
            let root = self.roots[*slot as usize];
            self.forest.collect(root, 0, self.forest.len(root), &mut ids);
        }
        for run in self.rows.cut(&ids, PART_ROWS) {
            let ids = &ids[run];
            let slots: Vec<u32> = ids.iter().map(|id| self.slot_of[*id as usize]).collect();
            let mut columns = self.directory.keys(&slots)?;
            columns.extend(self.rows.gather(ids)?);
            let arrivals: Int64Array = ids.iter().map(|id| self.keys.arrival(*id) as i64).collect();
            columns.push(Arc::new(arrivals));
            if let Some(ttl) = &self.ttl {
                columns.push(Arc::new(slots.iter().map(|s| ttl.written(*s)).collect::<Int64Array>()));
            }
            let groups = self.directory.key_groups(&slots);
            writer.increment(ROWS, anonymous(columns, ids.len())?, groups, &key)?;
        }
        Ok(())
    }

    pub(super) fn restore(&mut self, reader: &SnapshotReader) -> Result<()> {
        for batch in reader.table(ROWS)? {
            let types = self.directory.types().len();
            let (partition, columns) = batch.columns().split_at_checked(types).ok_or_else(broken)?;
            let (kept, rest) = columns.split_at_checked(self.kept.len()).ok_or_else(broken)?;
            let arrivals = rest.first().and_then(|c| c.as_primitive_opt::<Int64Type>()).ok_or_else(broken)?;
            let n = batch.num_rows();
            let mut slots = Vec::new();
            self.directory.intern(partition, n, &mut slots)?;
            self.grow();
            if let RankEnd::Column(column) = self.end {
                let at = self.partition.iter().position(|p| *p == column).ok_or_else(broken)?;
                let ends = arrow::compute::cast(&partition[at], &DataType::Int64)?;
                self.set_ends(&slots, ends.as_primitive::<Int64Type>());
            }
            let source = self.rows.source(kept)?;
            let order = self
                .order
                .iter()
                .map(|c| Ok(Arc::clone(&kept[self.place_of(*c)?])))
                .collect::<Result<Vec<_>>>()?;
            let keys = self.encoder.encode(&order, n)?;
            let hashes = if self.index.is_some() { row_hashes(kept, &slots)? } else { Vec::new() };
            let ids: Vec<u32> = (0..n).map(|_| self.allocate()).collect();
            let all: Vec<u32> = (0..n as u32).collect();
            self.rows.put(&ids, &source, &all);
            for (row, id) in ids.iter().enumerate() {
                let arrival = arrivals.value(row) as u64;
                let counted = if self.latest_first { LATEST - arrival } else { arrival };
                self.next_arrival = self.next_arrival.max(counted + 1);
                self.keys.put(*id, &keys, row, arrival);
                self.link(slots[row], *id);
                if self.index.is_some() {
                    self.index_row(*id, &source, row, hashes[row]);
                }
            }
            if let (Some(ttl), Some(written)) =
                (&mut self.ttl, rest.get(1).and_then(|c| c.as_primitive_opt::<Int64Type>()))
            {
                slots.iter().zip(written.values()).for_each(|(s, w)| ttl.set(*s, *w));
            }
        }
        if self.index.is_none() {
            for slot in self.directory.slots() {
                self.note_worst(slot);
            }
        }
        Ok(())
    }

    /// Append-only input: remembers the last row of a partition that is full.
    #[inline]
    pub(super) fn note_worst(&mut self, slot: u32) {
        let root = self.roots[slot as usize];
        let is_full = self.forest.len(root) >= self.end(slot);
        self.worst[slot as usize] = if is_full { self.forest.last(root) } else { NIL };
    }

    /// Makes a stored row of a partition findable.
    pub(super) fn index_row(&mut self, id: u32, source: &SourceRows, row: usize, hash: u64) {
        let (slot_of, rows) = (&self.slot_of, &self.rows);
        let slot = slot_of[id as usize];
        if let Some(index) = &mut self.index {
            index
                .push(id, hash, |other| slot_of[other as usize] == slot && rows.is_equal(source, row, other));
        }
    }

    /// Finds the first of the partition's rows that equal a batch's row, and makes it unfindable.
    pub(super) fn find_row(&mut self, slot: u32, source: &SourceRows, row: usize, hash: u64) -> Option<u32> {
        let (slot_of, rows) = (&self.slot_of, &self.rows);
        self.index
            .as_mut()?
            .pop(hash, |other| slot_of[other as usize] == slot && rows.is_equal(source, row, other))
    }

    /// Rows kept.
    pub(super) fn live(&self) -> usize {
        self.slot_of.len() - self.free.len()
    }

    pub(super) fn size(&self) -> usize {
        self.directory.size()
            + (self.roots.capacity() + self.worst.capacity() + self.ends.capacity()) * 4
            + (self.slot_of.capacity() + self.free.capacity()) * 4
            + self.forest.size()
            + self.keys.size()
            + self.rows.size()
            + self.index.as_ref().map_or(0, RowIndex::size)
            + self.ttl.as_ref().map_or(0, TimeToLive::size)
    }
}

/// A hash of each row within its partition.
pub(super) fn row_hashes(kept: &[ArrayRef], slots: &[u32]) -> Result<Vec<u64>> {
    let mut hashes = Vec::new();
    crate::state::hash_columns(kept, slots.len(), &mut hashes)?;
    for (hash, slot) in hashes.iter_mut().zip(slots) {
        *hash ^= u64::from(*slot).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    Ok(hashes)
}

fn broken() -> Error {
    Error::internal("the state of a top-N has other columns than it should")
}

/// Row → id. Equal rows of a partition share an entry: they form a ring, in the order of arrival, and the entry is
/// the last of them.
#[derive(Default)]
pub(super) struct RowIndex {
    table: HashTable<u32>,
    /// By id.
    hashes: Vec<u64>,
    next: Vec<u32>,
}

impl RowIndex {
    fn push(&mut self, id: u32, hash: u64, is_same: impl Fn(u32) -> bool) {
        let at = id as usize;
        if at >= self.hashes.len() {
            self.hashes.resize(at + 1, 0);
            self.next.resize(at + 1, NIL);
        }
        self.hashes[at] = hash;
        let hashes = &self.hashes;
        if let Some(last) = self.table.find_mut(hash, |t| hashes[*t as usize] == hash && is_same(*t)) {
            self.next[at] = self.next[*last as usize];
            self.next[*last as usize] = id;
            *last = id;
        } else {
            self.next[at] = id;
            self.table.insert_unique(hash, id, |t| hashes[*t as usize]);
        }
    }

    fn pop(&mut self, hash: u64, is_same: impl Fn(u32) -> bool) -> Option<u32> {
        let hashes = &self.hashes;
        let entry = self.table.find_entry(hash, |t| hashes[*t as usize] == hash && is_same(*t)).ok()?;
        let last = *entry.get();
        let first = self.next[last as usize];
        if first == last {
            entry.remove();
        } else {
            self.next[last as usize] = self.next[first as usize];
        }
        Some(first)
    }

    /// Forgets all rows of a partition.
    fn remove_all(&mut self, ids: &[u32], is_in: impl Fn(u32) -> bool) {
        for id in ids {
            let hash = self.hashes[*id as usize];
            while let Ok(entry) = self.table.find_entry(hash, |t| is_in(*t)) {
                entry.remove();
            }
        }
    }

    fn size(&self) -> usize {
        self.table.capacity() * 5 + self.hashes.capacity() * 8 + self.next.capacity() * 4
    }
}
