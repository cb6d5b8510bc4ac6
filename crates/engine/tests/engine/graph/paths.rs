//! The products of the paths from an input sum to its gradient. Paths that are not listed are reported.

use chainrule_engine::graph::{GraphPath, PATHS_MAX};

use super::graph;

pub(super) fn product_sum<'a>(paths: impl Iterator<Item = &'a GraphPath>) -> f64 {
    paths.filter_map(|path| path.product).sum()
}

#[test]
fn the_products_of_the_paths_add_up_to_the_gradient_and_without_one_they_do_not() {
    let graph = graph("x = a*b; y = x + sin(a); z = x*y; z*z + y/a", &[("a", 0.7), ("b", -1.2)]);
    for (input, gradient) in &graph.gradients {
        let paths = &graph.paths[input];
        assert_eq!(paths.len() as f64, graph.path_counts[input]);
        assert!((product_sum(paths.iter()) - gradient).abs() < 1e-12, "{input}");
        assert!((product_sum(paths.iter().skip(1)) - gradient).abs() > 1e-3, "{input}");
    }
}

#[test]
fn a_square_has_a_path_for_each_factor() {
    let graph = graph("x*x", &[("x", 3.0)]);
    let products: Vec<_> = graph.paths["x"].iter().map(|path| path.product).collect();
    assert_eq!(products, [Some(3.0), Some(3.0)]);
    let itself = super::graph("x", &[("x", 3.0)]);
    assert_eq!((itself.paths["x"][0].nodes.clone(), itself.paths["x"][0].product), (vec![0], Some(1.0)));
}

#[test]
fn paths_beyond_the_limit_are_counted_and_not_listed() {
    let doublings = |count: u32| {
        let name = |level: u32| char::from_u32(0x4e00 + level).unwrap_or('x');
        let levels = (1..count).map(|level| format!("{0}={1}+{1};", name(level), name(level - 1)));
        let last = name(count - 1);
        format!("{}=x+x;", name(0)) + &levels.collect::<String>() + &format!("{last}*1e-300")
    };
    let small = graph(&doublings(9), &[("x", 1.0)]);
    assert_eq!((small.path_counts["x"], small.paths["x"].len()), (512.0, 512));
    let large = graph(&doublings(10), &[("x", 1.0)]);
    assert_eq!((large.path_counts["x"], large.paths["x"].len()), (1024.0, 0));
    let huge = graph(&doublings(600), &[("x", 1e-100)]);
    assert_eq!((huge.path_counts["x"], huge.paths["x"].len()), (2f64.powi(600), 0));
    assert_eq!(huge.gradients.get("x").copied(), Some(2f64.powi(600) * 1e-300));

    let long = vec!["x"; PATHS_MAX].join("+");
    let listed = graph(&long, &[("x", 1.0)]);
    assert_eq!((listed.path_counts["x"], listed.paths["x"].len()), (1000.0, 1000));
    assert!(listed.warnings.is_empty());

    let too_many = "the paths from x are 1024 and not listed: at most 1000 of an input are";
    assert_eq!(large.warnings, [too_many]);
    let tens = |of: &str| [of; 10].join("+");
    let together = format!("c={};d={};e={};e+{long}", tens("b"), tens("c"), tens("d"));
    let together = graph(&together, &[("b", 1.0), ("x", 1.0)]);
    assert_eq!(["b", "x"].map(|name| together.paths[name].len()), [0, 1000]);
    let too_long = "the paths from b are 1000 and not listed: all lists together may have 1000000 nodes";
    assert_eq!(together.warnings, [too_long]);
}
