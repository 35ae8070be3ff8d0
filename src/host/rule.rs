//! What a setting should be, and what to write where it is not. Pure: text in, text out, on any text.

/// How a value is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    Equals(String),
    /// Each number at least this large; larger ones are kept.
    AtLeast(Vec<u64>),
    AtMost(u64),
    /// These bits set; others are kept.
    Bits(u64),
    /// One of these words; the first is written where it is another.
    OneOf(Vec<String>),
    /// Two numbers, the ends of a range that holds this one.
    Spans(u64, u64),
}

/// What a rule says to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Holds,
    /// It should be this.
    Wants(String),
    /// It is nothing that such a setting can be.
    Strange,
}

impl Rule {
    pub fn judge(&self, now: &str) -> Verdict {
        let wants = |is_good: bool, wanted: String| if is_good { Verdict::Holds } else { Verdict::Wants(wanted) };
        let numbers: Option<Vec<u64>> = now.split_whitespace().map(number).collect();
        match (self, numbers.as_deref()) {
            _ if now.trim().is_empty() => Verdict::Strange,
            (Rule::Equals(wanted), _) => wants(spaced(now) == *wanted, wanted.clone()),
            (Rule::OneOf(words), _) => {
                let now = spaced(now);
                wants(words.contains(&now), words.first().cloned().unwrap_or_default())
            }
            (Rule::AtLeast(least), Some(numbers)) if numbers.len() == least.len() => {
                let raised: Vec<String> =
                    numbers.iter().zip(least).map(|(now, least)| now.max(least).to_string()).collect();
                wants(numbers.iter().zip(least).all(|(now, least)| now >= least), raised.join(" "))
            }
            (Rule::AtMost(most), Some([now])) => wants(now <= most, most.to_string()),
            (Rule::Bits(bits), Some([now])) => wants(now & bits == *bits, (now | bits).to_string()),
            (Rule::Spans(low, high), Some([first, last])) => {
                wants(first <= low && last >= high, format!("{} {}", first.min(low), last.max(high)))
            }
            _ => Verdict::Strange,
        }
    }

    /// The rule in words, after "should be".
    pub fn words(&self) -> String {
        let list = |numbers: &[u64]| numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
        match self {
            Rule::Equals(wanted) => wanted.clone(),
            Rule::AtLeast(least) => format!("at least {}", list(least)),
            Rule::AtMost(most) => format!("at most {most}"),
            Rule::Bits(bits) => format!("{bits} (as bits that are set)"),
            Rule::OneOf(words) => words.join(" or "),
            Rule::Spans(low, high) => format!("a range that holds {low} to {high}"),
        }
    }
}

/// Fields with one space between them, as a setting that has several is compared.
pub fn spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The word in brackets where a file of choices shows one, `always [madvise] never`; otherwise the text.
pub fn chosen(text: &str) -> String {
    let word = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    word.map_or_else(|| spaced(text), |(word, _)| word.to_owned())
}

fn number(text: &str) -> Option<u64> {
    if text == "unlimited" || text == "max" { Some(u64::MAX) } else { text.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_keeps_what_is_good_and_says_what_is_wanted() {
        let wants = |text: &str| Verdict::Wants(text.to_owned());
        for (rule, now, verdict) in [
            (Rule::Equals("0".into()), "0", Verdict::Holds),
            (Rule::Equals("0".into()), "1", wants("0")),
            (Rule::AtLeast(vec![4096]), "65535", Verdict::Holds),
            (Rule::AtLeast(vec![4096]), "128", wants("4096")),
            (Rule::AtLeast(vec![4096]), "unlimited", Verdict::Holds),
            (Rule::AtLeast(vec![1, 20, 3]), "4\t10\t9", wants("4 20 9")),
            (Rule::AtLeast(vec![1, 20, 3]), "4", Verdict::Strange),
            (Rule::AtLeast(vec![1]), "-1", Verdict::Strange),
            (Rule::AtMost(10), "60", wants("10")),
            (Rule::AtMost(10), "1", Verdict::Holds),
            (Rule::Bits(3), "1", wants("3")),
            (Rule::Bits(3), "1027", Verdict::Holds),
            (Rule::OneOf(vec!["cubic".into(), "bbr".into()]), "bbr", Verdict::Holds),
            (Rule::OneOf(vec!["cubic".into(), "bbr".into()]), "reno", wants("cubic")),
            (Rule::Spans(10240, 65535), "32768\t60999", wants("10240 65535")),
            (Rule::Spans(10240, 65535), "1024 65535", Verdict::Holds),
            (Rule::Equals("0".into()), "", Verdict::Strange),
        ] {
            assert_eq!(rule.judge(now), verdict, "{rule:?} of {now:?}");
        }
        assert_eq!(chosen("always [madvise] never"), "madvise");
        assert_eq!(chosen("tsc\n"), "tsc");
    }

    proptest::proptest! {
        /// What a rule asks for is what it then accepts: otherwise tuning would never come to an end.
        #[test]
        fn what_is_wanted_holds(now in "[ -~\t]{0,12}|[0-9]{1,22}( [0-9]{1,22}){0,2}", a in 0u64..99, b in 0u64..99) {
            let words = vec!["x".to_owned(), "y".to_owned()];
            for rule in [
                Rule::Equals("7".into()), Rule::AtLeast(vec![a]), Rule::AtLeast(vec![a, b]), Rule::AtMost(a),
                Rule::Bits(a), Rule::OneOf(words), Rule::Spans(a, b),
            ] {
                if let Verdict::Wants(wanted) = rule.judge(&now) {
                    proptest::prop_assert_eq!(rule.judge(&wanted), Verdict::Holds, "{:?} wants {:?}", rule, wanted);
                }
            }
        }
    }
}
