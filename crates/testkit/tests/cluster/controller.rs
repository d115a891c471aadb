//! Handling a controller process, with a script in its place.

use std::{os::unix::fs::PermissionsExt, path::Path, time::Duration};

use anyhow::ensure;
use testkit::{ControllerProcess, eventually};

const SCRIPT: &str = r#"#!/bin/sh
trap 'echo bye; exit 3' TERM
echo "kubeconfig $KUBECONFIG arguments $*"
while :; do sleep 0.05; done
"#;

fn spawn(folder: &Path, script: &str) -> ControllerProcess {
    let program = folder.join("controller");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    ControllerProcess::spawn(&program, Path::new("/some/file"), "system", &["--more"]).unwrap()
}

async fn wait_for_log(controller: &ControllerProcess, text: &str) {
    eventually("it has logged", Duration::from_secs(5), async || {
        ensure!(controller.log().contains(text), "{}", controller.log());
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn it_is_told_where_it_is_and_ends_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let controller = spawn(folder.path(), SCRIPT);
    wait_for_log(
        &controller,
        "kubeconfig /some/file arguments --namespace system",
    )
    .await;
    assert!(controller.log().trim_end().ends_with("--more"));
    assert!(controller.log().contains(" --leader-elect=false "));
    assert_eq!(controller.terminate().unwrap().code(), Some(3));
    assert!(controller.log().ends_with("bye\n"));
}

const TICKING: &str = "#!/bin/sh
while :; do echo tick; sleep 0.02; done
";

#[tokio::test]
async fn frozen_it_does_nothing_and_then_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let controller = spawn(folder.path(), TICKING);
    wait_for_log(&controller, "tick").await;
    controller.stop_process().unwrap();
    let frozen = controller.log();
    // Another process has the time to tick all the while.
    let other = spawn(folder.path(), TICKING);
    wait_for_log(&other, &"tick\n".repeat(5)).await;
    assert_eq!(controller.log(), frozen);
    assert!(controller.exited().unwrap().is_none());
    controller.continue_process().unwrap();
    wait_for_log(&controller, &format!("{frozen}tick\n")).await;
    // A signal to one that is gone goes nowhere.
    controller.kill();
    controller.killer().ask_to_end().unwrap();
}

#[tokio::test]
async fn it_dies_at_once_when_killed() {
    let folder = tempfile::tempdir().unwrap();
    let controller = spawn(folder.path(), SCRIPT);
    wait_for_log(&controller, "arguments").await;
    assert!(controller.exited().unwrap().is_none());
    controller.killer().kill();
    assert!(controller.exited().unwrap().is_some());
    assert!(!controller.log().contains("bye"));
}

#[tokio::test]
async fn nobody_waits_for_one_that_has_failed() {
    let folder = tempfile::tempdir().unwrap();
    let controller = spawn(
        folder.path(),
        "#!/bin/sh\necho no such namespace >&2\nexit 1\n",
    );
    let error = controller.ready().await.unwrap_err().to_string();
    assert!(error.contains("no such namespace"), "{error}");
}
