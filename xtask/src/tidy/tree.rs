//! The files that the rules look at, read once: every `Cargo.toml` and every `.rs` file under `crates/` and `xtask/`.

use std::fs;
use std::io;
use std::path::Path;

/// Folders that are never looked into: what builds leave behind and what package managers fetch.
const SKIPPED: [&str; 2] = ["target", "node_modules"];

/// One file and its text.
#[derive(Debug)]
pub(super) struct File {
    /// From the workspace's folder on, with `/` on every system.
    pub(super) path: String,
    pub(super) text: String,
}

impl File {
    #[cfg(test)]
    pub(super) fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    /// The line, counted from 1, on which the byte at `offset` stands.
    pub(super) fn line_at(&self, offset: usize) -> usize {
        let before = self.text.bytes().take(offset);
        1 + before.filter(|byte| *byte == b'\n').count()
    }
}

/// Everything that is checked.
#[derive(Debug)]
pub(super) struct Tree {
    /// The workspace's own `Cargo.toml`.
    pub(super) root_manifest: File,
    /// The `Cargo.toml` of each crate.
    pub(super) manifests: Vec<File>,
    /// Every Rust file.
    pub(super) sources: Vec<File>,
}

impl Tree {
    pub(super) fn read(root: &Path) -> io::Result<Self> {
        let mut tree = Self {
            root_manifest: File {
                path: "Cargo.toml".to_owned(),
                text: read(&root.join("Cargo.toml"))?,
            },
            manifests: Vec::new(),
            sources: Vec::new(),
        };
        for folder in ["crates", "xtask"] {
            tree.collect(&root.join(folder), folder)?;
        }
        tree.manifests.sort_by(|a, b| a.path.cmp(&b.path));
        tree.sources.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(tree)
    }

    fn collect(&mut self, folder: &Path, shown: &str) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{shown}/{name}");
            if entry.file_type()?.is_dir() {
                if !SKIPPED.contains(&name.as_str()) && !name.starts_with('.') {
                    self.collect(&entry.path(), &path)?;
                }
            } else if name == "Cargo.toml" {
                self.manifests.push(File {
                    text: read(&entry.path())?,
                    path,
                });
            } else if name.ends_with(".rs") {
                self.sources.push(File {
                    text: read(&entry.path())?,
                    path,
                });
            }
        }
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<String> {
    fs::read_to_string(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_from_one() {
        let file = File::new("a.rs", "one\ntwo\n");
        assert_eq!([0, 3, 4, 8].map(|offset| file.line_at(offset)), [1, 1, 2, 3]);
    }

    #[test]
    fn the_tree_of_this_project_is_found() {
        let tree = Tree::read(&crate::root().unwrap()).unwrap();
        assert!(tree.root_manifest.text.contains("[workspace]"));
        assert!(tree.manifests.iter().any(|file| file.path == "xtask/Cargo.toml"));
        assert!(tree.sources.iter().any(|file| file.path == "xtask/src/tidy/tree.rs"));
        assert!(!tree.sources.iter().any(|file| file.path.contains("/target/")));
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read(Path::new("no/such/file.rs")).unwrap_err();
        assert!(error.to_string().contains("file.rs"), "{error}");
    }
}
