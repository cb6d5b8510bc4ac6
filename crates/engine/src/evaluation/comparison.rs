use super::{McNemar, Readings};

/// Two classifiers on the same examples, as a table of two by two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Number of examples.
    pub examples: usize,
    /// Accuracy of each classifier.
    pub accuracies: [f64; 2],
    /// Number of examples in each cell, in the order of [`Cell::ALL`].
    pub counts: [usize; 4],
    /// The test of whether both err equally often.
    pub mcnemar: McNemar,
}

/// A cell of the table: who reads an example rightly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Both classifiers.
    BothRight,
    /// The first one only.
    OnlyA,
    /// The second one only.
    OnlyB,
    /// Neither of them.
    BothWrong,
}

impl Cell {
    /// Every cell.
    pub const ALL: [Self; 4] = [Self::BothRight, Self::OnlyA, Self::OnlyB, Self::BothWrong];

    /// The cell of the example at `index`.
    ///
    /// # Panics
    /// If one of the classifiers has no such example.
    pub fn of(a: &Readings, b: &Readings, index: usize) -> Self {
        match (a.is_right(index), b.is_right(index)) {
            (true, true) => Self::BothRight,
            (true, false) => Self::OnlyA,
            (false, true) => Self::OnlyB,
            (false, false) => Self::BothWrong,
        }
    }
}

impl Comparison {
    /// Compares two classifiers that have read the same examples.
    ///
    /// # Panics
    /// If `b` has read fewer examples than `a`.
    pub fn of(a: &Readings, b: &Readings) -> Self {
        let mut counts = [0; Cell::ALL.len()];
        for index in 0..a.len() {
            counts[Cell::of(a, b, index) as usize] += 1;
        }
        let count = |cell: Cell| counts[cell as usize];
        Self {
            examples: a.len(),
            accuracies: [a.accuracy(), b.accuracy()],
            mcnemar: McNemar::of(count(Cell::OnlyA), count(Cell::OnlyB)),
            counts,
        }
    }

    /// Number of examples in a cell.
    pub fn count(&self, cell: Cell) -> usize {
        self.counts[cell as usize]
    }
}
