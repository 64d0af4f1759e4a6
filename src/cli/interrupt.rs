//! Ctrl-C and SIGTERM: the first one asks the running job for its end, the second one ends the process.
//!
//! ```text
//!  job without an end ─► final commit, exit 0       any other ─► cancelled, nothing more is committed, exit 130 or 143
//!  no job runs        ─► the process ends at once, exit 130 or 143
//! ```

use std::sync::{Arc, Mutex, PoisonError};

use tokio::signal::unix::{SignalKind, signal};

use crate::error::{Error, ErrorKind};
use crate::runtime::job::{JobNature, RunningJob, StopHandle};

use super::stderr::say;

/// A signal that asks for the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// What `kill` and service managers send.
    Terminate,
}

impl Signal {
    /// Exit code of a process that it ended: 128 and its number.
    pub(super) fn exit_code(self) -> u8 {
        match self {
            Signal::Interrupt => 130,
            Signal::Terminate => 143,
        }
    }
}

#[derive(Debug)]
struct Job {
    endless: bool,
    stop: StopHandle,
}

#[derive(Debug, Default)]
struct State {
    /// The first signal.
    signal: Option<Signal>,
    job: Option<Job>,
    /// What does not happen if the process ends now.
    undone: String,
}

/// Knows the running job.
#[derive(Debug, Clone, Default)]
pub(super) struct Interrupts(Arc<Mutex<State>>);

/// What a signal asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// The job commits and ends.
    Commit,
    /// The job ends without a commit.
    Cancel,
    /// The process ends; what that leaves undone.
    Exit(String),
}

impl Interrupts {
    /// Listens for Ctrl-C and SIGTERM from now on. Where that cannot be done they end the process as they always do.
    pub(super) fn listen() -> Self {
        let interrupts = Interrupts::default();
        let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
        if let (Ok(mut interrupt), Ok(mut terminate)) = signals {
            let listener = interrupts.clone();
            tokio::spawn(async move {
                loop {
                    let signal = tokio::select! {
                        Some(()) = interrupt.recv() => Signal::Interrupt,
                        Some(()) = terminate.recv() => Signal::Terminate,
                        else => return,
                    };
                    match listener.signalled(signal) {
                        Action::Commit => say("stopping after a final commit; Ctrl-C again to abort"),
                        Action::Cancel => say("stopping without another commit; Ctrl-C again to abort"),
                        Action::Exit(undone) => {
                            say(&undone);
                            std::process::exit(i32::from(signal.exit_code()))
                        }
                    }
                }
            });
        }
        interrupts
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn signalled(&self, signal: Signal) -> Action {
        let mut state = self.state();
        let again = state.signal.is_some();
        state.signal.get_or_insert(signal);
        match &state.job {
            Some(job) if !again && job.endless => {
                job.stop.stop();
                Action::Commit
            }
            Some(job) if !again => {
                job.stop.cancel();
                Action::Cancel
            }
            _ => Action::Exit(format!("interrupted: {}", state.undone)),
        }
    }

    /// The first signal, if there was one.
    pub(super) fn signal(&self) -> Option<Signal> {
        self.state().signal
    }

    /// Whether an error only says that a signal came.
    pub(super) fn ended(&self, e: &Error) -> bool {
        e.kind() == ErrorKind::Cancelled && self.signal().is_some()
    }

    /// A statement begins; `undone` tells what is not done if the process ends meanwhile.
    pub(super) fn begin(&self, undone: String) {
        self.state().undone = undone;
    }

    /// The job that a signal stops, as long as the guard lives.
    pub(super) fn guard(&self, job: &RunningJob) -> JobGuard {
        self.guard_stop(job.nature(), job.stop_handle())
    }

    /// The same for what is no single job.
    pub(super) fn guard_stop(&self, nature: JobNature, stop: StopHandle) -> JobGuard {
        self.state().job = Some(Job { endless: nature.endless, stop });
        JobGuard(self.clone())
    }
}

/// Forgets the job when dropped.
pub(super) struct JobGuard(Interrupts);

impl Drop for JobGuard {
    fn drop(&mut self) {
        self.0.state().job = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::job::JobMetrics;

    fn job(endless: bool) -> RunningJob {
        let nature = JobNature { endless, ..JobNature::default() };
        RunningJob::new(JobMetrics::new(), nature, StopHandle::new(), std::future::ready(Ok(())))
    }

    #[tokio::test]
    async fn the_first_signal_ends_the_job_and_the_second_the_process() {
        for (endless, first) in [(true, Action::Commit), (false, Action::Cancel)] {
            let (interrupts, job) = (Interrupts::default(), job(endless));
            let guard = interrupts.guard(&job);
            interrupts.begin("INSERT".to_owned());
            assert_eq!(interrupts.signal(), None);
            assert_eq!(interrupts.signalled(Signal::Terminate), first);
            let cancelled = futures::poll!(std::pin::pin!(job.stop_handle().cancelled())).is_ready();
            assert_eq!((job.stop_handle().is_stopped(), cancelled), (true, !endless));
            assert_eq!(interrupts.signalled(Signal::Interrupt), Action::Exit("interrupted: INSERT".into()));
            assert_eq!(interrupts.signal(), Some(Signal::Terminate));
            drop(guard);
        }
    }

    #[test]
    fn without_a_job_the_first_one_ends_the_process() {
        let interrupts = Interrupts::default();
        drop(interrupts.guard(&job(true)));
        assert!(matches!(interrupts.signalled(Signal::Interrupt), Action::Exit(_)));
    }
}
