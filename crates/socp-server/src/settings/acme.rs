//! What is asked of an authority for certificates (ACME, decision 0026).

use crate::error::ServerError;
use std::path::PathBuf;

/// Names in one certificate: as many as Let's Encrypt takes.
const DOMAINS_MAX: usize = 100;

/// Contacts that an authority is told.
const CONTACTS_MAX: usize = 10;

/// Bytes of a contact or an address of a directory.
const TEXT_BYTES_MAX: usize = 256;

/// Bytes of a name, and of a part of it (RFC 1035 §2.3.4).
const DOMAIN_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// An authority, and the names that it shall sign for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeSettings {
    /// The names, each of which leads here.
    pub domains: Vec<String>,
    /// Whom the authority may write to: `mailto:` addresses.
    pub contacts: Vec<String>,
    /// Where the authority says what it can do.
    pub directory: String,
    /// A file with certificates (PEM) that vouch for the authority's own address, beside those of the machine.
    pub authority: Option<PathBuf>,
}

impl AcmeSettings {
    /// The directory of Let's Encrypt.
    pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

    /// Refuses what no authority could sign, and programs that cannot ask any.
    pub(super) fn check(&self) -> Result<(), ServerError> {
        if cfg!(not(feature = "acme")) {
            return Err(without_acme());
        }
        if self.domains.is_empty() || self.domains.len() > DOMAINS_MAX {
            return Err(ServerError::Setting(format!(
                "--acme-domain is given {} times; a certificate is for 1 to {DOMAINS_MAX} names",
                self.domains.len()
            )));
        }
        for domain in &self.domains {
            check_domain(domain)
                .map_err(|reason| ServerError::Setting(format!("--acme-domain {domain:?} {reason}")))?;
        }
        if self.contacts.len() > CONTACTS_MAX {
            return Err(ServerError::Setting(format!(
                "--acme-contact is given {} times; {CONTACTS_MAX} are enough",
                self.contacts.len()
            )));
        }
        for contact in &self.contacts {
            let address = contact.strip_prefix("mailto:").unwrap_or_default();
            let is_address = address
                .split_once('@')
                .is_some_and(|(user, host)| !user.is_empty() && !host.is_empty());
            if !is_address || !is_plain(contact) {
                return Err(ServerError::Setting(format!(
                    "--acme-contact {contact:?} is not like mailto:you@example.org"
                )));
            }
        }
        let rest = self.directory.strip_prefix("https://").unwrap_or_default();
        if rest.is_empty() || !is_plain(&self.directory) {
            return Err(ServerError::Setting(format!(
                "--acme-directory {:?} is not an address like {}; it begins with https://",
                self.directory,
                Self::LETS_ENCRYPT
            )));
        }
        Ok(())
    }
}

/// What a program that was built without it says.
pub(crate) fn without_acme() -> ServerError {
    ServerError::Setting(
        "--acme-domain: this program was built without ACME; build it with `--features acme`, or have another program \
         get the certificate and name its files with --tls-cert and --tls-key"
            .to_owned(),
    )
}

fn is_plain(text: &str) -> bool {
    text.len() <= TEXT_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn check_domain(domain: &str) -> Result<(), &'static str> {
    if domain.starts_with("*.") {
        return Err("is for many names; who answers at a port can show one name only, so give each by itself");
    }
    if domain.parse::<std::net::IpAddr>().is_ok() {
        return Err("is an address; a name is wanted, or --tls-self-signed");
    }
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if domain.len() > DOMAIN_BYTES_MAX || !domain.split('.').all(is_label) {
        return Err("is not a host name like chat.example.org (other letters in their xn-- form, no dot at the end)");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(domains: &[&str], contacts: &[&str], directory: &str) -> AcmeSettings {
        AcmeSettings {
            domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
            contacts: contacts.iter().map(|contact| (*contact).to_owned()).collect(),
            directory: directory.to_owned(),
            authority: None,
        }
    }

    #[test]
    fn names_that_lead_to_one_port_are_taken() {
        for domain in ["chat.example.org", "localhost", "xn--bcher-kva.example", "1.example"] {
            assert_eq!(check_domain(domain), Ok(()), "{domain}");
        }
        let long = format!("{}.example", "a".repeat(64));
        for domain in [
            "",
            "*.example.org",
            "192.0.2.7",
            "::1",
            "b\u{fc}cher.example",
            "a..b",
            "a.",
            "-a.b",
            &long,
        ] {
            assert!(check_domain(domain).is_err(), "{domain}");
        }
    }

    #[cfg(feature = "acme")]
    #[test]
    fn what_no_authority_takes_is_named() {
        let good = AcmeSettings::LETS_ENCRYPT;
        let said = |settings: AcmeSettings| settings.check().unwrap_err().to_string();
        assert!(settings(&["a.example"], &["mailto:a@b"], good).check().is_ok());
        assert!(said(settings(&[], &[], good)).contains("0 times"));
        assert!(said(settings(&["a.example"; 101], &[], good)).contains("101 times"));
        assert!(said(settings(&["*.example"], &[], good)).contains("*.example"));
        assert!(said(settings(&["a.example"], &["a@b"], good)).contains("mailto:"));
        assert!(said(settings(&["a.example"], &["mailto:a@b"; 11], good)).contains("11 times"));
        assert!(said(settings(&["a.example"], &[], "http://ca.example")).contains("https://"));
    }

    #[cfg(not(feature = "acme"))]
    #[test]
    fn a_program_without_it_says_how_to_build_it() {
        let said = settings(&["a.example"], &[], AcmeSettings::LETS_ENCRYPT)
            .check()
            .unwrap_err()
            .to_string();
        assert!(
            said.contains("--features acme") && said.contains("--tls-cert"),
            "{said}"
        );
    }
}
