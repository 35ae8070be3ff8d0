//! The scan of a large body in slices, so that others of the core get their turn between two. The same pass as that of small
//! ones, which stops where a slice ends and knows how it goes on. Must never read anything differently for having stopped.

use super::{FLAG, Names, Numbers, Open, STRING, Scan, forget_faulty, pass_string};
use crate::limits::JSON_DEPTH;
use crate::wire::json::{JsonFault, JsonFaultKind, Kind, Tape};

/// Where a scan in slices stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pause {
    /// It runs to its end.
    Never,
    /// Before a value.
    Value,
    /// In a string that begins at `start`.
    Text { start: usize, has_escapes: bool, is_name: bool },
    /// In the array `container` of numbers only, before one of them; the first begins at `start`.
    Numbers { container: u32, start: usize, first_end: Option<usize> },
    /// Behind the last value.
    Over,
}

/// A parse in slices, see [`parse`]: one that is larger takes as long as many small bodies.
#[derive(Debug)]
pub struct Slices {
    names: Names,
    levels: usize,
    /// How far the input is known to be UTF-8.
    checked: usize,
    at: usize,
    open: Open,
    pause: Pause,
}

impl Slices {
    pub fn new() -> Slices {
        Slices { names: Names::Checked, levels: JSON_DEPTH, checked: 0, at: 0, open: Open::new(), pause: Pause::Value }
    }

    /// As [`super::parse_outline`].
    pub fn of_outline(levels: usize) -> Slices {
        Slices { levels, ..Slices::new() }
    }

    /// Goes on for about `most` bytes. True: all is parsed. The same input and tape each time, and not after its end.
    pub fn step(&mut self, input: &[u8], tape: &mut Tape, most: usize) -> Result<bool, JsonFault> {
        if self.checked < input.len() {
            if input.len() >= u32::MAX as usize {
                return forget_faulty(tape, Err(JsonFault { offset: 0, kind: JsonFaultKind::TooLong })).map(|()| true);
            }
            let mut end = input.len().min(self.checked + most.max(UTF8_BYTES));
            // A character is not cut. What continues none, the check finds.
            if end < input.len() {
                let begins = |back: &usize| input[end - back] & 0xC0 != 0x80;
                end -= (0..UTF8_BYTES).find(begins).unwrap_or(0);
            }
            let offset = self.checked;
            let result = self.scan(&input[offset..end], tape, 0, most).check_text();
            self.checked = end;
            forget_faulty(tape, result).map_err(|fault| JsonFault { offset: offset + fault.offset, ..fault })?;
            return Ok(false);
        }
        if self.at == 0 && matches!(self.pause, Pause::Value) {
            tape.nodes.clear();
        }
        let mut open = std::mem::take(&mut self.open);
        let mut scan = self.scan(input, tape, self.at, most);
        scan.depth = open.len();
        let result = scan.run::<true>(&mut open);
        self.at = scan.at;
        self.open = open;
        forget_faulty(tape, result)?;
        Ok(matches!(self.pause, Pause::Over))
    }

    fn scan<'a>(&'a mut self, input: &'a [u8], tape: &'a mut Tape, at: usize, most: usize) -> Scan<'a> {
        let (names, levels, depth) = (self.names, self.levels, 0);
        Scan { input, at, tape, names, levels, depth, until: at.saturating_add(most), pause: &mut self.pause }
    }
}

impl Default for Slices {
    fn default() -> Slices {
        Slices::new()
    }
}

/// Longest encoding of a character.
const UTF8_BYTES: usize = 4;

impl Scan<'_> {
    /// Goes on in what the slice before has ended in. True: that was a value, and it has ended. None: this slice ends in it, too.
    pub(super) fn go_on(&mut self, open: &mut Open) -> Result<Option<bool>, JsonFault> {
        match *self.pause {
            Pause::Value | Pause::Never | Pause::Over => Ok(Some(false)),
            Pause::Text { start, has_escapes, is_name } => {
                if !self.long_string(start, has_escapes, is_name)? {
                    return Ok(None);
                }
                if is_name {
                    self.colon()?;
                }
                Ok(Some(!is_name))
            }
            Pause::Numbers { container, start, first_end } => {
                match self.numbers::<true>(container, start, first_end)? {
                    Numbers::All => {
                        self.at += 1;
                        self.close(container)?;
                        Ok(Some(true))
                    }
                    Numbers::NotAll => {
                        open.push((container, Kind::Array));
                        self.depth += 1;
                        Ok(Some(false))
                    }
                    Numbers::Paused => Ok(None),
                }
            }
        }
    }

    /// Goes on in the string that begins at `start`. False: the slice ends in it.
    pub(super) fn long_string(
        &mut self,
        start: usize,
        mut has_escapes: bool,
        is_name: bool,
    ) -> Result<bool, JsonFault> {
        let until = self.until.clamp(self.at, self.input.len());
        let is_over = pass_string(self.input, &mut self.at, until, &mut has_escapes)?;
        if is_over {
            self.at += 1;
            self.push(start, if has_escapes { STRING | FLAG } else { STRING })?;
        } else {
            *self.pause = Pause::Text { start, has_escapes, is_name };
        }
        Ok(is_over)
    }
}
