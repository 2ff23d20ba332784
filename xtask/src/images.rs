//! `cargo xtask images`: stand-ins for the container images, from Debian packages.
//!
//! Where an image registry can be reached the test kit takes the official images of Postgres and Redis. Where none can,
//! these do: two base folders by debootstrap, imported, and three images on top whose build steps only copy files, so
//! that nothing needs a network inside of a container.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Instant, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};

use crate::apt_sources::{self, Source};
use crate::category::Build;
use crate::exit::{Exit, Stop};
use crate::nextest::build_command;
use crate::provision::DEBOOTSTRAP;
use crate::workspace::Workspace;

const BASE: &str = "kingsguard/base:local";
const SERVICES_BASE: &str = "kingsguard/services-base:local";
pub const POSTGRES: &str = "kingsguard/postgres:local";
pub const REDIS: &str = "kingsguard/redis:local";
pub const SERVER: &str = "kingsguard/server:local";

/// Which binary an image of the backend holds: its size and time.
const BINARY_LABEL: &str = "kingsguard.binary";

/// Makes all images; those that are there stay, unless `force`.
pub fn run(workspace: &Workspace, force: bool) -> Result<Exit> {
    require_engine()?;
    let began = Instant::now();
    let wanted = |image: &str| force || !is_there(image);
    if wanted(BASE) || wanted(SERVICES_BASE) {
        require_debootstrap()?;
        let source = apt_sources::of_this_machine()?;
        for (image, packages) in [(BASE, "ca-certificates"), (SERVICES_BASE, "postgresql,redis-server")] {
            if wanted(image) {
                make_base(workspace, image, packages, &source)?;
            }
        }
    }
    for (image, folder) in [(POSTGRES, "docker/postgres"), (REDIS, "docker/redis")] {
        if wanted(image) {
            eprintln!("building {image}");
            docker_build(image, &workspace.root.join(folder), &[])?;
        }
    }
    let status = build_command(workspace, Build::Debug)
        .status()
        .context("starting cargo build")?;
    ensure!(status.success(), "building the server ended with {status}");
    refresh_server(workspace, Build::Debug)?;
    for image in [POSTGRES, REDIS, SERVER] {
        println!("{image}");
    }
    eprintln!("images are there, {:.0} s", began.elapsed().as_secs_f64());
    Ok(Exit::Passed)
}

/// Whether containers can be started from stand-ins: then the backend's image must hold the binary just built.
pub fn base_is_there() -> bool {
    engine_answers() && is_there(BASE)
}

/// Makes the backend's image anew when it holds another binary than the one just built.
pub fn refresh_server(workspace: &Workspace, build: Build) -> Result<()> {
    let binary = workspace.binary(build, "kingsguard-server");
    let facts = fs::metadata(&binary).with_context(|| format!("looking at {}", binary.display()))?;
    let time = facts.modified().context("asking for the time of the server's binary")?;
    let time = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let label = format!("{}-{time}", facts.len());
    let format = format!("{{{{index .Config.Labels \"{BINARY_LABEL}\"}}}}");
    if said(docker().args(["image", "inspect", "--format", &format, SERVER])).is_some_and(|held| held == label) {
        return Ok(());
    }
    eprintln!("building {SERVER} ({build:?})");
    let context = workspace.target.join("images").join("server");
    fs::create_dir_all(&context).with_context(|| format!("making {}", context.display()))?;
    fs::copy(
        workspace.root.join("docker/server/Dockerfile"),
        context.join("Dockerfile"),
    )
    .context("copying Dockerfile")?;
    let copy = context.join("kingsguard-server");
    // Debug information is for the desk; in an image it would cost seconds per build.
    let stripped = Command::new("strip")
        .arg("--strip-debug")
        .arg("-o")
        .arg(&copy)
        .arg(&binary)
        .status();
    if !stripped.is_ok_and(|status| status.success()) {
        fs::copy(&binary, &copy).with_context(|| format!("copying {}", binary.display()))?;
    }
    docker_build(SERVER, &context, &["--label", &format!("{BINARY_LABEL}={label}")])
}

fn make_base(workspace: &Workspace, image: &str, packages: &str, source: &Source) -> Result<()> {
    let folder = workspace.target.join("images");
    // debootstrap keeps what it fetched, so that the second base costs little.
    let cache = folder.join("packages");
    let root = folder.join("root");
    fs::create_dir_all(&cache).with_context(|| format!("making {}", cache.display()))?;
    remove(&root)?;
    eprintln!("making {image} ({packages}) from Debian packages");
    let mut debootstrap = Command::new("debootstrap");
    debootstrap
        .args(["--variant=minbase", &format!("--include={packages}")])
        .arg(format!("--cache-dir={}", fs::canonicalize(&cache)?.display()))
        .arg(&source.release)
        .arg(&root)
        .arg(&source.mirror)
        .env("DEBIAN_FRONTEND", "noninteractive");
    if let Some(proxy) = &source.proxy {
        debootstrap.env("http_proxy", proxy);
    }
    quietly(&mut debootstrap)?;
    // The package makes a cluster that no container uses; the entrypoint makes its own.
    remove(&root.join("var/lib/postgresql"))?;
    for folder in [
        "var/cache/apt/archives",
        "var/lib/apt/lists",
        "usr/share/doc",
        "usr/share/man",
        "usr/share/locale",
    ] {
        remove(&root.join(folder))?;
    }
    let mut tar = Command::new("tar")
        .args(["--numeric-owner", "--one-file-system", "-C"])
        .arg(&root)
        .args(["-c", "."])
        .stdout(Stdio::piped())
        .spawn()
        .context("starting tar")?;
    let archive = tar.stdout.take().context("tar's output is a pipe")?;
    let status = docker()
        .args(["import", "--message", "made by cargo xtask images", "-", image])
        .stdin(archive)
        .stdout(Stdio::null())
        .status()
        .context("starting docker import")?;
    let packed = tar.wait().context("waiting for tar")?;
    ensure!(
        status.success() && packed.success(),
        "importing {image} ended with {status} (tar: {packed})"
    );
    remove(&root)
}

fn docker_build(image: &str, context: &Path, arguments: &[&str]) -> Result<()> {
    let mut command = docker();
    command
        .args(["build", "--quiet", "--network", "none", "--tag", image])
        .args(arguments)
        .arg(context);
    quietly(&mut command)
}

/// Runs a command and shows what it said only when it fails.
fn quietly(command: &mut Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} ended with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn docker() -> Command {
    let mut command = Command::new("docker");
    // The classic builder: it needs no plugin, and the stand-ins need nothing newer.
    command.env("DOCKER_BUILDKIT", "0");
    command
}

fn said(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

pub fn is_there(image: &str) -> bool {
    said(docker().args(["image", "inspect", "--format", "{{.Id}}", image])).is_some()
}

fn engine_answers() -> bool {
    said(docker().args(["version", "--format", "{{.Server.Version}}"])).is_some()
}

fn require_engine() -> Result<()> {
    if engine_answers() {
        return Ok(());
    }
    Err(Stop::new(
        Exit::Services,
        "no container engine answers",
        "apt-get install docker.io and start it; without one, services run as processes: --services processes",
    )
    .into())
}

fn require_debootstrap() -> Result<()> {
    let stop = |why: &str, next: &str| Err(Stop::new(Exit::Services, why, next).into());
    if !nix::unistd::Uid::effective().is_root() {
        return stop(
            "debootstrap needs root",
            "sudo --preserve-env=PATH,HOME cargo xtask images",
        );
    }
    if !DEBOOTSTRAP.is_there() {
        return stop(
            "debootstrap is missing",
            "apt-get install --no-install-recommends debootstrap",
        );
    }
    Ok(())
}
