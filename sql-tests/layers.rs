//! Imports between the folders of `src` go one way, downwards, in the order that CONTRIBUTING.md's layout gives.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The layout table, lowest first: `` | `src/error.rs` | what | ``.
fn layout() -> Vec<(String, String)> {
    let contributing = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let layout = contributing.split("## Layout").nth(1).expect("CONTRIBUTING.md has a section Layout");
    let rows = layout.lines().skip_while(|l| !l.starts_with('|')).take_while(|l| l.starts_with('|'));
    rows.filter_map(|l| {
        let (name, what) = l.strip_prefix("| `src/")?.strip_suffix(" |")?.split_once("` | ")?;
        Some((name.trim_end_matches(".rs").to_owned(), what.to_owned()))
    })
    .collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Names that follow `crate::` in code; comments may look anywhere, and tests may use what stands above.
fn used(text: &str) -> Vec<String> {
    let code: String = text
        .lines()
        .take_while(|l| *l != "mod tests {")
        .filter(|l| !l.trim_start().starts_with("//"))
        .flat_map(|l| [l, "\n"])
        .collect();
    let mut names = Vec::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            None => names.push(rest),
            Some(group) => {
                // The first name of each entry of the group.
                let mut depth = 0;
                let mut begin = 0;
                for (i, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => {
                            names.push(group[begin..i].trim());
                            break;
                        }
                        '}' => depth -= 1,
                        ',' if depth == 0 => {
                            names.push(group[begin..i].trim());
                            begin = i + 1;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    let name = |s: &str| s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    names.into_iter().map(name).filter(|n| !n.is_empty()).collect()
}

#[test]
fn imports_go_downwards() {
    let layout = layout();
    let level: BTreeMap<&str, usize> =
        layout.iter().enumerate().map(|(i, (name, _))| (name.as_str(), i)).collect();
    let source = root().join("src");
    let mut files = Vec::new();
    sources(&source, &mut files);
    assert!(files.len() > 100, "{} files", files.len());
    let mut wrong = Vec::new();
    let mut checked = 0;
    for file in files {
        let inside = file.strip_prefix(&source).unwrap();
        let top = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        let is_test = inside.iter().any(|part| part.to_str().is_some_and(|p| p.contains("tests")));
        if is_test || ["lib", "main"].contains(&top) {
            continue;
        }
        let Some(own) = level.get(top) else {
            wrong.push(format!("{}: `src/{top}` is not in CONTRIBUTING.md's layout", inside.display()));
            continue;
        };
        for name in used(&fs::read_to_string(&file).unwrap()) {
            checked += 1;
            // What is no folder is an item of lib.rs: its `Error` and `Result`.
            if level.get(name.as_str()).is_some_and(|other| other > own) {
                wrong.push(format!("{}: crate::{name} stands above src/{top}", inside.display()));
            }
        }
    }
    assert!(checked > 500, "{checked} imports");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_documentation_of_the_crate_has_the_same_map() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let rows = lib.lines().filter_map(|l| {
        let (name, what) = l.strip_prefix("//! | [`")?.strip_suffix(" |")?.split_once("`] | ")?;
        Some((name.to_owned(), what.to_owned()))
    });
    assert_eq!(rows.collect::<Vec<_>>(), layout());
}

#[test]
fn imports_are_found() {
    let text = "use crate::error::Error;\n// crate::cli\nuse crate::{plan::x::{A, B}, types};\nfn f() { crate::text::y() }";
    assert_eq!(used(text), ["error", "plan", "types", "text"]);
}
