//! The alerts about the operator itself, by the tests beside them.

use anyhow::{Result, ensure};
use testkit::prometheus::promtool;

#[tokio::test]
async fn each_alert_fires_when_it_should() -> Result<()> {
    let Some(promtool) = promtool()? else {
        return Ok(());
    };
    let folder = crate::helm::chart();
    for arguments in [
        ["check", "rules", "alerts.yaml"],
        ["test", "rules", "alerts_test.yaml"],
    ] {
        let output = tokio::process::Command::new(promtool)
            .args(arguments)
            .current_dir(&folder)
            .output()
            .await?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let rules = std::fs::read_to_string(folder.join("alerts.yaml"))?;
    let tests = std::fs::read_to_string(folder.join("alerts_test.yaml"))?;
    for name in rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
    {
        ensure!(
            tests.contains(&format!("alertname: {name}")),
            "no test of {name}"
        );
    }
    Ok(())
}
