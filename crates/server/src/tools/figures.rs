//! Exact arithmetic that every figure rests on: integers only, one rule for each rounding.

use serde_json::{Map, Value};

/// A JSON object, as results and parameters are.
pub type Object = Map<String, Value>;

/// The object inside of what `json!({…})` makes; empty for anything else.
#[must_use]
pub(crate) fn object(value: Value) -> Object {
    match value {
        Value::Object(fields) => fields,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Object::new(),
    }
}

/// `numerator / denominator`, rounded half up; 0 where the denominator is 0.
#[must_use]
pub fn rounded_ratio(numerator: u128, denominator: u128) -> u64 {
    if denominator == 0 {
        return 0;
    }
    u64::try_from((2 * numerator + denominator) / (2 * denominator)).unwrap_or(u64::MAX)
}

/// The mean of `sum` over `count`, rounded half up; 0 of nothing.
#[must_use]
pub fn mean(sum: u128, count: u64) -> u64 {
    rounded_ratio(sum, u128::from(count))
}

/// `part` of `whole` in hundredths of a percent (basis points), rounded half up; 0 of nothing.
#[must_use]
pub fn share_basis_points(part: u64, whole: u64) -> u64 {
    rounded_ratio(u128::from(part) * 10_000, u128::from(whole))
}

/// The nearest-rank percentile: the value at place ⌈`percent` / 100 × n⌉ (from 1) of the sorted values; `None` of nothing.
#[must_use]
pub fn percentile(sorted: &[u64], percent: u64) -> Option<u64> {
    let count = u64::try_from(sorted.len()).ok()?;
    let rank = (percent * count).div_ceil(100).clamp(1, count.max(1));
    sorted.get(usize::try_from(rank - 1).ok()?).copied()
}

/// Millionths of a dollar as dollars, exactly: at least two places, no more than needed (`$0.0012`, `$12.50`).
#[must_use]
pub fn dollars(microusd: u64) -> String {
    let fraction = format!("{:06}", microusd % 1_000_000);
    let kept = fraction.trim_end_matches('0').len().max(2);
    format!("${}.{}", microusd / 1_000_000, &fraction[..kept])
}

/// Basis points as a percentage with two places (`12.34 %`).
#[must_use]
pub fn percent(basis_points: u64) -> String {
    format!("{}.{:02} %", basis_points / 100, basis_points % 100)
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(0, "$0.00")]
    #[case(1, "$0.000001")]
    #[case(1_200, "$0.0012")]
    #[case(12_500_000, "$12.50")]
    #[case(1_234_567_891, "$1234.567891")]
    fn dollars_are_exact(#[case] microusd: u64, #[case] expected: &str) {
        assert_eq!(dollars(microusd), expected);
    }

    #[rstest]
    #[case(&[], 50, None)]
    #[case(&[7], 99, Some(7))]
    #[case(&[1, 2, 3, 4], 50, Some(2))]
    #[case(&[1, 2, 3, 4], 95, Some(4))]
    #[case(&[1, 2, 3, 4], 0, Some(1))]
    fn percentiles_are_values_by_nearest_rank(
        #[case] sorted: &[u64],
        #[case] percent: u64,
        #[case] expected: Option<u64>,
    ) {
        assert_eq!(percentile(sorted, percent), expected);
    }

    #[rstest]
    #[case(1, 2, 1)]
    #[case(1, 3, 0)]
    #[case(2, 3, 1)]
    #[case(5, 0, 0)]
    fn ratios_round_half_up(#[case] numerator: u128, #[case] denominator: u128, #[case] expected: u64) {
        assert_eq!(rounded_ratio(numerator, denominator), expected);
    }

    proptest! {
        #[test]
        fn at_least_the_share_of_values_is_at_or_below_a_percentile(
            mut values in prop::collection::vec(0u64..1_000, 1..200),
            percent in 1u64..=100,
        ) {
            values.sort_unstable();
            let at = percentile(&values, percent).expect("there are values");
            let below = values.iter().filter(|value| **value <= at).count() as u64;
            prop_assert!(below * 100 >= percent * values.len() as u64);
            let strictly = values.iter().filter(|value| **value < at).count() as u64;
            prop_assert!(strictly * 100 < percent * values.len() as u64);
        }

        #[test]
        fn dollars_read_back_as_the_same_amount(microusd in any::<u64>()) {
            let text = dollars(microusd);
            let (whole, fraction) = text[1..].split_once('.').expect("dollars have a point");
            let read: u128 = format!("{whole}{fraction:0<6}").parse().expect("digits");
            prop_assert_eq!(read, u128::from(microusd));
        }
    }
}
