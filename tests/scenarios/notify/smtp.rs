//! A mail server, as RFC 5321 has it, without TLS and without passwords.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// One letter.
#[derive(Clone, Debug, Default)]
pub struct Mail {
    /// For whom.
    pub to: Vec<String>,
    /// Headers and body.
    pub text: String,
}

/// The server.
#[derive(Clone)]
pub struct Smtp {
    /// Its port.
    pub port: u16,
    mails: Arc<Mutex<Vec<Mail>>>,
    /// How many recipients are asked to come again later (greylisting).
    grey: Arc<Mutex<u32>>,
    /// Who is asked to come again later, always.
    grey_for_long: Arc<Mutex<Vec<String>>>,
    turned_away: Arc<Mutex<usize>>,
}

impl Smtp {
    /// Starts it.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let server = Self {
            port: listener.local_addr()?.port(),
            mails: Arc::default(),
            grey: Arc::default(),
            grey_for_long: Arc::default(),
            turned_away: Arc::default(),
        };
        let own = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let own = own.clone();
                tokio::spawn(async move { own.serve(stream).await });
            }
        });
        Ok(server)
    }

    /// What it has taken.
    pub fn mails(&self) -> Vec<Mail> {
        locked(&self.mails).clone()
    }

    /// So many recipients are asked to come again later.
    pub fn greylist(&self, times: u32) {
        *locked(&self.grey) = times;
    }

    /// This recipient is asked to come again later, always.
    pub fn greylist_for_long(&self, recipient: &str) {
        locked(&self.grey_for_long).push(recipient.to_owned());
    }

    /// How often somebody was turned away who always is.
    pub fn turned_away(&self) -> usize {
        *locked(&self.turned_away)
    }

    /// How many letters this recipient has.
    pub fn count(&self, recipient: &str) -> usize {
        let mails = locked(&self.mails);
        mails
            .iter()
            .filter(|it| it.to.iter().any(|to| to == recipient))
            .count()
    }

    fn recipient(&self, line: &str) -> &'static str {
        if line.contains("nobody@") {
            return "550 5.1.1 no such user";
        }
        if locked(&self.grey_for_long)
            .iter()
            .any(|it| line.contains(it.as_str()))
        {
            *locked(&self.turned_away) += 1;
            return "451 4.7.1 greylisted, come again";
        }
        let mut grey = locked(&self.grey);
        if *grey > 0 {
            *grey -= 1;
            return "451 4.7.1 greylisted, come again";
        }
        "250 ok"
    }

    async fn serve(&self, stream: TcpStream) -> Result<()> {
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        write.write_all(b"220 test ESMTP\r\n").await?;
        let mut mail = Mail::default();
        while let Some(line) = lines.next_line().await? {
            let word = line.get(..4).unwrap_or_default().to_ascii_uppercase();
            let answer = match word.as_str() {
                "EHLO" | "HELO" => "250-test\r\n250-8BITMIME\r\n250 SMTPUTF8",
                "MAIL" => {
                    mail = Mail::default();
                    "250 ok"
                }
                "RCPT" => {
                    let answer = self.recipient(&line);
                    if answer.starts_with("250") {
                        mail.to
                            .push(line.split(['<', '>']).nth(1).unwrap_or_default().to_owned());
                    }
                    answer
                }
                "DATA" => {
                    write.write_all(b"354 go on\r\n").await?;
                    while let Some(line) = lines.next_line().await? {
                        if line == "." {
                            break;
                        }
                        mail.text.push_str(&line);
                        mail.text.push('\n');
                    }
                    locked(&self.mails).push(mail.clone());
                    "250 taken"
                }
                "QUIT" => {
                    write.write_all(b"221 bye\r\n").await?;
                    return Ok(());
                }
                _ => "250 ok",
            };
            write.write_all(format!("{answer}\r\n").as_bytes()).await?;
        }
        Ok(())
    }
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
