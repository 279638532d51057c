//! The curve as an SVG that can be read on light and dark grounds.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 400.0;
/// Left, right, top and bottom of the plot.
const PLOT: [f64; 4] = [60.0, 740.0, 50.0, 350.0];

/// A line of the chart: its name, its colour, and a value in [0, 1] for each episode.
pub(crate) type Line<'a> = (&'a str, &'a str, &'a [f64]);

/// Draws lines over episodes, with a marker where the world changes.
pub(crate) fn svg(lines: &[Line<'_>], change: usize) -> String {
    let episodes = lines.iter().map(|(_, _, values)| values.len()).max().unwrap_or(1).max(2);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<title>Success of an agent with and without a memory</title>\n\
         <style>text{{fill:#24292f}}line{{stroke:#8c959f}}rect{{fill:#ffffff}}\
         @media(prefers-color-scheme:dark){{text{{fill:#e6edf3}}rect{{fill:#0d1117}}}}</style>\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n"
    );
    axes(&mut svg, episodes);
    marker(&mut svg, x(change, episodes));
    for (place, line) in lines.iter().enumerate() {
        draw(&mut svg, line, place, episodes);
    }
    svg + "</svg>\n"
}

fn x(episode: usize, episodes: usize) -> f64 {
    let [left, right, ..] = PLOT;
    left + (right - left) * episode as f64 / (episodes - 1) as f64
}

fn y(value: f64) -> f64 {
    let [_, _, top, bottom] = PLOT;
    bottom - (bottom - top) * value.clamp(0.0, 1.0)
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
}

fn line(svg: &mut String, from: [f64; 2], to: [f64; 2], more: &str) {
    let ([x1, y1], [x2, y2]) = (from, to);
    let _ = writeln!(svg, "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {more}/>");
}

fn axes(svg: &mut String, episodes: usize) {
    let [left, right, _, bottom] = PLOT;
    for percent in (0..=100_u8).step_by(20) {
        let at = y(f64::from(percent) / 100.0);
        line(svg, [left, at], [right, at], "stroke-opacity=\"0.4\"");
        text(svg, left - 8.0, at + 4.0, "end", &format!("{percent} %"));
    }
    for episode in (0..episodes).step_by(40) {
        text(svg, x(episode, episodes), bottom + 18.0, "middle", &episode.to_string());
    }
    text(svg, f64::midpoint(left, right), bottom + 38.0, "middle", "episodes");
}

fn marker(svg: &mut String, at: f64) {
    let [_, _, top, bottom] = PLOT;
    line(svg, [at, top], [at, bottom], "stroke-dasharray=\"5 4\"");
    text(svg, at, top - 6.0, "middle", "the world changes");
}

/// A line, and its entry in the legend.
fn draw(svg: &mut String, (name, colour, values): &Line<'_>, place: usize, episodes: usize) {
    let points: Vec<String> = values
        .iter()
        .enumerate()
        .map(|(episode, value)| format!("{:.1},{:.1}", x(episode, episodes), y(*value)))
        .collect();
    let points = points.join(" ");
    let _ = writeln!(svg, "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{points}\"/>");
    let at = PLOT[0] + 170.0 * place as f64;
    line(svg, [at, 18.0], [at + 24.0, 18.0], &format!("style=\"stroke:{colour};stroke-width:3\""));
    text(svg, at + 30.0, 22.0, "start", name);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_axes_lines_marker_and_legend() {
        let svg = svg(&[("with", "#d29922", &[0.0, 0.5, 1.0]), ("best", "#1a7f37", &[1.0; 3])], 1);
        assert!(svg.contains("points=\"60.0,350.0 400.0,200.0 740.0,50.0\""), "{svg}");
        assert!(svg.contains("points=\"60.0,50.0 400.0,50.0 740.0,50.0\""));
        assert!(svg.contains("<text x=\"400.0\" y=\"44.0\" text-anchor=\"middle\">the world changes</text>"));
        assert!(svg.contains(">with</text>") && svg.contains(">best</text>") && svg.contains(">100 %</text>"));
        assert!(svg.contains("prefers-color-scheme:dark") && svg.ends_with("</svg>\n"));
    }
}
