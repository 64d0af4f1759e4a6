//! What a bundle changes in the ranks that consumers see.
//!
//! Three ways, the first two as in Flink. *Places*: the rank of a row is part of the output (or ranks before the first one wanted are
//! hidden), so every row that moves is an update of its rank. *Members*: only which rows are among the first matters.
//! *Ties*: rows share ranks (`RANK`, `DENSE_RANK`), so every row is compared with itself.
//!
//! ```text
//!  places   first touch of a partition: remember its rows ─► … rows … ─► end of bundle: compare place by place
//!           other row at the place: -U +U │ a place more: +I │ a place less: -D
//!  ties     first touch of a partition: remember its rows and their ranks ─► … ─► end of bundle: compare row by row
//!           other rank: -U +U │ new row: +I │ row gone: -D
//!  members  a row enters or leaves ─► … ─► end of bundle: +I if it is in and was not, -D if it was and is not
//! ```

use crate::stream::RowKind;

/// Rows of a partition with ranks that are wanted, in order; the ranks of ties only.
#[derive(Debug, Default)]
pub(super) struct Ranked {
    pub(super) ids: Vec<u32>,
    pub(super) ranks: Vec<u32>,
}

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
    /// Places, ties: partitions in the order of their first row.
    touched: Vec<u32>,
    /// Places, ties: whether a slot is in `touched`.
    marks: Vec<bool>,
    /// Places, ties: rows of the touched partitions before the bundle, end of each one's part.
    old: Ranked,
    old_ends: Vec<usize>,
    /// Places, ties: how many of `touched` have been compared.
    compared: usize,
    /// Members: rows that entered or left.
    moved: Vec<u32>,
    /// Members: by row id.
    flags: Vec<u8>,
    new: Ranked,
    /// Ties: new rank by row id, 0 for rows that have none.
    rank_of: Vec<u32>,
}

/// How the rows of a touched partition are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compared {
    /// By place; the first place has this rank.
    Places { first: u32 },
    /// By row; whether ranks are seen.
    Ties { shows_rank: bool },
}

impl Bundle {
    /// Places, ties: remembers the rows of a partition that is about to change.
    #[inline]
    pub(super) fn touch(&mut self, slot: u32, collect: impl FnOnce(u32, &mut Ranked)) {
        let at = slot as usize;
        if at >= self.marks.len() {
            self.marks.resize(at + 1, false);
        }
        if self.marks[at] {
            return;
        }
        self.marks[at] = true;
        self.touched.push(slot);
        collect(slot, &mut self.old);
        self.old_ends.push(self.old.ids.len());
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
        collect: impl Fn(u32, &mut Ranked),
        compared: Compared,
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
            let part = from..self.old_ends[self.compared];
            self.new.ids.clear();
            self.new.ranks.clear();
            collect(slot, &mut self.new);
            self.marks[slot as usize] = false;
            self.compared += 1;
            let first = match compared {
                Compared::Places { first } => first,
                Compared::Ties { shows_rank } => {
                    self.compare_ties(part, shows_rank, update_before, changes);
                    continue;
                }
            };
            let (old, new) = (&self.old.ids[part], &self.new.ids);
            for place in 0..old.len().max(new.len()) {
                let rank = first + place as u32;
                match (old.get(place).copied(), new.get(place).copied()) {
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
        }
        self.touched.clear();
        self.old.ids.clear();
        self.old.ranks.clear();
        self.old_ends.clear();
        self.compared = 0;
        true
    }

    /// What became of the rows of a partition, whose old ones are `part` of all.
    fn compare_ties(
        &mut self,
        part: std::ops::Range<usize>,
        shows_rank: bool,
        update_before: bool,
        changes: &mut Vec<Change>,
    ) {
        let (ids, ranks) = (&self.old.ids[part.clone()], &self.old.ranks[part]);
        let greatest = ids.iter().chain(&self.new.ids).max().map_or(0, |id| *id as usize + 1);
        if greatest > self.rank_of.len() {
            self.rank_of.resize(greatest, 0);
        }
        let new = self.new.ids.iter().copied().zip(self.new.ranks.iter().copied());
        new.clone().for_each(|(id, rank)| self.rank_of[id as usize] = rank);
        // What goes before what comes: two rows may be versions of one.
        for (id, old) in ids.iter().copied().zip(ranks.iter().copied()) {
            match std::mem::take(&mut self.rank_of[id as usize]) {
                0 => changes.push(Change { id, rank: old, kind: RowKind::Delete }),
                rank if rank != old && shows_rank => {
                    if update_before {
                        changes.push(Change { id, rank: old, kind: RowKind::UpdateBefore });
                    }
                    changes.push(Change { id, rank, kind: RowKind::UpdateAfter });
                }
                _ => {}
            }
        }
        for (id, rank) in new {
            if std::mem::take(&mut self.rank_of[id as usize]) != 0 {
                changes.push(Change { id, rank, kind: RowKind::Insert });
            }
        }
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        let words = [&self.old.ids, &self.old.ranks, &self.touched, &self.rank_of];
        self.marks.capacity() + self.flags.capacity() + words.iter().map(|w| w.capacity() * 4).sum::<usize>()
    }
}
