//! The script: which action follows at which point. Holds the turn counters, knows nothing of sockets.

use std::collections::HashMap;
use std::fmt;

use super::{Action, Command, Mail};

/// What is known when an answer is due.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The point of the dialog.
    pub command: Command,
    /// The line as the client sent it, without its line end; empty where the point has none.
    pub line: &'a str,
    /// Number of the connection, from 1 in the order of opening.
    pub connection: u64,
    /// Which transaction of the connection it is, from 1; 0 before the first `MAIL`.
    pub transaction: u64,
    /// Address of `MAIL FROM`, empty for the null sender.
    pub sender: Option<&'a str>,
    /// Address of this `RCPT TO`; `None` at any other command.
    pub recipient: Option<&'a str>,
    /// The recipients accepted so far.
    pub recipients: &'a [String],
    /// The whole mail, at [`Command::Dot`] alone.
    pub mail: Option<&'a Mail>,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// The user that logged in.
    pub user: Option<&'a str>,
}

impl Context<'_> {
    /// Whether one of the recipients satisfies `test`: that of this `RCPT`, elsewhere any that was accepted.
    fn any_recipient(&self, test: impl Fn(&str) -> bool) -> bool {
        match self.recipient {
            Some(recipient) => test(recipient),
            None => self.recipients.iter().any(|recipient| test(recipient)),
        }
    }
}

/// What the turns of a rule are counted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Key {
    /// The whole server.
    #[default]
    Server,
    /// Each connection.
    Connection,
    /// Each sender.
    Sender,
    /// Each recipient; after `RCPT` the first accepted one.
    Recipient,
    /// Each Message-ID, known at [`Command::Dot`] alone.
    MessageId,
}

impl Key {
    fn of(self, context: &Context<'_>) -> String {
        match self {
            Self::Server => String::new(),
            Self::Connection => context.connection.to_string(),
            Self::Sender => context.sender.unwrap_or_default().to_owned(),
            Self::Recipient => context
                .recipient
                .or_else(|| context.recipients.first().map(String::as_str))
                .unwrap_or_default()
                .to_owned(),
            Self::MessageId => context.mail.and_then(Mail::message_id).unwrap_or_default().to_owned(),
        }
    }
}

type Test = Box<dyn Fn(&Context<'_>) -> bool + Send + Sync>;

/// One line of the script: at this point, if all its conditions hold and it has a turn left, this action.
///
/// ```
/// use devkit::smtp::{Action, Command, Key, on};
/// // Greylisting: each recipient is deferred twice.
/// on(Command::Rcpt).per(Key::Recipient).times(2, Action::reply(451, "4.7.1", "greylisted"));
/// // One address never works.
/// on(Command::Rcpt).recipient("nobody@example.org").reply(550, "5.1.1", "no such user");
/// // The first mail is taken without an answer, the second refused, all others accepted.
/// on(Command::Dot).turns([Action::TakeAndHangUp, Action::reply(554, "5.6.0", "no")]);
/// ```
#[must_use]
pub struct Rule {
    command: Command,
    tests: Vec<Test>,
    key: Key,
    skip: usize,
    turns: Turns,
    seen: HashMap<String, usize>,
}

enum Turns {
    Always(Action),
    List(Vec<Action>),
    Times(usize, Action),
}

/// A rule for this point; until told otherwise it has no condition and gives the default answer.
pub fn on(command: Command) -> Rule {
    Rule {
        command,
        tests: Vec::new(),
        key: Key::Server,
        skip: 0,
        turns: Turns::Always(Action::Accept),
        seen: HashMap::new(),
    }
}

impl Rule {
    /// Only where the predicate holds.
    pub fn when(mut self, test: impl Fn(&Context<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.tests.push(Box::new(test));
        self
    }

    /// Only for this recipient, in any case; after `RCPT` for mails that have it.
    pub fn recipient(self, address: &str) -> Self {
        let address = address.to_owned();
        self.when(move |context| context.any_recipient(|recipient| recipient.eq_ignore_ascii_case(&address)))
    }

    /// Only for recipients that contain this.
    pub fn recipient_contains(self, part: &str) -> Self {
        let part = part.to_owned();
        self.when(move |context| context.any_recipient(|recipient| recipient.contains(&part)))
    }

    /// Only for this sender, in any case.
    pub fn sender(self, address: &str) -> Self {
        let address = address.to_owned();
        self.when(move |context| context.sender.is_some_and(|sender| sender.eq_ignore_ascii_case(&address)))
    }

    /// Only for mails with a header of this name that contains this; for [`Command::Dot`].
    pub fn header_contains(self, name: &str, part: &str) -> Self {
        let (name, part) = (name.to_owned(), part.to_owned());
        self.when(move |context| {
            context.mail.and_then(|mail| mail.header(&name)).is_some_and(|value| value.contains(&part))
        })
    }

    /// Only for mails whose body, as transferred, contains this; for [`Command::Dot`].
    pub fn body_contains(self, part: &str) -> Self {
        let part = part.as_bytes().to_owned();
        self.when(move |context| context.mail.is_some_and(|mail| memchr::memmem::find(mail.body(), &part).is_some()))
    }

    /// Only on this connection, from 1 in the order of opening.
    pub fn connection(self, number: u64) -> Self {
        self.when(move |context| context.connection == number)
    }

    /// Only in this transaction of a connection, from 1. A refused `MAIL` counts.
    pub fn transaction(self, number: u64) -> Self {
        self.when(move |context| context.transaction == number)
    }

    /// Count turns for each of these rather than for the whole server.
    pub fn per(mut self, key: Key) -> Self {
        self.key = key;
        self
    }

    /// Let this many pass before the first turn.
    pub fn skip(mut self, count: usize) -> Self {
        self.skip = count;
        self
    }

    /// This action, each time.
    pub fn act(mut self, action: Action) -> Self {
        self.turns = Turns::Always(action);
        self
    }

    /// This reply, each time; see [`Action::reply`].
    pub fn reply(self, code: u16, enhanced: &str, text: &str) -> Self {
        self.act(Action::reply(code, enhanced, text))
    }

    /// This action once, then the rules below.
    pub fn once(self, action: Action) -> Self {
        self.times(1, action)
    }

    /// This action so many times, then the rules below.
    pub fn times(mut self, count: usize, action: Action) -> Self {
        self.turns = Turns::Times(count, action);
        self
    }

    /// These actions one turn each, then the rules below.
    pub fn turns(mut self, actions: impl IntoIterator<Item = Action>) -> Self {
        self.turns = Turns::List(actions.into_iter().collect());
        self
    }
}

impl Rule {
    fn action(&mut self, context: &Context<'_>) -> Option<Action> {
        if self.command != context.command || !self.tests.iter().all(|test| test(context)) {
            return None;
        }
        let turn = if self.skip == 0 && matches!(self.turns, Turns::Always(_)) {
            0
        } else {
            let seen = self.seen.entry(self.key.of(context)).or_default();
            *seen += 1;
            (*seen - 1).checked_sub(self.skip)?
        };
        match &self.turns {
            Turns::Always(action) => Some(action.clone()),
            Turns::Times(count, action) => (turn < *count).then(|| action.clone()),
            Turns::List(actions) => actions.get(turn).cloned(),
        }
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule")
            .field("command", &self.command)
            .field("conditions", &self.tests.len())
            .finish_non_exhaustive()
    }
}

/// The action of the first rule that has one.
pub(super) fn decide(rules: &mut [Rule], context: &Context<'_>) -> Action {
    rules.iter_mut().find_map(|rule| rule.action(context)).unwrap_or(Action::Accept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rcpt(recipient: &str) -> Context<'_> {
        Context {
            command: Command::Rcpt,
            line: "",
            connection: 1,
            transaction: 1,
            sender: Some("from@example.org"),
            recipient: Some(recipient),
            recipients: &[],
            mail: None,
            tls: false,
            user: None,
        }
    }

    fn label(action: &Action) -> String {
        match action {
            Action::Accept => "accept".into(),
            Action::Send(bytes) => String::from_utf8_lossy(&bytes[..3]).into_owned(),
            other => format!("{other:?}"),
        }
    }

    fn answers(rules: &mut [Rule], recipients: &[&str]) -> Vec<String> {
        recipients.iter().map(|recipient| label(&decide(rules, &rcpt(recipient)))).collect()
    }

    #[test]
    fn turns_are_counted_for_each_key() {
        let mut rules =
            [on(Command::Rcpt).per(Key::Recipient).turns([Action::reply(451, "", "later"), Action::Accept])];
        assert_eq!(
            answers(&mut rules, &["a@x", "b@x", "a@x", "b@x", "a@x"]),
            ["451", "451", "accept", "accept", "accept"]
        );
    }

    #[test]
    fn a_rule_without_turns_left_gives_way_to_the_next() {
        let mut rules = [
            on(Command::Rcpt).skip(1).once(Action::reply(451, "", "later")),
            on(Command::Rcpt).recipient("B@x").reply(550, "", "never"),
            on(Command::Mail).reply(500, "", "another command"),
        ];
        assert_eq!(answers(&mut rules, &["a@x", "a@x", "a@x", "b@x"]), ["accept", "451", "accept", "550"]);
    }
}
