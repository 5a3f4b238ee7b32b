//! What one run found, for people and for programs.

use super::machine::Machine;
use super::proc::float;
use serde::Serialize;
use std::fmt::Write as _;

/// One run. What does not apply is absent.
#[derive(Debug, Default, Serialize)]
pub(super) struct Figures {
    pub(super) scenario: String,
    pub(super) mode: String,
    pub(super) verify_content: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sync: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) delivered: Option<u64>,
    pub(super) lost: u64,
    #[serde(serialize_with = "short")]
    pub(super) wall_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "short")]
    pub(super) writing_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "short")]
    pub(super) waiting_rss_mib: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "short")]
    pub(super) server_cpu_s: Option<f64>,
    #[serde(serialize_with = "short")]
    pub(super) generator_cpu_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "short")]
    pub(super) per_wall_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "short")]
    pub(super) per_cpu_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "short")]
    pub(super) p50_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "short")]
    pub(super) p99_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "short")]
    pub(super) rss_mib: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "short")]
    pub(super) kib_per_client: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "short")]
    pub(super) challenge_account_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "short")]
    pub(super) challenge_nobody_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "short")]
    pub(super) refusal_account_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "short")]
    pub(super) refusal_nobody_ms: Option<f64>,
    #[serde(serialize_with = "short")]
    pub(super) rsa_sign_per_cpu_s: Option<f64>,
    #[serde(serialize_with = "short")]
    pub(super) rsa_verify_per_cpu_s: Option<f64>,
    #[serde(serialize_with = "short")]
    pub(super) ed25519_sign_per_cpu_s: Option<f64>,
}

impl Figures {
    /// Adds what follows from the rest, and how fast the machine was.
    pub(super) fn complete(&mut self, machine: &Machine) {
        let per = |seconds: Option<f64>| {
            let seconds = seconds.filter(|seconds| *seconds > 0.0)?;
            Some(float(self.delivered?) / seconds)
        };
        (self.per_wall_s, self.per_cpu_s) = (per(self.wall_s), per(self.server_cpu_s));
        self.rsa_sign_per_cpu_s = Some(machine.rsa_sign_per_cpu_s());
        self.rsa_verify_per_cpu_s = Some(machine.rsa_verify_per_cpu_s());
        self.ed25519_sign_per_cpu_s = Some(machine.ed25519_sign_per_cpu_s());
    }

    /// Several lines for people.
    pub(super) fn table(&self) -> String {
        let mut text = format!(
            "{}, mode {}, content verification {}{}\n",
            self.scenario,
            self.mode,
            self.verify_content,
            if self.sync.as_deref() == Some("on") {
                ", acknowledged from the disk"
            } else {
                ""
            }
        );
        let mut row = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                // Writing to a String cannot fail.
                let _infallible = writeln!(text, "  {name:<34} {value:>12}");
            }
        };
        let number = |value: Option<f64>, unit: &str| value.map(|value| format!("{}{unit}", rounded(value)));
        row("delivered", self.delivered.map(|count| count.to_string()));
        row("lost", Some(self.lost.to_string()));
        row("written down within", number(self.writing_s, " s"));
        row("resident memory while all wait", number(self.waiting_rss_mib, " MiB"));
        row("wall time", number(self.wall_s, " s"));
        row("processor time of the servers", number(self.server_cpu_s, " s"));
        row("processor time of the generator", number(self.generator_cpu_s, " s"));
        row("delivered per second", number(self.per_wall_s, ""));
        row("delivered per server CPU second", number(self.per_cpu_s, ""));
        row(
            "  by RSA signatures per CPU second",
            number(self.by_rsa_signatures(), ""),
        );
        row("half arrive within", number(self.p50_ms, " ms"));
        row("99 of 100 arrive within", number(self.p99_ms, " ms"));
        row("a wrong password: challenge", number(self.challenge_account_ms, " ms"));
        row("  of nobody's name", number(self.challenge_nobody_ms, " ms"));
        row("a wrong password: refusal", number(self.refusal_account_ms, " ms"));
        row("  of nobody's name", number(self.refusal_nobody_ms, " ms"));
        row("resident memory of a server", number(self.rss_mib, " MiB"));
        row("  for each client", number(self.kib_per_client, " KiB"));
        row(
            "RSA-4096 signatures per CPU second",
            number(self.rsa_sign_per_cpu_s, ""),
        );
        row("  verifications", number(self.rsa_verify_per_cpu_s, ""));
        row(
            "Ed25519 signatures per CPU second",
            number(self.ed25519_sign_per_cpu_s, ""),
        );
        text
    }

    /// How near a server comes to doing nothing but one RSA signature for each delivery.
    fn by_rsa_signatures(&self) -> Option<f64> {
        Some(self.per_cpu_s? / self.rsa_sign_per_cpu_s.filter(|rate| *rate > 0.0)?)
    }
}

/// Three digits behind the point are more than any of these figures is worth.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[expect(clippy::ref_option, reason = "the form that serde calls")]
fn short<S: serde::Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map(rounded).serialize(serializer)
}

/// The value below which so many of a hundred lie (nearest rank); nothing of nothing. Sorts.
pub(super) fn percentile(values: &mut [u32], percent: usize) -> Option<u32> {
    let rank = values.len().checked_mul(percent)?.div_ceil(100);
    let at = rank.max(1).checked_sub(1)?;
    if at >= values.len() {
        return None;
    }
    Some(*values.select_nth_unstable(at).1)
}

/// Microseconds as milliseconds.
pub(super) fn millis(micros: u32) -> f64 {
    f64::from(micros) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let mut hundred: Vec<u32> = (1..=100).rev().collect();
        assert_eq!(percentile(&mut hundred, 50), Some(50));
        assert_eq!(percentile(&mut hundred, 99), Some(99));
        assert_eq!(percentile(&mut hundred, 100), Some(100));
        assert_eq!(percentile(&mut hundred, 0), Some(1));
        assert_eq!(percentile(&mut [7], 99), Some(7));
        assert_eq!(percentile(&mut [9, 3], 50), Some(3));
        assert_eq!(percentile(&mut [], 50), None);
    }

    #[test]
    fn what_does_not_apply_is_absent() {
        let figures = Figures {
            scenario: "idle".to_owned(),
            wall_s: Some(1.23456),
            ..Figures::default()
        };
        let json = serde_json::to_value(&figures).unwrap();
        assert_eq!(json["wall_s"], 1.235);
        for absent in ["delivered", "per_cpu_s", "p50_ms", "kib_per_client"] {
            assert!(json.get(absent).is_none(), "{absent}");
        }
        assert!(!figures.table().contains("within"));
    }
}
