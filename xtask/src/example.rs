//! `cargo xtask example NAME`: the examples of docs/your-backend.md, judged as a stranger's backend would be.
//!
//! Each must be judged green by what it claims, and red by clauses of order and content alone when it leaves an event out.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kingsguard_report::Summary;

use crate::category::Build;
use crate::cli::ExampleName;
use crate::exit::{Exit, Stop};
use crate::provision::{self, PYTHON};
use crate::signals;
use crate::workspace::Workspace;

/// How long the example may take to listen.
const START: Duration = Duration::from_secs(20);

/// How often it is asked whether it listens.
const TICK: Duration = Duration::from_millis(50);

/// The event that is left out, and the tests that then look.
const LEFT_OUT: &str = "tool_completed";
const LOOKING: &str = "test(/^wire::any_backend::/)";

/// The virtual environment of all examples, which require the same.
const ENVIRONMENT: &str = "python-backend";

impl ExampleName {
    /// Its folder.
    fn folder(self) -> &'static str {
        match self {
            Self::Python => "examples/python-backend",
            Self::Original => "examples/original-kind",
        }
    }

    /// What is judged: the wire tests of these categories. All of `integration` asks for answers that the original's kind does
    /// not give.
    fn categories(self) -> &'static [&'static str] {
        match self {
            Self::Python => &["integration", "e2e", "regression"],
            Self::Original => &["e2e", "regression"],
        }
    }

    /// Tests that must have judged it at least; fewer would be green by absence.
    fn judged_min(self) -> u32 {
        match self {
            Self::Python => 60,
            Self::Original => 8,
        }
    }
}

pub fn run(workspace: &Workspace, name: ExampleName, provision: bool) -> Result<Exit> {
    if !PYTHON.is_there() || !can_make_environments() {
        if !provision {
            return Err(Stop::new(
                Exit::Services,
                "not run: python3 with venv and pip is not installed",
                "the same command with --provision",
            )
            .into());
        }
        provision::install_packages(&[&PYTHON])?;
    }
    let interpreter = environment(workspace, name)?;
    println!("==> {} as it is", name.folder());
    let exit = judge(workspace, name, &interpreter, None, provision)?;
    let summary = newest(workspace)?;
    let passed: u32 = summary.categories.iter().map(|category| category.passed).sum();
    let beyond: u32 = summary.categories.iter().map(|category| category.beyond_profile).sum();
    if exit != Exit::Passed {
        return Ok(exit);
    }
    ensure!(
        passed >= name.judged_min(),
        "only {passed} tests judged the example ({beyond} were beyond its profile), and at least {} must",
        name.judged_min()
    );
    println!("==> {} without {LEFT_OUT}", name.folder());
    let exit = judge(workspace, name, &interpreter, Some(LEFT_OUT), provision)?;
    let broken: BTreeSet<String> = newest(workspace)?
        .violations
        .into_iter()
        .filter(|violation| violation.level == kingsguard_report::Level::Must)
        .map(|violation| violation.clause)
        .collect();
    let expected = |clause: &String| clause.starts_with("ORD-") || clause.starts_with("EVT-");
    ensure!(
        exit == Exit::Failed && !broken.is_empty() && broken.iter().all(expected),
        "without {LEFT_OUT} the example must fail by clauses of ORD and EVT alone, and it ended with {exit:?} by {broken:?}; \
         what it said is in {}",
        workspace.shown(&expected_failures(workspace))
    );
    println!(
        "{passed} tests judged the example green, {beyond} were beyond its profile; without {LEFT_OUT} it broke {broken:?}"
    );
    Ok(Exit::Passed)
}

/// Debian keeps `venv` apart from Python itself.
fn can_make_environments() -> bool {
    let status = Command::new("python3")
        .args(["-c", "import venv, ensurepip"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// The interpreter of a virtual environment with what the example requires; made anew when that changes.
fn environment(workspace: &Workspace, name: ExampleName) -> Result<PathBuf> {
    let folder = workspace.target.join(ENVIRONMENT);
    let interpreter = folder.join("bin").join("python");
    let wanted = workspace.root.join(name.folder()).join("requirements.txt");
    let installed = folder.join("installed.txt");
    let text = fs::read_to_string(&wanted).with_context(|| format!("reading {}", wanted.display()))?;
    if interpreter.is_file() && fs::read_to_string(&installed).is_ok_and(|known| known == text) {
        return Ok(interpreter);
    }
    println!(
        "installing what {} requires into {}",
        name.folder(),
        workspace.shown(&folder)
    );
    let made = Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&folder)
        .status();
    ensure!(
        made.context("starting python3")?.success(),
        "python3 -m venv made no environment in {}",
        folder.display()
    );
    let pip = Command::new(&interpreter)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
        .arg(&wanted)
        .status();
    ensure!(
        pip.context("starting pip")?.success(),
        "pip could not install what {} lists",
        wanted.display()
    );
    fs::write(&installed, text).with_context(|| format!("writing {}", installed.display()))?;
    Ok(interpreter)
}

/// Starts the example, lets the suite judge it, and ends it. What is said of an example that leaves something out goes into
/// a file: beside the failures of a run it would look like some of them.
fn judge(
    workspace: &Workspace,
    name: ExampleName,
    interpreter: &Path,
    left_out: Option<&str>,
    provision: bool,
) -> Result<Exit> {
    let example = Example::start(workspace, name, interpreter, left_out)?;
    let url = format!("http://127.0.0.1:{}", example.port);
    // Not this program's own file: whoever builds the workspace meanwhile puts another in its place.
    let mut command = workspace.command(workspace.binary(Build::Debug, "xtask"));
    command
        .arg("test")
        .args(name.categories())
        .args(["--no-deps", "--target", &url])
        .args(provision.then_some("--provision"));
    command
        .arg("--profile")
        .arg(workspace.root.join(name.folder()).join("profile.toml"));
    // One process in Python serves all of them: more at once would judge the machine (TIM-1).
    command.args(["--jobs", "3"]);
    if left_out.is_some() {
        let path = expected_failures(workspace);
        let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
        command.args(["--pattern", LOOKING]);
        command
            .stdout(file.try_clone().context("sharing the file")?)
            .stderr(file);
    }
    let status = signals::attend(&mut command)?;
    Exit::of_status(status).with_context(|| format!("judging the example ended with {status}"))
}

/// What is said of the example that leaves an event out.
fn expected_failures(workspace: &Workspace) -> PathBuf {
    workspace.reports().join("example-without-an-event.log")
}

fn newest(workspace: &Workspace) -> Result<Summary> {
    let path = workspace.reports().join("latest").join("summary.json");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))
}

/// The example while it runs.
#[derive(Debug)]
struct Example {
    child: Child,
    port: u16,
}

impl Example {
    fn start(workspace: &Workspace, name: ExampleName, interpreter: &Path, left_out: Option<&str>) -> Result<Self> {
        // Between this and the example's own listening the port is free for a moment; a clash ends the start, not the truth.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .context("looking for a free port")?
            .port();
        let mut command = workspace.command(interpreter);
        command
            .arg(format!("{}/backend.py", name.folder()))
            .args(["--port", &port.to_string()]);
        command.envs(left_out.map(|event| ("LEAVE_OUT", event)));
        command.env(crate::leftovers::MARK, crate::leftovers::mark());
        let child = command.stdin(Stdio::null()).spawn();
        let mut example = Self {
            child: child.context("starting the example")?,
            port,
        };
        let deadline = Instant::now() + START;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if let Some(status) = example.child.try_wait().context("watching the example")? {
                anyhow::bail!("the example ended with {status} before it listened");
            }
            ensure!(
                Instant::now() < deadline,
                "the example does not listen within {} s",
                START.as_secs()
            );
            std::thread::sleep(TICK);
        }
        Ok(example)
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // Its end is asked for by us, whatever it says to that.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
