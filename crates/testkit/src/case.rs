//! Which test this is and which clauses it is about.

use crate::clause::Clause;

/// A test's name and claims; made by [`case!`](crate::case).
#[derive(Clone, Debug)]
pub struct Case {
    /// The test binary, which is the category.
    pub category: String,
    /// The test's name as nextest has it.
    pub test: String,
    /// The clauses that the test is about.
    pub clauses: &'static [Clause],
    /// The command that repeats it, where that is not the usual one.
    pub repeat: Option<String>,
}

impl Case {
    /// From the path of something inside of the test's function.
    #[must_use]
    pub fn inside(path: &str, clauses: &'static [Clause]) -> Self {
        let mut parts: Vec<&str> = path.split("::").filter(|part| !part.starts_with('{')).collect();
        parts.pop(); // the marker itself
        let (category, own) = parts
            .split_first()
            .map_or(("", [].as_slice()), |(first, rest)| (*first, rest));
        // One case of a parametrised test has a name that its function does not know.
        let test = std::env::var("NEXTEST_TEST_NAME").ok().filter(|name| !name.is_empty());
        Self {
            category: category.to_owned(),
            test: test.unwrap_or_else(|| own.join("::")),
            clauses,
            repeat: None,
        }
    }

    /// Of a test that a harness makes, so that no function has its name.
    #[must_use]
    pub fn made(category: &str, test: &str, clauses: &'static [Clause], repeat: String) -> Self {
        Self {
            category: category.to_owned(),
            test: test.to_owned(),
            clauses,
            repeat: Some(repeat),
        }
    }

    /// The name of the test's folder and files.
    #[must_use]
    pub fn file_stem(&self) -> String {
        format!("{}.{}", self.category, self.test.replace("::", "."))
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || "._-".contains(c) {
                    c
                } else {
                    '_'
                }
            })
            .take(180)
            .collect()
    }

    /// The command that repeats the test with a seed.
    #[must_use]
    pub fn repeat_command(&self, seed: u64) -> String {
        if let Some(repeat) = &self.repeat {
            return repeat.clone();
        }
        let binary =
            std::env::var("NEXTEST_BINARY_ID").unwrap_or_else(|_| format!("kingsguard-tests::{}", self.category));
        format!(
            "KINGSGUARD_SEED={seed} cargo nextest run -E 'binary_id(={binary}) & test(={})'",
            self.test
        )
    }
}

/// Says which test this is and which clauses it is about: `case!("SEQ-3", "SEQ-1")`. A clause that does not exist does not
/// compile.
///
/// ```
/// # use kingsguard_testkit::case;
/// let case = case!("SEQ-3", "SEQ-1");
/// assert_eq!(case.clauses[0].id, "SEQ-3");
/// ```
///
/// ```compile_fail
/// # use kingsguard_testkit::case;
/// let case = case!("SEQ-99");
/// ```
#[macro_export]
macro_rules! case {
    ($($id:literal),+ $(,)?) => {{
        const CLAUSES: &[$crate::clause::Clause] = &[$($crate::clause::Clause::named($id)),+];
        fn marker() {}
        fn path_of<T>(_: T) -> &'static str {
            ::std::any::type_name::<T>()
        }
        $crate::case::Case::inside(path_of(marker), CLAUSES)
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_tells_category_and_test() {
        let case = Case::inside("integration::wire::resume::goes_on::{{closure}}::marker", &[]);
        assert_eq!(case.category, "integration");
        assert!(std::env::var_os("NEXTEST_TEST_NAME").is_some() || case.test == "wire::resume::goes_on");
    }

    #[test]
    fn the_macro_knows_its_clauses() {
        let case = case!("SEQ-3", "CON-5");
        let ids: Vec<&str> = case.clauses.iter().map(|clause| clause.id).collect();
        assert_eq!(ids, ["SEQ-3", "CON-5"]);
    }
}
