//! `lookup.cache` = `FULL`: a bounded source in memory, by key.
//!
//! ```text
//!  first lookup ─► read ─► shape ─► rows without a NULL key, those of a key next to each other ─► Loaded
//!                                      every reload interval: read again, then take its place ──────┘
//! ```
//!
//! All subtasks of a join share one. The rows are outside the budget of `--memory`, and twice in memory while they are read
//! again. Where reading again fails, the rows that are there stay, and a notice says so; the next interval tries again.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, interleave_record_batch};
use arrow::datatypes::DataType;
use async_trait::async_trait;
use datafusion::physical_plan::PhysicalExpr;
use tokio::sync::OnceCell;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::shape::Shape;
use crate::edges::lookup::{Found, FullCacheOptions, LookupBatch, LookupRows, LookupSource};
use crate::edges::{Notices, ScanRequest, Source, SourceEvent};
use crate::error::{Error, Result};
use crate::functions::room::evaluate;
use crate::state::GroupDirectory;
use crate::state::directory::NO_SLOT;
use crate::stream::BATCH_ROWS;

/// What is kept, and how.
#[derive(Debug, Clone)]
pub struct FullCacheConfig {
    /// For messages.
    pub table: String,
    /// The table.
    pub source: Arc<dyn Source>,
    /// What is read of it.
    pub scan: ScanRequest,
    /// What is made of it.
    pub shape: Shape,
    /// Keys, over what is made.
    pub keys: Vec<Arc<dyn PhysicalExpr>>,
    /// Their types.
    pub key_types: Vec<DataType>,
    /// When it is read again.
    pub options: FullCacheOptions,
    /// Hears of reads that fail.
    pub notices: Notices,
}

/// A table in memory.
#[derive(Debug)]
pub struct FullCache {
    config: Arc<FullCacheConfig>,
    first: OnceCell<()>,
    loaded: Arc<RwLock<Option<Arc<Loaded>>>>,
    reloads: OnceLock<AbortHandle>,
}

impl FullCache {
    /// Nothing is read before the first lookup.
    pub fn new(config: FullCacheConfig) -> Self {
        FullCache {
            config: Arc::new(config),
            first: OnceCell::new(),
            loaded: Arc::default(),
            reloads: OnceLock::new(),
        }
    }

    async fn loaded(&self) -> Result<Arc<Loaded>> {
        self.first
            .get_or_try_init(|| async {
                let began = Instant::now();
                let loaded = load(&self.config).await?;
                *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(loaded));
                if self.config.options.reload_interval.is_some() {
                    let (config, loaded) = (self.config.clone(), Arc::downgrade(&self.loaded));
                    // Set once: nobody else gets here.
                    let _ = self.reloads.set(tokio::spawn(reload(config, loaded, began)).abort_handle());
                }
                Ok::<_, Error>(())
            })
            .await?;
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner).clone();
        loaded.ok_or_else(|| Error::internal("a table was read and is not there"))
    }
}

impl Drop for FullCache {
    fn drop(&mut self) {
        if let Some(reloads) = self.reloads.get() {
            reloads.abort();
        }
    }
}

#[async_trait]
impl LookupSource for FullCache {
    async fn lookup(&self, keys: &RecordBatch) -> Result<LookupRows> {
        self.loaded().await?.find(keys)
    }
}

/// Reads the table again and again, as long as somebody looks it up.
async fn reload(config: Arc<FullCacheConfig>, loaded: Weak<RwLock<Option<Arc<Loaded>>>>, mut began: Instant) {
    let Some(interval) = config.options.reload_interval else { return };
    let failing = format!("full cache {}", config.table);
    let mut fails = false;
    loop {
        let from = if config.options.fixed_rate { began } else { Instant::now() };
        tokio::time::sleep_until(from + interval).await;
        began = Instant::now();
        let read = load(&config).await;
        let Some(loaded) = loaded.upgrade() else { return };
        match read {
            Ok(fresh) => {
                *loaded.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(fresh));
                if fails {
                    config.notices.ends(&failing, Some(format!("table {} is read again", config.table)));
                }
                fails = false;
            }
            Err(e) => {
                if !fails {
                    config.notices.begins(&failing, || {
                        format!("{e}; lookups go on with the rows that were read of it before")
                    });
                }
                fails = true;
            }
        }
    }
}

/// The rows of a table, sorted by key.
struct Loaded {
    keys: Mutex<GroupDirectory>,
    /// By slot.
    found: Vec<Found>,
    batches: Arc<[LookupBatch]>,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").field("keys", &self.found.len()).finish_non_exhaustive()
    }
}

impl Loaded {
    fn find(&self, keys: &RecordBatch) -> Result<LookupRows> {
        let mut slots = Vec::new();
        // A directory is never left half changed by looking something up.
        let mut directory = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        directory.lookup(keys.columns(), keys.num_rows(), &mut slots)?;
        drop(directory);
        let found = |slot: u32| if slot == NO_SLOT { Found::default() } else { self.found[slot as usize] };
        Ok(LookupRows { batches: self.batches.clone(), found: slots.into_iter().map(found).collect() })
    }
}

async fn load(config: &FullCacheConfig) -> Result<Loaded> {
    let (mut batches, mut slots) = (Vec::new(), Vec::new());
    let mut directory = GroupDirectory::new(&config.key_types)?;
    read(config, |rows| {
        let (rows, of) = with_keys(config, rows, &mut directory)?;
        if rows.num_rows() > 0 {
            batches.push(rows);
            slots.push(of);
        }
        Ok(())
    })
    .await
    .map_err(|e| e.context(format!("table {}", config.table)))?;
    let (batches, found) = by_slot(&batches, &slots, directory.capacity())?;
    Ok(Loaded {
        keys: Mutex::new(directory),
        found,
        batches: batches.into_iter().map(LookupBatch::from).collect(),
    })
}

async fn read(config: &FullCacheConfig, mut each: impl FnMut(&RecordBatch) -> Result<()>) -> Result<()> {
    for mut reader in config.source.readers(config.scan.clone(), 1, None).await? {
        loop {
            match reader.next().await? {
                SourceEvent::Batch { batch, .. } if batch.kinds.is_none() => each(&batch.rows)?,
                SourceEvent::Batch { .. } => {
                    return Err(Error::unsupported("a table of changes cannot be looked up"));
                }
                SourceEvent::End => break,
                SourceEvent::SplitsStarted(_)
                | SourceEvent::SplitFinished(_)
                | SourceEvent::Dropped { .. } => {}
            }
        }
    }
    Ok(())
}

/// The rows of the right side whose key is not NULL, with the slot of each.
fn with_keys(
    config: &FullCacheConfig,
    rows: &RecordBatch,
    directory: &mut GroupDirectory,
) -> Result<(RecordBatch, Vec<u32>)> {
    let mut rows = config.shape.apply(rows)?;
    let keys_of = |rows: &RecordBatch| -> Result<Vec<ArrayRef>> {
        config.keys.iter().map(|key| evaluate(key, rows)).collect()
    };
    let mut keys = keys_of(&rows)?;
    if let Some(valid) = all_valid(&keys, rows.num_rows()) {
        rows = filter_record_batch(&rows, &valid)?;
        keys = keys_of(&rows)?;
    }
    let mut slots = Vec::new();
    directory.intern(&keys, rows.num_rows(), &mut slots)?;
    Ok((rows, slots))
}

/// Which rows have no NULL in any of the columns; `None` if all.
fn all_valid(columns: &[ArrayRef], rows: usize) -> Option<BooleanArray> {
    let nulls = columns.iter().filter_map(|c| c.logical_nulls()).filter(|n| n.null_count() > 0);
    let mut valid: Option<Vec<bool>> = None;
    for nulls in nulls {
        let valid = valid.get_or_insert_with(|| vec![true; rows]);
        valid.iter_mut().enumerate().for_each(|(row, valid)| *valid &= nulls.is_valid(row));
    }
    valid.map(BooleanArray::from)
}

/// Rows in the order of their slots, cut where a key ends, and where the rows of each slot are.
fn by_slot(
    batches: &[RecordBatch],
    slots: &[Vec<u32>],
    capacity: usize,
) -> Result<(Vec<RecordBatch>, Vec<Found>)> {
    let mut starts = vec![0usize; capacity + 1];
    for slot in slots.iter().flatten() {
        starts[*slot as usize + 1] += 1;
    }
    for i in 1..starts.len() {
        starts[i] += starts[i - 1];
    }
    let mut order = vec![(0usize, 0usize); starts[capacity]];
    let mut next = starts.clone();
    for (batch, slots) in slots.iter().enumerate() {
        for (row, slot) in slots.iter().enumerate() {
            let place = &mut next[*slot as usize];
            order[*place] = (batch, row);
            *place += 1;
        }
    }
    let all: Vec<&RecordBatch> = batches.iter().collect();
    let (mut sorted, mut found) = (Vec::new(), Vec::with_capacity(capacity));
    let (mut begin, mut slot) = (0, 0);
    while slot < capacity {
        let mut end = slot;
        while end < capacity && (end == slot || starts[end + 1] - begin <= BATCH_ROWS) {
            let rows = starts[end + 1] - starts[end];
            let first = (starts[end] - begin) as u32;
            found.push(Found { batch: sorted.len() as u32, first, rows: rows as u32 });
            end += 1;
        }
        if starts[end] > begin {
            sorted.push(interleave_record_batch(&all, &order[begin..starts[end]])?);
        } else {
            // All of them without rows: there is no batch.
            found.iter_mut().skip(slot).for_each(|f| *f = Found::default());
        }
        (begin, slot) = (starts[end], end);
    }
    Ok((sorted, found))
}
