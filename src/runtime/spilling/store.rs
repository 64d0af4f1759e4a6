//! The folder that spilled state goes to, and what is left of processes that were killed.
//!
//! ```text
//!  io.tmp.dirs/tidelake-spill-<uuid>/       files of one statement
//!  io.tmp.dirs/tidelake-spill-<uuid>.lock   locked as long as its process lives
//! ```
//!
//! A folder goes with its statement. A killed process leaves it behind; the next process that uses the same temporary
//! folder can lock its lock file, which tells that nobody lives there, and removes both. The lock file is made before
//! its folder and removed after it.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::error::{Error, Result};
use crate::runtime::spilling::WAY_OUT;

const PREFIX: &str = "tidelake-spill-";
const LOCK: &str = "lock";

/// A folder of one statement, made with its first file, removed at the end.
#[derive(Debug)]
pub struct SpillStore {
    folder: PathBuf,
    made: OnceLock<Made>,
    files: AtomicU64,
}

#[derive(Debug)]
struct Made {
    dir: PathBuf,
    /// Open, and so locked.
    _lock: File,
}

impl SpillStore {
    /// A store below `folder`. Once per process what dead processes left there is removed, in the background.
    pub fn new(folder: PathBuf) -> Self {
        static CLEANED: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);
        let mut cleaned = CLEANED.lock().unwrap_or_else(PoisonError::into_inner);
        if cleaned.get_or_insert_default().insert(folder.clone()) {
            let folder = folder.clone();
            // Without a thread they stay for another time.
            let _ = std::thread::Builder::new().name("spill-cleaner".into()).spawn(move || clean(&folder));
        }
        SpillStore { folder, made: OnceLock::new(), files: AtomicU64::new(0) }
    }

    /// The path of a new file.
    ///
    /// # Errors
    /// External if the folder cannot be made.
    pub fn new_file(&self) -> Result<PathBuf> {
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        Ok(self.dir()?.join(format!("{number}.arrows")))
    }

    fn dir(&self) -> Result<&Path> {
        if let Some(made) = self.made.get() {
            return Ok(&made.dir);
        }
        let made = self.make().map_err(|e| {
            Error::external(format!(
                "cannot make a folder in {} for state that outgrew the memory: {e}",
                self.folder.display()
            ))
            .hint(WAY_OUT)
        })?;
        // Of two operators that come here at once one has made a folder in vain.
        if let Err(spare) = self.made.set(made) {
            remove(&spare.dir);
        }
        Ok(self.made.get().map_or(&self.folder, |made| &made.dir))
    }

    fn make(&self) -> std::io::Result<Made> {
        std::fs::create_dir_all(&self.folder)?;
        loop {
            let dir = self.folder.join(format!("{PREFIX}{}", uuid::Uuid::new_v4()));
            let path = dir.with_extension(LOCK);
            let lock = File::create_new(&path)?;
            // Where files cannot be locked nobody else can lock this one either, and the folder is safe.
            let _ = lock.lock();
            // Before it was locked it looked like one of a dead process.
            if path.exists() {
                std::fs::create_dir(&dir)?;
                return Ok(Made { dir, _lock: lock });
            }
        }
    }
}

impl Drop for SpillStore {
    fn drop(&mut self) {
        if let Some(made) = self.made.get() {
            remove(&made.dir);
        }
    }
}

/// Removes a folder, and then its lock file. Both are disposable: what cannot be removed stays for the next process.
fn remove(dir: &Path) {
    if std::fs::remove_dir_all(dir).is_ok() || !dir.exists() {
        let _ = std::fs::remove_file(dir.with_extension(LOCK));
    }
}

/// Removes the folders whose lock nobody holds.
fn clean(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let is_lock = name.to_str().is_some_and(|n| n.starts_with(PREFIX) && n.ends_with(".lock"));
        if is_lock
            && let Ok(lock) = File::open(&path)
            && lock.try_lock().is_ok()
        {
            remove(&path.with_extension(""));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_store_leaves_nothing_behind() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("not/there/yet");
        let store = SpillStore::new(folder.clone());
        assert!(!folder.exists(), "nothing is made before it is needed");
        let (a, b) = (store.new_file().unwrap(), store.new_file().unwrap());
        assert_ne!(a, b);
        std::fs::write(&a, "x").unwrap();
        assert_eq!(names(&folder).len(), 2);
        drop(store);
        assert_eq!(names(&folder), Vec::<String>::new());
    }

    #[test]
    fn folders_of_the_dead_go_and_those_of_the_living_stay() {
        let temp = tempfile::tempdir().unwrap();
        let living = SpillStore::new(temp.path().to_owned());
        let file = living.new_file().unwrap();
        std::fs::write(&file, "x").unwrap();
        // Killed with its folder, killed before it, and folders that are nobody's business.
        for path in ["tidelake-spill-1", "tidelake-spill-3", "other"] {
            std::fs::create_dir(temp.path().join(path)).unwrap();
        }
        std::fs::write(temp.path().join("tidelake-spill-1/0.arrows"), "x").unwrap();
        for path in ["tidelake-spill-1.lock", "tidelake-spill-2.lock", "other.lock"] {
            std::fs::write(temp.path().join(path), "").unwrap();
        }
        clean(temp.path());
        assert!(file.exists());
        let others: Vec<String> = names(temp.path()).into_iter().filter(|n| n.len() < 20).collect();
        assert_eq!(others, ["other", "other.lock", "tidelake-spill-3"]);
    }
}
