//! `GROUP BY` in batch: nothing comes out before the end, then each group once.
//!
//! ```text
//!  batch ─► keys, arguments, filters ─► slots ─► states          end: keys and results of all groups
//! ```
//!
//! | state | dropped |
//! |---|---|
//! | key → row count, state of each call (`table`) | when the last group is out |

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::RecordBatch;

use super::{AggregateTable, GroupAggregateConfig, GroupOutput};
use crate::error::{Error, Result};
use crate::functions::room::in_parts;
use crate::operators::keyed_rows::PART_ROWS;
use crate::runtime::operator::{Operator, OperatorMetrics, Output, Progress, Spillable};
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};
use crate::stream::{BATCH_ROWS, ChangeBatch, Timestamp};

/// The operator; see the module.
pub struct FinalGroupAggregateOperator {
    config: GroupAggregateConfig,
    table: AggregateTable,
    /// The end: groups whose results are still to come out.
    ending: VecDeque<Vec<u32>>,
    slots: Vec<u32>,
}

impl std::fmt::Debug for FinalGroupAggregateOperator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FinalGroupAggregateOperator").field("config", &self.config).finish_non_exhaustive()
    }
}

impl FinalGroupAggregateOperator {
    /// An instance without groups. There are keys, and the input is append-only.
    ///
    /// # Errors
    /// What [`GroupAggregateConfig::validate`] finds; Internal for what this operator does not do.
    pub fn new(config: GroupAggregateConfig) -> Result<Self> {
        config.validate()?;
        if config.keys.is_empty() || config.input_retracts || config.merges_partials {
            return Err(Error::internal("an aggregate that is not known at the end"));
        }
        let table = config.table()?;
        Ok(FinalGroupAggregateOperator { config, table, ending: VecDeque::new(), slots: Vec::new() })
    }

    fn send(&mut self, out: &mut Output) -> Result<Progress> {
        while let Some(slots) = self.ending.pop_front() {
            let table = &self.table;
            let batches = in_parts(slots.len(), |part| {
                let slots = &slots[part];
                let (keys, results) = (table.directory.keys(slots)?, table.evaluate(slots)?);
                let columns = self.config.output.iter().map(|column| {
                    Arc::clone(match *column {
                        GroupOutput::Key(i) => &keys[i],
                        GroupOutput::Aggregate(i) => &results[i],
                    })
                });
                let schema = Arc::clone(&self.config.output_schema);
                Ok(RecordBatch::try_new(schema, columns.collect())?)
            })?;
            batches.into_iter().for_each(|batch| out.emit(ChangeBatch::insert_only(batch)));
            if out.is_full(BATCH_ROWS) {
                break;
            }
        }
        if !self.ending.is_empty() {
            return Ok(Progress::More);
        }
        // Nobody asks again: what rests is not written down once more, and of many partitions none keeps its room.
        *self = FinalGroupAggregateOperator::new(self.config.clone())?;
        Ok(Progress::Done)
    }
}

impl Operator for FinalGroupAggregateOperator {
    fn name(&self) -> &'static str {
        "GroupAggregate"
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, _out: &mut Output) -> Result<Progress> {
        if batch.kinds.is_some() {
            return Err(Error::internal("GroupAggregate: updates in append-only input"));
        }
        let evaluated = self.table.evaluate_exprs(&batch.rows)?;
        let keys = self.table.key_columns(&evaluated);
        self.table.directory.intern(&keys, evaluated.rows, &mut self.slots)?;
        self.table.grow();
        self.slots.iter().for_each(|slot| self.table.rows[*slot as usize] += 1);
        self.table.update(&evaluated, &self.slots, None)?;
        Ok(Progress::Done)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        self.send(out)
    }

    fn on_end(&mut self, out: &mut Output) -> Result<Progress> {
        let all = self.table.directory.slots();
        let runs = self.table.directory.cut(&all, self.table.groups_of_a_part(PART_ROWS));
        self.ending = runs.into_iter().map(|run| all[run].to_vec()).collect();
        self.send(out)
    }

    fn next_due(&self) -> Timestamp {
        Timestamp::MAX
    }

    fn spillable(&self) -> Spillable {
        // What rests has to hear of the end.
        Spillable::ByWatermark
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        self.table.snapshot(writer)
    }

    fn restore(&mut self, reader: &SnapshotReader) -> Result<()> {
        self.table.restore(reader)
    }

    fn metrics(&self) -> OperatorMetrics {
        OperatorMetrics {
            state_entries: self.table.entries() as u64,
            state_bytes: self.table.size() as u64,
            ..OperatorMetrics::default()
        }
    }
}
