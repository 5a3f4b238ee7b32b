//! Where the certificate for TLS comes from: one of three places, or nowhere.

use super::ServeArgs;
use color_eyre::eyre::{Result, bail};
use socp_server::{AcmeSettings, TlsSource};

pub(super) fn read_tls(args: &ServeArgs) -> Result<Option<TlsSource>> {
    if let Some(acme) = read_acme(args)? {
        return Ok(Some(acme));
    }
    match (args.tls_cert.clone(), args.tls_key.clone(), args.tls_self_signed) {
        (None, None, false) => Ok(None),
        (None, None, true) => Ok(Some(TlsSource::SelfSigned)),
        (Some(chain), Some(key), false) => Ok(Some(TlsSource::Files { chain, key })),
        (Some(_), None, false) => bail!("--tls-cert needs the certificate's key, too: --tls-key FILE"),
        (None, Some(_), false) => bail!("--tls-key needs the certificate, too: --tls-cert FILE"),
        (Some(_), _, true) | (_, Some(_), true) => {
            bail!("--tls-self-signed makes a certificate and --tls-cert names one; use either")
        }
    }
}

fn read_acme(args: &ServeArgs) -> Result<Option<TlsSource>> {
    if args.acme_domain.is_empty() {
        let lonely = [
            ("--acme-contact", !args.acme_contact.is_empty()),
            ("--acme-directory", args.acme_directory.is_some()),
            ("--acme-ca", args.acme_ca.is_some()),
        ];
        if let Some((flag, _)) = lonely.iter().find(|(_, is_given)| *is_given) {
            bail!("{flag} says how a certificate is asked for, but not for which name: --acme-domain NAME");
        }
        return Ok(None);
    }
    if args.tls_cert.is_some() || args.tls_key.is_some() {
        bail!("--acme-domain gets a certificate from an authority and --tls-cert and --tls-key name one; use either");
    }
    if args.tls_self_signed {
        bail!("--acme-domain gets a certificate from an authority and --tls-self-signed makes one; use either");
    }
    let mut domains: Vec<String> = Vec::new();
    for domain in args.acme_domain.iter().map(|domain| domain.to_ascii_lowercase()) {
        if !domains.contains(&domain) {
            domains.push(domain);
        }
    }
    let directory = args.acme_directory.as_deref().unwrap_or(AcmeSettings::LETS_ENCRYPT);
    Ok(Some(TlsSource::Acme(AcmeSettings {
        domains,
        contacts: args.acme_contact.clone(),
        directory: directory.to_owned(),
        authority: args.acme_ca.clone(),
    })))
}
