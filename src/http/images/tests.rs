use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::data::{IMAGE_PIXELS, IMAGE_SIDE};

const IMAGES_MAX: usize = 3;

const SIZE: ImageSize = ImageSize { rows: IMAGE_SIDE, columns: IMAGE_SIDE };

fn found(body: &str) -> Result<Vec<f32>, Vec<Fault>> {
    parse(body.as_bytes(), SIZE, IMAGES_MAX).expect("JSON")
}

/// Returns the faults as `pointer: detail`.
fn faults(body: impl ToString) -> Vec<String> {
    let faults = found(&body.to_string()).expect_err("faults");
    faults.iter().map(|fault| format!("{}: {}", fault.pointer, fault.detail)).collect()
}

fn numbers(number: impl Fn(usize) -> Value) -> Value {
    (0..IMAGE_PIXELS).map(number).collect()
}

fn rows(image: &Value) -> Value {
    image.as_array().expect("numbers").chunks(IMAGE_SIDE).map(Value::from).collect()
}

#[test]
fn numbers_become_what_they_are_of_the_brightest() {
    let bytes = numbers(|index| json!(index % 256));
    let expected: Vec<f32> = (0..IMAGE_PIXELS).map(|index| (index % 256) as f32 / 255.0).collect();
    for image in [&bytes, &rows(&bytes)] {
        for body in [
            json!({ "image": image }).to_string(),
            format!(r#"{{"scale":"byte","image":{image}}}"#),
            format!(r#"{{"image":{image},"scale":"byte"}}"#),
        ] {
            assert_eq!(found(&body).unwrap(), expected);
        }
        assert_eq!(from_value(image, None, SIZE).unwrap(), expected);
        assert_eq!(from_value(image, Some(&json!("byte")), SIZE).unwrap(), expected);
        let several = found(&json!({ "images": [image, image, image] }).to_string()).unwrap();
        assert_eq!(several, expected.repeat(3));
    }
    let units = numbers(|index| json!(index as f64 / 783.0));
    let expected: Vec<f32> = (0..IMAGE_PIXELS).map(|index| (index as f64 / 783.0) as f32).collect();
    for body in [
        format!(r#"{{"scale":"unit","images":[{units}]}}"#),
        format!(r#"{{"images":[{units}],"scale":"unit"}}"#),
        format!(r#"{{"images":[{units}],"sc\u0061le":"unit"}}"#),
    ] {
        assert_eq!(found(&body).unwrap(), expected, "{}", &body[..20]);
    }
    let bytes = found(&json!({ "image": units }).to_string()).unwrap();
    assert_eq!(
        bytes[783],
        (1.0 / 255.0) as f32,
        "fractions are bytes as well, where nothing is said of them"
    );
}

#[test]
fn many_numbers_out_of_place_are_one_fault_that_says_what_to_do() {
    let one = |number: &dyn Fn(usize) -> Value, scale: &str| {
        let reported = faults(json!({ "image": numbers(number), "scale": scale }));
        assert_eq!(reported.len(), 1, "{reported:?}");
        reported[0].clone()
    };
    assert_eq!(
        one(&|index| json!(if index % 2 == 0 { -0.5 } else { 1.0 }), "unit"),
        "/image: 392 of its 784 numbers are not from 0 to 1, the first are -0.5 at /image/0, \
         -0.5 at /image/2, -0.5 at /image/4; they lie from -0.5 to 1: send (x + 1) / 2 with \"scale\": \"unit\""
    );
    assert!(one(&|index| json!(index % 2 * 300), "byte").ends_with(
        "300 at /image/1, 300 at /image/3, 300 at /image/5; they lie from 0 to 300: divide pixels of 16 bits \
         by 257 and send them with \"scale\": \"byte\""
    ));
    assert!(one(&|index| json!(index % 256), "unit").ends_with("send them with \"scale\": \"byte\""));
    assert!(
        one(&|index| json!(index as f64 / 300.0 - 0.4242), "unit")
            .ends_with("send the pixels as they were before they were normalised")
    );
    assert!(one(&|_| json!(-1), "byte").starts_with("/image: 784 of its 784 numbers are not from 0 to 255"));

    let dark = numbers(|_| json!(-1));
    let reported = faults(json!({ "images": [rows(&dark), dark] }));
    assert_eq!(reported.len(), 1);
    assert!(
        reported[0].starts_with("/images: 1568 of its 1568 numbers")
            && reported[0].contains("-1 at /images/0/0/2"),
        "{reported:?}"
    );
    assert_eq!(
        faults(json!({ "image": numbers(|index| json!(if index % 300 == 29 { 256 } else { 0 })) })),
        [29, 329, 629].map(|index| format!("/image/{index}: must be a number from 0 to 255, not 256"))
    );
}

#[test]
fn a_number_that_nothing_holds_is_a_fault_with_its_place() {
    let text = numbers(|_| json!(0)).to_string().replacen("0,0", "0,1e309", 1);
    assert_eq!(
        faults(format!("{{\"image\":{text}}}")),
        ["/image/1: the number at line 1 column 17 is beyond what a 64-bit float holds"]
    );
    let row = format!("[{}]", vec!["0"; 28].join(","));
    let reported = faults(format!("{{\"images\":[[],[{row},[0,0,-1e400]]]}}"));
    assert!(
        reported[0].starts_with("/images/0: ") && reported[1].starts_with("/images/1/1/2: the number at"),
        "{reported:?}"
    );
    assert!(faults("{\"scale\":1e309}")[0].starts_with("/scale: the number at"));
    assert!(faults("1e309")[0].starts_with(": the number at"));
    assert!(parse(b"{\"image\":[1e309x", SIZE, 1).is_ok(), "what follows is not read");
    assert!(parse(b"{\"image\":[1e308x", SIZE, 1).is_err());
}

#[test]
fn names_that_are_there_twice_are_faults() {
    let image = numbers(|_| json!(0));
    for (body, pointer) in [
        (format!("{{\"image\":{image},\"image\":{image}}}"), "/image"),
        (format!("{{\"images\":[{image}],\"images\":[{image}]}}"), "/images"),
        (format!("{{\"scale\":\"byte\",\"image\":{image},\"scale\":\"byte\"}}"), "/scale"),
    ] {
        assert_eq!(faults(&body), [format!("{pointer}: is given twice")]);
    }
    assert_eq!(
        faults(format!("{{\"image\":{image},\"images\":[{image}]}}")),
        [": send image or images, not both"]
    );
}

#[test]
fn what_is_wrong_with_the_shape_is_reported_with_its_place() {
    let image = numbers(|_| json!(0));
    let with = |index: usize, value: Value| {
        let mut image = image.clone();
        image[index] = value;
        image
    };
    let square = rows(&image);
    let with_row = |value: Value| {
        let mut square = square.clone();
        square[3] = value;
        square
    };
    let size = "must be 28 rows of 28 numbers or 784 numbers, not";
    let cases = [
        (json!([]), ": must be an object with image or images, not an array".to_owned()),
        (json!("image"), ": must be an object with image or images, not a string".to_owned()),
        (json!({}), "/image: is missing; send image or images".to_owned()),
        (json!({ "scale": "unit" }), "/image: is missing; send image or images".to_owned()),
        (
            json!({ "image": image, "scale": "percent" }),
            "/scale: must be \"byte\" or \"unit\", not \"percent\"".to_owned(),
        ),
        (
            json!({ "image": image, "scale": null }),
            "/scale: must be \"byte\" or \"unit\", not null".to_owned(),
        ),
        (
            json!({ "image": image, "scale": [{ "": 0 }] }),
            "/scale: must be \"byte\" or \"unit\", not an array".to_owned(),
        ),
        (json!({ "image": image, "scale": 255 }), "/scale: must be \"byte\" or \"unit\", not 255".to_owned()),
        (
            json!({ "image": image, "a/b": 1 }),
            "/a~1b: unknown field, there are: image, images, scale".to_owned(),
        ),
        (json!({ "image": 7 }), "/image: must be an array, not a number".to_owned()),
        (json!({ "image": [] }), format!("/image: {size} 0 numbers")),
        (json!({ "image": [[0]] }), "/image/0: must be 28 numbers, not 1".to_owned()),
        (json!({ "image": vec![json!(vec![0; 28]); 27] }), format!("/image: {size} 27 rows")),
        (json!({ "image": vec![json!(vec![0; 28]); 29] }), format!("/image: {size} 29 rows")),
        (json!({ "image": vec![0; 785] }), format!("/image: {size} 785 numbers")),
        (json!({ "image": vec![0; 783] }), format!("/image: {size} 783 numbers")),
        (json!({ "image": with(5, json!("x")) }), "/image/5: must be a number, not a string".to_owned()),
        (json!({ "image": with(5, json!([0])) }), "/image/5: must be a number, not an array".to_owned()),
        (
            json!({ "image": with_row(json!(vec![0; 29])) }),
            "/image/3: must be 28 numbers, not more".to_owned(),
        ),
        (json!({ "image": with_row(json!(0)) }), "/image/4: must be a number, not an array".to_owned()),
        (
            json!({ "image": with(783, json!(255.5)) }),
            "/image/783: must be a number from 0 to 255, not 255.5".to_owned(),
        ),
        (json!({ "images": 7 }), "/images: must be an array of images, not a number".to_owned()),
        (json!({ "images": [] }), "/images: must hold 1 to 3 images, not 0".to_owned()),
        (
            json!({ "images": [image, image, image, image] }),
            "/images: must hold 1 to 3 images, not 4".to_owned(),
        ),
        (
            json!({ "images": [image, with_row(json!(vec![true; 28]))] }),
            "/images/1/3/0: must be a number, not a boolean".to_owned(),
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(faults(&body)[0], expected, "{body}");
    }
    assert_eq!(from_value(&json!(7), None, SIZE).unwrap_err()[0].pointer, "/image");
    let both = from_value(&with(3, json!(-1)), Some(&json!("percent")), SIZE).unwrap_err();
    assert_eq!(both.iter().map(|fault| &*fault.pointer).collect::<Vec<_>>(), ["/scale", "/image/3"]);
}

/// Generates a body that may or may not be a valid request.
fn any_request() -> impl Strategy<Value = String> {
    let cell = prop_oneof![
        20 => (0..=255_u32).prop_map(|byte| byte.to_string()),
        1 => (-1.0..256.0).prop_map(|number: f64| number.to_string()),
        1 => Just("\"\"".to_owned()),
    ];
    let list = |items: Vec<String>| format!("[{}]", items.join(","));
    let image = prop_oneof![
        prop::collection::vec(cell.clone(), IMAGE_PIXELS - 1..IMAGE_PIXELS + 2).prop_map(list),
        (cell, 27..30_usize, 27..30_usize)
            .prop_map(move |(cell, columns, rows)| { list(vec![list(vec![cell; columns]); rows]) }),
        Just("null".to_owned()),
    ];
    let images = prop::collection::vec(image.clone(), 0..5).prop_map(list);
    let field = prop_oneof![
        4 => image.prop_map(|image| format!("\"image\":{image}")),
        4 => images.prop_map(|images| format!("\"images\":{images}")),
        2 => Just("\"scale\":\"byte\"".to_owned()),
        1 => Just("\"scale\":\"unit\"".to_owned()),
        1 => Just("\"scale\":{\"unit\":[]}".to_owned()),
        1 => Just("\"other\":[{\"\":0}]".to_owned()),
    ];
    prop::collection::vec(field, 0..4).prop_map(|fields| format!("{{{}}}", fields.join(",")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A body is refused exactly if it has faults.
    #[test]
    fn what_can_not_be_taken_has_faults_and_nothing_else_has(body in any_request()) {
        let faults = report::faults(body.as_bytes(), SIZE, IMAGES_MAX).unwrap();
        match read(body.as_bytes(), SIZE, IMAGES_MAX) {
            Some(values) => {
                prop_assert_eq!(faults, []);
                prop_assert_eq!(values.len() % IMAGE_PIXELS, 0);
                prop_assert!(!values.is_empty() && values.iter().all(|value| (0.0..=1.0).contains(value)));
            }
            None => prop_assert!(!faults.is_empty()),
        }
    }

    /// If a byte is cut out of a request, it is refused with the same error as by `serde_json`.
    #[test]
    fn what_is_no_json_is_reported_as_such(body in any_request(), at in any::<prop::sample::Index>()) {
        let at = at.index(body.len());
        let cut = [&body[..at], &body[at + 1..]].concat();
        let expected = serde_json::from_str::<Value>(&cut).map(drop).map_err(|error| error.to_string());
        let found = parse(cut.as_bytes(), SIZE, IMAGES_MAX).map(drop).map_err(|error| error.to_string());
        prop_assert_eq!(found, expected);
    }
}

/// The size of an image in [`small_request`].
const SMALL: ImageSize = ImageSize { rows: 2, columns: 3 };

/// Generates a body with images of [`SMALL`] size as whole numbers, with white space between the tokens.
fn small_request() -> impl Strategy<Value = String> {
    let space = prop::sample::select(vec!["", "", "", " ", "\n\t", "\r\n"]);
    let image = (any::<[[u8; 3]; 2]>(), any::<bool>()).prop_map(|(rows, is_flat)| match is_flat {
        true => json!(rows.concat()),
        false => json!(rows),
    });
    let request = prop_oneof![
        image.clone().prop_map(|image| json!({ "image": image })),
        prop::collection::vec(image, 1..=IMAGES_MAX).prop_map(|images| json!({ "images": images })),
    ];
    (request, prop::collection::vec(space, 64)).prop_map(|(request, spaces)| {
        let mut spaces = spaces.into_iter().cycle();
        let text = request.to_string();
        text.chars()
            .flat_map(|char| {
                let is_token = "[]{},:".contains(char);
                let space = if is_token { spaces.next().unwrap_or_default() } else { "" };
                space.chars().chain([char]).chain(space.chars()).collect::<Vec<_>>()
            })
            .collect()
    })
}

proptest! {
    /// The quick parser takes the usual bodies. Whatever it takes, the parser of JSON takes with the same values.
    #[test]
    fn the_quick_parser_agrees_with_the_parser_of_json(
        body in small_request(),
        at in any::<prop::sample::Index>(),
        other in prop::sample::select(b"[]{},:\" 0123456789.-eE\\a".to_vec()),
    ) {
        let mut body = body.into_bytes();
        let taken = whole::read(&body, SMALL, IMAGES_MAX);
        prop_assert!(taken.is_some());
        prop_assert_eq!(taken, read(&body, SMALL, IMAGES_MAX));
        let at = at.index(body.len());
        body[at] = other;
        if let Some(values) = whole::read(&body, SMALL, IMAGES_MAX) {
            prop_assert_eq!(Some(values), read(&body, SMALL, IMAGES_MAX));
        }
    }
}

#[test]
fn the_size_of_an_image_is_that_of_the_network() {
    let size = ImageSize { rows: 2, columns: 3 };
    let expected = vec![0.0, 1.0, 0.0, 1.0, 0.0, 1.0];
    for image in [json!([[0, 255, 0], [255, 0, 255]]), json!([0, 255, 0, 255, 0, 255])] {
        let body = json!({ "image": image }).to_string();
        assert_eq!(parse(body.as_bytes(), size, 1).expect("JSON"), Ok(expected.clone()));
    }
    let faults =
        parse(br#"{"image": [[0, 255], [255, 0, 255]]}"#, size, 1).expect("JSON").expect_err("faults");
    assert_eq!(faults[0].detail, "must be 3 numbers, not 2");
    let faults = parse(br#"{"image": [0, 255]}"#, size, 1).expect("JSON").expect_err("faults");
    assert_eq!(faults[0].detail, "must be 2 rows of 3 numbers or 6 numbers, not 2 numbers");
}
