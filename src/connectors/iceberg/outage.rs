//! A catalog that fails while it is tried again: told once when it begins and once when it is over.

use std::time::Instant;

use crate::edges::Notices;
use crate::error::Error;

/// What fails; over, or unknown, when it is dropped.
pub(super) struct Outage<'a> {
    what: String,
    notices: &'a Notices,
    since: Option<Instant>,
}

impl<'a> Outage<'a> {
    /// Of `what`, such as `table t: cannot commit`.
    pub fn new(what: String, notices: &'a Notices) -> Self {
        Outage { what, notices, since: None }
    }

    /// It has failed.
    pub fn lasts(&mut self, e: &Error) {
        if self.since.is_none() {
            self.since = Some(Instant::now());
            self.notices.begins(&self.what, || format!("{}: {}; trying again", self.what, e.message()));
        }
    }

    /// It has worked.
    pub fn is_over(&mut self) {
        if let Some(since) = self.since.take() {
            let seconds = since.elapsed().as_secs().max(1);
            self.notices.ends(&self.what, Some(format!("{}: it works again, after {seconds} s", self.what)));
        }
    }
}

impl Drop for Outage<'_> {
    /// Nobody will know.
    fn drop(&mut self) {
        if self.since.is_some() {
            self.notices.ends(&self.what, None);
        }
    }
}
