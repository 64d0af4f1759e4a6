//! The thread of an interpreter.
//!
//! ```text
//!  query ── Request ─► thread: Script ── Answer ─► query
//!    └── too long: stop ─► the interpreter ends what it does
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use arrow::array::{ArrayRef, StringArray};
use rquickjs::{Context, Runtime};

use super::Spec;
use super::script::{Clocked, Clockless, Script};
use crate::error::{Error, Result};
use crate::functions::user::engine::Abilities;

/// Stack of the thread, and the part of it that scripts may use.
const STACK: usize = 4 << 20;
const SCRIPT_STACK: usize = 1 << 20;
/// How long an interpreter may take to notice that it is stopped.
const GRACE: Duration = Duration::from_secs(10);

/// What is asked of a script.
pub(super) enum Request {
    /// That it is loaded.
    Nothing,
    /// A value for each row.
    Call { args: Vec<ArrayRef>, rows: usize },
    /// States with rows added or taken back.
    Accumulate { states: StringArray, groups: Vec<u32>, signs: Option<Vec<i8>>, args: Vec<ArrayRef> },
    /// States merged.
    Merge { states: StringArray, groups: Vec<u32>, others: StringArray },
    /// Results of states.
    Finish { states: StringArray },
}

/// What it answers.
pub(super) enum Answer {
    /// Nothing but that it is done.
    Done,
    /// A column.
    Column(ArrayRef),
}

/// A thread with an interpreter.
pub(super) struct Worker {
    requests: Sender<Request>,
    answers: Receiver<Result<Answer>>,
    stop: Arc<AtomicBool>,
}

impl Worker {
    /// Starts an interpreter and loads the script.
    ///
    /// # Errors
    /// Data for scripts that fail or take too long; External without a thread.
    pub(super) fn start(spec: &Arc<Spec>) -> Result<(Worker, Abilities)> {
        let (requests, inbox) = channel();
        let (outbox, answers) = channel();
        let (loaded, abilities) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let (own, stopped) = (Arc::clone(spec), Arc::clone(&stop));
        std::thread::Builder::new()
            .name(format!("js-{}", spec.signature.name))
            .stack_size(STACK)
            .spawn(move || serve(&own, &stopped, &loaded, &inbox, &outbox))?;
        let worker = Worker { requests, answers, stop };
        let abilities = worker.wait(&abilities, spec, "loading its body")?;
        Ok((worker, abilities))
    }

    /// One request.
    ///
    /// # Errors
    /// Data, as the script fails.
    pub(super) fn ask(&mut self, request: Request, spec: &Spec) -> Result<Answer> {
        self.requests.send(request).map_err(|_| gone())?;
        self.wait(&self.answers, spec, "a batch")
    }

    fn wait<T>(&self, answers: &Receiver<Result<T>>, spec: &Spec, what: &str) -> Result<T> {
        match answers.recv_timeout(spec.timeout) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Disconnected) => Err(gone()),
            Err(RecvTimeoutError::Timeout) => {
                self.stop.store(true, Ordering::Relaxed);
                // It may be done by now all the same, but then it took too long.
                let row = answers.recv_timeout(GRACE).ok().and_then(Result::err).map(|e| e.message());
                let row = row
                    .as_deref()
                    .and_then(|m| m.split_once("; row "))
                    .map(|(_, row)| format!(", in row {row}"));
                Err(Error::data(format!(
                    "{what} took longer than {} ms{}",
                    spec.timeout.as_millis(),
                    row.unwrap_or_default()
                ))
                .hint("is there an endless loop? the option 'timeout' = '5 min' allows more"))
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn gone() -> Error {
    Error::internal("the thread of a script has ended")
}

fn serve(
    spec: &Spec,
    stop: &Arc<AtomicBool>,
    loaded: &Sender<Result<Abilities>>,
    inbox: &Receiver<Request>,
    outbox: &Sender<Result<Answer>>,
) {
    let made = || -> rquickjs::Result<Context> {
        let runtime = Runtime::new()?;
        runtime.set_memory_limit(spec.memory);
        runtime.set_max_stack_size(SCRIPT_STACK);
        let stopped = Arc::clone(stop);
        runtime.set_interrupt_handler(Some(Box::new(move || stopped.load(Ordering::Relaxed))));
        if spec.signature.deterministic() {
            Context::builder().with::<Clockless>().build(&runtime)
        } else {
            Context::builder().with::<Clocked>().build(&runtime)
        }
    };
    let context = match made() {
        Ok(context) => context,
        Err(e) => {
            let _ = loaded.send(Err(Error::external(format!("JavaScript cannot be started: {e}"))));
            return;
        }
    };
    context.with(|ctx| {
        let script = match Script::load(&ctx, spec) {
            Ok(script) => script,
            Err(e) => {
                let _ = loaded.send(Err(e));
                return;
            }
        };
        if loaded.send(Ok(script.abilities())).is_err() {
            return;
        }
        while let Ok(request) = inbox.recv() {
            if outbox.send(script.answer(request)).is_err() {
                return;
            }
        }
    });
}
