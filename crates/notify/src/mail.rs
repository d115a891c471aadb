//! E-mail: each recipient by itself, so that one who is refused, or asked to wait, keeps it from nobody else.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lettre::address::Envelope;
use lettre::message::{Mailbox as Person, Message as Mail, header::ContentType};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::{self, PoolConfig};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use rollback_api::policy::{Email, EmailTls};
use rollback_core::notify::Message;
use rollback_core::notify::layout::email;
use rollback_probe::pinned;

use crate::Client;
use crate::address::Mailbox;
use crate::answer::Answer;

/// How long one step with the server may take.
const STEP: Duration = Duration::from_secs(10);
/// What a server says of a letter that it will not take from anybody (RFC 5321, 4.2.3): too large, or no transaction. The
/// other permanent ones are about the recipient, the sender or the password, which people mend.
const CONDEMNED: [&str; 2] = ["552", "554"];
/// How long all of it may take.
const WHOLE: Duration = Duration::from_mins(1);

/// Of how many letters it is remembered who has them, while others do not.
const MOST_PARTS: usize = 1000;

/// Who has a letter already that others are still to get. After a restart they get it again, under the same `Message-ID`.
#[derive(Clone, Default)]
pub(crate) struct Parts(Arc<Mutex<HashMap<String, HashMap<String, Sent>>>>);

/// What became of a letter to one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The server has taken it.
    Taken,
    /// The server wants neither this recipient nor, perhaps, us: that can be mended.
    Unwanted(String),
    /// The server does not want this letter.
    Condemned(String),
    /// Not now.
    Later(String),
}

impl Parts {
    fn of(&self, letter: &str) -> HashMap<String, Sent> {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.get(letter).cloned().unwrap_or_default()
    }

    fn keep(&self, letter: String, sent: HashMap<String, Sent>) {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if parts.len() >= MOST_PARTS && !parts.contains_key(&letter) {
            // Whoever has one of these gets it twice.
            parts.clear();
        }
        parts.insert(letter, sent);
    }

    fn forget(&self, letter: &str) {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.remove(letter);
    }
}

type Transport = AsyncSmtpTransport<Tokio1Executor>;

impl Client {
    pub(crate) async fn mail(&self, mailbox: &Mailbox, message: &Message) -> Answer {
        let server = &mailbox.rules.server;
        let port = u16::try_from(mailbox.rules.port).unwrap_or_default();
        if !self.destinations.allow_mail(server, port) {
            return Answer::later(format!(
                "the controller's --notify-allow does not name smtp://{server}:{port}; an administrator of the cluster adds it there"
            ));
        }
        let sent = tokio::time::timeout(WHOLE, self.send_mail(mailbox, port, message));
        sent.await
            .unwrap_or_else(|_| Answer::later(format!("{server}: no answer in time")))
    }

    async fn send_mail(&self, mailbox: &Mailbox, port: u16, message: &Message) -> Answer {
        let server = &mailbox.rules.server;
        let addresses = match server.parse() {
            Ok(ip) => Ok(vec![SocketAddr::new(ip, port)]),
            Err(_) => pinned::lookup(server, port).await.map_err(Answer::from),
        };
        let addresses = match addresses {
            Ok(addresses) => addresses,
            Err(answer) => return answer,
        };
        if let Err(answer) = self.judge(server, &addresses) {
            return answer;
        }
        let Some(address) = addresses.first() else {
            return Answer::later(format!("the name {server} cannot be resolved"));
        };
        let letter = match letter(&mailbox.rules, message) {
            Ok(letter) => letter,
            Err(Unwritable) => return Answer::later("the policy has an address that is none"),
        };
        let Ok(transport) = transport(mailbox, *address) else {
            return Answer::later(format!("{server}: TLS cannot be prepared"));
        };
        let people: Vec<&str> = mailbox.rules.to.iter().map(|it| it.0.as_str()).collect();
        let this = format!("{} {server} {}", message.identity(), people.join(" "));
        let mut all = self.letters.of(&this);
        for (to, envelope) in letter.envelopes {
            if all.get(&to) == Some(&Sent::Taken) {
                continue;
            }
            let sent = transport.send_raw(&envelope, &letter.bytes).await;
            let sent = sent.map_or_else(|error| explain(server, &error), |_| Sent::Taken);
            all.insert(to, sent);
            // Whatever takes too long after this, who has it has it.
            self.letters.keep(this.clone(), all.clone());
        }
        let answer = together(server, all.values());
        if !matches!(answer, Answer::Later { .. }) {
            self.letters.forget(&this);
        }
        answer
    }
}

/// It is through when one has it and nobody is to be tried again.
fn together<'a>(server: &str, all: impl Iterator<Item = &'a Sent>) -> Answer {
    let mut answer = Answer::later(format!("{server}: there is nobody to write to"));
    for sent in all {
        match sent {
            Sent::Later(why) => return Answer::later(why),
            Sent::Taken => answer = Answer::delivered(),
            Sent::Unwanted(_) | Sent::Condemned(_) if answer == Answer::delivered() => {}
            Sent::Condemned(why) => answer = Answer::refused(why),
            Sent::Unwanted(_) if matches!(answer, Answer::Refused { .. }) => {}
            Sent::Unwanted(why) => answer = Answer::later(why),
        }
    }
    answer
}

/// An address that lettre does not take.
struct Unwritable;

struct Letter {
    envelopes: Vec<(String, Envelope)>,
    bytes: Vec<u8>,
}

fn letter(rules: &Email, message: &Message) -> Result<Letter, Unwritable> {
    let letter = email::layout(message);
    let person = |address: &str| {
        let address = address.parse().map_err(|_| Unwritable)?;
        Ok::<Person, Unwritable>(Person::new(None, address))
    };
    let from = person(&rules.from.0)?;
    let mut mail = Mail::builder()
        .from(from.clone())
        .subject(letter.subject)
        .message_id(Some(letter.message_id))
        .in_reply_to(letter.thread.clone())
        .references(letter.thread)
        .header(ContentType::TEXT_PLAIN);
    let mut envelopes = Vec::new();
    for to in &rules.to {
        let to = person(&to.0)?;
        let envelope = Envelope::new(Some(from.email.clone()), vec![to.email.clone()]);
        let envelope = envelope.map_err(|_| Unwritable)?;
        envelopes.push((to.email.to_string(), envelope));
        mail = mail.to(to);
    }
    let mail = mail.body(letter.body).map_err(|_| Unwritable)?;
    Ok(Letter {
        envelopes,
        bytes: mail.formatted(),
    })
}

fn transport(mailbox: &Mailbox, address: SocketAddr) -> Result<Transport, smtp::Error> {
    let rules = &mailbox.rules;
    // By the address that was judged; TLS goes by the name.
    let builder = Transport::builder_dangerous(address.ip().to_string()).port(address.port());
    let tls = match rules.tls {
        EmailTls::Off => Tls::None,
        EmailTls::StartTls => Tls::Required(TlsParameters::new(rules.server.clone())?),
        EmailTls::Always => Tls::Wrapper(TlsParameters::new(rules.server.clone())?),
    };
    let builder = builder
        .tls(tls)
        .timeout(Some(STEP))
        .pool_config(PoolConfig::new().max_size(1).min_idle(0));
    let builder = match &mailbox.credentials {
        Some((user, password)) => {
            let (user, password) = (user.expose().to_owned(), password.expose().to_owned());
            builder.credentials(Credentials::new(user, password))
        }
        None => builder,
    };
    Ok(builder.build())
}

/// Nothing of what came back but its code.
fn explain(server: &str, error: &smtp::Error) -> Sent {
    let status = error.status().map(|code| code.to_string());
    let code = status
        .as_ref()
        .map_or_else(String::new, |code| format!(" ({code})"));
    if error.is_permanent() && status.is_some_and(|it| CONDEMNED.contains(&it.as_str())) {
        Sent::Condemned(format!("{server} does not take the message{code}"))
    } else if error.is_permanent() {
        Sent::Unwanted(format!(
            "{server} refuses the recipient, the sender or the password{code}"
        ))
    } else if error.is_transient() {
        Sent::Later(format!("{server} asks to try again later{code}"))
    } else if error.is_tls() {
        Sent::Later(format!(
            "{server} does not speak TLS, or has no certificate for this name that this system trusts"
        ))
    } else {
        Sent::Later(format!(
            "{server}: connection refused, unreachable or broken off"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_through_when_one_has_it_and_nobody_is_to_be_tried_again() {
        let later = || Sent::Later("later".to_owned());
        let unwanted = || Sent::Unwanted("unwanted".to_owned());
        let condemned = || Sent::Condemned("condemned".to_owned());
        let table = [
            (vec![Sent::Taken, unwanted()], Answer::delivered()),
            (
                vec![unwanted(), Sent::Taken, condemned()],
                Answer::delivered(),
            ),
            (vec![Sent::Taken, later()], Answer::later("later")),
            (vec![unwanted(), unwanted()], Answer::later("unwanted")),
            (vec![condemned(), unwanted()], Answer::refused("condemned")),
            (vec![unwanted(), condemned()], Answer::refused("condemned")),
        ];
        for (all, answer) in table {
            assert_eq!(together("mail", all.iter()), answer, "{all:?}");
        }
    }
}
