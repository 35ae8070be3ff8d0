//! Which core gives client connections to which, so that a busy core's long-lived connections come to idle ones. Every core
//! decides for itself, from what each has published of its last interval. A pure function of that, so that no two agree otherwise.

/// From this on the demand is more than a core has: its connections count, as its time cannot say how much it lacks.
pub const FULL_PERMILLE: u16 = 900;
/// A core below this needs no help.
pub const LEAST_PERMILLE: u16 = 250;
/// By so much a core has to be busier than the one that it gives to will be. With as much between "full" and all of the time, no two
/// cores pass a connection that fills one of them back and forth.
const MARGIN_PERMILLE: u32 = 1000 - FULL_PERMILLE as u32;
/// From this on a core has no room for what a full one has too much, and shares as if it were full, too.
const NO_ROOM_PERMILLE: u16 = FULL_PERMILLE - MARGIN_PERMILLE as u16;
/// Most connections given in one interval: of more it is not known what they would do there.
pub const GIVEN_AT_ONCE: u16 = 8;
/// Intervals after a gift in which the core gives nothing: until both have published one without and one with what was moved.
pub const REST_INTERVALS: u8 = 3;

/// What one core did in its last interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoreLoad {
    /// The part of the time in which it did not wait.
    pub busy_permille: u16,
    /// Connections that had a request.
    pub active: u16,
}

impl CoreLoad {
    /// Busiest first. Cores that are full differ by their connections alone.
    fn rank(self) -> (u16, u16) {
        (if self.is_full() { 1000 } else { self.busy_permille.min(1000) }, self.active)
    }

    fn is_full(self) -> bool {
        self.busy_permille >= FULL_PERMILLE
    }

    fn has_no_room(self) -> bool {
        self.busy_permille >= NO_ROOM_PERMILLE
    }
}

/// Connections to give away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gift {
    /// The core that gets them.
    pub to: usize,
    pub count: u16,
}

/// What one core remembers of its gifts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Giver {
    resting: u8,
}

impl Giver {
    /// The gift of core `own` in the interval that begins now.
    pub fn next(&mut self, own: usize, loads: &[CoreLoad]) -> Option<Gift> {
        if self.resting > 0 {
            self.resting -= 1;
            return None;
        }
        let gift = gift(own, loads);
        if gift.is_some() {
            self.resting = REST_INTERVALS;
        }
        gift
    }
}

/// The busiest core gives to the one with the least to do, the next busiest to the next, and so on: nobody gets from two.
fn gift(own: usize, loads: &[CoreLoad]) -> Option<Gift> {
    let mine = *loads.get(own)?;
    if mine.active < 2 || mine.busy_permille < LEAST_PERMILLE {
        return None;
    }
    let key = |place: usize| (loads[place].rank(), place);
    let busier = (0..loads.len()).filter(|&place| key(place) > key(own)).count();
    // As far from the other end. Selected without a list: cores are few.
    let to =
        (0..loads.len()).find(|&place| (0..loads.len()).filter(|&other| key(other) < key(place)).count() == busier)?;
    if key(to) >= key(own) {
        return None;
    }
    let count = how_many(mine, loads[to]);
    (count > 0).then_some(Gift { to, count })
}

/// How many connections make two cores alike; none if that would only change their roles.
fn how_many(mine: CoreLoad, other: CoreLoad) -> u16 {
    let count = if mine.is_full() && other.has_no_room() {
        mine.active.saturating_sub(other.active) / 2
    } else {
        let (busy, theirs) = (u32::from(mine.busy_permille.min(1000)), u32::from(other.busy_permille.min(1000)));
        let each = (busy / u32::from(mine.active)).max(1);
        let half = busy.saturating_sub(theirs) / (2 * each);
        let count = half.max(1).min(u32::from(mine.active) - 1);
        if theirs + count * each + MARGIN_PERMILLE > busy {
            return 0;
        }
        count as u16
    };
    count.min(GIVEN_AT_ONCE)
}

#[cfg(test)]
mod tests;
