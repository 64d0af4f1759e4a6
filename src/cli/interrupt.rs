//! Ctrl-C: the first one asks the running job for a graceful end, the second one ends the process.

use std::sync::{Arc, Mutex, PoisonError};

use crate::runtime::job::StopHandle;

/// Exit code of a process ended by Ctrl-C.
pub(super) const INTERRUPTED: u8 = 130;

#[derive(Debug, Default)]
struct State {
    interrupted: bool,
    job: Option<StopHandle>,
}

/// Knows the running job.
#[derive(Debug, Clone, Default)]
pub(super) struct Interrupts(Arc<Mutex<State>>);

/// What a signal asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    StopJob,
    Exit,
}

impl Interrupts {
    /// Listens for Ctrl-C and SIGTERM from now on.
    pub(super) fn listen() -> Self {
        let interrupts = Interrupts::default();
        let listener = interrupts.clone();
        tokio::spawn(async move {
            while signal().await {
                match listener.signalled() {
                    Action::StopJob => eprintln!("stopping after a final commit; Ctrl-C again to abort"),
                    Action::Exit => std::process::exit(i32::from(INTERRUPTED)),
                }
            }
        });
        interrupts
    }

    pub(super) fn signalled(&self) -> Action {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let again = std::mem::replace(&mut state.interrupted, true);
        match &state.job {
            Some(job) if !again => {
                job.stop();
                Action::StopJob
            }
            _ => Action::Exit,
        }
    }

    /// Whether there was a signal.
    pub(super) fn interrupted(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).interrupted
    }

    /// The job that a signal stops, as long as the guard lives.
    pub(super) fn guard(&self, job: StopHandle) -> JobGuard {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).job = Some(job);
        JobGuard(self.clone())
    }
}

/// Forgets the job when dropped.
pub(super) struct JobGuard(Interrupts);

impl Drop for JobGuard {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).job = None;
    }
}

/// Waits for a signal; `false` if signals cannot be received.
async fn signal() -> bool {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut terminate) = signal(SignalKind::terminate()) else { return false };
        tokio::select! {
            r = tokio::signal::ctrl_c() => r.is_ok(),
            r = terminate.recv() => r.is_some(),
        }
    }
    #[cfg(not(unix))]
    {
        tokio::signal::ctrl_c().await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_signal_stops_the_job_and_the_second_the_process() {
        let (interrupts, job) = (Interrupts::default(), StopHandle::new());
        let guard = interrupts.guard(job.clone());
        assert!(!interrupts.interrupted());
        assert_eq!(interrupts.signalled(), Action::StopJob);
        assert!(job.is_stopped() && interrupts.interrupted());
        assert_eq!(interrupts.signalled(), Action::Exit);
        drop(guard);
    }

    #[test]
    fn without_a_job_the_first_one_ends_the_process() {
        let interrupts = Interrupts::default();
        drop(interrupts.guard(StopHandle::new()));
        assert_eq!(interrupts.signalled(), Action::Exit);
    }
}
