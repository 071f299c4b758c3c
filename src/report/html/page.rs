//! The page.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::drawing::scene::Scene;
use super::drawing::svg;
use super::figures::Figure;
use super::reading::run::Run;
use super::tables::Table;
use super::words::Words;
use crate::report::begin::EXPERIMENT;

const CSS: &str = include_str!("../../../assets/report/report.css");
const SCRIPT: &str = include_str!("../../../assets/report/report.js");
/// Nothing is loaded from anywhere.
pub const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:";
/// How the title of every report ends.
pub const SUFFIX: &str = " – fedcircuit";
/// Pictures wider than a phone scroll sideways instead of shrinking until nothing can be read.
const SCROLLING: f64 = 360.0;
/// Of a file that is shown as it stands.
const MAX_TEXT: usize = 60_000;

/// Everything on it.
pub struct Page<'a> {
    /// At its top.
    pub title: String,
    /// One, or those compared.
    pub runs: &'a [Run],
    /// Before the figures.
    pub words: Words,
    /// In their order.
    pub figures: &'a [Figure],
    /// After the figures.
    pub tables: &'a [Table],
}

impl Page<'_> {
    /// As one file that needs no other.
    pub fn html(&self) -> String {
        let colors = format!(":root{{{}}}{}", svg::LIGHT, svg::style());
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta http-equiv="Content-Security-Policy" content=(POLICY);
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (self.title) (SUFFIX) }
                    style { (PreEscaped(colors)) (PreEscaped(CSS)) }
                }
                body {
                    header {
                        h1 { (self.title) }
                        p.meta { (self.about()) }
                    }
                    main {
                        (self.summary())
                        (self.contents())
                        @for figure in self.figures { (figure_section(figure)) }
                        @for table in self.tables { (table_section(table)) }
                        @for (i, run) in self.runs.iter().enumerate() { (configuration(run, i, self.runs.len() > 1)) }
                    }
                    footer { p { "Made by fedcircuit " (env!("CARGO_PKG_VERSION")) " from the files of the run's folder." } }
                    script { (PreEscaped(SCRIPT)) }
                }
            }
        };
        page.into_string()
    }

    fn about(&self) -> String {
        let [first, others @ ..] = self.runs else { return String::new() };
        let mut parts = about(first);
        // What all of them have.
        parts.retain(|part| others.iter().all(|run| about(run).contains(part)));
        if !others.is_empty() {
            parts.insert(0, format!("{} runs compared", self.runs.len()));
        }
        parts.join(" · ")
    }

    fn summary(&self) -> Markup {
        let list = |id: &str, title: &str, items: &[String]| {
            html! {
                @if !items.is_empty() {
                    div { h3 id=(id) { (title) } ul { @for item in items { li { (item) } } } }
                }
            }
        };
        html! {
            section id="claim" {
                h2 { "What came out" }
                p.claim { (self.words.claim) }
                div.two {
                    (list("evidence", "Evidence", &self.words.evidence))
                    (list("caveats", "Caveats", &self.words.caveats))
                }
            }
        }
    }

    fn contents(&self) -> Markup {
        html! {
            nav aria-label="Contents" {
                ul {
                    @for figure in self.figures { li { a href={ "#" (figure.id) } { (figure.title) } } }
                    @for table in self.tables { li { a href={ "#table-" (table.id) } { "Table: " (table.title) } } }
                    li { a href="#configuration" { "Configuration and device" } }
                }
            }
        }
    }
}

/// What a run is, in short.
fn about(run: &Run) -> Vec<String> {
    let words = |count: usize, one: &str| if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") };
    let rounds = match run.planned() {
        Some(planned) => format!("{} of {}", run.last_round(), words(planned, "round")),
        None => words(run.last_round(), "round"),
    };
    let mut parts = vec![rounds, words(run.seeds.len(), "seed"), run.source.clone()];
    parts.extend(["partition.kind", "model.preset", "strategy.kind"].map(|key| run.setting(key)));
    parts.retain(|part| !part.is_empty());
    parts
}

fn figure_section(figure: &Figure) -> Markup {
    html! {
        section id=(figure.id) {
            h2 { (figure.title) }
            figure {
                figcaption { (figure.caption) }
                div.plots {
                    @for (i, scene) in figure.scenes.iter().enumerate() { (plot(scene, &format!("{}-{i}", figure.id))) }
                }
            }
            @if !figure.left_out.is_empty() { p.left-out { (figure.left_out) } }
        }
    }
}

fn plot(scene: &Scene, id: &str) -> Markup {
    let picture = PreEscaped(svg::inline(scene, id));
    html! {
        @if scene.width > SCROLLING {
            div.wide tabindex="0" role="region" aria-label=(scene.title) { (picture) }
        } @else {
            div { (picture) }
        }
    }
}

fn table_section(table: &Table) -> Markup {
    let class = |column: usize| {
        let number = table.rows.iter().any(|row| row.get(column).is_some_and(|cell| cell.value.is_some()));
        if number { "n" } else { "" }
    };
    html! {
        section id={ "table-" (table.id) } {
            h2 { (table.title) }
            div.scroll tabindex="0" role="region" aria-label=(table.title) {
                table.sortable {
                    thead { tr { @for (i, column) in table.columns.iter().enumerate() { th scope="col" class=(class(i)) { (column) } } } }
                    tbody {
                        @for row in &table.rows {
                            tr { @for (i, cell) in row.iter().enumerate() { td class=(class(i)) data-v=[cell.value] { (cell.text) } } }
                        }
                    }
                }
            }
            p.meta { (table.caption) }
            @if table.left_out > 0 {
                p.left-out { (table.left_out) " more rows are in the CSV files of the folder." }
            }
        }
    }
}

fn configuration(run: &Run, i: usize, several: bool) -> Markup {
    let cut = |text: &str| text.chars().take(MAX_TEXT).collect::<String>();
    html! {
        section id=[(i == 0).then_some("configuration")] {
            h2 { "Configuration and device" @if several { ": " (run.label) } }
            p.meta { "Folder: " (run.folder.display()) }
            @if !run.experiment.is_empty() {
                details open[!several] { summary { (EXPERIMENT) } pre tabindex="0" { (cut(&run.experiment)) } }
            }
            @if !run.environment.is_empty() {
                details open[!several] { summary { "environment.json" } pre tabindex="0" { (cut(&run.environment)) } }
            }
        }
    }
}
