//! `cargo xtask watch`: the light checks at an interval against a running system, and the answer as Prometheus metrics and JSON
//! (RUN-13).

use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use chrono::Utc;
use kingsguard_report::gate::{Answer, Gate};
use kingsguard_report::{ClauseVerdict, Summary};
use tiny_http::{Header, Response, Server};

use crate::cli::WatchArgs;
use crate::exit::{Exit, Stop};
use crate::gate::{answer, exit_of};
use crate::workspace::Workspace;
use crate::{baseline, signals, suite_run};

mod status;

use status::{Check, Status};

/// The selection that is run.
const SELECTION: &str = "watch";

/// How often signals are looked at between two checks.
const TICK: Duration = Duration::from_millis(100);

/// Checks until a signal comes, or so often as was asked.
pub fn run(workspace: &Workspace, args: &WatchArgs) -> Result<Exit> {
    let server = Server::http(&args.listen).map_err(|error| {
        let why = format!("cannot listen on {}: {error}", args.listen);
        Stop::usage(why, "name another address with --listen, such as 127.0.0.1:0")
    })?;
    let server = Arc::new(server);
    println!(
        "metrics at http://{0}/metrics, the answer at http://{0}/status",
        server.server_addr()
    );
    let status = Arc::new(Mutex::new(Status::new(Duration::from_secs(args.every))));
    let serving = std::thread::spawn({
        let (server, status) = (Arc::clone(&server), Arc::clone(&status));
        move || serve(&server, &status)
    });
    let ended = check_again_and_again(workspace, args, &status);
    server.unblock();
    serving
        .join()
        .map_err(|_| anyhow!("the thread that serves the metrics broke"))?;
    ended
}

fn check_again_and_again(workspace: &Workspace, args: &WatchArgs, status: &Mutex<Status>) -> Result<Exit> {
    let mut sound: Option<String> = None;
    loop {
        let began = Instant::now();
        let check = check(workspace, args)?;
        if signals::seen() > 0 {
            return Ok(Exit::Interrupted);
        }
        let said = check.gate.answer;
        println!(
            "watch: {said} after {:.1} s, {}",
            began.elapsed().as_secs_f64(),
            Utc::now().to_rfc3339()
        );
        // Of checks that found nothing only the last one's report stays.
        if let Some(before) = sound.take() {
            let folder = workspace.reports().join(before);
            fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
        }
        if said == Answer::Go {
            sound = check.gate.suite_runs.first().cloned();
        }
        let rounds = {
            let mut status = lock(status);
            status.add(check);
            status.checks()
        };
        if args.rounds.is_some_and(|most| rounds >= most) {
            return Ok(exit_of(said));
        }
        while began.elapsed() < Duration::from_secs(args.every) {
            if signals::seen() > 0 {
                return Ok(Exit::Interrupted);
            }
            std::thread::sleep(TICK);
        }
    }
}

/// One check. It is about the clauses that the light checks judge, so those that they leave out are no doubt.
fn check(workspace: &Workspace, args: &WatchArgs) -> Result<Check> {
    suite_run::test(workspace, &args.subject.test(SELECTION))?;
    let mut summary: Summary = baseline::read(&workspace.reports().join("latest"))?;
    summary.clauses.retain(|clause| clause.verdict != ClauseVerdict::NotRun);
    let gate: Gate = answer(std::slice::from_ref(&summary));
    Ok(Check {
        gate,
        clauses: summary.clauses,
        figures: summary.figures,
        duration_ms: summary.duration_ms - summary.build_ms.min(summary.duration_ms),
    })
}

fn lock(status: &Mutex<Status>) -> MutexGuard<'_, Status> {
    status.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers until the server is unblocked.
fn serve(server: &Server, status: &Mutex<Status>) {
    for request in server.incoming_requests() {
        let (code, kind, body) = match request.url() {
            "/metrics" => (200, "text/plain; version=0.0.4", lock(status).metrics()),
            "/status" => (200, "application/json", lock(status).json()),
            _ => (404, "text/plain", "there are /metrics and /status\n".to_owned()),
        };
        let mut response = Response::from_string(body).with_status_code(code);
        if let Ok(header) = Header::from_bytes("Content-Type", kind) {
            response.add_header(header);
        }
        // Who hung up does not want it any more.
        let _hung_up = request.respond(response);
    }
}
