//! How the kernel writes sets of CPUs: lists (`0-3,8`) and masks (`ff`, `1,00000000`). Both bounded, on any input.

use std::collections::BTreeSet;

use crate::limits::HOST_CPUS;

/// The CPUs of a list. `None`: it is none.
pub fn parse_list(text: &str) -> Option<BTreeSet<usize>> {
    let mut found = BTreeSet::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if last >= HOST_CPUS || first > last {
            return None;
        }
        found.extend(first..=last);
    }
    Some(found)
}

/// The CPUs of a mask. `None`: it is none.
pub fn parse_mask(text: &str) -> Option<BTreeSet<usize>> {
    let digits: Vec<u32> =
        text.trim().chars().filter(|&letter| letter != ',').map(|letter| letter.to_digit(16)).collect::<Option<_>>()?;
    if digits.is_empty() || digits.len() * 4 > HOST_CPUS {
        return None;
    }
    let set = |(place, digit): (usize, &u32)| {
        let digit = *digit;
        (0..4).filter(move |bit| digit >> bit & 1 == 1).map(move |bit| place * 4 + bit)
    };
    Some(digits.iter().rev().enumerate().flat_map(set).collect())
}

/// A mask as the kernel writes it: words of 32 bits, the highest first, and at least one.
pub fn mask(cpus: impl IntoIterator<Item = usize>) -> String {
    let mut words = vec![0u32];
    for cpu in cpus.into_iter().filter(|&cpu| cpu < HOST_CPUS) {
        if words.len() <= cpu / 32 {
            words.resize(cpu / 32 + 1, 0);
        }
        words[cpu / 32] |= 1 << (cpu % 32);
    }
    let text: Vec<String> = words.iter().rev().map(|word| format!("{word:08x}")).collect();
    text.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_masks_are_read_as_the_kernel_writes_them() {
        let set = |cpus: &[usize]| Some(cpus.iter().copied().collect::<BTreeSet<_>>());
        assert_eq!(parse_list("0-2,8\n"), set(&[0, 1, 2, 8]));
        assert_eq!(parse_list(""), set(&[]));
        for strange in ["a", "3-1", "0-4294967295", "1-", "-", "0--2", "99999999999999999999"] {
            assert_eq!(parse_list(strange), None, "{strange}");
        }
        assert_eq!(parse_mask("00000003"), set(&[0, 1]));
        assert_eq!(parse_mask("1,00000000"), set(&[32]));
        for strange in ["", "xyz", &"f".repeat(HOST_CPUS)] {
            assert_eq!(parse_mask(strange), None, "{strange}");
        }
        assert_eq!((mask([]), mask([0, 3, 33])), ("00000000".to_owned(), "00000002,00000009".to_owned()));
    }

    proptest::proptest! {
        #[test]
        fn a_mask_comes_back(cpus in proptest::collection::btree_set(0..HOST_CPUS, 0..20)) {
            proptest::prop_assert_eq!(parse_mask(&mask(cpus.iter().copied())), Some(cpus));
        }

        #[test]
        fn no_text_is_too_strange(text in ".{0,40}") {
            let _ = (parse_list(&text), parse_mask(&text));
        }
    }
}
