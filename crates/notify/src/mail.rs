//! E-mail: each recipient by itself, so that one who is refused keeps it from nobody else.

use std::net::SocketAddr;
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
/// How long all of it may take.
const WHOLE: Duration = Duration::from_mins(1);

type Transport = AsyncSmtpTransport<Tokio1Executor>;

impl Client {
    pub(crate) async fn mail(&self, mailbox: &Mailbox, message: &Message) -> Answer {
        let server = &mailbox.rules.server;
        let port = u16::try_from(mailbox.rules.port).unwrap_or_default();
        if !self.destinations.allow_mail(server, port) {
            return Answer::refused(format!(
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
            Err(Unwritable) => return Answer::refused("the policy has an address that is none"),
        };
        let Ok(transport) = transport(mailbox, *address) else {
            return Answer::later(format!("{server}: TLS cannot be prepared"));
        };
        let mut answers = Vec::new();
        for envelope in letter.envelopes {
            let sent = transport.send_raw(&envelope, &letter.bytes).await;
            answers
                .push(sent.map_or_else(|error| explain(server, &error), |_| Answer::delivered()));
        }
        together(server, &answers)
    }
}

/// It is through when one has it and nobody is to be tried again; whoever gets it twice sees by its identifier that it is the
/// same one.
fn together(server: &str, answers: &[Answer]) -> Answer {
    let later = answers.iter().find(|it| matches!(it, Answer::Later { .. }));
    if let Some(later) = later {
        return later.clone();
    }
    let delivered = answers
        .iter()
        .find(|it| matches!(it, Answer::Delivered { .. }));
    let refused = || Answer::refused(format!("{server}: there is nobody to write to"));
    delivered
        .or(answers.first())
        .cloned()
        .unwrap_or_else(refused)
}

/// An address that lettre does not take.
struct Unwritable;

struct Letter {
    envelopes: Vec<Envelope>,
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
        envelopes.push(envelope.map_err(|_| Unwritable)?);
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
fn explain(server: &str, error: &smtp::Error) -> Answer {
    let code = error
        .status()
        .map_or_else(String::new, |code| format!(" ({code})"));
    if error.is_permanent() {
        Answer::refused(format!(
            "{server} refuses the message, the recipient or the password{code}"
        ))
    } else if error.is_transient() {
        Answer::later(format!("{server} asks to try again later{code}"))
    } else if error.is_tls() {
        Answer::later(format!(
            "{server} does not speak TLS, or has no certificate for this name that this system trusts"
        ))
    } else {
        Answer::later(format!(
            "{server}: connection refused, unreachable or broken off"
        ))
    }
}
