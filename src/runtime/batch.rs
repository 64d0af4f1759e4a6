//! Runs batch jobs: the partitions of a DataFusion plan, to the user or into a sink. Beside [`crate::runtime::job`],
//! which runs streams; both drive sinks by [`SinkDriver`].
//!
//! ```text
//!  ExecutionPlan ─► partition 0 ─► NOT NULL ─► SinkDriver ─┐
//!               └─► partition 1 ─► NOT NULL ─► SinkDriver ─┴─► all done: commit;  a failure, or stopped: abort
//! ```
//!
//! A plan whose joins outgrow the memory before anybody has seen a row of it is run once more with joins that spill
//! ([`Replan`]).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::TaskContext;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, execute_stream};
use futures::future::BoxFuture;
use futures::{Stream, StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::edges::not_null::{NotNullEnforcer, enforce};
use crate::edges::{Committable, Sink, SinkContext, WriteMode};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::job::{JobMetrics, StopHandle};
use crate::runtime::sink::SinkDriver;
use crate::runtime::spilling::WAY_OUT;
use crate::runtime::spilling::pool::NO_ROOM;
use crate::runtime::task::{sleep_until, unpanicked};
use crate::stream::bytes::{batch_bytes, slices};
use crate::stream::{BATCH_BYTES, ChangeBatch, Epoch, Timestamp};

/// What helps when there is no memory for what a plan has to keep there.
const MORE_MEMORY: &str = "give more with --memory, or SET 'execution.runtime-mode' = 'streaming', which keeps what it gathers on disk";

/// How long the first rows of a plan wait that may have to be made anew, and how many bytes of them.
const HOLD: Duration = Duration::from_millis(300);
const HOLD_BYTES: usize = 16 << 20;

/// The only epoch of a batch job.
const EPOCH: Epoch = Epoch(1);

/// Makes another plan of the same rows, which needs less memory; `None` if there is none.
pub type Replan = Box<dyn FnOnce() -> BoxFuture<'static, Result<Option<Arc<dyn ExecutionPlan>>>> + Send>;

/// A plan, and what is done if the memory does not suffice for it.
pub struct BatchPlan {
    /// The plan that is tried.
    pub plan: Arc<dyn ExecutionPlan>,
    /// Asked for another one as long as nobody has seen a row of the first.
    pub replan: Option<Replan>,
}

/// What a job had counted before a plan was tried.
struct Counted {
    rows_in: u64,
    rows_out: u64,
    bytes_out: u64,
}

impl Counted {
    fn so_far(metrics: &JobMetrics) -> Self {
        Counted {
            rows_in: metrics.rows_in.load(Ordering::Relaxed),
            rows_out: metrics.rows_out.load(Ordering::Relaxed),
            bytes_out: metrics.bytes_out.load(Ordering::Relaxed),
        }
    }

    fn restore(&self, metrics: &JobMetrics) {
        metrics.rows_in.store(self.rows_in, Ordering::Relaxed);
        metrics.rows_out.store(self.rows_out, Ordering::Relaxed);
        metrics.bytes_out.store(self.bytes_out, Ordering::Relaxed);
    }
}

impl BatchPlan {
    /// Runs the plan; and another one where the memory did not suffice for it, unless somebody has seen rows of it, which
    /// `hides` says cannot be. Where the other one cannot be run, the first failure is the one to tell.
    async fn run<F: Future<Output = Result<()>>>(
        self,
        metrics: &JobMetrics,
        hides: bool,
        run: impl Fn(Arc<dyn ExecutionPlan>, bool) -> F,
    ) -> Result<()> {
        let before = Counted::so_far(metrics);
        let may_follow = self.replan.is_some();
        let Err(first) = run(self.plan, may_follow).await else { return Ok(()) };
        let Some(replan) = self.replan else { return Err(first) };
        let is_untouched = hides || metrics.rows_out.load(Ordering::Relaxed) == before.rows_out;
        // Errors of sinks and commits have other hints.
        if first.hint_text() != Some(MORE_MEMORY) || !is_untouched {
            return Err(first);
        }
        let Ok(Some(plan)) = replan().await else { return Err(first) };
        metrics.notices.once("joins-by-sorting", || {
            "the sides of a join do not fit into --memory: they are read again and joined by sorting, on disk".to_owned()
        });
        before.restore(metrics);
        match run(plan, false).await {
            Err(e) if matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::Internal) => Err(first),
            other => other,
        }
    }
}

/// Sends the rows of a plan to `sender` until they end, nobody listens or the job is stopped.
///
/// # Errors
/// Of the plan; Cancelled when stopped.
pub async fn run_query(
    plan: BatchPlan,
    context: Arc<TaskContext>,
    sender: mpsc::Sender<ChangeBatch>,
    metrics: Arc<JobMetrics>,
    stop: StopHandle,
) -> Result<()> {
    let run = |plan, hold| send_rows(plan, context.clone(), &sender, &metrics, &stop, hold);
    plan.run(&metrics, false, run).await
}

/// `hold`: the first rows wait for a moment, as one partition of a join may have rows while another one still gathers a side
/// that does not fit.
async fn send_rows(
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    sender: &mpsc::Sender<ChangeBatch>,
    metrics: &JobMetrics,
    stop: &StopHandle,
    hold: bool,
) -> Result<()> {
    let temporary = context.runtime_env();
    let mut rows = execute_stream(plan, context)?;
    let mut holds = hold;
    let (mut waiting, mut bytes, mut release) = (Vec::new(), 0, None);
    loop {
        let next = tokio::select! {
            biased;
            () = stop.stopped() => return Err(Error::cancelled()),
            next = rows.next() => Some(next),
            () = sleep_until(release), if holds => None,
        };
        holds &= matches!(next, Some(Some(_))) && bytes < HOLD_BYTES;
        let is_over = matches!(next, Some(None));
        if let Some(Some(batch)) = next {
            let batch = batch.map_err(|e| no_room(e.into(), &temporary))?;
            bytes += batch_bytes(&batch);
            release.get_or_insert_with(|| Instant::now() + HOLD);
            waiting.extend(slices(batch, BATCH_BYTES));
        }
        if holds {
            continue;
        }
        for rows in waiting.drain(..) {
            metrics.rows_out.fetch_add(rows.num_rows() as u64, Ordering::Relaxed);
            if sender.send(ChangeBatch::insert_only(rows)).await.is_err() {
                return Ok(());
            }
        }
        if is_over {
            return Ok(());
        }
    }
}

/// Where the rows of a batch INSERT go.
#[derive(Debug)]
pub struct InsertTarget {
    /// The table.
    pub sink: Arc<dyn Sink>,
    /// Append or overwrite.
    pub mode: WriteMode,
    /// What is done, for messages: `INSERT INTO t`.
    pub what: String,
    /// What a NULL in a NOT NULL column does.
    pub enforcer: NotNullEnforcer,
}

/// Writes the rows of a plan, each partition by a writer of its own, and commits once.
///
/// # Errors
/// Of the plan and the sink; Cancelled when stopped. Nothing is visible then.
pub async fn run_insert(
    plan: BatchPlan,
    context: Arc<TaskContext>,
    target: &InsertTarget,
    metrics: &Arc<JobMetrics>,
    stop: &StopHandle,
) -> Result<()> {
    // What was written is not visible, and is taken back.
    let hides = target.sink.holds_back();
    plan.run(metrics, hides, |plan, _| write_rows(plan, context.clone(), target, metrics, stop)).await
}

async fn write_rows(
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    target: &InsertTarget,
    metrics: &Arc<JobMetrics>,
    stop: &StopHandle,
) -> Result<()> {
    let named = |e: Error| e.context(target.what.clone());
    let partitions = plan.output_partitioning().partition_count();
    let opened = target.sink.open(&SinkContext::new(target.mode, partitions)).await.map_err(named)?;
    let mut committer = opened.committer;
    // Of this plan only: another one may follow.
    let failed = StopHandle::new();
    let mut tasks = JoinSet::new();
    for (partition, writer) in opened.writers.into_iter().enumerate() {
        let rows = plan.execute(partition, context.clone())?;
        let mut driver = SinkDriver::new(writer, metrics.clone());
        let (schema, enforcer) = (target.sink.schema(), target.enforcer);
        let (stop, failed) = (stop.clone(), failed.clone());
        let temporary = context.runtime_env();
        tasks.spawn(async move {
            let rows = rows.map_err(move |e| no_room(e.into(), &temporary));
            let written = unpanicked(write_all(rows, &mut driver, &schema, enforcer, [&stop, &failed])).await;
            (driver, written)
        });
    }
    let mut committables: Vec<Committable> = Vec::new();
    let mut drivers = Vec::new();
    let mut failure = None;
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok((driver, Ok(committable))) => {
                committables.extend(committable);
                drivers.push(driver);
            }
            Ok((driver, Err(e))) => {
                drivers.push(driver);
                // The others have nothing to wait for.
                failed.cancel();
                failure.get_or_insert(e);
            }
            Err(e) => {
                failure.get_or_insert(e.into());
            }
        }
    }
    if failure.is_none() && stop.is_stopped() {
        failure = Some(Error::cancelled());
    }
    if let Some(e) = failure {
        for driver in &mut drivers {
            driver.abort().await;
        }
        committer.abort(None, committables).await;
        return Err(named(e));
    }
    if let Err(e) = committer.commit(EPOCH, committables.clone()).await {
        committer.abort(Some(EPOCH), committables).await;
        return Err(named(e));
    }
    metrics.committed();
    Ok(())
}

/// Whether there was no memory for what a plan has to keep there.
fn is_short(e: &Error) -> bool {
    // DataFusion's words or those of the pools, which lose the first of them in some plans.
    ["Resources exhausted", "Failed to allocate additional", NO_ROOM].iter().any(|w| e.message().contains(w))
}

/// An error of a plan; where it says only that a disk is full, which one and what helps. What sinks write fails
/// elsewhere: a plan writes nothing but what outgrew its memory.
fn no_room(e: Error, temporary: &RuntimeEnv) -> Error {
    // ENOSPC, EFBIG and EDQUOT, as the standard library writes them: DataFusion hands errors on as texts, too.
    let full =
        ["(os error 28)", "(os error 27)", "(os error 122)"].iter().any(|code| e.message().contains(code));
    if !full {
        // Not all that DataFusion keeps in memory can rest on disk.
        return if is_short(&e) && e.hint_text().is_none() { e.hint(MORE_MEMORY) } else { e };
    }
    let folders = temporary.disk_manager.temp_dir_paths();
    let folder = folders.first().map_or_else(std::env::temp_dir, Clone::clone);
    Error::external(format!(
        "rows that outgrew the memory cannot be written to {}: {}",
        folder.display(),
        e.message()
    ))
    .hint(WAY_OUT)
}

async fn write_all(
    mut rows: impl Stream<Item = Result<RecordBatch>> + Unpin,
    driver: &mut SinkDriver,
    schema: &SchemaRef,
    enforcer: NotNullEnforcer,
    [stop, failed]: [&StopHandle; 2],
) -> Result<Option<Committable>> {
    loop {
        let next = tokio::select! {
            biased;
            () = stop.stopped() => return Err(Error::cancelled()),
            () = failed.stopped() => return Err(Error::cancelled()),
            next = rows.next() => next,
        };
        let Some(rows) = next.transpose()? else { break };
        for rows in slices(rows, BATCH_BYTES) {
            let batch = enforce(ChangeBatch::insert_only(rows), schema, enforcer)?;
            if batch.num_rows() > 0 {
                driver.write(batch).await?;
            }
        }
    }
    driver.on_watermark(Timestamp::MAX);
    driver.prepare(EPOCH).await
}
