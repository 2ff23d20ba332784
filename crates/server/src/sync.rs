//! The lock of what many tasks share: [`std::sync::Mutex`], and in this crate's own tests, under the schedule explorer,
//! one that the explorer decides over. So it explores the very code that ships.

#[cfg(not(test))]
pub use std::sync::{Mutex, MutexGuard};

#[cfg(test)]
pub use self::explored::{Mutex, MutexGuard};

#[cfg(test)]
mod explored {
    use std::ops::{Deref, DerefMut};
    use std::sync::{LockResult, PoisonError};

    /// A lock that is the explorer's where it was made under the explorer, and the standard library's elsewhere.
    #[derive(Debug)]
    pub enum Mutex<T> {
        Plain(std::sync::Mutex<T>),
        Explored(shuttle::sync::Mutex<T>),
    }

    #[derive(Debug)]
    pub enum MutexGuard<'a, T> {
        Plain(std::sync::MutexGuard<'a, T>),
        Explored(shuttle::sync::MutexGuard<'a, T>),
    }

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Self {
            match shuttle::current::try_get_current_task() {
                None => Self::Plain(std::sync::Mutex::new(value)),
                Some(_) => Self::Explored(shuttle::sync::Mutex::new(value)),
            }
        }

        pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            fn wrap<G, H>(locked: LockResult<G>, as_guard: fn(G) -> H) -> LockResult<H> {
                locked
                    .map(as_guard)
                    .map_err(|poisoned| PoisonError::new(as_guard(poisoned.into_inner())))
            }
            match self {
                Self::Plain(mutex) => wrap(mutex.lock(), MutexGuard::Plain),
                Self::Explored(mutex) => wrap(mutex.lock(), MutexGuard::Explored),
            }
        }
    }

    impl<T: Default> Default for Mutex<T> {
        fn default() -> Self {
            Self::new(T::default())
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            match self {
                Self::Plain(guard) => guard,
                Self::Explored(guard) => guard,
            }
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            match self {
                Self::Plain(guard) => guard,
                Self::Explored(guard) => guard,
            }
        }
    }
}
