//! A small cache of message templates, replaced in turn, and less often while those replaced have never matched.

/// Templates kept: roughly as many as there are models in use on a core.
const TEMPLATES_MAX: usize = 8;
/// Most messages to skip before caching another, while cached templates never match.
const SKIPPED_MAX: u32 = 256;

/// Templates of one kind.
pub(crate) struct TemplateCache<S> {
    shapes: Vec<Kept<S>>,
    /// The one that matched last.
    last: usize,
    /// The one to be replaced next.
    oldest: usize,
    /// Messages to skip before caching another, and how many of these remain.
    patience: u32,
    skips_left: u32,
}

struct Kept<S> {
    shape: S,
    has_matched: bool,
}

impl<S> Default for TemplateCache<S> {
    fn default() -> TemplateCache<S> {
        TemplateCache { shapes: Vec::new(), last: 0, oldest: 0, patience: 0, skips_left: 0 }
    }
}

impl<S: PartialEq> TemplateCache<S> {
    /// The result of the first template that `fits`; the last match is tried first.
    pub(crate) fn find<F>(&mut self, mut fits: impl FnMut(&S) -> Option<F>) -> Option<F> {
        let order = std::iter::once(self.last).chain((0..self.shapes.len()).filter(|&index| index != self.last));
        for index in order {
            if let Some(kept) = self.shapes.get_mut(index)
                && let Some(facts) = fits(&kept.shape)
            {
                if !std::mem::replace(&mut kept.has_matched, true) {
                    self.patience = 0;
                }
                self.last = index;
                return Some(facts);
            }
        }
        None
    }

    /// Index of the template that matched last; valid until the next one is cached.
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

    /// Caches the template that `make` creates from a message that matched none, unless messages are being skipped.
    pub(crate) fn learn(&mut self, make: impl FnOnce() -> Option<S>) {
        if self.skips_left > 0 {
            self.skips_left -= 1;
            return;
        }
        let Some(shape) = make() else { return };
        if self.shapes.iter().any(|kept| kept.shape == shape) {
            return; // cached already; only a slot did not match
        }
        let kept = Kept { shape, has_matched: false };
        if self.shapes.len() < TEMPLATES_MAX {
            self.shapes.push(kept);
            return;
        }
        // If each message has a template of its own, like parts of tool calls, caching each of them is not worth its
        // cost.
        if !self.shapes[self.oldest].has_matched {
            self.patience = (self.patience * 2).clamp(1, SKIPPED_MAX);
            self.skips_left = self.patience;
        }
        self.shapes[self.oldest] = kept;
        self.oldest = (self.oldest + 1) % TEMPLATES_MAX;
    }
}
