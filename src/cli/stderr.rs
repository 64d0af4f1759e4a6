//! Standard error, where notices and the progress line must not run into each other.

use std::io::{self, IsTerminal, Stderr, Write};
use std::sync::{Mutex, PoisonError};

use crate::edges::Notices;
use crate::runtime::job::RunningJob;

/// To the first column, and nothing left on the line.
const CLEAR: &str = "\r\x1b[2K";

/// What is beyond the edge of the terminal is not shown, and is shown in the next line again.
const CUT: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";

/// A terminal whose last line may be one that is redrawn in place.
struct Terminal<W> {
    out: W,
    drawn: bool,
}

impl<W: Write> Terminal<W> {
    /// A line that stays; a redrawn one makes room for it.
    fn say(&mut self, text: &str) -> io::Result<()> {
        let clear = if std::mem::take(&mut self.drawn) { CLEAR } else { "" };
        self.out.write_all(format!("{clear}{text}\n").as_bytes())
    }

    /// Draws the line, in place of what it said before. The terminal cuts it at its edge: a line that goes on in the
    /// next one cannot be redrawn.
    fn draw(&mut self, line: &str) -> io::Result<()> {
        self.drawn = true;
        self.out.write_all(format!("{CLEAR}{CUT}{line}{WRAP}").as_bytes())?;
        self.out.flush()
    }

    /// Takes the line away.
    fn clear(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.drawn) {
            self.out.write_all(CLEAR.as_bytes())?;
            self.out.flush()?;
        }
        Ok(())
    }
}

static TERMINAL: Mutex<Option<Terminal<Stderr>>> = Mutex::new(None);

/// What standard error has to say is no reason to fail: nobody may be reading it.
fn with(act: impl FnOnce(&mut Terminal<Stderr>) -> io::Result<()>) {
    let mut terminal = TERMINAL.lock().unwrap_or_else(PoisonError::into_inner);
    let terminal = terminal.get_or_insert_with(|| Terminal { out: io::stderr(), drawn: false });
    act(terminal).ok();
}

/// Prints a line.
pub(super) fn say(text: &str) {
    with(|terminal| terminal.say(text));
}

/// Draws the line that is redrawn in place.
pub(super) fn draw(line: &str) {
    with(|terminal| terminal.draw(line));
}

/// Takes the line away that is redrawn in place.
pub(super) fn clear() {
    with(Terminal::clear);
}

/// Prints the notices of a job until it is dropped, and then those that are left.
pub(super) struct Telling {
    notices: Notices,
    task: tokio::task::JoinHandle<()>,
}

impl Telling {
    pub(super) fn start(job: &RunningJob) -> Self {
        let notices = job.metrics().notices.clone();
        let told = notices.clone();
        let task = tokio::spawn(async move {
            loop {
                say(&told.next().await);
            }
        });
        Telling { notices, task }
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.task.abort();
        self.notices.take().iter().for_each(|text| say(text));
    }
}

/// Whether there is a terminal to draw on.
pub(super) fn is_terminal() -> bool {
    io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_does_not_stand_behind_the_progress_line() {
        let mut terminal = Terminal { out: Vec::new(), drawn: false };
        terminal.say("first").unwrap();
        terminal.draw("10 rows").unwrap();
        terminal.say("stopping").unwrap();
        terminal.clear().unwrap();
        terminal.draw("20 rows").unwrap();
        terminal.clear().unwrap();
        let written = String::from_utf8(terminal.out).unwrap();
        assert_eq!(
            written,
            format!("first\n{CLEAR}{CUT}10 rows{WRAP}{CLEAR}stopping\n{CLEAR}{CUT}20 rows{WRAP}{CLEAR}")
        );
    }
}
