//! Aligned columns.

use super::paint::{Paint, tone};

/// Rows under a heading; the last column is as wide as it wants to be.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new<const N: usize>(heading: [&str; N]) -> Self {
        Self { rows: vec![heading.map(str::to_uppercase).to_vec()] }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    /// The lines; words of state are coloured below the heading. Empty columns are left out.
    pub(super) fn render(&self, paint: Paint) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let cell = |row: &'_ Vec<String>, column: usize| row.get(column).cloned().unwrap_or_default();
        let filled = |column: &usize| self.rows.iter().skip(1).any(|row| !cell(row, *column).is_empty());
        let shown: Vec<usize> = (0..columns).filter(filled).collect();
        let width =
            |column: usize| self.rows.iter().map(|row| cell(row, column).chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        for (place, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for column in &shown {
                let cell = cell(row, *column);
                let gap = " ".repeat((width(*column) + 2).saturating_sub(cell.chars().count()));
                let painted = if place == 0 { cell } else { paint.word(tone(&cell), &cell) };
                line.push_str(&painted);
                line.push_str(&gap);
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}
