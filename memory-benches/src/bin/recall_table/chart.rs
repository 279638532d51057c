//! The cost of recall by how much is stored, as an SVG that can be read on light and dark grounds.

use std::fmt::Write as _;

const WIDTH: f64 = 790.0;
const HEIGHT: f64 = 420.0;
/// Left, right, top and bottom of the plot.
const PLOT: [f64; 4] = [70.0, 740.0, 60.0, 370.0];
const COLOURS: [&str; 6] = ["#bf5af2", "#1f6feb", "#2da44e", "#d29922", "#e5534b", "#8c959f"];

/// A line of the chart: its name, and milliseconds by how many episodes are stored.
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

/// The powers of ten between which all numbers lie, at least one apart.
struct Decades {
    first: i32,
    last: i32,
}

impl Decades {
    fn of(numbers: impl Iterator<Item = f64> + Clone) -> Self {
        let logarithm = |number: f64| number.max(1e-6).log10();
        let least = numbers.clone().map(logarithm).fold(f64::INFINITY, f64::min);
        let most = numbers.map(logarithm).fold(f64::NEG_INFINITY, f64::max);
        #[expect(clippy::cast_possible_truncation, reason = "a logarithm is small, and that of none at all saturates")]
        let (first, last) = (least.floor() as i32, most.ceil() as i32);
        Self { first, last: last.max(first.saturating_add(1)) }
    }

    /// Where a number lies: 0 at the first power of ten, 1 at the last.
    fn share(&self, number: f64) -> f64 {
        (number.max(1e-6).log10() - f64::from(self.first)) / f64::from(self.last - self.first)
    }

    fn powers(&self) -> impl Iterator<Item = f64> {
        (self.first..=self.last).map(|power| 10_f64.powi(power))
    }
}

/// Draws lines on logarithmic axes; without a point there is nothing but the frame.
pub(crate) fn svg(lines: &[Line]) -> String {
    let points = lines.iter().flat_map(|line| &line.points);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<title>Recall by how many episodes are stored</title>\n\
         <style>text{{fill:#24292f}}line{{stroke:#8c959f}}rect{{fill:#ffffff}}\
         @media(prefers-color-scheme:dark){{text{{fill:#e6edf3}}rect{{fill:#0d1117}}}}</style>\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n"
    );
    if points.clone().next().is_some() {
        let sizes = Decades::of(points.clone().map(|(size, _)| *size));
        let times = Decades::of(points.map(|(_, time)| *time));
        axes(&mut svg, &sizes, &times);
        for (place, line) in lines.iter().enumerate() {
            draw(&mut svg, line, place, &sizes, &times);
        }
    }
    svg + "</svg>\n"
}

fn x(size: f64, sizes: &Decades) -> f64 {
    let [left, right, ..] = PLOT;
    left + (right - left) * sizes.share(size)
}

fn y(time: f64, times: &Decades) -> f64 {
    let [_, _, top, bottom] = PLOT;
    bottom - (bottom - top) * times.share(time)
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
}

fn line(svg: &mut String, from: [f64; 2], to: [f64; 2], more: &str) {
    let ([x1, y1], [x2, y2]) = (from, to);
    let _ = writeln!(svg, "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {more}/>");
}

fn axes(svg: &mut String, sizes: &Decades, times: &Decades) {
    let [left, right, top, bottom] = PLOT;
    for time in times.powers() {
        let at = y(time, times);
        line(svg, [left, at], [right, at], "stroke-opacity=\"0.4\"");
        text(svg, left - 8.0, at + 4.0, "end", &format!("{time} ms"));
    }
    for size in sizes.powers() {
        let at = x(size, sizes);
        line(svg, [at, top], [at, bottom], "stroke-opacity=\"0.4\"");
        text(svg, at, bottom + 18.0, "middle", &size.to_string());
    }
    text(svg, f64::midpoint(left, right), bottom + 38.0, "middle", "episodes stored (median of the queries)");
}

/// A line, and its entry in the legend.
fn draw(svg: &mut String, Line { name, points }: &Line, place: usize, sizes: &Decades, times: &Decades) {
    let colour = COLOURS[place % COLOURS.len()];
    let mut path = Vec::with_capacity(points.len());
    for (size, time) in points {
        let (x, y) = (x(*size, sizes), y(*time, times));
        path.push(format!("{x:.1},{y:.1}"));
        let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
    }
    let path = path.join(" ");
    let _ = writeln!(svg, "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{path}\"/>");
    let (at, row) = (PLOT[0] + 220.0 * (place % 3) as f64, 16.0 + 20.0 * (place / 3) as f64);
    line(svg, [at, row], [at + 16.0, row], &format!("style=\"stroke:{colour};stroke-width:3\""));
    text(svg, at + 20.0, row + 4.0, "start", name);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_logarithmic_axes_lines_and_legend() {
        let points = vec![(1_000.0, 0.1), (10_000.0, 1.0), (100_000.0, 10.0)];
        let svg = svg(&[Line { name: "vector", points }, Line { name: "words", points: vec![(1_000.0, 10.0)] }]);
        assert!(svg.contains("points=\"70.0,370.0 405.0,215.0 740.0,60.0\""), "{svg}");
        assert!(svg.contains("points=\"70.0,60.0\""), "{svg}");
        assert!(svg.contains(">0.1 ms</text>") && svg.contains(">100000</text>"), "{svg}");
        assert!(svg.contains(">vector</text>") && svg.contains(">words</text>"), "{svg}");
        assert!(svg.contains("prefers-color-scheme:dark") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn a_chart_of_nothing_or_of_one_point_is_a_chart() {
        assert!(svg(&[]).ends_with("</svg>\n"));
        let one = svg(&[Line { name: "vector", points: vec![(1_000.0, 1.0)] }]);
        assert!(one.contains("points=\"70.0,370.0\"") && !one.contains("NaN"), "{one}");
    }
}
