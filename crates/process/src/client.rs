//! Clients of the API server: nothing waits for ever, nothing is tried again that nobody sees, and no answer is larger
//! than it may be.

use std::time::Duration;

use kube::client::ClientBuilder;
use kube::{Client, Config};
use rollback_reads::layer::Shorten;

/// For watches, which are quiet for long: only connecting has to end.
pub fn for_watches(mut config: Config, connect: Duration) -> Config {
    config.default_retry = false;
    config.connect_timeout = Some(connect);
    config
}

/// For all else: an answer has to end too.
pub fn for_answers(config: Config, connect: Duration, read: Duration) -> Config {
    let mut config = for_watches(config, connect);
    config.read_timeout = Some(read);
    config.reset_reader_on_write = true;
    config
}

/// A client of this configuration.
pub fn client(config: Config) -> kube::Result<Client> {
    let client = ClientBuilder::try_from(config)?;
    Ok(client.with_layer(&Shorten).build())
}
