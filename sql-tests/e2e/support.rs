//! Running the binary on scripts, with a deadline.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
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
    /// Bytes of memory it had at once at most, where the system tells.
    pub(crate) peak_memory: Option<u64>,
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
    command.stdin(Stdio::null());
    Running::start(command).finish(deadline)
}

/// A command that runs; what it writes is read as it comes.
pub(crate) struct Running {
    child: Child,
    begin: Instant,
    stdout: Output,
    stderr: Output,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let begin = Instant::now();
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let stdout = Output::read(child.stdout.take().unwrap());
        let stderr = Output::read(child.stderr.take().unwrap());
        Running { child, begin, stdout, stderr }
    }

    /// What it has written to standard output and standard error so far.
    pub(crate) fn so_far(&self) -> (String, String) {
        (self.stdout.so_far(), self.stderr.so_far())
    }

    /// Waits until what it does fulfils a condition.
    pub(crate) fn until(&self, what: &str, reached: impl Fn(&str, &str) -> bool) {
        let begin = Instant::now();
        loop {
            let (stdout, stderr) = self.so_far();
            if reached(&stdout, &stderr) {
                return;
            }
            let waited = begin.elapsed();
            assert!(waited < Duration::from_secs(60), "no {what}\nstdout:\n{stdout}\nstderr:\n{stderr}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether it ends by itself within some time.
    pub(crate) fn dies_within(&mut self, time: Duration) -> bool {
        let end = Instant::now() + time;
        while Instant::now() < end {
            if self.child.try_wait().unwrap().is_some() {
                return true;
            }
            thread::sleep(Duration::from_millis(2));
        }
        false
    }

    /// Sends `INT`, `TERM`, ….
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success(), "kill -s {name}");
    }

    /// Kills it, if it has not ended, and forgets it.
    pub(crate) fn kill(mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// Waits for its end, or kills it at the deadline and fails.
    pub(crate) fn finish(mut self, deadline: Duration) -> Ran {
        let mut peak_memory = None;
        let status = loop {
            peak_memory = peak_of(self.child.id()).or(peak_memory);
            if let Some(s) = self.child.try_wait().unwrap() {
                break Some(s);
            }
            if self.begin.elapsed() > deadline {
                self.child.kill().ok();
                self.child.wait().ok();
                break None;
            }
            thread::sleep(Duration::from_millis(2));
        };
        let elapsed = self.begin.elapsed();
        let (stdout, stderr) = (self.stdout.all(), self.stderr.all());
        let Some(status) = status else {
            panic!("not done after {deadline:?}\nstdout:\n{stdout}\nstderr:\n{stderr}")
        };
        Ran { code: status.code(), stdout, stderr, elapsed, peak_memory }
    }
}

/// The most memory that a running process has had (Linux).
fn peak_of(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// A stream that a thread reads to its end.
struct Output {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: thread::JoinHandle<()>,
}

impl Output {
    fn read(mut from: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let target = bytes.clone();
        let reader = thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(n @ 1..) = from.read(&mut buffer) {
                target.lock().unwrap().extend_from_slice(&buffer[..n]);
            }
        });
        Output { bytes, reader }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    fn all(self) -> String {
        self.reader.join().unwrap();
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }
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
        self.start(sql, args).finish(Duration::from_secs(180))
    }

    /// Starts a script with further arguments.
    pub(crate) fn start(&self, sql: &str, args: &[&str]) -> Running {
        let script = self.write("script.sql", sql);
        let mut c = tidelake();
        c.arg("run").arg(script).args(args).stdin(Stdio::null());
        Running::start(c)
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
