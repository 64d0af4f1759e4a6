//! The rows of a batch beside those that were found for them, a part at a time.

use std::collections::BTreeSet;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use arrow::compute::{interleave, take};

use super::{LookupJoinConfig, NO_KEY};
use crate::edges::lookup::{Found, LookupRows};
use crate::error::{Error, Result};
use crate::functions::room::evaluate;
use crate::operators::join::{JoinColumn, JoinSide, most_pairs};
use crate::stream::{ChangeBatch, RowKind, RowKinds};

/// A row of an answer: its batch and its place there.
type Place = (u32, u32);

/// Beside a row that found nothing.
const NOTHING: Place = (u32::MAX, u32::MAX);

/// A batch with its answer, and how far it has been handed out.
pub(super) struct Pairs {
    batch: ChangeBatch,
    keys: Vec<u32>,
    answer: LookupRows,
    /// Pairs that are looked at together, however wide their rows may be.
    most: usize,
    /// The row at hand, how many of its pairs are done, and whether one of them held.
    row: usize,
    done: u32,
    matched: bool,
}

impl Pairs {
    pub(super) fn new(batch: ChangeBatch, keys: Vec<u32>, answer: LookupRows) -> Self {
        let right = answer.batches.iter().map(|b| b.widest).max().unwrap_or(0);
        let left = crate::stream::bytes::widest_row(batch.rows.columns(), batch.num_rows());
        let most = most_pairs(left.saturating_add(right));
        Pairs { batch, keys, answer, most, row: 0, done: 0, matched: false }
    }

    fn found(&self, row: usize) -> Found {
        let key = self.keys[row];
        if key == NO_KEY { Found::default() } else { self.answer.found[key as usize] }
    }

    /// The next rows of the join; `None` when there are no more.
    pub(super) fn next(&mut self, config: &LookupJoinConfig) -> Result<Option<ChangeBatch>> {
        while self.row < self.batch.num_rows() {
            let begun = (self.done > 0).then_some(self.row as u32);
            let (rows, places) = self.next_pairs(config)?;
            if !rows.is_empty() {
                return self.emit(config, &rows, &places, begun).map(Some);
            }
        }
        Ok(None)
    }

    /// Pairs that the condition holds for, with the rows that have none in a left join.
    fn next_pairs(&mut self, config: &LookupJoinConfig) -> Result<(Vec<u32>, Vec<Place>)> {
        let (first_row, first_done) = (self.row, self.done);
        let (mut rows, mut places) = (Vec::new(), Vec::new());
        let (mut row, mut done) = (first_row, first_done);
        // Rows that come out without one.
        let mut alone = 0;
        while row < self.batch.num_rows() && rows.len() + alone < self.most {
            let found = self.found(row);
            alone += usize::from(config.outer && found.rows == 0);
            let room = (self.most - rows.len() - alone) as u32;
            let count = (found.rows - done).min(room);
            for i in done..done + count {
                rows.push(row as u32);
                places.push((found.batch, found.first + i));
            }
            done += count;
            if done < found.rows {
                break;
            }
            (row, done) = (row + 1, 0);
        }
        let holds = match &config.filter {
            Some(_) if !rows.is_empty() => Some(self.holds(config, &rows, &places)?),
            _ => None,
        };
        let (mut kept_rows, mut kept_places) =
            (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        let mut at = 0;
        // The same walk, now that it is known which pairs hold.
        while self.row < row || (self.row == row && self.done < done) {
            let found = self.found(self.row);
            let until = if self.row < row { found.rows } else { done };
            while self.done < until {
                if holds.as_ref().is_none_or(|holds| holds[at]) {
                    kept_rows.push(rows[at]);
                    kept_places.push(places[at]);
                    self.matched = true;
                }
                at += 1;
                self.done += 1;
            }
            if self.row == row {
                break;
            }
            if !self.matched && config.outer {
                kept_rows.push(self.row as u32);
                kept_places.push(NOTHING);
            }
            (self.row, self.done, self.matched) = (self.row + 1, 0, false);
        }
        Ok((kept_rows, kept_places))
    }

    /// For which pairs the residual condition holds.
    fn holds(&self, config: &LookupJoinConfig, rows: &[u32], places: &[Place]) -> Result<Vec<bool>> {
        let Some(filter) = &config.filter else { return Ok(vec![true; rows.len()]) };
        let left = UInt32Array::from(rows.to_vec());
        let columns = filter
            .columns
            .iter()
            .map(|(side, c)| match side {
                JoinSide::Left => Ok(take(self.batch.rows.column(*c), &left, None)?),
                JoinSide::Right => self.right_column(*c, places, config),
            })
            .collect::<Result<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let candidates = RecordBatch::try_new_with_options(filter.schema.clone(), columns, &options)?;
        let holds = evaluate(&filter.condition, &candidates)?;
        let holds = holds
            .as_boolean_opt()
            .ok_or_else(|| Error::internal(format!("the condition {} is not boolean", filter.condition)))?;
        Ok((0..rows.len()).map(|i| holds.is_valid(i) && holds.value(i)).collect())
    }

    /// `begun`: whether pairs of the row at which they begin are out already.
    fn emit(
        &self,
        config: &LookupJoinConfig,
        rows: &[u32],
        places: &[Place],
        begun: Option<u32>,
    ) -> Result<ChangeBatch> {
        // Often every row finds one.
        let in_order = rows.windows(2).all(|pair| pair[1] == pair[0] + 1);
        let first = rows.first().map_or(0, |row| *row as usize);
        let left = UInt32Array::from(rows.to_vec());
        let columns = config
            .output
            .iter()
            .map(|column| match *column {
                JoinColumn::Input(JoinSide::Left, c) if in_order => {
                    Ok(self.batch.rows.column(c).slice(first, rows.len()))
                }
                JoinColumn::Input(JoinSide::Left, c) => Ok(take(self.batch.rows.column(c), &left, None)?),
                JoinColumn::Input(JoinSide::Right, c) => self.right_column(c, places, config),
                JoinColumn::Mark => Err(Error::internal("a mark in a lookup join")),
            })
            .collect::<Result<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let joined = RecordBatch::try_new_with_options(config.output_schema.clone(), columns, &options)?;
        Ok(match &self.batch.kinds {
            None => ChangeBatch::insert_only(joined),
            Some(kinds) if config.keeps_updates => {
                // Of these rows other pairs are in the part before or behind.
                let cut = [begun, (self.done > 0).then_some(self.row as u32)];
                ChangeBatch::with_kinds(joined, RowKinds::new(codes(kinds, rows, cut)))
            }
            Some(kinds) => {
                let codes = rows.iter().map(|row| whole(kinds.codes()[*row as usize])).collect();
                ChangeBatch::with_kinds(joined, RowKinds::new(codes))
            }
        })
    }

    /// A column of the right side at some places; NULL where nothing was found.
    fn right_column(&self, column: usize, places: &[Place], config: &LookupJoinConfig) -> Result<ArrayRef> {
        let used: BTreeSet<u32> = places.iter().filter(|p| **p != NOTHING).map(|p| p.0).collect();
        let array = |batch: &u32| self.answer.batches[*batch as usize].rows.column(column);
        let used: Vec<u32> = used.into_iter().collect();
        match used.as_slice() {
            [] => Ok(new_null_array(config.right.field(column).data_type(), places.len())),
            [only] => {
                let rows = places.iter().map(|place| (*place != NOTHING).then_some(place.1));
                Ok(take(array(only), &UInt32Array::from_iter(rows), None)?)
            }
            _ => {
                let null = new_null_array(config.right.field(column).data_type(), 1);
                let mut arrays: Vec<&dyn Array> = used.iter().map(|b| array(b).as_ref()).collect();
                arrays.push(null.as_ref());
                let at = |place: &Place| match used.binary_search(&place.0) {
                    Ok(array) if *place != NOTHING => (array, place.1 as usize),
                    _ => (used.len(), 0),
                };
                Ok(interleave(&arrays, &places.iter().map(at).collect::<Vec<_>>())?)
            }
        }
    }
}

/// The kind of a row that is no half of an update.
fn whole(code: u8) -> u8 {
    let is_taken = RowKind::from_code(code).is_some_and(RowKind::is_retraction);
    if is_taken { RowKind::Delete as u8 } else { RowKind::Insert as u8 }
}

/// The kinds of joined rows. A half of an update stays one only where it and the other half have one row each; `cut` rows
/// have more than are here.
fn codes(kinds: &RowKinds, rows: &[u32], cut: [Option<u32>; 2]) -> Vec<u8> {
    let mut codes: Vec<u8> = rows.iter().map(|row| kinds.codes()[*row as usize]).collect();
    for run in rows.chunk_by(|a, b| a == b).scan(0, |at, run| {
        *at += run.len();
        Some(*at - run.len()..*at)
    }) {
        if run.len() > 1 || cut.contains(&Some(rows[run.start])) {
            codes[run].iter_mut().for_each(|code| *code = whole(*code));
        }
    }
    // Only neighbours of the input are one update: what lay between them has found nothing.
    for i in 0..codes.len() {
        let is_torn = match codes[i] {
            1 => rows.get(i + 1).is_none_or(|next| *next != rows[i] + 1),
            2 => i == 0 || rows[i - 1] + 1 != rows[i],
            _ => false,
        };
        if is_torn {
            codes[i] = whole(codes[i]);
        }
    }
    ChangeBatch::heal_pairs(&mut codes);
    codes
}

/// So that tests can see it.
#[cfg(test)]
pub(super) fn codes_of(kinds: &[u8], rows: &[u32], cut: [Option<u32>; 2]) -> Vec<u8> {
    codes(&RowKinds::new(kinds.to_vec()), rows, cut)
}
