//! What a test holds in its hand: isolated users, a target, the capture; judgement and evidence at the end.

mod faults;
mod outcome;
mod target;
mod time;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures_util::FutureExt as _;
use kingsguard_protocol::{ErrorCode, Timestamp};
use kingsguard_report::Figure;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};
use tokio::time::Instant;

use crate::capture::Capture;
use crate::case::Case;
use crate::chat::{Chat, PATIENCE};
use crate::connect::ConnectOptions;
use crate::deployment::{Deployment, SABOTAGE};
use crate::evidence::{Evidence, Finding, Keep};
use crate::fault::Ledger;
use crate::http::Http;
use crate::link::Refused;
use crate::provider::private::PrivateServices;
use crate::raw::RawSocket;
use crate::recording::Recording;
use crate::sabotage::{RULES_VARIABLE, Sabotage, Saboteur};
use crate::schedule::ScheduleWatch;
use crate::session::Session;
use crate::stack::Stack;
use crate::target::Target;
use crate::timing::Timing;
use crate::transport::{Stream, authority};
use crate::user::{SimulatedUser, expect_refusal};
use crate::validate;
pub(crate) use outcome::BodyFailure;
use outcome::FellShort;
pub use outcome::Outcome;

/// How long a test that is over waits for what is still under way before it is judged.
const SETTLING: Duration = Duration::from_secs(20);

/// Begins a test: [`TestContext::wire`] or [`TestContext::own`].
#[derive(Debug)]
pub struct Builder {
    case: Case,
    own: bool,
    settings: BTreeMap<String, String>,
    nodes: usize,
    services: Whose,
    seed: Option<u64>,
    ca_file: Option<PathBuf>,
}

/// Whose Postgres and Redis a test uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// Those of the suite run; the test has a database and a prefix there.
    Shared,
    /// Its own, which it may kill.
    Private,
}

/// What a running test holds in its hand.
#[derive(Debug)]
pub struct TestContext {
    case: Case,
    seed: u64,
    rngs_made: AtomicU64,
    capture: Capture,
    session: Session,
    deployment: Mutex<Option<Deployment>>,
    services: Mutex<Option<PrivateServices>>,
    sabotage: Option<Sabotage>,
    /// Before a target; before nodes of its own the deployment puts them.
    _saboteur: Option<Saboteur>,
    ledger: Ledger,
    figures: StdMutex<Vec<Figure>>,
}

impl Builder {
    /// Chooses a setting of the test's own backend.
    ///
    /// # Panics
    /// The test is a wire test: a target's settings cannot be chosen.
    #[must_use]
    pub fn with_setting(mut self, name: &str, value: impl ToString) -> Self {
        assert!(
            self.own,
            "a wire test runs against any target: use TestContext::own to choose {name}"
        );
        self.settings.insert(name.to_owned(), value.to_string());
        self
    }

    /// Starts several nodes on one database and one Redis prefix; one is the default, none leaves starting to the test: the
    /// users of the context speak to the first node that it adds.
    ///
    /// # Panics
    /// The test is a wire test.
    #[must_use]
    pub fn with_nodes(mut self, nodes: usize) -> Self {
        assert!(
            self.own,
            "a wire test runs against any target: use TestContext::own to choose its nodes"
        );
        self.nodes = nodes;
        self
    }

    /// Gives the test a Postgres and a Redis of its own, which it may kill, restart and empty.
    ///
    /// # Panics
    /// The test is a wire test.
    #[must_use]
    pub fn with_private_services(mut self) -> Self {
        assert!(self.own, "a wire test runs against any target: it has no services");
        self.services = Whose::Private;
        self
    }

    /// Chooses the seed of everything random in the test, whatever the environment says.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Believes certificates of the authorities in this file and no others, where the test puts TLS before its backend.
    ///
    /// # Panics
    /// The test is a wire test: a target's profile says what is believed.
    #[must_use]
    pub fn with_ca_file(mut self, ca_file: impl Into<PathBuf>) -> Self {
        assert!(
            self.own,
            "a wire test runs against any target, whose profile says what is believed"
        );
        self.ca_file = Some(ca_file.into());
        self
    }

    /// Plants a fault in every node of the test's own backend; `kingsguard-server-sabotaged --list` names them. Such tests
    /// live in a module `planted`, by which the runner knows that the binary is needed.
    ///
    /// # Panics
    /// The test is a wire test: nobody plants a fault in a target.
    #[must_use]
    pub fn with_sabotage(self, id: &str) -> Self {
        self.with_setting(SABOTAGE, id)
    }

    /// Runs the test: starts what it needs, runs `body`, judges all captures, keeps evidence or cleans up.
    ///
    /// # Panics
    /// The test failed: the body panicked or ended with an error, a MUST clause is broken, or nothing was judged at all.
    pub async fn run<T: Outcome>(self, body: impl AsyncFnOnce(&TestContext) -> T) {
        let proving = std::env::var_os(RULES_VARIABLE).is_some_and(|rules| !rules.is_empty());
        let keep = if proving { Keep::Record } else { Keep::Evidence };
        if let Some(failure) = self.execute(body, keep).await {
            panic!("{failure}");
        }
    }

    /// Runs a test that must fail, for proofs that it can; says why it failed. It leaves no evidence, and a record
    /// without what it broke on purpose.
    ///
    /// # Panics
    /// The test held, or could not start.
    pub async fn run_to_failure<T: Outcome>(self, body: impl AsyncFnOnce(&TestContext) -> T) -> String {
        match self.look_for_failure(body).await {
            Some(failure) => failure,
            None => panic!("the test held, where it must fail"),
        }
    }

    /// The same, for a test that fails by chance; `None` where it held.
    pub async fn look_for_failure<T: Outcome>(self, body: impl AsyncFnOnce(&TestContext) -> T) -> Option<String> {
        self.execute(body, Keep::Nothing).await
    }

    async fn execute<T: Outcome>(self, body: impl AsyncFnOnce(&TestContext) -> T, keep: Keep) -> Option<String> {
        let started = Timestamp::now();
        let began = Instant::now();
        let case = self.case.clone();
        let seed = self.seed.unwrap_or_else(seed);
        let evidence = Evidence::prepare(&case, seed, keep);
        let capture = Capture::default();
        let watch = ScheduleWatch::over(&capture);
        let target = target::of_environment(&case.test);
        let profile = target.as_ref().map(|target| target.profile.clone()).unwrap_or_default();
        let mut context = match self.start(target, seed, &capture, &evidence).await {
            Ok(context) => context,
            Err(error) => panic!(
                "{} cannot start: {error:#}\n  repeat: {}",
                case.test,
                case.repeat_command(seed)
            ),
        };
        let body_failure = match profile.left_out(case.clauses) {
            Some(why) => Some(BodyFailure::NotJudged(why)),
            None => match AssertUnwindSafe(body(&context)).catch_unwind().await {
                Ok(outcome) => outcome.failure().map(BodyFailure::Failed),
                Err(panic) => Some(BodyFailure::of_panic(panic.as_ref())),
            },
        };
        // Whatever else such a test says, it did not do what it meant to do.
        let body_failure = capture.lacking().map(BodyFailure::NotJudged).or(body_failure);
        if body_failure.is_none() {
            context.settle().await;
        }
        let recording = context.recording();
        drop(watch);
        context.session.end_parked();
        let judgement = validate::judge(&recording);
        let finding = Finding {
            case: &case,
            seed,
            started,
            duration: began.elapsed(),
            body_failure,
            recording: &recording,
            judgement,
            checks: capture.checks(),
            never_happened: context.ledger.never_happened(),
            beyond_frames: Vec::new(),
            sabotage_happened: context.sabotage.as_ref().map(Sabotage::happened),
            figures: std::mem::take(
                context
                    .figures
                    .get_mut()
                    .unwrap_or_else(std::sync::PoisonError::into_inner),
            ),
        };
        let deployment = context.deployment.get_mut().take();
        let concluded = evidence.conclude(finding, deployment).await;
        match context.services.get_mut().take() {
            Some(services) => match services.end().await {
                Ok(()) => concluded,
                Err(error) => Some(format!(
                    "{}ending the test's own services: {error:#}",
                    concluded.map_or(String::new(), |failure| format!("{failure}\n"))
                )),
            },
            None => concluded,
        }
    }

    async fn start(
        self,
        target: Option<Target>,
        seed: u64,
        capture: &Capture,
        evidence: &Evidence,
    ) -> Result<TestContext> {
        let mut profile = target.as_ref().map(|target| target.profile.clone()).unwrap_or_default();
        if self.ca_file.is_some() {
            Arc::make_mut(&mut profile).connection.ca_file = self.ca_file;
        }
        let sabotage = Sabotage::from_env()?;
        let (mut deployment, mut services, mut saboteur) = (None, None, None);
        let base_url = match target {
            Some(_) if self.own => bail!("needs its own stack: not run against a target"),
            Some(target) if sabotage.is_some() && !target.url.starts_with("http://") => {
                bail!("a sabotage stands in front of a plain target only: name it by http:// or ws://")
            }
            Some(target) => match &sabotage {
                Some(sabotage) => {
                    let before = Saboteur::before(&authority(&target.url), sabotage)
                        .context("listening on loopback before the target")?;
                    let url = format!("http://{}", before.address());
                    saboteur = Some(before);
                    url
                }
                None => target.url,
            },
            None => {
                let mut stack = Stack::from_env()?;
                if self.services == Whose::Private {
                    stack = services.insert(PrivateServices::start(&stack).await?).stack().clone();
                }
                let mut settings = self.settings.clone();
                if !self.own {
                    // Without a fault of the test, only the machine keeps Postgres from answering.
                    settings.insert("KINGSGUARD_DATABASE_ACQUIRE_TIMEOUT_MS".to_owned(), "8000".to_owned());
                }
                let mut own = Deployment::prepare(stack, evidence.folder(), &settings, sabotage.clone()).await?;
                note_facts(capture, &own, &self.settings);
                for _ in 0..self.nodes {
                    own.add_node(&BTreeMap::new()).await?;
                }
                let url = own.url(0);
                deployment = Some(own);
                url
            }
        };
        capture.update_facts(|facts| profile.note_in(facts));
        Ok(TestContext {
            case: self.case,
            seed,
            rngs_made: AtomicU64::new(0),
            capture: capture.clone(),
            session: Session::new(&base_url, capture.clone(), profile),
            deployment: Mutex::new(deployment),
            services: Mutex::new(services),
            sabotage,
            _saboteur: saboteur,
            ledger: Ledger::default(),
            figures: StdMutex::default(),
        })
    }
}

/// What the validators need to know about a backend that the test configured.
fn note_facts(capture: &Capture, deployment: &Deployment, chosen: &BTreeMap<String, String>) {
    let millis = |name: &str| chosen.get(name).and_then(|value| value.parse().ok());
    capture.update_facts(|facts| {
        facts.settings = chosen.keys().cloned().collect();
        if let Some(deadline) = millis("KINGSGUARD_RUN_DEADLINE_MS") {
            facts.run_deadline_ms = deadline;
        }
        if let Some(deadline) = millis("KINGSGUARD_HANDSHAKE_DEADLINE_MS") {
            facts.handshake_deadline_ms = deadline;
        }
        for name in ["KINGSGUARD_DATABASE_URL", "KINGSGUARD_REDIS_URL"] {
            let address = deployment.settings().get(name).and_then(|url| authority_of(url));
            facts.internal_addresses.extend(address);
        }
        for name in [
            "KINGSGUARD_JWT_SECRET",
            "KINGSGUARD_DATABASE_URL",
            "KINGSGUARD_MODEL_API_KEY",
        ] {
            facts.secrets.extend(deployment.settings().get(name).cloned());
        }
    });
}

/// Host and port of a URL.
fn authority_of(url: &str) -> Option<String> {
    let authority = url.split("://").nth(1)?.split(['/', '?']).next()?;
    authority.rsplit('@').next().map(str::to_owned)
}

fn seed() -> u64 {
    std::env::var("KINGSGUARD_SEED")
        .ok()
        .and_then(|seed| seed.trim().parse().ok())
        .unwrap_or_else(rand::random)
}

impl TestContext {
    /// A test that needs nothing but a target's address: it runs unchanged against `KINGSGUARD_TARGET`, and on a backend
    /// of its own where that is not set. Such tests live in a module `wire`.
    #[must_use]
    pub fn wire(case: Case) -> Builder {
        Builder {
            case,
            own: false,
            settings: BTreeMap::new(),
            nodes: 1,
            services: Whose::Shared,
            seed: None,
            ca_file: None,
        }
    }

    /// A test that needs a backend of its own: settings, restarts, faults. Such tests live in a module `own`.
    #[must_use]
    pub fn own(case: Case) -> Builder {
        Builder {
            own: true,
            ..Self::wire(case)
        }
    }

    /// The seed of everything random in this test.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A generator made from the seed; each call gives another, the same in each repetition.
    #[must_use]
    pub fn rng(&self) -> StdRng {
        let nth = self.rngs_made.fetch_add(1, Ordering::Relaxed);
        StdRng::seed_from_u64(self.seed.wrapping_add(nth.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    // ---- users and connections --------------------------------------------------------------------------------------

    /// A new user, registered through HTTP with an address that no other test uses, or as the target's profile says.
    pub async fn user(&self, label: &str) -> SimulatedUser {
        SimulatedUser::of_target(self.session.clone(), label).await
    }

    /// A new user by `POST /auth/dev_login`, which must be switched on.
    pub async fn dev_user(&self, label: &str) -> SimulatedUser {
        SimulatedUser::dev_login(self.session.clone(), label).await
    }

    /// Asks for a WebSocket in a way of choice, with whatever credential the options carry.
    ///
    /// # Errors
    /// The target refused.
    pub async fn try_open(&self, options: ConnectOptions) -> Result<Chat, Refused> {
        Ok(Chat::new(
            self.session.clone(),
            self.session.upgrade(None, options).await?,
        ))
    }

    /// Claims that the target refuses a WebSocket with this code: status and error body.
    ///
    /// # Panics
    /// It accepts, or refuses in another way.
    pub async fn refused(&self, options: ConnectOptions, code: ErrorCode) -> Refused {
        expect_refusal(self.try_open(options).await, code, &self.session)
    }

    /// A TCP connection for hand-made bytes.
    pub async fn raw(&self) -> RawSocket {
        RawSocket::open(&self.session).await
    }

    /// A connection to the target on which nothing was said yet.
    ///
    /// # Panics
    /// It cannot be reached.
    pub async fn dial(&self) -> Stream {
        match self.session.dial().await {
            Ok(stream) => stream,
            Err(error) => panic!("connecting to {}: {error}", self.http_url()),
        }
    }

    /// The REST side without a credential.
    #[must_use]
    pub fn http(&self) -> Http {
        self.session.http().clone()
    }

    /// The REST side of one node.
    pub async fn http_of(&self, node: usize) -> Http {
        Http::new(&self.node_url(node).await, self.capture.clone())
    }

    /// The target's address, `http://…` or `https://…`.
    #[must_use]
    pub fn http_url(&self) -> String {
        self.session.http().base().to_owned()
    }

    /// The target's WebSocket address, such as `ws://…/ws` or `wss://…/ws`.
    #[must_use]
    pub fn ws_url(&self) -> String {
        let path = &self.session.profile().connection.path;
        format!("{}{path}", self.session.http().base().replacen("http", "ws", 1))
    }

    // ---- claims -----------------------------------------------------------------------------------------------------

    /// Claims something and counts it.
    ///
    /// # Panics
    /// It does not hold.
    pub fn check(&self, claim: &str, holds: bool) {
        self.capture.count_check();
        assert!(holds, "claim does not hold: {claim}");
    }

    /// Ends the test as an invalid run: the machine or the generator fell short, so that nothing can be said about the
    /// target. The suite run then ends with exit code 6 unless another test failed.
    pub fn invalid(&self, why: impl Into<String>) -> ! {
        std::panic::panic_any(FellShort::of(why))
    }

    /// Remembers a figure for the report.
    pub fn figure(&self, id: &str, value: f64, unit: &str) {
        self.record_figure(Figure::new(id, value, unit));
    }

    /// The same, beside what the machine reached in the same run without the backend.
    pub fn figure_against(&self, id: &str, value: f64, unit: &str, yardstick: f64) {
        let ratio = (yardstick != 0.0).then(|| value / yardstick);
        self.record_figure(Figure {
            yardstick: Some(yardstick),
            ratio,
            ..Figure::new(id, value, unit)
        });
    }

    /// Remembers how long something took all the times: the 99th percentile is the figure's value, and the report draws the
    /// whole distribution.
    pub fn figure_of_times(&self, id: &str, times: &Timing) {
        self.record_figure(Figure {
            distribution: Some(times.distribution_ms()),
            ..Figure::new(id, times.percentile_ms(99.0), "ms")
        });
    }

    fn record_figure(&self, figure: Figure) {
        self.capture.count_check();
        self.figures
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push(figure);
    }

    /// Waits until `look` finds something.
    ///
    /// # Panics
    /// It finds nothing within [`PATIENCE`]; says what it saw last.
    pub async fn eventually<V>(&self, what: &str, look: impl AsyncFnMut() -> Result<V, String>) -> V {
        self.capture.count_check();
        match within(PATIENCE, look).await {
            Ok(found) => found,
            Err(last) => panic!(
                "{what} does not come about within {} s; last seen: {last}",
                PATIENCE.as_secs()
            ),
        }
    }

    /// What was captured so far.
    #[must_use]
    pub fn recording(&self) -> Recording {
        let mut recording = self.capture.recording(&self.case.test);
        self.ledger.note_in(&mut recording, &self.capture);
        recording
    }

    /// The capture, for connections that a test makes by itself.
    #[must_use]
    pub fn capture(&self) -> &Capture {
        &self.capture
    }

    // ---- the backend of an own test ---------------------------------------------------------------------------------

    /// The test's own backend.
    ///
    /// # Panics
    /// The test runs against a target.
    pub async fn backend(&self) -> MappedMutexGuard<'_, Deployment> {
        MutexGuard::map(self.deployment.lock().await, |deployment| {
            deployment
                .as_mut()
                .expect("only a test of `TestContext::own` asks for its backend")
        })
    }

    /// The test's own Postgres and Redis.
    ///
    /// # Panics
    /// The test shares those of the suite run.
    pub async fn services(&self) -> MappedMutexGuard<'_, PrivateServices> {
        MutexGuard::map(self.services.lock().await, |services| {
            services
                .as_mut()
                .expect("only a test of `Builder::with_private_services` asks for its services")
        })
    }

    /// The address of a node.
    pub async fn node_url(&self, node: usize) -> String {
        self.backend().await.url(node)
    }

    /// Starts one more node; says its number.
    ///
    /// # Panics
    /// It does not become ready.
    pub async fn add_node(&self) -> usize {
        self.add_node_with([]).await
    }

    /// Starts one more node with settings of its own; says its number.
    ///
    /// # Panics
    /// It does not become ready.
    pub async fn add_node_with<'s>(&self, settings: impl IntoIterator<Item = (&'s str, String)>) -> usize {
        let settings = settings
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        self.backend()
            .await
            .add_node(&settings)
            .await
            .unwrap_or_else(|error| panic!("adding a node: {error:#}"))
    }

    /// Kills a node (SIGKILL).
    ///
    /// # Panics
    /// It is down already.
    pub async fn kill_node(&self, node: usize) {
        self.backend()
            .await
            .kill(node)
            .await
            .unwrap_or_else(|error| panic!("killing node {node}: {error:#}"));
    }

    /// Starts a node that is down, on its port.
    ///
    /// # Panics
    /// It does not become ready.
    pub async fn start_node(&self, node: usize) {
        self.backend()
            .await
            .start(node)
            .await
            .unwrap_or_else(|error| panic!("starting node {node}: {error:#}"));
    }

    /// Stops a node in order (SIGTERM) and waits for its end; says its exit code.
    ///
    /// # Panics
    /// It is down already.
    pub async fn stop_node(&self, node: usize) -> Option<i32> {
        self.backend()
            .await
            .stop(node)
            .await
            .unwrap_or_else(|error| panic!("stopping node {node}: {error:#}"))
    }

    /// Stops a node in order and starts it again on the same port.
    ///
    /// # Panics
    /// It does not become ready again.
    pub async fn restart_node(&self, node: usize) {
        self.backend()
            .await
            .restart(node)
            .await
            .unwrap_or_else(|error| panic!("restarting node {node}: {error:#}"));
    }

    /// Sends a node a signal and does not wait.
    ///
    /// # Panics
    /// It is down.
    pub async fn signal_node(&self, node: usize, signal: nix::sys::signal::Signal) {
        let sent = self.backend().await.signal(node, signal).await;
        sent.unwrap_or_else(|error| panic!("signalling node {node}: {error:#}"));
    }

    /// What a node wrote to its log so far.
    ///
    /// # Panics
    /// It cannot be read.
    pub async fn log_of(&self, node: usize) -> String {
        self.backend()
            .await
            .log(node)
            .await
            .unwrap_or_else(|error| panic!("reading the log of node {node}: {error:#}"))
    }

    async fn settle(&self) {
        // What does not settle is judged as it is.
        within(SETTLING, async || {
            validate::under_way(&self.recording()).map_or(Ok(()), Err)
        })
        .await
        .ok();
    }
}

/// Looks again and again until something is found or `patience` is over; then says what was last seen.
pub(crate) async fn within<V>(
    patience: Duration,
    mut look: impl AsyncFnMut() -> Result<V, String>,
) -> Result<V, String> {
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_millis(5);
    loop {
        match look().await {
            Ok(found) => return Ok(found),
            Err(last) if Instant::now() >= deadline => return Err(last),
            Err(_) => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
