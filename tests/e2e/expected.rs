//! What the figures of an answer must be, computed from the rows of a CSV by this file alone: no code of the backend is
//! used. The price catalogue is read as the data file that it is.
//!
//! The rules (which are the backend's published ones): integers only; shares and means are rounded half up; a percentile is
//! the value at the nearest rank; days are those of UTC; the dearest comes first, equals by name.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::{Map, Value, json};

/// Prices and usual latencies of models.
const PRICES: &str = include_str!("../../crates/server/catalogue/prices.csv");

/// One use of a model.
#[derive(Clone, Debug)]
pub struct Row {
    pub at: DateTime<Utc>,
    pub model: String,
    pub feature: Option<String>,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub latency_ms: Option<u64>,
    pub cost: u64,
    pub prompt: Option<String>,
    pub success: bool,
}

impl Row {
    fn day(&self) -> NaiveDate {
        self.at.date_naive()
    }
}

struct Price {
    input: u64,
    output: u64,
    tier: u64,
    latency_ms: u64,
}

impl Price {
    fn of(&self, input_tokens: u64, output_tokens: u64) -> u64 {
        half_up(
            u128::from(input_tokens) * u128::from(self.input) + u128::from(output_tokens) * u128::from(self.output),
            1_000_000,
        )
    }
}

fn catalogue() -> BTreeMap<String, Price> {
    let mut reader = csv::Reader::from_reader(PRICES.as_bytes());
    reader
        .records()
        .map(|line| {
            let line = line.expect("the catalogue is CSV");
            let number = |index: usize| line[index].parse().expect("the catalogue holds numbers");
            let price = Price {
                input: number(1),
                output: number(2),
                tier: number(3),
                latency_ms: number(4),
            };
            (line[0].to_owned(), price)
        })
        .collect()
}

/// What a run of the built-in planner costs, by the catalogue.
pub fn planner_cost(input_tokens: u64, output_tokens: u64) -> u64 {
    model_cost("builtin-planner", input_tokens, output_tokens)
}

/// What tokens of a model cost, by the catalogue.
pub fn model_cost(model: &str, input_tokens: u64, output_tokens: u64) -> u64 {
    catalogue()[model].of(input_tokens, output_tokens)
}

/// Rounded half up; 0 over 0 is 0.
fn half_up(part: u128, whole: u128) -> u64 {
    if whole == 0 {
        return 0;
    }
    let (quotient, rest) = (part / whole, part % whole);
    u64::try_from(if rest * 2 >= whole { quotient + 1 } else { quotient }).expect("figures of tests are small")
}

fn basis_points(part: u64, whole: u64) -> u64 {
    half_up(u128::from(part) * 10_000, u128::from(whole))
}

/// The smallest value that `percent` of all do not exceed.
fn percentile(values: &[u64], percent: usize) -> Option<u64> {
    let mut values = values.to_vec();
    values.sort_unstable();
    (1..=values.len())
        .find(|rank| rank * 100 >= percent * values.len())
        .map(|rank| values[rank - 1])
}

/// Dollars as an answer words them.
pub fn dollars(microusd: u64) -> String {
    let mut text = format!("${}.{:06}", microusd / 1_000_000, microusd % 1_000_000);
    while text.ends_with('0') && text.len() - text.find('.').expect("just written") > 3 {
        text.pop();
    }
    text
}

/// A percentage as an answer words it.
pub fn percent(basis_points: u64) -> String {
    format!("{}.{:02} %", basis_points / 100, basis_points % 100)
}

/// What must come out of these rows.
#[derive(Clone, Debug)]
pub struct Expected {
    rows: Vec<Row>,
}

impl Expected {
    /// Reads the rows from the CSV that was brought.
    pub fn from_csv(text: &str) -> Self {
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let names: Vec<String> = reader
            .headers()
            .expect("a CSV has a header")
            .iter()
            .map(str::to_owned)
            .collect();
        let rows = reader
            .records()
            .map(|line| {
                let line = line.expect("every line is CSV");
                let text = |name: &str| {
                    let index = names.iter().position(|known| known == name)?;
                    line.get(index).filter(|text| !text.is_empty()).map(str::to_owned)
                };
                let number = |name: &str| text(name).map(|text| text.parse::<u64>().expect("a number"));
                Row {
                    at: text("timestamp").expect("a time").parse().expect("RFC 3339"),
                    model: text("model").expect("a model"),
                    feature: text("feature"),
                    input_tokens: number("input_tokens").expect("a count"),
                    output_tokens: number("output_tokens").expect("a count"),
                    latency_ms: number("latency_ms"),
                    cost: number("cost_microusd").expect("these tests state every cost"),
                    prompt: text("prompt_hash"),
                    success: text("success").is_none_or(|text| text == "true"),
                }
            })
            .collect();
        Self { rows }
    }

    /// The rows.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// What all rows cost.
    pub fn cost(&self) -> u64 {
        self.rows.iter().map(|row| row.cost).sum()
    }

    /// The rows of the newest `days` calendar days, that of the newest row included.
    pub fn newest_days(&self, days: i64) -> Self {
        let newest = self.rows.iter().map(Row::day).max().expect("there are rows");
        let first = newest - chrono::Duration::days(days - 1);
        Self {
            rows: self.rows.iter().filter(|row| row.day() >= first).cloned().collect(),
        }
    }

    /// The rows of one calendar day.
    pub fn on(&self, day: NaiveDate) -> Self {
        Self {
            rows: self.rows.iter().filter(|row| row.day() == day).cloned().collect(),
        }
    }

    fn spend(&self, list: &str, name: &str, group_of: impl Fn(&Row) -> Option<&str>) -> Value {
        let groups: BTreeSet<Option<&str>> = self.rows.iter().map(&group_of).collect();
        let mut listed: Vec<(u64, Value)> = groups
            .iter()
            .map(|group| {
                let own: Vec<&Row> = self.rows.iter().filter(|row| group_of(row) == *group).collect();
                let cost = own.iter().map(|row| row.cost).sum();
                let fields = json!({
                    name: group,
                    "cost_microusd": cost,
                    "calls": own.len(),
                    "input_tokens": own.iter().map(|row| row.input_tokens).sum::<u64>(),
                    "output_tokens": own.iter().map(|row| row.output_tokens).sum::<u64>(),
                    "share_basis_points": basis_points(cost, self.cost()),
                });
                (cost, fields)
            })
            .collect();
        listed.sort_by(|(one, _), (other, _)| other.cmp(one));
        json!({
            "total_cost_microusd": self.cost(),
            "total_calls": self.rows.len(),
            list: listed.into_iter().map(|(_, fields)| fields).collect::<Vec<_>>(),
            "groups": groups.len(),
            "other_cost_microusd": 0,
        })
    }

    pub fn spend_by_model(&self) -> Value {
        self.spend("models", "model", |row| Some(&row.model))
    }

    pub fn spend_by_feature(&self) -> Value {
        self.spend("features", "feature", |row| row.feature.as_deref())
    }

    fn days(&self) -> BTreeMap<NaiveDate, (u64, u64)> {
        let mut days = BTreeMap::new();
        for row in &self.rows {
            let day = days.entry(row.day()).or_insert((0, 0));
            *day = (day.0 + row.cost, day.1 + 1);
        }
        days
    }

    fn cost_between(&self, first: NaiveDate, last: NaiveDate) -> u64 {
        let within = |row: &&Row| (first..=last).contains(&row.day());
        self.rows.iter().filter(within).map(|row| row.cost).sum()
    }

    fn first_and_last_day(&self) -> (NaiveDate, NaiveDate) {
        let days = self.days();
        (
            *days.keys().next().expect("there are rows"),
            *days.keys().next_back().expect("there are rows"),
        )
    }

    fn calendar_days(&self) -> u64 {
        let (first, last) = self.first_and_last_day();
        (last - first).num_days().unsigned_abs() + 1
    }

    pub fn spend_trend(&self) -> Value {
        let (first, last) = self.first_and_last_day();
        let back = |days: i64| last - chrono::Duration::days(days);
        let days: Vec<Value> = self
            .days()
            .iter()
            .map(|(day, (cost, calls))| json!({ "date": day.to_string(), "cost_microusd": cost, "calls": calls }))
            .collect();
        json!({
            "first_date": first.to_string(),
            "last_date": last.to_string(),
            "calendar_days": self.calendar_days(),
            "total_cost_microusd": self.cost(),
            "mean_cost_per_day_microusd": half_up(u128::from(self.cost()), u128::from(self.calendar_days())),
            "newest_week_cost_microusd": self.cost_between(back(6), last),
            "week_before_cost_microusd": self.cost_between(back(13), back(7)),
            "days": days,
        })
    }

    pub fn spend_forecast(&self, horizon_days: u64) -> Value {
        let (_, last) = self.first_and_last_day();
        let window = self.calendar_days().min(28);
        let first = last - chrono::Duration::days(i64::try_from(window).expect("at most 28") - 1);
        let spent = self.cost_between(first, last);
        json!({
            "window_days": window,
            "window_cost_microusd": spent,
            "mean_cost_per_day_microusd": half_up(u128::from(spent), u128::from(window)),
            "horizon_days": horizon_days,
            "forecast_cost_microusd": half_up(u128::from(spent) * u128::from(horizon_days), u128::from(window)),
            "method": "mean of the newest days, carried forward",
        })
    }

    pub fn usage_anomalies(&self) -> Value {
        let days = self.days();
        let costs: Vec<u64> = days.values().map(|(cost, _)| *cost).collect();
        let median = percentile(&costs, 50).expect("there are rows");
        let mut unusual: Vec<_> = days.iter().filter(|(_, (cost, _))| *cost > median * 3).collect();
        unusual.sort_by(|(_, (one, _)), (_, (other, _))| other.cmp(one));
        let listed: Vec<Value> = unusual
            .iter()
            .map(|(day, (cost, calls))| json!({ "date": day.to_string(), "cost_microusd": cost, "calls": calls }))
            .collect();
        json!({
            "days_examined": days.len(),
            "days_needed": 5,
            "median_cost_per_day_microusd": median,
            "threshold_microusd": median * 3,
            "anomalies_found": listed.len(),
            "anomalies": listed,
        })
    }

    fn latencies(&self, of: impl Fn(&Row) -> bool) -> Vec<u64> {
        let own = self.rows.iter().filter(|row| of(row));
        own.filter_map(|row| row.latency_ms).collect()
    }

    fn latency_fields(latencies: &[u64]) -> Map<String, Value> {
        let sum: u128 = latencies.iter().map(|latency| u128::from(*latency)).sum();
        let fields = json!({
            "measured": latencies.len(),
            "mean_ms": half_up(sum, latencies.len() as u128),
            "p50_ms": percentile(latencies, 50),
            "p90_ms": percentile(latencies, 90),
            "p95_ms": percentile(latencies, 95),
            "p99_ms": percentile(latencies, 99),
            "max_ms": latencies.iter().max(),
        });
        match fields {
            Value::Object(fields) => fields,
            other => unreachable!("an object was written, not {other}"),
        }
    }

    fn latencies_by(&self, name: &str, group_of: impl Fn(&Row) -> Option<&str>) -> Vec<Value> {
        let measured = self.rows.iter().filter(|row| row.latency_ms.is_some());
        let groups: BTreeSet<Option<&str>> = measured.map(&group_of).collect();
        let mut listed: Vec<(Option<u64>, Value)> = groups
            .iter()
            .map(|group| {
                let latencies = self.latencies(|row| group_of(row) == *group);
                let mut fields = Self::latency_fields(&latencies);
                fields.insert(name.to_owned(), json!(group));
                (percentile(&latencies, 95), Value::Object(fields))
            })
            .collect();
        listed.sort_by(|(one, _), (other, _)| other.cmp(one));
        listed.into_iter().map(|(_, fields)| fields).collect()
    }

    pub fn latency_percentiles(&self) -> Value {
        let mut fields = Self::latency_fields(&self.latencies(|_| true));
        fields.insert(
            "models".into(),
            self.latencies_by("model", |row| Some(&row.model)).into(),
        );
        Value::Object(fields)
    }

    pub fn slowest_features(&self) -> Value {
        let features = self.latencies_by("feature", |row| row.feature.as_deref());
        json!({ "groups": features.len(), "features": features })
    }

    pub fn error_rate(&self) -> Value {
        let models: BTreeSet<&str> = self.rows.iter().map(|row| row.model.as_str()).collect();
        let failed = |of: &dyn Fn(&Row) -> bool| {
            let own = self.rows.iter().filter(|row| of(row));
            (
                own.clone().count() as u64,
                own.filter(|row| !row.success).count() as u64,
            )
        };
        let mut listed: Vec<(u64, Value)> = models
            .into_iter()
            .map(|model| {
                let (calls, failures) = failed(&|row| row.model == model);
                let rate = basis_points(failures, calls);
                let fields = json!({
                    "model": model, "calls": calls, "failures": failures, "error_rate_basis_points": rate,
                });
                (rate, fields)
            })
            .collect();
        listed.sort_by(|(one, _), (other, _)| other.cmp(one));
        let (calls, failures) = failed(&|_| true);
        json!({
            "calls": calls,
            "failures": failures,
            "error_rate_basis_points": basis_points(failures, calls),
            "failures_cost_microusd": self.rows.iter().filter(|row| !row.success).map(|row| row.cost).sum::<u64>(),
            "models": listed.into_iter().map(|(_, fields)| fields).collect::<Vec<_>>(),
        })
    }

    /// The rows in the order of their time, each with whether an earlier one had the same prompt.
    fn repeats(&self) -> Vec<(&Row, bool)> {
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        rows.sort_by_key(|row| row.at);
        let mut marked = Vec::new();
        for row in rows {
            let again = row.prompt.is_some()
                && marked
                    .iter()
                    .any(|(earlier, _): &(&Row, bool)| earlier.prompt == row.prompt);
            marked.push((row, again));
        }
        marked
    }

    pub fn duplicate_prompts(&self) -> Value {
        let marked = self.repeats();
        let hashes: BTreeSet<&str> = self.rows.iter().filter_map(|row| row.prompt.as_deref()).collect();
        let hashed = self.rows.iter().filter(|row| row.prompt.is_some()).count();
        let repeats_cost: u64 = marked.iter().filter(|(_, again)| *again).map(|(row, _)| row.cost).sum();
        let mut repeated: Vec<(u64, usize, &str)> = hashes
            .iter()
            .map(|hash| {
                let own: Vec<_> = marked
                    .iter()
                    .filter(|(row, _)| row.prompt.as_deref() == Some(hash))
                    .collect();
                let cost = own.iter().filter(|(_, again)| *again).map(|(row, _)| row.cost).sum();
                (cost, own.len(), *hash)
            })
            .filter(|(_, calls, _)| *calls > 1)
            .collect();
        repeated.sort_by(|one, other| (other.0, other.1, one.2).cmp(&(one.0, one.1, other.2)));
        let prompts: Vec<Value> = repeated
            .iter()
            .take(20)
            .map(|(cost, calls, hash)| json!({ "prompt_hash": hash, "calls": calls, "repeats_cost_microusd": cost }))
            .collect();
        json!({
            "hashed_calls": hashed,
            "distinct_prompts": hashes.len(),
            "repeated_calls": hashed - hashes.len(),
            "repeats_cost_microusd": repeats_cost,
            "repeated_prompts": repeated.len(),
            "prompts": prompts,
        })
    }

    /// For each model in use that has a price: the cheapest other one that is at most one tier below and fast enough.
    fn swaps(&self, limit_ms: Option<u64>) -> Vec<(u64, Value)> {
        let catalogue = catalogue();
        // 20 calls of one's own say more than the catalogue.
        let latency_of = |model: &str| {
            let own = self.latencies(|row| row.model == model);
            match percentile(&own, 95).filter(|_| own.len() >= 20) {
                Some(p95) => (p95, true),
                None => (catalogue[model].latency_ms, false),
            }
        };
        let used: BTreeSet<&str> = self.rows.iter().map(|row| row.model.as_str()).collect();
        let mut swaps: Vec<(u64, Value)> = used
            .into_iter()
            .filter(|model| catalogue.contains_key(*model))
            .map(|model| {
                let own: Vec<&Row> = self.rows.iter().filter(|row| row.model == model).collect();
                let cost: u64 = own.iter().map(|row| row.cost).sum();
                let input = own.iter().map(|row| row.input_tokens).sum();
                let output = own.iter().map(|row| row.output_tokens).sum();
                let limit = limit_ms.unwrap_or_else(|| latency_of(model).0);
                let mut fit: Vec<(u64, &str)> = catalogue
                    .iter()
                    .filter(|(name, price)| {
                        *name != model && price.tier >= 1 && price.tier + 1 >= catalogue[model].tier
                    })
                    .filter(|(name, _)| latency_of(name).0 <= limit)
                    .map(|(name, price)| (price.of(input, output), name.as_str()))
                    .filter(|(price, _)| *price < cost)
                    .collect();
                fit.sort_unstable();
                let best = fit.first();
                let fields = json!({
                    "model": model,
                    "calls": own.len(),
                    "cost_microusd": cost,
                    "latency_limit_ms": limit,
                    "alternative": best.map(|(_, name)| name),
                    "alternative_cost_microusd": best.map(|(price, _)| price),
                    "alternative_latency_ms": best.map(|(_, name)| latency_of(name).0),
                    "alternative_latency_is_measured": best.map(|(_, name)| latency_of(name).1),
                    "saving_microusd": best.map_or(0, |(price, _)| cost - price),
                });
                (cost, fields)
            })
            .collect();
        swaps.sort_by(|(one, _), (other, _)| other.cmp(one));
        swaps
    }

    fn swaps_saving(&self, limit_ms: Option<u64>) -> u64 {
        let swaps = self.swaps(limit_ms);
        swaps
            .iter()
            .map(|(_, swap)| swap["saving_microusd"].as_u64().expect("just written"))
            .sum()
    }

    pub fn cheaper_models(&self, limit_ms: Option<u64>) -> Value {
        let catalogue = catalogue();
        let used: BTreeSet<&str> = self.rows.iter().map(|row| row.model.as_str()).collect();
        let unpriced: Vec<&str> = used
            .into_iter()
            .filter(|model| !catalogue.contains_key(*model))
            .collect();
        json!({
            "latency_limit_ms": limit_ms,
            "total_saving_microusd": self.swaps_saving(limit_ms),
            "models": self.swaps(limit_ms).into_iter().map(|(_, fields)| fields).collect::<Vec<_>>(),
            "models_without_price": unpriced,
        })
    }

    /// Repeats from a cache first; then cheaper models for the calls that are left.
    pub fn saving_estimate(&self, limit_ms: Option<u64>) -> Value {
        let marked = self.repeats();
        let repeats: u64 = marked.iter().filter(|(_, again)| *again).map(|(row, _)| row.cost).sum();
        let left = Self {
            rows: marked
                .iter()
                .filter(|(_, again)| !again)
                .map(|(row, _)| (*row).clone())
                .collect(),
        };
        let models = left.swaps_saving(limit_ms);
        let total = repeats + models;
        json!({
            "spend_microusd": self.cost(),
            "calendar_days": self.calendar_days(),
            "repeats_saving_microusd": repeats,
            "models_saving_microusd": models,
            "total_saving_microusd": total,
            "saving_basis_points": basis_points(total, self.cost()),
            "monthly_saving_microusd": half_up(u128::from(total) * 30, u128::from(self.calendar_days())),
        })
    }

    pub fn usage_statistics(&self) -> Value {
        let input: Vec<u64> = self.rows.iter().map(|row| row.input_tokens).collect();
        let output: Vec<u64> = self.rows.iter().map(|row| row.output_tokens).collect();
        let (total_in, total_out) = (input.iter().sum::<u64>(), output.iter().sum::<u64>());
        let calls = self.rows.len() as u128;
        let instant = |at: Option<DateTime<Utc>>| at.map(|at| at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true));
        json!({
            "calls": self.rows.len(),
            "successes": self.rows.iter().filter(|row| row.success).count(),
            "total_cost_microusd": self.cost(),
            "mean_cost_per_call_microusd": half_up(u128::from(self.cost()), calls),
            "total_input_tokens": total_in,
            "total_output_tokens": total_out,
            "mean_input_tokens": half_up(u128::from(total_in), calls),
            "mean_output_tokens": half_up(u128::from(total_out), calls),
            "p95_input_tokens": percentile(&input, 95),
            "p95_output_tokens": percentile(&output, 95),
            "max_input_tokens": input.iter().max(),
            "max_output_tokens": output.iter().max(),
            "distinct_models": self.rows.iter().map(|row| &row.model).collect::<BTreeSet<_>>().len(),
            "distinct_features": self.rows.iter().filter_map(|row| row.feature.as_ref()).collect::<BTreeSet<_>>().len(),
            "first_at": instant(self.rows.iter().map(|row| row.at).min()),
            "last_at": instant(self.rows.iter().map(|row| row.at).max()),
        })
    }
}

impl Expected {
    /// The stored example `cost`, by the rules that the backend publishes for it: 168 rows from the first of January 2026,
    /// one every two hours, models and features in turns.
    pub fn example_of_costs() -> Self {
        let models = ["gpt-4o", "gpt-4-turbo", "gpt-4o-mini"];
        let features = ["search", "summary"];
        let first: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().expect("a constant");
        let catalogue = catalogue();
        let row = |n: usize| {
            let number = n as u64;
            let (input_tokens, output_tokens) = (1_200 + 10 * (number % 20), 100 + 5 * (number % 30));
            Row {
                at: first + chrono::Duration::hours(2 * i64::try_from(n).expect("few")),
                model: models[n % 3].to_owned(),
                feature: Some(features[n % 2].to_owned()),
                input_tokens,
                output_tokens,
                latency_ms: Some(1_600 + 20 * (number % 25)),
                cost: catalogue[models[n % 3]].of(input_tokens, output_tokens),
                prompt: Some(format!("prompt-{}", n % 40)),
                success: true,
            }
        };
        Self {
            rows: (0..168).map(row).collect(),
        }
    }
}
