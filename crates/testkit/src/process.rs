//! Child processes that cannot outlive this one, not even when it is killed.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::poll::eventually;

/// How long a process may take until it answers.
const READY: Duration = Duration::from_secs(30);

type Order = (Command, mpsc::Sender<io::Result<Child>>);

/// The kernel pulls the leash when the *thread* that forked ends, and test threads come and go.
/// So one thread that never ends does all the forking.
fn spawn(command: Command) -> Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in inbox {
                // A requester that has gone away wants no child: dropping the answer is enough,
                // because the leash ends with this process.
                drop(answer.send(command.spawn()));
            }
        });
        orders
    });
    let (answer, child) = mpsc::channel();
    spawner
        .send((command, answer))
        .context("the spawning thread is gone")?;
    Ok(child.recv().context("the spawning thread is gone")??)
}

/// A child on a leash, writing its output to a log file.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    log: PathBuf,
    child: Arc<Mutex<Child>>,
}

/// Whether this program of a package of the distribution is there; says loudly when it is not.
pub(crate) fn is_installed(program: &str, package: &str) -> Result<bool> {
    if Path::new(program).exists() {
        return Ok(true);
    }
    if crate::node::is_required() {
        bail!("{program} is missing; install the package {package}");
    }
    eprintln!("SKIPPED: {program} is missing; install the package {package}");
    Ok(false)
}

/// What to start, with what.
pub(crate) struct Launch<'a> {
    pub(crate) name: &'a str,
    pub(crate) program: &'a Path,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(&'a str, &'a OsStr)>,
    pub(crate) log: PathBuf,
}

impl Process {
    pub(crate) fn start(leash: Option<&Path>, launch: Launch<'_>) -> Result<Self> {
        let output = File::create(&launch.log)
            .with_context(|| format!("cannot write {}", launch.log.display()))?;
        let mut command = match leash {
            Some(leash) => {
                let mut command = Command::new(leash);
                command.arg(launch.program);
                command
            }
            None => Command::new(launch.program),
        };
        command
            .args(launch.args)
            .env("LEASH_PARENT", std::process::id().to_string())
            .envs(launch.env)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let child = spawn(command).with_context(|| format!("cannot start {}", launch.name))?;
        Ok(Self {
            name: launch.name.to_owned(),
            log: launch.log,
            child: Arc::new(Mutex::new(child)),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn pid(&self) -> u32 {
        lock(&self.child).id()
    }

    /// A handle that kills the process, for callbacks that outlive a borrow of it.
    pub(crate) fn killer(&self) -> Killer {
        Killer(Arc::clone(&self.child))
    }

    /// Fails, with the end of its log, when the process is no longer running.
    pub(crate) fn check(&self) -> Result<()> {
        let Some(status) = self.exited()? else {
            return Ok(());
        };
        bail!(
            "{} ended ({status}); the end of its log:\n{}",
            self.name,
            self.log_tail(25)
        )
    }

    /// Waits until this address answers 200. Fails at once when the process has ended.
    pub(crate) async fn answers(&self, url: &str) -> Result<()> {
        crate::install_crypto_provider();
        let client = reqwest::Client::builder().no_proxy().build()?;
        let what = format!("{} is ready", self.name);
        let result = eventually(&what, READY, async || {
            if self.check().is_err() {
                return Ok(self.check());
            }
            let status = client.get(url).send().await?.status();
            ensure!(status == http::StatusCode::OK, "{url} answers {status}");
            Ok(Ok(()))
        });
        result.await?
    }

    pub(crate) fn exited(&self) -> Result<Option<ExitStatus>> {
        Ok(lock(&self.child).try_wait()?)
    }

    /// Asks the process to end and waits until it has.
    pub(crate) fn terminate(&self, patience: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.exited()? {
            return Ok(status);
        }
        self.killer().signal("TERM")?;
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(status) = self.exited()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(20));
        }
        bail!(
            "{} still runs {patience:?} after SIGTERM; the end of its log:\n{}",
            self.name,
            self.log_tail(25)
        )
    }

    pub(crate) fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub(crate) fn log_tail(&self, lines: usize) -> String {
        tail(&self.log(), lines)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.killer().kill();
    }
}

/// Kills a process or sends it a signal, from wherever it is called.
#[derive(Clone, Debug)]
pub struct Killer(Arc<Mutex<Child>>);

impl Killer {
    /// Sends SIGKILL and waits until the process is gone. Does nothing when it already is.
    pub fn kill(&self) {
        let mut child = lock(&self.0);
        // Both fail only when the process is gone and waited for, which is what is wanted.
        drop(child.kill());
        drop(child.wait());
    }

    /// Asks the process to end (SIGTERM) and does not wait.
    pub fn ask_to_end(&self) -> Result<()> {
        self.signal("TERM")
    }

    /// Freezes the process (SIGSTOP), and waits until not one of its threads runs any more.
    pub fn stop_process(&self) -> Result<()> {
        self.signal("STOP")?;
        let pid = lock(&self.0).id();
        let deadline = Instant::now() + Duration::from_secs(5);
        while !is_stopped(pid) {
            ensure!(Instant::now() < deadline, "it still runs after SIGSTOP");
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Lets a frozen process go on (SIGCONT). To it, no time has passed.
    pub fn continue_process(&self) -> Result<()> {
        self.signal("CONT")
    }

    fn signal(&self, name: &str) -> Result<()> {
        let mut child = lock(&self.0);
        // Locked and not waited for yet, so the process id is still its own.
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        let status = Command::new("kill")
            .args([&format!("-{name}"), &child.id().to_string()])
            .status()
            .context("cannot run kill")?;
        ensure!(status.success(), "kill -{name}: {status}");
        Ok(())
    }
}

/// Whether all threads are stopped, as far as this system tells.
fn is_stopped(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return true;
    };
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state follows the name, which is in parentheses and may contain some.
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
        state.is_none_or(|state| state.starts_with('T'))
    })
}

fn lock(child: &Mutex<Child>) -> MutexGuard<'_, Child> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The last lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
