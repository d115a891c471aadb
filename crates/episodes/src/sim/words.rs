//! What kubelets, runtimes and schedulers say.

use crate::random::Random;

/// An image that is not there.
pub fn missing(image: &str, random: &mut Random) -> String {
    let repository = image.rsplit_once(':').map_or(image, |(name, _)| name);
    let tag = image.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    let failed = format!(
        "failed to pull and unpack image \"{image}\": failed to resolve reference \"{image}\": "
    );
    let said = [
        format!("rpc error: code = NotFound desc = {failed}{image}: not found"),
        format!("{failed}{image}: not found"),
        format!(
            "rpc error: code = Unknown desc = Error response from daemon: manifest for {image} not found: manifest unknown: manifest unknown"
        ),
        format!("reading manifest {tag} in {repository}: manifest unknown"),
        format!(
            "{failed}pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed"
        ),
    ];
    random.one_of(&said)
}

/// A registry that cannot be reached or is not well; `{image}` and `{repository}` are left open.
pub fn registry_outage(random: &mut Random) -> String {
    let head =
        "failed to pull and unpack image \"{image}\": failed to resolve reference \"{image}\": ";
    let request = "failed to do request: Head \"https://r.example/v2/{repository}\": ";
    let said = [
        format!("{head}{request}dial tcp 203.0.113.7:443: i/o timeout"),
        format!("{head}{request}dial tcp 203.0.113.7:443: connect: connection refused"),
        format!("{head}{request}dial tcp: lookup r.example on 10.96.0.10:53: no such host"),
        format!("{head}unexpected status from HEAD request to https://r.example/v2/{{repository}}: 500 Internal Server Error"),
        format!("{head}unexpected status from HEAD request to https://r.example/v2/{{repository}}: 503 Service Unavailable"),
        "toomanyrequests: You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit".to_owned(),
        format!("rpc error: code = Unknown desc = {head}{request}net/http: TLS handshake timeout"),
        format!("rpc error: code = DeadlineExceeded desc = {head}{request}context deadline exceeded"),
    ];
    random.one_of(&said)
}

/// Fills in the image.
pub fn about(message: &str, image: &str) -> String {
    let name = image.strip_prefix("r.example/").unwrap_or(image);
    let path = name.replacen(':', "/manifests/", 1);
    message
        .replace("{image}", image)
        .replace("{repository}", &path)
}

/// An image name that is none.
pub fn invalid(image: &str) -> String {
    format!(
        "Failed to apply default image tag \"{image}\": couldn't parse image name \"{image}\": invalid reference format"
    )
}

/// No node has room.
pub fn unschedulable(nodes: usize) -> String {
    format!(
        "0/{nodes} nodes are available: {nodes} Insufficient cpu. preemption: 0/{nodes} nodes are available: {nodes} No preemption victims found for incoming pod."
    )
}

/// A configuration that only this version asks for.
pub fn misconfigured(random: &mut Random) -> String {
    let said = [
        "configmap \"features\" not found",
        "secret \"payments\" not found",
        "couldn't find key API_URL in ConfigMap shop/settings",
        "couldn't find key token in Secret shop/db",
    ];
    random.one_of(&said).to_owned()
}
