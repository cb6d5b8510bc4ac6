//! Drawings are well formed and complete, and nothing overlaps.

use chainrule_engine::graph::EXPRESSION_CHARS_MAX;

use super::{graph, lesson};

/// Asserts that every element is closed in order and that all text is escaped.
pub(super) fn assert_well_formed(svg: &str) {
    let mut open = Vec::new();
    for piece in svg.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').expect("a tag ends");
        assert!(
            !text.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "").contains(['&', '>']),
            "{text}"
        );
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            open.extend(tag.split_whitespace().next());
        }
    }
    assert!(open.is_empty() && svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
}

#[test]
fn the_drawing_has_value_and_gradient_of_each_edge() {
    let graph = lesson();
    let svg = graph.svg();
    assert_well_formed(&svg);
    let texts = |class: &str| -> Vec<&str> {
        let start = format!("<text class=\"{class}\" ");
        svg.split(&start).skip(1).filter_map(|rest| rest.split_once('>')?.1.split('<').next()).collect()
    };
    let sorted = |mut texts: Vec<&str>| {
        texts.sort_unstable();
        texts.join(" ")
    };
    assert_eq!(sorted(texts("value")), "14 2 3 3 4 7 −1");
    assert_eq!(sorted(texts("gradient")), "1 2 2 2 7 7 7 ∂f/∂a = 7 ∂f/∂b = 9 ∂f/∂c = 2");
    assert_eq!(sorted(texts("name")), "a b c f x y");
    assert!(
        svg.contains("role=\"img\"") && svg.contains("<title>") && svg.contains("prefers-color-scheme:dark")
    );
    assert_eq!(svg, lesson().svg());
}

#[test]
fn the_drawing_has_colours_that_every_program_knows() {
    let svg = lesson().svg();
    let style = svg.split("<style>").nth(1).and_then(|rest| rest.split("</style>").next()).expect("a style");
    let (light, dark) = style.split_once("@media (prefers-color-scheme:dark){").expect("two schemes");
    assert!(!style.contains("var(") && !style.contains("--"));
    for class in ["paper", "gradient", "link", "back", "head", "back-head", "node", "input"] {
        let rule = format!(".{class}{{");
        assert!(light.contains(&rule) && dark.contains(&rule), "{class}");
        assert!(svg.contains(&format!("class=\"{class}")) || svg.contains(&format!(" {class}\"")), "{class}");
    }
}

#[test]
fn labels_of_a_drawing_do_not_overlap() {
    let expression = "h = tanh(a*x + b*y); r = relu(b*x - y); max(h, r, a)*exp(-h^2) + sqrt(1 + r*r)/h";
    let svg = graph(expression, &[("a", 0.5), ("b", -0.3), ("x", 1.0), ("y", 2.0)]).svg();
    let boxes: Vec<[f64; 4]> = svg
        .lines()
        .filter(|line| line.contains("<text") && !line.contains("legend"))
        .map(|line| {
            let number = |key: &str| -> f64 {
                let rest = line.split_once(key).expect("a place").1;
                rest.split('"').next().and_then(|number| number.parse().ok()).expect("a number")
            };
            let text = line.split_once("<text").and_then(|(_, rest)| rest.split_once('>')).expect("a text").1;
            let half = text.split('<').next().unwrap_or_default().chars().count() as f64 * 3.5;
            let (x, y) = (number(" x=\""), number(" y=\""));
            [x - half, x + half, y - 10.0, y]
        })
        .collect();
    for (place, a) in boxes.iter().enumerate() {
        for b in &boxes[..place] {
            let apart = a[1] <= b[0] || b[1] <= a[0] || a[3] <= b[2] || b[3] <= a[2];
            assert!(apart, "{a:?} {b:?}");
        }
    }
}

#[test]
fn drawings_of_the_largest_graphs_are_well_formed() {
    let widest = vec!["x"; EXPRESSION_CHARS_MAX / 2].join("+");
    let longest = "x+1*".repeat(999) + "x";
    let functions = "sin(".repeat(200) + "x" + &")".repeat(200);
    for expression in [widest, longest, functions, "1 + 2".to_owned(), "x".to_owned(), "7".to_owned()] {
        let graph = graph(&expression, &[("x", 1.0)]);
        assert_well_formed(&graph.svg());
        assert!(graph.dot().ends_with("}\n") && !graph.text().contains("NaN"));
    }
}

#[test]
fn the_dot_has_a_line_for_each_node_and_edge() {
    let dot = lesson().dot();
    assert!(dot.starts_with("digraph chainrule {\n  rankdir=LR;\n"));
    assert!(dot.contains("  n3 [label=\"x\\nadd\\n2\\n∂ 7\"];\n"), "{dot}");
    assert!(dot.contains("  n1 -> n4 [label=\"3\\n∂ 2\"];\n"), "{dot}");
    assert_eq!(dot.matches(" -> ").count(), 7);
}
