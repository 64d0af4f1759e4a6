use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, UInt8Array};
use bytes::Bytes;
use object_store::memory::InMemory;
use uuid::Uuid;

use super::manifest::{Packed, PlanNode, SegmentRef, SourceState, Timeline};
use super::recovery::{Recovery, Verdict, judge, recover};
use super::requests::{Answer, Request, answer, answered, ask, forget, is_wanted, pending};
use super::savepoint::Savepoint;
use super::store::{Holder, Listed, folder_of, newest};
use super::*;
use crate::edges::SplitState;
use crate::error::{ErrorKind, Result};
use crate::stream::snapshot::{PartKind, TablePart};

/// Rows `from..to` with texts, in key groups that are in no order.
fn part(from: i64, to: i64, keyed: bool) -> TablePart {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(from..to));
    let text = |n: i64| (n % 3 > 0).then(|| format!("text {n} é"));
    let texts: ArrayRef = Arc::new(StringArray::from_iter((from..to).map(text)));
    let rows = RecordBatch::try_from_iter_with_nullable([("n", numbers, true), ("s", texts, true)]).unwrap();
    let groups = UInt8Array::from_iter_values((from..to).map(|n| (n * 37 % 128) as u8));
    TablePart { rows, key_groups: keyed.then_some(groups), kind: PartKind::Whole }
}

/// Rows as text with their key groups, sorted.
fn shown(parts: &[TablePart]) -> Vec<String> {
    let mut all = Vec::new();
    for part in parts {
        for row in 0..part.rows.num_rows() {
            let columns = part.rows.columns().iter();
            let values: Vec<String> =
                columns.map(|c| arrow::util::display::array_value_to_string(c, row).unwrap()).collect();
            all.push(format!("{:?} {values:?}", part.key_groups.as_ref().map(|g| g.value(row))));
        }
    }
    all.sort();
    all
}

fn tables() -> OperatorSnapshot {
    BTreeMap::from([
        ("groups".to_owned(), vec![part(0, 1000, true), part(1000, 1001, true), part(0, 0, true)]),
        ("watermark".to_owned(), vec![part(5, 6, false)]),
        ("empty".to_owned(), vec![]),
    ])
}

#[test]
fn state_files_hold_the_tables() {
    let tables = tables();
    let files = segment::encode("op", &tables, true).unwrap();
    assert_eq!((files.len(), files[0].rows), (1, 1002));
    let mut read = OperatorSnapshot::new();
    segment::decode("op", &files[0].bytes, &mut read).unwrap();
    assert_eq!(read.len(), 2);
    for (name, parts) in &read {
        assert_eq!(shown(parts), shown(&tables[name]), "{name}");
        let in_order = |p: &TablePart| p.key_groups.as_ref().is_none_or(|g| g.values().is_sorted());
        assert!(parts.iter().all(in_order));
    }
    let other = segment::decode("another", &files[0].bytes, &mut read).unwrap_err();
    assert!(other.to_string().contains("of operator op, not of another"), "{other}");
    assert!(
        segment::encode("op", &BTreeMap::from([("t".to_owned(), vec![part(0, 0, true)])]), true)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn damage_is_found() {
    let file = segment::encode("op", &tables(), false).unwrap().remove(0).bytes;
    let read = |bytes: &[u8]| {
        let mut into = OperatorSnapshot::new();
        segment::decode("op", &Bytes::copy_from_slice(bytes), &mut into).map(|()| into)
    };
    let whole = shown(&read(&file).unwrap()["groups"]);
    let found = |bytes: &[u8]| match read(bytes) {
        Err(e) => assert_eq!(e.kind(), ErrorKind::Data, "{e}"),
        Ok(state) => assert_eq!(shown(&state["groups"]), whole),
    };
    for at in (0..file.len()).step_by(3) {
        let mut bytes = file.to_vec();
        bytes[at] ^= 1 << (at % 8);
        assert!(read(&bytes).is_err(), "byte {at}");
        found(&bytes[..at]);
        bytes.swap(at, file.len() - 1 - at);
        found(&bytes);
    }
    assert!(read(b"").is_err() && read(b"TLSEG001").is_err());
    let later = [b"TLSEG002".as_slice(), &file[8..file.len() - 8], b"TLSEG002"].concat();
    assert!(read(&later).unwrap_err().to_string().contains("later version"));
}

fn manifest(sequence: u64, parent: Option<u64>) -> Manifest {
    Manifest {
        version: 1,
        job: "j".to_owned(),
        lineage: Uuid::from_u128(7),
        sequence,
        parent,
        epoch: sequence,
        generation: 1,
        taken: 1_700_000_000_000,
        is_end: false,
        decision: None,
        origin: None,
        savepoint: None,
        plan: vec![PlanNode { uid: "u".to_owned(), name: "Calc".to_owned(), detail: "a = 'b'".to_owned() }],
        operators: BTreeMap::new(),
        sources: BTreeMap::from([(
            "s".to_owned(),
            SourceState {
                positions: vec![SplitState { split: "t-0".to_owned(), position: "17".to_owned() }],
                watermark: Some(-5),
            },
        )]),
        sinks: BTreeMap::from([("k".to_owned(), vec![Packed(vec![0, 255, 1])])]),
        ended: BTreeSet::from(["e".to_owned()]),
        timeline: Timeline::default(),
    }
}

#[test]
fn manifests_are_read_back_or_refused() {
    let manifest = manifest(42, Some(41));
    let bytes = manifest.to_bytes().unwrap();
    assert_eq!(Manifest::from_bytes(&bytes).unwrap(), manifest);
    for at in 0..bytes.len() {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 4;
        let e = Manifest::from_bytes(&damaged).map(|m| assert_eq!(m, manifest));
        assert!(e.is_err() || damaged[at].is_ascii_whitespace(), "byte {at}");
        assert!(Manifest::from_bytes(&bytes[..at]).is_err() || at == bytes.len() - 1);
    }
    let later = Manifest { version: 2, ..manifest };
    assert!(Manifest::from_bytes(&later.to_bytes().unwrap()).unwrap_err().to_string().contains("version 2"));
}

#[test]
fn folders_have_the_names_of_jobs() {
    assert_eq!(folder_of("insert-into_db.t"), "insert-into_db.t");
    let odd =
        [folder_of("a b"), folder_of("a/b"), folder_of(".."), folder_of(""), folder_of(&"x".repeat(200))];
    let distinct: BTreeSet<&String> = odd.iter().collect();
    assert_eq!(distinct.len(), odd.len());
    assert!(odd.iter().all(|name| name.len() < 100 && !name.starts_with('.') && !name.contains(['/', ' '])));
}

fn memory() -> Storage {
    Storage::in_bucket("memory://jobs", "jobs", Arc::new(InMemory::new()))
}

fn me() -> Holder {
    Holder::this(0)
}

async fn open(jobs: &Storage, fresh: bool) -> JobStore {
    JobStore::open(jobs, "j", me(), fresh).await.unwrap()
}

async fn found(store: &JobStore, is_committed: bool) -> Option<(u64, bool)> {
    let recovery = recover(store, async |_: &Manifest| Ok(is_committed)).await.unwrap();
    recovery.map(|Recovery { manifest, commit_again }| (manifest.sequence, commit_again))
}

#[tokio::test]
async fn the_newest_checkpoint_that_counts_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let local = Storage::open(dir.path().to_str().unwrap(), dir.path(), &|_| None).unwrap();
    for jobs in [memory(), local] {
        let store = open(&jobs, false).await;
        assert_eq!((found(&store, true).await, store.next_sequence().await.unwrap()), (None, 1));
        store.write_manifest(&manifest(1, None)).await.unwrap();
        assert_eq!(found(&store, true).await, Some((1, true)));
        store.mark_committed(1).await.unwrap();
        assert_eq!(found(&store, true).await, Some((1, false)));
        let decided = Manifest { decision: Some("tx".to_owned()), ..manifest(2, Some(1)) };
        store.write_manifest(&decided).await.unwrap();
        assert_eq!(found(&store, true).await, Some((2, true)));
        assert_eq!(found(&store, false).await, Some((1, false)));
        // The dead one is skipped by its successor.
        store.write_manifest(&manifest(3, Some(1))).await.unwrap();
        assert_eq!(found(&store, false).await, Some((3, true)));
        assert!(store.write_manifest(&manifest(3, Some(1))).await.unwrap_err().is_retryable());
        let end = Manifest { is_end: true, ..manifest(4, Some(3)) };
        store.write_manifest(&end).await.unwrap();
        assert_eq!(found(&store, false).await, Some((4, true)));
        store.mark_committed(4).await.unwrap();
        assert_eq!(found(&store, false).await, Some((4, false)), "nobody has been told of the end");
        // Of one that was being removed a mark may be left: its number is not given out again.
        store.storage().remove("chk/0000000004/manifest.json").await.unwrap();
        assert_eq!(store.next_sequence().await.unwrap(), 5);
        store.finish().await.unwrap();
        assert_eq!((found(&store, false).await, store.next_sequence().await.unwrap()), (None, 1));
        assert!(store.list().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_job_that_was_taken_over_writes_nothing_more() {
    let jobs = memory();
    let old = open(&jobs, false).await;
    old.write_manifest(&manifest(1, None)).await.unwrap();
    let new = open(&jobs, false).await;
    assert_eq!((old.generation(), new.generation()), (1, 2));
    let e = old.write_manifest(&manifest(2, Some(1))).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Validation);
    assert!(e.to_string().contains(&format!("taken over by process {}", std::process::id())), "{e}");
    new.write_manifest(&manifest(2, Some(1))).await.unwrap();
}

#[tokio::test]
async fn a_manifest_that_comes_after_the_end_does_not_count() {
    let jobs = memory();
    let dead = open(&jobs, false).await;
    dead.write_manifest(&manifest(1, None)).await.unwrap();
    let alive = open(&jobs, false).await;
    alive.write_manifest(&Manifest { is_end: true, ..manifest(2, Some(1)) }).await.unwrap();
    alive.mark_committed(2).await.unwrap();
    alive.finish().await.unwrap();
    // It had looked whether it has the job before the other one took it, and creates its second checkpoint now.
    let late = manifest(2, Some(1)).to_bytes().unwrap();
    assert!(dead.storage().create("chk/0000000002/manifest.json", late).await.unwrap());
    assert!(dead.write_manifest(&manifest(3, Some(2))).await.is_err());
    let next = open(&jobs, false).await;
    assert_eq!((found(&next, true).await, next.next_sequence().await.unwrap()), (None, 3));
    next.write_manifest(&manifest(3, None)).await.unwrap();
    next.mark_committed(3).await.unwrap();
    next.collect(1).await.unwrap();
    assert_eq!(super::store::list(next.storage()).await.unwrap(), [Listed { sequence: 3, committed: true }]);
}

#[tokio::test]
async fn a_local_job_has_one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let jobs = Storage::open("here", dir.path(), &|_| None).unwrap();
    let first = open(&jobs, false).await;
    let e = JobStore::open(&jobs, "j", me(), false).await.unwrap_err();
    assert!(e.to_string().contains(&format!("running already: process {}", std::process::id())), "{e}");
    JobStore::open(&jobs, "another", me(), false).await.unwrap();
    drop(first);
    assert_eq!(open(&jobs, false).await.generation(), 2);
}

#[tokio::test]
async fn what_is_begun_anew_leaves_the_old_behind() {
    let jobs = memory();
    let store = open(&jobs, false).await;
    store.write_manifest(&manifest(1, None)).await.unwrap();
    store.write_manifest(&manifest(2, Some(1))).await.unwrap();
    let fresh = open(&jobs, true).await;
    assert_eq!(fresh.left_behind().await.unwrap().map(|m| m.sequence), Some(2));
    assert_eq!((found(&fresh, true).await, fresh.next_sequence().await.unwrap()), (None, 3));
    // Also for the next process, as nothing was written meanwhile.
    let next = open(&jobs, false).await;
    assert_eq!(found(&next, true).await, None);
    next.write_manifest(&manifest(3, None)).await.unwrap();
    next.mark_committed(3).await.unwrap();
    next.collect(5).await.unwrap();
    assert_eq!(super::store::list(next.storage()).await.unwrap(), [Listed { sequence: 3, committed: true }]);
    assert_eq!(found(&open(&jobs, false).await, true).await, Some((3, false)));
}

#[tokio::test]
async fn state_that_no_checkpoint_stands_on_is_removed() {
    let jobs = memory();
    let store = open(&jobs, false).await;
    let mut last: BTreeMap<String, Vec<SegmentRef>> = BTreeMap::new();
    for sequence in 1..=4 {
        let operators = BTreeMap::from([(format!("op{sequence}"), tables())]);
        let mut written = store.write_state(sequence, "", &operators).await.unwrap();
        // Every checkpoint also stands on the files of the one before.
        let own = written.clone();
        written.append(&mut last);
        last = own;
        let operators = written;
        let parent = (sequence > 1).then(|| sequence - 1);
        store.write_manifest(&Manifest { operators, ..manifest(sequence, parent) }).await.unwrap();
        if sequence < 4 {
            store.mark_committed(sequence).await.unwrap();
        }
    }
    store.collect(1).await.unwrap();
    let left: Vec<u64> = store.list().await.unwrap().iter().map(|l| l.sequence).collect();
    assert_eq!(left, [3, 4], "the newest and the one to go back to");
    assert_eq!(store.storage().list("state").await.unwrap().len(), 3);
    let newest = store.manifest(4).await.unwrap();
    let snapshot = store.load(&newest).await.unwrap();
    assert_eq!(snapshot.operators.keys().collect::<Vec<_>>(), ["op3", "op4"]);
    assert_eq!(shown(&snapshot.operators["op4"]["groups"]), shown(&tables()["groups"]));
    assert_eq!((snapshot.epoch, snapshot.watermarks["s"].0), (4, -5));
    assert_eq!(snapshot.committables["k"], [vec![0, 255, 1]]);
    store.storage().remove(&newest.operators["op4"][0].path).await.unwrap();
    let e = store.load(&newest).await.unwrap_err();
    assert!(e.to_string().contains("op4") && e.to_string().contains("is gone"), "{e}");
}

#[test]
fn the_decision_is_a_function_of_the_listing() {
    let listed = |committed| Listed { sequence: 1, committed };
    let plain = manifest(1, None);
    let end = Manifest { is_end: true, ..plain.clone() };
    let asked = Manifest { decision: Some("tx".to_owned()), ..plain.clone() };
    assert_eq!(judge(None), Verdict::Begin);
    assert_eq!(judge(Some((listed(true), &plain))), Verdict::GoOn);
    assert_eq!(judge(Some((listed(false), &plain))), Verdict::CommitAgain);
    assert_eq!(judge(Some((listed(true), &end))), Verdict::Ended);
    assert_eq!(judge(Some((listed(false), &end))), Verdict::CommitAgain);
    assert_eq!(judge(Some((listed(true), &asked))), Verdict::GoOn);
    assert_eq!(judge(Some((listed(false), &asked))), Verdict::Ask);
}

#[tokio::test]
async fn files_are_created_once() {
    let dir = tempfile::tempdir().unwrap();
    let local = Storage::open("file://", dir.path(), &|_| None);
    assert!(local.is_ok());
    let local = Storage::open("a", dir.path(), &|_| None).unwrap();
    for storage in [memory(), local] {
        assert!(storage.create("x/y/1", Bytes::from("one")).await.unwrap());
        assert!(!storage.create("x/y/1", Bytes::from("two")).await.unwrap());
        assert_eq!(storage.read("x/y/1").await.unwrap().unwrap(), "one");
        assert!(storage.create("x/0", Bytes::new()).await.unwrap());
        assert_eq!(storage.list("x").await.unwrap(), ["x/0", "x/y/1"]);
        assert_eq!(storage.read("x/2").await.unwrap(), None);
        storage.remove("x/y/1").await.unwrap();
        storage.remove("x/y/1").await.unwrap();
        assert_eq!(storage.list("x").await.unwrap(), ["x/0"]);
        assert!(storage.list("z").await.unwrap().is_empty());
        assert_eq!(storage.folders().await.unwrap(), ["x"]);
    }
    let e = Storage::open("gs://b", dir.path(), &|_| None).unwrap_err();
    assert!(e.to_string().contains("supported: local paths"), "{e}");
    let nothing: Result<Storage> = Storage::open("s3://", dir.path(), &|_| None);
    assert!(nothing.unwrap_err().to_string().contains("no bucket"));
}

#[tokio::test]
async fn a_savepoint_is_made_of_what_is_settled() {
    let jobs = memory();
    let (store, to) = (open(&jobs, false).await, jobs.folder("savepoints"));
    let job = store.storage();
    assert_eq!(newest(job).await.unwrap(), None);
    let operators = store.write_state(1, "", &BTreeMap::from([("op".to_owned(), tables())])).await.unwrap();
    let first = Manifest { operators, ..manifest(1, None) };
    store.write_manifest(&first).await.unwrap();
    let e = newest(job).await.unwrap_err().to_string();
    assert!(e.contains("nobody knows whether checkpoint 1 counts"), "{e}");
    store.mark_committed(1).await.unwrap();
    assert_eq!(newest(job).await.unwrap().unwrap(), first);
    let made = Savepoint::create(job, &first, &to, false).await.unwrap();
    let name = made.url().rsplit('/').next().unwrap().to_owned();
    let opened = Savepoint::open(to.parent().unwrap().folder("savepoints").folder(&name)).await.unwrap();
    assert!(opened.id() == made.id() && opened.job_folder().is_none());
    assert!(opened.manifest.sinks.is_empty() && opened.manifest.parent.is_none());
    let checkpoint = Savepoint::open(job.folder("chk").folder("0000000001")).await.unwrap();
    assert!(checkpoint.job_folder().is_some_and(|folder| folder.same_place(job)));
    assert!(checkpoint.clone().remove().await.unwrap_err().to_string().contains("which its job removes"));
    assert_eq!(Savepoint::list(&to).await.unwrap().len(), 1);
    // A second one with the same state: nothing of the first is touched when it goes.
    let again = Savepoint::create(job, &first, &to, false).await.unwrap();
    again.remove().await.unwrap();
    let end = Manifest { is_end: true, ..manifest(2, Some(1)) };
    store.write_manifest(&end).await.unwrap();
    store.mark_committed(2).await.unwrap();
    for e in [
        newest(job).await.unwrap_err(),
        Savepoint::open(job.folder("chk").folder("0000000002")).await.unwrap_err(),
        Savepoint::create(job, &end, &to, false).await.unwrap_err(),
    ] {
        assert!(e.to_string().contains("ended"), "{e}");
    }
    store.finish().await.unwrap();
    assert_eq!(opened.load_operator("op").await.unwrap().keys().collect::<Vec<_>>(), ["groups", "watermark"]);
    opened.remove().await.unwrap();
    assert!(to.list("").await.unwrap().is_empty());
    // What --fresh has left behind is nobody's state.
    let store = open(&jobs, false).await;
    store.write_manifest(&manifest(3, None)).await.unwrap();
    store.mark_committed(3).await.unwrap();
    let fresh = open(&jobs, true).await;
    assert_eq!(newest(fresh.storage()).await.unwrap(), None);
}

#[tokio::test]
async fn requests_are_for_whoever_was_asked() {
    let job = memory();
    let request = |n: u128, generation, expires| Request {
        id: Uuid::from_u128(n),
        dir: None,
        stop: false,
        drain: false,
        generation,
        expires,
    };
    let (any, second, old) = (request(1, None, 100), request(2, Some(2), 100), request(3, None, 9));
    for r in [&any, &second, &old] {
        ask(&job, r).await.unwrap();
    }
    assert_eq!(pending(&job, 10, 1).await.unwrap(), Some(any.clone()));
    answer(&job, any.id, &Answer::Failed("no".to_owned())).await.unwrap();
    assert_eq!(pending(&job, 10, 1).await.unwrap(), None);
    assert_eq!(pending(&job, 10, 2).await.unwrap(), Some(second.clone()));
    assert_eq!(answered(&job, any.id).await.unwrap(), Some(Answer::Failed("no".to_owned())));
    assert_eq!((is_wanted(&job, second.id).await, is_wanted(&job, old.id).await), (true, false), "expired");
    forget(&job, any.id).await.unwrap();
    forget(&job, second.id).await.unwrap();
    // Nobody waits any more: what is answered then is removed.
    answer(&job, second.id, &Answer::Made("there".to_owned())).await.unwrap();
    assert_eq!(pending(&job, 10, 2).await.unwrap(), None);
    assert!(job.list("savepoint").await.unwrap().is_empty());
}
