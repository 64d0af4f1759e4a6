//! The folder of one job: taken over by a process, written to at every checkpoint, read to go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;
use tokio::sync::Semaphore;
use xxhash_rust::xxh3::xxh3_64;

use super::JobSnapshot;
pub use super::holder::{Holder, shown_time};
use super::manifest::{Manifest, SegmentRef};
use super::storage::{FolderLock, Storage};
use super::{increments, segment};
use crate::error::{Error, Result, ResultExt};
use crate::failpoint::failpoint;
use crate::stream::Timestamp;
use crate::stream::snapshot::OperatorSnapshot;

/// State files that are written or read at once.
const PARALLEL: usize = 8;

/// A checkpoint that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Its number.
    pub sequence: u64,
    /// Whether its sinks have committed.
    pub committed: bool,
}

/// The folder of a job, taken by this process.
#[derive(Debug)]
pub struct JobStore {
    storage: Storage,
    job: String,
    generation: u64,
    /// Checkpoints up to this number do not count.
    floor: u64,
    holder: Holder,
    _lock: Option<FolderLock>,
}

/// Name of a job's folder: its own name where that can be one.
pub fn folder_of(job: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let plain: String = job.chars().map(|c| if is_plain(c) { c } else { '_' }).take(80).collect();
    if plain == job && !plain.starts_with('.') && !plain.is_empty() {
        return plain;
    }
    let hash = format!("{:016x}", xxh3_64(job.as_bytes()));
    format!("{}-{}", plain.trim_start_matches('.'), hash.get(..8).unwrap_or_default())
}

fn manifest_path(sequence: u64) -> String {
    format!("chk/{sequence:010}/manifest.json")
}

fn committed_path(sequence: u64) -> String {
    format!("chk/{sequence:010}/committed")
}

fn generation_path(generation: u64) -> String {
    format!("generation/{generation:010}.json")
}

/// The checkpoints in a job's folder, oldest first.
///
/// # Errors
/// External.
pub async fn list(storage: &Storage) -> Result<Vec<Listed>> {
    let listed = numbers(storage).await?.into_iter().filter(|(_, (manifest, _))| *manifest);
    Ok(listed.map(|(sequence, (_, committed))| Listed { sequence, committed }).collect())
}

/// By number, whether there is a manifest and whether there is a mark: of one that was being removed a mark may be left.
async fn numbers(storage: &Storage) -> Result<BTreeMap<u64, (bool, bool)>> {
    let mut found: BTreeMap<u64, (bool, bool)> = BTreeMap::new();
    for path in storage.list("chk").await? {
        let mut parts = path.split('/').skip(1);
        let (Some(sequence), Some(file)) = (parts.next().and_then(|n| n.parse().ok()), parts.next()) else {
            continue;
        };
        let entry = found.entry(sequence).or_default();
        match file {
            "manifest.json" => entry.0 = true,
            "committed" => entry.1 = true,
            _ => {}
        }
    }
    Ok(found)
}

/// Reads a manifest.
///
/// # Errors
/// External; Data if it is damaged or gone.
pub async fn manifest(storage: &Storage, sequence: u64) -> Result<Manifest> {
    let path = manifest_path(sequence);
    let bytes = storage.read(&path).await?;
    let bytes = bytes.ok_or_else(|| Error::data("the manifest is gone").context(storage.shown(&path)))?;
    let manifest = Manifest::from_bytes(&bytes).context(|| storage.shown(&path))?;
    if manifest.sequence != sequence {
        return Err(Error::data(format!("it is the manifest of checkpoint {}", manifest.sequence))
            .context(storage.shown(&path)));
    }
    Ok(manifest)
}

/// Numbers of the processes that have taken the job, oldest first.
async fn generations(storage: &Storage) -> Result<Vec<u64>> {
    let paths = storage.list("generation").await?;
    let number = |p: &String| p.rsplit('/').next()?.strip_suffix(".json")?.parse().ok();
    Ok(paths.iter().filter_map(number).collect())
}

async fn holder(storage: &Storage, generation: u64) -> Result<Option<Holder>> {
    let bytes = storage.read(&generation_path(generation)).await?;
    Ok(bytes.and_then(|b| serde_json::from_slice(&b).ok()))
}

/// Checkpoints up to this number do not count, as those who have taken the job say.
async fn floor(storage: &Storage, taken: &[u64]) -> Result<u64> {
    let mut floor = 0;
    for generation in taken {
        let holder = holder(storage, *generation).await?;
        floor = holder.and_then(|h| h.fresh_after).unwrap_or(0).max(floor);
    }
    Ok(floor)
}

/// The number of the process that has the job; `None` if nobody has run it.
///
/// # Errors
/// External.
pub async fn generation(storage: &Storage) -> Result<Option<u64>> {
    Ok(generations(storage).await?.last().copied())
}

/// The newest checkpoint of a job that does not run, for whoever wants its state; `None` if it has none.
///
/// # Errors
/// External; Validation if nobody knows yet whether it counts, or if the job has ended.
pub async fn newest(storage: &Storage) -> Result<Option<Manifest>> {
    let floor = floor(storage, &generations(storage).await?).await?;
    let Some(newest) = list(storage).await?.into_iter().rfind(|l| l.sequence > floor) else {
        return Ok(None);
    };
    let shown = || storage.to_string();
    if !newest.committed {
        let text = format!("nobody knows whether checkpoint {} counts: it is under way", newest.sequence);
        return Err(Error::validation(format!(
            "{text}, or its process has died before its sinks had committed"
        ))
        .context(shown())
        .hint(
            "run the job once, so that it commits or takes back what is left; or name an older checkpoint",
        ));
    }
    let manifest = manifest(storage, newest.sequence).await?;
    if manifest.is_end {
        return Err(Error::validation("the job has ended: there is nothing to go on from").context(shown()));
    }
    Ok(Some(manifest))
}

impl JobStore {
    /// Takes over the job `job` in the folder of all jobs. With `fresh` the checkpoints so far do not count any more.
    ///
    /// # Errors
    /// External; Validation if a live process of this machine has it.
    pub async fn open(jobs: &Storage, job: &str, mut me: Holder, fresh: bool) -> Result<Self> {
        let storage = jobs.folder(&folder_of(job));
        let text = serde_json::to_string(&me).map_err(|e| Error::internal(e.to_string()))?;
        let lock = match storage.lock("lock", &text)? {
            Ok(lock) => lock,
            Err(other) => {
                let other = serde_json::from_str::<Holder>(&other).ok();
                let other = other.map_or_else(|| "another process".to_owned(), |h| h.shown());
                return Err(Error::validation(format!("the job '{job}' is running already: {other}"))
                    .context(storage.to_string())
                    .hint("stop that process, or give this job another 'pipeline.name'"));
            }
        };
        loop {
            let taken = generations(&storage).await?;
            let mut floor = floor(&storage, &taken).await?;
            if fresh {
                let newest = numbers(&storage).await?.into_keys().next_back();
                floor = newest.map_or(floor, |newest| newest.max(floor));
            }
            me.fresh_after = (floor > 0).then_some(floor);
            let generation = taken.last().map_or(1, |newest| newest + 1);
            let text = serde_json::to_vec_pretty(&me).map_err(|e| Error::internal(e.to_string()))?;
            if storage.create(&generation_path(generation), text.into()).await? {
                failpoint("job-taken");
                for old in taken {
                    storage.remove(&generation_path(old)).await?;
                }
                let job = job.to_owned();
                return Ok(JobStore { storage, job, generation, floor, holder: me, _lock: lock });
            }
        }
    }

    /// Where it is.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Name of the job.
    pub fn job(&self) -> &str {
        &self.job
    }

    /// Number of this process among those that have run the job.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The checkpoints that count, oldest first.
    ///
    /// # Errors
    /// External.
    pub async fn list(&self) -> Result<Vec<Listed>> {
        let mut listed = list(&self.storage).await?;
        listed.retain(|l| l.sequence > self.floor);
        Ok(listed)
    }

    /// The newest checkpoint that counts, whether its sinks have committed or not.
    ///
    /// # Errors
    /// External; Data if its manifest is damaged.
    pub async fn newest(&self) -> Result<Option<Manifest>> {
        match self.list().await?.last() {
            Some(newest) => self.manifest(newest.sequence).await.map(Some),
            None => Ok(None),
        }
    }

    /// The newest checkpoint that does not count any more, as the job was begun anew.
    ///
    /// # Errors
    /// External.
    pub async fn left_behind(&self) -> Result<Option<Manifest>> {
        match list(&self.storage).await?.last() {
            Some(newest) if newest.sequence <= self.floor => self.manifest(newest.sequence).await.map(Some),
            _ => Ok(None),
        }
    }

    /// The number that the next checkpoint gets.
    ///
    /// # Errors
    /// External.
    pub async fn next_sequence(&self) -> Result<u64> {
        let newest = numbers(&self.storage).await?.into_keys().next_back();
        Ok(newest.map_or(self.floor, |newest| newest.max(self.floor)) + 1)
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// External; Data if it is damaged or gone.
    pub async fn manifest(&self, sequence: u64) -> Result<Manifest> {
        manifest(&self.storage, sequence).await
    }

    /// Reads the state of a checkpoint.
    ///
    /// # Errors
    /// External; Data, naming the file, if one is damaged or gone.
    pub async fn load(&self, manifest: &Manifest) -> Result<JobSnapshot> {
        load(&self.storage, manifest).await
    }

    /// Writes the state of operators; `part` distinguishes what one process writes in one epoch.
    ///
    /// # Errors
    /// External.
    pub async fn write_state(
        &self,
        epoch: u64,
        part: &str,
        operators: &BTreeMap<String, OperatorSnapshot>,
    ) -> Result<BTreeMap<String, Vec<SegmentRef>>> {
        let room = Arc::new(Semaphore::new(PARALLEL));
        let written = operators.iter().map(|(uid, tables)| {
            let (room, uid, tables) = (room.clone(), uid.clone(), tables.clone());
            async move {
                let _room = room.acquire().await.map_err(|e| Error::internal(e.to_string()))?;
                let (name, compress) = (uid.clone(), self.storage.is_remote());
                let encode = move || segment::encode(&name, &tables, compress);
                let segments = tokio::task::spawn_blocking(encode).await??;
                let mut refs = Vec::with_capacity(segments.len());
                for (i, segment) in segments.into_iter().enumerate() {
                    let path = format!("state/{uid}/{}-{epoch}{part}-{i}.segment", self.generation);
                    refs.push(SegmentRef {
                        path: path.clone(),
                        bytes: segment.bytes.len() as u64,
                        rows: segment.rows,
                        epoch,
                        lasts: segment.lasts,
                    });
                    if !self.storage.create(&path, segment.bytes).await? {
                        return Err(Error::internal("a state file is there already")
                            .context(self.storage.shown(&path)));
                    }
                }
                Ok::<_, Error>((uid, refs))
            }
        });
        let written = try_join_all(written).await?;
        Ok(written.into_iter().filter(|(_, refs)| !refs.is_empty()).collect())
    }

    /// Writes a manifest: from now on the checkpoint counts.
    ///
    /// # Errors
    /// External, also if the number is taken; Validation if another process has taken the job over.
    pub async fn write_manifest(&self, manifest: &Manifest) -> Result<()> {
        self.check_owner().await?;
        let created = self.storage.create(&manifest_path(manifest.sequence), manifest.to_bytes()?).await?;
        // Whoever took the job over after this sees the manifest; whoever did before is seen here.
        self.check_owner().await?;
        if created {
            return Ok(());
        }
        Err(Error::external(format!(
            "a dead process of the job has written checkpoint {}",
            manifest.sequence
        )))
    }

    async fn check_owner(&self) -> Result<()> {
        match generations(&self.storage).await?.last() {
            Some(newest) if *newest > self.generation => {
                let holder = holder(&self.storage, *newest).await?;
                Err(self.taken(&holder.map_or_else(|| "another process".to_owned(), |h| h.shown())))
            }
            _ => Ok(()),
        }
    }

    fn taken(&self, by: &str) -> Error {
        Error::validation(format!("the job '{}' was taken over by {by}", self.job))
            .context(self.storage.to_string())
            .hint("it goes on there; nothing of this process is committed any more")
    }

    /// The sinks of a checkpoint have committed.
    ///
    /// # Errors
    /// External.
    pub async fn mark_committed(&self, sequence: u64) -> Result<()> {
        self.storage.create(&committed_path(sequence), Bytes::new()).await.map(|_| ())
    }

    /// Removes all but the newest `retained` committed checkpoints, their parents as far as they may be gone back to,
    /// and the state that none of those stands on.
    ///
    /// # Errors
    /// External.
    pub async fn collect(&self, retained: usize) -> Result<()> {
        let listed = list(&self.storage).await?;
        let counting = listed.iter().rev().filter(|l| l.sequence > self.floor);
        let mut left = retained.max(1);
        let mut kept = BTreeSet::new();
        for checkpoint in counting {
            if left == 0 {
                break;
            }
            kept.insert(checkpoint.sequence);
            left -= usize::from(checkpoint.committed);
        }
        for old in listed.iter().filter(|l| !kept.contains(&l.sequence)) {
            self.remove(old.sequence).await?;
        }
        let mut needed = BTreeSet::new();
        for sequence in &kept {
            let manifest = self.manifest(*sequence).await?;
            needed.extend(manifest.operators.into_values().flatten().map(|s| s.path));
        }
        for path in self.storage.list("state").await?.iter().filter(|p| !needed.contains(*p)) {
            self.storage.remove(path).await?;
        }
        Ok(())
    }

    async fn remove(&self, sequence: u64) -> Result<()> {
        // A manifest without its mark would look like one that has to be committed.
        self.storage.remove(&manifest_path(sequence)).await?;
        failpoint("manifest-removed");
        self.storage.remove(&committed_path(sequence)).await
    }

    /// The job has ended: nothing is left to go on from. Tries several times, as whoever calls this must not do more
    /// about a failure than to tell it: of a job that began again everything would come twice.
    ///
    /// # Errors
    /// External.
    pub async fn finish(&self) -> Result<()> {
        const ATTEMPTS: u32 = 5;
        for attempt in 1..ATTEMPTS {
            if self.remove_all().await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20 << attempt)).await;
        }
        self.remove_all().await
    }

    async fn remove_all(&self) -> Result<()> {
        // Whoever has the job now reads in its last checkpoint that it has ended. Or it is the file below, of an attempt that
        // seemed to fail.
        if generations(&self.storage).await?.last().is_some_and(|newest| *newest > self.generation) {
            return Ok(());
        }
        for path in self.storage.list("state").await? {
            self.storage.remove(&path).await?;
        }
        // Oldest first: as long as one is left, it is the last, which says that the job has ended.
        let mut numbers = numbers(&self.storage).await?;
        let Some((last, _)) = numbers.pop_last() else { return Ok(()) };
        for sequence in numbers.into_keys() {
            self.remove(sequence).await?;
        }
        // A process that was taken for dead may be about to write a manifest, and would find its number free.
        let ended = Holder { fresh_after: Some(last.max(self.floor)), ..self.holder.clone() };
        let text = serde_json::to_vec_pretty(&ended).map_err(|e| Error::internal(e.to_string()))?;
        if self.storage.create(&generation_path(self.generation + 1), text.into()).await? {
            // From here on nothing of it counts: what cannot be removed now goes with a checkpoint of the next job.
            let _ = self.storage.remove(&generation_path(self.generation)).await;
            let _ = self.remove(last).await;
        }
        Ok(())
    }
}

/// Reads the state of a checkpoint.
///
/// # Errors
/// External; Data, naming the file, if one is damaged or gone.
pub async fn load(storage: &Storage, manifest: &Manifest) -> Result<JobSnapshot> {
    let room = Arc::new(Semaphore::new(PARALLEL));
    let read = manifest.operators.iter().map(|(uid, segments)| {
        let room = room.clone();
        async move {
            // One layer per checkpoint, oldest first; the last is the one to go on from, also if it wrote nothing.
            let mut layers: BTreeMap<u64, OperatorSnapshot> = BTreeMap::new();
            layers.insert(manifest.epoch, OperatorSnapshot::new());
            for segment in segments {
                let _room = room.acquire().await.map_err(|e| Error::internal(e.to_string()))?;
                let shown = || storage.shown(&segment.path);
                let bytes = storage.read(&segment.path).await?;
                let bytes = bytes.ok_or_else(|| Error::data("the state file is gone")).context(shown)?;
                let (name, mut tables) = (uid.clone(), layers.remove(&segment.epoch).unwrap_or_default());
                let decode = move || segment::decode(&name, &bytes, &mut tables).map(|()| tables);
                layers.insert(segment.epoch, tokio::task::spawn_blocking(decode).await?.context(shown)?);
            }
            let merge = move || increments::merge(layers.into_values().collect());
            let tables = tokio::task::spawn_blocking(merge).await?;
            Ok::<_, Error>((uid.clone(), tables.context(|| format!("state of operator {uid}"))?))
        }
    });
    let operators = try_join_all(read).await?.into_iter().collect();
    let sources = manifest.sources.iter();
    let watermark =
        |(uid, s): (&String, &super::manifest::SourceState)| s.watermark.map(|w| (uid.clone(), Timestamp(w)));
    Ok(JobSnapshot {
        operators,
        sources: sources.clone().map(|(uid, s)| (uid.clone(), s.positions.clone())).collect(),
        watermarks: sources.filter_map(watermark).collect(),
        ended: manifest.ended.clone(),
        committables: manifest
            .sinks
            .iter()
            .map(|(uid, all)| (uid.clone(), all.iter().map(|p| p.0.clone()).collect()))
            .collect(),
        epoch: manifest.epoch,
    })
}
