//! `cargo xtask test`: build → services → categories in order → verdict → report → services down.

mod conclusion;
mod not_run;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use chrono::{DateTime, Utc};
use kingsguard_report::Summary;

use crate::category::{Build, Category, Needs};
use crate::chaos::Chaos;
use crate::cli::{Services, TestArgs};
use crate::environment::Environment;
use crate::exit::{Exit, Stop};
use crate::history::History;
use crate::invocation::{self, Terms};
use crate::nextest::{Choice, Listed, TestId, build_command, parse_list, sabotaged_build_command};
use crate::plan::{Plan, Wave};
use crate::progress::Progress;
use crate::results::{Cut, WaveResults};
use crate::stack::{self, Stack};
use crate::tally::Tally;
use crate::tidy::Inventory;
use crate::verdict::Facts;
use crate::workspace::Workspace;
use crate::{baseline, images, junit, leftovers, provision, signals, target};

/// One execution of categories.
struct SuiteRun<'a> {
    workspace: &'a Workspace,
    args: &'a TestArgs,
    plan: Plan,
    chaos: Chaos,
    environment: Environment,
    /// The run that it is compared with, where one was named.
    baseline: Option<Summary>,
    history: History,
    name: String,
    seed: u64,
    started: DateTime<Utc>,
    clock: Instant,
    build_time: Duration,
    folder: PathBuf,
    tally: Tally,
    facts: Facts,
    provider: String,
    junit: quick_junit::Report,
}

/// Runs what was asked and says how it ended.
pub fn test(workspace: &Workspace, args: &TestArgs) -> Result<Exit> {
    let names: Vec<String> = args.names.iter().chain(&args.category).cloned().collect();
    let plan = Plan::of(&names, !args.no_deps)?;
    let seed = args.seed.unwrap_or_else(random_seed);
    let chaos = Chaos::of(args, &plan, seed)?;
    let environment = Environment::read(workspace, args)?;
    let baseline = args.baseline.as_deref();
    let baseline = baseline.map(|asked| baseline::named(workspace, asked)).transpose()?;
    let (started, clock) = (Utc::now(), Instant::now());
    fs::create_dir_all(workspace.reports()).context("making the folder of reports")?;
    let _lock = lock(workspace)?;
    let swept = leftovers::sweep();
    if swept > 0 {
        eprintln!("ended {swept} processes that a killed run had left");
    }
    if args.provision {
        provision::provide(&plan, args.services, environment.target.is_some())?;
    }
    provision::require_nextest()?;

    let name = format!(
        "{}-{:04x}",
        started.format("%Y%m%d-%H%M%S"),
        std::process::id() & 0xffff
    );
    let folder = workspace.reports().join(&name);
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let tally = Tally::new(plan.categories());
    let mut run = SuiteRun {
        workspace,
        args,
        plan,
        chaos,
        environment,
        baseline,
        history: History::open_or_empty(&workspace.reports())?,
        seed,
        started,
        clock,
        build_time: Duration::ZERO,
        folder,
        tally,
        facts: Facts::default(),
        provider: "none".to_owned(),
        junit: junit::report(&name),
        name,
    };
    run.execute()?;
    run.conclude()
}

impl SuiteRun<'_> {
    fn execute(&mut self) -> Result<()> {
        for build in self.plan.builds() {
            eprintln!("building ({build:?})");
            let mut command = build_command(self.workspace, build);
            let status = signals::attend(&mut command)?;
            if signals::seen() > 0 {
                self.facts.interrupted = true;
                return Ok(());
            }
            if !status.success() {
                return Err(
                    Stop::usage("the workspace does not build", "cargo build --workspace --all-targets").into(),
                );
            }
        }
        self.build_time = self.clock.elapsed();

        let listed = self.list()?;
        self.compare_with_inventory(&listed)?;
        let selected: Vec<&Listed> = listed.iter().filter(|listed| self.is_selected(listed)).collect();
        self.facts.selected = selected.len();
        if selected.is_empty() {
            self.count_as_not_run(&listed);
            return Ok(());
        }
        if let Err(stop) = target::check(self.workspace, self.first_build(), &self.environment)? {
            self.lacks_services(selected, stop);
            return Ok(());
        }
        self.build_sabotaged(&selected)?;
        let stack = match self.stack_up(&selected) {
            Ok(stack) => stack,
            Err(error) => match error.downcast::<Stop>() {
                Ok(stop) => {
                    self.lacks_services(selected, stop);
                    return Ok(());
                }
                Err(error) => return Err(error),
            },
        };
        let result = self.run_waves(&listed, stack.as_ref());
        if let Some(Err(error)) = stack.map(Stack::down) {
            // The tests have said what they have to say; a run that leaves something behind is still not a sound one.
            self.facts.contradictions.push(format!("{error:#}"));
        }
        result
    }

    fn lacks_services(&mut self, selected: Vec<&Listed>, stop: Stop) {
        eprintln!("error: {stop}\n  next: {}", stop.next);
        self.facts.services_missing = Some(stop.why);
        self.tally.not_run(selected, "services are missing");
    }

    /// The build whose programs help the run.
    fn first_build(&self) -> Build {
        self.plan.builds().first().copied().unwrap_or(Build::Debug)
    }

    /// The server in which faults can be planted, where tests need it. An ordinary build does not make it.
    fn build_sabotaged(&mut self, selected: &[&Listed]) -> Result<()> {
        if !selected.iter().any(|listed| listed.id.plants_a_fault()) {
            return Ok(());
        }
        let began = Instant::now();
        let status = signals::attend(&mut sabotaged_build_command(self.workspace))?;
        self.build_time += began.elapsed();
        if !status.success() && signals::seen() == 0 {
            let next =
                "cargo build --workspace --features kingsguard-server/sabotage --bin kingsguard-server-sabotaged";
            return Err(Stop::usage("the server in which faults can be planted does not build", next).into());
        }
        Ok(())
    }

    /// Every test of the planned categories that exists, with those chosen by the pattern marked.
    fn list(&self) -> Result<Vec<Listed>> {
        let mut all = Vec::new();
        for build in self.plan.builds() {
            let categories: Vec<_> = self
                .plan
                .waves
                .iter()
                .filter(|wave| wave.build == build)
                .flat_map(|wave| wave.categories.iter())
                .collect();
            let choice = Choice {
                build,
                profile: "ci",
                filterset: self.filterset(categories.iter().copied().copied()),
                partition: self.args.shard.as_ref().map(|shard| format!("hash:{shard}")),
            };
            let output = choice
                .list_command(self.workspace)
                .envs(self.chaos.environment_of_all())
                .output()
                .context("starting cargo nextest list")?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                // The table's own filters are checked by tests, so what nextest refuses is the pattern.
                return Err(Stop::usage(
                    format!("nextest refused to list the tests:\n{}", said.trim_end()),
                    "check --pattern: plain text, or a filterset as in https://nexte.st/docs/filtersets",
                )
                .into());
            }
            let listed = parse_list(&String::from_utf8(output.stdout).context("reading nextest's list")?)?;
            all.extend(
                listed
                    .into_iter()
                    .filter(|one| categories.iter().any(|c| c.name == one.category.name)),
            );
        }
        Ok(all)
    }

    /// Tests that vanished from a binary (a file that no `mod` names any more) are found here, where binaries speak.
    fn compare_with_inventory(&mut self, listed: &[Listed]) -> Result<()> {
        if self.args.pattern.is_some() || self.plan.only.is_some() {
            // A pattern keeps whole binaries out of nextest's list.
            return Ok(());
        }
        for (name, least) in Inventory::read(self.workspace)?.0 {
            let held = listed.iter().filter(|one| one.category.name == name).count();
            if self.plan.categories().any(|category| category.name == name) && held < least {
                let why = format!("{name} lists {held} tests, its inventory says at least {least}");
                self.facts.contradictions.push(why);
            }
        }
        Ok(())
    }

    fn filterset<'c>(&self, categories: impl Iterator<Item = &'c Category>) -> String {
        let chosen = categories
            .map(|category| format!("({})", category.filterset()))
            .collect::<Vec<_>>()
            .join(" + ");
        let chosen = match self.plan.only {
            None => chosen,
            Some(only) => format!("({chosen}) & ({only})"),
        };
        let chosen = match self.chaos.left_out() {
            None => chosen,
            Some(left_out) => format!("({chosen}) - {left_out}"),
        };
        match &self.args.pattern {
            None => chosen,
            Some(pattern) if pattern.contains('(') => format!("({chosen}) & ({pattern})"),
            Some(text) => format!("({chosen}) & test(~{text})"),
        }
    }

    /// The same, and of this round: each seed of chaos runs in one round alone.
    fn is_selected_in(&self, listed: &Listed, round: u32) -> bool {
        self.is_selected(listed) && self.chaos.runs_in(round, listed.category, &listed.id.name)
    }

    /// Chosen by the pattern, not ignored, and possible with the target.
    fn is_selected(&self, listed: &Listed) -> bool {
        listed.selected && !listed.ignored && (self.environment.target.is_none() || listed.id.is_wire())
    }

    fn stack_up(&mut self, selected: &[&Listed]) -> Result<Option<Stack>> {
        if self.environment.target.is_some() {
            "external".clone_into(&mut self.provider);
            return Ok(None);
        }
        if !selected.iter().any(|listed| listed.category.needs == Needs::Stack) {
            return Ok(None);
        }
        self.chaos.require(selected)?;
        let build = self.first_build();
        if self.may_use_containers() {
            images::refresh_server(self.workspace, build)?;
        }
        stack::sweep(self.workspace, build)?;
        let stack = Stack::up(self.workspace, build, self.args.services)?;
        self.provider.clone_from(&stack.provider);
        Ok(Some(stack))
    }

    /// Where containers may be chosen and stand-ins are there, the backend's image must hold what was just built.
    fn may_use_containers(&self) -> bool {
        matches!(self.args.services, Services::Auto | Services::Containers) && images::base_is_there()
    }

    fn run_waves(&mut self, listed: &[Listed], stack: Option<&Stack>) -> Result<()> {
        let repeat = self.args.repeat.unwrap_or(self.plan.repeat);
        let times = self.history.times()?;
        let this = &*self;
        let tests = (0..repeat).flat_map(|round| {
            let selected = listed.iter().filter(move |listed| this.is_selected_in(listed, round));
            selected.map(|listed| (listed.stream_name.clone(), times.get(&listed.id.to_string()).copied()))
        });
        let mut progress = Progress::new(tests);
        let began = Instant::now();
        let whole = match self.args.budget {
            Some(seconds) => Some(Duration::from_secs(seconds)),
            None => self.plan.budget.map(|budget| budget * repeat),
        };
        'all: for round in 0..repeat {
            self.tally.begin_round();
            for place in 0..self.plan.waves.len() {
                let whole_deadline = whole.map(|budget| began + budget);
                let cut = self.run_wave(place, round, listed, stack, whole_deadline, &mut progress)?;
                if matches!(cut, Some(Cut::Signal | Cut::Budget)) || (cut.is_some() && self.args.fail_fast) {
                    self.rest_not_run(place + 1, round, listed, cut);
                    break 'all;
                }
            }
        }
        progress.finish();
        if let Some(whole) = whole.filter(|whole| began.elapsed() > *whole) {
            let took = began.elapsed().as_secs_f64();
            self.facts.over_budget.insert(
                0,
                format!("the run took {took:.1} s of the {} s allowed", whole.as_secs()),
            );
        }
        if let Some(goal) = self.plan.goal.filter(|goal| began.elapsed() > *goal * repeat) {
            let took = began.elapsed().as_secs_f64();
            eprintln!(
                "remark: the run took {took:.1} s; on an idle machine with two cores {} s are expected",
                goal.as_secs()
            );
        }
        Ok(())
    }

    fn run_wave(
        &mut self,
        place: usize,
        round: u32,
        listed: &[Listed],
        stack: Option<&Stack>,
        whole_deadline: Option<Instant>,
        progress: &mut Progress,
    ) -> Result<Option<Cut>> {
        let wave = Wave {
            build: self.plan.waves[place].build,
            categories: self.plan.waves[place].categories.clone(),
        };
        let mut running: Vec<&'static Category> = Vec::new();
        for category in wave.categories.iter().copied() {
            let of_it: Vec<&Listed> = listed.iter().filter(|one| one.category.name == category.name).collect();
            let selected: Vec<&Listed> = of_it
                .iter()
                .copied()
                .filter(|one| self.is_selected_in(one, round))
                .collect();
            self.count_excluded(&of_it);
            let failed = category.depends_on.iter().find(|name| self.is_blocked_by(name));
            match failed {
                Some(name) => self
                    .tally
                    .not_run(selected, &format!("{name}, on which it depends, failed")),
                None if selected.is_empty() => {}
                None => running.push(category),
            }
        }
        if running.is_empty() {
            return Ok(None);
        }
        let expected: Vec<&Listed> = listed
            .iter()
            .filter(|one| running.iter().any(|c| c.name == one.category.name) && self.is_selected_in(one, round))
            .collect();
        let before = self.tally.duration(running[0]);
        let began = Instant::now();
        let results = self.invoke(
            &Wave {
                build: wave.build,
                categories: running.clone(),
            },
            round,
            &expected,
            stack,
            whole_deadline,
            progress,
        )?;
        self.facts.contradictions.extend(results.contradictions(&expected));
        let commands: BTreeMap<TestId, String> = expected
            .iter()
            .map(|one| (one.id.clone(), self.repeat_command(one, round)))
            .collect();
        self.tally
            .add(&expected, &results, |id| commands.get(id).cloned().unwrap_or_default());
        if let [only] = running.as_slice() {
            // Alone in its wave, a category took what the wave took; beside others, the sum of its tests.
            self.tally.set_duration(only, before + began.elapsed());
        }
        if results.cut == Some(Cut::Signal) {
            self.facts.interrupted = true;
        }
        Ok(results.cut)
    }

    fn invoke(
        &mut self,
        wave: &Wave,
        round: u32,
        expected: &[&Listed],
        stack: Option<&Stack>,
        whole_deadline: Option<Instant>,
        progress: &mut Progress,
    ) -> Result<WaveResults> {
        let mut filterset = self.filterset(wave.categories.iter().copied());
        if self.environment.target.is_some() {
            filterset = format!(
                "({filterset}) & package(={}) & test(/^wire::/)",
                crate::category::SUITES
            );
        }
        if self.provider == "containers" {
            images::refresh_server(self.workspace, wave.build)?;
        }
        let choice = Choice {
            build: wave.build,
            profile: wave.profile(),
            filterset,
            partition: self.args.shard.as_ref().map(|shard| format!("hash:{shard}")),
        };
        let names: Vec<&str> = wave.categories.iter().map(|category| category.name).collect();
        let again = if round > 0 {
            format!(", round {}", round + 1)
        } else {
            String::new()
        };
        progress.say(&format!("{}: {} tests{again}", names.join(" + "), expected.len()));
        let records = self
            .folder
            .join("records")
            .join(format!("{}-{}", round + 1, names.join("-")));
        fs::create_dir_all(&records).with_context(|| format!("making {}", records.display()))?;
        let budget: Duration = wave.categories.iter().map(|category| category.budget).sum();
        let budget = budget + self.chaos.budget(&wave.categories);
        let began = Instant::now();
        // `--budget` stands instead of the table's.
        let own_deadline = began + budget;
        let deadline = match (self.args.budget, whole_deadline) {
            (Some(_), Some(whole)) => whole,
            (_, Some(whole)) => whole.min(own_deadline),
            (_, None) => own_deadline,
        };
        let environment = self.environment_of_tests(stack, round);
        let terms = Terms {
            fail_fast: self.args.fail_fast,
            jobs: self.args.jobs,
            environment: &environment,
            records: &records,
            deadline,
        };
        let results = invocation::run(self.workspace, &choice, expected, &terms, progress)?;
        let took = began.elapsed();
        if results.cut == Some(Cut::Budget) {
            let took = took.as_secs_f64();
            self.facts.over_budget.push(format!(
                "{} was stopped after {took:.1} s: its time budget was used up",
                names.join(" + ")
            ));
        }
        let path = self.workspace.junit(choice.profile);
        if results.junit.is_some() {
            let folder = self.folder.join(names.join("+"));
            fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
            fs::copy(&path, folder.join("junit.xml")).with_context(|| format!("copying {}", path.display()))?;
            junit::add(&mut self.junit, &crate::results::read_junit(&path)?, &results);
        }
        Ok(results)
    }

    fn environment_of_tests(&self, stack: Option<&Stack>, round: u32) -> Vec<(String, String)> {
        let mut environment = self.environment.settings.clone();
        let mut set = |name: &str, value: String| environment.push((name.to_owned(), value));
        for (name, value) in self.chaos.environment_of(round) {
            set(&name, value);
        }
        set("KINGSGUARD_SUITE_RUN", self.name.clone());
        set("KINGSGUARD_REVISION", crate::revision::of(self.workspace));
        set("KINGSGUARD_SEED", (self.seed + u64::from(round)).to_string());
        set("KINGSGUARD_SERVICES", self.args.services.word().to_owned());
        let evidence = self.workspace.target.join("evidence").join(&self.name);
        set("KINGSGUARD_EVIDENCE_DIR", evidence.display().to_string());
        set(leftovers::MARK, leftovers::mark());
        for (name, value) in self.environment.target_variables() {
            set(name, value);
        }
        if let Some(stack) = stack {
            set("KINGSGUARD_STACK", stack.file.display().to_string());
        }
        environment
    }

    /// A dependency that failed, or was itself not run because of one.
    fn is_blocked_by(&self, name: &str) -> bool {
        let blocked = crate::category::category(name).is_some_and(|category| {
            self.plan.categories().any(|planned| planned.name == name)
                && category.depends_on.iter().any(|deeper| self.is_blocked_by(deeper))
        });
        blocked || self.tally.has_failed_in_round(name)
    }

    /// Tests that cannot be asked of a target, or that the source ignores.
    fn count_excluded(&mut self, of_it: &[&Listed]) {
        let ignored = of_it.iter().copied().filter(|one| one.ignored);
        self.tally.not_run(ignored, "ignored in the source");
        if self.environment.target.is_some() {
            let own = of_it
                .iter()
                .copied()
                .filter(|one| one.selected && !one.ignored && !one.id.is_wire());
            self.tally
                .not_run(own, "needs a stack of its own, and --target names a running one");
        }
    }

    fn count_as_not_run(&mut self, listed: &[Listed]) {
        for category in self.plan.categories().collect::<Vec<_>>() {
            let of_it: Vec<&Listed> = listed.iter().filter(|one| one.category.name == category.name).collect();
            self.count_excluded(&of_it);
        }
    }

    /// Waves after one that was cut short; of later rounds nothing is said, for they were not begun.
    fn rest_not_run(&mut self, from: usize, round: u32, listed: &[Listed], cut: Option<Cut>) {
        let reason = cut.map_or("the run ended early", Cut::reason);
        let rest: Vec<&'static Category> = self
            .plan
            .waves
            .iter()
            .skip(from)
            .flat_map(|wave| wave.categories.iter().copied())
            .collect();
        for category in rest {
            let of_it = listed.iter().filter(|one| one.category.name == category.name);
            let selected: Vec<&Listed> = of_it.filter(|one| self.is_selected_in(one, round)).collect();
            self.tally.not_run(selected, reason);
        }
    }

    fn repeat_command(&self, listed: &Listed, round: u32) -> String {
        if let Some(command) = self.chaos.repeat_command(listed.category, &listed.id.name) {
            return command;
        }
        let seed = self.seed + u64::from(round);
        let target = self.environment.target_arguments();
        let category = listed.category.name;
        format!(
            "cargo xtask test {category} --no-deps --pattern 'test(={})' --seed {seed}{target}",
            listed.id.name
        )
    }
}

/// Small enough for every reader of JSON.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::collections::hash_map::RandomState::new().build_hasher().finish() & 0xffff_ffff
}

/// Two runs in one tree would take each other's JUnit files; the second waits.
fn lock(workspace: &Workspace) -> Result<File> {
    let path = workspace.reports().join(".lock");
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    if file.try_lock().is_err() {
        eprintln!("another suite run is under way in this tree; waiting for its end");
        file.lock().with_context(|| format!("waiting for {}", path.display()))?;
    }
    Ok(file)
}
