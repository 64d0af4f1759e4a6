//! The pages that show what examples print, against what they print today. Only times differ from run to run.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Duration;

use super::support::{Place, finish, root};

#[path = "../../examples/embed.rs"]
#[allow(dead_code, reason = "only its main is not used here")]
mod embed;

/// Commands of a page, with the lines below them: `$ command` at the head of a code block.
fn blocks(page: &str) -> Vec<(String, Vec<String>)> {
    let text = fs::read_to_string(root().join(page)).unwrap();
    let blocks = text.split("```text\n$ ").skip(1).map(|rest| {
        // Lines that end in a backslash go on.
        let block = rest.split("\n```").next().unwrap().replace("\\\n", " ");
        let mut lines = block.lines().map(str::to_owned);
        (lines.next().unwrap(), lines.collect())
    });
    blocks.collect()
}

/// `… written, 0.02 s` without the figure.
fn without_time(line: &str) -> String {
    match line.rsplit_once(", ") {
        Some((before, time)) if time.ends_with(" s") => format!("{before}, … s"),
        _ => line.to_owned(),
    }
}

/// Runs a command of a page in a folder with the data, where its output can stay.
fn check(place: &Place, page: &str, command: &str, shown: &[String]) {
    let mut shell = Command::new("sh");
    shell.current_dir(place.path("")).env("TZ", "UTC").env("TIDELAKE", env!("CARGO_BIN_EXE_tidelake"));
    shell.arg("-c").arg(format!("tidelake() {{ \"$TIDELAKE\" \"$@\"; }}\n{command}"));
    let ran = finish(shell, Duration::from_secs(120)).ok();
    // Both streams are one on a page: tables go to standard output, the rest to standard error.
    let (table, rest): (Vec<&String>, Vec<&String>) =
        shown.iter().partition(|line| line.starts_with(['+', '|']));
    assert_eq!(ran.stdout.lines().collect::<Vec<_>>(), table, "{page}: $ {command}");
    let told: Vec<String> = ran.stderr.lines().map(without_time).collect();
    assert_eq!(told, rest.iter().map(|l| without_time(l)).collect::<Vec<_>>(), "{page}: $ {command}");
}

fn place() -> Place {
    let place = Place::new();
    for folder in ["data", "examples"] {
        symlink(root().join(folder), place.path(folder)).unwrap();
    }
    place
}

#[test]
fn the_pages_show_what_is_printed() {
    let place = place();
    let mut files = BTreeSet::new();
    for page in ["examples/README.md", "README.md"] {
        let mut checked = 0;
        for (command, shown) in blocks(page).iter().filter(|(command, _)| command.starts_with("tidelake ")) {
            check(&place, page, command, shown);
            files.extend(command.split(' ').find(|word| word.ends_with(".sql")).map(str::to_owned));
            checked += 1;
        }
        assert!(checked > 0, "{page} shows no command");
    }
    for entry in fs::read_dir(root().join("examples")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let shown = !name.ends_with(".sql") || files.contains(&format!("examples/{name}"));
        assert!(shown, "examples/README.md does not show what {name} prints");
    }
}

#[test]
fn the_readme_shows_what_the_quickstart_prints() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let shown = readme.split("```text\n").find(|block| block.starts_with("INSERT: ")).unwrap();
    let shown: Vec<String> = shown.split("\n```").next().unwrap().lines().map(str::to_owned).collect();
    check(&place(), "README.md", "tidelake run data/quickstart.sql", &shown);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_prints_what_its_page_shows() {
    let printed = embed::embed().await.unwrap();
    let blocks = blocks("examples/README.md");
    let (_, shown) = blocks.iter().find(|(command, _)| command.ends_with("--example embed")).unwrap();
    assert_eq!(printed.lines().collect::<Vec<_>>(), *shown);
}
