//! Savepoints of a job that runs.
//!
//! ```text
//!  request in the job's folder ─► can its folder be written? ─► the next barrier, when nothing else is under way:
//!                                  plain: as always    ─► checkpoint N, committed ─► copied while rows flow ─► answer
//!                                  stop:  the last one ─► the same, and the end
//!                                  drain: every source ends ─► the last checkpoint, with all state ─► the same
//! ```
//!
//! What is copied has been committed, so that nothing of a savepoint is committed by whoever starts from it. While it is
//! copied no old checkpoint is removed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::Coordinator;
use crate::checkpoint::requests::{self, Answer, Request};
use crate::checkpoint::savepoint::{Opener, Savepoint};
use crate::checkpoint::{JobSnapshot, Manifest, Storage};
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::runtime::job::StopHandle;
use crate::runtime::message::{Barrier, BarrierKind};
use crate::runtime::task::now;
use crate::stream::Epoch;

/// How often it is looked for requests: in a folder on a disk, and in one in a bucket, where it costs money.
const LOOK_EVERY: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(5)];

/// How long the job waits to hear whether somebody still waits.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where savepoints go.
#[derive(Debug, Clone, Default)]
pub struct SavepointPlace {
    /// Opens the folders that requests name.
    pub opener: Opener,
    /// The folder for requests that name none; may be empty.
    pub dir: String,
}

impl SavepointPlace {
    /// The folder for a request, which can be written.
    async fn folder(&self, request: &Request) -> Result<Storage> {
        let dir = request.dir.as_deref().unwrap_or(&self.dir);
        if dir.is_empty() {
            return Err(Error::validation("nobody has said where the savepoint goes")
                .hint("name a folder, or set 'execution.checkpointing.savepoint-dir' for the job"));
        }
        let folder = self.opener.open(dir)?.absolute();
        // Before a job is stopped for what cannot be done.
        let probe = format!("probe-{}", request.id);
        folder.create(&probe, Bytes::new()).await?;
        folder.remove(&probe).await?;
        Ok(folder)
    }
}

/// The request under way.
pub(super) struct Asked {
    request: Request,
    folder: Storage,
    /// Whether its barrier has been sent, so that the next checkpoint is the one.
    is_begun: bool,
}

/// A savepoint that is being made.
type Copied = (Request, Result<Savepoint>);

/// State of a coordinator that is about savepoints.
#[derive(Default)]
pub(super) struct Savepoints {
    asked: Option<Asked>,
    looked: Option<Instant>,
    pub(super) looking: Option<JoinHandle<Option<(Request, Storage)>>>,
    pub(super) copying: Option<JoinHandle<Copied>>,
    /// Sources have been told to end.
    pub(super) is_draining: bool,
}

/// What a task answers, if there is one and it does not panic.
pub(super) async fn answered<T>(task: &mut Option<JoinHandle<T>>) -> T {
    if let Some(running) = task {
        let answer = running.await;
        *task = None;
        if let Ok(answer) = answer {
            return answer;
        }
    }
    std::future::pending().await
}

/// The next request of a job that can be met; the others are told why not.
async fn find(job: Storage, generation: u64, place: SavepointPlace) -> Option<(Request, Storage)> {
    // A folder that cannot be read at present has no requests.
    let request = requests::pending(&job, now().0, generation).await.ok()??;
    match place.folder(&request).await {
        Ok(folder) => Some((request, folder)),
        Err(e) => {
            let _ = requests::answer(&job, request.id, &Answer::Failed(e.to_string())).await;
            None
        }
    }
}

/// Copies a checkpoint and answers.
async fn copy(job: Storage, manifest: Manifest, request: Request, folder: Storage) -> Copied {
    let made = Savepoint::create(&job, &manifest, &folder, request.drain).await;
    failpoint("savepoint-made");
    let answer = match &made {
        Ok(savepoint) => Answer::Made(savepoint.url()),
        Err(e) => Answer::Failed(e.to_string()),
    };
    // Who has asked gives up waiting if this fails, and finds the savepoint in its folder.
    let _ = requests::answer(&job, request.id, &answer).await;
    (request, made)
}

impl Coordinator {
    fn job_folder(&self) -> Option<&Storage> {
        self.options.checkpoints.as_ref().map(|checkpoints| checkpoints.store.storage())
    }

    /// When to look for requests next; `None` while one is served.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let Savepoints { asked, looked, looking, copying, .. } = &self.savepoints;
        let job = self.job_folder().filter(|_| asked.is_none() && looking.is_none() && copying.is_none())?;
        let every = LOOK_EVERY[usize::from(job.is_remote())];
        Some(looked.map_or_else(Instant::now, |at| at + every))
    }

    /// Looks for a request.
    pub(super) fn look_for_requests(&mut self) {
        self.savepoints.looked = Some(Instant::now());
        let Some(checkpoints) = &self.options.checkpoints else { return };
        let (store, place) = (&checkpoints.store, checkpoints.savepoints.clone());
        let looking = tokio::spawn(find(store.storage().clone(), store.generation(), place));
        self.savepoints.looking = Some(looking);
    }

    /// There is a request, or not.
    pub(super) fn on_request(&mut self, found: Option<(Request, Storage)>) {
        self.savepoints.looked = Some(Instant::now());
        self.savepoints.asked = found.map(|(request, folder)| Asked { request, folder, is_begun: false });
    }

    /// Whether a request waits for its barrier.
    pub(super) fn is_asked(&self) -> bool {
        self.savepoints.asked.as_ref().is_some_and(|a| !a.is_begun)
    }

    /// Begins with what was asked for, unless whoever asked does not want it any more; nothing is under way.
    pub(super) async fn begin_savepoint(&mut self, stop: &StopHandle) {
        let asked = self.savepoints.asked.as_ref().map(|a| a.request.id);
        let (Some(id), Some(job)) = (asked, self.job_folder().cloned()) else { return };
        // A bucket that does not answer is no reason to stand still.
        let wanted = tokio::time::timeout(PATIENCE, requests::is_wanted(&job, id));
        if !wanted.await.unwrap_or(true) {
            self.savepoints.asked = None;
        }
        let Some(asked) = &mut self.savepoints.asked else { return };
        asked.is_begun = true;
        let Request { drain, stop: stops, .. } = asked.request;
        if drain {
            self.savepoints.is_draining = true;
            let epoch = Epoch(self.epoch + 1);
            self.barriers.send_replace(Some(Barrier { epoch, kind: BarrierKind::Drain, keep: None }));
        } else if stops {
            stop.stop();
        } else {
            self.trigger(BarrierKind::Checkpoint);
        }
    }

    /// State of a job whose sources were told to end: they have more rows, for whoever looks at its savepoint.
    pub(super) fn drained(&self, epoch: u64) -> JobSnapshot {
        let mut snapshot = JobSnapshot { epoch, ..JobSnapshot::default() };
        self.add_ended(&BTreeSet::new(), &mut snapshot);
        snapshot.ended.clear();
        snapshot
    }

    /// The checkpoint `manifest` is complete: begins to copy it if it was asked for.
    pub(super) fn make_savepoint(&mut self, manifest: &Manifest) {
        let Some(Asked { request, folder, .. }) = self.savepoints.asked.take_if(|a| a.is_begun) else {
            return;
        };
        let Some(job) = self.job_folder().cloned() else { return };
        if manifest.is_end && !request.drain {
            self.refuse(request.id, "the job has ended before it".to_owned());
            return;
        }
        self.savepoints.copying = Some(tokio::spawn(copy(job, manifest.clone(), request, folder)));
    }

    /// Whether state files are being copied, and must not be removed.
    pub(super) fn is_copying(&self) -> bool {
        self.savepoints.copying.is_some()
    }

    /// A savepoint has been made, or not.
    ///
    /// # Errors
    /// If the job has stopped for it: so that its last checkpoint is kept.
    pub(super) fn on_copied(&self, (request, made): Copied) -> Result<()> {
        match made {
            Ok(savepoint) => {
                let Request { id, .. } = request;
                let text = || {
                    format!("savepoint of checkpoint {}: {}", savepoint.manifest.sequence, savepoint.url())
                };
                self.metrics.notices.once(&format!("savepoint {id}"), text);
                Ok(())
            }
            // Another attempt would take an end that was drained for one that is over.
            Err(e) if request.stop || request.drain => {
                Err(Error::validation(e.message().to_owned()).context("no savepoint"))
            }
            Err(e) => {
                self.metrics
                    .notices
                    .once(&format!("savepoint {}", request.id), || format!("no savepoint: {e}"));
                Ok(())
            }
        }
    }

    /// Waits for the savepoint that is being made.
    ///
    /// # Errors
    /// As [`Coordinator::on_copied`].
    pub(super) async fn finish_copy(&mut self) -> Result<()> {
        match self.savepoints.copying.take() {
            Some(copying) => {
                let made = copying.await?;
                self.on_copied(made)
            }
            None => Ok(()),
        }
    }

    /// The checkpoint could not be written: others follow, but none for whoever has asked.
    pub(super) fn savepoint_failed(&mut self, e: &Error) {
        if let Some(asked) = self.savepoints.asked.take_if(|a| a.is_begun) {
            self.refuse(asked.request.id, e.to_string());
        }
    }

    fn refuse(&self, id: Uuid, why: String) {
        let Some(job) = self.job_folder().cloned() else { return };
        // Who has asked gives up waiting if this fails.
        tokio::spawn(async move { requests::answer(&job, id, &Answer::Failed(why)).await });
    }

    /// The job is over, with a savepoint or without. If it has not failed nobody will answer who asks now.
    pub(super) async fn refuse_savepoints(&mut self, outcome: &Result<()>) {
        let Some(checkpoints) = &self.options.checkpoints else { return };
        let store = checkpoints.store.clone();
        let (job, generation) = (store.storage(), store.generation());
        let why = Answer::Failed(match outcome {
            Ok(()) => "the job has ended before it".to_owned(),
            Err(e) => format!("the job has failed: {e}"),
        });
        let mut next = self.savepoints.asked.take().map(|a| a.request.id);
        loop {
            if next.is_none() && outcome.is_ok() {
                let pending = requests::pending(job, now().0, generation).await;
                next = pending.ok().flatten().map(|request| request.id);
            }
            let Some(id) = next.take() else { return };
            if requests::answer(job, id, &why).await.is_err() {
                return;
            }
        }
    }
}
