//! What keeps one sender, or many, from taking all there is.

mod beginnings;
mod connections;
mod rate;
mod recent;

pub use beginnings::Beginnings;
pub use connections::{Connections, Slot};
pub use rate::Rates;
pub use recent::{Key, Recent, RecentRequest};

use std::time::Duration;

/// Largest body of a delivery, in bytes.
pub const LARGEST_BODY: usize = rollback_receiver::intake::LARGEST;
/// Most that the bodies of all deliveries together may take, in bytes.
pub const BODIES: usize = 16 * LARGEST_BODY;
/// How long a body waits for the room that another has taken, and how often it looks.
pub const ROOM: Duration = Duration::from_millis(500);
pub const LOOKS: u32 = 25;
/// How long a delivery may take to come in, from the first packet of the connection to the last byte of the body.
pub const ARRIVAL: Duration = Duration::from_secs(10);
/// How long a delivery may be worked on.
pub const WORK: Duration = Duration::from_secs(15);
/// How long a connection may live in all: whoever does not read the answer has to go as well.
pub const CONNECTION: Duration = Duration::from_secs(30);
/// How long a sender is told to wait when there is too much to do.
pub const RETRY_AFTER_SECONDS: u64 = 10;
