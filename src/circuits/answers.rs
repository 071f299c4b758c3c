//! What a circuit answers: which test images it is shown, and what the counts of its predictions say.

/// The test images for the circuits of each class: all of the class, and `others` of each other class, evenly taken.
pub(super) fn probes(members: &[Vec<u32>], others: usize) -> Vec<Vec<u32>> {
    (0..members.len())
        .map(|class| {
            let rest = members.iter().enumerate().filter(|(other, _)| *other != class);
            members[class].iter().copied().chain(rest.flat_map(|(_, list)| evenly(list, others))).collect()
        })
        .collect()
}

/// `n` of `list` (all, if it has fewer), evenly taken.
pub(super) fn evenly(list: &[u32], n: usize) -> Vec<u32> {
    let n = n.min(list.len());
    (0..n).map(|i| list[i * list.len() / n]).collect()
}

/// Predictions counted by true class and predicted class, as seen from one class.
pub(super) struct Answers {
    /// `[classes][classes]`.
    counts: Vec<u32>,
    classes: usize,
    class: usize,
}

impl Answers {
    /// `counts` is a square table.
    pub fn new(counts: Vec<u32>, class: u32) -> Self {
        Self { classes: counts.len().isqrt(), counts, class: class as usize }
    }

    /// Share of the images of the class that were called so.
    pub fn accuracy(&self) -> f64 {
        let row = self.by_prediction();
        f64::from(row[self.class]) / f64::from(row.iter().sum::<u32>())
    }

    /// The images of the class by what they were called: `[classes]`.
    pub fn by_prediction(&self) -> &[u32] {
        &self.counts[self.class * self.classes..][..self.classes]
    }

    /// Of the other classes' images, the share for which `right` is counted: (true class, count by prediction).
    fn share(&self, right: impl Fn(usize, &[u32]) -> u32) -> f64 {
        let rows = self.counts.chunks_exact(self.classes).enumerate().filter(|(t, _)| *t != self.class);
        let (right, all) = rows.fold((0, 0), |(r, a), (t, row)| (r + right(t, row), a + row.iter().sum::<u32>()));
        f64::from(right) / f64::from(all)
    }

    /// Share of the other classes' images that were called this class.
    pub fn false_positive(&self) -> f64 {
        self.share(|_, row| row[self.class])
    }

    /// Accuracy on the other classes.
    pub fn others(&self) -> f64 {
        self.share(|t, row| row[t])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_probed_with_all_its_images_and_some_of_each_other() {
        let members = vec![vec![0, 3, 6], vec![1, 4, 7, 10], vec![2]];
        assert_eq!(probes(&members, 2), [vec![0, 3, 6, 1, 7, 2], vec![1, 4, 7, 10, 0, 3, 2], vec![2, 0, 3, 1, 7]]);
        assert_eq!(probes(&members, 0), members);
    }

    #[test]
    fn shares_by_hand() {
        // Class 1: 6 of 8 right. Of 10 others, 3 are called class 1 and 5 are right.
        let answers = Answers::new(vec![4, 1, 0, 1, 6, 1, 2, 2, 1], 1);
        assert_eq!(answers.accuracy(), 0.75);
        assert_eq!(answers.false_positive(), 0.3);
        assert_eq!(answers.others(), 0.5);
        assert_eq!(answers.by_prediction(), [1, 6, 1]);
        let none = Answers::new(vec![0; 9], 1);
        assert!(none.accuracy().is_nan() && none.false_positive().is_nan());
    }
}
