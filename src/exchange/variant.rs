//! The fingerprints beside that of a request: of its answer in one form, of the flights of those whom others do not serve.

use shards::Fingerprint;

use crate::dialect::facts::Form;

/// The bits of the last byte that say which answer to a request is meant; 254 bits of the hash stay.
const FORM_BITS: u8 = 0b11;

/// The request's own fingerprint, whichever of its answers and flights `fingerprint` names.
pub fn of_question(fingerprint: &Fingerprint) -> Fingerprint {
    let mut request = *fingerprint;
    request.0[31] &= !FORM_BITS;
    request
}

/// The flight of those to whom what is kept of the answer is too old. The same core owns it.
pub fn of_younger(fingerprint: &Fingerprint) -> Fingerprint {
    let mut younger = *fingerprint;
    younger.0[31] |= FORM_BITS;
    younger
}

/// The answer in this form and no other: where it is kept beside the form it came in, and the flight for those whom the other
/// form cannot serve. The same core owns it.
pub fn of_form(fingerprint: &Fingerprint, form: Form) -> Fingerprint {
    let mut formed = of_question(fingerprint);
    formed.0[31] |= match form {
        Form::NonStreaming => 0b01,
        Form::Streaming => 0b10,
    };
    formed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_one_question_differ_in_nothing_else() {
        let request = of_question(&Fingerprint([0xff; 32]));
        let forms = [Form::NonStreaming, Form::Streaming].map(|form| of_form(&request, form));
        assert_ne!(forms[0], forms[1]);
        assert!(!forms.contains(&of_younger(&request)));
        for formed in [forms[0], forms[1], of_younger(&request)] {
            assert_ne!(formed, request);
            assert_eq!(of_question(&formed), request);
            assert_eq!(of_form(&formed, Form::NonStreaming), forms[0], "whichever is given");
            assert_eq!(formed.prefix(), request.prefix(), "the same core owns it");
        }
    }
}
