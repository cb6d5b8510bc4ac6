//! Pictures that are small to send and large to decode.

use crate::attack::{Attack, Kind, Scene, hammer, hammer_from};
use crate::bombs;
use crate::wire::request;

/// The most pictures that a form may contain.
const PICTURES: usize = 64;

pub fn attacks() -> Vec<Attack> {
    vec![
        Attack {
            name: "png-profile-100k",
            what: "eight clients send a PNG whose colour profile of 100 kB inflates to 100 MB",
            defence: "chunks that are not pixels are skipped without inflating them",
            kind: Kind::Memory,
            scene: Scene::Models,
            expected: &[200, 422, 503],
            seconds_min: 0,
            run: |target| Box::pin(hammer(target, 8, vec![picture("png", &profiled(100))])),
        },
        Attack {
            name: "png-profile-1m",
            what: "eight clients send a PNG whose colour profile of 1 MB inflates to 1 GB",
            defence: "the same",
            kind: Kind::Memory,
            scene: Scene::Models,
            expected: &[200, 422, 503],
            seconds_min: 0,
            run: |target| Box::pin(hammer(target, 8, vec![picture("png", &profiled(1_000))])),
        },
        Attack {
            name: "jpeg-scans",
            what: "four clients send a JPEG of 260 kB with 8192 × 8192 pixels and 1,000 scans",
            defence: "scans count against the limits of pixels and time before they are decoded",
            kind: Kind::Starvation,
            scene: Scene::Models,
            expected: &[200, 422, 503],
            seconds_min: 0,
            run: |target| Box::pin(hammer(target, 4, vec![picture("jpeg", &bombs::jpeg(8_192, 1_000))])),
        },
        Attack {
            name: "png-large",
            what: "64 connections from four addresses send a PNG of 6 MB, whose pixels are noise",
            defence: "long bodies take turns, and have a limited share of the memory",
            kind: Kind::Starvation,
            scene: Scene::Models,
            expected: &[200, 422, 503],
            seconds_min: 0,
            run: |target| Box::pin(hammer_from(target, 64, 4, vec![picture("png", &bombs::noise(2_400))])),
        },
        Attack {
            name: "batches-large",
            what: "64 connections from four addresses send 9,000 images, 7 MB",
            defence: "the same; batches are parsed in their lane",
            kind: Kind::Starvation,
            scene: Scene::Models,
            expected: &[200, 503],
            seconds_min: 0,
            run: |target| {
                let headers = [("Content-Type", "application/octet-stream")];
                let message = request("POST", "/v1/models/digits/predict", &headers, &vec![9; 9_000 * 784]);
                Box::pin(hammer_from(target, 64, 4, vec![message]))
            },
        },
        Attack {
            name: "forms-large",
            what: "eight clients send forms of 64 PNG of 8192 × 8192 pixels, 65 kB each",
            defence: "all pictures of a form share one limit of bytes, pixels and time, and have their own lane",
            kind: Kind::Starvation,
            scene: Scene::Models,
            expected: &[200, 413, 422, 503],
            seconds_min: 0,
            run: |target| Box::pin(hammer(target, 8, vec![form(&bombs::png(8_192, &[]))])),
        },
        Attack {
            name: "forms",
            what: "16 clients send forms of 64 PNG of 1024 × 1024 pixels",
            defence: "the lane of pictures",
            kind: Kind::Starvation,
            scene: Scene::Models,
            expected: &[200, 413, 422, 503],
            seconds_min: 0,
            run: |target| Box::pin(hammer(target, 16, vec![form(&bombs::png(1_024, &[]))])),
        },
    ]
}

fn profiled(megabytes: u64) -> Vec<u8> {
    bombs::png(64, &[bombs::colour_profile(megabytes * 1_000_000)])
}

fn picture(kind: &str, bytes: &[u8]) -> Vec<u8> {
    let media_type = format!("image/{kind}");
    request("POST", "/v1/models/digits/predict", &[("Content-Type", &media_type)], bytes)
}

/// Returns a form with the largest number of the same picture.
fn form(picture: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for _ in 0..PICTURES {
        body.extend_from_slice(
            b"--boundary\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.png\"\r\n\
              Content-Type: image/png\r\n\r\n",
        );
        body.extend_from_slice(picture);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--boundary--\r\n");
    let headers = [("Content-Type", "multipart/form-data; boundary=boundary")];
    request("POST", "/v1/models/digits/predict", &headers, &body)
}
