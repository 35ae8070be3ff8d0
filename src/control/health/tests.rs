//! Changes of health: a table, and the law over random results.

use super::Answer::{Bad, Good};
use super::*;

#[test]
fn it_takes_two_in_a_row_to_turn() {
    let mut judge = Judge::default();
    let answers = [Good, Bad, Good, Bad, Bad, Bad, Good, Bad, Good, Good, Good, Bad, Bad];
    let turns: Vec<_> = (0u64..).zip(answers).map(|(second, answer)| judge.hear(answer, second * 1000)).collect();
    let mut expected = vec![None; answers.len()];
    expected[4] = Some(Turn::Sick);
    expected[9] = Some(Turn::Well { after_ms: 5000 });
    expected[12] = Some(Turn::Sick);
    assert_eq!(turns, expected);
}

#[test]
fn a_turn_is_told_exactly_when_the_last_two_answers_agree_against_what_was_told() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(random_u64);
    println!("SEED={seed}");
    let mut random = seed | 1;
    let (mut judge, mut sick, mut before) = (Judge::default(), false, None);
    for now_ms in 0..10_000 {
        // xorshift64 (Marsaglia 2003).
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let answer = if random % 5 < 2 { Bad } else { Good };
        let against = if sick { Good } else { Bad };
        let turned = answer == against && before == Some(against);
        let turn = judge.hear(answer, now_ms);
        assert_eq!(turn.is_some(), turned, "at {now_ms}: {answer:?} after {before:?}");
        if let Some(turn) = turn {
            assert_eq!(matches!(turn, Turn::Sick), !sick);
            sick = !sick;
        }
        // A result that caused a change is not counted for a further one, and agrees with what was reported.
        before = Some(answer);
    }
}

#[test]
fn intervals_differ_by_a_tenth_at_most() {
    for random in [0, 1, 999, 1000, u64::MAX] {
        assert!((4500..=5500).contains(&jittered(5000, random)), "{random}");
    }
    assert_eq!((jittered(5000, 0), jittered(5000, 1000)), (4500, 5500));
    assert_eq!(jittered(1, u64::MAX), 1, "too short for a tenth");
}
