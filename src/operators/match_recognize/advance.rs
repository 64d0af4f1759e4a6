//! From rows that the watermark has passed to matches.

use std::cmp::{Ordering, Reverse};

use arrow::array::{RecordBatch, TimestampMillisecondArray};
use arrow::compute::cast;

use super::condition::Rows;
use super::search::{Found, Sight};
use super::{AfterMatch, MatchRecognizeOperator};
use crate::error::{Error, Result};
use crate::runtime::operator::{Operator, Output, Progress};
use crate::stream::{BATCH_ROWS, ChangeBatch};

/// Milliseconds of waiting rows that are looked through together.
const BUCKET: i64 = 64;

impl MatchRecognizeOperator {
    /// Rows wait for the watermark.
    pub(super) fn wait(&mut self, ids: &[u32]) {
        // Rows mostly come in order: the bucket of the row before is often the one.
        let mut rest = ids;
        while let Some(first) = rest.first() {
            let bucket = self.times[*first as usize].div_euclid(BUCKET);
            let run = rest
                .iter()
                .position(|id| self.times[*id as usize].div_euclid(BUCKET) != bucket)
                .unwrap_or(rest.len());
            self.waiting.entry(bucket).or_default().extend_from_slice(&rest[..run]);
            rest = &rest[run..];
        }
    }

    /// Rows that the watermark has passed go to their keys, in order; slots to be looked at go to the queue.
    pub(super) fn release(&mut self) {
        let watermark = self.watermark;
        let mut due: Vec<(u32, u64, u32)> = Vec::new();
        while let Some(bucket) = self.waiting.first_entry() {
            let begin = bucket.key().saturating_mul(BUCKET);
            if begin > watermark {
                break;
            }
            let (number, mut ids) = bucket.remove_entry();
            let mut later = Vec::new();
            if begin.saturating_add(BUCKET - 1) > watermark {
                later = ids.extract_if(.., |id| self.times[*id as usize] > watermark).collect();
            }
            due.extend(ids.into_iter().map(|id| (self.slots[id as usize], self.keys.prefix(id), id)));
            if !later.is_empty() {
                self.waiting.insert(number, later);
                break;
            }
        }
        let keys = &self.keys;
        due.sort_unstable_by(|a, b| {
            let tie = || if keys.is_before(a.2, b.2) { Ordering::Less } else { Ordering::Greater };
            (a.0, a.1).cmp(&(b.0, b.1)).then_with(|| if a.2 == b.2 { Ordering::Equal } else { tie() })
        });
        let ended = watermark == i64::MAX;
        for slot in std::mem::take(&mut self.restored) {
            self.queue.push_back((slot, ended));
        }
        let mut last = None;
        for (slot, _, id) in due {
            self.partitions[slot as usize].rows.push_back(id);
            if last != Some(slot) && !ended {
                self.queue.push_back((slot, false));
            }
            last = Some(slot);
        }
        if ended {
            self.queue.clear();
            let with_rows = self.partitions.iter().enumerate().filter(|(_, p)| !p.rows.is_empty());
            self.queue.extend(with_rows.map(|(slot, _)| (slot as u32, true)));
        }
        while self.deadlines.peek().is_some_and(|Reverse((time, _))| *time <= watermark) {
            if let Some(Reverse((_, slot))) = self.deadlines.pop() {
                self.partitions[slot as usize].has_deadline = false;
                self.queue.push_back((slot, ended));
            }
        }
    }

    /// Takes rows at the processing time at which they come: each is the last of its key.
    pub(super) fn process_arrivals(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let mut columns = rows.columns().to_vec();
        if let Some(time) = columns.get_mut(self.config.time) {
            let now = TimestampMillisecondArray::from_value(self.watermark, rows.num_rows());
            *time = cast(&now, time.data_type())?;
        }
        let ids = self.keep(&columns, rows.num_rows(), |_| None, |_, _| false)?;
        let mut touched: Vec<u32> = ids.iter().map(|id| self.slots[*id as usize]).collect();
        for (id, slot) in ids.iter().zip(&touched) {
            self.partitions[*slot as usize].rows.push_back(*id);
        }
        touched.sort_unstable();
        touched.dedup();
        self.queue.extend(touched.into_iter().map(|slot| (slot, false)));
        self.resume(out)
    }

    /// Takes rows that come in order, key by key, and looks at them at once; the key before has no more rows.
    ///
    /// # Errors
    /// As of [`Operator::process`].
    pub fn process_sorted(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let ids = self.keep(rows.columns(), rows.num_rows(), |_| None, |_, _| false)?;
        for id in ids {
            let slot = self.slots[id as usize];
            if let Some(before) = self.current.replace(slot).filter(|before| *before != slot) {
                self.queue.push_back((before, true));
            }
            self.partitions[slot as usize].rows.push_back(id);
        }
        self.queue.extend(self.current.map(|slot| (slot, false)));
        self.resume(out)
    }

    /// Ends rows that came in order.
    ///
    /// # Errors
    /// As of [`Operator::process`].
    pub fn finish_sorted(&mut self, out: &mut Output) -> Result<Progress> {
        self.queue.extend(self.current.take().map(|slot| (slot, true)));
        self.resume(out)
    }

    /// Finds the matches of a key as far as its rows decide them.
    pub(super) fn advance(&mut self, slot: u32, ended: bool, out: &mut Output) -> Result<Progress> {
        let at = slot as usize;
        while let Some(first) = self.partitions[at].rows.front() {
            if self.partitions[at].made.is_none() {
                let first = self.times[*first as usize];
                match self.search(at, first, ended)? {
                    Found::Waits => break,
                    Found::Nothing => {
                        self.drop_rows(at, 1, false);
                        continue;
                    }
                    Found::Match => self.partitions[at].made = Some(0),
                }
            }
            let partition = &mut self.partitions[at];
            let (path, made) = (&partition.search.path.variables, partition.made.take().unwrap_or(0));
            partition.made = self.emitting.add(path, &partition.rows, &self.store, made);
            if partition.made.is_none() {
                let rows = self.rows_to_skip(at)?;
                self.drop_rows(at, rows, true);
            }
            if self.emitting.is_full() {
                self.flush_matches(out)?;
                if out.is_full(4 * BATCH_ROWS) {
                    return Ok(Progress::More);
                }
            }
        }
        self.settle(at);
        Ok(Progress::Done)
    }

    fn search(&mut self, at: usize, first: i64, ended: bool) -> Result<Found> {
        let partition = &mut self.partitions[at];
        let (times, rows) = (&self.times, partition.rows.len());
        let (within, closed) = match self.config.within {
            None => (rows, false),
            Some(within) => {
                let end = first.saturating_add(within);
                let near = partition.rows.partition_point(|id| times[*id as usize] < end);
                (near, self.watermark >= end.saturating_sub(1))
            }
        };
        let sight = Sight { rows, within, closed, ended };
        let (program, defines) = (&self.config.program, &self.config.defines);
        let seen = Rows {
            schema: &self.config.input,
            computed: &self.computed,
            store: &self.store,
            ids: &partition.rows,
        };
        let trails = &mut partition.trails;
        partition.search.run(program, sight, self.local, |variable, path| match &defines[variable as usize] {
            None => Ok(true),
            Some(condition) => seen.fits(condition, variable, path, trails),
        })
    }

    /// Lets the first rows of a key go.
    fn drop_rows(&mut self, at: usize, rows: usize, matched: bool) {
        let partition = &mut self.partitions[at];
        partition.trails.clear();
        partition.search.restart(&self.config.program, rows, matched);
        self.gone.extend(partition.rows.drain(..rows.min(partition.rows.len())));
    }

    /// How far behind the first row of the match the next one may begin.
    fn rows_to_skip(&self, at: usize) -> Result<usize> {
        let path = &self.partitions[at].search.path.variables;
        let to = |place: Option<usize>, variable: u8| {
            match place {
            Some(0) => Err(Error::data("Could not skip to first element of a match.").hint(
                "AFTER MATCH SKIP TO the variable that the match begins with would find the same match for ever; skip TO NEXT ROW or PAST LAST ROW",
            )),
            Some(place) => Ok(place),
            None => Err(Error::data(format!(
                "Could not skip to {}. No such element in the found match.",
                self.config.variables[variable as usize]
            ))
            .hint("skip to a variable that every match has, TO NEXT ROW or PAST LAST ROW")),
        }
        };
        match self.config.after {
            AfterMatch::PastLastRow => Ok(path.len()),
            AfterMatch::ToNextRow => Ok(1),
            AfterMatch::ToFirst(v) => to(path.iter().position(|p| *p == v), v),
            AfterMatch::ToLast(v) => to(path.iter().rposition(|p| *p == v), v),
        }
    }

    /// Notes until when a key has to be looked at again, and how far it holds the watermark back.
    pub(super) fn settle(&mut self, at: usize) {
        // Rows that come in order are looked at again in any case, and no watermark goes by.
        if self.current.is_some() {
            return;
        }
        self.note_partial(at, !self.partitions[at].search.path.variables.is_empty());
        let partition = &mut self.partitions[at];
        let time = |place: usize| partition.rows.get(place).map(|id| self.times[*id as usize]);
        if let (Some(within), Some(first), false) = (self.config.within, time(0), partition.has_deadline) {
            let deadline = first.saturating_add(within).saturating_sub(1);
            self.deadlines.push(Reverse((deadline, at as u32)));
            partition.has_deadline = true;
        }
        if !self.config.has_row_time {
            return;
        }
        // No undecided match ends before the first row by which one can be complete. Where all rows come out, the first
        // comes with its own time, also if the rows that complete the match are still to come.
        let from = if self.config.output.all_rows { 0 } else { self.config.least_rows - 1 };
        let holds = usize::try_from(from).ok().and_then(time);
        self.hold(at, holds);
    }

    /// Counts a key as one with an undecided match, or no longer.
    pub(super) fn note_partial(&mut self, at: usize, is_partial: bool) {
        let was = std::mem::replace(&mut self.partitions[at].is_partial, is_partial);
        self.partial_matches = self.partial_matches + u64::from(is_partial) - u64::from(was);
    }

    /// Lets a key hold the watermark back, or no longer.
    pub(super) fn hold(&mut self, at: usize, holds: Option<i64>) {
        let partition = &mut self.partitions[at];
        if holds == partition.holds {
            return;
        }
        if let Some(before) = std::mem::replace(&mut partition.holds, holds)
            && let Some(count) = self.held.get_mut(&before)
        {
            *count -= 1;
            if *count == 0 {
                self.held.remove(&before);
            }
        }
        if let Some(now) = holds {
            *self.held.entry(now).or_default() += 1;
        }
    }

    /// Sends the matches gathered; rows that nobody looks at any more are freed.
    pub(super) fn flush_matches(&mut self, out: &mut Output) -> Result<()> {
        if !self.emitting.is_empty() {
            out.emit(ChangeBatch::insert_only(self.emitting.finish(&self.store)?));
        }
        if self.gone.is_empty() {
            return Ok(());
        }
        self.store.free(&self.gone);
        let mut idle = Vec::new();
        for id in &self.gone {
            self.keys.free(*id);
            let slot = self.slots[*id as usize];
            let partition = &mut self.partitions[slot as usize];
            partition.live -= 1;
            if partition.live == 0 {
                idle.push(slot);
            }
        }
        self.live_rows -= self.gone.len() as u64;
        self.free.append(&mut self.gone);
        self.forget(idle);
        Ok(())
    }
}
