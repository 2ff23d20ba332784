//! Calling a service that may fail: through its breaker, and again after a back-off where that may help (ERR-4).
//!
//! Every attempt asks the breaker, so that what waits for its next one leaves a service alone that has failed meanwhile:
//! many callers at once make no storm of retries.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};

use super::breaker::Breaker;

/// Tries after the first: a service that fails three times is failing.
const RETRIES: usize = 2;

/// Wait before the first retry; it doubles, with jitter, so that many runs do not come back at once.
const BACK_OFF_FIRST: Duration = Duration::from_millis(100);

/// Longest wait between tries before jitter; a run has 30 s for everything.
const BACK_OFF_MAX: Duration = Duration::from_secs(2);

/// What a failed attempt says of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It fails; another try may help.
    Passing,
    /// It works and refuses this call: it would refuse another try, too, and others have nothing to fear.
    Refusal,
}

/// The error of a call.
pub(super) trait Faulty {
    /// What those are told whom the breaker refuses.
    const CIRCUIT_OPEN: Self;

    /// What the error says of the service.
    fn fault(&self) -> Fault;
}

fn back_off() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(BACK_OFF_FIRST)
        .with_max_delay(BACK_OFF_MAX)
        .with_max_times(RETRIES)
        .with_jitter()
}

/// Calls until it is done, refused, or tried often enough.
///
/// # Errors
/// That of the last attempt; with the breaker open, [`Faulty::CIRCUIT_OPEN`] at once.
pub(super) async fn call<T, E: Faulty, F>(breaker: &Breaker, attempt: impl Fn() -> F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let mut waits = back_off().build();
    loop {
        breaker.admit().map_err(|_| E::CIRCUIT_OPEN)?;
        let error = match attempt().await {
            Ok(done) => {
                breaker.succeeded();
                return Ok(done);
            }
            Err(error) => error,
        };
        match error.fault() {
            Fault::Passing => breaker.failed(),
            Fault::Refusal => {
                breaker.succeeded();
                return Err(error);
            }
        }
        let Some(wait) = waits.next() else { return Err(error) };
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use futures_util::future::join_all;
    use pretty_assertions::assert_eq;
    use tokio::time::Instant;

    use super::super::BreakerState;
    use super::*;

    /// Failures in a row that open the breaker of these tests.
    const FAILURES_MAX: u64 = 5;
    const OPEN_FOR: Duration = Duration::from_secs(10);
    /// Callers at once, as many as the suite that was replaced had.
    const CALLERS: usize = 75;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Error {
        Failed,
        Refused,
        CircuitOpen,
    }

    impl Faulty for Error {
        const CIRCUIT_OPEN: Self = Self::CircuitOpen;

        fn fault(&self) -> Fault {
            match self {
                Self::Failed => Fault::Passing,
                Self::Refused | Self::CircuitOpen => Fault::Refusal,
            }
        }
    }

    /// A service that follows a script, and then fails for good; it notes when it was called.
    struct Service {
        script: RefCell<Vec<Result<&'static str, Error>>>,
        called_at: RefCell<Vec<Instant>>,
        breaker: Breaker,
    }

    impl Service {
        fn new(name: &'static str, script: impl IntoIterator<Item = Result<&'static str, Error>>) -> Self {
            Self {
                script: RefCell::new(script.into_iter().collect()),
                called_at: RefCell::default(),
                breaker: Breaker::new(name, FAILURES_MAX, OPEN_FOR),
            }
        }

        fn dead(name: &'static str) -> Self {
            Self::new(name, [])
        }

        async fn ask(&self) -> Result<&'static str, Error> {
            call(&self.breaker, || async {
                self.called_at.borrow_mut().push(Instant::now());
                // An answer takes its time, so that callers overlap.
                tokio::time::sleep(Duration::from_millis(1)).await;
                let mut script = self.script.borrow_mut();
                if script.is_empty() {
                    Err(Error::Failed)
                } else {
                    script.remove(0)
                }
            })
            .await
        }

        fn calls(&self) -> usize {
            self.called_at.borrow().len()
        }

        fn waits(&self) -> Vec<Duration> {
            let called_at = self.called_at.borrow();
            called_at.windows(2).map(|pair| pair[1] - pair[0]).collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_waits_double_and_hold_jitter_of_at_most_as_much_again() {
        let mut first_waits = BTreeSet::new();
        for _ in 0..20 {
            let service = Service::dead("model");
            assert_eq!(service.ask().await, Err(Error::Failed));
            let waits = service.waits();
            assert_eq!(waits.len(), RETRIES, "tried as often as stated, and no more");
            for (number, wait) in waits.iter().enumerate() {
                let least = BACK_OFF_FIRST * 2u32.pow(u32::try_from(number).expect("few"));
                // The answer itself and the clock's tick come on top.
                let most = least * 2 + Duration::from_millis(3);
                assert!((least..=most).contains(wait), "wait {number} was {wait:?}");
            }
            first_waits.insert(waits[0]);
        }
        assert!(first_waits.len() > 5, "chance spreads the callers: {first_waits:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_passing_failure_is_tried_again_until_it_is_done() {
        let service = Service::new("model", [Err(Error::Failed), Err(Error::Failed), Ok("done")]);
        assert_eq!(service.ask().await, Ok("done"));
        assert_eq!((service.calls(), service.breaker.state()), (3, BreakerState::Closed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_not_tried_again_and_does_not_open_the_breaker() {
        let service = Service::new("model", vec![Err(Error::Refused); 20]);
        for _ in 0..20 {
            assert_eq!(service.ask().await, Err(Error::Refused));
        }
        assert_eq!((service.calls(), service.breaker.state()), (20, BreakerState::Closed));
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_breaker_fails_at_once_and_leaves_the_service_alone() {
        let service = Service::dead("model");
        while service.breaker.state() == BreakerState::Closed {
            service.ask().await.expect_err("it is dead");
        }
        let (calls, at) = (service.calls(), Instant::now());
        assert_eq!(service.ask().await, Err(Error::CircuitOpen));
        assert_eq!((service.calls(), at.elapsed()), (calls, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_retry_when_the_breaker_opens_does_not_try_again() {
        let service = Service::dead("model");
        let answers = join_all((0..CALLERS).map(|_| service.ask())).await;
        assert!(
            answers.iter().all(|answer| *answer == Err(Error::CircuitOpen)),
            "{answers:?}"
        );
        assert_eq!(service.calls(), CALLERS, "one try each, before anybody knew");
    }

    #[tokio::test(start_paused = true)]
    async fn callers_that_come_again_and_again_make_no_storm_on_a_dead_service() {
        let service = Service::dead("model");
        let minute = Duration::from_secs(60);
        let began = Instant::now();
        let callers = (0..CALLERS).map(|_| async {
            while began.elapsed() < minute {
                service.ask().await.expect_err("it is dead");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        join_all(callers).await;
        let later = service.calls() - CALLERS;
        let tries = usize::try_from(minute.as_secs() / OPEN_FOR.as_secs()).expect("few");
        assert!(
            (1..=tries).contains(&later),
            "{later} calls in a minute after the first round"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn all_callers_are_served_again_once_one_try_has_succeeded() {
        let service = Service::new("model", vec![Err(Error::Failed); 5]);
        while service.breaker.state() == BreakerState::Closed {
            service.ask().await.expect_err("it fails");
        }
        service.script.borrow_mut().extend(vec![Ok("back"); CALLERS + 1]);
        tokio::time::advance(OPEN_FOR).await;
        let first = join_all((0..CALLERS).map(|_| service.ask())).await;
        let served = first.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(served, 1, "one tries for all");
        let then = join_all((0..CALLERS).map(|_| service.ask())).await;
        assert!(then.iter().all(Result::is_ok), "{then:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_service_takes_no_other_with_it() {
        let (dead, well) = (Service::dead("dead"), Service::new("well", vec![Ok("fine"); CALLERS]));
        let (failures, answers) = tokio::join!(
            join_all((0..CALLERS).map(|_| dead.ask())),
            join_all((0..CALLERS).map(|_| well.ask())),
        );
        assert!(failures.iter().all(Result::is_err) && answers.iter().all(Result::is_ok));
        assert_eq!(
            (dead.breaker.state(), well.breaker.state()),
            (BreakerState::Open, BreakerState::Closed)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn failures_that_are_not_in_a_row_do_not_open_the_breaker() {
        // Of ten calls three fail, as the suite that was replaced had it.
        let script = (0..100).map(|number| {
            if number % 10 % 3 == 2 {
                Err(Error::Failed)
            } else {
                Ok("fine")
            }
        });
        let service = Service::new("model", script);
        for _ in 0..60 {
            assert_eq!(service.ask().await, Ok("fine"));
        }
        assert_eq!(service.breaker.state(), BreakerState::Closed);
    }
}
