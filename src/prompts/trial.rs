//! A template rendered with stand-ins for all variables, to find filters, tests and functions that do not exist: the engine
//! looks for them when they are called. What stands behind a condition on a value is not always reached. Owns nothing.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr, Value};
use minijinja::{Error, ErrorKind, State, Template};

/// Stands for any value, by its name: it has every member, and one element.
#[derive(Debug)]
struct Anything(String);

impl Object for Anything {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn get_value(self: &Arc<Self>, member: &Value) -> Option<Value> {
        Some(Value::from_object(Anything(format!("{}.{member}", self.0))))
    }

    /// What a request gives is no function.
    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, _: &[Value]) -> Result<Value, Error> {
        Err(Error::new(ErrorKind::UnknownFunction, format!("{} is unknown", self.0)))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(vec![Value::from("1")])
    }
}

/// The first thing that `template` calls and that does not exist; `names` are its variables.
pub fn unknown(template: &Template<'_, '_>, names: &HashSet<String>) -> Option<Error> {
    let stand_ins: [fn(&str) -> Value; 4] = [
        |name| Value::from_object(Anything(name.to_owned())),
        |_| Value::from("1"),
        |_| Value::from(1),
        |_| Value::from(false),
    ];
    stand_ins.into_iter().find_map(|stand_in| {
        let variables = Value::from_pairs(names.iter().map(|name| (name.as_str(), stand_in(name))));
        let error = template.render_captured_to(variables, io::sink()).err()?;
        let calls = [ErrorKind::UnknownFilter, ErrorKind::UnknownTest, ErrorKind::UnknownFunction];
        calls.contains(&error.kind()).then_some(error)
    })
}
