//! The price catalogue: what models cost and how fast they usually are.
//!
//! The entries stand in `catalogue/prices.csv`, so that anyone can compute a figure again from the same file.

use std::collections::BTreeMap;

use super::figures::rounded_ratio;

/// The built-in entries.
const PRICES: &str = include_str!("../../catalogue/prices.csv");

/// The model name under which the built-in planner's own work is priced.
pub const PLANNER_MODEL: &str = "builtin-planner";

/// What one model costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// Millionths of a US dollar for a million tokens given to the model.
    pub input_microusd_per_million: u64,
    /// Millionths of a US dollar for a million tokens that the model gives.
    pub output_microusd_per_million: u64,
    /// How able the model is: 1 small, 2 middle, 3 large; 0 is never proposed to anyone.
    pub tier: u8,
    /// A usual latency in milliseconds, for users who have not measured the model themselves.
    pub typical_latency_ms: u64,
}

impl Price {
    /// Cost in millionths of a US dollar: (input × input price + output × output price) / 1,000,000, rounded half up once,
    /// at the end.
    #[must_use]
    pub fn cost_microusd(self, input_tokens: u64, output_tokens: u64) -> u64 {
        let input = u128::from(input_tokens) * u128::from(self.input_microusd_per_million);
        let output = u128::from(output_tokens) * u128::from(self.output_microusd_per_million);
        rounded_ratio(input + output, 1_000_000)
    }
}

/// Prices by model name.
#[derive(Clone, Debug)]
pub struct PriceCatalogue {
    prices: BTreeMap<String, Price>,
}

/// A catalogue that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("line {line} of the price catalogue is not {expected}")]
pub struct CatalogueError {
    line: usize,
    expected: &'static str,
}

impl PriceCatalogue {
    /// The catalogue that comes with the backend.
    ///
    /// # Errors
    /// The embedded file is broken, which a unit test excludes.
    pub fn builtin() -> Result<Self, CatalogueError> {
        Self::parse(PRICES)
    }

    fn parse(text: &str) -> Result<Self, CatalogueError> {
        let expected = "model,input price,output price,tier,latency";
        let row = |(index, line): (usize, &str)| {
            let refused = || CatalogueError {
                line: index + 1,
                expected,
            };
            let fields: Vec<&str> = line.split(',').collect();
            let [model, input, output, tier, latency] = fields.as_slice() else {
                return Err(refused());
            };
            let number = |text: &str| text.parse::<u64>().map_err(|_| refused());
            let price = Price {
                input_microusd_per_million: number(input)?,
                output_microusd_per_million: number(output)?,
                tier: tier.parse().map_err(|_| refused())?,
                typical_latency_ms: number(latency)?,
            };
            Ok(((*model).to_owned(), price))
        };
        let prices = text.lines().enumerate().skip(1).map(row).collect::<Result<_, _>>()?;
        Ok(Self { prices })
    }

    /// What the model costs; names are compared exactly.
    #[must_use]
    pub fn price(&self, model: &str) -> Option<Price> {
        self.prices.get(model).copied()
    }

    /// Every entry, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Price)> {
        self.prices.iter().map(|(model, price)| (model.as_str(), *price))
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn the_embedded_catalogue_is_whole() {
        let catalogue = PriceCatalogue::builtin().expect("the embedded file is well formed");
        assert_eq!(
            catalogue.iter().count(),
            PRICES.lines().count() - 1,
            "no model stands twice"
        );
        assert!(catalogue.price(PLANNER_MODEL).is_some());
    }

    #[test]
    fn a_cost_is_rounded_half_up_once() {
        let price = Price {
            input_microusd_per_million: 150_000,
            output_microusd_per_million: 600_000,
            tier: 2,
            typical_latency_ms: 1,
        };
        assert_eq!(price.cost_microusd(10, 0), 2, "1.5 rounds up");
        assert_eq!(price.cost_microusd(9, 0), 1, "1.35 rounds down");
        assert_eq!(price.cost_microusd(1_000, 100), 210);
    }

    #[test]
    fn a_broken_line_is_named() {
        let error = PriceCatalogue::parse("header\na,1,2,3,4\nb,1,2,x,4").expect_err("x is no tier");
        assert_eq!(error.line, 3);
    }
}
