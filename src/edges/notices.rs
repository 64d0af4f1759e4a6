//! What a job has to tell while it runs: outages, and what its user may not know.
//!
//! ```text
//!  connectors, runtime ─► Notices (one per job) ─► whoever shows them
//! ```
//!
//! Many see the same thing (the readers of all subtasks, a source and a sink) and it happens again and again, so that
//! notices have keys: what is told once, and what begins and ends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The notices of one job. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Notices(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<String>,
    told: BTreeSet<String>,
    lasting: BTreeMap<String, Lasting>,
}

/// Something that began and has not ended.
#[derive(Debug, Default)]
struct Lasting {
    /// How many see it.
    seen_by: usize,
    /// What the end is to be told with.
    end: Option<String>,
}

impl Notices {
    /// Whether these are those of the same job.
    pub fn is(&self, other: &Notices) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, mut state: MutexGuard<'_, State>, text: String) {
        state.waiting.push_back(text);
        drop(state);
        self.0.arrived.notify_one();
    }

    /// Tells something unless the same key was told before.
    pub fn once(&self, key: &str, text: impl FnOnce() -> String) {
        let mut state = self.state();
        if state.told.insert(key.to_owned()) {
            self.tell(state, text());
        }
    }

    /// Something lasts from now on. The first to see it tells it.
    pub fn begins(&self, key: &str, text: impl FnOnce() -> String) {
        let mut state = self.state();
        let lasting = state.lasting.entry(key.to_owned()).or_default();
        lasting.seen_by += 1;
        if lasting.seen_by == 1 {
            self.tell(state, text());
        }
    }

    /// It is over for one that saw it begin, or nobody will know (`None`). When it is for all, the last text is told.
    pub fn ends(&self, key: &str, text: Option<String>) {
        let mut state = self.state();
        let Some(lasting) = state.lasting.get_mut(key) else { return };
        lasting.seen_by -= 1;
        lasting.end = text.or(lasting.end.take());
        if lasting.seen_by == 0
            && let Some(Lasting { end: Some(text), .. }) = state.lasting.remove(key)
        {
            self.tell(state, text);
        }
    }

    /// What was told and not shown yet.
    pub fn take(&self) -> Vec<String> {
        self.state().waiting.drain(..).collect()
    }

    /// Waits until something is told. For one at a time.
    pub async fn next(&self) -> String {
        loop {
            let next = self.state().waiting.pop_front();
            match next {
                Some(text) => return text,
                None => self.0.arrived.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_many_see_is_told_once() {
        let notices = Notices::default();
        notices.once("a", || "first".to_owned());
        notices.once("a", || "again".to_owned());
        assert_eq!(notices.next().await, "first");
        for reader in 0..3 {
            notices.begins("broker", || format!("away for {reader}"));
        }
        notices.ends("broker", Some("back for one".to_owned()));
        notices.ends("broker", Some("back for two".to_owned()));
        assert_eq!(notices.take(), ["away for 0"]);
        notices.ends("broker", None);
        notices.ends("broker", Some("never away".to_owned()));
        assert_eq!(notices.take(), ["back for two"]);
        notices.begins("broker", || "away again".to_owned());
        assert_eq!(notices.clone().take(), ["away again"]);
    }
}
