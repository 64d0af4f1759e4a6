//! Whether functions in Python can be tested.

use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Whether the interpreter that functions are run by has pyarrow. What is left out without one is said once.
pub(super) fn is_there() -> bool {
    static THERE: OnceLock<bool> = OnceLock::new();
    *THERE.get_or_init(|| {
        let named = std::env::var("TIDELAKE_PYTHON").ok().filter(|p| !p.is_empty());
        let python = named.unwrap_or_else(|| "python3".to_owned());
        let mut command = Command::new(&python);
        command
            .args(["-c", "import pyarrow"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let there = command.status().is_ok_and(|s| s.success());
        if !there {
            eprintln!(
                "SKIPPED: functions in Python. {python} has no pyarrow: {python} -m pip install pyarrow, \
                 or name another interpreter with TIDELAKE_PYTHON"
            );
        }
        there
    })
}
