//! Hand-made histories. Each kind of violation is found, and a good history has none.

use super::*;

/// A history of two jobs of model `m`, posted one after the other, that both succeeded.
fn good() -> (History, Seen, Rules) {
    let history = History::new();
    let mut seen = Seen::default();
    for (at, id) in ["one", "two"].into_iter().enumerate() {
        let key = format!("key-{id}");
        let asked = history.now();
        history.unanswered(asked, What::Posted { key: key.clone(), spec: "s".to_owned(), id: None });
        let asked = history.now();
        let posted = What::Posted { key: key.clone(), spec: "s".to_owned(), id: Some(id.to_owned()) };
        history.told(asked, posted);
        let version = at as u64 + 1;
        seen.jobs.push(JobSeen {
            id: id.to_owned(),
            state: "succeeded".to_owned(),
            model: "m".to_owned(),
            attempt: 1,
            version: Some(version),
            error: None,
            epoch: 2,
        });
        seen.epochs.insert(id.to_owned(), vec![1, 2]);
        seen.versions.push(VersionSeen {
            model: "m".to_owned(),
            version,
            job_id: id.to_owned(),
            sha256: "right".to_owned(),
            answer: Ok(format!("answer {version}")),
            files: vec!["right".to_owned()],
        });
        seen.keys.insert(key, Ok(id.to_owned()));
    }
    let rules = Rules { weights: HashMap::from([("s".to_owned(), "right".to_owned())]), ..Rules::default() };
    (history, seen, rules)
}

fn laws(history: &History, seen: &Seen, rules: &Rules) -> Vec<Law> {
    let mut laws: Vec<Law> = check(history, seen, rules).iter().map(|violation| violation.law).collect();
    laws.dedup();
    laws
}

/// Returns the laws that are violated after `spoil` has changed the good history.
fn broken(spoil: impl FnOnce(&History, &mut Seen, &mut Rules)) -> Vec<Law> {
    let (history, mut seen, mut rules) = good();
    spoil(&history, &mut seen, &mut rules);
    laws(&history, &seen, &rules)
}

fn state(id: &str, state: &str, version: Option<u64>) -> What {
    What::State { id: id.to_owned(), state: state.to_owned(), version }
}

fn tell(history: &History, what: What) {
    history.told(history.now(), what);
}

#[test]
fn a_good_history_breaks_nothing() {
    let none = broken(|history, _, _| {
        tell(history, state("one", "queued", None));
        tell(history, state("one", "running", None));
        // The job went back to the queue when its server died.
        tell(history, state("one", "queued", None));
        tell(history, state("one", "succeeded", Some(1)));
        tell(history, What::Predicted { model: "m".to_owned(), version: 1, answer: "answer 1".to_owned() });
    });
    assert_eq!(none, []);
}

#[test]
fn a_lost_job_is_found() {
    let lose = |seen: &mut Seen| {
        drop(seen.jobs.pop());
        seen.versions.pop();
        seen.keys.remove("key-two");
    };
    assert_eq!(broken(|_, seen, _| lose(seen)), [Law::Lost]);
    let told = broken(|history, _, _| tell(history, What::Missing { id: "one".to_owned() }));
    assert_eq!(told, [Law::Lost], "404 in between");
    let deleted = |history: &History| tell(history, What::Deleted { id: "two".to_owned() });
    let gone = broken(|history, seen, _| {
        deleted(history);
        lose(seen);
    });
    assert_eq!(gone, [], "a deleted job is gone rightly");
    assert_eq!(broken(|history, _, _| deleted(history)), [Law::Changed], "it may not come back");
    let kept = |keep| {
        broken(|_, seen, rules| {
            rules.keep_jobs = Some(keep);
            lose(seen);
        })
    };
    assert_eq!(kept(1), [], "retention removed it");
    assert_eq!(kept(2), [Law::Lost], "retention should have kept it");
}

#[test]
fn a_lost_version_is_found() {
    let lose = |seen: &mut Seen| drop(seen.versions.remove(0));
    assert_eq!(broken(|_, seen, _| lose(seen)), [Law::Lost]);
    let deleted = broken(|history, seen, _| {
        tell(history, What::VersionDeleted { model: "m".to_owned(), version: 1 });
        lose(seen);
    });
    assert_eq!(deleted, []);
    let retained = broken(|_, seen, rules| {
        rules.keep_versions = Some(1);
        lose(seen);
    });
    assert_eq!(retained, [], "retention removed the older one");
    let newest = broken(|_, seen, rules| {
        rules.keep_versions = Some(1);
        drop(seen.versions.pop());
    });
    assert_eq!(newest, [Law::Lost], "retention keeps the newest");
}

#[test]
fn duplicates_are_found() {
    let version = broken(|_, seen, _| {
        let mut double = seen.versions[0].clone();
        (double.version, double.answer) = (3, Ok(String::new()));
        seen.versions.push(double);
    });
    assert!(version.contains(&Law::Doubled), "a job with two versions: {version:?}");
    let number = broken(|_, seen, _| seen.versions.push(seen.versions[1].clone()));
    assert_eq!(number, [Law::Doubled], "a number given twice");
    let job = |seen: &mut Seen| {
        let mut double = seen.jobs[0].clone();
        (double.id, double.state, double.version) = ("other".to_owned(), "cancelled".to_owned(), None);
        seen.jobs.push(double);
    };
    assert_eq!(broken(|_, seen, _| job(seen)), [Law::Doubled], "a job nobody was told of");
    let unanswered = broken(|history, seen, _| {
        let posted = What::Posted { key: "lost".to_owned(), spec: "s".to_owned(), id: None };
        history.unanswered(history.now(), posted);
        job(seen);
    });
    assert_eq!(unanswered, [], "it may be that of a request without an answer");
}

#[test]
fn a_change_of_a_final_state_is_found() {
    let other = |what: What| broken(|history, _, _| tell(history, what));
    assert_eq!(other(state("one", "cancelled", None)), [Law::Changed]);
    assert_eq!(other(state("one", "succeeded", Some(7))), [Law::Changed], "another version");
    assert_eq!(other(What::Cancelled { id: "one".to_owned() }), [Law::Changed], "a cancellation undone");
    let back = broken(|history, _, _| {
        tell(history, state("one", "succeeded", Some(1)));
        tell(history, state("one", "running", None));
        tell(history, state("one", "succeeded", Some(1)));
    });
    assert_eq!(back, [Law::Changed], "it ran again");
    let resumed = broken(|history, _, _| {
        tell(history, What::Cancelled { id: "one".to_owned() });
        tell(history, What::Resumed { id: "one".to_owned() });
    });
    assert_eq!(resumed, [], "resumed");
    let before = broken(|history, _, _| {
        tell(history, What::Resumed { id: "one".to_owned() });
        tell(history, What::Cancelled { id: "one".to_owned() });
    });
    assert_eq!(before, [Law::Changed], "the resumption was before");
    let at_once = broken(|history, _, _| {
        let (early, late) = (history.now(), history.now());
        history.told(late, state("one", "succeeded", Some(1)));
        history.told(early, state("one", "running", None));
    });
    assert_eq!(at_once, [], "asked before the end was told");
    let version = broken(|_, seen, _| (seen.jobs[0].state, seen.jobs[0].version) = ("failed".into(), None));
    assert!(version.contains(&Law::Changed), "a failed job with a version: {version:?}");
}

#[test]
fn an_end_that_is_not_final_is_found() {
    let end = |state: &str, error: Option<&str>| {
        broken(|_, seen, rules| {
            rules.may_fail.push("panicked".to_owned());
            seen.versions.pop();
            seen.jobs[1].state = state.to_owned();
            seen.jobs[1].version = None;
            seen.jobs[1].error = error.map(str::to_owned);
        })
    };
    assert_eq!(end("running", None), [Law::Unended]);
    assert_eq!(end("failed", Some("crash_loop")), [Law::Unended]);
    assert_eq!(end("failed", Some("panicked")), []);
    assert_eq!(end("cancelled", None), []);
}

#[test]
fn other_weights_are_found() {
    let both = broken(|_, seen, _| {
        seen.versions[1].sha256 = "other".to_owned();
        seen.versions[1].files = vec!["other".to_owned()];
    });
    assert_eq!(both, [Law::Weights]);
    assert_eq!(broken(|_, seen, _| seen.versions[1].files[0] = "other".to_owned()), [Law::Serving]);
    assert_eq!(broken(|_, seen, _| seen.versions[1].files.clear()), [Law::Serving]);
    assert_eq!(broken(|_, seen, _| seen.versions[1].files.push("right".to_owned())), [Law::Files]);
    assert_eq!(broken(|_, seen, _| seen.versions[1].answer = Err("500".to_owned())), [Law::Serving]);
    let other = What::Predicted { model: "m".to_owned(), version: 2, answer: "otherwise".to_owned() };
    assert_eq!(broken(|history, _, _| tell(history, other)), [Law::Changed]);
    assert_eq!(broken(|_, seen, _| seen.stray_files.push("a#1".to_owned())), [Law::Files]);
}

#[test]
fn metrics_with_a_gap_are_found() {
    let metrics =
        |epochs: &[u64]| broken(|_, seen, _| drop(seen.epochs.insert("one".to_owned(), epochs.to_vec())));
    for epochs in [&[2][..], &[1], &[1, 2, 2], &[1, 2, 3]] {
        assert_eq!(metrics(epochs), [Law::Metrics], "{epochs:?}");
    }
}

#[test]
fn versions_out_of_order_are_found() {
    let swap = |seen: &mut Seen| {
        for (at, version) in [(0, 2), (1, 1)] {
            seen.jobs[at].version = Some(version);
            (seen.versions[at].version, seen.versions[at].answer) = (version, Ok(String::new()));
        }
    };
    assert_eq!(broken(|_, seen, _| swap(seen)), [Law::Order]);
    let resumed = broken(|history, seen, _| {
        swap(seen);
        tell(history, What::Resumed { id: "one".to_owned() });
    });
    assert_eq!(resumed, [], "a resumed job goes to the end");
}

#[test]
fn another_job_for_a_key_is_found() {
    let later = broken(|_, seen, _| drop(seen.keys.insert("key-one".to_owned(), Ok("two".to_owned()))));
    assert_eq!(later, [Law::Key]);
    let refused = broken(|_, seen, _| drop(seen.keys.insert("key-one".to_owned(), Err("500".to_owned()))));
    assert_eq!(refused, [Law::Key]);
    let then = broken(|history, _, _| {
        let id = Some("two".to_owned());
        tell(history, What::Posted { key: "key-one".to_owned(), spec: "s".to_owned(), id });
    });
    assert!(then.contains(&Law::Key), "{then:?}");
}

#[test]
fn an_outdated_alias_is_found() {
    let set = |version| What::Alias { model: "m".to_owned(), alias: "best".to_owned(), version };
    let alias = |first: Option<u64>, found: Option<u64>, lost: Option<u64>| {
        broken(|history, seen, _| {
            tell(history, set(first));
            tell(history, set(Some(2)));
            if lost.is_some() {
                history.unanswered(history.now(), set(lost));
            }
            let name = ("m".to_owned(), "best".to_owned());
            seen.aliases.extend(found.map(|version| (name, version)));
        })
    };
    assert_eq!(alias(Some(1), Some(2), None), []);
    assert_eq!(alias(Some(1), Some(1), None), [Law::Alias]);
    assert_eq!(alias(Some(1), None, None), [Law::Alias]);
    assert_eq!(alias(None, Some(1), Some(1)), [], "the unanswered one may have been carried out");
    assert_eq!(alias(None, Some(2), Some(1)), [], "or not");
}
