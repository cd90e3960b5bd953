//! What a request costs and what a cycle costs, by the letter.

/// A line of a model's rate card.
#[derive(Debug, Clone)]
pub struct ModelBand {
    /// The longest prompt in tokens; none for any length.
    pub upper: Option<u64>,
    /// Whether a prompt of exactly that length is still in it.
    pub is_inclusive: bool,
    /// Milli-Credits a token of input, cache read, cache write and output.
    pub rates: Option<[Option<u32>; 4]>,
    /// Micro-dollars a million tokens, by the same kinds; none where it is not sold by the token.
    pub prices: Option<[u64; 4]>,
}

impl ModelBand {
    /// Whether a prompt is no longer than it takes.
    pub(super) fn reaches(&self, prompt: u64) -> bool {
        match self.upper {
            None => true,
            Some(upper) if self.is_inclusive => prompt <= upper,
            Some(upper) => prompt < upper,
        }
    }
}

/// What a request costs, or why it has no cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelCost {
    Credits(i128),
    /// The code of the reason.
    Unrated(&'static str),
    /// More than is counted.
    Overflow,
}

/// The most tokens of a prompt, and of output, that one event can have.
const TOKENS_MAX: i128 = 1_000_000_000_000;

/// by the letter. `counts` as [`ModelBand::rates`].
pub fn cost(bands: &[ModelBand], counts: [u64; 4]) -> ModelCost {
    let prompt: i128 = counts[..3].iter().map(|count| i128::from(*count)).sum();
    if prompt > TOKENS_MAX || i128::from(counts[3]) > TOKENS_MAX {
        return ModelCost::Overflow;
    }
    let mut shortest = 0;
    for band in bands {
        let longest = match band.upper {
            None => i128::MAX - 1,
            Some(upper) if band.is_inclusive => i128::from(upper),
            Some(upper) => i128::from(upper) - 1,
        };
        if shortest <= prompt && prompt <= longest {
            let Some(rates) = band.rates else { return ModelCost::Unrated("no-credit-rate") };
            let mut milli = 0;
            for (count, rate) in counts.into_iter().zip(rates) {
                match rate {
                    Some(rate) => milli += i128::from(count) * i128::from(rate),
                    None if count == 0 => {}
                    None => return ModelCost::Unrated("no-rate-for-token-kind"),
                }
            }
            let whole = if milli % 1_000 == 0 { milli / 1_000 } else { milli / 1_000 + 1 };
            let count_max = 9_007_199_254_740_991;
            return if whole > count_max { ModelCost::Overflow } else { ModelCost::Credits(whole) };
        }
        shortest = longest + 1;
    }
    ModelCost::Unrated("prompt-above-last-band")
}

/// What the first cycle of a plan costs: the part that is not taken off, a started minor unit
/// counting whole.
pub fn discounted(list_minor: i64, off_bps: i64) -> i64 {
    let pays = i128::from(list_minor) * i128::from(10_000 - off_bps);
    let whole = if pays % 10_000 == 0 { pays / 10_000 } else { pays / 10_000 + 1 };
    i64::try_from(whole).unwrap_or(i64::MAX)
}

/// Everything paid within a cycle, from the list prices of the plan that was bought and of the
/// highest that was reached.
pub fn paid_within_cycle(bought_list: i64, highest_list: i64, off_bps: i64, carries: bool) -> i64 {
    if carries {
        discounted(highest_list, off_bps)
    } else {
        discounted(bought_list, off_bps) + highest_list - bought_list
    }
}
