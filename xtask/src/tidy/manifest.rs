//! What the rules need to know of a `Cargo.toml`.

use super::tree::File;
use std::collections::BTreeMap;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

const DEPENDENCY_TABLES: [&str; 2] = ["dependencies", "build-dependencies"];

/// A crate and what its shipped code uses; dev-dependencies are left out.
#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) name: String,
    pub(super) dependencies: Vec<Dependency>,
    pub(super) takes_workspace_lints: bool,
}

/// One used package, under its own name even where it was renamed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dependency {
    pub(super) package: String,
    pub(super) line: usize,
}

/// Why a manifest could not be read.
#[derive(Debug)]
pub(super) struct Malformed {
    pub(super) line: usize,
    pub(super) message: String,
}

impl Manifest {
    pub(super) fn parse(file: &File) -> Result<Self, Malformed> {
        let table = parse(file)?;
        let name = table
            .get("package")
            .and_then(|package| field(package.get_ref(), "name"))
            .and_then(DeValue::as_str)
            .ok_or_else(|| Malformed {
                line: 1,
                message: "names no package".to_owned(),
            })?
            .to_owned();
        let lints = table.get("lints").and_then(|lints| field(lints.get_ref(), "workspace"));
        Ok(Self {
            name,
            dependencies: dependencies(file, &table),
            takes_workspace_lints: lints.and_then(DeValue::as_bool) == Some(true),
        })
    }
}

/// The packages that the workspace's own manifest renames: the name used to the package's name.
pub(super) fn workspace_renames(file: &File) -> Result<BTreeMap<String, String>, Malformed> {
    let table = parse(file)?;
    let listed = table
        .get("workspace")
        .and_then(|workspace| field(workspace.get_ref(), "dependencies"));
    let Some(listed) = listed.and_then(DeValue::as_table) else {
        return Ok(BTreeMap::new());
    };
    let renamed = listed.iter().filter_map(|(key, value)| {
        let package = field(value.get_ref(), "package")?.as_str()?;
        Some((key.get_ref().to_string(), package.to_owned()))
    });
    Ok(renamed.collect())
}

fn parse(file: &File) -> Result<DeTable<'_>, Malformed> {
    DeTable::parse(&file.text)
        .map(Spanned::into_inner)
        .map_err(|error| Malformed {
            line: error.span().map_or(1, |span| file.line_at(span.start)),
            message: error.message().to_owned(),
        })
}

fn dependencies(file: &File, table: &DeTable<'_>) -> Vec<Dependency> {
    let mut found = listed_in(file, table);
    let targets = table.get("target").and_then(|targets| targets.get_ref().as_table());
    for (_, target) in targets.into_iter().flat_map(|targets| targets.iter()) {
        if let Some(target) = target.get_ref().as_table() {
            found.extend(listed_in(file, target));
        }
    }
    found
}

fn listed_in(file: &File, table: &DeTable<'_>) -> Vec<Dependency> {
    let mut found = Vec::new();
    for name in DEPENDENCY_TABLES {
        let Some(listed) = table.get(name).and_then(|listed| listed.get_ref().as_table()) else {
            continue;
        };
        for (key, value) in listed {
            let renamed = field(value.get_ref(), "package").and_then(DeValue::as_str);
            let package = renamed.unwrap_or(key.get_ref().as_ref()).to_owned();
            found.push(Dependency {
                package,
                line: file.line_at(key.span().start),
            });
        }
    }
    found
}

fn field<'a, 'i>(value: &'a DeValue<'i>, name: &str) -> Option<&'a DeValue<'i>> {
    value.as_table()?.get(name).map(Spanned::get_ref)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Manifest {
        Manifest::parse(&File::new("crates/a/Cargo.toml", text)).unwrap()
    }

    #[test]
    fn every_way_of_listing_a_dependency_is_read() {
        let text = "\
[package]
name = \"a\"
[dependencies]
plain = \"1\"
dotted.workspace = true
inline = { version = \"1\", features = [
  \"x\",
] }
short = { package = \"long-name\", version = \"1\" }
[dependencies.table]
version = \"1\"
[build-dependencies]
builder = \"1\"
[target.'cfg(unix)'.dependencies]
only-unix = \"1\"
[dev-dependencies]
only-tests = \"1\"
";
        let mut found: Vec<(usize, String)> = parsed(text)
            .dependencies
            .into_iter()
            .map(|used| (used.line, used.package))
            .collect();
        found.sort();
        let expected = [
            (4, "plain"),
            (5, "dotted"),
            (6, "inline"),
            (9, "long-name"),
            (10, "table"),
            (13, "builder"),
            (15, "only-unix"),
        ];
        assert_eq!(found, expected.map(|(line, package)| (line, package.to_owned())));
    }

    #[test]
    fn renames_of_the_workspace_are_read() {
        let file = File::new(
            "Cargo.toml",
            "[workspace.dependencies]\na = \"1\"\nb = { package = \"tokio\", version = \"1\" }\n",
        );
        let renames = workspace_renames(&file).unwrap();
        assert_eq!(
            renames.into_iter().collect::<Vec<_>>(),
            [("b".to_owned(), "tokio".to_owned())]
        );
    }

    #[test]
    fn malformed_manifests_are_refused_with_their_line() {
        let refused = |text| Manifest::parse(&File::new("crates/a/Cargo.toml", text)).unwrap_err();
        assert_eq!(refused("[package]\nname = \n").line, 2);
        assert_eq!(refused("[package]\n").message, "names no package");
    }
}
