//! Getting a certificate: an account, an order, an answer for each name, and what was signed (RFC 8555 §7).

use super::fault::Fault;
use super::files::{AccountFile, Files};
use super::http::Client;
use super::on_disk;
use crate::settings::AcmeSettings;
use instant_acme::{
    Account, AuthorizationHandle, AuthorizationStatus, ChallengeType, Error, Identifier, NewAccount, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use socp_tls::{Acceptor, Answer, Authorities};
use std::time::Duration;

/// How long the authority may look at the answers, or sign.
const DECISION_WAIT_MAX: Duration = Duration::from_secs(180);

/// The account that is kept, for these contacts; made where there is none at this authority.
pub(super) async fn account(
    settings: &AcmeSettings,
    files: &Files,
    authorities: &Authorities,
) -> Result<Account, Fault> {
    let client = Client {
        authorities: authorities.clone(),
    };
    let builder = Account::builder_with_http(Box::new(client));
    let contacts: Vec<&str> = settings.contacts.iter().map(String::as_str).collect();
    let reading = files.clone();
    let kept = on_disk(move || reading.account()).await?;
    if let Some(mut kept) = kept.filter(|kept| kept.directory == settings.directory) {
        let has_changed = kept.contacts != settings.contacts;
        let account = builder.from_credentials(copy_of(&kept)?).await.map_err(Fault::of)?;
        if has_changed {
            account.update_contacts(&contacts).await.map_err(Fault::of)?;
            kept.contacts.clone_from(&settings.contacts);
            keep(files, kept).await?;
        }
        return Ok(account);
    }
    let directory = settings.directory.clone();
    tracing::info!(
        directory,
        "making an account at the authority, which means to agree to its terms"
    );
    let wanted = NewAccount {
        contact: &contacts,
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let made = builder.create(&wanted, directory.clone(), None).await;
    let (account, credentials) = made.map_err(Fault::of)?;
    let kept = AccountFile {
        directory,
        contacts: settings.contacts.clone(),
        credentials,
    };
    keep(files, kept).await?;
    Ok(account)
}

async fn keep(files: &Files, account: AccountFile) -> Result<(), Fault> {
    let files = files.clone();
    on_disk(move || files.keep_account(&account)).await
}

/// The library takes its credentials away, and gives no copy.
fn copy_of(kept: &AccountFile) -> Result<instant_acme::AccountCredentials, Fault> {
    let text = serde_json::to_vec(&kept.credentials).map_err(Fault::here)?;
    serde_json::from_slice(&text).map_err(Fault::here)
}

/// Gets a certificate for these names and this key; the chain in PEM.
pub(super) async fn obtain(
    account: &Account,
    domains: &[String],
    key: &KeyPair,
    acceptor: &Acceptor,
) -> Result<String, Fault> {
    let identifiers: Vec<Identifier> = domains.iter().cloned().map(Identifier::Dns).collect();
    let mut order = account
        .new_order(&NewOrder::new(&identifiers))
        .await
        .map_err(Fault::of)?;
    // Whatever becomes of the order, nobody is shown the answers afterwards.
    let _answers = Answers(acceptor);
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        answer(authorization.map_err(Fault::of)?, acceptor).await?;
    }
    let policy = RetryPolicy::new().timeout(DECISION_WAIT_MAX);
    match order.poll_ready(&policy).await {
        Ok(OrderStatus::Ready) => {}
        decided => {
            if let Some(fault) = why_refused(&mut order).await? {
                return Err(fault);
            }
            let status = decided.map_err(Fault::of)?;
            return Err(Fault::Useless(format!(
                "the order is {status:?}, and it does not say why"
            )));
        }
    }
    let request = request(domains, key).map_err(Fault::here)?;
    order.finalize_csr(&request).await.map_err(Fault::of)?;
    order.poll_certificate(&policy).await.map_err(Fault::of)
}

/// What authorities are shown while an order is open.
struct Answers<'a>(&'a Acceptor);

impl Drop for Answers<'_> {
    fn drop(&mut self) {
        self.0.answer_nothing();
    }
}

/// Has the server show what the authority wants to see for a name, and says that it may look.
async fn answer(mut authorization: AuthorizationHandle<'_>, acceptor: &Acceptor) -> Result<(), Fault> {
    // A name that was looked at lately is not looked at again.
    if authorization.status == AuthorizationStatus::Valid {
        return Ok(());
    }
    let domain = authorization.identifier().to_string();
    let Some(mut challenge) = authorization.challenge(ChallengeType::TlsAlpn01) else {
        return Err(Fault::Useless(format!(
            "it does not look at {domain} by TLS-ALPN-01 (RFC 8737)"
        )));
    };
    let shown = shown(&domain, challenge.key_authorization().digest().as_ref()).map_err(Fault::here)?;
    acceptor.answer(&domain, shown);
    match challenge.set_ready().await {
        Ok(()) => Ok(()),
        // One that looks at once says here what it saw.
        Err(Error::Api(problem)) => Err(Fault::refused(Some(&domain), &problem)),
        Err(error) => Err(Fault::of(error)),
    }
}

/// The certificate that only the account can have made (RFC 8737 §3).
fn shown(domain: &str, digest: &[u8]) -> Result<Answer, String> {
    if digest.len() != 32 {
        return Err(format!("a digest of {} bytes", digest.len()));
    }
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let mut params = CertificateParams::new(vec![domain.to_owned()]).map_err(|error| error.to_string())?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key).map_err(|error| error.to_string())?;
    Answer::new(certificate.der().to_vec(), key.serialize_der()).map_err(|error| error.to_string())
}

/// What the authority says of the first name that it was not content with.
async fn why_refused(order: &mut Order) -> Result<Option<Fault>, Fault> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(Fault::of)?;
        authorization.refresh().await.map_err(Fault::of)?;
        let domain = authorization.identifier().to_string();
        let mut problems = authorization
            .challenges
            .iter()
            .filter_map(|challenge| challenge.error.as_ref());
        if let Some(problem) = problems.next() {
            return Ok(Some(Fault::refused(Some(&domain), problem)));
        }
    }
    Ok(None)
}

/// The request for a certificate: the names and the key, nothing else (RFC 2986).
fn request(domains: &[String], key: &KeyPair) -> Result<Vec<u8>, rcgen::Error> {
    let mut params = CertificateParams::new(domains.to_vec())?;
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(key)?.der().to_vec())
}
