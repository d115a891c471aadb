//! What can go wrong, and the exit code that says it.

use kube::client::AuthError;
use kube::config::KubeconfigError;
use rollback_core::message::text::plain;

/// Longest message of the server that is repeated.
const MESSAGE_LIMIT: usize = 4000;
/// What stands before the words of an admission policy.
const DENIED: &str = "denied request: ";

/// What went wrong. Each says what to type, where something can be typed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments do not make a command.
    #[error("{0}")]
    Arguments(String),
    /// The configuration of environments cannot be used.
    #[error("{0}")]
    Environments(String),
    /// The kubeconfig cannot be used.
    #[error(
        "The kubeconfig cannot be used: {0}. Name one with --kubeconfig, and a context of it with --context (kubectl config get-contexts lists them)."
    )]
    Kubeconfig(String),
    /// The kubeconfig is one, but what it says to log in with does not.
    #[error(
        "You could not be logged in: {0}. Log in again with the tool of your cluster, or name another context with --context (kubectl config get-contexts lists them)."
    )]
    Login(String),
    /// The API server could not be asked.
    #[error("The API server could not be asked: {0}")]
    Unreachable(String),
    /// It said no, because of who asks or of what the request is.
    #[error("{0}")]
    Forbidden(String),
    /// There is no such thing, or it is not as it has to be.
    #[error("{0}")]
    Refused(String),
    /// The plan is not the one that was read.
    #[error("{0}")]
    PlanChanged(String),
    /// The time was over.
    #[error("{0}")]
    Deadline(String),
    /// Nobody is there to be asked.
    #[error("{0}")]
    Unanswered(String),
    /// Standard input could not be read.
    #[error("Your answer could not be read: {0}.")]
    Input(std::io::Error),
    /// What came of it could not be printed.
    #[error("It could not be printed: {0}.")]
    Output(#[from] std::io::Error),
    /// It could not be written as JSON or YAML.
    #[error("It could not be written in that format: {0}.")]
    Format(String),
    /// The runtime did not start.
    #[error("It could not be started: {0}.")]
    Runtime(std::io::Error),
}

impl Error {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Arguments(_) | Self::Environments(_) | Self::Unanswered(_) => 2,
            Self::Deadline(_) => 5,
            Self::Forbidden(_) => 6,
            Self::PlanChanged(_) => 7,
            Self::Kubeconfig(_)
            | Self::Login(_)
            | Self::Unreachable(_)
            | Self::Refused(_)
            | Self::Input(_)
            | Self::Output(_)
            | Self::Format(_)
            | Self::Runtime(_) => 1,
        }
    }
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        let kube::Error::Api(status) = &error else {
            return login(&error).map_or_else(
                || Self::Unreachable(with_causes(&error)),
                |failed| Self::Login(not_logged_in(failed)),
            );
        };
        let message = plain(&status.message, MESSAGE_LIMIT);
        match status.code {
            403 => Self::Forbidden(denied(&message)),
            401 => Self::Forbidden(format!("The API server does not know you: {message}. Log in again, or name another context with --context.")),
            404 if message.contains("could not find the requested resource") || message.contains("page not found") => Self::Refused(
                "The definitions of rollback.broxiva.com are not installed in this cluster. Type kubectl apply -f crds/, or name another cluster with --context; kubectl rollback doctor looks for the rest.".to_owned(),
            ),
            404 => Self::Refused(format!("{}. Look for the right name and namespace: kubectl rollback status -n NAMESPACE lists requests, kubectl get deployments -n NAMESPACE what can be rolled back.", capital(&message))),
            409 if status.reason == "AlreadyExists" => Self::Refused(format!("{}. Give the request another name with --name.", capital(&message))),
            _ => Self::Refused(format!("The API server refuses it: {message}")),
        }
    }
}

impl From<KubeconfigError> for Error {
    fn from(error: KubeconfigError) -> Self {
        Self::Kubeconfig(match &error {
            // The parser shows the lines around the place, and a kubeconfig has secrets in it.
            KubeconfigError::Parse(error) => {
                let place = error.location().map_or_else(String::new, |at| {
                    format!(", at line {}, column {}", at.line(), at.column())
                });
                format!("it is not the YAML of a kubeconfig{place}")
            }
            other => plain(&other.to_string(), MESSAGE_LIMIT),
        })
    }
}

/// What went wrong with the credentials, when it is that: also where they are renewed, deep inside of a call.
fn login(error: &kube::Error) -> Option<&AuthError> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        next = cause.source();
    }
    None
}

/// What a credential plugin prints is never repeated but its standard error: the rest may be a token, and its environment
/// may hold secrets of the kubeconfig.
fn not_logged_in(error: &AuthError) -> String {
    match error {
        AuthError::AuthExecStart(error) => format!(
            "the credential plugin of the kubeconfig (users[].user.exec) could not be started: {error}. Install it, or have it in the PATH"
        ),
        AuthError::AuthExecRun { out, .. } => {
            let said = plain(String::from_utf8_lossy(&out.stderr).trim(), MESSAGE_LIMIT);
            // With a terminal the plugin speaks for itself.
            let said = if said.is_empty() {
                "; what it has said of it stands above".to_owned()
            } else {
                format!(": {}", said.trim_end_matches('.'))
            };
            format!(
                "the credential plugin of the kubeconfig (users[].user.exec) failed, {}{said}",
                out.status
            )
        }
        AuthError::AuthExecParse(_) | AuthError::ExecPluginFailed => {
            "the credential plugin of the kubeconfig (users[].user.exec) gave no ExecCredential"
                .to_owned()
        }
        other => plain(&other.to_string(), MESSAGE_LIMIT),
    }
}

impl From<rollback_observe::Error> for Error {
    fn from(error: rollback_observe::Error) -> Self {
        use rollback_observe::Error as Observe;
        match error {
            // The server's words say what could not be read.
            Observe::Read { source, .. } => source.into(),
            Observe::Untyped { .. } | Observe::TooMuch { .. } | Observe::Squatted(_) => {
                Self::Refused(plain(&error.to_string(), MESSAGE_LIMIT))
            }
        }
    }
}

impl From<kube::runtime::watcher::Error> for Error {
    fn from(error: kube::runtime::watcher::Error) -> Self {
        use kube::runtime::watcher::Error as Watch;
        match error {
            Watch::InitialListFailed(error)
            | Watch::WatchStartFailed(error)
            | Watch::WatchFailed(error) => error.into(),
            Watch::WatchError(status) => kube::Error::Api(status).into(),
            Watch::NoResourceVersion => {
                Self::Unreachable("it gives no resourceVersion.".to_owned())
            }
        }
    }
}

/// Why something is denied: the words of a policy are sentences already; those of RBAC want one more.
fn denied(message: &str) -> String {
    match message.split_once(DENIED) {
        Some((_, words)) => words.to_owned(),
        None => format!(
            "You may not do that: {message}. Ask your administrator for the role; kubectl rollback doctor says which ones there are and what you may."
        ),
    }
}

fn with_causes(error: &kube::Error) -> String {
    let mut said = plain(&error.to_string(), MESSAGE_LIMIT);
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        let cause_said = plain(&cause.to_string(), MESSAGE_LIMIT);
        if !said.contains(&cause_said) {
            said = format!("{said}: {cause_said}");
        }
        next = cause.source();
    }
    format!(
        "{said}. Look at the address in the kubeconfig (kubectl cluster-info), or name another context with --context."
    )
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(characters).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_policy_stand_alone() {
        let message = "rollbackrequests.rollback.broxiva.com \"x\" is forbidden: ValidatingAdmissionPolicy 'a' with binding 'a' denied request: Four eyes: ask.";
        assert_eq!(denied(message), "Four eyes: ask.");
        assert!(denied("User \"olga\" cannot patch").contains("Ask your administrator"));
    }
}
