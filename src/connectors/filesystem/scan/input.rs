//! Files as DataFusion's Parquet source reads them: bytes from the store, the footer that has been read already.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use datafusion::common::{Result as DfResult, internal_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{ParquetFileMetrics, ParquetFileReaderFactory};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::ParquetMetaData;

use crate::connectors::filesystem::location::{Store, key};
use crate::connectors::filesystem::parquet::StoreFile;
use crate::connectors::filesystem::split::SplitFile;
use crate::edges::SourceMetrics;
use crate::formats::parquet::{DictionaryInput, check_pages};

/// What DataFusion's entry of a file carries.
#[derive(Debug, Clone)]
pub(super) struct ScanFile {
    pub(super) file: Arc<SplitFile>,
    pub(super) store: Store,
    pub(super) metadata: Arc<ParquetMetaData>,
    pub(super) progress: Arc<Progress>,
}

/// Counts the bytes of a file: those that are read, and when a part is done the rest of it, which need not be read.
#[derive(Debug)]
pub(super) struct Progress {
    metrics: Arc<SourceMetrics>,
    /// Bytes that have been counted, and bytes of parts that are done.
    counted: Mutex<(u64, u64)>,
}

impl Progress {
    pub(super) fn of(metrics: &Arc<SourceMetrics>) -> Arc<Self> {
        Arc::new(Progress { metrics: Arc::clone(metrics), counted: Mutex::default() })
    }

    fn read(&self, bytes: u64, size: u64) {
        let (counted, _) = &mut *self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = bytes.min(size.saturating_sub(*counted));
        *counted += bytes;
        self.metrics.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn part_is_done(&self, bytes: u64) {
        let (counted, done) = &mut *self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        *done += bytes;
        self.metrics.bytes.fetch_add(done.saturating_sub(*counted), Ordering::Relaxed);
        *counted = (*counted).max(*done);
    }
}

/// Looks into dictionaries of local files; those in buckets are a request each.
pub(super) struct Probe(pub(super) StoreFile);

impl DictionaryInput for Probe {
    type Input = StoreFile;

    fn input(&self) -> Option<Arc<StoreFile>> {
        self.0.is_local().then(|| Arc::new(self.0.clone()))
    }
}

/// Opens files.
#[derive(Debug)]
pub(super) struct InputFactory;

impl ParquetFileReaderFactory for InputFactory {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        _metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> DfResult<Box<dyn AsyncFileReader + Send>> {
        let Some(scan) = file.extension::<ScanFile>() else { return internal_err!("a file without footer") };
        Ok(Box::new(Input {
            scan: scan.clone(),
            file: None,
            counted: ParquetFileMetrics::new(partition, file.object_meta.location.as_ref(), metrics),
        }))
    }
}

/// One file.
struct Input {
    scan: ScanFile,
    /// The file of a local disk, once it is open.
    file: Option<Arc<std::fs::File>>,
    counted: ParquetFileMetrics,
}

impl Input {
    async fn read(&mut self, ranges: Vec<Range<u64>>) -> ParquetResult<Vec<Bytes>> {
        let bytes: u64 = ranges.iter().map(|r| r.end.saturating_sub(r.start)).sum();
        let path = &self.scan.file.entry.path;
        let read = match &self.scan.store {
            Store::Bucket { store, .. } => {
                let read = store.get_ranges(&key(path), &ranges).await;
                let read = read.map_err(|e| ParquetError::External(Box::new(e)))?;
                check(&self.scan.metadata, &ranges, &read)?;
                read
            }
            Store::Local => {
                let (open, path) = (self.file.clone(), path.clone());
                let metadata = Arc::clone(&self.scan.metadata);
                let reading = tokio::task::spawn_blocking(move || {
                    let (file, read) = read_local(open, &path, &ranges)?;
                    check(&metadata, &ranges, &read)?;
                    Ok::<_, ParquetError>((file, read))
                });
                let (open, read) = reading.await.map_err(|e| ParquetError::External(Box::new(e)))??;
                self.file = Some(open);
                read
            }
        };
        self.scan.progress.read(bytes, self.scan.file.entry.size);
        self.counted.bytes_scanned.add(usize::try_from(bytes).unwrap_or(usize::MAX));
        Ok(read)
    }
}

fn read_local(
    open: Option<Arc<std::fs::File>>,
    path: &str,
    ranges: &[Range<u64>],
) -> std::io::Result<(Arc<std::fs::File>, Vec<Bytes>)> {
    let file = match open {
        Some(file) => file,
        None => Arc::new(std::fs::File::open(path)?),
    };
    let read = |range: &Range<u64>| {
        let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let mut buffer = vec![0; length];
        std::os::unix::fs::FileExt::read_exact_at(&*file, &mut buffer, range.start)?;
        Ok(Bytes::from(buffer))
    };
    let read = ranges.iter().map(read).collect::<std::io::Result<_>>()?;
    Ok((file, read))
}

/// Column chunks that are read as a whole have to be whole.
fn check(metadata: &ParquetMetaData, ranges: &[Range<u64>], read: &[Bytes]) -> ParquetResult<()> {
    for group in metadata.row_groups() {
        for chunk in group.columns() {
            let (start, length) = chunk.byte_range();
            let whole = ranges.iter().position(|r| r.start == start && r.end == start + length);
            if let Some(bytes) = whole.and_then(|i| read.get(i)) {
                check_pages(chunk, bytes).map_err(|e| ParquetError::External(Box::new(e)))?;
            }
        }
    }
    Ok(())
}

impl AsyncFileReader for Input {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        async move { Ok(self.read(vec![range]).await?.pop().unwrap_or_default()) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        self.read(ranges).boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        futures::future::ready(Ok(Arc::clone(&self.scan.metadata))).boxed()
    }
}
