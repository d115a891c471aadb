//! `status`: where requests stand, once or until the end.

use std::io::Write;
use std::pin::pin;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::ListParams;
use rollback_api::status::Outcome;
use rollback_api::{RequestState, RollbackRequest};
use rollback_core::report::conditions::is_settled;
use tokio::time::Instant;

use crate::Ending;
use crate::arguments::{Format, Place, Status};
use crate::cluster::Cluster;
use crate::error::Error;
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
                "No request is open in namespace {}.",
                clean(&cluster.namespace)
            ));
        }
        Some(Format::Wide) => say_all(&rows(&requests, true))?,
        None => say_all(&rows(&requests, false))?,
    }
    Ok(Ending::Done)
}

fn rows(requests: &[RollbackRequest], wide: bool) -> Vec<String> {
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

/// Follows a request to its end.
pub struct Follower {
    /// How it is printed.
    pub format: Option<Format>,
    /// Whether each state is printed as data, one a line, or the last one only.
    pub every: bool,
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
        let mut last: Option<RollbackRequest> = None;
        loop {
            let since = Instant::now();
            let state = tokio::select! {
                state = follow::next(&mut states, deadline) => Some(state?),
                () = follow::tick(since), if screen.live && last.is_some() => None,
            };
            match state {
                Some(Some(request)) => {
                    self.show(&mut screen, &request)?;
                    if is_over(&request) {
                        return self.finish(&request);
                    }
                    last = Some(request);
                }
                Some(None) => return deleted(name, last.as_ref()),
                None => {
                    if let Some(request) = &last {
                        screen.draw(request)?;
                    }
                }
            }
        }
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

    fn finish(&self, request: &RollbackRequest) -> Result<Ending, Error> {
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
    drawn: usize,
    told: String,
}

impl Screen {
    fn new(format: Option<Format>) -> Self {
        let is_text = matches!(format, None | Some(Format::Wide));
        Self {
            live: is_text && output::is_terminal(),
            paint: Paint::new(),
            drawn: 0,
            told: String::new(),
        }
    }

    fn draw(&mut self, request: &RollbackRequest) -> Result<(), Error> {
        let now = Timestamp::now();
        if !self.live {
            return self.tell(request, now);
        }
        let lines = show::tree(request, now, self.paint);
        let mut out = std::io::stdout().lock();
        if self.drawn > 0 {
            write!(out, "\u{1b}[{}A\u{1b}[J", self.drawn)?;
        }
        let width = output::width().max(1);
        // A long line takes more than one of the terminal.
        self.drawn = lines
            .iter()
            .map(|line| visible(line).div_ceil(width).max(1))
            .sum();
        for line in &lines {
            writeln!(out, "{line}")?;
        }
        Ok(out.flush()?)
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
