//! Which agents work on a request, in which order.

use crate::model::{Reading, Topic};
use crate::tools::{Sufficiency, UsageTotals, judge};

/// The order of the agents.
///
/// | records are | wants advice (`save`, `faster`) | anything else |
/// |---|---|---|
/// | sufficient | triage, data, optimization, actions, reporting | triage, data, reporting |
/// | partial | triage, data, data_helper, optimization, actions, reporting | triage, data, data_helper, reporting |
/// | insufficient | triage, data_helper | triage, data_helper |
/// | unknown | triage, data, optimization, reporting | triage, data, reporting |
///
/// In the unknown order the data agent checks the records; where it finds none, data_helper takes the place of who is left.
#[must_use]
pub fn order(sufficiency: Sufficiency, topic: Topic) -> &'static [&'static str] {
    match (sufficiency, topic.wants_advice()) {
        (Sufficiency::Sufficient, true) => &["triage", "data", "optimization", "actions", "reporting"],
        (Sufficiency::Sufficient, false) | (Sufficiency::Unknown, false) => &["triage", "data", "reporting"],
        (Sufficiency::Partial, true) => &["triage", "data", "data_helper", "optimization", "actions", "reporting"],
        (Sufficiency::Partial, false) => &["triage", "data", "data_helper", "reporting"],
        (Sufficiency::Insufficient, _) => &["triage", "data_helper"],
        (Sufficiency::Unknown, true) => &["triage", "data", "optimization", "reporting"],
    }
}

/// What can be said about the records before the first agent works. Days that a request names are not read yet, and a
/// request that the planner does not know has no known needs: then it is unknown. So it is when the store does not answer.
#[must_use]
pub(super) fn sufficiency(reading: &Reading, totals: Option<&UsageTotals>) -> Sufficiency {
    match totals {
        Some(totals) if totals.records == 0 && reading.topic != Topic::Watch => Sufficiency::Insufficient,
        Some(_) if reading.topic == Topic::Watch => Sufficiency::Sufficient,
        Some(totals) if reading.dates.is_empty() && reading.topic != Topic::Overview => {
            judge(totals, reading.topic.needs())
        }
        Some(_) | None => Sufficiency::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    use super::*;
    use crate::model::read;

    const WHOLE: UsageTotals = UsageTotals {
        records: 100,
        cost_microusd: 1,
        with_feature: 100,
        with_latency: 100,
        with_prompt_hash: 100,
        days: 3,
    };

    #[rstest]
    #[case("How can I spend less?", Some(WHOLE), Sufficiency::Sufficient)]
    #[case("How can I spend less?", Some(UsageTotals { with_prompt_hash: 0, ..WHOLE }), Sufficiency::Partial)]
    #[case("How can I spend less?", Some(UsageTotals { records: 3, ..WHOLE }), Sufficiency::Partial)]
    #[case("How can I spend less?", Some(UsageTotals::default()), Sufficiency::Insufficient)]
    #[case("How can I spend less?", None, Sufficiency::Unknown)]
    #[case("Show my spend from 2026-01-01", Some(WHOLE), Sufficiency::Unknown)]
    #[case("Hello", Some(WHOLE), Sufficiency::Unknown)]
    #[case(
        "Watch my usage for 3 seconds",
        Some(UsageTotals::default()),
        Sufficiency::Sufficient
    )]
    fn records_are_judged_by_what_the_request_needs(
        #[case] content: &str,
        #[case] totals: Option<UsageTotals>,
        #[case] expected: Sufficiency,
    ) {
        assert_eq!(sufficiency(&read(content), totals.as_ref()), expected);
    }

    #[test]
    fn each_sufficiency_has_an_order_of_its_own() {
        let all = [
            Sufficiency::Sufficient,
            Sufficiency::Partial,
            Sufficiency::Insufficient,
            Sufficiency::Unknown,
        ];
        let orders: std::collections::HashSet<_> = all.iter().map(|it| order(*it, Topic::Save)).collect();
        assert_eq!(orders.len(), all.len());
    }
}
