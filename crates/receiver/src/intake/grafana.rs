//! A contact point "Webhook" of Grafana: as Alertmanager, but version 1, and with alerts about missing data.
//!
//! When a query of a rule fails or finds nothing, Grafana fires an alert of its own name. It says nothing about the
//! application, so it is never answered.

use super::alertmanager::{self, Member};
use super::{After, Description, Format, Hmac, Proof, Signed, Unreadable, truncated};
use crate::alert::Delivery;
use crate::signature;

pub(super) const FORMAT: Description = Description {
    remedy: "send the contact point \"Webhook\" of Grafana (version 1) as it is, without a custom payload",
    read,
    proof: Proof::Hmac(Hmac {
        header: "X-Grafana-Alerting-Signature",
        can_be_renamed: true,
        signed: Signed::TimeAndBody {
            // Grafana has no name for it; this is the one to set there.
            header: "X-Grafana-Alerting-Timestamp",
            // Without the time, whoever has seen a delivery could send it again for ever.
            fits: |secret, code, time, body, now| {
                signature::grafana(secret, code, Some(time), body, now)
            },
        },
    }),
    content_types: &[],
    comes_again: After::ServiceUnavailable,
};

fn read(body: &[u8]) -> Result<Delivery, Unreadable> {
    let group = alertmanager::members(Format::Grafana, "1", body)?;
    let alerts = group.alerts.items.into_iter().map(Member::read).collect();
    Ok(truncated(alerts, group.left_out))
}
