//! `rounds.png`: accuracy above, overlap below, a column for each run.

use std::io;

use super::super::figures::Figure;
use super::RunFigures;
use super::canvas::{Anchor, Canvas, fit};
use super::panel::{LABELS, Line, Panel};
use super::series::{Curve, LayerSeries, curve, overlap};
use super::style::{BODY, FADED, GREY, INK, LAYERS, TITLE, dashed, dotted, solid};

/// More runs than this make a picture that no page holds.
const MAX_RUNS: usize = 9;
/// Runs beside each other; further ones go below.
const MAX_COLUMNS: usize = 3;
/// Room for the vertical axis.
const LEFT: f64 = 62.0;
const GAP: f64 = 14.0;
const PANEL_HEIGHT: f64 = 165.0;
/// From the lower edge of a panel to whatever follows, past the numbers of the rounds.
const BELOW: f64 = 26.0;
const HEADING: f64 = 34.0;
const NOTES: f64 = 44.0;

/// One column's numbers.
struct Column<'a> {
    name: &'a str,
    all: Curve,
    trained: Curve,
    layers: Vec<LayerSeries>,
}

/// Where things go.
struct Layout {
    columns: usize,
    panel_width: f64,
    band_height: f64,
    /// Whether any run has overlaps to show.
    overlaps: bool,
    rounds: (usize, usize),
}

/// Draws it.
pub fn picture(runs: &[RunFigures<'_>]) -> io::Result<Canvas> {
    let columns: Vec<Column> = runs.iter().take(MAX_RUNS).map(Column::new).collect();
    let layout = Layout::new(&columns);
    let bands = columns.len().div_ceil(layout.columns).max(1);
    let width = LEFT + layout.columns as f64 * (layout.panel_width + LABELS + GAP);
    let mut canvas = Canvas::new(width, bands as f64 * layout.band_height + NOTES);
    for (i, column) in columns.iter().enumerate() {
        draw_column(&mut canvas, &layout, i, column)?;
    }
    notes(&mut canvas, &layout, &columns, runs.len())?;
    Ok(canvas)
}

impl<'a> Column<'a> {
    fn new(run: &RunFigures<'a>) -> Self {
        Self {
            name: run.name,
            all: curve(run.rounds, &Figure::Accuracy),
            trained: curve(run.rounds, &Figure::TrainedAccuracy),
            layers: overlap(run.rounds),
        }
    }

    fn rounds(&self) -> impl Iterator<Item = usize> {
        let overlaps = self.layers.iter().flat_map(|layer| &layer.iou.mean);
        self.all.mean.iter().chain(overlaps).map(|(round, _)| *round)
    }

    /// As many layers as there are colours, evenly spaced from the first to the last.
    fn shown_layers(&self) -> Vec<&LayerSeries> {
        let (count, most) = (self.layers.len(), LAYERS.len());
        let index = |i: usize| if count <= most { i } else { i * (count - 1) / (most - 1) };
        (0..count.min(most)).filter_map(|i| self.layers.get(index(i))).collect()
    }
}

impl Layout {
    fn new(columns: &[Column]) -> Self {
        let bands = columns.len().div_ceil(MAX_COLUMNS).max(1);
        let across = columns.len().div_ceil(bands).max(1);
        let overlaps = columns.iter().any(|column| !column.layers.is_empty());
        let panels = if overlaps { 2.0 } else { 1.0 };
        let rounds = || columns.iter().flat_map(Column::rounds);
        Self {
            columns: across,
            panel_width: [430.0, 335.0, 195.0][across.min(3) - 1],
            band_height: HEADING + panels * (PANEL_HEIGHT + BELOW),
            overlaps,
            // The same for all runs, so that they compare at a glance.
            rounds: (rounds().min().unwrap_or(1), rounds().max().unwrap_or(1)),
        }
    }

    /// The upper panel of a column and the lower one.
    fn panels(&self, column: usize) -> [Panel; 2] {
        let left = LEFT + (column % self.columns) as f64 * (self.panel_width + LABELS + GAP);
        let top = (column / self.columns) as f64 * self.band_height + HEADING;
        [0.0, PANEL_HEIGHT + BELOW].map(|below| Panel {
            left,
            top: top + below,
            width: self.panel_width,
            height: PANEL_HEIGHT,
            rounds: self.rounds,
        })
    }
}

fn draw_column(canvas: &mut Canvas, layout: &Layout, i: usize, column: &Column) -> io::Result<()> {
    let [upper, lower] = layout.panels(i);
    let title = fit(column.name, TITLE, upper.width + LABELS)?;
    canvas.text(&title, TITLE, INK, (upper.left, upper.top - 18.0), Anchor::Start)?;
    let first = i.is_multiple_of(layout.columns);
    upper.axes(canvas, &[(0.0, "0"), (0.25, "25"), (0.5, "50"), (0.75, "75"), (1.0, "100")], first)?;
    draw_accuracy(canvas, &upper, column)?;
    if first {
        vertical_title(canvas, &upper, "test accuracy (%)")?;
    }
    if layout.overlaps {
        lower.axes(canvas, &[(0.0, "0"), (0.25, "0.25"), (0.5, "0.5"), (0.75, "0.75"), (1.0, "1")], first)?;
        draw_overlaps(canvas, &lower, column)?;
        if first {
            vertical_title(canvas, &lower, "local-global IoU")?;
        }
    }
    Ok(())
}

fn draw_accuracy(canvas: &mut Canvas, panel: &Panel, column: &Column) -> io::Result<()> {
    if column.all.mean.is_empty() {
        return panel.remark(canvas, "no rounds yet");
    }
    let all = Line { curve: &column.all, stroke: solid(INK), label: Some("all classes") };
    let trained = Line { curve: &column.trained, stroke: dashed(GREY), label: Some("trained") };
    panel.lines(canvas, &[all, trained])
}

fn draw_overlaps(canvas: &mut Canvas, panel: &Panel, column: &Column) -> io::Result<()> {
    if column.layers.is_empty() {
        return panel.remark(canvas, "no circuits to compare");
    }
    let layers = || column.shown_layers().into_iter().zip(LAYERS);
    let chance = layers().map(|(layer, color)| Line { curve: &layer.chance, stroke: dotted(color), label: None });
    let found =
        layers().map(|(layer, color)| Line { curve: &layer.iou, stroke: solid(color), label: Some(&layer.layer) });
    panel.lines(canvas, &chance.chain(found).collect::<Vec<_>>())
}

fn vertical_title(canvas: &mut Canvas, panel: &Panel, text: &str) -> io::Result<()> {
    canvas.text_upwards(text, BODY, INK, (14.0, panel.top + panel.height / 2.0))
}

/// The name of the horizontal axis, and what the lines do not say themselves.
fn notes(canvas: &mut Canvas, layout: &Layout, columns: &[Column], runs: usize) -> io::Result<()> {
    let y = canvas.height - NOTES + 6.0;
    for column in 0..columns.len().min(layout.columns) {
        let [panel, _] = layout.panels(column);
        canvas.text("round", BODY, INK, (panel.left + panel.width / 2.0, y), Anchor::Middle)?;
    }
    let mut notes = Vec::new();
    if layout.overlaps {
        notes.push("dotted: overlap of random circuits as large".to_string());
    }
    if columns.iter().any(|column| column.all.low.iter().any(|(_, low)| low.is_some())) {
        notes.push("bands: 95% intervals of means over seeds".to_string());
    }
    if let Some(column) = columns.iter().find(|column| column.layers.len() > LAYERS.len()) {
        notes.push(format!("{} of {} layers", LAYERS.len(), column.layers.len()));
    }
    if runs > columns.len() {
        notes.push(format!("the first {} of {runs} runs", columns.len()));
    }
    let text = fit(&notes.join("; "), BODY, canvas.width - LEFT)?;
    canvas.text(&text, BODY, FADED, (LEFT, y + 20.0), Anchor::Start)
}
