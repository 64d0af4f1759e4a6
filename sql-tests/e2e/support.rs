//! Running the binary on scripts, with a deadline.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) elapsed: Duration,
}

impl Ran {
    /// Fails the test unless it ended well.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Rows printed with `--format json`.
    pub(crate) fn rows(&self) -> Vec<serde_json::Value> {
        self.stdout.lines().map(|l| serde_json::from_str(l).expect(l)).collect()
    }

    /// Checks that it failed as a failure should look: exit code 1, one error that says all of `needles`, no panic.
    pub(crate) fn fails_with(&self, needles: &[&str]) {
        let shown = format!("exit {:?}\nstdout:\n{}\nstderr:\n{}", self.code, self.stdout, self.stderr);
        assert_eq!(self.code, Some(1), "{shown}");
        assert!(!self.stderr.contains("panicked"), "{shown}");
        let errors: Vec<&str> = self.stderr.lines().filter(|l| l.starts_with("error")).collect();
        assert_eq!(errors.len(), 1, "one error expected\n{shown}");
        let message = self.stderr.to_lowercase();
        for n in needles {
            assert!(
                n.split('|').any(|alternative| message.contains(&alternative.to_lowercase())),
                "'{n}' is missing\n{shown}"
            );
        }
    }
}

/// The root of the project: paths in scripts are relative to it.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A command for the binary that runs in the root of the project.
pub(crate) fn tidelake() -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_tidelake"));
    c.current_dir(root()).env("TZ", "UTC");
    c
}

/// Runs a command to its end, or kills it at the deadline and fails.
pub(crate) fn finish(mut command: Command, deadline: Duration) -> Ran {
    let begin = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let read = |mut from: Box<dyn std::io::Read + Send>| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            from.read_to_end(&mut bytes).ok();
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let stdout = read(Box::new(child.stdout.take().unwrap()));
    let stderr = read(Box::new(child.stderr.take().unwrap()));
    let status = loop {
        if let Some(s) = child.try_wait().unwrap() {
            break Some(s);
        }
        if begin.elapsed() > deadline {
            child.kill().ok();
            child.wait().ok();
            break None;
        }
        thread::sleep(Duration::from_millis(2));
    };
    let elapsed = begin.elapsed();
    let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
    let Some(status) = status else {
        panic!("not done after {deadline:?}\nstdout:\n{stdout}\nstderr:\n{stderr}")
    };
    Ran { code: status.code(), stdout, stderr, elapsed }
}

/// A folder of its own for a test, with scripts in it.
pub(crate) struct Place {
    dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Place { dir: TempDir::new().unwrap() }
    }

    /// A path in it as text, for SQL.
    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Runs a script with further arguments.
    pub(crate) fn run(&self, sql: &str, args: &[&str]) -> Ran {
        let script = self.write("script.sql", sql);
        let mut c = tidelake();
        c.arg("run").arg(script).args(args);
        finish(c, Duration::from_secs(180))
    }

    /// Files below `name` that a reader would see: neither they nor a folder above them begins with `.` or `_`.
    pub(crate) fn visible_files(&self, name: &str) -> Vec<PathBuf> {
        visible_files(&self.dir.path().join(name))
    }
}

/// See [`Place::visible_files`].
pub(crate) fn visible_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(dir) else { return found };
    for e in entries {
        let path = e.unwrap().path();
        let hidden = path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(['.', '_']));
        if hidden {
            continue;
        }
        if path.is_dir() {
            found.extend(visible_files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// The address of a real service, from the environment. Says so when there is none: `cargo test` shows what is written
/// to the stream itself even for tests that pass.
pub(crate) fn service(variable: &str, instead: &str) -> Option<String> {
    let given = std::env::var(variable).ok().filter(|v| !v.is_empty());
    if given.is_none() {
        writeln!(std::io::stderr(), "note: {variable} is not set: {instead}").ok();
    }
    given
}

/// A number that no other run of these tests has.
pub(crate) fn unique() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
