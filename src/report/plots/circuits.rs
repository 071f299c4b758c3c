//! `circuits.png`: the channels of every circuit of the last round.

use std::io;

use super::RunFigures;
use super::canvas::{Anchor, Canvas, RGBColor, fit, text_width};
use super::channel_map::{ChannelMap, Kept, Row};
use super::style::{BODY, FADED, INK, PALE, SKY_BLUE, TITLE, VERMILION};

/// More rows than this do not fit a page.
const MAX_ROWS: usize = 24;
const WIDTH: f64 = 900.0;
const MARGIN: f64 = 14.0;
const ROW: f64 = 15.0;
/// White between rows.
const ROW_GAP: f64 = 2.0;
/// More white where the next client begins.
const CLIENT_GAP: f64 = 5.0;
/// White between layers.
const BLOCK_GAP: f64 = 12.0;
/// Cells of small layers do not grow beyond this.
const MAX_CELL: f64 = 14.0;
/// Title, legend and the layers' names.
const HEAD: f64 = 78.0;
const FOOT: f64 = 34.0;
/// Room for the longest label of a row.
const MAX_LABEL: f64 = 190.0;

/// Layers side by side.
struct Blocks {
    left: f64,
    cell: f64,
}

/// Draws it.
pub fn picture(run: &RunFigures<'_>) -> io::Result<Canvas> {
    let map = ChannelMap::new(run);
    let rows = &map.rows[..map.rows.len().min(MAX_ROWS)];
    let tops = row_tops(rows);
    let bottom = tops.last().map_or(HEAD + ROW, |top| top + ROW);
    let mut canvas = Canvas::new(WIDTH, bottom + FOOT);
    title(&mut canvas, run.name, &map)?;
    if rows.is_empty() {
        canvas.text("no circuits to show", BODY, FADED, (MARGIN, HEAD), Anchor::Start)?;
    } else if map.layers.iter().all(|(_, count)| *count == 0) {
        canvas.text("the circuits keep no channel", BODY, FADED, (MARGIN, HEAD), Anchor::Start)?;
    } else {
        legend(&mut canvas)?;
        let blocks = Blocks::new(&map, rows)?;
        blocks.headings(&mut canvas, &map, bottom)?;
        for (row, top) in rows.iter().zip(tops) {
            blocks.row(&mut canvas, &map, row, top)?;
        }
    }
    remarks(&mut canvas, &map, rows.len())?;
    Ok(canvas)
}

/// Upper edges of the rows.
fn row_tops(rows: &[Row]) -> Vec<f64> {
    let mut top = HEAD;
    let mut tops = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        if i > 0 {
            top += ROW + ROW_GAP + if rows[i - 1].client == row.client { 0.0 } else { CLIENT_GAP };
        }
        tops.push(top);
    }
    tops
}

fn label(row: &Row) -> String {
    format!("client {}, {}", row.client, row.class)
}

/// Apart in lightness too, so that they survive a printer without colours.
fn color(kept: Kept) -> RGBColor {
    match kept {
        Kept::Both => INK,
        Kept::Local => VERMILION,
        Kept::Global => SKY_BLUE,
    }
}

fn title(canvas: &mut Canvas, name: &str, map: &ChannelMap) -> io::Result<()> {
    let text = if map.round > 0 { format!("{name}: circuits of round {}", map.round) } else { name.to_string() };
    let text = fit(&text, TITLE, WIDTH - 2.0 * MARGIN)?;
    canvas.text(&text, TITLE, INK, (MARGIN, 18.0), Anchor::Start)
}

fn legend(canvas: &mut Canvas) -> io::Result<()> {
    let entries = [
        (color(Kept::Both), "in the local and the global circuit"),
        (color(Kept::Local), "only local (lost)"),
        (color(Kept::Global), "only global (new)"),
        (PALE, "in neither"),
    ];
    let (mut x, y) = (MARGIN, 38.0);
    for (color, text) in entries {
        canvas.rectangle((x, y - 5.0), (10.0, 10.0), color)?;
        canvas.text(text, BODY, INK, (x + 15.0, y), Anchor::Start)?;
        x += 15.0 + text_width(text, BODY)? + 22.0;
    }
    Ok(())
}

impl Blocks {
    fn new(map: &ChannelMap, rows: &[Row]) -> io::Result<Self> {
        let mut label_width = 0.0f64;
        for row in rows {
            label_width = label_width.max(text_width(&label(row), BODY)?);
        }
        let left = MARGIN + label_width.min(MAX_LABEL) + 10.0;
        let channels: usize = map.layers.iter().map(|(_, count)| count).sum();
        let gaps = map.layers.len().saturating_sub(1) as f64 * BLOCK_GAP;
        let room = (WIDTH - MARGIN - left - gaps).max(100.0);
        Ok(Self { left, cell: (room / channels.max(1) as f64).min(MAX_CELL) })
    }

    /// Each layer's left edge and width.
    fn spans(&self, map: &ChannelMap) -> Vec<(f64, f64)> {
        let mut left = self.left;
        let span = |(_, count): &(String, usize)| {
            let width = *count as f64 * self.cell;
            let span = (left, width);
            left += width + BLOCK_GAP;
            span
        };
        map.layers.iter().map(span).collect()
    }

    /// Names above, the first channel's number and the last one's below.
    fn headings(&self, canvas: &mut Canvas, map: &ChannelMap, bottom: f64) -> io::Result<()> {
        for ((name, count), (left, width)) in map.layers.iter().zip(self.spans(map)) {
            let name = fit(name, BODY, width + BLOCK_GAP - 4.0)?;
            canvas.text(&name, BODY, INK, (left, HEAD - 10.0), Anchor::Start)?;
            let last = count.saturating_sub(1).to_string();
            if width > 20.0 + text_width(&last, BODY)? {
                canvas.text("0", BODY, FADED, (left, bottom + 9.0), Anchor::Start)?;
                canvas.text(&last, BODY, FADED, (left + width, bottom + 9.0), Anchor::End)?;
            }
        }
        Ok(())
    }

    fn row(&self, canvas: &mut Canvas, map: &ChannelMap, row: &Row, top: f64) -> io::Result<()> {
        let text = fit(&label(row), BODY, MAX_LABEL)?;
        canvas.text(&text, BODY, INK, (self.left - 8.0, top + ROW / 2.0), Anchor::End)?;
        // Of wide cells the edges show; a channel of a very wide layer must at least be seen.
        let shown = if self.cell >= 3.0 { self.cell - 0.5 } else { self.cell.max(1.0) };
        for (kept, (left, width)) in row.kept.iter().zip(self.spans(map)) {
            canvas.rectangle((left, top), (width, ROW), PALE)?;
            for &(channel, kept) in kept {
                let x = left + f64::from(channel) * self.cell;
                canvas.rectangle((x, top), (shown, ROW), color(kept))?;
            }
        }
        Ok(())
    }
}

/// What the picture leaves out.
fn remarks(canvas: &mut Canvas, map: &ChannelMap, shown: usize) -> io::Result<()> {
    let mut remarks = Vec::new();
    if shown < map.rows.len() {
        remarks.push(format!("the first {shown} of {} circuits; circuits.json has them all", map.rows.len()));
    }
    if map.single > 0 {
        remarks.push(format!("{} without a counterpart in the other model left out", map.single));
    }
    let text = fit(&remarks.join("; "), BODY, WIDTH - 2.0 * MARGIN)?;
    canvas.text(&text, BODY, FADED, (MARGIN, canvas.height - 10.0), Anchor::Start)
}
