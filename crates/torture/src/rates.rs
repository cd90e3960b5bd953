//! What the run's events cost, by arithmetic of its own: tokens times milli-Credits, rounded up once.
//! `catalog.toml` has the same rates for the server.

/// What the tenants sell.
pub const CATALOG: &str = include_str!("catalog.toml");

/// The models of the catalogue, and one that it does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    Plain,
    Long,
    Thirds,
    Free,
    /// Kept unrated.
    Unknown,
}

/// The tokens of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tokens {
    pub input: u32,
    pub cache_read: u32,
    pub output: u32,
}

impl Model {
    pub fn code(self) -> &'static str {
        match self {
            Model::Plain => "torture-plain",
            Model::Long => "torture-long",
            Model::Thirds => "torture-thirds",
            Model::Free => "torture-free",
            Model::Unknown => "torture-nobody-knows",
        }
    }

    /// The cost in Credits; `None` where there is no rate.
    pub fn cost(self, tokens: Tokens) -> Option<i64> {
        let Tokens { input, cache_read, output } = tokens;
        let prompt = u64::from(input) + u64::from(cache_read);
        let [of_input, of_cache_read, of_output] = match self {
            Model::Plain => [1_000; 3],
            Model::Long if prompt <= 262_144 => [2_000; 3],
            Model::Long if prompt <= 1_048_576 => [4_000; 3],
            Model::Thirds => [333, 100, 2_001],
            Model::Free => [0; 3],
            Model::Long | Model::Unknown => return None,
        };
        let milli = u64::from(input) * of_input
            + u64::from(cache_read) * of_cache_read
            + u64::from(output) * of_output;
        i64::try_from(milli.div_ceil(1_000)).ok()
    }
}

/// The plans, from the lowest, and the Credits of a cycle.
pub const PLANS: [(&str, i64); 4] =
    [("small", 2_000_000), ("medium", 9_000_000), ("large", 30_000_000), ("huge", 1_000_000_000_000)];

/// The Credits of a plan's cycle.
pub fn credits_of(plan: &str) -> Option<i64> {
    PLANS.iter().find(|(code, _)| *code == plan).map(|(_, credits)| *credits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_that_a_person_can_check() {
        let tokens = |input, cache_read, output| Tokens { input, cache_read, output };
        for (model, tokens, expected) in [
            (Model::Plain, tokens(100, 0, 7), Some(107)),
            (Model::Long, tokens(262_144, 0, 1), Some(524_290)),
            (Model::Long, tokens(262_144, 1, 0), Some(1_048_580)),
            (Model::Long, tokens(1_048_577, 0, 0), None),
            (Model::Thirds, tokens(3, 0, 0), Some(1)), // 0.999
            (Model::Thirds, tokens(1, 1, 1), Some(3)), // 0.333 + 0.1 + 2.001 = 2.434
            (Model::Free, tokens(1_000, 0, 1_000), Some(0)),
            (Model::Unknown, tokens(1, 0, 0), None),
        ] {
            assert_eq!(model.cost(tokens), expected, "{model:?} {tokens:?}");
        }
    }

    #[test]
    fn the_servers_catalogue_names_the_same_plans_and_models() {
        for (plan, credits) in PLANS {
            let digits = CATALOG.replace('_', "");
            assert!(
                digits.contains(&format!("code = \"{plan}\"")) && digits.contains(&format!("= {credits}\n"))
            );
        }
        for model in [Model::Plain, Model::Long, Model::Thirds, Model::Free] {
            assert!(CATALOG.contains(&format!("code = \"{}\"", model.code())));
        }
        assert!(!CATALOG.contains(Model::Unknown.code()));
    }
}
