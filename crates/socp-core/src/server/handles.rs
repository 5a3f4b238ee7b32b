//! Handles: the names by which people find each other, each one user's at this server (PROTOCOL I.6).
//!
//! Whoever asks first has it. A second one is let in without it, and told so: a name is no reason to refuse anybody. Two
//! texts are one handle if they are the same after compatibility composition (NFKC) and full case folding.

use super::Server;
use super::io::{LinkId, UserRecord};
use crate::names::folded_case;
use socp_proto::payload::UserHello;
use socp_proto::{Meta, UserId};
use std::collections::BTreeMap;
use unicode_normalization::UnicodeNormalization as _;

/// Whose handle is whose.
#[derive(Debug, Default)]
pub(super) struct Handles {
    owners: BTreeMap<String, UserId>,
    of: BTreeMap<UserId, String>,
    /// Handles that were asked for in vain on a link, until it is answered.
    refused: BTreeMap<LinkId, String>,
}

impl Handles {
    /// Those of before; of two who had the same, the one who is named first keeps it.
    pub(super) fn new<'a>(records: impl Iterator<Item = &'a UserRecord>) -> Self {
        let mut handles = Self::default();
        for record in records {
            handles.claim(&record.user_id, record.meta.handle());
        }
        handles
    }

    /// Who has this handle.
    pub(super) fn owner(&self, text: &str) -> Option<&UserId> {
        self.owner_of_folded(&folded(text))
    }

    /// The same of one that is [`folded`].
    pub(super) fn owner_of_folded(&self, handle: &str) -> Option<&UserId> {
        self.owners.get(handle)
    }

    /// Gives up the user's handle for another, or none; false if that is somebody else's.
    fn claim(&mut self, user: &UserId, handle: Option<&str>) -> bool {
        self.release(user);
        let Some(handle) = handle.map(folded) else { return true };
        if self.owners.contains_key(&handle) {
            return false;
        }
        self.owners.insert(handle.clone(), user.clone());
        self.of.insert(user.clone(), handle);
        true
    }

    pub(super) fn release(&mut self, user: &UserId) {
        if let Some(handle) = self.of.remove(user) {
            self.owners.remove(&handle);
        }
    }

    pub(super) fn is_of_another(&self, user: &UserId, text: &str) -> bool {
        self.owner(text).is_some_and(|owner| owner != user)
    }

    /// The handle that was asked for in vain on this link.
    pub(super) fn take_refused(&mut self, link: LinkId) -> Option<String> {
        self.refused.remove(&link)
    }
}

impl Server {
    /// The hello of a user that is about to be let in, without a handle that is another's. Neither may the name to show
    /// be one, since it serves where there is no handle.
    pub(super) fn settle_handle(&mut self, link: LinkId, user: &UserId, hello: UserHello) -> UserHello {
        self.handles.refused.remove(&link);
        let Some(meta) = hello.meta else { return hello };
        let wanted = meta.name().map(str::to_owned);
        let is_id_of_another = |name: &str| {
            let id = UserId::try_from(name).ok().filter(|id| id != user);
            id.is_some_and(|id| self.records.contains_key(&id))
        };
        let meta = meta.without(|name| self.handles.is_of_another(user, name) || is_id_of_another(name));
        if let Some(wanted) = wanted.filter(|wanted| meta.name() != Some(wanted)) {
            self.handles.refused.insert(link, wanted);
        }
        self.handles.claim(user, meta.handle());
        UserHello {
            meta: Some(meta),
            ..hello
        }
    }

    /// What a hello asked for did not come to pass: the user has the handle of its record again, if it has one.
    pub(super) fn restore_handle(&mut self, user: &UserId) {
        let meta: Option<&Meta> = self.records.get(user).map(|record| &record.meta);
        self.handles.claim(user, meta.and_then(Meta::handle));
    }
}

/// What two handles that are the same have in common.
pub(super) fn folded(text: &str) -> String {
    let step = |text: &str| -> String { folded_case(text).nfkc().collect() };
    // Folding may bring forth what is to be composed, and that what is to be folded (Unicode §3.13, D146).
    step(&step(&text.nfkc().collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: &str) -> UserId {
        UserId::try_from(id).unwrap()
    }

    #[test]
    fn a_handle_is_the_same_in_any_case_and_form() {
        for (one, other) in [
            ("Alice", "aLICE"),
            ("ﬁn", "FIN"),
            ("Ａｌｉｃｅ", "alice"),
            ("é", "e\u{301}"),
            ("ΝΙΚΟΣ", "Νικος"),
            ("Groß", "GROSS"),
        ] {
            assert_eq!(folded(one), folded(other), "{one}");
        }
        assert_ne!(folded("alice"), folded("аlice"), "another alphabet is another name");
        for hidden in [
            "al\u{200d}ice",
            "alice\u{200b}",
            "\u{202e}alice",
            "ali\u{ad}ce",
            "alice\u{fe0f}",
        ] {
            assert_ne!(folded("alice"), folded(hidden), "{}", hidden.escape_unicode());
        }
    }

    #[test]
    fn the_first_has_it_until_it_is_given_up() {
        let mut handles = Handles::default();
        assert!(handles.claim(&user("a"), Some("Bob")));
        assert!(!handles.claim(&user("b"), Some("bob")));
        assert_eq!(handles.owner("BOB"), Some(&user("a")));
        assert!(handles.claim(&user("a"), Some("bobby")));
        assert_eq!(handles.owner("bob"), None);
        assert!(handles.claim(&user("b"), Some("bob")));
        handles.release(&user("b"));
        assert_eq!(handles.owner("bob"), None);
        assert_eq!((handles.owners.len(), handles.of.len()), (1, 1));
    }
}
