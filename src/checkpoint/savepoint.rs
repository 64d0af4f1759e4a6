//! Savepoints: a checkpoint by itself, in a folder that can be copied, moved and kept.
//!
//! ```text
//!  <dir>/savepoint-<job>-<8 hex digits>/
//!    manifest.json                   as of a checkpoint, marked as a savepoint, without what sinks have committed
//!    state/<uid>/3-42-0.segment      every state file that it stands on
//! ```
//!
//! The manifest comes last: a folder without one is what is left of an attempt that failed. A job can also start from a
//! checkpoint that was kept ([`Savepoint::open`]).

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_128;

use super::manifest::SavepointMark;
use super::{JobSnapshot, Manifest, Storage, store};
use crate::error::{Error, Result, ResultExt};

const MANIFEST: &str = "manifest.json";
/// Files that are copied at once.
const PARALLEL: usize = 8;

/// Opens folders with the settings of a session.
#[derive(Clone, Default)]
pub struct Opener {
    settings: Arc<BTreeMap<String, String>>,
    base_dir: PathBuf,
}

impl fmt::Debug for Opener {
    /// Without the settings, among which are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").field("base_dir", &self.base_dir).finish_non_exhaustive()
    }
}

impl Opener {
    /// Relative paths are relative to `base_dir`; stores take their options from `settings`.
    pub fn new(settings: BTreeMap<String, String>, base_dir: PathBuf) -> Self {
        Opener { settings: Arc::new(settings), base_dir }
    }

    /// Opens a folder.
    ///
    /// # Errors
    /// As [`Storage::open`].
    pub fn open(&self, url: &str) -> Result<Storage> {
        Storage::open(url, &self.base_dir, &|key| self.settings.get(key).cloned())
    }
}

/// A state of a job that another can start from.
#[derive(Debug, Clone)]
pub struct Savepoint {
    /// Where the state files are.
    storage: Storage,
    /// What it is made of.
    pub manifest: Manifest,
}

impl fmt::Display for Savepoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.manifest.savepoint {
            Some(_) => write!(f, "savepoint {}", self.storage),
            None => write!(f, "checkpoint {} in {}", self.manifest.sequence, self.storage),
        }
    }
}

impl Savepoint {
    /// Copies a checkpoint of the job in `job` into a new folder in `dir`. One that is the end of its job has state only if
    /// the job was drained.
    ///
    /// # Errors
    /// External; Validation if there is no state in it.
    #[expect(clippy::disallowed_methods, reason = "its name: no two may have the same")]
    pub async fn create(job: &Storage, checkpoint: &Manifest, dir: &Storage, drained: bool) -> Result<Self> {
        if checkpoint.is_end && !drained {
            return Err(Error::validation("the job has ended before it").context(job.to_string()));
        }
        let id = Uuid::now_v7();
        let digits = id.simple().to_string();
        let name = format!(
            "savepoint-{}-{}",
            store::folder_of(&checkpoint.job),
            digits.get(24..).unwrap_or(&digits)
        );
        let storage = dir.folder(&name);
        if !storage.list("state").await?.is_empty() {
            return Err(Error::external("there is something already; try again").context(storage.to_string()));
        }
        let manifest = Manifest {
            savepoint: Some(SavepointMark { id, drained }),
            is_end: false,
            decision: None,
            parent: None,
            sinks: BTreeMap::new(),
            ..checkpoint.clone()
        };
        let made = copy(job, &manifest, &storage).await;
        if let Err(e) = made {
            // Without its manifest nobody takes it for one; that it takes up room is the lesser evil.
            let _ = remove_files(&storage).await;
            return Err(e.context(format!("savepoint {storage}")));
        }
        Ok(Savepoint { storage, manifest })
    }

    /// Opens a savepoint; or a checkpoint `<dir>/<job>/chk/<number>`; or the newest one in `<dir>/<job>`.
    ///
    /// # Errors
    /// External; Validation if there is none, or if it cannot be started from.
    pub async fn open(storage: Storage) -> Result<Self> {
        let Some(bytes) = storage.read(MANIFEST).await? else {
            let Some(manifest) = store::newest(&storage).await? else {
                return Err(Error::validation(format!("there is no savepoint in '{storage}'"))
                    .hint("`tidelake savepoint list DIR` shows those in a folder"));
            };
            return Ok(Savepoint::of(storage, manifest));
        };
        let manifest = Manifest::from_bytes(&bytes).context(|| storage.shown(MANIFEST))?;
        if manifest.savepoint.is_some() {
            return Ok(Savepoint { storage, manifest });
        }
        if storage.read("committed").await?.is_none() {
            return Err(Error::validation("the checkpoint is not complete").context(storage.to_string()));
        }
        let job = storage.parent().and_then(|chk| chk.parent());
        let job = job.ok_or_else(|| Error::validation("a checkpoint lies in the folder of its job"))?;
        if manifest.is_end {
            return Err(Error::validation("the job had ended with it: there is nothing to go on from")
                .context(storage.to_string()));
        }
        Ok(Savepoint::of(job, manifest))
    }

    /// A checkpoint, the sinks of which have committed.
    fn of(job: Storage, manifest: Manifest) -> Self {
        Savepoint { storage: job, manifest: Manifest { sinks: BTreeMap::new(), ..manifest } }
    }

    /// The folder of the job that has it; `None` if it stands by itself.
    pub fn job_folder(&self) -> Option<&Storage> {
        self.manifest.savepoint.is_none().then_some(&self.storage)
    }

    /// The savepoints in a folder, the newest first.
    ///
    /// # Errors
    /// External; Data for a damaged one.
    pub async fn list(dir: &Storage) -> Result<Vec<Self>> {
        let mut found = Vec::new();
        for name in dir.folders().await? {
            let storage = dir.folder(&name);
            let Some(bytes) = storage.read(MANIFEST).await? else { continue };
            let manifest = Manifest::from_bytes(&bytes).context(|| storage.shown(MANIFEST))?;
            if manifest.savepoint.is_some() {
                found.push(Savepoint { storage, manifest });
            }
        }
        found.sort_by_key(|s| std::cmp::Reverse(s.manifest.taken));
        Ok(found)
    }

    /// By which checkpoints name it as their origin.
    pub fn id(&self) -> Uuid {
        match &self.manifest.savepoint {
            Some(mark) => mark.id,
            None => Uuid::from_u128(xxh3_128(
                format!("{}/{}", self.manifest.lineage, self.manifest.sequence).as_bytes(),
            )),
        }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        self.storage.to_string()
    }

    /// Reads the state.
    ///
    /// # Errors
    /// External; Data, naming the file, if one is damaged or gone.
    pub async fn load(&self) -> Result<JobSnapshot> {
        store::load(&self.storage, &self.manifest).await
    }

    /// Reads the state of one operator.
    ///
    /// # Errors
    /// As [`Savepoint::load`].
    pub async fn load_operator(&self, uid: &str) -> Result<crate::stream::snapshot::OperatorSnapshot> {
        let mut manifest = self.manifest.clone();
        manifest.operators.retain(|of, _| of == uid);
        let mut snapshot = store::load(&self.storage, &manifest).await?;
        Ok(snapshot.operators.remove(uid).unwrap_or_default())
    }

    /// Removes it.
    ///
    /// # Errors
    /// External; Validation for a checkpoint, which belongs to its job.
    pub async fn remove(self) -> Result<()> {
        if self.manifest.savepoint.is_none() {
            return Err(
                Error::validation("that is a checkpoint, which its job removes").context(self.to_string())
            );
        }
        // What is left without a manifest is no savepoint.
        self.storage.remove(MANIFEST).await?;
        remove_files(&self.storage).await
    }
}

async fn copy(job: &Storage, manifest: &Manifest, to: &Storage) -> Result<()> {
    let files: Vec<String> = manifest.operators.values().flatten().map(|file| file.path.clone()).collect();
    let copies = files.into_iter().map(|path| {
        let (job, to) = (job.clone(), to.clone());
        async move { job.copy(&path, &to).await }
    });
    futures::stream::iter(copies).buffer_unordered(PARALLEL).try_collect::<Vec<()>>().await?;
    to.create(MANIFEST, manifest.to_bytes()?).await.map(|_| ())
}

async fn remove_files(storage: &Storage) -> Result<()> {
    for path in storage.list("state").await? {
        storage.remove(&path).await?;
    }
    Ok(())
}
