//! Which state of the suite ran.

use crate::workspace::Workspace;

/// The commit, with `-dirty` when the working tree differs from it; `unknown` outside a repository.
pub fn of(workspace: &Workspace) -> String {
    let ask = |arguments: &[&str]| {
        let output = workspace.command("git").args(arguments).output().ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = ask(&["rev-parse", "HEAD"]) else {
        return "unknown".to_owned();
    };
    match ask(&["status", "--porcelain"]).as_deref() {
        Some("") => commit,
        _ => format!("{commit}-dirty"),
    }
}
