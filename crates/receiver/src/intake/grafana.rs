//! A contact point "Webhook" of Grafana: as Alertmanager, but version 1, and with alerts about missing data.
//!
//! When a query of a rule fails or finds nothing, Grafana fires an alert of its own name. It says nothing about the
//! application, so it is never answered.

use super::alertmanager::{self, Member};
use super::{Format, Unreadable, alerts, ignored};
use crate::alert::{Alert, Delivery};

/// What Grafana calls the alerts about its own queries.
const NO_DATA: [&str; 2] = ["DatasourceNoData", "DatasourceError"];

pub(super) fn read(body: &[u8]) -> Result<Delivery, Unreadable> {
    let remedy = "set \"Max alerts\" of the contact point, or group by more labels";
    let members = alertmanager::members(Format::Grafana, "1", remedy, body)?;
    let read = |member: Member| without_data(member.read());
    Ok(alerts(members.into_iter().map(read).collect()))
}

fn without_data(mut alert: Alert) -> Alert {
    if NO_DATA.contains(&alert.name.as_str()) {
        alert.state = ignored("the query of the rule found no data or failed");
    }
    alert
}
