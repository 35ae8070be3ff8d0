//! Queries, and stacks in each format.

use super::decoded::fields;
use super::*;

fn stacks() -> Stacks {
    let stack = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    [
        (stack(&["ringway-data-0", "main", "poll<T>"]), 30),
        (stack(&["ringway-data-0", "main"]), 10),
        (stack(&["ringway-io", "main", "a \"b\" & c"]), 60),
    ]
    .into()
}

#[test]
fn a_query_has_bounds() {
    let parse = |query: &str| parse(query.split('&'), "seconds=N");
    assert_eq!(parse(""), Ok((10, Format::Pprof)));
    assert_eq!(parse("seconds=3&format=svg"), Ok((3, Format::Svg)));
    assert_eq!(parse("format=folded"), Ok((10, Format::Folded)));
    for wrong in ["seconds=0", "seconds=61", "seconds=-1", "seconds=", "seconds", "format=png", "minutes=1"] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_picture_is_well_formed_and_as_wide_as_its_shares() {
    let picture = flame::draw(&stacks(), "A & B", "samples");
    assert!(picture.contains("<title>ringway-io: 60.00 %, 60 samples</title>"), "{picture}");
    assert!(picture.contains("poll&lt;T&gt;: 30.00 %") && picture.contains("a &quot;b&quot; &amp; c"));
    assert!(picture.contains("width=\"720.0\""), "{picture}");
    assert_eq!(picture.matches("<g>").count(), picture.matches("</g>").count());
    assert!(flame::draw(&Stacks::new(), "0 samples", "samples").contains(">0 samples</text>"));
    assert!(picture.contains(">A &amp; B</text>"), "{picture}");
    assert_eq!(folded(&stacks()).lines().next(), Some("ringway-data-0;main 10"));
}

#[test]
fn a_profile_names_threads_functions_and_times() {
    let profile = fields(&encode(&stacks(), 5));
    let of = |number: u64| profile.iter().filter(move |(field, ..)| *field == number).collect::<Vec<_>>();
    let strings: Vec<String> = of(6).iter().map(|(_, _, text)| String::from_utf8(text.clone()).unwrap()).collect();
    assert_eq!(strings[0], "");
    assert_eq!((of(1).len(), of(2).len(), of(4).len(), of(5).len()), (2, 3, 3, 3));
    assert_eq!((of(10)[0].1, of(12)[0].1), (5_000_000_000, 1_000_000_000 / 99));
    let sample = fields(&of(2)[1].2);
    // The innermost function first: poll in main.
    let names: Vec<&str> = sample[0]
        .2
        .iter()
        .map(|id| {
            let function = fields(&of(5)[usize::from(*id) - 1].2);
            strings[function[1].1 as usize].as_str()
        })
        .collect();
    assert_eq!(names, ["poll<T>", "main"]);
    let label = fields(&sample[2].2);
    assert_eq!((&*strings[label[0].1 as usize], &*strings[label[1].1 as usize]), ("thread", "ringway-data-0"));
}
