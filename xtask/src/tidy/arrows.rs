//! Which crate may use which, and which libraries stay out of the pure ones.
//!
//! The table below is the drawing in `docs/ARCHITECTURE.md`. A crate that it does not name is a finding too, so that a new
//! crate gets its arrows drawn when it is made. Dev-dependencies are free: tests may look across the cut.

use super::Finding;
use super::manifest::{self, Malformed, Manifest};
use super::tree::{File, Tree};
use std::collections::BTreeMap;

/// A crate of the project and what it may use.
struct Rule {
    name: &'static str,
    may_use: &'static [&'static str],
    /// No sockets, no disk, no clock, no randomness of its own, no keys.
    pure: bool,
}

const RULES: [Rule; 9] = [
    Rule {
        name: "socp-proto",
        may_use: &[],
        pure: true,
    },
    Rule {
        name: "socp-crypto",
        may_use: &["socp-proto"],
        pure: false,
    },
    Rule {
        name: "socp-tls",
        may_use: &["socp-proto"],
        pure: false,
    },
    Rule {
        name: "socp-core",
        may_use: &["socp-proto"],
        pure: true,
    },
    Rule {
        name: "socp-client",
        may_use: &["socp-proto", "socp-crypto", "socp-core", "socp-tls"],
        pure: false,
    },
    Rule {
        name: "socp-server",
        may_use: &["socp-proto", "socp-crypto", "socp-core", "socp-tls"],
        pure: false,
    },
    Rule {
        name: "socp",
        may_use: &[
            "socp-proto",
            "socp-crypto",
            "socp-core",
            "socp-tls",
            "socp-client",
            "socp-server",
        ],
        pure: false,
    },
    Rule {
        name: "socp-sim",
        may_use: &["socp-proto", "socp-core"],
        pure: false,
    },
    Rule {
        name: "xtask",
        may_use: &[],
        pure: false,
    },
];

/// Libraries that bring what a pure crate goes without. `rand_core` and `rand_chacha` are fine: they start from a seed.
const IMPURE: [&str; 12] = [
    "aws-lc-rs",
    "axum",
    "getrandom",
    "rand",
    "rsa",
    "rusqlite",
    "rustls",
    "sqlx",
    "tokio",
    "tokio-rustls",
    "tokio-tungstenite",
    "tungstenite",
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let renames = match manifest::workspace_renames(&tree.root_manifest) {
        Ok(renames) => renames,
        Err(malformed) => return vec![unreadable(&tree.root_manifest, malformed)],
    };
    tree.manifests
        .iter()
        .flat_map(|file| check_file(file, &renames))
        .collect()
}

fn check_file(file: &File, renames: &BTreeMap<String, String>) -> Vec<Finding> {
    let manifest = match Manifest::parse(file) {
        Ok(manifest) => manifest,
        Err(malformed) => return vec![unreadable(file, malformed)],
    };
    let Some(rule) = rule_for(&manifest.name) else {
        let message = format!(
            "`{}` has no arrows yet: draw them in xtask/src/tidy/arrows.rs",
            manifest.name
        );
        return vec![Finding::new(file, 1, message)];
    };
    let mut findings = Vec::new();
    for used in &manifest.dependencies {
        let package = renames.get(&used.package).unwrap_or(&used.package);
        if let Some(message) = objection(rule, package) {
            findings.push(Finding::new(file, used.line, message));
        }
    }
    findings
}

fn objection(rule: &Rule, package: &str) -> Option<String> {
    let ours = rule_for(package).is_some();
    if ours && !rule.may_use.contains(&package) {
        return Some(format!(
            "`{}` may not use `{package}`: there is no arrow from it",
            rule.name
        ));
    }
    if rule.pure && IMPURE.contains(&package) {
        return Some(format!(
            "`{}` is pure: `{package}` belongs in a crate that drives it",
            rule.name
        ));
    }
    None
}

fn rule_for(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}

fn unreadable(file: &File, malformed: Malformed) -> Finding {
    Finding::new(
        file,
        malformed.line,
        format!("unreadable manifest: {}", malformed.message),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, dependencies: &str) -> Vec<String> {
        let text = format!("[package]\nname = \"{name}\"\n[dependencies]\n{dependencies}");
        let root = "[workspace.dependencies]\nquiet = { package = \"tokio\", version = \"1\" }\n";
        let tree = Tree {
            root_manifest: File::new("Cargo.toml", root),
            manifests: vec![File::new("Cargo.toml", &text)],
            sources: Vec::new(),
        };
        check(&tree).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn drawn_arrows_pass() {
        for rule in &RULES {
            let used: String = rule
                .may_use
                .iter()
                .map(|used| format!("{used}.workspace = true\n"))
                .collect();
            assert_eq!(found(rule.name, &used), [""; 0], "{}", rule.name);
        }
        assert_eq!(
            found(
                "socp-core",
                "rand_core = \"0.10\"\nrand_chacha = \"0.10\"\nserde = \"1\"\n"
            ),
            [""; 0]
        );
        assert_eq!(
            found("socp-server", "tokio = \"1\"\nsocp-core.workspace = true\n"),
            [""; 0]
        );
    }

    #[test]
    fn arrows_that_are_not_drawn_are_found() {
        let forbidden = [
            ("socp-proto", "socp-core"),
            ("socp-core", "socp-crypto"),
            ("socp-crypto", "socp-core"),
            ("socp-client", "socp-server"),
            ("socp-server", "socp-client"),
            ("socp-server", "socp"),
            ("socp", "socp-sim"),
            ("socp-sim", "socp-crypto"),
            ("socp-sim", "socp-server"),
        ];
        for (user, used) in forbidden {
            let expected = format!("Cargo.toml:4: `{user}` may not use `{used}`: there is no arrow from it");
            assert_eq!(found(user, &format!("{used} = {{ path = \"../x\" }}\n")), [expected]);
        }
    }

    #[test]
    fn nothing_uses_the_simulator_and_core_and_crypto_never_meet() {
        for rule in &RULES {
            assert!(!rule.may_use.contains(&"socp-sim"), "{}", rule.name);
        }
        assert!(!rule_for("socp-core").unwrap().may_use.contains(&"socp-crypto"));
        assert!(!rule_for("socp-crypto").unwrap().may_use.contains(&"socp-core"));
    }

    #[test]
    fn impure_libraries_stay_out_of_pure_crates_even_renamed() {
        for library in IMPURE {
            for user in ["socp-proto", "socp-core"] {
                let expected = format!("Cargo.toml:4: `{user}` is pure: `{library}` belongs in a crate that drives it");
                assert_eq!(found(user, &format!("{library}.workspace = true\n")), [expected]);
            }
        }
        assert_eq!(found("socp-core", "quiet.workspace = true\n").len(), 1);
        assert_eq!(
            found("socp-core", "t = { package = \"tokio\", version = \"1\" }\n").len(),
            1
        );
        assert_eq!(
            found("socp-core", "[target.'cfg(unix)'.dependencies]\ntokio = \"1\"\n").len(),
            1
        );
    }

    #[test]
    fn dev_dependencies_are_free() {
        assert_eq!(
            found(
                "socp-core",
                "[dev-dependencies]\nsocp-crypto.workspace = true\ntokio = \"1\"\n"
            ),
            [""; 0]
        );
    }

    #[test]
    fn crates_without_a_rule_and_unreadable_manifests_are_found() {
        assert!(
            found("socp-new", "")
                .first()
                .unwrap()
                .contains("`socp-new` has no arrows yet")
        );
        assert!(
            found("socp", "tokio = \n")
                .first()
                .unwrap()
                .starts_with("Cargo.toml:4: unreadable manifest")
        );
    }
}
