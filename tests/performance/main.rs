//! performance: what is measured is reported as figures, beside a yardstick that the same machine reached in the same run
//! without the backend. Absolute bounds stand in [`thresholds`] and nowhere else.

mod measurement;
mod own;
mod thresholds;
mod wire;
