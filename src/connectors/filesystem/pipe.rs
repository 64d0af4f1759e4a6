//! Pipes as files: standard input, named pipes, what a shell puts in the place of `<(command)`, terminals.
//!
//! ```text
//!  cat x.json | tidelake run q.sql      'path' = '/dev/stdin'
//!  tidelake run <(…) with /dev/fd/63    mkfifo p; 'path' = 'p'
//! ```
//!
//! A pipe has no size and no middle to begin in, and what was read of it is gone: it is one split, one reader has it at
//! a time, and a pipe without a name is read once in the life of the process.

use std::collections::HashSet;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};

/// Whether a file that was found has to be read as a pipe.
pub(super) fn is_pipe(metadata: &Metadata) -> bool {
    !metadata.is_file() && !metadata.is_dir()
}

/// Device and number of a file.
type Id = (u64, u64);

/// Pipes that somebody reads, or that nobody can read again.
static TAKEN: Mutex<Option<HashSet<Id>>> = Mutex::new(None);

fn taken<T>(look: impl FnOnce(&mut HashSet<Id>) -> T) -> T {
    look(TAKEN.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

/// A pipe that is read.
#[derive(Debug)]
pub(super) struct Pipe {
    file: File,
    /// To be given back when it has been read.
    id: Option<Id>,
}

impl Pipe {
    /// Opens a pipe; waits for its other end as any reader does.
    ///
    /// # Errors
    /// Validation if it is being read or was read already, External if it cannot be opened.
    pub(super) fn open(path: &str) -> Result<Self> {
        let metadata = std::fs::metadata(path)?;
        let id = (metadata.dev(), metadata.ino());
        if !taken(|ids| ids.insert(id)) {
            return Err(Error::validation(
                "a pipe can be read once only, and this one is or was read already",
            )
            .hint("INSERT it into a table of files and read that"));
        }
        let standard_input = ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"].contains(&path);
        let opened = if standard_input {
            // Not by its name, which sockets have none of.
            io::stdin().as_fd().try_clone_to_owned().map(File::from)
        } else {
            File::open(path)
        };
        // Another one can write to a pipe with a name, and a terminal goes on.
        let again =
            metadata.file_type().is_char_device() || !standard_input && std::fs::canonicalize(path).is_ok();
        match opened {
            Ok(file) => Ok(Pipe { file, id: again.then_some(id) }),
            Err(e) => {
                taken(|ids| ids.remove(&id));
                Err(e.into())
            }
        }
    }
}

impl Read for Pipe {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.file.read(out)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            taken(|ids| ids.remove(&id));
        }
    }
}
