//! The plugin that serves pages, and how it is asked.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use testkit::{Scene, User};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};

/// The plugin.
const PLUGIN: &str = env!("CARGO_BIN_EXE_kubectl-rollback");

/// A namespace with a controller.
pub async fn scene(name: &str) -> Result<Scene> {
    let mut scene = without_controller(name).await?;
    scene.start_controller().await?;
    Ok(scene)
}

/// A namespace without one.
pub async fn without_controller(name: &str) -> Result<Scene> {
    let controller = testkit::target_folder().join("debug/rollback-controller");
    Scene::without_controller(controller, name).await
}

/// The plugin as this person, in the namespace of the scene, ready for its arguments.
pub fn plugin(scene: &Scene, user: User) -> Command {
    let mut command = Command::new(PLUGIN);
    command
        .env("KUBECONFIG", scene.cluster.kubeconfig())
        .env("KUBECTL_ROLLBACK_CONFIG", "/nonexistent/config.yaml")
        .args(["--context", user.context(), "-n", scene.ns()])
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Headers.
pub type Headers<'a> = &'a [(&'a str, &'a str)];

/// The pages of one person.
pub struct Ui {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// The address that was printed.
    pub link: String,
    /// The port.
    pub port: u16,
    /// The folder of the pages.
    pub base: String,
}

impl Ui {
    /// Starts it.
    pub async fn start(scene: &Scene, user: User) -> Result<Self> {
        let mut child = plugin(scene, user).args(["ui", "--no-open"]).spawn()?;
        let mut stdout = BufReader::new(child.stdout.take().context("no output")?);
        let mut link = String::new();
        stdout.read_line(&mut link).await?;
        let link = link.trim().to_owned();
        let rest = link
            .strip_prefix("http://127.0.0.1:")
            .context(link.clone())?;
        let (port, path) = rest.split_once('/').context("no path")?;
        let (base, _) = path.split_once("/?token=").context("no token")?;
        Ok(Self {
            port: port.parse()?,
            base: format!("/{base}"),
            link: link.clone(),
            child,
            stdout,
        })
    }

    /// The token of the link.
    pub fn token(&self) -> &str {
        self.link.rsplit('=').next().unwrap_or_default()
    }

    /// What the browser sends as `Host`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Asks with these headers, and nothing else.
    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: Headers<'_>,
        body: &str,
    ) -> Result<Answer> {
        let lines = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}"));
        let length = format!("Content-Length: {}", body.len());
        let begin = [format!("{method} {path} HTTP/1.1")].into_iter();
        let rest = [
            "Connection: close".to_owned(),
            length,
            String::new(),
            body.to_owned(),
        ];
        let text = begin
            .chain(lines)
            .chain(rest)
            .collect::<Vec<_>>()
            .join("\r\n");
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.write_all(text.as_bytes()).await?;
        let mut answer = Vec::new();
        let is_stream = path.ends_with("/events");
        loop {
            let read = stream.read_buf(&mut answer).await;
            let has_begun = answer.windows(4).any(|it| it == b"\r\n\r\n");
            if matches!(read, Ok(0) | Err(_)) || (is_stream && has_begun) {
                break;
            }
        }
        Answer::read(&answer)
    }

    /// Opens the link, and has the cookie then.
    pub async fn log_in(&self) -> Result<String> {
        let path = format!("{}/?token={}", self.base, self.token());
        let answer = self
            .ask("GET", &path, &[("Host", &self.host())], "")
            .await?;
        ensure!(answer.status == 303, "{answer:?}");
        let cookie = answer.header("set-cookie").context("no cookie")?;
        Ok(cookie.split(';').next().unwrap_or_default().to_owned())
    }

    /// A page, as the browser of the user asks for it.
    pub async fn page(&self, cookie: &str, path: &str) -> Result<Answer> {
        let headers = [("Host", self.host()), ("Cookie", cookie.to_owned())];
        let headers = headers
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        self.ask("GET", &format!("{}{path}", self.base), &headers, "")
            .await
    }

    /// Sends a form, as the browser of the user does.
    pub async fn send(&self, cookie: &str, path: &str, body: &str) -> Result<Answer> {
        let host = self.host();
        let origin = format!("http://{host}");
        let headers = [
            ("Host", host.as_str()),
            ("Cookie", cookie),
            ("Origin", &origin),
        ];
        self.ask("POST", &format!("{}{path}", self.base), &headers, body)
            .await
    }

    /// Ends it; everything that it has said after the link.
    pub async fn end(mut self) -> Result<String> {
        self.child.kill().await?;
        let mut said = String::new();
        self.stdout.read_to_string(&mut said).await?;
        let mut stderr = self.child.stderr.take().context("no standard error")?;
        stderr.read_to_string(&mut said).await?;
        Ok(said)
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers, in small letters.
    pub head: String,
    /// The rest.
    pub body: String,
}

impl Answer {
    fn read(bytes: &[u8]) -> Result<Self> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").context("no answer")?;
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        Ok(Self {
            status,
            head: head.to_owned(),
            body: body.to_owned(),
        })
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The proof of the forms of a page.
    pub fn csrf(&self) -> Result<&str> {
        let (_, rest) = self
            .body
            .split_once("name=\"csrf\" value=\"")
            .context("no form")?;
        rest.split('"').next().context("no proof")
    }
}
