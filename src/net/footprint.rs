//! The memory that a socket's reader will touch first. Among thousands of streams it is in no near cache when the next bytes
//! come: a core that knows where it is asks for it while it is busy with others, and does not wait line by line.

/// A stretch of memory, by its lines: only ever fetched, never read or written through this, and so harmless when it is
/// somebody else's by now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stretch(u64);

const LINE_BYTES: usize = 64;
/// The lowest bits say how many lines.
const COUNT_BITS: u32 = 4;
/// More of one would push out what is needed sooner.
const LINES_MAX: usize = (1 << COUNT_BITS) - 1;

/// What one reader touches.
pub type Footprint = [Stretch; 5];

impl Stretch {
    /// That of `value` itself, without what it points to.
    pub fn of<T>(value: &T) -> Stretch {
        let start = std::ptr::from_ref(value).addr();
        let first = start / LINE_BYTES;
        Stretch::from_parts(first, (start + size_of::<T>()).div_ceil(LINE_BYTES) - first)
    }

    /// And the line before: of something that stands in a future, where that has how far it is.
    pub fn with_line_before(self) -> Stretch {
        let (first, lines) = self.parts();
        Stretch::from_parts(first.saturating_sub(1), lines + 1)
    }

    fn from_parts(first: usize, lines: usize) -> Stretch {
        Stretch((first as u64) << COUNT_BITS | lines.min(LINES_MAX) as u64)
    }

    fn parts(self) -> (usize, usize) {
        ((self.0 >> COUNT_BITS) as usize, self.0 as usize & LINES_MAX)
    }

    /// Where each of its lines begins.
    pub fn lines(self) -> impl Iterator<Item = usize> {
        let (first, lines) = self.parts();
        (first..first + lines).map(|line| line * LINE_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::{LINE_BYTES, LINES_MAX, Stretch};

    #[repr(align(64))]
    struct Lines<const BYTES: usize>([u8; BYTES]);

    fn lines<T>(value: &T) -> Vec<usize> {
        Stretch::of(value).lines().collect()
    }

    #[test]
    fn a_stretch_is_every_line_that_a_value_touches_and_no_other() {
        let three = Lines([0; 3 * LINE_BYTES]);
        let start = std::ptr::from_ref(&three).addr();
        assert_eq!(lines(&three), [start, start + LINE_BYTES, start + 2 * LINE_BYTES]);
        assert_eq!(lines(&three.0[0]), [start]);
        assert_eq!(lines(&three.0[LINE_BYTES - 1]), [start]);
        let (across, _) = three.0[LINE_BYTES - 1..].split_first_chunk::<2>().expect("two bytes");
        assert_eq!(lines(across), [start, start + LINE_BYTES]);
        let before = Stretch::of(&three.0[LINE_BYTES]).with_line_before();
        assert_eq!(before.lines().collect::<Vec<_>>(), [start, start + LINE_BYTES]);
    }

    #[test]
    fn what_is_nothing_or_too_much_has_no_lines_or_few() {
        assert_eq!(Stretch::default().lines().count(), 0);
        assert_eq!(lines(&Lines([0; 99 * LINE_BYTES])).len(), LINES_MAX);
        let most = Stretch::of(&Lines([0; 99 * LINE_BYTES])).with_line_before();
        assert_eq!(most.lines().count(), LINES_MAX);
    }
}
