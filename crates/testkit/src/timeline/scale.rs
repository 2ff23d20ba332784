//! Where a moment stands: time is stretched where much happens and shortened where nothing does, and says so.

/// No silence takes a larger part of the picture than this.
const SILENCE_PART_MAX: f64 = 0.1;

/// So much of the width is given to moments evenly, the rest by the time between them: a burst stays legible.
const EVEN_PART: f64 = 0.5;

/// Shorter silences are not worth a mark.
const SILENCE_TOLD_US: u64 = 100_000;

/// From microseconds to places.
#[derive(Debug)]
pub(super) struct Scale {
    /// Moments and their places, both rising.
    known: Vec<(u64, f64)>,
    /// Silences that are drawn shorter than they were: from, to, and how long.
    pub(super) silences: Vec<(f64, f64, u64)>,
}

impl Scale {
    /// From all moments at which something happened, to places between `left` and `right`.
    pub(super) fn of(mut moments: Vec<u64>, left: f64, right: f64) -> Self {
        moments.sort_unstable();
        moments.dedup();
        if moments.is_empty() {
            moments.push(0);
        }
        if moments.len() == 1 {
            moments.push(moments[0] + 1_000);
        }
        let gaps: Vec<u64> = moments.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let cap = longest_drawn(&gaps);
        let drawn = |gap: u64| (gap as f64).min(cap);
        let total: f64 = gaps.iter().map(|gap| drawn(*gap)).sum();
        let width = right - left;
        let mut x = left;
        let mut known = vec![(moments[0], left)];
        let mut silences = Vec::new();
        for (gap, moment) in gaps.iter().zip(&moments[1..]) {
            let from = x;
            x += width * ((1.0 - EVEN_PART) * drawn(*gap) / total + EVEN_PART / gaps.len() as f64);
            known.push((*moment, x));
            if *gap as f64 > cap * 1.2 && *gap >= SILENCE_TOLD_US {
                silences.push((from, x, *gap));
            }
        }
        Self { known, silences }
    }

    /// The place of a moment; one outside stands at the edge.
    pub(super) fn x(&self, at_us: u64) -> f64 {
        let after = self.known.partition_point(|(moment, _)| *moment < at_us);
        match (
            after.checked_sub(1).map(|before| self.known[before]),
            self.known.get(after),
        ) {
            (_, Some((moment, x))) if *moment == at_us => *x,
            (Some((from, x)), Some((to, end))) => x + (end - x) * (at_us - from) as f64 / (to - from) as f64,
            (Some((_, edge)), None) => edge,
            (None, Some((_, edge))) => *edge,
            (None, None) => 0.0,
        }
    }

    /// Round moments at least `apart` from each other, for an axis.
    pub(super) fn ticks(&self, apart: f64) -> Vec<u64> {
        let (Some((first, left)), Some((last, right))) = (self.known.first(), self.known.last()) else {
            return Vec::new();
        };
        let mut ticks: Vec<u64> = Vec::new();
        // Coarse ones first; finer ones where they find room.
        let steps = [10_000_000, 1_000_000, 500_000, 100_000, 50_000, 10_000, 5_000, 1_000];
        for step in steps {
            let from = first.div_ceil(step);
            if (last / step).saturating_sub(from) > 2_000 {
                continue;
            }
            for moment in (from..=last / step).map(|nth| nth * step) {
                let x = self.x(moment);
                let is_free = ticks.iter().all(|taken| (self.x(*taken) - x).abs() >= apart);
                if is_free && x >= *left && x + apart / 2.0 <= *right {
                    ticks.push(moment);
                }
            }
        }
        ticks.sort_unstable();
        ticks
    }
}

/// The longest gap that is drawn by its length.
fn longest_drawn(gaps: &[u64]) -> f64 {
    let part = SILENCE_PART_MAX.max(1.5 / gaps.len() as f64).min(1.0);
    let mut cap = gaps.iter().copied().max().unwrap_or(1) as f64;
    for _ in 0..12 {
        cap = part * gaps.iter().map(|gap| (*gap as f64).min(cap)).sum::<f64>();
    }
    cap.max(1.0)
}

/// A moment or a length for people.
pub(super) fn told(us: u64) -> String {
    match us {
        0..10_000 => format!("{:.1} ms", us as f64 / 1e3),
        10_000..1_000_000 => format!("{:.0} ms", us as f64 / 1e3),
        _ => format!("{} s", (us as f64 / 1e4).round() / 100.0),
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn places_rise_with_time_and_stay_inside() {
        let scale = Scale::of(vec![5_000, 0, 7_000, 9_000_000, 9_001_000], 100.0, 1_100.0);
        let places: Vec<f64> = [0, 2_500, 5_000, 7_000, 9_000_000, 9_001_000, 99_000_000]
            .map(|at| scale.x(at))
            .to_vec();
        assert!(places.windows(2).all(|pair| pair[0] <= pair[1]), "{places:?}");
        assert!(
            (places[0] - 100.0).abs() < 0.01 && (places[6] - 1_100.0).abs() < 0.01,
            "{places:?}"
        );
    }

    #[test]
    fn a_long_silence_is_shortened_and_told() {
        let mut moments: Vec<u64> = (0..20).map(|nth| nth * 1_000).collect();
        moments.push(60_000_000);
        let scale = Scale::of(moments, 0.0, 1_000.0);
        assert_eq!(scale.silences.len(), 1);
        let (from, to, length) = scale.silences[0];
        assert_eq!(length, 60_000_000 - 19_000);
        assert!(to - from < 200.0, "{from} to {to}");
    }

    #[test]
    fn ticks_are_round_and_apart() {
        let scale = Scale::of(vec![0, 330_000, 1_200_000], 0.0, 1_000.0);
        let ticks = scale.ticks(60.0);
        assert!(ticks.len() > 5, "{ticks:?}");
        assert!(ticks.iter().all(|tick| tick % 1_000 == 0), "{ticks:?}");
        assert!(
            ticks.windows(2).all(|pair| scale.x(pair[1]) - scale.x(pair[0]) >= 60.0),
            "{ticks:?}"
        );
        assert_eq!(told(1_500_000), "1.5 s");
    }
}
