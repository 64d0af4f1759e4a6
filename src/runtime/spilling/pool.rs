//! The memory of batch operators: DataFusion's fair pool, for a process that also holds what no pool knows.
//!
//! Operators that spill get equal parts of the limit and hear when theirs is used up. The sides that joins gather cannot
//! spill, and take more than they ask for: their batches are put together into one before the first row comes out. What
//! such an operator has asked for has to fit once more beside all that the process holds.
//!
//! A nested loop join would go on by itself where it hears that there is no memory. It runs its left input a second time,
//! which most inputs do not bear, and gives rows without a match once per partition: it must not hear of it, but fail.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::{DataFusionError, Result as DfResult, resources_datafusion_err};
use datafusion::execution::memory_pool::{
    FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};

use crate::error::Error;
use crate::runtime::spilling::process::OfProcess;
use crate::runtime::spilling::resident::resident_bytes;

/// Consumers that are the sides of joins, as DataFusion calls them.
const JOINS: [&str; 3] = ["HashJoinInput", "CrossJoinExec", "NestedLoopJoinLoad"];

/// Part of the limit from which joins are looked at: one in so many.
const LARGE: usize = 8;

/// In the message of an error for want of memory.
pub const NO_ROOM: &str = "need as much again";

static POOLS: OfProcess<ProcessPool> = OfProcess::new();

/// See the module.
#[derive(Debug)]
pub struct ProcessPool {
    inner: FairSpillPool,
    /// Bytes that the process may hold.
    limit: usize,
    /// Bytes of all sides of joins, each of which may be gathered in many partitions.
    gathered: AtomicUsize,
}

impl ProcessPool {
    /// The pool of this process, which may hold `limit` bytes: all statements share it.
    pub fn of(limit: usize) -> Arc<Self> {
        POOLS.get(limit, || ProcessPool {
            inner: FairSpillPool::new(limit),
            limit,
            gathered: AtomicUsize::new(0),
        })
    }

    fn resized(&self, reservation: &MemoryReservation, from: usize, to: usize) {
        if is_join(reservation) {
            let change = |gathered: usize| Some((gathered + to).saturating_sub(from));
            // It always changes.
            let _ = self.gathered.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
        }
    }
}

fn is_join(reservation: &MemoryReservation) -> bool {
    let name = reservation.consumer().name();
    JOINS.iter().any(|join| name.starts_with(join))
}

impl fmt::Display for ProcessPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process({})", self.limit)
    }
}

impl MemoryPool for ProcessPool {
    fn name(&self) -> &'static str {
        "process"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.inner.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.inner.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.inner.grow(reservation, additional);
        self.resized(reservation, reservation.size(), reservation.size() + additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.inner.shrink(reservation, shrink);
        // It is smaller already.
        let size = reservation.size();
        self.resized(reservation, size + shrink, size);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> DfResult<()> {
        let grown = self.grow_if_room(reservation, additional);
        if reservation.consumer().name().starts_with("NestedLoopJoin") {
            return grown.map_err(|e| DataFusionError::External(Box::new(Error::external(e.to_string()))));
        }
        grown
    }

    fn reserved(&self) -> usize {
        self.inner.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.inner.memory_limit()
    }
}

impl ProcessPool {
    fn grow_if_room(&self, reservation: &MemoryReservation, additional: usize) -> DfResult<()> {
        let size = reservation.size();
        if is_join(reservation) {
            let gathered = self.gathered.load(Ordering::Relaxed) + additional;
            let held = resident_bytes();
            if gathered > self.limit / LARGE && held.saturating_add(gathered) > self.limit {
                let name = reservation.consumer().name();
                return Err(resources_datafusion_err!(
                    "{name}: the sides of joins hold {} MB and {NO_ROOM}, while the process holds {} MB of {} MB",
                    gathered / 1_000_000,
                    held / 1_000_000,
                    self.limit / 1_000_000
                ));
            }
        }
        self.inner.try_grow(reservation, additional)?;
        self.resized(reservation, size, size + additional);
        Ok(())
    }
}
