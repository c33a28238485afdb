//! Recipients and senders as an application gives them.

use std::fmt;

use lettre::{Address, message::Mailbox};

use crate::event::{mailbox_text, parse_mailbox};

/// One mailbox or several, not yet checked.
///
/// A mailbox is a text such as `ann@example.com`, `Ann Smith <ann@example.com>` or `"Smith, Ann" <ann@example.com>`, a
/// pair of a name and an address, or lettre's [`Mailbox`] or [`Address`]. A name that comes from a user belongs in a
/// pair: there it cannot be taken for anything else.
///
/// ```
/// use postlane::Email;
///
/// let one = Email::to("Ann Smith <ann@example.com>");
/// let named = Email::to(("Smith, Ann", "ann@example.com"));
/// let several = Email::to(["ann@example.com", "bob@example.com"]).cc(vec![("Eve", "eve@example.com".to_owned())]);
/// # for email in [one, named, several] { assert_eq!(email.template("plain").check(), Ok(())); }
/// ```
#[derive(Clone, Default)]
pub struct Mailboxes(Vec<Entry>);

#[derive(Clone)]
enum Entry {
    Text(String),
    Named { name: String, address: String },
    Ready(Mailbox),
}

impl Entry {
    /// By the rules for the texts of an event, also what comes as a type: its makers may not have looked.
    fn parse(&self) -> Result<Mailbox, &'static str> {
        match self {
            Self::Text(text) => parse_mailbox(text),
            Self::Ready(mailbox) => parse_mailbox(&mailbox_text(mailbox)),
            Self::Named { name, address } => {
                let Mailbox { name: None, email } = parse_mailbox(address)? else {
                    return Err("expected an address alone beside the name");
                };
                parse_mailbox(&mailbox_text(&Mailbox { name: Some(name.clone()), email }))
            }
        }
    }
}

impl Mailboxes {
    pub(super) fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn parsed(&self) -> impl Iterator<Item = Result<Mailbox, &'static str>> {
        self.0.iter().map(Entry::parse)
    }
}

/// Shows nobody.
impl fmt::Debug for Mailboxes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mailboxes({})", self.0.len())
    }
}

impl From<&str> for Mailboxes {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<&String> for Mailboxes {
    fn from(text: &String) -> Self {
        text.clone().into()
    }
}

impl From<String> for Mailboxes {
    fn from(text: String) -> Self {
        Self(vec![Entry::Text(text)])
    }
}

impl From<Mailbox> for Mailboxes {
    fn from(mailbox: Mailbox) -> Self {
        Self(vec![Entry::Ready(mailbox)])
    }
}

impl From<&Mailbox> for Mailboxes {
    fn from(mailbox: &Mailbox) -> Self {
        mailbox.clone().into()
    }
}

impl From<Address> for Mailboxes {
    fn from(address: Address) -> Self {
        Mailbox { name: None, email: address }.into()
    }
}

/// A name and an address.
impl<N: Into<String>, A: Into<String>> From<(N, A)> for Mailboxes {
    fn from((name, address): (N, A)) -> Self {
        Self(vec![Entry::Named { name: name.into(), address: address.into() }])
    }
}

impl<T: Into<Mailboxes>> From<Vec<T>> for Mailboxes {
    fn from(list: Vec<T>) -> Self {
        list.into_iter().collect()
    }
}

impl<T: Into<Mailboxes>, const N: usize> From<[T; N]> for Mailboxes {
    fn from(list: [T; N]) -> Self {
        list.into_iter().collect()
    }
}

impl<T: Clone + Into<Mailboxes>, const N: usize> From<&[T; N]> for Mailboxes {
    fn from(list: &[T; N]) -> Self {
        list.as_slice().into()
    }
}

impl<T: Clone + Into<Mailboxes>> From<&Vec<T>> for Mailboxes {
    fn from(list: &Vec<T>) -> Self {
        list.as_slice().into()
    }
}

impl<T: Clone + Into<Mailboxes>> From<&[T]> for Mailboxes {
    fn from(list: &[T]) -> Self {
        list.iter().cloned().collect()
    }
}

impl<T: Into<Mailboxes>> FromIterator<T> for Mailboxes {
    fn from_iter<I: IntoIterator<Item = T>>(list: I) -> Self {
        Self(list.into_iter().flat_map(|entry| entry.into().0).collect())
    }
}
