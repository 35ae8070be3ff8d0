//! What comes out of templates, and what is refused: of them when they are read, and of requests.

use serde_json::json;

use super::*;

fn definition(name: &str, version: &str, system: &str, user: &str) -> Definition {
    let texts = [(Role::System, system), (Role::User, user)];
    let texts = texts.into_iter().filter(|(_, text)| !text.is_empty());
    Definition {
        name: name.to_owned(),
        version: version.to_owned(),
        standard: Standard::IfLast,
        texts: texts.map(|(role, text)| (role, text.to_owned())).collect(),
        defaults: Map::new(),
    }
}

fn library(definitions: impl IntoIterator<Item = Definition>) -> PromptLibrary {
    let mut library = PromptLibrary::default();
    definitions.into_iter().for_each(|definition| library.add(definition).unwrap());
    library
}

/// What a template of this one text says with these variables.
fn said(text: &str, variables: &serde_json::Value) -> Result<String, RenderFault> {
    let library = library([definition("t", "1", "", text)]);
    let mut rendered = library.render("t", None, Some(variables.to_string().as_bytes()), 1 << 20)?;
    Ok(rendered.messages.remove(0).1)
}

#[test]
fn variables_of_every_kind_are_put_in() {
    let variables = json!({
        "name": "Ada \"\u{1f600}\" <b>&amp;", "count": 18446744073709551615u64, "price": 1.5, "on": true, "no": null,
        "items": ["a", "b"], "who": {"first": "Ada", "tags": [1, 2]},
    });
    let text = "{{ name }}|{{ count }}|{{ price }}|{% if on %}yes{% endif %}|{{ no is none }}|\
                {% for item in items %}{{ loop.index }}.{{ item }} {% endfor %}|{{ who.first }} {{ who.tags | sum }}";
    let expected = "Ada \"\u{1f600}\" <b>&amp;|18446744073709551615|1.5|yes|True|1.a 2.b |Ada 3";
    assert_eq!(said(text, &variables).unwrap(), expected);
    // In the order in which they came.
    let members = r#"{"all": {"z": 1, "a": 2}}"#;
    let library = library([definition("t", "1", "", "{% for name, n in all | items %}{{ name }}{{ n }} {% endfor %}")]);
    let rendered = library.render("t", None, Some(members.as_bytes()), 100).unwrap();
    assert_eq!(rendered.messages, [(Role::User, "z1 a2 ".to_owned())]);
}

#[test]
fn what_a_variable_says_is_no_template() {
    assert_eq!(said("{{ a }}", &json!({"a": "{{ b }}{% raw %}"})).unwrap(), "{{ b }}{% raw %}");
}

#[test]
fn a_version_is_had_by_name_and_the_last_or_the_marked_one_without() {
    let marked = Definition { standard: Standard::Marked, ..definition("a", "2", "", "two") };
    let library = library([
        definition("a", "1", "", "one"),
        marked,
        definition("a", "3", "", "three"),
        definition("b", "x", "", "first"),
        definition("b", "y", "sys", "second"),
    ]);
    let get =
        |name, version| library.render(name, version, None, 100).map(|got| got.messages.last().unwrap().1.clone());
    assert_eq!(get("a", Some("1")).unwrap(), "one");
    assert_eq!(get("a", None).unwrap(), "two");
    assert_eq!(get("a", Some("3")).unwrap(), "three");
    assert_eq!(get("b", None).unwrap(), "second");
    assert_eq!(
        library.templates().iter().enumerate().map(|(index, _)| library.is_standard(index)).collect::<Vec<_>>(),
        [false, true, false, false, true]
    );
    let told = get("a", Some("4")).unwrap_err();
    assert_eq!(told.to_string(), "The prompt template 'a' has no version '4'; it has '1', '2', '3'.");
    assert_eq!(told.param(), "prompt.version");
    assert_eq!(get("c", None).unwrap_err().to_string(), "There is no prompt template 'c'.");
}

#[test]
fn variables_are_neither_missing_nor_unknown() {
    let mut with_default = definition("t", "1", "Be {{ tone }}.", "{{ question }}");
    with_default.defaults = serde_json::from_value(json!({"tone": "brief"})).unwrap();
    let library = library([with_default]);
    let get = |variables: &str| library.render("t", None, Some(variables.as_bytes()), 100);
    let both = |system: &str, user: &str| vec![(Role::System, system.to_owned()), (Role::User, user.to_owned())];
    assert_eq!(get(r#"{"question":"Why?"}"#).unwrap().messages, both("Be brief.", "Why?"));
    assert_eq!(get(r#"{"question":"Why?","tone":"rude"}"#).unwrap().messages, both("Be rude.", "Why?"));
    let missing = "The prompt template 't' needs the variable 'question', which 'prompt.variables' does not have.";
    assert_eq!(get("{}").unwrap_err().to_string(), missing);
    assert_eq!(library.render("t", None, None, 100).unwrap_err().to_string(), missing);
    let extra = "The prompt template 't' has no variable 'Question'; it takes 'question', 'tone'.";
    assert_eq!(get(r#"{"question":"Why?","Question":1}"#).unwrap_err().to_string(), extra);
}

#[test]
fn what_a_value_lacks_is_told_with_its_place() {
    let told = said("Dear\n{{ who.name }}", &json!({"who": {}})).unwrap_err().to_string();
    let expected =
        "The prompt template 't' cannot be rendered with these variables: `who.name` is undefined (user, line 2).";
    assert_eq!(told, expected);
    // What a template asks for itself may be missing.
    assert_eq!(said("{{ who.name | default('you') }}", &json!({"who": {}})).unwrap(), "you");
}

#[test]
fn work_and_size_are_bounded() {
    let library = library([definition("t", "1", "{{ a }}", "{{ a }}{{ a }}")]);
    let ask = |length: usize, most| {
        library.render("t", None, Some(json!({"a": "x".repeat(length)}).to_string().as_bytes()), most)
    };
    assert!(ask(10, 30).is_ok());
    assert_eq!(ask(10, 29).unwrap_err(), RenderFault::TooLong);
    assert_eq!(ask(PROMPT_VARIABLES, 1 << 30).unwrap_err(), RenderFault::VariablesTooLarge);
    let endless = "{% for a in range(99999) %}{% for b in range(99999) %}{{ n }}{% endfor %}{% endfor %}";
    assert_eq!(said(endless, &json!({"n": ""})).unwrap_err(), RenderFault::TooMuchWork);
    let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(500), "]".repeat(500));
    let told = library.render("t", None, Some(deep.as_bytes()), 100).unwrap_err();
    assert!(matches!(told, RenderFault::Unreadable { .. }), "{told}");
    let told = library.render("t", None, Some(br#"{"a":"\ud800"}"#), 100).unwrap_err();
    assert!(matches!(told, RenderFault::Unreadable { .. }), "{told}");
}

const PROMPT_VARIABLES: usize = crate::limits::PROMPT_VARIABLES_BYTES;

#[test]
fn nothing_leads_out_of_a_template() {
    for text in [
        "{% include 'other' %}",
        "{% import '/etc/passwd' as p %}",
        "{% extends 'other' %}",
        "{{ debug() }}",
        "{{ a | nosuch }}",
        "{% if a is nosuch %}{% endif %}",
        "{% for b in a %}{{ nosuch(b) }}{% endfor %}",
        "{% if a == 7 %}{% else %}{{ a | nosuch }}{% endif %}",
    ] {
        let told = PromptLibrary::default().add(definition("t", "1", "", text));
        assert!(told.is_err(), "{text}");
    }
}

#[test]
fn a_fault_of_a_text_has_its_line() {
    let told = PromptLibrary::default().add(definition("t", "1", "fine", "one\ntwo {{ a\n")).unwrap_err();
    let [CompileFault::Text { role: Role::User, line, what }] = &told[..] else { panic!("{told:?}") };
    assert!((2..=3).contains(line) && what.contains("unexpected"), "{line}: {what}");
    let mut unused = definition("t", "1", "", "{{ a }}");
    unused.defaults = serde_json::from_value(json!({"b": 1})).unwrap();
    assert_eq!(PromptLibrary::default().add(unused), Err(vec![CompileFault::Default { variable: "b".to_owned() }]));
}

#[test]
fn variables_that_a_text_makes_itself_are_not_asked_for() {
    let text = "{% set n = namespace(i=0) %}{% for a in list %}{% set n.i = n.i + a %}{% endfor %}{{ n.i }} {{ range(2) | list }}";
    let library = library([definition("t", "1", "", text)]);
    assert_eq!(library.templates()[0].variables.iter().collect::<Vec<_>>(), ["list"]);
    assert_eq!(said(text, &json!({"list": [1, 2]})).unwrap(), "3 [0, 1]");
}
