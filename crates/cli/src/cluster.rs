//! The API server, as whom and in which namespace.

use std::path::PathBuf;
use std::time::Duration;

use kube::api::{ListParams, ObjectList, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Config, Resource, ResourceExt};
use rollback_api::{Identity, RollbackRequest};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::arguments::Place;
use crate::error::Error;
use crate::here;
use crate::output::clean;
use crate::to;

/// Field manager of every write. It does not begin with kubectl: Flux takes such a name over and undoes what it wrote.
pub const FIELD_MANAGER: &str = "rollback-cli";
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How many objects a page of a list has.
const PAGE: u32 = 250;
/// How often a write is tried again that somebody else came before.
const TRIES: usize = 20;

/// A client and a namespace.
pub struct Cluster {
    /// The client.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
}

impl Cluster {
    /// As the kubeconfig and the arguments say.
    pub async fn connect(place: &Place) -> Result<Self, Error> {
        let options = KubeConfigOptions {
            context: place.context.clone(),
            ..KubeConfigOptions::default()
        };
        here::remember(place);
        let mut config = match &place.kubeconfig {
            Some(file) => {
                Config::from_custom_kubeconfig(Kubeconfig::read_from(file)?, &options).await?
            }
            None => from_environment(&options).await?,
        };
        config.connect_timeout = Some(CONNECT);
        if let Some(user) = &place.impersonate {
            config.auth_info.impersonate = Some(user.clone());
            config.auth_info.impersonate_groups = Some(place.groups.clone());
        }
        let namespace = place
            .namespace
            .as_ref()
            .unwrap_or(&config.default_namespace);
        // That of a context or an environment was not looked at yet.
        let namespace = to::namespace(namespace).map_err(Error::Arguments)?;
        let client = Client::try_from(config)?;
        Ok(Self { client, namespace })
    }

    /// The objects of a kind in the namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The user name by which the API server knows me.
    pub async fn who(&self) -> Result<String, Error> {
        Ok(self.identity().await?.username)
    }

    /// Who I am, as the API server knows me.
    pub async fn identity(&self) -> Result<Identity, Error> {
        let me = rollback_observe::who_am_i(&self.client).await?;
        if me.username.is_empty() {
            return Err(Error::Forbidden(
                "The API server does not say who you are. Log in again.".to_owned(),
            ));
        }
        Ok(me)
    }

    /// All objects of a list, in pages.
    pub async fn list<K>(&self, api: &Api<K>, wanted: ListParams) -> Result<Vec<K>, Error>
    where
        K: Clone + DeserializeOwned + std::fmt::Debug,
    {
        let mut pages = Pages::new(wanted);
        while let Some(page) = &pages.next {
            pages.add(api.list(page).await?);
        }
        Ok(pages.found)
    }

    /// The names of all objects of a kind in the namespace.
    pub async fn names<K>(&self) -> Result<Vec<String>, Error>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
        K::DynamicType: Default,
    {
        let api = self.api::<K>();
        let mut pages = Pages::new(ListParams::default());
        while let Some(page) = &pages.next {
            pages.add(api.list_metadata(page).await?);
        }
        Ok(pages.found.iter().map(ResourceExt::name_any).collect())
    }

    /// A request.
    pub async fn request(&self, name: &str) -> Result<RollbackRequest, Error> {
        Ok(self.api::<RollbackRequest>().get(name).await?)
    }

    /// Writes the annotations that `make` says for the request as it is, and no other version of it: when somebody was
    /// faster, it is read again and `make` is asked again.
    pub async fn annotate(
        &self,
        name: &str,
        make: impl Fn(&RollbackRequest) -> Result<Value, Error>,
    ) -> Result<RollbackRequest, Error> {
        let mut tries = 0;
        loop {
            let request = self.request(name).await?;
            let annotations = make(&request)?;
            tries += 1;
            match self.write(&request, &annotations, false).await {
                Err(kube::Error::Api(status)) if is_lost_race(&status) && tries < TRIES => {}
                written => return Ok(written?),
            }
        }
    }

    /// Writes annotations of this very version of a request; with `rehearsed` the server only says what it would say.
    pub async fn write(
        &self,
        request: &RollbackRequest,
        annotations: &Value,
        rehearsed: bool,
    ) -> kube::Result<RollbackRequest> {
        let patch = json!({"metadata": {
            "resourceVersion": request.resource_version(), "annotations": annotations,
        }});
        let parameters = PatchParams {
            dry_run: rehearsed,
            ..writes()
        };
        let api = self.api::<RollbackRequest>();
        api.patch(&request.name_any(), &parameters, &Patch::Merge(&patch))
            .await
    }
}

/// A list that comes page by page.
struct Pages<K: Clone> {
    found: Vec<K>,
    /// What to ask for next; none when it is all there.
    next: Option<ListParams>,
}

impl<K: Clone> Pages<K> {
    fn new(wanted: ListParams) -> Self {
        Self {
            found: Vec::new(),
            next: Some(wanted.limit(PAGE)),
        }
    }

    fn add(&mut self, page: ObjectList<K>) {
        self.found.extend(page.items);
        let token = page.metadata.continue_.filter(|token| !token.is_empty());
        self.next = self.next.take().filter(|_| token.is_some());
        if let Some(next) = &mut self.next {
            next.continue_token = token;
        }
    }
}

/// How patches are written.
pub fn writes() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

fn is_lost_race(status: &kube::core::Status) -> bool {
    status.code == 409 && status.reason == "Conflict"
}

/// As kubectl does: the kubeconfig, or where there is none the pod that this runs in. One that is there and cannot be used is
/// never passed over: the pod is somebody else, and perhaps somewhere else.
async fn from_environment(options: &KubeConfigOptions) -> Result<Config, Error> {
    let files = kubeconfigs();
    let found: Vec<&PathBuf> = files.iter().filter(|file| file.exists()).collect();
    if found.is_empty() {
        let pod = Config::incluster()
            .ok()
            .filter(|_| options.context.is_none());
        return pod.ok_or_else(|| missing(&files));
    }
    // Files that are not there are left out, as kubectl does: the list in a profile names those of all machines.
    let read = found.iter().try_fold(Kubeconfig::default(), |all, file| {
        Kubeconfig::read_from(file).and_then(|next| all.merge(next))
    });
    Ok(Config::from_custom_kubeconfig(read?, options).await?)
}

/// The files that are read, as kubectl has them.
fn kubeconfigs() -> Vec<PathBuf> {
    let listed = std::env::var_os("KUBECONFIG").unwrap_or_default();
    let listed: Vec<PathBuf> = std::env::split_paths(&listed)
        .filter(|file| !file.as_os_str().is_empty())
        .collect();
    if !listed.is_empty() {
        return listed;
    }
    let usual = std::env::home_dir().map(|home| home.join(".kube").join("config"));
    usual.into_iter().collect()
}

fn missing(files: &[PathBuf]) -> Error {
    let names: Vec<String> = files
        .iter()
        .map(|file| clean(&file.display().to_string()))
        .collect();
    Error::Kubeconfig(format!("there is none at {}", names.join(", ")))
}
