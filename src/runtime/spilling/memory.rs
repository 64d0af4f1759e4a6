//! How much memory the state of streaming operators may take, and where the rest goes.
//!
//! ```text
//!  --memory ─► Budget (one per process) ─► StateMemory (one per statement) ─► StateShare (one per operator instance):
//!                                               └─► SpillStore: a folder of       reports bytes, hears of excess
//!                                                   disposable files
//! ```
//!
//! Statements that run at once, in one session or in several, share the budget of their process.
//!
//! The limit is soft for a moment: an operator hears of an excess with its next batch.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::edges::Notices;
use crate::runtime::spilling::process::OfProcess;
use crate::runtime::spilling::resident::resident_bytes;
use crate::runtime::spilling::store::SpillStore;

/// Part of the process' limit at which operators give back earlier: the rest is for the copy that this takes.
const NEAR: f64 = 0.7;

/// What a process holds before it has any state: code, threads, the first batches.
const BASE: usize = 64 << 20;

/// Bytes of state that are worth being counted where they cannot be given back.
const MATTERS: usize = 1 << 20;

/// The budget of all operators of a process, by the bytes that the process may hold.
static BUDGETS: OfProcess<Budget> = OfProcess::new();

/// The operators of a statement, and the budget that they share with all others.
#[derive(Debug, Clone)]
pub struct StateMemory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    budget: Arc<Budget>,
    spilled_bytes: AtomicU64,
    store: SpillStore,
}

#[derive(Debug)]
struct Budget {
    /// Bytes that the process may hold.
    process_limit: usize,
    /// Bytes of state that may be in memory.
    limit: usize,
    used: AtomicUsize,
    operators: AtomicUsize,
}

impl StateMemory {
    /// For a statement of a process that may take `process_limit` bytes; files go below `folder`.
    ///
    /// Half of the process' memory is for state, less what a process holds without any: the other half is for batches under
    /// way, and for the copy of a part of the state that writing and reading it back takes.
    pub fn new(process_limit: usize, folder: PathBuf) -> Self {
        let budget = BUDGETS.get(process_limit, || Budget {
            process_limit,
            limit: (process_limit - BASE.min(process_limit / 4)) / 2,
            used: AtomicUsize::new(0),
            operators: AtomicUsize::new(0),
        });
        let (spilled_bytes, store) = (AtomicU64::new(0), SpillStore::new(folder));
        StateMemory(Arc::new(Inner { budget, spilled_bytes, store }))
    }

    /// Joins the budget.
    pub fn share(&self) -> StateShare {
        self.0.budget.operators.fetch_add(1, Ordering::Relaxed);
        StateShare { memory: self.clone(), bytes: 0 }
    }

    /// An operator whose state cannot rest holds `bytes` of it: `share` is its part of the budget, from a size on that
    /// matters. That it alone holds more than there is for state is told once.
    pub fn hold(&self, share: &mut Option<StateShare>, bytes: usize, name: &str, notices: &Notices) {
        if share.is_none() && bytes < MATTERS {
            return;
        }
        share.get_or_insert_with(|| self.share()).report(bytes);
        let limit = self.0.budget.limit;
        if bytes > limit && bytes > MATTERS {
            notices.once(&format!("state of {name}"), || {
                format!(
                    "{name} holds {} MB of state that cannot rest on disk, and --memory leaves {} MB for all state: \
                     give more, or let its query have a key",
                    bytes / 1_000_000,
                    limit / 1_000_000
                )
            });
        }
    }

    /// Bytes written to disk so far.
    pub fn spilled_bytes(&self) -> u64 {
        self.0.spilled_bytes.load(Ordering::Relaxed)
    }

    /// 70 % of what this process may use: of its control group's limit or of the machine's memory.
    pub fn default_limit() -> usize {
        let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
            let line = text.lines().find(|l| l.starts_with("MemTotal:"))?;
            line.split_whitespace().nth(1)?.parse::<usize>().ok().map(|kib| kib * 1024)
        });
        let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
            .iter()
            .find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse::<usize>().ok());
        // Where neither is known (macOS), a size that hardly any machine lacks.
        let available = [machine, group].into_iter().flatten().min().unwrap_or(8 << 30);
        available / 10 * 7
    }
}

/// One operator instance's part of the budget.
#[derive(Debug)]
pub struct StateShare {
    memory: StateMemory,
    bytes: usize,
}

impl StateShare {
    /// The operator holds `bytes` now.
    pub fn report(&mut self, bytes: usize) {
        let used = &self.memory.0.budget.used;
        if bytes >= self.bytes {
            used.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }

    /// Bytes this operator should keep below while memory is short: an equal part of the budget.
    pub fn fair(&self) -> usize {
        let budget = &self.memory.0.budget;
        budget.limit / budget.operators.load(Ordering::Relaxed).max(1)
    }

    /// Whether the operator has to give memory back: `parts` of the budget are in use, and of its own part.
    /// (`1.0` is all of it.) Where the process as a whole comes near its limit, a quarter of that is enough.
    pub fn is_over(&self, parts: f64) -> bool {
        let over = |bytes: usize, limit: usize, parts: f64| bytes as f64 > limit as f64 * parts;
        let Budget { limit, process_limit, used, .. } = &*self.memory.0.budget;
        if over(used.load(Ordering::Relaxed), *limit, parts) && over(self.bytes, self.fair(), parts) {
            return true;
        }
        over(self.bytes, self.fair(), parts / 4.0) && over(resident_bytes(), *process_limit, NEAR)
    }

    /// Where files go.
    pub fn store(&self) -> &SpillStore {
        &self.memory.0.store
    }

    /// Counts bytes written to disk.
    pub fn spilled(&self, bytes: u64) {
        self.memory.0.spilled_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for StateShare {
    fn drop(&mut self) {
        self.report(0);
        self.memory.0.budget.operators.fetch_sub(1, Ordering::Relaxed);
    }
}
