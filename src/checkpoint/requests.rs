//! Asking a job for a savepoint, over the folder that its checkpoints are in.
//!
//! ```text
//!  who asks: savepoint/<id>.request.json ─► the job looks every now and then, takes a checkpoint, copies it
//!            savepoint/<id>.answer.json  ◄─┘
//!            reads the answer and removes both
//! ```
//!
//! So whoever may read and write the checkpoints may ask, from wherever that is, and nobody else.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Storage;
use crate::error::{Error, Result};

const REQUEST: &str = ".request.json";
const ANSWER: &str = ".answer.json";

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its name.
    pub id: Uuid,
    /// Folder for the savepoint; `None` for the one that the job's options name.
    pub dir: Option<String>,
    /// Whether the job is to stop with it.
    pub stop: bool,
    /// Whether its sources are to end before it, as if there were no more rows: windows close, and the job ends.
    pub drain: bool,
    /// The process that it is for, by its generation; `None` for whichever has the job. None but the one that was asked
    /// may stop.
    pub generation: Option<u64>,
    /// Until when it counts, in milliseconds.
    pub expires: i64,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The savepoint is there.
    Made(String),
    /// There is none.
    Failed(String),
}

fn request_path(id: Uuid) -> String {
    format!("savepoint/{id}{REQUEST}")
}

fn answer_path(id: Uuid) -> String {
    format!("savepoint/{id}{ANSWER}")
}

async fn write(job: &Storage, path: &str, what: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec_pretty(what).map_err(|e| Error::internal(e.to_string()))?;
    job.create(path, text.into()).await.map(|_| ())
}

/// Asks for a savepoint.
///
/// # Errors
/// External.
pub async fn ask(job: &Storage, request: &Request) -> Result<()> {
    write(job, &request_path(request.id), request).await
}

/// A request to the process `generation` that nobody has answered, if there is one. Those that have expired are removed,
/// and so are answers that nobody waits for any more.
///
/// # Errors
/// External.
pub async fn pending(job: &Storage, now: i64, generation: u64) -> Result<Option<Request>> {
    let files = job.list("savepoint").await?;
    for path in files.iter().filter(|path| path.ends_with(ANSWER)) {
        if path.strip_suffix(ANSWER).is_some_and(|id| !files.contains(&format!("{id}{REQUEST}"))) {
            job.remove(path).await?;
        }
    }
    for path in files.iter().filter(|path| path.ends_with(REQUEST)) {
        // One that is read while it is withdrawn, or that nobody understands, is no request.
        let Some(bytes) = job.read(path).await? else { continue };
        let Ok(request) = serde_json::from_slice::<Request>(&bytes) else { continue };
        if request.expires < now {
            forget(job, request.id).await?;
        } else if request.generation.is_none_or(|g| g == generation)
            && !files.contains(&answer_path(request.id))
        {
            return Ok(Some(request));
        }
    }
    Ok(None)
}

/// Whether somebody waits for the answer to a request. If that cannot be told, somebody does.
pub async fn is_wanted(job: &Storage, id: Uuid) -> bool {
    !matches!(job.read(&request_path(id)).await, Ok(None))
}

/// Answers a request.
///
/// # Errors
/// External.
pub async fn answer(job: &Storage, id: Uuid, answer: &Answer) -> Result<()> {
    write(job, &answer_path(id), answer).await
}

/// The answer to a request, if it is there.
///
/// # Errors
/// External; Data if it cannot be read.
pub async fn answered(job: &Storage, id: Uuid) -> Result<Option<Answer>> {
    let path = answer_path(id);
    let Some(bytes) = job.read(&path).await? else { return Ok(None) };
    let answer = serde_json::from_slice(&bytes);
    answer.map(Some).map_err(|e| Error::data(e.to_string()).context(job.shown(&path)))
}

/// Removes a request and its answer.
///
/// # Errors
/// External.
pub async fn forget(job: &Storage, id: Uuid) -> Result<()> {
    job.remove(&request_path(id)).await?;
    job.remove(&answer_path(id)).await
}
