use std::path::Path;
use std::sync::Arc;

use datafusion::prelude::{col, lit};

use super::tests::{drain, id_table, open, read_all};
use crate::edges::{ScanRequest, Source, SourceMetrics};

/// Writes `files` Parquet files of `groups` row groups of 100 rows; `id` counts through.
fn write_parquet(dir: &Path, files: i32, groups: i32) {
    use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
    let batch = |ids: std::ops::Range<i32>| {
        let texts = StringArray::from_iter_values(ids.clone().map(|i| format!("t{i}")));
        let ids = Int32Array::from_iter_values(ids);
        RecordBatch::try_from_iter([("s", Arc::new(texts) as ArrayRef), ("id", Arc::new(ids) as ArrayRef)])
            .unwrap()
    };
    for file in 0..files {
        let mut out = Vec::new();
        let mut writer =
            ::parquet::arrow::ArrowWriter::try_new(&mut out, batch(0..1).schema(), None).unwrap();
        for group in file * groups..(file + 1) * groups {
            writer.write(&batch(group * 100..(group + 1) * 100)).unwrap();
            writer.flush().unwrap();
        }
        writer.close().unwrap();
        std::fs::write(dir.join(format!("{file}.parquet")), out).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parquet_files_split_resume_and_prune() {
    let dir = tempfile::tempdir().unwrap();
    write_parquet(dir.path(), 3, 4);
    let mut expected: Vec<String> = (0..1200).map(|i| format!("{i}|t{i}")).collect();
    expected.sort();
    let t = id_table(&[("path", "."), ("format", "parquet")]);
    let mut s = open(&t, dir.path()).unwrap();
    for split_bytes in [u64::MAX / 16, 500, 50] {
        s.split_bytes = split_bytes;
        let metrics = Arc::new(SourceMetrics::default());
        let scan = ScanRequest { metrics: metrics.clone(), ..ScanRequest::default() };
        assert_eq!(read_all(&s, scan, 2).await.unwrap(), expected, "{split_bytes}");
        for stop in [0, 30, 100, 130, 555, 1199] {
            let scan = || ScanRequest { batch_rows: 30, ..ScanRequest::default() };
            let mut readers = s.readers(scan(), 2, None).await.unwrap();
            let (mut rows, mut states) = (Vec::new(), Vec::new());
            for r in &mut readers {
                rows.extend(drain(&mut **r, stop / 2).await.unwrap().0);
                states.extend(r.snapshot().unwrap());
            }
            drop(readers);
            for mut r in s.readers(scan(), 3, Some(states)).await.unwrap() {
                rows.extend(drain(&mut *r, usize::MAX).await.unwrap().0);
            }
            rows.sort();
            assert_eq!(rows, expected, "{split_bytes} {stop}");
        }
    }
    let scan = ScanRequest { filters: vec![col("id").gt(lit(950))], ..ScanRequest::default() };
    assert_eq!(read_all(&s, scan, 1).await.unwrap().len(), 300);
    let scan = ScanRequest { projection: Some(vec![]), ..ScanRequest::default() };
    let mut readers = s.readers(scan, 1, None).await.unwrap();
    assert_eq!(drain(&mut *readers[0], usize::MAX).await.unwrap().0.len(), 1200);
    std::fs::write(dir.path().join("bad.parquet"), b"PAR1 no").unwrap();
    let e = read_all(&s, ScanRequest::default(), 1).await.unwrap_err().to_string();
    assert!(e.contains("bad.parquet"), "{e}");
}
