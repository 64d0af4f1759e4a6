//! A process with an interpreter.
//!
//! ```text
//!  query ── kind, parts ─► thread: stdin of the process, then stdout ── answer ─► query
//!    └── too long: kill
//! ```
//!
//! The thread also started the process, which asks the system to end it with its parent: that is a thread to Linux.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{LOAD, Spec};
use crate::error::{Error, Result};
use crate::functions::user::engine::Abilities;

const WORKER: &str = include_str!("worker.py");
/// Lines of stderr that an error shows.
const LINES: usize = 5;

/// Kind and parts.
type Request = (u8, Vec<Vec<u8>>);

/// What it gave, and whether it can be asked again.
type Answer = (Result<Vec<u8>>, bool);

/// A process and the thread that speaks with it.
pub(super) struct Process {
    requests: Sender<Request>,
    answers: Receiver<Answer>,
    child: Shared,
    /// Whether it has answered what it was asked.
    whole: bool,
}

type Shared = Arc<Mutex<Child>>;

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Process {
    /// Starts an interpreter and loads the body.
    ///
    /// # Errors
    /// External without interpreter or pyarrow; Data for a body that fails.
    pub(super) fn start(spec: &Arc<Spec>) -> Result<(Process, Abilities)> {
        let (requests, inbox) = channel();
        let (outbox, answers) = channel();
        let (started, child) = channel();
        let own = Arc::clone(spec);
        std::thread::Builder::new().name(format!("py-{}", spec.name)).spawn(move || {
            let (child, pipes) = match spawn(&own) {
                Ok(process) => process,
                Err(e) => return drop(started.send(Err(e))),
            };
            if started.send(Ok(Arc::clone(&child))).is_ok() {
                serve(&inbox, &outbox, pipes);
            }
            let mut child = lock(&child);
            // Nobody waits for it; the kill fails where it has ended.
            let _ = child.kill();
            let _ = child.wait();
        })?;
        let child = child.recv().map_err(|_| Error::internal("the thread of a process has ended"))??;
        let mut process = Process { requests, answers, child, whole: true };
        let answer = process.ask(LOAD, spec.load.clone(), spec).map_err(|e| {
            // `line 3: what` of the body.
            let message = e.message();
            let line = message
                .strip_prefix("line ")
                .and_then(|m| m.split_once(':'))
                .and_then(|(n, _)| n.parse().ok());
            e.at(crate::functions::user::place_in(spec.body_location, line.unwrap_or(1)))
        })?;
        let has = |i: usize| answer.get(i) == Some(&b'1');
        Ok((process, Abilities { retracts: has(0), merges: has(1) }))
    }

    /// Whether it can be asked again: it told of an error and goes on.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// One request.
    ///
    /// # Errors
    /// Data, as the function fails; External where the process has ended.
    pub(super) fn ask(&mut self, kind: u8, parts: Vec<Vec<u8>>, spec: &Spec) -> Result<Vec<u8>> {
        let gone = || Error::external("the process has ended");
        self.whole = false;
        self.requests.send((kind, parts)).map_err(|_| gone())?;
        match self.answers.recv_timeout(spec.timeout) {
            Ok((answer, whole)) => {
                self.whole = whole;
                answer
            }
            Err(RecvTimeoutError::Disconnected) => Err(gone()),
            Err(RecvTimeoutError::Timeout) => {
                let _ = lock(&self.child).kill();
                let what = if kind == LOAD { "loading its body" } else { "a batch" };
                Err(Error::data(format!("{what} took longer than {} ms", spec.timeout.as_millis()))
                    .hint("is there an endless loop? the option 'timeout' = '5 min' allows more"))
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be in the midst of a loop; its thread takes note of the end.
        let _ = lock(&self.child).kill();
    }
}

/// The ends of the pipes of a process.
struct Pipes {
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    /// The last lines of its stderr, and the thread that reads them.
    said: Arc<Mutex<VecDeque<String>>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

fn spawn(spec: &Spec) -> Result<(Shared, Pipes)> {
    let mut child = Command::new(&spec.interpreter)
        .args(["-c", WORKER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| {
            Error::external(format!("the Python interpreter {} cannot be started: {e}", spec.interpreter))
                .hint("name one with the option 'python' or the environment variable TIDELAKE_PYTHON")
        })?;
    let (Some(stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(Error::internal("a process without pipes"));
    };
    let said = Arc::new(Mutex::new(VecDeque::new()));
    let lines = Arc::clone(&said);
    let reader = std::thread::Builder::new().name(format!("py-{}-stderr", spec.name)).spawn(move || {
        for line in BufReader::new(stderr).split(b'\n').map_while(std::io::Result::ok) {
            let mut lines = lock(&lines);
            if lines.len() == LINES {
                lines.pop_front();
            }
            lines.push_back(String::from_utf8_lossy(&line).chars().take(300).collect());
        }
    })?;
    let pipes = Pipes { stdin, stdout: BufReader::new(stdout), said, reader: Some(reader) };
    Ok((Arc::new(Mutex::new(child)), pipes))
}

fn serve(inbox: &Receiver<Request>, outbox: &Sender<Answer>, mut pipes: Pipes) {
    while let Ok((kind, parts)) = inbox.recv() {
        let answer = match exchange(&mut pipes, kind, &parts) {
            Ok((0, answer)) => (Ok(answer), true),
            Ok((_, text)) => (Err(told(&String::from_utf8_lossy(&text))), true),
            Err(e) => (Err(ended(&mut pipes, &e)), false),
        };
        if outbox.send(answer).is_err() {
            return;
        }
    }
}

/// The error that the function gave: what, and perhaps what to do.
fn told(text: &str) -> Error {
    match text.split_once('\0') {
        Some((what, hint)) if what.contains("has no pyarrow") => Error::external(what).hint(hint),
        Some((what, hint)) => Error::data(what).hint(hint),
        None => Error::data(text),
    }
}

fn exchange(pipes: &mut Pipes, kind: u8, parts: &[Vec<u8>]) -> std::io::Result<(u8, Vec<u8>)> {
    pipes.stdin.write_all(&[kind, parts.len() as u8])?;
    for part in parts {
        pipes.stdin.write_all(&(part.len() as u64).to_le_bytes())?;
        pipes.stdin.write_all(part)?;
    }
    pipes.stdin.flush()?;
    let (mut status, mut length) = ([0; 1], [0; 8]);
    pipes.stdout.read_exact(&mut status)?;
    pipes.stdout.read_exact(&mut length)?;
    let mut answer = vec![0; u64::from_le_bytes(length) as usize];
    pipes.stdout.read_exact(&mut answer)?;
    let [status] = status;
    Ok((status, answer))
}

/// What a process that has ended said last.
fn ended(pipes: &mut Pipes, e: &std::io::Error) -> Error {
    if let Some(reader) = pipes.reader.take() {
        let _ = reader.join();
    }
    let said: Vec<String> = lock(&pipes.said).iter().cloned().collect();
    let said = if said.is_empty() { e.to_string() } else { said.join("\n") };
    Error::data(format!("the Python process has ended: {said}"))
}
