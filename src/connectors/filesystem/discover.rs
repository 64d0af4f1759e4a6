//! Which files a table consists of: a file, a folder at any depth or a pattern, narrowed by
//! `source.path.regex-pattern`.

use regex::Regex;

use super::location::{FileEntry, Location, is_hidden_name};
use crate::error::{Error, Result};

/// Rules by which files are found.
#[derive(Debug, Clone)]
pub(super) struct Discovery {
    pub(super) location: Location,
    /// The whole path has to match it.
    pub(super) regex: Option<Regex>,
}

/// Files that were found, and the folder that partition directories are below.
pub(super) struct Found {
    pub(super) files: Vec<FileEntry>,
    pub(super) root: String,
}

impl Discovery {
    /// Lists the files, sorted by path; `None` if there is nothing at the path.
    ///
    /// # Errors
    /// External if the store cannot tell.
    pub(super) async fn find(&self) -> Result<Option<Found>> {
        let Location { path, store, .. } = &self.location;
        let mut found = if let Some(file) = store.stat(path).await? {
            let root = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            Found { files: vec![file], root: root.to_owned() }
        } else if let Some(files) = store.list(path).await? {
            Found { files, root: path.clone() }
        } else if let Some(pattern) = Glob::new(path)? {
            let files = store.list(&pattern.root).await?.unwrap_or_default();
            let files: Vec<_> = files.into_iter().filter(|f| pattern.matches(&f.path)).collect();
            if files.is_empty() {
                return Ok(None);
            }
            Found { files, root: pattern.root }
        } else {
            return Ok(None);
        };
        if let Some(regex) = &self.regex {
            found.files.retain(|f| regex.is_match(&f.path));
        }
        Ok(Some(found))
    }

    /// The error for a table whose path has to be there.
    pub(super) fn missing(&self) -> Error {
        let Location { path, store, given } = &self.location;
        match Glob::new(path) {
            Ok(Some(_)) => Error::external(format!("no file matches the pattern '{given}'"))
                .hint("names that begin with '_' or '.' are never read"),
            _ => Error::external(format!("the path '{given}' does not exist"))
                .hint(format!("it means {}; check the option 'path'", store.display(path))),
        }
    }
}

/// A pattern with `*`, `?`, `[…]` and `**`.
struct Glob {
    /// Folder above the first wildcard.
    root: String,
    pattern: glob::Pattern,
}

impl Glob {
    fn new(path: &str) -> Result<Option<Self>> {
        let Some(wildcard) = path.find(['*', '?', '[']) else { return Ok(None) };
        let root = path.get(..wildcard).and_then(|p| p.rsplit_once('/')).map_or("", |(folder, _)| folder);
        let pattern = glob::Pattern::new(path)
            .map_err(|e| Error::validation(format!("the pattern '{path}' is not valid: {e}")))?;
        Ok(Some(Glob { root: root.to_owned(), pattern }))
    }

    /// Whether the file or a folder that holds it fits the pattern.
    fn matches(&self, path: &str) -> bool {
        let options = glob::MatchOptions { require_literal_separator: true, ..Default::default() };
        let mut candidate = path;
        while candidate.len() > self.root.len() {
            if self.pattern.matches_with(candidate, options) {
                return true;
            }
            match candidate.rsplit_once('/') {
                Some((folder, name)) if !is_hidden_name(name) => candidate = folder,
                _ => return false,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::Glob;

    #[test]
    fn patterns_match_files_and_folders() {
        let g = Glob::new("/data/*/day=[12]").unwrap().unwrap();
        assert_eq!(g.root, "/data");
        assert!(g.matches("/data/a/day=1/x.json"));
        assert!(g.matches("/data/a/day=2/deep/x.json"));
        assert!(!g.matches("/data/a/day=3/x.json"));
        assert!(!g.matches("/data/a/b/day=1/x.json"));
        let g = Glob::new("/data/**/*.json").unwrap().unwrap();
        assert!(g.matches("/data/x.json") && g.matches("/data/a/b/x.json"));
        assert!(!g.matches("/data/x.csv"));
        assert!(Glob::new("/data/x").unwrap().is_none());
        assert!(Glob::new("/data/[x").is_err());
    }
}
