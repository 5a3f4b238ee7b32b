//! Why there is no certificate, what an operator can do, and when it is tried again.

use super::http::Unreachable;
use instant_acme::{Error, Problem};
use std::fmt;
use std::time::Duration;

/// Characters of an authority's words that are told.
const WORDS_CHARS_MAX: usize = 600;

/// Problems of single names that are told.
const SUBPROBLEMS_MAX: usize = 3;

/// Pauses where nobody answers: the first, and the longest.
const UNREACHABLE_WAIT: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(600));

/// Pauses where the authority says no. Most let a name fail five times an hour.
const REFUSED_WAIT: (Duration, Duration) = (Duration::from_secs(900), Duration::from_secs(12 * 3600));

/// The first pause where the authority was asked too much.
const LIMITED_WAIT: Duration = Duration::from_secs(3600);

/// Why there is no certificate.
#[derive(Debug)]
pub(super) enum Fault {
    /// Nobody is there, or whoever is there is not the authority.
    Unreachable(String),
    /// The authority says no.
    Refused {
        /// Which of the problems of RFC 8555 §6.7 it is.
        kind: String,
        words: String,
    },
    /// The authority breaks the protocol, or signs what was not asked for.
    Useless(String),
    /// What it signed is not valid at our time.
    Clock(String),
    /// Our own disk, or our own keys.
    Here(String),
}

impl Fault {
    pub(super) fn here(error: impl fmt::Display) -> Self {
        Self::Here(error.to_string())
    }

    /// What the library reports.
    pub(super) fn of(error: Error) -> Self {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the rest is told in the library's words")]
        match error {
            Error::Api(problem) => Self::refused(None, &problem),
            Error::Other(inner) if inner.is::<Unreachable>() => Self::Unreachable(inner.to_string()),
            Error::Timeout(_) => Self::Unreachable("the authority does not come to a decision".to_owned()),
            Error::Json(error) => Self::Useless(tame(&format!("it is no JSON of ACME: {error}"))),
            other => Self::Useless(tame(&other.to_string())),
        }
    }

    /// What the authority says, of one name perhaps.
    pub(super) fn refused(domain: Option<&str>, problem: &Problem) -> Self {
        let kind = problem.r#type.as_deref().unwrap_or_default();
        let kind = kind.rsplit(':').next().unwrap_or_default().to_owned();
        let mut words = domain.map(|domain| format!("{domain}: ")).unwrap_or_default();
        words.push_str(problem.detail.as_deref().unwrap_or("it does not say why"));
        for part in problem.subproblems.iter().take(SUBPROBLEMS_MAX) {
            words.push_str("; ");
            words.push_str(&part.to_string());
        }
        Self::Refused {
            kind: tame(&kind),
            words: tame(&words),
        }
    }

    /// Whether the authority does not know the account that asked.
    pub(super) fn is_about_no_account(&self) -> bool {
        matches!(self, Self::Refused { kind, .. } if kind == "accountDoesNotExist")
    }

    /// What an operator can do.
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => {
                "check --acme-directory, the name service and the way out of this machine; an authority of your own needs --acme-ca"
            }
            Self::Refused { kind, .. } => match kind.as_str() {
                "connection" | "tls" | "unauthorized" | "incorrectResponse" => {
                    "port 443 of the name must lead to this server, without anything that ends TLS; check its addresses (A and AAAA) and firewalls"
                }
                "dns" => "check that the name exists and has this server's addresses (A and AAAA)",
                "caa" => "the name's CAA record allows other authorities only; change it, or --acme-directory",
                "rateLimited" => {
                    "the authority was asked too much for these names; wait, or try things out with its directory for tests"
                }
                "rejectedIdentifier" | "unsupportedIdentifier" => {
                    "the authority does not sign for this name; check --acme-domain"
                }
                "invalidContact" | "unsupportedContact" => "check --acme-contact",
                "externalAccountRequired" => {
                    "this authority wants an account that was made elsewhere, which is not supported; choose another --acme-directory"
                }
                "badPublicKey" => {
                    "remove acme-certificate.json from the data directory and start again: another key is made then"
                }
                "accountDoesNotExist" => "the authority has forgotten the account; another one is made",
                _ => "see what the authority says",
            },
            Self::Useless(_) => "check that --acme-directory is an authority's that speaks ACME (RFC 8555)",
            Self::Clock(_) => "set this machine's clock",
            Self::Here(_) => "check the data directory and its disk",
        }
    }

    /// How long nothing is asked for after so many failures before this one.
    pub(super) fn wait(&self, failures: u32) -> Duration {
        let (first, longest) = match self {
            Self::Refused { kind, .. } if kind == "accountDoesNotExist" => UNREACHABLE_WAIT,
            Self::Refused { kind, .. } if kind == "rateLimited" => (LIMITED_WAIT, REFUSED_WAIT.1),
            Self::Unreachable(_) | Self::Here(_) => UNREACHABLE_WAIT,
            Self::Refused { .. } | Self::Useless(_) | Self::Clock(_) => REFUSED_WAIT,
        };
        first.saturating_mul(2_u32.saturating_pow(failures)).min(longest)
    }
}

/// What comes from outside, without what could be written over a terminal on which a log is read.
fn tame(words: &str) -> String {
    let mut told = String::new();
    for c in words.chars().take(WORDS_CHARS_MAX) {
        match c {
            '\'' | '"' => told.push(c),
            _ => told.extend(c.escape_debug()),
        }
    }
    told
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(reason) => write!(f, "cannot reach the authority: {reason}"),
            Self::Refused { kind, words } => write!(f, "the authority says no ({kind}): {words}"),
            Self::Useless(reason) => write!(f, "the authority's answer cannot be used: {reason}"),
            Self::Clock(reason) => write!(f, "what the authority signed is not valid now: {reason}"),
            Self::Here(reason) => f.write_str(reason),
        }
    }
}
