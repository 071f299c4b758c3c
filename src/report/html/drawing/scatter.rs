//! Clouds of dots.

use super::axes::{Axis, Unit, from_zero, ticks};
use super::chart::{LEFT, RIGHT, TOP, WIDTH};
use super::scene::{BODY, Paint, Scene, TITLE};
use crate::report::plots::canvas::Anchor;

const HEIGHT: f64 = 190.0;

/// Dots with accuracies above a measure.
pub struct Scatter {
    title: String,
    x_title: &'static str,
    y_title: &'static str,
    range: (f64, f64),
    unit: Unit,
    correlation: f64,
    count: usize,
}

impl Scatter {
    /// For these dots; `None` if none is defined.
    pub fn new(
        title: &str,
        x_title: &'static str,
        y_title: &'static str,
        range: Option<(f64, f64)>,
        unit: Unit,
        dots: &[(f64, f64)],
    ) -> Option<Self> {
        let dots: Vec<(f64, f64)> = dots.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
        let range = range.unwrap_or_else(|| from_zero(dots.iter().map(|(x, _)| *x)));
        let (correlation, count) = (correlation(&dots), dots.len());
        (count > 0).then(|| Self { title: title.into(), x_title, y_title, range, unit, correlation, count })
    }

    /// Draws some of the dots.
    pub fn draw(&self, dots: &[(f64, f64)]) -> Scene {
        let bottom = TOP + HEIGHT;
        let mut scene = Scene::new(WIDTH, bottom + 38.0, self.title.clone());
        let r =
            if self.correlation.is_finite() { format!("r = {:.2}", self.correlation) } else { "r undefined".into() };
        scene.description = format!("{} dots: {} against {}. {r}.", self.count, self.y_title, self.x_title)
            .replace("r undefined.", "The correlation is undefined.");
        scene.text(self.title.as_str(), TITLE, Paint::Ink, (4.0, 12.0), Anchor::Start);
        scene.text(format!("{r}, n = {}", self.count), BODY, Paint::Faded, (WIDTH - RIGHT, 12.0), Anchor::End);
        let x = Axis { values: self.range, ends: (LEFT + 8.0, WIDTH - RIGHT - 8.0) };
        let y = Axis { values: (0.0, 1.0), ends: (bottom, TOP) };
        for (value, name) in ticks(y.values, 5, Unit::Percent) {
            scene.line(vec![(LEFT, y.at(value)), (WIDTH - RIGHT, y.at(value))], Paint::Pale, 0.8);
            scene.text(name, BODY, Paint::Faded, (LEFT - 6.0, y.at(value)), Anchor::End);
        }
        for (value, name) in ticks(x.values, 6, self.unit) {
            scene.line(vec![(x.at(value), bottom), (x.at(value), bottom + 3.0)], Paint::Faded, 0.8);
            scene.text(name, BODY, Paint::Faded, (x.at(value), bottom + 11.0), Anchor::Middle);
        }
        scene.text(self.x_title, BODY, Paint::Faded, ((LEFT + WIDTH - RIGHT) / 2.0, bottom + 25.0), Anchor::Middle);
        scene.text_upwards(format!("{} (%)", self.y_title), Paint::Faded, (9.0, TOP + HEIGHT / 2.0));
        for (across, up) in dots.iter().filter(|(x, y)| x.is_finite() && y.is_finite()) {
            scene.dot((x.at(*across), y.at(*up)), 3.0, Paint::Series(0), 0.45);
        }
        scene
    }
}

/// Pearson's; not a number where one of the two never varies.
fn correlation(dots: &[(f64, f64)]) -> f64 {
    // The mean of equal numbers may be another number, from which they would seem to vary.
    if dots.iter().all(|d| d.0 == dots[0].0) || dots.iter().all(|d| d.1 == dots[0].1) {
        return f64::NAN;
    }
    let n = dots.len() as f64;
    let (mx, my) = (dots.iter().map(|d| d.0).sum::<f64>() / n, dots.iter().map(|d| d.1).sum::<f64>() / n);
    let sum = |f: &dyn Fn(&(f64, f64)) -> f64| dots.iter().map(f).sum::<f64>();
    let (xx, yy) = (sum(&|d| (d.0 - mx).powi(2)), sum(&|d| (d.1 - my).powi(2)));
    sum(&|d| (d.0 - mx) * (d.1 - my)) / (xx * yy).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_correlation_is_pearsons() {
        // By hand: the covariance's sum is 1.5, the squares' sums are 2 and 1.5.
        let r = correlation(&[(0.0, 0.0), (1.0, 0.0), (2.0, 1.5)]);
        assert!((r - 1.5 / (2.0f64 * 1.5).sqrt()).abs() < 1e-12, "{r}");
        assert!(correlation(&[(1.0, 0.0), (1.0, 1.0)]).is_nan());
        assert!(correlation(&[(0.1, 0.1); 3]).is_nan());
        assert!(Scatter::new("", "x", "y", None, Unit::Plain, &[(f64::NAN, 1.0)]).is_none());
        let one = Scatter::new("", "x", "y", None, Unit::Plain, &[(2.0, 1.0)]).unwrap();
        assert!(one.draw(&[(2.0, 1.0)]).description.ends_with("The correlation is undefined."));
    }
}
