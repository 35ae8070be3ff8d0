//! Stacks as pprof reads them: the messages of github.com/google/pprof's `profile.proto`, of which a profile without
//! addresses needs few, written field by field.

use std::collections::HashMap;

/// A message that is being written (protobuf.dev, "Encoding").
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(&mut self, field: u64, value: u64) {
        self.varint(field << 3);
        self.varint(value);
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn numbers(&mut self, field: u64, values: &[u64]) {
        let mut packed = Message::default();
        values.iter().for_each(|value| packed.varint(*value));
        self.bytes(field, &packed.0);
    }
}

/// The string table, which begins with the empty string.
struct Strings {
    places: HashMap<String, u64>,
    all: Vec<String>,
}

impl Strings {
    fn place(&mut self, text: &str) -> u64 {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        let place = self.all.len() as u64;
        self.places.insert(text.to_owned(), place);
        self.all.push(text.to_owned());
        place
    }
}

/// What a kind of value is called, and its unit.
pub type Kind<'a> = (&'a str, &'a str);

/// What a profile says besides its samples.
pub struct About<'a, const VALUES: usize> {
    /// The values of each sample.
    pub values: &'a [Kind<'a>; VALUES],
    /// The one that is shown first.
    pub default: &'a str,
    pub seconds: u64,
    /// From one sample to the next.
    pub period: (Kind<'a>, u64),
    pub comments: &'a [String],
}

/// Samples are stacks as [`super::Stacks`] has them, with their values.
pub fn encode<'a, const VALUES: usize>(
    about: &About<'_, VALUES>,
    samples: impl Iterator<Item = (&'a [String], [u64; VALUES])>,
) -> Vec<u8> {
    let mut strings = Strings { places: HashMap::new(), all: Vec::new() };
    strings.place("");
    let mut profile = Message::default();
    let value_type = |strings: &mut Strings, (kind, unit): Kind<'_>| {
        let mut message = Message::default();
        message.number(1, strings.place(kind));
        message.number(2, strings.place(unit));
        message.0
    };
    // Profile.sample_type
    about.values.iter().for_each(|kind| profile.bytes(1, &value_type(&mut strings, *kind)));
    // A location and a function of the same number for each name.
    let mut functions: HashMap<&str, u64> = HashMap::new();
    let mut names = Vec::new();
    for (stack, values) in samples {
        let Some((thread, names_of)) = stack.split_first() else { continue };
        let number = |name| {
            *functions.entry(name).or_insert_with(|| {
                names.push(name);
                names.len() as u64
            })
        };
        let locations: Vec<u64> = names_of.iter().rev().map(String::as_str).map(number).collect();
        let mut sample = Message::default();
        // Sample.location_id, .value, .label
        sample.numbers(1, &locations);
        sample.numbers(2, &values);
        let mut label = Message::default();
        label.number(1, strings.place("thread"));
        label.number(2, strings.place(thread));
        sample.bytes(3, &label.0);
        profile.bytes(2, &sample.0);
    }
    for (at, name) in names.iter().enumerate() {
        let number = at as u64 + 1;
        let (mut line, mut location, mut function) = (Message::default(), Message::default(), Message::default());
        // Line.function_id; Location.id, .line; Function.id, .name
        line.number(1, number);
        location.number(1, number);
        location.bytes(4, &line.0);
        function.number(1, number);
        function.number(2, strings.place(name));
        profile.bytes(4, &location.0);
        profile.bytes(5, &function.0);
    }
    let period_type = value_type(&mut strings, about.period.0);
    let comments: Vec<u64> = about.comments.iter().map(|comment| strings.place(comment)).collect();
    let default = strings.place(about.default);
    // Profile.string_table, .duration_nanos, .period_type, .period, .comment, .default_sample_type
    strings.all.iter().for_each(|text| profile.bytes(6, text.as_bytes()));
    profile.number(10, about.seconds * 1_000_000_000);
    profile.bytes(11, &period_type);
    profile.number(12, about.period.1);
    profile.numbers(13, &comments);
    profile.number(14, default);
    profile.0
}
