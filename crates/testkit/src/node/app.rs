//! What runs on a real node: `tests/cluster/app`, well or unwell as its environment says.

use serde_json::json;

use crate::{health::HEALTH_PORT, shop, shop::DeploymentBuilder};

/// Name of the Deployment, and of its image.
pub const APP: &str = "shop";

/// The versions that are there. None of them is the same image as another.
pub const IMAGES: [&str; 4] = [
    "registry.broxiva.example/shop:v1",
    "registry.broxiva.example/shop:v2",
    "registry.broxiva.example/shop:v3",
    "registry.broxiva.example/shop:v4",
];

/// An image that nobody has: no registry listens there.
pub const NO_IMAGE: &str = "127.0.0.1:9/shop:v1";

/// A version of the shop that is well: it listens, and its readiness is probed. The Deployment controller has nothing
/// to say about it for a long time.
pub fn version(version: &str) -> DeploymentBuilder {
    let probe = json!({
        "httpGet": { "path": "/health/ready", "port": HEALTH_PORT },
        "periodSeconds": 1,
    });
    shop::deployment(APP)
        .version(version)
        .replicas(1)
        .progress_deadline(600)
        .set("/spec/template/spec/nodeSelector", json!({}))
        .set("/spec/template/spec/tolerations", json!([]))
        .set("/spec/template/spec/containers/0/readinessProbe", probe)
}
