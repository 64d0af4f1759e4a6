//! Jobs that are killed, fail and lose their store at any moment, on a store and a sink that do, too: nothing is lost,
//! nothing comes twice.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::sync::atomic::AtomicU32;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};

use super::*;
use crate::checkpoint::store::Holder;
use crate::checkpoint::{JobStore, Storage};
use crate::edges::SinkIdentity;
use crate::runtime::coordinator::{CheckpointOptions, JobOptions, SavepointPlace};
use crate::runtime::job::{JobMetrics, StopHandle};
use crate::runtime::restart::RestartStrategy;
use crate::runtime::supervisor::{Keeping, run_job};

/// Chance, the same for the same seed as far as tasks come in the same order.
#[derive(Debug)]
struct Chance(AtomicU64);

impl Chance {
    fn roll(&self, sides: u64) -> u64 {
        let next =
            |n: u64| Some(n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
        let n = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).unwrap();
        (n >> 33) % sides
    }

    /// Takes a while, now and then.
    async fn pause(&self) {
        if self.roll(4) == 0 {
            tokio::time::sleep(Duration::from_micros(self.roll(1500))).await;
        }
    }
}

/// A store that is slow, and fails before or after it has done what it was asked for.
#[derive(Debug)]
struct Shaky {
    inner: InMemory,
    chance: Arc<Chance>,
    /// One call in so many fails; 0: none.
    fails: AtomicU32,
}

impl fmt::Display for Shaky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("shaky")
    }
}

impl Shaky {
    async fn shake(&self) -> object_store::Result<()> {
        self.chance.pause().await;
        let fails = u64::from(self.fails.load(Ordering::SeqCst));
        if fails > 0 && self.chance.roll(fails) == 0 {
            return Err(object_store::Error::Generic { store: "shaky", source: "it failed".into() });
        }
        Ok(())
    }
}

#[async_trait]
impl ObjectStore for Shaky {
    async fn put_opts(
        &self,
        at: &Path,
        bytes: PutPayload,
        how: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.shake().await?;
        let put = self.inner.put_opts(at, bytes, how).await;
        self.shake().await?;
        put
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        how: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, how).await
    }

    async fn get_opts(&self, at: &Path, how: GetOptions) -> object_store::Result<GetResult> {
        self.shake().await?;
        self.inner.get_opts(at, how).await
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> object_store::Result<Vec<Bytes>> {
        self.shake().await?;
        self.inner.get_ranges(at, ranges).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, how: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, how).await
    }
}

/// A table outside: what was committed, by lineage and epoch, as an Iceberg table remembers it.
#[derive(Debug)]
struct Outside {
    committed: Mutex<BTreeMap<(String, u64), Vec<i64>>>,
    chance: Arc<Chance>,
    fails: AtomicU32,
    /// A transaction decides: prepared rows are lost with their process.
    decides: bool,
    /// Rows in transactions, by epoch, and the processes that may still commit them.
    open: Mutex<BTreeMap<u64, Vec<i64>>>,
    owner: AtomicU64,
    marker: AtomicU64,
}

impl Outside {
    async fn shake(&self) -> Result<()> {
        self.chance.pause().await;
        let fails = u64::from(self.fails.load(Ordering::SeqCst));
        if fails > 0 && self.chance.roll(fails) == 0 {
            Err(Error::external("outside failed"))
        } else {
            Ok(())
        }
    }

    fn rows(&self) -> Vec<i64> {
        let mut rows: Vec<i64> = self.committed.lock().unwrap().values().flatten().copied().collect();
        rows.sort_unstable();
        rows
    }
}

#[derive(Debug)]
struct OutsideSink(Arc<Outside>);

#[async_trait]
impl Sink for OutsideSink {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn changelog(&self) -> SinkChangelog {
        SinkChangelog::All
    }

    fn decision(&self, identity: &SinkIdentity) -> Option<String> {
        self.0.decides.then(|| identity.job.clone())
    }

    async fn is_committed(&self, _identity: &SinkIdentity, epoch: Epoch) -> Result<bool> {
        // Whoever asks fences the others.
        self.0.owner.fetch_add(1, Ordering::SeqCst);
        self.0.open.lock().unwrap().clear();
        self.0.shake().await?;
        Ok(self.0.marker.load(Ordering::SeqCst) >= epoch.0)
    }

    async fn open(&self, context: &SinkContext) -> Result<OpenedSink> {
        self.0.shake().await?;
        let owner = self.0.owner.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.open.lock().unwrap().clear();
        let writer = |_| -> Box<dyn SinkWriter> {
            let epoch = context.epoch.0 + 1;
            Box::new(OutsideWriter { rows: Vec::new(), outside: self.0.clone(), owner, epoch })
        };
        let lineage = context.identity.as_ref().unwrap().lineage.to_string();
        let committer = OutsideCommitter { lineage, outside: self.0.clone(), owner };
        Ok(OpenedSink {
            writers: (0..context.parallelism).map(writer).collect(),
            committer: Box::new(committer),
        })
    }
}

struct OutsideWriter {
    rows: Vec<i64>,
    outside: Arc<Outside>,
    owner: u64,
    epoch: u64,
}

#[async_trait]
impl SinkWriter for OutsideWriter {
    async fn write(&mut self, batch: ChangeBatch) -> Result<()> {
        self.rows.extend(batch.rows.column(0).as_primitive::<Int64Type>().values());
        Ok(())
    }

    async fn prepare(&mut self, epoch: Epoch) -> Result<Option<Committable>> {
        self.outside.shake().await?;
        let rows = std::mem::take(&mut self.rows);
        if self.outside.decides {
            // Only the epoch is handed over: the rows are in the transaction.
            let mut open = self.outside.open.lock().unwrap();
            if self.outside.owner.load(Ordering::SeqCst) != self.owner {
                return Err(Error::validation("fenced"));
            }
            open.entry(self.epoch).or_default().extend(&rows);
            drop(open);
            self.epoch = epoch.0.saturating_add(1);
            return Ok((!rows.is_empty()).then(|| b"rows".to_vec()));
        }
        Ok((!rows.is_empty()).then(|| rows.iter().flat_map(|r| r.to_le_bytes()).collect()))
    }
}

struct OutsideCommitter {
    lineage: String,
    outside: Arc<Outside>,
    owner: u64,
}

#[async_trait]
impl SinkCommitter for OutsideCommitter {
    async fn commit(&mut self, epoch: Epoch, committables: Vec<Committable>) -> Result<()> {
        self.outside.shake().await?;
        if self.outside.decides {
            let mut open = self.outside.open.lock().unwrap();
            if self.outside.owner.load(Ordering::SeqCst) != self.owner {
                return Err(Error::validation("fenced"));
            }
            if let Some(rows) = open.remove(&epoch.0).filter(|rows| !rows.is_empty()) {
                self.outside.committed.lock().unwrap().insert((String::new(), epoch.0), rows);
                self.outside.marker.store(epoch.0, Ordering::SeqCst);
            }
        } else if !committables.is_empty() {
            let mut rows = Vec::new();
            for c in committables {
                let (values, _) = c.as_chunks::<8>();
                rows.extend(values.iter().map(|v| i64::from_le_bytes(*v)));
            }
            // Once per epoch of a job, whoever comes.
            self.outside.committed.lock().unwrap().entry((self.lineage.clone(), epoch.0)).or_insert(rows);
        }
        self.outside.shake().await
    }

    async fn recover(&mut self, epoch: Epoch, committables: Vec<Committable>) -> Result<()> {
        if self.outside.decides || committables.is_empty() {
            Ok(())
        } else {
            self.commit(epoch, committables).await
        }
    }
}

fn graph(rows: i64, parallelism: usize, sinks: &[Arc<Outside>]) -> StreamGraph {
    let mut graph = StreamGraph::default();
    let kind = NodeKind::Source {
        source: Arc::new(Counter { rows: Some(rows), chunk: 7 }),
        scan: ScanRequest::default(),
        spec: SourceSpec::default(),
    };
    // Its splits are those of one parallelism.
    let source = graph.add(node("source", 2, kind, vec![]));
    let factory: OperatorFactory = Arc::new(|_| Ok(Box::new(Sums { sums: BTreeMap::new(), fail_at: None })));
    let inputs = vec![edge(source, Partitioning::Hash(vec![0]))];
    let sums = graph.add(node("sums", parallelism, NodeKind::Operator(factory), inputs));
    for (i, outside) in sinks.iter().enumerate() {
        let sink = NodeKind::Sink { sink: Arc::new(OutsideSink(outside.clone())), mode: WriteMode::Append };
        graph.add(node(&format!("sink{i}"), parallelism, sink, vec![edge(sums, Partitioning::Forward)]));
    }
    graph
}

/// One job, killed until it ends; gives the number of its processes.
async fn live_and_die(seed: u64, decides: bool) -> u32 {
    const ROWS: i64 = 3_000;
    let chance = Arc::new(Chance(AtomicU64::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)));
    let fails = if seed.is_multiple_of(3) { 0 } else { 60 };
    let shaky =
        Arc::new(Shaky { inner: InMemory::new(), chance: chance.clone(), fails: AtomicU32::new(fails) });
    let jobs = Storage::in_bucket("memory://jobs", "jobs", shaky.clone());
    let outside = |decides| {
        Arc::new(Outside {
            committed: Mutex::default(),
            chance: chance.clone(),
            fails: AtomicU32::new(fails),
            decides,
            open: Mutex::default(),
            owner: AtomicU64::new(0),
            marker: AtomicU64::new(0),
        })
    };
    let sinks = if decides { vec![outside(true), outside(false)] } else { vec![outside(false)] };
    let mut processes = 0;
    loop {
        processes += 1;
        if processes > 400 {
            shaky.fails.store(0, Ordering::SeqCst);
            sinks.iter().for_each(|s| s.fails.store(0, Ordering::SeqCst));
        }
        assert!(processes < 2_000, "seed {seed}: no end");
        let Ok(store) = JobStore::open(&jobs, "j", Holder::this(0), false).await else { continue };
        // It had ended, and was killed before it could say so.
        if sinks.iter().all(|s| s.rows().len() == ROWS as usize) && matches!(store.newest().await, Ok(None)) {
            break;
        }
        let keeping = Keeping {
            store: Arc::new(store),
            options: CheckpointOptions {
                retained: 1 + chance.roll(2) as usize,
                timeout: Duration::from_secs(10),
                min_pause: Duration::ZERO,
                tolerable_failures: chance.roll(3) as u32,
            },
            restarts: RestartStrategy::FixedDelay { attempts: 3, delay: Duration::from_millis(1) },
            retains_stopped: true,
            savepoints: SavepointPlace::default(),
        };
        let options =
            JobOptions { checkpoint_interval: Some(Duration::from_millis(1)), ..JobOptions::default() };
        let graph = graph(ROWS, 1 + chance.roll(4) as usize, &sinks);
        let job = run_job(graph, options, Some(keeping), JobMetrics::new(), StopHandle::new());
        // What still writes when its process is killed here goes on writing: a process that was taken for dead.
        let life = Duration::from_micros(500 + chance.roll(20_000));
        match tokio::time::timeout(life, job).await {
            Ok(Ok(())) => break,
            Ok(Err(e)) => assert!(e.is_retryable() || e.message().contains("fenced"), "seed {seed}: {e}"),
            Err(_) => {}
        }
    }
    let expected: Vec<i64> = (0..ROWS).collect();
    for outside in &sinks {
        let rows = outside.rows();
        let distinct: HashSet<i64> = rows.iter().copied().collect();
        let (lost, twice) = (expected.len() - distinct.len(), rows.len() - distinct.len());
        assert!(rows == expected, "seed {seed}: {lost} lost, {twice} twice after {processes} processes");
    }
    processes
}

async fn many(decides: bool) {
    let seeds = std::env::var("TIDELAKE_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(40);
    let (mut processes, begin) = (0, std::time::Instant::now());
    for seed in 0..seeds {
        processes += live_and_die(seed, decides).await;
    }
    assert!(u64::from(processes) > seeds, "nothing was killed");
    if seeds > 40 {
        eprintln!(
            "{seeds} jobs, {processes} processes, {:.0?}: nothing lost, nothing twice",
            begin.elapsed()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_comes_twice() {
    many(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_where_a_transaction_decides() {
    many(true).await;
}
