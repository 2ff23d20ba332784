//! `cargo xtask doctor`: what this machine has and lacks, and how to get it.

use std::process::{Command, Stdio};

use anyhow::Result;
use serde::Serialize;

use crate::exit::Exit;
use crate::images;
use crate::provision::{self, DEBOOTSTRAP, FAKETIME, POSTGRES, REDIS, Tool};

/// One thing looked for.
#[derive(Debug, Serialize)]
struct Finding {
    name: String,
    there: bool,
    /// What is there, or what it is for.
    detail: String,
    /// How to get it.
    #[serde(skip_serializing_if = "Option::is_none")]
    get: Option<String>,
}

pub fn run(json: bool) -> Result<Exit> {
    let findings = look();
    if json {
        println!("{}", serde_json::to_string_pretty(&findings)?);
    } else {
        for finding in &findings {
            println!(
                "{} {:<22} {}",
                if finding.there { "ok     " } else { "missing" },
                finding.name,
                finding.detail
            );
            if let Some(get) = finding.get.as_ref().filter(|_| !finding.there) {
                println!("{:<8}get it: {get}", "");
            }
        }
    }
    let there = |name: &str| findings.iter().any(|finding| finding.name == name && finding.there);
    let images = findings
        .iter()
        .filter(|finding| finding.name.starts_with("image "))
        .all(|finding| finding.there);
    let processes = there(POSTGRES.name) && there(REDIS.name);
    let containers = there("container engine") && images;
    let can = there("cargo-nextest") && (processes || containers);
    if !json {
        let word = |yes: bool| if yes { "yes" } else { "no" };
        println!();
        println!(
            "services as processes: {} · as containers: {}",
            word(processes),
            word(containers)
        );
        if !can {
            println!("next: cargo xtask test mission-critical --provision");
        }
    }
    Ok(if can { Exit::Passed } else { Exit::Services })
}

fn look() -> Vec<Finding> {
    let mut findings = vec![
        program("C compiler", "cc", &["--version"], "apt-get install gcc libc6-dev"),
        program("Rust", "cargo", &["--version"], "https://rustup.rs"),
        program("git", "git", &["--version"], "apt-get install git"),
    ];
    let nextest = provision::nextest_version();
    findings.push(Finding {
        name: "cargo-nextest".to_owned(),
        there: nextest.is_some(),
        detail: nextest.unwrap_or_else(|| "runs the tests".to_owned()),
        get: Some("cargo install cargo-nextest --locked".to_owned()),
    });
    findings.extend([&POSTGRES, &REDIS, &FAKETIME, &DEBOOTSTRAP].map(tool));
    let engine = first_line("docker", &["version", "--format", "engine {{.Server.Version}}"]);
    let there = engine.is_some();
    findings.push(Finding {
        name: "container engine".to_owned(),
        there,
        detail: engine.unwrap_or_else(|| "services as containers".to_owned()),
        get: Some("apt-get install docker.io (processes do as well)".to_owned()),
    });
    for image in [images::POSTGRES, images::REDIS, images::SERVER] {
        let id = first_line("docker", &["image", "inspect", "--format", "{{.Id}}", image]).filter(|_| there);
        findings.push(Finding {
            name: format!("image {image}"),
            there: id.is_some(),
            detail: id.unwrap_or_else(|| "stand-in where no image registry is reached".to_owned()),
            get: Some("cargo xtask images".to_owned()),
        });
    }
    findings
}

fn tool(tool: &Tool) -> Finding {
    Finding {
        name: tool.name.to_owned(),
        there: tool.is_there(),
        detail: tool.why.to_owned(),
        get: Some(format!("apt-get install --no-install-recommends {}", tool.package)),
    }
}

fn program(name: &str, program: &str, arguments: &[&str], get: &str) -> Finding {
    let line = first_line(program, arguments);
    Finding {
        name: name.to_owned(),
        there: line.is_some(),
        detail: line.unwrap_or_else(|| "needed for everything".to_owned()),
        get: Some(get.to_owned()),
    }
}

fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .next()
        .filter(|_| output.status.success())
        .map(str::to_owned)
}
