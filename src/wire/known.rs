//! Shapes of messages seen lately, and which of them are kept: those that were of use, and room for one that may be.

/// Shapes kept at a time: as many as models answer at once on a core, mostly.
const SHAPES: usize = 8;
/// Most messages that are let pass before one is learnt again, where what was learnt is never of use.
const PATIENCE: u32 = 256;

/// Shapes of one kind.
pub(crate) struct Known<S> {
    shapes: Vec<Kept<S>>,
    /// The one that fitted last.
    last: usize,
    /// The one that makes way for the next.
    oldest: usize,
    /// Messages that are let pass before one is learnt, and how many of these are still to come.
    patience: u32,
    passing: u32,
}

struct Kept<S> {
    shape: S,
    was_of_use: bool,
}

impl<S> Default for Known<S> {
    fn default() -> Known<S> {
        Known { shapes: Vec::new(), last: 0, oldest: 0, patience: 0, passing: 0 }
    }
}

impl<S: PartialEq> Known<S> {
    /// What the first shape that `fits` says; the one that did last is tried first.
    pub(crate) fn find<F>(&mut self, mut fits: impl FnMut(&S) -> Option<F>) -> Option<F> {
        let order = std::iter::once(self.last).chain((0..self.shapes.len()).filter(|&index| index != self.last));
        for index in order {
            if let Some(kept) = self.shapes.get_mut(index)
                && let Some(facts) = fits(&kept.shape)
            {
                if !std::mem::replace(&mut kept.was_of_use, true) {
                    self.patience = 0;
                }
                self.last = index;
                return Some(facts);
            }
        }
        None
    }

    /// Where the shape that fitted last is kept, until the next is learnt.
    pub(crate) fn last(&self) -> usize {
        self.last
    }

    pub(crate) fn kept(&self, index: usize) -> &S {
        &self.shapes[index].shape
    }

    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &S> {
        self.shapes.iter().map(|kept| &kept.shape)
    }

    /// Keeps the shape that `make` makes of a message that none fitted, if it is time to.
    pub(crate) fn learn(&mut self, make: impl FnOnce() -> Option<S>) {
        if self.passing > 0 {
            self.passing -= 1;
            return;
        }
        let Some(shape) = make() else { return };
        if self.shapes.iter().any(|kept| kept.shape == shape) {
            return; // known, but for what stood in a hole
        }
        let kept = Kept { shape, was_of_use: false };
        if self.shapes.len() < SHAPES {
            self.shapes.push(kept);
            return;
        }
        // Where each message has a shape of its own, as parts of tool calls have, it is not worth while to learn each.
        if !self.shapes[self.oldest].was_of_use {
            self.patience = (self.patience * 2).clamp(1, PATIENCE);
            self.passing = self.patience;
        }
        self.shapes[self.oldest] = kept;
        self.oldest = (self.oldest + 1) % SHAPES;
    }
}
