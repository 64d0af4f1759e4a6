//! `tidelake savepoint`.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use uuid::Uuid;

use crate::checkpoint::Storage;
use crate::checkpoint::requests::{self, Answer, Request};
use crate::checkpoint::savepoint::{Opener, Savepoint};
use crate::checkpoint::store::{folder_of, generation, newest, shown_time};
use crate::error::{Error, Result};
use crate::stream::snapshot::PartKind;
use crate::types::sql_name;

use super::args::{ListArgs, SavepointCommand, SavepointCreateArgs, SavepointPathArgs};
use super::render::print;

pub(super) async fn main(command: SavepointCommand) -> ExitCode {
    let done = match command {
        SavepointCommand::Create(args) => create(args).await,
        SavepointCommand::List(args) => list_all(args).await,
        SavepointCommand::Inspect(args) => inspect(args).await,
        SavepointCommand::Drop(args) => remove(args).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn opener(set: Vec<(String, String)>) -> Result<Opener> {
    Ok(Opener::new(set.into_iter().collect(), std::env::current_dir()?))
}

/// The folder of the job: the one that is named, or the only one.
async fn job_folder(jobs: &Storage, name: Option<&str>) -> Result<Storage> {
    let mut folders = Vec::new();
    for folder in jobs.folders().await? {
        // There may be other folders, such as one for savepoints.
        if generation(&jobs.folder(&folder)).await?.is_some() {
            folders.push(folder);
        }
    }
    let known = |hint: &str| match folders.is_empty() {
        true => "there is no job in it".to_owned(),
        false => format!("{hint}{}", folders.join(", ")),
    };
    let found = match name {
        Some(name) => folders.iter().find(|f| *f == name || **f == folder_of(name)),
        None => Some(&folders).filter(|f| f.len() == 1).and_then(|f| f.first()),
    };
    found.map(|folder| jobs.folder(folder)).ok_or_else(|| {
        let what = match name {
            Some(name) => format!("there is no job '{name}' in '{jobs}'"),
            None => format!("there is not exactly one job in '{jobs}'"),
        };
        Error::validation(what).hint(known("name one with --job: "))
    })
}

async fn create(args: SavepointCreateArgs) -> Result<()> {
    let opener = opener(args.set.clone())?;
    let job = job_folder(&opener.open(&args.dir)?, args.job.as_deref()).await?;
    let made = if args.offline && job.is_remote() {
        offline(&args, &opener, &job).await?
    } else {
        ask(&args, &opener, &job).await?
    };
    println!("{made}");
    Ok(())
}

/// Copies the newest checkpoint of a job that does not run.
async fn offline(args: &SavepointCreateArgs, opener: &Opener, job: &Storage) -> Result<String> {
    if args.stop || args.drain {
        return Err(Error::validation("the job does not run").context(job.to_string()));
    }
    let dir = args.to.as_deref().ok_or_else(|| {
        Error::validation("the job does not run, so that nobody knows where the savepoint goes")
            .hint("name a folder with --to")
    })?;
    let manifest = newest(job)
        .await?
        .ok_or_else(|| Error::validation("the job has no checkpoint").context(job.to_string()))?;
    eprintln!(
        "the job does not run; its newest checkpoint is {} of {}",
        manifest.sequence,
        shown_time(manifest.taken)
    );
    Ok(Savepoint::create(job, &manifest, &opener.open(dir)?, false).await?.url())
}

/// Asks the job and waits for its answer; or does it without the job, as soon as that does not run.
async fn ask(args: &SavepointCreateArgs, opener: &Opener, job: &Storage) -> Result<String> {
    let until = Instant::now() + args.timeout;
    let mut asked: Option<Request> = None;
    let why = loop {
        // Whoever gets the lock of a local job knows that it does not run, and that it does not start meanwhile.
        let lock = if job.is_remote() { None } else { job.lock("lock", "")?.ok() };
        if let Some(request) = &asked
            && let Some(answer) = requests::answered(job, request.id).await?
        {
            requests::forget(job, request.id).await?;
            return match answer {
                Answer::Made(url) => Ok(url),
                Answer::Failed(why) => Err(Error::external(why).context(job.to_string())),
            };
        }
        if lock.is_some() {
            if let Some(request) = &asked {
                requests::forget(job, request.id).await?;
            }
            return offline(args, opener, job).await;
        }
        if args.offline {
            return Err(Error::validation("the job is running")
                .context(job.to_string())
                .hint("leave --offline out"));
        }
        if asked.is_none() {
            let request = request(args, generation(job).await?)?;
            requests::ask(job, &request).await?;
            asked = Some(request);
        }
        if Instant::now() >= until {
            break format!("the job has not answered within {:.0?}", args.timeout);
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(if job.is_remote() { 1000 } else { 50 })) => {}
            _ = tokio::signal::ctrl_c() => break "interrupted before the job has answered".to_owned(),
        }
    };
    // Whoever does not wait any more does not want it, either.
    if let Some(request) = &asked {
        requests::forget(job, request.id).await?;
    }
    let mut hint =
        "what it has begun it may still do: `tidelake savepoint list` shows it; --timeout waits longer";
    if job.is_remote() {
        hint = "what it has begun it may still do: `tidelake savepoint list` shows it; --timeout waits longer, \
                --offline copies the newest checkpoint of a job that does not run";
    }
    Err(Error::external(why).context(job.to_string()).hint(hint))
}

/// What is asked of the process that has the job.
#[expect(
    clippy::disallowed_methods,
    reason = "says until when the request counts, and needs a name of its own"
)]
fn request(args: &SavepointCreateArgs, generation: Option<u64>) -> Result<Request> {
    let dir = match &args.to {
        // The job may have been started elsewhere.
        Some(path) if !path.contains(':') => Some(std::path::absolute(path)?.to_string_lossy().into_owned()),
        other => other.clone(),
    };
    let timeout = i64::try_from(args.timeout.as_millis()).unwrap_or(i64::MAX);
    Ok(Request {
        id: Uuid::now_v7(),
        dir,
        stop: args.stop,
        drain: args.drain,
        generation: generation.filter(|_| args.stop || args.drain),
        expires: chrono::Utc::now().timestamp_millis().saturating_add(timeout),
    })
}

async fn list_all(args: ListArgs) -> Result<()> {
    let found = Savepoint::list(&opener(args.set)?.open(&args.dir)?).await?;
    let texts = |of: &dyn Fn(&Savepoint) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(found.iter().map(of)))
    };
    let numbers = |of: &dyn Fn(&Savepoint) -> u64| -> ArrayRef {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        Arc::new(Int64Array::from_iter_values(found.iter().map(|s| number(of(s)))))
    };
    let drained = |s: &Savepoint| s.manifest.savepoint.as_ref().is_some_and(|mark| mark.drained);
    let batch = RecordBatch::try_from_iter([
        ("savepoint", texts(&Savepoint::url)),
        ("job", texts(&|s| s.manifest.job.clone())),
        ("taken", texts(&|s| shown_time(s.manifest.taken))),
        ("checkpoint", numbers(&|s| s.manifest.sequence)),
        ("drained", texts(&|s| if drained(s) { "yes".to_owned() } else { "no".to_owned() })),
        ("state bytes", numbers(&|s| s.manifest.state_bytes())),
    ])?;
    print(&batch, args.format)
}

async fn inspect(args: SavepointPathArgs) -> Result<()> {
    let savepoint = Savepoint::open(opener(args.set)?.open(&args.path)?).await?;
    let manifest = &savepoint.manifest;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{savepoint}")?;
    writeln!(out, "job         {}", manifest.job)?;
    writeln!(out, "taken       {}, as checkpoint {}", shown_time(manifest.taken), manifest.sequence)?;
    if manifest.savepoint.as_ref().is_some_and(|mark| mark.drained) {
        writeln!(out, "drained     its job had ended for it")?;
    }
    writeln!(out, "state       {:.1} MB", manifest.state_bytes() as f64 / 1e6)?;
    for node in &manifest.plan {
        writeln!(out, "\n{} {}({})", node.uid, node.name, node.detail)?;
        if let Some(source) = manifest.sources.get(&node.uid) {
            if let Some(watermark) = source.watermark.filter(|w| *w > i64::MIN) {
                writeln!(out, "  watermark {}", shown_time(watermark))?;
            }
            for split in &source.positions {
                writeln!(out, "  {} at {}", split.split, split.position)?;
            }
        }
        if !manifest.operators.contains_key(&node.uid) {
            continue;
        }
        for (table, parts) in savepoint.load_operator(&node.uid).await? {
            let parts: Vec<_> = parts.iter().filter(|p| !matches!(p.kind, PartKind::Void(_))).collect();
            let Some(first) = parts.first() else { continue };
            let rows: usize = parts.iter().map(|p| p.rows.num_rows()).sum();
            let schema = first.rows.schema();
            let columns = schema.fields().iter().map(|f| format!("{} {}", f.name(), sql_name(f.data_type())));
            let columns = columns.collect::<Vec<_>>().join(", ");
            writeln!(out, "  table {table}: {rows} rows ({columns})")?;
        }
    }
    Ok(())
}

async fn remove(args: SavepointPathArgs) -> Result<()> {
    let savepoint = Savepoint::open(opener(args.set)?.open(&args.path)?).await?;
    let name = savepoint.to_string();
    savepoint.remove().await?;
    eprintln!("{name} is removed");
    Ok(())
}
