use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::physical_plan::PhysicalExpr;

use super::*;
use crate::edges::lookup::{Found, FullCacheOptions, LookupRows, LookupSource, PartialCacheOptions};
use crate::edges::{Notices, ScanRequest, Source, SourceEvent, SourceReader, SplitState};
use crate::error::{Error, Result};
use crate::stream::ChangeBatch;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("v", DataType::Utf8, false),
    ]))
}

fn keys(keys: &[i64]) -> RecordBatch {
    let schema = Schema::new(vec![Field::new("k", DataType::Int64, false)]);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int64Array::from(keys.to_vec()))]).unwrap()
}

fn rows(rows: &[(Option<i64>, &str)]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter(rows.iter().map(|r| r.0))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.1))),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// The values of each key.
fn values(found: &LookupRows) -> Vec<Vec<String>> {
    let of = |Found { batch, first, rows }: &Found| -> Vec<String> {
        if *rows == 0 {
            return Vec::new();
        }
        let column = found.batches[*batch as usize].rows.column(1).slice(*first as usize, *rows as usize);
        column.as_string::<i32>().iter().map(|v| v.unwrap().to_owned()).collect()
    };
    found.found.iter().map(of).collect()
}

/// A table whose rows change.
#[derive(Debug, Default)]
struct Changing {
    rows: Mutex<BTreeMap<i64, Vec<String>>>,
    asked: Mutex<Vec<Vec<i64>>>,
    fails: AtomicBool,
}

impl Changing {
    fn set(&self, key: i64, values: &[&str]) {
        self.rows.lock().unwrap().insert(key, values.iter().map(|v| (*v).to_owned()).collect());
    }

    fn asked(&self) -> Vec<Vec<i64>> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

#[async_trait]
impl LookupSource for Changing {
    async fn lookup(&self, keys: &RecordBatch) -> Result<LookupRows> {
        let keys = keys.column(0).as_primitive::<Int64Type>().values().to_vec();
        self.asked.lock().unwrap().push(keys.clone());
        let all = self.rows.lock().unwrap();
        let (mut found, mut of) = (Vec::new(), Vec::new());
        for (i, key) in keys.iter().enumerate() {
            for value in all.get(key).into_iter().flatten() {
                found.push((Some(*key), value.as_str()));
                of.push(i as u32);
            }
        }
        LookupRows::of_keys(rows(&found), &of, keys.len())
    }
}

fn partial(table: &Arc<Changing>, options: PartialCacheOptions) -> PartialCache {
    PartialCache::new(table.clone(), &[DataType::Int64], options).unwrap()
}

const UNBOUNDED: PartialCacheOptions = PartialCacheOptions {
    max_rows: None,
    expire_after_write: None,
    expire_after_access: None,
    cache_missing_key: true,
};

#[tokio::test]
async fn the_keys_used_last_are_kept() {
    let table = Arc::new(Changing::default());
    for key in 0..10 {
        table.set(key, &[&format!("a{key}"), &format!("b{key}")]);
    }
    let cache = partial(&table, PartialCacheOptions { max_rows: Some(3), ..UNBOUNDED });
    let found = cache.lookup(&keys(&[1, 2, 20])).await.unwrap();
    assert_eq!(values(&found), [vec!["a1", "b1"], vec!["a2", "b2"], vec![]]);
    // 20 is known to be missing; 1 is used, so that 2 goes for 3.
    let found = cache.lookup(&keys(&[20, 1, 3])).await.unwrap();
    assert_eq!(values(&found), [vec![], vec!["a1", "b1"], vec!["a3", "b3"]]);
    let found = cache.lookup(&keys(&[2, 1])).await.unwrap();
    assert_eq!(values(&found), [vec!["a2", "b2"], vec!["a1", "b1"]]);
    assert_eq!(table.asked(), [vec![1, 2, 20], vec![3], vec![2]]);
    assert_eq!(cache.len(), 3);
    // More than fit at once.
    let found = cache.lookup(&keys(&[0, 1, 2, 3, 4, 5, 6])).await.unwrap();
    assert_eq!(values(&found).len(), 7);
    assert!(values(&found).iter().all(|v| v.len() == 2));
    assert_eq!(cache.len(), 3);
}

#[tokio::test]
async fn missing_keys_are_kept_only_if_wanted() {
    let table = Arc::new(Changing::default());
    let cache = partial(&table, PartialCacheOptions { cache_missing_key: false, ..UNBOUNDED });
    assert_eq!(values(&cache.lookup(&keys(&[7])).await.unwrap()), [Vec::<String>::new()]);
    table.set(7, &["x"]);
    assert_eq!(values(&cache.lookup(&keys(&[7])).await.unwrap()), [["x"]]);
    table.set(7, &["y"]);
    assert_eq!(values(&cache.lookup(&keys(&[7])).await.unwrap()), [["x"]]);
    assert_eq!(table.asked().len(), 2);
}

#[tokio::test]
async fn keys_expire() {
    let table = Arc::new(Changing::default());
    table.set(1, &["old"]);
    let short = Some(Duration::from_millis(30));
    let cache = partial(&table, PartialCacheOptions { expire_after_write: short, ..UNBOUNDED });
    cache.lookup(&keys(&[1, 2])).await.unwrap();
    table.set(1, &["new"]);
    assert_eq!(values(&cache.lookup(&keys(&[1])).await.unwrap()), [["old"]]);
    tokio::time::sleep(Duration::from_millis(40)).await;
    // Those that nobody asks for go, too.
    assert_eq!(values(&cache.lookup(&keys(&[1])).await.unwrap()), [["new"]]);
    assert_eq!(cache.len(), 1);
}

/// However the cache throws away and gathers, it answers what the table has.
#[tokio::test]
async fn what_is_kept_is_right_after_much_coming_and_going() {
    let table = Arc::new(Changing::default());
    for key in 0..40_000 {
        let values: Vec<String> = (0..key % 4).map(|i| format!("{key}/{i}")).collect();
        table.set(key, &values.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let cache = partial(&table, PartialCacheOptions { max_rows: Some(500), ..UNBOUNDED });
    let mut state = 1u64;
    for _ in 0..60 {
        let mut asked: Vec<i64> = (0..2000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                ((state >> 33) % 40_000) as i64
            })
            .collect();
        asked.extend(0..50);
        asked.sort_unstable();
        asked.dedup();
        let found = values(&cache.lookup(&keys(&asked)).await.unwrap());
        for (key, values) in asked.iter().zip(found) {
            let expected: Vec<String> = (0..key % 4).map(|i| format!("{key}/{i}")).collect();
            assert_eq!(values, expected);
        }
        assert!(cache.len() <= 500);
    }
}

#[tokio::test]
async fn what_is_not_found_is_asked_for_again() {
    let table = Arc::new(Changing::default());
    table.set(1, &["x"]);
    let retry = MissRetry::new(table.clone(), Duration::from_millis(300), 3);
    let later = table.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(5)).await;
        later.set(2, &["late"]);
    });
    let found = retry.lookup(&keys(&[5, 1, 2])).await.unwrap();
    assert_eq!(values(&found), [vec![], vec!["x"], vec!["late"]]);
    assert_eq!(table.asked(), [vec![5, 1, 2], vec![5, 2], vec![5], vec![5]]);
}

fn column(name: &str, i: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(name, i))
}

/// Rows with another value than 'no', with `v` before `k`.
fn shape() -> Shape {
    Shape {
        condition: Some(Arc::new(BinaryExpr::new(
            column("v", 1),
            Operator::NotEq,
            Arc::new(Literal::new("no".into())),
        ))),
        columns: vec![column("k", 0), column("v", 1)],
        schema: schema(),
    }
}

#[tokio::test]
async fn rows_are_shaped_after_they_were_found() {
    let table = Arc::new(Changing::default());
    table.set(1, &["no", "a", "no", "b"]);
    table.set(2, &["no"]);
    table.set(3, &["c"]);
    let shaped = Shaped::new(table, shape());
    let found = shaped.lookup(&keys(&[3, 2, 1, 9])).await.unwrap();
    assert_eq!(values(&found), [vec!["c"], vec![], vec!["a", "b"], vec![]]);
}

#[async_trait]
impl Source for Changing {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn bounded(&self) -> bool {
        true
    }

    async fn readers(
        &self,
        _scan: ScanRequest,
        parallelism: usize,
        _restored: Option<Vec<SplitState>>,
    ) -> Result<Vec<Box<dyn SourceReader>>> {
        assert_eq!(parallelism, 1);
        if self.fails.load(Ordering::Relaxed) {
            return Err(Error::external("the disk is gone"));
        }
        let all = self.rows.lock().unwrap();
        let rows = |(key, values): (&i64, &Vec<String>)| {
            let with_key = |v: &String| rows(&[((*key >= 0).then_some(*key), v)]);
            values.iter().map(with_key).collect::<Vec<_>>()
        };
        Ok(vec![Box::new(Rows(all.iter().flat_map(rows).collect()))])
    }
}

struct Rows(Vec<RecordBatch>);

#[async_trait]
impl SourceReader for Rows {
    async fn next(&mut self) -> Result<SourceEvent> {
        tokio::task::yield_now().await;
        Ok(match self.0.pop() {
            Some(rows) => SourceEvent::Batch { split: 0, batch: ChangeBatch::insert_only(rows) },
            None => SourceEvent::End,
        })
    }

    fn snapshot(&self) -> Result<Vec<SplitState>> {
        Ok(Vec::new())
    }
}

fn full(source: &Arc<Changing>, reload: Option<Duration>) -> (FullCache, Notices) {
    let notices = Notices::default();
    let cache = FullCache::new(FullCacheConfig {
        table: "t".to_owned(),
        source: source.clone(),
        scan: ScanRequest::default(),
        shape: shape(),
        keys: vec![column("k", 0)],
        key_types: vec![DataType::Int64],
        options: FullCacheOptions { reload_interval: reload, fixed_rate: false },
        notices: notices.clone(),
    });
    (cache, notices)
}

#[tokio::test]
async fn a_whole_table_is_kept_by_key() {
    let table = Arc::new(Changing::default());
    table.set(1, &["a", "no", "b"]);
    table.set(2, &["no"]);
    table.set(3, &["c"]);
    // NULL.
    table.set(-1, &["d"]);
    let (cache, _) = full(&table, None);
    let found = cache.lookup(&keys(&[3, 2, 1, 4])).await.unwrap();
    // The reader gives the last first.
    assert_eq!(values(&found), [vec!["c"], vec![], vec!["b", "a"], vec![]]);
    table.set(3, &["later"]);
    assert_eq!(values(&cache.lookup(&keys(&[3])).await.unwrap()), [["c"]]);
    let (empty, _) = full(&Arc::default(), None);
    assert_eq!(values(&empty.lookup(&keys(&[3])).await.unwrap()), [Vec::<String>::new()]);
}

#[tokio::test]
async fn a_whole_table_is_cut_between_keys() {
    let table = Arc::new(Changing::default());
    for key in 0..30_000 {
        let values: Vec<String> = (0..1 + key % 2).map(|i| format!("{key}/{i}")).collect();
        table.set(key, &values.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let (cache, _) = full(&table, None);
    let all: Vec<i64> = (0..30_000).rev().collect();
    let found = cache.lookup(&keys(&all)).await.unwrap();
    assert!(found.batches.len() > 3);
    for (key, values) in all.iter().zip(values(&found)) {
        let expected: Vec<String> = (0..1 + key % 2).rev().map(|i| format!("{key}/{i}")).collect();
        assert_eq!(values, expected);
    }
}

#[tokio::test]
async fn a_whole_table_is_read_again() {
    let table = Arc::new(Changing::default());
    table.set(1, &["a"]);
    let (cache, notices) = full(&table, Some(Duration::from_millis(10)));
    assert_eq!(values(&cache.lookup(&keys(&[1])).await.unwrap()), [["a"]]);
    table.set(1, &["b"]);
    let becomes = async |expected: &str| {
        for _ in 0..500 {
            if values(&cache.lookup(&keys(&[1])).await.unwrap()) == [[expected]] {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("never {expected}");
    };
    becomes("b").await;
    // While it cannot be read, what is there stays.
    table.fails.store(true, Ordering::Relaxed);
    table.set(1, &["c"]);
    let told = notices.next().await;
    assert!(told.contains("table t: the disk is gone; lookups go on"), "{told}");
    becomes("b").await;
    table.fails.store(false, Ordering::Relaxed);
    becomes("c").await;
    assert_eq!(notices.next().await, "table t is read again");
    drop(cache);
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(Arc::strong_count(&table), 1);
}

#[tokio::test]
async fn a_table_that_cannot_be_read_at_first_is_an_error() {
    let table = Arc::new(Changing::default());
    table.fails.store(true, Ordering::Relaxed);
    let (cache, _) = full(&table, None);
    let e = cache.lookup(&keys(&[1])).await.unwrap_err().to_string();
    assert!(e.contains("table t: the disk is gone"), "{e}");
}
