mod bytes;
mod hostile;
mod sheet;

use image::{GrayImage, Luma};
use sheet::{PLAIN, Sheet, correlation, kinds};

use super::*;
use crate::data::mnist;

const DIGITS: usize = 50;

/// Test digits, evenly spaced over the split.
fn digits() -> Vec<Vec<u8>> {
    let dataset = mnist::dataset();
    let step = dataset.test.len() / DIGITS;
    (0..DIGITS).map(|index| dataset.test.image(index * step).to_vec()).collect()
}

fn mean_correlation(sheet: &Sheet, digits: &[Vec<u8>]) -> f64 {
    let one = |digit: &Vec<u8>| correlation(&prepare(&sheet.draw(digit)).unwrap(), digit);
    digits.iter().map(one).sum::<f64>() / digits.len() as f64
}

fn even(width: u32, height: u32, level: u8) -> GrayImage {
    GrayImage::from_pixel(width, height, Luma([level]))
}

#[test]
fn a_digit_on_any_sheet_becomes_its_original_in_mnist() {
    let digits = digits();
    for (name, sheet) in kinds() {
        // Drawing the large ones takes most of the time.
        let digits = if sheet.side > 1000 { &digits[..5] } else { &digits[..] };
        for sheet in [sheet, sheet.inverted()] {
            let mean = mean_correlation(&sheet, digits);
            assert!(mean > 0.9, "{name}, paper {}: {mean:.3}", sheet.paper);
        }
    }
}

#[test]
fn an_image_of_mnist_stays_as_it_is() {
    let digits = digits();
    let same = digits.iter().filter(|digit| prepare(&PLAIN.draw(digit)).unwrap()[..] == digit[..]);
    assert!(same.count() * 10 >= DIGITS * 8);
    assert!(mean_correlation(&PLAIN, &digits) > 0.99);
}

#[test]
fn the_brightest_pixel_is_255_however_pale_the_ink() {
    let pale = Sheet { side: 300, smooth: true, ink: 150, paper: 200, ..PLAIN };
    for digit in digits() {
        assert_eq!(prepare(&pale.draw(&digit)).unwrap().iter().max(), Some(&255));
    }
}

#[test]
fn the_aspect_ratio_is_kept() {
    let mut stroke = even(300, 300, 255);
    (50..250).for_each(|y| (140..160).for_each(|x| stroke.put_pixel(x, y, Luma([0]))));
    let image = prepare(&stroke).unwrap();
    let inked = |x: usize, y: usize| image[y * IMAGE_SIDE + x] > 127;
    let columns: Vec<usize> = (0..IMAGE_SIDE).filter(|&x| (0..IMAGE_SIDE).any(|y| inked(x, y))).collect();
    let rows: Vec<usize> = (0..IMAGE_SIDE).filter(|&y| (0..IMAGE_SIDE).any(|x| inked(x, y))).collect();
    assert_eq!((columns.len(), rows.len()), (2, 20));
    assert!(columns.contains(&13) && rows.contains(&4), "{columns:?} {rows:?}");
}

#[test]
fn a_lone_box_is_the_digit_and_a_box_around_a_digit_is_not() {
    let mut square = even(100, 100, 255);
    (20..80).for_each(|a| {
        for (x, y) in [(a, 20), (a, 21), (a, 78), (a, 79), (20, a), (21, a), (78, a), (79, a)] {
            square.put_pixel(x, y, Luma([0]));
        }
    });
    assert!(prepare(&square).unwrap()[4 * IMAGE_SIDE + 14] > 127);
    (40..60).for_each(|y| square.put_pixel(50, y, Luma([0])));
    let image = prepare(&square).unwrap();
    let columns = (0..IMAGE_PIXELS).filter(|&index| image[index] > 127).map(|index| index % IMAGE_SIDE);
    assert!(columns.clone().max().unwrap() - columns.min().unwrap() < 3);
}

#[test]
fn a_digit_that_touches_its_box_is_kept() {
    let digits = digits();
    // The box lies on the fourth row and column, next to the area that the digits fill.
    let sheet = Sheet { side: 224, smooth: true, ink: 40, paper: 230, frame: Some((26, 5)), ..PLAIN };
    assert!(mean_correlation(&sheet, &digits) > 0.8);
}

#[test]
fn a_speck_on_the_paper_is_left_out() {
    for digit in digits().iter().take(10) {
        let sheet = Sheet { side: 224, smooth: true, ink: 40, paper: 230, ..PLAIN };
        let clean = sheet.draw(digit);
        let mut specked = clean.clone();
        for (x, y) in [(3, 3), (4, 3), (3, 4), (210, 200), (211, 200), (5, 215)] {
            specked.put_pixel(x, y, Luma([0]));
        }
        assert!(correlation(&prepare(&specked).unwrap(), &prepare(&clean).unwrap()) > 0.99);
    }
}

#[test]
fn a_picture_without_contrast_is_blank() {
    for level in [0, 127, 255] {
        for (width, height) in [(1, 1), (3, 5), (28, 28), (500, 300), (3000, 2)] {
            assert_eq!(
                prepare(&even(width, height, level)),
                Err(PictureError::Blank),
                "{level} {width}x{height}"
            );
        }
    }
    let noise = Sheet { side: 200, noise: 8.0, ink: 120, paper: 120, ..PLAIN };
    assert_eq!(prepare(&noise.draw(&[0; IMAGE_PIXELS])), Err(PictureError::Blank));
    let shade = Sheet { side: 200, shade: 90.0, ink: 220, paper: 220, ..PLAIN };
    assert_eq!(prepare(&shade.draw(&[0; IMAGE_PIXELS])), Err(PictureError::Blank));
}

/// Any result is accepted, but no panic.
#[test]
fn tiny_and_thin_pictures_do_no_harm() {
    for (width, height) in
        [(1, 1), (1, 2), (2, 1), (3, 5), (1, 28), (28, 1), (5000, 1), (1, 5000), (4096, 3), (20, 1025)]
    {
        for step in [1, 2, 3, 7, 1000] {
            for (ink, paper) in [(0, 255), (255, 0), (100, 140)] {
                let level = |x, y| Luma([if (x + 2 * y) % step == 0 { ink } else { paper }]);
                let _ = prepare(&GrayImage::from_fn(width, height, level));
            }
        }
    }
    assert_eq!(prepare(&GrayImage::new(0, 0)), Err(PictureError::Blank));
    let mut dot = even(64, 64, 255);
    dot.put_pixel(60, 2, Luma([0]));
    assert_eq!(prepare(&dot).unwrap()[14 * IMAGE_SIDE + 14], 255);
}

#[test]
fn as_is_takes_28x28_and_nothing_else() {
    let digit = &digits()[0];
    assert_eq!(as_is(&PLAIN.draw(digit)).unwrap()[..], digit[..]);
    let error = as_is(&even(28, 29, 0)).unwrap_err();
    assert_eq!(error.to_string(), "a picture of 28x29 pixels, expected 28x28");
}

#[test]
fn an_image_survives_its_way_through_png() {
    let limits = PictureLimits { width_max: 28, height_max: 28, alloc_bytes_max: 4 << 20 };
    for digit in digits() {
        let picture = decode(&to_png(&digit), &limits).unwrap();
        assert_eq!(as_is(&picture).unwrap()[..], digit[..]);
    }
}
