//! What a bundle changes in the ranks that consumers see.
//!
//! Two ways, as in Flink. *Places*: the rank of a row is part of the output (or ranks before the first one wanted are
//! hidden), so every row that moves is an update of its rank. *Members*: only which rows are among the first matters.
//!
//! ```text
//!  places   first touch of a partition: remember its rows ─► … rows … ─► end of bundle: compare place by place
//!           other row at the place: -U +U │ a place more: +I │ a place less: -D
//!  members  a row enters or leaves ─► … ─► end of bundle: +I if it is in and was not, -D if it was and is not
//! ```

use super::forest::Forest;
use crate::runtime::message::RowKind;

/// A row that goes out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    pub(super) id: u32,
    pub(super) rank: u32,
    pub(super) kind: RowKind,
}

const IN: u8 = 1;
const SHOWN: u8 = 2;
const LISTED: u8 = 4;

/// The open bundle.
#[derive(Debug, Default)]
pub(super) struct Bundle {
    /// Places: partitions in the order of their first row.
    touched: Vec<u32>,
    /// Places: whether a slot is in `touched`.
    marks: Vec<bool>,
    /// Places: rows of the touched partitions before the bundle, end of each one's part.
    old: Vec<u32>,
    old_ends: Vec<usize>,
    /// Places: how many of `touched` have been compared.
    compared: usize,
    /// Members: rows that entered or left.
    moved: Vec<u32>,
    /// Members: by row id.
    flags: Vec<u8>,
    new: Vec<u32>,
}

/// Which ranks are compared: places `from..to`, 0-based.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places {
    pub(super) from: u32,
    pub(super) to: u32,
}

impl Bundle {
    /// Places: remembers the rows of a partition that is about to change.
    #[inline]
    pub(super) fn touch(&mut self, slot: u32, root: u32, forest: &Forest, places: Places) {
        let at = slot as usize;
        if at >= self.marks.len() {
            self.marks.resize(at + 1, false);
        }
        if self.marks[at] {
            return;
        }
        self.marks[at] = true;
        self.touched.push(slot);
        forest.collect(root, places.from, places.to, &mut self.old);
        self.old_ends.push(self.old.len());
    }

    /// Members: a row is now among the first, or no more.
    pub(super) fn set_member(&mut self, id: u32, is_in: bool) {
        let at = id as usize;
        if at >= self.flags.len() {
            self.flags.resize(at + 1, 0);
        }
        let flags = &mut self.flags[at];
        *flags = if is_in { *flags | IN } else { *flags & !IN };
        if *flags & LISTED == 0 {
            *flags |= LISTED;
            self.moved.push(id);
        }
    }

    /// Members: a restored row that consumers know.
    pub(super) fn set_shown(&mut self, id: u32) {
        let at = id as usize;
        if at >= self.flags.len() {
            self.flags.resize(at + 1, 0);
        }
        self.flags[at] = IN | SHOWN;
    }

    /// Members: the id will be given out again.
    pub(super) fn forget(&mut self, ids: &[u32]) {
        for id in ids {
            if let Some(flags) = self.flags.get_mut(*id as usize) {
                *flags = 0;
            }
        }
    }

    /// Ends the bundle; stops early, to be called again, with more than `enough` changes. Gives whether it has ended.
    pub(super) fn close(
        &mut self,
        forest: &Forest,
        roots: &[u32],
        places: impl Fn(u32) -> Places,
        update_before: bool,
        enough: usize,
        changes: &mut Vec<Change>,
    ) -> bool {
        for id in self.moved.drain(..) {
            let flags = &mut self.flags[id as usize];
            let kind = match (*flags & SHOWN != 0, *flags & IN != 0) {
                (true, false) => Some(RowKind::Delete),
                (false, true) => Some(RowKind::Insert),
                _ => None,
            };
            changes.extend(kind.map(|kind| Change { id, rank: 0, kind }));
            *flags = if *flags & IN != 0 { IN | SHOWN } else { 0 };
        }
        while let Some(slot) = self.touched.get(self.compared).copied() {
            if changes.len() >= enough {
                return false;
            }
            let from = if self.compared == 0 { 0 } else { self.old_ends[self.compared - 1] };
            let old = &self.old[from..self.old_ends[self.compared]];
            let Places { from, to } = places(slot);
            self.new.clear();
            forest.collect(roots[slot as usize], from, to, &mut self.new);
            for place in 0..old.len().max(self.new.len()) {
                let rank = from + place as u32 + 1;
                match (old.get(place).copied(), self.new.get(place).copied()) {
                    (Some(old), Some(new)) if old != new => {
                        if update_before {
                            changes.push(Change { id: old, rank, kind: RowKind::UpdateBefore });
                        }
                        changes.push(Change { id: new, rank, kind: RowKind::UpdateAfter });
                    }
                    (Some(id), None) => changes.push(Change { id, rank, kind: RowKind::Delete }),
                    (None, Some(id)) => changes.push(Change { id, rank, kind: RowKind::Insert }),
                    _ => {}
                }
            }
            self.marks[slot as usize] = false;
            self.compared += 1;
        }
        self.touched.clear();
        self.old.clear();
        self.old_ends.clear();
        self.compared = 0;
        true
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        self.marks.capacity() + self.flags.capacity() + (self.old.capacity() + self.touched.capacity()) * 4
    }
}
