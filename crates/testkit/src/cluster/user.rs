//! The people of the tests.

/// Somebody who talks to the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum User {
    /// The administrator of the cluster, who installs things and sets the stage.
    Admin,
    /// Rita, on call: asks for rollbacks.
    Requester,
    /// Anna, a lead: approves them.
    Approver,
    /// Omar, another lead.
    SecondApprover,
    /// Olga, who may look at the namespace and nothing more.
    Outsider,
    /// The identity of a `GitOps` tool that applies what is in Git.
    Gitops,
}

impl User {
    /// Everybody.
    pub const ALL: [Self; 6] = [
        Self::Admin,
        Self::Requester,
        Self::Approver,
        Self::SecondApprover,
        Self::Outsider,
        Self::Gitops,
    ];

    /// The name that the API server knows this user by. On a borrowed cluster the administrator is
    /// whoever its kubeconfig says.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin@broxiva.example",
            Self::Requester => "rita@broxiva.example",
            Self::Approver => "anna@broxiva.example",
            Self::SecondApprover => "omar@broxiva.example",
            Self::Outsider => "olga@broxiva.example",
            Self::Gitops => "gitops-sync",
        }
    }

    /// The name of this user's context in the kubeconfig.
    pub fn context(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Requester => "requester",
            Self::Approver => "approver",
            Self::SecondApprover => "second-approver",
            Self::Outsider => "outsider",
            Self::Gitops => "gitops",
        }
    }

    /// The uid that the API server gives this user.
    pub fn uid(self) -> String {
        format!("uid-{}", self.context())
    }

    /// The groups that this user is in, besides `system:authenticated`.
    pub fn groups(self) -> &'static [&'static str] {
        match self {
            Self::Admin => &["system:masters"],
            Self::Requester => &["broxiva:oncall"],
            Self::Approver | Self::SecondApprover => &["broxiva:leads"],
            Self::Outsider => &["broxiva:guests"],
            Self::Gitops => &["broxiva:automation"],
        }
    }

    /// The bearer token of this user on an embedded cluster. It guards nothing but a test.
    pub(crate) fn token(self) -> String {
        format!("token-of-{}", self.context())
    }
}

/// Name of the real node, where there is one.
pub(crate) const NODE: &str = "real-1";
/// What the kubelet of the real node shows: the API server lets it do what a node may do.
pub(crate) const NODE_TOKEN: &str = "token-of-node";

/// The file that tells the API server who is who.
pub(crate) fn token_file() -> String {
    let line = |user: User| {
        let groups = user.groups().join(",");
        format!(
            "{},{},{},\"{groups}\"\n",
            user.token(),
            user.as_str(),
            user.uid()
        )
    };
    let people: String = User::ALL.into_iter().map(line).collect();
    format!("{people}{NODE_TOKEN},system:node:{NODE},uid-node,\"system:nodes\"\n")
}
