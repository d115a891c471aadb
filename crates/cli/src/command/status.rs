//! `status`: where requests stand, once or until the end.

use std::io::Write;
use std::pin::pin;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::ListParams;
use rollback_api::status::Outcome;
use rollback_api::{RequestState, RollbackRequest};
use rollback_core::report::conditions::is_settled;
use tokio::time::{Instant, sleep_until};

use super::logs::Logs;
use crate::Ending;
use crate::arguments::{Format, Place, Status};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::follow::Next;
use crate::here::flags_to_here;
use crate::output::{self, Paint, clean, elapsed, say, say_all, table};
use crate::{follow, show};

/// One request, or those that are open.
pub async fn run(cluster: &Cluster, place: &Place, status: &Status) -> Result<Ending, Error> {
    match &status.name {
        None => open(cluster, place.output).await,
        Some(name) if status.watch => {
            let follower = Follower {
                format: place.output,
                every: true,
                logs: status.logs,
            };
            Box::pin(follower.follow(cluster, name, status.timeout)).await
        }
        Some(name) => {
            let request = cluster.request(name).await?;
            print(place.output, &request)?;
            Ok(ending(&request))
        }
    }
}

/// How a request that has ended is said by the exit code; one that goes on is well so far.
pub fn ending(request: &RollbackRequest) -> Ending {
    request.outcome().map_or(Ending::Done, of_outcome)
}

fn of_outcome(outcome: &Outcome) -> Ending {
    if is_settled(outcome) {
        return Ending::Done;
    }
    match outcome.result {
        // What a newer controller calls its end nobody knows here.
        RequestState::Failed | RequestState::Restored | RequestState::Newer(_) => Ending::Failed,
        RequestState::Denied
        | RequestState::Cancelled
        | RequestState::Expired
        | RequestState::Refused
        | RequestState::Superseded
        | RequestState::Succeeded
        | RequestState::Planning
        | RequestState::AwaitingApproval
        | RequestState::Blocked
        | RequestState::Frozen
        | RequestState::BackingUp
        | RequestState::Reverting
        | RequestState::RollingOut
        | RequestState::Verifying
        | RequestState::Restoring => Ending::NotDone,
    }
}

fn print(format: Option<Format>, request: &RollbackRequest) -> Result<(), Error> {
    if output::request(format, request)? {
        return Ok(());
    }
    say_all(&show::tree(request, Timestamp::now(), Paint::new()))
}

async fn open(cluster: &Cluster, format: Option<Format>) -> Result<Ending, Error> {
    let api = cluster.api::<RollbackRequest>();
    let mut requests = cluster.list(&api, ListParams::default()).await?;
    requests.retain(|request| request.outcome().is_none());
    requests.sort_by_key(show::created);
    match format {
        Some(Format::Name) => {
            requests
                .iter()
                .try_for_each(|it| say(&output::name_of(it)))?;
        }
        Some(Format::Json | Format::Yaml | Format::Md | Format::Html) => {
            let items: Vec<_> = requests.iter().map(output::typed).collect();
            output::data(format, &output::listed(&items))?;
        }
        Some(Format::Wide) | None if requests.is_empty() => {
            output::remark(&format!(
                "No request is open in namespace {namespace}; kubectl get rbr -n {namespace} lists those that have ended.",
                namespace = clean(&cluster.namespace)
            ));
        }
        Some(Format::Wide) => say_all(&listed(&requests, true))?,
        None => say_all(&listed(&requests, false))?,
    }
    Ok(Ending::Done)
}

fn listed(requests: &[RollbackRequest], wide: bool) -> Vec<String> {
    let now = Timestamp::now();
    let mut head = vec!["NAME", "STATE", "TARGET", "TO", "AGE"];
    if wide {
        head.extend(["ASKED BY", "WHY"]);
    }
    let rows: Vec<Vec<String>> = requests.iter().map(|it| row(it, now, wide)).collect();
    table(&head, &rows)
}

fn row(request: &RollbackRequest, now: Timestamp, wide: bool) -> Vec<String> {
    let (target, to) = show::summary(request);
    let age = elapsed(show::created(request), now);
    let mut row = vec![
        clean(&request.name_any()),
        show::ready(request).0,
        target,
        to,
        age,
    ];
    if wide {
        let by = request.spec.requested_by.as_ref();
        row.push(by.map_or_else(String::new, |by| clean(&by.username)));
        row.push(clean(&request.spec.reason.summary));
    }
    row
}

/// How long is waited for the report of a request that has ended. Whether it did is known by then, and a pipeline waits for that.
const REPORT_PATIENCE: Duration = Duration::from_secs(15);
/// What is said then.
const UNREPORTED: &str = "It has ended, but its report is not written yet, and the controller still holds it. If this stays so, type kubectl rollback doctor.";

/// Follows a request to its end.
pub struct Follower {
    /// How it is printed.
    pub format: Option<Format>,
    /// Whether each state is printed as data, one a line, or the last one only.
    pub every: bool,
    /// With the logs of the new pods.
    pub logs: bool,
}

/// What comes while somebody watches.
enum Happened {
    /// Of the request.
    Next(Next),
    /// Of a log.
    Line(String),
    /// A second is over, or the terminal has another size.
    Time,
    /// Ctrl-C.
    Interrupted,
    /// It has ended, and its report has not come in time.
    Unreported,
}

/// When nobody waits for the report any longer; never while the request goes on.
async fn unreported(ended: Option<Instant>) {
    match ended {
        Some(since) => sleep_until(since + REPORT_PATIENCE).await,
        None => std::future::pending().await,
    }
}

/// The next line of the logs; none comes where nobody wants them.
async fn line_of(logs: &mut Option<Logs>) -> String {
    match logs {
        Some(logs) => logs.next().await,
        None => std::future::pending().await,
    }
}

/// What a terminal tells its programs.
#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    window: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> Result<Self, Error> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(Error::Runtime)?,
            window: signal(SignalKind::window_change()).map_err(Error::Runtime)?,
        })
    }

    async fn next(&mut self) -> Happened {
        tokio::select! {
            Some(()) = self.interrupt.recv() => Happened::Interrupted,
            Some(()) = self.window.recv() => Happened::Time,
            else => std::future::pending().await,
        }
    }
}

/// Elsewhere a terminal that is resized is seen with the next second.
#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    #[expect(
        clippy::unnecessary_wraps,
        reason = "where there are signals it may fail"
    )]
    fn new() -> Result<Self, Error> {
        Ok(Self)
    }

    async fn next(&mut self) -> Happened {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Happened::Interrupted,
            Err(_) => std::future::pending().await,
        }
    }
}

impl Follower {
    /// Until it has ended, at most for `patience`.
    pub async fn follow(
        &self,
        cluster: &Cluster,
        name: &str,
        patience: Option<SignedDuration>,
    ) -> Result<Ending, Error> {
        follow::is_there(&cluster.api(), name).await?;
        let mut states = pin!(follow::states(cluster.api(), name));
        let deadline = follow::deadline(patience);
        let mut screen = Screen::new(self.format);
        let mut signals = Signals::new()?;
        let mut logs = self.logs.then(|| Logs::new(cluster));
        let mut ended = None;
        loop {
            let happened = tokio::select! {
                state = follow::next(&mut states, name, deadline) => Happened::Next(state?),
                line = line_of(&mut logs) => Happened::Line(line),
                signal = signals.next() => signal,
                () = follow::tick(Instant::now()), if screen.is_live() => Happened::Time,
                () = unreported(ended) => Happened::Unreported,
            };
            match happened {
                Happened::Next(Next::State(request)) => {
                    screen.note = None;
                    self.show(&mut screen, &request)?;
                    if let Some(logs) = &mut logs {
                        logs.look(&request);
                    }
                    if request.outcome().is_some() {
                        ended = ended.or_else(|| Some(Instant::now()));
                    }
                    let over = is_over(&request).then(|| request.clone());
                    screen.last = Some(request);
                    if let Some(request) = over {
                        return self.finish(&mut screen, &mut logs, &request);
                    }
                }
                Happened::Next(Next::Gone) => return deleted(name, screen.last.as_deref()),
                Happened::Next(Next::Lost(said)) => screen.lost(said)?,
                Happened::Line(line) => self.log(&mut screen, &line)?,
                Happened::Time => screen.again()?,
                Happened::Unreported => {
                    output::remark(UNREPORTED);
                    if let Some(request) = screen.last.take() {
                        return self.finish(&mut screen, &mut logs, &request);
                    }
                }
                Happened::Interrupted => {
                    output::remark(&format!(
                        "It goes on without you: kubectl rollback status {} -w{}.",
                        clean(name),
                        flags_to_here()
                    ));
                    return Ok(Ending::Interrupted);
                }
            }
        }
    }

    /// A line of a log. Standard output is for whoever reads the data.
    fn log(&self, screen: &mut Screen, line: &str) -> Result<(), Error> {
        if !matches!(self.format, None | Some(Format::Wide)) {
            output::remark(line);
            return Ok(());
        }
        screen.above(line)
    }

    fn show(&self, screen: &mut Screen, request: &RollbackRequest) -> Result<(), Error> {
        match self.format {
            Some(Format::Json) if self.every => {
                say(&output::harmless(&output::typed(request).to_string()))
            }
            Some(Format::Yaml) if self.every => {
                say("---")?;
                output::request(self.format, request).map(|_| ())
            }
            Some(Format::Json | Format::Yaml | Format::Name | Format::Md | Format::Html) => Ok(()),
            Some(Format::Wide) | None => screen.draw(request),
        }
    }

    fn finish(
        &self,
        screen: &mut Screen,
        logs: &mut Option<Logs>,
        request: &RollbackRequest,
    ) -> Result<Ending, Error> {
        let rest = logs.iter_mut().flat_map(Logs::rest);
        rest.into_iter()
            .try_for_each(|line| self.log(screen, &line))?;
        let printed_already = self.every && self.format != Some(Format::Name);
        if !printed_already {
            output::request(self.format, request)?;
        }
        Ok(ending(request))
    }
}

/// Whether nothing more comes: it has ended, and its report is written where there is one.
fn is_over(request: &RollbackRequest) -> bool {
    let is_reported = !request.holds_finalizer() || request.metadata.deletion_timestamp.is_some();
    request.outcome().is_some() && is_reported
}

fn deleted(name: &str, last: Option<&RollbackRequest>) -> Result<Ending, Error> {
    match last {
        None => Err(follow::gone(name)),
        Some(request) if request.outcome().is_some() => Ok(ending(request)),
        Some(_) => {
            output::complain(&format!("The request {} was deleted.", clean(name)));
            Ok(Ending::NotDone)
        }
    }
}

/// What is drawn again and again on a terminal, or told line by line elsewhere.
struct Screen {
    live: bool,
    paint: Paint,
    drawn: Vec<String>,
    told: String,
    /// The request as it was last seen.
    last: Option<Box<RollbackRequest>>,
    /// What is wrong with what is shown.
    note: Option<String>,
}

impl Screen {
    fn new(format: Option<Format>) -> Self {
        let is_text = matches!(format, None | Some(Format::Wide));
        Self {
            live: is_text && output::is_terminal(),
            paint: Paint::new(),
            drawn: Vec::new(),
            told: String::new(),
            last: None,
            note: None,
        }
    }

    /// Whether there is something that changes with time.
    fn is_live(&self) -> bool {
        self.live && self.last.is_some()
    }

    fn draw(&mut self, request: &RollbackRequest) -> Result<(), Error> {
        let now = Timestamp::now();
        if !self.live {
            return self.tell(request, now);
        }
        let mut lines = show::tree(request, now, self.paint);
        lines.extend(self.note.iter().map(|note| self.paint.bad(note)));
        let (width, height) = output::size();
        fit(&mut lines, width, height);
        let mut out = std::io::stdout().lock();
        write!(out, "{}", erasing(&self.drawn, width))?;
        for line in &lines {
            writeln!(out, "{line}")?;
        }
        self.drawn = lines;
        Ok(out.flush()?)
    }

    /// The same again, at another time or in another size.
    fn again(&mut self) -> Result<(), Error> {
        match self.last.take() {
            Some(request) if self.live => {
                let drawn = self.draw(&request);
                self.last = Some(request);
                drawn
            }
            last => {
                self.last = last;
                Ok(())
            }
        }
    }

    /// A line that stays, above what is drawn again.
    fn above(&mut self, line: &str) -> Result<(), Error> {
        if !self.live {
            return say(line);
        }
        let erasing = erasing(&self.drawn, output::size().0);
        self.drawn.clear();
        say(&format!("{erasing}{line}"))?;
        self.again()
    }

    /// The connection is lost, so what is shown may be old.
    fn lost(&mut self, said: String) -> Result<(), Error> {
        if !self.is_live() {
            output::remark(&said);
            return Ok(());
        }
        self.note = Some(said);
        self.again()
    }

    /// The tree without its times, when it is another one than before.
    fn tell(&mut self, request: &RollbackRequest, now: Timestamp) -> Result<(), Error> {
        let timeless = show::tree(request, show::created(request), self.paint).join("\n");
        if timeless == self.told {
            return Ok(());
        }
        self.told = timeless;
        say_all(&show::tree(request, now, self.paint))
    }
}

/// How many lines of a terminal these take: a long one takes more than one.
fn rows(lines: &[String], width: usize) -> usize {
    let rows = lines
        .iter()
        .map(|line| visible(line).div_ceil(width).max(1));
    rows.sum()
}

/// What takes these lines away again. In a terminal that became narrower they take more of it now.
fn erasing(drawn: &[String], width: usize) -> String {
    match rows(drawn, width) {
        0 => String::new(),
        rows => format!("\u{1b}[{rows}A\u{1b}[J"),
    }
}

/// Leaves out what does not fit: the cursor cannot go back to what has left the terminal.
fn fit(lines: &mut Vec<String>, width: usize, height: usize) {
    if rows(lines, width) < height {
        return;
    }
    let mut left_out = 0;
    while lines.len() > 1 && rows(lines, width) + 1 >= height {
        lines.pop();
        left_out += 1;
    }
    lines.push(format!("  … {left_out} more lines do not fit here"));
}

/// How many characters of a line are seen: those between ESC and m are colours.
fn visible(line: &str) -> usize {
    let mut hidden = false;
    let seen = line.chars().filter(|c| {
        let was = hidden;
        hidden = (hidden || *c == '\u{1b}') && *c != 'm';
        !was && *c != '\u{1b}'
    });
    seen.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_take_no_place() {
        assert_eq!(visible("\u{1b}[31mab\u{1b}[0mc"), 3);
        assert_eq!(visible("abm"), 3);
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_counted() {
        let mut lines: Vec<String> = (0..10).map(|it| it.to_string()).collect();
        fit(&mut lines, 80, 20);
        assert_eq!(lines.len(), 10);
        fit(&mut lines, 80, 6);
        assert_eq!(lines.last().unwrap(), "  … 6 more lines do not fit here");
        assert_eq!(lines.len(), 5);
        assert_eq!(erasing(&lines, 80), "\u{1b}[5A\u{1b}[J");
        assert_eq!(erasing(&["x".repeat(50)], 20), "\u{1b}[3A\u{1b}[J");
    }

    #[test]
    fn each_end_has_its_exit_code() {
        let outcome = |result: &str, reason: &str| -> Outcome {
            serde_json::from_value(serde_json::json!({
                "result": result, "reason": reason, "message": "", "at": "2026-11-30T14:00:00Z",
            }))
            .unwrap()
        };
        let rows = [
            ("Succeeded", "RolledBack", Ending::Done),
            ("Superseded", "NotLive", Ending::Done),
            ("Superseded", "TemplateChanged", Ending::NotDone),
            ("Denied", "DeniedByApprover", Ending::NotDone),
            ("Refused", "NoHistory", Ending::NotDone),
            ("Failed", "ChecksFailed", Ending::Failed),
            ("Restored", "RestoredFromBackup", Ending::Failed),
            ("FromTheFuture", "RolledBack", Ending::Failed),
        ];
        for (result, reason, expected) in rows {
            assert_eq!(of_outcome(&outcome(result, reason)), expected, "{result}");
        }
    }
}
