//! A form that comes in pieces and is not kept: finds a field as [`super::field`] does, and refuses what that refuses. Holds a
//! part's head or the beginning of a delimiter, never a content.

use memchr::memmem;

use super::{FormFault, is_field};

/// Longest head of a part. Real ones have a few hundred bytes.
const HEAD_BYTES: usize = 16 << 10;
/// Most white space behind a boundary.
const PADDING_BYTES: usize = 256;

/// A form on its way.
#[derive(Debug)]
pub struct FormReader {
    marker: Vec<u8>,
    wanted: &'static str,
    /// What is not done with, and its offset in the form.
    pub(super) window: Vec<u8>,
    offset: u64,
    /// Up to where in the window no delimiter begins.
    at: usize,
    place: Place,
    found: Option<(u64, u64)>,
    is_late: bool,
}

/// Offsets in the form.
#[derive(Clone, Copy, Debug)]
enum Place {
    Preamble,
    Head { begin: u64 },
    Content { begin: u64, is_wanted: bool },
    Epilogue,
}

impl FormReader {
    /// With this boundary, in search of the field `wanted`.
    pub fn new(boundary: &[u8], wanted: &'static str) -> FormReader {
        FormReader {
            marker: [b"--", boundary].concat(),
            wanted,
            window: Vec::new(),
            offset: 0,
            at: 0,
            place: Place::Preamble,
            found: None,
            is_late: false,
        }
    }

    /// Where the content of the field begins and ends, if it has come whole.
    pub fn found(&self) -> Option<(u64, u64)> {
        self.found
    }

    /// From now on the field may not come any more, first or again.
    pub fn close_search(&mut self) -> Result<(), FormFault> {
        self.is_late = true;
        match self.place {
            Place::Content { is_wanted: true, .. } => Err(FormFault::Late),
            _ => Ok(()),
        }
    }

    /// Takes the next piece.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), FormFault> {
        self.window.extend_from_slice(bytes);
        self.read(More::Comes)?;
        // What may be the beginning of a delimiter, and the line end in front of it.
        let kept = match self.place {
            Place::Head { begin } => self.window.len() - (begin - self.offset) as usize + 2,
            _ => self.window.len() - self.at + 2,
        };
        let done = self.window.len().saturating_sub(kept);
        self.window.drain(..done);
        self.offset += done as u64;
        self.at -= done;
        Ok(())
    }

    /// The form ends here: whether it is whole.
    pub fn finish(&mut self) -> Result<(), FormFault> {
        self.read(More::Ends)?;
        match self.place {
            Place::Epilogue => Ok(()),
            _ => Err(FormFault::NoEnd),
        }
    }

    fn read(&mut self, more: More) -> Result<(), FormFault> {
        while let Some(found) = memmem::find(&self.window[self.at..], &self.marker) {
            let start = self.at + found;
            let is_first = self.offset == 0 && start == 0;
            if !is_first && !matches!(self.window[start - 1], b'\r' | b'\n') {
                self.at = start + 1;
                continue;
            }
            let is_over = matches!(self.place, Place::Epilogue);
            if is_over || !is_first && !self.window[..start].ends_with(b"\r\n") {
                return Err(FormFault::Delimiter);
            }
            let Some((length, closing)) = delimiter(&self.window[start + self.marker.len()..], more)? else {
                self.at = start;
                break;
            };
            self.end_part(start)?;
            self.at = start + self.marker.len() + length;
            let begin = self.offset + self.at as u64;
            self.place = if closing { Place::Epilogue } else { Place::Head { begin } };
        }
        if !self.window[self.at..].starts_with(&self.marker) {
            self.at = self.at.max(self.window.len().saturating_sub(self.marker.len() - 1));
        }
        self.read_head(self.window.len())?;
        match self.place {
            Place::Head { begin } if self.window.len() as u64 + self.offset - begin > HEAD_BYTES as u64 => {
                Err(FormFault::Head)
            }
            _ => Ok(()),
        }
    }

    /// Reads the head of the part at hand, if it is here up to `end` of the window.
    fn read_head(&mut self, end: usize) -> Result<(), FormFault> {
        let Place::Head { begin } = self.place else { return Ok(()) };
        let part = &self.window[((begin - self.offset) as usize).min(end)..end];
        let Some(length) = memmem::find(part, b"\r\n\r\n") else { return Ok(()) };
        let is_wanted = is_field(&part[..length], self.wanted)?;
        if is_wanted && self.is_late {
            return Err(if self.found.is_some() { FormFault::Twice } else { FormFault::Late });
        }
        if is_wanted && self.found.is_some() {
            return Err(FormFault::Twice);
        }
        self.place = Place::Content { begin: begin + length as u64 + 4, is_wanted };
        Ok(())
    }

    /// A delimiter begins at `start` of the window: the part before it ends in front of its line.
    fn end_part(&mut self, start: usize) -> Result<(), FormFault> {
        self.read_head(start)?;
        let end = (self.offset + start as u64).saturating_sub(2);
        match self.place {
            Place::Content { begin, .. } if end < begin => Err(FormFault::Head),
            Place::Content { begin, is_wanted: true } => {
                self.found = Some((begin, end));
                Ok(())
            }
            Place::Head { .. } => Err(FormFault::Head),
            _ => Ok(()),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum More {
    Comes,
    Ends,
}

/// What follows a marker: its length with the line end, and whether it closes the form. `None`: more has to come to tell.
fn delimiter(rest: &[u8], more: More) -> Result<Option<(usize, bool)>, FormFault> {
    let may_come = more == More::Comes;
    if may_come && rest.len() < 2 {
        return Ok(None);
    }
    let closing = rest.starts_with(b"--");
    let behind = if closing { &rest[2..] } else { rest };
    let padding = behind.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let line_end = &behind[padding..];
    if line_end.starts_with(b"\r\n") || closing && line_end.is_empty() && !may_come {
        let length = rest.len() - line_end.len();
        return Ok(Some((if closing { length } else { length + 2 }, closing)));
    }
    let is_open = may_come && b"\r\n".starts_with(line_end) && padding <= PADDING_BYTES;
    if is_open { Ok(None) } else { Err(FormFault::Delimiter) }
}
