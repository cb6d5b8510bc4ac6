use serde::Deserialize;

use super::{FAULTS_MAX, NoParams, read};

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Prepare {
    #[default]
    Mnist,
    None,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default)]
    prepare: Prepare,
    #[serde(default)]
    arrays: bool,
    top: Option<usize>,
    from: Option<f64>,
    model: Option<String>,
}

fn pairs(query: &str) -> Vec<(String, String)> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.to_owned(), value.to_owned())
    };
    query.split('&').filter(|part| !part.is_empty()).map(pair).collect()
}

/// The faults of a query, each with its pointer.
fn faults(query: &str) -> Vec<(String, String)> {
    let faults = read::<Asked>(&pairs(query)).expect_err("a fault");
    faults.into_iter().map(|fault| (fault.pointer, fault.detail)).collect()
}

#[test]
fn parameters_are_what_they_say() {
    let nothing = Asked { prepare: Prepare::Mnist, arrays: false, top: None, from: None, model: None };
    assert_eq!(read::<Asked>(&[]).expect("nothing"), nothing);
    let all = read::<Asked>(&pairs("prepare=none&arrays=true&top=3&from=-1e-3&model=a b")).expect("all");
    let expected = Asked {
        prepare: Prepare::None,
        arrays: true,
        top: Some(3),
        from: Some(-0.001),
        model: Some("a b".to_owned()),
    };
    assert_eq!(all, expected);
    assert_eq!(read::<Asked>(&pairs("model=")).expect("an empty text").model, Some(String::new()));
    assert!(read::<NoParams>(&[]).is_ok());
}

#[test]
fn a_fault_names_the_parameter_the_value_and_what_is_wanted() {
    for (query, pointer, detail) in [
        ("tpo=3", "/tpo", "unknown parameter \"tpo\", did you mean \"top\"?"),
        ("Top=3", "/Top", "unknown parameter \"Top\", did you mean \"top\"?"),
        ("x=3", "/x", "unknown parameter \"x\", there are: prepare, arrays, top, from, model"),
        ("a/b~=3", "/a~1b~0", "unknown parameter \"a/b~\", there are: prepare, arrays, top, from, model"),
        ("top=x", "/top", "top must be a whole number, not \"x\""),
        ("top=", "/top", "top must be a whole number, not \"\""),
        ("top", "/top", "top must be a whole number, not \"\""),
        ("top=+1", "/top", "top must be a whole number, not \"+1\""),
        ("top=01", "/top", "top must be a whole number, not \"01\""),
        ("top=1.5", "/top", "top must be a whole number, not \"1.5\""),
        ("top=-1", "/top", "top must be from 0 to 18446744073709551615, not \"-1\""),
        ("from=x", "/from", "from must be a number, not \"x\""),
        ("from=NaN", "/from", "from must be a number, not \"NaN\""),
        ("from=1e999", "/from", "from must be a number, not \"1e999\""),
        ("arrays=yes", "/arrays", "arrays must be true or false, not \"yes\""),
        ("prepare=mnits", "/prepare", "unknown prepare \"mnits\", did you mean \"mnist\"?"),
        ("prepare=7", "/prepare", "unknown prepare \"7\", there are: mnist, none"),
        ("top=3&top=3", "/top", "parameter \"top\" is given twice"),
    ] {
        assert_eq!(faults(query), [(pointer.to_owned(), detail.to_owned())], "{query}");
    }
    let none = read::<NoParams>(&pairs("all=1")).err().expect("a fault");
    assert_eq!(none[0].detail, "unknown parameter \"all\", there are none here");
}

#[test]
fn all_faults_are_reported_and_however_many_there_are_the_answer_is_short() {
    let found: Vec<String> = faults("top=x&tpo=3&arrays=1&prepare=none&from=1&from=2")
        .into_iter()
        .map(|(pointer, _)| pointer)
        .collect();
    assert_eq!(found, ["/top", "/tpo", "/arrays", "/from"]);
    let many = format!("{}=1", "x".repeat(10_000)) + &"&y=1".repeat(10_000);
    let found = faults(&many);
    assert_eq!(found.len(), FAULTS_MAX);
    assert!(found.iter().all(|(pointer, detail)| pointer.len() + detail.len() < 300), "{found:?}");
}
